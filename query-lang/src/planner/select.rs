//! Queries: a source and its stages to a [`Select`].
//!
//! The stages before the first aggregate work on points and become part of the [`Read`]; those after it work on the rows
//! that it gives and become [`Step`]s. Without an aggregate, conditions on the points as they are stored are the read's, and
//! the rest are steps.
//! Invariant: a rollup named as the source is replaced by its table and its filter, and it can itself give what is asked;
//! that the engine may then read another rollup or raw points changes no answer.

use storage_format::point::TimeRange;

use crate::ast::{Name, Query, Stage, StageKind};
use crate::calendar::Zone;
use crate::catalog::RollupInfo;
use crate::error::ErrorKind;
use crate::error::Problem;
use crate::plan::{
    Aggregate, Computed, Grouping, Hop, OutputColumn, Read, Select, Shape, SortKey, Step, TagFilter, Window,
};
use crate::print;
use crate::rewrite;
use crate::rewrite::Need;
use crate::scalar::{ColumnRole, Scalar, ScalarKind, ValueType};
use crate::time::format_duration;

use super::Planner;
use super::columns::{check_rates, columns, distinct_tags, states_of};
use super::names;
use super::names::Base;
use super::scalar::{Axis, Scope, TIME, split};
use super::steps::IN_WHERE;
use super::windows::{named_zone, window};

/// A query as far as it is planned.
pub(super) struct Planned {
    pub select: Select,
    /// The columns that its rows have.
    pub scope: Scope,
    /// The buckets that `fill` can fill.
    pub window: Option<Window>,
    /// Whether rows still stand by group and time, as functions along the time axis need.
    pub in_order: bool,
}

impl Planner<'_> {
    pub(super) fn select(&self, query: &Query) -> Result<Select, Problem> {
        Ok(self.query(query, &self.zone(query)?, self.context.lets.len())?.select)
    }

    /// `lets` of the context may be named.
    pub(super) fn query(&self, query: &Query, zone: &Zone, lets: usize) -> Result<Planned, Problem> {
        let named =
            self.context.lets[..lets].iter().rposition(|named| named.name.text == query.source.name.text);
        if let Some(at) = named {
            if let Some(matcher) = query.source.matchers.first() {
                let name = &query.source.name;
                let message = format!("{name} is a query, which takes no matchers");
                let hint = format!("write `{name} | where {} ...`", matcher.tag);
                return Err(Problem::new(ErrorKind::Name, matcher.tag.span, message).hint(hint));
            }
            let inner = &self.context.lets[at].query;
            let mut planned = self.query(inner, &self.zone(inner)?, at)?;
            query.stages.iter().try_for_each(|stage| self.step(&mut planned, stage, zone))?;
            push_down(&mut planned.select);
            return Ok(planned);
        }
        let base = names::base(self.catalog, &query.source.name)?;
        let aggregate = query.stages.iter().position(|stage| matches!(stage.kind, StageKind::Aggregate(_)));
        let first_step = query.stages.iter().position(is_step).unwrap_or(query.stages.len());
        let range = self.range_of(query, zone)?;
        let mut planned = match aggregate {
            Some(at) if at == first_step => self.aggregated(base, query, range, zone, at)?,
            _ => self.points(base, query, range, zone)?,
        };
        push_down(&mut planned.select);
        Ok(planned)
    }

    /// Stages up to the first aggregate work on points.
    fn aggregated(
        &self,
        base: Base,
        query: &Query,
        range: TimeRange,
        zone: &Zone,
        at: usize,
    ) -> Result<Planned, Problem> {
        let before = &query.stages[..at];
        let StageKind::Aggregate(asked) = &query.stages[at].kind else {
            unreachable!("bug: found as an aggregate")
        };
        let mut scope = Scope::of_table(&base.table);
        let mut filters = filters_of(&base, query)?;
        let Points { mut computed, mut conditions } = Points::of(&base);
        for column in &computed {
            scope.assign(&column.name, column.value.value_type);
        }
        let own = (computed.len(), conditions.len());
        for stage in before {
            match &stage.kind {
                StageKind::Where(condition) => {
                    let (filter, rest) = split(self.condition(condition, &scope, zone, IN_WHERE)?);
                    filters.push(filter);
                    conditions.extend(rest);
                }
                StageKind::Extend(assignments) => {
                    for assignment in assignments {
                        let value = self.assigned(assignment, &scope, zone, Axis::Allowed)?;
                        let again = computed.iter().any(|known| known.name == assignment.name.text);
                        let hides = base.table.fields.iter().any(|field| field.name == assignment.name.text);
                        // What looks at other rows, and names with a second meaning, need the rows one after another.
                        if value.looks_around() || again || hides {
                            return self.points(base, query, range, zone);
                        }
                        scope.assign(&assignment.name.text, value.value_type);
                        computed.push(Computed { name: assignment.name.text.clone(), value });
                    }
                }
                _ => {}
            }
        }
        if let (Some(rollup), true) = (&base.rollup, own != (computed.len(), conditions.len())) {
            let name = &query.source.name;
            let message = format!("{name} is a rollup, which keeps aggregates and no points");
            let hint =
                format!("conditions and columns of points are those of `{}`", print::name(&rollup.table));
            return Err(Problem::new(ErrorKind::Rollup, name.span, message).hint(hint));
        }
        let filter = rewrite::all_of(filters);
        let by = grouping(&base, asked.by.as_deref())?;
        let (window, hop) = window(asked, zone, query.stages[at].span)?;
        let columns = columns(&scope, &asked.items, &by, &window)?;
        check_rates(&asked.items, &window, range)?;
        let condition = all(conditions);
        let read = Reading {
            base: &base,
            name: &query.source.name,
            filter: &filter,
            computed: &computed,
            condition: condition.as_ref(),
        };
        let aggregate = self.aggregate(read, window, hop, by, columns)?;
        let mut planned = Planned::of_aggregate(&aggregate, &base.table.tags);
        planned.select = Select {
            read: Read {
                table: base.table.name,
                named_rollup: base.rollup.map(|rollup| rollup.name),
                range,
                filter,
                computed,
                condition,
                shape: Shape::Aggregate(aggregate),
                newest_first: false,
                limit: None,
            },
            steps: Vec::new(),
        };
        query.stages[at + 1..].iter().try_for_each(|stage| self.step(&mut planned, stage, zone))?;
        Ok(planned)
    }

    /// Points, or a rollup's own rows; all stages but conditions on what is stored work on them one after another.
    fn points(&self, base: Base, query: &Query, range: TimeRange, zone: &Zone) -> Result<Planned, Problem> {
        let mut filters = filters_of(&base, query)?;
        let (mut computed, mut conditions) = (Vec::new(), Vec::new());
        let mut taken = 0;
        let stored = Scope::of_table(&base.table);
        for stage in &query.stages {
            let StageKind::Where(condition) = &stage.kind else {
                if matches!(stage.kind, StageKind::Range(_)) {
                    taken += 1;
                    continue;
                }
                break;
            };
            // Of a rollup's rows only what is about tags; the rest is about its columns.
            let condition = match (self.condition(condition, &stored, zone, IN_WHERE), &base.rollup) {
                (Err(_), Some(_)) => break,
                (condition, _) => condition?,
            };
            let (filter, rest) = split(condition);
            if base.rollup.is_some() && !rest.is_empty() {
                break;
            }
            filters.push(filter);
            conditions.extend(rest);
            taken += 1;
        }
        let filter = rewrite::all_of(filters);
        let (shape, mut planned) = match &base.rollup {
            None => {
                let fields = base.table.fields.clone();
                let mut planned = Planned::new(Scope::answer());
                planned.scope.columns = stored.columns;
                (Shape::Points { fields }, planned)
            }
            Some(rollup) => {
                let (by, columns) = (rollup.by.clone(), rollup.columns.clone());
                computed.clone_from(&rollup.computed);
                conditions.extend(rollup.condition.clone());
                let read = Reading {
                    base: &base,
                    name: &query.source.name,
                    filter: &filter,
                    computed: &rollup.computed,
                    condition: rollup.condition.as_ref(),
                };
                let aggregate = self.aggregate(read, rollup.window.clone(), rollup.hop, by, columns)?;
                let planned = Planned::of_aggregate(&aggregate, &base.table.tags);
                (Shape::Aggregate(aggregate), planned)
            }
        };
        planned.select = Select {
            read: Read {
                table: base.table.name,
                named_rollup: base.rollup.map(|rollup| rollup.name),
                range,
                filter,
                computed,
                condition: all(conditions),
                shape,
                newest_first: false,
                limit: None,
            },
            steps: Vec::new(),
        };
        query.stages[taken..].iter().try_for_each(|stage| self.step(&mut planned, stage, zone))?;
        Ok(planned)
    }

    /// The zone of a query's first `in`.
    pub(super) fn zone(&self, query: &Query) -> Result<Zone, Problem> {
        let zone = query.stages.iter().find_map(|stage| match &stage.kind {
            StageKind::Aggregate(aggregate) => aggregate.zone.as_ref(),
            _ => None,
        });
        zone.map_or_else(|| Ok(Zone::utc()), named_zone)
    }

    fn range_of(&self, query: &Query, zone: &Zone) -> Result<TimeRange, Problem> {
        let mut found = None;
        for stage in &query.stages {
            match stage.kind {
                StageKind::Range(_) if found.is_some() => {
                    let message = "there is a range already; keep one of them";
                    return Err(Problem::new(ErrorKind::Range, stage.span, message));
                }
                StageKind::Range(range) => found = Some((range, stage.span)),
                _ => {}
            }
        }
        self.range(found, zone)
    }

    fn aggregate(
        &self,
        read: Reading<'_>,
        window: Window,
        hop: Option<Hop>,
        by: Grouping,
        columns: Vec<OutputColumn>,
    ) -> Result<Aggregate, Problem> {
        let states = states_of(&columns);
        let need = Need {
            table: &read.base.table.name,
            filter: read.filter,
            computed: read.computed,
            condition: read.condition,
            window: &window,
            by: &by,
            columns: &columns,
            states: &states,
        };
        if let Some(rollup) = &read.base.rollup {
            self.check_gives(rollup, need, read.name)?;
        }
        let (rollups, rejected) = if self.context.rollups {
            rewrite::choose(need, &self.catalog.rollups())
        } else {
            (Vec::new(), Vec::new())
        };
        Ok(Aggregate { states, window, hop, by, columns, rollups, rejected })
    }

    /// A rollup read by its name must be able to give the answer, else the name promises too much.
    pub(super) fn check_gives(
        &self,
        rollup: &RollupInfo,
        need: Need<'_>,
        name: &Name,
    ) -> Result<(), Problem> {
        let Err(reason) = rewrite::fit(rollup, need) else { return Ok(()) };
        let message = format!("{name} cannot give this: {reason}");
        let problem = Problem::new(ErrorKind::Rollup, name.span, message);
        Err(match self.needed(rollup, need) {
            Some(statement) => problem.hint(format!("it would take `{statement}`")),
            None => problem.hint(format!("read `{}`", print::name(&rollup.table))),
        })
    }

    /// The statement that creates a rollup which gives the answer.
    fn needed(&self, rollup: &RollupInfo, need: Need<'_>) -> Option<String> {
        let step = match need.window {
            Window::Every { step, .. } => *step,
            Window::WholeRange => rollup.window.width(),
            Window::Calendar(_) | Window::Session { .. } | Window::Edges(_) => return None,
        };
        // What it keeps of points only its own definition says.
        if need.condition.is_some() || !need.computed.is_empty() {
            return None;
        }
        let condition = match &rollup.filter {
            TagFilter::All => String::new(),
            filter => format!(" | where {filter}"),
        };
        let mut columns: Vec<String> = Vec::new();
        for column in need.columns {
            let text = print::item(column.function, column.field.as_ref().map(|field| field.name.as_str()));
            if !columns.contains(&text) {
                columns.push(text);
            }
        }
        let by = match need.by {
            Grouping::Series => String::new(),
            Grouping::Tags(tags) => {
                let remaining = rewrite::remaining_filter(need.filter, &rollup.filter);
                let mut tags: Vec<&str> = tags.iter().map(String::as_str).collect();
                let filtered = rewrite::filter_tags(&remaining).into_iter();
                let extra: Vec<&str> = filtered.filter(|tag| !tags.contains(tag)).collect();
                tags.extend(extra);
                let tags: Vec<String> = tags.into_iter().map(print::name).collect();
                if tags.is_empty() { " by ()".to_owned() } else { format!(" by {}", tags.join(", ")) }
            }
        };
        Some(format!(
            "create rollup {} as {}{condition} | every {} {}{by}",
            print::name(&self.free_name(need.table, step)),
            print::name(need.table),
            format_duration(step),
            columns.join(", "),
        ))
    }

    fn free_name(&self, table: &str, step: i64) -> String {
        let wanted = format!("{table}_{}", format_duration(step));
        let free = |name: &String| self.catalog.table(name).is_none() && self.catalog.rollup(name).is_none();
        let numbered = (2..).map(|number| format!("{wanted}_{number}"));
        std::iter::once(wanted.clone()).chain(numbered).find(free).expect("names do not end")
    }
}

/// What an aggregate is read from.
#[derive(Clone, Copy)]
struct Reading<'a> {
    base: &'a Base,
    name: &'a Name,
    filter: &'a TagFilter,
    computed: &'a [Computed],
    condition: Option<&'a Scalar>,
}

/// What is done with points before they count, so far.
#[derive(Default)]
struct Points {
    computed: Vec<Computed>,
    conditions: Vec<Scalar>,
}

impl Points {
    /// A rollup's own.
    fn of(base: &Base) -> Points {
        let own = |rollup: &RollupInfo| Points {
            computed: rollup.computed.clone(),
            conditions: rollup.condition.iter().cloned().collect(),
        };
        base.rollup.as_ref().map(own).unwrap_or_default()
    }
}

impl Planned {
    /// Of a select that is still to be filled in.
    fn new(scope: Scope) -> Planned {
        let read = Read {
            table: String::new(),
            named_rollup: None,
            range: TimeRange::ALL,
            filter: TagFilter::All,
            computed: Vec::new(),
            condition: None,
            shape: Shape::Points { fields: Vec::new() },
            newest_first: false,
            limit: None,
        };
        Planned { select: Select { read, steps: Vec::new() }, scope, window: None, in_order: true }
    }

    /// `tags` are those that single series may have.
    pub(super) fn of_aggregate(aggregate: &Aggregate, tags: &[String]) -> Planned {
        let mut scope = Scope::answer();
        if aggregate.window.has_time() {
            scope.push(TIME, ColumnRole::Time, ValueType::Time);
        }
        let tags = match &aggregate.by {
            Grouping::Series => tags,
            Grouping::Tags(tags) => tags.as_slice(),
        };
        tags.iter().for_each(|tag| scope.push(tag, ColumnRole::Tag, ValueType::Str));
        for column in &aggregate.columns {
            scope.push(&column.name, ColumnRole::Value, column.value_type());
        }
        Planned { window: filled_window(aggregate), ..Planned::new(scope) }
    }
}

/// The window whose empty buckets can be filled.
pub(super) fn filled_window(aggregate: &Aggregate) -> Option<Window> {
    match (&aggregate.window, aggregate.hop) {
        (_, Some(hop)) => Some(Window::Every { step: hop.step, origin: hop.origin }),
        // Each time by itself.
        (Window::Every { step: 1, .. }, None) => None,
        (window @ (Window::Every { .. } | Window::Calendar(_)), None) => Some(window.clone()),
        (Window::WholeRange | Window::Session { .. } | Window::Edges(_), None) => None,
    }
}

/// The first steps that the read can do itself: points in the order of time, and no more rows than a limit lets through.
fn push_down(select: &mut Select) {
    if select.read.limit.is_some() {
        return;
    }
    if let (Shape::Points { .. }, [Step::Sort(keys), ..]) = (&select.read.shape, select.steps.as_slice())
        && let [SortKey { column, descending }] = keys.as_slice()
        && column == TIME
    {
        select.read.newest_first = *descending;
        select.steps.remove(0);
    }
    if let [Step::Limit { count, offset }, ..] = *select.steps.as_slice() {
        select.read.limit = Some(count.saturating_add(offset));
        if offset == 0 {
            select.steps.remove(0);
        }
    }
}

/// Whether a stage works on rows, also where points come before it.
fn is_step(stage: &Stage) -> bool {
    !matches!(stage.kind, StageKind::Range(_) | StageKind::Where(_) | StageKind::Extend(_))
}

fn all(mut conditions: Vec<Scalar>) -> Option<Scalar> {
    conditions = conditions.iter().flat_map(Scalar::conjuncts).cloned().collect();
    match conditions.len() {
        0 | 1 => conditions.pop(),
        _ => Some(Scalar::new(ScalarKind::And(conditions), ValueType::Bool)),
    }
}

/// Of the rollup itself, and the matchers.
fn filters_of(base: &Base, query: &Query) -> Result<Vec<TagFilter>, Problem> {
    let mut filters: Vec<TagFilter> = base.rollup.iter().map(|rollup| rollup.filter.clone()).collect();
    filters.extend(base.metric.clone());
    filters.push(names::matchers(&base.table, &query.source.matchers)?);
    Ok(filters)
}

/// Without `by`, each series of the source is a group; the series of a rollup are its groups.
fn grouping(base: &Base, by: Option<&[Name]>) -> Result<Grouping, Problem> {
    let Some(by) = by else {
        return Ok(base.rollup.as_ref().map_or(Grouping::Series, |rollup| rollup.by.clone()));
    };
    Ok(Grouping::Tags(distinct_tags(by, |name| names::tag(&base.table, name))?))
}
