//! `create rollup` and `drop rollup`.
//!
//! Invariant: a rollup on a rollup comes out over the raw table with the conditions of the whole chain, and
//! its parent could compute it: same or longer buckets, same or fewer tags, same or fewer states.

use storage_format::point::TimeRange;
use storage_format::state::StateKind;

use crate::ast::{self, Name, Query, StageKind};
use crate::catalog::{METRICS_TABLE, RollupInfo};
use crate::error::ErrorKind;
use crate::error::Problem;
use crate::plan::{Aggregate, CreateRollup, Grouping, Keep, OutputColumn, Read, Select, Shape, Window};
use crate::rewrite::Need;
use crate::time::format_duration;

use super::Planner;
use super::columns;
use super::names;
use super::scalar::TIME;

impl Planner<'_> {
    pub(super) fn create_rollup(&self, create: &ast::CreateRollup) -> Result<CreateRollup, Problem> {
        self.check_name_is_free(&create.name)?;
        let query = &create.query;
        let base = names::base(self.catalog, &query.source.name)?;
        let of_metric = base.metric.is_some();
        let span = definition(query)?;
        let Select { read, .. } = self.select(query)?;
        let wrong = |message: &str| Problem::new(ErrorKind::Rollup, span, message);
        if read.condition.is_some() || !read.computed.is_empty() {
            return Err(wrong(
                "a rollup takes conditions on tags; those on fields and computed columns it cannot keep",
            ));
        }
        let Read {
            filter, shape: Shape::Aggregate(Aggregate { window, hop: None, by, columns, .. }), ..
        } = read
        else {
            return Err(wrong("a rollup has buckets that do not overlap; `over` can be asked of it"));
        };
        if columns.iter().any(|column| column.field.as_ref().is_some_and(|field| field.name == TIME)) {
            return Err(wrong("a rollup keeps aggregates of fields, and the time is none"));
        }
        let kept = |kind: &StateKind| kind.is_stored() && !kind.is_of_one_series();
        let unkept = columns.iter().find(|column| !column.states().iter().all(|state| kept(&state.kind)));
        if let Some(column) = unkept {
            let message =
                format!("a rollup cannot keep {}: it is computed from the points", column.function.name());
            return Err(Problem::new(ErrorKind::Rollup, span, message));
        }
        let Window::Every { step, origin } = window else {
            let message =
                "a rollup has buckets of a fixed length; days and months of a zone can be asked of it";
            return Err(wrong(message).hint("write for example `every 1h`"));
        };
        let range = TimeRange::ALL;
        if let Some(parent) = &base.rollup {
            if step % parent.step != 0 {
                let (ours, its) = (format_duration(step), format_duration(parent.step));
                let name = &query.source.name;
                let message = format!("buckets of {ours} cannot be made of the {its} buckets of {name}");
                let hint = format!("take a multiple of {its}");
                return Err(Problem::new(ErrorKind::Rollup, span, message).hint(hint));
            }
            let need = Need {
                table: &base.table.name,
                filter: &filter,
                window: &window,
                range,
                by: &by,
                columns: &columns,
                rowwise: false,
            };
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
                definition: canonical(create, of_metric, &columns, &by),
                states: columns::states_of(&columns),
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
        if name.text == METRICS_TABLE {
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

/// The place of the one aggregate stage; nothing else than conditions may stand beside it.
fn definition(query: &Query) -> Result<ast::Span, Problem> {
    let wrong = |span, message: &str| Problem::new(ErrorKind::Rollup, span, message);
    let hint = "write for example `every 1m avg(usage_user) by host`";
    let mut found = None;
    for stage in &query.stages {
        match &stage.kind {
            StageKind::Range(_) => {
                return Err(wrong(stage.span, "a rollup covers all time; leave the range to its readers"));
            }
            StageKind::Limit(_) => {
                return Err(wrong(stage.span, "a rollup keeps all buckets; leave the limit to its readers"));
            }
            StageKind::Aggregate(aggregate) if aggregate.window == ast::Window::Whole => {
                return Err(wrong(stage.span, "a rollup needs `every`, the length of its buckets").hint(hint));
            }
            StageKind::Aggregate(_) if found.is_none() => found = Some(stage.span),
            StageKind::Where(_) if found.is_none() => {}
            _ => {
                let message = "a rollup is one aggregate stage, with conditions before it; leave the rest to its readers";
                return Err(wrong(stage.span, message));
            }
        }
    }
    found.ok_or_else(|| wrong(query.source.name.span, "a rollup needs `every` and aggregates").hint(hint))
}

/// The statement as stored: everything that was left to the catalog written out, without `keep`, which can change.
fn canonical(create: &ast::CreateRollup, of_metric: bool, columns: &[OutputColumn], by: &Grouping) -> String {
    let by = match by {
        Grouping::Series => None,
        Grouping::Tags(tags) => Some(tags.iter().map(Name::new).collect()),
    };
    let items = columns::written_out(columns);
    let mut create = ast::CreateRollup { keep: Keep::Default, ..create.clone() };
    if of_metric {
        create.query.source = create.query.source.as_series();
    }
    for stage in &mut create.query.stages {
        if let StageKind::Aggregate(aggregate) = &mut stage.kind {
            *aggregate = ast::Aggregate { items: items.clone(), by: by.clone(), ..aggregate.clone() };
        }
    }
    create.to_string()
}
