//! Every query of every dashboard in grafana/ runs against a server with the demo's tables, a node exporter's metrics and its own, and
//! gives rows; the plugin's backend speaks Grafana's protocol; the built plugin works in a browser, through that backend.

use std::path::Path;

use serde_json::Value as Json;

use crate::clients::python;
use crate::support::server::{Server, folder};

/// A sample of what `waterclock demo` writes (src/cli/demo/vitals.rs), and of its rollups.
const SAMPLE: &str = "\
cpu,host=h,cpu=cpu0 usage=12.5,freq_mhz=2400i
cpu,host=h,cpu=total usage=12.5,freq_mhz=2400i
load,host=h one=0.5,five=0.4,fifteen=0.3
mem,host=h used_bytes=1i,available_bytes=2i,used_percent=33.3,swap_used_bytes=0i
disk,host=h,mount=/,device=vda used_percent=50,free_bytes=1i,read_bytes=1i,written_bytes=1i
net,host=h,interface=eth0 received_bytes=1i,sent_bytes=1i
system,host=h uptime=1i,processes=1i
";
const ROLLUPS: [&str; 2] = [
    "create rollup cpu_10s as cpu | every 10s avg(usage), min(usage), max(usage) by host, cpu",
    "create rollup mem_10s as mem | every 10s avg(used_percent), max(used_percent), min(available_bytes) by host",
];

/// A sample of what Prometheus' node exporter exposes.
const NODE: &str = r#"
node_boot_time_seconds 1767225000
node_context_switches_total 9
node_cpu_seconds_total{cpu="0",mode="idle"} 9
node_cpu_seconds_total{cpu="0",mode="user"} 9
node_disk_io_time_seconds_total{device="vda"} 9
node_disk_read_bytes_total{device="vda"} 9
node_disk_written_bytes_total{device="vda"} 9
node_filefd_allocated 9
node_filesystem_avail_bytes{device="/dev/vda1",fstype="ext4",mountpoint="/"} 9
node_filesystem_size_bytes{device="/dev/vda1",fstype="ext4",mountpoint="/"} 9
node_load1 9
node_load15 9
node_load5 9
node_memory_Buffers_bytes 9
node_memory_Cached_bytes 9
node_memory_MemAvailable_bytes 9
node_memory_MemTotal_bytes 9
node_memory_SwapFree_bytes 9
node_memory_SwapTotal_bytes 9
node_network_receive_bytes_total{device="eth0"} 9
node_network_receive_drop_total{device="eth0"} 9
node_network_receive_errs_total{device="eth0"} 9
node_network_transmit_bytes_total{device="eth0"} 9
node_network_transmit_drop_total{device="eth0"} 9
node_network_transmit_errs_total{device="eth0"} 9
"#;
/// When that was scraped: two times, in seconds, for the rates between them.
const SCRAPED: [u64; 2] = [1_767_225_600, 1_767_225_660];

/// Prometheus' text format as line protocol: `a_b{c="d"} 1` becomes the field `b` of the table `a`, which PromQL calls `a_b` again.
fn as_lines(exposed: &str, seconds: u64) -> String {
    let samples = exposed.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let as_line = |sample: &str| {
        let (series, value) = sample.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let (table, field) = name.split_once('_').unwrap();
        let tags = labels.trim_end_matches('}').replace('"', "");
        let comma = if tags.is_empty() { "" } else { "," };
        format!("{table},job=j,instance=i{comma}{tags} {field}={value} {seconds}\n")
    };
    samples.map(as_line).collect()
}

/// How many rows or series a panel's query gives: WQL for the plugin, PromQL for the stock Prometheus data source.
fn answered(server: &Server, target: &Json) -> Result<usize, String> {
    let (reply, rows) = match target["datasource"]["type"].as_str() {
        Some("waterclock-waterclock-datasource") => {
            let query = target["query"].as_str().unwrap().replace("$__interval", "10s");
            (server.post("/api/wql?from=-15m&to=now", query.as_bytes()), "/rows")
        }
        Some("prometheus") => {
            let written = target["expr"].as_str().unwrap().replace("$__rate_interval", "5m");
            let query = written.replace("$instance", ".*").replace("$job", ".*");
            let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
            let [start, end] = SCRAPED;
            let path = format!("/api/v1/query_range?start={start}&end={end}&step=15&query={query}");
            (server.get(&path), "/data/result")
        }
        other => return Err(format!("a data source of type {other:?}")),
    };
    if reply.status != 200 {
        return Err(reply.text());
    }
    Ok(reply.json().pointer(rows).unwrap().as_array().unwrap().len())
}

#[test]
fn every_query_of_every_dashboard_gives_rows() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    assert_eq!(server.post("/write?db=default", SAMPLE.as_bytes()).status, 204);
    for rollup in ROLLUPS {
        server.rows(rollup);
    }
    for rollup in ["cpu_10s", "mem_10s"] {
        assert_eq!(server.post(&format!("/api/rollups/{rollup}/refresh"), b"").status, 200);
    }
    let itself = server.get("/metrics").text();
    for seconds in SCRAPED {
        for exposed in [itself.as_str(), NODE] {
            let reply = server.post("/write?db=default&precision=s", as_lines(exposed, seconds).as_bytes());
            assert_eq!(reply.status, 204, "{}", reply.text());
        }
    }
    let dashboards = Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana/dashboards");
    let mut asked = 0;
    for file in dashboards.read_dir().unwrap() {
        let path = file.unwrap().path();
        let dashboard: Json = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            // A heading has no queries.
            for target in panel["targets"].as_array().into_iter().flatten() {
                let rows = answered(&server, target);
                assert!(
                    matches!(rows, Ok(1..)),
                    "{}: {}: {target}: {rows:?}",
                    path.display(),
                    panel["title"]
                );
                asked += 1;
            }
        }
    }
    assert!(asked >= 70, "only {asked} queries: where have the panels gone?");
}

/// A query may say what to show where there is nothing, so that a name that is gone would not be noticed by asking.
#[test]
fn every_metric_of_waterclock_itself_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dashboard = std::fs::read_to_string(root.join("grafana/dashboards/waterclock-itself.json")).unwrap();
    let metrics = std::fs::read_to_string(root.join("src/metrics.rs")).unwrap();
    let mut found = 0;
    for rest in dashboard.split("waterclock_").skip(1) {
        let name = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
        let name = format!("\"waterclock_{}\"", name.trim_end_matches("_bucket"));
        assert!(metrics.contains(&name), "{name} is no metric of src/metrics.rs");
        found += 1;
    }
    assert!(found >= 40, "only {found} names were found");
}

/// The plugin's part beside Grafana's server, which `cargo test --workspace` builds beside the server of the tests.
fn backend() -> String {
    let executable = Path::new(env!("CARGO_BIN_EXE_waterclock")).with_file_name("gpx_waterclock");
    assert!(executable.exists(), "{} is missing: test the whole workspace", executable.display());
    executable.to_str().unwrap().to_string()
}

#[test]
fn the_backend_speaks_grafanas_protocol() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    assert!(python("grafana/protocol.py", &[&server.url, &backend()]).ends_with("ok\n"));
}

#[test]
fn the_built_plugin_works_in_a_browser() {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana/plugin");
    for file in ["dist/module.js", "standin/dist/standin.js"] {
        assert!(built.join(file).exists(), "grafana/plugin/{file} is missing: `make frontend` builds it");
    }
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    assert!(python("grafana/browser.py", &[&server.url, &backend()]).ends_with("ok\n"));
}
