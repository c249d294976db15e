//! The whole flow: open, write, query, flush, compact, refresh, close.
//!
//! A write is parsed by its caller, encoded for the log, queued, fsynced together with others, and then applied to rollups
//! and head in sequence order; only then it is answered. A read takes what it needs from [`Live`] under its lock, which
//! is one view at one sequence, and runs without it. A flush or a compaction writes files first, then replaces the
//! manifest, then changes [`Live`].
//! Invariant: lock order is `compaction`, then `flushing`, then `commits`, then `wal`, then `live`; nobody does I/O under `live`.
//! `kept` is taken last, for a moment.
//! Not here: HTTP (`server`), when background work runs (`jobs`).

mod catalog;
mod fold;
mod follow;
mod inventory;
mod late;
mod maintain;
mod manifest;
mod open;
mod pipeline;
mod promql; // each selector's tables
mod queue; // between writers and the log
mod retention;
mod rollups;
mod samples; // Prometheus' samples and what belongs to them
mod snapshot; // one moment, held still to be copied
mod statements;
mod tail; // reading no further back than needed
mod verify; // rollups against raw points
mod watch; // what changes behind statements that go on

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use query_lang::ast::Statement;
use storage_format::manifest::WriterEntry;
use storage_format::point::Time;
use storage_format::ranges::RangeSet;

use crate::blocks::{BlockList, BlockStore};
use crate::clock::Clock;
use crate::config::Config;
use crate::db::queue::Queue;
use crate::disk::Disk;
use crate::error::{Error, Kind, Result};
use crate::exemplars::Exemplars;
use crate::guard::{Guard, Pool};
use crate::head::{Head, PartitionKey};
use crate::ingest::line_protocol::{LineError, Precision};
use crate::ingest::{Target, parse_lines};
use crate::rollup::Rollups;
use crate::scan::Tombstone;
use crate::scan::View;
use crate::series::{METADATA_TABLE, METRICS_TABLE, Registry};
use crate::wal::Wal;

pub use follow::Following;
pub use maintain::{FlushScope, RefreshScope, Refreshed};
pub use manifest::{MANIFEST, write_manifest};
pub use open::restored_rollups;
pub use pipeline::Change;
pub use rollups::{RollupState, RollupStatus};
pub use samples::{MetricMetadata, RemoteWrite, SamplesWritten, SeriesSamples};
pub use snapshot::{BACKUP_MARK, Snapshot};
pub use statements::{QueryOptions, parse_delete};
pub use verify::RollupCheck;
pub use watch::Watch;

/// A running database. Dropping it stops its threads; what was acknowledged is in the log.
pub struct Db {
    core: Arc<Core>,
    threads: Vec<JoinHandle<()>>,
}

struct Core {
    disk: Arc<dyn Disk>,
    store: Arc<BlockStore>,
    clock: Arc<dyn Clock>,
    config: Config,
    /// Memory of all queries together.
    pool: Arc<Pool>,
    registry: Registry,
    exemplars: Exemplars,
    live: RwLock<Live>,
    wal: Mutex<Wal>,
    /// To the log's thread. Closed once the database is.
    queue: Queue<pipeline::Submitted>,
    waiting_bytes: AtomicUsize,
    /// What the head took when it was last changed.
    head_bytes: AtomicUsize,
    /// One change of the manifest at a time.
    commits: Mutex<Commits>,
    /// One flush at a time.
    flushing: Mutex<maintain::Seen>,
    /// One merge, removal of expired blocks or drop of a rollup at a time; flushes go on meanwhile.
    compaction: Mutex<maintain::Standing>,
    /// One thread for flush and compaction, so that queries and writers have the others.
    background: rayon::ThreadPool,
    /// Writes and statements since the start.
    asked: AtomicU64,
    /// The log's folder as the manifest names it.
    log: Option<String>,
    /// Why nothing may be changed; None while this is the writer.
    refusal: RwLock<Option<Error>>,
    /// Of a server that only reads: what it last saw.
    look: Option<Mutex<follow::Look>>,
    /// What the manifest says for as long as this is the writer; None if no other machine can write.
    epoch: Option<(u64, Option<WriterEntry>)>,
}

/// What is readable now. All of it is at one sequence.
struct Live {
    /// Every batch up to here is marked dirty and applied.
    seq: u64,
    head: Head,
    late: late::Late,
    blocks: BlockList,
    tombstones: Vec<Arc<Tombstone>>,
    rollups: Rollups,
    /// Points of these partitions up to the sequence are in blocks.
    flushed: HashMap<PartitionKey, u64>,
    watches: watch::Watches,
}

struct Commits {
    number: u64,
    next_block: u64,
}

/// What became of the lines of one request.
#[derive(Debug, Default)]
pub struct Written {
    pub points: usize,
    pub values: usize,
    pub errors: Vec<LineError>,
}

/// How much there is, and where.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    pub wal_bytes: u64,
    pub head_bytes: usize,
    pub head_rows: u64,
    pub blocks: usize,
    pub block_bytes: u64,
    /// Blocks that wait to be merged.
    pub blocks_behind: usize,
    pub deletes_standing: usize,
    /// Series in memory.
    pub series: usize,
}

/// A body of line protocol.
pub struct Lines<'a> {
    pub database: &'a str,
    pub body: &'a [u8],
    pub precision: Precision,
    /// Whether the good lines of a body with bad ones are stored.
    pub accept_partial: bool,
}

impl Db {
    /// Parses in the calling thread; `done` is called when the points are durable and readable, or were refused.
    pub fn write_lines(&self, lines: &Lines<'_>, done: impl FnOnce(Result<Written>) + Send + 'static) {
        let core = &self.core;
        if let Err(refusal) = core.check_writable() {
            return done(Err(refusal));
        }
        let now = core.clock.now();
        let parsed =
            core.with_target(lines.database, |target| parse_lines(lines.body, target, lines.precision, now));
        metrics::counter!(crate::metrics::LINES_REFUSED).increment(parsed.errors.len() as u64);
        let refused = !lines.accept_partial && !parsed.errors.is_empty();
        if parsed.batch.is_empty() || refused {
            return done(Ok(Written { errors: parsed.errors, ..Written::default() }));
        }
        let written =
            Written { points: parsed.batch.rows(), values: parsed.batch.values(), errors: parsed.errors };
        self.submit(Change::Points(parsed.batch), move |outcome| done(outcome.map(|_| written)));
    }

    /// Whether a writer would have to wait for whoever changes what is live.
    pub fn holds_writers_up(&self) -> bool {
        self.core.live.try_read().is_none()
    }

    /// The blocking form.
    pub fn write_lines_now(&self, lines: &Lines<'_>) -> Result<Written> {
        let (send, receive) = crossbeam_channel::bounded(1);
        self.write_lines(lines, move |outcome| drop(send.send(outcome)));
        receive.recv().unwrap_or_else(|_| Err(closing()))
    }

    /// A database is made on first write; this makes an empty one durable.
    pub fn create_database(&self, name: &str) -> Result<()> {
        self.core.check_writable()?;
        // Also one that is known already: what made it known may have been refused, and then only memory has it.
        self.core.registry.database_or_new(name);
        self.core.commit(manifest::Edit::default())
    }

    /// Writes everything in memory to blocks, so that the next start has no log to read back. To be called when no writer
    /// is left; what one writes nevertheless stays in the log.
    pub fn flush_for_stop(&self) -> Result<()> {
        self.core.wal.lock().end_segment();
        self.flush(FlushScope::All)?;
        // A log whose points were in blocks already has yet to go.
        if self.core.wal.lock().bytes() > 0 {
            self.core.commit(manifest::Edit::default())?;
        }
        Ok(())
    }

    pub fn databases(&self) -> Vec<String> {
        self.core.registry.databases()
    }

    pub fn tables(&self, database: &str) -> Vec<String> {
        self.core.tables(database)
    }

    pub fn config(&self) -> &Config {
        &self.core.config
    }

    /// Writes and statements since the start: while it grows, background work is in somebody's way.
    pub fn asked(&self) -> u64 {
        self.core.asked.load(Ordering::Relaxed)
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.core.clock
    }

    /// The applied sequence.
    pub fn seq(&self) -> u64 {
        self.core.live.read().seq
    }

    /// Why writes cannot be taken until a restart; None while all is well.
    pub fn trouble(&self) -> Option<String> {
        if self.threads.iter().any(JoinHandle::is_finished) {
            return Some(
                "a thread of the write path has ended unexpectedly; the log says why; restart waterclock"
                    .to_string(),
            );
        }
        // For a server that only reads, that it does not write is no trouble.
        let replaced =
            self.core.refusal.read().as_ref().filter(|_| self.core.look.is_none()).map(Error::to_string);
        replaced.or_else(|| self.core.wal.lock().poison_reason())
    }

    /// How much there is, and where.
    pub fn status(&self) -> Status {
        let wal_bytes = self.core.wal.lock().bytes();
        let live = self.core.live.read();
        let entries = live.blocks.entries();
        Status {
            blocks_behind: self.core.blocks_behind(&live),
            deletes_standing: live.tombstones.len(),
            series: self.core.registry.tables().iter().map(|table| table.series_count()).sum(),
            wal_bytes,
            head_bytes: live.head_bytes(),
            head_rows: live.head.rows(),
            blocks: entries.len(),
            block_bytes: entries.iter().map(|entry| entry.bytes).sum(),
        }
    }

    /// Puts the gauges up to date.
    pub fn measure(&self) {
        use crate::metrics as names;
        let status = self.status();
        metrics::gauge!(names::WAL_BYTES).set(status.wal_bytes as f64);
        metrics::gauge!(names::HEAD_BYTES).set(status.head_bytes as f64);
        metrics::gauge!(names::HEAD_ROWS).set(status.head_rows as f64);
        metrics::gauge!(names::BLOCKS).set(status.blocks as f64);
        metrics::gauge!(names::BLOCK_BYTES).set(status.block_bytes as f64);
        metrics::gauge!(names::INDEX_CACHE_BYTES).set(self.core.store.memory_bytes() as f64);
        metrics::gauge!(names::PAGE_CACHE_BYTES).set(self.core.store.page_bytes() as f64);
        metrics::gauge!(names::QUERIES_MEMORY_BYTES).set(self.core.pool.used() as f64);
        metrics::gauge!(names::COMPACTION_BEHIND).set(status.blocks_behind as f64);
        metrics::gauge!(names::SERIES).set(status.series as f64);
        metrics::gauge!(names::DELETES_STANDING).set(status.deletes_standing as f64);
        for rollup in self.core.live.read().rollups.iter() {
            let labels = [("database", rollup.database.to_string()), ("rollup", rollup.info.name.clone())];
            metrics::gauge!(names::ROLLUP_DIRTY, &labels).set(rollup.dirty_count() as f64);
            if let Some(computed) = rollup.computed().ranges().last() {
                metrics::gauge!(names::ROLLUP_COMPUTED_UNTIL, &labels).set(computed.end as f64 / 1e9);
            }
        }
    }

    fn submit(&self, change: Change, done: impl FnOnce(Result<u64>) + Send + 'static) {
        self.core.submit(change, Box::new(done));
    }

    fn submit_now(&self, change: Change) -> Result<u64> {
        let (send, receive) = crossbeam_channel::bounded(1);
        self.submit(change, move |outcome| drop(send.send(outcome)));
        receive.recv().unwrap_or_else(|_| Err(closing()))
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        self.core.queue.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the write path panicked");
            }
        }
    }
}

impl Live {
    /// For whoever copies nothing out of memory that grows with the data.
    fn view(&self) -> View<'_> {
        View {
            guard: None,
            seq: self.seq,
            head: &self.head,
            blocks: &self.blocks,
            tombstones: &self.tombstones,
        }
    }

    fn view_for<'a>(&'a self, guard: &'a Guard) -> View<'a> {
        View { guard: Some(guard), ..self.view() }
    }

    /// Where points of a table are, as far as partitions and blocks tell. One point with a bad clock does not make the
    /// centuries between a place where points are.
    fn data_ranges(&self, table: &crate::series::Table) -> RangeSet {
        let key = crate::blocks::TableKey::points(table);
        let active = self.head.active().filter(|(key, _)| key.table == table.id);
        let active = active.map(|(_, partition)| partition.range);
        let frozen = self.head.frozen().iter().filter(|layer| layer.table.id == table.id);
        let blocks = self.blocks.of(&key).iter().map(|file| file.time());
        active.chain(frozen.map(|layer| layer.range)).chain(blocks).collect()
    }
}

impl Core {
    /// Where the points of one request go; the database is made if it is new.
    fn with_target<T>(&self, database: &str, parse: impl FnOnce(&Target<'_>) -> T) -> T {
        let now = self.clock.now();
        parse(&Target {
            registry: &self.registry,
            database: &self.registry.database_or_new(database),
            limits: &self.config.limits,
            refusal: &|table| self.write_refusal(database, table),
            accepted: &|table| self.accepted(table, now),
        })
    }

    /// Why nobody may write to a table of this name.
    fn write_refusal(&self, database: &str, table: &str) -> Option<String> {
        if table == METRICS_TABLE || table == METADATA_TABLE {
            return Some(format!(
                "the table \"{table}\" is kept for Prometheus metrics; choose another measurement name"
            ));
        }
        let live = self.live.read();
        let rollup = live.rollups.get(database, table)?;
        Some(format!(
            "\"{table}\" is a rollup of {}; write to {} and the rollup follows, or choose another measurement name",
            rollup.info.table, rollup.info.table
        ))
    }

    /// Forgets series whose points have all gone to blocks. They are new again when they write again.
    fn forget_series(&self) {
        let gone = self.registry.forget(|| self.live.read().series());
        let count: u64 = gone.values().map(roaring::RoaringBitmap::len).sum();
        if count > 0 {
            metrics::counter!(crate::metrics::SERIES_FORGOTTEN).increment(count);
            let mut live = self.live.write();
            live.rollups.iter_mut().for_each(|rollup| rollup.forget(&self.registry, &gone));
        }
    }

    /// For a flush or a compaction.
    fn compaction_guard(&self) -> Guard {
        let max = self.config.limits.compaction_memory_bytes_max;
        Guard::background(&self.clock, "compaction_memory_bytes_max", max)
    }

    /// Tables that hold something; a name alone may come from a line that was refused.
    fn tables(&self, database: &str) -> Vec<String> {
        let Some(database) = self.registry.database(database) else { return Vec::new() };
        let tables = database.tables();
        tables
            .iter()
            .filter(|table| !table.columns().is_empty())
            .map(|table| table.name.to_string())
            .collect()
    }
}

fn closing() -> Error {
    Error::rejected(Kind::Unavailable, "closing", "the server is stopping; send it again when it is back")
}

/// What a statement says of itself, for the log.
fn describe(statement: &Statement) -> String {
    let mut text = statement.to_string();
    text.truncate(text.floor_char_boundary(STATEMENT_SHOWN_BYTES_MAX));
    text
}

/// How much of a statement a log line repeats.
const STATEMENT_SHOWN_BYTES_MAX: usize = 512;

fn saturating_sub_duration(time: Time, duration: std::time::Duration) -> Time {
    time.saturating_sub(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

/// Bytes of batches that wait for the disk.
fn try_reserve(waiting: &AtomicUsize, bytes: usize, max: usize) -> bool {
    let before = waiting.fetch_add(bytes, Ordering::Relaxed);
    // A batch alone may be larger than the limit: it has to pass some time.
    let fits = before == 0 || before + bytes <= max;
    if !fits {
        waiting.fetch_sub(bytes, Ordering::Relaxed);
    }
    fits
}
