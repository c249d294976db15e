//! Columns of an answer, one value at a time, for the text formats.
//!
//! Invariant: whatever type the engine can answer with has a variant here; a null is `None`, whatever the type.
//! Not here: how a value looks in JSON or CSV.

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampNanosecondArray,
    UInt64Array,
};

use crate::query::{Answer, Role};
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

impl Cells {
    pub fn of(answer: &Answer) -> Vec<Cells> {
        answer.batch.columns().iter().map(Cells::of_array).collect()
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

    pub fn type_name(&self) -> &'static str {
        match self {
            Cells::Time(_) => "time",
            Cells::Float(_) => "float",
            Cells::Integer(_) => "integer",
            Cells::Unsigned(_) => "unsigned",
            Cells::Boolean(_) => "boolean",
            Cells::Text(_) => "string",
        }
    }

    pub fn get(&self, row: usize) -> Cell<'_> {
        let is_null = match self {
            Cells::Time(array) => array.is_null(row),
            Cells::Float(array) => array.is_null(row),
            Cells::Integer(array) => array.is_null(row),
            Cells::Unsigned(array) => array.is_null(row),
            Cells::Boolean(array) => array.is_null(row),
            Cells::Text(array) => array.is_null(row),
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
        }
    }
}

pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Time => "time",
        Role::Tag => "tag",
        Role::Value => "value",
    }
}
