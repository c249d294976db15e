//! The forms an answer can have.
//!
//! Invariant: an answer is made into text or file in bounded pieces. Every form says what gave the answer: JSON in itself,
//! Arrow and Parquet in their metadata, and all of them in the headers `x-waterclock-stats` and `x-waterclock-warnings`, or in
//! trailers of these names where the rows go out before all of them are read.
//! Not here: the forms themselves (`json`, `csv`, `ipc`, `parquet`), and the sending (`send`).

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::query::{AnswerColumn, Stats};
use crate::server::cells::TimeFormat;
use crate::server::csv::Csv;
use crate::server::ipc::Ipc;
use crate::server::json;
use crate::server::params::Params;
use crate::server::parquet::Parquet;
use crate::server::reply::Failure;

/// An answer on its way into a form.
pub trait Encoder: Send {
    /// What stands before the rows.
    fn begin(&mut self, _out: &mut Vec<u8>) {}

    /// The rows to be written next; those before have been.
    fn take(&mut self, batch: RecordBatch);

    /// Writes a piece of the rows that were taken. Whether some are left.
    fn rows(&mut self, out: &mut Out) -> bool;

    /// What stands after the rows.
    fn end(&mut self, _said: &Said, _out: &mut Vec<u8>) {}

    /// What can be said where rows are missing.
    fn broken(&mut self, _why: &Failure, _out: &mut Vec<u8>) {}
}

/// What goes out next.
#[derive(Default)]
pub struct Out {
    /// What stands before `text`.
    before: Vec<Bytes>,
    pub text: Vec<u8>,
}

/// What an answer says of itself.
pub struct Said {
    pub stats: Stats,
    pub warnings: Vec<String>,
}

/// A piece of text: large enough that a system call and a compression step are worth it.
pub const PIECE_BYTES: usize = 64 << 10;

/// Bytes that are worth to be sent from where they are, without a copy.
const PART_BYTES_MIN: usize = 4 << 10;

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

/// Announces the trailers.
pub const TRAILER: HeaderValue = HeaderValue::from_static("x-waterclock-stats, x-waterclock-warnings");

/// Bytes of the warnings in a header; clients give up on heads that are much larger.
const WARNINGS_BYTES_MAX: usize = 4 << 10;

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

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::Arrow => "application/vnd.apache.arrow.stream",
            Format::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// Whether numbers that are not finite cannot be said.
    pub fn is_json(self) -> bool {
        matches!(self, Format::Json | Format::Ndjson)
    }

    /// `said` is what is known before the rows, if it is.
    pub fn encoder(
        self,
        columns: &[AnswerColumn],
        schema: &SchemaRef,
        said: Option<&Said>,
        times: TimeFormat,
    ) -> Box<dyn Encoder> {
        match self {
            Format::Json => Box::new(json::Document::new(columns, schema, times)),
            Format::Ndjson => Box::new(json::Lines::new(columns, times)),
            Format::Csv => Box::new(Csv::new(columns, times)),
            Format::Arrow => Box::new(Ipc::new(columns, schema, said)),
            Format::Parquet => Box::new(Parquet::new(columns, schema)),
        }
    }
}

impl Out {
    pub fn push(&mut self, part: Bytes) {
        if part.len() < PART_BYTES_MIN {
            self.text.extend_from_slice(&part);
            return;
        }
        if !self.text.is_empty() {
            self.before.push(std::mem::take(&mut self.text).into());
        }
        self.before.push(part);
    }

    pub fn is_piece(&self) -> bool {
        !self.before.is_empty() || self.text.len() >= PIECE_BYTES
    }

    /// All that is there, in order.
    pub fn pieces(&mut self) -> impl Iterator<Item = Bytes> {
        // After a whole piece of text another one comes.
        let next = if self.text.len() >= PIECE_BYTES { PIECE_BYTES + PIECE_BYTES / 8 } else { 0 };
        let text = std::mem::replace(&mut self.text, Vec::with_capacity(next));
        let text = (!text.is_empty()).then(|| Bytes::from(text));
        std::mem::take(&mut self.before).into_iter().chain(text)
    }
}

pub fn stats_header(stats: &Stats) -> (HeaderName, HeaderValue) {
    (STATS, header_value(&json::stats_text(stats)))
}

impl Said {
    /// As headers or trailers.
    pub fn headers(&self) -> HeaderMap {
        HeaderMap::from_iter([
            stats_header(&self.stats),
            (WARNINGS, header_value(&json::warnings_text(&first_warnings(&self.warnings)))),
        ])
    }
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
pub mod tests {
    use super::*;
    use crate::query::Answer;

    /// An answer in a form, as it goes out.
    pub fn pieces(format: Format, answer: Answer, times: TimeFormat) -> Vec<Vec<u8>> {
        let said = Said { stats: answer.stats, warnings: answer.warnings };
        let mut encoder = format.encoder(&answer.columns, answer.batch.schema_ref(), Some(&said), times);
        let (mut pieces, mut out) = (Vec::new(), Out::default());
        let mut piece = |out: &mut Out| pieces.push(out.pieces().collect::<Vec<Bytes>>().concat());
        encoder.begin(&mut out.text);
        encoder.take(answer.batch);
        while encoder.rows(&mut out) {
            piece(&mut out);
        }
        encoder.end(&said, &mut out.text);
        piece(&mut out);
        pieces
    }

    pub fn encoded(format: Format, answer: Answer, times: TimeFormat) -> Vec<u8> {
        pieces(format, answer, times).concat()
    }

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
