//! The log: segment headers, framed records, and their bodies. FORMAT.md, "Log".
//!
//! Invariant: a record that [`Records`] yields has a matching checksum; everything else is named with its
//! offset. Numbers of tables, columns and series mean something inside one segment only.
//! Not here: files, fsync, sequence allocation, and what to do about damage (the engine's `wal`).

#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

mod points;

pub use points::{PointRow, Points, StrRef};

use crate::corrupt::{Corrupt, Result};
use crate::point::{FieldType, TagSet};
use crate::varint;

pub const VERSION: u8 = 1;
const MAGIC: &[u8; 5] = b"WCWAL";

/// Magic, version, number, checksum.
pub const SEGMENT_HEADER_BYTES: usize = 5 + 1 + 8 + 4;

/// Length, checksum, kind.
pub const RECORD_HEADER_BYTES: usize = 4 + 4 + 1;

/// No body is longer. A damaged length above it is known to be damage at once; the largest batch (a request
/// body of at most 256 MiB) stays far below, because a row is shorter in the log than as text.
pub const RECORD_BODY_BYTES_MAX: usize = 1 << 30;

pub fn encode_segment_header(out: &mut Vec<u8>, number: u64) {
    let start = out.len();
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&crc.to_le_bytes());
}

/// The segment's number.
pub fn decode_segment_header(bytes: &[u8]) -> Result<u64> {
    let mut rest = bytes;
    let covered =
        bytes.get(..SEGMENT_HEADER_BYTES - 4).ok_or(Corrupt::new("the segment header is cut off"))?;
    if varint::take_array::<5>(&mut rest)? != *MAGIC {
        return Err(Corrupt::new("this is not a log segment"));
    }
    let version = varint::take_u8(&mut rest)?;
    let number = u64::from_le_bytes(varint::take_array(&mut rest)?);
    if u32::from_le_bytes(varint::take_array(&mut rest)?) != crc32c::crc32c(covered) {
        return Err(Corrupt::new("the segment header fails its checksum"));
    }
    if version != VERSION {
        return Err(Corrupt::at("the log segment is of a newer version", 5));
    }
    Ok(number)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Definitions = 1,
    Points = 2,
    Delete = 3,
    PointsSomeLate = 4,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        const ALL: [Kind; 4] = [Kind::Definitions, Kind::Points, Kind::Delete, Kind::PointsSomeLate];
        ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

pub fn encode_record(out: &mut Vec<u8>, kind: Kind, body: &[u8]) {
    assert!(body.len() <= RECORD_BODY_BYTES_MAX, "bug: a log record is too long");
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&record_crc(kind as u8, body).to_le_bytes());
    out.push(kind as u8);
    out.extend_from_slice(body);
}

fn record_crc(kind: u8, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[kind]), body)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub kind: Kind,
    pub body: &'a [u8],
    /// Where the record begins in the segment.
    pub offset: u64,
}

/// One step through a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    Record(Record<'a>),
    /// The bytes `[offset, next)` are no record; reading went on at `next`, a sound one.
    Damage {
        offset: u64,
        next: u64,
    },
    /// No sound record follows `offset`, and the segment does not end there.
    Torn {
        offset: u64,
    },
    /// From `offset` on there are zeros only, where records may be written.
    Room {
        offset: u64,
    },
}

/// Walks the records after the header.
pub struct Records<'a> {
    segment: &'a [u8],
    offset: usize,
}

impl<'a> Records<'a> {
    pub fn new(segment: &'a [u8]) -> Records<'a> {
        Records { segment, offset: SEGMENT_HEADER_BYTES }
    }

    fn record_at(&self, offset: usize) -> Option<Record<'a>> {
        let mut rest = self.segment.get(offset..)?;
        let len = u32::from_le_bytes(varint::take_array(&mut rest).ok()?) as usize;
        let crc = u32::from_le_bytes(varint::take_array(&mut rest).ok()?);
        let byte = varint::take_u8(&mut rest).ok()?;
        let body = rest.get(..len).filter(|_| len <= RECORD_BODY_BYTES_MAX)?;
        let kind = Kind::from_byte(byte)?;
        (record_crc(byte, body) == crc).then_some(Record { kind, body, offset: offset as u64 })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Step<'a>;

    fn next(&mut self) -> Option<Step<'a>> {
        let offset = self.offset;
        if offset >= self.segment.len() {
            return None;
        }
        if let Some(record) = self.record_at(offset) {
            self.offset += RECORD_HEADER_BYTES + record.body.len();
            return Some(Step::Record(record));
        }
        if self.segment.get(offset..).is_some_and(is_room) {
            self.offset = self.segment.len();
            return Some(Step::Room { offset: offset as u64 });
        }
        match (offset + 1..self.segment.len()).find(|next| self.record_at(*next).is_some()) {
            Some(next) => {
                self.offset = next;
                Some(Step::Damage { offset: offset as u64, next: next as u64 })
            }
            None => {
                self.offset = self.segment.len();
                Some(Step::Torn { offset: offset as u64 })
            }
        }
    }
}

/// Whether these last bytes of a segment hold nothing yet.
pub fn is_room(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// What a number means for the rest of the segment.
#[derive(Clone, Debug, PartialEq)]
pub enum Definition<'a> {
    Table { table: u32, database: &'a str, name: &'a str },
    Column { table: u32, column: u32, field_type: FieldType, name: &'a str },
    Series { table: u32, series: u32, tags: TagSet },
}

pub fn encode_table(out: &mut Vec<u8>, table: u32, database: &str, name: &str) {
    out.push(1);
    varint::put_u64(out, u64::from(table));
    varint::put_bytes(out, database.as_bytes());
    varint::put_bytes(out, name.as_bytes());
}

pub fn encode_column(out: &mut Vec<u8>, table: u32, column: u32, field_type: FieldType, name: &str) {
    out.push(2);
    varint::put_u64(out, u64::from(table));
    varint::put_u64(out, u64::from(column));
    out.push(field_type as u8);
    varint::put_bytes(out, name.as_bytes());
}

pub fn encode_series(out: &mut Vec<u8>, table: u32, series: u32, tags: &TagSet) {
    out.push(3);
    varint::put_u64(out, u64::from(table));
    varint::put_u64(out, u64::from(series));
    tags.encode(out);
}

pub fn decode_definition<'a>(rest: &mut &'a [u8]) -> Result<Definition<'a>> {
    let tag = varint::take_u8(rest)?;
    let table = varint::take_u32(rest)?;
    Ok(match tag {
        1 => Definition::Table { table, database: varint::take_str(rest)?, name: varint::take_str(rest)? },
        2 => Definition::Column {
            table,
            column: varint::take_u32(rest)?,
            field_type: FieldType::from_byte(varint::take_u8(rest)?)
                .ok_or(Corrupt::new("a field type is unknown"))?,
            name: varint::take_str(rest)?,
        },
        3 => Definition::Series { table, series: varint::take_u32(rest)?, tags: TagSet::decode(rest)? },
        _ => return Err(Corrupt::new("a definition is of an unknown kind")),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delete<'a> {
    pub seq: u64,
    pub database: &'a str,
    pub statement: &'a str,
}

impl<'a> Delete<'a> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.seq.to_le_bytes());
        varint::put_bytes(out, self.database.as_bytes());
        varint::put_bytes(out, self.statement.as_bytes());
    }

    pub fn decode(body: &'a [u8]) -> Result<Delete<'a>> {
        let mut rest = body;
        Ok(Delete {
            seq: u64::from_le_bytes(varint::take_array(&mut rest)?),
            database: varint::take_str(&mut rest)?,
            statement: varint::take_str(&mut rest)?,
        })
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may fail loudly")]
mod tests;
