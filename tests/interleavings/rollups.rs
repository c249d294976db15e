//! Who makes, changes and drops rollups while everybody else reads and writes.
//!
//! Invariant: a rollup that readers ask by its name is known to be there; while it is made or dropped it is not.

use std::sync::Arc;

use super::{Alarm, Known, NAMES, Rollup, World};
use crate::support::dice::Dice;
use crate::support::subject::Subject;
use crate::support::workload::{Definition, alteration, stretch};

impl World<'_> {
    pub(super) fn change_rollups<S: Subject>(&self, subject: &S, mut dice: Dice) {
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
            let fits = |known: &&Known| known.exists == Some(true) && known.rollup.definition.sums.is_some();
            let parents = rollups.iter().filter(|(_, known)| fits(known));
            parents.map(|(name, known)| (name.clone(), Arc::clone(&known.rollup))).collect()
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
}
