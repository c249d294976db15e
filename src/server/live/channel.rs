//! One run of a statement and all who listen to it.
//!
//! The run has a thread, which puts each event once as text into a buffer of bounded size; a listener has a place in it.
//! Invariant: a listener is told every event after its place in order, or how many of them were pushed out of the buffer
//! before it took them, and over which windows.
//! Not here: how events travel (`live`), what they are (`crate::live`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use query_lang::time::format_time;
use serde_json::{Value, json};
use storage_format::point::{TagSet, Time, TimeRange};
use tokio::sync::watch;

use crate::config::Limits;
use crate::error::{Error, Kind, Result};
use crate::live::{Event, EventKind, Run, Statement};
use crate::server::cells::TimeFormat;
use crate::server::json;
use crate::server::reply::Failure;

/// How long a run goes on after its last listener has left, so that one that comes back misses nothing.
const LINGER: Duration = Duration::from_secs(60);

/// How often a run looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Windows of events that are not in the buffer any more, so that their number and times can be told.
const PUSHED_OUT_MAX: usize = 100_000;

/// All continuous queries of the server.
pub struct Channels {
    statements_max: usize,
    subscribers_max: usize,
    buffer_bytes_max: usize,
    running: Mutex<Running>,
    subscribers: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
}

#[derive(Default)]
struct Running {
    channels: HashMap<String, Arc<Channel>>,
    threads: Vec<JoinHandle<()>>,
}

pub struct Channel {
    pub statement: Arc<Statement>,
    times: TimeFormat,
    buffer: Mutex<Buffer>,
    /// The number of the newest event.
    newest: watch::Sender<u64>,
}

struct Buffer {
    /// When the run began: numbers of another run mean nothing here.
    epoch: Time,
    last: u64,
    closed: Time,
    sent: VecDeque<Arc<Sent>>,
    bytes: usize,
    bytes_max: usize,
    pushed_out: VecDeque<(u64, TimeRange)>,
    /// Why there are no more events.
    ended: Option<Arc<Sent>>,
}

/// An event as it is sent.
pub struct Sent {
    pub name: &'static str,
    /// None for what concerns one listener only.
    pub id: Option<String>,
    pub data: String,
    number: u64,
    windows: TimeRange,
}

/// The place of a listener.
pub struct Listener {
    channel: Arc<Channel>,
    /// The last event it was given.
    at: u64,
    newest: watch::Receiver<u64>,
    _place: Place,
}

struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an id says of the listener that had it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    epoch: Time,
    number: u64,
    pub closed: Time,
}

impl Seen {
    pub fn parse(id: &str) -> Option<Seen> {
        let mut parts = id.splitn(3, '-');
        let epoch = Time::from_str_radix(parts.next()?, 16).ok()?;
        let number = parts.next()?.parse().ok()?;
        Some(Seen { epoch, number, closed: parts.next()?.parse().ok()? })
    }
}

impl Channels {
    pub fn new(limits: &Limits) -> Channels {
        Channels {
            statements_max: limits.live_statements_max,
            subscribers_max: limits.live_subscribers_max,
            buffer_bytes_max: limits.live_buffer_bytes_max,
            running: Mutex::default(),
            subscribers: Arc::default(),
            stopping: Arc::default(),
        }
    }

    /// Listens to the run with this key, which begins if there is none.
    pub fn listen(
        self: &Arc<Self>,
        key: String,
        statement: Statement,
        times: TimeFormat,
        epoch: Time,
    ) -> Result<Listener> {
        let place = Place(Arc::clone(&self.subscribers));
        if place.0.fetch_add(1, Ordering::Relaxed) >= self.subscribers_max {
            return Err(full("clients listen", self.subscribers_max, "live_subscribers_max"));
        }
        let mut running = self.running.lock();
        if let Some(channel) = running.channels.get(&key) {
            return Ok(channel.listener(place));
        }
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Error::rejected(Kind::Unavailable, "closing", "the server is stopping"));
        }
        if running.channels.len() >= self.statements_max {
            return Err(full("continuous queries run", self.statements_max, "live_statements_max"));
        }
        let statement = Arc::new(statement);
        let run = Run::new(Arc::clone(&statement));
        let channel = Arc::new(Channel {
            statement,
            times,
            buffer: Mutex::new(Buffer {
                epoch,
                last: 0,
                closed: run.closed(),
                sent: VecDeque::new(),
                bytes: 0,
                bytes_max: self.buffer_bytes_max,
                pushed_out: VecDeque::new(),
                ended: None,
            }),
            newest: watch::Sender::new(0),
        });
        let listener = channel.listener(place);
        let (channels, shared) = (Arc::clone(self), Arc::clone(&channel));
        let name = key.clone();
        let thread = std::thread::Builder::new()
            .name("live".to_string())
            .spawn(move || channels.run(&name, &shared, run))
            .map_err(|source| Error::io("start a thread for", "a continuous query", source))?;
        running.channels.insert(key, channel);
        running.threads.retain(|thread| !thread.is_finished());
        running.threads.push(thread);
        Ok(listener)
    }

    pub fn subscribers(&self) -> usize {
        self.subscribers.load(Ordering::Relaxed)
    }

    /// Ends all runs and what their listeners wait for.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut self.running.lock().threads);
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a continuous query has ended because of a bug");
            }
        }
    }

    fn run(&self, key: &str, channel: &Channel, mut run: Run) {
        let mut alone = Duration::ZERO;
        let end = loop {
            run.wait(LOOK_EVERY);
            if self.stopping.load(Ordering::Relaxed) {
                break Err(Error::rejected(Kind::Unavailable, "closing", "the server is stopping"));
            }
            match run.step() {
                Ok(events) => events.into_iter().for_each(|event| channel.publish(event, run.closed())),
                Err(error) => break Err(error),
            }
            alone = if channel.newest.receiver_count() > 0 { Duration::ZERO } else { alone + LOOK_EVERY };
            if alone > LINGER {
                // Nobody can come between the look and the removal.
                let mut running = self.running.lock();
                if channel.newest.receiver_count() == 0 {
                    running.channels.remove(key);
                    break Ok(());
                }
            }
        };
        if let Err(error) = end {
            self.running.lock().channels.remove(key);
            channel.end(&Failure::from(error));
        }
    }
}

fn full(what: &str, most: usize, limit: &str) -> Error {
    let message = format!("{most} {what} already, the limit ({limit}); try again later");
    Error::rejected(Kind::Unavailable, "too_many_live", message)
}

impl Channel {
    fn listener(self: &Arc<Self>, place: Place) -> Listener {
        // The place in the buffer first: what comes after it is waited for.
        let newest = self.newest.subscribe();
        let at = self.buffer.lock().last;
        Listener { channel: Arc::clone(self), at, newest, _place: place }
    }

    fn publish(&self, event: Event, closed: Time) {
        let name = match event.kind {
            EventKind::Closed => "window",
            EventKind::Corrected => "correction",
            EventKind::Changed => "changed",
        };
        let windows = event.windows;
        let data = text_of(event, self.times);
        let mut buffer = self.buffer.lock();
        buffer.last += 1;
        buffer.closed = closed;
        let number = buffer.last;
        let id = Some(format!("{:x}-{number}-{closed}", buffer.epoch));
        buffer.bytes += data.len();
        buffer.sent.push_back(Arc::new(Sent { name, id, data, number, windows }));
        while buffer.bytes > buffer.bytes_max {
            let Some(oldest) = buffer.sent.pop_front() else { break };
            buffer.bytes -= oldest.data.len();
            buffer.pushed_out.push_back((oldest.number, oldest.windows));
            if buffer.pushed_out.len() > PUSHED_OUT_MAX {
                buffer.pushed_out.pop_front();
            }
        }
        drop(buffer);
        self.newest.send_replace(number);
    }

    fn end(&self, failure: &Failure) {
        let data = json!({ "code": failure.code, "message": failure.sentence() }).to_string();
        let sent = Sent { name: "error", id: None, data, number: 0, windows: TimeRange::new(0, 0) };
        self.buffer.lock().ended = Some(Arc::new(sent));
        // Wakes all who wait.
        self.newest.send_modify(|_| {});
    }

    pub fn closed(&self) -> Time {
        self.buffer.lock().closed
    }

    /// What is said first: the statement, and the time up to which windows are closed.
    pub fn start(&self) -> Sent {
        let data = json!({
            "statement": self.statement.text(),
            "closed": time_json(self.closed(), self.times),
        });
        Sent { name: "start", id: None, data: data.to_string(), number: 0, windows: TimeRange::new(0, 0) }
    }

    /// What there was in closed windows from a time on, for one listener.
    pub fn past(&self, from: Time) -> Result<Sent> {
        let (epoch, last, closed) = {
            let buffer = self.buffer.lock();
            (buffer.epoch, buffer.last, buffer.closed)
        };
        let event = self.statement.past(from, closed)?;
        let windows = event.windows;
        let id = Some(format!("{epoch:x}-{last}-{closed}"));
        Ok(Sent { name: "window", id, data: text_of(event, self.times), number: last, windows })
    }
}

impl Listener {
    pub fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// Goes back to the place of an id. False if the buffer does not reach back so far, or is of another run.
    pub fn resume(&mut self, seen: Seen) -> bool {
        let buffer = self.channel.buffer.lock();
        let first = buffer.sent.front().map_or(buffer.last + 1, |sent| sent.number);
        let reaches = seen.epoch == buffer.epoch && seen.number <= buffer.last && seen.number + 1 >= first;
        if reaches {
            self.at = seen.number;
        }
        reaches
    }

    /// The next event, or what was missed, or why there are no more. None once that was said.
    pub async fn next(&mut self) -> Option<Arc<Sent>> {
        loop {
            if let Some(sent) = self.take() {
                if sent.name == "error" {
                    self.at = u64::MAX;
                }
                return Some(sent);
            }
            if self.at == u64::MAX {
                return None;
            }
            self.newest.changed().await.ok()?;
        }
    }

    fn take(&mut self) -> Option<Arc<Sent>> {
        if self.at == u64::MAX {
            return None;
        }
        let buffer = self.channel.buffer.lock();
        if self.at == buffer.last {
            return buffer.ended.clone();
        }
        let first = buffer.sent.front().map_or(buffer.last + 1, |sent| sent.number);
        if self.at + 1 < first {
            let lost = buffer.pushed_out.iter().filter(|(number, _)| *number > self.at);
            let windows = lost.map(|(_, windows)| *windows).reduce(TimeRange::hull);
            let missed = missed(first - self.at - 1, windows, self.channel.times);
            self.at = first - 1;
            return Some(Arc::new(missed));
        }
        let sent = buffer.sent.get((self.at + 1 - first) as usize).map(Arc::clone)?;
        self.at = sent.number;
        Some(sent)
    }
}

/// Told to a listener that was too slow.
fn missed(events: u64, windows: Option<TimeRange>, times: TimeFormat) -> Sent {
    let time = |time: Option<Time>| time.map_or(Value::Null, |time| time_json(time, times));
    let data = json!({
        "events": events,
        "from": time(windows.map(|windows| windows.start)),
        "to": time(windows.map(|windows| windows.end)),
        "reason": "this client was too slow and events were dropped (live_buffer_bytes_max); ask again for these windows",
    });
    Sent { name: "missed", id: None, data: data.to_string(), number: 0, windows: TimeRange::new(0, 0) }
}

/// Told to a listener that came back too late: corrections of windows before this are not known.
pub fn missed_before(time: Time, times: TimeFormat) -> Sent {
    let data = json!({
        "events": null,
        "from": null,
        "to": time_json(time, times),
        "reason": "the server does not know any more what was sent after that id; corrections of windows before `to` may be missing",
    });
    Sent { name: "missed", id: None, data: data.to_string(), number: 0, windows: TimeRange::new(0, 0) }
}

fn time_json(time: Time, times: TimeFormat) -> Value {
    match times {
        TimeFormat::Rfc3339 => Value::from(format_time(time)),
        TimeFormat::Unit(unit) => Value::from(time.div_euclid(unit)),
    }
}

/// An answer in JSON with its windows and the rows that are gone.
fn text_of(event: Event, times: TimeFormat) -> String {
    let tags_json = |tags: &TagSet| -> Value { tags.iter().collect() };
    let gone: Vec<Value> = event
        .gone
        .iter()
        .map(|(time, tags)| json!({ "time": time_json(*time, times), "tags": tags_json(tags) }))
        .collect();
    let document = json::document(event.answer, times);
    let document = std::str::from_utf8(&document).expect("JSON is text").trim_end();
    let (from, to) = (time_json(event.windows.start, times), time_json(event.windows.end, times));
    // The document is an object: its members follow.
    format!("{{\"from\":{from},\"to\":{to},\"gone\":{},{}", Value::from(gone), &document[1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_what_was_seen() {
        let seen = Seen::parse("18f3c-42-1767225600000000000").unwrap();
        assert_eq!(seen, Seen { epoch: 0x18f3c, number: 42, closed: 1_767_225_600_000_000_000 });
        assert_eq!(Seen::parse("18f3c-42-").map(|seen| seen.number), None);
        assert_eq!(Seen::parse("nothing of ours"), None);
        assert_eq!(Seen::parse("1-2--5").map(|seen| seen.closed), Some(-5));
    }
}
