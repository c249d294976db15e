//! Late points into the states of rollups: all that wait of a table, into all rollups over it, in one commit.
//!
//! First all that can be computed there has to be computed, clean and in blocks, as before points are removed; then the
//! buckets are sealed, so that nothing computes them again from points that never held the late ones; then the late points
//! are taken out of the way of writers at a sequence, merged with the stored states, and written as blocks of the rollups. The
//! commit names those blocks and the sequence. A crash before it leaves log and states as they were, and one after it replays
//! only what came later: no point is folded twice or in some rollups only.
//! Invariant: nobody makes, drops or alters a rollup, removes its states or merges its blocks while this runs.
//! Not here: what late points are (`late`), computing (`rollup`).

use std::sync::Arc;

use storage_format::manifest::BlockEntry;
use storage_format::point::{Time, TimeRange};
use storage_format::ranges::RangeSet;

use crate::db::late::late_bytes_max;
use crate::db::manifest::Edit;
use crate::db::{Core, Db, FlushScope};
use crate::error::Result;
use crate::flush;
use crate::guard::Guard;
use crate::head::FrozenPartition;
use crate::rollup::{Fold, Rollup, Runs};
use crate::series::Table;

/// What a commit says of the late points of one table.
pub(super) struct Folded {
    pub table: Arc<Table>,
    /// The points.
    pub frozen: Vec<Arc<FrozenPartition>>,
    /// None of a later sequence is among them.
    pub seq: u64,
    /// The buckets of each rollup, by database and name, that the commit has blocks for.
    pub rollups: Vec<((Arc<str>, String), RangeSet)>,
}

impl Folded {
    pub fn of_rollup(&self, rollup: &Rollup) -> Option<&RangeSet> {
        let is_it = |(database, name): &(Arc<str>, String)| {
            **database == *rollup.database && *name == rollup.info.name
        };
        self.rollups.iter().find(|(key, _)| is_it(key)).map(|(_, buckets)| buckets)
    }
}

/// A table whose late points are taken out, before anything is computed.
struct Taken {
    table: Arc<Table>,
    frozen: Vec<Arc<FrozenPartition>>,
    seq: u64,
    folds: Vec<((Arc<str>, String), Fold)>,
}

impl Db {
    /// Folds late points: all, or those that time, memory and log ask for. Returns how many blocks that made.
    pub fn fold(&self, scope: FlushScope) -> Result<usize> {
        let core = &*self.core;
        core.check_writable()?;
        let (mut blocks, mut failed) = (0, None);
        for table in core.late_tables_due(scope) {
            // One that fails keeps no other from being folded.
            match self.fold_table(&table) {
                Ok(made) => blocks += made,
                Err(error) => failed = Some(error),
            }
            core.note_try(&table);
        }
        failed.map_or(Ok(blocks), Err)
    }

    /// Folds the late points of one table. They wait where some rollup over it has yet to be computed.
    pub(super) fn fold_table(&self, table: &Arc<Table>) -> Result<usize> {
        if self.core.live.read().late.times(table.id).is_none() {
            return Ok(0);
        }
        let _compaction = self.core.compaction.lock();
        let (until, edge, closed_before) = {
            let live = self.core.live.read();
            let Some(times) = live.late.times(table.id) else { return Ok(0) };
            (times.end, live.seals_until(table, times.end), live.late.closed_before(table.id))
        };
        // A bucket that is not over cannot be sealed, and points of now must not be late even for a moment.
        if edge > self.core.clock.now() {
            return Ok(0);
        }
        let outcome = match self.core.close(table, edge.max(closed_before)) {
            true => self.fold_closed(table, until),
            false => Ok(0),
        };
        self.core.live.write().late.close(table.id, closed_before);
        outcome
    }

    /// The same, with points before `until` closed, and nothing under way that was parsed before that.
    fn fold_closed(&self, table: &Arc<Table>, until: Time) -> Result<usize> {
        let core = &*self.core;
        // States that only memory has are not there to be merged with.
        self.flush_memory(FlushScope::States)?;
        let _flushing = core.flushing.lock();
        let Some(taken) = core.take_late(table, until)? else { return Ok(0) };
        let mut added = Vec::new();
        let folded = core.background.install(|| core.fold_all(taken, &mut added));
        let folded = folded.inspect_err(|_| core.remove_files(&added))?;
        let blocks = added.len();
        // After a failed commit the manifest on disk may name the new files: they stay.
        core.commit(Edit { added, folded: vec![folded], ..Edit::default() })?;
        core.forget_series();
        Ok(blocks)
    }
}

impl Core {
    fn late_tables_due(&self, scope: FlushScope) -> Vec<Arc<Table>> {
        let mut seen = self.flushing.lock();
        let oldest_in_log = self.oldest_in_full_log();
        let live = self.live.read();
        let waiting: Vec<u32> = live.late.tables().collect();
        seen.late.retain(|table, _| waiting.contains(table));
        let elapsed = self.clock.elapsed();
        // Before points would be refused for it.
        let by_memory = live.late.head().heap_bytes() > late_bytes_max(&self.config.limits) / 2;
        let is_due = |table: &u32| {
            let since = *seen.late.entry(*table).or_insert(elapsed);
            let stood = elapsed.saturating_sub(since) >= self.config.server.flush_small_after;
            let first_seq = live.late.head().first_seq_of(*table);
            let by_log = oldest_in_log.zip(first_seq).is_some_and(|(oldest, first)| first <= oldest);
            scope == FlushScope::All || by_log || by_memory || stood
        };
        let due: Vec<u32> = waiting.into_iter().filter(is_due).collect();
        self.registry.tables().into_iter().filter(|table| due.contains(&table.id)).collect()
    }

    /// What still waits, or has come since, waits as long as it did before.
    fn note_try(&self, table: &Table) {
        let mut seen = self.flushing.lock();
        match self.live.read().late.times(table.id) {
            Some(_) => seen.late.insert(table.id, self.clock.elapsed()),
            None => seen.late.remove(&table.id),
        };
    }

    /// Seals what late points fall into and takes them out. None if something has yet to be computed there.
    fn take_late(&self, table: &Arc<Table>, until: Time) -> Result<Option<Taken>> {
        let mut live = self.live.write();
        if live.late.times(table.id).is_none_or(|times| times.end > until) {
            return Ok(None);
        }
        // A rollup that was made meanwhile may end its buckets later.
        if live.seals_until(table, until) > live.late.closed_before(table.id) {
            return Ok(None);
        }
        let is_settled = live.are_settled(self, table, until, |_| true);
        if !is_settled || live.set_aside_of(table).next().is_some() {
            tracing::debug!(table = %table.name, "late points wait until the rollups over them are computed");
            return Ok(None);
        }
        for rollup in live.rollups.iter_mut().filter(|rollup| rollup.is_over(table)) {
            rollup.seal(until);
        }
        let seq = live.seq;
        let frozen = live.late.freeze(table.id, seq);
        let mut folds = Vec::new();
        if let Some(late) = live.late.points(table, seq) {
            for rollup in live.rollups_over(table) {
                let key = (Arc::clone(&rollup.database), rollup.info.name.clone());
                folds.extend(Fold::capture(&late, rollup, table)?.map(|fold| (key, fold)));
            }
        }
        Ok(Some(Taken { table: Arc::clone(table), frozen, seq, folds }))
    }

    /// Writes the blocks; `added` are those that are whole, also after a failure.
    fn fold_all(&self, taken: Taken, added: &mut Vec<BlockEntry>) -> Result<Folded> {
        let Taken { table, frozen, seq, folds } = taken;
        let guard = self.compaction_guard();
        let mut rollups = Vec::new();
        for (name, fold) in folds {
            let buckets = self.fold_one(&fold, &name, seq, &guard, added)?;
            if !buckets.is_empty() {
                rollups.push((name, buckets));
            }
        }
        Ok(Folded { table, frozen, seq, rollups })
    }

    /// Of one rollup: as many states at a time as fit the guard. Returns the buckets that have blocks.
    fn fold_one(
        &self,
        fold: &Fold,
        (database, name): &(Arc<str>, String),
        seq: u64,
        guard: &Guard,
        added: &mut Vec<BlockEntry>,
    ) -> Result<RangeSet> {
        let mut folded = RangeSet::default();
        let (key, fields, width) = {
            let live = self.live.read();
            let Some(rollup) = live.rollups.get(database, name) else { return Ok(folded) };
            (rollup.key.clone(), rollup.state_columns(), rollup.partition_width())
        };
        let next_id = || self.next_block();
        let mut left = vec![fold.times()];
        while let Some(times) = left.pop() {
            match self.merge_late(fold, times, database, name, guard) {
                Ok(Some((runs, buckets))) => {
                    let blocks =
                        flush::write_states(&self.disk, &key, &fields, width, &runs, seq, guard, next_id)?;
                    added.extend(blocks);
                    folded = folded.union(&buckets);
                }
                Ok(None) => {}
                Err(error) if error.is_over_limit() => left.extend(fold.halves(times).ok_or(error)?),
                Err(error) => return Err(error),
            }
            guard.settle(0);
        }
        Ok(folded)
    }

    /// The states of the late points of these times, merged with the stored ones, and their buckets. None if there are none.
    fn merge_late(
        &self,
        fold: &Fold,
        times: TimeRange,
        database: &str,
        name: &str,
        guard: &Guard,
    ) -> Result<Option<(Runs, RangeSet)>> {
        let late = fold.run(times, guard)?;
        let (stored, buckets) = {
            let live = self.live.read();
            let Some(rollup) = live.rollups.get(database, name).filter(|_| !late.is_empty()) else {
                return Ok(None);
            };
            (late.stored(&live.view(), rollup)?, late.buckets(&rollup.info))
        };
        Ok(Some((late.merged(stored, guard)?, buckets)))
    }
}
