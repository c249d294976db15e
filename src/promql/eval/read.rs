//! Samples of selectors and subqueries: read series after series, each to one value per step.
//!
//! Invariant: a series of which only a part was read at once is put together before anything is computed from it.

use std::sync::Arc;

use parking_lot::Mutex;
use storage_format::point::{TagSet, Time};

use crate::error::Result;
use crate::promql::ast::{Expr, Moved, Node, Selector, Span, Subquery};
use crate::promql::eval::{Evaluator, subquery_steps};
use crate::promql::failure;
use crate::promql::functions::WindowFunction;
use crate::promql::native::Native;
use crate::promql::range::{About, RangeCall};
use crate::promql::select::Source;
use crate::promql::value::{
    Column, Histograms, Run, Series, Steps, Vector, histograms_bytes, is_absent, series_bytes,
};
use crate::promql::window::{Track, drop_stale, nanos};
use crate::scan::Part;

/// A range vector before a function looks at it.
enum Ranges<'e> {
    Selector(&'e Selector),
    Subquery(&'e Subquery),
}

/// What is made of a series' samples, of which the labels are made when they are needed.
type Make<'f> = dyn Fn(&mut Track, &dyn Fn() -> TagSet) -> (Column, Histograms) + Sync + 'f;

impl<'a> Evaluator<'a> {
    /// A column of so many steps must fit before any is made: `x[10y:1ms]` has more than any machine.
    fn affordable(&self, steps: Steps) -> Result<Steps> {
        let bytes = steps.count.saturating_mul(size_of::<f64>());
        let outcome = self.guard.reserve(bytes);
        self.guard.release(bytes);
        outcome.map(|()| steps)
    }

    /// A function over a range vector; names stay. `span` is where the query is said to be at fault.
    pub(super) fn range(
        &self,
        function: WindowFunction,
        arg: &Expr,
        params: &[Column],
        span: Span,
        steps: Steps,
    ) -> Result<Vector<'a>> {
        let (ranges, moved, length) = ranges_of(arg);
        let windows = self.times.windows(steps, moved, length);
        let call = RangeCall::new(function, windows, params);
        let (annotations, counts) = (self.annotations, self.counts);
        let make = |track: &mut Track, labels: &dyn Fn() -> TagSet| {
            if !track.histograms.is_empty() {
                let mut points = track.points();
                points.drop_stale();
                counts.mixed_windows(&windows, &points);
                return call.mixed_column(&points, About { annotations, span, labels });
            }
            drop_stale(&mut track.times, &mut track.values);
            counts.windows(&windows, track.samples());
            (call.column(track.samples()), Histograms::new())
        };
        let vector = match ranges {
            Ranges::Selector(selector) => self.read(selector, steps, &make, Some(&call)),
            Ranges::Subquery(subquery) => {
                let inner_steps = self.affordable(subquery_steps(subquery, &windows))?;
                let inner = counts.inside(|| self.vector(&subquery.inner, inner_steps))?;
                let mut track = Track::default();
                let mut series = Vec::with_capacity(inner.series.len());
                for one in &inner.series {
                    self.guard.check()?;
                    of_steps(&mut track, one, inner_steps);
                    let (values, histograms) = make(&mut track, &|| one.labels.clone());
                    series.push(Series { labels: one.labels.clone(), values, histograms });
                }
                series.retain(|one| !one.is_empty());
                Vector::new(series, steps, self.guard)
            }
        }?;
        match call.refused.into_inner() {
            Some(why) => Err(failure(why)),
            None => Ok(vector),
        }
    }

    /// The newest sample of each series at each step; with `of_time`, that of its time.
    pub(super) fn newest(
        &self,
        selector: &Selector,
        steps: Steps,
        of_time: Option<fn(Time) -> f64>,
    ) -> Result<Vector<'a>> {
        let windows = self.times.windows(steps, &selector.moved, self.times.lookback);
        self.read(
            selector,
            steps,
            &|track, _| {
                let samples = track.samples();
                let is_mixed = !track.histograms.is_empty();
                let found = match of_time {
                    None if is_mixed => windows.newest_point(&track.points()),
                    Some(of_time) if is_mixed => {
                        (windows.newest_time(&track.points(), of_time), Histograms::new())
                    }
                    None => (windows.newest(samples, |row| samples.values[row]), Histograms::new()),
                    Some(of_time) => {
                        (windows.newest(samples, |row| of_time(samples.times[row])), Histograms::new())
                    }
                };
                self.counts.newest(&found.0, &found.1);
                found
            },
            None,
        )
    }

    /// Reads a selector's series in parallel, each into one column. Sorted by labels; series without samples at any step go.
    /// `call` is what `make` makes of windows, if that can be had of states as well.
    pub(super) fn read(
        &self,
        selector: &Selector,
        steps: Steps,
        make: &Make<'_>,
        call: Option<&RangeCall<'_>>,
    ) -> Result<Vector<'a>> {
        let mut all: Vec<Series> = Vec::new();
        let sources = std::mem::take(&mut *self.sources[selector.id].lock());
        for source in sources {
            let Source { mut captured, names, stated } = source;
            if let Some((stated, call)) = stated.zip(call) {
                match stated.columns(call, captured, self.counts, self.guard, self.touched)? {
                    Ok(made) => {
                        let series = made.into_iter();
                        all.extend(
                            series.map(|(tags, column)| Series::floats(names.labels(0, &tags), column)),
                        );
                        continue;
                    }
                    Err(points) => captured = points,
                }
            }
            let scan = captured.open_within(self.guard)?;
            let each = |found: &mut Found, part: Part<'_>| {
                for field in 0..names.len() {
                    names.fill(&mut found.track, field, part.rows)?;
                    if found.track.is_empty() {
                        continue;
                    }
                    if selector.totals_only {
                        found.track.drop_buckets();
                    }
                    // Decoded histograms are many times larger than what they were read from.
                    let decoded =
                        if found.track.histograms.is_empty() { 0 } else { found.track.heap_bytes() };
                    self.guard.reserve(decoded)?;
                    let labels = || names.labels(field, part.tags);
                    if part.is_whole {
                        let made = make(&mut found.track, &labels);
                        found.add(made, &labels, steps, self)?;
                        self.guard.release(decoded);
                    } else {
                        self.guard.reserve(found.track.heap_bytes() - decoded)?;
                        found.slice_bytes += found.track.heap_bytes();
                        found
                            .slices
                            .push(Slice { labels: labels(), track: std::mem::take(&mut found.track) });
                    }
                }
                Ok(())
            };
            let join = |mut a: Found, b: Found| {
                a.series.extend(b.series);
                a.slices.extend(b.slices);
                a.series_bytes += b.series_bytes;
                a.slice_bytes += b.slice_bytes;
                Ok(a)
            };
            let mut found = scan.fold_parts(self.guard, self.touched, Found::default, each, join)?;
            self.guard.release(found.series_bytes);
            found.join_slices(make);
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
                    let Source { captured, names, .. } = source;
                    let scan = captured.open_within(self.guard)?;
                    scan.for_each(self.guard, |tags, rows| {
                        for field in 0..names.len() {
                            let mut track = Track::default();
                            names.fill(&mut track, field, &rows)?;
                            self.guard.reserve(track.heap_bytes())?;
                            gathered.lock().push(run_of(names.labels(field, tags), track));
                        }
                        Ok(())
                    })?;
                }
                let runs = gathered.into_inner();
                runs.iter().for_each(|run| self.counts.run(run));
                runs
            }
            Ranges::Subquery(subquery) => {
                let inner_steps = self.affordable(subquery_steps(subquery, &windows))?;
                let inner = self.counts.inside(|| self.vector(&subquery.inner, inner_steps))?;
                let first = windows.end(steps.start).saturating_sub(windows.length);
                let run = |series: &Series| {
                    let mut track = Track::default();
                    of_steps(&mut track, series, inner_steps);
                    let mut run = run_of(series.labels.clone(), track);
                    run.samples.retain(|(time, _)| *time > first);
                    run.histograms.retain(|(time, _)| *time > first);
                    run
                };
                inner.series.iter().map(run).collect()
            }
        };
        runs.sort_by(|a, b| a.labels.as_bytes().cmp(b.labels.as_bytes()));
        // Slices of a long series, one after the other.
        runs.dedup_by(|later, first| {
            let same = later.labels == first.labels;
            if same && first.last_time() < later.first_time() {
                first.samples.append(&mut later.samples);
                first.histograms.append(&mut later.histograms);
            }
            same
        });
        runs.retain(|run| run.first_time().is_some());
        Ok(runs)
    }
}

/// What a task has read.
#[derive(Default)]
struct Found {
    series: Vec<Series>,
    series_bytes: usize,
    slices: Vec<Slice>,
    slice_bytes: usize,
    track: Track,
}

/// Samples of a long series that are not all of it.
struct Slice {
    labels: TagSet,
    track: Track,
}

impl Found {
    fn add(
        &mut self,
        (values, histograms): (Column, Histograms),
        labels: &dyn Fn() -> TagSet,
        steps: Steps,
        evaluator: &Evaluator<'_>,
    ) -> Result<()> {
        if histograms.is_empty() && values.iter().all(|value| is_absent(*value)) {
            return Ok(());
        }
        let bytes = series_bytes(steps.count) + histograms_bytes(&histograms);
        evaluator.guard.reserve(bytes)?;
        self.series_bytes += bytes;
        self.series.push(Series { labels: labels(), values, histograms });
        Ok(())
    }

    fn join_slices(&mut self, make: &Make<'_>) {
        let mut slices = std::mem::take(&mut self.slices);
        let start = |slice: &Slice| slice.track.first_time();
        slices.sort_by(|a, b| a.labels.as_bytes().cmp(b.labels.as_bytes()).then(start(a).cmp(&start(b))));
        let mut slices = slices.into_iter().peekable();
        while let Some(mut whole) = slices.next() {
            while let Some(next) = slices.next_if(|next| next.labels == whole.labels) {
                whole.track.append(next.track);
            }
            let (values, histograms) = make(&mut whole.track, &|| whole.labels.clone());
            self.series.push(Series { labels: whole.labels, values, histograms });
        }
        self.series.retain(|one| !one.is_empty());
    }
}

/// The samples of a series of a subquery, by the times of its steps.
fn of_steps(track: &mut Track, series: &Series, steps: Steps) {
    track.clear();
    for (time, value) in steps.times().zip(&series.values).filter(|(_, value)| !is_absent(**value)) {
        track.times.push(nanos(time));
        track.values.push(*value);
    }
    let time = |step: usize| nanos(steps.start + steps.step * step as i64);
    let histograms = series.histograms.iter();
    track.histograms.extend(histograms.map(|(step, histogram)| (time(*step), Some(Arc::clone(histogram)))));
}

fn run_of(labels: TagSet, mut track: Track) -> Run {
    drop_stale(&mut track.times, &mut track.values);
    let millis = |time: &Time| time.div_euclid(1_000_000);
    let histogram = |(time, histogram): (Time, Option<Arc<Native>>)| Some((millis(&time), histogram?));
    Run {
        labels,
        samples: track.times.iter().map(millis).zip(track.values).collect(),
        histograms: track.histograms.into_iter().filter_map(histogram).collect(),
    }
}

fn ranges_of(arg: &Expr) -> (Ranges<'_>, &Moved, i64) {
    match &arg.unwrapped().node {
        Node::Range { selector, range } => (Ranges::Selector(selector), &selector.moved, *range),
        Node::Subquery(subquery) => (Ranges::Subquery(subquery), &subquery.moved, subquery.range),
        _ => unreachable!("bug: the checks found a range vector here"),
    }
}
