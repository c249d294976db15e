//! Very many series in the real server: memory and CPU of each phase of their life.
//!
//! Each series has 5 tags, about 100 bytes of text, and 2 integer fields; one tag is different for each, one for each ten.
//! The points come tick by tick over all series, the worst order for whatever keeps state per series.

use std::fmt::Write;
use std::sync::Mutex;

use super::server::Server;
use super::support::{Report, Size, wall};

const CONNECTIONS: usize = 2;
const LINES_PER_REQUEST: usize = 10_000;
const FIELDS: usize = 2;
const TICKS: usize = 4;

/// 2026-01-01T12:00:00Z
const START_SECONDS: u64 = 1_767_268_800;
const TICK_SECONDS: u64 = 60;

pub fn run(size: Size) -> Vec<Report> {
    let series = size.pick(2_000, 1_000_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut reports = Vec::new();
    let values = (series * FIELDS * TICKS) as u64;
    let mut server = Server::start(folder.path());
    let mut phase = Phase::new(&server);

    write(&server, series, 0);
    phase.end(&server, &mut reports, "ingest", values, "");
    check(&server, series, TICKS);
    phase.end(&server, &mut reports, "query by tag", values, "");

    server.kill();
    let question = format!("{TABLE}{{host=\"{}\"}} | count", host(series / 2));
    let (restarted, answer, millis) = Server::start_and_ask(folder.path(), &question);
    assert!(answer.contains(&format!("{TICKS}]")), "fast and wrong is wrong: {answer}");
    server = restarted;
    phase = Phase::default();
    phase.end(
        &server,
        &mut reports,
        "restart after kill -9",
        values,
        &format!("{millis:.0} ms to the first answer; "),
    );

    server.post("/api/flush", "");
    phase.end(&server, &mut reports, "flush", values, "");
    // A second block of the same day.
    write(&server, series, TICKS);
    phase.end(&server, &mut reports, "ingest again", values, "");
    server.post("/api/flush", "");
    phase.end(&server, &mut reports, "flush again", values, "");
    server.post("/api/compact", "");
    let of_block =
        format!("{:.2} bytes a value on disk; ", server.block_bytes() as f64 / (2 * values) as f64);
    phase.end(&server, &mut reports, "compact", 2 * values, &of_block);
    check(&server, series, 2 * TICKS);
    phase.end(&server, &mut reports, "query by tag, block", 2 * values, "");

    let stopped = server.stop();
    let (server, answer, millis) = Server::start_and_ask(folder.path(), &question);
    assert!(answer.contains(&format!("{}]", 2 * TICKS)), "fast and wrong is wrong: {answer}");
    let note = format!("{millis:.0} ms to the first answer, after a stop of {stopped:.0} ms; ");
    Phase::default().end(&server, &mut reports, "restart after a stop", 2 * values, &note);
    reports
}

/// What the server had used when the phase began.
#[derive(Default)]
struct Phase {
    cpu_nanos: u64,
    started: Option<std::time::Instant>,
}

impl Phase {
    fn new(server: &Server) -> Phase {
        server.forget_peak();
        Phase { cpu_nanos: server.cpu_nanos(), started: Some(wall()) }
    }

    fn end(&mut self, server: &Server, reports: &mut Vec<Report>, name: &str, values: u64, note: &str) {
        let elapsed = self.started.map(|started| format!("{:.1} s wall; ", started.elapsed().as_secs_f64()));
        reports.push(Report {
            name: format!("series/{name}"),
            values,
            cpu_nanos: server.cpu_nanos() - self.cpu_nanos,
            bytes: 0,
            note: format!(
                "{note}{}memory {} MiB, peak {} MiB",
                elapsed.unwrap_or_default(),
                server.memory_now_mib(),
                server.peak_memory_mib()
            ),
        });
        *self = Phase::new(server);
    }
}

const TABLE: &str = "requests";

fn host(series: usize) -> String {
    format!("host-{series:07}.example.net")
}

/// Some ticks of all series.
fn write(server: &Server, series: usize, first_tick: usize) {
    let next = Mutex::new(0);
    std::thread::scope(|threads| {
        for _ in 0..CONNECTIONS {
            threads.spawn(|| {
                loop {
                    let from = {
                        let mut next = next.lock().expect("no thread panicked");
                        let from = *next;
                        *next += LINES_PER_REQUEST;
                        from
                    };
                    if from >= series * TICKS {
                        return;
                    }
                    let lines = from..(from + LINES_PER_REQUEST).min(series * TICKS);
                    server.post("/write?db=default&precision=s", &body(series, first_tick, lines));
                }
            });
        }
    });
}

fn body(series: usize, first_tick: usize, lines: std::ops::Range<usize>) -> String {
    let mut body = String::with_capacity(lines.len() * 160);
    for line in lines {
        let (tick, number) = (first_tick + line / series, line % series);
        let (rack, service, zone) = (number / 10, number % 50, number % 3);
        let host = host(number);
        let time = START_SECONDS + TICK_SECONDS * tick as u64;
        let (first, second) = (tick * 17 + number % 100, number % 1_000);
        writeln!(
            body,
            "{TABLE},host={host},rack=rack-{rack:06},region=eu-central-1,service=service-{service},zone=zone-{zone} \
             busy={first}i,waiting={second}i {time}"
        )
        .expect("a string takes everything");
    }
    body
}

/// One series by its own tag, ten by another, a fiftieth by a third.
fn check(server: &Server, series: usize, ticks: usize) {
    let rows = |filter: &str, expected: usize| {
        let answer = server.post("/api/wql", &format!("{TABLE}{{{filter}}} | count as n by ()"));
        assert!(answer.contains(&format!("[{expected}]")), "fast and wrong is wrong: {filter}: {answer}");
    };
    rows(&format!("host=\"{}\"", host(series / 3)), ticks);
    rows(&format!("rack=\"rack-{:06}\"", series / 20), 10 * ticks);
    rows("service=\"service-7\"", series / 50 * ticks);
    rows("region=\"eu-central-1\"", series * ticks);
}
