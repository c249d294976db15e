//! Random interleavings against a model: writers, readers, whoever changes rollups and the background, all at once, over
//! several lives that end cleanly, hard, or cut off in the middle.
//!
//! Each read through rollups, and each of raw points beside it, has to be the answer of a model that it may show at that
//! moment (`support/history.rs`), bit for bit; where nothing changed while both were asked, they also have to be the same,
//! whatever was asked. Between two lives nobody writes, and everything is compared exactly. In this process the power is
//! cut, with whatever that leaves of what was not synced; over HTTP it is kill -9 of the real binary.
//! `SEED=n` runs one seed (its operations are the same each time, their order is not), `SEEDS=n` that many, `STEPS=n` that many
//! steps in each life.

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
use crate::support::subject::{Answered, End, Home, Kills, PowerCuts, Subject, Told, Trouble};
use crate::support::workload::{Arrival, Change, Definition, HOSTS, alteration, riddle, stretch};

const READERS: usize = 2;
const NAMES: u64 = 6;
const LIVES: u64 = 8;

/// Small segments, and the background's own flushes, merges, removals and refreshes as often as they come.
const FLAGS: [&str; 16] = [
    "--set",
    "wal_segment_bytes_max=4KiB",
    "--set",
    "head_bytes_max=1MiB",
    "--set",
    "flush_after=1ms",
    "--set",
    "flush_small_after=1ms",
    "--set",
    "compact_after=1ms",
    "--set",
    "delete_after=1ms",
    "--set",
    "retention_after=1s",
    "--set",
    "refresh_every=10ms",
];

/// What every run has to meet.
const MET: [&str; 19] = [
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
    "ends cut",
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
        run(Kills::new(&FLAGS), seed, steps, counts);
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
    for life in 0..LIVES {
        let end = match dice.roll(4) {
            0 => End::Clean,
            1 => End::Hard,
            _ => End::Cut,
        };
        world.note("life", &format!("{life}, to end {end:?}"));
        if life + 1 == LIVES {
            // However few steps its thread came to.
            world.hide_old(&subject);
        }
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
        world.check_all(&subject, &mut dice);
    }
    home.close(subject, End::Clean, &mut dice, &world.story());
}

/// Everything that the threads of a run share.
struct World<'a> {
    seed: u64,
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
            let outcome = match dice.roll(40) {
                0 => self.hide_old(subject),
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
        if *hides_old {
            return Some(());
        }
        *hides_old = true;
        self.history.hide_old();
        drop(hides_old);
        let text = format!("alter table cpu keep {}", subject.keep());
        self.note("upkeep", &text);
        self.told("upkeep", &text, subject.run(&text, true))?.unwrap();
        self.history.old_are_hidden();
        self.counts.add("retentions set", 1);
        Some(())
    }

    fn change_rollups<S: Subject>(&self, subject: &S, mut dice: Dice) {
        let _alarm = Alarm(&self.gone);
        while self.step(subject, &mut dice) {
            let name = format!("r{}", dice.roll(NAMES));
            let there = self.rollups.lock().unwrap().contains_key(&name);
            let change = match dice.roll(10) {
                _ if !there => self.create(subject, &name, &mut dice),
                0 | 1 => self.drop(subject, &name),
                2..=4 => {
                    let text = format!("alter rollup {name} {}", alteration(&mut dice));
                    self.try_to(subject, &text, "rollups altered")
                }
                5 => self.try_to(subject, &format!("pause rollup {name}"), "rollups paused or resumed"),
                6 | 7 => self.try_to(subject, &format!("resume rollup {name}"), "rollups paused or resumed"),
                _ => {
                    let (from, to) = stretch(&mut dice);
                    let text = format!("refresh rollup {name} between {from}ns and {to}ns");
                    self.try_to(subject, &text, "ranges refreshed")
                }
            };
            if change.is_none() {
                return;
            }
            self.let_read(dice.roll(3));
        }
    }

    /// What cannot be done says so, and nothing has changed.
    fn try_to<S: Subject>(&self, subject: &S, text: &str, what: &str) -> Option<bool> {
        self.note("rollups", text);
        match self.told("rollups", text, subject.run(text, true))? {
            Ok(_) => {
                self.counts.add(what, 1);
                Some(true)
            }
            Err(error) => {
                self.note("rollups", &format!("{text}: {error}"));
                self.counts.add("changes of rollups refused", 1);
                Some(false)
            }
        }
    }

    fn create<S: Subject>(&self, subject: &S, name: &str, dice: &mut Dice) -> Option<bool> {
        let parents: Vec<(String, Arc<Rollup>)> = {
            let rollups = self.rollups.lock().unwrap();
            rollups.iter().map(|(name, known)| (name.clone(), Arc::clone(&known.rollup))).collect()
        };
        let parent = (!parents.is_empty() && dice.roll(2) == 0).then(|| dice.pick(&parents).clone());
        let on =
            parent.and_then(|(parent, rollup)| Some((parent, rollup.definition.sums?, rollup.knows_old)));
        let (definition, parent, parent_knows) = match on {
            Some((parent, (step, tags), knows)) => {
                (Definition::on(dice, &parent, step, tags), Some(parent), knows)
            }
            None => (Definition::random(dice), None, true),
        };
        let text = format!("create rollup {name} as {}", definition.text);
        let on_another = parent.is_some();
        let rollup = |knows_old| {
            Arc::new(Rollup { definition: definition.clone(), parent: parent.clone(), knows_old })
        };
        // Until it is known to be there, nobody reads it.
        let maybe = Known { exists: None, rollup: rollup(false) };
        self.rollups.lock().unwrap().insert(name.to_string(), maybe);
        let done = self.try_to(subject, &text, "rollups created")?;
        let knows_old = parent_knows && !*self.hides_old.read().unwrap();
        let mut rollups = self.rollups.lock().unwrap();
        if done {
            rollups.insert(name.to_string(), Known { exists: Some(true), rollup: rollup(knows_old) });
            self.counts.add("rollups on rollups created", on_another.into());
        } else {
            rollups.remove(name);
        }
        Some(done)
    }

    fn drop<S: Subject>(&self, subject: &S, name: &str) -> Option<bool> {
        let before = self.rollups.lock().unwrap().get(name).cloned()?;
        // Another allocation, so that readers see that it changed.
        let rollup = Arc::new(Rollup {
            definition: before.rollup.definition.clone(),
            parent: before.rollup.parent.clone(),
            knows_old: before.rollup.knows_old,
        });
        self.rollups
            .lock()
            .unwrap()
            .insert(name.to_string(), Known { exists: None, rollup: Arc::clone(&rollup) });
        let done = self.try_to(subject, &format!("drop rollup {name}"), "rollups dropped")?;
        let mut rollups = self.rollups.lock().unwrap();
        if done {
            rollups.remove(name);
        } else {
            rollups.insert(name.to_string(), Known { exists: Some(true), rollup });
        }
        Some(done)
    }

    fn read<S: Subject>(&self, subject: &S, mut dice: Dice) {
        let _alarm = Alarm(&self.gone);
        while !self.over.load(Ordering::SeqCst) && !self.gone.load(Ordering::SeqCst) {
            if self.read_one(subject, &mut dice).is_none() {
                return;
            }
            self.reads.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn read_one<S: Subject>(&self, subject: &S, dice: &mut Dice) -> Option<()> {
        // Where points are kept no longer, rollups tell more than they do.
        let retained = *self.hides_old.read().unwrap();
        match dice.roll(10) {
            0..=5 => self.ask(subject, &Question::random(dice, retained), retained),
            6 | 7 => self.ask_by_name(subject, dice),
            _ => self.compare(subject, &riddle(dice, retained)),
        }
    }

    /// Of the model, through rollups and without.
    fn ask<S: Subject>(&self, subject: &S, question: &Question, retained: bool) -> Option<()> {
        let text = question.text();
        let moment = self.history.now();
        let mut answers = Vec::new();
        for rollups in [true, false] {
            let answer = self.answer(subject, &text, rollups)?;
            let possible = self.history.possible(&moment);
            let found = question.in_order(answer.cells.clone());
            let hidden_meanwhile = !retained && *self.hides_old.read().unwrap();
            if !rollups || !hidden_meanwhile {
                self.check(question, &answer, &possible, &found);
            }
            answers.push(found);
        }
        if self.history.possible(&moment).pinned {
            assert_eq!(answers[0], answers[1], "rollups and raw: {text}\n{}", self.story());
            self.counts.add("pairs of rollup and raw compared", 1);
        }
        Some(())
    }

    fn check(
        &self,
        question: &Question,
        answer: &Answered,
        possible: &crate::support::history::Possible,
        found: &crate::support::question::Cells,
    ) {
        let count = possible.count();
        assert!(
            possible.allows(question, found),
            "{}: used {:?}, and it is none of {count} possible answers\nfound {found:?}\nnewest {:?}\n{}",
            question.text(),
            answer.used,
            possible.newest(question),
            self.story()
        );
        self.counts.add("answers checked against the model", 1);
        self.counts.add("answers checked against several models", (count > 1).into());
        if !answer.used.is_empty() {
            self.counts.add("answers from rollups while writers wrote", (!possible.pinned).into());
        }
    }

    /// A rollup by its name, which also knows what its table keeps no longer.
    fn ask_by_name<S: Subject>(&self, subject: &S, dice: &mut Dice) -> Option<()> {
        let all: Vec<(String, Known)> = {
            let rollups = self.rollups.lock().unwrap();
            let reads = |known: &&Known| known.exists == Some(true) && known.rollup.definition.sums.is_some();
            let all = rollups.iter().map(|(name, known)| (name, known)).filter(|(_, known)| reads(known));
            all.map(|(name, known)| (name.clone(), known.clone())).collect()
        };
        if all.is_empty() {
            return Some(());
        }
        let (name, known) = dice.pick(&all).clone();
        let (step, tags) = known.rollup.definition.sums?;
        let question = Question::of_rollup(dice, &name, step, tags, !known.rollup.knows_old);
        let moment = self.history.now();
        let told = self.told("reader", &question.text(), subject.run(&question.text(), true))?;
        let possible = self.history.possible(&moment).with_hidden();
        // It may have been dropped, and made anew.
        let same = self
            .rollups
            .lock()
            .unwrap()
            .get(&name)
            .is_some_and(|now| Arc::ptr_eq(&now.rollup, &known.rollup));
        if same {
            let answer =
                told.unwrap_or_else(|error| panic!("{}: {error}\n{}", question.text(), self.story()));
            self.check(&question, &answer, &possible, &answer.cells);
            self.counts.add("rollups read by name", 1);
        }
        Some(())
    }

    /// Whatever it means: it is the same with rollups and without.
    fn compare<S: Subject>(&self, subject: &S, text: &str) -> Option<()> {
        let moment = self.history.now();
        let with = self.answer(subject, text, true)?;
        let without = self.answer(subject, text, false)?;
        if self.history.possible(&moment).pinned {
            let used = &with.used;
            assert_eq!(with.cells, without.cells, "rollups ({used:?}) and raw: {text}\n{}", self.story());
            self.counts.add("pairs of rollup and raw compared", 1);
        }
        Some(())
    }

    fn answer<S: Subject>(&self, subject: &S, text: &str, rollups: bool) -> Option<Answered> {
        let told = self.told("reader", text, subject.run(text, rollups))?;
        let answer = told.unwrap_or_else(|error| panic!("{text}: {error}\n{}", self.story()));
        assert!(rollups || answer.used.is_empty(), "{text}: rollups=off used {:?}", answer.used);
        self.counts.add("answers from rollups", (!answer.used.is_empty()).into());
        Some(answer)
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
