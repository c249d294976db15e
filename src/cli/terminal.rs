//! What the command line knows about where it runs: terminals, colours, standard error, the caller's files.
//!
//! Invariant: colours go to terminals only, and never where `NO_COLOR` is set; notes that cannot be written are dropped,
//! because there is nobody left to tell.
//! Not here: the live chart (`demo`).

use std::io::{IsTerminal, Write};
use std::path::Path;

use ratatui::crossterm::terminal::size;

use crate::cli::table::Style;
use crate::error::{Error, Result};

pub fn is_stdout() -> bool {
    std::io::stdout().is_terminal()
}

pub fn style_of_stdout() -> Style {
    let terminal = is_stdout();
    let width = size().ok().map(|(width, _)| width).filter(|width| terminal && *width > 0);
    Style { colour: terminal && colour_wanted(), width }
}

/// Rows of the terminal; None if the output is a file or a pipe.
pub fn rows() -> Option<u16> {
    size().ok().map(|(_, rows)| rows).filter(|rows| is_stdout() && *rows > 0)
}

/// Lines for the person, beside the answer.
pub fn note(lines: &[String]) {
    let mut err = std::io::stderr().lock();
    for line in lines {
        let _ = writeln!(err, "{line}");
    }
}

pub fn dim_on_stderr(text: &str) -> String {
    let colour = std::io::stderr().is_terminal() && colour_wanted();
    if colour { format!("\x1b[2m{text}\x1b[0m") } else { text.to_string() }
}

/// <https://no-color.org>: set and not empty means no.
pub fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A file that the caller named: theirs, not the database's, so it does not go through `disk`.
pub fn read_file(doing: &'static str, path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|source| Error::io(doing, path.display().to_string(), source))
}

/// A statement's error is shown at its place, everything else in a line.
pub fn sentence(error: &Error) -> String {
    match error {
        Error::Rejected(rejection) => match (&rejection.rendered, rejection.at) {
            (Some(rendered), Some((line, column))) => {
                let indented = rendered.trim_end().replace('\n', "\n    ");
                format!("the statement is wrong at line {line}, column {column}\n\n    {indented}")
            }
            _ => error.to_string(),
        },
        _ => error.to_string(),
    }
}
