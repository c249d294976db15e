//! Points that are read in slices of time: the same rows in the same order as from a model, however small the slices are,
//! from memory and from blocks, with conditions, limits, and either end first; and nothing is read that nobody wants.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampNanosecondType};
use waterclock::config::Config;
use waterclock::db::{Db, FlushScope, QueryOptions};

use crate::support::dice::Dice;
use crate::support::engine::{DATABASE, NOON, SECOND, write};
use crate::support::faulty_disk::FaultyDisk;
use crate::support::manual_clock::ManualClock;

const HOSTS: u64 = 40;
const ROWS: usize = 60_000;

/// Time, host, the field that conditions are about, the other one.
type Row = (i64, String, Option<i64>, Option<i64>);

fn open(memory: usize) -> Db {
    let mut config = Config::default();
    config.limits.query_memory_bytes_max = memory;
    let clock = ManualClock::at(NOON + 86_400 * SECOND);
    Db::open(Arc::new(FaultyDisk::new()), Arc::new(clock), config).unwrap()
}

/// Many rows of one time, long gaps, a crowd in the middle; some of them written twice.
fn fill(db: &Db, dice: &mut Dice) -> Vec<Row> {
    let mut rows = std::collections::BTreeMap::new();
    for part in 0..4 {
        let mut body = String::new();
        for _ in 0..ROWS / 4 {
            let second = match dice.roll(4) {
                0 => dice.roll(7) as i64 * 9_000,
                1 => 30_000 + dice.roll(500) as i64,
                _ => dice.roll(60_000) as i64,
            };
            let (time, host) = (NOON + second * SECOND, format!("h{:02}", dice.roll(HOSTS)));
            let (v, w) = (dice.roll(100) as i64, dice.roll(1_000) as i64);
            let known: &mut (Option<i64>, Option<i64>) = rows.entry((time, host.clone())).or_default();
            known.0 = Some(v);
            body += &format!("cpu,host={host} v={v}i");
            if w % 3 > 0 {
                known.1 = Some(w);
                body += &format!(",w={w}i");
            }
            body += &format!(" {time}\n");
        }
        write(db, &body).unwrap();
        if part % 2 == 0 {
            db.flush(FlushScope::All).unwrap();
        }
    }
    rows.into_iter().map(|((time, host), (v, w))| (time, host, v, w)).collect()
}

fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let times = batch.column(0).as_primitive::<TimestampNanosecondType>();
    let hosts = batch.column(1).as_dictionary::<Int32Type>();
    let texts = hosts.values().as_string::<i32>();
    let ints = |at: usize| batch.column(at).as_primitive::<Int64Type>();
    let value = |at: usize, row: usize| ints(at).is_valid(row).then(|| ints(at).value(row));
    let row = |row: usize| {
        let host = texts.value(hosts.keys().value(row) as usize).to_string();
        (times.value(row), host, value(2, row), value(3, row))
    };
    (0..batch.num_rows()).map(row).collect()
}

/// The rows of each batch.
fn stream(db: &Db, statement: &str) -> Vec<Vec<Row>> {
    let guard = db.guard();
    let mut stream = db.stream(statement, &QueryOptions::of(DATABASE), &guard).unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = stream.next(&guard).unwrap_or_else(|error| panic!("{statement}: {error}")) {
        assert_eq!(batch.schema(), stream.schema);
        assert!(guard.memory() <= guard.memory_max(), "{} bytes", guard.memory());
        batches.push(rows_of(&batch));
    }
    assert!(stream.has_ended() && stream.stats.series <= HOSTS, "{:?}", stream.stats);
    batches
}

#[test]
fn slices_make_the_same_rows_in_the_same_order() {
    const SMALL: usize = 6 << 20;
    for seed in 0..2 {
        let mut dice = Dice::new(seed);
        let small = open(SMALL);
        let model = fill(&small, &mut dice);
        let mut newest_first = model.clone();
        newest_first.sort_by_key(|row| std::cmp::Reverse(row.0));
        let high = |row: &&Row| row.2 > Some(80);
        let check = |statement: &str, expected: Vec<Row>| {
            let batches = stream(&small, statement);
            assert_eq!(batches.concat(), expected, "seed {seed}: {statement}");
            batches.len()
        };
        assert!(check("cpu", model.clone()) > 2, "seed {seed}: it is no stream in one piece");
        assert!(check("cpu | sort time desc", newest_first.clone()) > 2);
        check("cpu | sort time", model.clone());
        check("cpu | where v > 80", model.iter().filter(high).cloned().collect());
        check("cpu | sort time desc | where v > 80", newest_first.iter().filter(high).cloned().collect());
        check("cpu | where v > 1000", Vec::new());
        for count in [0, 1, 7, 900, 5_000, 100_000] {
            check(&format!("cpu | limit {count}"), model.iter().take(count).cloned().collect());
            let after = model.iter().skip(11).take(count).cloned().collect();
            check(&format!("cpu | limit {count} offset 11"), after);
            let newest = newest_first.iter().skip(3).take(count).cloned().collect();
            check(&format!("cpu | sort time desc | limit {count} offset 3"), newest);
            let high_ones = newest_first.iter().filter(high).take(count).cloned().collect();
            check(&format!("cpu | where v > 80 | sort time desc | limit {count}"), high_ones);
            // A condition of a step, after which nobody knows how much has to be read.
            let late = model.iter().filter(high).skip(2).take(count).cloned().collect();
            check(&format!("cpu | extend w = w | where v > 80 | limit {count} offset 2"), late);
        }
    }
}

#[test]
fn few_points_are_found_without_reading_all() {
    let db = open(64 << 20);
    // Hours apart, each in blocks of its own.
    for hour in 0..24 {
        let line =
            |i: i64| format!("cpu,host=h{:02} v={i}i {}\n", i % 40, NOON + (hour * 3_600 + i / 40) * SECOND);
        write(&db, &(0..4_000).map(line).collect::<String>()).unwrap();
        db.flush(FlushScope::All).unwrap();
    }
    let read = |statement: &str| {
        let answer = db.query(statement, &QueryOptions::of(DATABASE), &db.guard()).unwrap();
        (answer.rows(), answer.stats.rows_read)
    };
    assert_eq!(read("cpu"), (96_000, 96_000));
    for statement in ["cpu | limit 20", "cpu | sort time desc | limit 20", "cpu | limit 5 offset 15"] {
        let guard = db.guard();
        let mut stream = db.stream(statement, &QueryOptions::of(DATABASE), &guard).unwrap();
        while stream.next(&guard).unwrap().is_some() {}
        let read = stream.stats.rows_read;
        assert!(read <= 12_000, "{statement}: {read} rows");
    }
}
