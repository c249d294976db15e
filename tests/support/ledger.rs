//! Several clients' points and deletes, and per point what a server must and may answer.
//!
//! Invariant: a writer's series are its own and it waits for each answer, so that its last acknowledged operation on a point
//! is the last one. What was sent after that and never answered may be there or not, until a check has seen which: from then
//! on that is what it is.
//! Not here: how the server dies (`kill`, `full_disk`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::dice::Dice;
use crate::support::server::Server;

const SERIES: u64 = 5;
const TIMES: u64 = 48;
const NOON_S: i64 = 1_767_268_800;
const DAY_S: i64 = 86_400;

/// Writer, series, time in seconds.
type Point = (usize, u64, i64);

/// What a writer does next to its own series. Numbers ascend and are never used twice, so that a value tells its write.
pub enum Operation {
    Write(Vec<(Point, u64)>),
    Delete { number: u64, writer: usize, series: u64, from: i64, to: i64 },
}

/// The value, or None if it was deleted.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Told {
    number: u64,
    value: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Allowed {
    acknowledged: Option<Told>,
    sent_since: Vec<Told>,
}

#[derive(Default)]
pub struct Ledger {
    points: Mutex<BTreeMap<Point, Allowed>>,
    numbers: AtomicU64,
}

impl Operation {
    pub fn path(&self) -> &'static str {
        match self {
            Operation::Write(_) => "/write?db=default&precision=s",
            Operation::Delete { .. } => "/api/wql",
        }
    }

    pub fn body(&self) -> String {
        match self {
            Operation::Write(points) => {
                let mut lines = String::new();
                for ((writer, series, time), value) in points {
                    let _ = writeln!(lines, "load,writer={writer},series={series} v={value}i {time}");
                }
                lines
            }
            Operation::Delete { writer, series, from, to, .. } => {
                format!(
                    "delete from load{{writer=\"{writer}\", series=\"{series}\"}} between {from}s and {to}s"
                )
            }
        }
    }

    pub fn is_delete(&self) -> bool {
        matches!(self, Operation::Delete { .. })
    }
}

impl Ledger {
    /// A write of points at any age, of which many were there before; now and then a delete. It counts as sent.
    pub fn next(&self, writer: usize, dice: &mut Dice) -> Operation {
        let number = || self.numbers.fetch_add(1, Ordering::SeqCst) + 1;
        let operation = if dice.roll(8) == 0 {
            let (a, b) = (time(dice.roll(TIMES)), time(dice.roll(TIMES)));
            let series = dice.roll(SERIES);
            Operation::Delete { number: number(), writer, series, from: a.min(b), to: a.max(b) + 1 }
        } else {
            // Each point once: of equal ones in one batch the last would win.
            let count = 1 + dice.roll(8);
            let points: BTreeMap<Point, u64> =
                (0..count).map(|_| ((writer, dice.roll(SERIES), time(dice.roll(TIMES))), number())).collect();
            Operation::Write(points.into_iter().collect())
        };
        self.change(&operation, |allowed, told| allowed.sent_since.push(told));
        operation
    }

    pub fn acknowledge(&self, operation: &Operation) {
        self.change(operation, |allowed, told| {
            allowed.sent_since.retain(|sent| sent.number > told.number);
            allowed.acknowledged = Some(told);
        });
    }

    /// It was answered with an error: it must never be seen.
    pub fn refuse(&self, operation: &Operation) {
        self.change(operation, |allowed, told| allowed.sent_since.retain(|sent| *sent != told));
    }

    fn change(&self, operation: &Operation, mut each: impl FnMut(&mut Allowed, Told)) {
        let mut known = self.points.lock().unwrap();
        match operation {
            Operation::Write(points) => {
                for (point, value) in points {
                    let told = Told { number: *value, value: Some(*value) };
                    each(known.entry(*point).or_default(), told);
                }
            }
            Operation::Delete { number, writer, series, from, to } => {
                for (_, allowed) in known.range_mut((*writer, *series, *from)..(*writer, *series, *to)) {
                    each(allowed, Told { number: *number, value: None });
                }
            }
        }
    }

    /// Points that must be there.
    pub fn acknowledged(&self) -> usize {
        let known = self.points.lock().unwrap();
        known.values().filter(|allowed| allowed.acknowledged.is_some_and(|told| told.value.is_some())).count()
    }

    /// Reads everything, and every rollup with and without rollups. Nobody may be writing.
    pub fn check(&self, server: &Server, story: &str) {
        let reply = server.post("/api/wql?time=s", b"load | limit 100000");
        assert_eq!(reply.status, 200, "{story}: {}", reply.text());
        let mut found = BTreeMap::new();
        for row in reply.json()["rows"].as_array().unwrap() {
            // Time, then the tags in order, then the field.
            let tag = |at: usize| row[at].as_str().unwrap().parse::<u64>().unwrap();
            let point = (tag(2) as usize, tag(1), row[0].as_i64().unwrap());
            let twice = found.insert(point, row[3].as_u64().unwrap());
            assert!(twice.is_none(), "{story}: a point came twice: {row}");
        }
        for (point, allowed) in self.points.lock().unwrap().iter_mut() {
            let value = found.remove(point);
            let told = allowed.sent_since.iter().rev().find(|told| told.value == value).copied();
            let acknowledged = allowed.acknowledged.filter(|told| told.value == value);
            let nothing_yet = allowed.acknowledged.is_none() && value.is_none();
            let seen = acknowledged.or(told);
            assert!(
                seen.is_some() || nothing_yet,
                "{story}: {point:?} is {value:?}, which is none of {allowed:?}"
            );
            *allowed = Allowed { acknowledged: seen, sent_since: Vec::new() };
        }
        assert!(found.is_empty(), "{story}: nobody has sent {found:?}");
        check_rollups(server, story);
    }
}

/// A time of the pool: most of three days, some five years older, some five years in the future.
fn time(index: u64) -> i64 {
    let days = match index % 8 {
        6 => -5 * 365,
        7 => 10 * 365,
        near => near as i64 % 3,
    };
    NOON_S + days * DAY_S + index as i64 * 10
}

/// The names of the rollups, each of which equals its raw points.
pub fn check_rollups(server: &Server, story: &str) -> Vec<String> {
    let rollups = server.get("/api/rollups").json();
    let names: Vec<String> = rollups["rollups"]
        .as_array()
        .unwrap_or_else(|| panic!("{story}: {rollups}"))
        .iter()
        .map(|rollup| rollup["name"].as_str().unwrap().to_string())
        .collect();
    let queries = ["load | every 1m count, sum(v), max(v) by writer", "load | every 1h sum(v) by ()"];
    for query in queries.into_iter().map(str::to_string).chain(names.iter().cloned()) {
        let ask = |rollups: &str| {
            let reply = server.post(&format!("/api/wql?rollups={rollups}"), query.as_bytes());
            assert_eq!(reply.status, 200, "{story}: {query}: {}", reply.text());
            reply.json()["rows"].clone()
        };
        assert_eq!(ask("on"), ask("off"), "{story}: {query}");
    }
    names
}
