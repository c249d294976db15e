//! The value of a function over one window's states.
//!
//! Invariant: as that of `range` over the window's samples.

use std::cmp::Ordering;

use storage_format::point::Time;
use storage_format::state::{FloatSum, State, StateColumn, StateKey, StateKind};

use crate::promql::functions::WindowFunction;
use crate::promql::range::{Reach, risen};
use crate::promql::states::Reader;
use crate::promql::states::window::{Piece, Sample, Window};
use crate::promql::window::{as_floats, nanos};

pub enum Found {
    Value(f64),
    Nothing,
    /// The points in the bucket where the window begins have to be looked at.
    Lacks,
    /// All points have to be.
    Unknown,
}

/// Where the states of each kind stand.
pub struct Places {
    count: Option<usize>,
    sum: Option<usize>,
    extreme: Option<usize>,
    pub first: Option<usize>,
    last: Option<usize>,
    counter: Option<usize>,
}

impl Places {
    pub fn of(keys: &[StateKey]) -> Places {
        let place = |kinds: &[StateKind]| keys.iter().position(|key| kinds.contains(&key.kind));
        Places {
            count: place(&[StateKind::Points, StateKind::Count]),
            sum: place(&[StateKind::Sum]),
            extreme: place(&[StateKind::Min, StateKind::Max]),
            first: place(&[StateKind::First]),
            last: place(&[StateKind::Last]),
            counter: place(&[StateKind::Counter]),
        }
    }
}

impl From<Option<f64>> for Found {
    fn from(value: Option<f64>) -> Found {
        value.map_or(Found::Nothing, Found::Value)
    }
}

impl Reader<'_> {
    /// `end` is that of the window, in milliseconds.
    pub fn value(&self, window: &Window<'_>, end: i64) -> Found {
        match self.call.function {
            WindowFunction::Count => match self.count(window) {
                0 => Found::Nothing,
                count => Found::Value(count as f64),
            },
            WindowFunction::Present => match self.count(window) {
                0 => Found::Nothing,
                _ => Found::Value(1.0),
            },
            WindowFunction::Sum => self.summed(window, |sum, _| sum.round()),
            WindowFunction::Avg => self.summed(window, FloatSum::average),
            WindowFunction::Min => self.extreme(window, Ordering::Less),
            WindowFunction::Max => self.extreme(window, Ordering::Greater),
            WindowFunction::Last => self.last(window).map(|last| last.value).into(),
            WindowFunction::First => match self.first(window) {
                Ok(first) => first.map(|first| first.value).into(),
                Err(lacks) => lacks,
            },
            WindowFunction::Delta => self.delta(window, end),
            WindowFunction::Rate | WindowFunction::Increase => self.increase(window, end),
            other => unreachable!("bug: {other:?} has no states"),
        }
    }

    fn count(&self, window: &Window<'_>) -> u64 {
        let count = |piece: Piece<'_>| piece.count(self.places.count);
        let head = window.head.map_or(0, |(piece, _)| count(piece).saturating_sub(1));
        head + window.whole().map(count).sum::<u64>() + u64::from(window.last.is_some())
    }

    fn summed(&self, window: &Window<'_>, of: impl Fn(&FloatSum, u64) -> Option<f64>) -> Found {
        let count = self.count(window);
        if count == 0 {
            return Found::Nothing;
        }
        let mut sum = FloatSum::Empty;
        let head = window.head.map(|(piece, _)| piece);
        head.into_iter().chain(window.whole()).for_each(|piece| self.add_sum(&mut sum, piece));
        if let Some((_, before)) = window.head {
            if !before.value.is_finite() {
                return Found::Lacks;
            }
            sum.add_slice(&before.floats().map(|part| -part));
        }
        window.last.iter().for_each(|last| sum.add_slice(&last.floats()));
        of(&sum, count).into()
    }

    fn add_sum(&self, sum: &mut FloatSum, piece: Piece<'_>) {
        match piece.state(self.places.sum) {
            StateColumn::SumFloat(sums) => sum.merge(&sums[piece.at]),
            StateColumn::SumInt(sums) => sums[piece.at].total().into_iter().for_each(|total| add(sum, total)),
            StateColumn::SumUInt(sums) => {
                sums[piece.at].total().into_iter().for_each(|total| add(sum, total))
            }
            other => unreachable!("bug: {:?} is no sum", other.kind()),
        }
    }

    fn extreme(&self, window: &Window<'_>, beyond: Ordering) -> Found {
        let mut found: Option<f64> = None;
        let mut take = |value: f64| {
            if !value.is_nan() && found.is_none_or(|known| value.total_cmp(&known) == beyond) {
                found = Some(value);
            }
        };
        window.whole().filter_map(|piece| self.extreme_of(piece)).for_each(&mut take);
        window.last.iter().for_each(|last| take(last.value));
        if let Some((piece, before)) = window.head
            && let Some(of_bucket) = self.extreme_of(piece)
        {
            match found {
                // What is beyond the sample before the window is in the window.
                _ if of_bucket.to_bits() != before.value.to_bits() => take(of_bucket),
                Some(known) if of_bucket.total_cmp(&known) != beyond => {}
                _ if self.places.count.is_some() && piece.count(self.places.count) == 1 => {}
                _ => return Found::Lacks,
            }
        }
        // Of samples that are all NaN.
        found.or_else(|| (self.places.count.is_some() && self.count(window) > 0).then_some(f64::NAN)).into()
    }

    fn extreme_of(&self, piece: Piece<'_>) -> Option<f64> {
        let at = piece.at;
        match piece.state(self.places.extreme) {
            StateColumn::MinFloat(states) => states[at].0,
            StateColumn::MaxFloat(states) => states[at].0,
            StateColumn::MinInt(states) => states[at].0.map(|value| value as f64),
            StateColumn::MaxInt(states) => states[at].0.map(|value| value as f64),
            StateColumn::MinUInt(states) => states[at].0.map(|value| value as f64),
            StateColumn::MaxUInt(states) => states[at].0.map(|value| value as f64),
            other => unreachable!("bug: {:?} is no extreme", other.kind()),
        }
    }

    fn last(&self, window: &Window<'_>) -> Option<Sample> {
        let last = |piece: Piece<'_>| piece.edge(self.places.last);
        window.last.or_else(|| window.whole().rev().find_map(last)).or_else(|| {
            let (piece, before) = window.head?;
            last(piece).filter(|last| last.time > before.time)
        })
    }

    fn first(&self, window: &Window<'_>) -> Result<Option<Sample>, Found> {
        if let Some((piece, _)) = window.head
            && piece.count(self.places.count) > 1
        {
            return Err(Found::Lacks);
        }
        let first = window.whole().find_map(|piece| piece.edge(self.places.first));
        Ok(first.or(window.last))
    }

    fn delta(&self, window: &Window<'_>, end: i64) -> Found {
        let (first, last) = match self.first(window) {
            Ok(first) => (first, self.last(window)),
            Err(lacks) => return lacks,
        };
        match (first, last, self.count(window)) {
            (Some(first), Some(last), count @ 2..) => {
                let difference = risen(first.floats(), last.floats(), &FloatSum::Empty);
                let reach = Reach { first: first.time, last: last.time, count: count as usize };
                self.extended(difference, reach, end, None)
            }
            _ => Found::Nothing,
        }
    }

    fn increase(&self, window: &Window<'_>, end: i64) -> Found {
        let head = window.head.map(|(piece, _)| piece);
        if self.places.sum.is_some() {
            let mut sum = FloatSum::Empty;
            head.into_iter().chain(window.whole()).for_each(|piece| self.add_sum(&mut sum, piece));
            window.last.iter().for_each(|last| sum.add_slice(&[last.value]));
            if sum.round().is_some_and(f64::is_nan) {
                return Found::Unknown;
            }
        }
        if head.is_some_and(|piece| piece.count(self.places.count) > 1) {
            return Found::Lacks;
        }
        let count = self.count(window);
        let mut counter: Option<Risen> = None;
        let pieces = window.whole().filter_map(|piece| Risen::of(piece, self.places.counter));
        for next in pieces.chain(window.last.map(Risen::of_one)) {
            match &mut counter {
                Some(counter) => counter.go_on(next),
                None => counter = Some(next),
            }
        }
        match counter {
            Some(Risen { first, last, lost }) if count > 1 => {
                let difference = risen(first.floats(), last.floats(), &lost);
                let reach = Reach { first: first.time, last: last.time, count: count as usize };
                self.extended(difference, reach, end, Some(first.value))
            }
            _ => Found::Nothing,
        }
    }

    fn extended(&self, difference: f64, reach: Reach, end: i64, counter: Option<f64>) -> Found {
        let start = nanos(end.saturating_sub(self.call.windows.length));
        let counter = counter.map(|first| (first, difference));
        Found::Value(difference * self.call.factor((start, nanos(end)), reach, counter))
    }
}

/// Adds a whole number of any size, float by float.
fn add(sum: &mut FloatSum, total: i128) {
    let [value, rest] = as_floats(total);
    // What two floats cannot hold of it is the rest of the rest.
    let left = total - value as i128 - rest as i128;
    sum.add_slice(&[value, rest, left as f64]);
}

/// A counter over consecutive samples.
struct Risen {
    first: Sample,
    last: Sample,
    /// The exact sum of the values that it fell from.
    lost: FloatSum,
}

impl Risen {
    fn of_one(sample: Sample) -> Risen {
        Risen { first: sample, last: sample, lost: FloatSum::Empty }
    }

    fn of(piece: Piece<'_>, place: Option<usize>) -> Option<Risen> {
        let at = piece.at;
        let whole = |(time, value): (Time, i128)| Sample::whole(time, value);
        match piece.state(place) {
            StateColumn::CounterFloat(counters) => {
                let ends = counters[at].ends?;
                let sample = |(time, value): (Time, f64)| Sample { time, value, rest: 0.0 };
                let lost = counters[at].steps.lost.clone();
                Some(Risen { first: sample(ends.first), last: sample(ends.last), lost })
            }
            StateColumn::CounterInt(counters) => {
                let ends = counters[at].ends?;
                let [first, last] = [ends.first, ends.last].map(|(time, value)| whole((time, value.into())));
                Some(Risen::of_whole(first, last, counters[at].steps.lost.total()))
            }
            StateColumn::CounterUInt(counters) => {
                let ends = counters[at].ends?;
                let [first, last] = [ends.first, ends.last].map(|(time, value)| whole((time, value.into())));
                Some(Risen::of_whole(first, last, counters[at].steps.lost.total()))
            }
            other => unreachable!("bug: {:?} is no counter", other.kind()),
        }
    }

    fn of_whole(first: Sample, last: Sample, total: Option<i128>) -> Risen {
        let mut lost = FloatSum::Empty;
        total.into_iter().for_each(|total| add(&mut lost, total));
        Risen { first, last, lost }
    }

    fn go_on(&mut self, next: Risen) {
        if next.first.is_less_than(&self.last) {
            self.lost.add_slice(&self.last.floats());
        }
        self.lost.merge(&next.lost);
        self.last = next.last;
    }
}
