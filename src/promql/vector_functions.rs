//! Functions of a whole instant vector: labels, order, histograms in buckets.
//!
//! Not here: functions of single samples (`sample`) and of windows (`range`).

use hashbrown::HashMap;
use query_lang::pattern::whole_value;
use storage_format::point::TagSet;

use crate::error::Result;
use crate::promql::arithmetic::nan_first;
use crate::promql::ast::Expr;
use crate::promql::buckets::{self, Bucket};
use crate::promql::eval::Evaluator;
use crate::promql::failure;
use crate::promql::labels::{with, without, without_name};
use crate::promql::parse::NAME;
use crate::promql::print::quoted_bytes;
use crate::promql::value::{ABSENT, Column, Series, Steps, is_absent, joined, refuse_same_labels};

/// The label of a bucket's upper bound.
const BUCKET: &str = "le";

/// The sample of the only series, else NaN.
pub fn scalar(series: &[Series], steps: Steps) -> Column {
    let at_step = |step: usize| {
        let mut present = series.iter().map(|series| series.values[step]).filter(|value| !is_absent(*value));
        match (present.next(), present.next()) {
            (Some(only), None) => only,
            _ => f64::NAN,
        }
    };
    (0..steps.count).map(at_step).collect()
}

/// A text that may be a label's name.
fn label_name<'t>(text: &'t [u8], function: &str, which: &str) -> Result<&'t str> {
    std::str::from_utf8(text)
        .ok()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| failure(format!("invalid {which} label name in {function}(): {}", shown(text))))
}

fn shown(text: &[u8]) -> String {
    let quoted = quoted_bytes(text);
    quoted[1..quoted.len() - 1].to_string()
}

pub fn label_replace(evaluator: &Evaluator<'_>, args: &[Expr], steps: Steps) -> Result<Vec<Series>> {
    let text = |at: usize| evaluator.text(&args[at], steps);
    let (target, replacement, source, pattern) = (text(1)?, text(2)?, text(3)?, text(4)?);
    let pattern = String::from_utf8_lossy(&pattern);
    let whole = whole_value(&pattern)
        .map_err(|_| failure(format!("invalid regular expression in label_replace(): {pattern}")))?;
    let target = label_name(&target, "label_replace", "destination")?;
    let (replacement, source) = (String::from_utf8_lossy(&replacement), String::from_utf8_lossy(&source));
    let mut series = evaluator.vector(&args[0], steps)?.series;
    let mut value = String::new();
    for one in &mut series {
        let Some(groups) = whole.captures(one.labels.get(&source).unwrap_or_default()) else { continue };
        value.clear();
        groups.expand(&replacement, &mut value);
        let replaced = with(&one.labels, target, &value);
        drop(groups);
        one.labels = replaced;
    }
    refuse_same_labels(&series)?;
    Ok(series)
}

pub fn label_join(evaluator: &Evaluator<'_>, args: &[Expr], steps: Steps) -> Result<Vec<Series>> {
    let texts: Vec<Vec<u8>> =
        args[1..].iter().map(|arg| evaluator.text(arg, steps)).collect::<Result<_>>()?;
    let target = label_name(&texts[0], "label_join", "destination")?;
    let separator = String::from_utf8_lossy(&texts[1]);
    let sources: Vec<&str> =
        texts[2..].iter().map(|text| label_name(text, "label_join", "source")).collect::<Result<_>>()?;
    let mut series = evaluator.vector(&args[0], steps)?.series;
    for one in &mut series {
        let values: Vec<&str> =
            sources.iter().map(|label| one.labels.get(label).unwrap_or_default()).collect();
        one.labels = with(&one.labels, target, &values.join(&separator));
    }
    refuse_same_labels(&series)?;
    Ok(series)
}

/// By value, NaN last. Over a range the answer is in the order of labels anyway.
pub fn sort(mut series: Vec<Series>, descending: bool, steps: Steps) -> Vec<Series> {
    if steps.count == 1 {
        series.sort_by(|a, b| {
            let (a, b) = (a.values[0], b.values[0]);
            let falls = descending || a.is_nan() || b.is_nan();
            if falls { nan_first(b, a) } else { nan_first(a, b) }
        });
    }
    series
}

/// By the values of labels in natural order, then by all labels.
pub fn sort_by_label(
    evaluator: &Evaluator<'_>,
    args: &[Expr],
    descending: bool,
    steps: Steps,
) -> Result<Vec<Series>> {
    let labels: Vec<Vec<u8>> =
        args[1..].iter().map(|arg| evaluator.text(arg, steps)).collect::<Result<_>>()?;
    let labels: Vec<String> =
        labels.iter().map(|label| String::from_utf8_lossy(label).into_owned()).collect();
    let mut series = evaluator.vector(&args[0], steps)?.series;
    if steps.count == 1 {
        series.sort_by(|a, b| {
            let value =
                |series: &Series, label: &str| series.labels.get(label).unwrap_or_default().to_string();
            let by_label = labels.iter().map(|label| natural(&value(a, label), &value(b, label)));
            let order = by_label
                .fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
                .then_with(|| a.labels.as_bytes().cmp(b.labels.as_bytes()));
            if descending { order.reverse() } else { order }
        });
    }
    Ok(series)
}

/// Digits in a row count as a number.
fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match (digits(a), digits(b)) {
            (0, _) | (_, 0) => {}
            (in_a, in_b) => {
                let number = |digits: &'_ [u8]| {
                    let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
                    (digits.len() - zeros, digits[zeros..].to_vec())
                };
                let order = number(&a[..in_a]).cmp(&number(&b[..in_b])).then(in_a.cmp(&in_b));
                if order.is_ne() {
                    return order;
                }
                (a, b) = (&a[in_a..], &b[in_b..]);
                continue;
            }
        }
        match (a.split_first(), b.split_first()) {
            (Some((first_a, rest_a)), Some((first_b, rest_b))) => {
                if first_a != first_b {
                    return first_a.cmp(first_b);
                }
                (a, b) = (rest_a, rest_b);
            }
            _ => return a.len().cmp(&b.len()),
        }
    }
}

/// The buckets of one histogram: bounds and columns of counts.
struct Histogram<'s> {
    labels: TagSet,
    buckets: Vec<(f64, &'s Column)>,
}

/// Series that differ in their bound only are one histogram. Those without a good bound are named and left out.
fn histograms<'s>(evaluator: &Evaluator<'_>, series: &'s [Series], arg: &Expr) -> Vec<Histogram<'s>> {
    let mut places: HashMap<TagSet, usize> = HashMap::new();
    let mut found: Vec<Histogram<'s>> = Vec::new();
    for one in series {
        let text = one.labels.get(BUCKET).unwrap_or_default();
        let Some(bound) = bound(text) else {
            evaluator.annotations.bad_bucket(one.labels.get(NAME).unwrap_or_default(), text, arg.span);
            continue;
        };
        let labels = without(&one.labels, BUCKET);
        let place = *places.entry(labels).or_insert_with_key(|labels| {
            found.push(Histogram { labels: labels.clone(), buckets: Vec::new() });
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

impl Histogram<'_> {
    /// One value per step from the buckets that have a count there.
    fn column(&self, steps: Steps, mut of: impl FnMut(usize, &mut Vec<Bucket>) -> f64) -> Column {
        let mut buckets = Vec::with_capacity(self.buckets.len());
        let at_step = |step: usize| {
            let present = self.buckets.iter().filter(|(_, column)| !is_absent(column[step]));
            buckets.clear();
            buckets.extend(present.map(|(bound, column)| Bucket { bound: *bound, count: column[step] }));
            if buckets.is_empty() { ABSENT } else { of(step, &mut buckets) }
        };
        (0..steps.count).map(at_step).collect()
    }
}

pub fn histogram_quantile(evaluator: &Evaluator<'_>, args: &[Expr], steps: Steps) -> Result<Vec<Series>> {
    let wanted = evaluator.scalar(&args[0], steps)?;
    let vector = evaluator.vector(&args[1], steps)?;
    wanted.iter().for_each(|quantile| evaluator.annotations.check_quantile(*quantile, args[0].span));
    let mut out = Vec::new();
    for histogram in histograms(evaluator, &vector.series, &args[1]) {
        evaluator.guard.check()?;
        let mut forced = false;
        let values = histogram.column(steps, |step, buckets| {
            let (value, was_forced) = buckets::quantile(wanted[step], buckets);
            forced |= was_forced;
            value
        });
        if forced {
            let name = histogram.labels.get(NAME).unwrap_or_default();
            evaluator.annotations.forced_monotonicity(name, args[1].span);
        }
        out.push(Series { labels: without_name(&histogram.labels), values });
    }
    joined(out)
}

pub fn histogram_fraction(evaluator: &Evaluator<'_>, args: &[Expr], steps: Steps) -> Result<Vec<Series>> {
    let (lower, upper) = (evaluator.scalar(&args[0], steps)?, evaluator.scalar(&args[1], steps)?);
    let vector = evaluator.vector(&args[2], steps)?;
    let mut out = Vec::new();
    for histogram in histograms(evaluator, &vector.series, &args[2]) {
        evaluator.guard.check()?;
        let values =
            histogram.column(steps, |step, buckets| buckets::fraction(lower[step], upper[step], buckets));
        out.push(Series { labels: without_name(&histogram.labels), values });
    }
    joined(out)
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

    #[test]
    fn digits_sort_as_numbers() {
        let mut hosts = ["h10", "h9", "h1", "a", "h01"];
        hosts.sort_by(|a, b| natural(a, b));
        assert_eq!(hosts, ["a", "h1", "h01", "h9", "h10"]);
    }
}
