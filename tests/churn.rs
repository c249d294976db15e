//! Series that come and go: memory keeps those whose points are not in blocks yet, and no point ever changes its series.
//!
//! Every value says which series wrote it, so that an answer under wrong tags shows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use waterclock::config::Config;
use waterclock::db::{Db, FlushScope};

use crate::support::dice::Dice;
use crate::support::engine::{NOON, SECOND, ask, rows, run, write};
use crate::support::faulty_disk::FaultyDisk;
use crate::support::manual_clock::ManualClock;

const HOUR: i64 = 3_600 * SECOND;

fn open(disk: &FaultyDisk, clock: &ManualClock) -> Db {
    let mut config = Config::default();
    config.limits.wal_segment_bytes_max = 4_096;
    config.server.flush_small_after = config.server.flush_after;
    Db::open(std::sync::Arc::new(disk.clone()), std::sync::Arc::new(clock.clone()), config).unwrap()
}

/// Two spellings of each series, so that both are forgotten and learned again.
fn line(host: usize, time: i64, value: usize, swapped: bool) -> String {
    let tags = match swapped {
        false => format!("host=h{host},zone=z{}", host % 3),
        true => format!("zone=z{},host=h{host}", host % 3),
    };
    format!("m,{tags} v={}i {time}\n", value * 1_000 + host)
}

/// `host`, `time` and `v` of every row; panics where a value is not of the series it stands under.
fn read(db: &Db) -> BTreeMap<(usize, i64), i64> {
    let answer = ask(db, "m | limit 1000000", false).unwrap();
    let mut all = BTreeMap::new();
    for row in rows(&answer) {
        let cell = |name: &str| {
            let cell = row.split(' ').find_map(|cell| cell.strip_prefix(name)?.strip_prefix('='));
            cell.unwrap_or_else(|| panic!("no {name} in {row}")).to_string()
        };
        let host: usize = cell("host").strip_prefix('h').unwrap().parse().unwrap();
        let value: i64 = cell("v").parse().unwrap();
        assert_eq!(value % 1_000, host as i64, "a value under the tags of another series: {row}");
        assert_eq!(cell("zone"), format!("z{}", host % 3), "{row}");
        let before = all.insert((host, cell("time").parse().unwrap()), value);
        assert_eq!(before, None, "twice: {row}");
    }
    all
}

#[test]
fn forgotten_series_come_back_as_themselves() {
    for seed in 0..12 {
        let mut dice = Dice::new(seed);
        let (disk, clock) = (FaultyDisk::new(), ManualClock::at(NOON));
        let mut db = open(&disk, &clock);
        let mut model = BTreeMap::new();
        write(&db, &line(0, NOON, 0, false)).unwrap();
        model.insert((0, NOON), 0);
        run(&db, "create rollup r as m | every 1h count, sum(v) by host").unwrap();
        for step in 0..40 {
            match dice.roll(10) {
                0..=5 => {
                    let mut body = String::new();
                    for value in 0..1 + dice.roll(8) as usize {
                        let host = dice.roll(30) as usize;
                        // Some partitions around noon, some twice.
                        let time = NOON + dice.roll(6) as i64 * HOUR + dice.roll(20) as i64 * SECOND;
                        let value = step * 100 + value;
                        body += &line(host, time, value, dice.roll(2) == 0);
                        model.insert((host, time), (value * 1_000 + host) as i64);
                    }
                    write(&db, &body).unwrap();
                }
                6 | 7 => {
                    db.flush(FlushScope::All).unwrap();
                    assert_eq!(db.status().series, 0, "seed {seed}: nothing is in memory, nobody writes");
                }
                8 => drop(db.refresh(&Default::default()).unwrap()),
                _ => {
                    drop(db);
                    db = open(&disk, &clock);
                }
            }
            assert_eq!(read(&db), model, "seed {seed}, step {step}");
        }
        let by_host = "m | every 1h count, sum(v) by host";
        clock.set(NOON + 24 * HOUR);
        db.refresh(&Default::default()).unwrap();
        let (with, without) = (ask(&db, by_host, true).unwrap(), ask(&db, by_host, false).unwrap());
        assert_eq!(rows(&with), rows(&without), "seed {seed}");
    }
}

#[test]
fn writers_readers_and_flushes_at_once_never_mix_series() {
    const WRITERS: usize = 3;
    const HOSTS: usize = 40;
    const BATCHES: usize = 150;
    let (disk, clock) = (FaultyDisk::new(), ManualClock::at(NOON));
    let db = open(&disk, &clock);
    let (written, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|threads| {
        let (db, written, ended) = (&db, &written, &ended);
        let writer = |writer: usize| {
            move || {
                let mut dice = Dice::new(writer as u64);
                for batch in 0..BATCHES {
                    let mut body = String::new();
                    for at in 0..5 {
                        let host = dice.roll(HOSTS as u64) as usize;
                        let number = (writer * BATCHES + batch) * 5 + at;
                        let time = NOON + number as i64 * SECOND;
                        body += &line(host, time, number, dice.roll(2) == 0);
                    }
                    write(db, &body).unwrap();
                    written.fetch_add(5, Ordering::SeqCst);
                }
            }
        };
        let writers: Vec<_> = (0..WRITERS).map(|number| threads.spawn(writer(number))).collect();
        threads.spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                db.flush(FlushScope::All).unwrap();
            }
        });
        threads.spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                let before = written.load(Ordering::SeqCst);
                let seen = read(db).len();
                assert!(seen >= before, "{seen} of {before} acknowledged points");
            }
        });
        let outcomes: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        ended.store(true, Ordering::SeqCst);
        assert!(outcomes.iter().all(Result::is_ok), "a writer failed");
    });
    assert_eq!(read(&db).len(), WRITERS * BATCHES * 5);
    db.flush(FlushScope::All).unwrap();
    assert_eq!(db.status().series, 0);
    drop(db);
    assert_eq!(read(&open(&disk, &clock)).len(), WRITERS * BATCHES * 5);
}

#[test]
fn hours_of_new_series_leave_those_of_the_last_partitions_in_memory() {
    const PER_HOUR: usize = 200;
    let (disk, clock) = (FaultyDisk::new(), ManualClock::at(NOON));
    let db = open(&disk, &clock);
    let mut most = 0;
    for hour in 0..24 {
        let mut body = String::new();
        for number in 0..PER_HOUR {
            let pod = hour * PER_HOUR + number;
            let time = NOON + hour as i64 * HOUR;
            body += &format!("pods,pod=p{pod} v={pod}i {time}\npods,pod=p{pod} v={pod}i {}\n", time + SECOND);
        }
        write(&db, &body).unwrap();
        for _ in 0..4 {
            clock.advance(Duration::from_secs(900));
            db.flush(FlushScope::Due).unwrap();
        }
        most = most.max(db.status().series);
    }
    // A partition is two hours, and the one before it waits a little to be flushed.
    assert!(most <= 2 * 2 * PER_HOUR, "{most} series in memory");
    let answer = ask(&db, "pods | count as n, sum(v) as s by ()", false).unwrap();
    let all = 24 * PER_HOUR;
    assert_eq!(rows(&answer), [format!("n={} s={}", 2 * all, all * (all - 1))]);
}
