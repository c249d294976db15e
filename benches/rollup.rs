//! Rollups inside the process: computing them, reading through them, and what they cost ingest.

use std::sync::Arc;

use super::query::{ask, fill};
use super::support::{Report, Size, process_cpu_nanos, wall};
use waterclock::clock::SystemClock;
use waterclock::config::Config;
use waterclock::db::{Db, FlushScope, QueryOptions, RefreshScope};
use waterclock::disk::LocalDisk;

pub fn run(size: Size) -> Vec<Report> {
    let hosts = size.pick(20, 1_000);
    let ticks = size.pick(400, 2_160);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = Arc::new(LocalDisk::open(folder.path()).expect("an empty folder"));
    let db = Db::open(disk, Arc::new(SystemClock::new()), Config::default()).expect("an empty database");
    let without = timed_fill(&db, hosts, ticks);
    let points = (hosts * ticks) as u64;
    let mut reports = Vec::new();
    let mut report = |name: &str, values, cpu_nanos, note: String| {
        reports.push(Report { name: name.to_string(), values, cpu_nanos, bytes: 0, note });
    };

    let text = "create rollup cpu_1m as cpu | every 1m count, avg(usage_user), max(usage_user)";
    let options = QueryOptions::of("default");
    db.query(text, &options, &db.guard()).expect("the rollup is created");
    let before = process_cpu_nanos();
    let buckets = db.refresh(&RefreshScope::default()).expect("the rollup is computed");
    report("rollup/compute 1m from raw", points, process_cpu_nanos() - before, format!("{buckets} buckets"));
    db.flush(FlushScope::All).expect("a flush");

    let question = "cpu | every 1h avg(usage_user), max(usage_user), count";
    let raw = timed(&db, question, false);
    let through = timed(&db, question, true);
    assert_eq!(raw.rows, through.rows, "rollup = raw");
    report("rollup/every 1h of all hosts, raw", points, raw.cpu, format!("{:.1} ms wall", raw.ms));
    report(
        "rollup/every 1h of all hosts, through cpu_1m",
        points,
        through.cpu,
        format!("{:.1} ms wall, {:.1} times less", through.ms, raw.cpu as f64 / through.cpu as f64),
    );

    // The same points once more, in another database, with a rollup that follows.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = Arc::new(LocalDisk::open(folder.path()).expect("an empty folder"));
    let db = Db::open(disk, Arc::new(SystemClock::new()), Config::default()).expect("an empty database");
    fill(&db, hosts, 1);
    db.query(text, &options, &db.guard()).expect("the rollup is created");
    let with = timed_fill(&db, hosts, ticks);
    report("rollup/ingest without", points * 10, without, String::new());
    let cost = (with as f64 / without as f64 - 1.0) * 100.0;
    report("rollup/ingest with one rollup", points * 10, with, format!("{cost:+.1} %"));
    ask(&db, "cpu | every 1h count by ()");
    reports
}

/// CPU time of ingest without that of making the data, which is this thread's before each write.
fn timed_fill(db: &Db, hosts: usize, ticks: usize) -> u64 {
    let before = process_cpu_nanos();
    fill(db, hosts, ticks);
    process_cpu_nanos() - before
}

struct Timed {
    rows: String,
    cpu: u64,
    ms: f64,
}

fn timed(db: &Db, text: &str, rollups: bool) -> Timed {
    let options = QueryOptions { rollups, read_only: true, ..QueryOptions::of("default") };
    let mut best = Timed { rows: String::new(), cpu: u64::MAX, ms: 0.0 };
    for _ in 0..3 {
        let (cpu, started) = (process_cpu_nanos(), wall());
        let answer = db.query(text, &options, &db.guard()).expect("the query is answered");
        let cpu = process_cpu_nanos() - cpu;
        assert_eq!(!answer.stats.rollups.is_empty(), rollups, "the rollup answers exactly when it may");
        if cpu < best.cpu {
            let rows = format!("{:?}", answer.batch);
            best = Timed { rows, cpu, ms: started.elapsed().as_secs_f64() * 1e3 };
        }
    }
    best
}
