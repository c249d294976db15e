//! States of one series: what happens between its consecutive samples, for counters and time-weighted averages.
//!
//! A [`Trace`] is its first and last sample and what its steps add up to; `counter` and `weighted` say what a step adds.
//! Two traces merge by the step from the last sample of the earlier one to the first of the later one. Invariant: as
//! for every state, grouping does not change a bit, under one condition, which the caller has to keep: traces that are
//! merged are of the same series, and no sample of it lies between them unless it is already in one of them. So runs of one
//! series merge; runs of several do not. Over series, and over buckets that are not neighbours, *closed* states merge:
//! [`StateRun::close`](super::StateRun::close) turns a trace into plain sums, of which each bucket has its own steps and
//! the one that leads into it from the last sample before. These merge in any order, like all other states.
//! NaN is no sample.

use crate::point::Time;

use super::column::State;
use super::value::Number;

/// One sample.
pub type Sample<T> = (Time, T);

/// The earliest and the latest sample; the same if there is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ends<T> {
    pub first: Sample<T>,
    pub last: Sample<T>,
}

/// What is kept of the steps between consecutive samples. Merging adds up.
pub trait Steps<T: Number>: State {
    /// What is left when no further step can come.
    type Closed: State;

    fn step(&mut self, from: Sample<T>, to: Sample<T>);

    /// Takes the steps between these samples; `None` if all values are NaN. The loop over values.
    fn walk(&mut self, times: &[Time], values: &[T]) -> Option<Ends<T>>;

    /// The state of all steps from one sample to another; they are the same if there was no step.
    fn close(self, from: Sample<T>, to: Sample<T>) -> Self::Closed;
}

#[derive(Clone, Debug, PartialEq)]
pub struct Trace<T, S> {
    /// `None`: no sample yet.
    pub ends: Option<Ends<T>>,
    pub steps: S,
}

impl<T: Number, S: Steps<T>> Trace<T, S> {
    /// Adds samples of ascending times. See the head of this file for which ones.
    pub fn add_samples(&mut self, times: &[Time], values: &[T]) {
        let mut own = Trace::IDENTITY;
        own.ends = S::walk(&mut own.steps, times, values);
        self.merge(&own);
    }

    /// The steps inside and the one from `before`, the series' last sample ahead of this state, if there is one.
    fn close(&self, before: Option<Sample<T>>) -> S::Closed {
        let Some(ends) = &self.ends else { return S::Closed::IDENTITY };
        let mut steps = self.steps.clone();
        if let Some(before) = before {
            steps.step(before, ends.first);
        }
        steps.close(before.unwrap_or(ends.first), ends.last)
    }
}

/// Closes the buckets of one series, in the order of time.
pub fn close<T: Number, S: Steps<T>>(traces: &[Trace<T, S>]) -> Vec<S::Closed> {
    let mut before = None;
    let close = |trace: &Trace<T, S>| {
        let closed = trace.close(before);
        before = trace.ends.map(|ends| ends.last).or(before);
        closed
    };
    traces.iter().map(close).collect()
}

impl<T: Number, S: Steps<T>> State for Trace<T, S> {
    const IDENTITY: Self = Trace { ends: None, steps: S::IDENTITY };

    fn merge(&mut self, other: &Self) {
        let Some(theirs) = other.ends else { return };
        let Some(mine) = self.ends else { return self.clone_from(other) };
        let (early, late) = if mine.first.0 < theirs.first.0 { (mine, theirs) } else { (theirs, mine) };
        debug_assert!(
            early.last.0 < late.first.0,
            "bug: these samples are of several series, or the same twice"
        );
        self.steps.merge(&other.steps);
        self.steps.step(early.last, late.first);
        self.ends = Some(Ends { first: early.first, last: late.last });
    }

    fn heap_bytes(&self) -> usize {
        self.steps.heap_bytes()
    }
}

#[cfg(test)]
mod tests;
