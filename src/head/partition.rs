//! One partition of one table in memory: active while it takes points, frozen while it becomes a block.
//!
//! Invariant: all points lie inside `range`; `first_seq` is the sequence of the first batch that is in here.
//! Not here: when to freeze (`flush`, `jobs`).

use std::sync::Arc;

use roaring::RoaringBitmap;
use storage_format::point::{FieldType, TimeRange};
use storage_format::ranges::RangeSet;
use storage_format::wal::{PointRow, Points};

use crate::head::SeriesHead;
use crate::head::SeriesView;
use crate::series::Table;

/// Series per page. A page of pointers is 2 KiB: little waste for a partition with a single late point,
/// few pages for a million series.
const PAGE: usize = 256;

type Page = Box<[Option<Box<SeriesHead>>; PAGE]>;

pub struct PartitionHead {
    pub table: Arc<Table>,
    pub range: TimeRange,
    pub first_seq: u64,
    pub rows: u64,
    pages: Vec<Option<Page>>,
    sealed_bytes: usize,
    /// Values in open chunks, whose size changes too often to be asked for.
    open_values: usize,
    series: usize,
}

/// What an open value takes on average: measured between 0.4 (small integers) and 8 bytes (noise).
const OPEN_VALUE_BYTES: usize = 3;
const SERIES_BYTES: usize = size_of::<SeriesHead>() + 256;

impl PartitionHead {
    pub fn new(table: Arc<Table>, range: TimeRange, first_seq: u64) -> PartitionHead {
        PartitionHead {
            table,
            range,
            first_seq,
            rows: 0,
            pages: Vec::new(),
            sealed_bytes: 0,
            open_values: 0,
            series: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.series == 0
    }

    pub fn apply(&mut self, points: &Points, rows: &[PointRow], types: &[FieldType]) {
        self.rows += rows.len() as u64;
        for row in rows {
            let (columns, values) = points.row(row);
            let sealed = self.series_or_new(row.series).push(row.time, columns, values, types, &points.text);
            self.open_values += columns.len();
            if let Some(sealed) = sealed {
                self.sealed_bytes += sealed.bytes;
                self.open_values = self.open_values.saturating_sub(sealed.values);
            }
        }
    }

    pub fn delete(&mut self, series: &RoaringBitmap, range: TimeRange, types: &[FieldType]) {
        for number in series {
            let Some(slot) = self.pages.get_mut(number as usize / PAGE).and_then(Option::as_mut) else {
                continue;
            };
            let slot = &mut slot[number as usize % PAGE];
            if let Some(head) = slot {
                let (rows, bytes) = (head.rows(), head.sealed_bytes());
                head.delete(range, types);
                self.rows -= (rows - head.rows()) as u64;
                self.sealed_bytes = (self.sealed_bytes + head.sealed_bytes()).saturating_sub(bytes);
                if head.is_empty() {
                    *slot = None;
                    self.series -= 1;
                }
            }
        }
    }

    pub fn capture(
        &self,
        series: &RoaringBitmap,
        ranges: &RangeSet,
        columns: &[u32],
    ) -> Vec<(u32, SeriesView)> {
        capture(&self.pages, series, ranges, columns)
    }

    pub fn heap_bytes(&self) -> usize {
        self.sealed_bytes + self.open_values * OPEN_VALUE_BYTES + self.series * SERIES_BYTES
    }

    pub fn freeze(self, seq: u64) -> FrozenPartition {
        FrozenPartition {
            heap_bytes: self.heap_bytes(),
            seq_min: self.first_seq,
            seq_max: seq,
            table: self.table,
            range: self.range,
            rows: self.rows,
            pages: self.pages,
        }
    }

    fn series_or_new(&mut self, series: u32) -> &mut SeriesHead {
        let (page, slot) = (series as usize / PAGE, series as usize % PAGE);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(|| Box::new([const { None }; PAGE]));
        page[slot].get_or_insert_with(|| {
            self.series += 1;
            Box::default()
        })
    }
}

/// Immutable, shared by the flush and by readers.
pub struct FrozenPartition {
    pub table: Arc<Table>,
    pub range: TimeRange,
    pub seq_min: u64,
    /// The applied sequence when it was frozen: deletes after it stand as tombstones against it.
    pub seq_max: u64,
    pub rows: u64,
    pub heap_bytes: usize,
    pages: Vec<Option<Page>>,
}

impl FrozenPartition {
    /// The numbers of the series in here.
    pub fn series(&self) -> RoaringBitmap {
        let pages = self.pages.iter().enumerate().filter_map(|(at, page)| Some((at, page.as_ref()?)));
        let of_page = |(at, page): (usize, &Page)| {
            let used = page.iter().enumerate().filter(|(_, slot)| slot.is_some());
            used.map(|(slot, _)| (at * PAGE + slot) as u32).collect::<Vec<_>>()
        };
        pages.flat_map(of_page).collect()
    }

    pub fn capture(
        &self,
        series: &RoaringBitmap,
        ranges: &RangeSet,
        columns: &[u32],
    ) -> Vec<(u32, SeriesView)> {
        capture(&self.pages, series, ranges, columns)
    }
}

fn capture(
    pages: &[Option<Page>],
    series: &RoaringBitmap,
    ranges: &RangeSet,
    columns: &[u32],
) -> Vec<(u32, SeriesView)> {
    let find = |number: u32| pages.get(number as usize / PAGE)?.as_ref()?[number as usize % PAGE].as_ref();
    let view = |number| Some((number, find(number)?.capture(ranges, columns)?));
    series.iter().filter_map(view).collect()
}
