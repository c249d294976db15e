//! Rows of two tables beside each other.
//!
//! Invariant: rows stand in the order of the left side; null equals nothing.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array, new_null_array};
use arrow::compute::take;
use hashbrown::HashMap;
use query_lang::plan::{Join, JoinKind};
use storage_format::point::Time;

use crate::error::Result;
use crate::guard::Guard;
use crate::query::answer::{AnswerColumn, Role};
use crate::query::frame::{Frame, row_keys};

/// `right` is what the join's right side gave.
pub fn join(left: Frame, right: Frame, join: &Join, guard: &Guard) -> Result<Frame> {
    let (left_keys, right_keys) = keys(&left, &right, &join.on)?;
    let mut found: HashMap<&[u8], Vec<u32>> = HashMap::new();
    for (row, key) in right_keys.iter().enumerate() {
        if let Some(key) = key {
            found.entry(key).or_default().push(row as u32);
        }
    }
    let times = |frame: &Frame| frame.times().expect("bug: the planner wants times on both sides");
    let asof = match join.kind {
        JoinKind::Asof { within } => Some((times(&left), times(&right), within)),
        JoinKind::Inner | JoinKind::Left => None,
    };
    if let Some((_, right_times, _)) = &asof {
        // Of rows with one time the last one counts.
        found.values_mut().for_each(|rows| rows.sort_by_key(|row| right_times[*row as usize]));
    }
    let mut left_rows: Vec<u32> = Vec::new();
    let mut right_rows: Vec<Option<u32>> = Vec::new();
    for (row, key) in left_keys.iter().enumerate() {
        let rows = key.as_ref().and_then(|key| found.get(key.as_slice())).map_or(&[][..], Vec::as_slice);
        match &asof {
            Some((left_times, right_times, within)) => {
                left_rows.push(row as u32);
                right_rows.push(newest(rows, right_times, left_times[row], *within));
            }
            None if rows.is_empty() => {
                if join.kind == JoinKind::Left {
                    left_rows.push(row as u32);
                    right_rows.push(None);
                }
            }
            None => {
                left_rows.extend(rows.iter().map(|_| row as u32));
                right_rows.extend(rows.iter().copied().map(Some));
            }
        }
        guard.check_rows(left_rows.len())?;
    }
    let from_right = UInt32Array::from(right_rows);
    let mut joined = left.pick(&left_rows);
    for (there, here) in &join.brings {
        let Some(at) = right.find(there) else { continue };
        let role = match right.columns[at].role {
            Role::Time => Role::Value,
            role => role,
        };
        joined.columns.push(AnswerColumn { name: here.clone(), role });
        joined.arrays.push(taken(&right.arrays[at], &from_right));
    }
    joined.warnings.extend(right.warnings);
    Ok(joined)
}

fn taken(array: &ArrayRef, rows: &UInt32Array) -> ArrayRef {
    if array.is_empty() {
        return new_null_array(array.data_type(), rows.len());
    }
    take(array, rows, None).expect("every index is a row")
}

/// The last of the rows, which ascend in time, that is not after `time`.
fn newest(rows: &[u32], times: &[Time], time: Time, within: Option<i64>) -> Option<u32> {
    let end = rows.partition_point(|row| times[*row as usize] <= time);
    let row = *rows[..end].last()?;
    let age = time.saturating_sub(times[row as usize]);
    within.is_none_or(|within| age <= within).then_some(row)
}

type Keys = Vec<Option<Vec<u8>>>;

/// Per row the bytes of its values of the named columns; None where one is null. A tag that a side lacks is null.
fn keys(left: &Frame, right: &Frame, on: &[String]) -> Result<(Keys, Keys)> {
    let side = |frame: &Frame, other: &Frame| -> Result<Keys> {
        let array = |name: &String| match (frame.column(name), other.column(name)) {
            (Some(array), _) => Arc::clone(array),
            (None, Some(other)) => new_null_array(other.data_type(), frame.rows),
            (None, None) => new_null_array(&arrow::datatypes::DataType::Utf8, frame.rows),
        };
        let arrays: Vec<ArrayRef> = on.iter().map(array).collect();
        let keys = row_keys(&arrays)?;
        let is_null = |row: usize| arrays.iter().any(|array| array.is_null(row));
        Ok((0..frame.rows).map(|row| (!is_null(row)).then(|| keys.row(row).as_ref().to_vec())).collect())
    };
    Ok((side(left, right)?, side(right, left)?))
}
