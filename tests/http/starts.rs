//! Starting and stopping: what is kept, and what stops a start.

use rustix::process::Signal;
use serde_json::json;

use crate::support::server::{Server, folder, refused};

#[test]
fn sigterm_ends_well_and_keeps_everything() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    assert_eq!(server.post("/write?db=d", b"m v=1 1").status, 204);
    assert_eq!(server.stop().code(), Some(0));
    let again = Server::start(folder.path(), &[]);
    assert_eq!(again.post("/api/wql?db=d&time=ns", b"m").json()["rows"], json!([[1, 1.0]]));
}

#[test]
fn a_folder_has_one_server_also_while_that_one_stands_still() {
    let folder = folder();
    let mut server = Server::start(folder.path(), &[]);
    assert_eq!(server.post("/write", b"m v=1 1").status, 204);
    server.signal(Signal::STOP);
    let (code, stderr) = refused(folder.path(), "127.0.0.1:0", &[]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("is in use by another waterclock; stop that one"), "{stderr}");
    server.signal(Signal::CONT);
    // The refused one has left everything as it was.
    assert_eq!(server.post("/write", b"m v=2 2").status, 204);
    assert_eq!(server.post("/api/flush", b"").status, 200);
    assert_eq!(server.post("/api/wql?time=ns", b"m").json()["rows"], json!([[1, 1.0], [2, 2.0]]));
    // A dead one holds nothing.
    server.kill();
    let again = Server::start(folder.path(), &[]);
    assert_eq!(again.post("/api/wql?time=ns", b"m").json()["rows"], json!([[1, 1.0], [2, 2.0]]));
}

#[test]
fn a_start_that_cannot_be_is_one_sentence() {
    let used = folder();
    let server = Server::start(used.path(), &[]);
    let port = server.url.trim_start_matches("http://");
    let fresh = folder();
    let newer = folder();
    #[expect(clippy::disallowed_methods, reason = "a folder that another program left")]
    std::fs::write(newer.path().join("manifest"), "waterclock manifest 999 00000000 2\n{}").unwrap();
    let missing = fresh.path().join("none.toml").display().to_string();
    let cases = [
        (used.path(), "127.0.0.1:0", vec![], "is in use by another waterclock; stop that one"),
        (fresh.path(), port, vec![], "another program listens on"),
        (newer.path(), "127.0.0.1:0", vec![], "of version 999, written by a newer waterclock"),
        (
            fresh.path(),
            "127.0.0.1:0",
            vec!["--set", "lisen=x"],
            "there is no setting lisen (flag); did you mean listen?",
        ),
        (fresh.path(), "127.0.0.1:0", vec!["--set", "flush_after=10"], "give a duration such as"),
        (fresh.path(), "127.0.0.1:0", vec!["--log-level", "inf[o"], "log_level is \"inf[o\""),
        (fresh.path(), "127.0.0.1:0", vec!["--config", &missing], "cannot read"),
    ];
    for (folder, listen, flags, says) in cases {
        let (code, stderr) = refused(folder, listen, &flags);
        let last = stderr.lines().last().unwrap_or_default();
        assert_eq!(code, Some(1), "{stderr}");
        assert!(last.starts_with("waterclock: ") && last.contains(says), "{stderr}");
    }
    let (code, stderr) = refused(fresh.path(), "nowhere", &[]);
    assert_eq!(code, Some(2), "a wrong command line: {stderr}");
}
