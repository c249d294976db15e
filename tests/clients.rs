//! Real clients and readers, unchanged, against the real binary: what a user of them would do.
//!
//! They live in `target/venv`, which `make test` installs (tests/clients/install.sh). Without them the tests fail, because a
//! test that is passed over reads as passed.
#![expect(
    clippy::disallowed_methods,
    reason = "files for a reader are the test's own, not the engine's data"
)]

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use storage_format::block::{BlockField, BlockKind, BlockMeta, BlockSchema, BlockWriter, Effort, TagLayout};
use storage_format::point::{FieldType, TagSet, TimeRange};
use storage_format::state::{
    BucketRows, Finalizer, StateColumn, StateKey, StateKind, StateRun, block_fields, finalize,
};

use crate::support::prometheus::{WriteRequest, packed, series};
use crate::support::server::{Server, folder};

pub fn python(script: &str, arguments: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/venv/bin/python");
    assert!(python.exists(), "{} is missing: `make test` installs it", python.display());
    let output = Command::new(python)
        .arg(root.join("tests/clients").join(script))
        .args(arguments)
        .output()
        .expect("python starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script} failed:\n{text}\n{errors}");
    text
}

#[test]
fn influxdb_clients_for_python_write_unchanged() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let address = server.url.trim_start_matches("http://");
    let (host, port) = address.split_once(':').unwrap();
    assert!(python("influx_clients.py", &[host, port]).ends_with("ok\n"));
}

#[test]
fn blocks_are_read_by_duckdb_pyarrow_and_polars() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let mut body = String::new();
    let (mut sum, mut sent_sum) = (0.0, 0.0);
    for point in 0..3_000i64 {
        // Few different values in no order, and many whole ones: each is encoded in its own way.
        let mixed = (point as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        let luck = mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33;
        let (host, usage, sent) = (point % 3, (luck % 40) as f64 / 4.0, (luck % 99_991) as f64);
        sum += usage;
        sent_sum += sent;
        // Three hours, so that several partitions and files come of it.
        let time = 1_767_225_600_000_000_000 + point / 3 * 10_000_000_000;
        body += &format!(
            "cpu,host=h{host} usage={usage},sent={sent},n={point}i,up=t,note=\"p {point}\" {time}\n"
        );
    }
    assert_eq!(server.post("/write?db=default", body.as_bytes()).status, 204);
    let expected = serde_json::json!({
        "rows": 3_000,
        "sum": sum,
        "sent": sent_sum,
        "hosts": ["h0", "h1", "h2"],
        "first": "2026-01-01T00:00:00Z",
    });
    let blocks = folder.path().join("blocks").display().to_string();
    for step in ["/api/flush", "/api/compact"] {
        assert_eq!(server.post(step, b"").status, 200);
        assert!(python("open_files.py", &[&blocks, &expected.to_string()]).ends_with("ok\n"), "after {step}");
    }
}

/// More labels than a block of metrics has columns for, and other ones in each of two writes.
#[test]
fn labels_of_metrics_are_read_by_duckdb_pyarrow_and_polars() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let mut expected: BTreeMap<BTreeMap<String, String>, (u64, f64)> = BTreeMap::new();
    for write in 0..2i64 {
        let mut message = WriteRequest::default();
        for number in 0..90i64 {
            let mut labels = BTreeMap::from(
                [
                    // In no order, some before the name, all kinds of names.
                    ("__name__", format!("metric_{}", number % 7)),
                    ("Zone", format!("z{}", number % 3)),
                    ("labels", "its own".to_string()),
                    ("job", format!("job {}", number % 5)),
                ]
                .map(|(name, value)| (name.to_string(), value)),
            );
            // The second write has other common ones, so that a merge has to choose again.
            labels.extend(
                (0..30).map(|label| (format!("common_{}", label + 40 * write), format!("v{}", number % 4))),
            );
            labels.extend(
                (0..number % 4).map(|label| (format!("rare_{}_{label}", number), "\"é\"\n\\".to_string())),
            );
            let time = |row: i64| 1_767_225_600_000 + write * 7_200_000 + row * 15_000;
            let samples: Vec<(i64, f64)> =
                (0..40).map(|row| (time(row), (number * row) as f64 / 4.0)).collect();
            let pairs: Vec<(&str, &str)> =
                labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            message.timeseries.push(series(&pairs, &samples));
            let known = expected.entry(labels).or_default();
            known.0 += samples.len() as u64;
            known.1 += samples.iter().map(|(_, value)| value).sum::<f64>();
        }
        let snappy = [("Content-Encoding", "snappy")];
        let reply = server.send("POST", "/api/v1/write", &snappy, Some(&packed(&message)));
        assert_eq!(reply.status, 204, "{}", reply.text());
        assert_eq!(server.post("/api/flush", b"").status, 200);
    }
    let told: Vec<_> =
        expected.iter().map(|(labels, (rows, sum))| serde_json::json!([labels, rows, sum])).collect();
    let file = folder.path().join("expected.json");
    std::fs::write(&file, serde_json::Value::from(told).to_string()).unwrap();
    let blocks = folder.path().join("blocks/default/metrics");
    let arguments = [blocks.to_str().unwrap(), file.to_str().unwrap()];
    let asked = [
        "count by (__name__) ({__name__=~\".+\"})",
        "sum by (Zone, common_3) ({rare_7_2!=\"\"})",
        "sum({common_50=\"v1\", labels=\"its own\"})",
    ];
    let answers = || -> Vec<String> {
        let ask = |query: &&str| {
            let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
            let path = format!("/api/v1/query_range?query={query}&start=1767225600&end=1767233400&step=60");
            server.get(&path).text()
        };
        asked.iter().map(ask).collect()
    };
    let mut known = Vec::new();
    for step in ["/api/flush", "/api/compact?force=on"] {
        assert_eq!(server.post(step, b"").status, 200, "{step}");
        let found = answers();
        assert!(found.iter().all(|answer| answer.contains("\"values\"")), "{step}: {found:?}");
        assert!(known.is_empty() || known == found, "{step}");
        known = found;
        assert!(python("open_metrics.py", &arguments).ends_with("ok\n"), "after {step}");
    }
}

/// Series of all kinds in one row group, whose pages are each encoded in the form that is smallest for it.
#[test]
fn every_value_of_mixed_pages_is_read_by_duckdb_pyarrow_and_polars() {
    const ROWS: usize = 20_000;
    let luck = |row: usize| {
        let mixed = (row as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        (mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) as f64
    };
    let odd = [f64::NAN, -0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY, 5e-324, f64::MAX];
    let kinds: [&dyn Fn(usize) -> Option<f64>; 9] = [
        &|row| Some((luck(row) % 100.0).floor()),
        &|_| Some(1.0),
        &|row| Some((row as f64 * 50.0 + luck(row) % 50.0).floor() / 100.0),
        &|row| (row % 3 > 0).then(|| 1e6 + (luck(row) % 99_991.0).floor()),
        &|_| None,
        &|row| Some(luck(row) / 3.0),
        // More different values than one byte can tell.
        &|row| Some((row % 700) as f64 / 4.0),
        &|row| Some(odd[row % odd.len()]),
        &|row| (row == ROWS - 1).then_some(2.5),
    ];
    let field = |name: &str| BlockField { name: name.to_string(), data_type: DataType::Float64 };
    let tags = ["dc", "host"].map(str::to_string).to_vec();
    let schema = BlockSchema { tags, layout: TagLayout::Columns, fields: vec![field("v"), field("w")] };
    let meta = BlockMeta {
        database: "default".to_string(),
        table: "mixed".to_string(),
        kind: BlockKind::Points,
        seq_min: 1,
        seq_max: 1,
        partition: TimeRange::new(0, 1_000_000),
        created_by: "0.1.0".to_string(),
    };
    // The first series have no data centre.
    let mut series: Vec<(TagSet, Vec<Option<f64>>)> = Vec::new();
    for (number, kind) in kinds.iter().enumerate() {
        let host = format!("h{number}");
        let tags = match number {
            0..4 => TagSet::new([("host", host)]),
            _ => TagSet::new([("dc", format!("dc{}", number / 6)), ("host", host)]),
        };
        series.push((tags, (0..ROWS).map(kind).collect()));
    }
    // Series of a row each, whose tags are no runs.
    for number in 0..300 {
        let tags = TagSet::new([("dc", "one".to_string()), ("host", format!("s{number:03}"))]);
        series.push((tags, vec![Some(luck(number) % 3.0)]));
    }
    series.sort_by(|a, b| a.0.cmp(&b.0));
    let folder = folder();
    let (file, rows) = (folder.path().join("mixed.parquet"), folder.path().join("rows.json"));
    let mut expected = Vec::new();
    for (tags, values) in &series {
        for value in values {
            let value = value.map(f64::to_bits);
            expected.push(serde_json::json!([
                tags.get("host"),
                tags.get("dc"),
                value,
                null_unless_even(value)
            ]));
        }
    }
    std::fs::write(&rows, serde_json::Value::Array(expected).to_string()).unwrap();
    for effort in [Effort::Flush, Effort::Compaction] {
        let mut block = BlockWriter::new(Vec::new(), schema.clone(), &meta, effort).unwrap();
        for (tags, values) in &series {
            let times: Vec<i64> = (0..values.len() as i64).collect();
            let even =
                values.iter().map(|value| null_unless_even(value.map(f64::to_bits)).map(f64::from_bits));
            let columns: [Float64Array; 2] = [values.iter().copied().collect(), even.collect()];
            let columns = columns.map(|column| Some(Arc::new(column) as ArrayRef));
            block.push_series(tags, &times, &columns).unwrap();
        }
        std::fs::write(&file, block.finish().unwrap().0).unwrap();
        let paths = [&file, &rows].map(|path| path.display().to_string());
        assert!(python("every_value.py", &[&paths[0], &paths[1]]).ends_with("ok\n"), "{effort:?}");
    }
}

/// A column with more gaps than the other.
fn null_unless_even(bits: Option<u64>) -> Option<u64> {
    bits.filter(|bits| bits % 2 == 0)
}

/// Minutes of two hosts over two hours, in blocks as a flush writes them, against hours that are merged here.
#[test]
fn states_are_finalized_by_duckdb_as_the_format_page_says() {
    const MINUTE: i64 = 60_000_000_000;
    const START: i64 = 1_767_225_600_000_000_000;
    let width = |nanoseconds: i64| NonZeroU64::new(nanoseconds as u64).unwrap();
    let states = [
        ("usage_user", Finalizer::Avg),
        ("usage_user", Finalizer::Spread),
        ("usage_user", Finalizer::Stddev),
        ("usage_user", Finalizer::Last),
        ("requests", Finalizer::Increase),
        ("celsius", Finalizer::Twa),
    ];
    let mut keys = vec![("", StateKey::POINTS)];
    for (field, finalizer) in states {
        for kind in finalizer.needs() {
            let key = (field, StateKey::of(*kind, FieldType::Float));
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    let made: Vec<StateKey> = keys.iter().map(|(_, key)| *key).collect();
    let closed: Vec<(&str, StateKey)> = keys.iter().map(|(field, key)| (*field, key.closed())).collect();
    // A sample each ten seconds; the second host begins later and resets its counter.
    let run = |host: i64| {
        let mut run = StateRun::new(&made);
        for row in host * 7..720 {
            let time = START + row * MINUTE / 6 + host;
            let value = (row * (3 + host)) % 101 + host;
            let float: ArrayRef = Arc::new(Float64Array::from(vec![value as f64 / 8.0]));
            let start = time - (time - START) % MINUTE;
            let bucket = match run.starts.last() {
                Some(last) if *last == start => run.len() - 1,
                _ => run.push_bucket(start),
            };
            let windows = [BucketRows { bucket, rows: 0..1 }];
            for column in &mut run.columns {
                match column.kind() {
                    StateKind::Points => column.absorb_points(&windows),
                    _ => column.absorb(&windows, &[time], &float),
                }
            }
        }
        run.close()
    };
    let runs = [run(0), run(1)];
    let fields = closed.iter().flat_map(|(field, key)| block_fields(*key, field).unwrap());
    let fields =
        fields.map(|field| BlockField { name: field.name().clone(), data_type: field.data_type().clone() });
    let meta = BlockMeta {
        database: "default".to_string(),
        table: "cpu_1m".to_string(),
        kind: BlockKind::Rollup,
        seq_min: 1,
        seq_max: 1,
        partition: TimeRange::new(START, START + 120 * MINUTE),
        created_by: "0.1.0".to_string(),
    };
    let schema =
        BlockSchema { tags: vec!["host".to_string()], layout: TagLayout::Columns, fields: fields.collect() };
    let mut block = BlockWriter::new(Vec::new(), schema, &meta, Effort::Flush).unwrap();
    for (run, host) in runs.iter().zip(["a", "b"]) {
        let columns: Vec<Option<ArrayRef>> = run.to_arrow().into_iter().map(Some).collect();
        block.push_series(&TagSet::new([("host", host)]), &run.starts, &columns).unwrap();
    }
    let (block, _) = block.finish().unwrap();
    let folder = folder();
    for table in ["cpu_1m", "site_1m"] {
        std::fs::create_dir(folder.path().join(table)).unwrap();
        std::fs::write(folder.path().join(table).join("1.parquet"), &block).unwrap();
    }

    let mut hours = runs[0].clone();
    hours.merge(&runs[1]);
    let hours = hours.rebucket(|start| start - (start - START) % (60 * MINUTE));
    let answer = |field: &str, finalizer: Finalizer, row: usize| {
        let column = |kind: &StateKind| {
            let of_points = *kind == StateKind::Points;
            let is_it =
                |(name, key): &(&str, StateKey)| key.kind == kind.closed() && (of_points || *name == field);
            &hours.columns[closed.iter().position(is_it).unwrap()]
        };
        let columns: Vec<&StateColumn> = finalizer.needs().iter().map(column).collect();
        let array = finalize(finalizer, &columns).array;
        match array.as_primitive_opt::<Float64Type>() {
            Some(floats) => floats.value(row),
            None => array.as_primitive::<Int64Type>().value(row) as f64,
        }
    };
    let hour = |row: usize| format!("2026-01-01T0{row}:00:00Z");
    let plain = |row| {
        serde_json::json!({
            "hour": hour(row),
            "points": answer("", Finalizer::Points, row),
            "avg": answer("usage_user", Finalizer::Avg, row),
            "max": answer("usage_user", Finalizer::Max, row),
            "spread": answer("usage_user", Finalizer::Spread, row),
            "stddev": answer("usage_user", Finalizer::Stddev, row),
            "last": answer("usage_user", Finalizer::Last, row),
        })
    };
    let steps = |row| {
        serde_json::json!({
            "hour": hour(row),
            "increase": answer("requests", Finalizer::Increase, row),
            "rate": answer("requests", Finalizer::Rate(width(60 * MINUTE)), row),
            "integral": answer("celsius", Finalizer::Integral, row),
            "twa": answer("celsius", Finalizer::Twa, row),
        })
    };
    let expected = serde_json::json!([[plain(0), plain(1)], [steps(0), steps(1)]]);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("storage-format/FORMAT.md").display().to_string();
    let blocks = folder.path().display().to_string();
    assert!(python("states.py", &[&page, &blocks, &expected.to_string()]).ends_with("ok\n"));
}

/// The files of real rollups, and the statements of the page about rollups: what DuckDB makes of the states is what Waterclock
/// answers over the points.
#[test]
fn files_of_rollups_are_finalized_by_duckdb_as_the_rollups_page_says() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let mut body = String::new();
    for second in 0..1_440i64 {
        let time = 1_767_225_600_000_000_000 + second * 5_000_000_000;
        let (host, mixed) = (second % 3, (second * 7_919) % 1_009);
        let (user, system) = (mixed as f64 / 8.0, (mixed % 97) as f64 / 4.0);
        body += &format!("cpu,host=h{host} usage_user={user},usage_system={system} {time}\n");
        // The counter begins again now and then.
        let requests = (second * 3 + host) % 400;
        body += &format!("jobs,job=j{},host=h{host} requests={requests},load={user} {time}\n", host % 2);
    }
    assert_eq!(server.post("/write?db=default", body.as_bytes()).status, 204);
    let totals = "cpu | extend total = usage_user + usage_system | every 1h sum(total), max(total) by host";
    for (name, definition) in [
        (
            "cpu_1m",
            "cpu | every 1m count, avg(usage_user), spread(usage_user), stddev(usage_user), last(usage_user) by host",
        ),
        ("totals", totals),
        ("jobs_1m", "jobs | every 1m increase(requests), integral(load) by job"),
    ] {
        let created = server.post(&format!("/api/rollups/{name}"), definition.as_bytes());
        assert_eq!(created.status, 201, "{}", created.text());
        assert_eq!(server.post(&format!("/api/rollups/{name}/refresh"), b"").status, 200);
    }
    assert_eq!(server.post("/api/flush", b"").status, 200);
    assert_eq!(server.post("/api/compact", b"").status, 200);
    let answer = |statement: &str| {
        let reply = server.post("/api/wql?rollups=off", statement.as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.text());
        let reply: serde_json::Value = serde_json::from_str(&reply.text()).unwrap();
        let names: Vec<&str> = reply["columns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|column| column["name"].as_str().unwrap())
            .collect();
        let row = |row: &serde_json::Value| {
            let named = names.iter().zip(row.as_array().unwrap());
            let name = |name: &str| if name == "time" { "hour".to_string() } else { name.to_string() };
            named.map(|(column, value)| (name(column), value.clone())).collect::<serde_json::Map<_, _>>()
        };
        reply["rows"].as_array().unwrap().iter().map(row).collect::<Vec<_>>()
    };
    let expected = serde_json::json!([
        answer(
            "cpu | every 1h count as points, avg(usage_user) as avg, max(usage_user) as max, spread(usage_user) as spread, \
             stddev(usage_user) as stddev, last(usage_user) as last by ()"
        ),
        answer(
            "cpu | extend total = usage_user + usage_system | every 1h sum(total) as total, max(total) as most by ()"
        ),
        answer("jobs | every 1h increase(requests) as increase, integral(load) as integral by ()"),
    ]);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rollups.md").display().to_string();
    let data = folder.path().display().to_string();
    assert!(python("states.py", &[&page, &data, &expected.to_string()]).ends_with("ok\n"));
}
