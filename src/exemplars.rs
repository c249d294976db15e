//! Exemplars: single observations that stand for many, such as the trace of a slow request.
//!
//! As in Prometheus they are kept in memory, in a ring: a new one takes the place of the oldest.
//! Invariant: at most `exemplars_max` of all databases; those of one series ascend in time.
//! Not here: where they come from (`ingest`).

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::RwLock;
use storage_format::point::{TagSet, Time, TimeRange};

/// Characters of all names and values of one exemplar's labels: OpenMetrics' limit, which Prometheus keeps.
pub const EXEMPLAR_CHARS_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Of the series that it belongs to, with its metric's name.
    pub series: TagSet,
    /// Its own, such as `trace_id`.
    pub labels: TagSet,
    pub value: f64,
    pub time: Time,
}

pub struct Exemplars {
    max: usize,
    ring: RwLock<Ring>,
}

#[derive(Default)]
struct Ring {
    /// Oldest first, in the order in which they came.
    all: VecDeque<(Arc<str>, Exemplar)>,
    /// The newest of each series, to tell those that come again.
    newest: HashMap<(Arc<str>, TagSet), (Time, usize)>,
}

impl Exemplars {
    pub fn new(max: usize) -> Exemplars {
        Exemplars { max, ring: RwLock::default() }
    }

    /// Returns how many were taken: one that is not newer than the last of its series, as senders repeat them, is not.
    pub fn add(&self, database: &Arc<str>, exemplars: Vec<Exemplar>) -> u64 {
        let mut ring = self.ring.write();
        let mut taken = 0;
        for exemplar in exemplars {
            if self.max == 0 {
                break;
            }
            let key = (Arc::clone(database), exemplar.series.clone());
            let known = ring.newest.entry(key).or_insert((Time::MIN, 0));
            if exemplar.time <= known.0 {
                continue;
            }
            *known = (exemplar.time, known.1 + 1);
            ring.all.push_back((Arc::clone(database), exemplar));
            taken += 1;
            if ring.all.len() > self.max
                && let Some((database, gone)) = ring.all.pop_front()
            {
                ring.forget(database, gone.series);
            }
        }
        taken
    }

    /// Those of a range, as series pass, grouped by their series.
    pub fn of(&self, database: &str, range: TimeRange, passes: impl Fn(&TagSet) -> bool) -> Vec<Exemplar> {
        let ring = self.ring.read();
        let inside = |(of, exemplar): &&(Arc<str>, Exemplar)| {
            **of == *database && range.contains(exemplar.time) && passes(&exemplar.series)
        };
        let mut found: Vec<Exemplar> =
            ring.all.iter().filter(inside).map(|(_, exemplar)| exemplar.clone()).collect();
        found.sort_by(|a, b| a.series.cmp(&b.series).then(a.time.cmp(&b.time)));
        found
    }
}

impl Ring {
    /// One of the series has gone.
    fn forget(&mut self, database: Arc<str>, series: TagSet) {
        let key = (database, series);
        if let Some((_, count)) = self.newest.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.newest.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay_and_those_that_come_again_do_not_count() {
        let exemplars = Exemplars::new(3);
        let database: Arc<str> = "db".into();
        let one = |series: &str, time| Exemplar {
            series: TagSet::new([("__name__", series)]),
            labels: TagSet::new([("trace_id", "t")]),
            value: 1.0,
            time,
        };
        assert_eq!(exemplars.add(&database, vec![one("a", 1), one("b", 1), one("a", 2), one("a", 2)]), 3);
        assert_eq!(exemplars.add(&database, vec![one("a", 1), one("c", 5)]), 1);
        let times = |range| {
            let found = exemplars.of("db", range, |series| series.get("__name__") != Some("b"));
            found.iter().map(|exemplar| exemplar.time).collect::<Vec<_>>()
        };
        assert_eq!(times(TimeRange::ALL), [2, 5], "the first of a has gone");
        assert_eq!(times(TimeRange::new(0, 5)), [2]);
        assert_eq!(exemplars.of("other", TimeRange::ALL, |_| true), []);
        // Nothing is left to remember of a series that has none.
        exemplars.add(&database, vec![one("d", 1), one("d", 2), one("d", 3)]);
        assert_eq!(exemplars.ring.read().newest.len(), 1);
        assert_eq!(exemplars.add(&database, vec![one("a", 1)]), 1);
    }
}
