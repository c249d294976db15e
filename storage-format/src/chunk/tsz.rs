//! The format of tsz-compress v2 for one column of `i32`: differences in groups of 4 + 32 bits, each group
//! as wide as its next ten to one differences need.
//!
//! The crate writes it. We read it, because the crate's reader goes nibble by nibble, panics on damaged
//! input and believes its row count; a test compares the two.
//! Invariant: the crate only ever sees values that fit `i32` as distances from the first, so that none of
//! its subtractions can overflow.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use tsz_compress::prelude::TszCompressV2;

use crate::bits::BitReader;
use crate::corrupt::{Corrupt, Result};
use crate::gorilla::sum_up;
use crate::varint::{self, zigzag};

/// What the derive of tsz-compress needs around it.
mod column {
    use tsz_compress::prelude::*;

    #[derive(Clone, Copy, Debug, CompressV2)]
    #[cfg_attr(test, derive(DecompressV2))]
    pub struct Row {
        pub value: i32,
    }
}

/// Tags, one nibble each.
const COLUMN: u64 = 0b1001;
const VALUE: u64 = 0b0110;

/// A group's tag, how many differences it holds, and the bits of each.
const GROUPS: [(u64, usize, u32); 7] = [
    (0b1111, 10, 3),
    (0b1110, 5, 6),
    (0b1100, 4, 8),
    (0b1010, 3, 10),
    (0b1000, 2, 16),
    (0b1011, 1, 32),
    (0b1101, 1, 64),
];

/// Row count; column tag, value tag, value; value tag, difference.
const HEADER_NIBBLES: usize = 8 + (1 + 1 + 8) + (1 + 16);
const GROUP_NIBBLES: usize = 1 + 8;

/// No column of `count` values is smaller.
pub(crate) fn size_min(count: usize) -> usize {
    (HEADER_NIBBLES + count.saturating_sub(2).div_ceil(10) * GROUP_NIBBLES) / 2
}

/// The bytes that [`encode`] would write; none if the crate cannot hold these values.
pub(crate) fn size(values: &[i64], deltas: &[i64]) -> Option<usize> {
    let first = *values.first()?;
    let fits = |value: &i64| value.checked_sub(first).is_some_and(|distance| i32::try_from(distance).is_ok());
    let mut numbers = deltas.get(1..)?;
    if !values.iter().all(fits) {
        return None;
    }
    let mut nibbles = HEADER_NIBBLES;
    while !numbers.is_empty() {
        // What the next 1, 2, 3, ... differences have set in any of them.
        let (mut set, mut seen, mut taken) = (0, 0, 1);
        for (limit, count) in [(16, 2), (10, 3), (8, 4), (6, 5), (3, 10)] {
            let Some(next) = numbers.get(seen..count) else { break };
            next.iter().for_each(|delta| set |= zigzag(*delta));
            if set >> 16 != 0 {
                break;
            }
            if set >> limit == 0 {
                taken = count;
            }
            seen = count;
        }
        let alone = taken == 1 && numbers.first().is_some_and(|delta| zigzag(*delta) >> 32 != 0);
        nibbles += if alone { GROUP_NIBBLES + 8 } else { GROUP_NIBBLES };
        numbers = numbers.get(taken..).unwrap_or_default();
    }
    Some(varint_size(first) + nibbles.div_ceil(2))
}

fn varint_size(value: i64) -> usize {
    super::packed::varint_size(zigzag(value))
}

/// Only for values that have a [`size`].
pub(crate) fn encode(values: &[i64], out: &mut Vec<u8>) {
    let Some(&first) = values.first() else { return };
    varint::put_i64(out, first);
    let mut compressor = column::compress::RowCompressorImpl::new(values.len());
    for value in values {
        let distance = i32::try_from(value.wrapping_sub(first));
        compressor.compress(column::Row { value: distance.expect("bug: no size was asked for") });
    }
    // Not `finish_into`: it reserves too little for a vector that already has bytes or capacity, and then
    // writes past its end (1.1.6, HalfVec::finish).
    out.extend(compressor.finish());
}

/// Fills `slots`, at least two, from all of `bytes`.
pub(crate) fn decode(mut bytes: &[u8], slots: &mut [i64]) -> Result<()> {
    let base = varint::take_i64(&mut bytes)?;
    let mut reader = BitReader::new(bytes);
    if reader.take(32) != slots.len() as u64 {
        return Err(Corrupt::new("a tsz column has another number of rows"));
    }
    let [first, second, rest @ ..] = slots else {
        return Err(Corrupt::new("a tsz column has less than two rows"));
    };
    expect(&mut reader, COLUMN)?;
    expect(&mut reader, VALUE)?;
    *first = i64::from(reader.take(32) as u32 as i32);
    expect(&mut reader, VALUE)?;
    *second = reader.take(64) as i64;
    take_groups(&mut reader, rest)?;
    if !reader.position().is_multiple_of(8) {
        expect(&mut reader, COLUMN)?;
    }
    sum_up(slots, base);
    reader.finish()
}

fn take_groups(reader: &mut BitReader<'_>, mut slots: &mut [i64]) -> Result<()> {
    while !slots.is_empty() {
        let tag = reader.take(4);
        let Some(&(_, count, width)) = GROUPS.iter().find(|group| group.0 == tag) else {
            return Err(Corrupt::new("a tsz group has an unknown tag"));
        };
        let Some((group, rest)) = slots.split_at_mut_checked(count) else {
            return Err(Corrupt::new("a tsz group has more values than are left"));
        };
        // Three, six and ten bits leave two unused, at the top.
        reader.skip(if width == 64 { 0 } else { 32 - count as u32 * width });
        for slot in group {
            *slot = varint::unzigzag(reader.take(width));
        }
        slots = rest;
    }
    Ok(())
}

fn expect(reader: &mut BitReader<'_>, tag: u64) -> Result<()> {
    if reader.take(4) == tag { Ok(()) } else { Err(Corrupt::new("a tsz column has a wrong tag")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tsz_compress::prelude::TszDecompressV2;

    proptest! {
        #[test]
        fn round_trip_as_the_crate_reads_it(
            base in any::<i64>(),
            numbers in prop::collection::vec((any::<i32>(), 1u32..32), 1..300)
        ) {
            let mut values: Vec<i64> = vec![base];
            values.extend(numbers.iter().map(|(number, shift)| base.saturating_add(i64::from(number >> shift))));
            let deltas: Vec<i64> = values.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let mut out = Vec::new();
            encode(&values, &mut out);
            prop_assert_eq!(Some(out.len()), size(&values, &deltas));
            prop_assert!(out.len() >= size_min(values.len()));
            let mut slots = vec![0; values.len()];
            decode(&out, &mut slots).unwrap();
            prop_assert_eq!(&slots, &values);

            let mut theirs = column::decompress::RowDecompressorImpl::new();
            theirs.decompress(&out[varint_size(base)..]).unwrap();
            let theirs: Vec<i64> = theirs.col_value().iter().map(|value| base + i64::from(*value)).collect();
            prop_assert_eq!(theirs, values);
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, count in 0usize..300) {
            let _ = decode(&bytes, &mut vec![0; count]);
            // Past the row count, where random bytes seldom come.
            let mut out = vec![0, 0, 0, count as u8, count as u8, 0x96];
            out.splice(..1, [0, 0]);
            out.extend(bytes);
            let _ = decode(&out, &mut vec![0; count]);
        }
    }

    #[test]
    fn distances_beyond_i32_have_no_size() {
        let values = [0, 1, i64::from(i32::MAX) + 1];
        assert_eq!(size(&values, &[1, i64::from(i32::MAX)]), None);
        assert_eq!(size(&[i64::MIN, i64::MAX, 0], &[-1, i64::MIN]), None);
    }
}
