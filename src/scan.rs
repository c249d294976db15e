//! One series after another, its rows merged from blocks and head: the only way to the points.
//!
//! Invariant: the rows of a series come as pieces that ascend in time, deduplicated by last write wins, without deleted
//! rows, cut to the asked ranges; a long series comes in slices of time, each with all its sources. What a scan needs is
//! [`Captured`] from one [`View`] under the lock; opening and running it needs none.
//! Not here: what is computed from the rows (`query`, `compact`).

mod memory;
mod newest;
mod read;
mod search;
mod tasks;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use roaring::RoaringBitmap;
use storage_format::block::BlockKind;
use storage_format::point::{SeriesOrder, TagSet, TimeRange};
use storage_format::ranges::RangeSet;

use crate::blocks::{BlockFile, BlockList, OpenBlock, TableKey};
use crate::error::Result;
use crate::guard::Guard;
use crate::head::Capture;
use crate::head::FrozenPartition;
use crate::head::Head;
use crate::rows::{Merge, Rows};
use crate::series::{Column, CompiledFilter, METRIC_VALUE, METRICS_TABLE, Table};

use memory::{Layers, Place};
pub use read::Part;
pub use search::Search;

/// What is live, all at one sequence.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Counts what is copied out of memory; without one, nothing is that grows with the data.
    pub guard: Option<&'a Guard>,
    pub seq: u64,
    pub head: &'a Head,
    pub blocks: &'a BlockList,
    pub tombstones: &'a [Arc<Tombstone>],
}

impl View<'_> {
    fn reserve(&self, bytes: usize) -> Result<()> {
        self.guard.map_or(Ok(()), |guard| guard.reserve(bytes))
    }
}

/// A delete that stands against files written before it.
#[derive(Clone, Debug)]
pub struct Tombstone {
    pub seq: u64,
    pub database: Arc<str>,
    pub table: Arc<str>,
    pub filter: CompiledFilter,
    pub range: TimeRange,
    /// The canonical statement, for the log and the manifest.
    pub statement: String,
}

/// The rows of some series in some ranges.
pub struct Scan {
    ranges: RangeSet,
    columns: Vec<String>,
    /// The same columns as the head knows them.
    ids: Vec<u32>,
    merge: Merge,
    order: SeriesOrder,
    blocks: Vec<ScanBlock>,
    memory: Layers,
    tombstones: Vec<Arc<Tombstone>>,
    stale: Stale,
    /// In the order of the table's series.
    series: Vec<SeriesSources>,
}

/// A block that holds some of the rows.
struct ScanBlock {
    file: Arc<BlockFile>,
    open: Arc<OpenBlock>,
    /// Of one row of the scan's columns, decoded.
    row_bytes: u64,
    /// The last row of each of its series, if that may be all that is read of some.
    newest: Option<Rows>,
}

/// Where the rows of one series are, in the order in which they win.
struct SeriesSources {
    tags: TagSet,
    /// Index into [`Scan::blocks`] and the rows there, block by block.
    blocks: Vec<(u32, Range<u64>)>,
    memory: Vec<Place>,
    /// Index into [`Scan::blocks`] and the number of the series there: the last row it has is wanted, and nothing else.
    newest: Option<(u32, u32)>,
}

impl SeriesSources {
    fn heap_bytes(&self) -> usize {
        size_of::<SeriesSources>()
            + self.blocks.capacity() * size_of::<(u32, Range<u64>)>()
            + self.memory.capacity() * size_of::<Place>()
    }
}

/// What a scan has touched, for the answer's `stats`.
#[derive(Debug, Default)]
pub struct Touched {
    pub series: AtomicU64,
    pub rows: AtomicU64,
    pub bytes: AtomicU64,
    pub files: AtomicU64,
}

impl Touched {
    /// What was read, but not for which series.
    pub fn add_work(&self, other: &Touched) {
        self.rows.fetch_add(other.rows.load(Relaxed), Relaxed);
        self.bytes.fetch_add(other.bytes.load(Relaxed), Relaxed);
        self.files.fetch_max(other.files.load(Relaxed), Relaxed);
    }
}

/// What a scan needs of a view, taken under the lock without touching the disk.
#[derive(Clone)]
pub struct Captured {
    ranges: RangeSet,
    columns: Vec<String>,
    ids: Vec<u32>,
    merge: Merge,
    order: SeriesOrder,
    filter: CompiledFilter,
    files: Vec<Arc<BlockFile>>,
    tombstones: Vec<Arc<Tombstone>>,
    memory: Layers,
    extent: Extent,
    stale: Stale,
}

/// What becomes of Prometheus' stale markers, which say that a series has ended and are no values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stale {
    Kept,
    /// Rows with nothing else are left out. The rows are read with this many columns more than were asked for.
    Skipped {
        more: usize,
    },
}

/// What is wanted of each series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All rows.
    All,
    /// Rows that hold the last value of each column; more of them where that is easier.
    Newest,
}

impl Captured {
    /// The points of a table, without stale markers. `columns` are the fields wanted.
    pub fn points(
        view: &View<'_>,
        table: &Arc<Table>,
        filter: &CompiledFilter,
        ranges: RangeSet,
        columns: &[(u32, String)],
        extent: Extent,
    ) -> Result<Captured> {
        if *table.name != *METRICS_TABLE {
            return Captured::samples_of(view, table, filter, ranges, columns, extent);
        }
        // The newest row may be a marker, so that all are read. Whether it is shows in its value, also where only the rows
        // are counted.
        let mut columns = columns.to_vec();
        let missing = !columns.iter().any(|(_, name)| name == METRIC_VALUE);
        let value = table.column(METRIC_VALUE).filter(|_| missing);
        columns.extend(value.map(|(id, _)| (id, METRIC_VALUE.to_string())));
        let stale = Stale::Skipped { more: usize::from(value.is_some()) };
        Ok(Captured { stale, ..Captured::samples(view, table, filter, ranges, &columns)? })
    }

    /// The points of a table with stale markers, as Prometheus reads them. `columns` are the fields wanted.
    pub fn samples(
        view: &View<'_>,
        table: &Arc<Table>,
        filter: &CompiledFilter,
        ranges: RangeSet,
        columns: &[(u32, String)],
    ) -> Result<Captured> {
        Captured::samples_of(view, table, filter, ranges, columns, Extent::All)
    }

    fn samples_of(
        view: &View<'_>,
        table: &Arc<Table>,
        filter: &CompiledFilter,
        ranges: RangeSet,
        columns: &[(u32, String)],
        extent: Extent,
    ) -> Result<Captured> {
        let key = TableKey::points(table);
        let about = |tombstone: &&Arc<Tombstone>| {
            tombstone.database == table.database
                && tombstone.table == table.name
                && ranges.overlaps(tombstone.range)
        };
        let ids: Vec<u32> = columns.iter().map(|(id, _)| *id).collect();
        let matching = table.matching(filter);
        let memory = match extent {
            Extent::All => {
                let series = view.head.series_in(table.id, &matching, &ranges);
                let least = Layers::heap_bytes_min(series);
                // Before it is copied, since others may be copying at the same time.
                view.reserve(least)?;
                let memory = Layers::points(table, view.head.capture(table.id, &matching, &ranges, &ids));
                view.guard.inspect(|guard| guard.release(least));
                memory
            }
            Extent::Newest => {
                Layers::points(table, view.head.capture_newest(table.id, &matching, &ranges, &ids))
            }
        };
        view.reserve(memory.heap_bytes())?;
        Ok(Captured {
            extent,
            columns: columns.iter().map(|(_, name)| name.clone()).collect(),
            ids,
            merge: Merge::Field,
            order: key.series_order(),
            filter: filter.clone(),
            files: touching(view.blocks.of(&key), &ranges),
            tombstones: view.tombstones.iter().filter(about).cloned().collect(),
            memory,
            stale: Stale::Kept,
            ranges,
        })
    }

    /// The states of a rollup that are in blocks.
    pub fn states(
        view: &View<'_>,
        key: &TableKey,
        filter: &CompiledFilter,
        ranges: RangeSet,
        columns: Vec<String>,
    ) -> Captured {
        Captured {
            extent: Extent::All,
            columns,
            ids: Vec::new(),
            merge: Merge::Row,
            order: key.series_order(),
            filter: filter.clone(),
            files: touching(view.blocks.of(key), &ranges),
            tombstones: Vec::new(),
            memory: Layers::None,
            stale: Stale::Kept,
            ranges,
        }
    }

    /// All rows of frozen partitions of one table, for their flush.
    pub fn frozen(group: &[Arc<FrozenPartition>], columns: &[Column]) -> Captured {
        let ids: Vec<u32> = (0..columns.len() as u32).collect();
        let capture = |frozen: &Arc<FrozenPartition>| Capture {
            frozen_at: Some(frozen.seq_max),
            series: frozen.capture(&frozen.series(), &TimeRange::ALL.into()),
        };
        let captures = group.iter().map(capture).collect();
        let order = |frozen: &Arc<FrozenPartition>| TableKey::points(&frozen.table).series_order();
        Captured {
            extent: Extent::All,
            columns: columns.iter().map(|column| column.name.to_string()).collect(),
            ids,
            merge: Merge::Field,
            order: group.first().map_or_else(SeriesOrder::default, order),
            filter: CompiledFilter::All,
            files: Vec::new(),
            tombstones: Vec::new(),
            memory: match group.first() {
                Some(frozen) => Layers::points(&frozen.table, captures),
                None => Layers::None,
            },
            stale: Stale::Kept,
            ranges: TimeRange::ALL.into(),
        }
    }

    /// The rows of these blocks in a range, for compaction. Tombstones above a block's last sequence are applied.
    pub fn blocks(
        key: &TableKey,
        files: &[Arc<BlockFile>],
        tombstones: &[Arc<Tombstone>],
        columns: Vec<String>,
        range: TimeRange,
    ) -> Captured {
        Captured {
            extent: Extent::All,
            columns,
            ids: Vec::new(),
            merge: match key.kind {
                BlockKind::Points => Merge::Field,
                BlockKind::Rollup => Merge::Row,
            },
            order: key.series_order(),
            filter: CompiledFilter::All,
            files: touching(files, &range.into()),
            tombstones: tombstones.to_vec(),
            memory: Layers::None,
            stale: Stale::Kept,
            ranges: range.into(),
        }
    }

    /// Whether there can be nothing in it.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.memory.is_empty()
    }

    /// Only what lies in these ranges, too.
    #[must_use]
    pub fn within(mut self, ranges: &RangeSet) -> Captured {
        self.ranges = self.ranges.intersect(ranges);
        self.files.retain(|file| self.ranges.overlaps(file.time()));
        self
    }

    /// What it is asked for.
    pub fn ranges(&self) -> &RangeSet {
        &self.ranges
    }

    /// Opens it for a query, which counts where all of it lies.
    pub fn open_within(self, guard: &Guard) -> Result<Scan> {
        let extent = self.extent;
        let (mut scan, found) = self.find()?;
        // Half as much again while they are sorted.
        let bytes = found.capacity() * size_of::<Found>() * 3 / 2;
        guard.reserve(bytes)?;
        scan.gather(found);
        guard.release(bytes);
        guard.reserve(scan.series.iter().map(SeriesSources::heap_bytes).sum())?;
        if extent == Extent::Newest {
            scan.keep_newest(guard)?;
        }
        Ok(scan)
    }

    /// Opens it for a flush.
    pub fn open(self) -> Result<Scan> {
        let (mut scan, found) = self.find()?;
        scan.gather(found);
        Ok(scan)
    }

    /// Opens the blocks and finds the series in them.
    fn find(self) -> Result<(Scan, Vec<Found>)> {
        let mut found: Vec<Found> = Vec::with_capacity(self.memory.series());
        self.memory.find(|tags, place| found.push(Found { tags, source: Source::Memory(place) }));
        let mut scan = Scan {
            ranges: self.ranges,
            columns: self.columns,
            ids: self.ids,
            merge: self.merge,
            order: self.order,
            blocks: Vec::new(),
            memory: self.memory,
            tombstones: self.tombstones,
            stale: self.stale,
            series: Vec::new(),
        };
        scan.add_blocks(&self.files, &self.filter, &mut found)?;
        Ok((scan, found))
    }
}

fn touching(files: &[Arc<BlockFile>], ranges: &RangeSet) -> Vec<Arc<BlockFile>> {
    files.iter().filter(|file| ranges.overlaps(file.time())).cloned().collect()
}

impl Scan {
    pub fn series_tags(&self) -> impl Iterator<Item = &TagSet> {
        self.series.iter().map(|series| &series.tags)
    }

    /// The sorted names of all tags that its series have.
    pub fn tag_names(&self) -> Vec<String> {
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for tags in self.series_tags() {
            names.extend(tags.iter().map(|(tag, _)| tag));
        }
        names.into_iter().map(str::to_string).collect()
    }

    /// Whether any series may have a value in the scan's only column, a field of bytes. Of blocks no page is read for it.
    pub fn may_have_values(&self, guard: &Guard) -> Result<bool> {
        let hull = self.ranges.hull().unwrap_or(TimeRange::ALL);
        let wanted = memory::Wanted { ids: &self.ids, times: hull };
        for series in &self.series {
            guard.check()?;
            let in_block = |(block, rows): &(u32, Range<u64>)| {
                self.blocks[*block as usize].open.may_hold(&self.columns[0], rows)
            };
            if series.blocks.iter().any(in_block) {
                return Ok(true);
            }
            for place in &series.memory {
                let decoded = self.memory.decode(*place, &series.tags, &wanted)?;
                if decoded.rows.iter().any(|rows| rows.columns[0].is_some()) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn add_blocks(
        &mut self,
        files: &[Arc<BlockFile>],
        filter: &CompiledFilter,
        found: &mut Vec<Found>,
    ) -> Result<()> {
        for file in files {
            let block = file.block()?;
            let index = block.index();
            let number = self.blocks.len() as u32;
            let before = found.len();
            let matching: RoaringBitmap = filter.series(index);
            file.weigh(&block);
            for series in &matching {
                let rows = index.rows(series);
                let time = index.time(series);
                for range in self.ranges.touching(time) {
                    let rows =
                        if range.covers(time) { rows.clone() } else { block.prune(rows.clone(), range) };
                    if !rows.is_empty() {
                        let source = Source::Block(number, rows.start, rows.end);
                        found.push(Found { tags: index.key(series), source });
                    }
                }
            }
            if found.len() > before {
                let row_bytes = block.row_bytes(&self.columns);
                self.blocks.push(ScanBlock { file: Arc::clone(file), open: block, row_bytes, newest: None });
            }
        }
        Ok(())
    }

    /// Sources of equal tags become one series.
    fn gather(&mut self, mut found: Vec<Found>) {
        let order = self.order;
        found.sort_by(|a, b| order.cmp(&a.tags, &b.tags).then_with(|| a.source.cmp(&b.source)));
        for Found { tags, source } in found {
            if self.series.last().is_none_or(|last| last.tags != tags) {
                self.series.push(SeriesSources {
                    tags,
                    blocks: Vec::new(),
                    memory: Vec::new(),
                    newest: None,
                });
            }
            let series = self.series.last_mut().expect("pushed above");
            match source {
                Source::Block(block, start, end) => match series.blocks.last_mut() {
                    // Two ranges may lead to pages that overlap.
                    Some((last, before)) if *last == block && start <= before.end => {
                        before.end = before.end.max(end);
                    }
                    _ => series.blocks.push((block, start..end)),
                },
                Source::Memory(place) => series.memory.push(place),
            }
        }
    }
}

struct Found {
    tags: TagSet,
    source: Source,
}

/// Blocks before memory, older before newer.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// The block, the first of its rows, and the end of them.
    Block(u32, u64, u64),
    Memory(Place),
}
