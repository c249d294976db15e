//! A database under test, whichever way in: in this process on a disk whose power can be cut, or the real binary over HTTP.
//!
//! Invariant: what fails because the power or the process is gone says so; anything else that fails is an answer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value as Json;
use waterclock::clock::Clock;
use waterclock::db::{Db, FlushScope, Lines, RefreshScope};
use waterclock::error::{Error, Result as Outcome};
use waterclock::ingest::line_protocol::Precision;

use crate::support::counts::Counts;
use crate::support::dice::Dice;
use crate::support::engine::{DATABASE, NOON, SECOND, ask, cells};
use crate::support::faulty_disk::{FaultyDisk, Loss};
use crate::support::manual_clock::ManualClock;
use crate::support::question::Cells;
use crate::support::server::{Door, Reply, Server, check_offline};
use crate::support::workload::OLD_UNTIL;

#[derive(Debug)]
pub enum Trouble {
    /// It answered, with this error.
    Refused(String),
    /// No answer: it may have happened or not.
    Gone,
}

pub type Told<T> = Result<T, Trouble>;

pub struct Answered {
    pub cells: Cells,
    /// Names of the rollups that gave a part of it.
    pub used: Vec<String>,
}

pub trait Subject: Sync {
    fn write(&self, lines: &str) -> Told<()>;
    fn run(&self, statement: &str, rollups: bool) -> Told<Answered>;
    /// Some work of the background.
    fn upkeep(&self, rollups: &[String], dice: &mut Dice, counts: &Counts) -> Told<()>;
    /// All work of the background that is due.
    fn catch_up(&self, counts: &Counts);
    /// How long to keep points so that the old ones are hidden and no others.
    fn keep(&self) -> String;
    /// The power goes, or the process dies, very soon.
    fn cut(&self, dice: &mut Dice);
}

/// How one life of a database ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Stopped, with everything in blocks.
    Clean,
    /// Ended while nobody asked anything.
    Hard,
    /// Cut off in the middle of everything.
    Cut,
}

/// Where a database lives, from one life to the next.
pub trait Home {
    type Subject: Subject;
    fn open(&mut self, story: &str) -> Self::Subject;
    fn close(&mut self, subject: Self::Subject, end: End, dice: &mut Dice, story: &str);
}

pub struct PowerCuts {
    disk: FaultyDisk,
    clock: ManualClock,
}

pub struct Local {
    db: Db,
    disk: FaultyDisk,
    clock: ManualClock,
}

impl PowerCuts {
    pub fn new() -> PowerCuts {
        PowerCuts { disk: FaultyDisk::new(), clock: ManualClock::at(NOON) }
    }
}

impl Home for PowerCuts {
    type Subject = Local;

    fn open(&mut self, story: &str) -> Local {
        let mut config = crate::support::engine::small_config();
        config.limits.wal_segment_bytes_max = 4_096;
        config.limits.refresh_states_max = 1_000;
        config.server.retention_after = RETENTION_AFTER;
        // The clock jumps while queries run.
        config.limits.query_time_max = Duration::MAX;
        let (disk, clock) = (self.disk.clone(), self.clock.clone());
        let opened = Db::open(Arc::new(disk.clone()), Arc::new(clock.clone()), config);
        let db = opened.unwrap_or_else(|error| panic!("{error}\n{story}"));
        Local { db, disk, clock }
    }

    fn close(&mut self, subject: Local, end: End, dice: &mut Dice, story: &str) {
        if end == End::Clean {
            subject.db.flush_for_stop().unwrap_or_else(|error| panic!("{error}\n{story}"));
        }
        drop(subject);
        let loss = *dice.pick(&[Loss::Kept, Loss::Lost, Loss::Torn, Loss::Reordered]);
        self.disk = self.disk.after_power_loss(dice.next(), loss);
    }
}

const RETENTION_AFTER: Duration = Duration::from_secs(60);

/// So that nothing but old points expires, however long a run is.
const CLOCK_MAX: i64 = NOON + 3 * 3_600 * SECOND;

impl Local {
    fn gone_or(&self, error: &Error) -> Trouble {
        if self.disk.crashed() { Trouble::Gone } else { Trouble::Refused(error.to_string()) }
    }

    /// Errors other than that the power is gone are none that upkeep may have.
    fn done<T>(&self, what: &str, outcome: Outcome<T>) -> Told<T> {
        outcome.map_err(|error| match self.gone_or(&error) {
            Trouble::Refused(error) => panic!("{what}: {error}"),
            Trouble::Gone => Trouble::Gone,
        })
    }

    /// What has expired is noted first, and goes when it has stood.
    fn expire(&self, counts: &Counts) -> Told<()> {
        let mut removed = self.done("expire", self.db.expire())?;
        self.pass(RETENTION_AFTER + Duration::from_secs(1));
        removed += self.done("expire", self.db.expire())?;
        counts.add("blocks expired", removed as u64);
        Ok(())
    }

    fn pass(&self, time: Duration) {
        if self.clock.now() < CLOCK_MAX {
            self.clock.advance(time);
        }
    }
}

impl Subject for Local {
    fn write(&self, lines: &str) -> Told<()> {
        let (database, body) = (DATABASE, lines.as_bytes());
        let lines = Lines { database, body, precision: Precision::Nanos, accept_partial: true };
        let written = self.db.write_lines_now(&lines).map_err(|error| self.gone_or(&error))?;
        match written.errors.first() {
            Some(error) => Err(Trouble::Refused(error.to_string())),
            None => Ok(()),
        }
    }

    fn run(&self, statement: &str, rollups: bool) -> Told<Answered> {
        let answer = ask(&self.db, statement, rollups).map_err(|error| self.gone_or(&error))?;
        let used = answer.stats.rollups.iter().map(|used| used.name.clone()).collect();
        Ok(Answered { cells: cells(&answer), used })
    }

    fn upkeep(&self, rollups: &[String], dice: &mut Dice, counts: &Counts) -> Told<()> {
        let some = |dice: &mut Dice| (!rollups.is_empty()).then(|| dice.pick(rollups).clone());
        match dice.roll(16) {
            0 | 1 => {
                let scope = *dice.pick(&[FlushScope::All, FlushScope::All, FlushScope::States]);
                let blocks = self.done("flush", self.db.flush(scope))?;
                counts.add("blocks flushed", blocks as u64);
            }
            2 | 3 => {
                let merges = self.done("compact", self.db.compact(dice.roll(4) > 0))?;
                counts.add("merges", merges as u64);
            }
            4 => {
                self.expire(counts)?;
            }
            5 => self.pass(Duration::from_secs(dice.roll(120))),
            6 => {
                let Some(name) = some(dice) else { return Ok(()) };
                match self.db.check_rollup(DATABASE, &name, &mut |_, _| {}) {
                    Ok(check) => {
                        assert_eq!(check.differing, 0, "{name}: {:?}", check.differences);
                        counts.add("states verified", check.states);
                    }
                    // It may have been dropped.
                    Err(error) if error.to_string().contains("there is no rollup") => {}
                    Err(error) => self.done("check", Err(error))?,
                }
            }
            roll => {
                let rollup = if roll < 10 { some(dice) } else { None };
                let scope =
                    RefreshScope { rollup: rollup.map(|name| (DATABASE.to_string(), name)), within: None };
                let outcome = match roll % 2 {
                    0 => self.db.refresh(&scope),
                    _ => self.db.refresh_step(&scope).map(|step| step.buckets),
                };
                match outcome {
                    Ok(buckets) => counts.add("buckets computed", buckets),
                    Err(error) if error.to_string().contains("there is no rollup") => {}
                    Err(error) => self.done("refresh", Err(error))?,
                }
            }
        }
        Ok(())
    }

    fn catch_up(&self, counts: &Counts) {
        counts.add("buckets computed", self.db.refresh(&RefreshScope::default()).unwrap());
        counts.add("blocks flushed", self.db.flush(FlushScope::All).unwrap() as u64);
        counts.add("merges", self.db.compact(true).unwrap() as u64);
        self.expire(counts).unwrap();
    }

    fn keep(&self) -> String {
        format!("{}s", (NOON - OLD_UNTIL) / SECOND)
    }

    fn cut(&self, dice: &mut Dice) {
        self.disk.crash_in(dice.roll(40));
    }
}

/// The real binary on a folder.
pub struct Kills {
    folder: tempfile::TempDir,
    flags: &'static [&'static str],
}

pub struct Remote {
    server: Mutex<Server>,
    door: Door,
}

impl Kills {
    pub fn new(flags: &'static [&'static str]) -> Kills {
        Kills { folder: crate::support::server::folder(), flags }
    }
}

impl Home for Kills {
    type Subject = Remote;

    fn open(&mut self, _: &str) -> Remote {
        let server = Server::start(self.folder.path(), self.flags);
        Remote { door: server.door(), server: Mutex::new(server) }
    }

    fn close(&mut self, subject: Remote, end: End, _: &mut Dice, story: &str) {
        let mut server = subject.server.into_inner().unwrap();
        match end {
            End::Clean => assert!(server.stop().success(), "{story}"),
            // It may be dead already.
            End::Hard | End::Cut => server.kill(),
        }
        check_offline(self.folder.path(), story);
    }
}

impl Remote {
    fn send(&self, path: &str, body: &str) -> Told<Reply> {
        let reply = self.door.try_send("POST", path, body.as_bytes()).ok_or(Trouble::Gone)?;
        if reply.status >= 300 { Err(Trouble::Refused(reply.text())) } else { Ok(reply) }
    }
}

impl Subject for Remote {
    fn write(&self, lines: &str) -> Told<()> {
        self.send("/write?db=default&precision=ns", lines).map(drop)
    }

    fn run(&self, statement: &str, rollups: bool) -> Told<Answered> {
        let rollups = if rollups { "on" } else { "off" };
        let answer = self.send(&format!("/api/wql?time=ns&rollups={rollups}"), statement)?.json();
        let columns = answer["columns"].as_array().expect("an answer has columns");
        let floats: Vec<bool> = columns.iter().map(|column| column["type"] == "float").collect();
        let cell = |cell: &Json, float: bool| match cell {
            Json::Null => None,
            Json::String(text) => Some(text.clone()),
            number if float => Some(format!("{:?}", number.as_f64().expect("a number"))),
            other => Some(other.to_string()),
        };
        let row = |row: &Json| {
            let row = row.as_array().expect("a row is a list");
            row.iter().zip(&floats).map(|(value, float)| cell(value, *float)).collect()
        };
        let used = answer["stats"]["rollups"].as_array().expect("stats name rollups");
        Ok(Answered {
            cells: answer["rows"].as_array().expect("an answer has rows").iter().map(row).collect(),
            used: used.iter().map(|used| used["name"].as_str().expect("a name").to_string()).collect(),
        })
    }

    /// The binary's own background works beside it.
    fn upkeep(&self, rollups: &[String], dice: &mut Dice, counts: &Counts) -> Told<()> {
        let (path, key, what) = match dice.roll(8) {
            0 => ("/api/flush".to_string(), "blocks", "blocks flushed"),
            1 | 2 => ("/api/compact?force=on".to_string(), "merges", "merges"),
            _ if rollups.is_empty() => return Ok(()),
            _ => (format!("/api/rollups/{}/refresh", dice.pick(rollups)), "buckets", "buckets computed"),
        };
        match self.send(&path, "") {
            Ok(reply) => counts.add(what, reply.json()[key].as_u64().expect("a number")),
            // It may have been dropped.
            Err(Trouble::Refused(error)) => assert!(error.contains("there is no rollup"), "{path}: {error}"),
            Err(Trouble::Gone) => return Err(Trouble::Gone),
        }
        Ok(())
    }

    fn catch_up(&self, counts: &Counts) {
        let listed = self.run("show rollups", true).unwrap().cells;
        for name in listed.into_iter().filter_map(|row| row[0].clone()) {
            let reply = self.send(&format!("/api/rollups/{name}/refresh"), "").unwrap();
            counts.add("buckets computed", reply.json()["buckets"].as_u64().expect("a number"));
        }
        let work =
            [("/api/flush", "blocks", "blocks flushed"), ("/api/compact?force=on", "merges", "merges")];
        for (path, key, what) in work {
            let reply = self.send(path, "").unwrap();
            counts.add(what, reply.json()[key].as_u64().expect("a number"));
        }
    }

    fn keep(&self) -> String {
        let now = waterclock::clock::SystemClock::new().now();
        format!("{}s", (now - OLD_UNTIL) / SECOND)
    }

    fn cut(&self, _: &mut Dice) {
        self.server.lock().unwrap().kill();
    }
}
