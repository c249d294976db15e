//! Rows for the buckets that have none.
//!
//! Invariant: every group gets the same buckets; rows that were there keep their values where they are not null.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, TimestampNanosecondArray, UInt32Array, new_null_array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use hashbrown::HashMap;
use query_lang::plan::{Fill, FillHow};
use query_lang::scalar::Constant;
use storage_format::point::{Time, TimeRange};

use crate::error::Result;
use crate::guard::Guard;
use crate::query::answer::AnswerColumn;
use crate::query::answer::Role;
use crate::query::frame::Frame;

/// A row of the answer: where its tags come from, and itself, if it was there.
struct Place {
    /// Any row of the group.
    group: u32,
    row: Option<u32>,
}

pub fn fill(frame: Frame, asked: &Fill, guard: &Guard) -> Result<Frame> {
    let Some(times) = frame.times() else { return Ok(frame) };
    if times.is_empty() {
        // Nothing to fill, but the columns have the types that filled ones have.
        let typed = |(column, array): (&AnswerColumn, &ArrayRef)| match column.role {
            Role::Value => filled(Arc::clone(array), asked, &times, &[]),
            Role::Time | Role::Tag => Arc::clone(array),
        };
        let arrays = frame.columns.iter().zip(&frame.arrays).map(typed).collect();
        return Ok(Frame { arrays, ..frame });
    }
    let groups = frame.rows_by(&frame.tags())?;
    let starts = buckets(asked, &times, groups.len(), guard)?;
    let mut places: Vec<Place> = Vec::with_capacity(starts.len() * groups.len());
    let mut new_times: Vec<Time> = Vec::with_capacity(places.capacity());
    let mut lengths = Vec::new();
    for rows in &groups {
        guard.check()?;
        let mut own: HashMap<Time, Vec<u32>> = HashMap::new();
        rows.iter().for_each(|row| own.entry(times[*row as usize]).or_default().push(*row));
        let before = places.len();
        for start in &starts {
            let group = rows[0];
            match own.remove(start) {
                None => {
                    new_times.push(*start);
                    places.push(Place { group, row: None });
                }
                Some(rows) => {
                    new_times.extend(rows.iter().map(|_| *start));
                    places.extend(rows.iter().map(|row| Place { group, row: Some(*row) }));
                }
            }
        }
        lengths.push(places.len() - before);
    }
    let from_group = UInt32Array::from_iter_values(places.iter().map(|place| place.group));
    let from_row: UInt32Array = places.iter().map(|place| place.row).collect();
    let mut arrays = Vec::with_capacity(frame.arrays.len());
    for (column, array) in frame.columns.iter().zip(&frame.arrays) {
        let pick = |indices: &UInt32Array| take(array, indices, None).expect("every index is a row");
        arrays.push(match column.role {
            Role::Time => Arc::new(TimestampNanosecondArray::from(new_times.clone()).with_timezone("UTC")),
            Role::Tag => pick(&from_group),
            Role::Value => filled(pick(&from_row), asked, &new_times, &lengths),
        });
    }
    Ok(Frame { rows: new_times.len(), arrays, ..frame })
}

/// The starts of the buckets that every group gets.
fn buckets(asked: &Fill, times: &[Time], groups: usize, guard: &Guard) -> Result<Vec<Time>> {
    let (first, last) = (times.iter().min().copied(), times.iter().max().copied());
    let (first, last) = first.zip(last).expect("there are rows");
    let start = match asked.range.start {
        start if start == TimeRange::ALL.start => first,
        start => asked.window.start_of(start).min(first),
    };
    // To the last bucket that begins before the end.
    let end = match asked.range.end {
        end if end == TimeRange::ALL.end => last.saturating_add(1),
        end => end.max(last.saturating_add(1)),
    };
    let mut starts = Vec::new();
    let mut next = start;
    while next < end {
        starts.push(next);
        guard.check_rows(starts.len().saturating_mul(groups.max(1)))?;
        next = asked.window.end_of(next);
    }
    // Rows of `for each time`, of an hour that was asked for in parts: they stay, wherever they are.
    let mut own: Vec<Time> = times.to_vec();
    own.retain(|time| starts.binary_search(time).is_err());
    starts.extend(own);
    starts.sort_unstable();
    starts.dedup();
    Ok(starts)
}

fn filled(array: ArrayRef, asked: &Fill, times: &[Time], lengths: &[usize]) -> ArrayRef {
    match &asked.how {
        FillHow::Null => array,
        FillHow::Value(constant) => with_constant(array, constant, asked.max, times, lengths),
        FillHow::Previous => {
            let mut sources: Vec<Option<u32>> = Vec::with_capacity(array.len());
            each_gap(&array, lengths, |gap| match gap {
                Gap::None { row } => sources.push(Some(row as u32)),
                Gap::Some { rows, before, after } => {
                    let fits =
                        before.is_some_and(|before| fits(asked.max, times, before, after, rows.end - 1));
                    sources.extend(rows.map(|_| before.filter(|_| fits).map(|before| before as u32)));
                }
            });
            take(&array, &UInt32Array::from(sources), None).expect("every source is a row")
        }
        FillHow::Linear => linear(array, asked.max, times, lengths),
    }
}

/// A run of rows of a group without a value, or a row that has one.
enum Gap {
    None { row: usize },
    Some { rows: std::ops::Range<usize>, before: Option<usize>, after: Option<usize> },
}

fn each_gap(array: &ArrayRef, lengths: &[usize], mut visit: impl FnMut(Gap)) {
    let mut start = 0;
    for length in lengths {
        let end = start + length;
        let mut before = None;
        let mut row = start;
        while row < end {
            if array.is_valid(row) {
                visit(Gap::None { row });
                before = Some(row);
                row += 1;
                continue;
            }
            let next = (row..end).find(|row| array.is_valid(*row));
            let stop = next.unwrap_or(end);
            visit(Gap::Some { rows: row..stop, before, after: next });
            row = stop;
        }
        start = end;
    }
}

/// Whether a gap is short enough: the time without a value, from the row before it to the row after it, or to its last.
fn fits(max: Option<i64>, times: &[Time], before: usize, after: Option<usize>, last: usize) -> bool {
    let end = times[after.unwrap_or(last)];
    max.is_none_or(|max| end.saturating_sub(times[before]) <= max)
}

fn linear(array: ArrayRef, max: Option<i64>, times: &[Time], lengths: &[usize]) -> ArrayRef {
    let values: Float64Array = match array.data_type() {
        DataType::Float64 => array.as_primitive::<Float64Type>().clone(),
        DataType::Int64 => array.as_primitive::<Int64Type>().unary(|value| value as f64),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().unary(|value| value as f64),
        // There is no line between texts.
        _ => return array,
    };
    let mut line: Vec<Option<f64>> = Vec::with_capacity(values.len());
    each_gap(&array, lengths, |gap| match gap {
        Gap::None { row } => line.push(Some(values.value(row))),
        Gap::Some { rows, before, after } => match before.zip(after) {
            Some((before, after)) if fits(max, times, before, Some(after), after) => {
                let (left, right) = (values.value(before), values.value(after));
                let whole = (times[after] - times[before]) as f64;
                line.extend(rows.map(|row| {
                    let share = (times[row] - times[before]) as f64 / whole;
                    Some(left + (right - left) * share)
                }));
            }
            _ => line.extend(rows.map(|_| None)),
        },
    });
    Arc::new(Float64Array::from(line))
}

fn with_constant(
    array: ArrayRef,
    constant: &Constant,
    max: Option<i64>,
    times: &[Time],
    lengths: &[usize],
) -> ArrayRef {
    let Some(value) = of_type(constant, array.data_type()) else { return array };
    // A whole column of floats, if the constant is no integer.
    let array = match (array.data_type(), value.data_type()) {
        (DataType::Int64, DataType::Float64) => {
            Arc::new(array.as_primitive::<Int64Type>().unary::<_, Float64Type>(|value| value as f64))
                as ArrayRef
        }
        (DataType::UInt64, DataType::Float64) => {
            Arc::new(array.as_primitive::<UInt64Type>().unary::<_, Float64Type>(|value| value as f64))
                as ArrayRef
        }
        _ => array,
    };
    let none = new_null_array(array.data_type(), 1);
    let mut picks: Vec<(usize, usize)> = Vec::with_capacity(array.len());
    each_gap(&array, lengths, |gap| match gap {
        Gap::None { row } => picks.push((0, row)),
        Gap::Some { rows, before, after } => {
            let from = before.unwrap_or(rows.start);
            let source = if fits(max, times, from, after, rows.end - 1) { 1 } else { 2 };
            picks.extend(rows.map(|_| (source, 0)));
        }
    });
    arrow::compute::interleave(&[&array, &value, &none], &picks).expect("all three have one type")
}

/// The constant as a value of a column; None if it is none of its values.
fn of_type(constant: &Constant, data_type: &DataType) -> Option<ArrayRef> {
    use arrow::array::{BooleanArray, Int64Array, StringArray, UInt64Array};
    Some(match (constant, data_type) {
        (Constant::Float(value), DataType::Float64 | DataType::Int64 | DataType::UInt64) => {
            Arc::new(Float64Array::from(vec![*value]))
        }
        (Constant::Int(value), DataType::Float64) => Arc::new(Float64Array::from(vec![*value as f64])),
        (Constant::UInt(value), DataType::Float64) => Arc::new(Float64Array::from(vec![*value as f64])),
        (Constant::Int(value) | Constant::Duration(value), DataType::Int64) => {
            Arc::new(Int64Array::from(vec![*value]))
        }
        (Constant::Int(value), DataType::UInt64) => {
            Arc::new(UInt64Array::from(vec![u64::try_from(*value).ok()?]))
        }
        (Constant::UInt(value), DataType::UInt64) => Arc::new(UInt64Array::from(vec![*value])),
        (Constant::Bool(value), DataType::Boolean) => Arc::new(BooleanArray::from(vec![*value])),
        (Constant::Str(text), DataType::Utf8) => Arc::new(StringArray::from(vec![text.as_str()])),
        _ => return None,
    })
}
