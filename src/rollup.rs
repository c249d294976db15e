//! Continuous aggregates, equal to the raw points at every moment.
//!
//! Per rollup: which ranges have been computed, which buckets of those a write has made dirty since, and the states
//! themselves: in blocks, and newer ones in memory on top. A read takes the stored states of what is computed and
//! clean, and computes the rest from raw points (or a finer rollup) out of the same view.
//!
//! Invariant: every point in a computed range whose effect is not in the stored states has marked its bucket dirty
//! before its write was acknowledged. States in memory may be lost in a crash: the manifest counts only those in
//! blocks as computed, and those that memory has newer as dirty.
//! Not here: when to refresh (`jobs`), the manifest's commit (`db`).

mod dirty;
mod fold; // late points
mod list;
mod open;
mod pace;
mod read;
mod refresh;
mod stored;
mod verify;

use std::sync::Arc;

use arrow::datatypes::Field;
use hashbrown::HashMap;
use parking_lot::Mutex;
use query_lang::catalog::RollupInfo;
use roaring::RoaringBitmap;
use storage_format::block::BlockKind;
use storage_format::manifest::{DirtyGroups, Keep, RollupEntry};
use storage_format::point::{NANOS_PER_SECOND, TagSet, Time, TimeRange};
use storage_format::ranges::RangeSet;
use storage_format::state::{StateKey, StateRun, block_fields};

use crate::batch::BatchPart;
use crate::blocks::TableKey;
use crate::error::Result;
use crate::query::Groups;
use crate::series::{CompiledFilter, Registry, Table};

pub use dirty::Dirty;
pub use fold::{Fold, LateStates};
pub use list::{Rollups, SetAside};
use open::Open;
pub use pace::Pace;
pub use read::{Access, LatePoints, Visible, columns_of};
pub use refresh::{Due, Refresh, Runs, Work};
pub use verify::{Difference, Verify};

pub struct Rollup {
    pub info: Arc<RollupInfo>,
    pub database: Arc<str>,
    pub key: TableKey,
    pub filter: CompiledFilter,
    pub keys: Vec<StateKey>,
    /// The tags of its rows' groups, sorted; None for all.
    by: Option<Vec<String>>,
    /// What has states, in blocks or in memory.
    computed: RangeSet,
    /// The part of `computed` whose states are in blocks.
    stored: RangeSet,
    dirty: Dirty,
    /// A range that a refresh computes right now: writes into it mark dirty, too.
    registered: Option<TimeRange>,
    /// The states of the bucket that is not over yet.
    open: Open,
    /// States newer than the blocks; the last layer wins. At most two: one being written, one taking more.
    layers: Vec<Arc<Layer>>,
    /// Groups of the series seen by [`Rollup::mark`], by the series' number: None if the filter refuses it.
    groups: HashMap<u32, Option<TagSet>>,
    /// One refresh at a time; taken without holding the lock of the view.
    pub refreshing: Arc<Mutex<()>>,
    pub last_error: Option<String>,
    /// How long its states are kept. None: for ever.
    pub keep: Option<Keep>,
    /// Buckets that begin before this are final.
    sealed_until: Time,
    /// See [`Rollup::begins`].
    begins: Time,
    /// Nothing is computed in the background.
    pub paused: bool,
    /// The rollup that this one is built to replace; until then nothing reads it by itself.
    pub replaces: Option<String>,
    pub pace: Pace,
}

/// States of one or more refreshes, not yet in blocks. A bucket whose points are all gone stays as identities.
#[derive(Clone, Default)]
pub struct Layer {
    pub runs: HashMap<TagSet, Arc<StateRun>>,
}

impl Layer {
    fn buckets(&self) -> usize {
        self.runs.values().map(|run| run.len()).sum()
    }

    /// Newer states replace older ones, whole bucket by whole bucket.
    fn put(&mut self, newer: HashMap<TagSet, Arc<StateRun>>) {
        for (group, run) in newer {
            match self.runs.get_mut(&group) {
                Some(known) => {
                    let known = Arc::make_mut(known);
                    if known.starts.last() >= run.starts.first() {
                        known.retain(|start| run.starts.binary_search(&start).is_err());
                    }
                    known.merge(&run);
                }
                None => {
                    self.runs.insert(group, run);
                }
            }
        }
    }
}

impl Rollup {
    pub fn new(database: &str, info: RollupInfo) -> Result<Rollup> {
        let database: Arc<str> = database.into();
        let by = Groups::sorted(info.groups());
        Ok(Rollup {
            filter: CompiledFilter::new(&info.filter)?,
            key: TableKey {
                kind: BlockKind::Rollup,
                database: Arc::clone(&database),
                table: info.name.as_str().into(),
            },
            keys: crate::query::keys_of(&info.states),
            by,
            database,
            dirty: Dirty::new(info.window.clone()),
            info: Arc::new(info),
            computed: RangeSet::default(),
            stored: RangeSet::default(),
            registered: None,
            open: Open::default(),
            layers: Vec::new(),
            groups: HashMap::new(),
            refreshing: Arc::default(),
            last_error: None,
            keep: None,
            sealed_until: Time::MIN,
            begins: Time::MIN,
            paused: false,
            replaces: None,
            pace: Pace::default(),
        })
    }

    /// To be built beside the rollup that it is going to replace, under a name of its own.
    pub fn beside(database: &str, mut info: RollupInfo, name: String) -> Result<Rollup> {
        let replaces = std::mem::replace(&mut info.name, name);
        Ok(Rollup { replaces: Some(replaces), ..Rollup::new(database, info)? })
    }

    /// By which it is read, now or once it is whole.
    pub fn shown_name(&self) -> &str {
        self.replaces.as_deref().unwrap_or(&self.info.name)
    }

    /// Takes the place of the one that it replaces. Its states stay where they are.
    pub fn succeed(&mut self, old: &Rollup) {
        self.rename(old.info.name.clone());
        self.replaces = None;
        self.keep = old.keep;
        self.paused = old.paused;
    }

    /// Under its own name again, as before [`Rollup::succeed`].
    pub fn step_back(&mut self) {
        self.replaces = Some(self.info.name.clone());
        self.rename(self.key.table.to_string());
    }

    fn rename(&mut self, name: String) {
        self.info = Arc::new(RollupInfo { name, ..(*self.info).clone() });
    }

    /// As the manifest remembers it: what is computed is what is in blocks.
    pub fn restore(&mut self, entry: &RollupEntry) {
        self.stored = entry.computed.iter().map(|range| TimeRange::from(*range)).collect();
        self.computed = self.stored.clone();
        self.keep = entry.keep;
        self.paused = entry.paused;
        self.replaces.clone_from(&entry.replaces);
        self.rename(entry.name.clone());
        self.info = Arc::new(RollupInfo { follows: entry.follows.clone(), ..(*self.info).clone() });
        self.key.table = entry.states.as_deref().unwrap_or(&entry.name).into();
        self.sealed_until = entry.sealed_until.unwrap_or(Time::MIN);
        self.begins = entry.begins.unwrap_or_else(|| {
            // Written by a program that did not say so: it knows what it has, and perhaps nothing before.
            let first = self.computed.hull().map_or(self.sealed_until, |hull| hull.start);
            entry.sealed_until.map_or(Time::MIN, |sealed| first.min(sealed))
        });
        for range in &entry.dirty {
            self.dirty.mark_range((*range).into(), 0);
        }
        for DirtyGroups { bucket, groups } in &entry.dirty_groups {
            for group in groups {
                let tags = TagSet::new(group.iter().map(|(tag, value)| (tag.as_str(), value.as_str())));
                self.dirty.mark_group(*bucket, tags, 0, usize::MAX);
            }
        }
    }

    /// What the manifest must remember: states in memory may be gone after a crash, so what they replace in blocks is
    /// dirty, and what only they cover is not computed. `storing` is the layer that the same commit names blocks for, and
    /// `folded` the buckets that it names blocks with late points for.
    pub fn entry(&self, storing: Option<(&Arc<Layer>, &RangeSet)>, folded: Option<&RangeSet>) -> RollupEntry {
        let mut stored = folded.map_or_else(|| self.stored.clone(), |folded| self.stored.union(folded));
        if let Some((_, computed)) = storing {
            stored = stored.union(&computed.intersect(&self.computed));
        }
        let mut dirty = self.dirty.clone();
        let is_stored = |layer: &Arc<Layer>| storing.is_some_and(|(storing, _)| Arc::ptr_eq(storing, layer));
        for layer in self.layers.iter().filter(|layer| !is_stored(layer)) {
            for (group, run) in &layer.runs {
                for bucket in run.starts.iter().filter(|start| stored.contains(**start)) {
                    dirty.mark_group(*bucket, group.clone(), 0, usize::MAX);
                }
            }
        }
        let (ranges, groups) = dirty.within(&stored);
        let pairs =
            |tags: &TagSet| tags.iter().map(|(tag, value)| (tag.to_string(), value.to_string())).collect();
        RollupEntry {
            database: self.database.to_string(),
            name: self.info.name.clone(),
            definition: self.info.definition.clone(),
            computed: stored.ranges().iter().map(|range| (*range).into()).collect(),
            dirty: ranges.ranges().iter().map(|range| (*range).into()).collect(),
            dirty_groups: groups
                .into_iter()
                .map(|(bucket, groups)| DirtyGroups { bucket, groups: groups.iter().map(pairs).collect() })
                .collect(),
            keep: self.keep,
            sealed_until: Some(self.sealed_until).filter(|sealed| *sealed > Time::MIN),
            begins: Some(self.begins).filter(|begins| self.sealed_until.max(*begins) > Time::MIN),
            paused: self.paused,
            states: Some(self.key.table.to_string()).filter(|states| *states != self.info.name),
            replaces: self.replaces.clone(),
            follows: self.info.follows.clone(),
        }
    }

    /// Lets go of what it knows of series that were forgotten, by the number of their table.
    pub fn forget(&mut self, registry: &Registry, gone: &HashMap<u32, RoaringBitmap>) {
        let table = registry.table(&self.database, &self.info.table);
        if let Some(gone) = table.and_then(|table| gone.get(&table.id)) {
            self.groups.retain(|series, _| !gone.contains(*series));
        }
    }

    pub fn computed(&self) -> &RangeSet {
        &self.computed
    }

    /// The states of these buckets are lost. Those whose points are there are computed again; dirty, and not only absent,
    /// so that groups that have gone meanwhile are said to, because older states of them may still be there. Sealed ones
    /// are gone for good.
    pub fn lose(&mut self, range: TimeRange, seq: u64) {
        let whole = self.info.window.outward(range);
        let sealed = whole.intersect(TimeRange::new(Time::MIN, self.sealed_until));
        if self.computed.overlaps(sealed) {
            // Late points would make buckets of themselves alone.
            self.begins = self.begins.max(sealed.end);
        }
        self.computed.remove(sealed);
        self.stored.remove(sealed);
        self.mark_range(whole, seq);
    }

    pub fn dirty_count(&self) -> u64 {
        self.dirty.count(&self.computed)
    }

    /// Computed buckets inside a range, and how many of them are dirty.
    pub fn coverage(&self, range: TimeRange) -> (u64, u64) {
        let inside = self.info.window.whole(&RangeSet::from(range).intersect(&self.computed));
        (self.info.window.count(&inside), self.dirty.count(&inside))
    }

    /// Whether nothing is left to compute.
    pub fn is_done(&self, due: &Due) -> bool {
        let (missing, dirty) = self.pending(due);
        missing.is_empty() && dirty.is_empty() && self.registered.is_none()
    }

    /// Buckets with states, dirty or not.
    pub fn computed_buckets(&self) -> u64 {
        self.info.window.count(&self.computed)
    }

    /// Buckets that are over and have no states yet.
    pub fn missing_buckets(&self, due: &Due) -> u64 {
        self.info.window.count(&self.pending(due).0)
    }

    pub fn is_over(&self, table: &Table) -> bool {
        *self.database == *table.database && self.info.table == *table.name
    }

    pub fn bucket(&self, time: Time) -> Time {
        self.info.window.start_of(time)
    }

    /// Its columns in a block, in order.
    pub fn state_columns(&self) -> Vec<Field> {
        (0..self.keys.len()).flat_map(|place| self.columns_of(place)).collect()
    }

    /// The columns of the state at a place.
    fn columns_of(&self, place: usize) -> Vec<Field> {
        let field = self.info.states[place].field.as_ref().map(|field| field.name.as_str());
        block_fields(self.keys[place], field.unwrap_or_default())
            .expect("bug: a rollup of states that are never stored")
    }

    /// A partition of a rollup holds at least some hundred buckets, or a rollup of days would be a file per row.
    pub fn partition_width(&self) -> i64 {
        const DAY: i64 = 86_400 * NANOS_PER_SECOND;
        const BUCKETS_MIN: i64 = 500;
        let widths = [DAY, 30 * DAY, 360 * DAY, 3_600 * DAY];
        let fits = |width: &&i64| **width / self.info.window.width() >= BUCKETS_MIN;
        // A step that does not divide the width would split a bucket's row from its partition; the start decides.
        widths.iter().find(fits).copied().unwrap_or(3_600 * DAY)
    }

    fn mark(&mut self, part: &BatchPart, seq: u64, groups_max: usize) {
        // The common case: points newer than everything computed.
        let newest = self.computed.hull().map_or(Time::MIN, |hull| hull.end);
        let (registered, sealed, open) = (self.registered, self.sealed_until, self.open.covered());
        let in_buckets = |computed: &RangeSet, time: Time| {
            registered.is_some_and(|range| range.contains(time)) || (time < newest && computed.contains(time))
        };
        let matters =
            |time: Time| time >= sealed && (in_buckets(&self.computed, time) || open.contains(time));
        let rows: Vec<(u32, Time)> = part
            .points
            .rows
            .iter()
            .filter(|row| matters(row.time))
            .map(|row| (row.series, row.time))
            .collect();
        for (series, time) in rows {
            let group = self.groups.entry(series).or_insert_with(|| {
                let tags = part.table.series_tags(series);
                self.filter.passes(&tags).then(|| Groups::key(&tags, self.by.as_deref()))
            });
            let Some(group) = group else { continue };
            if open.contains(time) {
                self.open.mark(time, group, seq, groups_max);
            }
            if in_buckets(&self.computed, time) {
                let bucket = self.info.window.start_of(time);
                self.dirty.mark_group(bucket, group.clone(), seq, groups_max);
            }
        }
    }

    /// Marks every bucket that a change in the range may have touched.
    pub fn mark_range(&mut self, range: TimeRange, seq: u64) {
        if self.open.covered().overlaps(range) {
            self.open.forget();
        }
        let touched = self.computed.ranges().iter().copied().chain(self.registered);
        let whole = |part: TimeRange| self.info.window.outward(part);
        let range = range.intersect(TimeRange::new(self.sealed_until, Time::MAX));
        let parts: Vec<TimeRange> =
            touched.map(|own| own.intersect(range)).filter(|part| !part.is_empty()).map(whole).collect();
        for part in parts {
            self.dirty.mark_range(part, seq);
        }
    }

    /// Buckets that begin before this are never computed again.
    pub fn sealed_until(&self) -> Time {
        self.sealed_until
    }

    /// Points before this are not, or soon no longer, there. What has no states by now will have none.
    pub fn seal(&mut self, before: Time) {
        if before > self.sealed_until {
            self.sealed_until = self.info.window.ceil(before);
        }
    }

    /// For a new one: what lies before this is there no longer, but for what its parent, if it has one, has of it. The bucket
    /// in which it lies is made of what is left, and goes on to take points.
    pub fn begin(&mut self, gone_before: Time, parent: Option<&Rollup>) {
        if gone_before > Time::MIN {
            self.sealed_until = self.sealed_until.max(self.bucket(gone_before));
            self.begins = self.info.window.ceil(gone_before);
        }
        if let Some(parent) = parent {
            self.begins = parent.begins;
        }
    }

    /// The first bucket that reads find.
    pub fn visible_from(&self, now: Time) -> Time {
        let expired = self.keep.and_then(|keep| keep.expired_before(now));
        expired.map_or(Time::MIN, |expired| self.bucket(expired))
    }

    /// Whether all that can be computed within the asked times is computed, clean and in blocks.
    pub fn is_settled(&self, due: &Due) -> bool {
        let (missing, dirty) = self.pending(due);
        let inside = self.computed.intersect(&due.within.into());
        let in_memory = |layer: &Arc<Layer>| {
            layer.runs.values().any(|run| run.starts.iter().any(|start| due.within.contains(*start)))
        };
        missing.is_empty()
            && dirty.is_empty()
            && self.registered.is_none_or(|range| !range.overlaps(due.within))
            && inside.minus(&self.stored).is_empty()
            && !self.layers.iter().any(in_memory)
    }

    /// Forgets what was computed before a time.
    pub fn expire(&mut self, before: Time) {
        let gone = TimeRange::new(Time::MIN, before);
        self.computed = self.computed.minus(&gone.into());
        self.stored = self.stored.minus(&gone.into());
        self.dirty.clear(gone, u64::MAX);
        self.begins = self.begins.max(before);
    }

    /// States that no block holds yet.
    pub fn unstored_buckets(&self) -> usize {
        self.layers.iter().map(|layer| layer.buckets()).sum()
    }

    /// Takes the states in memory for writing; they stay readable. None if there are none, or some are being written.
    pub fn freeze(&mut self) -> Option<(Arc<Layer>, RangeSet)> {
        let [layer] = self.layers.as_slice() else { return None };
        let layer = Arc::clone(layer);
        self.layers.push(Arc::default());
        Some((layer, self.computed.clone()))
    }

    /// Undoes [`Rollup::freeze`] after a failed write.
    pub fn thaw(&mut self) {
        let mut merged = Layer::default();
        for layer in std::mem::take(&mut self.layers) {
            merged.put(layer.runs.clone());
        }
        self.layers = if merged.runs.is_empty() { Vec::new() } else { vec![Arc::new(merged)] };
    }

    /// The frozen states are in committed blocks now.
    pub fn stored(&mut self, frozen: &Arc<Layer>, computed: &RangeSet) {
        self.layers.retain(|layer| !Arc::ptr_eq(layer, frozen) && !layer.runs.is_empty());
        // What was computed when they were taken; a drop and re-creation in between starts from nothing.
        self.stored = self.stored.union(&computed.intersect(&self.computed));
    }
}
