//! What of PromQL came after Prometheus 3.5, or stands behind a flag there: computed durations, `info`, `fill`, `limitk` and others.
//!
//! Not here: the numbers of random queries (`promql_oracle`), which ask a 3.5 for what it has.

use waterclock::db::Db;

use crate::promql::{MINUTE, at, over};
use crate::support::engine::{open, write};
use crate::support::faulty_disk::FaultyDisk;
use crate::support::manual_clock::ManualClock;

const SECOND: i64 = 1_000;

/// Three series and what is known of them, every ten seconds for ten minutes; the version of one of them changes after five.
fn database() -> Db {
    let disk = FaultyDisk::default();
    let db = open(&disk, &ManualClock::at(0)).unwrap();
    let mut lines = String::new();
    for number in 0..=60 {
        let time = number * 10 * SECOND * 1_000_000;
        for (labels, factor) in [("instance=a,job=x", 1), ("instance=b,job=x", 2), ("host=c", 3)] {
            lines += &format!("hits,{labels} total={} {time}\n", number * factor);
        }
        let version = if number <= 30 { 1 } else { 2 };
        lines += &format!("target,instance=a,job=x,version={version},zone=z info=1 {time}\n");
        lines += &format!("build,instance=a,job=x,commit=f00 info=1 {time}\n");
        lines += &format!("limit,instance=b,job=x total=7 {time}\n");
    }
    write(&db, &lines).unwrap();
    db
}

fn check(db: &Db, cases: &[(&str, &[&str])]) {
    for (query, expected) in cases {
        assert_eq!(at(db, query, 10 * MINUTE), *expected, "{query}");
    }
}

#[test]
fn durations_are_computed() {
    let db = database();
    check(
        &db,
        &[
            ("count_over_time(limit_total[10s * 3])", &[r#"{instance="b", job="x"} 3"#]),
            ("count_over_time(limit_total[(1m + 30s) / 3])", &[r#"{instance="b", job="x"} 3"#]),
            ("sum(hits_total offset (10s * 2))", &["{} 348"]),
            ("sum(hits_total offset 10s) * 2", &["{} 708"]),
            ("sum(hits_total @ 300 offset -(5s + 5s))", &["{} 186"]),
            ("count_over_time(limit_total[1m:10s + 20s])", &[r#"{instance="b", job="x"} 2"#]),
            ("rate(hits_total[step()])", &["duration must be greater than 0"]),
            ("hits_total offset (1 / (2m - 120))", &["division by zero"]),
        ],
    );
    let stepped = "max_over_time(hits_total{host=\"c\"}[step()] offset max_of(step() - 1m, 10))";
    assert_eq!(over(&db, stepped, 2 * MINUTE, 4 * MINUTE, MINUTE), [r#"{host="c"} 33 51 69"#]);
    let whole = "count_over_time(limit_total[range()] @ end())";
    assert_eq!(over(&db, whole, MINUTE, 2 * MINUTE, MINUTE / 2), [r#"{instance="b", job="x"} 6 6 6"#]);
}

#[test]
fn a_query_knows_its_range_also_where_its_end_is_no_step() {
    let db = database();
    let asked = "start() + vector(0) or label_replace(vector(end()), 'a', 'end', '', '') or \
                 label_replace(vector(range()), 'a', 'range', '', '') or label_replace(vector(step()), 'a', 'step', '', '')";
    assert_eq!(
        over(&db, asked, MINUTE, 2 * MINUTE + SECOND, 40 * SECOND),
        ["{} 60 60", r#"{a="end"} 121 121"#, r#"{a="range"} 61 61"#, r#"{a="step"} 40 40"#]
    );
    let last = "hits_total{host=\"c\"} @ end()";
    assert_eq!(over(&db, last, MINUTE, 95 * SECOND, 30 * SECOND), [r#"hits_total{host="c"} 27 27"#]);
    check(
        &db,
        &[
            ("end() - start() + range() + step()", &["0"]),
            ("max_of(1, 2) + min_of(3, 4)", &["5"]),
            ("max_of(1, NaN)", &["NaN"]),
        ],
    );
}

#[test]
fn info_adds_the_labels_of_info_series() {
    let db = database();
    check(
        &db,
        &[
            (
                "info(hits_total)",
                &[
                    r#"hits_total{host="c"} 180"#,
                    r#"hits_total{instance="a", job="x", version="2", zone="z"} 60"#,
                    r#"hits_total{instance="b", job="x"} 120"#,
                ],
            ),
            ("info(hits_total, {version=~'.+'})", &[r#"hits_total{instance="a", job="x", version="2"} 60"#]),
            (
                "info(hits_total{instance='a'}, {__name__=~'(build|target)_info', commit=~'.*', zone=~'.*'})",
                &[r#"hits_total{commit="f00", instance="a", job="x", zone="z"} 60"#],
            ),
            (
                "info(hits_total{instance='a'}, {__name__!='target_info'})",
                &[r#"hits_total{commit="f00", instance="a", job="x"} 60"#],
            ),
            (
                "info(build_info, {__name__=~'.+_info', zone=~'.+'})",
                &[r#"build_info{commit="f00", instance="a", job="x"} 1"#],
            ),
            ("info(sum(hits_total))", &["{} 360"]),
        ],
    );
    assert!(at(&db, "info(hits_total, hits_total)", 0)[0].contains("expected label selectors only"));
    let changes = "info(hits_total{instance=\"a\"}, {version=~\".+\"})";
    assert_eq!(
        over(&db, changes, 290 * SECOND, 320 * SECOND, 10 * SECOND),
        [
            r#"hits_total{instance="a", job="x", version="1"} 29 30 - -"#,
            r#"hits_total{instance="a", job="x", version="2"} - - 31 32"#
        ]
    );
}

#[test]
fn missing_sides_are_filled() {
    let db = database();
    check(
        &db,
        &[
            (
                "hits_total + fill(1) limit_total",
                &[r#"{host="c"} 181"#, r#"{instance="a", job="x"} 61"#, r#"{instance="b", job="x"} 127"#],
            ),
            (
                "limit_total - on (instance) fill_left(0) hits_total{job='x'}",
                &[r#"{instance="b"} -113"#, r#"{instance="a"} -60"#],
            ),
            (
                "hits_total > bool on (none) group_left fill_right(100) none",
                &[r#"{host="c"} 1"#, r#"{instance="a", job="x"} 0"#, r#"{instance="b", job="x"} 1"#],
            ),
        ],
    );
    for (query, why) in [
        ("hits_total or fill(0) limit_total", "filling in missing series not allowed for set operators"),
        ("hits_total + fill(0) 1", "filling in missing series only allowed between instant vectors"),
        ("hits_total + fill(x) limit_total", "unexpected identifier \"x\" in fill modifier, expected number"),
    ] {
        assert!(at(&db, query, 0)[0].contains(why), "{query}: {:?}", at(&db, query, 0));
    }
}

#[test]
fn some_of_many_are_taken() {
    let db = database();
    check(
        &db,
        &[
            ("limitk(1, hits_total)", &[r#"hits_total{host="c"} 180"#]),
            ("count(limitk(2, hits_total))", &["{} 2"]),
            ("count by (job) (limitk by (job) (1, hits_total))", &["{} 1", r#"{job="x"} 1"#]),
            ("limitk(0, hits_total)", &[]),
            ("count(limit_ratio(0.3, hits_total) or limit_ratio(-0.7, hits_total))", &["{} 3"]),
            ("limit_ratio(0.3, hits_total) and limit_ratio(-0.7, hits_total)", &[]),
            (
                "count(limit_ratio(1.5, hits_total))",
                &[
                    "{} 3",
                    "PromQL warning: ratio value should be between -1 and 1, got 1.5, capping to 1 (1:19)",
                ],
            ),
            ("limit_ratio(NaN, hits_total)", &["Ratio value is NaN"]),
        ],
    );
}

#[test]
fn quantiles_come_together() {
    let disk = FaultyDisk::default();
    let db = open(&disk, &ManualClock::at(0)).unwrap();
    write(
        &db,
        "lat,le=1 bucket=1 600000000000\nlat,le=2 bucket=3 600000000000\nlat,le=+Inf bucket=4 600000000000\n",
    )
    .unwrap();
    check(
        &db,
        &[(
            "histogram_quantiles(lat_bucket, 'q', 0.25, 0.5, 1)",
            &[r#"{q="0.25"} 1"#, r#"{q="0.5"} 1.5"#, r#"{q="1.0"} 2"#],
        )],
    );
    assert!(
        at(&db, "histogram_quantiles(lat_bucket, 'q')", 0)[0].contains("expected at least 3 argument(s)")
    );
}

#[test]
fn selectors_look_beyond_their_windows() {
    let disk = FaultyDisk::default();
    let db = open(&disk, &ManualClock::at(0)).unwrap();
    let lines = "c total=5 0\nc total=8 10\nc total=2 20\nc total=6 30\n";
    let lines: String = lines.lines().map(|line| format!("{line}000000000\n")).collect();
    write(&db, &lines).unwrap();
    let cases: &[(i64, &str, &[&str])] = &[
        // From the sample at 0 to that at 30, over the reset at 20.
        (30, "increase(c_total[30s] anchored)", &["{} 9"]),
        (30, "rate(c_total[30s] anchored)", &["{} 0.3"]),
        (30, "delta(c_total[30s] anchored)", &["{} 1"]),
        (30, "changes(c_total[30s] anchored)", &["{} 3"]),
        (30, "resets(c_total[30s] anchored)", &["{} 1"]),
        (45, "increase(c_total[15s] anchored)", &[]),
        (44, "increase(c_total[15s] anchored)", &["{} 4"]),
        (9, "increase(c_total[5s] anchored)", &[]),
        (12, "changes(c_total[5s] anchored)", &["{} 1"]),
        // A counter that was reset comes from 0, and is at 1 half-way to 2.
        (25, "increase(c_total[10s] smoothed)", &["{} 3"]),
        (25, "delta(c_total[10s] smoothed)", &["{} -1"]),
        (5, "increase(c_total[10s] smoothed)", &["{} 1.5"]),
        (35, "rate(c_total[10s] smoothed offset 30s)", &["{} 0.15"]),
        (15, "c_total smoothed", &["c_total 5"]),
        (20, "c_total smoothed", &["c_total 2"]),
        (40, "c_total smoothed", &["c_total 6"]),
        (40, "c_total smoothed offset 25s", &["c_total 5"]),
        (-5, "c_total smoothed", &[]),
        (20, "c_total anchored", &["c_total 2"]),
    ];
    for (seconds, query, expected) in cases {
        let found = at(&db, query, seconds * SECOND);
        let values: Vec<&String> = found.iter().filter(|line| !line.starts_with("PromQL info")).collect();
        assert_eq!(values, *expected, "{query} at {seconds}");
    }
    let ranged = over(&db, "increase(c_total[10s] smoothed)", 10 * SECOND, 30 * SECOND, 5 * SECOND);
    assert_eq!(ranged, ["{} 3 2.5 2 3 4"]);
    let refused = [
        (
            "deriv(c_total[1m] smoothed)",
            "smoothed modifier can only be used with: delta, increase, rate - not with deriv",
        ),
        (
            "resets(c_total[1m] smoothed)",
            "smoothed modifier can only be used with: delta, increase, rate - not with resets",
        ),
        (
            "absent_over_time(c_total[1m] anchored)",
            "anchored modifier can only be used with: changes, delta, increase, rate, resets - not with absent_over_time",
        ),
        ("rate(c_total[1m:10s] anchored)", "anchored modifier is not supported for subqueries"),
        ("rate(c_total[1m] anchored smoothed)", "anchored and smoothed modifiers cannot be used together"),
        ("c_total[1m] anchored", "stands only in functions"),
    ];
    for (query, why) in refused {
        assert!(at(&db, query, 0)[0].contains(why), "{query}: {:?}", at(&db, query, 0));
    }
}
