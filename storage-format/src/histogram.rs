//! Native histograms: the value of the field `histogram`, as bytes and as numbers.
//!
//! Histograms of whole and of fractional counts are one type here; only the bytes tell them apart, so that whole counts are
//! small and come back whole.
//! Invariant: what [`Histogram::decode`] gives and [`Histogram::encode`] takes is sound ([`Histogram::check`]): as many counts as
//! the spans have buckets, spans that ascend, bounds that ascend. One histogram has one encoding.
//! Not here: what is computed from histograms (PromQL), the messages that bring them (remote write, OTLP).
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use crate::corrupt::{Corrupt, Result};
use crate::varint;

/// Buckets whose bounds are powers of 2^(2^-schema) have a schema in this range.
pub const SCHEMA_MIN: i32 = -4;
pub const SCHEMA_MAX: i32 = 8;

/// Buckets whose upper bounds are [`Histogram::custom_values`]; only positive ones.
pub const SCHEMA_CUSTOM: i32 = -53;

/// Prometheus drops resolution above 160 buckets by default. This only bounds what one value may cost.
pub const BUCKETS_MAX: usize = 10_000;

/// Counts below it are exact as floats.
const WHOLE_MAX: f64 = (1u64 << 53) as f64;

const VERSION: u8 = 1;

const FLAG_WHOLE: u8 = 1;

/// How the histogram stands to the one before it in its series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResetHint {
    #[default]
    Unknown = 0,
    /// It begins anew.
    Yes = 1,
    /// It goes on from the one before.
    No = 2,
    /// It is no counter.
    Gauge = 3,
}

impl ResetHint {
    pub const ALL: [ResetHint; 4] = [ResetHint::Unknown, ResetHint::Yes, ResetHint::No, ResetHint::Gauge];
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    pub reset_hint: ResetHint,
    /// Whether the counts came as whole numbers. Above 2^53 they are rounded here.
    pub is_whole: bool,
    pub schema: i32,
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    /// Prometheus' stale marker if the series ends here.
    pub sum: f64,
    pub positive: Buckets,
    pub negative: Buckets,
    /// Upper bounds of the buckets if `schema` is [`SCHEMA_CUSTOM`]; the last bucket goes to infinity.
    pub custom_values: Vec<f64>,
}

/// The buckets of one sign that are written down: runs of neighbours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    pub spans: Vec<Span>,
    /// One for each bucket of the spans, of that bucket alone.
    pub counts: Vec<f64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Of the first span the index of its first bucket, of the others the gap to the span before.
    pub offset: i32,
    pub length: u32,
}

impl Buckets {
    /// Index and count of each bucket, ascending. Of a schema s, bucket i ends at 2^(i * 2^-s).
    pub fn iter(&self) -> impl Iterator<Item = (i32, f64)> {
        let mut next = 0i32;
        let indexes = self.spans.iter().flat_map(move |span| {
            let first = next.wrapping_add(span.offset);
            next = first.wrapping_add(span.length as i32);
            (0..span.length as i32).map(move |step| first.wrapping_add(step))
        });
        indexes.zip(self.counts.iter().copied())
    }

    fn check(&self) -> std::result::Result<(), &'static str> {
        let mut end = 0i64;
        let mut buckets = 0u64;
        for (at, span) in self.spans.iter().enumerate() {
            if at > 0 && span.offset < 0 {
                return Err("a span begins before the one before it ends");
            }
            end += i64::from(span.offset) + i64::from(span.length);
            buckets += u64::from(span.length);
            if i32::try_from(end).is_err() || buckets > BUCKETS_MAX as u64 {
                return Err("its spans have too many buckets");
            }
        }
        if buckets != self.counts.len() as u64 {
            return Err("its spans have another number of buckets than there are counts");
        }
        // False also for NaN.
        match self.counts.iter().all(|count| *count >= 0.0) {
            true => Ok(()),
            false => Err("the count of a bucket is negative"),
        }
    }
}

impl Histogram {
    /// Why Prometheus would refuse it.
    pub fn check(&self) -> std::result::Result<(), &'static str> {
        self.positive.check()?;
        self.negative.check()?;
        if !(self.count >= 0.0 && self.zero_count >= 0.0) {
            return Err("a count is negative");
        }
        if self.zero_threshold.is_nan() || self.zero_threshold < 0.0 {
            return Err("the width of the zero bucket is negative");
        }
        if self.schema == SCHEMA_CUSTOM {
            self.check_custom()?;
        } else if !(SCHEMA_MIN..=SCHEMA_MAX).contains(&self.schema) {
            return Err("its schema is none of -4 to 8 and -53");
        } else if !self.custom_values.is_empty() {
            return Err("its schema takes no custom bounds");
        }
        if self.is_whole {
            let counts = self.positive.counts.iter().chain(&self.negative.counts);
            let all = counts.fold(self.zero_count, |sum, count| sum + count);
            // NaN are observed without a bucket.
            let adds_up = if self.sum.is_nan() { all <= self.count } else { all == self.count };
            if !adds_up && self.count < WHOLE_MAX {
                return Err("its buckets do not add up to its count");
            }
        }
        Ok(())
    }

    fn check_custom(&self) -> std::result::Result<(), &'static str> {
        if !self.negative.spans.is_empty() || self.zero_count != 0.0 || self.zero_threshold != 0.0 {
            return Err("custom buckets are positive ones only");
        }
        let bounds = &self.custom_values;
        if bounds.len() > BUCKETS_MAX || bounds.iter().any(|bound| !bound.is_finite()) {
            return Err("its custom bounds are too many or not finite");
        }
        if !bounds.is_sorted_by(|a, b| a < b) {
            return Err("its custom bounds do not ascend");
        }
        let outside =
            |(index, _): (i32, f64)| usize::try_from(index).is_ok_and(|index| index <= bounds.len());
        match self.positive.iter().all(outside) {
            true => Ok(()),
            false => Err("a bucket has no custom bound"),
        }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        debug_assert_eq!(self.check(), Ok(()), "bug: a histogram is checked before it is stored");
        let whole = if self.is_whole { FLAG_WHOLE } else { 0 };
        out.extend([VERSION, whole | (self.reset_hint as u8) << 1]);
        varint::put_i64(out, i64::from(self.schema));
        put_float(out, self.zero_threshold);
        put_float(out, self.sum);
        self.put_count(out, self.count);
        self.put_count(out, self.zero_count);
        varint::put_u64(out, self.custom_values.len() as u64);
        self.custom_values.iter().for_each(|bound| put_float(out, *bound));
        for buckets in [&self.positive, &self.negative] {
            varint::put_u64(out, buckets.spans.len() as u64);
            for span in &buckets.spans {
                varint::put_i64(out, i64::from(span.offset));
                varint::put_u64(out, u64::from(span.length));
            }
            let mut before = 0;
            for count in &buckets.counts {
                if self.is_whole {
                    varint::put_i64(out, (*count as i64).wrapping_sub(before));
                    before = *count as i64;
                } else {
                    put_float(out, *count);
                }
            }
        }
    }

    fn put_count(&self, out: &mut Vec<u8>, count: f64) {
        match self.is_whole {
            true => varint::put_u64(out, count as u64),
            false => put_float(out, count),
        }
    }

    /// The opposite of [`Histogram::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Histogram> {
        let rest = &mut &*bytes;
        if varint::take_u8(rest)? != VERSION {
            return Err(Corrupt::new("the histogram's version is not known"));
        }
        let flags = varint::take_u8(rest)?;
        let is_whole = flags & FLAG_WHOLE != 0;
        let hint = ResetHint::ALL
            .get(usize::from(flags >> 1))
            .ok_or(Corrupt::new("a histogram has unknown flags"))?;
        let schema = take_i32(rest)?;
        let (zero_threshold, sum) = (take_float(rest)?, take_float(rest)?);
        let (count, zero_count) = (take_count(rest, is_whole)?, take_count(rest, is_whole)?);
        let bounds = varint::take_count(rest)?;
        let custom_values = (0..bounds).map(|_| take_float(rest)).collect::<Result<_>>()?;
        let (positive, negative) = (take_buckets(rest, is_whole)?, take_buckets(rest, is_whole)?);
        if !rest.is_empty() {
            return Err(Corrupt::new("a histogram is longer than its buckets"));
        }
        let histogram = Histogram {
            reset_hint: *hint,
            is_whole,
            schema,
            zero_threshold,
            zero_count,
            count,
            sum,
            positive,
            negative,
            custom_values,
        };
        histogram.check().map_err(Corrupt::new)?;
        Ok(histogram)
    }
}

fn put_float(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn take_float(rest: &mut &[u8]) -> Result<f64> {
    Ok(f64::from_bits(u64::from_le_bytes(varint::take_array(rest)?)))
}

fn take_count(rest: &mut &[u8], is_whole: bool) -> Result<f64> {
    if is_whole { Ok(varint::take_u64(rest)? as f64) } else { take_float(rest) }
}

fn take_i32(rest: &mut &[u8]) -> Result<i32> {
    i32::try_from(varint::take_i64(rest)?).map_err(|_| Corrupt::new("a number of a histogram is too large"))
}

fn take_buckets(rest: &mut &[u8], is_whole: bool) -> Result<Buckets> {
    let mut buckets = Buckets::default();
    let mut count = 0usize;
    for _ in 0..varint::take_count(rest)? {
        let span = Span { offset: take_i32(rest)?, length: varint::take_u32(rest)? };
        count = count.saturating_add(span.length as usize);
        buckets.spans.push(span);
    }
    if count > BUCKETS_MAX {
        return Err(Corrupt::new("a histogram has too many buckets"));
    }
    let mut before = 0i64;
    for _ in 0..count {
        buckets.counts.push(if is_whole {
            before = before.wrapping_add(varint::take_i64(rest)?);
            before as f64
        } else {
            take_float(rest)?
        });
    }
    Ok(buckets)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of FORMAT.md.
    fn example() -> Histogram {
        Histogram {
            is_whole: true,
            schema: 1,
            zero_threshold: 0.001,
            zero_count: 1.0,
            count: 8.0,
            sum: 18.5,
            positive: Buckets {
                spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }],
                counts: vec![2.0, 1.0, 4.0],
            },
            ..Histogram::default()
        }
    }

    #[test]
    fn the_example_of_the_format_page() {
        let mut bytes = Vec::new();
        example().encode(&mut bytes);
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let page = include_str!("../FORMAT.md");
        assert!(page.contains(&hex.join(" ")), "{}", hex.join(" "));
        assert_eq!(Histogram::decode(&bytes), Ok(example()));
        assert_eq!(example().positive.iter().collect::<Vec<_>>(), [(0, 2.0), (1, 1.0), (3, 4.0)]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let wrong: [fn(&mut Histogram); 8] = [
            |histogram| histogram.count = 9.0,
            |histogram| histogram.schema = 9,
            |histogram| histogram.positive.spans[1].offset = -1,
            |histogram| histogram.positive.spans[1].length = 2,
            |histogram| histogram.positive.counts[0] = -2.0,
            |histogram| histogram.custom_values = vec![1.0],
            |histogram| histogram.zero_threshold = f64::NAN,
            |histogram| histogram.schema = SCHEMA_CUSTOM,
        ];
        for (number, change) in wrong.iter().enumerate() {
            let mut histogram = example();
            change(&mut histogram);
            assert!(histogram.check().is_err(), "{number}");
        }
        let mut stale = example();
        (stale.sum, stale.count) = (f64::from_bits(0x7ff0_0000_0000_0002), 9.0);
        assert_eq!(stale.check(), Ok(()), "NaN are counted and have no bucket");
    }

    fn histograms() -> impl Strategy<Value = Histogram> {
        let spans = proptest::collection::vec((0..5i32, 0..4u32), 0..4);
        (spans, -50..50i32, -4..9i32, any::<bool>(), any::<u64>(), 0..4usize).prop_map(
            |(spans, first, schema, is_whole, seed, hint)| {
                let count = |at: u64| {
                    (seed.rotate_left(at as u32) % 1_000_000) as f64 / if is_whole { 1.0 } else { 8.0 }
                };
                let mut spans: Vec<Span> =
                    spans.into_iter().map(|(offset, length)| Span { offset, length }).collect();
                if let Some(span) = spans.first_mut() {
                    span.offset += first;
                }
                let buckets: u32 = spans.iter().map(|span| span.length).sum();
                let counts: Vec<f64> = (0..u64::from(buckets)).map(count).collect();
                Histogram {
                    reset_hint: ResetHint::ALL[hint],
                    is_whole,
                    schema,
                    count: counts.iter().sum::<f64>() * 2.0 + 3.0,
                    zero_count: 3.0,
                    sum: count(40) - 7.5,
                    positive: Buckets { spans: spans.clone(), counts: counts.clone() },
                    negative: Buckets { spans, counts },
                    ..Histogram::default()
                }
            },
        )
    }

    proptest! {
        #[test]
        fn every_histogram_comes_back(histogram in histograms()) {
            prop_assert_eq!(histogram.check(), Ok(()));
            let mut bytes = Vec::new();
            histogram.encode(&mut bytes);
            prop_assert_eq!(Histogram::decode(&bytes), Ok(histogram));
            for cut in 0..bytes.len() {
                prop_assert!(Histogram::decode(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn damage_never_panics(histogram in histograms(), at in any::<usize>(), byte in any::<u8>()) {
            let mut bytes = Vec::new();
            histogram.encode(&mut bytes);
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(read) = Histogram::decode(&bytes) {
                prop_assert_eq!(read.check(), Ok(()));
            }
        }
    }
}
