//! A database on a test's disk and clock, and its answers as text that shows every bit.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampNanosecondType, UInt64Type};
use waterclock::config::Config;
use waterclock::db::{Db, Lines, QueryOptions, Written};
use waterclock::error::Result;
use waterclock::ingest::line_protocol::Precision;
use waterclock::query::Answer;

use crate::support::faulty_disk::FaultyDisk;
use crate::support::manual_clock::ManualClock;

pub const DATABASE: &str = "default";

pub const SECOND: i64 = 1_000_000_000;

/// 2026-01-01T12:00:00Z
pub const NOON: i64 = 1_767_268_800 * SECOND;

/// Small limits, so that a short test meets several segments and steps of a refresh.
pub fn small_config() -> Config {
    let mut config = Config::default();
    config.limits.wal_segment_bytes_max = 1_024;
    config.limits.refresh_states_max = 50;
    config.limits.dirty_groups_max = 8;
    config
}

pub fn open(disk: &FaultyDisk, clock: &ManualClock) -> Result<Db> {
    Db::open(Arc::new(disk.clone()), Arc::new(clock.clone()), small_config())
}

/// Writes lines, all of which must be good.
pub fn write(db: &Db, body: &str) -> Result<Written> {
    let lines = Lines {
        database: DATABASE,
        body: body.as_bytes(),
        precision: Precision::Nanos,
        accept_partial: true,
    };
    let written = db.write_lines_now(&lines)?;
    assert!(written.errors.is_empty(), "{:?} in {body}", written.errors);
    Ok(written)
}

/// Runs a statement that may change things.
pub fn run(db: &Db, statement: &str) -> Result<Answer> {
    ask(db, statement, true)
}

pub fn ask(db: &Db, statement: &str, rollups: bool) -> Result<Answer> {
    let options = QueryOptions { rollups, ..QueryOptions::of(DATABASE) };
    db.query(statement, &options, &db.guard())
}

/// One line per row: `name=value` for all that is not null; floats by their bits, so that equal texts are equal answers.
pub fn rows(answer: &Answer) -> Vec<String> {
    let row = |row: usize| {
        let columns = answer.columns.iter().zip(answer.batch.columns());
        let cells = columns.filter(|(_, array)| array.is_valid(row));
        let cells: Vec<String> =
            cells.map(|(column, array)| format!("{}={}", column.name, cell(array, row))).collect();
        cells.join(" ")
    };
    (0..answer.rows()).map(row).collect()
}

/// Row by row; None is null. A float is written so that reading it gives the same.
pub fn cells(answer: &Answer) -> Vec<Vec<Option<String>>> {
    let cell = |array: &ArrayRef, row: usize| {
        array.is_valid(row).then(|| match array.as_primitive_opt::<Float64Type>() {
            Some(floats) => format!("{:?}", floats.value(row)),
            None => cell(array, row),
        })
    };
    let row = |row: usize| answer.batch.columns().iter().map(|array| cell(array, row)).collect();
    (0..answer.rows()).map(row).collect()
}

fn cell(array: &dyn Array, row: usize) -> String {
    match array.data_type() {
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            format!("{value}/{:x}", value.to_bits())
        }
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).to_string(),
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_string(),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            array.as_primitive::<TimestampNanosecondType>().value(row).to_string()
        }
        _ => arrow::util::display::array_value_to_string(array, row).unwrap(),
    }
}
