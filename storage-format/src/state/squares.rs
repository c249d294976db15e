//! Exact sums of squares, and variances from them.
//!
//! Invariant: as for sums, the state is a function of the multiset of its values, bit for bit. A square of a float has
//! up to 106 bits and twice the exponent, so sums of them are kept as exact numbers from the start; of common data
//! they are a few machine words. Because n * sum(x^2) - sum(x)^2 is then exact, nothing cancels.
//! Not here: the count and the sum that a variance needs as well.

use crate::corrupt::{Corrupt, Result};
use crate::varint;

use super::column::State;
use super::dyadic::{Dyadic, LIMB_BITS};
use super::value::Number;
use super::wide::{carry_into, spread};

/// The smallest square of a float is 2^-2148.
const PLACE_MIN: i32 = -34;
const _: () = assert!(PLACE_MIN * LIMB_BITS <= 2 * -1074);
/// Squares stay below 2^2048, and fewer than 2^62 of them below 2^2110.
const PLACE_END: i32 = 34;
const _: () = assert!(PLACE_END * LIMB_BITS > 2048 + 62);
const LIMBS: usize = (PLACE_END - PLACE_MIN) as usize;
const LIMB_BYTES: i32 = size_of::<u64>() as i32;

/// Of the stored form. FORMAT.md, "Sums of squares".
const VERSION: u8 = 1;
const NAN: u8 = 1;
const INFINITE: u8 = 2;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Squares {
    /// Never negative.
    finite: Dyadic,
    nan: bool,
    infinite: bool,
}

impl Squares {
    pub fn add_slice<T: Number>(&mut self, values: &[T]) {
        // In units of 2^(64 * PLACE_MIN).
        let mut sum = [0; LIMBS];
        for value in values {
            let Some(parts) = value.parts() else {
                let infinite = value.to_float().is_infinite();
                self.infinite |= infinite;
                self.nan |= !infinite;
                continue;
            };
            let square = u128::from(parts.significand) * u128::from(parts.significand);
            let bit = (2 * parts.shift - PLACE_MIN * LIMB_BITS) as usize;
            // The largest square starts at limb 64 of 68, so that three limbs always fit.
            let (_, limbs) = sum.split_at_mut(bit / LIMB_BITS as usize);
            carry_into(limbs, spread(square, bit % LIMB_BITS as usize), u64::overflowing_add);
        }
        self.finite.add(&Dyadic::scaled(false, &sum, PLACE_MIN * LIMB_BITS));
    }

    /// Rounded once; any NaN makes it NaN, any infinity infinite.
    pub fn round(&self) -> f64 {
        match (self.nan, self.infinite) {
            (true, _) => f64::NAN,
            (_, true) => f64::INFINITY,
            _ => self.finite.ratio(1, 0),
        }
    }

    /// What [`round`](Squares::round) leaves out, in its stored form; None if that is nothing.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let mut rounded = Squares::default();
        rounded.add_sum(self.round());
        if rounded == *self {
            return None;
        }
        let mut out =
            vec![VERSION, if self.nan { NAN } else { 0 } | if self.infinite { INFINITE } else { 0 }];
        self.finite.encode(&mut out);
        Some(out)
    }

    /// As stored; refuses what [`encode`](Squares::encode) does not give.
    pub(super) fn decode(rounded: f64, exact: Option<&[u8]>) -> Result<Squares> {
        let mut squares = Squares::default();
        match exact {
            None if rounded.is_sign_positive() || rounded.is_nan() => squares.add_sum(rounded),
            None => return Err(Corrupt::new("a sum of squares is negative")),
            Some(mut bytes) => {
                if varint::take_u8(&mut bytes)? != VERSION {
                    return Err(Corrupt::new("a sum of squares has an unknown version"));
                }
                let flags = varint::take_u8(&mut bytes)?;
                squares.nan = flags & NAN != 0;
                squares.infinite = flags & INFINITE != 0;
                squares.finite = Dyadic::decode(bytes, PLACE_MIN * LIMB_BYTES..PLACE_END * LIMB_BYTES)?;
                if flags > NAN | INFINITE || squares.finite.is_negative() {
                    return Err(Corrupt::new("a sum of squares is negative or has unknown flags"));
                }
            }
        }
        let same = squares.round().to_bits() == rounded.to_bits();
        if !same || squares.encode().as_deref() != exact {
            return Err(Corrupt::new("a sum of squares does not belong to its rounded sum"));
        }
        Ok(squares)
    }

    /// A sum of squares that a float holds.
    fn add_sum(&mut self, sum: f64) {
        match sum.parts() {
            Some(parts) => self.finite.add(&Dyadic::scaled(false, &[parts.significand], parts.shift)),
            None if sum.is_nan() => self.nan = true,
            None => self.infinite = true,
        }
    }
}

impl State for Squares {
    const IDENTITY: Squares = Squares { finite: Dyadic::ZERO, nan: false, infinite: false };

    fn merge(&mut self, other: &Squares) {
        self.finite.add(&other.finite);
        self.nan |= other.nan;
        self.infinite |= other.infinite;
    }

    fn heap_bytes(&self) -> usize {
        self.finite.heap_bytes()
    }
}

/// The exact sum of squared deviations, times the count, over `count * (count - 1)`: the variance of a sample,
/// before it is rounded. `None` for fewer than two values.
pub struct Variance {
    /// `count * sum(x^2) - sum(x)^2`. None: some value was NaN or infinite.
    numerator: Option<Dyadic>,
    divisor: u128,
}

impl Variance {
    /// `sum` is the exact sum of the same values; what it is for values that are no numbers does not matter.
    pub fn new(count: u64, sum: &Dyadic, squares: &Squares) -> Option<Variance> {
        let divisor = u128::from(count) * u128::from(count.checked_sub(1)?);
        if divisor == 0 {
            return None;
        }
        let numerator = (!squares.nan && !squares.infinite).then(|| {
            let mut numerator = squares.finite.times(&Dyadic::whole(i128::from(count)));
            numerator.add(&sum.times(sum).negated());
            numerator
        });
        Some(Variance { numerator, divisor })
    }

    /// Rounded once.
    pub fn round(&self) -> f64 {
        self.scaled(0)
    }

    /// The root of the variance rounded once, also where that would be too large or too small for a float.
    pub fn root(&self) -> f64 {
        /// Even, and brings every square of floats into their range.
        const SCALE: i32 = 1200;
        let variance = self.round();
        let scale = match variance {
            f64::INFINITY => -SCALE,
            _ if variance < f64::MIN_POSITIVE => SCALE,
            _ => return variance.sqrt(),
        };
        self.scaled(scale).sqrt() * 2f64.powi(-scale / 2)
    }

    fn scaled(&self, scale: i32) -> f64 {
        self.numerator.as_ref().map_or(f64::NAN, |numerator| numerator.ratio(self.divisor, scale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn squares<T: Number>(values: &[T]) -> Squares {
        let mut squares = Squares::default();
        squares.add_slice(values);
        squares
    }

    fn variance(values: &[f64]) -> Variance {
        let mut sum = Dyadic::ZERO;
        for parts in values.iter().filter_map(|value| value.parts()) {
            sum.add(&Dyadic::scaled(parts.negative, &[parts.significand], parts.shift));
        }
        Variance::new(values.len() as u64, &sum, &squares(values)).expect("two values")
    }

    #[test]
    fn squares_are_exact_at_both_ends() {
        assert_eq!(squares(&[3.0, -4.0]).round(), 25.0);
        assert_eq!(squares(&[i64::MIN, 1]), squares(&[-2f64.powi(63), 1.0]));
        assert_eq!(
            squares(&[u64::MAX]).finite,
            Dyadic::whole(u64::MAX.into()).times(&Dyadic::whole(u64::MAX.into()))
        );
        assert_eq!(squares(&[f64::MAX, 1.0]).round(), f64::INFINITY, "too large for a float");
        assert_eq!(squares(&[5e-324]).round(), 0.0, "too small for one");
        assert_eq!(squares(&[5e-324]).finite, Dyadic::scaled(false, &[1], -2148));
        assert_eq!(squares(&[f64::MAX; 9]).finite, {
            let largest = Dyadic::scaled(false, &[(1 << 53) - 1], 971);
            largest.times(&largest).times(&Dyadic::whole(9))
        });
        assert_eq!(squares(&[-0.0]), Squares::default());
        assert!(squares(&[f64::NAN, f64::INFINITY]).round().is_nan());
        assert_eq!(squares(&[f64::NEG_INFINITY]).round(), f64::INFINITY);
    }

    #[test]
    fn squares_match_format_page() {
        // 2^-122 + 1 needs 123 bits.
        let exact = squares(&[1.0, 2f64.powi(-61)]).encode().expect("more than a float has");
        let hex: Vec<String> = exact.iter().map(|byte| format!("{byte:02x}")).collect();
        let example = "01 00 00 1f 40 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01";
        assert_eq!(hex.join(" "), example);
        assert!(include_str!("../../FORMAT.md").contains(example), "the page shows other bytes");
        assert_eq!(squares(&[0.5, 3.0]).encode(), None, "9.25 is a float");
    }

    #[test]
    fn nothing_cancels() {
        // The textbook example that breaks sum(x^2) - n * mean^2 in floats.
        let shifted = [1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0];
        assert_eq!((variance(&shifted).round(), variance(&[4.0, 7.0, 13.0, 16.0]).round()), (30.0, 30.0));
        assert_eq!(variance(&[0.1; 7]).round(), 0.0, "equal values do not vary");
        assert_eq!(variance(&[1e200, -1e200]).round(), f64::INFINITY);
        assert_eq!(variance(&[1e200, -1e200]).root(), 2f64.sqrt() * 1e200);
        let tiny = 3.0 * 2f64.powi(-990);
        assert_eq!(variance(&[tiny, -tiny]).root(), 18f64.sqrt() * 2f64.powi(-990));
        assert_eq!(variance(&[2.0, 4.0]).root(), 2f64.sqrt());
        assert!(variance(&[1.0, f64::INFINITY]).round().is_nan());
        assert!(variance(&[1.0, f64::NAN]).root().is_nan());
        assert!(Variance::new(1, &Dyadic::ZERO, &squares(&[1.0])).is_none());
        assert!(Variance::new(0, &Dyadic::ZERO, &squares::<f64>(&[])).is_none());
    }

    proptest! {
        #[test]
        fn variances_agree_with_whole_numbers(
            values in prop::collection::vec(-1_000_000_000i64..1_000_000_000, 2..40),
            exponent in -450i32..450,
        ) {
            let n = values.len() as i128;
            let (sum, of_squares) = values.iter().fold((0i128, 0i128), |(sum, squares), value| {
                let value = i128::from(*value);
                (sum + value, squares + value * value)
            });
            // Scaled by a power of two, nothing changes but the exponent.
            let scaled: Vec<f64> = values.iter().map(|value| *value as f64 * 2f64.powi(exponent)).collect();
            let wanted = Dyadic::whole(n * of_squares - sum * sum).ratio((n * (n - 1)) as u128, 0);
            prop_assert_eq!(variance(&scaled).round(), wanted * 2f64.powi(2 * exponent));
            prop_assert_eq!(squares(&values).finite, Dyadic::whole(of_squares));
        }
    }
}
