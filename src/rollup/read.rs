//! Answering an aggregate: stored states where they are clean, states computed now everywhere else.
//!
//! Invariant: the pieces of an [`Access`] cover the asked range exactly once, and all come from one view. So the answer
//! equals the one from raw points alone, bit for bit, because states merge exactly. States of one series stay open and
//! apart until all pieces are there ([`Access::answer`]).
//! Not here: which rollups could answer at all (`query_lang::rewrite`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashSet;
use query_lang::catalog::RollupInfo;
use query_lang::plan::{Aggregate, Grouping, RollupChoice, TagFilter, TagTest};
use query_lang::rewrite::{all_of, choose};
use storage_format::point::{TagSet, Time, TimeRange};
use storage_format::ranges::RangeSet;
use storage_format::state::StateRun;

use crate::error::Result;
use crate::guard::Guard;
use crate::query::Groups;
use crate::query::RollupUse;
use crate::query::StatePlan;
use crate::query::aggregate;
use crate::rollup::Rollup;
use crate::rollup::Rollups;
use crate::rollup::open::Running;
use crate::rollup::stored::StoredStates;
use crate::scan::Touched;
use crate::scan::View;
use crate::scan::{Captured, Extent};
use crate::series::{CompiledFilter, Table};

/// What an aggregate reads, taken under the lock; to be run without it.
pub struct Access {
    by: Grouping,
    plan: StatePlan,
    stored: Vec<Stored>,
    /// Of buckets that are not over yet.
    open: Vec<Unfinished>,
    raw: Captured,
    late: Option<Captured>,
}

/// The part of the answer that one rollup gives.
struct Stored {
    info: Arc<RollupInfo>,
    /// Only those that are wanted.
    states: StoredStates,
    /// Where the wanted states stand among those.
    places: Vec<usize>,
    /// What of the query's filter the rollup's groups still have to pass.
    filter: CompiledFilter,
    /// Groups of clean ranges whose buckets are dirty nevertheless: computed from raw points.
    dirty: DirtyPairs,
    dirty_points: Option<Captured>,
    /// Where the wanted states stand among the rollup's, all of which are computed for dirty groups.
    all_places: Vec<usize>,
    /// Dirty buckets of the range that this rollup left to others.
    left: u64,
}

/// The part of the answer that the running states of one rollup's open bucket give.
struct Unfinished {
    info: Arc<RollupInfo>,
    running: Running,
    /// Where the wanted states stand among the rollup's.
    places: Vec<usize>,
    filter: CompiledFilter,
    dirty_points: Option<Captured>,
}

/// Points that came when their time had expired, and that no state has yet.
#[derive(Clone, Copy)]
pub struct LatePoints<'a> {
    pub view: View<'a>,
    /// All of theirs.
    pub times: TimeRange,
}

/// What retention lets a read see. A refresh sees all that is there, but for late points: those are folded in once.
#[derive(Clone, Copy)]
pub struct Visible<'a> {
    /// Raw points from here on.
    pub points_from: Time,
    /// States, as long as their rollup keeps them.
    pub now: Time,
    /// They count where a rollup takes them, and nowhere else.
    pub late: Option<LatePoints<'a>>,
}

impl Visible<'_> {
    pub const ALL: Visible<'static> = Visible { points_from: Time::MIN, now: Time::MIN, late: None };
}

pub type DirtyPairs = BTreeMap<Time, HashSet<TagSet>>;

/// Above this many groups it is cheaper to scan all series than to name them.
const NAMED_GROUPS_MAX: usize = 256;

impl Access {
    /// `state_plan` is the plan's. `own` is a rollup that must not be read, because it is being computed.
    pub fn capture(
        view: &View<'_>,
        rollups: &Rollups,
        table: &Arc<Table>,
        wanted: RangeSet,
        filter: &TagFilter,
        plan: &Aggregate,
        mut state_plan: StatePlan,
        own: Option<&str>,
        visible: Visible<'_>,
    ) -> Result<Access> {
        let mut need = wanted;
        let (mut stored, mut open) = (Vec::new(), Vec::new());
        // Expired points are read only where a rollup has yet to take them into a bucket that it will go on showing.
        let mut readable = RangeSet::from(TimeRange::new(visible.points_from, Time::MAX));
        let mut taken_late = RangeSet::default();
        for choice in plan.rollups.iter().filter(|choice| Some(choice.name.as_str()) != own) {
            // Altered or made again since the statement was planned, it may have other states.
            let rollup = rollups.get(&table.database, &choice.name);
            let Some(rollup) = rollup.filter(|rollup| rollup.info.definition == choice.definition) else {
                continue;
            };
            let shown = RangeSet::from(TimeRange::new(rollup.visible_from(visible.now), Time::MAX));
            let wanted = state_plan.whole_buckets(&choice.window, &need.intersect(&shown));
            let unsealed = RangeSet::from(TimeRange::new(rollup.sealed_until, Time::MAX));
            readable = readable.union(&wanted.intersect(&unsealed));
            if let Some(late) = &visible.late {
                let known =
                    choice.window.outward(late.times).intersect(TimeRange::new(rollup.begins, Time::MAX));
                let wanted = wanted.intersect(&known.into());
                let parted = choice.window.straddling(&plan.window, &wanted);
                taken_late =
                    parted.map_or(taken_late.clone(), |parted| taken_late.union(&wanted.minus(&parted)));
            }
            let candidate = wanted.intersect(&rollup.computed);
            let Some(parted) = choice.window.straddling(&plan.window, &candidate) else { continue };
            let candidate = candidate.minus(&parted);
            if let Some((piece, taken)) = Stored::capture(view, rollup, table, &candidate, choice)? {
                need = need.minus(&taken);
                stored.push(piece);
            }
            let fits = |running: &Running| {
                let range = running.range;
                let whole = RangeSet::from(choice.window.bucket(range.start));
                range.start >= visible.points_from
                    && need.intersect(&range.into()) == range.into()
                    && !state_plan.counts_anew_within(range)
                    && choice.window.straddling(&plan.window, &whole).is_some_and(|parted| parted.is_empty())
            };
            if let Some(running) = rollup.open.running().filter(fits) {
                need = need.minus(&running.range.into());
                open.push(Unfinished::capture(view, rollup, table, running, choice)?);
            }
        }
        let need = need.intersect(&readable);
        let columns = columns_of(table, &state_plan.fields);
        let extent = if state_plan.wants_newest() { Extent::Newest } else { Extent::All };
        let filter = CompiledFilter::new(filter)?;
        let raw = Captured::points(view, table, &filter, need.clone(), &columns, extent)?;
        // States of one series take none: they are made of all its samples in their order.
        let late = visible.late.filter(|_| !taken_late.is_empty() && state_plan.closing().is_none());
        let late = late.map(|late| {
            let view = View { guard: view.guard, ..late.view };
            Captured::points(&view, table, &filter, taken_late, &columns, Extent::All)
        });
        let late = late.transpose()?;
        state_plan.set_pieces(need);
        Ok(Access { by: plan.by.clone(), plan: state_plan, stored, open, raw, late })
    }

    /// The states of the groups as users ask for them.
    pub fn answer(self, guard: &Guard, touched: &Touched) -> Result<(Groups, Vec<RollupUse>)> {
        let (by, closing) = (self.by.clone(), self.plan.closing());
        let (groups, uses) = self.gather(guard, touched)?;
        Ok(match closing {
            Some(closing) => (closing.close(groups, &by, guard)?, uses),
            None => (groups, uses),
        })
    }

    /// The states as a rollup keeps them: those of one series open.
    pub fn states(self, guard: &Guard, touched: &Touched) -> Result<(Groups, Vec<RollupUse>)> {
        let closing = self.plan.closing();
        let (groups, uses) = self.gather(guard, touched)?;
        Ok(match closing {
            Some(closing) => (closing.join(groups, guard)?, uses),
            None => (groups, uses),
        })
    }

    /// What is computed from raw points, but for dirty groups.
    pub fn from_points(&self) -> &RangeSet {
        self.raw.ranges()
    }

    fn gather(self, guard: &Guard, touched: &Touched) -> Result<(Groups, Vec<RollupUse>)> {
        let (has_points, has_states) = (!self.raw.is_empty(), !self.stored.is_empty());
        let of_points =
            || aggregate(&self.raw.open_within(guard)?, &self.plan, &self.by, guard, touched, None);
        let of_states = || {
            let run = |stored: Stored| stored.run(&self.plan, &self.by, guard, touched);
            self.stored.into_iter().map(run).collect::<Result<Vec<_>>>()
        };
        let (points, states) = match (has_points, has_states) {
            // Finding the series of the one is work for one core, while the other has the other's.
            (true, true) => rayon::join(of_points, of_states),
            (true, false) => (of_points(), Ok(Vec::new())),
            (false, _) => (Ok(Groups::default()), of_states()),
        };
        let (mut groups, mut uses) = (points?, Vec::new());
        if let Some(late) = self.late {
            let late = aggregate(&late.open_within(guard)?, &self.plan, &self.by, guard, touched, None)?;
            groups = groups.join(late, guard)?;
        }
        for (more, used) in states? {
            groups = groups.join(more, guard)?;
            uses.push(used);
        }
        for unfinished in self.open {
            let used = unfinished.run(&self.plan, &self.by, &mut groups, guard, touched)?;
            match uses.iter_mut().find(|known| known.name == used.name) {
                Some(known) => {
                    known.buckets += used.buckets;
                    known.dirty_recomputed += used.dirty_recomputed;
                }
                None => uses.push(used),
            }
        }
        Ok((groups, uses))
    }
}

impl Stored {
    /// `candidate` are computed buckets. None if the rollup has nothing clean there.
    fn capture(
        view: &View<'_>,
        rollup: &Rollup,
        table: &Arc<Table>,
        candidate: &RangeSet,
        choice: &RollupChoice,
    ) -> Result<Option<(Stored, RangeSet)>> {
        let info = &rollup.info;
        let (whole, pairs) = rollup.dirty.within(candidate);
        let taken = candidate.minus(&whole);
        if taken.is_empty() {
            return Ok(None);
        }
        let filter = CompiledFilter::new(&choice.filter)?;
        let used: Vec<usize> = BTreeSet::from_iter(choice.places.iter().copied()).into_iter().collect();
        let place = |at: &usize| used.binary_search(at).expect("it is one of them");
        let places = choice.places.iter().map(place).collect();
        let states = StoredStates::capture(view, rollup, filter.clone(), taken.clone(), used);
        let dirty: DirtyPairs =
            pairs.into_iter().map(|(bucket, groups)| (bucket, groups.into_iter().collect())).collect();
        let dirty_points = points_of_pairs(view, rollup, table, &dirty, buckets_of(info, &dirty))?;
        let piece = Stored {
            states,
            places,
            filter,
            all_places: choice.places.clone(),
            dirty,
            dirty_points,
            left: rollup.dirty.count(&whole),
            info: Arc::clone(info),
        };
        Ok(Some((piece, taken)))
    }

    fn run(
        self,
        plan: &StatePlan,
        by: &Grouping,
        guard: &Guard,
        touched: &Touched,
    ) -> Result<(Groups, RollupUse)> {
        let Stored { info, states, places, filter, dirty, dirty_points, all_places, left } = self;
        let by_sorted = plan.groups_of(by);
        let widen = |groups: &mut Groups, group: &TagSet, run: StateRun| {
            groups.add_of(group, by_sorted.as_deref(), plan.widened(run, &info.window), guard)
        };
        let is_dirty =
            |group: &TagSet, start: Time| dirty.get(&start).is_some_and(|groups| groups.contains(group));
        let (mut groups, mut buckets) = states.fold(
            guard,
            touched,
            || (Groups::default(), 0u64),
            |(groups, buckets), group, mut run| {
                if !dirty.is_empty() {
                    run.retain(|start| !is_dirty(group, start));
                }
                *buckets += run.len() as u64;
                widen(groups, group, run.project(&places))
            },
            |(groups, buckets), (more, more_buckets)| Ok((groups.join(more, guard)?, buckets + more_buckets)),
        )?;
        if let Some(points) = dirty_points {
            let runs = run_of_pairs(points, &info, &dirty, guard, touched)?;
            for (group, run) in runs.into_runs().filter(|(group, _)| filter.passes(group)) {
                buckets += run.len() as u64;
                widen(&mut groups, &group, run.project(&all_places))?;
            }
        }
        let used =
            RollupUse { name: info.name.clone(), buckets, dirty_recomputed: left + dirty.len() as u64 };
        Ok((groups, used))
    }
}

impl Unfinished {
    fn capture(
        view: &View<'_>,
        rollup: &Rollup,
        table: &Arc<Table>,
        running: Running,
        choice: &RollupChoice,
    ) -> Result<Unfinished> {
        let ranges = RangeSet::from(running.range);
        Ok(Unfinished {
            info: Arc::clone(&rollup.info),
            places: choice.places.clone(),
            filter: CompiledFilter::new(&choice.filter)?,
            dirty_points: points_of_pairs(view, rollup, table, &running.dirty_pairs(), ranges)?,
            running,
        })
    }

    fn run(
        self,
        plan: &StatePlan,
        by: &Grouping,
        groups: &mut Groups,
        guard: &Guard,
        touched: &Touched,
    ) -> Result<RollupUse> {
        let Unfinished { info, running, places, filter, dirty_points } = self;
        let by = plan.groups_of(by);
        let mut buckets = 0;
        let mut add = |group: &TagSet, run: StateRun| {
            buckets += run.len() as u64;
            groups.add_of(group, by.as_deref(), plan.widened(run, &info.window), guard)
        };
        let clean = running.states.runs.iter().filter(|(group, _)| !running.dirty.contains(*group));
        for (group, run) in clean.filter(|(group, _)| filter.passes(group)) {
            guard.check()?;
            add(group, run.slice_of(TimeRange::ALL, &places))?;
        }
        let dirty_recomputed = u64::from(!running.dirty.is_empty());
        if let Some(points) = dirty_points {
            let runs = run_of_pairs(points, &info, &running.dirty_pairs(), guard, touched)?;
            for (group, run) in runs.into_runs().filter(|(group, _)| filter.passes(group)) {
                add(&group, run.project(&places))?;
            }
        }
        Ok(RollupUse { name: info.name.clone(), buckets, dirty_recomputed })
    }
}

/// The times of the buckets of the pairs.
pub fn buckets_of(info: &RollupInfo, pairs: &DirtyPairs) -> RangeSet {
    pairs.keys().map(|bucket| info.window.bucket(*bucket)).collect()
}

/// The raw points of single dirty groups of single buckets, or of the part of them that is looked at.
pub fn points_of_pairs(
    view: &View<'_>,
    rollup: &Rollup,
    table: &Arc<Table>,
    pairs: &DirtyPairs,
    ranges: RangeSet,
) -> Result<Option<Captured>> {
    if pairs.is_empty() {
        return Ok(None);
    }
    let groups: HashSet<&TagSet> = pairs.values().flatten().collect();
    let named = filter_of_groups(&groups.into_iter().collect::<Vec<_>>(), rollup.by.as_deref());
    let filter = all_of([rollup.info.filter.clone(), named.unwrap_or(TagFilter::All)]);
    let plan = StatePlan::of_rollup(&rollup.info)?;
    let columns = columns_of(table, &plan.fields);
    let filter = CompiledFilter::new(&filter)?;
    Captured::points(view, table, &filter, ranges, &columns, Extent::All).map(Some)
}

/// The states of the pairs, by group of the rollup.
pub fn run_of_pairs(
    points: Captured,
    info: &RollupInfo,
    pairs: &DirtyPairs,
    guard: &Guard,
    touched: &Touched,
) -> Result<Groups> {
    let plan = StatePlan::of_rollup(info)?;
    let keep = |group: &TagSet, start: Time| pairs.get(&start).is_some_and(|groups| groups.contains(group));
    aggregate(&points.open_within(guard)?, &plan, info.groups(), guard, touched, Some(&keep))
}

/// What computes a rollup's rows; `others` may help.
pub fn definition_of(info: &RollupInfo, others: &[RollupInfo]) -> Aggregate {
    let (rollups, _) = choose(info.need(), others);
    Aggregate {
        window: info.window.clone(),
        hop: None,
        by: info.groups().clone(),
        columns: info.columns.clone(),
        states: info.states.clone(),
        rollups,
        rejected: Vec::new(),
    }
}

/// The series of these groups. None if they are so many that it is cheaper to look at all.
pub fn filter_of_groups(groups: &[&TagSet], by: Option<&[String]>) -> Option<TagFilter> {
    let few = groups.len() <= NAMED_GROUPS_MAX;
    few.then(|| TagFilter::Or(groups.iter().map(|group| group_filter(group, by)).collect()))
}

/// The series of one group. A tag that the group lacks, its series lack too.
fn group_filter(group: &TagSet, by: Option<&[String]>) -> TagFilter {
    let equal = |tag: &str, value: &str| TagFilter::Match {
        tag: tag.to_string(),
        test: TagTest::Equal(value.to_string()),
    };
    match by {
        Some(by) => all_of(by.iter().map(|tag| equal(tag, group.get(tag).unwrap_or_default()))),
        // Series with more tags pass, too; the caller keeps only the group itself.
        None => all_of(group.iter().map(|(tag, value)| equal(tag, value))),
    }
}

/// Fields by name, with the numbers that the head knows them by.
pub fn columns_of(table: &Table, fields: &[String]) -> Vec<(u32, String)> {
    let column = |name: &String| {
        let (id, _) = table.column(name).expect("bug: the planner let an unknown field pass");
        (id, name.clone())
    };
    fields.iter().map(column).collect()
}
