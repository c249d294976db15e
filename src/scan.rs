//! One series after another, its rows merged from blocks and head: the only way to the points.
//!
//! Invariant: the rows of a series come as pieces that ascend in time, deduplicated by last write wins, without deleted
//! rows, cut to the asked ranges. What a scan needs is [`Captured`] from one [`View`]
//! under the lock; opening and running it needs none.
//! Not here: what is computed from the rows (`query`, `compact`).

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as Memory};

use rayon::prelude::*;
use roaring::RoaringBitmap;
use storage_format::block::BlockKind;
use storage_format::point::{TagSet, TimeRange};
use storage_format::ranges::RangeSet;
use storage_format::state::StateRun;

use crate::blocks::{BlockFile, BlockList, TableKey};
use crate::error::{Error, Result};
use crate::head::Capture;
use crate::head::FrozenPartition;
use crate::head::Head;
use crate::head::SeriesView;
use crate::rows::{self, Merge, Rows};
use crate::series::{Column, CompiledFilter, Table};

/// What is live, all at one sequence.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub seq: u64,
    pub head: &'a Head,
    pub blocks: &'a BlockList,
    pub tombstones: &'a [Arc<Tombstone>],
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
    blocks: Vec<Arc<BlockFile>>,
    tombstones: Vec<Arc<Tombstone>>,
    /// In series order.
    series: Vec<SeriesSources>,
}

/// Where the rows of one series are, in the order in which they win.
struct SeriesSources {
    tags: TagSet,
    /// Index into [`Scan::blocks`] and the rows there, block by block.
    blocks: Vec<(u32, Range<u64>)>,
    memory: Vec<Memorized>,
}

/// A layer of memory. A frozen one still has the tombstones above its sequence to apply.
struct Memorized {
    frozen_at: Option<u64>,
    rows: MemoryRows,
}

enum MemoryRows {
    Points(SeriesView),
    /// Rollup states not yet in blocks.
    States(Arc<StateRun>),
}

/// States of rollups that are not in blocks yet: one layer in memory.
pub type StateLayer = Vec<(TagSet, Arc<StateRun>)>;

/// A layer of points in memory, and the sequence at which it was frozen, if it is.
type PointLayer = (Option<u64>, Vec<(TagSet, SeriesView)>);

/// What a scan has touched, for the answer's `stats`.
#[derive(Debug, Default)]
pub struct Touched {
    pub series: AtomicU64,
    pub rows: AtomicU64,
    pub bytes: AtomicU64,
    pub files: AtomicU64,
}

/// Rows per task: enough to be worth a thread's while (some ms), few enough that a scan is spread over all of them.
const TASK_ROWS: u64 = 128 * 1024;

/// What a head's series is counted as when tasks are cut; its rows are not known before decoding.
const MEMORY_ROWS: u64 = 512;

/// What a scan needs of a view, taken under the lock without touching the disk.
pub struct Captured {
    ranges: RangeSet,
    columns: Vec<String>,
    ids: Vec<u32>,
    merge: Merge,
    filter: CompiledFilter,
    files: Vec<Arc<BlockFile>>,
    tombstones: Vec<Arc<Tombstone>>,
    points: Vec<PointLayer>,
    states: Vec<StateLayer>,
}

impl Captured {
    /// The points of a table. `columns` are the fields wanted.
    pub fn points(
        view: &View<'_>,
        table: &Arc<Table>,
        filter: &CompiledFilter,
        ranges: RangeSet,
        columns: &[(u32, String)],
    ) -> Captured {
        let key = TableKey {
            kind: BlockKind::Points,
            database: Arc::clone(&table.database),
            table: Arc::clone(&table.name),
        };
        let about = |tombstone: &&Arc<Tombstone>| {
            tombstone.database == table.database
                && tombstone.table == table.name
                && ranges.overlaps(tombstone.range)
        };
        let ids: Vec<u32> = columns.iter().map(|(id, _)| *id).collect();
        let captures = view.head.capture(table.id, &table.matching(filter), &ranges, &ids);
        Captured {
            columns: columns.iter().map(|(_, name)| name.clone()).collect(),
            ids,
            merge: Merge::Field,
            filter: filter.clone(),
            files: touching(view.blocks.of(&key), &ranges),
            tombstones: view.tombstones.iter().filter(about).cloned().collect(),
            points: named(table, captures),
            states: Vec::new(),
            ranges,
        }
    }

    /// The stored states of a rollup: blocks, and over them the layers in memory.
    pub fn states(
        view: &View<'_>,
        key: &TableKey,
        layers: Vec<StateLayer>,
        filter: &CompiledFilter,
        ranges: RangeSet,
        columns: Vec<String>,
    ) -> Captured {
        Captured {
            columns,
            ids: Vec::new(),
            merge: Merge::Row,
            filter: filter.clone(),
            files: touching(view.blocks.of(key), &ranges),
            tombstones: Vec::new(),
            points: Vec::new(),
            states: layers,
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
        Captured {
            columns: columns.iter().map(|column| column.name.to_string()).collect(),
            ids,
            merge: Merge::Field,
            filter: CompiledFilter::All,
            files: Vec::new(),
            tombstones: Vec::new(),
            points: group.first().map_or_else(Vec::new, |frozen| named(&frozen.table, captures)),
            states: Vec::new(),
            ranges: TimeRange::ALL.into(),
        }
    }

    /// The rows of these blocks in a range, for compaction. Tombstones above a block's last sequence are applied.
    pub fn blocks(
        files: &[Arc<BlockFile>],
        tombstones: &[Arc<Tombstone>],
        columns: Vec<String>,
        merge: Merge,
        range: TimeRange,
    ) -> Captured {
        Captured {
            columns,
            ids: Vec::new(),
            merge,
            filter: CompiledFilter::All,
            files: touching(files, &range.into()),
            tombstones: tombstones.to_vec(),
            points: Vec::new(),
            states: Vec::new(),
            ranges: range.into(),
        }
    }

    /// Opens the blocks and finds the series in them.
    pub fn open(self) -> Result<Scan> {
        let mut scan = Scan {
            ranges: self.ranges,
            columns: self.columns,
            ids: self.ids,
            merge: self.merge,
            blocks: Vec::new(),
            tombstones: self.tombstones,
            series: Vec::new(),
        };
        let mut found: Vec<Found> = Vec::new();
        for (layer, (frozen_at, series)) in self.points.into_iter().enumerate() {
            found.extend(series.into_iter().map(|(tags, view)| Found {
                tags,
                source: Source::Memory(layer as u32, Memorized { frozen_at, rows: MemoryRows::Points(view) }),
            }));
        }
        for (layer, groups) in self.states.into_iter().enumerate() {
            let groups = groups.into_iter().filter(|(tags, _)| self.filter.passes(tags));
            found.extend(groups.map(|(tags, run)| {
                let rows = Memorized { frozen_at: None, rows: MemoryRows::States(run) };
                Found { tags, source: Source::Memory(layer as u32, rows) }
            }));
        }
        scan.add_blocks(&self.files, &self.filter, &mut found)?;
        scan.gather(found);
        Ok(scan)
    }
}

/// The captured series by name. Under the lock of the view: afterwards the numbers may be forgotten.
fn named(table: &Table, captures: Vec<Capture>) -> Vec<PointLayer> {
    table.with_index(|index| {
        let name = |(series, view)| (index.key(series).clone(), view);
        let layer = |capture: Capture| (capture.frozen_at, capture.series.into_iter().map(name).collect());
        captures.into_iter().map(layer).collect()
    })
}

fn touching(files: &[Arc<BlockFile>], ranges: &RangeSet) -> Vec<Arc<BlockFile>> {
    files.iter().filter(|file| ranges.overlaps(file.time())).cloned().collect()
}

impl Scan {
    pub fn series_tags(&self) -> impl Iterator<Item = &TagSet> {
        self.series.iter().map(|series| &series.tags)
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
            for series in &matching {
                let rows = index.rows(series);
                let time = index.time(series);
                for range in self.ranges.touching(time) {
                    let rows =
                        if range.covers(time) { rows.clone() } else { block.prune(rows.clone(), range) };
                    if !rows.is_empty() {
                        found.push(Found { tags: index.key(series), source: Source::Block(number, rows) });
                    }
                }
            }
            if found.len() > before {
                self.blocks.push(Arc::clone(file));
            }
        }
        Ok(())
    }

    /// Sources of equal tags become one series.
    fn gather(&mut self, mut found: Vec<Found>) {
        found.sort_by(|a, b| a.tags.cmp(&b.tags).then_with(|| a.source.rank(&b.source)));
        for Found { tags, source } in found {
            if self.series.last().is_none_or(|last| last.tags != tags) {
                self.series.push(SeriesSources { tags, blocks: Vec::new(), memory: Vec::new() });
            }
            let series = self.series.last_mut().expect("pushed above");
            match source {
                Source::Block(block, rows) => match series.blocks.last_mut() {
                    // Two ranges may lead to pages that overlap.
                    Some((last, before)) if *last == block && rows.start <= before.end => {
                        before.end = before.end.max(rows.end);
                    }
                    _ => series.blocks.push((block, rows)),
                },
                Source::Memory(_, memory) => series.memory.push(memory),
            }
        }
    }

    /// Folds all series, in parallel and in no particular order: `each` adds one series to a task's result, `join` joins
    /// two results.
    pub fn fold<T: Send>(
        &self,
        touched: &Touched,
        new: impl Fn() -> T + Sync,
        each: impl Fn(&mut T, &TagSet, &[Rows]) -> Result<()> + Sync,
        join: impl Fn(T, T) -> Result<T> + Sync,
    ) -> Result<T> {
        let tasks = self.tasks();
        touched.files.fetch_add(self.blocks.len() as u64, Memory::Relaxed);
        let done = tasks.into_par_iter().map(|task| {
            let mut result = new();
            self.run_task(task, touched, &mut |tags, pieces| each(&mut result, tags, &pieces))?;
            Ok(result)
        });
        done.try_reduce_with(&join).unwrap_or_else(|| Ok(new()))
    }

    /// Visits all series in their order, decoding some tasks ahead in parallel.
    pub fn for_each(&self, mut each: impl FnMut(&TagSet, Vec<Rows>) -> Result<()>) -> Result<()> {
        let touched = Touched::default();
        for some in self.tasks().chunks(rayon::current_num_threads()) {
            let decoded: Vec<Result<Vec<(&TagSet, Vec<Rows>)>>> = some
                .par_iter()
                .map(|task| {
                    let mut out = Vec::with_capacity(task.len());
                    self.run_task(task.clone(), &touched, &mut |tags, pieces| {
                        out.push((tags, pieces));
                        Ok(())
                    })?;
                    Ok(out)
                })
                .collect();
            for series in decoded {
                for (tags, pieces) in series? {
                    each(tags, pieces)?;
                }
            }
        }
        Ok(())
    }

    /// Runs of series that have about [`TASK_ROWS`] rows together.
    fn tasks(&self) -> Vec<Range<usize>> {
        let mut tasks = Vec::new();
        let (mut start, mut rows) = (0, 0);
        for (at, series) in self.series.iter().enumerate() {
            rows += series.blocks.iter().map(|(_, rows)| rows.end - rows.start).sum::<u64>();
            rows += series.memory.len() as u64 * MEMORY_ROWS;
            if rows >= TASK_ROWS {
                tasks.push(start..at + 1);
                (start, rows) = (at + 1, 0);
            }
        }
        if start < self.series.len() {
            tasks.push(start..self.series.len());
        }
        tasks
    }

    fn run_task<'a>(
        &'a self,
        task: Range<usize>,
        touched: &Touched,
        each: &mut dyn FnMut(&'a TagSet, Vec<Rows>) -> Result<()>,
    ) -> Result<()> {
        let series = &self.series[task];
        let mut from_blocks = self.read_blocks(series, touched)?;
        for (at, sources) in series.iter().enumerate() {
            let tombstones: Vec<&Tombstone> = self
                .tombstones
                .iter()
                .map(Arc::as_ref)
                .filter(|tombstone| tombstone.filter.passes(&sources.tags))
                .collect();
            let mut rows = Vec::new();
            for (block, read) in &mut from_blocks {
                if let Some(found) = read.take(at) {
                    let seq = self.blocks[*block as usize].entry.seq_max;
                    rows.push(apply(found, &tombstones, Some(seq)));
                }
            }
            for memory in &sources.memory {
                match &memory.rows {
                    MemoryRows::Points(view) => {
                        let decoded = view.sources(&self.ids).map_err(|damage| {
                            Error::corrupt(format!("a chunk in memory of series {}", sources.tags), damage)
                        })?;
                        rows.extend(
                            decoded.into_iter().map(|found| apply(found, &tombstones, memory.frozen_at)),
                        );
                    }
                    MemoryRows::States(run) => rows.push(self.state_rows(run)),
                }
            }
            let merged = rows::in_time_order(rows, self.merge);
            let pieces: Vec<Rows> = merged.into_iter().flat_map(|piece| self.cut(piece)).collect();
            let count: usize = pieces.iter().map(Rows::len).sum();
            if count > 0 {
                touched.series.fetch_add(1, Memory::Relaxed);
                touched.rows.fetch_add(count as u64, Memory::Relaxed);
                each(&sources.tags, pieces)?;
            }
        }
        Ok(())
    }

    /// States in memory as a block would have them.
    fn state_rows(&self, run: &StateRun) -> Rows {
        let part = run.slice(self.ranges.hull().unwrap_or(TimeRange::ALL));
        Rows { columns: part.to_arrow().into_iter().map(Some).collect(), times: part.starts.into() }
    }

    /// Only what lies in the asked ranges.
    fn cut(&self, piece: Rows) -> Vec<Rows> {
        let (Some(first), Some(last)) = (piece.times.first(), piece.times.last()) else { return Vec::new() };
        let hull = TimeRange::new(*first, last + 1);
        match self.ranges.ranges() {
            [one] if one.covers(hull) => vec![piece],
            _ => {
                let cuts = self.ranges.touching(hull).map(|range| piece.cut(range));
                cuts.filter(|rows| !rows.is_empty()).collect()
            }
        }
    }
}

/// The rows that one task needs of one block, read together, to be handed out per series.
struct BlockPart {
    rows: Rows,
    /// Per series of the task: where its rows stand in `rows`.
    places: Vec<Range<usize>>,
}

impl BlockPart {
    fn take(&mut self, series: usize) -> Option<Rows> {
        let place = self.places[series].clone();
        (!place.is_empty()).then(|| self.rows.slice(place.start, place.len()))
    }
}

impl Scan {
    fn read_blocks(&self, series: &[SeriesSources], touched: &Touched) -> Result<Vec<(u32, BlockPart)>> {
        let mut parts = Vec::new();
        let fields: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        for (number, file) in self.blocks.iter().enumerate() {
            let mut wanted: Vec<Range<u64>> = Vec::new();
            let mut places = vec![0..0; series.len()];
            let mut total = 0;
            for (place, sources) in places.iter_mut().zip(series) {
                let start = total;
                for (_, rows) in sources.blocks.iter().filter(|(block, _)| *block == number as u32) {
                    total += (rows.end - rows.start) as usize;
                    match wanted.last_mut() {
                        Some(last) if last.end == rows.start => last.end = rows.end,
                        _ => wanted.push(rows.clone()),
                    }
                }
                *place = start..total;
            }
            if total > 0 {
                let rows = file.read(&fields, &wanted)?;
                touched.bytes.fetch_add(rows.heap_bytes() as u64, Memory::Relaxed);
                parts.push((number as u32, BlockPart { rows, places }));
            }
        }
        Ok(parts)
    }
}

fn apply(rows: Rows, tombstones: &[&Tombstone], seq: Option<u64>) -> Rows {
    let Some(seq) = seq else { return rows };
    let ranges: Vec<TimeRange> =
        tombstones.iter().filter(|tombstone| tombstone.seq > seq).map(|tombstone| tombstone.range).collect();
    if ranges.is_empty() { rows } else { rows.without(&ranges) }
}

struct Found {
    tags: TagSet,
    source: Source,
}

enum Source {
    Block(u32, Range<u64>),
    Memory(u32, Memorized),
}

impl Source {
    /// Blocks before memory, older before newer.
    fn rank(&self, other: &Source) -> Ordering {
        match (self, other) {
            (Source::Block(a, rows_a), Source::Block(b, rows_b)) => {
                a.cmp(b).then_with(|| rows_a.start.cmp(&rows_b.start))
            }
            (Source::Block(..), Source::Memory(..)) => Ordering::Less,
            (Source::Memory(..), Source::Block(..)) => Ordering::Greater,
            (Source::Memory(a, _), Source::Memory(b, _)) => a.cmp(b),
        }
    }
}
