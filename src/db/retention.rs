//! How long data are kept: what reads show, what writes and deletes are refused, what is removed.
//!
//! Three lines in time, for a table that keeps its points for K: points before now - K are *expired*: reads do not show
//! them and writes there are refused (or late, if the table merges such), exactly and at once, by the wall clock. Blocks whose points have all been expired
//! for `retention_after`, by a clock that does not jump, are *removed*. Before that, buckets of rollups over them are
//! *sealed*: they stay as they are for ever, so that the rollup outlives its points.
//! Invariant: a bucket is sealed only when it is computed, clean and in blocks; nothing marks it after that, and only late
//! points that a table is told to merge (`late`) change it; a delete that would have to change it is refused. Expiry falls on edges of buckets, so that no bucket loses only some of its points.
//! A database's time is for its tables; a rollup is kept for ever unless it says otherwise itself.
//! Not here: the language (`alter ... keep`), the manifest's commit.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use storage_format::block::BlockKind;
use storage_format::manifest::Keep;
use storage_format::point::{Time, TimeRange};
use storage_format::ranges::RangeSet;

use crate::blocks::{BlockFile, TableKey};
use crate::compact::Merging;
use crate::db::manifest::Edit;
use crate::db::{Core, Db, FlushScope, Live};
use crate::error::{Error, Kind, Result};
use crate::flush::DAY;
use crate::rollup::{Due, Rollup, Visible};
use crate::series::{METADATA_TABLE, Registry, Table};

/// Since when, by a clock that does not jump, data before a time have been expired.
#[derive(Default)]
pub(super) struct Expired {
    noted: HashMap<TableKey, (Duration, Time)>,
}

impl Expired {
    /// The time before which data have been expired for `after`; asks again from now on for what expired since.
    fn long_enough(
        &mut self,
        key: &TableKey,
        before: Time,
        elapsed: Duration,
        after: Duration,
    ) -> Option<Time> {
        let (since, noted) = *self.noted.entry(key.clone()).or_insert((elapsed, before));
        if elapsed.saturating_sub(since) < after {
            return None;
        }
        self.noted.insert(key.clone(), (elapsed, before));
        // The clock may have been set back, or the time to keep made longer.
        Some(noted.min(before))
    }

    /// Asks at the next look again for what was found to be expired for long enough.
    fn ask_again(&mut self, key: &TableKey, before: Time) {
        self.noted.insert(key.clone(), (Duration::ZERO, before));
    }
}

/// Whose time to keep is changed.
pub(super) enum Keeper<'a> {
    Database(&'a str),
    Table(Arc<Table>),
    Rollup { database: &'a str, name: &'a str },
}

pub(super) fn keep_of(registry: &Registry, table: &Table) -> Option<Keep> {
    // What is known of a metric is kept however long its points are.
    if *table.name == *METADATA_TABLE {
        return table.keep();
    }
    table.keep().or_else(|| registry.database(&table.database)?.keep())
}

impl Live {
    pub(super) fn rollups_over<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = &'a Rollup> {
        self.rollups.iter().filter(|rollup| rollup.is_over(table))
    }

    /// The first time that reads of a table's points show.
    pub(super) fn visible_from(&self, registry: &Registry, table: &Table, now: Time) -> Time {
        let expired = keep_of(registry, table).and_then(|keep| keep.expired_before(now));
        let Some(expired) = expired else { return Time::MIN };
        self.rollups_over(table).map(|rollup| rollup.bucket(expired)).min().unwrap_or(expired)
    }

    pub(super) fn visible(&self, core: &Core, table: &Table) -> Visible<'_> {
        let now = core.clock.now();
        let points_from = self.visible_from(&core.registry, table, now);
        Visible { points_from, now, late: self.late.points(table, self.seq) }
    }

    /// The time before which a rollup over the table is sealed.
    pub(super) fn sealed_until(&self, table: &Table) -> Time {
        self.rollups_over(table).map(Rollup::sealed_until).max().unwrap_or(Time::MIN)
    }

    /// Up to where buckets are sealed when time is up to `before`: buckets of several widths need not end together.
    pub(super) fn seals_until(&self, table: &Table, before: Time) -> Time {
        self.rollups_over(table).map(|rollup| rollup.info.window.ceil(before)).fold(before, Time::max)
    }

    /// Points from here on have not expired, and are in no bucket that is sealed or about to be.
    pub(super) fn accepted_from(&self, core: &Core, table: &Table, now: Time) -> Time {
        let visible = self.visible_from(&core.registry, table, now);
        visible.max(self.sealed_until(table)).max(self.late.closed_before(table.id))
    }

    /// Before this a rollup that is made now finds no points of its own: they have expired or gone, or were late.
    pub(super) fn gone_before(&self, core: &Core, table: &Table) -> Time {
        let late = self.late.times(table.id).map_or(Time::MIN, |times| times.end);
        self.accepted_from(core, table, core.clock.now()).max(late)
    }

    /// Why points in this range may not be deleted.
    pub(super) fn delete_refusal(&self, table: &Table, range: TimeRange) -> Option<Error> {
        // Late points that wait will be as much out of reach as those that are folded.
        let late = self.late.times(table.id).filter(|times| times.overlaps(range));
        let final_until = |rollup: &Rollup| {
            let taken = late.filter(|times| times.end > rollup.begins());
            let waiting = taken.map_or(Time::MIN, |times| rollup.info.window.ceil(times.end));
            let touched = range.intersect(TimeRange::new(Time::MIN, rollup.sealed_until()));
            match !touched.is_empty() && rollup.computed().overlaps(touched) {
                true => Some(rollup.sealed_until().max(waiting)),
                false => taken.map(|_| waiting),
            }
        };
        let all = self.rollups_over(table).filter_map(|rollup| Some((final_until(rollup)?, rollup)));
        let (until, rollup) = all.max_by_key(|(until, _)| *until)?;
        let until = query_lang::time::format_time(until);
        Some(Error::rejected(
            Kind::Conflict,
            "sealed",
            format!(
                "the rollup {} keeps buckets before {until} whose points are no longer kept, so it could not follow this delete; add \
                 `since {until}`, or drop the rollup first",
                rollup.info.name,
            ),
        ))
    }

    /// Where a rollup has something to compute from: points, or states of its parent whose points are gone.
    pub(super) fn data_of(&self, table: &Table, rollup: &Rollup) -> RangeSet {
        let points =
            self.data_ranges(table).intersect(&TimeRange::new(rollup.sealed_until(), Time::MAX).into());
        let parent =
            rollup.info.parent.as_deref().and_then(|parent| self.rollups.get(&table.database, parent));
        parent.map_or(points.clone(), |parent| points.union(parent.computed()))
    }

    /// The width that blocks may have, so that they expire not long after their first points.
    pub(super) fn width_max(&self, registry: &Registry, key: &TableKey) -> i64 {
        let keep = match key.kind {
            BlockKind::Points => {
                registry.table(&key.database, &key.table).and_then(|table| keep_of(registry, &table))
            }
            BlockKind::Rollup => self.rollups.of_key(key).and_then(|rollup| rollup.keep),
        };
        const BLOCKS_PER_KEEP: i64 = 4;
        keep.filter(|keep| *keep != Keep::FOREVER).map_or(i64::MAX, |keep| keep.0 / BLOCKS_PER_KEEP)
    }

    /// Whether every rollup that passes has done, for good, what can be done before `limit` (or its next edge).
    pub(super) fn are_settled(
        &self,
        core: &Core,
        table: &Table,
        limit: Time,
        which: impl Fn(&Rollup) -> bool,
    ) -> bool {
        let now = core.clock.now();
        self.rollups_over(table).filter(|rollup| which(rollup)).all(|rollup| {
            let edge = rollup.info.window.ceil(limit);
            let within = TimeRange::new(Time::MIN, edge);
            let due = Due { now, data: self.data_of(table, rollup), within, states_max: 0 };
            edge <= rollup.bucket(now) && rollup.is_settled(&due)
        })
    }

    fn has_expired(&self, key: &TableKey, before: Time) -> bool {
        !self.expired_blocks(key, before).is_empty() || !self.half_expired_blocks(key, before).is_empty()
    }

    fn expired_blocks(&self, key: &TableKey, before: Time) -> Vec<Arc<BlockFile>> {
        self.blocks.of(key).iter().filter(|file| file.time().end <= before).cloned().collect()
    }

    /// Blocks longer than a day that expire bit by bit, most of whose time has: they were made before somebody said how long
    /// to keep them.
    fn half_expired_blocks(&self, key: &TableKey, before: Time) -> Vec<Arc<BlockFile>> {
        let is_half = |file: &&Arc<BlockFile>| {
            let (start, end) = (i128::from(file.entry.time.0), i128::from(file.entry.time.1));
            let expired = i128::from(before) - start;
            before < file.entry.time.1 && end - start > i128::from(DAY) && expired * 2 > end - start
        };
        self.blocks.of(key).iter().filter(is_half).cloned().collect()
    }
}

impl Db {
    /// Removes blocks whose retention has ended. Returns how many.
    pub fn expire(&self) -> Result<usize> {
        self.core.check_writable()?;
        let core = &*self.core;
        let mut standing = core.compaction.lock();
        let mut removed = 0;
        for table in core.registry.tables() {
            removed += core.expire_points(&mut standing.expired, &table, self)?;
        }
        let rollups: Vec<TableKey> =
            core.live.read().rollups.iter().map(|rollup| rollup.key.clone()).collect();
        for key in rollups {
            removed += core.expire_states(&mut standing.expired, &key)?;
        }
        Ok(removed)
    }
}

impl Core {
    fn expire_points(&self, expired: &mut Expired, table: &Arc<Table>, db: &Db) -> Result<usize> {
        let key = TableKey::points(table);
        let before = self.live.read().visible_from(&self.registry, table, self.clock.now());
        let after = self.config.server.retention_after;
        let Some(before) = expired.long_enough(&key, before, self.clock.elapsed(), after) else {
            return Ok(0);
        };
        let edge = {
            let live = self.live.read();
            if !live.has_expired(&key, before) {
                let is_closed = live.late.closed_before(table.id) > Time::MIN;
                drop(live);
                if is_closed {
                    self.live.write().late.close(table.id, Time::MIN);
                }
                return Ok(0);
            }
            live.seals_until(table, before)
        };
        let is_quiet = self.close(table, edge);
        // States that only memory has would be lost with their points.
        db.flush(FlushScope::States)?;
        let files = {
            let mut live = self.live.write();
            // A rollup that was made meanwhile may end its buckets later.
            let is_quiet = is_quiet && live.seals_until(table, before) <= edge;
            if !is_quiet || !live.are_settled(self, table, before, |_| true) {
                tracing::info!(table = %table.name, "expired points stay until the rollups over them are computed");
                match table.merges_late() {
                    // What comes for them from now on is late, so that they will be computed in the end.
                    true => expired.ask_again(&key, before),
                    false => live.late.close(table.id, Time::MIN),
                }
                return Ok(0);
            }
            live.late.close(table.id, Time::MIN);
            for rollup in live.rollups.iter_mut().filter(|rollup| rollup.is_over(table)) {
                rollup.seal(before);
            }
            live.expired_blocks(&key, before)
        };
        self.remove_expired(&key, before, &files)
    }

    fn expire_states(&self, expired: &mut Expired, key: &TableKey) -> Result<usize> {
        let before = {
            let live = self.live.read();
            let Some(rollup) = live.rollups.of_key(key) else { return Ok(0) };
            rollup.visible_from(self.clock.now())
        };
        let after = self.config.server.retention_after;
        let Some(before) = expired.long_enough(key, before, self.clock.elapsed(), after) else {
            return Ok(0);
        };
        let files = {
            let mut live = self.live.write();
            let files = live.expired_blocks(key, before);
            let any = live.has_expired(key, before);
            let info = live.rollups.of_key(key).map(|rollup| Arc::clone(&rollup.info));
            let Some(info) = info.filter(|_| any) else { return Ok(0) };
            let Some(table) = self.registry.table(&key.database, &info.table) else { return Ok(0) };
            let is_child = |rollup: &Rollup| rollup.info.parent.as_ref() == Some(&info.name);
            if !live.are_settled(self, &table, before, is_child) {
                tracing::info!(rollup = %key.table, "expired states stay until the rollups on them are computed");
                return Ok(0);
            }
            if let Some(rollup) = live.rollups.of_key_mut(key) {
                rollup.expire(before);
            }
            files
        };
        self.remove_expired(key, before, &files)
    }

    /// Returns how many blocks were removed or made shorter.
    fn remove_expired(&self, key: &TableKey, before: Time, files: &[Arc<BlockFile>]) -> Result<usize> {
        if !files.is_empty() {
            let removed = files.iter().map(|file| file.entry.id).collect();
            self.commit(Edit { removed, ..Edit::default() })?;
            files.iter().for_each(|file| file.retire());
            metrics::counter!(crate::metrics::EXPIRED_BLOCKS).increment(files.len() as u64);
        }
        let half = self.live.read().half_expired_blocks(key, before);
        for file in &half {
            let left = TimeRange::new(before, file.entry.partition.1);
            let files = vec![Arc::clone(file)];
            self.merge(&Merging { key: key.clone(), windows: vec![left], files })?;
        }
        Ok(files.len() + half.len())
    }

    /// Changes what is given. Durable when it returns.
    pub(super) fn set_retention(
        &self,
        keeper: &Keeper<'_>,
        keep: Option<Option<Keep>>,
        merges_late: Option<bool>,
    ) -> Result<()> {
        let exchange_late = |merges: bool| match keeper {
            Keeper::Table(table) => table.set_merges_late(merges),
            Keeper::Database(_) | Keeper::Rollup { .. } => unreachable!("bug: late points of no table"),
        };
        let keep_before = keep.map(|keep| self.exchange_keep(keeper, keep)).transpose()?;
        let late_before = merges_late.map(exchange_late);
        self.commit(Edit::default()).inspect_err(|_| {
            // It was there a moment ago; if it was dropped since, there is nothing to put back.
            keep_before.into_iter().for_each(|keep| drop(self.exchange_keep(keeper, keep)));
            late_before.map(exchange_late);
        })
    }

    /// None: as nobody had said anything.
    fn exchange_keep(&self, keeper: &Keeper<'_>, keep: Option<Keep>) -> Result<Option<Keep>> {
        match keeper {
            Keeper::Database(name) => {
                let database = self.registry.database_or_new(name);
                let before = database.keep();
                database.set_keep(keep);
                Ok(before)
            }
            Keeper::Table(table) => {
                let before = table.keep();
                table.set_keep(keep);
                Ok(before)
            }
            Keeper::Rollup { database, name } => {
                let mut live = self.live.write();
                let rollup = live.rollups.get_mut(database, name).ok_or_else(|| {
                    Error::rejected(Kind::NotFound, "unknown_rollup", format!("there is no rollup {name}"))
                })?;
                Ok(std::mem::replace(&mut rollup.keep, keep))
            }
        }
    }
}
