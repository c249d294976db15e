//! `waterclock shell`: statement after statement to a server, with history and completion.
//!
//! A statement ends with `;` or with an empty line; `let` waits for the statement that uses it. Lines that begin with `\`
//! are for the shell itself. From a pipe or a file it reads the same, without a prompt, and ends at the first failure.
//! Invariant: Ctrl-C never ends the shell: it takes back the line, or ends the query by closing its connection, which
//! makes the server stop. Each query has a connection of its own for that.
//! Not here: answers (`query`), what can be completed (`complete`).

mod cancel; // Ctrl-C while a query runs
mod command; // lines that begin with `\`
mod complete; // names from the server
mod pager; // answers taller than the terminal

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use query_lang::ast::StatementKind;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{ColorMode, CompletionType, Config, Editor};

use crate::cli::answer::elapsed;
use crate::cli::client::{Client, DatabaseArgs};
use crate::cli::query::{self, Format};
use crate::cli::shell::cancel::Cancel;
use crate::cli::shell::command::{Command, HELP};
use crate::cli::shell::complete::Names;
use crate::cli::shell::pager::Pager;
use crate::cli::table::put;
use crate::cli::terminal;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};

#[derive(clap::Args, Debug)]
#[command(after_help = "A statement ends with ; or an empty line. \\help lists the shell's own commands.

Examples:
  waterclock shell --db plant
  waterclock shell < statements.wql")]
pub struct Args {
    #[command(flatten)]
    database: DatabaseArgs,

    /// How answers are shown at first; \format changes it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Lines that are remembered.
const HISTORY_MAX: usize = 10_000;

struct Shell {
    url: String,
    db: String,
    format: Format,
    timing: bool,
    /// For `\chart`, `\explain` and `\watch` without a statement.
    last: Option<String>,
    clock: Arc<dyn Clock>,
    cancel: Cancel,
    names: Names,
    /// A person reads along: answers may be paged, and failures do not end the shell.
    attended: bool,
}

pub fn run(args: Args) -> Result<()> {
    let client = args.database.client()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let attended = std::io::stdin().is_terminal() && terminal::is_stdout();
    let names = Names::new(client.url(), &args.database.db, Arc::clone(&clock))?;
    let mut shell = Shell {
        url: client.url().to_string(),
        db: args.database.db,
        format: args.format,
        timing: false,
        last: None,
        clock,
        cancel: Cancel::listen()?,
        names,
        attended,
    };
    if !attended {
        return shell.read_all();
    }
    // A server that is not there is told before a statement is typed.
    client.answer("show tables", &vec![("db", &shell.db)])?;
    shell.converse()
}

impl Shell {
    fn converse(&mut self) -> Result<()> {
        let greeting = "waterclock {version}, server {url}; \\help lists commands, Ctrl-D leaves";
        terminal::note(&[greeting
            .replace("{version}", env!("CARGO_PKG_VERSION"))
            .replace("{url}", &self.url)]);
        let mut editor = editor(self.names.clone())?;
        let history = history_file();
        if let Some(file) = &history {
            // None yet is as good as an empty one.
            let _ = editor.load_history(file);
        }
        loop {
            let prompt = format!("{}> ", self.db);
            let styled = format!("\x1b[1;36m{prompt}\x1b[0m");
            match editor.readline(&(prompt, styled)) {
                Ok(input) => {
                    if input.trim().is_empty() {
                        continue;
                    }
                    let _ = editor.add_history_entry(input.trim());
                    match self.take(&input) {
                        Ok(true) => {}
                        Ok(false) => break,
                        Err(error) => terminal::note(&[terminal::sentence(&error)]),
                    }
                }
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => break,
                Err(error) => {
                    return Err(Error::io("read", "the terminal", std::io::Error::other(error)));
                }
            }
        }
        if let Some(file) = &history {
            let kept = save_history(&mut editor, file);
            kept.unwrap_or_else(|why| {
                terminal::note(&[format!("the history is not kept: {}: {why}", file.display())])
            });
        }
        Ok(())
    }

    /// Statements of a pipe or a file.
    fn read_all(&mut self) -> Result<()> {
        let mut input = String::new();
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|source| Error::io("read", "standard input", source))?;
            input.push_str(&line);
            if is_complete(&input) {
                if !input.trim().is_empty() && !self.take(&input)? {
                    return Ok(());
                }
                input.clear();
            } else {
                input.push('\n');
            }
        }
        if !input.trim().is_empty() {
            self.take(&input)?;
        }
        Ok(())
    }

    /// A whole input. False if it was the last one.
    fn take(&mut self, input: &str) -> Result<bool> {
        let Some(line) = input.trim().strip_prefix('\\') else {
            let statement = input.trim().to_string();
            self.last = Some(statement.clone());
            self.ask(&statement, self.format, true)?;
            return Ok(true);
        };
        match Command::parse(line)? {
            Command::Quit => return Ok(false),
            Command::Help => put(&mut std::io::stdout().lock(), HELP)?,
            Command::Timing(to) => {
                self.timing = to.unwrap_or(!self.timing);
                terminal::note(&[format!("timing is {}", if self.timing { "on" } else { "off" })]);
            }
            Command::Format(format) => self.format = format,
            Command::Database(None) => put(&mut std::io::stdout().lock(), &format!("{}\n", self.db))?,
            Command::Database(Some(name)) => {
                self.names.choose(&name);
                self.db = name;
            }
            Command::Describe(None) => {
                self.ask("show tables", Format::Table, true)?;
                self.ask("show rollups", Format::Table, true)?;
            }
            Command::Describe(Some(table)) => {
                let table = query_lang::print::name(&table);
                self.ask(&format!("show tags from {table}"), Format::Table, true)?;
                self.ask(&format!("show fields from {table}"), Format::Table, true)?;
            }
            Command::Chart(statement) => {
                let statement = self.given_or_last(statement)?;
                self.ask(&statement, Format::Chart, true)?;
            }
            Command::Explain(statement) => {
                let statement = self.given_or_last(statement)?;
                self.ask(&explained(&statement), Format::Table, true)?;
            }
            Command::Watch(every, statement) => {
                let statement = self.given_or_last(statement)?;
                self.watch(every, &statement)?;
            }
        }
        Ok(true)
    }

    /// The statement of a command, which the next one may leave out, too.
    fn given_or_last(&mut self, given: Option<String>) -> Result<String> {
        if given.is_some() {
            self.last = given;
        }
        let missing =
            || Error::invalid("no_statement", "there is no statement yet; give one behind the command");
        self.last.clone().ok_or_else(missing)
    }

    /// True unless Ctrl-C ended it.
    fn ask(&self, statement: &str, format: Format, paged: bool) -> Result<bool> {
        let client = Client::new(&self.url)?;
        let started = self.clock.elapsed();
        let running = self.cancel.running(&client);
        let mut out = Pager::new(if paged && self.attended { terminal::rows() } else { None });
        let outcome = query::write(&client, statement, format, &vec![("db", &self.db)], &mut out);
        let took = self.clock.elapsed().saturating_sub(started);
        let cancelled = running.end();
        out.finish();
        if cancelled && outcome.is_err() {
            terminal::note(&["cancelled".to_string()]);
            return Ok(false);
        }
        let told = match outcome {
            // Whoever leaves the pager has seen enough.
            Err(error) if error.is_closed_pipe() && self.attended => None,
            outcome => outcome?,
        };
        let mut notes = Vec::new();
        if let Some(told) = told {
            notes.extend(told.warnings);
            if self.attended {
                notes.push(terminal::dim_on_stderr(&told.summary));
            }
        }
        if self.timing {
            notes.push(format!("time: {}", elapsed(took.as_secs_f64() * 1_000.0)));
        }
        terminal::note(&notes);
        Ok(!cancelled)
    }

    /// Again and again, until Ctrl-C.
    fn watch(&self, every: Duration, statement: &str) -> Result<()> {
        loop {
            if self.attended {
                // From the top of an empty screen.
                put(&mut std::io::stdout().lock(), "\x1b[2J\x1b[H")?;
            }
            let format = self.format;
            if !self.ask(statement, format, false)? {
                return Ok(());
            }
            terminal::note(&[terminal::dim_on_stderr(&format!("every {every:?}, Ctrl-C ends it"))]);
            if self.cancel.wait(every) {
                return Ok(());
            }
        }
    }
}

/// The last statement of a script explained; the ones before it stay as they are.
fn explained(script: &str) -> String {
    let script = script.trim_end().trim_end_matches(';');
    // The last statement begins behind the last `;` from which everything parses.
    let starts = script.rmatch_indices(';').map(|(at, _)| at + 1).chain([0]);
    for start in starts {
        let (before, last) = script.split_at(start);
        if query_lang::parse(last).is_ok() {
            return if last.trim_start().starts_with("explain ") {
                script.to_string()
            } else {
                format!("{before} explain {}", last.trim_start()).trim_start().to_string()
            };
        }
    }
    format!("explain {script}")
}

/// Whether Enter ends the input.
fn is_complete(input: &str) -> bool {
    let text = input.trim_end_matches([' ', '\t']);
    if text.trim_start().starts_with('\\') || text.trim().is_empty() || text.ends_with('\n') {
        return true;
    }
    if !text.ends_with(';') {
        return false;
    }
    // A query that is only named is asked nothing yet.
    let only_named = |script: query_lang::ast::Script| {
        script.statements.last().is_some_and(|last| matches!(last.kind, StatementKind::Let(_)))
    };
    !query_lang::parse(text).is_ok_and(only_named)
}

fn editor(names: Names) -> Result<Editor<Names, FileHistory>> {
    let failed = |error: ReadlineError| Error::io("open", "the terminal", std::io::Error::other(error));
    let builder = Config::builder().max_history_size(HISTORY_MAX).map_err(failed)?;
    let colour = if terminal::colour_wanted() { ColorMode::Enabled } else { ColorMode::Disabled };
    let config =
        builder.completion_type(CompletionType::List).completion_prompt_limit(100).color_mode(colour).build();
    let mut editor = Editor::with_config(config).map_err(failed)?;
    editor.set_helper(Some(names));
    Ok(editor)
}

/// `$XDG_STATE_HOME/waterclock/history`, or below `~/.local/state`.
fn history_file() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("waterclock/history"))
}

fn save_history(editor: &mut Editor<Names, FileHistory>, file: &std::path::Path) -> Result<(), String> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    }
    // Shells that ended meanwhile have added theirs.
    editor.append_history(file).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_semicolon_or_an_empty_line_ends_a_statement() {
        for whole in
            ["cpu | last 5m;", "show tables ;  ", "cpu\n| last 5m\n", "\\d", " \\q", "", "cpu | lst;"]
        {
            assert!(is_complete(whole), "{whole:?}");
        }
        for part in ["cpu", "cpu | last 5m", "cpu;\nshow", "let a = cpu | last 5m;", "cpu\n|"] {
            assert!(!is_complete(part), "{part:?}");
        }
        assert!(is_complete("let a = cpu | last 5m;\na | limit 1;"));
        assert!(is_complete("let a = cpu | last 5m;\n"), "an empty line ends anything");
    }

    #[test]
    fn the_last_statement_is_explained() {
        assert_eq!(explained("cpu | last 5m;"), "explain cpu | last 5m");
        assert_eq!(explained("explain cpu"), "explain cpu");
        let script = "let a = cpu{host=\";\"} | last 5m; a | where host != \";\"";
        assert_eq!(explained(script), "let a = cpu{host=\";\"} | last 5m; explain a | where host != \";\"");
        assert_eq!(explained("cpu | lst"), "explain cpu | lst");
    }
}
