//! Integrals over time and time-weighted averages: the area under the straight lines from sample to sample.
//!
//! Kept is twice the area, in value times nanoseconds: a sum of products of a value and a whole number, exact like any
//! other sum. It is divided once, when it is finalized. An infinite sample counts once for each step that it is an end of.

use crate::point::Time;

use super::column::State;
use super::sum::{FloatSum, IntSum};
use super::trace::{Ends, Sample, Steps, Trace};
use super::value::Number;

pub type Weighted<T> = Trace<T, Area>;

#[derive(Clone, Debug, PartialEq)]
pub struct Area {
    /// Twice the area; empty without any step.
    pub twice: FloatSum,
}

/// A closed time-weighted state, or several.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedSum {
    /// Twice the area; empty without any step.
    pub twice: FloatSum,
    /// How many nanoseconds the area lies over, those of several series added up.
    pub duration: IntSum<u64>,
    /// Samples that no step begins or ends at.
    pub instants: u64,
    /// Their sum: their mean is the average where there is no duration.
    pub instants_sum: FloatSum,
}

impl State for Area {
    const IDENTITY: Area = Area { twice: FloatSum::Empty };

    fn merge(&mut self, other: &Area) {
        self.twice.merge(&other.twice);
    }

    fn heap_bytes(&self) -> usize {
        self.twice.heap_bytes()
    }
}

impl State for WeightedSum {
    const IDENTITY: WeightedSum = WeightedSum {
        twice: FloatSum::Empty,
        duration: IntSum::IDENTITY,
        instants: 0,
        instants_sum: FloatSum::Empty,
    };

    fn merge(&mut self, other: &WeightedSum) {
        self.twice.merge(&other.twice);
        self.duration.merge(&other.duration);
        self.instants.merge(&other.instants);
        self.instants_sum.merge(&other.instants_sum);
    }

    fn heap_bytes(&self) -> usize {
        self.twice.heap_bytes() + self.instants_sum.heap_bytes()
    }
}

impl<T: Number> Steps<T> for Area {
    type Closed = WeightedSum;

    fn step(&mut self, from: Sample<T>, to: Sample<T>) {
        let duration = from.0.abs_diff(to.0);
        self.twice.add_products(&[(from.1, duration), (to.1, duration)]);
    }

    /// Each value is multiplied once, by the time from the sample before it to the one after it.
    fn walk(&mut self, times: &[Time], values: &[T]) -> Option<Ends<T>> {
        let mut samples = times.iter().zip(values).filter(|(_, value)| !value.is_nan());
        let (time, value) = samples.next()?;
        let first = (*time, *value);
        let (mut before, mut last) = (first.0, first);
        let mut products = Vec::with_capacity(times.len());
        for (time, value) in samples {
            debug_assert!(last.0 < *time, "bug: the samples of a series ascend in time");
            products.push((last.1, before.abs_diff(*time)));
            if before < last.0 && !last.1.to_float().is_finite() {
                products.push((last.1, 1)); // the end of two steps
            }
            (before, last) = (last.0, (*time, *value));
        }
        if before < last.0 {
            products.push((last.1, before.abs_diff(last.0)));
        }
        self.twice.add_products(&products);
        Some(Ends { first, last })
    }

    fn close(self, from: Sample<T>, to: Sample<T>) -> WeightedSum {
        let mut closed = WeightedSum::IDENTITY;
        if from.0 == to.0 {
            closed.instants = 1;
            closed.instants_sum.add_products(&[(to.1, 1)]);
        } else {
            closed.twice = self.twice;
            closed.duration = IntSum::new(Some(from.0.abs_diff(to.0).into()));
        }
        closed
    }
}
