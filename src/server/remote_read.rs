//! Prometheus' remote read: samples as they were written, in one message or as streamed chunks.
//!
//! Invariant: a sample comes out bit for bit as it came in, stale markers included, series sorted by their labels as
//! Prometheus sorts them. Chunks hold floats only: an answer with native histograms goes out as samples, which every client takes.
//! Not here: finding the samples (`db`).

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Float64Type;
use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use query_lang::plan::{TagFilter, TagTest};
use storage_format::histogram::Histogram;
use storage_format::point::{TagSet, TimeRange};
use storage_format::xor_chunk::{self, XOR_CHUNK_SAMPLES_MAX};

use crate::db::{Db, SeriesSamples};
use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::ingest::protobuf::{Fields, Malformed, Packed, put_bytes, put_double, put_number, put_varint};
use crate::ingest::{histograms, put_label};
use crate::rows::Rows;
use crate::server::params::Params;
use crate::server::queries::{self, Answered, Caller};
use crate::server::reply::Failure;
use crate::server::wql::client_of;
use crate::server::{Doors, body};

/// Prometheus' default (`--storage.remote.read-max-bytes-in-frame`).
const FRAME_BYTES_MAX: usize = 1 << 20;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// `prometheus.Chunk.Encoding.XOR`.
const ENCODING_XOR: i64 = 1;

pub(super) async fn read(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    answer(&doors, request).await.unwrap_or_else(|failure| {
        let text = format!("{}\n", failure.sentence());
        let mut response =
            (failure.status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response();
        failure.add_retry_after(&mut response);
        response
    })
}

async fn answer(doors: &Arc<Doors>, request: Request) -> Result<Response, Failure> {
    let database = Params::of_query(request.uri().query()).database(&["db"])?;
    let caller = Caller { client: client_of(&request), timeout: None };
    let body = body::read_snappy(request, doors).await?;
    let read = || Ok(Asked::read(&body.decode()?.bytes).map_err(Error::from)?);
    let asked = doors.blocking(read).await?;
    let listed = queries::Asked { database: database.clone(), statement: asked.to_string(), caller };
    let work = move |db: &Db, guard: &Guard| {
        let answer = asked.answer(db, &database, guard)?;
        Ok(Answered { bytes: Some(answer.bytes().len()), answer, rollups: Vec::new() })
    };
    let (encoded, _held) = queries::run(doors, listed, work).await?;
    Ok(match encoded {
        Encoded::Samples(bytes) => {
            let headers = [
                (header::CONTENT_TYPE, "application/x-protobuf"),
                (header::CONTENT_ENCODING, "snappy"),
                (HeaderName::from_static("x-prometheus-remote-read-version"), "0.1.0"),
            ];
            (StatusCode::OK, headers, bytes).into_response()
        }
        Encoded::Chunks(bytes) => {
            let kind = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
            (StatusCode::OK, [(header::CONTENT_TYPE, kind)], bytes).into_response()
        }
    })
}

enum Encoded {
    /// One `ReadResponse`, compressed.
    Samples(Vec<u8>),
    /// Frames of `ChunkedReadResponse`.
    Chunks(Vec<u8>),
}

impl Encoded {
    fn bytes(&self) -> &[u8] {
        let (Encoded::Samples(bytes) | Encoded::Chunks(bytes)) = self;
        bytes
    }
}

/// A `ReadRequest`.
pub struct Asked {
    queries: Vec<Query>,
    takes_chunks: bool,
}

struct Query {
    filter: TagFilter,
    range: TimeRange,
}

impl Asked {
    pub fn read(message: &[u8]) -> Result<Asked, Malformed> {
        let mut asked = Asked { queries: Vec::new(), takes_chunks: false };
        let mut first = None;
        for field in Fields::of(message) {
            let field = field?;
            match field.number {
                1 => asked.queries.push(Query::read(field.value.bytes()?)?),
                // The first kind of answer that we know counts; both are known.
                2 => Packed::varints(field.value, |kind| first = first.or(Some(kind)))?,
                _ => {}
            }
        }
        asked.takes_chunks = first == Some(1);
        Ok(asked)
    }

    fn answer(&self, db: &Db, database: &str, guard: &Guard) -> Result<Encoded> {
        let mut results = Vec::new();
        for query in &self.queries {
            let mut series = db.read_samples(database, &query.filter, query.range, guard)?;
            series.sort_by(|a, b| a.labels.as_bytes().cmp(b.labels.as_bytes()));
            results.push(series);
        }
        let has_histograms = results.iter().flatten().any(|series| series.rows.iter().any(has_histograms));
        match self.takes_chunks && !has_histograms {
            true => chunked(&results, guard).map(Encoded::Chunks),
            false => sampled(&results, guard).map(Encoded::Samples),
        }
    }
}

/// For the list of queries.
impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("remote read")?;
        self.queries.iter().try_for_each(|query| write!(f, " {{{}}}", query.filter))
    }
}

impl Query {
    fn read(message: &[u8]) -> Result<Query, Malformed> {
        let (mut start, mut end) = (0i64, 0i64);
        let mut filters = Vec::new();
        for field in Fields::of(message) {
            let field = field?;
            match field.number {
                1 => start = field.value.varint()? as i64,
                2 => end = field.value.varint()? as i64,
                3 => filters.push(matcher(field.value.bytes()?)?),
                _ => {}
            }
        }
        let range = TimeRange::new(
            start.saturating_mul(NANOS_PER_MILLI),
            end.saturating_add(1).saturating_mul(NANOS_PER_MILLI),
        );
        Ok(Query { filter: TagFilter::And(filters), range })
    }
}

fn matcher(message: &[u8]) -> Result<TagFilter, Malformed> {
    let (mut kind, mut tag, mut value) = (0, String::new(), String::new());
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => kind = field.value.varint()?,
            2 => tag = field.value.text()?.to_string(),
            3 => value = field.value.text()?.to_string(),
            _ => {}
        }
    }
    let test = match kind {
        0 => TagTest::Equal(value),
        1 => TagTest::NotEqual(value),
        2 => TagTest::Matches(value),
        3 => TagTest::NotMatches(value),
        _ => return Err(Malformed("a matcher is of a kind that there is not")),
    };
    Ok(TagFilter::Match { tag, test })
}

fn has_histograms(rows: &Rows) -> bool {
    rows.columns
        .get(1)
        .is_some_and(|column| column.as_ref().is_some_and(|array| array.null_count() < array.len()))
}

/// Of several samples within one millisecond, which only other protocols write, the last.
fn floats(series: &SeriesSamples) -> (Vec<i64>, Vec<f64>) {
    let (mut times, mut values): (Vec<i64>, Vec<f64>) = (Vec::new(), Vec::new());
    for rows in &series.rows {
        let Some(array) = rows.columns.first().and_then(Option::as_ref) else { continue };
        let array = array.as_primitive::<Float64Type>();
        for (at, time) in rows.times.iter().enumerate().filter(|(at, _)| array.is_valid(*at)) {
            let time = time.div_euclid(NANOS_PER_MILLI);
            if times.last() == Some(&time) {
                times.pop();
                values.pop();
            }
            times.push(time);
            values.push(array.value(at));
        }
    }
    (times, values)
}

fn put_labels(out: &mut Vec<u8>, labels: &TagSet) {
    for (name, value) in labels.iter() {
        put_label(out, name.as_bytes(), value.as_bytes());
    }
}

fn sampled(results: &[Vec<SeriesSamples>], guard: &Guard) -> Result<Vec<u8>> {
    let mut response = Vec::new();
    let (mut result, mut one, mut message) = (Vec::new(), Vec::new(), Vec::new());
    for series in results {
        result.clear();
        for series in series {
            guard.check()?;
            one.clear();
            put_labels(&mut one, &series.labels);
            let (times, values) = floats(series);
            for (time, value) in times.iter().zip(values) {
                message.clear();
                put_double(&mut message, 1, value);
                put_number(&mut message, 2, *time);
                put_bytes(&mut one, 2, &message);
            }
            for rows in series.rows.iter().filter(|rows| has_histograms(rows)) {
                let Some(array) = rows.columns.get(1).and_then(Option::as_ref) else { continue };
                let array = array.as_binary::<i32>();
                for (at, time) in rows.times.iter().enumerate().filter(|(at, _)| array.is_valid(*at)) {
                    let histogram = Histogram::decode(array.value(at))
                        .map_err(|damage| Error::corrupt("a native histogram", damage))?;
                    message.clear();
                    histograms::put(&mut message, &histogram, time.div_euclid(NANOS_PER_MILLI));
                    put_bytes(&mut one, 4, &message);
                }
            }
            guard.reserve(one.len())?;
            put_bytes(&mut result, 1, &one);
        }
        put_bytes(&mut response, 1, &result);
    }
    let packed = snap::raw::Encoder::new().compress_vec(&response);
    packed.map_err(|error| Error::io("compress", "an answer", std::io::Error::other(error)))
}

fn chunked(results: &[Vec<SeriesSamples>], guard: &Guard) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for (number, series) in results.iter().enumerate() {
        let (mut labels, mut chunks, mut message) = (Vec::new(), Vec::new(), Vec::new());
        for series in series {
            guard.check()?;
            labels.clear();
            put_labels(&mut labels, &series.labels);
            chunks.clear();
            let (times, values) = floats(series);
            for (times, values) in
                times.chunks(XOR_CHUNK_SAMPLES_MAX).zip(values.chunks(XOR_CHUNK_SAMPLES_MAX))
            {
                message.clear();
                put_number(&mut message, 1, times[0]);
                put_number(&mut message, 2, times[times.len() - 1]);
                put_number(&mut message, 3, ENCODING_XOR);
                put_bytes(&mut message, 4, &xor_chunk::encode(times, values));
                put_bytes(&mut chunks, 2, &message);
                if labels.len() + chunks.len() >= FRAME_BYTES_MAX {
                    put_frame(&mut out, &labels, &chunks, number);
                    chunks.clear();
                }
            }
            if !chunks.is_empty() {
                guard.reserve(labels.len() + chunks.len())?;
                put_frame(&mut out, &labels, &chunks, number);
            }
        }
    }
    Ok(out)
}

/// Length, CRC32C and a `ChunkedReadResponse` with one series, or a part of one.
fn put_frame(out: &mut Vec<u8>, labels: &[u8], chunks: &[u8], query: usize) {
    let mut response = Vec::new();
    put_bytes(&mut response, 1, &[labels, chunks].concat());
    put_number(&mut response, 2, query as i64);
    put_varint(out, response.len() as u64);
    out.extend_from_slice(&crc32c::crc32c(&response).to_be_bytes());
    out.extend_from_slice(&response);
}
