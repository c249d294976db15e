//! A real S3-compatible server (moto, from `target/venv`) and a proxy before it that goes wrong on request.
//!
//! Invariant: both listen on 127.0.0.1 and end with their test, moto killed by its own id.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;

pub const BUCKET: &str = "waterclock-test";

pub struct Store {
    moto: Child,
    state: Arc<Mutex<State>>,
    /// Of the proxy.
    pub url: String,
    moto_url: String,
}

#[derive(Default)]
struct State {
    /// No connection lives.
    away: bool,
    faults: Vec<Fault>,
    requests: Vec<String>,
}

/// What happens to the next requests whose first line contains all of the texts.
#[derive(Clone, Debug)]
pub struct Fault {
    pub method: &'static str,
    pub path: &'static str,
    pub times: usize,
    pub kind: FaultKind,
}

#[derive(Clone, Copy, Debug)]
pub enum FaultKind {
    /// Answered 503, without effect.
    Busy,
    /// Answered 403, without effect and for good: such a request is not repeated.
    Denied,
    /// The connection ends in the middle of the request's body, without effect.
    CutRequest,
    /// The request is carried out, and the connection ends before the answer.
    LoseAnswer,
}

impl Store {
    /// With `open_requests`, later requests need a key that the store knows.
    pub fn start(open_requests: Option<usize>) -> Store {
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
        assert!(python.exists(), "{} is missing: `make test` installs it", python.display());
        let mut command = Command::new(python);
        command.args(["-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]);
        if let Some(requests) = open_requests {
            command.env("INITIAL_NO_AUTH_ACTION_COUNT", requests.to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut moto = command.spawn().expect("moto starts");
        let mut lines = BufReader::new(moto.stderr.take().expect("stderr is piped")).lines();
        let mut said = String::new();
        let moto_url = loop {
            let line = lines.next().and_then(Result::ok);
            let Some(line) = line else { panic!("moto does not start:\n{said}") };
            if let Some((_, address)) = line.split_once("Running on ") {
                break address.trim().to_string();
            }
            said += &line;
        };
        // Reads to the end, so that moto never waits for room in the pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let made = ureq::put(format!("{moto_url}/{BUCKET}")).send_empty();
        made.expect("moto makes a bucket");

        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let store = Store { moto, state: Arc::clone(&state), url, moto_url: moto_url.clone() };
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (state, target) =
                    (Arc::clone(&state), moto_url.trim_start_matches("http://").to_string());
                std::thread::spawn(move || drop(pass(client, &target, &state)));
            }
        });
        store
    }

    /// What a server of the store is started with.
    pub fn environment(&self) -> [(&str, &str); 4] {
        [
            ("AWS_ENDPOINT_URL", &self.url),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ]
    }

    pub fn fail(&self, method: &'static str, path: &'static str, times: usize, kind: FaultKind) {
        self.state.lock().faults.push(Fault { method, path, times, kind });
    }

    /// From now on connections end before anything is read, or everything is as before.
    pub fn set_away(&self, away: bool) {
        self.state.lock().away = away;
    }

    /// Ends the oldest fault, however often it was still to happen.
    pub fn end_fault(&self) {
        self.state.lock().faults.remove(0);
    }

    /// Whether all faults have happened.
    pub fn has_failed(&self) -> bool {
        self.state.lock().faults.iter().all(|fault| fault.times == 0)
    }

    /// First lines of the requests since the last call.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().requests)
    }

    /// Keys in the bucket, asked behind everybody's back.
    pub fn keys(&self) -> Vec<String> {
        let listed = ureq::get(format!("{}/{BUCKET}?list-type=2", self.moto_url)).call();
        let text = listed.expect("moto lists").body_mut().read_to_string().expect("a whole answer");
        let keys = text.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
        keys.map(|(key, _)| key.to_string()).collect()
    }

    /// Uploads in parts that were begun and neither ended nor taken back.
    pub fn open_uploads(&self) -> usize {
        let listed = ureq::get(format!("{}/{BUCKET}?uploads", self.moto_url)).call();
        let text = listed.expect("moto lists").body_mut().read_to_string().expect("a whole answer");
        text.matches("<UploadId>").count()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.moto.kill());
        drop(self.moto.wait());
    }
}

/// One request of a connection, which ends with it.
fn pass(mut client: TcpStream, target: &str, state: &Mutex<State>) -> std::io::Result<()> {
    if state.lock().away {
        return client.shutdown(Shutdown::Both);
    }
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let first = head.lines().next().unwrap_or_default().to_string();
    let fault = {
        let mut state = state.lock();
        state.requests.push(first.clone());
        let matches = |fault: &&mut Fault| {
            fault.times > 0 && first.starts_with(fault.method) && first.contains(fault.path)
        };
        state.faults.iter_mut().find(matches).map(|fault| {
            fault.times -= 1;
            fault.kind
        })
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    if matches!(fault, Some(FaultKind::CutRequest)) {
        let half = body.len() / 2;
        reader.read_exact(&mut body[..half])?;
        return client.shutdown(Shutdown::Both);
    }
    reader.read_exact(&mut body)?;
    let refusal = match fault {
        Some(FaultKind::Busy) => Some(("503 Slow Down", "SlowDown")),
        Some(FaultKind::Denied) => Some(("403 Forbidden", "AccessDenied")),
        _ => None,
    };
    if let Some((status, code)) = refusal {
        let text = format!("<Error><Code>{code}</Code><Message>As the test wants it.</Message></Error>");
        return write!(
            client,
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
    }
    let mut upstream = TcpStream::connect(target)?;
    let kept = head.lines().filter(|line| !line.to_lowercase().starts_with("connection:"));
    let head: String = kept.take_while(|line| !line.is_empty()).map(|line| format!("{line}\r\n")).collect();
    upstream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
    upstream.write_all(&body)?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    if matches!(fault, Some(FaultKind::LoseAnswer)) {
        return client.shutdown(Shutdown::Both);
    }
    client.write_all(&answer)?;
    client.shutdown(Shutdown::Write)
}
