//! One slice: rows of all series, gathered until they take too much, then only those nearest to where the slice begins.
//!
//! Invariant: of the times that the slice covers at the end, every row that passes is there; how the tasks ran decides how
//! far it reaches, and never which rows it has.

use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use roaring::RoaringBitmap;
use storage_format::point::{Time, TimeRange};

use crate::error::Result;
use crate::guard::Guard;
use crate::query::points::Points;
use crate::query::window::{mask, passing};
use crate::rows::Rows;
use crate::scan::Search;

pub(super) struct Pass<'a> {
    points: &'a Points,
    guard: &'a Guard,
    slice: TimeRange,
    /// Where the slice ends, as far as is known: its far end, which comes nearer.
    far: AtomicI64,
    rows_max: usize,
    bytes_max: usize,
    found: Mutex<Found>,
}

/// Rows that pass, counted against the guard.
#[derive(Default)]
pub(super) struct Found {
    /// With the number of their series; each piece ascends in time and is not empty.
    pub pieces: Vec<(usize, Rows)>,
    pub rows: usize,
    pub bytes: usize,
    /// The series that had rows, passing or not.
    pub seen: RoaringBitmap,
    /// What was left when it was last cut.
    rows_kept: usize,
    bytes_kept: usize,
}

impl<'a> Pass<'a> {
    pub fn new(points: &'a Points, slice: TimeRange, bytes_max: usize, guard: &'a Guard) -> Pass<'a> {
        let far = if points.asked.newest_first { slice.start } else { slice.end };
        Pass {
            points,
            guard,
            slice,
            far: AtomicI64::new(far),
            rows_max: points.wanted,
            bytes_max,
            found: Mutex::default(),
        }
    }

    /// What was found, and the times that it covers.
    pub fn end(self) -> (Found, TimeRange) {
        let times = self.times();
        let mut found = self.found.into_inner();
        // Tasks that began before the slice was cut have brought what lies behind its end.
        found.cut(times, self.guard);
        (found, times)
    }

    /// Lets the slice end nearer, because it takes too much or has enough.
    fn narrow(&self, found: &mut Found) {
        let newest_first = self.points.asked.newest_first;
        let all = found.pieces.iter().flat_map(|(_, rows)| rows.times.iter());
        // The nearest rows have the smallest keys.
        let mut keys: Vec<Time> = all.map(|time| if newest_first { !*time } else { *time }).collect();
        let has_enough = keys.len() > self.rows_max;
        let at = if has_enough { self.rows_max - 1 } else { keys.len() / 2 };
        let nearest = keys.iter().copied().min().unwrap_or_default();
        let (_, key, _) = keys.select_nth_unstable(at);
        // Rows of one time stay together. The row that is the last of enough is wanted, that in the middle is not, unless
        // there is no nearer one.
        let end = if has_enough || *key == nearest { key.saturating_add(1) } else { *key };
        if newest_first {
            // Keys from `end` on are not wanted: these are the times up to its opposite.
            self.far.fetch_max((!end).saturating_add(1), Ordering::Relaxed);
        } else {
            self.far.fetch_min(end, Ordering::Relaxed);
        }
        found.cut(self.times(), self.guard);
        found.rows_kept = found.rows;
        found.bytes_kept = found.bytes;
    }

    fn is_full(&self, found: &Found) -> bool {
        found.rows > self.rows_max.max(found.rows_kept).saturating_mul(2)
            || found.bytes > self.bytes_max.max(found.bytes_kept.saturating_mul(2))
    }
}

impl Search for Pass<'_> {
    fn times(&self) -> TimeRange {
        let far = self.far.load(Ordering::Relaxed);
        match self.points.asked.newest_first {
            true => TimeRange::new(far, self.slice.end),
            false => TimeRange::new(self.slice.start, far),
        }
    }

    fn deciding(&self) -> Option<&[bool]> {
        self.points.deciding.as_deref()
    }

    fn passing(&self, series: usize, pieces: &[Rows]) -> Option<TimeRange> {
        self.found.lock().seen.insert(series as u32);
        let condition = self.points.asked.condition.as_ref()?;
        let tags = self.points.scan.tags_of(series);
        let mut range: Option<TimeRange> = None;
        for rows in pieces {
            let passes = mask(rows, tags, &self.points.names, condition);
            let mut runs = passes.values().set_slices();
            let Some((first, end)) = runs.next() else { continue };
            let last = runs.last().map_or(end, |(_, end)| end) - 1;
            let start = range.map_or(rows.times[first], |range| range.start);
            range = Some(TimeRange::new(start, rows.times[last].saturating_add(1)));
        }
        range
    }

    fn found(&self, series: usize, pieces: Vec<Rows>) -> Result<()> {
        let tags = self.points.scan.tags_of(series);
        let mut kept = Vec::with_capacity(pieces.len());
        let (mut count, mut bytes) = (0, 0);
        for rows in pieces {
            let rows = rows.cut(self.times());
            let passing = match &self.points.asked.condition {
                Some(condition) => passing(&rows, tags, &self.points.names, condition),
                None => rows.clone(),
            };
            let passing = match passing.len().checked_sub(self.rows_max) {
                Some(surplus) if self.points.asked.newest_first => passing.slice(surplus, self.rows_max),
                Some(_) => passing.slice(0, self.rows_max),
                None => passing,
            };
            if passing.is_empty() {
                continue;
            }
            // A slice would keep all that was decoded with it.
            let is_slice = passing.len() == rows.len() || passing.len() == self.rows_max;
            let passing = if is_slice { passing.copied() } else { passing };
            count += passing.len();
            bytes += passing.heap_bytes();
            kept.push((series, passing));
        }
        self.guard.reserve(bytes)?;
        let mut found = self.found.lock();
        found.seen.insert(series as u32);
        found.pieces.extend(kept);
        found.rows += count;
        found.bytes += bytes;
        if self.is_full(&found) {
            self.narrow(&mut found);
        }
        if self.bytes_max == usize::MAX {
            self.guard.check_rows(found.rows.min(self.rows_max))?;
        }
        Ok(())
    }
}

impl Found {
    /// Keeps only the rows in these times.
    fn cut(&mut self, times: TimeRange, guard: &Guard) {
        (self.rows, self.bytes) = (0, 0);
        let mut given_back = 0;
        self.pieces.retain_mut(|(_, rows)| {
            let before = rows.heap_bytes();
            let cut = rows.cut(times);
            if cut.len() < rows.len() {
                *rows = cut.copied();
            }
            let after = if rows.is_empty() { 0 } else { rows.heap_bytes() };
            given_back += before - after.min(before);
            self.rows += rows.len();
            self.bytes += after;
            !rows.is_empty()
        });
        guard.release(given_back);
    }
}
