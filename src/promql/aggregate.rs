//! Aggregations: the samples of many series at a step to those of their groups.
//!
//! Invariant: series are grouped once per query, and each group is computed column by column, in the order of the series.
//! Not here: which labels make a group (`labels`).

use std::sync::Arc;

use hashbrown::HashMap;
use storage_format::point::TagSet;

use crate::error::Result;
use crate::promql::annotations::Annotations;
use crate::promql::arithmetic::{Mean, Sum, nan_first, quantile};
use crate::promql::ast::{Aggregate, Aggregator, Span};
use crate::promql::failure;
use crate::promql::labels::{Choice, with};
use crate::promql::limit;
use crate::promql::native::{self, Incompatible, Native};
use crate::promql::parse::NAME;
use crate::promql::print::number_text;
use crate::promql::value::{ABSENT, Column, Series, Steps, is_absent};

/// Series of equal labels after the grouping, by their place.
struct Groups(Vec<(TagSet, Vec<usize>)>);

impl Groups {
    fn of(series: &[Series], choice: &Choice) -> Groups {
        let mut places: HashMap<TagSet, usize> = HashMap::new();
        let mut groups: Vec<(TagSet, Vec<usize>)> = Vec::new();
        for (at, one) in series.iter().enumerate() {
            let labels = choice.of_labels(&one.labels);
            let place = *places.entry(labels).or_insert_with_key(|labels| {
                groups.push((labels.clone(), Vec::new()));
                groups.len() - 1
            });
            groups[place].1.push(at);
        }
        Groups(groups)
    }
}

/// `param` has one value per step.
pub fn aggregate(
    aggregate: &Aggregate,
    param: Option<&Column>,
    series: Vec<Series>,
    steps: Steps,
    annotations: &Annotations<'_>,
) -> Result<Vec<Series>> {
    use Aggregator::{Avg, Bottomk, Count, Group, LimitRatio, Limitk, Quantile, Sum, Topk};
    let Groups(groups) = Groups::of(&series, &Choice::of(&aggregate.grouping));
    if let (Limitk | LimitRatio, Some(param), Some(asked)) = (aggregate.op, param, &aggregate.param) {
        let mut series = series;
        match aggregate.op {
            Limitk => limit::first(&counts_of(param)?, &mut series, &groups),
            _ => limit::ratio(param, &mut series, annotations, asked.unwrapped().span)?,
        }
        series.retain(|one| !one.is_empty());
        return Ok(series);
    }
    if let (Topk | Bottomk, Some(param)) = (aggregate.op, param) {
        // Nothing is looked at where nothing is wanted.
        let is_wanted = |(step, _): &(usize, Arc<Native>)| param[*step] >= 1.0;
        if series.iter().any(|one| one.histograms.iter().any(is_wanted)) {
            annotations.ignored_in_aggregation(aggregate.op.name(), aggregate.span);
        }
        return choose(aggregate.op, param, series, &groups, steps);
    }
    let span = aggregate.inner.span;
    if !matches!(aggregate.op, Sum | Avg | Count | Group)
        && series.iter().any(|one| !one.histograms.is_empty())
    {
        annotations.ignored_in_aggregation(aggregate.op.name(), span);
    }
    let mut out = Vec::with_capacity(groups.len());
    for (labels, members) in groups {
        let columns: Vec<&Column> = members.iter().map(|at| &series[*at].values).collect();
        let values = match aggregate.op {
            Quantile => {
                let param = param.expect("the parser asks for one");
                quantiles(param, &columns)
            }
            op => folded(op, &columns, steps.count),
        };
        let mut one = Series::floats(labels, values);
        let members: Vec<&Series> = members.iter().map(|at| &series[*at]).collect();
        add_histograms(aggregate.op, &mut one, &members, annotations, span);
        out.push(one);
    }
    out.retain(|one| !one.is_empty());
    if let (Quantile, Some(param), Some(asked)) = (aggregate.op, param, &aggregate.param) {
        // Of all that are wrong, those that say most.
        let finite = || param.iter().copied().filter(|wanted| !wanted.is_nan());
        let worst = [finite().fold(f64::NEG_INFINITY, f64::max), finite().fold(f64::INFINITY, f64::min)];
        let nan = param.iter().copied().find(|wanted| wanted.is_nan());
        let wrong = nan.into_iter().chain(worst.into_iter().filter(|_| finite().next().is_some()));
        wrong.for_each(|wanted| annotations.check_quantile(wanted, asked.unwrapped().span));
    }
    Ok(out)
}

/// What the histograms of a group's members add to what its floats have given.
fn add_histograms(
    op: Aggregator,
    group: &mut Series,
    members: &[&Series],
    annotations: &Annotations<'_>,
    span: Span,
) {
    let mut steps: Vec<usize> =
        members.iter().flat_map(|one| one.histograms.iter().map(|(step, _)| *step)).collect();
    steps.sort_unstable();
    steps.dedup();
    for step in steps {
        let value = &mut group.values[step];
        let present = || members.iter().filter_map(|one| one.histogram(step));
        match op {
            Aggregator::Group => *value = 1.0,
            Aggregator::Count => {
                let floats = if is_absent(*value) { 0.0 } else { *value };
                *value = floats + present().count() as f64;
            }
            Aggregator::Sum | Aggregator::Avg => {
                if !is_absent(std::mem::replace(value, ABSENT)) {
                    annotations.mixed_aggregation(span);
                    continue;
                }
                match joint(op, members, step) {
                    Ok(Some(found)) => group.histograms.push((step, Arc::new(found))),
                    Ok(None) => {}
                    Err((why, name)) => annotations.remark(why.into(), &name, span),
                }
            }
            _ => {}
        }
    }
}

/// The sum or the mean; else why there is none, and the name of the metric that does not go with those before it.
fn joint(op: Aggregator, members: &[&Series], step: usize) -> Result<Option<Native>, (Incompatible, String)> {
    let joint = |count: usize| {
        let found = members.iter().filter_map(|one| one.histogram(step)).map(|found| &**found).take(count);
        if op == Aggregator::Sum { native::sum(found) } else { native::mean(found) }
    };
    joint(members.len()).map_err(|why| {
        let with_first = |count: usize| joint(count).is_err();
        let wrong = (1..=members.len()).find(|count| with_first(*count)).unwrap_or(1) - 1;
        let mut holders = members.iter().filter(|one| one.histogram(step).is_some());
        let name = holders.nth(wrong).and_then(|one| one.labels.get(NAME)).unwrap_or_default();
        (why, name.to_string())
    })
}

fn folded(op: Aggregator, columns: &[&Column], steps: usize) -> Column {
    match op {
        Aggregator::Sum => {
            let add = |sum: &mut Sum, value| sum.add(value);
            fold(columns, steps, Sum::new, add, |sum| sum.sum + sum.lost)
        }
        Aggregator::Avg => fold(columns, steps, Mean::new, Mean::add, Mean::mean),
        Aggregator::Count => fold(columns, steps, |_| 1.0, |count, _| *count += 1.0, |count| count),
        Aggregator::Group => fold(columns, steps, |_| 1.0, |_, _| {}, |one| one),
        Aggregator::Min => fold(columns, steps, |value| value, least, |value| value),
        Aggregator::Max => fold(columns, steps, |value| value, most, |value| value),
        Aggregator::Stddev => {
            fold(columns, steps, Spread::new, Spread::add, |spread| spread.variance().sqrt())
        }
        Aggregator::Stdvar => fold(columns, steps, Spread::new, Spread::add, Spread::variance),
        Aggregator::Topk
        | Aggregator::Bottomk
        | Aggregator::Quantile
        | Aggregator::CountValues
        | Aggregator::Limitk
        | Aggregator::LimitRatio => unreachable!("bug: {} has a parameter", op.name()),
    }
}

fn fold<T: Copy>(
    columns: &[&Column],
    steps: usize,
    new: impl Fn(f64) -> T,
    add: impl Fn(&mut T, f64),
    end: impl Fn(T) -> f64,
) -> Column {
    let mut states: Vec<Option<T>> = vec![None; steps];
    for column in columns {
        for (state, value) in states.iter_mut().zip(column.iter()) {
            if is_absent(*value) {
                continue;
            }
            match state {
                Some(state) => add(state, *value),
                None => *state = Some(new(*value)),
            }
        }
    }
    states.into_iter().map(|state| state.map_or(ABSENT, &end)).collect()
}

fn least(least: &mut f64, value: f64) {
    if value < *least || least.is_nan() {
        *least = value;
    }
}

fn most(most: &mut f64, value: f64) {
    if value > *most || most.is_nan() {
        *most = value;
    }
}

/// Count, mean and squares of differences (Welford).
#[derive(Clone, Copy)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn new(value: f64) -> Spread {
        Spread { count: 1.0, mean: value, squares: if value.is_finite() { 0.0 } else { f64::NAN } }
    }

    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    fn variance(self) -> f64 {
        self.squares / self.count
    }
}

fn quantiles(param: &Column, columns: &[&Column]) -> Column {
    let mut values = Vec::with_capacity(columns.len());
    let at_step = |(step, wanted): (usize, &f64)| {
        values.clear();
        values.extend(columns.iter().map(|column| column[step]).filter(|value| !is_absent(*value)));
        if values.is_empty() { ABSENT } else { quantile(*wanted, &mut values) }
    };
    param.iter().enumerate().map(at_step).collect()
}

/// `topk` and `bottomk`: at each step some of the series stay, with their labels. At a single step they come in order.
fn choose(
    op: Aggregator,
    param: &Column,
    mut series: Vec<Series>,
    groups: &[(TagSet, Vec<usize>)],
    steps: Steps,
) -> Result<Vec<Series>> {
    series.iter_mut().for_each(|one| one.histograms.clear());
    let counts = counts_of(param)?;
    let mut order = Vec::new();
    for (_, members) in groups {
        let mut ranked: Vec<usize> = Vec::with_capacity(members.len());
        for (step, wanted) in counts.iter().enumerate() {
            let value = |at: usize| series[at].values[step];
            ranked.clear();
            ranked.extend(members.iter().copied().filter(|at| !is_absent(value(*at))));
            // NaN comes last either way; equal values stay in the order of the series.
            ranked.sort_by(|a, b| {
                let (a, b) = (value(*a), value(*b));
                match op {
                    Aggregator::Topk => nan_first(b, a),
                    _ if a.is_nan() || b.is_nan() => nan_first(b, a),
                    _ => nan_first(a, b),
                }
            });
            for at in ranked.drain((*wanted).min(ranked.len())..) {
                series[at].values[step] = ABSENT;
            }
        }
        // Of a single step: the ranking itself.
        order.extend(ranked);
    }
    if steps.count > 1 {
        series.retain(|one| !one.is_empty());
        return Ok(series);
    }
    Ok(order.into_iter().map(|at| series[at].clone()).collect())
}

/// How many are wanted at each step.
fn counts_of(param: &Column) -> Result<Vec<usize>> {
    param.iter().map(|param| count_of(*param)).collect()
}

fn count_of(param: f64) -> Result<usize> {
    if param.is_nan() {
        return Err(failure("Parameter value is NaN"));
    }
    if param <= i64::MIN as f64 || param >= i64::MAX as f64 {
        return Err(failure(format!(
            "Scalar value {} overflows int64",
            crate::promql::print::number_g(param)
        )));
    }
    Ok(param.max(0.0) as usize)
}

/// `count_values`: a series per value, with the value as a label. The label is set before series are put into groups, so that series which
/// differ in nothing but what it replaces are counted together.
pub fn count_values(
    aggregate: &Aggregate,
    label: &[u8],
    series: Vec<Series>,
    steps: Steps,
) -> Result<Vec<Series>> {
    let Some(label) = std::str::from_utf8(label).ok().filter(|label| !label.is_empty()) else {
        return Err(failure(format!("invalid label name {}", crate::promql::print::quoted_bytes(label))));
    };
    let grouping = &aggregate.grouping;
    let is_grouped_away =
        grouping.without && (label == NAME || grouping.labels.iter().any(|name| name == label));
    let Groups(groups) = Groups::of(&series, &Choice::of(&aggregate.grouping));
    let mut out: Vec<Series> = Vec::new();
    let mut places: HashMap<TagSet, usize> = HashMap::new();
    for (labels, members) in groups {
        let mut place_of = |text: &str, out: &mut Vec<Series>| {
            let labels = if is_grouped_away { labels.clone() } else { with(&labels, label, text) };
            *places.entry(labels).or_insert_with_key(|labels| {
                out.push(Series::floats(labels.clone(), vec![ABSENT; steps.count]));
                out.len() - 1
            })
        };
        let count = |out: &mut [Series], place: usize, step: usize| {
            let count = &mut out[place].values[step];
            *count = if is_absent(*count) { 1.0 } else { *count + 1.0 };
        };
        // Most values come again and again, and their text is long work.
        let mut known: HashMap<u64, usize> = HashMap::new();
        for at in members {
            let values = series[at].values.iter().enumerate();
            for (step, value) in values.filter(|(_, value)| !is_absent(**value)) {
                let place =
                    known.entry(value.to_bits()).or_insert_with(|| place_of(&number_text(*value), &mut out));
                count(&mut out, *place, step);
            }
            for (step, histogram) in &series[at].histograms {
                let place = place_of(&histogram.to_string(), &mut out);
                count(&mut out, place, *step);
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(op: Aggregator, columns: &[&[f64]]) -> Vec<String> {
        let owned: Vec<Column> = columns.iter().map(|column| column.to_vec()).collect();
        let borrowed: Vec<&Column> = owned.iter().collect();
        let text = |value: f64| if is_absent(value) { "none".to_string() } else { number_text(value) };
        folded(op, &borrowed, owned[0].len()).into_iter().map(text).collect()
    }

    #[test]
    fn steps_without_samples_have_no_group() {
        let given: [&[f64]; 3] = [&[1.0, ABSENT, 2.0], &[3.0, ABSENT, f64::NAN], &[ABSENT; 3]];
        assert_eq!(columns(Aggregator::Sum, &given), ["4", "none", "NaN"]);
        assert_eq!(columns(Aggregator::Count, &given), ["2", "none", "2"]);
        assert_eq!(columns(Aggregator::Max, &given), ["3", "none", "2"]);
        assert_eq!(columns(Aggregator::Min, &given), ["1", "none", "2"]);
        assert_eq!(columns(Aggregator::Avg, &given), ["2", "none", "NaN"]);
        assert_eq!(columns(Aggregator::Stdvar, &given), ["1", "none", "NaN"]);
        assert_eq!(columns(Aggregator::Group, &given), ["1", "none", "1"]);
    }
}
