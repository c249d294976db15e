//! Running a scan's tasks: pages and chunks decoded, deletes applied, sources merged, series after series.
//!
//! Invariant: what a task has decoded is counted before anyone sees it, and for as long as anyone may hold it.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::Array;
use rayon::prelude::*;
use storage_format::point::{TagSet, TimeRange};

use crate::blocks::BlockPiece;
use crate::error::Result;
use crate::guard::{Guard, Held};
use crate::rows::{self, Rows, Span};
use crate::scan::Scan;
use crate::scan::SeriesSources;
use crate::scan::Stale;
use crate::scan::Tombstone;
use crate::scan::Touched;
use crate::scan::memory::{Decoded, Place, Wanted};
use crate::scan::tasks::{Task, task_bytes};

/// The rows of a series that one task brings.
pub struct Part<'a> {
    pub tags: &'a TagSet,
    pub rows: &'a [Rows],
    /// All of the series, and not a slice of time of a long one.
    pub is_whole: bool,
}

impl Scan {
    /// Folds all series, in parallel and in no particular order: `each` adds one series, or a slice of a long one, to a
    /// task's result, `join` joins two results.
    pub fn fold<T: Send>(
        &self,
        guard: &Guard,
        touched: &Touched,
        new: impl Fn() -> T + Sync,
        each: impl Fn(&mut T, &TagSet, &[Rows]) -> Result<()> + Sync,
        join: impl Fn(T, T) -> Result<T> + Sync,
    ) -> Result<T> {
        let each = |result: &mut T, part: Part<'_>| each(result, part.tags, part.rows);
        self.fold_parts(guard, touched, new, each, join)
    }

    /// The same, and each part says whether it is all of its series.
    pub fn fold_parts<T: Send>(
        &self,
        guard: &Guard,
        touched: &Touched,
        new: impl Fn() -> T + Sync,
        each: impl Fn(&mut T, Part<'_>) -> Result<()> + Sync,
        join: impl Fn(T, T) -> Result<T> + Sync,
    ) -> Result<T> {
        let each = |result: &mut T, tags: &TagSet, spans: &[Span<'_>], is_whole: bool| {
            let rows: Vec<Rows> = spans.iter().map(Span::to_rows).collect();
            each(result, Part { tags, rows: &rows, is_whole })
        };
        self.fold_spans(guard, touched, new, each, join)
    }

    /// The same for whoever only looks at the rows, where they were decoded.
    pub fn fold_spans<T: Send>(
        &self,
        guard: &Guard,
        touched: &Touched,
        new: impl Fn() -> T + Sync,
        each: impl Fn(&mut T, &TagSet, &[Span<'_>], bool) -> Result<()> + Sync,
        join: impl Fn(T, T) -> Result<T> + Sync,
    ) -> Result<T> {
        touched.files.fetch_add(self.blocks.len() as u64, Ordering::Relaxed);
        let newest = self.blocks.iter().filter_map(|block| block.newest.as_ref());
        touched.bytes.fetch_add(newest.map(|rows| buffer_bytes(rows) as u64).sum(), Ordering::Relaxed);
        let keep = self.may_keep();
        let run = |task: &Task| {
            let mut result = new();
            let mut held = guard.hold();
            let is_whole = task.times == TimeRange::ALL;
            let series: Vec<usize> = task.series.clone().collect();
            let look = Look { series: &series, times: task.times, columns: None, keep };
            self.look(&look, touched, &mut held, &mut |at, spans| {
                each(&mut result, &self.series[at].tags, spans, is_whole)
            })?;
            Ok(result)
        };
        match self.tasks(guard).as_slice() {
            [] => Ok(new()),
            // The way to other threads would take longer than most single tasks.
            [task] => run(task),
            tasks => tasks.par_iter().map(run).try_reduce_with(&join).unwrap_or_else(|| Ok(new())),
        }
    }

    /// Visits all series in their order, a long one slice after slice, decoding some tasks ahead in parallel.
    pub fn for_each(
        &self,
        guard: &Guard,
        mut each: impl FnMut(&TagSet, Vec<Rows>) -> Result<()>,
    ) -> Result<()> {
        let touched = Touched::default();
        let ahead = (guard.memory_max() / 4 / task_bytes(guard)).clamp(1, rayon::current_num_threads());
        for some in self.tasks(guard).chunks(ahead) {
            let run = |task: &Task| {
                let mut held = guard.hold();
                let mut out: Vec<(&TagSet, Vec<Rows>)> = Vec::new();
                let series: Vec<usize> = task.series.clone().collect();
                let look = Look { series: &series, times: task.times, columns: None, keep: false };
                self.look(&look, &touched, &mut held, &mut |at, spans| {
                    out.push((&self.series[at].tags, spans.iter().map(Span::to_rows).collect()));
                    Ok(())
                })?;
                Ok((out, held))
            };
            let decoded: Vec<Result<_>> = some.par_iter().map(run).collect();
            for task in decoded {
                let (series, _held) = task?;
                for (tags, pieces) in series {
                    each(tags, pieces)?;
                }
            }
        }
        Ok(())
    }

    /// Decodes and merges, series after series.
    pub(super) fn look(
        &self,
        look: &Look<'_>,
        touched: &Touched,
        held: &mut Held<'_>,
        each: &mut dyn FnMut(usize, &[Span<'_>]) -> Result<()>,
    ) -> Result<()> {
        let from_blocks = self.read_blocks(look, touched, held)?;
        let is_slice = look.times != TimeRange::ALL;
        // A long series counts once, with its first slice.
        let is_first = is_slice && look.times.start == TimeRange::ALL.start;
        let ids: Vec<u32> = look.wanted(&self.ids).copied().collect();
        let mut series_read = u64::from(is_first);
        let mut rows_read = 0;
        for (at, series) in look.series.iter().enumerate() {
            let sources = &self.series[*series];
            held.check()?;
            let decoded = self.decode(sources, look, &ids, held)?;
            let decoded = decoded.as_slice();
            let mut spans: Vec<Span<'_>> = Vec::new();
            from_blocks.iter().for_each(|(_, read)| spans.extend(read.rows_of(at)));
            spans.extend(decoded.iter().flat_map(|source| &source.rows).map(Span::all));
            spans.extend(self.newest_rows(sources));
            if is_slice {
                spans.iter_mut().for_each(|span| *span = span.cut(look.times));
            }
            spans.retain(|span| !span.is_empty());
            let merged: Vec<Rows>;
            if self.is_deleted_from(sources) || !rows::put_in_order(&mut spans) {
                merged = self.merge(at, sources, &from_blocks, decoded, is_slice.then_some(look.times));
                spans = merged.iter().map(Span::all).collect();
            }
            let values: Vec<Rows>;
            if let Stale::Skipped { more } = self.stale {
                let wanted = self.columns.len() - more;
                let without = |span: &Span<'_>| span.to_rows().without_stale_markers(wanted);
                values = spans.iter().map(without).filter(|rows| !rows.is_empty()).collect();
                spans = values.iter().map(Span::all).collect();
            }
            self.cut(&mut spans);
            let count: usize = spans.iter().map(Span::len).sum();
            if count > 0 {
                series_read += u64::from(!is_slice);
                rows_read += count as u64;
                each(*series, &spans)?;
            }
        }
        touched.series.fetch_add(series_read, Ordering::Relaxed);
        touched.rows.fetch_add(rows_read, Ordering::Relaxed);
        held.count_rows(rows_read);
        Ok(())
    }

    /// What memory has of a series.
    fn decode(
        &self,
        sources: &SeriesSources,
        look: &Look<'_>,
        ids: &[u32],
        held: &mut Held<'_>,
    ) -> Result<Vec<Decoded>> {
        let hull = self.ranges.hull().unwrap_or(TimeRange::ALL);
        let wanted = Wanted { ids, times: look.times.intersect(hull) };
        let decode = |place: &Place| {
            let mut decoded = self.memory.decode(*place, &sources.tags, &wanted)?;
            held.grow(decoded.rows.iter().map(buffer_bytes).sum())?;
            decoded.rows.iter_mut().for_each(|rows| *rows = look.in_place(std::mem::take(rows)));
            Ok(decoded)
        };
        sources.memory.iter().map(decode).collect()
    }

    pub(super) fn is_deleted_from(&self, sources: &SeriesSources) -> bool {
        self.tombstones.iter().any(|tombstone| tombstone.filter.passes(&sources.tags))
    }

    /// The rows of a series whose sources overlap, or which were deleted from.
    fn merge(
        &self,
        at: usize,
        sources: &SeriesSources,
        from_blocks: &[(u32, BlockPart)],
        decoded: &[Decoded],
        slice: Option<TimeRange>,
    ) -> Vec<Rows> {
        let passes = |tombstone: &&Tombstone| tombstone.filter.passes(&sources.tags);
        let tombstones: Vec<&Tombstone> = self.tombstones.iter().map(Arc::as_ref).filter(passes).collect();
        let mut rows = Vec::new();
        for (block, read) in from_blocks {
            let seq = self.blocks[*block as usize].file.entry.seq_max;
            rows.extend(read.rows_of(at).map(|span| apply(span.to_rows(), &tombstones, Some(seq))));
        }
        for source in decoded {
            rows.extend(source.rows.iter().map(|rows| apply(rows.clone(), &tombstones, source.frozen_at)));
        }
        rows.extend(self.newest_rows(sources).map(|span| span.to_rows()));
        if let Some(times) = slice {
            rows.iter_mut().for_each(|rows| *rows = rows.cut(times));
        }
        rows::in_time_order(rows, self.merge)
    }

    /// Only what lies in the asked ranges.
    fn cut<'a>(&self, spans: &mut Vec<Span<'a>>) {
        let is_inside = |span: &Span<'_>| match self.ranges.ranges() {
            [one] => one.covers(span.hull()),
            _ => false,
        };
        if spans.iter().all(is_inside) {
            return;
        }
        let mut inside: Vec<Span<'a>> = Vec::new();
        for span in spans.iter() {
            inside.extend(self.ranges.touching(span.hull()).map(|range| span.cut(range)));
        }
        inside.retain(|span| !span.is_empty());
        *spans = inside;
    }

    /// Whether the pages that this decodes are worth keeping for the next query.
    pub(super) fn may_keep(&self) -> bool {
        let of_series = |sources: &SeriesSources| {
            let bytes = |(block, rows): &(u32, Range<u64>)| {
                (rows.end - rows.start) * self.blocks[*block as usize].row_bytes
            };
            sources.blocks.iter().map(bytes).sum::<u64>()
        };
        let bytes = self.series.iter().map(of_series).sum();
        self.blocks.first().is_some_and(|block| block.file.may_keep(bytes))
    }

    fn read_blocks(
        &self,
        look: &Look<'_>,
        touched: &Touched,
        held: &mut Held<'_>,
    ) -> Result<Vec<(u32, BlockPart)>> {
        let mut parts = Vec::new();
        let fields: Vec<&str> = look.wanted(&self.columns).map(String::as_str).collect();
        for (number, block) in self.blocks.iter().enumerate() {
            let mut wanted: Vec<Range<u64>> = Vec::new();
            let mut places: Vec<Vec<Range<u64>>> = vec![Vec::new(); look.series.len()];
            for (place, series) in places.iter_mut().zip(look.series) {
                let sources = &self.series[*series];
                for (_, rows) in sources.blocks.iter().filter(|(block, _)| *block == number as u32) {
                    let rows = match look.times == TimeRange::ALL {
                        true => rows.clone(),
                        false => block.open.prune(rows.clone(), look.times),
                    };
                    if rows.is_empty() {
                        continue;
                    }
                    place.push(rows.clone());
                    wanted.push(rows);
                }
            }
            let wanted = joined(wanted);
            if !wanted.is_empty() {
                let mut pieces = match look.keep {
                    true => block.file.read_pages(&block.open, &fields, &wanted)?,
                    false => pieces(block.open.read(&fields, &wanted)?, &wanted),
                };
                let bytes = pieces.iter().map(|piece| buffer_bytes(&piece.rows)).sum();
                held.grow(bytes)?;
                for piece in &mut pieces {
                    piece.rows = look.in_place(std::mem::take(&mut piece.rows));
                }
                touched.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                parts.push((number as u32, BlockPart { pieces, places, at: Cell::new(0) }));
            }
        }
        Ok(parts)
    }
}

/// What is decoded together.
pub(super) struct Look<'a> {
    /// Which series, ascending.
    pub series: &'a [usize],
    pub times: TimeRange,
    /// Which of the scan's columns; None for all. The others are None in the rows.
    pub columns: Option<&'a [bool]>,
    /// Whether decoded pages are kept for the next query.
    pub keep: bool,
}

impl Look<'_> {
    /// Those of the scan's columns that are wanted.
    fn wanted<'b, T>(&self, columns: &'b [T]) -> impl Iterator<Item = &'b T> {
        let is_wanted = |at: usize| self.columns.is_none_or(|wanted| wanted[at]);
        columns.iter().enumerate().filter(move |(at, _)| is_wanted(*at)).map(|(_, column)| column)
    }

    /// The wanted columns at the places that they have among all.
    fn in_place(&self, rows: Rows) -> Rows {
        let Some(wanted) = self.columns else { return rows };
        let mut decoded = rows.columns.into_iter();
        let column = |wanted: &bool| if *wanted { decoded.next().flatten() } else { None };
        Rows { times: rows.times, columns: wanted.iter().map(column).collect() }
    }
}

/// The rows that one task needs of one block, read together, to be handed out per series.
struct BlockPart {
    /// Ascending, and perhaps more than what is needed.
    pieces: Vec<BlockPiece>,
    /// Per series of the task: its rows in the block.
    places: Vec<Vec<Range<u64>>>,
    /// The piece that was last looked at: series come in the order of their rows, and the next is in it or after it.
    at: Cell<usize>,
}

impl BlockPart {
    fn rows_of(&self, series: usize) -> impl Iterator<Item = Span<'_>> {
        self.places[series].iter().flat_map(|place| {
            let overlapping =
                self.pieces[self.first(place.start)..].iter().take_while(|piece| piece.first_row < place.end);
            overlapping.map(|piece| {
                let start = place.start.max(piece.first_row) - piece.first_row;
                let end = place.end.min(piece.end()) - piece.first_row;
                Span { of: &piece.rows, rows: start as usize..end as usize }
            })
        })
    }

    /// The first piece that does not end before a row.
    fn first(&self, row: u64) -> usize {
        let ends_before = |piece: &BlockPiece| piece.end() <= row;
        let mut at = self.at.get();
        if at > 0 && !self.pieces.get(at - 1).is_some_and(ends_before) {
            at = self.pieces.partition_point(ends_before);
        }
        at += self.pieces[at..].iter().take_while(|piece| ends_before(piece)).count();
        self.at.set(at);
        at
    }
}

/// Disjoint ranges in ascending order, neighbours as one. They are so already, but for a block of an older version whose series
/// stand in another order than the scan's.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let follows = last.end == next.start;
        if follows {
            last.end = next.end;
        }
        follows
    });
    ranges
}

/// What was read of these ranges.
fn pieces(rows: Rows, ranges: &[Range<u64>]) -> Vec<BlockPiece> {
    let mut start = 0;
    let piece = |range: &Range<u64>| {
        let len = (range.end - range.start) as usize;
        let rows = rows.slice(start, len);
        start += len;
        BlockPiece { first_row: range.start, rows }
    };
    ranges.iter().map(piece).collect()
}

/// What freshly decoded rows take, which are slices of nothing.
pub(super) fn buffer_bytes(rows: &Rows) -> usize {
    let columns = rows.columns.iter().flatten().map(|array| array.get_buffer_memory_size());
    size_of_val(&*rows.times) + columns.sum::<usize>()
}

fn apply(rows: Rows, tombstones: &[&Tombstone], seq: Option<u64>) -> Rows {
    let Some(seq) = seq else { return rows };
    let ranges: Vec<TimeRange> =
        tombstones.iter().filter(|tombstone| tombstone.seq > seq).map(|tombstone| tombstone.range).collect();
    if ranges.is_empty() { rows } else { rows.without(&ranges) }
}
