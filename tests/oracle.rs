//! Random statements against an independent oracle: DuckDB, which reads the same Parquet files.
//!
//! tests/clients/oracle makes points, statements and the SQL that means the same, and compares the answers; here the engine
//! gives its own. Each statement is asked twice, with the points in the head and in blocks and with rollups, and again with
//! everything in compacted blocks and without them, and must say the same bit for bit.
//!
//! A failure prints the statement, its SQL, both answers and the seed; `ORACLE_SEED=n` runs one, `ORACLE_SEEDS=n` and
//! `ORACLE_STATEMENTS=n` run more.
#![expect(
    clippy::disallowed_methods,
    reason = "files for the oracle are the test's own, not the engine's data"
)]

use std::sync::Arc;

use prost::Message as _;
use serde_json::{Value, json};
use waterclock::config::Config;
use waterclock::db::{Db, FlushScope, RefreshScope, RemoteWrite};
use waterclock::disk::LocalDisk;
use waterclock::ingest::remote_write::Version;

use crate::clients::python;
use crate::support::engine;
use crate::support::manual_clock::ManualClock;
use crate::support::prometheus;

const SEEDS: u64 = 2;
const STATEMENTS: u64 = 150;

const ROLLUPS: [&str; 3] = [
    "create rollup m_10s as m | every 10s count, sum(f), avg(i), max(f), first(f), last(i), sum(u)",
    "create rollup g_1m as g | every 1m count, sum, min, max, first, last by host",
    "create rollup m_1m as m | every 1m count, sum(f), min(i), max(i), sum(i), first(s), last(s) by host",
];

#[test]
fn duckdb_gives_the_same_answers() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("ORACLE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ORACLE_SEEDS").unwrap_or(SEEDS),
    };
    let statements = number("ORACLE_STATEMENTS").unwrap_or(STATEMENTS);
    for seed in seeds {
        agree(seed, statements);
    }
}

fn agree(seed: u64, statements: u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    python("oracle/oracle.py", &["make", &seed.to_string(), &statements.to_string(), &path]);
    let plan = std::fs::read_to_string(folder.path().join("plan.json")).unwrap();
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let texts: Vec<&str> =
        plan["statements"].as_array().unwrap().iter().map(|made| made["wql"].as_str().unwrap()).collect();

    let clock = ManualClock::at(plan["now"].as_i64().unwrap());
    let disk = Arc::new(LocalDisk::open(folder.path()).unwrap());
    let db = Db::open(disk, Arc::new(clock), Config::default()).unwrap();
    for (at, batch) in plan["batches"].as_array().unwrap().iter().enumerate() {
        let lines: Vec<&str> =
            batch["lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        if at == 1 {
            db.flush(FlushScope::All).unwrap();
            ROLLUPS.iter().for_each(|rollup| drop(engine::run(&db, rollup).unwrap()));
            db.refresh(&RefreshScope::default()).unwrap();
        }
        engine::write(&db, &lines.join("\n")).unwrap();
        write_samples(&db, &batch["samples"]);
    }
    let ask = |rollups: bool| -> Vec<Value> {
        texts.iter().map(|text| said(engine::ask(&db, text, rollups))).collect()
    };
    let scattered = ask(true);
    db.flush(FlushScope::All).unwrap();
    db.compact(true).unwrap();
    let compacted = ask(false);
    drop(db);
    std::fs::write(folder.path().join("answers.json"), json!(compacted).to_string()).unwrap();
    let verdict = python("oracle/oracle.py", &["check", &path]);
    assert!(verdict.ends_with("ok\n"), "{verdict}");
    for ((text, scattered), compacted) in texts.iter().zip(&scattered).zip(&compacted) {
        let [scattered, compacted] = [scattered, compacted].map(without_empty_columns);
        assert_eq!(scattered, compacted, "seed {seed}: head and rollups against blocks: {text}");
    }
}

/// Which tags the series have that were looked at and had no row depends on where they lie.
fn without_empty_columns(answer: &Value) -> Value {
    let (Some(columns), Some(rows)) = (answer["columns"].as_array(), answer["rows"].as_array()) else {
        return answer.clone();
    };
    let has_value = |at: &usize| rows.iter().any(|row| !row[*at].is_null());
    let kept: Vec<usize> = (0..columns.len()).filter(has_value).collect();
    let pick = |row: &Value| kept.iter().map(|at| row[*at].clone()).collect::<Value>();
    json!({ "columns": pick(&answer["columns"]), "rows": rows.iter().map(pick).collect::<Value>() })
}

/// Samples of the metric `g`, each a series of one sample.
fn write_samples(db: &Db, samples: &Value) {
    let series = |sample: &Value| {
        let labels = [("__name__", Some("g")), ("dc", sample[1].as_str()), ("host", sample[0].as_str())];
        let labels: Vec<(&str, &str)> =
            labels.into_iter().filter_map(|(name, text)| Some((name, text?))).collect();
        prometheus::series(
            &labels,
            &[(sample[2].as_i64().unwrap(), sample[3].as_str().unwrap().parse().unwrap())],
        )
    };
    let timeseries = samples.as_array().unwrap().iter().map(series).collect();
    let message = prometheus::WriteRequest { timeseries, ..Default::default() }.encode_to_vec();
    let request = RemoteWrite { database: engine::DATABASE, message: &message, version: Version::V1 };
    let written = db.write_samples_now(&request).unwrap();
    assert_eq!(written.refused.count, 0, "{:?}", written.refused);
}

/// An answer with every value as text, from which Python reads it back exactly.
fn said(answer: waterclock::error::Result<waterclock::query::Answer>) -> Value {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return json!({ "error": error.to_string() }),
    };
    let columns: Vec<&str> = answer.columns.iter().map(|column| column.name.as_str()).collect();
    json!({ "columns": columns, "rows": engine::cells(&answer) })
}
