//! Functions along the time axis: each row with the rows of its group before it.
//!
//! Invariant: the rows of a group ascend in time; a function sees one group at a time.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{Float64Type, Int64Type, UInt64Type};
use hashbrown::HashMap;
use query_lang::scalar::{AxisFunction, ValueType};
use storage_format::point::Time;

/// The rows of each group, in the order of time.
pub struct RowGroups {
    pub groups: Vec<Vec<u32>>,
    /// Of every row.
    pub times: Vec<Time>,
}

pub fn compute(
    function: AxisFunction,
    values: &ArrayRef,
    from: ValueType,
    to: ValueType,
    rows: &RowGroups,
) -> ArrayRef {
    match function {
        AxisFunction::ShiftRows(by) => shifted(values, rows, |group, place| {
            let from = i64::try_from(place).ok()?.checked_sub(by)?;
            group.get(usize::try_from(from).ok()?).copied()
        }),
        AxisFunction::ShiftTime(by) => {
            let mut places: HashMap<(usize, Time), u32> = HashMap::new();
            for (number, group) in rows.groups.iter().enumerate() {
                places.extend(group.iter().map(|row| ((number, rows.times[*row as usize]), *row)));
            }
            let mut sources: Vec<Option<u32>> = vec![None; values.len()];
            for (number, group) in rows.groups.iter().enumerate() {
                for row in group {
                    let then = rows.times[*row as usize].checked_sub(by);
                    sources[*row as usize] = then.and_then(|then| places.get(&(number, then)).copied());
                }
            }
            picked(values, sources)
        }
        AxisFunction::Diff if to == ValueType::Int => {
            let each = |before: Option<i128>, now: i128, _: i64| before.map(|before| now - before);
            let diffs = along(&wide(values, from), rows, each);
            Arc::new(diffs.into_iter().map(|diff| i64::try_from(diff?).ok()).collect::<Int64Array>())
        }
        AxisFunction::Diff => {
            let each = |before: Option<f64>, now: f64, _: i64| before.map(|before| now - before);
            Arc::new(Float64Array::from(along(&floats(values, from), rows, each)))
        }
        AxisFunction::Derivative(unit) => {
            let each = |before: Option<f64>, now: f64, apart: i64| {
                before.filter(|_| apart > 0).map(|before| (now - before) * (unit as f64 / apart as f64))
            };
            Arc::new(Float64Array::from(along(&floats(values, from), rows, each)))
        }
        AxisFunction::MovingAvg(length) => Arc::new(moving_avg(length as usize, &floats(values, from), rows)),
        AxisFunction::Ewma(weight) => {
            let ewma = |before: Option<f64>, now: f64| {
                before.map_or(now, |before| weight * now + (1.0 - weight) * before)
            };
            Arc::new(Float64Array::from(running(&floats(values, from), rows, ewma)))
        }
        AxisFunction::Cumulative => cumulative(values, from, to, rows),
    }
}

fn shifted(values: &ArrayRef, rows: &RowGroups, source: impl Fn(&[u32], usize) -> Option<u32>) -> ArrayRef {
    let mut sources: Vec<Option<u32>> = vec![None; values.len()];
    for group in &rows.groups {
        for (place, row) in group.iter().enumerate() {
            sources[*row as usize] = source(group, place);
        }
    }
    picked(values, sources)
}

fn picked(values: &ArrayRef, sources: Vec<Option<u32>>) -> ArrayRef {
    take(values, &arrow::array::UInt32Array::from(sources), None).expect("every source is a row")
}

/// Each value with the last one before it that is not null, and the nanoseconds between them.
fn along<T: Copy>(
    values: &[Option<T>],
    rows: &RowGroups,
    each: impl Fn(Option<T>, T, i64) -> Option<T>,
) -> Vec<Option<T>> {
    let mut results = vec![None; values.len()];
    for group in &rows.groups {
        let mut before: Option<(T, Time)> = None;
        for row in group.iter().map(|row| *row as usize) {
            if let Some(now) = values[row] {
                let time = rows.times[row];
                let apart = before.map_or(0, |(_, then)| time.saturating_sub(then));
                results[row] = each(before.map(|(value, _)| value), now, apart);
                before = Some((now, time));
            }
        }
    }
    results
}

/// Each value with what came out for the last one before it.
fn running<T: Copy>(
    values: &[Option<T>],
    rows: &RowGroups,
    each: impl Fn(Option<T>, T) -> T,
) -> Vec<Option<T>> {
    let mut results = vec![None; values.len()];
    for group in &rows.groups {
        let mut before = None;
        for row in group.iter().map(|row| *row as usize) {
            if let Some(now) = values[row] {
                before = Some(each(before, now));
                results[row] = before;
            }
        }
    }
    results
}

fn moving_avg(length: usize, values: &[Option<f64>], rows: &RowGroups) -> Float64Array {
    let mut averages: Vec<Option<f64>> = vec![None; values.len()];
    for group in &rows.groups {
        for (place, row) in group.iter().enumerate().skip(length - 1) {
            // Added up anew, so that a value that has left leaves nothing behind, neither a rounding nor a NaN.
            let window = group[place + 1 - length..=place].iter().filter_map(|row| values[*row as usize]);
            let (sum, count) = window.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
            averages[*row as usize] = (count > 0).then(|| sum / f64::from(count));
        }
    }
    Float64Array::from(averages)
}

fn cumulative(values: &ArrayRef, from: ValueType, to: ValueType, rows: &RowGroups) -> ArrayRef {
    let whole = || running(&wide(values, from), rows, |before, now| before.unwrap_or(0) + now).into_iter();
    match to {
        ValueType::Float => {
            let sums = running(&floats(values, from), rows, |before, now| before.unwrap_or(0.0) + now);
            Arc::new(Float64Array::from(sums))
        }
        ValueType::UInt => Arc::new(whole().map(|sum| u64::try_from(sum?).ok()).collect::<UInt64Array>()),
        _ => Arc::new(whole().map(|sum| i64::try_from(sum?).ok()).collect::<Int64Array>()),
    }
}

fn floats(values: &ArrayRef, from: ValueType) -> Vec<Option<f64>> {
    match from {
        ValueType::UInt => {
            values.as_primitive::<UInt64Type>().iter().map(|value| Some(value? as f64)).collect()
        }
        ValueType::Float | ValueType::Null => values.as_primitive::<Float64Type>().iter().collect(),
        _ => values.as_primitive::<Int64Type>().iter().map(|value| Some(value? as f64)).collect(),
    }
}

fn wide(values: &ArrayRef, from: ValueType) -> Vec<Option<i128>> {
    match from {
        ValueType::UInt => {
            values.as_primitive::<UInt64Type>().iter().map(|value| value.map(i128::from)).collect()
        }
        _ => values.as_primitive::<Int64Type>().iter().map(|value| value.map(i128::from)).collect(),
    }
}
