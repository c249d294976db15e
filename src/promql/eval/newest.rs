//! The newest sample of every series that selectors mean, with its own time: what is federated.
//!
//! Invariant: value and time are read from one view. A series that has ended is none.

use std::collections::BTreeMap;

use storage_format::point::TagSet;

use crate::error::Result;
use crate::guard::Guard;
use crate::promql::annotations::Annotations;
use crate::promql::ast::{Matcher, Moved, Selector};
use crate::promql::counts::Counts;
use crate::promql::eval::{Evaluator, Times, milliseconds};
use crate::promql::select::{Selection, Source};
use crate::promql::value::Steps;
use crate::scan::Touched;

/// What is asked. All times are milliseconds.
#[derive(Debug)]
pub struct Newest {
    selectors: Vec<Vec<Matcher>>,
    times: Times,
}

/// A sample: its time and its value.
pub type Sample = (i64, f64);

impl Newest {
    /// Up to `time`, no older than the look-back.
    pub fn new(selectors: Vec<Vec<Matcher>>, time: i64, lookback: i64) -> Newest {
        let times = Times { steps: Steps::instant(time), end: time, is_range: false, lookback };
        Newest { selectors, times }
    }

    /// Each selector twice: once for the values, once for their times.
    pub fn selections(&self) -> Vec<Selection> {
        let range = self.times.windows(self.times.steps, &Moved::default(), self.times.lookback).hull();
        let twice = |matchers: &Vec<Matcher>| [matchers.clone(), matchers.clone()];
        let all = self.selectors.iter().flat_map(twice);
        all.map(|matchers| Selection::new(matchers, range)).collect()
    }

    /// Floats by labels; `sources` are those of the selections, in their order.
    pub fn run(&self, sources: Vec<Vec<Source>>, guard: &Guard) -> Result<BTreeMap<TagSet, Sample>> {
        let (touched, annotations, counts) = (Touched::default(), Annotations::new(""), Counts::default());
        let evaluator = Evaluator::new(self.times, sources, guard, &touched, &annotations, &counts);
        let selector = |id: usize| Selector {
            id,
            name: None,
            matchers: Vec::new(),
            moved: Moved::default(),
            extension: None,
            computed_range: None,
            totals_only: true,
        };
        let mut found = BTreeMap::new();
        for at in 0..self.selectors.len() {
            let values = evaluator.newest(&selector(2 * at), self.times.steps, None)?;
            let times = evaluator.newest(&selector(2 * at + 1), self.times.steps, Some(milliseconds))?;
            // Both are sorted, and of the same series.
            for (value, time) in values.series.into_iter().zip(&times.series) {
                if value.histograms.is_empty() {
                    found.insert(value.labels, (time.values[0] as i64, value.values[0]));
                }
            }
        }
        Ok(found)
    }
}
