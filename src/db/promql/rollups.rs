//! Rollups for PromQL: which of them can give a function of windows, and what they have of it.
//!
//! They are chosen as those of any other query (`query_lang::rewrite`): the windows of all steps are one aggregate whose buckets are
//! the slots that the windows are cut into. If some of the rollups keep `first` of the field, only those serve, and the bucket at the
//! edge of a window is taken as a whole; if none do, such buckets are computed from points.
//! Invariant: a rollup gives a part of the answer only if it keeps series apart, by itself or because its `by` names all tags of the
//! table; the points that may have to be looked at are captured under the same lock as the states.
//! Not here: windows made of states (`promql::states`).

use std::sync::Arc;

use parking_lot::Mutex;
use query_lang::catalog::{FieldInfo, RollupInfo, StateSpec};
use query_lang::plan::{
    Aggregate, Function, Grouping, OutputColumn, RollupChoice, RollupRejection, TagFilter, Window,
};
use query_lang::rewrite::{Need, choose};
use storage_format::point::{TagSet, Time, TimeRange};
use storage_format::ranges::RangeSet;
use storage_format::state::{StateKind, StateRun};

use crate::db::{Core, Live};
use crate::error::Result;
use crate::guard::Guard;
use crate::promql::states::{Slots, StateSource, Stated, needs};
use crate::promql::{Asked, Selection, Wanted};
use crate::query::{RollupUse, StatePlan, keys_of};
use crate::rollup::Access;
use crate::scan::{Captured, Touched};
use crate::series::{METRICS_TABLE, Table};

/// What rollups have given, and why others have not.
#[derive(Default)]
pub struct Told {
    pub uses: Vec<RollupUse>,
    pub rejected: Vec<RollupRejection>,
}

/// Points at an edge stand for at least so much time of them: they lie in pages of thousands, which are decoded as a whole.
const EDGE_MIN: i64 = 1_800 * 1_000_000_000;

/// What could be read of a table for one selector, chosen before the lock is taken.
pub struct Choice {
    slots: Slots,
    aggregate: Aggregate,
}

/// What a selector looks at in one table.
struct Look<'a> {
    table: &'a Table,
    filter: &'a TagFilter,
    field: FieldInfo,
    /// What tells its series apart.
    by: Grouping,
}

impl Told {
    /// In terms of the whole query: a rollup that gave something is not among those that gave nothing.
    pub fn settled(self) -> Told {
        let Told { uses, rejected } = self;
        let mut settled = Told::default();
        for used in uses {
            match settled.uses.iter_mut().find(|known| known.name == used.name) {
                Some(known) => {
                    known.buckets += used.buckets;
                    known.dirty_recomputed += used.dirty_recomputed;
                }
                None => settled.uses.push(used),
            }
        }
        for rejection in rejected {
            let is_used = settled.uses.iter().any(|used| used.name == rejection.name);
            if !is_used && !settled.rejected.iter().any(|known| known.name == rejection.name) {
                settled.rejected.push(rejection);
            }
        }
        settled
    }

    fn reject<'a>(&mut self, names: impl Iterator<Item = &'a str>, reason: &str) {
        let rejection = |name: &str| RollupRejection { name: name.to_string(), reason: reason.to_string() };
        self.rejected.extend(names.map(rejection));
    }
}

/// The rollups that can give what a selector is asked for. `rollups` are all of the database.
pub fn chosen(
    table: &Table,
    wanted: &Wanted,
    selection: &Selection,
    rollups: &[RollupInfo],
    told: &mut Told,
) -> Option<Choice> {
    let over: Vec<RollupInfo> =
        rollups.iter().filter(|rollup| rollup.table == *table.name).cloned().collect();
    if over.is_empty() {
        return None;
    }
    let mut refuse = |reason: &str| {
        told.reject(over.iter().map(|rollup| rollup.name.as_str()), reason);
        None
    };
    let Some(Asked { function, windows }) = selection.asked else {
        return refuse("only functions of ranges are answered from rollups in PromQL");
    };
    let mut values = wanted.columns.iter().filter(|column| Some(*column) != wanted.histograms());
    let (Some((id, name)), None) = (values.next(), values.next()) else {
        return refuse("the selector means several fields");
    };
    let columns = table.columns();
    // A metric has had no sample yet.
    let column = columns.get(*id as usize)?;
    let is_metric = *table.name == *METRICS_TABLE;
    let look = Look {
        table,
        filter: &wanted.tags,
        field: FieldInfo { name: name.clone(), field_type: column.field_type },
        by: tags_apart(table),
    };
    let kinds = match needs(function, column.field_type, is_metric || columns.len() == 1) {
        Ok(kinds) => kinds,
        Err(reason) => return refuse(&reason),
    };
    let instant = if is_metric { MILLISECOND } else { 1 };
    let Some(uncut) = Slots::new(&windows, instant, |_, _| None) else {
        return refuse("there are too many windows");
    };
    let with_first = [kinds.as_slice(), &[StateKind::First]].concat();
    let (choices, rejected) = look.rollups(&with_first, &over);
    let bucket = |start: Time, before: Time| {
        let starts_there = choices.iter().map(|choice| choice.window.bucket(start));
        starts_there
            .filter(|bucket| bucket.start == start && bucket.end <= before)
            .map(|bucket| bucket.end)
            .next()
    };
    let cut = if choices.is_empty() { None } else { Slots::new(&windows, instant, bucket) };
    // Without a bucket at an edge `first` tells nothing, and those without it serve as well.
    let (slots, kinds, choices, rejected) = match cut {
        Some(cut) if cut.has_buckets() => (cut, with_first, choices, rejected),
        _ => {
            let (choices, rejected) = look.rollups(&kinds, &over);
            (uncut, kinds, choices, rejected)
        }
    };
    told.rejected.extend(rejected);
    if choices.is_empty() {
        return None;
    }
    let aggregate = Aggregate {
        window: Window::Edges(Arc::clone(&slots.edges)),
        hop: None,
        states: specs(&kinds, &look.field),
        by: look.by,
        columns: Vec::new(),
        rollups: choices,
        rejected: Vec::new(),
    };
    Some(Choice { slots, aggregate })
}

const MILLISECOND: i64 = 1_000_000;

/// All metrics have many more labels than one of them.
fn tags_apart(table: &Table) -> Grouping {
    if *table.name == *METRICS_TABLE { Grouping::Series } else { Grouping::Tags(table.tags()) }
}

impl Look<'_> {
    /// Those that keep these states series by series, and the others.
    fn rollups(&self, kinds: &[StateKind], over: &[RollupInfo]) -> (Vec<RollupChoice>, Vec<RollupRejection>) {
        let columns: Vec<OutputColumn> = kinds.iter().filter_map(|kind| column(*kind, &self.field)).collect();
        let need = Need {
            table: &self.table.name,
            filter: self.filter,
            computed: &[],
            condition: None,
            window: &Window::Edges([].into()),
            by: &self.by,
            columns: &columns,
            states: &specs(kinds, &self.field),
        };
        choose(need, over)
    }
}

/// Distinct and in their order.
fn specs(kinds: &[StateKind], field: &FieldInfo) -> Vec<StateSpec> {
    let mut kinds = kinds.to_vec();
    kinds.sort();
    kinds.dedup();
    let spec = |kind: StateKind| StateSpec {
        kind,
        field: Some(field.clone()).filter(|_| kind != StateKind::Points),
    };
    kinds.into_iter().map(spec).collect()
}

/// By what a state is known in a statement.
fn column(kind: StateKind, field: &FieldInfo) -> Option<OutputColumn> {
    let function = match kind {
        StateKind::Count => Function::Count,
        StateKind::Sum => Function::Sum,
        StateKind::Min => Function::Min,
        StateKind::Max => Function::Max,
        StateKind::First => Function::First,
        StateKind::Last => Function::Last,
        StateKind::Counter => Function::Increase,
        _ => return None,
    };
    Some(OutputColumn { name: function.name().to_string(), function, field: Some(field.clone()) })
}

impl Choice {
    /// What the rollups have, unless points would have to be read for most of it.
    pub fn capture(
        self,
        core: &Core,
        live: &Live,
        table: &Arc<Table>,
        wanted: &Wanted,
        told: &Arc<Mutex<Told>>,
        guard: &Guard,
    ) -> Result<Option<Stated>> {
        let Choice { slots, aggregate } = self;
        if aggregate.by != tags_apart(table) {
            // A series with another tag has come since.
            return Ok(None);
        }
        let ranges = slots.wanted();
        let visible = live.visible(core, table);
        let states = StatePlan::of_rows(&aggregate, Time::MIN)?;
        let counted = guard.memory();
        let access = Access::capture(
            &live.view_for(guard),
            &live.rollups,
            table,
            ranges.clone(),
            &wanted.tags,
            &aggregate,
            states,
            None,
            visible,
        )?;
        let names = aggregate.rollups.iter().map(|choice| choice.name.as_str());
        let expired = ranges.overlaps(TimeRange::new(Time::MIN, visible.points_from));
        let obstacle = match expired {
            true => wanted.histograms().is_some().then_some(HISTOGRAMS_EXPIRED),
            false => (cost(access.from_points()) > length(&ranges) / 2).then_some(MOSTLY_POINTS),
        };
        if let Some(obstacle) = obstacle {
            told.lock().reject(names, obstacle);
            // What was captured is dropped with it.
            guard.release(guard.memory().saturating_sub(counted));
            return Ok(None);
        }
        let histograms = wanted.histograms().map(|column| {
            let columns = std::slice::from_ref(column);
            Captured::samples(&live.view_for(guard), table, &wanted.filter, ranges.clone(), columns)
        });
        let histograms = histograms.transpose()?;
        let source = Source {
            access: Some(access),
            names: names.map(str::to_string).collect(),
            uses: Vec::new(),
            told: Arc::clone(told),
        };
        let keys = keys_of(&aggregate.states);
        Ok(Some(Stated { slots, keys, histograms, source: Box::new(source) }))
    }
}

const HISTOGRAMS_EXPIRED: &str = "some of the samples have expired, and they may have been native histograms";

const MOSTLY_POINTS: &str = "too little of the windows are whole buckets that are computed; with first(FIELD) in it, which tells \
    whether a sample lies on an edge, buckets at the edges count as whole";

fn length(ranges: &RangeSet) -> i128 {
    ranges.ranges().iter().map(|range| i128::from(range.end) - i128::from(range.start)).sum()
}

fn cost(points: &RangeSet) -> i128 {
    let of = |range: &TimeRange| (i128::from(range.end) - i128::from(range.start)).max(EDGE_MIN.into());
    points.ranges().iter().map(of).sum()
}

struct Source {
    /// Until it is read.
    access: Option<Access>,
    names: Vec<String>,
    uses: Vec<RollupUse>,
    told: Arc<Mutex<Told>>,
}

impl StateSource for Source {
    fn read(&mut self, guard: &Guard, touched: &Touched) -> Result<Vec<(TagSet, StateRun)>> {
        let Some(access) = self.access.take() else { return Ok(Vec::new()) };
        let (groups, uses) = access.states(guard, touched)?;
        self.uses = uses;
        Ok(groups.into_runs().collect())
    }

    fn give_up(&mut self, why: &str) {
        self.uses.clear();
        self.told.lock().reject(self.names.iter().map(String::as_str), why);
    }
}

impl Drop for Source {
    /// Whatever it gave was needed.
    fn drop(&mut self) {
        self.told.lock().uses.append(&mut self.uses);
    }
}
