//! The shell's own commands: lines that begin with `\`.

use std::time::Duration;

use clap::ValueEnum;

use crate::cli::query::Format;
use crate::error::{Error, Result};

/// What a line behind its `\` asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Command {
    Help,
    Quit,
    Timing(Option<bool>),
    Format(Format),
    Database(Option<String>),
    Describe(Option<String>),
    Chart(Option<String>),
    Explain(Option<String>),
    Watch(Duration, Option<String>),
}

/// As they are written, for completion.
pub(super) const NAMES: [&str; 9] = ["chart", "d", "db", "explain", "format", "help", "q", "timing", "watch"];

pub(super) const HELP: &str = r"A statement ends with ; or an empty line. Tab completes, Ctrl-C cancels, Ctrl-D leaves.
  \chart [STATEMENT]        draw the last statement, or this one
  \explain [STATEMENT]      how it is answered
  \watch 5s [STATEMENT]     again every 5 seconds, until Ctrl-C
  \format NAME              table, vertical, csv, json, ndjson or chart
  \timing [on|off]          how long each statement took, seen from here
  \d [TABLE]                tables and rollups; tags and fields of a table
  \db [NAME]                the database in use; use another
  \help, \q                 this text; leave
";

impl Command {
    pub fn parse(line: &str) -> Result<Command> {
        let line = line.trim().trim_end_matches(';').trim_end();
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = Some(rest.trim()).filter(|rest| !rest.is_empty());
        let text = || rest.map(str::to_string);
        Ok(match name {
            "help" | "h" | "?" => Command::Help,
            "q" | "quit" => Command::Quit,
            "timing" => Command::Timing(match rest {
                None => None,
                Some("on") => Some(true),
                Some("off") => Some(false),
                Some(other) => return Err(wrong(format!("\\timing is on or off, not {other}"))),
            }),
            "format" => {
                let name = rest.unwrap_or_default();
                let known = || {
                    let names = Format::value_variants().iter().filter_map(ValueEnum::to_possible_value);
                    names.map(|name| name.get_name().to_string()).collect::<Vec<_>>().join(", ")
                };
                let format = Format::from_str(name, true);
                Command::Format(format.map_err(|_| wrong(format!("\\format is one of {}", known())))?)
            }
            "db" => Command::Database(text()),
            "d" => Command::Describe(rest.map(|name| name.trim_matches('`').to_string())),
            "chart" => Command::Chart(text()),
            "explain" => Command::Explain(text()),
            "watch" => {
                let (every, statement) = rest
                    .map(|rest| rest.split_once(char::is_whitespace).unwrap_or((rest, "")))
                    .ok_or_else(|| wrong("\\watch needs a time, such as \\watch 5s".to_string()))?;
                let every = query_lang::time::duration(every).map_err(wrong)?;
                let every = Duration::from_nanos(u64::try_from(every).unwrap_or_default()).max(EVERY_MIN);
                let statement = statement.trim();
                Command::Watch(every, (!statement.is_empty()).then(|| statement.to_string()))
            }
            other => return Err(wrong(format!("there is no command \\{other}; \\help lists them"))),
        })
    }
}

/// Faster nobody can read, and a server has better things to do.
const EVERY_MIN: Duration = Duration::from_millis(100);

fn wrong(why: String) -> Error {
    Error::invalid("command", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        let read = |line| Command::parse(line).unwrap();
        assert_eq!(read("timing"), Command::Timing(None));
        assert_eq!(read("timing off;"), Command::Timing(Some(false)));
        assert_eq!(read("format CSV"), Command::Format(Format::Csv));
        assert_eq!(read("d `weird name`"), Command::Describe(Some("weird name".to_string())));
        assert_eq!(read("watch 1m30s"), Command::Watch(Duration::from_secs(90), None));
        assert_eq!(
            read("watch 5s cpu | last 5m"),
            Command::Watch(Duration::from_secs(5), Some("cpu | last 5m".to_string()))
        );
        for wrong in ["nothing", "timing maybe", "format xml", "watch", "watch soon"] {
            assert!(Command::parse(wrong).is_err(), "{wrong}");
        }
        for name in NAMES {
            let why = Command::parse(name).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(!why.contains("no command"), "{name}");
            assert!(HELP.contains(&format!("\\{name}")), "{name}");
        }
    }
}
