//! Reading the log back after a start.
//!
//! Invariant: every sound record is handed on, in sequence order, with its numbers translated to this process's, and is
//! on disk for good when [`replay`] returns. A torn tail of the last segment is cut off; all other damage is named by file and offset, passed over, and reading
//! goes on behind it. A segment of a newer version stops the start: skipping it would lose points silently.
//! Not here: which rows are in blocks already (the caller knows).

use std::collections::HashMap;
use std::sync::Arc;

use storage_format::corrupt::{self, Corrupt};
use storage_format::point::FieldType;
use storage_format::varint;
use storage_format::wal::{self as format, Definition, Points, Step};

use crate::batch::{Batch, BatchPart};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::series::{Registry, Table};
use crate::wal::{SegmentInfo, segment_name, segment_number};

/// What the log held and how it goes on.
#[derive(Debug, Default)]
pub struct Replayed {
    pub next_seq: u64,
    pub next_number: u64,
    pub segments: Vec<SegmentInfo>,
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

/// What a record means to the engine.
pub enum Entry<'a> {
    Points(Batch),
    Delete(format::Delete<'a>),
}

pub fn replay(
    disk: &dyn Disk,
    folder: &str,
    registry: &Registry,
    mut each: impl FnMut(u64, Entry<'_>) -> Result<()>,
) -> Result<Replayed> {
    let files = disk.list(folder).map_err(|source| Error::io("list", disk.describe(folder), source))?;
    let mut numbers: Vec<u64> = files.iter().filter_map(|file| segment_number(file)).collect();
    numbers.sort_unstable();
    let mut replayed = Replayed { next_seq: 1, next_number: 1, ..Replayed::default() };
    for number in &numbers {
        let last = Some(number) == numbers.last();
        replay_segment(disk, folder, registry, *number, last, &mut replayed, &mut each)?;
        replayed.next_number = number + 1;
    }
    if !numbers.is_empty() {
        let synced = disk.sync_folder(folder);
        synced.map_err(|source| Error::io("sync", disk.describe(folder), source))?;
    }
    Ok(replayed)
}

fn replay_segment(
    disk: &dyn Disk,
    folder: &str,
    registry: &Registry,
    number: u64,
    last: bool,
    replayed: &mut Replayed,
    each: &mut impl FnMut(u64, Entry<'_>) -> Result<()>,
) -> Result<()> {
    let name = segment_name(folder, number);
    let file = disk.describe(&name);
    let read = || disk.open(&name).and_then(|opened| opened.read_at(0, opened.len() as usize));
    let segment = read().map_err(|source| Error::io("read", &file, source))?;
    let damage = |offset, next: u64, what| Damage { file: file.clone(), offset, bytes: next - offset, what };
    match format::decode_segment_header(&segment) {
        Ok(_) => {}
        // The server died while it made the segment: nothing in it was ever acknowledged.
        Err(_) if last && segment.len() <= format::SEGMENT_HEADER_BYTES => {
            disk.remove(&name).map_err(|source| Error::io("remove", &file, source))?;
            return Ok(());
        }
        Err(error) if error.what.contains("newer version") => return Err(Error::corrupt(file, error)),
        Err(error) => replayed.damage.push(damage(0, format::SEGMENT_HEADER_BYTES as u64, error.what)),
    }
    let mut names = Names { registry, tables: HashMap::new() };
    let mut info = SegmentInfo { number, bytes: segment.len() as u64, seq_min: u64::MAX, seq_max: 0 };
    for step in format::Records::new(&segment) {
        let record = match step {
            Step::Record(record) => record,
            Step::Damage { offset, next } => {
                replayed.damage.push(damage(offset, next, "these bytes are no record"));
                continue;
            }
            Step::Torn { offset } if last => {
                tracing::info!(%file, offset, "a write that was never acknowledged is cut off the log");
                info.bytes = offset;
                break;
            }
            Step::Torn { offset } => {
                replayed.damage.push(damage(offset, segment.len() as u64, "these bytes are no record"));
                break;
            }
        };
        let end = record.offset + (format::RECORD_HEADER_BYTES + record.body.len()) as u64;
        let outcome = match record.kind {
            format::Kind::Definitions => names.define(record.body).map(|()| None),
            format::Kind::Points => names.points(record.body).map(|(seq, lost, batch)| {
                if lost > 0 {
                    let what = "some points belong to series that the damage before took away";
                    replayed.damage.push(damage(record.offset, record.offset, what));
                }
                replayed.batches += 1;
                replayed.rows += batch.rows() as u64;
                Some((seq, Entry::Points(batch)))
            }),
            format::Kind::Delete => {
                replayed.deletes += 1;
                format::Delete::decode(record.body).map(|delete| Some((delete.seq, Entry::Delete(delete))))
            }
        };
        match outcome {
            Ok(None) => {}
            Ok(Some((seq, entry))) => {
                info.seq_min = info.seq_min.min(seq);
                info.seq_max = info.seq_max.max(seq);
                replayed.next_seq = replayed.next_seq.max(seq + 1);
                each(seq, entry)?;
            }
            Err(error) => replayed.damage.push(damage(record.offset, end, error.what)),
        }
    }
    if last {
        // The process may have died between a write and its fsync; from now on these points can be read.
        disk.truncate(&name, info.bytes).map_err(|source| Error::io("sync", &file, source))?;
    }
    replayed.segments.push(info);
    Ok(())
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
    fn define(&mut self, body: &[u8]) -> corrupt::Result<()> {
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
                    let id = known.table.series_or_new(&tags, usize::MAX);
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
    fn points(&mut self, body: &[u8]) -> corrupt::Result<(u64, usize, Batch)> {
        let mut rest = body;
        let seq = u64::from_le_bytes(varint::take_array(&mut rest)?);
        let mut batch = Batch::default();
        let mut lost = 0;
        while !rest.is_empty() {
            let (table, mut points) = Points::decode(&mut rest, |table, column| {
                Some(self.tables.get(&table)?.columns.get(&column)?.1)
            })?;
            let known = self.known(table)?;
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
            batch.parts.push(BatchPart { table: Arc::clone(&known.table), points });
        }
        Ok((seq, lost, batch))
    }
}
