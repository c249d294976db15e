//! The blocks that are open, within a limit: footer, page index and series index of each, and its file.
//!
//! Beside them pages of columns that were decoded for queries, within a limit of their own.
//! Invariant: a block is closed only when nobody reads it; what its readers hold beyond the limit, they count themselves.
//! Not here: which blocks are live (`BlockList`).

use std::ops::{Deref, Range};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::ScalarBuffer;
use quick_cache::sync::Cache;
use quick_cache::{OptionsBuilder, Weighter};
use rayon::prelude::*;
use storage_format::block::{Block, BlockError, RowFault};
use storage_format::manifest::BlockEntry;
use storage_format::point::Time;

use crate::blocks::Reader;
use crate::disk::{Disk, ReadFile};
use crate::error::{Error, Result};
use crate::rows::Rows;

/// Where block files are, with those that are open.
pub struct BlockStore {
    pub disk: Arc<dyn Disk>,
    open: Cache<u64, Kept, ByWeight>,
    pages: Cache<PageKey, Decoded, ByWeight>,
    pages_bytes_max: usize,
}

/// A page of a column of a block.
#[derive(Clone, PartialEq, Eq, Hash)]
struct PageKey {
    block: u64,
    first_row: u64,
    column: Column,
}

/// In the place of a first row: the last rows of all series of the block, as one page.
const NEWEST: u64 = u64::MAX;

/// Last rows that are read in one go: each may be in a page of its own, so that this is some megabytes of a column.
const NEWEST_AT_ONCE: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Column {
    Time,
    /// A place in the block's schema.
    Field(usize),
}

#[derive(Clone)]
enum Decoded {
    Times(ScalarBuffer<Time>),
    Values(ArrayRef),
}

/// What an entry costs beside its values.
const PAGE_BYTES: usize = 128;

/// Decoded rows of a block, which lie next to each other in it.
pub struct BlockPiece {
    pub first_row: u64,
    pub rows: Rows,
}

/// Of a page of numbers, for the size of the table of pages.
const TYPICAL_PAGE_BYTES: usize = 64 << 10;

/// A block with its file open.
pub struct OpenBlock {
    block: Block,
    file: Arc<dyn ReadFile>,
    /// The file as a person would name it.
    name: String,
}

/// What an open file costs beside what was read from it; keeps the number of open files within what systems allow.
const FILE_BYTES: usize = 16 << 10;

/// An open block with what it weighed when that was last looked at: postings grow.
#[derive(Clone)]
struct Kept {
    block: Arc<OpenBlock>,
    weight: usize,
}

#[derive(Clone)]
struct ByWeight;

impl Weighter<PageKey, Decoded> for ByWeight {
    fn weight(&self, _: &PageKey, decoded: &Decoded) -> u64 {
        let bytes = match decoded {
            Decoded::Times(times) => size_of_val(&**times),
            Decoded::Values(array) => array.get_array_memory_size(),
        };
        (bytes + PAGE_BYTES) as u64
    }
}

impl Weighter<u64, Kept> for ByWeight {
    fn weight(&self, _: &u64, kept: &Kept) -> u64 {
        kept.weight as u64
    }
}

impl BlockPiece {
    pub fn end(&self) -> u64 {
        self.first_row + self.rows.len() as u64
    }
}

impl BlockStore {
    /// `pages_bytes_max` is for decoded pages; none are kept if it is 0.
    pub fn new(disk: Arc<dyn Disk>, bytes_max: usize, pages_bytes_max: usize) -> Arc<BlockStore> {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(bytes_max.div_ceil(8 * FILE_BYTES).max(1))
            .weight_capacity(bytes_max as u64)
            // One shard, because a single large index must not be larger than a shard. A query looks up each block once.
            .shards(1)
            .build()
            .expect("all that must be given is given");
        let open = Cache::with_options(options, ByWeight, Default::default(), Default::default());
        let pages = Cache::with_weighter(
            (pages_bytes_max / TYPICAL_PAGE_BYTES).max(1),
            pages_bytes_max as u64,
            ByWeight,
        );
        Arc::new(BlockStore { disk, open, pages, pages_bytes_max })
    }

    /// The block `id`, opened by `open` if it is not. Who asks for it meanwhile waits.
    pub(super) fn get(&self, id: u64, open: impl FnOnce() -> Result<OpenBlock>) -> Result<Arc<OpenBlock>> {
        let open = || {
            let block = Arc::new(open()?);
            Ok(Kept { weight: block.memory_bytes(), block })
        };
        self.open.get_or_insert_with(&id, open).map(|kept| kept.block)
    }

    /// Counts what the block has grown by.
    pub(super) fn weigh(&self, id: u64, block: &Arc<OpenBlock>) {
        let weight = block.memory_bytes();
        let known = self.open.peek(&id).filter(|kept| Arc::ptr_eq(&kept.block, block));
        if known.is_some_and(|kept| kept.weight < weight) {
            self.open.insert(id, Kept { block: Arc::clone(block), weight });
        }
    }

    pub(super) fn forget(&self, id: u64) {
        self.open.remove(&id);
    }

    /// What the open blocks take.
    pub fn memory_bytes(&self) -> usize {
        self.open.weight() as usize
    }

    /// What the decoded pages take.
    pub fn page_bytes(&self) -> usize {
        self.pages.weight() as usize
    }

    /// Whether so many bytes of pages are worth keeping: they must leave room for others.
    pub fn may_keep(&self, bytes: u64) -> bool {
        bytes <= (self.pages_bytes_max / 4 * 3) as u64
    }

    /// Whole pages that hold the rows of the ranges (ascending, disjoint), from memory where they are known.
    pub(super) fn read_pages(
        &self,
        id: u64,
        block: &OpenBlock,
        fields: &[&str],
        rows: &[Range<u64>],
    ) -> Result<Vec<BlockPiece>> {
        let places: Vec<Option<usize>> = fields.iter().map(|name| block.place(name)).collect();
        let mut pages: Vec<Range<u64>> = rows.iter().flat_map(|rows| block.pages(rows.clone())).collect();
        pages.dedup();
        let known: Vec<Option<Rows>> = pages.iter().map(|page| self.known(id, page.start, &places)).collect();
        let missing: Vec<Range<u64>> = pages
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.is_none())
            .map(|(page, _)| page.clone())
            .collect();
        let mut read = if missing.is_empty() { Rows::default() } else { block.read(fields, &missing)? };
        let mut pieces = Vec::with_capacity(pages.len());
        for (page, known) in pages.into_iter().zip(known) {
            let rows = match known {
                Some(rows) => rows,
                None => {
                    let len = (page.end - page.start) as usize;
                    // In buffers of its own, so that it can be forgotten by itself.
                    let rows = read.slice(0, len).copied();
                    read = read.slice(len, read.len() - len);
                    self.keep(id, page.start, &places, &rows);
                    rows
                }
            };
            pieces.push(BlockPiece { first_row: page.start, rows });
        }
        Ok(pieces)
    }

    /// The last row of each series, from memory, or `read`. None if they take more than may be kept.
    pub(super) fn newest(
        &self,
        id: u64,
        block: &OpenBlock,
        fields: &[&str],
        read: bool,
        check: &(dyn Fn() -> Result<()> + Sync),
    ) -> Result<Option<Rows>> {
        let places: Vec<Option<usize>> = fields.iter().map(|name| block.place(name)).collect();
        let known = self.known(id, NEWEST, &places);
        let bytes = block.series_count() as u64 * 8 * (1 + fields.len() as u64);
        if known.is_some() || !read || !self.may_keep(bytes) {
            return Ok(known);
        }
        let last = |series: u32| {
            let end = block.index().rows(series).end;
            end - 1..end
        };
        let rows: Vec<Range<u64>> = (0..block.series_count() as u32).map(last).collect();
        let read = rows.par_chunks(NEWEST_AT_ONCE).map(|rows| {
            check()?;
            block.read(fields, rows)
        });
        let rows = Rows::joined(&read.collect::<Result<Vec<Rows>>>()?);
        self.keep(id, NEWEST, &places, &rows);
        Ok(Some(rows))
    }

    /// A page, if all of its columns are here.
    fn known(&self, block: u64, first_row: u64, places: &[Option<usize>]) -> Option<Rows> {
        let get = |column| self.pages.get(&PageKey { block, first_row, column });
        let Some(Decoded::Times(times)) = get(Column::Time) else { return None };
        let column = |place: &Option<usize>| match place {
            None => Some(None),
            Some(place) => match get(Column::Field(*place))? {
                Decoded::Values(array) => Some(Some(array)),
                Decoded::Times(_) => None,
            },
        };
        Some(Rows { times, columns: places.iter().map(column).collect::<Option<_>>()? })
    }

    fn keep(&self, block: u64, first_row: u64, places: &[Option<usize>], rows: &Rows) {
        let key = |column| PageKey { block, first_row, column };
        self.pages.insert(key(Column::Time), Decoded::Times(rows.times.clone()));
        for (place, array) in places.iter().zip(&rows.columns) {
            if let (Some(place), Some(array)) = (place, array) {
                self.pages.insert(key(Column::Field(*place)), Decoded::Values(Arc::clone(array)));
            }
        }
    }
}

impl OpenBlock {
    pub(super) fn open(disk: &Arc<dyn Disk>, name: &str) -> Result<OpenBlock> {
        let described = disk.describe(name);
        let file = disk.open(name).map_err(|source| Error::io("open", &*described, source))?;
        match Block::open(&Reader(Arc::clone(&file))) {
            Ok(block) => Ok(OpenBlock { block, file, name: described }),
            Err(error) => Err(explain(&described, error)),
        }
    }

    /// The rows of the ranges (ascending, disjoint), joined, with the fields by name; a field that the block does not
    /// have is None.
    pub fn read(&self, fields: &[&str], rows: &[Range<u64>]) -> Result<Rows> {
        let places: Vec<Option<usize>> = fields.iter().map(|name| self.place(name)).collect();
        let present: Vec<usize> = places.iter().flatten().copied().collect();
        let read = self
            .block
            .read(Reader(Arc::clone(&self.file)), &present, rows)
            .map_err(|error| explain(&self.name, error))?;
        let mut arrays = read.columns.into_iter();
        let columns: Vec<Option<ArrayRef>> =
            places.iter().map(|place| place.and_then(|_| arrays.next())).collect();
        Ok(Rows { times: read.times, columns })
    }

    /// Reads everything: each byte against its checksum, each row against the series index, the file against its entry.
    pub(super) fn check(&self, entry: &BlockEntry) -> Result<()> {
        let damaged =
            |offset: u64, what: String| Err(Error::Corrupt { file: self.name.clone(), offset, what });
        if self.file.len() != entry.bytes {
            let (found, named) = (self.file.len(), entry.bytes);
            return damaged(found.min(named), format!("it has {found} bytes, and the manifest says {named}"));
        }
        let reader = || Reader(Arc::clone(&self.file));
        self.block.verify(&reader()).map_err(|error| explain(&self.name, error))?;
        match self.block.audit(reader()).map_err(|error| explain(&self.name, error))? {
            Some(RowFault { row, what }) => damaged(0, format!("row {row} is wrong: {what}")),
            None => Ok(()),
        }
    }

    /// What a row with these fields takes once decoded, on average.
    pub fn row_bytes(&self, fields: &[String]) -> u64 {
        let places: Vec<usize> = fields.iter().filter_map(|name| self.place(name)).collect();
        self.block.row_bytes(&places)
    }

    /// Whether pages with some of these rows may have a value in a field of texts or bytes.
    pub fn may_hold(&self, field: &str, rows: &Range<u64>) -> bool {
        self.place(field).is_some_and(|place| self.block.may_have(place, rows))
    }

    pub fn memory_bytes(&self) -> usize {
        self.block.memory_bytes() + FILE_BYTES
    }

    /// The size of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.file.len()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.block.schema().fields.iter().position(|field| field.name == name)
    }
}

impl Deref for OpenBlock {
    type Target = Block;

    fn deref(&self) -> &Block {
        &self.block
    }
}

fn explain(name: &str, error: BlockError) -> Error {
    match error {
        BlockError::Corrupt(damage) => Error::corrupt(name, damage),
        BlockError::Io(source) => Error::io("read", name, source),
        BlockError::Parquet { what } => Error::Corrupt { file: name.to_string(), offset: 0, what },
    }
}
