//! A sealed chunk: every column in the smallest codec, checksummed, immutable, in one allocation.
//!
//! Invariant: a column's bytes say by themselves what they are (kind, rows, codec), and nothing is decoded
//! before its CRC32C is right. Even with a right checksum no bytes make a decoder panic, loop, or allocate
//! more than its rows need. Byte pictures: FORMAT.md, "Chunks".
//! Not here: how integers are written (`integers`); the directory of columns, which is memory only.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use super::CHUNK_ROWS_MAX;
use super::decimal;
use super::integers::{self, IntCodec};
use super::joined::Joined;
use super::values::{ColumnValues, Values};
use crate::corrupt::{Corrupt, Result};
use crate::gorilla::floats::{self, FloatStream};
use crate::gorilla::times::Unit;
use crate::point::{FieldType, Time};
use crate::presence::Bitmap;
use crate::text;
use crate::varint;

/// The kind of a column of times; other kinds are the field types.
const KIND_TIMES: u8 = 0;

/// The forms of a float column.
const FLOAT_XOR: u8 = 1;
const FLOAT_DECIMAL: u8 = 2;
const FLOAT_BITS: u8 = 3;

const CRC_BYTES: usize = 4;

#[derive(Clone, Debug)]
pub struct SealedChunk {
    first: Time,
    last: Time,
    rows: u16,
    /// Where the columns end in `bytes`; the times, which come first, end at `times_end`.
    times_end: u32,
    columns: Box<[Entry]>,
    bytes: Box<[u8]>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: u32,
    end: u32,
}

impl SealedChunk {
    /// Columns have one slot per time; times ascend strictly.
    pub fn from_columns(times: &[Time], columns: &[(u32, &ColumnValues)]) -> SealedChunk {
        let mut builder = SealedBuilder::new(times, columns.len());
        for (id, column) in columns {
            match &column.present {
                None => builder.add(*id, &column.values, None),
                Some(present) => {
                    let present = Bitmap::of(present.iter());
                    builder.add(*id, &column.values.gather(&present), Some(&present));
                }
            }
        }
        builder.finish()
    }

    pub fn rows(&self) -> usize {
        usize::from(self.rows)
    }

    pub fn first_time(&self) -> Time {
        self.first
    }

    pub fn last_time(&self) -> Time {
        self.last
    }

    pub fn columns(&self) -> impl Iterator<Item = u32> {
        self.columns.iter().map(|entry| entry.id)
    }

    /// Appends the times to `out`.
    pub fn decode_times(&self, out: &mut Vec<Time>) -> Result<()> {
        decode_times(self.times_bytes(), out)
    }

    /// `None` if no row has a value of this column.
    pub fn decode_column(&self, column: u32) -> Result<Option<ColumnValues>> {
        let mut joined = Joined::new(self.rows());
        self.join_column(column, &mut joined)?;
        Ok(joined.finish())
    }

    /// Appends the column's rows.
    pub fn join_column(&self, column: u32, joined: &mut Joined) -> Result<()> {
        match self.column_bytes(column) {
            Some(bytes) => decode_column(bytes, joined),
            None => {
                joined.add_missing(self.rows());
                Ok(())
            }
        }
    }

    /// The times as FORMAT.md describes them.
    pub fn times_bytes(&self) -> &[u8] {
        self.bytes.get(..self.times_end as usize).unwrap_or_default()
    }

    /// A column as FORMAT.md describes it.
    pub fn column_bytes(&self, column: u32) -> Option<&[u8]> {
        let index = self.columns.iter().position(|entry| entry.id == column)?;
        let start = match index.checked_sub(1) {
            None => self.times_end,
            Some(previous) => self.columns.get(previous)?.end,
        };
        self.bytes.get(start as usize..self.columns.get(index)?.end as usize)
    }

    pub fn heap_bytes(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.columns)
    }
}

/// Writes a chunk column by column.
pub(crate) struct SealedBuilder {
    first: Time,
    last: Time,
    rows: u16,
    times_end: u32,
    columns: Vec<Entry>,
    bytes: Vec<u8>,
}

impl SealedBuilder {
    pub fn new(times: &[Time], columns: usize) -> SealedBuilder {
        assert!(times.len() <= CHUNK_ROWS_MAX, "bug: a chunk has too many rows");
        assert!(times.is_sorted_by(|a, b| a < b), "bug: the times of a chunk must ascend");
        let (Some(&first), Some(&last)) = (times.first(), times.last()) else {
            panic!("bug: a sealed chunk has rows");
        };
        let mut bytes = Vec::with_capacity(1024);
        encode_times(times, &mut bytes);
        let times_end = bytes.len() as u32;
        let rows = times.len() as u16;
        SealedBuilder { first, last, rows, times_end, columns: Vec::with_capacity(columns), bytes }
    }

    /// `dense` are the values of the rows that have one.
    pub fn add(&mut self, id: u32, dense: &Values, present: Option<&Bitmap>) {
        encode_column(usize::from(self.rows), dense, present, &mut self.bytes);
        let end = u32::try_from(self.bytes.len()).expect("bug: a chunk is full long before 4 GiB");
        self.columns.push(Entry { id, end });
    }

    pub fn finish(self) -> SealedChunk {
        SealedChunk {
            first: self.first,
            last: self.last,
            rows: self.rows,
            times_end: self.times_end,
            columns: self.columns.into_boxed_slice(),
            bytes: self.bytes.into_boxed_slice(),
        }
    }
}

/// A unit that divides every distance from the first time, the first time, and the distances.
pub(crate) fn encode_times(times: &[Time], out: &mut Vec<u8>) {
    let start = begin(KIND_TIMES, times.len(), out);
    let first = times.first().copied().unwrap_or(0);
    let mut unit = Unit::START;
    for time in times {
        (unit, _) = unit.divide(time.wrapping_sub(first));
    }
    out.push(unit as u8);
    varint::put_i64(out, first);
    let distances: Vec<i64> = times.iter().map(|time| unit.divide(time.wrapping_sub(first)).1).collect();
    integers::plan(&distances).write(out);
    end(start, out);
}

/// Appends the times to `out`.
pub(crate) fn decode_times(bytes: &[u8], out: &mut Vec<Time>) -> Result<()> {
    let (kind, rows, mut rest) = open(bytes)?;
    if kind != KIND_TIMES {
        return Err(Corrupt::new("a column of values stands where times should"));
    }
    let unit = varint::take_u8(&mut rest)?;
    if unit > Unit::START as u8 {
        return Err(Corrupt::new("times have an unknown unit"));
    }
    let nanos = Unit::from_code(unit).nanos();
    let first = varint::take_i64(&mut rest)?;
    let start = out.len();
    out.resize(start + rows, 0);
    let (_, times) = out.split_at_mut(start);
    integers::decode_into(rest, times)?;
    for time in times.iter_mut() {
        *time = first.wrapping_add(time.wrapping_mul(nanos));
    }
    if !times.is_sorted_by(|a, b| a < b) {
        return Err(Corrupt::new("the times of a chunk do not ascend"));
    }
    Ok(())
}

/// `dense` are the values of the rows that have one; `present` says which, or that all have.
pub(crate) fn encode_column(rows: usize, dense: &Values, present: Option<&Bitmap>, out: &mut Vec<u8>) {
    let start = begin(dense.field_type() as u8, rows, out);
    match present {
        None => {
            assert_eq!(dense.len(), rows, "bug: a column without gaps has a value in every row");
            Bitmap::encode_ones(out);
        }
        Some(present) => {
            assert_eq!(present.len(), rows, "bug: presence has a bit for every row");
            assert_eq!(present.count_ones(), dense.len(), "bug: presence counts the values");
            present.encode(out);
        }
    }
    match dense {
        Values::Float(values) => encode_floats(values, out),
        Values::Int(values) => integers::plan(values).write(out),
        Values::UInt(values) => {
            let values: Vec<i64> = values.iter().map(|value| *value as i64).collect();
            integers::plan(&values).write(out);
        }
        Values::Bool(values) => Bitmap::of(values.iter().copied()).encode(out),
        Values::Str(values) | Values::Binary(values) => {
            let numbers = text::encode_dictionary(values.iter(), out);
            integers::plan(&numbers).write(out);
        }
    }
    end(start, out);
}

/// Appends the column's rows.
pub(crate) fn decode_column(bytes: &[u8], joined: &mut Joined) -> Result<()> {
    let (kind, rows, mut rest) = open(bytes)?;
    let kind = FieldType::from_byte(kind).ok_or(Corrupt::new("a column has an unknown kind"))?;
    if Bitmap::take_ones(&mut rest) {
        // The common case goes straight to its place.
        return match kind {
            FieldType::Int => integers::decode_into(rest, joined.ints(rows)?),
            kind => joined.add(decode_dense(kind, rest, rows)?),
        };
    }
    let present = Bitmap::decode(&mut rest, rows)?;
    let dense = decode_dense(kind, rest, present.count_ones())?;
    joined.add_sparse(dense, present)
}

/// The values of the rows that have one.
fn decode_dense(kind: FieldType, mut rest: &[u8], count: usize) -> Result<Values> {
    Ok(match kind {
        FieldType::Float => Values::Float(decode_floats(rest, count)?),
        FieldType::Int => Values::Int(integers::decode(rest, count)?),
        FieldType::UInt => {
            // Collected in place: both are eight bytes.
            Values::UInt(integers::decode(rest, count)?.into_iter().map(|value| value as u64).collect())
        }
        FieldType::Bool => {
            let bits = Bitmap::decode(&mut rest, count)?;
            if !rest.is_empty() {
                return Err(Corrupt::new("a column is longer than its rows"));
            }
            Values::Bool(bits.iter().collect())
        }
        FieldType::Str => {
            let words = text::decode_dictionary(&mut rest)?;
            if words.iter().any(|word| std::str::from_utf8(word).is_err()) {
                return Err(Corrupt::new("a string is not UTF-8"));
            }
            Values::Str(text::look_up(&words, &integers::decode(rest, count)?)?)
        }
        FieldType::Binary => {
            let words = text::decode_dictionary(&mut rest)?;
            Values::Binary(text::look_up(&words, &integers::decode(rest, count)?)?)
        }
    })
}

/// Which codec the times or a column are in, for people.
pub fn describe(bytes: &[u8]) -> Result<String> {
    let (kind, rows, mut rest) = open(bytes)?;
    let integers = |rest: &[u8]| {
        let codec = rest.first().and_then(|byte| IntCodec::from_byte(*byte));
        codec.map(IntCodec::name).ok_or(Corrupt::new("a column has an unknown integer codec"))
    };
    if kind == KIND_TIMES {
        let unit = Unit::from_code(varint::take_u8(&mut rest)?);
        varint::take_i64(&mut rest)?;
        return Ok(format!("{} in {unit:?}", integers(rest)?).to_lowercase());
    }
    Bitmap::decode(&mut rest, rows)?;
    Ok(match (FieldType::from_byte(kind), rest) {
        (Some(FieldType::Float), [FLOAT_XOR, ..]) => "xor".to_owned(),
        (Some(FieldType::Float), [FLOAT_DECIMAL, exponent, rest @ ..]) => {
            format!("{} of decimals, {exponent} digits", integers(rest)?)
        }
        (Some(FieldType::Float), [FLOAT_BITS, rest @ ..]) => format!("{} of bits", integers(rest)?),
        (Some(FieldType::Int | FieldType::UInt), rest) => integers(rest)?.to_owned(),
        (Some(FieldType::Bool), _) => "bitmap".to_owned(),
        (Some(FieldType::Str | FieldType::Binary), _) => {
            let words = text::decode_dictionary(&mut rest)?;
            format!("{} of {} words", integers(rest)?, words.len())
        }
        _ => return Err(Corrupt::new("a column has an unknown kind or codec")),
    })
}

fn encode_floats(values: &[f64], out: &mut Vec<u8>) {
    let xor_size = 1 + floats::stream_bits(values).div_ceil(8);
    if let Some((exponent, decimals)) = decimal::scale(values) {
        let plan = integers::plan(&decimals);
        if plan.size < xor_size {
            out.extend([FLOAT_DECIMAL, exponent]);
            plan.write(out);
            return;
        }
    } else {
        let bits: Vec<i64> = values.iter().map(|value| value.to_bits() as i64).collect();
        let plan = integers::plan_noise(&bits);
        if plan.size < xor_size {
            out.push(FLOAT_BITS);
            plan.write(out);
            return;
        }
    }
    out.push(FLOAT_XOR);
    let mut stream = FloatStream::default();
    values.iter().for_each(|value| stream.push(*value));
    stream.write_to(out);
}

fn decode_floats(mut rest: &[u8], count: usize) -> Result<Vec<f64>> {
    match varint::take_u8(&mut rest)? {
        FLOAT_XOR => floats::decode(rest, count),
        FLOAT_DECIMAL => {
            let exponent = varint::take_u8(&mut rest)?;
            decimal::unscale(&integers::decode(rest, count)?, exponent)
        }
        FLOAT_BITS => {
            let bits = integers::decode(rest, count)?;
            Ok(bits.into_iter().map(|bits| f64::from_bits(bits as u64)).collect())
        }
        _ => Err(Corrupt::new("a column has an unknown float codec")),
    }
}

/// Kind and rows. Returns where the column starts.
fn begin(kind: u8, rows: usize, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.push(kind);
    out.extend((rows as u16).to_le_bytes());
    start
}

fn end(start: usize, out: &mut Vec<u8>) {
    let crc = crc32c::crc32c(out.get(start..).unwrap_or_default());
    out.extend(crc.to_le_bytes());
}

/// Checks a column and takes its frame off: kind, rows, and what lies between rows and checksum.
fn open(bytes: &[u8]) -> Result<(u8, usize, &[u8])> {
    let (body, crc) =
        bytes.split_last_chunk::<CRC_BYTES>().ok_or(Corrupt::new("a column is shorter than its checksum"))?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(Corrupt::new("a column has a wrong checksum"));
    }
    let mut rest = body;
    let kind = varint::take_u8(&mut rest)?;
    let rows = usize::from(u16::from_le_bytes(varint::take_array(&mut rest)?));
    if rows == 0 || rows > CHUNK_ROWS_MAX {
        return Err(Corrupt::new("a column has no rows or too many"));
    }
    Ok((kind, rows, rest))
}
