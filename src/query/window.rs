//! Rows of a series to states per bucket: the loop that aggregation spends its time in.
//!
//! Decisions are made per series and column; inside, free functions run over slices (`storage_format::state`).
//! Invariant: a row falls into exactly one bucket, the one whose start is at or before it.

use std::cell::Cell;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array};
use arrow::compute::filter;
use query_lang::catalog::{RollupInfo, StateSpec};
use query_lang::plan::{Aggregate, Computed, Function, Grouping, OutputColumn, Read, Window};
use query_lang::scalar::{ColumnRef, ColumnRole, Constant, Scalar};
use storage_format::point::{TagSet, Time, TimeRange};
use storage_format::ranges::RangeSet;
use storage_format::state::{BucketRows, StateKey, StateKind, StateRun};

use crate::error::Result;
use crate::guard::Guard;
use crate::query::Groups;
use crate::query::scalar::{Columns, Program, Value};
use crate::rows::{Rows, Span};
use crate::scan::{Scan, Touched};

/// Which states to compute, and from which columns of a scan.
pub struct StatePlan {
    pub keys: Vec<StateKey>,
    places: Vec<Place>,
    /// The fields that the scan has to bring, in order.
    pub fields: Vec<String>,
    pub window: Window,
    /// The start of the one bucket of a window without steps.
    pub whole_start: Time,
    points: Option<PointProgram>,
    /// Points before this are read only for the steps that lead from them into the first bucket.
    counts_from: Time,
    /// Nothing is asked but the last value of fields, so that rows may be missing, and points are not all counted.
    newest: bool,
    /// What is read from raw points, where states of one series have to stay apart from what lies between.
    pieces: RangeSet,
}

/// Where the values of a state come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The points themselves.
    Points,
    Time,
    /// A column of the scan.
    Field(usize),
    /// A computed column.
    Computed(usize),
}

/// What is computed of each point before it counts.
struct PointProgram {
    condition: Option<Program>,
    /// In their order; each may read those before it.
    computed: Vec<(String, Program)>,
}

/// The bucket of the points before those that count.
const BEFORE: Time = Time::MIN;

/// How far at least a step may lead into the first bucket of a range.
pub const LOOK_BACK: i64 = 300 * 1_000_000_000;

/// How states name the time of a point, which is no field.
pub const TIME: &str = "time";

impl StatePlan {
    /// What a read asks for: it may compute columns of points, or look at them before they count.
    pub fn of_read(read: &Read, aggregate: &Aggregate, whole_start: Time) -> Result<StatePlan> {
        let (computed, condition) = (&read.computed, read.condition.as_ref());
        let mut plan =
            StatePlan::new(&aggregate.states, computed, condition, aggregate.window.clone(), whole_start)?;
        let is_last = |column: &OutputColumn| column.function == Function::Last;
        plan.newest = plan.points.is_none()
            && !plan.fields.is_empty()
            && aggregate.window == Window::WholeRange
            && aggregate.hop.is_none()
            && aggregate.columns.iter().all(is_last)
            && plan.places.iter().all(|place| matches!(place, Place::Points | Place::Field(_)));
        Ok(plan)
    }

    /// Of rows that are there already.
    pub fn of_rows(aggregate: &Aggregate, whole_start: Time) -> Result<StatePlan> {
        StatePlan::new(&aggregate.states, &[], None, aggregate.window.clone(), whole_start)
    }

    /// What a rollup keeps, in its own buckets.
    pub fn of_rollup(info: &RollupInfo) -> Result<StatePlan> {
        StatePlan::new(&info.states, &info.computed, info.condition.as_ref(), info.window.clone(), 0)
    }

    fn new(
        states: &[StateSpec],
        computed: &[Computed],
        condition: Option<&Scalar>,
        window: Window,
        whole_start: Time,
    ) -> Result<StatePlan> {
        let mut plan = StatePlan {
            keys: keys_of(states),
            places: Vec::new(),
            fields: Vec::new(),
            window,
            whole_start,
            points: None,
            counts_from: Time::MIN,
            newest: false,
            pieces: RangeSet::default(),
        };
        plan.places = states.iter().map(|state| plan.place(state, computed)).collect();
        if condition.is_some() || !computed.is_empty() {
            let condition = condition.map(Program::new).transpose()?;
            let program = |computed: &Computed| Ok((computed.name.clone(), Program::new(&computed.value)?));
            let programs = computed.iter().map(program).collect::<Result<Vec<_>>>()?;
            let all = condition.iter().chain(programs.iter().map(|(_, program)| program));
            for column in all.flat_map(Program::columns).filter(|column| column.role == ColumnRole::Value) {
                let is_computed = computed.iter().any(|computed| computed.name == column.name);
                if !is_computed && !plan.fields.contains(&column.name) {
                    plan.fields.push(column.name.clone());
                }
            }
            plan.points = Some(PointProgram { condition, computed: programs });
        }
        Ok(plan)
    }

    /// Whether the newest row of a series is enough, if it has all fields.
    pub fn wants_newest(&self) -> bool {
        self.newest
    }

    /// How far before a range the steps that lead into it may begin.
    pub fn look_back(&mut self, range: TimeRange, aggregate: &Aggregate) -> TimeRange {
        if range.start == TimeRange::ALL.start || !self.has_steps() {
            return range;
        }
        let width = match (&aggregate.window, aggregate.hop) {
            (_, Some(hop)) => hop.over,
            (Window::Every { step, .. }, None) => *step,
            _ => 0,
        };
        self.counts_from = range.start;
        TimeRange::new(range.start.saturating_sub(width.max(LOOK_BACK)), range.end)
    }

    /// Whether states are made of what lies between the samples of a series.
    fn has_steps(&self) -> bool {
        self.keys.iter().any(|key| key.kind.is_of_one_series())
    }

    /// The tags that states are grouped by while they are gathered, sorted; None for single series.
    pub fn groups_of(&self, by: &Grouping) -> Option<Vec<String>> {
        Groups::sorted(if self.has_steps() { &Grouping::Series } else { by })
    }

    /// The whole buckets of a rollup that can be taken of `ranges`.
    pub fn whole_buckets(&self, window: &Window, ranges: &RangeSet) -> RangeSet {
        if self.counts_from == Time::MIN {
            return window.whole(ranges);
        }
        // What comes before counts otherwise than what comes after.
        let before = ranges.intersect(&TimeRange::new(Time::MIN, self.counts_from).into());
        let after = ranges.intersect(&TimeRange::new(self.counts_from, Time::MAX).into());
        window.whole(&before).union(&window.whole(&after))
    }

    /// Whether points of a range count differently, so that one state cannot stand for all of it.
    pub fn counts_anew_within(&self, range: TimeRange) -> bool {
        range.start < self.counts_from && self.counts_from < range.end
    }

    /// `need` is what is read from raw points.
    pub fn set_pieces(&mut self, need: RangeSet) {
        if self.has_steps() {
            self.pieces = need;
        }
    }

    /// Stored states, in buckets of `window`, in the buckets that are asked for; those of one series stay as fine as they are.
    pub fn widened(&self, run: StateRun, window: &Window) -> StateRun {
        if self.has_steps() || *window == self.window {
            return run;
        }
        // Starts ascend: most lie in the bucket of the one before, and need not be divided.
        let bucket = Cell::new(TimeRange::new(0, 0));
        run.rebucket(|start| {
            if !bucket.get().contains(start) {
                bucket.set(match &self.window {
                    Window::WholeRange => TimeRange::ALL,
                    window => window.bucket(start),
                });
            }
            if self.window == Window::WholeRange { self.whole_start } else { bucket.get().start }
        })
    }

    /// How states of single series become those of groups. None if there is nothing to do.
    pub fn closing(&self) -> Option<Closing> {
        self.has_steps().then(|| Closing {
            window: self.window.clone(),
            whole_start: self.whole_start,
            counts_from: self.counts_from,
        })
    }

    fn place(&mut self, state: &StateSpec, computed: &[Computed]) -> Place {
        let Some(field) = &state.field else { return Place::Points };
        if field.name == TIME {
            return Place::Time;
        }
        if let Some(at) = computed.iter().position(|computed| computed.name == field.name) {
            return Place::Computed(at);
        }
        let known = self.fields.iter().position(|known| *known == field.name);
        Place::Field(known.unwrap_or_else(|| {
            self.fields.push(field.name.clone());
            self.fields.len() - 1
        }))
    }

    /// Where the states that a time counts for begin, and where the next ones do. States of one series are kept apart
    /// wherever something else may lie between them, until all are there.
    fn slot(&self, time: Time) -> (Time, Time) {
        let bucket = match &self.window {
            Window::WholeRange => TimeRange::ALL,
            Window::Every { step, .. } => {
                let start = self.window.start_of(time);
                // Without asking for the start again, which costs a division.
                let end =
                    if start > Time::MIN { start.saturating_add(*step) } else { self.window.end_of(time) };
                TimeRange { start, end }
            }
            window => window.bucket(time),
        };
        if !self.has_steps() {
            let start = if self.window == Window::WholeRange { self.whole_start } else { bucket.start };
            return (start, bucket.end);
        }
        let piece = self.pieces.touching(TimeRange::new(time, time.saturating_add(1))).next();
        let piece = piece.unwrap_or(TimeRange::ALL);
        if time < self.counts_from {
            return (piece.start, piece.end.min(self.counts_from));
        }
        (bucket.start.max(piece.start).max(self.counts_from), bucket.end.min(piece.end))
    }

    /// The states of one series, or of a slice of it.
    pub fn run(&self, tags: &TagSet, pieces: &[Span<'_>]) -> StateRun {
        let mut run = StateRun::new(&self.keys);
        let mut windows = Vec::new();
        for span in pieces {
            let (passing, computed) = match &self.points {
                None => (None, Vec::new()),
                Some(program) => {
                    let (rows, computed) = program.apply(&span.to_rows(), tags, &self.fields);
                    (Some(rows), computed)
                }
            };
            let span = passing.as_ref().map_or_else(|| span.clone(), Span::all);
            windows.clear();
            self.cut(span.times(), &mut run, &mut windows);
            for window in &mut windows {
                window.rows = window.rows.start + span.rows.start..window.rows.end + span.rows.start;
            }
            for ((key, place), states) in self.keys.iter().zip(&self.places).zip(&mut run.columns) {
                let times = &span.of.times;
                let of_time: ArrayRef;
                let values = match place {
                    Place::Points => {
                        states.absorb_points(&windows);
                        continue;
                    }
                    Place::Time => {
                        of_time = Arc::new(Int64Array::new(times.clone(), None));
                        Some(&of_time)
                    }
                    Place::Field(at) => span.of.columns[*at].as_ref(),
                    Place::Computed(at) => Some(&computed[*at]),
                };
                if let Some(values) = values {
                    debug_assert!(key.kind != StateKind::Points);
                    states.absorb(&windows, times, values);
                }
            }
        }
        run
    }

    /// Cuts ascending times into buckets, appending new ones to the run.
    fn cut(&self, times: &[Time], run: &mut StateRun, windows: &mut Vec<BucketRows>) {
        if let Window::Session { gap } = self.window {
            return cut_sessions(gap, times, run, windows);
        }
        let known = run.len();
        let mut last = run.starts.last().copied();
        let mut starts: Vec<Time> = Vec::new();
        let mut row = 0;
        while let Some(time) = times.get(row) {
            let (start, end) = self.slot(*time);
            if last != Some(start) {
                starts.push(start);
                last = Some(start);
            }
            let rows = if end == Time::MAX { times.len() - row } else { rows_before(&times[row..], end) };
            windows.push(BucketRows { bucket: known + starts.len() - 1, rows: row..row + rows });
            row += rows;
        }
        run.push_buckets(&starts);
    }
}

/// The start of the bucket that holds a time or a finer bucket. Sessions have none.
fn bucket_of(window: &Window, whole_start: Time, time: Time) -> Time {
    match window {
        Window::WholeRange => whole_start,
        window => window.start_of(time),
    }
}

/// States of single series to states of groups, once all of them are there.
pub struct Closing {
    window: Window,
    whole_start: Time,
    counts_from: Time,
}

impl Closing {
    /// First each series joins its pieces in the order of time, and its steps become sums; then series become groups.
    pub fn close(&self, series: Groups, by: &Grouping, guard: &Guard) -> Result<Groups> {
        let by = Groups::sorted(by);
        let mut groups = Groups::default();
        for (tags, run) in series.into_runs() {
            guard.check()?;
            let before = run.heap_bytes();
            groups.add_of(&tags, by.as_deref(), self.closed(run), guard)?;
            guard.release(before);
        }
        Ok(groups)
    }

    /// Of one series, whose states are all there.
    pub fn closed(&self, run: StateRun) -> StateRun {
        let mut closed = run.rebucket(|start| self.bucket(start)).close();
        if self.counts_from > Time::MIN {
            closed.retain(|start| start != BEFORE);
        }
        closed
    }

    /// Only the first half of it: series whose pieces are joined.
    pub fn join(&self, series: Groups, guard: &Guard) -> Result<Groups> {
        let mut joined = Groups::default();
        for (tags, run) in series.into_runs() {
            let before = run.heap_bytes();
            joined.add(tags, run.rebucket(|start| self.bucket(start)), guard)?;
            guard.release(before);
        }
        Ok(joined)
    }

    fn bucket(&self, start: Time) -> Time {
        if start < self.counts_from { BEFORE } else { bucket_of(&self.window, self.whole_start, start) }
    }
}

struct PointInput<'a> {
    rows: &'a Rows,
    tags: &'a TagSet,
    /// The names of the rows' columns.
    fields: &'a [String],
    /// The computed columns that are there already, in the order of `names`.
    names: &'a [(String, Program)],
    computed: &'a [ArrayRef],
}

impl Columns for PointInput<'_> {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn column(&self, column: &ColumnRef) -> Option<Value> {
        match column.role {
            ColumnRole::Time => Some(Value::Column(Arc::new(Int64Array::new(self.rows.times.clone(), None)))),
            ColumnRole::Tag => {
                let value = self.tags.get(&column.name).unwrap_or_default();
                Some(Value::Constant(Constant::Str(value.to_string())))
            }
            ColumnRole::Value => {
                let computed =
                    self.names.iter().zip(self.computed).find(|((name, _), _)| *name == column.name);
                if let Some((_, array)) = computed {
                    return Some(Value::Column(Arc::clone(array)));
                }
                let at = self.fields.iter().position(|field| *field == column.name)?;
                self.rows.columns[at].clone().map(Value::Column)
            }
        }
    }
}

/// Which points meet a condition. `fields` are the names of the rows' columns.
pub fn mask(rows: &Rows, tags: &TagSet, fields: &[String], condition: &Program) -> BooleanArray {
    condition.passes(&PointInput { rows, tags, fields, names: &[], computed: &[] })
}

/// The points that meet a condition.
pub fn passing(rows: &Rows, tags: &TagSet, fields: &[String], condition: &Program) -> Rows {
    rows.filter(&mask(rows, tags, fields, condition))
}

/// A bucket per session of these rows. Those of a slice before are joined with them later, as those of other series are.
fn cut_sessions(gap: i64, times: &[Time], run: &mut StateRun, windows: &mut Vec<BucketRows>) {
    let mut row = 0;
    while row < times.len() {
        let ends = |pair: &[Time]| pair[1].saturating_sub(pair[0]) > gap;
        let rows = times[row..].windows(2).position(ends).map_or(times.len() - row, |last| last + 1);
        let bucket = run.push_bucket(times[row]);
        windows.push(BucketRows { bucket, rows: row..row + rows });
        row += rows;
    }
}

impl PointProgram {
    /// The rows that count, and their computed columns. `fields` are the names of the rows' columns.
    fn apply(&self, rows: &Rows, tags: &TagSet, fields: &[String]) -> (Rows, Vec<ArrayRef>) {
        let mut computed: Vec<ArrayRef> = Vec::with_capacity(self.computed.len());
        for (_, program) in &self.computed {
            let array = program.compute(&self.input(rows, tags, fields, &computed));
            computed.push(array);
        }
        let Some(condition) = &self.condition else { return (rows.clone(), computed) };
        let passes = condition.passes(&self.input(rows, tags, fields, &computed));
        if passes.true_count() == rows.len() {
            return (rows.clone(), computed);
        }
        let kept = |array: &ArrayRef| filter(array, &passes).expect("the mask has one entry per row");
        (rows.filter(&passes), computed.iter().map(kept).collect())
    }

    fn input<'a>(
        &'a self,
        rows: &'a Rows,
        tags: &'a TagSet,
        fields: &'a [String],
        computed: &'a [ArrayRef],
    ) -> PointInput<'a> {
        PointInput { names: &self.computed, rows, tags, fields, computed }
    }
}

/// How many leading times are below `end`: doubling steps, then halving, because a bucket holds from one row to
/// thousands.
fn rows_before(times: &[Time], end: Time) -> usize {
    let mut bound = 1;
    while bound < times.len() && times[bound] < end {
        bound *= 2;
    }
    let low = bound / 2;
    let high = bound.min(times.len());
    low + times[low..high].partition_point(|time| *time < end)
}

pub fn keys_of(states: &[StateSpec]) -> Vec<StateKey> {
    let key = |state: &StateSpec| StateKey {
        kind: state.kind,
        field_type: state.field.as_ref().map(|field| field.field_type),
    };
    states.iter().map(key).collect()
}

/// Whether a state of a group's bucket is wanted.
pub type Keep<'a> = &'a (dyn Fn(&TagSet, Time) -> bool + Sync);

/// The states of all groups of a scan whose columns are the plan's fields. States of one series come open, series by series.
pub fn aggregate(
    scan: &Scan,
    plan: &StatePlan,
    by: &Grouping,
    guard: &Guard,
    touched: &Touched,
    keep: Option<Keep<'_>>,
) -> Result<Groups> {
    let by = plan.groups_of(by);
    scan.fold_spans(
        guard,
        touched,
        Groups::default,
        |groups, tags, pieces, _| {
            let mut run = plan.run(tags, pieces);
            if let Some(keep) = keep {
                let group = Groups::key(tags, by.as_deref());
                run.retain(|start| keep(&group, start));
            }
            groups.add_of(tags, by.as_deref(), run, guard)
        },
        |a, b| a.join(b, guard),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubling_search_finds_the_same_as_a_scan() {
        let times: Vec<Time> = (0..100).map(|time| time * 3).collect();
        for end in -1..310 {
            for from in [0, 1, 50, 99] {
                let slow = times[from..].iter().take_while(|time| **time < end).count();
                // The caller knows that the first row is inside.
                if slow > 0 {
                    assert_eq!(rows_before(&times[from..], end), slow, "from {from} to {end}");
                }
            }
        }
    }
}
