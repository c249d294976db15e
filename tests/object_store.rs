//! The real binary over a bucket of a real S3-compatible server, which goes wrong, dies with its machine, and is shared.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::dice::Dice;
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
    assert_eq!((puts(&requests, "/blocks/"), puts(&requests, "/manifest")), (1, 1), "{requests:#?}");
    assert_eq!(sum(&server), of(0..1_000));
    let gets = store.take_requests().iter().filter(|request| request.contains("/blocks/")).count();
    assert_eq!(gets, 1, "one request opens and reads a small block");
    assert_eq!(sum(&server), of(0..1_000));
    let gets = store.take_requests().iter().filter(|request| request.contains("/blocks/")).count();
    assert_eq!(gets, 0, "what was read is kept");

    write(&server, 1_000..1_500);
    server.kill();
    store.take_requests();
    let mut server = serve(&store, log.path(), &["--set", "remove_after=100ms"]);
    // Four lists, one of the database and one of the table; a look at the manifest may come between.
    let requests = store.take_requests();
    let lists = requests.iter().filter(|request| request.contains("list-type=2")).count();
    assert_eq!((lists, puts(&requests, "/manifest"), puts(&requests, "")), (6, 1, 1), "{requests:#?}");
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

/// The value of a metric, of its lines that contain the text.
fn metric(server: &Server, name: &str, part: &str) -> f64 {
    let text = server.get("/metrics").text();
    let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(part));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Points that no compression makes small: their block goes up in parts.
fn write_large(server: &Server) -> i64 {
    let mut dice = Dice::new(7);
    let mut rows = 0;
    for body in 0..4 {
        let mut lines = String::new();
        for _ in 0..300 {
            let text: String = (0..4_000).map(|_| format!("{:016x}", dice.next())).take(2_500).collect();
            lines += &format!("large text=\"{text}\" {}\n", 1_767_225_600_000_000_000_i64 + rows);
            rows += 1;
        }
        assert_eq!(server.post("/write?db=default", lines.as_bytes()).status, 204, "{body}");
    }
    rows
}

#[test]
fn an_upload_in_parts_that_fails_leaves_nothing_and_is_made_again() {
    let store = Store::start(None);
    let log = folder();
    let server = serve(&store, log.path(), &[]);
    let rows = write_large(&server);
    let stored = || store.keys().iter().filter(|key| key.contains("/blocks/")).count();
    let count = || server.rows("large | count by ()")[0][0].clone();
    let faults = [("POST", "?uploads"), ("PUT", "partNumber=2"), ("POST", "?uploadId=")];
    for (method, path) in faults {
        store.fail(method, path, usize::MAX, FaultKind::Denied);
    }
    for (_, path) in faults {
        // The background tries it at its own times, too; a part may be on its way at any of these moments.
        let reply = server.post("/api/flush", b"");
        assert!(reply.status >= 500, "{path}: {} {}", reply.status, reply.text());
        assert!(reply.text().contains("s3://waterclock-test/some/where/blocks/"), "{}", reply.text());
        assert_eq!((stored(), count()), (0, json!(rows)), "{path}");
        store.end_fault();
    }
    write(&server, 0..10);
    until("the flush has passed", || server.post("/api/flush", b"").status == 200 && stored() == 2);
    until("no parts are left", || store.open_uploads() == 0);
    assert_eq!((count(), sum(&server)), (json!(rows), of(0..10)));
    // A backup of the block goes up in parts, too.
    let back_up = || waterclock(&store, &["backup", "--url", &server.url, "--to", BACKUP]);
    store.fail("PUT", "/copy/blocks/default/large/", 1, FaultKind::Denied);
    let said = back_up();
    let object = "s3://waterclock-test/copy/blocks/default/large/";
    assert!(said.starts_with("1: ") && said.contains(object), "{said}");
    assert!(said.contains("AccessDenied") && said.contains("what that key may do"), "{said}");
    assert_eq!(store.open_uploads(), 0);
    assert!(!store.keys().iter().any(|key| key.starts_with("copy/blocks/default/large/")));
    for (path, kind) in [("partNumber=1&", FaultKind::CutRequest), ("partNumber=2&", FaultKind::LoseAnswer)] {
        store.fail("PUT", path, 1, kind);
    }
    store.take_requests();
    let said = back_up();
    assert!(said.starts_with("0: ") && said.contains("2 blocks") && store.has_failed(), "{said}");
    assert!(puts(&store.take_requests(), "partNumber=") >= 4, "two parts, each of them twice");
    let [back, new_log] = [(); 2].map(|()| folder());
    let said = waterclock(&store, &["restore", BACKUP, text(back.path()), "--wal-dir", text(new_log.path())]);
    assert!(said.starts_with("0: "), "{said}");
}

#[test]
fn a_store_that_goes_away_and_comes_back_costs_no_write() {
    let store = Store::start(None);
    let log = folder();
    // What is written waits for nobody: the background takes it to blocks at once.
    let eager =
        ["--set", "flush_after=1ms", "--set", "flush_small_after=1ms", "--set", "flush_on_stop=false"];
    let mut server = serve(&store, log.path(), &eager);
    write(&server, 0..100);
    until("the first block is there", || store.keys().iter().any(|key| key.contains("/blocks/")));
    until("it is read from there", || {
        assert_eq!(sum(&server), of(0..100));
        store.take_requests().iter().any(|request| request.starts_with("GET") && request.contains("/blocks/"))
    });
    // Refused for good, which the background counts, tells, and tries again.
    store.fail("PUT", "/blocks/", usize::MAX, FaultKind::Denied);
    write(&server, 100..200);
    until("a failure is counted", || metric(&server, "waterclock_job_failures_total", "flush") > 0.0);
    store.set_away(true);
    for step in 2..10 {
        write(&server, step * 100..(step + 1) * 100);
        assert_eq!(
            sum(&server),
            of(0..(step + 1) * 100),
            "read from blocks that are cached, and from memory"
        );
    }
    server.kill();
    store.set_away(false);
    store.end_fault();
    let server = serve(&store, log.path(), &eager);
    assert_eq!(sum(&server), of(0..1_000));
    store.set_away(true);
    write(&server, 1_000..1_100);
    store.set_away(false);
    until("everything is in blocks", || {
        let cold = Server::start_in(&store.environment(), Path::new(DATA), &["--read-only"]);
        sum(&cold) == of(0..1_100)
    });
    assert_eq!(server.get("/health").status, 200);
}

fn waterclock(store: &Store, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waterclock"));
    let output = command.args(args).envs(store.environment()).output().expect("the binary starts");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text")).concat();
    format!("{}: {text}", output.status.code().expect("an exit code"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

const BACKUP: &str = "s3://waterclock-test/copy";

fn puts(requests: &[String], part: &str) -> usize {
    requests.iter().filter(|request| request.starts_with("PUT") && request.contains(part)).count()
}

#[test]
fn a_backup_in_a_bucket_is_restored_wherever_the_data_were() {
    let store = Store::start(None);
    let [folders, log] = [(); 2].map(|()| folder());
    let in_folder = folders.path().join("data");
    let server_of = |data: &str| match data.starts_with("s3://") {
        true => serve(&store, log.path(), &["--set", "remove_after=100ms", "--set", "flush_on_stop=false"]),
        false => Server::start_in(&store.environment(), Path::new(data), &["--set", "flush_on_stop=false"]),
    };
    for (round, data) in [text(&in_folder), DATA].into_iter().enumerate() {
        let backup = format!("{BACKUP}-{round}");
        let copy = format!("/copy-{round}/");
        let server = server_of(data);
        let back_up = || waterclock(&store, &["backup", "--url", &server.url, "--to", &backup]);
        write(&server, 0..1_000);
        work(&server, "/api/flush");
        write(&server, 1_000..1_100);
        let said = back_up();
        assert!(
            said.starts_with("0: ") && said.contains("1 block (0 there already, 0 linked, 1 copied)"),
            "{said}"
        );
        work(&server, "/api/flush");
        write(&server, 1_100..1_150);

        store.take_requests();
        let said = back_up();
        assert!(said.contains("2 blocks (1 there already, 0 linked, 1 copied)"), "{said}");
        let requests = store.take_requests();
        assert_eq!(puts(&requests, &format!("{copy}blocks/")), 1, "only the new one is sent: {requests:#?}");
        assert_eq!(puts(&requests, &format!("{copy}manifest")), 1);

        // Merged: a new block, two that go. The store's faults are passed over or end the backup, never half of it.
        work(&server, "/api/flush");
        work(&server, "/api/compact?force=on");
        store.fail("PUT", ["/copy-0/blocks/", "/copy-1/blocks/"][round], 1, FaultKind::LoseAnswer);
        store.fail("PUT", ["/copy-0/manifest", "/copy-1/manifest"][round], 1, FaultKind::CutRequest);
        let said = back_up();
        assert!(said.contains("1 block (0 there already, 0 linked, 1 copied)"), "{said}");
        assert!(said.contains("2 old blocks") && store.has_failed(), "{said}");
        let keys = store.keys().into_iter().map(|key| format!("/{key}"));
        assert_eq!(keys.filter(|key| key.contains(&format!("{copy}blocks/"))).count(), 1);
        write(&server, 1_150..1_200);
        let said = back_up();
        assert!(said.starts_with("0: "), "{said}");
        assert!(server.stop().success());

        for place in ["folder", "bucket"] {
            let [back, new_log] =
                ["back", "log"].map(|what| folders.path().join(format!("{what}-{round}-{place}")));
            let bucket = format!("s3://{BUCKET}/back-{round}");
            let to = if place == "folder" { text(&back) } else { &bucket };
            let flags = ["restore", &backup, to, "--wal-dir", text(&new_log)];
            let said = waterclock(&store, &flags);
            assert!(said.starts_with("0: ") && said.contains("checked; start it with"), "{said}");
            let said = waterclock(&store, &flags);
            assert!(said.starts_with("1: ") && said.contains("is not empty"), "{said}");
            let flags = ["--wal-dir", text(&new_log)];
            let restored = Server::start_in(&store.environment(), Path::new(to), &flags);
            assert_eq!(sum(&restored), of(0..1_200), "{data} to {to}");
            write(&restored, 1_200..1_201);
        }

        // Of what a stopped server has left, the same.
        let offline = format!("s3://{BUCKET}/offline-{round}");
        let mut flags = vec!["backup", "--data-dir", data, "--to", &offline];
        if data == DATA {
            let none = folder();
            let wrong = waterclock(&store, &[flags.as_slice(), &["--wal-dir", text(none.path())]].concat());
            assert!(wrong.starts_with("1: ") && wrong.contains("is not the log of the server"), "{wrong}");
            flags.extend(["--wal-dir", text(log.path())]);
        }
        let said = waterclock(&store, &flags);
        assert!(said.starts_with("0: "), "{said}");
        let back = folders.path().join(format!("offline-{round}"));
        let said = waterclock(&store, &["restore", &offline, text(&back)]);
        assert!(said.starts_with("0: "), "{said}");
        assert_eq!(sum(&Server::start(&back, &[])), of(0..1_200), "{data}");
    }
    // A bucket with something else, one that is not there, and a server on a backup.
    let server = serve(&store, log.path(), &[]);
    let back_up = |to: &str| waterclock(&store, &["backup", "--url", &server.url, "--to", to]);
    let said = back_up(DATA);
    assert!(said.starts_with("1: ") && said.contains("has files of its own and is no backup"), "{said}");
    let said = back_up("s3://no-such-bucket/x");
    assert!(said.starts_with("1: ") && said.contains("create the bucket"), "{said}");
    let said = back_up("gs://bucket/x");
    assert!(said.starts_with("2: ") && said.contains("s3://bucket/prefix"), "{said}");
    let new_log = folder();
    let flags = ["--wal-dir", text(new_log.path())];
    let (code, said) =
        refused_in(&store.environment(), Path::new("s3://waterclock-test/copy-0"), "127.0.0.1:0", &flags);
    assert!(code == Some(1) && said.contains("restore it first"), "{said}");
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
