//! `waterclock check`: is a data folder sound, and if not, what is wrong where.
//!
//! Invariant: without `--repair` not a byte of the folder changes. Exit code 0 means sound, 1 damaged (also if a repair
//! has left damage behind), 2 a command line that makes no sense.
//! Not here: what is looked at (`check`).

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::check::{Counts, Finding, Options, Report, check, repair};
use crate::cli::answer::{counted, thousands};
use crate::cli::progress::{Progress, Unit};
use crate::cli::table::put;
use crate::clock::{Clock, SystemClock};
use crate::disk::{Disk, LocalDisk};
use crate::error::{Error, Kind, Result};

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  waterclock check waterclock-data
  waterclock check --rollups waterclock-data
  waterclock check --repair waterclock-data

No server may use the folder meanwhile. Exit codes: 0 sound, 1 damaged, 2 wrong flags.")]
pub struct Args {
    /// The data folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// Also compute every rollup again from raw points and compare
    #[arg(long)]
    rollups: bool,

    /// Set damaged files aside in DIR/damaged and keep the rest; then check again
    #[arg(long)]
    repair: bool,

    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub fn run(args: Args) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let options = Options { rollups: args.rollups };
    let look = |disk: &Arc<dyn Disk>| {
        let mut progress = Progress::new(Unit::Shares);
        check(disk, &clock, &options, &mut |stage, done, all| progress.show(stage, done, all))
    };
    // Looking makes no folder, not even for a wrong name.
    let read_only: Arc<dyn Disk> = Arc::new(LocalDisk::open_to_read(&args.folder)?);
    let mut report = look(&read_only)?;
    drop(read_only);
    let mut done = Vec::new();
    if args.repair && !report.is_sound() {
        let disk: Arc<dyn Disk> = Arc::new(LocalDisk::open(&args.folder)?);
        // Somebody may have been here between the locks.
        let found = look(&disk)?;
        done = repair(&disk, &found)?;
        if args.format == Format::Text {
            print(&found)?;
            lines(done.iter().map(|line| format!("repaired  {line}\n")))?;
        }
        report = look(&disk)?;
    }
    match args.format {
        Format::Text => {
            print(&report)?;
            lines([format!("{}\n", summary(&report))])?;
        }
        Format::Json => lines([format!("{}\n", json_of(&report, &done))])?,
    }
    if report.is_sound() {
        return Ok(());
    }
    let cure =
        if args.repair { "what is left is for a person" } else { "see above; --repair keeps what is sound" };
    Err(Error::rejected(
        Kind::Conflict,
        "damaged",
        format!("{} is damaged in {}; {cure}", args.folder.display(), places(report.damage.len())),
    ))
}

fn places(count: usize) -> String {
    counted(count as u64, "place")
}

fn summary(report: &Report) -> String {
    let Counts { blocks, block_bytes, rows, segments, log_bytes, records, rollups, states } = report.counts;
    let mut text = format!(
        "{}: {} ({} bytes, {}), {} ({} bytes, {})",
        if report.is_sound() { "sound" } else { "damaged" },
        counted(blocks, "block"),
        thousands(block_bytes),
        counted(rows, "row"),
        counted(segments, "log segment"),
        thousands(log_bytes),
        counted(records, "record"),
    );
    if rollups > 0 {
        text.push_str(&format!(", {} ({} recomputed)", counted(rollups, "rollup"), counted(states, "state")));
    }
    if !report.is_sound() {
        text.push_str(&format!(", damage in {}", places(report.damage.len())));
    }
    text
}

pub fn print(report: &Report) -> Result<()> {
    lines(report.damage.iter().map(|Finding { file, offset, what, cure, .. }| {
        format!("damaged   {file} at byte {offset}: {what}\n          {cure}\n")
    }))?;
    lines(report.notes.iter().map(|Finding { file, what, .. }| format!("note      {file}: {what}\n")))
}

fn lines(lines: impl IntoIterator<Item = String>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    lines.into_iter().try_for_each(|line| put(&mut out, &line))
}

fn json_of(report: &Report, done: &[String]) -> Value {
    let finding = |Finding { file, offset, what, cure, .. }: &Finding| json!({ "file": file, "offset": offset, "what": what, "cure": cure });
    let Counts { blocks, block_bytes, rows, segments, log_bytes, records, rollups, states } = report.counts;
    json!({
        "sound": report.is_sound(),
        "damage": report.damage.iter().map(finding).collect::<Vec<Value>>(),
        "notes": report.notes.iter().map(|note| json!({ "file": note.file, "what": note.what })).collect::<Vec<Value>>(),
        "repaired": done,
        "counts": {
            "blocks": blocks, "block_bytes": block_bytes, "rows": rows, "segments": segments, "log_bytes": log_bytes,
            "records": records, "rollups": rollups, "states": states,
        },
    })
}
