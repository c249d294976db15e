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
        AxisFunction::Diff => match to {
            ValueType::Int => {
                let at = wide(values, from);
                let each = |before: Option<i128>, now: i128, _: i64| before.map(|before| now - before);
                let diffs = along(values.len(), rows, at, each);
                Arc::new(diffs.into_iter().map(|diff| i64::try_from(diff?).ok()).collect::<Int64Array>())
            }
            _ => {
                let each = |before: Option<f64>, now: f64, _: i64| before.map(|before| now - before);
                Arc::new(Float64Array::from(along(values.len(), rows, floats(values, from), each)))
            }
        },
        AxisFunction::Derivative(unit) => {
            let each = |before: Option<f64>, now: f64, apart: i64| {
                before.filter(|_| apart > 0).map(|before| (now - before) * (unit as f64 / apart as f64))
            };
            Arc::new(Float64Array::from(along(values.len(), rows, floats(values, from), each)))
        }
        AxisFunction::MovingAvg(length) => {
            Arc::new(moving_avg(length as usize, floats(values, from), values.len(), rows))
        }
        AxisFunction::Ewma(weight) => {
            let at = floats(values, from);
            let mut averages: Vec<Option<f64>> = vec![None; values.len()];
            for group in &rows.groups {
                let mut average: Option<f64> = None;
                for row in group {
                    if let Some(now) = at(*row as usize) {
                        average = Some(average.map_or(now, |before| weight * now + (1.0 - weight) * before));
                        averages[*row as usize] = average;
                    }
                }
            }
            Arc::new(Float64Array::from(averages))
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
    len: usize,
    rows: &RowGroups,
    at: impl Fn(usize) -> Option<T>,
    each: impl Fn(Option<T>, T, i64) -> Option<T>,
) -> Vec<Option<T>> {
    let mut results = vec![None; len];
    for group in &rows.groups {
        let mut before: Option<(T, Time)> = None;
        for row in group.iter().map(|row| *row as usize) {
            if let Some(now) = at(row) {
                let time = rows.times[row];
                let apart = before.map_or(0, |(_, then)| time.saturating_sub(then));
                results[row] = each(before.map(|(value, _)| value), now, apart);
                before = Some((now, time));
            }
        }
    }
    results
}

fn moving_avg(
    length: usize,
    at: impl Fn(usize) -> Option<f64>,
    len: usize,
    rows: &RowGroups,
) -> Float64Array {
    let mut averages: Vec<Option<f64>> = vec![None; len];
    for group in &rows.groups {
        for (place, row) in group.iter().enumerate().skip(length - 1) {
            // Added up anew, so that a value that has left leaves nothing behind, neither a rounding nor a NaN.
            let window = group[place + 1 - length..=place].iter().filter_map(|row| at(*row as usize));
            let (sum, count) = window.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
            averages[*row as usize] = (count > 0).then(|| sum / f64::from(count));
        }
    }
    Float64Array::from(averages)
}

fn cumulative(values: &ArrayRef, from: ValueType, to: ValueType, rows: &RowGroups) -> ArrayRef {
    fn sums<T: Copy>(
        len: usize,
        rows: &RowGroups,
        zero: T,
        at: impl Fn(usize) -> Option<T>,
        add: impl Fn(T, T) -> T,
    ) -> Vec<Option<T>> {
        let mut sums = vec![None; len];
        for group in &rows.groups {
            let mut sum = zero;
            for row in group.iter().map(|row| *row as usize) {
                if let Some(value) = at(row) {
                    sum = add(sum, value);
                    sums[row] = Some(sum);
                }
            }
        }
        sums
    }
    let whole = |sums: Vec<Option<i128>>| sums;
    match to {
        ValueType::Float => {
            Arc::new(Float64Array::from(sums(values.len(), rows, 0.0, floats(values, from), |a, b| a + b)))
        }
        ValueType::UInt => {
            let sums = whole(sums(values.len(), rows, 0i128, wide(values, from), |a, b| a + b));
            Arc::new(sums.into_iter().map(|sum| u64::try_from(sum?).ok()).collect::<UInt64Array>())
        }
        _ => {
            let sums = whole(sums(values.len(), rows, 0i128, wide(values, from), |a, b| a + b));
            Arc::new(sums.into_iter().map(|sum| i64::try_from(sum?).ok()).collect::<Int64Array>())
        }
    }
}

fn floats(values: &ArrayRef, from: ValueType) -> Box<dyn Fn(usize) -> Option<f64> + '_> {
    match from {
        ValueType::UInt => {
            let values = values.as_primitive::<UInt64Type>();
            Box::new(|row| values.is_valid(row).then(|| values.value(row) as f64))
        }
        ValueType::Float | ValueType::Null => {
            let values = values.as_primitive::<Float64Type>();
            Box::new(|row| values.is_valid(row).then(|| values.value(row)))
        }
        _ => {
            let values = values.as_primitive::<Int64Type>();
            Box::new(|row| values.is_valid(row).then(|| values.value(row) as f64))
        }
    }
}

fn wide(values: &ArrayRef, from: ValueType) -> Box<dyn Fn(usize) -> Option<i128> + '_> {
    match from {
        ValueType::UInt => {
            let values = values.as_primitive::<UInt64Type>();
            Box::new(|row| values.is_valid(row).then(|| i128::from(values.value(row))))
        }
        _ => {
            let values = values.as_primitive::<Int64Type>();
            Box::new(|row| values.is_valid(row).then(|| i128::from(values.value(row))))
        }
    }
}
