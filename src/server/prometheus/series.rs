//! `series`, `labels` and `label/<name>/values`: what there is, without samples.
//!
//! Invariant: lists are sorted, and none is ever null.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use serde_json::{Map, Value, json};
use storage_format::point::{TagSet, TimeRange};

use crate::db::Db;
use crate::guard::Guard;
use crate::promql::ast::Matcher;
use crate::promql::parse_selector;
use crate::server::Doors;
use crate::server::params::Params;
use crate::server::prometheus::time::time;
use crate::server::prometheus::{answer, bad_parameter, limit, params, success_cut};
use crate::server::queries::{self, Answered, Asked, Caller};
use crate::server::reply::Failure;
use crate::server::wql::client_of;

/// Which series are meant.
struct Wanted {
    selectors: Vec<Vec<Matcher>>,
    range: TimeRange,
    limit: Option<usize>,
}

pub async fn series(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    let of_series = |all: Vec<TagSet>, limit: usize| {
        let object = |labels: &TagSet| {
            let pairs = labels.iter().map(|(label, value)| (label.to_string(), json!(value)));
            Value::Object(pairs.collect::<Map<_, _>>())
        };
        (all.iter().take(limit).map(object).collect(), all.len() > limit)
    };
    answer(asked(&doors, request, true, of_series).await)
}

pub async fn labels(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    let of_series = |all: Vec<TagSet>, limit: usize| {
        let names: BTreeSet<&str> = all.iter().flat_map(TagSet::iter).map(|(label, _)| label).collect();
        cut(&names, limit)
    };
    answer(asked(&doors, request, false, of_series).await)
}

pub async fn values(State(doors): State<Arc<Doors>>, Path(name): Path<String>, request: Request) -> Response {
    let label = unescaped(&name);
    let of_series = move |all: Vec<TagSet>, limit: usize| {
        let values: BTreeSet<&str> = all.iter().filter_map(|labels| labels.get(&label)).collect();
        cut(&values, limit)
    };
    answer(asked(&doors, request, false, of_series).await)
}

fn cut(names: &BTreeSet<&str>, limit: usize) -> (Vec<Value>, bool) {
    (names.iter().take(limit).map(|name| json!(name)).collect(), names.len() > limit)
}

/// `of_series` makes the list, of at most so many entries, and says whether there were more.
async fn asked(
    doors: &Arc<Doors>,
    request: Request,
    needs_selector: bool,
    of_series: impl FnOnce(Vec<TagSet>, usize) -> (Vec<Value>, bool) + Send + 'static,
) -> Result<Response, Failure> {
    let client = client_of(&request);
    let path = request.uri().path().to_string();
    let params = params(doors, request).await?;
    let wanted = Wanted::read(&params)?;
    if needs_selector && wanted.selectors.is_empty() {
        return Err(Failure::parameter("no match[] parameter provided"));
    }
    let database = params.database(&["db"])?;
    let asked =
        Asked { database: database.clone(), statement: path, caller: Caller { client, timeout: None } };
    let work = move |db: &Db, guard: &Guard| {
        let all = db.promql_series(&wanted.selectors, wanted.range, &database, guard)?;
        let answer = of_series(all, wanted.limit.unwrap_or(usize::MAX));
        Ok(Answered { bytes: Some(0), rollups: Vec::new(), answer })
    };
    let ((list, is_cut), _held) = queries::run(doors, asked, work).await?;
    Ok(success_cut(Value::Array(list), is_cut))
}

impl Wanted {
    fn read(params: &Params) -> Result<Wanted, Failure> {
        let selector =
            |text: &str| parse_selector(text).map_err(|error| bad_parameter("match[]", error.in_query(text)));
        let selectors = params.all("match[]").map(selector).collect::<Result<_, _>>()?;
        let start = time(params, "start")?;
        let end = time(params, "end")?;
        if start.zip(end).is_some_and(|(start, end)| end < start) {
            return Err(bad_parameter("end", "end timestamp must not be before start time"));
        }
        let start = start.map_or(i64::MIN, |start| start.saturating_mul(1_000_000));
        let end = end.map_or(i64::MAX, |end| end.saturating_mul(1_000_000).saturating_add(1));
        Ok(Wanted { selectors, range: TimeRange::new(start, end), limit: limit(params)? })
    }
}

/// Names that are no identifiers come as `U__http_2e_method`: code points in hexadecimal between underscores, two underscores for one.
fn unescaped(name: &str) -> String {
    let Some(mut rest) = name.strip_prefix("U__") else { return name.to_string() };
    let mut out = String::new();
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let c = rest.find('_').and_then(|end| {
            let c = u32::from_str_radix(&rest[..end], 16).ok().and_then(char::from_u32)?;
            rest = &rest[end + 1..];
            Some(c)
        });
        match c {
            Some(c) => out.push(c),
            // Not escaped after all.
            None => return name.to_string(),
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_read() {
        assert_eq!(unescaped("job"), "job");
        assert_eq!(unescaped("U__http_2e_method"), "http.method");
        assert_eq!(unescaped("U__a__b_20_c"), "a_b c");
        assert_eq!(unescaped("U__a_zz_b"), "U__a_zz_b");
    }
}
