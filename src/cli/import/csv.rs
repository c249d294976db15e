//! CSV: a header and rows, the columns told by annotations, by the table as it is, or by what stands in them.
//!
//! Annotations are InfluxDB's: `#constant measurement,cpu` and `#datatype` with a word per column, as `export` writes them,
//! and the form that queries answer with (`_time`, `_measurement`, `_field`, `_value`), one field per row.
//! Invariant: a value means the same in every row of a column. Without a type from elsewhere the whole file is read once
//! before, so that a column is of integers only if all of it is.

use std::io::{BufRead, BufReader, Read};

use storage_format::point::FieldType;

use crate::cli::client::Client;
use crate::cli::import::batch::{Batch, Reader};
use crate::cli::import::source::Input;
use crate::cli::import::{Args, table_of};
use crate::error::{Error, Result};

#[derive(Clone, Debug, PartialEq)]
enum Role {
    Time,
    Tag,
    Field(FieldType),
    Ignored,
    /// `_measurement`, `_field` and `_value` of InfluxDB's answers.
    Measurement,
    FieldName,
    FieldValue(FieldType),
}

#[derive(Clone, Debug)]
struct Layout {
    table: String,
    /// Name and role of each column.
    columns: Vec<(String, Role)>,
}

pub(super) struct Csv {
    records: Records,
    layout: Option<Layout>,
    annotations: Annotations,
    /// For files without annotations: found before.
    plain: Option<Layout>,
    time_unit: i64,
    /// Up to here everything was imported before.
    skip_to: u64,
    failed: Box<dyn Fn(std::io::Error) -> Error>,
    file: String,
    default_table: String,
}

const ANNOTATIONS: [&str; 4] = ["#constant", "#datatype", "#group", "#default"];

#[derive(Clone, Debug, Default)]
struct Annotations {
    types: Option<Vec<String>>,
    table: Option<String>,
    /// Whether rows came since: then the next annotation begins another table.
    used: bool,
}

impl Csv {
    pub fn open(args: &Args, client: &Client, input: &Input, from: u64) -> Result<Csv> {
        let mut csv = Csv {
            records: Records::new(input.text()?),
            layout: None,
            annotations: Annotations::default(),
            plain: None,
            time_unit: args.mapping.precision.nanos(),
            skip_to: from,
            failed: Box::new(input.error("read")),
            file: input.path.display().to_string(),
            default_table: table_of(&args.mapping, input),
        };
        if !csv.is_annotated(input)? {
            csv.plain = Some(plain_layout(args, client, input, &csv)?);
        }
        Ok(csv)
    }

    fn is_annotated(&self, input: &Input) -> Result<bool> {
        let mut first = Record::default();
        let mut records = Records::new(input.text()?);
        records.next(&mut first).map_err(&self.failed)?;
        let is_annotation = |text: &str| ANNOTATIONS.iter().any(|word| text.starts_with(word));
        Ok(first.cell(0).is_some_and(|(text, quoted)| !quoted && is_annotation(text)))
    }

    /// The header of annotated columns.
    fn header(&self, record: &Record) -> Result<Layout> {
        let types = self.annotations.types.as_deref().unwrap_or_default();
        let names: Vec<String> = record.cells().map(|(text, _)| text.to_string()).collect();
        let is_answer =
            names.iter().any(|name| name == "_field") && names.iter().any(|name| name == "_value");
        let column = |(place, name): (usize, &String)| {
            let word = types.get(place).map(String::as_str).unwrap_or_default();
            let of_type = field_type(word);
            let role = match (name.as_str(), word) {
                ("_time", _) => Role::Time,
                ("_measurement", _) => Role::Measurement,
                ("_field", _) => Role::FieldName,
                ("_value", _) => Role::FieldValue(of_type.unwrap_or(FieldType::Str)),
                ("" | "result" | "table" | "_start" | "_stop", _) if is_answer => Role::Ignored,
                // Of an answer all other columns are tags, although their type is string.
                _ if is_answer => Role::Tag,
                (_, "tag") => Role::Tag,
                (_, "ignored") | ("", _) => Role::Ignored,
                (_, "measurement") => Role::Measurement,
                (_, word) if word.starts_with("dateTime") => Role::Time,
                _ => match of_type {
                    Some(field_type) => Role::Field(field_type),
                    None => {
                        return Err(
                            self.bad(format!("the column {name} has the type {word:?}, which is not known"))
                        );
                    }
                },
            };
            Ok((name.clone(), role))
        };
        let columns = names.iter().enumerate().map(column).collect::<Result<Vec<_>>>()?;
        let table = self.annotations.table.clone().unwrap_or_else(|| self.default_table.clone());
        Ok(Layout { table, columns })
    }

    fn bad(&self, what: String) -> Error {
        Error::invalid("csv", format!("{}, line {}: {what}", self.file, self.records.line))
    }

    /// Takes an annotation; gives false for rows.
    fn annotate(&mut self, record: &Record) -> Result<bool> {
        let Some((first, false)) = record.cell(0) else { return Ok(false) };
        let Some(first) = first.strip_prefix('#') else { return Ok(false) };
        if self.annotations.used {
            self.annotations = Annotations::default();
        }
        self.layout = None;
        let (word, rest) = first.split_once(' ').unwrap_or((first, ""));
        let first = if rest.is_empty() { None } else { Some(rest.to_string()) };
        let others = || record.cells().skip(1).map(|(text, _)| text.to_string());
        match word {
            // In answers the word stands in a column of its own, in files for `influx write` before the first type.
            "datatype" => {
                let types: Vec<String> = match first {
                    Some(first) => std::iter::once(first).chain(others()).collect(),
                    None => std::iter::once(String::new()).chain(others()).collect(),
                };
                self.annotations.types = Some(types);
            }
            "constant" => {
                let words: Vec<String> =
                    first.into_iter().chain(others()).filter(|word| !word.is_empty()).collect();
                match words.as_slice() {
                    [kind, table] if kind == "measurement" => self.annotations.table = Some(table.clone()),
                    _ => {
                        return Err(
                            self.bad("of constants only `#constant measurement,NAME` is known".to_string())
                        );
                    }
                }
            }
            // `#group`, `#default` and comments.
            _ => {}
        }
        Ok(true)
    }

    fn row(&self, layout: &Layout, record: &Record, batch: &mut Batch) {
        let number = self.records.line;
        if let Err(why) = self.try_row(layout, record, batch) {
            batch.refused.push((number, why));
        }
    }

    fn try_row(&self, layout: &Layout, record: &Record, batch: &mut Batch) -> Result<(), String> {
        if record.len() != layout.columns.len() {
            return Err(format!(
                "it has {} cells, and the header has {}",
                record.len(),
                layout.columns.len()
            ));
        }
        let columns = || layout.columns.iter().zip(record.cells());
        let of_role =
            |wanted: &Role| columns().find(|((_, role), _)| role == wanted).map(|(_, (text, _))| text);
        let time = of_role(&Role::Time).ok_or("there is no column with the time; --time-column names it")?;
        let time = time_of(time, self.time_unit)?;
        // Values first: a line that was begun must be ended.
        let values = columns()
            .filter(|(_, (text, quoted))| *quoted || !text.is_empty())
            .filter_map(|((name, role), (text, _))| match role {
                Role::Field(field_type) => Some((name.as_str(), *field_type, text)),
                Role::FieldValue(field_type) => Some((of_role(&Role::FieldName)?, *field_type, text)),
                _ => None,
            })
            .map(|(name, field_type, text)| Ok((name, value_of(name, field_type, text)?)))
            .collect::<Result<Vec<(&str, Value<'_>)>, String>>()?;
        let lines = &mut batch.lines;
        lines.begin(of_role(&Role::Measurement).unwrap_or(&layout.table));
        for ((name, _), (text, _)) in columns().filter(|((_, role), _)| *role == Role::Tag) {
            lines.tag(name, text);
        }
        for (name, value) in values {
            match value {
                Value::Float(value) if !value.is_finite() => batch.not_finite += 1,
                Value::Float(value) => lines.float(name, value),
                Value::Int(value) => lines.int(name, value),
                Value::UInt(value) => lines.uint(name, value),
                Value::Bool(value) => lines.bool(name, value),
                Value::Str(value) => lines.string(name, value),
            }
        }
        batch.end(self.records.line, time);
        Ok(())
    }
}

impl Reader for Csv {
    fn next(&mut self, batch: &mut Batch) -> Result<bool> {
        batch.clear();
        let mut record = Record::default();
        let mut any = false;
        while !batch.is_full() && self.records.next(&mut record).map_err(&self.failed)? {
            any = true;
            if record.is_blank() {
                continue;
            }
            if self.plain.is_none() && self.annotate(&record)? {
                continue;
            }
            match &self.layout {
                Some(layout) => {
                    self.annotations.used = true;
                    if self.records.position > self.skip_to {
                        self.row(layout, &record, batch);
                    }
                }
                None => {
                    self.layout = Some(match &self.plain {
                        Some(plain) => plain.clone(),
                        None => self.header(&record)?,
                    })
                }
            }
        }
        (batch.position, batch.read_bytes) = (self.records.position, self.records.position);
        Ok(any)
    }
}

enum Value<'a> {
    Float(f64),
    Int(i64),
    UInt(u64),
    Bool(bool),
    Str(&'a str),
}

fn value_of<'a>(name: &str, field_type: FieldType, text: &'a str) -> Result<Value<'a>, String> {
    let parsed = match field_type {
        FieldType::Float => text.parse().ok().map(Value::Float),
        FieldType::Int => text.parse().ok().map(Value::Int),
        FieldType::UInt => text.parse().ok().map(Value::UInt),
        FieldType::Bool => bool_of(text).map(Value::Bool),
        FieldType::Str => Some(Value::Str(text)),
        // Line protocol cannot say it.
        FieldType::Binary => None,
    };
    parsed.ok_or_else(|| format!("{name} is {text:?}, which is no {field_type}"))
}

fn bool_of(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "t" | "T" => Some(true),
        "false" | "False" | "FALSE" | "f" | "F" => Some(false),
        _ => None,
    }
}

/// A number in the given unit, or a text.
fn time_of(text: &str, unit: i64) -> Result<i64, String> {
    if let Ok(number) = text.parse::<i64>() {
        return number
            .checked_mul(unit)
            .ok_or_else(|| format!("the time {text} is out of range; is --precision right?"));
    }
    query_lang::parse_time(text, 0).map_err(|error| format!("the time is {text:?}: {}", error.message()))
}

fn field_type(word: &str) -> Option<FieldType> {
    match word {
        "double" => Some(FieldType::Float),
        "long" => Some(FieldType::Int),
        "unsignedLong" => Some(FieldType::UInt),
        "boolean" => Some(FieldType::Bool),
        "string" => Some(FieldType::Str),
        _ => None,
    }
}

/// What a column may still be, having seen some of its values.
#[derive(Clone, Copy)]
struct Seen {
    any: bool,
    int: bool,
    float: bool,
    bool: bool,
}

/// Flags first, then the table as it is, then what stands in the columns; texts are tags.
fn plain_layout(args: &Args, client: &Client, input: &Input, csv: &Csv) -> Result<Layout> {
    let mut records = Records::new(input.text()?);
    let mut record = Record::default();
    records.next(&mut record).map_err(&csv.failed)?;
    let names: Vec<String> = record.cells().map(|(text, _)| text.to_string()).collect();
    let mut seen = vec![Seen { any: false, int: true, float: true, bool: true }; names.len()];
    while records.next(&mut record).map_err(&csv.failed)? {
        for (seen, (text, quoted)) in seen.iter_mut().zip(record.cells()) {
            if text.is_empty() && !quoted {
                continue;
            }
            seen.any = true;
            seen.int &= text.parse::<i64>().is_ok();
            seen.float &= text.parse::<f64>().is_ok();
            seen.bool &= bool_of(text).is_some();
        }
    }
    let table = csv.default_table.clone();
    let (known_tags, known_fields) = known(args, client, &table);
    let time = args.mapping.time_column.clone().unwrap_or_else(|| "time".to_string());
    if !names.contains(&time) {
        let what = format!(
            "there is no column {time}; --time-column says which of these has the time: {}",
            names.join(", ")
        );
        return Err(Error::invalid("time_column", format!("{}: {what}", csv.file)));
    }
    let unknown = args.mapping.tags.iter().flatten().find(|tag| !names.contains(tag));
    if let Some(tag) = unknown {
        return Err(Error::invalid("tags", format!("{}: there is no column {tag} for --tags", csv.file)));
    }
    let role = |name: &String, seen: &Seen| {
        let inferred = match seen {
            Seen { any: false, .. } => return Role::Ignored,
            Seen { int: true, .. } => FieldType::Int,
            Seen { float: true, .. } => FieldType::Float,
            Seen { bool: true, .. } => FieldType::Bool,
            _ => FieldType::Str,
        };
        let known = known_fields.iter().find(|(field, _)| field == name).map(|(_, field_type)| *field_type);
        match &args.mapping.tags {
            _ if *name == time => Role::Time,
            Some(tags) if tags.contains(name) => Role::Tag,
            None if known_tags.contains(name) && known.is_none() => Role::Tag,
            None if inferred == FieldType::Str && known.is_none() => Role::Tag,
            _ => Role::Field(known.unwrap_or(inferred)),
        }
    };
    let columns = names.iter().zip(&seen).map(|(name, seen)| (name.clone(), role(name, seen))).collect();
    Ok(Layout { table, columns })
}

/// What the server knows of the table; nothing if there is none, or no server.
fn known(args: &Args, client: &Client, table: &str) -> (Vec<String>, Vec<(String, FieldType)>) {
    let table = query_lang::print::name(table);
    let ask = |what: &str| client.answer(&format!("show {what} from {table}"), &args.database.params()).ok();
    let text = |cell: Option<&serde_json::Value>| {
        cell.and_then(|cell| cell.as_str()).unwrap_or_default().to_string()
    };
    let tags = ask("tags").map(|answer| answer.rows.iter().map(|row| text(row.first())).collect());
    let fields = ask("fields").map(|answer| {
        let field = |row: &Vec<serde_json::Value>| Some((text(row.first()), type_named(&text(row.get(1)))?));
        answer.rows.iter().filter_map(field).collect()
    });
    (tags.unwrap_or_default(), fields.unwrap_or_default())
}

fn type_named(word: &str) -> Option<FieldType> {
    let types = [FieldType::Float, FieldType::Int, FieldType::UInt, FieldType::Bool, FieldType::Str];
    types.into_iter().find(|field_type| field_type.to_string() == word)
}

/// One record: its cells' texts, one after another, and whether each stood in quotes.
#[derive(Default)]
struct Record {
    text: String,
    /// Where each cell ends.
    ends: Vec<(usize, bool)>,
}

impl Record {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn cell(&self, place: usize) -> Option<(&str, bool)> {
        let (end, quoted) = *self.ends.get(place)?;
        let start = if place == 0 { 0 } else { self.ends[place - 1].0 };
        Some((&self.text[start..end], quoted))
    }

    fn cells(&self) -> impl Iterator<Item = (&str, bool)> {
        (0..self.len()).filter_map(|place| self.cell(place))
    }

    fn is_blank(&self) -> bool {
        self.cells().all(|(text, quoted)| text.is_empty() && !quoted)
    }
}

/// RFC 4180, as it is written in practice. A quoted cell that is empty is told apart from one that is missing, which is why
/// this is ours.
struct Records {
    text: BufReader<Box<dyn Read>>,
    position: u64,
    /// The line on which the last record began, from 1.
    line: u64,
    next_line: u64,
    bytes: Vec<u8>,
}

impl Records {
    fn new(text: Box<dyn Read>) -> Records {
        Records { text: BufReader::new(text), position: 0, line: 0, next_line: 1, bytes: Vec::new() }
    }

    /// False at the end.
    fn next(&mut self, record: &mut Record) -> std::io::Result<bool> {
        record.text.clear();
        record.ends.clear();
        self.bytes.clear();
        self.line = self.next_line;
        loop {
            let before = self.bytes.len();
            if self.text.read_until(b'\n', &mut self.bytes)? == 0 {
                if self.bytes.is_empty() {
                    return Ok(false);
                }
                break;
            }
            self.next_line += 1;
            self.position += (self.bytes.len() - before) as u64;
            // A line end inside quotes belongs to the cell: then the quotes so far are odd.
            if memchr::memchr_iter(b'"', &self.bytes).count().is_multiple_of(2) {
                break;
            }
        }
        let text = String::from_utf8_lossy(&self.bytes);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        // Excel begins files so.
        let mut rest = if self.line == 1 { text.trim_start_matches('\u{feff}') } else { text };
        loop {
            let quoted = rest.starts_with('"');
            if quoted {
                rest = &rest[1..];
                while let Some(at) = rest.find('"') {
                    record.text.push_str(&rest[..at]);
                    rest = &rest[at + 1..];
                    if !rest.starts_with('"') {
                        break;
                    }
                    record.text.push('"');
                    rest = &rest[1..];
                }
            }
            let end = rest.find(',').unwrap_or(rest.len());
            record.text.push_str(&rest[..end]);
            record.ends.push((record.text.len(), quoted));
            if end == rest.len() {
                return Ok(true);
            }
            rest = &rest[end + 1..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_every_kind() {
        let text = "\u{feff}a,b,c\r\n1,,\"\"\n\"x,\"\"y\"\"\nz\",q\"q,\n\nlast";
        let mut records = Records::new(Box::new(std::io::Cursor::new(text.as_bytes().to_vec())));
        let mut record = Record::default();
        let mut found = Vec::new();
        while records.next(&mut record).unwrap() {
            let cells: Vec<(String, bool)> =
                record.cells().map(|(text, quoted)| (text.to_string(), quoted)).collect();
            found.push((records.line, cells));
            if found.len() == 3 {
                break;
            }
        }
        let cells = |cells: &[(&str, bool)]| -> Vec<(String, bool)> {
            cells.iter().map(|(text, quoted)| (text.to_string(), *quoted)).collect()
        };
        assert_eq!(found[0], (1, cells(&[("a", false), ("b", false), ("c", false)])));
        assert_eq!(found[1], (2, cells(&[("1", false), ("", false), ("", true)])));
        assert_eq!(found[2].1[0], ("x,\"y\"\nz".to_string(), true));
    }

    #[test]
    fn times_in_every_form() {
        assert_eq!(time_of("5", 1_000), Ok(5_000));
        assert_eq!(time_of("1970-01-01T00:00:00.000000007Z", 1), Ok(7));
        assert!(time_of("9223372036854775807", 1_000).unwrap_err().contains("--precision"));
        assert!(time_of("soon", 1).unwrap_err().contains("soon"));
    }
}
