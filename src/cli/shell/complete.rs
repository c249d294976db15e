//! What can stand at the cursor: words of the language, and names that the server knows.
//!
//! Names are asked for when they are needed and kept for some seconds. A server that does not answer at once completes
//! nothing; it never holds up the keyboard for long.
//! Not here: whether a statement is right (the server says it).

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use query_lang::parse::{STAGES, VERBS};
use query_lang::plan::Function;
use query_lang::print::name;
use query_lang::scalar::{AxisFunction, ScalarFunction};
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use crate::cli::client::Client;
use crate::cli::query::Format;
use crate::cli::shell::{command, is_complete};
use crate::clock::Clock;
use crate::error::Result;

/// How long names are believed.
const KEPT: Duration = Duration::from_secs(10);

/// How long Tab may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// More values than this help nobody.
const VALUES_MAX: usize = 1_000;

#[derive(Clone)]
pub(super) struct Names(Rc<RefCell<Known>>);

struct Known {
    client: Client,
    db: String,
    clock: Arc<dyn Clock>,
    /// By the statement that asked for them.
    answers: HashMap<String, (Duration, Vec<String>)>,
}

impl Names {
    pub fn new(url: &str, db: &str, clock: Arc<dyn Clock>) -> Result<Names> {
        let client = Client::with_patience(url, PATIENCE)?;
        Ok(Names(Rc::new(RefCell::new(Known { client, db: db.to_string(), clock, answers: HashMap::new() }))))
    }

    /// Of another database.
    pub fn choose(&self, db: &str) {
        let mut known = self.0.borrow_mut();
        known.db = db.to_string();
        known.answers.clear();
    }

    /// The texts of a column of an answer.
    fn ask(&self, statement: &str, column: &str) -> Vec<String> {
        let mut known = self.0.borrow_mut();
        let now = known.clock.elapsed();
        if let Some((at, names)) = known.answers.get(statement)
            && now.saturating_sub(*at) < KEPT
        {
            return names.clone();
        }
        let names = match known.client.answer(statement, &vec![("db", &known.db)]) {
            Ok(answer) => {
                let at = answer.column(column).unwrap_or_default();
                let texts = answer.rows.iter().filter_map(|row| row.get(at)?.as_str().map(str::to_string));
                texts.take(VALUES_MAX).collect()
            }
            Err(_) => Vec::new(),
        };
        known.answers.insert(statement.to_string(), (now, names.clone()));
        names
    }

    fn tables(&self) -> Vec<String> {
        let mut names = self.ask("show tables", "table");
        names.extend(self.ask("show rollups", "rollup"));
        names.extend(self.ask("show metrics", "metric"));
        names
    }

    fn tags(&self, table: &str) -> Vec<String> {
        self.ask(&format!("show tags from {}", name(table)), "tag")
    }

    fn fields(&self, table: &str) -> Vec<String> {
        self.ask(&format!("show fields from {}", name(table)), "field")
    }

    fn values(&self, tag: &str, table: &str) -> Vec<String> {
        self.ask(&format!("show values of {} from {}", name(tag), name(table)), "value")
    }

    /// Where the word at the end of the text begins, and what it may become.
    fn candidates(&self, text: &str) -> (usize, Vec<String>) {
        if let Some(line) = text.trim_start().strip_prefix('\\') {
            let start = text.rfind([' ', '\\']).map_or(0, |at| at + 1);
            return match line.split_once(' ') {
                None => (start, texts(&command::NAMES)),
                Some(("d", _)) => (start, self.tables().iter().map(|table| name(table)).collect()),
                Some(("format", _)) => {
                    let formats = Format::value_variants().iter().filter_map(ValueEnum::to_possible_value);
                    (start, formats.map(|format| format.get_name().to_string()).collect())
                }
                Some(("timing", _)) => (start, texts(&["on", "off"])),
                Some(("chart" | "explain" | "watch", _)) => {
                    let behind = text.len() - line.split_once(' ').map_or("", |(_, rest)| rest).len();
                    let (start, words) = self.in_statement(&text[behind..]);
                    (behind + start, words)
                }
                Some(_) => (start, Vec::new()),
            };
        }
        self.in_statement(text)
    }

    fn in_statement(&self, text: &str) -> (usize, Vec<String>) {
        let place = Place::at_end(text);
        let table = || {
            let known = self.tables();
            place.names.iter().rev().find(|word| known.contains(word)).cloned()
        };
        let of_table =
            |ask: &dyn Fn(&str) -> Vec<String>| table().map(|table| ask(&table)).unwrap_or_default();
        let quoted = |names: Vec<String>| names.iter().map(|text| name(text)).collect::<Vec<String>>();
        let words = match &place.wanted {
            Wanted::Value(tag) => of_table(&|table| self.values(tag, table)),
            Wanted::Tag => quoted(of_table(&|table| self.tags(table))),
            Wanted::Table => quoted(self.tables()),
            Wanted::Start => {
                let mut words = quoted(self.tables());
                words.extend(texts(&VERBS));
                words
            }
            Wanted::Stage => {
                let mut words = texts(&STAGES);
                words.extend(Function::NAMES.map(|function| format!("{function}(")));
                words
            }
            Wanted::Show => texts(&SHOWN),
            Wanted::Anything => {
                let mut words = quoted(of_table(&|table| self.fields(table)));
                words.extend(quoted(of_table(&|table| self.tags(table))));
                words.extend(Function::NAMES.map(|function| format!("{function}(")));
                words.extend(ScalarFunction::ALL.map(|(function, _)| format!("{function}(")));
                words.extend(AxisFunction::NAMES.map(|function| format!("{function}(")));
                words.extend(texts(&WORDS));
                words
            }
            Wanted::Nothing => Vec::new(),
        };
        (place.start, words)
    }
}

/// What `show` shows.
const SHOWN: [&str; 9] = [
    "tables",
    "rollups",
    "metrics",
    "storage",
    "tags from",
    "fields from",
    "values of",
    "series from",
    "cardinality from",
];

/// Words within stages.
const WORDS: [&str; 23] = [
    "and", "or", "not", "in", "by", "as", "over", "offset", "null", "true", "false", "now", "previous",
    "linear", "max", "asc", "desc", "per", "on", "within", "keep", "late", "from",
];

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_string()).collect()
}

#[derive(Debug, PartialEq)]
enum Wanted {
    Start,
    Stage,
    Table,
    Tag,
    /// Of this tag, within quotes.
    Value(String),
    Show,
    Anything,
    Nothing,
}

/// The end of an unfinished statement.
struct Place {
    /// Of the word at the end.
    start: usize,
    wanted: Wanted,
    /// Names seen in the statement, in order.
    names: Vec<String>,
}

impl Place {
    fn at_end(text: &str) -> Place {
        let mut names: Vec<String> = Vec::new();
        // Names and signs since the statement began.
        let mut tokens: Vec<String> = Vec::new();
        let mut braces = false;
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let at = text.len() - rest.len();
            match c {
                '"' | '\'' => match end_of_quotes(&rest[1..], c) {
                    Some(length) => {
                        tokens.push("\"".to_string());
                        rest = &rest[length + 2..];
                    }
                    None => {
                        let wanted = tag_before(&tokens).map_or(Wanted::Nothing, Wanted::Value);
                        return Place { start: at + 1, wanted, names };
                    }
                },
                '`' => match end_of_quotes(&rest[1..], c) {
                    Some(length) => {
                        names.push(rest[1..=length].to_string());
                        tokens.push(rest[1..=length].to_string());
                        rest = &rest[length + 2..];
                    }
                    None => return Place { start: at, wanted: wanted(&tokens, braces), names },
                },
                '#' => match rest.find('\n') {
                    Some(end) => rest = &rest[end..],
                    None => return Place { start: at, wanted: Wanted::Nothing, names },
                },
                c if c.is_alphanumeric() || c == '_' => {
                    let end = rest.find(|c: char| !(c.is_alphanumeric() || "_:".contains(c)));
                    let Some(end) = end else {
                        return Place { start: at, wanted: wanted(&tokens, braces), names };
                    };
                    names.push(rest[..end].to_string());
                    tokens.push(rest[..end].to_string());
                    rest = &rest[end..];
                }
                c => {
                    match c {
                        ';' => tokens.clear(),
                        '{' => braces = true,
                        '}' => braces = false,
                        _ => {}
                    }
                    if !c.is_whitespace() && c != ';' {
                        tokens.push(c.to_string());
                    }
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
        Place { start: text.len(), wanted: wanted(&tokens, braces), names }
    }
}

fn end_of_quotes(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at),
            _ => {}
        }
    }
    None
}

/// The tag that an open text is compared with: `host = "`, `host in ("a", "`.
fn tag_before(tokens: &[String]) -> Option<String> {
    let signs = |token: &&String| !["=", "!", "~", "(", ",", "\"", "in", "not"].contains(&token.as_str());
    let tag = tokens.iter().rev().find(signs)?;
    tag.chars().all(|c| c.is_alphanumeric() || " _-.:".contains(c)).then(|| tag.clone())
}

fn wanted(tokens: &[String], braces: bool) -> Wanted {
    let last = tokens.last().map(String::as_str);
    let before = tokens.len().checked_sub(2).and_then(|at| tokens.get(at)).map(String::as_str);
    match last {
        None | Some("explain") => Wanted::Start,
        Some("=") if before.is_some() && tokens.len() == 3 && tokens[0] == "let" => Wanted::Table,
        Some("|") => Wanted::Stage,
        Some("show") => Wanted::Show,
        Some("from" | "join") => Wanted::Table,
        Some("as") if tokens[0] == "create" => Wanted::Table,
        Some("rollup" | "table") if ["drop", "alter"].contains(&tokens[0].as_str()) => Wanted::Table,
        Some("{" | ",") if braces => Wanted::Tag,
        Some("of") if tokens[0] == "show" => Wanted::Nothing,
        Some(_) if braces => Wanted::Nothing,
        _ if by_list(tokens) => Wanted::Tag,
        _ => Wanted::Anything,
    }
}

/// Behind `by`, or a comma of its list.
fn by_list(tokens: &[String]) -> bool {
    match tokens.iter().rposition(|token| token == "by") {
        Some(by) => {
            let list = &tokens[by + 1..];
            list.last().is_none_or(|last| last == "," || last == "(")
                && !list.iter().any(|token| token == "|")
        }
        None => false,
    }
}

impl Completer for Names {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, mut words) = self.candidates(&line[..pos]);
        let begun = &line[start..pos];
        words.retain(|word| word.starts_with(begun));
        words.sort();
        words.dedup();
        let pairs = words.into_iter().map(|word| Pair { display: word.clone(), replacement: word });
        Ok((start, pairs.collect()))
    }
}

impl Validator for Names {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match is_complete(context.input()) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

impl Hinter for Names {
    type Hint = String;
}

impl Highlighter for Names {}

impl Helper for Names {}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted_at(text: &str) -> (String, Wanted) {
        let place = Place::at_end(text);
        (text[place.start..].to_string(), place.wanted)
    }

    #[test]
    fn the_place_says_what_can_stand_there() {
        let value = |tag: &str| Wanted::Value(tag.to_string());
        for (text, word, wanted) in [
            ("", "", Wanted::Start),
            ("cp", "cp", Wanted::Start),
            ("cpu; sh", "sh", Wanted::Start),
            ("explain c", "c", Wanted::Start),
            ("let a = c", "c", Wanted::Table),
            ("show ta", "ta", Wanted::Show),
            ("show tags from c", "c", Wanted::Table),
            ("cpu{", "", Wanted::Tag),
            ("cpu{host=\"a\", re", "re", Wanted::Tag),
            ("cpu{host=\"h", "h", value("host")),
            ("cpu{host not in (\"a\", \"b", "b", value("host")),
            ("cpu | where host =~ '", "", value("host")),
            ("cpu | ev", "ev", Wanted::Stage),
            ("cpu{host=\"|\"} | last 5m | every 1m av", "av", Wanted::Anything),
            ("cpu | every 1m avg(us", "us", Wanted::Anything),
            ("cpu | every 1m avg(usage) by ho", "ho", Wanted::Tag),
            ("cpu | every 1m avg(usage) by host, re", "re", Wanted::Tag),
            ("cpu | max(usage) by host | to", "to", Wanted::Stage),
            ("cpu # what", "# what", Wanted::Nothing),
            ("create rollup r as c", "c", Wanted::Table),
            ("drop rollup c", "c", Wanted::Table),
        ] {
            assert_eq!(wanted_at(text), (word.to_string(), wanted), "{text}");
        }
    }
}
