//! Evaluation: a tree and the samples of its selectors to values at all steps at once.
//!
//! Invariant: each selector is read once, series after series, however many steps there are; what is held in memory is counted against
//! the query's limit, and every loop over series asks whether anybody still waits.
//! Not here: single functions (`range`, `sample`, `buckets`), operators (`binary`, `aggregate`), where series are (`select`).

use std::collections::BTreeMap;

use parking_lot::Mutex;
use storage_format::point::TagSet;

use crate::error::Result;
use crate::guard::Guard;
use crate::promql::aggregate::{aggregate, count_values};
use crate::promql::annotations::Annotations;
use crate::promql::ast::{
    Aggregator, Binary, Expr, MatchTest, Matcher, Moved, Node, Selector, Side, Subquery, Type,
};
use crate::promql::binary;
use crate::promql::functions::{Function, WindowFunction, Work};
use crate::promql::labels::without_name;
use crate::promql::parse::NAME;
use crate::promql::range::RangeCall;
use crate::promql::select::{Selection, Source, append_samples};
use crate::promql::value::{
    ABSENT, Column, Run, Series, Steps, Value, Vector, is_absent, joined, refuse_same_labels, series_bytes,
};
use crate::promql::window::{Samples, Windows, drop_stale, nanos, seconds};
use crate::promql::{failure, vector_functions};
use crate::scan::{Part, Touched};

/// Between the steps of a subquery that names none: Prometheus' `evaluation_interval`.
const SUBQUERY_STEP: i64 = 60_000;

/// When a query is evaluated, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub steps: Steps,
    /// How far back a sample still counts as the newest.
    pub lookback: i64,
}

/// What every part of an evaluation can reach.
pub struct Evaluator<'a> {
    pub guard: &'a Guard,
    pub touched: &'a Touched,
    pub annotations: &'a Annotations<'a>,
    times: Times,
    /// By selector; taken when it is read.
    sources: Vec<Mutex<Vec<Source>>>,
}

/// A range vector before a function looks at it.
enum Ranges<'e> {
    Selector(&'e Selector),
    Subquery(&'e Subquery),
}

/// What each selector of a query reads, by its id.
pub fn selections(expr: &Expr, times: &Times) -> Vec<Selection> {
    let mut found = BTreeMap::new();
    collect(expr, times.steps, times, &mut found);
    found.into_values().collect()
}

fn collect(expr: &Expr, steps: Steps, times: &Times, found: &mut BTreeMap<usize, Selection>) {
    match &expr.node {
        Node::Selector(selector) => {
            let windows = times.windows(steps, &selector.moved, times.lookback);
            found.insert(
                selector.id,
                Selection { matchers: selector.matchers.clone(), range: windows.hull() },
            );
        }
        Node::Range { selector, range } => {
            let windows = times.windows(steps, &selector.moved, *range);
            found.insert(
                selector.id,
                Selection { matchers: selector.matchers.clone(), range: windows.hull() },
            );
        }
        Node::Subquery(subquery) => {
            let windows = times.windows(steps, &subquery.moved, subquery.range);
            collect(&subquery.inner, subquery_steps(subquery, &windows), times, found);
        }
        _ => expr.children().into_iter().for_each(|child| collect(child, steps, times, found)),
    }
}

impl Times {
    fn windows(&self, steps: Steps, moved: &Moved, length: i64) -> Windows {
        Windows::new(steps, moved, length, self.steps.start, self.steps.end())
    }
}

/// The steps at which the inside of a subquery is evaluated: multiples of its step within all of its windows.
fn subquery_steps(subquery: &Subquery, windows: &Windows) -> Steps {
    let step = subquery.step.unwrap_or(SUBQUERY_STEP);
    let from = windows.end(windows.steps.start).saturating_sub(windows.length);
    let to = windows.end(windows.steps.end());
    let mut start = step * (from / step);
    if start <= from {
        start = start.saturating_add(step);
    }
    if start > to {
        // No step lies in any window. One outside gives no samples in them either.
        return Steps { start, step, count: 1 };
    }
    Steps::range(start, to, step)
}

impl<'a> Evaluator<'a> {
    pub fn new(
        times: Times,
        sources: Vec<Vec<Source>>,
        guard: &'a Guard,
        touched: &'a Touched,
        annotations: &'a Annotations<'a>,
    ) -> Evaluator<'a> {
        Evaluator {
            guard,
            touched,
            annotations,
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
            Node::Selector(selector) => Value::Vector(self.newest(selector, steps, None)?),
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
                binary::vector_scalar(found, vector.series, &scalar, Side::Right)?
            }
            (Value::Scalar(scalar), Value::Vector(vector)) => {
                binary::vector_scalar(found, vector.series, &scalar, Side::Left)?
            }
            (Value::Vector(left), Value::Vector(right)) if found.op.is_set() => {
                binary::sets(found, left.series, right.series, steps.count)?
            }
            (Value::Vector(left), Value::Vector(right)) => {
                binary::vectors(found, left.series, right.series, steps.count)?
            }
            _ => unreachable!("bug: the checks let no string be an operand"),
        };
        Ok(Value::Vector(Vector::new(series, steps, self.guard)?))
    }

    fn call(&self, function: &Function, args: &[Expr], steps: Steps) -> Result<Value<'a>> {
        let series = match function.work {
            Work::Time => return Ok(Value::Scalar(steps.times().map(|time| time as f64 / 1e3).collect())),
            Work::Pi => return Ok(Value::Scalar(vec![std::f64::consts::PI; steps.count])),
            Work::Scalar => {
                return Ok(Value::Scalar(vector_functions::scalar(
                    &self.vector(&args[0], steps)?.series,
                    steps,
                )));
            }
            Work::Vector => {
                vec![Series { labels: TagSet::default(), values: self.scalar(&args[0], steps)? }]
            }
            Work::Timestamp => match &args[0].unwrapped().node {
                Node::Selector(selector) => {
                    let vector = self.newest(selector, steps, Some(seconds))?;
                    return Ok(Value::Vector(unnamed(vector)?));
                }
                _ => {
                    let vector = self.vector(&args[0], steps)?;
                    return Ok(Value::Vector(self.map(
                        vector,
                        |_, _, time| Some(time as f64 / 1e3),
                        steps,
                    )?));
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
                        let series = vec![Series { labels: TagSet::default(), values: now }];
                        Vector::new(series, steps, self.guard)?
                    }
                };
                let apply = |value, _, _| Some(crate::promql::sample::date(part, value));
                return Ok(Value::Vector(self.map(vector, apply, steps)?));
            }
            Work::Window(window) => return Ok(Value::Vector(self.window(window, args, steps)?)),
            Work::Absent => {
                let present = self.vector(&args[0], steps)?.series;
                absence(&args[0], &present, steps)
            }
            Work::AbsentOverTime => {
                let present = self.range(WindowFunction::Present, &args[0], &[], steps)?;
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
            Work::HistogramQuantile => vector_functions::histogram_quantile(self, args, steps)?,
            Work::HistogramFraction => vector_functions::histogram_fraction(self, args, steps)?,
        };
        Ok(Value::Vector(Vector::new(series, steps, self.guard)?))
    }

    /// Each sample by itself: by its value, the number and the time of its step. The name goes.
    fn map(
        &self,
        mut vector: Vector<'a>,
        mut apply: impl FnMut(f64, usize, i64) -> Option<f64>,
        steps: Steps,
    ) -> Result<Vector<'a>> {
        for series in &mut vector.series {
            for ((step, time), value) in steps.times().enumerate().zip(&mut series.values) {
                if !is_absent(*value) {
                    *value = apply(*value, step, time).unwrap_or(ABSENT);
                }
            }
        }
        unnamed(vector)
    }

    fn window(&self, function: WindowFunction, args: &[Expr], steps: Steps) -> Result<Vector<'a>> {
        let at = args
            .iter()
            .position(|arg| arg.returns() == Type::Matrix)
            .expect("the checks found a range vector");
        let others = args.iter().filter(|arg| arg.returns() != Type::Matrix);
        let params: Vec<Column> = others.map(|param| self.scalar(param, steps)).collect::<Result<_>>()?;
        if function == WindowFunction::DoubleExponentialSmoothing {
            for (param, name, short) in [(&params[0], "smoothing", "sf"), (&params[1], "trend", "tf")] {
                if let Some(wrong) = param.iter().find(|value| **value <= 0.0 || **value >= 1.0) {
                    let what = format!("invalid {name} factor. Expected: 0 < {short} < 1, got: {wrong:.6}");
                    return Err(failure(what));
                }
            }
        }
        let mut vector = self.range(function, &args[at], &params, steps)?;
        if function == WindowFunction::Quantile {
            for (step, quantile) in params[0].iter().enumerate() {
                if vector.series.iter().any(|series| !is_absent(series.values[step])) {
                    self.annotations.check_quantile(*quantile, args[0].span);
                }
            }
        }
        if function.keeps_name() {
            return Ok(vector);
        }
        let counts = matches!(function, WindowFunction::Rate | WindowFunction::Increase);
        for series in &mut vector.series {
            if counts {
                self.annotations.check_counter(series.labels.get(NAME).unwrap_or_default(), args[at].span);
            }
            series.labels = without_name(&series.labels);
        }
        refuse_same_labels(&vector.series)?;
        Ok(vector)
    }

    /// A column of so many steps must fit before any is made: `x[10y:1ms]` has more than any machine.
    fn affordable(&self, steps: Steps) -> Result<Steps> {
        let bytes = steps.count.saturating_mul(size_of::<f64>());
        let outcome = self.guard.reserve(bytes);
        self.guard.release(bytes);
        outcome.map(|()| steps)
    }

    /// A function over a range vector; names stay.
    fn range(
        &self,
        function: WindowFunction,
        arg: &Expr,
        params: &[Column],
        steps: Steps,
    ) -> Result<Vector<'a>> {
        let (ranges, moved, length) = ranges_of(arg);
        let windows = self.times.windows(steps, moved, length);
        let call = RangeCall { function, windows, params };
        match ranges {
            Ranges::Selector(selector) => self.read(selector, steps, &|times, values| {
                drop_stale(times, values);
                call.column(Samples { times, values })
            }),
            Ranges::Subquery(subquery) => {
                let inner_steps = self.affordable(subquery_steps(subquery, &windows))?;
                let inner = self.vector(&subquery.inner, inner_steps)?;
                let (mut times, mut values) = (Vec::new(), Vec::new());
                let mut series = Vec::with_capacity(inner.series.len());
                for one in &inner.series {
                    self.guard.check()?;
                    times.clear();
                    values.clear();
                    let present =
                        inner_steps.times().zip(&one.values).filter(|(_, value)| !is_absent(**value));
                    for (time, value) in present {
                        times.push(nanos(time));
                        values.push(*value);
                    }
                    let column = call.column(Samples { times: &times, values: &values });
                    series.push(Series { labels: one.labels.clone(), values: column });
                }
                series.retain(|one| !one.is_empty());
                Vector::new(series, steps, self.guard)
            }
        }
    }

    /// The newest sample of each series at each step; with `of_time`, that of its time.
    fn newest(
        &self,
        selector: &Selector,
        steps: Steps,
        of_time: Option<fn(i64) -> f64>,
    ) -> Result<Vector<'a>> {
        let windows = self.times.windows(steps, &selector.moved, self.times.lookback);
        self.read(selector, steps, &|times, values| {
            let samples = Samples { times, values };
            match of_time {
                None => windows.newest(samples, |row| values[row]),
                Some(of_time) => windows.newest(samples, |row| of_time(times[row])),
            }
        })
    }

    /// Reads a selector's series in parallel, each into one column. Sorted by labels; series without samples at any step go.
    fn read(
        &self,
        selector: &Selector,
        steps: Steps,
        column: &(dyn Fn(&mut Vec<i64>, &mut Vec<f64>) -> Column + Sync),
    ) -> Result<Vector<'a>> {
        let mut all: Vec<Series> = Vec::new();
        let sources = std::mem::take(&mut *self.sources[selector.id].lock());
        for source in sources {
            let (captured, names) = source.into_parts();
            let scan = captured.open_within(self.guard)?;
            let each = |found: &mut Found, part: Part<'_>| {
                for field in 0..names.len() {
                    found.times.clear();
                    found.values.clear();
                    append_samples(part.rows, field, &mut found.times, &mut found.values);
                    if found.times.is_empty() {
                        continue;
                    }
                    if !part.is_whole {
                        let bytes = found.times.len() * 16;
                        self.guard.reserve(bytes)?;
                        found.slice_bytes += bytes;
                        let slice = Slice {
                            labels: names.labels(field, part.tags),
                            times: found.times.clone(),
                            values: found.values.clone(),
                        };
                        found.slices.push(slice);
                        continue;
                    }
                    let values = column(&mut found.times, &mut found.values);
                    if values.iter().any(|value| !is_absent(*value)) {
                        self.guard.reserve(series_bytes(steps.count))?;
                        found.series.push(Series { labels: names.labels(field, part.tags), values });
                    }
                }
                Ok(())
            };
            let join = |mut a: Found, b: Found| {
                a.series.extend(b.series);
                a.slices.extend(b.slices);
                a.slice_bytes += b.slice_bytes;
                Ok(a)
            };
            let mut found = scan.fold_parts(self.guard, self.touched, Found::default, each, join)?;
            self.guard.release(found.series.len() * series_bytes(steps.count));
            found.join_slices(column);
            self.guard.release(found.slice_bytes);
            all.extend(found.series);
        }
        // Stable, so that of equal labels those of the table that comes first win.
        all.sort_by(|a, b| a.labels.as_bytes().cmp(b.labels.as_bytes()));
        all.dedup_by(|later, first| later.labels == first.labels);
        Vector::new(all, steps, self.guard)
    }

    /// All samples of a range vector at one time: what `query` answers for one.
    pub fn runs(&self, expr: &Expr, steps: Steps) -> Result<Vec<Run>> {
        let (ranges, moved, length) = ranges_of(expr);
        let windows = self.times.windows(steps, moved, length);
        let mut runs: Vec<Run> = match ranges {
            Ranges::Selector(selector) => {
                let gathered: Mutex<Vec<Run>> = Mutex::default();
                let sources = std::mem::take(&mut *self.sources[selector.id].lock());
                for source in sources {
                    let (captured, names) = source.into_parts();
                    let scan = captured.open_within(self.guard)?;
                    scan.for_each(self.guard, |tags, rows| {
                        for field in 0..names.len() {
                            let (mut times, mut values) = (Vec::new(), Vec::new());
                            append_samples(&rows, field, &mut times, &mut values);
                            drop_stale(&mut times, &mut values);
                            self.guard.reserve(times.len() * 16)?;
                            let samples =
                                times.iter().map(|time| time.div_euclid(1_000_000)).zip(values).collect();
                            gathered.lock().push(Run { labels: names.labels(field, tags), samples });
                        }
                        Ok(())
                    })?;
                }
                gathered.into_inner()
            }
            Ranges::Subquery(subquery) => {
                let inner_steps = self.affordable(subquery_steps(subquery, &windows))?;
                let inner = self.vector(&subquery.inner, inner_steps)?;
                let run = |series: &Series| {
                    let samples = inner_steps.times().zip(series.values.iter().copied());
                    let first = windows.end(steps.start).saturating_sub(windows.length);
                    let inside = |(time, value): &(i64, f64)| !is_absent(*value) && *time > first;
                    Run { labels: series.labels.clone(), samples: samples.filter(inside).collect() }
                };
                inner.series.iter().map(run).collect()
            }
        };
        runs.sort_by(|a, b| a.labels.as_bytes().cmp(b.labels.as_bytes()));
        // Slices of a long series, one after the other.
        runs.dedup_by(|later, first| {
            let same = later.labels == first.labels;
            if same && first.samples.last() < later.samples.first() {
                first.samples.append(&mut later.samples);
            }
            same
        });
        runs.retain(|run| !run.samples.is_empty());
        Ok(runs)
    }
}

/// What a task has read.
#[derive(Default)]
struct Found {
    series: Vec<Series>,
    slices: Vec<Slice>,
    slice_bytes: usize,
    times: Vec<i64>,
    values: Vec<f64>,
}

/// Samples of a long series that are not all of it.
struct Slice {
    labels: TagSet,
    times: Vec<i64>,
    values: Vec<f64>,
}

impl Found {
    fn join_slices(&mut self, column: &(dyn Fn(&mut Vec<i64>, &mut Vec<f64>) -> Column + Sync)) {
        let mut slices = std::mem::take(&mut self.slices);
        slices.sort_by(|a, b| a.labels.as_bytes().cmp(b.labels.as_bytes()).then(a.times[0].cmp(&b.times[0])));
        let mut slices = slices.into_iter().peekable();
        while let Some(mut whole) = slices.next() {
            while let Some(next) = slices.next_if(|next| next.labels == whole.labels) {
                whole.times.extend(next.times);
                whole.values.extend(next.values);
            }
            let values = column(&mut whole.times, &mut whole.values);
            self.series.push(Series { labels: whole.labels, values });
        }
        self.series.retain(|one| !one.is_empty());
    }
}

fn ranges_of(arg: &Expr) -> (Ranges<'_>, &Moved, i64) {
    match &arg.unwrapped().node {
        Node::Range { selector, range } => (Ranges::Selector(selector), &selector.moved, *range),
        Node::Subquery(subquery) => (Ranges::Subquery(subquery), &subquery.moved, subquery.range),
        _ => unreachable!("bug: the checks found a range vector here"),
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
    let mut labels: BTreeMap<&str, &str> = BTreeMap::new();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in matchers.iter().filter(|matcher| matcher.label != NAME) {
        // A label that is asked twice, or in any other way, is not known.
        if matcher.test == MatchTest::Equal && !seen.contains(&matcher.label.as_str()) {
            labels.insert(&matcher.label, &matcher.value);
            seen.push(&matcher.label);
        } else {
            labels.remove(matcher.label.as_str());
        }
    }
    let is_absent_at = |step: usize| present.iter().all(|series| is_absent(series.values[step]));
    let values = (0..steps.count).map(|step| if is_absent_at(step) { 1.0 } else { ABSENT }).collect();
    let one = Series { labels: TagSet::new(labels), values };
    if one.is_empty() { Vec::new() } else { vec![one] }
}
