//! Answers as JSON: one document with columns, rows, stats and warnings, or one object per row (NDJSON).
//!
//! Invariant: text comes in pieces of about [`PIECE_BYTES`], so that an answer costs its columns and not its text. A number
//! JSON cannot say (NaN, infinities) is null, and a warning names the column; integers beyond 2^53 stay whole numbers. What
//! ends early says why in an object `error`.

use std::io::Write;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, SchemaRef};
use query_lang::plan::RollupRejection;
use serde::Serialize;

use crate::query::{Answer, AnswerColumn, RollupUse, Stats};
use crate::server::cells::{Cell, Cells, TimeFormat, role_name, type_name};
use crate::server::format::{Encoder, Out, PIECE_BYTES, Said};
use crate::server::reply::Failure;

/// One document.
pub struct Document {
    columns: Vec<AnswerColumn>,
    schema: SchemaRef,
    rows: Rows,
    /// Whether rows are there already.
    has_rows: bool,
}

/// One object per row.
pub struct Lines {
    rows: Rows,
    /// `"name":`, as JSON.
    names: Vec<String>,
}

/// The rows of the batch that is being written.
struct Rows {
    cells: Vec<Cells>,
    times: TimeFormat,
    written: WrittenTimes,
    at: usize,
    end: usize,
}

/// Times that were written: those of one group come again in the next.
struct WrittenTimes {
    /// At the place that the time's bits say.
    slots: Vec<(Option<i64>, Vec<u8>)>,
}

impl Document {
    pub fn new(columns: &[AnswerColumn], schema: &SchemaRef, times: TimeFormat) -> Document {
        let schema = SchemaRef::clone(schema);
        Document { columns: columns.to_vec(), schema, rows: Rows::new(times), has_rows: false }
    }
}

impl Encoder for Document {
    fn begin(&mut self, out: &mut Vec<u8>) {
        let columns = self.columns.iter().zip(self.schema.fields()).map(|(column, field)| ColumnJson {
            name: column.name.clone(),
            type_name: type_name(field.data_type()),
            role: role_name(column.role),
        });
        out.extend_from_slice(b"{\"columns\":");
        put(out, &columns.collect::<Vec<_>>());
        out.extend_from_slice(b",\"rows\":[");
    }

    fn take(&mut self, batch: RecordBatch) {
        self.rows.take(&batch);
    }

    fn rows(&mut self, out: &mut Out) -> bool {
        let out = &mut out.text;
        while out.len() < PIECE_BYTES && self.rows.at < self.rows.end {
            out.extend_from_slice(if self.has_rows { b",\n[" } else { b"\n[" });
            self.has_rows = true;
            for column in 0..self.rows.cells.len() {
                if column > 0 {
                    out.push(b',');
                }
                self.rows.put(out, column);
            }
            out.push(b']');
            self.rows.at += 1;
        }
        self.rows.at < self.rows.end
    }

    fn end(&mut self, said: &Said, out: &mut Vec<u8>) {
        out.extend_from_slice(b"],\"stats\":");
        put(out, &StatsJson::from(&said.stats));
        out.extend_from_slice(b",\"warnings\":");
        put(out, &said.warnings);
        out.extend_from_slice(b"}\n");
    }

    fn broken(&mut self, why: &Failure, out: &mut Vec<u8>) {
        out.extend_from_slice(b"],\"error\":");
        put(out, &why.described());
        out.extend_from_slice(b"}\n");
    }
}

/// A whole answer as a document, with warnings of what it cannot say.
pub fn document(answer: Answer, times: TimeFormat) -> Vec<u8> {
    let Answer { columns, batch, stats, mut warnings } = answer;
    let mut unsaid = Unsaid::default();
    unsaid.look_at(&batch);
    warnings.extend(unsaid.warnings(&columns));
    let mut document = Document::new(&columns, batch.schema_ref(), times);
    let (mut text, mut piece) = (Vec::new(), Out::default());
    document.begin(&mut text);
    document.take(batch);
    while document.rows(&mut piece) {
        text.append(&mut piece.text);
    }
    text.append(&mut piece.text);
    document.end(&Said { stats, warnings }, &mut text);
    text
}

impl Lines {
    pub fn new(columns: &[AnswerColumn], times: TimeFormat) -> Lines {
        let name = |column: &AnswerColumn| format!("{}:", serde_json::Value::from(column.name.as_str()));
        Lines { rows: Rows::new(times), names: columns.iter().map(name).collect() }
    }
}

impl Encoder for Lines {
    fn take(&mut self, batch: RecordBatch) {
        self.rows.take(&batch);
    }

    fn rows(&mut self, out: &mut Out) -> bool {
        let out = &mut out.text;
        while out.len() < PIECE_BYTES && self.rows.at < self.rows.end {
            for (column, name) in self.names.iter().enumerate() {
                out.push(if column > 0 { b',' } else { b'{' });
                out.extend_from_slice(name.as_bytes());
                self.rows.put(out, column);
            }
            out.extend_from_slice(b"}\n");
            self.rows.at += 1;
        }
        self.rows.at < self.rows.end
    }

    fn broken(&mut self, why: &Failure, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"error\":");
        put(out, &why.described());
        out.extend_from_slice(b"}\n");
    }
}

impl Rows {
    fn new(times: TimeFormat) -> Rows {
        Rows { cells: Vec::new(), times, written: WrittenTimes::new(), at: 0, end: 0 }
    }

    fn take(&mut self, batch: &RecordBatch) {
        self.cells = Cells::of(batch, &self.cells, |out, text| put(out, &text));
        self.at = 0;
        // An answer without columns has nothing to say per row.
        self.end = if self.cells.is_empty() { 0 } else { batch.num_rows() };
    }

    /// The value of the current row.
    fn put(&mut self, out: &mut Vec<u8>, column: usize) {
        match self.cells[column].get(self.at) {
            Cell::Float(value) if !value.is_finite() => out.extend_from_slice(b"null"),
            Cell::Null => out.extend_from_slice(b"null"),
            Cell::Time(time) => match self.times {
                TimeFormat::Rfc3339 => out.extend_from_slice(self.written.get(time)),
                TimeFormat::Unit(unit) => put(out, &time.div_euclid(unit)),
            },
            Cell::Float(value) => put(out, &value),
            Cell::Integer(value) => put(out, &value),
            Cell::Unsigned(value) => put(out, &value),
            Cell::Boolean(value) => put(out, &value),
            Cell::Text(value) => put(out, &value),
            Cell::Written(value) => out.extend_from_slice(value),
        }
    }
}

impl WrittenTimes {
    const SLOTS: usize = 256;

    fn new() -> WrittenTimes {
        WrittenTimes { slots: vec![(None, Vec::new()); Self::SLOTS] }
    }

    fn get(&mut self, time: i64) -> &[u8] {
        // A multiplication by an odd number without a pattern spreads steps of any width.
        let spread = time.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (known, text) = &mut self.slots[(spread >> 56) as usize % Self::SLOTS];
        if *known != Some(time) {
            *known = Some(time);
            text.clear();
            put(text, &query_lang::time::format_time(time));
        }
        text
    }
}

/// The columns with numbers that have to be null.
#[derive(Default)]
pub struct Unsaid(Vec<bool>);

impl Unsaid {
    pub fn look_at(&mut self, batch: &RecordBatch) {
        self.0.resize(batch.num_columns(), false);
        for (unsaid, array) in self.0.iter_mut().zip(batch.columns()) {
            let floats = array.as_primitive_opt::<Float64Type>();
            *unsaid |= floats.is_some_and(|floats| floats.iter().flatten().any(|value| !value.is_finite()));
        }
    }

    /// A warning for each of them.
    pub fn warnings(&self, columns: &[AnswerColumn]) -> Vec<String> {
        let warning = |column: &AnswerColumn| {
            format!(
                "{} holds values that JSON cannot say (NaN or infinite); they are null here, and themselves in CSV, Arrow and Parquet",
                column.name
            )
        };
        columns
            .iter()
            .zip(&self.0)
            .filter(|(_, unsaid)| **unsaid)
            .map(|(column, _)| warning(column))
            .collect()
    }
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
    use crate::server::format::Format;
    use crate::server::format::tests::encoded;

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

    fn text(format: Format, answer: Answer, times: TimeFormat) -> String {
        String::from_utf8(encoded(format, answer, times)).unwrap()
    }

    #[test]
    fn a_document_says_everything_once() {
        let document: serde_json::Value =
            serde_json::from_str(&text(Format::Json, hard(), TimeFormat::Rfc3339)).unwrap();
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
        let mut unsaid = Unsaid::default();
        unsaid.look_at(&hard().batch);
        let unsaid = unsaid.warnings(&hard().columns);
        assert!(unsaid.len() == 1 && unsaid[0].starts_with("f holds values"), "{unsaid:?}");
    }

    #[test]
    fn times_in_units_round_down() {
        let lines = text(Format::Ndjson, hard(), TimeFormat::Unit(1_000_000_000));
        let first: Vec<&str> = lines.lines().map(|line| line.split(',').next().unwrap()).collect();
        assert_eq!(first, ["{\"time\":0", "{\"time\":1", "{\"time\":-1"]);
    }

    #[test]
    fn an_empty_answer_is_a_document_too() {
        let empty = crate::query::text_table(&[], &[]);
        let document: serde_json::Value =
            serde_json::from_str(&text(Format::Json, empty, TimeFormat::Rfc3339)).unwrap();
        assert_eq!(document["rows"], json!([]));
    }
}
