//! Series in, one Parquet file out.
//!
//! Rows wait until they fill whole pages, so that pages hold exactly [`PAGE_ROWS`] rows however small
//! the pushes; encoded pages wait in memory until their row group is full. Memory is bounded by one row
//! group ([`ROW_GROUP_BYTES_MAX`]), the waiting rows and the index.
//! Not here: merging and conflicts; the caller brings every row once and in order.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, DictionaryArray, Int32Array, StringArray, TimestampNanosecondArray, new_null_array,
};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Int32Type, SchemaRef};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use super::index::IndexBuilder;
use super::names::TIME_COLUMN;
use super::schema::{self, BlockMeta, BlockSchema};
use super::seal::{SEAL_KEY, Seal, SealedWriter};
use super::{BlockError, PAGE_ROWS, ROW_GROUP_ROWS, Result};
use crate::point::{TIME_MAX, TagSet, Time, TimeRange};

/// Encoded bytes after which a row group ends early: wide tables would otherwise hold GiBs.
pub const ROW_GROUP_BYTES_MAX: usize = 128 << 20;

/// Rows are encoded in steps of this many pages, fewer when the table is wide: calls into the encoder
/// and the copy that joins small series are spread over them, and the values of a step stay in cache.
const STEP_PAGES_MAX: usize = 8;
const STEP_VALUES_MAX: usize = 1 << 20;

pub struct BlockWriter<W: Write + Send> {
    file: SerializedFileWriter<SealedWriter<W>>,
    group_factory: ArrowRowGroupWriterFactory,
    arrow: SchemaRef,
    schema: BlockSchema,
    footer: String,
    index: IndexBuilder,
    newest: Option<(TagSet, Time)>,
    waiting: Waiting,
    group: Option<Group>,
    step_rows: usize,
    group_bytes_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSummary {
    pub rows: u64,
    pub series: u64,
    /// From the first time to just after the last; empty if there are no rows.
    pub time: TimeRange,
    pub bytes: u64,
    /// The part of `bytes` that is our index.
    pub index_bytes: u64,
}

impl<W: Write + Send> BlockWriter<W> {
    pub fn new(out: W, schema: BlockSchema, meta: &BlockMeta, zstd_level: i32) -> Result<BlockWriter<W>> {
        schema.check();
        let arrow = schema.arrow(DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)));
        let parquet = ArrowSchemaConverter::new().schema_root("block").convert(&arrow)?;
        let properties = Arc::new(properties(&schema, meta, zstd_level)?);
        let file = SerializedFileWriter::new(SealedWriter::new(out), parquet.root_schema_ptr(), properties)?;
        let step_pages = STEP_VALUES_MAX / PAGE_ROWS / (1 + schema.fields.len());
        Ok(BlockWriter {
            group_factory: ArrowRowGroupWriterFactory::new(&file, arrow.clone()),
            file,
            arrow,
            footer: schema::encode(&schema, meta),
            index: IndexBuilder::new(&schema.tags),
            newest: None,
            waiting: Waiting::new(&schema),
            group: None,
            step_rows: step_pages.clamp(1, STEP_PAGES_MAX) * PAGE_ROWS,
            group_bytes_max: ROW_GROUP_BYTES_MAX,
            schema,
        })
    }

    /// Ends row groups earlier, where there is less memory than [`ROW_GROUP_BYTES_MAX`].
    pub fn limit_group_bytes(&mut self, bytes_max: usize) {
        self.group_bytes_max = bytes_max.min(ROW_GROUP_BYTES_MAX);
    }

    /// Rows of one series: a new one, after all others, or more of the newest one, after its rows.
    /// `columns` has one entry per field of the schema; `None` is missing in all rows.
    ///
    /// # Panics
    /// When series or times do not ascend, or columns do not fit the schema: such a block must not
    /// come to be.
    pub fn push_series(&mut self, tags: &TagSet, times: &[Time], columns: &[Option<ArrayRef>]) -> Result<()> {
        self.check_columns(times.len(), columns);
        let (Some(&first), Some(&last)) = (times.first(), times.last()) else { return Ok(()) };
        assert!(times.is_sorted_by(|a, b| a < b), "bug: the times of a series must ascend");
        assert!(last <= TIME_MAX, "bug: a time that no half-open range can hold");

        match &mut self.newest {
            Some((newest, time)) if newest == tags => {
                assert!(*time < first, "bug: a series must go on after its last time");
                *time = last;
            }
            newest => {
                let ascends = newest.as_ref().is_none_or(|(newest, _)| newest < tags);
                assert!(ascends, "bug: the series of a block must ascend");
                *newest = Some((tags.clone(), last));
                let series = self.index.add_series(tags);
                self.waiting.series.push_back((series, 0));
                // A series that fits one row group stays in one, unless that wastes half a group.
                let rows = self.group_rows();
                if rows + times.len() > ROW_GROUP_ROWS && rows >= ROW_GROUP_ROWS / 2 {
                    self.end_group()?;
                }
            }
        }
        self.index.add_rows(times);

        let mut done = 0;
        while done < times.len() {
            let part = (times.len() - done).min(ROW_GROUP_ROWS - self.group_rows());
            self.waiting.push(times, columns, done, part);
            done += part;
            while self.waiting.rows() >= self.step_rows {
                self.encode(self.step_rows)?;
            }
            if self.group_rows() == ROW_GROUP_ROWS {
                self.end_group()?;
            }
        }
        Ok(())
    }

    /// Writes the rest, the index and the footer, and flushes. What the file is worth after a crash is
    /// the caller's concern.
    pub fn finish(mut self) -> Result<(W, BlockSummary)> {
        self.end_group()?;
        // What the file writer still buffers must pass before the tail starts.
        self.file.flush()?;
        let (offset, page_sums) = self.file.inner_mut().start_tail();
        let index = self.index.encode(&page_sums);
        self.file.write_all(&index)?;
        let seal = Seal { offset, len: index.len() as u64, crc: 0 };
        // The seal last: it is found as the last of its key.
        for (key, value) in [(schema::FOOTER_KEY, self.footer), (SEAL_KEY, seal.text())] {
            self.file.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        let (out, bytes) = self.file.into_inner()?.finish()?;
        let summary = BlockSummary {
            rows: self.index.rows(),
            series: self.index.series() as u64,
            time: self.index.time(),
            bytes,
            index_bytes: seal.len,
        };
        Ok((out, summary))
    }

    /// Bytes that have reached the output: finished row groups.
    pub fn bytes_written(&self) -> u64 {
        self.file.bytes_written() as u64
    }

    fn check_columns(&self, rows: usize, columns: &[Option<ArrayRef>]) {
        assert!(columns.len() == self.schema.fields.len(), "bug: one column per field");
        for (field, column) in self.schema.fields.iter().zip(columns) {
            let Some(column) = column else { continue };
            assert!(column.data_type() == &field.data_type, "bug: `{}` has another type", field.name);
            assert!(column.len() == rows, "bug: `{}` has another number of rows", field.name);
        }
    }

    fn group_rows(&self) -> usize {
        self.waiting.rows() + self.group.as_ref().map_or(0, |group| group.rows)
    }

    /// Encodes the first `rows` of the waiting rows into the current row group.
    fn encode(&mut self, rows: usize) -> Result<()> {
        let columns = self.waiting.take(rows, &self.index)?;
        if self.group.is_none() {
            let place = self.file.flushed_row_groups().len();
            let writers = self.group_factory.create_column_writers(place)?;
            self.group = Some(Group { writers, rows: 0 });
        }
        let Some(group) = &mut self.group else { return Ok(()) };
        for ((field, column), writer) in self.arrow.fields().iter().zip(columns).zip(&mut group.writers) {
            for leaf in compute_leaves(field, &column)? {
                writer.write(&leaf)?;
            }
        }
        group.rows += rows;
        let bytes: usize = group.writers.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum();
        if bytes > self.group_bytes_max {
            self.write_group()?;
        }
        Ok(())
    }

    fn end_group(&mut self) -> Result<()> {
        if self.waiting.rows() > 0 {
            self.encode(self.waiting.rows())?;
        }
        self.write_group()
    }

    fn write_group(&mut self) -> Result<()> {
        let Some(group) = self.group.take() else { return Ok(()) };
        let chunks = group.writers.into_iter().map(ArrowColumnWriter::close);
        let chunks = chunks.collect::<std::result::Result<Vec<_>, _>>()?;
        for chunk in &chunks {
            let closed = chunk.close();
            let pages = closed.offset_index.as_ref().expect("offset indexes are never turned off");
            let pages = pages.page_locations().iter().map(|page| page.compressed_page_size as u64);
            // What is no data page is the dictionary, and that comes first.
            let dictionary = closed.metadata.compressed_size() as u64 - pages.clone().sum::<u64>();
            for len in std::iter::once(dictionary).filter(|len| *len > 0).chain(pages) {
                self.file.inner_mut().expect_page(len);
            }
        }
        let mut out = self.file.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut out)?;
        }
        out.close()?;
        Ok(())
    }
}

struct Group {
    writers: Vec<ArrowColumnWriter>,
    rows: usize,
}

/// Rows that do not fill a step yet.
struct Waiting {
    tags: usize,
    times: Vec<Time>,
    /// Which series the rows belong to, and how many. The last one may have none here.
    series: VecDeque<(u32, usize)>,
    /// Per field, pieces that follow one another.
    columns: Vec<(DataType, VecDeque<ArrayRef>)>,
}

impl Waiting {
    fn new(schema: &BlockSchema) -> Waiting {
        Waiting {
            tags: schema.tags.len(),
            times: Vec::new(),
            series: VecDeque::new(),
            columns: schema.fields.iter().map(|field| (field.data_type.clone(), VecDeque::new())).collect(),
        }
    }

    fn rows(&self) -> usize {
        self.times.len()
    }

    fn push(&mut self, times: &[Time], columns: &[Option<ArrayRef>], start: usize, rows: usize) {
        self.times.extend_from_slice(&times[start..start + rows]);
        self.series.back_mut().expect("a series was started").1 += rows;
        for ((data_type, pieces), column) in self.columns.iter_mut().zip(columns) {
            pieces.push_back(match column {
                Some(column) if column.len() == rows => column.clone(),
                Some(column) => column.slice(start, rows),
                None => new_null_array(data_type, rows),
            });
        }
    }

    /// The first `rows` rows as columns of the file.
    fn take(&mut self, rows: usize, index: &IndexBuilder) -> Result<Vec<ArrayRef>> {
        let times: Vec<Time> = self.times.drain(..rows).collect();
        let mut taken: Vec<ArrayRef> =
            vec![Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"))];
        let series = self.take_series(rows);
        taken.extend((0..self.tags).map(|tag| tag_column(&index.tag_runs(tag, &series), rows)));
        for (_, pieces) in &mut self.columns {
            taken.push(take_pieces(pieces, rows)?);
        }
        Ok(taken)
    }

    fn take_series(&mut self, rows: usize) -> Vec<(u32, usize)> {
        let mut taken = Vec::new();
        let mut left = rows;
        while left > 0 {
            let (series, waiting) = self.series.front_mut().expect("every row belongs to a series");
            let part = left.min(*waiting);
            taken.push((*series, part));
            *waiting -= part;
            left -= part;
            // The newest series stays: more of it may come.
            if *waiting == 0 && self.series.len() > 1 {
                self.series.pop_front();
            }
        }
        taken
    }
}

/// One dictionary entry per run, so that no string is made per row.
fn tag_column(runs: &[(Option<&Arc<str>>, usize)], rows: usize) -> ArrayRef {
    let values = StringArray::from_iter_values(runs.iter().filter_map(|(value, _)| *value));
    let mut keys: Vec<Option<i32>> = Vec::with_capacity(rows);
    let mut next = 0..;
    for (value, rows) in runs {
        let key = value.and_then(|_| next.next());
        keys.resize(keys.len() + rows, key);
    }
    Arc::new(DictionaryArray::<Int32Type>::new(Int32Array::from(keys), Arc::new(values)))
}

fn take_pieces(pieces: &mut VecDeque<ArrayRef>, rows: usize) -> Result<ArrayRef> {
    let mut taken: Vec<ArrayRef> = Vec::new();
    let mut left = rows;
    while left > 0 {
        let piece = pieces.pop_front().expect("every row has a piece in every column");
        if piece.len() > left {
            pieces.push_front(piece.slice(left, piece.len() - left));
            taken.push(piece.slice(0, left));
            left = 0;
        } else {
            left -= piece.len();
            taken.push(piece);
        }
    }
    match taken.as_slice() {
        [whole] => Ok(whole.clone()),
        parts => {
            let parts: Vec<&dyn Array> = parts.iter().map(|part| part.as_ref()).collect();
            concat(&parts).map_err(|error| BlockError::Parquet { what: error.to_string() })
        }
    }
}

/// How columns are encoded: what DuckDB, pyarrow, Polars and Spark all read, and no more.
fn properties(schema: &BlockSchema, meta: &BlockMeta, zstd_level: i32) -> Result<WriterProperties> {
    let level = ZstdLevel::try_new(zstd_level)?;
    let (tag_columns, field_columns) = schema.columns();
    // Tags ascend with missing ones first, then time: column 0 is time.
    let sorted =
        |column: usize| SortingColumn { column_idx: column as i32, descending: false, nulls_first: true };
    let sorting = (1..=tag_columns.len()).chain([0]).map(sorted).collect();

    let mut builder = WriterProperties::builder()
        .set_created_by(format!("waterclock version {}", meta.created_by))
        .set_compression(Compression::ZSTD(level))
        // The limit is looked at between write batches: equal to it, pages are never longer.
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS)
        // Row groups end where this writer says.
        .set_max_row_group_row_count(None)
        .set_sorting_columns(Some(sorting))
        // Per row group for others; per page for time only, by which we skip pages.
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_column_statistics_enabled(path(TIME_COLUMN), EnabledStatistics::Page)
        .set_column_encoding(path(TIME_COLUMN), Encoding::DELTA_BINARY_PACKED)
        .set_column_dictionary_enabled(path(TIME_COLUMN), false);
    for column in tag_columns {
        builder = builder.set_column_dictionary_enabled(path(&column), true);
    }
    for (field, column) in schema.fields.iter().zip(field_columns) {
        let column = path(&column);
        builder = match field.data_type {
            DataType::Int64 | DataType::UInt64 | DataType::Timestamp(..) => builder
                .set_column_encoding(column.clone(), Encoding::DELTA_BINARY_PACKED)
                .set_column_dictionary_enabled(column, false),
            // No bounds of texts and sketches: they may be huge and prune nothing.
            DataType::Utf8 => builder
                .set_column_dictionary_enabled(column.clone(), true)
                .set_column_statistics_enabled(column, EnabledStatistics::None),
            DataType::Binary => builder
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_statistics_enabled(column, EnabledStatistics::None),
            _ => builder.set_column_dictionary_enabled(column, false),
        };
    }
    Ok(builder.build())
}

/// One name, whatever dots it has.
fn path(column: &str) -> ColumnPath {
    ColumnPath::new(vec![column.to_owned()])
}
