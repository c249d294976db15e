//! Parquet of any writer: ours with its footer's word on tags and fields, others' by their types.
//!
//! Without a word on it texts are tags: rows of different texts stay different points then, whereas as fields the later
//! one would replace the earlier. `--tags` says it otherwise.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use serde::Deserialize;

use crate::cli::export::FOOTER_KEY;
use crate::cli::import::batch::{Batch, LINES_MAX, Reader};
use crate::cli::import::samples::Samples;
use crate::cli::import::source::{self, Form, Input};
use crate::cli::import::{Mapping, table_of};
use crate::error::{Error, Result};

/// The footer key of the database's own blocks.
const BLOCK_KEY: &str = "waterclock.block";

/// What others call the column with the time, the likeliest first.
const TIME_NAMES: [&str; 5] = ["time", "timestamp", "ts", "datetime", "date"];

#[derive(Deserialize)]
struct Footer {
    table: String,
    #[serde(default)]
    kind: Option<String>,
    tags: Vec<FooterColumn>,
    /// The column of the map of those tags that have none, in blocks of metrics.
    #[serde(default)]
    labels: Option<String>,
    fields: Vec<FooterColumn>,
}

#[derive(Deserialize)]
struct FooterColumn {
    name: String,
    #[serde(default)]
    column: Option<String>,
}

pub(super) struct Parquet {
    batches: ParquetRecordBatchReader,
    table: String,
    time: usize,
    /// Nanoseconds of one unit of the time column.
    time_unit: i64,
    tags: Vec<(String, usize)>,
    labels: Option<usize>,
    fields: Vec<(String, usize, DataType)>,
    row: u64,
    rows: u64,
    bytes: u64,
    file: String,
}

impl Parquet {
    pub fn open(mapping: &Mapping, input: &Input, from: u64) -> Result<Parquet> {
        let file = input.path.display().to_string();
        let bad = |what: String| Error::invalid("parquet", format!("{file}: {what}"));
        let builder = ParquetRecordBatchReaderBuilder::try_new(input.open()?)
            .map_err(|error| bad(format!("it cannot be read as Parquet: {error}")))?;
        let footer = footer(&builder).map_err(&bad)?;
        let schema = Arc::clone(builder.schema());
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let place = |name: &str| names.iter().position(|known| *known == name);
        let type_of = |place: usize| schema.field(place).data_type();

        let is_time = |place: usize| {
            matches!(type_of(place), DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
        };
        let time = match &mapping.time_column {
            Some(name) => place(name),
            None => place("time")
                .or_else(|| {
                    let usual = TIME_NAMES
                        .iter()
                        .filter_map(|usual| names.iter().position(|name| name.eq_ignore_ascii_case(usual)));
                    usual.into_iter().find(|place| is_time(*place))
                })
                .or_else(|| {
                    let mut times = (0..names.len()).filter(|place| is_time(*place));
                    times.next().filter(|_| times.next().is_none())
                }),
        };
        let time = time.ok_or_else(|| {
            let wanted = mapping.time_column.as_deref().unwrap_or("time");
            bad(format!(
                "there is no column {wanted}; --time-column says which of these has the time: {}",
                names.join(", ")
            ))
        })?;
        let time_unit = match type_of(time) {
            DataType::Timestamp(unit, _) => match unit {
                TimeUnit::Second => 1_000_000_000,
                TimeUnit::Millisecond => 1_000_000,
                TimeUnit::Microsecond => 1_000,
                TimeUnit::Nanosecond => 1,
            },
            DataType::Date32 => 86_400_000_000_000,
            DataType::Date64 => 1_000_000,
            DataType::Int64 | DataType::Int32 | DataType::UInt32 => mapping.precision.nanos(),
            other => return Err(bad(format!("the column {} is {other}, which is no time", names[time]))),
        };
        let told = footer.as_ref().map(|footer| footer.table.clone()).filter(|_| mapping.table.is_none());
        let table = told.unwrap_or_else(|| table_of(mapping, input));
        let (mut tags, mut labels, mut fields) = (Vec::new(), None, Vec::new());
        let of_footer = footer.as_ref().filter(|_| mapping.tags.is_none());
        if let Some(unknown) = mapping.tags.iter().flatten().find(|tag| place(tag).is_none()) {
            return Err(bad(format!("there is no column {unknown} for --tags")));
        }
        for (at, column) in names.iter().enumerate().filter(|(at, _)| *at != time) {
            let named = |list: &[FooterColumn]| {
                let is_it = |known: &&FooterColumn| known.column.as_deref() == Some(*column);
                list.iter().find(is_it).map(|known| known.name.clone())
            };
            if of_footer.is_some_and(|footer| footer.labels.as_deref() == Some(*column)) {
                labels = Some(at);
                continue;
            }
            // Only metrics have such a field, of native histograms.
            let field =
                field_type(type_of(at)).filter(|field| *field != DataType::Binary || Samples::are_in(&table));
            let (tag, name) = match (of_footer, &mapping.tags) {
                (Some(footer), _) => match (named(&footer.tags), named(&footer.fields)) {
                    (Some(name), _) => (true, name),
                    (None, Some(name)) => (false, name),
                    (None, None) => continue,
                },
                (None, Some(tags)) => (tags.iter().any(|tag| tag == column), (*column).to_string()),
                (None, None) => (field == Some(DataType::Utf8), (*column).to_string()),
            };
            let Some(field) = field else {
                return Err(bad(format!("the column {column} is {}, which no field can be", type_of(at))));
            };
            if tag {
                tags.push((name, at));
            } else {
                fields.push((name, at, field));
            }
        }
        let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or_default();
        let batches = builder.with_batch_size(LINES_MAX).with_offset(from.min(rows) as usize).build();
        let batches = batches.map_err(|error| bad(error.to_string()))?;
        Ok(Parquet {
            batches,
            table,
            time,
            time_unit,
            tags,
            labels,
            fields,
            row: from.min(rows),
            rows,
            bytes: input.bytes,
            file,
        })
    }

    fn bad(&self, error: &arrow::error::ArrowError) -> Error {
        Error::invalid(
            "parquet",
            format!("{}: it cannot be read behind row {}: {error}", self.file, self.row),
        )
    }

    fn cast(&self, batch: &RecordBatch, place: usize, wanted: &DataType) -> Result<ArrayRef> {
        // What does not fit is an error, not a null.
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(batch.column(place), wanted, &options).map_err(|error| self.bad(&error))
    }
}

/// Whether it is one of the database's own blocks of points, which is read as it is. Blocks of states are refused.
pub fn is_block(path: &Path) -> Result<bool> {
    let input = source::input(path, Form::Parquet)?;
    let bad = |what: String| Error::invalid("parquet", format!("{}: {what}", path.display()));
    let builder = ParquetRecordBatchReaderBuilder::try_new(input.open()?)
        .map_err(|error| bad(format!("it cannot be read as Parquet: {error}")))?;
    footer(&builder).map_err(bad)?;
    let mut pairs = builder.metadata().file_metadata().key_value_metadata().into_iter().flatten();
    Ok(pairs.any(|pair| pair.key == BLOCK_KEY))
}

/// What our own files say about themselves. Blocks of states are no points.
fn footer<T>(
    builder: &parquet::arrow::arrow_reader::ArrowReaderBuilder<T>,
) -> Result<Option<Footer>, String> {
    let pairs = builder.metadata().file_metadata().key_value_metadata().into_iter().flatten();
    let told = pairs
        .filter(|pair| pair.key == FOOTER_KEY || pair.key == BLOCK_KEY)
        .find_map(|pair| pair.value.as_deref());
    let Some(told) = told else { return Ok(None) };
    let footer: Footer = serde_json::from_str(told)
        .map_err(|error| format!("its footer is not what it should be: {error}"))?;
    match footer.kind.as_deref() {
        Some("rollup") => {
            Err("these are the states of a rollup, not points; create the rollup again instead".to_string())
        }
        _ => Ok(Some(footer)),
    }
}

/// The type of field that holds a column's values.
fn field_type(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Some(DataType::Float64),
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) => {
            Some(DataType::Float64)
        }
        DataType::UInt64 => Some(DataType::UInt64),
        DataType::Boolean => Some(DataType::Boolean),
        data_type if data_type.is_integer() => Some(DataType::Int64),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Some(DataType::Binary),
        // A dictionary of texts, of any key.
        DataType::Dictionary(_, values) => field_type(values),
        // Other times as numbers, in their own unit.
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Some(DataType::Int64),
        _ => None,
    }
}

impl Reader for Parquet {
    fn next(&mut self, batch: &mut Batch) -> Result<bool> {
        batch.clear();
        let Some(read) = self.batches.next() else {
            batch.position = self.row;
            return Ok(false);
        };
        let read = read.map_err(|error| self.bad(&error))?;
        let times = match read.column(self.time).data_type() {
            // Days since 1970 go through their own number.
            DataType::Date32 => {
                let days = self.cast(&read, self.time, &DataType::Int32)?;
                cast_with_options(&days, &DataType::Int64, &CastOptions::default())
                    .map_err(|error| self.bad(&error))?
            }
            _ => self.cast(&read, self.time, &DataType::Int64)?,
        };
        let times = times.as_primitive::<Int64Type>();
        let tags = self.tags.iter().map(|(_, place)| self.cast(&read, *place, &DataType::Utf8));
        let tags = tags.collect::<Result<Vec<ArrayRef>>>()?;
        let fields = self.fields.iter().map(|(_, place, data_type)| self.cast(&read, *place, data_type));
        let fields = fields.collect::<Result<Vec<ArrayRef>>>()?;
        let labels = self.labels.and_then(|place| read.column(place).as_map_opt());
        for row in 0..read.num_rows() {
            self.row += 1;
            let time = if times.is_null(row) { None } else { times.value(row).checked_mul(self.time_unit) };
            let Some(time) = time else {
                let why = if times.is_null(row) { "it has no time" } else { "its time is out of range" };
                batch.refused.push((self.row, why.to_string()));
                continue;
            };
            let out = batch.rows_of(&self.table);
            out.begin(&self.table);
            for ((name, _), column) in self.tags.iter().zip(&tags) {
                let column = column.as_string::<i32>();
                out.tag(name, if column.is_valid(row) { column.value(row) } else { "" });
            }
            if let Some(labels) = labels.filter(|labels| labels.is_valid(row)) {
                let entries = labels.value(row);
                let texts = |place: usize| entries.column(place).as_string::<i32>().iter().flatten();
                texts(0).zip(texts(1)).for_each(|(name, value)| out.tag(name, value));
            }
            let not_said = self
                .fields
                .iter()
                .zip(&fields)
                .filter(|((name, ..), column)| !out.cell(name, column, row))
                .count();
            batch.not_finite += not_said as u64;
            batch.end_row(&self.table, self.row, time);
        }
        batch.position = self.row;
        let share = u128::from(self.row) * u128::from(self.bytes) / u128::from(self.rows.max(1));
        batch.read_bytes = u64::try_from(share).unwrap_or(self.bytes);
        Ok(true)
    }
}
