//! Queries: a source and its stages.

use crate::ast::{Matcher, Query, Source};

use super::expr;
use super::read::{Parsed, Tokens, next, required, required_name, symbol};
use super::stage;

// query = source { "|" stage } ;
pub(super) fn query(input: Tokens<'_>) -> Parsed<'_, Query> {
    let (mut input, source) = source(input)?;
    let mut stages = Vec::new();
    while let Ok((rest, _)) = symbol("|")(input) {
        let (rest, stage) = stage::stage(rest)?;
        stages.push(stage);
        input = rest;
    }
    Ok((input, Query { source, stages }))
}

// source = name [ "{" [ matcher { "," matcher } [ "," ] ] "}" ] ;
pub(super) fn source(input: Tokens<'_>) -> Parsed<'_, Source> {
    let (input, name) = required_name("a table, a rollup or a verb such as `show`")(input)?;
    let Ok((mut input, _)) = symbol("{")(input) else {
        return Ok((input, Source { name, matchers: Vec::new() }));
    };
    let mut matchers = Vec::new();
    while next(input).text != "}" {
        let (rest, matcher) = matcher(input)?;
        matchers.push(matcher);
        input = rest;
        match symbol(",")(input) {
            Ok((rest, _)) => input = rest,
            Err(_) => break,
        }
    }
    let (input, _) = required("`,` or `}`", symbol("}"))(input)?;
    Ok((input, Source { name, matchers }))
}

// matcher = tag-name test ;
fn matcher(input: Tokens<'_>) -> Parsed<'_, Matcher> {
    let (input, tag) = required_name("a tag")(input)?;
    let (input, test) = expr::test(input)?;
    Ok((input, Matcher { tag, test }))
}
