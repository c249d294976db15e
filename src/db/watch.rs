//! Which times of a table have changed since somebody last asked: for statements that go on.
//!
//! Invariant: a change to a time before [`Watch::advance`]'s bound that a view does not hold yet is noted before it can be
//! read. What lies behind the bound is noted in whole windows, and above [`RANGES_MAX`] gaps as one range.
//! Not here: what the changes mean (`live`).

use std::sync::Arc;

use crossbeam_channel::Sender;
use parking_lot::Mutex;
use query_lang::plan::Window;
use storage_format::point::{Time, TimeRange};
use storage_format::ranges::RangeSet;

use crate::batch::BatchPart;
use crate::db::Db;
use crate::series::Table;

/// Ranges that are noted apart from each other.
const RANGES_MAX: usize = 1_000;

pub struct Watch {
    database: String,
    table: String,
    window: Window,
    noted: Mutex<Noted>,
    /// Told that something is noted. One message is enough.
    wake: Sender<()>,
}

struct Noted {
    /// Changes from here on are nobody's business yet.
    below: Time,
    changed: RangeSet,
}

impl Watch {
    pub fn new(database: &str, table: &str, window: Window, wake: Sender<()>) -> Arc<Watch> {
        let noted = Mutex::new(Noted { below: Time::MIN, changed: RangeSet::default() });
        Arc::new(Watch { database: database.to_string(), table: table.to_string(), window, noted, wake })
    }

    /// From now on changes before `below` count, too.
    pub fn advance(&self, below: Time) {
        self.noted.lock().below = below;
    }

    /// What has changed since the last call.
    pub fn take(&self) -> RangeSet {
        std::mem::take(&mut self.noted.lock().changed)
    }

    fn is_over(&self, table: &Table) -> bool {
        *self.table == *table.name && *self.database == *table.database
    }

    fn note_points(&self, part: &BatchPart) {
        let mut noted = self.noted.lock();
        let below = noted.below;
        let mut last = TimeRange::new(0, 0);
        for row in &part.points.rows {
            if row.time < below && !last.contains(row.time) {
                last = TimeRange::new(self.window.start_of(row.time), self.window.end_of(row.time));
                noted.changed.insert(last);
            }
        }
        self.tell(&mut noted);
    }

    fn note_range(&self, range: TimeRange) {
        let mut noted = self.noted.lock();
        let range = range.intersect(TimeRange::new(Time::MIN, noted.below));
        if !range.is_empty() {
            noted.changed.insert(range);
        }
        self.tell(&mut noted);
    }

    fn tell(&self, noted: &mut Noted) {
        if noted.changed.ranges().len() > RANGES_MAX {
            noted.changed = noted.changed.hull().into_iter().collect();
        }
        if !noted.changed.is_empty() {
            // Full means that it has been told already.
            self.wake.try_send(()).ok();
        }
    }
}

/// All that anybody watches. Those whose owner is gone go with the next change.
#[derive(Default)]
pub(super) struct Watches(Vec<std::sync::Weak<Watch>>);

impl Watches {
    pub fn note_points(&mut self, part: &BatchPart) {
        self.each(&part.table, |watch| watch.note_points(part));
    }

    pub fn note_range(&mut self, table: &Table, range: TimeRange) {
        self.each(table, |watch| watch.note_range(range));
    }

    fn each(&mut self, table: &Table, note: impl Fn(&Watch)) {
        self.0.retain(|watch| {
            let Some(watch) = watch.upgrade() else { return false };
            if watch.is_over(table) {
                note(&watch);
            }
            true
        });
    }
}

impl Db {
    /// Notes changes for as long as somebody holds the watch.
    pub fn watch(&self, watch: &Arc<Watch>) {
        self.core.live.write().watches.0.push(Arc::downgrade(watch));
    }
}
