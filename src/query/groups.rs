//! States of groups, and what users see of them.
//!
//! Invariant: all runs of one [`Groups`] have the same keys. Joining is exact, so that neither the order of tasks nor
//! the source of a run can change an answer.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, StringArray, TimestampNanosecondArray,
    new_empty_array,
};
use arrow::compute::filter;
use arrow::datatypes::{Float64Type, Int64Type};
use hashbrown::{DefaultHashBuilder, HashMap};
use indexmap::{Equivalent, IndexMap};
use query_lang::catalog::StateSpec;
use query_lang::plan::{Aggregate, Function, Grouping, Hop, OutputColumn, Window};
use storage_format::point::{TagSet, TagText, Time, TimeRange, floor_time};
use storage_format::state::{Finalized, Finalizer, StateColumn, StateKind, StateRun, finalize};

use crate::error::Result;
use crate::guard::Guard;
use crate::query::answer::AnswerColumn;
use crate::query::answer::Role;
use crate::query::frame::{Frame, as_answer};
use crate::query::window::TIME;

#[derive(Default)]
pub struct Groups {
    /// In the order in which they came. A scan gives its series in order, and what is nearly in order is quickly put there.
    runs: IndexMap<TagSet, StateRun, DefaultHashBuilder>,
    /// Of the series that was added last.
    key: Key,
}

/// A group that is looked for.
#[derive(Default, Hash)]
struct Key(TagText);

impl Equivalent<TagSet> for Key {
    fn equivalent(&self, group: &TagSet) -> bool {
        self.0.is(group)
    }
}

/// What a group costs beside its states.
const GROUP_BYTES: usize = 128;

impl Groups {
    /// The tags to group by in the order of a tag set; None keeps them all.
    pub fn sorted(by: &Grouping) -> Option<Vec<String>> {
        match by {
            Grouping::Series => None,
            Grouping::Tags(tags) => {
                let mut sorted = tags.clone();
                sorted.sort();
                Some(sorted)
            }
        }
    }

    pub fn key(tags: &TagSet, by: Option<&[String]>) -> TagSet {
        match by {
            None => tags.clone(),
            Some(by) => tags.project(by),
        }
    }

    pub fn add(&mut self, group: TagSet, run: StateRun, guard: &Guard) -> Result<()> {
        match self.runs.get_mut(&group) {
            _ if run.is_empty() => Ok(()),
            Some(known) => merge(known, &run, guard),
            None => {
                guard.reserve(run.heap_bytes() + GROUP_BYTES)?;
                self.runs.insert(group, run);
                Ok(())
            }
        }
    }

    /// Adds what a series, or a finer group, has to the group that it belongs to.
    pub fn add_of(
        &mut self,
        tags: &TagSet,
        by: Option<&[String]>,
        run: StateRun,
        guard: &Guard,
    ) -> Result<()> {
        let Some(by) = by else { return self.add(tags.clone(), run, guard) };
        // The tags of a group are made once, not for each of its series.
        self.key.0.project(tags, by);
        match self.runs.get_mut(&self.key) {
            _ if run.is_empty() => Ok(()),
            Some(known) => merge(known, &run, guard),
            None => self.add(self.key.0.to_tags(), run, guard),
        }
    }

    pub fn join(self, other: Groups, guard: &Guard) -> Result<Groups> {
        let (mut large, small) =
            if self.runs.len() >= other.runs.len() { (self, other) } else { (other, self) };
        for (group, run) in small.runs {
            guard.check()?;
            match large.runs.get_mut(&group) {
                Some(known) => {
                    let before = known.heap_bytes() + run.heap_bytes() + GROUP_BYTES;
                    known.merge(&run);
                    guard.release(before.saturating_sub(known.heap_bytes()));
                }
                None => {
                    large.runs.insert(group, run);
                }
            }
        }
        Ok(large)
    }

    /// Buckets as the aggregate wants them: sessions of several series joined, overlapping buckets made of their parts.
    /// `range` is the statement's.
    pub fn windowed(mut self, aggregate: &Aggregate, range: TimeRange, guard: &Guard) -> Result<Groups> {
        if let Window::Session { gap } = aggregate.window {
            let ends = session_end_place(aggregate);
            for run in self.runs.values_mut() {
                guard.check()?;
                *run = join_sessions(run, ends, gap);
            }
        }
        let Some(hop) = aggregate.hop else { return Ok(self) };
        let first = match range.start {
            start if start == TimeRange::ALL.start => start,
            start => floor_time(start, hop.step, hop.origin),
        };
        let shown = TimeRange::new(first, range.end);
        for run in self.runs.values_mut() {
            let before = run.heap_bytes();
            *run = overlapping(run, hop, shown, guard)?;
            guard.reserve(run.heap_bytes().saturating_sub(before))?;
        }
        Ok(self)
    }

    pub fn into_runs(self) -> impl Iterator<Item = (TagSet, StateRun)> {
        self.runs.into_iter()
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

fn merge(known: &mut StateRun, run: &StateRun, guard: &Guard) -> Result<()> {
    if grows(run) {
        let before = known.heap_bytes();
        known.merge(run);
        return guard.reserve(known.heap_bytes().saturating_sub(before));
    }
    let before = known.len();
    known.merge(run);
    // Growth by buckets only; a state of the same bucket takes no more room.
    guard.reserve((known.len() - before) * run.heap_bytes() / run.len().max(1))
}

/// Whether a state takes more room the more values it stands for.
fn grows(run: &StateRun) -> bool {
    let grows = |kind| matches!(kind, StateKind::Values | StateKind::Quantile | StateKind::Distinct);
    run.columns.iter().any(|column| grows(column.kind()))
}

/// Where the state stands that says when sessions end.
fn session_end_place(aggregate: &Aggregate) -> usize {
    let is_it = |state: &StateSpec| {
        state.kind == StateKind::Max && state.field.as_ref().is_some_and(|field| field.name == TIME)
    };
    aggregate.states.iter().position(is_it).expect("bug: sessions are planned with their ends")
}

/// Sessions of single series, and of slices of long ones, that no gap parts become one.
fn join_sessions(run: &StateRun, ends: usize, gap: i64) -> StateRun {
    let finalized = finalize(Finalizer::Max, &[&run.columns[ends]]);
    let ends = finalized.array.as_primitive::<Int64Type>();
    let mut sessions: Vec<(Time, Time)> = Vec::with_capacity(run.len());
    let mut current: Option<(Time, Time)> = None;
    for (start, end) in run.starts.iter().zip(ends.values()) {
        current = match current {
            Some((first, last)) if start.saturating_sub(last) <= gap => Some((first, last.max(*end))),
            _ => Some((*start, *end)),
        };
        sessions.extend(current);
    }
    let mut first = sessions.iter().map(|(first, _)| *first);
    let starts: HashMap<Time, Time> =
        run.starts.iter().map(|start| (*start, first.next().expect("a session per start"))).collect();
    run.rebucket(|start| starts[&start])
}

/// The bucket at `t` is made of the parts that start in `[t + step - over, t + step)`.
fn overlapping(parts: &StateRun, hop: Hop, shown: TimeRange, guard: &Guard) -> Result<StateRun> {
    let mut all = parts.clone();
    all.retain(|_| false);
    // Each part belongs to the bucket of its own step and to some after it: one round for each distance.
    let rounds = (hop.over + hop.step - 1) / hop.step;
    for distance in 0..rounds {
        guard.check()?;
        let later = distance * hop.step;
        let mut round = parts.clone();
        round.retain(|start| {
            let own = floor_time(start, hop.step, hop.origin);
            start - own >= later + hop.step - hop.over && own.checked_add(later).is_some()
        });
        all.merge(&round.rebucket(|start| floor_time(start, hop.step, hop.origin) + later));
    }
    all.retain(|start| shown.contains(start));
    Ok(all)
}

/// Groups to rows: ordered by group, then bucket. A row appears if any of its columns has something to say.
/// `covered` is the time that the statement looks at, for what is per second.
pub fn finish(
    groups: Groups,
    plan: &Aggregate,
    covered: TimeRange,
    limit: Option<u64>,
    guard: &Guard,
) -> Result<Frame> {
    let mut runs: Vec<(TagSet, StateRun)> = groups.into_runs().collect();
    runs.sort_by(|a, b| a.0.cmp(&b.0));
    let tags: Vec<String> = match &plan.by {
        Grouping::Tags(tags) => tags.clone(),
        Grouping::Series => {
            let all: BTreeSet<&str> =
                runs.iter().flat_map(|(group, _)| group.iter().map(|(tag, _)| tag)).collect();
            all.into_iter().map(str::to_string).collect()
        }
    };
    // All groups at once: a group by itself is often a single bucket.
    let lengths: Vec<usize> = runs.iter().map(|(_, run)| run.len()).collect();
    let starts: Vec<Time> = runs.iter().flat_map(|(_, run)| run.starts.iter().copied()).collect();
    let mut states: Vec<StateColumn> = Vec::new();
    for (_, run) in &mut runs {
        let columns = std::mem::take(&mut run.columns);
        match states.is_empty() {
            true => states = columns,
            false => states.iter_mut().zip(columns).for_each(|(all, own)| all.append(own)),
        }
    }
    guard.check()?;
    let mut warnings = Vec::new();
    let (finalized, speaks) = match states.is_empty() {
        true => (plan.columns.iter().map(|column| empty(column)).collect(), Vec::new()),
        false => finalize_all(&starts, &states, plan, covered, &mut warnings),
    };
    let kept = limit_true(&speaks, limit.map_or(usize::MAX, |limit| limit as usize));
    guard.check_rows(kept.iter().filter(|kept| **kept).count())?;
    let mask = BooleanArray::from(kept.clone());

    let mut columns = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    if plan.window.has_time() {
        let times: Vec<Time> =
            starts.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(start, _)| *start).collect();
        columns.push(AnswerColumn { name: "time".to_string(), role: Role::Time });
        arrays.push(Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC")));
    }
    let mut first = 0;
    let rows_of = lengths.iter().map(|length| {
        first += length;
        kept[first - length..first].iter().filter(|kept| **kept).count()
    });
    let rows_of: Vec<usize> = rows_of.collect();
    for tag in &tags {
        let groups = runs.iter().zip(&rows_of);
        let values = groups.flat_map(|(run, rows)| std::iter::repeat_n(run.0.get(tag), *rows));
        columns.push(AnswerColumn { name: tag.clone(), role: Role::Tag });
        arrays.push(Arc::new(values.collect::<StringArray>()));
    }
    for (column, array) in plan.columns.iter().zip(finalized) {
        columns.push(AnswerColumn { name: column.name.clone(), role: Role::Value });
        let array = filter(&array, &mask).expect("the mask has one entry per bucket");
        arrays.push(as_answer(array, column.value_type()));
    }
    Ok(Frame::new(columns, arrays, warnings))
}

fn empty(column: &OutputColumn) -> ArrayRef {
    let field_type = column.field.as_ref().map(|field| field.field_type);
    new_empty_array(&finalizer(column).data_type(field_type))
}

/// Keeps the first `room` of the true ones.
fn limit_true(flags: &[bool], room: usize) -> Vec<bool> {
    let mut left = room;
    let mut take = |flag: bool| {
        let taken = flag && left > 0;
        left -= usize::from(taken);
        taken
    };
    flags.iter().map(|flag| take(*flag)).collect()
}

/// The values of the columns, and which buckets give a row: those with a value or a count in any column. A sum too large for
/// its type is null, but it is no silence.
fn finalize_all(
    starts: &[Time],
    all: &[StateColumn],
    plan: &Aggregate,
    covered: TimeRange,
    warnings: &mut Vec<String>,
) -> (Vec<ArrayRef>, Vec<bool>) {
    let mut arrays = Vec::with_capacity(plan.columns.len());
    let mut speaks = vec![false; starts.len()];
    for column in &plan.columns {
        let finalizer = finalizer(column);
        let states: Vec<&StateColumn> =
            finalizer.needs().iter().map(|kind| &all[place(*kind, column, plan)]).collect();
        let finalized = match column.function {
            Function::Rate => Finalized { array: rates(starts, plan, covered, &states), overflowed: 0 },
            _ => finalize(finalizer, &states),
        };
        if finalized.overflowed > 0 {
            let field = column.field.as_ref().map(|field| field.name.as_str()).unwrap_or_default();
            warnings.push(format!(
                "{}: a sum of {field} does not fit 64 bits and is null; avg({field}) is exact",
                column.name
            ));
        }
        let array = &finalized.array;
        match column.function {
            // Of nothing they are zero, which is no news.
            Function::Count | Function::Distinct | Function::ExactDistinct => {
                let counts = array.as_primitive::<Int64Type>();
                speaks.iter_mut().zip(counts.values()).for_each(|(speaks, count)| *speaks |= *count > 0);
            }
            _ if array.null_count() == 0 => speaks.fill(true),
            _ => {
                for (bucket, speaks) in speaks.iter_mut().enumerate() {
                    *speaks |= array.is_valid(bucket)
                        || finalized.overflowed > 0 && states.iter().any(|states| states.has_values(bucket));
                }
            }
        }
        arrays.push(finalized.array);
    }
    (arrays, speaks)
}

/// Increases per second of the time that each bucket covers. Most buckets are equally wide; those at the ends of the range,
/// and those of calendars, are not.
fn rates(starts: &[Time], plan: &Aggregate, covered: TimeRange, states: &[&StateColumn]) -> ArrayRef {
    let widths: Vec<NonZeroU64> = starts.iter().map(|start| width(*start, plan, covered)).collect();
    let mut rates: Vec<Option<f64>> = vec![None; starts.len()];
    let mut done: Vec<NonZeroU64> = Vec::new();
    for width in &widths {
        if done.contains(width) {
            continue;
        }
        done.push(*width);
        let all = finalize(Finalizer::Rate(*width), states).array;
        let all = all.as_primitive::<Float64Type>();
        for (row, rate) in rates.iter_mut().enumerate().filter(|(row, _)| widths[*row] == *width) {
            *rate = all.is_valid(row).then(|| all.value(row));
        }
    }
    Arc::new(Float64Array::from(rates))
}

/// Nanoseconds of a bucket inside the time that is looked at; of one that lies beyond it, all.
fn width(start: Time, plan: &Aggregate, covered: TimeRange) -> NonZeroU64 {
    let bucket = match (&plan.window, plan.hop) {
        (_, Some(hop)) => {
            let end = start.saturating_add(hop.step);
            // What lies before the range is read for the buckets that reach back.
            return nanoseconds(TimeRange::new(end.saturating_sub(hop.over), end.min(covered.end)));
        }
        (Window::WholeRange | Window::Session { .. }, None) => covered,
        (window, None) => TimeRange::new(start, window.end_of(start)),
    };
    let inside = bucket.intersect(covered);
    nanoseconds(if inside.is_empty() { bucket } else { inside })
}

fn nanoseconds(range: TimeRange) -> NonZeroU64 {
    NonZeroU64::new(range.end.abs_diff(range.start)).unwrap_or(NonZeroU64::MIN)
}

/// Where the state of a column stands among the plan's states.
fn place(kind: StateKind, column: &OutputColumn, plan: &Aggregate) -> usize {
    let is_it = |state: &StateSpec| state.kind == kind && state.field == column.field;
    plan.states.iter().position(is_it).expect("bug: a column's state is not planned")
}

fn finalizer(column: &OutputColumn) -> Finalizer {
    column.function.finalizer(column.field.is_some())
}
