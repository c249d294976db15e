//! `query_exemplars`: the exemplars of the series that a query's selectors mean.
//!
//! Not here: where exemplars are kept (`exemplars`).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Map, Value, json};
use storage_format::point::{TagSet, TimeRange};

use crate::exemplars::Exemplar;
use crate::promql;
use crate::server::Doors;
use crate::server::prometheus::time::time;
use crate::server::prometheus::{answer, bad_parameter, params, success};
use crate::server::reply::Failure;

pub async fn exemplars(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    answer(found(&doors, request).await)
}

async fn found(doors: &Arc<Doors>, request: Request) -> Result<Response, Failure> {
    let params = params(doors, request).await?;
    let text = params.get("query").unwrap_or_default();
    let expr = promql::parse(text).map_err(|error| bad_parameter("query", error.in_query(text)))?;
    let (start, end) = (time(&params, "start")?, time(&params, "end")?);
    if start.zip(end).is_some_and(|(start, end)| end < start) {
        return Err(bad_parameter("end", "end timestamp must not be before start timestamp"));
    }
    let start = start.map_or(i64::MIN, |start| start.saturating_mul(1_000_000));
    let end = end.map_or(i64::MAX, |end| end.saturating_mul(1_000_000).saturating_add(1));
    let Some(filter) = promql::filter_of(&expr) else { return Ok(success(json!([]))) };
    let database = params.database(&["db"])?;
    let db = Arc::clone(&doors.db);
    let range = TimeRange::new(start, end);
    let found = doors.blocking(move || Ok(db.exemplars(&database, &filter, range)?)).await?;
    Ok(success(by_series(found)))
}

fn by_series(found: Vec<Exemplar>) -> Value {
    let mut series: BTreeMap<Vec<u8>, (TagSet, Vec<Value>)> = BTreeMap::new();
    for Exemplar { series: labels, labels: own, value, time } in found {
        let exemplar = json!({
            "labels": object(&own),
            "value": promql::print::number_text(value),
            "timestamp": time.div_euclid(1_000_000) as f64 / 1e3,
        });
        let entry = series.entry(labels.as_bytes().to_vec());
        entry.or_insert_with(|| (labels, Vec::new())).1.push(exemplar);
    }
    let one = |(labels, exemplars): (TagSet, Vec<Value>)| json!({ "seriesLabels": object(&labels), "exemplars": exemplars });
    series.into_values().map(one).collect()
}

fn object(labels: &TagSet) -> Map<String, Value> {
    labels.iter().map(|(label, value)| (label.to_string(), json!(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exemplars_stand_under_their_series() {
        let of = |host: &str, trace: &str, time| Exemplar {
            series: TagSet::new([("__name__", "x"), ("host", host)]),
            labels: TagSet::new([("trace_id", trace)]),
            value: 1.5,
            time,
        };
        let found =
            by_series(vec![of("b", "1", 1_500_000_000), of("a", "2", 0), of("b", "3", 2_000_000_000)]);
        assert_eq!(
            found,
            json!([
                { "seriesLabels": { "__name__": "x", "host": "a" }, "exemplars": [
                    { "labels": { "trace_id": "2" }, "value": "1.5", "timestamp": 0.0 },
                ] },
                { "seriesLabels": { "__name__": "x", "host": "b" }, "exemplars": [
                    { "labels": { "trace_id": "1" }, "value": "1.5", "timestamp": 1.5 },
                    { "labels": { "trace_id": "3" }, "value": "1.5", "timestamp": 2.0 },
                ] },
            ])
        );
    }
}
