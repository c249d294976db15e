//! The power goes after every single disk operation of a workload, and nothing acknowledged may be missing afterwards.
//!
//! For each operation at which the disk stops, and for each way in which a power cut treats what was not synced: the folder
//! opens; the points are exactly the acknowledged ones, with or without the one change that was under way; rollups are
//! those acknowledged and answer what the raw points answer, bit for bit; and all of it stays true after a second
//! power cut, after more writes, and after another start. `CRASH_AFTER=n` tries one operation only; `THOROUGH=1` tries
//! every way at every operation, and `THOROUGH=2` and so on the same with other luck.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use waterclock::db::{Db, FlushScope, RefreshScope};
use waterclock::error::Result;

use crate::support::counts::Counts;
use crate::support::dice::Dice;
use crate::support::engine::{DATABASE, NOON, SECOND, ask, open, rows, run, write};
use crate::support::faulty_disk::{FaultyDisk, Loss};
use crate::support::manual_clock::ManualClock;

const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// How a power cut treats what was not synced. What is left to chance differs at each crash point.
const LOSSES: [Loss; 5] = [Loss::Kept, Loss::Lost, Loss::Torn, Loss::Reordered, Loss::Reordered];

#[test]
#[expect(clippy::print_stderr, reason = "says how much was tried")]
fn every_crash_point_keeps_what_was_acknowledged() {
    let only: Option<u64> = std::env::var("CRASH_AFTER").ok().and_then(|text| text.parse().ok());
    let counts = Counts::default();
    run_from(only, &counts);
    eprintln!("{:?}", counts.all());
    if only.is_none() {
        let [points, starts, answers] =
            ["crash points", "starts after them", "answers from rollups"].map(|what| counts.get(what));
        assert!(points > 250, "only {points} crash points: the workload is too small to test anything");
        assert!(starts >= points * 3 * 2);
        assert!(answers > points, "only {answers} answers came from rollups");
    }
}

/// The crash point `only`, or all.
///
/// G5: a refresh that dies at any point is done again. G9: after a power loss, rollups answer what the points answer.
pub fn run_from(only: Option<u64>, counts: &Counts) {
    let steps = workload();
    let next = AtomicU64::new(only.unwrap_or(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let crash_after = next.fetch_add(1, Ordering::Relaxed);
                    let finished = try_crash(&steps, crash_after, counts);
                    if finished || only.is_some() {
                        break;
                    }
                }
            });
        }
    });
}

/// Runs the workload until the disk stops. True if it never did.
fn try_crash(steps: &[Step], crash_after: u64, counts: &Counts) -> bool {
    let disk = FaultyDisk::crash_after(crash_after);
    let clock = ManualClock::at(NOON);
    let mut known = Known::default();
    let under_way = run_until_crash(&disk, &clock, steps, &mut known);
    if !disk.crashed() {
        assert!(under_way.is_none(), "a step failed though the disk did not");
        return true;
    }
    counts.add("crash points", 1);
    let mut possible = vec![known.clone()];
    if let Some(step) = under_way {
        known.apply(step);
        possible.push(known);
    }
    let thorough: Option<u64> = std::env::var("THOROUGH").ok().and_then(|text| text.parse().ok());
    for (number, loss) in LOSSES.into_iter().enumerate() {
        // The kinds that leave nothing to chance at each operation, one of the others.
        let chosen = number < 2 || number as u64 == 2 + crash_after % 3;
        if thorough.is_none() && !chosen {
            continue;
        }
        let seed = thorough.unwrap_or(0) * 1_000_000 + crash_after * LOSSES.len() as u64 + number as u64;
        let story = format!("crash_after {crash_after}, {loss:?}, during {under_way:?}");
        let found = disk.after_power_loss(seed, loss);
        Aftermath { story, clock: &clock, counts }.check(&found, loss, seed, &possible);
    }
    false
}

/// The step that failed, if one did.
fn run_until_crash<'a>(
    disk: &FaultyDisk,
    clock: &ManualClock,
    steps: &'a [Step],
    known: &mut Known,
) -> Option<&'a Step> {
    let mut db = match open(disk, clock) {
        Ok(db) => db,
        Err(error) => {
            assert!(disk.crashed(), "{error}");
            return None;
        }
    };
    for step in steps {
        let outcome = match step {
            Step::Restart => {
                drop(db);
                match open(disk, clock) {
                    Ok(reopened) => db = reopened,
                    Err(error) => {
                        assert!(disk.crashed(), "{error}");
                        return Some(step);
                    }
                }
                Ok(())
            }
            _ => step.run(&db, clock),
        };
        match outcome {
            Ok(()) => known.apply(step),
            Err(error) => {
                assert!(disk.crashed(), "{step:?}: {error}");
                return Some(step);
            }
        }
    }
    None
}

/// What must hold after a crash.
struct Aftermath<'a> {
    story: String,
    clock: &'a ManualClock,
    counts: &'a Counts,
}

impl Aftermath<'_> {
    fn check(&self, disk: &FaultyDisk, loss: Loss, seed: u64, possible: &[Known]) {
        let (db, mut known) = self.start("the first start", disk, possible);
        if loss == Loss::Kept {
            drop(db);
            // What was read is durable: the power may go before anything else is written.
            let loss = if seed.is_multiple_of(2) { Loss::Lost } else { Loss::Reordered };
            let cut = disk.after_power_loss(seed, loss);
            self.start("a power cut after the restart", &cut, std::slice::from_ref(&known));
            let more = [
                Step::Write(vec![point("a", "eu", NOON - HOUR, 1), point("b", "eu", NOON + 5 * HOUR, 2)]),
                Step::Refresh,
                Step::Flush,
                Step::Write(vec![point("a", "eu", NOON - HOUR, 3)]),
            ];
            let (db, _) = self.start("the start to go on", disk, std::slice::from_ref(&known));
            for step in &more {
                step.run(&db, self.clock).unwrap_or_else(|error| panic!("{}: going on: {error}", self.story));
                known.apply(step);
            }
            self.find("going on", &db, std::slice::from_ref(&known));
        }
        // A second power cut may bring back what the first start has cleaned up.
        let cut = disk.after_power_loss(seed, Loss::Reordered);
        self.start("the last start", &cut, &[known]);
    }

    fn start(&self, when: &str, disk: &FaultyDisk, possible: &[Known]) -> (Db, Known) {
        self.counts.add("starts after them", 1);
        let db = open(disk, self.clock)
            .unwrap_or_else(|error| panic!("{}, {when}: {error}; files: {:?}", self.story, disk.files()));
        let known = self.find(when, &db, possible).clone();
        (db, known)
    }

    /// Which of the possible truths the database tells; and that its rollups tell the same.
    fn find<'a>(&self, when: &str, db: &Db, possible: &'a [Known]) -> &'a Known {
        let story = &self.story;
        let found = Known::read(db);
        let Some(known) = possible.iter().find(|known| known.printed() == found) else {
            let differences: Vec<String> =
                possible.iter().map(|known| known.printed().minus(&found)).collect();
            panic!("{story}, {when}\n{}", differences.join("\nor\n"));
        };
        for query in known.rollups.values().map(|rollup| rollup.query()) {
            let through =
                ask(db, &query, true).unwrap_or_else(|error| panic!("{story}, {when}: {query}: {error}"));
            let raw = ask(db, &query, false).unwrap();
            assert!(raw.stats.rollups.is_empty());
            let uses = &through.stats.rollups;
            assert_eq!(rows(&through), rows(&raw), "{story}, {when}\n{query}\nused {uses:?}");
            self.counts.add("answers from rollups", uses.len() as u64);
        }
        known
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Point>),
    /// The points of a host, or of all hosts, of `cpu` in `[from, to)`.
    Delete {
        host: Option<&'static str>,
        from: i64,
        to: i64,
    },
    Create(&'static str, Rollup),
    Drop(&'static str),
    Flush,
    Compact,
    Refresh,
    Clock(i64),
    Restart,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    table: &'static str,
    host: &'static str,
    region: &'static str,
    time: i64,
    usage: Option<f64>,
    n: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rollup {
    on: &'static str,
    step: &'static str,
    by: &'static str,
}

impl Rollup {
    const COLUMNS: &str =
        "count, sum(usage), min(usage), max(usage), avg(usage), first(usage), last(usage), sum(n), max(n)";

    fn definition(&self) -> String {
        format!("{} | every {} {}{}", self.on, self.step, Self::COLUMNS, self.by)
    }

    /// What it should answer, asked of the raw table.
    fn query(&self) -> String {
        Rollup { on: "cpu", ..*self }.definition()
    }
}

impl Step {
    fn run(&self, db: &Db, clock: &ManualClock) -> Result<()> {
        match self {
            Step::Write(points) => {
                let lines: String = points.iter().map(Point::line).collect();
                write(db, &lines).map(drop)
            }
            Step::Delete { host, from, to } => {
                let matcher = host.map(|host| format!("{{host=\"{host}\"}}")).unwrap_or_default();
                run(db, &format!("delete from cpu{matcher} between {from}ns and {to}ns")).map(drop)
            }
            Step::Create(name, rollup) => {
                run(db, &format!("create rollup {name} as {}", rollup.definition())).map(drop)
            }
            Step::Drop(name) => run(db, &format!("drop rollup {name}")).map(drop),
            Step::Flush => db.flush(FlushScope::All).map(drop),
            Step::Compact => db.compact(true).map(drop),
            Step::Refresh => db.refresh(&RefreshScope::default()).map(drop),
            Step::Clock(now) => {
                clock.set(*now);
                Ok(())
            }
            Step::Restart => unreachable!("the runner restarts"),
        }
    }
}

impl Point {
    fn line(&self) -> String {
        let Point { table, host, region, time, .. } = self;
        let usage = self.usage.map(|usage| format!("usage={usage}"));
        let n = self.n.map(|n| format!("n={n}i"));
        let fields: Vec<String> = usage.into_iter().chain(n).collect();
        format!("{table},host={host},region={region} {} {time}\n", fields.join(","))
    }
}

/// What has been acknowledged.
#[derive(Clone, Debug, Default)]
struct Known {
    points: BTreeMap<(&'static str, i64, &'static str, &'static str), Fields>,
    rollups: BTreeMap<&'static str, Rollup>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Fields {
    usage: Option<f64>,
    n: Option<i64>,
}

/// A truth in a form that can be read back: points by row, rollups by name.
#[derive(Debug, PartialEq, Eq)]
struct Printed {
    /// Sorted; a point that came twice would stand twice.
    points: Vec<String>,
    rollups: Vec<String>,
}

impl Printed {
    fn minus(&self, found: &Printed) -> String {
        let lines = |printed: &Printed| [printed.points.clone(), printed.rollups.clone()].concat();
        let (expected, found) = (lines(self), lines(found));
        let missing =
            expected.iter().filter(|line| !found.contains(line)).map(|line| format!("missing {line}"));
        let surplus =
            found.iter().filter(|line| !expected.contains(line)).map(|line| format!("surplus {line}"));
        missing.chain(surplus).collect::<Vec<_>>().join("\n")
    }
}

impl Known {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Write(points) => {
                for point in points {
                    let key = (point.table, point.time, point.host, point.region);
                    let fields = self.points.entry(key).or_default();
                    fields.usage = point.usage.or(fields.usage);
                    fields.n = point.n.or(fields.n);
                }
            }
            Step::Delete { host: of, from, to } => self.points.retain(|(table, time, host, _), _| {
                *table != "cpu" || of.is_some_and(|of| of != *host) || time < from || time >= to
            }),
            Step::Create(name, rollup) => drop(self.rollups.insert(name, *rollup)),
            Step::Drop(name) => drop(self.rollups.remove(name)),
            Step::Flush | Step::Compact | Step::Refresh | Step::Clock(_) | Step::Restart => {}
        }
    }

    fn printed(&self) -> Printed {
        let points = self.points.iter().map(|((table, time, host, region), fields)| {
            let mut row = format!("{table} time={time} host={host} region={region}");
            if let Some(n) = fields.n {
                let _ = write!(row, " n={n}");
            }
            if let Some(usage) = fields.usage {
                let _ = write!(row, " usage={usage}/{:x}", usage.to_bits());
            }
            row
        });
        let rollups =
            self.rollups.iter().map(|(name, rollup)| format!("{name}: {}", canonical(name, rollup)));
        let mut points: Vec<String> = points.collect();
        points.sort();
        Printed { points, rollups: rollups.collect() }
    }

    /// What the database says.
    fn read(db: &Db) -> Printed {
        let mut points = Vec::new();
        for table in db.tables(DATABASE) {
            let answer = ask(db, &format!("{table} | limit 1000000"), false).unwrap();
            points.extend(rows(&answer).into_iter().map(|row| format!("{table} {row}")));
        }
        points.sort();
        let rollups = db.rollups(DATABASE);
        let rollups =
            rollups.iter().map(|rollup| format!("{}: {}", rollup.name, rollup.definition)).collect();
        Printed { points, rollups }
    }
}

/// The definition as the database prints it.
fn canonical(name: &str, rollup: &Rollup) -> String {
    let text = format!("create rollup {name} as {}", rollup.definition());
    query_lang::parse(&text).unwrap().statements[0].to_string()
}

fn point(host: &'static str, region: &'static str, time: i64, value: i64) -> Point {
    let usage = Some(value as f64 + 0.1);
    Point { table: "cpu", host, region, time, usage, n: Some(value) }
}

/// Everything that writes to the disk, in an order in which each step meets the traces of those before it.
fn workload() -> Vec<Step> {
    let mut dice = Dice::new(7);
    let mut batch = |rows: u64, from: i64, to: i64| {
        let one = |_| {
            let minutes = dice.roll(((to - from) / MINUTE * 6) as u64) as i64;
            let mut point = point(
                ["a", "b", "c"][dice.roll(3) as usize],
                ["eu", "us"][dice.roll(2) as usize],
                from + minutes * 10 * SECOND,
                dice.roll(1_000) as i64,
            );
            match dice.roll(4) {
                0 => point.n = None,
                1 => point.usage = None,
                _ => {}
            }
            point
        };
        Step::Write((0..rows).map(one).collect())
    };
    let hour = |hours: i64| NOON + hours * HOUR;
    let minutes = Rollup { on: "cpu", step: "10m", by: " by region" };
    let hours = Rollup { on: "minutes", step: "1h", by: " by region" };
    let alone = Rollup { on: "cpu", step: "30m", by: "" };
    vec![
        Step::Write(vec![point("a", "eu", hour(-3), 1), point("b", "us", hour(-1), 2)]),
        batch(20, hour(-3), hour(0)),
        Step::Create("minutes", minutes),
        Step::Refresh,
        batch(10, hour(-3), hour(0)),
        Step::Flush,
        // Overwrites what is in blocks and in states; late points of yesterday.
        batch(20, hour(-3), hour(0)),
        batch(5, hour(-27), hour(-26)),
        Step::Delete { host: Some("a"), from: hour(-3), to: hour(-2) },
        batch(5, hour(-3), hour(-2)),
        Step::Create("hours", hours),
        Step::Refresh,
        Step::Flush,
        Step::Clock(hour(-40)),
        batch(10, hour(-3), hour(0)),
        Step::Delete { host: None, from: hour(-2), to: hour(-2) + 20 * MINUTE },
        Step::Refresh,
        Step::Restart,
        Step::Clock(hour(1)),
        Step::Compact,
        batch(10, hour(-2), hour(1)),
        Step::Refresh,
        Step::Flush,
        Step::Create("alone", alone),
        Step::Refresh,
        Step::Write(vec![Point { table: "mem", ..point("a", "eu", hour(-1), 5) }]),
        // A future point pins the log.
        Step::Write(vec![point("c", "eu", hour(1_000), 6)]),
        Step::Flush,
        Step::Delete { host: Some("b"), from: hour(-30), to: hour(2_000) },
        Step::Compact,
        Step::Drop("hours"),
        batch(10, hour(-3), hour(2)),
        Step::Clock(hour(3)),
        Step::Restart,
        Step::Refresh,
        Step::Flush,
        Step::Compact,
        Step::Create("hours", Rollup { by: " by ()", ..hours }),
        batch(10, hour(-3), hour(2)),
        Step::Refresh,
        Step::Flush,
        batch(3, hour(0), hour(2)),
    ]
}
