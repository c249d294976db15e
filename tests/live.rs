//! Continuous queries: what listeners are told is what the statement answers, window by window.
//!
//! The engine's part against queries over random histories; the door with clients of both its protocols.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use storage_format::point::TimeRange;
use waterclock::db::{Db, FlushScope, QueryOptions};
use waterclock::live::{Event, EventKind, Run, Statement};

use crate::clients::python;
use crate::support::dice::Dice;
use crate::support::engine::{self, DATABASE, NOON, SECOND};
use crate::support::faulty_disk::FaultyDisk;
use crate::support::manual_clock::ManualClock;
use crate::support::server::{Server, folder};

const MINUTE: i64 = 60 * SECOND;

fn started(first: &str) -> (Arc<Db>, ManualClock) {
    let clock = ManualClock::at(NOON);
    let db = Arc::new(engine::open(&FaultyDisk::new(), &clock).unwrap());
    engine::write(&db, first).unwrap();
    (db, clock)
}

fn live(db: &Arc<Db>, text: &str) -> (Arc<Statement>, Run) {
    let statement = Statement::new(db, text, QueryOptions::of(DATABASE), Duration::ZERO).unwrap();
    let statement = Arc::new(statement);
    let run = Run::new(Arc::clone(&statement));
    (statement, run)
}

/// Each event as its kind, its rows, and the rows that are gone.
fn said(events: &[Event]) -> Vec<(EventKind, Vec<String>, usize)> {
    events.iter().map(|event| (event.kind, engine::rows(&event.answer), event.gone.len())).collect()
}

#[test]
fn a_window_is_said_when_it_closes_and_again_when_it_changes() {
    let (db, clock) = started(&format!("cpu,host=a v=1 {NOON}"));
    let (_, mut run) = live(&db, "cpu | every 1m count, max(v) as v by host");
    assert!(said(&run.step().unwrap()).is_empty());
    clock.advance(Duration::from_secs(60));
    let row = |v: &str, count: u64| format!("time={NOON} host=a count={count} v={v}");
    let one = "1/3ff0000000000000";
    assert_eq!(said(&run.step().unwrap()), [(EventKind::Closed, vec![row(one, 1)], 0)]);
    // A point of the window that is open now is nobody's business.
    engine::write(&db, &format!("cpu,host=a v=5 {}", NOON + MINUTE)).unwrap();
    assert!(run.step().unwrap().is_empty());
    // Late, in the closed one; then the same again, which changes nothing.
    for expected in [vec![(EventKind::Corrected, vec![row("4/4010000000000000", 2)], 0)], Vec::new()] {
        engine::write(&db, &format!("cpu,host=a v=4 {}", NOON + 1)).unwrap();
        assert_eq!(said(&run.step().unwrap()), expected);
    }
    engine::run(&db, "delete from cpu between 2026-01-01T12:00 and 2026-01-01T12:01").unwrap();
    let events = run.step().unwrap();
    assert_eq!(said(&events), [(EventKind::Corrected, Vec::new(), 1)]);
    assert_eq!((events[0].gone[0].0, events[0].gone[0].1.get("host")), (NOON, Some("a")));
}

#[test]
fn a_statement_without_a_range_looks_back_as_far_as_is_asked() {
    let (db, _) = started(&format!("cpu v=1 {NOON}"));
    let history = |text: &str, back: i64| {
        let options =
            QueryOptions { range: Some(TimeRange::new(NOON - back, NOON)), ..QueryOptions::of(DATABASE) };
        Statement::new(&db, text, options, Duration::ZERO).unwrap().history()
    };
    assert_eq!(history("cpu | every 1m count", 15 * MINUTE), 15 * MINUTE);
    assert_eq!(history("cpu | last 2m | every 1m count", 15 * MINUTE), 2 * MINUTE);
    // What looks at other windows may be asked for with it.
    let moving = "cpu | every 1m sum(v) as v by () | extend m = moving_avg(v, 2)";
    assert_eq!(history(moving, MINUTE), MINUTE);
    assert!(Statement::new(&db, moving, QueryOptions::of(DATABASE), Duration::ZERO).is_err());
}

#[test]
fn rows_that_look_back_are_corrected_as_far_as_the_change_reaches() {
    let (db, clock) = started(&format!("cpu v=1 {NOON}"));
    let (_, mut run) = live(&db, "cpu | last 10m | every 1m sum(v) as v by () | extend m = moving_avg(v, 2)");
    for minute in 1..6 {
        engine::write(&db, &format!("cpu v={minute} {}", NOON + minute * MINUTE)).unwrap();
    }
    clock.advance(Duration::from_secs(360));
    let closed = run.step().unwrap();
    assert_eq!(said(&closed)[0].1.len(), 6);
    engine::write(&db, &format!("cpu v=100 {}", NOON + 2 * MINUTE)).unwrap();
    let corrected = said(&run.step().unwrap());
    assert_eq!(corrected.len(), 1);
    let times: Vec<&str> = corrected[0].1.iter().map(|row| row.split(' ').next().unwrap()).collect();
    let time = |minute: i64| format!("time={}", NOON + minute * MINUTE);
    assert_eq!(times, [time(2), time(3)], "the changed window and the one that averages over it");
}

/// A listener that puts together what it is told has, after every step, what a query says of the closed windows.
#[test]
fn what_is_said_adds_up_to_the_answer() {
    const STATEMENTS: [&str; 5] = [
        "cpu | every 1m count, sum(v) as v, last(w) as w by host",
        "cpu | every 30s over 2m avg(v) as v, count",
        "cpu{host!=\"c\"} | every 1m max(v) as m | max(m) as m, count as n by zone",
        "cpu | every 1m sum(v) as v by host | where v > 20 | extend d = v * 2 | sort v desc",
        "cpu | where v > 3 | every 1d count by host in \"Europe/Berlin\"",
    ];
    for seed in 0..6 {
        for text in STATEMENTS {
            adds_up(seed, text);
        }
    }
}

fn adds_up(seed: u64, text: &str) {
    let dice = &mut Dice::new(seed);
    let (db, clock) = started(&format!("cpu,host=a,zone=x v=1,w=1i {NOON}"));
    if seed.is_multiple_of(2) {
        engine::run(&db, "create rollup cpu_30s as cpu | every 30s count, sum(v), avg(v), max(v), last(w)")
            .unwrap();
    }
    let (statement, mut run) = live(&db, text);
    let begin = run.closed();
    let mut heard: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut corrections = 0;
    let mut now = NOON;
    for step in 0..60 {
        match dice.roll(10) {
            0..=5 => {
                for _ in 0..=dice.roll(4) {
                    let back = *dice.pick(&[0, 0, SECOND, 70 * SECOND, 10 * MINUTE, 30 * 60 * MINUTE]);
                    let time = now - back + dice.roll(20) as i64 * SECOND;
                    let (host, zone) = (*dice.pick(&["a", "b", "c"]), *dice.pick(&["x", "y"]));
                    let (v, w) = (dice.roll(16), dice.roll(3));
                    engine::write(&db, &format!("cpu,host={host},zone={zone} v={v},w={w}i {time}")).unwrap();
                }
            }
            6 => {
                let from = now - 5 * MINUTE + dice.roll(300) as i64 * SECOND;
                let host = *dice.pick(&["a", "b"]);
                engine::run(
                    &db,
                    &format!("delete from cpu{{host=\"{host}\"}} between {from}ns and {}ns", from + MINUTE),
                )
                .unwrap();
            }
            7 => drop(db.flush(FlushScope::All).unwrap()),
            _ => {
                let by = 1 + dice.roll(90) as i64;
                now += by * SECOND;
                clock.set(now);
            }
        }
        for event in run.step().unwrap() {
            assert_ne!(event.kind, EventKind::Changed);
            corrections += u32::from(event.kind == EventKind::Corrected);
            for (window, tags) in &event.gone {
                let lost = heard.remove(&(window.to_string(), tags.to_string()));
                // What was said before it was listened to is not known.
                assert!(lost.is_some() || *window < begin, "seed {seed}, step {step}: {text}");
            }
            for (key, row) in keyed(&event) {
                heard.insert(key, row);
            }
        }
        let past = statement.past(begin, run.closed()).unwrap();
        let expected: BTreeMap<_, _> = keyed(&past).collect();
        let told: BTreeMap<_, _> = heard
            .clone()
            .into_iter()
            .filter(|((time, _), _)| time.parse::<i64>().unwrap() >= begin)
            .collect();
        assert_eq!(told, expected, "seed {seed}, step {step}: {text}");
    }
    assert!(text.contains("1d") || corrections > 0, "seed {seed}: {text}: the test corrects nothing");
}

/// Rows by their time and tags.
fn keyed(event: &Event) -> impl Iterator<Item = ((String, String), String)> {
    let columns = event.answer.columns.clone();
    let rows = engine::rows(&event.answer);
    engine::cells(&event.answer).into_iter().zip(rows).map(move |(cells, row)| {
        let tags =
            columns.iter().zip(&cells).filter(|(column, _)| column.role == waterclock::query::Role::Tag);
        let tags = tags.filter_map(|(column, cell)| Some((column.name.as_str(), cell.as_deref()?)));
        let tags = storage_format::point::TagSet::new(tags).to_string();
        ((cells[0].clone().unwrap(), tags), row)
    })
}

#[test]
fn clients_of_both_protocols_are_told_everything_and_come_back() {
    let folder = folder();
    let server = Server::start(
        folder.path(),
        &["--set", "live_buffer_bytes_max=64KiB", "--set", "live_subscribers_max=300"],
    );
    assert!(python("live.py", &[server.url.trim_start_matches("http://")]).ends_with("ok\n"));
}
