//! Which disk a location is: a folder, or a bucket.
//!
//! Invariant: whatever works with data or with a backup opens them here, so that each of them may be in either.
//! Not here: what a location looks like as text (`config`).

use std::path::Path;
use std::sync::Arc;

use crate::config::{Config, Location};
use crate::disk::{Disk, LocalDisk, ObjectDisk};
use crate::error::Result;

/// The data of a server that writes, or a restored one will: its settings say where.
pub fn data_to_write(config: &Config) -> Result<Arc<dyn Disk>> {
    Ok(match &config.server.data_dir {
        Location::Folder(folder) => Arc::new(LocalDisk::open(folder)?),
        Location::S3(location) => Arc::new(ObjectDisk::open(location, Some(&config.server.wal_dir), config)?),
    })
}

/// What another server writes.
pub fn data_to_follow(config: &Config) -> Result<Arc<dyn Disk>> {
    Ok(match &config.server.data_dir {
        Location::Folder(folder) => Arc::new(LocalDisk::open_to_follow(folder)?),
        Location::S3(location) => Arc::new(ObjectDisk::open(location, None, config)?),
    })
}

/// What a server that is not running has left. Of data in a bucket without `log_dir`, only what is in blocks.
pub fn data_to_read(location: &Location, log_dir: Option<&Path>, config: &Config) -> Result<Arc<dyn Disk>> {
    Ok(match location {
        Location::Folder(folder) => Arc::new(LocalDisk::open_to_read(folder)?),
        Location::S3(location) => Arc::new(ObjectDisk::open(location, log_dir, config)?),
    })
}

pub fn backup_to_write(location: &Location, config: &Config) -> Result<Arc<dyn Disk>> {
    Ok(match location {
        Location::Folder(folder) => Arc::new(LocalDisk::open(folder)?),
        Location::S3(location) => Arc::new(ObjectDisk::open_backup(location, config)?),
    })
}

pub fn backup_to_read(location: &Location, config: &Config) -> Result<Arc<dyn Disk>> {
    Ok(match location {
        Location::Folder(folder) => Arc::new(LocalDisk::open_to_read(folder)?),
        Location::S3(location) => Arc::new(ObjectDisk::open_backup(location, config)?),
    })
}
