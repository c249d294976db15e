//! The real binary over a bucket of a real S3-compatible server, which goes wrong, dies with its machine, and is shared.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::support::s3::{BUCKET, FaultKind, Store};
use crate::support::server::{Server, folder, refused_in};

const DATA: &str = "s3://waterclock-test/some/where";

/// More than a loaded machine needs for a look at the manifest.
const LOOKS_MAX: usize = 600;

fn serve(store: &Store, log: &Path, flags: &[&str]) -> Server {
    let log = log.display().to_string();
    let always = ["--wal-dir", &log, "--set", "follow_every=100ms"];
    Server::start_in(&store.environment(), Path::new(DATA), &[&always, flags].concat())
}

fn write(server: &Server, points: std::ops::Range<i64>) {
    let line =
        |n: i64| format!("cpu,host=h{} n={n}i {}\n", n % 3, 1_767_225_600_000_000_000 + n * 10_000_000_000);
    let body: String = points.map(line).collect();
    assert_eq!(server.post("/write?db=default", body.as_bytes()).status, 204);
}

fn work(server: &Server, door: &str) {
    let reply = server.post(door, b"");
    assert_eq!(reply.status, 200, "{door}: {}", reply.text());
}

fn sum(server: &Server) -> serde_json::Value {
    server.rows("cpu | every 10000d sum(n), count by ()")[0]
        .as_array()
        .map(|row| json!(row[1..]))
        .unwrap_or_default()
}

/// What [`sum`] answers when these points are there.
fn of(points: std::ops::Range<i64>) -> serde_json::Value {
    json!([points.clone().sum::<i64>(), points.count()])
}

#[expect(clippy::disallowed_methods, reason = "the clock is the system's")]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..LOOKS_MAX {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it never came to be that {what}");
}

#[test]
fn blocks_outlive_the_machine_and_the_log_outlives_the_process() {
    let store = Store::start(None);
    let (log, other) = (folder(), folder());
    let mut server = serve(&store, log.path(), &["--set", "remove_after=100ms"]);
    write(&server, 0..1_000);
    store.take_requests();
    work(&server, "/api/flush");
    let requests = store.take_requests();
    let puts = requests.iter().filter(|request| request.starts_with("PUT") && request.contains("/blocks/"));
    let manifests =
        requests.iter().filter(|request| request.starts_with("PUT") && request.contains("/manifest"));
    assert_eq!((puts.count(), manifests.count()), (1, 1), "{requests:#?}");
    assert_eq!(sum(&server), of(0..1_000));
    let gets = store.take_requests().iter().filter(|request| request.contains("/blocks/")).count();
    assert_eq!(gets, 1, "one request opens and reads a small block");
    assert_eq!(sum(&server), of(0..1_000));
    let gets = store.take_requests().iter().filter(|request| request.contains("/blocks/")).count();
    assert_eq!(gets, 0, "what was read is kept");

    write(&server, 1_000..1_500);
    server.kill();
    let mut server = serve(&store, log.path(), &["--set", "remove_after=100ms"]);
    assert_eq!(sum(&server), of(0..1_500), "the log of this machine has the rest");
    work(&server, "/api/flush");
    work(&server, "/api/compact?force=on");
    assert_eq!(sum(&server), of(0..1_500));
    let blocks = || store.keys().iter().filter(|key| key.contains("/blocks/")).count();
    until("the merged blocks are gone", || blocks() < 3);
    write(&server, 1_500..1_600);
    server.kill();

    let server = serve(&store, other.path(), &[]);
    assert_eq!(sum(&server), of(0..1_500), "of a lost machine, what was in blocks");
}

#[test]
fn a_second_writer_ends_the_first_for_good() {
    let store = Store::start(None);
    let (log, other) = (folder(), folder());
    let first = serve(&store, log.path(), &[]);
    write(&first, 0..100);
    work(&first, "/api/flush");
    write(&first, 100..110);
    let second = serve(&store, other.path(), &[]);
    assert_eq!(sum(&second), of(0..100));
    until("the first one has noticed", || first.get("/health").status == 503);
    let reply = first.post("/api/v3/write_lp?db=default", b"cpu n=1i");
    assert_eq!(reply.status, 503);
    assert!(reply.text().contains("has taken over"), "{}", reply.text());
    assert_eq!(first.post("/api/flush", b"").status, 503);
    assert_eq!(sum(&first), of(0..110), "reads go on");
    write(&second, 100..120);
    work(&second, "/api/flush");
    assert_eq!(sum(&second), of(0..120));
    assert!(first.stop().success());
    let flags = ["--wal-dir", &log.path().display().to_string()];
    let (code, text) = refused_in(&store.environment(), Path::new(DATA), "127.0.0.1:0", &flags);
    assert_eq!(code, Some(1));
    assert!(text.contains("may hold points that are nowhere else"), "{text}");
}

#[test]
fn a_follower_answers_from_the_newest_commit_and_changes_nothing() {
    let store = Store::start(None);
    let (log, none) = (folder(), folder());
    let writer = serve(&store, log.path(), &["--set", "remove_after=1s"]);
    write(&writer, 0..1_000);
    assert_eq!(
        writer.post("/api/wql", b"create rollup c as cpu | every 1h sum(n), count by host").status,
        200
    );
    work(&writer, "/api/flush");
    let follower = serve(&store, none.path(), &["--read-only"]);
    assert_eq!(sum(&follower), of(0..1_000));
    for step in 1..4 {
        write(&writer, step * 1_000..(step + 1) * 1_000);
        work(&writer, "/api/flush");
        work(&writer, "/api/compact?force=on");
        until("the follower has it", || sum(&follower) == of(0..(step + 1) * 1_000));
    }
    let blocks = || store.keys().iter().filter(|key| key.contains("/blocks/")).count();
    until("the merged blocks are gone", || blocks() <= 4);
    assert_eq!(sum(&follower), of(0..4_000));
    assert!(follower.get("/health").text().contains("ready for queries only"));
    for (door, body) in [
        ("/write?db=default", "cpu n=1i"),
        ("/api/wql", "delete from cpu"),
        ("/api/wql", "drop rollup c"),
        ("/api/flush", ""),
    ] {
        let reply = follower.post(door, body.as_bytes());
        assert_eq!(reply.status, 403, "{door} {body}: {}", reply.text());
        assert!(reply.text().contains("only reads"), "{}", reply.text());
    }
    assert!(std::fs::read_dir(none.path()).unwrap().next().is_none(), "a follower has no log");
}

#[test]
fn faults_of_the_store_lose_nothing() {
    let store = Store::start(None);
    let log = folder();
    let server = serve(&store, log.path(), &[]);
    let faults = [
        ("PUT", "/blocks/", 2, FaultKind::Busy),
        ("PUT", "/blocks/", 1, FaultKind::CutRequest),
        ("PUT", "/blocks/", 1, FaultKind::LoseAnswer),
        ("PUT", "/manifest", 1, FaultKind::CutRequest),
        ("PUT", "/manifest", 1, FaultKind::LoseAnswer),
        ("PUT", "/manifest", 2, FaultKind::Busy),
    ];
    let mut written = 0;
    for (method, path, times, kind) in faults {
        store.fail(method, path, times, kind);
        write(&server, written..written + 100);
        written += 100;
        until("the flush has passed", || server.post("/api/flush", b"").status == 200);
        assert!(store.has_failed(), "{kind:?} of {path} did not happen");
        assert_eq!(sum(&server), of(0..written), "{kind:?} of {path}");
    }
    for (path, kind) in [("/blocks/", FaultKind::Busy), ("/blocks/", FaultKind::LoseAnswer)] {
        let cold = folder();
        let follower = serve(&store, cold.path(), &["--read-only"]);
        store.fail("GET", path, 2, kind);
        assert_eq!(sum(&follower), of(0..written), "reading after {kind:?}");
        assert!(store.has_failed());
    }
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(store.open_uploads(), 0);
}

#[test]
fn what_stops_a_start_is_said() {
    let log = folder();
    let flags = ["--wal-dir", &log.path().display().to_string()];
    let store = Store::start(None);
    let start = |store: &Store, data: &str, flags: &[&str]| {
        refused_in(&store.environment(), Path::new(data), "127.0.0.1:0", flags)
    };
    let (code, text) = start(&store, "s3://no-such-bucket/x", &flags);
    assert_eq!(code, Some(1));
    assert!(text.contains("NoSuchBucket") && text.contains("create the bucket"), "{text}");
    let (code, text) = start(&store, DATA, &["--read-only"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("there is no s3://waterclock-test/some/where/manifest"), "{text}");
    let guarded = Store::start(Some(1));
    let (code, text) = start(&guarded, &format!("s3://{BUCKET}"), &flags);
    assert_eq!(code, Some(1));
    assert!(text.contains("check AWS_ACCESS_KEY_ID"), "{text}");
}
