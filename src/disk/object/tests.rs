//! The object disk over a store in memory.

use object_store::memory::InMemory;

use super::reader::PIECE_BYTES;
use super::*;

fn disk(store: &Arc<InMemory>, log: &Path) -> ObjectDisk {
    let location = S3Location { bucket: "bucket".to_string(), prefix: "a/b".to_string() };
    let mut config = Config::default();
    config.limits.object_cache_bytes_max = 4 * PIECE_BYTES as usize;
    config.server.remove_after = Duration::from_millis(1);
    let store: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(store);
    ObjectDisk::over(store, &location, Role::Writes(Local::open(log).unwrap()), &config).unwrap()
}

fn put(disk: &ObjectDisk, name: &str, bytes: &[u8]) {
    use std::io::Write;
    let temporary = format!("{name}.{TEMPORARY}");
    let mut file = disk.create(&temporary).unwrap();
    file.write_all(bytes).unwrap();
    file.sync().unwrap();
    disk.rename(&temporary, name).unwrap();
}

#[test]
fn every_range_of_an_object_reads_as_it_was_written() {
    let (store, folder) = (Arc::new(InMemory::new()), tempfile::tempdir().unwrap());
    let disk = disk(&store, folder.path());
    let piece = PIECE_BYTES as usize;
    for len in [1, piece - 1, piece, piece + 1, 9 * piece + 77, PART_BYTES + 3] {
        let bytes: Vec<u8> = (0..len).map(|at| (at * 31 % 251) as u8).collect();
        let name = format!("blocks/d/t/x-{len}");
        put(&disk, &name, &bytes);
        let file = disk.open(&name).unwrap();
        assert_eq!(file.len(), len as u64);
        let edges = [0, 1, piece - 1, piece, 2 * piece + 5, len / 2, len - 1, len];
        for from in edges.into_iter().filter(|from| *from <= len) {
            for to in edges.into_iter().filter(|to| *to >= from && *to <= len) {
                assert_eq!(
                    &file.read_at(from as u64, to - from).unwrap()[..],
                    &bytes[from..to],
                    "{from}..{to}"
                );
            }
        }
        assert!(file.read_at(0, len + 1).is_err());
    }
    assert_eq!(disk.list("blocks/d/t").unwrap().len(), 6);
    assert_eq!(disk.list_folders("blocks").unwrap(), ["d"]);
    assert_eq!(disk.list(UPLOADS).unwrap(), [""; 0], "uploaded files go");
    assert_eq!(disk.describe("blocks/d"), "s3://bucket/a/b/blocks/d");
}

#[test]
fn of_two_writers_one_replaces() {
    let store = Arc::new(InMemory::new());
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = (disk(&store, one.path()), disk(&store, two.path()));
    assert_eq!(one.read("manifest").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(two.read("manifest").unwrap_err().kind(), io::ErrorKind::NotFound);
    one.replace("manifest", b"1").unwrap();
    assert_eq!(two.replace("manifest", b"2").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    one.replace("manifest", b"3").unwrap();
    assert_eq!(&two.read("manifest").unwrap()[..], b"3");
    two.replace("manifest", b"4").unwrap();
    // Looking does not make the first one the writer again.
    assert_eq!(&one.read("manifest").unwrap()[..], b"4");
    assert_eq!(one.replace("manifest", b"5").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
}

#[test]
fn a_put_whose_answer_was_lost_is_known_again() {
    let store = Arc::new(InMemory::new());
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(&store, folder.path());
    disk.replace("manifest", b"1").unwrap();
    let before = disk.held.lock()["manifest"].tag.clone();
    disk.replace("manifest", b"2").unwrap();
    // As if the answer to the last put had never come, and the put were sent again.
    disk.held.lock().get_mut("manifest").unwrap().tag = before.clone();
    disk.replace("manifest", b"2").unwrap();
    // As if it had been called failed, and arrived later.
    let held = Held { tag: before, unanswered: vec![digest(&Bytes::from_static(b"2"))] };
    disk.held.lock().insert("manifest".to_string(), held);
    disk.replace("manifest", b"3").unwrap();
    assert_eq!(&disk.read("manifest").unwrap()[..], b"3");
}

#[test]
fn a_log_has_one_number_for_ever_and_one_server_at_a_time() {
    let (store, folder) = (Arc::new(InMemory::new()), tempfile::tempdir().unwrap());
    let first = disk(&store, folder.path());
    let writer = first.writer().unwrap();
    assert!(Local::open(folder.path()).err().unwrap().to_string().contains("in use"));
    drop(first);
    assert_eq!(disk(&store, folder.path()).writer().unwrap().log, writer.log);
}
