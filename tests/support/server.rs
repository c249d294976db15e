//! The real binary, on a free port and a folder of its own, and a client that shows what it answers.
//!
//! Invariant: a server ends with its test, killed by its own id.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Small segments, a small head, and the background's own flushes, merges, removals and refreshes as often as they come.
pub const RESTLESS: [&str; 16] = [
    "--set",
    "wal_segment_bytes_max=4KiB",
    "--set",
    "head_bytes_max=1MiB",
    "--set",
    "flush_after=1ms",
    "--set",
    "flush_small_after=1ms",
    "--set",
    "compact_after=1ms",
    "--set",
    "delete_after=1ms",
    "--set",
    "retention_after=1s",
    "--set",
    "refresh_every=10ms",
];

use rustix::process::{Pid, Signal};
use serde_json::Value as Json;
use tempfile::TempDir;
use ureq::http::Request;

pub struct Server {
    pub url: String,
    child: Child,
    /// Behind a lock, so that threads may share the server.
    log: Mutex<Receiver<String>>,
    agent: ureq::Agent,
}

pub struct Reply {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub bytes: Vec<u8>,
}

/// Long enough for a loaded machine, short enough that a hanging server fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

impl Server {
    pub fn start(folder: &Path, flags: &[&str]) -> Server {
        Server::start_in(&[], folder, flags)
    }

    /// With variables of the environment.
    pub fn start_in(environment: &[(&str, &str)], folder: &Path, flags: &[&str]) -> Server {
        let mut command = command(folder, "127.0.0.1:0");
        command.envs(environment.iter().copied());
        Server::started(command, flags)
    }

    /// At an address that others know.
    pub fn start_at(listen: &str, folder: &Path, flags: &[&str]) -> Server {
        Server::started(command(folder, listen), flags)
    }

    fn started(mut command: Command, flags: &[&str]) -> Server {
        let mut child = command.args(flags).spawn().expect("the binary starts");
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let (send, log) = channel();
        // Reads to the end, so that the server never waits for room in the pipe.
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).for_each(|line| drop(send.send(line)))
        });
        let mut seen = Vec::new();
        let address = loop {
            let Ok(line) = log.recv_timeout(PATIENCE) else {
                drop(child.kill());
                panic!("the server does not start:\n{}", seen.join("\n"));
            };
            let entry: Json = serde_json::from_str(&line).unwrap_or_default();
            if let Some(address) = entry["address"].as_str() {
                break address.to_string();
            }
            seen.push(line);
        };
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
        let agent = ureq::Agent::new_with_config(config.build());
        Server { url: format!("http://{address}"), child, log: Mutex::new(log), agent }
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Reply {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answered = match body {
            Some(body) => self.agent.run(request.body(body).expect("a sound request")),
            None => self.agent.run(request.body(()).expect("a sound request")),
        };
        let mut response = answered.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let bytes = response.body_mut().with_config().limit(1 << 30).read_to_vec().expect("a whole answer");
        Reply { status: response.status().as_u16(), headers: response.headers().clone(), bytes }
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], None)
    }

    pub fn post(&self, path: &str, body: &[u8]) -> Reply {
        self.send("POST", path, &[], Some(body))
    }

    /// Asks for rows of the default database.
    pub fn rows(&self, statement: &str) -> Json {
        let reply = self.post("/api/wql", statement.as_bytes());
        assert_eq!(reply.status, 200, "{statement}: {}", reply.text());
        reply.json()["rows"].clone()
    }

    /// A way in for those who do not mind that the server dies.
    pub fn door(&self) -> Door {
        Door { url: self.url.clone(), agent: self.agent.clone() }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("the server runs");
        self.child.wait().expect("the server has ended");
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).expect("the server runs");
    }

    /// What the process has of its own in memory: without the program's file, of which a debug build has a lot.
    pub fn memory_bytes(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux says so");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kibibytes << 10
    }

    /// SIGTERM, and how the process ended.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// How the process ended, which has been asked to.
    pub fn wait(&mut self) -> ExitStatus {
        // The log ends when the process does.
        let log = self.log.get_mut().expect("no thread has panicked with it");
        while log.recv_timeout(PATIENCE).is_ok() {}
        self.child.wait().expect("the server has ended")
    }
}

pub struct Door {
    url: String,
    agent: ureq::Agent,
}

impl Door {
    /// None if there was no answer, or only a part of one.
    pub fn try_send(&self, method: &str, path: &str, body: &[u8]) -> Option<Reply> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        let mut response = self.agent.run(request.body(body).expect("a sound request")).ok()?;
        let bytes = response.body_mut().read_to_vec().ok()?;
        Some(Reply { status: response.status().as_u16(), headers: response.headers().clone(), bytes })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap_or("?"))
    }
}

/// A start that is expected to fail: its exit code and what it says.
pub fn refused(folder: &Path, listen: &str, flags: &[&str]) -> (Option<i32>, String) {
    refused_in(&[], folder, listen, flags)
}

/// With variables of the environment.
pub fn refused_in(
    environment: &[(&str, &str)],
    folder: &Path,
    listen: &str,
    flags: &[&str],
) -> (Option<i32>, String) {
    let mut command = command(folder, listen);
    let output = command.args(flags).envs(environment.iter().copied()).output().expect("the binary starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// `waterclock check --rollups` of a folder that no server uses finds nothing wrong.
pub fn check_offline(folder: &Path, story: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waterclock"));
    let output = command.args(["check", "--rollups"]).arg(folder).output().expect("the binary starts");
    let says = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{story}: {}{}", says(&output.stdout), says(&output.stderr));
}

pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn command(folder: &Path, listen: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waterclock"));
    command.args(["serve", "--log", "json", "--listen", listen, "--data-dir"]).arg(folder);
    let of_tests = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WATERCLOCK_"));
    for (name, _) in of_tests {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}
