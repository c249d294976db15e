//! Who may hold numbers of series outside the locks, and since when.
//!
//! A batch holds numbers from its parsing until it is applied. It takes a [`Pin`] before the first look-up, and each
//! look-up leaves the pin's number at the series. Forgetting first draws a line ([`Pins::line`]) and then forgets only
//! series that carry a number below it and are not in the head: batches that were parsed before are all gone by then or
//! have left a number from the line on, and those parsed later leave one before they see the series.
//! Invariant: what a living pin has looked up is never forgotten.
//! Not here: what is forgotten (`index`, `spellings`), and when (`db`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

#[derive(Clone, Default)]
pub struct Pins {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    held: Mutex<Held>,
    dropped: Condvar,
}

#[derive(Default)]
struct Held {
    /// The number of the next pin. Counts lines, and not pins, so that a series' mark seldom has to change.
    number: u32,
    /// How many pins of a number there are.
    counts: BTreeMap<u32, usize>,
}

/// Keeps every series that was looked up with it. Dropped with its batch.
pub struct Pin {
    pins: Pins,
    number: u32,
}

impl Pins {
    pub fn take(&self) -> Pin {
        let mut held = self.shared.held.lock();
        let number = held.number;
        *held.counts.entry(number).or_insert(0) += 1;
        Pin { pins: self.clone(), number }
    }

    /// The lowest number of any pin that there is or will be.
    pub fn line(&self) -> u32 {
        let mut held = self.shared.held.lock();
        held.number += 1;
        held.counts.keys().next().copied().unwrap_or(held.number)
    }

    /// Waits until every pin that was taken before this call is gone. False if that takes too long.
    pub fn wait_for_present(&self, wait_max: Duration) -> bool {
        let mut held = self.shared.held.lock();
        held.number += 1;
        let later = held.number;
        let is_held = |held: &mut Held| held.counts.keys().next().is_some_and(|oldest| *oldest < later);
        self.shared.dropped.wait_while_for(&mut held, is_held, wait_max);
        !is_held(&mut held)
    }
}

impl Pin {
    /// Under the lock under which the series would be forgotten.
    #[inline]
    pub fn keep(&self, mark: &AtomicU32) {
        if mark.load(Ordering::Relaxed) < self.number {
            mark.fetch_max(self.number, Ordering::Relaxed);
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut held = self.pins.shared.held.lock();
        if let Some(count) = held.counts.get_mut(&self.number) {
            *count -= 1;
            if *count == 0 {
                held.counts.remove(&self.number);
                self.pins.shared.dropped.notify_all();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn the_line_is_below_no_living_pin() {
        let pins = Pins::default();
        let mark = AtomicU32::new(0);
        let first = pins.take();
        first.keep(&mark);
        assert!(mark.load(Ordering::Relaxed) >= pins.line(), "held");
        let second = pins.take();
        drop(first);
        assert!(mark.load(Ordering::Relaxed) < pins.line(), "only the second is left, and never saw it");
        second.keep(&mark);
        assert!(mark.load(Ordering::Relaxed) >= pins.line());
        drop(second);
        assert!(mark.load(Ordering::Relaxed) < pins.line());
    }

    #[test]
    fn pins_that_were_there_are_waited_for() {
        let pins = Pins::default();
        assert!(pins.wait_for_present(Duration::ZERO), "there is none");
        let before = pins.take();
        assert!(!pins.wait_for_present(Duration::ZERO), "held");
        let waits = Duration::from_secs(60);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| pins.wait_for_present(waits));
            drop(before);
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn pins_that_come_and_go_prolong_no_wait() {
        let pins = Pins::default();
        let before = pins.take();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    drop(pins.take());
                }
            });
            assert!(!pins.wait_for_present(Duration::from_millis(20)), "held");
            is_over.store(true, Ordering::Relaxed);
        });
        drop(before);
    }
}
