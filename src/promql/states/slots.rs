//! Where the windows of a range vector cut the time axis, and which slots each of them is made of.
//!
//! A window is open on the left and closed on the right, a bucket of a rollup the other way round. So the bucket that starts where
//! a window begins would be parted after its first instant, and with it each bucket at an edge. It is not: it becomes a slot of
//! its own, and of a sample at its very start (its state `first` tells) is known that it belongs to the window before.
//! Invariant: slots ascend and do not overlap; a window is whole slots, but for such samples at its two ends.

use std::sync::Arc;

use hashbrown::HashSet;
use storage_format::point::{Time, TimeRange};
use storage_format::ranges::RangeSet;

use crate::promql::window::Windows;

/// More steps than a client may ask for. Of a subquery there can be any number.
const STEPS_MAX: usize = 20_000;

/// The part of the windows that may have to be looked at in points is at most one in so many.
const RESTS_SHARE: i128 = 4;

pub struct Slots {
    /// The starts of the slots, those of gaps between windows included.
    pub edges: Arc<[Time]>,
    cuts: Vec<Cut>,
    /// Of each step: the numbers of the cuts where its window begins and ends.
    windows: Vec<(usize, usize)>,
}

/// Where a window ends and another may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The start of the first slot after it.
    pub slot: Time,
    /// The first time that is after it: later than `slot` if that is the slot of a bucket.
    pub from: Time,
    /// The end of that bucket.
    pub end: Time,
}

/// Of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotWindow {
    pub begin: Cut,
    pub end: Cut,
}

impl Cut {
    /// Whether it lies in a bucket, after the bucket's first instant.
    pub fn is_in_bucket(self) -> bool {
        self.slot < self.from
    }

    /// The part of its bucket that is after it.
    pub fn rest(self) -> TimeRange {
        TimeRange::new(self.from, self.end)
    }
}

impl Slots {
    /// `instant` is the time between one possible sample and the next. `bucket` tells where a bucket ends that starts at a time; none
    /// if there is no such bucket whose end is at the second time or before. None of windows near the ends of time, and of too many.
    pub fn new(
        windows: &Windows,
        instant: i64,
        bucket: impl Fn(Time, Time) -> Option<Time>,
    ) -> Option<Slots> {
        if windows.steps.count > STEPS_MAX {
            return None;
        }
        let nanos = |milliseconds: i64| milliseconds.checked_mul(1_000_000);
        let mut ends = Vec::with_capacity(windows.steps.count);
        for step in windows.steps.times() {
            let end = windows.end(step);
            ends.push((nanos(end.checked_sub(windows.length)?)?, nanos(end)?));
        }
        let mut times: Vec<Time> = ends.iter().flat_map(|(from, to)| [*from, *to]).collect();
        times.sort_unstable();
        times.dedup();
        let cut = |number: usize| {
            let (time, next) = (times[number], times.get(number + 1).copied().unwrap_or(Time::MAX));
            let from = time.checked_add(instant)?;
            Some(match bucket(time, next) {
                Some(end) => Cut { slot: time, from, end },
                None => Cut { slot: from, from, end: from },
            })
        };
        let cuts = (0..times.len()).map(cut).collect::<Option<Vec<Cut>>>()?;
        let mut edges: Vec<Time> = cuts.iter().flat_map(|cut| [cut.slot, cut.end]).collect();
        edges.dedup();
        let number = |time: &Time| times.binary_search(time).expect("each of them is among the times");
        let windows = ends.iter().map(|(from, to)| (number(from), number(to))).collect();
        Some(Slots { edges: edges.into(), cuts, windows })
    }

    /// Whether any of them is a bucket that a cut lies in.
    pub fn has_buckets(&self) -> bool {
        self.cuts.iter().any(|cut| cut.is_in_bucket())
    }

    /// By step.
    pub fn windows(&self) -> impl Iterator<Item = SlotWindow> {
        self.windows.iter().map(|(from, to)| SlotWindow { begin: self.cuts[*from], end: self.cuts[*to] })
    }

    /// What the windows are made of.
    pub fn wanted(&self) -> RangeSet {
        self.windows().map(|window| TimeRange::new(window.begin.slot, window.end.end)).collect()
    }

    /// The start of the slot that a time lies in.
    pub fn slot_of(&self, time: Time) -> Time {
        self.edges[self.edges.partition_point(|edge| *edge <= time).saturating_sub(1)]
    }

    /// Whether the buckets of these slots are so large a part of the windows that all points may as well be read, which can be
    /// if none of them has expired.
    pub fn is_mostly(&self, slots: &HashSet<Time>, points: &RangeSet) -> bool {
        let first = self.windows().map(|window| window.begin.from).min();
        let is_visible = points.hull().zip(first).is_some_and(|(points, first)| points.start <= first);
        let length = |range: TimeRange| i128::from(range.end) - i128::from(range.start);
        let rests: i128 =
            slots.iter().filter_map(|slot| self.cut_at(*slot)).map(|cut| length(cut.rest())).sum();
        let all: i128 = self.wanted().ranges().iter().map(|range| length(*range)).sum();
        is_visible && rests > all / RESTS_SHARE
    }

    /// The cut whose slot starts at a time.
    pub fn cut_at(&self, slot: Time) -> Option<Cut> {
        self.cuts.binary_search_by_key(&slot, |cut| cut.slot).ok().map(|at| self.cuts[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::ast::Moved;
    use crate::promql::value::Steps;

    const MS: i64 = 1_000_000;

    fn slots(steps: Steps, length: i64, width: i64) -> Slots {
        let windows = Windows::new(steps, &Moved::default(), length, steps.start, steps.end());
        let bucket = |start: Time, before: Time| {
            let end = start + width * MS;
            (start % (width * MS) == 0 && end <= before).then_some(end)
        };
        Slots::new(&windows, 1, bucket).unwrap()
    }

    #[test]
    fn buckets_at_the_edges_of_windows_are_slots() {
        let slots = slots(Steps::range(60, 120, 60), 60, 10);
        assert_eq!(*slots.edges, [0, 10 * MS, 60 * MS, 70 * MS, 120 * MS, 130 * MS]);
        let windows: Vec<SlotWindow> = slots.windows().collect();
        assert_eq!(windows[0].end, windows[1].begin);
        assert!(windows[0].begin.is_in_bucket());
        assert_eq!(windows[1].begin.rest(), TimeRange::new(60 * MS + 1, 70 * MS));
        assert_eq!(slots.wanted(), TimeRange::new(0, 130 * MS).into());
        assert_eq!(slots.cut_at(60 * MS), Some(windows[1].begin));
    }

    #[test]
    fn elsewhere_they_are_cut_after_their_last_instant() {
        // The windows begin in the middle of buckets and end with them.
        let slots = slots(Steps::range(60, 120, 60), 35, 10);
        assert_eq!(*slots.edges, [25 * MS + 1, 60 * MS, 70 * MS, 85 * MS + 1, 120 * MS, 130 * MS]);
        assert!(slots.windows().all(|window| !window.begin.is_in_bucket()));
        let wanted = [TimeRange::new(25 * MS + 1, 70 * MS), TimeRange::new(85 * MS + 1, 130 * MS)];
        assert_eq!(slots.wanted(), wanted.into_iter().collect());
        // A bucket that reaches beyond the next edge is parted anyway.
        let wide = super::tests::slots(Steps::range(60, 120, 60), 60, 120);
        assert_eq!(*wide.edges, [1, 60 * MS + 1, 120 * MS, 240 * MS]);
    }
}
