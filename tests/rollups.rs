//! Rollups where several things happen at once, and those that a start cannot restore.
//!
//! What one thing after another does to them is in `random`, and in the scripts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use storage_format::manifest::Manifest;
use waterclock::db::{Db, FlushScope, MANIFEST, RefreshScope, RollupState, write_manifest};
use waterclock::disk::{Disk, LocalDisk};

use crate::support::engine::{DATABASE, NOON, SECOND, ask, rows, run, small_config, write};
use crate::support::manual_clock::ManualClock;

const MINUTE: i64 = 60 * SECOND;
const HOURS: i64 = 3;

fn open(folder: &tempfile::TempDir) -> Db {
    let disk = Arc::new(LocalDisk::open(folder.path()).unwrap());
    Db::open(disk, Arc::new(ManualClock::at(NOON)), small_config()).unwrap()
}

fn scope(name: &str) -> RefreshScope {
    RefreshScope { rollup: Some((DATABASE.to_string(), name.to_string())), within: None }
}

/// The same with and without rollups.
fn assert_same(db: &Db, statement: &str) {
    let [with, without] = [true, false].map(|rollups| rows(&ask(db, statement, rollups).unwrap()));
    assert_eq!(with, without, "{statement}");
}

/// G1, G2: two refreshes of one rollup at once, and one of another. G3, G4: writers and readers beside them lose nothing and go
/// on. G6: levels that are refreshed out of step.
#[test]
fn refreshes_writers_readers_and_alterations_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder);
    write(&db, &format!("cpu,host=a v=1,n=1i {}\n", NOON - HOURS * 60 * MINUTE)).unwrap();
    run(&db, "create rollup minutes as cpu | every 1m count, sum(v), increase(n) by host").unwrap();
    run(&db, "create rollup hours as minutes | every 1h sum(v), increase(n) by host").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let refresh = |name: &'static str| {
            let (db, done) = (&db, &done);
            move || {
                while !done.load(Ordering::Relaxed) {
                    db.refresh(&scope(name)).unwrap();
                }
            }
        };
        // Two of one rollup, one of the other.
        threads.spawn(refresh("minutes"));
        threads.spawn(refresh("minutes"));
        threads.spawn(refresh("hours"));
        threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert!(ask(&db, "cpu | every 1h sum(v), increase(n) by host", true).is_ok());
                db.flush(FlushScope::All).unwrap();
                // It may be altered still.
                drop(run(&db, "alter rollup minutes add max(v)"));
                drop(run(&db, "alter rollup minutes drop max(v)"));
            }
        });
        for round in 0..60i64 {
            let late = NOON - (round * 7_919 % (HOURS * 60)) * MINUTE - round;
            let host = if round % 3 == 0 { "a" } else { "b" };
            write(&db, &format!("cpu,host={host} v={round},n={round}i {late}\n")).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    for statement in [
        "cpu | every 1m count, sum(v), increase(n) by host",
        "cpu | every 1h sum(v), increase(n) by host",
        "cpu | count, sum(v) by ()",
    ] {
        assert_same(&db, statement);
    }
    db.refresh(&RefreshScope::default()).unwrap();
    assert_same(&db, "cpu | every 1h sum(v), increase(n) by host");
    let check = db.check_rollup(DATABASE, "minutes", &mut |_, _| {}).unwrap();
    assert!(check.states > 0 && check.differing == 0, "{check:?}");
}

/// G7: two made at once both see every later write.
#[test]
fn two_made_at_once_see_every_later_write() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder);
    write(&db, &format!("cpu,host=a v=1 {}\n", NOON - HOURS * 60 * MINUTE)).unwrap();
    for round in 0..10i64 {
        std::thread::scope(|threads| {
            threads.spawn(|| run(&db, "create rollup one as cpu | every 1m sum(v) by host").unwrap());
            threads.spawn(|| run(&db, "create rollup two as cpu | every 10m max(v) by ()").unwrap());
            for point in 0..20 {
                let late = NOON - (round * 20 + point) * 7 % (HOURS * 60) * MINUTE;
                write(&db, &format!("cpu,host=a v={point} {late}\n")).unwrap();
                if point % 5 == 0 {
                    db.refresh(&RefreshScope::default()).unwrap();
                }
            }
        });
        for name in ["one", "two"] {
            assert_same(&db, name);
            db.refresh(&scope(name)).unwrap();
            assert_same(&db, name);
            let check = db.check_rollup(DATABASE, name, &mut |_, _| {}).unwrap();
            assert!(check.states > 0 && check.differing == 0, "{check:?}");
            run(&db, &format!("drop rollup {name}")).unwrap();
        }
    }
}

/// G8: a refresh ends with its rollup, and leaves nothing of it.
#[test]
fn one_dropped_while_it_is_refreshed_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder);
    for minute in 0..HOURS * 60 {
        write(&db, &format!("cpu,host=a v={minute} {}\n", NOON - minute * MINUTE)).unwrap();
    }
    for _ in 0..10 {
        run(&db, "create rollup minutes as cpu | every 1s sum(v) by host").unwrap();
        std::thread::scope(|threads| {
            // It ends with the rollup, or says that there is none.
            threads.spawn(|| drop(db.refresh(&scope("minutes"))));
            run(&db, "drop rollup minutes").unwrap();
        });
        assert!(db.rollups(DATABASE).is_empty());
        assert_same(&db, "cpu | every 1m sum(v) by host");
    }
}

#[test]
fn one_that_cannot_be_restored_is_set_aside_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder);
    write(&db, &format!("cpu,host=a v=1 {}\n", NOON - MINUTE)).unwrap();
    run(&db, "create rollup good as cpu | every 1m sum(v) by host").unwrap();
    run(&db, "create rollup bad as cpu | every 1m max(v) by host").unwrap();
    db.refresh(&RefreshScope::default()).unwrap();
    db.flush(FlushScope::All).unwrap();
    drop(db);
    let disk = LocalDisk::open(folder.path()).unwrap();
    let mut manifest = Manifest::decode(&disk.read(MANIFEST).unwrap()).unwrap();
    let bad = manifest.rollups.iter_mut().find(|entry| entry.name == "bad").unwrap();
    bad.definition = bad.definition.replace("max(v)", "max(gone)");
    write_manifest(&disk, &manifest).unwrap();
    drop(disk);
    // Also over a commit and another start.
    for _ in 0..2 {
        let db = open(&folder);
        let [good, bad] = db.rollups(DATABASE).try_into().unwrap();
        assert_eq!((good.name.as_str(), bad.name.as_str()), ("good", "bad"));
        assert!(good.state != RollupState::SetAside && bad.state == RollupState::SetAside);
        let why = bad.last_error.unwrap();
        assert!(why.contains("gone is not a field"), "{why}");
        assert_same(&db, "cpu | every 1m sum(v), max(v) by host");
        write(&db, &format!("cpu,host=b v=2 {}\n", NOON - MINUTE)).unwrap();
        db.flush(FlushScope::All).unwrap();
    }
    let db = open(&folder);
    let error = run(&db, "create rollup bad as cpu | every 1m max(v) by host").err().unwrap();
    assert!(error.to_string().contains("there is a rollup bad already"), "{error}");
    run(&db, "drop rollup bad").unwrap();
    assert_eq!(db.rollups(DATABASE).len(), 1);
    run(&db, "create rollup bad as cpu | every 1m max(v) by host").unwrap();
    db.refresh(&RefreshScope::default()).unwrap();
    assert_same(&db, "cpu | every 1m max(v) by host");
}
