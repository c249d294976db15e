//! When background work runs: flush, compaction, refresh, each in a thread of its own over the same [`Db`].
//!
//! Invariant: a step that fails is tried again, later each time; a step that panics ends its job, because nobody knows what
//! it left behind, and [`Health`] says so until a restart. Nothing fails silently.
//! Not here: the work itself (`db`), timers of the HTTP side (`server`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use crate::db::{Db, FlushScope, RefreshScope};
use crate::error::Result;
use crate::metrics::JOB_FAILURES;

/// What has gone wrong for good. `/health` shows it.
#[derive(Default)]
pub struct Health {
    troubles: Mutex<Vec<String>>,
}

impl Health {
    pub fn report(&self, trouble: String) {
        self.troubles.lock().push(trouble);
    }

    pub fn troubles(&self) -> Vec<String> {
        self.troubles.lock().clone()
    }
}

pub struct Jobs {
    /// Dropped to stop the threads.
    stop: Sender<()>,
    /// Yields once every thread has dropped its end.
    ended: Receiver<()>,
    threads: Vec<JoinHandle<()>>,
    health: Arc<Health>,
}

/// How often memory and log are compared with their limits.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// How often the list of blocks is searched for something to merge. A pass that finds nothing reads no file.
const COMPACT_EVERY: Duration = Duration::from_secs(10);

/// Between steps that follow one another the job rests this many times as long as the last one took, if anybody wrote or asked
/// meanwhile: it computes ahead what reads would compute themselves, and must not be in the way of those who wait.
const REST_FACTOR: u32 = 4;
const REST_MAX: Duration = Duration::from_secs(5);

/// A step that keeps failing is tried this often at least.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

impl Jobs {
    pub fn start(db: &Arc<Db>) -> Jobs {
        let (stop, stopped) = bounded(0);
        let (alive, ended) = bounded(0);
        let mut jobs = Jobs { stop, ended, threads: Vec::new(), health: Arc::new(Health::default()) };
        let refresh_every = db.config().server.refresh_every;
        let mut add = |name: &'static str, every: Duration, step: Step| {
            let (db, stopped, alive) = (Arc::clone(db), stopped.clone(), alive.clone());
            let job = Job { name, every, step, health: Arc::clone(&jobs.health) };
            let run = move || {
                let _alive: Sender<()> = alive;
                job.run(&db, &stopped);
            };
            let thread = std::thread::Builder::new().name(name.to_string()).spawn(run);
            jobs.threads.push(thread.expect("the system can start a thread"));
        };
        if db.shares_manifest() {
            add("follow", db.config().server.follow_every, |db| db.look().map(|()| false));
        }
        if db.following().is_some() {
            return jobs;
        }
        add("flush", FLUSH_EVERY, |db| db.flush(FlushScope::Due).map(|_| false));
        add("fold", FLUSH_EVERY, |db| db.fold(FlushScope::Due).map(|_| false));
        add("compaction", COMPACT_EVERY, |db| {
            let expired = db.expire();
            db.compact(false)?;
            expired.map(|_| false)
        });
        add("refresh", refresh_every, |db| Ok(!db.refresh_step(&RefreshScope::default())?.is_done));
        jobs
    }

    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// Stops after the steps that run now. One that takes longer than `wait` is left to the end of the process, which
    /// may come at any instruction.
    pub fn stop(self, wait: Duration) {
        let Jobs { stop, ended, threads, .. } = self;
        drop(stop);
        if ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("background work did not end in {wait:?}; the next start does it again");
            return;
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a background thread panicked outside its step");
            }
        }
    }
}

/// True asks for the next step at once.
type Step = fn(&Db) -> Result<bool>;

struct Job {
    name: &'static str,
    every: Duration,
    step: Step,
    health: Arc<Health>,
}

impl Job {
    fn run(&self, db: &Db, stopped: &Receiver<()>) {
        let mut wait = self.every;
        let mut last_failure = String::new();
        let mut asked = db.asked();
        while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            let started = db.clock().elapsed();
            match catch_unwind(AssertUnwindSafe(|| (self.step)(db))) {
                Ok(Ok(more)) => {
                    last_failure.clear();
                    // Even without a rest others get the processor, and the call above asks whether to stop.
                    std::thread::yield_now();
                    let took = db.clock().elapsed().saturating_sub(started);
                    let is_alone = db.asked() == std::mem::replace(&mut asked, db.asked());
                    wait = match (more, is_alone) {
                        (true, true) => Duration::ZERO,
                        (true, false) => (took * REST_FACTOR).min(REST_MAX),
                        (false, _) => self.every,
                    };
                }
                Ok(Err(error)) => {
                    self.count();
                    let failure = error.to_string();
                    if failure != last_failure {
                        tracing::error!(
                            job = self.name,
                            error = failure,
                            "background work failed; it is tried again"
                        );
                        last_failure = failure;
                    }
                    wait = (wait * 2).clamp(self.every, BACK_OFF_MAX.max(self.every));
                }
                Err(_) => {
                    self.count();
                    let trouble = format!(
                        "the {} job has stopped because of a bug; the log says where; restart waterclock",
                        self.name
                    );
                    tracing::error!(job = self.name, "{trouble}");
                    return self.health.report(trouble);
                }
            }
        }
    }

    fn count(&self) {
        metrics::counter!(JOB_FAILURES, "job" => self.name).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::config::Config;
    use crate::disk::LocalDisk;
    use crate::error::Error;

    fn run(step: Step) -> Arc<Health> {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(LocalDisk::open(folder.path()).unwrap());
        let db = Db::open(disk, Arc::new(SystemClock::new()), Config::default()).unwrap();
        let health = Arc::new(Health::default());
        let job = Job { name: "test", every: Duration::from_millis(1), step, health: Arc::clone(&health) };
        let (stop, stopped) = bounded(0);
        std::thread::scope(|scope| {
            scope.spawn(|| job.run(&db, &stopped));
            // Long enough for several steps; a job that has ended does not mind.
            let (_open, wait) = bounded::<()>(0);
            assert!(wait.recv_timeout(Duration::from_millis(50)).is_err());
            drop(stop);
        });
        health
    }

    #[test]
    fn a_panic_ends_the_job_and_stays_known() {
        let troubles = run(|_| panic!("on purpose")).troubles();
        assert_eq!(troubles.len(), 1, "{troubles:?}");
        assert!(troubles[0].starts_with("the test job has stopped because of a bug"));
    }

    #[test]
    fn a_failure_is_tried_again() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static STEPS: AtomicUsize = AtomicUsize::new(0);
        let health = run(|_| {
            STEPS.fetch_add(1, Ordering::Relaxed);
            Err(Error::invalid("test", "on purpose"))
        });
        assert!(STEPS.load(Ordering::Relaxed) > 1);
        assert!(health.troubles().is_empty());
    }
}
