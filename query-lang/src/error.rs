//! What is wrong with a statement, where, and the cure: one shape for syntax and for planning.
//!
//! Invariant: `message` is a sentence that stands alone (without the caret), `line` and `column` count
//! from 1 in characters, and `span` lies inside the script, at its end if something is missing there.

use std::fmt;

use crate::ast::Span;

#[derive(Clone, Debug)]
pub struct QueryError(Box<Details>);

#[derive(Clone, Debug)]
struct Details {
    problem: Problem,
    line: usize,
    column: usize,
    line_text: String,
}

/// An error that does not know its script yet: what the parser and the planner make.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub kind: ErrorKind,
    pub span: Span,
    pub message: String,
    pub read: Option<Box<str>>,
    pub expected: Option<Box<str>>,
    pub hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    Syntax,
    UnknownTable,
    UnknownField,
    UnknownTag,
    UnknownRollup,
    UnknownColumn,
    UnknownFunction,
    /// The function does not take values of this type.
    Type,
    /// A name is taken, reserved, ambiguous or used twice.
    Name,
    /// A rollup cannot be defined so, or cannot give what was asked of it.
    Rollup,
    Range,
    /// Good WQL, but not there yet, or not in this order.
    Unsupported,
}

impl ErrorKind {
    /// The word machines see: `code` in the HTTP answer.
    pub fn code(self) -> &'static str {
        match self {
            ErrorKind::Syntax => "syntax",
            ErrorKind::UnknownTable => "unknown_table",
            ErrorKind::UnknownField => "unknown_field",
            ErrorKind::UnknownTag => "unknown_tag",
            ErrorKind::UnknownRollup => "unknown_rollup",
            ErrorKind::UnknownColumn => "unknown_column",
            ErrorKind::UnknownFunction => "unknown_function",
            ErrorKind::Type => "type",
            ErrorKind::Name => "name",
            ErrorKind::Rollup => "rollup",
            ErrorKind::Range => "range",
            ErrorKind::Unsupported => "unsupported",
        }
    }
}

impl QueryError {
    pub fn kind(&self) -> ErrorKind {
        self.0.problem.kind
    }

    pub fn code(&self) -> &'static str {
        self.kind().code()
    }

    /// The sentence, without the hint.
    pub fn message(&self) -> &str {
        &self.0.problem.message
    }

    /// What to do instead, for example the nearest correct spelling.
    pub fn hint(&self) -> Option<&str> {
        self.0.problem.hint.as_deref()
    }

    /// What stood at the place, as written. Only of syntax errors.
    pub fn read(&self) -> Option<&str> {
        self.0.problem.read.as_deref()
    }

    /// What could have stood there. Only of syntax errors.
    pub fn expected(&self) -> Option<&str> {
        self.0.problem.expected.as_deref()
    }

    pub fn span(&self) -> Span {
        self.0.problem.span
    }

    pub fn line(&self) -> usize {
        self.0.line
    }

    pub fn column(&self) -> usize {
        self.0.column
    }

    /// The line of the script with a caret under the place, for terminals.
    pub fn render(&self) -> String {
        let Details { problem, column, line_text, .. } = &*self.0;
        // Tabs stay tabs, so that the caret stands right at any tab width.
        let indent: String =
            line_text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let mut text = format!("{line_text}\n{indent}^ {}", problem.message);
        if let Some(hint) = &problem.hint {
            text.push_str(&format!("\n{indent}  {hint}"));
        }
        text
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line(), self.column(), self.message())?;
        self.hint().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for QueryError {}

impl Problem {
    pub fn new(kind: ErrorKind, span: Span, message: impl Into<String>) -> Problem {
        Problem { kind, span, message: message.into(), read: None, expected: None, hint: None }
    }

    pub fn hint(self, hint: impl Into<String>) -> Problem {
        Problem { hint: Some(hint.into()), ..self }
    }

    pub fn hint_if(self, hint: Option<String>) -> Problem {
        Problem { hint: hint.or(self.hint), ..self }
    }

    /// Finds line and column in the script that the span points into. A script that nobody wrote (a tree
    /// built by a program) is empty, and then every place is its start.
    pub fn within(mut self, script: &str) -> QueryError {
        let start = floor_char(script, self.span.start);
        self.span = Span { start, end: floor_char(script, self.span.end).max(start) };
        let before = &script[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_text = script[line_start..].lines().next().unwrap_or_default();
        QueryError(Box::new(Details {
            line: before.matches('\n').count() + 1,
            column: script[line_start..start].chars().count() + 1,
            line_text: line_text.to_owned(),
            problem: self,
        }))
    }
}

/// "did you mean `x`?", if one of the candidates is near enough to be meant.
pub fn did_you_mean<'a>(read: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(read, candidates).map(|name| format!("did you mean `{name}`?"))
}

/// The candidate a hasty writer meant: equal but for case, or with few letters wrong for its length.
pub fn nearest<'a>(read: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Names longer than this are not typed by hand, and edit distance costs their product.
    const LENGTH_MAX: usize = 128;
    if read.len() > LENGTH_MAX {
        return None;
    }
    let read = read.to_lowercase();
    let mistakes_max = (read.chars().count().max(2) / 3).max(1);
    candidates
        .into_iter()
        .filter(|name| name.len() <= LENGTH_MAX)
        .map(|name| (strsim::osa_distance(&read, &name.to_lowercase()), name))
        .filter(|(mistakes, _)| *mistakes <= mistakes_max)
        .min()
        .map(|(_, name)| name)
}

/// "`a`, `b` and `c`", cut after a few: lists in sentences must stay readable.
pub fn list_names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN_MAX: usize = 12;
    let names: Vec<&str> = names.into_iter().collect();
    let shown: Vec<String> = names.iter().take(SHOWN_MAX).map(|name| format!("`{name}`")).collect();
    match (shown.split_last(), names.len() - shown.len()) {
        (None, _) => "nothing".to_owned(),
        (Some((last, [])), 0) => last.clone(),
        (Some((last, rest)), 0) => format!("{} and {last}", rest.join(", ")),
        (Some(_), more) => format!("{} and {more} more", shown.join(", ")),
    }
}

fn floor_char(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_place() {
        let problem = Problem::new(ErrorKind::Syntax, Span { start: 8, end: 9 }, "wrong").hint("right");
        let error = problem.within("é\n\tx | y\nz");
        assert_eq!((error.line(), error.column()), (2, 6));
        assert_eq!(error.render(), "\tx | y\n\t    ^ wrong\n\t      right");
        assert_eq!(error.to_string(), "line 2, column 6: wrong; right");
    }

    #[test]
    fn a_place_outside_the_script_is_its_end() {
        let problem = Problem::new(ErrorKind::Syntax, Span { start: 90, end: 99 }, "wrong");
        assert_eq!(problem.clone().within("ab").render(), "ab\n  ^ wrong");
        assert_eq!(problem.within("").render(), "\n^ wrong");
    }

    #[test]
    fn only_near_spellings_are_offered() {
        let words = ["last", "since", "between", "where", "every", "limit"];
        assert_eq!(nearest("lst", words), Some("last"));
        assert_eq!(nearest("LAST", words), Some("last"));
        assert_eq!(nearest("wehre", words), Some("where"));
        assert_eq!(nearest("banana", words), None);
    }

    #[test]
    fn lists_read_as_sentences() {
        assert_eq!(list_names(["a"]), "`a`");
        assert_eq!(list_names(["a", "b", "c"]), "`a`, `b` and `c`");
        assert!(list_names(["a"; 20]).ends_with(" and 8 more"));
    }
}
