//! A native histogram as a sample: what is stored as one, and what arithmetic makes of some.
//!
//! Invariant: buckets ascend by index and have a count; those without are not there, since they say nothing. All counts are floats, and may
//! be negative or no numbers where a query has computed them.
//! Not here: bytes (`storage_format::histogram`).

mod bounds; // of buckets
mod combine; // two to one
mod observed; // what is known of the observations
mod trim; // those below or above a value

use std::fmt;
use std::sync::Arc;

use storage_format::histogram::{self, Histogram, SCHEMA_CUSTOM};

pub use storage_format::histogram::ResetHint;

use crate::promql::print::number_g;
use crate::promql::value::is_absent;

pub use combine::{Incompatible, mean, sum};
pub use observed::Nans;
pub use trim::Kept;

/// Buckets of one sign: indexes and counts.
type Buckets = Vec<(i32, f64)>;

#[derive(Clone, Debug, PartialEq)]
pub struct Native {
    pub hint: ResetHint,
    schema: i32,
    zero_threshold: f64,
    zero_count: f64,
    pub count: f64,
    pub sum: f64,
    positive: Buckets,
    negative: Buckets,
    /// Upper bounds, if the schema is [`SCHEMA_CUSTOM`].
    custom: Arc<[f64]>,
}

/// A bucket as people see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub lower_inclusive: bool,
    pub upper_inclusive: bool,
    pub count: f64,
}

impl Native {
    /// None if it is a stale marker.
    pub fn of(stored: &Histogram) -> Option<Native> {
        if is_absent(stored.sum) {
            return None;
        }
        let buckets =
            |buckets: &histogram::Buckets| buckets.iter().filter(|(_, count)| *count != 0.0).collect();
        Some(Native {
            // Whether it goes on from the one before is seen when that is known.
            hint: if stored.reset_hint == ResetHint::No { ResetHint::Unknown } else { stored.reset_hint },
            schema: stored.schema,
            zero_threshold: stored.zero_threshold,
            zero_count: stored.zero_count,
            count: stored.count,
            sum: stored.sum,
            positive: buckets(&stored.positive),
            negative: buckets(&stored.negative),
            custom: stored.custom_values.as_slice().into(),
        })
    }

    /// The count and the sum alone, for those who ask for no more. Whether a counter has begun anew is known from the one before.
    pub fn totals(&self, before: Option<&Native>) -> Native {
        let is_reset = self.hint != ResetHint::Gauge && before.is_some_and(|before| self.is_reset(before));
        Native {
            hint: if is_reset { ResetHint::Yes } else { self.hint },
            schema: 0,
            zero_threshold: 0.0,
            zero_count: 0.0,
            count: self.count,
            sum: self.sum,
            positive: Vec::new(),
            negative: Vec::new(),
            custom: Arc::default(),
        }
    }

    pub fn is_custom(&self) -> bool {
        self.schema == SCHEMA_CUSTOM
    }

    pub fn heap_bytes(&self) -> usize {
        size_of::<Native>() + (self.positive.len() + self.negative.len()) * size_of::<(i32, f64)>()
    }

    /// How many samples of a time and a float fit into what Prometheus takes for it.
    pub fn size_in_samples(&self) -> u64 {
        let spans = |buckets: &Buckets| {
            let starts = buckets.windows(2).filter(|pair| pair[1].0 != pair[0].0.wrapping_add(1)).count();
            starts + usize::from(!buckets.is_empty())
        };
        let parts = [&self.positive, &self.negative].map(|buckets| spans(buckets) + buckets.len());
        // Its fixed part, eight bytes for each span, count and bound, and the time.
        let bytes = 168 + 8 * (parts[0] + parts[1] + self.custom.len()) + 8;
        (bytes / 16) as u64
    }

    /// All buckets, from the lowest values to the highest.
    pub fn buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> {
        self.buckets_around(self.zero_count > 0.0)
    }

    fn buckets_around(&self, with_zero: bool) -> impl DoubleEndedIterator<Item = Bucket> {
        let zero = with_zero.then(|| self.zero_bucket());
        // Where the zero bucket has been widened, others end at it.
        let above = |mut bucket: Bucket| {
            if bucket.lower > 0.0 && bucket.lower < self.zero_threshold {
                bucket.lower = self.zero_threshold;
            }
            bucket
        };
        let below = |mut bucket: Bucket| {
            if bucket.upper < 0.0 && bucket.upper > -self.zero_threshold {
                bucket.upper = -self.zero_threshold;
            }
            bucket
        };
        let negative = self.negative.iter().rev().map(|bucket| self.negative_bucket(*bucket)).map(below);
        let positive = self.positive.iter().map(|bucket| self.positive_bucket(*bucket)).map(above);
        negative.chain(zero).chain(positive)
    }

    fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
        }
    }

    fn positive_bucket(&self, (index, count): (i32, f64)) -> Bucket {
        let (lower, upper) = (self.bound(index.wrapping_sub(1)), self.bound(index));
        match self.is_custom() {
            true => Bucket { lower, upper, lower_inclusive: index == 0, upper_inclusive: true, count },
            false => {
                Bucket { lower, upper, lower_inclusive: lower < 0.0, upper_inclusive: upper > 0.0, count }
            }
        }
    }

    fn negative_bucket(&self, (index, count): (i32, f64)) -> Bucket {
        let (lower, upper) = (-self.bound(index), -self.bound(index.wrapping_sub(1)));
        Bucket { lower, upper, lower_inclusive: lower < 0.0, upper_inclusive: upper > 0.0, count }
    }

    /// The upper bound of the positive bucket with an index.
    fn bound(&self, index: i32) -> f64 {
        match self.is_custom() {
            true => bounds::custom(&self.custom, index),
            false => bounds::exponential(self.schema, index),
        }
    }
}

/// As `count_values` names it.
impl fmt::Display for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", number_g(self.count), number_g(self.sum))?;
        for bucket in self.buckets_around(self.zero_count != 0.0) {
            let open = if bucket.lower_inclusive { '[' } else { '(' };
            let close = if bucket.upper_inclusive { ']' } else { ')' };
            let [lower, upper, count] = [bucket.lower, bucket.upper, bucket.count].map(number_g);
            write!(f, ", {open}{lower},{upper}{close}:{count}")?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of whole counts; buckets by index.
    pub fn native(schema: i32, positive: &[(i32, f64)]) -> Native {
        let count = positive.iter().map(|(_, count)| count).sum();
        Native {
            hint: ResetHint::Unknown,
            schema,
            zero_threshold: 0.0,
            zero_count: 0.0,
            count,
            sum: count,
            positive: positive.to_vec(),
            negative: Vec::new(),
            custom: Arc::default(),
        }
    }

    #[test]
    fn buckets_ascend_and_end_at_the_zero_bucket() {
        let mut histogram = native(0, &[(0, 1.0), (2, 3.0)]);
        histogram.negative = vec![(0, 2.0)];
        (histogram.zero_threshold, histogram.zero_count) = (0.75, 5.0);
        let seen: Vec<(f64, f64, f64)> =
            histogram.buckets().map(|bucket| (bucket.lower, bucket.upper, bucket.count)).collect();
        assert_eq!(seen, [(-1.0, -0.75, 2.0), (-0.75, 0.75, 5.0), (0.75, 1.0, 1.0), (2.0, 4.0, 3.0)]);
        assert_eq!(
            histogram.to_string(),
            "{count:4, sum:4, [-1,-0.75):2, [-0.75,0.75]:5, (0.75,1]:1, (2,4]:3}"
        );
    }

    #[test]
    fn stale_markers_are_none() {
        let stale = Histogram { sum: f64::from_bits(0x7ff0_0000_0000_0002), ..Histogram::default() };
        assert!(Native::of(&stale).is_none());
    }
}
