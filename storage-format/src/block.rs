//! Blocks: one immutable plain Parquet file of one table and one partition, which other tools read
//! with no help, and which carries our own series index between its last page and its page index.
//!
//! Invariant: rows ascend by series (in the [`SeriesOrder`](crate::point::SeriesOrder) of their table), then strictly by time.
//! Every byte is under a CRC32C: pages one by one, all that follows them as one. It is checked before
//! a byte is decoded, so the Parquet decoder only ever sees what our writer wrote.
//! Not here: files (the engine reads through its own `ChunkReader`), merging, deletes, caches.

use std::fmt;

use parquet::errors::ParquetError;

use crate::corrupt::Corrupt;

mod columns; // one column of a row group, whoever writes it
mod encoding; // how columns are encoded, chosen by their values
mod floats; // columns of floats, page by page
mod index; // which rows belong to which series; postings
mod labels; // the map of the tags without columns, run by run
mod layout; // which tags have columns
mod names; // column names that no reader confuses
mod pages; // pages and chunks of columns that we encode ourselves
mod read; // open, prune, read, verify
mod runs; // numbers that come again
mod schema; // what a block holds, and the footer's description of it
mod seal; // checksums: of pages as they pass, of everything after them
mod tags; // columns of tags, run by run
#[cfg(test)]
mod tests;
mod write; // series in, file out

pub use encoding::{Effort, ValueEncoding};
pub use index::SeriesIndex;
pub use layout::{LABEL_COLUMNS_MAX, TagLayout};
pub use read::{Block, BlockRows, RowFault};
pub use schema::{BlockField, BlockKind, BlockMeta, BlockSchema};
pub use write::{BlockSummary, BlockWriter};

/// Raised when a reader of the old version would misread the new one. See FORMAT.md, which says which blocks have which.
pub const BLOCK_VERSION: u32 = 2;

/// A page is what one lookup decodes: at 4,096 rows a series' hour touches one or two pages per column,
/// of 1 to 2 KiB for small integers and at most 32 KiB before compression.
pub const PAGE_ROWS: usize = 4_096;

/// The same of a table with so few fields that it is read by the column: metrics. A quarter of the headers, and more for zstd
/// to look at, make it a tenth smaller; a lookup of one series takes some tens of microseconds more.
pub const NARROW_PAGE_ROWS: usize = 4 * PAGE_ROWS;
pub const NARROW_FIELDS_MAX: usize = 2;

/// We find rows by the series index and never look at the columns of tags, which are runs of a few bytes: a page of each
/// for each page of times would be headers, most of it. A multiple of those.
pub const TAG_PAGE_ROWS: usize = 64 * PAGE_ROWS;

/// The same of the map of labels, where a row may have many, which other tools decode by the page.
pub const LABEL_PAGE_ENTRIES: usize = 64 << 10;

/// A row group is what another tool's thread takes at once: 1,048,576 rows are 256 pages per column.
pub const ROW_GROUP_ROWS: usize = 256 * PAGE_ROWS;

#[derive(Debug)]
pub enum BlockError {
    /// The bytes are not what we wrote.
    Corrupt(Corrupt),
    /// The Parquet crate refused, although the checksums hold.
    Parquet { what: String },
    /// The file could not be read or written.
    Io(std::io::Error),
}

pub type Result<T> = std::result::Result<T, BlockError>;

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockError::Corrupt(corrupt) => write!(f, "the block is damaged: {corrupt}"),
            BlockError::Parquet { what } => write!(f, "the block cannot be read as Parquet: {what}"),
            BlockError::Io(error) => write!(f, "the block's file failed: {error}"),
        }
    }
}

impl std::error::Error for BlockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BlockError::Corrupt(corrupt) => Some(corrupt),
            BlockError::Parquet { .. } => None,
            BlockError::Io(error) => Some(error),
        }
    }
}

impl From<Corrupt> for BlockError {
    fn from(corrupt: Corrupt) -> BlockError {
        BlockError::Corrupt(corrupt)
    }
}

impl From<std::io::Error> for BlockError {
    fn from(error: std::io::Error) -> BlockError {
        BlockError::Io(error)
    }
}

impl From<ParquetError> for BlockError {
    fn from(error: ParquetError) -> BlockError {
        match error {
            // The crate wraps what our reader or writer said.
            ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
                Ok(error) => BlockError::Io(*error),
                Err(other) => BlockError::Parquet { what: other.to_string() },
            },
            other => BlockError::Parquet { what: other.to_string() },
        }
    }
}
