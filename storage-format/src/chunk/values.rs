//! Decoded columns: one slot per row, in the layout that Arrow and the kernels want.
//!
//! Invariant: values and presence have one entry per row; a row without a value holds the default (0,
//! false, the empty string), and `present` is `None` exactly when no row lacks one.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use arrow::buffer::NullBuffer;

use crate::point::FieldType;
use crate::presence::Bitmap;
use crate::text::StrValues;

/// One field's value in one row, borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    Float(f64),
    Int(i64),
    UInt(u64),
    Bool(bool),
    Str(&'a str),
    Binary(&'a [u8]),
}

impl Cell<'_> {
    pub fn field_type(&self) -> FieldType {
        match self {
            Cell::Float(_) => FieldType::Float,
            Cell::Int(_) => FieldType::Int,
            Cell::UInt(_) => FieldType::UInt,
            Cell::Bool(_) => FieldType::Bool,
            Cell::Str(_) => FieldType::Str,
            Cell::Binary(_) => FieldType::Binary,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    Float(Vec<f64>),
    Int(Vec<i64>),
    UInt(Vec<u64>),
    Bool(Vec<bool>),
    /// UTF-8.
    Str(StrValues),
    Binary(StrValues),
}

impl Values {
    pub fn len(&self) -> usize {
        match self {
            Values::Float(values) => values.len(),
            Values::Int(values) => values.len(),
            Values::UInt(values) => values.len(),
            Values::Bool(values) => values.len(),
            Values::Str(values) | Values::Binary(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn field_type(&self) -> FieldType {
        match self {
            Values::Float(_) => FieldType::Float,
            Values::Int(_) => FieldType::Int,
            Values::UInt(_) => FieldType::UInt,
            Values::Bool(_) => FieldType::Bool,
            Values::Str(_) => FieldType::Str,
            Values::Binary(_) => FieldType::Binary,
        }
    }

    pub fn get(&self, row: usize) -> Option<Cell<'_>> {
        match self {
            Values::Float(values) => values.get(row).copied().map(Cell::Float),
            Values::Int(values) => values.get(row).copied().map(Cell::Int),
            Values::UInt(values) => values.get(row).copied().map(Cell::UInt),
            Values::Bool(values) => values.get(row).copied().map(Cell::Bool),
            Values::Str(values) => std::str::from_utf8(values.get(row)?).ok().map(Cell::Str),
            Values::Binary(values) => values.get(row).map(Cell::Binary),
        }
    }

    pub fn none(field_type: FieldType) -> Values {
        Values::with_capacity(field_type, 0)
    }

    /// Panics, as a bug of the caller, if it is of another type.
    pub fn push(&mut self, cell: Cell<'_>) {
        match (self, cell) {
            (Values::Float(values), Cell::Float(value)) => values.push(value),
            (Values::Int(values), Cell::Int(value)) => values.push(value),
            (Values::UInt(values), Cell::UInt(value)) => values.push(value),
            (Values::Bool(values), Cell::Bool(value)) => values.push(value),
            (Values::Str(values), Cell::Str(value)) => values.push(value.as_bytes()),
            (Values::Binary(values), Cell::Binary(value)) => values.push(value),
            (_, cell) => panic!("bug: a {} among values of another type", cell.field_type()),
        }
    }

    pub(crate) fn with_capacity(field_type: FieldType, rows: usize) -> Values {
        match field_type {
            FieldType::Float => Values::Float(Vec::with_capacity(rows)),
            FieldType::Int => Values::Int(Vec::with_capacity(rows)),
            FieldType::UInt => Values::UInt(Vec::with_capacity(rows)),
            FieldType::Bool => Values::Bool(Vec::with_capacity(rows)),
            FieldType::Str => Values::Str(StrValues::with_capacity(rows, 0)),
            FieldType::Binary => Values::Binary(StrValues::with_capacity(rows, 0)),
        }
    }

    /// What stands in rows without a value.
    pub(crate) fn add_defaults(&mut self, rows: usize) {
        match self {
            Values::Float(values) => values.resize(values.len() + rows, 0.0),
            Values::Int(values) => values.resize(values.len() + rows, 0),
            Values::UInt(values) => values.resize(values.len() + rows, 0),
            Values::Bool(values) => values.resize(values.len() + rows, false),
            Values::Str(values) | Values::Binary(values) => (0..rows).for_each(|_| values.push(&[])),
        }
    }

    /// None if they are of another type.
    pub(crate) fn append(&mut self, more: Values) -> Option<()> {
        match (self, more) {
            (Values::Float(values), Values::Float(more)) => values.extend(more),
            (Values::Int(values), Values::Int(more)) => values.extend(more),
            (Values::UInt(values), Values::UInt(more)) => values.extend(more),
            (Values::Bool(values), Values::Bool(more)) => values.extend(more),
            (Values::Str(values), Values::Str(more)) | (Values::Binary(values), Values::Binary(more)) => {
                more.iter().for_each(|value| values.push(value));
            }
            _ => return None,
        }
        Some(())
    }

    /// Puts the values at the rows that `present` names, defaults between.
    pub(crate) fn spread(self, present: &Bitmap) -> Values {
        match self {
            Values::Float(values) => Values::Float(spread(values, present)),
            Values::Int(values) => Values::Int(spread(values, present)),
            Values::UInt(values) => Values::UInt(spread(values, present)),
            Values::Bool(values) => Values::Bool(spread(values, present)),
            Values::Str(values) => Values::Str(spread_text(&values, present)),
            Values::Binary(values) => Values::Binary(spread_text(&values, present)),
        }
    }

    /// The opposite of [`Values::spread`].
    pub(crate) fn gather(&self, present: &Bitmap) -> Values {
        match self {
            Values::Float(values) => Values::Float(gather(values, present)),
            Values::Int(values) => Values::Int(gather(values, present)),
            Values::UInt(values) => Values::UInt(gather(values, present)),
            Values::Bool(values) => Values::Bool(gather(values, present)),
            Values::Str(values) => Values::Str(gather_text(values, present)),
            Values::Binary(values) => Values::Binary(gather_text(values, present)),
        }
    }
}

fn spread_text(values: &StrValues, present: &Bitmap) -> StrValues {
    let mut values = values.iter();
    present.iter().map(|has| pick(has, &mut values)).collect()
}

fn gather_text(values: &StrValues, present: &Bitmap) -> StrValues {
    values.iter().zip(present.iter()).filter(|(_, has)| *has).map(|(value, _)| value).collect()
}

fn spread<T: Default>(values: Vec<T>, present: &Bitmap) -> Vec<T> {
    let mut values = values.into_iter();
    present.iter().map(|has| pick(has, &mut values)).collect()
}

fn pick<T: Default>(has: bool, values: &mut impl Iterator<Item = T>) -> T {
    if has { values.next().unwrap_or_default() } else { T::default() }
}

fn gather<T: Copy>(values: &[T], present: &Bitmap) -> Vec<T> {
    values.iter().zip(present.iter()).filter(|(_, has)| *has).map(|(value, _)| *value).collect()
}

#[derive(Clone, Debug, PartialEq)]
pub struct ColumnValues {
    pub values: Values,
    /// `None`: every row has a value.
    pub present: Option<NullBuffer>,
}

impl ColumnValues {
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn field_type(&self) -> FieldType {
        self.values.field_type()
    }

    pub fn has(&self, row: usize) -> bool {
        row < self.len() && self.present.as_ref().is_none_or(|present| present.is_valid(row))
    }

    pub fn get(&self, row: usize) -> Option<Cell<'_>> {
        if self.has(row) { self.values.get(row) } else { None }
    }
}
