//! `/api/wql`: a script in, the last statement's answer out.
//!
//! POST takes the script as the body, or as `q` of a form, of a JSON object or of the URL; GET takes `q`. GET, and POST
//! with `read_only=on`, refuse scripts that change anything. Invariant: a query runs on a blocking thread, counts against
//! `queries_running_max` until its answer is sent, and is cancelled when its client goes away.
//! Not here: the language (`query_lang`), the forms of an answer (`format`), the list of queries (`queries`).

use std::net::SocketAddr;
use std::sync::Arc;

use arrow::array::RecordBatch;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};

use crate::db::{Db, QueryOptions};
use crate::guard::Guard;
use crate::query::Stream;
use crate::server::cells::TimeFormat;
use crate::server::format::Format;
use crate::server::params::Params;
use crate::server::queries::{self, Answered, Asked, Caller, Ticket};
use crate::server::reply::Failure;
use crate::server::send::respond;
use crate::server::{Doors, body};

const PARAMETERS: [&str; 11] =
    ["q", "db", "params", "from", "to", "rollups", "raw", "time", "format", "timeout", "read_only"];

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

/// An answer on its way, and the right to hold it in memory.
pub struct Running {
    pub stream: Stream,
    /// Its first rows, if it has any.
    pub first: Option<RecordBatch>,
    /// On the list of queries until this is dropped.
    pub held: Ticket,
}

pub fn client_of(request: &Request) -> Option<SocketAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(client)| *client)
}

async fn door(doors: &Arc<Doors>, request: Request, purpose: Purpose) -> Response {
    match answer(doors, request, purpose).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    }
}

async fn answer(doors: &Arc<Doors>, request: Request, purpose: Purpose) -> Result<Response, Failure> {
    let (headers, client) = (request.headers().clone(), client_of(&request));
    let only_asks = *request.method() == Method::GET || purpose == Purpose::Explain;
    let (text, params) = script(doors, request).await?;
    params.refuse_unknown(&PARAMETERS)?;
    let format = Format::of(&params, &headers)?;
    let as_stored = params.switch("raw", false)?;
    if as_stored && !matches!(format, Format::Arrow | Format::Parquet) {
        return Err(Failure::parameter(
            "raw=on gives out bytes and bits that texts cannot say; ask for application/vnd.apache.arrow.stream or \
             application/vnd.apache.parquet",
        ));
    }
    let times = TimeFormat::of(&params)?;
    let timeout = params.timeout(doors.db.config().limits.query_time_max)?;
    let caller = Caller { client, timeout };
    let options = QueryOptions {
        database: params.database(&["db"])?,
        range: params.range(doors.db.clock().now())?,
        rollups: params.switch("rollups", true)?,
        read_only: only_asks || params.switch("read_only", false)?,
        explain: purpose == Purpose::Explain,
        as_stored,
        params: params.bound()?,
    };
    let running = ask(doors, text, options, caller).await?;
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
pub async fn ask(
    doors: &Arc<Doors>,
    text: String,
    options: QueryOptions,
    caller: Caller,
) -> Result<Running, Failure> {
    let asked = Asked { database: options.database.clone(), statement: text.clone(), caller };
    let work = move |db: &Db, guard: &Guard| {
        let mut stream = db.stream(&text, &options, guard)?;
        let first = stream.next(guard)?;
        let is_whole = stream.has_ended();
        if is_whole {
            stream.end();
            stream.stats.elapsed = guard.elapsed();
        }
        let bytes = first.as_ref().map_or(0, RecordBatch::get_array_memory_size);
        let rollups = stream.stats.rollups.iter().map(|used| used.name.clone()).collect();
        Ok(Answered { bytes: is_whole.then_some(bytes), rollups, answer: (stream, first) })
    };
    let ((stream, first), held) = queries::run(doors, asked, work).await?;
    Ok(Running { stream, first, held })
}
