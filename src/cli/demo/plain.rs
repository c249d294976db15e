//! The demo without a terminal: a line of current values every ten seconds.
//!
//! Invariant: one line is one moment, so that the output of hours can be searched; notes go to standard error.
//! Not here: the picture (`screen`, `chart`).

use std::io::Write;

use crossbeam_channel::{never, select};
use serde_json::Value;

use crate::cli::client::Client;
use crate::cli::demo::screen::Ears;
use crate::cli::table::put;
use crate::cli::terminal;
use crate::error::Result;

/// The newest bucket that is not over, and so moves with every second.
const STATEMENT: &str = "cpu_10s{cpu=\"total\"} | last 20s | every 10s avg(usage), max(usage) by cpu";
const EVERY_S: i64 = 10;

pub fn run(header: &str, client: &Client, ears: &Ears<'_>, out: &mut dyn Write) -> Result<()> {
    put(out, header)?;
    let mut begun = None;
    let nothing = never();
    let mut written = ears.written;
    loop {
        select! {
            recv(ears.ended) -> _ => return Ok(()),
            recv(ears.notes) -> note => terminal::note(&note.into_iter().collect::<Vec<_>>()),
            recv(written) -> second => match second {
                Ok(second) => {
                    let first = *begun.get_or_insert(second);
                    if (second - first) % EVERY_S == 0 {
                        put(out, &line(client))?;
                    }
                }
                Err(_) => written = &nothing,
            },
        }
    }
}

fn line(client: &Client) -> String {
    match client.answer(STATEMENT, &vec![("time", "rfc3339")]) {
        Ok(answer) => {
            let values = answer.rows.last().map(|row| {
                let cells = row.iter().map(|cell| match cell {
                    Value::String(text) => text.clone(),
                    Value::Number(number) => format!("{:.1}", number.as_f64().unwrap_or(0.0)),
                    other => other.to_string(),
                });
                cells
                    .zip(&answer.columns)
                    .map(|(cell, column)| format!("{}={cell}", column.name))
                    .collect::<Vec<_>>()
            });
            format!(
                "{} from {}\n",
                values.unwrap_or_default().join(" "),
                answer.stats.source().unwrap_or_default()
            )
        }
        Err(error) => format!("{error}\n"),
    }
}
