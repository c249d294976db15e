//! The stored states of a range against those of its raw points.
//!
//! Invariant: equal means equal bits, as a block would hold them; what is dirty or not computed is not looked at, because
//! no read believes it.
//! Not here: going through all ranges (`db`).

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashSet;
use storage_format::point::{TagSet, Time, TimeRange};
use storage_format::ranges::RangeSet;
use storage_format::state::StateRun;

use crate::error::Result;
use crate::guard::Guard;
use crate::query::StatePlan;
use crate::rollup::read::{DirtyPairs, definition_of};
use crate::rollup::refresh::live_starts;
use crate::rollup::stored::StoredStates;
use crate::rollup::{Access, Rollup, Rollups, Visible};
use crate::scan::{Touched, View};
use crate::series::{CompiledFilter, Table};

/// A state that is stored otherwise than its points say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub bucket: Time,
    pub group: TagSet,
    pub what: &'static str,
}

pub struct Verify {
    stored: StoredStates,
    raw: Access,
    dirty: DirtyPairs,
}

impl Rollup {
    /// The whole buckets that reads take from stored states, but for single dirty groups, and whose points are there.
    pub fn clean(&self) -> RangeSet {
        let with_points = RangeSet::from(TimeRange::new(self.sealed_until, Time::MAX));
        let computed = self.computed.intersect(&with_points);
        let whole = self.info.window.whole(&computed);
        let (dirty, _) = self.dirty.within(&whole);
        whole.minus(&dirty)
    }
}

impl Verify {
    /// `range` is of whole clean buckets.
    pub fn capture(
        view: &View<'_>,
        rollups: &Rollups,
        rollup: &Rollup,
        table: &Arc<Table>,
        range: TimeRange,
    ) -> Result<Verify> {
        let info = &rollup.info;
        let range = RangeSet::from(range).intersect(&rollup.clean());
        let (_, pairs) = rollup.dirty.within(&range);
        let dirty = pairs.into_iter().map(|(bucket, groups)| (bucket, groups.into_iter().collect()));
        // Raw points alone, whatever other rollups could give.
        let plan = definition_of(info, &[]);
        let all = (0..rollup.keys.len()).collect();
        let states = StatePlan::of_rollup(info)?;
        Ok(Verify {
            stored: StoredStates::capture(view, rollup, CompiledFilter::All, range.clone(), all),
            raw: Access::capture(
                view,
                rollups,
                table,
                range,
                &info.filter,
                &plan,
                states,
                None,
                Visible::ALL,
            )?,
            dirty: dirty.collect(),
        })
    }

    /// How many states were compared, and those that differ, by bucket and group.
    pub fn run(self, guard: &Guard) -> Result<(u64, Vec<Difference>)> {
        let Verify { stored, raw, dirty } = self;
        let keys = stored.keys.clone();
        let compared = |group: &TagSet, mut run: StateRun| {
            let is_dirty = |start: Time| dirty.get(&start).is_some_and(|groups| groups.contains(group));
            // A bucket whose points are all gone stays as identities.
            let live = live_starts(&run);
            run.retain(|start| live.contains(&start) && !is_dirty(start));
            run
        };
        let touched = Touched::default();
        let mut expected: BTreeMap<TagSet, StateRun> = BTreeMap::new();
        for (group, run) in raw.states(guard, &touched)?.0.into_runs() {
            let run = compared(&group, run);
            expected.insert(group, run);
        }
        // A long group comes in slices.
        let mut found: BTreeMap<TagSet, StateRun> = BTreeMap::new();
        stored.for_each(guard, |group, run| {
            found.entry(group.clone()).or_insert_with(|| StateRun::new(&keys)).merge(&run);
            Ok(())
        })?;
        let (mut states, mut differences) = (0, Vec::new());
        for (group, run) in found {
            let run = compared(&group, run);
            let wanted = expected.remove(&group).unwrap_or_else(|| StateRun::new(&keys));
            states += run.len().max(wanted.len()) as u64;
            differences.extend(differing(&group, &run, &wanted));
        }
        for (group, wanted) in expected {
            states += wanted.len() as u64;
            differences.extend(differing(&group, &StateRun::new(&keys), &wanted));
        }
        differences.sort_by(|a, b| (a.bucket, &a.group).cmp(&(b.bucket, &b.group)));
        Ok((states, differences))
    }
}

fn differing(group: &TagSet, stored: &StateRun, wanted: &StateRun) -> Vec<Difference> {
    if stored.starts == wanted.starts && stored.to_arrow() == wanted.to_arrow() {
        return Vec::new();
    }
    let starts: std::collections::BTreeSet<Time> =
        stored.starts.iter().chain(&wanted.starts).copied().collect();
    let [in_stored, in_wanted]: [HashSet<Time>; 2] =
        [stored, wanted].map(|run| run.starts.iter().copied().collect());
    let difference = |bucket: Time| {
        let slot = TimeRange::new(bucket, bucket.saturating_add(1));
        let what = match (in_stored.contains(&bucket), in_wanted.contains(&bucket)) {
            (true, false) => "a state is stored where there are no points",
            (false, true) => "there are points without a stored state",
            _ if stored.slice(slot).to_arrow() == wanted.slice(slot).to_arrow() => return None,
            _ => "the stored state is not that of the points",
        };
        Some(Difference { bucket, group: group.clone(), what })
    };
    starts.into_iter().filter_map(difference).collect()
}
