//! What Waterclock says: docs/http-api.md, with times in nanoseconds; and what it, or something on the way to it, refuses.

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Answer {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
    #[serde(default)]
    pub stats: Stats,
    #[serde(default)]
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Column {
    pub name: String,
    pub role: Role,
    #[serde(rename = "type")]
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Time,
    Tag,
    Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Time,
    Float,
    Integer,
    Unsigned,
    Boolean,
    String,
}

impl Kind {
    pub fn is_number(self) -> bool {
        matches!(self, Kind::Float | Kind::Integer | Kind::Unsigned)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Boolean(bool),
    Integer(i64),
    /// Above the largest `i64`.
    Unsigned(u64),
    Float(f64),
    Text(String),
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Stats {
    pub series: u64,
    pub rows_read: u64,
    pub bytes_read: u64,
    pub files: u64,
    pub elapsed_ms: f64,
    #[serde(default)]
    pub rollups: Vec<RollupStats>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct RollupStats {
    pub name: String,
    pub buckets: u64,
    pub dirty_recomputed: u64,
}

impl Cell {
    pub fn is_null(&self) -> bool {
        *self == Cell::Null
    }

    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Cell::Integer(value) => Some(*value),
            _ => None,
        }
    }

    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Cell::Integer(value) => u64::try_from(*value).ok(),
            Cell::Unsigned(value) => Some(*value),
            _ => None,
        }
    }

    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Cell::Integer(value) => Some(*value as f64),
            Cell::Unsigned(value) => Some(*value as f64),
            Cell::Float(value) => Some(*value),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Cell::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// As a label says it; nothing of what is missing.
    pub fn as_text(&self) -> Option<String> {
        match self {
            Cell::Null => None,
            Cell::Boolean(value) => Some(value.to_string()),
            Cell::Integer(value) => Some(value.to_string()),
            Cell::Unsigned(value) => Some(value.to_string()),
            Cell::Float(value) => Some(value.to_string()),
            Cell::Text(text) => Some(text.clone()),
        }
    }
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Cell, D::Error> {
        from.deserialize_any(AnyCell)
    }
}

struct AnyCell;

impl Visitor<'_> for AnyCell {
    type Value = Cell;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a cell of an answer")
    }

    fn visit_unit<E>(self) -> Result<Cell, E> {
        Ok(Cell::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Cell, E> {
        Ok(Cell::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Cell, E> {
        Ok(Cell::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Cell, E> {
        Ok(i64::try_from(value).map_or(Cell::Unsigned(value), Cell::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Cell, E> {
        Ok(Cell::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Cell, E> {
        Ok(Cell::Text(value.to_string()))
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Refused {
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// From 1, columns in characters, as the server counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// Of HTTP.
    #[serde(default)]
    pub status: u16,
    /// Whether it is this plugin's fault, or that of what was sent to it, and not the server's.
    #[serde(skip)]
    pub ours: bool,
}

impl Refused {
    pub fn new(status: u16, message: impl Into<String>) -> Refused {
        Refused { message: message.into(), status, ..Refused::default() }
    }

    /// What never came to the server.
    pub fn ours(status: u16, message: impl Into<String>) -> Refused {
        Refused { ours: true, ..Refused::new(status, message) }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Refused {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the same may be granted later.
    pub fn is_passing(&self) -> bool {
        self.status == 429 || self.status >= 500
    }

    /// Everything that there is to say, in one line. The front end reads the place at its beginning.
    pub fn sentence(&self) -> String {
        let place = match (self.line, self.column) {
            (Some(line), Some(column)) => format!("line {line}, column {column}: "),
            _ => String::new(),
        };
        let hint = self.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{place}{}{hint}", self.message)
    }
}
