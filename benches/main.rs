//! Benchmarks inside the process: `cargo bench` runs all, `cargo bench -- ingest query` some.
//!
//! Whole servers, ours and peers', are measured from outside: see README.md here.

#[path = "subjects.rs"] // so that its own modules are found here, too
mod subjects;

fn main() -> std::io::Result<()> {
    let named: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    subjects::run(&mut std::io::stdout(), subjects::support::Size::Full, &named)
}
