//! Functions of a whole instant vector: labels and order.
//!
//! Not here: functions of single samples (`sample`), of windows (`range`) and of histograms (`histograms`).

use query_lang::pattern::whole_value;

use crate::error::Result;
use crate::promql::arithmetic::nan_first;
use crate::promql::ast::Expr;
use crate::promql::eval::Evaluator;
use crate::promql::failure;
use crate::promql::labels::with;
use crate::promql::print::quoted_bytes;
use crate::promql::value::{Column, Series, Steps, is_absent, refuse_same_labels};

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
pub fn label_name<'t>(text: &'t [u8], function: &str, which: &str) -> Result<&'t str> {
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

/// By value, NaN last; without histograms. Over a range the answer is in the order of labels anyway.
pub fn sort(mut series: Vec<Series>, descending: bool, steps: Steps) -> Vec<Series> {
    series.iter_mut().for_each(|one| one.histograms.clear());
    series.retain(|one| !one.is_empty());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_sort_as_numbers() {
        let mut hosts = ["h10", "h9", "h1", "a", "h01"];
        hosts.sort_by(|a, b| natural(a, b));
        assert_eq!(hosts, ["a", "h1", "h01", "h9", "h10"]);
    }
}
