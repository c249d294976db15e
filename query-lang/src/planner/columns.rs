//! The columns of an aggregate: which function of which field, under which name, and the groups.
//!
//! Invariant: names are distinct, and a function gets a field that it takes.

use std::collections::HashSet;

use storage_format::point::{FieldType, TimeRange};

use crate::ast::{self, Item, Name};
use crate::catalog::{FieldInfo, StateSpec};
use crate::error::ErrorKind;
use crate::error::Problem;
use crate::error::list_names;
use crate::plan::{Function, Grouping, OutputColumn, Window};
use crate::print;
use crate::scalar::ColumnRole;

use super::names;
use super::scalar::{Scope, TIME};

pub(super) fn distinct_tags(
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

pub(super) fn columns(
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
    for item in &each_field(scope, items)? {
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

/// `avg(*)` as an aggregate of each field that is a number.
fn each_field(scope: &Scope, items: &[Item]) -> Result<Vec<Item>, Problem> {
    let numbers: Vec<&str> = scope
        .of_role(ColumnRole::Value)
        .filter(|column| column.value_type.is_number())
        .map(|column| column.name.as_str())
        .collect();
    let mut each = Vec::with_capacity(items.len());
    for item in items {
        if !item.every_field {
            each.push(item.clone());
            continue;
        }
        if let Some(alias) = &item.alias {
            let message = format!("{alias} cannot be the name of a column for each field");
            return Err(Problem::new(ErrorKind::Name, alias.span, message)
                .hint("leave `as` out, or write the fields one by one"));
        }
        if numbers.is_empty() {
            let message = format!("{} has no field that is a number", scope.of);
            return Err(Problem::new(ErrorKind::UnknownField, item.span, message));
        }
        let of = |name: &&str| Item { field: Some(Name::new(*name)), every_field: false, ..item.clone() };
        each.extend(numbers.iter().map(of));
    }
    Ok(each)
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
pub(super) fn check_rates(items: &[Item], window: &Window, range: TimeRange) -> Result<(), Problem> {
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

fn default_name(function: Function, field: &str) -> String {
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
            every_field: false,
            alias: (default != column.name).then(|| Name::new(column.name.as_str())),
            span: ast::Span::default(),
        }
    };
    columns.iter().map(item).collect()
}
