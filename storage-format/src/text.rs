//! Strings of one column, or values of bytes: a dictionary of the distinct ones, and for each row a number in it.
//!
//! Open: numbers as runs, since most string fields repeat. Sealed: numbers through the integer codecs.
//! Invariant: decoded text is one run of bytes with offsets, Arrow's layout, so it becomes an array
//! without a copy; its length fits `i32`, because a chunk is full long before. Whether the bytes are UTF-8 is known to
//! whoever knows the column's type.
//! Not here: bools, which are a bitmap (`presence`).
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use xxhash_rust::xxh3::xxh3_64;

use crate::corrupt::{Corrupt, Result};
use crate::varint;

/// Strings or bytes laid end to end: row `i` is `text[offsets[i]..offsets[i + 1]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrValues {
    text: Vec<u8>,
    offsets: Vec<i32>,
}

impl Default for StrValues {
    fn default() -> StrValues {
        StrValues { text: Vec::new(), offsets: vec![0] }
    }
}

impl StrValues {
    pub fn with_capacity(rows: usize, bytes: usize) -> StrValues {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        StrValues { text: Vec::with_capacity(bytes), offsets }
    }

    pub fn push(&mut self, value: &[u8]) {
        self.text.extend_from_slice(value);
        let end = i32::try_from(self.text.len()).expect("bug: a chunk is full before its text takes 2 GiB");
        self.offsets.push(end);
    }

    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, row: usize) -> Option<&[u8]> {
        let start = *self.offsets.get(row)? as usize;
        let end = *self.offsets.get(row + 1)? as usize;
        self.text.get(start..end)
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|row| self.get(row))
    }

    /// Text and offsets, one more than rows, for Arrow.
    pub fn into_parts(self) -> (Vec<u8>, Vec<i32>) {
        (self.text, self.offsets)
    }

    pub fn heap_bytes(&self) -> usize {
        self.text.capacity() + self.offsets.capacity() * size_of::<i32>()
    }
}

impl<'a, T: AsRef<[u8]> + ?Sized + 'a> FromIterator<&'a T> for StrValues {
    fn from_iter<I: IntoIterator<Item = &'a T>>(values: I) -> StrValues {
        let mut strings = StrValues::default();
        values.into_iter().for_each(|value| strings.push(value.as_ref()));
        strings
    }
}

/// Distinct strings in order of first appearance.
#[derive(Clone, Debug, Default)]
struct Dictionary {
    words: StrValues,
    /// Of each word: one pass over 4-byte numbers finds a word faster than comparing strings.
    hashes: Vec<u32>,
}

impl Dictionary {
    fn number(&mut self, value: &[u8]) -> u16 {
        let hash = xxh3_64(value) as u32;
        let known = self.hashes.iter().enumerate().filter(|(_, known)| **known == hash);
        for (number, _) in known {
            if self.words.get(number) == Some(value) {
                return number as u16;
            }
        }
        self.hashes.push(hash);
        self.words.push(value);
        (self.hashes.len() - 1) as u16
    }
}

#[derive(Clone, Debug, Default)]
pub struct TextStream {
    dictionary: Dictionary,
    runs: Vec<Run>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    number: u16,
    rows: u16,
}

impl TextStream {
    pub fn push(&mut self, value: &[u8]) {
        if let Some(run) = self.runs.last_mut()
            && self.dictionary.words.get(usize::from(run.number)) == Some(value)
        {
            run.rows += 1;
            return;
        }
        let number = self.dictionary.number(value);
        self.runs.push(Run { number, rows: 1 });
    }

    pub fn decode(&self) -> StrValues {
        let words = &self.dictionary.words;
        let runs = self.runs.iter().filter_map(|run| Some((words.get(usize::from(run.number))?, run.rows)));
        let rows = self.runs.iter().map(|run| usize::from(run.rows)).sum();
        let bytes = runs.clone().map(|(word, rows)| word.len() * usize::from(rows)).sum();
        let mut values = StrValues::with_capacity(rows, bytes);
        for (word, rows) in runs {
            (0..rows).for_each(|_| values.push(word));
        }
        values
    }

    pub fn heap_bytes(&self) -> usize {
        size_of::<TextStream>()
            + self.dictionary.words.heap_bytes()
            + self.dictionary.hashes.capacity() * size_of::<u32>()
            + self.runs.capacity() * size_of::<Run>()
    }
}

/// Writes the dictionary and returns each value's number in it.
pub fn encode_dictionary<'a>(values: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) -> Vec<i64> {
    let mut dictionary = Dictionary::default();
    let numbers = values.map(|value| i64::from(dictionary.number(value))).collect();
    varint::put_u64(out, dictionary.words.len() as u64);
    dictionary.words.iter().for_each(|word| varint::put_bytes(out, word));
    numbers
}

/// Reads what [`encode_dictionary`] wrote and leaves the numbers' bytes in `rest`.
pub fn decode_dictionary<'a>(rest: &mut &'a [u8]) -> Result<Vec<&'a [u8]>> {
    let count = varint::take_count(rest)?;
    // Every word takes a byte, but 16 bytes here: grow as they come instead of trusting the count.
    let mut words = Vec::new();
    for _ in 0..count {
        words.push(varint::take_bytes(rest)?);
    }
    Ok(words)
}

/// The strings behind the numbers.
pub fn look_up(words: &[&[u8]], numbers: &[i64]) -> Result<StrValues> {
    let word = |number: &i64| {
        usize::try_from(*number)
            .ok()
            .and_then(|number| words.get(number).copied())
            .ok_or(Corrupt::new("a string is not in the dictionary"))
    };
    let mut bytes = 0;
    for number in numbers {
        bytes += word(number)?.len();
    }
    if i32::try_from(bytes).is_err() {
        return Err(Corrupt::new("the strings take more than 2 GiB"));
    }
    let mut values = StrValues::with_capacity(numbers.len(), bytes);
    for number in numbers {
        values.push(word(number)?);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(rows in prop::collection::vec(("[a-c]{0,2}|ü.{3}", 1usize..5), 0..60)) {
            let rows: Vec<&str> =
                rows.iter().flat_map(|(word, run)| std::iter::repeat_n(word.as_str(), *run)).collect();
            let expected: StrValues = rows.iter().copied().collect();
            let bytes: Vec<&[u8]> = rows.iter().map(|row| row.as_bytes()).collect();
            prop_assert_eq!(expected.iter().collect::<Vec<_>>(), bytes.clone());

            let mut stream = TextStream::default();
            bytes.iter().for_each(|row| stream.push(row));
            prop_assert_eq!(&stream.decode(), &expected);

            let mut out = Vec::new();
            let numbers = encode_dictionary(bytes.iter().copied(), &mut out);
            let mut rest = out.as_slice();
            let words = decode_dictionary(&mut rest).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert_eq!(look_up(&words, &numbers).unwrap(), expected);
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = decode_dictionary(&mut bytes.as_slice());
        }
    }

    #[test]
    fn a_number_outside_the_dictionary_is_damage() {
        assert!(look_up(&[b"a"], &[0, 1]).is_err());
        assert!(look_up(&[b"a"], &[-1]).is_err());
    }
}
