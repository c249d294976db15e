//! Blocks to fewer, larger blocks: a partition's files become one, a past day's files become one.
//!
//! Invariant: a merge takes *all* blocks of its window and table, so the result stands in the place of all their sequences;
//! deletes that stand against them are applied. The old files go after the manifest has named the new one.
//! Memory is bounded by the tasks that a scan decodes ahead, and by the largest series of a window.
//! Not here: the commit (`db`), when to look for work (`jobs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use storage_format::block::{BlockField, BlockKind, BlockSchema, ZSTD_LEVEL_COMPACTION};
use storage_format::manifest::BlockEntry;
use storage_format::point::{NANOS_PER_SECOND, Time, TimeRange, floor_time};

use crate::blocks::{BlockFile, BlockList, TableKey, write_block};
use crate::disk::Disk;
use crate::error::Result;
use crate::flush::{new_entry, push_scan, tags_of};
use crate::rows::Merge;
use crate::scan::Captured;
use crate::scan::Tombstone;

/// What the points of a past day become: DESIGN §1.
const DAY: i64 = 86_400 * NANOS_PER_SECOND;

/// Files of one partition, or late files of a day already merged, wait for this many: each merge rewrites all of them.
const FILES_WAIT_MAX: usize = 4;

/// Blocks to be merged into one.
pub struct Merging {
    pub key: TableKey,
    pub window: TimeRange,
    pub files: Vec<Arc<BlockFile>>,
}

/// The merges that are due. A day is over when it ended before `day_ended_before`; with `force` every window with
/// more than one file, or with a delete to apply, is due.
pub fn due(
    blocks: &BlockList,
    tombstones: &[Arc<Tombstone>],
    day_ended_before: Time,
    force: bool,
) -> Vec<Merging> {
    let mut merges = Vec::new();
    for (key, files) in blocks.tables() {
        let mut windows: BTreeMap<(Time, Time), Vec<Arc<BlockFile>>> = BTreeMap::new();
        for file in files {
            let window = window_of(key.kind, file.entry.partition.into());
            windows.entry((window.start, window.end)).or_default().push(Arc::clone(file));
        }
        for ((start, end), files) in windows {
            let window = TimeRange::new(start, end);
            let over = end <= day_ended_before;
            let merged_before = files.iter().any(|file| TimeRange::from(file.entry.partition) == window);
            let deleted = tombstones
                .iter()
                .any(|tombstone| files.iter().any(|file| stands_against(tombstone, &file.entry)));
            let is_due = match files.len() {
                0 => false,
                1 => deleted && force,
                some if force || some >= FILES_WAIT_MAX && over => true,
                _ => over && !merged_before,
            };
            if is_due {
                merges.push(Merging { key: key.clone(), window, files });
            } else {
                merges.extend(crowded_partitions(key, files));
            }
        }
    }
    merges
}

/// Whether a delete came after the block and touches its times.
pub fn stands_against(tombstone: &Tombstone, entry: &BlockEntry) -> bool {
    entry.kind == BlockKind::Points
        && tombstone.seq > entry.seq_max
        && *tombstone.database == entry.database
        && *tombstone.table == entry.table
        && tombstone.range.overlaps(entry.time.into())
}

/// Partitions of a window that is not over, with too many files each.
fn crowded_partitions(key: &TableKey, files: Vec<Arc<BlockFile>>) -> Vec<Merging> {
    let mut partitions: BTreeMap<(Time, Time), Vec<Arc<BlockFile>>> = BTreeMap::new();
    for file in files {
        let partition = file.entry.partition;
        partitions.entry((partition.0, partition.1)).or_default().push(file);
    }
    let crowded = partitions.into_iter().filter(|(_, files)| files.len() >= FILES_WAIT_MAX);
    crowded
        .map(|((start, end), files)| Merging { key: key.clone(), window: TimeRange::new(start, end), files })
        .collect()
}

fn window_of(kind: BlockKind, partition: TimeRange) -> TimeRange {
    match kind {
        BlockKind::Rollup => partition,
        BlockKind::Points => {
            let start = floor_time(partition.start, DAY, 0);
            TimeRange::new(start, start.saturating_add(DAY).max(partition.end))
        }
    }
}

/// A merge that was written.
pub struct Merged {
    /// None if deletes left nothing.
    pub entry: Option<BlockEntry>,
    /// Sequences of the deletes that were applied.
    pub applied: Vec<u64>,
}

/// Writes the merged block. With `settled` no older points wait in memory: then the block may stand for the sequences of
/// the deletes that it has applied, too, and these are done with it. Else it must stay below what has yet to be flushed.
pub fn merge(
    disk: &Arc<dyn Disk>,
    merging: &Merging,
    tombstones: &[Arc<Tombstone>],
    settled: bool,
    id: u64,
) -> Result<Merged> {
    let mut fields: Vec<BlockField> = Vec::new();
    for file in &merging.files {
        for field in &file.block()?.schema().fields {
            if !fields.iter().any(|known| known.name == field.name) {
                fields.push(field.clone());
            }
        }
    }
    let applied: Vec<Arc<Tombstone>> = tombstones
        .iter()
        .filter(|tombstone| merging.files.iter().any(|file| stands_against(tombstone, &file.entry)))
        .cloned()
        .collect();
    let how = match merging.key.kind {
        BlockKind::Points => Merge::Field,
        BlockKind::Rollup => Merge::Row,
    };
    let columns = fields.iter().map(|field| field.name.clone()).collect();
    let scan = Captured::blocks(&merging.files, &applied, columns, how).open()?;
    let schema = BlockSchema { tags: tags_of(scan.series_tags()), fields };
    let seq_min = merging.files.iter().map(|file| file.entry.seq_min).min().unwrap_or(0);
    let deletes = applied.iter().filter(|_| settled).map(|tombstone| tombstone.seq);
    let seq_max = merging.files.iter().map(|file| file.entry.seq_max).chain(deletes).max().unwrap_or(0);
    let entry = new_entry(id, &merging.key, merging.window, (seq_min, seq_max));
    let entry = write_block(disk, entry, schema, ZSTD_LEVEL_COMPACTION, |block| push_scan(block, &scan))?;
    let applied = applied.iter().map(|tombstone| tombstone.seq).collect();
    Ok(Merged { entry, applied })
}
