//! Server-Sent Events from a body that comes in pieces.

use std::time::Duration;

use reqwest::Response;

use crate::answer::Refused;
use crate::source::Source;

/// The server says every 15 seconds that it is there.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Over it something else than events is coming.
const EVENT_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, PartialEq)]
pub struct Event {
    pub name: String,
    pub data: Vec<u8>,
}

pub struct Events {
    response: Response,
    lines: Lines,
}

impl Events {
    pub fn new(response: Response) -> Events {
        Events { response, lines: Lines::default() }
    }

    /// Waits for the next one. The end of the stream is an error: it has none of its own.
    pub async fn next(&mut self, source: &Source) -> Result<Event, Refused> {
        loop {
            if let Some(event) = self.lines.event() {
                return Ok(event);
            }
            if self.lines.bytes.len() > EVENT_BYTES_MAX {
                return Err(Refused::new(502, "the server sends an event that is too large"));
            }
            let said = tokio::time::timeout(SILENCE_MAX, self.response.chunk()).await;
            let said =
                said.map_err(|_| Refused::new(504, "the server has fallen silent; it is asked again"))?;
            let piece = said.map_err(|error| source.unreachable(&error))?;
            let piece = piece
                .ok_or_else(|| Refused::new(502, "the server has ended the stream; it is asked again"))?;
            self.lines.bytes.extend_from_slice(&piece);
        }
    }
}

#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    /// Of `bytes`, what has no end of an event in it.
    looked: usize,
}

impl Lines {
    /// The first whole event that has data, taken out. What keeps the connection alive has none.
    fn event(&mut self) -> Option<Event> {
        loop {
            let from = self.looked.saturating_sub(1);
            let Some(end) = self.bytes[from..].windows(2).position(|pair| pair == b"\n\n") else {
                self.looked = self.bytes.len();
                return None;
            };
            let event: Vec<u8> = self.bytes.drain(..from + end + 2).collect();
            self.looked = 0;
            let mut found = Event { name: String::new(), data: Vec::new() };
            for line in event.split(|byte| *byte == b'\n') {
                if let Some(name) = value_of(line, b"event:") {
                    found.name = String::from_utf8_lossy(name).into_owned();
                } else if let Some(data) = value_of(line, b"data:") {
                    if !found.data.is_empty() {
                        found.data.push(b'\n');
                    }
                    found.data.extend_from_slice(data);
                }
            }
            if !found.data.is_empty() {
                return Some(found);
            }
        }
    }
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(name)?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_however_their_bytes_come() {
        let text = b": alive\n\nevent: window\nid: 1\ndata: {\"a\":1}\n\n:\n\nevent:error\ndata:x\ndata: y\n\nevent: late\ndata: ";
        let event = |name: &str, data: &str| Event { name: name.to_string(), data: data.as_bytes().to_vec() };
        for size in [1, 2, 7, text.len()] {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for piece in text.chunks(size) {
                lines.bytes.extend_from_slice(piece);
                found.extend(std::iter::from_fn(|| lines.event()));
            }
            assert_eq!(found, [event("window", "{\"a\":1}"), event("error", "x\ny")], "in pieces of {size}");
        }
    }
}
