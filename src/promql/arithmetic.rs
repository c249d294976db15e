//! Sums that lose little, and quantiles: the numbers under functions and aggregations alike.
//!
//! Invariant: the order of operations is Prometheus', so that results agree to the last bits.

/// A sum with what its rounding lost (Neumaier).
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    pub sum: f64,
    pub lost: f64,
}

impl Sum {
    pub fn new(first: f64) -> Sum {
        Sum { sum: first, lost: 0.0 }
    }

    pub fn plus(self, value: f64) -> Sum {
        let sum = self.sum + value;
        let lost = if sum.is_infinite() {
            0.0
        } else if self.sum.abs() >= value.abs() {
            self.lost + ((self.sum - sum) + value)
        } else {
            self.lost + ((value - sum) + self.sum)
        };
        Sum { sum, lost }
    }

    pub fn add(&mut self, value: f64) {
        *self = self.plus(value);
    }
}

/// A mean that sums as long as the sum does not overflow.
#[derive(Clone, Copy, Debug)]
pub struct Mean {
    count: f64,
    sum: Sum,
    /// From when on the sum would have overflowed: the mean itself, kept up to date.
    mean: Option<Sum>,
}

impl Mean {
    pub fn new(first: f64) -> Mean {
        Mean { count: 1.0, sum: Sum::new(first), mean: None }
    }

    pub fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.mean.is_none() {
            let sum = self.sum.plus(value);
            if !sum.sum.is_infinite() {
                self.sum = sum;
                return;
            }
            let before = self.count - 1.0;
            self.mean = Some(Sum { sum: self.sum.sum / before, lost: self.sum.lost / before });
        }
        if let Some(mean) = &mut self.mean {
            let share = (self.count - 1.0) / self.count;
            *mean = Sum { sum: share * mean.sum, lost: share * mean.lost }.plus(value / self.count);
        }
    }

    pub fn mean(self) -> f64 {
        match self.mean {
            Some(mean) => mean.sum + mean.lost,
            None => self.sum.sum / self.count + self.sum.lost / self.count,
        }
    }
}

/// As Go's `math.Max`: NaN if either is, but for an infinity that nothing is larger than.
pub fn larger(left: f64, right: f64) -> f64 {
    let is_most = |value: f64| value == f64::INFINITY;
    if (left.is_nan() || right.is_nan()) && !is_most(left) && !is_most(right) {
        return f64::NAN;
    }
    left.max(right)
}

/// As Go's `math.Min`.
pub fn smaller(left: f64, right: f64) -> f64 {
    -larger(-left, -right)
}

/// Of sorted or unsorted values, which it sorts, NaN first. NaN if there are none.
pub fn quantile(quantile: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || quantile.is_nan() {
        return f64::NAN;
    }
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(|a, b| nan_first(*a, *b));
    let last = values.len() - 1;
    let rank = quantile * last as f64;
    let lower = (rank.floor().max(0.0) as usize).min(last);
    let upper = last.min(lower + 1);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

pub fn nan_first(a: f64, b: f64) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.partial_cmp(&b).expect("neither is NaN"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(values: &[f64]) -> f64 {
        let mut mean = Mean::new(values[0]);
        values[1..].iter().for_each(|value| mean.add(*value));
        mean.mean()
    }

    #[test]
    fn sums_keep_what_rounding_loses() {
        let mut sum = Sum::default();
        [1.0, 1e100, 1.0, -1e100].into_iter().for_each(|value| sum.add(value));
        assert_eq!(sum.sum + sum.lost, 2.0);
        let over = Sum::new(f64::MAX).plus(f64::MAX);
        assert_eq!(over.sum + over.lost, f64::INFINITY);
    }

    #[test]
    fn means_do_not_overflow() {
        assert_eq!(mean(&[1.0, 2.0, 6.0]), 3.0);
        assert_eq!(mean(&[f64::MAX, f64::MAX]), f64::MAX);
        assert_eq!(mean(&[f64::INFINITY, 1.0]), f64::INFINITY);
        assert!(mean(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    #[test]
    fn quantiles_lie_between_values() {
        let of = |q: f64, values: &[f64]| quantile(q, &mut values.to_vec());
        assert_eq!(of(0.5, &[3.0, 1.0, 2.0, 4.0]), 2.5);
        assert_eq!((of(0.0, &[2.0, 1.0]), of(1.0, &[2.0, 1.0])), (1.0, 2.0));
        assert_eq!((of(-0.1, &[1.0]), of(1.1, &[1.0])), (f64::NEG_INFINITY, f64::INFINITY));
        assert!(of(f64::NAN, &[1.0]).is_nan() && of(0.5, &[]).is_nan());
    }
}
