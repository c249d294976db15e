//! What compaction must have done when it is done: one file per window, deletes applied and forgotten.
//!
//! Not here: which points are right (`random`), crashes in the middle of it (`crash`).

use storage_format::manifest::Manifest;
use waterclock::db::FlushScope;

use crate::support::engine::{NOON, SECOND, ask, open, rows, run, write};
use crate::support::faulty_disk::FaultyDisk;
use crate::support::manual_clock::ManualClock;

const DAY: i64 = 86_400 * SECOND;

#[test]
fn a_delete_over_several_days_is_applied_once_and_forgotten() {
    let disk = FaultyDisk::new();
    let db = open(&disk, &ManualClock::at(NOON)).unwrap();
    for day in 0..4 {
        let time = NOON - day * DAY;
        write(&db, &format!("cpu,host=a n={day}i {time}\ncpu,host=b n={day}i {time}")).unwrap();
    }
    db.flush(FlushScope::All).unwrap();
    run(&db, "delete from cpu{host=\"a\"}").unwrap();
    assert_eq!(db.compact(true).unwrap(), 4);
    assert_eq!(db.compact(true).unwrap(), 0, "there is nothing left to do");
    let manifest = Manifest::decode(&disk.read("manifest")).unwrap();
    assert_eq!(manifest.tombstones, []);
    assert_eq!(manifest.blocks.len(), 4);
    // Points written after the delete are not its business, wherever they are.
    write(&db, &format!("cpu,host=a n=9i {NOON}")).unwrap();
    db.flush(FlushScope::All).unwrap();
    assert_eq!(db.compact(true).unwrap(), 1);
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
