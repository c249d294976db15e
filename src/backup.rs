//! A second folder with the same data, which `serve` and `check` open as it is, or the same in a bucket; and back.
//!
//! Invariant: the target's manifest is replaced last, as a whole. Until then everything that the manifest before it
//! names stays as it is, its log included, because each backup brings a log folder of its own; so a crash at any moment
//! leaves either the backup before or this one. A block that is there already is not copied again.
//! Not here: holding the source's files still (`db`), which disk a location is (`disk`).

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::Arc;

use storage_format::manifest::{BlockEntry, LOG_FOLDER, Manifest};

use crate::blocks::{self, FOLDER};
use crate::check::{self, Options, Report};
use crate::clock::Clock;
use crate::db::{BACKUP_MARK, Db, MANIFEST, write_manifest};
use crate::disk::{Disk, TEMPORARY};
use crate::error::{Error, Kind, Result};
use crate::wal::{Extent, segment_name, segment_number};

/// What a backup or a restore did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// That the manifest names.
    pub blocks: u64,
    /// Of those: there already.
    pub kept: u64,
    /// Of those: a second name of the same file.
    pub linked: u64,
    pub copied: u64,
    /// Blocks and log.
    pub copied_bytes: u64,
    pub log_bytes: u64,
    /// Blocks of earlier backups that this one no longer names.
    pub removed: u64,
}

/// Told how many bytes are done, and all of them; an error ends the work.
pub type Watch<'a> = &'a mut dyn FnMut(u64, u64) -> Result<()>;

/// A backup alternates between these, so that the one the manifest names is never touched.
const LOG_FOLDERS: [&str; 2] = ["wal-1", "wal-2"];

/// What is compared of a block that is there already: its footer holds the checksum of everything before it.
const ENDING_BYTES: u64 = 4 << 10;

const MARK_TEXT: &[u8] =
    b"This folder is a backup, made by `waterclock backup`, and the next one may replace what is in it.\n\
    Once a server has been started on it this file is gone, and no backup goes into it any more.\n";

/// Of a running database. Everything that was acknowledged before the call is in it.
pub fn online(db: &Db, target: &dyn Disk, watch: Watch<'_>) -> Result<Done> {
    let before = prepare(target)?;
    let snapshot = db.snapshot()?;
    let moment = Moment { disk: snapshot.disk(), manifest: &snapshot.manifest, log: &snapshot.log };
    replace(&moment, target, before.as_ref(), watch)
}

/// Of a folder that nobody uses.
pub fn offline(source: &dyn Disk, target: &dyn Disk, watch: Watch<'_>) -> Result<Done> {
    let before = prepare(target)?;
    let (manifest, log) = still(source)?;
    replace(&Moment { disk: source, manifest: &manifest, log: &log }, target, before.as_ref(), watch)
}

/// Makes a data folder from a backup, and looks at all of it.
pub fn restore(
    backup: &dyn Disk,
    target: &Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
    watch: Watch<'_>,
    check_watch: check::Watch<'_>,
) -> Result<(Done, Report)> {
    let files = entries(&**target)?;
    if !files.is_empty() {
        return Err(Error::rejected(
            Kind::Conflict,
            "not_empty",
            format!(
                "{} is not empty (it has {}); give a folder that is empty or does not exist",
                target.describe(""),
                files[0]
            ),
        ));
    }
    let (manifest, log) = still(backup)?;
    let moment = Moment { disk: backup, manifest: &manifest, log: &log };
    let done = copy_all(&moment, &**target, None, LOG_FOLDER, watch)?;
    write_manifest(&**target, &Manifest { log: None, writer: target.writer(), ..manifest })?;
    let report = check::check(target, clock, &Options { rollups: false }, check_watch)?;
    Ok((done, report))
}

/// Files that belong together.
struct Moment<'a> {
    disk: &'a dyn Disk,
    manifest: &'a Manifest,
    log: &'a Extent,
}

/// A folder that nobody uses, as it lies there.
fn still(disk: &dyn Disk) -> Result<(Manifest, Extent)> {
    let manifest = read_manifest(disk)?.ok_or_else(|| {
        Error::rejected(
            Kind::NotFound,
            "no_data_folder",
            format!("{} is neither a data folder nor a backup: it has no manifest", disk.describe("")),
        )
    })?;
    let folder = manifest.log_folder().to_string();
    let last = manifest.writer.as_ref();
    if disk.writer().is_some_and(|own| last.is_none_or(|last| last.log != own.log)) {
        return Err(Error::rejected(
            Kind::Conflict,
            "another_log",
            format!(
                "{} is not the log of the server that last wrote to {}; give --wal-dir the folder of that one, or leave it out \
                 for what is in blocks",
                disk.describe(&folder),
                disk.describe("")
            ),
        ));
    }
    let list = || -> io::Result<Vec<(u64, u64)>> {
        let numbers =
            disk.list(&folder)?.iter().filter_map(|file| segment_number(file)).collect::<BTreeSet<u64>>();
        numbers
            .into_iter()
            .map(|number| Ok((number, disk.open(&segment_name(&folder, number))?.len())))
            .collect()
    };
    let segments = list().map_err(|source| Error::io("list", disk.describe(&folder), source))?;
    Ok((manifest, Extent { folder, segments }))
}

fn read_manifest(disk: &dyn Disk) -> Result<Option<Manifest>> {
    match disk.read(MANIFEST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::io("read", disk.describe(MANIFEST), source)),
        Ok(bytes) => {
            let decoded = Manifest::decode(&bytes);
            decoded.map(Some).map_err(|damage| Error::corrupt(disk.describe(MANIFEST), damage))
        }
    }
}

/// What is there, but for the lock. The log may be elsewhere than the rest.
fn entries(disk: &dyn Disk) -> Result<Vec<String>> {
    let list = || -> io::Result<Vec<String>> {
        let mut names = disk.list("")?;
        names.extend(disk.list_folders("")?);
        if !disk.list(LOG_FOLDER)?.is_empty() {
            names.push(LOG_FOLDER.to_string());
        }
        names.retain(|name| name != "LOCK");
        Ok(names)
    };
    list().map_err(|source| Error::io("list", disk.describe(""), source))
}

/// Makes sure that the target is a backup, and gives the manifest of the one before. A folder with data of its own is
/// refused: a backup removes what it does not name.
fn prepare(target: &dyn Disk) -> Result<Option<Manifest>> {
    let mut names = entries(target)?;
    // One that was never finished says that nothing else has come yet.
    names.retain(|name| *name != format!("{BACKUP_MARK}.{TEMPORARY}"));
    let is_backup = names.iter().any(|name| name == BACKUP_MARK);
    if !names.is_empty() && !is_backup {
        return Err(Error::rejected(
            Kind::Conflict,
            "no_backup_folder",
            format!(
                "{} has files of its own and is no backup (or a server has been started on it since); give a folder that is \
                 empty, does not exist, or holds an earlier backup",
                target.describe("")
            ),
        ));
    }
    let mark = || -> io::Result<()> {
        if !is_backup {
            target.replace(BACKUP_MARK, MARK_TEXT)?;
        }
        target.sync_folder("")
    };
    mark().map_err(|source| Error::io("write", target.describe(BACKUP_MARK), source))?;
    // One that is damaged names nothing that would have to stay.
    Ok(read_manifest(target).unwrap_or_default())
}

fn replace(
    moment: &Moment<'_>,
    target: &dyn Disk,
    before: Option<&Manifest>,
    watch: Watch<'_>,
) -> Result<Done> {
    let named = before.map(Manifest::log_folder);
    let log =
        LOG_FOLDERS.into_iter().find(|folder| Some(*folder) != named).expect("two names, one of them taken");
    empty_folder(target, log)?;
    let mut done = copy_all(moment, target, before, log, watch)?;
    let manifest =
        Manifest { log: Some(log.to_string()), writer: target.writer(), ..moment.manifest.clone() };
    write_manifest(target, &manifest)?;
    // From here on failures cost space, not truth: the next backup tries again.
    let others = LOG_FOLDERS.into_iter().chain([LOG_FOLDER]).filter(|folder| *folder != log);
    others.into_iter().try_for_each(|folder| empty_folder(target, folder))?;
    let kept: HashSet<&str> = moment.manifest.blocks.iter().map(|entry| entry.file.as_str()).collect();
    let list = blocks::files(target).map_err(|source| Error::io("list", target.describe(FOLDER), source))?;
    for file in list.iter().filter(|file| !kept.contains(file.as_str())) {
        let name = format!("{FOLDER}/{file}");
        target.remove(&name).map_err(|source| Error::io("remove", target.describe(&name), source))?;
        done.removed += 1;
    }
    Ok(done)
}

/// Everything but the manifest, durably.
fn copy_all(
    moment: &Moment<'_>,
    target: &dyn Disk,
    before: Option<&Manifest>,
    log: &str,
    watch: Watch<'_>,
) -> Result<Done> {
    let mut done = Done { blocks: moment.manifest.blocks.len() as u64, ..Done::default() };
    let of_blocks: u64 = moment.manifest.blocks.iter().map(|entry| entry.bytes).sum();
    let of_log: u64 = moment.log.segments.iter().map(|(_, bytes)| bytes).sum();
    let (mut passed, all) = (0, of_blocks + of_log);
    watch(passed, all)?;
    let mut folders = BTreeSet::new();
    for entry in &moment.manifest.blocks {
        folders.insert(copy_block(moment, target, before, entry, &mut done)?);
        passed += entry.bytes;
        watch(passed, all)?;
    }
    if !moment.log.segments.is_empty() {
        target.create_folder(log).map_err(|source| Error::io("create", target.describe(log), source))?;
        folders.insert(log.to_string());
    }
    for (number, bytes) in &moment.log.segments {
        let (from, to) = (segment_name(&moment.log.folder, *number), segment_name(log, *number));
        let copied = target.copy(moment.disk, &from, *bytes, &to);
        copied.map_err(|source| Error::io("copy", moment.disk.describe(&from), source))?;
        done.copied_bytes += bytes;
        done.log_bytes += bytes;
        passed += bytes;
        watch(passed, all)?;
    }
    for folder in folders {
        target.sync_folder(&folder).map_err(|source| Error::io("sync", target.describe(&folder), source))?;
    }
    Ok(done)
}

/// Returns the block's folder, which has yet to be synced.
fn copy_block(
    moment: &Moment<'_>,
    target: &dyn Disk,
    before: Option<&Manifest>,
    entry: &BlockEntry,
    done: &mut Done,
) -> Result<String> {
    let name = format!("{FOLDER}/{}", entry.file);
    let folder = name.rsplit_once('/').map(|(folder, _)| folder.to_string()).unwrap_or_default();
    let failed = |doing: &'static str| {
        let file = moment.disk.describe(&name);
        move |source| Error::io(doing, file, source)
    };
    target.create_folder(&folder).map_err(failed("make a folder for"))?;
    let source = moment.disk.ending(&name, ENDING_BYTES).map_err(failed("open"))?;
    if source.0 != entry.bytes {
        let what = format!("it has {} bytes, and the manifest says {}", source.0, entry.bytes);
        return Err(Error::Corrupt { file: moment.disk.describe(&name), offset: source.0, what });
    }
    match target.ending(&name, ENDING_BYTES) {
        Ok(known) => {
            if known == source {
                done.kept += 1;
                return Ok(folder);
            }
            if before.is_some_and(|before| before.blocks.iter().any(|known| known.file == entry.file)) {
                return Err(Error::rejected(
                    Kind::Conflict,
                    "another_backup",
                    format!(
                        "{} is the backup of another database, or of another life of this one: its block {} is not the one of {}; \
                         give another folder",
                        target.describe(""),
                        entry.file,
                        moment.disk.describe("")
                    ),
                ));
            }
            // Left by a backup that was never finished.
            target.remove(&name).map_err(failed("replace the backup of"))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("open the backup of")(error)),
    }
    if target.link(moment.disk, &name, &name).map_err(failed("link"))? {
        done.linked += 1;
    } else {
        target.copy(moment.disk, &name, entry.bytes, &name).map_err(failed("copy"))?;
        done.copied += 1;
        done.copied_bytes += entry.bytes;
    }
    Ok(folder)
}

fn empty_folder(disk: &dyn Disk, folder: &str) -> Result<()> {
    let empty = || -> io::Result<()> {
        let files = disk.list(folder)?;
        if files.is_empty() {
            return Ok(());
        }
        files.iter().try_for_each(|file| disk.remove(&format!("{folder}/{file}")))?;
        disk.sync_folder(folder)
    };
    empty().map_err(|source| Error::io("empty", disk.describe(folder), source))
}
