//! What several writers have done, and what a read at any moment may therefore show.
//!
//! A writer owns the points of one host and waits for each answer, so that a read shows each host as it was after some
//! of its writer's changes: all that were acknowledged before the read began, and no more than were sent before it ended.
//! There are few such models, and an answer has to be that of one of them, bit for bit. Nothing that a read may not show is
//! among them, so the check is as sharp as the moment allows, and exact where nobody writes.
//! Not here: who reads and writes (`interleavings`).

use std::sync::{Arc, Mutex};

use crate::support::model::Model;
use crate::support::question::{Cells, Question};
use crate::support::workload::{Arrival, Change, HOSTS, OLD_UNTIL};

pub struct History(Mutex<State>);

struct State {
    writers: Vec<Writer>,
    /// Old points are hidden, by a statement that was acknowledged.
    hidden: bool,
    /// The statement has been sent.
    hiding: bool,
    /// Changes that began or ended.
    changes: u64,
}

struct Writer {
    /// After each of its changes since the last check of all.
    versions: Vec<Arc<Model>>,
    /// Up to this one they are acknowledged.
    settled: usize,
}

/// A moment before a read.
pub struct Moment {
    settled: Vec<usize>,
    hidden: bool,
    changes: u64,
    quiet: bool,
}

/// The models that a read may show.
pub struct Possible {
    /// Of each writer.
    versions: Vec<Vec<Arc<Model>>>,
    /// From when on points may be shown.
    shown_from: Vec<i64>,
    /// Nothing was changing while it was read.
    pub pinned: bool,
}

impl History {
    pub fn new() -> History {
        let writer = |_| Writer { versions: vec![Arc::default()], settled: 0 };
        let writers = HOSTS.iter().map(writer).collect();
        History(Mutex::new(State { writers, hidden: false, hiding: false, changes: 0 }))
    }

    /// The writer's points as far as they are acknowledged.
    pub fn model(&self, writer: usize) -> Arc<Model> {
        let state = self.0.lock().unwrap();
        let writer = &state.writers[writer];
        Arc::clone(&writer.versions[writer.settled])
    }

    /// The change is about to be sent.
    pub fn begin(&self, writer: usize, change: &Change) -> Vec<Arrival> {
        let mut state = self.0.lock().unwrap();
        state.changes += 1;
        let writer = &mut state.writers[writer];
        assert_eq!(writer.settled + 1, writer.versions.len(), "a writer waits for each answer");
        let mut next = Model::clone(&writer.versions[writer.settled]);
        let arrivals = change.apply(&mut next);
        writer.versions.push(Arc::new(next));
        arrivals
    }

    pub fn acknowledge(&self, writer: usize) {
        let mut state = self.0.lock().unwrap();
        state.changes += 1;
        state.writers[writer].settled += 1;
    }

    /// Old points are about to be hidden, for ever. Nobody writes any meanwhile or later.
    pub fn hide_old(&self) {
        let mut state = self.0.lock().unwrap();
        (state.hiding, state.changes) = (true, state.changes + 1);
    }

    pub fn old_are_hidden(&self) {
        let mut state = self.0.lock().unwrap();
        (state.hidden, state.changes) = (true, state.changes + 1);
    }

    pub fn now(&self) -> Moment {
        let state = self.0.lock().unwrap();
        Moment {
            settled: state.writers.iter().map(|writer| writer.settled).collect(),
            hidden: state.hidden,
            changes: state.changes,
            quiet: state.is_quiet(),
        }
    }

    /// What a read may show that began at the moment and ends now.
    pub fn possible(&self, since: &Moment) -> Possible {
        let state = self.0.lock().unwrap();
        let versions = state.writers.iter().zip(&since.settled);
        let shown_from = match (since.hidden, state.hiding) {
            (true, _) => vec![OLD_UNTIL],
            (false, true) => vec![i64::MIN, OLD_UNTIL],
            (false, false) => vec![i64::MIN],
        };
        Possible {
            versions: versions.map(|(writer, settled)| writer.versions[*settled..].to_vec()).collect(),
            shown_from,
            pinned: since.quiet && since.changes == state.changes,
        }
    }

    /// After a cut: each writer's last change happened or not, as the points show. From now on that is what it is. Says
    /// how many of the unanswered ones happened, and of how many.
    pub fn settle(&self, all: &Question, found: &Cells, hidden: bool) -> Result<(u64, u64), String> {
        let mut state = self.0.lock().unwrap();
        if state.hidden != hidden && !state.hiding {
            return Err(format!("old points are hidden: {hidden}, and nobody has asked for it"));
        }
        (state.hidden, state.hiding) = (hidden, hidden);
        let shown_from = if hidden { OLD_UNTIL } else { i64::MIN };
        let mut unanswered = (0, 0);
        for (at, writer) in state.writers.iter_mut().enumerate() {
            let shown = rows_of_host(all, found, at);
            let known = &writer.versions[writer.settled..];
            let is_shown = |model: &Arc<Model>| all.answer(model, shown_from) == shown;
            let Some(which) = known.iter().position(is_shown) else {
                let acknowledged = all.answer(&known[0], shown_from);
                return Err(format!(
                    "host {} shows\n{shown:?}\nacknowledged are\n{acknowledged:?}",
                    HOSTS[at]
                ));
            };
            unanswered.0 += u64::from(which > 0);
            unanswered.1 += known.len() as u64 - 1;
            *writer = Writer { versions: vec![Arc::clone(&known[which])], settled: 0 };
        }
        Ok(unanswered)
    }
}

impl State {
    fn is_quiet(&self) -> bool {
        let settled = |writer: &Writer| writer.settled + 1 == writer.versions.len();
        self.hidden == self.hiding && self.writers.iter().all(settled)
    }
}

impl Possible {
    /// Also old points that are hidden: what rollups of that time tell.
    pub fn with_hidden(mut self) -> Possible {
        self.shown_from = vec![i64::MIN];
        self
    }

    /// How many models there are.
    pub fn count(&self) -> usize {
        self.shown_from.len() * self.versions.iter().map(Vec::len).product::<usize>()
    }

    /// Whether this is the answer of one of them.
    pub fn allows(&self, question: &Question, found: &Cells) -> bool {
        self.shown_from.iter().any(|from| match question.host_cell() {
            // Each writer by itself.
            Some(_) => {
                self.versions.iter().enumerate().all(|(at, versions)| {
                    let shown = rows_of_host(question, found, at);
                    versions.iter().rev().any(|model| question.answer(model, *from) == shown)
                }) && (0..HOSTS.len()).map(|at| rows_of_host(question, found, at).len()).sum::<usize>()
                    == found.len()
            }
            None => self.any_union(&mut Vec::new(), &|model| question.answer(model, *from) == *found),
        })
    }

    fn any_union(&self, chosen: &mut Vec<Arc<Model>>, matches: &dyn Fn(&Model) -> bool) -> bool {
        let Some(versions) = self.versions.get(chosen.len()) else {
            return matches(&Model::union(chosen.iter().map(|model| &**model)));
        };
        versions.iter().rev().any(|version| {
            chosen.push(Arc::clone(version));
            let found = self.any_union(chosen, matches);
            chosen.pop();
            found
        })
    }

    /// What the newest of them says, for a message.
    pub fn newest(&self, question: &Question) -> Cells {
        let newest = self.versions.iter().filter_map(|versions| versions.last());
        question.answer(&Model::union(newest.map(|model| &**model)), self.shown_from[0])
    }
}

fn rows_of_host(question: &Question, found: &Cells, writer: usize) -> Cells {
    let at = question.host_cell().expect("its rows are of hosts");
    found.iter().filter(|row| row[at].as_deref() == Some(HOSTS[writer])).cloned().collect()
}
