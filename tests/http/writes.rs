//! Line protocol in: three versions, compressions, limits, and what becomes of bad lines.

use std::io::Write;

use serde_json::json;

use crate::support::server::{Server, check_offline, folder};

const GOOD: &[u8] = b"cpu,host=a usage=1.5,n=2i 1000\ncpu,host=b usage=2.5,n=3i 2000\n";

#[test]
fn every_version_and_compression_stores_the_same() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(GOOD).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(GOOD, 1).unwrap();
    let snappy = snap::raw::Encoder::new().compress_vec(GOOD).unwrap();
    let cases: [(&str, &str, &[u8]); 9] = [
        ("/write?db=D&precision=n", "identity", GOOD),
        ("/write?db=D&rp=autogen&u=me&p=secret", "gzip", &gzip),
        ("/write?db=D&precision=ns", "snappy", &snappy),
        ("/api/v2/write?bucket=D&org=o&precision=ns", "zstd", &zstd),
        ("/api/v2/write?bucket=D", "gzip", &gzip),
        ("/api/v3/write_lp?db=D&precision=nanosecond", "identity", GOOD),
        ("/api/v3/write_lp?db=D&precision=ns&no_sync=true", "gzip", &gzip),
        ("/api/v3/write_lp?db=D&precision=ns&accept_partial=false", "identity", GOOD),
        ("/write?db=D&precision=", "", GOOD),
    ];
    for (number, (path, encoding, body)) in cases.iter().enumerate() {
        let path = path.replace('D', &format!("d{number}"));
        let headers = [("Content-Encoding", *encoding), ("Authorization", "Token any")];
        let reply = server.send("POST", &path, &headers, Some(body));
        assert_eq!((reply.status, reply.text().as_str()), (204, ""), "{path} {encoding}");
        let asked = server.post(&format!("/api/wql?db=d{number}&time=ns"), b"cpu");
        assert_eq!(asked.json()["rows"], json!([[1000, "a", 2, 1.5], [2000, "b", 3, 2.5]]), "{path}");
    }
    // Nothing to store is no error; a request that names no database means `default`.
    for path in ["/write", "/api/v2/write", "/api/v3/write_lp"] {
        assert_eq!(server.post(path, b"").status, 204);
        assert_eq!(server.post(path, b"# a comment\n\n").status, 204);
    }
    server.post("/write", b"m v=1 1");
    assert_eq!(server.rows("m"), json!([["1970-01-01T00:00:00.000000001Z", 1.0]]));
}

#[test]
fn too_many_series_name_the_tag_that_makes_them() {
    let folder = folder();
    let server = Server::start(folder.path(), &["--set", "series_per_table_max=3"]);
    let line = |id: u32| format!("req,dc=eu,request_id=r{id} v={id} {id}\n");
    let body: String = (1..=5).map(line).chain(["req,dc=eu,request_id=r2 v=9 9\n".to_string()]).collect();
    let reply = server.post("/write", body.as_bytes());
    assert_eq!(reply.status, 400);
    let error = reply.json()["error"].as_str().unwrap().to_string();
    let why = "table req has 3 series, its limit (series_per_table_max), and this line would begin another; the tag \
               request_id has the most values, about 3: leave it out or write it as a field, or raise the limit; \
               `show cardinality from req` counts the values of every tag";
    assert!(error.starts_with(&format!("partial write: line 4: {why}")), "{error}");
    assert!(error.contains("; line 5: ") && error.ends_with(" dropped=2"), "{error}");
    // The other lines are stored, also the one after the refused.
    assert_eq!(server.rows("req | count by ()"), json!([[4]]));
    let cardinality = server.rows("show cardinality from req");
    assert_eq!(cardinality[0], json!(["request_id", "3", "3", "r1", "33.3%"]));
    assert_eq!(cardinality[1], json!(["dc", "1", "3", "eu", "100.0%"]));
    // Another table has its own count.
    assert_eq!(server.post("/write", b"other,request_id=r9 v=1 1").status, 204);
}

#[test]
fn bad_lines_are_named_and_the_good_ones_stored() {
    let folder = folder();
    let server = Server::start(folder.path(), &["--set", "line_errors_listed_max=2"]);
    let body = b"m v=1 1\nm v=\"text\" 2\nnonsense\nm v=2 3\nm v=\xff 4\n";

    let v1 = server.post("/write?db=v1", body);
    assert_eq!(v1.status, 400);
    let error = v1.json()["error"].as_str().unwrap().to_string();
    assert!(error.starts_with("partial write: line 2: field \"v\" of table m is float"), "{error}");
    assert!(error.contains("; line 3: ") && error.contains("and 1 more lines"), "{error}");
    assert!(error.ends_with(" dropped=3"), "{error}");
    assert!(v1.header("x-influxdb-error").starts_with("partial write: line 2"));

    let v2 = server.post("/api/v2/write?bucket=v2", body);
    assert_eq!(
        (v2.status, v2.json()["code"].as_str(), v2.json()["line"].as_u64()),
        (400, Some("invalid"), Some(2))
    );
    assert!(v2.json()["message"].as_str().unwrap().starts_with("partial write error (2 written): line 2: "));

    let v3 = server.post("/api/v3/write_lp?db=v3&precision=ns", body);
    assert_eq!(
        (v3.status, v3.json()["error"].as_str()),
        (400, Some("partial write of line protocol occurred"))
    );
    let data = v3.json()["data"].as_array().unwrap().clone();
    assert_eq!(data.len(), 3, "two lines and how many more");
    assert_eq!(
        (data[1]["line_number"].as_u64(), data[1]["original_line"].as_str()),
        (Some(3), Some("nonsense"))
    );

    for database in ["v1", "v2", "v3"] {
        let rows = server.post(&format!("/api/wql?db={database}&time=ns"), b"m").json()["rows"].clone();
        assert_eq!(rows, json!([[1, 1.0], [3, 2.0]]), "{database}");
    }

    let none = server.post("/api/v3/write_lp?db=none&accept_partial=false", b"a v=1 1\nb\n");
    assert_eq!(
        (none.status, none.json()["error"].as_str()),
        (400, Some("parsing failed for write_lp endpoint"))
    );
    assert_eq!(server.post("/api/wql?db=none", b"a").json()["rows"], json!([]));
    assert_eq!(server.post("/write?db=bad", b"only\nbad\n").status, 400, "nothing was stored");
}

#[test]
fn requests_that_make_no_sense_say_why() {
    let folder = folder();
    let server = Server::start(folder.path(), &["--set", "body_bytes_max=1KiB"]);
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![b'#'; 100_000]).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 1024);
    let large = vec![b'#'; 1025];
    let cases: [(&str, &str, &[u8], u16, &str); 10] = [
        (
            "/write?precision=d",
            "",
            b"m v=1",
            400,
            "the precision \"d\" is not known; give n, ns, u, us, ms, s, m or h",
        ),
        ("/api/v2/write?precision=m", "", b"m v=1", 400, "give ns, us, ms or s"),
        ("/api/v3/write_lp?precision=x", "", b"m v=1", 400, "give auto, nanosecond"),
        ("/api/v3/write_lp?accept_partial=maybe", "", b"m v=1", 400, "give on or off"),
        ("/write", "gzip", b"m v=1", 400, "the body is not whole gzip"),
        ("/api/v2/write", "zstd", b"m v=1", 400, "the body is not whole zstd"),
        ("/write", "br", b"m v=1", 415, "use gzip, deflate, zstd, snappy or identity"),
        ("/write", "", &large, 413, "body_bytes_max"),
        ("/api/v2/write", "gzip", &bomb, 413, "request too large"),
        ("/write?db=metrics", "", b"metrics v=1", 400, "kept for Prometheus"),
    ];
    for (path, encoding, body, status, says) in cases {
        let reply = server.send("POST", path, &[("Content-Encoding", encoding)], Some(body));
        assert_eq!(reply.status, status, "{path} {encoding}: {}", reply.text());
        assert!(unescaped(&reply.text()).contains(says), "{path} {encoding}: {}", reply.text());
        assert_eq!(reply.header("content-type"), "application/json");
    }
}

fn unescaped(json: &str) -> String {
    json.replace("\\\"", "\"")
}

#[test]
fn late_points_go_to_rollups_where_the_table_says_so_and_outlive_a_kill() {
    let folder = folder();
    let mut server = Server::start(folder.path(), &[]);
    server.post("/write", b"cpu,host=a usage=1 1000");
    server.rows("create rollup old as cpu | every 1h count, sum(usage) by host");
    server.rows("alter table cpu keep 1d");
    // Made later, it is sealed up to then.
    server.rows("create rollup new as cpu | every 1h max(usage) by ()");
    let refused = server.post("/write", b"cpu,host=a usage=2 2000");
    assert_eq!(refused.status, 400);
    let why = "its time 1970-01-01T00:00:00.000002Z is before ";
    assert!(refused.text().contains(why), "{}", refused.text());
    server.rows("alter table cpu late merge");
    assert_eq!(server.post("/write", b"cpu,host=a usage=3 3000\ncpu,host=b usage=4 4000").status, 204);
    let metrics = server.get("/metrics").text();
    for (outcome, points) in [("refused", 1), ("taken", 2)] {
        let line = format!("waterclock_ingest_late_points_total{{outcome=\"{outcome}\"}} {points}");
        assert!(metrics.lines().any(|have| have == line), "{line} is not in\n{metrics}");
    }
    let expected = json!([["1970-01-01T00:00:00Z", "a", 2, 4.0], ["1970-01-01T00:00:00Z", "b", 1, 4.0]]);
    assert_eq!(server.rows("old"), expected);
    assert_eq!((server.rows("cpu"), server.rows("new")), (json!([]), json!([])));
    server.kill();
    drop(server);
    let server = Server::start(folder.path(), &[]);
    assert_eq!(server.rows("old"), expected);
    assert!(server.stop().success(), "merged at a stop");
    check_offline(folder.path(), "late points");
    let server = Server::start(folder.path(), &[]);
    assert_eq!(server.rows("old"), expected);
    assert_eq!((server.rows("cpu"), server.rows("new")), (json!([]), json!([])));
}
