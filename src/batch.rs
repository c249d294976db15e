//! The points of one request, after parsing: names are numbers, types are checked.
//!
//! Invariant: every series, column and type in here is registered (see `series`); rows of one series keep
//! the order of the request, so that the last of equal times wins.
//! Not here: how points stand in bytes (`storage_format::wal`).

use std::sync::Arc;

use storage_format::point::Time;
use storage_format::wal::{PointRow, Points};

use crate::series::Pin;
use crate::series::Table;

#[derive(Default)]
pub struct Batch {
    pub parts: Vec<BatchPart>,
    /// Keeps the series from being forgotten. None while the log is read back, when nothing is.
    pub pin: Option<Pin>,
}

/// The rows of one table.
pub struct BatchPart {
    pub table: Arc<Table>,
    pub points: Points,
    /// They had expired when they came: only rollups take them.
    pub late: bool,
}

impl BatchPart {
    pub fn new(table: Arc<Table>, points: Points) -> BatchPart {
        BatchPart { table, points, late: false }
    }

    /// The points from a time on, and apart from them those before it, which are late.
    pub fn split(
        table: Arc<Table>,
        mut points: Points,
        late_before: Time,
    ) -> impl Iterator<Item = BatchPart> {
        let is_late = |row: &PointRow| row.time < late_before;
        let late = match points.rows.iter().filter(|row| is_late(row)).count() {
            0 => Points::default(),
            all if all == points.rows.len() => std::mem::take(&mut points),
            _ => points.take(&table.column_types(), is_late),
        };
        let parts = [(points, false), (late, true)].into_iter().filter(|(points, _)| !points.rows.is_empty());
        parts.map(move |(points, late)| BatchPart { table: Arc::clone(&table), points, late })
    }
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    pub fn has_late(&self) -> bool {
        self.parts.iter().any(|part| part.late)
    }

    pub fn late_rows(&self) -> usize {
        self.parts.iter().filter(|part| part.late).map(|part| part.points.rows.len()).sum()
    }

    pub fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.points.rows.len()).sum()
    }

    pub fn values(&self) -> usize {
        let of_row = |points: &Points, row: &PointRow| points.row(row).0.len();
        let of_part =
            |part: &BatchPart| part.points.rows.iter().map(|row| of_row(&part.points, row)).sum::<usize>();
        self.parts.iter().map(of_part).sum()
    }

    /// About what it takes in memory while it waits for the disk.
    pub fn bytes(&self) -> usize {
        let of_part = |part: &BatchPart| {
            size_of_val(part.points.rows.as_slice()) + part.points.values.len() * 8 + part.points.text.len()
        };
        self.parts.iter().map(of_part).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Registry;
    use storage_format::point::FieldType;
    use storage_format::wal::StrRef;

    #[test]
    fn late_rows_take_nothing_along_that_is_not_theirs() {
        let registry = Registry::default();
        let table = registry.table_or_new(&registry.database_or_new("db"), "t");
        table.restore_column("n", FieldType::Int);
        table.restore_column("s", FieldType::Str);
        let row = |time: i64| PointRow { time, series: 0, layout: 0, values: time as u32 * 2 };
        let points = Points {
            layouts: vec![vec![0, 1]],
            rows: (0..3).map(row).collect(),
            values: (0..3).flat_map(|at| [at as u64 * 10, StrRef::new(at * 3, 3).0]).collect(),
            text: b"onetwosix".to_vec(),
        };
        let shown = |part: &BatchPart| -> Vec<(bool, i64, u64, String)> {
            let of_row = |row: &PointRow| {
                let values = part.points.row(row).1;
                let text = StrRef(values[1]).in_text(&part.points.text);
                (part.late, row.time, values[0], String::from_utf8(text.to_vec()).unwrap())
            };
            part.points.rows.iter().map(of_row).collect()
        };
        for (late_before, late_text) in [(0, None), (2, Some("onetwo")), (3, Some("onetwosix"))] {
            let parts: Vec<BatchPart> =
                BatchPart::split(Arc::clone(&table), points.clone(), late_before).collect();
            let mut all: Vec<_> = parts.iter().flat_map(shown).collect();
            all.sort_by_key(|row| row.1);
            let expected = [(0, "one"), (10, "two"), (20, "six")];
            let expected =
                expected.iter().zip(0..).map(|((n, s), time)| (time < late_before, time, *n, s.to_string()));
            assert_eq!(all, expected.collect::<Vec<_>>());
            let late = parts.iter().find(|part| part.late);
            assert_eq!(late.map(|part| part.points.text.as_slice()), late_text.map(str::as_bytes));
            assert_eq!(Batch { parts, pin: None }.values(), 6);
        }
    }
}
