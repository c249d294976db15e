//! Sets of times, as ranges.
//!
//! Invariant: the ranges ascend, none is empty, none touches the next.

use crate::point::{Time, TimeRange, ceil_time, floor_time};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    ranges: Vec<TimeRange>,
}

impl RangeSet {
    pub fn ranges(&self) -> &[TimeRange] {
        &self.ranges
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The smallest range that covers all of it.
    pub fn hull(&self) -> Option<TimeRange> {
        Some(TimeRange::new(self.ranges.first()?.start, self.ranges.last()?.end))
    }

    pub fn contains(&self, time: Time) -> bool {
        self.touching(TimeRange::new(time, time.saturating_add(1))).next().is_some()
    }

    pub fn overlaps(&self, range: TimeRange) -> bool {
        self.touching(range).next().is_some()
    }

    /// The ranges that overlap this one.
    pub fn touching(&self, range: TimeRange) -> impl Iterator<Item = TimeRange> {
        let from = self.ranges.partition_point(|own| own.end <= range.start);
        let rest = self.ranges.get(from..).unwrap_or_default();
        rest.iter().copied().take_while(move |own| own.start < range.end)
    }

    pub fn insert(&mut self, range: TimeRange) {
        if range.is_empty() {
            return;
        }
        // Those it touches, also end to end, become one with it.
        let from = self.ranges.partition_point(|own| own.end < range.start);
        let to = self.ranges.partition_point(|own| own.start <= range.end);
        let mut merged = range;
        if let Some(touched) = self.ranges.get(from..to) {
            merged.start = touched.first().map_or(range.start, |first| first.start.min(range.start));
            merged.end = touched.last().map_or(range.end, |last| last.end.max(range.end));
        }
        self.ranges.splice(from..to.max(from), [merged]);
    }

    pub fn remove(&mut self, range: TimeRange) {
        if range.is_empty() || !self.overlaps(range) {
            return;
        }
        let parts = |own: &TimeRange| {
            [
                TimeRange::new(own.start, own.end.min(range.start)),
                TimeRange::new(own.start.max(range.end), own.end),
            ]
        };
        self.ranges = self.ranges.iter().flat_map(parts).filter(|part| !part.is_empty()).collect();
    }

    pub fn union(&self, other: &RangeSet) -> RangeSet {
        let mut all = self.clone();
        other.ranges.iter().for_each(|range| all.insert(*range));
        all
    }

    /// In one pass over both, because either may have thousands of ranges.
    pub fn minus(&self, other: &RangeSet) -> RangeSet {
        let mut ranges = Vec::with_capacity(self.ranges.len());
        for own in &self.ranges {
            let mut left = *own;
            for gone in other.touching(*own) {
                ranges.push(TimeRange::new(left.start, gone.start));
                left.start = gone.end;
            }
            ranges.push(left);
        }
        ranges.retain(|range| !range.is_empty());
        RangeSet { ranges }
    }

    pub fn intersect(&self, other: &RangeSet) -> RangeSet {
        let common =
            self.ranges.iter().flat_map(|own| other.touching(*own).map(|range| range.intersect(*own)));
        common.collect()
    }

    /// Only whole slots of `width`, counted from `origin`.
    pub fn whole_slots(&self, width: i64, origin: Time) -> RangeSet {
        let inner = |range: &TimeRange| {
            TimeRange::new(ceil_time(range.start, width, origin), floor_time(range.end, width, origin))
        };
        self.ranges.iter().map(inner).collect()
    }
}

impl FromIterator<TimeRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = TimeRange>>(ranges: I) -> RangeSet {
        let mut set = RangeSet::default();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

impl From<TimeRange> for RangeSet {
    fn from(range: TimeRange) -> RangeSet {
        [range].into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set_of(times: &[bool]) -> RangeSet {
        let slots = times.iter().enumerate().filter(|(_, inside)| **inside);
        slots.map(|(time, _)| TimeRange::new(time as Time, time as Time + 1)).collect()
    }

    proptest! {
        /// Against a plain list of which times are inside.
        #[test]
        fn sets_behave_like_lists(a in prop::collection::vec(any::<bool>(), 24), b in prop::collection::vec(any::<bool>(), 24), width in 1i64..6, origin in -3i64..3) {
            let (set_a, set_b) = (set_of(&a), set_of(&b));
            let each = |f: &dyn Fn(usize) -> bool| set_of(&(0..24).map(f).collect::<Vec<_>>());
            prop_assert_eq!(set_a.union(&set_b), each(&|t| a[t] || b[t]));
            prop_assert_eq!(set_a.minus(&set_b), each(&|t| a[t] && !b[t]));
            prop_assert_eq!(set_a.intersect(&set_b), each(&|t| a[t] && b[t]));
            let whole = |t: usize| {
                let start = floor_time(t as Time, width, origin);
                (start..start + width).all(|time| usize::try_from(time).ok().and_then(|t| a.get(t)) == Some(&true))
            };
            prop_assert_eq!(set_a.whole_slots(width, origin), each(&whole));
            for (time, inside) in a.iter().enumerate() {
                prop_assert_eq!(set_a.contains(time as Time), *inside);
            }
            let apart = set_a.ranges().windows(2).all(|pair| pair[0].end < pair[1].start);
            prop_assert!(apart && set_a.ranges().iter().all(|range| !range.is_empty()));
        }
    }
}
