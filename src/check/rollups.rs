//! Rollup = raw, asked of every state that reads believe.
//!
//! The database is opened over the read-only disk, so that blocks, log and dirty sets mean exactly what they mean to a
//! server.

use std::sync::Arc;
use std::time::Duration;

use query_lang::time::format_time;
use storage_format::manifest::Manifest;

use crate::check::{Finding, Report, Subject, Watch};
use crate::clock::Clock;
use crate::config::Config;
use crate::db::Db;
use crate::disk::Disk;
use crate::error::Result;

/// Nobody waits for the answer of one step.
const STEP_TIME_MAX: Duration = Duration::from_secs(86_400);

pub(super) fn check(
    disk: &Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
    manifest: &Manifest,
    report: &mut Report,
    watch: Watch<'_>,
) -> Result<()> {
    let mut config = Config::default();
    config.limits.query_time_max = STEP_TIME_MAX;
    let db = Db::open(Arc::clone(disk), Arc::clone(clock), config)?;
    for entry in &manifest.rollups {
        let stage = format!("rollup {}", entry.name);
        let found =
            db.check_rollup(&entry.database, &entry.name, &mut |done, all| watch(&stage, done, all))?;
        report.counts.rollups += 1;
        report.counts.states += found.states;
        let listed = found.differences.len() as u64;
        for difference in found.differences {
            report.add(finding(
                &entry.database,
                &entry.name,
                format!(
                    "{}: bucket {}, group {}",
                    difference.what,
                    format_time(difference.bucket),
                    difference.group
                ),
            ));
        }
        if found.differing > listed {
            let more = found.differing - listed;
            report.add(finding(&entry.database, &entry.name, format!("{more} more states are wrong")));
        }
    }
    Ok(())
}

fn finding(database: &str, name: &str, what: String) -> Finding {
    Finding {
        subject: Subject::Rollup { database: database.to_string(), name: name.to_string() },
        file: format!("rollup {name} of database {database}"),
        offset: 0,
        what,
        cure: "--repair forgets its states, so that they are computed again; please report it, this is a bug",
    }
}
