//! The log: every record sound, in sequence, none missing in between.
//!
//! It is read by the same code as at a start, so what is said here is what a start would find.

use std::sync::Arc;

use storage_format::manifest::{LOG_FOLDER, Manifest, TombstoneEntry};
use storage_format::wal::{SEGMENT_HEADER_BYTES, decode_segment_header};

use crate::check::{Finding, Report, Subject, Watch};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::series::Registry;
use crate::wal::{self, segment_name, segment_number};

const CURE: &str = "nothing brings back what these bytes held but a backup; a start passes over them, and --repair takes them \
                    out and keeps a copy of the segment";

pub(super) fn check(
    disk: &Arc<dyn Disk>,
    manifest: Option<&Manifest>,
    report: &mut Report,
    watch: Watch<'_>,
) -> Result<()> {
    let folder = manifest.map_or(LOG_FOLDER, Manifest::log_folder);
    let lengths = lengths(&**disk, folder)?;
    let all = lengths.iter().map(|(_, bytes)| bytes).sum();
    report.counts.segments = lengths.len() as u64;
    report.counts.log_bytes = all;
    watch("log", 0, all);
    let mut last_seq = 0;
    let mut disorder = Vec::new();
    let replayed = wal::replay(&**disk, folder, &Registry::default(), |entry| {
        let sequences = match entry {
            wal::Entry::Points(batches) => batches.iter().map(|(seq, _)| *seq).collect(),
            wal::Entry::Delete(seq, _) => vec![seq],
        };
        for seq in sequences {
            if seq <= last_seq {
                disorder.push(seq);
            }
            last_seq = seq;
        }
        Ok(())
    });
    watch("log", all, all);
    let replayed = match replayed {
        Ok(replayed) => replayed,
        Err(error) => {
            let (file, offset, what) = match error {
                Error::Corrupt { file, offset, what } => (file, offset, what),
                Error::Io { file, source, .. } => (file, 0, format!("it cannot be read: {source}")),
                other => return Err(other),
            };
            // A start stops here, too, and so does a repair: it must not take away what only cannot be read today.
            let cure = "mend the disk or use the newer waterclock, then check again";
            report.add(Finding { subject: Subject::Other, file, offset, what, cure });
            return Ok(());
        }
    };
    for damage in &replayed.damage {
        let number = damage.file.rsplit('/').next().and_then(segment_number).unwrap_or_default();
        report.add(Finding {
            subject: Subject::Segment(number),
            file: damage.file.clone(),
            offset: damage.offset,
            what: format!("{} ({} bytes)", damage.what, damage.bytes),
            cure: CURE,
        });
    }
    report.counts.records = replayed.batches + replayed.deletes;
    if let Some(seq) = disorder.first() {
        report.add(Finding {
            subject: Subject::Other,
            file: disk.describe(folder),
            offset: 0,
            what: format!("sequence {seq} comes after a higher one: segments were put here from elsewhere"),
            cure: "restore the folder from a backup",
        });
    }
    torn_tail(&**disk, folder, &lengths, &replayed, report);
    names(&**disk, folder, &lengths, report);
    gaps(&**disk, folder, manifest, &replayed, report);
    Ok(())
}

/// The segments' numbers and lengths.
fn lengths(disk: &dyn Disk, folder: &str) -> Result<Vec<(u64, u64)>> {
    let files = disk.list(folder).map_err(|source| Error::io("list", disk.describe(folder), source))?;
    let numbers = files.iter().filter_map(|file| segment_number(file));
    let mut lengths: Vec<(u64, u64)> = numbers
        .map(|number| {
            let length = disk.open(&segment_name(folder, number)).map_or(0, |file| file.len());
            (number, length)
        })
        .collect();
    lengths.sort_unstable();
    Ok(lengths)
}

fn torn_tail(
    disk: &dyn Disk,
    folder: &str,
    lengths: &[(u64, u64)],
    replayed: &wal::Replayed,
    report: &mut Report,
) {
    let (Some((number, length)), Some(kept)) = (lengths.last(), replayed.torn) else { return };
    report.add(Finding {
        subject: Subject::Leftover,
        file: disk.describe(&segment_name(folder, *number)),
        offset: kept,
        what: format!(
            "the last {} bytes are a write that was never acknowledged; the next start cuts them off",
            length - kept
        ),
        cure: "",
    });
}

/// A segment under another's name would be read at the wrong time.
fn names(disk: &dyn Disk, folder: &str, lengths: &[(u64, u64)], report: &mut Report) {
    for (number, _) in lengths.iter().filter(|(_, length)| *length >= SEGMENT_HEADER_BYTES as u64) {
        let name = segment_name(folder, *number);
        let Ok(header) = disk.open(&name).and_then(|file| file.read_at(0, SEGMENT_HEADER_BYTES)) else {
            continue;
        };
        match decode_segment_header(&header) {
            Ok(told) if told != *number => report.add(Finding {
                subject: Subject::Other,
                file: disk.describe(&name),
                offset: 0,
                what: format!("it is segment {told} by its header"),
                cure: "give it back its name, or restore the folder from a backup",
            }),
            _ => {}
        }
    }
}

/// Sequences follow one another without gaps, so a gap between segments that are not neighbours is a lost segment.
fn gaps(
    disk: &dyn Disk,
    folder: &str,
    manifest: Option<&Manifest>,
    replayed: &wal::Replayed,
    report: &mut Report,
) {
    let mut add = |subject, number: u64, what: String| {
        report.add(Finding {
            subject,
            file: disk.describe(&segment_name(folder, number)),
            offset: 0,
            what,
            cure: "put the segments back if they are somewhere; else --repair notes that they are lost",
        });
    };
    let mut last: Option<(u64, u64)> = None;
    for segment in replayed.segments.iter().filter(|segment| segment.seq_min <= segment.seq_max) {
        let next_seq = segment.seq_min;
        match last {
            Some((number, seq)) if next_seq > seq + 1 => {
                // An empty one stands for what a repair has noted.
                let is_there = |number: &u64| replayed.segments.iter().any(|other| other.number == *number);
                let absent = (number + 1..segment.number).filter(|number| !is_there(number));
                let absent: Vec<u64> = absent.collect();
                if let (Some(from), Some(to)) = (absent.first().copied(), absent.last().copied()) {
                    let which = if from == to {
                        "it is missing".to_string()
                    } else {
                        format!("it and those up to {to:016x} are missing")
                    };
                    let what = format!("{which}, with the sequences {} to {}", seq + 1, next_seq - 1);
                    add(Subject::Gap { from, to }, from, what);
                }
            }
            None => {
                if let Some(manifest) = manifest.filter(|manifest| next_seq > manifest.seq + 1) {
                    let what = format!(
                        "segments before it are missing, with the sequences {} to {}, which are in no block either",
                        manifest.seq + 1,
                        next_seq - 1
                    );
                    add(Subject::Beginning { seq: next_seq }, segment.number, what);
                }
            }
            Some(_) => {}
        }
        last = Some((segment.number, segment.seq_max));
    }
}

/// The deletes that the log holds, for a manifest that has lost its own.
pub(super) fn deletes(disk: &dyn Disk, folder: &str) -> Result<Vec<TombstoneEntry>> {
    let mut deletes = Vec::new();
    wal::replay(disk, folder, &Registry::default(), |entry| {
        if let wal::Entry::Delete(seq, delete) = entry {
            deletes.push(TombstoneEntry {
                database: delete.database.to_string(),
                statement: delete.statement.to_string(),
                seq,
            });
        }
        Ok(())
    })?;
    Ok(deletes)
}
