//! Rows of `metrics` and `metrics_metadata` as a message of remote write: the only door to these tables.
//!
//! Invariant: every bit of a sample goes out as it stands in the file, of stale markers, NaNs and native histograms, too.
//! Not here: reading the file (`parquet`), sending the message (`send`).

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use indexmap::IndexMap;
use storage_format::histogram::Histogram;

use crate::cli::import::batch::RowText;
use crate::ingest::protobuf::{put_bytes, put_double, put_number};
use crate::ingest::{METADATA_FIELDS, METADATA_TAG, histograms, put_label};
use crate::series::{METADATA_TABLE, METRIC_HISTOGRAM, METRIC_VALUE, METRICS_TABLE, MetricKind};

const NANOS_PER_MILLI: i64 = 1_000_000;

/// A `prometheus.WriteRequest` under construction, and the row that is being added to it.
#[derive(Default)]
pub struct Samples {
    /// The samples of each series, by its labels: both as they stand in the message.
    series: IndexMap<Vec<u8>, Vec<u8>>,
    /// What is said of metrics.
    metadata: Vec<u8>,
    pub rows: u64,
    row: Row,
}

#[derive(Default)]
struct Row {
    is_metadata: bool,
    tags: Vec<(String, String)>,
    value: Option<f64>,
    histogram: Option<Histogram>,
    /// Those of [`METADATA_FIELDS`].
    texts: [Option<String>; 3],
    /// Why it cannot be sent.
    flaw: Option<String>,
}

impl Samples {
    /// Whether line protocol cannot write to the table.
    pub fn are_in(table: &str) -> bool {
        table == METRICS_TABLE || table == METADATA_TABLE
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The message of all rows.
    pub fn message(&self) -> Vec<u8> {
        let mut message = Vec::new();
        for (labels, samples) in &self.series {
            put_bytes(&mut message, 1, &[labels.as_slice(), samples].concat());
        }
        message.extend_from_slice(&self.metadata);
        message
    }

    fn end_metadata(&mut self) {
        let metric = self.row.tags.iter().find(|(tag, _)| tag == METADATA_TAG);
        let [kind, help, unit] = &self.row.texts;
        let kind = kind.as_deref().unwrap_or_default();
        let number = MetricKind::ALL.iter().position(|known| known.name() == kind).unwrap_or_default();
        let mut one = Vec::new();
        put_number(&mut one, 1, number as i64);
        put_bytes(&mut one, 2, metric.map_or("", |(_, name)| name).as_bytes());
        put_bytes(&mut one, 4, help.as_deref().unwrap_or_default().as_bytes());
        put_bytes(&mut one, 5, unit.as_deref().unwrap_or_default().as_bytes());
        put_bytes(&mut self.metadata, 3, &one);
    }

    fn end_sample(&mut self, time_ms: i64) {
        self.row.tags.sort();
        let mut labels = Vec::new();
        for (name, value) in &self.row.tags {
            put_label(&mut labels, name.as_bytes(), value.as_bytes());
        }
        let samples = self.series.entry(labels).or_default();
        let mut one = Vec::new();
        if let Some(value) = self.row.value {
            put_double(&mut one, 1, value);
            put_number(&mut one, 2, time_ms);
            put_bytes(samples, 2, &one);
        }
        if let Some(histogram) = &self.row.histogram {
            one.clear();
            histograms::put(&mut one, histogram, time_ms);
            put_bytes(samples, 4, &one);
        }
    }

    fn field(&mut self, name: &str, column: &dyn Array, row: usize) -> Result<(), String> {
        let text = METADATA_FIELDS.iter().position(|known| *known == name && self.row.is_metadata);
        match (self.row.is_metadata, name, column.data_type()) {
            (false, METRIC_VALUE, DataType::Float64) => {
                self.row.value = Some(column.as_primitive::<Float64Type>().value(row));
            }
            (false, METRIC_HISTOGRAM, DataType::Binary) => {
                let read = Histogram::decode(column.as_binary::<i32>().value(row));
                let read = read.map_err(|damage| format!("its histogram is damaged: {damage}"))?;
                self.row.histogram = Some(read);
            }
            (true, _, DataType::Utf8) if text.is_some() => {
                let place = text.unwrap_or_default();
                self.row.texts[place] = Some(column.as_string::<i32>().value(row).to_string());
            }
            (is_metadata, name, data_type) => {
                let fields = match is_metadata {
                    true => METADATA_FIELDS.join(", "),
                    false => format!("{METRIC_VALUE} (Float64), {METRIC_HISTOGRAM} (Binary)"),
                };
                return Err(format!("its table has no field {name} of the type {data_type}, only {fields}"));
            }
        }
        Ok(())
    }
}

impl RowText for Samples {
    fn begin(&mut self, table: &str) {
        self.row = Row { is_metadata: table == METADATA_TABLE, ..Row::default() };
    }

    fn tag(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.row.tags.push((key.to_string(), value.to_string()));
        }
    }

    fn cell(&mut self, name: &str, column: &dyn Array, row: usize) -> bool {
        if column.is_valid(row)
            && let Err(why) = self.field(name, column, row)
        {
            self.row.flaw.get_or_insert(why);
        }
        true
    }

    fn end(&mut self, time_ns: i64) -> Result<(), Option<String>> {
        if let Some(why) = self.row.flaw.take() {
            return Err(Some(why));
        }
        if self.row.is_metadata {
            self.end_metadata();
        } else if self.row.value.is_none() && self.row.histogram.is_none() {
            return Err(None);
        } else if time_ns % NANOS_PER_MILLI != 0 {
            return Err(Some(format!(
                "its time, {time_ns} ns, is no whole millisecond, and {METRICS_TABLE} has only those"
            )));
        } else {
            self.end_sample(time_ns / NANOS_PER_MILLI);
        }
        self.rows += 1;
        Ok(())
    }
}
