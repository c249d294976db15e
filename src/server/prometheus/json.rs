//! Values as Prometheus writes them: times as numbers of seconds, samples as text.
//!
//! Invariant: an answer is made in pieces, so that its text is never whole in memory where it is long.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use axum::body::Bytes;
use serde_json::json;
use storage_format::point::TagSet;

use crate::promql::print::number_text;
use crate::promql::{Answer, Data, Native, Run, Said, Series, Steps, is_absent};
use crate::query::Stats;
use crate::server::json::stats_text;
use crate::server::prometheus::TRUNCATED;

/// Text that is handed on at once.
const PIECE_BYTES: usize = 64 << 10;

/// Sentences of a kind in one answer, as in Prometheus.
const SENTENCES_MAX: usize = 10;

/// What an answer has beside its values.
pub struct Extras {
    pub limit: Option<usize>,
    /// Whether counts of samples are told step by step.
    pub per_step: bool,
    /// What it took, in our own words.
    pub stats: Stats,
}

/// The pieces of an answer.
pub fn pieces(answer: Answer, extras: &Extras) -> impl Iterator<Item = Bytes> + Send + use<> {
    let Answer { steps, data, said, elapsed, samples } = answer;
    let kind = match &data {
        Data::Scalar(_) => "scalar",
        Data::Text(_) => "string",
        Data::Vector(_) => "vector",
        Data::Matrix(_) | Data::Runs(_) => "matrix",
    };
    let mut entries = Entries::new(data, steps);
    let is_cut = extras.limit.is_some_and(|limit| entries.cut(limit));
    let seconds = elapsed.as_secs_f64();
    let stats = samples.map(|samples| {
        let all: u64 = samples.iter().sum();
        let mut counts = json!({ "totalQueryableSamples": all });
        if extras.per_step {
            let of_steps = steps.times().zip(samples).map(|(time, count)| {
                let mut text = String::new();
                self::time(&mut text, time);
                let time: serde_json::Number = text.parse().expect("a time is a number");
                json!([time, count])
            });
            counts["totalQueryableSamplesPerStep"] = of_steps.collect();
        }
        let timings = json!({ "evalTotalTime": seconds, "execTotalTime": seconds });
        // What Prometheus does not have stands apart, where its clients do not look.
        let own = stats_text(&extras.stats);
        format!("{{\"timings\":{timings},\"samples\":{counts},\"waterclock\":{own}}}")
    });
    let head = format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"{kind}\",\"result\":");
    let mut tail = String::new();
    if let Some(stats) = stats {
        let _ = write!(tail, ",\"stats\":{stats}");
    }
    tail.push('}');
    tail.push_str(&sentences(said, is_cut));
    tail.push('}');
    Pieces { text: head, entries, tail: Some(tail) }
}

fn sentences(said: Said, is_cut: bool) -> String {
    let mut text = String::new();
    let list = |all: BTreeSet<String>, kind: &str| {
        let more = all.len().saturating_sub(SENTENCES_MAX);
        let mut some: Vec<String> = all.into_iter().take(SENTENCES_MAX).collect();
        if more > 0 {
            some.push(format!("{more} more {kind} annotations omitted"));
        }
        some
    };
    let mut warnings = list(said.warnings, "warning");
    if is_cut {
        warnings.push(TRUNCATED.to_string());
    }
    for (name, list) in [("warnings", warnings), ("infos", list(said.infos, "info"))] {
        if !list.is_empty() {
            let _ = write!(text, ",\"{name}\":{}", json!(list));
        }
    }
    text
}

struct Pieces {
    text: String,
    entries: Entries,
    tail: Option<String>,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.tail.as_ref()?;
        while self.text.len() < PIECE_BYTES {
            if !self.entries.write_next(&mut self.text) {
                self.text.push_str(&self.tail.take()?);
                break;
            }
        }
        Some(std::mem::take(&mut self.text).into())
    }
}

/// The result, entry by entry.
enum Entries {
    /// All of it, once.
    Whole(Option<String>),
    Vector {
        series: std::vec::IntoIter<Series>,
        time: i64,
        first: bool,
        ended: bool,
    },
    Matrix {
        series: std::vec::IntoIter<Series>,
        steps: Steps,
        first: bool,
        ended: bool,
    },
    Runs {
        runs: std::vec::IntoIter<Run>,
        first: bool,
        ended: bool,
    },
}

impl Entries {
    fn new(data: Data, steps: Steps) -> Entries {
        match data {
            Data::Scalar(column) => {
                let mut text = String::new();
                sample(&mut text, steps.start, column[0]);
                Entries::Whole(Some(text))
            }
            Data::Text(text) => {
                let mut out = String::from("[");
                time(&mut out, steps.start);
                let _ = write!(out, ",{}]", json!(String::from_utf8_lossy(&text)));
                Entries::Whole(Some(out))
            }
            Data::Vector(series) => {
                Entries::Vector { series: series.into_iter(), time: steps.start, first: true, ended: false }
            }
            Data::Matrix(series) => {
                Entries::Matrix { series: series.into_iter(), steps, first: true, ended: false }
            }
            Data::Runs(runs) => Entries::Runs { runs: runs.into_iter(), first: true, ended: false },
        }
    }

    /// Leaves so many entries. Whether there were more.
    fn cut(&mut self, limit: usize) -> bool {
        let cut = |len: usize| len > limit;
        match self {
            Entries::Whole(_) => false,
            Entries::Vector { series, .. } | Entries::Matrix { series, .. } => {
                let is_cut = cut(series.len());
                *series = series.by_ref().take(limit).collect::<Vec<_>>().into_iter();
                is_cut
            }
            Entries::Runs { runs, .. } => {
                let is_cut = cut(runs.len());
                *runs = runs.by_ref().take(limit).collect::<Vec<_>>().into_iter();
                is_cut
            }
        }
    }

    /// False if all is written.
    fn write_next(&mut self, out: &mut String) -> bool {
        match self {
            Entries::Whole(text) => match text.take() {
                Some(text) => {
                    out.push_str(&text);
                    true
                }
                None => false,
            },
            Entries::Vector { series, time, first, ended } => {
                let Some(one) = series.next() else { return close(out, first, ended) };
                open(out, first);
                metric(out, &one.labels);
                match one.histograms.first() {
                    Some((_, histogram)) => {
                        out.push_str(",\"histogram\":");
                        histogram_sample(out, *time, histogram);
                    }
                    None => {
                        out.push_str(",\"value\":");
                        sample(out, *time, one.values[0]);
                    }
                }
                out.push('}');
                true
            }
            Entries::Matrix { series, steps, first, ended } => {
                let Some(one) = series.next() else { return close(out, first, ended) };
                open(out, first);
                let samples = steps.times().zip(one.values).filter(|(_, value)| !is_absent(*value));
                let time = |step: usize| steps.start + steps.step * step as i64;
                let histograms = one.histograms.into_iter().map(|(step, histogram)| (time(step), histogram));
                samples_of(out, &one.labels, samples, histograms);
                true
            }
            Entries::Runs { runs, first, ended } => {
                let Some(run) = runs.next() else { return close(out, first, ended) };
                open(out, first);
                samples_of(out, &run.labels, run.samples.into_iter(), run.histograms.into_iter());
                true
            }
        }
    }
}

fn open(out: &mut String, first: &mut bool) {
    out.push(if *first { '[' } else { ',' });
    *first = false;
}

fn close(out: &mut String, first: &mut bool, ended: &mut bool) -> bool {
    if std::mem::replace(ended, true) {
        return false;
    }
    out.push_str(if *first { "[]" } else { "]" });
    false
}

fn samples_of(
    out: &mut String,
    labels: &TagSet,
    samples: impl Iterator<Item = (i64, f64)>,
    histograms: impl Iterator<Item = (i64, Arc<Native>)>,
) {
    metric(out, labels);
    list(out, "values", samples, |out, (time, value)| sample(out, time, value));
    list(out, "histograms", histograms, |out, (time, histogram)| histogram_sample(out, time, &histogram));
    out.push('}');
}

/// Nothing if there are none.
fn list<T>(out: &mut String, name: &str, items: impl Iterator<Item = T>, put: impl Fn(&mut String, T)) {
    let mut items = items.peekable();
    if items.peek().is_none() {
        return;
    }
    let _ = write!(out, ",\"{name}\":[");
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(',');
        }
        put(out, item);
    }
    out.push(']');
}

/// Buckets say first which of their bounds are in them: 0 the upper, 1 the lower, 2 none, 3 both.
fn histogram_sample(out: &mut String, at: i64, histogram: &Native) {
    out.push('[');
    time(out, at);
    out.push_str(",{\"count\":");
    quoted(out, histogram.count);
    out.push_str(",\"sum\":");
    quoted(out, histogram.sum);
    list(out, "buckets", histogram.buckets(), |out, bucket| {
        let bounds = match (bucket.lower_inclusive, bucket.upper_inclusive) {
            (false, true) => 0,
            (true, false) => 1,
            (false, false) => 2,
            (true, true) => 3,
        };
        let _ = write!(out, "[{bounds}");
        for value in [bucket.lower, bucket.upper, bucket.count] {
            out.push(',');
            quoted(out, value);
        }
        out.push(']');
    });
    out.push_str("}]");
}

/// `{"metric":{...}` with the brace left open.
fn metric(out: &mut String, labels: &TagSet) {
    out.push_str("{\"metric\":{");
    for (at, (label, value)) in labels.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        let _ = write!(out, "{}:{}", json!(label), json!(value));
    }
    out.push('}');
}

fn sample(out: &mut String, at: i64, value: f64) {
    out.push('[');
    time(out, at);
    out.push(',');
    quoted(out, value);
    out.push(']');
}

fn quoted(out: &mut String, value: f64) {
    out.push('"');
    number(out, value);
    out.push('"');
}

/// Seconds, with three decimals where there are any.
fn time(out: &mut String, milliseconds: i64) {
    let sign = if milliseconds < 0 { "-" } else { "" };
    let magnitude = milliseconds.unsigned_abs();
    let _ = write!(out, "{sign}{}", magnitude / 1000);
    if !magnitude.is_multiple_of(1000) {
        let _ = write!(out, ".{:03}", magnitude % 1000);
    }
}

/// With an exponent where it is very small or very large.
fn number(out: &mut String, value: f64) {
    let magnitude = value.abs();
    if value.is_finite() && magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').expect("an exponent was asked for");
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        let _ = write!(out, "{digits}e{sign}{exponent:0>2}");
    } else if value.is_finite() {
        let _ = write!(out, "{value}");
    } else {
        out.push_str(&number_text(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::Query;
    use std::time::Duration;

    fn text(data: Data, steps: Steps, limit: Option<usize>) -> String {
        let answer =
            Answer { steps, data, said: Said::default(), elapsed: Duration::from_millis(1), samples: None };
        let all: Vec<u8> =
            pieces(answer, &Extras { limit, per_step: false, stats: Stats::default() }).flatten().collect();
        String::from_utf8(all).unwrap()
    }

    fn series(name: &str, values: &[f64]) -> Series {
        Series { labels: TagSet::new([("a", name)]), values: values.to_vec(), ..Series::default() }
    }

    #[test]
    fn answers_look_as_those_of_prometheus() {
        let steps = Steps::range(1_500, 2_500, 1_000);
        let matrix = Data::Matrix(vec![series("x", &[1.0, f64::from_bits(0x7ff0_0000_0000_0002)])]);
        assert_eq!(
            text(matrix, steps, None),
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"x"},"values":[[1.500,"1"]]}]}}"#
        );
        let vector = Data::Vector(vec![series("x", &[1.0]), series("y", &[2.0])]);
        assert_eq!(
            text(vector, Steps::instant(4_000), Some(1)),
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"x"},"value":[4,"1"]}]},"warnings":["results truncated due to limit"]}"#
        );
        assert_eq!(
            text(Data::Vector(Vec::new()), Steps::instant(0), None),
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#
        );
        assert_eq!(
            text(Data::Text(b"a\"".to_vec()), Steps::instant(-1), None),
            r#"{"status":"success","data":{"resultType":"string","result":[-0.001,"a\""]}}"#
        );
        assert!(Query::range("\"a\"", steps, steps.end(), 0).is_err());
    }

    #[test]
    fn numbers_have_an_exponent_where_they_are_long() {
        let number = |value| {
            let mut out = String::new();
            number(&mut out, value);
            out
        };
        assert_eq!(number(1e21), "1e+21");
        assert_eq!(number(-1.5e-7), "-1.5e-07");
        assert_eq!(number(1e20), "100000000000000000000");
        assert_eq!(
            (number(0.1), number(f64::NAN), number(f64::NEG_INFINITY)),
            ("0.1".into(), "NaN".into(), "-Inf".into())
        );
    }
}
