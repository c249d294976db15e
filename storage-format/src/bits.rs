//! Streams of bits: appended one number at a time, read 64 bits at a time.
//!
//! Invariant: the first bit written is the highest bit of the first byte, and a finished stream ends
//! with at most seven zero bits of padding. A stream does not know its length in numbers; its owner does.
//! Reading past the end gives zeros, so that loops need no check per number; [`BitReader::finish`]
//! then says that it happened.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use crate::corrupt::{Corrupt, Result};

/// 32 bytes, because a million series keep several of these open.
#[derive(Clone, Debug)]
pub struct BitWriter {
    bytes: Vec<u8>,
    /// Fewer than 64 bits not yet in `bytes`, below a 1 that marks where they begin: the 1 saves a counter.
    pending: u64,
}

const _: () = assert!(size_of::<BitWriter>() == 32, "a million open series pay for each byte");

/// The first allocation: 256 one-bit numbers, a whole chunk of constant values.
const FIRST_BYTES: usize = 32;

impl Default for BitWriter {
    fn default() -> BitWriter {
        BitWriter { bytes: Vec::new(), pending: 1 }
    }
}

impl BitWriter {
    /// Appends the lowest `count` bits of `bits`; the others must be zero.
    #[inline]
    pub fn push(&mut self, bits: u64, count: u32) {
        debug_assert!(count <= 64, "bug: a number has at most 64 bits");
        debug_assert!(count == 64 || bits >> count == 0, "bug: bits above the count");
        let used = 63 - self.pending.leading_zeros();
        if used + count < 64 {
            self.pending = self.pending << count | bits;
            return;
        }
        let missing = 64 - used;
        let left = count - missing;
        // The marker is the bit that falls out at the top.
        let word = self.pending.checked_shl(missing).unwrap_or(0) | bits >> left;
        self.pending = 1 << left | bits & ((1 << left) - 1);
        self.append_word(word);
    }

    /// Appends a prefix and a number, in one step where both fit 64 bits.
    #[inline]
    pub fn push_pair(&mut self, prefix: u64, prefix_count: u32, number: u64, count: u32) {
        if prefix_count + count <= 64 {
            self.push(prefix << count | number, prefix_count + count);
        } else {
            self.push(prefix, prefix_count);
            self.push(number, count);
        }
    }

    /// Grows by a quarter instead of doubling: streams are short and live by the million.
    #[inline]
    fn append_word(&mut self, word: u64) {
        if self.bytes.capacity() - self.bytes.len() < 8 {
            self.bytes.reserve_exact((self.bytes.len() / 4).next_multiple_of(16).max(FIRST_BYTES));
        }
        self.bytes.extend_from_slice(&word.to_be_bytes());
    }

    /// The stream so far, padded to whole bytes. Appending may go on.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let used = 63 - self.pending.leading_zeros();
        let word = self.pending.checked_shl(64 - used).unwrap_or(0);
        out.extend_from_slice(&self.bytes);
        out.extend(word.to_be_bytes().iter().take(used.div_ceil(8) as usize));
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len() + 8);
        self.write_to(&mut out);
        out
    }

    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Reads what a push reads and writes. What it returns means nothing.
    #[inline]
    pub fn touch(&self) -> u64 {
        self.pending ^ self.bytes.last().map_or(0, |last| u64::from(*last))
    }
}

#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next bit, counted from the start.
    at: usize,
}

/// A load begins at a byte, so up to 7 of its 64 bits are already read.
pub const PEEK_BITS: u32 = 57;

impl<'a> BitReader<'a> {
    pub fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { bytes, at: 0 }
    }

    /// At least the next [`PEEK_BITS`] bits, at the top.
    #[inline(always)]
    pub fn peek(&self) -> u64 {
        let byte = self.at >> 3;
        let word = match self.bytes.get(byte..).and_then(|rest| rest.first_chunk::<8>()) {
            Some(word) => u64::from_be_bytes(*word),
            None => self.peek_end(byte),
        };
        word << (self.at & 7)
    }

    #[inline(always)]
    pub fn skip(&mut self, count: u32) {
        self.at += count as usize;
    }

    /// The next `count` bits, at most 64, at the bottom.
    #[inline(always)]
    pub fn take(&mut self, count: u32) -> u64 {
        if count > PEEK_BITS {
            let high = self.take(32);
            return high << (count - 32) | self.take(count - 32);
        }
        let bits = self.peek().checked_shr(64 - count).unwrap_or(0);
        self.skip(count);
        bits
    }

    /// Bits read so far, those past the end included.
    pub fn position(&self) -> usize {
        self.at
    }

    /// To be asked when every number has been read: the stream must end here.
    pub fn finish(&self) -> Result<()> {
        match self.at.div_ceil(8) {
            end if end == self.bytes.len() => Ok(()),
            end if end > self.bytes.len() => {
                Err(Corrupt::at("a bit stream ends too early", self.bytes.len() as u64))
            }
            end => Err(Corrupt::at("a bit stream is too long", end as u64)),
        }
    }

    /// The last bytes, with zeros behind them.
    #[cold]
    fn peek_end(&self, byte: usize) -> u64 {
        if let Some(last) = self.bytes.last_chunk::<8>() {
            let read = (byte + 8 - self.bytes.len()).min(8) as u32;
            return u64::from_be_bytes(*last).checked_shl(8 * read).unwrap_or(0);
        }
        let mut word = [0; 8];
        word.iter_mut().zip(self.bytes.iter().skip(byte)).for_each(|(to, from)| *to = *from);
        u64::from_be_bytes(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(numbers in prop::collection::vec((any::<u64>(), 0u32..=64), 0..200)) {
            let mut writer = BitWriter::default();
            let cut = |bits: u64, count: u32| bits.checked_shr(64 - count).unwrap_or(0);
            for (bits, count) in &numbers {
                writer.push(cut(*bits, *count), *count);
            }
            let bytes = writer.to_bytes();
            let total: u32 = numbers.iter().map(|(_, count)| count).sum();
            prop_assert_eq!(bytes.len(), total.div_ceil(8) as usize);
            let mut reader = BitReader::new(&bytes);
            for (bits, count) in &numbers {
                prop_assert_eq!(reader.take(*count), cut(*bits, *count));
            }
            prop_assert!(reader.finish().is_ok());
        }
    }

    #[test]
    fn bits_go_from_the_top_of_each_byte() {
        let mut writer = BitWriter::default();
        writer.push(0b1, 1);
        writer.push(0b01, 2);
        writer.push(0x1ff, 9);
        assert_eq!(writer.to_bytes(), [0b1011_1111, 0b1111_0000]);
    }

    #[test]
    fn reading_past_the_end_is_noticed() {
        let mut reader = BitReader::new(&[0xff]);
        assert_eq!(reader.take(16), 0xff00);
        assert!(reader.finish().is_err());
        assert!(BitReader::new(&[0xff]).finish().is_err(), "nothing was read");
    }
}
