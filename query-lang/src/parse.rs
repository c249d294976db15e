//! Text to syntax tree.
//!
//! First `token` cuts the script into tokens, then one file per statement reads them. A parser may say
//! "not here" only before its first keyword; after it every failure is final and has a sentence.
//! Invariant: no input makes this panic or recurse without bound, and nom is not seen from outside.

mod alter;
mod delete;
mod expr;
mod literal;
mod read;
mod rollup;
mod show;
mod source;
mod stage;
mod token;

use std::sync::Arc;

use storage_format::point::Time;

use crate::ast::{Let, Script, SourceText, Statement, StatementKind};
use crate::error::ErrorKind;
use crate::error::Problem;
use crate::error::QueryError;
use crate::error::nearest;
use crate::params::{Bound, Params};

use read::{Parsed, Tokens, Wrong, fail, keyword, next, required, required_name, symbol, unexpected};
pub use stage::STAGES;
pub(crate) use token::is_bare_name;

use token::Kind;

/// Reads statements separated by `;`.
pub fn parse(text: &str) -> Result<Script, QueryError> {
    parse_with(text, &Params::new())
}

/// The same with values for its parameters.
pub fn parse_with(text: &str, params: &Params) -> Result<Script, QueryError> {
    let bound = Bound::new(params);
    let kinds = token::tokens(text, &bound)
        .and_then(|tokens| finish(script(&tokens)))
        .map_err(|problem| problem.within(text))?;
    let source = SourceText(Arc::from(text));
    let statements = kinds.into_iter().map(|kind| Statement { kind, text: source.clone() }).collect();
    Ok(Script { statements })
}

/// Reads one time outside a statement, such as `from` and `to` of a request: whatever a statement takes as
/// a time, and also `-1h` for `now - 1h`, and bare digits, which are nanoseconds since 1970.
pub fn parse_time(text: &str, now: Time) -> Result<Time, QueryError> {
    token::tokens(text, &Bound::new(&Params::new()))
        .and_then(|tokens| finish(literal::lone_time(&tokens, now)))
        .map_err(|problem| problem.within(text))
}

fn finish<T>(parsed: Parsed<'_, T>) -> Result<T, Problem> {
    match parsed {
        Ok((_, value)) => Ok(value),
        Err(nom::Err::Failure(Wrong::Final(problem)) | nom::Err::Error(Wrong::Final(problem))) => {
            Err(*problem)
        }
        Err(_) => unreachable!("bug: a whole statement must fail with a sentence"),
    }
}

// script = statement { ";" [ statement ] } ;
fn script(mut input: Tokens<'_>) -> Parsed<'_, Vec<StatementKind>> {
    let mut statements = Vec::new();
    loop {
        while let Ok((rest, _)) = symbol(";")(input) {
            input = rest;
        }
        if next(input).kind == Kind::End && !statements.is_empty() {
            return Ok((input, statements));
        }
        let (rest, kind) = statement(input)?;
        let token = next(rest);
        if token.kind != Kind::End && token.text != ";" {
            return fail(left_over(input, rest));
        }
        statements.push(kind);
        input = rest;
    }
}

/// Words that begin a statement.
pub const VERBS: [&str; 10] =
    ["show", "create", "drop", "alter", "pause", "resume", "refresh", "delete", "explain", "let"];

// statement = query | let | show | create | drop | alter | pause | refresh | delete | "explain" statement ;
fn statement(input: Tokens<'_>) -> Parsed<'_, StatementKind> {
    match verb(input) {
        Some("show") => show::show(input),
        Some("create") => rollup::create(input),
        Some("drop") => rollup::drop(input),
        Some("alter") => alter::alter(input),
        Some("pause" | "resume") => rollup::pause(input),
        Some("refresh") => rollup::refresh(input),
        Some("delete") => delete::delete(input),
        Some("let") => let_query(input),
        Some(_) => explain(input),
        None => {
            let (rest, query) = source::query(input)?;
            Ok((rest, StatementKind::Query(query)))
        }
    }
}

/// A verb followed by `|` or `{` is a table of that name.
fn verb(input: Tokens<'_>) -> Option<&str> {
    let token = next(input);
    let names_table = matches!(input.get(1).map(|after| after.text), Some("|" | "{"));
    let is_verb = token.kind == Kind::Word && VERBS.contains(&token.text) && !names_table;
    is_verb.then_some(token.text)
}

// let = "let" name "=" query ;
fn let_query(input: Tokens<'_>) -> Parsed<'_, StatementKind> {
    let (input, name) = required_name("a name for the query")(&input[1..])?;
    let (input, _) = required("`=`", symbol("="))(input)?;
    let (input, query) = source::query(input)?;
    Ok((input, StatementKind::Let(Let { name, query })))
}

fn explain(input: Tokens<'_>) -> Parsed<'_, StatementKind> {
    let (input, _) = keyword("explain")(input)?;
    if verb(input) == Some("explain") {
        let message = "an `explain` cannot be explained again";
        return fail(Problem::new(ErrorKind::Syntax, next(input).span, message).hint("write it once"));
    }
    let (rest, kind) = statement(input)?;
    Ok((rest, StatementKind::Explain(Box::new(kind))))
}

/// A statement was read from `start` to its end, and something stands after it.
fn left_over(start: Tokens<'_>, input: Tokens<'_>) -> Problem {
    let (first, token) = (next(start), next(input));
    let problem = unexpected(input, "`|`, `;` or the end");
    if first.text.eq_ignore_ascii_case("select") {
        return problem.hint("this is not SQL: a statement starts with its table, as in `cpu | last 5m`");
    }
    if token.kind != Kind::Word {
        return problem;
    }
    // One word was read as a table, and another follows: the first may be a verb gone wrong.
    let meant = if start.len() == input.len() + 1 { nearest(first.text, VERBS) } else { None };
    if let Some(meant) = meant {
        return problem.hint(format!("did you mean `{meant}` at the start?"));
    }
    if stage::STAGES.contains(&token.text) {
        return problem.hint(format!("stages are joined by a bar: `| {}`", token.text));
    }
    let keep = (verb(start) == Some("create")).then_some("keep");
    let continuations = stage::STAGES.into_iter().chain(["by", "as", "and", "or"]).chain(keep);
    problem.hint_if(nearest(token.text, continuations).map(|word| format!("did you mean `{word}`?")))
}

#[cfg(test)]
mod tests;
