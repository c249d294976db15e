//! What the server says about itself, and the work one can ask for by hand.
//!
//! Invariant: `/health` fails for as long as something is wrong that only a restart or a person can mend.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use query_lang::time::{format_duration, format_time};
use serde_json::json;

use crate::db::{FlushScope, Following};
use crate::server::Doors;
use crate::server::params::Params;
use crate::server::reply::{DOORS, Failure, json_answer};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// v1 clients and Grafana read the number in front and expect 1.8 of a server that has `/write` and `/query`.
const INFLUX_VERSION: &str = concat!("1.8.10-waterclock-", env!("CARGO_PKG_VERSION"));

/// `/ping` is where clients look for the version; the other doors of InfluxDB carry it as InfluxDB does.
pub fn with_influx_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("x-influxdb-version"), HeaderValue::from_static(INFLUX_VERSION));
    headers.insert(HeaderName::from_static("x-influxdb-build"), HeaderValue::from_static("OSS"));
    response
}

pub async fn ping(uri: Uri) -> Response {
    let verbose = Params::of_query(uri.query()).get("verbose").is_some_and(|value| value != "false");
    with_influx_headers(match verbose {
        true => json_answer(StatusCode::OK, &json!({ "version": INFLUX_VERSION })),
        false => StatusCode::NO_CONTENT.into_response(),
    })
}

/// QuestDB's clients, which write to `/write`, ask here which dialects are taken: text, and not their binary one.
pub async fn questdb_settings() -> Response {
    json_answer(StatusCode::OK, &json!({ "config": { "line.proto.support.versions": [1] } }))
}

pub async fn health(State(doors): State<Arc<Doors>>) -> Response {
    let db = Arc::clone(&doors.db);
    // The log may be in the middle of an fsync.
    let trouble =
        doors.blocking(move || Ok(db.trouble())).await.unwrap_or_else(|failure| Some(failure.message));
    let troubles: Vec<String> = doors.health.troubles().into_iter().chain(trouble).collect();
    let (status, word, message) = match troubles.as_slice() {
        [] => (StatusCode::OK, "pass", well(doors.db.following())),
        troubles => (StatusCode::SERVICE_UNAVAILABLE, "fail", troubles.join("; ")),
    };
    let body = json!({
        "name": "waterclock",
        "status": word,
        "message": message,
        "checks": [],
        "version": VERSION,
    });
    with_influx_headers(json_answer(status, &body))
}

fn well(following: Option<Following>) -> String {
    match following {
        None => "ready for writes and queries".to_string(),
        Some(Following { commit, checked, changed }) => format!(
            "ready for queries only, at commit {commit}: newest {} s ago, changed {} s ago",
            checked.as_secs(),
            changed.as_secs()
        ),
    }
}

pub async fn ready(State(doors): State<Arc<Doors>>) -> Response {
    let up = doors.db.clock().now().saturating_sub(doors.started);
    let up_seconds = up - up % query_lang::time::SECOND;
    let body = json!({
        "status": "ready",
        "started": format_time(doors.started),
        "up": format_duration(up_seconds),
    });
    with_influx_headers(json_answer(StatusCode::OK, &body))
}

pub async fn metrics(State(doors): State<Arc<Doors>>) -> Response {
    let of_thread = Arc::clone(&doors);
    let rendered = doors.blocking(move || {
        of_thread.db.measure();
        Ok(of_thread.recorder.render())
    });
    match rendered.await {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
        }
        Err(failure) => failure.into_response(),
    }
}

pub async fn flush(State(doors): State<Arc<Doors>>) -> Response {
    let db = Arc::clone(&doors.db);
    let blocks = doors.blocking(move || db.flush(FlushScope::All).map_err(Failure::from)).await;
    match blocks {
        Ok(blocks) => json_answer(StatusCode::OK, &json!({ "blocks": blocks })),
        Err(failure) => failure.into_response(),
    }
}

/// `force=on` merges wherever there is more than one block, due or not.
pub async fn compact(State(doors): State<Arc<Doors>>, uri: Uri) -> Response {
    let force = || {
        let params = Params::of_query(uri.query());
        params.refuse_unknown(&["force"])?;
        params.switch("force", false)
    };
    let force = match force() {
        Ok(force) => force,
        Err(failure) => return failure.into_response(),
    };
    let db = Arc::clone(&doors.db);
    match doors.blocking(move || db.compact(force).map_err(Failure::from)).await {
        Ok(merges) => json_answer(StatusCode::OK, &json!({ "merges": merges })),
        Err(failure) => failure.into_response(),
    }
}

/// The doors, for those who look at `/` without a browser.
pub fn overview() -> String {
    format!(
        "waterclock {VERSION}: a streaming time-series database\n\n{}\n\n\
         write  curl -X POST 'http://HOST/write?db=default' --data-binary 'cpu,host=a usage=0.5'\n\
         ask    curl 'http://HOST/api/wql' -d 'cpu | last 1h | every 1m avg(usage)'\n",
        DOORS.replace("; ", "\n")
    )
}
