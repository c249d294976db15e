//! As much of a text of WQL as can be known without its grammar: what is code, what is quoted, what is a comment. Only the server parses.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    Code,
    /// A text or a name, with its quotes.
    Quoted,
    Comment,
}

/// The whole text, piece by piece.
pub fn pieces(text: &str) -> Vec<(Piece, &str)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (piece, length) = match first {
            '#' => (Piece::Comment, rest.find('\n').unwrap_or(rest.len())),
            '"' | '\'' | '`' => (Piece::Quoted, quoted(rest, first)),
            _ => (Piece::Code, rest.find(['#', '"', '\'', '`']).unwrap_or(rest.len())),
        };
        found.push((piece, &rest[..length]));
        rest = &rest[length..];
    }
    found
}

fn quoted(text: &str, quote: char) -> usize {
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        if character == quote {
            return at + 1;
        }
        if character == '\\' {
            characters.next();
        }
    }
    text.len()
}

/// Of the last statement, which is the one that answers.
pub struct Statement(String);

impl Statement {
    pub fn last(script: &str) -> Statement {
        let mut bare = String::new();
        for (piece, text) in pieces(script) {
            match piece {
                Piece::Code => bare.push_str(text),
                // A name in backticks is one.
                Piece::Quoted if text.starts_with('`') => {
                    bare.push_str(&text.trim_matches('`').replace(['|', ';', '{'], "_"))
                }
                Piece::Quoted => bare.push_str("\"\""),
                Piece::Comment => {}
            }
        }
        let last = bare.split(';').rfind(|statement| !statement.trim().is_empty());
        Statement(last.unwrap_or_default().trim().to_string())
    }

    /// Whether its rows stand at the starts of windows, so that a missing row is a gap.
    pub fn has_window(&self) -> bool {
        self.0.split('|').skip(1).any(|stage| stage.split_whitespace().next() == Some("every"))
    }

    pub fn has_word(&self, word: &str) -> bool {
        self.0.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
    }

    /// The table, rollup or metric that it begins with.
    pub fn source(&self) -> &str {
        self.0.split(|c: char| c.is_whitespace() || "{|".contains(c)).next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_whole_text() {
        let text = "cpu{a=\"x;#\\\"\"} # it's\n| every 1m `max\\``";
        let found = pieces(text);
        assert_eq!(found.iter().map(|(_, text)| *text).collect::<String>(), text);
        assert_eq!(
            found.iter().map(|(piece, _)| *piece).collect::<Vec<_>>(),
            [Piece::Code, Piece::Quoted, Piece::Code, Piece::Comment, Piece::Code, Piece::Quoted]
        );
        assert_eq!(pieces("a 'open"), [(Piece::Code, "a "), (Piece::Quoted, "'open")]);
    }

    #[test]
    fn the_last_statement_answers() {
        for (text, has_window, source) in [
            ("cpu{h=\"| every\"} | every 1m avg(u)", true, "cpu"),
            ("cpu{h=\"| every\"} | avg(u)", false, "cpu"),
            ("let a = cpu | every 1m avg(u) ; a | limit 5;\n", false, "a"),
            ("let a = cpu ; a | last 5m | every 1m avg(u) # | limit 5", true, "a"),
            ("`two words` | limit 1", false, "two"),
            ("show tables", false, "show"),
            ("", false, ""),
        ] {
            let last = Statement::last(text);
            assert_eq!((last.has_window(), last.source()), (has_window, source), "{text}");
        }
    }
}
