//! Running a scan's tasks: pages and chunks decoded, deletes applied, sources merged, series after series.
//!
//! Invariant: what a task has decoded is counted before anyone sees it, and for as long as anyone may hold it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::Array;
use rayon::prelude::*;
use storage_format::point::{TagSet, TimeRange};

use crate::blocks::BlockPiece;
use crate::error::Result;
use crate::guard::{Guard, Held};
use crate::rows::{self, Rows};
use crate::scan::Scan;
use crate::scan::SeriesSources;
use crate::scan::Stale;
use crate::scan::Tombstone;
use crate::scan::Touched;
use crate::scan::memory::Wanted;
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
        touched.files.fetch_add(self.blocks.len() as u64, Ordering::Relaxed);
        let keep = self.may_keep();
        let done = self.tasks(guard).into_par_iter().map(|task| {
            let mut result = new();
            let mut held = guard.hold();
            let is_whole = task.times == TimeRange::ALL;
            let series: Vec<usize> = task.series.clone().collect();
            let look = Look { series: &series, times: task.times, columns: None, keep };
            self.look(&look, touched, &mut held, &mut |at, pieces| {
                each(&mut result, Part { tags: &self.series[at].tags, rows: &pieces, is_whole })
            })?;
            Ok(result)
        });
        done.try_reduce_with(&join).unwrap_or_else(|| Ok(new()))
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
                self.look(&look, &touched, &mut held, &mut |at, pieces| {
                    out.push((&self.series[at].tags, pieces));
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
        each: &mut dyn FnMut(usize, Vec<Rows>) -> Result<()>,
    ) -> Result<()> {
        let from_blocks = self.read_blocks(look, touched, held)?;
        let is_slice = look.times != TimeRange::ALL;
        // A long series counts once, with its first slice.
        let is_first = is_slice && look.times.start == TimeRange::ALL.start;
        touched.series.fetch_add(u64::from(is_first), Ordering::Relaxed);
        let hull = self.ranges.hull().unwrap_or(TimeRange::ALL);
        let ids: Vec<u32> = look.wanted(&self.ids).copied().collect();
        let wanted = Wanted { ids: &ids, times: look.times.intersect(hull) };
        for (at, series) in look.series.iter().enumerate() {
            let sources = &self.series[*series];
            held.check()?;
            let tombstones: Vec<&Tombstone> = self
                .tombstones
                .iter()
                .map(Arc::as_ref)
                .filter(|tombstone| tombstone.filter.passes(&sources.tags))
                .collect();
            let mut rows = Vec::new();
            for (block, read) in &from_blocks {
                let seq = self.blocks[*block as usize].file.entry.seq_max;
                rows.extend(read.rows_of(at).map(|found| apply(found, &tombstones, Some(seq))));
            }
            for place in &sources.memory {
                let decoded = self.memory.decode(*place, &sources.tags, &wanted)?;
                held.grow(decoded.rows.iter().map(buffer_bytes).sum())?;
                let decoded_rows = decoded.rows.into_iter().map(|found| look.in_place(found));
                rows.extend(decoded_rows.map(|found| apply(found, &tombstones, decoded.frozen_at)));
            }
            if is_slice {
                rows.iter_mut().for_each(|rows| *rows = rows.cut(look.times));
            }
            let mut merged = rows::in_time_order(rows, self.merge);
            if let Stale::Skipped { more } = self.stale {
                let wanted = self.columns.len() - more;
                merged = merged.into_iter().map(|piece| piece.without_stale_markers(wanted)).collect();
                merged.retain(|piece| !piece.is_empty());
            }
            let pieces: Vec<Rows> = merged.into_iter().flat_map(|piece| self.cut(piece)).collect();
            let count: usize = pieces.iter().map(Rows::len).sum();
            if count > 0 {
                touched.series.fetch_add(u64::from(!is_slice), Ordering::Relaxed);
                touched.rows.fetch_add(count as u64, Ordering::Relaxed);
                held.count_rows(count as u64);
                each(*series, pieces)?;
            }
        }
        Ok(())
    }

    /// Only what lies in the asked ranges.
    fn cut(&self, piece: Rows) -> Vec<Rows> {
        let (Some(first), Some(last)) = (piece.times.first(), piece.times.last()) else { return Vec::new() };
        let hull = TimeRange::new(*first, last + 1);
        match self.ranges.ranges() {
            [one] if one.covers(hull) => vec![piece],
            _ => {
                let cuts = self.ranges.touching(hull).map(|range| piece.cut(range));
                cuts.filter(|rows| !rows.is_empty()).collect()
            }
        }
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
                    match wanted.last_mut() {
                        Some(last) if last.end == rows.start => last.end = rows.end,
                        _ => wanted.push(rows),
                    }
                }
            }
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
                parts.push((number as u32, BlockPart { pieces, places }));
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
}

impl BlockPart {
    fn rows_of(&self, series: usize) -> impl Iterator<Item = Rows> {
        self.places[series].iter().flat_map(|place| {
            let first = self.pieces.partition_point(|piece| piece.end() <= place.start);
            let overlapping = self.pieces[first..].iter().take_while(|piece| piece.first_row < place.end);
            overlapping.map(|piece| {
                let start = place.start.max(piece.first_row) - piece.first_row;
                let end = place.end.min(piece.end()) - piece.first_row;
                piece.rows.slice(start as usize, (end - start) as usize)
            })
        })
    }
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
fn buffer_bytes(rows: &Rows) -> usize {
    let columns = rows.columns.iter().flatten().map(|array| array.get_buffer_memory_size());
    size_of_val(&*rows.times) + columns.sum::<usize>()
}

fn apply(rows: Rows, tombstones: &[&Tombstone], seq: Option<u64>) -> Rows {
    let Some(seq) = seq else { return rows };
    let ranges: Vec<TimeRange> =
        tombstones.iter().filter(|tombstone| tombstone.seq > seq).map(|tombstone| tombstone.range).collect();
    if ranges.is_empty() { rows } else { rows.without(&ranges) }
}
