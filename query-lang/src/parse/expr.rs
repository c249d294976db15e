//! Conditions on tags: the tests of matchers and the expressions of `where`.
//!
//! Invariant: nesting is bounded, so that no input exhausts the stack, here or in any walk of the tree.

use nom::Parser;
use nom::combinator::opt;

use crate::ast::{Column, ColumnKind, Expr};
use crate::error::ErrorKind;
use crate::error::Problem;
use crate::pattern;
use crate::plan::TagTest;

use super::read::{Parsed, Tokens, fail, keyword, list, next, required, required_name, required_text};
use super::read::{symbol, unexpected};
use super::token::Kind;

/// Parentheses and `not`s inside one another. A person uses three; a program that writes more can flatten.
const DEPTH_MAX: usize = 64;

const OPERATORS: &str = "=, !=, =~, !~, in or not in";

// where = "where" or ;
pub(super) fn condition(input: Tokens<'_>) -> Parsed<'_, Expr> {
    or(input, 0)
}

// or = and { "or" and } ;
fn or(input: Tokens<'_>, depth: usize) -> Parsed<'_, Expr> {
    let (input, members) = joined("or", input, |input| and(input, depth))?;
    Ok((input, single_or(members, Expr::Or)))
}

// and = not { "and" not } ;
fn and(input: Tokens<'_>, depth: usize) -> Parsed<'_, Expr> {
    let (input, members) = joined("and", input, |input| not(input, depth))?;
    Ok((input, single_or(members, Expr::And)))
}

// not = "not" not | "(" or ")" | column test ;
fn not(input: Tokens<'_>, depth: usize) -> Parsed<'_, Expr> {
    if depth > DEPTH_MAX {
        let message = format!("this condition is nested more than {DEPTH_MAX} deep");
        return fail(
            Problem::new(ErrorKind::Syntax, next(input).span, message).hint("use `in (...)` or a pattern"),
        );
    }
    if let Ok((rest, _)) = keyword("not")(input) {
        let (rest, inner) = not(rest, depth + 1)?;
        return Ok((rest, Expr::Not(Box::new(inner))));
    }
    if let Ok((rest, _)) = symbol("(")(input) {
        let (rest, inner) = or(rest, depth + 1)?;
        let (rest, _) = required("`)`, `and` or `or`", symbol(")"))(rest)?;
        return Ok((rest, inner));
    }
    let (rest, column) = column(input)?;
    let (rest, test) = test(rest)?;
    Ok((rest, Expr::Test { column, test }))
}

// column = name | "tag" "(" name ")" | "field" "(" name ")" ;
fn column(input: Tokens<'_>) -> Parsed<'_, Column> {
    for (word, kind) in [("tag", ColumnKind::Tag), ("field", ColumnKind::Field)] {
        let (rest, open) = opt((keyword(word), symbol("("))).parse(input)?;
        if open.is_some() {
            let (rest, name) = required_name("a name")(rest)?;
            let (rest, _) = required("`)`", symbol(")"))(rest)?;
            return Ok((rest, Column { kind, name }));
        }
    }
    let (rest, name) = required_name("a tag, `not` or `(`")(input)?;
    Ok((rest, Column { kind: ColumnKind::Either, name }))
}

// test = ( "=" | "!=" | "=~" | "!~" ) text | [ "not" ] "in" "(" text { "," text } ")" ;
pub(super) fn test(input: Tokens<'_>) -> Parsed<'_, TagTest> {
    let operator = next(input);
    match (&operator.kind, operator.text) {
        (Kind::Symbol, "=") => compared(input, TagTest::Equal),
        (Kind::Symbol, "!=") => compared(input, TagTest::NotEqual),
        (Kind::Symbol, "=~") => matched(input, TagTest::Matches),
        (Kind::Symbol, "!~") => matched(input, TagTest::NotMatches),
        (Kind::Word, "in") => among(input, TagTest::In),
        (Kind::Word, "not") => {
            let (rest, _) = keyword("not")(input)?;
            if next(rest).text != "in" {
                return fail(unexpected(rest, "`in`"));
            }
            among(rest, TagTest::NotIn)
        }
        (Kind::Symbol, "<" | ">" | "<=" | ">=") => fail(field_condition(input)),
        (Kind::Symbol, "==") => fail(unexpected(input, OPERATORS).hint("did you mean `=`?")),
        (Kind::Symbol, "<>") => fail(unexpected(input, OPERATORS).hint("did you mean `!=`?")),
        _ => fail(unexpected(input, OPERATORS)),
    }
}

fn compared<'t>(input: Tokens<'t>, make: fn(String) -> TagTest) -> Parsed<'t, TagTest> {
    let rest = &input[1..];
    // A number on the right can only be meant for a field.
    if next(rest).kind == Kind::Literal {
        let token = next(rest);
        let hint = format!("a tag is text: \"{}\"", token.text);
        return fail(Problem { span: token.span, ..field_condition(input) }.hint(hint));
    }
    let (rest, (value, _)) = required_text(rest)?;
    Ok((rest, make(value)))
}

fn matched<'t>(input: Tokens<'t>, make: fn(String) -> TagTest) -> Parsed<'t, TagTest> {
    let (rest, (value, span)) = required_text(&input[1..])?;
    if let Err(why) = pattern::whole_value(&value) {
        return fail(Problem::new(ErrorKind::Syntax, span, format!("the pattern is not valid: {why}")));
    }
    Ok((rest, make(value)))
}

fn among<'t>(input: Tokens<'t>, make: fn(Vec<String>) -> TagTest) -> Parsed<'t, TagTest> {
    let (rest, _) = required("`(`", symbol("("))(&input[1..])?;
    let (rest, values) = list(rest, |input| {
        let (rest, (value, _)) = required_text(input)?;
        Ok((rest, value))
    })?;
    let (rest, _) = required("`,` or `)`", symbol(")"))(rest)?;
    Ok((rest, make(values)))
}

fn field_condition(input: Tokens<'_>) -> Problem {
    Problem::new(ErrorKind::Unsupported, next(input).span, "conditions on fields are not there yet")
        .hint("`where` takes conditions on tags, such as host = \"web-1\"")
}

fn joined<'t>(
    word: &'static str,
    input: Tokens<'t>,
    member: impl Fn(Tokens<'t>) -> Parsed<'t, Expr>,
) -> Parsed<'t, Vec<Expr>> {
    let (mut input, first) = member(input)?;
    let mut members = vec![first];
    while let Ok((rest, _)) = keyword(word)(input) {
        let (rest, member) = member(rest)?;
        members.push(member);
        input = rest;
    }
    Ok((input, members))
}

fn single_or(mut members: Vec<Expr>, make: fn(Vec<Expr>) -> Expr) -> Expr {
    if members.len() == 1 { members.remove(0) } else { make(members) }
}
