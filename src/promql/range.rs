//! Functions of a range vector: one value from the samples of a window.
//!
//! Invariant: every function gives what Prometheus gives for the same samples, to the last bits where the order of operations decides
//! them; a function without enough samples gives none. But where the states of rollups can give the answer, too (`states`), no order
//! may decide anything: sums are exact and rounded once (so are averages, and what a counter lost in its resets), whole numbers count exactly
//! however large, and of zeros -0 is the smaller one.
//! Not here: where a window begins and ends (`window`), windows with native histograms (`mixed`).

mod mixed; // with native histograms

use std::ops::Range;
use std::sync::OnceLock;

use storage_format::point::{TagSet, Time};
use storage_format::state::{Extreme, FloatSum, State};

use crate::promql::annotations::Annotations;
use crate::promql::arithmetic::{Sum, quantile};
use crate::promql::ast::Span;
use crate::promql::functions::WindowFunction;
use crate::promql::value::{ABSENT, Column};
use crate::promql::window::{Samples, Windows, nanos, seconds};

/// Where what is said of a series goes.
#[derive(Clone, Copy)]
pub struct About<'a> {
    pub annotations: &'a Annotations<'a>,
    /// Of the function's first argument.
    pub span: Span,
    pub labels: &'a dyn Fn() -> TagSet,
}

/// A function with its other arguments, one value per step each.
pub struct RangeCall<'a> {
    pub function: WindowFunction,
    pub windows: Windows,
    pub params: &'a [Column],
    /// What is wrong with the parameters, where there was a window to look at.
    pub refused: OnceLock<String>,
}

/// One step's window.
struct Window<'a> {
    samples: Samples<'a>,
    /// Nanoseconds; the start is not in it.
    start: i64,
    end: i64,
    /// The time of the step, in nanoseconds.
    now: i64,
}

impl<'a> RangeCall<'a> {
    pub fn new(function: WindowFunction, windows: Windows, params: &'a [Column]) -> RangeCall<'a> {
        RangeCall { function, windows, params, refused: OnceLock::new() }
    }

    /// The samples have no stale markers.
    pub fn column(&self, samples: Samples<'_>) -> Column {
        let mut column = Column::with_capacity(self.windows.steps.count);
        let resets = match self.function {
            WindowFunction::Rate | WindowFunction::Increase => Resets::of(samples),
            _ => Resets::default(),
        };
        let varies = self.varies();
        let mut last = ABSENT;
        let mut scratch = Vec::new();
        let mut step = 0;
        self.windows.slide(samples.times, |now, end, rows, same| {
            if !same || varies {
                last = if rows.is_empty() {
                    ABSENT
                } else {
                    let window = Window {
                        samples: samples.slice(rows.clone()),
                        start: nanos(end.saturating_sub(self.windows.length)),
                        end: nanos(end),
                        now: nanos(now),
                    };
                    self.value(&window, step, resets.within(rows), &mut scratch).unwrap_or(ABSENT)
                };
            }
            column.push(last);
            step += 1;
        });
        column
    }

    /// Whether it looks at the time of the step, or at another argument of it, and so may differ over the same samples.
    fn varies(&self) -> bool {
        self.function == WindowFunction::PredictLinear || !self.params.is_empty()
    }

    /// The window has at least one sample.
    fn value(
        &self,
        window: &Window<'_>,
        step: usize,
        resets: &[Reset],
        scratch: &mut Vec<f64>,
    ) -> Option<f64> {
        let values = window.samples.values;
        let param = |at: usize| self.params[at][step];
        match self.function {
            WindowFunction::Rate | WindowFunction::Increase => self.extrapolated(window, Some(resets)),
            WindowFunction::Delta => self.extrapolated(window, None),
            WindowFunction::Irate => instant(window.samples, true),
            WindowFunction::Idelta => instant(window.samples, false),
            WindowFunction::Deriv => {
                (values.len() > 1).then(|| regression(window.samples, window.samples.times[0]).0)
            }
            WindowFunction::PredictLinear => (values.len() > 1).then(|| {
                let (slope, intercept) = regression(window.samples, window.now);
                slope * param(0) + intercept
            }),
            WindowFunction::DoubleExponentialSmoothing => {
                self.check_factors(param(0), param(1));
                smoothed(values, param(0), param(1))
            }
            WindowFunction::Changes => {
                let changed = |pair: &&[f64]| pair[0] != pair[1] && !(pair[0].is_nan() && pair[1].is_nan());
                Some(values.windows(2).filter(changed).count() as f64)
            }
            WindowFunction::Resets => Some(values.windows(2).filter(|pair| pair[1] < pair[0]).count() as f64),
            WindowFunction::Avg => exact_sum(window.samples).average(values.len() as u64),
            WindowFunction::Sum => exact_sum(window.samples).round(),
            WindowFunction::Count => Some(values.len() as f64),
            WindowFunction::Min => Some(extreme::<false>(values)),
            WindowFunction::Max => Some(extreme::<true>(values)),
            WindowFunction::Last => values.last().copied(),
            WindowFunction::First => values.first().copied(),
            WindowFunction::Present => Some(1.0),
            WindowFunction::Quantile => {
                scratch.clear();
                scratch.extend_from_slice(values);
                Some(quantile(param(0), scratch))
            }
            WindowFunction::Stddev => Some(variance(values).sqrt()),
            WindowFunction::Stdvar => Some(variance(values)),
            WindowFunction::Mad => {
                scratch.clear();
                scratch.extend_from_slice(values);
                let median = quantile(0.5, scratch);
                scratch.iter_mut().for_each(|value| *value = (*value - median).abs());
                Some(quantile(0.5, scratch))
            }
            WindowFunction::TsOfFirst => Some(seconds(window.samples.times[0])),
            WindowFunction::TsOfLast => window.samples.times.last().map(|time| seconds(*time)),
            // The last of equal ones.
            WindowFunction::TsOfMin => {
                Some(seconds(window.samples.times[last_extreme(values, |value, least| value <= least)]))
            }
            WindowFunction::TsOfMax => {
                Some(seconds(window.samples.times[last_extreme(values, |value, most| value >= most)]))
            }
        }
    }

    fn check_factors(&self, smoothing: f64, trend: f64) {
        for (value, name, short) in [(smoothing, "smoothing", "sf"), (trend, "trend", "tf")] {
            if value <= 0.0 || value >= 1.0 {
                self.refused.get_or_init(|| {
                    format!("invalid {name} factor. Expected: 0 < {short} < 1, got: {value:.6}")
                });
            }
        }
    }

    /// The difference from first to last, extended to the ends of the window where the samples come close to them.
    fn extrapolated(&self, window: &Window<'_>, resets: Option<&[Reset]>) -> Option<f64> {
        let Samples { times, values, rests } = window.samples;
        let [first, _, ..] = *values else { return None };
        let fallen = resets.unwrap_or_default();
        let end = |at: usize| [values[at], rests.get(at).copied().unwrap_or_default()];
        let mut lost = FloatSum::Empty;
        fallen.iter().for_each(|reset| lost.add_slice(&reset.from));
        let difference = risen(end(0), end(values.len() - 1), &lost);
        let counter = resets.is_some().then_some((first, difference));
        let reach = Reach { first: times[0], last: times[times.len() - 1], count: times.len() };
        Some(difference * self.factor((window.start, window.end), reach, counter))
    }

    /// What a difference from the first to the last sample becomes over the window, of which there are at least two.
    /// Of a counter also its first value and the difference: it cannot have been below zero.
    pub fn factor(&self, window: (Time, Time), reach: Reach, counter: Option<(f64, f64)>) -> f64 {
        let mut to_start = reach.first.saturating_sub(window.0) as f64 / 1e9;
        let mut to_end = window.1.saturating_sub(reach.last) as f64 / 1e9;
        let sampled = reach.last.saturating_sub(reach.first) as f64 / 1e9;
        let between = sampled / (reach.count - 1) as f64;
        let close = between * 1.1;
        if to_start >= close {
            to_start = between / 2.0;
        }
        if let Some((first, difference)) = counter
            && difference > 0.0
            && first >= 0.0
        {
            let to_zero = sampled * (first / difference);
            to_start = if to_zero < to_start { to_zero } else { to_start };
        }
        if to_end >= close {
            to_end = between / 2.0;
        }
        let factor = (sampled + to_start + to_end) / sampled;
        match self.function {
            WindowFunction::Rate => factor / (self.windows.length as f64 / 1e3),
            _ => factor,
        }
    }
}

/// From the first value to the last, each with what it lost when it became a float, and over the resets between them, which `lost` so much.
pub fn risen(first: [f64; 2], last: [f64; 2], lost: &FloatSum) -> f64 {
    let difference = if first[1] == 0.0 && last[1] == 0.0 {
        last[0] - first[0]
    } else {
        let mut exact = FloatSum::Empty;
        exact.add_slice(&[last[0], -first[0], last[1], -first[1]]);
        exact.round().unwrap_or_default()
    };
    // Of -0 and no resets there is +0.
    difference + lost.round().unwrap_or_default()
}

/// When the samples of a window were taken.
#[derive(Clone, Copy)]
pub struct Reach {
    pub first: Time,
    pub last: Time,
    pub count: usize,
}

/// A sample less than the one before.
struct Reset {
    row: usize,
    /// The value of that one, and what it lost when it became a float.
    from: [f64; 2],
}

/// Where a counter falls.
#[derive(Default)]
struct Resets(Vec<Reset>);

impl Resets {
    fn of(samples: Samples<'_>) -> Resets {
        let Samples { values, rests, .. } = samples;
        let rest = |row: usize| rests.get(row).copied().unwrap_or_default();
        let falls = |row: &usize| {
            let (value, before) = (values[*row], values[row - 1]);
            value < before || value == before && rest(*row) < rest(row - 1)
        };
        let reset = |row: usize| Reset { row, from: [values[row - 1], rest(row - 1)] };
        Resets((1..values.len()).filter(falls).map(reset).collect())
    }

    /// Those after the first of these rows.
    fn within(&self, rows: Range<usize>) -> &[Reset] {
        let first = self.0.partition_point(|reset| reset.row <= rows.start);
        let end = self.0.partition_point(|reset| reset.row < rows.end);
        &self.0[first..end.max(first)]
    }
}

fn exact_sum(samples: Samples<'_>) -> FloatSum {
    let mut sum = FloatSum::Empty;
    sum.add_slice(samples.values);
    sum.add_slice(samples.rests);
    sum
}

/// The least or the largest value; NaN if there is nothing else.
fn extreme<const LARGEST: bool>(values: &[f64]) -> f64 {
    let mut found = Extreme::<f64, LARGEST>::IDENTITY;
    found.add_slice(values);
    found.0.unwrap_or(f64::NAN)
}

/// Between the last two samples.
fn instant(samples: Samples<'_>, is_rate: bool) -> Option<f64> {
    let last = samples.len().checked_sub(1)?;
    let before = last.checked_sub(1)?;
    let (value, previous) = (samples.values[last], samples.values[before]);
    let elapsed = samples.times[last].saturating_sub(samples.times[before]);
    if !is_rate {
        return Some(value - previous);
    }
    let difference = if value < previous { value } else { value - previous };
    Some(difference / (elapsed as f64 / 1e9))
}

/// Slope per second and the value at a time, by least squares.
fn regression(samples: Samples<'_>, at: i64) -> (f64, f64) {
    let values = samples.values;
    if values.iter().all(|value| *value == values[0]) {
        return if values[0].is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, values[0]) };
    }
    let (mut x_sum, mut y_sum, mut xy_sum, mut xx_sum) =
        (Sum::default(), Sum::default(), Sum::default(), Sum::default());
    for (time, y) in samples.times.iter().zip(values) {
        let x = time.saturating_sub(at) as f64 / 1e9;
        x_sum.add(x);
        y_sum.add(*y);
        xy_sum.add(x * y);
        xx_sum.add(x * x);
    }
    let n = values.len() as f64;
    let whole = |sum: Sum| sum.sum + sum.lost;
    let (x, y, xy, xx) = (whole(x_sum), whole(y_sum), whole(xy_sum), whole(xx_sum));
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

/// Holt's: a level and a trend, both smoothed.
fn smoothed(values: &[f64], smoothing: f64, trending: f64) -> Option<f64> {
    let second = *values.get(1)?;
    let mut before = 0.0;
    let mut level = values[0];
    let mut trend = second - values[0];
    for (at, value) in values.iter().enumerate().skip(1) {
        if at > 1 {
            trend = trending * (level - before) + (1.0 - trending) * trend;
        }
        let next = smoothing * value + (1.0 - smoothing) * (level + trend);
        (before, level) = (level, next);
    }
    Some(level)
}

fn variance(values: &[f64]) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, Sum::default(), Sum::default());
    for value in values {
        count += 1.0;
        let delta = value - (mean.sum + mean.lost);
        mean.add(delta / count);
        squares.add(delta * (value - (mean.sum + mean.lost)));
    }
    (squares.sum + squares.lost) / count
}

/// The row that is beyond all others; NaN only if there is nothing else.
fn last_extreme(values: &[f64], is_beyond: impl Fn(f64, f64) -> bool) -> usize {
    let mut found = 0;
    for (row, value) in values.iter().enumerate().skip(1) {
        if is_beyond(*value, values[found]) || values[found].is_nan() {
            found = row;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::ast::Moved;
    use crate::promql::value::{Steps, is_absent};

    /// Over one window that ends with the last of samples 10 s apart.
    fn over(function: WindowFunction, values: &[f64], params: &[f64]) -> Option<f64> {
        let times: Vec<i64> = (1..=values.len() as i64).map(|at| at * 10_000_000_000).collect();
        let end = 10_000 * values.len() as i64;
        let steps = Steps::instant(end);
        let windows = Windows::new(steps, &Moved::default(), end, end, end);
        let params: Vec<Column> = params.iter().map(|param| vec![*param]).collect();
        let call = RangeCall::new(function, windows, &params);
        let value = call.column(Samples::of(&times, values))[0];
        (!is_absent(value)).then_some(value)
    }

    #[test]
    fn counters_are_extended_to_the_ends_of_the_window_and_go_on_after_resets() {
        assert_eq!(over(WindowFunction::Increase, &[10.0, 20.0, 30.0, 40.0], &[]), Some(40.0));
        assert_eq!(over(WindowFunction::Rate, &[10.0, 20.0, 30.0, 40.0], &[]), Some(1.0));
        // 10, then 10 more, a reset, and 5: 25 in 30 s, and as long again as it takes from zero.
        assert_eq!(over(WindowFunction::Increase, &[10.0, 20.0, 0.0, 5.0], &[]), Some(15.0 * (40.0 / 30.0)));
        assert_eq!(over(WindowFunction::Delta, &[10.0, 20.0, 0.0, 5.0], &[]), Some(-5.0 * (40.0 / 30.0)));
        assert_eq!(over(WindowFunction::Rate, &[10.0], &[]), None);
        assert_eq!(over(WindowFunction::Irate, &[10.0, 20.0, 5.0], &[]), Some(0.5));
        assert_eq!(over(WindowFunction::Idelta, &[10.0, 20.0, 5.0], &[]), Some(-15.0));
    }

    #[test]
    fn lines_are_fitted() {
        assert_eq!(over(WindowFunction::Deriv, &[0.0, 10.0, 20.0], &[]), Some(1.0));
        assert_eq!(over(WindowFunction::PredictLinear, &[0.0, 10.0, 20.0], &[60.0]), Some(80.0));
        assert_eq!(over(WindowFunction::Deriv, &[7.0, 7.0], &[]), Some(0.0));
    }

    #[test]
    fn extremes_pass_over_nan() {
        let values = [f64::NAN, 3.0, 1.0, 3.0, f64::NAN];
        assert_eq!(over(WindowFunction::Max, &values, &[]), Some(3.0));
        assert_eq!(over(WindowFunction::Min, &values, &[]), Some(1.0));
        assert_eq!(over(WindowFunction::TsOfMax, &values, &[]), Some(40.0));
        assert_eq!(over(WindowFunction::Changes, &values, &[]), Some(4.0));
        assert_eq!(over(WindowFunction::Resets, &values, &[]), Some(1.0));
    }

    #[test]
    fn sums_are_exact_and_rounded_once() {
        let values = [1.0, 1e100, 1.0, -1e100];
        assert_eq!(over(WindowFunction::Sum, &values, &[]), Some(2.0));
        assert_eq!(over(WindowFunction::Avg, &values, &[]), Some(0.5));
        assert_eq!(over(WindowFunction::Avg, &[f64::MAX, f64::MAX], &[]), Some(f64::MAX));
        assert_eq!(over(WindowFunction::Sum, &[f64::INFINITY, 1.0], &[]), Some(f64::INFINITY));
        let opposite = [f64::INFINITY, f64::NEG_INFINITY];
        assert!(over(WindowFunction::Sum, &opposite, &[]).is_some_and(f64::is_nan));
        let least = over(WindowFunction::Min, &[0.0, -0.0], &[]);
        assert_eq!(least.map(f64::to_bits), Some((-0.0f64).to_bits()));
    }

    #[test]
    fn resets_count_within_the_window_only() {
        let resets = Resets::of(Samples::of(&[], &[5.0, 1.0, 2.0, 0.0]));
        let within =
            |rows| resets.within(rows).iter().map(|reset| (reset.row, reset.from[0])).collect::<Vec<_>>();
        assert_eq!(within(0..4), [(1, 5.0), (3, 2.0)]);
        assert_eq!(within(1..4), [(3, 2.0)]);
        assert_eq!(within(1..3), []);
        assert_eq!(within(2..2), []);
    }
}
