//! The queries there are, in WQL and PromQL: run here, waiting, running, being answered; to be looked at (`GET /api/queries`)
//! and to be killed (`DELETE /api/queries/<id>`).
//!
//! Invariant: a query is listed from its request until the last piece of its answer is taken or its client is gone; at
//! most `queries_running_max` of those listed have a place, the others wait no longer than `queries_wait_max` for one.
//! Not here: what ends a query (`guard`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use query_lang::time::format_time;
use serde_json::{Value, json};
use storage_format::point::Time;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;
use crate::db::Db;
use crate::error::{Error, Kind, Result};
use crate::guard::Guard;
use crate::metrics::{QUERIES, QUERIES_RUNNING, QUERY_SECONDS};
use crate::server::Doors;
use crate::server::params::Params;
use crate::server::reply::{Failure, json_answer};

pub struct Queries {
    places: Arc<Semaphore>,
    listed: Arc<Mutex<Listed>>,
}

#[derive(Default)]
struct Listed {
    last_id: u64,
    queries: BTreeMap<u64, Query>,
}

/// What is known of one.
struct Query {
    database: String,
    statement: String,
    client: Option<SocketAddr>,
    since: Time,
    guard: Arc<Guard>,
    state: Phase,
    rollups: Vec<String>,
}

#[derive(Clone, Copy)]
enum Phase {
    Waiting,
    Running,
    Answering,
}

/// Stands for one query in the list, and takes it off when dropped.
pub struct Ticket {
    id: u64,
    listed: Arc<Mutex<Listed>>,
    guard: Arc<Guard>,
    place: Option<OwnedSemaphorePermit>,
}

/// Bytes of a statement that are listed.
const STATEMENT_BYTES_MAX: usize = 4 << 10;

impl Queries {
    pub fn new(limits: &Limits) -> Queries {
        Queries {
            places: Arc::new(Semaphore::new(limits.queries_running_max.min(Semaphore::MAX_PERMITS))),
            listed: Arc::default(),
        }
    }

    /// Lists a query and waits for its place.
    async fn enter(
        &self,
        limits: &Limits,
        database: &str,
        statement: &str,
        client: Option<SocketAddr>,
        since: Time,
        guard: Arc<Guard>,
    ) -> Result<Ticket> {
        let mut ticket = self.list(Query {
            database: database.to_string(),
            statement: statement[..statement.floor_char_boundary(STATEMENT_BYTES_MAX)].to_string(),
            client,
            since,
            guard,
            state: Phase::Waiting,
            rollups: Vec::new(),
        });
        let place = Arc::clone(&self.places).acquire_owned();
        let Ok(place) = tokio::time::timeout(limits.queries_wait_max, place).await else {
            ticket.guard.check()?;
            return Err(Error::rejected(
                Kind::Unavailable,
                "too_many_queries",
                format!(
                    "{} queries run already, the limit (queries_running_max), and none ended in {:?} (queries_wait_max); ask \
                     again a little later",
                    limits.queries_running_max, limits.queries_wait_max
                ),
            ));
        };
        ticket.place = place.ok();
        ticket.change(|query| query.state = Phase::Running);
        Ok(ticket)
    }

    fn list(&self, query: Query) -> Ticket {
        let guard = Arc::clone(&query.guard);
        let mut listed = self.listed.lock();
        listed.last_id += 1;
        let id = listed.last_id;
        listed.queries.insert(id, query);
        metrics::gauge!(QUERIES_RUNNING).set(listed.queries.len() as f64);
        Ticket { id, listed: Arc::clone(&self.listed), guard, place: None }
    }
}

impl Ticket {
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Its first rows are there; from here on its answer is sent, and perhaps still read.
    fn answering(&self, rollups: Vec<String>) {
        self.change(|query| {
            query.state = Phase::Answering;
            query.rollups = rollups;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Query)) {
        if let Some(query) = self.listed.lock().queries.get_mut(&self.id) {
            change(query);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut listed = self.listed.lock();
        listed.queries.remove(&self.id);
        metrics::gauge!(QUERIES_RUNNING).set(listed.queries.len() as f64);
    }
}

/// Who asks, and how long that may take.
#[derive(Clone, Copy, Default)]
pub struct Caller {
    pub client: Option<SocketAddr>,
    pub timeout: Option<Duration>,
}

/// What is shown of a query, and how it is run.
pub struct Asked {
    pub database: String,
    pub statement: String,
    pub caller: Caller,
}

/// An answer, and the rollups that gave it.
pub struct Answered<T> {
    pub answer: T,
    /// What it takes in memory; None if it is not all there yet: who reads the rest also counts the query.
    pub bytes: Option<usize>,
    pub rollups: Vec<String>,
}

/// Runs a query on a thread that may wait, for as long as its client does. The answer may be held as long as the ticket.
pub async fn run<T: Send + 'static>(
    doors: &Arc<Doors>,
    asked: Asked,
    work: impl FnOnce(&Db, &Guard) -> Result<Answered<T>> + Send + 'static,
) -> Result<(T, Ticket), Failure> {
    let guard = doors.db.guard();
    let guard = Arc::new(match asked.caller.timeout {
        Some(timeout) => guard.within(timeout),
        None => guard,
    });
    // Dropped with the request when its client has gone.
    let mut waiting = CancelOnDrop(Some(Arc::clone(&guard)));
    let now = doors.db.clock().now();
    let limits = &doors.db.config().limits;
    let Asked { database, statement, caller } = asked;
    let ticket =
        doors.queries.enter(limits, &database, &statement, caller.client, now, Arc::clone(&guard)).await?;
    let db = Arc::clone(&doors.db);
    let outcome = doors
        .blocking(move || {
            let outcome = guard.admit().and_then(|()| work(&db, &guard));
            match &outcome {
                Ok(Answered { bytes: None, .. }) => {}
                Ok(_) => count(Ok(()), &guard),
                Err(error) => count(Err(error), &guard),
            }
            let Answered { answer, bytes, rollups } = outcome?;
            bytes.iter().for_each(|bytes| guard.settle(*bytes));
            ticket.answering(rollups);
            Ok((answer, ticket))
        })
        .await;
    // What is left to be sent ends with the connection.
    waiting.0 = None;
    outcome
}

/// Counts a query that is over.
pub fn count(outcome: Result<(), &Error>, guard: &Guard) {
    let word = match outcome {
        Ok(()) => "ok",
        Err(Error::Rejected(rejection)) if rejection.code == "cancelled" => "cancelled",
        Err(Error::Rejected(rejection)) if rejection.code == "query_killed" => "killed",
        Err(_) => "error",
    };
    metrics::counter!(QUERIES, "outcome" => word).increment(1);
    metrics::histogram!(QUERY_SECONDS).record(guard.elapsed().as_secs_f64());
}

struct CancelOnDrop(Option<Arc<Guard>>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(guard) = &self.0 {
            guard.cancel();
        }
    }
}

pub async fn list(State(doors): State<Arc<Doors>>, uri: Uri) -> Response {
    if let Err(failure) = Params::of_query(uri.query()).refuse_unknown(&[]) {
        return failure.into_response();
    }
    let queries: Vec<Value> =
        doors.queries.listed.lock().queries.iter().map(|(id, query)| query.describe(*id)).collect();
    json_answer(StatusCode::OK, &json!({ "queries": queries }))
}

pub async fn kill(State(doors): State<Arc<Doors>>, Path(id): Path<String>) -> Response {
    let listed = doors.queries.listed.lock();
    let found = id.parse::<u64>().ok().and_then(|id| Some((id, listed.queries.get(&id)?)));
    let Some((id, query)) = found else {
        let shown: String = id.chars().take(64).collect();
        let message = format!("there is no query {shown}; GET /api/queries lists those that run");
        return Failure::new(StatusCode::NOT_FOUND, "unknown_query", message).into_response();
    };
    query.guard.kill();
    tracing::info!(id, statement = query.statement, "a query was killed");
    json_answer(StatusCode::OK, &json!({ "killed": id }))
}

impl Query {
    fn describe(&self, id: u64) -> Value {
        json!({
            "id": id,
            "state": match self.state {
                Phase::Waiting => "waiting",
                Phase::Running => "running",
                Phase::Answering => "answering",
            },
            "database": self.database,
            "statement": self.statement,
            "client": self.client.map(|client| client.to_string()),
            "since": format_time(self.since),
            "elapsed_ms": self.guard.elapsed().as_micros() as f64 / 1e3,
            "memory_bytes": self.guard.memory(),
            "rows_read": self.guard.rows_read(),
            "rollups": self.rollups,
        })
    }
}
