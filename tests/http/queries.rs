//! Queries that run: listed, ended by their client, by anybody, by time, and made to wait.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::Value as Json;

use crate::support::server::{Server, folder};

/// A server with so many points that [`endless`] has no end within a test.
fn busy(folder: &std::path::Path, flags: &[&str]) -> Server {
    let server = Server::start(folder, flags);
    let lines: String = (0..50_000).map(|i| format!("m,host=h{} v={i}i {i}\n", i % 10)).collect();
    assert_eq!(server.post("/write", lines.as_bytes()).status, 204);
    server
}

/// Ends only if something ends it: no default limit of time, some hours of work.
const NO_LIMIT: [&str; 2] = ["--set", "query_time_max=1d"];

fn endless() -> String {
    "m | every 1us sum(v) by host;\n".repeat(50_000)
}

/// Asks without waiting for an answer.
fn ask(server: &Server, path: &str, statement: &str) -> TcpStream {
    let mut socket = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        statement.len()
    );
    socket.write_all(format!("{head}{statement}").as_bytes()).unwrap();
    socket
}

fn listed(server: &Server) -> Vec<Json> {
    server.get("/api/queries").json()["queries"].as_array().unwrap().clone()
}

/// Asks for the list until it is as wanted.
#[expect(clippy::disallowed_methods, reason = "the real server has the real clock")]
fn wait_for(server: &Server, what: &str, wanted: impl Fn(&[Json]) -> bool) -> Vec<Json> {
    for _ in 0..6_000 {
        let queries = listed(server);
        if wanted(&queries) {
            return queries;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}: {:?}", listed(server));
}

fn has_read(queries: &[Json]) -> bool {
    queries.len() == 1 && queries[0]["rows_read"].as_u64() > Some(0)
}

#[test]
fn a_query_ends_when_its_client_leaves() {
    let folder = folder();
    let server = busy(folder.path(), &NO_LIMIT);
    let client = ask(&server, "/api/wql", &endless());
    let running = wait_for(&server, "the query is listed while it runs", has_read);
    assert_eq!(running[0]["state"], "running");
    assert_eq!(running[0]["database"], "default");
    assert_eq!(running[0]["client"], client.local_addr().unwrap().to_string());
    let statement = running[0]["statement"].as_str().unwrap();
    assert!(statement.starts_with("m | every 1us") && statement.len() <= 4 << 10, "{statement}");
    assert!(
        running[0]["since"].as_str().unwrap().ends_with('Z') && running[0]["elapsed_ms"].as_f64() > Some(0.0)
    );
    drop(client);
    wait_for(&server, "the query goes with its client", <[Json]>::is_empty);
    let cancelled = "waterclock_queries_total{outcome=\"cancelled\"} 1";
    assert!(server.get("/metrics").text().contains(cancelled));
}

#[test]
fn a_killed_query_tells_its_client() {
    let folder = folder();
    let server = busy(folder.path(), &NO_LIMIT);
    let mut client = ask(&server, "/api/wql", &endless());
    let id = wait_for(&server, "the query runs", has_read)[0]["id"].clone();
    let waterclock = |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waterclock"));
        let output = command.arg("queries").args(flags).args(["--url", &server.url]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(waterclock(&[]).contains("m | every 1us sum(v) by host"));
    assert_eq!(waterclock(&["--kill", &id.to_string()]), format!("killed {id}\n"));
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 409 ") && answer.contains(r#""code":"query_killed""#), "{answer}");
    wait_for(&server, "the query is gone", <[Json]>::is_empty);
    assert_eq!(server.send("DELETE", &format!("/api/queries/{id}"), &[], None).status, 404);
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("waterclock_queries_total{outcome=\"killed\"} 1"), "{metrics}");
    assert!(metrics.contains("waterclock_queries_running 0"), "{metrics}");
}

#[test]
fn an_answer_that_is_killed_does_not_look_whole() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    // More than the buffers of a socket take.
    let lines: String = (0..400_000).map(|i| format!("m v={i}i {i}\n")).collect();
    assert_eq!(server.post("/write", lines.as_bytes()).status, 204);
    let mut client = ask(&server, "/api/wql", "m");
    client.read_exact(&mut [0]).unwrap();
    let answering = wait_for(&server, "it is listed while it is sent", |queries| queries.len() == 1);
    assert_eq!(answering[0]["state"], "answering");
    let path = format!("/api/queries/{}", answering[0]["id"]);
    assert_eq!(server.send("DELETE", &path, &[], None).status, 200);
    let mut rest = Vec::new();
    // Whether the connection is reset or only closed depends on what was on the way.
    let _ = client.read_to_end(&mut rest);
    assert!(!rest.ends_with(b"0\r\n\r\n"), "the last chunk has come");
    wait_for(&server, "the query is gone", <[Json]>::is_empty);
}

#[test]
fn an_answer_that_breaks_off_says_why_where_it_can() {
    let folder = folder();
    let server = Server::start(folder.path(), &["--set", "query_memory_bytes_max=4MiB"]);
    let lines: String = (0..400_000).map(|i| format!("m v={i}i {i}\n")).collect();
    assert_eq!(server.post("/write", lines.as_bytes()).status, 204);
    for format in ["ndjson", "json", "csv", "arrow", "parquet"] {
        let mut client = ask(&server, &format!("/api/wql?format={format}"), "m");
        client.read_exact(&mut [0]).unwrap();
        let answering = wait_for(&server, "it is listed while it is sent", |queries| queries.len() == 1);
        let path = format!("/api/queries/{}", answering[0]["id"]);
        assert_eq!(server.send("DELETE", &path, &[], None).status, 200);
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest);
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{format}: the last chunk has come");
        let end = String::from_utf8_lossy(&rest[rest.len().saturating_sub(1_000)..]).into_owned();
        let says_why = end.contains(r#"{"code":"query_killed","message":"the query was killed"#);
        assert_eq!(says_why, format.ends_with("json"), "{format}: {end}");
        wait_for(&server, "the query is gone", <[Json]>::is_empty);
    }
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("waterclock_queries_total{outcome=\"killed\"} 5"), "{metrics}");
}

#[test]
fn a_request_may_set_itself_a_time() {
    let folder = folder();
    let server = busy(folder.path(), &NO_LIMIT);
    let reply = server.post("/api/wql?timeout=100ms", endless().as_bytes());
    let error = reply.json()["error"].clone();
    assert_eq!((reply.status, error["code"].as_str()), (422, Some("query_too_slow")));
    assert!(
        error["message"].as_str().unwrap().contains("100ms, its limit (the parameter timeout)"),
        "{error}"
    );
}

#[test]
fn a_query_waits_for_its_place() {
    let folder = folder();
    let flags =
        ["--set", "query_time_max=1d", "--set", "queries_running_max=1", "--set", "queries_wait_max=1h"];
    let server = busy(folder.path(), &flags);
    let first = ask(&server, "/api/wql", &endless());
    wait_for(&server, "the first runs", has_read);
    let mut second = ask(&server, "/api/wql", "show tables");
    let both = wait_for(&server, "the second waits", |queries| queries.len() == 2);
    assert_eq!((both[0]["state"].as_str(), both[1]["state"].as_str()), (Some("running"), Some("waiting")));
    drop(first);
    let mut answer = String::new();
    second.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    wait_for(&server, "both are gone", <[Json]>::is_empty);
}
