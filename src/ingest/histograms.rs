//! Native histograms as remote write and remote read have them: the `Histogram` message, the same in all versions.
//!
//! Not here: the histogram itself and what makes it sound (`storage_format::histogram`).

use storage_format::histogram::{Buckets, Histogram, ResetHint, Span};

use crate::ingest::protobuf::{
    Fields, Malformed, Packed, Result, put_bytes, put_double, put_number, put_varint,
};

/// Time in milliseconds, and the histogram, which may make no sense yet.
pub fn read(message: &[u8]) -> Result<(i64, Histogram)> {
    let mut histogram = Histogram { is_whole: true, ..Histogram::default() };
    let mut time = 0;
    let (mut positive_deltas, mut negative_deltas) = (Vec::new(), Vec::new());
    for field in Fields::of(message) {
        let field = field?;
        let value = field.value;
        match field.number {
            1 => histogram.count = value.varint()? as f64,
            2 => {
                histogram.count = value.double()?;
                histogram.is_whole = false;
            }
            3 => histogram.sum = value.double()?,
            4 => histogram.schema = value.zigzag()? as i32,
            5 => histogram.zero_threshold = value.double()?,
            6 => histogram.zero_count = value.varint()? as f64,
            7 => histogram.zero_count = value.double()?,
            8 => histogram.negative.spans.push(span(value.bytes()?)?),
            9 => Packed::zigzags(value, |delta| negative_deltas.push(delta))?,
            10 => Packed::doubles(value, |count| histogram.negative.counts.push(count))?,
            11 => histogram.positive.spans.push(span(value.bytes()?)?),
            12 => Packed::zigzags(value, |delta| positive_deltas.push(delta))?,
            13 => Packed::doubles(value, |count| histogram.positive.counts.push(count))?,
            14 => {
                let hint = usize::try_from(value.varint()?).ok().and_then(|hint| ResetHint::ALL.get(hint));
                histogram.reset_hint = hint.copied().unwrap_or_default();
            }
            15 => time = value.varint()? as i64,
            16 => Packed::doubles(value, |bound| histogram.custom_values.push(bound))?,
            _ => {}
        }
    }
    if histogram.is_whole {
        histogram.positive.counts = added_up(&positive_deltas);
        histogram.negative.counts = added_up(&negative_deltas);
    }
    Ok((time, histogram))
}

fn span(message: &[u8]) -> Result<Span, Malformed> {
    let mut span = Span::default();
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => span.offset = field.value.zigzag()? as i32,
            2 => span.length = u32::try_from(field.value.varint()?).unwrap_or(u32::MAX),
            _ => {}
        }
    }
    Ok(span)
}

fn added_up(deltas: &[i64]) -> Vec<f64> {
    let add = |sum: &mut i64, delta: &i64| {
        *sum = sum.wrapping_add(*delta);
        Some(*sum as f64)
    };
    deltas.iter().scan(0, add).collect()
}

/// Appends the message of a histogram at a time in milliseconds.
pub fn put(out: &mut Vec<u8>, histogram: &Histogram, time_ms: i64) {
    match histogram.is_whole {
        true => put_number(out, 1, histogram.count as i64),
        false => put_double(out, 2, histogram.count),
    }
    put_double(out, 3, histogram.sum);
    put_number(out, 4, zigzag(i64::from(histogram.schema)));
    put_double(out, 5, histogram.zero_threshold);
    match histogram.is_whole {
        true => put_number(out, 6, histogram.zero_count as i64),
        false => put_double(out, 7, histogram.zero_count),
    }
    put_buckets(out, &histogram.negative, histogram.is_whole, 8);
    put_buckets(out, &histogram.positive, histogram.is_whole, 11);
    put_number(out, 14, histogram.reset_hint as i64);
    put_number(out, 15, time_ms);
    if !histogram.custom_values.is_empty() {
        let bounds: Vec<u8> = histogram.custom_values.iter().flat_map(|bound| bound.to_le_bytes()).collect();
        put_bytes(out, 16, &bounds);
    }
}

/// `field` is the number of the spans; deltas and counts have the two after it.
fn put_buckets(out: &mut Vec<u8>, buckets: &Buckets, is_whole: bool, field: u64) {
    for span in &buckets.spans {
        let mut message = Vec::new();
        put_number(&mut message, 1, zigzag(i64::from(span.offset)));
        put_number(&mut message, 2, i64::from(span.length));
        put_bytes(out, field, &message);
    }
    if buckets.counts.is_empty() {
        return;
    }
    let mut packed = Vec::new();
    if is_whole {
        let mut before = 0;
        for count in &buckets.counts {
            put_varint(&mut packed, zigzag((*count as i64).wrapping_sub(before)) as u64);
            before = *count as i64;
        }
        put_bytes(out, field + 1, &packed);
    } else {
        buckets.counts.iter().for_each(|count| packed.extend_from_slice(&count.to_le_bytes()));
        put_bytes(out, field + 2, &packed);
    }
}

fn zigzag(value: i64) -> i64 {
    value << 1 ^ value >> 63
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back() {
        let buckets = |counts: &[f64]| Buckets {
            spans: vec![Span { offset: -3, length: 1 }, Span { offset: 2, length: counts.len() as u32 - 1 }],
            counts: counts.to_vec(),
        };
        let whole = Histogram {
            is_whole: true,
            reset_hint: ResetHint::Gauge,
            schema: -2,
            zero_threshold: 1e-9,
            zero_count: 2.0,
            count: 13.0,
            sum: -0.5,
            positive: buckets(&[5.0, 1.0, 3.0]),
            negative: buckets(&[1.0, 1.0]),
            ..Histogram::default()
        };
        let parts = Histogram {
            is_whole: false,
            schema: storage_format::histogram::SCHEMA_CUSTOM,
            count: 1.5,
            sum: 3.0,
            positive: Buckets { spans: vec![Span { offset: 1, length: 2 }], counts: vec![0.5, 1.0] },
            custom_values: vec![0.1, 7.0],
            ..Histogram::default()
        };
        for histogram in [whole, parts] {
            assert_eq!(histogram.check(), Ok(()));
            let mut message = Vec::new();
            put(&mut message, &histogram, -7);
            assert_eq!(read(&message), Ok((-7, histogram)));
        }
    }
}
