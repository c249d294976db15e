//! Syntax tree to plan: every name looked up, every time made absolute, every column named.
//!
//! Invariant: what comes out keeps the promises of [`Plan`]; whatever cannot is an error with a place.
//! Not here: which rollups fit (see `rewrite`), and how they are read (the engine).

mod columns;
mod functions;
mod names;
mod rollup;
mod scalar;
mod select;
mod steps;
mod windows;

use storage_format::point::{Time, TimeRange};

use crate::ast;
use crate::ast::{Name, Span, Statement, StatementKind};
use crate::calendar::Zone;
use crate::catalog::Catalog;
use crate::error::ErrorKind;
use crate::error::Problem;
use crate::error::QueryError;
use crate::plan::{Alter, AlterTarget, Delete, Plan, Show};
use crate::rewrite;
use crate::time;

use scalar::{Axis, Scope};

/// What a statement means depends on this and on the catalog only.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub now: Time,
    /// The request's `from` and `to`, for a statement that has no range.
    pub range: Option<TimeRange>,
    /// Whether rollups may answer.
    pub rollups: bool,
    /// The `let`s before the statement, in their order.
    pub lets: &'a [ast::Let],
}

pub fn plan(statement: &Statement, catalog: &dyn Catalog, context: &Context<'_>) -> Result<Plan, QueryError> {
    let planner = Planner { catalog, context };
    planner.statement(&statement.kind).map_err(|problem| problem.within(&statement.text.0))
}

struct Planner<'a> {
    catalog: &'a dyn Catalog,
    context: &'a Context<'a>,
}

impl Planner<'_> {
    fn statement(&self, kind: &StatementKind) -> Result<Plan, Problem> {
        Ok(match kind {
            StatementKind::Query(query) => Plan::Select(self.select(query)?),
            StatementKind::Let(named) => {
                self.select(&named.query)?;
                Plan::Let { name: named.name.text.clone() }
            }
            StatementKind::Show(show) => Plan::Show(self.show(show)?),
            StatementKind::CreateRollup(create) => Plan::CreateRollup(self.create_rollup(create)?),
            StatementKind::DropRollup(name) => Plan::DropRollup { name: self.drop_rollup(name)? },
            StatementKind::Alter(alter) => Plan::Alter(self.alter(alter)?),
            StatementKind::ChangeRollup(change) => Plan::ChangeRollup(self.change_rollup(change)?),
            StatementKind::Delete(delete) => Plan::Delete(self.delete(delete)?),
            StatementKind::Explain(inner) => Plan::Explain(Box::new(self.statement(inner)?)),
        })
    }

    fn show(&self, show: &ast::Show) -> Result<Show, Problem> {
        Ok(match show {
            ast::Show::Tables => Show::Tables,
            ast::Show::Rollups => Show::Rollups,
            ast::Show::Metrics => Show::Metrics,
            ast::Show::Storage => Show::Storage,
            ast::Show::Tags { table } => {
                let (table, filter) = names::series_of(self.catalog, table)?;
                Show::Tags { table: table.name, filter }
            }
            ast::Show::Fields { table } => {
                Show::Fields { table: names::series_of(self.catalog, table)?.0.name }
            }
            ast::Show::Values { tag, source } => {
                let (table, filter) = names::series(self.catalog, source)?;
                Show::Values { tag: names::tag(&table, tag)?, table: table.name, filter }
            }
            ast::Show::Series { source } => {
                let (table, filter) = names::series(self.catalog, source)?;
                Show::Series { table: table.name, filter }
            }
            ast::Show::Cardinality { source } => {
                let (table, filter) = names::series(self.catalog, source)?;
                Show::Cardinality { table: table.name, filter }
            }
        })
    }

    fn alter(&self, alter: &ast::Alter) -> Result<Alter, Problem> {
        // Who mistook one for the other is told the statement that was meant.
        let other_kind = |name: &Name, is: &str, not: &str| {
            let message = format!("{name} is a {is}, not a {not}");
            let keep = alter.keep.map(|keep| format!("use `alter {is} {name} keep {keep}`"));
            Problem::new(ErrorKind::Name, name.span, message).hint_if(keep)
        };
        let target = match &alter.target {
            ast::AlterTarget::Table(name) if self.catalog.rollup(&name.text).is_some() => {
                return Err(other_kind(name, "rollup", "table"));
            }
            ast::AlterTarget::Table(name) => AlterTarget::Table(names::table(self.catalog, name)?.name),
            ast::AlterTarget::Rollup(name) if self.catalog.table(&name.text).is_some() => {
                return Err(other_kind(name, "table", "rollup"));
            }
            ast::AlterTarget::Rollup(name) => AlterTarget::Rollup(names::rollup(self.catalog, name)?.name),
            ast::AlterTarget::Database(name) => {
                AlterTarget::Database(name.as_ref().map(|name| name.text.clone()))
            }
        };
        Ok(Alter { target, keep: alter.keep, late: alter.late })
    }

    fn delete(&self, delete: &ast::Delete) -> Result<Delete, Problem> {
        let name = &delete.source.name;
        if let Some(rollup) = self.catalog.rollup(&name.text) {
            let message = format!("{name} is a rollup: its numbers follow the points of `{}`", rollup.table);
            let hint = format!("use `delete from {}` or `drop rollup {name}`", rollup.table);
            return Err(Problem::new(ErrorKind::Rollup, name.span, message).hint(hint));
        }
        let (table, filter) = names::series(self.catalog, &delete.source)?;
        let mut filters = vec![filter];
        let utc = Zone::utc();
        if let Some(condition) = &delete.condition {
            let refused = Axis::Refused("a delete looks at each series by itself");
            let (filter, rest) =
                scalar::split(self.condition(condition, &Scope::of_table(&table), &utc, refused)?);
            if !rest.is_empty() {
                let message = "a delete takes conditions on tags, and this looks at the points";
                let hint = "delete whole series, or a range of time";
                return Err(Problem::new(ErrorKind::Unsupported, condition.span, message).hint(hint));
            }
            filters.push(filter);
        }
        let range = self.range(delete.range.map(|range| (range, delete.range_span)), &utc)?;
        Ok(Delete { table: table.name, filter: rewrite::all_of(filters), range })
    }

    fn range(&self, range: Option<(ast::Range, Span)>, zone: &Zone) -> Result<TimeRange, Problem> {
        let now = self.context.now;
        let Some((range, span)) = range else {
            let asked = self.context.range.unwrap_or(TimeRange::ALL);
            let message = "the range of the request is empty: its `from` is not before its `to`";
            let problem = || Problem::new(ErrorKind::Range, Span::default(), message);
            return if asked.is_empty() { Err(problem()) } else { Ok(asked) };
        };
        let (start, end) = match range {
            ast::Range::Last(length) => (now.checked_sub(length), Some(now)),
            ast::Range::Since(start) => (time::resolve(start, now, zone), Some(TimeRange::ALL.end)),
            ast::Range::Between(start, end) => {
                (time::resolve(start, now, zone), time::resolve(end, now, zone))
            }
        };
        let (Some(start), Some(end)) = (start, end) else {
            return Err(Problem::new(ErrorKind::Range, span, time::OUT_OF_RANGE));
        };
        let range = TimeRange::new(start, end);
        if range.is_empty() {
            let how = if start == end { "where it starts" } else { "before it starts" };
            let message = format!("this range is empty: it ends {how}");
            let hint = format!("it goes from {} to {}", time::format_time(start), time::format_time(end));
            return Err(Problem::new(ErrorKind::Range, span, message).hint(hint));
        }
        Ok(range)
    }
}

#[cfg(test)]
mod tests;
