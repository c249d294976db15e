//! Metrics from server to server by export and import: every bit of every sample, as remote read tells it.

use std::path::Path;

use crate::http::remote_write::histogram;
use crate::support::prometheus::{
    BucketSpan, Histogram, Matcher, MetricMetadata, ReadQuery, ReadRequest, TimeSeries, WriteRequest,
    labels_of, packed, series,
};
use crate::support::server::{Server, folder};
use crate::transfer::{done, text, waterclock};

const STALE: u64 = 0x7ff0_0000_0000_0002;

const HEADERS: [(&str, &str); 2] =
    [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];

/// A moment in milliseconds.
const START: i64 = 1_767_225_600_000;

/// All that is hard to carry, in series that come and go over days.
fn hard_series() -> Vec<TimeSeries> {
    let floats = |labels: &[(&str, &str)], bits: &[(i64, u64)]| {
        let samples: Vec<(i64, f64)> =
            bits.iter().map(|(time, bits)| (START + time, f64::from_bits(*bits))).collect();
        series(labels, &samples)
    };
    let odd = [
        (0, 0.1f64.to_bits()),
        (1, (-0.0f64).to_bits()),
        (2, f64::INFINITY.to_bits()),
        (3, f64::NEG_INFINITY.to_bits()),
        (4, f64::NAN.to_bits()),
        (5, STALE),
        (6, 0x7ff8_dead_beef_0001),
        (7, 0xfff8_0000_0000_0001),
        (8, 5e-324f64.to_bits()),
    ];
    let name = ("__name__", "odd");
    let mut all = vec![
        floats(&[("Zone", "before the name"), name], &odd),
        floats(&[name, ("labels", "a"), ("time", "b"), ("value", "c")], &odd[..1]),
        floats(&[name, ("path", "C:\\dir\\"), ("text", "two\nlines, \"quoted\" = é\t")], &odd[1..3]),
        // A series that is nothing but the word that it has ended, far from all others.
        floats(&[("__name__", "ended"), ("instance", "early")], &[(-90 * 86_400_000, STALE)]),
        floats(&[("__name__", "ended"), ("instance", "late")], &[(90 * 86_400_000, STALE)]),
        floats(&[("__name__", "before_1970")], &[(-START - 1, 1.5f64.to_bits())]),
    ];
    // More labels than a block has columns for.
    for number in 0..40 {
        let names: Vec<String> = (0..3).map(|label| format!("own_{number}_{label}")).collect();
        let mut labels = vec![("__name__", "many")];
        labels.extend(names.iter().map(|name| (name.as_str(), "x")));
        all.push(floats(&labels, &[(number * 3_600_000, (number as f64).to_bits())]));
    }
    let stale = Histogram { sum: f64::from_bits(STALE), ..histogram(START + 20_000) };
    let fractional = Histogram {
        count_float: Some(7.5),
        sum: f64::NAN,
        schema: -4,
        zero_threshold: 1e-128,
        zero_count_float: Some(0.5),
        negative_spans: vec![BucketSpan { offset: -3, length: 2 }],
        negative_counts: vec![1.25, 0.75],
        positive_spans: vec![BucketSpan { offset: 2, length: 1 }, BucketSpan { offset: 5, length: 1 }],
        positive_counts: vec![3.0, 2.0],
        reset_hint: 3,
        timestamp: START + 30_000,
        ..Histogram::default()
    };
    let custom = Histogram {
        count_int: Some(6),
        sum: 99.5,
        schema: -53,
        zero_count_int: Some(0),
        positive_spans: vec![BucketSpan { offset: 0, length: 3 }],
        positive_deltas: vec![1, 1, 1],
        custom_values: vec![-1.0, 0.5, 10.0],
        timestamp: START + 40_000,
        ..Histogram::default()
    };
    // Floats beside histograms, one of each at one time.
    let both = [(START + 10_000, 2.5), (START + 10_001, f64::from_bits(STALE))];
    all.push(TimeSeries {
        labels: labels_of(&[("__name__", "latency"), ("job", "api")]),
        samples: series(&[], &both).samples,
        histograms: vec![histogram(START + 10_000), stale, fractional, custom],
        ..TimeSeries::default()
    });
    all
}

fn metadata() -> Vec<MetricMetadata> {
    let said = |kind: i32, name: &str, help: &str, unit: &str| MetricMetadata {
        kind,
        metric_family_name: name.to_string(),
        help: help.to_string(),
        unit: unit.to_string(),
    };
    let mut all: Vec<MetricMetadata> = (0..8)
        .map(|kind| said(kind, &format!("kind_{kind}"), "two\nlines, \"quoted\" \\", "seconds"))
        .collect();
    all.push(said(1, "odd", "", ""));
    all
}

fn write(server: &Server, timeseries: Vec<TimeSeries>, metadata: Vec<MetricMetadata>) {
    let body = packed(&WriteRequest { timeseries, metadata });
    let reply = server.send("POST", "/api/v1/write?db=from", &HEADERS, Some(&body));
    assert_eq!(reply.status, 204, "{}", reply.text());
}

/// All samples, as remote read sends them.
fn samples(server: &Server, db: &str) -> Vec<u8> {
    let matcher = Matcher { kind: 2, name: "__name__".to_string(), value: ".+".to_string() };
    let (start, end) = (i64::MIN / 1_000_000, i64::MAX / 1_000_000 - 1);
    let query = ReadQuery { start_timestamp_ms: start, end_timestamp_ms: end, matchers: vec![matcher] };
    let body = packed(&ReadRequest { queries: vec![query], accepted_response_types: vec![0] });
    let reply = server.send("POST", &format!("/api/v1/read?db={db}"), &HEADERS, Some(&body));
    assert_eq!(reply.status, 200, "{}", reply.text());
    snap::raw::Decoder::new().decompress_vec(&reply.bytes).unwrap()
}

fn said(server: &Server, db: &str) -> serde_json::Value {
    server.get(&format!("/api/v1/metadata?db={db}")).json()["data"].clone()
}

fn parquet_files(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| text(&file.unwrap().path()).to_string());
    files.filter(|file| file.ends_with(".parquet")).collect()
}

#[test]
fn an_export_of_metrics_is_imported_bit_by_bit() {
    let folder = folder();
    let server = Server::start(&folder.path().join("data"), &[]);
    // Some of it in blocks, some in memory; some overwritten, some deleted.
    let all = hard_series();
    let (early, late) = all.split_at(20);
    let gone = series(&[("__name__", "gone")], &[(START, 1.0), (START + 1, f64::from_bits(STALE))]);
    write(&server, [early, &[gone]].concat(), metadata());
    assert_eq!(server.post("/api/flush", b"").status, 200);
    write(&server, late.to_vec(), Vec::new());
    write(
        &server,
        vec![series(
            &[("__name__", "many"), ("own_0_0", "x"), ("own_0_1", "x"), ("own_0_2", "x")],
            &[(START, 7.0)],
        )],
        Vec::new(),
    );
    let delete = "delete from metrics{__name__=\"gone\"} between 2026-01-01 and 2026-01-02";
    assert_eq!(server.post("/api/wql?db=from", delete.as_bytes()).status, 200);
    let expected = samples(&server, "from");
    assert!(expected.len() > 2_000);

    let [out, again] = ["out", "again"].map(|name| folder.path().join(name));
    done(&server, &["export", "--db", "from", "--out", text(&out)]);
    let other = Server::start(&folder.path().join("other"), &[]);
    done(&other, &["import", "--db", "to", text(&out)]);
    assert!(samples(&other, "to") == expected, "what was imported is not what was exported");
    assert_eq!(said(&other, "to"), said(&server, "from"));
    assert_eq!(said(&other, "to").as_object().unwrap().len(), 9);
    // Also from blocks of one label's choice or another, and a second time over the first.
    assert_eq!(other.post("/api/flush", b"").status, 200);
    assert_eq!(other.post("/api/compact?force=on", b"").status, 200);
    done(&other, &["export", "--db", "to", "--out", text(&again)]);
    done(&other, &["import", "--db", "to", text(&again)]);
    assert!(samples(&other, "to") == expected, "the second time it is another one");

    // The database's own blocks carry the same, by hand or asked by themselves.
    let blocks = folder.path().join("other/blocks/to/metrics");
    done(&other, &["import", "--db", "of_blocks", text(&blocks)]);
    assert!(samples(&other, "of_blocks") == expected, "the blocks are not what was read from them");
    let count = "many | count by ()";
    for folder in [&blocks, &out.join("metrics")] {
        let files = parquet_files(folder);
        let flags: Vec<&str> = files.iter().flat_map(|file| ["--file", file.as_str()]).collect();
        let (code, said, err) =
            waterclock(&other.url, &[&["query", "--format", "csv"], &flags[..], &[count]].concat());
        assert_eq!((code, said.lines().last()), (Some(0), Some("40")), "{said}{err}");
    }
}

/// What has nothing to say to a count is exported where it stands, also if there is nothing else.
#[test]
fn stale_markers_alone_are_exported() {
    let folder = folder();
    let server = Server::start(&folder.path().join("data"), &[]);
    let stale = |time: i64| series(&[("__name__", "ended")], &[(time, f64::from_bits(STALE))]);
    write(&server, vec![stale(START), stale(-START), stale(2 * START)], Vec::new());
    let out = folder.path().join("out");
    let said = done(&server, &["export", "--db", "from", "--out", text(&out)]);
    assert!(said.contains("exported 3 rows of 1 table to 1 file"), "{said}");
    done(&server, &["import", "--db", "to", text(&out)]);
    assert!(samples(&server, "to") == samples(&server, "from"));
}

#[test]
fn what_metrics_cannot_hold_is_refused_by_name() {
    let folder = folder();
    let server = Server::start(&folder.path().join("data"), &[]);
    // A table of line protocol under another name.
    let lines = "cpu,__name__=up value=1,other=2i 1767225600000000000\ncpu,__name__=up value=1 1767225600000000001\n\
                 cpu,__name__=up value=3 1767225600001000000\ncpu value=4 1767225600002000000\n";
    assert_eq!(server.post("/write?db=from", lines.as_bytes()).status, 204);
    let out = folder.path().join("out");
    done(&server, &["export", "--db", "from", "--out", text(&out)]);
    let (code, _, err) = waterclock(&server.url, &["import", "--db", "to", "--table", "metrics", text(&out)]);
    assert_eq!(code, Some(1), "{err}");
    for why in [
        "no field other of the type Int64",
        "1767225600000000001 ns, is no whole millisecond",
        "it has no metric name",
        "imported: 1 line of 1 file",
        "3 lines refused",
    ] {
        assert!(err.contains(why), "{why}: {err}");
    }
    assert_eq!(server.post("/api/wql?db=to", b"up | limit 9").json()["rows"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_stored_is_given_out_and_not_computed_with() {
    let folder = folder();
    let server = Server::start(&folder.path().join("data"), &[]);
    write(&server, hard_series(), Vec::new());
    let arrow = [("Accept", "application/vnd.apache.arrow.stream")];
    let ask =
        |statement: &str| server.send("POST", "/api/wql?db=from&raw=on", &arrow, Some(statement.as_bytes()));
    assert_eq!(ask("latency | where job = \"api\" | between 2026-01-01 and 2026-01-02").status, 200);
    for statement in
        ["latency | count", "latency | extend x = field(value)", "metrics | where histogram = \"x\""]
    {
        let reply = ask(statement);
        let refused = reply.status == 400 && reply.text().contains("raw=on gives out");
        assert!(refused, "{statement}: {}", reply.text());
    }
    let reply = server.post("/api/wql?db=from&raw=on", b"latency");
    assert!(reply.status == 400 && reply.text().contains("raw=on gives out bytes"), "{}", reply.text());
}
