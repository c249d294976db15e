//! `/federate`: the newest sample of each chosen series in the text format, for a Prometheus that scrapes them from here.
//!
//! Invariant: a sample has its own time, and a series that has no `instance` says so, so that with `honor_labels` the scraper does not
//! give it this server's.
//! Native histograms have no place in the text format and are left out.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use storage_format::point::TagSet;

use crate::db::Db;
use crate::guard::Guard;
use crate::promql::print::{number_g, number_text};
use crate::promql::{NAME, Newest, Sample};
use crate::server::Doors;
use crate::server::prometheus::params;
use crate::server::prometheus::query::LOOKBACK_MILLIS;
use crate::server::prometheus::series::selectors;
use crate::server::queries::{self, Answered, Asked, Caller};
use crate::server::reply::Failure;
use crate::server::wql::client_of;

/// The label that a scraper adds where it is missing.
const INSTANCE: &str = "instance";

/// What a scraper says that reads any name.
const ANY_NAME: &str = "escaping=allow-utf-8";

pub async fn federate(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    match text(&doors, request).await {
        Ok(response) => response,
        // Scrapers show the body as it is.
        Err(failure) => (failure.status, failure.sentence()).into_response(),
    }
}

async fn text(doors: &Arc<Doors>, request: Request) -> Result<Response, Failure> {
    let client = client_of(&request);
    let any_name = takes_any_name(request.headers());
    let params = params(doors, request).await?;
    let newest =
        Newest::new(selectors(&params)?, doors.db.clock().now().div_euclid(1_000_000), LOOKBACK_MILLIS);
    let database = params.database(&["db"])?;
    let statement = "/federate".to_string();
    let asked = Asked { database: database.clone(), statement, caller: Caller { client, timeout: None } };
    let work = move |db: &Db, guard: &Guard| {
        let text = exposition(&db.promql_newest(&newest, &database, guard)?, any_name);
        Ok(Answered { bytes: Some(text.len()), rollups: Vec::new(), answer: text })
    };
    let (text, _held) = queries::run(doors, asked, work).await?;
    let kind = match any_name {
        true => "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        false => "text/plain; version=0.0.4; charset=utf-8",
    };
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, kind)], text).into_response())
}

fn takes_any_name(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.contains(ANY_NAME))
}

/// Families in the order of their names.
fn exposition(samples: &BTreeMap<TagSet, Sample>, any_name: bool) -> String {
    let mut families: BTreeMap<&str, Vec<(&TagSet, &Sample)>> = BTreeMap::new();
    for (labels, sample) in samples {
        if let Some(name) = labels.get(NAME) {
            families.entry(name).or_default().push((labels, sample));
        }
    }
    let mut text = String::new();
    for (name, members) in families {
        let name = Name::of(name, any_name);
        let _ = writeln!(text, "# TYPE {} untyped", name.text);
        for (labels, (time, value)) in members {
            metric(&mut text, &name, labels, any_name);
            let value = if value.is_finite() { number_g(*value) } else { number_text(*value) };
            let _ = writeln!(text, " {value} {time}");
        }
    }
    text
}

/// A name as it is written, in quotes if it must be.
struct Name {
    text: String,
    is_quoted: bool,
}

impl Name {
    fn of(name: &str, any_name: bool) -> Name {
        let may_stand = |(at, c): (usize, char)| {
            c.is_ascii_alphabetic() || c == '_' || c == ':' || (at > 0 && c.is_ascii_digit())
        };
        if name.chars().enumerate().all(may_stand) {
            return Name { text: name.to_string(), is_quoted: false };
        }
        if any_name {
            return Name { text: quoted(name), is_quoted: true };
        }
        let replaced = name.chars().enumerate().map(|(at, c)| if may_stand((at, c)) { c } else { '_' });
        Name { text: replaced.collect(), is_quoted: false }
    }
}

fn metric(text: &mut String, name: &Name, labels: &TagSet, any_name: bool) {
    if !name.is_quoted {
        text.push_str(&name.text);
    }
    text.push('{');
    let pairs = labels.iter().filter(|(label, _)| *label != NAME);
    let missing = labels.get(INSTANCE).is_none().then_some((INSTANCE, ""));
    let pairs = pairs.chain(missing).map(|(label, value)| {
        let label = Name::of(&label.replace(':', if any_name { ":" } else { "_" }), any_name);
        format!("{}={}", label.text, quoted(value))
    });
    let quoted_name = name.is_quoted.then(|| name.text.clone());
    text.push_str(&quoted_name.into_iter().chain(pairs).collect::<Vec<_>>().join(","));
    text.push('}');
}

/// With the three escapes that the format has.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_in_families() {
        let series =
            |labels: &[(&str, &str)], time, value| (TagSet::new(labels.iter().copied()), (time, value));
        let samples = BTreeMap::from([
            series(&[(NAME, "up"), ("instance", "a:1"), ("job", "x\"y\\z\n")], 5, 1.0),
            series(&[(NAME, "cpu.idle"), ("host.name", "h")], 7, f64::INFINITY),
            series(&[(NAME, "up"), ("job", "b")], 6, 0.5),
            series(&[("job", "nameless")], 6, 0.5),
        ]);
        assert_eq!(
            exposition(&samples, true),
            "# TYPE \"cpu.idle\" untyped\n\
             {\"cpu.idle\",\"host.name\"=\"h\",instance=\"\"} +Inf 7\n\
             # TYPE up untyped\n\
             up{job=\"b\",instance=\"\"} 0.5 6\n\
             up{instance=\"a:1\",job=\"x\\\"y\\\\z\\n\"} 1 5\n"
        );
        assert!(exposition(&samples, false).starts_with(
            "# TYPE cpu_idle untyped\ncpu_idle{host_name=\"h\",instance=\"\"} +Inf 7\n# TYPE up"
        ));
    }
}
