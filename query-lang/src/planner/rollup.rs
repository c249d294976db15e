//! `create rollup` and `drop rollup`.
//!
//! Invariant: a rollup on a rollup comes out over the raw table with the conditions of the whole chain, and
//! its parent could compute it: same or longer buckets, same or fewer tags, same or fewer states.

use crate::ast::{self, Name, Query, Stage, StageKind};
use crate::catalog::RollupInfo;
use crate::error::ErrorKind;
use crate::error::Problem;
use crate::plan::{CreateRollup, Grouping, Keep, OutputColumn, Window};
use crate::rewrite::Need;
use crate::time::{format_duration, origin_of};

use super::Planner;
use super::names;
use super::select;
use super::stages::Stages;

/// The table of all metrics; its name is kept also while it does not exist.
const METRICS: &str = "metrics";

impl Planner<'_> {
    pub(super) fn create_rollup(&self, create: &ast::CreateRollup) -> Result<CreateRollup, Problem> {
        self.check_name_is_free(&create.name)?;
        let query = &create.query;
        let base = names::base(self.catalog, &query.source.name)?;
        let stages = Stages::of(&query.stages)?;
        let (aggregate, span, step) = definition(query, &stages)?;
        let filter = select::filter(&base, query, &stages)?;
        let by = select::grouping(&base, aggregate.by.as_deref())?;
        let columns = select::columns(&base.table, &aggregate.items, &by)?;
        let origin = origin_of(step);
        if let Some(parent) = &base.rollup {
            if step % parent.step != 0 {
                let (ours, its) = (format_duration(step), format_duration(parent.step));
                let name = &query.source.name;
                let message = format!("buckets of {ours} cannot be made of the {its} buckets of {name}");
                let hint = format!("take a multiple of {its}");
                return Err(Problem::new(ErrorKind::Rollup, span, message).hint(hint));
            }
            let window = Window::Every { step, origin };
            let need = Need { table: &base.table.name, filter: &filter, window, by: &by, columns: &columns };
            self.check_gives(parent, need, &query.source.name)?;
        }
        Ok(CreateRollup {
            rollup: RollupInfo {
                name: create.name.text.clone(),
                parent: base.rollup.map(|parent| parent.name),
                table: base.table.name,
                filter,
                step,
                origin,
                definition: canonical(create, step, &columns, &by),
                states: select::states_of(&columns),
                by,
                columns,
            },
            keep: create.keep,
        })
    }

    pub(super) fn drop_rollup(&self, name: &Name) -> Result<String, Problem> {
        let rollup = names::rollup(self.catalog, name)?;
        let child =
            self.catalog.rollups().into_iter().find(|other| other.parent.as_ref() == Some(&rollup.name));
        if let Some(child) = child {
            let child = Name::new(child.name);
            let message = format!("the rollup {child} is defined on {name}");
            let hint = format!("use `drop rollup {child}` first");
            return Err(Problem::new(ErrorKind::Rollup, name.span, message).hint(hint));
        }
        Ok(rollup.name)
    }

    fn check_name_is_free(&self, name: &Name) -> Result<(), Problem> {
        let problem = |message: String| Problem::new(ErrorKind::Name, name.span, message);
        if name.text == METRICS {
            return Err(problem("`metrics` is the table of all metrics; choose another name".to_owned()));
        }
        if self.catalog.rollup(&name.text).is_some() {
            let hint = format!("choose another name, or `drop rollup {name}` first");
            return Err(problem(format!("there is a rollup {name} already")).hint(hint));
        }
        if self.catalog.table(&name.text).is_some() {
            return Err(problem(format!("there is a table {name} already; choose another name")));
        }
        Ok(())
    }
}

/// The one aggregate stage, its place and its step; nothing else than conditions may stand beside it.
fn definition<'a>(
    query: &Query,
    stages: &Stages<'a>,
) -> Result<(&'a ast::Aggregate, ast::Span, i64), Problem> {
    let wrong = |span, message: &str| Problem::new(ErrorKind::Rollup, span, message);
    if let Some((_, span)) = stages.range {
        return Err(wrong(span, "a rollup covers all time; leave the range to its readers"));
    }
    if let Some((_, span)) = stages.limit {
        return Err(wrong(span, "a rollup keeps all buckets; leave the limit to its readers"));
    }
    let hint = "write for example `every 1m avg(usage_user) by host`";
    let Some((aggregate, span)) = stages.aggregate else {
        return Err(wrong(query.source.name.span, "a rollup needs `every` and aggregates").hint(hint));
    };
    let step = aggregate
        .every
        .ok_or_else(|| wrong(span, "a rollup needs `every`, the length of its buckets").hint(hint))?;
    Ok((aggregate, span, step))
}

/// The statement as stored: everything that was left to the catalog written out, without `keep`, which can change.
fn canonical(create: &ast::CreateRollup, step: i64, columns: &[OutputColumn], by: &Grouping) -> String {
    let by = match by {
        Grouping::Series => None,
        Grouping::Tags(tags) => Some(tags.iter().map(Name::new).collect()),
    };
    let items = select::written_out(columns);
    let written = ast::Aggregate { every: Some(step), items, by };
    let mut create = ast::CreateRollup { keep: Keep::Default, ..create.clone() };
    for stage in &mut create.query.stages {
        if matches!(stage.kind, StageKind::Aggregate(_)) {
            *stage = Stage { kind: StageKind::Aggregate(written.clone()), span: stage.span };
        }
    }
    create.to_string()
}
