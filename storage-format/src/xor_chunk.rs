//! Samples as a chunk of Prometheus' XOR encoding, for readers that take Prometheus' chunks.
//!
//! Not a format of ours: the bytes are those of Prometheus' tsdb/chunkenc (docs/format/chunks.md there), times in
//! milliseconds. What we store is in `chunk`.
//! Invariant: at most [`XOR_CHUNK_SAMPLES_MAX`] samples, the size that Prometheus makes itself.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use crate::bits::BitWriter;
use crate::varint;

pub const XOR_CHUNK_SAMPLES_MAX: usize = 120;

/// Times ascend; there are as many values as times.
pub fn encode(times_ms: &[i64], values: &[f64]) -> Vec<u8> {
    debug_assert!(times_ms.len() <= XOR_CHUNK_SAMPLES_MAX, "bug: a chunk holds fewer samples");
    let mut stream = Stream::default();
    let mut bytes = (times_ms.len() as u16).to_be_bytes().to_vec();
    for (at, (time, value)) in times_ms.iter().zip(values).enumerate() {
        stream.push(at, *time, *value);
    }
    stream.bits.write_to(&mut bytes);
    bytes
}

#[derive(Default)]
struct Stream {
    bits: BitWriter,
    time: i64,
    step: i64,
    value: u64,
    /// Leading zeros and length of the set bits that the last written value was cut to.
    window: Option<(u32, u32)>,
}

impl Stream {
    fn push(&mut self, at: usize, time: i64, value: f64) {
        let step = time.wrapping_sub(self.time);
        let mut whole = Vec::new();
        match at {
            0 => varint::put_i64(&mut whole, time),
            1 => varint::put_u64(&mut whole, step as u64),
            _ => self.push_step(step.wrapping_sub(self.step)),
        }
        whole.iter().for_each(|byte| self.bits.push(u64::from(*byte), 8));
        match at {
            0 => self.bits.push(value.to_bits(), 64),
            _ => self.push_value(value.to_bits() ^ self.value),
        }
        (self.time, self.step, self.value) = (time, step, value.to_bits());
    }

    fn push_step(&mut self, change: i64) {
        let fits = |bits: u32| (-(1i64 << (bits - 1)) + 1..=1 << (bits - 1)).contains(&change);
        let lowest = |bits: u32| change as u64 & ((1 << bits) - 1);
        if change == 0 {
            self.bits.push(0, 1);
        } else if fits(14) {
            self.bits.push_pair(0b10, 2, lowest(14), 14);
        } else if fits(17) {
            self.bits.push_pair(0b110, 3, lowest(17), 17);
        } else if fits(20) {
            self.bits.push_pair(0b1110, 4, lowest(20), 20);
        } else {
            self.bits.push_pair(0b1111, 4, change as u64, 64);
        }
    }

    fn push_value(&mut self, change: u64) {
        if change == 0 {
            self.bits.push(0, 1);
            return;
        }
        // Five bits are for it.
        let leading = change.leading_zeros().min(31);
        let trailing = change.trailing_zeros();
        if let Some((first, length)) = self.window
            && leading >= first
            && trailing >= 64 - first - length
        {
            self.bits.push(0b10, 2);
            self.bits.push(change >> (64 - first - length), length);
            return;
        }
        let length = 64 - leading - trailing;
        self.window = Some((leading, length));
        self.bits.push(0b11, 2);
        self.bits.push(u64::from(leading), 5);
        // 64 is written as 0.
        self.bits.push(u64::from(length) & 63, 6);
        self.bits.push(change >> trailing, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::BitReader;

    /// Prometheus' reader, after its page on the format.
    fn decode(bytes: &[u8]) -> Vec<(i64, u64)> {
        let count = u16::from_be_bytes([bytes[0], bytes[1]]) as usize;
        let mut bits = BitReader::new(&bytes[2..]);
        let varint = |bits: &mut BitReader<'_>| {
            let (mut value, mut shift) = (0u64, 0);
            loop {
                let byte = bits.take(8);
                value |= (byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    return value;
                }
            }
        };
        let mut out = Vec::new();
        let (mut time, mut step, mut value) = (0i64, 0i64, 0u64);
        let (mut leading, mut length) = (0, 0);
        for at in 0..count {
            match at {
                0 => time = crate::varint::unzigzag(varint(&mut bits)),
                1 => {
                    step = varint(&mut bits) as i64;
                    time += step;
                }
                _ => {
                    let prefix = (0..4).take_while(|_| bits.take(1) == 1).count();
                    let width = [0, 14, 17, 20, 64][prefix];
                    let raw = if width == 0 { 0 } else { bits.take(width) };
                    let sign = width > 0 && width < 64 && raw > 1 << (width - 1);
                    step += if sign { raw as i64 - (1 << width) } else { raw as i64 };
                    time += step;
                }
            }
            if at == 0 {
                value = bits.take(64);
            } else if bits.take(1) == 1 {
                if bits.take(1) == 1 {
                    leading = bits.take(5) as u32;
                    length = bits.take(6) as u32;
                    length = if length == 0 { 64 } else { length };
                }
                value ^= bits.take(length) << (64 - leading - length);
            }
            out.push((time, value));
        }
        out
    }

    #[test]
    fn prometheus_reads_what_was_written() {
        let cases: [Vec<(i64, f64)>; 4] = [
            vec![(1_700_000_000_000, 1.5)],
            vec![(-5, 0.0), (10, f64::from_bits(0x7ff0_0000_0000_0002))],
            (0..120).map(|at| (at * 15_000 + at % 7 * 3, (at * at) as f64 / 3.0)).collect(),
            vec![
                (0, 1.0),
                (1, -1.0),
                (2, 1.0),
                (8_194, 1.0),
                (16_386 + 8_192, 5e-324),
                (1 << 40, f64::MAX),
                ((1 << 40) + 1, 0.1),
            ],
        ];
        for samples in cases {
            let (times, values): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
            let expected: Vec<(i64, u64)> =
                samples.iter().map(|(time, value)| (*time, value.to_bits())).collect();
            assert_eq!(decode(&encode(&times, &values)), expected);
        }
    }
}
