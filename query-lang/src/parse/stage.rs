//! Stages: ranges, `where`, aggregates, and what is done with their rows.
//!
//! Not here: in which order stages make sense (see `planner`).

use nom::Parser;
use nom::combinator::opt;

use crate::ast::{
    Aggregate, Assignment, Fill, FillHow, Item, Join, JoinKind, Limit, Name, Range, Rank, SortKey, Stage,
    StageKind, Window, ZoneName,
};
use crate::error::ErrorKind;
use crate::error::Problem;
use crate::error::did_you_mean;
use crate::plan::Function;

use super::expr;
use super::literal;
use super::read::unexpected;
use super::read::{
    Parsed, Tokens, fail, keyword, list, next, not_here, required, required_name, required_text, symbol,
    token,
};
use super::source;
use super::token::Kind;

/// Words that begin a stage; an aggregate may also begin with its function.
pub const STAGES: [&str; 15] = [
    "last", "since", "between", "where", "every", "limit", "extend", "session", "fill", "sort", "top",
    "bottom", "join", "left", "asof",
];

// stage = range | where | extend | aggregate | fill | sort | rank | limit | join ;
pub(super) fn stage(input: Tokens<'_>) -> Parsed<'_, Stage> {
    let (rest, kind) = match next(input).text {
        _ if starts_aggregate(input) => aggregate(input)?,
        "last" | "since" | "between" => {
            let (rest, range) = range(input)?;
            (rest, StageKind::Range(range))
        }
        "where" => {
            let (rest, condition) = expr::expression(&input[1..])?;
            (rest, StageKind::Where(condition))
        }
        "extend" => {
            let (rest, assignments) = list(&input[1..], assignment)?;
            (rest, StageKind::Extend(assignments))
        }
        "fill" => {
            let (rest, fill) = fill(&input[1..])?;
            (rest, StageKind::Fill(fill))
        }
        "sort" => {
            let (rest, keys) = list(&input[1..], sort_key)?;
            (rest, StageKind::Sort(keys))
        }
        "top" | "bottom" => {
            let (rest, rank) = rank(input)?;
            (rest, StageKind::Rank(rank))
        }
        "limit" => {
            let (rest, limit) = limit(&input[1..])?;
            (rest, StageKind::Limit(limit))
        }
        "join" | "left" | "asof" => {
            let (rest, join) = join(input)?;
            (rest, StageKind::Join(join))
        }
        _ => return fail(no_stage(input)),
    };
    let last = &input[input.len() - rest.len() - 1];
    Ok((rest, Stage { kind, span: next(input).span.to(last.span) }))
}

// range = "last" duration | "since" time | "between" time "and" time ;
pub(super) fn range(input: Tokens<'_>) -> Parsed<'_, Range> {
    if let Ok((rest, _)) = keyword("last")(input) {
        if !literal::is_next(rest) {
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

/// A function, `every` or `session`. A function is known by its parenthesis; without one it is known too, except
/// `last`, which then starts a range.
fn starts_aggregate(input: Tokens<'_>) -> bool {
    let token = next(input);
    let parenthesis = symbol("(")(input.get(1..).unwrap_or_default()).is_ok();
    let function = token.text != "last" && Function::is_name(token.text);
    token.kind == Kind::Word
        && (["every", "session"].contains(&token.text)
            || parenthesis && !STAGES[1..].contains(&token.text)
            || function)
}

// aggregate = [ window ] item { "," item } [ "by" by ] [ "in" text ] ;
fn aggregate(input: Tokens<'_>) -> Parsed<'_, StageKind> {
    let (input, window) = window(input)?;
    let (input, items) = list(input, item)?;
    let (input, by) = opt(by).parse(input)?;
    let (input, zone) = opt(zone).parse(input)?;
    Ok((input, StageKind::Aggregate(Aggregate { window, items, by, zone })))
}

// window = "every" step [ "over" duration ] [ "offset" duration ] | "session" duration ;
fn window(input: Tokens<'_>) -> Parsed<'_, Window> {
    if let Ok((rest, _)) = keyword("session")(input) {
        let (rest, gap) = literal::duration("session's gap", "m")(rest)?;
        return Ok((rest, Window::Session { gap }));
    }
    let Ok((rest, _)) = keyword("every")(input) else { return Ok((input, Window::Whole)) };
    let (rest, step) = literal::step(rest)?;
    let length = |word: &'static str, what: &'static str, input| {
        let (input, found) = opt(keyword(word)).parse(input)?;
        if found.is_none() {
            return Ok((input, None));
        }
        let (input, length) = literal::duration(what, "m")(input)?;
        Ok((input, Some(length)))
    };
    let (rest, over) = length("over", "window", rest)?;
    let (rest, offset) = length("offset", "window's offset", rest)?;
    Ok((rest, Window::Every { step, over, offset }))
}

// "in" text
fn zone(input: Tokens<'_>) -> Parsed<'_, ZoneName> {
    let (input, _) = keyword("in")(input)?;
    let (input, (text, span)) = required_text(input)?;
    Ok((input, ZoneName { text, span }))
}

// assignment = name "=" expression ;
fn assignment(input: Tokens<'_>) -> Parsed<'_, Assignment> {
    let (input, name) = required_name("a name for the column")(input)?;
    let (input, _) = required("`=`", symbol("="))(input)?;
    let (input, value) = expr::expression(input)?;
    Ok((input, Assignment { name, value }))
}

// fill = "fill" ( "null" | "previous" | "linear" | value ) [ "max" duration ] ;
fn fill(input: Tokens<'_>) -> Parsed<'_, Fill> {
    let found = next(input);
    let word = match (&found.kind, found.text) {
        (Kind::Word, "null") => Some(FillHow::Null),
        (Kind::Word, "previous") => Some(FillHow::Previous),
        (Kind::Word, "linear") => Some(FillHow::Linear),
        _ => None,
    };
    let (input, how) = match word {
        Some(how) => (&input[1..], how),
        None => {
            let (rest, value) = expr::signed(input, "null, previous, linear or a value")?;
            (rest, FillHow::Value(value))
        }
    };
    let (input, found) = opt(keyword("max")).parse(input)?;
    if found.is_none() {
        return Ok((input, Fill { how, max: None }));
    }
    let (input, max) = literal::duration("longest gap", "m")(input)?;
    Ok((input, Fill { how, max: Some(max) }))
}

// key = name [ "asc" | "desc" ] ;
fn sort_key(input: Tokens<'_>) -> Parsed<'_, SortKey> {
    let (input, column) = required_name("a column")(input)?;
    let (input, descending) = opt(keyword("desc")).parse(input)?;
    let (input, _) = match descending {
        Some(_) => (input, None),
        None => opt(keyword("asc")).parse(input)?,
    };
    let descending = descending.is_some();
    Ok((input, SortKey { column, descending }))
}

// rank = ( "top" | "bottom" ) digits "by" name [ "per" name { "," name } ] ;
fn rank(input: Tokens<'_>) -> Parsed<'_, Rank> {
    let largest = next(input).text == "top";
    let (input, count) = literal::count(&input[1..])?;
    let (input, _) = required("`by` and a column", keyword("by"))(input)?;
    let (input, column) = required_name("a column")(input)?;
    let (input, found) = opt(keyword("per")).parse(input)?;
    let (input, per) = match found {
        None => (input, Vec::new()),
        Some(_) => list(input, required_name("a column"))?,
    };
    Ok((input, Rank { largest, count, column, per }))
}

// limit = "limit" digits [ "offset" digits ] ;
fn limit(input: Tokens<'_>) -> Parsed<'_, Limit> {
    let (input, count) = literal::count(input)?;
    let (input, found) = opt(keyword("offset")).parse(input)?;
    if found.is_none() {
        return Ok((input, Limit { count, offset: 0 }));
    }
    let (input, offset) = literal::count(input)?;
    Ok((input, Limit { count, offset }))
}

// join = [ "left" | "asof" ] "join" source "on" name { "," name } [ "within" duration ] ;
fn join(input: Tokens<'_>) -> Parsed<'_, Join> {
    let first = next(input);
    let is_asof = first.text == "asof";
    let input = if first.text == "join" { input } else { &input[1..] };
    let (input, _) = required("`join`", keyword("join"))(input)?;
    let (input, right) = source::source(input)?;
    let (input, _) = required("`on` and the columns that both sides have", keyword("on"))(input)?;
    let (mut input, on) = list(input, required_name("a column that both sides have"))?;
    let kind = match first.text {
        "left" => JoinKind::Left,
        _ if !is_asof => JoinKind::Inner,
        _ => {
            let (rest, found) = opt(keyword("within")).parse(input)?;
            match found {
                None => JoinKind::Asof { within: None },
                Some(_) => {
                    let (rest, within) = literal::duration("distance in time", "s")(rest)?;
                    input = rest;
                    JoinKind::Asof { within: Some(within) }
                }
            }
        }
    };
    Ok((input, Join { kind, right, on }))
}

// item = function [ "(" [ field | "*" ] [ "," number ] ")" ] [ "as" name ] ;
pub(super) fn item(input: Tokens<'_>) -> Parsed<'_, Item> {
    let token = next(input);
    if token.kind != Kind::Word || !Function::is_name(token.text) {
        return fail(no_function(input));
    }
    let (rest, arguments) = opt(arguments).parse(&input[1..])?;
    let Arguments { field, every_field, share } = arguments.unwrap_or_default();
    let last = &input[input.len() - rest.len() - 1];
    let (rest, alias) = opt(alias).parse(rest)?;
    let span = token.span.to(last.span);
    match Function::named(token.text, share) {
        Ok(function) => Ok((rest, Item { function, field, every_field, alias, span })),
        Err(message) => fail(Problem::new(ErrorKind::Syntax, span, message)),
    }
}

#[derive(Default)]
struct Arguments {
    field: Option<Name>,
    every_field: bool,
    share: Option<f64>,
}

// "(" [ field | "*" ] [ "," number ] ")"
fn arguments(input: Tokens<'_>) -> Parsed<'_, Arguments> {
    let (input, _) = symbol("(")(input)?;
    if let Ok((rest, _)) = symbol(")")(input) {
        return Ok((rest, Arguments::default()));
    }
    if let Ok((rest, _)) = symbol("*")(input) {
        let (rest, share) = last_argument(rest)?;
        return Ok((rest, Arguments { every_field: true, share, ..Arguments::default() }));
    }
    if let Ok((rest, share)) = literal::number(input) {
        let (rest, _) = required("`)`", symbol(")"))(rest)?;
        return Ok((rest, Arguments { share: Some(share), ..Arguments::default() }));
    }
    let (rest, wrapped) = opt((keyword("field"), symbol("("))).parse(input)?;
    let (mut rest, field) = required_name("a field")(rest)?;
    if wrapped.is_some() {
        (rest, _) = required("`)`", symbol(")"))(rest)?;
    }
    if next(rest).kind == Kind::Symbol && ["+", "-", "*", "/", "%"].contains(&next(rest).text) {
        let hint = "an aggregate takes a field; compute it first: `extend x = ... | every 1m avg(x)`";
        return fail(unexpected(rest, "`)`").hint(hint));
    }
    let (rest, share) = last_argument(rest)?;
    Ok((rest, Arguments { field: Some(field), share, ..Arguments::default() }))
}

// [ "," number ] ")"
fn last_argument(input: Tokens<'_>) -> Parsed<'_, Option<f64>> {
    let (rest, comma) = opt(symbol(",")).parse(input)?;
    let (rest, share) = match comma {
        None => (rest, None),
        Some(_) => {
            let (rest, share) = required("a number", literal::number)(rest)?;
            (rest, Some(share))
        }
    };
    let (rest, _) = required("`)`", symbol(")"))(rest)?;
    Ok((rest, share))
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
    let problem = unexpected(
        input,
        "a stage: last, since, between, where, extend, every, session, fill, sort, top, bottom, limit, join or a function",
    );
    let words = STAGES.into_iter().chain(Function::NAMES);
    problem.hint_if(suggestion(input, words))
}

fn no_function(input: Tokens<'_>) -> Problem {
    let names = Function::NAMES;
    let problem = unexpected(input, &format!("a function: {}", names.join(", ")));
    problem.hint_if(suggestion(input, names))
}

/// What other languages call our words, else the nearest of them.
fn suggestion<'a>(input: Tokens<'_>, words: impl IntoIterator<Item = &'a str>) -> Option<String> {
    const SYNONYMS: [(&str, &str); 16] = [
        ("average", "avg"),
        ("mean", "avg"),
        ("minimum", "min"),
        ("maximum", "max"),
        ("filter", "where"),
        ("window", "every"),
        ("order", "sort"),
        ("group", "by"),
        ("select", "extend"),
        ("map", "extend"),
        ("derive", "extend"),
        ("percentile", "quantile"),
        ("std", "stddev"),
        ("var", "variance"),
        ("range", "last"),
        ("topk", "top"),
    ];
    let (_, read) = token(input, |token| token.kind == Kind::Word).or_else(|_| not_here::<&_>()).ok()?;
    let synonym = SYNONYMS.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(read.text));
    match synonym {
        Some((_, ours)) => Some(format!("did you mean `{ours}`?")),
        None => did_you_mean(read.text, words),
    }
}
