//! Raw points as rows: time, tags, fields; ordered by time (from the oldest or from the newest), then series.
//!
//! Points lie by series and are wanted by time, so they are taken in slices of time: a slice is searched in all series, and
//! what was found is put in order. A slice ends where what was found takes its share of memory, however many series there
//! are and however the points lie; with a limit it ends where enough were found. A slice goes out in batches, so that the
//! first rows can be sent while the others are made into columns.
//! Invariant: what is held is one slice; the slices follow one another without gap or overlap, so that the answer is the
//! same as in one piece.
//! Not here: what becomes of the rows (`stream`, `frame`).

mod find;
mod order;

use query_lang::catalog::FieldInfo;
use query_lang::scalar::ColumnRole;
use roaring::RoaringBitmap;
use storage_format::point::{Time, TimeRange};

use crate::error::Result;
use crate::guard::Guard;
use crate::query::answer::Stats;
use crate::query::frame::Frame;
use crate::query::scalar::Program;
use crate::scan::{Scan, Touched};

use find::{Found, Pass};
use order::{Dictionary, Ordered};

/// Which points, and in which order.
pub struct PointsAsked {
    /// The scan's columns, in their order.
    pub fields: Vec<FieldInfo>,
    /// Of the table.
    pub tags: Vec<String>,
    pub condition: Option<Program>,
    pub newest_first: bool,
    pub limit: Option<u64>,
}

/// Points that are still to be read.
pub struct Points {
    scan: Scan,
    asked: PointsAsked,
    /// The names of the fields.
    names: Vec<String>,
    /// The fields that the condition needs, if those are not all.
    deciding: Option<Vec<bool>>,
    tags: Vec<Dictionary>,
    /// Of the limit.
    wanted: usize,
    left: TimeRange,
    pace: Pace,
    /// Of the slice that was found last.
    found: Option<Ordered>,
    touched: Touched,
    /// The series that had rows in the range.
    seen: RoaringBitmap,
}

/// How wide the next slice is guessed to be.
struct Pace {
    /// About where the points are.
    extent: TimeRange,
    /// Nanoseconds; None for all that is left.
    width: Option<i128>,
    /// Rows of a slice that are aimed at.
    rows: usize,
}

/// The share of a query's memory that a slice may take: it stands there twice while it is put in order, and two batches of it
/// are with the client.
const SLICE_SHARE: usize = 16;
const SLICE_BYTES_MAX: usize = 64 << 20;

/// To aim at fewer rows would save nothing.
const SLICE_ROWS_MIN: usize = 1_000;

/// How much a slice may be wider than the one before.
const WIDEN_MAX: i128 = 8;

/// Rows of a batch: a few megabytes of usual columns, made and sent in a few milliseconds.
const BATCH_ROWS: usize = 16 << 10;

impl Points {
    pub fn new(scan: Scan, asked: PointsAsked, guard: &Guard) -> Points {
        let names: Vec<String> = asked.fields.iter().map(|field| field.name.clone()).collect();
        let deciding = asked.condition.as_ref().map(|condition| deciding(condition, &names));
        let wanted = asked.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let left = if wanted == 0 { TimeRange::new(0, 0) } else { scan.asked() };
        let mut points = Points {
            tags: asked.tags.iter().map(|name| Dictionary::new(name)).collect(),
            deciding: deciding.filter(|deciding| deciding.contains(&false)),
            names,
            wanted,
            left,
            pace: Pace { extent: left, width: None, rows: usize::MAX },
            found: None,
            touched: Touched::default(),
            seen: RoaringBitmap::new(),
            scan,
            asked,
        };
        // Somewhat less than what fits, because points are not spread evenly.
        points.aim_at(slice_bytes(guard) / points.row_bytes() / 4 * 3);
        points
    }

    /// A slice is wanted to have about so many rows, because a later step wants no more.
    pub fn aim_at(&mut self, rows: usize) {
        let (all, extent) = self.scan.extent();
        self.pace.extent = extent;
        self.pace.rows = rows.min(self.wanted).max(SLICE_ROWS_MIN).min(self.pace.rows);
        let length = i128::from(extent.end) - i128::from(extent.start);
        // Of the rows that a condition lets pass nothing is known, unless few are wanted: then all that may be is read.
        let is_open = self.asked.condition.is_some() && self.asked.limit.is_none();
        let is_small = all as usize <= self.pace.rows;
        self.pace.width =
            (!is_open && !is_small).then(|| 1 + length * self.pace.rows as i128 / i128::from(all.max(1)));
    }

    /// What a row takes in an answer: 8 bytes for a time or a number, 4 for the number of a text.
    fn row_bytes(&self) -> usize {
        8 + 8 * self.names.len() + 4 * self.tags.len()
    }

    /// The next rows; None when there are no more. They are counted until the caller gives them back.
    pub fn next(&mut self, guard: &Guard) -> Result<Option<Frame>> {
        while self.found.is_none() && !self.left.is_empty() {
            let slice = self.slice();
            let (found, covered) = self.find(slice, slice_bytes(guard), guard)?;
            let most = self.wanted;
            self.go_on(covered, found.rows);
            if found.rows > 0 {
                self.found = Some(self.in_order(found, most, guard)?);
            }
        }
        let Some(mut found) = self.found.take() else { return Ok(None) };
        let frame = found.take(self, BATCH_ROWS, guard)?;
        self.found = (found.left() > 0).then_some(found);
        Ok(Some(frame))
    }

    /// All that is left, in one slice, with plain texts.
    pub fn all(&mut self, guard: &Guard) -> Result<Frame> {
        let (found, _) = self.find(self.left, usize::MAX, guard)?;
        self.left = TimeRange::new(0, 0);
        guard.check_rows(found.rows.min(self.wanted))?;
        let numbered = self.in_order(found, self.wanted, guard)?.take(self, usize::MAX, guard)?;
        let before = numbered.heap_bytes();
        let frame = numbered.unpacked();
        guard.reserve(frame.heap_bytes())?;
        guard.release(before);
        Ok(frame)
    }

    /// No rows, in the columns of those that come.
    pub fn none(&mut self, guard: &Guard) -> Result<Frame> {
        self.in_order(Found::default(), 0, guard)?.take(self, 0, guard)
    }

    pub fn ended(&self) -> bool {
        self.left.is_empty() && self.found.is_none()
    }

    pub fn count(&self, stats: &mut Stats) {
        stats.count_scan(&self.touched);
        stats.series += self.seen.len();
    }

    fn find(&mut self, slice: TimeRange, bytes_max: usize, guard: &Guard) -> Result<(Found, TimeRange)> {
        // Its series are counted here, once however many slices they are in.
        let touched = Touched::default();
        let pass = Pass::new(self, slice, bytes_max, guard);
        self.scan.search(guard, &touched, &pass)?;
        let (found, covered) = pass.end();
        self.seen |= &found.seen;
        self.touched.add_work(&touched);
        Ok((found, covered))
    }

    fn slice(&self) -> TimeRange {
        let Some(width) = self.pace.width else { return self.left };
        let (left, extent) = (self.left, self.pace.extent);
        let within = |time: i128| time.clamp(i128::from(left.start), i128::from(left.end)) as Time;
        if self.asked.newest_first {
            let start = i128::from(left.end.min(extent.end)) - width;
            // What is older than all that is known is not worth a slice of its own.
            let start = if start <= i128::from(extent.start) { left.start } else { within(start) };
            TimeRange::new(start.min(left.end - 1), left.end)
        } else {
            let end = i128::from(left.start.max(extent.start)) + width;
            let end = if end >= i128::from(extent.end) { left.end } else { within(end) };
            TimeRange::new(left.start, end.max(left.start + 1))
        }
    }

    fn go_on(&mut self, covered: TimeRange, rows: usize) {
        self.wanted -= rows.min(self.wanted);
        self.left = match (self.wanted, self.asked.newest_first) {
            (0, _) => TimeRange::new(0, 0),
            (_, true) => TimeRange::new(self.left.start, covered.start),
            (_, false) => TimeRange::new(covered.end, self.left.end),
        };
        let covered = covered.intersect(self.pace.extent);
        if covered.is_empty() {
            self.pace.width = self.pace.width.map(|width| width.saturating_mul(WIDEN_MAX));
            return;
        }
        let length = i128::from(covered.end) - i128::from(covered.start);
        let aim = self.pace.rows as i128;
        self.pace.width = Some((length * aim / (rows.max(1) as i128)).clamp(1, length * WIDEN_MAX));
    }
}

/// About what a slice takes.
fn slice_bytes(guard: &Guard) -> usize {
    (guard.memory_max() / SLICE_SHARE).min(SLICE_BYTES_MAX)
}

fn deciding(condition: &Program, names: &[String]) -> Vec<bool> {
    let columns = condition.columns();
    let decides =
        |name: &String| columns.iter().any(|column| column.role == ColumnRole::Value && column.name == *name);
    names.iter().map(decides).collect()
}
