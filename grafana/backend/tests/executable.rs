//! The executable is started by Grafana, and says so to anybody else.

use std::process::Command;

#[test]
fn who_starts_it_by_hand_is_told_what_it_is() {
    let output = Command::new(env!("CARGO_BIN_EXE_gpx_waterclock")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("a plugin that Grafana starts by itself"), "{said}");
}
