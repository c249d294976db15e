//! Backup and restore: the same points, at one moment, whatever goes on meanwhile and wherever it is cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use waterclock::backup::{Done, offline, online, restore};
use waterclock::check::{Options, check};
use waterclock::clock::Clock;
use waterclock::db::{Db, FlushScope, RefreshScope};
use waterclock::disk::{Disk, LocalDisk, ReadOnly};
use waterclock::error::Result;

use crate::damage::{BY_MINUTE, clock};
use crate::support::engine::{NOON, SECOND, ask, open, rows, run, write};
use crate::support::faulty_disk::{FaultyDisk, Loss};

fn back_up(db: &Db, target: &FaultyDisk) -> Result<Done> {
    online(db, target, &mut |_, _| Ok(()))
}

/// A copy, so that looking at a backup does not make it a folder with data of its own.
fn look(target: &FaultyDisk) -> FaultyDisk {
    target.after_power_loss(0, Loss::Kept)
}

fn answers(db: &Db) -> Vec<Vec<String>> {
    ["cpu | limit 10000", "mem | limit 10000", BY_MINUTE]
        .map(|query| rows(&ask(db, query, true).unwrap()))
        .to_vec()
}

fn assert_sound(disk: &FaultyDisk) {
    let clock: Arc<dyn Clock> = Arc::new(clock());
    let dynamic: Arc<dyn Disk> = Arc::new(disk.clone());
    let report = check(&dynamic, &clock, &Options { rollups: true }, &mut |_, _, _| {}).unwrap();
    assert!(report.is_sound(), "{:?}", report.damage);
}

/// Some blocks, a rollup with a dirty bucket, a standing delete, and points that only the log has.
fn filled(disk: &FaultyDisk) -> Db {
    let db = open(disk, &clock()).unwrap();
    for minute in 0..30 {
        let time = NOON - (60 - minute) * 60 * SECOND;
        write(
            &db,
            &format!(
                "cpu,host=a,region=eu n={minute}i,usage={minute}.5 {time}\nmem,host=a used={minute}i {time}"
            ),
        )
        .unwrap();
    }
    run(&db, "create rollup minutes as cpu | every 1m count, sum(usage), max(n) by region").unwrap();
    db.refresh(&RefreshScope::default()).unwrap();
    db.flush(FlushScope::All).unwrap();
    write(&db, &format!("cpu,host=b,region=eu n=1i,usage=2 {}", NOON - 50 * 60 * SECOND)).unwrap();
    run(&db, "delete from mem between 2026-01-01T11:10:00Z and 2026-01-01T11:12:00Z").unwrap();
    write(&db, &format!("cpu,host=c,region=us n=1i,usage=2 {NOON}\nmem,host=b used=1i {NOON}")).unwrap();
    db
}

#[test]
fn a_backup_answers_like_its_source_and_the_next_one_copies_what_is_new() {
    let (disk, target) = (FaultyDisk::new(), FaultyDisk::new());
    let db = filled(&disk);
    let first = back_up(&db, &target).unwrap();
    assert_eq!((first.blocks, first.copied, first.kept, first.removed), (3, 3, 0, 0));
    assert_sound(&target);
    assert_eq!(answers(&open(&look(&target), &clock()).unwrap()), answers(&db));

    let again = back_up(&db, &target).unwrap();
    assert_eq!((again.copied, again.kept, again.copied_bytes), (0, 3, again.log_bytes));

    db.flush(FlushScope::All).unwrap();
    db.compact(true).unwrap();
    write(&db, &format!("cpu,host=c,region=us n=2i,usage=3 {NOON}")).unwrap();
    let later = back_up(&db, &target).unwrap();
    assert!(later.copied > 0 && later.removed > 0, "{later:?}");
    assert_sound(&target);
    assert_eq!(answers(&open(&look(&target), &clock()).unwrap()), answers(&db));
    let blocks = |disk: &FaultyDisk| disk.files_with("blocks/");
    assert_eq!(blocks(&target), blocks(&disk));
}

/// Writers, flushes, merges and refreshes go on; a backup is the state at one sequence, and all that was acknowledged before
/// is in it.
#[test]
fn a_backup_of_a_busy_database_is_one_moment() {
    let disk = FaultyDisk::new();
    let db = open(&disk, &clock()).unwrap();
    write(&db, &format!("cpu,host=h1 n=1i {}", NOON - 86_400 * SECOND)).unwrap();
    run(&db, "create rollup sums as cpu | every 1m count, sum(n) by host").unwrap();
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicI64::new(1));
    let target = FaultyDisk::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 2.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                // All over the day, so that merges are due.
                let time = NOON - 86_400 * SECOND + number % 11 * 7_200 * SECOND + number * SECOND;
                write(&db, &format!("cpu,host=h{} n={number}i {time}", number % 3)).unwrap();
                acknowledged.store(number, Ordering::Relaxed);
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                db.flush(FlushScope::All).unwrap();
                db.compact(true).unwrap();
                let _ = db.refresh_step(&RefreshScope::default());
            }
        });
        let mut newest = 0;
        for _ in 0..25 {
            let before = acknowledged.load(Ordering::Relaxed);
            back_up(&db, &target).unwrap();
            let copy = look(&target);
            assert_sound(&copy);
            let of_copy = open(&copy, &clock()).unwrap();
            let points = ask(&of_copy, "cpu | count by ()", false).unwrap();
            let count: i64 =
                rows(&points).first().and_then(|row| row.rsplit('=').next()?.parse().ok()).unwrap_or(0);
            let highest = ask(&of_copy, "cpu | max(n) by ()", false).unwrap();
            let highest: i64 =
                rows(&highest).first().and_then(|row| row.rsplit('=').next()?.parse().ok()).unwrap_or(0);
            assert_eq!(count, highest, "a prefix of the writes, without holes");
            assert!(count >= before && count >= newest, "{count} of {before} acknowledged");
            newest = count;
            let sums =
                |rollups| rows(&ask(&of_copy, "cpu | every 1m count, sum(n) by host", rollups).unwrap());
            assert_eq!(sums(true), sums(false));
        }
        stop.store(true, Ordering::Relaxed);
        assert!(newest > 25, "only {newest} points were written meanwhile");
    });
    // What the backups held is let go of.
    db.flush(FlushScope::All).unwrap();
    db.compact(true).unwrap();
    let named = storage_format::manifest::Manifest::decode(&disk.read("manifest")).unwrap().blocks.len();
    assert_eq!(disk.files_with(".parquet").len(), named);
}

#[test]
fn a_backup_cut_off_anywhere_leaves_the_one_before_or_this_one() {
    let disk = FaultyDisk::new();
    let db = filled(&disk);
    let earlier = FaultyDisk::new();
    back_up(&db, &earlier).unwrap();
    let before = answers(&db);
    write(&db, &format!("cpu,host=d,region=us n=7i,usage=3 {NOON}\nmem,host=z used=1i {NOON}")).unwrap();
    db.flush(FlushScope::All).unwrap();
    db.compact(true).unwrap();
    write(&db, &format!("cpu,host=e,region=us n=7i,usage=3 {NOON}")).unwrap();
    let after = answers(&db);
    assert_ne!(before, after);
    let (mut old, mut new) = (0, 0);
    for operations in 0..400 {
        let target = earlier.after_power_loss(0, Loss::Kept);
        target.crash_in(operations);
        let outcome = back_up(&db, &target);
        for loss in [Loss::Kept, Loss::Lost, Loss::Torn, Loss::Reordered] {
            let left = target.after_power_loss(operations, loss);
            let found = answers(&open(&look(&left), &clock()).unwrap());
            old += usize::from(found == before);
            new += usize::from(found == after);
            assert!(found == before || found == after, "{operations}, {loss:?}");
            // And the next one goes through.
            back_up(&db, &left).unwrap();
            assert_sound(&left);
            assert_eq!(answers(&open(&look(&left), &clock()).unwrap()), after, "{operations}, {loss:?}");
        }
        if outcome.is_ok() {
            assert!(old > 50 && new > 5, "{old} {new}");
            return;
        }
    }
    panic!("the backup never came to its end");
}

/// A client that goes away ends the backup: nothing is held any longer, and the backup before is there.
#[test]
fn a_cancelled_backup_lets_go_of_everything() {
    let (disk, target) = (FaultyDisk::new(), FaultyDisk::new());
    let db = filled(&disk);
    back_up(&db, &target).unwrap();
    let before = answers(&db);
    write(&db, &format!("cpu,host=d,region=us n=7i,usage=3 {NOON}")).unwrap();
    let mut steps = 0;
    let cancelled = online(&db, &target, &mut |_, _| {
        steps += 1;
        match steps {
            3 => {
                // Meanwhile blocks are replaced, and stay.
                db.flush(FlushScope::All).unwrap();
                db.compact(true).unwrap();
                Err(waterclock::error::Error::invalid("gone", "the client went away"))
            }
            _ => Ok(()),
        }
    });
    assert!(cancelled.unwrap_err().to_string().contains("went away"));
    assert_eq!(answers(&open(&look(&target), &clock()).unwrap()), before);
    let named = storage_format::manifest::Manifest::decode(&disk.read("manifest")).unwrap().blocks.len();
    assert_eq!(disk.files_with(".parquet").len(), named);
}

/// The first backup has nothing to leave; what is there of it is taken up by the next try.
#[test]
fn a_first_backup_cut_off_anywhere_can_be_tried_again() {
    let disk = FaultyDisk::new();
    let db = filled(&disk);
    for operations in 0.. {
        let target = FaultyDisk::new();
        target.crash_in(operations);
        let outcome = back_up(&db, &target);
        let left = target.after_power_loss(operations, Loss::Torn);
        back_up(&db, &left).unwrap();
        assert_eq!(answers(&open(&look(&left), &clock()).unwrap()), answers(&db), "{operations}");
        if outcome.is_ok() {
            return;
        }
    }
}

#[test]
fn folders_that_are_no_backups_of_this_database_are_refused() {
    let disk = FaultyDisk::new();
    let db = filled(&disk);
    let refused = |target: &FaultyDisk| {
        let before = target.contents();
        let error = back_up(&db, target).expect_err("it is no backup of this").to_string();
        assert!(target.contents() == before);
        error
    };
    let foreign = FaultyDisk::new();
    foreign.put("holiday.jpg", b"...".to_vec());
    assert!(refused(&foreign).contains("is no backup"));
    // Data of its own.
    let other = FaultyDisk::new();
    drop(filled(&other));
    assert!(refused(&other).contains("is no backup"));
    // A backup that a server has been started on.
    let started = FaultyDisk::new();
    back_up(&db, &started).unwrap();
    drop(open(&started, &clock()).unwrap());
    assert!(refused(&started).contains("has been started on it"));
    // A backup of another database: blocks of the same names.
    let mixed = FaultyDisk::new();
    let third = FaultyDisk::new();
    let of_third = open(&third, &clock()).unwrap();
    for minute in 0..30 {
        let time = NOON - (60 - minute) * 60 * SECOND;
        write(&of_third, &format!("cpu,host=a,region=eu n={minute}i,usage={minute}.25 {time}")).unwrap();
    }
    of_third.flush(FlushScope::All).unwrap();
    back_up(&of_third, &mixed).unwrap();
    let error = back_up(&db, &mixed).unwrap_err().to_string();
    assert!(error.contains("the backup of another database"), "{error}");
    assert_eq!(
        rows(&ask(&open(&look(&mixed), &clock()).unwrap(), "cpu | limit 99", false).unwrap()).len(),
        30
    );
}

#[test]
fn offline_backups_and_restores_are_the_same_data() {
    let disk = FaultyDisk::new();
    let db = filled(&disk);
    let expected = answers(&db);
    drop(db);
    let target = FaultyDisk::new();
    let source = ReadOnly::new(Arc::new(disk.clone()));
    let before = disk.contents();
    offline(&source, &target, &mut |_, _| Ok(())).unwrap();
    assert!(disk.contents() == before);
    assert_eq!(answers(&open(&look(&target), &clock()).unwrap()), expected);

    let clock_of_check: Arc<dyn Clock> = Arc::new(clock());
    let restored = FaultyDisk::new();
    let dynamic: Arc<dyn Disk> = Arc::new(restored.clone());
    let into = |dynamic: &Arc<dyn Disk>| {
        restore(&target, dynamic, &clock_of_check, &mut |_, _| Ok(()), &mut |_, _, _| {})
    };
    let (done, report) = into(&dynamic).unwrap();
    assert!(done.blocks == 3 && report.is_sound(), "{:?}", report.damage);
    assert!(!restored.files().iter().any(|file| file == "backup" || file.starts_with("wal-")));
    let db = open(&restored, &clock()).unwrap();
    assert_eq!(answers(&db), expected);
    write(&db, &format!("cpu,host=z n=1i {NOON}")).unwrap();
    drop(db);
    let error = into(&dynamic).unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");

    // A backup of a backup, and a damaged one.
    let second = FaultyDisk::new();
    offline(&target, &second, &mut |_, _| Ok(())).unwrap();
    assert_eq!(answers(&open(&look(&second), &clock()).unwrap()), expected);
    let block = target.files_with("/cpu/")[0].clone();
    target.edit(&block, |bytes| bytes[100] ^= 1);
    let empty: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    assert!(!into(&empty).unwrap().1.is_sound());
}

#[test]
fn blocks_are_linked_where_that_can_be() {
    use std::os::unix::fs::MetadataExt;
    let [source, target] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let disk = Arc::new(LocalDisk::open(source.path()).unwrap());
    let db = Db::open(disk, Arc::new(clock()), crate::support::engine::small_config()).unwrap();
    write(&db, &format!("cpu,host=a n=1i {NOON}")).unwrap();
    db.flush(FlushScope::All).unwrap();
    let to = LocalDisk::open(target.path()).unwrap();
    let done = online(&db, &to, &mut |_, _| Ok(())).unwrap();
    assert_eq!((done.linked, done.copied), (1, 0));
    let inodes = [source.path(), target.path()].map(|folder| {
        let folder = folder.join("blocks/default/cpu");
        std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().metadata().unwrap().ino()
    });
    assert_eq!(inodes[0], inodes[1]);
    assert_eq!(online(&db, &to, &mut |_, _| Ok(())).unwrap().kept, 1);
}

mod binary {
    //! The commands and the door.

    use std::path::Path;
    use std::process::Command;

    use crate::support::server::{Server, folder};

    fn waterclock(args: &[&str]) -> (Option<i32>, String, String) {
        let output =
            Command::new(env!("CARGO_BIN_EXE_waterclock")).args(args).output().expect("the binary starts");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    fn text(path: &Path) -> &str {
        path.to_str().unwrap()
    }

    #[test]
    fn a_running_server_is_backed_up_restored_and_goes_on() {
        let folder = folder();
        let [data, copy, second, back] =
            ["data", "copy", "second", "back"].map(|name| folder.path().join(name));
        let server = Server::start(&data, &[]);
        let lines = "cpu,host=a n=1i 1767225600\ncpu,host=b n=2i 1767225660\n";
        assert_eq!(server.post("/write?db=default&precision=s", lines.as_bytes()).status, 204);
        assert_eq!(server.post("/api/flush", b"").status, 200);
        assert_eq!(server.post("/write?db=default&precision=s", b"cpu,host=c n=3i 1767225660\n").status, 204);
        let expected = server.rows("cpu");

        let (code, out, err) = waterclock(&["backup", "--url", &server.url, "--to", text(&copy)]);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(out.contains("1 block (0 there already, 1 linked, 0 copied)"), "{out}");
        let (code, out, _) = waterclock(&["backup", "--url", &server.url, "--to", text(&copy)]);
        assert!(code == Some(0) && out.contains("1 there already"), "{out}");
        assert_eq!(server.post("/api/backup?to=relative", b"").status, 400);
        let refused = server.post(&format!("/api/backup?to={}", text(&data)), b"");
        assert!(refused.status == 409 && refused.text().contains("in use"), "{}", refused.text());
        assert!(server.stop().success());

        assert_eq!(waterclock(&["check", text(&copy)]).0, Some(0));
        let (code, out, err) =
            waterclock(&["query", "--data-dir", text(&copy), "cpu | count by ()", "--format", "csv"]);
        assert_eq!((code, out.replace('\r', "").as_str(), err.as_str()), (Some(0), "count\n3\n", ""));
        let (code, out, _) =
            waterclock(&["export", "--data-dir", text(&copy), "--format", "lp", "--out", "-"]);
        assert_eq!((code, out.lines().count()), (Some(0), 3));
        let change = "delete from cpu between 2020-01-01 and 2030-01-01";
        let (code, _, err) = waterclock(&["query", "--data-dir", text(&copy), change]);
        assert!(code == Some(1) && err.contains("only looked at"), "{err}");
        let (code, out, err) = waterclock(&["backup", "--data-dir", text(&data), "--to", text(&second)]);
        // Stopping may have flushed what was in memory.
        assert!(code == Some(0) && out.contains(" linked, 0 copied"), "{out}{err}");
        let (code, out, err) = waterclock(&["restore", text(&copy), text(&back)]);
        assert!(code == Some(0) && out.contains("checked"), "{out}{err}");
        let (code, _, err) = waterclock(&["restore", text(&copy), text(&back)]);
        assert!(code == Some(1) && err.contains("is not empty"), "{err}");
        for folder in [&back, &second, &copy] {
            let server = Server::start(folder, &[]);
            assert_eq!(server.rows("cpu"), expected, "{}", folder.display());
            assert_eq!(server.post("/write?db=default&precision=s", lines.as_bytes()).status, 204);
            assert!(server.stop().success());
        }
        // The copy has data of its own now.
        let (code, _, err) = waterclock(&["backup", "--data-dir", text(&data), "--to", text(&copy)]);
        assert!(code == Some(1) && err.contains("has been started on it"), "{err}");
    }
}
