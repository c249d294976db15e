//! Rows of one series as columns, and their merge by last write wins.
//!
//! Invariant: times ascend strictly; each column has one entry per row, null where the row does not carry
//! the field; a column is None where no row does.
//! Not here: where rows come from (`head`, `blocks`) and what is computed from them (`query`).

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int64Array, MutableArrayData,
    StringArray, UInt64Array, make_array, new_null_array,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::{FilterBuilder, concat, interleave};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use storage_format::chunk::{ColumnValues, Values};
use storage_format::point::{Time, TimeRange};

/// The NaN by which Prometheus says that a series has ended.
pub const STALE_MARKER_BITS: u64 = 0x7ff0_0000_0000_0002;

#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub times: ScalarBuffer<Time>,
    pub columns: Vec<Option<ArrayRef>>,
}

/// Neighbouring rows of others, as they stand there: slices of their own would cost an allocation per series and column.
#[derive(Clone, Debug)]
pub struct Span<'a> {
    pub of: &'a Rows,
    pub rows: Range<usize>,
}

/// Who wins where two sources have a value for the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// The later source's fields; fields it lacks keep the earlier source's value. Points merge so.
    Field,
    /// The later source's whole row. Rollup states merge so.
    Row,
}

impl Rows {
    pub fn len(&self) -> usize {
        self.times.len()
    }

    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    pub fn slice(&self, start: usize, len: usize) -> Rows {
        let slice = |column: &Option<ArrayRef>| column.as_ref().map(|array| array.slice(start, len));
        Rows { times: self.times.slice(start, len), columns: self.columns.iter().map(slice).collect() }
    }

    /// Only the rows inside the range.
    pub fn cut(&self, range: TimeRange) -> Rows {
        let start = self.times.partition_point(|time| *time < range.start);
        let end = self.times.partition_point(|time| *time < range.end);
        if start == 0 && end == self.len() { self.clone() } else { self.slice(start, end.max(start) - start) }
    }

    /// Without the rows inside any of the ranges.
    pub fn without(&self, ranges: &[TimeRange]) -> Rows {
        if !ranges.iter().any(|range| self.times.iter().any(|time| range.contains(*time))) {
            return self.clone();
        }
        let keep = |time: &Time| !ranges.iter().any(|range| range.contains(*time));
        self.filter(&BooleanArray::from_iter(self.times.iter().map(|time| Some(keep(time)))))
    }

    /// Only the rows that the mask, which has no nulls, lets pass.
    pub fn filter(&self, passes: &BooleanArray) -> Rows {
        // What the mask says is looked up once for all columns.
        let passes = FilterBuilder::new(passes).optimize().build();
        let kept = |array: &dyn Array| passes.filter(array).expect("the mask has one entry per row");
        let times = kept(&Int64Array::new(self.times.clone(), None));
        Rows {
            times: times.as_primitive::<Int64Type>().values().clone(),
            columns: self.columns.iter().map(|column| column.as_deref().map(kept)).collect(),
        }
    }

    /// The first `wanted` columns without stale markers, and without the rows of which nothing but a marker was read. A row
    /// of which nothing was read has a value in another column, such as a native histogram.
    pub fn without_stale_markers(mut self, wanted: usize) -> Rows {
        let is_marker = |value: f64| value.to_bits() == STALE_MARKER_BITS;
        let mut marked = Vec::new();
        for array in self.columns.iter_mut().flatten() {
            let Some(floats) = array.as_primitive_opt::<Float64Type>() else { continue };
            // One pass without branches over values that nearly always are none.
            if floats.values().iter().fold(false, |any, value| any | is_marker(*value)) {
                marked.resize(floats.len(), false);
                let markers = floats.iter().map(|value| value.is_some_and(is_marker));
                marked.iter_mut().zip(markers).for_each(|(marked, marker)| *marked |= marker);
                let value = |value: Option<f64>| value.filter(|value| !is_marker(*value));
                *array = Arc::new(floats.iter().map(value).collect::<Float64Array>());
            }
        }
        if !marked.is_empty() {
            let holds = |row: usize| self.columns.iter().flatten().any(|array| array.is_valid(row));
            let rows = marked.iter().enumerate();
            let holding = BooleanArray::from_iter(rows.map(|(row, marked)| Some(!marked || holds(row))));
            self = self.filter(&holding);
        }
        self.columns.truncate(wanted);
        self
    }

    /// The rows of all of these, one after the other, in buffers of their own. A column is there in all of them or in none.
    pub fn joined(parts: &[Rows]) -> Rows {
        let columns = parts.first().map_or(0, |rows| rows.columns.len());
        let column = |at: usize| {
            let arrays: Option<Vec<&dyn Array>> =
                parts.iter().map(|rows| rows.columns[at].as_deref()).collect();
            Some(concat(&arrays?).expect("a column has one type"))
        };
        Rows {
            times: parts.iter().flat_map(|rows| rows.times.iter().copied()).collect(),
            columns: (0..columns).map(column).collect(),
        }
    }

    /// The same rows in buffers of their own.
    pub fn copied(&self) -> Rows {
        let copy = |array: &ArrayRef| {
            let data = array.to_data();
            let mut copy = MutableArrayData::new(vec![&data], false, data.len());
            copy.try_extend(0, 0, data.len()).expect("as much as there was fits");
            make_array(copy.freeze())
        };
        Rows {
            times: self.times.iter().copied().collect(),
            columns: self.columns.iter().map(|column| column.as_ref().map(copy)).collect(),
        }
    }

    /// What the rows take, and not the buffers that they may be slices of.
    pub fn heap_bytes(&self) -> usize {
        let of_array = |array: &ArrayRef| array.to_data().get_slice_memory_size().unwrap_or_default();
        self.times.len() * 8 + self.columns.iter().flatten().map(of_array).sum::<usize>()
    }
}

impl<'a> Span<'a> {
    pub fn all(of: &'a Rows) -> Span<'a> {
        Span { of, rows: 0..of.len() }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn times(&self) -> &'a [Time] {
        &self.of.times[self.rows.clone()]
    }

    /// From the first time to just after the last. There must be rows.
    pub fn hull(&self) -> TimeRange {
        TimeRange::new(self.of.times[self.rows.start], self.of.times[self.rows.end - 1].saturating_add(1))
    }

    /// Only the rows inside the range.
    pub fn cut(&self, range: TimeRange) -> Span<'a> {
        let times = self.times();
        let start = times.partition_point(|time| *time < range.start);
        let end = times.partition_point(|time| *time < range.end).max(start);
        Span { of: self.of, rows: self.rows.start + start..self.rows.start + end }
    }

    pub fn to_rows(&self) -> Rows {
        if self.rows == (0..self.of.len()) {
            self.of.clone()
        } else {
            self.of.slice(self.rows.start, self.len())
        }
    }
}

/// Puts pieces in the order of time. False, and in no order, if some overlap: those have to be merged.
pub fn put_in_order(spans: &mut [Span<'_>]) -> bool {
    spans.sort_by_key(|span| span.times()[0]);
    spans.windows(2).all(|pair| pair[0].hull().end <= pair[1].times()[0])
}

/// Sources, the one that wins last, become pieces that do not overlap and ascend. Sources that do not overlap
/// (the common case) are passed through.
pub fn in_time_order(mut sources: Vec<Rows>, merge: Merge) -> Vec<Rows> {
    sources.retain(|rows| !rows.is_empty());
    if sources.len() <= 1 {
        return sources;
    }
    // A stable sort by start keeps the order of priority within a cluster only for equal starts, so carry it.
    let mut ranked: Vec<(usize, Rows)> = sources.into_iter().enumerate().collect();
    ranked.sort_by_key(|(_, rows)| rows.times[0]);
    let mut pieces = Vec::with_capacity(ranked.len());
    let mut cluster: Vec<(usize, Rows)> = Vec::new();
    let mut cluster_end = Time::MIN;
    for (rank, rows) in ranked {
        if !cluster.is_empty() && rows.times[0] > cluster_end {
            pieces.push(merge_cluster(std::mem::take(&mut cluster), merge));
        }
        cluster_end = cluster_end.max(rows.times[rows.len() - 1]);
        cluster.push((rank, rows));
    }
    pieces.push(merge_cluster(cluster, merge));
    pieces
}

fn merge_cluster(mut cluster: Vec<(usize, Rows)>, merge: Merge) -> Rows {
    cluster.sort_by_key(|(rank, _)| *rank);
    let mut rows: Vec<Rows> = cluster.into_iter().map(|(_, rows)| rows).collect();
    // Neighbours in pairs, round after round: each row is copied once a round, not once a source.
    while rows.len() > 1 {
        let pair = |pair: &[Rows]| match pair {
            [older, newer] => merge_two(older, newer, merge),
            rest => rest.first().cloned().unwrap_or_default(),
        };
        rows = rows.chunks(2).map(pair).collect();
    }
    rows.pop().unwrap_or_default()
}

/// Where a merged row comes from: a row of the older source, of the newer, or of both.
struct Origin {
    older: Option<usize>,
    newer: Option<usize>,
}

fn merge_two(older: &Rows, newer: &Rows, merge: Merge) -> Rows {
    let mut times = Vec::with_capacity(older.len() + newer.len());
    let mut origins = Vec::with_capacity(older.len() + newer.len());
    let (mut a, mut b) = (0, 0);
    while a < older.len() || b < newer.len() {
        let time_a = older.times.get(a).copied().unwrap_or(Time::MAX);
        let time_b = newer.times.get(b).copied().unwrap_or(Time::MAX);
        times.push(time_a.min(time_b));
        let mut origin = Origin { older: None, newer: None };
        if time_a <= time_b {
            origin.older = Some(a);
            a += 1;
        }
        if time_b <= time_a {
            origin.newer = Some(b);
            b += 1;
        }
        origins.push(origin);
    }
    let newest = |origin: &Origin| match (origin.older, origin.newer) {
        (_, Some(row)) => (1, row),
        (row, None) => (0, row.unwrap_or_default()),
    };
    let newest: Vec<(usize, usize)> = origins.iter().map(newest).collect();
    let columns = older.columns.len().max(newer.columns.len());
    let column = |index: usize| {
        let of = |rows: &Rows| rows.columns.get(index).cloned().flatten();
        match (of(older), of(newer)) {
            // Most columns: whatever the newer source has for a time wins.
            (Some(older), Some(newer))
                if merge == Merge::Row || older.null_count() + newer.null_count() == 0 =>
            {
                Some(interleave(&[older.as_ref(), newer.as_ref()], &newest).expect(ONE_TYPE))
            }
            (older, newer) => merge_column(older, newer, &origins, merge),
        }
    };
    Rows { times: times.into(), columns: (0..columns).map(column).collect() }
}

fn merge_column(
    older: Option<ArrayRef>,
    newer: Option<ArrayRef>,
    origins: &[Origin],
    merge: Merge,
) -> Option<ArrayRef> {
    let data_type = older.as_ref().or(newer.as_ref())?.data_type().clone();
    let none = new_null_array(&data_type, 1);
    let has = |array: &Option<ArrayRef>, row: usize| array.as_ref().is_some_and(|array| array.is_valid(row));
    let pick = |origin: &Origin| match (origin.older, origin.newer) {
        (_, Some(row)) if has(&newer, row) => (1, row),
        (Some(row), newer_row) if (newer_row.is_none() || merge == Merge::Field) && has(&older, row) => {
            (0, row)
        }
        _ => (2, 0),
    };
    let picks: Vec<(usize, usize)> = origins.iter().map(pick).collect();
    let older = older.as_ref().unwrap_or(&none);
    let newer = newer.as_ref().unwrap_or(&none);
    let merged = interleave(&[older.as_ref(), newer.as_ref(), none.as_ref()], &picks);
    Some(merged.expect(ONE_TYPE))
}

const ONE_TYPE: &str = "both sources of a column have the field's type";

/// A decoded chunk column, without copying its values.
pub fn to_array(column: ColumnValues) -> ArrayRef {
    let nulls = column.present;
    match column.values {
        Values::Float(values) => Arc::new(Float64Array::new(values.into(), nulls)),
        Values::Int(values) => Arc::new(Int64Array::new(values.into(), nulls)),
        Values::UInt(values) => Arc::new(UInt64Array::new(values.into(), nulls)),
        Values::Bool(values) => Arc::new(BooleanArray::new(values.into(), nulls)),
        Values::Str(values) => {
            let (text, offsets) = values.into_parts();
            Arc::new(StringArray::new(OffsetBuffer::new(offsets.into()), text.into(), nulls))
        }
        Values::Binary(values) => {
            let (bytes, offsets) = values.into_parts();
            Arc::new(BinaryArray::new(OffsetBuffer::new(offsets.into()), bytes.into(), nulls))
        }
    }
}

/// The opposite of [`to_array`], for chunks that are made from merged rows.
pub fn from_array(array: &ArrayRef) -> ColumnValues {
    let values = match array.data_type() {
        DataType::Float64 => Values::Float(array.as_primitive::<Float64Type>().values().to_vec()),
        DataType::Int64 => Values::Int(array.as_primitive::<Int64Type>().values().to_vec()),
        DataType::UInt64 => Values::UInt(array.as_primitive::<UInt64Type>().values().to_vec()),
        DataType::Boolean => Values::Bool(array.as_boolean().values().iter().collect()),
        DataType::Utf8 => {
            let texts = array.as_string::<i32>();
            Values::Str(texts.iter().map(Option::unwrap_or_default).collect())
        }
        DataType::Binary => {
            let values = array.as_binary::<i32>();
            Values::Binary(values.iter().map(Option::unwrap_or_default).collect())
        }
        other => unreachable!("bug: no field has the type {other}"),
    };
    ColumnValues { values, present: array.nulls().filter(|nulls| nulls.null_count() > 0).cloned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(entries: &[(Time, Option<f64>, Option<i64>)]) -> Rows {
        Rows {
            times: entries.iter().map(|entry| entry.0).collect(),
            columns: vec![
                Some(Arc::new(Float64Array::from_iter(entries.iter().map(|entry| entry.1)))),
                Some(Arc::new(Int64Array::from_iter(entries.iter().map(|entry| entry.2)))),
            ],
        }
    }

    fn show(rows: &Rows) -> String {
        let cell = |column: &Option<ArrayRef>, row: usize| {
            let array = column.as_ref().unwrap();
            arrow::util::display::array_value_to_string(array, row).unwrap()
        };
        let row = |index: usize| {
            format!(
                "{}:{}/{}",
                rows.times[index],
                cell(&rows.columns[0], index),
                cell(&rows.columns[1], index)
            )
        };
        (0..rows.len()).map(row).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_later_source_wins_per_field_or_per_row() {
        let older = rows(&[(1, Some(1.0), Some(1)), (2, Some(2.0), Some(2)), (4, Some(4.0), None)]);
        let newer = rows(&[(2, Some(20.0), None), (3, None, Some(30))]);
        let merged = in_time_order(vec![older.clone(), newer.clone()], Merge::Field);
        assert_eq!(show(&merged[0]), "1:1.0/1 2:20.0/2 3:/30 4:4.0/");
        let merged = in_time_order(vec![older.clone(), newer.clone()], Merge::Row);
        assert_eq!(show(&merged[0]), "1:1.0/1 2:20.0/ 3:/30 4:4.0/");
        let merged = in_time_order(vec![newer, older], Merge::Field);
        assert_eq!(show(&merged[0]), "1:1.0/1 2:2.0/2 3:/30 4:4.0/");
    }

    #[test]
    fn sources_apart_are_only_put_in_order() {
        let late = rows(&[(7, Some(7.0), None)]);
        let early = rows(&[(1, Some(1.0), None), (2, Some(2.0), None)]);
        let pieces = in_time_order(vec![late, early], Merge::Field);
        assert_eq!(pieces.iter().map(show).collect::<Vec<_>>(), ["1:1.0/ 2:2.0/", "7:7.0/"]);
    }

    #[test]
    fn a_stale_marker_is_no_value() {
        let marker = f64::from_bits(STALE_MARKER_BITS);
        let all = rows(&[
            (1, Some(1.0), None),
            (2, Some(marker), None),
            (3, Some(marker), Some(3)),
            (4, Some(f64::NAN), None),
            (5, None, None),
        ]);
        assert_eq!(show(&all.clone().without_stale_markers(2)), "1:1.0/ 3:/3 4:NaN/ 5:/");
        assert_eq!(all.without_stale_markers(1).columns.len(), 1);
    }

    #[test]
    fn deleted_ranges_leave_the_rest() {
        let all = rows(&[(1, Some(1.0), None), (2, Some(2.0), Some(2)), (3, Some(3.0), None)]);
        assert_eq!(show(&all.without(&[TimeRange::new(2, 3)])), "1:1.0/ 3:3.0/");
        assert_eq!(show(&all.cut(TimeRange::new(2, 9))), "2:2.0/2 3:3.0/");
    }
}
