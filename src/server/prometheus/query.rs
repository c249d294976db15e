//! `query`, `query_range`, and what is done with a query's text alone.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::db::Db;
use crate::guard::Guard;
use crate::promql::{self, Answer, MALFORMED, Query, Steps};
use crate::query::Stats;
use crate::server::Doors;
use crate::server::format;
use crate::server::params::Params;
use crate::server::prometheus::json::{Extras, pieces};
use crate::server::prometheus::time::{duration, required_time, time};
use crate::server::prometheus::{answer, bad_parameter, limit, params, success, tree};
use crate::server::queries::{self, Answered, Asked, Caller};
use crate::server::reply::Failure;
use crate::server::send::stream;
use crate::server::wql::client_of;

/// How far back the newest sample may be, as in Prometheus.
pub const LOOKBACK_MILLIS: i64 = 300_000;

/// Steps of one query, as in Prometheus: enough for a screen's width many times over.
const STEPS_MAX: i64 = 11_000;

pub async fn instant(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    answer(asked(&doors, request, Form::Instant).await)
}

pub async fn range(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    answer(asked(&doors, request, Form::Range).await)
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Instant,
    Range,
}

async fn asked(doors: &Arc<Doors>, request: Request, form: Form) -> Result<Response, Failure> {
    let client = client_of(&request);
    let params = params(doors, request).await?;
    let stats = params.get("stats");
    let (limit, per_step) = (limit(&params)?, stats == Some("all"));
    let rollups = params.switch("rollups", true)?;
    let now = doors.db.clock().now().div_euclid(1_000_000);
    let query = read(&params, form, now)?;
    let query = if stats.is_some() { query.counted() } else { query };
    let query = if rollups { query } else { query.without_rollups() };
    let time_max = doors.db.config().limits.query_time_max;
    let timeout = duration(&params, "timeout")?.map(|timeout| Duration::from_millis(timeout.max(0) as u64));
    // As in Prometheus, more than the server allows is not refused.
    let caller = Caller { client, timeout: timeout.map(|timeout| timeout.min(time_max)) };
    let database = params.database(&["db"])?;
    let asked = Asked { database: database.clone(), statement: query.text().to_string(), caller };
    let work = move |db: &Db, guard: &Guard| {
        let (answer, stats) = db.promql(&query, form == Form::Range, &database, guard)?;
        let rollups = stats.rollups.iter().map(|used| used.name.clone()).collect();
        Ok(Answered { bytes: Some(answer.heap_bytes()), rollups, answer: (answer, stats) })
    };
    let ((answer, mut stats), held): ((Answer, Stats), _) = queries::run(doors, asked, work).await?;
    if !per_step {
        // They would make each head long.
        stats.rejected.clear();
    }
    let said = format::stats_header(&stats);
    let body = stream(pieces(answer, &Extras { limit, per_step, stats }), held);
    let mut reply = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    reply.headers_mut().extend([said]);
    Ok(reply)
}

fn read(params: &Params, form: Form, now: i64) -> Result<Query, Failure> {
    let lookback = duration(params, "lookback_delta")?.unwrap_or(LOOKBACK_MILLIS);
    if lookback <= 0 {
        return Err(bad_parameter("lookback_delta", "it must be more than zero"));
    }
    let text = params.get("query").unwrap_or_default();
    let parsed = match form {
        Form::Instant => {
            let at = time(params, "time")?.unwrap_or(now);
            Query::instant(text, at, lookback)
        }
        Form::Range => {
            let (steps, end) = steps(params)?;
            Query::range(text, steps, end, lookback)
        }
    };
    parsed.map_err(|error| {
        let failure = Failure::from(error);
        match failure.code {
            MALFORMED => bad_parameter("query", failure.message),
            _ => failure,
        }
    })
}

/// And the end of the range, which need not be a step.
fn steps(params: &Params) -> Result<(Steps, i64), Failure> {
    let (start, end) = (required_time(params, "start")?, required_time(params, "end")?);
    if end < start {
        return Err(bad_parameter("end", "end timestamp must not be before start time"));
    }
    let step = duration(params, "step")?
        .ok_or_else(|| bad_parameter("step", "cannot parse \"\" to a valid duration"))?;
    if step <= 0 {
        let why = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(bad_parameter("step", why));
    }
    if end.saturating_sub(start) / step > STEPS_MAX {
        return Err(Failure::parameter(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    Ok((Steps::range(start, end, step), end))
}

pub async fn format_query(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    answer(text(&doors, request).await.map(|expr| success(json!(promql::print::query_text(&expr)))))
}

pub async fn parse(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    answer(text(&doors, request).await.map(|expr| success(tree::tree(&expr))))
}

async fn text(doors: &Arc<Doors>, request: Request) -> Result<promql::ast::Expr, Failure> {
    let params = params(doors, request).await?;
    let text = params.get("query").unwrap_or_default();
    promql::parse(text).map_err(|error| bad_parameter("query", error.in_query(text)))
}
