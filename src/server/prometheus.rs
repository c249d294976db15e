//! Prometheus' HTTP API: queries, series and labels, and what Grafana asks of a server.
//!
//! Invariant: every answer has Prometheus' shape, `status` before all else, and an error one of its types; parameters that are not known
//! here are overlooked, as Prometheus does. One more than Prometheus has says whose data are meant: `db`.
//! Not here: the language (`promql`), where samples come from (`db`).

mod exemplars;
mod federate;
mod json; // values as Prometheus writes them
mod query;
mod series; // series, labels and their values
mod status; // what a server says of itself
mod time; // times and durations of parameters
mod tree; // parsed queries as JSON

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use serde_json::Value;

use crate::promql;
use crate::server::params::Params;
use crate::server::reply::{Failure, json_answer};
use crate::server::{Doors, body};

pub fn routes() -> Router<Arc<Doors>> {
    Router::new()
        .route("/api/v1/query", get(query::instant).post(query::instant))
        .route("/api/v1/query_range", get(query::range).post(query::range))
        .route("/api/v1/query_exemplars", get(exemplars::exemplars).post(exemplars::exemplars))
        .route("/api/v1/format_query", get(query::format_query).post(query::format_query))
        .route("/api/v1/parse_query", get(query::parse).post(query::parse))
        .route("/api/v1/series", get(series::series).post(series::series))
        .route("/api/v1/labels", get(series::labels).post(series::labels))
        .route("/api/v1/label/{name}/values", get(series::values))
        .route("/api/v1/metadata", get(status::metadata))
        .route("/api/v1/rules", get(status::rules))
        .route("/api/v1/alerts", get(status::alerts))
        .route("/api/v1/targets", get(status::targets))
        .route("/api/v1/targets/metadata", get(status::none))
        .route("/api/v1/scrape_pools", get(status::scrape_pools))
        .route("/api/v1/alertmanagers", get(status::alertmanagers))
        .route("/api/v1/notifications", get(status::none))
        .route("/api/v1/status/walreplay", get(status::replay))
        .route("/federate", get(federate::federate))
        .route("/api/v1/status/buildinfo", get(status::build))
        .route("/api/v1/status/runtimeinfo", get(status::runtime))
        .route("/api/v1/status/flags", get(status::flags))
        .route("/api/v1/status/config", get(status::config))
        .route("/api/v1/status/tsdb", get(status::tsdb))
        .route("/-/ready", get(status::ready))
        .route("/-/healthy", get(status::ready))
}

/// The parameters of a request, those of a form's body before those of the URL.
async fn params(doors: &Arc<Doors>, request: Request) -> Result<Params, Failure> {
    let in_url = Params::of_query(request.uri().query());
    if *request.method() != Method::POST {
        return Ok(in_url);
    }
    let body = body::read(request, doors).await?.decode()?;
    Ok(Params::of_form(&body.bytes).and(in_url))
}

/// A parameter that cannot be read, in Prometheus' words.
fn bad_parameter(name: &str, why: impl std::fmt::Display) -> Failure {
    Failure::parameter(format!("invalid parameter {name:?}: {why}"))
}

#[derive(Serialize)]
struct Success {
    status: &'static str,
    data: Value,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'static [&'static str],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorAnswer {
    status: &'static str,
    error_type: &'static str,
    error: String,
}

fn success(data: Value) -> Response {
    success_cut(data, false)
}

/// With the warning that the answer was cut short.
fn success_cut(data: Value, is_cut: bool) -> Response {
    let warnings: &[&str] = if is_cut { &[TRUNCATED] } else { &[] };
    json_answer(StatusCode::OK, &Success { status: "success", data, warnings })
}

const TRUNCATED: &str = "results truncated due to limit";

fn answer(outcome: Result<Response, Failure>) -> Response {
    outcome.unwrap_or_else(|failure| error(&failure))
}

/// An error with one of Prometheus' types and the status that goes with it.
fn error(failure: &Failure) -> Response {
    let (kind, status) = match failure.code {
        "query_too_slow" => ("timeout", StatusCode::SERVICE_UNAVAILABLE),
        "cancelled" | "query_killed" => ("canceled", StatusCode::SERVICE_UNAVAILABLE),
        promql::FAILED => ("execution", StatusCode::UNPROCESSABLE_ENTITY),
        _ => match failure.status {
            StatusCode::SERVICE_UNAVAILABLE => ("unavailable", failure.status),
            StatusCode::UNPROCESSABLE_ENTITY => ("execution", failure.status),
            StatusCode::NOT_FOUND => ("not_found", failure.status),
            status if status.is_server_error() => ("internal", status),
            status => ("bad_data", status),
        },
    };
    if failure.status.is_server_error() {
        tracing::warn!(code = failure.code, error = failure.message, "a request failed");
    }
    let body = ErrorAnswer { status: "error", error_type: kind, error: failure.sentence() };
    Failure::new(status, failure.code, failure.sentence()).answer(&body)
}

/// How many entries an answer may have; None: all.
fn limit(params: &Params) -> Result<Option<usize>, Failure> {
    let Some(text) = params.get("limit") else { return Ok(None) };
    match text.parse::<i64>() {
        Ok(0) => Ok(None),
        Ok(limit) => match usize::try_from(limit) {
            Ok(limit) => Ok(Some(limit)),
            Err(_) => Err(bad_parameter("limit", "limit must be non-negative")),
        },
        Err(_) => Err(bad_parameter("limit", format!("cannot parse {text:?} to a number"))),
    }
}

fn text_answer(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
