//! Functions of windows that hold native histograms.
//!
//! Invariant: a window of floats alone gives what it gives without histograms elsewhere in its series. Where floats and histograms stand in
//! one window, it is said whenever something is left out.

use std::sync::Arc;

use storage_format::point::Time;

use crate::promql::annotations::Remark;
use crate::promql::functions::WindowFunction;
use crate::promql::native::{self, Incompatible, Native, ResetHint};
use crate::promql::parse::NAME;
use crate::promql::range::{About, RangeCall, Reach, Resets, Window};
use crate::promql::value::{Column, Histograms};
use crate::promql::window::{Point, Points, Samples, nanos, seconds};

/// The points of one step's window, of which there is at least one, and the floats and histograms among them.
struct Mixed<'a> {
    times: &'a [Time],
    points: &'a [Point],
    float_times: Vec<Time>,
    floats: Vec<f64>,
    histogram_times: Vec<Time>,
    histograms: Vec<&'a Arc<Native>>,
}

/// What a window gives.
type Given = Option<Point>;

impl RangeCall<'_> {
    /// The points have no stale markers.
    pub fn mixed_column(&self, points: &Points, about: About<'_>) -> (Column, Histograms) {
        let mut column = Column::with_capacity(self.windows.steps.count);
        let mut histograms = Histograms::new();
        let varies = self.varies();
        let mut last: Given = None;
        self.windows.slide(&points.times, |now, end, rows, same| {
            let step = column.len();
            if rows.is_empty() {
                last = None;
            } else if !same || varies {
                let mixed = Mixed::of(&points.times[rows.clone()], &points.points[rows]);
                let window = Window {
                    samples: Samples::of(&mixed.float_times, &mixed.floats),
                    start: nanos(end.saturating_sub(self.windows.length)),
                    end: nanos(end),
                    now: nanos(now),
                };
                last = self.of_mixed(&mixed, &window, step, about);
            }
            Point::put(last.as_ref(), &mut column, &mut histograms);
        });
        (column, histograms)
    }

    fn of_mixed(&self, mixed: &Mixed<'_>, window: &Window<'_>, step: usize, about: About<'_>) -> Given {
        use WindowFunction::*;
        let is_mixed = !mixed.floats.is_empty() && !mixed.histograms.is_empty();
        match self.function {
            Count => Some(Point::Float(mixed.points.len() as f64)),
            Present => Some(Point::Float(1.0)),
            First => mixed.points.first().cloned(),
            Last => mixed.points.last().cloned(),
            TsOfFirst => mixed.times.first().map(|time| Point::Float(seconds(*time))),
            TsOfLast => mixed.times.last().map(|time| Point::Float(seconds(*time))),
            Changes => Some(Point::Float(mixed.pairs(has_changed))),
            Resets => Some(Point::Float(mixed.pairs(is_reset))),
            Irate | Idelta => self.instant(mixed, window, step, about),
            Rate | Increase | Delta | Avg | Sum if is_mixed => {
                about.say(Remark::MixedWithFloats);
                None
            }
            Rate | Increase | Delta if !mixed.histograms.is_empty() => {
                self.difference(mixed, window, about).map(|found| Point::Histogram(found.into()))
            }
            Avg | Sum if !mixed.histograms.is_empty() => {
                let all = mixed.histograms.iter().map(|histogram| &***histogram);
                let found = if self.function == Avg { native::mean(all) } else { native::sum(all) };
                match found {
                    Ok(found) => found.map(|found| Point::Histogram(found.into())),
                    Err(why) => {
                        about.say(why.into());
                        None
                    }
                }
            }
            _ if mixed.floats.is_empty() => {
                if self.function == DoubleExponentialSmoothing {
                    self.check_factors(self.params[0][step], self.params[1][step]);
                }
                None
            }
            _ => {
                if is_mixed {
                    about.say(Remark::IgnoredInRange);
                }
                self.of_floats(window, step)
            }
        }
    }

    fn of_floats(&self, window: &Window<'_>, step: usize) -> Given {
        let resets = Resets::of(window.samples);
        let found = self.value(window, step, resets.within(0..window.samples.len()), &mut Vec::new());
        found.map(Point::Float)
    }

    /// Between the last two points.
    fn instant(&self, mixed: &Mixed<'_>, window: &Window<'_>, step: usize, about: About<'_>) -> Given {
        let before = mixed.points.len().checked_sub(2)?;
        let is_rate = self.function == WindowFunction::Irate;
        let (previous, newest) = match (&mixed.points[before], &mixed.points[before + 1]) {
            (Point::Float(_), Point::Float(_)) => return self.of_floats(window, step),
            (Point::Histogram(previous), Point::Histogram(newest)) => (previous, newest),
            _ => {
                about.say(Remark::MixedWithFloats);
                return None;
            }
        };
        let elapsed = mixed.times[before + 1].saturating_sub(mixed.times[before]);
        if elapsed == 0 {
            return None;
        }
        let gauges = [previous, newest].map(|histogram| histogram.hint == ResetHint::Gauge);
        match is_rate {
            true if gauges.contains(&true) => about.say(Remark::NotCounter),
            false if gauges.contains(&false) => about.say(Remark::NotGauge),
            _ => {}
        }
        let mut found = Native::clone(newest);
        let goes_on = !is_rate || !newest.is_reset(previous);
        if goes_on && let Err(why) = found.subtract(previous) {
            about.say(why.into());
            return None;
        }
        found.hint = ResetHint::Gauge;
        if is_rate {
            found.divide(elapsed as f64 / 1e9);
        }
        Some(Point::Histogram(found.into()))
    }

    /// `rate`, `increase`, `delta`.
    fn difference(&self, mixed: &Mixed<'_>, window: &Window<'_>, about: About<'_>) -> Option<Native> {
        let [first, .., last] = mixed.histograms.as_slice() else { return None };
        let is_counter = self.function != WindowFunction::Delta;
        let mut found = match change(&mixed.histograms, is_counter) {
            Ok(found) => found,
            Err(why) => {
                about.say(why.into());
                return None;
            }
        };
        let is_gauge = |histogram: &Native| histogram.hint == ResetHint::Gauge;
        if is_counter && mixed.histograms.iter().any(|histogram| is_gauge(histogram)) {
            about.say(Remark::NotCounter);
        }
        if !is_counter && [first, last].iter().any(|histogram| !is_gauge(histogram)) {
            about.say(Remark::NotGauge);
        }
        // Unlike floats, they are not kept from having been below zero.
        let times = &mixed.histogram_times;
        let reach = Reach { first: times[0], last: times[times.len() - 1], count: times.len() };
        found.multiply(self.factor((window.start, window.end), reach, None));
        found.hint = ResetHint::Gauge;
        Some(found)
    }
}

impl About<'_> {
    fn say(&self, remark: Remark) {
        let labels = (self.labels)();
        self.annotations.remark(remark, labels.get(NAME).unwrap_or_default(), self.span);
    }
}

impl<'a> Mixed<'a> {
    fn of(times: &'a [Time], points: &'a [Point]) -> Mixed<'a> {
        let mut mixed = Mixed {
            times,
            points,
            float_times: Vec::new(),
            floats: Vec::new(),
            histogram_times: Vec::new(),
            histograms: Vec::new(),
        };
        for (time, point) in times.iter().zip(points) {
            match point {
                Point::Float(value) => {
                    mixed.float_times.push(*time);
                    mixed.floats.push(*value);
                }
                Point::Histogram(histogram) => {
                    mixed.histogram_times.push(*time);
                    mixed.histograms.push(histogram);
                }
                Point::Stale => {}
            }
        }
        mixed
    }

    /// How many neighbours are so.
    fn pairs(&self, are: fn(&Point, &Point) -> bool) -> f64 {
        self.points.windows(2).filter(|pair| are(&pair[0], &pair[1])).count() as f64
    }
}

fn has_changed(before: &Point, after: &Point) -> bool {
    match (before, after) {
        (Point::Float(a), Point::Float(b)) => a != b && !(a.is_nan() && b.is_nan()),
        (Point::Histogram(a), Point::Histogram(b)) => !a.equals(b),
        _ => true,
    }
}

fn is_reset(before: &Point, after: &Point) -> bool {
    match (before, after) {
        (Point::Float(a), Point::Float(b)) => b < a,
        (Point::Histogram(a), Point::Histogram(b)) => is_reset_between(a, b),
        _ => true,
    }
}

/// A histogram that stands at several steps of a subquery does not begin anew at each.
fn is_reset_between(before: &Native, after: &Native) -> bool {
    !std::ptr::eq(before, after) && after.is_reset(before)
}

/// From the first to the last, over resets of a counter. A first one that a reset follows at once is not looked at.
fn change(histograms: &[&Arc<Native>], is_counter: bool) -> Result<Native, Incompatible> {
    let last = histograms[histograms.len() - 1];
    let emptied;
    let mut before: &Native = histograms[0];
    if is_counter && is_reset_between(before, histograms[1]) {
        emptied = histograms[1].emptied();
        before = &emptied;
    }
    if last.is_custom() != before.is_custom() {
        return Err(Incompatible::Schemas);
    }
    let mut schema = last.schema().min(before.schema());
    if is_counter {
        for histogram in &histograms[1..histograms.len() - 1] {
            schema = schema.min(histogram.schema());
            if histogram.is_custom() != before.is_custom() {
                return Err(Incompatible::Schemas);
            }
        }
    }
    let mut change = Native::clone(last);
    change.reduce(schema);
    change.subtract(before)?;
    if is_counter {
        for histogram in &histograms[1..] {
            if is_reset_between(before, histogram) {
                change.add(before)?;
            }
            before = histogram;
        }
    }
    Ok(change)
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use storage_format::histogram::{Buckets, Histogram, Span};
    use storage_format::point::TagSet;

    use super::*;
    use crate::promql::annotations::Annotations;
    use crate::promql::ast::{Moved, Span as Place};
    use crate::promql::value::{Steps, is_absent};
    use crate::promql::window::Windows;

    /// With so many observations in each of two neighbouring buckets.
    fn histogram(count: f64) -> Point {
        let stored = Histogram {
            count: 2.0 * count,
            sum: 10.0 * count,
            positive: Buckets { spans: vec![Span { offset: 1, length: 2 }], counts: vec![count; 2] },
            ..Histogram::default()
        };
        Point::Histogram(Arc::new(Native::of(&stored).expect("it is no stale marker")))
    }

    /// Over one window that ends with the last of points 10 s apart: a float, or the count of a histogram; and what is said.
    fn over(function: WindowFunction, points: Vec<Point>) -> (Option<f64>, Vec<String>) {
        let end = 10_000 * points.len() as i64;
        let windows = Windows::new(Steps::instant(end), &Moved::default(), end, end, end);
        let call = RangeCall { function, windows, params: &[], refused: OnceLock::new() };
        let times = (1..=points.len() as i64).map(|at| at * 10_000_000_000).collect();
        let annotations = Annotations::new("");
        let labels = || TagSet::new([(NAME, "m")]);
        let about = About { annotations: &annotations, span: Place::default(), labels: &labels };
        let (column, histograms) = call.mixed_column(&Points { times, points }, about);
        let float = Some(column[0]).filter(|value| !is_absent(*value));
        let count = histograms.first().map(|(_, histogram)| histogram.count);
        let said = annotations.into_said();
        (float.or(count), said.warnings.into_iter().chain(said.infos).collect())
    }

    #[test]
    fn counters_of_histograms_go_on_after_resets() {
        use WindowFunction::*;
        let counts = |counts: &[f64]| counts.iter().map(|count| histogram(*count)).collect::<Vec<_>>();
        assert_eq!(
            over(Increase, counts(&[10.0, 20.0, 5.0, 15.0])),
            (Some(2.0 * 25.0 * (40.0 / 30.0)), vec![])
        );
        assert_eq!(over(Resets, counts(&[10.0, 20.0, 5.0, 15.0])).0, Some(1.0));
        assert_eq!(over(Changes, counts(&[10.0, 10.0, 5.0])).0, Some(1.0));
        assert_eq!(over(Irate, counts(&[10.0, 20.0])).0, Some(2.0));
        assert_eq!(over(Sum, counts(&[1.0, 2.0, 3.0])).0, Some(12.0));
        assert_eq!(over(Avg, counts(&[1.0, 2.0, 3.0])).0, Some(4.0));
        assert_eq!(over(Rate, counts(&[1.0])).0, None);
        let (_, said) = over(Delta, counts(&[1.0, 2.0]));
        assert!(said[0].contains("this native histogram metric is not a gauge: \"m\""), "{said:?}");
    }

    #[test]
    fn floats_beside_histograms_are_said() {
        use WindowFunction::*;
        let mixed = || vec![Point::Float(7.0), histogram(1.0), Point::Float(3.0)];
        assert_eq!(over(Count, mixed()), (Some(3.0), vec![]));
        assert_eq!((over(First, mixed()).0, over(Last, mixed()).0), (Some(7.0), Some(3.0)));
        let (value, said) = over(Rate, mixed());
        assert!(value.is_none() && said[0].contains("a mix of histograms and floats"), "{said:?}");
        let (value, said) = over(Max, mixed());
        assert!(value == Some(7.0) && said[0].contains("ignored histograms in a range"), "{said:?}");
        assert_eq!(over(Max, vec![histogram(1.0)]), (None, vec![]));
    }
}
