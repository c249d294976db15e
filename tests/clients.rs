//! Real clients and readers, unchanged, against the real binary: what a user of them would do.
//!
//! They live in `target/venv`, which `make test` installs (tests/clients/install.sh). Without them the tests fail, because a
//! test that is passed over reads as passed.

use std::path::Path;
use std::process::Command;

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
