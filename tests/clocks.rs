//! A wall clock that jumps by years, backwards and forwards, while the database runs and across restarts.
//!
//! No point is lost or refused, `last` counts from the clock as it is now, rollups equal their raw points, and nothing is
//! flushed because of a jump alone: that a partition has passed is believed only after it has stood in memory for a while
//! by the clock that cannot jump.

use std::collections::BTreeMap;
use std::time::Duration;

use waterclock::db::{Db, FlushScope, RefreshScope};

use crate::support::dice::Dice;
use crate::support::engine::{NOON, SECOND, ask, open, rows, run, write};
use crate::support::faulty_disk::{FaultyDisk, Loss};
use crate::support::manual_clock::ManualClock;

const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const YEAR: i64 = 365 * 24 * HOUR;

const ROLLUPS: [&str; 2] = [
    "create rollup minutes as cpu | every 1m count, sum(n), last(n) by host",
    "create rollup days as minutes | every 1d sum(n) by ()",
];
const QUERIES: [&str; 4] = [
    "cpu | every 1m count, sum(n), last(n) by host",
    "cpu | every 1d sum(n) by ()",
    "cpu | last 1d | every 1h sum(n) by ()",
    "days",
];

/// Host, time and value, as the last write left them.
type Points = BTreeMap<(u64, i64), i64>;

fn printed<'a>(points: impl Iterator<Item = (&'a (u64, i64), &'a i64)>) -> Vec<String> {
    let mut rows: Vec<_> = points.map(|((host, time), n)| (*time, *host, *n)).collect();
    rows.sort_unstable();
    rows.into_iter().map(|(time, host, n)| format!("time={time} host={host} n={n}")).collect()
}

fn check(db: &Db, now: i64, points: &Points, story: &str) {
    let answer = |statement: &str, rollups: bool| {
        rows(&ask(db, statement, rollups).unwrap_or_else(|error| panic!("{story}: {statement}: {error}")))
    };
    assert_eq!(answer("cpu | limit 100000", true), printed(points.iter()), "{story}");
    // Of clocks near the ends of time `last` is refused, by a sentence.
    if let Some(from) = now.checked_sub(HOUR) {
        let newest = points.iter().filter(|((_, time), _)| (from..now).contains(time));
        assert_eq!(answer("cpu | last 1h | limit 100000", true), printed(newest), "{story}");
        for query in QUERIES {
            assert_eq!(answer(query, true), answer(query, false), "{story}: {query}");
        }
    }
}

#[test]
fn jumps_lose_nothing_and_change_no_answer() {
    for seed in 0..12 {
        let mut dice = Dice::new(seed);
        let mut disk = FaultyDisk::new();
        let clock = ManualClock::at(NOON);
        let mut now = NOON;
        let mut db = open(&disk, &clock).unwrap();
        let mut points = Points::new();
        write(&db, &format!("cpu,host=0 n=0i {NOON}")).unwrap();
        points.insert((0, NOON), 0);
        ROLLUPS.iter().for_each(|rollup| drop(run(&db, rollup).unwrap()));
        for step in 0..60 {
            match dice.roll(10) {
                // Near the clock, or without a time at all; sometimes where an earlier clock had been.
                0..=3 => {
                    let (host, n) = (dice.roll(3), step);
                    let time = match dice.roll(4) {
                        0 => now,
                        1 => NOON - dice.roll(120) as i64 * MINUTE,
                        _ => now.saturating_sub(dice.roll(120) as i64 * 30 * SECOND),
                    };
                    let stamp = if time == now { String::new() } else { time.to_string() };
                    write(&db, &format!("cpu,host={host} n={n}i {stamp}")).unwrap();
                    points.insert((host, time), n);
                }
                4 => {
                    let jumps = [
                        NOON,
                        NOON - 10 * YEAR,
                        NOON + 10 * YEAR,
                        now - 2 * HOUR,
                        now + 25 * HOUR,
                        now + 1,
                        0,
                        -30 * YEAR,
                        200 * YEAR,
                    ];
                    now = *dice.pick(&jumps);
                    clock.set(now);
                }
                5 => drop(db.refresh(&RefreshScope::default()).unwrap()),
                6 => drop(db.flush(FlushScope::Due).unwrap()),
                7 => drop(db.flush(FlushScope::All).unwrap()),
                8 => drop(db.compact(dice.roll(2) == 0).unwrap()),
                _ => {
                    drop(db);
                    disk = disk.after_power_loss(seed, Loss::Lost);
                    db = open(&disk, &clock).unwrap();
                }
            }
            check(&db, now, &points, &format!("seed {seed}, step {step}"));
        }
    }
}

#[test]
fn a_jump_alone_flushes_nothing() {
    let disk = FaultyDisk::new();
    let clock = ManualClock::at(NOON);
    let db = open(&disk, &clock).unwrap();
    let mut partitions = 0;
    for jump in 0..40 {
        let now = if jump % 2 == 0 { NOON + jump * YEAR } else { NOON - jump * YEAR };
        clock.set(now);
        write(&db, &format!("cpu,host=a n={jump}i {now}\ncpu,host=a n={jump}i {NOON}")).unwrap();
        assert_eq!(db.flush(FlushScope::Due).unwrap(), 0, "after the jump to {now}");
        partitions += i64::from(jump > 0);
    }
    // Now they stand for a while, under a clock that says that half of them are over, and each goes once.
    clock.set(NOON + YEAR / 2);
    clock.advance(Duration::from_secs(25 * 3_600));
    let over = 1 + partitions / 2 + partitions % 2;
    let blocks = db.flush(FlushScope::Due).unwrap() as i64;
    assert!((1..=over).contains(&blocks), "{blocks} blocks of {over} partitions");
    assert_eq!(db.flush(FlushScope::Due).unwrap(), 0);
    assert_eq!(db.status().head_rows as i64, partitions + 1 - over);
    assert_eq!(rows(&ask(&db, "cpu | limit 1000", true).unwrap()).len() as i64, partitions + 1);
}

#[test]
fn a_clock_at_the_ends_of_time_is_no_reason_to_stop() {
    let disk = FaultyDisk::new();
    let clock = ManualClock::at(NOON);
    let db = open(&disk, &clock).unwrap();
    write(&db, &format!("cpu,host=0 n=0i {NOON}")).unwrap();
    run(&db, ROLLUPS[0]).unwrap();
    let mut points = Points::from([((0, NOON), 0)]);
    for (number, now) in [i64::MIN, i64::MAX, -1, i64::MAX - HOUR, i64::MIN + HOUR].into_iter().enumerate() {
        clock.set(now);
        let time = NOON + number as i64 * MINUTE;
        write(&db, &format!("cpu,host=1 n=1i {time}")).unwrap();
        points.insert((1, time), 1);
        db.refresh(&RefreshScope::default()).unwrap();
        db.flush(FlushScope::Due).unwrap();
        db.compact(false).unwrap();
        let through = |rollups| rows(&ask(&db, QUERIES[0], rollups).unwrap());
        assert_eq!(through(true), through(false), "at {now}");
        assert_eq!(rows(&ask(&db, "cpu | limit 100", true).unwrap()), printed(points.iter()), "at {now}");
    }
    drop(db);
    let db = open(&disk.after_power_loss(0, Loss::Lost), &clock).unwrap();
    assert_eq!(rows(&ask(&db, "cpu | limit 100", true).unwrap()), printed(points.iter()));
}
