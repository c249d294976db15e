//! Samples of one series to one value per step: the newest within the look-back, or a function of those in a window that slides.
//!
//! Invariant: windows are open on the left and closed on the right, `(t - length, t]`, and move forward only, so that each sample is
//! passed once, however many windows it is in.
//! Not here: what a function makes of a window (`range`), where samples come from (`select`).

use std::ops::Range;
use std::sync::Arc;

use storage_format::point::Time;

use crate::promql::ast::{At, Moved};
use crate::promql::native::Native;
use crate::promql::value::{ABSENT, Column, Histograms, Steps, is_absent};

/// What one series has stored in a range.
#[derive(Clone, Debug, Default)]
pub struct Track {
    /// Ascending, of the values; stale markers are among them.
    pub times: Vec<Time>,
    pub values: Vec<f64>,
    /// What the values of a whole field lost when they became floats, one for each; empty if nothing.
    pub rests: Vec<f64>,
    /// Ascending; a stale marker is none. Of most series there are none at all.
    pub histograms: Vec<(Time, Option<Arc<Native>>)>,
}

/// The samples of a series that has histograms, in one row: ascending times, and as many points.
#[derive(Debug, Default)]
pub struct Points {
    pub times: Vec<Time>,
    pub points: Vec<Point>,
}

#[derive(Clone, Debug)]
pub enum Point {
    Float(f64),
    Histogram(Arc<Native>),
    Stale,
}

impl Point {
    /// As the value of the step after the last one of a column.
    pub fn put(point: Option<&Point>, column: &mut Column, histograms: &mut Histograms) {
        let value = match point {
            Some(Point::Float(value)) => *value,
            Some(Point::Histogram(histogram)) => {
                histograms.push((column.len(), Arc::clone(histogram)));
                ABSENT
            }
            Some(Point::Stale) | None => ABSENT,
        };
        column.push(value);
    }
}

impl Track {
    pub fn is_empty(&self) -> bool {
        self.times.is_empty() && self.histograms.is_empty()
    }

    pub fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
        self.rests.clear();
        self.histograms.clear();
    }

    /// The value of a whole field, whose time is there already.
    pub fn push_whole(&mut self, whole: i128) {
        let [value, rest] = as_floats(whole);
        if rest != 0.0 {
            self.rests.resize(self.values.len(), 0.0);
        }
        if rest != 0.0 || !self.rests.is_empty() {
            self.rests.push(rest);
        }
        self.values.push(value);
    }

    /// Histograms as their totals. A stale marker is no histogram: the next one goes on from the one before it.
    pub fn drop_buckets(&mut self) {
        let mut before: Option<Arc<Native>> = None;
        for histogram in self.histograms.iter_mut().filter_map(|(_, histogram)| histogram.as_mut()) {
            let totals = Arc::new(histogram.totals(before.as_deref()));
            before = Some(std::mem::replace(histogram, totals));
        }
    }

    pub fn samples(&self) -> Samples<'_> {
        Samples { times: &self.times, values: &self.values, rests: &self.rests }
    }

    pub fn first_time(&self) -> Option<Time> {
        let histogram = self.histograms.first().map(|(time, _)| *time);
        self.times.first().copied().into_iter().chain(histogram).min()
    }

    /// Samples that come after all of these.
    pub fn append(&mut self, mut later: Track) {
        if !(self.rests.is_empty() && later.rests.is_empty()) {
            self.rests.resize(self.values.len(), 0.0);
            later.rests.resize(later.values.len(), 0.0);
            self.rests.append(&mut later.rests);
        }
        self.times.append(&mut later.times);
        self.values.append(&mut later.values);
        self.histograms.append(&mut later.histograms);
    }

    pub fn heap_bytes(&self) -> usize {
        let of_one = |(_, histogram): &(Time, Option<Arc<Native>>)| {
            size_of::<(Time, Option<Arc<Native>>)>() + histogram.as_ref().map_or(0, |one| one.heap_bytes())
        };
        self.times.len() * 16 + self.rests.len() * 8 + self.histograms.iter().map(of_one).sum::<usize>()
    }

    /// All samples in one row. Of a float and a histogram at the same time the histogram is the later.
    pub fn points(&self) -> Points {
        let mut out = Points::default();
        let mut histograms = self.histograms.iter().peekable();
        let put = |out: &mut Points, (time, histogram): &(Time, Option<Arc<Native>>)| {
            out.times.push(*time);
            out.points.push(histogram.clone().map_or(Point::Stale, Point::Histogram));
        };
        for (time, value) in self.times.iter().zip(&self.values) {
            while let Some(earlier) = histograms.next_if(|(at, _)| at < time) {
                put(&mut out, earlier);
            }
            out.times.push(*time);
            out.points.push(if is_absent(*value) { Point::Stale } else { Point::Float(*value) });
        }
        histograms.for_each(|one| put(&mut out, one));
        out
    }
}

impl Points {
    pub fn drop_stale(&mut self) {
        let mut points = self.points.iter();
        self.times.retain(|_| !matches!(points.next(), Some(Point::Stale)));
        self.points.retain(|point| !matches!(point, Point::Stale));
    }
}

/// Samples of one series: ascending times in nanoseconds, and as many values.
#[derive(Clone, Copy)]
pub struct Samples<'a> {
    pub times: &'a [Time],
    pub values: &'a [f64],
    /// As in [`Track`].
    pub rests: &'a [f64],
}

impl<'a> Samples<'a> {
    pub fn of(times: &'a [Time], values: &'a [f64]) -> Samples<'a> {
        Samples { times, values, rests: &[] }
    }

    pub fn slice(self, rows: Range<usize>) -> Samples<'a> {
        let rests = self.rests.get(rows.clone()).unwrap_or_default();
        Samples { times: &self.times[rows.clone()], values: &self.values[rows], rests }
    }

    pub fn len(self) -> usize {
        self.times.len()
    }
}

/// Where the windows of a selector end, step by step.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    pub steps: Steps,
    /// Milliseconds.
    pub offset: i64,
    /// Milliseconds; the same for all steps.
    pub at: Option<i64>,
    /// Milliseconds.
    pub length: i64,
}

impl Windows {
    /// `start` and `end` are the query's, for `@`.
    pub fn new(steps: Steps, moved: &Moved, length: i64, start: i64, end: i64) -> Windows {
        let at = moved.at.map(|at| match at {
            At::Time(time) => time,
            At::Start => start,
            At::End => end,
        });
        Windows { steps, offset: moved.offset, at, length }
    }

    /// The end of the window of a step, in milliseconds.
    pub fn end(&self, step: i64) -> i64 {
        self.at.unwrap_or(step).saturating_sub(self.offset)
    }

    /// All that any window holds, in nanoseconds.
    pub fn hull(&self) -> storage_format::point::TimeRange {
        let (first, last) = (self.end(self.steps.start), self.end(self.steps.end()));
        let start = nanos(first.saturating_sub(self.length)).saturating_add(1);
        storage_format::point::TimeRange::new(start, nanos(last).saturating_add(1))
    }

    /// Calls `each` with every step's time, its window's end (both in milliseconds) and the samples in it; `same` says that they are
    /// those of the step before.
    pub fn slide(&self, times: &[Time], mut each: impl FnMut(i64, i64, Range<usize>, bool)) {
        let (mut first, mut next) = (0, 0);
        let mut before = None;
        for time in self.steps.times() {
            let end = self.end(time);
            let same = before == Some(end);
            before = Some(end);
            if !same {
                let (from, to) = (nanos(end.saturating_sub(self.length)), nanos(end));
                while next < times.len() && times[next] <= to {
                    next += 1;
                }
                while first < next && times[first] <= from {
                    first += 1;
                }
            }
            each(time, end, first..next, same);
        }
    }

    /// The newest sample of each step's window, by what `of` makes of its row. A stale marker ends the series until its next sample.
    pub fn newest(&self, samples: Samples<'_>, of: impl Fn(usize) -> f64) -> Column {
        let mut column = Column::with_capacity(self.steps.count);
        self.slide(samples.times, |_, _, rows, _| {
            let newest = rows.last().filter(|row| !is_absent(samples.values[*row]));
            column.push(newest.map_or(ABSENT, &of));
        });
        column
    }

    /// The same of a series with histograms.
    pub fn newest_point(&self, points: &Points) -> (Column, Histograms) {
        let mut column = Column::with_capacity(self.steps.count);
        let mut histograms = Histograms::new();
        self.slide(&points.times, |_, _, rows, _| {
            Point::put(rows.last().map(|row| &points.points[row]), &mut column, &mut histograms);
        });
        (column, histograms)
    }

    /// What `of` makes of the time of the newest point of each step's window.
    pub fn newest_time(&self, points: &Points, of: impl Fn(Time) -> f64) -> Column {
        let mut column = Column::with_capacity(self.steps.count);
        self.slide(&points.times, |_, _, rows, _| {
            let newest = rows.last().filter(|row| !matches!(points.points[*row], Point::Stale));
            column.push(newest.map_or(ABSENT, |row| of(points.times[row])));
        });
        column
    }
}

/// The float nearest to a whole number of 64 bits, and what that leaves.
pub fn as_floats(whole: i128) -> [f64; 2] {
    let value = whole as f64;
    [value, (whole - value as i128) as f64]
}

/// Milliseconds to nanoseconds, at the ends of time saturated.
pub fn nanos(milliseconds: i64) -> Time {
    milliseconds.saturating_mul(1_000_000)
}

/// A time in seconds, as Prometheus computes it from milliseconds.
pub fn seconds(time: Time) -> f64 {
    match time % 1_000_000 {
        0 => (time / 1_000_000) as f64 / 1e3,
        _ => time as f64 / 1e9,
    }
}

/// Stale markers are no samples of a window.
pub fn drop_stale(times: &mut Vec<Time>, values: &mut Vec<f64>) {
    if !values.iter().any(|value| is_absent(*value)) {
        return;
    }
    let mut kept = 0;
    for row in 0..values.len() {
        if !is_absent(values[row]) {
            (times[kept], values[kept]) = (times[row], values[row]);
            kept += 1;
        }
    }
    times.truncate(kept);
    values.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn windows(length: i64, moved: Moved) -> Windows {
        Windows::new(Steps::range(0, 40, 10), &moved, length, 0, 40)
    }

    #[test]
    fn totals_go_on_over_a_stale_marker() {
        let native = |zero_count: f64, count: f64| {
            let stored = storage_format::histogram::Histogram { zero_count, count, ..Default::default() };
            Native::of(&stored).map(Arc::new)
        };
        // More in all and less in one bucket: it has begun anew.
        let histograms = vec![(0, native(2.0, 5.0)), (1, None), (2, native(1.0, 9.0))];
        let mut track = Track { histograms, ..Track::default() };
        track.drop_buckets();
        let [(_, Some(before)), (_, None), (_, Some(after))] = &track.histograms[..] else {
            panic!("{:?}", track.histograms)
        };
        assert!(after.is_reset(before));
    }

    #[test]
    fn windows_are_open_on_the_left() {
        let times: Vec<Time> = [0, 10, 15, 20, 40].into_iter().map(|time| time * MS).collect();
        let mut seen = Vec::new();
        windows(10, Moved::default()).slide(&times, |time, _, rows, _| seen.push((time, rows)));
        assert_eq!(seen, [(0, 0..1), (10, 1..2), (20, 2..4), (30, 4..4), (40, 4..5)]);
        let hull = windows(10, Moved::default()).hull();
        assert_eq!((hull.start, hull.end), (-10 * MS + 1, 40 * MS + 1));
    }

    #[test]
    fn a_fixed_window_is_the_same_at_each_step() {
        let times = [5 * MS];
        let mut seen = Vec::new();
        let fixed = Moved { offset: 10, at: Some(At::Time(15)), ..Moved::default() };
        windows(10, fixed).slide(&times, |_, end, rows, same| seen.push((end, rows.len(), same)));
        assert_eq!(seen, [(5, 1, false), (5, 1, true), (5, 1, true), (5, 1, true), (5, 1, true)]);
    }

    #[test]
    fn a_stale_marker_ends_a_series() {
        let times: Vec<Time> = [0, 12, 25].into_iter().map(|time| time * MS).collect();
        let values = [1.0, ABSENT, 3.0];
        let samples = Samples::of(&times, &values);
        let column = windows(100, Moved::default()).newest(samples, |row| values[row]);
        let present: Vec<bool> = column.iter().map(|value| !is_absent(*value)).collect();
        assert_eq!(present, [true, true, false, true, true]);
        let (mut times, mut values) = (times, values.to_vec());
        drop_stale(&mut times, &mut values);
        assert_eq!((times, values), (vec![0, 25 * MS], vec![1.0, 3.0]));
    }
}
