//! From a body to its acknowledgement: the same for every door that takes points.
//!
//! Invariant: an answer is given once: after the points are durable and readable, or with the reason.
//! A thread that reads requests parses none, although small ones are parsed nearly as fast as another thread wakes: it might have to
//! wait for a lock; and when it was tried, a server under overload took twice its `memory_limit` (`tests/memory.rs`), for a reason
//! that was not found.
//! Not here: compression (`body`), the words of each protocol (`write`, `remote_write`, `otlp`).

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::db::Db;
use crate::error::{Error, Kind, Result};
use crate::server::Doors;
use crate::server::body::{Body, Decoded};
use crate::server::reply::Failure;

/// To whoever waits for what becomes of a body. Nobody listens if the client has gone away; the points stay.
pub struct Answer<T>(oneshot::Sender<Result<T, Failure>>);

impl<T> Answer<T> {
    pub fn give(self, outcome: Result<T>) {
        drop(self.0.send(outcome.map_err(Failure::from)));
    }

    pub fn refuse(self, failure: Failure) {
        drop(self.0.send(Err(failure)));
    }
}

/// Decodes a body and waits for what becomes of it. `parse` parses it and hands its points on; the answer comes from the
/// write path, or at once.
pub async fn store<T: Send + 'static>(
    doors: &Arc<Doors>,
    body: Body,
    parse: impl FnOnce(&Db, &Decoded, Answer<T>) + Send + 'static,
) -> Result<T, Failure> {
    let (send, answered) = oneshot::channel();
    let db = Arc::clone(&doors.db);
    // Its end is not waited for: the answer wakes this task once.
    let parsing = tokio::task::spawn_blocking(move || {
        let answer = Answer(send);
        let decoded = body.decode().and_then(|mut decoded| decoded.make_room_to_parse().map(|()| decoded));
        match decoded {
            Ok(decoded) => parse(&db, &decoded, answer),
            Err(failure) => answer.refuse(failure),
        }
    });
    match answered.await {
        Ok(outcome) => outcome,
        Err(_) => {
            doors.ended(parsing.await)?;
            Err(Failure::from(write_path_ended()))
        }
    }
}

/// Nobody will say what became of a write.
fn write_path_ended() -> Error {
    let why = "the write path has ended unexpectedly; the log says why; restart waterclock and send it again";
    Error::rejected(Kind::Unavailable, "write_path_ended", why)
}
