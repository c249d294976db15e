//! `waterclock export`: the points as they are, deletes and overwrites applied, in files that other tools read.
//!
//! It asks in pieces of time, through the same door as everybody, so that neither side ever holds more than a piece. A
//! file has its name only once it is whole; the list of pieces stands beside the files, so an export that was cut off goes
//! on with `--resume` where it was.
//! Invariant: each piece is one answer, so it is one moment; points that come while pieces are asked for may be in later
//! ones.

mod pieces; // ranges of time with a bounded number of rows
mod write; // answers as Parquet, CSV, line protocol

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use query_lang::print::name;
use query_lang::time::format_time;
use serde::{Deserialize, Serialize};
use storage_format::point::TimeRange;

use crate::cli::answer::counted;
use crate::cli::client::{Client, DatabaseArgs};
use crate::cli::folder;
use crate::cli::progress::{Progress, Unit};
use crate::cli::terminal;
use crate::error::{Error, Kind, Result};

pub(super) use write::FOOTER_KEY;

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  waterclock export --out points
  waterclock export --table cpu --from 2026-01-01 --to 2026-02-01 --format csv --out january
  waterclock export --table cpu --where 'host=\"a\"' --format lp --out - | gzip > cpu.lp.gz
  waterclock export --out points --resume")]
pub struct Args {
    #[command(flatten)]
    database: DatabaseArgs,

    /// A data folder or a backup that no server uses, instead of a server; it is only looked at
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Only this table; may be given several times [default: all]
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,

    /// Only points from here on: 2026-01-01, 2026-01-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<String>,

    /// Only points before this
    #[arg(long, value_name = "TIME")]
    to: Option<String>,

    /// Only series that pass: a condition on tags as in WQL
    #[arg(long = "where", value_name = "CONDITION")]
    condition: Option<String>,

    #[arg(long, value_enum, default_value_t = Format::Parquet)]
    format: Format,

    /// Folder for the files, a folder per table in it; - writes CSV or line protocol to standard output
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Go on with an export that was cut off
    #[arg(long)]
    resume: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Parquet,
    /// With a line before the header that says what each column is, which `import` and InfluxDB's tools read
    Csv,
    /// Line protocol
    Lp,
}

impl Format {
    fn extension(self) -> &'static str {
        match self {
            Format::Parquet => "parquet",
            Format::Csv => "csv",
            Format::Lp => "lp",
        }
    }
}

/// What is to be exported, in pieces: the state file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Plan {
    database: String,
    tables: Vec<String>,
    from: Option<String>,
    to: Option<String>,
    condition: Option<String>,
    format: Format,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Piece {
    table: String,
    start: i64,
    /// When the plan was made.
    rows: u64,
}

const STATE_FILE: &str = "export.json";

pub fn run(args: Args) -> Result<()> {
    let client = match &args.data_dir {
        Some(folder) => folder::open(folder)?,
        None => args.database.client()?,
    };
    if args.out.as_os_str() == "-" {
        return to_stdout(&args, &client);
    }
    let plan = planned(&args, &client)?;
    let all = plan.pieces.iter().map(|piece| piece.rows).sum();
    let mut progress = Progress::new(Unit::Rows);
    let (mut done, mut written, mut kept) = (0, 0, 0);
    let mut rows: BTreeMap<&str, u64> = BTreeMap::new();
    let ranges = ranges(&plan.pieces, asked(&args)?);
    for (piece, range) in plan.pieces.iter().zip(ranges) {
        progress.show(&piece.table, done, all);
        let file = file_of(&args.out, &plan, piece);
        if file.exists() {
            kept += 1;
        } else {
            let wanted = statement(&piece.table, args.condition.as_deref(), range);
            let found = write_file(&client, &args, &wanted, piece, &file)?;
            *rows.entry(&piece.table).or_default() += found;
            written += 1;
        }
        done += piece.rows;
    }
    drop(progress);
    let count: u64 = rows.values().sum();
    let mut notes = vec![format!(
        "exported {} of {} to {} in {}",
        counted(count, "row"),
        counted(plan.tables.len() as u64, "table"),
        counted(written, "file"),
        args.out.display()
    )];
    if kept > 0 {
        notes.push(format!("{} done before", counted(kept, "file")));
    }
    terminal::note(&notes);
    Ok(())
}

/// The plan of the state file, or a new one.
fn planned(args: &Args, client: &Client) -> Result<Plan> {
    let state = args.out.join(STATE_FILE);
    let same = |plan: &Plan| {
        plan.database == args.database.db
            && (args.tables.is_empty() || plan.tables == args.tables)
            && (plan.from.as_ref(), plan.to.as_ref()) == (args.from.as_ref(), args.to.as_ref())
            && plan.condition == args.condition
            && plan.format == args.format
    };
    if args.resume {
        let text = terminal::read_file("read the state of the export in", &state)?;
        let plan: Plan = serde_json::from_str(&text).map_err(|error| {
            Error::invalid("state", format!("{} is no state of an export: {error}", state.display()))
        })?;
        if !same(&plan) {
            return Err(Error::invalid(
                "state",
                format!(
                    "{} is the state of another export; give the same flags, or another folder",
                    state.display()
                ),
            ));
        }
        return Ok(plan);
    }
    let there = std::fs::read_dir(&args.out).is_ok_and(|mut entries| entries.next().is_some());
    if there {
        return Err(Error::rejected(
            Kind::Conflict,
            "not_empty",
            format!(
                "{} is not empty; give an empty folder, or --resume to go on with the export in it",
                args.out.display()
            ),
        ));
    }
    let tables = tables(args, client)?;
    let mut pieces = Vec::new();
    for table in &tables {
        pieces.extend(pieces::plan(client, args, table)?);
    }
    let plan = Plan {
        database: args.database.db.clone(),
        tables,
        from: args.from.clone(),
        to: args.to.clone(),
        condition: args.condition.clone(),
        format: args.format,
        pieces,
    };
    let text = serde_json::to_string_pretty(&plan).expect("a plan has text keys");
    make_folder(&args.out)?;
    replace(&state, |file| file.write_all(text.as_bytes()))?;
    Ok(plan)
}

fn tables(args: &Args, client: &Client) -> Result<Vec<String>> {
    if !args.tables.is_empty() {
        return Ok(args.tables.clone());
    }
    let answer = client.answer("show tables", &args.database.params())?;
    let column = answer.column("table").unwrap_or_default();
    let names = answer.rows.iter().filter_map(|row| row.get(column)?.as_str().map(str::to_string));
    Ok(names.collect())
}

/// What is asked for each piece: of each table all that is asked, without gaps.
fn ranges(pieces: &[Piece], asked: TimeRange) -> impl Iterator<Item = TimeRange> {
    pieces.iter().enumerate().map(move |(at, piece)| {
        let of_table = |at: usize| pieces.get(at).filter(|other| other.table == piece.table);
        let before = at.checked_sub(1).and_then(of_table);
        let start = if before.is_some() { piece.start } else { asked.start };
        TimeRange::new(start, of_table(at + 1).map_or(asked.end, |next| next.start))
    })
}

/// All points of a table in a range.
fn statement(table: &str, condition: Option<&str>, range: TimeRange) -> String {
    let condition = condition.map(|condition| format!(" | where {condition}")).unwrap_or_default();
    format!("{}{condition}{}", name(table), pieces::between(range))
}

fn file_of(out: &Path, plan: &Plan, piece: &Piece) -> PathBuf {
    let time = format_time(piece.start).replace(':', "-");
    out.join(folder_name(&piece.table)).join(format!("{time}.{}", plan.format.extension()))
}

/// A table's name as a folder's: letters, digits, `_` and `-` as they are.
fn folder_name(table: &str) -> String {
    let mut folder = String::new();
    for byte in table.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => folder.push(char::from(byte)),
            _ => folder.push_str(&format!("%{byte:02X}")),
        }
    }
    folder
}

fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|source| Error::io("make the folder", folder.display().to_string(), source))
}

/// Writes a file that has its name only once it is whole.
#[expect(clippy::disallowed_methods, reason = "a file of the caller's, not of the database")]
fn replace<T>(path: &Path, fill: impl FnOnce(&mut std::fs::File) -> std::io::Result<T>) -> Result<T> {
    let mut part = path.as_os_str().to_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let write = || {
        let mut file = std::fs::File::create(&part)?;
        let filled = fill(&mut file)?;
        file.sync_all()?;
        std::fs::rename(&part, path)?;
        Ok(filled)
    };
    write().map_err(|source| Error::io("write", path.display().to_string(), source))
}

fn write_file(client: &Client, args: &Args, wanted: &str, piece: &Piece, file: &Path) -> Result<u64> {
    if let Some(folder) = file.parent() {
        make_folder(folder)?;
    }
    let as_stored = args.format == Format::Parquet;
    let points = write::Points::ask(client, wanted, &args.database, &piece.table, as_stored)?;
    let (mut failed, rows) = (None, std::cell::Cell::new(0));
    replace(file, |file| {
        let outcome = match args.format {
            Format::Parquet => points.parquet(file, &rows),
            Format::Csv => points.csv(&mut std::io::BufWriter::new(file), true, &rows),
            Format::Lp => points.lines(&mut std::io::BufWriter::new(file), &rows),
        };
        // The server's word is better than that of the file that could not be finished.
        outcome.map_err(|error| {
            failed = Some(error);
            std::io::Error::other("the piece could not be read")
        })
    })
    .map_err(|error| failed.take().unwrap_or(error))?;
    Ok(rows.get())
}

fn to_stdout(args: &Args, client: &Client) -> Result<()> {
    if args.resume {
        return Err(Error::invalid("resume", "standard output cannot be resumed; give --out a folder"));
    }
    let tables = tables(args, client)?;
    match args.format {
        Format::Parquet => {
            return Err(Error::invalid(
                "format",
                "Parquet does not go to standard output; give --out a folder, or --format csv or lp",
            ));
        }
        Format::Csv if tables.len() > 1 => {
            let what = format!(
                "CSV holds one table, and there are {}; give --table, or --out a folder",
                tables.len()
            );
            return Err(Error::invalid("tables", what));
        }
        _ => {}
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let rows = std::cell::Cell::new(0);
    for table in &tables {
        let pieces = pieces::plan(client, args, table)?;
        for (number, range) in ranges(&pieces, asked(args)?).enumerate() {
            let wanted = statement(table, args.condition.as_deref(), range);
            let points = write::Points::ask(client, &wanted, &args.database, table, false)?;
            match args.format {
                Format::Csv => points.csv(&mut out, number == 0, &rows)?,
                _ => points.lines(&mut out, &rows)?,
            }
        }
    }
    out.flush().map_err(|source| Error::io("write to", "standard output", source))
}

/// The asked range, as far as it is given.
fn asked(args: &Args) -> Result<TimeRange> {
    let time = |text: &Option<String>, default: i64| match text {
        Some(text) => query_lang::parse_time(text, 0).map_err(Error::from),
        None => Ok(default),
    };
    let range = TimeRange::new(time(&args.from, TimeRange::ALL.start)?, time(&args.to, TimeRange::ALL.end)?);
    if range.is_empty() {
        return Err(Error::invalid("range", "--from must lie before --to"));
    }
    Ok(range)
}
