//! The times of an open chunk: ascending, each by how much its step differs from the step before.
//!
//! Steps are counted in the coarsest unit that has divided all of them so far. A point that does not
//! divide writes an escape to a finer unit; what is written stays as it is.
//! Invariant: the first time is kept beside the stream, and the step before the first is zero.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use super::{WIDTH_START, put_residual, sum_up, take_residuals};
use crate::bits::BitWriter;
use crate::point::Time;

/// What steps are counted in. Finer is smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    Nanos = 0,
    Micros = 1,
    Millis = 2,
    Seconds = 3,
}

/// `111`, then the unit's code.
pub(crate) const UNIT_CHANGE_BITS: u32 = 3 + 2;

impl Unit {
    /// Most clients send whole seconds or milliseconds; the first step decides.
    pub const START: Unit = Unit::Seconds;

    pub fn nanos(self) -> i64 {
        match self {
            Unit::Nanos => 1,
            Unit::Micros => 1_000,
            Unit::Millis => 1_000_000,
            Unit::Seconds => 1_000_000_000,
        }
    }

    /// From two bits.
    pub fn from_code(code: u8) -> Unit {
        match code {
            0 => Unit::Nanos,
            1 => Unit::Micros,
            2 => Unit::Millis,
            _ => Unit::Seconds,
        }
    }

    /// This unit, or the coarsest finer one that divides `nanos`; and how often it does. Division by
    /// constants is a multiplication.
    #[inline]
    pub fn divide(self, nanos: i64) -> (Unit, i64) {
        if self == Unit::Seconds && nanos % 1_000_000_000 == 0 {
            (Unit::Seconds, nanos / 1_000_000_000)
        } else if self >= Unit::Millis && nanos % 1_000_000 == 0 {
            (Unit::Millis, nanos / 1_000_000)
        } else if self >= Unit::Micros && nanos % 1_000 == 0 {
            (Unit::Micros, nanos / 1_000)
        } else {
            (Unit::Nanos, nanos)
        }
    }
}

#[derive(Clone, Debug)]
pub struct TimeStream {
    writer: BitWriter,
    first: Time,
    last: Time,
    step: i64,
    rows: u16,
    width: u8,
    unit: Unit,
}

impl Default for TimeStream {
    fn default() -> TimeStream {
        TimeStream {
            writer: BitWriter::default(),
            first: 0,
            last: 0,
            step: 0,
            rows: 0,
            width: WIDTH_START,
            unit: Unit::START,
        }
    }
}

impl TimeStream {
    /// The caller keeps times ascending. Steps of more than `i64::MAX` wrap, here and when read.
    #[inline]
    pub fn push(&mut self, time: Time) {
        if self.rows == 0 {
            self.first = time;
        } else {
            let step = time.wrapping_sub(self.last);
            let (unit, residual) = self.unit.divide(step.wrapping_sub(self.step));
            if unit != self.unit {
                self.writer.push(0b111 << 2 | unit as u64, UNIT_CHANGE_BITS);
                self.unit = unit;
            }
            put_residual(&mut self.writer, &mut self.width, residual);
            self.step = step;
        }
        self.last = time;
        self.rows += 1;
    }

    pub fn rows(&self) -> usize {
        usize::from(self.rows)
    }

    pub fn first(&self) -> Option<Time> {
        (self.rows > 0).then_some(self.first)
    }

    pub fn last(&self) -> Option<Time> {
        (self.rows > 0).then_some(self.last)
    }

    /// Appends all times to `out`.
    pub fn decode(&self, out: &mut Vec<Time>) {
        let Some(steps) = self.rows().checked_sub(1) else { return };
        out.push(self.first);
        let start = out.len();
        out.resize(start + steps, 0);
        let (_, slots) = out.split_at_mut(start);
        take_residuals(&self.writer.to_bytes(), Some(Unit::START), slots)
            .expect("bug: an open stream reads what it wrote");
        sum_up(slots, 0);
        sum_up(slots, self.first);
    }

    pub fn heap_bytes(&self) -> usize {
        self.writer.heap_bytes()
    }

    /// Reads what a push reads and writes. What it returns means nothing.
    #[inline]
    pub fn touch(&self) -> u64 {
        self.writer.touch() ^ self.step as u64 ^ u64::from(self.rows)
    }

    #[cfg(test)]
    pub(crate) fn stream_bytes(&self) -> Vec<u8> {
        self.writer.to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point::{TIME_MAX, TIME_MIN};
    use proptest::prelude::*;

    fn check(times: &[Time]) -> TimeStream {
        let mut stream = TimeStream::default();
        for (index, time) in times.iter().enumerate() {
            stream.push(*time);
            if index % 7 == 0 {
                let mut so_far = Vec::new();
                stream.decode(&mut so_far);
                assert_eq!(so_far, &times[..=index]);
            }
        }
        let mut decoded = vec![42];
        stream.decode(&mut decoded);
        assert_eq!(decoded[0], 42, "decoding appends");
        assert_eq!(&decoded[1..], times);
        stream
    }

    proptest! {
        #[test]
        fn round_trip(
            first in TIME_MIN..0,
            steps in prop::collection::vec((1i64..1 << 53, 0u32..53, 0u8..4), 0..200)
        ) {
            let mut time = first;
            let mut times = vec![time];
            for (step, shift, unit) in steps {
                let unit = Unit::from_code(unit).nanos();
                time += ((step >> shift) / unit + 1) * unit;
                times.push(time);
            }
            check(&times);
        }
    }

    #[test]
    fn a_regular_series_takes_one_bit_a_point() {
        let times: Vec<Time> = (0..256).map(|row| 1_700_000_000_000_000_123 + row * 10_000_000_000).collect();
        assert!(check(&times).stream_bytes().len() <= 35);
    }

    #[test]
    fn the_unit_becomes_finer_and_never_coarser() {
        check(&[0, 1_000_000_000, 1_001_000_000, 1_001_001_000, 1_001_001_001, 3_000_000_000]);
        check(&[-5_000_000_000, -4_000_000_000, -3_999_999_999]);
    }

    #[test]
    fn the_whole_of_time_in_one_step() {
        check(&[TIME_MIN, TIME_MAX]);
        check(&[i64::MIN, -1, 0, i64::MAX]);
    }
}
