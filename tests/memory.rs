//! Limits of memory: a series longer than the limit is read, merged and rolled up in slices, and nothing of it is lost or
//! counted twice; what does not fit is refused by the limit's name; files that readers still need are there.
//!
//! Not here: random operations on short series (`random`).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use waterclock::config::Config;
use waterclock::db::{Db, FlushScope, RefreshScope};

use crate::support::engine::{NOON, SECOND, ask, rows, run, write};
use crate::support::faulty_disk::FaultyDisk;
use crate::support::manual_clock::ManualClock;
use crate::support::server::{Server, folder};

const LONG: i64 = 100_000;

/// The long series decoded takes half as much again as a query may hold. Below that the pages of all blocks that
/// overlap would not fit at once.
fn tight() -> Config {
    let mut config = Config::default();
    config.limits.query_memory_bytes_max = 4 << 20;
    config.limits.compaction_memory_bytes_max = 4 << 20;
    config.limits.refresh_memory_bytes_max = 4 << 20;
    config
}

fn open(disk: &FaultyDisk, config: Config) -> Db {
    Db::open(Arc::new(disk.clone()), Arc::new(ManualClock::at(NOON + 2 * LONG * SECOND)), config).unwrap()
}

/// Time to the two fields.
type Model = BTreeMap<i64, (Option<i64>, Option<i64>)>;

fn store(db: &Db, model: &mut Model, seconds: impl Iterator<Item = i64>, x: Option<i64>, y: Option<i64>) {
    let mut body = String::new();
    for second in seconds {
        let time = NOON + second * SECOND;
        let fields: Vec<String> = [("x", x), ("y", y)]
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}i", value?.wrapping_add(second))))
            .collect();
        body += &format!("cpu,host=long {},a=1i,b=2i,c=3i {time}\n", fields.join(","));
        let known = model.entry(second).or_default();
        known.0 = x.map(|x| x.wrapping_add(second)).or(known.0);
        known.1 = y.map(|y| y.wrapping_add(second)).or(known.1);
    }
    body += &format!("cpu,host=short z=1i {NOON}\n");
    write(db, &body).unwrap();
}

/// Blocks over and beside each other, late points over all of them, deletes, and the newest in memory.
fn fill(db: &Db) -> Model {
    let mut model = Model::new();
    let flush = |db: &Db| assert!(db.flush(FlushScope::All).unwrap() > 0);
    store(db, &mut model, 0..LONG / 2, Some(1), None);
    flush(db);
    store(db, &mut model, (LONG / 4..LONG * 3 / 4).step_by(3), Some(1_000_000), Some(2));
    flush(db);
    store(db, &mut model, (0..LONG).step_by(97), None, Some(3_000_000));
    flush(db);
    let (from, to) = (NOON + 5_000 * SECOND, NOON + 5_500 * SECOND);
    run(db, &format!("delete from cpu{{host=\"long\"}} between {from}ns and {to}ns")).unwrap();
    model.retain(|second, _| !(5_000..5_500).contains(second));
    store(db, &mut model, LONG / 2..LONG, Some(4), None);
    store(db, &mut model, (10..LONG).step_by(101), None, Some(5_000_000));
    model
}

fn expected(model: &Model, step: i64) -> Vec<String> {
    let mut buckets: BTreeMap<i64, Vec<(i64, (Option<i64>, Option<i64>))>> = BTreeMap::new();
    for (second, values) in model {
        // Noon is a whole bucket's start for the steps used here.
        buckets.entry(second.div_euclid(step) * step).or_default().push((*second, *values));
    }
    let row = |(start, points): (&i64, &Vec<(i64, (Option<i64>, Option<i64>))>)| {
        let x: Vec<i64> = points.iter().filter_map(|(_, values)| values.0).collect();
        let y = points.iter().filter(|(_, values)| values.1.is_some()).count();
        let sum: i64 = x.iter().sum();
        let last = x.last();
        let mut row = format!("time={} host=long n={}", NOON + start * SECOND, points.len());
        if let Some(last) = last {
            row += &format!(" s={sum} l={last}");
        }
        row + &format!(" y={y} a=1 b=2 c=3")
    };
    buckets.iter().map(row).collect()
}

fn check(db: &Db, model: &Model, rollups: bool) {
    for (text, step) in [("1h", 3_600), ("10m", 600)] {
        let statement = format!(
            "cpu{{host=\"long\"}} | every {text} count as n, sum(x) as s, last(x) as l, count(y) as y, max(a) as a, max(b) as b, max(c) as c by host"
        );
        let answer = ask(db, &statement, rollups).unwrap();
        assert_eq!(answer.stats.series, 1);
        assert_eq!(rows(&answer), expected(model, step), "{text}");
    }
}

#[test]
fn a_series_longer_than_the_limit_is_read_in_slices() {
    let disk = FaultyDisk::new();
    let db = open(&disk, tight());
    let model = fill(&db);
    check(&db, &model, false);
    let refused = ask(&db, "cpu{host=\"long\"}", true).err().expect("too much").to_string();
    assert!(refused.contains("query_memory_bytes_max"), "{refused}");

    run(
        &db,
        "create rollup r as cpu | every 10m count, sum(x), last(x), count(y), max(a), max(b), max(c) by host",
    )
    .unwrap();
    assert!(db.refresh(&RefreshScope::default()).unwrap() > 0);
    check(&db, &model, true);

    db.flush(FlushScope::All).unwrap();
    check(&db, &model, false);
    assert!(db.compact(true).unwrap() > 0);
    check(&db, &model, false);
    check(&db, &model, true);
    drop(db);
    check(&open(&disk, Config::default()), &model, false);
}

const WRITERS: i64 = 4;
const REQUESTS: i64 = 8;
const HOSTS: i64 = 10_000;

/// Each request begins new chunks of ten thousand series: far more than the head may hold.
fn body(writer: i64, request: i64) -> String {
    let time = NOON + (writer * REQUESTS + request) * 7_200 * SECOND;
    (0..HOSTS).map(|host| format!("m,host=h{host} a={host}.5,b={request}i {time}\n")).collect()
}

#[test]
fn an_overloaded_server_stays_within_its_memory_and_answers() {
    const LIMIT: u64 = 256 << 20;
    let folder = folder();
    let server = Server::start(folder.path(), &["--set", "memory_limit=256MiB", "--set", "flush_after=1s"]);
    let (peak, answered) = (AtomicU64::new(0), &AtomicU64::new(0));
    let measure = || peak.fetch_max(server.memory_bytes(), Ordering::Relaxed);
    let statements =
        ["m", "m | limit 1000", "m | every 1h avg(a), max(b), last(a), count", "m | every 2h sum(b) by ()"];
    std::thread::scope(|scope| {
        let (server, measure) = (&server, &measure);
        let write = |writer: i64| {
            scope.spawn(move || {
                for request in 0..REQUESTS {
                    let body = body(writer, request);
                    loop {
                        let reply = server.post("/api/v2/write?bucket=d", body.as_bytes());
                        measure();
                        if reply.status == 204 {
                            break;
                        }
                        assert_eq!(reply.status, 503, "{}", reply.text());
                        assert_eq!(reply.header("retry-after"), "2");
                        wait(100);
                    }
                }
            })
        };
        let writers: Arc<Vec<_>> = Arc::new((0..WRITERS).map(write).collect());
        for _ in 0..WRITERS {
            let writers = Arc::clone(&writers);
            scope.spawn(move || {
                for (asked, statement) in statements.iter().cycle().enumerate() {
                    if asked >= 3 * statements.len() && writers.iter().all(|writer| writer.is_finished()) {
                        break;
                    }
                    let reply = server.post("/api/wql?db=d", statement.as_bytes());
                    measure();
                    match reply.status {
                        // 404 until the first write is readable.
                        200 => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        404 | 422 => {}
                        503 => assert_eq!(reply.header("retry-after"), "2"),
                        other => panic!("{statement}: {other} {}", reply.text()),
                    }
                }
            });
        }
    });
    assert!(answered.load(Ordering::Relaxed) > 0, "queries and writes had memory at the same time");
    // In blocks, where a count needs none of the copies that a read of open chunks makes.
    assert_eq!(server.post("/api/flush", b"").status, 200);
    let reply = server.post("/api/wql?db=d", b"m | count as n by ()");
    assert_eq!(reply.status, 200, "{}", reply.text());
    let count = reply.json()["rows"][0][0].clone();
    assert_eq!(count, WRITERS * REQUESTS * HOSTS, "nothing acknowledged is lost");
    let peak = peak.into_inner();
    assert!(peak <= LIMIT, "{} MiB", peak >> 20);
    assert_eq!(server.stop().code(), Some(0));
}

/// An answer many times what a query may hold, to a client that takes it little by little.
#[test]
fn a_slow_client_slows_the_scan_and_fills_no_memory() {
    const ROWS: usize = 150_000;
    const LIMIT: u64 = 8 << 20;
    let folder = folder();
    let server = Server::start(folder.path(), &["--set", "query_memory_bytes_max=8MiB"]);
    let line = |i: usize| {
        let values =
            (0..8).map(|field| format!("long_name_of_field_{field}={}", (i * 8 + field) as f64 / 7.0));
        format!("m,host=h{} {} {i}\n", i % 10, values.collect::<Vec<_>>().join(","))
    };
    for part in (0..ROWS).collect::<Vec<_>>().chunks(30_000) {
        let body: String = part.iter().map(|i| line(*i)).collect();
        assert_eq!(server.post("/write", body.as_bytes()).status, 204);
    }
    assert_eq!(server.post("/api/flush", b"").status, 200);
    let before = server.memory_bytes();
    let mut socket = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    let head =
        "GET /api/wql?q=m&format=ndjson HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: close\r\n\r\n";
    socket.write_all(head.as_bytes()).unwrap();
    let (mut text, mut bytes) = (vec![0; 256 << 10], Vec::new());
    let (mut rows, mut peak, mut reads) = (0, 0, 0);
    loop {
        let read = socket.read(&mut text).unwrap();
        if read == 0 {
            break;
        }
        rows += memchr::memchr_iter(b'\n', &text[..read])
            .filter(|end| text[end.saturating_sub(1)] == b'}')
            .count();
        bytes.extend_from_slice(&text[..read]);
        bytes.drain(..bytes.len().saturating_sub(4 << 10));
        reads += 1;
        if reads % 16 == 0 {
            peak = peak.max(server.memory_bytes());
            let listed = server.get("/api/queries").json();
            let held = listed["queries"][0]["memory_bytes"].as_u64().unwrap_or_default();
            assert!(held <= LIMIT, "{listed}");
        }
        if reads < 20 {
            wait(20);
        }
    }
    assert!(rows.abs_diff(ROWS) <= reads, "{rows} rows");
    let growth = peak.saturating_sub(before);
    assert!(growth <= 4 * LIMIT, "{} MiB, from {} MiB", growth >> 20, before >> 20);
    // The rows were on their way before all were read: what gave them is said behind them.
    let end = String::from_utf8_lossy(&bytes);
    assert!(end.contains("x-waterclock-stats: {") && end.contains("\"rows_read\":"), "{end}");
    assert!(end.ends_with("\r\n\r\n"), "{end}");
}

/// As a client does that was told to come again later.
#[expect(clippy::disallowed_methods, reason = "the clock is the system's")]
fn wait(milliseconds: u64) {
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
}
