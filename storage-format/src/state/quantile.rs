//! Quantile sketch: a DDSketch whose bins are the numbers of eight significant bits.
//!
//! Invariant: the sketch is a function of the multiset of its values; bins are never collapsed, so merging adds
//! counts and nothing else. A value counts for the number nearest to it among those of [`SIGNIFICAND_BITS`]
//! significant bits, which takes an addition and a shift of its bits and is the same on every machine. Neighbouring
//! bins lie at most gamma = 1 + 1/128 apart. Whole numbers up to 256 are bins of their own, so they are exact.
//! Zero of either sign is one bin, each infinity is one, and NaN is skipped.

use crate::corrupt::{Corrupt, Result};
use crate::varint;

use super::column::State;
use super::value::Number;

/// Of a bin's number, the implied one included.
const SIGNIFICAND_BITS: u32 = 8;
/// Bits of a float below those of a bin.
const SHIFT: u32 = f64::MANTISSA_DIGITS - SIGNIFICAND_BITS;
/// A quantile is within this of the exact one, relative to it: half a step below 1 + 1/128. Numbers nearer to zero
/// than 2.3e-308, the subnormal ones, are within 1e-310.
pub const QUANTILE_ERROR_MAX: f64 = 1.0 / (1u32 << SIGNIFICAND_BITS) as f64;

/// The bin of infinity, and of finite numbers that would be rounded up to it the one before.
const INFINITE_BIN: i32 = (f64::INFINITY.to_bits() >> SHIFT) as i32;

/// Of the stored form. FORMAT.md, "Quantile sketches".
const VERSION: u8 = 1;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    /// Bins in ascending order, each with how many values it has, never zero.
    bins: Vec<(i32, u64)>,
}

/// A number from 0 to 1 in billionths: whole, so that 0.07 of 100 values are 7 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fraction(u32);

impl Fraction {
    const ONE: u32 = 1_000_000_000;
    pub const MEDIAN: Fraction = Fraction(Fraction::ONE / 2);

    /// The nearest billionth. `None` outside of 0 to 1.
    pub fn new(fraction: f64) -> Option<Fraction> {
        (0.0..=1.0)
            .contains(&fraction)
            .then(|| Fraction((fraction * f64::from(Fraction::ONE)).round() as u32))
    }

    /// Of 1,000,000,000.
    pub fn billionths(self) -> u32 {
        self.0
    }

    /// The nearest rank: of `count` values in ascending order the quantile is number `ceil(fraction * count)`,
    /// counted from one; the first for fraction 0. The median of an even count is the lower middle.
    pub fn rank(self, count: u64) -> u64 {
        let rank = (u128::from(self.0) * u128::from(count)).div_ceil(u128::from(Fraction::ONE));
        (rank as u64).max(1) // a fraction of the count is no more than it
    }
}

impl Sketch {
    pub fn add_slice<T: Number>(&mut self, values: &[T]) {
        let mut bins: Vec<i32> = Vec::with_capacity(values.len());
        bins.extend(values.iter().map(|value| value.to_float()).filter(|value| !value.is_nan()).map(bin));
        bins.sort_unstable();
        let runs: Vec<(i32, u64)> =
            bins.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u64)).collect();
        self.add_bins(&runs);
    }

    pub fn is_empty(&self) -> bool {
        self.bins.is_empty()
    }

    /// Within [`QUANTILE_ERROR_MAX`] of the value of that rank. `None` if there were no values but NaN.
    pub fn quantile(&self, fraction: Fraction) -> Option<f64> {
        let count = self.bins.iter().fold(0u64, |total, (_, count)| total.saturating_add(*count));
        let rank = fraction.rank(count);
        let mut seen = 0u64;
        let found = self.bins.iter().find(|(_, count)| {
            seen = seen.saturating_add(*count);
            seen >= rank
        });
        found.map(|(bin, _)| number(*bin))
    }

    /// Merges from the back, into the room that new bins need. Often there are none.
    fn add_bins(&mut self, bins: &[(i32, u64)]) {
        let mut from = 0;
        let mut missing = 0;
        for (bin, count) in bins {
            from += self.bins[from..].partition_point(|(mine, _)| mine < bin);
            match self.bins.get_mut(from) {
                Some((mine, total)) if mine == bin => *total = total.saturating_add(*count),
                _ => missing += 1,
            }
        }
        if missing == 0 {
            return;
        }
        let mut own = self.bins.len();
        self.bins.resize(own + missing, (0, 0));
        let mut to = self.bins.len();
        for (bin, count) in bins.iter().rev() {
            while own > 0 && self.bins[own - 1].0 > *bin {
                (own, to) = (own - 1, to - 1);
                self.bins[to] = self.bins[own];
            }
            if own == 0 || self.bins[own - 1].0 != *bin {
                to -= 1;
                self.bins[to] = (*bin, *count);
            }
        }
    }

    /// FORMAT.md, "Quantile sketches".
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        let mut before = None;
        for (bin, count) in &self.bins {
            match before {
                None => varint::put_i64(out, i64::from(*bin)),
                Some(before) => varint::put_u64(out, (bin - before) as u64),
            }
            varint::put_u64(out, *count);
            before = Some(*bin);
        }
    }

    /// Refuses every encoding but the one that [`encode`](Sketch::encode) gives.
    #[deny(clippy::unwrap_used, clippy::indexing_slicing)]
    pub fn decode(mut rest: &[u8]) -> Result<Sketch> {
        if varint::take_u8(&mut rest)? != VERSION {
            return Err(Corrupt::new("a quantile sketch has an unknown version"));
        }
        let mut bins: Vec<(i32, u64)> = Vec::new();
        while !rest.is_empty() {
            let bin = match bins.last() {
                None => Some(varint::take_i64(&mut rest)?),
                Some((before, _)) => match varint::take_u64(&mut rest)? {
                    0 => return Err(Corrupt::new("the bins of a quantile sketch do not ascend")),
                    step => i64::try_from(step).ok().and_then(|step| step.checked_add(i64::from(*before))),
                },
            };
            let range = -i64::from(INFINITE_BIN)..=i64::from(INFINITE_BIN);
            let bin = bin.filter(|bin| range.contains(bin));
            let bin = bin.ok_or(Corrupt::new("a quantile sketch has a bin that no number has"))?;
            match varint::take_u64(&mut rest)? {
                0 => return Err(Corrupt::new("a quantile sketch has an empty bin")),
                count => bins.push((bin as i32, count)),
            }
        }
        if bins.is_empty() {
            return Err(Corrupt::new("a quantile sketch without values is not null"));
        }
        Ok(Sketch { bins })
    }
}

impl State for Sketch {
    const IDENTITY: Sketch = Sketch { bins: Vec::new() };

    fn merge(&mut self, other: &Sketch) {
        self.add_bins(&other.bins);
    }

    fn heap_bytes(&self) -> usize {
        self.bins.capacity() * size_of::<(i32, u64)>()
    }
}

/// Of a number that is not NaN.
fn bin(value: f64) -> i32 {
    const HALF: u64 = 1 << (SHIFT - 1);
    let magnitude = value.abs();
    let bin = match magnitude {
        f64::INFINITY => INFINITE_BIN,
        _ => (((magnitude.to_bits() + HALF) >> SHIFT) as i32).min(INFINITE_BIN - 1),
    };
    if value < 0.0 { -bin } else { bin }
}

fn number(bin: i32) -> f64 {
    let magnitude = f64::from_bits(u64::from(bin.unsigned_abs()) << SHIFT);
    if bin < 0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sketch<T: Number>(values: &[T]) -> Sketch {
        let mut sketch = Sketch::default();
        sketch.add_slice(values);
        sketch
    }

    fn encoded(sketch: &Sketch) -> Vec<u8> {
        let mut out = Vec::new();
        sketch.encode(&mut out);
        out
    }

    fn fraction(fraction: f64) -> Fraction {
        Fraction::new(fraction).expect("from 0 to 1")
    }

    #[test]
    fn sketches_match_format_page() {
        let example = "01 80 fe 0f 02 80 01 01 80 ff 07 01";
        let sketch = sketch(&[1.0, 1.0, 2.0, f64::INFINITY, f64::NAN]);
        let hex: Vec<String> = encoded(&sketch).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex.join(" "), example);
        assert!(include_str!("../../FORMAT.md").contains(example), "the page shows other bytes");
    }

    #[test]
    fn ranks_are_the_nearest() {
        assert_eq!(Fraction::MEDIAN.rank(4), 2);
        assert_eq!(Fraction::MEDIAN.rank(5), 3);
        assert_eq!(fraction(0.07).rank(100), 7, "in floats 0.07 * 100 is above 7");
        assert_eq!((fraction(0.0).rank(9), fraction(1.0).rank(9)), (1, 9));
        assert_eq!(fraction(1.0).rank(u64::MAX), u64::MAX);
        assert_eq!(fraction(0.999).rank(1000), 999);
        for outside in [-0.1, 1.1, f64::NAN] {
            assert_eq!(Fraction::new(outside), None);
        }
    }

    #[test]
    fn zeros_infinities_and_ends() {
        let ends = sketch(&[f64::MAX, f64::MIN, 0.0, -0.0, 5e-324, f64::INFINITY, f64::NEG_INFINITY]);
        assert_eq!(ends.quantile(fraction(0.0)), Some(f64::NEG_INFINITY));
        assert_eq!(ends.quantile(fraction(1.0)), Some(f64::INFINITY));
        assert_eq!(ends.quantile(Fraction::MEDIAN).map(f64::to_bits), Some(0));
        let largest = ends.quantile(fraction(0.85)).expect("values");
        assert!(largest.is_finite() && f64::MAX - largest <= f64::MAX * QUANTILE_ERROR_MAX);
        assert_eq!(sketch(&[f64::NAN]), Sketch::default());
        assert_eq!(Sketch::default().quantile(Fraction::MEDIAN), None);
        for whole in 0..=256i64 {
            assert_eq!(sketch(&[whole]).quantile(Fraction::MEDIAN), Some(whole as f64));
        }
    }

    #[test]
    fn damage_is_refused() {
        let table: &[(&str, &[u8])] = &[
            ("empty", &[]),
            ("version", &[2, 0, 1]),
            ("no bins", &[1]),
            ("cut", &[1, 0]),
            ("empty bin", &[1, 0, 0]),
            ("same bin twice", &[1, 0, 1, 0, 1]),
            ("beyond infinity", &[1, 0xff, 0xff, 0xff, 0x7f, 1]),
            ("far beyond", &[1, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1]),
        ];
        for (name, bytes) in table {
            assert!(Sketch::decode(bytes).is_err(), "{name}");
        }
    }

    fn check<T: Number>(mut values: Vec<T>, parts: usize, q: f64) {
        let whole = sketch(&values);
        let mut merged = Sketch::default();
        values.chunks(values.len().div_ceil(parts)).rev().for_each(|part| merged.merge(&sketch(part)));
        assert_eq!(merged, whole);
        assert_eq!(Sketch::decode(&encoded(&whole)).as_ref(), Ok(&whole));
        values.sort_by(T::rank);
        let exact = values[fraction(q).rank(values.len() as u64) as usize - 1].to_float();
        let near = whole.quantile(fraction(q)).expect("values");
        let error_max = exact.abs() * QUANTILE_ERROR_MAX + 1e-310;
        assert!(near == exact || (near - exact).abs() <= error_max, "{near:e} for {exact:e}");
    }

    proptest! {
        #[test]
        fn quantiles_of_floats(
            values in prop::collection::vec(prop_oneof![
                any::<f64>().prop_filter("a number", |value| !value.is_nan()),
                -1000.0..1000.0,
                Just(0.0),
                Just(-0.0),
            ], 1..200),
            parts in 1usize..5,
            q in 0.0..=1.0,
        ) {
            check(values, parts, q);
        }

        #[test]
        fn quantiles_of_integers(ints in prop::collection::vec(any::<i64>(), 1..50), uints in prop::collection::vec(any::<u64>(), 1..50), q in 0.0..=1.0) {
            check(ints, 3, q);
            check(uints, 2, q);
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let bytes = [&[VERSION], bytes.as_slice()].concat();
            if let Ok(sketch) = Sketch::decode(&bytes) {
                prop_assert_eq!(encoded(&sketch), bytes);
            }
        }
    }
}
