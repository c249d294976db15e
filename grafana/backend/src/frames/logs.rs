//! Rows with a text as lines of a log.

use serde_json::{Map, Value};

use crate::answer::{Answer, Kind, Refused, Role};
use crate::frame::{Field, Frame, Values};

use super::{Shape, meta};

const LOG_LINES: (&str, [u32; 2]) = ("log-lines", [0, 0]);

/// A field with one of these names is the line, else the first that holds texts.
const BODIES: [&str; 6] = ["body", "message", "msg", "line", "log", "text"];
const SEVERITIES: [&str; 2] = ["severity", "level"];

pub fn lines(answer: &Answer, shape: &Shape<'_>) -> Result<Frame, Refused> {
    let columns = &answer.columns;
    let time = columns.iter().position(|column| column.role == Role::Time);
    let (time, body) = match (time, body_of(answer)) {
        (Some(time), Some(body)) => (time, body),
        (time, _) => {
            let lacking = if time.is_none() { "have no time" } else { "have no field that holds texts" };
            let message = format!("the rows {lacking}, and lines of a log need one");
            return Err(Refused::ours(400, message).hint("choose another format"));
        }
    };
    let severity = columns.iter().position(|column| SEVERITIES.contains(&column.name.as_str()));
    let is_label = |at: &usize| *at != time && *at != body && Some(*at) != severity;
    let others: Vec<usize> = (0..columns.len()).filter(is_label).collect();
    let cells = |at: usize| answer.rows.iter().map(move |row| &row[at]);
    let mut fields = vec![
        Field::new("timestamp", Values::Time(cells(time).map(|cell| cell.as_i64()).collect())),
        Field::new(
            "body",
            Values::Text(cells(body).map(|cell| Some(cell.as_text().unwrap_or_default())).collect()),
        ),
    ];
    if let Some(severity) = severity {
        fields
            .push(Field::new("severity", Values::Text(cells(severity).map(|cell| cell.as_text()).collect())));
    }
    let labels = answer.rows.iter().map(|row| {
        let said = others.iter().filter_map(|at| {
            let text = row[*at].as_text().filter(|text| !text.is_empty())?;
            Some((columns[*at].name.clone(), Value::from(text)))
        });
        Value::Object(said.collect::<Map<_, _>>())
    });
    fields.push(Field::new("labels", Values::Json(labels.collect())));
    Ok(Frame { ref_id: shape.ref_id.to_string(), meta: meta(Some(LOG_LINES), "logs"), fields })
}

fn body_of(answer: &Answer) -> Option<usize> {
    let columns = answer.columns.iter().enumerate();
    let texts: Vec<(usize, &str)> = columns
        .filter(|(_, column)| column.role == Role::Value && column.kind == Kind::String)
        .map(|(at, column)| (at, column.name.as_str()))
        .collect();
    let named = texts.iter().find(|(_, name)| BODIES.contains(name));
    let other = texts.iter().find(|(_, name)| !SEVERITIES.contains(name));
    named.or(other).or(texts.first()).map(|(at, _)| *at)
}
