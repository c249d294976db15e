//! The integers of an open chunk, each by its difference to the one before; the first by that to zero.
//!
//! Invariant: arithmetic wraps on both sides, so every `i64`, and every `u64` as the same 64 bits,
//! comes back, whatever its neighbours are.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use super::{WIDTH_START, put_residual, sum_up, take_residuals};
use crate::bits::BitWriter;

#[derive(Clone, Debug)]
pub struct IntStream {
    writer: BitWriter,
    previous: i64,
    width: u8,
}

impl Default for IntStream {
    fn default() -> IntStream {
        IntStream { writer: BitWriter::default(), previous: 0, width: WIDTH_START }
    }
}

impl IntStream {
    #[inline]
    pub fn push(&mut self, value: i64) {
        put_residual(&mut self.writer, &mut self.width, value.wrapping_sub(self.previous));
        self.previous = value;
    }

    /// All values, into as many slots, which hold zeros.
    pub fn decode(&self, slots: &mut [i64]) {
        take_residuals(&self.writer.to_bytes(), None, slots)
            .expect("bug: an open stream reads what it wrote");
        sum_up(slots, 0);
    }

    /// The last value.
    pub fn last(&self) -> i64 {
        self.previous
    }

    pub fn heap_bytes(&self) -> usize {
        self.writer.heap_bytes()
    }

    /// Reads what a push reads and writes. What it returns means nothing.
    #[inline]
    pub fn touch(&self) -> u64 {
        self.writer.touch() ^ self.previous as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(scaled in prop::collection::vec((any::<i64>(), 0u32..64), 0..300)) {
            let values: Vec<i64> = scaled.iter().map(|(value, shift)| value >> shift).collect();
            let mut stream = IntStream::default();
            values.iter().for_each(|value| stream.push(*value));
            let mut slots = vec![0; values.len()];
            stream.decode(&mut slots);
            prop_assert_eq!(slots, values);
        }
    }

    #[test]
    fn extremes_wrap_and_come_back() {
        let values = [i64::MIN, i64::MAX, 0, i64::MIN, -1, i64::MAX, i64::MAX];
        let mut stream = IntStream::default();
        for (index, value) in values.iter().enumerate() {
            stream.push(*value);
            let mut slots = vec![0; index + 1];
            stream.decode(&mut slots);
            assert_eq!(slots, &values[..=index], "readable while it grows");
            assert_eq!(stream.last(), *value);
        }
    }
}
