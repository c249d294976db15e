//! `/api/rollups`: what `show rollups`, `create rollup` and `drop rollup` say and do, for programs.
//!
//! `POST /api/rollups/NAME` takes what stands after `as` in `create rollup NAME as ...`, or that whole statement; it is
//! answered once the rollup answers queries, which is at once: what is not computed yet is read from raw points.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use query_lang::ast::{Name, StatementKind};
use query_lang::time::format_time;
use serde_json::{Value, json};

use crate::db::{QueryOptions, RefreshScope, RollupStatus};
use crate::error::{Error, Kind};
use crate::server::params::Params;
use crate::server::queries::Caller;
use crate::server::reply::{Failure, json_answer};
use crate::server::wql::{ask, client_of};
use crate::server::{Doors, body};

type Outcome = Result<(StatusCode, Value), Failure>;

pub async fn list(State(doors): State<Arc<Doors>>, uri: Uri) -> Response {
    let run = async {
        let database = database(uri.query(), &["db"])?;
        let rollups: Vec<Value> = statuses(&doors, &database).await?.iter().map(status_json).collect();
        Ok((StatusCode::OK, json!({ "rollups": rollups })))
    };
    respond(run.await)
}

pub async fn one(State(doors): State<Arc<Doors>>, Path(name): Path<String>, uri: Uri) -> Response {
    let run = async {
        let database = database(uri.query(), &["db"])?;
        Ok((StatusCode::OK, status_json(&status(&doors, &database, &name).await?)))
    };
    respond(run.await)
}

/// How far the first computation is, for those who wait for it.
pub async fn progress(State(doors): State<Arc<Doors>>, Path(name): Path<String>, uri: Uri) -> Response {
    let run = async {
        let database = database(uri.query(), &["db"])?;
        let status = status(&doors, &database, &name).await?;
        let (done, total) = status.done();
        let progress = json!({
            "name": status.name,
            "state": status.state.name(),
            "computed_until": status.computed_until.map(format_time),
            "done_buckets": done,
            "total_buckets": total,
            "missing_buckets": status.missing_buckets,
            "dirty_buckets": status.dirty_buckets,
            "buckets_per_second": status.buckets_per_second,
            "seconds_left": status.left().map(|left| left.as_secs_f64()),
            "rebuilt": status.rebuilt.map(rebuilt_json),
            "done": status.missing_buckets == 0 && status.dirty_buckets == 0 && status.rebuilt.is_none(),
            "last_error": status.last_error,
        });
        Ok((StatusCode::OK, progress))
    };
    respond(run.await)
}

pub async fn create(State(doors): State<Arc<Doors>>, Path(name): Path<String>, request: Request) -> Response {
    let run = async {
        let database = database(request.uri().query(), &["db"])?;
        if status(&doors, &database, &name).await.is_ok() {
            return Err(Failure::from(Error::rejected(
                Kind::Conflict,
                "rollup_exists",
                format!(
                    "there is a rollup {name} already in database {database}; delete it first, or choose another name"
                ),
            )));
        }
        let caller = Caller { client: client_of(&request), timeout: None };
        let body = body::read(request, &doors).await?.decode()?;
        let text = body.text()?.to_string();
        drop(body);
        let script = query_lang::parse(&text).map_err(|error| Failure::from(Error::from(error)))?;
        let kinds: Vec<&StatementKind> = script.statements.iter().map(|statement| &statement.kind).collect();
        let options = QueryOptions::of(&database);
        match kinds.as_slice() {
            [StatementKind::CreateRollup(create)] if create.name.text == name => {
                ask(&doors, text, options, caller).await?;
            }
            [StatementKind::CreateRollup(create)] => {
                let path_and_statement = format!("the path says {name}, the statement {}", create.name.text);
                return Err(Failure::parameter(format!("{path_and_statement}; give both the same name")));
            }
            [StatementKind::Query(_)] => {
                // A line of its own, which places in errors do not count.
                let text = format!("create rollup {} as\n{text}", Name::new(name.as_str()));
                ask(&doors, text, options, caller).await.map_err(Failure::below_first_line)?;
            }
            _ => {
                let mut failure = Failure::parameter("the body is not the definition of a rollup");
                failure.hint =
                    Some("send, for example: cpu | every 1m count, avg(usage) by host".to_string());
                return Err(failure);
            }
        }
        Ok((StatusCode::CREATED, status_json(&status(&doors, &database, &name).await?)))
    };
    respond(run.await)
}

pub async fn remove(State(doors): State<Arc<Doors>>, Path(name): Path<String>, uri: Uri) -> Response {
    let run = async {
        let database = database(uri.query(), &["db"])?;
        let statement = StatementKind::DropRollup(Name::new(name.as_str())).to_string();
        ask(&doors, statement, QueryOptions::of(&database), Caller::default())
            .await
            .map_err(Failure::unplaced)?;
        Ok((StatusCode::OK, json!({ "dropped": name })))
    };
    respond(run.await)
}

/// Computes what is missing or dirty in the range, until nothing is or the client goes away.
pub async fn refresh(State(doors): State<Arc<Doors>>, Path(name): Path<String>, uri: Uri) -> Response {
    let run = async {
        let params = Params::of_query(uri.query());
        let database = database(uri.query(), &["db", "from", "to"])?;
        let within = params.range(doors.db.clock().now())?;
        let scope = RefreshScope { rollup: Some((database, name)), within };
        let waiting = SetOnDrop(Arc::new(AtomicBool::new(false)));
        let (db, gone) = (Arc::clone(&doors.db), Arc::clone(&waiting.0));
        let buckets = doors
            .blocking(move || Ok(db.refresh_while(&scope, || Ok(!gone.load(Ordering::Relaxed)))?))
            .await?;
        drop(waiting);
        Ok((StatusCode::OK, json!({ "buckets": buckets })))
    };
    respond(run.await)
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn respond(outcome: Outcome) -> Response {
    match outcome {
        Ok((status, body)) => json_answer(status, &body),
        Err(failure) => failure.into_response(),
    }
}

fn database(query: Option<&str>, known: &[&str]) -> Result<String, Failure> {
    let params = Params::of_query(query);
    params.refuse_unknown(known)?;
    params.database(&["db"])
}

async fn statuses(doors: &Arc<Doors>, database: &str) -> Result<Vec<RollupStatus>, Failure> {
    let (db, database) = (Arc::clone(&doors.db), database.to_string());
    doors.blocking(move || Ok(db.rollups(&database))).await
}

async fn status(doors: &Arc<Doors>, database: &str, name: &str) -> Result<RollupStatus, Failure> {
    let found = statuses(doors, database).await?.into_iter().find(|status| status.name == name);
    found.ok_or_else(|| {
        Failure::from(Error::rejected(
            Kind::NotFound,
            "unknown_rollup",
            format!("there is no rollup {name} in database {database}; GET /api/rollups lists them"),
        ))
    })
}

fn rebuilt_json((done, total): (u64, u64)) -> Value {
    json!({ "done_buckets": done, "total_buckets": total })
}

fn status_json(status: &RollupStatus) -> Value {
    let computed: Vec<Value> = status
        .computed
        .iter()
        .map(|range| json!({ "from": format_time(range.start), "to": format_time(range.end) }))
        .collect();
    json!({
        "name": status.name,
        "on": status.on,
        "definition": status.definition,
        "state": status.state.name(),
        "computed_until": status.computed_until.map(format_time),
        "computed": computed,
        "dirty_buckets": status.dirty_buckets,
        "missing_buckets": status.missing_buckets,
        "bytes": status.bytes,
        "rows": status.rows,
        "memory_rows": status.memory_rows,
        "rebuilt": status.rebuilt.map(rebuilt_json),
        "keep": status.keep,
        "last_error": status.last_error,
    })
}
