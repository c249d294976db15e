//! The stages that work on rows.
//!
//! Invariant: the scope says after each step which columns the rows have, with their types.
//! Not here: the stages that become part of the read (`select`).

use storage_format::point::TimeRange;

use crate::ast::{self, Name, Query, Span, Stage, StageKind};
use crate::calendar::Zone;
use crate::error::ErrorKind;
use crate::error::Problem;
use crate::plan::{
    Aggregate, Computed, Fill, FillHow, Grouping, Join, JoinKind, Rank, Shape, SortKey, Step, Window,
};
use crate::print;
use crate::scalar::{ColumnRole, Constant, Scalar, ScalarKind, ValueType};

use super::Planner;
use super::columns::{check_rates, columns, distinct_tags, states_of};
use super::scalar::{Axis, Scope, TIME};
use super::select::{Planned, filled_window};
use super::windows::window;

const AFTER_SORT: Axis =
    Axis::Refused("rows are out of the order of time here; put it before `sort`, `top` and `bottom`");
pub(super) const IN_WHERE: Axis = Axis::Refused("name it by an `extend` first, then compare it");
const NO_TIME: Axis = Axis::Refused("these rows have no time; it needs `every`");

impl Planner<'_> {
    /// A stage that works on rows.
    pub(super) fn step(&self, planned: &mut Planned, stage: &Stage, zone: &Zone) -> Result<(), Problem> {
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
            JoinKind::Asof { within: None } => TimeRange::ALL.start,
            JoinKind::Asof { within: Some(within) } => range.start.saturating_sub(within),
            JoinKind::Inner | JoinKind::Left => range.start,
        };
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

    pub(super) fn assigned(
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
}
