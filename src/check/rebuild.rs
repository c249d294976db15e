//! A manifest from what blocks say about themselves, when there is none to read.
//!
//! What is safe to believe: a sound block of points is what was written, whole. All of them are believed, also those that a
//! merge had replaced and that were still to be removed: the merge ranks above what went into it, so their rows win nowhere,
//! and only rows that the merge had deleted are there again. States of rollups are set aside, all of them: what defines a
//! rollup stood in the manifest alone, and so did how long data are kept. Deletes that the log still has are kept; older
//! ones that no merge had applied yet are forgotten, and what they deleted is there again. The log is read from its
//! beginning; that is right, because it holds every write since.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use storage_format::block::BlockKind;
use storage_format::manifest::{BlockEntry, LOG_FOLDER, Manifest, TableEntry};
use storage_format::point::FieldType;
use storage_format::state::data_type;

use crate::blocks::{self, BlockFile, FOLDER};
use crate::check::blocks::fault;
use crate::check::log;
use crate::check::repair::Work;
use crate::db::MANIFEST;
use crate::disk::{Disk, ReadOnly};
use crate::error::{Error, Result};

pub(super) fn manifest(work: &mut Work<'_>) -> Result<Manifest> {
    let disk = work.disk;
    work.keep_copy(MANIFEST, "it was damaged; a new one was made from what the blocks say about themselves")?;
    let files = blocks::files(&**disk);
    let files = files.map_err(|source| Error::io("list", disk.describe(FOLDER), source))?;
    let mut entries: Vec<BlockEntry> = Vec::new();
    let mut next_block = 1;
    let mut rollups: BTreeMap<String, u64> = BTreeMap::new();
    for file in files.iter().filter(|file| file.ends_with(".parquet")) {
        next_block = next_block.max(blocks::block_number(file).map_or(0, |number| number + 1));
        let name = format!("{FOLDER}/{file}");
        match blocks::entry_of(disk, file) {
            Err(error) => work.set_aside(&name, &error.to_string())?,
            Ok(entry) if entry.kind == BlockKind::Rollup => {
                *rollups.entry(format!("{} of database {}", entry.table, entry.database)).or_default() += 1;
                work.set_aside(&name, "sound; its rollup was defined in the manifest, which was damaged")?;
            }
            Ok(entry) => match fault(disk, &entry) {
                Some(finding) => {
                    work.set_aside(&name, &format!("damaged at byte {}: {}", finding.offset, finding.what))?
                }
                None => entries.push(entry),
            },
        }
    }
    entries.sort_by_key(|entry| entry.id);
    let seq = entries.iter().map(|entry| entry.seq_max).max().unwrap_or(0);
    // Reading the log cleans up; that is for the start.
    let mut tombstones = log::deletes(&ReadOnly::new(Arc::clone(disk)), LOG_FOLDER)?;
    // A start adds the later ones by itself.
    tombstones.retain(|tombstone| tombstone.seq <= seq);
    for (name, blocks) in rollups {
        work.done.push(format!(
            "rollup {name}: its definition is lost and its {blocks} blocks are set aside; the damaged manifest in damaged/ may \
             still show the definition: create it again"
        ));
    }
    work.done.push(format!("{}: made again from {} blocks", disk.describe(MANIFEST), entries.len()));
    Ok(Manifest { next_block, tombstones, ..of_blocks(disk, entries)? })
}

/// A manifest of these blocks and nothing else.
pub fn of_blocks(disk: &Arc<dyn Disk>, entries: Vec<BlockEntry>) -> Result<Manifest> {
    let mut databases: Vec<String> = entries.iter().map(|entry| entry.database.clone()).collect();
    databases.sort();
    databases.dedup();
    Ok(Manifest {
        next_block: entries.iter().map(|entry| entry.id + 1).max().unwrap_or(1),
        seq: entries.iter().map(|entry| entry.seq_max).max().unwrap_or(0),
        databases,
        tables: tables(disk, &entries)?,
        blocks: entries,
        ..Manifest::default()
    })
}

/// What the blocks say about their tables, older ones first, as the fields came.
fn tables(disk: &Arc<dyn Disk>, entries: &[BlockEntry]) -> Result<Vec<TableEntry>> {
    let mut tables: BTreeMap<(String, String), TableEntry> = BTreeMap::new();
    for entry in entries {
        let block = BlockFile::alone(disk, entry.clone()).block()?;
        let schema = block.schema();
        let table =
            tables.entry((entry.database.clone(), entry.table.clone())).or_insert_with(|| TableEntry {
                database: entry.database.clone(),
                name: entry.table.clone(),
                fields: Vec::new(),
                tags: Vec::new(),
                keep: None,
                merges_late: false,
                folded: 0,
            });
        for field in &schema.fields {
            if let Some(field_type) = type_of(&field.data_type)
                && !table.fields.iter().any(|(name, _)| *name == field.name)
            {
                table.fields.push((field.name.clone(), field_type.name().to_string()));
            }
        }
        for tag in &schema.tags {
            if !table.tags.contains(tag) {
                table.tags.push(tag.clone());
            }
        }
    }
    Ok(tables.into_values().collect())
}

fn type_of(wanted: &DataType) -> Option<FieldType> {
    FieldType::ALL.into_iter().find(|field_type| data_type(*field_type) == *wanted)
}
