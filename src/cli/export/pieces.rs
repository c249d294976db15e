//! Ranges of time that together hold all points, each with about as many as one answer should have.
//!
//! It counts by days, and where a day has too many by hours, minutes, and so on. Stale markers of metrics are no points to a
//! count and may stand anywhere, so what is asked for in the end are the ranges from one piece's start to the next one's.

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use query_lang::catalog::METRICS_TABLE;
use query_lang::print::name;
use query_lang::time::format_time;
use storage_format::point::TimeRange;

use crate::cli::client::Client;
use crate::cli::export::write::Stream;
use crate::cli::export::{Args, Piece, asked};
use crate::error::Result;

/// Rows of one piece, and so of one file: some tens of MB in memory on both sides with usual columns.
const PIECE_ROWS: u64 = 250_000;

const STEPS: [(&str, i64); 7] = [
    ("1d", 86_400_000_000_000),
    ("1h", 3_600_000_000_000),
    ("1m", 60_000_000_000),
    ("1s", 1_000_000_000),
    ("1ms", 1_000_000),
    ("1us", 1_000),
    ("1ns", 1),
];

pub(super) fn plan(client: &Client, args: &Args, table: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    add(client, args, table, asked(args)?, &STEPS, &mut pieces)?;
    if pieces.is_empty() && table == METRICS_TABLE {
        // There may be nothing but stale markers.
        pieces.push(Piece { table: table.to_string(), start: 0, rows: 0 });
    }
    Ok(pieces)
}

fn add(
    client: &Client,
    args: &Args,
    table: &str,
    range: TimeRange,
    steps: &[(&str, i64)],
    pieces: &mut Vec<Piece>,
) -> Result<()> {
    let Some(((step, width), finer)) = steps.split_first() else { return Ok(()) };
    let mut open: Option<Piece> = None;
    for (start, rows) in counts(client, args, table, range, step)? {
        let bucket = TimeRange::new(start, start.saturating_add(*width)).intersect(range);
        if rows > PIECE_ROWS && !finer.is_empty() {
            pieces.extend(open.take());
            add(client, args, table, bucket, finer, pieces)?;
            continue;
        }
        match &mut open {
            Some(piece) if piece.rows + rows <= PIECE_ROWS => piece.rows += rows,
            _ => {
                let next = Piece { table: table.to_string(), start: bucket.start, rows };
                pieces.extend(open.replace(next));
            }
        }
    }
    pieces.extend(open);
    Ok(())
}

/// The words for a range; none for all times.
pub(super) fn between(range: TimeRange) -> String {
    match range {
        TimeRange::ALL => String::new(),
        range => format!(" | between {} and {}", format_time(range.start), format_time(range.end)),
    }
}

/// How many points there are in each bucket that has any.
fn counts(
    client: &Client,
    args: &Args,
    table: &str,
    range: TimeRange,
    step: &str,
) -> Result<Vec<(i64, u64)>> {
    let condition =
        args.condition.as_ref().map(|condition| format!(" | where {condition}")).unwrap_or_default();
    let statement = format!("{}{condition}{} | every {step} count by ()", name(table), between(range));
    let mut found = Vec::new();
    for batch in Stream::ask(client, &statement, &args.database, false)? {
        let batch = batch?;
        let times = batch.column(0).as_primitive::<TimestampNanosecondType>();
        let counts = batch.column(1).as_primitive::<Int64Type>();
        found.extend(times.values().iter().zip(counts.values()).map(|(time, count)| (*time, *count as u64)));
    }
    Ok(found)
}
