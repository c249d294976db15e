//! The real server over its socket: each write is answered after its fsync, and all CPU time of the server counts.
//!
//! The load is made beforehand per request and sent by two connections, so that the server has something to put into one
//! group commit. Flush and compaction are asked for at the end, so their cost is in the table, too.

use std::sync::Mutex;

use super::server::Server;
use super::support::{Report, Size, wall};
use super::tsbs::Hosts;

const CONNECTIONS: usize = 2;

/// TSBS' own batch: about this many lines a request.
const LINES_PER_REQUEST: usize = 10_000;

pub fn run(size: Size) -> Vec<Report> {
    let hosts = size.pick(20, 4_000);
    let ticks = size.pick(30, 1_080);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut server = Server::start(folder.path());
    let mut reports = Vec::new();
    let values = (hosts * ticks * 10) as u64;

    let data = Mutex::new((Hosts::new(hosts), 0usize));
    let (cpu, started) = (server.cpu_nanos(), wall());
    std::thread::scope(|threads| {
        for _ in 0..CONNECTIONS {
            threads.spawn(|| {
                while let Some(body) = next_body(&data, ticks) {
                    server.post("/write?db=default", &body);
                }
            });
        }
    });
    let elapsed = started.elapsed().as_secs_f64();
    let mut report = |name: &str, cpu_nanos: u64, bytes: u64, note: String| {
        reports.push(Report { name: format!("http/{name}"), values, cpu_nanos, bytes, note });
    };
    let note = format!(
        "{:.2} M values/s wall with the load's own cost, peak memory {} MiB",
        values as f64 / elapsed / 1e6,
        server.peak_memory_mib()
    );
    report("ingest", server.cpu_nanos() - cpu, 0, note);

    // All of it is in memory and in the log.
    let all = "cpu | sum(usage_user) as s by ()";
    let expected = format!("[{}]", data.lock().expect("no thread panicked").0.user_sum);
    server.kill();
    let (restarted, answer, millis) = Server::start_and_ask(folder.path(), all);
    server = restarted;
    assert!(answer.contains(&expected), "fast and wrong is wrong: {answer} is not {expected}");
    let note = format!("{millis:.0} ms to the first answer, peak memory {} MiB", server.peak_memory_mib());
    report("restart after kill -9", server.cpu_nanos(), 0, note);

    for (name, path) in [("flush", "/api/flush"), ("compact", "/api/compact")] {
        let cpu = server.cpu_nanos();
        server.post(path, "");
        report(name, server.cpu_nanos() - cpu, server.block_bytes(), String::new());
    }

    let question = "cpu | every 1h avg(usage_user)";
    let mut best = f64::MAX;
    let cpu = server.cpu_nanos();
    for _ in 0..3 {
        let started = wall();
        let answer = server.post("/api/wql", question);
        best = best.min(started.elapsed().as_secs_f64() * 1e3);
        let rows = answer.matches("host_").count();
        assert_eq!(rows, hosts * ticks.div_ceil(360), "a row per host and hour");
    }
    let cpu = (server.cpu_nanos() - cpu) / 3;
    let points = values / 10;
    reports.push(Report {
        name: "http/every 1h avg of one field, all hosts".to_string(),
        values: points,
        cpu_nanos: cpu,
        bytes: 0,
        note: format!("{best:.0} ms wall, with the answer's JSON"),
    });
    let stopped = server.stop();
    let (server, answer, millis) = Server::start_and_ask(folder.path(), all);
    assert!(answer.contains(&expected), "fast and wrong is wrong: {answer} is not {expected}");
    reports.push(Report {
        name: "http/restart after a stop".to_string(),
        values,
        cpu_nanos: server.cpu_nanos(),
        bytes: 0,
        note: format!("{millis:.0} ms to the first answer, after a stop of {stopped:.0} ms"),
    });
    reports
}

pub fn next_body(data: &Mutex<(Hosts, usize)>, ticks: usize) -> Option<String> {
    let mut data = data.lock().expect("no thread panicked");
    let (hosts, done) = &mut *data;
    let mut body = String::new();
    let mut lines = 0;
    while *done < ticks && lines < LINES_PER_REQUEST {
        hosts.tick(&mut body);
        *done += 1;
        lines += hosts.hosts();
    }
    (!body.is_empty()).then_some(body)
}
