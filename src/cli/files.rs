//! Parquet files asked by themselves, with no server and no data folder.
//!
//! The database's own blocks are read where they are. The points of other files are copied into a folder among the
//! temporary ones, which is gone when the answer is there.
//! Invariant: the files are only looked at; among files that hold the same point the later one named wins.
//! Not here: which columns are what (`import`), and the serving (`folder`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_format::manifest::BlockEntry;

use crate::blocks::{self, FOLDER};
use crate::check;
use crate::cli::client::{Client, DEFAULT_DATABASE};
use crate::cli::import::{FilePoints, Mapping, is_block, parquet_points};
use crate::cli::{folder, settings};
use crate::clock::SystemClock;
use crate::db::{Db, FlushScope, Lines, RemoteWrite, write_manifest};
use crate::disk::{Disk, LocalDisk};
use crate::error::{Error, Kind, Result};
use crate::ingest::line_protocol::Precision;
use crate::ingest::remote_write::Version;

pub struct Opened {
    pub client: Client,
    /// Where the tables are.
    pub database: String,
    /// What was left out of the files.
    pub notes: Vec<String>,
    /// Gone with this.
    _scratch: Scratch,
}

/// A folder of its own.
struct Scratch(PathBuf);

/// Lines that stand in memory before they become a block.
const FLUSH_BYTES: usize = 64 << 20;

/// Below the folder of blocks, where links to the files are.
const LINKS: &str = "files/points";

/// `asked` is the database that the caller names.
pub fn open(files: &[PathBuf], mapping: &Mapping, asked: &str) -> Result<Opened> {
    let scratch = Scratch::new()?;
    let disk: Arc<dyn Disk> = Arc::new(LocalDisk::open(&scratch.0)?);
    // A block is a block under its own names; the caller may want others.
    let says_otherwise = mapping.says_names();
    let mut entries: Vec<BlockEntry> = Vec::new();
    let mut others: Vec<&PathBuf> = Vec::new();
    for file in files {
        if !is_block(file)? || says_otherwise {
            others.push(file);
            continue;
        }
        let name = format!("{LINKS}/file-{:016x}.parquet", entries.len() + 1);
        link(&disk, &scratch.0, file, &name)?;
        entries.push(blocks::entry_of(&disk, &name)?);
    }
    let database = database(&entries, asked)?;
    write_manifest(&*disk, &check::of_blocks(&disk, entries)?)?;
    let config = settings::load(None, vec![("data_dir".to_string(), scratch.0.display().to_string())])?;
    let db = Db::open(disk, Arc::new(SystemClock::new()), config)?;
    let mut notes = Vec::new();
    for file in others {
        let mut waiting = 0;
        notes.extend(parquet_points(file, mapping, |points| {
            let (refused, bytes) = write(&db, &database, points)?;
            if let Some(why) = refused {
                return Err(Error::invalid("file", format!("{}: {why}", file.display())));
            }
            waiting += bytes;
            if waiting >= FLUSH_BYTES {
                db.flush(FlushScope::All)?;
                waiting = 0;
            }
            Ok(())
        })?);
    }
    let client = folder::serve(db, "files".to_string())?;
    Ok(Opened { client, database, notes, _scratch: scratch })
}

/// Why some of them were refused, and how much was written.
fn write(db: &Db, database: &str, points: FilePoints<'_>) -> Result<(Option<String>, usize)> {
    match points {
        FilePoints::Lines(body) => {
            let lines = Lines { database, body, precision: Precision::Nanos, accept_partial: true };
            let written = db.write_lines_now(&lines)?;
            Ok((written.errors.into_iter().next().map(|error| error.what), body.len()))
        }
        FilePoints::Samples(message) => {
            let request = RemoteWrite { database, message: &message, version: Version::V1 };
            let written = db.write_samples_now(&request)?;
            Ok((written.refused.reasons.into_iter().next(), message.len()))
        }
    }
}

/// A name for the file in the folder of blocks.
fn link(disk: &Arc<dyn Disk>, root: &Path, file: &Path, name: &str) -> Result<()> {
    let failed = |source| Error::io("open", file.display().to_string(), source);
    let whole = file.canonicalize().map_err(failed)?;
    disk.create_folder(&format!("{FOLDER}/{LINKS}")).map_err(failed)?;
    std::os::unix::fs::symlink(whole, root.join(FOLDER).join(name)).map_err(failed)
}

/// That of the blocks; the one that was asked for where they do not say it, or several.
fn database(entries: &[BlockEntry], asked: &str) -> Result<String> {
    let mut found: Vec<&str> = entries.iter().map(|entry| entry.database.as_str()).collect();
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [] => Ok(asked.to_string()),
        [one] if asked == DEFAULT_DATABASE => Ok((*one).to_string()),
        some if some.contains(&asked) => Ok(asked.to_string()),
        some => {
            let why = format!(
                "the files are of the databases {}; --db says which of them is asked",
                some.join(", ")
            );
            Err(Error::rejected(Kind::Invalid, "database", why))
        }
    }
}

impl Scratch {
    fn new() -> Result<Scratch> {
        let parent = std::env::temp_dir();
        let named = |number: u32| parent.join(format!("waterclock-{}-{number}", std::process::id()));
        for folder in (0..100).map(named) {
            match std::fs::create_dir(&folder) {
                Ok(()) => return Ok(Scratch(folder)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(Error::io("create", folder.display().to_string(), source)),
            }
        }
        Err(Error::io(
            "create a folder in",
            parent.display().to_string(),
            std::io::ErrorKind::AlreadyExists.into(),
        ))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is where temporary things are cleared away.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
