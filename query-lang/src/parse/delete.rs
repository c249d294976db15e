//! `delete`: points of some series in some range.

use nom::Parser;
use nom::combinator::opt;

use crate::ast::{Delete, StatementKind};

use super::expr;
use super::read::{Parsed, Tokens, keyword, next, required};
use super::source;
use super::stage;

// delete = "delete" "from" source [ where ] [ range ] ;
pub(super) fn delete(input: Tokens<'_>) -> Parsed<'_, StatementKind> {
    let (input, _) = keyword("delete")(input)?;
    let (input, _) = required("`from` and a table", keyword("from"))(input)?;
    let (mut input, source) = source::source(input)?;
    let mut condition = None;
    if let Ok((rest, _)) = keyword("where")(input) {
        let (rest, read) = expr::expression(rest)?;
        (input, condition) = (rest, Some(read));
    }
    let range_span = next(input).span;
    let (input, range) = opt(stage::range).parse(input)?;
    Ok((input, StatementKind::Delete(Delete { source, condition, range, range_span })))
}
