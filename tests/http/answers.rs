//! Answers in all their forms: read by what people read them with, and each says what gave it.

use std::io::Read;

use serde_json::json;

use crate::clients::python;
use crate::support::server::{Server, folder};

const FORMATS: [(&str, &str); 5] = [
    ("json", "application/json"),
    ("csv", "text/csv; charset=utf-8; header=present"),
    ("ndjson", "application/x-ndjson"),
    ("arrow", "application/vnd.apache.arrow.stream"),
    ("parquet", "application/vnd.apache.parquet"),
];

#[test]
fn every_form_says_which_rollup_gave_it() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    server.post("/write", "cpu,host=a usage=1 0\ncpu,host=b usage=3 30000000000".as_bytes());
    assert_eq!(server.post("/api/rollups/cpu_ü", b"cpu | every 1m avg(usage)").status, 201);
    server.post("/api/rollups/cpu_%C3%BC/refresh", b"");
    for (format, content_type) in FORMATS {
        let path = format!("/api/wql?format={format}");
        let answer =
            server.send("POST", &path, &[("Accept", "image/png")], Some(b"cpu | every 1m avg(usage)"));
        assert_eq!((answer.status, answer.header("content-type")), (200, content_type), "{}", answer.text());
        let stats: serde_json::Value = serde_json::from_str(answer.header("x-waterclock-stats")).unwrap();
        assert_eq!(stats["rollups"][0]["name"], "cpu_ü", "{format}");
        assert_eq!(answer.header("x-waterclock-warnings"), "[]");
        let within = match format {
            "arrow" => {
                let reader =
                    arrow::ipc::reader::StreamReader::try_new(answer.bytes.as_slice(), None).unwrap();
                reader.schema().metadata()["waterclock.stats"].clone()
            }
            "json" => answer.json()["stats"].to_string(),
            // Python looks into Parquet below.
            _ => continue,
        };
        let within: serde_json::Value = serde_json::from_str(&within).unwrap();
        assert_eq!(within["rollups"][0]["name"], "cpu_ü", "{format}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a file for a program that is tested against")]
fn parquet_answers_are_read_by_duckdb_pyarrow_and_polars() {
    const ROWS: i64 = 150_000;
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let line =
        |i: i64| format!("m,host=h{} v={}.5,n={i}i,up={},note=\"p {i}\" {i}\n", i % 7, i % 40, i % 2 == 0);
    let lines: String = (0..ROWS).map(line).collect();
    assert_eq!(server.post("/write", lines.as_bytes()).status, 204);
    let answer = server.send("POST", "/api/wql", &[("Accept", "application/vnd.apache.parquet")], Some(b"m"));
    assert_eq!(answer.status, 200);
    let file = folder.path().join("answer.parquet");
    std::fs::write(&file, &answer.bytes).unwrap();
    let sum: f64 = (0..ROWS).map(|i| (i % 40) as f64 + 0.5).sum();
    let expected = json!({ "rows": ROWS, "sum": sum, "n": ROWS * (ROWS - 1) / 2, "hosts": 7 });
    let read = python("open_answer.py", &[&file.display().to_string(), &expected.to_string()]);
    assert!(read.ends_with("ok\n"), "{read}");
}

#[test]
fn every_form_is_streamed_and_packed_if_asked() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let lines: String = (0..20_000).map(|i| format!("m v={i}i {i}\n")).collect();
    assert_eq!(server.post("/write", lines.as_bytes()).status, 204);
    for (format, _) in FORMATS {
        let path = format!("/api/wql?format={format}&time=ns");
        let plain = server.post(&path, b"m | limit 15000");
        assert_eq!(plain.header("transfer-encoding"), "chunked", "{format}");
        let packed = server.send("POST", &path, &[("Accept-Encoding", "gzip")], Some(b"m | limit 15000"));
        assert_eq!(packed.header("content-encoding"), "gzip", "{format}");
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(packed.bytes.as_slice()).read_to_end(&mut bytes).unwrap();
        if ["csv", "ndjson"].contains(&format) {
            assert_eq!(bytes, plain.bytes, "{format}");
        } else {
            // How long it took is in them.
            assert!(bytes.len().abs_diff(plain.bytes.len()) < 100, "{format}");
        }
    }
}
