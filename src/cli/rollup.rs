//! `waterclock rollup`: list, show, create, drop, refresh.
//!
//! Invariant: everything but refresh is a WQL statement, so that what these say and what `query` says cannot differ.

use clap::Subcommand;
use serde::Deserialize;

use crate::cli::answer::{Answer, thousands};
use crate::cli::client::{DatabaseArgs, path_segment};
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

const SHOW: &str = "show rollups";
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
