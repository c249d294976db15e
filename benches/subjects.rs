//! The subjects, and running them.
//!
//! Each has a fixed seed, asserts its answers, and has a small size that tests/main.rs runs, so that none can rot.

mod blocks;
mod codec;
mod devops;
mod http;
mod ingest;
mod labels;
mod peers;
mod prometheus;
mod query;
mod rollup;
mod rollups;
mod series;
mod server;
pub mod support;
mod tsbs;

use std::io::{self, Write};

use support::{Report, Size};

type Subject = (&'static str, fn(Size) -> Vec<Report>);

const SUBJECTS: [Subject; 11] = [
    ("codec", codec::run),
    ("blocks", blocks::run),
    ("labels", labels::run),
    ("ingest", ingest::run),
    ("query", query::run),
    ("rollup", rollup::run),
    ("rollups", rollups::run),
    ("http", http::run),
    ("devops", devops::run),
    ("series", series::run),
    ("prometheus", prometheus::run),
];

/// What needs programs of others runs only if it is named.
const BY_NAME: [Subject; 1] = [("peers", peers::run)];

/// Runs the named subjects, or all of ours if none is named, and prints what each reports in the given form.
pub fn run(
    out: &mut impl Write,
    size: Size,
    named: &[String],
    form: fn(&[Report]) -> String,
) -> io::Result<()> {
    let is_named = |name: &str| named.iter().any(|wanted| wanted == name);
    let ours = SUBJECTS.into_iter().filter(|(name, _)| named.is_empty() || is_named(name));
    for (_, subject) in ours.chain(BY_NAME.into_iter().filter(|(name, _)| is_named(name))) {
        write!(out, "{}", form(&subject(size)))?;
    }
    Ok(())
}
