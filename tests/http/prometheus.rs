//! Prometheus' API over a socket: what Grafana and other clients send, and the shape of what they get.

use serde_json::{Value as Json, json};

use crate::http::remote_write::{V1, histogram, request, send};
use crate::support::prometheus::series;
use crate::support::server::{Reply, Server, folder};

fn server(folder: &std::path::Path) -> Server {
    let server = Server::start(folder, &[]);
    let body =
        "cpu,host=a usage=1 1000000000\ncpu,host=b usage=2.5 1000000000\ncpu,host=a usage=3 16000000000\n";
    assert_eq!(server.post("/write", body.as_bytes()).status, 204);
    server
}

fn form(server: &Server, path: &str, form: &str) -> Reply {
    server.send("POST", path, &[("Content-Type", "application/x-www-form-urlencoded")], Some(form.as_bytes()))
}

fn data(reply: &Reply) -> Json {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = reply.json();
    assert_eq!(answer["status"], "success");
    answer["data"].clone()
}

#[test]
fn queries_answer_as_prometheus_does() {
    let folder = folder();
    let server = server(folder.path());
    let one = json!({
        "resultType": "vector",
        "result": [
            { "metric": { "__name__": "cpu_usage", "host": "a" }, "value": [16.5, "3"] },
            { "metric": { "__name__": "cpu_usage", "host": "b" }, "value": [16.5, "2.5"] },
        ]
    });
    assert_eq!(data(&server.get("/api/v1/query?query=cpu_usage&time=16.5")), one);
    assert_eq!(data(&form(&server, "/api/v1/query", "query=cpu_usage&time=16.5")), one);
    assert_eq!(
        data(&form(&server, "/api/v1/query?time=1", "query=cpu_usage&time=16.5")),
        one,
        "the form's counts"
    );
    let ranged = "query=sum(cpu_usage)&start=0&end=1970-01-01T00:00:30Z&step=15s";
    let values = json!([[15, "3.5"], [30, "5.5"]]);
    let matrix = json!({ "resultType": "matrix", "result": [{ "metric": {}, "values": values }] });
    assert_eq!(data(&form(&server, "/api/v1/query_range", ranged)), matrix);
    assert_eq!(data(&server.get(&format!("/api/v1/query_range?{ranged}"))), matrix);
    let scalar = data(&form(&server, "/api/v1/query", "query=1%2B1&time=4"));
    assert_eq!(scalar, json!({ "resultType": "scalar", "result": [4, "2"] }));
    let limited = server.get("/api/v1/query?query=cpu_usage&time=16&limit=1&stats=all").json();
    assert_eq!(limited["data"]["result"].as_array().map(Vec::len), Some(1));
    assert_eq!(limited["warnings"], json!(["results truncated due to limit"]));
    let samples = &limited["data"]["stats"]["samples"];
    assert_eq!(samples["totalQueryableSamples"], 2);
    assert_eq!(samples["totalQueryableSamplesPerStep"], json!([[16, 2]]));
    assert_eq!(data(&server.get("/api/v1/query?query=cpu_usage&time=16&db=other"))["result"], json!([]));
    let stale = server.get("/api/v1/query?query=cpu_usage%7Bhost=%22b%22%7D&time=16&lookback_delta=10s");
    assert_eq!(data(&stale)["result"], json!([]));
}

#[test]
fn errors_have_types_and_statuses() {
    let folder = folder();
    let server = server(folder.path());
    let cases = [
        (
            "/api/v1/query?query=sum(",
            400,
            "bad_data",
            "invalid parameter \"query\": 1:5: parse error: unclosed left parenthesis",
        ),
        (
            "/api/v1/query?query=1&time=x",
            400,
            "bad_data",
            "invalid parameter \"time\": invalid time value for 'time': cannot parse \"x\" to a valid timestamp",
        ),
        ("/api/v1/query?query=cpu_usage%2Bon()cpu_usage&time=2", 422, "execution", "found duplicate series"),
        (
            "/api/v1/query_range?query=1&start=10&end=0&step=1",
            400,
            "bad_data",
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        (
            "/api/v1/query_range?query=1&start=0&end=10&step=0",
            400,
            "bad_data",
            "zero or negative query resolution step widths",
        ),
        (
            "/api/v1/query_range?query=1&start=0&end=11001&step=1",
            400,
            "bad_data",
            "exceeded maximum resolution of 11,000 points",
        ),
        (
            "/api/v1/query_range?query=cpu_usage[5m]&start=0&end=1&step=1",
            400,
            "bad_data",
            "invalid expression type \"range vector\" for range query",
        ),
        ("/api/v1/query?query=1&timeout=x", 400, "bad_data", "invalid parameter \"timeout\""),
        ("/api/v1/series", 400, "bad_data", "no match[] parameter provided"),
        ("/api/v1/labels?match[]=a%7B", 400, "bad_data", "invalid parameter \"match[]\""),
        ("/api/v1/rules?type=x", 400, "bad_data", "invalid parameter \"type\": not supported value \"x\""),
        (
            "/api/v1/query?query=cpu_usage%5Bstep()%5D",
            400,
            "bad_data",
            "invalid parameter \"query\": duration must be greater than 0",
        ),
        ("/api/v1/labels?limit=-1", 400, "bad_data", "limit must be non-negative"),
        ("/api/v1/status/tsdb?limit=0", 400, "bad_data", "limit must be a positive number"),
        ("/api/v1/query?query=cpu_usage&timeout=0s", 503, "timeout", "ran longer than"),
    ];
    for (path, status, kind, says) in cases {
        let reply = server.get(path);
        let answer = reply.json();
        assert_eq!((reply.status, answer["status"].as_str()), (status, Some("error")), "{path}: {answer}");
        assert_eq!(answer["errorType"], kind, "{path}");
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(says)), "{path}: {answer}");
    }
    assert_eq!(server.get("/api/v1/no_such_thing").status, 404);
}

#[test]
fn what_there_is_can_be_listed() {
    let folder = folder();
    let server = server(folder.path());
    assert_eq!(data(&server.get("/api/v1/labels")), json!(["__name__", "host"]));
    assert_eq!(data(&server.get("/api/v1/label/__name__/values")), json!(["cpu_usage"]));
    assert_eq!(
        data(&server.get("/api/v1/label/host/values?match[]=cpu_usage&start=0&end=20")),
        json!(["a", "b"])
    );
    assert_eq!(
        data(&server.get("/api/v1/label/host/values?match[]=%7Bhost!%3D%22a%22,host!%3D%22%22%7D")),
        json!(["b"])
    );
    assert_eq!(data(&server.get("/api/v1/label/none/values")), json!([]));
    assert_eq!(data(&server.get("/api/v1/label/U__a_2e_b/values")), json!([]));
    let series = json!([{ "__name__": "cpu_usage", "host": "a" }, { "__name__": "cpu_usage", "host": "b" }]);
    assert_eq!(
        data(&form(&server, "/api/v1/series", "match[]=cpu_usage&match[]=%7Bhost%3D%22a%22%7D")),
        series
    );
    assert_eq!(data(&server.get("/api/v1/series?match[]=cpu_usage&start=5&end=1")), json!([]));
    let cut = server.get("/api/v1/series?match[]=cpu_usage&limit=1").json();
    assert_eq!(cut["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(cut["warnings"], json!(["results truncated due to limit"]));
    assert_eq!(data(&server.get("/api/v1/status/buildinfo"))["version"], "3.5.0");
    assert_eq!(data(&server.get("/api/v1/rules")), json!({ "groups": [] }));
    assert_eq!(data(&server.get("/api/v1/alerts")), json!({ "alerts": [] }));
    for (path, nothing) in [
        ("/api/v1/rules?type=alert", json!({ "groups": [] })),
        ("/api/v1/targets", json!({ "activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {} })),
        ("/api/v1/targets/metadata", json!([])),
        ("/api/v1/scrape_pools", json!({ "scrapePools": [] })),
        ("/api/v1/alertmanagers", json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] })),
        ("/api/v1/notifications", json!([])),
        ("/api/v1/status/walreplay", json!({ "min": 0, "max": 0, "current": 0, "state": "done" })),
    ] {
        assert_eq!(data(&server.get(path)), nothing, "{path}");
    }
    let cardinality = data(&server.get("/api/v1/status/tsdb"));
    // Of samples in memory only their partition is known, two hours.
    let stats = json!({ "numSeries": 2, "numLabelPairs": 3, "minTime": 0, "maxTime": 7_199_999 });
    assert_eq!(cardinality["headStats"], stats);
    let empty = data(&server.get("/api/v1/status/tsdb?db=other"));
    assert_eq!(
        (&empty["headStats"]["minTime"], empty["headStats"]["numSeries"].as_u64()),
        (&json!(i64::MAX), Some(0))
    );
    assert_eq!(cardinality["seriesCountByMetricName"], json!([{ "name": "cpu_usage", "value": 2 }]));
    assert_eq!(server.get("/-/ready").status, 200);
}

/// Samples of now, since those are what is federated: of the newest time, with the time of each.
#[test]
fn the_newest_samples_are_federated() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let now = data(&server.get("/api/v1/query?query=time()"))["result"][1].as_str().unwrap().to_string();
    let now = (now.parse::<f64>().unwrap() * 1e3) as i64;
    let lines = format!(
        "up,job=a value=1 {0}\nup,job=a value=0 {1}\nup,instance=h:1,job=b value=2.5 {0}\nold value=1 {2}\nnext value=1 {3}\n",
        now - 30_000,
        now - 10_000,
        now - 400_000,
        now + 100_000
    );
    assert_eq!(server.post("/write?precision=ms", lines.as_bytes()).status, 204);
    const STALE: u64 = 0x7ff0_0000_0000_0002;
    let stale =
        series(&[("__name__", "gone")], &[(now - 20_000, 1.0), (now - 10_000, f64::from_bits(STALE))]);
    assert_eq!(
        send(&server, V1, &request(vec![stale, series(&[("__name__", "a.b")], &[(now - 5_000, 3.0)])]))
            .status,
        204
    );
    let all = "match[]=%7B__name__%3D~%22.%2B%22%7D";
    let reply = server.get(&format!("/federate?{all}&match[]=up_value"));
    let expected = format!(
        "# TYPE a_b untyped\na_b{{instance=\"\"}} 3 {}\n\
         # TYPE up_value untyped\nup_value{{job=\"a\",instance=\"\"}} 0 {}\nup_value{{instance=\"h:1\",job=\"b\"}} 2.5 {}\n",
        now - 5_000,
        now - 10_000,
        now - 30_000
    );
    assert_eq!((reply.status, reply.text()), (200, expected));
    let modern = server.send(
        "GET",
        &format!("/federate?{all}"),
        &[("Accept", "text/plain;escaping=allow-utf-8")],
        None,
    );
    assert!(
        modern.text().starts_with("# TYPE \"a.b\" untyped\n{\"a.b\",instance=\"\"} 3 "),
        "{}",
        modern.text()
    );
    assert_eq!(server.get("/federate").text(), "");
    let wrong = server.get("/federate?match[]=up%7B");
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().contains("invalid parameter \"match[]\""), "{}", wrong.text());
}

#[test]
fn queries_are_printed_and_taken_apart() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let printed = data(&form(&server, "/api/v1/format_query", "query=sum(rate(a[5m]))by(b)"));
    assert_eq!(printed, "sum by (b) (rate(a[5m]))");
    let tree = data(&server.get("/api/v1/parse_query?query=a%20%2B%20on(b)%20c%20offset%205m"));
    assert_eq!((&tree["type"], &tree["op"]), (&json!("binaryExpr"), &json!("+")));
    assert_eq!(
        tree["matching"],
        json!({
            "card": "one-to-one", "labels": ["b"], "on": true, "include": [], "fillValues": { "lhs": null, "rhs": null },
        })
    );
    assert_eq!(tree["rhs"]["offset"], 300_000);
    let tree = data(&form(&server, "/api/v1/parse_query", "query=a[5m*step()] smoothed offset -(1m%2B1s)"));
    assert_eq!((&tree["smoothed"], &tree["anchored"]), (&json!(true), &json!(false)));
    assert_eq!((&tree["rangeExpr"], &tree["offsetExpr"]), (&json!("5m * step()"), &json!("-(1m + 1s)")));
    let printed = data(&form(&server, "/api/v1/format_query", "query=a / fill_left(1) fill_right(1) b"));
    assert_eq!(printed, "a / fill (1) b");
    assert_eq!(server.get("/api/v1/parse_query?query=(").status, 400);
}

#[test]
fn native_histograms_are_answered_with_their_buckets() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let mut written = series(&[("__name__", "lat"), ("job", "a")], &[]);
    written.histograms = vec![histogram(1_000), histogram(16_000)];
    let floats = series(&[("__name__", "up"), ("job", "a")], &[(16_000, 1.0)]);
    assert_eq!(send(&server, V1, &request(vec![written, floats])).status, 204);
    let shown = json!({ "count": "8", "sum": "18.5", "buckets": [
        [3, "-0.001", "0.001", "1"],
        [0, "0.7071067811865475", "1", "2"],
        [0, "1", "1.414213562373095", "1"],
        [0, "2", "2.82842712474619", "4"],
    ]});
    let labels = json!({ "__name__": "lat", "job": "a" });
    let at =
        |query: &str| data(&server.get(&format!("/api/v1/query?query={query}&time=16")))["result"].clone();
    let result = json!([{ "metric": labels, "histogram": [16, shown] }]);
    assert_eq!(at("lat"), result);
    let both = json!([{ "metric": labels, "histograms": [[1, shown], [16, shown]] }]);
    assert_eq!(at("lat[30s]"), both);
    let range = "query=%7Bjob=%22a%22%7D&start=16&end=31&step=15";
    let up = json!({ "__name__": "up", "job": "a" });
    assert_eq!(
        data(&server.get(&format!("/api/v1/query_range?{range}")))["result"],
        json!([
            { "metric": labels, "histograms": [[16, shown], [31, shown]] },
            { "metric": up, "values": [[16, "1"], [31, "1"]] },
        ])
    );
    let value = |query: &str| at(query)[0]["value"][1].clone();
    assert_eq!(value("histogram_count(sum(lat))"), "8");
    assert_eq!(value("histogram_avg(lat)"), "2.3125");
    assert_eq!(value("histogram_quantile(0.5,lat)"), "2");
    assert_eq!(value("histogram_fraction(-Inf,1,lat)"), "0.375");
    assert_eq!(value("count(%7Bjob=%22a%22%7D)"), "2");
    // `</` and `>/`; the sum that is left is an estimate.
    let below = &at("lat%3C%2F1")[0];
    assert_eq!(below["metric"], labels);
    assert_eq!(below["histogram"][1]["count"], "3");
    assert_eq!(below["histogram"][1]["buckets"].as_array().map(Vec::len), Some(2));
    assert_eq!(value("histogram_count(lat%3E%2F1)"), "5");
    assert_eq!(value("histogram_count(lat%3E%2Fon(job)up)"), "5");
    let reply = server.get("/api/v1/query?query=up%3C%2F1&time=16").json();
    assert_eq!((&reply["data"]["result"], reply["infos"].as_array().map(Vec::len)), (&json!([]), Some(1)));
    let reply = server.get("/api/v1/query?query=max(%7Bjob=%22a%22%7D)&time=16").json();
    assert_eq!(reply["data"]["result"][0]["value"][1], "1");
    assert_eq!(reply["infos"], json!(["PromQL info: ignored histogram in max aggregation (1:5)"]));
}

#[test]
fn answers_name_the_rollups_that_gave_them() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let point = |minute: u64| format!("cpu,host=a usage={} {}\n", minute % 1_000, minute * 60_000_000_000);
    let body: String = (0..=2_880).map(point).collect();
    assert_eq!(server.post("/write", body.as_bytes()).status, 204);
    server.rows("create rollup cpu_10m as cpu | every 10m max(usage), first(usage)");
    server.rows("refresh rollup cpu_10m");
    let ask = |query: &str, more: &str| {
        let reply = form(&server, "/api/v1/query", &format!("query={query}&time=172800&stats=all{more}"));
        let data = data(&reply);
        let header: Json = serde_json::from_str(reply.header("x-waterclock-stats")).unwrap();
        assert_eq!(header["rollups"], data["stats"]["waterclock"]["rollups"]);
        data
    };
    let (through, points) =
        (ask("max_over_time(cpu_usage[1d])", ""), ask("max_over_time(cpu_usage[1d])", "&rollups=off"));
    assert_eq!(through["result"], points["result"]);
    assert_eq!(through["result"][0]["value"], json!([172_800, "999"]));
    // The day has 144 buckets, and its last sample is the first of one more. No point is read.
    let stats = &through["stats"]["waterclock"];
    assert_eq!(stats["rollups"], json!([{ "name": "cpu_10m", "buckets": 145, "dirty_recomputed": 0 }]));
    assert_eq!(stats["rows_read"], 145);
    assert_eq!(points["stats"]["waterclock"]["rollups"], json!([]));
    assert_eq!(points["stats"]["waterclock"]["rows_read"], 1_440);
    let day = "query=max_over_time(cpu_usage[1h])&start=86400&end=172800&step=1h&stats=all";
    let ranged = data(&form(&server, "/api/v1/query_range", day));
    let ranged_points = data(&form(&server, "/api/v1/query_range", &format!("{day}&rollups=off")));
    assert_eq!(ranged["result"], ranged_points["result"]);
    assert_eq!(ranged["stats"]["waterclock"]["rollups"][0]["name"], "cpu_10m");

    let reasons = [
        ("quantile_over_time(0.5,cpu_usage[1d])", "no states give this function of PromQL"),
        ("cpu_usage", "only functions of ranges are answered from rollups in PromQL"),
        ("sum_over_time(cpu_usage[1d])", "it has no sum of usage"),
    ];
    for (query, reason) in reasons {
        let answer = ask(query, "");
        let not_used = json!([{ "name": "cpu_10m", "reason": reason }]);
        assert_eq!(answer["stats"]["waterclock"]["rollups_not_used"], not_used, "{query}");
        assert_eq!(answer["stats"]["waterclock"]["rollups"], json!([]));
    }
    let plain = server.get("/api/v1/query?query=cpu_usage&time=172800");
    assert_eq!(plain.json()["data"].get("stats"), None);
    assert!(plain.header("x-waterclock-stats").contains("\"rollups\":[]"));
    assert!(!plain.header("x-waterclock-stats").contains("not_used"), "reasons are for who asks");
}
