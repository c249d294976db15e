//! `</` and `>/`: the observations below or above a value.
//!
//! Invariant: a histogram of which nothing is cut stays as it is. Otherwise its sum is estimated anew: the observations of a bucket count
//! with its middle, geometric between exponential bounds. Within the bucket that is cut they lie as for quantiles (`observed`). What a
//! bucket without a bound holds beyond the cut nobody knows: it goes whole.

use crate::promql::native::observed::logarithmic_share;
use crate::promql::native::{Bucket, Buckets, Native};

/// Which side of the value is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Below,
    Above,
}

/// What is left of a bucket, and where it lies.
type Rest = (f64, f64);

impl Native {
    pub fn trim(&mut self, at: f64, kept: Kept) {
        let positive: Vec<Rest> = self
            .positive
            .iter()
            .map(|bucket| self.rest(self.positive_bucket(*bucket), at, kept, true))
            .collect();
        let negative: Vec<Rest> = self
            .negative
            .iter()
            .map(|bucket| self.rest(self.negative_bucket(*bucket), at, kept, false))
            .collect();
        let zero = (self.zero_count > 0.0).then(|| self.rest_of_zero(at, kept));
        let (mut count, mut sum) = (0.0, 0.0);
        for (left, middle) in positive.iter().chain(&negative).chain(&zero) {
            count += left;
            sum += middle * left;
        }
        let mut is_cut = zero.is_some_and(|(left, _)| left != self.zero_count);
        is_cut |= replace(&mut self.positive, &positive);
        is_cut |= replace(&mut self.negative, &negative);
        if is_cut {
            self.zero_count = zero.map_or(self.zero_count, |(left, _)| left);
            (self.count, self.sum) = (count, sum);
        }
    }

    fn rest(&self, bucket: Bucket, at: f64, kept: Kept, is_positive: bool) -> Rest {
        let Bucket { lower, upper, count, .. } = bucket;
        let middle = |lower, upper| middle(lower, upper, is_positive, self.is_custom());
        let (is_kept, is_cut) = match kept {
            Kept::Below => (upper <= at, lower < at),
            Kept::Above => (lower >= at, upper > at),
        };
        if is_kept {
            return (count, middle(lower, upper));
        }
        if !is_cut {
            return (0.0, 0.0);
        }
        if lower == f64::NEG_INFINITY || upper == f64::INFINITY {
            return rest_of_endless(bucket, at, kept);
        }
        let share = match self.is_custom() {
            true => (at - lower) / (upper - lower),
            false => logarithmic_share(bucket, at),
        };
        let below = count * share;
        match kept {
            Kept::Below => (below, middle(lower, at)),
            Kept::Above => (count - below, middle(at, upper)),
        }
    }

    /// The zero bucket holds nothing of a sign that has buckets on the other side only.
    fn rest_of_zero(&self, at: f64, kept: Kept) -> Rest {
        let Bucket { lower, upper, count, .. } = self.one_sided(self.zero_bucket());
        match kept {
            Kept::Below if at <= lower => (0.0, 0.0),
            Kept::Above if at >= upper => (0.0, 0.0),
            Kept::Below if at < upper => (count * ((at - lower) / (upper - lower)), (lower + at) / 2.0),
            Kept::Above if at > lower => (count * ((upper - at) / (upper - lower)), (at + upper) / 2.0),
            _ => (count, (lower + upper) / 2.0),
        }
    }
}

/// Whether any count is another one. Buckets without a count go.
fn replace(buckets: &mut Buckets, rests: &[Rest]) -> bool {
    let mut is_cut = false;
    for ((_, count), (left, _)) in buckets.iter_mut().zip(rests) {
        is_cut |= *count != *left;
        *count = *left;
    }
    buckets.retain(|(_, count)| *count != 0.0);
    is_cut
}

/// Of a bucket that is cut and has no bound on one side, which only custom ones have.
fn rest_of_endless(bucket: Bucket, at: f64, kept: Kept) -> Rest {
    let Bucket { lower, upper, count, .. } = bucket;
    let finite = |bound: f64| if bound.is_infinite() { 0.0 } else { bound };
    if lower != f64::NEG_INFINITY {
        return match kept {
            Kept::Above if at >= lower => (count, at),
            _ => (0.0, finite(lower)),
        };
    }
    // One that ends above 0 begins there.
    match kept {
        Kept::Below if at > 0.0 && upper > 0.0 && upper != f64::INFINITY => (count * at / upper, at / 2.0),
        Kept::Below if upper <= 0.0 => (count, at),
        Kept::Above if at >= 0.0 && upper > at && upper != f64::INFINITY => {
            (count * (1.0 - at / upper), (at + upper) / 2.0)
        }
        _ => (0.0, finite(upper)),
    }
}

fn middle(lower: f64, upper: f64, is_positive: bool, is_linear: bool) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) if upper > 0.0 => upper / 2.0,
        (true, false) => upper,
        (false, true) => lower,
        (false, false) if is_linear => (lower + upper) / 2.0,
        (false, false) => {
            let middle = (lower * upper).abs().sqrt();
            if is_positive { middle } else { -middle }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::native::tests::native;
    use storage_format::histogram::SCHEMA_CUSTOM;

    fn trimmed(histogram: &Native, at: f64, kept: Kept) -> (Vec<(f64, f64, f64)>, f64, f64) {
        let mut histogram = histogram.clone();
        histogram.trim(at, kept);
        let buckets = histogram.buckets().map(|bucket| (bucket.lower, bucket.upper, bucket.count));
        (buckets.collect(), histogram.count, histogram.sum)
    }

    /// Buckets from -2 to 8, and one around zero.
    fn both_signs() -> Native {
        let mut histogram = native(0, &[(0, 2.0), (1, 4.0), (2, 8.0), (3, 16.0)]);
        histogram.negative = vec![(0, 1.0), (1, 2.0)];
        (histogram.zero_threshold, histogram.zero_count) = (0.001, 1.0);
        (histogram.count, histogram.sum) = (34.0, 123.75);
        histogram
    }

    #[test]
    fn where_nothing_is_cut_all_stays() {
        let whole = both_signs();
        for (at, kept) in [(f64::INFINITY, Kept::Below), (f64::NEG_INFINITY, Kept::Above), (8.0, Kept::Below)]
        {
            let mut same = whole.clone();
            same.trim(at, kept);
            assert_eq!(same, whole);
        }
        assert_eq!(trimmed(&whole, f64::INFINITY, Kept::Above), (vec![], 0.0, 0.0));
        assert_eq!(trimmed(&whole, f64::NEG_INFINITY, Kept::Below), (vec![], 0.0, 0.0));
    }

    #[test]
    fn the_bucket_with_the_cut_is_divided() {
        // Half of a bucket on a logarithmic scale.
        let (buckets, count, sum) = trimmed(&native(0, &[(1, 4.0), (2, 4.0)]), 8f64.sqrt(), Kept::Below);
        assert_eq!((buckets.len(), count), (2, 6.0));
        let middles = 4.0 * 2f64.sqrt() + 2.0 * (2.0 * 8f64.sqrt()).sqrt();
        assert!((sum - middles).abs() < 1e-12, "{sum}");
        let (buckets, count, _) = trimmed(&both_signs(), 0.0, Kept::Above);
        assert_eq!(count, 30.5);
        assert_eq!(buckets[0], (-0.001, 0.001, 0.5), "half of what is around zero");
        let (buckets, count, _) = trimmed(&both_signs(), -1.0, Kept::Below);
        assert_eq!((buckets, count), (vec![(-2.0, -1.0, 2.0)], 2.0));
    }

    #[test]
    fn custom_buckets_are_divided_evenly() {
        let custom = Native {
            schema: SCHEMA_CUSTOM,
            custom: vec![5.0, 10.0].into(),
            ..native(0, &[(0, 4.0), (1, 8.0), (2, 1.0)])
        };
        assert_eq!(
            trimmed(&custom, 7.5, Kept::Below),
            (vec![(f64::NEG_INFINITY, 5.0, 4.0), (5.0, 10.0, 4.0)], 8.0, 4.0 * 2.5 + 4.0 * 6.25)
        );
        assert_eq!(
            trimmed(&custom, 2.5, Kept::Above),
            (
                vec![(f64::NEG_INFINITY, 5.0, 2.0), (5.0, 10.0, 8.0), (10.0, f64::INFINITY, 1.0)],
                11.0,
                2.0 * 3.75 + 8.0 * 7.5 + 10.0
            )
        );
        assert_eq!(trimmed(&custom, 20.0, Kept::Above), (vec![(10.0, f64::INFINITY, 1.0)], 1.0, 20.0));
        assert_eq!(trimmed(&custom, 20.0, Kept::Below).1, 12.0);
    }
}
