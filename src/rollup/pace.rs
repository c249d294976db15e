//! How fast a rollup computes what it has yet to compute.
//!
//! Not here: how much that is (`refresh`), and the clock.

use std::time::Duration;

/// Buckets computed since there was last nothing to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    started: Option<Duration>,
    ended: Duration,
    buckets: u64,
}

impl Pace {
    /// A step from one moment to another, by a clock that does not jump, has computed so many buckets.
    pub fn note(&mut self, from: Duration, to: Duration, buckets: u64) {
        self.started.get_or_insert(from);
        self.ended = to;
        self.buckets += buckets;
    }

    /// There is nothing left to do.
    pub fn rest(&mut self) {
        *self = Pace::default();
    }

    /// None while nothing was measured.
    pub fn buckets_per_second(&self) -> Option<f64> {
        let seconds = self.ended.saturating_sub(self.started?).as_secs_f64();
        (seconds > 0.0).then(|| self.buckets as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_the_work_since_it_began() {
        let mut pace = Pace::default();
        assert_eq!(pace.buckets_per_second(), None);
        pace.note(Duration::from_secs(10), Duration::from_secs(12), 30);
        pace.note(Duration::from_secs(14), Duration::from_secs(20), 70);
        assert_eq!(pace.buckets_per_second(), Some(10.0));
        pace.rest();
        assert_eq!(pace.buckets_per_second(), None);
    }
}
