//! One moment of the database, held still so that its files can be copied while everything goes on.
//!
//! Invariant: the manifest and the log's durable part, read under one lock, are a state that a crash at that moment would
//! have left, so what was acknowledged before is in it. As long as a [`Snapshot`] lives, none of its files goes.
//! Not here: copying (`backup`).

use std::sync::Arc;

use storage_format::manifest::Manifest;

use crate::blocks::BlockFile;
use crate::db::Db;
use crate::db::manifest::MANIFEST;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::wal::Extent;

/// Says that a folder is a backup, which another backup may replace. A start takes it away: from then on the folder has
/// data of its own.
pub const BACKUP_MARK: &str = "backup";

pub struct Snapshot<'a> {
    db: &'a Db,
    pub manifest: Manifest,
    pub log: Extent,
    /// Replaced blocks go when nobody holds them any more.
    _blocks: Vec<Arc<BlockFile>>,
}

impl Db {
    pub fn snapshot(&self) -> Result<Snapshot<'_>> {
        let core = &*self.core;
        // No commit between the two, and none may remove a file of the manifest before it is held.
        let _commits = core.commits.lock();
        let log = core.wal.lock().hold();
        // From here on the snapshot releases what it holds, also if this fails.
        let blocks = core.live.read().blocks.files();
        let mut snapshot = Snapshot { db: self, manifest: Manifest::default(), log, _blocks: blocks };
        let bytes = core
            .disk
            .read(MANIFEST)
            .map_err(|source| Error::io("read", core.disk.describe(MANIFEST), source))?;
        let decoded = Manifest::decode(&bytes);
        snapshot.manifest = decoded.map_err(|damage| Error::corrupt(core.disk.describe(MANIFEST), damage))?;
        Ok(snapshot)
    }
}

impl Snapshot<'_> {
    pub fn disk(&self) -> &dyn Disk {
        &*self.db.core.disk
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        self.db.core.wal.lock().release();
    }
}

pub(super) fn unmark(disk: &dyn Disk) -> Result<()> {
    let unmark = || {
        if disk.list("")?.iter().any(|file| file == BACKUP_MARK) {
            disk.remove(BACKUP_MARK)?;
            disk.sync_folder("")?;
        }
        Ok(())
    };
    unmark().map_err(|source| Error::io("remove", disk.describe(BACKUP_MARK), source))
}
