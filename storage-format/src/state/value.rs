//! The types a field can have: their order, their arrays, and what makes numbers of them.
//!
//! The order is total, so that ties have one winner: floats compare as numbers with -0 below +0 and every NaN
//! below every number (NaN among themselves by their bits); false < true; strings by their bytes.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, UInt64Array};
use arrow::datatypes::DataType;

use xxhash_rust::xxh3::xxh3_64;

use crate::point::FieldType;

use super::dyadic::Dyadic;

/// One field's value as states hold it.
pub trait FieldValue: Clone + PartialEq + 'static {
    /// How a column of them comes from a chunk or a block.
    type Array: Array + 'static;

    fn rank(&self, other: &Self) -> Ordering;

    fn at(array: &Self::Array, row: usize) -> Self;

    fn array<'a>(values: impl Iterator<Item = Option<&'a Self>>) -> ArrayRef;

    /// One of all values that are equal: zeros of both signs are, and every NaN.
    fn canonical(self) -> Self {
        self
    }

    /// A hash of the value at that place, the same for values that are equal.
    /// XXH3-64 of what FORMAT.md, "Distinct sketches", says; fixed for ever.
    fn hash_at(array: &Self::Array, row: usize) -> u64;

    /// Bytes outside the value itself.
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// A value that has sums and extremes.
pub trait Number: FieldValue + Copy + PartialOrd {
    fn slice(array: &Self::Array) -> &[Self];

    /// `None` if there is nothing to compare: no values, or only NaN.
    fn smallest(values: &[Self]) -> Option<Self>;

    fn largest(values: &[Self]) -> Option<Self>;

    /// The nearest float.
    fn to_float(self) -> f64;

    fn is_nan(self) -> bool {
        self.to_float().is_nan()
    }

    /// Exactly; `None` of NaN and infinities.
    fn parts(self) -> Option<Parts>;

    /// [`parts`](Number::parts) as a number to compute with.
    fn exact(self) -> Option<Dyadic> {
        let parts = self.parts()?;
        Some(Dyadic::scaled(parts.negative, &[parts.significand], parts.shift))
    }
}

/// `significand * 2^shift`.
#[derive(Clone, Copy)]
pub struct Parts {
    pub negative: bool,
    pub significand: u64,
    pub shift: i32,
}

/// A whole number.
pub trait Whole: Number + TryFrom<i128> + Into<i128> {
    const SIGNED: bool;

    fn sum(values: &[Self]) -> i128;
}

/// The Arrow type of a field's values.
pub fn data_type(field_type: FieldType) -> DataType {
    match field_type {
        FieldType::Float => DataType::Float64,
        FieldType::Int => DataType::Int64,
        FieldType::UInt => DataType::UInt64,
        FieldType::Bool => DataType::Boolean,
        FieldType::Str => DataType::Utf8,
        FieldType::Binary => DataType::Binary,
    }
}

impl FieldValue for f64 {
    type Array = Float64Array;

    fn rank(&self, other: &f64) -> Ordering {
        other.is_nan().cmp(&self.is_nan()).then_with(|| self.total_cmp(other))
    }

    fn at(array: &Float64Array, row: usize) -> f64 {
        array.value(row)
    }

    fn array<'a>(values: impl Iterator<Item = Option<&'a f64>>) -> ArrayRef {
        Arc::new(values.map(Option::<&f64>::copied).collect::<Float64Array>())
    }

    fn hash_at(array: &Float64Array, row: usize) -> u64 {
        xxh3_64(&array.value(row).canonical().to_bits().to_le_bytes())
    }

    fn canonical(self) -> f64 {
        // -0 + 0 is +0; everything else stays.
        if self.is_nan() { f64::NAN } else { self + 0.0 }
    }
}

impl Number for f64 {
    fn slice(array: &Float64Array) -> &[f64] {
        array.values()
    }

    fn smallest(values: &[f64]) -> Option<f64> {
        float_extreme(values, f64::INFINITY, -0.0, |value, best| value < best)
    }

    fn largest(values: &[f64]) -> Option<f64> {
        float_extreme(values, f64::NEG_INFINITY, 0.0, |value, best| value > best)
    }

    #[inline(always)]
    fn to_float(self) -> f64 {
        self
    }

    #[inline(always)]
    fn parts(self) -> Option<Parts> {
        const FRACTION_BITS: u32 = f64::MANTISSA_DIGITS - 1;
        /// Of infinities and NaN.
        const EXPONENT_MAX: i32 = 0x7ff;
        /// The exponent field of a float whose last bit counts one.
        const EXPONENT_OF_WHOLE: i32 = f64::MAX_EXP - 1 + FRACTION_BITS as i32;

        let bits = self.to_bits();
        let exponent = (bits >> FRACTION_BITS) as i32 & EXPONENT_MAX;
        let fraction = bits & ((1 << FRACTION_BITS) - 1);
        // Subnormals share the exponent of the smallest normal numbers but lack the implied bit.
        let implied = u64::from(exponent != 0) << FRACTION_BITS;
        let shift = exponent.max(1) - EXPONENT_OF_WHOLE;
        let parts = Parts { negative: self.is_sign_negative(), significand: fraction | implied, shift };
        (exponent != EXPONENT_MAX).then_some(parts)
    }
}

/// One comparison instruction per value, which is false for NaN and does not tell zeros apart; what that
/// leaves open is settled by a second look, only when the answer is a zero or may mean "nothing found".
#[inline(always)]
fn float_extreme(
    values: &[f64],
    worst: f64,
    better_zero: f64,
    better: impl Fn(f64, f64) -> bool + Copy,
) -> Option<f64> {
    /// Independent searches: enough to hide the latency of each.
    const LANES: usize = 8;

    let pick = |best: f64, value: f64| if better(value, best) { value } else { best };
    let (chunks, tail) = values.as_chunks::<LANES>();
    let mut lanes = [worst; LANES];
    for chunk in chunks {
        for (best, value) in lanes.iter_mut().zip(chunk) {
            *best = pick(*best, *value);
        }
    }
    let best = lanes.iter().chain(tail).fold(worst, |best, value| pick(best, *value));
    let holds = |wanted: f64| values.iter().any(|value| value.to_bits() == wanted.to_bits());
    if best == 0.0 {
        return Some(if holds(better_zero) { better_zero } else { -better_zero });
    }
    (best != worst || holds(worst)).then_some(best)
}

macro_rules! whole_number {
    ($number:ty, $array:ty, $signed:literal, $flip:expr) => {
        impl FieldValue for $number {
            type Array = $array;

            fn rank(&self, other: &$number) -> Ordering {
                self.cmp(other)
            }

            fn at(array: &$array, row: usize) -> $number {
                array.value(row)
            }

            fn array<'a>(values: impl Iterator<Item = Option<&'a $number>>) -> ArrayRef {
                Arc::new(values.map(Option::<&$number>::copied).collect::<$array>())
            }

            fn hash_at(array: &$array, row: usize) -> u64 {
                xxh3_64(&array.value(row).to_le_bytes())
            }
        }

        impl Number for $number {
            fn slice(array: &$array) -> &[$number] {
                array.values()
            }

            fn smallest(values: &[$number]) -> Option<$number> {
                values.iter().copied().min()
            }

            fn largest(values: &[$number]) -> Option<$number> {
                values.iter().copied().max()
            }

            #[inline(always)]
            fn to_float(self) -> f64 {
                self as f64
            }

            #[inline(always)]
            fn parts(self) -> Option<Parts> {
                let value = i128::from(self);
                let significand = value.unsigned_abs() as u64;
                Some(Parts { negative: value < 0, significand, shift: 0 })
            }
        }

        impl Whole for $number {
            const SIGNED: bool = $signed;

            /// Both halves of each number are summed apart, in 64 bits, which processors do several at a
            /// time. Signed numbers are raised by 2^63 first, so that the halves are not negative.
            fn sum(values: &[$number]) -> i128 {
                /// So many halves, each below 2^32, stay below 2^64.
                const CHUNK_MAX: usize = u32::MAX as usize;
                let raised: u64 = $flip;
                let mut total = 0;
                for chunk in values.chunks(CHUNK_MAX) {
                    let (mut high, mut low) = (0u64, 0u64);
                    for value in chunk {
                        let bits = *value as u64 ^ raised;
                        high += bits >> 32;
                        low += bits & 0xffff_ffff;
                    }
                    total += (i128::from(high) << 32) + i128::from(low);
                    total -= chunk.len() as i128 * i128::from(raised);
                }
                total
            }
        }
    };
}

whole_number!(i64, Int64Array, true, 1 << 63);
whole_number!(u64, UInt64Array, false, 0);

impl FieldValue for bool {
    type Array = BooleanArray;

    fn rank(&self, other: &bool) -> Ordering {
        self.cmp(other)
    }

    fn at(array: &BooleanArray, row: usize) -> bool {
        array.value(row)
    }

    fn array<'a>(values: impl Iterator<Item = Option<&'a bool>>) -> ArrayRef {
        Arc::new(values.map(Option::<&bool>::copied).collect::<BooleanArray>())
    }

    fn hash_at(array: &BooleanArray, row: usize) -> u64 {
        xxh3_64(&[u8::from(array.value(row))])
    }
}

impl FieldValue for Box<str> {
    type Array = StringArray;

    fn rank(&self, other: &Box<str>) -> Ordering {
        self.cmp(other)
    }

    fn at(array: &StringArray, row: usize) -> Box<str> {
        array.value(row).into()
    }

    fn array<'a>(values: impl Iterator<Item = Option<&'a Box<str>>>) -> ArrayRef {
        Arc::new(values.collect::<StringArray>())
    }

    fn hash_at(array: &StringArray, row: usize) -> u64 {
        xxh3_64(array.value(row).as_bytes())
    }

    fn heap_bytes(&self) -> usize {
        self.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same by the definition: the first or last in rank, NaN left out.
    fn by_rank(values: &[f64], order: Ordering) -> Option<u64> {
        let numbers = values.iter().copied().filter(|value| !value.is_nan());
        let best = numbers.reduce(|best, value| if value.rank(&best) == order { value } else { best });
        best.map(f64::to_bits)
    }

    proptest! {
        #[test]
        fn float_extremes_agree_with_the_order(
            values in prop::collection::vec(prop_oneof![
                any::<f64>(), Just(0.0), Just(-0.0), Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY),
            ], 0..40),
        ) {
            prop_assert_eq!(f64::smallest(&values).map(f64::to_bits), by_rank(&values, Ordering::Less));
            prop_assert_eq!(f64::largest(&values).map(f64::to_bits), by_rank(&values, Ordering::Greater));
        }

        #[test]
        fn whole_sums_agree_with_adding_one_by_one(ints: Vec<i64>, uints: Vec<u64>) {
            prop_assert_eq!(i64::sum(&ints), ints.iter().map(|value| i128::from(*value)).sum::<i128>());
            prop_assert_eq!(u64::sum(&uints), uints.iter().map(|value| i128::from(*value)).sum::<i128>());
        }
    }

    #[test]
    fn zeros_nans_and_infinities() {
        assert_eq!(f64::smallest(&[0.0, -0.0, 0.0]).map(f64::to_bits), Some((-0.0f64).to_bits()));
        assert_eq!(f64::largest(&[-0.0, 0.0, -0.0]).map(f64::to_bits), Some(0));
        assert_eq!(f64::largest(&[-0.0, -1.0]).map(f64::to_bits), Some((-0.0f64).to_bits()));
        assert_eq!(f64::smallest(&[f64::NAN; 20]), None);
        assert_eq!(f64::smallest(&[f64::NAN, f64::INFINITY]), Some(f64::INFINITY));
        assert_eq!(f64::NAN.rank(&f64::NEG_INFINITY), Ordering::Less);
        assert_eq!(f64::INFINITY.rank(&-f64::NAN), Ordering::Greater);
    }
}
