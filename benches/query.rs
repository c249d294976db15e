//! Queries inside the process, over points in memory and in blocks.

use std::sync::Arc;

use super::support::{Report, Size, process_cpu_nanos, wall};
use super::tsbs::Hosts;
use arrow::array::AsArray;
use arrow::datatypes::Float64Type;
use waterclock::clock::SystemClock;
use waterclock::config::Config;
use waterclock::db::{Db, FlushScope, Lines, QueryOptions};
use waterclock::disk::LocalDisk;
use waterclock::ingest::line_protocol::Precision;

pub fn run(size: Size) -> Vec<Report> {
    let hosts = size.pick(20, 4_000);
    let ticks = size.pick(400, 1_080);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = Arc::new(LocalDisk::open(folder.path()).expect("an empty folder"));
    let db = Db::open(disk, Arc::new(SystemClock::new()), Config::default()).expect("an empty database");
    let data = fill(&db, hosts, ticks);
    let mut reports = Vec::new();
    ask_all(&db, &data, "memory", &mut reports);
    db.flush(FlushScope::All).expect("a flush");
    ask_all(&db, &data, "blocks", &mut reports);
    db.compact(true).expect("a compaction");
    ask_all(&db, &data, "one block", &mut reports);
    reports
}

pub fn fill(db: &Db, hosts: usize, ticks: usize) -> Hosts {
    let mut data = Hosts::new(hosts);
    let mut body = String::new();
    for _ in 0..ticks {
        body.clear();
        data.tick(&mut body);
        let lines = Lines {
            database: "default",
            body: body.as_bytes(),
            precision: Precision::Nanos,
            accept_partial: true,
        };
        let written = db.write_lines_now(&lines).expect("the write is stored");
        assert_eq!((written.errors.len(), written.points), (0, hosts));
    }
    data
}

fn ask_all(db: &Db, data: &Hosts, place: &str, reports: &mut Vec<Report>) {
    let hosts = data.hosts() as u64;
    let all = data.points;
    let count = |answer: &waterclock::query::Answer| answer.rows() as u64;
    let hours = all.div_ceil(hosts).div_ceil(360);
    let cases: [(&str, &str, u64, u64); 5] = [
        ("every 1h avg of one field, per host", "cpu | every 1h avg(usage_user)", all, hosts * hours),
        ("every 1h avg of one field, by region", "cpu | every 1h avg(usage_user) by region", all, 0),
        (
            "every 1m max of five fields, one host",
            "cpu{hostname=\"host_7\"} | every 1m max(usage_user), max(usage_system), max(usage_idle), max(usage_nice), max(usage_iowait)",
            5 * all / hosts,
            all.div_ceil(hosts).div_ceil(6),
        ),
        ("sum of one field, all in one", "cpu | sum(usage_user) by ()", all, 1),
        ("last of one field, per host", "cpu | last(usage_user)", all, hosts),
    ];
    for (name, text, values, rows) in cases {
        let mut best = (u64::MAX, u64::MAX);
        for _ in 0..3 {
            let (cpu, started) = (process_cpu_nanos(), wall());
            let answer = ask(db, text);
            best = best.min((process_cpu_nanos() - cpu, started.elapsed().as_micros() as u64));
            assert!(rows == 0 || count(&answer) == rows, "{name}: {} rows", count(&answer));
        }
        reports.push(Report {
            name: format!("query {place}: {name}"),
            values,
            cpu_nanos: best.0,
            bytes: 0,
            note: format!("{:.1} ms wall", best.1 as f64 / 1_000.0),
        });
    }
    let sum = ask(db, "cpu | sum(usage_user) as s by ()");
    let sum = sum.batch.column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0);
    assert_eq!(sum, data.user_sum, "fast and wrong is wrong");
    let average = ask(db, "cpu | avg(usage_user) as a by ()");
    let average = average.batch.column(0).as_primitive::<Float64Type>().value(0);
    assert_eq!(average, data.user_sum as f64 / all as f64);
}

pub fn ask(db: &Db, text: &str) -> waterclock::query::Answer {
    let options = QueryOptions { read_only: true, ..QueryOptions::of("default") };
    db.query(text, &options, &db.guard()).expect("the query is answered")
}
