//! Series of labels and their samples -> rows of the table `metrics`, whatever protocol brought them.
//!
//! A series is looked up by its labels as they stand in a remote write request: `Label` messages one after the other.
//! A known one costs a hash and a compare; a new one is read, checked and registered.
//! Invariant: a series that is refused leaves nothing behind; the reasons of the first ones are kept, the rest are counted.
//! Not here: the messages around the samples (`remote_write`, `otlp`).

use std::sync::Arc;

use hashbrown::HashMap;
use storage_format::histogram::Histogram;
use storage_format::point::{FieldType, TIME_MAX, TIME_MIN, TagSet, Time};
use storage_format::wal::{PointRow, Points, StrRef};

use crate::batch::{Batch, BatchPart};
use crate::error::Result;
use crate::exemplars::{EXEMPLAR_CHARS_MAX, Exemplar};
use crate::ingest::line_protocol::{NAME_BYTES_MAX, TAGS_PER_LINE_MAX};
use crate::ingest::protobuf::{Fields, Malformed, put_varint, varint_len};
use crate::ingest::{Accepted, Target};
use crate::series::{
    Key, LookUps, METADATA_TABLE, METRIC_HISTOGRAM, METRIC_NAME, METRIC_VALUE, METRICS_TABLE, MetricInfo,
    Pin, Table,
};

/// How much of a refused series an error repeats.
const SERIES_SHOWN_BYTES_MAX: usize = 256;

/// Reasons that one answer gives.
pub const REASONS_MAX: usize = 10;

/// What a request brought.
#[derive(Default)]
pub struct Received {
    pub batch: Batch,
    pub samples: u64,
    pub histograms: u64,
    pub exemplars: Vec<Exemplar>,
    /// What is new of metrics, to be remembered once it is durable.
    pub metadata: Vec<(String, MetricInfo)>,
    pub refused: Refused,
}

/// Series and samples that were not taken; sending them again would not help.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    pub count: u64,
    pub reasons: Vec<String>,
}

impl Refused {
    pub fn add(&mut self, why: impl FnOnce() -> String) {
        self.count += 1;
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(why());
        }
    }
}

/// Rows of `metrics` as they come together.
pub struct Samples<'a> {
    target: &'a Target<'a>,
    pin: Pin,
    look_ups: LookUps<'a>,
    table: Arc<Table>,
    accepted: Accepted,
    points: Points,
    /// The place of the layout of floats in `points`.
    floats: Option<u32>,
    /// The same of native histograms.
    histograms: Option<u32>,
    samples: u64,
    histograms_taken: u64,
    exemplars: Vec<Exemplar>,
    metadata: HashMap<String, MetricInfo>,
    pub refused: Refused,
}

/// Where a series' rows begin.
#[derive(Clone, Copy)]
pub struct Start {
    rows: usize,
    values: usize,
    text: usize,
}

impl<'a> Samples<'a> {
    pub fn new(target: &'a Target<'a>) -> Samples<'a> {
        let table = target.registry.table_or_new(target.database, METRICS_TABLE);
        Samples {
            pin: target.registry.pin(),
            accepted: (target.accepted)(&table),
            look_ups: target.database.spellings.look_ups(),
            target,
            table,
            points: Points::default(),
            floats: None,
            histograms: None,
            samples: 0,
            histograms_taken: 0,
            exemplars: Vec::new(),
            metadata: HashMap::new(),
            refused: Refused::default(),
        }
    }

    pub fn start(&self) -> Start {
        Start { rows: self.points.rows.len(), values: self.points.values.len(), text: self.points.text.len() }
    }

    /// A sample of the series that is named at its end.
    #[inline]
    pub fn push(&mut self, time_ms: i64, value: f64) -> Result<()> {
        let layout = match self.floats {
            Some(layout) => layout,
            None => {
                let layout = self.layout(METRIC_VALUE, FieldType::Float)?;
                *self.floats.insert(layout)
            }
        };
        self.push_row(time_ms, layout, value.to_bits());
        Ok(())
    }

    /// A native histogram, which is sound, of the series that is named at its end.
    pub fn push_histogram(&mut self, time_ms: i64, histogram: &Histogram) -> Result<()> {
        let layout = match self.histograms {
            Some(layout) => layout,
            None => {
                let layout = self.layout(METRIC_HISTOGRAM, FieldType::Binary)?;
                *self.histograms.insert(layout)
            }
        };
        let start = self.points.text.len();
        histogram.encode(&mut self.points.text);
        self.push_row(time_ms, layout, StrRef::new(start, self.points.text.len() - start).0);
        Ok(())
    }

    #[inline]
    fn push_row(&mut self, time_ms: i64, layout: u32, bits: u64) {
        let values = self.points.values.len() as u32;
        self.points.values.push(bits);
        // Of times that nanoseconds cannot say: the end of a series sorts those out.
        let time = time_ms.saturating_mul(NANOS_PER_MILLI);
        self.points.rows.push(PointRow { time, series: u32::MAX, layout, values });
    }

    /// Names the series of the samples since `start` by its labels. None if it is refused.
    #[inline]
    pub fn end(&mut self, start: Start, labels: &[u8]) -> Option<u32> {
        self.end_by(start, self.look_ups.key(labels), || labels)
    }

    /// The same by a key; the labels, in the form of a 1.0 message, are asked for only if the series is new or something is
    /// wrong.
    #[inline]
    pub fn end_by<L: AsRef<[u8]>>(&mut self, start: Start, key: Key, labels: impl Fn() -> L) -> Option<u32> {
        let known = self.look_ups.series(key, &self.pin);
        match known.map_or_else(|| self.new_series(key, labels().as_ref()), Ok) {
            Ok(series) => {
                let rows = &mut self.points.rows[start.rows..];
                let first = self.accepted.from.max(TIME_MIN);
                let mut good = true;
                for row in rows {
                    row.series = series;
                    good &= (first..=TIME_MAX).contains(&row.time);
                }
                if !good {
                    self.drop_unacceptable(start, labels().as_ref());
                }
                let taken = &self.points.rows[start.rows..];
                let floats = taken.iter().filter(|row| Some(row.layout) == self.floats).count() as u64;
                self.samples += floats;
                self.histograms_taken += taken.len() as u64 - floats;
                Some(series)
            }
            Err(why) => {
                self.refuse(start, labels().as_ref(), &why);
                None
            }
        }
    }

    /// Takes the samples since `start` back.
    #[cold]
    pub fn refuse(&mut self, start: Start, labels: &[u8], why: &str) {
        self.points.rows.truncate(start.rows);
        self.points.values.truncate(start.values);
        self.points.text.truncate(start.text);
        self.refused.add(|| format!("{}: {why}", shown(labels)));
    }

    #[cold]
    fn drop_unacceptable(&mut self, start: Start, labels: &[u8]) {
        let rows = self.points.rows.split_off(start.rows);
        for row in rows {
            if (TIME_MIN..=TIME_MAX).contains(&row.time) && self.accepted.takes(row.time) {
                self.points.rows.push(row);
            } else if row.time < self.accepted.from {
                let why = self.accepted.refuse(row.time, METRICS_TABLE);
                self.refused.add(|| format!("{}: the sample's time {why}", shown(labels)));
            } else {
                self.refused.add(|| {
                    format!(
                        "{}: the sample's time is beyond what nanoseconds can say (the years 1677 to 2262)",
                        shown(labels)
                    )
                });
            }
        }
    }

    /// The place of the layout of rows with only this field.
    fn layout(&mut self, field: &str, field_type: FieldType) -> Result<u32> {
        let layout = self.table.layout_or_new(&[(field, field, field_type)], self.target.limits)?;
        self.points.layouts.push(layout.columns.clone());
        Ok(self.points.layouts.len() as u32 - 1)
    }

    /// An exemplar of a series. `labels` are its own, as a series' are written.
    pub fn exemplar(&mut self, series: u32, labels: &[u8], time_ms: i64, value: f64) {
        let mut tags: Vec<(String, String)> = Vec::new();
        let mut chars = 0;
        for pair in pairs(labels) {
            let Ok((name, value)) = pair else { return };
            let (name, value) = (as_str(name), as_str(value));
            chars += name.chars().count() + value.chars().count();
            tags.push((name.to_string(), value.to_string()));
        }
        tags.sort();
        let distinct = tags.is_sorted_by(|a, b| a.0 < b.0);
        let sound = tags
            .iter()
            .all(|(name, value)| !name.is_empty() && !name.contains('\0') && !value.contains('\0'));
        // As Prometheus does, without a word: an exemplar is a hint.
        if chars > EXEMPLAR_CHARS_MAX || !distinct || !sound {
            return;
        }
        self.exemplars.push(Exemplar {
            series: self.table.series_tags(series),
            labels: TagSet::new(tags),
            value,
            time: time_ms.saturating_mul(NANOS_PER_MILLI),
        });
    }

    /// A text that a message has once and refers to.
    pub fn key(&self, word: &[u8]) -> Key {
        self.look_ups.key(word)
    }

    /// A series that is told by such texts.
    pub fn key_of_words(&self, words: impl Iterator<Item = Key>, room: &mut Vec<u8>) -> Key {
        self.look_ups.key_of_words(words, room)
    }

    #[cold]
    fn new_series(&mut self, key: Key, labels: &[u8]) -> std::result::Result<u32, String> {
        let tags = tags_of(labels)?;
        let series_max = self.target.limits.series_per_table_max;
        let series =
            self.table.series_or_new(&tags, series_max, &self.pin).map_err(|error| error.to_string())?;
        Ok(self.look_ups.insert(key, Arc::clone(&self.table), series, &self.pin).series)
    }

    /// What a sender says of a metric. Only what is new is kept.
    pub fn describe(&mut self, metric: &str, info: MetricInfo) {
        let sound = !metric.is_empty() && !metric.contains('\0') && metric.len() <= NAME_BYTES_MAX;
        if sound && !self.target.database.metadata.knows(metric, &info) {
            self.metadata.insert(metric.to_string(), info);
        }
    }

    /// Everything that was taken.
    pub fn finish(mut self) -> Result<Received> {
        let metadata: Vec<_> = std::mem::take(&mut self.metadata).into_iter().collect();
        let mut parts = Vec::new();
        if !metadata.is_empty() {
            parts.push(self.metadata_part(&metadata)?);
        }
        parts.extend(BatchPart::split(self.table, self.points, self.accepted.from));
        Ok(Received {
            batch: Batch { parts, pin: Some(self.pin) },
            samples: self.samples,
            histograms: self.histograms_taken,
            exemplars: self.exemplars,
            metadata,
            refused: self.refused,
        })
    }

    fn metadata_part(&self, metadata: &[(String, MetricInfo)]) -> Result<BatchPart> {
        let Target { registry, database, limits, .. } = self.target;
        let table = registry.table_or_new(database, METADATA_TABLE);
        let fields = METADATA_FIELDS.map(|name| (name, name, FieldType::Str));
        let layout = table.layout_or_new(&fields, limits)?;
        let mut points = Points { layouts: vec![layout.columns.clone()], ..Points::default() };
        for (metric, info) in metadata {
            let tags = TagSet::new([(METADATA_TAG, metric)]);
            let series = table.series_or_new(&tags, limits.series_per_table_max, &self.pin)?;
            let values = points.values.len() as u32;
            for text in [info.kind.name(), &info.help, &info.unit] {
                points.values.push(StrRef::new(points.text.len(), text.len()).0);
                points.text.extend_from_slice(text.as_bytes());
            }
            points.rows.push(PointRow { time: METADATA_TIME, series, layout: 0, values });
        }
        Ok(BatchPart::new(table, points))
    }
}

const NANOS_PER_MILLI: i64 = 1_000_000;

/// The tag and the fields of `metrics_metadata`.
pub const METADATA_TAG: &str = "metric";
pub const METADATA_FIELDS: [&str; 3] = ["type", "help", "unit"];

/// One row per metric: what is said later overwrites it.
pub const METADATA_TIME: Time = 0;

/// Appends one `Label` message as the first field of its series.
#[inline]
pub fn put_label(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let [name_bytes, value_bytes] = [name, value].map(|text| 1 + varint_len(text.len() as u64) + text.len());
    out.push(LABEL_KEY);
    put_varint(out, (name_bytes + value_bytes) as u64);
    for (key, text) in [(LABEL_KEY, name), (LABEL_VALUE_KEY, value)] {
        out.push(key);
        put_varint(out, text.len() as u64);
        out.extend_from_slice(text);
    }
}

/// Field 1, of bytes: a label of a series, and the name of a label.
pub const LABEL_KEY: u8 = 1 << 3 | 2;
const LABEL_VALUE_KEY: u8 = 2 << 3 | 2;

/// Name and value of each label.
fn pairs(labels: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), Malformed>> {
    Fields::of(labels).map(|field| {
        let (mut name, mut value): (&[u8], &[u8]) = (b"", b"");
        for part in Fields::of(field?.value.bytes()?) {
            let part = part?;
            match part.number {
                1 => name = part.value.bytes()?,
                2 => value = part.value.bytes()?,
                _ => {}
            }
        }
        Ok((name, value))
    })
}

/// Reads and checks the labels of a new series.
pub fn tags_of(labels: &[u8]) -> std::result::Result<TagSet, String> {
    if labels.len() > NAME_BYTES_MAX {
        let len = labels.len();
        return Err(format!(
            "its labels take {len} bytes, the limit is {NAME_BYTES_MAX}; shorten the values"
        ));
    }
    let mut tags: Vec<(&str, &str)> = Vec::new();
    let mut last = None;
    for pair in pairs(labels) {
        let (name, value) = pair.map_err(|malformed| malformed.to_string())?;
        let text = |what: &str, bytes: &'_ [u8]| -> std::result::Result<(), String> {
            match std::str::from_utf8(bytes) {
                Err(_) => Err(format!("the {what} {} is not UTF-8", String::from_utf8_lossy(bytes))),
                Ok(text) if text.contains('\0') => Err(format!("the {what} {text:?} has a NUL character")),
                Ok(_) => Ok(()),
            }
        };
        text("label name", name)?;
        text("label value", value)?;
        let (name, value) = (as_str(name), as_str(value));
        if name.is_empty() {
            return Err("a label has no name".to_string());
        }
        match last {
            Some(last) if last == name => return Err(format!("the label {name} stands there twice")),
            Some(last) if last > name => {
                return Err(format!("the label {name} stands after {last}; labels must be sorted by name"));
            }
            _ => last = Some(name),
        }
        if tags.len() == TAGS_PER_LINE_MAX {
            return Err(format!("it has more than {TAGS_PER_LINE_MAX} labels"));
        }
        // A label without a value is no label, as in Prometheus.
        if !value.is_empty() {
            tags.push((name, value));
        }
    }
    if !tags.iter().any(|(name, _)| *name == METRIC_NAME) {
        return Err(format!("it has no metric name (the label {METRIC_NAME})"));
    }
    Ok(TagSet::from_sorted(tags))
}

/// Of bytes that were checked.
fn as_str(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// A series for a person: `{__name__="up", job="node"}`, cut.
fn shown(labels: &[u8]) -> String {
    let pairs: Vec<String> = pairs(labels)
        .filter_map(std::result::Result::ok)
        .map(|(name, value)| {
            format!("{}={:?}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        })
        .collect();
    let mut text = format!("series {{{}}}", pairs.join(", "));
    if text.len() > SERIES_SHOWN_BYTES_MAX {
        text.truncate(text.floor_char_boundary(SERIES_SHOWN_BYTES_MAX));
        text.push_str("...");
    }
    text
}
