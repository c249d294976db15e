//! `GET /api/live`: a statement that goes on, as Server-Sent Events, or as JSON messages over a WebSocket.
//!
//! A client is told what there was in the statement's range, then each window when it closes, then what late points change
//! in closed windows. Events carry ids; one that comes back with the last id it has seen goes on after it.
//! Invariant: an event is given at least once, or the client is told that it was not; a client that takes nothing costs
//! its place in a shared buffer and no more.
//! Not here: the windows (`crate::live`), the buffer (`channel`).

mod channel;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use storage_format::point::TimeRange;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::config::parse_duration;
use crate::db::QueryOptions;
use crate::live::Statement;
use crate::server::Doors;
use crate::server::cells::TimeFormat;
use crate::server::params::Params;
use crate::server::reply::Failure;

pub use channel::Channels;
use channel::{Listener, Seen, Sent, missed_before};

const PARAMETERS: [&str; 8] = ["q", "db", "params", "from", "rollups", "time", "delay", "last_event_id"];

/// A proxy that hears nothing for a minute ends a connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Events that wait for one client beside the shared buffer.
const EVENTS_AHEAD: usize = 2;

pub async fn get(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let asked = match Asked::of(&doors, parts.uri.query(), &parts.headers) {
        Ok(asked) => asked,
        Err(failure) => return failure.into_response(),
    };
    let socket = match parts.headers.contains_key(header::UPGRADE) {
        true => match WebSocketUpgrade::from_request_parts(&mut parts, &doors).await {
            Ok(socket) => Some(socket),
            Err(rejection) => return rejection.into_response(),
        },
        false => None,
    };
    let events = match asked.events(&doors).await {
        Ok(events) => events,
        Err(failure) => return failure.into_response(),
    };
    match socket {
        Some(socket) => socket.on_upgrade(move |socket| talk(socket, events)),
        None => {
            let event = |sent: Arc<Sent>| {
                let event = sse::Event::default().event(sent.name).data(&sent.data);
                Ok::<_, Infallible>(match &sent.id {
                    Some(id) => event.id(id),
                    None => event,
                })
            };
            let events = tokio_stream::StreamExt::map(ReceiverStream::new(events), event);
            let mut response =
                Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
            // nginx holds answers back otherwise.
            response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
            response
        }
    }
}

struct Asked {
    text: String,
    options: QueryOptions,
    delay: Duration,
    times: TimeFormat,
    params: String,
    seen: Option<Seen>,
}

impl Asked {
    fn of(doors: &Doors, query: Option<&str>, headers: &HeaderMap) -> Result<Asked, Failure> {
        let params = Params::of_query(query);
        params.refuse_unknown(&PARAMETERS)?;
        let text = params.get("q").ok_or_else(|| {
            let mut failure = Failure::parameter("no statement was sent");
            failure.hint = Some("send it as the parameter q: cpu | every 1m avg(usage_user)".to_string());
            failure
        })?;
        let delay = match params.get("delay") {
            None => Duration::ZERO,
            Some(text) => parse_duration(text)
                .map_err(|expected| Failure::parameter(format!("delay is {text:?}; give {expected}")))?,
        };
        // Browsers send the header when they come back; others may not be able to.
        let id = headers.get("last-event-id").and_then(|id| id.to_str().ok()).or(params.get("last_event_id"));
        let seen = match id {
            None | Some("") => None,
            Some(id) => Some(Seen::parse(id).ok_or_else(|| {
                Failure::parameter(format!("the last event id {id:?} is none of this server's; leave it out"))
            })?),
        };
        let now = doors.db.clock().now();
        Ok(Asked {
            text: text.to_string(),
            options: QueryOptions {
                range: params.range(now)?.map(|range| TimeRange::new(range.start, now)),
                rollups: params.switch("rollups", true)?,
                read_only: true,
                params: params.bound()?,
                ..QueryOptions::of(&params.database(&["db"])?)
            },
            delay,
            times: TimeFormat::of(&params)?,
            params: params.get("params").unwrap_or_default().to_string(),
            seen,
        })
        .inspect(|_| tracing::debug!(statement = text, subscribers = doors.live.subscribers(), "live"))
    }

    /// Starts telling one client.
    async fn events(self, doors: &Arc<Doors>) -> Result<mpsc::Receiver<Arc<Sent>>, Failure> {
        let (db, channels) = (Arc::clone(&doors.db), Arc::clone(&doors.live));
        let (times, seen) = (self.times, self.seen);
        let (listener, first) = doors
            .blocking(move || {
                let statement = Statement::new(&db, &self.text, self.options.clone(), self.delay)?;
                let key = format!(
                    "{}\0{}\0{}\0{:?}\0{:?}\0{}\0{}",
                    self.options.database,
                    statement.text(),
                    self.options.rollups,
                    self.delay,
                    self.times,
                    statement.history(),
                    self.params,
                );
                let mut listener = channels.listen(key, statement, self.times, db.clock().now())?;
                let first = first_events(&mut listener, seen, times)?;
                Ok((listener, first))
            })
            .await?;
        let (send, receive) = mpsc::channel(EVENTS_AHEAD);
        tokio::spawn(feed(listener, first, send));
        Ok(receive)
    }
}

/// What a listener is told before the events of the run.
fn first_events(
    listener: &mut Listener,
    seen: Option<Seen>,
    times: TimeFormat,
) -> crate::error::Result<Vec<Arc<Sent>>> {
    let channel = Arc::clone(listener.channel());
    let history = channel.statement.history();
    let mut first = vec![channel.start()];
    match seen {
        Some(seen) if listener.resume(seen) => {}
        Some(seen) => {
            let from = seen.closed.saturating_sub(history);
            first.push(missed_before(from, times));
            first.push(channel.past(from)?);
        }
        None if history > 0 => first.push(channel.past(channel.closed().saturating_sub(history))?),
        None => {}
    }
    Ok(first.into_iter().map(Arc::new).collect())
}

async fn feed(mut listener: Listener, first: Vec<Arc<Sent>>, send: mpsc::Sender<Arc<Sent>>) {
    for sent in first {
        if send.send(sent).await.is_err() {
            return;
        }
    }
    loop {
        let sent = tokio::select! {
            sent = listener.next() => sent,
            () = send.closed() => return,
        };
        let Some(sent) = sent else { return };
        if send.send(sent).await.is_err() {
            return;
        }
    }
}

async fn talk(mut socket: WebSocket, mut events: mpsc::Receiver<Arc<Sent>>) {
    let mut alive = tokio::time::interval(KEEP_ALIVE);
    loop {
        let message = tokio::select! {
            sent = events.recv() => match sent {
                Some(sent) => Message::text(message_of(&sent)),
                None => break,
            },
            _ = alive.tick() => Message::Ping(axum::body::Bytes::new()),
            said = socket.recv() => match said {
                // A client has nothing to say here.
                Some(Ok(message)) if !matches!(message, Message::Close(_)) => continue,
                _ => return,
            },
        };
        if socket.send(message).await.is_err() {
            return;
        }
    }
    // Whether the other side hears the goodbye changes nothing.
    drop(socket.send(Message::Close(None)).await);
}

fn message_of(sent: &Sent) -> String {
    let id = sent.id.as_ref().map_or(Value::Null, |id| Value::from(id.as_str()));
    format!("{{\"event\":\"{}\",\"id\":{id},\"data\":{}}}", sent.name, sent.data)
}
