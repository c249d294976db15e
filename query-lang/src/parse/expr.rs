//! Expressions, and the tests of matchers.
//!
//! Invariant: nesting is bounded, so that no input exhausts the stack, here or in any walk of the tree.

use nom::Parser;
use nom::combinator::opt;

use crate::ast::{Column, ColumnKind, Expr, ExprKind, Literal, Operator, Span, TimeLiteral};
use crate::error::ErrorKind;
use crate::error::Problem;
use crate::pattern;
use crate::plan::TagTest;

use super::literal;
use super::read::{Parsed, Tokens, fail, keyword, list, next, required, required_name, required_text};
use super::read::{Wrong, name, symbol, text, unexpected};
use super::token::Kind;

/// Parentheses, `not`s and signs inside one another. A person uses three; a program that writes more can flatten.
const DEPTH_MAX: usize = 32;

/// Members of one sum or product, each of which makes its tree one deeper.
const MEMBERS_MAX: usize = 64;

/// Of the whole tree.
const HEIGHT_MAX: usize = 200;

const OPERATORS: &str = "=, !=, =~, !~, in or not in";

// expression = and { "or" and } ;
pub(super) fn expression(input: Tokens<'_>) -> Parsed<'_, Expr> {
    let (rest, expr) = or(input, 0)?;
    match height(&expr) {
        0..=HEIGHT_MAX => Ok((rest, expr)),
        _ => too_much(input, "nested too deep"),
    }
}

/// With a list instead of the stack, for which it is asked.
fn height(expr: &Expr) -> usize {
    let mut most = 0;
    let mut open = vec![(expr, 1)];
    while let Some((expr, depth)) = open.pop() {
        most = most.max(depth);
        open.extend(expr.children().into_iter().map(|child| (child, depth + 1)));
    }
    most
}

fn or(input: Tokens<'_>, depth: usize) -> Parsed<'_, Expr> {
    joined("or", input, |input| and(input, depth), ExprKind::Or)
}

// and = not { "and" not } ;
fn and(input: Tokens<'_>, depth: usize) -> Parsed<'_, Expr> {
    joined("and", input, |input| not(input, depth), ExprKind::And)
}

// not = "not" not | comparison ;
fn not(input: Tokens<'_>, depth: usize) -> Parsed<'_, Expr> {
    check_depth(input, depth)?;
    if let Ok((rest, _)) = keyword("not")(input) {
        let (rest, inner) = not(rest, depth + 1)?;
        return Ok((rest, spanned(input, rest, ExprKind::Not(Box::new(inner)))));
    }
    comparison(input, depth)
}

// comparison = sum [ ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) sum | ( "=~" | "!~" ) text | [ "not" ] "in" list ] ;
fn comparison(input: Tokens<'_>, depth: usize) -> Parsed<'_, Expr> {
    let (rest, left) = sum(input, depth)?;
    let found = next(rest);
    let of_symbol = Operator::ALL.into_iter().filter(|operator| operator.compares());
    let operator =
        of_symbol.into_iter().find(|operator| found.kind == Kind::Symbol && operator.symbol() == found.text);
    if let Some(operator) = operator {
        let (rest, right) = sum(&rest[1..], depth)?;
        if let Some(chained) = next_comparison(rest) {
            let problem = Problem::new(ErrorKind::Syntax, chained, "comparisons cannot be chained");
            return fail(problem.hint("join two of them by `and`"));
        }
        let kind = ExprKind::Binary { operator, left: Box::new(left), right: Box::new(right) };
        return Ok((rest, spanned(input, rest, kind)));
    }
    match (&found.kind, found.text) {
        (Kind::Symbol, "=~" | "!~") => {
            let (rest, pattern) = checked_pattern(&rest[1..])?;
            let kind = ExprKind::Match { value: Box::new(left), pattern, negated: found.text == "!~" };
            Ok((rest, spanned(input, rest, kind)))
        }
        (Kind::Symbol, "==") => fail(unexpected(rest, "an operator").hint("did you mean `=`?")),
        (Kind::Symbol, "<>") => fail(unexpected(rest, "an operator").hint("did you mean `!=`?")),
        (Kind::Symbol, "&&") => {
            fail(unexpected(rest, "`and`, `or` or the end of the condition").hint("did you mean `and`?"))
        }
        (Kind::Word, "in") => among(input, rest, left, false),
        (Kind::Word, "not") => {
            let rest = &rest[1..];
            if next(rest).text != "in" {
                return fail(unexpected(rest, "`in`"));
            }
            among(input, rest, left, true)
        }
        _ => Ok((rest, left)),
    }
}

fn next_comparison(input: Tokens<'_>) -> Option<Span> {
    let found = next(input);
    let compares =
        Operator::ALL.into_iter().any(|operator| operator.compares() && operator.symbol() == found.text);
    (found.kind == Kind::Symbol && compares).then_some(found.span)
}

// "in" "(" [ constant { "," constant } ] ")"
fn among<'t>(start: Tokens<'t>, input: Tokens<'t>, value: Expr, negated: bool) -> Parsed<'t, Expr> {
    let (rest, list) = in_list(&input[1..], |input| signed(input, "a value"))?;
    Ok((rest, spanned(start, rest, ExprKind::In { value: Box::new(value), list, negated })))
}

fn in_list<'t, T>(input: Tokens<'t>, item: impl Fn(Tokens<'t>) -> Parsed<'t, T>) -> Parsed<'t, Vec<T>> {
    let (input, _) = required("`(`", symbol("("))(input)?;
    if let Ok((rest, _)) = symbol(")")(input) {
        return Ok((rest, Vec::new()));
    }
    let (input, values) = list(input, item)?;
    let (input, _) = required("`,` or `)`", symbol(")"))(input)?;
    Ok((input, values))
}

// sum = product { ( "+" | "-" ) product } ;
fn sum(input: Tokens<'_>, depth: usize) -> Parsed<'_, Expr> {
    chain(input, &[Operator::Add, Operator::Subtract], |input| product(input, depth))
}

// product = sign { ( "*" | "/" | "%" ) sign } ;
fn product(input: Tokens<'_>, depth: usize) -> Parsed<'_, Expr> {
    chain(input, &[Operator::Multiply, Operator::Divide, Operator::Remainder], |input| sign(input, depth))
}

// sign = "-" sign | primary ;
fn sign(input: Tokens<'_>, depth: usize) -> Parsed<'_, Expr> {
    check_depth(input, depth)?;
    if let Ok((rest, _)) = symbol("-")(input) {
        let (rest, inner) = sign(rest, depth + 1)?;
        return Ok((rest, spanned(input, rest, ExprKind::Negate(Box::new(inner)))));
    }
    primary(input, depth)
}

// primary = "(" expression ")" | literal | function "(" [ expression { "," expression } ] ")" | column ;
fn primary(input: Tokens<'_>, depth: usize) -> Parsed<'_, Expr> {
    if let Ok((rest, _)) = symbol("(")(input) {
        let (rest, inner) = or(rest, depth + 1)?;
        let (rest, _) = required("`)`, `and` or `or`", symbol(")"))(rest)?;
        return Ok((rest, inner));
    }
    match constant(input) {
        Err(nom::Err::Error(Wrong::NotHere)) => {}
        read => {
            let (rest, value) = read?;
            return Ok((rest, spanned(input, rest, ExprKind::Literal(value))));
        }
    }
    let called = input.get(1).is_some_and(|after| after.text == "(" && after.kind == Kind::Symbol);
    let is_word = next(input).kind == Kind::Word;
    if is_word && called && !["tag", "field"].contains(&next(input).text) {
        let (rest, function) = name(input)?;
        let (rest, arguments) = in_list(rest, |input| or(input, depth + 1))?;
        return Ok((rest, spanned(input, rest, ExprKind::Call { function, arguments })));
    }
    let (rest, column) = column(input)?;
    Ok((rest, spanned(input, rest, ExprKind::Column(column))))
}

/// A constant where nothing else can stand; a number may carry a minus sign.
pub(super) fn signed<'t>(input: Tokens<'t>, expected: &'static str) -> Parsed<'t, Expr> {
    let (rest, minus) = opt(symbol("-")).parse(input)?;
    let (rest, value) = required(expected, constant)(rest)?;
    let literal = |start| spanned(start, rest, ExprKind::Literal(value));
    Ok((
        rest,
        match minus {
            None => literal(input),
            Some(_) => spanned(input, rest, ExprKind::Negate(Box::new(literal(&input[1..])))),
        },
    ))
}

fn constant(input: Tokens<'_>) -> Parsed<'_, Literal> {
    let found = next(input);
    let word = match (&found.kind, found.text) {
        (Kind::Word, "true") => Some(Literal::Bool(true)),
        (Kind::Word, "false") => Some(Literal::Bool(false)),
        (Kind::Word, "null") => Some(Literal::Null),
        (Kind::Word, "now") => Some(Literal::Time(TimeLiteral::Now(0))),
        _ => None,
    };
    match word {
        Some(value) => Ok((&input[1..], value)),
        None => match text(input) {
            Ok((rest, (value, _))) => Ok((rest, Literal::Text(value))),
            Err(_) => literal::value(input),
        },
    }
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
    let (rest, name) = required_name("a column, a value, `not` or `(`")(input)?;
    Ok((rest, Column { kind: ColumnKind::Either, name }))
}

fn check_depth(input: Tokens<'_>, depth: usize) -> Result<(), nom::Err<Wrong>> {
    if depth <= DEPTH_MAX { Ok(()) } else { too_much::<()>(input, "nested too deep").map(|_| ()) }
}

fn too_much<'t, T>(input: Tokens<'t>, what: &str) -> Parsed<'t, T> {
    let message = format!("this expression is {what}");
    let problem = Problem::new(ErrorKind::Syntax, next(input).span, message);
    fail(problem.hint("use `in (...)` or a pattern, or name a part of it with `extend`"))
}

fn joined<'t>(
    word: &'static str,
    start: Tokens<'t>,
    member: impl Fn(Tokens<'t>) -> Parsed<'t, Expr>,
    make: fn(Vec<Expr>) -> ExprKind,
) -> Parsed<'t, Expr> {
    let (mut input, first) = member(start)?;
    let mut members = vec![first];
    while let Ok((rest, _)) = keyword(word)(input) {
        let (rest, member) = member(rest)?;
        members.push(member);
        input = rest;
    }
    match members.len() {
        1 => Ok((input, members.remove(0))),
        _ => Ok((input, spanned(start, input, make(members)))),
    }
}

fn chain<'t>(
    start: Tokens<'t>,
    operators: &[Operator],
    member: impl Fn(Tokens<'t>) -> Parsed<'t, Expr>,
) -> Parsed<'t, Expr> {
    let (mut input, mut left) = member(start)?;
    let mut members = 1;
    loop {
        let found = next(input);
        let is_it = |operator: &&Operator| found.kind == Kind::Symbol && operator.symbol() == found.text;
        let Some(operator) = operators.iter().find(is_it) else { return Ok((input, left)) };
        members += 1;
        if members > MEMBERS_MAX {
            return too_much(input, "too long");
        }
        let (rest, right) = member(&input[1..])?;
        let kind = ExprKind::Binary { operator: *operator, left: Box::new(left), right: Box::new(right) };
        left = spanned(start, rest, kind);
        input = rest;
    }
}

/// What was read from `start` to before `rest`.
fn spanned(start: Tokens<'_>, rest: Tokens<'_>, kind: ExprKind) -> Expr {
    let last = &start[start.len() - rest.len() - 1];
    Expr { kind, span: next(start).span.to(last.span) }
}

// test = ( "=" | "!=" | "=~" | "!~" ) text | [ "not" ] "in" "(" [ text { "," text } ] ")" ;
pub(super) fn test(input: Tokens<'_>) -> Parsed<'_, TagTest> {
    let operator = next(input);
    match (&operator.kind, operator.text) {
        (Kind::Symbol, "=") => compared(input, TagTest::Equal),
        (Kind::Symbol, "!=") => compared(input, TagTest::NotEqual),
        (Kind::Symbol, "=~") => matched(input, TagTest::Matches),
        (Kind::Symbol, "!~") => matched(input, TagTest::NotMatches),
        (Kind::Word, "in") => texts(input, TagTest::In),
        (Kind::Word, "not") => {
            let (rest, _) = keyword("not")(input)?;
            if next(rest).text != "in" {
                return fail(unexpected(rest, "`in`"));
            }
            texts(rest, TagTest::NotIn)
        }
        (Kind::Symbol, "<" | ">" | "<=" | ">=") => {
            let hint = "a tag is text; conditions on fields are stages, as in `| where usage_user > 90`";
            fail(unexpected(input, OPERATORS).hint(hint))
        }
        (Kind::Symbol, "==") => fail(unexpected(input, OPERATORS).hint("did you mean `=`?")),
        (Kind::Symbol, "<>") => fail(unexpected(input, OPERATORS).hint("did you mean `!=`?")),
        _ => fail(unexpected(input, OPERATORS)),
    }
}

fn compared<'t>(input: Tokens<'t>, make: fn(String) -> TagTest) -> Parsed<'t, TagTest> {
    let (rest, (value, _)) = required_text(&input[1..])?;
    Ok((rest, make(value)))
}

fn matched<'t>(input: Tokens<'t>, make: fn(String) -> TagTest) -> Parsed<'t, TagTest> {
    let (rest, pattern) = checked_pattern(&input[1..])?;
    Ok((rest, make(pattern)))
}

fn checked_pattern(input: Tokens<'_>) -> Parsed<'_, String> {
    let (rest, (value, span)) = required_text(input)?;
    if let Err(why) = pattern::whole_value(&value) {
        return fail(Problem::new(ErrorKind::Syntax, span, format!("the pattern is not valid: {why}")));
    }
    Ok((rest, value))
}

fn texts<'t>(input: Tokens<'t>, make: fn(Vec<String>) -> TagTest) -> Parsed<'t, TagTest> {
    let (rest, values) = in_list(&input[1..], |input| {
        let (rest, (value, _)) = required_text(input)?;
        Ok((rest, value))
    })?;
    Ok((rest, make(values)))
}
