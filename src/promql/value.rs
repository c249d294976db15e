//! What expressions give, over all steps of a query at once.
//!
//! Invariant: a column has one entry per step; where a series has no float it holds [`ABSENT`], whose bits are those of Prometheus' stale
//! marker, which no expression can give. Native histograms stand beside the column, at steps where it has no float: what looks at
//! floats alone passes over them and costs nothing more where there are none. What a [`Vector`] takes is counted for as long as it lives.

use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::HashSet;
use storage_format::point::TagSet;

use crate::error::Result;
use crate::guard::{Guard, Held};
use crate::promql::failure;
use crate::promql::native::Native;

/// Evaluation times, in milliseconds: `start`, `start + step`, ... At least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    pub start: i64,
    /// Positive.
    pub step: i64,
    pub count: usize,
}

impl Steps {
    pub fn instant(time: i64) -> Steps {
        Steps { start: time, step: 1, count: 1 }
    }

    /// From `start` to `end`, both included.
    pub fn range(start: i64, end: i64, step: i64) -> Steps {
        Steps { start, step, count: usize::try_from((end - start) / step).unwrap_or(0) + 1 }
    }

    pub fn end(self) -> i64 {
        self.start + self.step * (self.count as i64 - 1)
    }

    pub fn times(self) -> impl Iterator<Item = i64> {
        (0..self.count as i64).map(move |at| self.start + at * self.step)
    }
}

/// One sample or none per step.
pub type Column = Vec<f64>;

const ABSENT_BITS: u64 = 0x7ff0_0000_0000_0002;

/// No sample. Stored samples with these bits are stale markers: the series ended there.
pub const ABSENT: f64 = f64::from_bits(ABSENT_BITS);

pub fn is_absent(value: f64) -> bool {
    value.to_bits() == ABSENT_BITS
}

/// Native histograms by the number of their step, ascending.
pub type Histograms = Vec<(usize, Arc<Native>)>;

#[derive(Clone, Debug, Default)]
pub struct Series {
    pub labels: TagSet,
    pub values: Column,
    pub histograms: Histograms,
}

impl Series {
    pub fn floats(labels: TagSet, values: Column) -> Series {
        Series { labels, values, histograms: Histograms::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.histograms.is_empty() && self.values.iter().all(|value| is_absent(*value))
    }

    /// Whether there is a sample at a step.
    pub fn is_at(&self, step: usize) -> bool {
        !is_absent(self.values[step]) || self.histogram(step).is_some()
    }

    pub fn histogram(&self, step: usize) -> Option<&Arc<Native>> {
        if self.histograms.is_empty() {
            return None;
        }
        self.histograms.binary_search_by_key(&step, |(step, _)| *step).ok().map(|at| &self.histograms[at].1)
    }

    /// Marks the steps at which there is a sample.
    pub fn mark(&self, present: &mut [bool]) {
        present.iter_mut().zip(&self.values).for_each(|(present, value)| *present |= !is_absent(*value));
        self.histograms.iter().for_each(|(step, _)| present[*step] = true);
    }

    /// Takes away the samples at some steps.
    pub fn keep(&mut self, wanted: impl Fn(usize) -> bool) {
        for (step, value) in self.values.iter_mut().enumerate() {
            if !wanted(step) {
                *value = ABSENT;
            }
        }
        self.histograms.retain(|(step, _)| wanted(*step));
    }

    /// Takes over another's samples. False if both have one at the same step.
    pub fn absorb(&mut self, other: Series) -> bool {
        let meets = |step: &usize| self.is_at(*step);
        if !(self.histograms.is_empty() && other.histograms.is_empty())
            && (0..self.values.len()).filter(|step| other.is_at(*step)).any(|step| meets(&step))
        {
            return false;
        }
        for (into, value) in self.values.iter_mut().zip(other.values) {
            match (is_absent(*into), is_absent(value)) {
                (_, true) => {}
                (true, false) => *into = value,
                (false, false) => return false,
            }
        }
        if !other.histograms.is_empty() {
            self.histograms.extend(other.histograms);
            self.histograms.sort_unstable_by_key(|(step, _)| *step);
        }
        true
    }
}

/// What a series of so many steps takes, without its histograms.
pub fn series_bytes(steps: usize) -> usize {
    size_of::<Series>() + steps * size_of::<f64>()
}

/// What histograms take. One that stands at several steps in a row is held once.
pub fn histograms_bytes<K>(histograms: &[(K, Arc<Native>)]) -> usize {
    let of_one = |at: usize| match at.checked_sub(1) {
        Some(before) if Arc::ptr_eq(&histograms[before].1, &histograms[at].1) => 0,
        _ => histograms[at].1.heap_bytes(),
    };
    size_of_val(histograms) + (0..histograms.len()).map(of_one).sum::<usize>()
}

/// The samples of one series in a range, for a range vector as an answer. Times are milliseconds.
#[derive(Clone, Debug)]
pub struct Run {
    pub labels: TagSet,
    pub samples: Vec<(i64, f64)>,
    pub histograms: Vec<(i64, Arc<Native>)>,
}

impl Run {
    pub fn first_time(&self) -> Option<i64> {
        let histogram = self.histograms.first().map(|(time, _)| *time);
        self.samples.first().map(|(time, _)| *time).into_iter().chain(histogram).min()
    }

    pub fn last_time(&self) -> Option<i64> {
        let histogram = self.histograms.last().map(|(time, _)| *time);
        self.samples.last().map(|(time, _)| *time).into_iter().chain(histogram).max()
    }
}

pub enum Value<'g> {
    Scalar(Column),
    Text(Vec<u8>),
    Vector(Vector<'g>),
}

/// An instant vector at each step.
pub struct Vector<'g> {
    pub series: Vec<Series>,
    held: Held<'g>,
}

impl<'g> Vector<'g> {
    pub fn new(series: Vec<Series>, steps: Steps, guard: &'g Guard) -> Result<Vector<'g>> {
        let mut held = guard.hold();
        let of_histograms: usize = series.iter().map(|one| histograms_bytes(&one.histograms)).sum();
        held.grow(series.len() * series_bytes(steps.count) + of_histograms)?;
        held.check()?;
        Ok(Vector { series, held })
    }

    /// The same memory with other series in it: no more of them, and no longer ones.
    pub fn replaced(self, series: Vec<Series>) -> Vector<'g> {
        Vector { series, held: self.held }
    }
}

pub fn same_labels() -> crate::error::Error {
    failure("vector cannot contain metrics with the same labelset")
}

/// Fails if two series have the same labels, whether or not they have samples at the same times.
pub fn refuse_same_labels(series: &[Series]) -> Result<()> {
    let mut seen = HashSet::with_capacity(series.len());
    match series.iter().all(|one| seen.insert(&one.labels)) {
        true => Ok(()),
        false => Err(same_labels()),
    }
}

/// Series whose labels have become the same become one, unless both have a sample at the same step. Series without any go.
pub fn joined(series: Vec<Series>) -> Result<Vec<Series>> {
    let mut places: HashMap<TagSet, usize> = HashMap::with_capacity(series.len());
    let mut out: Vec<Series> = Vec::with_capacity(series.len());
    for one in series {
        if one.is_empty() {
            continue;
        }
        match places.get(&one.labels) {
            None => {
                places.insert(one.labels.clone(), out.len());
                out.push(one);
            }
            Some(place) => {
                if !out[*place].absorb(one) {
                    return Err(same_labels());
                }
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(labels: &[(&str, &str)], values: &[f64]) -> Series {
        Series::floats(TagSet::new(labels.iter().copied()), values.to_vec())
    }

    #[test]
    fn series_join_where_they_do_not_meet() {
        let early = series(&[("a", "1")], &[1.0, ABSENT, ABSENT]);
        let late = series(&[("a", "1")], &[ABSENT, ABSENT, 3.0]);
        let nothing = series(&[("a", "2")], &[ABSENT; 3]);
        let both = joined(vec![early.clone(), late, nothing]).unwrap();
        assert_eq!(both.len(), 1);
        assert_eq!((both[0].values[0], is_absent(both[0].values[1]), both[0].values[2]), (1.0, true, 3.0));
        assert!(joined(vec![early.clone(), early.clone()]).is_err());
        assert!(refuse_same_labels(&[early.clone(), early]).is_err());
    }

    #[test]
    fn a_range_of_steps_includes_its_end() {
        let steps = Steps::range(-10, 20, 10);
        assert_eq!(steps.times().collect::<Vec<_>>(), [-10, 0, 10, 20]);
        assert_eq!((steps.end(), Steps::range(0, 19, 10).end()), (20, 10));
    }
}
