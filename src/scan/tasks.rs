//! A scan in tasks: runs of short series, or slices of time of a long one.
//!
//! Invariant: the tasks of a scan, in their order, bring each row once, by series and then by time; what one decodes is
//! bounded by [`task_bytes`], however long a series is.
//! Not here: running one (`read`).

use std::ops::Range;

use storage_format::point::{Time, TimeRange};

use crate::guard::Guard;
use crate::scan::Scan;
use crate::scan::SeriesSources;

/// What one thread decodes at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Task {
    pub series: Range<usize>,
    /// All times, but for a slice of a single series.
    pub times: TimeRange,
}

/// Rows per task: enough to be worth a thread's while (some ms), few enough that a scan is spread over all of them.
const TASK_ROWS: u64 = 128 * 1024;

/// Finding a series and adding it to its group takes about as long as decoding so many rows.
const SERIES_ROWS: u64 = 128;

/// Bytes per task where rows are wide, and the share of a limit of memory that a task may take where that is less.
const TASK_BYTES_MAX: usize = 16 << 20;
const TASK_BYTES_MIN: usize = 64 << 10;
const TASK_SHARE: usize = 16;

/// A series this many times the size of a task is cut; below that a slice would hardly be worth the look-ups.
const LONG: u64 = 2;

/// About what a task may take once decoded.
pub(super) fn task_bytes(guard: &Guard) -> usize {
    (guard.memory_max() / TASK_SHARE).clamp(TASK_BYTES_MIN, TASK_BYTES_MAX)
}

#[derive(Clone, Copy, Default)]
struct Size {
    rows: u64,
    bytes: u64,
}

impl Size {
    fn add(&mut self, rows: u64, row_bytes: u64) {
        self.rows += rows;
        self.bytes += rows * row_bytes;
    }

    /// How many tasks this fills.
    fn fills(&self, bytes_max: u64) -> u64 {
        (self.rows / TASK_ROWS).max(self.bytes / bytes_max)
    }
}

impl Scan {
    pub(super) fn tasks(&self, guard: &Guard) -> Vec<Task> {
        let bytes_max = task_bytes(guard) as u64;
        let mut tasks = Vec::new();
        let (mut start, mut size) = (0, Size::default());
        let mut end = |series: Range<usize>| {
            if !series.is_empty() {
                tasks.push(Task { series, times: TimeRange::ALL });
            }
        };
        let mut long = Vec::new();
        for (at, sources) in self.series.iter().enumerate() {
            let own = self.size(sources);
            if own.fills(bytes_max) >= LONG {
                end(start..at);
                long.push(at);
                (start, size) = (at + 1, Size::default());
                continue;
            }
            size.rows += own.rows;
            size.bytes += own.bytes;
            if size.fills(bytes_max) > 0 {
                end(start..at + 1);
                (start, size) = (at + 1, Size::default());
            }
        }
        end(start..self.series.len());
        for at in long {
            tasks.extend(self.slices(at, bytes_max));
        }
        tasks.sort_by_key(|task| (task.series.start, task.times.start));
        tasks
    }

    /// What the rows of a series take, before those of equal times become one, and what the series itself costs.
    fn size(&self, sources: &SeriesSources) -> Size {
        let mut size = Size { rows: SERIES_ROWS, bytes: 0 };
        for (block, rows) in &sources.blocks {
            size.add(rows.end - rows.start, self.blocks[*block as usize].row_bytes);
        }
        for place in &sources.memory {
            size.add(self.memory.rows_max(*place), self.memory_row_bytes());
        }
        size
    }

    /// The tasks of a long series.
    fn slices(&self, at: usize, bytes_max: u64) -> Vec<Task> {
        let sources = &self.series[at];
        // Where a page or a chunk begins, with what it holds. Those of different sources may overlap: then a slice decodes
        // some pages that the next one decodes again.
        let mut parts: Vec<(Time, Size)> = Vec::new();
        let mut add = |time, rows, row_bytes| {
            let mut size = Size::default();
            size.add(rows, row_bytes);
            parts.push((time, size));
        };
        for (block, rows) in &sources.blocks {
            let block = &self.blocks[*block as usize];
            let mut pages = block.open.pages_of(rows.clone(), block.open.time()).peekable();
            while let Some((row, time)) = pages.next() {
                let end = pages.peek().map_or(rows.end, |(next, _)| *next);
                add(time, end - row, block.row_bytes);
            }
        }
        for place in &sources.memory {
            self.memory.parts(*place, |time, rows| add(time, rows as u64, self.memory_row_bytes()));
        }
        parts.sort_by_key(|(time, _)| *time);
        let mut tasks = Vec::new();
        let mut size = Size::default();
        let mut start = TimeRange::ALL.start;
        // Where the rows of the slice begin: parts that begin there, too, belong to it.
        let mut first = parts.first().map_or(start, |(time, _)| *time);
        for (time, part) in parts {
            if size.fills(bytes_max) > 0 && time > first {
                tasks.push(Task { series: at..at + 1, times: TimeRange::new(start, time) });
                (start, first, size) = (time, time, Size::default());
            }
            size.rows += part.rows;
            size.bytes += part.bytes;
        }
        tasks.push(Task { series: at..at + 1, times: TimeRange::new(start, TimeRange::ALL.end) });
        tasks
    }

    /// What a row in memory takes once decoded; texts are counted when they are.
    fn memory_row_bytes(&self) -> u64 {
        8 * (1 + self.columns.len() as u64)
    }
}
