//! Prometheus' remote write, 1.0 and 2.0: what is stored, what is answered, what is refused and how.

use prost::Message;
use serde_json::json;

use crate::support::dice::Dice;
use crate::support::prometheus::{
    BucketSpan, Exemplar, Histogram, Label, MetricMetadata, TimeSeries, WriteRequest, labels_of, packed,
    series, v2,
};
use crate::support::server::{Reply, Server, folder};

pub const V1: &str = "application/x-protobuf";
const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

pub fn send(server: &Server, kind: &str, body: &[u8]) -> Reply {
    let headers = [
        ("Content-Encoding", "snappy"),
        ("Content-Type", kind),
        ("X-Prometheus-Remote-Write-Version", "2.0.0"),
    ];
    server.send("POST", "/api/v1/write", &headers, Some(body))
}

pub fn request(timeseries: Vec<TimeSeries>) -> Vec<u8> {
    packed(&WriteRequest { timeseries, metadata: Vec::new() })
}

/// One series of labels, given as numbers of symbols.
fn request_v2(symbols: &[&str], labels_refs: &[u32], samples: &[(i64, f64)]) -> v2::Request {
    let samples = series(&[], samples).samples;
    v2::Request {
        symbols: symbols.iter().map(|symbol| (*symbol).to_string()).collect(),
        timeseries: vec![v2::TimeSeries { labels_refs: labels_refs.to_vec(), samples, ..Default::default() }],
    }
}

fn written(reply: &Reply) -> [&str; 3] {
    ["samples", "histograms", "exemplars"]
        .map(|what| reply.header(&format!("x-prometheus-remote-write-{what}-written")))
}

#[test]
fn both_versions_write_the_same_series() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let labels = [("__name__", "up"), ("instance", "a:9100"), ("job", "node")];
    let reply = send(&server, V1, &request(vec![series(&labels, &[(1_000, 1.0), (2_000, 0.0)])]));
    assert_eq!((reply.status, reply.text().as_str()), (204, ""));
    let symbols = ["", "__name__", "up", "job", "node", "instance", "a:9100"];
    let reply = send(&server, V2, &packed(&request_v2(&symbols, &[1, 2, 5, 6, 3, 4], &[(3_000, 2.5)])));
    assert_eq!((reply.status, written(&reply)), (204, ["1", "0", "0"]));
    let expected = json!([
        ["1970-01-01T00:00:01Z", "up", "a:9100", "node", 1.0],
        ["1970-01-01T00:00:02Z", "up", "a:9100", "node", 0.0],
        ["1970-01-01T00:00:03Z", "up", "a:9100", "node", 2.5],
    ]);
    assert_eq!(server.rows("up"), expected);
    assert_eq!(server.rows("show series from metrics").as_array().unwrap().len(), 1);
    // What is sent again, and late, overwrites.
    send(&server, V1, &request(vec![series(&labels, &[(2_000, 7.0)])]));
    assert_eq!(server.rows("up")[1][4], json!(7.0));
    // A database of its own.
    let headers = [("Content-Encoding", "snappy")];
    let body = request(vec![series(&labels, &[(1_000, 1.0)])]);
    assert_eq!(server.send("POST", "/api/v1/write?db=other", &headers, Some(&body)).status, 204);
    assert_eq!(server.post("/api/wql?db=other", b"up | count").json()["rows"][0][3], json!(1));
}

#[test]
fn metadata_survive_a_restart_and_later_ones_win() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let entry = |metric: &str, kind, help: &str| MetricMetadata {
        kind,
        metric_family_name: metric.to_string(),
        help: help.to_string(),
        unit: String::new(),
    };
    let metadata = vec![entry("up", 2, "Whether it answers"), entry("requests_total", 1, "Requests")];
    // Prometheus sends metadata in requests without samples.
    let body = packed(&WriteRequest { timeseries: Vec::new(), metadata });
    assert_eq!(send(&server, V1, &body).status, 204);
    let mut request = request_v2(
        &["", "__name__", "lat_bucket", "le", "1", "Latency", "seconds"],
        &[1, 2, 3, 4],
        &[(1_000, 3.0)],
    );
    request.timeseries[0].metadata = Some(v2::Metadata { kind: 3, help_ref: 5, unit_ref: 6 });
    assert_eq!(send(&server, V2, &packed(&request)).status, 204);
    let metadata = vec![entry("up", 2, "Another help")];
    assert_eq!(send(&server, V1, &packed(&WriteRequest { timeseries: Vec::new(), metadata })).status, 204);
    let expected = json!([
        ["lat", "Latency", "histogram", "seconds"],
        ["requests_total", "Requests", "counter", ""],
        ["up", "Another help", "gauge", ""],
    ]);
    let rows = |server: &Server| {
        server.rows("metrics_metadata | last(help) as help, last(type) as type, last(unit) as unit")
    };
    assert_eq!(rows(&server), expected);
    drop(server);
    assert_eq!(rows(&Server::start(folder.path(), &[])), expected);
}

#[test]
fn bad_requests_are_named_and_harm_no_other_series() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let good = || series(&[("__name__", "good")], &[(1_000, 1.0)]);
    let with = |labels: &[(&str, &str)]| request(vec![good(), series(labels, &[(1_000, 1.0)])]);
    let cases: [(&str, Vec<u8>, u16, &str); 12] = [
        (V1, with(&[("__name__", "a"), ("b", "1"), ("a", "2")]), 400, "the label a stands after b"),
        (V1, with(&[("__name__", "a"), ("b", "1"), ("b", "2")]), 400, "the label b stands there twice"),
        (V1, with(&[("", "x"), ("__name__", "a")]), 400, "a label has no name"),
        (V1, with(&[("job", "x")]), 400, "it has no metric name"),
        (V1, with(&[("__name__", ""), ("job", "x")]), 400, "it has no metric name"),
        (V1, with(&[("__name__", "a"), ("b", "x\0y")]), 400, "NUL"),
        (V1, b"\x05nonsense".to_vec(), 400, "not whole snappy"),
        (
            V1,
            snap::raw::Encoder::new().compress_vec(b"\x0a\xff").unwrap(),
            400,
            "a field ends after its message",
        ),
        (
            V2,
            packed(&request_v2(&["", "__name__", "a"], &[1, 2, 1], &[(1, 1.0)])),
            400,
            "3 references to symbols",
        ),
        (
            V2,
            packed(&request_v2(&["", "__name__", "a"], &[1, 3], &[(1, 1.0)])),
            400,
            "the symbol 3, and there are 3",
        ),
        (
            V2,
            packed(&request_v2(&["", "__name__", "a"], &[1, 2], &[])),
            400,
            "neither samples nor histograms",
        ),
        ("application/json", b"{}".to_vec(), 415, "the Content-Type is \"application/json\""),
    ];
    for (kind, body, status, why) in &cases {
        let reply = send(&server, kind, body);
        let text = reply.text();
        assert_eq!(reply.status, *status, "{why}: {text}");
        assert!(text.contains(why), "{why}: {text}");
        if *kind == V2 {
            assert_eq!(written(&reply), ["0", "0", "0"], "{why}");
        }
    }
    assert_eq!(server.rows("show metrics"), json!([["good"]]));
    for (encoding, status) in [("snappy", 204), ("", 204), ("zstd", 415), ("identity", 415)] {
        let headers = [("Content-Encoding", encoding)];
        let body = request(vec![good()]);
        let reply = server.send("POST", "/api/v1/write", &headers, Some(&body));
        assert_eq!(reply.status, status, "{encoding}: {}", reply.text());
    }
    // Times that nanoseconds cannot say.
    let reply = send(&server, V1, &request(vec![series(&[("__name__", "t")], &[(i64::MAX, 1.0), (5, 2.0)])]));
    assert!(
        reply.status == 400 && reply.text().contains("1 samples stored, 1 series or samples refused"),
        "{}",
        reply.text()
    );
    assert_eq!(server.rows("t"), json!([["1970-01-01T00:00:00.005Z", "t", 2.0]]));
}

#[test]
fn too_many_series_are_refused_for_good_and_an_overload_for_now() {
    let folder = folder();
    let server =
        Server::start(folder.path(), &["--set", "series_per_table_max=2", "--set", "body_bytes_max=1KiB"]);
    let one = |name: &str| series(&[("__name__", name)], &[(1_000, 1.0)]);
    let reply = send(&server, V1, &request(vec![one("a"), one("b"), one("c"), one("b")]));
    assert_eq!(reply.status, 400);
    assert!(
        reply.text().contains("{__name__=\"c\"}: table metrics has 2 series, its limit"),
        "{}",
        reply.text()
    );
    let long = "x".repeat(2_000);
    let reply = send(&server, V1, &request(vec![series(&[("__name__", &long)], &[(1, 1.0)])]));
    assert_eq!(reply.status, 413, "{}", reply.text());
}

/// Eight observations in four buckets, as whole numbers.
pub fn histogram(timestamp: i64) -> Histogram {
    Histogram {
        count_int: Some(8),
        sum: 18.5,
        schema: 1,
        zero_threshold: 0.001,
        zero_count_int: Some(1),
        positive_spans: vec![BucketSpan { offset: 0, length: 2 }, BucketSpan { offset: 1, length: 1 }],
        positive_deltas: vec![2, -1, 3],
        reset_hint: 2,
        timestamp,
        ..Histogram::default()
    }
}

#[test]
fn native_histograms_and_exemplars_are_taken_and_counted() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let symbols = ["", "__name__", "latency", "trace_id", "abc"].map(str::to_string).to_vec();
    let one = |timestamp| v2::TimeSeries {
        labels_refs: vec![1, 2],
        histograms: vec![histogram(timestamp)],
        exemplars: vec![v2::Exemplar { labels_refs: vec![3, 4], value: 2.5, timestamp }],
        ..Default::default()
    };
    let request = v2::Request { symbols: symbols.clone(), timeseries: vec![one(1_000), one(2_000)] };
    let reply = send(&server, V2, &packed(&request));
    assert_eq!((reply.status, written(&reply)), (204, ["0", "2", "2"]), "{}", reply.text());
    // Sent again, the histograms are written again, and the exemplars are known.
    let reply = send(&server, V2, &packed(&request));
    assert_eq!((reply.status, written(&reply)), (204, ["0", "2", "0"]));
    let mut wrong = one(3_000);
    wrong.histograms[0].positive_deltas = vec![2, -1, 4];
    let mut both = one(4_000);
    both.samples = series(&[], &[(4_000, 1.0)]).samples;
    let request = v2::Request { symbols, timeseries: vec![wrong, both, one(5_000)] };
    let reply = send(&server, V2, &packed(&request));
    assert_eq!((reply.status, written(&reply)), (400, ["0", "1", "1"]));
    for why in ["its buckets do not add up to its count", "it has samples and histograms"] {
        assert!(reply.text().contains(why), "{}", reply.text());
    }
    let exemplar = Exemplar { labels: labels_of(&[("trace_id", "x")]), value: 1.0, timestamp: 1 };
    let mut with_exemplar = series(&[("__name__", "up")], &[(1, 1.0)]);
    with_exemplar.exemplars.push(exemplar);
    assert_eq!(send(&server, V1, &self::request(vec![with_exemplar])).status, 204);
    assert_eq!(server.rows("show fields from metrics"), json!([["histogram", "binary"], ["value", "float"]]));
    assert_eq!(server.rows("latency | count"), json!([["latency", 3]]));
}

/// Random messages, labels first or not, against what prost made of them.
#[test]
fn random_messages_are_read_as_they_were_meant() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let mut dice = Dice::new(7);
    let mut expected: Vec<(String, i64, f64)> = Vec::new();
    for _ in 0..40 {
        let mut timeseries = Vec::new();
        for _ in 0..dice.roll(8) {
            let number = dice.roll(20);
            let mut labels = labels_of(&[("__name__", "m")]);
            labels.push(Label { name: "n".to_string(), value: number.to_string() });
            labels.push(Label { name: "z".to_string(), value: "é".repeat(number as usize * 9) });
            let samples: Vec<(i64, f64)> = (0..dice.roll(4))
                .map(|_| (dice.roll(1_000_000) as i64 - 500_000, dice.roll(1_000) as f64 / 8.0))
                .collect();
            for (time, value) in &samples {
                expected.retain(|(known, at, _)| (known, at) != (&number.to_string(), time));
                expected.push((number.to_string(), *time, *value));
            }
            timeseries.push(TimeSeries { labels, ..series(&[], &samples) });
        }
        let message = WriteRequest { timeseries, metadata: Vec::new() };
        let body = match dice.roll(2) {
            0 => packed(&message),
            _ => snap::raw::Encoder::new().compress_vec(&labels_last(&message)).unwrap(),
        };
        assert_eq!(send(&server, V1, &body).status, 204);
    }
    let rows = server.post("/api/wql?time=ms", b"m").json()["rows"].clone();
    let mut came_out: Vec<(String, i64, f64)> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row[2].as_str().unwrap().to_string(), row[0].as_i64().unwrap(), row[4].as_f64().unwrap()))
        .collect();
    let order = |a: &(String, i64, f64), b: &(String, i64, f64)| (&a.0, a.1).cmp(&(&b.0, b.1));
    came_out.sort_by(order);
    expected.sort_by(order);
    assert!(expected.len() > 100);
    // A label without a value is none, so the column of z is null for n=0.
    assert_eq!(came_out, expected);
}

/// The same message, each series' samples between two halves of its labels.
fn labels_last(message: &WriteRequest) -> Vec<u8> {
    let mut out = Vec::new();
    for series in &message.timeseries {
        let part = |from: &TimeSeries| from.encode_to_vec();
        let (first, rest) = series.labels.split_at(1);
        let body = [
            part(&TimeSeries { labels: first.to_vec(), ..TimeSeries::default() }),
            part(&TimeSeries { samples: series.samples.clone(), ..TimeSeries::default() }),
            part(&TimeSeries { labels: rest.to_vec(), ..TimeSeries::default() }),
        ]
        .concat();
        prost::encoding::bytes::encode(1, &body, &mut out);
    }
    out
}
