//! Counters: how much they rose, over their resets.
//!
//! A value below the one before means that the counter began again at zero, so the step counts as the new value.
//! That is the difference of the values plus the value it fell from. So a trace needs to add up only the values that
//! the counter fell from; its increase is `last - first` plus those, and nothing is added where nothing falls.

use crate::point::Time;

use super::column::State;
use super::sum::Summable;
use super::trace::{Ends, Sample, Steps, Trace};

pub type Counter<T> = Trace<T, Resets<<T as Summable>::Sum>>;

#[derive(Clone, Debug, PartialEq)]
pub struct Resets<S> {
    pub count: u64,
    /// The exact sum of the values that the counter fell from.
    pub lost: S,
}

/// A closed counter, or several.
#[derive(Clone, Debug, PartialEq)]
pub struct CounterSum<S, D> {
    /// Without any step there is none, and no delta.
    pub increase: S,
    /// The last value less the first one, whatever happened between.
    pub delta: D,
    pub resets: u64,
}

impl<S: State> State for Resets<S> {
    const IDENTITY: Self = Resets { count: 0, lost: S::IDENTITY };

    fn merge(&mut self, other: &Self) {
        self.count.merge(&other.count);
        self.lost.merge(&other.lost);
    }

    fn heap_bytes(&self) -> usize {
        self.lost.heap_bytes()
    }
}

impl<S: State, D: State> State for CounterSum<S, D> {
    const IDENTITY: Self = CounterSum { increase: S::IDENTITY, delta: D::IDENTITY, resets: 0 };

    fn merge(&mut self, other: &Self) {
        self.increase.merge(&other.increase);
        self.delta.merge(&other.delta);
        self.resets.merge(&other.resets);
    }

    fn heap_bytes(&self) -> usize {
        self.increase.heap_bytes() + self.delta.heap_bytes()
    }
}

impl<T: Summable> Steps<T> for Resets<T::Sum> {
    type Closed = CounterSum<T::Sum, T::Delta>;

    fn step(&mut self, from: Sample<T>, to: Sample<T>) {
        if to.1 < from.1 {
            self.count += 1;
            T::add(&mut self.lost, from.1);
        }
    }

    fn walk(&mut self, times: &[Time], values: &[T]) -> Option<Ends<T>> {
        let mut samples = times.iter().zip(values).filter(|(_, value)| !value.is_nan());
        let (time, value) = samples.next()?;
        let first = (*time, *value);
        let mut last = first;
        for (time, value) in samples {
            debug_assert!(last.0 < *time, "bug: the samples of a series ascend in time");
            if *value < last.1 {
                self.step(last, (*time, *value));
            }
            last = (*time, *value);
        }
        Some(Ends { first, last })
    }

    fn close(self, from: Sample<T>, to: Sample<T>) -> Self::Closed {
        if from.0 == to.0 {
            return CounterSum::IDENTITY;
        }
        let delta = T::difference(from.1, to.1);
        CounterSum { increase: T::increase(&delta, &self.lost), delta, resets: self.count }
    }
}
