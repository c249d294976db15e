//! How many samples a query has looked at, step by step: what `stats` says.
//!
//! Invariant: a sample counts at each step that looks at it, as in Prometheus: once as the newest of its series, and once in every window
//! that holds it. Inside a subquery nothing counts; the samples that it gives do. A histogram counts as so many samples as fit into its size.
//! A state of a rollup counts as one sample, however many it stands for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::promql::value::{Column, Histograms, Run, is_absent};
use crate::promql::window::{Point, Points, Samples, Windows};

/// By step of the query. None if nobody asks: then nothing is counted.
#[derive(Debug, Default)]
pub struct Counts {
    steps: Option<Vec<AtomicU64>>,
    is_inside: AtomicBool,
}

impl Counts {
    pub fn new(steps: usize, wanted: bool) -> Counts {
        let steps = wanted.then(|| (0..steps).map(|_| AtomicU64::new(0)).collect());
        Counts { steps, is_inside: AtomicBool::new(false) }
    }

    pub fn into_steps(self) -> Option<Vec<u64>> {
        self.steps.map(|steps| steps.into_iter().map(AtomicU64::into_inner).collect())
    }

    /// Evaluates the inside of a subquery, whose steps are others.
    pub fn inside<T>(&self, evaluate: impl FnOnce() -> T) -> T {
        let before = self.is_inside.swap(true, Ordering::Relaxed);
        let value = evaluate();
        self.is_inside.store(before, Ordering::Relaxed);
        value
    }

    fn wanted(&self) -> Option<&[AtomicU64]> {
        self.steps.as_deref().filter(|_| !self.is_inside.load(Ordering::Relaxed))
    }

    /// The newest samples of a series.
    pub fn newest(&self, column: &Column, histograms: &Histograms) {
        let Some(steps) = self.wanted() else { return };
        for (step, _) in steps.iter().zip(column).filter(|(_, value)| !is_absent(**value)) {
            step.fetch_add(1, Ordering::Relaxed);
        }
        for (step, histogram) in histograms {
            steps[*step].fetch_add(histogram.size_in_samples(), Ordering::Relaxed);
        }
    }

    /// The samples in the windows over a series of floats.
    pub fn windows(&self, windows: &Windows, samples: Samples<'_>) {
        let Some(steps) = self.wanted() else { return };
        let mut steps = steps.iter();
        windows.slide(samples.times, |_, _, rows, _| {
            let step = steps.next().expect("windows have the steps of the query");
            step.fetch_add(rows.len() as u64, Ordering::Relaxed);
        });
    }

    pub fn are_wanted(&self) -> bool {
        self.wanted().is_some()
    }

    /// The states of a series that the windows are made of, step by step.
    pub fn states(&self, pieces: &[u64]) {
        let Some(steps) = self.wanted() else { return };
        steps.iter().zip(pieces).for_each(|(step, count)| {
            step.fetch_add(*count, Ordering::Relaxed);
        });
    }

    /// All samples of a range, at the only step.
    pub fn run(&self, run: &Run) {
        let Some([step]) = self.wanted() else { return };
        let histograms: u64 = run.histograms.iter().map(|(_, histogram)| histogram.size_in_samples()).sum();
        step.fetch_add(run.samples.len() as u64 + histograms, Ordering::Relaxed);
    }

    /// The same of a series with histograms.
    pub fn mixed_windows(&self, windows: &Windows, points: &Points) {
        let Some(steps) = self.wanted() else { return };
        let mut steps = steps.iter();
        let size = |point: &Point| match point {
            Point::Histogram(histogram) => histogram.size_in_samples(),
            Point::Float(_) => 1,
            Point::Stale => 0,
        };
        windows.slide(&points.times, |_, _, rows, _| {
            let step = steps.next().expect("windows have the steps of the query");
            step.fetch_add(points.points[rows].iter().map(size).sum(), Ordering::Relaxed);
        });
    }
}
