//! The real server over its socket: each write is answered after its fsync, and all CPU time of the server counts.
//!
//! The load is made beforehand per request and sent by two connections, so that the server has something to put into one
//! group commit. Flush and compaction are asked for at the end, so their cost is in the table, too.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::support::{Report, Size, wall};
use super::tsbs::Hosts;

const CONNECTIONS: usize = 2;

/// TSBS' own batch: about this many lines a request.
const LINES_PER_REQUEST: usize = 10_000;

pub fn run(size: Size) -> Vec<Report> {
    let hosts = size.pick(20, 4_000);
    let ticks = size.pick(30, 1_080);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(folder.path());
    let mut reports = Vec::new();
    let values = (hosts * ticks * 10) as u64;

    let data = Mutex::new((Hosts::new(hosts), 0usize));
    let send_nanos = AtomicU64::new(0);
    let (cpu, started) = (server.cpu_nanos(), wall());
    std::thread::scope(|threads| {
        for _ in 0..CONNECTIONS {
            threads.spawn(|| {
                while let Some(body) = next_body(&data, ticks) {
                    let sent = wall();
                    server.post("/write?db=default", &body);
                    send_nanos.fetch_add(sent.elapsed().as_nanos() as u64, Ordering::Relaxed);
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
    let sum = server.post("/api/wql", "cpu | sum(usage_user) as s by ()");
    let expected = data.into_inner().expect("no thread panicked").0.user_sum;
    assert!(sum.contains(&format!("[{expected}]")), "fast and wrong is wrong: {sum} is not {expected}");
    reports
}

fn next_body(data: &Mutex<(Hosts, usize)>, ticks: usize) -> Option<String> {
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

struct Server {
    child: Child,
    url: String,
    agent: ureq::Agent,
}

impl Server {
    fn start(folder: &Path) -> Server {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let child = Command::new(env!("CARGO_BIN_EXE_waterclock"))
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
            .arg(folder)
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let server = Server {
            child,
            url: format!("http://127.0.0.1:{port}"),
            agent: ureq::Agent::new_with_defaults(),
        };
        for _ in 0..1_000 {
            if server.agent.get(format!("{}/health", server.url)).call().is_ok() {
                return server;
            }
            std::thread::yield_now();
            wait_a_little();
        }
        panic!("the server does not answer");
    }

    fn post(&self, path: &str, body: &str) -> String {
        let answer =
            self.agent.post(format!("{}{path}", self.url)).send(body).expect("the server answers 2xx");
        let mut text = String::new();
        answer.into_body().into_reader().read_to_string(&mut text).expect("the answer is text");
        text
    }

    fn block_bytes(&self) -> u64 {
        let mut answer = self.agent.get(format!("{}/metrics", self.url)).call().expect("metrics");
        let text = answer.body_mut().read_to_string().expect("metrics are text");
        let line = text.lines().find_map(|line| line.strip_prefix("waterclock_block_bytes "));
        line.and_then(|value| value.parse::<f64>().ok()).expect("the metric is there") as u64
    }

    fn cpu_nanos(&self) -> u64 {
        // Fields 14 and 15 count hundredths of a second in user and kernel mode.
        let stat = self.proc("stat");
        let after_name = stat.rsplit_once(") ").expect("the form of /proc/PID/stat").1.to_string();
        let field = |at: usize| after_name.split(' ').nth(at).and_then(|text| text.parse::<u64>().ok());
        (field(11).expect("utime") + field(12).expect("stime")) * 10_000_000
    }

    fn peak_memory_mib(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1_024
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(path).expect("the server runs")
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark waits for another process")]
fn wait_a_little() {
    std::thread::sleep(std::time::Duration::from_millis(10));
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
