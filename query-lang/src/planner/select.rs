//! Queries: a source and its stages to a [`Select`].
//!
//! The stages before the first aggregate work on points and become part of the [`Read`]; those after it work on the rows
//! that it gives and become [`Step`]s. Without an aggregate, conditions on the points as they are stored are the read's, and
//! the rest are steps.
//! Invariant: a rollup named as the source is replaced by its table and its filter, and it can itself give what is asked;
//! that the engine may then read another rollup or raw points changes no answer.

use std::collections::HashSet;

use storage_format::point::{FieldType, TimeRange};

use crate::ast::{self, Item, Name, Query, Span, Stage, StageKind, Step as WindowStep};
use crate::calendar::{Calendar, Unit, Zone};
use crate::catalog::{FieldInfo, RollupInfo, StateSpec};
use crate::error::ErrorKind;
use crate::error::Problem;
use crate::error::list_names;
use crate::plan::{
    Aggregate, Computed, Fill, FillHow, Function, Grouping, Hop, Join, JoinKind, OutputColumn, Rank, Read,
    Select, Shape, SortKey, Step, TagFilter, Window,
};
use crate::print;
use crate::rewrite;
use crate::rewrite::Need;
use crate::scalar::{ColumnRole, Constant, Scalar, ScalarKind, ValueType};
use crate::time::{DAY, format_duration, origin_of};

use super::Planner;
use super::names;
use super::names::Base;
use super::scalar::{Axis, Scope, TIME, split};

/// A query as far as it is planned.
pub(super) struct Planned {
    pub select: Select,
    /// The columns that its rows have.
    pub scope: Scope,
    /// The buckets that `fill` can fill.
    window: Option<Window>,
    /// Whether rows still stand by group and time, as functions along the time axis need.
    in_order: bool,
}

const AFTER_SORT: Axis =
    Axis::Refused("rows are out of the order of time here; put it before `sort`, `top` and `bottom`");
const IN_WHERE: Axis = Axis::Refused("name it by an `extend` first, then compare it");
const NO_TIME: Axis = Axis::Refused("these rows have no time; it needs `every`");

impl Planner<'_> {
    pub(super) fn select(&self, query: &Query) -> Result<Select, Problem> {
        Ok(self.query(query, &self.zone(query)?, self.context.lets.len())?.select)
    }

    /// `lets` of the context may be named.
    fn query(&self, query: &Query, zone: &Zone, lets: usize) -> Result<Planned, Problem> {
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
        if let [Step::Limit { count, offset: 0 }, ..] = planned.select.steps.as_slice() {
            planned.select.read.limit = Some(*count);
            planned.select.steps.remove(0);
        }
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
        let (mut computed, mut conditions): (Vec<Computed>, Vec<Scalar>) = (Vec::new(), Vec::new());
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
        if let (Some(rollup), false) = (&base.rollup, conditions.is_empty() && computed.is_empty()) {
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
        let read = Reading { base: &base, name: &query.source.name, filter: &filter, range };
        let rowwise = condition.is_some() || !computed.is_empty();
        let aggregate = self.aggregate(read, window, hop, by, columns, rowwise)?;
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
        let mut conditions = Vec::new();
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
                let window = Window::Every { step: rollup.step, origin: rollup.origin };
                let (by, columns) = (rollup.by.clone(), rollup.columns.clone());
                let read = Reading { base: &base, name: &query.source.name, filter: &filter, range };
                let aggregate = self.aggregate(read, window, None, by, columns, false)?;
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
                computed: Vec::new(),
                condition: all(conditions),
                shape,
                limit: None,
            },
            steps: Vec::new(),
        };
        query.stages[taken..].iter().try_for_each(|stage| self.step(&mut planned, stage, zone))?;
        Ok(planned)
    }

    /// A stage that works on rows.
    fn step(&self, planned: &mut Planned, stage: &Stage, zone: &Zone) -> Result<(), Problem> {
        let axis = match (planned.scope.has_time(), planned.in_order) {
            (false, _) => NO_TIME,
            (true, false) => AFTER_SORT,
            (true, true) => Axis::Allowed,
        };
        let step = match &stage.kind {
            StageKind::Range(_) => {
                let is_points =
                    planned.window.is_none() && matches!(planned.select.read.shape, Shape::Points { .. });
                if is_points
                    && planned
                        .select
                        .steps
                        .iter()
                        .all(|step| matches!(step, Step::Where(_) | Step::Extend(_)))
                {
                    // It was taken for the read wherever it stands.
                    return Ok(());
                }
                let message = "a range stands before the aggregates, not after them";
                return Err(Problem::new(ErrorKind::Range, stage.span, message));
            }
            StageKind::Where(condition) => {
                Step::Where(self.condition(condition, &planned.scope, zone, IN_WHERE)?)
            }
            StageKind::Extend(assignments) => {
                let mut computed = Vec::new();
                for assignment in assignments {
                    let value = self.assigned(assignment, &planned.scope, zone, axis)?;
                    planned.scope.assign(&assignment.name.text, value.value_type);
                    computed.push(Computed { name: assignment.name.text.clone(), value });
                }
                Step::Extend(computed)
            }
            StageKind::Aggregate(asked) => self.again(planned, asked, zone, stage.span)?,
            StageKind::Fill(fill) => self.fill(planned, fill, zone, stage.span)?,
            StageKind::Sort(keys) => {
                planned.in_order = false;
                let key = |key: &ast::SortKey| {
                    let column = planned.scope.find(&key.column)?.name.clone();
                    Ok(SortKey { column, descending: key.descending })
                };
                Step::Sort(keys.iter().map(key).collect::<Result<_, Problem>>()?)
            }
            StageKind::Rank(rank) => {
                planned.in_order = false;
                let name = |name: &Name| Ok(planned.scope.find(name)?.name.clone());
                Step::Rank(Rank {
                    largest: rank.largest,
                    count: rank.count,
                    column: name(&rank.column)?,
                    per: rank.per.iter().map(name).collect::<Result<_, Problem>>()?,
                })
            }
            StageKind::Limit(limit) => Step::Limit { count: limit.count, offset: limit.offset },
            StageKind::Join(join) => self.join(planned, join, zone)?,
        };
        if !matches!(step, Step::Where(_) | Step::Extend(_) | Step::Fill(_)) {
            planned.window = match &step {
                Step::Aggregate(aggregate) => filled_window(aggregate),
                _ => None,
            };
        }
        planned.select.steps.push(step);
        Ok(())
    }

    /// An aggregate of rows: along time with `every`, across groups with `by`, over all of a group's times with neither.
    fn again(
        &self,
        planned: &mut Planned,
        asked: &ast::Aggregate,
        zone: &Zone,
        span: Span,
    ) -> Result<Step, Problem> {
        let by = match asked.by.as_deref() {
            None => Grouping::Series,
            Some(names) => Grouping::Tags(distinct_tags(names, |name| {
                let column = planned.scope.find(name)?;
                match column.role {
                    ColumnRole::Tag => Ok(column.name.clone()),
                    _ => {
                        let message = format!("{name} is not a tag, and groups are made by tags");
                        Err(Problem::new(ErrorKind::UnknownTag, name.span, message))
                    }
                }
            })?),
        };
        let has_time = planned.scope.has_time();
        let (window, hop) = match asked.window {
            // Across groups, at each time there is.
            ast::Window::Whole if asked.by.is_some() && has_time => {
                (Window::Every { step: 1, origin: 0 }, None)
            }
            ast::Window::Whole => (Window::WholeRange, None),
            _ if !has_time => {
                let message = "these rows have no time to be cut into buckets";
                return Err(Problem::new(ErrorKind::Unsupported, span, message).hint("leave `every` out"));
            }
            _ => window(asked, zone, span)?,
        };
        let columns = columns(&planned.scope, &asked.items, &by, &window)?;
        check_rates(&asked.items, &window, TimeRange::ALL)?;
        let states = states_of(&columns);
        let aggregate =
            Aggregate { window, hop, by, columns, states, rollups: Vec::new(), rejected: Vec::new() };
        let tags: Vec<String> =
            planned.scope.of_role(ColumnRole::Tag).map(|column| column.name.clone()).collect();
        let after = Planned::of_aggregate(&aggregate, &tags);
        (planned.scope, planned.in_order) = (after.scope, true);
        Ok(Step::Aggregate(aggregate))
    }

    fn fill(
        &self,
        planned: &mut Planned,
        fill: &ast::Fill,
        zone: &Zone,
        span: Span,
    ) -> Result<Step, Problem> {
        let Some(window) = planned.window.clone() else {
            let message = "there are no buckets to fill: `fill` follows an aggregate with `every`";
            return Err(Problem::new(ErrorKind::Unsupported, span, message));
        };
        let how = match &fill.how {
            ast::FillHow::Null => FillHow::Null,
            ast::FillHow::Previous => FillHow::Previous,
            ast::FillHow::Linear => FillHow::Linear,
            ast::FillHow::Value(value) => {
                let bound = self.scalar(value, &Scope::answer(), zone, IN_WHERE)?;
                match bound.kind {
                    ScalarKind::Constant(Constant::Null) => FillHow::Null,
                    ScalarKind::Constant(constant) => FillHow::Value(constant),
                    _ => unreachable!("bug: the parser lets only constants fill"),
                }
            }
        };
        // Between whole numbers there are others, and so the column is one of floats from here on.
        if matches!(how, FillHow::Linear | FillHow::Value(Constant::Float(_))) {
            let whole =
                |value_type| matches!(value_type, ValueType::Int | ValueType::UInt | ValueType::Duration);
            let values = planned.scope.columns.iter_mut().filter(|column| column.role == ColumnRole::Value);
            values
                .filter(|column| whole(column.value_type))
                .for_each(|column| column.value_type = ValueType::Float);
        }
        let range = planned.select.read.range;
        Ok(Step::Fill(Fill { how, max: fill.max, window, range }))
    }

    fn join(&self, planned: &mut Planned, join: &ast::Join, zone: &Zone) -> Result<Step, Problem> {
        let range = planned.select.read.range;
        let right = Query { source: join.right.clone(), stages: Vec::new() };
        // A table beside rows is read over their range, and for `asof` as far back as may be looked.
        let back = match join.kind {
            JoinKind::Asof { within } => {
                within.map_or(range.start, |within| range.start.saturating_sub(within))
            }
            JoinKind::Inner | JoinKind::Left => range.start,
        };
        let back =
            if matches!(join.kind, JoinKind::Asof { within: None }) { TimeRange::ALL.start } else { back };
        let context = super::Context { range: Some(TimeRange::new(back, range.end)), ..*self.context };
        let planner = Planner { catalog: self.catalog, context: &context };
        let mut other = planner.query(&right, zone, self.context.lets.len())?;
        let name = &join.right.name;
        other.scope.of = print::name(&name.text);
        let asof = matches!(join.kind, JoinKind::Asof { .. });
        if asof && !(planned.scope.has_time() && other.scope.has_time()) {
            let message = "`asof join` compares times, and one side has none";
            return Err(Problem::new(ErrorKind::Unsupported, name.span, message));
        }
        let mut on = Vec::new();
        for key in &join.on {
            let (left, right) = (planned.scope.find(key)?, other.scope.find(key)?);
            if left.value_type != right.value_type {
                let (a, b) = (left.value_type.described(), right.value_type.described());
                let message = format!("{key} is {a} on the left and {b} on the right");
                return Err(Problem::new(ErrorKind::Type, key.span, message));
            }
            if asof && left.role == ColumnRole::Time {
                let message = "`asof join` compares the times itself; name the other columns after `on`";
                return Err(Problem::new(ErrorKind::Unsupported, key.span, message));
            }
            on.push(key.text.clone());
        }
        let mut brings = Vec::new();
        for column in &other.scope.columns {
            if on.contains(&column.name) || asof && column.role == ColumnRole::Time {
                continue;
            }
            let taken = |name: &str, scope: &Scope| scope.columns.iter().any(|known| known.name == name);
            let mut here = column.name.clone();
            if taken(&here, &planned.scope) {
                here = format!("{}_{}", name.text, column.name);
            }
            if taken(&here, &planned.scope) {
                let message = format!("both sides have the columns {} and {here}", column.name);
                return Err(Problem::new(ErrorKind::Name, name.span, message).hint("rename one by `extend`"));
            }
            let role = if column.role == ColumnRole::Time { ColumnRole::Value } else { column.role };
            planned.scope.push(&here, role, column.value_type);
            brings.push((column.name.clone(), here));
        }
        Ok(Step::Join(Box::new(Join {
            kind: join.kind,
            name: name.text.clone(),
            right: other.select,
            on,
            brings,
        })))
    }

    fn assigned(
        &self,
        assignment: &ast::Assignment,
        scope: &Scope,
        zone: &Zone,
        axis: Axis,
    ) -> Result<Scalar, Problem> {
        let name = &assignment.name;
        let taken =
            scope.columns.iter().find(|column| column.name == name.text && column.role != ColumnRole::Value);
        if let Some(taken) = taken {
            let what = if taken.role == ColumnRole::Tag { "a tag" } else { "the time of the row" };
            let message = format!("{name} is {what}; a computed column needs a name of its own");
            return Err(Problem::new(ErrorKind::Name, name.span, message));
        }
        if name.text == TIME {
            let message = "a computed column cannot be called time";
            return Err(Problem::new(ErrorKind::Name, name.span, message));
        }
        let value = self.scalar(&assignment.value, scope, zone, axis)?;
        Ok(if value.value_type == ValueType::Null {
            Scalar { value_type: ValueType::Float, ..value }
        } else {
            value
        })
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
        rowwise: bool,
    ) -> Result<Aggregate, Problem> {
        let table = &read.base.table.name;
        let need = Need {
            table,
            filter: read.filter,
            window: &window,
            range: read.range,
            by: &by,
            columns: &columns,
            rowwise,
        };
        if let Some(rollup) = &read.base.rollup {
            self.check_gives(rollup, need, read.name)?;
        }
        let (rollups, rejected) = if self.context.rollups {
            rewrite::choose(need, &self.catalog.rollups())
        } else {
            (Vec::new(), Vec::new())
        };
        Ok(Aggregate { states: states_of(&columns), window, hop, by, columns, rollups, rejected })
    }

    /// A rollup read by its name must be able to give the answer, else the name promises too much.
    pub(super) fn check_gives(
        &self,
        rollup: &RollupInfo,
        need: Need<'_>,
        name: &Name,
    ) -> Result<(), Problem> {
        let Some(reason) = rewrite::reason_against(rollup, need) else { return Ok(()) };
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
            Window::WholeRange => rollup.step,
            Window::Calendar(_) | Window::Session { .. } => return None,
        };
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
    range: TimeRange,
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
            limit: None,
        };
        Planned { select: Select { read, steps: Vec::new() }, scope, window: None, in_order: true }
    }

    /// `tags` are those that single series may have.
    fn of_aggregate(aggregate: &Aggregate, tags: &[String]) -> Planned {
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
fn filled_window(aggregate: &Aggregate) -> Option<Window> {
    match (&aggregate.window, aggregate.hop) {
        (_, Some(hop)) => Some(Window::Every { step: hop.step, origin: hop.origin }),
        // Each time by itself.
        (Window::Every { step: 1, .. }, None) => None,
        (window @ (Window::Every { .. } | Window::Calendar(_)), None) => Some(window.clone()),
        (Window::WholeRange | Window::Session { .. }, None) => None,
    }
}

/// Whether a stage works on rows, also where points come before it.
fn is_step(stage: &Stage) -> bool {
    !matches!(stage.kind, StageKind::Range(_) | StageKind::Where(_) | StageKind::Extend(_))
}

fn all(mut conditions: Vec<Scalar>) -> Option<Scalar> {
    match conditions.len() {
        0 | 1 => conditions.pop(),
        _ => Some(Scalar::new(ScalarKind::And(conditions), ValueType::Bool)),
    }
}

/// Of the rollup itself, and the matchers.
fn filters_of(base: &Base, query: &Query) -> Result<Vec<TagFilter>, Problem> {
    let mut filters: Vec<TagFilter> = base.rollup.iter().map(|rollup| rollup.filter.clone()).collect();
    filters.push(names::matchers(&base.table, &query.source.matchers)?);
    Ok(filters)
}

fn named_zone(name: &ast::ZoneName) -> Result<Zone, Problem> {
    Zone::named(&name.text).ok_or_else(|| {
        let message = format!("there is no time zone \"{}\"", name.text);
        Problem::new(ErrorKind::Range, name.span, message)
            .hint("zones are named as in \"Europe/Berlin\" or \"UTC\"")
    })
}

/// The buckets of an aggregate, and how they overlap. `zone` is the statement's.
pub(super) fn window(
    asked: &ast::Aggregate,
    zone: &Zone,
    span: Span,
) -> Result<(Window, Option<Hop>), Problem> {
    let zone = asked.zone.as_ref().map_or_else(|| Ok(zone.clone()), named_zone)?;
    let (step, over, offset) = match asked.window {
        ast::Window::Whole => return Ok((Window::WholeRange, None)),
        ast::Window::Session { gap } => return Ok((Window::Session { gap }, None)),
        ast::Window::Every { step, over, offset } => (step, over, offset.unwrap_or(0)),
    };
    let calendar = |unit, count| Calendar { unit, count, zone: zone.clone(), offset };
    let window = match step {
        WindowStep::Months(months) => Window::Calendar(calendar(Unit::Month, months)),
        // Without a zone all days have 24 hours.
        WindowStep::Length(length) if length % DAY == 0 && zone != Zone::utc() => {
            Window::Calendar(calendar(Unit::Day, u32::try_from(length / DAY).unwrap_or(u32::MAX)))
        }
        WindowStep::Length(step) => {
            let origin = origin_of(step) + offset % step;
            let Some(over) = over.filter(|over| *over != step) else {
                return Ok((Window::Every { step, origin }, None));
            };
            let part = common_divisor(step, over);
            let parts = over / part;
            if parts > PARTS_MAX {
                let (over, step) = (format_duration(over), format_duration(step));
                let message =
                    format!("a window over {over} every {step} has {parts} parts; it may have {PARTS_MAX}");
                return Err(Problem::new(ErrorKind::Range, span, message)
                    .hint("take a longer step, or a multiple of it"));
            }
            return Ok((Window::Every { step: part, origin }, Some(Hop { step, origin, over })));
        }
    };
    match over {
        None => Ok((window, None)),
        Some(_) => {
            let message =
                "`over` takes steps of a fixed length, and days, months and years of a zone have none";
            Err(Problem::new(ErrorKind::Unsupported, span, message).hint("leave `over` out, or `in`"))
        }
    }
}

/// Parts that one overlapping bucket may be made of.
const PARTS_MAX: i64 = 100_000;

fn common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// Without `by`, each series of the source is a group; the series of a rollup are its groups.
fn grouping(base: &Base, by: Option<&[Name]>) -> Result<Grouping, Problem> {
    let Some(by) = by else {
        return Ok(base.rollup.as_ref().map_or(Grouping::Series, |rollup| rollup.by.clone()));
    };
    Ok(Grouping::Tags(distinct_tags(by, |name| names::tag(&base.table, name))?))
}

fn distinct_tags(
    by: &[Name],
    find: impl Fn(&Name) -> Result<String, Problem>,
) -> Result<Vec<String>, Problem> {
    let mut tags: Vec<String> = Vec::new();
    for name in by {
        let tag = find(name)?;
        if tags.contains(&tag) {
            let message = format!("{name} stands twice in `by`; once is enough");
            return Err(Problem::new(ErrorKind::Name, name.span, message));
        }
        tags.push(tag);
    }
    Ok(tags)
}

fn columns(
    scope: &Scope,
    items: &[Item],
    by: &Grouping,
    window: &Window,
) -> Result<Vec<OutputColumn>, Problem> {
    let all: Vec<String>;
    let tags: &[String] = match by {
        Grouping::Series => {
            all = scope.of_role(ColumnRole::Tag).map(|column| column.name.clone()).collect();
            &all
        }
        Grouping::Tags(tags) => tags,
    };
    let mut columns: Vec<OutputColumn> = Vec::new();
    let mut names = HashSet::new();
    for item in items {
        let column = column(scope, item)?;
        let span = item.alias.as_ref().map_or(item.span, |alias| alias.span);
        let name = print::name(&column.name);
        let clash = if !names.insert(column.name.clone()) {
            format!("two columns would be called {name}")
        } else if column.name == TIME {
            "a column cannot be called time: that is the start of the bucket".to_owned()
        } else if tags.contains(&column.name) {
            format!("this column would be called {name}, as a tag of the answer is")
        } else {
            columns.push(column);
            continue;
        };
        return Err(Problem::new(ErrorKind::Name, span, clash).hint("name one of them with `as`"));
    }
    if let Window::Session { .. } = window {
        let end = OutputColumn {
            name: SESSION_END.to_owned(),
            function: Function::Max,
            field: Some(time_as_field()),
        };
        if names.contains(SESSION_END) || tags.iter().any(|tag| tag == SESSION_END) {
            let message = format!("{SESSION_END} is the time of a session's last point; choose another name");
            return Err(Problem::new(ErrorKind::Name, items[0].span, message));
        }
        columns.push(end);
    }
    Ok(columns)
}

/// What the columns need, with the count of points, which tells an empty group from one without values.
pub(super) fn states_of(columns: &[OutputColumn]) -> Vec<StateSpec> {
    let points = OutputColumn { name: String::new(), function: Function::Count, field: None };
    let mut states: Vec<StateSpec> = columns.iter().chain([&points]).flat_map(OutputColumn::states).collect();
    states.sort();
    states.dedup();
    states
}

fn column(scope: &Scope, item: &Item) -> Result<OutputColumn, Problem> {
    let function = item.function;
    let values: Vec<FieldInfo> = scope
        .of_role(ColumnRole::Value)
        .map(|column| FieldInfo { name: column.name.clone(), field_type: column.value_type.as_field() })
        .collect();
    let field = match &item.field {
        Some(name) => Some(value(scope, &values, name)?),
        None if function == Function::Count => None,
        None => match values.as_slice() {
            [sole] => Some(sole.clone()),
            fields => {
                let message = format!("{} of which field?", function.name());
                let takes = |field: &&FieldInfo| field.field_type.is_number() || !function.needs_number();
                let example = fields.iter().find(takes).map_or("value", |field| field.name.as_str());
                let names = list_names(fields.iter().map(|field| field.name.as_str()));
                let hint =
                    format!("write `{}`; the fields are {names}", print::item(function, Some(example)));
                return Err(Problem::new(ErrorKind::UnknownField, item.span, message).hint(hint));
            }
        },
    };
    if let Some(field) =
        field.as_ref().filter(|field| function.needs_number() && !field.field_type.is_number())
    {
        let (name, kind) = (print::name(&field.name), field.field_type);
        let message = format!("{} needs a number, and the field {name} is a {kind}", function.name());
        let span = item.field.as_ref().map_or(item.span, |name| name.span);
        return Err(Problem::new(ErrorKind::Type, span, message)
            .hint("count, distinct, first and last take any field"));
    }
    let name = match (&item.alias, &item.field) {
        (Some(alias), _) => alias.text.clone(),
        (None, Some(field)) => default_name(function, &field.text),
        (None, None) => function.name().into_owned(),
    };
    Ok(OutputColumn { name, function, field })
}

/// A rate is per second of its bucket.
fn check_rates(items: &[Item], window: &Window, range: TimeRange) -> Result<(), Problem> {
    let Some(item) = items.iter().find(|item| item.function == Function::Rate) else { return Ok(()) };
    let message = match window {
        Window::WholeRange if range.start == TimeRange::ALL.start => {
            "a rate over all time has no seconds to divide by"
        }
        Window::Session { .. } => "a session of one point has no seconds to divide by",
        _ => return Ok(()),
    };
    Err(Problem::new(ErrorKind::Unsupported, item.span, message)
        .hint("take `increase`, or a range, or `every`"))
}

const SESSION_END: &str = "session_end";

/// The time of a point, as states take it.
fn time_as_field() -> FieldInfo {
    FieldInfo { name: TIME.to_owned(), field_type: FieldType::Int }
}

fn value(scope: &Scope, values: &[FieldInfo], name: &Name) -> Result<FieldInfo, Problem> {
    if let Some(field) = values.iter().find(|field| field.name == name.text) {
        return Ok(field.clone());
    }
    if name.text == TIME && scope.has_time() {
        return Ok(time_as_field());
    }
    Err(names::no_field(&scope.of, scope.get(&name.text, ColumnRole::Tag).is_some(), values, name))
}

pub(super) fn default_name(function: Function, field: &str) -> String {
    format!("{}_{field}", function.name())
}

/// The items with every field and every name that is not the default written out, so that the text means
/// the same when the table has got more fields.
pub(super) fn written_out(columns: &[OutputColumn]) -> Vec<Item> {
    let item = |column: &OutputColumn| {
        let field = column.field.as_ref().map(|field| field.name.as_str());
        let default =
            field.map_or(column.function.name().into_owned(), |field| default_name(column.function, field));
        ast::Item {
            function: column.function,
            field: field.map(Name::new),
            alias: (default != column.name).then(|| Name::new(column.name.as_str())),
            span: ast::Span::default(),
        }
    };
    columns.iter().map(item).collect()
}
