//! Values that a request gives to the `$name`s of its statements.
//!
//! Invariant: a value is bound where an expression stands and never becomes text of a statement; the elements of a list
//! are single values.
//! Not here: how a request writes them (the door's `params`).

use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq)]
pub enum ParamValue {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    List(Vec<ParamValue>),
}

/// By name, without the `$`.
pub type Params = BTreeMap<String, ParamValue>;

/// Of a statement that gets none.
pub static NO_PARAMS: Params = Params::new();
