//! Continuous queries: what an aggregate statement says when a window closes, and when late points change a closed one.
//!
//! A window closes when the clock has passed its end. From then on its rows are known here by their fingerprints, so that a
//! change behind it ([`Watch`]) is answered by asking for the windows it may touch, and saying those rows that differ.
//! Invariant: what has been said of a window, with all corrections, is what the statement answers for it now, or an event
//! that says so is still to come. Windows that are not known any more are said whole.
//! Not here: who listens, and what a client that comes back has missed (`server`).

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, TimestampNanosecondArray, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, TimestampNanosecondType};
use arrow::row::{RowConverter, SortField};
use crossbeam_channel::{Receiver, Sender, bounded, never};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use query_lang::live::{Going, Unranged, unranged};
use query_lang::parse_with;
use query_lang::plan::Window;
use storage_format::point::{TagSet, Time, TimeRange};
use storage_format::ranges::RangeSet;

use crate::db::{Db, QueryOptions, Watch};
use crate::error::{Error, Kind, Result};
use crate::query::{Answer, LOOK_BACK, Role};

/// Rows whose fingerprints are kept. Above it the oldest windows are forgotten.
const ROWS_KNOWN_MAX: usize = 1_000_000;

/// Changes that come this close after each other are answered together.
const SETTLE: Duration = Duration::from_millis(200);

/// Windows that one change is followed into. Of more only their range is said.
const WINDOWS_CHANGED_MAX: usize = 10_000;

/// A statement that goes on.
pub struct Statement {
    db: Arc<Db>,
    live: Unranged,
    going: Going,
    options: QueryOptions,
    /// How long after its end a window closes, in nanoseconds.
    delay: i64,
}

pub struct Event {
    pub kind: EventKind,
    /// Whole windows.
    pub windows: TimeRange,
    pub answer: Answer,
    /// Rows of closed windows that are no more.
    pub gone: Vec<(Time, TagSet)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Windows have closed: all their rows.
    Closed,
    /// Rows of closed windows that are new or differ.
    Corrected,
    /// Too many windows have changed to say their rows.
    Changed,
}

/// One run of a statement, shared by all who listen to it.
pub struct Run {
    statement: Arc<Statement>,
    watches: Vec<Arc<Watch>>,
    woken: Receiver<()>,
    /// Windows before this are closed and have been said.
    closed: Time,
    /// Where the answer begins if windows cannot be asked for one by one.
    anchor: Time,
    known: Known,
}

/// Fingerprints of the rows of closed windows.
#[derive(Default)]
struct Known {
    windows: BTreeMap<Time, HashMap<TagSet, u64>>,
    rows: usize,
}

impl Statement {
    /// Without a range of its own it looks back as far as that of the options. Errors say what keeps the script from going on.
    pub fn new(db: &Arc<Db>, text: &str, options: QueryOptions, delay: Duration) -> Result<Statement> {
        if db.following().is_some() {
            return Err(Error::rejected(
                Kind::Conflict,
                "read_only",
                "this server only reads (--read-only) and does not see points when they come; ask the one that writes",
            ));
        }
        let script = parse_with(text, &options.params)?;
        let now = db.clock().now();
        let mut live = unranged(&script.statements, now)?;
        let asked = options.range.map(|range| range.end.saturating_sub(range.start));
        live.history = live.history.or(asked.filter(|history| *history > 0));
        let select = db.plan_live(&live, TimeRange::new(now - 1, now), &options)?;
        let going = live.going(&select)?;
        let delay = i64::try_from(delay.as_nanos()).unwrap_or(i64::MAX);
        Ok(Statement { db: Arc::clone(db), live, going, options, delay })
    }

    /// The canonical text, without the range.
    pub fn text(&self) -> String {
        self.live.statement.kind.to_string()
    }

    /// How far back a new listener is told what there was, in nanoseconds.
    pub fn history(&self) -> i64 {
        self.live.history.unwrap_or(0)
    }

    /// What it says of the closed windows from the one that holds a time on.
    pub fn past(&self, from: Time, closed: Time) -> Result<Event> {
        let windows = TimeRange::new(self.going.window.start_of(from), closed);
        let answer = if windows.is_empty() { nothing() } else { self.ask(windows)? };
        Ok(Event { kind: EventKind::Closed, windows, answer, gone: Vec::new() })
    }

    fn ask(&self, range: TimeRange) -> Result<Answer> {
        let guard = self.db.guard();
        guard.admit()?;
        let select = self.db.plan_live(&self.live, range, &self.options)?;
        let mut answer = self.db.select(&select, &self.options, &guard)?;
        answer.stats.elapsed = guard.elapsed();
        Ok(answer)
    }

    /// Windows before this are over.
    fn over(&self) -> Time {
        self.going.window.start_of(self.db.clock().now().saturating_sub(self.delay))
    }

    fn touched(&self, changed: &RangeSet) -> RangeSet {
        let touched = |range: &TimeRange| {
            let width = self.going.window.end_of(range.end).saturating_sub(range.end);
            self.going.touched(*range, width.max(LOOK_BACK))
        };
        changed.ranges().iter().map(touched).collect()
    }
}

impl Run {
    pub fn new(statement: Arc<Statement>) -> Run {
        let (wake, woken) = bounded(1);
        let closed = statement.over();
        let watch = |table: &String| {
            let window = statement.going.window.clone();
            let watch = Watch::new(&statement.options.database, table, window, Sender::clone(&wake));
            watch.advance(closed);
            statement.db.watch(&watch);
            watch
        };
        let watches = statement.going.tables.iter().map(watch).collect();
        let anchor = statement.going.window.start_of(closed.saturating_sub(statement.history()));
        Run { watches, woken, closed, anchor, known: Known::default(), statement }
    }

    /// Windows before this are closed.
    pub fn closed(&self) -> Time {
        self.closed
    }

    /// Waits until a window closes or something behind it changes, but no longer than `most`.
    pub fn wait(&self, most: Duration) {
        let clock = self.statement.db.clock();
        let next = self.statement.going.window.end_of(self.closed).saturating_add(self.statement.delay);
        let left = next.saturating_sub(clock.now()).max(0);
        let woken = self.woken.recv_timeout(most.min(Duration::from_nanos(left as u64)));
        if woken.is_ok() {
            never::<()>().recv_timeout(SETTLE).ok();
        }
    }

    /// What there is to say since the last step.
    pub fn step(&mut self) -> Result<Vec<Event>> {
        let statement = Arc::clone(&self.statement);
        let until = statement.over().max(self.closed);
        let mut changed = RangeSet::default();
        for watch in &self.watches {
            changed = changed.union(&watch.take());
            // Before the answer is made, so that what it does not hold yet is noted.
            watch.advance(until);
        }
        let before = TimeRange::new(Time::MIN, self.closed);
        let touched = statement.touched(&changed).intersect(&before.into());
        let closing = TimeRange::new(self.closed, until);
        let mut events = Vec::new();
        if statement.going.each_alone {
            for range in touched.ranges() {
                if windows_in(&statement.going.window, *range) > WINDOWS_CHANGED_MAX {
                    self.known.forget(*range);
                    events.push(Event {
                        kind: EventKind::Changed,
                        windows: *range,
                        answer: nothing(),
                        gone: Vec::new(),
                    });
                } else {
                    events.extend(self.known.correct(*range, &statement.ask(*range)?));
                }
            }
            if !closing.is_empty() {
                events.push(self.known.close(closing, statement.ask(closing)?));
            }
        } else if !touched.is_empty() || !closing.is_empty() {
            let answer = statement.ask(TimeRange::new(self.anchor, until))?;
            if !touched.is_empty() {
                let said = TimeRange::new(self.known.first().unwrap_or(self.closed), self.closed);
                events.extend(self.known.correct(said, &part(&answer, said)));
            }
            if !closing.is_empty() {
                events.push(self.known.close(closing, part(&answer, closing)));
            }
            self.move_anchor(until)?;
        }
        self.closed = until;
        Ok(events)
    }

    /// Rows that look back see no further than the anchor, which therefore moves rarely. What the rows near it say
    /// after that is no news.
    fn move_anchor(&mut self, until: Time) -> Result<()> {
        let history = self.statement.history();
        if until.saturating_sub(self.anchor) <= history.saturating_mul(2) {
            return Ok(());
        }
        self.anchor = self.statement.going.window.start_of(until.saturating_sub(history));
        let range = TimeRange::new(self.anchor, until);
        self.known.forget(TimeRange::new(Time::MIN, self.anchor));
        self.known.learn(range, &fingerprints(&self.statement.ask(range)?));
        Ok(())
    }
}

fn nothing() -> Answer {
    Answer::new(Vec::new(), Vec::new(), Vec::new())
}

fn windows_in(window: &Window, range: TimeRange) -> usize {
    let mut at = range.start;
    (0..=WINDOWS_CHANGED_MAX)
        .take_while(|_| {
            let inside = at < range.end;
            at = window.end_of(at);
            inside
        })
        .count()
}

/// The rows whose time lies in the range.
fn part(answer: &Answer, range: TimeRange) -> Answer {
    let times = times_of(answer);
    let rows: Vec<u32> =
        (0..answer.rows() as u32).filter(|row| range.contains(times.value(*row as usize))).collect();
    pick(answer, rows)
}

fn pick(answer: &Answer, rows: Vec<u32>) -> Answer {
    let batch = take_record_batch(&answer.batch, &UInt32Array::from(rows)).expect("the rows are there");
    Answer {
        columns: answer.columns.clone(),
        batch,
        stats: answer.stats.clone(),
        warnings: answer.warnings.clone(),
    }
}

fn times_of(answer: &Answer) -> TimestampNanosecondArray {
    let place = answer.columns.iter().position(|column| column.role == Role::Time);
    let place = place.expect("bug: a row of a live statement has the time of its window");
    answer.batch.column(place).as_primitive::<TimestampNanosecondType>().clone()
}

/// Of each row: its window, who it is about, and a number that differs when its values do.
fn fingerprints(answer: &Answer) -> Vec<(Time, TagSet, u64)> {
    let of_role = |role: Role| {
        let columns = answer.columns.iter().zip(answer.batch.columns());
        columns.filter(move |(column, _)| column.role == role)
    };
    let text = |array: &ArrayRef| cast(array, &DataType::Utf8).expect("tags are texts");
    let tags: Vec<(&str, ArrayRef)> =
        of_role(Role::Tag).map(|(column, array)| (column.name.as_str(), text(array))).collect();
    let values: Vec<ArrayRef> = of_role(Role::Value).map(|(_, array)| Arc::clone(array)).collect();
    let fields = values.iter().map(|array| SortField::new(array.data_type().clone()));
    let values = RowConverter::new(fields.collect()).and_then(|converter| converter.convert_columns(&values));
    let values = values.expect("what is answered can be compared");
    // Another list of columns makes other rows.
    let names: Vec<&str> = of_role(Role::Value).map(|(column, _)| column.name.as_str()).collect();
    let state = FixedState::with_seed(FixedState::default().hash_one(names));
    let times = times_of(answer);
    let fingerprint = |row: usize| {
        let tag = |(name, array): &(&'_ str, ArrayRef)| {
            array.is_valid(row).then(|| (name.to_string(), array.as_string::<i32>().value(row).to_string()))
        };
        let tags = TagSet::new(tags.iter().filter_map(tag));
        (times.value(row), tags, state.hash_one(values.row(row)))
    };
    (0..answer.rows()).map(fingerprint).collect()
}

impl Known {
    fn first(&self) -> Option<Time> {
        self.windows.keys().next().copied()
    }

    fn forget(&mut self, range: TimeRange) {
        let mut kept = self.windows.split_off(&range.start);
        let after = kept.split_off(&range.end);
        self.windows.extend(after);
        self.rows = self.windows.values().map(HashMap::len).sum();
    }

    /// The windows of the range say this now.
    fn learn(&mut self, range: TimeRange, rows: &[(Time, TagSet, u64)]) {
        self.forget(range);
        for (time, tags, print) in rows {
            let window = self.windows.entry(*time).or_default();
            // Rows of one group and time, as a join may make them, count together.
            let known = window.entry(tags.clone()).or_default();
            *known = known.wrapping_add(*print);
            self.rows += 1;
        }
        while self.rows > ROWS_KNOWN_MAX {
            let Some((_, oldest)) = self.windows.pop_first() else { break };
            self.rows = self.rows.saturating_sub(oldest.len());
        }
    }

    fn close(&mut self, windows: TimeRange, answer: Answer) -> Event {
        self.learn(windows, &fingerprints(&answer));
        Event { kind: EventKind::Closed, windows, answer, gone: Vec::new() }
    }

    /// What differs from what is known; all of a window that is not known.
    fn correct(&mut self, windows: TimeRange, answer: &Answer) -> Option<Event> {
        let rows = fingerprints(answer);
        let mut now: BTreeMap<Time, HashMap<&TagSet, u64>> = BTreeMap::new();
        for (time, tags, print) in &rows {
            let known = now.entry(*time).or_default().entry(tags).or_default();
            *known = known.wrapping_add(*print);
        }
        let differs = |(time, tags, _): &(Time, TagSet, u64)| {
            let known = self.windows.get(time).and_then(|window| window.get(tags));
            known != now[time].get(tags)
        };
        let differing: Vec<u32> =
            (0..).zip(&rows).filter(|(_, row)| differs(row)).map(|(at, _)| at).collect();
        let mut gone = Vec::new();
        for (time, known) in self.windows.range(windows.start..windows.end) {
            let still = now.get(time);
            let lost = known.keys().filter(|tags| still.is_none_or(|window| !window.contains_key(tags)));
            gone.extend(lost.map(|tags| (*time, tags.clone())));
        }
        gone.sort_by(|a: &(Time, TagSet), b| (a.0, a.1.as_bytes()).cmp(&(b.0, b.1.as_bytes())));
        self.learn(windows, &rows);
        let is_news = !differing.is_empty() || !gone.is_empty();
        let event = || Event { kind: EventKind::Corrected, windows, answer: pick(answer, differing), gone };
        is_news.then(event)
    }
}
