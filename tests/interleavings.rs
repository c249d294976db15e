//! Random interleavings against a model: writers, readers, whoever changes rollups and the background, all at once, over
//! several lives that end cleanly, hard, or cut off in the middle.
//!
//! Each read through rollups, and each of raw points beside it, has to be the answer of a model that it may show at that
//! moment (`support/history.rs`), bit for bit; where nothing changed while both were asked, they also have to be the same,
//! whatever was asked. Between two lives nobody writes, and everything is compared exactly. In this process the power is
//! cut, with whatever that leaves of what was not synced; over HTTP it is kill -9 of the real binary.
//! `SEED=n` runs one seed (its operations are the same each time, their order is not), `SEEDS=n` that many, `STEPS=n` that many
//! steps in each life.

mod reads;
mod rollups;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use crate::support::counts::Counts;
use crate::support::dice::Dice;
use crate::support::engine::NOON;
use crate::support::history::History;
use crate::support::question::{Buckets, Question, What};
use crate::support::server::RESTLESS;
use crate::support::subject::{End, Home, Kills, PowerCuts, Subject, Told, Trouble};
use crate::support::workload::{Arrival, Change, Definition, HOSTS};

const READERS: usize = 2;
const NAMES: u64 = 6;
const LIVES: u64 = 8;

/// What a run of some seeds that cuts the power has to meet.
const MET: [&str; 22] = [
    "batches",
    "points in order",
    "points late",
    "points overwriting",
    "points duplicate",
    "deletes",
    "blocks flushed",
    "merges",
    "buckets computed",
    "rollups created",
    "rollups on rollups created",
    "rollups altered",
    "rollups dropped",
    "rollups paused or resumed",
    "ranges refreshed",
    "retentions set",
    "writes refused by retention",
    "ends clean",
    "ends hard",
    "ends cut",
    "blocks expired",
    "states verified",
];

/// Comparisons of which there must be many for the test to mean something.
const COMPARED: [&str; 6] = [
    "answers from rollups",
    "answers from rollups while writers wrote",
    "answers checked against the model",
    "answers checked against several models",
    "rollups read by name",
    "pairs of rollup and raw compared",
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn random_interleavings_agree_with_the_model() {
    let seeds = number("SEED").map_or(0..number("SEEDS").unwrap_or(5), |seed| seed..seed + 1);
    let counts = Counts::default();
    run_cutting_power(seeds, number("STEPS").unwrap_or(80), &counts);
    assert_met(&counts);
}

#[test]
fn random_interleavings_over_http_agree_with_the_model() {
    let seeds = number("SEED").map_or(0..number("SEEDS").unwrap_or(1), |seed| seed..seed + 1);
    let counts = Counts::default();
    run_killing(seeds, number("STEPS").unwrap_or(120), &counts);
    assert_compared(&counts);
}

/// In this process.
pub fn run_cutting_power(seeds: std::ops::Range<u64>, steps: u64, counts: &Counts) {
    for seed in seeds {
        run(PowerCuts::new(), seed, steps, counts);
    }
}

/// The real binary.
pub fn run_killing(seeds: std::ops::Range<u64>, steps: u64, counts: &Counts) {
    for seed in seeds {
        run(Kills::new(&RESTLESS), seed, steps, counts);
    }
}

/// A few seeds meet everything that can happen.
fn assert_met(counts: &Counts) {
    assert_compared(counts);
    // One seed alone need not.
    if number("SEED").is_none() {
        assert_eq!(counts.lacks(&MET), None);
    }
}

#[expect(clippy::print_stderr, reason = "says how much was compared")]
fn assert_compared(counts: &Counts) {
    eprintln!("{:#?}", counts.all());
    if number("SEED").is_some() {
        return;
    }
    for what in COMPARED {
        let (times, steps) = (counts.get(what), counts.get("steps"));
        assert!(times * 20 > steps, "only {times} {what} in {steps} steps: the test tests nothing");
    }
}

fn run<H: Home>(mut home: H, seed: u64, steps: u64, counts: &Counts) {
    let mut dice = Dice::new(seed);
    let mut world = World::new(seed, counts);
    let mut subject = home.open("");
    // Rollups and matchers need a table with its fields and tags.
    let first = Change::Points(vec![(
        ("a".to_string(), "x".to_string()),
        NOON,
        crate::support::model::Fields { f: Some(1.0), n: Some(1) },
    )]);
    world.history.begin(0, &first);
    subject.write(&first.body()).unwrap();
    world.history.acknowledge(0);
    world.hides_old_in = 2 + dice.roll(3);
    for life in 0..LIVES {
        world.life = life;
        let end = match dice.roll(4) {
            0 => End::Clean,
            1 => End::Hard,
            _ => End::Cut,
        };
        world.note("life", &format!("{life}, to end {end:?}"));
        world.live(&subject, steps, end, &mut dice);
        if end != End::Cut {
            world.check_all(&subject, &mut dice);
        }
        home.close(subject, end, &mut dice, &world.story());
        counts.add(
            match end {
                End::Clean => "ends clean",
                End::Hard => "ends hard",
                End::Cut => "ends cut",
            },
            1,
        );
        world.note("life", "begins");
        subject = home.open(&world.story());
        world.settle(&subject);
        if dice.roll(2) == 0 {
            world.note("life", "catches up");
            subject.catch_up(counts);
        }
        world.check_all(&subject, &mut dice);
    }
    home.close(subject, End::Clean, &mut dice, &world.story());
}

/// Everything that the threads of a run share.
struct World<'a> {
    seed: u64,
    life: u64,
    /// The life in which old points expire.
    hides_old_in: u64,
    counts: &'a Counts,
    history: History,
    /// True once old points are to be hidden: from then on nobody changes any. Read for as long as one is changed.
    hides_old: RwLock<bool>,
    rollups: Mutex<BTreeMap<String, Known>>,
    steps_left: AtomicI64,
    /// The step that is cut off.
    cut_at: i64,
    /// No answers come any more, or a thread has panicked.
    gone: AtomicBool,
    over: AtomicBool,
    reads: AtomicU64,
    story: Mutex<String>,
}

/// What is known of a rollup; None of either side where no answer came.
#[derive(Clone)]
struct Known {
    exists: Option<bool>,
    rollup: Arc<Rollup>,
}

struct Rollup {
    definition: Definition,
    parent: Option<String>,
    /// It was there before old points were hidden, so that it keeps what they told it.
    knows_old: bool,
}

/// Stops the others when a thread panics.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

impl<'a> World<'a> {
    fn new(seed: u64, counts: &'a Counts) -> World<'a> {
        World {
            seed,
            life: 0,
            hides_old_in: LIVES,
            counts,
            history: History::new(),
            hides_old: RwLock::default(),
            rollups: Mutex::default(),
            steps_left: AtomicI64::new(0),
            cut_at: -1,
            gone: AtomicBool::new(false),
            over: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            story: Mutex::default(),
        }
    }

    fn note(&self, who: &str, what: &str) {
        let _ = writeln!(self.story.lock().unwrap(), "  {who}: {}", what.trim_end().replace('\n', " ; "));
    }

    fn story(&self) -> String {
        format!("seed {}\n{}", self.seed, self.story.lock().unwrap_or_else(|story| story.into_inner()))
    }

    /// One life, with everybody at once.
    fn live<S: Subject>(&mut self, subject: &S, steps: u64, end: End, dice: &mut Dice) {
        *self.steps_left.get_mut() = steps as i64;
        self.cut_at = if end == End::Cut { dice.roll(steps) as i64 } else { -1 };
        *self.gone.get_mut() = false;
        *self.over.get_mut() = false;
        let world = &*self;
        let mut dice_of = || Dice::new(dice.next());
        std::thread::scope(|scope| {
            let mut workers = Vec::new();
            for writer in 0..HOSTS.len() {
                let dice = dice_of();
                workers.push(scope.spawn(move || world.write(subject, writer, dice)));
            }
            let (of_rollups, of_upkeep) = (dice_of(), dice_of());
            workers.push(scope.spawn(move || world.change_rollups(subject, of_rollups)));
            workers.push(scope.spawn(move || world.keep_up(subject, of_upkeep)));
            let mut readers = Vec::new();
            for _ in 0..READERS {
                let dice = dice_of();
                readers.push(scope.spawn(move || world.read(subject, dice)));
            }
            let all_well = workers.into_iter().map(|worker| worker.join().is_ok()).collect::<Vec<bool>>();
            world.over.store(true, Ordering::SeqCst);
            let readers_well = readers.into_iter().map(|reader| reader.join().is_ok()).collect::<Vec<bool>>();
            let well = all_well.iter().chain(&readers_well).all(|well| *well);
            assert!(well, "a thread has panicked: its message is above");
        });
        // What is cut off may have been too slow to be noticed by anybody.
        if end == End::Cut {
            subject.cut(dice);
        }
    }

    /// False once the life is over.
    fn step<S: Subject>(&self, subject: &S, dice: &mut Dice) -> bool {
        let left = self.steps_left.fetch_sub(1, Ordering::SeqCst) - 1;
        if left < 0 || self.gone.load(Ordering::SeqCst) {
            return false;
        }
        self.counts.add("steps", 1);
        if left == self.cut_at {
            self.note("cut", "now");
            subject.cut(dice);
        }
        true
    }

    /// What was told, or None if nothing was.
    fn told<T>(&self, who: &str, what: &str, told: Told<T>) -> Option<Result<T, String>> {
        match told {
            Ok(told) => Some(Ok(told)),
            Err(Trouble::Refused(error)) => Some(Err(error)),
            Err(Trouble::Gone) => {
                self.note(who, &format!("no answer to {what}"));
                self.gone.store(true, Ordering::SeqCst);
                None
            }
        }
    }

    /// Bursts of changes to the points of one host.
    fn write<S: Subject>(&self, subject: &S, writer: usize, mut dice: Dice) {
        let _alarm = Alarm(&self.gone);
        let who = format!("writer {}", HOSTS[writer]);
        while self.step(subject, &mut dice) {
            let change = match dice.roll(8) {
                0 => Change::delete(&mut dice, Some(HOSTS[writer])),
                _ => Change::points(&mut dice, &HOSTS[writer..=writer], &self.history.model(writer)),
            };
            if !self.change(subject, writer, &who, &change) {
                return;
            }
            if dice.roll(3) == 0 {
                self.let_read(dice.roll(3));
            }
        }
    }

    /// False if no answer came.
    fn change<S: Subject>(&self, subject: &S, writer: usize, who: &str, change: &Change) -> bool {
        let hides_old = change.is_old().then(|| self.hides_old.read().unwrap());
        let hidden = hides_old.as_deref() == Some(&true);
        let body = change.body();
        let send = || match change {
            Change::Points(_) => subject.write(&body),
            Change::Delete { .. } => subject.run(&body, true).map(drop),
        };
        if hidden {
            // What is deleted there may be sealed.
            if matches!(change, Change::Delete { .. }) {
                return true;
            }
            self.note(who, &format!("too old: {body}"));
            let Some(told) = self.told(who, &body, send()) else { return false };
            assert!(told.is_err(), "{body} was taken\n{}", self.story());
            self.counts.add("writes refused by retention", 1);
            return true;
        }
        let arrivals = self.history.begin(writer, change);
        self.note(who, &body);
        let Some(told) = self.told(who, &body, send()) else { return false };
        told.unwrap_or_else(|error| panic!("{body}: {error}\n{}", self.story()));
        self.history.acknowledge(writer);
        let kind = |arrival: Arrival| match arrival {
            Arrival::InOrder => "points in order",
            Arrival::Late => "points late",
            Arrival::Overwriting => "points overwriting",
            Arrival::Duplicate => "points duplicate",
        };
        arrivals.into_iter().for_each(|arrival| self.counts.add(kind(arrival), 1));
        self.counts.add(if matches!(change, Change::Delete { .. }) { "deletes" } else { "batches" }, 1);
        true
    }

    /// Waits until some more reads are over.
    fn let_read(&self, reads: u64) {
        let until = self.reads.load(Ordering::SeqCst) + reads;
        let waits = || {
            self.reads.load(Ordering::SeqCst) < until
                && self.steps_left.load(Ordering::SeqCst) > 0
                && !self.gone.load(Ordering::SeqCst)
        };
        while waits() {
            std::thread::park_timeout(Duration::from_micros(200));
        }
    }

    fn keep_up<S: Subject>(&self, subject: &S, mut dice: Dice) {
        let _alarm = Alarm(&self.gone);
        while self.step(subject, &mut dice) {
            let outcome = match dice.roll(3) {
                0 if self.life >= self.hides_old_in => self.hide_old(subject),
                _ => {
                    let names: Vec<String> = self.rollups.lock().unwrap().keys().cloned().collect();
                    self.told("upkeep", "it", subject.upkeep(&names, &mut dice, self.counts)).map(drop)
                }
            };
            if outcome.is_none() {
                return;
            }
            self.let_read(dice.roll(2));
        }
    }

    /// Ends how long old points are kept.
    fn hide_old<S: Subject>(&self, subject: &S) -> Option<()> {
        let mut hides_old = self.hides_old.write().unwrap();
        if std::mem::replace(&mut *hides_old, true) {
            return Some(());
        }
        self.history.hide_old();
        let text = format!("alter table cpu keep {}", subject.keep());
        self.note("upkeep", &text);
        self.told("upkeep", &text, subject.run(&text, true))?.unwrap();
        // Until then old points are neither sure to be refused nor to be taken: whoever has some waits.
        drop(hides_old);
        self.history.old_are_hidden();
        self.counts.add("retentions set", 1);
        Some(())
    }

    /// What became of everything that was not answered: from now on that is what it is.
    fn settle<S: Subject>(&mut self, subject: &S) {
        let rows = |text: &str| {
            subject
                .run(text, true)
                .unwrap_or_else(|error| panic!("{text}: {error:?}\n{}", self.story()))
                .cells
        };
        let hidden = rows("show tables")[0][3].as_deref() != Some("forever");
        let all = Question {
            source: "cpu".to_string(),
            range: None,
            what: What::Points,
            buckets: Buckets::Whole,
            by: &[],
        };
        let found = all.in_order(rows(&all.text()));
        let settled = self.history.settle(&all, &found, hidden);
        let (happened, unanswered) = settled.unwrap_or_else(|error| panic!("{error}\n{}", self.story()));
        self.counts.add("changes without an answer", unanswered);
        self.counts.add("of those there after the cut", happened);
        *self.hides_old.write().unwrap() = hidden;
        let there: Vec<String> = rows("show rollups").into_iter().filter_map(|row| row[0].clone()).collect();
        let mut rollups = self.rollups.lock().unwrap();
        for (name, known) in rollups.iter_mut() {
            let exists = there.contains(name);
            assert!(
                known.exists.is_none_or(|known| known == exists),
                "{name} is there: {exists}\n{}",
                self.story()
            );
            known.exists = Some(exists);
        }
        rollups.retain(|_, known| known.exists == Some(true));
        let unknown: Vec<&String> = there.iter().filter(|name| !rollups.contains_key(*name)).collect();
        assert!(unknown.is_empty(), "nobody has made {unknown:?}\n{}", self.story());
    }

    /// Nobody writes: every kind of question, exactly.
    fn check_all<S: Subject>(&self, subject: &S, dice: &mut Dice) {
        for _ in 0..30 {
            let read = self.read_one(subject, dice);
            assert!(read.is_some(), "no answer, and nobody has cut anything\n{}", self.story());
        }
        self.counts.add("checks between lives", 1);
    }
}
