//! The command line as a person or a script meets it: the real binary, its output, its exit codes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, RecordBatch, TimestampMillisecondArray,
};
use arrow::datatypes::Int32Type;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::clients::python;
use crate::support::server::{Server, folder};

/// The binary without the settings of whoever runs the tests.
fn waterclock(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waterclock"));
    let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WATERCLOCK_"));
    for (name, _) in ours {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = waterclock(args).output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

/// What it prints when all is well.
fn printed(args: &[&str]) -> String {
    let (code, out, err) = run(args);
    assert_eq!(code, Some(0), "{args:?}: {err}");
    out
}

fn with_points() -> (tempfile::TempDir, Server) {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let lines = "cpu,host=h1 usage=12.5,n=1i 1767225600\ncpu,host=h2 usage=50,n=1000i 1767225660\n";
    let reply = server.post("/write?db=default&precision=s", lines.as_bytes());
    assert_eq!(reply.status, 204, "{}", reply.text());
    (folder, server)
}

#[test]
fn the_shell_works_in_a_terminal() {
    let (_folder, server) = with_points();
    let state = folder();
    let state = state.path().to_str().expect("a path of text");
    assert!(python("shell.py", &[env!("CARGO_BIN_EXE_waterclock"), &server.url, state]).ends_with("ok\n"));
}

#[test]
fn every_format_has_its_shape() {
    let (_folder, server) = with_points();
    let query = |format: &str| printed(&["query", "--url", &server.url, "--format", format, "cpu"]);
    assert_eq!(
        query("table"),
        "\
time                  host     n  usage
───────────────────────────────────────
2026-01-01T00:00:00Z  h1       1   12.5
2026-01-01T00:01:00Z  h2    1000   50.0
"
    );
    assert_eq!(
        query("vertical"),
        "\
── row 1 ──
time   2026-01-01T00:00:00Z
host   h1
n      1
usage  12.5
── row 2 ──
time   2026-01-01T00:01:00Z
host   h2
n      1000
usage  50.0
"
    );
    let csv = query("csv").replace("\r\n", "\n");
    assert_eq!(csv, "time,host,n,usage\n2026-01-01T00:00:00Z,h1,1,12.5\n2026-01-01T00:01:00Z,h2,1000,50.0\n");
    let ndjson = query("ndjson");
    assert_eq!(ndjson.lines().count(), 2);
    let first: serde_json::Value = serde_json::from_str(ndjson.lines().next().unwrap()).unwrap();
    assert_eq!(first["usage"], 12.5);
    let json: serde_json::Value = serde_json::from_str(&query("json")).unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), 2);
}

#[test]
fn ranges_files_and_standard_input_reach_the_server() {
    let (folder, server) = with_points();
    let url = server.url.as_str();
    let ranged =
        ["query", "--url", url, "--format", "csv", "--from", "2026-01-01T00:01:00Z", "--time", "s", "cpu"];
    assert_eq!(printed(&ranged).replace('\r', ""), "time,host,n,usage\n1767225660,h2,1000,50.0\n");

    let file = folder.path().join("statement.wql");
    std::fs::File::create_new(&file)
        .and_then(|mut file| std::io::Write::write_all(&mut file, b"show tables"))
        .unwrap();
    assert!(printed(&["query", "--url", url, "-f", file.to_str().unwrap()]).contains("cpu"));

    let mut child = waterclock(&["query", "--url", url, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"show tags from cpu").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("host"));

    let (code, out, err) = run(&["query", "--url", url, "--stats", "cpu | count by ()"]);
    assert_eq!((code, out.lines().count()), (Some(0), 3));
    assert!(err.contains("1 row in ") && err.contains("from raw points (2 series)"), "{err}");
}

#[test]
fn parquet_goes_to_files_and_pipes() {
    let (_folder, server) = with_points();
    let output = waterclock(&["query", "--url", &server.url, "--format", "parquet", "cpu"]).output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"PAR1"));
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(output.stdout)).unwrap();
    assert_eq!(reader.metadata().file_metadata().num_rows(), 2);
}

/// As any other program would: no footer of ours.
fn foreign(path: &std::path::Path) {
    let texts: DictionaryArray<Int32Type> = vec![Some("a"), Some("b"), None].into_iter().collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("fare", Arc::new(Float64Array::from(vec![Some(2.5), None, Some(4.0)]))),
        ("Timestamp", Arc::new(TimestampMillisecondArray::from(vec![1_000, 2_000, 61_000]))),
        ("vendor", Arc::new(texts)),
        ("passengers", Arc::new(Int32Array::from(vec![1, 2, 3]))),
        ("paid", Arc::new(BooleanArray::from(vec![true, false, true]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create_new(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn files_of_others_are_asked_without_a_server() {
    let folder = folder();
    let path = folder.path().join("trips.2026.parquet");
    foreign(&path);
    let file = path.to_str().unwrap();
    let expected =
        "time,vendor,fare,paid,passengers\n1000,a,2.5,true,1\n2000,b,,false,2\n61000,,4.0,true,3\n";
    let csv = ["query", "--format", "csv", "--time", "ms"];
    assert_eq!(printed(&[&csv[..], &["--file", file, "trips"]].concat()), expected);
    // In the other order, as with a list of files from the shell; and said in other words.
    assert_eq!(printed(&[&csv[..], &["trips", "--file", file]].concat()), expected);
    let flags = ["--table", "t", "--tags", "paid,vendor", "--time-column", "Timestamp", "--file", file];
    let out = printed(&[&csv[..], &flags, &["t | every 1m sum(passengers) by paid, vendor"]].concat());
    assert_eq!(out, "time,paid,vendor,sum_passengers\n0,false,b,2\n60000,true,,3\n0,true,a,1\n");
    assert!(printed(&["query", "show tables", "--file", file]).contains("trips"));

    let (code, _, err) = run(&["query", "--file", file]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("there is no statement behind --file"), "{err}");
    assert_eq!(run(&["query", "--tags", "a", "cpu"]).0, Some(2), "only files have columns to be told");
    let (code, _, err) = run(&["query", "--time-column", "when", "--file", file, "trips"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("there is no column when") && err.contains("Timestamp, vendor"), "{err}");
    let (code, _, err) = run(&["query", "--file", env!("CARGO_BIN_EXE_waterclock"), "trips"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("it cannot be read as Parquet"), "{err}");
    let (code, _, err) = run(&["query", "--file", "/nowhere.parquet", "trips"]);
    assert_eq!(code, Some(1));
    assert!(err.starts_with("waterclock: cannot open /nowhere.parquet"), "{err}");
}

#[test]
fn blocks_are_asked_without_their_folder() {
    let (folder, server) = with_points();
    assert_eq!(server.post("/api/flush", b"").status, 200);
    let more = "cpu,host=h1 usage=13 1767225600\n";
    assert_eq!(server.post("/write?db=default&precision=s", more.as_bytes()).status, 204);
    assert_eq!(server.post("/api/flush", b"").status, 200);
    let of_table = folder.path().join("blocks/default/cpu");
    let mut files: Vec<String> = std::fs::read_dir(of_table)
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect();
    files.sort();
    assert_eq!(files.len(), 2, "{files:?}");
    // The server has them open; they are only looked at.
    let csv = |files: &[String]| {
        let mut args = vec!["query", "--format", "csv", "--time", "s", "cpu", "--file"];
        args.extend(files.iter().map(String::as_str));
        printed(&args)
    };
    assert_eq!(csv(&files), "time,host,n,usage\n1767225600,h1,1,13.0\n1767225660,h2,1000,50.0\n");
    assert_eq!(csv(&files[..1]), "time,host,n,usage\n1767225600,h1,1,12.5\n1767225660,h2,1000,50.0\n");
    assert_eq!(server.rows("cpu | count() as n by ()")[0][0], 2);
}

#[test]
fn a_wrong_statement_is_shown_at_its_place() {
    let (_folder, server) = with_points();
    let (code, out, err) = run(&["query", "--url", &server.url, "cpu | last 1h | every 5 avg(usage)"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let expected = "\
    cpu | last 1h | every 5 avg(usage)
                          ^ a window needs a unit, for example 5m";
    assert!(err.starts_with("waterclock: the statement is wrong at line 1, column 23\n\n"), "{err}");
    assert!(err.contains(expected), "{err}");
}

#[test]
fn wrong_flags_end_in_2_and_an_absent_server_in_1() {
    assert_eq!(run(&["query"]).0, Some(2));
    assert_eq!(run(&["query", "--format", "xml", "cpu"]).0, Some(2));
    assert_eq!(run(&["quarry"]).0, Some(2));
    // Nothing listens on the port of a listener that is gone.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (code, _, err) = run(&["query", "--url", &url, "cpu"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("is it running? start it with: waterclock serve"), "{err}");
    assert!(run(&["query", "--url", "https://x", "cpu"]).2.contains("no http:// address"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let (_folder, server) = with_points();
    let lines: String = (0..200_000).map(|n| format!("big v={n} {}\n", 1_767_225_600 + n)).collect();
    assert_eq!(server.post("/write?db=default&precision=s", lines.as_bytes()).status, 204);
    for format in ["csv", "table"] {
        let mut child = waterclock(&["query", "--url", &server.url, "--format", format, "big"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(first.starts_with("time"), "{first}");
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""), "{format}");
    }
}

#[test]
fn rollups_have_their_own_words() {
    let (_folder, server) = with_points();
    let rollup = |args: &[&str]| run(&[&["rollup"], args, &["--url", &server.url]].concat());
    let (code, out, _) = rollup(&["create", "cpu_1m as cpu | every 1m avg(usage) by host"]);
    assert_eq!((code, out.starts_with("created cpu_1m")), (Some(0), true));
    assert!(rollup(&["list"]).1.contains("cpu_1m"));
    assert!(rollup(&["show", "cpu_1m"]).1.contains("definition"));
    assert!(rollup(&["refresh", "cpu_1m"]).1.ends_with("buckets computed\n"));
    assert_eq!(rollup(&["pause", "cpu_1m"]).1, "paused cpu_1m\n");
    assert!(rollup(&["show", "cpu_1m"]).1.contains("paused"));
    assert_eq!(rollup(&["resume", "cpu_1m"]).1, "resumed cpu_1m\n");
    assert!(rollup(&["alter", "cpu_1m add max(usage)"]).1.starts_with("altered"));
    let progress = server.get("/api/rollups/cpu_1m/progress").json();
    assert!(progress["total_buckets"].as_u64() >= progress["done_buckets"].as_u64(), "{progress}");
    // Until what is built in the background has taken its place.
    let (code, out, err) = rollup(&["progress", "cpu_1m"]);
    assert!(code == Some(0) && out.ends_with("buckets computed, fresh\n"), "{out}{err}");
    assert!(rollup(&["show", "cpu_1m"]).1.contains("max(usage)"));
    assert_eq!(rollup(&["drop", "cpu_1m"]).1, "dropped cpu_1m\n");
    let (code, _, err) = rollup(&["show", "cpu_1m"]);
    assert_eq!((code, err.as_str()), (Some(1), "waterclock: there is no rollup cpu_1m; there are none\n"));
}

#[test]
fn flush_and_compact_say_what_they_did() {
    let (_folder, server) = with_points();
    assert_eq!(printed(&["flush", "--url", &server.url]), "blocks: 1\n");
    printed(&["compact", "--url", &server.url]);
}

#[test]
fn config_names_every_setting_and_its_origin() {
    let output = waterclock(&["config"])
        .env("WATERCLOCK_LISTEN", "127.0.0.1:1234")
        // A flag of `query`, no setting.
        .env("WATERCLOCK_URL", "http://127.0.0.1:1")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |name: &str| {
        let line =
            text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in\n{text}"));
        line.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("listen"), "listen 127.0.0.1:1234 environment");
    assert_eq!(line("data_dir"), "data_dir waterclock-data default");

    let (code, _, err) = run(&["config", "--config", "/nowhere/w.toml"]);
    assert_eq!(code, Some(1));
    assert!(err.starts_with("waterclock: cannot read the settings in /nowhere/w.toml: "), "{err}");
}

#[test]
fn the_demo_collects_answers_and_stops() {
    let folder = folder();
    let mut child = waterclock(&["demo", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.expect("text"));
    let server =
        lines.find(|line| line.trim_start().starts_with("server")).expect("it says where it listens");
    let url = server.split_whitespace().nth(1).unwrap().to_string();
    let pasted: Vec<String> = lines
        .by_ref()
        .skip_while(|line| !line.contains(" query "))
        .take_while(|line| line.contains(" query "))
        .collect();
    // A line of values: the collector writes, the rollups are there.
    let values = lines.find(|line| line.contains("avg_usage=")).expect("values");
    assert!(values.contains("cpu=total"), "{values}");

    // The printed commands, as a shell would run them.
    assert_eq!(pasted.len(), 3, "{pasted:?}");
    for command in &pasted {
        let output = Command::new("sh").args(["-c", command]).output().expect("sh");
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {err}");
        assert!(output.stdout.iter().filter(|byte| **byte == b'\n').count() > 2, "{command}");
    }
    let summary = run(&["query", "--url", &url, "--stats", "show tables"]).1;
    for table in ["cpu", "mem", "system"] {
        assert!(summary.contains(table), "{table} in\n{summary}");
    }

    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the demo runs");
    let last = lines.last().expect("a last word");
    assert!(last.starts_with("stopped; the data stay in "), "{last}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
