//! The changes that wait for the log.
//!
//! Invariant: what was pushed is taken once, in the order of pushing; after [`Queue::close`] nothing is pushed any more.
//! A channel would do but for its price: its receiver yields the processor several times before it sleeps, which on busy
//! cores costs more than the sleep, and it is woken for the log after every fsync.
//! Not here: what a change is and how many may wait (`pipeline`).

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

pub struct Queue<T> {
    state: Mutex<State<T>>,
    /// Something was pushed, or nothing will be.
    changed: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    pub fn new() -> Queue<T> {
        Queue {
            state: Mutex::new(State { waiting: VecDeque::new(), closed: false }),
            changed: Condvar::new(),
        }
    }

    /// Gives the item back if the queue is closed.
    pub fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(item);
        }
        state.waiting.push_back(item);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for the next items and takes up to `count_max` of them; none once the queue is closed and empty.
    pub fn take(&self, count_max: usize) -> Vec<T> {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| state.waiting.is_empty() && !state.closed);
        let count = state.waiting.len().min(count_max);
        state.waiting.drain(..count).collect()
    }

    /// What is there is still taken.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_taken_once_in_order_and_none_comes_after_the_end() {
        let queue = Queue::new();
        const COUNT: usize = 10_000;
        let taken = std::thread::scope(|scope| {
            let taker = scope.spawn(|| {
                let groups = std::iter::repeat_with(|| queue.take(7)).take_while(|group| !group.is_empty());
                groups.inspect(|group| assert!(group.len() <= 7)).flatten().collect::<Vec<usize>>()
            });
            for item in 0..COUNT {
                queue.push(item).unwrap();
            }
            queue.close();
            taker.join().unwrap()
        });
        assert_eq!(taken, (0..COUNT).collect::<Vec<_>>());
        assert_eq!(queue.push(1), Err(1));
        assert!(queue.take(1).is_empty());
    }
}
