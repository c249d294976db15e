//! The running states of the bucket that is not over yet: they stand for its points up to a moment shortly before now, and
//! are extended while time passes. A read takes them, and looks only at the points that came since.
//!
//! They cost the writers nothing but a comparison of times, because points are taken in behind them, by the refresh.
//! Invariant: a point in the covered range, or in a range that a step has registered, whose effect is not in the states
//! has marked its group dirty before its write was acknowledged. They live in memory only: after a restart they are
//! computed again.
//! Not here: buckets that are over (`refresh`), and the reads (`read`).

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use query_lang::plan::Window;
use storage_format::point::{NANOS_PER_SECOND, TagSet, Time, TimeRange, floor_time};

use crate::rollup::Layer;
use crate::rollup::read::DirtyPairs;
use crate::rollup::refresh::Runs;

/// How far behind now the states stay: senders gather points for some seconds, and what comes behind them costs more.
const LAG: i64 = 20 * NANOS_PER_SECOND;

/// Of a shorter bucket the points are read as fast as states.
const WIDTH_MIN: i64 = 600 * NANOS_PER_SECOND;

/// The states are extended by at least this share of a bucket, and by at most that one in one step.
const EXTEND_MIN_SHARE: i64 = 360;
const EXTEND_MAX_SHARE: i64 = 24;

#[derive(Default)]
pub struct Open {
    known: Option<Known>,
    /// A step computes something right now.
    step: Option<Step>,
}

struct Known {
    /// From the start of the bucket to where the points have come in.
    range: TimeRange,
    states: Arc<Layer>,
    /// Groups whose states are old, with the sequence of the write that made them so last.
    dirty: HashMap<TagSet, u64>,
}

struct Step {
    /// What the states are extended by. Empty if dirty groups are computed again.
    range: TimeRange,
    /// Groups that were written to in `range` since the step was registered.
    dirty: HashMap<TagSet, u64>,
}

/// What a step computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenWork {
    /// All groups, of points that the states do not stand for yet.
    Extend(TimeRange),
    /// These groups again, over all that the states stand for.
    Mend(TimeRange, HashSet<TagSet>),
}

/// The states as a read takes them.
pub struct Running {
    pub range: TimeRange,
    pub states: Arc<Layer>,
    pub dirty: HashSet<TagSet>,
}

impl Running {
    pub fn dirty_pairs(&self) -> DirtyPairs {
        let has_some = !self.dirty.is_empty();
        has_some.then(|| (self.range.start, self.dirty.clone())).into_iter().collect()
    }
}

impl Open {
    /// Chooses and registers the next step, if there is something to do. `data` are the times that have points.
    pub fn next_work(&mut self, window: &Window, now: Time, data: TimeRange) -> Option<OpenWork> {
        let bucket = window.bucket(now);
        let width = bucket.end.saturating_sub(bucket.start);
        let until = floor_time(now.saturating_sub(LAG), NANOS_PER_SECOND, 0);
        if self.known.as_ref().is_some_and(|known| known.range.start != bucket.start) {
            self.known = None;
        }
        if width < WIDTH_MIN || until <= bucket.start || !data.overlaps(bucket) {
            return None;
        }
        let known = self.known.get_or_insert_with(|| Known {
            range: TimeRange::new(bucket.start, bucket.start),
            states: Arc::default(),
            dirty: HashMap::new(),
        });
        let work = if known.dirty.is_empty() {
            let end = until.min(known.range.end.saturating_add(width / EXTEND_MAX_SHARE));
            if until.saturating_sub(known.range.end) < width / EXTEND_MIN_SHARE {
                return None;
            }
            OpenWork::Extend(TimeRange::new(known.range.end, end))
        } else {
            OpenWork::Mend(known.range, known.dirty.keys().cloned().collect())
        };
        let range = match &work {
            OpenWork::Extend(range) => *range,
            OpenWork::Mend(..) => TimeRange::new(0, 0),
        };
        self.step = Some(Step { range, dirty: HashMap::new() });
        Some(work)
    }

    /// The states that a step computed at a sequence.
    pub fn finish(&mut self, work: &OpenWork, seq: u64, runs: Runs) {
        let step = self.step.take();
        // Forgotten meanwhile, states and step.
        let (Some(known), Some(step)) = (&mut self.known, step) else { return };
        let states = Arc::make_mut(&mut known.states);
        match work {
            OpenWork::Extend(range) => {
                for (group, run) in runs {
                    match states.runs.get_mut(&group) {
                        Some(states) => Arc::make_mut(states).merge(&run),
                        None => drop(states.runs.insert(group, run)),
                    }
                }
                known.range.end = range.end;
            }
            OpenWork::Mend(_, groups) => {
                known.dirty.retain(|group, marked| *marked > seq || !groups.contains(group));
                states.runs.retain(|group, _| !groups.contains(group));
                states.runs.extend(runs);
            }
        }
        known.dirty.extend(step.dirty.into_iter().filter(|(_, marked)| *marked > seq));
    }

    pub fn abandon(&mut self) {
        self.step = None;
    }

    /// All is to be computed again.
    pub fn forget(&mut self) {
        *self = Open::default();
    }

    /// What is computed, or is being computed.
    pub fn covered(&self) -> TimeRange {
        let known = self.known.as_ref().map(|known| known.range);
        let step = self.step.as_ref().map(|step| step.range).filter(|range| !range.is_empty());
        known.into_iter().chain(step).reduce(TimeRange::hull).unwrap_or(TimeRange::new(0, 0))
    }

    /// A write to a group at a time that is covered. With more than `groups_max` dirty groups all is forgotten.
    pub fn mark(&mut self, time: Time, group: &TagSet, seq: u64, groups_max: usize) {
        let in_step = self.step.as_mut().filter(|step| step.range.contains(time)).map(|step| &mut step.dirty);
        let in_known = self.known.as_mut().filter(|known| known.range.contains(time));
        let Some(dirty) = in_step.or(in_known.map(|known| &mut known.dirty)) else { return };
        dirty.insert(group.clone(), seq);
        if dirty.len() > groups_max {
            self.forget();
        }
    }

    pub fn running(&self) -> Option<Running> {
        let known = self.known.as_ref().filter(|known| !known.range.is_empty())?;
        Some(Running {
            range: known.range,
            states: Arc::clone(&known.states),
            dirty: known.dirty.keys().cloned().collect(),
        })
    }
}
