//! Integers as offsets from the smallest of their block, each in as many bits as the largest needs.
//!
//! Good for noise in a narrow range, and (over differences) for counters, jittered times and walks.
//! Decoding is the fastest of all codecs, since no number's place depends on another's value.
//! Bit pictures: FORMAT.md, "Packed".
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use crate::bits::{BitReader, BitWriter};
use crate::corrupt::{Corrupt, Result};
use crate::varint::{self, zigzag};

/// Numbers per block. A block costs about 3 bytes, 0.4 bits a number at 64; larger blocks pay more for one
/// number that is out of range.
pub(crate) const PACK_BLOCK: usize = 64;

struct Frame {
    min: i64,
    width: u32,
}

impl Frame {
    fn of(block: &[i64]) -> Frame {
        let (mut min, mut max) = (i64::MAX, i64::MIN);
        for &number in block {
            min = min.min(number);
            max = max.max(number);
        }
        Frame { min, width: 64 - (max.wrapping_sub(min) as u64).leading_zeros() }
    }
}

/// The bytes that [`encode`] would write.
pub(crate) fn size(numbers: &[i64]) -> usize {
    let block_size = |block: &[i64]| {
        let frame = Frame::of(block);
        varint_size(zigzag(frame.min)) + 1 + (block.len() * frame.width as usize).div_ceil(8)
    };
    numbers.chunks(PACK_BLOCK).map(block_size).sum()
}

pub(crate) fn varint_size(number: u64) -> usize {
    ((64 - number.leading_zeros()).max(1) as usize).div_ceil(7)
}

pub(crate) fn encode(numbers: &[i64], out: &mut Vec<u8>) {
    for block in numbers.chunks(PACK_BLOCK) {
        let frame = Frame::of(block);
        varint::put_i64(out, frame.min);
        out.push(frame.width as u8);
        let mut writer = BitWriter::default();
        for number in block {
            writer.push(number.wrapping_sub(frame.min) as u64, frame.width);
        }
        writer.write_to(out);
    }
}

/// Fills `slots` and leaves what follows in `rest`.
pub(crate) fn decode(rest: &mut &[u8], slots: &mut [i64]) -> Result<()> {
    for block in slots.chunks_mut(PACK_BLOCK) {
        let min = varint::take_i64(rest)?;
        let width = u32::from(varint::take_u8(rest)?);
        if width > 64 {
            return Err(Corrupt::new("packed numbers are wider than 64 bits"));
        }
        // The reader may look past this block, which is faster than stopping exactly at its end.
        let mut reader = BitReader::new(rest);
        varint::take_exact(rest, (block.len() * width as usize).div_ceil(8))?;
        for slot in block {
            *slot = min.wrapping_add(reader.take(width) as i64);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(numbers in prop::collection::vec((any::<i64>(), 0u32..64), 0..200)) {
            let numbers: Vec<i64> = numbers.iter().map(|(number, shift)| number >> shift).collect();
            let mut out = Vec::new();
            encode(&numbers, &mut out);
            prop_assert_eq!(out.len(), size(&numbers));
            out.push(42);
            let mut slots = vec![7; numbers.len()];
            let mut rest = out.as_slice();
            decode(&mut rest, &mut slots).unwrap();
            prop_assert_eq!(slots, numbers);
            prop_assert_eq!(rest, [42].as_slice());
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, count in 0usize..200) {
            let _ = decode(&mut bytes.as_slice(), &mut vec![0; count]);
        }
    }
}
