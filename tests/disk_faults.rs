//! A disk that refuses: a failing fsync, no space left at every byte, writes and reads that fail.
//!
//! Nothing acknowledged is lost, errors say what happened to which file, reads go on, and a full disk needs no restart
//! once there is space again. Not here: the power cut (`crash`), wrong bytes (`damage`), the real binary (`full_disk`).

use std::collections::BTreeSet;
use std::sync::Arc;

use waterclock::db::{Db, FlushScope, RefreshScope};

use crate::support::engine::{DATABASE, NOON, SECOND, ask, open, rows, run, small_config, write};
use crate::support::faulty_disk::{FaultyDisk, Loss};
use crate::support::manual_clock::ManualClock;

const MINUTE: i64 = 60 * SECOND;
const ROLLUP: &str = "create rollup minutes as cpu | every 1m count, sum(usage), max(usage) by region";
const BY_MINUTE: &str = "cpu | every 1m count, sum(usage), max(usage) by region";

fn line(minute: i64, usage: f64) -> String {
    format!("cpu,host=h{},region=eu usage={usage} {}\n", minute % 3, NOON + (minute - 600) * MINUTE)
}

fn points(db: &Db) -> Vec<String> {
    rows(&ask(db, "cpu | limit 100000", false).unwrap())
}

fn check_rollup(db: &Db, story: &str) {
    let through = ask(db, BY_MINUTE, true).unwrap();
    assert_eq!(rows(&through), rows(&ask(db, BY_MINUTE, false).unwrap()), "{story}");
}

#[test]
fn a_failed_fsync_refuses_writes_until_restart_and_loses_nothing() {
    let mut tried = 0;
    // The syncs of the third write are reached by some number; every one before is another place.
    for passing in 0.. {
        let disk = FaultyDisk::new();
        let clock = ManualClock::at(NOON);
        let db = open(&disk, &clock).unwrap();
        write(&db, &line(0, 1.0)).unwrap();
        let before = disk.syncs();
        disk.fail_sync_after(passing);
        let mut acknowledged = points(&db);
        let mut failed = None;
        for minute in 1..30 {
            match write(&db, &line(minute, 2.0)) {
                Ok(_) => acknowledged = points(&db),
                Err(error) => {
                    failed = Some((minute, error));
                    break;
                }
            }
        }
        let Some((minute, error)) = failed else {
            assert!(disk.syncs() - before <= passing);
            break;
        };
        tried += 1;
        assert!(error.to_string().starts_with("cannot sync disk:/wal/"), "{error}");
        assert_eq!(points(&db), acknowledged, "what failed cannot be read");
        let refused = write(&db, &line(40, 3.0)).unwrap_err().to_string();
        assert!(refused.starts_with("writes are refused since the fsync of disk:/wal/"), "{refused}");
        assert!(run(&db, "delete from cpu").is_err(), "a delete is a write");
        assert_eq!(points(&db), acknowledged, "reads go on");
        drop(db);
        for loss in [Loss::Lost, Loss::Kept] {
            let db = open(&disk.after_power_loss(0, loss), &clock).unwrap();
            let found = points(&db);
            assert!(acknowledged.iter().all(|point| found.contains(point)), "{loss:?}");
            assert!(
                found.len() <= acknowledged.len() + 1,
                "{loss:?}: only the failed write may be there, too"
            );
            write(&db, &line(minute, 4.0)).unwrap();
        }
    }
    assert!(tried > 20, "only {tried} syncs failed");
}

#[test]
fn a_failed_fsync_of_a_flush_or_a_merge_leaves_everything_readable() {
    let mut failures = 0;
    for passing in 0.. {
        let disk = FaultyDisk::new();
        let clock = ManualClock::at(NOON);
        let db = open(&disk, &clock).unwrap();
        (0..20).for_each(|minute| drop(write(&db, &line(minute, 1.0)).unwrap()));
        run(&db, ROLLUP).unwrap();
        db.refresh(&RefreshScope::default()).unwrap();
        db.flush(FlushScope::All).unwrap();
        write(&db, &line(3, 7.0)).unwrap();
        let expected = points(&db);
        let before = disk.syncs();
        disk.fail_sync_after(passing);
        let work = || {
            let flushed = db.flush(FlushScope::All).map(drop);
            let merged = db.compact(true).map(drop);
            let dropped = run(&db, "drop rollup minutes").map(drop);
            let created = run(&db, ROLLUP).map(drop);
            [flushed, merged, dropped, created].into_iter().filter(Result::is_err).count()
        };
        let failed = work();
        assert_eq!(points(&db), expected, "passing {passing}");
        check_rollup(&db, &format!("passing {passing}"));
        if disk.syncs() - before <= passing {
            assert_eq!(failed, 0, "nothing failed but {passing} syncs");
            break;
        }
        failures += 1;
        // Everything can be tried again.
        work();
        db.refresh(&RefreshScope::default()).unwrap();
        db.flush(FlushScope::All).unwrap();
        assert_eq!(points(&db), expected, "passing {passing}");
        check_rollup(&db, &format!("passing {passing}, tried again"));
        drop(db);
        for (seed, loss) in [(0, Loss::Lost), (passing, Loss::Reordered), (passing, Loss::Torn)] {
            let db = open(&disk.after_power_loss(seed, loss), &clock).unwrap();
            assert_eq!(points(&db), expected, "passing {passing}, {loss:?}");
            check_rollup(&db, &format!("passing {passing}, {loss:?}"));
        }
    }
    assert!(failures >= 8, "only {failures} syncs failed");
}

#[test]
fn every_failing_write_is_named_and_can_be_tried_again() {
    let (mut failures, mut met) = (0, BTreeSet::new());
    for passing in 0.. {
        let disk = FaultyDisk::new();
        let clock = ManualClock::at(NOON);
        let db = open(&disk, &clock).unwrap();
        much_in_blocks(&db);
        let before = disk.writes();
        disk.fail_write_after(passing);
        let mut expected = points(&db);
        for minute in [3, 4] {
            match write(&db, &line(minute, 5.0)) {
                Ok(_) => expected = points(&db),
                Err(error) => {
                    assert!(error.to_string().contains(" disk:/wal/"), "passing {passing}: {error}");
                    met.insert("write");
                }
            }
        }
        type Work<'a> = (&'static str, &'a dyn Fn() -> waterclock::error::Result<()>);
        let work: [Work<'_>; 4] = [
            ("flush", &|| db.flush(FlushScope::All).map(drop)),
            ("compact", &|| db.compact(true).map(drop)),
            ("drop", &|| run(&db, "drop rollup minutes").map(drop)),
            ("create", &|| run(&db, ROLLUP).map(drop)),
        ];
        for (what, work) in work {
            if let Err(error) = work() {
                let text = error.to_string();
                assert!(text.contains(" disk:/"), "passing {passing}, {what}: {text}");
                met.insert(what);
                work().unwrap_or_else(|error| panic!("passing {passing}, {what} again: {error}"));
            }
        }
        let story = format!("passing {passing}");
        assert_eq!(points(&db), expected, "{story}: what was refused is not there, the rest is");
        check_rollup(&db, &story);
        if disk.writes() - before <= passing {
            break;
        }
        failures += 1;
        db.refresh(&RefreshScope::default()).unwrap();
        db.flush(FlushScope::All).unwrap();
        drop(db);
        for loss in [Loss::Lost, Loss::Torn, Loss::Reordered] {
            let db = open(&disk.after_power_loss(passing, loss), &clock).unwrap();
            assert_eq!(points(&db), expected, "{story}, {loss:?}");
            check_rollup(&db, &format!("{story}, {loss:?}"));
        }
    }
    assert!(failures > 15, "only {failures} writes failed");
    let all = ["write", "flush", "compact", "drop", "create"];
    assert!(all.iter().all(|what| met.contains(what)), "writes failed only in {met:?}");
}

#[test]
fn a_full_disk_loses_nothing_and_needs_no_restart() {
    let mut met = 0;
    for bytes in (0..).step_by(97) {
        let disk = FaultyDisk::new();
        let clock = ManualClock::at(NOON);
        let db = open(&disk, &clock).unwrap();
        write(&db, &line(0, 1.0)).unwrap();
        run(&db, ROLLUP).unwrap();
        disk.full_after(bytes);
        let mut full = 0;
        let mut acknowledged = points(&db);
        for minute in 1..40 {
            match write(&db, &line(minute % 20, minute as f64)) {
                Ok(_) => acknowledged = points(&db),
                Err(error) => {
                    full += 1;
                    assert!(error.is_disk_full(), "{error}");
                    assert!(error.to_string().contains("the disk is full"), "{error}");
                }
            }
            if minute % 10 == 0 {
                db.refresh(&RefreshScope::default()).unwrap();
                if let Err(error) = db.flush(FlushScope::All) {
                    full += 1;
                    assert!(error.is_disk_full(), "{error}");
                }
            }
            if minute == 35
                && let Err(error) = db.compact(true)
            {
                full += 1;
                assert!(error.is_disk_full(), "{error}");
            }
            assert_eq!(points(&db), acknowledged, "{bytes} bytes, minute {minute}");
        }
        check_rollup(&db, &format!("{bytes} bytes"));
        for (seed, loss) in [(0, Loss::Lost), (bytes as u64, Loss::Torn), (bytes as u64, Loss::Reordered)] {
            let story = format!("{bytes} bytes, {loss:?}");
            let db = open(&disk.after_power_loss(seed, loss), &clock).unwrap();
            assert_eq!(points(&db), acknowledged, "{story}");
            check_rollup(&db, &story);
        }
        disk.free_space();
        write(&db, &line(50, 9.0)).expect("there is space again");
        // The first call takes what an earlier one had to leave.
        db.flush(FlushScope::All).unwrap();
        db.flush(FlushScope::All).unwrap();
        db.compact(true).unwrap();
        let after = points(&db);
        assert_eq!(after.len(), acknowledged.len() + 1);
        check_rollup(&db, &format!("{bytes} bytes, then freed"));
        drop(db);
        let db = open(&disk.after_power_loss(0, Loss::Lost), &clock).unwrap();
        assert_eq!(points(&db), after, "{bytes} bytes, then freed, then restarted");
        check_rollup(&db, &format!("{bytes} bytes, then freed, then restarted"));
        if full == 0 {
            break;
        }
        met += 1;
    }
    assert!(met > 50, "the disk was full at only {met} places");
}

/// The manifest cannot say that an altered rollup has taken its place: it is tried again, not computed again and again.
#[test]
fn an_alteration_that_cannot_be_committed_ends_the_refresh_and_is_tried_again() {
    let disk = FaultyDisk::new();
    let db = open(&disk, &ManualClock::at(NOON)).unwrap();
    write(&db, &format!("{}\n{}", line(-120, 1.0), line(-10, 2.0))).unwrap();
    run(&db, "create rollup minutes as cpu | every 1m count, sum(usage) by host").unwrap();
    db.refresh(&RefreshScope::default()).unwrap();
    run(&db, "alter rollup minutes add max(usage)").unwrap();
    disk.full_after(0);
    // All of its successor is computed, in memory, before the disk is needed.
    let error = (0..3).find_map(|_| db.refresh(&RefreshScope::default()).err()).unwrap();
    assert!(error.to_string().contains("space"), "{error}");
    assert!(db.refresh(&RefreshScope::default()).is_err());
    let dirty: Vec<u64> = db.rollups(DATABASE).iter().map(|rollup| rollup.dirty_buckets).collect();
    assert_eq!(dirty, [0], "nobody has written anything");
    disk.free_space();
    db.refresh(&RefreshScope::default()).unwrap();
    let [minutes] = db.rollups(DATABASE).try_into().unwrap();
    assert!(minutes.definition.contains("max(usage)") && minutes.rebuilt.is_none(), "{minutes:?}");
    check_rollup(&db, "after it was committed");
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_hides_no_other_table() {
    let disk = FaultyDisk::new();
    let clock = ManualClock::at(NOON);
    let db = open(&disk, &clock).unwrap();
    write(&db, &line(0, 1.0)).unwrap();
    write(&db, &format!("mem,host=a used=1i {NOON}")).unwrap();
    db.flush(FlushScope::All).unwrap();
    drop(db);
    let db = open(&disk, &clock).unwrap();
    disk.fail_reads_of("/cpu/");
    let error = ask(&db, "cpu | limit 10", true).err().unwrap().to_string();
    let [file] = disk.files_with("/cpu/").try_into().unwrap();
    assert!(error.contains(&file), "{error} names {file}");
    assert_eq!(ask(&db, "mem | limit 10", true).unwrap().rows(), 1);
    write(&db, &line(1, 2.0)).expect("a file that cannot be read stops no write");
    let error = db.compact(true).map(drop);
    assert!(error.is_ok(), "one file is nothing to merge: {error:?}");
    disk.mend_reads();
    assert_eq!(points(&db).len(), 2);
}

#[test]
fn a_log_that_cannot_be_read_stops_the_start_and_is_named() {
    let disk = FaultyDisk::new();
    let clock = ManualClock::at(NOON);
    write(&open(&disk, &clock).unwrap(), &line(0, 1.0)).unwrap();
    disk.fail_reads_of("wal/");
    let error = open(&disk, &clock).err().unwrap().to_string();
    assert!(error.starts_with("cannot read disk:/wal/"), "{error}");
    disk.mend_reads();
    assert_eq!(points(&open(&disk, &clock).unwrap()).len(), 1);
}

/// Points of two tables in blocks of several days, states in blocks, and some of both only in memory.
fn much_in_blocks(db: &Db) {
    let day = 24 * 60;
    for minute in [0, 1, 2, day, day + 1, 2 * day] {
        write(db, &line(minute, 1.0)).unwrap();
    }
    write(db, &format!("mem,host=a used=1i {NOON}")).unwrap();
    run(db, ROLLUP).unwrap();
    db.refresh(&RefreshScope::default()).unwrap();
    db.flush(FlushScope::All).unwrap();
    // Late ones, so that there is something to merge and to compute again.
    for minute in [1, day + 2, 2 * day] {
        write(db, &line(minute, 2.0)).unwrap();
    }
    write(db, &format!("mem,host=b used=2i {NOON}")).unwrap();
    db.flush(FlushScope::All).unwrap();
    write(db, &line(2, 3.0)).unwrap();
}

#[test]
fn every_failing_read_is_named_and_harms_nothing() {
    let (mut failures, mut met) = (0, BTreeSet::new());
    for passing in 0.. {
        let disk = FaultyDisk::new();
        let clock = ManualClock::at(NOON);
        let db = open(&disk, &clock).unwrap();
        much_in_blocks(&db);
        let expected = points(&db);
        drop(db);
        // So that each step reads for itself.
        let mut config = small_config();
        config.limits.page_cache_bytes_max = 0;
        let db = Db::open(Arc::new(disk.clone()), Arc::new(clock.clone()), config).unwrap();
        let before = disk.reads();
        disk.fail_read_after(passing);
        type Work<'a> = (&'static str, &'a dyn Fn() -> waterclock::error::Result<()>);
        let work: [Work<'_>; 6] = [
            ("query", &|| ask(&db, "cpu | limit 100000", false).map(drop)),
            ("rollup", &|| ask(&db, BY_MINUTE, true).map(drop)),
            ("refresh", &|| db.refresh(&RefreshScope::default()).map(drop)),
            ("flush", &|| db.flush(FlushScope::All).map(drop)),
            ("compact", &|| db.compact(true).map(drop)),
            ("again", &|| ask(&db, BY_MINUTE, true).map(drop)),
        ];
        for (what, work) in work {
            if let Err(error) = work() {
                let text = error.to_string();
                assert!(text.contains(" disk:/blocks/default/"), "passing {passing}, {what}: {text}");
                assert!(text.contains("Input/output error"), "passing {passing}, {what}: {text}");
                met.insert(what);
            }
        }
        let story = format!("passing {passing}");
        if disk.reads() - before <= passing {
            break;
        }
        failures += 1;
        write(&db, &format!("mem,host=a used=3i {NOON}")).expect("a read that failed stops no write");
        assert_eq!(points(&db), expected, "{story}");
        check_rollup(&db, &story);
        // What failed can be done now.
        db.refresh(&RefreshScope::default()).unwrap();
        db.flush(FlushScope::All).unwrap();
        db.compact(true).unwrap();
        assert_eq!(points(&db), expected, "{story}, tried again");
        check_rollup(&db, &format!("{story}, tried again"));
        drop(db);
        let db = open(&disk.after_power_loss(passing, Loss::Torn), &clock).unwrap();
        assert_eq!(points(&db), expected, "{story}, restarted");
        check_rollup(&db, &format!("{story}, restarted"));
    }
    assert!(failures > 40, "only {failures} reads failed");
    for what in ["query", "rollup", "refresh", "compact"] {
        assert!(met.contains(what), "no read failed in {what}: {met:?}");
    }
}

#[test]
fn a_file_that_stays_unreadable_keeps_its_place_and_no_other_table_from_being_merged() {
    let disk = FaultyDisk::new();
    let clock = ManualClock::at(NOON);
    let db = open(&disk, &clock).unwrap();
    much_in_blocks(&db);
    let expected = points(&db);
    drop(db);
    let db = open(&disk, &clock).unwrap();
    disk.fail_reads_of("blocks/default/cpu/");
    let of_table = |table: &str| disk.files_with(&format!("blocks/default/{table}/"));
    let (cpu, mem) = (of_table("cpu"), of_table("mem"));
    assert!(cpu.len() > 1 && mem.len() > 1, "there is something to merge in both");
    for _ in 0..2 {
        let error = db.compact(true).unwrap_err().to_string();
        assert!(cpu.iter().any(|file| error.contains(file.as_str())), "{error} names one of {cpu:?}");
        assert_eq!(
            of_table("cpu"),
            cpu,
            "nothing of what cannot be read goes away, and no half of a merge stays"
        );
    }
    assert_eq!(of_table("mem").len(), 1);
    assert_eq!(ask(&db, "mem | limit 10", true).unwrap().rows(), 2);
    disk.mend_reads();
    db.compact(true).unwrap();
    assert_eq!(points(&db), expected);
    check_rollup(&db, "mended");
    assert!(of_table("cpu").len() < cpu.len());
}
