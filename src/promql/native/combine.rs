//! Arithmetic of histograms: sums and differences of two that need not have the same buckets, multiples, and whether one goes on from another.
//!
//! Invariant: two of different resolution meet at the lower one, two of different zero buckets at the wider one. Custom buckets meet only
//! their like.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::promql::native::{Buckets, Native, ResetHint, bounds};

/// Why two histograms do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incompatible {
    /// One has custom buckets, the other has not.
    Schemas,
    /// Both have, and they are not the same.
    Bounds,
}

impl Native {
    pub fn add(&mut self, other: &Native) -> Result<(), Incompatible> {
        self.combine(other, 1.0)
    }

    pub fn subtract(&mut self, other: &Native) -> Result<(), Incompatible> {
        self.combine(other, -1.0)
    }

    fn combine(&mut self, other: &Native, sign: f64) -> Result<(), Incompatible> {
        if self.is_custom() != other.is_custom() {
            return Err(Incompatible::Schemas);
        }
        if self.is_custom() && self.custom != other.custom {
            return Err(Incompatible::Bounds);
        }
        if sign > 0.0 {
            self.hint = joint_hint(self.hint, other.hint);
        }
        if !self.is_custom() {
            let zero_count = self.widen_zero(other);
            self.zero_count += sign * zero_count;
        }
        self.count += sign * other.count;
        self.sum += sign * other.sum;
        self.reduce(other.schema.min(self.schema));
        let of_other = |buckets: &Buckets| at_schema(buckets, other.schema, self.schema, self.zero_threshold);
        let (positive, negative) = (of_other(&other.positive), of_other(&other.negative));
        merge(&mut self.positive, positive, sign);
        merge(&mut self.negative, negative, sign);
        Ok(())
    }

    pub fn multiply(&mut self, factor: f64) {
        self.scale(|count| count * factor);
    }

    /// By 0: counts become infinite, and there are no buckets.
    pub fn divide(&mut self, divisor: f64) {
        if divisor == 0.0 {
            self.positive.clear();
            self.negative.clear();
        }
        self.scale(|count| count / divisor);
    }

    /// Whether it counts up stays as it was, also below zero: so `delta(-h)` warns.
    fn scale(&mut self, scaled: impl Fn(f64) -> f64) {
        for number in [&mut self.zero_count, &mut self.count, &mut self.sum] {
            *number = scaled(*number);
        }
        for buckets in [&mut self.positive, &mut self.negative] {
            buckets.iter_mut().for_each(|(_, count)| *count = scaled(*count));
            buckets.retain(|(_, count)| *count != 0.0);
        }
    }

    /// Nothing observed, in the same kind of buckets.
    pub fn emptied(&self) -> Native {
        Native {
            hint: ResetHint::Unknown,
            schema: self.schema,
            zero_threshold: 0.0,
            zero_count: 0.0,
            count: 0.0,
            sum: 0.0,
            positive: Vec::new(),
            negative: Vec::new(),
            custom: Arc::clone(&self.custom),
        }
    }

    pub fn schema(&self) -> i32 {
        self.schema
    }

    /// To a schema that is no finer.
    pub fn reduce(&mut self, schema: i32) {
        if schema < self.schema {
            self.positive = at_schema(&self.positive, self.schema, schema, -1.0);
            self.negative = at_schema(&self.negative, self.schema, schema, -1.0);
            self.schema = schema;
        }
    }

    /// Whether all but the hint is the same. NaN is not NaN, except as a sum.
    pub fn equals(&self, other: &Native) -> bool {
        let same_sum = self.sum.to_bits() == other.sum.to_bits() || self.sum == other.sum;
        self.schema == other.schema
            && self.count == other.count
            && same_sum
            && self.zero_threshold == other.zero_threshold
            && self.zero_count == other.zero_count
            && self.custom == other.custom
            && self.positive == other.positive
            && self.negative == other.negative
    }

    /// Whether a counter has begun anew since the histogram before.
    pub fn is_reset(&self, before: &Native) -> bool {
        if self.hint == ResetHint::Yes || self.count < before.count {
            return true;
        }
        if self.is_custom() != before.is_custom() || self.custom != before.custom {
            return true;
        }
        if self.schema > before.schema || self.zero_threshold < before.zero_threshold {
            return true;
        }
        if !self.is_custom() {
            let (zero_count, threshold) = before.zero_within(self.zero_threshold);
            if threshold != self.zero_threshold || self.zero_count < zero_count {
                return true;
            }
        }
        let fell = |now: &Buckets, before_buckets: &Buckets| {
            let skip = if self.is_custom() { -1.0 } else { self.zero_threshold };
            let now = at_schema(now, self.schema, self.schema, skip);
            let before = at_schema(before_buckets, before.schema, self.schema, skip);
            before.iter().any(|(index, count)| match now.binary_search_by_key(index, |(index, _)| *index) {
                Ok(at) => now[at].1 < *count,
                Err(_) => true,
            })
        };
        fell(&self.positive, &before.positive) || fell(&self.negative, &before.negative)
    }

    /// Widens the zero buckets of both, this one in place, until they are of one width. The other's count in it.
    fn widen_zero(&mut self, other: &Native) -> f64 {
        let (mut count, mut threshold) = (other.zero_count, other.zero_threshold);
        while threshold != self.zero_threshold {
            if self.zero_threshold > threshold {
                (count, threshold) = other.zero_within(self.zero_threshold);
            }
            if threshold > self.zero_threshold {
                (self.zero_count, self.zero_threshold) = self.zero_within(threshold);
                let (schema, zero) = (self.schema, self.zero_threshold);
                for buckets in [&mut self.positive, &mut self.negative] {
                    buckets.retain(|(index, _)| bounds::exponential(schema, index.wrapping_sub(1)) >= zero);
                }
            }
        }
        count
    }

    /// The count of a zero bucket of at least a width, which is no less than it has. It grows to the end of a bucket that it would cut.
    fn zero_within(&self, width: f64) -> (f64, f64) {
        if width == self.zero_threshold {
            return (self.zero_count, width);
        }
        let mut width = width;
        loop {
            let (count, end) = self.covered(&self.positive, width, self.zero_count);
            let (count, negative_end) = self.covered(&self.negative, end, count);
            width = negative_end;
            if negative_end == end {
                return (count, end);
            }
            // The positive ones were counted to another width.
        }
    }

    /// A count with that of the buckets below a width, and where the last of them ends if that is beyond it.
    fn covered(&self, buckets: &Buckets, width: f64, mut count: f64) -> (f64, f64) {
        for (index, inside) in buckets {
            if bounds::exponential(self.schema, index.wrapping_sub(1)) >= width {
                break;
            }
            count += inside;
            let upper = bounds::exponential(self.schema, *index);
            if upper > width {
                return (count, upper);
            }
        }
        (count, width)
    }
}

/// None of none.
pub fn sum<'a>(mut histograms: impl Iterator<Item = &'a Native>) -> Result<Option<Native>, Incompatible> {
    let Some(mut sum) = histograms.next().cloned() else { return Ok(None) };
    for histogram in histograms {
        sum.add(histogram)?;
    }
    Ok(Some(sum))
}

/// Kept up to date from one to the next. None of none.
pub fn mean<'a>(mut histograms: impl Iterator<Item = &'a Native>) -> Result<Option<Native>, Incompatible> {
    let Some(mut mean) = histograms.next().cloned() else { return Ok(None) };
    for (count, histogram) in (2..).zip(histograms) {
        let count = f64::from(count);
        let (mut step, mut before) = (histogram.clone(), mean.clone());
        step.divide(count);
        before.divide(count);
        step.subtract(&before)?;
        mean.add(&step)?;
    }
    Ok(Some(mean))
}

fn joint_hint(one: ResetHint, other: ResetHint) -> ResetHint {
    match (one, other) {
        (one, other) if one == other => one,
        (ResetHint::Gauge, _) | (_, ResetHint::Gauge) => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    }
}

/// Buckets of a schema as those of one that is no finer, without those up to a width that the zero bucket covers.
fn at_schema(buckets: &Buckets, from: i32, to: i32, covered: f64) -> Buckets {
    let mut out = Buckets::with_capacity(buckets.len());
    for (index, count) in buckets {
        let index = if from > to { ((index.wrapping_sub(1)) >> (from - to)) + 1 } else { *index };
        match out.last_mut() {
            Some((last, sum)) if *last == index => *sum += count,
            _ => out.push((index, *count)),
        }
    }
    if covered >= 0.0 && to > storage_format::histogram::SCHEMA_CUSTOM {
        let first = out.iter().position(|(index, _)| bounds::exponential(to, *index) > covered);
        out.drain(..first.unwrap_or(out.len()));
    }
    out
}

fn merge(into: &mut Buckets, other: Buckets, sign: f64) {
    let mut other: VecDeque<(i32, f64)> = other.into();
    let mut merged = Buckets::with_capacity(into.len().max(other.len()));
    for (index, count) in into.drain(..) {
        while let Some((before, more)) = other.pop_front_if(|(other, _)| *other < index) {
            merged.push((before, sign * more));
        }
        match other.pop_front_if(|(other, _)| *other == index) {
            Some((_, more)) => merged.push((index, count + sign * more)),
            None => merged.push((index, count)),
        }
    }
    merged.extend(other.into_iter().map(|(index, count)| (index, sign * count)));
    merged.retain(|(_, count)| *count != 0.0);
    *into = merged;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::native::tests::native;

    #[test]
    fn different_resolutions_meet_at_the_lower() {
        let mut fine = native(1, &[(1, 1.0), (2, 2.0), (3, 4.0)]);
        fine.add(&native(0, &[(1, 8.0), (5, 1.0)])).unwrap();
        // (1, 1.41], (1.41, 2] and (2, 2.83] are (1, 2] and (2, 4].
        assert_eq!((fine.schema(), &fine.positive), (0, &vec![(1, 11.0), (2, 4.0), (5, 1.0)]));
        assert_eq!(fine.count, 16.0);
        fine.subtract(&native(0, &[(5, 1.0), (6, 1.0)])).unwrap();
        assert_eq!(fine.positive, [(1, 11.0), (2, 4.0), (6, -1.0)]);
    }

    #[test]
    fn a_wider_zero_bucket_takes_buckets_in() {
        let mut narrow = native(0, &[(0, 1.0), (1, 2.0), (2, 4.0)]);
        let mut wide = native(0, &[(3, 1.0)]);
        // It would cut the bucket (1, 2], and so ends at 2.
        (wide.zero_threshold, wide.zero_count) = (1.5, 10.0);
        narrow.add(&wide).unwrap();
        assert_eq!((narrow.zero_threshold, narrow.zero_count), (2.0, 13.0));
        assert_eq!(narrow.positive, [(2, 4.0), (3, 1.0)]);
    }

    #[test]
    fn custom_buckets_meet_their_like_only() {
        let mut custom = native(storage_format::histogram::SCHEMA_CUSTOM, &[(0, 1.0)]);
        custom.custom = [1.0, 2.0].as_slice().into();
        let mut other = custom.clone();
        assert_eq!(custom.add(&native(0, &[])), Err(Incompatible::Schemas));
        other.custom = [1.0].as_slice().into();
        assert_eq!(custom.add(&other), Err(Incompatible::Bounds));
        assert_eq!(custom.clone().add(&custom), Ok(()));
    }

    #[test]
    fn counters_begin_anew_where_anything_falls() {
        let before = native(1, &[(1, 5.0), (2, 5.0)]);
        let after = |positive: &[(i32, f64)]| native(1, positive);
        assert!(!after(&[(1, 5.0), (2, 6.0)]).is_reset(&before));
        assert!(after(&[(1, 4.0), (2, 9.0)]).is_reset(&before), "a bucket fell");
        assert!(after(&[(2, 20.0)]).is_reset(&before), "a bucket is gone");
        assert!(after(&[(1, 1.0)]).is_reset(&before), "the count fell");
        assert!(!native(0, &[(1, 10.0)]).is_reset(&before), "a lower resolution is no reset");
        assert!(native(2, &[(1, 20.0)]).is_reset(&before), "a higher one is");
        let told = Native { hint: ResetHint::Yes, ..before.clone() };
        assert!(told.is_reset(&before));
    }

    #[test]
    fn multiples_and_shares() {
        let mut histogram = native(0, &[(0, 2.0)]);
        histogram.multiply(-1.5);
        assert_eq!((histogram.count, histogram.hint), (-3.0, ResetHint::Unknown));
        histogram.divide(0.0);
        assert_eq!((histogram.count, histogram.positive.len()), (f64::NEG_INFINITY, 0));
    }
}
