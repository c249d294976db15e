//! Peers' servers under the load of `prometheus`: what a sample of remote write costs them.
//!
//! Run by its name only, after `benches/peers.sh` has fetched them. Each runs with its defaults, but for where it listens and
//! keeps its data, and for letting it take samples that are months old.

use std::path::Path;
use std::process::Command;

use super::prometheus::{Kind, Load, Version, write};
use super::server::{Server, wait_a_little};
use super::support::{Report, Size};

const TARGETS: usize = 4_000;
const TICKS: usize = 1_080;

/// Prometheus takes minutes for all of them.
const TICKS_OF_PROMETHEUS: usize = 108;

const VICTORIA: &str = "target/peers/usr/bin/victoria-metrics";
const PROMETHEUS: &str = "target/prometheus/usr/bin/prometheus";

pub fn run(_: Size) -> Vec<Report> {
    let kinds: [(&str, &[Kind]); 2] = [("", &Kind::ALL), (", percents", &[Kind::Percent])];
    kinds.into_iter().flat_map(|(of, kinds)| [victoria(of, kinds), prometheus(of, kinds)]).collect()
}

fn victoria(of: &str, kinds: &[Kind]) -> Report {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start_as("/health", |address| {
        let mut command = program(VICTORIA);
        command.arg(format!("-httpListenAddr={address}")).arg("-retentionPeriod=100y");
        command.arg(format!("-storageDataPath={}", folder.path().display()));
        command
    });
    let (written, _) = write(&server, Version::V1, Load::new(TARGETS, TICKS, kinds));
    server.get("/internal/force_flush");
    server.get("/internal/force_merge");
    let mut bytes = (folder_bytes(folder.path()), 0);
    // The merge runs on its own; done is when nothing changes.
    let mut same = 0;
    while same < SAME_LOOKS {
        wait_a_little();
        bytes = (folder_bytes(folder.path()), bytes.0);
        same = if bytes.0 == bytes.1 { same + 1 } else { 0 };
    }
    Report { name: format!("peers/VictoriaMetrics{of}"), bytes: bytes.0, ..written }
}

fn prometheus(of: &str, kinds: &[Kind]) -> Report {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start_as("/-/ready", |address| {
        let mut command = program(PROMETHEUS);
        command.args(["--web.enable-remote-write-receiver", "--config.file=/dev/null"]);
        command.args(["--storage.tsdb.retention.time=100y", &format!("--web.listen-address={address}")]);
        command.arg(format!("--storage.tsdb.path={}", folder.path().display()));
        command
    });
    let (written, _) = write(&server, Version::V1, Load::new(TARGETS, TICKS_OF_PROMETHEUS, kinds));
    Report { name: format!("peers/Prometheus, a tenth{of}"), ..written }
}

/// Looks of some milliseconds each: two seconds.
const SAME_LOOKS: usize = 1_000;

fn program(path: &str) -> Command {
    assert!(Path::new(path).exists(), "{path} is not there; run benches/peers.sh");
    Command::new(path)
}

/// Lengths of all files in it; those that go away meanwhile count nothing.
fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(known) if known.is_dir() => folder_bytes(&entry.path()),
        Ok(known) => known.len(),
        Err(_) => 0,
    });
    bytes.sum()
}
