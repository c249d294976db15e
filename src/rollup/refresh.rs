//! Computing a rollup's states again, in bounded steps, newest first.
//!
//! A step registers its range, so that writes into it mark dirty from then on; takes its view at a sequence S; computes;
//! and then clears only what was dirty at or before S. A crash anywhere repeats the step: nothing says "computed" before
//! the states are there.
//! Not here: when to take a step (`jobs`), states to blocks (`flush`).

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use storage_format::point::{TagSet, Time, TimeRange};
use storage_format::ranges::RangeSet;
use storage_format::state::{StateColumn, StateKey, StateRun};

use crate::error::Result;
use crate::guard::Guard;
use crate::query::Groups;
use crate::query::StatePlan;
use crate::rollup::Access;
use crate::rollup::Rollup;
use crate::rollup::Rollups;
use crate::rollup::Visible;
use crate::rollup::open::OpenWork;
use crate::rollup::read::{DirtyPairs, buckets_of, definition_of, points_of_pairs, run_of_pairs};
use crate::rollup::stored::StoredStates;
use crate::scan::Captured;
use crate::scan::Touched;
use crate::scan::View;
use crate::series::{CompiledFilter, Table};

/// A registered step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    pub database: Arc<str>,
    pub rollup: String,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// Buckets that are over.
    Buckets(TimeRange),
    /// The one that is not.
    Open(OpenWork),
}

/// What is asked of a refresh.
#[derive(Clone, Debug)]
pub struct Due {
    /// Buckets that end after this are still open.
    pub now: Time,
    /// Where there are points.
    pub data: RangeSet,
    /// Only these times.
    pub within: TimeRange,
    /// About how many states a step may compute.
    pub states_max: usize,
}

/// A step with all it needs, taken under the lock; to be run without it.
pub struct Refresh {
    pub seq: u64,
    keys: Vec<StateKey>,
    info: Arc<query_lang::catalog::RollupInfo>,
    how: How,
}

enum How {
    /// All groups of the range. `before` are the states there until now, if any: groups that have gone must be said to.
    Whole { access: Box<Access>, before: Option<StoredStates> },
    /// Single groups of single buckets; the rest is clean.
    Pairs { pairs: DirtyPairs, points: Option<Captured> },
}

/// New states, by group.
pub type Runs = HashMap<TagSet, Arc<StateRun>>;

impl Rollup {
    /// The ranges that have no states, and the dirty ones, as far as they are due.
    pub fn pending(&self, due: &Due) -> (RangeSet, RangeSet) {
        let window = &self.info.window;
        let over = TimeRange::new(Time::MIN, self.bucket(due.now));
        let with_points: RangeSet =
            due.data.ranges().iter().map(|range| window.outward(*range).intersect(over)).collect();
        let kept = TimeRange::new(self.visible_from(due.now), Time::MAX);
        let within = window.whole(&RangeSet::from(due.within.intersect(kept)));
        let missing = with_points.intersect(&within).minus(&self.computed);
        (missing, self.dirty.spans(&self.computed.intersect(&within)))
    }

    /// Chooses and registers the next step: the newest of what is missing or dirty. None if there is nothing to do.
    pub fn next_work(&mut self, due: &Due, groups: usize) -> Option<Work> {
        let (missing, dirty) = self.pending(due);
        let newest = |set: &RangeSet| set.ranges().last().copied();
        let range = match (newest(&missing), newest(&dirty)) {
            (Some(missing), Some(dirty)) if dirty.end > missing.end => dirty,
            (Some(missing), _) => missing,
            (None, dirty) => dirty?,
        };
        let buckets = (due.states_max / groups.max(1)).max(1) as i64;
        let start = range.end.saturating_sub(self.info.window.width().saturating_mul(buckets));
        // Where that saturated, and where buckets are of unequal length, it is no edge of a bucket.
        let start =
            self.info.window.ceil(start).min(self.bucket(range.end.saturating_sub(1))).max(range.start);
        let range = TimeRange::new(start, range.end);
        self.registered = Some(range);
        Some(self.work(What::Buckets(range)))
    }

    /// The same for the states of the bucket that is not over yet.
    pub fn next_open_work(&mut self, due: &Due) -> Option<Work> {
        // What was computed while clocks said something else is as good as ever, and stored.
        let bucket = self.info.window.bucket(due.now);
        let is_known = self.computed.overlaps(bucket) || bucket.start < self.sealed_until;
        let data = due.data.hull().filter(|_| !is_known)?;
        let work = self.open.next_work(&self.info.window, due.now, data)?;
        Some(self.work(What::Open(work)))
    }

    fn work(&self, what: What) -> Work {
        Work { database: Arc::clone(&self.database), rollup: self.info.name.clone(), what }
    }

    /// The step's states replace what was there; marks up to `seq` are cleared. Returns how many buckets are done by it; None
    /// if it was about one that is not over.
    pub fn finish(&mut self, work: &Work, seq: u64, runs: Runs) -> Option<u64> {
        self.last_error = None;
        let range = match &work.what {
            What::Buckets(range) => *range,
            What::Open(work) => {
                self.open.finish(work, seq, runs);
                return None;
            }
        };
        self.registered = None;
        self.dirty.clear(range, seq);
        self.computed.insert(range);
        if self.open.covered().overlaps(range) {
            self.open.forget();
        }
        if !runs.is_empty() {
            if self.layers.is_empty() {
                self.layers.push(Arc::default());
            }
            let newest = self.layers.last_mut().expect("pushed above");
            Arc::make_mut(newest).put(runs);
        }
        Some(self.info.window.count(&range.into()))
    }

    pub fn abandon(&mut self, error: String) {
        self.registered = None;
        self.open.abandon();
        self.last_error = Some(error);
    }
}

impl Refresh {
    pub fn capture(
        view: &View<'_>,
        rollups: &Rollups,
        table: &Arc<Table>,
        work: &Work,
    ) -> Result<Option<Refresh>> {
        let Some(rollup) = rollups.get(&work.database, &work.rollup) else { return Ok(None) };
        let info = Arc::clone(&rollup.info);
        let of_pairs = |pairs: DirtyPairs, ranges: RangeSet| -> Result<How> {
            Ok(How::Pairs { points: points_of_pairs(view, rollup, table, &pairs, ranges)?, pairs })
        };
        let range = match &work.what {
            What::Buckets(range) | What::Open(OpenWork::Extend(range) | OpenWork::Mend(range, _)) => {
                RangeSet::from(*range)
            }
        };
        let (whole, pairs) = rollup.dirty.within(&range);
        let known = rollup.computed.intersect(&range) == range;
        let how = if let What::Open(OpenWork::Mend(range, groups)) = &work.what {
            of_pairs(DirtyPairs::from([(range.start, groups.clone())]), RangeSet::from(*range))?
        } else if known && whole.is_empty() {
            let pairs: DirtyPairs =
                pairs.into_iter().map(|(bucket, groups)| (bucket, groups.into_iter().collect())).collect();
            let ranges = buckets_of(&info, &pairs);
            of_pairs(pairs, ranges)?
        } else {
            let infos: Vec<_> = rollups
                .shown()
                .filter(|other| other.database == rollup.database)
                .map(|other| (*other.info).clone())
                .collect();
            let plan = definition_of(&info, &infos);
            let own = Some(info.name.as_str());
            let states = StatePlan::of_rollup(&info)?;
            let access = Access::capture(
                view,
                rollups,
                table,
                range.clone(),
                &info.filter,
                &plan,
                states,
                own,
                Visible::ALL,
            )?;
            let computed_before = rollup.computed.intersect(&range);
            // Points are always the first state, and tell which buckets there are.
            let before = (!computed_before.is_empty())
                .then(|| StoredStates::capture(view, rollup, CompiledFilter::All, computed_before, vec![0]));
            How::Whole { access: Box::new(access), before }
        };
        Ok(Some(Refresh { seq: view.seq, keys: rollup.keys.clone(), info, how }))
    }

    pub fn run(self, guard: &Guard) -> Result<Runs> {
        let touched = Touched::default();
        let mut missing: Vec<(TagSet, BTreeSet<Time>)> = Vec::new();
        let groups: Groups = match self.how {
            How::Pairs { pairs, points } => {
                let groups = match points {
                    Some(points) => run_of_pairs(points, &self.info, &pairs, guard, &touched)?,
                    None => Groups::default(),
                };
                let mut starts: HashMap<TagSet, BTreeSet<Time>> = HashMap::new();
                for (bucket, of_bucket) in pairs {
                    of_bucket.into_iter().for_each(|group| {
                        starts.entry(group).or_default().insert(bucket);
                    });
                }
                missing.extend(starts);
                groups
            }
            How::Whole { access, before } => {
                if let Some(before) = before {
                    before.for_each(guard, |group, run| {
                        missing.push((group.clone(), live_starts(&run)));
                        Ok(())
                    })?;
                }
                access.states(guard, &touched)?.0
            }
        };
        let mut runs: Runs = groups.into_runs().map(|(group, run)| (group, Arc::new(run))).collect();
        for (group, starts) in missing {
            let run = runs.entry(group).or_insert_with(|| Arc::new(StateRun::new(&self.keys)));
            let mut gone = StateRun::new(&self.keys);
            for start in starts.into_iter().filter(|start| run.starts.binary_search(start).is_err()) {
                gone.push_bucket(start);
            }
            Arc::make_mut(run).merge(&gone);
        }
        Ok(runs)
    }
}

/// The buckets that hold points. Points are always the first state.
pub fn live_starts(run: &StateRun) -> BTreeSet<Time> {
    match run.columns.first() {
        Some(StateColumn::Points(counts)) => {
            let live = run.starts.iter().zip(counts).filter(|(_, count)| **count > 0);
            live.map(|(start, _)| *start).collect()
        }
        _ => run.starts.iter().copied().collect(),
    }
}
