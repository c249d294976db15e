//! Damaged files set aside, the rest kept.
//!
//! Invariant: first a copy stands in `damaged`, durably, then the manifest changes, then the original goes; a crash in
//! between leaves a folder that is no worse, and the next repair goes on. A file that cannot be read is moved instead.
//! What becomes of rollups: one that has lost states computes them again, where retention has left the points for it. One
//! whose points are lost must say what the points that are left say, so those buckets are dirty; its states of before,
//! which may be all that is left of the points, are copied to `damaged` first, where any Parquet reader opens them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, Write};
use std::sync::Arc;

use storage_format::block::BlockKind;
use storage_format::manifest::{BlockEntry, Manifest, RollupEntry};
use storage_format::point::{FieldType, TimeRange};
use storage_format::varint;
use storage_format::wal::{self as format, Definition, Points, Record, Records, Step};

use crate::blocks::{FOLDER, TableKey};
use crate::check::{ASIDE, Report, Subject, rebuild};
use crate::db::{MANIFEST, restored_rollups, write_manifest};
use crate::disk::{Disk, ReadFile};
use crate::error::{Error, Result};
use crate::wal::segment_name;

/// Mends what the report names as far as that can be done. Says what it did, a sentence each.
pub fn repair(disk: &Arc<dyn Disk>, report: &Report) -> Result<Vec<String>> {
    let mut work = Work { disk, done: Vec::new(), gone: BTreeSet::new() };
    let subjects = || report.damage.iter().map(|finding| &finding.subject);
    let mut manifest = match subjects().any(|subject| *subject == Subject::Manifest) {
        true => rebuild::manifest(&mut work)?,
        false => read_manifest(&**disk)?,
    };
    let folder = manifest.log_folder().to_string();
    let segments: BTreeSet<u64> = subjects()
        .filter_map(|subject| match subject {
            Subject::Segment(number) => Some(*number),
            _ => None,
        })
        .collect();
    for number in segments {
        let said = report.damage.iter().filter(|finding| finding.subject == Subject::Segment(number));
        let why: Vec<String> =
            said.map(|finding| format!("damaged at byte {}: {}", finding.offset, finding.what)).collect();
        work.mend_segment(&folder, number, &why.join("\n"))?;
    }
    for finding in &report.damage {
        match &finding.subject {
            Subject::Gap { from, to } => work.fill_gap(&folder, *from, *to, &finding.what)?,
            Subject::Beginning { seq } => {
                manifest.seq = manifest.seq.max(seq - 1);
                work.done.push(format!("{}: noted that it is the first of the log", finding.file));
            }
            _ => {}
        }
    }
    work.forget_blocks(&mut manifest, report)?;
    manifest.commit += 1;
    write_manifest(&**disk, &manifest)?;
    for file in std::mem::take(&mut work.gone) {
        match disk.remove(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", disk.describe(&file), error));
            }
            _ => {}
        }
    }
    Ok(work.done)
}

fn read_manifest(disk: &dyn Disk) -> Result<Manifest> {
    let read = || disk.open(MANIFEST).and_then(|file| file.read_at(0, file.len() as usize));
    let bytes = read().map_err(|source| Error::io("read", disk.describe(MANIFEST), source))?;
    Manifest::decode(&bytes).map_err(|damage| Error::corrupt(disk.describe(MANIFEST), damage))
}

pub(super) struct Work<'a> {
    pub disk: &'a Arc<dyn Disk>,
    pub done: Vec<String>,
    /// Files whose copies stand aside, to be removed once no manifest names them.
    gone: BTreeSet<String>,
}

impl Work<'_> {
    fn io(&self, doing: &'static str, name: &str) -> impl FnOnce(io::Error) -> Error {
        let file = self.disk.describe(name);
        move |source| Error::io(doing, file, source)
    }

    /// Copies a file to the folder of damaged ones, with a text beside it. False if it is not there.
    pub fn keep_copy(&mut self, name: &str, why: &str) -> Result<bool> {
        let disk = self.disk;
        let file = match disk.open(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(self.io("open", name)(source)),
        };
        let kept = self.free_name(name)?;
        // What cannot be read can still be moved.
        let copied = match is_readable(&*file) {
            true => disk.copy(&**disk, name, file.len(), &kept),
            false => disk.rename(name, &kept),
        };
        copied.map_err(self.io("copy", name))?;
        self.write_why(&kept, &format!("{}\n{why}\n", disk.describe(name)))?;
        Ok(true)
    }

    /// Copies it, and has it removed at the end.
    pub fn set_aside(&mut self, name: &str, why: &str) -> Result<()> {
        let file = self.disk.describe(name);
        let copied = self.keep_copy(name, why)?;
        self.done.push(match copied {
            true => format!("{file}: set aside in {ASIDE}/"),
            false => format!("{file}: no longer named by the manifest"),
        });
        self.gone.insert(name.to_string());
        Ok(())
    }

    /// A name below the folder of damaged files that nothing has yet.
    fn free_name(&self, name: &str) -> Result<String> {
        let whole = format!("{ASIDE}/{name}");
        let (folder, file) = whole.rsplit_once('/').unwrap_or_default();
        self.disk.create_folder(folder).map_err(self.io("create", folder))?;
        let taken = self.disk.list(folder).map_err(self.io("list", folder))?;
        let mut free = file.to_string();
        let mut number = 1;
        while taken.iter().any(|other| *other == free || *other == format!("{free}.txt")) {
            number += 1;
            free = format!("{file}.{number}");
        }
        Ok(format!("{folder}/{free}"))
    }

    fn write_why(&self, kept: &str, why: &str) -> Result<()> {
        let name = format!("{kept}.txt");
        let folder = kept.rsplit_once('/').map(|(folder, _)| folder).unwrap_or_default();
        self.write(&name, why.as_bytes())?;
        self.disk.sync_folder(folder).map_err(self.io("sync", folder))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let write = || {
            let mut file = self.disk.create(name)?;
            file.write_all(bytes)?;
            file.flush()?;
            file.sync()
        };
        write().map_err(self.io("write", name))
    }

    /// Takes damaged blocks out of the manifest, and says to the rollups what that means for them.
    fn forget_blocks(&mut self, manifest: &mut Manifest, report: &Report) -> Result<()> {
        let mut lost: Vec<(BlockEntry, String)> = Vec::new();
        for finding in &report.damage {
            if let Subject::Block(entry) = &finding.subject
                && manifest.blocks.contains(entry)
                && !lost.iter().any(|(known, _)| known == entry)
            {
                lost.push((entry.clone(), format!("damaged at byte {}: {}", finding.offset, finding.what)));
            }
        }
        let wrong: HashSet<(&str, &str)> = report
            .damage
            .iter()
            .filter_map(|finding| match &finding.subject {
                Subject::Rollup { database, name } => Some((database.as_str(), name.as_str())),
                _ => None,
            })
            .collect();
        if lost.is_empty() && wrong.is_empty() {
            return Ok(());
        }
        let mut rollups = restored_rollups(manifest)?;
        for (entry, why) in &lost {
            self.set_aside(&format!("{FOLDER}/{}", entry.file), why)?;
            match entry.kind {
                BlockKind::Points => {
                    let of_table = |rollup: &&mut crate::rollup::Rollup| {
                        *rollup.database == *entry.database && rollup.info.table == entry.table
                    };
                    for rollup in rollups.iter_mut().filter(of_table) {
                        let (database, name) = (rollup.database.to_string(), rollup.info.name.clone());
                        self.keep_states(manifest, &database, &name, entry)?;
                        rollup.mark_range(entry.time.into(), manifest.seq);
                        self.done.push(format!(
                            "rollup {name}: its buckets over the lost points are computed again"
                        ));
                    }
                    // What of the lost points the log still has is read from there: later ones follow it there, so the
                    // last write still wins.
                    let partition = TimeRange::from(entry.partition);
                    manifest.flushed.retain(|flushed| {
                        flushed.database != entry.database
                            || flushed.table != entry.table
                            || !partition.contains(flushed.partition)
                    });
                }
                BlockKind::Rollup => {
                    let key = TableKey {
                        kind: BlockKind::Rollup,
                        database: entry.database.as_str().into(),
                        table: entry.table.as_str().into(),
                    };
                    if let Some(rollup) = rollups.of_key_mut(&key) {
                        rollup.lose(entry.time.into(), manifest.seq);
                    }
                    self.done.push(format!(
                        "rollup {}: the lost states are computed again where their points are still kept",
                        entry.table
                    ));
                }
            }
        }
        for (database, name) in wrong {
            if let Some(rollup) = rollups.get_mut(database, name) {
                rollup.mark_range(TimeRange::ALL, manifest.seq);
            }
            self.done.push(format!("rollup {name}: all of it is computed again"));
        }
        let gone = &self.gone;
        manifest.blocks.retain(|entry| !gone.contains(&format!("{FOLDER}/{}", entry.file)));
        manifest.rollups =
            rollups.iter().map(|rollup| rollup.entry(None, None)).collect::<Vec<RollupEntry>>();
        Ok(())
    }

    /// Copies the blocks of a rollup that may hold states of lost points.
    fn keep_states(
        &mut self,
        manifest: &Manifest,
        database: &str,
        name: &str,
        lost: &BlockEntry,
    ) -> Result<()> {
        let time = TimeRange::from(lost.partition);
        let of_rollup = manifest.blocks.iter().filter(|entry| {
            entry.kind == BlockKind::Rollup
                && entry.database == database
                && entry.table == name
                && TimeRange::from(entry.partition).overlaps(time)
        });
        for entry in of_rollup {
            let why = format!(
                "sound; the states of rollup {name} as they were before the points in {} were lost",
                lost.file
            );
            self.keep_copy(&format!("{FOLDER}/{}", entry.file), &why)?;
        }
        Ok(())
    }

    /// Writes the segment again without what is damaged. The segment as it was stays in the folder of damaged files.
    fn mend_segment(&mut self, folder: &str, number: u64, why: &str) -> Result<()> {
        let name = segment_name(folder, number);
        let read = || self.disk.open(&name).and_then(|file| file.read_at(0, file.len() as usize));
        let bytes = read().map_err(self.io("read", &name))?;
        self.keep_copy(&name, why)?;
        let mended = mended(&bytes, number);
        let temporary = format!("{name}.new");
        self.write(&temporary, &mended)?;
        self.disk.rename(&temporary, &name).map_err(self.io("rename", &temporary))?;
        self.disk.sync_folder(folder).map_err(self.io("sync", folder))?;
        self.done.push(format!(
            "{}: {} bytes taken out, the segment as it was is in {ASIDE}/",
            self.disk.describe(&name),
            bytes.len().saturating_sub(mended.len())
        ));
        Ok(())
    }

    /// Empty segments in the place of lost ones say that the loss is known.
    fn fill_gap(&mut self, folder: &str, from: u64, to: u64, what: &str) -> Result<()> {
        for number in from..=to {
            let name = segment_name(folder, number);
            let mut header = Vec::new();
            format::encode_segment_header(&mut header, number);
            let kept = self.free_name(&name)?;
            self.write_why(&kept, &format!("{}\n{what}\n", self.disk.describe(&name)))?;
            let temporary = format!("{name}.new");
            self.write(&temporary, &header)?;
            self.disk.rename(&temporary, &name).map_err(self.io("rename", &temporary))?;
        }
        self.disk.sync_folder(folder).map_err(self.io("sync", folder))?;
        self.done.push(format!("{}: noted that it is lost", self.disk.describe(&segment_name(folder, from))));
        Ok(())
    }
}

fn is_readable(file: &dyn ReadFile) -> bool {
    const PIECE_BYTES: u64 = 1 << 20;
    let mut starts = (0..file.len()).step_by(PIECE_BYTES as usize);
    starts.all(|start| file.read_at(start, PIECE_BYTES.min(file.len() - start) as usize).is_ok())
}

/// What a segment's definitions mean, as far as they are there.
#[derive(Default)]
struct Defined {
    types: HashMap<u32, HashMap<u32, FieldType>>,
    series: HashSet<(u32, u32)>,
}

/// The sound records of a segment, and of points only those rows that something defines.
fn mended(bytes: &[u8], number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    format::encode_segment_header(&mut out, number);
    let mut defined = Defined::default();
    for step in Records::new(bytes) {
        let Step::Record(record) = step else { continue };
        match record.kind {
            format::Kind::Definitions if defined.add(record.body).is_some() => {
                format::encode_record(&mut out, record.kind, record.body);
            }
            format::Kind::Definitions => {}
            format::Kind::Points | format::Kind::PointsSomeLate => {
                if let Some(body) = defined.told(&record) {
                    format::encode_record(&mut out, record.kind, &body);
                }
            }
            format::Kind::Delete if format::Delete::decode(record.body).is_ok() => {
                format::encode_record(&mut out, record.kind, record.body);
            }
            format::Kind::Delete => {}
        }
    }
    out
}

impl Defined {
    /// None if a definition cannot be read, or names a table that is not defined.
    fn add(&mut self, body: &[u8]) -> Option<()> {
        let mut rest = body;
        while !rest.is_empty() {
            match format::decode_definition(&mut rest).ok()? {
                Definition::Table { table, .. } => drop(self.types.insert(table, HashMap::new())),
                Definition::Column { table, column, field_type, .. } => {
                    self.types.get_mut(&table)?.insert(column, field_type);
                }
                Definition::Series { table, series, .. } => {
                    self.types.get(&table)?;
                    self.series.insert((table, series));
                }
            }
        }
        Some(())
    }

    /// A points record without the rows of unknown series; None if nobody can tell what it holds.
    fn told(&self, record: &Record<'_>) -> Option<Vec<u8>> {
        let mut rest = record.body;
        let seq: [u8; 8] = varint::take_array(&mut rest).ok()?;
        let mut out = seq.to_vec();
        while !rest.is_empty() {
            if record.kind == format::Kind::PointsSomeLate {
                out.push(varint::take_u8(&mut rest).ok()?);
            }
            let types = |table: u32, column: u32| self.types.get(&table)?.get(&column).copied();
            let (table, mut points) = Points::decode(&mut rest, types).ok()?;
            let known = self.types.get(&table)?;
            points.rows.retain(|row| self.series.contains(&(table, row.series)));
            let columns = known.keys().max().map_or(0, |last| *last as usize + 1);
            // A column that no row names may be of any type.
            let types: Vec<FieldType> = (0..columns)
                .map(|column| known.get(&(column as u32)).copied().unwrap_or(FieldType::Float))
                .collect();
            points.encode(&mut out, table, &types);
        }
        Some(out)
    }
}
