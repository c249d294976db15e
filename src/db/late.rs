//! Late points: what comes for times whose raw points are gone, or about to go, and is taken all the same.
//!
//! A table is told so (`alter table T late merge`); by default all that has expired is refused. A point whose time has expired
//! while the points of that time are still there is taken like any other, and makes buckets dirty; reads hide it, as they
//! hide those. Where a rollup over the table is sealed it is *late*: it is in the log like any other, marked so, and then in a
//! head of its own, which raw reads do not look at. A read through a rollup adds these points to the states that it finds,
//! until a fold (`fold`) has merged them into the states of all rollups at once.
//!
//! What a point is, is decided once, when it is parsed, and the log keeps that, so that nothing depends on what retention
//! says when the log is read back. Whoever seals says so before ([`Core::close`]), and waits for batches that were parsed by
//! what held until then: a point that was taken for an ordinary one is in the states by the time that they are sealed.
//! Invariant: each late point counts once in every rollup that takes it: it is in this head if and only if its sequence is
//! above the one that the manifest says is folded. Among points that wait, last write wins as ever; of those that are folded
//! nothing is left to compare with, so that a point that comes again counts again.
//! A rollup takes the late points of the times that it knows ([`Rollup::begins`]). One whose states are made of a series in
//! the order of its times can take none, so that a table with such a one refuses them.
//! Not here: merging (`fold`, `rollup`), the language (`alter ... late`).

use std::borrow::Cow;
use std::sync::Arc;

use hashbrown::HashMap;
use storage_format::manifest::Manifest;
use storage_format::point::{Time, TimeRange};

use crate::batch::{Batch, BatchPart};
use crate::blocks::BlockList;
use crate::config::Limits;
use crate::db::{Core, Live};
use crate::head::{FrozenPartition, Head, PartitionKey};
use crate::ingest::Accepted;
use crate::rollup::{LatePoints, Rollup};
use crate::scan::View;
use crate::series::{Registry, Table};

/// The late points that are not folded yet, and up to where they are. Tables by their number.
#[derive(Default)]
pub(super) struct Late {
    head: Head,
    waiting: HashMap<u32, Waiting>,
    folded: HashMap<u32, u64>,
    /// Up to where somebody is about to seal.
    closed: HashMap<u32, Time>,
    /// Late points are in none.
    blocks: BlockList,
}

/// The times of the points of a table: those that a fold has taken out of the way of writers, and those that came after.
#[derive(Clone, Copy, Default)]
struct Waiting {
    frozen: Option<TimeRange>,
    active: Option<TimeRange>,
}

impl Waiting {
    fn times(self) -> Option<TimeRange> {
        self.frozen.into_iter().chain(self.active).reduce(TimeRange::hull)
    }

    fn note(&mut self, part: &BatchPart) {
        let of_row = |time: Time| TimeRange::new(time, time.saturating_add(1));
        let times = part.points.rows.iter().map(|row| of_row(row.time));
        self.active = self.active.into_iter().chain(times).reduce(TimeRange::hull);
    }
}

impl Late {
    pub fn restore(registry: &Registry, manifest: &Manifest) -> Late {
        let of_table = |entry: &storage_format::manifest::TableEntry| {
            Some((registry.table(&entry.database, &entry.name)?.id, entry.folded))
        };
        Late { folded: manifest.tables.iter().filter_map(of_table).collect(), ..Late::default() }
    }

    pub fn apply(&mut self, part: &BatchPart, seq: u64) {
        self.waiting.entry(part.table.id).or_default().note(part);
        self.head.apply(part, seq);
    }

    /// The late ones of batches of the log that are not folded.
    pub fn apply_all(&mut self, batches: &[(u64, Batch)]) {
        let folded = &self.folded;
        let skip = |part: &BatchPart, seq: u64| {
            !part.late || folded.get(&part.table.id).is_some_and(|last| seq <= *last)
        };
        for (seq, batch) in batches {
            for part in batch.parts.iter().filter(|part| !skip(part, *seq)) {
                self.waiting.entry(part.table.id).or_default().note(part);
            }
        }
        self.head.apply_all(batches, |part, _: PartitionKey, seq| skip(part, seq));
    }

    /// None if there are none of this table.
    pub fn points(&self, table: &Table, seq: u64) -> Option<LatePoints<'_>> {
        let view = View { guard: None, seq, head: &self.head, blocks: &self.blocks, tombstones: &[] };
        Some(LatePoints { view, times: self.times(table.id)? })
    }

    pub fn times(&self, table: u32) -> Option<TimeRange> {
        self.waiting.get(&table)?.times()
    }

    /// The tables that have some.
    pub fn tables(&self) -> impl Iterator<Item = u32> {
        self.waiting.keys().copied()
    }

    pub fn rows(&self, table: &Table) -> u64 {
        let frozen = self.head.frozen().iter().filter(|layer| layer.table.id == table.id);
        let active = self.head.active().filter(|(key, _)| key.table == table.id);
        active.map(|(_, partition)| partition.rows).chain(frozen.map(|layer| layer.rows)).sum()
    }

    /// All that there are of a table, out of the way of writers; `seq` is the last applied sequence.
    pub fn freeze(&mut self, table: u32, seq: u64) -> Vec<Arc<FrozenPartition>> {
        let keys: Vec<PartitionKey> =
            self.head.active().map(|(key, _)| *key).filter(|key| key.table == table).collect();
        keys.iter().for_each(|key| drop(self.head.freeze(*key, seq)));
        if let Some(waiting) = self.waiting.get_mut(&table) {
            *waiting = Waiting { frozen: waiting.times(), active: None };
        }
        self.head.frozen().iter().filter(|layer| layer.table.id == table).cloned().collect()
    }

    /// The frozen ones are in the states of the rollups, in a commit that says so.
    pub fn folded(&mut self, table: u32, frozen: &[Arc<FrozenPartition>], seq: u64) {
        self.head.drop_frozen(frozen);
        self.folded.insert(table, seq);
        if let Some(waiting) = self.waiting.get_mut(&table) {
            waiting.frozen = None;
        }
        self.waiting.retain(|_, waiting| waiting.times().is_some());
    }

    /// Points before this are late from now on, though nothing is sealed there yet; [`Time::MIN`] for only where it is.
    pub fn close(&mut self, table: u32, before: Time) {
        self.closed.insert(table, before);
    }

    pub fn closed_before(&self, table: u32) -> Time {
        self.closed.get(&table).copied().unwrap_or(Time::MIN)
    }

    /// The sequence up to which a table's late points are folded; 0 if none ever were.
    pub fn folded_seq(&self, table: u32) -> u64 {
        self.folded.get(&table).copied().unwrap_or(0)
    }

    /// For what is in memory beside the head of the tables.
    pub fn head(&self) -> &Head {
        &self.head
    }
}

/// Late points that wait have at the most this part of the memory for points, because they may have to wait for long: the
/// rest is for those that only wait for their flush.
const LATE_SHARE: usize = 4;

/// Above this late points are refused. Batches that are under way may still come on top of it.
pub(super) fn late_bytes_max(limits: &Limits) -> usize {
    limits.head_bytes_max / LATE_SHARE
}

impl Live {
    /// The lowest sequence that only the log and memory hold.
    pub(super) fn first_seq(&self) -> Option<u64> {
        self.head.first_seq().into_iter().chain(self.late.head().first_seq()).min()
    }

    pub(super) fn head_bytes(&self) -> usize {
        self.head.heap_bytes() + self.late.head().heap_bytes()
    }

    /// The numbers of all series in memory, by table.
    pub(super) fn series(&self) -> HashMap<u32, roaring::RoaringBitmap> {
        let mut all = self.head.series();
        for (table, series) in self.late.head().series() {
            *all.entry(table).or_default() |= series;
        }
        all
    }

    /// Which times of a table's points are taken.
    pub(super) fn accepted(&self, core: &Core, table: &Table, now: Time) -> Accepted {
        let expired = self.accepted_from(core, table, now);
        let refused = |cure: &'static str| Accepted {
            from: expired,
            late: TimeRange::new(expired, expired),
            expired,
            obstacle: None,
            cure: Cow::Borrowed(cure),
        };
        if expired == Time::MIN {
            return Accepted::ALL;
        }
        if !table.merges_late() {
            return refused("`alter table` changes how long they are kept");
        }
        let taken_from = |rollup: &Rollup| rollup.begins().max(rollup.visible_from(now));
        let shown = self.rollups_over(table).filter(|rollup| rollup.replaces.is_none());
        let Some(first) = shown.map(taken_from).min() else {
            return refused("no rollup over it could take the point");
        };
        let gone = self.sealed_until(table).max(self.late.closed_before(table.id));
        // Each keeps all from a time on from being taken: the first one decides.
        let (until, obstacle) = self
            .obstacles(table, first)
            .min_by_key(|(from, _)| *from)
            .map_or((gone, None), |(until, why)| (until.min(gone), Some(why)));
        Accepted {
            from: first.min(expired).max(gone),
            late: TimeRange::new(first.min(until), until),
            expired: expired.max(gone),
            obstacle,
            cure: Cow::Borrowed("no rollup over it knows that time"),
        }
    }

    /// What keeps late points from being taken, each with the time from which on. `first` is where rollups begin to take them.
    fn obstacles<'a>(&'a self, table: &'a Table, first: Time) -> impl Iterator<Item = (Time, String)> + 'a {
        let of_rollup = move |rollup: &Rollup| {
            let name = &rollup.info.name;
            if let Some(state) = rollup.untimely_state() {
                let why = format!(
                    "the rollup {name} keeps {} states, which need the points of a series in their order and cannot take one later",
                    state.name()
                );
                return Some((rollup.begins(), why));
            }
            // What is built beside another one could not compute what that one takes meanwhile.
            let replaces = rollup.replaces.as_deref()?;
            (rollup.begins() > first).then(|| {
                let why = format!("the rollup {replaces} is being altered; send it again when `show rollups` says that it is done");
                (first, why)
            })
        };
        let aside = self.set_aside_of(table).map(move |name| {
            (first, format!("the rollup {name} is set aside and could not take it; `show rollups` says why"))
        });
        self.rollups_over(table).filter_map(of_rollup).chain(aside)
    }

    /// A rollup that nobody can tell of anything, perhaps one over this table.
    pub(super) fn set_aside_of<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = &'a str> {
        let aside = self.rollups.set_aside.iter().filter(|aside| aside.entry.database == *table.database);
        aside.map(|aside| aside.entry.name.as_str())
    }
}

impl Core {
    /// The same for a request of this moment: no late ones while too many wait.
    pub(super) fn accepted(&self, table: &Table, now: Time) -> Accepted {
        let live = self.live.read();
        let accepted = live.accepted(self, table, now);
        let max = late_bytes_max(&self.config.limits);
        if accepted.late.is_empty() || live.late.head().heap_bytes() <= max {
            return accepted;
        }
        accepted.without_late(format!(
            "the late points that wait to be merged into rollups take more than {} KiB, the limit (1/{LATE_SHARE} of \
             head_bytes_max); it is not kept: send it again once they are merged, and see in `show rollups` what has yet to be \
             computed or is paused",
            max >> 10
        ))
    }

    /// From now on points before a time are late, and those that were taken for others are applied when this returns. False if
    /// that takes too long: then nothing may be sealed.
    pub(super) fn close(&self, table: &Table, before: Time) -> bool {
        self.live.write().late.close(table.id, before);
        self.registry.wait_for_batches()
    }
}
