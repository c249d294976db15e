//! `waterclock rollup`: list, show, create, alter, drop, pause, resume, refresh, progress.
//!
//! Invariant: everything but refresh and progress is a WQL statement, so that what these say and what `query` says cannot
//! differ.

use std::time::Duration;

use clap::Subcommand;
use crossbeam_channel::never;
use serde::Deserialize;

use crate::cli::answer::{Answer, thousands};
use crate::cli::client::{DatabaseArgs, path_segment};
use crate::cli::progress::{Progress, Unit};
use crate::cli::table::{put, write_table, write_vertical};
use crate::cli::terminal;
use crate::error::{Error, Kind, Result};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Every rollup: on what, computed until when, how many buckets are dirty or missing
    List {
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// One rollup
    Show {
        name: String,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Create one: 'cpu_1m as cpu | every 1m avg(usage) by host'
    Create {
        statement: String,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Give one other aggregates: 'cpu_1m add p99(usage)' or 'cpu_1m drop max(usage)'; the old ones answer meanwhile
    Alter {
        change: String,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Compute nothing of it in the background until it is resumed; reads stay right
    Pause {
        name: String,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// End a pause
    Resume {
        name: String,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Wait until all of it is computed, with a bar
    Progress {
        name: String,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Drop one with its states; the raw points stay
    Drop {
        name: String,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Compute missing and dirty buckets now instead of in the background
    Refresh {
        name: String,
        /// Only buckets from here on
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        from: Option<String>,
        /// Only buckets before this
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        to: Option<String>,
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

#[derive(Deserialize)]
struct Computed {
    done: bool,
    done_buckets: u64,
    total_buckets: u64,
    rebuilt: Option<Rebuilt>,
    state: String,
    last_error: Option<String>,
}

#[derive(Deserialize)]
struct Rebuilt {
    done_buckets: u64,
    total_buckets: u64,
}

/// Between two looks at what is computed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Deserialize)]
struct Refreshed {
    buckets: u64,
}

pub fn run(args: Args) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let style = terminal::style_of_stdout();
    match args.action {
        Action::List { database } => {
            let answer = database.client()?.answer(SHOW, &database.params())?;
            if answer.rows.is_empty() {
                let cure =
                    "create one with: waterclock rollup create 'NAME as TABLE | every 1m avg(FIELD) by TAG'";
                terminal::note(&[format!("no rollups in database {}; {cure}", database.db)]);
            }
            write_table(&mut out, &answer, style)
        }
        Action::Show { name, database } => {
            let answer = only(database.client()?.answer(SHOW, &database.params())?, &name)?;
            write_vertical(&mut out, &answer, style)
        }
        Action::Create { statement, database } => {
            let text = statement.trim();
            let whole = match text.split_whitespace().next() {
                Some("create") => text.to_string(),
                _ => format!("{CREATE}{text}"),
            };
            database.client()?.answer(&whole, &database.params())?;
            let name =
                text.strip_prefix(CREATE).unwrap_or(text).split_whitespace().next().unwrap_or_default();
            put(
                &mut out,
                &format!(
                    "created {name}; old points are computed in the background, queries are right already\n"
                ),
            )
        }
        Action::Alter { change, database } => {
            let text = change.trim();
            let statement = format!("{ALTER}{}", text.strip_prefix(ALTER).unwrap_or(text));
            database.client()?.answer(&statement, &database.params())?;
            put(
                &mut out,
                "altered; the new states are computed beside the old ones, which answer meanwhile\n",
            )
        }
        Action::Pause { name, database } => {
            let statement = format!("pause rollup {}", query_lang::print::name(&name));
            database.client()?.answer(&statement, &database.params())?;
            put(&mut out, &format!("paused {name}\n"))
        }
        Action::Resume { name, database } => {
            let statement = format!("resume rollup {}", query_lang::print::name(&name));
            database.client()?.answer(&statement, &database.params())?;
            put(&mut out, &format!("resumed {name}\n"))
        }
        Action::Progress { name, database } => wait_for(&mut out, &name, &database),
        Action::Drop { name, database } => {
            let statement = format!("drop rollup {}", query_lang::print::name(&name));
            database.client()?.answer(&statement, &database.params())?;
            put(&mut out, &format!("dropped {name}\n"))
        }
        Action::Refresh { name, from, to, database } => {
            let mut params = database.params();
            params.extend(from.as_deref().map(|from| ("from", from)));
            params.extend(to.as_deref().map(|to| ("to", to)));
            let path = format!("/api/rollups/{}/refresh", path_segment(&name));
            let refreshed: Refreshed = database.client()?.post(&path, &params)?;
            put(&mut out, &format!("{name}: {} buckets computed\n", thousands(refreshed.buckets)))
        }
    }
}

/// Until nothing is left to compute, or nothing more will be.
fn wait_for(out: &mut impl std::io::Write, name: &str, database: &DatabaseArgs) -> Result<()> {
    let client = database.client()?;
    let path = format!("/api/rollups/{}/progress?db={}", path_segment(name), path_segment(&database.db));
    let mut bar = Progress::new(Unit::Buckets);
    loop {
        let seen: Computed = client.get(&path)?;
        let (done, total) = match &seen.rebuilt {
            Some(rebuilt) => (rebuilt.done_buckets, rebuilt.total_buckets),
            None => (seen.done_buckets, seen.total_buckets),
        };
        bar.show(name, done, total);
        if seen.done || seen.state == "paused" || seen.state == "set aside" {
            drop(bar);
            let (done, total) = (thousands(done), thousands(total));
            put(out, &format!("{name}: {done} of {total} buckets computed, {}\n", seen.state))?;
            return match seen.last_error {
                Some(error) => Err(Error::rejected(Kind::Unavailable, "rollup", error)),
                None => Ok(()),
            };
        }
        // Nothing comes; it is a wait that ends.
        let _ = never::<()>().recv_timeout(LOOK_EVERY);
    }
}

const SHOW: &str = "show rollups";
const ALTER: &str = "alter rollup ";
const CREATE: &str = "create rollup ";

/// The row of one rollup.
fn only(mut answer: Answer, name: &str) -> Result<Answer> {
    let column = answer.column("rollup").unwrap_or(0);
    let names: Vec<String> =
        answer.rows.iter().filter_map(|row| Some(row.get(column)?.as_str()?.to_string())).collect();
    answer.rows.retain(|row| row.get(column).and_then(|value| value.as_str()) == Some(name));
    if answer.rows.is_empty() {
        let there = match names.as_slice() {
            [] => "there are none".to_string(),
            names => format!("there are {}", names.join(", ")),
        };
        return Err(Error::rejected(
            Kind::NotFound,
            "unknown_rollup",
            format!("there is no rollup {name}; {there}"),
        ));
    }
    Ok(answer)
}
