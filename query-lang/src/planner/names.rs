//! Names to the things they name, with "did you mean" where there is no such thing.
//!
//! Invariant: every name in the filters that come out exists in the table.

use crate::ast::{Matcher, Name, Source};
use crate::catalog::{Catalog, FieldInfo, METRIC_NAME, METRIC_VALUE, METRICS_TABLE, RollupInfo, TableInfo};
use crate::error::ErrorKind;
use crate::error::Problem;
use crate::error::{did_you_mean, list_names};
use crate::plan::{TagFilter, TagTest};
use crate::print;
use crate::rewrite;

/// Where points come from: a table, perhaps through a rollup or a metric named in its place.
pub(super) struct Base {
    /// Of a metric only the field that is meant.
    pub table: TableInfo,
    pub rollup: Option<RollupInfo>,
    /// The metric's name, if it is one.
    pub metric: Option<TagFilter>,
}

pub(super) fn base(catalog: &dyn Catalog, name: &Name) -> Result<Base, Problem> {
    if let Some(table) = catalog.table(&name.text) {
        return Ok(Base { table, rollup: None, metric: None });
    }
    let Some(rollup) = catalog.rollup(&name.text) else {
        let (mut table, metric) = metric(catalog, name).ok_or_else(|| unknown_table(catalog, name))?;
        if table.fields.iter().any(|field| field.name == METRIC_VALUE) {
            table.fields.retain(|field| field.name == METRIC_VALUE);
        }
        return Ok(Base { table, rollup: None, metric: Some(metric) });
    };
    let table = catalog.table(&rollup.table).ok_or_else(|| {
        let message = format!("the table `{}` of the rollup {name} is gone", rollup.table);
        Problem::new(ErrorKind::UnknownTable, name.span, message).hint(format!("use `drop rollup {name}`"))
    })?;
    Ok(Base { table, rollup: Some(rollup), metric: None })
}

/// The table of metrics and what narrows it to the one of this name.
fn metric(catalog: &dyn Catalog, name: &Name) -> Option<(TableInfo, TagFilter)> {
    if !catalog.is_metric(&name.text) {
        return None;
    }
    let test = TagTest::Equal(name.text.clone());
    Some((catalog.table(METRICS_TABLE)?, TagFilter::Match { tag: METRIC_NAME.to_owned(), test }))
}

/// The series of a table or of a metric.
pub(super) fn series_of(catalog: &dyn Catalog, name: &Name) -> Result<(TableInfo, TagFilter), Problem> {
    if let Some(table) = catalog.table(&name.text) {
        return Ok((table, TagFilter::All));
    }
    match metric(catalog, name).filter(|_| catalog.rollup(&name.text).is_none()) {
        Some(metric) => Ok(metric),
        None => Ok((table(catalog, name)?, TagFilter::All)),
    }
}

/// The same of what a source says more.
pub(super) fn series(catalog: &dyn Catalog, source: &Source) -> Result<(TableInfo, TagFilter), Problem> {
    let (table, of_metric) = series_of(catalog, &source.name)?;
    let filter = rewrite::all_of(vec![of_metric, matchers(&table, &source.matchers)?]);
    Ok((table, filter))
}

/// Where a rollup will not do.
pub(super) fn table(catalog: &dyn Catalog, name: &Name) -> Result<TableInfo, Problem> {
    catalog.table(&name.text).ok_or_else(|| match catalog.rollup(&name.text) {
        None if catalog.is_metric(&name.text) => {
            let message = format!("{name} is a metric, and a table is needed here");
            let hint = format!("metrics are series of the table `{METRICS_TABLE}`");
            Problem::new(ErrorKind::UnknownTable, name.span, message).hint(hint)
        }
        None => unknown_table(catalog, name),
        Some(rollup) => {
            let table = print::name(&rollup.table);
            let message = format!("{name} is a rollup of {table}, and a table is needed here");
            Problem::new(ErrorKind::UnknownTable, name.span, message).hint(format!("did you mean `{table}`?"))
        }
    })
}

pub(super) fn tag(table: &TableInfo, name: &Name) -> Result<String, Problem> {
    if table.tags.contains(&name.text) {
        return Ok(name.text.clone());
    }
    let is_field = table.fields.iter().any(|field| field.name == name.text);
    let what = if is_field { "a field, not a tag," } else { "not a tag" };
    let message = format!("{name} is {what} of the table {}", print::name(&table.name));
    let tags = table.tags.iter().map(String::as_str);
    Err(Problem::new(ErrorKind::UnknownTag, name.span, message)
        .hint(format!("its tags are {}", list_names(tags.clone())))
        .hint_if(if is_field { None } else { did_you_mean(&name.text, tags) }))
}

/// `name` is none of the fields of a table, or of the values of rows.
pub(super) fn no_field(of: &str, is_tag: bool, fields: &[FieldInfo], name: &Name) -> Problem {
    let what = if is_tag { "a tag, not a field," } else { "not a field" };
    let names = fields.iter().map(|field| field.name.as_str());
    Problem::new(ErrorKind::UnknownField, name.span, format!("{name} is {what} of {of}"))
        .hint(format!("its fields are {}", list_names(names.clone())))
        .hint_if(match is_tag {
            true => Some(format!("`extend x = {name}` makes a value of the tag")),
            false => did_you_mean(&name.text, names),
        })
}

pub(super) fn matchers(table: &TableInfo, matchers: &[Matcher]) -> Result<TagFilter, Problem> {
    let filters: Result<Vec<TagFilter>, Problem> = matchers
        .iter()
        .map(|matcher| Ok(TagFilter::Match { tag: tag(table, &matcher.tag)?, test: matcher.test.clone() }))
        .collect();
    Ok(rewrite::all_of(filters?))
}

/// For `drop rollup` and `alter rollup`.
pub(super) fn rollup(catalog: &dyn Catalog, name: &Name) -> Result<RollupInfo, Problem> {
    catalog.rollup(&name.text).ok_or_else(|| {
        let what =
            if catalog.table(&name.text).is_some() { "is a table, not a rollup" } else { "is not a rollup" };
        let rollups = catalog.rollups();
        let suggestion = did_you_mean(&name.text, rollups.iter().map(|rollup| rollup.name.as_str()));
        Problem::new(ErrorKind::UnknownRollup, name.span, format!("{name} {what}"))
            .hint("`show rollups` lists what there is")
            .hint_if(suggestion)
    })
}

fn unknown_table(catalog: &dyn Catalog, name: &Name) -> Problem {
    let mut known = catalog.tables();
    known.extend(catalog.rollups().into_iter().map(|rollup| rollup.name));
    known.extend(catalog.metrics());
    let message = format!("there is no table, rollup or metric {name}");
    Problem::new(ErrorKind::UnknownTable, name.span, message)
        .hint("`show tables`, `show rollups` and `show metrics` list what there is")
        .hint_if(did_you_mean(&name.text, known.iter().map(String::as_str)))
}
