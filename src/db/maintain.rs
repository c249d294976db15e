//! Background work, one step at a time: flush, compaction, refresh.
//!
//! Invariant: frozen partitions are flushed in the order in which they were frozen, and nothing newer is frozen while one
//! is left over, so that the sequences of a partition's blocks never cross. A step that fails leaves everything as it was
//! and is taken again.
//! Not here: when (`jobs`).

use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use storage_format::manifest::BlockEntry;
use storage_format::point::TimeRange;

use crate::blocks::TableKey;
use crate::compact;
use crate::compact::Merging;
use crate::db::manifest::{Edit, StoredLayer};
use crate::db::retention::Expired;
use crate::db::{Core, Db, Live, saturating_sub_duration};
use crate::error::{Error, Kind, Result};
use crate::flush;
use crate::guard::Guard;
use crate::head::{FrozenPartition, PartitionKey};
use crate::rollup::{Due, Refresh, Rollup, Work};
use crate::scan::Tombstone;

/// When a partition was first seen in the head: it has to stand a while before it is flushed.
#[derive(Default)]
pub(super) struct Seen {
    partitions: HashMap<PartitionKey, Duration>,
    /// The same of late points, by table: since they came, or since it was last tried to fold them.
    pub late: HashMap<u32, Duration>,
}

/// What has to stand a while before blocks are rewritten or removed for it.
#[derive(Default)]
pub(super) struct Standing {
    /// When a delete was first seen, by its sequence.
    deletes: HashMap<u64, Duration>,
    pub expired: Expired,
}

/// Merges that a pass has tried.
#[derive(Default)]
struct Visited {
    merges: HashSet<Vec<u64>>,
    /// Single blocks that were rewritten for deletes, by what they cover.
    rewrites: HashSet<(TableKey, TimeRange)>,
}

impl Visited {
    fn is_new(&mut self, merging: &Merging) -> bool {
        match merging.files.as_slice() {
            [one] => self.rewrites.insert((merging.key.clone(), one.entry.partition.into())),
            files => self.merges.insert(files.iter().map(|file| file.entry.id).collect()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushScope {
    /// What time, memory and log ask for.
    Due,
    /// Everything in memory.
    All,
    /// States of rollups, and no points.
    States,
}

/// Which refresh steps to take.
#[derive(Clone, Debug, Default)]
pub struct RefreshScope {
    /// Only this rollup.
    pub rollup: Option<(String, String)>,
    pub within: Option<TimeRange>,
}

/// What one step of each rollup has done.
#[derive(Clone, Copy, Debug)]
pub struct Refreshed {
    /// That are over, and computed now.
    pub buckets: u64,
    /// There was nothing to do.
    pub is_done: bool,
}

/// States of a rollup that may wait in memory; more go to blocks.
const STATES_IN_MEMORY_MAX: usize = 2_000_000;

impl Db {
    /// Writes what is due from memory to blocks. Returns how many blocks that made.
    pub fn flush(&self, scope: FlushScope) -> Result<usize> {
        let blocks = self.flush_memory(scope)?;
        match scope {
            FlushScope::All => Ok(blocks + self.fold(scope)?),
            // Late points that are due have a job of their own: where they cannot be merged, other points go on.
            FlushScope::Due | FlushScope::States => Ok(blocks),
        }
    }

    /// The same of everything but late points.
    pub(super) fn flush_memory(&self, scope: FlushScope) -> Result<usize> {
        let core = &*self.core;
        core.check_writable()?;
        if scope == FlushScope::Due {
            core.catch_up();
        }
        let mut seen = core.flushing.lock();
        let mut frozen = Vec::new();
        if scope != FlushScope::States {
            let keys = core.due_partitions(&mut seen, scope);
            frozen = core.live.read().head.frozen().to_vec();
            if frozen.is_empty() {
                let mut live = core.live.write();
                let seq = live.seq;
                frozen = keys.into_iter().filter_map(|key| live.head.freeze(key, seq)).collect();
            }
        }
        let stored = core.freeze_states(scope != FlushScope::Due || !frozen.is_empty());
        if frozen.is_empty() && stored.is_empty() {
            return Ok(0);
        }
        let mut added = Vec::new();
        let outcome = match core.background.install(|| core.write_all(&frozen, &stored, &mut added)) {
            Ok(()) => {
                let blocks = added.len();
                metrics::counter!(crate::metrics::FLUSHES).increment(frozen.len() as u64);
                // After a failed commit the manifest on disk may name the new files: they stay.
                let edit = Edit { added, flushed: frozen, stored: stored.clone(), ..Edit::default() };
                core.commit(edit).map(|()| blocks).inspect(|_| core.forget_series())
            }
            Err(error) => {
                core.remove_files(&added);
                Err(error)
            }
        };
        if outcome.is_err() {
            let mut live = core.live.write();
            for layer in &stored {
                if let Some(rollup) = live.rollups.get_mut(&layer.database, &layer.rollup) {
                    rollup.thaw();
                }
            }
        }
        outcome
    }

    /// Merges blocks where that is due; with `force`, wherever there is more than one. Returns how many merges it took. One
    /// that fails keeps no other from being done; flushes come between two of them.
    pub fn compact(&self, force: bool) -> Result<usize> {
        self.core.check_writable()?;
        let mut visited = Visited::default();
        let (mut merges, mut failed) = (0, None);
        while let Some(outcome) = self.core.compact_next(force, &mut visited) {
            match outcome {
                Ok(()) => merges += 1,
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(merges),
        }
    }

    /// Takes one step of every rollup in the scope that has something to do.
    pub fn refresh_step(&self, scope: &RefreshScope) -> Result<Refreshed> {
        let core = &*self.core;
        core.check_writable()?;
        let names: Vec<(String, String)> = match &scope.rollup {
            Some((database, rollup)) => {
                let live = core.live.read();
                if live.rollups.get(database, rollup).is_none() {
                    return Err(Error::rejected(
                        Kind::NotFound,
                        "unknown_rollup",
                        format!(
                            "there is no rollup {rollup} in database {database}; `show rollups` lists them"
                        ),
                    ));
                }
                let successor = live.rollups.successor_of(database, rollup);
                let names = std::iter::once(rollup).chain(successor.map(|successor| &successor.info.name));
                names.map(|name| (database.clone(), name.clone())).collect()
            }
            None => {
                let live = core.live.read();
                // Finer ones first, so that coarser ones find them done.
                let mut rollups: Vec<_> = live
                    .rollups
                    .iter()
                    .filter(|rollup| !rollup.paused)
                    .map(|rollup| {
                        (rollup.info.window.width(), rollup.database.to_string(), rollup.info.name.clone())
                    })
                    .collect();
                rollups.sort();
                rollups.into_iter().map(|(_, database, name)| (database, name)).collect()
            }
        };
        let mut all = Refreshed::default();
        let (mut failed, mut uncommitted) = (None, None);
        for (database, name) in names {
            core.grow(&database, &name)?;
            let within = scope.within.unwrap_or(TimeRange::ALL);
            match core.refresh_one(&database, &name, within) {
                Ok(one) => {
                    all.buckets += one.buckets;
                    all.is_done &= one.is_done;
                }
                // The others go on; it is said once they have nothing left to do, and `show rollups` says it at once.
                Err(error) => failed = Some(error),
            }
            // What is built beside another one takes its place once nothing is missing.
            uncommitted = core.succeed(&database, &name).err().or(uncommitted);
        }
        match (uncommitted, failed) {
            // The disk fails: no step after this one gets further.
            (Some(error), _) => Err(error),
            (None, Some(error)) if all.is_done => Err(error),
            _ => Ok(all),
        }
    }

    /// Takes steps until nothing in the scope is due. Returns how many buckets were computed.
    pub fn refresh(&self, scope: &RefreshScope) -> Result<u64> {
        self.refresh_while(scope, || Ok(true))
    }

    /// The same for as long as somebody waits for it.
    pub fn refresh_while(
        &self,
        scope: &RefreshScope,
        mut go_on: impl FnMut() -> Result<bool>,
    ) -> Result<u64> {
        let mut buckets = 0;
        while go_on()? {
            let step = self.refresh_step(scope)?;
            buckets += step.buckets;
            if step.is_done {
                break;
            }
        }
        Ok(buckets)
    }
}

impl Default for Refreshed {
    fn default() -> Refreshed {
        Refreshed { buckets: 0, is_done: true }
    }
}

impl Standing {
    /// The deletes that have stood long enough to rewrite blocks for.
    fn deletes_due(&mut self, tombstones: &[Arc<Tombstone>], core: &Core) -> HashSet<u64> {
        let elapsed = core.clock.elapsed();
        let standing: HashSet<u64> = tombstones.iter().map(|tombstone| tombstone.seq).collect();
        self.deletes.retain(|seq, _| standing.contains(seq));
        for seq in standing {
            self.deletes.entry(seq).or_insert(elapsed);
        }
        let after = core.config.server.delete_after;
        let due = self.deletes.iter().filter(|(_, since)| elapsed.saturating_sub(**since) >= after);
        due.map(|(seq, _)| *seq).collect()
    }
}

impl Core {
    /// The next merge that this pass has not visited. None if there is none.
    fn compact_next(&self, force: bool, visited: &mut Visited) -> Option<Result<()>> {
        let mut standing = self.compaction.lock();
        let deletes_due = standing.deletes_due(&self.live.read().tombstones, self);
        let merging = {
            let live = self.live.read();
            let merges = compact::due(&live.blocks, &self.policy(&live, force, &deletes_due));
            merges.into_iter().find(|merging| visited.is_new(merging))?
        };
        Some(self.merge(&merging))
    }

    /// The lock of compaction is held.
    pub(super) fn merge(&self, merging: &Merging) -> Result<()> {
        // Before the tombstones are looked at: whatever is flushed after that has a greater number.
        let first_id = self.next_blocks(merging.windows.len());
        let deletes = {
            let live = self.live.read();
            let settled = live.head.frozen().is_empty();
            compact::Deletes::against(
                merging,
                live.blocks.of(&merging.key),
                &live.tombstones,
                settled,
                first_id,
            )
        };
        let bytes: u64 = merging.files.iter().map(|file| file.entry.bytes).sum();
        metrics::gauge!(crate::metrics::COMPACTION_RUNNING_BYTES).set(bytes as f64);
        let mut added = Vec::new();
        let guard = self.compaction_guard();
        let merged = self
            .background
            .install(|| compact::merge(&self.disk, merging, &deletes, first_id, &guard, &mut added))
            .inspect_err(|_| self.remove_files(&added));
        metrics::gauge!(crate::metrics::COMPACTION_RUNNING_BYTES).set(0.0);
        merged?;
        self.commit(Edit {
            added,
            removed: merging.files.iter().map(|file| file.entry.id).collect(),
            applied: deletes.sequences(),
            ..Edit::default()
        })?;
        merging.files.iter().for_each(|file| file.retire());
        metrics::counter!(crate::metrics::COMPACTIONS).increment(1);
        metrics::counter!(crate::metrics::COMPACTION_BYTES).increment(bytes);
        Ok(())
    }

    fn policy<'a>(
        &'a self,
        live: &'a Live,
        force: bool,
        deletes_due: &'a HashSet<u64>,
    ) -> compact::Policy<'a> {
        compact::Policy {
            over_before: saturating_sub_duration(self.clock.now(), self.config.server.compact_after),
            block_bytes_max: self.config.limits.block_bytes_max as u64,
            force,
            tombstones: &live.tombstones,
            deletes_due,
            width_max: Box::new(move |key| live.width_max(&self.registry, key)),
        }
    }

    /// Blocks that wait to be merged.
    pub(super) fn blocks_behind(&self, live: &Live) -> usize {
        compact::files_behind(&live.blocks, &self.policy(live, false, &HashSet::new()))
    }

    /// Where merges have fallen behind, whoever wants to flush helps first, and writers feel it. A merge that fails holds
    /// nobody up.
    fn catch_up(&self) {
        let mut visited = Visited::default();
        while self.blocks_behind(&self.live.read()) > self.config.limits.blocks_behind_max {
            match self.compact_next(false, &mut visited) {
                Some(Ok(())) => {}
                Some(Err(_)) | None => return,
            }
        }
    }

    /// While the log is over its limit, the sequence up to which memory has to go for its oldest segment to go.
    pub(super) fn oldest_in_full_log(&self) -> Option<u64> {
        let wal = self.wal.lock();
        let full = wal.bytes() > self.config.limits.wal_bytes_max as u64;
        wal.oldest_seq_max().filter(|_| full)
    }

    fn due_partitions(&self, seen: &mut Seen, scope: FlushScope) -> Vec<PartitionKey> {
        let elapsed = self.clock.elapsed();
        let oldest_in_log = self.oldest_in_full_log();
        let live = self.live.read();
        seen.partitions.retain(|key, _| live.head.is_active(key));
        let after = self.config.server.flush_after;
        let passed = saturating_sub_duration(self.clock.now(), after);
        let mut bytes = live.head_bytes();
        let mut due = Vec::new();
        let mut rest = Vec::new();
        // Small ones are not worth a file each: they go along with others of their table.
        let mut small = Vec::new();
        for (key, partition) in live.head.active() {
            let first_seen = *seen.partitions.entry(*key).or_insert(elapsed);
            let stood = elapsed.saturating_sub(first_seen);
            let is_small = partition.heap_bytes() < flush::SMALL_PARTITION_BYTES;
            let by_time = partition.range.end <= passed && stood >= after;
            let by_log = oldest_in_log.is_some_and(|seq| partition.first_seq <= seq);
            let waits = is_small && stood < self.config.server.flush_small_after;
            if scope == FlushScope::All || by_time && !waits || by_log {
                bytes = bytes.saturating_sub(partition.heap_bytes());
                due.push(*key);
            } else if by_time {
                small.push((partition.range.start, *key, partition.heap_bytes()));
            } else {
                rest.push((partition.range.start, *key, partition.heap_bytes()));
            }
        }
        let tables: HashSet<u32> = due.iter().map(|key| key.table).collect();
        for (start, key, of_partition) in small {
            if tables.contains(&key.table) {
                bytes = bytes.saturating_sub(of_partition);
                due.push(key);
            } else {
                rest.push((start, key, of_partition));
            }
        }
        // Over the limit the oldest times go, until half is free again: else the next batch would be over it, too.
        let max = self.config.limits.head_bytes_max;
        if bytes > max {
            rest.sort();
            for (_, key, of_partition) in rest {
                if bytes <= max / 2 {
                    break;
                }
                bytes = bytes.saturating_sub(of_partition);
                due.push(key);
            }
        }
        due
    }

    /// The states in memory of every rollup that should go to blocks now.
    fn freeze_states(&self, all: bool) -> Vec<StoredLayer> {
        let mut live = self.live.write();
        let mut stored = Vec::new();
        for rollup in live.rollups.iter_mut() {
            let waiting = rollup.unstored_buckets();
            let due = waiting > STATES_IN_MEMORY_MAX || (all && waiting > 0);
            if due && let Some((layer, computed)) = rollup.freeze() {
                let (database, rollup) = (Arc::clone(&rollup.database), rollup.info.name.clone());
                stored.push(StoredLayer { database, rollup, layer, computed });
            }
        }
        stored
    }

    /// Writes the blocks of a flush; `added` are those that are whole, also after a failure.
    fn write_all(
        &self,
        frozen: &[Arc<FrozenPartition>],
        stored: &[StoredLayer],
        added: &mut Vec<BlockEntry>,
    ) -> Result<()> {
        let width_max = |table: &crate::series::Table| {
            let key = TableKey::points(table);
            self.live.read().width_max(&self.registry, &key)
        };
        let guard = self.compaction_guard();
        for group in flush::groups(frozen, self.clock.now(), width_max) {
            added.extend(flush::write_points(&self.disk, &group, self.next_block(), &guard)?);
        }
        for layer in stored {
            let (key, fields, width, seq) = {
                let live = self.live.read();
                let Some(rollup) = live.rollups.get(&layer.database, &layer.rollup) else { continue };
                (rollup.key.clone(), rollup.state_columns(), rollup.partition_width(), live.seq)
            };
            let runs = &layer.layer.runs;
            added.extend(flush::write_states(&self.disk, &key, &fields, width, runs, seq, &guard, || {
                self.next_block()
            })?);
        }
        Ok(())
    }

    fn refresh_one(&self, database: &str, name: &str, within: TimeRange) -> Result<Refreshed> {
        let Some(lock) =
            self.live.read().rollups.get(database, name).map(|rollup| Arc::clone(&rollup.refreshing))
        else {
            return Ok(Refreshed::default());
        };
        let _one_at_a_time = lock.lock();
        // A rollup of this name that was made meanwhile has a lock of its own, and neither this step nor its states are its.
        let same = |rollup: &&mut Rollup| Arc::ptr_eq(&rollup.refreshing, &lock);
        let Some((work, table)) = ({
            let mut live = self.live.write();
            let table = live
                .rollups
                .get(database, name)
                .and_then(|rollup| self.registry.table(database, &rollup.info.table));
            let rollup = live.rollups.get(database, name);
            let data = table.as_ref().zip(rollup).map(|(table, rollup)| live.data_of(table, rollup));
            let data = data.unwrap_or_default();
            match (table, live.rollups.get_mut(database, name).filter(same)) {
                (Some(table), Some(rollup)) => {
                    let due = Due {
                        now: self.clock.now(),
                        data,
                        within,
                        states_max: self.config.limits.refresh_states_max,
                    };
                    let mut work = rollup.next_work(&due, table.series_count());
                    if work.is_none() && within == TimeRange::ALL {
                        rollup.pace.rest();
                        work = rollup.next_open_work(&due);
                    }
                    work.map(|work| (work, table))
                }
                _ => None,
            }
        }) else {
            return Ok(Refreshed::default());
        };
        let started = self.clock.elapsed();
        let outcome = self.refresh_work(&work, &table);
        let mut live = self.live.write();
        let Some(rollup) = live.rollups.get_mut(database, name).filter(same) else {
            return Ok(Refreshed::default());
        };
        match outcome {
            Ok(Some((seq, runs))) => {
                let buckets = rollup.finish(&work, seq, runs);
                if let Some(buckets) = buckets {
                    rollup.pace.note(started, self.clock.elapsed(), buckets);
                    metrics::counter!(crate::metrics::ROLLUP_REFRESHED).increment(buckets);
                }
                Ok(Refreshed { buckets: buckets.unwrap_or(0), is_done: false })
            }
            Ok(None) => Ok(Refreshed::default()),
            Err(error) => {
                rollup.abandon(error.to_string());
                Err(error)
            }
        }
    }

    fn refresh_work(
        &self,
        work: &Work,
        table: &Arc<crate::series::Table>,
    ) -> Result<Option<(u64, crate::rollup::Runs)>> {
        let max = self.config.limits.refresh_memory_bytes_max;
        let guard = Guard::background(&self.clock, "refresh_memory_bytes_max", max);
        let refresh = {
            let live = self.live.read();
            Refresh::capture(&live.view_for(&guard), &live.rollups, table, work)?
        };
        let Some(refresh) = refresh else { return Ok(None) };
        Ok(Some((refresh.seq, refresh.run(&guard)?)))
    }
}
