//! One state of one field, over the buckets of a run; here values come in.
//!
//! A column is typed once; a loop over buckets or values never asks again. [`with_states`] is the one place
//! that lists every kind and type.
//! Not here: bucket starts (see `run`), bytes (see `stored`).

use std::ops::Range;

use arrow::array::Array;
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use arrow::util::bit_iterator::BitSliceIterator;

use crate::point::{FieldType, Time};

use super::counter::{Counter, CounterSum};
use super::distinct::Distinct;
use super::edge::{Edge, First, Last};
use super::extreme::{Extreme, Max, Min};
use super::finalize::Finalized;
use super::quantile::Sketch;
use super::squares::Squares;
use super::sum::{FloatSum, IntSum};
use super::trace::{self, Steps, Trace};
use super::value::{FieldValue, Number};
use super::values::Values;
use super::weighted::{Weighted, WeightedSum};
use super::{StateKey, StateKind};

/// One state per bucket.
#[derive(Clone, Debug, PartialEq)]
pub enum StateColumn {
    Points(Vec<u64>),
    Count(Vec<u64>),
    SumFloat(Vec<FloatSum>),
    SumInt(Vec<IntSum<i64>>),
    SumUInt(Vec<IntSum<u64>>),
    MinFloat(Vec<Min<f64>>),
    MinInt(Vec<Min<i64>>),
    MinUInt(Vec<Min<u64>>),
    MaxFloat(Vec<Max<f64>>),
    MaxInt(Vec<Max<i64>>),
    MaxUInt(Vec<Max<u64>>),
    FirstFloat(Vec<First<f64>>),
    FirstInt(Vec<First<i64>>),
    FirstUInt(Vec<First<u64>>),
    FirstBool(Vec<First<bool>>),
    FirstStr(Vec<First<Box<str>>>),
    LastFloat(Vec<Last<f64>>),
    LastInt(Vec<Last<i64>>),
    LastUInt(Vec<Last<u64>>),
    LastBool(Vec<Last<bool>>),
    LastStr(Vec<Last<Box<str>>>),
    /// The same for every type of numbers, as are the next two.
    SumSquares(Vec<Squares>),
    Quantile(Vec<Sketch>),
    Distinct(Vec<Distinct>),
    CounterFloat(Vec<Counter<f64>>),
    CounterInt(Vec<Counter<i64>>),
    CounterUInt(Vec<Counter<u64>>),
    CounterSumFloat(Vec<CounterSum<FloatSum, FloatSum>>),
    CounterSumInt(Vec<CounterSum<IntSum<i64>, IntSum<i64>>>),
    CounterSumUInt(Vec<CounterSum<IntSum<u64>, IntSum<i64>>>),
    WeightedFloat(Vec<Weighted<f64>>),
    WeightedInt(Vec<Weighted<i64>>),
    WeightedUInt(Vec<Weighted<u64>>),
    WeightedSum(Vec<WeightedSum>),
    ValuesFloat(Vec<Values<f64>>),
    ValuesInt(Vec<Values<i64>>),
    ValuesUInt(Vec<Values<u64>>),
    ValuesBool(Vec<Values<bool>>),
    ValuesStr(Vec<Values<Box<str>>>),
}

/// Consecutive rows of one series' arrays that fall into one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketRows {
    /// The bucket's position in the run.
    pub bucket: usize,
    pub rows: Range<usize>,
}

/// What every state can do. Merging is associative and commutative, bit for bit.
pub trait State: Clone {
    /// The state of no values; merging it changes nothing.
    const IDENTITY: Self;

    fn merge(&mut self, other: &Self);

    /// Bytes outside the state itself.
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// A state that alone is an answer.
pub trait Answer: State {
    fn finalize(states: &[Self]) -> Finalized;
}

/// Runs `$body` with `$states` bound to the `Vec` of states inside; `map` makes a column of the same kind
/// from the `Vec` that it gives; `stored` leaves out what is never stored; with two columns both are bound and must be
/// of one kind.
macro_rules! with_states {
    (@every_kind $($call:tt)*) => {
        $crate::state::column::with_states! { @stored_kinds $($call)*
            ValuesFloat ValuesInt ValuesUInt ValuesBool ValuesStr
        }
    };
    (@stored_kinds $($call:tt)*) => {
        $crate::state::column::with_states! { $($call)*
            Points Count SumFloat SumInt SumUInt
            MinFloat MinInt MinUInt MaxFloat MaxInt MaxUInt
            FirstFloat FirstInt FirstUInt FirstBool FirstStr
            LastFloat LastInt LastUInt LastBool LastStr
            SumSquares Quantile Distinct
            CounterFloat CounterInt CounterUInt CounterSumFloat CounterSumInt CounterSumUInt
            WeightedFloat WeightedInt WeightedUInt WeightedSum
        }
    };
    (@stored $column:expr, $states:ident, $body:expr, $($kind:ident)*) => {
        match $column {
            $($crate::state::StateColumn::$kind($states) => $body,)*
            other => panic!("bug: {} are never stored", other.kind().name()),
        }
    };
    (@one $column:expr, $states:ident, $body:expr, $($kind:ident)*) => {
        match $column {
            $($crate::state::StateColumn::$kind($states) => $body,)*
        }
    };
    (@map $column:expr, $states:ident, $body:expr, $($kind:ident)*) => {
        match $column {
            $($crate::state::StateColumn::$kind($states) => $crate::state::StateColumn::$kind($body),)*
        }
    };
    (@two $left:expr, $right:expr, $mine:ident, $theirs:ident, $body:expr, $($kind:ident)*) => {
        match ($left, $right) {
            $(($crate::state::StateColumn::$kind($mine), $crate::state::StateColumn::$kind($theirs)) => {
                $body
            })*
            _ => panic!("bug: columns of different states"),
        }
    };
    (stored $column:expr, $states:ident => $body:expr) => {
        $crate::state::column::with_states! { @stored_kinds @stored $column, $states, $body, }
    };
    (map $column:expr, $states:ident => $body:expr) => {
        $crate::state::column::with_states! { @every_kind @map $column, $states, $body, }
    };
    ($column:expr, $states:ident => $body:expr) => {
        $crate::state::column::with_states! { @every_kind @one $column, $states, $body, }
    };
    ($left:expr, $right:expr, ($mine:ident, $theirs:ident) => $body:expr) => {
        $crate::state::column::with_states! { @every_kind @two $left, $right, $mine, $theirs, $body, }
    };
}
pub(super) use with_states;

impl StateColumn {
    /// Without buckets.
    pub fn new(key: StateKey) -> StateColumn {
        use FieldType::{Bool, Float, Int, Str, UInt};
        match (key.kind, key.field_type) {
            (StateKind::Points, None) => StateColumn::Points(Vec::new()),
            (StateKind::Count, Some(_)) => StateColumn::Count(Vec::new()),
            (StateKind::Sum, Some(Float)) => StateColumn::SumFloat(Vec::new()),
            (StateKind::Sum, Some(Int)) => StateColumn::SumInt(Vec::new()),
            (StateKind::Sum, Some(UInt)) => StateColumn::SumUInt(Vec::new()),
            (StateKind::Min, Some(Float)) => StateColumn::MinFloat(Vec::new()),
            (StateKind::Min, Some(Int)) => StateColumn::MinInt(Vec::new()),
            (StateKind::Min, Some(UInt)) => StateColumn::MinUInt(Vec::new()),
            (StateKind::Max, Some(Float)) => StateColumn::MaxFloat(Vec::new()),
            (StateKind::Max, Some(Int)) => StateColumn::MaxInt(Vec::new()),
            (StateKind::Max, Some(UInt)) => StateColumn::MaxUInt(Vec::new()),
            (StateKind::First, Some(Float)) => StateColumn::FirstFloat(Vec::new()),
            (StateKind::First, Some(Int)) => StateColumn::FirstInt(Vec::new()),
            (StateKind::First, Some(UInt)) => StateColumn::FirstUInt(Vec::new()),
            (StateKind::First, Some(Bool)) => StateColumn::FirstBool(Vec::new()),
            (StateKind::First, Some(Str)) => StateColumn::FirstStr(Vec::new()),
            (StateKind::Last, Some(Float)) => StateColumn::LastFloat(Vec::new()),
            (StateKind::Last, Some(Int)) => StateColumn::LastInt(Vec::new()),
            (StateKind::Last, Some(UInt)) => StateColumn::LastUInt(Vec::new()),
            (StateKind::Last, Some(Bool)) => StateColumn::LastBool(Vec::new()),
            (StateKind::Last, Some(Str)) => StateColumn::LastStr(Vec::new()),
            (StateKind::SumSquares, Some(Float | Int | UInt)) => StateColumn::SumSquares(Vec::new()),
            (StateKind::Quantile, Some(Float | Int | UInt)) => StateColumn::Quantile(Vec::new()),
            (StateKind::Distinct, Some(_)) => StateColumn::Distinct(Vec::new()),
            (StateKind::Counter, Some(Float)) => StateColumn::CounterFloat(Vec::new()),
            (StateKind::Counter, Some(Int)) => StateColumn::CounterInt(Vec::new()),
            (StateKind::Counter, Some(UInt)) => StateColumn::CounterUInt(Vec::new()),
            (StateKind::CounterSum, Some(Float)) => StateColumn::CounterSumFloat(Vec::new()),
            (StateKind::CounterSum, Some(Int)) => StateColumn::CounterSumInt(Vec::new()),
            (StateKind::CounterSum, Some(UInt)) => StateColumn::CounterSumUInt(Vec::new()),
            (StateKind::Weighted, Some(Float)) => StateColumn::WeightedFloat(Vec::new()),
            (StateKind::Weighted, Some(Int)) => StateColumn::WeightedInt(Vec::new()),
            (StateKind::Weighted, Some(UInt)) => StateColumn::WeightedUInt(Vec::new()),
            (StateKind::WeightedSum, Some(Float | Int | UInt)) => StateColumn::WeightedSum(Vec::new()),
            (StateKind::Values, Some(Float)) => StateColumn::ValuesFloat(Vec::new()),
            (StateKind::Values, Some(Int)) => StateColumn::ValuesInt(Vec::new()),
            (StateKind::Values, Some(UInt)) => StateColumn::ValuesUInt(Vec::new()),
            (StateKind::Values, Some(Bool)) => StateColumn::ValuesBool(Vec::new()),
            (StateKind::Values, Some(Str)) => StateColumn::ValuesStr(Vec::new()),
            (kind, field_type) => panic!("bug: no state {kind:?} of {field_type:?}"),
        }
    }

    pub fn kind(&self) -> StateKind {
        match self {
            StateColumn::Points(_) => StateKind::Points,
            StateColumn::Count(_) => StateKind::Count,
            StateColumn::SumFloat(_) | StateColumn::SumInt(_) | StateColumn::SumUInt(_) => StateKind::Sum,
            StateColumn::MinFloat(_) | StateColumn::MinInt(_) | StateColumn::MinUInt(_) => StateKind::Min,
            StateColumn::MaxFloat(_) | StateColumn::MaxInt(_) | StateColumn::MaxUInt(_) => StateKind::Max,
            StateColumn::FirstFloat(_)
            | StateColumn::FirstInt(_)
            | StateColumn::FirstUInt(_)
            | StateColumn::FirstBool(_)
            | StateColumn::FirstStr(_) => StateKind::First,
            StateColumn::LastFloat(_)
            | StateColumn::LastInt(_)
            | StateColumn::LastUInt(_)
            | StateColumn::LastBool(_)
            | StateColumn::LastStr(_) => StateKind::Last,
            StateColumn::SumSquares(_) => StateKind::SumSquares,
            StateColumn::Quantile(_) => StateKind::Quantile,
            StateColumn::Distinct(_) => StateKind::Distinct,
            StateColumn::CounterFloat(_) | StateColumn::CounterInt(_) | StateColumn::CounterUInt(_) => {
                StateKind::Counter
            }
            StateColumn::CounterSumFloat(_)
            | StateColumn::CounterSumInt(_)
            | StateColumn::CounterSumUInt(_) => StateKind::CounterSum,
            StateColumn::WeightedFloat(_) | StateColumn::WeightedInt(_) | StateColumn::WeightedUInt(_) => {
                StateKind::Weighted
            }
            StateColumn::WeightedSum(_) => StateKind::WeightedSum,
            StateColumn::ValuesFloat(_)
            | StateColumn::ValuesInt(_)
            | StateColumn::ValuesUInt(_)
            | StateColumn::ValuesBool(_)
            | StateColumn::ValuesStr(_) => StateKind::Values,
        }
    }

    pub fn len(&self) -> usize {
        with_states!(self, states => states.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The states of another column of the same kind after these.
    pub fn append(&mut self, other: StateColumn) {
        with_states!(self, other, (mine, theirs) => mine.extend(theirs));
    }

    /// Whether the state of a bucket stands for any value.
    pub fn has_values(&self, bucket: usize) -> bool {
        fn differs<S: State + PartialEq>(states: &[S], bucket: usize) -> bool {
            states[bucket] != S::IDENTITY
        }
        with_states!(self, states => differs(states, bucket))
    }

    pub(super) fn push_identities(&mut self, count: usize) {
        with_states!(self, states => states.resize_with(states.len() + count, || State::IDENTITY));
    }

    /// Counts points: the rows of each window, whatever fields they carry. Only for `Points`.
    pub fn absorb_points(&mut self, windows: &[BucketRows]) {
        let StateColumn::Points(counts) = self else { panic!("bug: {:?} counts no points", self.kind()) };
        for window in windows {
            counts[window.bucket] += window.rows.len() as u64;
        }
    }

    /// Adds a field's values to the states: for each window its rows of `values`, where null means missing.
    /// `times` are the rows' times, ascending; first and last and the states
    /// of one series look at them.
    ///
    /// `values` is the array of the field's type: Float64, Int64, UInt64, Boolean or String (Utf8). Any array
    /// will do for `Count`. Prometheus' stale markers are not values; the scan has left them out.
    pub fn absorb(&mut self, windows: &[BucketRows], times: &[Time], values: &dyn Array) {
        match self {
            StateColumn::Points(_) => panic!("bug: points have no values"),
            StateColumn::Count(counts) => absorb_counts(counts, windows, values.nulls()),
            StateColumn::SumFloat(sums) => absorb_slices(sums, windows, values, FloatSum::add_slice),
            StateColumn::SumInt(sums) => absorb_slices(sums, windows, values, IntSum::add_slice),
            StateColumn::SumUInt(sums) => absorb_slices(sums, windows, values, IntSum::add_slice),
            StateColumn::MinFloat(mins) => absorb_slices(mins, windows, values, Extreme::add_slice),
            StateColumn::MinInt(mins) => absorb_slices(mins, windows, values, Extreme::add_slice),
            StateColumn::MinUInt(mins) => absorb_slices(mins, windows, values, Extreme::add_slice),
            StateColumn::MaxFloat(maxs) => absorb_slices(maxs, windows, values, Extreme::add_slice),
            StateColumn::MaxInt(maxs) => absorb_slices(maxs, windows, values, Extreme::add_slice),
            StateColumn::MaxUInt(maxs) => absorb_slices(maxs, windows, values, Extreme::add_slice),
            StateColumn::FirstFloat(firsts) => absorb_edges(firsts, windows, times, values),
            StateColumn::FirstInt(firsts) => absorb_edges(firsts, windows, times, values),
            StateColumn::FirstUInt(firsts) => absorb_edges(firsts, windows, times, values),
            StateColumn::FirstBool(firsts) => absorb_edges(firsts, windows, times, values),
            StateColumn::FirstStr(firsts) => absorb_edges(firsts, windows, times, values),
            StateColumn::LastFloat(lasts) => absorb_edges(lasts, windows, times, values),
            StateColumn::LastInt(lasts) => absorb_edges(lasts, windows, times, values),
            StateColumn::LastUInt(lasts) => absorb_edges(lasts, windows, times, values),
            StateColumn::LastBool(lasts) => absorb_edges(lasts, windows, times, values),
            StateColumn::LastStr(lasts) => absorb_edges(lasts, windows, times, values),
            StateColumn::SumSquares(squares) => match values.data_type() {
                DataType::Int64 => absorb_slices(squares, windows, values, Squares::add_slice::<i64>),
                DataType::UInt64 => absorb_slices(squares, windows, values, Squares::add_slice::<u64>),
                _ => absorb_slices(squares, windows, values, Squares::add_slice::<f64>),
            },
            StateColumn::Quantile(sketches) => match values.data_type() {
                DataType::Int64 => absorb_slices(sketches, windows, values, Sketch::add_slice::<i64>),
                DataType::UInt64 => absorb_slices(sketches, windows, values, Sketch::add_slice::<u64>),
                _ => absorb_slices(sketches, windows, values, Sketch::add_slice::<f64>),
            },
            StateColumn::Distinct(sketches) => match values.data_type() {
                DataType::Int64 => absorb_hashes::<i64>(sketches, windows, values),
                DataType::UInt64 => absorb_hashes::<u64>(sketches, windows, values),
                DataType::Boolean => absorb_hashes::<bool>(sketches, windows, values),
                DataType::Utf8 => absorb_hashes::<Box<str>>(sketches, windows, values),
                _ => absorb_hashes::<f64>(sketches, windows, values),
            },
            StateColumn::CounterFloat(counters) => absorb_samples(counters, windows, times, values),
            StateColumn::CounterInt(counters) => absorb_samples(counters, windows, times, values),
            StateColumn::CounterUInt(counters) => absorb_samples(counters, windows, times, values),
            StateColumn::WeightedFloat(areas) => absorb_samples(areas, windows, times, values),
            StateColumn::WeightedInt(areas) => absorb_samples(areas, windows, times, values),
            StateColumn::WeightedUInt(areas) => absorb_samples(areas, windows, times, values),
            StateColumn::CounterSumFloat(_)
            | StateColumn::CounterSumInt(_)
            | StateColumn::CounterSumUInt(_)
            | StateColumn::WeightedSum(_) => panic!("bug: {:?} comes from closing only", self.kind()),
            StateColumn::ValuesFloat(all) => absorb_values(all, windows, values),
            StateColumn::ValuesInt(all) => absorb_values(all, windows, values),
            StateColumn::ValuesUInt(all) => absorb_values(all, windows, values),
            StateColumn::ValuesBool(all) => absorb_values(all, windows, values),
            StateColumn::ValuesStr(all) => absorb_values(all, windows, values),
        }
    }

    /// The buckets of one series, closed: see [`StateRun::close`](super::StateRun::close). `None` if there is nothing
    /// to close.
    pub(super) fn close(&self) -> Option<StateColumn> {
        match self {
            StateColumn::CounterFloat(traces) => Some(StateColumn::CounterSumFloat(trace::close(traces))),
            StateColumn::CounterInt(traces) => Some(StateColumn::CounterSumInt(trace::close(traces))),
            StateColumn::CounterUInt(traces) => Some(StateColumn::CounterSumUInt(trace::close(traces))),
            StateColumn::WeightedFloat(traces) => Some(StateColumn::WeightedSum(trace::close(traces))),
            StateColumn::WeightedInt(traces) => Some(StateColumn::WeightedSum(trace::close(traces))),
            StateColumn::WeightedUInt(traces) => Some(StateColumn::WeightedSum(trace::close(traces))),
            _ => None,
        }
    }

    /// Bytes on the heap, those of the states included.
    pub fn heap_bytes(&self) -> usize {
        fn bytes<S: State>(states: &Vec<S>) -> usize {
            let own = states.capacity() * size_of::<S>();
            own + states.iter().map(State::heap_bytes).sum::<usize>()
        }
        with_states!(self, states => bytes(states))
    }
}

impl State for u64 {
    const IDENTITY: u64 = 0;

    /// Saturates only on states that we did not write.
    fn merge(&mut self, other: &u64) {
        *self = self.saturating_add(*other);
    }
}

impl Answer for u64 {
    fn finalize(counts: &[u64]) -> Finalized {
        let counts: Vec<i64> = counts.iter().map(|count| i64::try_from(*count).unwrap_or(i64::MAX)).collect();
        Finalized::new(i64::array(counts.iter().map(Some)))
    }
}

fn absorb_counts(counts: &mut [u64], windows: &[BucketRows], nulls: Option<&NullBuffer>) {
    for_valid_rows(windows, nulls, |bucket, rows| counts[bucket] += rows.len() as u64);
}

fn absorb_slices<S, T: Number>(
    states: &mut [S],
    windows: &[BucketRows],
    values: &dyn Array,
    add_slice: impl Fn(&mut S, &[T]),
) {
    let slice = T::slice(typed::<T>(values));
    for_valid_rows(windows, values.nulls(), |bucket, rows| add_slice(&mut states[bucket], &slice[rows]));
}

fn absorb_samples<T: Number, S: Steps<T>>(
    traces: &mut [Trace<T, S>],
    windows: &[BucketRows],
    times: &[Time],
    values: &dyn Array,
) {
    let slice = T::slice(typed::<T>(values));
    for_valid_rows(windows, values.nulls(), |bucket, rows| {
        traces[bucket].add_samples(&times[rows.clone()], &slice[rows]);
    });
}

fn absorb_values<T: FieldValue>(states: &mut [Values<T>], windows: &[BucketRows], values: &dyn Array) {
    let array = typed::<T>(values);
    for_valid_rows(windows, values.nulls(), |bucket, rows| {
        states[bucket].extend(rows.map(|row| T::at(array, row)));
    });
}

fn absorb_hashes<T: FieldValue>(sketches: &mut [Distinct], windows: &[BucketRows], values: &dyn Array) {
    let array = typed::<T>(values);
    for_valid_rows(windows, values.nulls(), |bucket, rows| {
        sketches[bucket].add_hashes(rows.map(|row| T::hash_at(array, row)));
    });
}

fn absorb_edges<T: FieldValue, const LATEST: bool>(
    edges: &mut [Edge<T, LATEST>],
    windows: &[BucketRows],
    times: &[Time],
    values: &dyn Array,
) {
    let array = typed::<T>(values);
    let valid = |row: &usize| array.is_valid(*row);
    for window in windows {
        let mut rows = window.rows.clone();
        let row = if LATEST { rows.rfind(valid) } else { rows.find(valid) };
        if let Some(row) = row {
            edges[window.bucket].add(times[row], || T::at(array, row));
        }
    }
}

/// Calls `add` with each stretch of rows without nulls; without any nulls, once per window.
fn for_valid_rows(
    windows: &[BucketRows],
    nulls: Option<&NullBuffer>,
    mut add: impl FnMut(usize, Range<usize>),
) {
    let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) else {
        return windows.iter().for_each(|window| add(window.bucket, window.rows.clone()));
    };
    for BucketRows { bucket, rows } in windows {
        let bits = BitSliceIterator::new(nulls.validity(), nulls.offset() + rows.start, rows.len());
        for (from, to) in bits {
            add(*bucket, rows.start + from..rows.start + to);
        }
    }
}

fn typed<T: FieldValue>(values: &dyn Array) -> &T::Array {
    let array = values.as_any().downcast_ref();
    array.unwrap_or_else(|| panic!("bug: a state cannot take values of type {}", values.data_type()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};

    use super::*;

    fn absorbed(key: StateKey, times: &[Time], values: ArrayRef) -> StateColumn {
        let mut column = StateColumn::new(key);
        column.push_identities(2);
        let windows = [BucketRows { bucket: 0, rows: 1..4 }, BucketRows { bucket: 1, rows: 4..values.len() }];
        column.absorb(&windows, times, &values);
        column
    }

    #[test]
    fn nulls_are_missing_and_rows_outside_the_windows_untouched() {
        // Sliced, so that the null bits do not start at a byte.
        let floats = Float64Array::from(vec![
            None,
            None,
            Some(100.0),
            Some(1.0),
            None,
            Some(2.5),
            None,
            None,
            Some(4.0),
            Some(f64::NAN),
        ]);
        let floats: ArrayRef = Arc::new(floats.slice(2, 8));
        let times = [1, 2, 3, 4, 5, 6, 7, 8];
        let key = |kind| StateKey::of(kind, FieldType::Float);
        let of = |kind| absorbed(key(kind), &times, floats.clone());
        assert_eq!(of(StateKind::Count), StateColumn::Count(vec![2, 2]));
        let StateColumn::SumFloat(sums) = of(StateKind::Sum) else { panic!("a sum") };
        assert_eq!(sums[0], FloatSum::Narrow { hi: 3.5, lo: 0.0 });
        assert!(sums[1].round().is_some_and(f64::is_nan));
        assert_eq!(of(StateKind::Min), StateColumn::MinFloat(vec![Extreme(Some(1.0)), Extreme(Some(4.0))]));
        assert_eq!(of(StateKind::Max), StateColumn::MaxFloat(vec![Extreme(Some(2.5)), Extreme(Some(4.0))]));
        let first = vec![Edge(Some((2, 1.0))), Edge(Some((7, 4.0)))];
        assert_eq!(of(StateKind::First), StateColumn::FirstFloat(first));
        let StateColumn::LastFloat(lasts) = of(StateKind::Last) else { panic!("a last") };
        assert_eq!(lasts[0], Edge(Some((4, 2.5))));
        assert!(lasts[1].0.is_some_and(|(time, value)| time == 8 && value.is_nan()));
    }

    #[test]
    fn strings_and_bools_have_edges_and_counts() {
        let times = [1, 2, 3, 4, 5];
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("z"), None, Some("b"), Some("a"), None]));
        let key = |kind| StateKey::of(kind, FieldType::Str);
        assert_eq!(absorbed(key(StateKind::Count), &times, texts.clone()), StateColumn::Count(vec![2, 0]));
        assert_eq!(
            absorbed(key(StateKind::First), &times, texts),
            StateColumn::FirstStr(vec![Edge(Some((3, "b".into()))), Edge(None)]),
        );
        let bools: ArrayRef = Arc::new(BooleanArray::from(vec![true, false, true, false, true]));
        assert_eq!(
            absorbed(StateKey::of(StateKind::Last, FieldType::Bool), &times, bools),
            StateColumn::LastBool(vec![Edge(Some((4, false))), Edge(Some((5, true)))]),
        );
        let mut points = StateColumn::new(StateKey::POINTS);
        points.push_identities(1);
        points.absorb_points(&[BucketRows { bucket: 0, rows: 3..8 }, BucketRows { bucket: 0, rows: 9..10 }]);
        assert_eq!(points, StateColumn::Points(vec![6]));
    }

    #[test]
    #[should_panic(expected = "bug: a state cannot take values of type Int64")]
    fn a_value_of_another_type_is_our_bug() {
        let ints: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
        absorbed(StateKey::of(StateKind::Sum, FieldType::Float), &[1, 2, 3, 4], ints);
    }

    #[test]
    fn every_state_that_applies_exists_and_knows_its_kind() {
        let types = FieldType::ALL.map(Some).into_iter().chain([None]);
        for (kind, field_type) in
            StateKind::ALL.into_iter().flat_map(|kind| types.clone().map(move |t| (kind, t)))
        {
            if kind.applies_to(field_type) {
                assert_eq!(StateColumn::new(StateKey { kind, field_type }).kind(), kind);
            }
        }
    }
}
