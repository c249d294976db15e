//! `/query` of InfluxDB 1: the few statements that clients send before their first write.
//!
//! Invariant: a script is read to its end before any of it runs; what is not one of these statements is an error that
//! says where to ask instead. Answers are in InfluxDB's shape.
//! Not here: InfluxQL queries; WQL has its own door.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use crate::server::admin::with_influx_headers;
use crate::server::params::{Params, check_database};
use crate::server::reply::{Failure, json_answer};
use crate::server::{Doors, body};

#[derive(Debug, PartialEq)]
enum Statement {
    CreateDatabase(String),
    ShowDatabases,
    /// Of this database, else of the request's.
    ShowMeasurements(Option<String>),
}

pub async fn get(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    let params = Params::of_query(request.uri().query());
    answer(run(&doors, &Method::GET, params).await)
}

pub async fn post(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    let in_url = Params::of_query(request.uri().query());
    let run = async {
        let body = body::read(request, &doors).await?.decode()?;
        run(&doors, &Method::POST, in_url.and(Params::of_form(&body.bytes))).await
    };
    answer(run.await)
}

fn answer(outcome: Result<Vec<Value>, Failure>) -> Response {
    with_influx_headers(match outcome {
        Ok(results) => json_answer(StatusCode::OK, &json!({ "results": results })),
        Err(failure) => failure.answer(&json!({ "error": failure.sentence() })),
    })
}

async fn run(doors: &Arc<Doors>, method: &Method, params: Params) -> Result<Vec<Value>, Failure> {
    let text = params.get("q").ok_or_else(|| Failure::parameter("missing required parameter \"q\""))?;
    let database = params.database(&["db"])?;
    let statements = parse(text)?;
    let changes = |statement: &Statement| matches!(statement, Statement::CreateDatabase(_));
    if method == Method::GET && statements.iter().any(changes) {
        return Err(Failure::parameter(
            "a GET request may not change anything; send CREATE DATABASE with POST",
        ));
    }
    let db = Arc::clone(&doors.db);
    let run = move || {
        let mut results = Vec::new();
        for (id, statement) in statements.into_iter().enumerate() {
            let series = match statement {
                Statement::CreateDatabase(name) => {
                    db.create_database(&name)?;
                    None
                }
                Statement::ShowDatabases => Some(series("databases", db.databases())),
                Statement::ShowMeasurements(named) => {
                    let tables = db.tables(named.as_deref().unwrap_or(&database));
                    (!tables.is_empty()).then(|| series("measurements", tables))
                }
            };
            results.push(match series {
                Some(series) => json!({ "statement_id": id, "series": [series] }),
                None => json!({ "statement_id": id }),
            });
        }
        Ok(results)
    };
    doors.blocking(run).await
}

fn series(name: &str, values: Vec<String>) -> Value {
    let rows: Vec<[String; 1]> = values.into_iter().map(|value| [value]).collect();
    json!({ "name": name, "columns": ["name"], "values": rows })
}

fn parse(text: &str) -> Result<Vec<Statement>, Failure> {
    let words = words(text)?;
    let statements = words.split(|word| *word == Word::End).filter(|words| !words.is_empty());
    let statements: Vec<Statement> = statements.map(statement).collect::<Result<_, _>>()?;
    if statements.is_empty() {
        return Err(Failure::parameter("missing required parameter \"q\""));
    }
    Ok(statements)
}

fn statement(words: &[Word]) -> Result<Statement, Failure> {
    let keyword = |at: usize, keyword: &str| matches!(words.get(at), Some(Word::Bare(word)) if word.eq_ignore_ascii_case(keyword));
    let pair = |first: &str, second: &str| keyword(0, first) && keyword(1, second);
    let name = |at: usize| match words.get(at) {
        Some(Word::Bare(name) | Word::Quoted(name)) if !name.is_empty() => Ok(name.clone()),
        _ => Err(wrong("error parsing query: a database name is missing at the end".to_string())),
    };
    if pair("create", "database") {
        let name = name(2)?;
        check_database(&name)?;
        return match words.len() {
            3 => Ok(Statement::CreateDatabase(name)),
            _ => Err(wrong(
                "CREATE DATABASE takes a name and nothing after it here: there are no retention policies"
                    .to_string(),
            )),
        };
    }
    if pair("drop", "database") {
        return Err(wrong(
            "waterclock does not drop a whole database; delete points with `delete from TABLE` at POST /api/wql".to_string(),
        ));
    }
    if pair("show", "databases") && words.len() == 2 {
        return Ok(Statement::ShowDatabases);
    }
    if pair("show", "measurements") && words.len() == 2 {
        return Ok(Statement::ShowMeasurements(None));
    }
    if pair("show", "measurements") && keyword(2, "on") && words.len() == 4 {
        return Ok(Statement::ShowMeasurements(Some(name(3)?)));
    }
    Err(wrong(
        "waterclock does not run InfluxQL; of /query it has CREATE DATABASE, SHOW DATABASES and SHOW MEASUREMENTS. Ask in WQL \
         at /api/wql, for example: cpu | last 1h | every 1m avg(usage)"
            .to_string(),
    ))
}

fn wrong(why: String) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, "influxql", why)
}

#[derive(Clone, Debug, PartialEq)]
enum Word {
    Bare(String),
    Quoted(String),
    /// `;`
    End,
}

fn words(text: &str) -> Result<Vec<Word>, Failure> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(first) = chars.next() {
        match first {
            ';' => words.push(Word::End),
            '"' => {
                let mut name = String::new();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => name.extend(chars.next()),
                        Some(other) => name.push(other),
                        None => return Err(wrong("error parsing query: a \" is not closed".to_string())),
                    }
                }
                words.push(Word::Quoted(name));
            }
            space if space.is_whitespace() => {}
            first => {
                let mut word = String::from(first);
                while let Some(next) =
                    chars.next_if(|next| !next.is_whitespace() && !matches!(next, ';' | '"'))
                {
                    word.push(next);
                }
                words.push(Word::Bare(word));
            }
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statements_that_clients_begin_with() {
        let parsed =
            parse("create database \"a \\\"b\\\";c\" ; SHOW DATABASES;Show Measurements on x;").unwrap();
        let expected = [
            Statement::CreateDatabase("a \"b\";c".to_string()),
            Statement::ShowDatabases,
            Statement::ShowMeasurements(Some("x".to_string())),
        ];
        assert_eq!(parsed, expected);
    }

    #[test]
    fn the_others_say_where_to_ask() {
        let why = |text| parse(text).unwrap_err().sentence();
        assert!(why("SELECT * FROM cpu").contains("/api/wql"));
        assert!(why("DROP DATABASE x").contains("delete from"));
        assert!(why("CREATE DATABASE x WITH DURATION 3d").contains("retention"));
        assert!(why("CREATE DATABASE").contains("name is missing"));
        assert!(why("CREATE DATABASE \"x").contains("not closed"));
        assert!(why(" ; ").contains("\"q\""));
    }
}
