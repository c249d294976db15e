//! What expressions give, over all steps of a query at once.
//!
//! Invariant: a column has one entry per step; where a series has no sample it holds [`ABSENT`], whose bits are those of Prometheus' stale
//! marker, which no expression can give. What a [`Vector`] takes is counted for as long as it lives.

use hashbrown::HashMap;
use hashbrown::HashSet;
use storage_format::point::TagSet;

use crate::error::Result;
use crate::guard::{Guard, Held};
use crate::promql::failure;

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

#[derive(Clone, Debug)]
pub struct Series {
    pub labels: TagSet,
    pub values: Column,
}

impl Series {
    pub fn is_empty(&self) -> bool {
        self.values.iter().all(|value| is_absent(*value))
    }
}

/// What a series of so many steps takes.
pub fn series_bytes(steps: usize) -> usize {
    size_of::<Series>() + steps * size_of::<f64>()
}

/// The samples of one series in a range, for a range vector as an answer. Times are milliseconds.
#[derive(Clone, Debug)]
pub struct Run {
    pub labels: TagSet,
    pub samples: Vec<(i64, f64)>,
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
        held.grow(series.len() * series_bytes(steps.count))?;
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
                for (into, value) in out[*place].values.iter_mut().zip(one.values) {
                    match (is_absent(*into), is_absent(value)) {
                        (_, true) => {}
                        (true, false) => *into = value,
                        (false, false) => return Err(same_labels()),
                    }
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
        Series { labels: TagSet::new(labels.iter().copied()), values: values.to_vec() }
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
