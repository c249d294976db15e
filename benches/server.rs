//! The real binary as a benchmark sees it from outside: its doors, its CPU time, its memory, its end.
//!
//! Invariant: a server ends with its benchmark, killed by its own id.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::support::wall;

pub struct Server {
    child: Child,
    url: String,
    agent: ureq::Agent,
}

impl Server {
    pub fn start(folder: &Path) -> Server {
        Server::start_as("/health", |address| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_waterclock"));
            command.args(["serve", "--listen", address, "--data-dir"]).arg(folder);
            command
        })
    }

    /// Some server that is told its address; `ready` answers once it is.
    pub fn start_as(ready: &str, command: impl FnOnce(&str) -> Command) -> Server {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let address = format!("127.0.0.1:{port}");
        let mut command = command(&address);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the server starts");
        let server =
            Server { child, url: format!("http://{address}"), agent: ureq::Agent::new_with_defaults() };
        for _ in 0..START_TRIES {
            if server.agent.get(format!("{}{ready}", server.url)).call().is_ok() {
                return server;
            }
            wait_a_little();
        }
        panic!("the server does not answer");
    }

    /// Starts and asks; the milliseconds from the start of the process to the whole answer.
    pub fn start_and_ask(folder: &Path, question: &str) -> (Server, String, f64) {
        let started = wall();
        let server = Server::start(folder);
        let answer = server.post("/api/wql", question);
        (server, answer, started.elapsed().as_secs_f64() * 1e3)
    }

    pub fn post(&self, path: &str, body: &str) -> String {
        String::from_utf8(self.post_for_bytes(path, body)).expect("the answer is text")
    }

    pub fn post_for_bytes(&self, path: &str, body: &str) -> Vec<u8> {
        let answer =
            self.agent.post(format!("{}{path}", self.url)).send(body).expect("the server answers 2xx");
        let mut bytes = Vec::new();
        answer.into_body().into_reader().read_to_end(&mut bytes).expect("a whole answer");
        bytes
    }

    /// Reads an answer as one does who takes it piece by piece; how many bytes it had.
    pub fn post_and_read(&self, path: &str, body: &str, buffer: &mut [u8]) -> u64 {
        let answer =
            self.agent.post(format!("{}{path}", self.url)).send(body).expect("the server answers 2xx");
        let mut reader = answer.into_body().into_reader();
        let mut bytes = 0;
        loop {
            match reader.read(buffer).expect("a whole answer") {
                0 => return bytes,
                read => bytes += read as u64,
            }
        }
    }

    pub fn post_bytes(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut request = self.agent.post(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send(body).expect("the server answers 2xx");
    }

    pub fn get(&self, path: &str) -> String {
        let mut answer =
            self.agent.get(format!("{}{path}", self.url)).call().expect("the server answers 2xx");
        answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string().expect("the answer is text")
    }

    pub fn block_bytes(&self) -> u64 {
        let text = self.get("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix("waterclock_block_bytes "));
        line.and_then(|value| value.parse::<f64>().ok()).expect("the metric is there") as u64
    }

    pub fn cpu_nanos(&self) -> u64 {
        // Fields 14 and 15 count hundredths of a second in user and kernel mode.
        let stat = self.proc("stat");
        let after_name = stat.rsplit_once(") ").expect("the form of /proc/PID/stat").1.to_string();
        let field = |at: usize| after_name.split(' ').nth(at).and_then(|text| text.parse::<u64>().ok());
        (field(11).expect("utime") + field(12).expect("stime")) * 10_000_000
    }

    /// Since the start, or since the last [`Server::forget_peak`].
    pub fn peak_memory_mib(&self) -> u64 {
        self.memory_mib("VmHWM:")
    }

    pub fn memory_now_mib(&self) -> u64 {
        self.memory_mib("VmRSS:")
    }

    /// So that each phase has a peak of its own.
    #[expect(clippy::disallowed_methods, reason = "a file of the system, not of a database")]
    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").expect("the server runs");
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("the server runs");
        self.child.wait().expect("the server has ended");
    }

    /// SIGTERM; the milliseconds until the process has ended.
    pub fn stop(mut self) -> f64 {
        let started = wall();
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("the server runs");
        let status = self.child.wait().expect("the server has ended");
        assert!(status.success(), "{status}");
        started.elapsed().as_secs_f64() * 1e3
    }

    fn memory_mib(&self, name: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a size");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1_024
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(path).expect("the server runs")
    }
}

const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Of a few milliseconds each: a start that reads back a large log takes some seconds.
const START_TRIES: usize = 30_000;

#[expect(clippy::disallowed_methods, reason = "a benchmark waits for another process")]
pub fn wait_a_little() {
    std::thread::sleep(std::time::Duration::from_millis(2));
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
