//! The page at `/`: in a real browser against the real binary, and what a browser is sent.

use std::collections::BTreeSet;
use std::path::Path;

use query_lang::plan::Function;
use query_lang::scalar::{AxisFunction, ScalarFunction};

use crate::clients::python;
use crate::support::server::{Server, folder};

const AS_BROWSERS_ASK: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

/// The whole page, unpacked.
const PAGE_BYTES_MAX: usize = 200_000;

#[test]
fn the_page_works_in_a_browser() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    assert!(python("page.py", &[&server.url]).ends_with("ok\n"));
}

#[test]
fn every_file_of_the_page_is_served_and_the_whole_is_small() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let page = server.send("GET", "/", &[AS_BROWSERS_ASK], None);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/page");
    let mut bytes = page.bytes.len();
    let mut checked = 0;
    for folder in ["", "vendor/"] {
        for entry in std::fs::read_dir(sources.join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let content_type = match name.rsplit('.').next().unwrap() {
                "js" => "text/javascript; charset=utf-8",
                "css" => "text/css; charset=utf-8",
                "svg" => "image/svg+xml",
                _ => continue,
            };
            let file = server.get(&format!("/page/{folder}{name}"));
            assert_eq!(file.status, 200, "{name}");
            assert_eq!(file.header("content-type"), content_type, "{name}");
            bytes += file.bytes.len();
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} files were found");
    assert!(bytes < PAGE_BYTES_MAX, "the page has grown to {bytes} bytes");
    assert_eq!(server.get("/page/other.js").status, 404);
}

#[test]
fn browsers_keep_the_page_and_are_told_to_load_nothing_from_elsewhere() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    let page = server.send("GET", "/", &[AS_BROWSERS_ASK], None);
    assert!(page.header("content-security-policy").starts_with("default-src 'none'; script-src 'self'"));
    assert!(page.headers.get_all("vary").iter().any(|value| value == "accept"));
    for path in ["/", "/page/main.js"] {
        let tag = server.send("GET", path, &[AS_BROWSERS_ASK], None).header("etag").to_string();
        let again = server.send("GET", path, &[AS_BROWSERS_ASK, ("if-none-match", &tag)], None);
        assert_eq!((again.status, again.bytes.len()), (304, 0), "{path} {tag}");
        let other = server.send("GET", path, &[AS_BROWSERS_ASK, ("if-none-match", "W/\"other\"")], None);
        assert_eq!((other.status, other.header("etag")), (200, tag.as_str()));
        let packed = server.send("GET", path, &[AS_BROWSERS_ASK, ("accept-encoding", "gzip")], None);
        assert_eq!(packed.header("content-encoding"), "gzip");
        assert_eq!(packed.bytes[..2], [0x1f, 0x8b]);
    }
    // Who does not ask for HTML reads what there is.
    assert!(server.get("/").text().starts_with("waterclock "));
}

/// One of the lists of words that the page paints and completes.
fn words_of_the_page(list: &str) -> BTreeSet<&'static str> {
    const LANGUAGE: &str = include_str!("../src/server/page/language.js");
    let start = format!("export const {list} = [");
    let (_, rest) = LANGUAGE.split_once(&start).unwrap_or_else(|| panic!("{list} is gone"));
    rest.split("];").next().unwrap().split('"').skip(1).step_by(2).collect()
}

#[test]
fn the_page_offers_the_functions_of_the_language() {
    let percentile =
        |name: &&str| name.starts_with('p') && name[1..].bytes().all(|byte| byte.is_ascii_digit());
    let (percentiles, plain): (BTreeSet<&str>, BTreeSet<&str>) =
        words_of_the_page("AGGREGATES").into_iter().partition(percentile);
    assert_eq!(plain, BTreeSet::from(Function::NAMES), "AGGREGATES of src/server/page/language.js");
    assert!(percentiles.iter().all(|name| Function::is_name(name)), "{percentiles:?}");
    let of_rows = ScalarFunction::ALL.map(|(name, _)| name);
    let all = of_rows.into_iter().chain(AxisFunction::NAMES).collect();
    assert_eq!(words_of_the_page("FUNCTIONS"), all, "FUNCTIONS of src/server/page/language.js");
}

#[test]
fn the_page_offers_stages_that_there_are() {
    let stages = words_of_the_page("STAGES");
    assert!(stages.len() > 10, "{stages:?}");
    let no_stage = |word: &str| match query_lang::parse(&format!("cpu | {word}")) {
        Ok(_) => false,
        Err(error) => error.to_string().contains("expected a stage"),
    };
    assert!(no_stage("evry"));
    for stage in stages {
        assert!(!no_stage(stage), "{stage}");
    }
}
