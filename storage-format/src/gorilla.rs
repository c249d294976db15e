//! Open chunks: streams of times, integers and floats that grow by one number and can be read at any
//! moment, after the paper "Gorilla" (VLDB 2015).
//!
//! This file holds the code of *residuals*, the differences that times and integers are made of; sealed
//! chunks write it too. Instead of the paper's fixed buckets it keeps a current width, which fits
//! counters and walks of any scale. Bit pictures: FORMAT.md, "Residuals".
//! Invariant: how many numbers a stream holds is known to its owner and not written.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod floats; // XOR with the previous value
pub mod integers; // difference to the previous value
mod short; // small residuals, by table
pub mod times; // difference to the previous difference, in a unit

use crate::bits::{BitReader, BitWriter};
use crate::corrupt::{Corrupt, Result};
use crate::varint::{unzigzag, zigzag};

use times::Unit;

/// What precedes the first number that sets a width.
pub(crate) const WIDTH_START: u8 = 1;

/// A number this much narrower than the current width sets a new one. Setting costs 9 bits against 2,
/// and most likely the next number will set it back for another 7.
const NARROWER_BITS: u32 = 10;

const ZERO_BITS: u32 = 1;
const SAME_WIDTH_BITS: u32 = 2;
const NEW_WIDTH_BITS: u32 = 9;

/// Appends one residual.
#[inline]
pub(crate) fn put_residual(out: &mut BitWriter, width: &mut u8, residual: i64) {
    let number = zigzag(residual);
    if number == 0 {
        out.push(0, ZERO_BITS);
        return;
    }
    let current = u32::from(*width);
    let needed = 64 - number.leading_zeros();
    if keeps_width(current, needed) {
        out.push_pair(0b10, SAME_WIDTH_BITS, number, current);
    } else {
        out.push_pair(0b110 << 6 | u64::from(needed - 1), NEW_WIDTH_BITS, number, needed);
        *width = needed as u8;
    }
}

/// The bits that [`put_residual`] would write for all of them.
pub(crate) fn residual_bits(residuals: impl Iterator<Item = i64>) -> usize {
    let mut width = u32::from(WIDTH_START);
    let mut bits = 0;
    for residual in residuals {
        let number = zigzag(residual);
        let needed = 64 - number.leading_zeros();
        bits += if number == 0 {
            ZERO_BITS
        } else if keeps_width(width, needed) {
            SAME_WIDTH_BITS + width
        } else {
            width = needed;
            NEW_WIDTH_BITS + needed
        } as usize;
    }
    bits
}

#[inline(always)]
fn keeps_width(current: u32, needed: u32) -> bool {
    needed <= current && current - needed < NARROWER_BITS
}

/// Fills `slots`, which hold zeros, with the residuals of `bytes`. Only streams of times may change the
/// unit; their residuals come out in nanoseconds.
pub(crate) fn take_residuals(bytes: &[u8], mut unit: Option<Unit>, slots: &mut [i64]) -> Result<()> {
    let mut reader = BitReader::new(bytes);
    let mut factor = unit.map_or(1, Unit::nanos);
    let mut width = u32::from(WIDTH_START);
    let mut slots = slots;
    loop {
        // Steps between times are equal, or of another size each.
        if unit.is_none() {
            slots = short::take_short(&mut reader, width, std::mem::take(&mut slots));
        }
        if slots.is_empty() {
            break;
        }
        let window = reader.peek();
        // A run of zeros in one step; zeros past the last slot are padding or damage.
        let zeros = window.leading_zeros().min(PEEK_ZEROS).min(slots.len() as u32);
        if zeros > 0 {
            reader.skip(zeros);
            slots = std::mem::take(&mut slots).get_mut(zeros as usize..).unwrap_or_default();
            continue;
        }
        let number = if window >> 62 == 0b10 {
            reader.skip(SAME_WIDTH_BITS);
            if width <= PEEK_ZEROS - SAME_WIDTH_BITS {
                reader.skip(width);
                window << SAME_WIDTH_BITS >> (64 - width)
            } else {
                reader.take(width)
            }
        } else if window >> 61 == 0b110 {
            width = (window << 3 >> 58) as u32 + 1;
            reader.skip(NEW_WIDTH_BITS);
            reader.take(width)
        } else {
            // An escape takes bits but fills no slot; it must make the unit finer, so three are the most.
            let finer = Unit::from_code((window << 3 >> 62) as u8);
            if unit.is_none_or(|unit| finer >= unit) {
                return Err(Corrupt::new("a residual has an unknown prefix"));
            }
            unit = Some(finer);
            factor = finer.nanos();
            reader.skip(times::UNIT_CHANGE_BITS);
            continue;
        };
        if let Some((slot, rest)) = std::mem::take(&mut slots).split_first_mut() {
            *slot = unzigzag(number).wrapping_mul(factor);
            slots = rest;
        }
    }
    reader.finish()
}

const PEEK_ZEROS: u32 = crate::bits::PEEK_BITS;

/// Turns differences into values, in place.
pub(crate) fn sum_up(slots: &mut [i64], mut value: i64) {
    for slot in slots {
        value = value.wrapping_add(*slot);
        *slot = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn residuals_round_trip_and_are_priced_exactly(
            scaled in prop::collection::vec((any::<i64>(), 0u32..64), 0..300)
        ) {
            let residuals: Vec<i64> = scaled.iter().map(|(value, shift)| value >> shift).collect();
            let mut writer = BitWriter::default();
            let mut width = WIDTH_START;
            for residual in &residuals {
                put_residual(&mut writer, &mut width, *residual);
            }
            let bytes = writer.to_bytes();
            prop_assert_eq!(bytes.len(), residual_bits(residuals.iter().copied()).div_ceil(8));
            let mut slots = vec![0; residuals.len()];
            take_residuals(&bytes, None, &mut slots).unwrap();
            prop_assert_eq!(slots, residuals);
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, count in 0usize..300) {
            let _ = take_residuals(&bytes, None, &mut vec![0; count]);
            let _ = take_residuals(&bytes, Some(Unit::START), &mut vec![0; count]);
        }
    }
}
