//! Pages of a column that we encode ourselves, put together as Parquet wants them: dictionary, data pages, where each is.
//!
//! Invariant: all rows are in pages, none in two; what the footer says of the column is what the pages say.
//! Not here: what stands in a page (`floats`, `tags`, `labels`).

use std::io;

use arrow::buffer::NullBuffer;
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriteSpec, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;
use zstd::bulk::Compressor;

use super::Result;
use super::encoding::{Effort, ValueEncoding};
use crate::varint::put_u64;

pub struct Pages {
    column: ColumnDescPtr,
    out: TrackedWrite<Vec<u8>>,
    offsets: OffsetIndexBuilder,
    rows: usize,
    places: usize,
    raw_bytes: usize,
    encodings: Vec<Encoding>,
}

/// A column of a row group, done.
pub struct WrittenChunk {
    pub bytes: Bytes,
    pub closed: ColumnCloseResult,
}

impl Pages {
    pub fn new(column: ColumnDescPtr) -> Pages {
        Pages {
            column,
            out: TrackedWrite::new(Vec::new()),
            offsets: OffsetIndexBuilder::new(),
            rows: 0,
            places: 0,
            raw_bytes: 0,
            // Levels are part of each page.
            encodings: vec![Encoding::RLE],
        }
    }

    pub fn bytes(&self) -> usize {
        self.out.bytes_written()
    }

    /// A data page of `rows` rows: levels, then values. Levels are there for `places`: one a row, unless rows have several
    /// values.
    pub fn push(
        &mut self,
        raw: &[u8],
        rows: usize,
        places: usize,
        encoding: Encoding,
        zstd: &mut Compressor<'static>,
    ) -> Result<()> {
        let page = Page::DataPage {
            buf: zstd.compress(raw)?.into(),
            num_values: places as u32,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let written = put_page(&mut self.out, page, raw.len())?;
        self.offsets.append_offset_and_size(written.offset as i64, written.bytes_written as i32);
        self.offsets.append_row_count(rows as i64);
        self.raw_bytes += written.uncompressed_size;
        self.rows += rows;
        self.places += places;
        self.add_encoding(encoding);
        Ok(())
    }

    /// With the dictionary that pages refer to, and how many words it has.
    pub fn close(
        mut self,
        dictionary: Option<(&[u8], usize)>,
        statistics: Statistics,
        zstd: &mut Compressor<'static>,
    ) -> Result<WrittenChunk> {
        let mut chunk = TrackedWrite::new(Vec::new());
        if let Some((raw, words)) = dictionary {
            let page = Page::DictionaryPage {
                buf: zstd.compress(raw)?.into(),
                num_values: words as u32,
                encoding: Encoding::PLAIN,
                is_sorted: false,
            };
            self.raw_bytes += put_page(&mut chunk, page, raw.len())?.uncompressed_size;
            self.add_encoding(Encoding::PLAIN);
        }
        let data_offset = chunk.bytes_written() as i64;
        let mut bytes = chunk.into_inner()?;
        bytes.append(&mut self.out.into_inner()?);
        let metadata = ColumnChunkMetaData::builder(self.column)
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_encodings(self.encodings)
            .set_total_compressed_size(bytes.len() as i64)
            .set_total_uncompressed_size(self.raw_bytes as i64)
            .set_num_values(self.places as i64)
            .set_dictionary_page_offset(dictionary.map(|_| 0))
            .set_data_page_offset(data_offset)
            .set_statistics(statistics)
            .build()?;
        let mut offset_index = self.offsets.build();
        offset_index.page_locations.iter_mut().for_each(|page| page.offset += data_offset);
        let closed = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: self.rows as u64,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(offset_index),
        };
        Ok(WrittenChunk { bytes: bytes.into(), closed })
    }

    fn add_encoding(&mut self, encoding: Encoding) {
        if !self.encodings.contains(&encoding) {
            self.encodings.push(encoding);
        }
    }
}

/// What compresses our pages, for all columns of a block: each of these holds some hundred KiB.
pub struct PageZstd {
    pub tags: Compressor<'static>,
    floats: [Compressor<'static>; ValueEncoding::ALL.len()],
}

impl PageZstd {
    pub fn new(effort: Effort) -> io::Result<PageZstd> {
        let [direct, split, dictionary] = ValueEncoding::ALL.map(|encoding| effort.float_level(encoding));
        Ok(PageZstd {
            tags: Compressor::new(effort.zstd_level())?,
            floats: [Compressor::new(direct)?, Compressor::new(split)?, Compressor::new(dictionary)?],
        })
    }

    pub fn floats(&mut self, encoding: ValueEncoding) -> &mut Compressor<'static> {
        &mut self.floats[encoding as usize]
    }
}

fn put_page(out: &mut TrackedWrite<Vec<u8>>, page: Page, raw_bytes: usize) -> Result<PageWriteSpec> {
    Ok(SerializedPageWriter::new(out).write_page(CompressedPage::new(page, raw_bytes))?)
}

/// Which rows have a value, as version 1 pages say it.
pub fn put_levels(out: &mut Vec<u8>, rows: usize, nulls: Option<&NullBuffer>) {
    with_length(out, |out| match nulls.filter(|nulls| nulls.null_count() > 0) {
        None => put_run(out, rows, &[1]),
        Some(nulls) => {
            let mut bits = vec![0u8; rows.div_ceil(8)];
            nulls.valid_indices().for_each(|row| bits[row / 8] |= 1 << (row % 8));
            put_u64(out, (bits.len() as u64) << 1 | 1);
            out.extend_from_slice(&bits);
        }
    });
}

/// What `put` puts, with four bytes before it that say how much it is.
pub fn with_length(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; size_of::<u32>()]);
    put(out);
    let values = start + size_of::<u32>();
    let len = (out.len() - values) as u32;
    out[start..values].copy_from_slice(&len.to_le_bytes());
}

/// One number, in whole bytes, as often as `len` says.
pub fn put_run(out: &mut Vec<u8>, len: usize, number: &[u8]) {
    put_u64(out, (len as u64) << 1);
    out.extend_from_slice(number);
}
