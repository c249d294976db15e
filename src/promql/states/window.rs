//! The states of one series that a window is made of.
//!
//! Invariant: they come in the order of time, and every sample of the window is in exactly one of them, or is the sample of the window's
//! last instant.

use std::ops::Range;

use storage_format::point::Time;
use storage_format::state::{StateColumn, StateRun};

use crate::promql::states::Rests;
use crate::promql::states::slots::SlotWindow;
use crate::promql::states::value::Places;
use crate::promql::window::as_floats;

/// A value at a time, and what it lost when it became a float.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub time: Time,
    pub value: f64,
    pub rest: f64,
}

impl Sample {
    pub fn whole(time: Time, whole: i128) -> Sample {
        let [value, rest] = as_floats(whole);
        Sample { time, value, rest }
    }

    pub fn floats(&self) -> [f64; 2] {
        [self.value, self.rest]
    }

    pub fn is_less_than(&self, other: &Sample) -> bool {
        self.value < other.value || self.value == other.value && self.rest < other.rest
    }
}

/// What there is of one series.
pub struct Run<'a> {
    pub run: &'a StateRun,
    pub places: &'a Places,
    /// What had to be read of points.
    pub rests: Option<Rests<'a>>,
}

/// The states of one bucket.
#[derive(Clone, Copy)]
pub struct Piece<'a> {
    pub run: &'a StateRun,
    pub at: usize,
}

pub struct Window<'a> {
    /// The bucket in which it begins, and the sample there that is before it.
    pub head: Option<(Piece<'a>, Sample)>,
    /// The other buckets.
    run: &'a StateRun,
    body: Range<usize>,
    /// The rest of the bucket in which it begins, where points were read.
    rest: Option<Piece<'a>>,
    /// The sample of its last instant, unless that is in one of the buckets.
    pub last: Option<Sample>,
}

impl<'a> Run<'a> {
    pub fn window(&self, slots: SlotWindow) -> Window<'a> {
        let run = self.run;
        let from = run.starts.partition_point(|start| *start < slots.begin.slot);
        let to = from + run.starts[from..].partition_point(|start| *start < slots.end.slot);
        let mut window = Window { head: None, run, body: from..to, rest: None, last: None };
        let has = |at: usize, slot: Time| run.starts.get(at) == Some(&slot);
        if slots.begin.is_in_bucket() && has(from, slots.begin.slot) && from < to {
            let piece = Piece { run, at: from };
            let first = self.first(piece).filter(|first| first.time < slots.begin.from);
            if let Some(first) = first {
                window.body.start += 1;
                match self.rests.filter(|rests| rests.slots.contains(&slots.begin.slot)) {
                    None => window.head = Some((piece, first)),
                    Some(rests) => {
                        let at = rests.run.starts.binary_search(&slots.begin.slot).ok();
                        window.rest = at.map(|at| Piece { run: rests.run, at });
                    }
                }
            }
        }
        if slots.end.is_in_bucket() && has(to, slots.end.slot) {
            let first = self.first(Piece { run, at: to });
            window.last = first.filter(|first| first.time < slots.end.from);
        }
        window
    }

    fn first(&self, piece: Piece<'_>) -> Option<Sample> {
        piece.edge(self.places.first)
    }
}

impl<'a> Window<'a> {
    /// The buckets that are in it as a whole, in the order of time.
    pub fn whole(&self) -> impl DoubleEndedIterator<Item = Piece<'a>> {
        let run = self.run;
        self.rest.into_iter().chain(self.body.clone().map(move |at| Piece { run, at }))
    }

    /// How many states and samples it is made of.
    pub fn pieces(&self) -> usize {
        let single = [self.head.is_some(), self.rest.is_some(), self.last.is_some()];
        self.body.len() + single.into_iter().filter(|is_there| *is_there).count()
    }
}

impl<'a> Piece<'a> {
    pub fn state(self, place: Option<usize>) -> &'a StateColumn {
        &self.run.columns[place.expect("bug: a function asks for a state that it has not named")]
    }

    pub fn count(self, place: Option<usize>) -> u64 {
        match self.state(place) {
            StateColumn::Points(counts) | StateColumn::Count(counts) => counts[self.at],
            other => unreachable!("bug: {:?} counts nothing", other.kind()),
        }
    }

    /// The first or the last sample of the bucket.
    pub fn edge(self, place: Option<usize>) -> Option<Sample> {
        let at = self.at;
        let float = |(time, value): &(Time, f64)| Sample { time: *time, value: *value, rest: 0.0 };
        let bool = |(time, value): &(Time, bool)| Sample::whole(*time, (*value).into());
        let int = |(time, value): &(Time, i64)| Sample::whole(*time, (*value).into());
        let uint = |(time, value): &(Time, u64)| Sample::whole(*time, (*value).into());
        match self.state(place) {
            StateColumn::FirstFloat(edges) => edges[at].0.as_ref().map(float),
            StateColumn::LastFloat(edges) => edges[at].0.as_ref().map(float),
            StateColumn::FirstInt(edges) => edges[at].0.as_ref().map(int),
            StateColumn::LastInt(edges) => edges[at].0.as_ref().map(int),
            StateColumn::FirstUInt(edges) => edges[at].0.as_ref().map(uint),
            StateColumn::LastUInt(edges) => edges[at].0.as_ref().map(uint),
            StateColumn::FirstBool(edges) => edges[at].0.as_ref().map(bool),
            StateColumn::LastBool(edges) => edges[at].0.as_ref().map(bool),
            other => unreachable!("bug: {:?} is no sample", other.kind()),
        }
    }
}
