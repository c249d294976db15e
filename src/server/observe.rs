//! Each request: a log line at debug, a count and a time.
//!
//! Invariant: metrics carry the pattern of a path, never the path, so that their number does not depend on clients.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::metrics::{HTTP_REQUESTS, HTTP_SECONDS};
use crate::server::Doors;

pub async fn observe(State(doors): State<Arc<Doors>>, request: Request, next: Next) -> Response {
    let clock = doors.db.clock();
    let started = clock.elapsed();
    let pattern = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_string();
    let method = request.method().clone();
    let uri = request.uri().clone();
    let response = next.run(request).await;
    let elapsed = clock.elapsed().saturating_sub(started);
    let status = response.status().as_u16();
    tracing::debug!(%method, path = uri.path(), status, ms = elapsed.as_secs_f64() * 1e3, "request");
    // A client may make up methods, too.
    let method = if method.as_str().len() <= "OPTIONS".len() { method.as_str() } else { "other" };
    let labels = [("path", pattern.clone()), ("method", method.to_string()), ("status", status.to_string())];
    metrics::counter!(HTTP_REQUESTS, &labels).increment(1);
    metrics::histogram!(HTTP_SECONDS, "path" => pattern).record(elapsed.as_secs_f64());
    response
}
