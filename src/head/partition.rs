//! One partition of one table in memory: active while it takes points, frozen while it becomes a block.
//!
//! Invariant: all points lie inside `range`; `first_seq` is the sequence of the first batch that is in here.
//! Not here: when to freeze (`flush`, `jobs`).

use std::sync::Arc;

use rayon::prelude::*;
use roaring::RoaringBitmap;
use storage_format::chunk::{Cell, ColumnValues, Values};
use storage_format::point::{FieldType, Time, TimeRange};
use storage_format::ranges::RangeSet;
use storage_format::wal::{PointRow, Points};

use crate::batch::BatchPart;
use crate::head::SeriesHead;
use crate::head::SeriesView;
use crate::rows::{Rows, to_array};
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
/// The series of a batch lie all over the memory. A look at so many of them first lets the processor fetch them side by side,
/// where one push after the other would wait for each.
const ROWS_AHEAD: usize = 16;

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

    pub fn series_count(&self) -> usize {
        self.series
    }

    pub fn apply(&mut self, points: &Points, rows: &[PointRow], types: &[FieldType]) {
        self.make_pages(rows);
        let mut grown = Grown::default();
        for some in rows.chunks(ROWS_AHEAD) {
            let heads = some.iter().filter_map(|row| find(&self.pages, row.series));
            std::hint::black_box(heads.fold(0, |all, head| all ^ head.touch()));
            some.iter().for_each(|row| grown.push(&mut self.pages, 0, points, row, types));
        }
        self.count(&grown);
    }

    /// The same for runs of rows that follow each other, split by series.
    pub fn apply_all(&mut self, runs: &[(&BatchPart, &[PointRow])], types: &[FieldType]) {
        runs.iter().for_each(|(_, rows)| self.make_pages(rows));
        let pages = || runs.iter().flat_map(|(_, rows)| rows.iter().map(|row| page_of(row.series)));
        let (Some(first), Some(last)) = (pages().min(), pages().max()) else { return };
        let used = &mut self.pages[first..=last];
        // Every thread looks at every row and takes its own. Two shares for each even out how busy their series are.
        let share = used.len().div_ceil(2 * rayon::current_num_threads());
        let grown = used.par_chunks_mut(share).enumerate().map(|(at, pages)| {
            let begin = first + at * share;
            let own = begin..begin + pages.len();
            let mut grown = Grown::default();
            for (part, rows) in runs {
                for row in rows.iter().filter(|row| own.contains(&page_of(row.series))) {
                    grown.push(pages, begin, &part.points, row, types);
                }
            }
            grown
        });
        for grown in grown.collect::<Vec<Grown>>() {
            self.count(&grown);
        }
    }

    fn count(&mut self, grown: &Grown) {
        self.rows += grown.rows;
        self.series += grown.series;
        self.sealed_bytes += grown.sealed_bytes;
        self.open_values = (self.open_values + grown.values).saturating_sub(grown.sealed_values);
    }

    fn make_pages(&mut self, rows: &[PointRow]) {
        let Some(last) = rows.iter().map(|row| page_of(row.series)).max() else { return };
        if last >= self.pages.len() {
            self.pages.resize_with(last + 1, || None);
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
        let view = |number| Some((number, find(&self.pages, number)?.capture(ranges, columns)?));
        series.iter().filter_map(view).collect()
    }

    /// The same for whoever wants nothing but the last value of each column: of the series whose newest row has them all
    /// only that row. Those are taken out of `series`, because what is older cannot matter.
    pub fn capture_newest(
        &self,
        series: &mut RoaringBitmap,
        ranges: &RangeSet,
        columns: &[u32],
    ) -> Vec<(u32, SeriesView)> {
        let mut views = Vec::new();
        let mut newest = NewestRows::new(columns.len());
        for number in series.iter() {
            let Some(head) = find(&self.pages, number) else { continue };
            match head.newest(ranges, columns) {
                Some((time, cells)) => newest.push(number, time, &cells),
                None => views.extend(head.capture(ranges, columns).map(|view| (number, view))),
            }
        }
        *series -= newest.series.iter().copied().collect::<RoaringBitmap>();
        views.extend(newest.views());
        views.sort_unstable_by_key(|(number, _)| *number);
        views
    }

    /// The numbers of the series in here.
    pub fn series(&self) -> RoaringBitmap {
        numbers(&self.pages)
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
}

/// One row of each of some series, joined: buffers of their own would cost more than the values.
struct NewestRows {
    series: Vec<u32>,
    times: Vec<Time>,
    columns: Vec<Option<Values>>,
}

impl NewestRows {
    fn new(columns: usize) -> NewestRows {
        NewestRows { series: Vec::new(), times: Vec::new(), columns: vec![None; columns] }
    }

    fn push(&mut self, number: u32, time: Time, cells: &[Cell<'_>]) {
        self.series.push(number);
        self.times.push(time);
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            column.get_or_insert_with(|| Values::none(cell.field_type())).push(*cell);
        }
    }

    fn views(self) -> impl Iterator<Item = (u32, SeriesView)> {
        let array =
            |values: Option<Values>| values.map(|values| to_array(ColumnValues { values, present: None }));
        let columns = self.columns.into_iter().map(array).collect();
        let rows = Arc::new(Rows { times: self.times.into(), columns });
        self.series
            .into_iter()
            .enumerate()
            .map(move |(row, number)| (number, SeriesView::Newest(Arc::clone(&rows), row)))
    }
}

fn page_of(series: u32) -> usize {
    series as usize / PAGE
}

/// What rows added to some of a partition's pages.
#[derive(Default)]
struct Grown {
    rows: u64,
    series: usize,
    values: usize,
    sealed_bytes: usize,
    sealed_values: usize,
}

impl Grown {
    /// `first` is the number of the first of the pages.
    #[inline]
    fn push(
        &mut self,
        pages: &mut [Option<Page>],
        first: usize,
        points: &Points,
        row: &PointRow,
        types: &[FieldType],
    ) {
        let page = pages[page_of(row.series) - first].get_or_insert_with(|| Box::new([const { None }; PAGE]));
        let head = page[row.series as usize % PAGE].get_or_insert_with(|| {
            self.series += 1;
            Box::default()
        });
        let (columns, values) = points.row(row);
        self.rows += 1;
        self.values += columns.len();
        if let Some(sealed) = head.push(row.time, columns, values, types, &points.text) {
            self.sealed_bytes += sealed.bytes;
            self.sealed_values += sealed.values;
        }
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
        numbers(&self.pages)
    }

    /// Copies nothing: the views share the partition.
    pub fn capture(self: &Arc<Self>, series: &RoaringBitmap, ranges: &RangeSet) -> Vec<(u32, SeriesView)> {
        let touches = |number: &u32| self.head(*number).is_some_and(|head| head.touches(ranges));
        let view = |number| (number, SeriesView::Frozen(Arc::clone(self), number));
        series.iter().filter(touches).map(view).collect()
    }

    pub(super) fn head(&self, series: u32) -> Option<&SeriesHead> {
        find(&self.pages, series)
    }
}

fn find(pages: &[Option<Page>], number: u32) -> Option<&SeriesHead> {
    pages.get(number as usize / PAGE)?.as_ref()?[number as usize % PAGE].as_deref()
}

fn numbers(pages: &[Option<Page>]) -> RoaringBitmap {
    let pages = pages.iter().enumerate().filter_map(|(at, page)| Some((at, page.as_ref()?)));
    let of_page = |(at, page): (usize, &Page)| {
        let used = page.iter().enumerate().filter(|(_, slot)| slot.is_some());
        used.map(|(slot, _)| (at * PAGE + slot) as u32).collect::<Vec<_>>()
    };
    pages.flat_map(of_page).collect()
}
