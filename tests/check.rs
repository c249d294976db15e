//! `check` and its repair: what we break, what is reported, what survives the repair.
//!
//! Invariant tested everywhere here: looking changes nothing; after a repair the folder is sound, opens, and holds what was
//! not damaged; what the repair took away stands in `damaged`.
//! Not here: what an unrepaired folder answers (`damage`), the command line (`cli`).

use std::sync::Arc;

use arrow::array::Array;
use prost::Message;
use query_lang::plan::TagFilter;
use storage_format::block::BlockKind;
use storage_format::manifest::Manifest;
use storage_format::point::TimeRange;
use waterclock::check::{Options, Report, check, repair};
use waterclock::clock::Clock;
use waterclock::db::{FlushScope, RefreshScope, RemoteWrite};
use waterclock::disk::{Disk, LocalDisk};
use waterclock::ingest::remote_write::Version;

use crate::damage::{
    BATCHES, BY_MINUTE, RECORD_HEADER_BYTES, batches, batches_in, clock, flip, flushed, logged, segments,
};
use crate::http::remote_write::histogram;
use crate::support::engine::{DATABASE, NOON, SECOND, ask, open, rows, run, write};
use crate::support::faulty_disk::{FaultyDisk, Loss};
use crate::support::prometheus::{TimeSeries, WriteRequest, labels_of};

const DAY: i64 = 86_400 * SECOND;

fn look(disk: &FaultyDisk) -> Report {
    let before = disk.contents();
    let clock: Arc<dyn Clock> = Arc::new(clock());
    let dynamic: Arc<dyn Disk> = Arc::new(disk.clone());
    let report = check(&dynamic, &clock, &Options { rollups: true }, &mut |_, _, _| {}).unwrap();
    assert!(disk.contents() == before, "looking has changed something");
    report
}

fn said(report: &Report) -> Vec<String> {
    report
        .damage
        .iter()
        .map(|finding| format!("{} at {}: {}", finding.file, finding.offset, finding.what))
        .collect()
}

fn mend(disk: &FaultyDisk, report: &Report) -> Vec<String> {
    let dynamic: Arc<dyn Disk> = Arc::new(disk.clone());
    repair(&dynamic, report).unwrap()
}

fn manifest(disk: &FaultyDisk) -> Manifest {
    Manifest::decode(&disk.read("manifest")).unwrap()
}

/// The one block whose path contains this.
fn only(disk: &FaultyDisk, part: &str) -> String {
    let files = disk.files_with(part);
    let [file] = files.iter().filter(|file| file.starts_with("blocks/")).collect::<Vec<_>>()[..] else {
        panic!("{files:?}")
    };
    file.clone()
}

#[test]
fn sound_folders_are_sound_whatever_state_they_are_in() {
    for disk in [logged(), flushed()] {
        let report = look(&disk);
        assert!(report.is_sound() && report.notes.is_empty(), "{:?} {:?}", said(&report), report.notes);
        assert!(report.counts.records > 0 && report.counts.segments > 0);
    }
    let report = look(&flushed());
    assert_eq!((report.counts.blocks, report.counts.rollups), (3, 1));
    assert!(report.counts.states >= BATCHES as u64, "{:?}", report.counts);
}

#[test]
fn folders_of_every_version_are_sound() {
    let clock: Arc<dyn Clock> = Arc::new(clock());
    for (version, folder) in crate::formats::copies() {
        let disk: Arc<dyn Disk> = Arc::new(LocalDisk::open_to_read(folder.path()).unwrap());
        let report = check(&disk, &clock, &Options { rollups: true }, &mut |_, _, _| {}).unwrap();
        assert!(report.is_sound() && report.counts.blocks >= 2, "{version}: {:?}", said(&report));
        assert!(report.counts.states > 0, "{version}");
    }
}

/// What a power cut leaves is no damage.
#[test]
fn what_crashes_leave_is_a_note_at_most() {
    let mut noted = 0;
    for seed in 0..40 {
        for loss in [Loss::Lost, Loss::Torn, Loss::Reordered] {
            let disk = FaultyDisk::crash_after(60 + seed * 9);
            if let Ok(db) = open(&disk, &clock()) {
                let _ = run(&db, "create rollup minutes as cpu | every 1m count, sum(n) by host");
                for second in 0..30 {
                    let _ = write(&db, &format!("cpu,host=a n={second}i {}", NOON + second * 20 * SECOND));
                    if second % 7 == 3 {
                        let _ = db.flush(FlushScope::All);
                        let _ = db.compact(true);
                        let _ = db.refresh(&RefreshScope::default());
                    }
                }
            }
            let left = disk.after_power_loss(seed, loss);
            if left.files().iter().any(|file| file == "manifest") {
                let report = look(&left);
                assert!(report.is_sound(), "seed {seed}, {loss:?}: {:?}", said(&report));
                noted += report.notes.len();
            }
        }
    }
    assert!(noted > 10, "only {noted} leftovers were met: the crashes come at dull moments");
}

/// Sequences that a full disk has refused are given to the next writes: a gap is damage.
#[test]
fn a_full_disk_leaves_no_gap() {
    for space in (0..900).step_by(23) {
        let disk = FaultyDisk::new();
        let db = open(&disk, &clock()).unwrap();
        write(&db, &format!("cpu,host=a n=1i {NOON}")).unwrap();
        disk.full_after(space);
        let mut refused = 0;
        for second in 0..40 {
            let line = format!("cpu,host=h{second} n=1i {}", NOON + second * SECOND);
            if write(&db, &line).is_err() {
                refused += 1;
                if refused == 3 {
                    disk.free_space();
                }
            }
        }
        assert!(refused >= 3, "{space}");
        let points = rows(&ask(&db, "cpu | limit 1000", false).unwrap());
        drop(db);
        let report = look(&disk);
        assert!(report.is_sound(), "{space}: {:?}", said(&report));
        assert_eq!(rows(&ask(&open(&disk, &clock()).unwrap(), "cpu | limit 1000", false).unwrap()), points);
    }
}

struct Row {
    name: &'static str,
    damage: fn(&FaultyDisk),
    /// Part of each thing that is reported.
    said: &'static [&'static str],
    /// Batches that are lost.
    lost: fn(&FaultyDisk) -> usize,
}

const LOG: &[Row] = &[
    Row {
        name: "a byte of a record",
        damage: |disk| flip(disk, &segments(disk)[1], 1, RECORD_HEADER_BYTES + 20),
        said: &["these bytes are no record"],
        lost: |_| 1,
    },
    Row {
        name: "the magic of a segment",
        damage: |disk| disk.edit(&segments(disk)[1], |bytes| bytes[0] ^= 1),
        said: &["this is not a log segment"],
        lost: |_| 0,
    },
    Row {
        name: "noise behind a middle segment",
        damage: |disk| disk.edit(&segments(disk)[1], |bytes| bytes.extend([7; 99])),
        said: &["these bytes are no record (99 bytes)"],
        lost: |_| 0,
    },
    Row {
        name: "the definitions of a segment",
        damage: |disk| disk.edit(&segments(disk)[1], |bytes| bytes[30] ^= 1),
        said: &["no record", "not defined"],
        lost: |disk| batches_in(disk, &segments(disk)[1]),
    },
    Row {
        name: "a middle segment is missing",
        damage: |disk| disk.take(&segments(disk)[1]),
        said: &["it is missing, with the sequences"],
        lost: |disk| batches_in(disk, &segments(disk)[1]),
    },
    Row {
        name: "two middle segments are missing",
        damage: |disk| {
            let [_, second, third, ..] = &segments(disk)[..] else { panic!() };
            disk.take(second);
            disk.take(third);
        },
        said: &["it and those up to 0000000000000003 are missing, with the sequences"],
        lost: |disk| batches_in(disk, &segments(disk)[1]) + batches_in(disk, &segments(disk)[2]),
    },
    Row {
        name: "the first segment is missing",
        damage: |disk| disk.take(&segments(disk)[0]),
        said: &["segments before it are missing, with the sequences 1 to"],
        lost: |disk| batches_in(disk, &segments(disk)[0]),
    },
    Row {
        name: "a middle segment is empty",
        damage: |disk| disk.edit(&segments(disk)[1], Vec::clear),
        said: &["cut off"],
        lost: |disk| batches_in(disk, &segments(disk)[1]),
    },
];

#[test]
fn damage_of_the_log_is_named_and_mended() {
    for Row { name, damage, said: expected, lost } in LOG {
        let disk = logged();
        let left = BATCHES as usize - lost(&disk);
        damage(&disk);
        let report = look(&disk);
        let told = said(&report);
        for part in *expected {
            assert!(told.iter().any(|line| line.contains(part)), "{name}: {told:?}");
        }
        assert!(!report.is_sound(), "{name}");
        let done = mend(&disk, &report);
        assert!(!done.is_empty(), "{name}");
        assert!(!disk.files_with("damaged/wal/").is_empty() || name.contains("first"), "{name}: {done:?}");
        let after = look(&disk);
        assert!(after.is_sound(), "{name}: {:?}", said(&after));
        let db = open(&disk, &clock()).unwrap();
        assert_eq!(batches(&db).len(), left, "{name}");
    }
}

#[test]
fn a_torn_tail_is_said_and_is_no_damage() {
    let disk = logged();
    disk.edit(segments(&disk).last().unwrap(), |bytes| bytes.truncate(bytes.len() - 1));
    let report = look(&disk);
    assert!(report.is_sound(), "{:?}", said(&report));
    assert!(report.notes[0].what.contains("never acknowledged"), "{:?}", report.notes);
    assert_eq!(mend(&disk, &report), [""; 0]);
}

/// What a record lost of its definitions goes, the rows beside it stay.
#[test]
fn rows_without_a_definition_are_taken_out_alone() {
    let disk = FaultyDisk::new();
    let db = open(&disk, &clock()).unwrap();
    write(&db, &format!("cpu,host=a n=1i {NOON}")).unwrap();
    write(&db, &format!("cpu,host=b n=1i {NOON}")).unwrap();
    write(&db, &format!("cpu,host=a n=2i {}\ncpu,host=b n=2i {}", NOON + SECOND, NOON + SECOND)).unwrap();
    drop(db);
    let at = disk.read(&segments(&disk)[0]).windows(6).position(|window| window == b"host\0b").unwrap();
    disk.edit(&segments(&disk)[0], |bytes| bytes[at + 5] ^= 1);
    let report = look(&disk);
    assert!(
        said(&report).iter().any(|line| line.contains("some points belong to series")),
        "{:?}",
        said(&report)
    );
    mend(&disk, &report);
    assert!(look(&disk).is_sound());
    let found = rows(&ask(&open(&disk, &clock()).unwrap(), "cpu | limit 9", false).unwrap());
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn each_flipped_byte_of_a_block_is_found() {
    let disk = flushed();
    for part in ["/cpu/", "/minutes/"] {
        let file = only(&disk, part);
        for at in (0..disk.read(&file).len()).step_by(97) {
            let damaged = disk.after_power_loss(0, Loss::Kept);
            damaged.edit(&file, |bytes| bytes[at] ^= 0x20);
            let told = said(&look(&damaged));
            assert!(told.len() == 1 && told[0].contains(&file), "{file}, byte {at}: {told:?}");
        }
    }
}

#[test]
fn blocks_that_are_damaged_are_set_aside_and_rollups_follow() {
    type Damage = fn(&FaultyDisk, &str);
    let damages: [(&str, Damage, &str); 4] = [
        ("a byte", |disk, file| disk.edit(file, |bytes| bytes[100] ^= 1), "checksum"),
        ("missing", |disk, file| disk.take(file), "it is missing"),
        ("longer", |disk, file| disk.edit(file, |bytes| bytes.push(0)), "damaged"),
        (
            "another table's",
            |disk, file| {
                let bytes = disk.read(&only(disk, "/mem/"));
                disk.edit(file, |block| *block = bytes);
            },
            "not the one",
        ),
    ];
    let raw =
        |disk: &FaultyDisk, rollups| rows(&ask(&open(disk, &clock()).unwrap(), BY_MINUTE, rollups).unwrap());
    let whole = raw(&flushed(), false);
    for (name, damage, what) in damages {
        // The rollup's states: computed again, nothing is lost.
        let disk = flushed();
        let file = only(&disk, "/minutes/");
        damage(&disk, &file);
        let report = look(&disk);
        let told = said(&report);
        assert!(told.len() == 1 && (told[0].contains(what) || name == "longer"), "{name}: {told:?}");
        mend(&disk, &report);
        assert!(look(&disk).is_sound(), "{name}");
        assert!(!manifest(&disk).rollups[0].dirty.is_empty(), "{name}");
        assert_eq!(raw(&disk, true), whole, "{name}");
        assert_eq!(disk.files().contains(&format!("damaged/{file}")), name != "missing");

        // The points: gone but for what the log has, the other table and the log are untouched, the rollup tells what is
        // left, and its old states are kept.
        let disk = flushed();
        let (file, states) = (only(&disk, "/cpu/"), only(&disk, "/minutes/"));
        damage(&disk, &file);
        let report = look(&disk);
        mend(&disk, &report);
        let after = look(&disk);
        assert!(after.is_sound(), "{name}: {:?}", said(&after));
        assert!(disk.files().contains(&format!("damaged/{states}")), "{name}");
        let db = open(&disk, &clock()).unwrap();
        assert_eq!(ask(&db, "mem | limit 1000", true).unwrap().rows(), BATCHES as usize + 1, "{name}");
        let [with, without] = [true, false].map(|rollups| rows(&ask(&db, BY_MINUTE, rollups).unwrap()));
        assert_eq!(with, without, "{name}");
        db.refresh(&RefreshScope::default()).unwrap();
        assert_eq!(rows(&ask(&db, BY_MINUTE, true).unwrap()), without, "{name}");
    }
}

/// The log still has what a block held: then nothing is lost.
#[test]
fn points_that_the_log_still_has_are_read_from_there() {
    let disk = FaultyDisk::new();
    let db = open(&disk, &clock()).unwrap();
    // The other partition keeps the log.
    write(&db, &format!("cpu,host=a n=1i {NOON}")).unwrap();
    for minute in 0..5 {
        write(&db, &format!("cpu,host=a n={minute}i {}", NOON - 86_400 * SECOND + minute * 60 * SECOND))
            .unwrap();
    }
    let whole = rows(&ask(&db, "cpu | limit 99", false).unwrap());
    // Frozen and flushed together; a snapshot of the log before that is what a slow truncation leaves.
    let log: Vec<(String, Vec<u8>)> =
        segments(&disk).into_iter().map(|name| (name.clone(), disk.read(&name))).collect();
    db.flush(FlushScope::All).unwrap();
    drop(db);
    for (name, bytes) in log {
        disk.put(&name, bytes);
    }
    let old = disk.files_with("2025-12-31");
    disk.edit(&old[0], |bytes| bytes[50] ^= 1);
    let report = look(&disk);
    assert_eq!(report.damage.len(), 1, "{:?}", said(&report));
    mend(&disk, &report);
    assert!(look(&disk).is_sound());
    assert_eq!(rows(&ask(&open(&disk, &clock()).unwrap(), "cpu | limit 99", false).unwrap()), whole);
}

#[test]
fn a_damaged_manifest_is_made_again_from_blocks() {
    type Damage = fn(&FaultyDisk);
    let damages: [(&str, Damage); 3] = [
        ("a byte", |disk| disk.edit("manifest", |bytes| bytes[100] ^= 1)),
        ("empty", |disk| disk.edit("manifest", Vec::clear)),
        ("missing", |disk| disk.take("manifest")),
    ];
    for (name, damage) in damages {
        let disk = flushed();
        let db = open(&disk, &clock()).unwrap();
        // In the log alone, against a block.
        run(&db, "delete from mem between 2026-01-01T11:50:00Z and 2026-01-01T12:00:00Z").unwrap();
        let expected =
            ["cpu | limit 1000", "mem | limit 1000"].map(|query| rows(&ask(&db, query, false).unwrap()));
        drop(db);
        damage(&disk);
        let report = look(&disk);
        assert!(said(&report)[0].contains("disk:/manifest"), "{name}: {:?}", said(&report));
        let done = mend(&disk, &report);
        assert!(done.iter().any(|line| line.contains("rollup minutes")), "{name}: {done:?}");
        let after = look(&disk);
        assert!(after.is_sound(), "{name}: {:?}", said(&after));
        let db = open(&disk, &clock()).unwrap();
        let found =
            ["cpu | limit 1000", "mem | limit 1000"].map(|query| rows(&ask(&db, query, false).unwrap()));
        assert_eq!(found, expected, "{name}");
        // And it goes on.
        write(&db, &format!("cpu,host=a,region=eu n=9i {NOON}")).unwrap();
        db.flush(FlushScope::All).unwrap();
        db.compact(true).unwrap();
        drop(db);
        assert!(look(&disk).is_sound(), "{name}");
    }
}

/// A crash between naming a merge and removing what went into it leaves both; the merge wins.
#[test]
fn a_rebuilt_manifest_knows_native_histograms() {
    let disk = FaultyDisk::new();
    let db = open(&disk, &clock()).unwrap();
    let labels = labels_of(&[("__name__", "latency")]);
    let histograms = vec![histogram(NOON / 1_000_000)];
    let one = TimeSeries { labels, histograms, ..TimeSeries::default() };
    let message = WriteRequest { timeseries: vec![one], metadata: Vec::new() }.encode_to_vec();
    let request = RemoteWrite { database: DATABASE, message: &message, version: Version::V1 };
    assert_eq!(db.write_samples_now(&request).unwrap().histograms, 1);
    db.flush(FlushScope::All).unwrap();
    drop(db);
    disk.take("manifest");
    mend(&disk, &look(&disk));
    let db = open(&disk, &clock()).unwrap();
    let series = db.read_samples(DATABASE, &TagFilter::All, TimeRange::ALL, &db.guard()).unwrap();
    assert!(series[0].rows[0].columns[1].as_ref().is_some_and(|histograms| histograms.is_valid(0)));
}

#[test]
fn a_rebuilt_manifest_believes_every_sound_block_by_its_rank() {
    let disk = FaultyDisk::new();
    let db = open(&disk, &clock()).unwrap();
    let mut before = Vec::new();
    for round in 0..5 {
        let lines = format!("cpu,host=a n={round}i {NOON}\ncpu,host=b n={round}i {}", NOON + round * SECOND);
        write(&db, &lines).unwrap();
        db.flush(FlushScope::All).unwrap();
        before.extend(disk.files_with("blocks/").into_iter().map(|name| (name.clone(), disk.read(&name))));
    }
    db.compact(true).unwrap();
    write(&db, &format!("cpu,host=a n=9i {NOON}")).unwrap();
    db.flush(FlushScope::All).unwrap();
    let expected = rows(&ask(&db, "cpu | limit 99", false).unwrap());
    assert!(expected.len() == 6 && expected[0].contains("n=9"), "{expected:?}");
    drop(db);
    for (name, bytes) in before {
        disk.put(&name, bytes);
    }
    // Without the log, so that only blocks tell.
    segments(&disk).iter().for_each(|segment| disk.take(segment));
    disk.take("manifest");
    let report = look(&disk);
    mend(&disk, &report);
    assert!(look(&disk).is_sound());
    let db = open(&disk, &clock()).unwrap();
    assert_eq!(rows(&ask(&db, "cpu | limit 99", false).unwrap()), expected);
    db.compact(true).unwrap();
    assert_eq!(rows(&ask(&db, "cpu | limit 99", false).unwrap()), expected);
}

/// States of other points under the right name: only recomputing finds that.
#[test]
fn states_that_are_not_those_of_the_points_are_found() {
    let disk = flushed();
    let other = FaultyDisk::new();
    let db = open(&other, &clock()).unwrap();
    for batch in 0..BATCHES {
        let time = NOON - (BATCHES - batch) * 60 * SECOND;
        let usage = if batch == 7 { 99.0 } else { batch as f64 + 0.5 };
        write(
            &db,
            &format!(
                "cpu,host=a,region=eu n={batch}i,usage={usage} {time}\ncpu,host=b,region=us n=1i {time}\n"
            ),
        )
        .unwrap();
        write(&db, &format!("mem,host=a used={batch}i {time}\n")).unwrap();
    }
    run(&db, "create rollup minutes as cpu | every 1m count, sum(usage), max(n) by region").unwrap();
    db.refresh(&RefreshScope::default()).unwrap();
    db.flush(FlushScope::All).unwrap();
    drop(db);
    let file = only(&disk, "/minutes/");
    let forged = other.read(&only(&other, "/minutes/"));
    let mut edited = manifest(&disk);
    let entry = edited.blocks.iter_mut().find(|entry| entry.kind == BlockKind::Rollup).unwrap();
    entry.bytes = forged.len() as u64;
    disk.edit("manifest", |bytes| *bytes = edited.encode());
    disk.edit(&file, |bytes| *bytes = forged.clone());
    let report = look(&disk);
    let told = said(&report);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("not that of the points: bucket 2026-01-01T11:43:00Z, group region=eu"),
        "{told:?}"
    );
    mend(&disk, &report);
    assert!(look(&disk).is_sound());
    let db = open(&disk, &clock()).unwrap();
    assert_eq!(rows(&ask(&db, BY_MINUTE, true).unwrap()), rows(&ask(&db, BY_MINUTE, false).unwrap()));
}

/// Of sealed buckets there are no points: their states are neither held against any nor computed again.
#[test]
fn sealed_states_are_left_alone_and_lost_ones_are_gone() {
    let sealed = || {
        let (disk, clock) = (FaultyDisk::new(), clock());
        let db = open(&disk, &clock).unwrap();
        for day in [40, 41, 0] {
            let lines: String = (1..5)
                .map(|n| format!("cpu,host=a n={n}i {}\n", NOON - day * DAY - n * 60 * SECOND))
                .collect();
            write(&db, &lines).unwrap();
        }
        run(&db, "create rollup minutes as cpu | every 1m count, sum(n) by host").unwrap();
        db.refresh(&RefreshScope::default()).unwrap();
        db.flush(FlushScope::All).unwrap();
        run(&db, "alter table cpu keep 20d").unwrap();
        db.expire().unwrap();
        clock.advance(std::time::Duration::from_secs(2 * 3_600));
        assert!(db.expire().unwrap() > 0, "no block has expired");
        disk
    };
    let counts = |disk: &FaultyDisk| {
        let db = open(disk, &clock()).unwrap();
        rows(&ask(&db, "minutes | every 1d count by ()", true).unwrap())
    };
    let disk = sealed();
    let report = look(&disk);
    assert!(report.is_sound() && report.counts.states == 4, "{:?} {:?}", said(&report), report.counts);
    assert_eq!(counts(&disk).len(), 3, "the old buckets are still there");
    let states: Vec<String> =
        disk.files_with("/minutes/").into_iter().filter(|file| file.starts_with("blocks/")).collect();
    assert!(states.len() > 1, "{states:?}");
    for file in &states {
        let disk = sealed();
        let lost = manifest(&disk).blocks.into_iter().find(|entry| file.ends_with(&entry.file)).unwrap();
        disk.edit(file, |bytes| bytes[100] ^= 1);
        let report = look(&disk);
        assert_eq!(report.damage.len(), 1, "{:?}", said(&report));
        mend(&disk, &report);
        assert!(look(&disk).is_sound());
        let left = counts(&disk);
        let has_old = lost.time.0 < NOON - 20 * DAY;
        assert_eq!(left.len() == 3, !has_old, "{file}: {left:?}");
        assert!(left.last().unwrap().ends_with("count=4"), "{left:?}");
        let db = open(&disk, &clock()).unwrap();
        db.refresh(&RefreshScope::default()).unwrap();
        drop(db);
        assert_eq!(counts(&disk), left, "{file}");
    }
}

/// A repair that a crash cuts off leaves a folder that a repair mends.
#[test]
fn a_repair_survives_crashes() {
    let damaged = || {
        let disk = flushed();
        disk.edit(&only(&disk, "/cpu/"), |bytes| bytes[100] ^= 1);
        write(&open(&disk, &clock()).unwrap(), &format!("mem,host=b used=8i {NOON}")).unwrap();
        disk.edit(&segments(&disk)[0], |bytes| bytes.extend([9; 40]));
        disk
    };
    let expected = {
        let disk = damaged();
        let report = look(&disk);
        mend(&disk, &report);
        assert!(disk.files().iter().any(|file| file.starts_with("damaged/")));
        rows(&ask(&open(&disk, &clock()).unwrap(), "mem | limit 1000", false).unwrap())
    };
    for operations in 0..400 {
        let disk = damaged();
        let report = look(&disk);
        disk.crash_in(operations);
        let dynamic: Arc<dyn Disk> = Arc::new(disk.clone());
        let outcome = repair(&dynamic, &report);
        for loss in [Loss::Kept, Loss::Lost, Loss::Torn, Loss::Reordered] {
            let left = disk.after_power_loss(operations, loss);
            let report = look(&left);
            mend(&left, &report);
            assert!(look(&left).is_sound(), "{operations}, {loss:?}");
            let found = rows(&ask(&open(&left, &clock()).unwrap(), "mem | limit 1000", false).unwrap());
            assert_eq!(found, expected, "{operations}, {loss:?}");
            assert!(!left.files_with("damaged/blocks/default/cpu").is_empty(), "{operations}, {loss:?}");
        }
        if outcome.is_ok() {
            return;
        }
    }
    panic!("the repair never came to its end");
}

mod binary {
    //! The command itself: exit codes, both formats, the lock.

    use std::path::Path;
    use std::process::Command;

    use crate::support::server::{Server, folder};

    fn check(folder: &Path, flags: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waterclock"));
        let output = command.arg("check").args(flags).arg(folder).output().expect("the binary starts");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    #[test]
    fn it_refuses_a_server_names_damage_and_mends_it() {
        let folder = folder();
        let server = Server::start(folder.path(), &[]);
        let lines = "cpu,host=a n=1i 1767225600\ncpu,host=b n=2i 1767225660\n";
        assert_eq!(server.post("/write?db=default&precision=s", lines.as_bytes()).status, 204);
        assert_eq!(server.post("/api/flush", b"").status, 200);
        let (code, _, err) = check(folder.path(), &[]);
        assert!(code == Some(1) && err.contains("in use by another waterclock"), "{code:?} {err}");
        assert!(server.stop().success());

        let (code, out, err) = check(folder.path(), &["--rollups"]);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        assert!(out.starts_with("sound: 1 block (") && out.contains("2 rows"), "{out}");

        let blocks = folder.path().join("blocks/default/cpu");
        let block = std::fs::read_dir(&blocks).unwrap().next().unwrap().unwrap().path();
        let file = std::fs::File::options().write(true).open(&block).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"!", 60).unwrap();
        let (code, out, err) = check(folder.path(), &[]);
        assert!(code == Some(1) && err.contains("is damaged in 1 place; see above"), "{code:?} {err}");
        assert!(
            out.contains(&format!("damaged   {} at byte", block.canonicalize().unwrap().display())),
            "{out}"
        );
        let (code, out, _) = check(folder.path(), &["--format", "json"]);
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, report["sound"].as_bool()), (Some(1), Some(false)));
        // The page that holds the byte.
        assert!(report["damage"][0]["offset"].as_u64().is_some_and(|at| at > 0 && at <= 60), "{report}");

        let (code, out, err) = check(folder.path(), &["--repair"]);
        assert!(
            code == Some(0) && out.contains("set aside in damaged/") && out.contains("sound: 0 blocks"),
            "{out}{err}"
        );
        assert!(folder.path().join("damaged/blocks/default/cpu").is_dir() && !block.exists());
        assert_eq!(check(folder.path(), &[]).0, Some(0));
        let server = Server::start(folder.path(), &[]);
        assert_eq!(server.post("/write?db=default&precision=s", lines.as_bytes()).status, 204);
    }

    #[test]
    fn it_makes_no_folder() {
        let folder = folder();
        let (code, _, err) = check(&folder.path().join("nowhere"), &[]);
        assert!(code == Some(1) && err.contains("cannot open the folder"), "{err}");
        let (code, _, err) = check(folder.path(), &["--repair"]);
        assert!(code == Some(1) && err.contains("is no data folder"), "{err}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
