//! Answers as data frames, by Grafana's data plane contract: legends, transformations, stat panels and alerts read them as they are.
//!
//! Invariant: this is the one place that makes frames; panels, alerts, reports and streams show the same. tests/clients/grafana/frames.json
//! has answers with their frames.

mod logs;
mod notices;
mod series;
mod table;
mod units;

use serde_json::{Map, Value, json};

use crate::answer::{Answer, Column, Kind, Refused, Role};
use crate::frame::{Frame, Labels};
use crate::question::{Format, Question};
use crate::text::Statement;

/// What is known of an answer beside its rows.
pub struct Shape<'a> {
    pub ref_id: &'a str,
    pub format: Format,
    /// `{{host}}` is the value of a tag, `{{column}}` the column's name.
    pub legend: Option<&'a str>,
    /// What the front end has to say.
    pub notes: &'a [String],
    /// The text that was run.
    pub text: &'a str,
    statement: Statement,
}

impl<'a> Shape<'a> {
    pub fn new(ref_id: &'a str, question: &'a Question, text: &'a str) -> Shape<'a> {
        Shape {
            ref_id,
            format: question.format.unwrap_or_default(),
            legend: question.legend.as_deref().filter(|legend| !legend.trim().is_empty()),
            notes: &question.notes,
            text,
            statement: Statement::last(text),
        }
    }

    /// The settings of a column's field: its name in the legend, and its unit where that is known.
    fn config(&self, column: &Column, labels: &Labels) -> Map<String, Value> {
        let mut config = Map::new();
        if let Some(legend) = self.legend {
            config.insert(
                "displayNameFromDS".to_string(),
                Value::from(legend_of(legend, labels, &column.name)),
            );
        }
        if let Some(unit) = units::unit_of(&column.name, &self.statement).filter(|_| column.kind.is_number())
        {
            config.insert("unit".to_string(), Value::from(unit));
        }
        config
    }
}

/// At least one frame. The first one says where the answer comes from.
pub fn frames_of(answer: &Answer, shape: &Shape<'_>) -> Result<Vec<Frame>, Refused> {
    let mut frames = shaped(answer, shape)?;
    let first = &mut frames[0];
    first.meta.insert("executedQueryString".to_string(), json!(shape.text));
    first.meta.insert("notices".to_string(), notices::notices(answer, shape.notes));
    first.meta.insert("stats".to_string(), notices::stats(answer));
    Ok(frames)
}

fn shaped(answer: &Answer, shape: &Shape<'_>) -> Result<Vec<Frame>, Refused> {
    if answer.rows.is_empty() && shape.format != Format::Table {
        return Ok(vec![Frame { ref_id: shape.ref_id.to_string(), ..Frame::default() }]);
    }
    let has = |role: Role, fits: fn(Kind) -> bool| {
        answer.columns.iter().any(|column| column.role == role && fits(column.kind))
    };
    Ok(match shape.format {
        Format::Logs => vec![logs::lines(answer, shape)?],
        Format::Table => vec![table::table(answer, shape)],
        Format::TimeSeries if has(Role::Time, |_| true) => series::time_series(answer, shape),
        Format::TimeSeries if has(Role::Value, Kind::is_number) => vec![table::numeric_long(answer, shape)],
        Format::TimeSeries => vec![table::table(answer, shape)],
    })
}

/// What a kind of frame says about itself: its name and version in the contract, and how it is best shown.
fn meta(kind: Option<(&str, [u32; 2])>, shown_as: &str) -> Map<String, Value> {
    let mut meta = Map::new();
    if let Some((name, version)) = kind {
        meta.insert("type".to_string(), json!(name));
        meta.insert("typeVersion".to_string(), json!(version));
    }
    meta.insert("preferredVisualisationType".to_string(), json!(shown_as));
    meta
}

fn legend_of(template: &str, labels: &Labels, column: &str) -> String {
    let mut legend = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, behind)) = after.split_once("}}") else { break };
        legend.push_str(before);
        let name = name.trim();
        let value = labels.get(name).map(String::as_str);
        legend.push_str(value.unwrap_or(if name == "column" { column } else { "" }));
        rest = behind;
    }
    legend + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legends() {
        let labels = Labels::from([("host".to_string(), "a".to_string())]);
        for (template, legend) in [
            ("{{host}} {{ column }} {{nothing}}!", "a u !"),
            ("{{host", "{{host"),
            ("{host} }}", "{host} }}"),
            ("", ""),
        ] {
            assert_eq!(legend_of(template, &labels, "u"), legend);
        }
    }
}
