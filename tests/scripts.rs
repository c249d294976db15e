//! Text scripts of the language, queries and rollups: load, ask, expect.
//!
//! Each `tests/scripts/*.wqt` file runs against a fresh database with a clock of its own. A step is a line with
//! its verb, the lines of its body, `----`, and what must come out, up to a blank line:
//!
//! * `now TIME` sets the clock, a jump; `pass 61m` lets time pass; `restart`, `flush`, `compact`, `expire` do that; `refresh NAME`
//!   answers how many buckets it computed.
//! * `write` sends its body as line protocol. `@` and a time (`@00:01:30` is of 2026-01-01) stands for nanoseconds.
//! * `samples` sends its body by Prometheus' remote write, a sample per line: `up{job="a"} 1 @00:01:30`, or `stale` in place of
//!   the value.
//! * `query` runs its body and prints the rows, and `-- from NAME: N buckets, M recomputed` for each rollup used. Every
//!   query is asked a second time with rollups off and must give the same rows, bit for bit; not so `query kept`, which asks
//!   rollups for what their table keeps no longer.
//! * `error` runs its body as a statement (or, if it begins with `write`, as line protocol) and prints the error.
//!
//! `UPDATE=1` writes what came out into the files.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, TimestampNanosecondArray};
use arrow::util::display::array_value_to_string;
use prost::Message;
use query_lang::parse_time;
use query_lang::time::format_time;
use waterclock::config::Config;
use waterclock::db::{Db, FlushScope, Lines, QueryOptions, RefreshScope, RemoteWrite};
use waterclock::disk::LocalDisk;
use waterclock::ingest::line_protocol::Precision;
use waterclock::ingest::remote_write::Version;
use waterclock::query::Answer;
use waterclock::rows::STALE_MARKER_BITS;

use crate::support::counts::Counts;
use crate::support::manual_clock::ManualClock;
use crate::support::prometheus::{TimeSeries, WriteRequest, series};

#[test]
fn scripts_say_what_they_say() {
    run_all(std::env::var_os("UPDATE").is_some(), &Counts::default());
}

/// With `update` what came out is written into the files.
pub fn run_all(update: bool, counts: &Counts) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut scripts: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "wqt"));
    scripts.sort();
    assert!(!scripts.is_empty(), "no scripts in {}", folder.display());
    let mut wrong = String::new();
    for path in &scripts {
        let text = std::fs::read_to_string(path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let came_out = Script::new(&name, counts).run(&text);
        counts.add("scripts", 1);
        if update {
            put(path, &came_out);
        } else if came_out != text {
            let line = text.lines().zip(came_out.lines()).position(|(a, b)| a != b);
            let line = line.unwrap_or(text.lines().count().min(came_out.lines().count()));
            let at = |text: &str| text.lines().nth(line).unwrap_or("(end)").to_string();
            let _ = writeln!(
                wrong,
                "{name}:{}\n  expected {}\n  came out {}",
                line + 1,
                at(&text),
                at(&came_out)
            );
        }
    }
    assert!(wrong.is_empty(), "scripts differ (UPDATE=1 writes what came out):\n{wrong}");
}

#[expect(clippy::disallowed_methods, reason = "the scripts are files of the project, not of a database")]
fn put(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

struct Script<'a> {
    name: String,
    counts: &'a Counts,
    folder: tempfile::TempDir,
    clock: ManualClock,
    db: Option<Db>,
}

const NOON: &str = "2026-01-01T12:00:00Z";

impl<'a> Script<'a> {
    fn new(name: &str, counts: &'a Counts) -> Script<'a> {
        let clock = ManualClock::at(parse_time(NOON, 0).unwrap());
        let mut script =
            Script { name: name.to_string(), counts, folder: tempfile::tempdir().unwrap(), clock, db: None };
        script.open();
        script
    }

    fn open(&mut self) {
        self.db = None;
        let disk = Arc::new(LocalDisk::open(self.folder.path()).unwrap());
        let clock = Arc::new(self.clock.clone());
        self.db = Some(Db::open(disk, clock, Config::default()).unwrap());
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    /// The script with its answers as they came out.
    fn run(&mut self, text: &str) -> String {
        let mut out = String::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            out.push_str(line);
            out.push('\n');
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let mut body = Vec::new();
            let mut expects = false;
            while let Some(next) = lines.next_if(|next| !next.trim().is_empty()) {
                out.push_str(next);
                out.push('\n');
                if next == "----" {
                    expects = true;
                    while lines.next_if(|next| !next.trim().is_empty()).is_some() {}
                    break;
                }
                body.push(next);
            }
            let came_out = self.step(line, &body.join("\n"));
            self.counts.add("steps", 1);
            assert!(
                expects || came_out.is_empty(),
                "{}: `{line}` says\n{came_out}\nadd ---- below it",
                self.name
            );
            out.push_str(&came_out);
        }
        out
    }

    fn step(&mut self, line: &str, body: &str) -> String {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let sentence = |outcome: Result<String, waterclock::error::Error>| match outcome {
            Ok(text) => text,
            Err(error) => format!("error: {error}\n"),
        };
        match verb {
            "now" => {
                self.clock.set(parse_time(rest, 0).unwrap());
                String::new()
            }
            "pass" => {
                let minutes: u64 = rest.strip_suffix('m').and_then(|rest| rest.parse().ok()).unwrap();
                self.clock.advance(std::time::Duration::from_secs(minutes * 60));
                String::new()
            }
            "restart" => {
                self.open();
                String::new()
            }
            "flush" => sentence(self.db().flush(FlushScope::All).map(|blocks| format!("{blocks} blocks\n"))),
            "compact" => sentence(self.db().compact(true).map(|merges| format!("{merges} merges\n"))),
            "expire" => sentence(self.db().expire().map(|blocks| format!("{blocks} blocks\n"))),
            "refresh" => {
                let rollup = Some(("default".to_string(), rest.to_string()));
                let scope = RefreshScope { rollup, within: None };
                sentence(self.db().refresh(&scope).map(|buckets| format!("{buckets} buckets\n")))
            }
            "write" => self.write(body),
            "samples" => self.samples(body),
            "query" => self.query(body, rest != "kept"),
            "error" => match body.strip_prefix("write\n") {
                Some(lines) => self.write(lines),
                None => match self.ask(body, true) {
                    Ok(answer) => panic!("{}: {body} is no error:\n{}", self.name, rows(&answer)),
                    Err(error) => format!("{error}\n"),
                },
            },
            _ => panic!("{}: there is no verb {verb}", self.name),
        }
    }

    fn write(&self, body: &str) -> String {
        let body = with_times(body);
        let lines = Lines {
            database: "default",
            body: body.as_bytes(),
            precision: Precision::Nanos,
            accept_partial: true,
        };
        match self.db().write_lines_now(&lines) {
            Ok(written) => written.errors.iter().map(|error| format!("{error}\n")).collect(),
            Err(error) => format!("error: {error}\n"),
        }
    }

    fn samples(&self, body: &str) -> String {
        let timeseries = with_times(body).lines().map(sample).collect();
        let message = WriteRequest { timeseries, metadata: Vec::new() }.encode_to_vec();
        let request = RemoteWrite { database: "default", message: &message, version: Version::V1 };
        match self.db().write_samples_now(&request) {
            Ok(written) => written.refused.reasons.iter().map(|why| format!("{why}\n")).collect(),
            Err(error) => format!("error: {error}\n"),
        }
    }

    fn query(&self, text: &str, compare: bool) -> String {
        let changes = query_lang::parse(text)
            .is_ok_and(|script| script.statements.iter().any(|statement| statement.changes_data()));
        let answer = match self.ask(text, true) {
            Ok(answer) => answer,
            Err(error) => return format!("error: {error}\n"),
        };
        let mut out = rows(&answer);
        if compare && !changes && !text.starts_with("explain") {
            let raw = self.ask(text, false).unwrap();
            assert_eq!(out, rows(&raw), "{}: {text}: rollups and raw points differ", self.name);
            assert!(raw.stats.rollups.is_empty(), "{}: {text}: rollups=off used one", self.name);
            self.counts.add("pairs of rollup and raw compared", 1);
        }
        self.counts.add("answers from rollups", (!answer.stats.rollups.is_empty()).into());
        for used in &answer.stats.rollups {
            let _ = writeln!(
                out,
                "-- from {}: {} buckets, {} recomputed",
                used.name, used.buckets, used.dirty_recomputed
            );
        }
        for warning in &answer.warnings {
            let _ = writeln!(out, "-- warning: {warning}");
        }
        if out.is_empty() { "(nothing)\n".to_string() } else { out }
    }

    fn ask(&self, text: &str, rollups: bool) -> Result<Answer, waterclock::error::Error> {
        let options = QueryOptions { rollups, ..QueryOptions::of("default") };
        self.db().query(text, &options, &self.db().guard())
    }
}

/// `up{job="a"} 1 1767225600000000000` as a series of one sample.
fn sample(line: &str) -> TimeSeries {
    let (rest, nanos) = line.rsplit_once(' ').unwrap();
    let (labels, value) = rest.rsplit_once(' ').unwrap();
    let (name, labels) = labels.trim_end_matches('}').split_once('{').unwrap_or((labels, ""));
    let mut pairs = vec![("__name__", name)];
    let labels = labels.split(',').filter_map(|pair| pair.split_once('='));
    pairs.extend(labels.map(|(label, value)| (label.trim(), value.trim_matches('"'))));
    pairs.sort_unstable();
    let value = match value {
        "stale" => f64::from_bits(STALE_MARKER_BITS),
        value => value.parse().unwrap(),
    };
    series(&pairs, &[(nanos.parse::<i64>().unwrap() / 1_000_000, value)])
}

/// `@00:00:10` and `@2026-01-02T00:00:00Z` as nanoseconds.
fn with_times(body: &str) -> String {
    let line = |line: &str| match line.rsplit_once(" @") {
        Some((point, time)) => {
            let full = if time.contains('T') { time.to_string() } else { format!("2026-01-01T{time}Z") };
            format!("{point} {}", parse_time(&full, 0).unwrap())
        }
        None => line.to_string(),
    };
    body.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The names, then a line per row. Nothing at all for an answer without rows.
pub fn rows(answer: &Answer) -> String {
    let batch = &answer.batch;
    if batch.num_rows() == 0 {
        return String::new();
    }
    let mut table: Vec<Vec<String>> = vec![answer.columns.iter().map(|column| column.name.clone()).collect()];
    for row in 0..batch.num_rows() {
        let cell = |array: &ArrayRef| match array.as_any().downcast_ref::<TimestampNanosecondArray>() {
            _ if array.is_null(row) => "null".to_string(),
            Some(times) => format_time(times.value(row)).trim_start_matches("2026-01-01T").to_string(),
            None => array_value_to_string(array, row).unwrap(),
        };
        table.push(batch.columns().iter().map(cell).collect());
    }
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..answer.columns.len()).map(width).collect();
    let print = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    table.iter().map(print).collect()
}
