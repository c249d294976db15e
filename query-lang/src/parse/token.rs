//! Script to tokens: words, quoted names, texts, literals (whatever starts with a digit), symbols.
//!
//! Invariant: the list ends with one [`Kind::End`] whose span is just after the last token, so that
//! "something is missing" points at the line where it is missing.
//! Not here: what a literal means (see `literal`). A character that is nothing becomes a
//! [`Kind::Stranger`], which no parser accepts and which is so reported with what was expected.

use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::{tag, take, take_while, take_while1};
use nom::character::complete::{char, digit1, multispace1, not_line_ending, one_of, satisfy};
use nom::combinator::{opt, recognize, verify};
use nom::error::Error;
use nom::multi::many0_count;
use nom::sequence::{pair, preceded};

use crate::ast::Span;
use crate::error::ErrorKind;
use crate::error::Problem;
use crate::error::{did_you_mean, list_names};
use crate::params::{Bound, BoundToken};
use crate::time;

#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub kind: Kind,
    /// As written.
    pub text: &'a str,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Word,
    /// A name in backticks, unescaped.
    Quoted(String),
    /// A text in quotes, unescaped.
    Text(String),
    /// A number, a duration or a time.
    Literal,
    Symbol,
    Stranger,
    End,
}

/// Each `$name` becomes the tokens of the value that is bound to it, all with its place.
pub(super) fn tokens<'a>(script: &'a str, bound: &'a Bound) -> Result<Vec<Token<'a>>, Problem> {
    let mut tokens = Vec::new();
    let mut end = 0;
    loop {
        let rest = after(blank, &script[end..]);
        let start = script.len() - rest.len();
        let Some(first) = rest.chars().next() else { break };
        if let Some((name, length)) = parameter(rest) {
            end = start + length;
            let (text, span) = (&script[start..end], Span { start, end });
            let values = bound.get(name).ok_or_else(|| unbound(text, span, bound))?;
            tokens.extend(values.iter().map(|value| bound_token(value, text, span)));
            continue;
        }
        let (kind, length) = match first {
            '`' | '"' | '\'' => {
                let (value, length) = quoted(rest, first, start)?;
                (if first == '`' { Kind::Quoted(value) } else { Kind::Text(value) }, length)
            }
            _ => bare(rest, first),
        };
        end = start + length;
        tokens.push(Token { kind, text: &script[start..end], span: Span { start, end } });
    }
    tokens.push(Token { kind: Kind::End, text: "", span: Span { start: end, end } });
    Ok(tokens)
}

fn bound_token<'a>(value: &'a BoundToken, written: &'a str, span: Span) -> Token<'a> {
    let (kind, text) = match value {
        BoundToken::Text(text) => (Kind::Text(text.clone()), written),
        BoundToken::Literal(text) => (Kind::Literal, text.as_str()),
        BoundToken::Word(text) => (Kind::Word, *text),
        BoundToken::Symbol(text) => (Kind::Symbol, *text),
    };
    Token { kind, text, span }
}

fn unbound(written: &str, span: Span, bound: &Bound) -> Problem {
    let given = match bound.names().collect::<Vec<_>>() {
        names if names.is_empty() => "the request gives no parameters".to_owned(),
        names => format!("the request gives {}", list_names(names)),
    };
    let meant = did_you_mean(&written[1..], bound.names());
    Problem::new(ErrorKind::Syntax, span, format!("{written} has no value")).hint(given).hint_if(meant)
}

/// Whether a name needs no backticks.
pub(crate) fn is_bare_name(name: &str) -> bool {
    word(name).is_ok_and(|(rest, _)| rest.is_empty())
}

type Read<'a> = nom::IResult<&'a str, &'a str, Error<&'a str>>;

fn after<'a>(parser: fn(&'a str) -> Read<'a>, input: &'a str) -> &'a str {
    parser(input).map_or(input, |(rest, _)| rest)
}

fn bare(input: &str, first: char) -> (Kind, usize) {
    let length = |rest: &str| input.len() - rest.len();
    if let Ok((rest, _)) = word(input) {
        (Kind::Word, length(rest))
    } else if let Ok((rest, _)) = literal(input) {
        (Kind::Literal, length(rest))
    } else if let Ok((rest, _)) = symbol(input) {
        (Kind::Symbol, length(rest))
    } else {
        (Kind::Stranger, first.len_utf8())
    }
}

// blank = { space | "#" any-but-line-end } ;
fn blank(input: &str) -> Read<'_> {
    recognize(many0_count(alt((multispace1, recognize(preceded(char('#'), not_line_ending)))))).parse(input)
}

// parameter = "$" bare ;
/// The name, and the length as written.
fn parameter(input: &str) -> Option<(&str, usize)> {
    let (_, name) = word(input.strip_prefix('$')?).ok()?;
    Some((name, 1 + name.len()))
}

// bare = letter-or-underscore { letter | digit | "_" | ":" } ;
fn word(input: &str) -> Read<'_> {
    let start = satisfy(|c| c.is_alphabetic() || c == '_');
    recognize(pair(start, take_while(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))).parse(input)
}

/// Takes what a person would read as one literal, also if it is wrong, so that the error shows all of it.
fn literal(input: &str) -> Read<'_> {
    let alphanumeric = |input| take_while1(|c: char| c.is_alphanumeric() || c == '.').parse(input);
    let mantissa = take_while1(|c: char| c.is_ascii_digit() || c == '.');
    let power = recognize((mantissa, one_of("eE"), one_of("+-"), digit1));
    alt((recognize(pair(date, opt(clock))), power, alphanumeric)).parse(input).and_then(|found| {
        if input.starts_with(|c: char| c.is_ascii_digit()) { Ok(found) } else { nothing(input) }
    })
}

fn date(input: &str) -> Read<'_> {
    verify(take(10usize), time::looks_like_date).parse(input)
}

// clock = HH:MM [ ":" SS [ "." fraction ] ] ;  zone = "Z" | ( "+" | "-" ) HH:MM ;
fn clock(input: &str) -> Read<'_> {
    let digits = |input| take_while1(|c: char| c.is_ascii_digit() || c == ':' || c == '.').parse(input);
    let zone = alt((recognize(one_of("Zz")), recognize(pair(one_of("+-"), digits))));
    recognize((one_of("Tt "), digit1, char(':'), digits, opt(zone))).parse(input)
}

/// Longer ones first. Some are no symbols of the language, but of others: read whole, they make better errors.
fn symbol(input: &str) -> Read<'_> {
    let pairs = alt((tag("!="), tag("=~"), tag("!~"), tag("=="), tag("<="), tag(">="), tag("<>"), tag("&&")));
    alt((pairs, recognize(one_of("|{}(),;=<>+-*/%!")))).parse(input)
}

fn nothing(input: &str) -> Read<'_> {
    Err(nom::Err::Error(Error::new(input, nom::error::ErrorKind::Digit)))
}

/// The unescaped value and the length as written, quotes included.
fn quoted(input: &str, quote: char, start: usize) -> Result<(String, usize), Problem> {
    let mut value = String::new();
    let mut chars = input.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Ok((value, at + 1));
        }
        if c != '\\' {
            value.push(c);
            continue;
        }
        let Some((_, escape)) = chars.next() else { break };
        let unescaped = match escape {
            '\\' | '"' | '\'' | '`' => Some(escape),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'u' => {
                // The closing brace is consumed by take_while.
                let digits: String = chars.by_ref().map(|(_, c)| c).take_while(|c| *c != '}').collect();
                let code = digits.strip_prefix('{').and_then(|hex| u32::from_str_radix(hex, 16).ok());
                code.and_then(char::from_u32)
            }
            _ => None,
        };
        let Some(unescaped) = unescaped else {
            let span = Span { start: start + at, end: start + at + 1 + escape.len_utf8() };
            let message = format!("`\\{escape}` is not an escape");
            let hint = if escape == 'u' {
                "a character by its code is written \\u{20AC}".to_owned()
            } else {
                format!("for a backslash and `{escape}` write \\\\{escape}")
            };
            return Err(Problem::new(ErrorKind::Syntax, span, message).hint(hint));
        };
        value.push(unescaped);
    }
    let span = Span { start, end: start + 1 };
    let message = format!("this {quote} is never closed");
    Err(Problem::new(ErrorKind::Syntax, span, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Params;

    fn texts(script: &str) -> Vec<&str> {
        tokens(script, &Bound::new(&Params::new()))
            .unwrap()
            .iter()
            .map(|token| script.get(token.span.start..token.span.end).unwrap())
            .collect()
    }

    #[test]
    fn scripts_are_cut() {
        assert_eq!(texts("a|b {c!=\"d\"} # e\n;"), ["a", "|", "b", "{", "c", "!=", "\"d\"", "}", ";", ""]);
        assert_eq!(texts("1e-3 1.5E+2 2e3-1"), ["1e-3", "1.5E+2", "2e3", "-", "1", ""]);
        assert_eq!(texts("now-1h30m 1µs"), ["now", "-", "1h30m", "1µs", ""]);
        assert_eq!(texts("2026-01-01 and 2026-01-01 10:00"), ["2026-01-01", "and", "2026-01-01 10:00", ""]);
        assert_eq!(texts("2026-01-01T10:00:00.5+02:00,"), ["2026-01-01T10:00:00.5+02:00", ",", ""]);
        assert_eq!(texts("job:rate5m é_1 §"), ["job:rate5m", "é_1", "§", ""]);
    }

    #[test]
    fn quotes_are_unescaped() {
        let bound = Bound::new(&Params::new());
        let tokens = tokens(r#"`a\`b` "c\"\u{41}\n" 'd"'"#, &bound).unwrap();
        assert_eq!(tokens[0].kind, Kind::Quoted("a`b".to_owned()));
        assert_eq!(tokens[1].kind, Kind::Text("c\"A\n".to_owned()));
        assert_eq!(tokens[2].kind, Kind::Text("d\"".to_owned()));
    }

    #[test]
    fn the_end_is_just_after_the_last_token() {
        let bound = Bound::new(&Params::new());
        let tokens = tokens("cpu |  # more\n\n", &bound).unwrap();
        assert_eq!(tokens[2].kind, Kind::End);
        assert_eq!(tokens[2].span.start, 5);
    }
}
