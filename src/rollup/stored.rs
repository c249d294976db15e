//! The states of a rollup as they are stored: in blocks, and over them newer ones in memory.
//!
//! Invariant: of a group's bucket that is in several places the newest state counts, and no other; only the states that are
//! wanted are decoded.
//! Not here: which buckets are clean (`read`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use storage_format::point::{TagSet, Time};
use storage_format::ranges::RangeSet;
use storage_format::state::{StateColumn, StateKey, StateRun, states_from_arrow};

use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::rollup::{Layer, Rollup};
use crate::rows::{Rows, Span};
use crate::scan::{Captured, Touched, View};
use crate::series::CompiledFilter;

/// Taken under the lock; to be read without it.
pub struct StoredStates {
    pub keys: Vec<StateKey>,
    blocks: Captured,
    memory: Memory,
    /// The rollup's, for errors.
    name: String,
}

/// The newest states, which no block has.
struct Memory {
    /// The last one wins.
    layers: Vec<Arc<Layer>>,
    /// Where the wanted states stand in their runs.
    places: Vec<usize>,
    ranges: RangeSet,
    filter: CompiledFilter,
}

/// Groups in memory that are worth a task of their own.
const GROUPS_PER_TASK: usize = 64;

impl StoredStates {
    /// The states at these places of the groups that pass.
    pub fn capture(
        view: &View<'_>,
        rollup: &Rollup,
        filter: CompiledFilter,
        ranges: RangeSet,
        places: Vec<usize>,
    ) -> StoredStates {
        let columns = places.iter().flat_map(|place| rollup.columns_of(*place));
        let columns = columns.map(|field| field.name().clone()).collect();
        StoredStates {
            keys: places.iter().map(|place| rollup.keys[*place]).collect(),
            blocks: Captured::states(view, &rollup.key, &filter, ranges.clone(), columns),
            memory: Memory { layers: rollup.layers.clone(), places, ranges, filter },
            name: rollup.info.name.clone(),
        }
    }

    /// Folds all groups, in parallel and in no particular order. A group may come in parts, which share no buckets.
    pub fn fold<T: Send>(
        self,
        guard: &Guard,
        touched: &Touched,
        new: impl Fn() -> T + Sync + Send,
        each: impl Fn(&mut T, &TagSet, StateRun) -> Result<()> + Sync + Send,
        join: impl Fn(T, T) -> Result<T> + Sync + Send,
    ) -> Result<T> {
        let StoredStates { keys, blocks, memory, name } = self;
        // A group counts once, wherever it is.
        let known = AtomicU64::new(0);
        let new_result = || (new(), Decoded::default());
        let (in_blocks, _) = blocks.open_within(guard)?.fold_spans(
            guard,
            touched,
            new_result,
            |(result, decoded), group, spans, _| {
                known.fetch_add(u64::from(memory.has(group)), Ordering::Relaxed);
                match memory.replaces(group, spans) {
                    true => Ok(()),
                    false => each(result, group, memory.without(group, decoded.run(&name, &keys, spans)?)),
                }
            },
            |(a, _), (b, _)| Ok((join(a, b)?, Decoded::default())),
        )?;
        let groups: Vec<_> = memory.groups().collect();
        if groups.is_empty() {
            // Other threads would be asked for nothing.
            return Ok(in_blocks);
        }
        let found = AtomicU64::new(0);
        let in_memory = groups.into_par_iter().with_min_len(GROUPS_PER_TASK).try_fold(
            &new,
            |mut result, (layer, group, run)| {
                guard.check()?;
                for (at, part) in memory.parts(layer, group, run).enumerate() {
                    found.fetch_add(u64::from(at == 0), Ordering::Relaxed);
                    touched.rows.fetch_add(part.len() as u64, Ordering::Relaxed);
                    each(&mut result, group, part)?;
                }
                Ok::<T, Error>(result)
            },
        );
        let in_memory = in_memory.try_reduce(&new, &join)?;
        let (found, known) = (found.into_inner(), known.into_inner());
        touched.series.fetch_add(found.saturating_sub(known), Ordering::Relaxed);
        join(in_blocks, in_memory)
    }

    /// One group after another, each perhaps in parts.
    pub fn for_each(
        self,
        guard: &Guard,
        mut each: impl FnMut(&TagSet, StateRun) -> Result<()>,
    ) -> Result<()> {
        let StoredStates { keys, blocks, memory, name } = self;
        blocks.open_within(guard)?.for_each(guard, |group, pieces| {
            let spans: Vec<Span<'_>> = pieces.iter().map(Span::all).collect();
            each(group, memory.without(group, Decoded::default().run(&name, &keys, &spans)?))
        })?;
        for (layer, group, run) in memory.groups() {
            guard.check()?;
            memory.parts(layer, group, run).try_for_each(|part| each(group, part))?;
        }
        Ok(())
    }
}

impl Memory {
    /// The groups of every layer.
    fn groups(&self) -> impl Iterator<Item = (usize, &TagSet, &StateRun)> {
        let layers = self.layers.iter().enumerate();
        let all = layers
            .flat_map(|(at, layer)| layer.runs.iter().map(move |(group, run)| (at, group, run.as_ref())));
        all.filter(|(_, group, _)| self.filter.passes(group))
    }

    /// What counts of a group's states in a layer.
    fn parts(&self, layer: usize, group: &TagSet, run: &StateRun) -> impl Iterator<Item = StateRun> {
        let touching = self.ranges.ranges().iter().map(|range| run.slice_of(*range, &self.places));
        let parts = touching.filter(|part| !part.is_empty());
        parts.map(move |part| newest(part, group, &self.layers[layer + 1..]))
    }

    fn has(&self, group: &TagSet) -> bool {
        self.layers.iter().any(|layer| layer.runs.contains_key(group))
    }

    /// Whether all that blocks have of a group is newer here, as after a refresh of everything: then it is not decoded.
    fn replaces(&self, group: &TagSet, spans: &[Span<'_>]) -> bool {
        let has = |run: &StateRun, times: &[Time]| {
            let first = run.starts.partition_point(|start| Some(start) < times.first());
            run.starts[first..].starts_with(times)
        };
        let mut runs = self.layers.iter().filter_map(|layer| layer.runs.get(group));
        runs.any(|run| spans.iter().all(|span| has(run, span.times())))
    }

    /// States from blocks, without those that are newer here.
    fn without(&self, group: &TagSet, run: StateRun) -> StateRun {
        newest(run, group, &self.layers)
    }
}

/// The buckets of a run that none of these layers has.
fn newest(mut run: StateRun, group: &TagSet, newer: &[Arc<Layer>]) -> StateRun {
    for newer in newer.iter().filter_map(|layer| layer.runs.get(group)) {
        if newer.starts.last() >= run.starts.first() && newer.starts.first() <= run.starts.last() {
            run.retain(|start| newer.starts.binary_search(&start).is_err());
        }
    }
    run
}

/// The states of the rows that were looked at last: those of many groups lie in one piece, and are decoded together.
#[derive(Default)]
struct Decoded {
    of: Rows,
    states: Vec<StateColumn>,
}

impl Decoded {
    /// The states that a scan of a rollup's blocks found for one group.
    fn run(&mut self, rollup: &str, keys: &[StateKey], spans: &[Span<'_>]) -> Result<StateRun> {
        let damaged = |what: &str| Error::Corrupt {
            file: format!("the states of rollup {rollup}"),
            offset: 0,
            what: what.to_string(),
        };
        let mut all: Option<StateRun> = None;
        for span in spans {
            // Its own hold on the buffer keeps others from taking the place.
            if self.states.is_empty() || !self.of.times.ptr_eq(&span.of.times) {
                let columns: Option<Vec<_>> = span.of.columns.iter().cloned().collect();
                let columns = columns.ok_or_else(|| damaged("a column of states is missing"))?;
                self.states = states_from_arrow(keys, &columns).map_err(|damage| damaged(damage.what))?;
                self.of = span.of.clone();
            }
            let run = StateRun::of_rows(span.times(), &self.states, span.rows.clone());
            let run = run.map_err(|damage| damaged(damage.what))?;
            match &mut all {
                Some(all) => all.merge(&run),
                None => all = Some(run),
            }
        }
        Ok(all.unwrap_or_else(|| StateRun::new(keys)))
    }
}
