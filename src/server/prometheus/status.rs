//! What a server says of itself, where Grafana and people look for it in Prometheus.
//!
//! Grafana chooses what it offers by `version` of `buildinfo`: it is the version of Prometheus whose API and language this is, and the
//! other fields say who really answers. There are no rules, alerts and targets here, so their lists are empty.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use hashbrown::HashMap;
use query_lang::time::format_time;
use serde_json::{Map, Value, json};
use storage_format::point::{TagSet, TimeRange};

use crate::db::{Db, MetricMetadata};
use crate::guard::Guard;
use crate::promql::NAME;
use crate::server::Doors;
use crate::server::prometheus::{answer, bad_parameter, limit, params, success, text_answer};
use crate::server::queries::{self, Answered, Asked, Caller};
use crate::server::reply::Failure;
use crate::server::wql::client_of;

/// Whose API and language this is.
const PROMETHEUS_VERSION: &str = "3.5.0";

/// Entries of each list of `tsdb`, unless `limit` says otherwise.
const TOP_DEFAULT: usize = 10;

pub async fn build() -> Response {
    success(json!({
        "version": PROMETHEUS_VERSION,
        "revision": concat!("waterclock-", env!("CARGO_PKG_VERSION")),
        "branch": "waterclock",
        "buildUser": "waterclock",
        "buildDate": "",
        "goVersion": "",
    }))
}

pub async fn runtime(State(doors): State<Arc<Doors>>) -> Response {
    let time = |time| format_time(time);
    success(json!({
        "startTime": time(doors.started),
        "CWD": "",
        "hostname": "",
        "serverTime": time(doors.db.clock().now()),
        "reloadConfigSuccess": true,
        "lastConfigTime": time(doors.started),
        "corruptionCount": 0,
        "goroutineCount": 0,
        "GOMAXPROCS": rayon::current_num_threads(),
        "GOMEMLIMIT": 0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": "",
    }))
}

pub async fn flags() -> Response {
    success(json!({}))
}

pub async fn config() -> Response {
    success(json!({ "yaml": "" }))
}

pub async fn rules(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    answer(no_rules(&doors, request).await)
}

async fn no_rules(doors: &Arc<Doors>, request: Request) -> Result<Response, Failure> {
    match params(doors, request).await?.get("type") {
        None | Some("alert" | "record") => Ok(success(json!({ "groups": [] }))),
        Some(other) => Err(bad_parameter("type", format!("not supported value {other:?}"))),
    }
}

pub async fn targets() -> Response {
    success(json!({ "activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {} }))
}

pub async fn scrape_pools() -> Response {
    success(json!({ "scrapePools": [] }))
}

pub async fn alertmanagers() -> Response {
    success(json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] }))
}

/// A list of what there is none of here.
pub async fn none() -> Response {
    success(json!([]))
}

/// A server that answers has replayed its log.
pub async fn replay() -> Response {
    success(json!({ "min": 0, "max": 0, "current": 0, "state": "done" }))
}

pub async fn alerts() -> Response {
    success(json!({ "alerts": [] }))
}

pub async fn metadata(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    answer(known(&doors, request).await)
}

/// One entry per metric: what is said later replaces what was said before.
async fn known(doors: &Arc<Doors>, request: Request) -> Result<Response, Failure> {
    let client = client_of(&request);
    let params = params(doors, request).await?;
    let limit = limit(&params)?;
    let metric = params.get("metric").map(str::to_string);
    let database = params.database(&["db"])?;
    let statement = "/api/v1/metadata".to_string();
    let asked = Asked { database: database.clone(), statement, caller: Caller { client, timeout: None } };
    let work = move |db: &Db, guard: &Guard| {
        let known = db.metric_metadata(&database, metric.as_deref(), guard)?;
        let entry = |MetricMetadata { metric, kind, help, unit }: MetricMetadata| {
            (metric, json!([{ "type": kind, "help": help, "unit": unit }]))
        };
        let entries: Map<String, Value> =
            known.into_iter().take(limit.unwrap_or(usize::MAX)).map(entry).collect();
        Ok(Answered { answer: Value::Object(entries), bytes: Some(0), rollups: Vec::new() })
    };
    let (data, _held) = queries::run(doors, asked, work).await?;
    Ok(success(data))
}

pub async fn ready() -> Response {
    text_answer("Waterclock is ready.\n")
}

pub async fn tsdb(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    answer(statistics(&doors, request).await)
}

async fn statistics(doors: &Arc<Doors>, request: Request) -> Result<Response, Failure> {
    let client = client_of(&request);
    let params = params(doors, request).await?;
    let top = match params.get("limit") {
        None => TOP_DEFAULT,
        Some(text) => match text.parse() {
            Ok(0) | Err(_) => return Err(bad_parameter("limit", "limit must be a positive number")),
            Ok(top) => top,
        },
    };
    let database = params.database(&["db"])?;
    let statement = "/api/v1/status/tsdb".to_string();
    let asked = Asked { database: database.clone(), statement, caller: Caller { client, timeout: None } };
    let work = move |db: &Db, guard: &Guard| {
        let series = db.promql_series(&[], TimeRange::ALL, &database, guard)?;
        let mut answer = cardinalities(&series, top);
        let [first, last] = match db.promql_times(&database) {
            Some(times) => [times.start, times.end - 1].map(|time| time.div_euclid(1_000_000)),
            // As a Prometheus without samples says it.
            None => [i64::MAX, i64::MIN],
        };
        answer["headStats"]["minTime"] = first.into();
        answer["headStats"]["maxTime"] = last.into();
        Ok(Answered { answer, bytes: Some(0), rollups: Vec::new() })
    };
    let (data, _held) = queries::run(doors, asked, work).await?;
    Ok(success(data))
}

/// What multiplies the series: names, labels and pairs with the most of them.
fn cardinalities(series: &[TagSet], top: usize) -> Value {
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    let mut labels: HashMap<&str, HashMap<&str, usize>> = HashMap::new();
    for one in series {
        *by_name.entry(one.get(NAME).unwrap_or_default()).or_default() += 1;
        for (label, value) in one.iter() {
            *labels.entry(label).or_default().entry(value).or_default() += 1;
        }
    }
    let values = labels.iter().map(|(label, values)| (label.to_string(), values.len()));
    let bytes = labels.iter().map(|(label, values)| {
        let text: usize = values.keys().map(|value| value.len()).sum();
        (label.to_string(), text)
    });
    let pairs = labels.iter().flat_map(|(label, values)| {
        values.iter().map(move |(value, count)| (format!("{label}={value}"), *count))
    });
    let pair_count: usize = labels.values().map(HashMap::len).sum();
    let mut data = Map::new();
    data.insert("headStats".to_string(), json!({ "numSeries": series.len(), "numLabelPairs": pair_count }));
    data.insert(
        "seriesCountByMetricName".to_string(),
        most(by_name.into_iter().map(|(name, count)| (name.to_string(), count)), top),
    );
    data.insert("labelValueCountByLabelName".to_string(), most(values, top));
    data.insert("memoryInBytesByLabelName".to_string(), most(bytes, top));
    data.insert("seriesCountByLabelValuePair".to_string(), most(pairs, top));
    Value::Object(data)
}

fn most(counts: impl Iterator<Item = (String, usize)>, top: usize) -> Value {
    let mut counts: Vec<(String, usize)> = counts.collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts.truncate(top);
    counts.into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first() {
        let series = [
            TagSet::new([(NAME, "up"), ("job", "a"), ("host", "1")]),
            TagSet::new([(NAME, "up"), ("job", "a"), ("host", "2")]),
            TagSet::new([(NAME, "down"), ("job", "a"), ("host", "3")]),
        ];
        let found = cardinalities(&series, 1);
        assert_eq!(found["headStats"], json!({ "numSeries": 3, "numLabelPairs": 6 }));
        assert_eq!(found["seriesCountByMetricName"], json!([{ "name": "up", "value": 2 }]));
        assert_eq!(found["labelValueCountByLabelName"], json!([{ "name": "host", "value": 3 }]));
        assert_eq!(found["seriesCountByLabelValuePair"], json!([{ "name": "job=a", "value": 3 }]));
    }
}
