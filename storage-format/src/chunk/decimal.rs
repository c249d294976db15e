//! Floats that are exactly an integer divided by a power of ten, as nearly all gauges are: 23.75 is 2375 / 100.
//!
//! Invariant: a chunk is taken only if every value comes back bit for bit, which is tried on every value.
//! So NaN, infinities, -0 and full mantissas fall out by themselves.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use crate::corrupt::{Corrupt, Result};

/// 10^15 is the last power with which a scaled value below 2^51 can have a whole part.
const POWERS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Adding this rounds a number of less than 2^51 to a whole one, whose value then stands in the lowest
/// bits. It needs no call into libm, which `round` does on plain x86-64.
const ROUNDER: f64 = (3u64 << 51) as f64;

/// The exponent and the integers, if there is an exponent that fits all values.
pub(crate) fn scale(values: &[f64]) -> Option<(u8, Vec<i64>)> {
    let mut exponent = 0;
    let mut power = POWERS.first()?;
    for &value in values {
        while restore(shift(value, *power), *power).to_bits() != value.to_bits() {
            exponent += 1;
            power = POWERS.get(exponent)?;
        }
    }
    // A value that was exact in fewer digits may be too large in more.
    let integers: Vec<i64> = values.iter().map(|value| shift(*value, *power)).collect();
    let exact = |(integer, value): (&i64, &f64)| restore(*integer, *power).to_bits() == value.to_bits();
    integers.iter().zip(values).all(exact).then_some((exponent as u8, integers))
}

#[inline(always)]
fn shift(value: f64, power: f64) -> i64 {
    // Out of range or NaN gives some integer, which the comparison of bits refuses.
    (value * power + ROUNDER).to_bits().wrapping_sub(ROUNDER.to_bits()) as i64
}

#[inline(always)]
fn restore(integer: i64, power: f64) -> f64 {
    integer as f64 / power
}

pub(crate) fn unscale(integers: &[i64], exponent: u8) -> Result<Vec<f64>> {
    let power = POWERS.get(usize::from(exponent)).ok_or(Corrupt::new("a decimal has an unknown exponent"))?;
    Ok(integers.iter().map(|integer| restore(*integer, *power)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_decimal_is_found(
            integers in prop::collection::vec(-1_000_000_000_000i64..1_000_000_000_000, 1..100),
            digits in 0usize..4
        ) {
            let values: Vec<f64> =
                integers.iter().map(|integer| format!("{integer}e-{digits}").parse().unwrap()).collect();
            if values.iter().all(|value| value.to_bits() != (-0.0f64).to_bits()) {
                let (exponent, scaled) = scale(&values).expect("is a decimal");
                prop_assert!(usize::from(exponent) <= digits);
                prop_assert_eq!(unscale(&scaled, exponent).unwrap(), values);
            }
        }

        #[test]
        fn any_bits_come_back_or_fall_out(any_bits in prop::collection::vec(any::<u64>(), 1..4)) {
            let values: Vec<f64> = any_bits.iter().map(|bits| f64::from_bits(*bits)).collect();
            if let Some((exponent, scaled)) = scale(&values) {
                let back = unscale(&scaled, exponent).unwrap();
                prop_assert!(back.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
        }
    }

    #[test]
    fn special_values_fall_out() {
        for value in [f64::NAN, f64::INFINITY, -0.0, std::f64::consts::PI, 1e300, 5e-324, 9e15] {
            assert_eq!(scale(&[1.5, value]), None, "{value}");
        }
        assert_eq!(scale(&[23.75, 0.5, -3.0]), Some((2, vec![2375, 50, -300])));
    }
}
