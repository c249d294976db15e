//! Numbers that come again and again, in Parquet's hybrid of runs and packed groups: levels, and numbers of words.
//!
//! All rows of a series have the same tags, so what is kept and what is done here grows with the series and hardly with
//! their rows: a number that comes again is a run, numbers that come again one after the other are packed once.
//! Invariant: what comes out is what was pushed, in its order.

use super::pages::put_run;
use crate::varint::put_u64;

/// Numbers are packed in groups of so many, which all readers expect.
const GROUP: usize = 8;

#[derive(Default)]
pub struct Runs {
    runs: Vec<Run>,
    /// Of the numbers.
    pub len: usize,
}

enum Run {
    Same { number: u32, count: usize },
    Cycle { numbers: Vec<u32>, times: usize },
}

impl Runs {
    pub fn push(&mut self, number: u32, count: usize) {
        self.len += count;
        match self.runs.last_mut() {
            Some(Run::Same { number: last, count: known }) if *last == number => *known += count,
            _ => self.runs.push(Run::Same { number, count }),
        }
    }

    /// All of these, one after the other, so many times.
    pub fn push_cycle(&mut self, numbers: &[u32], times: usize) {
        match numbers {
            [number] => self.push(*number, times),
            numbers => {
                self.len += numbers.len() * times;
                self.runs.push(Run::Cycle { numbers: numbers.to_vec(), times });
            }
        }
    }

    /// Numbers of words: their width in bits, then they themselves.
    pub fn put_numbers(&self, out: &mut Vec<u8>) {
        let largest = |run: &Run| match run {
            Run::Same { number, .. } => *number,
            Run::Cycle { numbers, .. } => numbers.iter().copied().max().unwrap_or_default(),
        };
        let largest = self.runs.iter().map(largest).max().unwrap_or_default();
        let width = (u32::BITS - largest.leading_zeros()).max(1);
        out.push(width as u8);
        self.put(out, width);
    }

    pub fn put(&self, out: &mut Vec<u8>, width: u32) {
        let mut packing = Packing { out, width, waiting: Vec::new() };
        for run in &self.runs {
            match run {
                Run::Same { number, count } => packing.put_same(*number, *count),
                Run::Cycle { numbers, times } => packing.put_cycle(numbers, *times),
            }
        }
        packing.end_groups();
    }
}

struct Packing<'a> {
    out: &'a mut Vec<u8>,
    width: u32,
    /// Numbers to be packed together.
    waiting: Vec<u32>,
}

impl Packing<'_> {
    fn put_same(&mut self, number: u32, count: usize) {
        let fill = self.missing().min(count);
        self.waiting.extend(std::iter::repeat_n(number, fill));
        let left = count - fill;
        if left >= GROUP {
            self.end_groups();
            put_run(self.out, left, &number.to_le_bytes()[..self.width.div_ceil(u8::BITS) as usize]);
        } else {
            self.waiting.extend(std::iter::repeat_n(number, left));
        }
    }

    fn put_cycle(&mut self, numbers: &[u32], times: usize) {
        let total = numbers.len() * times;
        let mut ahead = numbers.iter().copied().cycle().take(total);
        let fill = self.missing().min(total);
        self.waiting.extend(ahead.by_ref().take(fill));
        // After so many numbers the bytes come again, too.
        let period = numbers.len() * GROUP;
        let periods = (total - fill) / period.max(1);
        if periods > 1 {
            self.end_groups();
            let once: Vec<u32> = ahead.by_ref().take(period).collect();
            put_u64(self.out, ((periods * numbers.len()) as u64) << 1 | 1);
            let start = self.out.len();
            self.put_bits(&once);
            let end = self.out.len();
            (1..periods).for_each(|_| self.out.extend_from_within(start..end));
            self.waiting.extend(once.iter().cycle().take(total - fill - periods * period));
        } else {
            self.waiting.extend(ahead);
        }
    }

    /// Only whole groups are packed, but for the last: how many numbers the one that waits lacks.
    fn missing(&self) -> usize {
        self.waiting.len().next_multiple_of(GROUP) - self.waiting.len()
    }

    fn end_groups(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let groups = self.waiting.len().div_ceil(GROUP);
        put_u64(self.out, (groups as u64) << 1 | 1);
        let end = self.out.len() + groups * self.width as usize;
        let waiting = std::mem::take(&mut self.waiting);
        self.put_bits(&waiting);
        self.out.resize(end, 0);
    }

    /// From the lowest bit of each byte.
    fn put_bits(&mut self, numbers: &[u32]) {
        let (mut bits, mut filled) = (0u64, 0);
        for number in numbers {
            bits |= u64::from(*number) << filled;
            filled += self.width;
            while filled >= u8::BITS {
                self.out.push(bits as u8);
                bits >>= u8::BITS;
                filled -= u8::BITS;
            }
        }
        if filled > 0 {
            self.out.push(bits as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::varint;

    /// As a reader takes them apart, `len` of them.
    fn read(mut bytes: &[u8], width: u32, len: usize) -> Vec<u32> {
        let mut numbers = Vec::new();
        while !bytes.is_empty() {
            let header = varint::take_u64(&mut bytes).unwrap() as usize;
            let (bits, count) = match header & 1 {
                0 => (width.next_multiple_of(8) as usize, 1),
                _ => (width as usize, (header >> 1) * GROUP),
            };
            let (part, rest) = bytes.split_at((bits * count).div_ceil(8));
            bytes = rest;
            let bit = |at: usize| u32::from(part[at / 8] >> (at % 8) & 1);
            let number =
                |at: usize| (0..width as usize).map(|place| bit(at * bits + place) << place).sum::<u32>();
            match header & 1 {
                0 => numbers.extend(std::iter::repeat_n(number(0), header >> 1)),
                _ => numbers.extend((0..count).map(number)),
            }
        }
        assert!(numbers.len() < len + GROUP && numbers[len..].iter().all(|number| *number == 0));
        numbers.truncate(len);
        numbers
    }

    proptest! {
        #[test]
        fn what_was_pushed_comes_out(
            pushes in prop::collection::vec((prop::collection::vec(0u32..1_000, 1..12), 0usize..60), 0..12),
        ) {
            let (mut runs, mut expected) = (Runs::default(), Vec::<u32>::new());
            for (numbers, times) in &pushes {
                runs.push_cycle(numbers, *times);
                (0..*times).for_each(|_| expected.extend(numbers));
            }
            prop_assert_eq!(runs.len, expected.len());
            let mut bytes = Vec::new();
            runs.put(&mut bytes, 10);
            prop_assert_eq!(read(&bytes, 10, expected.len()), expected);
        }
    }

    #[test]
    fn what_comes_again_takes_its_bytes_and_no_work() {
        let mut runs = Runs::default();
        runs.push(0, 3);
        runs.push_cycle(&[1, 2, 3], 1 << 20);
        assert_eq!((runs.runs.len(), runs.len), (2, 3 + (3 << 20)));
        let mut bytes = Vec::new();
        runs.put_numbers(&mut bytes);
        assert_eq!(bytes[0], 2, "bits");
        assert!(bytes.len() < (3 << 20) * 2 / 8 + 32);
        let read = read(&bytes[1..], 2, runs.len);
        assert!(read[..3] == [0, 0, 0] && read[3..].chunks(3).all(|cycle| cycle == [1, 2, 3]));
    }
}
