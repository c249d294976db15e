//! Random operations against a model: after every step, raw = model and rollup = raw, bit for bit.
//!
//! A failure prints the seed and the operations; `SEED=n` runs one, `SEEDS=n` runs more of them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use waterclock::config::Config;
use waterclock::db::{Db, FlushScope, RefreshScope};
use waterclock::disk::LocalDisk;

use crate::support::counts::Counts;
use crate::support::dice::Dice;
use crate::support::engine::{NOON, SECOND, ask, cells, write};
use crate::support::manual_clock::ManualClock;
use crate::support::model::{Fields, Model};
use crate::support::question::{Buckets, Cells, Question, What};
use crate::support::workload::{Change, Definition, HOSTS, alteration, riddle, stretch};

const STEPS: usize = 60;
const SEEDS: u64 = 24;

#[test]
fn random_operations_agree_with_the_model() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(SEEDS),
    };
    let counts = Counts::default();
    run(seeds, &counts);
    let [compared, from_rollups, riddles] =
        ["answers checked against the model", "answers from rollups", "riddles from rollups"]
            .map(|what| counts.get(what));
    assert!(compared > 1_000, "only {compared} answers were compared: the test tests nothing");
    assert!(from_rollups > 200, "only {from_rollups} answers came from rollups");
    assert!(riddles > 20, "only {riddles} answers that the model does not know came from rollups");
}

pub fn run(seeds: std::ops::Range<u64>, counts: &Counts) {
    for seed in seeds {
        let mut run = Run::new(seed, counts);
        for _ in 0..STEPS {
            run.step();
        }
        counts.add("steps", STEPS as u64);
    }
}

struct Run<'a> {
    seed: u64,
    counts: &'a Counts,
    dice: Dice,
    model: Model,
    folder: tempfile::TempDir,
    clock: ManualClock,
    db: Option<Db>,
    rollups: Vec<(String, Definition)>,
    log: String,
}

impl<'a> Run<'a> {
    fn new(seed: u64, counts: &'a Counts) -> Run<'a> {
        let mut run = Run {
            seed,
            counts,
            dice: Dice::new(seed),
            model: Model::default(),
            folder: tempfile::tempdir().unwrap(),
            clock: ManualClock::at(NOON),
            db: None,
            rollups: Vec::new(),
            log: String::new(),
        };
        run.open();
        // Rollups and matchers need a table with its fields and tags.
        let series = ("a".to_string(), "x".to_string());
        run.put(&Change::Points(vec![(series, NOON, Fields { f: Some(1.0), n: Some(1) })]));
        run
    }

    fn open(&mut self) {
        self.db = None;
        let disk = Arc::new(LocalDisk::open(self.folder.path()).unwrap());
        let mut config = Config::default();
        // Small, so that steps of a refresh, coarsening of dirty groups and segments are met.
        config.limits.refresh_states_max = 50;
        config.limits.dirty_groups_max = 8;
        config.limits.wal_segment_bytes_max = 4_096;
        self.db = Some(Db::open(disk, Arc::new(self.clock.clone()), config).unwrap());
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn step(&mut self) {
        match self.dice.roll(24) {
            0..=8 => {
                let change = Change::points(&mut self.dice, &HOSTS, &self.model);
                self.put(&change);
            }
            9 => {
                let host = (self.dice.roll(3) > 0).then(|| *self.dice.pick(&HOSTS));
                let change = Change::delete(&mut self.dice, host);
                self.put(&change);
            }
            10 | 23 => self.create_rollup(),
            20 => {
                let Some((name, _)) = self.some_rollup() else { return };
                let change = alteration(&mut self.dice);
                self.try_to(&format!("alter rollup {name} {change}"));
            }
            21 => {
                let Some((name, _)) = self.some_rollup() else { return };
                let verb = *self.dice.pick(&["pause", "resume"]);
                self.try_to(&format!("{verb} rollup {name}"));
            }
            22 => {
                let Some((name, _)) = self.some_rollup() else { return };
                let (from, to) = stretch(&mut self.dice);
                self.try_to(&format!("refresh rollup {name} between {from}ns and {to}ns"));
            }
            11 if self.dice.roll(4) == 0 => self.drop_rollup(),
            12 | 13 => {
                let blocks = self.db().flush(FlushScope::All).unwrap();
                self.note(&format!("flush: {blocks} blocks"));
            }
            14 => {
                let merges = self.db().compact(true).unwrap();
                self.note(&format!("compact: {merges} merges"));
            }
            15 => {
                self.note("restart");
                self.open();
            }
            16 | 17 => {
                let buckets = self.db().refresh(&RefreshScope::default()).unwrap();
                self.note(&format!("refresh: {buckets} buckets"));
            }
            18 => {
                self.clock.advance(Duration::from_secs(self.dice.roll(3_000)));
                self.note("time passes");
            }
            _ => {
                let step = self.db().refresh_step(&RefreshScope::default()).unwrap();
                self.note(&format!("refresh step: {step:?}"));
            }
        }
        self.check();
    }

    fn note(&mut self, what: &str) {
        let _ = writeln!(self.log, "  {what}");
    }

    fn put(&mut self, change: &Change) {
        let body = change.body();
        self.note(&body.replace('\n', " ; "));
        change.apply(&mut self.model);
        match change {
            Change::Points(_) => drop(write(self.db(), &body).unwrap()),
            Change::Delete { .. } => drop(self.ask(&body, true)),
        }
    }

    fn create_rollup(&mut self) {
        let name = format!("r{}", self.dice.roll(6));
        if self.rollups.iter().any(|(there, _)| *there == name) {
            return;
        }
        let definition = Definition::random(&mut self.dice);
        let text = format!("create rollup {name} as {}", definition.text);
        self.note(&text);
        self.ask(&text, true);
        self.rollups.push((name, definition));
    }

    fn drop_rollup(&mut self) {
        if let Some((name, _)) = self.rollups.pop() {
            self.note(&format!("drop rollup {name}"));
            self.ask(&format!("drop rollup {name}"), true);
        }
    }

    /// What cannot be done says so, and nothing has changed.
    fn try_to(&mut self, text: &str) {
        let outcome = ask(self.db(), text, true);
        self.note(&format!(
            "{text}: {}",
            outcome.map_or_else(|error| error.to_string(), |_| "done".to_string())
        ));
    }

    fn some_rollup(&mut self) -> Option<(String, Definition)> {
        (!self.rollups.is_empty()).then(|| self.dice.pick(&self.rollups.clone()).clone())
    }

    fn check(&mut self) {
        let all = What::Points;
        let berlin = Buckets::Days("Europe/Berlin", 3_600 * SECOND);
        let mut questions = vec![
            Question { source: "cpu".to_string(), range: None, what: all, buckets: Buckets::Whole, by: &[] },
            Question {
                source: "cpu".to_string(),
                range: None,
                what: What::Positive,
                buckets: berlin,
                by: &[],
            },
            Question {
                source: "cpu".to_string(),
                range: None,
                what: What::Rises,
                buckets: Buckets::Whole,
                by: &[],
            },
        ];
        questions.extend((0..3).map(|_| Question::random(&mut self.dice, false)));
        if let Some((name, Definition { sums: Some((step, tags)), .. })) = self.some_rollup() {
            questions.push(Question::of_rollup(&mut self.dice, &name, step, tags, false));
        }
        for question in questions {
            let text = question.text();
            let raw = self.same_from_rollups(&text);
            let expected = question.answer(&self.model, i64::MIN);
            assert_eq!(question.in_order(raw), expected, "raw and model: {text}\n{}", self.story());
            self.counts.add("answers checked against the model", 1);
        }
        let text = riddle(&mut self.dice, false);
        let before = self.counts.get("answers from rollups");
        self.same_from_rollups(&text);
        self.counts.add("riddles from rollups", self.counts.get("answers from rollups") - before);
        self.check_newest();
    }

    /// The answer, which is the same with and without rollups.
    fn same_from_rollups(&self, text: &str) -> Cells {
        let raw = self.ask(text, false);
        let answer = ask(self.db(), text, true).unwrap_or_else(|error| panic!("{error}\n{}", self.story()));
        let used = &answer.stats.rollups;
        assert_eq!(cells(&answer), raw, "rollup and raw: {text}\nused {used:?}\n{}", self.story());
        self.counts.add("answers from rollups", (!used.is_empty()).into());
        self.counts.add("pairs of rollup and raw compared", 1);
        raw
    }

    /// What is read only as far as it is needed, against reading all of it.
    fn check_newest(&mut self) {
        let (from, to) = stretch(&mut self.dice);
        let range = match self.dice.roll(3) {
            0 => format!("| between {from}ns and {to}ns "),
            1 => format!("| since {from}ns "),
            _ => String::new(),
        };
        let by = *self.dice.pick(&["host, dc", "host", "()"]);
        let fields = *self.dice.pick(&["last(f)", "last(n)", "last(f), last(n)"]);
        let step = *self.dice.pick(&[10, 30, 60, 600, 1_800]) * SECOND;
        let rows = 1 + self.dice.roll(6) as usize;
        let short = self.ask(&format!("cpu {range}| {fields} by {by}"), true);
        // The count wants every row.
        let whole =
            self.ask(&format!("cpu {range}| {fields}, count by {by} | where {}", present(fields)), true);
        let without_count: Cells = whole.into_iter().map(|mut row| (row.pop(), row).1).collect();
        assert_eq!(short, without_count, "{fields} by {by} {range}\n{}", self.story());

        let buckets = format!("cpu {range}| every {step}ns count, sum(f), last(n) by {by} | sort time desc");
        let short = self.ask(&format!("{buckets} | limit {rows}"), true);
        let mut whole = self.ask(&buckets, true);
        whole.truncate(rows);
        assert_eq!(short, whole, "{buckets} | limit {rows}\n{}", self.story());
    }

    fn ask(&self, text: &str, rollups: bool) -> Cells {
        let answer = ask(self.db(), text, rollups);
        cells(&answer.unwrap_or_else(|error| panic!("{error}\n{}", self.story())))
    }

    fn story(&self) -> String {
        format!("seed {}\n{}", self.seed, self.log)
    }
}

/// The condition that a group has any of these fields: without the count it would not be there.
fn present(fields: &str) -> &'static str {
    match fields {
        "last(f)" => "exists(last_f)",
        "last(n)" => "exists(last_n)",
        _ => "count > 0",
    }
}
