//! The words of all parsers over tokens: symbols, keywords, names, lists, and "required".
//!
//! Invariant: a parser fails with [`Wrong::NotHere`] without having read anything, or with a final
//! sentence. nom's `Error` and `Failure` are these two.

use nom::IResult;
use nom::error::ParseError;

use crate::ast::{Name, Span};
use crate::error::ErrorKind;
use crate::error::Problem;

use super::token::{Kind, Token};

/// Never empty: the last token is [`Kind::End`], and no parser consumes it.
pub(super) type Tokens<'t> = &'t [Token<'t>];
pub(super) type Parsed<'t, T> = IResult<Tokens<'t>, T, Wrong>;

#[derive(Debug)]
pub(super) enum Wrong {
    NotHere,
    Final(Box<Problem>),
}

impl<I> ParseError<I> for Wrong {
    fn from_error_kind(_: I, _: nom::error::ErrorKind) -> Wrong {
        Wrong::NotHere
    }

    fn append(_: I, _: nom::error::ErrorKind, other: Wrong) -> Wrong {
        other
    }
}

pub(super) fn next<'t>(input: Tokens<'t>) -> &'t Token<'t> {
    input.first().expect("no parser consumes the end")
}

pub(super) fn not_here<'t, T>() -> Parsed<'t, T> {
    Err(nom::Err::Error(Wrong::NotHere))
}

pub(super) fn fail<'t, T>(problem: Problem) -> Parsed<'t, T> {
    Err(nom::Err::Failure(Wrong::Final(Box::new(problem))))
}

/// The next token, if it satisfies the test.
pub(super) fn token<'t>(input: Tokens<'t>, test: impl Fn(&Token<'t>) -> bool) -> Parsed<'t, &'t Token<'t>> {
    match input.split_first() {
        Some((token, rest)) if token.kind != Kind::End && test(token) => Ok((rest, token)),
        _ => not_here(),
    }
}

pub(super) fn symbol<'t>(text: &'static str) -> impl Fn(Tokens<'t>) -> Parsed<'t, Span> {
    move |input| {
        let (rest, found) = token(input, |token| token.kind == Kind::Symbol && token.text == text)?;
        Ok((rest, found.span))
    }
}

pub(super) fn keyword<'t>(text: &'static str) -> impl Fn(Tokens<'t>) -> Parsed<'t, Span> {
    move |input| {
        let (rest, found) = token(input, |token| token.kind == Kind::Word && token.text == text)?;
        Ok((rest, found.span))
    }
}

pub(super) fn name(input: Tokens<'_>) -> Parsed<'_, Name> {
    let (rest, found) = token(input, |token| matches!(token.kind, Kind::Word | Kind::Quoted(_)))?;
    let text = match &found.kind {
        Kind::Quoted(text) => text.clone(),
        _ => found.text.to_owned(),
    };
    if text.is_empty() {
        return fail(Problem::new(ErrorKind::Syntax, found.span, "a name cannot be empty"));
    }
    Ok((rest, Name { text, span: found.span }))
}

pub(super) fn text(input: Tokens<'_>) -> Parsed<'_, (String, Span)> {
    match input.split_first() {
        Some((Token { kind: Kind::Text(text), span, .. }, rest)) => Ok((rest, (text.clone(), *span))),
        _ => not_here(),
    }
}

/// Turns "not here" into a sentence: what was read, and that `what` was expected.
pub(super) fn required<'t, T>(
    what: &'static str,
    parser: impl Fn(Tokens<'t>) -> Parsed<'t, T>,
) -> impl Fn(Tokens<'t>) -> Parsed<'t, T> {
    move |input| match parser(input) {
        Err(nom::Err::Error(Wrong::NotHere)) => fail(unexpected(input, what)),
        other => other,
    }
}

/// A name where only a name can stand. People who come from SQL put them in double quotes.
pub(super) fn required_name<'t>(what: &'static str) -> impl Fn(Tokens<'t>) -> Parsed<'t, Name> {
    move |input| match (name(input), &next(input).kind) {
        (Err(nom::Err::Error(_)), Kind::Text(text)) => {
            fail(unexpected(input, what).hint(format!("a name is quoted with backticks: `{text}`")))
        }
        (Err(nom::Err::Error(_)), _) => fail(unexpected(input, what)),
        (result, _) => result,
    }
}

pub(super) fn required_text(input: Tokens<'_>) -> Parsed<'_, (String, Span)> {
    match (text(input), &next(input).kind) {
        (Err(_), Kind::Word | Kind::Literal) => {
            let hint = format!("a text is written in quotes: \"{}\"", next(input).text);
            fail(unexpected(input, "a text").hint(hint))
        }
        (Err(_), _) => fail(unexpected(input, "a text in quotes")),
        (result, _) => result,
    }
}

// list = item { "," item } ;
pub(super) fn list<'t, T>(
    mut input: Tokens<'t>,
    item: impl Fn(Tokens<'t>) -> Parsed<'t, T>,
) -> Parsed<'t, Vec<T>> {
    let mut items = Vec::new();
    loop {
        let (rest, found) = item(input)?;
        items.push(found);
        match symbol(",")(rest) {
            Ok((rest, _)) => input = rest,
            Err(_) => return Ok((rest, items)),
        }
    }
}

/// "read `x`, expected y", at the next token.
pub(super) fn unexpected(input: Tokens<'_>, expected: &str) -> Problem {
    const READ_CHARS_MAX: usize = 40;
    let token = next(input);
    let read = match token.text.char_indices().nth(READ_CHARS_MAX) {
        _ if token.kind == Kind::End => "the end".to_owned(),
        None => format!("`{}`", token.text),
        Some((cut, _)) => format!("`{}…`", &token.text[..cut]),
    };
    let message = format!("read {read}, expected {expected}");
    Problem {
        read: Some(token.text.into()),
        expected: Some(expected.into()),
        ..Problem::new(ErrorKind::Syntax, token.span, message)
    }
}
