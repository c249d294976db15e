//! Benchmarks inside the process: `cargo bench` runs all, `cargo bench -- ingest query` some, `-- --csv` as CSV.
//!
//! Whole servers, ours and peers', are measured from outside: see README.md here.

#[path = "subjects.rs"] // so that its own modules are found here, too
mod subjects;

use std::io::Write;

use subjects::support::{CSV_HEADER, Report, Size, csv, table};

fn main() -> std::io::Result<()> {
    let (flags, named): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|word| word.starts_with('-'));
    let mut out = std::io::stdout();
    let spaced: fn(&[Report]) -> String = |reports| table(reports) + "\n";
    let form = if flags.iter().any(|flag| flag == "--csv") {
        write!(out, "{CSV_HEADER}")?;
        csv
    } else {
        spaced
    };
    subjects::run(&mut out, Size::Full, &named, form)
}
