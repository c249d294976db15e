//! Opening a data folder: manifest, rollups, log; and the clean-up of what a crash left.
//!
//! Invariant: nothing that was acknowledged is missing when this returns Ok. Damage of the log is named and passed over;
//! a damaged manifest stops the start, because without it nobody knows what was deleted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use query_lang::plan::Plan;
use storage_format::manifest::{Manifest, RollupEntry, TombstoneEntry, VERSION};
use storage_format::point::{FieldType, Time, TimeRange};
use storage_format::ranges::RangeSet;

use crate::blocks::{self, BlockList, BlockStore};
use crate::clock::Clock;
use crate::config::Config;
use crate::db::catalog::DatabaseCatalog;
use crate::db::late::Late;
use crate::db::manifest::{MANIFEST, write_manifest};
use crate::db::queue::Queue;
use crate::db::watch::Watches;
use crate::db::{Commits, Core, Db, Live, follow, pipeline, snapshot, statements};
use crate::disk::Disk;
use crate::error::{Error, Kind, Result};
use crate::exemplars::Exemplars;
use crate::guard::Pool;
use crate::head::{Head, PartitionKey};
use crate::rollup::{Rollup, Rollups, SetAside};
use crate::series::Registry;
use crate::wal::{self, Wal};

impl Db {
    pub fn open(disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, config: Config) -> Result<Db> {
        let started = clock.elapsed();
        let mut manifest = match read_manifest(&*disk)? {
            Some(manifest) => manifest,
            None => first_manifest(&*disk)?,
        };
        if let Some(writer) = disk.writer() {
            follow::take_over(&*disk, &mut manifest, writer)?;
        }
        let registry = Registry::default();
        restore_names(&registry, &manifest)?;
        remove_leftovers(&*disk, &manifest)?;
        snapshot::unmark(&*disk)?;
        let store = BlockStore::new(
            Arc::clone(&disk),
            config.limits.index_cache_bytes_max,
            config.limits.page_cache_bytes_max,
        );
        let mut live = live_of(&store, &registry, &manifest)?;
        let mut replayed = replay(&*disk, &registry, &config, &manifest, &mut live)?;
        // The log names series whose points are all in blocks, too.
        registry.forget(|| live.series());
        replayed.next_seq = replayed.next_seq.max(manifest.seq + 1);
        live.seq = replayed.next_seq - 1;
        for damage in &replayed.damage {
            tracing::error!(file = %damage.file, offset = damage.offset, bytes = damage.bytes, what = damage.what, "the log is damaged here; what it held is lost, the rest is kept");
        }
        let core = core_of(store, clock, config, registry, live, &manifest, &replayed, None);
        tracing::info!(
            blocks = manifest.blocks.len(),
            rollups = manifest.rollups.len(),
            replayed_batches = replayed.batches,
            replayed_rows = replayed.rows,
            elapsed_ms = core.clock.elapsed().saturating_sub(started).as_millis() as u64,
            "opened"
        );
        let threads = pipeline::start(&core);
        Ok(Db { core, threads })
    }

    /// Opens what another server writes, to read it only.
    pub fn follow(disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, config: Config) -> Result<Db> {
        let (manifest, bytes) = follow::first_look(&disk)?;
        let registry = Registry::default();
        restore_names(&registry, &manifest)?;
        let store = BlockStore::new(
            Arc::clone(&disk),
            config.limits.index_cache_bytes_max,
            config.limits.page_cache_bytes_max,
        );
        let live = live_of(&store, &registry, &manifest)?;
        let look = follow::Look::new(bytes, manifest.commit, clock.elapsed());
        let nothing = wal::Replayed::default();
        let core = core_of(store, clock, config, registry, live, &manifest, &nothing, Some(look));
        tracing::info!(blocks = manifest.blocks.len(), commit = manifest.commit, "following");
        Ok(Db { core, threads: Vec::new() })
    }
}

/// What is readable by a manifest, before the log.
pub(super) fn live_of(store: &Arc<BlockStore>, registry: &Registry, manifest: &Manifest) -> Result<Live> {
    let mut live = Live {
        seq: manifest.seq,
        head: Head::default(),
        late: Late::restore(registry, manifest),
        blocks: BlockList::new(store, manifest.blocks.clone()),
        tombstones: Vec::new(),
        rollups: Rollups::default(),
        flushed: flushed_of(registry, manifest),
        watches: Watches::default(),
    };
    restore_rollups(registry, &mut live.rollups, &manifest.rollups);
    for entry in &manifest.tombstones {
        let TombstoneEntry { database, statement, seq } = entry;
        let tombstone = statements::parse_delete(database, statement, *seq)?;
        live.tombstones.push(Arc::new(tombstone));
    }
    Ok(live)
}

/// `look` is there for a server that only reads.
fn core_of(
    store: Arc<BlockStore>,
    clock: Arc<dyn Clock>,
    config: Config,
    registry: Registry,
    live: Live,
    manifest: &Manifest,
    replayed: &wal::Replayed,
    look: Option<follow::Look>,
) -> Arc<Core> {
    let disk = Arc::clone(&store.disk);
    let wal =
        Wal::new(Arc::clone(&disk), manifest.log_folder(), config.limits.wal_segment_bytes_max, replayed);
    let refusal = look.as_ref().map(|_| follow::only_reads(&*disk, manifest.writer.as_ref()));
    let core = Core {
        clock,
        pool: Pool::new(&config.limits),
        exemplars: Exemplars::new(config.limits.exemplars_max),
        config,
        registry,
        live: RwLock::new(live),
        wal: Mutex::new(wal),
        queue: Queue::new(),
        waiting_bytes: AtomicUsize::new(0),
        head_bytes: AtomicUsize::new(0),
        commits: Mutex::new(Commits { number: manifest.commit, next_block: manifest.next_block.max(1) }),
        flushing: Mutex::default(),
        compaction: Mutex::default(),
        background: background(),
        asked: AtomicU64::new(0),
        log: manifest.log.clone(),
        refusal: RwLock::new(refusal),
        look: look.map(Mutex::new),
        epoch: disk.writer().map(|_| (manifest.epoch, manifest.writer.clone())),
        store,
        disk,
    };
    Arc::new(core)
}

fn background() -> rayon::ThreadPool {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "background".to_string());
    pool.build().expect("the system can start a thread")
}

/// None if there is none.
fn read_manifest(disk: &dyn Disk) -> Result<Option<Manifest>> {
    let files = disk.list("").map_err(|source| Error::io("list", disk.describe(""), source))?;
    if !files.iter().any(|file| file == MANIFEST) {
        return Ok(None);
    }
    // The process may have died between the rename and its sync. What this manifest does not name is removed next, so it
    // must not give way to the one before.
    disk.sync_folder("").map_err(|source| Error::io("sync", disk.describe(""), source))?;
    let bytes = disk.read(MANIFEST).map_err(|source| Error::io("read", disk.describe(MANIFEST), source))?;
    manifest_of(disk, &bytes).map(Some)
}

pub(super) fn manifest_of(disk: &dyn Disk, bytes: &[u8]) -> Result<Manifest> {
    if let Some(version) = Manifest::version(bytes).filter(|version| *version > VERSION) {
        return Err(Error::rejected(
            Kind::Conflict,
            "newer_format",
            format!(
                "{} is of version {version}, written by a newer waterclock, and this one reads up to version {VERSION}; start the newer \
                 program, or give --data-dir another folder",
                disk.describe(MANIFEST)
            ),
        ));
    }
    Manifest::decode(bytes).map_err(|damage| Error::corrupt(disk.describe(MANIFEST), damage))
}

/// Of a new folder. It is there before any block is, so blocks without one mean that it was lost, and that nobody knows
/// which of them to believe.
fn first_manifest(disk: &dyn Disk) -> Result<Manifest> {
    let folders = disk.list_folders(blocks::FOLDER);
    if !folders.map_err(|source| Error::io("list", disk.describe(blocks::FOLDER), source))?.is_empty() {
        let what = format!(
            "it is missing, but there are blocks in {}, and without it nobody knows which of them count",
            disk.describe(blocks::FOLDER)
        );
        return Err(Error::Corrupt { file: disk.describe(MANIFEST), offset: 0, what });
    }
    let manifest = Manifest::default();
    write_manifest(disk, &manifest)?;
    Ok(manifest)
}

pub(super) fn restore_names(registry: &Registry, manifest: &Manifest) -> Result<()> {
    for database in &manifest.databases {
        registry.database_or_new(database).set_keep(manifest.database_keeps.get(database).copied());
    }
    for entry in &manifest.tables {
        let database = registry.database_or_new(&entry.database);
        let table = registry.table_or_new(&database, &entry.name);
        for (name, type_name) in &entry.fields {
            let field_type = FieldType::from_name(type_name).ok_or_else(|| Error::Corrupt {
                file: MANIFEST.to_string(),
                offset: 0,
                what: format!("the field {name} of table {} has the unknown type {type_name}", entry.name),
            })?;
            table.restore_column(name, field_type);
        }
        table.remember_tags(entry.tags.iter().map(String::as_str));
        table.set_keep(entry.keep);
        table.set_merges_late(entry.merges_late);
    }
    Ok(())
}

/// Block files that the manifest does not name: a crash came between writing and naming, or between un-naming and
/// removing.
fn remove_leftovers(disk: &dyn Disk, manifest: &Manifest) -> Result<()> {
    let named: std::collections::HashSet<&str> =
        manifest.blocks.iter().map(|entry| entry.file.as_str()).collect();
    // A writer that took over in the meantime makes blocks that this manifest cannot name.
    let ours_end = follow::blocks_end(manifest.epoch);
    let is_ours = |file: &str| blocks::block_number(file).is_none_or(|number| number < ours_end);
    let run = || {
        let files = blocks::files(disk)?;
        for file in files.iter().filter(|file| !named.contains(file.as_str()) && is_ours(file)) {
            tracing::info!(file, "removing a block that no manifest names");
            disk.remove(&format!("{}/{file}", blocks::FOLDER))?;
        }
        Ok(())
    };
    run().map_err(|source| Error::io("clean", disk.describe(blocks::FOLDER), source))
}

fn flushed_of(registry: &Registry, manifest: &Manifest) -> HashMap<PartitionKey, u64> {
    let entry = |entry: &storage_format::manifest::FlushedEntry| {
        let table = registry.table(&entry.database, &entry.table)?;
        Some((PartitionKey { table: table.id, start: entry.partition }, entry.seq))
    };
    manifest.flushed.iter().filter_map(entry).collect()
}

/// The rollups of a manifest, without a database around them: what their entries mean.
pub fn restored_rollups(manifest: &Manifest) -> Result<Rollups> {
    let registry = Registry::default();
    restore_names(&registry, manifest)?;
    let mut rollups = Rollups::default();
    restore_rollups(&registry, &mut rollups, &manifest.rollups);
    match rollups.set_aside.first() {
        None => Ok(rollups),
        Some(first) => {
            let what = format!("the rollup {} cannot be restored: {}", first.entry.name, first.error);
            Err(Error::Corrupt { file: MANIFEST.to_string(), offset: 0, what })
        }
    }
}

/// A rollup on a rollup can be planned only after its parent: as many rounds as the chain is deep.
/// One that cannot be planned at all stops nothing else.
fn restore_rollups(registry: &Registry, rollups: &mut Rollups, entries: &[RollupEntry]) {
    let mut left: Vec<&RollupEntry> = entries.iter().collect();
    while !left.is_empty() {
        let before = left.len();
        let mut waiting = Vec::new();
        for entry in left {
            match plan_rollup(registry, rollups, entry) {
                Ok(rollup) => rollups.insert(rollup),
                Err(_) => waiting.push(entry),
            }
        }
        left = waiting;
        if left.len() == before {
            for entry in left {
                let error = match plan_rollup(registry, rollups, entry) {
                    Ok(_) => continue,
                    Err(error) => error.to_string(),
                };
                tracing::error!(
                    rollup = entry.name,
                    database = entry.database,
                    error,
                    "a rollup cannot be restored and is set aside; `show rollups` names it, `drop rollup` removes it"
                );
                rollups.set_aside.push(set_aside(entry, error));
            }
            return;
        }
    }
}

/// Nobody tells it of writes from now on, so none of its states is to be believed when it can be read again.
fn set_aside(entry: &RollupEntry, error: String) -> SetAside {
    let mut entry = entry.clone();
    let sealed = TimeRange::new(Time::MIN, entry.sealed_until.unwrap_or(Time::MIN));
    let computed: RangeSet = entry.computed.iter().map(|range| TimeRange::from(*range)).collect();
    let open = computed.minus(&sealed.into());
    entry.dirty = open.ranges().iter().map(|range| (*range).into()).collect();
    entry.dirty_groups.clear();
    SetAside { entry, error }
}

fn plan_rollup(registry: &Registry, rollups: &Rollups, entry: &RollupEntry) -> Result<Rollup> {
    let catalog = DatabaseCatalog::new(registry, rollups, &BlockList::default(), &entry.database);
    match statements::plan_stored(&entry.definition, Some(&catalog))? {
        Plan::CreateRollup(create) => {
            let mut rollup = Rollup::new(&entry.database, create.rollup)?;
            rollup.restore(entry);
            Ok(rollup)
        }
        _ => Err(Error::invalid("rollup", format!("{} is no definition of a rollup", entry.definition))),
    }
}

fn replay(
    disk: &dyn Disk,
    registry: &Registry,
    config: &Config,
    manifest: &Manifest,
    live: &mut Live,
) -> Result<wal::Replayed> {
    // The manifest's dirty sets hold every mark up to its sequence.
    let marks = |seq: u64| seq > manifest.seq;
    wal::replay(disk, manifest.log_folder(), registry, |entry| {
        match entry {
            wal::Entry::Points(batches) => {
                for (seq, batch) in batches.iter().filter(|(seq, _)| marks(*seq)) {
                    for part in batch.parts.iter().filter(|part| !part.late) {
                        live.rollups.mark(part, *seq, config.limits.dirty_groups_max);
                    }
                }
                let flushed = &live.flushed;
                let is_flushed = |key, seq| flushed.get(&key).is_some_and(|last| seq <= *last);
                live.head.apply_all(batches, |part, key, seq| part.late || is_flushed(key, seq));
                live.late.apply_all(batches);
            }
            wal::Entry::Delete(seq, delete) => {
                let tombstone = statements::parse_delete(delete.database, delete.statement, seq)?;
                if let Some(table) = registry.table(delete.database, &tombstone.table) {
                    let series = table.matching(&tombstone.filter);
                    live.head.delete(&table, &series, tombstone.range);
                    if marks(seq) {
                        live.rollups.mark_range(&table, tombstone.range, seq);
                        live.tombstones.push(Arc::new(tombstone));
                    }
                }
            }
        }
        Ok(())
    })
}
