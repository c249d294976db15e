//! `create rollup`, `drop rollup`, and what is done to one that there is.

use nom::Parser;
use nom::combinator::opt;

use crate::ast::{ChangeRollup, CreateRollup, RollupChange, StatementKind};
use crate::plan::Keep;

use super::alter;
use super::read::{Parsed, Tokens, keyword, next, required, required_name};
use super::source;
use super::stage;

// create = "create" "rollup" name "as" query [ keep ] ;
pub(super) fn create(input: Tokens<'_>) -> Parsed<'_, StatementKind> {
    let (input, _) = keyword("create")(input)?;
    let (input, _) = required("`rollup`", keyword("rollup"))(input)?;
    let (input, name) = required_name("a name for the rollup")(input)?;
    let (input, _) = required("`as` and a query", keyword("as"))(input)?;
    let (input, query) = source::query(input)?;
    let (input, keep) = opt(alter::keep).parse(input)?;
    let keep = keep.unwrap_or(Keep::Default);
    Ok((input, StatementKind::CreateRollup(CreateRollup { name, query, keep })))
}

// drop = "drop" "rollup" name ;
pub(super) fn drop(input: Tokens<'_>) -> Parsed<'_, StatementKind> {
    let (input, _) = keyword("drop")(input)?;
    let (input, _) = required("`rollup`", keyword("rollup"))(input)?;
    let (input, name) = required_name("the name of a rollup")(input)?;
    Ok((input, StatementKind::DropRollup(name)))
}

// pause = ( "pause" | "resume" ) "rollup" name ;
pub(super) fn pause(input: Tokens<'_>) -> Parsed<'_, StatementKind> {
    let change = if next(input).text == "pause" { RollupChange::Pause } else { RollupChange::Resume };
    let (input, _) = required("`rollup`", keyword("rollup"))(&input[1..])?;
    let (input, name) = required_name("the name of a rollup")(input)?;
    Ok((input, StatementKind::ChangeRollup(ChangeRollup { name, change })))
}

// refresh = "refresh" "rollup" name [ range ] ;
pub(super) fn refresh(input: Tokens<'_>) -> Parsed<'_, StatementKind> {
    let (input, _) = keyword("refresh")(input)?;
    let (input, _) = required("`rollup`", keyword("rollup"))(input)?;
    let (input, name) = required_name("the name of a rollup")(input)?;
    let span = next(input).span;
    let (input, range) = opt(stage::range).parse(input)?;
    let change = RollupChange::Refresh(range, span);
    Ok((input, StatementKind::ChangeRollup(ChangeRollup { name, change })))
}
