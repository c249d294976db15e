//! The map of the labels that have no columns: keys and values as dictionaries, and runs of their numbers.
//!
//! As with columns of tags a series' rows are alike, so that nothing is done by the row.
//! Invariant: keys and values stand at the same places of pages of the same rows.
//! Not here: which labels those are (`layout`), whose the rows are (`write`).

use std::collections::HashMap;
use std::sync::Arc;

use parquet::basic::Encoding;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;
use zstd::bulk::Compressor;

use super::pages::{Pages, WrittenChunk, with_length};
use super::runs::Runs;
use super::tags::Words;
use super::{LABEL_PAGE_ENTRIES, Result, TAG_PAGE_ROWS};

/// Of the map's two levels: a row that has none, an entry. Nothing is written as an empty map.
const NONE: u32 = 0;
const ENTRY: u32 = 2;

/// Bits that hold the levels above.
const DEFINITION_BITS: u32 = 2;

pub struct LabelsWriter {
    keys: Leaf,
    values: Leaf,
    /// Of the page to come: whether an entry goes on with the row of the one before, and what it is.
    repetition: Runs,
    definition: Runs,
    rows: usize,
    missing: u64,
}

/// Keys or values.
struct Leaf {
    pages: Pages,
    words: Words,
    numbers: HashMap<Arc<str>, u32>,
    /// Of the page to come.
    runs: Runs,
}

impl LabelsWriter {
    pub fn new(keys: ColumnDescPtr, values: ColumnDescPtr) -> LabelsWriter {
        LabelsWriter {
            keys: Leaf::new(keys),
            values: Leaf::new(values),
            repetition: Runs::default(),
            definition: Runs::default(),
            rows: 0,
            missing: 0,
        }
    }

    /// So many rows more with these labels.
    pub fn push<'a>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, &'a Arc<str>)>,
        rows: usize,
        zstd: &mut Compressor<'static>,
    ) -> Result<()> {
        let entry = |(key, value): (&str, &Arc<str>)| {
            (self.keys.number(key, || key.into()), self.values.number(value, || Arc::clone(value)))
        };
        let (keys, values): (Vec<u32>, Vec<u32>) = labels.map(entry).unzip();
        let mut left = rows;
        while left > 0 {
            let room = LABEL_PAGE_ENTRIES.saturating_sub(self.keys.runs.len) / keys.len().max(1);
            // A row is never cut, however many labels it has.
            let part = left.min(room.max(1)).min(TAG_PAGE_ROWS - self.rows);
            self.push_rows(&keys, &values, part);
            left -= part;
            if self.rows == TAG_PAGE_ROWS || self.keys.runs.len >= LABEL_PAGE_ENTRIES {
                self.end_page(zstd)?;
            }
        }
        Ok(())
    }

    fn push_rows(&mut self, keys: &[u32], values: &[u32], rows: usize) {
        self.rows += rows;
        if keys.is_empty() {
            self.repetition.push(0, rows);
            self.definition.push(NONE, rows);
            self.missing += rows as u64;
            return;
        }
        let goes_on: Vec<u32> = (0..keys.len()).map(|place| u32::from(place > 0)).collect();
        self.repetition.push_cycle(&goes_on, rows);
        self.definition.push(ENTRY, keys.len() * rows);
        self.keys.runs.push_cycle(keys, rows);
        self.values.runs.push_cycle(values, rows);
    }

    /// About what it takes encoded.
    pub fn bytes(&self) -> usize {
        self.keys.bytes() + self.values.bytes()
    }

    /// Keys, then values.
    pub fn close(mut self, zstd: &mut Compressor<'static>) -> Result<[WrittenChunk; 2]> {
        self.end_page(zstd)?;
        Ok([self.keys.close(self.missing, zstd)?, self.values.close(self.missing, zstd)?])
    }

    fn end_page(&mut self, zstd: &mut Compressor<'static>) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut levels = Vec::new();
        with_length(&mut levels, |out| self.repetition.put(out, 1));
        with_length(&mut levels, |out| self.definition.put(out, DEFINITION_BITS));
        let places = self.definition.len;
        for leaf in [&mut self.keys, &mut self.values] {
            leaf.end_page(&levels, self.rows, places, zstd)?;
        }
        (self.repetition, self.definition, self.rows) = (Runs::default(), Runs::default(), 0);
        Ok(())
    }
}

impl Leaf {
    fn new(column: ColumnDescPtr) -> Leaf {
        Leaf {
            pages: Pages::new(column),
            words: Words::default(),
            numbers: HashMap::new(),
            runs: Runs::default(),
        }
    }

    fn number(&mut self, text: &str, new: impl FnOnce() -> Arc<str>) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let text = new();
        let number = self.words.add(&text);
        self.numbers.insert(text, number);
        number
    }

    fn bytes(&self) -> usize {
        self.pages.bytes() + self.words.bytes()
    }

    fn end_page(
        &mut self,
        levels: &[u8],
        rows: usize,
        places: usize,
        zstd: &mut Compressor<'static>,
    ) -> Result<()> {
        let mut raw = levels.to_vec();
        std::mem::take(&mut self.runs).put_numbers(&mut raw);
        self.pages.push(&raw, rows, places, Encoding::RLE_DICTIONARY, zstd)
    }

    fn close(self, missing: u64, zstd: &mut Compressor<'static>) -> Result<WrittenChunk> {
        let statistics = Statistics::byte_array(None, None, None, Some(missing), false);
        self.pages.close(Some((&self.words.plain(), self.words.len())), statistics, zstd)
    }
}
