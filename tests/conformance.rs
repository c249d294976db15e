//! Other people's line-protocol cases against our parser: every point must come out as they expect, and
//! every bad line must be refused.
//!
//! The cases stand beside the checkout (`../shared/conformance`, or where `WATERCLOCK_CONFORMANCE` says)
//! and are not copied here. If they are missing this test fails: a skipped check reads like a passed one.
//! Not here: the answers over HTTP (the folder's own `run.py`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value as Json;
use waterclock::ingest::line_protocol::{FieldValue, Line, Precision, Result, lines};

#[test]
fn every_case_gives_its_points() {
    let cases = cases();
    let mut failures = Vec::new();
    for case in &cases {
        let parsed = parse(case);
        if let Err(why) = compare(case, &parsed) {
            let input = String::from_utf8_lossy(&body(case)).into_owned();
            failures.push(format!("{} {input:?}\n  {why}\n  errors: {:?}", case["id"], parsed.errors));
        }
    }
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

fn cases() -> Vec<Json> {
    let folder = std::env::var_os("WATERCLOCK_CONFORMANCE").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance"),
        PathBuf::from,
    );
    let path = folder.join("line-protocol/corpus.json");
    #[expect(clippy::disallowed_methods, reason = "the cases are no data of the server's")]
    let text = std::fs::read(&path).unwrap_or_else(|error| {
        panic!("no cases at {} ({error}); set WATERCLOCK_CONFORMANCE to their folder", path.display())
    });
    let corpus: Json = serde_json::from_slice(&text).expect("the corpus is JSON");
    let cases = corpus["cases"].as_array().expect("the corpus has cases").clone();
    assert!(!cases.is_empty(), "{} has no cases", path.display());
    cases
}

/// Measurement, tags, fields as `type:value`, time.
type Point = (String, Vec<(String, String)>, BTreeMap<String, String>, i64);

struct Parsed {
    points: Vec<Point>,
    errors: Vec<String>,
}

fn parse(case: &Json) -> Parsed {
    let precision = case["precision"].as_str().and_then(Precision::from_v2).expect("a v2 precision");
    let server_time = case["default_time_ns"].as_i64().expect("a default time");
    let mut parsed = Parsed { points: Vec::new(), errors: Vec::new() };
    for line in lines(&body(case)) {
        match line.and_then(|line| point(&line, server_time, precision)) {
            Ok(point) => parsed.points.push(point),
            Err(error) => parsed.errors.push(error.to_string()),
        }
    }
    parsed
}

fn point(line: &Line<'_>, server_time: i64, precision: Precision) -> Result<Point> {
    let series = line.parse_series()?;
    let tags = series.tags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let mut fields = BTreeMap::new();
    for field in line.fields() {
        let (name, value) = field?;
        let value = match value {
            FieldValue::Float(value) => float_text(value),
            FieldValue::Int(value) => format!("int:{value}"),
            FieldValue::UInt(value) => format!("uint:{value}"),
            FieldValue::Bool(value) => format!("bool:{value}"),
            FieldValue::Str(value) => format!("string:{}", value.unescape()),
        };
        fields.insert(name.unescape().into_owned(), value);
    }
    Ok((series.measurement.into_owned(), tags, fields, line.time_or(server_time, precision)?))
}

/// By bits, since the cases ask for exact values.
fn float_text(value: f64) -> String {
    format!("float:{value:?} {:016x}", value.to_bits())
}

fn compare(case: &Json, parsed: &Parsed) -> std::result::Result<(), String> {
    let expected = match case["agreement"].as_str() {
        Some("valid") => Expected { valid: true, points: vec![&case["points"]] },
        // The parsers agree that a line is bad, not always on how many of the others survive.
        Some("invalid") => {
            let partial = case["partial_points"].as_object().expect("partial points");
            Expected { valid: false, points: partial.values().collect() }
        }
        _ => {
            let verdict = &case["verdicts"][decided(case)];
            Expected { valid: verdict["valid"] == true, points: vec![&verdict["points"]] }
        }
    };
    if expected.valid != parsed.errors.is_empty() {
        return Err(format!("expected it to be {}", if expected.valid { "valid" } else { "refused" }));
    }
    let candidates: Vec<Vec<Point>> = expected.points.into_iter().map(expected_points).collect();
    if candidates.contains(&parsed.points) || (candidates.is_empty() && parsed.points.is_empty()) {
        return Ok(());
    }
    Err(format!("expected {candidates:?}\n  read     {:?}", parsed.points))
}

struct Expected<'a> {
    valid: bool,
    /// Any of these lists of points will do.
    points: Vec<&'a Json>,
}

/// Where the parsers differ: the one whose reading was chosen (the README of the cases says why). It is the
/// one of InfluxDB 1.x, which loses least, but for these.
fn decided(case: &Json) -> &'static str {
    let input = body(case);
    let text = String::from_utf8_lossy(&input);
    if std::str::from_utf8(&input).is_err() {
        "line_protocol_v2" // invalid UTF-8 is refused
    } else if case["precision"] != "ns" || text.contains(",h=ost=localhost ") {
        "influxdb3_rust_crate" // server time in full resolution; a second = belongs to the tag value
    } else {
        "influxdb_1x_models"
    }
}

fn expected_points(points: &Json) -> Vec<Point> {
    let text = |json: &Json| json.as_str().expect("a text").to_string();
    let list = |json: &Json| json.as_array().cloned().unwrap_or_default();
    let point = |point: &Json| {
        let tags = list(&point["tags"]).iter().map(|tag| (text(&tag[0]), text(&tag[1]))).collect();
        let fields =
            list(&point["fields"]).iter().map(|field| (text(&field[0]), value_text(field))).collect();
        (text(&point["measurement"]), tags, fields, point["time_ns"].as_i64().expect("a time"))
    };
    list(points).iter().map(point).collect()
}

fn value_text(field: &Json) -> String {
    let kind = field[1].as_str().expect("a type");
    match &field[2] {
        Json::Number(value) => float_text(value.as_f64().expect("a float")),
        Json::Bool(value) => format!("bool:{value}"),
        value => format!("{kind}:{}", value.as_str().expect("a value")),
    }
}

fn body(case: &Json) -> Vec<u8> {
    match case["input"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => base64(case["input_b64"].as_str().expect("one of two inputs")),
    }
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<bool> = text
        .trim_end_matches('=')
        .chars()
        .map(|digit| DIGITS.find(digit).expect("a base64 digit"))
        .flat_map(|digit| (0..6).rev().map(move |bit| digit >> bit & 1 == 1))
        .collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | u8::from(*bit))).collect()
}
