//! The queries of panels, alerts and reports: each by itself, side by side.
//!
//! Invariant: what is wrong with one query is said by its own answer and keeps no other from being answered. When Grafana has no use for the
//! answers any more, the requests to Waterclock end, and with them the queries.

use std::sync::Arc;

use tokio::task::JoinSet;
use tonic::Status;

use crate::answer::Refused;
use crate::frame::to_arrow;
use crate::frames::{Shape, frames_of};
use crate::protocol::{DataQuery, DataResponse, QueryDataRequest, QueryDataResponse};
use crate::question::Asked;
use crate::source::{Source, Sources};

const OK: i32 = 200;

pub async fn query_data(
    sources: Arc<Sources>,
    request: QueryDataRequest,
) -> Result<QueryDataResponse, Status> {
    let source = sources.of(request.context);
    // Its tasks end when it is dropped.
    let mut running = JoinSet::new();
    for query in request.queries {
        let source = source.clone();
        running.spawn(async move {
            let answered = match source {
                Ok(source) => frames(&source, &query).await,
                Err(refused) => Err(refused),
            };
            (query.ref_id, answered)
        });
    }
    let mut responses = QueryDataResponse::default();
    while let Some(done) = running.join_next().await {
        let (ref_id, answered) = done.map_err(|error| Status::internal(error.to_string()))?;
        let response = answered.map_or_else(said, |frames| DataResponse {
            frames,
            status: OK,
            ..DataResponse::default()
        });
        responses.responses.insert(ref_id, response);
    }
    Ok(responses)
}

async fn frames(source: &Source, query: &DataQuery) -> Result<Vec<Vec<u8>>, Refused> {
    let asked = Asked::of_query(query)?;
    let answer = asked.answer(source).await?;
    let shape = Shape::new(&query.ref_id, &asked.question, asked.text());
    let encoded = frames_of(&answer, &shape)?.iter().map(to_arrow).collect::<Result<Vec<_>, _>>();
    encoded.map_err(|error| Refused::ours(500, format!("the answer cannot be made a data frame: {error}")))
}

fn said(refused: Refused) -> DataResponse {
    DataResponse {
        error: refused.sentence(),
        status: i32::from(refused.status),
        error_source: if refused.ours { "plugin" } else { "downstream" }.to_string(),
        ..DataResponse::default()
    }
}
