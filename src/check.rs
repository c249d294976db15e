//! A data folder looked at as a whole, offline: is everything there, and is it what was written?
//!
//! Invariant: looking changes nothing, whatever is found; [`repair`] takes nothing away without leaving it, or a copy of
//! it, in the folder `damaged`, with a text that says why.
//! Not here: which lock the folder needs, and how findings are shown (`cli`).

mod blocks; // every block against the manifest and itself
mod log; // every record, and whether any are missing
mod rebuild; // a manifest from what blocks say about themselves
mod repair; // damaged files set aside, the rest kept
mod rollups; // stored states against raw points

use std::sync::Arc;

use storage_format::manifest::{BlockEntry, Manifest, VERSION};

use crate::clock::Clock;
use crate::db::MANIFEST;
use crate::disk::{Disk, ReadOnly};
use crate::error::{Error, Kind, Result};

pub use rebuild::of_blocks;
pub use repair::repair;

/// Where files go that a repair takes away.
pub const ASIDE: &str = "damaged";

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub subject: Subject,
    /// As a person would type it.
    pub file: String,
    pub offset: u64,
    pub what: String,
    pub cure: &'static str,
}

/// What a finding is about, for the repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Manifest,
    Block(BlockEntry),
    /// Part of the log segment of this number.
    Segment(u64),
    /// Segments of these numbers, the last included, are not there.
    Gap {
        from: u64,
        to: u64,
    },
    /// The log begins with this sequence, and should begin earlier.
    Beginning {
        seq: u64,
    },
    Rollup {
        database: String,
        name: String,
    },
    /// Nothing that a repair could do without making it worse.
    Other,
    /// No damage: what a crash may leave, or what is not ours.
    Leftover,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub blocks: u64,
    pub block_bytes: u64,
    pub rows: u64,
    pub segments: u64,
    pub log_bytes: u64,
    /// Batches and deletes in the log.
    pub records: u64,
    pub rollups: u64,
    /// Buckets of one group each that were recomputed.
    pub states: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Report {
    pub damage: Vec<Finding>,
    /// Worth knowing, but nothing is lost by it and nothing needs to be done.
    pub notes: Vec<Finding>,
    pub counts: Counts,
}

impl Report {
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }

    fn add(&mut self, finding: Finding) {
        match finding.subject {
            Subject::Leftover => self.notes.push(finding),
            _ => self.damage.push(finding),
        }
    }
}

/// Told how far the work is: what is being done, how much of it is done, and all of it.
pub type Watch<'a> = &'a mut (dyn FnMut(&str, u64, u64) + Send);

pub struct Options {
    /// Also recompute every rollup from raw points.
    pub rollups: bool,
}

/// Looks at everything. Err only if the folder is none of ours, is of a newer version, or cannot be listed.
pub fn check(
    disk: &Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
    options: &Options,
    watch: Watch<'_>,
) -> Result<Report> {
    // What looking at the log as a start would cleans up stays hidden from here on, and only from here.
    let disk: Arc<dyn Disk> = Arc::new(ReadOnly::new(Arc::clone(disk)));
    let mut report = Report::default();
    let manifest = match read_manifest(&*disk)? {
        Ok(manifest) => Some(manifest),
        Err(finding) => {
            report.add(finding);
            None
        }
    };
    if let Some(manifest) = &manifest {
        statements(&*disk, manifest, &mut report);
    }
    blocks::check(&disk, manifest.as_ref(), &mut report, watch)?;
    log::check(&disk, manifest.as_ref(), &mut report, watch)?;
    leftovers(&*disk, manifest.as_ref(), &mut report)?;
    if let (true, true, Some(manifest)) = (options.rollups, report.is_sound(), &manifest) {
        rollups::check(&disk, clock, manifest, &mut report, watch)?;
    }
    Ok(report)
}

/// The manifest, or what is wrong with it.
fn read_manifest(disk: &dyn Disk) -> Result<Result<Manifest, Finding>> {
    let listed = |source| Error::io("list", disk.describe(""), source);
    let damaged = |offset, what: String| {
        Ok(Err(Finding {
            subject: Subject::Manifest,
            file: disk.describe(MANIFEST),
            offset,
            what,
            cure: "restore the folder from a backup; --repair makes a manifest from what the blocks say about themselves, \
                   without deletes that no block has seen yet, without rollups and retention",
        }))
    };
    if !disk.list("").map_err(listed)?.iter().any(|file| file == MANIFEST) {
        if crate::blocks::files(disk).map_err(listed)?.is_empty() {
            return Err(Error::rejected(
                Kind::NotFound,
                "no_data_folder",
                format!("{} is no data folder: it has neither a manifest nor blocks", disk.describe("")),
            ));
        }
        return damaged(0, "it is missing, but there are blocks".to_string());
    }
    let bytes = match disk.open(MANIFEST).and_then(|file| file.read_at(0, file.len() as usize)) {
        Ok(bytes) => bytes,
        Err(error) => return damaged(0, format!("it cannot be read: {error}")),
    };
    if let Some(version) = Manifest::version(&bytes).filter(|version| *version > VERSION) {
        return Err(Error::rejected(
            Kind::Conflict,
            "newer_format",
            format!(
                "{} is of version {version} and this waterclock reads up to version {VERSION}; check it with the newer one",
                disk.describe(MANIFEST)
            ),
        ));
    }
    match Manifest::decode(&bytes) {
        Ok(manifest) => Ok(Ok(manifest)),
        Err(damage) => damaged(damage.offset, damage.what.to_string()),
    }
}

/// What the manifest keeps as text must still mean something.
fn statements(disk: &dyn Disk, manifest: &Manifest, report: &mut Report) {
    let mut add = |what: String| {
        report.add(Finding {
            subject: Subject::Other,
            file: disk.describe(MANIFEST),
            offset: 0,
            what,
            cure: "this is a bug of waterclock or a manifest written by hand; restore the folder from a backup",
        });
    };
    for tombstone in &manifest.tombstones {
        if let Err(error) = crate::db::parse_delete(&tombstone.database, &tombstone.statement, tombstone.seq)
        {
            add(format!("the delete {} cannot be understood: {error}", tombstone.statement));
        }
    }
    if let Err(error) = crate::db::restored_rollups(manifest) {
        add(error.to_string());
    }
}

/// Files that belong to nothing.
fn leftovers(disk: &dyn Disk, manifest: Option<&Manifest>, report: &mut Report) -> Result<()> {
    let listed = |source| Error::io("list", disk.describe(""), source);
    let mut note = |name: &str, what: &str| {
        report.add(Finding {
            subject: Subject::Leftover,
            file: disk.describe(name),
            offset: 0,
            what: what.to_string(),
            cure: "",
        });
    };
    let ours = ["LOCK", MANIFEST, crate::db::BACKUP_MARK];
    for file in disk.list("").map_err(listed)?.iter().filter(|file| !ours.contains(&file.as_str())) {
        let what = if file == "manifest.new" {
            "a manifest that was never finished; the next commit replaces it"
        } else {
            "no file of a data folder"
        };
        note(file, what);
    }
    let log = manifest.map_or(storage_format::manifest::LOG_FOLDER, Manifest::log_folder);
    for folder in disk.list_folders("").map_err(listed)? {
        if folder == ASIDE {
            note(&folder, "what an earlier repair has set aside");
        } else if folder != crate::blocks::FOLDER && folder != log {
            note(&folder, "no folder that the manifest names");
        }
    }
    let Some(manifest) = manifest else { return Ok(()) };
    let named: std::collections::HashSet<&str> =
        manifest.blocks.iter().map(|entry| entry.file.as_str()).collect();
    for file in crate::blocks::files(disk).map_err(listed)? {
        if !named.contains(file.as_str()) {
            let name = format!("{}/{file}", crate::blocks::FOLDER);
            note(
                &name,
                "a block that the manifest does not name, left by a crash; the next start removes it",
            );
        }
    }
    Ok(())
}
