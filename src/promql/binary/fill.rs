//! `fill`, `fill_left` and `fill_right`: what stands for the side of a match that has no series.
//!
//! Invariant: a match is filled at the steps at which one side has a sample and the other has none, by one series with the labels of the
//! match.

use hashbrown::HashMap;
use storage_format::point::TagSet;

use crate::promql::binary::{by_signature, presence};
use crate::promql::labels::Choice;
use crate::promql::value::{ABSENT, Series};

/// A side of an operator, and what fills it.
pub struct Filled<'s> {
    pub series: &'s mut Vec<Series>,
    pub fill: Option<f64>,
}

pub fn fill(one: Filled<'_>, other: Filled<'_>, choice: &Choice, steps: usize) {
    if one.fill.is_none() && other.fill.is_none() {
        return;
    }
    let by_match = |series: &[Series]| -> HashMap<TagSet, Vec<bool>> {
        let present = |members: Vec<usize>| presence(members.into_iter().map(|at| &series[at]), steps);
        by_signature(series, choice).into_iter().map(|(labels, members)| (labels, present(members))).collect()
    };
    let (of_one, of_other) = (by_match(one.series), by_match(other.series));
    add(one, &of_one, &of_other, steps);
    add(other, &of_other, &of_one, steps);
}

fn add(
    side: Filled<'_>,
    here: &HashMap<TagSet, Vec<bool>>,
    there: &HashMap<TagSet, Vec<bool>>,
    steps: usize,
) {
    let Some(value) = side.fill else { return };
    // In the order of labels, so that results do not depend on hashes.
    let mut matches: Vec<(&TagSet, &Vec<bool>)> = there.iter().collect();
    matches.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    for (labels, wanted) in matches {
        let is_here = |step: usize| here.get(labels).is_some_and(|present| present[step]);
        let at_step = |step: usize| if wanted[step] && !is_here(step) { value } else { ABSENT };
        let filled = Series::floats(labels.clone(), (0..steps).map(at_step).collect());
        if !filled.is_empty() {
            side.series.push(filled);
        }
    }
}
