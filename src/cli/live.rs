//! `waterclock query --live`: what a statement says window after window, as a chart that moves or one object per row.
//!
//! Invariant: a connection that breaks is made again with the last id seen, so that nothing is left out; what the server
//! could not tell is told on standard error.
//! Not here: windows and corrections (`crate::live`), drawing (`chart`).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

use crossbeam_channel::never;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cli::answer::{Answer, Column, Stats};
use crate::cli::chart::{self, write_chart};
use crate::cli::client::{Client, Params};
use crate::cli::table::put;
use crate::cli::terminal;
use crate::error::{Error, Kind, Result};

/// Windows that the chart shows.
const WINDOWS_SHOWN: usize = 240;

/// Between a connection that broke and the next.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

const CLEAR: &str = "\x1b[2J\x1b[H";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Chart,
    Ndjson,
}

struct Event {
    name: String,
    data: String,
}

#[derive(Deserialize)]
struct Gone {
    time: i64,
    tags: BTreeMap<String, String>,
}

/// What the chart draws: the newest rows by time and tags.
#[derive(Default)]
struct Shown {
    answer: Option<Answer>,
    rows: BTreeMap<i64, BTreeMap<Vec<String>, Vec<Value>>>,
}

/// Ends with an error only: the statement goes on for as long as the server does.
pub fn run(
    client: &Client,
    statement: &str,
    params: &Params<'_>,
    shape: Shape,
    out: &mut dyn Write,
) -> Result<()> {
    let mut params = params.clone();
    if shape == Shape::Chart {
        params.retain(|(name, _)| *name != "time");
        params.push(chart::TIME);
    }
    let mut shown = Shown::default();
    let mut seen: Option<String> = None;
    let mut connected = false;
    loop {
        let body = match client.live(statement, &params, seen.as_deref()) {
            Ok(response) => response.into_body().into_reader(),
            // The server is starting again.
            Err(Error::Rejected(why)) if connected && why.kind == Kind::Unavailable => {
                never::<()>().recv_timeout(AGAIN_AFTER).ok();
                continue;
            }
            Err(error) => return Err(error),
        };
        connected = true;
        let mut lines = BufReader::new(body).lines();
        while let Some(event) = next(&mut lines, &mut seen) {
            match event.name.as_str() {
                "window" | "correction" if shape == Shape::Chart => {
                    shown.take(&event.data)?;
                    put(out, CLEAR)?;
                    shown.draw(statement, out)?;
                }
                "window" | "correction" => put_rows(&event.data, out)?,
                "changed" | "missed" => terminal::note(&[format!("{}: {}", event.name, event.data)]),
                "error" => return Err(ended(&event.data)),
                _ => {}
            }
        }
        terminal::note(&[format!("the connection to {} has ended; it is made again", client.url())]);
        never::<()>().recv_timeout(AGAIN_AFTER).ok();
    }
}

/// The next event; None at the end of the connection.
fn next(
    lines: &mut impl Iterator<Item = std::io::Result<String>>,
    seen: &mut Option<String>,
) -> Option<Event> {
    let mut event = Event { name: String::new(), data: String::new() };
    loop {
        let line = lines.next()?.ok()?;
        match line.split_once(": ") {
            Some(("event", name)) => event.name = name.to_string(),
            Some(("data", data)) => {
                event.data.push_str(data);
                event.data.push('\n');
            }
            Some(("id", id)) => *seen = Some(id.to_string()),
            _ if line.is_empty() && !event.data.is_empty() => return Some(event),
            _ => {}
        }
    }
}

fn bad(error: &serde_json::Error) -> Error {
    Error::rejected(
        Kind::Unavailable,
        "bad_answer",
        format!("the server sent an event that is none: {error}"),
    )
}

fn ended(data: &str) -> Error {
    #[derive(Deserialize)]
    struct End {
        message: String,
    }
    match serde_json::from_str::<End>(data) {
        Ok(end) => Error::rejected(Kind::Unavailable, "live_ended", end.message),
        Err(error) => bad(&error),
    }
}

/// One object per row, as in NDJSON answers; rows that are gone have `gone` and their tags.
fn put_rows(data: &str, out: &mut dyn Write) -> Result<()> {
    let answer: Answer = serde_json::from_str(data).map_err(|error| bad(&error))?;
    for row in answer.rows {
        let cell = |(column, cell): (&Column, Value)| format!("{}:{cell}", Value::from(column.name.as_str()));
        let cells: Vec<String> = answer.columns.iter().zip(row).map(cell).collect();
        put(out, &format!("{{{}}}\n", cells.join(",")))?;
    }
    let whole: Map<String, Value> = serde_json::from_str(data).map_err(|error| bad(&error))?;
    for gone in whole.get("gone").and_then(Value::as_array).into_iter().flatten() {
        put(out, &format!("{}\n", serde_json::json!({ "gone": gone })))?;
    }
    out.flush().map_err(|source| Error::io("write to", "standard output", source))
}

impl Shown {
    fn take(&mut self, data: &str) -> Result<()> {
        #[derive(Deserialize)]
        struct Lost {
            #[serde(default)]
            gone: Vec<Gone>,
        }
        let lost: Lost = serde_json::from_str(data).map_err(|error| bad(&error))?;
        let mut answer: Answer = serde_json::from_str(data).map_err(|error| bad(&error))?;
        for Gone { time, tags } in lost.gone {
            if let Some(window) = self.rows.get_mut(&time) {
                let values: Vec<&String> = tags.values().collect();
                window
                    .retain(|group, _| group.iter().filter(|tag| !tag.is_empty()).ne(values.iter().copied()));
            }
        }
        let place = |role: &str| {
            let columns = answer.columns.iter().enumerate().filter(move |(_, column)| column.role == role);
            columns.map(|(at, _)| at).collect::<Vec<usize>>()
        };
        let (times, mut tags) = (place("time"), place("tag"));
        tags.sort_by(|a, b| answer.columns[*a].name.cmp(&answer.columns[*b].name));
        for row in std::mem::take(&mut answer.rows) {
            let Some(time) = times.first().and_then(|at| row[*at].as_i64()) else { continue };
            let group = tags.iter().map(|at| row[*at].as_str().unwrap_or_default().to_string()).collect();
            self.rows.entry(time).or_default().insert(group, row);
        }
        while self.rows.len() > WINDOWS_SHOWN {
            self.rows.pop_first();
        }
        if !answer.columns.is_empty() {
            self.answer = Some(answer);
        }
        Ok(())
    }

    fn draw(&mut self, statement: &str, out: &mut dyn Write) -> Result<()> {
        let Some(answer) = &mut self.answer else { return Ok(()) };
        answer.rows = self.rows.values().flat_map(BTreeMap::values).cloned().collect();
        put(out, &format!("{statement}\n"))?;
        write_chart(out, answer, terminal::style_of_stdout())?;
        if let Some(source) = Stats::source(&answer.stats) {
            put(out, &format!("from {source}; Ctrl-C ends\n"))?;
        }
        out.flush().map_err(|source| Error::io("write to", "standard output", source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &str = r#""columns":[{"name":"time","type":"time","role":"time"},{"name":"host","type":"string","role":"tag"},
        {"name":"v","type":"float","role":"value"}]"#;

    fn data(gone: &str, rows: &str) -> String {
        format!(r#"{{"from":0,"to":60,"gone":[{gone}],{COLUMNS},"rows":[{rows}]}}"#)
    }

    #[test]
    fn corrections_replace_what_is_shown() {
        let mut shown = Shown::default();
        shown.take(&data("", r#"[0,"a",1.0],[0,"b",2.0]"#)).unwrap();
        shown.take(&data("", r#"[0,"b",3.0],[60,"b",4.0]"#)).unwrap();
        shown.take(&data(r#"{"time":0,"tags":{"host":"a"}}"#, "")).unwrap();
        let rows: Vec<&Vec<Value>> = shown.rows.values().flat_map(BTreeMap::values).collect();
        assert_eq!(serde_json::json!(rows), serde_json::json!([[0, "b", 3.0], [60, "b", 4.0]]));
    }

    #[test]
    fn events_come_with_their_ids() {
        let text = ": alive\n\nevent: window\ndata: {\ndata: }\nid: 1-2-3\n\nevent: start\ndata: {}\n\n";
        let mut lines = text.lines().map(|line| Ok(line.to_string()));
        let mut seen = None;
        let first = next(&mut lines, &mut seen).unwrap();
        assert_eq!(
            (first.name.as_str(), first.data.as_str(), seen.as_deref()),
            ("window", "{\n}\n", Some("1-2-3"))
        );
        assert_eq!(next(&mut lines, &mut seen).unwrap().name, "start");
        assert!(next(&mut lines, &mut seen).is_none());
    }
}
