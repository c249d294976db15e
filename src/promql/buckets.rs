//! Classic histograms: a quantile and a fraction from buckets that are series of their own, with their upper bound in the label `le`.
//!
//! Invariant: within a bucket observations are taken to lie evenly.

/// A cumulative count of observations up to a bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    pub bound: f64,
    pub count: f64,
}

/// Differences of counts up to this share of them come from rounding.
const SMALL_DELTA: f64 = 1e-12;

/// The quantile, and whether counts had to be raised so that they do not fall from one bucket to the next.
pub fn quantile(quantile: f64, buckets: &mut Vec<Bucket>) -> (f64, bool) {
    if quantile.is_nan() {
        return (f64::NAN, false);
    }
    if quantile < 0.0 {
        return (f64::NEG_INFINITY, false);
    }
    if quantile > 1.0 {
        return (f64::INFINITY, false);
    }
    if !put_in_order(buckets) {
        return (f64::NAN, false);
    }
    let forced = make_monotonic(buckets);
    if buckets.len() < 2 {
        return (f64::NAN, false);
    }
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if observations == 0.0 {
        return (f64::NAN, false);
    }
    let mut rank = quantile * observations;
    let at = buckets[..last].partition_point(|bucket| bucket.count < rank || bucket.count.is_nan());
    if at == last {
        return (buckets[last - 1].bound, forced);
    }
    let Bucket { bound: end, mut count } = buckets[at];
    if at == 0 && end <= 0.0 {
        return (end, forced);
    }
    let mut start = 0.0;
    if at > 0 {
        start = buckets[at - 1].bound;
        count -= buckets[at - 1].count;
        rank -= buckets[at - 1].count;
    }
    (start + (end - start) * (rank / count), forced)
}

/// The share of observations between two values.
pub fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if !put_in_order(buckets) {
        return f64::NAN;
    }
    let all = buckets[buckets.len() - 1].count;
    if all == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank_of(upper, buckets).min(all) - rank_of(lower, buckets).min(all)) / all
}

/// How many observations lie below a value. A first bucket that reaches above 0 begins there; one that does not has no lower bound, and a
/// value inside it counts all of it.
fn rank_of(value: f64, buckets: &[Bucket]) -> f64 {
    let mut rank = 0.0;
    let mut start = if buckets[0].bound <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    for bucket in buckets {
        if start >= value {
            return rank;
        }
        if bucket.bound > value {
            return match start == f64::NEG_INFINITY {
                true => bucket.count,
                false => rank + (bucket.count - rank) * (value - start) / (bucket.bound - start),
            };
        }
        rank = bucket.count;
        start = bucket.bound;
    }
    rank
}

/// By bound, those of equal bounds as one. False if the last does not hold everything.
fn put_in_order(buckets: &mut Vec<Bucket>) -> bool {
    buckets.sort_by(|a, b| a.bound.total_cmp(&b.bound));
    buckets.dedup_by(|next, kept| {
        let equal = next.bound == kept.bound;
        if equal {
            kept.count += next.count;
        }
        equal
    });
    buckets.last().is_some_and(|last| last.bound == f64::INFINITY)
}

fn make_monotonic(buckets: &mut [Bucket]) -> bool {
    let mut forced = false;
    let mut before = buckets[0].count;
    for bucket in &mut buckets[1..] {
        if bucket.count == before {
            continue;
        }
        if nearly_equal(before, bucket.count) {
            bucket.count = before;
        } else if bucket.count < before {
            bucket.count = before;
            forced = true;
        } else {
            before = bucket.count;
        }
    }
    forced
}

fn nearly_equal(a: f64, b: f64) -> bool {
    if a.is_nan() || b.is_nan() {
        return a.is_nan() && b.is_nan();
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < SMALL_DELTA * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < SMALL_DELTA
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Bucket> {
        pairs.iter().map(|(bound, count)| Bucket { bound: *bound, count: *count }).collect()
    }

    #[test]
    fn quantiles_lie_evenly_within_a_bucket() {
        let pairs = [(f64::INFINITY, 10.0), (1.0, 4.0), (2.0, 8.0)];
        let of = |q: f64| quantile(q, &mut buckets(&pairs));
        assert_eq!(of(0.5), (1.25, false));
        assert_eq!(of(0.2), (0.5, false));
        assert_eq!(of(0.95), (2.0, false), "the highest bound that is one");
        assert_eq!((of(-1.0).0, of(2.0).0), (f64::NEG_INFINITY, f64::INFINITY));
        assert!(quantile(0.5, &mut buckets(&pairs[1..])).0.is_nan(), "nothing says how many there are");
    }

    #[test]
    fn counts_that_fall_are_raised() {
        let pairs = [(1.0, 5.0), (2.0, 3.0), (f64::INFINITY, 10.0)];
        assert_eq!(quantile(0.4, &mut buckets(&pairs)), (0.8, true));
        let rounded = [(1.0, 5.0), (2.0, 5.0 - 1e-13), (f64::INFINITY, 10.0)];
        assert!(!quantile(0.4, &mut buckets(&rounded)).1);
    }

    #[test]
    fn fractions_are_the_inverse_of_quantiles() {
        let pairs = [(1.0, 4.0), (2.0, 8.0), (f64::INFINITY, 10.0)];
        let of = |lower, upper| fraction(lower, upper, &mut buckets(&pairs));
        assert_eq!(of(f64::NEG_INFINITY, 1.25), 0.5);
        assert_eq!(of(0.5, 1.0), 0.2);
        assert_eq!((of(f64::NEG_INFINITY, f64::INFINITY), of(1.0, 1.0)), (1.0, 0.0));
        assert_eq!(of(2.0, f64::INFINITY), 0.2);
    }
}
