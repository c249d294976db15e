//! A block opened: what the engine caches and shares. Reading rows, skipping pages, checking all.
//!
//! Invariant: nothing is decoded before its checksum held, so damage is an error that names an offset
//! and never reaches the Parquet decoder. A [`Block`] holds no file: each call brings its reader.
//! Reads go page by page; whoever has a slow disk puts read-ahead into their `ChunkReader`.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

mod audit;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, AsArray, RecordBatch, new_empty_array};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, TimestampNanosecondType};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::reader::{ChunkReader, Length};

use super::index::SeriesIndex;
use super::names::TIME_COLUMN;
use super::schema::{self, BlockMeta, BlockSchema};
use super::seal::{MAGIC, Seal, sealed_crc};
use super::{BlockError, Result};
use crate::corrupt::Corrupt;
use crate::point::{Time, TimeRange};

pub use audit::RowFault;

/// Read from the end at once. What follows the pages of a small block fits; a larger one (measured:
/// 356 KB for 2.9 M rows of 21 columns) takes one read more.
const OPEN_BYTES: u64 = 256 << 10;

/// The length of the footer and the magic, at the very end.
const ENDING_BYTES: u64 = 4 + 4;

pub struct Block {
    schema: BlockSchema,
    meta: BlockMeta,
    index: SeriesIndex,
    rows: u64,
    time: TimeRange,
    parquet: ArrowReaderMetadata,
    /// The first row of each row group; at the end the number of rows.
    groups: Vec<u64>,
    time_pages: Vec<TimePage>,
    pages: Arc<[Page]>,
}

/// Rows as asked for, joined.
pub struct BlockRows {
    pub times: ScalarBuffer<Time>,
    /// As many and in the same order as the fields asked for.
    pub columns: Vec<ArrayRef>,
}

struct TimePage {
    first_row: u64,
    min: Time,
    max: Time,
}

/// A piece of the file with a checksum of its own.
#[derive(Clone, Copy)]
struct Page {
    offset: u64,
    len: u64,
    crc: u32,
}

impl Block {
    pub fn open<R: ChunkReader>(reader: &R) -> Result<Block> {
        let tail = Tail::read(reader)?;
        let mut metadata = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
        metadata.try_parse_sized(&tail.bytes, reader.len())?;
        let metadata = metadata.finish()?;
        let text = metadata.file_metadata().key_value_metadata().into_iter().flatten();
        let text = text.rev().find(|pair| pair.key == schema::FOOTER_KEY);
        let text = text.and_then(|pair| pair.value.as_deref());
        let at_footer = |corrupt: Corrupt| Corrupt::at(corrupt.what, tail.offset);
        let text = text.ok_or(at_footer(Corrupt::new("the footer does not describe the block")))?;
        let (schema, meta, columns) = schema::decode(text).map_err(at_footer)?;
        let (index, sums) = SeriesIndex::decode(&tail.index, schema.layout.order())
            .map_err(|corrupt| corrupt.shifted(tail.offset))?;

        let pages = pages(&metadata, &sums, tail.offset).map_err(at_footer)?;
        let time_pages = time_pages(&metadata).map_err(at_footer)?;
        let mut groups = vec![0];
        let mut rows = 0;
        for group in metadata.row_groups() {
            rows += group.num_rows() as u64;
            groups.push(rows);
        }
        let series_rows = (index.len() as u32).checked_sub(1).map_or(0, |last| index.rows(last).end);
        if series_rows != rows {
            return Err(at_footer(Corrupt::new("the series have not as many rows as the file")).into());
        }
        // Only our readers are here for bounds by page; the decoder needs the offsets alone.
        let metadata = metadata.into_builder().set_column_index(None).build();
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let parquet = ArrowReaderMetadata::try_new(Arc::new(metadata), options)?;
        if !agree(&parquet, &schema, &columns) {
            let what = "the columns are not those that the footer describes";
            return Err(at_footer(Corrupt::new(what)).into());
        }

        let time = (0..index.len() as u32).map(|series| index.time(series));
        let time = time.reduce(|a, b| TimeRange::new(a.start.min(b.start), a.end.max(b.end)));
        let time = time.unwrap_or(TimeRange::new(0, 0));
        Ok(Block { schema, meta, index, rows, time, parquet, groups, time_pages, pages })
    }

    pub fn schema(&self) -> &BlockSchema {
        &self.schema
    }

    pub fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    pub fn index(&self) -> &SeriesIndex {
        &self.index
    }

    pub fn series_count(&self) -> usize {
        self.index.len()
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// From the first time to just after the last; empty if there are no rows.
    pub fn time(&self) -> TimeRange {
        self.time
    }

    /// What it holds, for whoever keeps opened blocks within a limit.
    pub fn memory_bytes(&self) -> usize {
        self.index.memory_bytes()
            + self.parquet.metadata().memory_size()
            + size_of_val(self.time_pages.as_slice())
            + size_of_val(&*self.pages)
    }

    /// What a row with `fields` (places in the schema) takes once decoded, on average: to know the size of a read before
    /// it is made.
    pub fn row_bytes(&self, fields: &[usize]) -> u64 {
        let first_field = self.schema.first_field_chunk();
        let texts = |field: usize| {
            let groups = self.parquet.metadata().row_groups().iter();
            let of_group = groups.filter_map(|group| {
                group.columns().get(first_field + field)?.unencoded_byte_array_data_bytes()
            });
            of_group.map(|bytes| bytes.max(0) as u64).sum::<u64>().div_ceil(self.rows.max(1))
        };
        let of_field = |field: &usize| match self.field_type(*field) {
            // An offset each.
            DataType::Utf8 | DataType::Binary => size_of::<i32>() as u64 + texts(*field),
            other => other.primitive_width().unwrap_or(1) as u64,
        };
        size_of::<Time>() as u64 + fields.iter().map(of_field).sum::<u64>()
    }

    /// Narrows the rows of one series to the pages that may have times in `time`. The first and the
    /// last page of the result may still hold rows outside.
    pub fn prune(&self, rows: Range<u64>, time: TimeRange) -> Range<u64> {
        let from = self.time_pages.partition_point(|page| page.first_row <= rows.start).saturating_sub(1);
        let to = self.time_pages.partition_point(|page| page.first_row < rows.end);
        let pages = self.time_pages.get(from..to).unwrap_or_default();
        let wanted = |page: &TimePage| page.min < time.end && time.start <= page.max;
        // Within the series times ascend, so the pages to keep follow one another; the first and the
        // last page may hold other series too, which makes their bounds wider but not wrong.
        let Some(first) = pages.iter().position(wanted) else { return rows.start..rows.start };
        let end = pages.iter().rposition(wanted).map_or(first, |last| last + 1);
        let start = pages.get(first).map_or(rows.start, |page| page.first_row);
        let end = pages.get(end).map_or(rows.end, |page| page.first_row);
        start.max(rows.start)..end.min(rows.end)
    }

    /// Where the rows of one series may be cut in time: the first row of each page, and no time before which that row
    /// lies. Ascending, beginning with the series' first row.
    pub fn pages_of(&self, rows: Range<u64>, time: TimeRange) -> impl Iterator<Item = (u64, Time)> {
        let from = self.time_pages.partition_point(|page| page.first_row <= rows.start);
        let to = self.time_pages.partition_point(|page| page.first_row < rows.end).max(from);
        let later = self.time_pages.get(from..to).unwrap_or_default();
        // A page that begins inside the series may end with others, whose times may be earlier.
        let pages = later.iter().map(move |page| (page.first_row, page.min.max(time.start)));
        std::iter::once((rows.start, time.start)).chain(pages)
    }

    /// Whether a page with some of these rows may have a value in a field of texts or bytes (a place in the schema), none of
    /// which is empty. It is told without reading the page.
    pub fn may_have(&self, field: usize, rows: &Range<u64>) -> bool {
        let column = self.schema.first_field_chunk() + field;
        let starts = self.groups.iter().zip(self.groups.iter().skip(1)).enumerate();
        let mut touched = starts.filter(|(_, (start, end))| **start < rows.end && rows.start < **end);
        touched.any(|(group, (start, end))| {
            let offsets = self.parquet.metadata().offset_index();
            let offsets = offsets.and_then(|groups| groups.get(group)?.get(column));
            let Some((offsets, bytes)) =
                offsets.and_then(|offsets| Some((offsets, offsets.unencoded_byte_array_data_bytes()?)))
            else {
                return true;
            };
            let firsts = offsets.page_locations().iter().map(|page| start + page.first_row_index as u64);
            let ends = firsts.clone().skip(1).chain(std::iter::once(*end));
            let mut pages = firsts.zip(ends).zip(bytes);
            pages.any(|((first, end), bytes)| first < rows.end && rows.start < end && *bytes > 0)
        })
    }

    /// The rows of each page that holds some of these, which all columns share.
    pub fn pages(&self, rows: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let from = self.time_pages.partition_point(|page| page.first_row <= rows.start).saturating_sub(1);
        let to = self.time_pages.partition_point(|page| page.first_row < rows.end).max(from);
        let starts = self.time_pages.get(from..to).unwrap_or_default();
        let after = self.time_pages.get(from + 1..).unwrap_or_default();
        let ends = after.iter().map(|page| page.first_row).chain(std::iter::once(self.rows));
        starts.iter().zip(ends).map(|(page, end)| page.first_row..end)
    }

    /// Time and `fields` (places in the schema) of `rows`, which ascend and do not overlap.
    ///
    /// # Panics
    /// When they do not, or the block has no such field or row.
    pub fn read<R: ChunkReader + 'static>(
        &self,
        reader: R,
        fields: &[usize],
        rows: &[Range<u64>],
    ) -> Result<BlockRows> {
        assert!(rows.is_sorted_by(|a, b| a.end <= b.start), "bug: row ranges must ascend");
        assert!(rows.iter().all(|range| range.end <= self.rows), "bug: no such rows");
        let (groups, selection, total) = self.select(rows);
        if total == 0 {
            let empty = |field: &usize| new_empty_array(&self.field_type(*field));
            return Ok(BlockRows {
                times: ScalarBuffer::from(Vec::new()),
                columns: fields.iter().map(empty).collect(),
            });
        }

        let fault = Arc::new(Mutex::new(None));
        let reader = CheckedReader { inner: reader, pages: self.pages.clone(), fault: fault.clone() };
        // Ours says what and where; the decoder has turned it into a text.
        let explain = |error: BlockError| {
            let fault = fault.lock().unwrap_or_else(PoisonError::into_inner).take();
            fault.unwrap_or(error)
        };
        let first_field = self.schema.first_field_chunk();
        let leaves = std::iter::once(0).chain(fields.iter().map(|field| first_field + field));
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(reader, self.parquet.clone())
            .with_projection(ProjectionMask::leaves(self.parquet.parquet_schema(), leaves))
            .with_row_groups(groups)
            .with_batch_size(total);
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        let batch = only_batch(builder.build().map_err(BlockError::from), total).map_err(explain)?;

        let times = batch.column(0).as_primitive::<TimestampNanosecondType>().values().clone();
        // The decoder gives columns in file order, each once.
        let mut read: Vec<usize> = fields.to_vec();
        read.sort_unstable();
        read.dedup();
        let place = |field: &usize| 1 + read.binary_search(field).unwrap_or_default();
        let columns = fields.iter().map(|field| batch.column(place(field)).clone()).collect();
        Ok(BlockRows { times, columns })
    }

    /// Reads the whole file and checks every byte of it.
    pub fn verify<R: ChunkReader>(&self, reader: &R) -> Result<()> {
        Tail::read(reader)?;
        self.pages.iter().try_for_each(|page| page.read(reader).map(|_| ()))
    }

    fn field_type(&self, field: usize) -> DataType {
        self.schema.fields.get(field).expect("bug: no such field").data_type.clone()
    }

    /// The row groups to read, the rows to choose among theirs (none: all), and how many those are.
    fn select(&self, rows: &[Range<u64>]) -> (Vec<usize>, Option<RowSelection>, usize) {
        let mut groups = Vec::new();
        let mut chosen: Vec<Range<usize>> = Vec::new();
        // Rows of the groups chosen so far: the selection counts in these only.
        let mut before = 0;
        let mut ahead = rows;
        for (group, bounds) in self.groups.windows(2).enumerate() {
            let &[start, end] = bounds else { continue };
            let done = ahead.iter().take_while(|range| range.end <= start).count();
            ahead = ahead.get(done..).unwrap_or_default();
            let parts = ahead.iter().take_while(|range| range.start < end);
            let parts = parts.filter(|range| !range.is_empty()).map(|range| {
                let part = range.start.max(start) - start..range.end.min(end) - start;
                before + part.start as usize..before + part.end as usize
            });
            let known = chosen.len();
            chosen.extend(parts);
            if chosen.len() > known {
                groups.push(group);
                before += (end - start) as usize;
            }
        }
        let total = chosen.iter().map(|range| range.len()).sum();
        let selection =
            (total < before).then(|| RowSelection::from_consecutive_ranges(chosen.into_iter(), before));
        (groups, selection, total)
    }
}

fn only_batch(
    reader: Result<impl Iterator<Item = std::result::Result<RecordBatch, arrow::error::ArrowError>>>,
    rows: usize,
) -> Result<RecordBatch> {
    match reader?.next() {
        Some(Ok(batch)) if batch.num_rows() == rows => Ok(batch),
        Some(Ok(batch)) => {
            Err(BlockError::Parquet { what: format!("{} rows came instead of {rows}", batch.num_rows()) })
        }
        Some(Err(error)) => Err(BlockError::Parquet { what: error.to_string() }),
        None => Err(BlockError::Parquet { what: format!("no row came instead of {rows}") }),
    }
}

/// What follows the pages: the series index, the page index, the footer. Checked.
struct Tail {
    offset: u64,
    bytes: Bytes,
    index: Bytes,
}

impl Tail {
    fn read<R: ChunkReader>(reader: &R) -> Result<Tail> {
        let file_len = reader.len();
        if file_len < MAGIC.len() as u64 + ENDING_BYTES {
            return Err(Corrupt::at("the file is too short for a block", file_len).into());
        }
        let mut end = End { file_len, bytes: Bytes::new() };
        end.reach(reader, OPEN_BYTES.min(file_len))?;

        let footer_len = match end.last(ENDING_BYTES).split_first_chunk::<4>() {
            Some((len, magic)) if magic == MAGIC => *len,
            _ => {
                let what = "the file does not end as a block: cut short or damaged";
                return Err(Corrupt::at(what, file_len).into());
            }
        };
        let footer_len = u64::from(u32::from_le_bytes(footer_len));
        let too_long = Corrupt::at("the footer is longer than the file", file_len - ENDING_BYTES);
        if footer_len + ENDING_BYTES > file_len {
            return Err(too_long.into());
        }
        end.reach(reader, footer_len + ENDING_BYTES)?;
        let footer_offset = file_len - footer_len - ENDING_BYTES;
        let (seal, digits) = Seal::find(end.last(footer_len + ENDING_BYTES))
            .map_err(|corrupt| corrupt.shifted(footer_offset))?;

        let index_end = seal.offset.checked_add(seal.len).filter(|end| *end <= footer_offset);
        if index_end.is_none() {
            return Err(Corrupt::at("the series index lies outside the file", footer_offset).into());
        }
        let tail_len = file_len - seal.offset;
        end.reach(reader, tail_len)?;
        let bytes = end.bytes.slice(end.bytes.len() - tail_len as usize..);
        let shift = (footer_offset - seal.offset) as usize;
        if sealed_crc(&bytes, digits.start + shift..digits.end + shift) != seal.crc {
            let what = "the index and footer that start here do not match their checksum";
            return Err(Corrupt::at(what, seal.offset).into());
        }
        // A copy: what lives on in the opened block must not keep the whole read alive.
        let index = Bytes::copy_from_slice(bytes.get(..seal.len as usize).unwrap_or_default());
        Ok(Tail { offset: seal.offset, bytes, index })
    }
}

/// Some of the last bytes of a file.
struct End {
    file_len: u64,
    bytes: Bytes,
}

impl End {
    /// Makes it hold at least the last `len` bytes.
    fn reach<R: ChunkReader>(&mut self, reader: &R, len: u64) -> Result<()> {
        if self.bytes.len() as u64 >= len {
            return Ok(());
        }
        let start = self.file_len - len;
        self.bytes = reader.get_bytes(start, len as usize)?;
        if self.bytes.len() as u64 != len {
            return Err(Corrupt::at("the file is shorter than it says", start).into());
        }
        Ok(())
    }

    /// The last `len` bytes, which it holds.
    fn last(&self, len: u64) -> &[u8] {
        let start = self.bytes.len() - len as usize;
        self.bytes.get(start..).unwrap_or_default()
    }
}

/// Checks pages on their way to the decoder, which asks for whole pages as the page index has them.
struct CheckedReader<R> {
    inner: R,
    pages: Arc<[Page]>,
    fault: Arc<Mutex<Option<BlockError>>>,
}

impl<R: ChunkReader> CheckedReader<R> {
    fn page(&self, offset: u64, len: usize) -> Result<Bytes> {
        let place = self.pages.binary_search_by_key(&offset, |page| page.offset);
        let page = place.ok().and_then(|place| self.pages.get(place));
        match page.filter(|page| page.len == len as u64) {
            Some(page) => page.read(&self.inner),
            None => Err(Corrupt::at("a page was asked for that has no checksum", offset).into()),
        }
    }
}

impl<R: ChunkReader> Length for CheckedReader<R> {
    fn len(&self) -> u64 {
        self.inner.len()
    }
}

impl<R: ChunkReader> ChunkReader for CheckedReader<R> {
    type T = R::T;

    /// Only for files without a page index, which blocks are not.
    fn get_read(&self, start: u64) -> std::result::Result<R::T, ParquetError> {
        Err(ParquetError::General(format!("unchecked read at byte {start}")))
    }

    fn get_bytes(&self, start: u64, length: usize) -> std::result::Result<Bytes, ParquetError> {
        self.page(start, length).map_err(|error| {
            let text = ParquetError::General(error.to_string());
            *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            text
        })
    }
}

impl Page {
    fn read<R: ChunkReader>(&self, reader: &R) -> Result<Bytes> {
        let bytes = reader.get_bytes(self.offset, self.len as usize)?;
        if bytes.len() as u64 != self.len || crc32c::crc32c(&bytes) != self.crc {
            return Err(Corrupt::at("a page does not match its checksum", self.offset).into());
        }
        Ok(bytes)
    }
}

/// All pages with their checksums, in file order: the magic, then chunk by chunk.
fn pages(metadata: &ParquetMetaData, sums: &[u32], end: u64) -> crate::corrupt::Result<Arc<[Page]>> {
    let gap = Corrupt::new("the pages do not follow one another");
    let mut bounds = vec![0, MAGIC.len() as u64];
    let offsets = metadata.offset_index().into_iter().flatten();
    for (group, offsets) in metadata.row_groups().iter().zip(offsets) {
        for (chunk, offsets) in group.columns().iter().zip(offsets) {
            for page in offsets.page_locations() {
                // Data pages lie one after another; before the first there may be a dictionary.
                let (start, len) = (page.offset as u64, page.compressed_page_size as u64);
                let known = bounds.last().copied().unwrap_or_default();
                if start != known {
                    bounds.push(start);
                }
                bounds.push(start.checked_add(len).ok_or(gap)?);
            }
            let chunk_end =
                chunk.data_page_offset().min(chunk.dictionary_page_offset().unwrap_or(i64::MAX)) as u64;
            if bounds.last() != chunk_end.checked_add(chunk.compressed_size() as u64).as_ref() {
                return Err(gap);
            }
        }
    }
    let joined = bounds.last() == Some(&end) && bounds.is_sorted_by(|a, b| a < b);
    if !joined || bounds.len() != sums.len() + 1 {
        return Err(gap);
    }
    let pages = bounds.windows(2).zip(sums).filter_map(|(bounds, &crc)| match *bounds {
        [offset, end] => Some(Page { offset, len: end - offset, crc }),
        _ => None,
    });
    Ok(pages.collect())
}

/// The pages of the time column with their bounds, over all row groups.
fn time_pages(metadata: &ParquetMetaData) -> crate::corrupt::Result<Vec<TimePage>> {
    let missing = Corrupt::new("the page index lacks the bounds of times");
    let mut pages = Vec::new();
    let mut first_row = 0u64;
    for (place, group) in metadata.row_groups().iter().enumerate() {
        let bounds = metadata.column_index().and_then(|groups| groups.get(place)?.first());
        let offsets = metadata.offset_index().and_then(|groups| groups.get(place)?.first());
        let (Some(ColumnIndexMetaData::INT64(bounds)), Some(offsets)) = (bounds, offsets) else {
            return Err(missing);
        };
        let offsets = offsets.page_locations();
        if bounds.min_values().len() != offsets.len() || bounds.max_values().len() != offsets.len() {
            return Err(missing);
        }
        let bounds = bounds.min_values().iter().zip(bounds.max_values());
        pages.extend(offsets.iter().zip(bounds).map(|(page, (&min, &max))| TimePage {
            first_row: first_row + page.first_row_index as u64,
            min,
            max,
        }));
        first_row += group.num_rows() as u64;
    }
    Ok(pages)
}

fn agree(parquet: &ArrowReaderMetadata, schema: &BlockSchema, columns: &[String]) -> bool {
    let expected = schema.arrow();
    let names = std::iter::once(TIME_COLUMN).chain(columns.iter().map(String::as_str));
    let fields = parquet.schema().fields();
    fields.len() == expected.fields().len()
        && fields.len() == columns.len() + 1
        && fields.iter().zip(expected.fields()).zip(names).all(|((field, expected), name)| {
            field.name() == name && field.data_type() == expected.data_type()
        })
}
