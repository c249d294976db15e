//! `waterclock import`: points from files, ours or others', through the same door as everybody.
//!
//! Files are read in batches; a batch is sent until the server has taken it, so what is said to be imported is durable.
//! Importing twice changes nothing: the last write wins, and it is the same one. With `--resume` a file remembers how far
//! each input is.
//! Not here: line protocol itself (`line_text`, `ingest`).

mod batch; // lines to send, and where they stand in the file
mod csv; // CSV, also annotated as InfluxDB does
mod lines; // line protocol
mod parquet; // Parquet of any writer
mod samples; // metrics, as remote write
mod send; // to the server, with patience
mod source; // files, compression, fingerprints

pub use parquet::is_block;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::cli::answer::{counted, thousands};
use crate::cli::client::DatabaseArgs;
use crate::cli::import::batch::{Batch, Reader};
use crate::cli::import::send::Sender;
use crate::cli::import::source::{Form, Input};
use crate::cli::progress::{Progress, Unit};
use crate::cli::terminal;
use crate::error::{Error, Kind, Result};

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  waterclock import points
  waterclock import --db metrics dump.lp.gz
  waterclock import --table trips --time-column pickup --tags vendor trips.parquet
  waterclock import --dry-run --table cpu cpu.csv
  waterclock import --resume import.json points

Exit codes: 0 all imported, 1 some lines were refused or it could not go on, 2 wrong flags.")]
pub struct Args {
    /// Files, or folders with files: .lp .line .txt (line protocol) .csv .parquet, also .gz and .zst of the first two
    #[arg(required = true, value_name = "FILE")]
    inputs: Vec<PathBuf>,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    mapping: Mapping,

    /// Read and check everything, send nothing
    #[arg(long)]
    dry_run: bool,

    /// A file that remembers how far the import is; it is made if it is not there
    #[arg(long, value_name = "STATE")]
    resume: Option<PathBuf>,

    /// How many refused lines are shown; all are counted
    #[arg(long, default_value_t = 10, value_name = "COUNT")]
    errors: u64,
}

/// How the columns of a file become points.
#[derive(clap::Args, Clone, Debug)]
pub struct Mapping {
    /// The table, where the file does not say it [default: the file's name]
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,

    /// The column with the time [default: time, timestamp, ts, datetime or date, else the only one of that type]
    #[arg(long, value_name = "COLUMN")]
    time_column: Option<String>,

    /// The columns that are tags [default: what the file or the table says, else all texts]
    #[arg(long, value_delimiter = ',', value_name = "COLUMN,...")]
    tags: Option<Vec<String>>,

    /// The unit of times that are numbers
    #[arg(long, value_enum, default_value_t = Precision::Ns)]
    precision: Precision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Precision {
    Ns,
    Us,
    Ms,
    S,
}

impl Mapping {
    /// Whether anything is said about names, which files of ours say themselves.
    pub fn says_names(&self) -> bool {
        self.table.is_some() || self.time_column.is_some() || self.tags.is_some()
    }
}

impl Precision {
    fn nanos(self) -> i64 {
        match self {
            Precision::Ns => 1,
            Precision::Us => 1_000,
            Precision::Ms => 1_000_000,
            Precision::S => 1_000_000_000,
        }
    }

    /// As the door of InfluxDB 3 calls it.
    fn long_name(self) -> &'static str {
        match self {
            Precision::Ns => "nanosecond",
            Precision::Us => "microsecond",
            Precision::Ms => "millisecond",
            Precision::S => "second",
        }
    }
}

/// What the state file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// By the input's path.
    files: BTreeMap<String, Progressed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Progressed {
    /// Of the file when it was begun.
    fingerprint: String,
    /// Where to go on: a byte of the text, or a row.
    position: u64,
    done: bool,
}

pub fn run(args: Args) -> Result<()> {
    let inputs = source::find(&args.inputs)?;
    let client = args.database.client()?;
    let mut state = args.resume.as_deref().map(load).transpose()?.unwrap_or_default();
    let mut sender = Sender::new(&client, &args);
    let mut progress = Progress::new(Unit::Bytes);
    let all: u64 = inputs.iter().map(|input| input.bytes).sum();
    let (mut passed, mut files, mut kept) = (0, 0, 0);
    for input in &inputs {
        let path = input.path.display().to_string();
        let fingerprint = input.fingerprint()?;
        let known = state.files.get(&path).filter(|known| known.fingerprint == fingerprint).cloned();
        if known.as_ref().is_some_and(|known| known.done) {
            kept += 1;
            passed += input.bytes;
            continue;
        }
        let from = known.map_or(0, |known| known.position);
        let mut reader = reader(&args, &client, input, from)?;
        let mut batch = Batch::new();
        let mut remember = |position, done| -> Result<()> {
            let Some(file) = &args.resume else { return Ok(()) };
            let fingerprint = fingerprint.clone();
            state.files.insert(path.clone(), Progressed { fingerprint, position, done });
            save(file, &state)
        };
        while reader.next(&mut batch)? {
            sender.send(&path, &mut batch, input.form)?;
            progress.show(&short(&input.path), passed + batch.read_bytes.min(input.bytes), all);
            if !args.dry_run {
                remember(batch.position, false)?;
            }
        }
        if !args.dry_run {
            remember(batch.position, true)?;
        }
        files += 1;
        passed += input.bytes;
    }
    drop(progress);
    report(&args, &sender, files, kept)
}

fn short(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn reader(
    args: &Args,
    client: &crate::cli::client::Client,
    input: &Input,
    from: u64,
) -> Result<Box<dyn Reader>> {
    Ok(match input.form {
        Form::Lines => Box::new(lines::Lines::open(input, from)?),
        Form::Csv => Box::new(csv::Csv::open(args, client, input, from)?),
        Form::Parquet => Box::new(parquet::Parquet::open(&args.mapping, input, from)?),
    })
}

/// Points of a file, to be written.
pub enum FilePoints<'a> {
    /// Lines with times in nanoseconds.
    Lines(&'a [u8]),
    /// A message of remote write 1.0.
    Samples(Vec<u8>),
}

/// The points of a Parquet file, batch by batch. Says what is left out.
pub fn parquet_points(
    path: &Path,
    mapping: &Mapping,
    mut each: impl FnMut(FilePoints<'_>) -> Result<()>,
) -> Result<Vec<String>> {
    let input = source::input(path, Form::Parquet)?;
    let mut reader = parquet::Parquet::open(mapping, &input, 0)?;
    let mut batch = Batch::new();
    let (mut refused, mut first, mut not_finite) = (0, None, 0);
    while reader.next(&mut batch)? {
        refused += batch.refused.len() as u64;
        not_finite += batch.not_finite;
        first = first.or(batch.refused.first().cloned());
        if !batch.lines.text.is_empty() {
            each(FilePoints::Lines(&batch.lines.text))?;
        }
        if !batch.samples.is_empty() {
            each(FilePoints::Samples(batch.samples.message()))?;
        }
    }
    let mut notes = Vec::new();
    if let Some((row, why)) = first {
        notes.push(format!(
            "{}: {} left out, row {row} because {why}",
            path.display(),
            counted(refused, "row")
        ));
    }
    if not_finite > 0 {
        notes.push(format!(
            "{}: {} left out because not finite",
            path.display(),
            counted(not_finite, "value")
        ));
    }
    Ok(notes)
}

/// The table of a file that does not say it.
fn table_of(mapping: &Mapping, input: &Input) -> String {
    let stem = || short(&input.path).split('.').next().unwrap_or_default().to_string();
    mapping.table.clone().unwrap_or_else(stem)
}

fn load(path: &Path) -> Result<State> {
    if !path.exists() {
        return Ok(State::default());
    }
    let text = terminal::read_file("read the state of the import in", path)?;
    serde_json::from_str(&text).map_err(|error| {
        Error::invalid("state", format!("{} is no state of an import: {error}", path.display()))
    })
}

#[expect(clippy::disallowed_methods, reason = "a file of the caller's, not of the database")]
fn save(path: &Path, state: &State) -> Result<()> {
    let text = serde_json::to_string_pretty(state).expect("a state has text keys");
    let mut part = path.as_os_str().to_os_string();
    part.push(".part");
    let write = || {
        std::fs::write(&part, text)?;
        std::fs::rename(&part, path)
    };
    write().map_err(|source| Error::io("write", path.display().to_string(), source))
}

fn report(args: &Args, sender: &Sender<'_>, files: u64, kept: u64) -> Result<()> {
    let counts = &sender.counts;
    let mut notes = sender.shown.clone();
    if counts.refused > sender.shown.len() as u64 {
        notes.push(format!(
            "and {} more (--errors shows more)",
            thousands(counts.refused - sender.shown.len() as u64)
        ));
    }
    let verb = if args.dry_run { "read (nothing was sent)" } else { "imported" };
    notes.push(format!(
        "{verb}: {} of {}",
        counted(counts.lines - counts.refused, "line"),
        counted(files, "file")
    ));
    if kept > 0 {
        notes.push(format!("{} imported before", counted(kept, "file")));
    }
    if counts.empty > 0 {
        notes.push(format!("{} without values", counted(counts.empty, "row")));
    }
    if counts.not_finite > 0 {
        notes.push(format!("{} left out because not finite", counted(counts.not_finite, "value")));
    }
    terminal::note(&notes);
    if counts.refused > 0 {
        let why = format!("{} refused; the others are imported", counted(counts.refused, "line"));
        return Err(Error::rejected(Kind::Invalid, "refused_lines", why));
    }
    Ok(())
}
