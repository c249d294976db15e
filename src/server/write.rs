//! Line protocol over HTTP, as InfluxDB 1, 2 and 3 take it.
//!
//! Invariant: 204 only after every line is durable and readable. A body with bad lines stores the good ones (v3 can ask
//! for all or nothing) and is answered 400, in the words by which clients of that version know that nothing is gained by
//! sending it again; what may pass later is 503.
//! Not here: lines (`ingest`), compression (`body`).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::db::{Lines, Written};
use crate::ingest::line_protocol::{LineError, Precision};
use crate::server::admin::with_influx_headers;
use crate::server::params::Params;
use crate::server::reply::Failure;
use crate::server::{Doors, body, store};

#[derive(Clone, Copy)]
enum Version {
    V1,
    V2,
    V3,
}

/// What the parameters ask for.
struct Wanted {
    database: String,
    precision: Precision,
    accept_partial: bool,
}

pub async fn v1(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    write(&doors, request, Version::V1).await
}

pub async fn v2(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    write(&doors, request, Version::V2).await
}

pub async fn v3(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    write(&doors, request, Version::V3).await
}

async fn write(doors: &Arc<Doors>, request: Request, version: Version) -> Response {
    let response = match written(doors, request, version).await {
        Ok((_, written)) if written.errors.is_empty() => StatusCode::NO_CONTENT.into_response(),
        Ok((accept_partial, written)) => {
            let listed_max = doors.db.config().limits.line_errors_listed_max;
            version.refused_lines(accept_partial, &written, listed_max)
        }
        Err(failure) => {
            if failure.status.is_server_error() {
                tracing::warn!(code = failure.code, error = failure.message, "a write failed");
            }
            version.failure(&failure)
        }
    };
    with_influx_headers(response)
}

async fn written(doors: &Arc<Doors>, request: Request, version: Version) -> Result<(bool, Written), Failure> {
    let wanted = version.wanted(&Params::of_query(request.uri().query()))?;
    let accept_partial = wanted.accept_partial;
    let body = body::read(request, doors).await?;
    let written = store::store(doors, body, move |db, body, answer| {
        let lines = Lines {
            database: &wanted.database,
            body: &body.bytes,
            precision: wanted.precision,
            accept_partial: wanted.accept_partial,
        };
        db.write_lines(&lines, |outcome| answer.give(outcome));
    })
    .await?;
    Ok((accept_partial, written))
}

impl Version {
    fn wanted(self, params: &Params) -> Result<Wanted, Failure> {
        let given = params.get("precision");
        let (precision, names) = match self {
            Version::V1 => (Precision::from_v1(given.unwrap_or("n")), "n, ns, u, us, ms, s, m or h"),
            Version::V2 => (Precision::from_v2(given.unwrap_or("ns")), "ns, us, ms or s"),
            Version::V3 => (
                Precision::from_v3(given.unwrap_or("auto")),
                "auto, nanosecond, microsecond, millisecond or second",
            ),
        };
        let precision = precision.ok_or_else(|| {
            let given: String = given.unwrap_or_default().chars().take(64).collect();
            Failure::parameter(format!("the precision {given:?} is not known; give {names}"))
        })?;
        Ok(Wanted {
            database: match self {
                Version::V1 | Version::V3 => params.database(&["db"])?,
                Version::V2 => params.database(&["bucket", "bucketID"])?,
            },
            precision,
            accept_partial: match self {
                Version::V3 => params.switch("accept_partial", true)?,
                Version::V1 | Version::V2 => true,
            },
        })
    }

    fn refused_lines(self, accept_partial: bool, written: &Written, listed_max: usize) -> Response {
        let errors = &written.errors;
        let listed = &errors[..errors.len().min(listed_max)];
        let more = errors.len() - listed.len();
        let status = StatusCode::BAD_REQUEST;
        match self {
            // Telegraf looks for "partial write" and then does not send the batch again.
            Version::V1 => self.error(
                status,
                &format!("partial write: {} dropped={}", sentence(listed, more), errors.len()),
            ),
            Version::V2 => Failure::new(status, "", "").answer(&json!({
                "code": "invalid",
                "message": format!("partial write error ({} written): {}", written.points, sentence(listed, more)),
                "line": listed.first().map(|error| error.number),
            })),
            Version::V3 => {
                let mut data: Vec<Value> = listed.iter().map(of_line).collect();
                if more > 0 {
                    data.push(json!({
                        "error_message": and_more(more),
                        "line_number": 0,
                        "original_line": "",
                    }));
                }
                let error = if accept_partial {
                    "partial write of line protocol occurred"
                } else {
                    "parsing failed for write_lp endpoint"
                };
                Failure::new(status, "", "").answer(&json!({ "error": error, "data": data }))
            }
        }
    }

    fn failure(self, failure: &Failure) -> Response {
        match self {
            Version::V1 => {
                let response = failure.answer(&json!({ "error": failure.sentence() }));
                with_error_header(response, &failure.sentence())
            }
            Version::V2 => {
                failure.answer(&json!({ "code": v2_code(failure.status), "message": failure.sentence() }))
            }
            Version::V3 => failure.answer(&json!({ "error": failure.sentence() })),
        }
    }

    fn error(self, status: StatusCode, sentence: &str) -> Response {
        self.failure(&Failure::new(status, "", sentence))
    }
}

/// `line 2: ...; line 5: ...; and 9 more lines`
fn sentence(errors: &[LineError], more: usize) -> String {
    let mut parts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    if more > 0 {
        parts.push(and_more(more));
    }
    parts.join("; ")
}

fn and_more(more: usize) -> String {
    format!("and {more} more lines (line_errors_listed_max limits how many are named)")
}

fn of_line(error: &LineError) -> Value {
    json!({ "error_message": error.what, "line_number": error.number, "original_line": error.text })
}

/// The words of InfluxDB 2's own error model.
fn v2_code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "not found",
        StatusCode::CONFLICT => "conflict",
        StatusCode::PAYLOAD_TOO_LARGE => "request too large",
        StatusCode::UNPROCESSABLE_ENTITY => "unprocessable entity",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        status if status.is_server_error() => "internal error",
        _ => "invalid",
    }
}

/// v1 clients that do not read bodies read this.
fn with_error_header(mut response: Response, sentence: &str) -> Response {
    const BYTES_MAX: usize = 1_024;
    let cut = &sentence[..sentence.floor_char_boundary(BYTES_MAX)];
    let clean: String = cut.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if let Ok(value) = HeaderValue::from_bytes(clean.as_bytes()) {
        response.headers_mut().insert(HeaderName::from_static("x-influxdb-error"), value);
    }
    response
}
