//! Lines for Grafana's log: go-plugin reads JSON of this shape from a plugin's standard error.

use std::io::Write;

pub fn error(message: &str) {
    let line = serde_json::json!({ "@level": "error", "@message": message, "@module": "waterclock" });
    // Who does not listen misses a line of a log.
    writeln!(std::io::stderr(), "{line}").ok();
}
