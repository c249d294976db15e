//! Raw points as rows: time, tags, fields; ordered by time, then series.
//!
//! Invariant: with a limit, no task keeps more rows than that.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray, TimestampNanosecondArray, UInt32Array, new_null_array};
use arrow::compute::{concat, take};
use query_lang::catalog::FieldInfo;
use storage_format::point::{TagSet, Time};
use storage_format::state::data_type;

use crate::error::Result;
use crate::guard::Guard;
use crate::query::answer::AnswerColumn;
use crate::query::answer::Role;
use crate::query::frame::Frame;
use crate::query::scalar::Program;
use crate::query::window::passing;
use crate::rows::Rows;
use crate::scan::{Scan, Touched};

/// The scan's columns are `fields`, in their order. `tags` are the table's.
pub fn select_points(
    scan: &Scan,
    fields: &[FieldInfo],
    tags: &[String],
    condition: Option<&Program>,
    limit: Option<u64>,
    guard: &Guard,
    touched: &Touched,
) -> Result<Frame> {
    let names: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
    let limit = limit.map_or(usize::MAX, |limit| limit as usize);
    let each = |found: &mut Found, series: &TagSet, pieces: &[Rows]| {
        let mut room = limit;
        for rows in pieces {
            let rows = match condition {
                None => rows.clone(),
                Some(condition) => passing(rows, series, &names, condition),
            };
            let rows = rows.slice(0, rows.len().min(room));
            room -= rows.len();
            if !rows.is_empty() {
                // A slice would keep all that was decoded with it.
                let rows = rows.copied();
                guard.reserve(rows.heap_bytes())?;
                found.rows += rows.len();
                found.pieces.push((series.clone(), rows));
            }
        }
        if limit == usize::MAX {
            guard.check_rows(found.rows)?;
        }
        Ok(())
    };
    let join = |mut a: Found, b: Found| {
        a.rows += b.rows;
        a.pieces.extend(b.pieces);
        Ok(a)
    };
    let mut found = scan.fold(guard, touched, Found::default, each, join)?;
    found.pieces.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.times[0].cmp(&b.1.times[0])));

    // Joined, and put in order, they take as much twice more.
    let joined: usize = found.pieces.iter().map(|(_, rows)| rows.heap_bytes()).sum();
    guard.reserve(2 * joined)?;
    // Stable, so that rows of equal time stay in the order of their series.
    let times: Vec<Time> = found.pieces.iter().flat_map(|(_, rows)| rows.times.iter().copied()).collect();
    let mut order: Vec<u32> = (0..row_number(times.len())).collect();
    order.sort_by_key(|row| times[*row as usize]);
    order.truncate(limit);
    guard.check_rows(order.len())?;
    let piece_of: Vec<u32> = (0..row_number(found.pieces.len()))
        .zip(&found.pieces)
        .flat_map(|(piece, (_, rows))| std::iter::repeat_n(piece, rows.len()))
        .collect();
    let order = UInt32Array::from(order);

    let mut columns = vec![AnswerColumn { name: "time".to_string(), role: Role::Time }];
    let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"));
    let mut arrays = vec![pick(&times, &order)];
    for tag in tags {
        let of_piece: Vec<Option<&str>> = found.pieces.iter().map(|(series, _)| series.get(tag)).collect();
        let values = order.values().iter().map(|row| of_piece[piece_of[*row as usize] as usize]);
        columns.push(AnswerColumn { name: tag.clone(), role: Role::Tag });
        arrays.push(Arc::new(values.collect::<StringArray>()));
    }
    for (at, field) in fields.iter().enumerate() {
        let data_type = data_type(field.field_type);
        let parts: Vec<ArrayRef> = found
            .pieces
            .iter()
            .map(|(_, rows)| {
                rows.columns[at].clone().unwrap_or_else(|| new_null_array(&data_type, rows.len()))
            })
            .collect();
        let borrowed: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        let values = match borrowed.as_slice() {
            [] => arrow::array::new_empty_array(&data_type),
            some => concat(some).expect("a field has one type"),
        };
        columns.push(AnswerColumn { name: field.name.clone(), role: Role::Value });
        arrays.push(pick(&values, &order));
    }
    Ok(Frame::new(columns, arrays, Vec::new()))
}

#[derive(Default)]
struct Found {
    pieces: Vec<(TagSet, Rows)>,
    rows: usize,
}

/// Rows of one query are far fewer than this: they are in memory.
fn row_number(rows: usize) -> u32 {
    u32::try_from(rows).expect("bug: the rows of a query are within its memory")
}

fn pick(array: &ArrayRef, order: &UInt32Array) -> ArrayRef {
    take(array, order, None).expect("every row of the order exists")
}
