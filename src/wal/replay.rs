//! Reading the log back after a start.
//!
//! Invariant: every sound record is handed on, in sequence order, with its numbers translated to this process's, and is
//! on disk for good when [`replay`] returns. A torn tail of the last segment is cut off; all other damage is named by file and offset, passed over, and reading
//! goes on behind it. A segment of a newer version stops the start: skipping it would lose points silently.
//! Not here: which rows are in blocks already (the caller knows).

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;
use storage_format::corrupt::{self, Corrupt};
use storage_format::point::FieldType;
use storage_format::varint;
use storage_format::wal::{self as format, Definition, Points, Record, Records, Step};

use crate::batch::{Batch, BatchPart};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::series::{Pin, Registry, Table};
use crate::wal::{SegmentInfo, segment_name, segment_number};

/// What the log held and how it goes on.
#[derive(Debug, Default)]
pub struct Replayed {
    pub next_seq: u64,
    pub next_number: u64,
    pub segments: Vec<SegmentInfo>,
    /// Where the last segment had the rest of a write that was never acknowledged.
    pub torn: Option<u64>,
    pub damage: Vec<Damage>,
    pub batches: u64,
    pub deletes: u64,
    pub rows: u64,
}

/// Bytes that are no record, or a record that says what cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub file: String,
    pub offset: u64,
    /// Bytes passed over.
    pub bytes: u64,
    pub what: &'static str,
}

/// What records mean to the engine.
pub enum Entry<'a> {
    /// Batches that follow each other, with their sequences.
    Points(&'a [(u64, Batch)]),
    Delete(u64, format::Delete<'a>),
}

/// Bytes of records that are decoded together: enough work for all processors, and little memory beside the segment.
const WINDOW_BYTES: usize = 8 << 20;

pub fn replay(
    disk: &dyn Disk,
    folder: &str,
    registry: &Registry,
    mut each: impl FnMut(Entry<'_>) -> Result<()> + Send,
) -> Result<Replayed> {
    let files = disk.list(folder).map_err(|source| Error::io("list", disk.describe(folder), source))?;
    let mut numbers: Vec<u64> = files.iter().filter_map(|file| segment_number(file)).collect();
    numbers.sort_unstable();
    let mut replayed = Replayed { next_seq: 1, next_number: 1, ..Replayed::default() };
    let mut next = numbers.first().map(|number| read_segment(disk, folder, *number));
    for (at, number) in numbers.iter().enumerate() {
        let segment = next.take().unwrap_or_else(|| read_segment(disk, folder, *number))?;
        let last = at + 1 == numbers.len();
        // The disk works on the next one while the processors work on this one.
        let (outcome, ahead) = rayon::join(
            || replay_segment(disk, folder, registry, *number, &segment, last, &mut replayed, &mut each),
            || numbers.get(at + 1).map(|number| read_segment(disk, folder, *number)),
        );
        outcome?;
        next = ahead;
        replayed.next_number = number + 1;
    }
    if !numbers.is_empty() {
        let synced = disk.sync_folder(folder);
        synced.map_err(|source| Error::io("sync", disk.describe(folder), source))?;
    }
    Ok(replayed)
}

fn read_segment(disk: &dyn Disk, folder: &str, number: u64) -> Result<bytes::Bytes> {
    let name = segment_name(folder, number);
    let read = || disk.open(&name).and_then(|opened| opened.read_at(0, opened.len() as usize));
    read().map_err(|source| Error::io("read", disk.describe(&name), source))
}

fn replay_segment(
    disk: &dyn Disk,
    folder: &str,
    registry: &Registry,
    number: u64,
    segment: &[u8],
    last: bool,
    replayed: &mut Replayed,
    each: &mut impl FnMut(Entry<'_>) -> Result<()>,
) -> Result<()> {
    let name = segment_name(folder, number);
    let file = disk.describe(&name);
    let damage = |offset, next: u64, what| Damage { file: file.clone(), offset, bytes: next - offset, what };
    match format::decode_segment_header(segment) {
        Ok(_) => {}
        // The server died while it made the segment: nothing in it was ever acknowledged.
        Err(_) if last && (segment.len() <= format::SEGMENT_HEADER_BYTES || format::is_room(segment)) => {
            disk.remove(&name).map_err(|source| Error::io("remove", &file, source))?;
            replayed.torn = Some(0);
            return Ok(());
        }
        Err(error) if error.what.contains("newer version") => return Err(Error::corrupt(file, error)),
        Err(error) => replayed.damage.push(damage(0, format::SEGMENT_HEADER_BYTES as u64, error.what)),
    }
    let damage_before = replayed.damage.len();
    let info = SegmentInfo { number, bytes: segment.len() as u64, seq_min: u64::MAX, seq_max: 0 };
    let mut reading = Reading { replayed, info, file: file.clone(), each };
    let mut names = Names { registry, tables: HashMap::new() };
    let pin = registry.pin();
    let mut window: Vec<Record<'_>> = Vec::new();
    let mut window_bytes = 0;
    for step in Records::new(segment) {
        let record = match step {
            Step::Record(record) => record,
            Step::Damage { offset, next } => {
                reading.replayed.damage.push(damage(offset, next, "these bytes are no record"));
                continue;
            }
            Step::Room { offset } => {
                reading.info.bytes = offset;
                break;
            }
            Step::Torn { offset } if last => {
                tracing::info!(%file, offset, "a write that was never acknowledged is cut off the log");
                reading.info.bytes = offset;
                reading.replayed.torn = Some(offset);
                break;
            }
            Step::Torn { offset } => {
                let end = segment.len() as u64;
                reading.replayed.damage.push(damage(offset, end, "these bytes are no record"));
                break;
            }
        };
        match record.kind {
            // Numbers mean one thing in a segment, so definitions may come earlier than they stand.
            format::Kind::Definitions => {
                if let Err(error) = names.define(record.body, &pin) {
                    reading.damaged(&record, error.what);
                }
            }
            format::Kind::Points | format::Kind::PointsSomeLate => {
                window_bytes += record.body.len();
                window.push(record);
                if window_bytes >= WINDOW_BYTES {
                    reading.points(&window, &names)?;
                    window.clear();
                    window_bytes = 0;
                }
            }
            format::Kind::Delete => {
                reading.points(&window, &names)?;
                window.clear();
                window_bytes = 0;
                match format::Delete::decode(record.body) {
                    Ok(delete) => {
                        reading.replayed.deletes += 1;
                        reading.note(delete.seq);
                        (reading.each)(Entry::Delete(delete.seq, delete))?;
                    }
                    Err(error) => reading.damaged(&record, error.what),
                }
            }
        }
    }
    reading.points(&window, &names)?;
    let info = reading.info;
    replayed.damage[damage_before..].sort_by_key(|damage| damage.offset);
    if last {
        // The process may have died between a write and its fsync; from now on these points can be read.
        disk.truncate(&name, info.bytes).map_err(|source| Error::io("sync", &file, source))?;
    }
    replayed.segments.push(info);
    Ok(())
}

/// A segment on its way.
struct Reading<'a, F> {
    replayed: &'a mut Replayed,
    info: SegmentInfo,
    file: String,
    each: &'a mut F,
}

impl<F: FnMut(Entry<'_>) -> Result<()>> Reading<'_, F> {
    /// Decodes points records in parallel and hands them on together.
    fn points(&mut self, window: &[Record<'_>], names: &Names<'_>) -> Result<()> {
        let decoded: Vec<_> = window.par_iter().map(|record| names.points(record)).collect();
        let mut batches = Vec::with_capacity(window.len());
        for (record, outcome) in window.iter().zip(decoded) {
            match outcome {
                Ok((seq, lost, batch)) => {
                    if lost > 0 {
                        self.replayed.damage.push(Damage {
                            file: self.file.clone(),
                            offset: record.offset,
                            bytes: 0,
                            what: "some points belong to series that the damage before took away",
                        });
                    }
                    self.replayed.batches += 1;
                    self.replayed.rows += batch.rows() as u64;
                    self.note(seq);
                    batches.push((seq, batch));
                }
                Err(error) => self.damaged(record, error.what),
            }
        }
        if batches.is_empty() { Ok(()) } else { (self.each)(Entry::Points(&batches)) }
    }

    fn note(&mut self, seq: u64) {
        self.info.seq_min = self.info.seq_min.min(seq);
        self.info.seq_max = self.info.seq_max.max(seq);
        self.replayed.next_seq = self.replayed.next_seq.max(seq + 1);
    }

    fn damaged(&mut self, record: &Record<'_>, what: &'static str) {
        let bytes = (format::RECORD_HEADER_BYTES + record.body.len()) as u64;
        self.replayed.damage.push(Damage { file: self.file.clone(), offset: record.offset, bytes, what });
    }
}

/// The segment's numbers, translated to the registry's.
struct Names<'a> {
    registry: &'a Registry,
    tables: HashMap<u32, Known>,
}

struct Known {
    table: Arc<Table>,
    columns: HashMap<u32, (u32, FieldType)>,
    series: HashMap<u32, u32>,
}

impl Names<'_> {
    fn define(&mut self, body: &[u8], pin: &Pin) -> corrupt::Result<()> {
        let mut rest = body;
        while !rest.is_empty() {
            match format::decode_definition(&mut rest)? {
                Definition::Table { table, database, name } => {
                    let database = self.registry.database_or_new(database);
                    let known = self.registry.table_or_new(&database, name);
                    let known = Known { table: known, columns: HashMap::new(), series: HashMap::new() };
                    self.tables.insert(table, known);
                }
                Definition::Column { table, column, field_type, name } => {
                    let known = self.known(table)?;
                    let id = known.table.restore_column(name, field_type);
                    if known.table.column_types().get(id as usize) != Some(&field_type) {
                        return Err(Corrupt::new("a field has another type than before"));
                    }
                    known.columns.insert(column, (id, field_type));
                }
                Definition::Series { table, series, tags } => {
                    let known = self.known(table)?;
                    // A limit lowered since then refuses new series, not logged ones.
                    let id = known.table.series_or_new(&tags, usize::MAX, pin);
                    let id = id.map_err(|_| Corrupt::new("a series has no number"))?;
                    known.series.insert(series, id);
                }
            }
        }
        Ok(())
    }

    fn known(&mut self, table: u32) -> corrupt::Result<&mut Known> {
        self.tables.get_mut(&table).ok_or(Corrupt::new("a table is not defined"))
    }

    /// The sequence, how many rows were lost for want of a definition, and the batch.
    fn points(&self, record: &Record<'_>) -> corrupt::Result<(u64, usize, Batch)> {
        let mut rest = record.body;
        let seq = u64::from_le_bytes(varint::take_array(&mut rest)?);
        let mut batch = Batch::default();
        let mut lost = 0;
        while !rest.is_empty() {
            let some_late = record.kind == format::Kind::PointsSomeLate;
            let late = some_late && varint::take_u8(&mut rest)? != 0;
            let (table, mut points) = Points::decode(&mut rest, |table, column| {
                Some(self.tables.get(&table)?.columns.get(&column)?.1)
            })?;
            let known = self.tables.get(&table).ok_or(Corrupt::new("a table is not defined"))?;
            for column in points.layouts.iter_mut().flatten() {
                *column = known.columns[column].0;
            }
            let before = points.rows.len();
            points.rows.retain_mut(|row| match known.series.get(&row.series) {
                Some(series) => {
                    row.series = *series;
                    true
                }
                None => false,
            });
            lost += before - points.rows.len();
            batch.parts.push(BatchPart { table: Arc::clone(&known.table), points, late });
        }
        Ok((seq, lost, batch))
    }
}
