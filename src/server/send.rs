//! Sending an answer: read, made into its form, given to the client, piece by piece.
//!
//! Invariant: the next piece is made when the client has taken the one before, and the next rows are read while the last are
//! written and no sooner, so that a slow client slows the scan and fills no memory. The status goes out with the first rows: what is
//! wrong before is an error with its status. What is wrong after it ends the connection without the last chunk, so that
//! no client can take what it has for a whole answer.
//! Not here: the forms (`format`).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use tokio::sync::mpsc;

use crate::error::Result;
use crate::guard::Guard;
use crate::query::Stream;
use crate::server::cells::TimeFormat;
use crate::server::format::{Encoder, Format, Out, Said, TRAILER};
use crate::server::json::Unsaid;
use crate::server::queries::{Ticket, count};
use crate::server::reply::Failure;
use crate::server::wql::Running;

/// An answer of so few rows costs less than the way to another thread.
const ROWS_AT_ONCE: usize = 1_000;

/// Pieces that wait for the client.
const PIECES_AHEAD: usize = 2;

type Piece = io::Result<Frame<Bytes>>;

pub fn respond(running: Running, format: Format, times: TimeFormat) -> Response {
    let Running { mut stream, first, held } = running;
    let mut unsaid = Unsaid::default();
    if format.is_json() {
        first.iter().for_each(|batch| unsaid.look_at(batch));
    }
    let known = stream.has_ended().then(|| said_of(&mut stream, &unsaid));
    let encoder = format.encoder(&stream.columns, &stream.schema, known.as_ref(), times);
    let content_type = [(header::CONTENT_TYPE, format.content_type())];
    let mut sending = Sending { encoder, stream, unsaid, is_json: format.is_json(), held };
    let Some(said) = known else {
        let body = sending.start(first, None);
        return (content_type, [(header::TRAILER, TRAILER)], body).into_response();
    };
    let headers = said.headers();
    if first.as_ref().is_none_or(|batch| batch.num_rows() <= ROWS_AT_ONCE) {
        let (mut out, mut pieces) = (Out::default(), Vec::new());
        sending.encoder.begin(&mut out.text);
        if let Some(batch) = first {
            sending.encoder.take(batch);
            while sending.encoder.rows(&mut out) {
                pieces.extend(out.pieces());
            }
        }
        sending.encoder.end(&said, &mut out.text);
        pieces.extend(out.pieces());
        return (content_type, headers, pieces.concat()).into_response();
    }
    (content_type, headers, sending.start(first, Some(said))).into_response()
}

/// A body of pieces, the next one when the client has taken the last. The query stays on the list until then.
pub fn stream(pieces: impl Iterator<Item = Bytes> + Send + 'static, held: Ticket) -> Body {
    let (send, receive) = mpsc::channel::<Piece>(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        for piece in pieces {
            // Place and memory go with the last piece, or with the connection. An answer cut short must not look whole.
            let piece = held.guard().check().map(|()| Frame::data(piece)).map_err(io::Error::other);
            let ended = piece.is_err();
            if send.blocking_send(piece).is_err() || ended {
                return;
            }
        }
    });
    Body::new(Pieces { receive, cut: None })
}

fn said_of(stream: &mut Stream, unsaid: &Unsaid) -> Said {
    let mut warnings = std::mem::take(&mut stream.warnings);
    warnings.extend(unsaid.warnings(&stream.columns));
    Said { stats: stream.stats.clone(), warnings }
}

struct Sending {
    encoder: Box<dyn Encoder>,
    stream: Stream,
    unsaid: Unsaid,
    is_json: bool,
    /// Place and memory go with the last piece, or with the connection.
    held: Ticket,
}

/// The client is gone.
struct Left;

impl Sending {
    /// `said` is there where all rows are in the first batch.
    fn start(self, first: Option<RecordBatch>, said: Option<Said>) -> Body {
        let (send, receive) = mpsc::channel(PIECES_AHEAD);
        tokio::task::spawn_blocking(move || self.run(first, said, &send));
        Body::new(Pieces { receive, cut: None })
    }

    fn run(mut self, first: Option<RecordBatch>, said: Option<Said>, send: &mpsc::Sender<Piece>) {
        let is_whole = said.is_some();
        let outcome = self.pieces(first, said, send);
        if !is_whole {
            match &outcome {
                Ok(Ok(())) => count(Ok(()), self.held.guard()),
                Ok(Err(Left)) => {
                    self.held.guard().cancel();
                    count(self.held.guard().check().as_ref().copied(), self.held.guard());
                }
                Err(error) => count(Err(error), self.held.guard()),
            }
        }
        if let Err(error) = outcome {
            let why = Failure::from(error);
            tracing::warn!(code = why.code, error = why.message, "an answer ends early");
            let mut last = Vec::new();
            self.encoder.broken(&why, &mut last);
            // Nobody may be left to be told.
            let _ = send.blocking_send(Ok(Frame::data(last.into())));
            let _ = send.blocking_send(Err(io::Error::other(why.message)));
        }
    }

    fn pieces(
        &mut self,
        first: Option<RecordBatch>,
        said: Option<Said>,
        send: &mpsc::Sender<Piece>,
    ) -> Result<std::result::Result<(), Left>> {
        let mut out = Out::default();
        self.encoder.begin(&mut out.text);
        let mut next = first;
        while let Some(batch) = next {
            let (encoder, stream, guard) = (&mut self.encoder, &mut self.stream, self.held.guard());
            encoder.take(batch);
            let mut read = Ok(None);
            let sent = rayon::in_place_scope(|scope| {
                if !stream.has_ended() {
                    scope.spawn(|_| read = stream.next(guard));
                }
                let sent = write(encoder.as_mut(), &mut out, guard, send);
                if matches!(sent, Ok(Err(Left))) {
                    // Nobody waits for what is being read.
                    guard.cancel();
                }
                sent
            })?;
            if sent.is_err() {
                return Ok(sent);
            }
            next = read?;
            if self.is_json {
                next.iter().for_each(|batch| self.unsaid.look_at(batch));
            }
        }
        self.held.guard().check()?;
        let trailers = said.is_none();
        let said = said.unwrap_or_else(|| {
            self.stream.end();
            self.stream.stats.elapsed = self.held.guard().elapsed();
            said_of(&mut self.stream, &self.unsaid)
        });
        self.encoder.end(&said, &mut out.text);
        let mut sent = out.pieces().try_for_each(|piece| send.blocking_send(Ok(Frame::data(piece))));
        if trailers {
            sent = sent.and_then(|()| send.blocking_send(Ok(Frame::trailers(said.headers()))));
        }
        Ok(sent.map_err(|_| Left))
    }
}

/// Writes and sends what the encoder has.
fn write(
    encoder: &mut dyn Encoder,
    out: &mut Out,
    guard: &Guard,
    send: &mpsc::Sender<Piece>,
) -> Result<std::result::Result<(), Left>> {
    loop {
        let more = encoder.rows(out);
        if more || out.is_piece() {
            guard.check()?;
            if out.pieces().any(|piece| send.blocking_send(Ok(Frame::data(piece))).is_err()) {
                return Ok(Err(Left));
            }
        }
        if !more {
            return Ok(Ok(()));
        }
    }
}

/// The pieces as a body.
struct Pieces {
    receive: mpsc::Receiver<Piece>,
    /// Why it is cut short, once what was said before is out.
    cut: Option<io::Error>,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        if let Some(cut) = self.cut.take() {
            return Poll::Ready(Some(Err(cut)));
        }
        match self.receive.poll_recv(context) {
            // An error ends the connection at once: what is still in its buffer gets a turn before.
            Poll::Ready(Some(Err(cut))) => {
                self.cut = Some(cut);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            other => other,
        }
    }
}
