//! PromQL over points of line protocol: a table's fields are metrics, and every kind of expression gives what it should.
//!
//! Not here: Prometheus' own scripts (`conformance.sh`), which load by remote write; the doors (`http/prometheus.rs`).

use storage_format::point::TagSet;
use waterclock::db::Db;
use waterclock::promql::{Data, Query, Steps, is_absent, parse_selector, print};

use crate::support::engine::{DATABASE, open, write};
use crate::support::faulty_disk::FaultyDisk;
use crate::support::manual_clock::ManualClock;

pub const MINUTE: i64 = 60_000;

/// Ten minutes of two counters of one table, one per host, with a step of a minute; a gauge that ends early; texts that are no metrics.
fn database() -> Db {
    let disk = FaultyDisk::default();
    let db = open(&disk, &ManualClock::at(0)).unwrap();
    let mut lines = String::new();
    for minute in 0..=10 {
        let time = minute * MINUTE * 1_000_000;
        lines +=
            &format!("http,host=a,dc=x requests={}i,errors={}i,note=\"n\" {time}\n", minute * 60, minute);
        lines += &format!("http,host=b,dc=y requests={}i,ok={} {time}\n", minute * 120, minute % 2 == 0);
        if minute <= 3 {
            lines += &format!("temp,room=1 celsius={}.5 {time}\n", 20 + minute);
        }
    }
    write(&db, &lines).unwrap();
    db
}

/// As people write a series: the name before the labels.
fn shown(labels: &TagSet) -> String {
    let name = labels.get("__name__").unwrap_or_default();
    let pairs = labels.iter().filter(|(label, _)| *label != "__name__");
    let pairs: Vec<String> =
        pairs.map(|(label, value)| format!("{label}={}", print::quoted(value))).collect();
    if pairs.is_empty() && !name.is_empty() {
        name.to_string()
    } else {
        format!("{name}{{{}}}", pairs.join(", "))
    }
}

/// One line per series: labels and value, or the error.
pub fn at(db: &Db, query: &str, milliseconds: i64) -> Vec<String> {
    let query = match Query::instant(query, milliseconds, 5 * MINUTE) {
        Ok(query) => query,
        Err(error) => return vec![error.to_string()],
    };
    let (answer, _) = match db.promql(&query, false, DATABASE, &db.guard()) {
        Ok(answer) => answer,
        Err(error) => return vec![error.to_string()],
    };
    let said = answer.said.warnings.iter().chain(&answer.said.infos).cloned();
    let mut lines: Vec<String> = match answer.data {
        Data::Scalar(column) => vec![print::number_text(column[0])],
        Data::Text(text) => vec![String::from_utf8(text).unwrap()],
        Data::Vector(series) => series
            .iter()
            .map(|one| format!("{} {}", shown(&one.labels), print::number_text(one.values[0])))
            .collect(),
        Data::Runs(runs) => {
            runs.iter().map(|run| format!("{} {:?}", shown(&run.labels), run.samples)).collect()
        }
        Data::Matrix(_) => unreachable!("no range was asked for"),
    };
    lines.extend(said);
    lines
}

pub fn over(db: &Db, query: &str, start: i64, end: i64, step: i64) -> Vec<String> {
    let query = Query::range(query, Steps::range(start, end, step), end, 5 * MINUTE).unwrap();
    let (answer, _) = db.promql(&query, true, DATABASE, &db.guard()).unwrap();
    let Data::Matrix(series) = answer.data else { panic!("no matrix") };
    let cell = |value: &f64| if is_absent(*value) { "-".to_string() } else { print::number_text(*value) };
    let line = |values: &[f64]| values.iter().map(cell).collect::<Vec<_>>().join(" ");
    series.iter().map(|one| format!("{} {}", shown(&one.labels), line(&one.values))).collect()
}

#[test]
fn fields_are_metrics_and_tags_are_labels() {
    let db = database();
    let ten = 10 * MINUTE;
    assert_eq!(
        at(&db, "http_requests", ten),
        [r#"http_requests{dc="x", host="a"} 600"#, r#"http_requests{dc="y", host="b"} 1200"#]
    );
    assert_eq!(at(&db, r#"http_requests{host="b"}"#, ten), [r#"http_requests{dc="y", host="b"} 1200"#]);
    assert_eq!(at(&db, "http_ok", ten - 1), [r#"http_ok{dc="y", host="b"} 0"#], "a boolean is 0 or 1");
    assert_eq!(
        at(&db, r#"{__name__=~"http_(errors|ok)"}"#, ten),
        [r#"http_errors{dc="x", host="a"} 10"#, r#"http_ok{dc="y", host="b"} 1"#]
    );
    assert_eq!(at(&db, "http_note", ten), Vec::<String>::new(), "texts are no metrics");
    assert_eq!(at(&db, r#"{room="1"}"#, 3 * MINUTE), [r#"temp_celsius{room="1"} 23.5"#]);
    assert_eq!(at(&db, "temp_celsius", 8 * MINUTE - 1).len(), 1);
    assert_eq!(at(&db, "temp_celsius", 8 * MINUTE), Vec::<String>::new(), "five minutes ago is too long ago");
}

#[test]
fn every_kind_of_expression_has_its_value() {
    let db = database();
    let ten = 10 * MINUTE;
    let cases: &[(&str, &[&str])] = &[
        ("1 + 2 * 3 ^ 2", &["19"]),
        ("-2 ^ 2", &["-4"]),
        ("7 % 4 == bool 3", &["1"]),
        ("'text'", &["text"]),
        ("scalar(http_errors) + time()", &["610"]),
        ("sum(http_requests)", &["{} 1800"]),
        ("sum by (dc) (http_requests) > 1000", &[r#"{dc="y"} 1200"#]),
        ("avg without (host, dc) (http_requests)", &["{} 900"]),
        ("topk(1, http_requests)", &[r#"http_requests{dc="y", host="b"} 1200"#]),
        ("quantile(0.5, http_requests)", &["{} 900"]),
        ("count_values('v', http_requests > bool 1000)", &[r#"{v="0"} 1"#, r#"{v="1"} 1"#]),
        // The label is set first: what differs in it alone is one group.
        ("count_values without (dc) ('host', http_requests > bool 0)", &[r#"{host="1"} 2"#]),
        ("count_values without (dc, host) ('host', http_requests)", &["{} 2"]),
        ("count_values without () ('v', count_values('v', http_requests))", &[r#"{v="1"} 2"#]),
        ("http_errors / on (host) http_requests * 60", &[r#"{host="a"} 1"#]),
        (
            "http_requests * on () group_left () sum(http_errors) / 10",
            &[r#"{dc="x", host="a"} 600"#, r#"{dc="y", host="b"} 1200"#],
        ),
        ("http_requests and on (host) http_errors", &[r#"http_requests{dc="x", host="a"} 600"#]),
        ("http_requests unless on (host) http_errors", &[r#"http_requests{dc="y", host="b"} 1200"#]),
        ("http_errors or vector(7)", &[r#"http_errors{dc="x", host="a"} 10"#, "{} 7"]),
        ("absent(none{job='x', code=~'5..'})", &[r#"{job="x"} 1"#]),
        ("absent(none{job!='x', job='x', host!='', host='a'})", &[r#"{host="a"} 1"#]),
        ("absent(http_errors)", &[]),
        ("temp_celsius @ 60", &[r#"temp_celsius{room="1"} 21.5"#]),
        ("temp_celsius offset 8m", &[r#"temp_celsius{room="1"} 22.5"#]),
        ("timestamp(http_errors offset 30s)", &[r#"{dc="x", host="a"} 540"#]),
        ("max_over_time(http_errors[3m])", &[r#"{dc="x", host="a"} 10"#]),
        ("count_over_time(http_errors[3m])", &[r#"{dc="x", host="a"} 3"#]),
        ("avg_over_time((http_errors * 2)[4m:2m])", &[r#"{dc="x", host="a"} 18"#]),
        ("last_over_time(temp_celsius[10m])", &[r#"temp_celsius{room="1"} 23.5"#]),
        (
            "label_replace(http_errors, 'h', 'is-$1', 'host', '(.*)')",
            &[r#"http_errors{dc="x", h="is-a", host="a"} 10"#],
        ),
        (
            "label_join(http_errors, 'j', '/', 'dc', 'host')",
            &[r#"http_errors{dc="x", host="a", j="x/a"} 10"#],
        ),
        ("sort_desc(http_requests) / 600", &[r#"{dc="y", host="b"} 2"#, r#"{dc="x", host="a"} 1"#]),
        ("http_errors[2m] offset 7m", &[r#"http_errors{dc="x", host="a"} [(120000, 2.0), (180000, 3.0)]"#]),
        ("minute(vector(3723))", &["{} 2"]),
        ("deriv(http_errors[5m]) * 60", &[r#"{dc="x", host="a"} 1"#]),
    ];
    for (query, expected) in cases {
        assert_eq!(at(&db, query, ten), *expected, "{query}");
    }
}

#[test]
fn rates_are_per_second_and_say_what_is_no_counter() {
    let db = database();
    let info = "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"http_requests\" (1:6)";
    assert_eq!(
        at(&db, "rate(http_requests[5m])", 10 * MINUTE),
        [r#"{dc="x", host="a"} 1"#, r#"{dc="y", host="b"} 2"#, info]
    );
    assert_eq!(
        over(&db, "sum(rate(http_requests[2m]))", 0, 10 * MINUTE, 5 * MINUTE),
        ["{} - 3 3"],
        "one sample is no rate"
    );
}

#[test]
fn errors_are_those_of_prometheus() {
    let db = database();
    let cases = [
        ("sum(", "1:5: parse error: unclosed left parenthesis"),
        ("http_requests{", "1:15: parse error: unexpected end of input inside braces"),
        (
            "rate(http_requests)",
            "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
        ),
        ("nothing(1)", "1:1: parse error: unknown function with name \"nothing\""),
        ("1 > 2", "1:3: parse error: comparisons between scalars must use BOOL modifier"),
        ("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ("a and 1", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression"),
        ("sum()", "1:1: parse error: no arguments for aggregate expression provided"),
        ("", "unknown position: parse error: no expression found in input"),
        (
            "http_errors + on () http_requests",
            "found duplicate series for the match group {} on the right hand-side of the operation: [{__name__=\"http_requests\", \
             dc=\"y\", host=\"b\"}, {__name__=\"http_requests\", dc=\"x\", host=\"a\"}];many-to-many matching not allowed: matching labels must be unique on one side",
        ),
        (
            "http_requests + on () http_errors",
            "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
        ),
        (
            "ceil({__name__=~\"http_errors|http_requests\", host=\"a\"})",
            "vector cannot contain metrics with the same labelset",
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(at(&db, query, 10 * MINUTE), [expected], "{query}");
    }
    let deep = "(".repeat(100_000) + "1" + &")".repeat(100_000);
    assert!(at(&db, &deep, 0)[0].contains("nests deeper"));
    let wide = at(&db, "max_over_time(http_errors[10y:1ms])", 0);
    assert!(wide[0].contains("its limit (query_memory_bytes_max)"), "{wide:?}");
}

#[test]
fn a_range_is_the_same_as_its_steps() {
    let db = database();
    let queries = [
        "http_requests",
        "rate(http_requests[3m])",
        "sum by (dc) (http_requests) + 1",
        "topk(1, http_requests)",
        "temp_celsius or http_errors",
        "http_requests / on (host) http_errors",
        "max_over_time(rate(http_requests[2m])[4m:30s])",
        "quantile_over_time(0.3, http_errors[4m])",
        "absent(temp_celsius)",
        "timestamp(temp_celsius)",
        "predict_linear(http_errors[4m] @ 300, 60)",
        "temp_celsius @ end() - temp_celsius @ start()",
    ];
    let (start, end, step) = (-MINUTE, 11 * MINUTE, 45_000);
    for query in queries {
        let ranged = Query::range(query, Steps::range(start, end, step), end, 5 * MINUTE).unwrap();
        let (answer, _) = db.promql(&ranged, true, DATABASE, &db.guard()).unwrap();
        let Data::Matrix(series) = answer.data else { panic!("no matrix") };
        if query.contains("()") && query.contains('@') {
            continue; // start() and end() are others at each step
        }
        for (number, time) in Steps::range(start, end, step).times().enumerate() {
            let mut here: Vec<String> = series
                .iter()
                .filter(|one| !is_absent(one.values[number]))
                .map(|one| format!("{} {}", shown(&one.labels), print::number_text(one.values[number])))
                .collect();
            let mut alone: Vec<String> =
                at(&db, query, time).into_iter().filter(|line| !line.starts_with("PromQL")).collect();
            here.sort();
            alone.sort();
            assert_eq!(here, alone, "{query} at {time}");
        }
    }
}

#[test]
fn series_are_found_by_selectors_and_ranges() {
    let db = database();
    let found = |selectors: &[&str]| -> Vec<String> {
        let selectors: Vec<_> = selectors.iter().map(|text| parse_selector(text).unwrap()).collect();
        let range = storage_format::point::TimeRange::ALL;
        let series = db.promql_series(&selectors, range, DATABASE, &db.guard()).unwrap();
        series.iter().map(shown).collect()
    };
    assert_eq!(found(&["temp_celsius", "{room=\"1\"}"]), [r#"temp_celsius{room="1"}"#]);
    assert_eq!(found(&[]).len(), 7);
    assert_eq!(found(&["none"]), Vec::<String>::new());
    assert!(parse_selector("rate(a[5m])").is_err() && parse_selector("").is_err());
}
