//! Text to tokens.
//!
//! Invariant: tokens stand in the order of the text, without spaces and comments, and the last one is the end of input. What a word
//! means (operator, aggregation, name) the parser decides by where it stands.

use crate::promql::ast::Span;
use crate::promql::parse::SyntaxError;

#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub kind: Kind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A name, a keyword or an operator in letters, as written.
    Word(String),
    Number(f64),
    /// Milliseconds.
    Duration(i64),
    /// Without quotes and escapes.
    Text(Vec<u8>),
    /// Operators in signs, and punctuation.
    Sign(&'static str),
    End,
}

/// The longer before those that they begin with.
const SIGNS: [&str; 27] = [
    "</", ">/", "==", "=~", "!=", "!~", ">=", "<=", "=", ">", "<", "+", "-", "*", "/", "%", "^", "@", "(",
    ")", "{", "}", "[", "]", ",", ":", ";",
];

/// Longest first where one begins with the other.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

pub fn tokens(query: &str) -> Result<Vec<Token>, SyntaxError> {
    let mut lexer = Lexer { query, at: 0, open: Vec::new() };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next()?;
        let ended = token.kind == Kind::End;
        tokens.push(token);
        if ended {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    query: &'a str,
    at: usize,
    /// Brackets that are open.
    open: Vec<&'static str>,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.query[self.at..]
    }

    fn error(&self, start: usize, what: impl Into<String>) -> SyntaxError {
        SyntaxError::new(Span { start, end: self.query.len() }, what)
    }

    fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let spaces = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
            self.at += spaces;
            if !self.rest().starts_with('#') {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn next(&mut self) -> Result<Token, SyntaxError> {
        self.skip();
        let start = self.at;
        let Some(first) = self.rest().chars().next() else { return self.end() };
        let in_braces = self.open.last() == Some(&"{");
        let kind = match first {
            '"' | '\'' | '`' => self.text(first)?,
            '0'..='9' if !in_braces => self.number_or_duration()?,
            '.' if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number_or_duration()?,
            first if first.is_ascii_alphabetic() || first == '_' => self.word(in_braces),
            ':' if !in_braces && self.open.last() != Some(&"[") => self.word(in_braces),
            _ => self.sign(first, in_braces)?,
        };
        Ok(Token { kind, span: Span { start, end: self.at } })
    }

    fn end(&self) -> Result<Token, SyntaxError> {
        let at = self.at;
        match self.open.last() {
            Some(&"{") => Err(self.error(at, "unexpected end of input inside braces")),
            Some(&"[") => Err(self.error(at, "unexpected end of input in duration expression")),
            Some(_) => Err(self.error(at, "unclosed left parenthesis")),
            None => Ok(Token { kind: Kind::End, span: Span { start: self.at, end: self.at + 1 } }),
        }
    }

    fn word(&mut self, in_braces: bool) -> Kind {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || (c == ':' && !in_braces);
        let end = self.rest().find(|c| !is_part(c)).unwrap_or(self.rest().len());
        let word = self.rest()[..end].to_string();
        self.at += end;
        if !in_braces {
            match word.to_ascii_lowercase().as_str() {
                "inf" => return Kind::Number(f64::INFINITY),
                "nan" => return Kind::Number(f64::NAN),
                _ => {}
            }
        }
        Kind::Word(word)
    }

    fn sign(&mut self, first: char, in_braces: bool) -> Result<Kind, SyntaxError> {
        let start = self.at;
        let place = if in_braces { " inside braces" } else { "" };
        let unexpected = |what: &str| format!("unexpected character{place}: {what}");
        let Some(sign) = SIGNS.into_iter().find(|sign| self.rest().starts_with(sign)) else {
            if first == '!' {
                let after = self.rest()[1..].chars().next();
                let what = format!("unexpected character after '!'{place}: {:?}", after.unwrap_or('\0'));
                return Err(self.error(start, what));
            }
            return Err(self.error(start, unexpected(&format!("{first:?}"))));
        };
        let allowed_in_braces = ["=", "!=", "=~", "!~", ",", "{", "}"].contains(&sign);
        if (in_braces && !allowed_in_braces) || (!in_braces && ["=~", "!~", ";"].contains(&sign)) {
            return Err(self.error(start, unexpected(&format!("{first:?}"))));
        }
        self.at += sign.len();
        match sign {
            "(" | "{" | "[" if in_braces => return Err(self.error(start, unexpected(&format!("{first:?}")))),
            "(" | "{" | "[" => self.open.push(sign),
            ")" | "}" | "]" => {
                let opened = match sign {
                    ")" => "(",
                    "}" => "{",
                    _ => "[",
                };
                if self.open.pop() != Some(opened) {
                    let name = match sign {
                        ")" => "parenthesis",
                        "}" => "brace",
                        _ => "bracket",
                    };
                    return Err(self.error(start, format!("unexpected right {name} {first:?}")));
                }
            }
            _ => {}
        }
        Ok(Kind::Sign(sign))
    }

    fn number_or_duration(&mut self) -> Result<Kind, SyntaxError> {
        let start = self.at;
        let is_hex = self.rest().starts_with("0x") || self.rest().starts_with("0X");
        let bytes = self.rest().as_bytes();
        let mut end = 0;
        while end < bytes.len() {
            let after_exponent = end > 0 && !is_hex && matches!(bytes[end - 1], b'e' | b'E');
            match bytes[end] {
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'.' => end += 1,
                b'+' | b'-'
                    if after_exponent && bytes[..end - 1].iter().all(|b| !b.is_ascii_alphabetic()) =>
                {
                    end += 1;
                }
                _ => break,
            }
        }
        let text = self.rest()[..end].to_string();
        self.at += end;
        if let Some(number) = number(&text) {
            return Ok(Kind::Number(number));
        }
        match duration(&text) {
            Some(milliseconds) => Ok(Kind::Duration(milliseconds)),
            None => Err(self.error(start, format!("bad number or duration syntax: {text:?}"))),
        }
    }

    fn text(&mut self, quote: char) -> Result<Kind, SyntaxError> {
        let start = self.at;
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let Some(next) = self.rest().chars().next() else {
                let what =
                    if quote == '`' { "unterminated raw string" } else { "unterminated quoted string" };
                return Err(self.error(start, what));
            };
            self.at += next.len_utf8();
            match next {
                next if next == quote => return Ok(Kind::Text(out)),
                '\n' if quote != '`' => return Err(self.error(start, "unterminated quoted string")),
                '\\' if quote != '`' => self.escape(quote, &mut out)?,
                next => out.extend_from_slice(next.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    fn escape(&mut self, quote: char, out: &mut Vec<u8>) -> Result<(), SyntaxError> {
        let start = self.at;
        let Some(kind) = self.rest().chars().next() else {
            return Err(self.error(start, "escape sequence not terminated"));
        };
        self.at += kind.len_utf8();
        let simple = match kind {
            'a' => Some(7),
            'b' => Some(8),
            'f' => Some(12),
            'n' => Some(b'\n'),
            'r' => Some(b'\r'),
            't' => Some(b'\t'),
            'v' => Some(11),
            '\\' => Some(b'\\'),
            kind if kind == quote => Some(quote as u8),
            _ => None,
        };
        if let Some(byte) = simple {
            out.push(byte);
            return Ok(());
        }
        let (digits, radix) = match kind {
            '0'..='7' => (3, 8),
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            other => return Err(self.error(start, format!("unknown escape sequence {other:?}"))),
        };
        let from = if radix == 8 { start } else { self.at };
        let text = self.query.get(from..from + digits);
        let value = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let Some(value) = value.and_then(|text| u32::from_str_radix(text, radix).ok()) else {
            return Err(self.error(start, "illegal character in escape sequence"));
        };
        self.at = from + digits;
        match kind {
            'u' | 'U' => {
                let Some(c) = char::from_u32(value) else {
                    return Err(self.error(start, "escape sequence is an invalid Unicode code point"));
                };
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => match u8::try_from(value) {
                Ok(byte) => out.push(byte),
                Err(_) => return Err(self.error(start, "escape sequence is an invalid Unicode code point")),
            },
        }
        Ok(())
    }
}

/// As Go reads it with base 0: 0x1f, 017 and 0b1 are integers, 1_000 is a thousand.
pub fn number(text: &str) -> Option<f64> {
    let separated = text.split('_').all(|part| !part.is_empty());
    if !separated || !text.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let digits = text.replace('_', "");
    let (radix, rest) = match digits.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0x") => (16, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()) => {
            (8, &digits[1..])
        }
        _ => (10, digits.as_str()),
    };
    if radix != 10 {
        if let Ok(value) = i64::from_str_radix(rest, radix) {
            return Some(value as f64);
        }
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
    }
    let plain = |byte: u8| byte.is_ascii_digit() || b".eE+-".contains(&byte);
    digits.bytes().all(plain).then(|| digits.parse().ok())?
}

/// `1h30m`: units from large to small, each at most once. Milliseconds.
pub fn duration(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut milliseconds: i64 = 0;
    let mut units = UNITS.as_slice();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let value: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let name = &rest[..rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len())];
        let unit = units.iter().position(|(unit, _)| *unit == name)?;
        milliseconds = milliseconds.checked_add(value.checked_mul(units[unit].1)?)?;
        units = &units[unit + 1..];
        rest = &rest[name.len()..];
    }
    // Prometheus holds durations in nanoseconds.
    (!text.is_empty() && milliseconds <= i64::MAX / 1_000_000).then_some(milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        let cases = [
            ("1", 1.0),
            ("0x1F", 31.0),
            ("017", 15.0),
            ("08", 8.0),
            ("0b11", 3.0),
            ("1_000", 1000.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1.5e-2", 0.015),
        ];
        for (text, value) in cases {
            assert_eq!(number(text), Some(value), "{text}");
        }
        for wrong in ["", "1__0", "_1", "0xg", "1e", "1h", "1.2.3"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_go_from_large_to_small() {
        let cases =
            [("5m", Some(300_000)), ("1h30m", Some(5_400_000)), ("1y2w3d4h5m6s7ms", Some(33_019_506_007))];
        for (text, milliseconds) in cases {
            assert_eq!(duration(text), milliseconds, "{text}");
        }
        for wrong in ["", "5", "5m1h", "5m5m", "1x", "1.5m", "9999999999y"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn escapes_may_write_any_byte() {
        let text = |query: &str| {
            tokens(query).map(|tokens| tokens[0].kind.clone()).map_err(|error| error.to_string())
        };
        assert_eq!(text(r#""a\n\x41\u00e9\101""#).unwrap(), Kind::Text("a\nAéA".into()));
        assert_eq!(text(r#""\xff""#).unwrap(), Kind::Text(vec![0xff]));
        assert_eq!(text(r"`\n`").unwrap(), Kind::Text(b"\\n".to_vec()));
        assert!(text(r#""\q""#).is_err() && text("'abc").is_err());
    }
}
