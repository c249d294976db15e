//! Functions of windows from the states of rollups instead of samples.
//!
//! The time axis is cut into slots at the edges of the windows (`slots`), and each window is made of the states of its slots. Two samples
//! may need more: a window begins after the first instant of a bucket and ends with the first instant of another. That last sample
//! is the `first` of its bucket. The one before the window has to be taken out of its bucket again: from a count or an exact sum it
//! can be, it is not the last if there is a later one, and no extreme if there is a greater one. Where none of this helps, the points
//! of the rest of that bucket are read, and only those.
//! Invariant: what is given is what `range` gives for the samples, bit for bit. That is why sums are exact there as here, and why
//! native histograms, of which the states of `value` know nothing, rule states out: it is looked up whether the series have any. Of points that retention has taken, a bucket counts
//! as a whole or not at all.
//! Not here: which rollups there are and which fit (`db`), and their states (`rollup`).

mod slots; // where windows cut the time axis
mod value; // one window
mod window; // the states that it is made of

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use rayon::prelude::*;
use storage_format::point::{FieldType, TagSet, Time, TimeRange};
use storage_format::ranges::RangeSet;
use storage_format::state::{BucketRows, StateColumn, StateKey, StateKind, StateRun};

use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::promql::counts::Counts;
use crate::promql::functions::WindowFunction;
use crate::promql::range::RangeCall;
use crate::promql::value::{ABSENT, Column, Steps, is_absent, series_bytes};
use crate::rows::Rows;
use crate::scan::{Captured, Touched};

use slots::SlotWindow;
pub use slots::Slots;
use value::{Found, Places};
use window::Run;

/// What may be read of a selector in place of its points.
pub struct Stated {
    pub slots: Slots,
    /// Of the states, in their order.
    pub keys: Vec<StateKey>,
    /// What its series have of native histograms in the slots, if any may have some.
    pub histograms: Option<Captured>,
    pub source: Box<dyn StateSource>,
}

pub trait StateSource: Send {
    /// The states of all series in the slots, one run each; those of one series open.
    fn read(&mut self, guard: &Guard, touched: &Touched) -> Result<Vec<(TagSet, StateRun)>>;

    /// They have not given the answer, for this reason: a clause.
    fn give_up(&mut self, why: &str);
}

/// The states that give a function of a field, or why none do: a clause. `is_sole` says that every point has the field, and may be NaN.
pub fn needs(function: WindowFunction, field: FieldType, is_sole: bool) -> Result<Vec<StateKind>, String> {
    use StateKind::{Counter, First, Last, Max, Min, Sum};
    let count = if is_sole { StateKind::Points } else { StateKind::Count };
    let kinds = match function {
        WindowFunction::Count | WindowFunction::Present => vec![count],
        WindowFunction::Sum | WindowFunction::Avg => vec![count, Sum],
        // Without a value that is no NaN there may be a sample or none.
        WindowFunction::Min if is_sole => vec![count, Min],
        WindowFunction::Max if is_sole => vec![count, Max],
        WindowFunction::Min => vec![Min],
        WindowFunction::Max => vec![Max],
        WindowFunction::First => vec![count, First],
        WindowFunction::Last => vec![Last],
        WindowFunction::Delta => vec![count, First, Last],
        // A counter passes over NaN, which a sum shows.
        WindowFunction::Rate | WindowFunction::Increase if is_sole => vec![count, Sum, Counter],
        WindowFunction::Rate | WindowFunction::Increase => vec![count, Counter],
        _ => return Err("no states give this function of PromQL".to_string()),
    };
    let of = |kind: StateKind| Some(field).filter(|_| kind != StateKind::Points);
    match kinds.iter().all(|kind| kind.applies_to(of(*kind))) {
        true => Ok(kinds),
        false => Err("a boolean has no such states".to_string()),
    }
}

/// A series' value at each step.
pub type Made = Vec<(TagSet, Column)>;

impl Stated {
    /// The function of every series' windows. `points` are all points that the windows may hold. None if the states cannot tell:
    /// then they are read.
    pub fn columns(
        self,
        call: &RangeCall<'_>,
        points: Captured,
        counts: &Counts,
        guard: &Guard,
        touched: &Touched,
    ) -> Result<std::result::Result<Made, Captured>> {
        let Stated { slots, keys, histograms, mut source } = self;
        if let Some(histograms) = histograms
            && histograms.open_within(guard)?.may_have_values(guard)?
        {
            source.give_up(HISTOGRAMS);
            return Ok(Err(points));
        }
        let before = guard.memory();
        let runs = source.read(guard, touched)?;
        let columns = runs.len() * series_bytes(call.windows.steps.count);
        guard.reserve(columns)?;
        let reader = Reader { call, slots: &slots, places: Places::of(&keys), counts };
        let (mut made, mut unsure) = (Made::new(), Vec::new());
        let (lacking, gives_up) = (Mutex::new(HashSet::new()), AtomicBool::new(false));
        let outcomes = runs.into_par_iter().map(|(tags, run)| {
            guard.check()?;
            let column = match reader.column(&run, None)? {
                Read::Whole(column) => Some(column),
                Read::Lacks(slots) => {
                    lacking.lock().extend(slots);
                    None
                }
                Read::Unknown => {
                    gives_up.store(true, Relaxed);
                    None
                }
            };
            Ok::<_, Error>((tags, run, column))
        });
        for (tags, run, column) in outcomes.collect::<Result<Vec<_>>>()? {
            match column {
                Some(column) => made.push((tags, column)),
                None => unsure.push((tags, run)),
            }
        }
        if gives_up.into_inner() {
            source.give_up(NAN_AMONG_COUNTERS);
            guard.release(guard.memory().saturating_sub(before));
            return Ok(Err(points));
        }
        if !unsure.is_empty() {
            let lacking = lacking.into_inner();
            if slots.is_mostly(&lacking, points.ranges()) {
                source.give_up(MOSTLY_RESTS);
                guard.release(guard.memory().saturating_sub(before));
                return Ok(Err(points));
            }
            let rests = rests_of(&lacking, &slots, &keys, points, guard, touched)?;
            let nothing = StateRun::new(&keys);
            for (tags, run) in unsure {
                guard.check()?;
                let rests = Rests { slots: &lacking, run: rests.get(&tags).unwrap_or(&nothing) };
                match reader.column(&run, Some(rests))? {
                    Read::Whole(column) => made.push((tags, column)),
                    _ => unreachable!("bug: the points of a bucket's rest do not say what is in it"),
                }
            }
        }
        made.retain(|(_, column)| column.iter().any(|value| !is_absent(*value)));
        // Who takes the columns counts them.
        guard.release(guard.memory().saturating_sub(before));
        Ok(Ok(made))
    }
}

/// The states of the points that lie in the buckets of these slots after their first instants, by series; they start where the buckets do.
fn rests_of(
    lacking: &HashSet<Time>,
    slots: &Slots,
    keys: &[StateKey],
    points: Captured,
    guard: &Guard,
    touched: &Touched,
) -> Result<HashMap<TagSet, StateRun>> {
    let cuts = lacking.iter().filter_map(|slot| slots.cut_at(*slot));
    let ranges: RangeSet = cuts.map(|cut| cut.rest()).collect();
    let scan = points.within(&ranges).open_within(guard)?;
    let each = |found: &mut HashMap<TagSet, StateRun>, tags: &TagSet, pieces: &[Rows]| {
        let mut run = StateRun::new(keys);
        for rows in pieces {
            absorb(&mut run, &rows.clone().without_stale_markers(1), &ranges, slots);
        }
        guard.reserve(run.heap_bytes())?;
        join(found, tags, run);
        Ok(())
    };
    let both = |mut earlier: HashMap<TagSet, StateRun>, later: HashMap<TagSet, StateRun>| {
        later.into_iter().for_each(|(tags, run)| join(&mut earlier, &tags, run));
        Ok(earlier)
    };
    scan.fold(guard, touched, HashMap::new, each, both)
}

/// Why states cannot tell anything.
const HISTOGRAMS: &str =
    "there may be native histograms among what the selector means, and no rollup keeps states of them";

/// Why states are not worth their points.
const MOSTLY_RESTS: &str = "what it cannot tell at the edges of the windows is a large part of them; shorter buckets would be of use";

/// Why states cannot tell how much a counter rose.
const NAN_AMONG_COUNTERS: &str = "a counter has NaN among its values";

fn join(found: &mut HashMap<TagSet, StateRun>, tags: &TagSet, run: StateRun) {
    match found.get_mut(tags) {
        Some(known) => known.merge(&run),
        None => drop(found.insert(tags.clone(), run)),
    }
}

/// Rows whose only column is the field; each lies in one of the ranges, which are what buckets have after their first instants.
fn absorb(run: &mut StateRun, rows: &Rows, ranges: &RangeSet, slots: &Slots) {
    let Some((first, last)) = rows.times.first().zip(rows.times.last()) else { return };
    for range in ranges.touching(TimeRange::new(*first, last.saturating_add(1))) {
        let from = rows.times.partition_point(|time| *time < range.start);
        let to = rows.times.partition_point(|time| *time < range.end);
        let slot = slots.slot_of(range.start);
        let bucket = match run.starts.last() {
            Some(last) if *last == slot => run.len() - 1,
            _ => run.push_bucket(slot),
        };
        let windows = [BucketRows { bucket, rows: from..to }];
        for column in &mut run.columns {
            match (&mut *column, &rows.columns[0]) {
                (StateColumn::Points(_), _) => column.absorb_points(&windows),
                (_, Some(values)) => column.absorb(&windows, &rows.times, values),
                (_, None) => {}
            }
        }
    }
}

/// What buckets have after their first instants, of one series: the slots that were looked at, and the states of those with points.
#[derive(Clone, Copy)]
struct Rests<'a> {
    slots: &'a HashSet<Time>,
    run: &'a StateRun,
}

enum Read {
    Whole(Column),
    /// The points in the buckets of these slots have to be looked at.
    Lacks(Vec<Time>),
    /// All points have to be.
    Unknown,
}

struct Reader<'a> {
    call: &'a RangeCall<'a>,
    slots: &'a Slots,
    places: Places,
    counts: &'a Counts,
}

impl Reader<'_> {
    /// One series.
    fn column(&self, run: &StateRun, rests: Option<Rests<'_>>) -> Result<Read> {
        let steps: Steps = self.call.windows.steps;
        let mut column = Column::with_capacity(steps.count);
        let mut pieces = Vec::with_capacity(if self.counts.are_wanted() { steps.count } else { 0 });
        let mut lacking = Vec::new();
        let states = Run { run, places: &self.places, rests };
        let mut before: Option<(SlotWindow, usize, Found)> = None;
        for (slots, time) in self.slots.windows().zip(steps.times()) {
            // With `@` it is the same window at each step.
            if before.as_ref().is_none_or(|(known, ..)| *known != slots) {
                let window = states.window(slots);
                let end = self.call.windows.end(time);
                before = Some((slots, window.pieces(), self.value(&window, end)));
            }
            let Some((_, count, found)) = &before else { continue };
            match found {
                Found::Value(value) => column.push(*value),
                Found::Nothing => column.push(ABSENT),
                Found::Lacks => {
                    lacking.push(slots.begin.slot);
                    column.push(ABSENT);
                }
                Found::Unknown => return Ok(Read::Unknown),
            }
            if self.counts.are_wanted() {
                pieces.push(*count as u64);
            }
        }
        if !lacking.is_empty() {
            return Ok(Read::Lacks(lacking));
        }
        self.counts.states(&pieces);
        Ok(Read::Whole(column))
    }
}
