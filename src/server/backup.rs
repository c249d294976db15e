//! `POST /api/backup?to=DIR`: the server copies everything to a folder of its own machine, or to a bucket, and tells how far
//! it is.
//!
//! The answer is a stream of JSON lines: `{"done":B,"all":B}` in bytes while it works, then one line with what was done,
//! or `{"error":{...}}`. What is wrong before anything was copied has the usual status and body.
//! Invariant: a client that goes away ends the work; the backup before stays readable.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::backup::{Done, online};
use crate::config::Location;
use crate::db::Db;
use crate::disk;
use crate::error::{Error, Kind};
use crate::server::Doors;
use crate::server::params::Params;
use crate::server::reply::Failure;

/// Lines that wait for a slow client; further ones of progress are left out.
const LINES_WAITING_MAX: usize = 16;

enum Line {
    Progress(u64, u64),
    Last(Result<Done, Failure>),
}

pub async fn start(State(doors): State<Arc<Doors>>, uri: Uri) -> Response {
    let to = || {
        let params = Params::of_query(uri.query());
        params.refuse_unknown(&["to"])?;
        let to = params.get("to").and_then(|to| to.parse().ok());
        let sound = |to: &Location| match to {
            Location::Folder(folder) => folder.is_absolute(),
            Location::S3(_) => true,
        };
        to.filter(sound).ok_or_else(|| {
            Failure::parameter(
                "to is missing or not absolute; give the folder for the backup on the server's machine, or s3://bucket/prefix",
            )
        })
    };
    let to = match to() {
        Ok(to) => to,
        Err(failure) => return failure.into_response(),
    };
    let (send, mut lines) = mpsc::channel(LINES_WAITING_MAX);
    let of_thread = Arc::clone(&doors);
    tokio::spawn(async move {
        let (db, progress) = (Arc::clone(&of_thread.db), send.clone());
        let outcome = of_thread.blocking(move || run(&db, &to, &progress)).await;
        // Nobody is there any more if this fails.
        let _ = send.send(Line::Last(outcome)).await;
    });
    // It is on its way once it has told how much there is to do.
    match lines.recv().await {
        Some(Line::Last(Err(failure))) => failure.into_response(),
        Some(first) => {
            let lines = tokio_stream::once(first).chain(ReceiverStream::new(lines));
            let body = Body::from_stream(lines.map(|line| Ok::<Bytes, Infallible>(text(line))));
            (StatusCode::OK, [(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
        }
        None => Failure::bug().into_response(),
    }
}

fn run(db: &Db, to: &Location, progress: &mpsc::Sender<Line>) -> Result<Done, Failure> {
    let target = disk::backup_to_write(to, db.config())?;
    let done = online(db, &*target, &mut |done, all| {
        if progress.is_closed() {
            return Err(Error::rejected(
                Kind::Unavailable,
                "cancelled",
                "the backup was cancelled: its client left",
            ));
        }
        let _ = progress.try_send(Line::Progress(done, all));
        Ok(())
    })?;
    tracing::info!(to = %to, blocks = done.blocks, copied_bytes = done.copied_bytes, "backed up");
    Ok(done)
}

fn text(line: Line) -> Bytes {
    let value: Value = match line {
        Line::Progress(done, all) => json!({ "done": done, "all": all }),
        Line::Last(Ok(done)) => {
            let Done { blocks, kept, linked, copied, copied_bytes, log_bytes, removed } = done;
            json!({
                "blocks": blocks, "kept": kept, "linked": linked, "copied": copied, "copied_bytes": copied_bytes,
                "log_bytes": log_bytes, "removed": removed,
            })
        }
        Line::Last(Err(failure)) => {
            json!({ "error": { "code": failure.code, "message": failure.message, "hint": failure.hint } })
        }
    };
    Bytes::from(format!("{value}\n"))
}
