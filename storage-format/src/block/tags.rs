//! Columns of tags: a dictionary, and runs of its numbers.
//!
//! A series' rows have one value of each tag, so a column is as long as there are series, not rows: what is done here is
//! done once per run. Row by row, the ten tags of a metric cost more than its time and its value together.
//! Invariant: a word stands in the dictionary once; runs and pages bring the rows as they came.
//! Not here: which series the rows belong to (`write`), the values' numbers in the block (`index`).

use std::sync::Arc;

use parquet::basic::Encoding;
use parquet::data_type::ByteArray;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;
use zstd::bulk::Compressor;

use super::pages::{Pages, WrittenChunk, with_length};
use super::runs::Runs;
use super::{Result, TAG_PAGE_ROWS};

/// Bounds longer than this prune no better and make the footer large: such a column has none.
const BOUND_BYTES_MAX: usize = 64;

pub struct TagWriter {
    pages: Pages,
    words: Words,
    /// By the number that a value has in the block, its number in the dictionary.
    numbers: Vec<Option<u32>>,
    /// Of the page to come: whether there is a value, and which.
    levels: Runs,
    values: Runs,
    missing: u64,
}

impl TagWriter {
    pub fn new(column: ColumnDescPtr) -> TagWriter {
        TagWriter {
            pages: Pages::new(column),
            words: Words::default(),
            numbers: Vec::new(),
            levels: Runs::default(),
            values: Runs::default(),
            missing: 0,
        }
    }

    /// So many rows more with one value. `id` is the value's number in the block.
    pub fn push(
        &mut self,
        id: u32,
        value: Option<&Arc<str>>,
        rows: usize,
        zstd: &mut Compressor<'static>,
    ) -> Result<()> {
        let number = value.map(|value| self.number(id, value));
        let mut left = rows;
        while left > 0 {
            let part = left.min(TAG_PAGE_ROWS - self.levels.len);
            self.levels.push(u32::from(number.is_some()), part);
            match number {
                Some(number) => self.values.push(number, part),
                None => self.missing += part as u64,
            }
            left -= part;
            if self.levels.len == TAG_PAGE_ROWS {
                self.end_page(zstd)?;
            }
        }
        Ok(())
    }

    /// About what it takes encoded.
    pub fn bytes(&self) -> usize {
        self.pages.bytes() + self.words.bytes()
    }

    pub fn close(mut self, zstd: &mut Compressor<'static>) -> Result<WrittenChunk> {
        self.end_page(zstd)?;
        let bounds = self.words.bounds().unzip();
        let statistics = Statistics::byte_array(bounds.0, bounds.1, None, Some(self.missing), false);
        self.pages.close(Some((&self.words.plain(), self.words.len())), statistics, zstd)
    }

    fn number(&mut self, id: u32, value: &Arc<str>) -> u32 {
        let id = id as usize;
        if id >= self.numbers.len() {
            self.numbers.resize(id + 1, None);
        }
        *self.numbers[id].get_or_insert_with(|| self.words.add(value))
    }

    fn end_page(&mut self, zstd: &mut Compressor<'static>) -> Result<()> {
        let rows = self.levels.len;
        if rows == 0 {
            return Ok(());
        }
        let mut raw = Vec::new();
        with_length(&mut raw, |raw| self.levels.put(raw, 1));
        self.values.put_numbers(&mut raw);
        (self.levels, self.values) = (Runs::default(), Runs::default());
        self.pages.push(&raw, rows, rows, Encoding::RLE_DICTIONARY, zstd)
    }
}

/// A dictionary, in order of appearance.
#[derive(Default)]
pub struct Words {
    words: Vec<Arc<str>>,
}

impl Words {
    /// One that is not there yet; gives its number.
    pub fn add(&mut self, word: &Arc<str>) -> u32 {
        self.words.push(Arc::clone(word));
        self.words.len() as u32 - 1
    }

    pub fn len(&self) -> usize {
        self.words.len()
    }

    pub fn bytes(&self) -> usize {
        self.words.iter().map(|word| size_of::<u32>() + word.len()).sum()
    }

    pub fn plain(&self) -> Vec<u8> {
        let mut raw = Vec::with_capacity(self.bytes());
        for word in &self.words {
            raw.extend_from_slice(&(word.len() as u32).to_le_bytes());
            raw.extend_from_slice(word.as_bytes());
        }
        raw
    }

    /// The smallest and the largest, if there are any and both are short.
    fn bounds(&self) -> Option<(ByteArray, ByteArray)> {
        let bound = |word: Option<&Arc<str>>| {
            word.filter(|word| word.len() <= BOUND_BYTES_MAX).map(|word| ByteArray::from(&**word))
        };
        bound(self.words.iter().min()).zip(bound(self.words.iter().max()))
    }
}
