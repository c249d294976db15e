//! What one query may cost, and whether anybody still waits for it.
//!
//! Invariant: every loop over series asks [`Guard::check`]; every result that grows with the data asks
//! [`Guard::reserve`] before it does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::config::Limits;
use crate::error::{Error, Kind, Result};

pub struct Guard {
    clock: Arc<dyn Clock>,
    started: Duration,
    time_max: Duration,
    memory_max: usize,
    memory: AtomicUsize,
    pub rows_max: usize,
    cancelled: AtomicBool,
}

impl Guard {
    pub fn new(clock: Arc<dyn Clock>, limits: &Limits) -> Guard {
        Guard {
            started: clock.elapsed(),
            clock,
            time_max: limits.query_time_max,
            memory_max: limits.query_memory_bytes_max,
            memory: AtomicUsize::new(0),
            rows_max: limits.query_rows_max,
            cancelled: AtomicBool::new(false),
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed().saturating_sub(self.started)
    }

    /// The caller went away.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::rejected(Kind::Unavailable, "cancelled", "the query was cancelled"));
        }
        if self.elapsed() > self.time_max {
            return Err(Error::rejected(
                Kind::OverLimit,
                "query_too_slow",
                format!(
                    "the query ran longer than {:?}, its limit (query_time_max); ask for a shorter range or fewer series, \
                     create a rollup, or raise the limit",
                    self.time_max
                ),
            ));
        }
        Ok(())
    }

    /// Counts memory that the query holds until it ends.
    pub fn reserve(&self, bytes: usize) -> Result<()> {
        let held = self.memory.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held <= self.memory_max {
            return Ok(());
        }
        Err(Error::rejected(
            Kind::OverLimit,
            "query_too_large",
            format!(
                "the query needs more than {} MiB, its limit (query_memory_bytes_max); ask for a shorter range, a longer step or \
                 fewer groups, or raise the limit",
                self.memory_max >> 20
            ),
        ))
    }

    /// Gives back what was merged into something already counted.
    pub fn release(&self, bytes: usize) {
        // Sizes are estimates that grow on the way; never below nothing.
        let left = |held: usize| Some(held.saturating_sub(bytes));
        let _ = self.memory.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
    }

    pub fn check_rows(&self, rows: usize) -> Result<()> {
        if rows <= self.rows_max {
            return Ok(());
        }
        Err(Error::rejected(
            Kind::OverLimit,
            "too_many_rows",
            format!(
                "the answer would have {rows} rows, more than its limit of {} (query_rows_max); add `| limit N`, ask for less, or \
                 raise the limit",
                self.rows_max
            ),
        ))
    }
}
