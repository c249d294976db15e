//! The real Prometheus: it scrapes itself and node-exporter, writes to us through our restarts and deaths, and reads from us.
//!
//! What it has of its own is the truth: every sample of a stretch of time, bit by bit, and no more than those.
//! Both programs are Debian's; `make test` fetches them (tests/clients/install.sh), and without them this fails.
#![expect(clippy::disallowed_methods, reason = "the configuration of Prometheus is the test's own file")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use prost::Message;
use rustix::process::Signal;
use serde_json::Value as Json;

use crate::support::prometheus::{Matcher, ReadQuery, ReadRequest, ReadResponse, packed};
use crate::support::server::{Server, folder};

/// A program that ends with its test, killed by its own id.
pub struct Running(Child);

impl Running {
    fn start(program: &str, arguments: &[String]) -> Running {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn();
        Running(child.unwrap_or_else(|error| panic!("{program}: {error}; `make test` installs it")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn get(url: &str) -> Option<Json> {
    let mut reply = ureq::get(url).call().ok()?;
    let text = reply.body_mut().with_config().limit(1 << 30).read_to_string().ok()?;
    serde_json::from_str(&text).ok()
}

pub fn start_prometheus(folder: &Path, port: u16, config: &str, flags: &[&str]) -> Running {
    std::fs::write(folder.join("prometheus.yml"), config).unwrap();
    let mut arguments = vec![
        format!("--config.file={}", folder.join("prometheus.yml").display()),
        format!("--storage.tsdb.path={}", folder.join("data").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    arguments.extend(flags.iter().map(|flag| flag.to_string()));
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/target/prometheus/usr/bin/prometheus");
    let running = Running::start(program, &arguments);
    wait("Prometheus to be ready", || ureq::get(format!("http://127.0.0.1:{port}/-/ready")).call().ok());
    running
}

const PATIENCE: Duration = Duration::from_secs(120);

fn wait<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Bits by time in milliseconds, by labels. One NaN is all.
type Samples = BTreeMap<BTreeMap<String, String>, BTreeMap<i64, u64>>;

fn bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}

/// What a Prometheus has from `from` to `to`, both included.
fn of_prometheus(port: u16, selector: &str, from: i64, to: i64) -> Option<Samples> {
    // Ranges of Prometheus 3 leave their start out.
    let query = format!("{selector}[{}ms] @ {}.{:03}", to - from + 1, to / 1_000, to % 1_000);
    let encoded: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let answer = get(&format!("http://127.0.0.1:{port}/api/v1/query?query={encoded}"))?;
    let mut samples = Samples::new();
    for series in answer["data"]["result"].as_array()? {
        let labels = series["metric"].as_object()?.iter();
        let labels =
            labels.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_string())).collect();
        let values = series["values"].as_array()?.iter().map(|pair| {
            let time = (pair[0].as_f64().unwrap() * 1_000.0).round() as i64;
            (time, bits(pair[1].as_str().unwrap().parse().unwrap()))
        });
        samples.insert(labels, values.collect());
    }
    Some(samples)
}

fn of_ours(server: &Server, from: i64, to: i64) -> Samples {
    let matcher = Matcher { kind: 2, name: "__name__".to_string(), value: ".+".to_string() };
    let query = ReadQuery { start_timestamp_ms: from, end_timestamp_ms: to, matchers: vec![matcher] };
    let body = packed(&ReadRequest { queries: vec![query], accepted_response_types: vec![0] });
    let reply = server.send("POST", "/api/v1/read", &[("Content-Encoding", "snappy")], Some(&body));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let message = snap::raw::Decoder::new().decompress_vec(&reply.bytes).unwrap();
    let response = ReadResponse::decode(message.as_slice()).unwrap();
    let mut samples = Samples::new();
    for series in &response.results[0].timeseries {
        let labels = series.labels.iter().map(|label| (label.name.clone(), label.value.clone())).collect();
        // Prometheus shows no stale markers.
        let values = series.samples.iter().filter(|sample| sample.value.to_bits() != 0x7ff0_0000_0000_0002);
        let values: BTreeMap<i64, u64> =
            values.map(|sample| (sample.timestamp, bits(sample.value))).collect();
        if !values.is_empty() {
            samples.insert(labels, values);
        }
    }
    samples
}

/// What differs, in few words.
fn difference(truth: &Samples, ours: &Samples) -> Option<String> {
    let missing = truth.iter().find_map(|(labels, samples)| {
        let found = ours.get(labels);
        let lost =
            samples.iter().find(|(time, bits)| found.and_then(|found| found.get(time)) != Some(bits))?;
        Some(format!("{labels:?} at {lost:?} is missing or different"))
    });
    let extra = ours.iter().find_map(|(labels, samples)| {
        let found = truth.get(labels);
        let more = samples.keys().find(|time| found.is_none_or(|found| !found.contains_key(time)))?;
        Some(format!("{labels:?} at {more} is not in Prometheus"))
    });
    missing.or(extra)
}

fn now_ms(port: u16) -> i64 {
    let answer = wait("the time", || get(&format!("http://127.0.0.1:{port}/api/v1/query?query=time()")));
    let seconds = answer["data"]["result"][1].as_str().unwrap().parse::<f64>().unwrap();
    (seconds * 1_000.0) as i64
}

#[test]
fn prometheus_writes_through_restarts_and_kills_without_gap_or_duplicate_and_reads_back() {
    through_restarts("prometheus.WriteRequest");
}

#[test]
fn so_does_it_with_remote_write_2() {
    through_restarts("io.prometheus.write.v2.Request");
}

fn through_restarts(message: &str) {
    let (ours, theirs, readers) = (folder(), folder(), folder());
    let (our_port, port, exporter_port, reader_port) = (free_port(), free_port(), free_port(), free_port());
    let _exporter = Running::start(
        "prometheus-node-exporter",
        &[format!("--web.listen-address=127.0.0.1:{exporter_port}")],
    );
    let config = format!(
        "global: {{scrape_interval: 1s}}\n\
         scrape_configs:\n\
         - {{job_name: node, static_configs: [{{targets: ['127.0.0.1:{exporter_port}']}}]}}\n\
         - {{job_name: prometheus, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n\
         remote_write:\n\
         - url: http://127.0.0.1:{our_port}/api/v1/write\n  \
           queue_config: {{batch_send_deadline: 200ms, min_backoff: 50ms, max_backoff: 500ms}}\n  \
           metadata_config: {{send_interval: 2s}}\n  \
           protobuf_message: {message}\n"
    );
    let listen = format!("127.0.0.1:{our_port}");
    let mut server = Server::start_at(&listen, ours.path(), &[]);
    let _prometheus = start_prometheus(theirs.path(), port, &config, &[]);
    let from = now_ms(port) + 2_000;
    for round in 0..4 {
        std::thread::sleep(Duration::from_secs(4));
        if round % 2 == 0 {
            server.kill();
            std::thread::sleep(Duration::from_millis(700));
        } else {
            server.signal(Signal::TERM);
            server.wait();
        }
        server = Server::start_at(&listen, ours.path(), &[]);
    }
    std::thread::sleep(Duration::from_secs(2));
    let to = now_ms(port) - 1_000;
    let all = "{__name__=~\".+\"}";
    let truth = wait("Prometheus' own samples", || of_prometheus(port, all, from, to));
    let count: usize = truth.values().map(BTreeMap::len).sum();
    assert!(truth.len() > 300 && count > 3_000, "{} series, {count} samples", truth.len());
    let mut last = None;
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        last = difference(&truth, &of_ours(&server, from, to));
        if last.is_none() {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(last, None, "{} series, {count} samples", truth.len());
    // Of 2.0 Prometheus sends metadata only with a feature that is off by default.
    if message == "prometheus.WriteRequest" {
        let help = server.rows("metrics_metadata{metric=\"node_cpu_seconds_total\"} | last(type) as type");
        assert_eq!(help[0][1], "counter");
    }

    // Another Prometheus, which has nothing itself, answers the same from us.
    let config =
        format!("remote_read: [{{url: 'http://127.0.0.1:{our_port}/api/v1/read', read_recent: true}}]\n");
    let _reader = start_prometheus(readers.path(), reader_port, &config, &[]);
    let selector = "{job=\"node\"}";
    let truth = of_prometheus(port, selector, from, to).unwrap();
    let read = wait("an answer by remote read", || of_prometheus(reader_port, selector, from, to));
    assert!(truth.len() > 100);
    assert_eq!(difference(&truth, &read), None);
}

/// Names that are no identifiers, too; with their times, and with no other `instance` than their own.
#[test]
fn prometheus_federates_from_us() {
    let (ours, theirs) = (folder(), folder());
    let server = Server::start(ours.path(), &[]);
    let port = free_port();
    let target = server.url.strip_prefix("http://").unwrap();
    let config = format!(
        "scrape_configs:\n\
         - job_name: waterclock\n  \
           scrape_interval: 1s\n  \
           honor_labels: true\n  \
           metrics_path: /federate\n  \
           params: {{'match[]': ['{{__name__=~\".+\"}}']}}\n  \
           static_configs: [{{targets: ['{target}']}}]\n"
    );
    let _prometheus = start_prometheus(theirs.path(), port, &config, &[]);
    let time = now_ms(port) - 2_000;
    let lines = format!(
        "room\\ 1,host.name=h,job=j temp=21.5 {time}\nup,instance=x:1 value=-1e300 {time}\n",
        time = time * 1_000_000
    );
    assert_eq!(server.post("/write", lines.as_bytes()).status, 204);
    let got = wait("what is federated", || {
        let found = of_prometheus(port, "{__name__=~\"room.*|up_value\"}", time - 1_000, time + 1_000)?;
        (found.len() == 2).then_some(found)
    });
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    };
    let expected = Samples::from([
        (
            labels(&[("__name__", "room 1_temp"), ("host.name", "h"), ("job", "j")]),
            BTreeMap::from([(time, 21.5f64.to_bits())]),
        ),
        (
            labels(&[("__name__", "up_value"), ("instance", "x:1"), ("job", "waterclock")]),
            BTreeMap::from([(time, (-1e300f64).to_bits())]),
        ),
    ]);
    assert_eq!(got, expected);
}
