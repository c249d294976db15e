//! Exact arithmetic on whole numbers times powers of two: what floats are, and what sums and products of them stay.
//!
//! Invariant: one number has one representation, so equal numbers are equal structs and equal bytes.
//! It serves what is rarely done and must be exact: sums of squares, and the last step of variances, rates and
//! averages over time. Not here: the loops over values (see `squares` and `weighted`), and sums (see `sum`).

use std::cmp::Ordering;

use crate::corrupt::{Corrupt, Result};
use crate::varint;

pub(super) const LIMB_BITS: i32 = u64::BITS as i32;

/// `limbs * 2^(64 * place)`, lowest limb first. Neither the first limb nor the last one is zero; zero has no limbs,
/// no sign, and place 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dyadic {
    negative: bool,
    place: i32,
    limbs: Vec<u64>,
}

impl Dyadic {
    pub const ZERO: Dyadic = Dyadic { negative: false, place: 0, limbs: Vec::new() };

    /// `magnitude * 2^shift`, the lowest limb first.
    pub fn scaled(negative: bool, magnitude: &[u64], shift: i32) -> Dyadic {
        // Mostly zeros come in from wide registers; they are not carried along.
        let from = magnitude.iter().position(|limb| *limb != 0).unwrap_or(magnitude.len());
        let to = magnitude.iter().rposition(|limb| *limb != 0).map_or(from, |last| last + 1);
        let magnitude = &magnitude[from..to];
        let place = shift.div_euclid(LIMB_BITS) + from as i32;
        let bits = shift.rem_euclid(LIMB_BITS);
        let mut limbs = Vec::with_capacity(magnitude.len() + 1);
        let mut below = 0;
        for limb in magnitude.iter().chain([&0]) {
            limbs.push(((u128::from(*limb) << LIMB_BITS | below) << bits >> LIMB_BITS) as u64);
            below = u128::from(*limb);
        }
        Dyadic { negative, place, limbs }.trimmed()
    }

    pub fn whole(value: i128) -> Dyadic {
        let magnitude = value.unsigned_abs();
        Dyadic::scaled(value < 0, &[magnitude as u64, (magnitude >> LIMB_BITS) as u64], 0)
    }

    pub fn is_zero(&self) -> bool {
        self.limbs.is_empty()
    }

    pub fn is_negative(&self) -> bool {
        self.negative
    }

    #[must_use]
    pub fn negated(mut self) -> Dyadic {
        self.negative = !self.negative && !self.is_zero();
        self
    }

    pub fn add(&mut self, other: &Dyadic) {
        if other.is_zero() {
            return;
        }
        if self.is_zero() {
            self.clone_from(other);
            return;
        }
        let (large, small) =
            if self.cmp_magnitude(other).is_lt() { (other, &*self) } else { (&*self, other) };
        let place = large.place.min(small.place);
        let end = large.end().max(small.end());
        let mut limbs = vec![0; (end - place) as usize + 1];
        let own = (large.place - place) as usize;
        limbs[own..own + large.limbs.len()].copy_from_slice(&large.limbs);
        let step = if large.negative == small.negative { u64::overflowing_add } else { u64::overflowing_sub };
        let mut carry = false;
        let mut addends = small.limbs.iter();
        for limb in &mut limbs[(small.place - place) as usize..] {
            let addend = addends.next();
            if addend.is_none() && !carry {
                break;
            }
            let (sum, over) = step(*limb, addend.copied().unwrap_or(0));
            let (sum, over_by_carry) = step(sum, u64::from(carry));
            (*limb, carry) = (sum, over | over_by_carry);
        }
        *self = Dyadic { negative: large.negative, place, limbs }.trimmed();
    }

    #[must_use]
    pub fn times(&self, other: &Dyadic) -> Dyadic {
        let mut limbs = vec![0u64; self.limbs.len() + other.limbs.len()];
        for (index, mine) in self.limbs.iter().enumerate() {
            let mut carry = 0u128;
            let mut places = limbs[index..].iter_mut();
            for theirs in &other.limbs {
                let limb = places.next().expect("a product is as long as both factors");
                let sum = u128::from(*mine) * u128::from(*theirs) + u128::from(*limb) + carry;
                *limb = sum as u64;
                carry = sum >> LIMB_BITS;
            }
            *places.next().expect("a product is as long as both factors") = carry as u64;
        }
        Dyadic { negative: self.negative != other.negative, place: self.place + other.place, limbs }.trimmed()
    }

    /// The float nearest to `self * 2^scale / divisor`; ties go to even. Too large is infinite.
    pub fn ratio(&self, divisor: u128, scale: i32) -> f64 {
        /// One bit more than needed to tell on which side of a middle between two floats the quotient lies.
        const QUOTIENT_BITS: i32 = f64::MANTISSA_DIGITS as i32 + 3;
        let normal = divisor.leading_zeros() as i32;
        let divisor = divisor << normal;
        let length = self.bit_length();
        if length == 0 {
            return 0.0;
        }
        // Long division, bit by bit: the dividend's bits come in from `next` downwards.
        let mut remainder = (0..u128::BITS as i32)
            .fold(0, |bits, index| bits << 1 | u128::from(self.bit(length - 1 - index)));
        let mut next = length - 1 - u128::BITS as i32;
        let (mut quotient, mut carry) = (0u128, false);
        for step in 0..QUOTIENT_BITS {
            if step > 0 {
                carry = remainder >> (u128::BITS - 1) == 1;
                remainder = remainder << 1 | u128::from(self.bit(next));
                next -= 1;
            }
            quotient <<= 1;
            if carry || remainder >= divisor {
                remainder = remainder.wrapping_sub(divisor);
                quotient |= 1;
            }
        }
        let remains = remainder != 0 || self.any_bit_to(next);
        // The lowest bit of the quotient, then one more that stands for all that follows.
        let exponent = next + 1 + normal + LIMB_BITS * self.place + scale;
        let magnitude = nearest_float(quotient << 1 | u128::from(remains), exponent - 1);
        if self.negative { -magnitude } else { magnitude }
    }

    pub fn heap_bytes(&self) -> usize {
        self.limbs.capacity() * size_of::<u64>()
    }

    fn end(&self) -> i32 {
        self.place + self.limbs.len() as i32
    }

    fn cmp_magnitude(&self, other: &Dyadic) -> Ordering {
        let from_top = |number: &Dyadic, depth: i32| {
            let index = number.limbs.len() as i32 - 1 - depth;
            usize::try_from(index).ok().and_then(|index| number.limbs.get(index).copied()).unwrap_or(0)
        };
        let depths = 0..self.limbs.len().max(other.limbs.len()) as i32;
        let by_limbs = depths.map(|depth| from_top(self, depth).cmp(&from_top(other, depth)));
        self.end().cmp(&other.end()).then(by_limbs.fold(Ordering::Equal, Ordering::then))
    }

    fn bit_length(&self) -> i32 {
        let top = self.limbs.last().map_or(0, |top| top.leading_zeros() as i32);
        self.limbs.len() as i32 * LIMB_BITS - top
    }

    /// Zero below the lowest limb.
    fn bit(&self, position: i32) -> bool {
        let limb =
            usize::try_from(position.div_euclid(LIMB_BITS)).ok().and_then(|index| self.limbs.get(index));
        limb.is_some_and(|limb| limb >> position.rem_euclid(LIMB_BITS) & 1 == 1)
    }

    /// Whether any bit up to this one is set; the lowest limb is not zero, so only its own bits are in question.
    fn any_bit_to(&self, position: i32) -> bool {
        match self.limbs.first() {
            Some(lowest) => lowest.trailing_zeros() as i32 <= position,
            None => false,
        }
    }

    fn trimmed(mut self) -> Dyadic {
        let Some(last) = self.limbs.iter().rposition(|limb| *limb != 0) else { return Dyadic::ZERO };
        self.limbs.truncate(last + 1);
        let first = self.limbs.iter().position(|limb| *limb != 0).unwrap_or(0);
        self.limbs.drain(..first);
        self.place += first as i32;
        self
    }
}

/// The float nearest to `magnitude * 2^exponent`; ties go to even. The magnitude has more bits than a float.
fn nearest_float(magnitude: u128, exponent: i32) -> f64 {
    const FRACTION_BITS: i32 = f64::MANTISSA_DIGITS as i32 - 1;
    /// Of the smallest step.
    const EXPONENT_MIN: i32 = f64::MIN_EXP - f64::MANTISSA_DIGITS as i32;
    /// Of the largest float's last bit, above the smallest step's.
    const FIELD_MAX: i32 = f64::MAX_EXP - f64::MANTISSA_DIGITS as i32 - EXPONENT_MIN;

    let length = (u128::BITS - magnitude.leading_zeros()) as i32;
    let last = (length + exponent - f64::MANTISSA_DIGITS as i32).max(EXPONENT_MIN);
    let cut = last - exponent;
    debug_assert!(cut > 0, "bug: nothing to round");
    if cut > length {
        return 0.0; // below half of the smallest step
    }
    let kept = magnitude >> cut;
    let rest = magnitude & ((1 << cut) - 1);
    let up = match rest.cmp(&(1 << (cut - 1))) {
        Ordering::Less => false,
        Ordering::Equal => kept & 1 == 1,
        Ordering::Greater => true,
    };
    let field = last - EXPONENT_MIN;
    if field > FIELD_MAX {
        return f64::INFINITY;
    }
    // The implied bit of a normal number adds one to the exponent field; so does a carry out of rounding.
    f64::from_bits(((field as u64) << FRACTION_BITS) + kept as u64 + u64::from(up))
}

impl Dyadic {
    /// Sign, place in bytes, bytes. FORMAT.md, "Exact numbers".
    pub fn encode(&self, out: &mut Vec<u8>) {
        let bytes: Vec<u8> = self.limbs.iter().flat_map(|limb| limb.to_le_bytes()).collect();
        let from = bytes.iter().position(|byte| *byte != 0).unwrap_or(0);
        let to = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        out.push(u8::from(self.negative));
        varint::put_i64(out, i64::from(self.place) * size_of::<u64>() as i64 + from as i64);
        out.extend_from_slice(&bytes[from..to]);
    }

    /// Takes all of `rest`; refuses every encoding but the one that [`encode`](Dyadic::encode) gives, and numbers
    /// whose bits reach beyond `places`, counted in bytes.
    #[deny(clippy::unwrap_used, clippy::indexing_slicing)]
    pub fn decode(mut rest: &[u8], places: std::ops::Range<i32>) -> Result<Dyadic> {
        let negative = match varint::take_u8(&mut rest)? {
            0 => false,
            1 if !rest.is_empty() => true,
            _ => return Err(Corrupt::new("an exact number has a wrong sign")),
        };
        let place = varint::take_i64(&mut rest)?;
        let minimal = match (rest.first(), rest.last()) {
            (Some(first), Some(last)) => *first != 0 && *last != 0,
            _ => place == 0 && !negative,
        };
        if !minimal {
            return Err(Corrupt::new("an exact number is not in its shortest form"));
        }
        let end = i64::try_from(rest.len()).ok().and_then(|len| place.checked_add(len));
        let (from, to) = (i64::from(places.start), i64::from(places.end));
        if place < from || end.is_none_or(|end| end > to) {
            return Err(Corrupt::new("an exact number is out of range"));
        }
        let limbs = rest
            .chunks(size_of::<u64>())
            .map(|bytes| bytes.iter().rev().fold(0, |limb, byte| limb << u8::BITS | u64::from(*byte)));
        let limbs: Vec<u64> = limbs.collect();
        Ok(Dyadic::scaled(negative, &limbs, place as i32 * u8::BITS as i32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(number: &Dyadic) -> Vec<u8> {
        let mut out = Vec::new();
        number.encode(&mut out);
        out
    }

    fn sum(a: &Dyadic, b: &Dyadic) -> Dyadic {
        let mut sum = a.clone();
        sum.add(b);
        sum
    }

    #[test]
    fn ratios_round_once() {
        let whole = Dyadic::whole;
        assert_eq!(whole(7).ratio(2, 0), 3.5);
        assert_eq!(whole(-1).ratio(3, 0), -1.0 / 3.0);
        assert_eq!(whole(1).ratio(3, 10), 1024.0 / 3.0);
        let odd = (1i128 << 53) + 1;
        assert_eq!(whole(odd).ratio(1, 0), (1u64 << 53) as f64, "tie, to even");
        assert_eq!(whole(3 * odd + 1).ratio(3, 0), ((1u64 << 53) + 2) as f64, "just above the tie");
        // A bit far below decides a tie.
        let just_above = sum(&whole(odd), &Dyadic::scaled(false, &[1], -2000));
        assert_eq!(just_above.ratio(1, 0), ((1u64 << 53) + 2) as f64);
        let just_below = sum(&whole(odd), &Dyadic::scaled(true, &[1], -2000));
        assert_eq!(just_below.ratio(1, 0), (1u64 << 53) as f64);
        assert_eq!(whole(0).ratio(5, 0), 0.0);
        assert_eq!(whole(i128::MIN).ratio(u128::MAX, 0), -0.5);
    }

    #[test]
    fn the_ends_of_the_range() {
        let power = |exponent| Dyadic::scaled(false, &[1], exponent);
        assert_eq!(power(-1074).ratio(1, 0), 5e-324);
        assert_eq!(power(-1075).ratio(1, 0), 0.0, "tie, to even");
        assert_eq!(sum(&power(-1075), &power(-3000)).ratio(1, 0), 5e-324);
        assert_eq!(power(-9000).ratio(1, 0), 0.0);
        assert_eq!(power(-9000).ratio(1, 9000), 1.0);
        assert_eq!(power(1023).ratio(1, 0), 2f64.powi(1023));
        assert_eq!(power(1024).ratio(1, 0), f64::INFINITY);
        assert_eq!(power(9000).ratio(1, 0), f64::INFINITY);
        let largest = sum(&power(1024), &power(971).negated());
        assert_eq!(largest.ratio(1, 0), f64::MAX);
        assert_eq!(sum(&largest, &power(970)).ratio(1, 0), f64::INFINITY);
    }

    #[test]
    fn damage_is_refused() {
        let table: &[(&str, &[u8])] = &[
            ("empty", &[]),
            ("sign byte", &[2, 0, 1]),
            ("minus zero", &[1, 0]),
            ("zero at a place", &[0, 2]),
            ("zero below", &[0, 0, 0, 1]),
            ("zero above", &[0, 0, 1, 0]),
            ("too low", &[0, 19, 1]),
            ("too high", &[0, 18, 1, 1]),
        ];
        for (name, bytes) in table {
            assert!(Dyadic::decode(bytes, -9..10).is_err(), "{name}");
        }
        assert_eq!(Dyadic::decode(&[0, 17, 1], -9..10), Ok(Dyadic::scaled(false, &[1], -72)));
    }

    proptest! {
        #[test]
        fn arithmetic_agrees_with_128_bits(a: i64, b: i64, c: i32, divisor in 1u128.., at in -200i32..200) {
            let (a, b, c) = (i128::from(a), i128::from(b), i128::from(c));
            let at_place = |value: i128| Dyadic::whole(value).times(&Dyadic::scaled(false, &[1], at));
            prop_assert_eq!(sum(&at_place(a), &at_place(b)), at_place(a + b));
            prop_assert_eq!(sum(&at_place(a), &at_place(-a)), Dyadic::ZERO);
            prop_assert_eq!(sum(&at_place(a * c), &at_place(b).negated()), at_place(a * c - b));
            prop_assert_eq!(at_place(a).times(&Dyadic::whole(c)), at_place(a * c));
            prop_assert_eq!(Dyadic::whole(a * c).ratio(1, 0), (a * c) as f64);
            let small = u128::from(divisor as u32).max(1);
            prop_assert_eq!(Dyadic::whole(c).ratio(small, at), c as f64 / small as f64 * 2f64.powi(at));
            // A quotient times its divisor is the dividend.
            let product = Dyadic::whole(c).times(&Dyadic::whole((divisor >> 1) as i128));
            prop_assert_eq!(product.ratio((divisor >> 1).max(1), 0), if divisor > 1 { c as f64 } else { 0.0 });
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            if let Ok(number) = Dyadic::decode(&bytes, -500..500) {
                prop_assert_eq!(encoded(&number), bytes);
            }
        }

        #[test]
        fn every_number_comes_back(negative: bool, limbs: Vec<u64>, at in -500i32..500) {
            let number = Dyadic::scaled(negative, &limbs, at);
            prop_assert_eq!(Dyadic::decode(&encoded(&number), i32::MIN..i32::MAX), Ok(number));
        }
    }
}
