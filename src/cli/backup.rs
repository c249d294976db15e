//! `waterclock backup` and `waterclock restore`.
//!
//! Invariant: a backup of a running server goes through its HTTP door; the other two ways need folders that nobody uses.
//! Not here: what is copied in which order (`backup`).

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Deserialize;

use crate::backup;
use crate::cli::answer::{counted, thousands};
use crate::cli::check::print;
use crate::cli::client::{Client, DEFAULT_URL};
use crate::cli::progress::{Progress, Unit};
use crate::cli::settings;
use crate::cli::table::put;
use crate::clock::{Clock, SystemClock};
use crate::config::Location;
use crate::disk;
use crate::error::{Error, Kind, Rejection, Result};

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  waterclock backup --to /backup/waterclock
  waterclock backup --to s3://bucket/prefix
  waterclock backup --data-dir waterclock-data --to /backup/waterclock

Repeated into the same place, only what is new is copied. Blocks on the same file system are linked, not copied.")]
pub struct BackupArgs {
    /// Place for the backup: a folder of the server's machine or s3://bucket/prefix, empty or with an earlier backup
    #[arg(long, value_name = "DIR|URL")]
    to: Location,

    /// Address of the server
    #[arg(long, env = "WATERCLOCK_URL", default_value = DEFAULT_URL, value_name = "URL")]
    url: String,

    /// Data that no server uses, instead of a server: a folder or s3://bucket/prefix
    #[arg(long, value_name = "DIR|URL")]
    data_dir: Option<Location>,

    /// Folder of the log of data in a bucket; without it, only what is in blocks is backed up
    #[arg(long, value_name = "DIR", requires = "data_dir")]
    wal_dir: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
pub struct RestoreArgs {
    /// Where the backup is: a folder or s3://bucket/prefix; it stays as it is
    #[arg(value_name = "BACKUP")]
    backup: Location,

    /// The place for the data: a folder or s3://bucket/prefix, empty or not there yet
    #[arg(value_name = "DIR|URL")]
    data_dir: Location,

    /// Folder for the log when the data go to a bucket
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
}

/// A line of the server's answer.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Progress { done: u64, all: u64 },
    Done { blocks: u64, kept: u64, linked: u64, copied: u64, copied_bytes: u64, log_bytes: u64, removed: u64 },
    Failed { error: Failed },
}

#[derive(Deserialize)]
struct Failed {
    message: String,
    hint: Option<String>,
}

pub fn backup(args: BackupArgs) -> Result<()> {
    let to = match args.to {
        Location::Folder(folder) => {
            let absolute = std::path::absolute(&folder);
            Location::Folder(
                absolute.map_err(|source| Error::io("find", folder.display().to_string(), source))?,
            )
        }
        bucket => bucket,
    };
    let mut progress = Progress::new(Unit::Bytes);
    let mut show = |done, all| progress.show("backup", done, all);
    let done = match &args.data_dir {
        Some(location) => {
            let config = settings::load(None, Vec::new())?;
            let source = disk::data_to_read(location, args.wal_dir.as_deref(), &config)?;
            backup::offline(&*source, &*disk::backup_to_write(&to, &config)?, &mut |done, all| {
                show(done, all);
                Ok(())
            })?
        }
        None => through_server(&Client::new(&args.url)?, &to, &mut show)?,
    };
    drop(progress);
    let backup::Done { blocks, kept, linked, copied, copied_bytes, log_bytes, removed } = done;
    put(
        &mut std::io::stdout().lock(),
        &format!(
            "backed up to {}: {} ({} there already, {} linked, {} copied), {} bytes copied, of those {} of the log; {} removed\n",
            to,
            counted(blocks, "block"),
            thousands(kept),
            thousands(linked),
            thousands(copied),
            thousands(copied_bytes),
            thousands(log_bytes),
            counted(removed, "old block"),
        ),
    )
}

fn through_server(client: &Client, to: &Location, show: &mut dyn FnMut(u64, u64)) -> Result<backup::Done> {
    let answer = client.post_and_listen("/api/backup", &vec![("to", to.to_string().as_str())])?;
    for line in BufReader::new(answer.into_body().into_reader()).lines() {
        let line = line.map_err(|source| Error::io("read the answer of", client.url(), source))?;
        let line = serde_json::from_str(&line).map_err(|error| {
            let why = format!("{} answered something that is no Waterclock answer: {error}", client.url());
            Error::rejected(Kind::Unavailable, "bad_answer", why)
        })?;
        match line {
            Line::Progress { done, all } => show(done, all),
            Line::Done { blocks, kept, linked, copied, copied_bytes, log_bytes, removed } => {
                return Ok(backup::Done { blocks, kept, linked, copied, copied_bytes, log_bytes, removed });
            }
            Line::Failed { error } => {
                return Err(Error::Rejected(Box::new(Rejection {
                    kind: Kind::Unavailable,
                    code: "server",
                    why: error.message,
                    at: None,
                    hint: error.hint,
                    rendered: None,
                })));
            }
        }
    }
    Err(Error::rejected(
        Kind::Unavailable,
        "cut_off",
        format!(
            "{} stopped in the middle of the backup; the backup before it is untouched, try again",
            client.url()
        ),
    ))
}

pub fn restore(args: RestoreArgs) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let named = [
        ("data_dir", Some(args.data_dir.to_string())),
        ("wal_dir", args.wal_dir.as_ref().map(|path| path.display().to_string())),
    ];
    let named = named.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
    let config = settings::load(None, named.collect())?;
    let source = disk::backup_to_read(&args.backup, &config)?;
    let target = disk::data_to_write(&config)?;
    // One bar at a time: the second comes when the first is gone.
    let copying = Mutex::new(Some(Progress::new(Unit::Bytes)));
    let mut checking = Progress::new(Unit::Shares);
    let (done, report) = backup::restore(
        &*source,
        &target,
        &clock,
        &mut |done, all| {
            if let Some(copying) = &mut *copying.lock() {
                copying.show("restore", done, all);
            }
            Ok(())
        },
        &mut |stage, done, all| {
            drop(copying.lock().take());
            checking.show(stage, done, all);
        },
    )?;
    drop(checking);
    print(&report)?;
    let folder = args.data_dir;
    if !report.is_sound() {
        let why = format!(
            "{folder} was made, but the backup is damaged; waterclock check --repair {folder} keeps the rest"
        );
        return Err(Error::rejected(Kind::Conflict, "damaged", why));
    }
    let text = format!(
        "restored {folder}: {} and {} bytes of log, checked; start it with: waterclock serve --data-dir {folder}\n",
        counted(done.blocks, "block"),
        thousands(done.log_bytes),
    );
    put(&mut std::io::stdout().lock(), &text)
}
