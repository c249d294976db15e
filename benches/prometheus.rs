//! Prometheus' remote write over its socket: what a sample costs the server, from snappy to the block on disk.
//!
//! Requests are as a Prometheus sends them: 2,000 samples, each of another series with all its labels, every ten seconds.
//! The series are those of machines: counters, whole gauges, gauges with two decimals, and values that stay.

use std::sync::Mutex;

use waterclock::ingest::protobuf::{put_bytes, put_double, put_number};

use super::server::Server;
use super::support::{Random, Report, Size, wall};

/// `max_samples_per_send` of Prometheus' default configuration.
const SAMPLES_PER_REQUEST: usize = 2_000;

const METRICS_PER_TARGET: usize = 100;

const CONNECTIONS: usize = 2;

const HEADERS: [(&str, &str); 2] =
    [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];

/// 2026-01-01T00:00:00Z.
const FIRST_MS: i64 = 1_767_225_600_000;

pub fn run(size: Size) -> Vec<Report> {
    let targets = size.pick(4, 400);
    let ticks = size.pick(40, 1_080);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(folder.path());
    let load = Mutex::new(Load::new(targets, ticks));
    let samples = (targets * METRICS_PER_TARGET * ticks) as u64;

    let (cpu, started) = (server.cpu_nanos(), wall());
    std::thread::scope(|threads| {
        for _ in 0..CONNECTIONS {
            threads.spawn(|| {
                let mut encoder = snap::raw::Encoder::new();
                while let Some(body) = next_body(&load) {
                    let packed = encoder.compress_vec(&body).expect("a body of some hundred KiB");
                    server.post_bytes("/api/v1/write", &HEADERS, &packed);
                }
            });
        }
    });
    let elapsed = started.elapsed().as_secs_f64();
    let mut reports = Vec::new();
    let mut report = |name: &str, cpu_nanos: u64, bytes: u64, note: String| {
        reports.push(Report { name: format!("prometheus/{name}"), values: samples, cpu_nanos, bytes, note });
    };
    let note = format!(
        "{:.2} M samples/s wall with the load's own cost, peak memory {} MiB",
        samples as f64 / elapsed / 1e6,
        server.peak_memory_mib()
    );
    report("remote write", server.cpu_nanos() - cpu, 0, note);
    let load = load.into_inner().expect("no thread panicked");
    check(&server, &load, samples);
    for (name, path) in [("flush", "/api/flush"), ("compact", "/api/compact?force=true")] {
        let cpu = server.cpu_nanos();
        server.post(path, "");
        report(name, server.cpu_nanos() - cpu, server.block_bytes(), String::new());
    }
    check(&server, &load, samples);
    reports
}

/// Fast and wrong is wrong.
fn check(server: &Server, load: &Load, samples: u64) {
    let answer = server.post("/api/wql", "metrics | count by ()");
    assert!(answer.contains(&format!("[{samples}]")), "{answer} is not {samples}");
    let last: f64 = load.series.iter().step_by(METRICS_PER_TARGET).map(|series| series.value).sum();
    let answer = server.post("/api/wql", "node_metric_0_total | last(value) as v | sum(v) as s by ()");
    assert!(answer.contains(&format!("[{last:?}]")), "{answer} is not {last}");
}

struct Load {
    series: Vec<Series>,
    random: Random,
    /// The next sample.
    tick: usize,
    at: usize,
    ticks: usize,
}

struct Series {
    /// The encoded labels.
    labels: Vec<u8>,
    kind: usize,
    value: f64,
}

impl Load {
    fn new(targets: usize, ticks: usize) -> Load {
        let mut random = Random::new(42);
        let mut series = Vec::new();
        for target in 0..targets {
            for metric in 0..METRICS_PER_TARGET {
                let name =
                    format!("node_metric_{metric}_{}", if metric % 4 == 0 { "total" } else { "value" });
                let labels = [
                    ("__name__", name),
                    ("cluster", "eu-central-1".to_string()),
                    ("datacenter", format!("dc{}", target % 3)),
                    ("device", format!("dev{}", metric % 7)),
                    ("env", "production".to_string()),
                    ("instance", format!("host-{target:04}.example.net:9100")),
                    ("job", "node".to_string()),
                    ("mode", format!("mode{}", metric % 5)),
                    ("rack", format!("r{}", target % 40)),
                    ("team", "platform".to_string()),
                ];
                let mut encoded = Vec::new();
                for (label, value) in labels {
                    let mut message = Vec::new();
                    put_bytes(&mut message, 1, label.as_bytes());
                    put_bytes(&mut message, 2, value.as_bytes());
                    put_bytes(&mut encoded, 1, &message);
                }
                series.push(Series {
                    labels: encoded,
                    kind: metric % 4,
                    value: random.range(0, 1_000) as f64,
                });
            }
        }
        Load { series, random, tick: 0, at: 0, ticks }
    }

    fn next_value(&mut self) -> f64 {
        let series = &mut self.series[self.at];
        series.value = match series.kind {
            0 => series.value + self.random.range(0, 50) as f64,
            1 => (series.value + self.random.range(-3, 4) as f64).max(0.0),
            2 => ((series.value * 100.0).round() + self.random.range(-20, 21) as f64) / 100.0,
            _ => series.value,
        };
        series.value
    }
}

fn next_body(load: &Mutex<Load>) -> Option<Vec<u8>> {
    let mut load = load.lock().expect("no thread panicked");
    let (mut body, mut sample, mut series) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..SAMPLES_PER_REQUEST {
        if load.at == load.series.len() {
            load.at = 0;
            load.tick += 1;
        }
        if load.tick == load.ticks {
            break;
        }
        let value = load.next_value();
        sample.clear();
        put_double(&mut sample, 1, value);
        put_number(&mut sample, 2, FIRST_MS + load.tick as i64 * 10_000);
        series.clear();
        series.extend_from_slice(&load.series[load.at].labels);
        put_bytes(&mut series, 2, &sample);
        put_bytes(&mut body, 1, &series);
        load.at += 1;
    }
    (!body.is_empty()).then_some(body)
}
