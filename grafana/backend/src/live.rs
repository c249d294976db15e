//! Live panels: channels of Grafana Live, each a statement that the server keeps running (`/api/live`).
//!
//! The front end names a channel `live/` and a fingerprint, and sends the question with it. Each packet is the whole frame of the closed windows
//! in the panel's range, as a query would give it: a correction of an old window needs no second rule for how it is put in, and who comes
//! late has all. Invariant: what went wrong is said in the channel, as a frame that holds nothing but the error.
//! Not here: the windows that are kept (`windows`), the events as bytes (`events`).

mod events;
mod windows;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::answer::Refused;
use crate::frame::{Frame, to_json};
use crate::frames::{Shape, frames_of};
use crate::protocol::{StreamPacket, StreamRequest, StreamResponse, StreamStatus};
use crate::question::Asked;
use crate::serve::Messages;
use crate::source::{Source, Sources};
use events::Events;
use windows::Windows;

const CHANNELS: &str = "live/";

/// How long who subscribes waits for what there was. The server says it at once.
const FIRST_WINDOWS_WAIT: Duration = Duration::from_secs(10);

/// Between tries to reach a server that has gone: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Packets that Grafana has not taken yet.
const PACKETS_AHEAD: usize = 2;

pub async fn subscribe_stream(
    sources: Arc<Sources>,
    request: StreamRequest,
) -> Result<StreamResponse, Status> {
    if !request.path.starts_with(CHANNELS) {
        return Ok(StreamResponse { status: StreamStatus::NotFound.into(), data: Vec::new() });
    }
    let first = async {
        let subject = Subject::of(&sources, &request)?;
        let mut run = subject.run().await?;
        match tokio::time::timeout(FIRST_WINDOWS_WAIT, run.next()).await {
            Ok(packet) => packet,
            Err(_) => subject.packet(&Windows::new(subject.span_ms)),
        }
    };
    let data = first.await.unwrap_or_else(|refused| error_packet(&refused));
    Ok(StreamResponse { status: StreamStatus::Ok.into(), data })
}

pub async fn run_stream(
    sources: Arc<Sources>,
    request: StreamRequest,
) -> Result<Messages<StreamPacket>, Status> {
    let (send, packets) = mpsc::channel(PACKETS_AHEAD);
    tokio::spawn(async move {
        tokio::select! {
            () = feed(&sources, &request, &send) => {}
            // Nobody listens any more.
            () = send.closed() => {}
        }
    });
    Ok(Box::pin(ReceiverStream::new(packets)))
}

/// A channel has one speaker.
pub async fn publish_stream(_: Arc<Sources>, _: StreamRequest) -> Result<StreamResponse, Status> {
    Ok(StreamResponse { status: StreamStatus::PermissionDenied.into(), data: Vec::new() })
}

/// Says what there is to say for as long as anybody listens, over restarts of the server.
async fn feed(sources: &Sources, request: &StreamRequest, send: &mpsc::Sender<Result<StreamPacket, Status>>) {
    let mut pause = RETRY.0;
    loop {
        let ended: Result<(), Refused> = async {
            let subject = Subject::of(sources, request)?;
            let mut run = subject.run().await?;
            loop {
                let data = run.next().await?;
                pause = RETRY.0;
                if send.send(Ok(StreamPacket { data })).await.is_err() {
                    return Ok(());
                }
            }
        }
        .await;
        let Err(refused) = ended else { return };
        let goes_on = refused.is_passing();
        if send.send(Ok(StreamPacket { data: error_packet(&refused) })).await.is_err() {
            return;
        }
        if !goes_on {
            // To end the stream would have Grafana ask again at once, and the answer is the same.
            return std::future::pending().await;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

/// What a channel is about.
struct Subject {
    source: Arc<Source>,
    asked: Asked,
    span_ms: i64,
}

/// One connection to the server.
struct Run<'a> {
    subject: &'a Subject,
    events: Events,
    windows: Windows,
}

impl Subject {
    fn of(sources: &Sources, request: &StreamRequest) -> Result<Subject, Refused> {
        let asked = Asked::of_live(&request.data, now_ms())?;
        let span_ms = asked.span_ms().ok_or_else(|| {
            Refused::ours(400, "a live query says no span")
                .hint("this is the plugin's part in the browser; reload it")
        })?;
        Ok(Subject { source: sources.of(request.context.clone())?, asked, span_ms })
    }

    async fn run(&self) -> Result<Run<'_>, Refused> {
        let question = &self.asked.question;
        let parameters = [
            ("q", self.asked.text().to_string()),
            ("db", self.source.database.clone()),
            ("params", Value::Object(question.params.clone()).to_string()),
            ("rollups", if question.without_rollups { "off" } else { "on" }.to_string()),
            ("time", "ns".to_string()),
            ("from", format!("-{}ms", self.span_ms)),
        ];
        let response = self.source.get("/api/live", &parameters).await;
        let response = response.map_err(|refused| self.asked.at_written(refused))?;
        Ok(Run { subject: self, events: Events::new(response), windows: Windows::new(self.span_ms) })
    }

    fn packet(&self, windows: &Windows) -> Result<Vec<u8>, Refused> {
        let question = &self.asked.question;
        let shape = Shape::new(&question.ref_id, question, self.asked.text());
        let frames = frames_of(&windows.answer(), &shape)?;
        match frames.as_slice() {
            [frame] => Ok(to_json(frame).to_string().into_bytes()),
            _ => Err(Refused::ours(413, "these are too many series for a live panel")
                .hint("filter, or group by fewer tags")),
        }
    }
}

impl Run<'_> {
    /// The frame after the next event that changes it.
    async fn next(&mut self) -> Result<Vec<u8>, Refused> {
        loop {
            let event = self.events.next(&self.subject.source).await?;
            if self.windows.take(event)? {
                return self.subject.packet(&self.windows);
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the range of a live panel ends now; that it does is what its test looks at"
)]
fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

fn error_packet(refused: &Refused) -> Vec<u8> {
    let meta = Map::from_iter([("custom".to_string(), json!({ "error": refused.sentence() }))]);
    to_json(&Frame { meta, ..Frame::default() }).to_string().into_bytes()
}
