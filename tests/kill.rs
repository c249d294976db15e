//! The real binary, killed at random moments under load: what it answered 204 to is there when it is back.
//!
//! Only the process dies, so this tests the order of work (logged before answered, files before the manifest), the real
//! file system and the real signal; what a power cut takes is tested by `crash`. `KILLS=n` kills more often, `SEED=n`
//! moves the moments.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};

use crate::support::dice::Dice;
use crate::support::server::{Door, Server, folder};

const WRITERS: usize = 3;
const SERIES: u64 = 5;
const TIMES: u64 = 40;
const NOON_S: u64 = 1_767_268_800;

/// Flush, merge and refresh all the time, in small segments.
const FLAGS: [&str; 12] = [
    "--set",
    "wal_segment_bytes_max=4KiB",
    "--set",
    "head_bytes_max=1MiB",
    "--set",
    "flush_after=1ms",
    "--set",
    "flush_small_after=1ms",
    "--set",
    "compact_after=1ms",
    "--set",
    "refresh_every=10ms",
];

/// A writer's series are its own, so that its last write is the last one.
type Key = (usize, u64, u64);

/// Values that may be read: the last one that was acknowledged, and those sent after it.
#[derive(Clone, Debug, Default)]
struct Allowed {
    acknowledged: Option<u64>,
    sent_since: Vec<u64>,
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let number = |name: &str, default: u64| -> u64 {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (kills, seed) = (number("KILLS", 6), number("SEED", 0));
    let folder = folder();
    let mut dice = Dice::new(seed);
    let known: Mutex<BTreeMap<Key, Allowed>> = Mutex::default();
    let value = AtomicU64::new(1);
    let mut acknowledged = 0;
    let blocks = folder.path().join("blocks/default/load");
    for kill in 0..kills {
        let mut server = Server::start(folder.path(), &FLAGS);
        if kill == 0 {
            let first = format!("load,writer=0,series=0 v=0i {NOON_S}");
            assert_eq!(server.post("/write?db=default&precision=s", first.as_bytes()).status, 204);
            known
                .lock()
                .unwrap()
                .insert((0, 0, 0), Allowed { acknowledged: Some(0), sent_since: Vec::new() });
            server.rows("create rollup by_minute as load | every 1m count, sum(v), max(v) by writer");
        }
        check(&server, &known.lock().unwrap(), &format!("seed {seed}, after {kill} kills"));
        // The moment is counted in acknowledged writes, not in time: it comes on any machine.
        let mut left = 20 + dice.roll(1_000);
        let dead = AtomicBool::new(false);
        let (tell, answered) = channel();
        let seeds: Vec<u64> = (0..WRITERS).map(|_| dice.next()).collect();
        std::thread::scope(|scope| {
            for (writer, seed) in seeds.into_iter().enumerate() {
                let load = Load { writer, door: server.door(), value: &value, known: &known, dead: &dead };
                let tell = tell.clone();
                scope.spawn(move || load.write(Dice::new(seed), &tell));
            }
            drop(tell);
            // One life sees a flush, however fast the machine is. No more answers means that a writer panicked.
            while (left > 0 || kill == 1 && !blocks.is_dir()) && answered.recv().is_ok() {
                left = left.saturating_sub(1);
            }
            server.kill();
            dead.store(true, Ordering::SeqCst);
        });
        acknowledged =
            known.lock().unwrap().values().filter(|allowed| allowed.acknowledged.is_some()).count();
    }
    let server = Server::start(folder.path(), &FLAGS);
    check(&server, &known.lock().unwrap(), &format!("seed {seed}, at the end"));
    assert!(acknowledged > 100, "only {acknowledged} points were acknowledged");
}

/// One writer.
struct Load<'a> {
    writer: usize,
    door: Door,
    /// No two points ever have the same value.
    value: &'a AtomicU64,
    known: &'a Mutex<BTreeMap<Key, Allowed>>,
    dead: &'a AtomicBool,
}

impl Load<'_> {
    /// Writes until the server is dead; tells of each answer.
    fn write(&self, mut dice: Dice, tell: &Sender<()>) {
        while !self.dead.load(Ordering::SeqCst) {
            let batch = batch(self.writer, &mut dice, self.value);
            for (key, value) in &batch {
                self.known.lock().unwrap().entry(*key).or_default().sent_since.push(*value);
            }
            let answer = self.door.try_post("/write?db=default&precision=s", body(&batch).as_bytes());
            let Some(status) = answer else { continue };
            assert_eq!(status, 204);
            for (key, value) in &batch {
                let mut known = self.known.lock().unwrap();
                let allowed = known.entry(*key).or_default();
                allowed.acknowledged = Some(*value);
                allowed.sent_since.retain(|sent| sent > value);
            }
            // Nobody listens any more once the server is being killed.
            let _ = tell.send(());
        }
    }
}

/// Each time of a series once: in one batch the last of equal ones would win.
fn batch(writer: usize, dice: &mut Dice, value: &AtomicU64) -> Vec<(Key, u64)> {
    let mut points = BTreeMap::new();
    for _ in 0..1 + dice.roll(8) {
        points.insert((writer, dice.roll(SERIES), dice.roll(TIMES)), value.fetch_add(1, Ordering::SeqCst));
    }
    points.into_iter().collect()
}

fn body(batch: &[(Key, u64)]) -> String {
    let mut lines = String::new();
    for (key @ (writer, series, _), v) in batch {
        let _ = writeln!(lines, "load,writer={writer},series={series} v={v}i {}", seconds(*key));
    }
    lines
}

fn seconds((_, _, time): Key) -> u64 {
    // Some of the times are days apart, so that there are several partitions.
    NOON_S + time * 10 + (time % 4) * 86_400
}

fn check(server: &Server, known: &BTreeMap<Key, Allowed>, story: &str) {
    let reply = server.post("/api/wql?time=s", b"load | limit 100000");
    assert_eq!(reply.status, 200, "{story}: {}", reply.text());
    let mut found = BTreeMap::new();
    for row in reply.json()["rows"].as_array().unwrap() {
        // Time, then the tags in order, then the field.
        let tag = |at: usize| row[at].as_str().unwrap().parse::<u64>().unwrap();
        let key = (row[0].as_u64().unwrap(), tag(1), tag(2));
        assert!(found.insert(key, row[3].as_u64().unwrap()).is_none(), "{story}: a point came twice: {row}");
    }
    for (key, allowed) in known {
        let (writer, series, _) = *key;
        match found.remove(&(seconds(*key), series, writer as u64)) {
            Some(value) => {
                let right = allowed.acknowledged == Some(value) || allowed.sent_since.contains(&value);
                assert!(right, "{story}: {key:?} is {value}, which is none of {allowed:?}");
            }
            None => assert!(allowed.acknowledged.is_none(), "{story}: {key:?} is gone, it was {allowed:?}"),
        }
    }
    assert!(found.is_empty(), "{story}: nobody has sent {found:?}");
    let ask = |rollups: &str| {
        let query = b"load | every 1m count, sum(v), max(v) by writer";
        let reply = server.post(&format!("/api/wql?rollups={rollups}"), query);
        assert_eq!(reply.status, 200, "{story}: {}", reply.text());
        reply.json()["rows"].clone()
    };
    assert_eq!(ask("on"), ask("off"), "{story}");
}
