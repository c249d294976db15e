//! `create rollup`, `drop rollup`, and what is done to one that there is.
//!
//! Invariant: a rollup on a rollup comes out over the raw table with the conditions of the whole chain, and
//! its parent could compute it: same or longer buckets, same or fewer tags, same or fewer states.

use crate::ast::{
    self, ColumnKind, Expr, ExprKind, Item, Literal, Name, Query, StageKind, StatementKind, TimeLiteral,
};
use crate::calendar::Zone;
use crate::catalog::{METRICS_TABLE, RollupInfo, TableInfo};
use crate::error::ErrorKind;
use crate::error::Problem;
use crate::plan::{
    Aggregate, ChangeRollup, CreateRollup, Grouping, Keep, OutputColumn, Read, RollupChange, Select, Shape,
};
use crate::rewrite;

use super::Planner;
use super::columns;
use super::names;
use super::scalar::TIME;

impl Planner<'_> {
    pub(super) fn create_rollup(&self, create: &ast::CreateRollup) -> Result<CreateRollup, Problem> {
        self.check_name_is_free(&create.name)?;
        Ok(CreateRollup { rollup: self.defined(create)?, keep: create.keep })
    }

    /// What a definition means, whether or not there is a rollup of its name.
    fn defined(&self, create: &ast::CreateRollup) -> Result<RollupInfo, Problem> {
        let query = &create.query;
        let base = names::base(self.catalog, &query.source.name)?;
        let of_metric = base.metric.is_some();
        let span = definition(query)?;
        let Select { read, .. } = self.select(query)?;
        let wrong = |message: &str| Problem::new(ErrorKind::Rollup, span, message);
        let Read { filter, computed, condition, shape: Shape::Aggregate(aggregate), .. } = read else {
            return Err(wrong(
                "a rollup computes columns of single points, each under a name of its own; this looks at other rows, or gives \
                 a field a second meaning",
            ));
        };
        let Aggregate { window, hop, by, columns, states, .. } = aggregate;
        let unkept =
            columns.iter().find(|column| !column.states().iter().all(|state| state.kind.is_stored()));
        if let Some(column) = unkept {
            let message =
                format!("a rollup cannot keep {}: it is computed from the points", column.function.name());
            return Err(Problem::new(ErrorKind::Rollup, span, message));
        }
        if !window.is_on_axis() {
            let message =
                "a rollup has buckets that begin at fixed times, and sessions begin with their points";
            return Err(wrong(message).hint("write for example `every 1h`"));
        }
        if columns.iter().any(|column| column.field.as_ref().is_some_and(|field| field.name == TIME)) {
            return Err(wrong("a rollup keeps aggregates of fields, and the time is none"));
        }
        let info = RollupInfo {
            name: create.name.text.clone(),
            parent: base.rollup.as_ref().map(|parent| parent.name.clone()),
            table: base.table.name.clone(),
            filter,
            computed,
            condition,
            follows: follows(create).then(|| canonical(create, of_metric, None, &by, &base.table)),
            definition: canonical(create, of_metric, Some(&columns), &by, &base.table),
            window,
            hop,
            by,
            columns,
            states,
        };
        if let Some(parent) = &base.rollup {
            let wide = parent.window.straddles(&info.window);
            if wide {
                let (ours, its) = (info.window.text(), parent.window.text());
                let name = &query.source.name;
                let message = format!("buckets of {ours} cannot be made of the {its} buckets of {name}");
                let hint = format!("take a multiple of {its}");
                return Err(Problem::new(ErrorKind::Rollup, span, message).hint(hint));
            }
            self.check_gives(parent, info.need(), &query.source.name)?;
        }
        Ok(info)
    }

    pub(super) fn change_rollup(&self, change: &ast::ChangeRollup) -> Result<ChangeRollup, Problem> {
        let rollup = names::rollup(self.catalog, &change.name)?;
        let planned = match &change.change {
            ast::RollupChange::Pause => RollupChange::Pause,
            ast::RollupChange::Resume => RollupChange::Resume,
            ast::RollupChange::Refresh(range, span) => {
                let utc = Zone::utc();
                RollupChange::Refresh(self.range(range.map(|range| (range, *span)), &utc)?)
            }
            ast::RollupChange::Add(items) => {
                let changed = |mut own: Vec<Item>| {
                    own.extend(items.iter().cloned());
                    Ok(own)
                };
                RollupChange::Rebuild(Box::new(self.altered(&change.name, &rollup, changed)?))
            }
            ast::RollupChange::Drop(items) => {
                RollupChange::Rebuild(Box::new(
                    self.altered(&change.name, &rollup, |own| without(own, items))?,
                ))
            }
        };
        Ok(ChangeRollup { name: rollup.name, change: planned })
    }

    /// The rollup with other aggregates. Those defined on it must find what they need.
    fn altered(
        &self,
        name: &Name,
        rollup: &RollupInfo,
        change: impl Fn(Vec<Item>) -> Result<Vec<Item>, Problem>,
    ) -> Result<RollupInfo, Problem> {
        let unclear = |why: String| Problem::new(ErrorKind::Rollup, name.span, why);
        let stored = crate::parse(rollup.follows.as_ref().unwrap_or(&rollup.definition))
            .map_err(|error| unclear(error.to_string()))?;
        let Some(StatementKind::CreateRollup(mut create)) =
            stored.statements.into_iter().next().map(|statement| statement.kind)
        else {
            return Err(unclear(format!("the definition of {name} defines no rollup")));
        };
        for stage in &mut create.query.stages {
            // Places of errors are those in the statement that alters.
            stage.span = name.span;
            if let StageKind::Aggregate(aggregate) = &mut stage.kind {
                aggregate.items = change(std::mem::take(&mut aggregate.items))?;
            }
        }
        let altered = self.defined(&create)?;
        let children = self.catalog.rollups().into_iter();
        for child in children.filter(|other| other.parent.as_ref() == Some(&rollup.name)) {
            if let Err(reason) = rewrite::fit(&altered, child.need()) {
                let child = Name::new(child.name);
                let message = format!("the rollup {child} is defined on {name}, and {reason} then");
                let hint = format!("use `drop rollup {child}` first");
                return Err(Problem::new(ErrorKind::Rollup, name.span, message).hint(hint));
            }
        }
        Ok(altered)
    }

    pub(super) fn drop_rollup(&self, name: &Name) -> Result<String, Problem> {
        if self.catalog.set_aside().contains(&name.text) {
            return Ok(name.text.clone());
        }
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
        if self.catalog.rollup(&name.text).is_some() || self.catalog.set_aside().contains(&name.text) {
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
            StageKind::Where(condition) if found.is_none() => no_now(condition)?,
            StageKind::Extend(assignments) if found.is_none() => {
                assignments.iter().try_for_each(|assignment| no_now(&assignment.value))?;
            }
            _ => {
                let message = "a rollup is one aggregate stage, with conditions and computed columns before it; leave the rest to its readers";
                return Err(wrong(stage.span, message));
            }
        }
    }
    found.ok_or_else(|| wrong(query.source.name.span, "a rollup needs `every` and aggregates").hint(hint))
}

fn without(own: Vec<Item>, dropped: &[Item]) -> Result<Vec<Item>, Problem> {
    let same =
        |a: &Item, b: &Item| (a.function, &a.field, a.every_field) == (b.function, &b.field, b.every_field);
    if let Some(missing) = dropped.iter().find(|item| !own.iter().any(|own| same(own, item))) {
        let text = |item: &Item| Item { alias: None, ..item.clone() }.to_string();
        let kept: Vec<String> = own.iter().map(text).collect();
        let message = format!("the rollup has no {}", text(missing));
        return Err(Problem::new(ErrorKind::Rollup, missing.span, message)
            .hint(format!("it has {}", kept.join(", "))));
    }
    let left: Vec<Item> = own.into_iter().filter(|own| !dropped.iter().any(|item| same(own, item))).collect();
    if left.is_empty() {
        let message = "nothing would be left of the rollup";
        return Err(Problem::new(ErrorKind::Rollup, dropped[0].span, message).hint("use `drop rollup`"));
    }
    Ok(left)
}

/// What is kept cannot change with the time of day.
fn no_now(expr: &Expr) -> Result<(), Problem> {
    if let ExprKind::Literal(Literal::Time(TimeLiteral::Now(_))) = expr.kind {
        let message = "a rollup is of all time, and `now` is another one at each look";
        return Err(Problem::new(ErrorKind::Rollup, expr.span, message));
    }
    expr.children().into_iter().try_for_each(no_now)
}

fn follows(create: &ast::CreateRollup) -> bool {
    create.query.stages.iter().any(|stage| match &stage.kind {
        StageKind::Aggregate(aggregate) => aggregate.items.iter().any(|item| item.every_field),
        _ => false,
    })
}

/// The statement as stored: everything that was left to the catalog written out, without `keep`, which can change. So it
/// means the same when the table has got more tags and fields. Without columns the aggregates stay as they are written.
fn canonical(
    create: &ast::CreateRollup,
    of_metric: bool,
    columns: Option<&[OutputColumn]>,
    by: &Grouping,
    table: &TableInfo,
) -> String {
    let by = match by {
        Grouping::Series => None,
        Grouping::Tags(tags) => Some(tags.iter().map(Name::new).collect()),
    };
    let items = columns.map(columns::written_out);
    let mut create = ast::CreateRollup { keep: Keep::Default, ..create.clone() };
    if of_metric {
        create.query.source = create.query.source.as_series();
    }
    let mut computed: Vec<String> = Vec::new();
    for stage in &mut create.query.stages {
        match &mut stage.kind {
            StageKind::Aggregate(aggregate) => {
                aggregate.by.clone_from(&by);
                if let Some(items) = &items {
                    aggregate.items.clone_from(items);
                }
            }
            StageKind::Where(condition) => name_fields(condition, table, &computed),
            StageKind::Extend(assignments) => {
                for assignment in assignments {
                    name_fields(&mut assignment.value, table, &computed);
                    computed.push(assignment.name.text.clone());
                }
            }
            _ => {}
        }
    }
    create.to_string()
}

/// Says of fields that they are fields. Computed columns and the time need no word for it, and a bare name is a tag.
fn name_fields(expr: &mut Expr, table: &TableInfo, computed: &[String]) {
    if let ExprKind::Column(column) = &mut expr.kind {
        let is_field = table.fields.iter().any(|field| field.name == column.name.text);
        let is_tag = table.tags.contains(&column.name.text);
        if column.kind == ColumnKind::Either && is_field && !is_tag && !computed.contains(&column.name.text) {
            column.kind = ColumnKind::Field;
        }
    }
    expr.children_mut().into_iter().for_each(|child| name_fields(child, table, computed));
}
