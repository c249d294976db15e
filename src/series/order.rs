//! The series of a table in the order of their tags.
//!
//! Comparing tags is most of the work of sorting series, and the order of the same series is asked for again and again. So
//! it is kept, and whoever asks takes in some of the series that came since.
//! Invariant: the ranks of the series that were taken in ascend with their tags. Series that were forgotten may still have
//! a place, which nobody asks for.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use storage_format::point::TagSet;

use crate::series::TagIndex;

/// Below this share of a table's series they are as quickly compared.
const RANKED_SHARE: usize = 8;

/// New series that one request takes in: some milliseconds' worth, because it may hold up writers.
const TAKEN_IN_MAX: usize = 8 * 1024;

#[derive(Default)]
pub(super) struct SeriesOrder {
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    sorted: Vec<u32>,
    /// Series from this number on were not taken in.
    next: u32,
}

/// The place of a series among those that were taken in.
#[derive(Default)]
pub(super) struct Rank(AtomicU32);

impl TagIndex {
    /// Brings what was found of many series into the order of their tags, as far as it is known: sorting them after this is
    /// quick.
    pub fn order_by_tags<T>(&self, found: &mut [(u32, T)]) {
        if found.len() < self.len() / RANKED_SHARE {
            return;
        }
        let mut taken = self.order.taken.lock();
        if taken.next < self.next {
            taken.take_in(self);
        }
        if taken.next == self.next {
            found.sort_by_cached_key(|(series, _)| self.slot(*series).rank.0.load(Relaxed));
        }
    }
}

impl Taken {
    fn take_in(&mut self, index: &TagIndex) {
        let key = |series: &u32| -> &TagSet { index.key(*series) };
        let mut new: Vec<u32> = index.known.range(self.next..).take(TAKEN_IN_MAX).collect();
        self.next = match new.last() {
            Some(last) if new.len() == TAKEN_IN_MAX => last + 1,
            _ => index.next,
        };
        new.sort_unstable_by(|a, b| key(a).cmp(key(b)));
        self.sorted.retain(|series| index.known.contains(*series));
        let mut sorted = Vec::with_capacity(self.sorted.len() + new.len());
        let mut rest = self.sorted.as_slice();
        for series in new {
            let (before, after) = rest.split_at(rest.partition_point(|other| key(other) < key(&series)));
            sorted.extend_from_slice(before);
            sorted.push(series);
            rest = after;
        }
        sorted.extend_from_slice(rest);
        for (rank, series) in (0..).zip(&sorted) {
            index.slot(*series).rank.0.store(rank, Relaxed);
        }
        self.sorted = sorted;
    }
}

#[cfg(test)]
mod tests {
    use roaring::RoaringBitmap;

    use super::*;
    use crate::series::{Pins, TagPostings};

    #[test]
    fn series_that_come_and_go_are_in_the_order_of_their_tags() {
        let (mut index, pins) = (TagIndex::default(), Pins::default());
        for round in 0..12u32 {
            let pin = pins.take();
            // Some rounds bring more than is taken in at once.
            let new = if round % 4 == 3 { TAKEN_IN_MAX as u32 + 100 } else { 200 };
            for at in 0..new {
                let host = (at * 7919 + round * 104_729) % 100_003;
                let tags = TagSet::new([("host", host.to_string()), ("round", round.to_string())]);
                index.insert(tags, &pin).unwrap();
            }
            drop(pin);
            if round % 4 == 1 {
                let some: RoaringBitmap =
                    index.all().iter().filter(|series| series % 5 == round % 5).collect();
                assert!(!index.forget(&some, pins.line()).is_empty());
            }
            let all: Vec<(u32, u32)> = index.all().iter().map(|series| (series, !series)).collect();
            let mut expected = all.clone();
            expected.sort_by(|(a, _), (b, _)| index.key(*a).cmp(index.key(*b)));
            let mut found = all.clone();
            index.order_by_tags(&mut found);
            if new > 200 {
                assert_eq!(found, all, "round {round}: not all were taken in");
                index.order_by_tags(&mut found);
            }
            assert_eq!(found, expected, "round {round}");
            let mut some: Vec<(u32, u32)> = all.into_iter().filter(|(series, _)| series % 3 > 0).collect();
            expected.retain(|(series, _)| series % 3 > 0);
            index.order_by_tags(&mut some);
            assert_eq!(some, expected, "round {round}, some of them");
        }
    }
}
