//! Random changes of the model's table, rollups over it, and questions: what `random` and `interleavings` roll dice for.
//!
//! Times lie near each other, so that points meet, are overwritten and come late; some in other partitions and days, and
//! some, always whole batches of them, so old that a retention may end between them and the rest.

use std::fmt::Write as _;

use crate::support::dice::Dice;
use crate::support::engine::{NOON, SECOND};
use crate::support::model::{Fields, Model, Series};
use crate::support::question::{Buckets, DAY, Question, What};

pub const HOSTS: [&str; 3] = ["a", "b", "c"];
const DCS: [&str; 3] = ["", "x", "y"];

/// Old points are before this, by days; all others after it, by days.
pub const OLD_UNTIL: i64 = NOON - 5 * DAY / 2;

const AGE: i64 = 4 * DAY;

#[derive(Clone, Debug)]
pub enum Change {
    Points(Vec<(Series, i64, Fields)>),
    Delete { host: Option<&'static str>, from: i64, to: i64 },
}

/// How a point stood to what was there before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    Late,
    Overwriting,
    Duplicate,
    InOrder,
}

impl Change {
    /// A batch of points of these hosts, some of which are in the model already.
    pub fn points(dice: &mut Dice, hosts: &[&'static str], model: &Model) -> Change {
        let age = if dice.roll(10) == 0 { AGE } else { 0 };
        let mut points: Vec<(Series, i64, Fields)> = Vec::new();
        for _ in 0..1 + dice.roll(12) {
            let series = (dice.pick(hosts).to_string(), dice.pick(&DCS).to_string());
            let time = near(dice) - age;
            let mut fields = Fields::default();
            if dice.roll(4) > 0 {
                fields.f = Some(dice.roll(400) as f64 / 4.0 - 50.0);
            }
            if fields.f.is_none() || dice.roll(2) == 0 {
                fields.n = Some(dice.roll(1_000) as i64 - 500);
            }
            // Sent twice, as clients do that got no answer.
            let known = model.at(&series, time).filter(|_| dice.roll(3) == 0);
            points.push((series, time, known.unwrap_or(fields)));
        }
        Change::Points(points)
    }

    pub fn delete(dice: &mut Dice, host: Option<&'static str>) -> Change {
        let age = if dice.roll(10) == 0 { AGE } else { 0 };
        let from = near(dice) - age;
        Change::Delete { host, from, to: from + (1 + dice.roll(30) as i64) * 10 * SECOND }
    }

    pub fn is_old(&self) -> bool {
        match self {
            Change::Points(points) => points.iter().any(|(_, time, _)| *time < OLD_UNTIL),
            Change::Delete { from, .. } => *from < OLD_UNTIL,
        }
    }

    /// Line protocol, or a statement.
    pub fn body(&self) -> String {
        match self {
            Change::Points(points) => {
                let mut body = String::new();
                for ((host, dc), time, fields) in points {
                    let dc = if dc.is_empty() { String::new() } else { format!(",dc={dc}") };
                    let f = fields.f.map(|f| format!("f={f}"));
                    let n = fields.n.map(|n| format!("n={n}i"));
                    let values: Vec<String> = f.into_iter().chain(n).collect();
                    let _ = writeln!(body, "cpu{dc},host={host} {} {time}", values.join(","));
                }
                body
            }
            Change::Delete { host, from, to } => {
                let matcher = host.map(|host| format!("{{host=\"{host}\"}}")).unwrap_or_default();
                format!("delete from cpu{matcher} between {from}ns and {to}ns")
            }
        }
    }

    /// Does it to the model, and says of each point how it came.
    pub fn apply(&self, model: &mut Model) -> Vec<Arrival> {
        match self {
            Change::Points(points) => {
                let mut arrivals = Vec::new();
                for (series, time, fields) in points {
                    let newest =
                        model.points.get(series).and_then(|points| points.keys().next_back().copied());
                    let before = model.at(series, *time);
                    model.write(series, *time, *fields);
                    arrivals.push(match before {
                        Some(before) if model.at(series, *time) == Some(before) => Arrival::Duplicate,
                        Some(_) => Arrival::Overwriting,
                        None if newest.is_some_and(|newest| newest > *time) => Arrival::Late,
                        None => Arrival::InOrder,
                    });
                }
                arrivals
            }
            Change::Delete { host, from, to } => {
                model.delete(*host, *from, *to);
                Vec::new()
            }
        }
    }
}

fn near(dice: &mut Dice) -> i64 {
    let near = NOON - 7_200 * SECOND + dice.roll(60) as i64 * 10 * SECOND;
    match dice.roll(12) {
        0 => near - DAY,
        1 => near - 3 * 3_600 * SECOND,
        2 => near + 3 * 3_600 * SECOND,
        3 => near + dice.roll(1_000) as i64,
        _ => near,
    }
}

/// A range of time that has points, to refresh.
pub fn stretch(dice: &mut Dice) -> (i64, i64) {
    let from = near(dice) - if dice.roll(6) == 0 { AGE } else { 0 };
    (from, from + (1 + dice.roll(60) as i64) * 60 * SECOND)
}

/// A statement that can be a rollup.
#[derive(Clone, Debug)]
pub struct Definition {
    pub text: String,
    /// Whether it answers [`What::Sums`] by its name, in buckets of these nanoseconds and by these tags.
    pub sums: Option<(i64, &'static [&'static str])>,
}

const BY: [&[&str]; 4] = [&["host", "dc"], &["host"], &["dc"], &[]];

impl Definition {
    pub fn random(dice: &mut Dice) -> Definition {
        let (step, nanos) = *dice.pick(&[("10s", 10), ("30s", 30), ("1m", 60), ("10m", 600), ("8h", 28_800)]);
        let tags = *dice.pick(&BY);
        let by = by_text(tags);
        let text = match dice.roll(10) {
            0 | 1 => format!("cpu | where n > 0 | every {step} count, sum(f), max(n){by}"),
            2 => format!("cpu | extend d = f * 2 + 1 | every {step} count, sum(d), max(d){by}"),
            3 | 4 => format!("cpu | every {step} increase(n), delta(f), twa(f), integral(n){by}"),
            5 => format!("cpu | every 1d count, sum(f), max(f), sum(n){by} in \"Europe/Berlin\""),
            6 => format!("cpu | every {step} over 20m stddev(f), p95(f), distinct(n), spread(n){by}"),
            _ => {
                let all = "count, sum(f), max(f), first(f), last(f), min(n), sum(n)";
                let text = format!("cpu | every {step} {all}{by}");
                return Definition { text, sums: Some((nanos * SECOND, tags)) };
            }
        };
        Definition { text, sums: None }
    }

    /// On another one, whose buckets and tags fit.
    pub fn on(dice: &mut Dice, parent: &str, step: i64, tags: &'static [&'static str]) -> Definition {
        // Not so long that old points share a bucket with others.
        let wider = step * *dice.pick(&[2, 6, 10]);
        let step = if wider > 6 * 3_600 * SECOND { step } else { wider };
        let fitting: Vec<&'static [&'static str]> =
            BY.into_iter().filter(|by| by.iter().all(|tag| tags.contains(tag))).collect();
        let tags = *dice.pick(&fitting);
        let text = format!("{parent} | every {step}ns count, sum(f), max(f), sum(n){}", by_text(tags));
        Definition { text, sums: Some((step, tags)) }
    }
}

fn by_text(tags: &[&str]) -> String {
    if tags.is_empty() { " by ()".to_string() } else { format!(" by {}", tags.join(", ")) }
}

/// A change of a rollup's definition, which it may refuse.
pub fn alteration(dice: &mut Dice) -> &'static str {
    dice.pick::<&str>(&["add variance(n)", "add last(n)", "add increase(n)", "drop max(f)", "drop first(f)"])
}

/// Points of no other times are there, or shown.
const RETAINED: (i64, i64) = (OLD_UNTIL, NOON + DAY);

/// None is all of time. With `retained` it is a part of what is kept when old points are not.
fn range(dice: &mut Dice, retained: bool) -> Option<(i64, i64)> {
    match dice.roll(4) {
        0 | 1 if retained => Some(RETAINED),
        0 => None,
        1 => Some((NOON - 5 * DAY - dice.roll(100) as i64, NOON + 20_000 * SECOND)),
        2 => Some((NOON - 7_200 * SECOND + dice.roll(600) as i64 * SECOND, NOON)),
        _ => Some((NOON - 7_170 * SECOND, NOON - 6_800 * SECOND)),
    }
}

/// Steps that no rollup has are among them.
fn step(dice: &mut Dice) -> i64 {
    *dice.pick(&[10, 30, 60, 600, 1_800]) * SECOND
}

impl Question {
    pub fn random(dice: &mut Dice, retained: bool) -> Question {
        let source = "cpu".to_string();
        let hour = 3_600 * SECOND;
        let what = match dice.roll(8) {
            0 => What::Points,
            1 => What::Positive,
            2 => What::Computed,
            3 => {
                let (range, what, buckets) = (retained.then_some(RETAINED), What::Rises, Buckets::Whole);
                return Question { source, range, what, buckets, by: &[] };
            }
            _ => What::Plain,
        };
        let buckets = match dice.roll(6) {
            0 => Buckets::Whole,
            1 => *dice.pick(&[
                Buckets::Days("Europe/Berlin", hour),
                Buckets::Days("Asia/Kolkata", 5 * hour + hour / 2),
                Buckets::Days("America/New_York", -5 * hour),
            ]),
            _ => Buckets::Step(step(dice)),
        };
        let (range, by) = (range(dice, retained), *dice.pick(&BY));
        Question { source, range, what, buckets, by }
    }

    /// Of a rollup by its name.
    pub fn of_rollup(
        dice: &mut Dice,
        name: &str,
        step: i64,
        tags: &'static [&'static str],
        retained: bool,
    ) -> Question {
        let fitting: Vec<&'static [&'static str]> =
            BY.into_iter().filter(|by| by.iter().all(|tag| tags.contains(tag))).collect();
        let buckets = match dice.roll(3) {
            0 => Buckets::Whole,
            _ => Buckets::Step(step * *dice.pick(&[1, 1, 3])),
        };
        let what = What::Sums;
        let (source, range) = (name.to_string(), retained.then_some(RETAINED));
        let by = *dice.pick(&fitting);
        Question { source, range, what, buckets, by }
    }
}

/// A question whose answer the model does not know bit by bit: through rollups it is what points give.
pub fn riddle(dice: &mut Dice, retained: bool) -> String {
    let by = *dice.pick(&["", " by host", " by dc, host", " by ()"]);
    let range =
        range(dice, retained).map(|(from, to)| format!("between {from}ns and {to}ns | ")).unwrap_or_default();
    let over = if dice.roll(3) == 0 { " over 20m" } else { "" };
    let step = step(dice);
    match dice.roll(6) {
        0 => format!("cpu{{host=\"a\"}} | {range}where n > 0 | count, sum(f) by ()"),
        1 => format!("cpu | {range}extend e = f * 2 + 1 | every {step}ns{over} count, sum(e), max(e){by}"),
        2 => format!("cpu | {range}every {step}ns{over} increase(n), delta(f), twa(f), integral(n){by}"),
        3 => format!("cpu | {range}increase(n), twa(f), integral(n){by}"),
        4 => format!("cpu | {range}every 1d count, avg(f), rate(n){by} in \"Europe/Berlin\""),
        _ => format!("cpu | {range}every {step}ns{over} stddev(f), p95(f), distinct(n), spread(n){by}"),
    }
}
