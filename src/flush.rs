//! From memory to blocks: frozen partitions of points, or the newer states of a rollup.
//!
//! Invariant: a block holds each row once, in series order; what it holds stays readable in memory until the manifest
//! names the block.
//! Not here: choosing what to flush, and the commit (`db`).

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use storage_format::block::{BlockField, BlockSchema, Effort};
use storage_format::manifest::{BlockEntry, Range};
use storage_format::point::{NANOS_PER_SECOND, TagSet, Time, TimeRange, floor_time};
use storage_format::state::{StateRun, data_type};

use crate::blocks::{NewBlock, TableKey, file_name, write_block};
use crate::disk::Disk;
use crate::error::Result;
use crate::guard::Guard;
use crate::head::FrozenPartition;
use crate::scan::Captured;
use crate::scan::Scan;
use crate::series::Table;

/// What the points of a past day become: DESIGN §1.
pub const DAY: i64 = 86_400 * NANOS_PER_SECOND;

/// Widths of windows above a partition. Each divides the next, and all are counted from 1970.
pub const WIDTHS: [i64; 4] = [DAY, 30 * DAY, 360 * DAY, 3_600 * DAY];

/// The window of this width in which a partition begins.
pub fn window_of(width: i64, partition: TimeRange) -> TimeRange {
    let start = floor_time(partition.start, width, 0);
    TimeRange::new(start, start.saturating_add(width))
}

/// What a new block is called before its rows are known.
pub fn new_entry(id: u64, key: &TableKey, partition: TimeRange, seq: (u64, u64)) -> BlockEntry {
    BlockEntry {
        id,
        file: file_name(&key.database, &key.table, partition, id),
        database: key.database.to_string(),
        table: key.table.to_string(),
        kind: key.kind,
        partition: partition.into(),
        time: Range(0, 0),
        seq_min: seq.0,
        seq_max: seq.1,
        rows: 0,
        series: 0,
        bytes: 0,
    }
}

/// Small partitions of one table, which share a block.
pub type Group = Vec<Arc<FrozenPartition>>;

/// A partition below this takes less as rows of another block than as a file of its own.
pub const SMALL_PARTITION_BYTES: usize = 1 << 20;

/// A group above this would be read by whoever asks for any of its times.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// Groups of old partitions of one table that a flush makes at the most, if longer windows can make them fewer.
const GROUPS_MAX: usize = 4;

/// Which partitions become a block together. Small ones of today share one; small ones of older days, which late points
/// have made, share longer windows, so that a trickle over years is a few files and not thousands.
pub fn groups(frozen: &[Arc<FrozenPartition>], now: Time, width_max: impl Fn(&Table) -> i64) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    // Those of another freeze, which a failed flush left, have another sequence.
    let mut small: BTreeMap<(u32, u64), Group> = BTreeMap::new();
    for partition in frozen {
        if partition.heap_bytes < SMALL_PARTITION_BYTES {
            small.entry((partition.table.id, partition.seq_max)).or_default().push(Arc::clone(partition));
        } else {
            groups.push(vec![Arc::clone(partition)]);
        }
    }
    let today = floor_time(now, DAY, 0);
    for of_table in small.into_values() {
        let width_max = width_max(&of_table[0].table).max(DAY);
        let (recent, old): (Group, Group) =
            of_table.into_iter().partition(|partition| partition.range.start >= today);
        groups.extend(by_window(&recent, DAY));
        let widths = WIDTHS.into_iter().filter(|width| *width <= width_max);
        let mut ways = widths.map(|width| by_window(&old, width)).peekable();
        while let Some(way) = ways.next() {
            if way.len() <= GROUPS_MAX || ways.peek().is_none() {
                groups.extend(way);
                break;
            }
        }
    }
    groups
}

fn by_window(partitions: &[Arc<FrozenPartition>], width: i64) -> Vec<Group> {
    let mut sorted: Vec<_> = partitions.to_vec();
    sorted.sort_by_key(|partition| partition.range.start);
    let mut groups: Vec<Group> = Vec::new();
    let mut bytes = 0;
    for partition in sorted {
        let shares = |group: &Group| window_of(width, group[0].range).covers(partition.range);
        match groups.last_mut() {
            Some(group) if shares(group) && bytes + partition.heap_bytes <= GROUP_BYTES_MAX => {
                bytes += partition.heap_bytes;
                group.push(partition);
            }
            _ => {
                bytes = partition.heap_bytes;
                groups.push(vec![partition]);
            }
        }
    }
    groups
}

/// The narrowest window that holds a group.
fn window_of_group(group: &Group) -> TimeRange {
    let [first, .., last] = group.as_slice() else { return group[0].range };
    let windows = WIDTHS.into_iter().map(|width| window_of(width, first.range));
    let covering = windows.filter(|window| window.covers(last.range)).min_by_key(|window| window.end);
    covering.unwrap_or(TimeRange::new(first.range.start, last.range.end))
}

/// Writes the points of one group. None if there are none left.
pub fn write_points(
    disk: &Arc<dyn Disk>,
    group: &Group,
    id: u64,
    guard: &Guard,
) -> Result<Option<BlockEntry>> {
    let table = &group[0].table;
    let columns = table.columns();
    let scan = Captured::frozen(group, &columns).open()?;
    let fields = columns
        .iter()
        .map(|column| BlockField { name: column.name.to_string(), data_type: data_type(column.field_type) });
    let key = TableKey::points(table);
    let schema = BlockSchema::of_series(key.series_order(), scan.series_tags(), fields.collect());
    let seq_min = group.iter().map(|partition| partition.seq_min).min().unwrap_or(0);
    let entry = new_entry(id, &key, window_of_group(group), (seq_min, group[0].seq_max));
    write_block(disk, entry, schema, Effort::Flush, block_memory(guard), |block| {
        push_scan(block, &scan, guard)
    })
}

/// Writes a rollup's states, a block per partition. `fields` are the state columns.
pub fn write_states(
    disk: &Arc<dyn Disk>,
    key: &TableKey,
    fields: &[arrow::datatypes::Field],
    width: i64,
    runs: &HashMap<TagSet, Arc<StateRun>>,
    seq: u64,
    guard: &Guard,
    mut next_id: impl FnMut() -> u64,
) -> Result<Vec<BlockEntry>> {
    let mut groups: Vec<(&TagSet, &StateRun)> = runs.iter().map(|(tags, run)| (tags, &**run)).collect();
    groups.sort_by(|a, b| key.series_order().cmp(a.0, b.0));
    let starts = groups.iter().flat_map(|(_, run)| run.starts.iter());
    let mut partitions: Vec<i64> = starts.map(|start| floor_time(*start, width, 0)).collect();
    partitions.sort_unstable();
    partitions.dedup();
    let mut entries = Vec::new();
    for start in partitions {
        let partition = TimeRange::new(start, start.saturating_add(width));
        let inside: Vec<(&TagSet, StateRun)> = groups
            .iter()
            .map(|(tags, run)| (*tags, run.slice(partition)))
            .filter(|(_, run)| !run.is_empty())
            .collect();
        let field = |field: &arrow::datatypes::Field| BlockField {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
        };
        let series = inside.iter().map(|(tags, _)| *tags);
        let schema = BlockSchema::of_series(key.series_order(), series, fields.iter().map(field).collect());
        let entry = new_entry(next_id(), key, partition, (seq, seq));
        let fill = |block: &mut NewBlock| {
            inside.iter().try_for_each(|(tags, run)| {
                let columns: Vec<_> = run.to_arrow().into_iter().map(Some).collect();
                block.push_series(tags, &run.starts, &columns)
            })
        };
        entries.extend(write_block(disk, entry, schema, Effort::Flush, block_memory(guard), fill)?);
    }
    Ok(entries)
}

/// The part of the memory of a flush or a compaction in which encoded rows wait; the rest is for decoded ones.
pub fn block_memory(guard: &Guard) -> usize {
    guard.memory_max() / 2
}

/// All rows of a scan, series after series.
pub fn push_scan(block: &mut NewBlock, scan: &Scan, guard: &Guard) -> Result<()> {
    scan.for_each(guard, |tags, pieces| {
        pieces.iter().try_for_each(|rows| block.push_series(tags, &rows.times, &rows.columns))
    })
}
