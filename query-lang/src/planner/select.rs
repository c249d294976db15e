//! Queries: source and stages to a [`Select`].
//!
//! Invariant: a rollup named as the source is replaced by its table and its filter, and it can itself give
//! what is asked; that the engine may then read another rollup or raw points changes no answer.

use std::collections::HashSet;

use crate::ast::{self, Item, Name, Query};
use crate::catalog::{FieldInfo, RollupInfo, StateSpec, TableInfo};
use crate::error::ErrorKind;
use crate::error::Problem;
use crate::error::list_names;
use crate::plan::{Aggregate, Function, Grouping, OutputColumn, Select, Shape, TagFilter, Window};
use crate::print;
use crate::rewrite;
use crate::rewrite::Need;
use crate::time::{format_duration, origin_of};

use super::Planner;
use super::names;
use super::names::Base;
use super::stages::Stages;

impl Planner<'_> {
    pub(super) fn select(&self, query: &Query) -> Result<Select, Problem> {
        let base = names::base(self.catalog, &query.source.name)?;
        let stages = Stages::of(&query.stages)?;
        let range = self.range(stages.range)?;
        let filter = filter(&base, query, &stages)?;
        let shape = match (stages.aggregate, &base.rollup) {
            (None, None) => Shape::Points { fields: base.table.fields.clone() },
            (None, Some(rollup)) => {
                let window = Window::Every { step: rollup.step, origin: rollup.origin };
                let (by, columns) = (rollup.by.clone(), rollup.columns.clone());
                Shape::Aggregate(self.aggregate(&base, &query.source.name, &filter, window, by, columns)?)
            }
            (Some((aggregate, _)), _) => {
                let window = window(aggregate.every);
                let by = grouping(&base, aggregate.by.as_deref())?;
                let columns = columns(&base.table, &aggregate.items, &by)?;
                Shape::Aggregate(self.aggregate(&base, &query.source.name, &filter, window, by, columns)?)
            }
        };
        Ok(Select {
            table: base.table.name,
            named_rollup: base.rollup.map(|rollup| rollup.name),
            range,
            filter,
            shape,
            limit: stages.limit.map(|(count, _)| count),
        })
    }

    fn aggregate(
        &self,
        base: &Base,
        source: &Name,
        filter: &TagFilter,
        window: Window,
        by: Grouping,
        columns: Vec<OutputColumn>,
    ) -> Result<Aggregate, Problem> {
        let need = Need { table: &base.table.name, filter, window, by: &by, columns: &columns };
        if let Some(rollup) = &base.rollup {
            self.check_gives(rollup, need, source)?;
        }
        let (rollups, rejected) = if self.context.rollups {
            rewrite::choose(need, &self.catalog.rollups())
        } else {
            (Vec::new(), Vec::new())
        };
        Ok(Aggregate { window, states: states_of(&columns), by, columns, rollups, rejected })
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
        let hint = format!("it would take `{}`", self.needed(rollup, need));
        Err(Problem::new(ErrorKind::Rollup, name.span, message).hint(hint))
    }

    /// The statement that creates a rollup which gives the answer.
    fn needed(&self, rollup: &RollupInfo, need: Need<'_>) -> String {
        let step = match need.window {
            Window::Every { step, .. } => step,
            Window::WholeRange => rollup.step,
        };
        let condition = match &rollup.filter {
            TagFilter::All => String::new(),
            filter => format!(" | where {filter}"),
        };
        let mut columns: Vec<String> = Vec::new();
        for column in need.columns {
            let text = match &column.field {
                Some(field) => format!("{}({})", column.function.name(), print::name(&field.name)),
                None => column.function.name().to_owned(),
            };
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
        format!(
            "create rollup {} as {}{condition} | every {} {}{by}",
            print::name(&self.free_name(need.table, step)),
            print::name(need.table),
            format_duration(step),
            columns.join(", "),
        )
    }

    fn free_name(&self, table: &str, step: i64) -> String {
        let wanted = format!("{table}_{}", format_duration(step));
        let free = |name: &String| self.catalog.table(name).is_none() && self.catalog.rollup(name).is_none();
        let numbered = (2..).map(|number| format!("{wanted}_{number}"));
        std::iter::once(wanted.clone()).chain(numbered).find(free).expect("names do not end")
    }
}

/// Matchers, `where` stages, and the rollup's own conditions.
pub(super) fn filter(base: &Base, query: &Query, stages: &Stages<'_>) -> Result<TagFilter, Problem> {
    let mut filters: Vec<TagFilter> = base.rollup.iter().map(|rollup| rollup.filter.clone()).collect();
    filters.push(names::matchers(&base.table, &query.source.matchers)?);
    for condition in &stages.conditions {
        filters.push(names::condition(&base.table, condition)?);
    }
    Ok(rewrite::all_of(filters))
}

pub(super) fn window(every: Option<i64>) -> Window {
    every.map_or(Window::WholeRange, |step| Window::Every { step, origin: origin_of(step) })
}

/// Without `by`, each series of the source is a group; the series of a rollup are its groups.
pub(super) fn grouping(base: &Base, by: Option<&[Name]>) -> Result<Grouping, Problem> {
    let Some(by) = by else {
        return Ok(base.rollup.as_ref().map_or(Grouping::Series, |rollup| rollup.by.clone()));
    };
    let mut tags: Vec<String> = Vec::new();
    for name in by {
        let tag = names::tag(&base.table, name)?;
        if tags.contains(&tag) {
            let message = format!("{name} stands twice in `by`; once is enough");
            return Err(Problem::new(ErrorKind::Name, name.span, message));
        }
        tags.push(tag);
    }
    Ok(Grouping::Tags(tags))
}

pub(super) fn columns(
    table: &TableInfo,
    items: &[Item],
    by: &Grouping,
) -> Result<Vec<OutputColumn>, Problem> {
    let tags: &[String] = match by {
        Grouping::Series => &table.tags,
        Grouping::Tags(tags) => tags,
    };
    let mut columns: Vec<OutputColumn> = Vec::new();
    let mut names = HashSet::new();
    for item in items {
        let column = column(table, item)?;
        let span = item.alias.as_ref().map_or(item.span, |alias| alias.span);
        let name = print::name(&column.name);
        let clash = if !names.insert(column.name.clone()) {
            format!("two columns would be called {name}")
        } else if column.name == "time" {
            "a column cannot be called time: that is the start of the bucket".to_owned()
        } else if tags.contains(&column.name) {
            format!("this column would be called {name}, as a tag of the answer is")
        } else {
            columns.push(column);
            continue;
        };
        return Err(Problem::new(ErrorKind::Name, span, clash).hint("name one of them with `as`"));
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

fn column(table: &TableInfo, item: &Item) -> Result<OutputColumn, Problem> {
    let function = item.function;
    let field = match &item.field {
        Some(name) => Some(names::field(table, name)?),
        None if function == Function::Count => None,
        None => match table.fields.as_slice() {
            [sole] => Some(sole.clone()),
            fields => {
                let message = format!("{} of which field?", function.name());
                let takes = |field: &&FieldInfo| field.field_type.is_number() || !function.needs_number();
                let example = fields.iter().find(takes).map_or("value", |field| field.name.as_str());
                let names = list_names(fields.iter().map(|field| field.name.as_str()));
                let hint =
                    format!("write `{}({})`; the fields are {names}", function.name(), print::name(example));
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
        return Err(Problem::new(ErrorKind::Type, span, message).hint("count, first and last take any field"));
    }
    let name = match (&item.alias, &item.field) {
        (Some(alias), _) => alias.text.clone(),
        (None, Some(field)) => default_name(function, &field.text),
        (None, None) => function.name().to_owned(),
    };
    Ok(OutputColumn { name, function, field })
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
            field.map_or(column.function.name().to_owned(), |field| default_name(column.function, field));
        ast::Item {
            function: column.function,
            field: field.map(Name::new),
            alias: (default != column.name).then(|| Name::new(column.name.as_str())),
            span: ast::Span::default(),
        }
    };
    columns.iter().map(item).collect()
}
