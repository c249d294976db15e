//! Rollups over the real server's socket, on the shape of the devops queries: computing them from nothing and after late
//! points, reading through them, what their states take on disk, and what one and ten of them cost ingest.
//!
//! Every answer through a rollup is the one from raw points, byte for byte in its rows.
//! Not here: the parts of it inside the process (`rollup`).

use std::sync::Mutex;

use serde_json::Value as Json;

use super::http::next_body;
use super::server::Server;
use super::support::{Random, Report, Size, wall};
use super::tsbs::{FIELDS, Hosts, START, STEP};

/// Ten minutes that come after the last refresh.
const TAIL_TICKS: usize = 60;

/// One point in so many is written again.
const LATE_SHARE: u64 = 100;

pub fn run(size: Size) -> Vec<Report> {
    let hosts = size.pick(20, 4_000);
    let ticks = size.pick(400, 1_080);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(folder.path());
    let data = Mutex::new((Hosts::new(hosts), 0usize));
    fill(&server, &data, ticks);
    server.post("/api/flush", "");
    server.post("/api/compact", "");
    let values = (hosts * ticks * 10) as u64;
    let mut reports = Vec::new();
    let mut report = |name: &str, cpu_nanos: u64, bytes: u64, note: String| {
        reports.push(Report { name: format!("rollups/{name}"), values, cpu_nanos, bytes, note });
    };

    let of_points = server.block_bytes();
    let refresh = timed(&server, || {
        create(&server, "cpu_1m", "cpu", "1m", "hostname");
        create(&server, "cpu_1h", "cpu_1m", "1h", "hostname");
        refresh_all(&server);
    });
    report("refresh from nothing", refresh.cpu, 0, refresh.seconds());
    let stored = timed(&server, || {
        server.post("/api/flush", "");
        server.post("/api/compact", "");
    });
    report(
        "flush and compaction of the states",
        stored.cpu,
        server.block_bytes() - of_points,
        stored.seconds(),
    );

    for (name, question) in reads(hosts, ticks, 0) {
        report(&format!("read {name}"), 0, 0, read(&server, &question, size));
    }
    server.post("/api/wql", "pause rollup cpu_1m");
    server.post("/api/wql", "pause rollup cpu_1h");
    fill(&server, &data, ticks + TAIL_TICKS);
    for place in ["in memory", "in blocks"] {
        for (name, question) in reads(hosts, ticks, TAIL_TICKS) {
            let name = format!("read {name}, ten minutes not refreshed, {place}");
            report(&name, 0, 0, read(&server, &question, size));
        }
        server.post("/api/flush", "");
    }
    server.post("/api/wql", "resume rollup cpu_1m");
    server.post("/api/wql", "resume rollup cpu_1h");
    refresh_all(&server);
    server.post("/api/flush", "");

    let late = late_points(hosts, ticks);
    let count = late.lines().count();
    let refresh = timed(&server, || {
        server.post("/write?db=default", &late);
        refresh_all(&server);
    });
    report("refresh after late points", refresh.cpu, 0, format!("{}, {count} points", refresh.seconds()));
    for (name, question) in reads(hosts, ticks, 0) {
        report(&format!("read {name} from memory"), 0, 0, read(&server, &question, size));
    }
    drop(server);
    for rollups in [0, 1, 10] {
        reports.push(ingest(rollups, size));
    }
    reports
}

struct Timed {
    cpu: u64,
    seconds: f64,
}

impl Timed {
    fn seconds(&self) -> String {
        format!("{:.2} s", self.seconds)
    }
}

fn timed(server: &Server, work: impl FnOnce()) -> Timed {
    let (cpu, started) = (server.cpu_nanos(), wall());
    work();
    Timed { cpu: server.cpu_nanos() - cpu, seconds: started.elapsed().as_secs_f64() }
}

fn fill(server: &Server, data: &Mutex<(Hosts, usize)>, ticks: usize) {
    while let Some(body) = next_body(data, ticks) {
        server.post("/write?db=default", &body);
    }
}

fn refresh_all(server: &Server) {
    for rollup in ["cpu_1m", "cpu_1h"] {
        server.post(&format!("/api/rollups/{rollup}/refresh"), "");
    }
}

/// Average, least, largest and count of all ten fields.
fn create(server: &Server, name: &str, of: &str, step: &str, by: &str) {
    let item = |field: &&str| format!("avg({field}), min({field}), max({field}), count({field})");
    let items = FIELDS.iter().map(item).collect::<Vec<_>>().join(", ");
    server.post("/api/wql", &format!("create rollup {name} as {of} | every {step} {items} by {by}"));
}

fn reads(hosts: usize, ticks: usize, tail: usize) -> [(&'static str, String); 3] {
    let end = START + (ticks + tail) as i64 * STEP;
    let range = format!("between {START}ns and {end}ns");
    let host = hosts / 2;
    [
        (
            "one host by 1m",
            format!("cpu{{hostname=\"host_{host}\"}} | {range} | every 1m avg(usage_user) by hostname"),
        ),
        ("all hosts by 1h", format!("cpu | {range} | every 1h avg(usage_user) by hostname")),
        ("the largest of all by 1m", format!("cpu | {range} | every 1m max(usage_user) by ()")),
    ]
}

/// Asks through the rollups, after a look at what the points say.
fn read(server: &Server, question: &str, size: Size) -> String {
    let ask = |parameters: &str| -> Json {
        serde_json::from_str(&server.post(&format!("/api/wql{parameters}"), question)).expect("JSON")
    };
    let (through, raw) = (ask(""), ask("?rollups=off"));
    let used = through["stats"]["rollups"].as_array().expect("a list");
    assert!(!used.is_empty(), "{question}: no rollup answered");
    assert_eq!(through["rows"], raw["rows"], "{question}: fast and wrong is wrong");
    let mut buffer = vec![0; 1 << 20];
    let mut median = |path: &str| {
        let mut millis: Vec<f64> = (0..size.pick(1, 40))
            .map(|_| {
                let started = wall();
                assert!(server.post_and_read(path, question, &mut buffer) > 0);
                started.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        millis.sort_by(f64::total_cmp);
        millis[millis.len() / 2]
    };
    let rows = through["rows"].as_array().expect("rows").len();
    let (through, as_arrow) = (median("/api/wql"), median("/api/wql?format=arrow"));
    let raw = median("/api/wql?rollups=off");
    format!("{through:.2} ms, as Arrow {as_arrow:.2} ms, from points {raw:.2} ms, {rows} rows")
}

/// Points anywhere in the past, written over.
fn late_points(hosts: usize, ticks: usize) -> String {
    let mut random = Random::new(7);
    let mut again = Hosts::new(hosts);
    let mut all = String::new();
    let mut tick = String::new();
    for _ in 0..ticks {
        tick.clear();
        again.tick(&mut tick);
        for line in tick.lines().filter(|_| random.bits().is_multiple_of(LATE_SHARE)) {
            all.push_str(&line.replacen("usage_user=", "usage_user=1", 1));
            all.push('\n');
        }
    }
    all
}

/// What so many rollups, of all fields, over the same table cost while points come in.
fn ingest(rollups: usize, size: Size) -> Report {
    let hosts = size.pick(20, 1_000);
    let ticks = size.pick(30, 1_080);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(folder.path());
    let data = Mutex::new((Hosts::new(hosts), 0usize));
    fill(&server, &data, 1);
    for (at, step) in
        ["1m", "5m", "1h", "2m", "10m", "30m", "15m", "1d", "20m", "3m"][..rollups].iter().enumerate()
    {
        create(&server, &format!("r{at}"), "cpu", step, ["hostname", "region"][at % 2]);
    }
    let ingest = timed(&server, || fill(&server, &data, ticks));
    Report {
        name: format!("rollups/ingest with {rollups}"),
        values: (hosts * (ticks - 1) * 10) as u64,
        cpu_nanos: ingest.cpu,
        bytes: 0,
        note: format!("{} with the load's own cost; refreshes are counted", ingest.seconds()),
    }
}
