//! Prometheus' remote read: what was written comes back, as samples and as streamed chunks.
//!
//! Not here: the bits of a chunk (`storage_format::xor_chunk`), a real Prometheus (`prometheus`).

use prost::Message;

use crate::http::remote_write::histogram;
use crate::support::prometheus::{
    ChunkedReadResponse, Matcher, ReadQuery, ReadRequest, ReadResponse, TimeSeries, WriteRequest, packed,
    series,
};
use crate::support::server::{Reply, Server, folder};

const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

const HEADERS: [(&str, &str); 2] =
    [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];

fn write(server: &Server, timeseries: Vec<TimeSeries>) {
    let body = packed(&WriteRequest { timeseries, metadata: Vec::new() });
    assert_eq!(server.send("POST", "/api/v1/write", &HEADERS, Some(&body)).status, 204);
}

fn read(server: &Server, queries: Vec<ReadQuery>, accepted_response_types: Vec<i32>) -> Reply {
    let body = packed(&ReadRequest { queries, accepted_response_types });
    server.send("POST", "/api/v1/read", &HEADERS, Some(&body))
}

fn query(from: i64, to: i64, matchers: &[(i32, &str, &str)]) -> ReadQuery {
    let matcher = |(kind, name, value): &(i32, &str, &str)| Matcher {
        kind: *kind,
        name: (*name).to_string(),
        value: (*value).to_string(),
    };
    ReadQuery {
        start_timestamp_ms: from,
        end_timestamp_ms: to,
        matchers: matchers.iter().map(matcher).collect(),
    }
}

fn samples(reply: &Reply) -> Vec<Vec<TimeSeries>> {
    assert_eq!((reply.status, reply.header("content-encoding")), (200, "snappy"), "{}", reply.text());
    let bytes = snap::raw::Decoder::new().decompress_vec(&reply.bytes).unwrap();
    ReadResponse::decode(bytes.as_slice())
        .unwrap()
        .results
        .into_iter()
        .map(|result| result.timeseries)
        .collect()
}

fn frames(reply: &Reply) -> Vec<ChunkedReadResponse> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(
        reply.header("content-type"),
        "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
    );
    let mut rest = reply.bytes.as_slice();
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let len = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
        let (crc, after) = rest.split_at(4);
        let (message, after) = after.split_at(len);
        assert_eq!(crc, crc32c::crc32c(message).to_be_bytes());
        frames.push(ChunkedReadResponse::decode(message).unwrap());
        rest = after;
    }
    frames
}

/// Bits, because a stale marker does not equal itself.
fn bits(series: &TimeSeries) -> Vec<(i64, u64)> {
    series.samples.iter().map(|sample| (sample.timestamp, sample.value.to_bits())).collect()
}

#[test]
fn what_was_written_comes_back() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let a = series(
        &[("A", "upper"), ("__name__", "up"), ("job", "a")],
        &[(1_000, 1.0), (2_000, STALE), (3_000, f64::NAN)],
    );
    let b = series(
        &[("__name__", "up"), ("job", "b")],
        &(0..1_000).map(|at| (at * 10, at as f64)).collect::<Vec<_>>(),
    );
    let other = series(&[("__name__", "other")], &[(1_000, 5.0)]);
    write(&server, vec![b.clone(), a.clone(), other]);
    for flush in [false, true] {
        if flush {
            assert_eq!(server.post("/api/flush", b"").status, 200);
        }
        let both = samples(&read(&server, vec![query(0, 9_999, &[(0, "__name__", "up")])], vec![]));
        assert_eq!(both[0].iter().map(|series| &series.labels).collect::<Vec<_>>(), [&a.labels, &b.labels]);
        assert_eq!(both[0].iter().map(bits).collect::<Vec<_>>(), [bits(&a), bits(&b)]);
        // Both ends belong to the range; a matcher for a label that is not there.
        let queries = vec![
            query(2_000, 3_000, &[(2, "__name__", "u."), (0, "job", "a")]),
            query(0, 9_999, &[(1, "__name__", "up"), (0, "job", "")]),
            query(0, 9_999, &[(3, "__name__", ".*")]),
        ];
        let three = samples(&read(&server, queries, vec![0]));
        assert_eq!(bits(&three[0][0]), bits(&a)[1..]);
        assert_eq!((three[1].len(), three[1][0].samples[0].value, three[2].len()), (1, 5.0, 0));
        let frames = frames(&read(&server, vec![query(0, 9_999, &[(0, "job", "b")])], vec![1, 0]));
        let chunks: Vec<_> = frames.iter().flat_map(|frame| &frame.chunked_series[0].chunks).collect();
        let ends: Vec<(i64, i64, i32)> =
            chunks.iter().map(|chunk| (chunk.min_time_ms, chunk.max_time_ms, chunk.kind)).collect();
        assert_eq!((ends.len(), ends[0], ends[8]), (9, (0, 1_190, 1), (9_600, 9_990, 1)));
        assert_eq!(frames[0].chunked_series[0].labels, b.labels);
        assert_eq!(u16::from_be_bytes([chunks[8].data[0], chunks[8].data[1]]), 40);
    }
}

#[test]
fn native_histograms_come_back_as_samples() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let mut written = series(&[("__name__", "latency")], &[]);
    written.histograms = vec![histogram(1_000), histogram(2_000)];
    let mut fractions = histogram(3_000);
    fractions.count_int = None;
    fractions.count_float = Some(2.5);
    fractions.zero_count_int = None;
    fractions.zero_count_float = Some(0.5);
    fractions.positive_deltas.clear();
    fractions.positive_counts = vec![0.5, 0.5, 1.0];
    written.histograms.push(fractions);
    write(&server, vec![written.clone()]);
    for flush in [false, true] {
        if flush {
            assert_eq!(server.post("/api/flush", b"").status, 200);
        }
        let read = samples(&read(&server, vec![query(0, 9_000, &[(0, "__name__", "latency")])], vec![1, 0]));
        assert_eq!(read[0], [written.clone()]);
    }
}

#[test]
fn bad_requests_are_refused_with_a_reason() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let reply = read(&server, vec![query(0, 1, &[(2, "__name__", "(")])], vec![]);
    assert!(reply.status == 400 && reply.text().contains("pattern"), "{}", reply.text());
    let reply = read(&server, vec![query(0, 1, &[(9, "__name__", "a")])], vec![]);
    assert!(reply.status == 400 && reply.text().contains("matcher"), "{}", reply.text());
    assert_eq!(server.send("POST", "/api/v1/read", &HEADERS, Some(b"\xff\xff")).status, 400);
    // No metrics at all.
    assert_eq!(samples(&read(&server, vec![query(0, 1, &[(0, "__name__", "a")])], vec![])), [[]]);
}
