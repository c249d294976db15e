//! A sealed sequence of integers in the smallest of seven forms. Times, decimals and the numbers of a
//! dictionary become such sequences too.
//!
//! Sizes are computed before anything is written, so that only the winner is encoded.
//! Invariant: a sequence ends where its bytes end; its length is known to the owner.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use super::packed::{self, varint_size};
use super::tsz;
use crate::bits::BitWriter;
use crate::corrupt::{Corrupt, Result};
use crate::gorilla::{WIDTH_START, put_residual, residual_bits, sum_up, take_residuals};
use crate::varint::{self, zigzag};

/// The first byte of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum IntCodec {
    /// All equal: the value.
    Constant = 1,
    /// All differences equal: first value, difference.
    Steady = 2,
    /// First value, then differences as residuals. Long still stretches.
    Delta = 3,
    /// First value, first difference, then differences of differences as residuals. Regular times with gaps.
    DeltaOfDelta = 4,
    /// The values, packed. Noise in a narrow range.
    Packed = 5,
    /// First value, then the differences, packed. Counters, walks, jittered times.
    PackedDelta = 6,
    /// tsz-compress v2. Differences of quickly changing size.
    Tsz = 7,
}

impl IntCodec {
    pub const ALL: [IntCodec; 7] = [
        IntCodec::Constant,
        IntCodec::Steady,
        IntCodec::Delta,
        IntCodec::DeltaOfDelta,
        IntCodec::Packed,
        IntCodec::PackedDelta,
        IntCodec::Tsz,
    ];

    pub(crate) fn from_byte(byte: u8) -> Option<IntCodec> {
        IntCodec::ALL.into_iter().find(|codec| *codec as u8 == byte)
    }

    pub fn name(self) -> &'static str {
        match self {
            IntCodec::Constant => "constant",
            IntCodec::Steady => "steady",
            IntCodec::Delta => "delta",
            IntCodec::DeltaOfDelta => "delta of delta",
            IntCodec::Packed => "packed",
            IntCodec::PackedDelta => "packed delta",
            IntCodec::Tsz => "tsz",
        }
    }
}

/// The smallest form of a sequence, not yet written.
pub(crate) struct Plan<'a> {
    values: &'a [i64],
    deltas: Vec<i64>,
    codec: IntCodec,
    /// With the codec's own byte.
    pub size: usize,
}

pub(crate) fn plan(values: &[i64]) -> Plan<'_> {
    let deltas: Vec<i64> = differences(values).collect();
    let (codec, size) = smallest(values, &deltas);
    Plan { values, deltas, codec, size: 1 + size }
}

/// As [`plan`], but only of the forms that can win for the bits of floats without a pattern.
pub(crate) fn plan_noise(values: &[i64]) -> Plan<'_> {
    let is_constant = values.iter().all(|value| Some(value) == values.first());
    if is_constant {
        return plan(values);
    }
    Plan { values, deltas: Vec::new(), codec: IntCodec::Packed, size: 1 + packed::size(values) }
}

/// Each but the first minus the one before.
pub(super) fn differences(values: &[i64]) -> impl Iterator<Item = i64> {
    values.iter().zip(values.iter().skip(1)).map(|(a, b)| b.wrapping_sub(*a))
}

/// Ties go to what decodes faster, the earlier one.
fn smallest(values: &[i64], deltas: &[i64]) -> (IntCodec, usize) {
    let first = values.first().map_or(1, |value| varint_size(zigzag(*value)));
    let Some(&step) = deltas.first() else { return (IntCodec::Constant, first) };
    if deltas.iter().all(|delta| *delta == step) {
        return match step {
            0 => (IntCodec::Constant, first),
            _ => (IntCodec::Steady, first + varint_size(zigzag(step))),
        };
    }
    let mut best = (IntCodec::Packed, packed::size(values));
    let mut offer = |codec, size| {
        if size < best.1 {
            best = (codec, size);
        }
        best.1
    };
    let mut least = offer(IntCodec::PackedDelta, first + packed::size(deltas));
    // Residuals take a bit at least.
    if first + deltas.len() / 8 < least {
        offer(IntCodec::Delta, first + residual_bits(deltas.iter().copied()).div_ceil(8));
        let second_size = varint_size(zigzag(step)) + residual_bits(differences(deltas)).div_ceil(8);
        least = offer(IntCodec::DeltaOfDelta, first + second_size);
    }
    if tsz::size_min(values.len()) < least
        && let Some(size) = tsz::size(values, deltas)
    {
        offer(IntCodec::Tsz, size);
    }
    best
}

impl Plan<'_> {
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        write_as(self.codec, self.values, &self.deltas, out);
        debug_assert_eq!(out.len() - start, self.size, "bug: {:?} has another size than planned", self.codec);
    }
}

/// The codec must be able to hold these values.
pub(super) fn write_as(codec: IntCodec, values: &[i64], deltas: &[i64], out: &mut Vec<u8>) {
    out.push(codec as u8);
    let first = values.first().copied().unwrap_or(0);
    if !matches!(codec, IntCodec::Packed | IntCodec::Tsz) {
        varint::put_i64(out, first);
    }
    let step = deltas.first().copied().unwrap_or(0);
    match codec {
        IntCodec::Constant => {}
        IntCodec::Steady => varint::put_i64(out, step),
        IntCodec::Delta => put_residuals(out, deltas.iter().copied()),
        IntCodec::DeltaOfDelta => {
            varint::put_i64(out, step);
            put_residuals(out, differences(deltas));
        }
        IntCodec::Packed => packed::encode(values, out),
        IntCodec::PackedDelta => packed::encode(deltas, out),
        IntCodec::Tsz => tsz::encode(values, out),
    }
}

fn put_residuals(out: &mut Vec<u8>, residuals: impl Iterator<Item = i64>) {
    let (mut writer, mut width) = (BitWriter::default(), WIDTH_START);
    residuals.for_each(|residual| put_residual(&mut writer, &mut width, residual));
    writer.write_to(out);
}

/// Reads a sequence of `count` values that takes all of `bytes`.
pub(crate) fn decode(bytes: &[u8], count: usize) -> Result<Vec<i64>> {
    let mut values = vec![0; count];
    decode_into(bytes, &mut values)?;
    Ok(values)
}

/// Reads a sequence that takes all of `bytes` into as many slots as it has values; they hold zeros.
pub(crate) fn decode_into(mut bytes: &[u8], values: &mut [i64]) -> Result<()> {
    let rest = &mut bytes;
    let codec = IntCodec::from_byte(varint::take_u8(rest)?)
        .ok_or(Corrupt::new("a column has an unknown integer codec"))?;
    match codec {
        IntCodec::Constant => values.fill(varint::take_i64(rest)?),
        IntCodec::Steady => {
            let (mut value, step) = (varint::take_i64(rest)?, varint::take_i64(rest)?);
            for slot in values {
                *slot = value;
                value = value.wrapping_add(step);
            }
        }
        IntCodec::Delta => {
            let deltas = place_first(rest, values)?;
            take_residuals(std::mem::take(rest), None, deltas)?;
            sum_up(values, 0);
        }
        IntCodec::DeltaOfDelta => {
            let deltas = place_first(rest, values)?;
            let seconds = place_first(rest, deltas)?;
            take_residuals(std::mem::take(rest), None, seconds)?;
            sum_up(deltas, 0);
            sum_up(values, 0);
        }
        IntCodec::Packed => packed::decode(rest, values)?,
        IntCodec::PackedDelta => {
            let deltas = place_first(rest, values)?;
            packed::decode(rest, deltas)?;
            sum_up(values, 0);
        }
        IntCodec::Tsz => tsz::decode(std::mem::take(rest), values)?,
    }
    if !rest.is_empty() {
        return Err(Corrupt::new("a column is longer than its rows"));
    }
    Ok(())
}

/// Reads the first number into the first slot and returns the other slots.
fn place_first<'a>(rest: &mut &[u8], slots: &'a mut [i64]) -> Result<&'a mut [i64]> {
    let (first, others) =
        slots.split_first_mut().ok_or(Corrupt::new("a column has fewer rows than numbers"))?;
    *first = varint::take_i64(rest)?;
    Ok(others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(scaled in prop::collection::vec((any::<i64>(), 0u32..64), 0..300)) {
            let values: Vec<i64> = scaled.iter().map(|(value, shift)| value >> shift).collect();
            let mut out = Vec::new();
            plan(&values).write(&mut out);
            prop_assert_eq!(decode(&out, values.len()).unwrap(), values);
        }

        #[test]
        fn every_codec_round_trips_what_it_can_hold(
            first in any::<i32>(), step in any::<i32>(),
            noise in prop::collection::vec((any::<i32>(), 0u32..32), 1..300)
        ) {
            let constant = vec![i64::from(first); noise.len()];
            let steady: Vec<i64> =
                (0..noise.len() as i64).map(|row| i64::from(first) + row * i64::from(step)).collect();
            let noise: Vec<i64> = noise.iter().map(|(value, shift)| i64::from(value >> shift) / 2).collect();
            for (codec, values) in [
                (IntCodec::Constant, &constant),
                (IntCodec::Steady, &steady),
                (IntCodec::Delta, &noise),
                (IntCodec::DeltaOfDelta, &noise),
                (IntCodec::Packed, &noise),
                (IntCodec::PackedDelta, &noise),
                (IntCodec::Tsz, &noise),
            ] {
                // One value has no step to write; the plan never asks for it.
                if values.len() >= 2 || codec == IntCodec::Constant {
                    let deltas: Vec<i64> = differences(values).collect();
                    let mut out = Vec::new();
                    write_as(codec, values, &deltas, &mut out);
                    prop_assert_eq!(&decode(&out, values.len()).unwrap(), values, "{:?}", codec);
                }
            }
        }

        #[test]
        fn any_bytes_are_survived(codec in 1u8..=7, bytes: Vec<u8>, count in 0usize..300) {
            let bytes = [vec![codec], bytes].concat();
            let _ = decode(&bytes, count);
        }
    }

    #[test]
    fn the_smallest_is_chosen() {
        let codec = |values: Vec<i64>| plan(&values).codec;
        let noise = |row: i64| (xxhash_rust::xxh3::xxh3_64(&row.to_le_bytes()) >> 57) as i64;
        assert_eq!(codec(vec![5; 100]), IntCodec::Constant);
        assert_eq!(codec((0..100).map(|row| row * 7).collect()), IntCodec::Steady);
        assert_eq!(codec((0..200).map(|row| i64::from(row > 100) * 1_000_000).collect()), IntCodec::Delta);
        assert_eq!(codec((0..200).map(|row| (row + row / 90) * 10_000).collect()), IntCodec::DeltaOfDelta);
        assert_eq!(codec((0..200).map(noise).collect()), IntCodec::Packed);
        assert_eq!(codec((0..200).map(|row| row * 1_000 + noise(row)).collect()), IntCodec::PackedDelta);
    }
}
