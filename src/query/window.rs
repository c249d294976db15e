//! Rows of a series to states per bucket: the loop that aggregation spends its time in.
//!
//! Decisions are made per series and column; inside, free functions run over slices (`storage_format::state`).
//! Invariant: a row falls into exactly one bucket, the one whose start is at or before it.

use query_lang::catalog::StateSpec;
use query_lang::plan::{Grouping, Window};
use storage_format::point::{TagSet, Time, ceil_time, floor_time};
use storage_format::state::{BucketRows, StateKey, StateKind, StateRun};

use crate::error::Result;
use crate::guard::Guard;
use crate::query::Groups;
use crate::rows::Rows;
use crate::scan::{Scan, Touched};

/// Which states to compute, and from which columns of a scan.
pub struct StatePlan {
    pub keys: Vec<StateKey>,
    /// Per key the place of its column in the scan; None for the count of points.
    places: Vec<Option<usize>>,
    /// The fields that the scan has to bring, in order.
    pub fields: Vec<String>,
    pub window: Window,
    /// The start of the one bucket of a window without steps.
    pub whole_start: Time,
}

impl StatePlan {
    pub fn new(states: &[StateSpec], window: Window, whole_start: Time) -> StatePlan {
        let mut fields: Vec<String> = Vec::new();
        let mut place = |name: &str| {
            fields.iter().position(|field| field == name).unwrap_or_else(|| {
                fields.push(name.to_string());
                fields.len() - 1
            })
        };
        let places =
            states.iter().map(|state| state.field.as_ref().map(|field| place(&field.name))).collect();
        StatePlan { keys: keys_of(states), places, fields, window, whole_start }
    }

    /// The start of the bucket that holds a time or a finer bucket.
    pub fn bucket(&self, time: Time) -> Time {
        match self.window {
            Window::WholeRange => self.whole_start,
            Window::Every { step, origin } => floor_time(time, step, origin),
        }
    }

    /// The states of one series, or of a slice of it.
    pub fn run(&self, pieces: &[Rows]) -> StateRun {
        let mut run = StateRun::new(&self.keys);
        let mut windows = Vec::new();
        for rows in pieces {
            windows.clear();
            self.cut(&rows.times, &mut run, &mut windows);
            for ((key, place), states) in self.keys.iter().zip(&self.places).zip(&mut run.columns) {
                match place {
                    None => states.absorb_points(&windows),
                    Some(place) => {
                        if let Some(values) = &rows.columns[*place] {
                            debug_assert!(key.kind != StateKind::Points);
                            states.absorb(&windows, &rows.times, values);
                        }
                    }
                }
            }
        }
        run
    }

    /// Cuts ascending times into buckets, appending new ones to the run.
    fn cut(&self, times: &[Time], run: &mut StateRun, windows: &mut Vec<BucketRows>) {
        let mut row = 0;
        while let Some(time) = times.get(row) {
            let start = self.bucket(*time);
            let bucket = match run.starts.last() {
                Some(last) if *last == start => run.len() - 1,
                _ => run.push_bucket(start),
            };
            let rows = match self.window {
                Window::WholeRange => times.len() - row,
                Window::Every { step, origin } => {
                    // Not start + step: the first slot of all is cut short by the beginning of time.
                    let end = ceil_time(time.saturating_add(1), step, origin);
                    rows_before(&times[row..], end)
                }
            };
            windows.push(BucketRows { bucket, rows: row..row + rows });
            row += rows;
        }
    }
}

/// How many leading times are below `end`: doubling steps, then halving, because a bucket holds from one row to
/// thousands.
fn rows_before(times: &[Time], end: Time) -> usize {
    let mut bound = 1;
    while bound < times.len() && times[bound] < end {
        bound *= 2;
    }
    let low = bound / 2;
    let high = bound.min(times.len());
    low + times[low..high].partition_point(|time| *time < end)
}

pub fn keys_of(states: &[StateSpec]) -> Vec<StateKey> {
    let key = |state: &StateSpec| StateKey {
        kind: state.kind,
        field_type: state.field.as_ref().map(|field| field.field_type),
    };
    states.iter().map(key).collect()
}

/// Whether a state of a group's bucket is wanted.
pub type Keep<'a> = &'a (dyn Fn(&TagSet, Time) -> bool + Sync);

/// The states of all groups of a scan whose columns are the plan's fields.
pub fn aggregate(
    scan: &Scan,
    plan: &StatePlan,
    by: &Grouping,
    guard: &Guard,
    touched: &Touched,
    keep: Option<Keep<'_>>,
) -> Result<Groups> {
    let by = Groups::sorted(by);
    scan.fold(
        guard,
        touched,
        Groups::default,
        |groups, tags, pieces| {
            let group = Groups::key(tags, by.as_deref());
            let mut run = plan.run(pieces);
            if let Some(keep) = keep {
                run.retain(|start| keep(&group, start));
            }
            groups.add(group, run, guard)
        },
        |a, b| a.join(b, guard),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubling_search_finds_the_same_as_a_scan() {
        let times: Vec<Time> = (0..100).map(|time| time * 3).collect();
        for end in -1..310 {
            for from in [0, 1, 50, 99] {
                let slow = times[from..].iter().take_while(|time| **time < end).count();
                // The caller knows that the first row is inside.
                if slow > 0 {
                    assert_eq!(rows_before(&times[from..], end), slow, "from {from} to {end}");
                }
            }
        }
    }
}
