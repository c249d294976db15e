//! `create rollup` and `drop rollup`.

use nom::Parser;
use nom::combinator::opt;

use crate::ast::{CreateRollup, StatementKind};
use crate::plan::Keep;

use super::alter;
use super::read::{Parsed, Tokens, keyword, required, required_name};
use super::source;

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
