//! `waterclock queries`: what a server is asked right now; with `--kill`, the end of one of them.
//!
//! Not here: what ends a query (`guard`).

use serde::Deserialize;

use crate::cli::answer::{Answer, elapsed, thousands};
use crate::cli::client::{Client, ServerArgs};
use crate::cli::table::{put, write_table};
use crate::cli::terminal;
use crate::error::Result;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// End the query with this number
    #[arg(long, value_name = "ID")]
    kill: Option<u64>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Deserialize)]
struct Listed {
    queries: Vec<Query>,
}

#[derive(Deserialize)]
struct Query {
    id: u64,
    state: String,
    database: String,
    statement: String,
    client: Option<String>,
    elapsed_ms: f64,
    memory_bytes: u64,
    rows_read: u64,
}

#[derive(Deserialize)]
struct Killed {
    killed: u64,
}

pub fn run(args: Args) -> Result<()> {
    let client = Client::new(&args.server.url)?;
    let mut out = std::io::stdout().lock();
    if let Some(id) = args.kill {
        let Killed { killed } = client.delete(&format!("/api/queries/{id}"))?;
        return put(&mut out, &format!("killed {killed}\n"));
    }
    let Listed { queries } = client.get("/api/queries")?;
    let row = |query: Query| {
        [
            query.id.to_string(),
            query.state,
            elapsed(query.elapsed_ms),
            thousands(query.rows_read),
            format!("{} MiB", query.memory_bytes.div_ceil(1 << 20)),
            query.client.unwrap_or_default(),
            query.database,
            query.statement,
        ]
    };
    let names = ["id", "state", "elapsed", "rows read", "memory", "client", "database", "statement"];
    let answer = Answer::of_texts(names, queries.into_iter().map(row));
    write_table(&mut out, &answer, terminal::style_of_stdout())
}
