//! What an answer says beside its values: warnings and infos, with Prometheus' words.
//!
//! Invariant: each sentence is kept once; it ends with the place in the query that it is about.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::promql::ast::Span;
use crate::promql::parse::place;
use crate::promql::print::{number_g, quoted};

pub struct Annotations<'q> {
    query: &'q str,
    said: Mutex<Said>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub warnings: BTreeSet<String>,
    pub infos: BTreeSet<String>,
}

impl<'q> Annotations<'q> {
    pub fn new(query: &'q str) -> Annotations<'q> {
        Annotations { query, said: Mutex::default() }
    }

    pub fn into_said(self) -> Said {
        self.said.into_inner()
    }

    fn warn(&self, span: Span, what: String) {
        let text = format!("PromQL warning: {what} ({})", place(self.query, span));
        self.said.lock().warnings.insert(text);
    }

    fn inform(&self, span: Span, what: String) {
        let text = format!("PromQL info: {what} ({})", place(self.query, span));
        self.said.lock().infos.insert(text);
    }

    /// Of a quantile that is not one.
    pub fn check_quantile(&self, quantile: f64, span: Span) {
        if !(0.0..=1.0).contains(&quantile) {
            self.warn(span, format!("quantile value should be between 0 and 1, got {}", number_g(quantile)));
        }
    }

    /// Of a name that is not that of a counter, under `rate` and `increase`.
    pub fn check_counter(&self, name: &str, span: Span) {
        let is_counter = ["_total", "_sum", "_count", "_bucket"].iter().any(|end| name.ends_with(end));
        if !name.is_empty() && !is_counter {
            let what = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:";
            self.inform(span, format!("{what} {}", quoted(name)));
        }
    }

    pub fn bad_bucket(&self, name: &str, bound: &str, span: Span) {
        let what = format!("bucket label \"le\" is missing or has a malformed value of {}", quoted(bound));
        self.warn(span, what + &of_metric(name));
    }

    pub fn forced_monotonicity(&self, name: &str, span: Span) {
        let what = "input to histogram_quantile needed to be fixed for monotonicity (see \
                    https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
        self.inform(span, what.to_string() + &of_metric(name));
    }
}

fn of_metric(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" for metric name {}", quoted(name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_name_their_place_and_stand_once() {
        let annotations = Annotations::new("rate(x[5m])");
        let span = Span { start: 5, end: 10 };
        for _ in 0..2 {
            annotations.check_counter("x", span);
            annotations.check_counter("x_total", span);
            annotations.check_quantile(1.5, span);
            annotations.check_quantile(0.5, span);
        }
        let said = annotations.into_said();
        let infos: Vec<String> = said.infos.into_iter().collect();
        assert_eq!(
            infos,
            [
                "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"x\" (1:6)"
            ]
        );
        let warnings: Vec<String> = said.warnings.into_iter().collect();
        assert_eq!(warnings, ["PromQL warning: quantile value should be between 0 and 1, got 1.5 (1:6)"]);
    }
}
