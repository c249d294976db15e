//! The real binary, killed at random moments under mixed load: what it answered is so when it is back.
//!
//! Writers send points of any age, overwrite and delete; beside them somebody flushes, merges, creates, refreshes and drops
//! rollups all the time. Only the process dies, so this tests the order of work (logged before answered, files before the
//! manifest), the real file system and the real signal; what a power cut takes is tested by `crash`. `KILLS=n` kills more
//! often, `SEED=n` moves the moments.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};

use crate::support::counts::Counts;
use crate::support::dice::Dice;
use crate::support::ledger::{Ledger, check_rollups};
use crate::support::server::{Door, RESTLESS, Server, check_offline, folder};

const WRITERS: usize = 3;

/// The second is defined on the first.
const ROLLUPS: [(&str, &str); 3] = [
    ("by_minute", "load | every 1m count, sum(v), max(v) by writer"),
    ("by_hour", "by_minute | every 1h sum(v) by ()"),
    ("by_series", "load | every 10m count, min(v), last(v)"),
];

/// What every run has to meet.
const MET: [&str; 8] = ["points", "deletes", "blocks", "merges", "buckets", "created", "dropped", "kept"];

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let number = |name: &str, default: u64| -> u64 {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (kills, seed) = (number("KILLS", 6), number("SEED", 0));
    let folder = folder();
    let mut dice = Dice::new(seed);
    let (ledger, rollups, done) = (Ledger::default(), Rollups::default(), Counts::default());
    let kept = Kept(Mutex::new(vec![KEPT_DAYS]));
    for kill in 0..=kills {
        if kill > 0 {
            check_offline(folder.path(), &format!("seed {seed}, after {kill} kills"));
        }
        let mut server = Server::start(folder.path(), &RESTLESS);
        if kill == 0 {
            // From now on there is a table to delete from and to define rollups on.
            let first = b"load,writer=none,series=none v=0i 1767268800";
            assert_eq!(server.post("/write?db=default&precision=s", first).status, 204);
            server.rows(&format!("delete from load; alter table load keep {KEPT_DAYS}d"));
        }
        let story = format!("seed {seed}, after {kill} kills");
        ledger.check(&server, &story);
        rollups.check(&server, &story);
        kept.check(&server, &story);
        if kill == kills {
            break;
        }
        // The moment is counted in acknowledged operations, not in time: it comes on any machine.
        let moment = 20 + dice.roll(1_000);
        let dead = AtomicBool::new(false);
        let (tell, answered) = channel();
        let seeds: Vec<u64> = (0..=WRITERS).map(|_| dice.next()).collect();
        std::thread::scope(|scope| {
            for (writer, seed) in seeds.into_iter().enumerate() {
                let life = Life { door: server.door(), dead: &dead, done: &done, tell: tell.clone() };
                let (ledger, rollups, kept) = (&ledger, &rollups, &kept);
                scope.spawn(move || match writer {
                    WRITERS => life.keep(rollups, kept, Dice::new(seed)),
                    writer => life.write(ledger, writer, Dice::new(seed)),
                });
            }
            drop(tell);
            // No more answers means that one of them panicked.
            answered.iter().take(moment as usize).for_each(drop);
            // One life goes on until everything has been met, however slow the machine is.
            while kill == 1 && done.lacks(&MET).is_some() && answered.recv().is_ok() {}
            server.kill();
            dead.store(true, Ordering::SeqCst);
        });
    }
    assert_eq!(done.lacks(&MET), None, "seed {seed}: {done:?}");
    assert!(ledger.acknowledged() > 50, "seed {seed}: only {} points are left", ledger.acknowledged());
}

/// One client in one life of the server.
struct Life<'a> {
    door: Door,
    dead: &'a AtomicBool,
    done: &'a Counts,
    tell: Sender<()>,
}

impl Life<'_> {
    fn lives(&self) -> bool {
        !self.dead.load(Ordering::SeqCst)
    }

    fn answered(&self) {
        // Nobody listens any more once the server is being killed.
        let _ = self.tell.send(());
    }

    /// Writes and deletes until the server is dead.
    fn write(&self, ledger: &Ledger, writer: usize, mut dice: Dice) {
        while self.lives() {
            let operation = ledger.next(writer, &mut dice);
            let answer = self.door.try_send("POST", operation.path(), operation.body().as_bytes());
            let Some(reply) = answer else { continue };
            assert!(matches!(reply.status, 200 | 204), "{}: {}", operation.body(), reply.text());
            ledger.acknowledge(&operation);
            self.done.add(if operation.is_delete() { "deletes" } else { "points" }, 1);
            self.answered();
        }
    }

    /// Flushes, merges, changes rollups and the retention until the server is dead.
    fn keep(&self, rollups: &Rollups, kept: &Kept, mut dice: Dice) {
        let count = |path: &str, key: &str| {
            let reply = self.door.try_send("POST", path, b"")?;
            assert!(matches!(reply.status, 200 | 404), "{path}: {}", reply.text());
            reply.json()[key].as_u64()
        };
        while self.lives() {
            let (name, query) = *dice.pick(&ROLLUPS);
            // Flushes are rare, so that most of what a kill meets is in the log only; refreshes are many.
            let answer = match dice.roll(16) {
                0 => count("/api/flush", "blocks").map(|blocks| ("blocks", blocks)),
                1 => count("/api/compact?force=on", "merges").map(|merges| ("merges", merges)),
                2 => rollups.change(self, name, false, "DELETE", ""),
                3 | 4 => rollups.change(self, name, true, "POST", query),
                5 => kept.change(self, KEPT_DAYS + dice.roll(100)),
                _ => {
                    let path = format!("/api/rollups/{name}/refresh");
                    count(&path, "buckets").map(|buckets| ("buckets", buckets))
                }
            };
            if let Some((what, times)) = answer {
                self.done.add(what, times);
                self.answered();
            }
        }
    }
}

/// Longer than the ledger's points are old, so that none of them expires.
const KEPT_DAYS: u64 = 7_300;

/// For how many days the table is kept; one of two while the server died before it said which.
struct Kept(Mutex<Vec<u64>>);

impl Kept {
    fn change(&self, life: &Life<'_>, days: u64) -> Option<(&'static str, u64)> {
        self.0.lock().unwrap().push(days);
        let reply =
            life.door.try_send("POST", "/api/wql", format!("alter table load keep {days}d").as_bytes())?;
        assert_eq!(reply.status, 200, "{}", reply.text());
        *self.0.lock().unwrap() = vec![days];
        Some(("kept", 1))
    }

    fn check(&self, server: &Server, story: &str) {
        let rows = server.rows("show tables");
        let found = rows[0][3].as_str().unwrap_or_else(|| panic!("{story}: {rows}")).to_string();
        let mut known = self.0.lock().unwrap();
        known.retain(|days| found == format!("{days}d"));
        assert!(!known.is_empty(), "{story}: the table is kept for {found}");
    }
}

/// Which rollups there are; None where the server died before it said so.
#[derive(Default)]
struct Rollups(Mutex<BTreeMap<&'static str, Option<bool>>>);

impl Rollups {
    fn change(
        &self,
        life: &Life<'_>,
        name: &'static str,
        exists: bool,
        method: &str,
        query: &str,
    ) -> Option<(&'static str, u64)> {
        let before = self.0.lock().unwrap().insert(name, None).unwrap_or(Some(false));
        let reply = life.door.try_send(method, &format!("/api/rollups/{name}"), query.as_bytes())?;
        let changed = match reply.status {
            200 | 201 => true,
            // There is one already, or none, or another is defined on it, or what it is defined on is not there.
            400 | 404 | 409 => false,
            _ => panic!("{name}: {}", reply.text()),
        };
        self.0.lock().unwrap().insert(name, if changed { Some(exists) } else { before });
        Some((if exists { "created" } else { "dropped" }, changed.into()))
    }

    fn check(&self, server: &Server, story: &str) {
        let found = check_rollups(server, story);
        for (name, known) in self.0.lock().unwrap().iter_mut() {
            let exists = found.iter().any(|found| found == name);
            assert!(known.is_none_or(|known| known == exists), "{story}: {name} should be {known:?}");
            *known = Some(exists);
        }
    }
}
