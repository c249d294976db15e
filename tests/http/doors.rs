//! Questions, rollups, and what the server says about itself.

use std::io::Read;

use serde_json::json;

use crate::support::server::{Server, folder};

const POINTS: &[u8] =
    b"cpu,host=a,dc=x usage=1,n=9007199254740993i 0\ncpu,host=b,dc=x usage=3,n=1i 30000000000\n\
    cpu,host=a,dc=y usage=5,n=2i 60000000000\n";

#[test]
fn wql_in_every_format() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    assert_eq!(server.post("/write", POINTS).status, 204);

    let statement = b"cpu | every 1m avg(usage), max(n) by dc";
    let answer = server.post("/api/wql", statement).json();
    let columns: Vec<_> = answer["columns"].as_array().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(columns[0], json!({"name": "time", "type": "time", "role": "time"}).to_string());
    assert_eq!(columns[1], json!({"name": "dc", "type": "string", "role": "tag"}).to_string());
    assert_eq!(
        answer["rows"],
        json!([
            ["1970-01-01T00:00:00Z", "x", 2.0, 9007199254740993_i64],
            ["1970-01-01T00:01:00Z", "y", 5.0, 2]
        ])
    );
    assert_eq!(
        (answer["stats"]["series"].as_u64(), answer["stats"]["rows_read"].as_u64()),
        (Some(3), Some(3))
    );
    assert_eq!((&answer["stats"]["rollups"], &answer["warnings"]), (&json!([]), &json!([])));

    let accept =
        |accept: &str| server.send("POST", "/api/wql?time=s", &[("Accept", accept)], Some(statement));
    assert_eq!(accept("text/csv").text(), "time,dc,avg_usage,max_n\n0,x,2.0,9007199254740993\n60,y,5.0,2\n");
    let lines = accept("application/x-ndjson").text();
    assert_eq!(lines.lines().next(), Some(r#"{"time":0,"dc":"x","avg_usage":2.0,"max_n":9007199254740993}"#));
    let stream = accept("application/vnd.apache.arrow.stream;q=1, */*").bytes;
    let reader = arrow::ipc::reader::StreamReader::try_new(stream.as_slice(), None).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2);
    assert_eq!(accept("image/png").status, 406);

    // The same statement in the URL, in a form, and as curl -d sends it.
    let rows = |reply: crate::support::server::Reply| reply.json()["rows"].as_array().unwrap().len();
    assert_eq!(rows(server.get("/api/wql?q=cpu+%7C+limit+2&from=0s")), 2);
    assert_eq!(rows(server.get("/api/wql?q=cpu&from=30s&to=60s")), 1);
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(rows(server.send("POST", "/api/wql", &form, Some(b"q=cpu+%7C+limit+1&db=default"))), 1);
    assert_eq!(rows(server.send("POST", "/api/wql", &form, Some(b"cpu | limit 1"))), 1);

    let object = [("Content-Type", "application/json; charset=utf-8")];
    let asked = br#"{"q": "cpu | limit 1", "time": "s", "rollups": false}"#;
    assert_eq!(rows(server.send("POST", "/api/wql", &object, Some(asked))), 1);

    // Values are bound: whatever is in them, it is one value.
    let bound = br#"{"q": "cpu{host in $hosts, dc=$dc}", "params": {"hosts": ["a", "b"], "dc": "x"}}"#;
    assert_eq!(rows(server.send("POST", "/api/wql", &object, Some(bound))), 2);
    let evil = br#"{"q": "cpu{dc=$dc}", "params": {"dc": "x\"}; delete from cpu; cpu{dc=\"x"}}"#;
    assert_eq!(rows(server.send("POST", "/api/wql", &object, Some(evil))), 0);
    assert_eq!(rows(server.get("/api/wql?q=cpu%7Bdc%3D$dc%7D&params=%7B%22dc%22:%22y%22%7D")), 1);
    let missing = server.post("/api/wql", b"cpu{dc=$dc}");
    assert_eq!(missing.status, 400, "{}", missing.text());
    let planned = br#"{"q": "cpu{dc=$dc} | every 1m avg(usage)", "params": {"dc": "x"}}"#;
    assert_eq!(server.send("POST", "/api/wql/explain", &object, Some(planned)).status, 200);

    let plan = server.get("/api/wql/explain?q=cpu+%7C+every+1m+avg(usage)").json();
    assert_eq!(
        (plan["columns"][0]["name"].as_str(), plan["rows"][0][0].as_str()),
        (Some("plan"), Some("read cpu"))
    );
}

#[test]
fn a_large_answer_comes_whole_and_packed_if_asked() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let lines: String = (0..50_000).map(|i| format!("m,host=h{} v={i}i {i}\n", i % 7)).collect();
    assert_eq!(server.post("/write", lines.as_bytes()).status, 204);
    let plain = server.post("/api/wql?time=ns", b"m");
    assert_eq!(plain.json()["rows"].as_array().unwrap().len(), 50_000);
    let packed = server.send("POST", "/api/wql?time=ns", &[("Accept-Encoding", "gzip")], Some(b"m"));
    assert_eq!(packed.header("content-encoding"), "gzip");
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed.bytes.as_slice()).read_to_string(&mut text).unwrap();
    let rows = serde_json::from_str::<serde_json::Value>(&text).unwrap()["rows"].clone();
    assert_eq!(rows, plain.json()["rows"]);
}

#[test]
fn wrong_questions_say_where_and_what_instead() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    server.post("/write", POINTS);
    let wrong = |reply: crate::support::server::Reply| {
        let error = reply.json()["error"].clone();
        let text = |key: &str| error[key].as_str().unwrap_or_default().to_string();
        (reply.status, text("code"), text("message"), text("hint"), error)
    };

    let (status, code, _, hint, error) = wrong(server.post("/api/wql", b"cpu\n | evry 1m avg(usage)"));
    assert_eq!((status, code.as_str(), hint.as_str()), (400, "syntax", "did you mean `every`?"));
    assert_eq!((error["line"].as_u64(), error["column"].as_u64()), (Some(2), Some(4)));
    assert!(error["rendered"].as_str().unwrap().contains("\n   ^ read `evry`"), "{error}");
    let (_, _, _, _, explained) = wrong(server.get("/api/wql/explain?q=cpu+%7C+every+1m+avg(usgae)"));
    assert_eq!((explained["line"].as_u64(), explained["column"].as_u64()), (Some(1), Some(20)));

    let cases: [(&str, &str, &str, u16, &str); 21] = [
        ("POST", "/api/wql", "cpuu", 404, "unknown_table"),
        ("POST", "/api/wql", "cpu | every 1m avg(usgae)", 400, "unknown_field"),
        ("POST", "/api/wql", "", 400, "bad_parameter"),
        ("POST", "/api/wql?q=cpu", "cpu", 400, "bad_parameter"),
        ("POST", "/api/wql?rollup=off", "cpu", 400, "bad_parameter"),
        ("POST", "/api/wql?rollups=perhaps", "cpu", 400, "bad_parameter"),
        ("POST", "/api/wql?from=yesterday", "cpu", 400, "bad_parameter"),
        ("POST", "/api/wql?from=2&to=1", "cpu", 400, "bad_parameter"),
        ("POST", "/api/wql?timeout=soon", "cpu", 400, "bad_parameter"),
        ("POST", "/api/wql?timeout=2d", "cpu", 400, "bad_parameter"),
        ("POST", "/api/wql?format=xml", "cpu", 400, "bad_parameter"),
        ("POST", "/api/wql?params=5", "cpu", 400, "bad_parameter"),
        ("DELETE", "/api/queries/7", "", 404, "unknown_query"),
        ("GET", "/api/queries?all=on", "", 400, "bad_parameter"),
        ("POST", "/api/wql?time=weeks", "cpu", 400, "bad_parameter"),
        ("GET", "/api/wql?q=delete+from+cpu", "", 400, "read_only"),
        ("POST", "/api/wql?read_only=on", "delete from cpu", 400, "read_only"),
        ("POST", "/api/wql/explain", "cpu; delete from cpu", 400, "bad_parameter"),
        ("GET", "/api/rollups/none", "", 404, "unknown_rollup"),
        ("GET", "/api/nothing", "", 404, "unknown_path"),
        ("DELETE", "/api/wql", "", 405, "wrong_method"),
    ];
    for (method, path, body, status, code) in cases {
        let body = (method == "POST").then_some(body.as_bytes());
        let (got, got_code, message, ..) = wrong(server.send(method, path, &[], body));
        assert_eq!((got, got_code.as_str()), (status, code), "{method} {path}: {message}");
        assert!(!message.is_empty());
    }
    let (status, code, ..) = wrong(server.post("/api/wql", b"cpu \xff"));
    assert_eq!((status, code.as_str()), (400, "not_utf8"));
    let json = server.send("POST", "/api/wql", &[("Content-Type", "application/json")], Some(b"{}"));
    assert_eq!((json.status, json.json()["error"]["code"].as_str()), (400, Some("bad_parameter")));
    assert!(server.get("/api/v1/targets/none").text().contains("of Prometheus' API there is no"));
    assert_eq!(server.get("/api/v2/buckets").json()["code"], "not found");
    assert_eq!(server.rows("cpu | count() by ()").as_array().map(Vec::len), Some(1), "nothing was deleted");
}

#[test]
fn limits_are_answers() {
    let folder = folder();
    let server = Server::start(folder.path(), &["--set", "query_rows_max=2"]);
    server.post("/write", POINTS);
    // What needs all rows at once.
    let reply = server.post("/api/wql", b"cpu | top 5 by usage");
    assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (422, Some("too_many_rows")));
    assert!(reply.text().contains("query_rows_max"));
    // What goes on as it comes.
    assert_eq!(server.post("/api/wql", b"cpu").status, 200);
}

#[test]
fn an_answer_counts_until_it_is_sent() {
    use std::io::Write;
    let folder = folder();
    let server =
        Server::start(folder.path(), &["--set", "queries_running_max=1", "--set", "queries_wait_max=50ms"]);
    // More than the buffers of a socket take.
    let lines: String = (0..400_000).map(|i| format!("m v={i}i {i}\n")).collect();
    assert_eq!(server.post("/write", lines.as_bytes()).status, 204);
    let mut silent = std::net::TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    silent.write_all(b"GET /api/wql?q=m HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    // The first byte of the answer: now the query has run, and its rows wait to be taken.
    silent.read_exact(&mut [0]).unwrap();
    let refused = server.post("/api/wql", b"show tables");
    assert_eq!((refused.status, refused.header("retry-after")), (503, "2"), "{}", refused.text());
    assert_eq!(refused.json()["error"]["code"], "too_many_queries");
    drop(silent);
    while server.post("/api/wql", b"show tables").status == 503 {}
}

#[test]
fn a_rollup_from_birth_to_end() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    server.post("/write", POINTS);
    let created = server.post("/api/rollups/cpu%201m", b"cpu | every 1m count, avg(usage) by dc");
    assert_eq!((created.status, created.json()["on"].as_str()), (201, Some("cpu")), "{}", created.text());
    assert_eq!(server.post("/api/rollups/cpu%201m", b"cpu | every 1m count").status, 409);
    let whole = server.post("/api/rollups/cpu_1h", b"create rollup cpu_1h as cpu | every 1h max(usage)");
    assert_eq!(whole.status, 201, "{}", whole.text());
    let other = server.post("/api/rollups/x", b"create rollup y as cpu | every 1h max(usage)");
    assert_eq!((other.status, other.json()["error"]["code"].as_str()), (400, Some("bad_parameter")));
    let misspelt = server.post("/api/rollups/x", b"cpu | every 1h max(usgae)");
    assert_eq!(misspelt.json()["error"]["column"].as_u64(), Some(20), "{}", misspelt.text());
    assert_eq!(server.post("/api/rollups/x", b"show tables").status, 400);

    let refreshed = server.send("POST", "/api/rollups/cpu%201m/refresh?to=3h", &[], Some(b""));
    assert_eq!(refreshed.status, 400, "3h is no time: {}", refreshed.text());
    let refreshed = server.send("POST", "/api/rollups/cpu%201m/refresh", &[], Some(b""));
    assert_eq!(refreshed.status, 200);
    assert!(refreshed.json()["buckets"].as_u64().is_some(), "{}", refreshed.text());
    let progress = server.get("/api/rollups/cpu%201m/progress").json();
    assert_eq!((&progress["done"], &progress["missing_buckets"]), (&json!(true), &json!(0)));

    let used = server.post("/api/wql", b"cpu | every 1m avg(usage) by dc").json();
    assert_eq!(used["stats"]["rollups"][0]["name"], "cpu 1m");
    let raw = server.post("/api/wql?rollups=off", b"cpu | every 1m avg(usage) by dc").json();
    assert_eq!((&raw["rows"], &raw["stats"]["rollups"]), (&used["rows"], &json!([])));

    let names = |server: &Server| -> Vec<String> {
        let listed = server.get("/api/rollups").json();
        listed["rollups"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_string())
            .collect()
    };
    assert_eq!(names(&server), ["cpu 1m", "cpu_1h"]);
    assert_eq!(server.send("DELETE", "/api/rollups/cpu%201m", &[], None).status, 200);
    assert_eq!(server.send("DELETE", "/api/rollups/cpu%201m", &[], None).status, 404);
    assert_eq!(names(&server), ["cpu_1h"]);
}

#[test]
fn what_influx_clients_ask_at_start() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    for method in ["GET", "HEAD"] {
        let ping = server.send(method, "/ping", &[], None);
        assert_eq!(ping.status, 204);
        assert!(ping.header("x-influxdb-version").starts_with("1.8."));
        assert_eq!(ping.header("x-influxdb-build"), "OSS");
    }
    assert_eq!(server.get("/health").json()["status"], "pass");
    assert_eq!(server.get("/ready").json()["status"], "ready");
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let query = |q: &str| server.send("POST", "/query", &form, Some(q.as_bytes()));
    assert_eq!(query("q=CREATE+DATABASE+%22my+db%22").json(), json!({"results": [{"statement_id": 0}]}));
    server.post("/write?db=my%20db", b"cpu v=1");
    let both = query("q=SHOW+DATABASES%3B+SHOW+MEASUREMENTS+ON+%22my+db%22").json();
    assert_eq!(both["results"][0]["series"][0]["values"], json!([["my db"]]));
    assert_eq!(
        both["results"][1],
        json!({"statement_id": 1, "series": [{"name": "measurements", "columns": ["name"], "values": [["cpu"]]}]})
    );
    for (q, says) in [("q=SELECT+1", "/api/wql"), ("q=DROP+DATABASE+x", "delete from"), ("", "\"q\"")] {
        let reply = query(q);
        assert_eq!(reply.status, 400);
        assert!(reply.json()["error"].as_str().unwrap().contains(says), "{}", reply.text());
    }
    assert_eq!(server.get("/query?q=CREATE+DATABASE+x").status, 400);
}

#[test]
fn the_server_counts_itself() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    server.post("/write", POINTS);
    server.post("/api/wql", b"cpu");
    assert_eq!(server.send("POST", "/api/flush", &[], Some(b"")).json()["blocks"], 1);
    assert_eq!(server.send("POST", "/api/compact?force=on", &[], Some(b"")).json()["merges"], 0);
    let metrics = server.get("/metrics").text();
    for line in [
        "waterclock_ingest_points_total 3",
        "waterclock_ingest_values_total 6",
        "waterclock_blocks 1",
        "waterclock_head_rows 0",
        "waterclock_queries_total{outcome=\"ok\"} 1",
        "waterclock_http_requests_total{path=\"/write\",method=\"POST\",status=\"204\"} 1",
        "waterclock_http_request_seconds_count{path=\"/write\"} 1",
        "# HELP waterclock_wal_sync_seconds Time of a group commit: write and fsync",
    ] {
        assert!(metrics.lines().any(|have| have == line), "{line} is not in\n{metrics}");
    }
    assert!(server.get("/").text().contains("/api/wql"));
}
