//! OpenTelemetry's metrics, in JSON and protobuf: what they become.

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message;
use serde_json::{Value as Json, json};

use crate::support::server::{Reply, Server, folder};

/// A request of one resource with these metrics.
fn request(metrics: Json) -> Json {
    let attribute = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    json!({"resourceMetrics": [{
        "resource": {"attributes": [
            attribute("service.name", "shop"), attribute("service.namespace", "eu"),
            attribute("service.instance.id", "i-1"), attribute("host.name", "h1"),
        ]},
        "scopeMetrics": [{"scope": {"name": "s"}, "metrics": metrics}],
    }]})
}

fn point(value: Json) -> Json {
    let mut point = json!({
        "timeUnixNano": "1000000000",
        "attributes": [{"key": "http.route", "value": {"stringValue": "/a b"}}, {"key": "code", "value": {"intValue": "200"}}],
    });
    for (name, part) in value.as_object().unwrap() {
        point[name] = part.clone();
    }
    point
}

fn send(server: &Server, kind: &str, body: &[u8]) -> Reply {
    server.send("POST", "/v1/metrics", &[("Content-Type", kind)], Some(body))
}

fn metrics() -> Json {
    json!([
        {"name": "http.requests", "unit": "1", "description": "Requests",
            "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [point(json!({"asInt": "5"}))]}},
        {"name": "queue.size", "unit": "{items}",
            "sum": {"aggregationTemporality": 2, "isMonotonic": false, "dataPoints": [point(json!({"asInt": "-3"}))]}},
        {"name": "sent", "unit": "By",
            "sum": {"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [point(json!({"asDouble": 2.5}))]}},
        {"name": "temp.now", "unit": "Cel", "gauge": {"dataPoints": [point(json!({"asDouble": 21.5}))]}},
        {"name": "lat", "unit": "ms", "histogram": {"aggregationTemporality": 2, "dataPoints": [point(json!({
            "count": "6", "sum": 90.5, "explicitBounds": [10.0, 100.0], "bucketCounts": ["1", "3", "2"]}))]}},
        {"name": "lat.exp", "unit": "s", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [point(json!({
            "count": "5", "sum": 7.5, "scale": 1, "zeroCount": "1",
            "positive": {"offset": -1, "bucketCounts": ["2", "0", "2"]}}))]}},
        {"name": "old", "summary": {"dataPoints": [point(json!({
            "count": "4", "sum": 8.0, "quantileValues": [{"quantile": 0.5, "value": 2.0}]}))]}},
    ])
}

#[test]
fn metrics_become_what_prometheus_would_make_of_them() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let body = request(metrics());
    let reply = send(&server, "application/json", body.to_string().as_bytes());
    assert_eq!((reply.status, reply.json()), (200, json!({})), "{}", reply.text());
    let one = |statement: &str| {
        server.rows(&format!("{statement} | last(value) as v by job, instance, http_route, code"))[0].clone()
    };
    let labelled = |value: f64| json!(["eu/shop", "i-1", "/a b", "200", value]);
    assert_eq!(one("http_requests_total"), labelled(5.0));
    assert_eq!(one("queue_size"), labelled(-3.0));
    assert_eq!(one("sent_bytes"), labelled(2.5));
    assert_eq!(one("temp_now_celsius"), labelled(21.5));
    assert_eq!(one("lat_milliseconds_count"), labelled(6.0));
    assert_eq!(one("lat_milliseconds_sum"), labelled(90.5));
    assert_eq!(one("old{quantile=\"0.5\"}"), labelled(2.0));
    let buckets = server.rows("lat_milliseconds_bucket | last(value) as v by le | sort v");
    assert_eq!(buckets, json!([["10", 1.0], ["100", 4.0], ["+Inf", 6.0]]));
    assert_eq!(
        server.rows("target_info | last(value) as v by job, instance, host_name"),
        json!([["eu/shop", "i-1", "h1", 1.0]])
    );
    assert_eq!(server.rows("lat_exp_seconds | count by job"), json!([["eu/shop", 1]]));
    let metadata =
        server.rows("metrics_metadata{metric=\"http_requests_total\"} | last(help) as h, last(type) as t");
    assert_eq!(metadata, json!([["http_requests_total", "Requests", "counter"]]));

    // The same in protobuf, compressed, into another database.
    let message: ExportMetricsServiceRequest = serde_json::from_value(body).unwrap();
    let packed = zstd::encode_all(message.encode_to_vec().as_slice(), 1).unwrap();
    let headers = [("Content-Type", "application/x-protobuf"), ("Content-Encoding", "zstd")];
    let reply = server.send("POST", "/v1/metrics?db=pb", &headers, Some(&packed));
    assert_eq!(
        (reply.status, ExportMetricsServiceResponse::decode(reply.bytes.as_slice())),
        (200, Ok(Default::default()))
    );
    let rows = |db: &str| server.post(&format!("/api/wql?db={db}"), b"metrics").json()["rows"].clone();
    assert!(rows("pb").as_array().unwrap().len() > 10);
    assert_eq!(rows("pb"), rows("default"));
}

#[test]
fn bad_points_are_counted_and_bad_requests_refused() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let bad = json!([
        {"name": "good", "gauge": {"dataPoints": [point(json!({"asDouble": 1.0}))]}},
        {"name": "none", "gauge": {"dataPoints": [point(json!({}))]}},
        {"name": "lat", "histogram": {"aggregationTemporality": 2, "dataPoints": [point(json!({
            "count": "6", "explicitBounds": [10.0], "bucketCounts": ["1"]}))]}},
        {"name": "exp", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [point(json!({
            "count": "6", "scale": -9}))]}},
    ]);
    let reply = send(&server, "application/json", request(bad).to_string().as_bytes());
    let partial = reply.json()["partialSuccess"].clone();
    assert_eq!((reply.status, &partial["rejectedDataPoints"]), (200, &json!("3")));
    for why in ["a data point of none has no value", "1 buckets and 1 bounds", "its scale is below -4"] {
        assert!(partial["errorMessage"].as_str().unwrap().contains(why), "{partial}");
    }
    assert_eq!(server.rows("show metrics"), json!([["good"], ["target_info"]]));
    assert_eq!(send(&server, "application/json", b"{\"resourceMetrics\": 5}").status, 400);
    assert_eq!(send(&server, "application/x-protobuf", b"\xff\xff").status, 400);
    assert_eq!(send(&server, "text/plain", b"x").status, 415);
}
