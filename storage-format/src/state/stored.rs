//! States to and from the Parquet columns of a rollup block. FORMAT.md, "Rollup states", has the list.
//!
//! Invariant: equal states have equal columns, and only canonical columns are read back; anything else is
//! [`Corrupt`]. The columns are plain wherever plain types can hold the state.
//! Not here: the columns `time` and tags, and how names that collide are told apart (see `block`).

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Decimal128Array, Float64Array, Int64Array,
    TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, TimeUnit};

use crate::corrupt::{Corrupt, Result};
use crate::point::{FieldType, Time};

use super::column::{Answer, State, StateColumn, with_states};
use super::counter::{CounterSum, Resets};
use super::distinct::Distinct;
use super::edge::Edge;
use super::extreme::Extreme;
use super::quantile::Sketch;
use super::run::StateRun;
use super::squares::Squares;
use super::sum::{ExactSum, FloatSum, IntSum};
use super::trace::{Ends, Sample, Steps, Trace};
use super::value::{FieldValue, Number, Whole, data_type};
use super::weighted::{Area, WeightedSum};
use super::{StateKey, StateKind};

const TIME_ZONE: &str = "UTC";
/// The most that Parquet's widest common decimal has; [`IntSum`] proves that sums fit.
const SUM_DIGITS: u8 = 38;

/// The columns of one state, in the order of [`StateRun::to_arrow`]. `field` is the field's name, which
/// `Points` has none of. `None` for what is never stored.
pub fn block_fields(key: StateKey, field: &str) -> Option<Vec<Field>> {
    let value = || key.field_type.map_or(DataType::Null, data_type);
    let time = || DataType::Timestamp(TimeUnit::Nanosecond, Some(TIME_ZONE.into()));
    let column = |name: &str, data_type| Field::new(format!("{field}.{name}"), data_type, true);
    let count = |name: &str| column(name, DataType::Int64).with_nullable(false);
    let whole_sum = |name: &str| vec![column(name, DataType::Decimal128(SUM_DIGITS, 0))];
    let float_sum = |name: &str| {
        vec![
            column(name, DataType::Float64),
            column(&format!("{name}_lo"), DataType::Float64),
            column(&format!("{name}_wide"), DataType::Binary),
        ]
    };
    let sum = |name: &str| match key.field_type {
        Some(FieldType::Float) => float_sum(name),
        _ => whole_sum(name),
    };
    let edge = |name: &str| vec![column(name, value()), column(&format!("{name}_time"), time())];
    let name = key.kind.name();
    Some(match key.kind {
        StateKind::Points => vec![Field::new(name, DataType::Int64, false)],
        StateKind::Count => vec![count(name)],
        StateKind::Sum => sum(name),
        StateKind::Min | StateKind::Max => vec![column(name, value())],
        StateKind::First | StateKind::Last => edge(name),
        StateKind::SumSquares => vec![
            column(name, DataType::Float64).with_nullable(false),
            column("sum_squares_exact", DataType::Binary),
        ],
        StateKind::Quantile => vec![column(name, DataType::Binary)],
        StateKind::Distinct => vec![count(name), column("distinct_sketch", DataType::Binary)],
        StateKind::Counter => {
            [edge("counter_first"), edge("counter_last"), vec![count("counter_resets")], sum("counter_lost")]
                .concat()
        }
        StateKind::CounterSum => [sum("increase"), sum("delta"), vec![count("resets")]].concat(),
        StateKind::Weighted => {
            [edge("weighted_first"), edge("weighted_last"), float_sum("weighted_area")].concat()
        }
        StateKind::WeightedSum => {
            [float_sum("area"), whole_sum("duration"), vec![count("instants")], float_sum("instants_sum")]
                .concat()
        }
        StateKind::Values => return None,
    })
}

/// The arrays of [`block_fields`], key after key, for the rows of many groups: run after run, all made with
/// `keys`.
pub fn block_arrays(keys: &[StateKey], runs: &[&StateRun]) -> Vec<ArrayRef> {
    let mut rows = StateRun::new(keys);
    for run in runs {
        for (all, own) in rows.columns.iter_mut().zip(&run.columns) {
            with_states!(all, own, (all, own) => all.extend_from_slice(own));
        }
    }
    rows.to_arrow()
}

impl StateRun {
    /// The arrays of [`block_fields`], key after key.
    pub fn to_arrow(&self) -> Vec<ArrayRef> {
        let columns = self.columns.iter();
        columns.flat_map(|column| with_states!(stored column, states => Stored::encode(states))).collect()
    }

    /// From the bucket starts and the arrays that [`to_arrow`](StateRun::to_arrow) gave, or rows of them.
    pub fn from_arrow(keys: &[StateKey], starts: Vec<Time>, arrays: &[ArrayRef]) -> Result<StateRun> {
        if arrays.iter().any(|array| array.len() != starts.len()) {
            return Err(Corrupt::new("a rollup column has another length"));
        }
        let columns = states_from_arrow(keys, arrays)?;
        ascending(&starts)?;
        Ok(StateRun { starts, columns })
    }

    /// From rows of many groups, decoded together: those of one group.
    pub fn of_rows(starts: &[Time], decoded: &[StateColumn], rows: Range<usize>) -> Result<StateRun> {
        ascending(starts)?;
        let missing = || Corrupt::new("a rollup column has another length");
        let column = |column: &StateColumn| {
            Ok(with_states!(map column, states => states.get(rows.clone()).ok_or_else(missing)?.to_vec()))
        };
        Ok(StateRun { starts: starts.to_vec(), columns: decoded.iter().map(column).collect::<Result<_>>()? })
    }
}

fn ascending(starts: &[Time]) -> Result<()> {
    match starts.is_sorted_by(|a, b| a < b) {
        true => Ok(()),
        false => Err(Corrupt::new("the buckets of a group do not ascend")),
    }
}

/// The states of the arrays of [`block_fields`], key after key, whatever groups their rows are of.
pub fn states_from_arrow(keys: &[StateKey], mut arrays: &[ArrayRef]) -> Result<Vec<StateColumn>> {
    let mut columns: Vec<StateColumn> = keys.iter().map(|key| StateColumn::new(*key)).collect();
    for column in &mut columns {
        with_states!(stored column, states => *states = Stored::decode(&mut arrays)?);
    }
    match arrays.is_empty() {
        true => Ok(columns),
        false => Err(Corrupt::new("a rollup block has columns too many")),
    }
}

/// How one kind of state is stored.
trait Stored: State {
    fn encode(states: &[Self]) -> Vec<ArrayRef>;

    /// Takes its own arrays off the front.
    fn decode(arrays: &mut &[ArrayRef]) -> Result<Vec<Self>>;
}

impl Stored for u64 {
    fn encode(counts: &[u64]) -> Vec<ArrayRef> {
        vec![Answer::finalize(counts).array]
    }

    fn decode(arrays: &mut &[ArrayRef]) -> Result<Vec<u64>> {
        let counts = take::<Int64Array>(arrays)?;
        if counts.null_count() > 0 || counts.values().iter().any(|count| *count < 0) {
            return Err(Corrupt::new("a count is missing or negative"));
        }
        Ok(counts.values().iter().map(|count| count.cast_unsigned()).collect())
    }
}

impl Stored for FloatSum {
    fn encode(sums: &[FloatSum]) -> Vec<ArrayRef> {
        let rounded: Float64Array = sums.iter().map(FloatSum::round).collect();
        let low = sums.iter().map(|sum| match sum {
            FloatSum::Narrow { lo, .. } => Some(*lo),
            FloatSum::Empty | FloatSum::Wide(_) => None,
        });
        let low: Float64Array = low.collect();
        let mut wide = BinaryBuilder::new();
        let mut bytes = Vec::new();
        for sum in sums {
            let FloatSum::Wide(sum) = sum else {
                wide.append_null();
                continue;
            };
            bytes.clear();
            sum.encode(&mut bytes);
            wide.append_value(&bytes);
        }
        vec![Arc::new(rounded), Arc::new(low), Arc::new(wide.finish())]
    }

    fn decode(arrays: &mut &[ArrayRef]) -> Result<Vec<FloatSum>> {
        let rounded = take::<Float64Array>(arrays)?;
        let low = take::<Float64Array>(arrays)?;
        let wide = take::<BinaryArray>(arrays)?;
        if rounded.null_count() == 0 && low.null_count() == 0 && wide.null_count() == wide.len() {
            let sums = rounded.values().iter().zip(low.values());
            return sums.map(|(hi, lo)| FloatSum::from_narrow(*hi, *lo)).collect();
        }
        let rows = rounded.iter().zip(low.iter()).zip(wide.iter());
        rows.map(|((rounded, low), wide)| match (rounded, low, wide) {
            (None, None, None) => Ok(FloatSum::Empty),
            (Some(hi), Some(lo), None) => FloatSum::from_narrow(hi, lo),
            (Some(rounded), None, Some(bytes)) => FloatSum::from_wide(rounded, bytes),
            _ => Err(Corrupt::new("a sum has some of its columns only")),
        })
        .collect()
    }
}

impl<T: Whole> Stored for IntSum<T> {
    fn encode(sums: &[IntSum<T>]) -> Vec<ArrayRef> {
        let totals: Decimal128Array = sums.iter().map(IntSum::total).collect();
        let totals = totals.with_data_type(DataType::Decimal128(SUM_DIGITS, 0));
        vec![Arc::new(totals)]
    }

    fn decode(arrays: &mut &[ArrayRef]) -> Result<Vec<IntSum<T>>> {
        let totals = take::<Decimal128Array>(arrays)?;
        if totals.scale() != 0 {
            return Err(Corrupt::new("a sum of integers has decimals"));
        }
        let out_of_range = || Corrupt::new("a sum of integers is out of range");
        let sum = |total: Option<i128>| match total {
            Some(total) if !IntSum::<T>::TOTALS.contains(&total) => Err(out_of_range()),
            total => Ok(IntSum::new(total)),
        };
        match totals.null_count() {
            0 => totals.values().iter().map(|total| sum(Some(*total))).collect(),
            _ => totals.iter().map(sum).collect(),
        }
    }
}

impl<T: Number, const LARGEST: bool> Stored for Extreme<T, LARGEST> {
    fn encode(states: &[Self]) -> Vec<ArrayRef> {
        vec![Answer::finalize(states).array]
    }

    fn decode(arrays: &mut &[ArrayRef]) -> Result<Vec<Self>> {
        let values = take::<T::Array>(arrays)?;
        let states: Vec<Self> = match values.null_count() {
            0 => T::slice(values).iter().map(|value| Extreme(Some(*value))).collect(),
            _ => optional::<T>(values).map(Extreme).collect(),
        };
        if states.iter().any(|state| state.0.is_some_and(Number::is_nan)) {
            return Err(Corrupt::new("a smallest or largest value is NaN"));
        }
        Ok(states)
    }
}

impl<T: FieldValue, const LATEST: bool> Stored for Edge<T, LATEST> {
    fn encode(states: &[Self]) -> Vec<ArrayRef> {
        encode_samples(states.iter().map(|state| state.0.as_ref()))
    }

    fn decode(arrays: &mut &[ArrayRef]) -> Result<Vec<Self>> {
        Ok(decode_samples(arrays)?.into_iter().map(Edge).collect())
    }
}

/// Values, then times.
fn encode_samples<'a, T: FieldValue>(
    samples: impl Iterator<Item = Option<&'a Sample<T>>> + Clone,
) -> Vec<ArrayRef> {
    let times = samples.clone().map(|sample| sample.map(|(time, _)| *time));
    let times = times.collect::<TimestampNanosecondArray>().with_timezone(TIME_ZONE);
    vec![T::array(samples.map(|sample| sample.map(|(_, value)| value))), Arc::new(times)]
}

fn decode_samples<T: FieldValue>(arrays: &mut &[ArrayRef]) -> Result<Vec<Option<Sample<T>>>> {
    let values = take::<T::Array>(arrays)?;
    let times = take::<TimestampNanosecondArray>(arrays)?;
    let rows = optional::<T>(values).zip(times.iter());
    rows.map(|row| match row {
        (Some(value), Some(time)) => Ok(Some((time, value))),
        (None, None) => Ok(None),
        _ => Err(Corrupt::new("a first or last value lacks its time, or the reverse")),
    })
    .collect()
}

/// The ends of each trace, then its steps.
impl<T: Number, S: StoredSteps> Stored for Trace<T, S>
where
    S: Steps<T>,
{
    fn encode(states: &[Self]) -> Vec<ArrayRef> {
        let ends = states.iter().map(|state| state.ends.as_ref());
        let mut arrays = encode_samples(ends.clone().map(|ends| ends.map(|ends| &ends.first)));
        arrays.extend(encode_samples(ends.map(|ends| ends.map(|ends| &ends.last))));
        let steps: Vec<S> = states.iter().map(|state| state.steps.clone()).collect();
        arrays.extend(S::encode(&steps));
        arrays
    }

    fn decode(arrays: &mut &[ArrayRef]) -> Result<Vec<Self>> {
        let firsts = decode_samples::<T>(arrays)?;
        let lasts = decode_samples::<T>(arrays)?;
        let rows = firsts.into_iter().zip(lasts).zip(S::decode(arrays)?);
        rows.map(|((first, last), steps)| {
            let ends = match (first, last) {
                (None, None) if steps.fit(0) => None,
                (Some(first), Some(last)) if !first.1.is_nan() && !last.1.is_nan() => {
                    let same = first.1.rank(&last.1).is_eq();
                    let fits = match first.0.cmp(&last.0) {
                        Ordering::Less => steps.fit(1),
                        Ordering::Equal => same && steps.fit(0),
                        Ordering::Greater => false,
                    };
                    fits.then_some(Ends { first, last }).map_or_else(misfit, |ends| Ok(Some(ends)))?
                }
                _ => misfit()?,
            };
            Ok(Trace { ends, steps })
        })
        .collect()
    }
}

fn misfit<T>() -> Result<T> {
    Err(Corrupt::new("the ends of a series and what lies between them do not fit together"))
}

/// What is between the ends of a trace.
trait StoredSteps: Stored {
    /// Whether this can be what `steps` steps, none or at least one, left behind.
    fn fit(&self, steps: u64) -> bool;
}

impl<S: Stored + ExactSum> Stored for Resets<S> {
    fn encode(states: &[Self]) -> Vec<ArrayRef> {
        let counts: Vec<u64> = states.iter().map(|state| state.count).collect();
        [Stored::encode(&counts), encode_part(states, |state| &state.lost)].concat()
    }

    fn decode(arrays: &mut &[ArrayRef]) -> Result<Vec<Self>> {
        let counts = u64::decode(arrays)?;
        let lost = S::decode(arrays)?;
        let states: Vec<Self> =
            counts.into_iter().zip(lost).map(|(count, lost)| Resets { count, lost }).collect();
        if states.iter().any(|state| (state.count == 0) != state.lost.is_empty()) {
            return Err(Corrupt::new("a counter has resets without the values it fell from, or the reverse"));
        }
        Ok(states)
    }
}

impl<S: Stored + ExactSum> StoredSteps for Resets<S> {
    fn fit(&self, steps: u64) -> bool {
        steps > 0 || self.count == 0
    }
}

impl Stored for Area {
    fn encode(states: &[Area]) -> Vec<ArrayRef> {
        encode_part(states, |state| &state.twice)
    }

    fn decode(arrays: &mut &[ArrayRef]) -> Result<Vec<Area>> {
        Ok(FloatSum::decode(arrays)?.into_iter().map(|twice| Area { twice }).collect())
    }
}

impl StoredSteps for Area {
    fn fit(&self, steps: u64) -> bool {
        (steps > 0) != self.twice.is_empty()
    }
}

impl<S: Stored + ExactSum, D: Stored + ExactSum> Stored for CounterSum<S, D> {
    fn encode(states: &[Self]) -> Vec<ArrayRef> {
        let resets: Vec<u64> = states.iter().map(|state| state.resets).collect();
        let increase = encode_part(states, |state| &state.increase);
        [increase, encode_part(states, |state| &state.delta), Stored::encode(&resets)].concat()
    }

    fn decode(arrays: &mut &[ArrayRef]) -> Result<Vec<Self>> {
        let increases = S::decode(arrays)?;
        let deltas = D::decode(arrays)?;
        let rows = increases.into_iter().zip(deltas).zip(u64::decode(arrays)?);
        let sum = |((increase, delta), resets)| CounterSum { increase, delta, resets };
        let sums: Vec<Self> = rows.map(sum).collect();
        let fits = |sum: &Self| {
            let none = sum.increase.is_empty();
            none == sum.delta.is_empty() && (!none || sum.resets == 0)
        };
        sums.iter().all(fits).then_some(sums).map_or_else(misfit, Ok)
    }
}

impl Stored for WeightedSum {
    fn encode(states: &[WeightedSum]) -> Vec<ArrayRef> {
        let instants: Vec<u64> = states.iter().map(|state| state.instants).collect();
        [
            encode_part(states, |state| &state.twice),
            encode_part(states, |state| &state.duration),
            Stored::encode(&instants),
            encode_part(states, |state| &state.instants_sum),
        ]
        .concat()
    }

    fn decode(arrays: &mut &[ArrayRef]) -> Result<Vec<WeightedSum>> {
        let areas = FloatSum::decode(arrays)?;
        let durations = IntSum::<u64>::decode(arrays)?;
        let instants = u64::decode(arrays)?;
        let rows = areas.into_iter().zip(durations).zip(instants).zip(FloatSum::decode(arrays)?);
        let sum = |(((twice, duration), instants), instants_sum)| WeightedSum {
            twice,
            duration,
            instants,
            instants_sum,
        };
        let sums: Vec<WeightedSum> = rows.map(sum).collect();
        let fits = |sum: &WeightedSum| {
            sum.twice.is_empty() == sum.duration.is_empty()
                && sum.duration.total() != Some(0)
                && (sum.instants == 0) == sum.instants_sum.is_empty()
        };
        sums.iter().all(fits).then_some(sums).map_or_else(misfit, Ok)
    }
}

/// One of the sums that each state has.
fn encode_part<S, P: Stored>(states: &[S], part: impl Fn(&S) -> &P) -> Vec<ArrayRef> {
    let parts: Vec<P> = states.iter().map(|state| part(state).clone()).collect();
    P::encode(&parts)
}

impl Stored for Squares {
    fn encode(states: &[Squares]) -> Vec<ArrayRef> {
        let rounded = Float64Array::from_iter_values(states.iter().map(Squares::round));
        let exact: BinaryArray = states.iter().map(Squares::encode).collect();
        vec![Arc::new(rounded), Arc::new(exact)]
    }

    fn decode(arrays: &mut &[ArrayRef]) -> Result<Vec<Squares>> {
        let rounded = take::<Float64Array>(arrays)?;
        let exact = take::<BinaryArray>(arrays)?;
        let rows = rounded.iter().zip(exact.iter());
        rows.map(|(rounded, exact)| {
            Squares::decode(rounded.ok_or(Corrupt::new("a sum of squares is missing"))?, exact)
        })
        .collect()
    }
}

impl Stored for Sketch {
    fn encode(states: &[Sketch]) -> Vec<ArrayRef> {
        vec![binary(states, Sketch::is_empty, Sketch::encode)]
    }

    fn decode(arrays: &mut &[ArrayRef]) -> Result<Vec<Sketch>> {
        let sketches = take::<BinaryArray>(arrays)?;
        sketches.iter().map(|bytes| bytes.map_or(Ok(Sketch::IDENTITY), Sketch::decode)).collect()
    }
}

impl Stored for Distinct {
    fn encode(states: &[Distinct]) -> Vec<ArrayRef> {
        vec![Answer::finalize(states).array, binary(states, Distinct::is_empty, Distinct::encode)]
    }

    fn decode(arrays: &mut &[ArrayRef]) -> Result<Vec<Distinct>> {
        let estimates = take::<Int64Array>(arrays)?;
        let sketches = take::<BinaryArray>(arrays)?;
        let sketches = sketches.iter().map(|bytes| bytes.map_or(Ok(Distinct::IDENTITY), Distinct::decode));
        let sketches = sketches.collect::<Result<Vec<Distinct>>>()?;
        if estimates != Answer::finalize(&sketches).array.as_primitive() {
            return Err(Corrupt::new("a distinct count does not belong to its sketch"));
        }
        Ok(sketches)
    }
}

/// Null for the states that are empty.
fn binary<S>(states: &[S], is_empty: impl Fn(&S) -> bool, encode: impl Fn(&S, &mut Vec<u8>)) -> ArrayRef {
    let mut builder = BinaryBuilder::new();
    let mut bytes = Vec::new();
    for state in states {
        if is_empty(state) {
            builder.append_null();
            continue;
        }
        bytes.clear();
        encode(state, &mut bytes);
        builder.append_value(&bytes);
    }
    Arc::new(builder.finish())
}

fn take<'a, A: Array + 'static>(arrays: &mut &'a [ArrayRef]) -> Result<&'a A> {
    let (array, rest) = arrays.split_first().ok_or(Corrupt::new("a rollup column is missing"))?;
    *arrays = rest;
    array.as_any().downcast_ref().ok_or(Corrupt::new("a rollup column has another type"))
}

fn optional<T: FieldValue>(array: &T::Array) -> impl Iterator<Item = Option<T>> {
    (0..array.len()).map(|row| array.is_valid(row).then(|| T::at(array, row)))
}
