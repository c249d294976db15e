//! Values to line protocol: what `export` writes and `import` sends.
//!
//! Invariant: what is written here is read back as the same names and values, or refused by name: line protocol cannot
//! say everything.
//! Not here: reading it (`ingest`).

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};

/// A line under construction. Tags come first, then fields, then the time.
pub struct LineText {
    pub text: Vec<u8>,
    /// Where the line begins.
    start: usize,
    fields: usize,
    /// Why the line cannot be written.
    flaw: Option<String>,
}

impl LineText {
    pub fn new() -> LineText {
        LineText { text: Vec::new(), start: 0, fields: 0, flaw: None }
    }

    pub fn begin(&mut self, table: &str) {
        self.start = self.text.len();
        (self.fields, self.flaw) = (0, None);
        if table.starts_with(['#', ' ', '\t']) {
            self.flaw = Some(format!("a table cannot be called {table:?} in line protocol"));
        }
        self.name(table, b", ");
    }

    /// An empty value is a missing tag.
    pub fn tag(&mut self, key: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        self.text.push(b',');
        self.name(key, b",= ");
        self.text.push(b'=');
        self.name(value, b",= ");
    }

    /// Bytes of the lines that have ended.
    pub fn written(&self) -> usize {
        self.start
    }

    fn name(&mut self, name: &str, delimiters: &[u8]) {
        if name.is_empty() || name.ends_with('\\') || name.contains(['\n', '\r', '\0']) {
            self.flaw = Some(format!("line protocol cannot say {name:?} as a name or tag value"));
        }
        for byte in name.bytes() {
            if delimiters.contains(&byte) {
                self.text.push(b'\\');
            }
            self.text.push(byte);
        }
    }

    fn field(&mut self, name: &str) {
        self.text.push(if self.fields == 0 { b' ' } else { b',' });
        self.fields += 1;
        self.name(name, b",= ");
        self.text.push(b'=');
    }

    pub fn float(&mut self, name: &str, value: f64) {
        self.field(name);
        self.text.extend_from_slice(format!("{value:?}").as_bytes());
    }

    pub fn int(&mut self, name: &str, value: i64) {
        self.field(name);
        self.text.extend_from_slice(format!("{value}i").as_bytes());
    }

    pub fn uint(&mut self, name: &str, value: u64) {
        self.field(name);
        self.text.extend_from_slice(format!("{value}u").as_bytes());
    }

    pub fn bool(&mut self, name: &str, value: bool) {
        self.field(name);
        self.text.push(if value { b't' } else { b'f' });
    }

    pub fn string(&mut self, name: &str, value: &str) {
        self.field(name);
        self.text.push(b'"');
        for byte in value.bytes() {
            if matches!(byte, b'"' | b'\\') {
                self.text.push(b'\\');
            }
            self.text.push(byte);
        }
        self.text.push(b'"');
    }

    /// A value of a column of one of the types that fields have; none if it is null. A float that is not finite cannot be
    /// written and is left out like a null: gives false then.
    pub fn cell(&mut self, name: &str, column: &dyn Array, row: usize) -> bool {
        if column.is_null(row) {
            return true;
        }
        match column.data_type() {
            DataType::Float64 => {
                let value = column.as_primitive::<Float64Type>().value(row);
                if !value.is_finite() {
                    return false;
                }
                self.float(name, value);
            }
            DataType::Int64 => self.int(name, column.as_primitive::<Int64Type>().value(row)),
            DataType::UInt64 => self.uint(name, column.as_primitive::<UInt64Type>().value(row)),
            DataType::Boolean => self.bool(name, column.as_boolean().value(row)),
            DataType::Utf8 => self.string(name, column.as_string::<i32>().value(row)),
            other => unreachable!("bug: no field is {other}"),
        }
        true
    }

    /// Ends the line. Err takes it back and says why: None if it had no fields, so there is nothing to say.
    pub fn end(&mut self, time_ns: i64) -> Result<(), Option<String>> {
        if self.fields == 0 || self.flaw.is_some() {
            self.text.truncate(self.start);
            return Err(self.flaw.take());
        }
        self.text.extend_from_slice(format!(" {time_ns}\n").as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::line_protocol::{FieldValue, lines};

    #[test]
    fn hard_names_and_values_read_back() {
        let mut line = LineText::new();
        line.begin("my cpu,=#");
        line.tag("a key=,", "a\\,b = c");
        line.tag("none", "");
        line.float("x y", -0.0);
        line.float("big", 1.7976931348623157e308);
        line.string("s", "q\"uo\\te\\\n,= #");
        line.uint("u", u64::MAX);
        line.int("i", i64::MIN);
        line.bool("b", true);
        line.end(-5).unwrap();
        let parsed: Vec<_> = lines(&line.text).collect();
        let [Ok(parsed)] = parsed.as_slice() else { panic!("{parsed:?}") };
        let series = parsed.parse_series().unwrap();
        assert_eq!(series.measurement, "my cpu,=#");
        assert_eq!(series.tags.len(), 1);
        assert_eq!((&*series.tags[0].0, &*series.tags[0].1), ("a key=,", "a\\,b = c"));
        assert_eq!(parsed.time, Some("-5"));
        let fields: Vec<_> = parsed.fields().map(|field| field.unwrap()).collect();
        assert_eq!(fields[0].0.unescape(), "x y");
        assert!(matches!(fields[0].1, FieldValue::Float(zero) if zero.to_bits() == (-0.0f64).to_bits()));
        assert_eq!(fields[1].1, FieldValue::Float(f64::MAX));
        let FieldValue::Str(text) = fields[2].1 else { panic!() };
        assert_eq!(text.unescape(), "q\"uo\\te\\\n,= #");
        assert_eq!(fields[3].1, FieldValue::UInt(u64::MAX));
        assert_eq!(fields[4].1, FieldValue::Int(i64::MIN));
        assert_eq!(fields[5].1, FieldValue::Bool(true));
    }

    #[test]
    fn what_cannot_be_said_is_taken_back() {
        let mut line = LineText::new();
        line.begin("cpu");
        line.tag("host", "a\nb");
        line.float("x", 1.0);
        assert!(line.end(1).unwrap_err().unwrap().contains("a\\nb"));
        line.begin("cpu");
        assert_eq!(line.end(1), Err(None));
        assert!(line.text.is_empty());
    }
}
