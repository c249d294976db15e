//! Export and import by the real binary: what goes out comes back as the same points, in each format, whatever is cut off
//! in between.

mod metrics; // what line protocol cannot say

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value as Json;

use crate::clients::python;
use crate::support::server::{Server, folder};

pub fn waterclock(server: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waterclock"));
    let Output { status, stdout, stderr } =
        command.args(args).args(["--url", server]).output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

pub fn done(server: &Server, args: &[&str]) -> String {
    let (code, out, err) = waterclock(&server.url, args);
    assert_eq!(code, Some(0), "{args:?}: {out}{err}");
    err
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn put(path: &Path, bytes: &[u8]) {
    std::fs::File::create_new(path).and_then(|mut file| file.write_all(bytes)).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "what a person with a shell does")]
fn rename(from: &Path, to: &Path) {
    std::fs::rename(from, to).unwrap();
}

fn contents(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn rows(server: &Server, db: &str, query: &str) -> Json {
    let reply = server.post(&format!("/api/wql?db={db}&time=ns"), query.as_bytes());
    assert_eq!(reply.status, 200, "{query}: {}", reply.text());
    let answer = reply.json();
    serde_json::json!([answer["columns"], answer["rows"]])
}

fn write(server: &Server, db: &str, lines: &str) {
    let reply = server.post(&format!("/write?db={db}"), lines.as_bytes());
    assert_eq!(reply.status, 204, "{}", reply.text());
}

/// Everything that is hard to carry: all types at their ends, nulls, escapes, names alike, times before 1970.
const HARD: &str = r#"cpu,host=a,region=eu f=0.1,i=-9223372036854775808i,u=18446744073709551615u,b=t,s="q\"uo\\te, = # é" 1767225600000000001
cpu,host=a,region=eu f=-0,s="" 1767225600000000002
cpu,host=b i=7i -1
cpu,host=b f=1.7976931348623157e308,b=f 1767225600000000003
cpu,region=us f=5e-324,s="two
lines
" 1767312000000000000
my\ table,the\ host=a\,b\=c\ d,host=x the\ field=1,host=2i,Host=3i 1767225600000000000
one v=1i 1767225600000000000
"#;

#[test]
fn each_format_carries_every_point() {
    let folder = folder();
    let server = Server::start(&folder.path().join("data"), &[]);
    write(&server, "from", HARD);
    // Overwritten and deleted: only what counts goes out.
    write(&server, "from", "cpu,host=gone f=1 1767225600000000009\ncpu,host=b i=8i -1\n");
    assert_eq!(server.post("/api/flush", b"").status, 200);
    let delete = "delete from cpu{host=\"gone\"} between 2026-01-01 and 2026-01-02";
    assert_eq!(server.post("/api/wql?db=from", delete.as_bytes()).status, 200);
    let tables = ["cpu", "`my table`", "one"];
    for format in ["parquet", "csv", "lp"] {
        let out = folder.path().join(format);
        let said = done(&server, &["export", "--db", "from", "--format", format, "--out", text(&out)]);
        assert!(said.contains("exported 7 rows of 3 tables"), "{said}");
        let db = format!("to_{format}");
        done(&server, &["import", "--db", &db, text(&out)]);
        for table in tables {
            let query = format!("{table} | limit 100");
            assert_eq!(rows(&server, &db, &query), rows(&server, "from", &query), "{format}: {table}");
        }
        // Again: nothing changes.
        done(&server, &["import", "--db", &db, text(&out)]);
        assert_eq!(rows(&server, &db, "cpu"), rows(&server, "from", "cpu"), "{format}");
    }
    // The database's own blocks are Parquet with all that is needed, too.
    assert_eq!(server.post("/api/flush", b"").status, 200);
    let block = std::fs::read_dir(folder.path().join("data/blocks/from/one"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    done(&server, &["import", "--db", "from_block", text(&block)]);
    assert_eq!(rows(&server, "from_block", "one"), rows(&server, "from", "one"));
}

#[test]
fn ranges_conditions_and_standard_output() {
    let folder = folder();
    let server = Server::start(&folder.path().join("data"), &[]);
    let lines: String = (0..10)
        .map(|n| format!("cpu,host=h{} n={n}i {}000000000\n", n % 2, 1_767_225_600 + n * 60))
        .collect();
    write(&server, "default", &lines);
    let stdout = |args: &[&str]| {
        let (code, out, err) = waterclock(&server.url, &[&["export", "--out", "-"], args].concat());
        assert_eq!(code, Some(0), "{err}");
        out
    };
    let range = ["--from", "2026-01-01T00:02:00Z", "--to", "2026-01-01T00:06:00Z", "--where", "host=\"h1\""];
    assert_eq!(
        stdout(&[&["--format", "lp"], &range[..]].concat()),
        "cpu,host=h1 n=3i 1767225780000000000\ncpu,host=h1 n=5i 1767225900000000000\n"
    );
    assert_eq!(
        stdout(&[&["--format", "csv", "--table", "cpu"], &range[..]].concat()),
        "#constant measurement,cpu\n#datatype dateTime:RFC3339Nano,tag,long\ntime,host,n\n\
         2026-01-01T00:03:00Z,h1,3\n2026-01-01T00:05:00Z,h1,5\n"
    );
    let (code, _, err) = waterclock(&server.url, &["export", "--out", "-"]);
    assert!(code == Some(1) && err.contains("Parquet does not go to standard output"), "{err}");
    let (code, _, err) = waterclock(&server.url, &["export", "--out", text(folder.path())]);
    assert!(code == Some(1) && err.contains("is not empty"), "{err}");
    let (code, _, err) =
        waterclock(&server.url, &["export", "--out", "-", "--format", "lp", "--table", "no"]);
    assert!(code == Some(1) && err.contains("no"), "{err}");
}

/// More points than one piece holds; a file that is missing is all that is done again.
#[test]
fn an_export_goes_on_where_it_was() {
    let folder = folder();
    let server = Server::start(&folder.path().join("data"), &[]);
    for part in 0..3 {
        // A crowded hour, and some other days.
        let lines: String = (part * 120_000..(part + 1) * 120_000)
            .map(|n| {
                format!("big,host=h{} n={n}i {}\n", n % 10, 1_767_225_600_000_000_000u64 + n * 10_000_000)
            })
            .collect();
        write(&server, "default", &lines);
    }
    write(&server, "default", "big,host=x n=1i 1700000000000000000\nbig,host=x n=2i 1790000000000000000\n");
    let out = folder.path().join("out");
    let export = ["export", "--format", "lp", "--out", text(&out)];
    let said = done(&server, &export);
    assert!(said.contains("exported 360,002 rows"), "{said}");
    let files = || {
        let mut files: Vec<_> =
            std::fs::read_dir(out.join("big")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    };
    let all = files();
    assert!(all.len() >= 3, "{all:?}");
    let lost = contents(&all[1]);
    rename(&all[1], &folder.path().join("elsewhere"));
    rename(&all[2], &all[2].with_extension("lp.part"));
    assert!(waterclock(&server.url, &export).2.contains("--resume"));
    let said = done(&server, &[&export[..], &["--resume"]].concat());
    assert!(said.contains("to 2 files") && said.contains("done before"), "{said}");
    assert_eq!(files(), all);
    assert_eq!(contents(&all[1]), lost);
    let (code, _, err) =
        waterclock(&server.url, &[&export[..], &["--resume", "--where", "host=\"x\""]].concat());
    assert!(code == Some(1) && err.contains("state of another export"), "{err}");

    let said = done(&server, &["import", "--db", "copy", text(&out)]);
    assert!(said.contains("imported: 360,002 lines"), "{said}");
    let sums = "big | every 1d count, sum(n) by host";
    assert_eq!(rows(&server, "copy", sums), rows(&server, "default", sums));
}

#[test]
fn an_import_remembers_how_far_it_is() {
    let folder = folder();
    let server = Server::start(&folder.path().join("data"), &[]);
    let (file, state) = (folder.path().join("points.lp"), folder.path().join("state.json"));
    let lines: String = (0..50_000).map(|n| format!("cpu,host=h{} n={n}i {n}\n", n % 7)).collect();
    put(&file, lines.as_bytes());
    let import = |db: &str| done(&server, &["import", "--db", db, "--resume", text(&state), text(&file)]);
    assert!(import("one").contains("imported: 50,000 lines"));
    assert!(import("one").contains("1 file imported before"));
    // As it was after some batches.
    let mut edited: Json = serde_json::from_str(&contents(&state)).unwrap();
    let progressed = &mut edited["files"][text(&file)];
    let position = lines.lines().take(40_000).map(|line| line.len() + 1).sum::<usize>();
    (progressed["done"], progressed["position"]) = (Json::Bool(false), position.into());
    rename(&state, &folder.path().join("old"));
    put(&state, edited.to_string().as_bytes());
    assert!(import("two").contains("imported: 10,000 lines"));
    assert_eq!(
        rows(&server, "two", "cpu | min(n), max(n), count by ()")[1],
        serde_json::json!([[40_000, 49_999, 10_000]])
    );
    // Another file of that name is another file.
    rename(&file, &folder.path().join("was.lp"));
    put(&file, b"cpu n=1i 1\n");
    assert!(import("three").contains("imported: 1 line of 1 file"));
}

#[test]
fn refused_lines_are_counted_and_named_by_their_place() {
    let folder = folder();
    let server = Server::start(&folder.path().join("data"), &[]);
    let file = folder.path().join("points.lp");
    let mut lines = String::from("# a comment\n");
    for n in 0..30_000 {
        lines += &match n {
            12_345 => "cpu broken\n".to_string(),
            20_000..20_300 => "cpu n=\"text\" 1\n".to_string(),
            n => format!("cpu,host=a n={n}i {n}\n"),
        };
    }
    put(&file, lines.as_bytes());
    let (code, _, err) = waterclock(&server.url, &["import", "--dry-run", text(&file)]);
    assert!(code == Some(1) && err.contains("points.lp:12347: ") && err.contains("1 line refused"), "{err}");
    assert_eq!(server.post("/api/wql", b"cpu").status, 404, "a dry run sends nothing");
    let (code, _, err) = waterclock(&server.url, &["import", "--errors", "2", text(&file)]);
    assert!(
        code == Some(1) && err.contains("points.lp:12347: ") && err.contains("points.lp:20002: "),
        "{err}"
    );
    assert!(!err.contains("points.lp:20003: ") && err.contains("and 299 more"), "{err}");
    assert!(err.contains("imported: 29,699 lines") && err.contains("301 lines refused"), "{err}");
    assert_eq!(rows(&server, "default", "cpu | count by ()")[1][0][0], 29_699);
}

#[test]
fn packed_files_and_csv_of_others() {
    let folder = folder();
    let server = Server::start(&folder.path().join("data"), &[]);
    let path = |name: &str| folder.path().join(name);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"cpu,host=a n=1i 1\n").unwrap();
    put(&path("a.lp.gz"), &packed.finish().unwrap());
    put(&path("b.lp.zst"), &zstd::encode_all(&b"cpu,host=b n=2i 1"[..], 1).unwrap());
    done(&server, &["import", text(&path("a.lp.gz")), text(&path("b.lp.zst"))]);
    assert_eq!(rows(&server, "default", "cpu | limit 9")[1], serde_json::json!([[1, "a", 1], [1, "b", 2]]));

    // A plain table: texts are tags, numbers what all of them are, nothing is nothing.
    put(
        &path("trips.csv"),
        b"when,vendor,distance,passengers,paid,empty\r\n\
          2026-01-01T00:00:00Z,\"A, B\",1.5,2,true,\r\n1767225601,C,2,,false,\r\n",
    );
    let (code, _, err) = waterclock(&server.url, &["import", text(&path("trips.csv"))]);
    assert!(code == Some(1) && err.contains("--time-column") && err.contains("when, vendor"), "{err}");
    let flags = ["import", "--time-column", "when", "--precision", "s"];
    done(&server, &[&flags[..], &[text(&path("trips.csv"))]].concat());
    assert_eq!(
        rows(&server, "default", "trips | limit 9"),
        serde_json::json!([
            [
                {"name": "time", "role": "time", "type": "time"},
                {"name": "vendor", "role": "tag", "type": "string"},
                {"name": "distance", "role": "value", "type": "float"},
                {"name": "paid", "role": "value", "type": "boolean"},
                {"name": "passengers", "role": "value", "type": "integer"},
            ],
            [
                [1_767_225_600_000_000_000i64, "A, B", 1.5, true, 2],
                [1_767_225_601_000_000_000i64, "C", 2.0, false, null],
            ],
        ])
    );
    done(
        &server,
        &[&flags[..], &["--table", "told", "--tags", "vendor,passengers", text(&path("trips.csv"))]].concat(),
    );
    assert_eq!(rows(&server, "default", "told | limit 1")[0][1]["name"], "passengers");

    // What InfluxDB answers with `Accept: application/csv`.
    put(
        &path("influx.csv"),
        b"#group,false,false,true,true,false,false,true,true,true\n\
          #datatype,string,long,dateTime:RFC3339,dateTime:RFC3339,dateTime:RFC3339,double,string,string,string\n\
          #default,_result,,,,,,,,\n\
          ,result,table,_start,_stop,_time,_value,_field,_measurement,host\n\
          ,,0,2026-01-01T00:00:00Z,2026-01-02T00:00:00Z,2026-01-01T00:00:01Z,4,load,system,a\n\n\
          #group,false,false,true,true,false,false,true,true,true\n\
          #datatype,string,long,dateTime:RFC3339,dateTime:RFC3339,dateTime:RFC3339,long,string,string,string\n\
          #default,_result,,,,,,,,\n\
          ,result,table,_start,_stop,_time,_value,_field,_measurement,host\n\
          ,,1,2026-01-01T00:00:00Z,2026-01-02T00:00:00Z,2026-01-01T00:00:01Z,7,users,system,a\n",
    );
    done(&server, &["import", text(&path("influx.csv"))]);
    assert_eq!(
        rows(&server, "default", "system | limit 9")[1],
        serde_json::json!([[1_767_225_601_000_000_000i64, "a", 4.0, 7]])
    );
}

/// A server that is busy and then gone for a moment is waited for.
#[test]
fn a_busy_server_is_asked_again() {
    let folder = folder();
    let file = folder.path().join("points.lp");
    put(&file, b"cpu n=1i 1\n");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let answers = [
            "HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 16\r\nconnection: close\r\n\r\n{\"error\":\"busy\"}",
            "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            "",
            "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n",
        ];
        let mut bodies = 0;
        for answer in answers {
            let (mut connection, _) = listener.accept().unwrap();
            let mut seen = Vec::new();
            let mut piece = [0; 4096];
            while !seen.ends_with(b"cpu n=1i 1\n") {
                let read = connection.read(&mut piece).unwrap();
                assert!(read > 0);
                seen.extend_from_slice(&piece[..read]);
            }
            bodies += 1;
            connection.write_all(answer.as_bytes()).unwrap();
        }
        bodies
    });
    let (code, _, err) = waterclock(&url, &["import", text(&file)]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(server.join().unwrap(), 4);
}

/// DuckDB, pyarrow and Polars read what we export, and what they write is imported.
#[test]
fn other_tools_read_exports_and_their_files_are_imported() {
    let folder = folder();
    let server = Server::start(&folder.path().join("data"), &[]);
    let lines: String = (0..500)
        .map(|n| {
            let time = 1_767_225_600_000_000_000u64 + n * 1_000_000_000;
            format!(
                "cpu,host=h{} usage={}.25,n={n}i,u={n}u,up={},note=\"p, {n}\" {time}\n",
                n % 3,
                n % 7,
                n % 2 == 0
            )
        })
        .collect();
    write(&server, "default", &lines);
    let [out, foreign] = ["out", "foreign"].map(|name| folder.path().join(name));
    done(&server, &["export", "--out", text(&out)]);
    std::fs::create_dir(&foreign).unwrap();
    assert!(python("transfer.py", &[text(&out), text(&foreign)]).ends_with("ok\n"));
    for tool in ["pyarrow", "pyarrow_snappy_seconds", "duckdb", "polars"] {
        let file = foreign.join(format!("{tool}.parquet"));
        // Only pyarrow keeps the footer and the dictionary; the others say tags as texts.
        let flags = ["import", "--db", tool, "--table", "cpu", "--tags", "host", text(&file)];
        done(&server, &flags);
        assert_eq!(
            rows(&server, tool, "cpu | limit 1000"),
            rows(&server, "default", "cpu | limit 1000"),
            "{tool}"
        );
    }
}
