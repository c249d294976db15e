//! Late points into the states that a rollup has of their time.
//!
//! Invariant: what comes out are whole states, those that were stored and the late points together, of exactly the groups and
//! buckets that late points fall into. Merging is exact, so a state is as if its late points had come in time.
//! Not here: that each point is folded once (`db`).

use std::sync::Arc;

use query_lang::catalog::RollupInfo;
use query_lang::plan::TagFilter;
use storage_format::point::{TagSet, Time, TimeRange};
use storage_format::ranges::RangeSet;
use storage_format::state::StateKind;

use crate::error::Result;
use crate::guard::Guard;
use crate::query::{StatePlan, aggregate};
use crate::rollup::read::{LatePoints, columns_of, filter_of_groups};
use crate::rollup::stored::StoredStates;
use crate::rollup::{Rollup, Runs};
use crate::scan::{Captured, Extent, Touched, View};
use crate::series::{CompiledFilter, Table};

/// The late points of one rollup, taken under the lock; to be computed without it.
pub struct Fold {
    info: Arc<RollupInfo>,
    points: Captured,
    times: TimeRange,
}

/// The states of late points alone.
pub struct LateStates(Runs);

impl Rollup {
    /// What lies before this the rollup does not know: its points or its states had gone by then. It takes no late points of
    /// it, because a bucket would tell of them alone.
    pub fn begins(&self) -> Time {
        self.begins
    }

    /// The state that cannot take a late point, because it is made of a series in the order of its times.
    pub fn untimely_state(&self) -> Option<StateKind> {
        self.keys.iter().map(|key| key.kind).find(|kind| kind.is_of_one_series())
    }

    /// The states of these buckets are in blocks, late points included.
    pub fn folded(&mut self, buckets: &RangeSet) {
        self.computed = self.computed.union(buckets);
        self.stored = self.stored.union(buckets);
    }
}

impl Fold {
    /// None if the rollup takes none of the points.
    pub fn capture(late: &LatePoints<'_>, rollup: &Rollup, table: &Arc<Table>) -> Result<Option<Fold>> {
        let range = late.times.intersect(TimeRange::new(rollup.begins, Time::MAX));
        if range.is_empty() || rollup.untimely_state().is_some() {
            return Ok(None);
        }
        let info = Arc::clone(&rollup.info);
        let columns = columns_of(table, &StatePlan::of_rollup(&info)?.fields);
        let points =
            Captured::points(&late.view, table, &rollup.filter, range.into(), &columns, Extent::All)?;
        Ok(Some(Fold { info, points, times: range }))
    }

    /// Where its points are.
    pub fn times(&self) -> TimeRange {
        self.times
    }

    /// Two parts of these times that share no bucket. None if they are of one bucket.
    pub fn halves(&self, times: TimeRange) -> Option<[TimeRange; 2]> {
        let middle = i64::midpoint(times.start, times.end);
        let bucket = self.info.window.bucket(middle);
        let edge =
            [bucket.start, bucket.end].into_iter().find(|edge| times.start < *edge && *edge < times.end)?;
        Some([TimeRange::new(times.start, edge), TimeRange::new(edge, times.end)])
    }

    /// The states of the points in these times, which end where a bucket does.
    pub fn run(&self, times: TimeRange, guard: &Guard) -> Result<LateStates> {
        let plan = StatePlan::of_rollup(&self.info)?;
        let points = self.points.clone().within(&times.into()).open_within(guard)?;
        let groups = aggregate(&points, &plan, self.info.groups(), guard, &Touched::default(), None)?;
        Ok(LateStates(groups.into_runs().map(|(group, run)| (group, Arc::new(run))).collect()))
    }
}

impl LateStates {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn buckets(&self, info: &RollupInfo) -> RangeSet {
        let starts = self.0.values().flat_map(|run| run.starts.iter());
        starts.map(|start| info.window.bucket(*start)).collect()
    }

    /// What the rollup has of the same buckets, and perhaps of other groups.
    pub fn stored(&self, view: &View<'_>, rollup: &Rollup) -> Result<StoredStates> {
        let groups: Vec<&TagSet> = self.0.keys().collect();
        let named = filter_of_groups(&groups, rollup.by.as_deref());
        let filter = CompiledFilter::new(&named.unwrap_or(TagFilter::All))?;
        let all = (0..rollup.keys.len()).collect();
        Ok(StoredStates::capture(view, rollup, filter, self.buckets(&rollup.info), all))
    }

    pub fn merged(self, stored: StoredStates, guard: &Guard) -> Result<Runs> {
        let LateStates(mut runs) = self;
        stored.for_each(guard, |group, mut run| {
            if let Some(late) = runs.get_mut(group) {
                run.retain(|start| late.starts.binary_search(&start).is_ok());
                Arc::make_mut(late).merge(&run);
            }
            Ok(())
        })?;
        Ok(runs)
    }
}
