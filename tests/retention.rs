//! Retention takes points away and never hurts a rollup: whatever comes, a rollup tells what all points ever taken say,
//! and raw reads tell exactly what is kept. Where late points are merged, each is in every rollup once, and in no raw read.
//!
//! Random operations against a model, with clocks that jump; and the power going after every disk operation of a
//! removal. `SEED=n` runs one seed.
//! Not here: the words of it (`scripts`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use waterclock::db::{Db, FlushScope, Lines, RefreshScope};
use waterclock::ingest::line_protocol::Precision;

use crate::support::dice::Dice;
use crate::support::engine::{DATABASE, NOON, SECOND, ask, rows, run, small_config, write};
use crate::support::faulty_disk::{FaultyDisk, Loss};
use crate::support::manual_clock::ManualClock;

const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const SEEDS: u64 = 12;
const STEPS: usize = 120;

#[test]
fn rollups_outlive_their_points_whatever_comes() {
    let seeds = match std::env::var("SEED").ok().and_then(|text| text.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    };
    let (mut removed, mut refused, mut late, mut folds) = (0, 0, 0, 0);
    for seed in seeds {
        let mut life = Life::new(seed);
        for _ in 0..STEPS {
            life.step();
            life.check();
        }
        life.verify();
        removed += life.removed;
        refused += life.refused;
        late += life.late;
        folds += life.folds;
    }
    assert!(removed > 20, "only {removed} blocks were removed: the test tests nothing");
    assert!(refused > 20, "only {refused} points were refused");
    assert!(late > 60 && folds > 8, "only {late} late points, folded in {folds} steps");
}

struct Life {
    dice: Dice,
    disk: FaultyDisk,
    clock: ManualClock,
    db: Option<Db>,
    /// All points that were taken and not deleted, by host and time.
    taken: BTreeMap<(&'static str, i64), i64>,
    /// Late points that wait; a later one of a host and time replaces an earlier one.
    waiting: BTreeMap<(&'static str, i64), i64>,
    /// Those that are merged: the same host and time again is another point.
    folded: Vec<(&'static str, i64, i64)>,
    merges: bool,
    keep: Option<i64>,
    /// How far the wall clock stands off.
    jump: i64,
    value: i64,
    removed: usize,
    refused: usize,
    late: usize,
    /// Steps after which none waited any more.
    folds: usize,
    story: String,
}

impl Life {
    fn new(seed: u64) -> Life {
        let mut life = Life {
            dice: Dice::new(seed),
            disk: FaultyDisk::new(),
            clock: ManualClock::at(NOON),
            db: None,
            taken: BTreeMap::new(),
            waiting: BTreeMap::new(),
            folded: Vec::new(),
            merges: false,
            keep: None,
            jump: 0,
            value: 0,
            removed: 0,
            refused: 0,
            late: 0,
            folds: 0,
            story: format!("seed {seed}\n"),
        };
        life.open();
        life.put("a", NOON);
        life.merges = seed.is_multiple_of(2);
        if life.merges {
            run(life.db(), "alter table cpu late merge").unwrap();
        }
        for statement in [
            "create rollup fine as cpu | every 1m count, sum(n), last(n) by host",
            "create rollup coarse as fine | every 10m count, sum(n) by ()",
        ] {
            run(life.db(), statement).unwrap();
        }
        life
    }

    fn open(&mut self) {
        self.db = None;
        let mut config = small_config();
        config.server.retention_after = Duration::from_secs(600);
        config.limits.block_bytes_max = 8_192;
        let opened = Db::open(Arc::new(self.disk.clone()), Arc::new(self.clock.clone()), config);
        self.db = Some(opened.unwrap_or_else(|error| panic!("{error}\n{}", self.story)));
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn note(&mut self, what: impl std::fmt::Display) {
        let _ = writeln!(self.story, "  {what}");
    }

    fn now(&self) -> i64 {
        use waterclock::clock::Clock;
        self.clock.now()
    }

    /// Where raw reads begin: on an edge of the coarser rollup.
    fn visible_from(&self) -> i64 {
        self.keep.map_or(i64::MIN, |keep| (self.now() - keep).div_euclid(10 * MINUTE) * 10 * MINUTE)
    }

    fn sealed_until(&self) -> i64 {
        let storage = rows(&run(self.db(), "show storage").unwrap());
        let sealed = |row: &String| {
            let text = row.split(" sealed_until=").nth(1).unwrap_or_default();
            query_lang::parse_time(text, 0).unwrap_or(i64::MIN)
        };
        storage.iter().map(sealed).max().unwrap()
    }

    fn put(&mut self, host: &'static str, time: i64) {
        self.value += 1;
        let body = format!("cpu,host={host} n={}i {time}", self.value);
        let lines = Lines {
            database: DATABASE,
            body: body.as_bytes(),
            precision: Precision::Nanos,
            accept_partial: true,
        };
        let (sealed, late_before) = (self.sealed_until_or_min(), self.late_rows());
        let shown = time >= self.visible_from().max(sealed);
        let written = self.db().write_lines_now(&lines).unwrap();
        let is_late = self.late_rows() > late_before;
        let why = || format!("{body}: {:?}\n{}", written.errors, self.story);
        assert_eq!(written.errors.is_empty(), shown || self.merges, "{}", why());
        if !written.errors.is_empty() {
            self.refused += 1;
        } else if is_late {
            assert!(!shown && self.merges, "{}", why());
            self.late += 1;
            self.waiting.insert((host, time), self.value);
        } else {
            assert!(time >= sealed, "{}", why());
            self.taken.insert((host, time), self.value);
        }
    }

    fn late_rows(&self) -> usize {
        let storage = rows(&run(self.db(), "show storage").unwrap());
        let late = |row: &String| {
            let number = row.split(" late_rows=").nth(1)?.split(' ').next()?;
            number.parse::<usize>().ok()
        };
        storage.iter().filter_map(late).sum()
    }

    fn sealed_until_or_min(&self) -> i64 {
        if self.taken.is_empty() { i64::MIN } else { self.sealed_until() }
    }

    fn step(&mut self) {
        match self.dice.roll(26) {
            0..=9 => {
                for _ in 0..1 + self.dice.roll(6) {
                    let host = *self.dice.pick(&["a", "b"]);
                    let reach = *self.dice.pick(&[60, 60, 60, 500]);
                    let back = self.dice.roll(reach) as i64;
                    // Some of what comes is for where the points are gone.
                    let sealed = self.sealed_until();
                    let from = match sealed > i64::MIN && self.dice.roll(3) == 0 {
                        true => sealed,
                        false => self.now() - self.jump,
                    };
                    let time = from - back * 30 * SECOND;
                    self.note(format!("write {host} {time}"));
                    self.put(host, time);
                }
            }
            10 | 11 => {
                let minutes = 5 + self.dice.roll(700);
                self.clock.advance(Duration::from_secs(minutes * 60));
                self.note(format!("{minutes} minutes pass"));
            }
            12 => {
                let jump = *self.dice.pick(&[0, -3 * HOUR, 20 * HOUR, 4_000 * HOUR]);
                self.clock.set(self.now() - self.jump + jump);
                self.jump = jump;
                self.note(format!("the clock stands off by {jump}"));
            }
            13 => {
                let keep = *self.dice.pick(&[Some(1), Some(2), Some(3), Some(6), None]);
                let text = keep.map_or("forever".to_string(), |hours| format!("{hours}h"));
                run(self.db(), &format!("alter table cpu keep {text}")).unwrap();
                self.keep = keep.map(|hours| hours * HOUR);
                self.note(format!("keep {text}"));
            }
            14 | 15 => {
                // A clock that is wrong for less than it takes removes nothing; this one is right.
                self.clock.set(self.now() - self.jump);
                self.jump = 0;
                // What has expired is noted first, and goes when it has stood.
                let mut removed = self.db().expire().unwrap();
                self.clock.advance(Duration::from_secs(601));
                removed += self.db().expire().unwrap();
                self.removed += removed;
                self.note(format!("expire: {removed} blocks"));
            }
            16 | 17 => {
                let blocks = self.db().flush(FlushScope::All).unwrap();
                self.note(format!("flush: {blocks} blocks"));
            }
            18 => {
                let force = self.dice.roll(2) == 0;
                let merges = self.db().compact(force).unwrap();
                self.note(format!("compact: {merges} merges"));
            }
            19 => {
                self.note("restart");
                self.open();
            }
            20 => self.delete(),
            21 | 22 => {
                self.merges = self.dice.roll(3) > 0;
                let text = format!("alter table cpu late {}", if self.merges { "merge" } else { "refuse" });
                run(self.db(), &text).unwrap();
                self.note(text);
            }
            _ => {
                let buckets = self.db().refresh(&RefreshScope::default()).unwrap();
                self.note(format!("refresh: {buckets} buckets"));
            }
        }
        if !self.waiting.is_empty() && self.late_rows() == 0 {
            self.note(format!("{} late points are merged", self.waiting.len()));
            let merged = std::mem::take(&mut self.waiting);
            self.folded.extend(merged.into_iter().map(|((host, time), n)| (host, time, n)));
            self.folds += 1;
        }
    }

    /// All that rollups tell of.
    fn known(&self) -> Vec<(&'static str, i64, i64)> {
        let point = |((host, time), n): (&(&'static str, i64), &i64)| (*host, *time, *n);
        let known = self.taken.iter().chain(&self.waiting).map(point);
        known.chain(self.folded.iter().copied()).collect()
    }

    fn delete(&mut self) {
        let from = self.now() - self.jump - self.dice.roll(400) as i64 * MINUTE;
        let to = from + self.dice.roll(30) as i64 * MINUTE + 1;
        let text = format!("delete from cpu{{host=\"a\"}} between {from}ns and {to}ns");
        self.note(&text);
        match run(self.db(), &text) {
            Ok(_) => self.taken.retain(|(host, time), _| *host != "a" || *time < from || *time >= to),
            Err(error) => {
                assert!(error.to_string().contains("add `since"), "{error}");
                let edge = |(_, time): &(&str, i64)| (time.div_euclid(10 * MINUTE) + 1) * 10 * MINUTE;
                let late = self.waiting.keys().map(edge).max();
                let until = late.unwrap_or(i64::MIN).max(self.sealed_until());
                assert!(from < until, "{error}\n{}", self.story);
            }
        }
    }

    /// States are those of the points, where there are points; late points change nothing about that.
    fn verify(&self) {
        for rollup in ["fine", "coarse"] {
            let found = self.db().check_rollup(DATABASE, rollup, &mut |_, _| {}).unwrap();
            assert_eq!(found.differences, [], "{rollup}\n{}", self.story);
        }
    }

    fn check(&mut self) {
        let kept_from = self.visible_from().max(self.sealed_until()).max(0);
        let kept: Vec<String> = self
            .taken
            .iter()
            .filter(|((_, time), _)| *time >= kept_from)
            .map(|((host, time), n)| format!("time={time} host={host} n={n}"))
            .collect();
        let mut found = rows(&ask(self.db(), &format!("cpu | since {kept_from}ns"), true).unwrap());
        found.sort();
        let mut expected = kept;
        expected.sort();
        assert_eq!(found, expected, "raw\n{}", self.story);

        let mut fine: BTreeMap<(String, i64), Vec<(i64, i64)>> = BTreeMap::new();
        for (host, time, n) in self.known() {
            let bucket = time.div_euclid(MINUTE) * MINUTE;
            fine.entry((host.to_string(), bucket)).or_default().push((time, n));
        }
        let fine: Vec<String> = fine
            .into_iter()
            .map(|((host, bucket), points)| {
                let sum: i64 = points.iter().map(|(_, n)| n).sum();
                let last = points.iter().max().unwrap().1;
                format!("time={bucket} host={host} count={} sum_n={sum} last_n={last}", points.len())
            })
            .collect();
        assert_eq!(rows(&ask(self.db(), "fine", true).unwrap()), fine, "fine\n{}", self.story);

        let mut coarse: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
        for (_, time, n) in self.known() {
            let bucket = coarse.entry(time.div_euclid(10 * MINUTE) * 10 * MINUTE).or_default();
            *bucket = (bucket.0 + 1, bucket.1 + n);
        }
        let coarse: Vec<String> = coarse
            .into_iter()
            .map(|(bucket, (count, sum))| format!("time={bucket} count={count} sum_n={sum}"))
            .collect();
        assert_eq!(rows(&ask(self.db(), "coarse", true).unwrap()), coarse, "coarse\n{}", self.story);
    }
}

/// Removing blocks, sealing and the flush of states before it, cut off at every disk operation.
#[test]
fn no_crash_in_a_removal_loses_what_rollups_know() {
    let mut tried = 0;
    for crash_after in 0.. {
        let disk = FaultyDisk::crash_after(crash_after);
        let clock = ManualClock::at(NOON);
        let lived = live(&disk, &clock);
        if !disk.crashed() {
            lived.unwrap();
            break;
        }
        tried += 1;
        for (seed, loss) in [(crash_after, Loss::Lost), (crash_after, Loss::Reordered), (1, Loss::Torn)] {
            let after = disk.after_power_loss(seed, loss);
            let db = crate::support::engine::open(&after, &clock)
                .unwrap_or_else(|error| panic!("crash_after {crash_after}, {loss:?}: {error}"));
            let Ok(answer) = ask(&db, "hours", true) else { continue };
            let found = rows(&answer);
            // Before the rollup was acknowledged it is not there; after that it knows every point that was.
            for row in &found {
                assert!(row.ends_with("count=2 sum_n=3"), "crash_after {crash_after}, {loss:?}: {found:?}");
            }
            assert_eq!(found.len(), 6, "crash_after {crash_after}, {loss:?}: {found:?}");
        }
    }
    assert!(tried > 40, "only {tried} crash points");
}

fn live(disk: &FaultyDisk, clock: &ManualClock) -> waterclock::error::Result<()> {
    let db = crate::support::engine::open(disk, clock)?;
    let lines: Vec<String> = (1..7)
        .map(|day| NOON - day * 24 * HOUR)
        .flat_map(|time| [format!("cpu,host=a n=1i {time}"), format!("cpu,host=b n=2i {}", time + SECOND)])
        .collect();
    write(&db, &lines.join("\n"))?;
    for _ in 0..2 {
        db.flush(FlushScope::All)?;
    }
    run(&db, "create rollup hours as cpu | every 1h count, sum(n) by ()")?;
    run(&db, "alter table cpu keep 3d")?;
    // The rest of the week expires while the rollup has yet to be computed.
    run(&db, "alter table cpu keep forever")?;
    db.refresh(&RefreshScope::default())?;
    run(&db, "alter table cpu keep 3d")?;
    for _ in 0..3 {
        db.expire()?;
        clock.advance(Duration::from_secs(2 * 3_600));
    }
    db.compact(true)?;
    db.flush(FlushScope::All)?;
    let storage = rows(&run(&db, "show storage")?);
    assert!(storage[1].contains("sealed_until=2025-12-29T1"), "{storage:?}");
    Ok(())
}
