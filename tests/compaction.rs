//! What compaction must have done when it is done: one file per window, deletes applied and forgotten.
//!
//! Not here: which points are right (`random`), crashes in the middle of it (`crash`).

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::DataType;
use prost::Message;
use storage_format::block::{BlockField, BlockKind, BlockSchema, Effort, TagLayout};
use storage_format::manifest::Manifest;
use storage_format::point::{TagSet, TimeRange};
use waterclock::blocks::{TableKey, write_block};
use waterclock::check::of_blocks;
use waterclock::config::Config;
use waterclock::db::{Db, FlushScope, RemoteWrite, write_manifest};
use waterclock::disk::{Disk, LocalDisk};
use waterclock::flush::new_entry;
use waterclock::ingest::remote_write::Version;

use crate::support::engine::{DATABASE, NOON, SECOND, ask, open, rows, run, write};
use crate::support::faulty_disk::FaultyDisk;
use crate::support::manual_clock::ManualClock;
use crate::support::prometheus::{WriteRequest, series};

const DAY: i64 = 86_400 * SECOND;

#[test]
fn a_delete_over_several_days_is_applied_once_and_forgotten() {
    let disk = FaultyDisk::new();
    let db = open(&disk, &ManualClock::at(NOON)).unwrap();
    for day in 0..4 {
        let time = NOON - day * DAY;
        write(&db, &format!("cpu,host=a n={day}i {time}\ncpu,host=b n={day}i {time}")).unwrap();
        db.flush(FlushScope::All).unwrap();
    }
    run(&db, "delete from cpu{host=\"a\"}").unwrap();
    assert_eq!(db.compact(true).unwrap(), 1);
    assert_eq!(db.compact(true).unwrap(), 0, "there is nothing left to do");
    let manifest = Manifest::decode(&disk.read("manifest")).unwrap();
    assert_eq!(manifest.tombstones, []);
    assert_eq!(manifest.blocks.len(), 1);
    // Points written after the delete are not its business, wherever they are.
    write(&db, &format!("cpu,host=a n=9i {NOON}")).unwrap();
    db.flush(FlushScope::All).unwrap();
    db.compact(true).unwrap();
    assert_eq!(ask(&db, "cpu | limit 100", true).unwrap().rows(), 5);
}

/// A flush fails after it has frozen its points; the delete and the overwrite that follow must win over them in whatever
/// order they reach blocks.
#[test]
fn points_that_waited_for_a_second_flush_lose_against_what_came_after_them() {
    let disk = FaultyDisk::new();
    let clock = ManualClock::at(NOON);
    let db = open(&disk, &clock).unwrap();
    let time = |second: i64| NOON + second * SECOND;
    write(&db, &format!("cpu,host=a n=1i {}\ncpu,host=b n=1i {}", time(0), time(0))).unwrap();
    db.flush(FlushScope::All).unwrap();
    write(&db, &format!("cpu,host=a n=2i {}\ncpu,host=b n=2i {}", time(0), time(1))).unwrap();
    disk.fail_sync_after(0);
    db.flush(FlushScope::All).expect_err("its fsync failed");
    run(&db, &format!("delete from cpu{{host=\"b\"}} between {}ns and {}ns", time(0), time(1))).unwrap();
    // Merges the first block while newer points are still on their way to the second.
    db.compact(true).unwrap();
    write(&db, &format!("cpu,host=a n=3i {}", time(1))).unwrap();
    let expected = rows(&ask(&db, "cpu | limit 10", true).unwrap());
    assert_eq!(expected.len(), 3, "{expected:?}");
    assert!(expected[0].ends_with("host=a n=2"), "{expected:?}");
    for _ in 0..2 {
        db.flush(FlushScope::All).unwrap();
        assert_eq!(rows(&ask(&db, "cpu | limit 10", true).unwrap()), expected);
        db.compact(true).unwrap();
        assert_eq!(rows(&ask(&db, "cpu | limit 10", true).unwrap()), expected);
    }
    drop(db);
    assert_eq!(rows(&ask(&open(&disk, &clock).unwrap(), "cpu | limit 10", true).unwrap()), expected);
}

fn blocks(disk: &FaultyDisk) -> Vec<storage_format::manifest::BlockEntry> {
    Manifest::decode(&disk.read("manifest")).unwrap().blocks
}

/// Merges what is due, as the background does, until nothing is.
fn settle(db: &waterclock::db::Db) {
    while db.compact(false).unwrap() > 0 {}
}

/// What `--force` promises to other readers of the files.
fn assert_forced_apart(db: &waterclock::db::Db, disk: &FaultyDisk) {
    db.compact(true).unwrap();
    let files = blocks(disk);
    for (at, file) in files.iter().enumerate() {
        let apart = |other: &storage_format::manifest::BlockEntry| {
            other.time.1 <= file.time.0 || file.time.1 <= other.time.0
        };
        let shared = files[..at].iter().find(|other| !apart(other));
        assert!(shared.is_none(), "{file:?} and {shared:?} share times");
    }
}

#[test]
fn a_trickle_over_years_leaves_few_files() {
    let disk = FaultyDisk::new();
    let clock = ManualClock::at(NOON);
    let db = open(&disk, &clock).unwrap();
    let mut dice = crate::support::dice::Dice::new(7);
    let mut written = std::collections::BTreeSet::new();
    for round in 0..60 {
        // Late points anywhere in five years, and today's.
        for _ in 0..20 {
            let time = NOON - dice.roll(5 * 365 * 24) as i64 * 3_600 * SECOND;
            write(&db, &format!("cpu,host=a n={round}i {time}")).unwrap();
            written.insert(time);
        }
        db.flush(FlushScope::All).unwrap();
        settle(&db);
    }
    let files = blocks(&disk);
    assert!(files.len() <= 24, "{} files hold {} points", files.len(), written.len());
    assert_forced_apart(&db, &disk);
    assert_eq!(ask(&db, "cpu | limit 10000", true).unwrap().rows(), written.len());
}

#[test]
fn a_small_table_becomes_one_file_for_each_long_window_and_a_large_one_a_file_for_each_day() {
    for (bytes_max, expected) in [(1 << 20, 1..=16), (1, 90..=100)] {
        let disk = FaultyDisk::new();
        let clock = ManualClock::at(NOON);
        let mut config = crate::support::engine::small_config();
        config.limits.block_bytes_max = bytes_max;
        let db = waterclock::db::Db::open(
            std::sync::Arc::new(disk.clone()),
            std::sync::Arc::new(clock.clone()),
            config,
        )
        .unwrap();
        for day in 0..90 {
            for hour in [0, 4, 9] {
                write(&db, &format!("cpu,host=a n={day}i {}", NOON + day * DAY + hour * 3_600 * SECOND))
                    .unwrap();
                db.flush(FlushScope::All).unwrap();
            }
            clock.advance(std::time::Duration::from_secs(86_400));
            db.compact(true).unwrap();
        }
        let files = blocks(&disk);
        assert!(expected.contains(&files.len()), "{} files with block_bytes_max={bytes_max}", files.len());
        assert_eq!(ask(&db, "cpu | limit 10000", true).unwrap().rows(), 270);
    }
}

/// Late points across many days are gathered in one block; when that has grown, they go back into their days.
#[test]
fn late_points_return_into_days_too_large_to_be_one_block() {
    let disk = FaultyDisk::new();
    let clock = ManualClock::at(NOON + 60 * DAY);
    let mut config = crate::support::engine::small_config();
    config.limits.block_bytes_max = 1;
    let db = waterclock::db::Db::open(
        std::sync::Arc::new(disk.clone()),
        std::sync::Arc::new(clock.clone()),
        config,
    )
    .unwrap();
    for day in 0..20 {
        write(&db, &format!("cpu,host=a n={day}i {}", NOON + day * DAY)).unwrap();
        db.flush(FlushScope::All).unwrap();
        settle(&db);
    }
    for round in 0..12 {
        let late = |day: i64| format!("cpu,host=a n=-1i {}", NOON + day * DAY + (round % 3) * SECOND);
        write(&db, &(0..20).map(late).collect::<Vec<_>>().join("\n")).unwrap();
        db.flush(FlushScope::All).unwrap();
        settle(&db);
    }
    let wide = blocks(&disk).iter().filter(|entry| entry.partition.1 - entry.partition.0 > DAY).count();
    assert!(wide < 4, "{wide} blocks lie across days");
    assert_forced_apart(&db, &disk);
    assert_eq!(ask(&db, "cpu | limit 10000", true).unwrap().rows(), 60);
    assert_eq!(rows(&ask(&db, "cpu | max(n), sum(n)", true).unwrap()).len(), 1);
}

/// A delete is forgotten by itself once it has stood long enough, also against a block that nothing else would touch.
#[test]
fn a_delete_that_has_stood_is_applied_without_being_asked() {
    let disk = FaultyDisk::new();
    let clock = ManualClock::at(NOON);
    let db = open(&disk, &clock).unwrap();
    write(&db, &format!("cpu,host=a n=1i {NOON}\ncpu,host=b n=1i {NOON}")).unwrap();
    db.flush(FlushScope::All).unwrap();
    run(&db, "delete from cpu{host=\"a\"}").unwrap();
    assert_eq!(db.compact(false).unwrap(), 0, "it has not stood yet");
    let storage = rows(&run(&db, "show storage").unwrap());
    assert!(storage[0].contains("deletes=1"), "{storage:?}");
    clock.advance(std::time::Duration::from_secs(3_601));
    assert_eq!(db.compact(false).unwrap(), 1);
    assert_eq!(db.compact(false).unwrap(), 0);
    let manifest = Manifest::decode(&disk.read("manifest")).unwrap();
    assert_eq!((manifest.tombstones.len(), manifest.blocks[0].rows), (0, 1));
}

#[test]
fn many_tiny_tables_keep_few_files_each() {
    const TABLES: usize = 40;
    let disk = FaultyDisk::new();
    let clock = ManualClock::at(NOON);
    let db = open(&disk, &clock).unwrap();
    for flush in 0..50 {
        let time = NOON + flush * 7 * 3_600 * SECOND;
        let lines: Vec<String> =
            (0..TABLES).map(|table| format!("t{table},host=a n={flush}i {time}")).collect();
        write(&db, &lines.join("\n")).unwrap();
        db.flush(FlushScope::All).unwrap();
        clock.advance(std::time::Duration::from_secs(7 * 3_600));
        settle(&db);
    }
    let files = blocks(&disk).len();
    assert!(files <= TABLES * 6, "{files} files of {TABLES} tables after 50 flushes");
    assert_eq!(ask(&db, "t7 | count by ()", true).unwrap().rows(), 1);
}

/// Where merges have fallen behind, a flush does some first.
#[test]
fn a_flush_helps_when_merges_have_fallen_behind() {
    let disk = FaultyDisk::new();
    let clock = ManualClock::at(NOON);
    let mut config = crate::support::engine::small_config();
    config.limits.blocks_behind_max = 6;
    let disk_of_db = std::sync::Arc::new(disk.clone());
    let db = waterclock::db::Db::open(disk_of_db, std::sync::Arc::new(clock.clone()), config).unwrap();
    for round in 0..6 {
        write(&db, &format!("cpu,host=a n={round}i {}", NOON + round)).unwrap();
        db.flush(FlushScope::All).unwrap();
    }
    db.flush(FlushScope::Due).unwrap();
    assert_eq!(blocks(&disk).len(), 6, "six may wait");
    write(&db, &format!("cpu,host=a n=6i {}", NOON + 6)).unwrap();
    db.flush(FlushScope::All).unwrap();
    assert_eq!(db.status().blocks_behind, 7);
    db.flush(FlushScope::Due).unwrap();
    assert_eq!(blocks(&disk).len(), 1);
}

/// Puts a block of metrics into a new folder as version 1 laid it out: a column for each label, series in the order of all tags.
fn metrics_of_version_1(disk: &Arc<dyn Disk>, series: &[(TagSet, f64)]) {
    let key = TableKey { kind: BlockKind::Points, database: DATABASE.into(), table: "metrics".into() };
    let field = BlockField { name: "value".to_string(), data_type: DataType::Float64 };
    let tags = ["Zone", "__name__"].map(str::to_string).to_vec();
    let schema = BlockSchema { tags, layout: TagLayout::Columns, fields: vec![field] };
    let entry = new_entry(1, &key, TimeRange::new(NOON - NOON % DAY, NOON - NOON % DAY + DAY), (1, 1));
    let entry = write_block(disk, entry, schema, Effort::Flush, usize::MAX, |block| {
        series.iter().try_for_each(|(tags, value)| {
            let values: ArrayRef = Arc::new(Float64Array::from(vec![*value, value + 0.5]));
            block.push_series(tags, &[NOON, NOON + SECOND], &[Some(values)])
        })
    });
    write_manifest(&**disk, &of_blocks(disk, vec![entry.unwrap().unwrap()]).unwrap()).unwrap();
}

/// Their series stand in another order than those of the blocks that are written today.
#[test]
fn metrics_of_version_1_are_read_beside_newer_ones_and_merged_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(LocalDisk::open(folder.path()).unwrap());
    let old = [
        (TagSet::new([("__name__", "m")]), 1.0),
        (TagSet::new([("Zone", "a"), ("__name__", "z")]), 2.0),
        (TagSet::new([("Zone", "b"), ("__name__", "a")]), 3.0),
    ];
    assert!(old.is_sorted_by(|a, b| a.0 < b.0));
    metrics_of_version_1(&disk, &old);
    let clock = Arc::new(ManualClock::at(NOON + 3_600 * SECOND));
    let db = Db::open(Arc::clone(&disk), clock, Config::default()).unwrap();
    let time_ms = |second: i64| NOON / 1_000_000 + second * 1_000;
    let timeseries = vec![
        series(&[("Zone", "b"), ("__name__", "a")], &[(time_ms(1), 30.0), (time_ms(2), 31.0)]),
        series(&[("Zone", "a"), ("__name__", "b")], &[(time_ms(0), 40.0)]),
    ];
    let message = WriteRequest { timeseries, metadata: Vec::new() }.encode_to_vec();
    let request = RemoteWrite { database: DATABASE, message: &message, version: Version::V1 };
    db.write_samples_now(&request).unwrap();
    // By time, then by name before all other labels; the newer word on a sample counts.
    let expected: Vec<String> = [
        (0, "Zone=b __name__=a value=3/"),
        (0, "Zone=a __name__=b value=40/"),
        (0, "__name__=m value=1/"),
        (0, "Zone=a __name__=z value=2/"),
        (1, "Zone=b __name__=a value=30/"),
        (1, "__name__=m value=1.5/"),
        (1, "Zone=a __name__=z value=2.5/"),
        (2, "Zone=b __name__=a value=31/"),
    ]
    .map(|(second, row)| format!("time={} {row}", NOON + second * SECOND))
    .to_vec();
    for step in ["written", "flushed", "merged", "merged again"] {
        match step {
            "written" => {}
            "flushed" => drop(db.flush(FlushScope::All).unwrap()),
            _ => drop(db.compact(true).unwrap()),
        }
        let mut found = rows(&ask(&db, "metrics | limit 100", true).unwrap());
        // Without the bits of the values.
        found.iter_mut().for_each(|row| row.truncate(row.find('/').unwrap() + 1));
        assert_eq!(found, expected, "{step}");
    }
    let files = Manifest::decode(&disk.read("manifest").unwrap()).unwrap().blocks;
    assert_eq!(files.len(), 1);
}
