//! From a parsed batch to an acknowledged one: queue, log, fsync, apply.
//!
//! Two threads in a row. The log thread takes what has queued up, gives sequences, writes and fsyncs it together: that is
//! the group commit. The apply thread marks rollups dirty and changes the head, strictly in sequence order, so that last
//! write wins by construction; meanwhile the log thread is at the next fsync. A small group is applied by the log thread
//! itself if the other has nothing left: to wake it costs more than what the two would do side by side.
//! Invariant: a waiter is answered exactly once: with Ok after its change is durable and readable, or with the reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::batch::Batch;
use crate::db::{Core, closing, try_reserve};
use crate::error::{Error, Kind, Result};
use crate::scan::Tombstone;
use crate::wal;

/// What goes through the log.
pub enum Change {
    Points(Batch),
    /// A delete; its sequence is set when the log takes it.
    Delete(Tombstone),
}

type Done = Box<dyn FnOnce(Result<u64>) + Send>;

pub(super) struct Submitted {
    change: Change,
    /// The encoded points.
    body: Vec<u8>,
    /// Of its points; none of a delete, which looks at all points of its time.
    values: Option<usize>,
    bytes: usize,
    done: Done,
}

struct Durable {
    seq: u64,
    change: Change,
    values: Option<usize>,
    bytes: usize,
    done: Done,
}

/// Groups between the two threads: one being applied, one waiting. More would only make acknowledgements later.
const GROUPS_AHEAD: usize = 2;

/// Values of a small group: what is applied in less than a millisecond.
const SMALL_GROUP_VALUES: usize = 10_000;

/// Above the limit the head is flushed while writes go on; this many times above it they are refused.
const HEAD_OVER_LIMIT_MAX: usize = 2;

/// Changes of one group. Bounds how long the first of them waits.
const GROUP_MAX: usize = 1_024;

/// Between the threads.
struct Handover {
    groups: Sender<Vec<Durable>>,
    /// Groups that are handed over and not yet applied.
    ahead: Arc<AtomicUsize>,
}

pub(super) fn start(core: &Arc<Core>) -> Vec<JoinHandle<()>> {
    let (groups, applying) = bounded::<Vec<Durable>>(GROUPS_AHEAD);
    let ahead = Arc::new(AtomicUsize::new(0));
    let handover = Handover { groups, ahead: Arc::clone(&ahead) };
    let (log_core, apply_core) = (Arc::clone(core), Arc::clone(core));
    let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
        let built = std::thread::Builder::new().name(name.to_string()).spawn(run);
        built.expect("the system can start a thread")
    };
    vec![
        spawn("wal", Box::new(move || log_core.run_log(&handover))),
        spawn("apply", Box::new(move || apply_core.run_apply(&applying, &ahead))),
    ]
}

impl Core {
    pub(super) fn submit(&self, change: Change, done: Done) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Err(refusal) = self.check_writable() {
            return done(Err(refusal));
        }
        let (body, values, bytes) = match &change {
            Change::Points(batch) => (wal::encode_points(batch), Some(batch.values()), batch.bytes()),
            Change::Delete(_) => (Vec::new(), None, 0),
        };
        let bytes = bytes + body.len();
        if !try_reserve(&self.waiting_bytes, bytes, self.config.limits.ingest_waiting_bytes_max) {
            return done(Err(Error::rejected(
                Kind::Unavailable,
                "ingest_overloaded",
                format!(
                    "more than {} MiB of points wait for the disk, the limit (ingest_waiting_bytes_max); send it again a little later",
                    self.config.limits.ingest_waiting_bytes_max >> 20
                ),
            )));
        }
        let head_max = self.config.limits.head_bytes_max.saturating_mul(HEAD_OVER_LIMIT_MAX);
        if self.head_bytes.load(Ordering::Relaxed) > head_max {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return done(Err(Error::rejected(
                Kind::Unavailable,
                "head_full",
                format!(
                    "points in memory are over {} MiB, {HEAD_OVER_LIMIT_MAX} times their limit (head_bytes_max), because they cannot \
                     be written to blocks fast enough; send it again a little later, and see the log",
                    head_max >> 20
                ),
            )));
        }
        let submitted = Submitted { change, body, values, bytes, done };
        if let Err(Submitted { bytes, done, .. }) = self.queue.push(submitted) {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            done(Err(closing()));
        }
    }

    fn run_log(&self, handover: &Handover) {
        loop {
            let group = self.queue.take(GROUP_MAX);
            if group.is_empty() {
                return;
            }
            let started = self.clock.elapsed();
            let mut logged = Vec::with_capacity(group.len());
            let outcome = {
                let mut wal = self.wal.lock();
                for Submitted { mut change, body, values, bytes, done } in group {
                    let seq = match &mut change {
                        Change::Points(batch) => wal.append_points(batch, body),
                        Change::Delete(tombstone) => {
                            tombstone.seq = wal.append_delete(&tombstone.database, &tombstone.statement);
                            tombstone.seq
                        }
                    };
                    logged.push(Durable { seq, change, values, bytes, done });
                }
                wal.sync()
            };
            metrics::counter!(crate::metrics::WAL_SYNCS).increment(1);
            let elapsed = self.clock.elapsed().saturating_sub(started);
            metrics::histogram!(crate::metrics::WAL_SYNC_SECONDS).record(elapsed.as_secs_f64());
            match outcome {
                Ok(()) => self.hand_over(logged, handover),
                Err(error) => {
                    tracing::error!(%error, "a group of writes could not be logged");
                    for Durable { bytes, done, .. } in logged {
                        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
                        done(Err(error.duplicate()));
                    }
                }
            }
        }
    }

    fn hand_over(&self, group: Vec<Durable>, handover: &Handover) {
        let values: Option<usize> = group.iter().map(|durable| durable.values).sum();
        let small = values.is_some_and(|values| values <= SMALL_GROUP_VALUES);
        // Only this thread adds to it, so none is what it stays.
        if small && handover.ahead.load(Ordering::Acquire) == 0 {
            return self.apply_group(group);
        }
        handover.ahead.fetch_add(1, Ordering::Relaxed);
        // The apply thread ends only after this one.
        drop(handover.groups.send(group));
    }

    fn run_apply(&self, groups: &Receiver<Vec<Durable>>, ahead: &AtomicUsize) {
        while let Ok(group) = groups.recv() {
            self.apply_group(group);
            ahead.fetch_sub(1, Ordering::Release);
        }
    }

    fn apply_group(&self, group: Vec<Durable>) {
        for Durable { seq, change, values, bytes, done } in group {
            let points = self.apply(seq, &change);
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            metrics::counter!(crate::metrics::POINTS_WRITTEN).increment(points);
            metrics::counter!(crate::metrics::VALUES_WRITTEN).increment(values.unwrap_or_default() as u64);
            // What it held is free by the time that it is answered.
            drop(change);
            done(Ok(seq));
        }
    }

    /// Makes a durable change readable. Returns its points.
    fn apply(&self, seq: u64, change: &Change) -> u64 {
        match change {
            Change::Points(batch) => {
                let mut live = self.live.write();
                for part in &batch.parts {
                    live.watches.note_points(part);
                    if part.late {
                        live.late.apply(part, seq);
                        continue;
                    }
                    live.rollups.mark(part, seq, self.config.limits.dirty_groups_max);
                    live.head.apply(part, seq);
                }
                live.seq = seq;
                self.head_bytes.store(live.head_bytes(), Ordering::Relaxed);
                let late = batch.late_rows() as u64;
                if late > 0 {
                    metrics::counter!(crate::metrics::LATE_POINTS, "outcome" => "taken").increment(late);
                }
                batch.rows() as u64
            }
            Change::Delete(tombstone) => {
                self.apply_delete(tombstone);
                0
            }
        }
    }

    pub(super) fn apply_delete(&self, tombstone: &Tombstone) {
        let mut live = self.live.write();
        if let Some(table) = self.registry.table(&tombstone.database, &tombstone.table) {
            live.rollups.mark_range(&table, tombstone.range, tombstone.seq);
            live.watches.note_range(&table, tombstone.range);
            live.head.delete(&table, &table.matching(&tombstone.filter), tombstone.range);
            live.tombstones.push(Arc::new(tombstone.clone()));
        }
        live.seq = tombstone.seq;
    }
}
