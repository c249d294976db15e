//! What a histogram tells of its observations: quantiles, fractions, their spread.
//!
//! Invariant: within a bucket with exponential bounds observations lie evenly on a logarithmic scale, in custom buckets and in the zero
//! bucket evenly.

use crate::promql::arithmetic::Sum;
use crate::promql::native::{Bucket, Native};

/// What NaN among the observations did to a quantile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nans {
    None,
    /// They are where the quantile is.
    Result,
    /// They count as larger than all others.
    Skew,
}

impl Native {
    pub fn mean(&self) -> f64 {
        self.sum / self.count
    }

    pub fn variance(&self) -> f64 {
        let mean = self.mean();
        let mut squares = Sum::default();
        for bucket in self.buckets() {
            let middle = if self.is_custom() {
                (bucket.upper + bucket.lower) / 2.0
            } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
                0.0
            } else if bucket.upper < 0.0 {
                -(bucket.upper * bucket.lower).sqrt()
            } else {
                (bucket.upper * bucket.lower).sqrt()
            };
            let delta = middle - mean;
            squares.add(bucket.count * delta * delta);
        }
        (squares.sum + squares.lost) / self.count
    }

    pub fn quantile(&self, quantile: f64) -> (f64, Nans) {
        if quantile < 0.0 {
            return (f64::NEG_INFINITY, Nans::None);
        }
        if quantile > 1.0 {
            return (f64::INFINITY, Nans::None);
        }
        if self.count == 0.0 || quantile.is_nan() {
            return (f64::NAN, Nans::None);
        }
        // NaN are counted and have no bucket, so that only the way from below is sure.
        let upward = self.sum.is_nan() || quantile < 0.5;
        let mut rank = if upward { quantile * self.count } else { (1.0 - quantile) * self.count };
        let mut buckets: Box<dyn Iterator<Item = Bucket>> =
            if upward { Box::new(self.buckets()) } else { Box::new(self.buckets().rev()) };
        let nothing =
            Bucket { lower: 0.0, upper: 0.0, lower_inclusive: false, upper_inclusive: false, count: 0.0 };
        let (mut bucket, mut count) = (nothing, 0.0);
        for next in buckets.by_ref() {
            bucket = next;
            count += bucket.count;
            if count >= rank {
                break;
            }
        }
        if self.is_custom() {
            if bucket.lower == f64::NEG_INFINITY {
                if bucket.upper <= 0.0 {
                    return (bucket.upper, Nans::None);
                }
                bucket.lower = 0.0;
            } else if bucket.upper == f64::INFINITY {
                return (bucket.lower, Nans::None);
            }
        } else {
            bucket = self.one_sided(bucket);
        }
        count = if count > self.count { self.count } else { count };
        if count < rank {
            return if self.sum.is_nan() { (f64::NAN, Nans::Result) } else { (bucket.upper, Nans::None) };
        }
        let mut nans = Nans::None;
        if self.sum.is_nan() {
            let all = count + buckets.map(|bucket| bucket.count).sum::<f64>();
            nans = if all < self.count { Nans::Skew } else { Nans::None };
        }
        if upward {
            rank -= count - bucket.count;
        } else {
            rank = count - rank;
        }
        (self.between(bucket, rank / bucket.count), nans)
    }

    /// A value of which so large a share of a bucket's observations lies below.
    fn between(&self, bucket: Bucket, share: f64) -> f64 {
        let Bucket { lower, upper, .. } = bucket;
        if self.is_custom() || (lower <= 0.0 && upper >= 0.0) {
            return lower + (upper - lower) * share;
        }
        let (log_lower, log_upper) = (lower.abs().log2(), upper.abs().log2());
        match lower > 0.0 {
            true => (log_lower + (log_upper - log_lower) * share).exp2(),
            false => -(log_upper + (log_lower - log_upper) * (1.0 - share)).exp2(),
        }
    }

    /// A zero bucket beside buckets of one sign only holds nothing of the other.
    pub(super) fn one_sided(&self, mut bucket: Bucket) -> Bucket {
        if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            if self.negative.is_empty() && !self.positive.is_empty() {
                bucket.lower = 0.0;
            } else if self.positive.is_empty() && !self.negative.is_empty() {
                bucket.upper = 0.0;
            }
        }
        bucket
    }

    /// The share of observations between two values, and whether there were NaN, which lie in no share.
    pub fn fraction(&self, lower: f64, upper: f64) -> (f64, bool) {
        if self.count == 0.0 || lower.is_nan() || upper.is_nan() {
            return (f64::NAN, false);
        }
        if lower >= upper {
            return (0.0, false);
        }
        let mut count = self.count;
        let mut has_nans = false;
        if self.sum.is_nan() {
            count = self.buckets().map(|bucket| bucket.count).sum();
            has_nans = count < self.count;
        }
        let (mut rank, mut lower_rank, mut upper_rank) = (0.0, None, None);
        for bucket in self.buckets() {
            let around_zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
            let bucket = self.one_sided(bucket);
            let rank_of = |value: f64| match self.is_custom() || around_zero {
                true if bucket.lower == f64::NEG_INFINITY => bucket.count,
                true => rank + bucket.count * (value - bucket.lower) / (bucket.upper - bucket.lower),
                false => rank + bucket.count * logarithmic_share(bucket, value),
            };
            for (value, found) in [(lower, &mut lower_rank), (upper, &mut upper_rank)] {
                if found.is_none() && bucket.lower >= value {
                    *found = Some(rank);
                }
                if found.is_none() && bucket.lower < value && bucket.upper > value {
                    *found = Some(rank_of(value));
                }
            }
            if lower_rank.is_some() && upper_rank.is_some() {
                break;
            }
            rank += bucket.count;
        }
        let capped = |rank: Option<f64>| rank.filter(|rank| *rank <= count).unwrap_or(count);
        ((capped(upper_rank) - capped(lower_rank)) / self.count, has_nans)
    }
}

/// How much of a bucket lies below a value in it.
pub(super) fn logarithmic_share(bucket: Bucket, value: f64) -> f64 {
    let [lower, upper, value_log] = [bucket.lower, bucket.upper, value].map(|bound| bound.abs().log2());
    match value > 0.0 {
        true => (value_log - lower) / (upper - lower),
        false => 1.0 - (value_log - upper) / (lower - upper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::native::tests::native;

    #[test]
    fn quantiles_lie_on_a_logarithmic_scale() {
        let histogram = native(0, &[(1, 4.0), (2, 4.0)]);
        assert_eq!(histogram.quantile(0.25).0, 2f64.sqrt());
        assert_eq!(histogram.quantile(0.5).0, 2.0);
        assert_eq!((histogram.quantile(0.0).0, histogram.quantile(1.0).0), (1.0, 4.0));
        assert_eq!(
            (histogram.quantile(-1.0).0, histogram.quantile(2.0).0),
            (f64::NEG_INFINITY, f64::INFINITY)
        );
        assert!(native(0, &[]).quantile(0.5).0.is_nan());
    }

    #[test]
    fn nans_are_larger_than_all_else() {
        let histogram = Native { count: 16.0, sum: f64::NAN, ..native(0, &[(1, 4.0), (2, 4.0)]) };
        assert_eq!(histogram.quantile(0.125), (2f64.sqrt(), Nans::Skew));
        assert_eq!(histogram.quantile(0.9).1, Nans::Result);
        assert_eq!(histogram.fraction(f64::NEG_INFINITY, f64::INFINITY), (0.5, true));
    }

    #[test]
    fn fractions_are_the_inverse_of_quantiles() {
        let mut histogram = native(0, &[(1, 4.0), (2, 4.0)]);
        histogram.negative = vec![(1, 8.0)];
        histogram.count = 16.0;
        assert_eq!(histogram.fraction(f64::NEG_INFINITY, 0.0), (0.5, false));
        assert!((histogram.fraction(2f64.sqrt(), 2.0).0 - 0.125).abs() < 1e-15);
        assert!((histogram.fraction(-2.0, -(2f64.sqrt())).0 - 0.25).abs() < 1e-15);
        assert_eq!(histogram.fraction(2.0, 1.0).0, 0.0);
    }

    #[test]
    fn the_spread_is_that_of_the_middles() {
        let histogram = Native { sum: 8.0 * 2f64.sqrt(), ..native(0, &[(1, 8.0)]) };
        assert_eq!(histogram.variance(), 0.0);
        assert_eq!(histogram.mean(), 2f64.sqrt());
    }
}
