//! Stages: ranges, `where`, aggregates, `limit`.
//!
//! Not here: in which order stages make sense (see `planner`).

use nom::Parser;
use nom::combinator::opt;

use crate::ast::{Aggregate, Item, Name, Range, Stage, StageKind};
use crate::error::Problem;
use crate::error::did_you_mean;
use crate::plan::Function;

use super::expr;
use super::literal;
use super::read::unexpected;
use super::read::{
    Parsed, Tokens, fail, keyword, list, next, not_here, required, required_name, symbol, token,
};
use super::token::Kind;

pub(super) const STAGES: [&str; 6] = ["last", "since", "between", "where", "every", "limit"];

// stage = range | where | aggregate | limit ;
pub(super) fn stage(input: Tokens<'_>) -> Parsed<'_, Stage> {
    let (rest, kind) = match next(input).text {
        _ if starts_aggregate(input) => aggregate(input)?,
        "last" | "since" | "between" => {
            let (rest, range) = range(input)?;
            (rest, StageKind::Range(range))
        }
        "where" => {
            let (rest, condition) = expr::condition(&input[1..])?;
            (rest, StageKind::Where(condition))
        }
        "limit" => {
            let (rest, count) = literal::count(&input[1..])?;
            (rest, StageKind::Limit(count))
        }
        _ => return fail(no_stage(input)),
    };
    let last = &input[input.len() - rest.len() - 1];
    Ok((rest, Stage { kind, span: next(input).span.to(last.span) }))
}

// range = "last" duration | "since" time | "between" time "and" time ;
pub(super) fn range(input: Tokens<'_>) -> Parsed<'_, Range> {
    if let Ok((rest, _)) = keyword("last")(input) {
        if next(rest).kind != Kind::Literal {
            let problem = unexpected(rest, "a duration such as 5m");
            return fail(problem.hint("the function `last` is written `last()` here"));
        }
        let (rest, length) = literal::duration("range", "m")(rest)?;
        return Ok((rest, Range::Last(length)));
    }
    if let Ok((rest, _)) = keyword("since")(input) {
        let (rest, start) = literal::time(rest)?;
        return Ok((rest, Range::Since(start)));
    }
    let (rest, _) = keyword("between")(input)?;
    let (rest, start) = literal::time(rest)?;
    let (rest, _) = required("`and` and the end of the range", keyword("and"))(rest)?;
    let (rest, end) = literal::time(rest)?;
    Ok((rest, Range::Between(start, end)))
}

/// A function, or `every`. A function is known by its parenthesis; without one it is known too, except
/// `last`, which then starts a range.
fn starts_aggregate(input: Tokens<'_>) -> bool {
    let token = next(input);
    let parenthesis = symbol("(")(input.get(1..).unwrap_or_default()).is_ok();
    let function = token.text != "last" && Function::from_name(token.text).is_some();
    token.kind == Kind::Word
        && (token.text == "every" || parenthesis && !STAGES[1..].contains(&token.text) || function)
}

// aggregate = [ "every" duration ] item { "," item } [ "by" by ] ;
fn aggregate(input: Tokens<'_>) -> Parsed<'_, StageKind> {
    let (mut input, every) = opt(keyword("every")).parse(input)?;
    let mut step = None;
    if every.is_some() {
        let (rest, length) = literal::duration("window", "m")(input)?;
        (input, step) = (rest, Some(length));
    }
    let (input, items) = list(input, item)?;
    let (input, by) = opt(by).parse(input)?;
    Ok((input, StageKind::Aggregate(Aggregate { every: step, items, by })))
}

// item = function [ "(" [ field ] ")" ] [ "as" name ] ;
fn item(input: Tokens<'_>) -> Parsed<'_, Item> {
    let token = next(input);
    let function = match token.kind {
        Kind::Word => Function::from_name(token.text),
        _ => None,
    };
    let Some(function) = function else { return fail(no_function(input)) };
    let (rest, field) = opt(argument).parse(&input[1..])?;
    let last = &input[input.len() - rest.len() - 1];
    let (rest, alias) = opt(alias).parse(rest)?;
    Ok((rest, Item { function, field: field.flatten(), alias, span: token.span.to(last.span) }))
}

// "(" [ field ] ")"
fn argument(input: Tokens<'_>) -> Parsed<'_, Option<Name>> {
    let (input, _) = symbol("(")(input)?;
    if let Ok((rest, _)) = symbol(")")(input) {
        return Ok((rest, None));
    }
    let (rest, wrapped) = opt((keyword("field"), symbol("("))).parse(input)?;
    let (mut rest, field) = required_name("a field")(rest)?;
    if wrapped.is_some() {
        (rest, _) = required("`)`", symbol(")"))(rest)?;
    }
    let (rest, _) = required("`)`", symbol(")"))(rest)?;
    Ok((rest, Some(field)))
}

fn alias(input: Tokens<'_>) -> Parsed<'_, Name> {
    let (input, _) = keyword("as")(input)?;
    required_name("a name for the column")(input)
}

// by = "(" ")" | name { "," name } | "(" name { "," name } ")" ;
fn by(input: Tokens<'_>) -> Parsed<'_, Vec<Name>> {
    let (input, _) = keyword("by")(input)?;
    let tags = |input| list(input, required_name("a tag"));
    let Ok((input, _)) = symbol("(")(input) else {
        return list(input, required_name("a tag, or `()` for one group"));
    };
    if let Ok((rest, _)) = symbol(")")(input) {
        return Ok((rest, Vec::new()));
    }
    let (input, names) = tags(input)?;
    let (input, _) = required("`,` or `)`", symbol(")"))(input)?;
    Ok((input, names))
}

fn no_stage(input: Tokens<'_>) -> Problem {
    let problem = unexpected(input, "a stage: last, since, between, where, every, limit or a function");
    let words = STAGES.into_iter().chain(Function::ALL.map(Function::name));
    problem.hint_if(suggestion(input, words))
}

fn no_function(input: Tokens<'_>) -> Problem {
    let names = Function::ALL.map(Function::name);
    let problem = unexpected(input, &format!("a function: {}", names.join(", ")));
    problem.hint_if(suggestion(input, names))
}

/// What other languages call our words, else the nearest of them.
fn suggestion<'a>(input: Tokens<'_>, words: impl IntoIterator<Item = &'a str>) -> Option<String> {
    const SYNONYMS: [(&str, &str); 6] = [
        ("average", "avg"),
        ("mean", "avg"),
        ("minimum", "min"),
        ("maximum", "max"),
        ("filter", "where"),
        ("window", "every"),
    ];
    let (_, read) = token(input, |token| token.kind == Kind::Word).or_else(|_| not_here::<&_>()).ok()?;
    let synonym = SYNONYMS.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(read.text));
    match synonym {
        Some((_, ours)) => Some(format!("did you mean `{ours}`?")),
        None => did_you_mean(read.text, words),
    }
}
