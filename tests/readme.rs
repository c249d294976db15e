//! The pages' tours are true: the `console` blocks of each run in one shell, and each command prints what stands below it.
//! Then every statement in a column `WQL` of a table is asked of the server that the tour has left, and must be answered.
//!
//! The port of a page is replaced by a free one; nothing else.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::server::folder;

/// Stands between the commands in the shell's output.
const MARK: &str = "=== next command ===";

#[test]
fn the_tour_prints_what_the_page_says() {
    check("README.md");
}

#[test]
fn the_page_on_backups_prints_what_it_says() {
    check("docs/backup.md");
}

#[test]
fn the_page_on_operations_prints_what_it_says() {
    check("docs/operations.md");
}

#[test]
fn the_page_on_the_doors_prints_what_it_says() {
    check("docs/http-api.md");
}

#[test]
fn the_page_on_prometheus_prints_what_it_says() {
    check("docs/prometheus.md");
}

#[test]
fn the_page_that_teaches_the_language_prints_what_it_says() {
    check("docs/query-language.md");
}

#[test]
fn the_page_that_teaches_the_language_translates_ten_statements_of_each_of_four() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/query-language.md"))
        .unwrap();
    assert_eq!(statements(&page).len(), 40);
}

fn check(page: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join(page)).unwrap();
    let port = free_port().to_string();
    let mut steps = steps(&page.replace("8086", &port));
    assert!(steps.len() > 5, "the tour has {} commands", steps.len());
    // The rows depend on now; what is refused says so on the other stream.
    steps.extend(
        statements(&page).iter().map(|s| (format!("waterclock query '{s}' > /dev/null"), String::new())),
    );

    let binaries = Path::new(env!("CARGO_BIN_EXE_waterclock")).parent().unwrap();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    let place = folder();
    let mut script = String::from("set -m\n");
    for (command, _) in &steps {
        script += &format!("{command}\necho '{MARK}'\n");
    }
    // Also when an answer above was not the expected one: a server left over would keep the pipe open for ever.
    script += "kill -9 $(jobs -p)\n";
    let mut shell = Command::new("bash")
        .current_dir(place.path())
        .env("PATH", path)
        .env("WATERCLOCK_LISTEN", format!("127.0.0.1:{port}"))
        .env("WATERCLOCK_URL", format!("http://127.0.0.1:{port}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Both streams in one, as on a terminal.
    shell.stdin.take().unwrap().write_all(format!("exec 2>&1\n{script}").as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let printed: Vec<&str> = text.split(&format!("{MARK}\n")).collect();
    for ((command, expected), printed) in steps.iter().zip(&printed) {
        // What the shell itself says of background jobs is not the program's.
        let of_program = |line: &&str| !line.starts_with('[') && !line.starts_with("bash: line");
        let printed: Vec<&str> = printed.lines().filter(of_program).collect();
        assert_eq!(printed.join("\n").trim_end(), expected.trim_end(), "{command}\nwhole output:\n{text}");
    }
    assert_eq!(printed.len(), steps.len() + 1, "every command ran:\n{text}");
}

/// Commands with what is printed below them.
fn steps(page: &str) -> Vec<(String, String)> {
    let mut steps: Vec<(String, String)> = Vec::new();
    for block in page.split("```console\n").skip(1) {
        for line in block.split("```").next().unwrap().lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                steps.push((command.to_string(), String::new()));
                continue;
            }
            let (command, printed) = steps.last_mut().expect("a block begins with a command");
            match line.strip_prefix("> ") {
                Some(more) => *command += &format!("\n{more}"),
                None => *printed += &format!("{line}\n"),
            }
        }
    }
    steps
}

/// The last cells of the tables whose last column is called WQL.
fn statements(page: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut in_table = false;
    for line in page.lines() {
        let heads = line.ends_with("| WQL |");
        if in_table && line.starts_with("| ") {
            let cell = line.strip_suffix("` |").and_then(|line| line.rsplit_once(" | `"));
            let (_, statement) = cell.unwrap_or_else(|| panic!("no statement at the end of {line}"));
            assert!(!statement.contains('\''), "the shell's quotes: {statement}");
            statements.push(statement.replace("\\|", "|"));
        }
        in_table = heads || in_table && line.starts_with('|');
    }
    statements
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
