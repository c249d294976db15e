//! `alter`: how long a table's, a rollup's or a database's data are kept, what becomes of a table's points that come after
//! that, and what a rollup keeps.

use crate::ast::{Alter, AlterTarget, ChangeRollup, RollupChange, StatementKind};
use crate::error::ErrorKind;
use crate::error::Problem;
use crate::error::did_you_mean;
use crate::plan::{Keep, Late};

use super::literal;
use super::read::{Parsed, Tokens, fail, keyword, list, next, not_here, required_name, unexpected};
use super::stage;
use super::token::Kind;

// alter = "alter" ( "table" name ( keep [ late ] | late ) | "database" [ name ] keep | "rollup" name ( keep | "add" items | "drop" items ) ) ;
pub(super) fn alter(input: Tokens<'_>) -> Parsed<'_, StatementKind> {
    let (input, _) = keyword("alter")(input)?;
    let rest = input.get(1..).unwrap_or_default();
    let (rest, target) = match next(input).text {
        "table" => {
            let (rest, name) = required_name("a table")(rest)?;
            (rest, AlterTarget::Table(name))
        }
        "rollup" => {
            let (rest, name) = required_name("the name of a rollup")(rest)?;
            for (word, change) in [("add", RollupChange::Add as fn(_) -> _), ("drop", RollupChange::Drop)] {
                if let Ok((rest, _)) = keyword(word)(rest) {
                    let (rest, items) = list(rest, stage::item)?;
                    let change = ChangeRollup { name, change: change(items) };
                    return Ok((rest, StatementKind::ChangeRollup(change)));
                }
            }
            (rest, AlterTarget::Rollup(name))
        }
        "database" if keyword("keep")(rest).is_ok() => (rest, AlterTarget::Database(None)),
        "database" => {
            let (rest, name) = required_name("a database, or `keep` for this one")(rest)?;
            (rest, AlterTarget::Database(Some(name)))
        }
        read => {
            let words = ["table", "rollup", "database"];
            return fail(unexpected(input, &words.join(", ")).hint_if(did_you_mean(read, words)));
        }
    };
    let (after, kept) = match keep(rest) {
        Err(nom::Err::Error(_)) => (rest, None),
        kept => kept.map(|(after, kept)| (after, Some(kept)))?,
    };
    if kept == Some(Keep::Default) && matches!(target, AlterTarget::Database(_)) {
        let message = "a database has nothing above it that could say how long its data are kept";
        let span = rest.get(1).map_or(next(rest).span, |token| token.span);
        return fail(Problem::new(ErrorKind::Unsupported, span, message).hint("write `keep forever`"));
    }
    let (after, late) = match late(after) {
        Err(nom::Err::Error(_)) => (after, None),
        Ok(_) if !matches!(target, AlterTarget::Table(_)) => {
            let message = "late points are written to tables, so that `late` is about a table";
            let problem = Problem::new(ErrorKind::Unsupported, next(after).span, message);
            return fail(problem.hint("use `alter table NAME late ...`"));
        }
        late => late.map(|(after, late)| (after, Some(late)))?,
    };
    if kept.is_none() && late.is_none() {
        let (expected, words) = match target {
            AlterTarget::Table(_) => {
                ("`keep` and how long, for example `keep 30d`, or `late`", &["keep", "late"][..])
            }
            AlterTarget::Rollup(_) => {
                ("`keep` and how long, `add` or `drop` and aggregates", &["keep", "add", "drop"][..])
            }
            AlterTarget::Database(_) => ("`keep` and how long, for example `keep 30d`", &["keep"][..]),
        };
        return fail(
            unexpected(rest, expected).hint_if(did_you_mean(next(rest).text, words.iter().copied())),
        );
    }
    Ok((after, StatementKind::Alter(Alter { target, keep: kept, late })))
}

// late = "late" ( "merge" | "refuse" ) ;
fn late(input: Tokens<'_>) -> Parsed<'_, Late> {
    let Ok((input, _)) = keyword("late")(input) else { return not_here() };
    for (word, late) in [("merge", Late::Merge), ("refuse", Late::Refuse)] {
        if let Ok((rest, _)) = keyword(word)(input) {
            return Ok((rest, late));
        }
    }
    let problem = unexpected(input, "`merge` or `refuse`");
    fail(problem.hint_if(did_you_mean(next(input).text, ["merge", "refuse"])))
}

// keep = "keep" ( duration | "forever" | "default" ) ;
pub(super) fn keep(input: Tokens<'_>) -> Parsed<'_, Keep> {
    let Ok((input, _)) = keyword("keep")(input) else { return not_here() };
    for (word, keep) in [("forever", Keep::Forever), ("default", Keep::Default)] {
        if let Ok((rest, _)) = keyword(word)(input) {
            return Ok((rest, keep));
        }
    }
    if next(input).kind != Kind::Literal {
        let problem = unexpected(input, "a duration such as 30d, `forever` or `default`");
        return fail(problem.hint_if(did_you_mean(next(input).text, ["forever", "default"])));
    }
    let (rest, length) = literal::duration("time to keep data", "d")(input)?;
    Ok((rest, Keep::For(length)))
}
