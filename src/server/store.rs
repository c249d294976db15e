//! From a body to its acknowledgement: the same for every door that takes points.
//!
//! Invariant: an answer is given once: after the points are durable and readable, or with the reason.
//! A small body is parsed by the thread that has read it, since waking another one costs as much as the parsing; a large one, and
//! any while writers wait for a lock, by a thread that may be busy for long.
//! Not here: compression (`body`), the words of each protocol (`write`, `remote_write`, `otlp`).

use std::panic::AssertUnwindSafe;
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
    let at_once = body.is_small() && !doors.db.holds_writers_up();
    let run = move || {
        let answer = Answer(send);
        let decoded = body.decode().and_then(|mut decoded| decoded.make_room_to_parse().map(|()| decoded));
        match decoded {
            Ok(decoded) => parse(&db, &decoded, answer),
            Err(failure) => answer.refuse(failure),
        }
    };
    // Its end is not waited for: the answer wakes this task once.
    let elsewhere = match at_once {
        true => {
            // Unwind-safe as a thread of its own would be: what a panic leaves half done is not looked at again.
            std::panic::catch_unwind(AssertUnwindSafe(run)).map_err(|_| doors.ran_into_a_bug())?;
            None
        }
        false => Some(tokio::task::spawn_blocking(run)),
    };
    match answered.await {
        Ok(outcome) => outcome,
        Err(_) => {
            if let Some(parsing) = elsewhere {
                doors.ended(parsing.await)?;
            }
            Err(Failure::from(write_path_ended()))
        }
    }
}

/// Nobody will say what became of a write.
fn write_path_ended() -> Error {
    let why = "the write path has ended unexpectedly; the log says why; restart waterclock and send it again";
    Error::rejected(Kind::Unavailable, "write_path_ended", why)
}
