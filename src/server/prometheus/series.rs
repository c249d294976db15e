//! `series`, `labels` and `label/<name>/values`: what there is, without samples.
//!
//! Invariant: lists are sorted, and none is ever null.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use serde_json::{Map, Value, json};
use storage_format::point::{TagSet, TimeRange};

use crate::db::Db;
use crate::error::Result;
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
    database: String,
    selectors: Vec<Vec<Matcher>>,
    range: TimeRange,
    limit: Option<usize>,
}

pub async fn series(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    let work = |db: &Db, wanted: &Wanted, guard: &Guard| {
        let all = db.promql_series(&wanted.selectors, wanted.range, &wanted.database, guard)?;
        let object = |labels: &TagSet| {
            let pairs = labels.iter().map(|(label, value)| (label.to_string(), json!(value)));
            Value::Object(pairs.collect::<Map<_, _>>())
        };
        Ok(wanted.cut(&all, object))
    };
    answer(asked(&doors, request, true, work).await)
}

pub async fn labels(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    let work = |db: &Db, wanted: &Wanted, guard: &Guard| {
        let names = db.promql_label_names(&wanted.selectors, wanted.range, &wanted.database, guard)?;
        Ok(wanted.cut(&names, |name| json!(name)))
    };
    answer(asked(&doors, request, false, work).await)
}

pub async fn values(State(doors): State<Arc<Doors>>, Path(name): Path<String>, request: Request) -> Response {
    let label = unescaped(&name);
    let work = move |db: &Db, wanted: &Wanted, guard: &Guard| {
        let (selectors, range) = (&wanted.selectors, wanted.range);
        let values = db.promql_label_values(&label, selectors, range, &wanted.database, guard)?;
        Ok(wanted.cut(&values, |value| json!(value)))
    };
    answer(asked(&doors, request, false, work).await)
}

/// A list, and whether there was more of it.
type List = (Vec<Value>, bool);

async fn asked(
    doors: &Arc<Doors>,
    request: Request,
    needs_selector: bool,
    work: impl FnOnce(&Db, &Wanted, &Guard) -> Result<List> + Send + 'static,
) -> Result<Response, Failure> {
    let client = client_of(&request);
    let path = request.uri().path().to_string();
    let params = params(doors, request).await?;
    let wanted = Wanted::read(&params)?;
    if needs_selector && wanted.selectors.is_empty() {
        return Err(Failure::parameter("no match[] parameter provided"));
    }
    let caller = Caller { client, timeout: None };
    let asked = Asked { database: wanted.database.clone(), statement: path, caller };
    let work = move |db: &Db, guard: &Guard| {
        let answer = work(db, &wanted, guard)?;
        Ok(Answered { bytes: Some(0), rollups: Vec::new(), answer })
    };
    let ((list, is_cut), _held) = queries::run(doors, asked, work).await?;
    Ok(success_cut(Value::Array(list), is_cut))
}

/// Every `match[]`.
pub fn selectors(params: &Params) -> Result<Vec<Vec<Matcher>>, Failure> {
    let selector =
        |text: &str| parse_selector(text).map_err(|error| bad_parameter("match[]", error.in_query(text)));
    params.all("match[]").map(selector).collect()
}

impl Wanted {
    fn read(params: &Params) -> Result<Wanted, Failure> {
        let selectors = selectors(params)?;
        let start = time(params, "start")?;
        let end = time(params, "end")?;
        let start = start.map_or(i64::MIN, |start| start.saturating_mul(1_000_000));
        let end = end.map_or(i64::MAX, |end| end.saturating_mul(1_000_000).saturating_add(1));
        // As in Prometheus nothing lies in a range that ends before it begins.
        let end = end.max(start);
        Ok(Wanted {
            database: params.database(&["db"])?,
            selectors,
            range: TimeRange::new(start, end),
            limit: limit(params)?,
        })
    }

    fn cut<T>(&self, all: &[T], json: impl Fn(&T) -> Value) -> List {
        let limit = self.limit.unwrap_or(usize::MAX);
        (all.iter().take(limit).map(json).collect(), all.len() > limit)
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
