//! Answers as JSON: one document with columns, rows, stats and warnings, or one object per row (NDJSON).
//!
//! Invariant: text comes in pieces of about [`PIECE_BYTES`], made when the client has taken the last one, so that an
//! answer costs its columns and not its text. A number JSON cannot say (NaN, infinities) is null, and a warning names the
//! column; integers beyond 2^53 stay whole numbers.

use std::io::Write;

use bytes::Bytes;
use query_lang::plan::RollupRejection;
use serde::Serialize;

use crate::query::{Answer, AnswerColumn, RollupUse, Stats};
use crate::server::cells::{Cell, Cells, TimeFormat, role_name};

/// Large enough that a system call and a compression step are worth it.
pub const PIECE_BYTES: usize = 64 << 10;

/// The document, piece by piece.
pub struct Document {
    answer: Answer,
    rows: Rows,
    place: Place,
}

#[derive(PartialEq)]
enum Place {
    Start,
    Rows,
    Done,
}

/// One object per row, piece by piece.
pub struct Lines {
    rows: Rows,
    /// `"name":`, as JSON.
    names: Vec<String>,
}

struct Rows {
    cells: Vec<Cells>,
    times: TimeFormat,
    at: usize,
    end: usize,
}

impl Document {
    pub fn new(answer: Answer, times: TimeFormat) -> Document {
        Document { rows: Rows::new(&answer, times), answer, place: Place::Start }
    }

    fn head(&self, out: &mut Vec<u8>) {
        let column = |(column, cells): (&AnswerColumn, &Cells)| ColumnJson {
            name: column.name.clone(),
            type_name: cells.type_name(),
            role: role_name(column.role),
        };
        let columns: Vec<ColumnJson> = self.answer.columns.iter().zip(&self.rows.cells).map(column).collect();
        out.extend_from_slice(b"{\"columns\":");
        put(out, &columns);
        out.extend_from_slice(b",\"rows\":[");
    }

    fn tail(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"],\"stats\":");
        put(out, &StatsJson::from(&self.answer.stats));
        out.extend_from_slice(b",\"warnings\":");
        put(out, &self.answer.warnings);
        out.extend_from_slice(b"}\n");
    }
}

impl Iterator for Document {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.place == Place::Done {
            return None;
        }
        let mut out = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 8);
        if self.place == Place::Start {
            self.head(&mut out);
            self.place = Place::Rows;
        }
        while out.len() < PIECE_BYTES && self.rows.at < self.rows.end {
            out.extend_from_slice(if self.rows.at > 0 { b",\n[" } else { b"\n[" });
            for column in 0..self.rows.cells.len() {
                if column > 0 {
                    out.push(b',');
                }
                self.rows.put(&mut out, column);
            }
            out.push(b']');
            self.rows.at += 1;
        }
        if self.rows.at == self.rows.end {
            self.tail(&mut out);
            self.place = Place::Done;
        }
        Some(out.into())
    }
}

impl Lines {
    pub fn new(answer: &Answer, times: TimeFormat) -> Lines {
        let name = |name: &String| format!("{}:", serde_json::Value::from(name.as_str()));
        Lines {
            rows: Rows::new(answer, times),
            names: answer.columns.iter().map(|column| name(&column.name)).collect(),
        }
    }
}

impl Iterator for Lines {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.rows.at == self.rows.end {
            return None;
        }
        let mut out = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 8);
        while out.len() < PIECE_BYTES && self.rows.at < self.rows.end {
            for (column, name) in self.names.iter().enumerate() {
                out.push(if column > 0 { b',' } else { b'{' });
                out.extend_from_slice(name.as_bytes());
                self.rows.put(&mut out, column);
            }
            out.extend_from_slice(b"}\n");
            self.rows.at += 1;
        }
        Some(out.into())
    }
}

impl Rows {
    fn new(answer: &Answer, times: TimeFormat) -> Rows {
        let cells = Cells::of(answer);
        // An answer without columns has nothing to say per row.
        let end = if cells.is_empty() { 0 } else { answer.rows() };
        Rows { cells, times, at: 0, end }
    }

    /// The value of the current row.
    fn put(&self, out: &mut Vec<u8>, column: usize) {
        match self.cells[column].get(self.at) {
            Cell::Float(value) if !value.is_finite() => out.extend_from_slice(b"null"),
            Cell::Null => out.extend_from_slice(b"null"),
            Cell::Time(time) => match self.times {
                TimeFormat::Rfc3339 => put(out, &query_lang::time::format_time(time)),
                TimeFormat::Unit(unit) => put(out, &time.div_euclid(unit)),
            },
            Cell::Float(value) => put(out, &value),
            Cell::Integer(value) => put(out, &value),
            Cell::Unsigned(value) => put(out, &value),
            Cell::Boolean(value) => put(out, &value),
            Cell::Text(value) => put(out, &value),
        }
    }
}

/// A warning for each column with numbers that have to be null.
pub fn unsaid(answer: &Answer) -> Vec<String> {
    let has_unsaid = |cells: &Cells| match cells {
        Cells::Float(values) => values.iter().flatten().any(|value| !value.is_finite()),
        _ => false,
    };
    let warning = |column: &AnswerColumn| {
        format!(
            "{} holds values that JSON cannot say (NaN or infinite); they are null here, and themselves in CSV, Arrow and Parquet",
            column.name
        )
    };
    let cells = Cells::of(answer);
    let columns = answer.columns.iter().zip(&cells).filter(|(_, cells)| has_unsaid(cells));
    columns.map(|(column, _)| warning(column)).collect()
}

/// `stats` of an answer, for what carries them beside it.
pub fn stats_text(stats: &Stats) -> String {
    text_of(&StatsJson::from(stats))
}

/// `warnings` of an answer, likewise.
pub fn warnings_text(warnings: &[String]) -> String {
    text_of(&warnings)
}

fn text_of(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("the keys are text")
}

fn put(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out.by_ref(), value).expect("memory can be written to, and the keys are text");
}

#[derive(Serialize)]
struct ColumnJson {
    name: String,
    #[serde(rename = "type")]
    type_name: &'static str,
    role: &'static str,
}

#[derive(Serialize)]
struct StatsJson<'a> {
    series: u64,
    rows_read: u64,
    bytes_read: u64,
    files: u64,
    elapsed_ms: f64,
    rollups: Vec<RollupUseJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rollups_not_used: Vec<RejectedJson<'a>>,
}

/// Reasons that are told: they also stand in a header, which has to stay short. `explain` tells all.
const REASONS_MAX: usize = 10;

#[derive(Serialize)]
struct RejectedJson<'a> {
    name: &'a str,
    reason: &'a str,
}

#[derive(Serialize)]
struct RollupUseJson<'a> {
    name: &'a str,
    buckets: u64,
    dirty_recomputed: u64,
}

impl<'a> From<&'a Stats> for StatsJson<'a> {
    fn from(stats: &'a Stats) -> StatsJson<'a> {
        let rollup = |used: &'a RollupUse| RollupUseJson {
            name: &used.name,
            buckets: used.buckets,
            dirty_recomputed: used.dirty_recomputed,
        };
        let rejected =
            |rejected: &'a RollupRejection| RejectedJson { name: &rejected.name, reason: &rejected.reason };
        StatsJson {
            series: stats.series,
            rows_read: stats.rows_read,
            bytes_read: stats.bytes_read,
            files: stats.files,
            elapsed_ms: stats.elapsed.as_micros() as f64 / 1e3,
            rollups: stats.rollups.iter().map(rollup).collect(),
            rollups_not_used: stats.rejected.iter().take(REASONS_MAX).map(rejected).collect(),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, StringArray, TimestampNanosecondArray, UInt64Array};

    use serde_json::json;

    use super::*;
    use crate::query::Role;

    /// Three rows with what is hard to say.
    pub fn hard() -> Answer {
        let times = TimestampNanosecondArray::from(vec![0, 1_500_000_000, -1]).with_timezone("UTC");
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(times),
            Arc::new(StringArray::from(vec![Some("a,\"b\"\n"), Some(""), None])),
            Arc::new(Float64Array::from(vec![Some(0.1), Some(f64::NAN), Some(f64::NEG_INFINITY)])),
            Arc::new(UInt64Array::from(vec![Some(u64::MAX), None, Some(0)])),
        ];
        let column = |(name, role): (&str, Role)| AnswerColumn { name: name.to_string(), role };
        let columns = [("time", Role::Time), ("host", Role::Tag), ("f", Role::Value), ("\"u\"", Role::Value)];
        Answer::new(columns.map(column).to_vec(), arrays, vec!["careful".to_string()])
    }

    fn text(pieces: impl Iterator<Item = Bytes>) -> String {
        String::from_utf8(pieces.flatten().collect()).unwrap()
    }

    #[test]
    fn a_document_says_everything_once() {
        let document: serde_json::Value =
            serde_json::from_str(&text(Document::new(hard(), TimeFormat::Rfc3339))).unwrap();
        assert_eq!(document["columns"][0], json!({ "name": "time", "type": "time", "role": "time" }));
        assert_eq!(document["columns"][3], json!({ "name": "\"u\"", "type": "unsigned", "role": "value" }));
        assert_eq!(
            document["rows"],
            json!([
                ["1970-01-01T00:00:00Z", "a,\"b\"\n", 0.1, u64::MAX],
                ["1970-01-01T00:00:01.5Z", "", null, null],
                ["1969-12-31T23:59:59.999999999Z", null, null, 0]
            ])
        );
        assert_eq!(document["warnings"], json!(["careful"]));
        let unsaid = unsaid(&hard());
        assert!(unsaid.len() == 1 && unsaid[0].starts_with("f holds values"), "{unsaid:?}");
    }

    #[test]
    fn times_in_units_round_down() {
        let lines = text(Lines::new(&hard(), TimeFormat::Unit(1_000_000_000)));
        let first: Vec<&str> = lines.lines().map(|line| line.split(',').next().unwrap()).collect();
        assert_eq!(first, ["{\"time\":0", "{\"time\":1", "{\"time\":-1"]);
    }

    #[test]
    fn an_empty_answer_is_a_document_too() {
        let empty = crate::query::text_table(&[], &[]);
        let document: serde_json::Value =
            serde_json::from_str(&text(Document::new(empty, TimeFormat::Rfc3339))).unwrap();
        assert_eq!(document["rows"], json!([]));
    }
}
