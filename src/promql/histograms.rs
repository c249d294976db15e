//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction`, of classic and of native histograms in one vector.
//!
//! Invariant: where both kinds have the same labels and a sample at the same step, there is no answer and a warning.
//! Not here: the numbers (`buckets`, `native`).

use std::collections::BTreeSet;

use hashbrown::HashMap;
use storage_format::point::TagSet;

use crate::error::Result;
use crate::promql::annotations::Remark;
use crate::promql::ast::{Expr, Span};
use crate::promql::buckets::{self, Bucket};
use crate::promql::eval::{Evaluator, said_span};
use crate::promql::labels::{with, without, without_name};
use crate::promql::native::{Nans, Native};
use crate::promql::parse::NAME;
use crate::promql::print::number_g;
use crate::promql::value::{ABSENT, Column, Series, Steps, is_absent, joined};
use crate::promql::vector_functions::label_name;

/// The label of a bucket's upper bound.
const BUCKET: &str = "le";

/// The buckets of one histogram: bounds and columns of counts.
struct Classic<'s> {
    labels: TagSet,
    buckets: Vec<(f64, &'s Column)>,
}

/// Series that differ in their bound only are one histogram. Those without a good bound are named and left out.
fn classic<'s>(evaluator: &Evaluator<'_>, series: &'s [Series], arg: &Expr) -> Vec<Classic<'s>> {
    let mut places: HashMap<TagSet, usize> = HashMap::new();
    let mut found: Vec<Classic<'s>> = Vec::new();
    for one in series.iter().filter(|one| has_floats(one)) {
        let text = one.labels.get(BUCKET).unwrap_or_default();
        let Some(bound) = bound(text) else {
            evaluator.annotations.bad_bucket(one.labels.get(NAME).unwrap_or_default(), text, said_span(arg));
            continue;
        };
        let labels = without(&one.labels, BUCKET);
        let place = *places.entry(labels).or_insert_with_key(|labels| {
            found.push(Classic { labels: labels.clone(), buckets: Vec::new() });
            found.len() - 1
        });
        found[place].buckets.push((bound, &one.values));
    }
    found
}

/// As Go reads a float.
fn bound(text: &str) -> Option<f64> {
    let digits = text.trim_start_matches(['+', '-']);
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let is_word = ["inf", "infinity", "nan"].contains(&digits.to_ascii_lowercase().as_str());
    if is_number || is_word { text.parse().ok() } else { None }
}

impl Classic<'_> {
    /// One value per step from the buckets that have a count there, where no native histogram has.
    fn column(
        &self,
        taken: &[usize],
        steps: Steps,
        mut of: impl FnMut(usize, &mut Vec<Bucket>) -> f64,
    ) -> Column {
        let mut buckets = Vec::with_capacity(self.buckets.len());
        let at_step = |step: usize| {
            if taken.contains(&step) {
                return ABSENT;
            }
            let present = self.buckets.iter().filter(|(_, column)| !is_absent(column[step]));
            buckets.clear();
            buckets.extend(present.map(|(bound, column)| Bucket { bound: *bound, count: column[step] }));
            if buckets.is_empty() { ABSENT } else { of(step, &mut buckets) }
        };
        (0..steps.count).map(at_step).collect()
    }
}

fn has_floats(series: &Series) -> bool {
    series.histograms.is_empty() || series.values.iter().any(|value| !is_absent(*value))
}

/// What is asked of each histogram. When Prometheus looks at a native one, its name is gone already.
struct Asked<'f> {
    of_native: &'f dyn Fn(usize, &Native) -> f64,
    /// Also the name.
    of_classic: &'f dyn Fn(usize, &mut Vec<Bucket>, &str) -> f64,
}

/// Of the series that the argument gives.
fn ask(
    evaluator: &Evaluator<'_>,
    series: &[Series],
    arg: &Expr,
    asked: &Asked<'_>,
    steps: Steps,
) -> Result<Vec<Series>> {
    let classic = classic(evaluator, series, arg);
    let native = series.iter().filter(|one| !one.histograms.is_empty());
    // Steps at which both have a sample, by the place among the classic ones.
    let mut taken: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut out = Vec::new();
    for one in native {
        evaluator.guard.check()?;
        let name = one.labels.get(NAME).unwrap_or_default();
        let bare = without(&one.labels, BUCKET);
        let twin = classic.iter().position(|classic| classic.labels == bare);
        let mut values = vec![ABSENT; steps.count];
        for (step, histogram) in &one.histograms {
            let meets = |at: &usize| classic[*at].buckets.iter().any(|(_, column)| !is_absent(column[*step]));
            if let Some(twin) = twin.filter(meets) {
                evaluator.annotations.remark(Remark::MixedWithClassic, name, said_span(arg));
                taken.entry(twin).or_default().push(*step);
            } else {
                values[*step] = (asked.of_native)(*step, histogram);
            }
        }
        out.push(Series::floats(without_name(&one.labels), values));
    }
    for (place, histogram) in classic.iter().enumerate() {
        evaluator.guard.check()?;
        let name = histogram.labels.get(NAME).unwrap_or_default();
        let taken = taken.get(&place).map(Vec::as_slice).unwrap_or_default();
        let values = histogram.column(taken, steps, |step, buckets| (asked.of_classic)(step, buckets, name));
        out.push(Series::floats(without_name(&histogram.labels), values));
    }
    joined(out)
}

pub fn quantile(evaluator: &Evaluator<'_>, args: &[Expr], steps: Steps) -> Result<Vec<Series>> {
    let wanted = evaluator.scalar(&args[0], steps)?;
    let vector = evaluator.vector(&args[1], steps)?;
    wanted.iter().for_each(|quantile| evaluator.annotations.check_quantile(*quantile, said_span(&args[0])));
    let at = At { native: said_span(&args[0]), classic: said_span(&args[1]) };
    quantile_of(evaluator, &vector.series, &args[1], &wanted, at, steps)
}

/// Where the query is said to be at fault.
struct At {
    native: Span,
    classic: Span,
}

fn quantile_of(
    evaluator: &Evaluator<'_>,
    series: &[Series],
    arg: &Expr,
    wanted: &Column,
    at: At,
    steps: Steps,
) -> Result<Vec<Series>> {
    let annotations = evaluator.annotations;
    let asked = Asked {
        of_native: &|step, histogram| {
            let (value, nans) = histogram.quantile(wanted[step]);
            match nans {
                Nans::None => {}
                Nans::Result => annotations.remark(Remark::QuantileIsNan, "", at.native),
                Nans::Skew => annotations.remark(Remark::QuantileIsSkewed, "", at.native),
            }
            value
        },
        of_classic: &|step, buckets, name| {
            let (value, forced) = buckets::quantile(wanted[step], buckets);
            if forced {
                annotations.forced_monotonicity(name, at.classic);
            }
            value
        },
    };
    ask(evaluator, series, arg, &asked, steps)
}

/// `histogram_quantiles(v, label, quantile, ...)`: a series for each quantile, which the label names.
pub fn quantiles(evaluator: &Evaluator<'_>, args: &[Expr], steps: Steps) -> Result<Vec<Series>> {
    let vector = evaluator.vector(&args[0], steps)?;
    let label = evaluator.text(&args[1], steps)?;
    let label = label_name(&label, "histogram_quantiles", "quantile")?;
    let mut out = Vec::new();
    for arg in &args[2..] {
        let wanted = evaluator.scalar(arg, steps)?;
        wanted.iter().for_each(|quantile| evaluator.annotations.check_quantile(*quantile, said_span(arg)));
        let at = At { native: said_span(&args[0]), classic: said_span(&args[0]) };
        let found = quantile_of(evaluator, &vector.series, &args[0], &wanted, at, steps)?;
        // A quantile that changes from step to step changes its name.
        let texts: Vec<String> = wanted.iter().map(|quantile| open_metrics_number(*quantile)).collect();
        for text in texts.iter().collect::<BTreeSet<_>>() {
            out.extend(found.iter().cloned().map(|mut one| {
                one.keep(|step| texts[step] == *text);
                one.labels = with(&one.labels, label, text);
                one
            }));
        }
    }
    joined(out)
}

/// As OpenMetrics writes numbers: whole ones with a decimal.
fn open_metrics_number(value: f64) -> String {
    let text = number_g(value);
    let is_whole = value.is_finite() && !text.contains(['.', 'e']);
    if is_whole { text + ".0" } else { text }
}

pub fn fraction(evaluator: &Evaluator<'_>, args: &[Expr], steps: Steps) -> Result<Vec<Series>> {
    let (lower, upper) = (evaluator.scalar(&args[0], steps)?, evaluator.scalar(&args[1], steps)?);
    let asked = Asked {
        of_native: &|step, histogram| {
            let (share, has_nans) = histogram.fraction(lower[step], upper[step]);
            if has_nans {
                evaluator.annotations.remark(Remark::FractionWithoutNans, "", said_span(&args[0]));
            }
            share
        },
        of_classic: &|step, buckets, _| buckets::fraction(lower[step], upper[step], buckets),
    };
    let vector = evaluator.vector(&args[2], steps)?;
    ask(evaluator, &vector.series, &args[2], &asked, steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_as_go_reads_floats() {
        assert_eq!(bound("+Inf"), Some(f64::INFINITY));
        assert_eq!((bound("0.5"), bound("1e3"), bound(".5")), (Some(0.5), Some(1000.0), Some(0.5)));
        assert_eq!((bound(""), bound("x"), bound("Hello World")), (None, None, None));
    }
}
