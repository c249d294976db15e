//! The page at `/`: in a real browser against the real binary, and what a browser is sent.

use std::path::Path;

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
