//! What an answer says beside its values: warnings and infos, with Prometheus' words.
//!
//! Invariant: each sentence is kept once; it ends with the place in the query that it is about, of several such places with the last.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use crate::promql::ast::Span;
use crate::promql::native::Incompatible;
use crate::promql::parse::place;
use crate::promql::print::{number_g, quoted};

pub struct Annotations<'q> {
    query: &'q str,
    /// Places by sentence; whether it is a warning comes first.
    said: Mutex<BTreeMap<(bool, String), Span>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub warnings: BTreeSet<String>,
    pub infos: BTreeSet<String>,
}

/// What is said of the histograms of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remark {
    /// Floats stand among them.
    MixedWithFloats,
    /// Passed over, since floats stand among them.
    IgnoredInRange,
    MixedSchemas,
    DifferentBounds,
    NotCounter,
    NotGauge,
    /// Beside classic ones of the same labels.
    MixedWithClassic,
    /// Their quantile lies among NaN.
    QuantileIsNan,
    QuantileIsSkewed,
    FractionWithoutNans,
}

impl Remark {
    /// Whether it is a warning, and the words before the name.
    fn says(self) -> (bool, &'static str) {
        match self {
            Remark::MixedWithFloats => (true, "encountered a mix of histograms and floats for metric name"),
            Remark::IgnoredInRange => {
                (false, "ignored histograms in a range containing both floats and histograms for metric name")
            }
            Remark::MixedSchemas => (
                true,
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric name",
            ),
            Remark::DifferentBounds => {
                (true, "vector contains histograms with incompatible custom buckets for metric name")
            }
            Remark::NotCounter => (true, "this native histogram metric is not a counter:"),
            Remark::NotGauge => (true, "this native histogram metric is not a gauge:"),
            Remark::MixedWithClassic => {
                (true, "vector contains a mix of classic and native histograms for metric name")
            }
            Remark::QuantileIsNan => {
                (false, "input to histogram_quantile has NaN observations, result is NaN for metric name")
            }
            Remark::QuantileIsSkewed => (
                false,
                "input to histogram_quantile has NaN observations, result is skewed higher for metric name",
            ),
            Remark::FractionWithoutNans => (
                false,
                "input to histogram_fraction has NaN observations, which are excluded from all fractions for metric name",
            ),
        }
    }
}

impl From<Incompatible> for Remark {
    fn from(why: Incompatible) -> Remark {
        match why {
            Incompatible::Schemas => Remark::MixedSchemas,
            Incompatible::Bounds => Remark::DifferentBounds,
        }
    }
}

impl<'q> Annotations<'q> {
    pub fn new(query: &'q str) -> Annotations<'q> {
        Annotations { query, said: Mutex::default() }
    }

    pub fn into_said(self) -> Said {
        let mut said = Said::default();
        for ((is_warning, what), span) in self.said.into_inner() {
            let (kind, list) =
                if is_warning { ("warning", &mut said.warnings) } else { ("info", &mut said.infos) };
            list.insert(format!("PromQL {kind}: {what} ({})", place(self.query, span)));
        }
        said
    }

    fn warn(&self, span: Span, what: String) {
        self.said.lock().insert((true, what), span);
    }

    fn inform(&self, span: Span, what: String) {
        self.said.lock().insert((false, what), span);
    }

    /// Of a quantile that is not one.
    pub fn check_quantile(&self, quantile: f64, span: Span) {
        if !(0.0..=1.0).contains(&quantile) {
            self.warn(span, format!("quantile value should be between 0 and 1, got {}", number_g(quantile)));
        }
    }

    /// Of a ratio beyond what there is.
    pub fn capped_ratio(&self, ratio: f64, nearest: f64, span: Span) {
        let what = "ratio value should be between -1 and 1, got";
        self.warn(span, format!("{what} {}, capping to {}", number_g(ratio), number_g(nearest)));
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

    pub fn remark(&self, remark: Remark, name: &str, span: Span) {
        let (is_warning, what) = remark.says();
        let text = format!("{what} {}", quoted(name));
        if is_warning { self.warn(span, text) } else { self.inform(span, text) }
    }

    /// An aggregation of floats and histograms.
    pub fn mixed_aggregation(&self, span: Span) {
        self.warn(span, "encountered a mix of histograms and floats for aggregation".to_string());
    }

    /// An aggregation that has passed over histograms.
    pub fn ignored_in_aggregation(&self, aggregation: &str, span: Span) {
        self.inform(span, format!("ignored histogram in {aggregation} aggregation"));
    }

    /// An operator that does not know its operands, `histogram` or `float`.
    pub fn incompatible_operands(&self, left: &str, op: &str, right: &str, span: Span) {
        let what = "incompatible sample types encountered for binary operator";
        self.inform(span, format!("{what} {}: {left} {op} {right}", quoted(op)));
    }

    pub fn incompatible_buckets(&self, op: &str, span: Span) {
        self.warn(span, format!("incompatible bucket layout encountered for binary operator {op}"));
    }

    pub fn forced_monotonicity(&self, name: &str, span: Span) {
        let what = "input to histogram_quantile needed to be fixed for monotonicity (see \
                    https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
        self.inform(span, what.to_string() + &of_metric(name));
    }
}

fn of_metric(name: &str) -> String {
    format!(" for metric name {}", quoted(name))
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
