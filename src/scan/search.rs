//! A scan that looks for some rows among many: first at the columns that decide, then at the rest where it may matter; and
//! no longer at times that turned out to be too far away.
//!
//! Stale markers are told by all of a row, so where they are skipped all columns are looked at at once.
//! Not here: what is looked for (`query`).

use std::sync::atomic::Ordering;

use rayon::prelude::*;
use storage_format::point::{TagSet, Time, TimeRange};

use crate::error::Result;
use crate::guard::Guard;
use crate::rows::{Rows, Span};
use crate::scan::read::Look;
use crate::scan::{Scan, Stale, Touched};

/// What is looked for.
pub trait Search: Sync {
    /// The times at which rows are still wanted; narrows while rows are found, and never widens.
    fn times(&self) -> TimeRange;

    /// The columns that decide; None to decide with all of them.
    fn deciding(&self) -> Option<&[bool]>;

    /// The smallest range with all rows that pass, with only the deciding columns there. None if none does.
    fn passing(&self, series: usize, pieces: &[Rows]) -> Option<TimeRange>;

    /// Rows of a series, or of a part of it, with all columns: those in the range, and perhaps more.
    fn found(&self, series: usize, pieces: Vec<Rows>) -> Result<()>;
}

impl Scan {
    /// Searches all series, in parallel and in no particular order.
    pub fn search(&self, guard: &Guard, touched: &Touched, search: &dyn Search) -> Result<()> {
        touched.files.store(self.blocks.len() as u64, Ordering::Relaxed);
        let keep = self.may_keep();
        self.tasks(guard).into_par_iter().try_for_each(|task| {
            guard.check()?;
            let mut times = task.times.intersect(search.times());
            if times.is_empty() {
                return Ok(());
            }
            let mut series: Vec<usize> = task.series.collect();
            let mut counted = touched;
            // Rows are counted once, however often they are looked at.
            let again = Touched::default();
            if let Some(columns) = search.deciding().filter(|_| self.stale == Stale::Kept) {
                let mut held = guard.hold();
                let look = Look { series: &series, times, columns: Some(columns), keep };
                let mut passing: Vec<(usize, TimeRange)> = Vec::new();
                self.look(&look, touched, &mut held, &mut |at, spans| {
                    passing.extend(search.passing(at, &rows_of(spans)).map(|range| (at, range)));
                    Ok(())
                })?;
                let hull = passing.iter().map(|(_, range)| *range).reduce(TimeRange::hull);
                let Some(hull) = hull else { return Ok(()) };
                series = passing.into_iter().map(|(at, _)| at).collect();
                times = hull.intersect(search.times());
                counted = &again;
            }
            let mut held = guard.hold();
            let look = Look { series: &series, times, columns: None, keep };
            self.look(&look, counted, &mut held, &mut |at, spans| search.found(at, rows_of(spans)))?;
            touched.bytes.fetch_add(again.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
            Ok(())
        })
    }

    pub fn tags_of(&self, series: usize) -> &TagSet {
        &self.series[series].tags
    }

    /// About how many rows there are, and from when to when: to be guessed with, because points in memory are not looked at,
    /// nor which rows are one.
    pub fn extent(&self) -> (u64, TimeRange) {
        let mut times: Option<TimeRange> = None;
        let mut add = |range: TimeRange| times = Some(times.map_or(range, |times| times.hull(range)));
        for block in &self.blocks {
            add(block.open.time());
        }
        let mut rows = 0;
        for sources in &self.series {
            rows += sources.blocks.iter().map(|(_, rows)| rows.end - rows.start).sum::<u64>();
            for place in &sources.memory {
                self.memory.parts(*place, |first: Time, count| {
                    rows += count as u64;
                    add(TimeRange::new(first, first.saturating_add(1)));
                });
            }
        }
        let asked = self.ranges.hull().unwrap_or(TimeRange::new(0, 0));
        (rows, times.unwrap_or(asked).intersect(asked))
    }

    /// The smallest range that covers what was asked.
    pub fn asked(&self) -> TimeRange {
        self.ranges.hull().unwrap_or(TimeRange::new(0, 0))
    }
}

fn rows_of(spans: &[Span<'_>]) -> Vec<Rows> {
    spans.iter().map(Span::to_rows).collect()
}
