//! Rows as series: one for each value column and group of tags.
//!
//! Rows of buckets become one wide frame, where a missing row is null and shows as a gap. Points stand at times of their own and become one
//! frame for each series, in which nothing is missing.

use std::collections::{BTreeSet, HashMap};

use crate::answer::{Answer, Cell, Column, Role};
use crate::frame::{Field, Frame, Labels, Values};

use super::table::values;
use super::{Shape, meta};

const WIDE: (&str, [u32; 2]) = ("timeseries-wide", [0, 1]);
const MULTI: (&str, [u32; 2]) = ("timeseries-multi", [0, 1]);

/// Cells of a wide frame. Over it, few groups have rows at the same times, and a frame for each is smaller.
const WIDE_CELLS_MAX: usize = 4_000_000;

type Row = [Cell];

struct Group<'a> {
    labels: Labels,
    /// By time.
    rows: Vec<(i64, &'a Row)>,
}

pub fn time_series(answer: &Answer, shape: &Shape<'_>) -> Vec<Frame> {
    let columns: Vec<(usize, &Column)> =
        answer.columns.iter().enumerate().filter(|(_, column)| column.role == Role::Value).collect();
    let groups = grouped(answer);
    let in_windows = shape.statement.has_window();
    if in_windows {
        let times: BTreeSet<i64> =
            groups.iter().flat_map(|group| group.rows.iter().map(|(time, _)| *time)).collect();
        if times.len() * groups.len() * columns.len() <= WIDE_CELLS_MAX {
            return vec![wide(&groups, &times.into_iter().collect::<Vec<_>>(), &columns, shape)];
        }
    }
    let frame = |group: &Group<'_>, at: usize, column: &Column| {
        let rows = group.rows.iter().filter(|(_, row)| in_windows || !row[at].is_null());
        let (times, cells): (Vec<Option<i64>>, Vec<&Cell>) =
            rows.map(|(time, row)| (Some(*time), &row[at])).unzip();
        Frame {
            ref_id: shape.ref_id.to_string(),
            meta: meta(Some(MULTI), "graph"),
            fields: vec![
                Field::new("time", Values::Time(times)),
                value(column, &group.labels, &cells, shape),
            ],
        }
    };
    let each = groups.iter().flat_map(|group| columns.iter().map(move |(at, column)| (group, *at, *column)));
    each.map(|(group, at, column)| frame(group, at, column)).collect()
}

fn wide(groups: &[Group<'_>], times: &[i64], columns: &[(usize, &Column)], shape: &Shape<'_>) -> Frame {
    let mut fields = vec![Field::new("time", Values::Time(times.iter().copied().map(Some).collect()))];
    for group in groups {
        let places: Vec<usize> =
            group.rows.iter().map(|(time, _)| times.binary_search(time).unwrap_or_default()).collect();
        for (at, column) in columns {
            let mut cells = vec![&Cell::Null; times.len()];
            for (place, (_, row)) in places.iter().zip(&group.rows) {
                cells[*place] = &row[*at];
            }
            fields.push(value(column, &group.labels, &cells, shape));
        }
    }
    Frame { ref_id: shape.ref_id.to_string(), meta: meta(Some(WIDE), "graph"), fields }
}

fn value(column: &Column, labels: &Labels, cells: &[&Cell], shape: &Shape<'_>) -> Field {
    Field {
        name: column.name.clone(),
        labels: Some(labels.clone()),
        config: shape.config(column, labels),
        values: values(column.kind, cells.iter().copied()),
    }
}

/// In the order in which they first appear.
fn grouped(answer: &Answer) -> Vec<Group<'_>> {
    let time_at = answer.columns.iter().position(|column| column.role == Role::Time).unwrap_or_default();
    let tags: Vec<(usize, &str)> = answer
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.role == Role::Tag)
        .map(|(at, column)| (at, column.name.as_str()))
        .collect();
    let mut places: HashMap<Vec<&str>, usize> = HashMap::new();
    let mut groups: Vec<Group<'_>> = Vec::new();
    for row in &answer.rows {
        // A missing tag is the empty text.
        let tag = |at: usize| match &row[at] {
            Cell::Text(text) => text.as_str(),
            _ => "",
        };
        let key: Vec<&str> = tags.iter().map(|(at, _)| tag(*at)).collect();
        let place = *places.entry(key).or_insert_with_key(|key| {
            let named = tags.iter().zip(key).filter(|(_, value)| !value.is_empty());
            let labels = named.map(|((_, name), value)| (name.to_string(), value.to_string())).collect();
            groups.push(Group { labels, rows: Vec::new() });
            groups.len() - 1
        });
        groups[place].rows.push((row[time_at].as_i64().unwrap_or_default(), row));
    }
    for group in &mut groups {
        group.rows.sort_by_key(|(time, _)| *time);
    }
    groups
}
