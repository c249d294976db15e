//! The one test binary: a module per subject.

mod support;

mod backup;
mod check;
mod churn;
mod cli;
mod clients;
mod clocks;
mod compaction;
mod crash;
mod damage;
mod disk_faults;
mod formats;
mod full_disk;
mod fuzz;
mod grafana;
mod http;
mod interleavings;
mod kill;
mod late;
mod live;
mod memory;
mod object_store;
mod oracle;
mod page;
mod promql;
mod promql_newer;
mod promql_oracle;
mod promql_rollups;
mod prometheus;
mod proof;
mod random;
mod readme;
mod restart;
mod retention;
mod retention_crash;
mod rollups;
mod rules;
mod scripts;
mod streams;
mod transfer;

#[path = "../benches/subjects.rs"]
mod benches;

use benches::support::{CSV_HEADER, Report, Size, csv, table};

#[test]
fn benchmarks_in_small_size_give_right_answers() {
    let mut text = Vec::new();
    let both = |reports: &[Report]| table(reports) + CSV_HEADER + &csv(reports);
    benches::run(&mut text, Size::Small, &[], both).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("CPU ms/M") && text.contains("\"flush\""), "{text}");
}
