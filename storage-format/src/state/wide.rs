//! Every bit of any sum of floats.
//!
//! A fixed-point number that spans the whole range of f64, subnormals included, with NaN and the infinities
//! counted beside it. Adding is exact and merging is integer addition, so order cannot matter.
//! It is the slow half of [`FloatSum`](super::FloatSum); sums of common data stay a pair of floats. Not here: deciding when (see `sum`).

use crate::corrupt::{Corrupt, Result};
use crate::varint;

use super::dyadic::Dyadic;
use super::value::{Number, Parts};

/// Bits in a limb.
const LIMB_BITS: usize = 64;

/// The smallest step of a float is 2^-1074.
const UNIT: usize = 1074;

/// f64's numbers stay below 2^1024: with the smallest step, 2098 bits. Nanoseconds between any two times take 64
/// more, twice an area one, and so does the sign. What is left holds a sum of fewer than 2^62 such products.
const LIMBS: usize = 35;
const _: () = assert!(LIMBS * LIMB_BITS > SUM_BITS_MAX, "one bit stays for the sign");

/// No sum that we made is longer: 2098 + 64 + 1 + 62.
const SUM_BITS_MAX: usize = 2225;

/// Bits in the significand of a float, the implied one included.
const SIGNIFICAND_BITS: usize = f64::MANTISSA_DIGITS as usize;
const FRACTION_BITS: usize = SIGNIFICAND_BITS - 1;

/// Of the stored form. FORMAT.md, "Wide sums".
const VERSION: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wide {
    /// Two's complement, lowest limb first, in units of 2^-[`UNIT`].
    limbs: [u64; LIMBS],
    nans: u64,
    infinities: u64,
    negative_infinities: u64,
}

impl Wide {
    pub const ZERO: Wide = Wide { limbs: [0; LIMBS], nans: 0, infinities: 0, negative_infinities: 0 };

    pub fn add(&mut self, value: f64) {
        match value.parts() {
            Some(parts) => {
                let (limb, shift) = place(parts);
                let spread = u128::from(parts.significand) << shift;
                self.add_at(limb, parts.negative, [spread as u64, (spread >> LIMB_BITS) as u64]);
            }
            None => self.add_special(value),
        }
    }

    /// Infinities count once whatever the factor is.
    pub fn add_product<T: Number>(&mut self, value: T, factor: u64) {
        match value.parts() {
            Some(parts) => {
                let (limb, shift) = place(parts);
                let product = u128::from(parts.significand) * u128::from(factor);
                self.add_at(limb, parts.negative, spread(product, shift));
            }
            None => self.add_special(value.to_float()),
        }
    }

    pub fn merge(&mut self, other: &Wide) {
        let mut carry = false;
        for (limb, addend) in self.limbs.iter_mut().zip(other.limbs) {
            let (sum, over) = limb.overflowing_add(addend);
            let (sum, over_by_carry) = sum.overflowing_add(u64::from(carry));
            (*limb, carry) = (sum, over | over_by_carry);
        }
        self.nans = self.nans.saturating_add(other.nans);
        self.infinities = self.infinities.saturating_add(other.infinities);
        self.negative_infinities = self.negative_infinities.saturating_add(other.negative_infinities);
    }

    /// The sum, rounded once to the nearest float, ties to even. Any NaN, or infinities of both signs, make
    /// it NaN; infinities of one sign make it that infinity.
    pub fn round(&self) -> f64 {
        self.special().unwrap_or_else(|| self.round_finite())
    }

    /// The exact sum over the count, rounded once; it may fit a float where the sum does not.
    pub fn average(&self, count: u64) -> f64 {
        if let Some(special) = self.special() {
            return special;
        }
        let (negative, magnitude) = self.magnitude();
        // One more limb below, for fractions of the smallest step: the dividend, then the quotient.
        let mut limbs = [0; LIMBS + 1];
        limbs[1..].copy_from_slice(&magnitude);
        let count = u128::from(count);
        let mut remainder = 0;
        for limb in limbs.iter_mut().rev() {
            let dividend = remainder << LIMB_BITS | u128::from(*limb);
            // Below 2^64, since the remainder is below the count.
            *limb = (dividend / count) as u64;
            remainder = dividend % count;
        }
        with_sign(negative, nearest_float(&limbs, LIMB_BITS, remainder != 0))
    }

    /// The sum as two floats, the nearest one and the rest, if they hold all of it.
    pub fn narrow(&self) -> Option<(f64, f64)> {
        if self.special().is_some() {
            return None;
        }
        let hi = self.round_finite();
        if hi.is_infinite() {
            return None;
        }
        let mut rest = self.clone();
        rest.add(-hi);
        let lo = rest.round_finite();
        rest.add(-lo);
        (rest.limbs == [0; LIMBS]).then_some((hi, lo))
    }

    /// The sum, if NaN or infinities decide it.
    pub(super) fn special(&self) -> Option<f64> {
        match (self.nans, self.infinities, self.negative_infinities) {
            (0, 0, 0) => None,
            (0, 1.., 0) => Some(f64::INFINITY),
            (0, 0, 1..) => Some(f64::NEG_INFINITY),
            _ => Some(f64::NAN),
        }
    }

    #[cold]
    fn add_special(&mut self, value: f64) {
        let count = match value {
            f64::INFINITY => &mut self.infinities,
            f64::NEG_INFINITY => &mut self.negative_infinities,
            _ => &mut self.nans,
        };
        *count = count.saturating_add(1);
    }

    #[inline(always)]
    fn add_at<const N: usize>(&mut self, limb: usize, negative: bool, addends: [u64; N]) {
        let (_, limbs) = self.limbs.split_at_mut(limb);
        if negative {
            carry_into(limbs, addends, u64::overflowing_sub);
        } else {
            carry_into(limbs, addends, u64::overflowing_add);
        }
    }

    fn round_finite(&self) -> f64 {
        let (negative, magnitude) = self.magnitude();
        with_sign(negative, nearest_float(&magnitude, 0, false))
    }

    /// The sum of the finite values.
    pub(super) fn finite(&self) -> Dyadic {
        let (negative, magnitude) = self.magnitude();
        Dyadic::scaled(negative, &magnitude, -(UNIT as i32))
    }

    fn magnitude(&self) -> (bool, [u64; LIMBS]) {
        let negative = self.limbs[LIMBS - 1] >> (LIMB_BITS - 1) == 1;
        (negative, if negative { negate(self.limbs) } else { self.limbs })
    }
}

/// Limb and bit of the significand's lowest bit. That of the largest float is bit 2045, in limb 31 of 35, so that
/// three limbs always fit.
#[inline(always)]
fn place(parts: Parts) -> (usize, usize) {
    let bit = (parts.shift + UNIT as i32) as usize;
    (bit / LIMB_BITS, bit % LIMB_BITS)
}

/// Adds or subtracts `addends` at the lowest limbs, and the carry or borrow as far up as it goes.
#[inline(always)]
pub(super) fn carry_into<const N: usize>(
    limbs: &mut [u64],
    addends: [u64; N],
    step: impl Fn(u64, u64) -> (u64, bool),
) {
    let mut carry = false;
    for (index, limb) in limbs.iter_mut().enumerate() {
        let addend = match addends.get(index) {
            Some(addend) => *addend,
            None if !carry => return,
            None => 0,
        };
        let (sum, over) = step(*limb, addend);
        let (sum, over_by_carry) = step(sum, u64::from(carry));
        (*limb, carry) = (sum, over | over_by_carry);
    }
}

/// `product * 2^shift` in limbs; the shift is less than one.
#[inline(always)]
pub(super) fn spread(product: u128, shift: usize) -> [u64; 3] {
    let low = product << shift;
    let top = if shift == 0 { 0 } else { (product >> (2 * LIMB_BITS - shift)) as u64 };
    [low as u64, (low >> LIMB_BITS) as u64, top]
}

fn negate(mut limbs: [u64; LIMBS]) -> [u64; LIMBS] {
    let mut carry = true;
    for limb in &mut limbs {
        (*limb, carry) = (!*limb).overflowing_add(u64::from(carry));
    }
    limbs
}

/// The float nearest to a number whose bit `unit` counts 2^-1074; ties go to even. `more` says that the number
/// goes on below its lowest bit.
fn nearest_float(limbs: &[u64], unit: usize, more: bool) -> f64 {
    // Of short numbers, the subnormals, every bit from `unit` on counts; of others the top 53.
    let cut = bit_length(limbs).saturating_sub(SIGNIFICAND_BITS).max(unit);
    let significand = bits_from(limbs, cut);
    let half = cut > 0 && bits_from(limbs, cut - 1) & 1 == 1;
    let above_half = half && (more || any_bit_below(limbs, cut - 1));
    let up = above_half || (half && significand & 1 == 1);
    // The implied bit of a normal number adds one to the exponent field; so does a carry out of rounding.
    let field = ((cut - unit) as u64) << FRACTION_BITS;
    f64::from_bits((field + significand + u64::from(up)).min(f64::INFINITY.to_bits()))
}

fn with_sign(negative: bool, value: f64) -> f64 {
    if negative { -value } else { value }
}

fn bit_length(limbs: &[u64]) -> usize {
    let top = limbs.iter().rposition(|limb| *limb != 0);
    top.map_or(0, |top| (top + 1) * LIMB_BITS - limbs[top].leading_zeros() as usize)
}

/// 64 bits, the lowest at position `from`.
fn bits_from(limbs: &[u64], from: usize) -> u64 {
    let (limb, shift) = (from / LIMB_BITS, from % LIMB_BITS);
    let above = limbs.get(limb + 1).copied().unwrap_or(0);
    ((u128::from(above) << LIMB_BITS | u128::from(limbs[limb])) >> shift) as u64
}

fn any_bit_below(limbs: &[u64], end: usize) -> bool {
    let (limb, shift) = (end / LIMB_BITS, end % LIMB_BITS);
    limbs[..limb].iter().any(|limb| *limb != 0) || limbs[limb] & ((1 << shift) - 1) != 0
}

impl Wide {
    /// FORMAT.md, "Wide sums".
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (negative, magnitude) = self.magnitude();
        let bytes = magnitude.map(u64::to_le_bytes);
        let bytes = bytes.as_flattened();
        let from = bytes.iter().position(|byte| *byte != 0).unwrap_or(0);
        let to = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        out.push(VERSION);
        for count in [self.nans, self.infinities, self.negative_infinities] {
            varint::put_u64(out, count);
        }
        out.push(u8::from(negative));
        varint::put_u64(out, from as u64);
        out.extend_from_slice(&bytes[from..to]);
    }

    /// Refuses every encoding but the one that [`encode`](Wide::encode) gives.
    #[deny(clippy::unwrap_used, clippy::indexing_slicing)]
    pub fn decode(mut rest: &[u8]) -> Result<Wide> {
        if varint::take_u8(&mut rest)? != VERSION {
            return Err(Corrupt::new("a wide sum has an unknown version"));
        }
        let nans = varint::take_u64(&mut rest)?;
        let infinities = varint::take_u64(&mut rest)?;
        let negative_infinities = varint::take_u64(&mut rest)?;
        let negative = match varint::take_u8(&mut rest)? {
            0 => false,
            1 if !rest.is_empty() => true,
            _ => return Err(Corrupt::new("a wide sum has a wrong sign")),
        };
        let from = varint::take_u64(&mut rest)? as usize;
        let mut bytes = [[0; size_of::<u64>()]; LIMBS];
        let place = from.checked_add(rest.len()).and_then(|to| bytes.as_flattened_mut().get_mut(from..to));
        place.ok_or(Corrupt::new("a wide sum is too long"))?.copy_from_slice(rest);
        let minimal = match (rest.first(), rest.last()) {
            (Some(first), Some(last)) => *first != 0 && *last != 0,
            _ => from == 0 && !negative,
        };
        let limbs = bytes.map(u64::from_le_bytes);
        if !minimal || bit_length(&limbs) > SUM_BITS_MAX {
            return Err(Corrupt::new("a wide sum is not in its shortest form"));
        }
        let limbs = if negative { negate(limbs) } else { limbs };
        Ok(Wide { limbs, nans, infinities, negative_infinities })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wide(values: &[f64]) -> Wide {
        let mut wide = Wide::ZERO;
        values.iter().for_each(|value| wide.add(*value));
        wide
    }

    fn encoded(wide: &Wide) -> Vec<u8> {
        let mut out = Vec::new();
        wide.encode(&mut out);
        out
    }

    #[test]
    fn wide_matches_format_page() {
        let sum = wide(&[1.0, 2f64.powi(-60), 2f64.powi(-120)]);
        let example = "01 00 00 00 00 77 04 00 00 00 00 00 00 40 00 00 00 00 00 00 00 04";
        let hex: Vec<String> = encoded(&sum).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex.join(" "), example);
        assert!(include_str!("../../FORMAT.md").contains(example), "the page shows other bytes");
        let special = wide(&[f64::NAN, f64::INFINITY, f64::INFINITY, -5e-324]);
        assert_eq!(encoded(&special), [1, 1, 2, 0, 1, 0, 1]);
        assert_eq!(Wide::decode(&encoded(&special)), Ok(special));
    }

    #[test]
    fn every_float_comes_back() {
        let mut cases = vec![0.0, 5e-324, f64::MIN_POSITIVE, 1.0, 0.1, 1e300, f64::MAX];
        cases.extend([f64::MIN_POSITIVE - 5e-324, f64::EPSILON, 2f64.powi(1023), 1.0 - f64::EPSILON / 2.0]);
        for value in cases.into_iter().flat_map(|value| [value, -value]) {
            assert_eq!(wide(&[value]).round(), value);
            assert_eq!(wide(&[value]).narrow(), Some((value, 0.0)));
            assert_eq!(wide(&[value, -value]), Wide::ZERO);
        }
    }

    #[test]
    fn ties_go_to_even_and_the_top_overflows_where_it_should() {
        let ulp = f64::EPSILON;
        assert_eq!(wide(&[1.0, ulp / 2.0]).round(), 1.0, "tie, even below");
        assert_eq!(wide(&[1.0 + ulp, ulp / 2.0]).round(), 1.0 + 2.0 * ulp, "tie, even above");
        assert_eq!(wide(&[1.0, ulp / 2.0, 5e-324]).round(), 1.0 + ulp, "just above the tie");
        assert_eq!(wide(&[-1.0, -ulp / 2.0, -5e-324]).round(), -1.0 - ulp);
        assert_eq!(wide(&[2.0 - ulp, ulp / 2.0]).round(), 2.0, "the carry moves the exponent");
        // Half a step above the largest float is the first sum that rounds to infinity.
        let half = 2f64.powi(970);
        assert_eq!(wide(&[f64::MAX, half]).round(), f64::INFINITY);
        assert_eq!(wide(&[f64::MAX, half, -5e-324]).round(), f64::MAX);
        assert_eq!(wide(&[f64::MIN, -half]).round(), f64::NEG_INFINITY);
        assert_eq!(wide(&[f64::MAX, f64::MAX, f64::MIN]).round(), f64::MAX, "too large only for a while");
    }

    #[test]
    fn an_average_may_fit_where_the_sum_does_not() {
        for count in [1, 2, 3, 5, 9, 1000] {
            for value in [f64::MAX, f64::MIN, 0.1, f64::MIN_POSITIVE, 5e-324, -5e-324] {
                assert_eq!(wide(&vec![value; count]).average(count as u64), value);
            }
        }
        assert_eq!(wide(&[1e308, 1.5e308]).average(2), 1.25e308);
        assert_eq!(wide(&[f64::INFINITY, 1.0]).average(2), f64::INFINITY);
        assert!(wide(&[f64::INFINITY, f64::NEG_INFINITY]).average(2).is_nan());
        // Halves of the smallest step: ties to even.
        assert_eq!(wide(&[5e-324]).average(2), 0.0);
        assert_eq!(wide(&[5e-324; 3]).average(2), 1e-323);
        assert_eq!(wide(&[5e-324; 2]).average(3), 5e-324, "two thirds");
    }

    #[test]
    fn damage_is_refused() {
        let good = encoded(&wide(&[1.0, 2f64.powi(-60), -2f64.powi(-120)]));
        assert!(Wide::decode(&good).is_ok());
        let table: &[(&str, Vec<u8>)] = &[
            ("empty", vec![]),
            ("version", vec![2, 0, 0, 0, 0, 0, 1]),
            ("cut in the header", good[..4].to_vec()),
            ("sign byte", vec![1, 0, 0, 0, 2, 0, 1]),
            ("minus zero", vec![1, 1, 0, 0, 1, 0]),
            ("zero at a place", vec![1, 1, 0, 0, 0, 5]),
            ("zero below", vec![1, 0, 0, 0, 0, 0, 0, 1]),
            ("zero above", vec![1, 0, 0, 0, 0, 0, 1, 0]),
            ("too far up", vec![1, 0, 0, 0, 0, 0x98, 0x02, 1]),
            ("too large", vec![1, 0, 0, 0, 0, 0x96, 0x02, 2]),
            ("place overflows", [vec![1, 0, 0, 0, 0], vec![0xff; 9], vec![1, 1]].concat()),
        ];
        for (name, bytes) in table {
            assert!(Wide::decode(bytes).is_err(), "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            if let Ok(wide) = Wide::decode(&[&[VERSION], bytes.as_slice()].concat()) {
                proptest::prop_assert_eq!(encoded(&wide)[1..].to_vec(), bytes);
                wide.round();
            }
        }
    }
}
