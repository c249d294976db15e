//! Columns of a batch, one value at a time, for the text formats.
//!
//! Invariant: whatever type the engine can answer with has a variant here; a null is `None`, whatever the type. The texts of
//! tags, which come again in row after row, are put into the form's words once.
//! Not here: how a value looks in JSON or CSV.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Int32Type};

use crate::query::Role;
use crate::server::params::Params;
use crate::server::reply::Failure;

#[derive(Clone, Debug)]
pub enum Cells {
    Time(TimestampNanosecondArray),
    Float(Float64Array),
    Integer(Int64Array),
    Unsigned(UInt64Array),
    Boolean(BooleanArray),
    Text(StringArray),
    /// Numbers of texts.
    Tag(Int32Array, Arc<Written>),
}

/// Texts in the words of a form, one after another.
#[derive(Debug)]
pub struct Written {
    texts: ArrayRef,
    bytes: Vec<u8>,
    /// Where each one ends.
    ends: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    Null,
    Time(i64),
    Float(f64),
    Integer(i64),
    Unsigned(u64),
    Boolean(bool),
    Text(&'a str),
    /// Already in the words of the form.
    Written(&'a [u8]),
}

/// How times are written. The units are whole numbers since 1970 UTC, rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    Rfc3339,
    Unit(i64),
}

impl TimeFormat {
    pub fn of(params: &Params) -> Result<TimeFormat, Failure> {
        Ok(match params.get("time") {
            None | Some("rfc3339") => TimeFormat::Rfc3339,
            Some("ns") => TimeFormat::Unit(1),
            Some("us") => TimeFormat::Unit(1_000),
            Some("ms") => TimeFormat::Unit(1_000_000),
            Some("s") => TimeFormat::Unit(1_000_000_000),
            Some(other) => {
                return Err(Failure::parameter(format!("time is {other:?}; give rfc3339, ns, us, ms or s")));
            }
        })
    }
}

impl Written {
    fn new(texts: &ArrayRef, write: fn(&mut Vec<u8>, &str)) -> Written {
        let mut written = Written { texts: Arc::clone(texts), bytes: Vec::new(), ends: Vec::new() };
        for text in texts.as_string::<i32>() {
            write(&mut written.bytes, text.unwrap_or_default());
            written.ends.push(written.bytes.len());
        }
        written
    }

    fn get(&self, number: usize) -> &[u8] {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[number]]
    }
}

impl Cells {
    /// `before` are those of the batch before, `write` puts a text into the words of the form.
    pub fn of(batch: &RecordBatch, before: &[Cells], write: fn(&mut Vec<u8>, &str)) -> Vec<Cells> {
        let cells = |(at, array): (usize, &ArrayRef)| match array.as_dictionary_opt::<Int32Type>() {
            None => Cells::of_array(array),
            Some(numbered) => {
                let known = before.get(at).and_then(|before| match before {
                    Cells::Tag(_, written) if Arc::ptr_eq(&written.texts, numbered.values()) => Some(written),
                    _ => None,
                });
                let written = known.cloned();
                let written = written.unwrap_or_else(|| Arc::new(Written::new(numbered.values(), write)));
                Cells::Tag(numbered.keys().clone(), written)
            }
        };
        batch.columns().iter().enumerate().map(cells).collect()
    }

    fn of_array(array: &ArrayRef) -> Cells {
        fn cast<T: Clone + 'static>(array: &ArrayRef) -> Option<T> {
            array.as_any().downcast_ref::<T>().cloned()
        }
        None.or_else(|| cast(array).map(Cells::Time))
            .or_else(|| cast(array).map(Cells::Float))
            .or_else(|| cast(array).map(Cells::Integer))
            .or_else(|| cast(array).map(Cells::Unsigned))
            .or_else(|| cast(array).map(Cells::Boolean))
            .or_else(|| cast(array).map(Cells::Text))
            .unwrap_or_else(|| panic!("bug: no cells for the type {}", array.data_type()))
    }

    pub fn get(&self, row: usize) -> Cell<'_> {
        let is_null = match self {
            Cells::Time(array) => array.is_null(row),
            Cells::Float(array) => array.is_null(row),
            Cells::Integer(array) => array.is_null(row),
            Cells::Unsigned(array) => array.is_null(row),
            Cells::Boolean(array) => array.is_null(row),
            Cells::Text(array) => array.is_null(row),
            Cells::Tag(numbers, _) => numbers.is_null(row),
        };
        if is_null {
            return Cell::Null;
        }
        match self {
            Cells::Time(array) => Cell::Time(array.value(row)),
            Cells::Float(array) => Cell::Float(array.value(row)),
            Cells::Integer(array) => Cell::Integer(array.value(row)),
            Cells::Unsigned(array) => Cell::Unsigned(array.value(row)),
            Cells::Boolean(array) => Cell::Boolean(array.value(row)),
            Cells::Text(array) => Cell::Text(array.value(row)),
            Cells::Tag(numbers, written) => Cell::Written(written.get(numbers.value(row) as usize)),
        }
    }
}

/// What the language calls the type of a column.
pub fn type_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Timestamp(..) => "time",
        DataType::Float64 => "float",
        DataType::Int64 => "integer",
        DataType::UInt64 => "unsigned",
        DataType::Boolean => "boolean",
        _ => "string",
    }
}

pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Time => "time",
        Role::Tag => "tag",
        Role::Value => "value",
    }
}
