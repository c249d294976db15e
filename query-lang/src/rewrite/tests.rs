//! Which rollups may answer, and why others may not.

use crate::plan::{Plan, Select, Shape, TagFilter, TagTest, Window};
use crate::rewrite::{Need, fit, remaining_filter};
use crate::testing;
use crate::time::{SECOND, format_duration, origin_of};

fn select(text: &str) -> Select {
    match testing::plan(text) {
        Ok(Plan::Select(select)) => select,
        other => panic!("{text}: {other:?}"),
    }
}

/// The chosen rollups in order, then `name: reason` of the others.
fn check(text: &str, chosen: &[&str], rejected: &[&str]) {
    let Shape::Aggregate(aggregate) = select(text).read.shape else { panic!("{text} has no aggregates") };
    let names: Vec<&str> = aggregate.rollups.iter().map(|rollup| rollup.name.as_str()).collect();
    let reasons: Vec<String> =
        aggregate.rejected.iter().map(|rollup| format!("{}: {}", rollup.name, rollup.reason)).collect();
    assert_eq!(names, chosen, "{text}: {reasons:?}");
    assert_eq!(reasons, rejected, "{text}");
}

const NOT_EU: &str = "cpu_eu: it only holds points where region = \"eu\"";

#[test]
fn the_coarsest_comes_first() {
    check("cpu | every 2h avg(usage_user) by region", &["cpu_1h", "cpu_1m"], &[NOT_EU]);
    check("cpu | avg(usage_user) by region", &["cpu_1h", "cpu_1m"], &[NOT_EU]);
    check("cpu | every 1w avg(usage_user) by ()", &["cpu_1h", "cpu_1m"], &[NOT_EU]);
}

#[test]
fn each_reason_is_said() {
    check(
        "cpu | every 90m max(usage_user) by region",
        &["cpu_1m"],
        &["cpu_1h: its buckets of 1h do not divide 1h30m", NOT_EU],
    );
    check(
        "cpu | every 1h max(usage_user) by region",
        &["cpu_1m"],
        &["cpu_1h: it has no max of usage_user", NOT_EU],
    );
    check("cpu | every 1h count by region", &["cpu_1h", "cpu_1m"], &[NOT_EU]);
    check(
        "cpu | every 1h avg(usage_user) by host",
        &["cpu_1m"],
        &["cpu_1h: it is grouped without tag host", NOT_EU],
    );
    check(
        "cpu{dc=\"a\"} | every 1h avg(usage_user) by region",
        &[],
        &["cpu_1h: it is grouped without tag dc", "cpu_1m: it is grouped without tag dc", NOT_EU],
    );
    check(
        "cpu | every 1h avg(usage_user)",
        &[],
        &[
            "cpu_1h: it is grouped by region, not per series",
            "cpu_1m: it is grouped by region, host, not per series",
            NOT_EU,
        ],
    );
    check("mem | every 10m avg", &["mem_5m"], &[]);
    check("mem | every 10m avg by host", &["mem_5m"], &[]);
}

#[test]
fn a_filtered_rollup_serves_queries_that_imply_its_filter() {
    check(
        "cpu{region=\"eu\", host=~\"a.*\"} | every 1m avg(usage_user) by host",
        &["cpu_eu", "cpu_1m"],
        &["cpu_1h: it is grouped without tag host"],
    );
    check(
        "cpu | where region = \"eu\" or host = \"a\" | every 1m avg(usage_user) by host",
        &["cpu_1m"],
        &["cpu_1h: it is grouped without tag host", NOT_EU],
    );
}

#[test]
fn what_is_left_of_the_filter_needs_only_tags_of_the_rollup() {
    let matching = |tag: &str| TagFilter::Match { tag: tag.to_owned(), test: TagTest::Equal("x".to_owned()) };
    let query = TagFilter::And(vec![matching("a"), matching("b")]);
    assert_eq!(remaining_filter(&query, &matching("a")), matching("b"));
    assert_eq!(remaining_filter(&query, &query), TagFilter::All);
    assert_eq!(remaining_filter(&query, &TagFilter::All), query);
}

#[test]
fn a_rollup_fits_exactly_if_every_edge_of_the_query_is_one_of_its_edges() {
    let steps =
        [1, 7, 60, 90, 3_600, 86_400, 3 * 86_400, 7 * 86_400, 21 * 86_400, 28 * 86_400].map(|s| s * SECOND);
    let mut rollup = testing::catalog().rollups.remove(0);
    for (rollup_step, step) in steps.into_iter().flat_map(|a| steps.map(|b| (a, b))) {
        rollup.window = Window::Every { step: rollup_step, origin: origin_of(rollup_step) };
        let origin = origin_of(step);
        let window = Window::Every { step, origin };
        let need = Need { window: &window, ..rollup.need() };
        let mut edges = (-40..40).map(|bucket| origin + bucket * step);
        let aligned = edges.all(|edge| rollup.window.start_of(edge) == edge);
        let fits = fit(&rollup, need).is_ok();
        assert_eq!(fits, aligned, "{} in {}", format_duration(rollup_step), format_duration(step));
    }
}

#[test]
fn buckets_must_be_cut_at_the_same_places() {
    let mut catalog = testing::catalog();
    let create = "create rollup cpu_3d as cpu | every 3d avg(usage_user) by ()";
    let Ok(Plan::CreateRollup(create)) = testing::plan_in(&catalog, create) else { panic!("{create}") };
    catalog.rollups = vec![create.rollup];
    let Ok(Plan::Select(select)) = testing::plan_in(&catalog, "cpu | every 3w avg(usage_user) by ()") else {
        panic!("a plain query")
    };
    let Shape::Aggregate(aggregate) = select.read.shape else { panic!("it has aggregates") };
    assert_eq!(aggregate.rejected[0].reason, "its buckets of 3d do not start where those of 3w do");
}
