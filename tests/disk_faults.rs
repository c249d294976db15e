//! A disk that refuses: a failing fsync, no space left at every byte, files that cannot be read, clocks that jump.
//!
//! Nothing acknowledged is lost, errors say what happened to which file, reads go on, and a full disk needs no restart
//! once there is space again. Not here: the power cut (`crash`), wrong bytes (`damage`).

use waterclock::db::{Db, FlushScope, RefreshScope};

use crate::support::engine::{NOON, SECOND, ask, open, rows, run, write};
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

#[test]
fn a_clock_that_jumps_loses_nothing_and_changes_no_answer() {
    let disk = FaultyDisk::new();
    let clock = ManualClock::at(NOON);
    let db = open(&disk, &clock).unwrap();
    write(&db, &line(0, 1.0)).unwrap();
    run(&db, ROLLUP).unwrap();
    let day = 86_400 * SECOND;
    let jumps = [0, -day, 400 * day, -60 * 365 * day, 1, -NOON, i64::MAX - NOON, i64::MIN, 5 * day];
    for (number, jump) in jumps.into_iter().enumerate() {
        clock.set(NOON.wrapping_add(jump));
        write(&db, &line(number as i64, 2.0)).unwrap();
        db.refresh(&RefreshScope::default()).unwrap();
        db.flush(FlushScope::Due).unwrap();
        db.compact(false).unwrap();
        check_rollup(&db, &format!("after a jump of {jump}"));
        assert_eq!(points(&db).len(), number + 1, "after a jump of {jump}");
    }
    let expected = points(&db);
    drop(db);
    assert_eq!(points(&open(&disk.after_power_loss(0, Loss::Lost), &clock).unwrap()), expected);
}
