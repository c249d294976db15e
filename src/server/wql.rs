//! `/api/wql`: a script in, the last statement's answer out.
//!
//! POST takes the script as the body, or as `q` of a form, of a JSON object or of the URL; GET takes `q` and refuses scripts that change
//! anything. Invariant: a query runs on a blocking thread, counts against `queries_running_max` until its answer is sent,
//! and is cancelled when its client goes away.
//! Not here: the language (`query_lang`), the formats (`json`, `csv`, `ipc`).

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use query_lang::ast::StatementKind;
use tokio::sync::OwnedSemaphorePermit;

use crate::db::QueryOptions;
use crate::error::{Error, Kind};
use crate::guard::Guard;
use crate::metrics::{QUERIES, QUERY_SECONDS};
use crate::query::Answer;
use crate::server::cells::TimeFormat;
use crate::server::csv::Csv;
use crate::server::ipc::Ipc;
use crate::server::json;
use crate::server::params::Params;
use crate::server::reply::Failure;
use crate::server::{Doors, body};

const PARAMETERS: [&str; 7] = ["q", "db", "params", "from", "to", "rollups", "time"];

pub async fn get(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    door(&doors, request, Purpose::Answer).await
}

pub async fn post(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    door(&doors, request, Purpose::Answer).await
}

pub async fn explain_get(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    door(&doors, request, Purpose::Explain).await
}

pub async fn explain_post(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    door(&doors, request, Purpose::Explain).await
}

#[derive(Clone, Copy, PartialEq)]
enum Purpose {
    Answer,
    Explain,
}

#[derive(Clone, Copy, PartialEq)]
enum Format {
    Json,
    Ndjson,
    Csv,
    Arrow,
}

/// An answer, and the right to hold it in memory.
pub struct Running {
    pub answer: Answer,
    held: (OwnedSemaphorePermit, Arc<Guard>),
}

async fn door(doors: &Arc<Doors>, request: Request, purpose: Purpose) -> Response {
    match answer(doors, request, purpose).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    }
}

async fn answer(doors: &Arc<Doors>, request: Request, purpose: Purpose) -> Result<Response, Failure> {
    let format = Format::of(request.headers())?;
    let read_only = *request.method() == Method::GET || purpose == Purpose::Explain;
    let (text, params) = script(doors, request).await?;
    params.refuse_unknown(&PARAMETERS)?;
    let times = TimeFormat::of(&params)?;
    let options = QueryOptions {
        database: params.database(&["db"])?,
        range: params.range(doors.db.clock().now())?,
        rollups: params.switch("rollups", true)?,
        read_only,
        params: params.bound()?,
    };
    let running = match purpose {
        Purpose::Answer => ask(doors, text, options).await?,
        Purpose::Explain => explain(doors, text, options).await?,
    };
    Ok(respond(running, format, times))
}

/// The statements, and the parameters around them.
async fn script(doors: &Arc<Doors>, request: Request) -> Result<(String, Params), Failure> {
    let in_url = Params::of_query(request.uri().query());
    let missing = || {
        let mut failure = Failure::parameter("no statement was sent");
        failure.hint =
            Some("send it as the body of a POST, or as the parameter q: cpu | last 5m".to_string());
        failure
    };
    if request.method() == Method::GET {
        let text = in_url.get("q").ok_or_else(missing)?.to_string();
        return Ok((text, in_url));
    }
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type =
        content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_lowercase();
    let body = body::read(request, doors).await?.decode()?;
    let text = body.text()?;
    if content_type == "application/json" {
        let params = in_url.and(Params::of_json(text)?);
        let text = params.get("q").ok_or_else(missing)?.to_string();
        return Ok((text, params));
    }
    // `curl -d 'cpu | last 5m'` says that this is a form, too.
    let is_form = content_type == "application/x-www-form-urlencoded"
        && PARAMETERS.iter().any(|name| text.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')));
    let params = if is_form { in_url.and(Params::of_form(&body.bytes)) } else { in_url };
    let text = match is_form || text.trim().is_empty() {
        true => params.get("q").ok_or_else(missing)?.to_string(),
        false if params.get("q").is_some() => {
            return Err(Failure::parameter(
                "there is a statement in the body and one in q; send one of them",
            ));
        }
        false => text.to_string(),
    };
    Ok((text, params))
}

/// Runs a script for as long as its client waits.
pub async fn ask(doors: &Arc<Doors>, text: String, options: QueryOptions) -> Result<Running, Failure> {
    let Ok(permit) = Arc::clone(&doors.queries).try_acquire_owned() else {
        let max = doors.db.config().limits.queries_running_max;
        return Err(Failure::from(Error::rejected(
            Kind::Unavailable,
            "too_many_queries",
            format!("{max} queries run already, the limit (queries_running_max); ask again a little later"),
        )));
    };
    let guard = Arc::new(doors.db.guard());
    let waiting = CancelOnDrop(Arc::clone(&guard));
    let db = Arc::clone(&doors.db);
    let outcome = doors
        .blocking(move || {
            let outcome = guard.admit().and_then(|()| db.query(&text, &options, &guard));
            let word = if outcome.is_ok() { "ok" } else { "error" };
            metrics::counter!(QUERIES, "outcome" => word).increment(1);
            metrics::histogram!(QUERY_SECONDS).record(guard.elapsed().as_secs_f64());
            let answer = outcome?;
            guard.settle(answer.batch.get_array_memory_size());
            Ok(Running { answer, held: (permit, guard) })
        })
        .await;
    drop(waiting);
    outcome
}

/// The plan of one statement. `explain` stands on a line of its own in front, which places in errors do not count.
async fn explain(doors: &Arc<Doors>, text: String, options: QueryOptions) -> Result<Running, Failure> {
    let script = query_lang::parse(&text).map_err(|error| Failure::from(Error::from(error)))?;
    let [statement] = script.statements.as_slice() else {
        return Err(Failure::parameter("explain takes one statement at a time"));
    };
    if matches!(statement.kind, StatementKind::Explain(_)) {
        return ask(doors, text, options).await;
    }
    ask(doors, format!("explain\n{text}"), options).await.map_err(Failure::below_first_line)
}

struct CancelOnDrop(Arc<Guard>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Format {
    /// The first type of `Accept` that we have. Weights are not looked at: who weighs has listed the best first.
    fn of(headers: &HeaderMap) -> Result<Format, Failure> {
        let Some(accept) = headers.get(header::ACCEPT) else { return Ok(Format::Json) };
        let accept = accept.to_str().unwrap_or_default();
        let known =
            accept.split(',').find_map(|one| match one.split(';').next().unwrap_or_default().trim() {
                "" | "*/*" | "application/*" | "application/json" => Some(Format::Json),
                "application/x-ndjson" | "application/ndjson" => Some(Format::Ndjson),
                "text/csv" | "text/*" => Some(Format::Csv),
                "application/vnd.apache.arrow.stream" => Some(Format::Arrow),
                _ => None,
            });
        known.ok_or_else(|| {
            Failure::new(
                StatusCode::NOT_ACCEPTABLE,
                "accept",
                "none of the types in Accept can be had; there are application/json, text/csv, application/x-ndjson and \
                 application/vnd.apache.arrow.stream",
            )
        })
    }

    fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

fn respond(running: Running, format: Format, times: TimeFormat) -> Response {
    let Running { answer, held } = running;
    let pieces: Box<dyn Iterator<Item = Bytes> + Send> = match format {
        Format::Json => Box::new(json::Document::new(answer, times)),
        Format::Ndjson => Box::new(json::Lines::new(&answer, times)),
        Format::Csv => Box::new(Csv::new(&answer, times)),
        Format::Arrow => Box::new(Ipc::new(answer)),
    };
    // Permit and memory go with the last piece, or with the connection.
    let pieces = pieces.map(move |piece| {
        let _held = &held;
        Ok::<Bytes, Infallible>(piece)
    });
    let body = Body::from_stream(tokio_stream::iter(pieces));
    ([(header::CONTENT_TYPE, format.content_type())], body).into_response()
}
