//! Prometheus' remote write over its socket: what a sample costs the server, from snappy to the block on disk; and what
//! Grafana asks of it.
//!
//! Requests are as a Prometheus sends them: 2,000 samples, each of another series with all its labels, every ten seconds.
//! The series are those of machines: counters, whole gauges, gauges with two decimals, values that stay, and whole percents;
//! and once whole percents alone, as TSBS has them.

use std::sync::Mutex;

use serde_json::Value;
use waterclock::ingest::protobuf::{put_bytes, put_double, put_number, put_varint};

use super::server::Server;
use super::support::{Random, Report, Size, wall};

/// `max_samples_per_send` of Prometheus' default configuration.
const SAMPLES_PER_REQUEST: usize = 2_000;

const METRICS_PER_TARGET: usize = 10;

/// Kinds of metrics.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Counter,
    Whole,
    /// Two of them.
    Decimals,
    Constant,
    /// Whole, too, of a walk.
    Percent,
}

impl Kind {
    /// As metrics follow each other: the first is a counter.
    pub const ALL: [Kind; 5] = [Kind::Counter, Kind::Whole, Kind::Decimals, Kind::Constant, Kind::Percent];
}

const JOBS: [&str; 4] = ["node", "web", "cache", "db"];
const RACKS: usize = 40;

const CONNECTIONS: usize = 2;

#[derive(Clone, Copy)]
pub enum Version {
    V1,
    V2,
}

impl Version {
    fn headers(self) -> [(&'static str, &'static str); 2] {
        let kind = match self {
            Version::V1 => "application/x-protobuf",
            Version::V2 => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        };
        [("Content-Encoding", "snappy"), ("Content-Type", kind)]
    }
}

/// 2026-01-01T00:00:00Z.
const FIRST_MS: i64 = 1_767_225_600_000;
const STEP_MS: i64 = 10_000;

pub fn run(size: Size) -> Vec<Report> {
    let targets = size.pick(40, 4_000);
    let ticks = size.pick(42, 1_080);
    let mut reports = vec![second_version(size, targets)];
    reports.extend(percents(targets, ticks));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(folder.path());
    let (written, load) = write(&server, Version::V1, Load::new(targets, ticks, &Kind::ALL));
    let samples = written.values;
    reports.push(written);
    check(&server, &load, samples);
    reports.extend(queries(&server, &load, size, "memory and blocks"));
    reports.extend(to_blocks(&server, samples, ""));
    check(&server, &load, samples);
    reports.extend(queries(&server, &load, size, "one block"));
    reports
}

fn to_blocks(server: &Server, samples: u64, of: &str) -> Vec<Report> {
    let report = |(name, path)| {
        let cpu = server.cpu_nanos();
        server.post(path, "");
        Report {
            name: format!("prometheus/{name}{of}"),
            values: samples,
            cpu_nanos: server.cpu_nanos() - cpu,
            bytes: server.block_bytes(),
            note: String::new(),
        }
    };
    [("flush", "/api/flush"), ("compact", "/api/compact?force=true")].map(report).into()
}

/// The values of TSBS' cpu-only case.
fn percents(targets: usize, ticks: usize) -> Vec<Report> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(folder.path());
    let of = ", percents";
    let (written, load) = write(&server, Version::V1, Load::new(targets, ticks, &[Kind::Percent]));
    let samples = written.values;
    let mut reports = vec![Report { name: format!("{}{of}", written.name), ..written }];
    reports.extend(to_blocks(&server, samples, of));
    check(&server, &load, samples);
    reports
}

/// A tenth of the samples, by remote write 2.0.
fn second_version(size: Size, targets: usize) -> Report {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(folder.path());
    let (written, load) = write(&server, Version::V2, Load::new(targets, size.pick(30, 108), &Kind::ALL));
    check(&server, &load, written.values);
    Report { name: "prometheus/remote write 2.0".to_string(), ..written }
}

pub fn write(server: &Server, version: Version, load: Load) -> (Report, Load) {
    let samples = (load.series.len() * load.ticks) as u64;
    let load = Mutex::new(load);
    let (cpu, started) = (server.cpu_nanos(), wall());
    std::thread::scope(|threads| {
        for _ in 0..CONNECTIONS {
            threads.spawn(|| {
                let mut encoder = snap::raw::Encoder::new();
                while let Some(body) = next_body(&load, version) {
                    let packed = encoder.compress_vec(&body).expect("a body of some hundred KiB");
                    server.post_bytes("/api/v1/write", &version.headers(), &packed);
                }
            });
        }
    });
    let note = format!(
        "{:.2} M samples/s wall with the load's own cost, peak memory {} MiB",
        samples as f64 / started.elapsed().as_secs_f64() / 1e6,
        server.peak_memory_mib()
    );
    let report = Report {
        name: "prometheus/remote write".to_string(),
        values: samples,
        cpu_nanos: server.cpu_nanos() - cpu,
        bytes: 0,
        note,
    };
    (report, load.into_inner().expect("no thread panicked"))
}

/// Fast and wrong is wrong.
fn check(server: &Server, load: &Load, samples: u64) {
    let answer = server.post("/api/wql", "metrics | count by ()");
    assert!(answer.contains(&format!("[{samples}]")), "{answer} is not {samples}");
    let first = load.series.iter().step_by(METRICS_PER_TARGET);
    let last: f64 = first.map(Series::sample).sum();
    let answer = server.post("/api/wql", "node_metric_0_total | last(value) as v | sum(v) as s by ()");
    assert!(answer.contains(&format!("[{last:?}]")), "{answer} is not {last}");
}

/// What a dashboard asks: a rate over a quarter of a metric's series, and the values of a label for a menu.
fn queries(server: &Server, load: &Load, size: Size, from: &str) -> Vec<Report> {
    let first = FIRST_MS / 1_000;
    let end = first + load.ticks as i64 * STEP_MS / 1_000;
    let rate = format!(
        "/api/v1/query_range?query=sum%20by%20(job)%20(rate(node_metric_0_total%7Brack%3D~%22r%5B0-9%5D%22%7D%5B5m%5D))\
         &start={first}&end={end}&step=15"
    );
    let answer = json(server, &rate);
    let lines = answer["data"]["result"].as_array().expect("a matrix");
    assert_eq!(lines.len(), JOBS.len(), "{answer}");
    for line in lines {
        let points = line["values"].as_array().expect("points");
        // The first step has a sample alone, which makes no rate.
        assert_eq!(points.len() as i64, (end - first) / 15, "{answer}");
        let last: f64 =
            points[points.len() - 1][1].as_str().and_then(|text| text.parse().ok()).expect("a number");
        let expected = load.rate(line["metric"]["job"].as_str().expect("a job"));
        assert!((last / expected - 1.0).abs() < 1e-9, "{last} is not {expected}");
    }
    let values = "/api/v1/label/instance/values";
    let answer = json(server, values);
    let targets = load.series.len() / METRICS_PER_TARGET;
    assert_eq!(answer["data"].as_array().expect("a list").len(), targets, "{values}");
    let rated = targets / 4;
    vec![
        time(server, &format!("sum of rates of {rated} series, {from}"), &rate, size),
        time(server, &format!("{targets} label values, {from}"), values, size),
    ]
}

fn json(server: &Server, path: &str) -> Value {
    serde_json::from_str(&server.get(path)).expect("JSON")
}

fn time(server: &Server, name: &str, path: &str, size: Size) -> Report {
    let runs = size.pick(1, 20);
    let cpu = server.cpu_nanos();
    let mut millis: Vec<f64> = (0..runs)
        .map(|_| {
            let started = wall();
            assert!(!server.get(path).is_empty());
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    let cpu = (server.cpu_nanos() - cpu) as f64 / runs as f64 / 1e6;
    millis.sort_by(f64::total_cmp);
    let note = format!("{:.2} ms in the middle of {runs}, {cpu:.2} ms of CPU", millis[runs / 2]);
    Report { name: format!("prometheus/{name}"), values: 0, cpu_nanos: 0, bytes: 0, note }
}

pub struct Load {
    series: Vec<Series>,
    random: Random,
    /// The next sample.
    tick: usize,
    at: usize,
    ticks: usize,
}

struct Series {
    /// Sorted by name.
    labels: Vec<(&'static str, String)>,
    /// The same as a 1.0 message has them.
    encoded: Vec<u8>,
    kind: Kind,
    value: f64,
    /// What it was when the last five minutes began.
    rated_from: f64,
}

/// Samples in a window of five minutes that begins and ends between two of them.
const RATED_SAMPLES: usize = 29;

impl Series {
    fn sample(&self) -> f64 {
        if self.kind == Kind::Percent { self.value.floor() } else { self.value }
    }
}

impl Load {
    /// Metrics are of these kinds in turns.
    pub fn new(targets: usize, ticks: usize, kinds: &[Kind]) -> Load {
        let mut random = Random::new(42);
        let mut series = Vec::new();
        for target in 0..targets {
            for metric in 0..METRICS_PER_TARGET {
                let kind = kinds[metric % kinds.len()];
                let unit = if metric % Kind::ALL.len() == 0 { "total" } else { "value" };
                let name = format!("node_metric_{metric}_{unit}");
                let labels = vec![
                    ("__name__", name),
                    ("cluster", "eu-central-1".to_string()),
                    ("datacenter", format!("dc{}", target % 3)),
                    ("device", format!("dev{}", metric % 7)),
                    ("env", "production".to_string()),
                    ("instance", format!("host-{target:04}.example.net:9100")),
                    ("job", JOBS[target % JOBS.len()].to_string()),
                    ("mode", format!("mode{}", metric % 5)),
                    ("rack", format!("r{}", target % RACKS)),
                    ("team", "platform".to_string()),
                ];
                let mut encoded = Vec::new();
                for (label, value) in &labels {
                    let mut message = Vec::new();
                    put_bytes(&mut message, 1, label.as_bytes());
                    put_bytes(&mut message, 2, value.as_bytes());
                    put_bytes(&mut encoded, 1, &message);
                }
                let value = random.range(0, if kind == Kind::Percent { 100 } else { 1_000 }) as f64;
                series.push(Series { labels, encoded, kind, value, rated_from: value });
            }
        }
        Load { series, random, tick: 0, at: 0, ticks }
    }

    fn next_value(&mut self) -> f64 {
        let random = &mut self.random;
        let series = &mut self.series[self.at];
        series.value = match series.kind {
            Kind::Counter => series.value + random.range(0, 50) as f64,
            Kind::Whole => (series.value + random.range(-3, 4) as f64).max(0.0),
            Kind::Decimals => ((series.value * 100.0).round() + random.range(-20, 21) as f64) / 100.0,
            Kind::Constant => series.value,
            // About a normal step, as TSBS makes them.
            Kind::Percent => {
                (series.value + (0..12).map(|_| random.unit()).sum::<f64>() - 6.0).clamp(0.0, 100.0)
            }
        };
        if self.tick + RATED_SAMPLES == self.ticks {
            series.rated_from = series.value;
        }
        series.sample()
    }

    /// What Prometheus says of the last five minutes of the first metric in ten racks: between the outermost samples lie all
    /// steps but one at each end, and it takes those to be as the others.
    fn rate(&self, job: &str) -> f64 {
        let is_rated = |target: &usize| target % RACKS < 10 && JOBS[target % JOBS.len()] == job;
        let rated = (0..self.series.len() / METRICS_PER_TARGET).filter(is_rated);
        let grown = rated.map(|target| {
            let series = &self.series[target * METRICS_PER_TARGET];
            series.value - series.rated_from
        });
        grown.sum::<f64>() / ((RATED_SAMPLES as i64 - 1) * STEP_MS / 1_000) as f64
    }
}

fn next_body(load: &Mutex<Load>, version: Version) -> Option<Vec<u8>> {
    let mut load = load.lock().expect("no thread panicked");
    let (mut body, mut sample, mut series) = (Vec::new(), Vec::new(), Vec::new());
    let mut symbols = Symbols::default();
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
        put_number(&mut sample, 2, FIRST_MS + load.tick as i64 * STEP_MS);
        series.clear();
        match version {
            Version::V1 => {
                series.extend_from_slice(&load.series[load.at].encoded);
                put_bytes(&mut series, 2, &sample);
                put_bytes(&mut body, 1, &series);
            }
            Version::V2 => {
                put_bytes(&mut series, 1, &symbols.refs(&load.series[load.at].labels));
                put_bytes(&mut series, 2, &sample);
                put_bytes(&mut body, 5, &series);
            }
        }
        load.at += 1;
    }
    if body.is_empty() {
        return None;
    }
    // The order of fields is free, and so symbols may stand after the series.
    symbols.list.iter().for_each(|symbol| put_bytes(&mut body, 4, symbol.as_bytes()));
    Some(body)
}

/// The texts of one 2.0 message.
#[derive(Default)]
struct Symbols {
    list: Vec<String>,
    numbers: std::collections::HashMap<String, usize>,
}

impl Symbols {
    fn refs(&mut self, labels: &[(&str, String)]) -> Vec<u8> {
        let mut refs = Vec::new();
        if self.list.is_empty() {
            // The first one is always empty.
            self.list.push(String::new());
        }
        for text in labels.iter().flat_map(|(name, value)| [*name, value.as_str()]) {
            let number = match self.numbers.get(text) {
                Some(number) => *number,
                None => {
                    self.list.push(text.to_string());
                    self.numbers.insert(text.to_string(), self.list.len() - 1);
                    self.list.len() - 1
                }
            };
            put_varint(&mut refs, number as u64);
        }
        refs
    }
}
