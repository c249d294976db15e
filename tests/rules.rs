//! The rules of the house that a compiler does not check: who may import whom, who may touch the outside, whether the
//! documents tell the truth, whether each file and each dependency says why it is there.
//!
//! To bend a rule, change its table here, in the same commit and in the open.

use std::path::{Path, PathBuf};

/// A module may import only from lines above its own.
const LEVELS: &[&[&str]] = &[
    &["error"],
    &["allocator", "clock", "config", "metrics"],
    &["disk"],
    &["exemplars", "guard", "series", "rows"],
    &["batch"],
    &["blocks", "head", "ingest", "wal"],
    &["scan"],
    &["flush", "promql", "query"],
    &["compact"],
    &["rollup"],
    &["db"],
    &["live"],
    &["check"],
    &["backup"],
    &["jobs"],
    &["server"],
    &["cli"],
];

/// What only some modules may name, with those modules. Anything else goes through them.
const OUTSIDE: &[(&str, &[&str])] = &[
    ("std::fs", &["disk", "cli"]),
    ("rustix::fs", &["disk"]),
    ("std::net::Tcp", &["server", "cli"]),
    ("SystemTime::now", &["clock"]),
    ("Instant::now", &["clock"]),
    // `disk` has one runtime, for the object store.
    ("async fn", &["server", "jobs", "cli", "disk"]),
    ("tokio::", &["server", "jobs", "cli", "disk"]),
    ("object_store::", &["disk"]),
    ("axum::", &["server"]),
    ("serde_json::", &["server", "cli"]),
    ("ureq::", &["cli"]),
    ("std::env::", &["config", "cli"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder whose names end so, but for what tools have made.
fn files(folder: &str, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !["target", "node_modules", ".git"].contains(&name.as_str()) {
                folders.push(path);
            } else if path.is_file() && name.ends_with(suffix) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn text_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The sources of the engine with their modules; `lib.rs` and `main.rs` are above all.
fn modules() -> Vec<(String, PathBuf)> {
    let module = |path: PathBuf| {
        let inside = path.strip_prefix(root().join("src")).unwrap().to_path_buf();
        let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let module = first.trim_end_matches(".rs").to_string();
        (!["lib", "main"].contains(&module.as_str())).then_some((module, path))
    };
    files("src", ".rs").into_iter().filter_map(module).collect()
}

/// The lines that are compiled into the program: no comments, and nothing from the tests at the end of a file.
fn code(source: &str) -> impl Iterator<Item = &str> {
    let program = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    program.lines().map(|line| line.split("//").next().unwrap_or_default())
}

fn level(module: &str) -> usize {
    let found = LEVELS.iter().position(|line| line.contains(&module));
    found.unwrap_or_else(|| panic!("`{module}` is not in LEVELS: decide where it belongs"))
}

/// Modules that the line names as `crate::module`.
fn imports(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::")
        .skip(1)
        .map(|path| path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap())
}

fn upward_imports(module: &str, source: &str) -> Vec<String> {
    let upward = |line: &&str| imports(line).any(|used| used != module && level(used) >= level(module));
    code(source).filter(upward).map(|line| line.trim().to_string()).collect()
}

#[test]
fn imports_point_down() {
    let mut checked = 0;
    for (module, path) in modules() {
        let source = text_of(&path);
        checked += code(&source).flat_map(imports).count();
        let upward = upward_imports(&module, &source);
        assert!(
            upward.is_empty(),
            "{} may not use what is above or beside `{module}`: {upward:?}",
            shown(&path)
        );
    }
    assert!(checked > 100, "only {checked} imports were found");
}

#[test]
fn the_check_of_imports_finds_what_points_up() {
    assert!(upward_imports("query", "use crate::blocks::BlockList;").is_empty());
    assert_eq!(upward_imports("blocks", "use crate::query::Answer;").len(), 1);
    assert_eq!(
        upward_imports("wal", "let x = crate::head::Head::default();").len(),
        1,
        "beside is not below"
    );
    assert!(upward_imports("blocks", "// see crate::query").is_empty());
    assert!(upward_imports("blocks", "#[cfg(test)]\nmod tests {\nuse crate::query::Answer;\n}").is_empty());
}

#[test]
fn the_tour_lists_every_module_in_the_order_of_the_levels() {
    let tour = text_of(&root().join("src/lib.rs"));
    let listed: Vec<&str> =
        tour.lines().filter_map(|line| line.strip_prefix("pub mod ")?.split(';').next()).collect();
    let levels: Vec<usize> = listed.iter().map(|module| level(module)).collect();
    assert!(levels.is_sorted(), "{listed:?}");
    for (module, path) in modules() {
        assert!(listed.contains(&module.as_str()), "{} is not in the tour", shown(&path));
    }
    for line in tour.lines().filter(|line| line.starts_with("pub mod ")) {
        assert!(line.contains(" // "), "the tour says what each module is: {line}");
    }
}

#[test]
fn each_outside_thing_is_known_to_the_modules_that_may() {
    for (module, path) in modules() {
        let source = text_of(&path);
        for (thing, allowed) in OUTSIDE.iter().filter(|(_, allowed)| !allowed.contains(&module.as_str())) {
            let uses: Vec<&str> = code(&source).filter(|line| line.contains(thing)).collect();
            // A type of it in a signature does no I/O.
            let uses: Vec<&&str> = uses.iter().filter(|line| !line.contains("std::fs::FileType")).collect();
            assert!(uses.is_empty(), "{}: `{thing}` belongs to {allowed:?}: {uses:?}", shown(&path));
        }
    }
}

#[test]
fn the_member_crates_touch_nothing_outside() {
    for folder in ["query-lang/src", "storage-format/src"] {
        for path in files(folder, ".rs") {
            let source = text_of(&path);
            for thing in ["std::fs", "std::net", "std::thread", "::now()", "tracing::", "async fn"] {
                let uses: Vec<&str> = code(&source).filter(|line| line.contains(thing)).collect();
                assert!(uses.is_empty(), "{}: {thing}: {uses:?}", shown(&path));
            }
        }
    }
}

#[test]
fn unsafe_code_is_forbidden() {
    for (member, crate_root) in
        [("query-lang", "src/lib.rs"), ("storage-format", "src/lib.rs"), ("grafana/backend", "src/main.rs")]
    {
        let library = text_of(&root().join(member).join(crate_root));
        let manifest = text_of(&root().join(member).join("Cargo.toml"));
        let by_lint = manifest.contains("[lints]\nworkspace = true");
        assert!(library.contains("#![forbid(unsafe_code)]") || by_lint, "{member} may be unsafe");
    }
    assert!(text_of(&root().join("Cargo.toml")).contains("unsafe_code = \"deny\""));
    for (module, path) in modules() {
        let places = ["src/query/kernels", "src/allocator.rs"];
        let allowed = places.iter().any(|place| path.starts_with(root().join(place)));
        let uses = code(&text_of(&path)).filter(|line| line.contains("unsafe ")).count();
        assert!(allowed || uses == 0, "{module}: unsafe code has its places, {places:?}");
    }
}

#[test]
fn each_file_opens_with_what_it_is() {
    let mut checked = 0;
    for folder in ["src", "query-lang/src", "storage-format/src", "grafana/backend", "tests", "benches"] {
        for path in files(folder, ".rs") {
            let source = text_of(&path);
            let opening = source.lines().take_while(|line| line.starts_with("//!")).count();
            assert!(opening > 0, "{} does not say what it is", shown(&path));
            checked += 1;
        }
    }
    assert!(checked > 80, "only {checked} files were found");
}

#[test]
fn each_dependency_says_why() {
    let mut checked = 0;
    for manifest in
        ["Cargo.toml", "query-lang/Cargo.toml", "storage-format/Cargo.toml", "grafana/backend/Cargo.toml"]
    {
        let text = text_of(&root().join(manifest));
        let mut section = "";
        for line in text.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let ours = line.contains("path = \"");
            // The reasons of shared ones stand where they are used.
            let here = section.ends_with("dependencies]") && section != "[workspace.dependencies]";
            if here && line.contains(" = ") && !line.starts_with('#') && !ours {
                checked += 1;
                let reason = line.rsplit_once("# ").map(|(_, reason)| reason).unwrap_or_default();
                assert!(reason.len() > 10, "{manifest}: why is this here? {line}");
            }
            let twin =
                line.split_once("path = \"").filter(|_| here).and_then(|(_, rest)| rest.split_once('"'));
            if let Some((folder, _)) = twin {
                assert!(root().join(manifest).parent().unwrap().join(folder).is_dir(), "{manifest}: {line}");
            }
        }
    }
    assert!(checked > 30, "only {checked} dependencies were found");
}

/// Targets of `](relative/path)` links in a Markdown text.
fn relative_links(markdown: &str) -> impl Iterator<Item = &str> {
    markdown
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
        .map(|target| target.split('#').next().unwrap())
        .filter(|target| !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:"))
}

/// Words in back-ticks that are paths into this repository: they begin with one of its folders, or end like its files.
fn ticked_paths(markdown: &str) -> impl Iterator<Item = &str> {
    const FOLDERS: [&str; 8] =
        ["src/", "query-lang/", "storage-format/", "tests/", "benches/", "grafana/", "docs/", ".ci/"];
    let outside_of_blocks = markdown.split("```").step_by(2);
    let ticked = outside_of_blocks.flat_map(|part| part.split('`').skip(1).step_by(2));
    ticked.filter(|path| {
        let simple = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
        simple && FOLDERS.iter().any(|folder| path.starts_with(folder))
    })
}

#[test]
fn links_and_paths_are_found() {
    let page =
        "see [format](storage-format/FORMAT.md#record), [web](https://x.y), [up](#top), `src/wal.rs`, `x/y`";
    assert_eq!(relative_links(page).collect::<Vec<_>>(), ["storage-format/FORMAT.md"]);
    assert_eq!(ticked_paths(page).collect::<Vec<_>>(), ["src/wal.rs"]);
    assert_eq!(ticked_paths("```\n`src/a.rs`\n```\n`src/b.rs`").collect::<Vec<_>>(), ["src/b.rs"]);
}

#[test]
fn documents_point_at_what_exists() {
    let mut checked = 0;
    for page in files("", ".md") {
        let text = text_of(&page);
        for link in relative_links(&text) {
            checked += 1;
            let target = page.parent().unwrap().join(link);
            assert!(target.exists(), "{} links to {link}, which is not there", shown(&page));
        }
        for path in ticked_paths(&text) {
            checked += 1;
            let here = page.parent().unwrap().join(path);
            assert!(
                root().join(path).exists() || here.exists(),
                "{} names {path}, which is not there",
                shown(&page)
            );
        }
    }
    assert!(checked > 5, "only {checked} links and paths were found");
}

/// Comments of sources point at other files, too.
#[test]
fn comments_name_files_that_exist() {
    for folder in ["src", "query-lang/src", "storage-format/src", "grafana/backend/src"] {
        for path in files(folder, ".rs") {
            let source = text_of(&path);
            let comments: Vec<&str> =
                source.lines().filter(|line| line.trim_start().starts_with("//")).collect();
            for named in ticked_paths(&comments.join("\n")) {
                assert!(root().join(named).exists(), "{} names {named}, which is not there", shown(&path));
            }
        }
    }
}
