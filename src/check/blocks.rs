//! Every block that the manifest names: there, whole, itself, in order.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use rayon::prelude::*;
use storage_format::manifest::{BlockEntry, Manifest};
use storage_format::point::TimeRange;

use crate::blocks::{BlockFile, FOLDER};
use crate::check::{Finding, Report, Subject, Watch};
use crate::db::MANIFEST;
use crate::disk::Disk;
use crate::error::{Error, Result};

const CURE: &str = "restore the file from a backup, or let --repair set it aside and keep the rest";

pub(super) fn check(
    disk: &Arc<dyn Disk>,
    manifest: Option<&Manifest>,
    report: &mut Report,
    watch: Watch<'_>,
) -> Result<()> {
    let Some(manifest) = manifest else { return Ok(()) };
    entries(&**disk, manifest, report);
    let all = manifest.blocks.iter().map(|entry| entry.bytes).sum();
    let progress = Mutex::new((0, watch));
    let found: Vec<Finding> = manifest
        .blocks
        .par_iter()
        .filter_map(|entry| {
            let finding = fault(disk, entry);
            let mut progress = progress.lock();
            progress.0 += entry.bytes;
            let done = progress.0;
            (progress.1)("blocks", done, all);
            finding
        })
        .collect();
    report.counts.blocks = manifest.blocks.len() as u64;
    report.counts.block_bytes = all;
    report.counts.rows = manifest.blocks.iter().map(|entry| entry.rows).sum();
    found.into_iter().for_each(|finding| report.add(finding));
    Ok(())
}

/// What is wrong with a block, if anything is.
pub(super) fn fault(disk: &Arc<dyn Disk>, entry: &BlockEntry) -> Option<Finding> {
    let name = format!("{FOLDER}/{}", entry.file);
    let (offset, what) = match BlockFile::alone(disk, entry.clone()).check() {
        Ok(()) => return None,
        Err(Error::Corrupt { offset, what, .. }) => (offset, what),
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            (0, "it is missing".to_string())
        }
        Err(Error::Io { source, .. }) => (0, format!("it cannot be read: {source}")),
        Err(error) => (0, error.to_string()),
    };
    Some(Finding {
        subject: Subject::Block(entry.clone()),
        file: disk.describe(&name),
        offset,
        what,
        cure: CURE,
    })
}

/// What entries say among themselves.
fn entries(disk: &dyn Disk, manifest: &Manifest, report: &mut Report) {
    let (mut ids, mut files) = (HashSet::new(), HashSet::new());
    for entry in &manifest.blocks {
        let mut add = |what: &str| {
            report.add(Finding {
                subject: Subject::Block(entry.clone()),
                file: disk.describe(MANIFEST),
                offset: 0,
                what: format!("the entry of {} {what}", entry.file),
                cure: CURE,
            });
        };
        if !ids.insert(entry.id) || !files.insert(&entry.file) {
            add("is there twice");
        }
        if entry.id >= manifest.next_block {
            add("has a number that is still to be given");
        }
        if entry.seq_min > entry.seq_max || entry.seq_max > manifest.seq {
            add("has sequences that cannot be");
        }
        if !TimeRange::from(entry.partition).covers(entry.time.into()) {
            add("has times outside of its partition");
        }
    }
}
