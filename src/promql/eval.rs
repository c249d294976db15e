//! Evaluation: a tree and the samples of its selectors to values at all steps at once.
//!
//! Invariant: each selector is read once, series after series, however many steps there are; what is held in memory is counted against
//! the query's limit, and every loop over series asks whether anybody still waits.
//! Not here: single functions (`range`, `sample`, `buckets`), operators (`binary`, `aggregate`), how samples are read (`eval/read.rs`).

mod extended; // selectors that look beyond their windows
mod info; // labels of info series
mod newest; // for `/federate`
mod read; // samples of selectors and subqueries
mod times; // when a query looks at what

pub use info::complete as complete_infos;
pub use newest::{Newest, Sample};
use times::subquery_steps;
pub use times::{Times, selections};

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use storage_format::point::{TagSet, Time};

use crate::error::Result;
use crate::guard::Guard;
use crate::promql::aggregate::{aggregate, count_values};
use crate::promql::annotations::Annotations;
use crate::promql::arithmetic;
use crate::promql::ast::{
    Aggregator, Binary, Expr, Extension, MatchTest, Matcher, Node, Selector, Side, Span, Type,
};
use crate::promql::binary;
use crate::promql::check::matches_empty;
use crate::promql::counts::Counts;
use crate::promql::functions::{Function, HistogramFunction, WindowFunction, Work};
use crate::promql::labels::without_name;
use crate::promql::native::Native;
use crate::promql::parse::NAME;
use crate::promql::select::Source;
use crate::promql::value::{
    ABSENT, Column, Series, Steps, Value, Vector, is_absent, joined, refuse_same_labels,
};
use crate::promql::window::seconds;
use crate::promql::{histograms, vector_functions};
use crate::scan::Touched;

/// What every part of an evaluation can reach.
pub struct Evaluator<'a> {
    pub guard: &'a Guard,
    pub touched: &'a Touched,
    pub annotations: &'a Annotations<'a>,
    counts: &'a Counts,
    times: Times,
    /// By selector; taken when it is read.
    sources: Vec<Mutex<Vec<Source>>>,
}

impl<'a> Evaluator<'a> {
    pub fn new(
        times: Times,
        sources: Vec<Vec<Source>>,
        guard: &'a Guard,
        touched: &'a Touched,
        annotations: &'a Annotations<'a>,
        counts: &'a Counts,
    ) -> Evaluator<'a> {
        Evaluator {
            guard,
            touched,
            annotations,
            counts,
            times,
            sources: sources.into_iter().map(Mutex::new).collect(),
        }
    }

    pub fn eval(&self, expr: &Expr, steps: Steps) -> Result<Value<'a>> {
        self.guard.check()?;
        Ok(match &expr.node {
            Node::Number { value, .. } => Value::Scalar(vec![*value; steps.count]),
            Node::Text(text) => Value::Text(text.clone()),
            Node::Paren(inner) => self.eval(inner, steps)?,
            Node::Selector(selector) => Value::Vector(match selector.extension {
                Some(Extension::Smoothed) => self.smoothed(selector, steps)?,
                // The newest sample is where the window is anchored.
                Some(Extension::Anchored) | None => self.newest(selector, steps, None)?,
            }),
            Node::Range { .. } | Node::Subquery(_) => {
                unreachable!("bug: the checks let a range vector stand only where a function takes it")
            }
            Node::Unary { negative, operand } => self.unary(*negative, operand, steps)?,
            Node::Binary(binary) => self.binary(binary, steps)?,
            Node::Aggregate(found) => {
                let vector = self.vector(&found.inner, steps)?;
                let series = match (&found.param, found.op) {
                    (Some(param), Aggregator::CountValues) => {
                        count_values(found, &self.text(param, steps)?, vector.series, steps)?
                    }
                    (param, _) => {
                        let param = param.as_ref().map(|param| self.scalar(param, steps)).transpose()?;
                        aggregate(found, param.as_ref(), vector.series, steps, self.annotations)?
                    }
                };
                Value::Vector(Vector::new(series, steps, self.guard)?)
            }
            Node::Call { function, args } => self.call(function, args, steps)?,
        })
    }

    pub fn vector(&self, expr: &Expr, steps: Steps) -> Result<Vector<'a>> {
        match self.eval(expr, steps)? {
            Value::Vector(vector) => Ok(vector),
            _ => unreachable!("bug: the checks found a vector here"),
        }
    }

    pub fn scalar(&self, expr: &Expr, steps: Steps) -> Result<Column> {
        match self.eval(expr, steps)? {
            Value::Scalar(column) => Ok(column),
            _ => unreachable!("bug: the checks found a scalar here"),
        }
    }

    pub fn text(&self, expr: &Expr, steps: Steps) -> Result<Vec<u8>> {
        match self.eval(expr, steps)? {
            Value::Text(text) => Ok(text),
            _ => unreachable!("bug: the checks found a string here"),
        }
    }

    fn unary(&self, negative: bool, operand: &Expr, steps: Steps) -> Result<Value<'a>> {
        let value = self.eval(operand, steps)?;
        Ok(match value {
            value if !negative => value,
            Value::Scalar(column) => Value::Scalar(column.into_iter().map(|value| -value).collect()),
            Value::Vector(mut vector) => {
                for series in &mut vector.series {
                    series.labels = without_name(&series.labels);
                    series
                        .values
                        .iter_mut()
                        .filter(|value| !is_absent(**value))
                        .for_each(|value| *value = -*value);
                    series.histograms.iter_mut().for_each(|(_, histogram)| {
                        Arc::make_mut(histogram).multiply(-1.0);
                    });
                }
                refuse_same_labels(&vector.series)?;
                Value::Vector(vector)
            }
            Value::Text(_) => unreachable!("bug: the checks let no string be negated"),
        })
    }

    fn binary(&self, found: &Binary, steps: Steps) -> Result<Value<'a>> {
        let (left, right) = (self.eval(&found.left, steps)?, self.eval(&found.right, steps)?);
        let series = match (left, right) {
            (Value::Scalar(left), Value::Scalar(right)) => {
                return Ok(Value::Scalar(binary::scalars(found.op, &left, &right)));
            }
            (Value::Vector(vector), Value::Scalar(scalar)) => {
                binary::vector_scalar(found, vector.series, &scalar, Side::Right, self.annotations)?
            }
            (Value::Scalar(scalar), Value::Vector(vector)) => {
                binary::vector_scalar(found, vector.series, &scalar, Side::Left, self.annotations)?
            }
            (Value::Vector(left), Value::Vector(right)) if found.op.is_set() => {
                binary::sets(found, left.series, right.series, steps.count)?
            }
            (Value::Vector(left), Value::Vector(right)) => {
                binary::vectors(found, left.series, right.series, steps.count, self.annotations)?
            }
            _ => unreachable!("bug: the checks let no string be an operand"),
        };
        Ok(Value::Vector(Vector::new(series, steps, self.guard)?))
    }

    fn call(&self, function: &Function, args: &[Expr], steps: Steps) -> Result<Value<'a>> {
        let series = match function.work {
            Work::Time => return Ok(Value::Scalar(steps.times().map(|time| time as f64 / 1e3).collect())),
            Work::Pi => return Ok(Value::Scalar(vec![std::f64::consts::PI; steps.count])),
            Work::Asked(part) => return Ok(Value::Scalar(vec![self.times.part(part); steps.count])),
            Work::Pick { larger } => {
                let (left, right) = (self.scalar(&args[0], steps)?, self.scalar(&args[1], steps)?);
                let pick = if larger { arithmetic::larger } else { arithmetic::smaller };
                return Ok(Value::Scalar(
                    left.into_iter().zip(right).map(|(left, right)| pick(left, right)).collect(),
                ));
            }
            Work::Scalar => {
                return Ok(Value::Scalar(vector_functions::scalar(
                    &self.vector(&args[0], steps)?.series,
                    steps,
                )));
            }
            Work::Vector => {
                vec![Series::floats(TagSet::default(), self.scalar(&args[0], steps)?)]
            }
            Work::Timestamp => match &args[0].unwrapped().node {
                Node::Selector(selector) => {
                    let vector = self.newest(selector, steps, Some(seconds))?;
                    return Ok(Value::Vector(unnamed(vector)?));
                }
                _ => {
                    let vector = self.vector(&args[0], steps)?;
                    return Ok(Value::Vector(self.step_times(vector, steps)?));
                }
            },
            Work::Sample(function) => {
                let vector = self.vector(&args[0], steps)?;
                let params: Vec<Column> =
                    args[1..].iter().map(|param| self.scalar(param, steps)).collect::<Result<_>>()?;
                let mut at_step = vec![0.0; params.len()];
                let apply = |value, step: usize, _| {
                    at_step.iter_mut().zip(&params).for_each(|(at, param)| *at = param[step]);
                    crate::promql::sample::apply(function, value, &at_step)
                };
                return Ok(Value::Vector(self.map(vector, apply, steps)?));
            }
            Work::Date(part) => {
                let vector = match args.first() {
                    Some(arg) => self.vector(arg, steps)?,
                    None => {
                        let now = steps.times().map(|time| time as f64 / 1e3).collect();
                        let series = vec![Series::floats(TagSet::default(), now)];
                        Vector::new(series, steps, self.guard)?
                    }
                };
                let apply = |value, _, _| Some(crate::promql::sample::date(part, value));
                return Ok(Value::Vector(self.map(vector, apply, steps)?));
            }
            Work::Histogram(function) => {
                let vector = self.vector(&args[0], steps)?;
                return Ok(Value::Vector(self.map_histograms(vector, of_histogram(function))?));
            }
            Work::Window(window) => {
                return Ok(Value::Vector(self.window((window, function.name), args, steps)?));
            }
            Work::Absent => {
                let present = self.vector(&args[0], steps)?.series;
                absence(&args[0], &present, steps)
            }
            Work::AbsentOverTime => {
                if let Some((_, extension, _)) = extended_selector(&args[0]) {
                    return Err(extended::refuse(extension, function.name));
                }
                let present = self.range(WindowFunction::Present, &args[0], &[], args[0].span, steps)?;
                let present: Vec<Series> = present.series;
                absence(&args[0], &present, steps)
            }
            Work::LabelReplace => vector_functions::label_replace(self, args, steps)?,
            Work::LabelJoin => vector_functions::label_join(self, args, steps)?,
            Work::Sort { descending } => {
                vector_functions::sort(self.vector(&args[0], steps)?.series, descending, steps)
            }
            Work::SortByLabel { descending } => {
                vector_functions::sort_by_label(self, args, descending, steps)?
            }
            Work::HistogramQuantile => histograms::quantile(self, args, steps)?,
            Work::HistogramQuantiles => histograms::quantiles(self, args, steps)?,
            Work::HistogramFraction => histograms::fraction(self, args, steps)?,
            Work::Info => info::enrich(self, args, steps)?,
        };
        Ok(Value::Vector(Vector::new(series, steps, self.guard)?))
    }

    /// Each float by itself: by its value, the number and the time of its step. Histograms and the name go.
    fn map(
        &self,
        mut vector: Vector<'a>,
        mut apply: impl FnMut(f64, usize, i64) -> Option<f64>,
        steps: Steps,
    ) -> Result<Vector<'a>> {
        for series in &mut vector.series {
            series.histograms.clear();
            for ((step, time), value) in steps.times().enumerate().zip(&mut series.values) {
                if !is_absent(*value) {
                    *value = apply(*value, step, time).unwrap_or(ABSENT);
                }
            }
        }
        unnamed(vector)
    }

    /// The time of the step instead of each sample. The name goes.
    fn step_times(&self, mut vector: Vector<'a>, steps: Steps) -> Result<Vector<'a>> {
        let mut present = Vec::new();
        for series in &mut vector.series {
            present.clear();
            present.resize(steps.count, false);
            series.mark(&mut present);
            series.histograms.clear();
            for ((value, time), present) in series.values.iter_mut().zip(steps.times()).zip(&present) {
                if *present {
                    *value = time as f64 / 1e3;
                }
            }
        }
        unnamed(vector)
    }

    /// Each histogram by itself, to a float. Floats and the name go.
    fn map_histograms(&self, mut vector: Vector<'a>, apply: fn(&Native) -> f64) -> Result<Vector<'a>> {
        for series in &mut vector.series {
            series.values.fill(ABSENT);
            for (step, histogram) in std::mem::take(&mut series.histograms) {
                series.values[step] = apply(&histogram);
            }
        }
        unnamed(vector)
    }

    fn window(
        &self,
        (function, name): (WindowFunction, &str),
        args: &[Expr],
        steps: Steps,
    ) -> Result<Vector<'a>> {
        let at = args
            .iter()
            .position(|arg| arg.returns() == Type::Matrix)
            .expect("the checks found a range vector");
        let others = args.iter().filter(|arg| arg.returns() != Type::Matrix);
        let params: Vec<Column> = others.map(|param| self.scalar(param, steps)).collect::<Result<_>>()?;
        let span = said_span(&args[0]);
        let mut vector = match extended_selector(&args[at]) {
            Some((selector, extension, length)) => {
                self.extended_range((function, name), (selector, extension), length, steps)?
            }
            None => self.range(function, &args[at], &params, span, steps)?,
        };
        if function == WindowFunction::Quantile {
            for (step, quantile) in params[0].iter().enumerate() {
                if vector.series.iter().any(|series| !is_absent(series.values[step])) {
                    self.annotations.check_quantile(*quantile, span);
                }
            }
        }
        if function.keeps_name() {
            return Ok(vector);
        }
        let counts = matches!(function, WindowFunction::Rate | WindowFunction::Increase);
        for series in &mut vector.series {
            let has_floats =
                series.histograms.is_empty() || series.values.iter().any(|value| !is_absent(*value));
            if counts && has_floats {
                self.annotations.check_counter(series.labels.get(NAME).unwrap_or_default(), span);
            }
            series.labels = without_name(&series.labels);
        }
        refuse_same_labels(&vector.series)?;
        Ok(vector)
    }
}

/// The selector of a range with a modifier, and its length.
fn extended_selector(arg: &Expr) -> Option<(&Selector, Extension, i64)> {
    match &arg.unwrapped().node {
        Node::Range { selector, range } => Some((selector, selector.extension?, *range)),
        _ => None,
    }
}

/// A time as a value.
fn milliseconds(time: Time) -> f64 {
    time.div_euclid(1_000_000) as f64
}

/// What Prometheus names as the place of a function's argument: without parentheses, and of a subquery it knows none.
pub fn said_span(arg: &Expr) -> Span {
    match arg.unwrapped() {
        Expr { node: Node::Subquery(_), .. } => Span::default(),
        bare => bare.span,
    }
}

fn of_histogram(function: HistogramFunction) -> fn(&Native) -> f64 {
    match function {
        HistogramFunction::Avg => Native::mean,
        HistogramFunction::Count => |histogram| histogram.count,
        HistogramFunction::Sum => |histogram| histogram.sum,
        HistogramFunction::Stddev => |histogram| histogram.variance().sqrt(),
        HistogramFunction::Stdvar => Native::variance,
    }
}

/// Names go; series that then look the same may not meet.
fn unnamed(mut vector: Vector<'_>) -> Result<Vector<'_>> {
    vector.series.iter_mut().for_each(|series| series.labels = without_name(&series.labels));
    let series = joined(std::mem::take(&mut vector.series))?;
    Ok(vector.replaced(series))
}

/// One series of ones where nothing else is, with the labels that the selector asks to be equal to something.
fn absence(arg: &Expr, present: &[Series], steps: Steps) -> Vec<Series> {
    let matchers: &[Matcher] = match &arg.node {
        Node::Selector(selector) | Node::Range { selector, .. } => &selector.matchers,
        _ => &[],
    };
    // Prometheus' storage has put those last that take series away from all.
    let takes_away = |matcher: &&Matcher| {
        matches!(matcher.test, MatchTest::NotEqual | MatchTest::NotMatches) && matches_empty(matcher)
    };
    let (last, first): (Vec<&Matcher>, Vec<&Matcher>) =
        matchers.iter().filter(|matcher| matcher.label != NAME).partition(takes_away);
    let mut labels: BTreeMap<&str, &str> = BTreeMap::new();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in first.into_iter().chain(last) {
        // A label that is asked twice, or in any other way, is not known.
        if matcher.test == MatchTest::Equal && !seen.contains(&matcher.label.as_str()) {
            labels.insert(&matcher.label, &matcher.value);
            seen.push(&matcher.label);
        } else {
            labels.remove(matcher.label.as_str());
        }
    }
    let is_absent_at = |step: usize| present.iter().all(|series| !series.is_at(step));
    let values = (0..steps.count).map(|step| if is_absent_at(step) { 1.0 } else { ABSENT }).collect();
    let one = Series::floats(TagSet::new(labels), values);
    if one.is_empty() { Vec::new() } else { vec![one] }
}
