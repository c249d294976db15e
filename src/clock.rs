//! What time it is. The only module that asks the system.
//!
//! Invariant: everything that depends on time takes a [`Clock`], so that a test can own time.
//! Not here: timers of the async doors (tokio has its own).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use storage_format::point::Time;

pub trait Clock: Send + Sync {
    /// Wall clock, nanoseconds since 1970 UTC. May jump.
    fn now(&self) -> Time;

    /// Time since some fixed moment; never goes back.
    fn elapsed(&self) -> Duration;
}

pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the module that knows the clock")]
    pub fn new() -> SystemClock {
        SystemClock { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the module that knows the clock")]
    fn now(&self) -> Time {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_nanos().try_into().unwrap_or(Time::MAX),
            // A clock set before 1970.
            Err(error) => -Time::try_from(error.duration().as_nanos()).unwrap_or(Time::MAX),
        }
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
