//! One column of one row group on its way into the file: floats and tags by our own writers, all others by the Parquet crate's.
//!
//! Not here: which encoding (`encoding`, `floats`), which rows (`write`).

use std::io::Write;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{Field, Float64Type};
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, compute_leaves};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::writer::SerializedRowGroupWriter;

use super::Result;
use super::floats::FloatWriter;
use super::pages::{PageZstd, WrittenChunk};

/// Of times and fields.
pub enum ColumnWriter {
    Floats(Box<FloatWriter>),
    Other(Box<ArrowColumnWriter>),
}

impl ColumnWriter {
    /// More rows: whole pages, but for the last ones of a row group.
    pub fn write(&mut self, field: &Field, values: &ArrayRef, zstd: &mut PageZstd) -> Result<()> {
        match self {
            ColumnWriter::Floats(writer) => writer.write(values.as_primitive::<Float64Type>(), zstd),
            ColumnWriter::Other(writer) => {
                for leaf in compute_leaves(field, values)? {
                    writer.write(&leaf)?;
                }
                Ok(())
            }
        }
    }

    /// About what it takes encoded.
    pub fn bytes(&self) -> usize {
        match self {
            ColumnWriter::Floats(writer) => writer.bytes(),
            ColumnWriter::Other(writer) => writer.get_estimated_total_bytes(),
        }
    }

    pub fn close(self, zstd: &mut PageZstd) -> Result<ColumnChunk> {
        Ok(match self {
            ColumnWriter::Floats(writer) => ColumnChunk::Ours(writer.close(zstd)?),
            ColumnWriter::Other(writer) => ColumnChunk::Other(writer.close()?),
        })
    }
}

pub enum ColumnChunk {
    Ours(WrittenChunk),
    Other(ArrowColumnChunk),
}

impl ColumnChunk {
    /// What its pages take in the file: the dictionary, which is no data page and comes first, or 0, then the data pages.
    pub fn page_bytes(&self) -> (u64, Vec<u64>) {
        let closed = self.closed();
        let pages = closed.offset_index.as_ref().expect("offset indexes are never turned off");
        let pages: Vec<u64> =
            pages.page_locations().iter().map(|page| page.compressed_page_size as u64).collect();
        (closed.metadata.compressed_size() as u64 - pages.iter().sum::<u64>(), pages)
    }

    pub fn append_to<W: Write + Send>(self, group: &mut SerializedRowGroupWriter<'_, W>) -> Result<()> {
        match self {
            ColumnChunk::Ours(chunk) => group.append_column(&chunk.bytes, chunk.closed)?,
            ColumnChunk::Other(chunk) => chunk.append_to_row_group(group)?,
        }
        Ok(())
    }

    fn closed(&self) -> &ColumnCloseResult {
        match self {
            ColumnChunk::Ours(chunk) => &chunk.closed,
            ColumnChunk::Other(chunk) => chunk.close(),
        }
    }
}
