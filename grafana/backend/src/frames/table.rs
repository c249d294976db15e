//! Rows as they are: a field per column.

use crate::answer::{Answer, Cell, Kind, Role};
use crate::frame::{Field, Frame, Labels, Values};

use super::{Shape, meta};

const NUMERIC_LONG: (&str, [u32; 2]) = ("numeric-long", [0, 1]);

pub fn table(answer: &Answer, shape: &Shape<'_>) -> Frame {
    Frame { ref_id: shape.ref_id.to_string(), meta: meta(None, "table"), fields: fields(answer, shape) }
}

/// Numbers without a time, one row per group: what stat panels and alerts take.
pub fn numeric_long(answer: &Answer, shape: &Shape<'_>) -> Frame {
    Frame { meta: meta(Some(NUMERIC_LONG), "table"), ..table(answer, shape) }
}

fn fields(answer: &Answer, shape: &Shape<'_>) -> Vec<Field> {
    let field = |(at, column): (usize, &crate::answer::Column)| {
        let mut config = shape.config(column, &Labels::new());
        // A legend names series, and here are none.
        config.remove("displayNameFromDS");
        if column.role != Role::Value {
            config.remove("unit");
        }
        Field {
            config,
            ..Field::new(&column.name, values(column.kind, answer.rows.iter().map(|row| &row[at])))
        }
    };
    answer.columns.iter().enumerate().map(field).collect()
}

pub fn values<'a>(kind: Kind, cells: impl Iterator<Item = &'a Cell>) -> Values {
    match kind {
        Kind::Time => Values::Time(cells.map(Cell::as_i64).collect()),
        Kind::Float => Values::Float(cells.map(Cell::as_f64).collect()),
        Kind::Integer => Values::Integer(cells.map(Cell::as_i64).collect()),
        Kind::Unsigned => Values::Unsigned(cells.map(Cell::as_u64).collect()),
        Kind::Boolean => Values::Boolean(cells.map(Cell::as_bool).collect()),
        Kind::String => Values::Text(cells.map(Cell::as_text).collect()),
    }
}
