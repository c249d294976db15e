//! Floats by the bits in which each differs from the one before; the first from zero.
//!
//! Invariant: every bit comes back, of NaN payloads, -0 and infinities too; no arithmetic touches a value.
//! Good for constants, whole numbers and noise; useless for decimals, which sealed chunks store as
//! integers (`chunk::decimal`). Bit pictures: FORMAT.md, "XOR".
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use crate::bits::{BitReader, BitWriter, PEEK_BITS};
use crate::corrupt::{Corrupt, Result};

/// More leading zeros are counted as 31, so that the count takes 5 bits.
const LEADING_MAX: u32 = 31;

/// `0`, `10`, and `11` with 5 bits of leading zeros and 6 of length.
const SAME_BITS: u32 = 1;
const SAME_WINDOW_BITS: u32 = 2;
const NEW_WINDOW_BITS: u32 = 13;

/// A number this much shorter than the window sets a new one: what setting costs more than keeping.
const SHORTER_BITS: u32 = NEW_WINDOW_BITS - SAME_WINDOW_BITS;

#[derive(Clone, Debug, Default)]
pub struct FloatStream {
    writer: BitWriter,
    previous: u64,
    window: Window,
}

/// The bits of a XOR that are written: `length` of them after `leading` zeros. Length 0: none yet.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    leading: u8,
    length: u8,
}

impl Window {
    /// The smallest for a XOR that is not zero.
    #[inline(always)]
    fn of(xor: u64) -> Window {
        let leading = xor.leading_zeros().min(LEADING_MAX);
        Window { leading: leading as u8, length: (64 - leading - xor.trailing_zeros()) as u8 }
    }

    #[inline(always)]
    fn trailing(self) -> u32 {
        64 - u32::from(self.leading) - u32::from(self.length)
    }

    #[inline(always)]
    fn keeps(self, smallest: Window) -> bool {
        smallest.leading >= self.leading
            && smallest.trailing() >= self.trailing()
            && u32::from(self.length - smallest.length) < SHORTER_BITS
    }
}

impl FloatStream {
    #[inline]
    pub fn push(&mut self, value: f64) {
        let bits = value.to_bits();
        let xor = bits ^ self.previous;
        self.previous = bits;
        if xor == 0 {
            self.writer.push(0, SAME_BITS);
            return;
        }
        let smallest = Window::of(xor);
        if self.window.length > 0 && self.window.keeps(smallest) {
            let number = xor >> self.window.trailing();
            self.writer.push_pair(0b10, SAME_WINDOW_BITS, number, u32::from(self.window.length));
        } else {
            let (leading, length) = (u64::from(smallest.leading), u64::from(smallest.length));
            let header = 0b11 << 11 | leading << 6 | (length - 1);
            self.writer.push_pair(header, NEW_WINDOW_BITS, xor >> smallest.trailing(), length as u32);
            self.window = smallest;
        }
    }

    /// All `count` values.
    pub fn decode(&self, count: usize) -> Vec<f64> {
        decode(&self.writer.to_bytes(), count).expect("bug: an open stream reads what it wrote")
    }

    /// The last value.
    pub fn last(&self) -> f64 {
        f64::from_bits(self.previous)
    }

    /// The stream as it is sealed.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        self.writer.write_to(out);
    }

    pub fn heap_bytes(&self) -> usize {
        self.writer.heap_bytes()
    }

    /// Reads what a push reads and writes. What it returns means nothing.
    #[inline]
    pub fn touch(&self) -> u64 {
        self.writer.touch() ^ self.previous
    }
}

/// The bits that a stream of these values has.
pub fn stream_bits(values: &[f64]) -> usize {
    let (mut bits, mut previous, mut window) = (0, 0, Window::default());
    for value in values {
        let xor = value.to_bits() ^ previous;
        previous = value.to_bits();
        if xor == 0 {
            bits += SAME_BITS as usize;
            continue;
        }
        let smallest = Window::of(xor);
        if window.length > 0 && window.keeps(smallest) {
            bits += SAME_WINDOW_BITS as usize;
        } else {
            bits += NEW_WINDOW_BITS as usize;
            window = smallest;
        }
        bits += usize::from(window.length);
    }
    bits
}

/// The values of a whole stream.
pub fn decode(bytes: &[u8], count: usize) -> Result<Vec<f64>> {
    let mut reader = BitReader::new(bytes);
    let mut values = vec![0.0; count];
    let (mut bits, mut length, mut trailing) = (0u64, 0, 0);
    for value in &mut values {
        let window = reader.peek();
        if window >> 63 == 1 {
            let xor = if window >> 62 == 0b10 {
                if length == 0 {
                    return Err(Corrupt::new("a float repeats a window that was never set"));
                }
                reader.skip(SAME_WINDOW_BITS);
                if length <= PEEK_BITS - SAME_WINDOW_BITS {
                    reader.skip(length);
                    window << SAME_WINDOW_BITS >> (64 - length)
                } else {
                    reader.take(length)
                }
            } else {
                let leading = (window << 2 >> 59) as u32;
                length = (window << 7 >> 58) as u32 + 1;
                trailing = 64u32
                    .checked_sub(leading + length)
                    .ok_or(Corrupt::new("a float's window is wider than 64 bits"))?;
                reader.skip(NEW_WINDOW_BITS);
                reader.take(length)
            };
            bits ^= xor << trailing;
        } else {
            reader.skip(SAME_BITS);
        }
        *value = f64::from_bits(bits);
    }
    reader.finish()?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(values: &[f64]) {
        let mut stream = FloatStream::default();
        values.iter().for_each(|value| stream.push(*value));
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<u64>>();
        assert_eq!(bits(&stream.decode(values.len())), bits(values));
        assert_eq!(stream.writer.to_bytes().len(), stream_bits(values).div_ceil(8));
        assert_eq!(stream.last().to_bits(), values.last().map_or(0, |value| value.to_bits()));
    }

    proptest! {
        #[test]
        fn round_trip(any_bits in prop::collection::vec((any::<u64>(), 0u32..64, 0u32..64), 0..300)) {
            // Shifts from both sides make windows of every length.
            let values: Vec<f64> =
                any_bits.iter().map(|(bits, up, down)| f64::from_bits(bits << up >> down)).collect();
            check(&values);
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, count in 0usize..300) {
            let _ = decode(&bytes, count);
        }
    }

    #[test]
    fn special_values_keep_every_bit() {
        let payload = f64::from_bits(0x7ff0_0000_0000_0002); // Prometheus' stale marker
        check(&[
            payload,
            -payload,
            0.0,
            -0.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            5e-324,
            f64::MAX,
            f64::MIN,
        ]);
    }
}
