//! `waterclock flush` and `waterclock compact`: ask the server to do now what it does by itself in time.
//!
//! Not here: what they do (`db`).

use serde_json::Value;

use crate::cli::client::{Client, ServerArgs};
use crate::cli::table::put;
use crate::error::Result;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(clap::Args, Debug)]
pub struct CompactArgs {
    /// Also what is not due yet: whatever has more than one block, and deletes that have not stood long
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub fn flush(args: Args) -> Result<()> {
    ask(&args.server, "/api/flush", &Vec::new())
}

pub fn compact(args: CompactArgs) -> Result<()> {
    let params = if args.force { vec![("force", "on")] } else { Vec::new() };
    ask(&args.server, "/api/compact", &params)
}

/// Prints what the server says it did, a line per number.
fn ask(server: &ServerArgs, path: &str, params: &Vec<(&str, &str)>) -> Result<()> {
    let done: Value = Client::new(&server.url)?.post(path, params)?;
    let mut out = std::io::stdout().lock();
    let Value::Object(fields) = done else { return put(&mut out, &format!("{done}\n")) };
    fields.iter().try_for_each(|(name, value)| put(&mut out, &format!("{name}: {value}\n")))
}
