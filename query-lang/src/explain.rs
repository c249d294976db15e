//! Plan to text: what `explain` answers, one fact per line.
//!
//! Not here: what the engine adds after it looked (clean buckets, files, rows).

use storage_format::point::TimeRange;

use crate::plan::{
    Aggregate, AlterTarget, Grouping, Keep, OutputColumn, Plan, Select, Shape, Show, TagFilter, Window,
};
use crate::print;
use crate::time::{format_duration, format_time};

pub fn explain(plan: &Plan) -> String {
    match plan {
        Plan::Select(select) => explain_select(select).join("\n"),
        Plan::Show(show) => explain_show(show),
        Plan::CreateRollup(create) => {
            let rollup = &create.rollup;
            let mut lines = vec![format!("create rollup {} over {}", rollup.name, rollup.table)];
            lines.extend(rollup.parent.iter().map(|parent| format!("  parent: {parent}")));
            lines.extend(filter_line(&rollup.filter));
            let window = Window::Every { step: rollup.step, origin: rollup.origin };
            lines.push(format!("  {}, {}", window_text(window), grouping_text(&rollup.by)));
            lines.extend(rollup.columns.iter().map(column_line));
            lines.extend((create.keep != Keep::Default).then(|| keep_line(create.keep)));
            lines.join("\n")
        }
        Plan::DropRollup { name } => format!("drop rollup {name}"),
        Plan::Alter(alter) => {
            let target = match &alter.target {
                AlterTarget::Table(name) => format!("table {name}"),
                AlterTarget::Rollup(name) => format!("rollup {name}"),
                AlterTarget::Database(None) => "this database".to_owned(),
                AlterTarget::Database(Some(name)) => format!("database {name}"),
            };
            [format!("alter {target}"), keep_line(alter.keep)].join("\n")
        }
        Plan::Delete(delete) => {
            let mut lines = vec![format!("delete from {}", delete.table), range_line(delete.range)];
            lines.extend(filter_line(&delete.filter));
            lines.join("\n")
        }
        Plan::Explain(inner) => explain(inner),
    }
}

fn explain_select(select: &Select) -> Vec<String> {
    let named = select.named_rollup.iter().map(|rollup| format!(", through rollup {rollup}"));
    let mut lines =
        vec![format!("read {}{}", select.table, named.collect::<String>()), range_line(select.range)];
    lines.extend(filter_line(&select.filter));
    match &select.shape {
        Shape::Points { fields } => {
            let fields: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
            lines.push(format!("  points: {}", fields.join(", ")));
        }
        Shape::Aggregate(aggregate) => explain_aggregate(aggregate, &mut lines),
    }
    lines.extend(select.limit.map(|count| format!("  limit: {count}")));
    lines
}

fn explain_aggregate(aggregate: &Aggregate, lines: &mut Vec<String>) {
    lines.push(format!("  {}, {}", window_text(aggregate.window), grouping_text(&aggregate.by)));
    lines.extend(aggregate.columns.iter().map(column_line));
    for rollup in &aggregate.rollups {
        lines.push(format!("  may use: {}, buckets of {}", rollup.name, format_duration(rollup.step)));
    }
    for rollup in &aggregate.rejected {
        lines.push(format!("  {} not used: {}", rollup.name, rollup.reason));
    }
    if aggregate.rollups.is_empty() {
        lines.push("  raw points only".to_owned());
    }
}

fn explain_show(show: &Show) -> String {
    match show {
        Show::Tables => "show tables".to_owned(),
        Show::Rollups => "show rollups".to_owned(),
        Show::Storage => "show storage".to_owned(),
        Show::Tags { table } => format!("show tags from {table}"),
        Show::Fields { table } => format!("show fields from {table}"),
        Show::Values { tag, table } => format!("show values of {tag} from {table}"),
        Show::Series { table, filter } => of_series("series", table, filter),
        Show::Cardinality { table, filter } => of_series("cardinality", table, filter),
    }
}

fn of_series(what: &str, table: &str, filter: &TagFilter) -> String {
    let lines = [format!("show {what} from {table}")].into_iter().chain(filter_line(filter));
    lines.collect::<Vec<String>>().join("\n")
}

fn keep_line(keep: Keep) -> String {
    match keep {
        Keep::Default => "  keep: as long as the database says".to_owned(),
        keep => format!("  keep: {keep}"),
    }
}

fn range_line(range: TimeRange) -> String {
    let start = (range.start > TimeRange::ALL.start).then(|| format!(" from {}", format_time(range.start)));
    let end = (range.end < TimeRange::ALL.end).then(|| format!(" to {}", format_time(range.end)));
    match (start, end) {
        (None, None) => "  range: all time".to_owned(),
        (start, end) => format!("  range:{}{}", start.unwrap_or_default(), end.unwrap_or_default()),
    }
}

fn filter_line(filter: &TagFilter) -> Option<String> {
    (*filter != TagFilter::All).then(|| format!("  where {filter}"))
}

fn window_text(window: Window) -> String {
    match window {
        Window::WholeRange => "one bucket, the whole range".to_owned(),
        Window::Every { step, .. } => format!("every {}", format_duration(step)),
    }
}

fn grouping_text(by: &Grouping) -> String {
    match by {
        Grouping::Series => "per series".to_owned(),
        Grouping::Tags(tags) if tags.is_empty() => "all series in one group".to_owned(),
        Grouping::Tags(tags) => {
            let tags: Vec<String> = tags.iter().map(|tag| print::name(tag)).collect();
            format!("by {}", tags.join(", "))
        }
    }
}

fn column_line(column: &OutputColumn) -> String {
    let function = column.function.name();
    match &column.field {
        Some(field) => format!("  {} = {function}({})", column.name, print::name(&field.name)),
        None => format!("  {} = {function} of points", column.name),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing;

    fn check(text: &str, expected: &str) {
        assert_eq!(super::explain(&testing::plan(text).unwrap()), expected, "{text}");
    }

    #[test]
    fn plans_read_as_lines() {
        check(
            "explain cpu{region=\"eu\"} | between 2026-01-01 and 2026-01-02 | every 1h avg(usage_user) by region | limit 3",
            "\
read cpu
  range: from 2026-01-01T00:00:00Z to 2026-01-02T00:00:00Z
  where region = \"eu\"
  every 1h, by region
  avg_usage_user = avg(usage_user)
  may use: cpu_1h, buckets of 1h
  may use: cpu_1m, buckets of 1m
  cpu_eu not used: it is grouped without tag region
  limit: 3",
        );
        check(
            "mem | since 2026-01-01",
            "read mem\n  range: from 2026-01-01T00:00:00Z\n  points: used_percent",
        );
        check(
            "door | count by ()",
            "read door\n  range: all time\n  one bucket, the whole range, all series in one group\n  \
             count = count of points\n  raw points only",
        );
        check("delete from cpu{host=\"a\"}", "delete from cpu\n  range: all time\n  where host = \"a\"");
        check("show series from cpu{host=\"a\"}", "show series from cpu\n  where host = \"a\"");
        check("show cardinality from cpu{host=\"a\"}", "show cardinality from cpu\n  where host = \"a\"");
        check("alter table cpu keep 4w2d", "alter table cpu\n  keep: 30d");
        check(
            "alter rollup cpu_1m keep default",
            "alter rollup cpu_1m\n  keep: as long as the database says",
        );
        check("alter database keep forever", "alter this database\n  keep: forever");
        check(
            "create rollup r as mem | every 5m count by () keep 400d",
            "create rollup r over mem\n  every 5m, all series in one group\n  count = count of points\n  keep: 400d",
        );
    }
}
