//! A clock that a test owns.
//!
//! The wall clock stands still until it is set. The monotonic clock moves on a microsecond each time somebody looks, so
//! that nothing waits for ever, and on command.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use waterclock::clock::Clock;

#[derive(Clone)]
pub struct ManualClock {
    now: Arc<AtomicI64>,
    elapsed_us: Arc<AtomicU64>,
}

impl ManualClock {
    pub fn at(now: i64) -> ManualClock {
        ManualClock { now: Arc::new(AtomicI64::new(now)), elapsed_us: Arc::default() }
    }

    pub fn set(&self, now: i64) {
        self.now.store(now, Ordering::SeqCst);
    }

    /// Both clocks move on.
    pub fn advance(&self, by: Duration) {
        self.now.fetch_add(by.as_nanos() as i64, Ordering::SeqCst);
        self.elapsed_us.fetch_add(by.as_micros() as u64, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> i64 {
        self.now.load(Ordering::SeqCst)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.elapsed_us.fetch_add(1, Ordering::SeqCst))
    }
}
