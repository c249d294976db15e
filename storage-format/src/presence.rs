//! One bit per row: which rows have a value, and the values of bool columns.
//!
//! Invariant: bits past the length are zero. Row 0 is the lowest bit of the first byte, as in Arrow, so a
//! bitmap becomes an Arrow buffer without a copy.
//! Not here: that a column without gaps needs no bitmap at all (see `chunk`).
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use arrow::buffer::{BooleanBuffer, Buffer};

use crate::corrupt::{Corrupt, Result};
use crate::varint;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bitmap {
    words: Vec<u64>,
    len: u32,
}

/// How a bitmap is written; the first byte says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Form {
    Ones = 0,
    Zeros = 1,
    /// Lengths of runs, as varints: ones, zeros, ones, ... The first may be 0.
    Runs = 2,
    /// The bits themselves.
    Bits = 3,
}

impl Bitmap {
    pub fn of(bits: impl IntoIterator<Item = bool>) -> Bitmap {
        let mut bitmap = Bitmap::default();
        bits.into_iter().for_each(|bit| bitmap.push(bit));
        bitmap
    }

    #[inline]
    pub fn push(&mut self, bit: bool) {
        let offset = self.len % 64;
        if offset == 0 {
            self.words.reserve_exact(1);
            self.words.push(0);
        }
        if let Some(word) = self.words.last_mut() {
            *word |= u64::from(bit) << offset;
        }
        self.len += 1;
    }

    /// Appends equal bits until there are `len`.
    pub fn extend_to(&mut self, len: usize, bit: bool) {
        while self.len() < len && !self.len.is_multiple_of(64) {
            self.push(bit);
        }
        let Some(words) = (len / 64).checked_sub(self.words.len()) else { return };
        self.words.extend(std::iter::repeat_n(if bit { u64::MAX } else { 0 }, words));
        self.len += 64 * words as u32;
        while self.len() < len {
            self.push(bit);
        }
    }

    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn count_ones(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub fn last(&self) -> Option<bool> {
        let last = self.len.checked_sub(1)?;
        self.words.last().map(|word| word >> (last % 64) & 1 == 1)
    }

    pub fn iter(&self) -> impl Iterator<Item = bool> {
        self.words.iter().flat_map(|word| (0..64).map(move |bit| word >> bit & 1 == 1)).take(self.len())
    }

    pub fn into_arrow(self) -> BooleanBuffer {
        let len = self.len();
        self.words
            .iter()
            .for_each(|word| debug_assert_eq!(*word, word.to_le(), "Arrow is little-endian here"));
        BooleanBuffer::new(Buffer::from_vec(self.words), 0, len)
    }

    /// What [`Bitmap::encode`] writes if all bits are set.
    pub fn encode_ones(out: &mut Vec<u8>) {
        out.push(Form::Ones as u8);
    }

    /// The smallest form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let ones = self.count_ones();
        if ones == self.len() {
            Bitmap::encode_ones(out);
            return;
        }
        if ones == 0 {
            out.push(Form::Zeros as u8);
            return;
        }
        let start = out.len();
        out.push(Form::Runs as u8);
        let (mut expected, mut run) = (true, 0);
        for bit in self.iter() {
            if bit != expected {
                varint::put_u64(out, run);
                (expected, run) = (bit, 0);
            }
            run += 1;
        }
        varint::put_u64(out, run);
        let bytes = self.len().div_ceil(8);
        if out.len() - start > 1 + bytes {
            out.truncate(start);
            out.push(Form::Bits as u8);
            out.extend(self.words.iter().flat_map(|word| word.to_le_bytes()).take(bytes));
        }
    }

    /// Takes what [`Bitmap::encode_ones`] writes, if that is what stands there.
    pub fn take_ones(rest: &mut &[u8]) -> bool {
        match rest.split_first() {
            Some((form, after)) if *form == Form::Ones as u8 => {
                *rest = after;
                true
            }
            _ => false,
        }
    }

    /// Reads a bitmap of `len` bits and leaves what follows it in `rest`.
    pub fn decode(rest: &mut &[u8], len: usize) -> Result<Bitmap> {
        let mut bitmap = Bitmap { words: Vec::with_capacity(len.div_ceil(64)), len: 0 };
        match varint::take_u8(rest)? {
            form if form == Form::Ones as u8 => bitmap.extend_to(len, true),
            form if form == Form::Zeros as u8 => bitmap.extend_to(len, false),
            form if form == Form::Runs as u8 => {
                let mut bit = true;
                while bitmap.len() < len {
                    let run = varint::take_u64(rest)?;
                    let left = (len - bitmap.len()) as u64;
                    if run > left || (run == 0 && !bitmap.is_empty()) {
                        return Err(Corrupt::new("a run of bits does not fit the rows"));
                    }
                    bitmap.extend_to(bitmap.len() + run as usize, bit);
                    bit = !bit;
                }
            }
            form if form == Form::Bits as u8 => {
                let bytes = varint::take_exact(rest, len.div_ceil(8))?;
                for chunk in bytes.chunks(8) {
                    let mut word = [0; 8];
                    word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
                    bitmap.words.push(u64::from_le_bytes(word));
                }
                bitmap.len = len as u32;
                let used = len % 64;
                if used > 0 && bitmap.words.last().is_some_and(|word| word >> used != 0) {
                    return Err(Corrupt::new("a bitmap has bits past its end"));
                }
            }
            _ => return Err(Corrupt::new("a bitmap has an unknown form")),
        }
        Ok(bitmap)
    }

    pub fn heap_bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn runs() -> impl Strategy<Value = Vec<bool>> {
        prop::collection::vec((any::<bool>(), 1usize..60), 0..20)
            .prop_map(|runs| runs.into_iter().flat_map(|(bit, run)| std::iter::repeat_n(bit, run)).collect())
    }

    proptest! {
        #[test]
        fn round_trip(bits in runs()) {
            let bitmap = Bitmap::of(bits.iter().copied());
            prop_assert_eq!(bitmap.iter().collect::<Vec<_>>(), bits.clone());
            prop_assert_eq!(bitmap.clone().into_arrow(), BooleanBuffer::from(bits.clone()));
            let mut out = Vec::new();
            bitmap.encode(&mut out);
            prop_assert!(out.len() <= 1 + bits.len().div_ceil(8));
            let mut rest = out.as_slice();
            prop_assert_eq!(Bitmap::decode(&mut rest, bits.len()).unwrap(), bitmap);
            prop_assert!(rest.is_empty());
            let mut rest = out.as_slice();
            prop_assert_eq!(Bitmap::take_ones(&mut rest), bits.iter().all(|bit| *bit));
            prop_assert_eq!(rest.is_empty(), bits.iter().all(|bit| *bit));
        }

        #[test]
        fn extending_is_pushing(bits in runs(), more in 0usize..300, bit: bool) {
            let mut extended = Bitmap::of(bits.iter().copied());
            extended.extend_to(bits.len() + more, bit);
            prop_assert_eq!(&extended, &Bitmap::of(bits.iter().copied().chain(std::iter::repeat_n(bit, more))));
            let whole = extended.clone();
            extended.extend_to(bits.len(), !bit);
            prop_assert_eq!(extended, whole);
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, len in 0usize..300) {
            if let Ok(bitmap) = Bitmap::decode(&mut bytes.as_slice(), len) {
                prop_assert_eq!(bitmap.len(), len);
            }
        }
    }

    #[test]
    fn the_smallest_form_is_taken() {
        let form = |bits: Vec<bool>| {
            let mut out = Vec::new();
            Bitmap::of(bits).encode(&mut out);
            out
        };
        assert_eq!(form(vec![true; 200]), [Form::Ones as u8]);
        assert_eq!(form(vec![false; 200]), [Form::Zeros as u8]);
        assert_eq!(form([vec![false; 3], vec![true; 100]].concat()), [Form::Runs as u8, 0, 3, 100]);
        assert_eq!(form((0..16).map(|row| row % 2 == 0).collect()), [Form::Bits as u8, 0x55, 0x55]);
    }
}
