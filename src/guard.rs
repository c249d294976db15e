//! What one piece of work may cost, and whether anybody still waits for it.
//!
//! Invariant: every loop over series asks [`Guard::check`]; every result that grows with the data asks
//! [`Guard::reserve`] before it does; what is decoded is [`Held`] while anyone reads it.
//! Not here: the limits themselves (`config`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::clock::Clock;
use crate::config::Limits;
use crate::error::{Error, Kind, Result};

pub struct Guard {
    clock: Arc<dyn Clock>,
    started: Duration,
    time_max: Duration,
    /// The setting or parameter that `time_max` comes from.
    time_limit: &'static str,
    memory_max: usize,
    /// The setting that `memory_max` comes from.
    memory_limit: &'static str,
    memory: AtomicUsize,
    share: Option<Share>,
    pub rows_max: usize,
    rows_read: AtomicU64,
    ended: AtomicU8,
}

const GOES_ON: u8 = 0;
const LEFT: u8 = 1;
const KILLED: u8 = 2;

/// Memory that all queries share.
pub struct Pool {
    bytes_max: usize,
    used: Mutex<usize>,
    given_back: Condvar,
}

/// What a pool has given to one query.
struct Share {
    pool: Arc<Pool>,
    bytes: AtomicUsize,
}

/// Decoded rows, counted from when they are there until this is dropped.
pub struct Held<'a> {
    guard: &'a Guard,
    bytes: usize,
    reserved: usize,
}

/// Memory is taken from the pool, and counted for decoded rows, in pieces of this size, because both are asked for often.
const GRAIN: usize = 1 << 20;

/// How long a query waits for others to end before it is refused.
const POOL_WAIT_MAX: Duration = Duration::from_secs(2);

impl Pool {
    pub fn new(limits: &Limits) -> Arc<Pool> {
        let bytes_max = limits.queries_memory_bytes_max;
        Arc::new(Pool { bytes_max, used: Mutex::new(0), given_back: Condvar::new() })
    }

    pub fn used(&self) -> usize {
        *self.used.lock()
    }

    fn take(&self, bytes: usize) -> Result<()> {
        let mut used = self.used.lock();
        if used.saturating_add(bytes) > self.bytes_max {
            return Err(self.overloaded());
        }
        *used += bytes;
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        *self.used.lock() -= bytes;
        self.given_back.notify_all();
    }

    /// Waits a little while more than half of it is taken.
    fn wait_for_room(&self) -> Result<()> {
        let mut used = self.used.lock();
        while *used > self.bytes_max / 2 {
            if self.given_back.wait_for(&mut used, POOL_WAIT_MAX).timed_out() {
                return Err(self.overloaded());
            }
        }
        Ok(())
    }

    fn overloaded(&self) -> Error {
        Error::rejected(
            Kind::Unavailable,
            "queries_overloaded",
            format!(
                "the queries that run take all of the {} MiB that they may have together (queries_memory_bytes_max); ask again a \
                 little later",
                self.bytes_max >> 20
            ),
        )
    }
}

impl Guard {
    /// For a query of a client.
    pub fn query(clock: &Arc<dyn Clock>, limits: &Limits, pool: &Arc<Pool>) -> Guard {
        Guard {
            time_max: limits.query_time_max,
            share: Some(Share { pool: Arc::clone(pool), bytes: AtomicUsize::new(0) }),
            rows_max: limits.query_rows_max,
            ..Guard::background(clock, "query_memory_bytes_max", limits.query_memory_bytes_max)
        }
    }

    /// For work that nobody waits for: however long it takes, in the memory of this limit.
    pub fn background(clock: &Arc<dyn Clock>, memory_limit: &'static str, memory_max: usize) -> Guard {
        Guard {
            started: clock.elapsed(),
            clock: Arc::clone(clock),
            time_max: Duration::MAX,
            time_limit: "query_time_max",
            memory_max,
            memory_limit,
            memory: AtomicUsize::new(0),
            share: None,
            rows_max: usize::MAX,
            rows_read: AtomicU64::new(0),
            ended: AtomicU8::new(GOES_ON),
        }
    }

    /// With a shorter time that its client asks for.
    pub fn within(self, timeout: Duration) -> Guard {
        Guard { time_max: timeout, time_limit: "the parameter timeout", ..self }
    }

    /// Waits a little for memory that other queries hold. Before any work, and not on a thread that others need.
    pub fn admit(&self) -> Result<()> {
        self.share.iter().try_for_each(|share| share.pool.wait_for_room())
    }

    pub fn memory_max(&self) -> usize {
        self.memory_max
    }

    pub fn hold(&self) -> Held<'_> {
        Held { guard: self, bytes: 0, reserved: 0 }
    }

    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed().saturating_sub(self.started)
    }

    /// The caller went away.
    pub fn cancel(&self) {
        self.end(LEFT);
    }

    /// Somebody does not want it to go on.
    pub fn kill(&self) {
        self.end(KILLED);
    }

    /// The first reason stays.
    fn end(&self, why: u8) {
        let _ = self.ended.compare_exchange(GOES_ON, why, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub fn count_rows(&self, rows: u64) {
        self.rows_read.fetch_add(rows, Ordering::Relaxed);
    }

    /// Rows read so far.
    pub fn rows_read(&self) -> u64 {
        self.rows_read.load(Ordering::Relaxed)
    }

    /// Bytes counted now.
    pub fn memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }

    pub fn check(&self) -> Result<()> {
        match self.ended.load(Ordering::Relaxed) {
            GOES_ON => {}
            KILLED => {
                let why = "the query was killed, by DELETE /api/queries or `waterclock queries --kill`";
                return Err(Error::rejected(Kind::Conflict, "query_killed", why));
            }
            _ => return Err(Error::rejected(Kind::Unavailable, "cancelled", "the query was cancelled")),
        }
        if self.elapsed() > self.time_max {
            return Err(Error::rejected(
                Kind::OverLimit,
                "query_too_slow",
                format!(
                    "the query ran longer than {:?}, its limit ({}); ask for a shorter range or fewer series, \
                     create a rollup, or raise the limit",
                    self.time_max, self.time_limit
                ),
            ));
        }
        Ok(())
    }

    /// Counts memory that is held until this is dropped, or until [`Guard::release`].
    pub fn reserve(&self, bytes: usize) -> Result<()> {
        // All threads of a query count in one place, and merging groups mostly adds nothing.
        if bytes == 0 {
            return Ok(());
        }
        let held = self.memory.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if held > self.memory_max {
            return Err(Error::rejected(
                Kind::OverLimit,
                "query_too_large",
                format!(
                    "{} needs more than {} MiB, its limit ({}); ask for a shorter range, a longer step or fewer groups, or raise \
                     the limit",
                    if self.share.is_some() { "the query" } else { "the step" },
                    self.memory_max >> 20,
                    self.memory_limit
                ),
            ));
        }
        self.share.iter().try_for_each(|share| share.cover(held))
    }

    /// Gives back what was merged into something already counted.
    pub fn release(&self, bytes: usize) {
        // Sizes are estimates that grow on the way; never below nothing.
        let left = |held: usize| Some(held.saturating_sub(bytes));
        let _ = self.memory.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
    }

    /// The work is done, and only its answer of this size is left.
    pub fn settle(&self, bytes: usize) {
        self.memory.store(bytes, Ordering::Relaxed);
        if let Some(share) = &self.share {
            share.shrink(bytes);
        }
    }

    pub fn check_rows(&self, rows: usize) -> Result<()> {
        if rows <= self.rows_max {
            return Ok(());
        }
        Err(Error::rejected(
            Kind::OverLimit,
            "too_many_rows",
            format!(
                "the query needs {rows} rows at once, more than its limit of {} (query_rows_max); add `| limit N`, ask for less, or \
                 raise the limit",
                self.rows_max
            ),
        ))
    }
}

impl Share {
    fn cover(&self, bytes: usize) -> Result<()> {
        let missing = bytes.saturating_sub(self.bytes.load(Ordering::Relaxed));
        if missing > 0 {
            let more = missing.max(GRAIN);
            self.pool.take(more)?;
            self.bytes.fetch_add(more, Ordering::Relaxed);
        }
        Ok(())
    }

    fn shrink(&self, bytes: usize) {
        let before = self.bytes.load(Ordering::Relaxed);
        self.bytes.store(before.min(bytes), Ordering::Relaxed);
        self.pool.give_back(before.saturating_sub(bytes));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

impl Held<'_> {
    pub fn grow(&mut self, bytes: usize) -> Result<()> {
        self.bytes += bytes;
        let missing = self.bytes.saturating_sub(self.reserved);
        if missing > 0 {
            // Counted also where that is over the limit: it is there.
            let more = missing.max(GRAIN.min(self.guard.memory_max / 64));
            self.reserved += more;
            self.guard.reserve(more)?;
        }
        Ok(())
    }

    pub fn count_rows(&self, rows: u64) {
        self.guard.count_rows(rows);
    }

    /// Whether to go on.
    pub fn check(&self) -> Result<()> {
        self.guard.check()
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.guard.release(self.reserved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::config::Config;

    fn limits(one: usize, all: usize) -> Limits {
        Limits { query_memory_bytes_max: one, queries_memory_bytes_max: all, ..Config::default().limits }
    }

    fn code(outcome: Result<()>) -> (Kind, &'static str) {
        match outcome {
            Err(Error::Rejected(rejection)) => (rejection.kind, rejection.code),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_query_has_its_limit_and_all_share_theirs() {
        let limits = limits(8 * GRAIN, 12 * GRAIN);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let pool = Pool::new(&limits);
        let first = Guard::query(&clock, &limits, &pool);
        first.reserve(8 * GRAIN).unwrap();
        assert_eq!(code(first.reserve(1)), (Kind::OverLimit, "query_too_large"));
        let second = Guard::query(&clock, &limits, &pool);
        second.reserve(4 * GRAIN).unwrap();
        assert_eq!(code(second.reserve(1)), (Kind::Unavailable, "queries_overloaded"));
        first.settle(GRAIN);
        assert_eq!(pool.used(), 5 * GRAIN);
        second.reserve(GRAIN).unwrap();
        drop((first, second));
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn the_first_reason_to_end_is_the_one_that_is_told() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let guard = Guard::background(&clock, "test", 1);
        guard.check().unwrap();
        guard.kill();
        guard.cancel();
        assert_eq!(code(guard.check()), (Kind::Conflict, "query_killed"));
        let late = Guard::background(&clock, "test", 1).within(Duration::ZERO);
        let why = late.check().unwrap_err().to_string();
        assert!(why.contains("its limit (the parameter timeout)"), "{why}");
    }

    #[test]
    fn a_query_is_let_in_when_others_give_back() {
        let limits = limits(8 * GRAIN, 8 * GRAIN);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let pool = Pool::new(&limits);
        let large = Guard::query(&clock, &limits, &pool);
        large.reserve(6 * GRAIN).unwrap();
        let next = Guard::query(&clock, &limits, &pool);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| next.admit());
            drop(large);
            waiting.join().unwrap().unwrap();
        });
    }

    #[test]
    fn what_is_held_is_given_back() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let guard = Guard::background(&clock, "test", 64 * GRAIN);
        for _ in 0..100 {
            let mut held = guard.hold();
            held.grow(40 * GRAIN).unwrap();
            held.grow(20 * GRAIN).unwrap();
        }
        let mut held = guard.hold();
        assert_eq!(code(held.grow(65 * GRAIN)), (Kind::OverLimit, "query_too_large"));
        drop(held);
        guard.reserve(64 * GRAIN).unwrap();
    }
}
