//! Every query of every dashboard in grafana/ runs against a server with the demo's tables and gives rows; the built plugin works in a
//! browser.

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

#[test]
fn every_query_of_every_dashboard_gives_rows() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    assert_eq!(server.post("/write?db=default", SAMPLE.as_bytes()).status, 204);
    for rollup in ROLLUPS {
        server.rows(rollup);
    }
    let dashboards = Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana/dashboards");
    let mut asked = 0;
    for file in dashboards.read_dir().unwrap() {
        let path = file.unwrap().path();
        let dashboard: Json = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let query = target["query"].as_str().unwrap().replace("$__interval", "10s");
                let reply = server.post("/api/wql?from=-15m&to=now", query.as_bytes());
                let title = &panel["title"];
                assert_eq!(reply.status, 200, "{}: {title}: {query}: {}", path.display(), reply.text());
                let rows = reply.json()["rows"].as_array().unwrap().len();
                assert!(rows > 0, "{}: {title}: {query} gives no rows", path.display());
                asked += 1;
            }
        }
    }
    assert!(asked >= 7, "only {asked} queries: where have the panels gone?");
}

#[test]
fn the_built_plugin_works_in_a_browser() {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana/plugin");
    for file in ["dist/module.js", "standin/dist/standin.js"] {
        assert!(built.join(file).exists(), "grafana/plugin/{file} is missing: `make plugin` builds it");
    }
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    assert!(python("grafana.py", &[&server.url]).ends_with("ok\n"));
}
