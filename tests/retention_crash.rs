//! Every operation of the disk as a crash point of retention: what has expired stays hidden, what has not stays, and rollups
//! keep what their points, gone by now, have told them. Points that come later than that are merged into them, each once.
//!
//! The truth is simple: reads show the points from the edge of the coarsest bucket over them on; the rollup that is kept
//! for ever knows every point that was ever written, and the one with a time of its own those from its own edge on.
//! Not here: everything else that can be under way in a crash (`crash`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use waterclock::clock::Clock;
use waterclock::db::{Db, FlushScope, RefreshScope};
use waterclock::error::Result;

use crate::support::engine::{NOON, SECOND, ask, open, rows, run, write};
use crate::support::faulty_disk::{FaultyDisk, Loss};
use crate::support::manual_clock::ManualClock;

const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

const MINUTES: &str = "create rollup minutes as cpu | every 10m count, sum(n) by host";
const HOURS: &str = "create rollup hours as minutes | every 1h count, sum(n) by ()";

#[derive(Clone, Debug)]
enum Step {
    /// Host, hours and minutes before noon, value.
    Write(Vec<(&'static str, i64, i64, i64)>),
    Run(&'static str),
    KeepTable(i64),
    KeepMinutes(i64),
    Refresh,
    Flush,
    Compact,
    /// Hours by both clocks.
    Pass(u64),
    Expire,
    Restart,
}

/// What was acknowledged.
#[derive(Clone, Debug, Default)]
struct Known {
    points: BTreeMap<(i64, &'static str), i64>,
    keep_table: Option<i64>,
    keep_minutes: Option<i64>,
}

impl Known {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Write(points) => {
                for (host, hours, minutes, n) in points {
                    self.points.insert((NOON - hours * HOUR - minutes * MINUTE, host), *n);
                }
            }
            Step::KeepTable(hours) => self.keep_table = Some(*hours),
            Step::KeepMinutes(hours) => self.keep_minutes = Some(*hours),
            _ => {}
        }
    }

    /// The first time that reads of the raw points show.
    fn visible_from(&self, now: i64) -> i64 {
        self.keep_table.map_or(i64::MIN, |keep| (now - keep * HOUR).div_euclid(HOUR) * HOUR)
    }

    fn buckets<'a>(&self, step: i64, from: i64, group: impl Fn(&'static str) -> &'a str) -> Vec<String> {
        let mut buckets: BTreeMap<(&str, i64), (i64, i64)> = BTreeMap::new();
        for ((time, host), n) in &self.points {
            let start = time.div_euclid(step) * step;
            if start >= from {
                let (count, sum) = buckets.entry((group(host), start)).or_default();
                (*count, *sum) = (*count + 1, *sum + n);
            }
        }
        let row = |((host, start), (count, sum)): (&(&str, i64), &(i64, i64))| {
            format!("time={start}{host} count={count} sum_n={sum}")
        };
        buckets.iter().map(row).collect()
    }

    fn expected(&self, now: i64) -> Vec<String> {
        let visible = self.points.iter().filter(|((time, _), _)| *time >= self.visible_from(now));
        let mut all: Vec<String> =
            visible.map(|((time, host), n)| format!("time={time} host={host} n={n}")).collect();
        let edge = |keep: i64| (now - keep * HOUR).div_euclid(10 * MINUTE) * 10 * MINUTE;
        let hosts = |host| if host == "a" { " host=a" } else { " host=b" };
        all.extend(self.buckets(10 * MINUTE, self.keep_minutes.map_or(i64::MIN, edge), hosts));
        all.extend(self.buckets(HOUR, i64::MIN, |_| ""));
        all
    }
}

/// What the database says, in the order of [`Known::expected`].
fn told(db: &Db, story: &str) -> Vec<String> {
    let answer = |statement: &str| {
        rows(&ask(db, statement, true).unwrap_or_else(|error| panic!("{story}: {statement}: {error}")))
    };
    ["cpu | limit 10000", "minutes", "hours"].into_iter().flat_map(answer).collect()
}

fn step(db: &Db, clock: &ManualClock, step: &Step) -> Result<()> {
    match step {
        Step::Write(points) => {
            let line = |(host, hours, minutes, n): &(&str, i64, i64, i64)| {
                format!("cpu,host={host} n={n}i {}\n", NOON - hours * HOUR - minutes * MINUTE)
            };
            write(db, &points.iter().map(line).collect::<String>()).map(drop)
        }
        Step::Run(statement) => run(db, statement).map(drop),
        Step::KeepTable(hours) => run(db, &format!("alter table cpu keep {hours}h")).map(drop),
        Step::KeepMinutes(hours) => run(db, &format!("alter rollup minutes keep {hours}h")).map(drop),
        Step::Refresh => db.refresh(&RefreshScope::default()).map(drop),
        Step::Flush => db.flush(FlushScope::All).map(drop),
        Step::Compact => db.compact(true).map(drop),
        Step::Expire => db.expire().map(drop),
        Step::Pass(hours) => {
            clock.advance(Duration::from_secs(hours * 3_600));
            Ok(())
        }
        Step::Restart => unreachable!("bug: the caller opens"),
    }
}

/// Late points that are not merged yet.
fn late_rows(db: &Db) -> usize {
    let storage = rows(&run(db, "show storage").expect("it reads no disk"));
    let late = |row: &String| row.split(" late_rows=").nth(1)?.split(' ').next()?.parse::<usize>().ok();
    storage.iter().filter_map(late).sum()
}

/// Points of five days; retention that begins and becomes shorter, with everything else between its steps.
fn workload() -> Vec<Step> {
    let point = |number| (if number % 3 == 0 { "b" } else { "a" }, number * 5, number * 7 % 60, number);
    let mut steps = Vec::new();
    // Oldest first, each in a block of its own.
    for numbers in [18..24, 12..18, 6..12, 0..6] {
        steps.extend([Step::Write(numbers.map(point).collect()), Step::Flush]);
    }
    let expire = [Step::Expire, Step::Pass(2), Step::Expire];
    steps.extend([Step::Run(MINUTES), Step::Run(HOURS), Step::KeepTable(72)]);
    // Nothing may go yet: the rollups have not seen it.
    steps.extend(expire.clone());
    steps.extend([Step::Refresh, Step::Flush]);
    steps.extend(expire.clone());
    // Late: into buckets that are there, beside them, and where there was nothing; one of them twice before it is merged.
    steps.push(Step::Run("alter table cpu late merge"));
    steps.push(Step::Write(vec![("a", 100, 40, 70), ("b", 100, 3, 71), ("b", 300, 5, 72), ("a", 4, 1, 73)]));
    steps.push(Step::Write(vec![("b", 100, 3, 74), ("a", 115, 5, 75)]));
    steps.extend([Step::Refresh, Step::Flush]);
    steps.push(Step::Write(vec![("b", 1, 3, 50), ("a", 30, 3, 51), ("a", 60, 3, 52), ("a", 100, 41, 76)]));
    steps.extend([Step::KeepMinutes(96), Step::Refresh, Step::Restart]);
    steps.extend(expire.clone());
    steps.extend([Step::Compact, Step::KeepTable(40), Step::Write(vec![("b", 20, 4, 53)]), Step::Refresh]);
    // Expired, but still there; then as late as the others.
    steps.extend([Step::Write(vec![("a", 50, 6, 77), ("b", 100, 42, 78)]), Step::Refresh, Step::Flush]);
    steps.extend(expire.clone());
    steps.extend([Step::Flush, Step::Pass(8), Step::KeepMinutes(48), Step::Restart, Step::Compact]);
    steps.extend(expire.clone());
    steps.extend([Step::Write(vec![("a", 2, 4, 54), ("b", 55, 8, 79)]), Step::Restart, Step::Compact]);
    steps.extend([Step::Refresh, Step::Flush, Step::Compact]);
    steps.extend(expire);
    steps
}

#[test]
fn every_crash_point_of_retention() {
    let (steps, next) = (workload(), AtomicU64::new(0));
    let (points, expired, folded) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while try_crash(&steps, next.fetch_add(1, Ordering::Relaxed), &expired, &folded) {
                    points.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let (points, expired, folded) = (points.into_inner(), expired.into_inner(), folded.into_inner());
    assert!(points > 100, "only {points} crash points");
    assert!(expired > 100, "blocks expired only {expired} times");
    assert!(folded > 100, "late points were merged only {folded} times");
}

/// Runs the workload until the disk stops. False if it never did.
fn try_crash(steps: &[Step], crash_after: u64, expired: &AtomicUsize, folded: &AtomicUsize) -> bool {
    let disk = FaultyDisk::crash_after(crash_after);
    let clock = ManualClock::at(NOON);
    let mut known = vec![Known::default()];
    let mut db = open(&disk, &clock).ok();
    for next in steps {
        let outcome = match (&db, next) {
            (None, _) => break,
            (Some(_), Step::Restart) => {
                drop(db.take());
                open(&disk, &clock).map(|opened| db = Some(opened))
            }
            (Some(db), next) => {
                let blocks = || disk.files_with("blocks/default/cpu/").len();
                let (before, late_before) = (blocks(), late_rows(db));
                let outcome = step(db, &clock, next);
                folded.fetch_add((late_rows(db) < late_before).into(), Ordering::Relaxed);
                let fewer = matches!(next, Step::Expire) && blocks() < before;
                expired.fetch_add(fewer.into(), Ordering::Relaxed);
                outcome
            }
        };
        if let Err(error) = &outcome {
            assert!(disk.crashed(), "{next:?}: {error}");
            let mut perhaps = known[0].clone();
            perhaps.apply(next);
            known.push(perhaps);
            break;
        }
        known[0].apply(next);
    }
    let story = format!("crash_after {crash_after}");
    if !disk.crashed() {
        check(db.as_ref().expect("it was opened"), &clock, &known, &story);
        return false;
    }
    drop(db);
    if known[0].points.is_empty() {
        // There is nothing to make the rollups of yet.
        return true;
    }
    let chance = if crash_after.is_multiple_of(2) { Loss::Torn } else { Loss::Reordered };
    for loss in [Loss::Kept, Loss::Lost, chance] {
        let story = format!("{story}, {loss:?}");
        let disk = disk.after_power_loss(crash_after, loss);
        let clock = ManualClock::at(clock.now());
        let db = open(&disk, &clock).unwrap_or_else(|error| panic!("{story}: {error}"));
        let known = vec![check(&db, &clock, &known, &story)];
        let on = [Step::Flush, Step::Expire, Step::Pass(2), Step::Refresh, Step::Expire, Step::Compact];
        for next in on {
            step(&db, &clock, &next).unwrap_or_else(|error| panic!("{story}: going on: {next:?}: {error}"));
        }
        check(&db, &clock, &known, &format!("{story}, going on"));
        drop(db);
        let db = open(&disk.after_power_loss(crash_after, Loss::Reordered), &clock)
            .unwrap_or_else(|error| panic!("{story}, going on, restarted: {error}"));
        check(&db, &clock, &known, &format!("{story}, going on, restarted"));
    }
    true
}

/// Which of the possible truths the database tells.
fn check(db: &Db, clock: &ManualClock, known: &[Known], story: &str) -> Known {
    let now = clock.now();
    for missing in [MINUTES, HOURS] {
        // A crash may have come before it was made: then it is made now, of what there still is, which is all.
        let name = missing.split(' ').nth(2).expect("a name");
        if db.rollups("default").iter().all(|rollup| rollup.name != name) {
            run(db, missing).unwrap_or_else(|error| panic!("{story}: {missing}: {error}"));
        }
    }
    // Expired points that a rollup has not computed yet are hidden from it, too, until it has.
    db.refresh(&RefreshScope::default()).unwrap_or_else(|error| panic!("{story}: refresh: {error}"));
    let told = told(db, story);
    let found = known.iter().find(|known| known.expected(now) == told);
    found.cloned().unwrap_or_else(|| {
        let differences = known.iter().map(|known| {
            let expected = known.expected(now);
            let minus = |a: &[String], b: &[String]| -> Vec<String> {
                a.iter().filter(|row| !b.contains(row)).cloned().collect()
            };
            format!("missing {:#?}\ntoo much {:#?}", minus(&expected, &told), minus(&told, &expected))
        });
        panic!("{story}\n{}", differences.collect::<Vec<_>>().join("\nor\n"))
    })
}
