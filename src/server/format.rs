//! The forms an answer can have, and sending it in one of them.
//!
//! Invariant: an answer is made into text or file in bounded pieces, the next one when the client has taken the last, on a
//! thread that may be busy. Every form says what gave the answer: JSON in itself, Arrow and Parquet in their metadata, and
//! all of them in the headers `x-waterclock-stats` and `x-waterclock-warnings`.
//! Not here: the forms themselves (`json`, `csv`, `ipc`, `parquet`).

use std::io;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::query::Answer;
use crate::server::cells::TimeFormat;
use crate::server::csv::Csv;
use crate::server::ipc::Ipc;
use crate::server::json;
use crate::server::params::Params;
use crate::server::parquet::Parquet;
use crate::server::queries::Ticket;
use crate::server::reply::Failure;
use crate::server::wql::Running;

#[derive(Clone, Copy, PartialEq)]
pub enum Format {
    Json,
    Ndjson,
    Csv,
    Arrow,
    Parquet,
}

const STATS: HeaderName = HeaderName::from_static("x-waterclock-stats");
const WARNINGS: HeaderName = HeaderName::from_static("x-waterclock-warnings");

/// Bytes of the warnings in a header; clients give up on heads that are much larger.
const WARNINGS_BYTES_MAX: usize = 4 << 10;

/// An answer of so few rows costs less than the way to another thread.
const ROWS_AT_ONCE: usize = 1_000;

/// Pieces that wait for the client.
const PIECES_AHEAD: usize = 2;

impl Format {
    /// The parameter `format`, or else the first type of `Accept` that we have. Weights are not looked at: who weighs has
    /// listed the best first.
    pub fn of(params: &Params, headers: &HeaderMap) -> Result<Format, Failure> {
        match params.get("format") {
            None => {}
            Some("json") => return Ok(Format::Json),
            Some("ndjson") => return Ok(Format::Ndjson),
            Some("csv") => return Ok(Format::Csv),
            Some("arrow") => return Ok(Format::Arrow),
            Some("parquet") => return Ok(Format::Parquet),
            Some(other) => {
                return Err(Failure::parameter(format!(
                    "format is {other:?}; give json, csv, ndjson, arrow or parquet"
                )));
            }
        }
        let Some(accept) = headers.get(header::ACCEPT) else { return Ok(Format::Json) };
        let accept = accept.to_str().unwrap_or_default();
        let known =
            accept.split(',').find_map(|one| match one.split(';').next().unwrap_or_default().trim() {
                "" | "*/*" | "application/*" | "application/json" => Some(Format::Json),
                "application/x-ndjson" | "application/ndjson" => Some(Format::Ndjson),
                "text/csv" | "text/*" => Some(Format::Csv),
                "application/vnd.apache.arrow.stream" => Some(Format::Arrow),
                "application/vnd.apache.parquet" => Some(Format::Parquet),
                _ => None,
            });
        known.ok_or_else(|| {
            Failure::new(
                StatusCode::NOT_ACCEPTABLE,
                "accept",
                "none of the types in Accept can be had; there are application/json, text/csv, application/x-ndjson, \
                 application/vnd.apache.arrow.stream and application/vnd.apache.parquet",
            )
        })
    }

    fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::Arrow => "application/vnd.apache.arrow.stream",
            Format::Parquet => "application/vnd.apache.parquet",
        }
    }

    fn pieces(self, answer: Answer, times: TimeFormat) -> Box<dyn Iterator<Item = Bytes> + Send> {
        match self {
            Format::Json => Box::new(json::Document::new(answer, times)),
            Format::Ndjson => Box::new(json::Lines::new(&answer, times)),
            Format::Csv => Box::new(Csv::new(&answer, times)),
            Format::Arrow => Box::new(Ipc::new(answer)),
            Format::Parquet => Box::new(Parquet::new(answer)),
        }
    }
}

pub fn respond(running: Running, format: Format, times: TimeFormat) -> Response {
    let Running { mut answer, held } = running;
    if matches!(format, Format::Json | Format::Ndjson) {
        let unsaid = json::unsaid(&answer);
        answer.warnings.extend(unsaid);
    }
    let head = [
        (header::CONTENT_TYPE, HeaderValue::from_static(format.content_type())),
        (STATS, header_value(&json::stats_text(&answer.stats))),
        (WARNINGS, header_value(&json::warnings_text(&first_warnings(&answer.warnings)))),
    ];
    if answer.rows() <= ROWS_AT_ONCE {
        let whole: Vec<u8> = format.pieces(answer, times).flatten().collect();
        return (head, whole).into_response();
    }
    (head, stream(format.pieces(answer, times), held)).into_response()
}

/// A body of pieces, the next one when the client has taken the last. The query stays on the list until then.
pub fn stream(pieces: impl Iterator<Item = Bytes> + Send + 'static, held: Ticket) -> Body {
    let (send, receive) = mpsc::channel::<io::Result<Bytes>>(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        for piece in pieces {
            // Place and memory go with the last piece, or with the connection. An answer cut short must not look whole.
            let piece = held.guard().check().map(|()| piece).map_err(io::Error::other);
            let ended = piece.is_err();
            if send.blocking_send(piece).is_err() || ended {
                return;
            }
        }
    });
    Body::from_stream(ReceiverStream::new(receive))
}

fn first_warnings(warnings: &[String]) -> Vec<String> {
    let mut first = Vec::new();
    let mut bytes = 0;
    for (at, warning) in warnings.iter().enumerate() {
        bytes += warning.len();
        if bytes > WARNINGS_BYTES_MAX {
            first.push(format!("and {} more, which an answer in JSON has", warnings.len() - at));
            break;
        }
        first.push(warning.clone());
    }
    first
}

/// JSON in ASCII, as headers want it.
fn header_value(json: &str) -> HeaderValue {
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        if c == ' ' || c.is_ascii_graphic() {
            ascii.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| ascii.push_str(&format!("\\u{unit:04x}")));
        }
    }
    HeaderValue::from_str(&ascii).expect("all of it can be seen")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_json_in_ascii() {
        let names = vec!["café".to_string(), "a\n\u{7f}\u{1f570}".to_string()];
        let value = header_value(&json::warnings_text(&names));
        let back: Vec<String> = serde_json::from_str(value.to_str().unwrap()).unwrap();
        assert_eq!(back, names);
    }

    #[test]
    fn a_head_stays_small() {
        let warnings = vec!["w".repeat(1_000); 100];
        let first = first_warnings(&warnings);
        assert_eq!((first.len(), first[4].as_str()), (5, "and 96 more, which an answer in JSON has"));
    }
}
