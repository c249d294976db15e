//! From memory to blocks: a frozen partition of points, or the newer states of a rollup.
//!
//! Invariant: a block holds each row once, in series order; what it holds stays readable in memory until the manifest
//! names the block.
//! Not here: choosing what to flush, and the commit (`db`).

use std::sync::Arc;

use hashbrown::HashMap;
use storage_format::block::{BlockField, BlockKind, BlockSchema, ZSTD_LEVEL_FLUSH};
use storage_format::manifest::{BlockEntry, Range};
use storage_format::point::{TagSet, TimeRange, floor_time};
use storage_format::state::{StateRun, data_type};

use crate::blocks::{NewBlock, TableKey, file_name, write_block};
use crate::disk::Disk;
use crate::error::Result;
use crate::head::FrozenPartition;
use crate::scan::Captured;
use crate::scan::Scan;

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

/// Writes a partition's points. None if there are none left.
pub fn write_points(
    disk: &Arc<dyn Disk>,
    frozen: &Arc<FrozenPartition>,
    id: u64,
) -> Result<Option<BlockEntry>> {
    let table = &frozen.table;
    let columns = table.columns();
    let scan = Captured::frozen(frozen, &columns).open()?;
    let fields = columns
        .iter()
        .map(|column| BlockField { name: column.name.to_string(), data_type: data_type(column.field_type) });
    let schema = BlockSchema { tags: tags_of(scan.series_tags()), fields: fields.collect() };
    let key = TableKey {
        kind: BlockKind::Points,
        database: Arc::clone(&table.database),
        table: Arc::clone(&table.name),
    };
    let entry = new_entry(id, &key, frozen.range, (frozen.seq_min, frozen.seq_max));
    write_block(disk, entry, schema, ZSTD_LEVEL_FLUSH, |block| push_scan(block, &scan))
}

/// Writes a rollup's states, a block per partition. `fields` are the state columns.
pub fn write_states(
    disk: &Arc<dyn Disk>,
    key: &TableKey,
    fields: &[arrow::datatypes::Field],
    width: i64,
    runs: &HashMap<TagSet, Arc<StateRun>>,
    seq: u64,
    mut next_id: impl FnMut() -> u64,
) -> Result<Vec<BlockEntry>> {
    let mut groups: Vec<(&TagSet, &StateRun)> = runs.iter().map(|(tags, run)| (tags, &**run)).collect();
    groups.sort_by(|a, b| a.0.cmp(b.0));
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
        let schema = BlockSchema {
            tags: tags_of(inside.iter().map(|(tags, _)| *tags)),
            fields: fields.iter().map(field).collect(),
        };
        let entry = new_entry(next_id(), key, partition, (seq, seq));
        let fill = |block: &mut NewBlock| {
            inside.iter().try_for_each(|(tags, run)| {
                let columns: Vec<_> = run.to_arrow().into_iter().map(Some).collect();
                block.push_series(tags, &run.starts, &columns)
            })
        };
        entries.extend(write_block(disk, entry, schema, ZSTD_LEVEL_FLUSH, fill)?);
    }
    Ok(entries)
}

/// All rows of a scan, series after series.
pub fn push_scan(block: &mut NewBlock, scan: &Scan) -> Result<()> {
    scan.for_each(|tags, pieces| {
        pieces.iter().try_for_each(|rows| block.push_series(tags, &rows.times, &rows.columns))
    })
}

/// The sorted names of all tags of these series.
pub fn tags_of<'a>(series: impl Iterator<Item = &'a TagSet>) -> Vec<String> {
    let mut names: std::collections::BTreeSet<String> = std::collections::BTreeSet::new();
    for tags in series {
        for (tag, _) in tags.iter() {
            if !names.contains(tag) {
                names.insert(tag.to_string());
            }
        }
    }
    names.into_iter().collect()
}
