//! What is asked: a text of WQL with its values, and the range and step of who asks.
//!
//! It comes from the browser, where the variables of a dashboard have become bound values, or as it was saved, from an alert.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::answer::{Answer, Refused};
use crate::macros::{self, Expanded, Frame};
use crate::protocol::{DataQuery, TimeRange};
use crate::source::Source;

/// Where an alert or a panel says none.
const MAX_DATA_POINTS: i64 = 1000;
const INTERVAL_MS: i64 = 60_000;

/// Without it a rule would wait for a person to choose one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    #[default]
    TimeSeries,
    Table,
    Logs,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Question {
    pub ref_id: String,
    pub query: String,
    pub params: Map<String, Value>,
    pub format: Option<Format>,
    pub legend: Option<String>,
    pub without_rollups: bool,
    /// What the front end has to say to the answer.
    pub notes: Vec<String>,
    /// Of a request of the editors, which is no query of a panel.
    range: Option<Range>,
    /// Of a live panel: how far back from now it shows.
    span_ms: Option<i64>,
    interval_ms: Option<i64>,
    max_data_points: Option<i64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Range {
    from_ms: i64,
    to_ms: i64,
}

/// A question with its range and step, ready to be sent.
pub struct Asked {
    pub question: Question,
    frame: Option<Frame>,
    expanded: Expanded,
}

impl Asked {
    pub fn of_query(query: &DataQuery) -> Result<Asked, Refused> {
        let mut question = read(&query.json)?;
        question.interval_ms = Some(query.interval_ms);
        question.max_data_points = Some(query.max_data_points);
        question.range = query.time_range.map(|TimeRange { from_ms, to_ms }| Range { from_ms, to_ms });
        Ok(Asked::new(question))
    }

    pub fn of_json(json: &[u8]) -> Result<Asked, Refused> {
        read(json).map(Asked::new)
    }

    pub fn of_live(json: &[u8], now_ms: i64) -> Result<Asked, Refused> {
        let mut question = read(json)?;
        question.range =
            question.span_ms.map(|span_ms| Range { from_ms: now_ms.saturating_sub(span_ms), to_ms: now_ms });
        Ok(Asked::new(question))
    }

    fn new(question: Question) -> Asked {
        let or = |given: Option<i64>, default: i64| given.filter(|value| *value > 0).unwrap_or(default);
        // A range ends before its `to`, and a panel of a single moment still has a range.
        let frame = question.range.map(|Range { from_ms, to_ms }| Frame {
            from_ms,
            to_ms: to_ms.max(from_ms + 1),
            interval_ms: or(question.interval_ms, INTERVAL_MS),
            max_data_points: or(question.max_data_points, MAX_DATA_POINTS),
        });
        let expanded = match &frame {
            Some(frame) => macros::expand(&question.query, frame),
            None => Expanded::unchanged(&question.query),
        };
        Asked { question, frame, expanded }
    }

    /// The text that is sent.
    pub fn text(&self) -> &str {
        &self.expanded.text
    }

    pub fn span_ms(&self) -> Option<i64> {
        self.frame.map(|frame| frame.to_ms - frame.from_ms)
    }

    /// The body of `/api/wql`.
    pub fn body(&self, source: &Source, times: &str) -> Value {
        let mut body = json!({
            "q": self.expanded.text,
            "db": source.database,
            "params": self.question.params,
            "time": times,
            "rollups": if self.question.without_rollups { "off" } else { "on" },
            "read_only": "on",
        });
        if let Some(Frame { from_ms, to_ms, .. }) = self.frame {
            body["from"] = json!(format!("{from_ms}ms"));
            body["to"] = json!(format!("{to_ms}ms"));
        }
        body
    }

    pub async fn answer(&self, source: &Source) -> Result<Answer, Refused> {
        let answered = async {
            let response = source.post("/api/wql", &self.body(source, "ns")).await?;
            let body = source.body(response).await?;
            serde_json::from_slice(&body).map_err(|error| {
                Refused::new(502, format!("what was answered is no answer of Waterclock's: {error}"))
                    .hint("is there a Waterclock at the URL of this data source?")
            })
        };
        answered.await.map_err(|refused| self.at_written(refused))
    }

    /// The same error with its place in the text as it came here.
    pub fn at_written(&self, mut refused: Refused) -> Refused {
        if let (Some(line), Some(column)) = (refused.line, refused.column) {
            let (line, column) = self.expanded.back(&self.question.query, line, column);
            (refused.line, refused.column) = (Some(line), Some(column));
        }
        refused
    }
}

fn read(json: &[u8]) -> Result<Question, Refused> {
    let question: Question = serde_json::from_slice(json)
        .map_err(|error| Refused::ours(400, format!("the query cannot be read: {error}")))?;
    if question.query.trim().is_empty() {
        return Err(Refused::ours(400, "the query is empty")
            .hint("write one such as cpu | every $__interval avg(usage)"));
    }
    Ok(question)
}
