//! The demo's writer: a sample at every full second through the public HTTP door, and the rollups over it.
//!
//! Invariant: a second that cannot be written is lost and the next one is tried; the person is told when it begins to
//! fail and when it works again, not every second.
//! Not here: what is sampled (`vitals`).

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::cli::client::Client;
use crate::cli::demo::vitals::Vitals;
use crate::clock::Clock;
use crate::error::{Error, Result};

/// What the demo keeps of its tables, finest first: a rollup comes after the one it stands on.
const ROLLUPS: [(&str, &str); 8] = [
    ("cpu_10s", "cpu | every 10s avg(usage), min(usage), max(usage) by host, cpu"),
    ("cpu_1m", "cpu_10s | every 1m avg(usage), min(usage), max(usage) by host, cpu"),
    ("mem_10s", "mem | every 10s avg(used_percent), max(used_percent), min(available_bytes) by host"),
    ("mem_1m", "mem_10s | every 1m avg(used_percent), max(used_percent), min(available_bytes) by host"),
    ("load_1m", "load | every 1m avg(one), max(one), last(five), last(fifteen) by host"),
    (
        "disk_1m",
        "disk | every 1m max(used_percent), last(free_bytes), last(read_bytes), last(written_bytes) by host, mount, device",
    ),
    (
        "net_1m",
        "net | every 1m first(received_bytes), last(received_bytes), first(sent_bytes), last(sent_bytes) by host, interface",
    ),
    ("system_1m", "system | every 1m max(processes), last(uptime) by host"),
];

pub struct Collector {
    vitals: Vitals,
    client: Client,
    clock: Arc<dyn Clock>,
}

impl Collector {
    /// Waits a moment, because CPU usage is a difference between two looks.
    pub fn new(client: Client, clock: Arc<dyn Clock>) -> Result<Collector> {
        let vitals = Vitals::new()?;
        let never = crossbeam_channel::never::<()>();
        let _ = never.recv_timeout(sysinfo::MINIMUM_CPU_UPDATE_INTERVAL);
        Ok(Collector { vitals, client, clock })
    }

    /// Samples until `stop` is closed. Every written second is told to `written`; trouble goes to `notes`.
    pub fn run(mut self, stop: &Receiver<()>, written: &Sender<i64>, notes: &Sender<String>) {
        if let Err(error) = self.begin() {
            tell(notes, &format!("the demo's rollups are not complete: {error}"));
        }
        let mut failing = false;
        loop {
            let now = self.clock.now();
            let next_s = now.div_euclid(NANOS) + 1;
            let wait = Duration::from_nanos(u64::try_from(next_s * NANOS - now).unwrap_or(0));
            match stop.recv_timeout(wait) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
            let outcome = self.write(next_s);
            match (&outcome, failing) {
                (Err(error), false) => tell(notes, &format!("a second could not be written: {error}")),
                (Ok(()), true) => tell(notes, "writing works again"),
                _ => {}
            }
            failing = outcome.is_err();
            // Nobody waits for it if drawing takes longer than a second.
            let _ = written.try_send(next_s);
        }
    }

    /// The first sample, and rollups over the tables that it made.
    fn begin(&mut self) -> Result<()> {
        self.write(self.clock.now().div_euclid(NANOS))?;
        let existing = self.client.answer("show rollups", &Vec::new())?;
        let names: Vec<&str> =
            existing.rows.iter().filter_map(|row| row.first().and_then(|name| name.as_str())).collect();
        let tables = self.client.answer("show tables", &Vec::new())?;
        let has = |table: &str| tables.rows.iter().any(|row| row.first().is_some_and(|name| name == table));
        for (name, query) in ROLLUPS.iter().filter(|(name, _)| !names.contains(name)) {
            let table = query.split([' ', '_']).next().unwrap_or_default();
            // A machine without load averages, or a container without disks.
            if has(table) {
                self.client.answer(&format!("create rollup {name} as {query}"), &Vec::new())?;
            }
        }
        Ok(())
    }

    fn write(&mut self, time_s: i64) -> Result<(), Error> {
        self.client.write_seconds(&self.vitals.sample(time_s))
    }
}

const NANOS: i64 = 1_000_000_000;

fn tell(notes: &Sender<String>, text: &str) {
    let _ = notes.try_send(text.to_string());
}
