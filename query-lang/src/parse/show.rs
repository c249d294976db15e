//! `show`: what there is.

use crate::ast::{Name, Show, Source, StatementKind};
use crate::error::did_you_mean;

use super::read::{Parsed, Tokens, fail, keyword, next, required, required_name, unexpected};
use super::source;

// show = "show" ( "tables" | "rollups" | "metrics" | "storage" | "tags" "from" name | "fields" "from" name
//               | "values" "of" name "from" source | "series" "from" source | "cardinality" "from" source ) ;
pub(super) fn show(input: Tokens<'_>) -> Parsed<'_, StatementKind> {
    let (input, _) = keyword("show")(input)?;
    let rest = input.get(1..).unwrap_or_default();
    let (rest, show) = match next(input).text {
        "tables" => (rest, Show::Tables),
        "rollups" => (rest, Show::Rollups),
        "metrics" => (rest, Show::Metrics),
        "storage" => (rest, Show::Storage),
        "tags" => {
            let (rest, table) = from(rest)?;
            (rest, Show::Tags { table })
        }
        "fields" => {
            let (rest, table) = from(rest)?;
            (rest, Show::Fields { table })
        }
        "values" => {
            let (rest, _) = required("`of` and a tag", keyword("of"))(rest)?;
            let (rest, tag) = required_name("a tag")(rest)?;
            let (rest, source) = from_source(rest)?;
            (rest, Show::Values { tag, source })
        }
        "series" => {
            let (rest, source) = from_source(rest)?;
            (rest, Show::Series { source })
        }
        "cardinality" => {
            let (rest, source) = from_source(rest)?;
            (rest, Show::Cardinality { source })
        }
        read => {
            let words = [
                "tables",
                "rollups",
                "metrics",
                "storage",
                "tags",
                "fields",
                "values",
                "series",
                "cardinality",
            ];
            let problem = unexpected(input, &words.join(", ")).hint_if(did_you_mean(read, words));
            return fail(problem);
        }
    };
    Ok((rest, StatementKind::Show(show)))
}

fn from(input: Tokens<'_>) -> Parsed<'_, Name> {
    let (input, _) = required("`from` and a table", keyword("from"))(input)?;
    required_name("a table")(input)
}

fn from_source(input: Tokens<'_>) -> Parsed<'_, Source> {
    let (input, _) = required("`from` and a table", keyword("from"))(input)?;
    source::source(input)
}
