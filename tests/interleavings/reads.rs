//! Who asks, through rollups and without, and what the answers are held against.
//!
//! Invariant: no answer goes unchecked but those that the model cannot know: what a rollup of points that are kept no longer
//! tells of them, and an answer by the name of a rollup that was dropped meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Alarm, Known, World};
use crate::support::dice::Dice;
use crate::support::history::Possible;
use crate::support::question::{Cells, Question};
use crate::support::subject::{Answered, Subject};
use crate::support::workload::riddle;

impl World<'_> {
    pub(super) fn read<S: Subject>(&self, subject: &S, mut dice: Dice) {
        let _alarm = Alarm(&self.gone);
        while !self.over.load(Ordering::SeqCst) && !self.gone.load(Ordering::SeqCst) {
            if self.read_one(subject, &mut dice).is_none() {
                return;
            }
            self.reads.fetch_add(1, Ordering::SeqCst);
        }
    }

    pub(super) fn read_one<S: Subject>(&self, subject: &S, dice: &mut Dice) -> Option<()> {
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

    fn check(&self, question: &Question, answer: &Answered, possible: &Possible, found: &Cells) {
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
            let all = rollups.iter().filter(|(_, known)| reads(known));
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
}
