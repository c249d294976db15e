//! The rows of the closed windows in a panel's range, as events tell them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::answer::{Answer, Cell, Column, Refused, Role, Stats};
use crate::frame::Labels;

use super::events::Event;

const NANOSECONDS_PER_MS: i64 = 1_000_000;

/// Rows by time and tags.
pub struct Windows {
    span_ns: i64,
    columns: Vec<Column>,
    rows: BTreeMap<(i64, Labels), Vec<Cell>>,
    stats: Stats,
    warnings: Vec<String>,
}

/// Data of `window` and `correction`.
#[derive(Deserialize)]
struct Told {
    to: i64,
    #[serde(default)]
    gone: Vec<Gone>,
    #[serde(flatten)]
    answer: Answer,
}

#[derive(Deserialize)]
struct Gone {
    time: i64,
    tags: Labels,
}

/// Data of `error`.
#[derive(Deserialize)]
struct Ended {
    message: String,
}

impl Windows {
    pub fn new(span_ms: i64) -> Windows {
        Windows {
            span_ns: span_ms.saturating_mul(NANOSECONDS_PER_MS),
            columns: Vec::new(),
            rows: BTreeMap::new(),
            stats: Stats::default(),
            warnings: Vec::new(),
        }
    }

    /// Whether anything is to be shown anew. An error where the rows must be asked for again.
    pub fn take(&mut self, event: Event) -> Result<bool, Refused> {
        match event.name.as_str() {
            "window" | "correction" => {
                let told: Told = read(&event)?;
                self.put(told, event.name == "window");
                Ok(true)
            }
            "changed" | "missed" => Err(Refused::new(503, "much has changed at once; it is asked again")),
            "error" => {
                let Ended { message } = read(&event)?;
                Err(Refused::new(503, message))
            }
            _ => Ok(false),
        }
    }

    fn put(&mut self, told: Told, has_closed: bool) {
        let Told { to, gone, answer } = told;
        if !answer.columns.is_empty() {
            self.columns = answer.columns;
        }
        for Gone { time, tags } in gone {
            self.rows.remove(&(time, labels(tags)));
        }
        for row in answer.rows {
            self.rows.insert(self.key(&row), row);
        }
        if has_closed {
            self.stats = answer.stats;
            let oldest = to.saturating_sub(self.span_ns);
            self.rows = self.rows.split_off(&(oldest, Labels::new()));
        }
        self.warnings = answer.warnings;
    }

    fn key(&self, row: &[Cell]) -> (i64, Labels) {
        let (mut time, mut tags) = (0, Labels::new());
        for (column, cell) in self.columns.iter().zip(row) {
            match column.role {
                Role::Time => time = cell.as_i64().unwrap_or_default(),
                Role::Tag => drop(tags.insert(column.name.clone(), cell.as_text().unwrap_or_default())),
                Role::Value => {}
            }
        }
        (time, labels(tags))
    }

    pub fn answer(&self) -> Answer {
        // Groups stand in the order of their tags, whenever they came.
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by(|((time, tags), _), ((other_time, other_tags), _)| {
            (tags, time).cmp(&(other_tags, other_time))
        });
        Answer {
            columns: self.columns.clone(),
            rows: rows.into_iter().map(|(_, row)| row.clone()).collect(),
            stats: self.stats.clone(),
            warnings: self.warnings.clone(),
        }
    }
}

/// A missing tag is the empty text.
fn labels(mut tags: Labels) -> Labels {
    tags.retain(|_, value| !value.is_empty());
    tags
}

fn read<T: for<'de> Deserialize<'de>>(event: &Event) -> Result<T, Refused> {
    serde_json::from_slice(&event.data).map_err(|error| {
        Refused::new(502, format!("the server's event {} cannot be read: {error}", event.name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, to: i64, rows: &str, gone: &str) -> Event {
        let columns = r#"[{"name":"time","role":"time","type":"time"},{"name":"h","role":"tag","type":"string"},
            {"name":"v","role":"value","type":"float"}]"#;
        let stats = r#"{"series":1,"rows_read":1,"bytes_read":0,"files":0,"elapsed_ms":0.5,"rollups":[]}"#;
        let data = format!(
            r#"{{"from":0,"to":{to},"gone":{gone},"columns":{columns},"rows":{rows},"stats":{stats},"warnings":[]}}"#
        );
        Event { name: name.to_string(), data: data.into_bytes() }
    }

    fn rows(windows: &Windows) -> Vec<(i64, String, f64)> {
        let row =
            |row: &Vec<Cell>| (row[0].as_i64().unwrap(), row[1].as_text().unwrap(), row[2].as_f64().unwrap());
        windows.answer().rows.iter().map(row).collect()
    }

    #[test]
    fn what_is_told_replaces_what_was() {
        let mut windows = Windows::new(1);
        assert!(!windows.take(Event { name: "start".to_string(), data: b"{}".to_vec() }).unwrap());
        assert!(windows.take(event("window", 600_000, r#"[[500000,"b",1],[500000,"",2]]"#, "[]")).unwrap());
        assert!(windows.take(event("window", 1_200_000, r#"[[1100000,"b",3.5]]"#, "[]")).unwrap());
        let row = |time: i64, host: &str, value: f64| (time, host.to_string(), value);
        assert_eq!(rows(&windows), [row(500_000, "", 2.0), row(500_000, "b", 1.0), row(1_100_000, "b", 3.5)]);
        let gone = r#"[{"time":500000,"tags":{}}]"#;
        assert!(windows.take(event("correction", 600_000, r#"[[500000,"b",9]]"#, gone)).unwrap());
        assert_eq!(rows(&windows), [row(500_000, "b", 9.0), row(1_100_000, "b", 3.5)]);
        // What falls out of the range.
        assert!(windows.take(event("window", 2_000_000, "[]", "[]")).unwrap());
        assert_eq!(rows(&windows), [row(1_100_000, "b", 3.5)]);
        let message = windows
            .take(Event { name: "error".to_string(), data: br#"{"code":"x","message":"over"}"#.to_vec() });
        assert_eq!(message.unwrap_err().message, "over");
    }
}
