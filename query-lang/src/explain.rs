//! Plan to text: what `explain` answers, one fact per line.
//!
//! Not here: what the engine adds after it looked (clean buckets, files, rows).

use storage_format::point::TimeRange;

use crate::plan::{
    Aggregate, AlterTarget, ChangeRollup, Computed, FillHow, Grouping, Hop, JoinKind, Keep, OutputColumn,
    Plan, Read, RollupChange, Select, Shape, Show, SortKey, Step, TagFilter, Window,
};
use crate::print;
use crate::scalar::Scalar;
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
            lines.extend(points_lines(&rollup.computed, rollup.condition.as_ref()));
            lines.push(format!(
                "  {}, {}",
                buckets_text(&rollup.window, rollup.hop),
                grouping_text(&rollup.by)
            ));
            if rollup.groups() != &rollup.by {
                lines.push("  kept per series".to_owned());
            }
            lines.extend(rollup.columns.iter().map(column_line));
            lines.extend((create.keep != Keep::Default).then(|| keep_line(create.keep)));
            lines.join("\n")
        }
        Plan::Let { name } => format!("let {name}"),
        Plan::DropRollup { name } => format!("drop rollup {name}"),
        Plan::Alter(alter) => {
            let target = match &alter.target {
                AlterTarget::Table(name) => format!("table {name}"),
                AlterTarget::Rollup(name) => format!("rollup {name}"),
                AlterTarget::Database(None) => "this database".to_owned(),
                AlterTarget::Database(Some(name)) => format!("database {name}"),
            };
            let mut lines = vec![format!("alter {target}")];
            lines.extend(alter.keep.map(keep_line));
            lines.extend(alter.late.map(|late| format!("  late points: {late}")));
            lines.join("\n")
        }
        Plan::ChangeRollup(ChangeRollup { name, change }) => match change {
            RollupChange::Rebuild(info) => {
                let mut lines = vec![format!("rebuild rollup {name} beside what it has, then swap")];
                lines.extend(info.columns.iter().map(column_line));
                lines.join("\n")
            }
            RollupChange::Pause => format!("pause rollup {name}"),
            RollupChange::Resume => format!("resume rollup {name}"),
            RollupChange::Refresh(range) => [format!("refresh rollup {name}"), range_line(*range)].join("\n"),
        },
        Plan::Delete(delete) => {
            let mut lines = vec![format!("delete from {}", delete.table), range_line(delete.range)];
            lines.extend(filter_line(&delete.filter));
            lines.join("\n")
        }
        Plan::Explain(inner) => explain(inner),
    }
}

fn explain_select(select: &Select) -> Vec<String> {
    let mut lines = explain_read(&select.read);
    select.steps.iter().for_each(|step| explain_step(step, &mut lines));
    lines
}

fn explain_read(read: &Read) -> Vec<String> {
    let named = read.named_rollup.iter().map(|rollup| format!(", through rollup {rollup}"));
    let mut lines = vec![format!("read {}{}", read.table, named.collect::<String>()), range_line(read.range)];
    lines.extend(filter_line(&read.filter));
    lines.extend(points_lines(&read.computed, read.condition.as_ref()));
    match &read.shape {
        Shape::Points { fields } => {
            let fields: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
            let order = if read.newest_first { ", the newest first" } else { "" };
            lines.push(format!("  points: {}{order}", fields.join(", ")));
        }
        Shape::Aggregate(aggregate) => {
            explain_aggregate(aggregate, &mut lines);
            for rollup in &aggregate.rollups {
                lines.push(format!("  may use: {}, buckets of {}", rollup.name, rollup.window.text()));
            }
            for rollup in &aggregate.rejected {
                lines.push(format!("  {} not used: {}", rollup.name, rollup.reason));
            }
            if aggregate.rollups.is_empty() {
                lines.push("  raw points only".to_owned());
            }
        }
    }
    lines.extend(read.limit.map(|count| format!("  limit: {count}")));
    lines
}

fn explain_aggregate(aggregate: &Aggregate, lines: &mut Vec<String>) {
    let window = buckets_text(&aggregate.window, aggregate.hop);
    lines.push(format!("  {window}, {}", grouping_text(&aggregate.by)));
    lines.extend(aggregate.columns.iter().map(column_line));
}

fn explain_step(step: &Step, lines: &mut Vec<String>) {
    match step {
        Step::Where(condition) => lines.push(format!("where {condition}")),
        Step::Extend(computed) => {
            lines.extend(
                computed.iter().map(|computed| format!("extend {} = {}", computed.name, computed.value)),
            );
        }
        Step::Aggregate(aggregate) => {
            lines.push("aggregate these rows".to_owned());
            explain_aggregate(aggregate, lines);
        }
        Step::Fill(fill) => {
            let how = match &fill.how {
                FillHow::Null => "null".to_owned(),
                FillHow::Previous => "the previous value".to_owned(),
                FillHow::Linear => "a line between their neighbours".to_owned(),
                FillHow::Value(value) => value.to_string(),
            };
            let max = fill.max.map(|max| format!(", gaps up to {}", format_duration(max)));
            lines.push(format!("fill missing buckets with {how}{}", max.unwrap_or_default()));
        }
        Step::Sort(keys) => {
            let key = |key: &SortKey| format!("{}{}", key.column, if key.descending { " desc" } else { "" });
            lines.push(format!("sort by {}", keys.iter().map(key).collect::<Vec<_>>().join(", ")));
        }
        Step::Rank(rank) => {
            let word = if rank.largest { "largest" } else { "smallest" };
            let per =
                if rank.per.is_empty() { String::new() } else { format!(" per {}", rank.per.join(", ")) };
            lines.push(format!("keep the {} with the {word} {}{per}", rank.count, rank.column));
        }
        Step::Limit { count, offset } => lines.push(format!("limit: {count}, after {offset}")),
        Step::Join(join) => {
            let word = match join.kind {
                JoinKind::Inner => "join".to_owned(),
                JoinKind::Left => "join, keeping all rows of the left".to_owned(),
                JoinKind::Asof { within: None } => "join the newest row before each".to_owned(),
                JoinKind::Asof { within: Some(within) } => {
                    format!("join the newest row at most {} before each", format_duration(within))
                }
            };
            lines.push(format!("{word}, on {}, with", join.on.join(", ")));
            lines.extend(explain_select(&join.right).into_iter().map(|line| format!("  {line}")));
        }
    }
}

fn explain_show(show: &Show) -> String {
    match show {
        Show::Tables => "show tables".to_owned(),
        Show::Rollups => "show rollups".to_owned(),
        Show::Metrics => "show metrics".to_owned(),
        Show::Storage => "show storage".to_owned(),
        Show::Tags { table, filter } => of_series("tags", table, filter),
        Show::Fields { table } => format!("show fields from {table}"),
        Show::Values { tag, table, filter } => of_series(&format!("values of {tag}"), table, filter),
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

/// What is looked at and computed of each point.
fn points_lines(computed: &[Computed], condition: Option<&Scalar>) -> Vec<String> {
    let computed =
        computed.iter().map(|computed| format!("  {} = {} of each point", computed.name, computed.value));
    computed.chain(condition.map(|condition| format!("  points where {condition}"))).collect()
}

fn buckets_text(window: &Window, hop: Option<Hop>) -> String {
    match hop {
        Some(hop) => {
            let (step, over) = (format_duration(hop.step), format_duration(hop.over));
            format!("every {step} over {over}, made of {}", window_text(window))
        }
        None => window_text(window),
    }
}

fn window_text(window: &Window) -> String {
    match window {
        Window::WholeRange => "one bucket, the whole range".to_owned(),
        Window::Every { step: 1, .. } => "at each time".to_owned(),
        Window::Every { step, .. } => format!("every {}", format_duration(*step)),
        Window::Session { gap } => format!("sessions, each until {} without a point", format_duration(*gap)),
        Window::Calendar(_) | Window::Edges(_) => format!("every {}", window.text()),
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
