//! `docs/proof.md`: what is tested of rollups, where, and what came out.
//!
//! Invariant: the page names each of the scenarios, with what scripts and tests say of it; a scenario that neither
//! names, or a page that says something else, fails. The counts are those of the run that wrote the page: `make proof`, which
//! runs this test with `PROOF=1`; `SEEDS=n` makes it longer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::support::counts::Counts;
use crate::{crash, interleavings, random, scripts};

/// How many scenarios there are of each letter: 74.
const SCENARIOS: [(char, usize); 7] =
    [('A', 9), ('B', 14), ('C', 7), ('D', 9), ('E', 17), ('F', 9), ('G', 9)];

const PAGE: &str = "docs/proof.md";
const SCENARIO_MARKS: (&str, &str) = ("<!-- scenarios -->\n", "<!-- end of scenarios -->\n");
const COUNT_MARKS: (&str, &str) = ("<!-- counts -->\n", "<!-- end of counts -->\n");

/// A letter's scenarios are about this.
const SUBJECTS: [&str; 7] = [
    "Refresh windows and how far they reach",
    "Late points, updates, deletes",
    "Reads half from states, half from points",
    "Rollups on rollups",
    "Origins, offsets, zones, changes of clocks",
    "Scopes, retention, aggregates added later",
    "At the same time, and crashes",
];

#[test]
fn the_page_says_what_is_tested() {
    let path = root().join(PAGE);
    let page = std::fs::read_to_string(&path).unwrap();
    let scenarios = scenario_tables();
    if std::env::var_os("PROOF").is_some() {
        let page = with(&page, SCENARIO_MARKS, &scenarios);
        put(&path, &with(&page, COUNT_MARKS, &counted()));
        return;
    }
    assert_eq!(between(&page, SCENARIO_MARKS), scenarios, "`make proof` writes {PAGE} anew");
    let counts = between(&page, COUNT_MARKS);
    let numbers = counts.lines().filter(|line| line.starts_with("| ") && line.ends_with(" |"));
    assert!(numbers.count() > 30, "{PAGE} has no counts: `make proof` writes them");
}

#[test]
fn scenarios_are_found_in_comments() {
    let found =
        |comment: &str| scenarios_of(comment).map(|(ids, text)| (ids.join(" "), text)).collect::<Vec<_>>();
    let expected =
        vec![("A1 A2".to_string(), "one thing".to_string()), ("B3".to_string(), "another".to_string())];
    assert_eq!(found("A1, A2: one thing. B3: another."), expected);
    assert_eq!(found("Scenarios A1-A9."), []);
    assert_eq!(found("T1: no scenario; at 10:00: neither"), []);
}

/// Runs everything, which panics if anything differs, and says how much it was.
fn counted() -> String {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let run = |what: &dyn Fn(&Counts)| {
        let counts = Counts::default();
        what(&counts);
        counts
    };
    let mut text = String::new();
    let mut table = |title: &str, where_is: &str, counts: &Counts| {
        let _ = writeln!(text, "\n### {title}\n\n`{where_is}`\n\n| what | times |\n|---|---:|");
        for (what, times) in counts.all() {
            let _ = writeln!(text, "| {what} | {} |", with_commas(times));
        }
    };
    let killed = seeds.div_ceil(10);
    table("Scripts", "tests/scripts.rs", &run(&|counts| scripts::run_all(false, counts)));
    let title = format!("One operation after another, {seeds} seeds");
    table(&title, "tests/random.rs", &run(&|counts| random::run(0..seeds, counts)));
    let title = format!("Interleavings with power cuts, {seeds} seeds");
    let cuts = run(&|counts| interleavings::run_cutting_power(0..seeds, 80, counts));
    table(&title, "tests/interleavings.rs", &cuts);
    let plural = if killed == 1 { "" } else { "s" };
    let title = format!("Interleavings over HTTP with kill -9, {killed} seed{plural}");
    let kills = run(&|counts| interleavings::run_killing(0..killed, 120, counts));
    table(&title, "tests/interleavings.rs", &kills);
    let crashes = run(&|counts| crash::run_from(None, counts));
    table("The power goes after every disk operation", "tests/crash.rs", &crashes);
    text + "\n"
}

fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let grouped: Vec<String> =
        digits.as_bytes().rchunks(3).rev().map(|chunk| String::from_utf8_lossy(chunk).into_owned()).collect();
    grouped.join(",")
}

/// Each scenario with what is said of it and where.
fn scenario_tables() -> String {
    let mut said: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for (file, comment) in comments() {
        for (ids, text) in scenarios_of(&comment) {
            for id in ids {
                said.entry(id).or_default().push((text.clone(), file.clone()));
            }
        }
    }
    let mut tables = String::new();
    for ((letter, count), subject) in SCENARIOS.into_iter().zip(SUBJECTS) {
        let _ = writeln!(tables, "\n### {letter}: {subject}\n\n| scenario | what | where |\n|---|---|---|");
        for number in 1..=count {
            let id = format!("{letter}{number}");
            let places =
                said.remove(&id).unwrap_or_else(|| panic!("no script and no test names scenario {id}"));
            let texts: Vec<String> = places.iter().map(|(text, _)| text.replace('|', "\\|")).collect();
            let files: BTreeSet<String> = places.iter().map(|(_, file)| format!("`{file}`")).collect();
            let files: Vec<String> = files.into_iter().collect();
            let _ = writeln!(tables, "| {id} | {} | {} |", texts.join("; "), files.join(", "));
        }
    }
    assert!(said.is_empty(), "there are no such scenarios: {said:?}");
    tables + "\n"
}

/// The comments of the scripts of rollups, and those on tests: whole, without what marks them as comments.
fn comments() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let files = |folder: &str| {
        let mut files: Vec<PathBuf> =
            root().join(folder).read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.is_file());
        files.sort();
        files
    };
    for path in files("tests/scripts").into_iter().chain(files("tests")) {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        let mark = match path.extension().and_then(|extension| extension.to_str()) {
            Some("wqt") if name.starts_with("tests/scripts/rollup_") => "# ",
            Some("rs") if name != "tests/proof.rs" => "/// ",
            _ => continue,
        };
        let text = std::fs::read_to_string(&path).unwrap();
        let mut comment: Vec<&str> = Vec::new();
        for line in text.lines().chain([""]) {
            match line.strip_prefix(mark) {
                Some(line) => comment.push(line),
                None if comment.is_empty() => {}
                None => found.push((name.clone(), std::mem::take(&mut comment).join(" "))),
            }
        }
    }
    found
}

/// `A1, A2: text. B3: text.` as lists of scenarios and their texts.
fn scenarios_of(comment: &str) -> impl Iterator<Item = (Vec<String>, String)> {
    let mut found: Vec<(Vec<String>, Vec<&str>)> = Vec::new();
    let mut ids: Vec<String> = Vec::new();
    for word in comment.split_whitespace() {
        let id = word.trim_end_matches([',', ':']);
        if !is_scenario(id) || id == word {
            if let Some((_, text)) = found.last_mut() {
                text.push(word);
            }
            ids.clear();
            continue;
        }
        ids.push(id.to_string());
        if word.ends_with(':') {
            found.push((std::mem::take(&mut ids), Vec::new()));
        }
    }
    found.into_iter().map(|(ids, words)| (ids, words.join(" ").trim_end_matches(['.', ';']).to_string()))
}

fn is_scenario(word: &str) -> bool {
    let mut chars = word.chars();
    let letter = chars.next().is_some_and(|letter| SCENARIOS.iter().any(|(known, _)| *known == letter));
    letter && chars.as_str().len() < 3 && chars.as_str().parse::<u8>().is_ok()
}

fn between(page: &str, (start, end): (&str, &str)) -> String {
    let rest = page.split_once(start).unwrap_or_else(|| panic!("{PAGE} has no {start}")).1;
    rest.split_once(end).unwrap_or_else(|| panic!("{PAGE} has no {end}")).0.to_string()
}

fn with(page: &str, (start, end): (&str, &str), text: &str) -> String {
    page.replace(&format!("{start}{}{end}", between(page, (start, end))), &format!("{start}{text}{end}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[expect(clippy::disallowed_methods, reason = "the page is a file of the project, not of a database")]
fn put(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}
