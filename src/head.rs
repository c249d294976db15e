//! The newest points, in memory, compressed.
//!
//! Invariant: every point here is in the log and, until its partition is dropped, in no live block. Per partition
//! the points form one layer; a frozen partition is immutable and older than the active one of the same range,
//! so that last write wins by layer. Within a series, later layers of chunks win over earlier ones (see `series`).
//!
//! A head is plain data: one applier changes it in sequence order, readers share it between two batches, both
//! under the lock of `db`. Series stand in pages by their number instead of in hash shards: with a single applier
//! there is nothing to shard, a look-up is two loads, and growth never rehashes a million entries at once.
//! Not here: durability (`wal`), names and filters (`series`).

mod partition;
mod series;

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use roaring::RoaringBitmap;
use storage_format::point::{NANOS_PER_SECOND, Time, TimeRange, ceil_time, floor_time};
use storage_format::ranges::RangeSet;
use storage_format::wal::PointRow;

use crate::batch::Batch;
use crate::batch::BatchPart;
use crate::series::Table;

pub use partition::{FrozenPartition, PartitionHead};
pub use series::{SeriesHead, SeriesView};

/// Width of a partition: DESIGN §1.
pub const PARTITION_WIDTH: i64 = 2 * 3_600 * NANOS_PER_SECOND;

/// The partition that holds a time.
pub fn partition_of(time: Time) -> TimeRange {
    let start = floor_time(time, PARTITION_WIDTH, 0);
    // Slots are counted from 1970, so the very first one is cut short by the beginning of time.
    let cut = start == i64::MIN;
    let end =
        if cut { ceil_time(start + 1, PARTITION_WIDTH, 0) } else { start.saturating_add(PARTITION_WIDTH) };
    TimeRange { start, end }
}

/// Rows of one batch nearly always fall into one partition: it is found once per run.
fn runs(part: &BatchPart) -> impl Iterator<Item = (PartitionKey, TimeRange, &[PointRow])> {
    let mut rest = part.points.rows.as_slice();
    std::iter::from_fn(move || {
        let range = partition_of(rest.first()?.time);
        let len = rest.iter().take_while(|row| range.contains(row.time)).count();
        let (run, after) = rest.split_at(len);
        rest = after;
        Some((PartitionKey { table: part.table.id, start: range.start }, range, run))
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    pub table: u32,
    pub start: Time,
}

#[derive(Default)]
pub struct Head {
    active: BTreeMap<PartitionKey, PartitionHead>,
    /// Being flushed; oldest first.
    frozen: Vec<Arc<FrozenPartition>>,
}

/// What a reader takes out of one layer of one partition.
pub struct Capture {
    /// The layer's last sequence if it is frozen: tombstones above it apply. An active layer has none left to apply.
    pub frozen_at: Option<u64>,
    pub series: Vec<(u32, SeriesView)>,
}

impl Head {
    /// Applies one table's rows of the batch `seq`.
    pub fn apply(&mut self, part: &BatchPart, seq: u64) {
        let types = part.table.column_types();
        for (key, range, rows) in runs(part) {
            self.partition(key, part, range, seq).apply(&part.points, rows, &types);
        }
    }

    /// Applies batches that follow each other, each with its sequence, in parallel: the series are split, and the rows of
    /// each stay in order. Rows for which `skip` says so are elsewhere already.
    pub fn apply_all(
        &mut self,
        batches: &[(u64, Batch)],
        skip: impl Fn(&BatchPart, PartitionKey, u64) -> bool,
    ) {
        let mut by_partition: BTreeMap<PartitionKey, Vec<(&BatchPart, &[PointRow])>> = BTreeMap::new();
        for (seq, batch) in batches {
            for part in &batch.parts {
                for (key, range, rows) in runs(part).filter(|(key, _, _)| !skip(part, *key, *seq)) {
                    self.partition(key, part, range, *seq);
                    by_partition.entry(key).or_default().push((part, rows));
                }
            }
        }
        for (key, runs) in by_partition {
            let partition = self.active.get_mut(&key).expect("made above");
            let types = partition.table.column_types();
            partition.apply_all(&runs, &types);
        }
    }

    fn partition(
        &mut self,
        key: PartitionKey,
        part: &BatchPart,
        range: TimeRange,
        seq: u64,
    ) -> &mut PartitionHead {
        self.active.entry(key).or_insert_with(|| PartitionHead::new(Arc::clone(&part.table), range, seq))
    }

    /// Removes the points of the series inside the range. Frozen partitions keep theirs: the delete stands as
    /// a tombstone against them, as against blocks.
    pub fn delete(&mut self, table: &Table, series: &RoaringBitmap, range: TimeRange) {
        let types = table.column_types();
        for partition in self.active.values_mut() {
            if partition.table.id == table.id && partition.range.overlaps(range) {
                partition.delete(series, range, &types);
            }
        }
        self.active.retain(|_, partition| !partition.is_empty());
    }

    fn active_of(&self, table: u32) -> impl DoubleEndedIterator<Item = (&PartitionKey, &PartitionHead)> {
        let at = |start: Time| PartitionKey { table, start };
        self.active.range(at(Time::MIN)..=at(Time::MAX))
    }

    /// How many series [`Head::capture`] copies, one in two partitions twice: exactly if all are asked for, otherwise no more than these.
    pub fn series_in(&self, table: u32, series: &RoaringBitmap, ranges: &RangeSet) -> usize {
        let touched = self.active_of(table).filter(|(_, partition)| ranges.overlaps(partition.range));
        touched.map(|(_, partition)| partition.series_count().min(series.len() as usize)).sum()
    }

    /// Shares what the reader asks for: sealed chunks as they are, open ones as copies of the wanted columns.
    /// Layers come in the order in which they win, the last one last.
    pub fn capture(
        &self,
        table: u32,
        series: &RoaringBitmap,
        ranges: &RangeSet,
        columns: &[u32],
    ) -> Vec<Capture> {
        let frozen =
            self.frozen.iter().filter(|layer| layer.table.id == table && ranges.overlaps(layer.range));
        let frozen = frozen
            .map(|layer| Capture { frozen_at: Some(layer.seq_max), series: layer.capture(series, ranges) });
        let active = self.active_of(table).filter(|(_, partition)| ranges.overlaps(partition.range));
        let active = active.map(|(_, partition)| Capture {
            frozen_at: None,
            series: partition.capture(series, ranges, columns),
        });
        frozen.chain(active).filter(|capture| !capture.series.is_empty()).collect()
    }

    /// The same for whoever wants nothing but the last value of each column.
    pub fn capture_newest(
        &self,
        table: u32,
        series: &RoaringBitmap,
        ranges: &RangeSet,
        columns: &[u32],
    ) -> Vec<Capture> {
        let is_asked = |of: u32, range: TimeRange| of == table && ranges.overlaps(range);
        let frozen: Vec<&Arc<FrozenPartition>> =
            self.frozen.iter().filter(|layer| is_asked(layer.table.id, layer.range)).collect();
        let mut left = series.clone();
        let mut captures = Vec::new();
        for (_, partition) in self.active_of(table).rev() {
            if !is_asked(partition.table.id, partition.range) {
                continue;
            }
            // What is being flushed of the same time, or of a later one, may be newer than what came since.
            let is_newest = frozen.iter().all(|layer| layer.range.end <= partition.range.start);
            let series = match is_newest {
                true => partition.capture_newest(&mut left, ranges, columns),
                false => partition.capture(&left, ranges, columns),
            };
            captures.push(Capture { frozen_at: None, series });
        }
        let frozen = frozen.into_iter().rev();
        captures.extend(
            frozen.map(|layer| Capture {
                frozen_at: Some(layer.seq_max),
                series: layer.capture(&left, ranges),
            }),
        );
        captures.reverse();
        captures.retain(|capture| !capture.series.is_empty());
        captures
    }

    /// Where the table's last partition ends. None if there is none in memory.
    pub fn end_of(&self, table: u32) -> Option<Time> {
        let frozen = self.frozen.iter().filter(|layer| layer.table.id == table).map(|layer| layer.range.end);
        let active = self.active.values().filter(|partition| partition.table.id == table);
        active.map(|partition| partition.range.end).chain(frozen).max()
    }

    /// The numbers of all series in memory, by table.
    pub fn series(&self) -> HashMap<u32, RoaringBitmap> {
        let mut all: HashMap<u32, RoaringBitmap> = HashMap::new();
        for partition in self.active.values() {
            *all.entry(partition.table.id).or_default() |= partition.series();
        }
        for layer in &self.frozen {
            *all.entry(layer.table.id).or_default() |= layer.series();
        }
        all
    }

    pub fn active(&self) -> impl Iterator<Item = (&PartitionKey, &PartitionHead)> {
        self.active.iter()
    }

    pub fn is_active(&self, key: &PartitionKey) -> bool {
        self.active.contains_key(key)
    }

    /// Moves a partition out of the way of writers; `seq` is the last applied sequence. Later points of the same
    /// range begin a new layer.
    pub fn freeze(&mut self, key: PartitionKey, seq: u64) -> Option<Arc<FrozenPartition>> {
        let frozen = Arc::new(self.active.remove(&key)?.freeze(seq));
        self.frozen.push(Arc::clone(&frozen));
        Some(frozen)
    }

    /// Frozen partitions whose flush has not been committed, oldest first.
    pub fn frozen(&self) -> &[Arc<FrozenPartition>] {
        &self.frozen
    }

    /// Forgets partitions whose points are in committed blocks now.
    pub fn drop_frozen(&mut self, flushed: &[Arc<FrozenPartition>]) {
        self.frozen.retain(|layer| !flushed.iter().any(|gone| Arc::ptr_eq(gone, layer)));
    }

    /// The lowest sequence that only the log and this head hold.
    pub fn first_seq(&self) -> Option<u64> {
        let frozen = self.frozen.iter().map(|layer| layer.seq_min);
        self.active.values().map(|partition| partition.first_seq).chain(frozen).min()
    }

    /// The same of one table.
    pub fn first_seq_of(&self, table: u32) -> Option<u64> {
        let frozen = self.frozen.iter().filter(|layer| layer.table.id == table).map(|layer| layer.seq_min);
        let active = self.active.values().filter(|partition| partition.table.id == table);
        active.map(|partition| partition.first_seq).chain(frozen).min()
    }

    pub fn heap_bytes(&self) -> usize {
        let frozen = self.frozen.iter().map(|layer| layer.heap_bytes);
        self.active.values().map(PartitionHead::heap_bytes).chain(frozen).sum()
    }

    pub fn rows(&self) -> u64 {
        let frozen = self.frozen.iter().map(|layer| layer.rows);
        self.active.values().map(|partition| partition.rows).chain(frozen).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Registry;
    use query_lang::plan::TagFilter;
    use storage_format::point::{FieldType, TIME_MAX, TIME_MIN, TagSet};
    use storage_format::wal::Points;

    /// Batches of two partitions with equal and late times, as a log holds them.
    fn batches(table: &Arc<Table>) -> Vec<(u64, Batch)> {
        let batch = |seq: u64| {
            let row = |at: u32| {
                let series = (at * 7 + seq as u32 * 13) % 1_500;
                let time = i64::from(at % 5) * 1_000 - i64::from(at % 2) * PARTITION_WIDTH;
                PointRow { time: time + (seq as i64 % 3) * 2_000, series, layout: 0, values: at }
            };
            let values: Vec<u64> = (0..4_000).map(|at| at + seq * 10_000).collect();
            let points = Points {
                layouts: vec![vec![0]],
                rows: (0..4_000).map(row).collect(),
                values,
                ..Points::default()
            };
            let parts = vec![BatchPart::new(Arc::clone(table), points)];
            (seq, Batch { parts, pin: None })
        };
        (1..9).map(batch).collect()
    }

    #[test]
    fn applying_in_parallel_is_applying_one_after_the_other() {
        let registry = Registry::default();
        let table = registry.table_or_new(&registry.database_or_new("db"), "t");
        table.restore_column("v", FieldType::Int);
        let pin = registry.pin();
        for number in 0..1_500 {
            let tags = TagSet::new([("n", number.to_string())]);
            assert_eq!(table.series_or_new(&tags, usize::MAX, &pin).unwrap(), number);
        }
        let batches = batches(&table);
        let skip = |_: &BatchPart, key: PartitionKey, seq: u64| key.start < 0 && seq <= 2;
        let (mut one_by_one, mut together) = (Head::default(), Head::default());
        for (seq, batch) in &batches {
            let mut part = BatchPart::new(Arc::clone(&table), batch.parts[0].points.clone());
            part.points.rows.retain(|row| row.time >= 0 || *seq > 2);
            one_by_one.apply(&part, *seq);
        }
        together.apply_all(&batches, skip);
        assert_eq!(one_by_one.rows(), together.rows());
        assert_eq!(one_by_one.heap_bytes(), together.heap_bytes());
        assert_eq!(one_by_one.first_seq(), together.first_seq());
        let all = table.matching(&crate::series::CompiledFilter::new(&TagFilter::All).unwrap());
        let rows = |head: &Head| {
            let mut seen = Vec::new();
            for capture in head.capture(table.id, &all, &TimeRange::ALL.into(), &[0]) {
                for (series, view) in capture.series {
                    for rows in view.sources(&[0], TimeRange::ALL).unwrap() {
                        seen.push((series, format!("{rows:?}")));
                    }
                }
            }
            seen
        };
        assert_eq!(rows(&one_by_one), rows(&together));
        assert_eq!(together.series()[&table.id].len(), 1_500);
    }

    #[test]
    fn partitions_cover_all_of_time_without_overlap() {
        for time in [TIME_MIN, -1, 0, 1, PARTITION_WIDTH - 1, PARTITION_WIDTH, TIME_MAX] {
            let range = partition_of(time);
            assert!(range.contains(time), "{time} {range:?}");
            if range.end < TIME_MAX {
                assert_eq!(partition_of(range.end).start, range.end);
            }
        }
    }
}
