//! What statements are planned to, and how those that cannot be are refused.

use storage_format::point::{Time, TimeRange};
use storage_format::state::StateKind;

use crate::plan::{
    Aggregate, Alter, AlterTarget, Function, Grouping, Keep, Late, Plan, Select, Shape, Show, TagFilter,
    TagTest, Window,
};
use crate::planner::Context;
use crate::testing;
use crate::testing::NOON;
use crate::time::{DAY, HOUR, MINUTE, MONDAY, WEEK};

fn select(text: &str) -> Select {
    match testing::plan(text) {
        Ok(Plan::Select(select)) => select,
        Ok(other) => panic!("{text}: {other:?}"),
        Err(error) => panic!("{}", error.render()),
    }
}

fn aggregate(text: &str) -> Aggregate {
    match select(text).read.shape {
        Shape::Aggregate(aggregate) => aggregate,
        points => panic!("{text}: {points:?}"),
    }
}

fn names(text: &str) -> Vec<String> {
    aggregate(text).columns.into_iter().map(|column| column.name).collect()
}

fn tags(names: &[&str]) -> Grouping {
    Grouping::Tags(names.iter().map(|name| (*name).to_owned()).collect())
}

fn equal(tag: &str, value: &str) -> TagFilter {
    TagFilter::Match { tag: tag.to_owned(), test: TagTest::Equal(value.to_owned()) }
}

#[test]
fn raw_points_have_all_fields() {
    let plan = select("cpu | last 5m | limit 20");
    assert_eq!(plan.read.range, TimeRange::new(NOON - 5 * MINUTE, NOON));
    assert_eq!(plan.read.limit, Some(20));
    let Shape::Points { fields } = plan.read.shape else { panic!("points were asked") };
    assert_eq!(fields.len(), 4);
}

#[test]
fn columns_are_named() {
    assert_eq!(
        names("cpu | every 1m count, avg(usage_user), max(usage_user) as top"),
        ["count", "avg_usage_user", "top"]
    );
    assert_eq!(names("mem | every 1m avg, max"), ["avg", "max"]);
    assert_eq!(names("mem | last()"), ["last"]);
    assert_eq!(names("`my table` | avg(`my field`)"), ["avg_my field"]);
}

#[test]
fn states_are_distinct_and_start_with_points() {
    let aggregate = aggregate("cpu | every 1m avg(usage_user), sum(usage_user), first(note)");
    let states: Vec<(StateKind, &str)> = aggregate
        .states
        .iter()
        .map(|state| (state.kind, state.field.as_ref().map_or("", |field| field.name.as_str())))
        .collect();
    let expected = [
        (StateKind::Points, ""),
        (StateKind::Count, "usage_user"),
        (StateKind::Sum, "usage_user"),
        (StateKind::First, "note"),
    ];
    assert_eq!(states, expected);
}

#[test]
fn windows_and_groups() {
    assert_eq!(aggregate("cpu | every 1m count").window, Window::Every { step: MINUTE, origin: 0 });
    assert_eq!(aggregate("cpu | every 14d count").window, Window::Every { step: 2 * WEEK, origin: MONDAY });
    assert_eq!(aggregate("cpu | count").window, Window::WholeRange);
    assert_eq!(aggregate("cpu | count").by, Grouping::Series);
    assert_eq!(aggregate("cpu | count by ()").by, tags(&[]));
    assert_eq!(aggregate("cpu | count by region, host").by, tags(&["region", "host"]));
}

#[test]
fn ranges_are_absolute() {
    let range = |text: &str| select(text).read.range;
    assert_eq!(range("cpu"), TimeRange::ALL);
    assert_eq!(range("cpu | since now - 1h"), TimeRange::new(NOON - HOUR, Time::MAX));
    assert_eq!(
        range("cpu | between 2026-01-01T11:00Z and 2026-01-01 12:00"),
        TimeRange::new(NOON - HOUR, NOON)
    );
}

#[test]
fn the_range_of_the_request_serves_statements_without_one() {
    let asked = TimeRange::new(1, 2);
    let context = Context { now: NOON, range: Some(asked), rollups: false, lets: &[] };
    let plan =
        |text: &str| crate::plan(&crate::parse(text).unwrap().statements[0], &testing::catalog(), &context);
    let range = |text: &str| match plan(text) {
        Ok(Plan::Select(select)) => select.read.range,
        other => panic!("{other:?}"),
    };
    assert_eq!(range("cpu"), asked);
    assert_eq!(range("cpu | last 1h"), TimeRange::new(NOON - HOUR, NOON));
    let Ok(Plan::Select(select)) = plan("cpu_1m | every 1h count by ()") else { panic!("a plain query") };
    let Shape::Aggregate(aggregate) = select.read.shape else { panic!("it has aggregates") };
    assert!(aggregate.rollups.is_empty() && aggregate.rejected.is_empty(), "rollups are off");
}

#[test]
fn filters_are_joined_flat() {
    let plan = select("cpu{region=\"eu\"} | where host = \"a\" and dc = \"b\" | where not host = \"c\"");
    let expected = TagFilter::And(vec![
        equal("region", "eu"),
        equal("host", "a"),
        equal("dc", "b"),
        TagFilter::Not(Box::new(equal("host", "c"))),
    ]);
    assert_eq!(plan.read.filter, expected);
    assert_eq!(select("both | where tag(id) = \"1\"").read.filter, equal("id", "1"));
}

#[test]
fn a_rollup_is_read_by_its_name() {
    let bare = select("cpu_1m | last 1h");
    assert_eq!((bare.read.table.as_str(), bare.read.named_rollup.as_deref()), ("cpu", Some("cpu_1m")));
    let Shape::Aggregate(aggregate) = bare.read.shape else { panic!("a rollup has aggregates") };
    assert_eq!(aggregate.window, Window::Every { step: MINUTE, origin: 0 });
    assert_eq!(aggregate.by, tags(&["region", "host"]));
    assert_eq!(aggregate.columns.len(), 3);
    assert_eq!(aggregate.rollups[0].name, "cpu_1m");

    let coarser = select("cpu_eu{host=\"a\"} | every 1h avg(usage_user) by ()");
    assert_eq!(coarser.read.filter, TagFilter::And(vec![equal("region", "eu"), equal("host", "a")]));
    let Shape::Aggregate(aggregate) = coarser.read.shape else { panic!("it has aggregates") };
    assert_eq!(aggregate.rollups[0].name, "cpu_eu");
}

#[test]
fn the_series_of_a_rollup_are_its_groups() {
    assert_eq!(aggregate("cpu_1h | every 1d avg(usage_user)").by, tags(&["region"]));
}

#[test]
fn the_rollup_that_would_be_needed_serves_the_query() {
    for (through, query) in [
        ("cpu_1h", " | every 1h max(usage_user) by region"),
        ("cpu_1m", " | every 90s avg(usage_user), count as n by host"),
        ("cpu_1h", "{host=\"a\"} | every 1h avg(usage_user) by region"),
        ("cpu_eu", "{dc=\"a\"} | sum(usage_system) by ()"),
    ] {
        let error = testing::plan(&format!("{through}{query}")).unwrap_err();
        let create = error.hint().unwrap().trim_start_matches("it would take `").trim_end_matches('`');
        let mut catalog = testing::catalog();
        let Ok(Plan::CreateRollup(create)) = testing::plan_in(&catalog, create) else { panic!("{create}") };
        let created = create.rollup.name.clone();
        catalog.rollups.push(create.rollup);
        assert!(testing::plan_in(&catalog, &format!("{created}{query}")).is_ok(), "{created}{query}");
    }
}

#[test]
fn a_rollup_on_a_rollup_is_resolved_to_its_table() {
    let text = "create rollup eu_1h as cpu_eu | where host != \"x\" | every 1h avg(usage_user)";
    let Ok(Plan::CreateRollup(create)) = testing::plan(text) else { panic!("{text}") };
    let rollup = create.rollup;
    assert_eq!((rollup.table.as_str(), rollup.parent.as_deref()), ("cpu", Some("cpu_eu")));
    assert_eq!(rollup.filter.to_string(), "region = \"eu\" and host != \"x\"");
    assert_eq!(rollup.by, tags(&["host"]));
    assert_eq!(
        rollup.definition,
        "create rollup eu_1h as cpu_eu | where host != \"x\" | every 1h avg(usage_user) by host"
    );
}

#[test]
fn a_definition_means_the_same_when_the_table_grows() {
    let text = "create rollup mem_1m as mem | every 60s count, avg, max(used_percent)";
    let Ok(Plan::CreateRollup(create)) = testing::plan(text) else { panic!("{text}") };
    assert_eq!(
        create.rollup.definition,
        "create rollup mem_1m as mem | every 1m count, avg(used_percent) as avg, max(used_percent)"
    );
    let Ok(Plan::CreateRollup(again)) = testing::plan(&create.rollup.definition) else { panic!("it parses") };
    assert_eq!(again, create);
    assert_eq!(create.rollup.columns[1].function, Function::Avg);
}

#[test]
fn how_long_a_rollup_is_kept_is_no_part_of_its_definition() {
    let text = "create rollup cpu_5m as cpu | every 5m count by region, host keep 400d";
    let Ok(Plan::CreateRollup(create)) = testing::plan(text) else { panic!("{text}") };
    assert_eq!(create.keep, Keep::For(400 * DAY));
    assert_eq!(create.rollup.definition, "create rollup cpu_5m as cpu | every 5m count by region, host");
    let Ok(Plan::CreateRollup(again)) = testing::plan(&create.rollup.definition) else { panic!("it parses") };
    assert_eq!((again.rollup, again.keep), (create.rollup, Keep::Default));
}

#[test]
fn alter_names_its_target_and_how_long() {
    let alter = |text: &str| match testing::plan(text) {
        Ok(Plan::Alter(Alter { target, keep: Some(keep), late: None })) => (target, keep),
        other => panic!("{text}: {other:?}"),
    };
    let (table, rollup) = (AlterTarget::Table("cpu".to_owned()), AlterTarget::Rollup("cpu_1m".to_owned()));
    assert_eq!(alter("alter table cpu keep 30d"), (table.clone(), Keep::For(30 * DAY)));
    assert_eq!(alter("alter table cpu keep default"), (table, Keep::Default));
    assert_eq!(alter("alter rollup cpu_1m keep forever"), (rollup.clone(), Keep::Forever));
    assert_eq!(alter("alter rollup cpu_1m keep 400d"), (rollup, Keep::For(400 * DAY)));
    assert_eq!(alter("alter database keep 90d"), (AlterTarget::Database(None), Keep::For(90 * DAY)));
    let late = |text: &str| match testing::plan(text) {
        Ok(Plan::Alter(Alter { keep, late: Some(late), .. })) => (keep, late),
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(late("alter table cpu late merge"), (None, Late::Merge));
    assert_eq!(late("alter table cpu keep 30d late refuse"), (Some(Keep::For(30 * DAY)), Late::Refuse));
    let other = AlterTarget::Database(Some("plant 2".to_owned()));
    assert_eq!(alter("alter database `plant 2` keep forever"), (other, Keep::Forever));
}

#[test]
fn show_delete_drop() {
    let values = |filter| Show::Values { tag: "host".to_owned(), table: "cpu".to_owned(), filter };
    let all = testing::plan("show values of host from cpu").unwrap();
    assert_eq!(all, Plan::Show(values(TagFilter::All)));
    let some = testing::plan("show values of host from cpu{dc=\"b\"}").unwrap();
    assert_eq!(some, Plan::Show(values(equal("dc", "b"))));
    let cardinality = Show::Cardinality { table: "cpu".to_owned(), filter: equal("dc", "b") };
    assert_eq!(testing::plan("show cardinality from cpu{dc=\"b\"}").unwrap(), Plan::Show(cardinality));
    assert_eq!(testing::plan("show storage").unwrap(), Plan::Show(Show::Storage));
    let Ok(Plan::Delete(delete)) = testing::plan("delete from cpu{host=\"a\"} where dc = \"b\" last 1h")
    else {
        panic!("a plain delete")
    };
    assert_eq!(delete.filter, TagFilter::And(vec![equal("host", "a"), equal("dc", "b")]));
    assert_eq!(delete.range, TimeRange::new(NOON - HOUR, NOON));
    assert_eq!(testing::plan("drop rollup cpu_1h").unwrap(), Plan::DropRollup { name: "cpu_1h".to_owned() });
}

#[test]
fn only_statements_that_change_data_say_so() {
    let changes = |text: &str| crate::parse(text).unwrap().statements[0].changes_data();
    assert!(
        changes("drop rollup x")
            && changes("alter database keep 1d")
            && changes("delete from x")
            && changes("create rollup x as y | every 1m count")
    );
    assert!(!changes("x") && !changes("show tables") && !changes("explain delete from x"));
}
