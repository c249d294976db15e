//! The server as the command line sees it: a URL, requests, answers, and errors as sentences.
//!
//! Invariant: everything goes through the public HTTP door, also where the server is in this process; whatever goes
//! wrong arrives here as an [`Error`] whose text says what to do.
//! Not here: what answers look like on a screen (`answer`, `table`).

use std::io::ErrorKind;
use std::io::Read;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use crate::cli::answer::Answer;
use crate::error::{Error, Kind, Rejection, Result};

/// Which server: a flag of every subcommand that asks one.
#[derive(clap::Args, Debug)]
pub struct ServerArgs {
    /// Address of the server
    #[arg(long, env = "WATERCLOCK_URL", default_value = DEFAULT_URL, value_name = "URL")]
    pub url: String,
}

/// Which server and which of its databases.
#[derive(clap::Args, Debug)]
pub struct DatabaseArgs {
    #[command(flatten)]
    pub server: ServerArgs,

    /// Database
    #[arg(long, default_value = DEFAULT_DATABASE, value_name = "NAME")]
    pub db: String,
}

pub const DEFAULT_URL: &str = "http://127.0.0.1:8086";
pub const DEFAULT_DATABASE: &str = "default";

/// A request body that is not there after this is a server that hangs; its own limit of a query is far below.
const ANSWER_WAIT: Duration = Duration::from_secs(600);
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// What the server says to points.
pub enum WriteReply {
    Taken,
    /// What it says of those; the others were taken.
    Refused(Vec<u8>),
    /// Not now, and why not.
    Later {
        after: Option<Duration>,
        why: String,
    },
}

#[derive(Clone)]
pub struct Client {
    agent: Agent,
    /// Without a slash at its end.
    url: String,
}

/// Parameters of a request, in order; empty ones do not belong here.
pub type Params<'a> = Vec<(&'a str, &'a str)>;

impl DatabaseArgs {
    pub fn client(&self) -> Result<Client> {
        Client::new(&self.server.url)
    }

    pub fn params(&self) -> Params<'_> {
        vec![("db", &self.db)]
    }
}

impl Client {
    pub fn new(url: &str) -> Result<Client> {
        Client::with_patience(url, ANSWER_WAIT)
    }

    /// For answers that are worth nothing after this time.
    pub fn with_patience(url: &str, answer_wait: Duration) -> Result<Client> {
        let config = Agent::config_builder()
            // An error's body says more than its status.
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_WAIT))
            .timeout_global(Some(answer_wait))
            .user_agent(concat!("waterclock/", env!("CARGO_PKG_VERSION")))
            // The server is a neighbour; a proxy of the environment is for the web.
            .proxy(None);
        Ok(Client { agent: config.build().new_agent(), url: base_url(url)? })
    }

    /// Ends what runs, which fails, and every later request.
    pub fn close(&self) {
        self.agent.clone().shutdown();
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs a statement; the answer's body is read by the caller, in the asked format.
    pub fn wql(&self, statement: &str, accept: &str, params: &Params<'_>) -> Result<Response<Body>> {
        let request = self.agent.post(format!("{}/api/wql", self.url)).header("accept", accept);
        let request = request.content_type("text/plain; charset=utf-8");
        let response = request.query_pairs(params.iter().copied()).send(statement);
        self.checked(response)
    }

    /// Events of a statement that goes on, after the one with the id.
    pub fn live(&self, statement: &str, params: &Params<'_>, seen: Option<&str>) -> Result<Response<Body>> {
        let request = self.agent.get(format!("{}/api/live", self.url)).config().timeout_global(None).build();
        let request = request.query("q", statement).query_pairs(params.iter().copied());
        let request = match seen {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        self.checked(request.call())
    }

    pub fn answer(&self, statement: &str, params: &Params<'_>) -> Result<Answer> {
        self.json(self.wql(statement, "application/json", params)?)
    }

    pub fn get<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T> {
        self.json(self.checked(self.agent.get(format!("{}{path}", self.url)).call())?)
    }

    pub fn delete<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T> {
        self.json(self.checked(self.agent.delete(format!("{}{path}", self.url)).call())?)
    }

    /// A request without a body, answered with JSON.
    pub fn post<T: for<'de> Deserialize<'de>>(&self, path: &str, params: &Params<'_>) -> Result<T> {
        let request = self.agent.post(format!("{}{path}", self.url));
        let response = request.query_pairs(params.iter().copied()).send_empty();
        self.json(self.checked(response)?)
    }

    /// A request without a body, answered line by line for as long as the work takes.
    pub fn post_and_listen(&self, path: &str, params: &Params<'_>) -> Result<Response<Body>> {
        let request = self.agent.post(format!("{}{path}", self.url)).config().timeout_global(None).build();
        self.checked(request.query_pairs(params.iter().copied()).send_empty())
    }

    /// Line protocol as the door of InfluxDB 3 takes it, which names each refused line.
    pub fn write_lines(&self, lines: &[u8], params: &Params<'_>) -> Result<WriteReply> {
        let request = self.agent.post(format!("{}/api/v3/write_lp", self.url));
        self.written(request.query_pairs(params.iter().copied()).send(lines))
    }

    /// A message of remote write 1.0, compressed.
    pub fn write_samples(&self, message: &[u8], params: &Params<'_>) -> Result<WriteReply> {
        let request = self.agent.post(format!("{}/api/v1/write", self.url));
        let request = request.content_type("application/x-protobuf").header("content-encoding", "snappy");
        self.written(request.query_pairs(params.iter().copied()).send(message))
    }

    fn written(&self, response: std::result::Result<Response<Body>, ureq::Error>) -> Result<WriteReply> {
        let response = match response {
            Ok(response) => response,
            // It may be starting again.
            Err(error) => {
                return Ok(WriteReply::Later { after: None, why: self.unreachable(&error).to_string() });
            }
        };
        let status = response.status();
        let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        if status.is_success() {
            return Ok(WriteReply::Taken);
        }
        let body = self.bytes(response)?;
        match status.as_u16() {
            400 => Ok(WriteReply::Refused(body)),
            429 | 503 => {
                let why = refusal(status, &body, &self.url).to_string();
                Ok(WriteReply::Later { after: after.map(Duration::from_secs), why })
            }
            _ => Err(refusal(status, &body, &self.url)),
        }
    }

    /// Line protocol with times in seconds, to the database `default`.
    pub fn write_seconds(&self, lines: &str) -> Result<()> {
        let request = self.agent.post(format!("{}/write", self.url));
        let response = request.query("db", DEFAULT_DATABASE).query("precision", "s").send(lines);
        self.checked(response).map(drop)
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, response: Response<Body>) -> Result<T> {
        let bytes = self.bytes(response)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let why = format!("{} answered something that is no Waterclock answer: {error}", self.url);
            Error::rejected(Kind::Unavailable, "bad_answer", why)
        })
    }

    fn bytes(&self, response: Response<Body>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = response.into_body().into_reader().read_to_end(&mut bytes);
        read.map_err(|source| self.broken_off(&bytes, &source))?;
        Ok(bytes)
    }

    /// Why an answer ended early: the forms that can say it do so at their end.
    pub fn broken_off(&self, last: &[u8], source: &std::io::Error) -> Error {
        let start = memchr::memmem::rfind(last, b"\"error\":{").unwrap_or(last.len());
        let end = memchr::memrchr(b'}', last).map_or(start, |end| end.max(start));
        let object = [b"{", last.get(start..end).unwrap_or_default(), b"}"].concat();
        let said = serde_json::from_slice::<ErrorBody>(&object).ok().map(|body| body.error.message);
        let why = match said {
            Some(message) => format!("the answer ended before its end: {message}"),
            None => format!("{} broke off its answer: {source}; its log says why", self.url),
        };
        Error::rejected(Kind::Unavailable, "broken_answer", why)
    }

    fn checked(&self, response: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>> {
        let response = response.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.bytes(response)?;
        Err(refusal(status, &body, &self.url))
    }

    fn unreachable(&self, error: &ureq::Error) -> Error {
        let (why, hint) = match error {
            ureq::Error::Io(source) if source.kind() == ErrorKind::ConnectionRefused => {
                (source.to_string(), "is it running? start it with: waterclock serve")
            }
            ureq::Error::Io(source) => {
                (source.to_string(), "is --url right, and does the server's log say anything?")
            }
            ureq::Error::HostNotFound => ("there is no such host".into(), "is --url right?"),
            other => (other.to_string(), "is --url right?"),
        };
        Error::Rejected(Box::new(Rejection {
            kind: Kind::Unavailable,
            code: "unreachable",
            why: format!("cannot reach {}: {why}", self.url),
            at: None,
            hint: Some(hint.into()),
            rendered: None,
        }))
    }
}

/// `host:port` is enough; a slash at the end does not matter.
fn base_url(text: &str) -> Result<String> {
    let (scheme, rest) = text.trim().split_once("://").unwrap_or(("http", text.trim()));
    let host = rest.trim_end_matches('/');
    if scheme == "http" && !host.is_empty() {
        return Ok(format!("http://{host}"));
    }
    Err(Error::invalid(
        "url",
        format!(
            "{text} is no http:// address; give one such as http://127.0.0.1:8086 (TLS is spoken by a proxy before the server)"
        ),
    ))
}

/// A path segment of any name.
pub fn path_segment(name: &str) -> String {
    let mut segment = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => segment.push(byte as char),
            _ => segment.push_str(&format!("%{byte:02X}")),
        }
    }
    segment
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorJson,
}

#[derive(Deserialize)]
struct ErrorJson {
    #[serde(default)]
    message: String,
    line: Option<usize>,
    column: Option<usize>,
    hint: Option<String>,
    /// The statement's line with a caret under the place, the message and the hint.
    rendered: Option<String>,
}

/// What the server says about a request it did not take.
fn refusal(status: StatusCode, body: &[u8], url: &str) -> Error {
    let kind = match status.as_u16() {
        404 => Kind::NotFound,
        409 => Kind::Conflict,
        413 => Kind::TooLarge,
        422 => Kind::OverLimit,
        429 | 500.. => Kind::Unavailable,
        _ => Kind::Invalid,
    };
    let mut rejection =
        Rejection { kind, code: "server", why: String::new(), at: None, hint: None, rendered: None };
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(ErrorBody { error }) => {
            rejection.why = error.message;
            rejection.at = error.line.zip(error.column);
            rejection.hint = error.hint;
            rejection.rendered = error.rendered;
        }
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            let first = text.lines().next().unwrap_or_default();
            rejection.why = format!("{url} answered {status} {first}").trim_end().to_string();
            rejection.hint = (status == StatusCode::NOT_FOUND).then(|| "is it a Waterclock server?".into());
        }
    }
    Error::Rejected(Box::new(rejection))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_forgiving() {
        assert_eq!(base_url("127.0.0.1:8086/").unwrap(), "http://127.0.0.1:8086");
        assert_eq!(base_url("http://db.example:80/sub/").unwrap(), "http://db.example:80/sub");
        assert!(base_url("https://db.example").unwrap_err().to_string().contains("no http:// address"));
        assert!(base_url("http://").is_err());
    }

    #[test]
    fn an_error_with_a_place_shows_it() {
        let body = br#"{"error":{"code":"syntax","message":"read `lst`","line":1,"column":7,"hint":null,
            "rendered":"cpu | lst 5m\n      ^ read `lst`"}}"#;
        let Error::Rejected(rejection) = refusal(StatusCode::BAD_REQUEST, body, "http://x") else { panic!() };
        assert_eq!(rejection.at, Some((1, 7)));
        assert_eq!(rejection.rendered.as_deref(), Some("cpu | lst 5m\n      ^ read `lst`"));
        let body = br#"{"error":{"code":"busy","message":"too many queries","hint":"try later"}}"#;
        let error = refusal(StatusCode::SERVICE_UNAVAILABLE, body, "http://x");
        assert_eq!(error.to_string(), "too many queries; try later");
        let error = refusal(StatusCode::NOT_FOUND, b"<html>", "http://x");
        assert_eq!(error.to_string(), "http://x answered 404 Not Found <html>; is it a Waterclock server?");
    }

    #[test]
    fn names_become_path_segments() {
        assert_eq!(path_segment("cpu_1m"), "cpu_1m");
        assert_eq!(path_segment("a b/ü"), "a%20b%2F%C3%BC");
    }
}
