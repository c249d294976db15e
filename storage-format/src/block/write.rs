//! Series in, one Parquet file out.
//!
//! Rows wait until they fill whole pages, so that pages hold exactly as many rows as they should however small
//! the pushes; the first of a row group wait until there are enough to choose its encodings by; encoded
//! pages wait in memory until their row group is full. Memory is bounded by one row group
//! ([`ROW_GROUP_BYTES_MAX`]), the waiting rows ([`CHOICE_BYTES`] and a step) and the index.
//! Not here: which encodings there are and which is chosen (`encoding`); merging and conflicts, as the
//! caller brings every row once and in order.

use std::collections::VecDeque;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, TimestampNanosecondArray, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::DataType;
use parquet::file::metadata::KeyValue;
use parquet::file::writer::SerializedFileWriter;

use super::columns::{ColumnChunk, ColumnWriter};
use super::encoding::{Effort, Encoder, GroupWriters, ValueEncoding, has_choice};
use super::index::IndexBuilder;
use super::labels::LabelsWriter;
use super::pages::PageZstd;
use super::schema::{self, BlockMeta, BlockSchema};
use super::seal::{SEAL_KEY, Seal, SealedWriter};
use super::tags::TagWriter;
use super::{BlockError, PAGE_ROWS, ROW_GROUP_ROWS, Result};
use crate::point::{TIME_MAX, TagSet, Time, TimeRange};

/// Encoded bytes after which a row group ends early: wide tables would otherwise hold GiBs.
pub const ROW_GROUP_BYTES_MAX: usize = 128 << 20;

/// Rows are encoded in steps of this many times [`PAGE_ROWS`], fewer when the table is wide: calls into the encoder
/// and the copy that joins small series are spread over them, and the values of a step stay in cache.
const STEP_PAGES_MAX: usize = 8;
const STEP_VALUES_MAX: usize = 1 << 20;

/// Encodings are chosen by a sample of so many bytes of values, or of a row group that is smaller.
/// Narrow tables, where neighbours may be metrics of quite different kinds, so have a whole row group
/// to sample from.
const CHOICE_BYTES: usize = 16 << 20;

/// Every so many pages of what the choice is made by, one is tried: trying all three encodings of floats
/// then costs about a tenth of encoding all pages once.
const CHOICE_PAGES_PER_SAMPLE: usize = 32;

pub struct BlockWriter<W: Write + Send> {
    file: SerializedFileWriter<SealedWriter<W>>,
    encoder: Encoder,
    zstd: PageZstd,
    /// For all fields alike, instead of by choice.
    forced: Option<ValueEncoding>,
    schema: BlockSchema,
    footer: String,
    index: IndexBuilder,
    /// The tags with columns and those in the map, by their places in the index.
    with_columns: Vec<usize>,
    in_map: Vec<usize>,
    newest: Option<(TagSet, Time)>,
    waiting: Waiting,
    group: Option<Group>,
    step_rows: usize,
    choice_rows: usize,
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
    pub fn new(out: W, schema: BlockSchema, meta: &BlockMeta, effort: Effort) -> Result<BlockWriter<W>> {
        schema.check();
        let encoder = Encoder::new(&schema, meta, effort)?;
        let file = encoder.file(SealedWriter::new(out))?;
        let fields = schema.fields.len();
        let step_pages = (STEP_VALUES_MAX / PAGE_ROWS / (1 + fields)).clamp(1, STEP_PAGES_MAX);
        let choice_pages = CHOICE_BYTES / size_of::<u64>() / PAGE_ROWS / (1 + fields);
        let index = IndexBuilder::new(&schema.tags, schema.layout.order());
        let with_columns = schema.layout.with_columns(&schema.tags);
        let in_map = schema.tags.iter().filter(|tag| schema.layout.is_in_map(tag));
        Ok(BlockWriter {
            file,
            encoder,
            zstd: PageZstd::new(effort)?,
            forced: None,
            footer: schema::encode(&schema, meta),
            with_columns: with_columns.into_iter().map(|tag| index.tag_place(tag)).collect(),
            in_map: in_map.map(|tag| index.tag_place(tag)).collect(),
            index,
            newest: None,
            waiting: Waiting::new(&schema),
            group: None,
            step_rows: (step_pages * PAGE_ROWS).next_multiple_of(schema.page_rows()),
            choice_rows: match schema.fields.iter().any(|field| has_choice(&field.data_type)) {
                true => (choice_pages.max(step_pages) * PAGE_ROWS).next_multiple_of(schema.page_rows()),
                false => 0,
            },
            group_bytes_max: ROW_GROUP_BYTES_MAX,
            schema,
        })
    }

    /// All fields that can be are encoded so, whatever suits them: to measure the choice by.
    pub fn force_encoding(&mut self, encoding: ValueEncoding) {
        self.forced = Some(encoding);
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
                let order = self.schema.layout.order();
                let ascends = newest.as_ref().is_none_or(|(newest, _)| order.cmp(newest, tags).is_lt());
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
            while self.waiting.rows() >= self.enough_rows() {
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

    /// How many rows must wait for the next step.
    fn enough_rows(&self) -> usize {
        if self.group.is_some() { self.step_rows } else { self.choice_rows.max(self.step_rows) }
    }

    /// Encodes the first `rows` of the waiting rows into the current row group.
    fn encode(&mut self, rows: usize) -> Result<()> {
        if self.group.is_none() {
            self.group = Some(Group { writers: self.start_group()?, rows: 0 });
        }
        let Some(Group { writers, rows: group_rows }) = &mut self.group else { return Ok(()) };
        let series = self.waiting.take_series(rows);
        for (tag, writer) in self.with_columns.iter().zip(&mut writers.tags) {
            for (id, rows) in self.index.tag_runs(*tag, &series) {
                writer.push(id, self.index.tag_value(*tag, id), rows, &mut self.zstd.tags)?;
            }
        }
        if let Some(writer) = &mut writers.labels {
            for (series, rows) in &series {
                writer.push(self.index.values(*series, &self.in_map), *rows, &mut self.zstd.tags)?;
            }
        }
        let columns = self.waiting.take(rows)?;
        let all = self.encoder.arrow().fields();
        let (time, fields) = (&all[0], &all[self.schema.first_field()..]);
        let writing = std::iter::once(&mut writers.time).chain(&mut writers.fields);
        for ((field, column), writer) in std::iter::once(time).chain(fields).zip(columns).zip(writing) {
            writer.write(field, &column, &mut self.zstd)?;
        }
        *group_rows += rows;
        let bytes = writers.fields.iter().map(ColumnWriter::bytes).sum::<usize>()
            + writers.tags.iter().map(TagWriter::bytes).sum::<usize>()
            + writers.labels.as_ref().map_or(0, LabelsWriter::bytes)
            + writers.time.bytes();
        if bytes > self.group_bytes_max {
            self.write_group()?;
        }
        Ok(())
    }

    /// Chooses by the rows that wait now.
    fn start_group(&self) -> Result<GroupWriters> {
        let encodings = match self.forced {
            Some(encoding) => vec![encoding; self.schema.fields.len()],
            None => {
                let samples = self.waiting.samples(CHOICE_PAGES_PER_SAMPLE)?;
                self.encoder.choose(&samples, self.waiting.rows())?
            }
        };
        self.encoder.writers(&encodings, self.forced)
    }

    fn end_group(&mut self) -> Result<()> {
        while self.waiting.rows() > 0 {
            self.encode(self.waiting.rows().min(self.step_rows))?;
        }
        self.write_group()
    }

    fn write_group(&mut self) -> Result<()> {
        let Some(group) = self.group.take() else { return Ok(()) };
        let GroupWriters { time, tags, labels, fields } = group.writers;
        let mut chunks = vec![time.close(&mut self.zstd)?];
        for tag in tags {
            chunks.push(ColumnChunk::Ours(tag.close(&mut self.zstd.tags)?));
        }
        if let Some(labels) = labels {
            chunks.extend(labels.close(&mut self.zstd.tags)?.map(ColumnChunk::Ours));
        }
        for field in fields {
            chunks.push(field.close(&mut self.zstd)?);
        }
        for chunk in &chunks {
            let (dictionary, pages) = chunk.page_bytes();
            for len in std::iter::once(dictionary).filter(|len| *len > 0).chain(pages) {
                self.file.inner_mut().expect_page(len);
            }
        }
        let mut out = self.file.next_row_group()?;
        for chunk in chunks {
            chunk.append_to(&mut out)?;
        }
        out.close()?;
        Ok(())
    }
}

struct Group {
    writers: GroupWriters,
    rows: usize,
}

/// Rows that do not fill a step yet.
struct Waiting {
    times: VecDeque<Time>,
    /// Which series the rows belong to, and how many. The last one may have none here.
    series: VecDeque<(u32, usize)>,
    /// Per field, pieces that follow one another.
    columns: Vec<(DataType, VecDeque<ArrayRef>)>,
}

impl Waiting {
    fn new(schema: &BlockSchema) -> Waiting {
        Waiting {
            times: VecDeque::new(),
            series: VecDeque::new(),
            columns: schema.fields.iter().map(|field| (field.data_type.clone(), VecDeque::new())).collect(),
        }
    }

    fn rows(&self) -> usize {
        self.times.len()
    }

    fn push(&mut self, times: &[Time], columns: &[Option<ArrayRef>], start: usize, rows: usize) {
        self.times.extend(&times[start..start + rows]);
        self.series.back_mut().expect("a series was started").1 += rows;
        for ((data_type, pieces), column) in self.columns.iter_mut().zip(columns) {
            pieces.push_back(match column {
                Some(column) if column.len() == rows => column.clone(),
                Some(column) => column.slice(start, rows),
                None => new_null_array(data_type, rows),
            });
        }
    }

    /// The times and the fields of the first `rows` rows.
    fn take(&mut self, rows: usize) -> Result<Vec<ArrayRef>> {
        let times: Vec<Time> = self.times.drain(..rows).collect();
        let mut taken: Vec<ArrayRef> =
            vec![Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"))];
        for (_, pieces) in &mut self.columns {
            taken.push(take_pieces(pieces, rows)?);
        }
        Ok(taken)
    }

    /// Of each field with a choice one page of every `pages_per_sample`, at least one; in a short run all of it.
    fn samples(&self, pages_per_sample: usize) -> Result<Vec<Option<ArrayRef>>> {
        let step = PAGE_ROWS * pages_per_sample;
        // Not the first of each stretch but the middle one: the first rows are all of the first series.
        let first = (self.rows().min(step) / 2).next_multiple_of(PAGE_ROWS).saturating_sub(PAGE_ROWS);
        let starts: Vec<usize> = (first..self.rows()).step_by(step).collect();
        let sample = |(data_type, pieces): &(DataType, VecDeque<ArrayRef>)| {
            if !has_choice(data_type) {
                return Ok(None);
            }
            let mut parts = Vec::new();
            for &start in &starts {
                parts.extend(slices(pieces, start..self.rows().min(start + PAGE_ROWS)));
            }
            join(&parts).map(Some)
        };
        self.columns.iter().map(sample).collect()
    }

    /// Which series the first `rows` rows belong to, and how many of them.
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
    join(&taken)
}

/// The rows `wanted` of pieces that follow one another.
fn slices(pieces: &VecDeque<ArrayRef>, wanted: Range<usize>) -> Vec<ArrayRef> {
    let mut taken = Vec::new();
    let mut start = 0;
    for piece in pieces {
        let end = start + piece.len();
        if start >= wanted.end {
            break;
        }
        if end > wanted.start {
            let from = wanted.start.max(start);
            taken.push(piece.slice(from - start, wanted.end.min(end) - from));
        }
        start = end;
    }
    taken
}

fn join(parts: &[ArrayRef]) -> Result<ArrayRef> {
    match parts {
        [whole] => Ok(whole.clone()),
        parts => {
            let parts: Vec<&dyn Array> = parts.iter().map(|part| part.as_ref()).collect();
            concat(&parts).map_err(|error| BlockError::Parquet { what: error.to_string() })
        }
    }
}
