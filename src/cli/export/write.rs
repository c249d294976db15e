//! One answer of raw points, batch by batch, as Parquet, CSV or line protocol.
//!
//! Invariant: types, nulls and every bit of a number survive; Parquet and CSV say which columns are tags, so that `import`
//! makes the same points of them. Only Parquet has words for all that metrics have.

use std::cell::Cell;
use std::io::{Read, Write};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Float64Type, Int64Type, Schema, TimestampNanosecondType, UInt64Type,
};
use arrow::ipc::reader::StreamReader;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use query_lang::time::format_time;
use serde_json::json;
use storage_format::block::{BlockField, BlockSchema, TagLayout};

use crate::cli::client::{Client, DatabaseArgs};
use crate::cli::line_text::LineText;
use crate::error::{Error, Kind, Result};

/// The key of the footer that says what the columns are: `database`, `table`, and the lists `tags` and `fields`, whose
/// members have a `name` and a `column`, as in a block's footer.
pub(in crate::cli) const FOOTER_KEY: &str = "waterclock.export";

/// An answer as it comes.
pub(super) struct Stream {
    url: String,
    reader: StreamReader<Box<dyn Read>>,
}

impl Stream {
    /// With `as_stored` points come with stale markers and native histograms, which no statement computes with.
    pub fn ask(client: &Client, statement: &str, database: &DatabaseArgs, as_stored: bool) -> Result<Stream> {
        let mut params = database.params();
        params.extend(as_stored.then_some(("raw", "on")));
        let answer = client.wql(statement, "application/vnd.apache.arrow.stream", &params)?;
        let body: Box<dyn Read> = Box::new(answer.into_body().into_reader());
        let reader = StreamReader::try_new(body, None).map_err(|error| bad(client.url(), &error))?;
        Ok(Stream { url: client.url().to_string(), reader })
    }
}

impl Iterator for Stream {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        Some(self.reader.next()?.map_err(|error| bad(&self.url, &error)))
    }
}

fn bad(url: &str, error: &arrow::error::ArrowError) -> Error {
    let why = format!("{url} broke off its answer: {error}; run it again with --resume");
    Error::rejected(Kind::Unavailable, "bad_answer", why)
}

pub(super) struct Points {
    database: String,
    table: String,
    tags: Vec<Column>,
    fields: Vec<Column>,
    stream: Stream,
}

struct Column {
    name: String,
    place: usize,
    data_type: DataType,
}

impl Points {
    pub fn ask(
        client: &Client,
        statement: &str,
        database: &DatabaseArgs,
        table: &str,
        as_stored: bool,
    ) -> Result<Points> {
        let stream = Stream::ask(client, statement, database, as_stored)?;
        let schema = stream.reader.schema();
        let columns = |role: &str| -> Vec<Column> {
            let fields = schema.fields().iter().enumerate();
            let of_role =
                fields.filter(|(_, field)| field.metadata().get("role").is_some_and(|own| own == role));
            let column = |(place, field): (usize, &Arc<Field>)| Column {
                name: field.name().clone(),
                place,
                data_type: field.data_type().clone(),
            };
            of_role.map(column).collect()
        };
        let (tags, fields) = (columns("tag"), columns("value"));
        Ok(Points { database: database.db.clone(), table: table.to_string(), tags, fields, stream })
    }

    /// `rows` is added to as they are written.
    pub fn parquet(self, out: &mut std::fs::File, rows: &Cell<u64>) -> Result<()> {
        let names = BlockSchema {
            tags: self.tags.iter().map(|tag| tag.name.clone()).collect(),
            layout: TagLayout::Columns,
            fields: self
                .fields
                .iter()
                .map(|field| BlockField { name: field.name.clone(), data_type: field.data_type.clone() })
                .collect(),
        };
        let (tag_columns, field_columns) = names.columns();
        let tag_type = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let told = |columns: &[Column], names: &[String]| {
            let told =
                columns.iter().zip(names).map(|(own, column)| json!({ "name": own.name, "column": column }));
            told.collect::<Vec<_>>()
        };
        let footer = json!({
            "database": self.database,
            "table": self.table,
            "tags": told(&self.tags, &tag_columns),
            "fields": told(&self.fields, &field_columns),
        });
        let time = self.stream.reader.schema().field(0).data_type().clone();
        let mut fields = vec![Field::new("time", time, false)];
        fields.extend(tag_columns.iter().map(|name| Field::new(name, tag_type.clone(), true)));
        let of_fields = self.fields.iter().zip(&field_columns);
        fields.extend(of_fields.map(|(field, name)| Field::new(name, field.data_type.clone(), true)));
        let schema = Arc::new(Schema::new(fields));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_key_value_metadata(Some(vec![KeyValue::new(FOOTER_KEY.to_string(), footer.to_string())]))
            .build();
        let failed = |error: parquet::errors::ParquetError| {
            Error::io("write", "the Parquet file", std::io::Error::other(error))
        };
        let mut writer = ArrowWriter::try_new(out, Arc::clone(&schema), Some(properties)).map_err(failed)?;
        for batch in self.stream {
            let batch = batch?;
            let mut columns: Vec<ArrayRef> = vec![Arc::clone(batch.column(0))];
            for tag in &self.tags {
                columns.push(cast(batch.column(tag.place), &tag_type).expect("texts become a dictionary"));
            }
            columns.extend(self.fields.iter().map(|field| Arc::clone(batch.column(field.place))));
            let batch =
                RecordBatch::try_new(Arc::clone(&schema), columns).expect("the answer has one schema");
            writer.write(&batch).map_err(failed)?;
            rows.set(rows.get() + batch.num_rows() as u64);
        }
        writer.close().map_err(failed)?;
        Ok(())
    }

    /// `#constant` and `#datatype` are those of InfluxDB's `influx write`.
    pub fn csv(self, out: &mut dyn Write, header: bool, rows: &Cell<u64>) -> Result<()> {
        let failed = |source| Error::io("write", "the CSV", source);
        let mut text = Vec::new();
        if header {
            text.extend_from_slice(b"#constant measurement,");
            quoted(&mut text, &self.table);
            text.extend_from_slice(b"\n#datatype dateTime:RFC3339Nano");
            self.tags.iter().for_each(|_| text.extend_from_slice(b",tag"));
            for field in &self.fields {
                text.push(b',');
                text.extend_from_slice(csv_type(&field.data_type).as_bytes());
            }
            text.extend_from_slice(b"\ntime");
            for column in self.tags.iter().chain(&self.fields) {
                text.push(b',');
                quoted(&mut text, &column.name);
            }
            text.push(b'\n');
        }
        for batch in self.stream {
            let batch = plain_texts(&batch?);
            let times = batch.column(0).as_primitive::<TimestampNanosecondType>();
            for row in 0..batch.num_rows() {
                text.extend_from_slice(format_time(times.value(row)).as_bytes());
                for column in self.tags.iter().chain(&self.fields) {
                    text.push(b',');
                    csv_cell(&mut text, batch.column(column.place), row);
                }
                text.push(b'\n');
            }
            rows.set(rows.get() + batch.num_rows() as u64);
            out.write_all(&text).map_err(failed)?;
            text.clear();
        }
        out.write_all(&text).and_then(|()| out.flush()).map_err(failed)
    }

    pub fn lines(self, out: &mut dyn Write, rows: &Cell<u64>) -> Result<()> {
        let failed = |source| Error::io("write", "the lines", source);
        let mut line = LineText::new();
        for batch in self.stream {
            let batch = plain_texts(&batch?);
            let times = batch.column(0).as_primitive::<TimestampNanosecondType>();
            for row in 0..batch.num_rows() {
                line.begin(&self.table);
                for tag in &self.tags {
                    let column = batch.column(tag.place).as_string::<i32>();
                    line.tag(&tag.name, if column.is_valid(row) { column.value(row) } else { "" });
                }
                for field in &self.fields {
                    line.cell(&field.name, batch.column(field.place), row);
                }
                match line.end(times.value(row)) {
                    Ok(()) => rows.set(rows.get() + 1),
                    // Only of values that are not finite.
                    Err(None) => {}
                    Err(Some(why)) => {
                        return Err(Error::invalid("line_protocol", format!("{why}; export it as Parquet")));
                    }
                }
            }
            out.write_all(&line.text).map_err(failed)?;
            line.text.clear();
        }
        out.flush().map_err(failed)
    }
}

/// The texts of tags come as numbers of texts.
fn plain_texts(batch: &RecordBatch) -> RecordBatch {
    let plain = |column: &ArrayRef| match column.data_type() {
        DataType::Dictionary(..) => cast(column, &DataType::Utf8).expect("a dictionary becomes texts"),
        _ => Arc::clone(column),
    };
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let columns = columns.map(|(field, column)| (field.name().as_str(), plain(column)));
    RecordBatch::try_from_iter(columns).expect("the columns keep their length")
}

fn csv_type(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Float64 => "double",
        DataType::Int64 => "long",
        DataType::UInt64 => "unsignedLong",
        DataType::Boolean => "boolean",
        _ => "string",
    }
}

/// Nothing for null; a text that is empty stands in quotes.
fn csv_cell(out: &mut Vec<u8>, column: &ArrayRef, row: usize) {
    if column.is_null(row) {
        return;
    }
    match column.data_type() {
        DataType::Float64 => {
            out.extend_from_slice(
                format!("{:?}", column.as_primitive::<Float64Type>().value(row)).as_bytes(),
            );
        }
        DataType::Int64 => {
            out.extend_from_slice(column.as_primitive::<Int64Type>().value(row).to_string().as_bytes());
        }
        DataType::UInt64 => {
            out.extend_from_slice(column.as_primitive::<UInt64Type>().value(row).to_string().as_bytes());
        }
        DataType::Boolean => {
            out.extend_from_slice(if column.as_boolean().value(row) { b"true" } else { b"false" });
        }
        _ => quoted(out, column.as_string::<i32>().value(row)),
    }
}

fn quoted(out: &mut Vec<u8>, text: &str) {
    let plain = !text.is_empty() && !text.contains(['"', ',', '\n', '\r', '#']) && text.trim() == text;
    if plain {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}
