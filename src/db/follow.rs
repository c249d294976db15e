//! More than one server over the same files: one that writes, any number that only read.
//!
//! Where other machines can reach the files, a writer takes over at its start: it raises the manifest's epoch, on condition
//! that nobody else has replaced the manifest meanwhile. Whoever wrote before finds at its next commit, or at its next look
//! at the manifest, that the condition fails, and takes no writes from then on. A follower takes the manifest as it is,
//! looks again every `follow_every`, and swaps what is readable as a whole.
//! Invariant: what a follower answers is the state of one commit. What waits in the writer's memory, it does not know.
//! Not here: conditions on an object (`disk`), the order of an opening (`open`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use storage_format::manifest::{Manifest, WriterEntry};

use crate::db::manifest::{MANIFEST, write_manifest};
use crate::db::open::{live_of, manifest_of, restore_names};
use crate::db::{Core, Db};
use crate::disk::Disk;
use crate::error::{Error, Kind, Result};

/// The manifest as it was at the last look.
pub(super) struct Look {
    bytes: Bytes,
    commit: u64,
    checked: Duration,
    changed: Duration,
}

/// What `/health` says of a follower.
#[derive(Clone, Copy, Debug)]
pub struct Following {
    pub commit: u64,
    /// Since the manifest was last found to be the newest.
    pub checked: Duration,
    /// Since a newer one was found.
    pub changed: Duration,
}

/// The first block number of an epoch: a writer that has been replaced without knowing it cannot make a block under a
/// name that the next one uses.
const EPOCH_SHIFT: u32 = 40;

/// One past the last block number that an epoch uses.
pub(super) fn blocks_end(epoch: u64) -> u64 {
    (epoch + 1) << EPOCH_SHIFT
}

/// Makes this process the writer. The manifest was read by it, so the put fails if another one was faster.
pub(super) fn take_over(disk: &dyn Disk, manifest: &mut Manifest, writer: WriterEntry) -> Result<()> {
    if manifest.log.is_some() {
        return Err(Error::rejected(
            Kind::Conflict,
            "backup_in_bucket",
            format!(
                "{} is a backup, with its log in the bucket, which a server cannot write to; restore it first: waterclock restore {} DIR",
                disk.describe(""),
                disk.describe("")
            ),
        ));
    }
    let last = manifest.writer.as_ref();
    let log = manifest.log_folder().to_string();
    let segments = disk.list(&log).map_err(|source| Error::io("list", disk.describe(&log), source))?;
    if !segments.is_empty() && last.is_none_or(|last| last.log != writer.log) {
        return Err(Error::rejected(
            Kind::Conflict,
            "log_of_another_time",
            format!(
                "the log in {} does not go on from {}, which {} has written since; it may hold points that are nowhere else: serve its \
                 folder alone (--data-dir with the folder that contains it) to see them, then give --wal-dir an empty folder",
                disk.describe(&log),
                disk.describe(MANIFEST),
                last.map_or("nobody".to_string(), describe),
            ),
        ));
    }
    manifest.epoch += 1;
    manifest.commit += 1;
    manifest.next_block = manifest.next_block.max(manifest.epoch << EPOCH_SHIFT);
    manifest.writer = Some(writer);
    write_manifest(disk, manifest).map_err(|error| match is_overtaken(&error) {
        true => Error::rejected(
            Kind::Conflict,
            "another_writer",
            format!(
                "another waterclock has taken over {} at the same moment; stop one of the two, or start this one with --read-only",
                disk.describe("")
            ),
        ),
        false => error,
    })?;
    tracing::info!(
        epoch = manifest.epoch,
        "writing to {}; points that are not in a block yet are as durable as this machine's disk ({})",
        disk.describe(""),
        disk.describe(manifest.log_folder()),
    );
    Ok(())
}

pub(super) fn is_overtaken(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists)
}

fn describe(writer: &WriterEntry) -> String {
    format!("{} (process {})", writer.host, writer.process)
}

/// Why a follower changes nothing, and who does.
pub(super) fn only_reads(disk: &dyn Disk, writer: Option<&WriterEntry>) -> Error {
    let writer = writer.map_or("the server that writes there".to_string(), describe);
    Error::rejected(
        Kind::Forbidden,
        "read_only",
        format!(
            "this server only reads {} (--read-only) and changes nothing; send this to {writer}",
            disk.describe("")
        ),
    )
}

impl Look {
    pub fn new(bytes: Bytes, commit: u64, now: Duration) -> Look {
        Look { bytes, commit, checked: now, changed: now }
    }
}

impl Db {
    /// None for a server that writes.
    pub fn following(&self) -> Option<Following> {
        let look = self.core.look.as_ref()?.lock();
        let now = self.core.clock.elapsed();
        Some(Following {
            commit: look.commit,
            checked: now.saturating_sub(look.checked),
            changed: now.saturating_sub(look.changed),
        })
    }

    /// Whether anybody else may replace the manifest.
    pub fn shares_manifest(&self) -> bool {
        self.core.look.is_some() || self.core.disk.writer().is_some()
    }

    /// Looks at the manifest: a follower takes what is new, a writer finds out whether it still is the one.
    pub fn look(&self) -> Result<()> {
        self.core.look()
    }
}

impl Core {
    /// Err if nothing may be changed here.
    pub(super) fn check_writable(&self) -> Result<()> {
        match &*self.refusal.read() {
            Some(refusal) => Err(refusal.duplicate()),
            None => Ok(()),
        }
    }

    pub(super) fn look(&self) -> Result<()> {
        let read = || {
            self.disk.read(MANIFEST).map_err(|source| Error::io("read", self.disk.describe(MANIFEST), source))
        };
        let Some(look) = &self.look else {
            // Not in the middle of a commit of one's own.
            let _commits = self.commits.lock();
            return self.check_epoch(&manifest_of(&*self.disk, &read()?)?);
        };
        let mut look = look.lock();
        let bytes = read()?;
        let now = self.clock.elapsed();
        if bytes != look.bytes {
            let manifest = manifest_of(&*self.disk, &bytes)?;
            restore_names(&self.registry, &manifest)?;
            let live = live_of(&self.store, &self.registry, &manifest)?;
            *self.refusal.write() = Some(only_reads(&*self.disk, manifest.writer.as_ref()));
            *self.live.write() = live;
            *look = Look::new(bytes, manifest.commit, now);
        }
        look.checked = now;
        Ok(())
    }

    /// Ends writing for good if the manifest is another writer's.
    fn check_epoch(&self, manifest: &Manifest) -> Result<()> {
        let own = self.epoch.as_ref().is_none_or(|own| *own == (manifest.epoch, manifest.writer.clone()));
        if own {
            return Ok(());
        }
        let by = manifest.writer.as_ref().map_or("another waterclock".to_string(), describe);
        let error = Error::rejected(
            Kind::Unavailable,
            "writer_replaced",
            format!(
                "writes are refused since {by} has taken over {} (epoch {}); send them there. What this server acknowledged after its \
                 last commit is only in its log, {}",
                self.disk.describe(""),
                manifest.epoch,
                self.disk.describe(manifest.log_folder()),
            ),
        );
        let mut refusal = self.refusal.write();
        if refusal.is_none() {
            tracing::error!("{error}");
            *refusal = Some(error.duplicate());
        }
        Err(error)
    }

    /// A commit has failed: if another writer was the reason, that is what to say.
    pub(super) fn after_failed_commit(&self, error: Error) -> Error {
        if !is_overtaken(&error) {
            return error;
        }
        let found = self
            .disk
            .read(MANIFEST)
            .map_err(|source| Error::io("read", self.disk.describe(MANIFEST), source));
        match found.and_then(|bytes| self.check_epoch(&manifest_of(&*self.disk, &bytes)?)) {
            Err(said) => said,
            Ok(()) => error,
        }
    }
}

/// A database that only reads what another server writes.
pub(super) fn first_look(disk: &Arc<dyn Disk>) -> Result<(Manifest, Bytes)> {
    let bytes = disk.read(MANIFEST).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::rejected(
            Kind::NotFound,
            "nothing_to_follow",
            format!("there is no {}; start the server that writes there first", disk.describe(MANIFEST)),
        ),
        _ => Error::io("read", disk.describe(MANIFEST), source),
    })?;
    Ok((manifest_of(&**disk, &bytes)?, bytes))
}
