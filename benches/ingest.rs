//! Ingest inside the process: parsing alone, then parsing, log with fsync, and head.
//!
//! Over HTTP the whole server is measured from outside: `benches/http.rs`.

use std::sync::Arc;

use super::support::{Report, Size, process_cpu_nanos, thread_cpu_nanos};
use super::tsbs::Hosts;
use waterclock::clock::SystemClock;
use waterclock::config::Config;
use waterclock::db::{Db, FlushScope, Lines};
use waterclock::disk::LocalDisk;
use waterclock::ingest::line_protocol::Precision;
use waterclock::ingest::{Target, parse_lines};
use waterclock::series::Registry;

/// TSBS' own batch.
const LINES_PER_BODY: usize = 10_000;

pub fn run(size: Size) -> Vec<Report> {
    let hosts = size.pick(20, 4_000);
    let ticks = size.pick(30, 1_080);
    let mut reports = vec![parse(hosts, size.pick(5, 100))];
    reports.extend(write(hosts, ticks));
    reports
}

fn parse(hosts: usize, ticks: usize) -> Report {
    let registry = Registry::default();
    let database = registry.database_or_new("default");
    let limits = Config::default().limits;
    let target = Target {
        registry: &registry,
        database: &database,
        limits: &limits,
        refusal: &|_| None,
        accepted: &|_| waterclock::ingest::Accepted::ALL,
    };
    let mut data = Hosts::new(hosts);
    let (mut cpu, mut values, mut bytes) = (0, 0, 0);
    let mut body = String::new();
    for tick in 0..=ticks {
        body.clear();
        data.tick(&mut body);
        let before = thread_cpu_nanos();
        let parsed = parse_lines(body.as_bytes(), &target, Precision::Nanos, 0);
        // The first tick registers the series; it is not the steady state.
        if tick > 0 {
            cpu += thread_cpu_nanos() - before;
            values += parsed.batch.values() as u64;
            bytes += body.len() as u64;
        }
        assert_eq!((parsed.errors.len(), parsed.batch.rows()), (0, hosts));
    }
    Report {
        name: "ingest/parse".to_string(),
        values,
        cpu_nanos: cpu,
        bytes,
        note: "bytes are the text's".to_string(),
    }
}

fn write(hosts: usize, ticks: usize) -> Vec<Report> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = Arc::new(LocalDisk::open(folder.path()).expect("an empty folder"));
    let db = Db::open(disk, Arc::new(SystemClock::new()), Config::default()).expect("an empty database");
    let mut data = Hosts::new(hosts);
    let (mut cpu, mut values) = (0, 0);
    let mut body = String::new();
    let mut send = |body: &mut String| {
        let before = process_cpu_nanos();
        let lines = Lines {
            database: "default",
            body: body.as_bytes(),
            precision: Precision::Nanos,
            accept_partial: true,
        };
        let written = db.write_lines_now(&lines).expect("the write is stored");
        cpu += process_cpu_nanos() - before;
        assert_eq!(written.errors.len(), 0);
        values += written.values as u64;
        body.clear();
    };
    for _ in 0..ticks {
        data.tick(&mut body);
        if body.len() > LINES_PER_BODY * 300 {
            send(&mut body);
        }
    }
    if !body.is_empty() {
        send(&mut body);
    }
    assert_eq!(values, (hosts * ticks * 10) as u64);
    let report = |name: &str, cpu_nanos, bytes, note: &str| Report {
        name: name.to_string(),
        values,
        cpu_nanos,
        bytes,
        note: note.to_string(),
    };
    let head_bytes = db.status().head_bytes as u64;
    let written = report("ingest/parse, log with fsync, head", cpu, head_bytes, "bytes are the head's");
    let before = process_cpu_nanos();
    db.flush(FlushScope::All).expect("a flush");
    let flush_cpu = process_cpu_nanos() - before;
    let flushed = report("flush", flush_cpu, db.status().block_bytes, "bytes are the blocks'");
    let before = process_cpu_nanos();
    db.compact(true).expect("a compaction");
    let compact_cpu = process_cpu_nanos() - before;
    let compacted = report("compact", compact_cpu, db.status().block_bytes, "bytes are the block's");
    vec![written, flushed, compacted]
}
