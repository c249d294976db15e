//! One data frame: columns with names, labels and settings, as Grafana's data plane contract wants them.
//!
//! Invariant: all fields have the same length. It travels as a file of Arrow (`arrow`), and on streams as JSON (`json`).

mod arrow;
mod json;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub use arrow::to_arrow;
pub use json::to_json;

pub type Labels = BTreeMap<String, String>;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    pub ref_id: String,
    /// In Grafana's names: `type`, `notices` and so on.
    pub meta: Map<String, Value>,
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: String,
    pub labels: Option<Labels>,
    /// In Grafana's names: `unit`, `displayNameFromDS`.
    pub config: Map<String, Value>,
    pub values: Values,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Nanoseconds since 1970.
    Time(Vec<Option<i64>>),
    Float(Vec<Option<f64>>),
    Integer(Vec<Option<i64>>),
    Unsigned(Vec<Option<u64>>),
    Boolean(Vec<Option<bool>>),
    Text(Vec<Option<String>>),
    /// Objects.
    Json(Vec<Value>),
}

impl Field {
    pub fn new(name: &str, values: Values) -> Field {
        Field { name: name.to_string(), labels: None, config: Map::new(), values }
    }
}
