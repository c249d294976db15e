//! Prometheus' remote write over HTTP, 1.0 and 2.0.
//!
//! Invariant: 204 only after every sample is durable and readable. What is wrong with a request, or with some of its
//! series, is 400 or 415, by which a sender knows not to send it again; what may pass later is 503 with Retry-After.
//! Not here: messages (`ingest`), compression (`body`).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::db::{RemoteWrite, SamplesWritten};
use crate::ingest::Refused;
use crate::ingest::remote_write::Version;
use crate::server::params::Params;
use crate::server::reply::Failure;
use crate::server::{Doors, body, store};

/// How many samples, histograms and exemplars were written.
const WRITTEN: [&str; 3] = [
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];

pub async fn write(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    let version = match version_of(request.headers()) {
        Ok(version) => version,
        Err(failure) => return answer(StatusCode::UNSUPPORTED_MEDIA_TYPE, &failure.sentence()),
    };
    let outcome = written(&doors, request, version).await;
    let counts =
        outcome.as_ref().map_or([0; 3], |written| [written.samples, written.histograms, written.exemplars]);
    let mut response = match outcome {
        Ok(written) if written.refused.count == 0 => StatusCode::NO_CONTENT.into_response(),
        Ok(written) => answer(StatusCode::BAD_REQUEST, &sentence(&written)),
        Err(failure) => failed(&failure),
    };
    if version == Version::V2 {
        for (name, count) in WRITTEN.into_iter().zip(counts) {
            response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(count));
        }
    }
    response
}

async fn written(doors: &Arc<Doors>, request: Request, version: Version) -> Result<SamplesWritten, Failure> {
    let database = Params::of_query(request.uri().query()).database(&["db"])?;
    let body = body::read_snappy(request, doors).await?;
    store::store(doors, body, move |db, body, answer| {
        let request = RemoteWrite { database: &database, message: &body.bytes, version };
        db.write_samples(&request, |outcome| answer.give(outcome));
    })
    .await
}

/// Which message the headers announce, and whether it is snappy's. A missing header means what 1.0 says.
fn version_of(headers: &HeaderMap) -> Result<Version, Failure> {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?").trim());
    let refuse = |message: String| Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_content", message);
    match text(header::CONTENT_ENCODING) {
        None | Some("" | "snappy") => {}
        Some(other) => {
            let shown: String = other.chars().take(64).collect();
            return Err(refuse(format!(
                "the Content-Encoding is {shown:?}; remote write is compressed with snappy (its block format)"
            )));
        }
    }
    let kind = text(header::CONTENT_TYPE).unwrap_or_default();
    let mut parts = kind.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let message = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("proto").then(|| value.trim().trim_matches('"'))
    });
    let is_protobuf = media.is_empty() || media.eq_ignore_ascii_case("application/x-protobuf");
    match message.unwrap_or("prometheus.WriteRequest") {
        "prometheus.WriteRequest" if is_protobuf => Ok(Version::V1),
        "io.prometheus.write.v2.Request" if is_protobuf => Ok(Version::V2),
        _ => {
            let shown: String = kind.chars().take(128).collect();
            Err(refuse(format!(
                "the Content-Type is {shown:?}; send application/x-protobuf, or \
                 application/x-protobuf;proto=io.prometheus.write.v2.Request for remote write 2.0"
            )))
        }
    }
}

/// A few words of text: senders log the first line.
fn answer(status: StatusCode, sentence: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{sentence}\n")).into_response()
}

fn failed(failure: &Failure) -> Response {
    if failure.status.is_server_error() {
        tracing::warn!(code = failure.code, error = failure.message, "a remote write failed");
    }
    let mut response = answer(failure.status, &failure.sentence());
    failure.add_retry_after(&mut response);
    response
}

fn sentence(written: &SamplesWritten) -> String {
    let Refused { count, reasons } = &written.refused;
    let more = count - reasons.len() as u64;
    let mut text = format!(
        "{} samples stored, {count} series or samples refused: {}",
        written.samples,
        reasons.join("; ")
    );
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}
