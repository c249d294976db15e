//! Damaged data folders: what we break, what must survive, what the error must say.
//!
//! Damage is confined: a bad byte in the log costs its record, in a block its page, in the manifest the start, because
//! without it nobody knows what was deleted. No answer is ever wrong: it is right or it is an error that names the file.
//! Not here: what a crash leaves (`crash`); it is no damage and costs nothing.

use std::collections::BTreeSet;

use waterclock::db::{Db, FlushScope, RefreshScope};

use crate::support::engine::{NOON, SECOND, ask, open, rows, run, write};
use crate::support::faulty_disk::{FaultyDisk, Loss};
use crate::support::manual_clock::ManualClock;

const SEGMENT_HEADER_BYTES: usize = 18;
pub const RECORD_HEADER_BYTES: usize = 9;
const POINTS: u8 = 2;

/// Batches in the log: each has its own time and two points, and a segment takes about five.
pub const BATCHES: i64 = 24;

pub fn clock() -> ManualClock {
    ManualClock::at(NOON)
}

/// A folder whose points are all in the log, in several segments.
pub fn logged() -> FaultyDisk {
    let disk = FaultyDisk::new();
    let db = open(&disk, &clock()).unwrap();
    for batch in 0..BATCHES {
        let time = NOON + batch * SECOND;
        let text = "x".repeat(60);
        let lines = format!(
            "cpu,host=a n={batch}i,text=\"{text}\" {time}\ncpu,host=b n={batch}i,text=\"{text}\" {time}\n"
        );
        write(&db, &lines).unwrap();
    }
    drop(db);
    assert!(segments(&disk).len() >= 4, "the log is too small to break: {:?}", disk.files());
    disk
}

pub fn segments(disk: &FaultyDisk) -> Vec<String> {
    disk.files_with("wal/")
}

/// Where the records of a segment begin, with their kinds.
fn records(bytes: &[u8]) -> Vec<(usize, u8)> {
    let mut found = Vec::new();
    let mut at = SEGMENT_HEADER_BYTES;
    while at < bytes.len() {
        found.push((at, bytes[at + 8]));
        at += RECORD_HEADER_BYTES + u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    }
    found
}

/// The batches whose points a segment holds.
pub fn batches_in(disk: &FaultyDisk, segment: &str) -> usize {
    records(&disk.read(segment)).iter().filter(|(_, kind)| *kind == POINTS).count()
}

/// Flips a bit of the points record of this number, at this place of it.
pub fn flip(disk: &FaultyDisk, segment: &str, number: usize, place: usize) {
    disk.edit(segment, |bytes| {
        let points: Vec<usize> =
            records(bytes).into_iter().filter(|(_, kind)| *kind == POINTS).map(|(at, _)| at).collect();
        bytes[points[number] + place] ^= 0x04;
    });
}

fn cut_one_byte(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len() - 1);
}

/// The batches of which both points can be read.
pub fn batches(db: &Db) -> BTreeSet<i64> {
    let Ok(points) = ask(db, "cpu | limit 1000", false) else { return BTreeSet::new() };
    let points = rows(&points);
    let has = |batch: &i64| points.iter().filter(|row| row.contains(&format!(" n={batch} "))).count() == 2;
    (0..BATCHES).filter(has).collect()
}

/// What we break, and how many batches that costs.
struct Row {
    name: &'static str,
    damage: fn(&FaultyDisk),
    lost: fn(&FaultyDisk) -> usize,
}

const LOG: &[Row] = &[
    Row { name: "nothing", damage: |_| {}, lost: |_| 0 },
    Row {
        name: "a byte of a record's body, in the first segment",
        damage: |disk| flip(disk, &segments(disk)[0], 1, RECORD_HEADER_BYTES + 20),
        lost: |_| 1,
    },
    Row {
        name: "a byte of a record's length, in a middle segment",
        damage: |disk| flip(disk, &segments(disk)[1], 1, 1),
        lost: |_| 1,
    },
    Row {
        name: "a record's checksum, in a middle segment",
        damage: |disk| flip(disk, &segments(disk)[2], 0, 5),
        lost: |_| 1,
    },
    Row { name: "a record's kind", damage: |disk| flip(disk, &segments(disk)[2], 0, 8), lost: |_| 1 },
    Row {
        name: "the last byte of a middle segment is cut off",
        damage: |disk| disk.edit(&segments(disk)[1], cut_one_byte),
        lost: |_| 1,
    },
    Row {
        name: "the last byte of the log is cut off",
        damage: |disk| disk.edit(segments(disk).last().unwrap(), cut_one_byte),
        lost: |_| 1,
    },
    Row {
        name: "zeros behind the end of the log",
        damage: |disk| {
            disk.edit(segments(disk).last().unwrap(), |bytes| bytes.resize(bytes.len() + 4_096, 0))
        },
        lost: |_| 0,
    },
    Row {
        name: "noise behind the end of a middle segment",
        damage: |disk| {
            disk.edit(&segments(disk)[1], |bytes| bytes.extend((0..999u32).map(|n| (n * 37) as u8)))
        },
        lost: |_| 0,
    },
    Row {
        name: "the magic of a segment",
        damage: |disk| disk.edit(&segments(disk)[1], |bytes| bytes[0] ^= 1),
        lost: |_| 0,
    },
    Row {
        name: "the checksum of a segment's header",
        damage: |disk| disk.edit(&segments(disk)[0], |bytes| bytes[15] ^= 1),
        lost: |_| 0,
    },
    Row {
        name: "the definitions of a segment: none of its points can be told",
        damage: |disk| disk.edit(&segments(disk)[1], |bytes| bytes[SEGMENT_HEADER_BYTES + 12] ^= 1),
        lost: |disk| batches_in(disk, &segments(disk)[1]),
    },
    Row {
        name: "a middle segment is missing",
        damage: |disk| disk.take(&segments(disk)[1]),
        lost: |disk| batches_in(disk, &segments(disk)[1]),
    },
    Row {
        name: "the first segment is missing",
        damage: |disk| disk.take(&segments(disk)[0]),
        lost: |disk| batches_in(disk, &segments(disk)[0]),
    },
    Row {
        name: "an empty segment at the end, as a crash leaves",
        damage: |disk| disk.put("wal/00000000000000ff.wal", Vec::new()),
        lost: |_| 0,
    },
    Row {
        name: "an empty segment in the middle",
        damage: |disk| disk.edit(&segments(disk)[1], Vec::clear),
        lost: |disk| batches_in(disk, &segments(disk)[1]),
    },
    Row {
        name: "files that are not ours",
        damage: |disk| {
            disk.put("wal/notes.txt", b"remember the milk".to_vec());
            disk.put("wal/zz.wal", b"?".to_vec());
            disk.put("manifest.new", b"half".to_vec());
        },
        lost: |_| 0,
    },
];

#[test]
fn damage_of_the_log_costs_what_it_hits_and_no_more() {
    for Row { name, damage, lost } in LOG {
        let disk = logged();
        let expected = BATCHES as usize - lost(&disk);
        damage(&disk);
        let db = open(&disk, &clock()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = batches(&db);
        assert_eq!(found.len(), expected, "{name}: {found:?}");
        // And the log goes on behind it.
        write(&db, &format!("cpu,host=c n=99i {NOON}")).unwrap();
        db.flush(FlushScope::All).unwrap();
        write(&db, &format!("cpu,host=d n=99i {NOON}")).unwrap();
        drop(db);
        let db = open(&disk.after_power_loss(0, Loss::Lost), &clock()).unwrap();
        assert_eq!(batches(&db), found, "{name}, after another start");
        assert_eq!(ask(&db, "cpu{host=~\"c|d\"} | limit 10", false).unwrap().rows(), 2, "{name}");
    }
}

#[test]
fn no_flipped_byte_of_the_log_stops_the_start_or_makes_a_wrong_point() {
    let disk = logged();
    let whole =
        |disk: &FaultyDisk| rows(&ask(&open(disk, &clock()).unwrap(), "cpu | limit 1000", false).unwrap());
    let right: BTreeSet<String> = whole(&disk).into_iter().collect();
    let segment = segments(&disk)[1].clone();
    let len = disk.read(&segment).len();
    for at in (0..len).step_by(7) {
        let damaged = disk.after_power_loss(0, Loss::Kept);
        damaged.edit(&segment, |bytes| bytes[at] ^= 0x10);
        let found = whole(&damaged);
        assert!(found.iter().all(|row| right.contains(row)), "byte {at}");
        let of_segment = 2 * batches_in(&disk, &segment);
        assert!(found.len() >= right.len() - of_segment, "byte {at}: {} points", found.len());
    }
}

/// A delete names a table that only a damaged segment has defined: there is nothing left of it to delete.
#[test]
fn a_delete_whose_table_is_lost_does_not_stop_the_start() {
    let disk = FaultyDisk::new();
    let db = open(&disk, &clock()).unwrap();
    write(&db, &format!("gone,host=a n=1i {NOON}")).unwrap();
    for second in 0..40 {
        write(&db, &format!("cpu,host=a n=1i {}", NOON + second * SECOND)).unwrap();
    }
    run(&db, "delete from gone{host=\"a\"} since 2020-01-01").unwrap();
    drop(db);
    disk.take(&segments(&disk)[0]);
    let db = open(&disk, &clock()).unwrap();
    let left = ask(&db, "cpu | limit 1000", false).unwrap().rows();
    assert!(left > 0 && left < 40, "{left}");
}

#[test]
fn a_log_of_a_newer_version_is_refused_by_name() {
    let disk = logged();
    let segment = segments(&disk)[1].clone();
    disk.edit(&segment, |bytes| {
        bytes[5] = 2;
        let crc = crc32c::crc32c(&bytes[..14]);
        bytes[14..18].copy_from_slice(&crc.to_le_bytes());
    });
    let error = open(&disk, &clock()).err().unwrap().to_string();
    assert!(error.contains(&segment) && error.contains("newer version"), "{error}");
}

/// A folder with blocks of two tables and of a rollup, and a log behind them.
pub fn flushed() -> FaultyDisk {
    let disk = FaultyDisk::new();
    let db = open(&disk, &clock()).unwrap();
    for batch in 0..BATCHES {
        let time = NOON - (BATCHES - batch) * 60 * SECOND;
        write(
            &db,
            &format!(
                "cpu,host=a,region=eu n={batch}i,usage={batch}.5 {time}\ncpu,host=b,region=us n=1i {time}\n"
            ),
        )
        .unwrap();
        write(&db, &format!("mem,host=a used={batch}i {time}\n")).unwrap();
    }
    run(&db, "create rollup minutes as cpu | every 1m count, sum(usage), max(n) by region").unwrap();
    db.refresh(&RefreshScope::default()).unwrap();
    db.flush(FlushScope::All).unwrap();
    write(&db, &format!("cpu,host=a,region=eu n=7i {NOON}\nmem,host=a used=8i {NOON}")).unwrap();
    disk
}

pub const BY_MINUTE: &str = "cpu | every 1m count, sum(usage), max(n) by region";

#[test]
fn a_damaged_manifest_stops_the_start_and_is_named() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage, &str); 6] = [
        ("a byte in the middle", |bytes| bytes[100] ^= 1, "checksum"),
        ("the first byte", |bytes| bytes[0] ^= 1, "not a manifest"),
        ("the last byte is cut off", cut_one_byte, "length"),
        ("it is empty", Vec::clear, "does not end"),
        ("zeros", |bytes| bytes.fill(0), "does not end"),
        ("a newer version", |bytes| bytes["waterclock manifest ".len()] = b'9', "newer waterclock"),
    ];
    for (name, damage, what) in damages {
        let disk = flushed();
        let before = disk.files();
        disk.edit("manifest", damage);
        let error = open(&disk, &clock()).err().unwrap_or_else(|| panic!("{name}: it opened")).to_string();
        assert!(error.contains("disk:/manifest") && error.contains(what), "{name}: {error}");
        assert_eq!(
            disk.files(),
            before,
            "{name}: nothing may be cleaned up on the word of a damaged manifest"
        );
    }
}

#[test]
fn blocks_without_a_manifest_stop_the_start_and_stay() {
    let disk = flushed();
    disk.take("manifest");
    let before = disk.files();
    let error = open(&disk, &clock()).err().unwrap().to_string();
    assert!(error.contains("disk:/manifest") && error.contains("blocks"), "{error}");
    assert_eq!(disk.files(), before);
}

#[test]
fn no_flipped_byte_of_a_block_makes_a_wrong_answer() {
    let disk = flushed();
    let expected =
        |query: &str, rollups: bool| rows(&ask(&open(&disk, &clock()).unwrap(), query, rollups).unwrap());
    let [points, buckets] = [expected("cpu | limit 1000", false), expected(BY_MINUTE, false)];
    let mut refused = 0;
    for part in ["/cpu/", "/minutes/"] {
        let [file] = disk.files_with(part).try_into().unwrap();
        let len = disk.read(&file).len();
        for at in (0..len).step_by(31) {
            let damaged = disk.after_power_loss(0, Loss::Kept);
            damaged.edit(&file, |bytes| bytes[at] ^= 0x20);
            let db = open(&damaged, &clock()).unwrap_or_else(|error| panic!("{file}, byte {at}: {error}"));
            for (query, right) in [("cpu | limit 1000", &points), (BY_MINUTE, &buckets)] {
                match ask(&db, query, true) {
                    Ok(answer) => assert_eq!(&rows(&answer), right, "{file}, byte {at}"),
                    Err(error) => {
                        refused += 1;
                        let text = error.to_string();
                        assert!(
                            text.contains(&file) && text.contains("damaged at byte"),
                            "byte {at}: {text}"
                        );
                    }
                }
            }
            assert_eq!(ask(&db, "mem | limit 1000", true).unwrap().rows(), BATCHES as usize + 1);
            write(&db, &format!("cpu,host=z,region=eu n=1i {NOON}")).expect("a damaged block stops no write");
        }
    }
    assert!(refused > 100, "only {refused} answers were refused: the damage hits nothing");
}

#[test]
fn a_missing_cut_or_foreign_block_is_named_and_hides_no_other_table() {
    type Damage = fn(&FaultyDisk, &str);
    let damages: [(&str, Damage); 5] = [
        ("missing", |disk, file| disk.take(file)),
        ("empty", |disk, file| disk.edit(file, Vec::clear)),
        ("cut in half", |disk, file| disk.edit(file, |bytes| bytes.truncate(bytes.len() / 2))),
        ("one byte short", |disk, file| disk.edit(file, cut_one_byte)),
        ("another table's", |disk, file| {
            let [other] = disk.files_with("/mem/").try_into().unwrap();
            let bytes = disk.read(&other);
            disk.edit(file, |block| *block = bytes);
        }),
    ];
    for (name, damage) in damages {
        let disk = flushed();
        let [file] = disk.files_with("/cpu/").try_into().unwrap();
        damage(&disk, &file);
        let db = open(&disk, &clock()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let error = match ask(&db, "cpu | limit 1000", true) {
            Ok(answer) => panic!("{name}: it answered {:?}", rows(&answer)),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(&file), "{name}: {error}");
        assert_eq!(ask(&db, "mem | limit 1000", true).unwrap().rows(), BATCHES as usize + 1, "{name}");
        // Merging must not take damage for absence.
        write(&db, &format!("cpu,host=a,region=eu n=1i {}", NOON - 60 * SECOND)).unwrap();
        db.flush(FlushScope::All).unwrap();
        let error = db.compact(true).expect_err(name).to_string();
        assert!(error.contains(&file), "{name}: {error}");
    }
}
