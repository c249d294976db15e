//! The real binary on a small file system of its own that is full, at every point of a work that writes, deletes, flushes,
//! merges and changes rollups.
//!
//! Who is refused hears that the disk is full, and what was refused is never seen; everything acknowledged can be read
//! meanwhile, and after a kill, also while the disk is still full; once there is room everything goes on without a restart.
//! The file system is a tmpfs, so this needs the right to mount one: it fails, and says so, where that is refused.
//! Not here: each single byte of room, and power cuts (`disk_faults`).

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::support::dice::Dice;
use crate::support::ledger::Ledger;
use crate::support::server::{Server, check_offline, folder};

const PAGE: u64 = 4_096;

const FLAGS: [&str; 4] = ["--set", "wal_segment_bytes_max=4KiB", "--set", "refresh_every=10ms"];

/// A mounted tmpfs and a file in it that takes the room away.
struct SmallDisk {
    folder: TempDir,
    ballast: File,
}

impl SmallDisk {
    const BYTES: u64 = 2 << 20;

    fn mount() -> SmallDisk {
        let folder = folder();
        let size = format!("size={}", SmallDisk::BYTES);
        let mounting = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "waterclock-test"])
            .arg(folder.path())
            .output()
            .expect("there is a command `mount`");
        assert!(
            mounting.status.success(),
            "this test needs a file system that can be full and may not mount one; run the tests as root, in a container \
             with CAP_SYS_ADMIN: {}",
            String::from_utf8_lossy(&mounting.stderr)
        );
        let path = folder.path().join("ballast");
        let ballast = File::options().create(true).append(true).open(path).expect("there is room yet");
        SmallDisk { folder, ballast }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn room(&self) -> u64 {
        let state = rustix::fs::statvfs(self.folder.path()).expect("it is mounted");
        state.f_bavail * state.f_frsize
    }

    /// Leaves this much room, or what there is.
    fn leave(&self, room: u64) {
        let taken = self.room().saturating_sub(room);
        if taken > 0 {
            let flags = rustix::fs::FallocateFlags::empty();
            rustix::fs::fallocate(&self.ballast, flags, 0, taken).expect("there was so much room");
        }
    }

    fn free(&self) {
        self.ballast.set_len(0).expect("it can be cut");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that a failed test leaves behind may still have files open.
        drop(Command::new("umount").arg("-l").arg(self.folder.path()).output());
    }
}

/// Takes every kind of step; returns those that were refused because the disk was full.
fn work(server: &Server, ledger: &Ledger, dice: &mut Dice, story: &str) -> Vec<String> {
    let mut refused = Vec::new();
    let mut ask = |method: &str, path: &str, body: &str| {
        let reply = server.send(method, path, &[], Some(body.as_bytes()));
        if reply.status == 503 {
            let text = reply.text();
            assert!(text.contains("the disk is full; free some space"), "{story}: {method} {path}: {text}");
            refused.push(format!("{method} {path}"));
        } else {
            assert!(reply.status < 500, "{story}: {method} {path}: {}", reply.text());
        }
        reply.status
    };
    for step in 0..48 {
        let operation = ledger.next(step % 3, dice);
        match ask("POST", operation.path(), &operation.body()) {
            200 | 204 => ledger.acknowledge(&operation),
            503 => ledger.refuse(&operation),
            status => panic!("{story}: {status} for {}", operation.body()),
        }
        let (method, path, body) = match step % 16 {
            5 => ("POST", "/api/rollups/by_minute", "load | every 1m count, sum(v), max(v) by writer"),
            7 => ("POST", "/api/rollups/by_minute/refresh", ""),
            8 => ("POST", "/api/flush", ""),
            12 => ("POST", "/api/compact?force=on", ""),
            14 => ("DELETE", "/api/rollups/by_minute", ""),
            _ => continue,
        };
        ask(method, path, body);
        if step % 16 == 14 {
            ledger.check(server, &format!("{story}, step {step}"));
        }
    }
    refused
}

/// The room is given in pages; between them luck places the end of the disk.
const SEEDS: u64 = 3;

#[test]
fn a_full_file_system_loses_nothing_and_needs_no_restart() {
    let mut met = BTreeMap::<String, usize>::new();
    for pages in 0.. {
        let mut full = false;
        for seed in 0..SEEDS {
            let refused = fill(pages * PAGE, seed);
            full |= !refused.is_empty();
            refused.into_iter().for_each(|what| *met.entry(what).or_default() += 1);
        }
        if !full {
            break;
        }
    }
    for what in [
        "POST /write",
        "POST /api/wql",
        "POST /api/flush",
        "POST /api/compact",
        "POST /api/rollups/by",
        "DELETE",
    ] {
        assert!(
            met.keys().any(|refused| refused.starts_with(what)),
            "the end of the disk never met {what}: {met:?}"
        );
    }
}

/// The whole story with this much room; returns what was refused.
fn fill(room: u64, seed: u64) -> Vec<String> {
    let story = format!("{room} bytes of room, seed {seed}");
    let disk = SmallDisk::mount();
    let (ledger, mut dice) = (Ledger::default(), Dice::new(seed));
    let mut server = Server::start(&disk.data(), &FLAGS);
    let first = b"load,writer=none,series=none v=0i 1";
    assert_eq!(server.post("/write?db=default&precision=s", first).status, 204);
    assert_eq!(server.post("/api/wql", b"delete from load").status, 200);
    disk.leave(room);
    let refused = work(&server, &ledger, &mut dice, &story);
    disk.leave(0);
    ledger.check(&server, &format!("{story}, used up"));
    // Every other time the process that met the end goes on itself.
    if (room / PAGE + seed).is_multiple_of(2) {
        server.kill();
        server = Server::start(&disk.data(), &FLAGS);
        ledger.check(&server, &format!("{story}, started without any"));
    }
    disk.free();
    let story = format!("{story}, then freed");
    let refused_later = work(&server, &ledger, &mut dice, &story);
    assert!(refused_later.is_empty(), "{story}: {refused_later:?}");
    assert_eq!(server.get("/health").status, 200, "{story}");
    server.kill();
    check_offline(&disk.data(), &story);
    server = Server::start(&disk.data(), &FLAGS);
    ledger.check(&server, &format!("{story}, then killed"));
    refused
}
