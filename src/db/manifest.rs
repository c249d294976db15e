//! Replacing the manifest: one commit, one truth.
//!
//! Invariant: what [`Live`] says about files and what the manifest says differ only between the rename and the end of
//! [`Core::commit`]; a reader sees the files of one of them, and both sets exist then.
//! Not here: the bytes (`storage_format::manifest`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use storage_format::manifest::{BlockEntry, FlushedEntry, Manifest, TableEntry, TombstoneEntry};
use storage_format::ranges::RangeSet;

use crate::blocks::{self, BlockFile};
use crate::compact::stands_against;
use crate::db::fold::Folded;
use crate::db::{Core, Live};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::head::{FrozenPartition, PartitionKey};
use crate::rollup::Layer;

pub const MANIFEST: &str = "manifest";

/// What a commit changes, beside what changes by itself (schema, dirty sets).
#[derive(Default)]
pub(super) struct Edit {
    pub added: Vec<BlockEntry>,
    /// Numbers of blocks that the added ones replace.
    pub removed: Vec<u64>,
    /// Sequences of deletes that the added blocks have applied.
    pub applied: Vec<u64>,
    /// Partitions whose points are in the added blocks.
    pub flushed: Vec<Arc<FrozenPartition>>,
    /// Rollups whose layer of states is in the added blocks.
    pub stored: Vec<StoredLayer>,
    /// Tables whose late points are in the added blocks.
    pub folded: Vec<Folded>,
}

#[derive(Clone)]
pub(super) struct StoredLayer {
    pub database: Arc<str>,
    pub rollup: String,
    pub layer: Arc<Layer>,
    pub computed: RangeSet,
}

impl Core {
    /// Makes the edit durable and then visible, and lets go of log and files that are no longer needed.
    pub(super) fn commit(&self, edit: Edit) -> Result<()> {
        self.check_writable()?;
        let mut commits = self.commits.lock();
        let first_in_log = self.wal.lock().first_seq();
        let manifest =
            self.live.read().manifest(self, &edit, commits.number + 1, commits.next_block, first_in_log);
        write_manifest(&*self.disk, &manifest).map_err(|error| self.after_failed_commit(error))?;
        commits.number += 1;
        let low = {
            let mut live = self.live.write();
            let low = live.change(self, edit, &manifest, first_in_log);
            self.head_bytes.store(live.head_bytes(), Ordering::Relaxed);
            low
        };
        // From here on failures cost space, not truth: the next commit or the next start tries again.
        if let Err(error) = self.wal.lock().truncate_below(low) {
            tracing::warn!(%error, "an old log segment could not be removed; it will be tried again");
        }
        Ok(())
    }

    /// A number for a new block, never used before, not even by a block that a crash left unnamed.
    pub(super) fn next_block(&self) -> u64 {
        self.next_blocks(1)
    }

    /// The first of some numbers for new blocks.
    pub(super) fn next_blocks(&self, count: usize) -> u64 {
        let mut commits = self.commits.lock();
        commits.next_block += count as u64;
        commits.next_block - count as u64
    }

    /// Removes blocks that no manifest has ever named.
    pub(super) fn remove_files(&self, blocks: &[BlockEntry]) {
        blocks.iter().for_each(|entry| blocks::remove(&*self.disk, entry));
    }
}

/// Replaces the manifest, durably.
pub fn write_manifest(disk: &dyn Disk, manifest: &Manifest) -> Result<()> {
    let replaced = disk.replace(MANIFEST, &manifest.encode());
    replaced.map_err(|source| Error::io("write", disk.describe(MANIFEST), source))
}

impl Live {
    /// The manifest as it will be with the edit.
    fn manifest(
        &self,
        core: &Core,
        edit: &Edit,
        commit: u64,
        next_block: u64,
        first_in_log: u64,
    ) -> Manifest {
        let mut blocks = self.blocks.entries();
        blocks.retain(|entry| !edit.removed.contains(&entry.id));
        blocks.extend(edit.added.iter().cloned());
        let mut flushed = self.flushed.clone();
        for layer in &edit.flushed {
            flushed.insert(PartitionKey { table: layer.table.id, start: layer.range.start }, layer.seq_max);
        }
        // Replay meets no sequence below the first in the log.
        flushed.retain(|_, seq| *seq >= first_in_log);
        let tables = core.registry.tables();
        let flushed = flushed.iter().map(|(key, seq)| {
            let table = &tables[key.table as usize];
            FlushedEntry {
                database: table.database.to_string(),
                table: table.name.to_string(),
                partition: key.start,
                seq: *seq,
            }
        });
        let kept = || blocks.iter().filter(|entry| !edit.added.contains(entry));
        let standing = self.tombstones.iter().filter(|tombstone| {
            // A frozen partition that this edit flushes hands its tombstones on to its block.
            let against_memory = self.head.frozen().iter().any(|layer| {
                let same_table =
                    layer.table.name == tombstone.table && layer.table.database == tombstone.database;
                same_table && tombstone.seq > layer.seq_max
            });
            against_memory
                || kept().any(|entry| stands_against(tombstone, entry))
                || !edit.applied.contains(&tombstone.seq)
                    && edit.added.iter().any(|entry| stands_against(tombstone, entry))
        });
        let standing: Vec<TombstoneEntry> = standing
            .map(|tombstone| TombstoneEntry {
                database: tombstone.database.to_string(),
                statement: tombstone.statement.clone(),
                seq: tombstone.seq,
            })
            .collect();
        let rollups = self.rollups.iter().map(|rollup| {
            let of_rollup = |stored: &&StoredLayer| {
                stored.database == rollup.database && stored.rollup == rollup.info.name
            };
            let storing = edit.stored.iter().find(of_rollup);
            let folded = edit.folded.iter().find_map(|folded| folded.of_rollup(rollup));
            rollup.entry(storing.map(|stored| (&stored.layer, &stored.computed)), folded)
        });
        let aside = self.rollups.set_aside.iter().map(|aside| aside.entry.clone());
        Manifest {
            commit,
            next_block,
            seq: self.seq,
            databases: core.registry.databases(),
            database_keeps: core.registry.database_keeps(),
            tables: tables
                .iter()
                .filter(|table| !table.columns().is_empty())
                .map(|table| {
                    let of_table = |folded: &&Folded| folded.table.id == table.id;
                    let folded = edit.folded.iter().find(of_table).map(|folded| folded.seq);
                    table_entry(table, folded.unwrap_or_else(|| self.late.folded_seq(table.id)))
                })
                .collect(),
            blocks,
            flushed: flushed.collect(),
            tombstones: standing,
            rollups: rollups.chain(aside).collect(),
            log: core.log.clone(),
            epoch: core.epoch.as_ref().map_or(0, |(epoch, _)| *epoch),
            writer: core.epoch.as_ref().and_then(|(_, writer)| writer.clone()),
        }
    }

    /// Makes the edit visible. Returns the sequence below which the log is no longer needed.
    fn change(&mut self, core: &Core, edit: Edit, manifest: &Manifest, first_in_log: u64) -> u64 {
        self.blocks.remove(&edit.removed);
        for entry in edit.added {
            self.blocks.insert(Arc::new(BlockFile::new(&core.store, entry)));
        }
        for layer in &edit.flushed {
            self.flushed
                .insert(PartitionKey { table: layer.table.id, start: layer.range.start }, layer.seq_max);
        }
        self.head.drop_frozen(&edit.flushed);
        for stored in &edit.stored {
            if let Some(rollup) = self.rollups.get_mut(&stored.database, &stored.rollup) {
                rollup.stored(&stored.layer, &stored.computed);
            }
        }
        for folded in &edit.folded {
            for rollup in self.rollups.iter_mut() {
                if let Some(buckets) = folded.of_rollup(rollup) {
                    rollup.folded(buckets);
                }
            }
            self.late.folded(folded.table.id, &folded.frozen, folded.seq);
        }
        let standing: BTreeSet<u64> = manifest.tombstones.iter().map(|tombstone| tombstone.seq).collect();
        self.tombstones.retain(|tombstone| tombstone.seq > manifest.seq || standing.contains(&tombstone.seq));
        self.flushed.retain(|_, seq| *seq >= first_in_log);
        self.first_seq().unwrap_or(u64::MAX).min(manifest.seq + 1)
    }
}

fn table_entry(table: &crate::series::Table, folded: u64) -> TableEntry {
    let columns = table.columns();
    TableEntry {
        database: table.database.to_string(),
        name: table.name.to_string(),
        fields: columns
            .iter()
            .map(|column| (column.name.to_string(), column.field_type.name().to_string()))
            .collect(),
        tags: table.tags(),
        keep: table.keep(),
        merges_late: table.merges_late(),
        folded,
    }
}
