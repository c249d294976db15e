//! `anchored` and `smoothed`: selectors that look beyond the edges of their window instead of extrapolating to them.
//!
//! An anchored window begins with the newest sample before it, no older than the look-back; a smoothed one has at both edges what lies
//! on the line between the samples around them. Invariant: what is read reaches as far as any window looks.
//! Not here: windows without a modifier (`range`), which samples a series has (`eval/read.rs`).

use std::sync::atomic::{AtomicBool, Ordering};

use storage_format::point::{TagSet, Time};

use crate::error::Result;
use crate::promql::ast::{Extension, Selector};
use crate::promql::eval::Evaluator;
use crate::promql::failure;
use crate::promql::functions::WindowFunction;
use crate::promql::value::{ABSENT, Column, Histograms, Steps, Vector};
use crate::promql::window::{Samples, Track, Windows, drop_stale, nanos};

/// What a selector reads: its windows, and as far beyond as its modifier looks.
pub fn reach(selector: &Selector, windows: Windows, lookback: i64) -> Windows {
    let (before, after) = match selector.extension {
        None => (0, 0),
        Some(Extension::Anchored) => (lookback, 0),
        Some(Extension::Smoothed) => (lookback, lookback),
    };
    Windows {
        offset: windows.offset.saturating_sub(after),
        length: windows.length.saturating_add(before).saturating_add(after),
        ..windows
    }
}

/// The functions that a modifier goes with, in the words of the refusal.
fn known(extension: Extension) -> (&'static str, &'static [WindowFunction]) {
    use WindowFunction::{Changes, Delta, Increase, Rate, Resets};
    match extension {
        Extension::Anchored => {
            ("changes, delta, increase, rate, resets", &[Changes, Delta, Increase, Rate, Resets])
        }
        Extension::Smoothed => ("delta, increase, rate", &[Delta, Increase, Rate]),
    }
}

pub fn refuse(extension: Extension, name: &str) -> crate::error::Error {
    failure(format!(
        "{} modifier can only be used with: {} - not with {name}",
        extension.name(),
        known(extension).0
    ))
}

impl<'a> Evaluator<'a> {
    /// A function over the windows of a selector with a modifier; names stay.
    pub(super) fn extended_range(
        &self,
        (function, name): (WindowFunction, &str),
        (selector, extension): (&Selector, Extension),
        length: i64,
        steps: Steps,
    ) -> Result<Vector<'a>> {
        if !known(extension).1.contains(&function) {
            return Err(refuse(extension, name));
        }
        let windows = self.times.windows(steps, &selector.moved, length);
        let wide = reach(selector, windows, self.times.lookback);
        self.extended(selector, steps, |samples, column| {
            wide.slide(samples.times, |time, _, rows, _| {
                let end = windows.end(time);
                let edges = Edges { start: nanos(end.saturating_sub(length)), end: nanos(end) };
                let samples = samples.slice(rows);
                let value = match function {
                    WindowFunction::Changes => edges
                        .count(samples, |before, now| before != now && !(before.is_nan() && now.is_nan())),
                    WindowFunction::Resets => edges.count(samples, |before, now| now < before),
                    WindowFunction::Delta => edges.difference(samples, extension, false),
                    WindowFunction::Rate => {
                        edges.difference(samples, extension, true).map(|all| all / (length as f64 / 1e3))
                    }
                    _ => edges.difference(samples, extension, true),
                };
                column.push(value.unwrap_or(ABSENT));
            });
        })
    }

    /// What lies on the line between the samples before and after each step.
    pub(super) fn smoothed(&self, selector: &Selector, steps: Steps) -> Result<Vector<'a>> {
        let windows = self.times.windows(steps, &selector.moved, 0);
        let wide = reach(selector, windows, self.times.lookback);
        self.extended(selector, steps, |samples, column| {
            wide.slide(samples.times, |time, _, rows, _| {
                let at = nanos(windows.end(time));
                let Samples { times, values, .. } = samples.slice(rows);
                let next = times.partition_point(|time| *time < at);
                column.push(match (next.checked_sub(1), times.get(next)) {
                    (_, Some(time)) if *time == at => values[next],
                    (Some(before), Some(_)) => {
                        line(samples_at(times, values, before), samples_at(times, values, next), at, false)
                    }
                    (Some(before), None) => values[before],
                    (None, _) => ABSENT,
                });
            });
        })
    }

    fn extended(
        &self,
        selector: &Selector,
        steps: Steps,
        fill: impl Fn(Samples<'_>, &mut Column) + Sync,
    ) -> Result<Vector<'a>> {
        let has_histograms = AtomicBool::new(false);
        let make = |track: &mut Track, _: &dyn Fn() -> TagSet| {
            has_histograms.fetch_or(!track.histograms.is_empty(), Ordering::Relaxed);
            drop_stale(&mut track.times, &mut track.values);
            let mut column = Column::with_capacity(steps.count);
            fill(track.samples(), &mut column);
            self.counts.newest(&column, &Histograms::new());
            (column, Histograms::new())
        };
        let vector = self.read(selector, steps, &make, None)?;
        match has_histograms.into_inner() {
            true => Err(failure("smoothed and anchored modifiers do not work with native histograms")),
            false => Ok(vector),
        }
    }
}

fn samples_at(times: &[Time], values: &[f64], row: usize) -> (Time, f64) {
    (times[row], values[row])
}

/// The value at a time on the line through two samples. A counter that was reset between them came from 0.
fn line(before: (Time, f64), after: (Time, f64), at: Time, is_counter: bool) -> f64 {
    let first = if is_counter && after.1 < before.1 { 0.0 } else { before.1 };
    let share = (at - before.0) as f64 / (after.0 - before.0) as f64;
    first + (after.1 - first) * share
}

/// `(start, end]`, among samples from before and after it.
#[derive(Clone, Copy)]
struct Edges {
    start: Time,
    end: Time,
}

impl Edges {
    /// How often one sample follows another so, from the one before the window on. None if there is none in it.
    fn count(self, samples: Samples<'_>, follows: impl Fn(f64, f64) -> bool) -> Option<f64> {
        let inside = samples.times.partition_point(|time| *time <= self.start);
        if inside == samples.len() {
            return None;
        }
        let values = &samples.values[inside.saturating_sub(1)..];
        Some(values.windows(2).filter(|pair| follows(pair[0], pair[1])).count() as f64)
    }

    /// From edge to edge.
    fn difference(self, samples: Samples<'_>, extension: Extension, is_counter: bool) -> Option<f64> {
        let Samples { times, values, .. } = samples;
        let newest = times.len().checked_sub(1)?;
        let is_smoothed = extension == Extension::Smoothed;
        let first = times[..newest].partition_point(|time| *time <= self.start).saturating_sub(1);
        let last =
            if is_smoothed { times[..newest].partition_point(|time| *time < self.end) } else { newest };
        if times[last] <= self.start || (is_smoothed && times[first] > self.end) {
            return None;
        }
        let on_line = |row: usize, at: Time| {
            let sample = |row: usize| samples_at(times, values, row);
            line(sample(row), sample(row + 1), at, is_counter)
        };
        let left = match is_smoothed && times[first] < self.start {
            true => on_line(first, self.start),
            false => values[first],
        };
        let right = match is_smoothed && last > 0 && times[last] > self.end {
            true => on_line(last - 1, self.end),
            false => values[last],
        };
        if !is_counter {
            return Some(right - left);
        }
        // Those at the edges and beyond are in `left` and `right`.
        let from = first + usize::from(times[first] <= self.start);
        let to = last + usize::from(times[last] < self.end);
        let between = values.get(from..to).unwrap_or_default();
        Some(right - left + lost_in_resets(left, between, right))
    }
}

/// What a counter had each time before it began anew.
fn lost_in_resets(left: f64, between: &[f64], right: f64) -> f64 {
    let mut before = left;
    let mut lost = 0.0;
    for value in between.iter().copied().chain(std::iter::once(right)) {
        if value < before {
            lost += before;
        }
        before = value;
    }
    lost
}
