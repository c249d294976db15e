//! What was logged or put into the manifest must mean the same after a restart, whatever was written since.
//!
//! Statements are kept as text, and names change their meaning: a tag becomes a field's name, too; the sole field gets a
//! neighbour; a name is known only from a write that was refused. Each of these once could, or nearly could, stop a start.
//! Not here: crashes (`crash`) and damage (`damage`); every restart here is an orderly one.

use waterclock::db::{Db, FlushScope, Lines, RefreshScope};
use waterclock::ingest::line_protocol::Precision;

use crate::support::engine::{DATABASE, NOON, SECOND, ask, open, rows, run, write};
use crate::support::faulty_disk::{FaultyDisk, Loss};
use crate::support::manual_clock::ManualClock;

fn opened(disk: &FaultyDisk) -> Db {
    open(disk, &ManualClock::at(NOON)).unwrap_or_else(|error| panic!("it does not start: {error}"))
}

fn points(db: &Db, table: &str) -> Vec<String> {
    rows(&ask(db, &format!("{table} | limit 1000"), false).unwrap())
}

/// Does the work, with a flush after it or without; what is answered must not change by a restart.
fn check(work: impl Fn(&Db), queries: &[&str]) {
    for (flush_between, flush_after) in [(false, false), (false, true), (true, false), (true, true)] {
        let disk = FaultyDisk::new();
        let db = opened(&disk);
        write(&db, &format!("cpu,host=a n=1i {NOON}\ncpu,host=b n=2i {}", NOON + SECOND)).unwrap();
        if flush_between {
            db.flush(FlushScope::All).unwrap();
        }
        work(&db);
        if flush_after {
            db.flush(FlushScope::All).unwrap();
        }
        let answers = |db: &Db| -> Vec<Vec<String>> {
            queries.iter().map(|query| rows(&ask(db, query, true).unwrap())).collect()
        };
        let (before, points_before) = (answers(&db), points(&db, "cpu"));
        drop(db);
        for start in 0..2 {
            let db = opened(&disk);
            assert_eq!(points(&db, "cpu"), points_before, "start {start}");
            assert_eq!(answers(&db), before, "start {start}");
        }
    }
}

#[test]
fn a_delete_by_a_tag_that_became_a_field_too() {
    for statement in [
        "delete from cpu where host = \"a\" since 2020-01-01",
        "delete from cpu{host=\"a\"} since 2020-01-01",
        "delete from cpu where not (host = \"b\" or host = \"c\") since 2020-01-01",
    ] {
        let work = |db: &Db| {
            run(db, statement).unwrap();
            write(db, &format!("cpu,host=c host=5i {}", NOON + 2 * SECOND)).unwrap();
        };
        check(work, &[]);
    }
}

#[test]
fn a_delete_by_a_tag_or_from_a_table_that_only_a_refused_write_has_named() {
    let disk = FaultyDisk::new();
    let db = opened(&disk);
    write(&db, &format!("cpu,host=a n=1i {NOON}")).unwrap();
    for point in ["cpu,rack=r n=2i", "new,host=a n=2i"] {
        disk.fail_write_after(0);
        assert!(write(&db, &format!("{point} {NOON}")).is_err());
    }
    // Whether these are refused is a matter of taste; that the next start understands them is not.
    let _ = run(&db, "delete from new since 2020-01-01");
    let _ = run(&db, "delete from cpu{rack=\"r\"} since 2020-01-01");
    drop(db);
    let db = opened(&disk.after_power_loss(0, Loss::Lost));
    assert_eq!(points(&db, "cpu").len(), 1);
}

#[test]
fn a_rollup_of_the_sole_field_that_got_a_neighbour() {
    let work = |db: &Db| {
        run(db, "create rollup sums as cpu | every 1m sum, max by host").unwrap();
        db.refresh(&RefreshScope::default()).unwrap();
        write(db, &format!("cpu,host=a n=3i,m=4i {}", NOON + 2 * SECOND)).unwrap();
    };
    check(
        work,
        &["sums", "sums | every 1m sum(n) by host", "cpu | every 1m sum(n), max(n) by host", "show rollups"],
    );
}

#[test]
fn a_rollup_by_a_tag_that_became_a_field_too() {
    let work = |db: &Db| {
        run(db, "create rollup sums as cpu | where host != \"b\" | every 1m sum(n) by host").unwrap();
        db.refresh(&RefreshScope::default()).unwrap();
        write(db, &format!("cpu,host=c host=5i {}", NOON + 2 * SECOND)).unwrap();
    };
    check(work, &["sums", "cpu | every 1m sum(n) by host"]);
}

#[test]
fn a_rollup_whose_columns_are_called_like_tags_that_came_later() {
    let work = |db: &Db| {
        run(db, "create rollup sums as cpu | every 1m count, sum(n) as total").unwrap();
        db.refresh(&RefreshScope::default()).unwrap();
        write(db, &format!("cpu,host=c,count=x,total=y n=5i {}", NOON + 2 * SECOND)).unwrap();
    };
    check(work, &["cpu | every 1m count as c, sum(n) as t by host", "sums | every 1m sum(n) as t by host"]);
}

#[test]
fn a_rollup_of_a_field_that_became_a_tag_too() {
    let work = |db: &Db| {
        run(db, "create rollup sums as cpu | every 1m sum(n) by host").unwrap();
        db.refresh(&RefreshScope::default()).unwrap();
        write(db, &format!("cpu,host=c,n=x n=5i {}", NOON + 2 * SECOND)).unwrap();
    };
    check(work, &["sums", "cpu | every 1m sum(field(n)) by host"]);
}

#[test]
fn a_rollup_whose_points_are_all_deleted() {
    let work = |db: &Db| {
        run(db, "create rollup sums as cpu | every 1m sum(n) by host").unwrap();
        db.refresh(&RefreshScope::default()).unwrap();
        db.flush(FlushScope::All).unwrap();
        run(db, "delete from cpu since 2020-01-01").unwrap();
        db.compact(true).unwrap();
    };
    check(work, &["sums", "cpu | every 1m sum(n) by host", "show tables"]);
}

#[test]
fn names_that_need_quotes_everywhere() {
    let disk = FaultyDisk::new();
    let db = opened(&disk);
    write(&db, &format!("my\\ cpu,the\\ host=a\\ \"b\\=c n\\ n=1i,every=2i {NOON}")).unwrap();
    run(&db, "create rollup `a \"b\"` as `my cpu` | every 1m sum(`n n`), max(every) by `the host`").unwrap();
    run(&db, "delete from `my cpu`{`the host`=\"other \\\"\\n\"} since 2020-01-01").unwrap();
    db.refresh(&RefreshScope::default()).unwrap();
    db.flush(FlushScope::All).unwrap();
    let query = "`my cpu` | every 1m sum(`n n`), max(every) by `the host`";
    let before = rows(&ask(&db, query, true).unwrap());
    assert_eq!(before.len(), 1);
    drop(db);
    assert_eq!(rows(&ask(&opened(&disk), query, true).unwrap()), before);
}

#[test]
fn a_database_that_was_acknowledged_is_there() {
    let disk = FaultyDisk::new();
    let db = opened(&disk);
    let lines =
        Lines { database: "refused", body: b"no line", precision: Precision::Nanos, accept_partial: true };
    assert_eq!(db.write_lines_now(&lines).unwrap().errors.len(), 1);
    db.create_database("refused").unwrap();
    disk.fail_sync_after(0);
    assert!(db.create_database("twice").is_err());
    db.create_database("twice").unwrap();
    drop(db);
    let db = opened(&disk.after_power_loss(0, Loss::Lost));
    for name in ["refused", "twice"] {
        assert!(db.databases().iter().any(|known| known == name), "{name} is not in {:?}", db.databases());
    }
    assert!(!db.databases().iter().any(|known| known == DATABASE));
}
