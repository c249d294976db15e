//! `waterclock query`: one script to the server, its answer to standard output.
//!
//! Invariant: standard output carries the answer and nothing else; warnings and the line that says how the answer was
//! made go to standard error. csv, json, ndjson and parquet pass through byte for byte as the server gives them.
//! Not here: errors (`main` prints them), the table itself (`table`).

use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;

use clap::{ArgGroup, CommandFactory, ValueEnum};
use serde_json::Value;

use crate::cli::Cli;
use crate::cli::chart;
use crate::cli::client::{Client, DatabaseArgs, Params};
use crate::cli::files;
use crate::cli::folder;
use crate::cli::import::Mapping;
use crate::cli::live;
use crate::cli::table::{put, write_table, write_vertical};
use crate::cli::terminal;
use crate::error::{Error, Result};

#[derive(clap::Args, Debug)]
#[command(group(ArgGroup::new("of_files").args(["table", "time_column", "tags", "precision"]).multiple(true).requires("files")))]
#[command(after_help = "Examples:
  waterclock query 'show tables'
  waterclock query 'cpu | last 1h | every 5m avg(usage), max(usage) by host'
  waterclock query --format csv 'cpu | last 5m' > points.csv
  waterclock query --from 2026-01-01 --to 2026-02-01 'cpu | every 1d max(usage) by host'
  waterclock query --since 1h --format chart 'cpu | every 1m avg(usage) by host'
  waterclock query --live 'cpu | last 10m | every 5s avg(usage) by host'
  waterclock query - < statements.wql
  waterclock query --format parquet 'cpu | last 1d' > cpu.parquet
  waterclock query 'trips | every 1h count by vendor' --file trips-*.parquet

Exit codes: 0 answered, 1 refused or not reachable, 2 wrong flags.")]
pub struct Args {
    /// The statement, in single quotes; - reads it from standard input
    #[arg(required_unless_present_any = ["script", "files"], value_name = "STATEMENT")]
    statement: Option<String>,

    /// Read the statement from a file
    #[arg(short = 'f', long, conflicts_with = "statement", value_name = "FILE")]
    script: Option<PathBuf>,

    #[command(flatten)]
    database: DatabaseArgs,

    /// A data folder or a backup that no server uses, instead of a server; it is only looked at
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Parquet files instead of a server: blocks of ours, or files of any other program. A statement that stands behind them
    /// is taken for the last word
    #[arg(long = "file", num_args = 1.., conflicts_with = "data_dir", value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    mapping: Mapping,

    /// table, vertical and chart are for people and round fractions; the others are exact
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,

    /// Start of the range, for statements without one: 2026-01-01, 2026-01-01T12:00:00Z, -1h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<String>,

    /// The same as how long ago: 1h, 30d; or a time
    #[arg(long, value_name = "DURATION", conflicts_with = "from")]
    since: Option<String>,

    /// End of the range (not in it), for statements without one
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<String>,

    /// Read raw points only
    #[arg(long)]
    no_rollups: bool,

    /// Value of a $name in the statement; may be given several times. A number, true, false or a JSON list is one, anything
    /// else is text, and so is what stands in double quotes
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = param)]
    params: Vec<(String, Value)>,

    /// Give up after this long: 500ms, 10s, 5m
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,

    /// How times are written
    #[arg(long, value_enum, value_name = "HOW")]
    time: Option<TimeText>,

    /// Keep the statement running and show each window when it closes: a chart on a terminal, else one JSON object per row
    #[arg(long, conflicts_with_all = ["data_dir", "from", "since", "to", "timeout"])]
    live: bool,

    /// Say how the answer was made also when this is no terminal
    #[arg(long)]
    stats: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Vertical,
    Csv,
    Json,
    Ndjson,
    /// A file, for a pipe or a redirection
    Parquet,
    /// Lines over time, one per value column and group
    Chart,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TimeText {
    Rfc3339,
    S,
    Ms,
    Us,
    Ns,
}

pub fn run(mut args: Args) -> Result<()> {
    if args.statement.is_none() && args.script.is_none() {
        // `--file a.parquet b.parquet 'cpu | last 5m'`: flags take all that follows.
        args.statement = args.files.pop().map(|last| last.display().to_string());
        if args.files.is_empty() {
            return Err(usage("there is no statement behind --file FILE"));
        }
    }
    refuse_terminal(args.format)?;
    let statement = statement(&args)?;
    let opened = match args.files.is_empty() {
        true => None,
        false => Some(files::open(&args.files, &args.mapping, &args.database.db)?),
    };
    let client = match (&opened, &args.data_dir) {
        (Some(opened), _) => opened.client.clone(),
        (None, Some(folder)) => folder::open(folder)?,
        (None, None) => args.database.client()?,
    };
    let since = args.since.as_deref().map(since);
    let mut params = args.database.params();
    if let Some(opened) = &opened {
        terminal::note(&opened.notes);
        params = vec![("db", &opened.database)];
    }
    params.extend(args.from.as_deref().or(since.as_deref()).map(|from| ("from", from)));
    params.extend(args.to.as_deref().map(|to| ("to", to)));
    if args.no_rollups {
        params.push(("rollups", "off"));
    }
    params.extend(args.timeout.as_deref().map(|timeout| ("timeout", timeout)));
    let bound: serde_json::Map<String, Value> = args.params.iter().cloned().collect();
    let bound = (!bound.is_empty()).then(|| Value::Object(bound).to_string());
    params.extend(bound.as_deref().map(|bound| ("params", bound)));
    let time = args.time.and_then(|time| time.to_possible_value());
    params.extend(time.as_ref().map(|time| ("time", time.get_name())));

    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if args.live {
        let shape = live_shape(args.format)?;
        return live::run(&client, &statement, &params, shape, &mut out);
    }
    let told = write(&client, &statement, args.format, &params, &mut out)?;
    drop(out);
    if let Some(mut told) = told {
        if args.stats || terminal::is_stdout() {
            told.warnings.push(terminal::dim_on_stderr(&told.summary));
        }
        terminal::note(&told.warnings);
    }
    Ok(())
}

/// The default format is that of one answer.
fn live_shape(format: Format) -> Result<live::Shape> {
    match format {
        Format::Chart => Ok(live::Shape::Chart),
        Format::Ndjson => Ok(live::Shape::Ndjson),
        Format::Table if terminal::is_stdout() => Ok(live::Shape::Chart),
        Format::Table => Ok(live::Shape::Ndjson),
        _ => Err(Error::invalid("bad_flag", "--live has no end, and so it takes --format chart or ndjson")),
    }
}

/// Ends the process as wrong flags do.
fn usage(what: &str) -> Error {
    Cli::command().error(clap::error::ErrorKind::MissingRequiredArgument, what).exit()
}

fn refuse_terminal(format: Format) -> Result<()> {
    if format == Format::Parquet && terminal::is_stdout() {
        let why = "Parquet is a file and no text for a terminal; write it to one: waterclock query --format parquet '...' > answer.parquet";
        return Err(Error::invalid("format", why));
    }
    Ok(())
}

/// What is said beside an answer for people.
pub struct Told {
    pub warnings: Vec<String>,
    pub summary: String,
}

/// Asks, and writes the answer in a format. Exact formats tell nothing beside it.
pub fn write(
    client: &Client,
    statement: &str,
    format: Format,
    params: &Params<'_>,
    out: &mut dyn Write,
) -> Result<Option<Told>> {
    let write = match format {
        Format::Table => write_table,
        Format::Vertical => write_vertical,
        Format::Chart => chart::write_chart,
        Format::Csv => return copy(client, statement, "text/csv", params, out).map(|()| None),
        Format::Ndjson => return copy(client, statement, "application/x-ndjson", params, out).map(|()| None),
        Format::Json => return copy(client, statement, "application/json", params, out).map(|()| None),
        Format::Parquet => {
            refuse_terminal(format)?;
            return copy(client, statement, "application/vnd.apache.parquet", params, out).map(|()| None);
        }
    };
    let mut params = params.clone();
    if format == Format::Chart {
        params.retain(|(name, _)| *name != "time");
        params.push(chart::TIME);
    }
    let answer = client.answer(statement, &params)?;
    write(out, &answer, terminal::style_of_stdout())?;
    flush(out)?;
    let warnings = answer.warnings.iter().map(|warning| format!("warning: {warning}")).collect();
    Ok(Some(Told { warnings, summary: answer.summary() }))
}

/// `1h` as the start of a range, `-1h`; what is no duration may be a time.
fn since(text: &str) -> String {
    match query_lang::time::duration(text) {
        Ok(_) => format!("-{text}"),
        Err(_) => text.to_string(),
    }
}

/// `host=h1`, `n=5`, `hosts=["a","b"]`, `zip="01234"`.
fn param(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("give NAME=VALUE, such as host=h1")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_string()));
    Ok((name.to_string(), value))
}

fn statement(args: &Args) -> Result<String> {
    match (&args.script, args.statement.as_deref()) {
        (Some(path), _) => terminal::read_file("read the statement in", path),
        (None, Some("-")) => {
            let mut text = String::new();
            let read = std::io::stdin().lock().read_to_string(&mut text);
            read.map_err(|source| Error::io("read", "standard input", source))?;
            Ok(text)
        }
        (None, statement) => Ok(statement.unwrap_or_default().to_string()),
    }
}

/// Of the end of an answer, where it says why it is no whole one.
const TAIL_BYTES: usize = 4 << 10;

/// The body as it comes, piece by piece, so that an answer of any size needs no memory here.
fn copy(
    client: &Client,
    statement: &str,
    accept: &str,
    params: &Params<'_>,
    out: &mut dyn Write,
) -> Result<()> {
    let mut body = client.wql(statement, accept, params)?.into_body().into_reader();
    let mut piece = vec![0; 64 << 10];
    let mut last = b'\n';
    let mut tail: Vec<u8> = Vec::new();
    loop {
        let read = match body.read(&mut piece) {
            Ok(read) => read,
            Err(source) => {
                flush(out)?;
                return Err(client.broken_off(&tail, &source));
            }
        };
        let Some(end) = read.checked_sub(1) else { break };
        last = piece[end];
        tail.extend_from_slice(&piece[read.saturating_sub(TAIL_BYTES)..read]);
        tail.drain(..tail.len().saturating_sub(TAIL_BYTES));
        let written = out.write_all(&piece[..read]);
        written.map_err(|source| Error::io("write to", "standard output", source))?;
    }
    // JSON ends without a line end, and a prompt should not stand behind it.
    if last != b'\n' && std::io::stdout().is_terminal() {
        put(out, "\n")?;
    }
    flush(out)
}

fn flush(out: &mut dyn Write) -> Result<()> {
    out.flush().map_err(|source| Error::io("write to", "standard output", source))
}
