//! Exact sums.
//!
//! Invariant: a sum is a function of the multiset of its addends, bit for bit. [`FloatSum`] is `Narrow`
//! exactly if two floats hold the exact sum, the nearest float and the rest; no other pair stands for the same
//! sum. The sign of zero is not kept: a sum that is zero is +0, also that of -0 alone.
//! Not here: the arithmetic of sums that two floats cannot hold (see `wide`).

use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};

use crate::corrupt::{Corrupt, Result};

use super::column::{Answer, State};
use super::dyadic::Dyadic;
use super::finalize::Finalized;
use super::value::{Number, Whole};
use super::wide::Wide;

/// The exact sum of floats.
#[derive(Clone, Debug, PartialEq)]
pub enum FloatSum {
    /// No value yet.
    Empty,
    /// `hi + lo`, where `hi` is finite and the float nearest to the sum. Neither is -0.
    Narrow { hi: f64, lo: f64 },
    /// Everything else: more bits than two floats have, too large, NaN, infinite.
    Wide(Box<Wide>),
}

impl FloatSum {
    pub fn add_slice(&mut self, values: &[f64]) {
        if values.is_empty() {
            return;
        }
        let (hi, lo) = match *self {
            FloatSum::Empty => (0.0, 0.0),
            FloatSum::Narrow { hi, lo } => (hi, lo),
            FloatSum::Wide(_) => return self.add_slice_wide(values),
        };
        match sum_narrow(hi, lo, values) {
            Some((hi, lo)) => *self = FloatSum::Narrow { hi, lo },
            None => self.add_slice_wide(values),
        }
    }

    /// Adds the exact product of each value and its factor. Two floats hold that of common values.
    pub(super) fn add_products<T: Number>(&mut self, products: &[(T, u64)]) {
        let mut halves = Vec::with_capacity(2 * products.len());
        let mut wide = None;
        for (value, factor) in products {
            let float = value.to_float();
            let exact = value.parts().is_some_and(|parts| parts.significand <= WHOLE_FLOAT_MAX);
            let tame = float == 0.0 || MAGNITUDES.contains(&float.abs());
            if exact && tame && *factor <= WHOLE_FLOAT_MAX {
                let (product, rest) = two_product(float, *factor as f64);
                halves.extend([product, rest]);
            } else {
                wide.get_or_insert_with(|| Box::new(Wide::ZERO)).add_product(*value, *factor);
            }
        }
        self.add_slice(&halves);
        if let Some(wide) = wide {
            self.merge(&FloatSum::settle(wide));
        }
    }

    /// Rounded once. `None` if there were no values.
    pub fn round(&self) -> Option<f64> {
        match self {
            FloatSum::Empty => None,
            FloatSum::Narrow { hi, .. } => Some(*hi),
            FloatSum::Wide(wide) => Some(wide.round()),
        }
    }

    /// The exact sum over the count of its values, rounded once. `None` if there were no values.
    pub fn average(&self, count: u64) -> Option<f64> {
        match self {
            _ if count == 0 => None,
            FloatSum::Narrow { hi, lo } if let Some(average) = quotient(*hi, *lo, count) => Some(average),
            FloatSum::Narrow { .. } => Some(self.clone().into_wide().average(count)),
            FloatSum::Wide(wide) => Some(wide.average(count)),
            FloatSum::Empty => None,
        }
    }

    /// The exact sum; `Err` if NaN or infinities decide it. No values sum to zero.
    pub(super) fn exact(&self) -> std::result::Result<Dyadic, f64> {
        match self {
            FloatSum::Empty => Ok(Dyadic::ZERO),
            FloatSum::Narrow { hi, lo } => {
                let mut sum = hi.exact().ok_or(*hi)?;
                sum.add(&lo.exact().ok_or(*lo)?);
                Ok(sum)
            }
            FloatSum::Wide(wide) => wide.special().map_or_else(|| Ok(wide.finite()), Err),
        }
    }

    /// As stored; refuses a pair that is not canonical.
    pub(super) fn from_narrow(hi: f64, lo: f64) -> Result<FloatSum> {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
        match sum_narrow(hi, lo, &[]) {
            Some((sum, rest)) if same(sum, hi) && same(rest, lo) => Ok(FloatSum::Narrow { hi, lo }),
            _ => Err(Corrupt::new("the halves of a sum do not fit together")),
        }
    }

    /// As stored; refuses a sum that two floats hold and one that does not round to `rounded`.
    pub(super) fn from_wide(rounded: f64, bytes: &[u8]) -> Result<FloatSum> {
        let wide = Wide::decode(bytes)?;
        if wide.narrow().is_some() || wide.round().to_bits() != rounded.to_bits() {
            return Err(Corrupt::new("a wide sum does not belong to its rounded sum"));
        }
        Ok(FloatSum::Wide(Box::new(wide)))
    }

    /// The canonical form of a sum held wide.
    fn settle(wide: Box<Wide>) -> FloatSum {
        match wide.narrow() {
            Some((hi, lo)) => FloatSum::Narrow { hi, lo },
            None => FloatSum::Wide(wide),
        }
    }

    fn into_wide(self) -> Box<Wide> {
        match self {
            FloatSum::Wide(wide) => wide,
            FloatSum::Empty => Box::new(Wide::ZERO),
            FloatSum::Narrow { hi, lo } => {
                let mut wide = Box::new(Wide::ZERO);
                wide.add(hi);
                wide.add(lo);
                wide
            }
        }
    }

    /// Two floats still take almost every bit of every value; only what they lose goes to the wide sum.
    #[cold]
    fn add_slice_wide(&mut self, values: &[f64]) {
        /// Fewer than 2^64 values below this cannot overflow: 2^64 * 2^900 < 2^1024.
        const TAME_MAX: f64 = f64::from_bits((1023 + 900) << 52);
        let mut wide = std::mem::replace(self, FloatSum::Empty).into_wide();
        let mut pair = Pair { hi: 0.0, lo: 0.0 };
        for &value in values {
            // False also for NaN.
            if value.abs() < TAME_MAX {
                let lost = pair.add(value);
                if lost != 0.0 {
                    wide.add(lost);
                }
            } else {
                wide.add(value);
            }
        }
        wide.add(pair.hi);
        wide.add(pair.lo);
        *self = FloatSum::settle(wide);
    }
}

impl State for FloatSum {
    const IDENTITY: FloatSum = FloatSum::Empty;

    fn merge(&mut self, other: &FloatSum) {
        let merged = match (&*self, other) {
            (_, FloatSum::Empty) => return,
            (FloatSum::Empty, _) => other.clone(),
            (FloatSum::Narrow { hi, lo }, FloatSum::Narrow { hi: other_hi, lo: other_lo })
                if let Some((hi, lo)) = sum_narrow(*hi, *lo, &[*other_hi, *other_lo]) =>
            {
                FloatSum::Narrow { hi, lo }
            }
            _ => {
                let mut wide = std::mem::replace(self, FloatSum::Empty).into_wide();
                match other {
                    FloatSum::Wide(other) => wide.merge(other),
                    _ => wide.merge(&other.clone().into_wide()),
                }
                FloatSum::settle(wide)
            }
        };
        *self = merged;
    }

    fn heap_bytes(&self) -> usize {
        match self {
            FloatSum::Wide(_) => size_of::<Wide>(),
            _ => 0,
        }
    }
}

impl Answer for FloatSum {
    fn finalize(sums: &[FloatSum]) -> Finalized {
        let array: Float64Array = sums.iter().map(FloatSum::round).collect();
        Finalized::new(Arc::new(array) as ArrayRef)
    }
}

/// A number whose sums are exact, and so are differences and what comes of both.
pub trait Summable: Number {
    type Sum: ExactSum;
    type Delta: ExactSum;

    fn add(sum: &mut Self::Sum, value: Self);

    /// `to - from`.
    fn difference(from: Self, to: Self) -> Self::Delta;

    /// Of a counter: what its resets lost on top of the difference.
    fn increase(delta: &Self::Delta, lost: &Self::Sum) -> Self::Sum;
}

/// The exact sum of any type of numbers.
pub trait ExactSum: Answer {
    /// The sum times `factor` over `divisor`, rounded once. `None` if there were no values.
    fn ratio(&self, factor: i128, divisor: u128) -> Option<f64>;

    /// Whether there were no values.
    fn is_empty(&self) -> bool;
}

impl Summable for f64 {
    type Sum = FloatSum;
    type Delta = FloatSum;

    fn add(sum: &mut FloatSum, value: f64) {
        sum.add_slice(&[value]);
    }

    fn difference(from: f64, to: f64) -> FloatSum {
        let mut delta = FloatSum::Empty;
        delta.add_slice(&[to, -from]);
        delta
    }

    fn increase(delta: &FloatSum, lost: &FloatSum) -> FloatSum {
        let mut increase = delta.clone();
        increase.merge(lost);
        increase
    }
}

impl<T: Whole> Summable for T {
    type Sum = IntSum<T>;
    /// Of unsigned numbers it may be negative.
    type Delta = IntSum<i64>;

    fn add(sum: &mut IntSum<T>, value: T) {
        sum.add_total(value.into());
    }

    fn difference(from: T, to: T) -> IntSum<i64> {
        IntSum::new(Some(to.into() - from.into()))
    }

    fn increase(delta: &IntSum<i64>, lost: &IntSum<T>) -> IntSum<T> {
        let mut increase = IntSum::new(delta.total);
        increase.merge(lost);
        increase
    }
}

impl ExactSum for FloatSum {
    fn ratio(&self, factor: i128, divisor: u128) -> Option<f64> {
        match self {
            FloatSum::Empty => None,
            sum => {
                Some(sum.exact().map_or_else(
                    |special| special,
                    |sum| sum.times(&Dyadic::whole(factor)).ratio(divisor, 0),
                ))
            }
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, FloatSum::Empty)
    }
}

impl<T: Whole> ExactSum for IntSum<T> {
    fn ratio(&self, factor: i128, divisor: u128) -> Option<f64> {
        self.total.map(|total| Dyadic::whole(total).times(&Dyadic::whole(factor)).ratio(divisor, 0))
    }

    fn is_empty(&self) -> bool {
        self.total.is_none()
    }
}

/// `hi + lo` plus all values, if two floats hold every intermediate step; the result is then canonical.
///
/// The loop never looks back: it ORs the bits of whatever did not fit, and so also NaN, infinities and
/// overflow (from each of them two_sum makes a NaN), and the caller starts over in the slow way.
fn sum_narrow(hi: f64, lo: f64, values: &[f64]) -> Option<(f64, f64)> {
    /// Two independent sums fill one vector register of any x86-64, and halve the wait for each addition.
    const LANES: usize = 2;
    /// Shorter slices cost less in one lane than merging the lanes costs; measured.
    const LANES_WORTHWHILE: usize = 12;

    let mut total = Pair { hi, lo };
    let mut lost = 0;
    let chunked = if values.len() < LANES_WORTHWHILE { 0 } else { values.len() / LANES * LANES };
    let (chunked, tail) = values.split_at(chunked);
    if !chunked.is_empty() {
        let mut lanes = [Pair { hi: 0.0, lo: 0.0 }; LANES];
        let mut lost_lanes = [0; LANES];
        for chunk in chunked.as_chunks::<LANES>().0 {
            for lane in 0..LANES {
                lost_lanes[lane] |= lanes[lane].add(chunk[lane]).to_bits();
            }
        }
        for (lane, lost_lane) in lanes.into_iter().zip(lost_lanes) {
            lost |= lost_lane | total.add(lane.hi).to_bits() | total.add(lane.lo).to_bits();
        }
    }
    for &value in tail {
        lost |= total.add(value).to_bits();
    }
    // The two halves may overlap after many additions; this makes `hi` the nearest float again.
    let (hi, lo) = two_sum(total.hi, total.lo);
    // The sign bit is shifted out: a lost -0 is no loss.
    let exact = lost << 1 == 0 && hi.is_finite() && lo.is_finite();
    // -0 + 0 is +0; everything else stays.
    exact.then_some((hi + 0.0, lo + 0.0))
}

/// An unnormalised pair: the exact sum so far is `hi + lo`.
#[derive(Clone, Copy)]
struct Pair {
    hi: f64,
    lo: f64,
}

impl Pair {
    /// Returns what the pair could not take, exactly.
    #[inline(always)]
    fn add(&mut self, value: f64) -> f64 {
        let (hi, rest) = two_sum(self.hi, value);
        let (lo, lost) = two_sum(self.lo, rest);
        *self = Pair { hi, lo };
        lost
    }
}

/// Knuth's: the rounded sum and its exact error, whatever the order of magnitudes, subnormals included.
/// If the sum or any step of the error overflows, the error is NaN or infinite.
#[inline(always)]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_seen = sum - a;
    let a_seen = sum - b_seen;
    (sum, (a - a_seen) + (b - b_seen))
}

/// `(hi + lo) / count`, rounded once, unless the answer lies too close to the middle between two floats, or the
/// numbers too close to the ends of the range, to be sure.
fn quotient(hi: f64, lo: f64, count: u64) -> Option<f64> {
    /// More than the three roundings that `rest` has behind it, each at most 2^-53 of it.
    const REST_ERROR: f64 = 1.0 / (1u64 << 50) as f64;

    if count > WHOLE_FLOAT_MAX {
        return None;
    }
    let count = count as f64;
    if lo == 0.0 {
        return Some(hi / count);
    }
    if !MAGNITUDES.contains(&hi.abs()) {
        return None;
    }
    let first = hi / count;
    let (product, product_rest) = two_product(first, count);
    // What the first division left over is a float, and the first two subtractions are exact.
    let rest = ((hi - product) - product_rest + lo) / count;
    let error = rest.abs() * REST_ERROR;
    let (least, most) = (first + (rest - error), first + (rest + error));
    (least == most).then_some(least)
}

/// Inside, no product or quotient with a whole number, nor any step to it, overflows or loses bits to subnormals.
const MAGNITUDES: std::ops::Range<f64> = 1e-200..1e200;

/// Dekker's: the rounded product and its exact error, far from overflow and subnormals.
fn two_product(a: f64, b: f64) -> (f64, f64) {
    /// Cuts a significand of 53 bits into two of 26.
    const SPLITTER: f64 = ((1 << 27) + 1) as f64;
    let split = |value: f64| {
        let scaled = SPLITTER * value;
        let high = scaled - (scaled - value);
        (high, value - high)
    };
    let ((a_high, a_low), (b_high, b_low)) = (split(a), split(b));
    let product = a * b;
    (product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low)
}

/// Whole numbers up to here are floats.
const WHOLE_FLOAT_MAX: u64 = 1 << f64::MANTISSA_DIGITS;

/// The exact sum of whole numbers of type `T` (i64 or u64).
///
/// Decimal128(38, 0), the stored form, always holds it: a bucket has fewer than 2^62 values (they would fill
/// half an exabyte at one bit each), so |sum| < 2^62 * 2^64 = 2^126 = 8.5e37 < 10^38.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntSum<T> {
    total: Option<i128>,
    addends: PhantomData<T>,
}

impl<T: Whole> IntSum<T> {
    /// See the type. Checked when reading.
    pub(super) const TOTALS: RangeInclusive<i128> =
        if T::SIGNED { -Self::TOTAL_MAX..=Self::TOTAL_MAX } else { 0..=Self::TOTAL_MAX };
    const TOTAL_MAX: i128 = 1 << 126;

    pub(super) const fn new(total: Option<i128>) -> IntSum<T> {
        IntSum { total, addends: PhantomData }
    }

    pub fn add_slice(&mut self, values: &[T]) {
        if !values.is_empty() {
            self.add_total(T::sum(values));
        }
    }

    /// `None` if there were no values.
    pub fn total(&self) -> Option<i128> {
        self.total
    }

    /// The exact quotient, rounded once to the nearest float, ties to even.
    pub fn average(&self, count: u64) -> Option<f64> {
        self.total.filter(|_| count > 0).map(|total| ratio(total, count))
    }

    /// No values sum to zero.
    pub(super) fn exact(&self) -> Dyadic {
        Dyadic::whole(self.total.unwrap_or(0))
    }

    /// Saturates only on states that we did not write.
    fn add_total(&mut self, total: i128) {
        self.total = Some(self.total.map_or(total, |before| before.saturating_add(total)));
    }
}

impl<T: Whole> State for IntSum<T> {
    const IDENTITY: IntSum<T> = IntSum::new(None);

    fn merge(&mut self, other: &IntSum<T>) {
        if let Some(total) = other.total {
            self.add_total(total);
        }
    }
}

impl<T: Whole> Answer for IntSum<T> {
    /// Sums that do not fit the field's type become null and are counted.
    fn finalize(sums: &[IntSum<T>]) -> Finalized {
        let values: Vec<Option<T>> =
            sums.iter().map(|sum| sum.total.and_then(|total| T::try_from(total).ok())).collect();
        let missing = values.iter().filter(|value| value.is_none()).count();
        let empty = sums.iter().filter(|sum| sum.total.is_none()).count();
        Finalized { array: T::array(values.iter().map(Option::as_ref)), overflowed: missing - empty }
    }
}

/// `total / count`, correctly rounded.
fn ratio(total: i128, count: u64) -> f64 {
    if total.unsigned_abs() <= u128::from(WHOLE_FLOAT_MAX) && count <= WHOLE_FLOAT_MAX {
        return total as f64 / count as f64; // IEEE division of two floats rounds right
    }
    if total == 0 {
        return 0.0;
    }
    // Scaled so that the quotient has at least 64 bits, more than a float sees; whether a remainder follows
    // is all that rounding has to know beyond them.
    let shift = total.unsigned_abs().leading_zeros();
    let scaled = total.unsigned_abs() << shift;
    let quotient = scaled / u128::from(count);
    let remains = !scaled.is_multiple_of(u128::from(count));
    let magnitude = (quotient | u128::from(remains)) as f64 / (1u128 << shift) as f64;
    if total < 0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(values: &[f64]) -> FloatSum {
        let mut sum = FloatSum::Empty;
        sum.add_slice(values);
        sum
    }

    #[test]
    fn two_floats_are_enough_for_common_data() {
        let values: Vec<f64> = (0..10_000).map(|i| f64::from(i % 997) * 0.1).collect();
        assert!(matches!(sum(&values), FloatSum::Narrow { .. }));
        assert_eq!(sum(&[0.1; 10]).round(), Some(1.0), "rounded once: the sum of ten 0.1000000000000000055");
    }

    #[test]
    fn zeros_have_no_sign() {
        for values in [&[-0.0][..], &[-0.0, -0.0], &[-0.0, 0.0], &[1.0, -1.0], &[-0.0; 100]] {
            assert_eq!(sum(values).round().map(f64::to_bits), Some(0), "{values:?}");
            let FloatSum::Narrow { lo, .. } = sum(values) else { panic!("a zero is narrow") };
            assert_eq!(lo.to_bits(), 0);
        }
        assert_eq!(sum(&[]).round(), None);
    }

    #[test]
    fn a_sum_that_fits_again_is_narrow_again() {
        let mut total = sum(&[1e300, 1.0, 1e-300]);
        assert!(matches!(total, FloatSum::Wide(_)));
        total.add_slice(&[-1e300]);
        assert_eq!(total, FloatSum::Narrow { hi: 1.0, lo: 1e-300 });
        let mut huge = sum(&[f64::MAX, f64::MAX]);
        assert_eq!(huge.round(), Some(f64::INFINITY));
        huge.merge(&sum(&[f64::MIN]));
        assert_eq!(huge, FloatSum::Narrow { hi: f64::MAX, lo: 0.0 });
    }

    #[test]
    fn an_average_of_equal_values_is_that_value() {
        for value in [0.1, 1e-300, -0.3, 123.456, 1e300] {
            for count in [1, 2, 3, 7, 10, 1000] {
                assert_eq!(sum(&vec![value; count]).average(count as u64), Some(value), "{value} * {count}");
            }
        }
        // Only damage can give a sum without a count.
        for sum in [sum(&[0.1; 3]), sum(&[f64::MAX; 2]), sum(&[])] {
            assert_eq!(sum.average(0), None);
        }
    }

    #[test]
    fn values_beyond_numbers_are_counted() {
        let inf = f64::INFINITY;
        assert_eq!(sum(&[inf, 1.0, f64::MIN]).round(), Some(inf));
        assert_eq!(sum(&[-inf, -inf]).round(), Some(-inf));
        assert!(sum(&[inf, -inf]).round().is_some_and(f64::is_nan));
        assert!(sum(&[f64::NAN, 1.0]).round().is_some_and(f64::is_nan));
        assert_eq!(sum(&[inf]).average(3), Some(inf));
    }

    #[test]
    fn whole_numbers_fill_128_bits() {
        let mut ints = IntSum::<i64>::IDENTITY;
        ints.add_slice(&[i64::MIN; 5]);
        ints.add_slice(&[i64::MAX, -7]);
        assert_eq!(ints.total(), Some(4 * i128::from(i64::MIN) - 8));
        let mut uints = IntSum::<u64>::IDENTITY;
        assert_eq!(uints.total(), None);
        uints.add_slice(&[u64::MAX; 9]);
        assert_eq!(uints.total(), Some(9 * i128::from(u64::MAX)));
    }

    #[test]
    fn whole_averages_round_once() {
        assert_eq!(ratio(7, 2), 3.5);
        assert_eq!(ratio(-1, 3), -1.0 / 3.0);
        // 2^53 + 1 is no float; a third of three times it lies between two floats, at the tie: to even.
        let odd = (1i128 << 53) + 1;
        assert_eq!(ratio(3 * odd, 3), (1u64 << 53) as f64);
        assert_eq!(ratio(3 * odd + 1, 3), ((1u64 << 53) + 2) as f64, "just above the tie");
        assert_eq!(ratio(-(3 * odd + 1), 3), -(((1u64 << 53) + 2) as f64));
        assert_eq!(ratio(IntSum::<i64>::TOTAL_MAX, 1 << 62), 2f64.powi(64));
    }
}
