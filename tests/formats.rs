//! Folders written by older versions open, answer and can be written to, for ever.
//!
//! `tests/fixtures/v1/` holds a folder as version 1 of the log, the manifest, the points block and the rollup block left
//! it, `v2` one with metrics in version 2 of the block. They are never made again: a new version of a format gets a folder of
//! its own, by `cargo test --test it write_the_fixture -- --ignored`, which refuses to touch one that exists.
//! Not here: single bytes of the formats (the format page's examples in `storage-format`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use storage_format::block::BLOCK_VERSION;
use waterclock::clock::Clock;
use waterclock::config::Config;
use waterclock::db::{Db, FlushScope, RefreshScope, RemoteWrite};
use waterclock::disk::LocalDisk;
use waterclock::ingest::remote_write::Version;

use crate::support::engine::{DATABASE, NOON, SECOND, ask, rows, run, write};
use crate::support::manual_clock::ManualClock;
use crate::support::prometheus::{WriteRequest, series};

/// What each fixture must answer; all of them hold the same points, and metrics from version 2 on.
const ANSWERS: &[(&str, &[&str])] = &[
    (
        "cpu | limit 100",
        &[
            "time=1767268800000000000 host=a region=eu busy=true n=-7 note=é \"x\" u=18446744073709551615 usage=0.5/3fe0000000000000",
            "time=1767268800000000000 host=b region=us n=2 usage=2.25/4002000000000000",
            "time=1767268860000000000 host=a region=eu n=9 usage=4.5/4012000000000000",
            "time=1767268920000000000 host=d region=eu n=4 usage=1/3ff0000000000000",
            "time=1767272400000000000 host=c n=100",
        ],
    ),
    (
        "cpu | every 1m count, sum(usage), last(n) by region",
        &[
            "time=1767272400000000000 count=1 last_n=100",
            "time=1767268800000000000 region=eu count=1 sum_usage=0.5/3fe0000000000000 last_n=-7",
            "time=1767268860000000000 region=eu count=1 sum_usage=4.5/4012000000000000 last_n=9",
            "time=1767268920000000000 region=eu count=1 sum_usage=1/3ff0000000000000 last_n=4",
            "time=1767268800000000000 region=us count=1 sum_usage=2.25/4002000000000000 last_n=2",
        ],
    ),
];

/// By a label with a column and by one in the map.
const ANSWERS_OF_METRICS: &[(&str, &[&str])] = &[
    (
        "up | every 1m sum(value) by Zone",
        &[
            "time=1767268800000000000 Zone=a sum_value=3/4008000000000000",
            "time=1767268800000000000 Zone=b sum_value=4/4010000000000000",
        ],
    ),
    ("up{l69=\"2\"} | every 1m count by ()", &["time=1767268800000000000 count=1"]),
];

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(NOON + 2 * 3_600 * SECOND))
}

fn open(folder: &Path) -> Db {
    let clock: Arc<dyn Clock> = clock();
    let disk = Arc::new(LocalDisk::open(folder).unwrap());
    Db::open(disk, clock, Config::default()).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The folders of all versions, copied so that opening them does not change them.
pub fn copies() -> Vec<(String, tempfile::TempDir)> {
    let mut copies = Vec::new();
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let version = entry.unwrap().path();
        let copy = tempfile::tempdir().unwrap();
        copy_folder(&version, copy.path());
        copies.push((version.file_name().unwrap().to_string_lossy().into_owned(), copy));
    }
    copies
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

fn check(db: &Db, version: &str) {
    let of_metrics = if version == "v1" { &[] } else { ANSWERS_OF_METRICS };
    for (query, expected) in ANSWERS.iter().chain(of_metrics) {
        for rollups in [true, false] {
            let answer =
                ask(db, query, rollups).unwrap_or_else(|error| panic!("{version}: {query}: {error}"));
            assert_eq!(rows(&answer), *expected, "{version}: {query}, rollups {rollups}");
        }
    }
}

#[test]
fn folders_of_every_version_answer_and_go_on() {
    let copies = copies();
    assert!(copies.iter().any(|(version, _)| version == "v1"));
    for (version, copy) in copies {
        let db = open(copy.path());
        check(&db, &version);
        let through = ask(&db, ANSWERS[1].0, true).unwrap();
        assert!(!through.stats.rollups.is_empty(), "{version}: the states of the rollup are read");
        write(&db, &format!("new,host=z n=1i {NOON}")).unwrap();
        db.flush(FlushScope::All).unwrap();
        db.compact(true).unwrap();
        check(&db, &version);
        drop(db);
        let db = open(copy.path());
        check(&db, &version);
        assert_eq!(ask(&db, "new | limit 10", true).unwrap().rows(), 1);
    }
}

#[test]
fn the_newest_version_has_a_fixture() {
    let newest =
        BLOCK_VERSION.max(storage_format::manifest::VERSION).max(u32::from(storage_format::wal::VERSION));
    assert!(fixtures().join(format!("v{newest}")).is_dir(), "write a fixture for version {newest}");
}

/// Three series with more labels than there are columns, some of which come before the name.
fn metrics() -> WriteRequest {
    let names: Vec<String> = (0..70).map(|label| format!("l{label:02}")).collect();
    let one = |zone: &str, number: usize| {
        let value = number.to_string();
        let mut labels = vec![("Zone", zone), ("__name__", "up")];
        labels.extend(names.iter().map(|name| (name.as_str(), value.as_str())));
        series(&labels, &[(NOON / 1_000_000, number as f64)])
    };
    WriteRequest { timeseries: vec![one("a", 1), one("a", 2), one("b", 4)], metadata: Vec::new() }
}

/// Everything that this version knows: metrics, points and deletes in the log, points and states in blocks, a dirty bucket, a standing
/// tombstone.
#[test]
#[expect(clippy::disallowed_methods, reason = "it makes the files that the others read")]
#[ignore = "writes tests/fixtures, once per version of a format"]
fn write_the_fixture() {
    let folder = fixtures().join(format!("v{BLOCK_VERSION}"));
    assert!(!folder.exists(), "{} is there, and it is never made again", folder.display());
    let db = open(&folder);
    let points = [
        format!(
            "cpu,host=a,region=eu usage=0.5,n=-7i,u=18446744073709551615u,busy=true,note=\"é \\\"x\\\"\" {NOON}"
        ),
        format!("cpu,host=b,region=us usage=1.25,n=1i {NOON}"),
        format!("cpu,host=gone,region=us usage=8,n=1i {}", NOON + SECOND),
        format!("cpu,host=a,region=eu usage=3.5,n=9i {}", NOON + 60 * SECOND),
        format!("cpu,host=d,region=eu usage=1,n=4i {}", NOON + 120 * SECOND),
    ];
    write(&db, &points.join("\n")).unwrap();
    let message = metrics().encode_to_vec();
    let request = RemoteWrite { database: DATABASE, message: &message, version: Version::V1 };
    assert_eq!(db.write_samples_now(&request).unwrap().refused.count, 0);
    run(&db, "create rollup minutes as cpu | every 1m count, sum(usage), last(n) by region").unwrap();
    db.refresh(&RefreshScope::default()).unwrap();
    db.flush(FlushScope::All).unwrap();
    // From here on in the log: an overwrite that makes a bucket dirty, a delete that stands against the block, late points.
    write(&db, &format!("cpu,host=b,region=us usage=2.25,n=2i {NOON}")).unwrap();
    run(&db, "delete from cpu{host=\"gone\"} between 2026-01-01T12:00 and 2026-01-01T12:00:30").unwrap();
    run(&db, "create rollup hours as minutes | every 1h count, sum(usage), last(n) by region").unwrap();
    write(&db, &format!("cpu,host=a,region=eu usage=4.5 {}", NOON + 60 * SECOND)).unwrap();
    write(&db, &format!("cpu,host=c n=100i {}", NOON + 3_600 * SECOND)).unwrap();
    check(&db, "the one just written");
    drop(db);
    std::fs::remove_file(folder.join("LOCK")).unwrap();
}
