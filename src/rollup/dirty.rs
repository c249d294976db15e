//! Which buckets of a rollup no longer tell the truth.
//!
//! Invariant: a mark carries the sequence of the latest write that made it, so that a refresh which saw everything up
//! to a sequence clears exactly the marks at or below it.
//! Not here: whether a bucket was ever computed.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use query_lang::plan::Window;
use storage_format::point::{TagSet, Time, TimeRange};
use storage_format::ranges::RangeSet;

#[derive(Clone, Debug)]
pub struct Dirty {
    /// The rollup's buckets.
    window: Window,
    /// Single groups of single buckets.
    groups: BTreeMap<Time, HashMap<TagSet, u64>>,
    group_count: usize,
    /// Whole buckets, with every group.
    ranges: Vec<(TimeRange, u64)>,
}

impl Dirty {
    pub fn new(window: Window) -> Dirty {
        Dirty { window, groups: BTreeMap::new(), group_count: 0, ranges: Vec::new() }
    }

    /// Above `groups_max` marks the bucket with the most groups becomes dirty as a whole.
    pub fn mark_group(&mut self, bucket: Time, group: TagSet, seq: u64, groups_max: usize) {
        let known = self.groups.entry(bucket).or_default();
        if known.insert(group, seq).is_none() {
            self.group_count += 1;
        }
        if self.group_count > groups_max {
            self.coarsen();
        }
    }

    /// The range is of whole buckets.
    pub fn mark_range(&mut self, range: TimeRange, seq: u64) {
        // The latest of the marks that become one, or a refresh in between would clear too much.
        let mut seq = seq;
        self.ranges.retain(|(known, marked)| {
            let covered = range.covers(*known);
            if covered {
                seq = seq.max(*marked);
            }
            !covered
        });
        self.ranges.push((range, seq));
    }

    /// Forgets what a refresh of `range` that saw everything up to `seq` has mended.
    pub fn clear(&mut self, range: TimeRange, seq: u64) {
        let outside = |known: TimeRange| {
            [
                TimeRange::new(known.start, known.end.min(range.start)),
                TimeRange::new(known.start.max(range.end), known.end),
            ]
        };
        self.ranges = std::mem::take(&mut self.ranges)
            .into_iter()
            .flat_map(|(known, marked)| {
                let left = if marked > seq { vec![known] } else { outside(known).to_vec() };
                left.into_iter().filter(|part| !part.is_empty()).map(move |part| (part, marked))
            })
            .collect();
        let mut gone = Vec::new();
        for (bucket, groups) in self.groups.range_mut(range.start..range.end) {
            let before = groups.len();
            groups.retain(|_, marked| *marked > seq);
            self.group_count -= before - groups.len();
            if groups.is_empty() {
                gone.push(*bucket);
            }
        }
        gone.iter().for_each(|bucket| drop(self.groups.remove(bucket)));
    }

    /// Whole dirty ranges and single dirty groups inside `ranges`.
    pub fn within(&self, ranges: &RangeSet) -> (RangeSet, BTreeMap<Time, Vec<TagSet>>) {
        let whole: RangeSet = self.ranges.iter().map(|(range, _)| *range).collect();
        let whole = whole.intersect(ranges);
        let mut groups = BTreeMap::new();
        for range in ranges.ranges() {
            for (bucket, marked) in self.groups.range(range.start..range.end) {
                let slot = self.window.bucket(*bucket);
                if !whole.touching(slot).any(|dirty| dirty.covers(slot)) {
                    groups.insert(*bucket, marked.keys().cloned().collect());
                }
            }
        }
        (whole, groups)
    }

    /// Dirty buckets inside `ranges`, each once.
    pub fn count(&self, ranges: &RangeSet) -> u64 {
        let (whole, groups) = self.within(ranges);
        self.window.count(&whole) + groups.len() as u64
    }

    /// The dirty buckets inside `ranges` as ranges.
    pub fn spans(&self, ranges: &RangeSet) -> RangeSet {
        let (whole, groups) = self.within(ranges);
        groups.keys().fold(whole, |mut all, bucket| {
            all.insert(self.window.bucket(*bucket));
            all
        })
    }

    fn coarsen(&mut self) {
        let widest = self.groups.iter().max_by_key(|(_, groups)| groups.len()).map(|(bucket, _)| *bucket);
        let Some(bucket) = widest else { return };
        let groups = self.groups.remove(&bucket).unwrap_or_default();
        self.group_count -= groups.len();
        let seq = groups.values().copied().max().unwrap_or(0);
        self.mark_range(self.window.bucket(bucket), seq);
    }
}
