//! A folder of this machine.
//!
//! Invariant: while a [`LocalDisk`] lives, no other process has the folder: it holds a lock on a file in it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::disk::{Disk, ReadFile, ReadOnly, WriteFile};
use crate::error::{Error, Kind, Result};

/// A folder of this machine, held by a lock for as long as this lives.
pub struct LocalDisk {
    root: PathBuf,
    /// Those that this process has created durably.
    durable_folders: Mutex<HashSet<String>>,
    /// None for a folder that is only read, and that no server has ever used or another one is using.
    _lock: Option<File>,
}

/// Its lock, not its content, says that a server is using the folder.
const LOCK_FILE: &str = "LOCK";

impl LocalDisk {
    /// Creates the folder if needed and locks it for this process alone.
    #[expect(clippy::disallowed_methods, reason = "this is the module that knows the file system")]
    pub fn open(root: &Path) -> Result<LocalDisk> {
        let name = root.display().to_string();
        raise_open_files();
        std::fs::create_dir_all(root).map_err(|source| Error::io("create the folder", &name, source))?;
        let root = root.canonicalize().map_err(|source| Error::io("open the folder", &name, source))?;
        let path = root.join(LOCK_FILE);
        let lock =
            File::create(&path).map_err(|source| Error::io("create", path.display().to_string(), source))?;
        lock_file(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive, &name)?;
        Ok(LocalDisk { root, durable_folders: Mutex::default(), _lock: Some(lock) })
    }

    /// A folder that is there, to be read only: nothing is made, and a server that uses it is refused, or refuses.
    #[expect(clippy::disallowed_methods, reason = "this is the module that knows the file system")]
    pub fn open_to_read(root: &Path) -> Result<ReadOnly> {
        let name = root.display().to_string();
        raise_open_files();
        let root = root.canonicalize().map_err(|source| Error::io("open the folder", &name, source))?;
        let lock = match File::open(root.join(LOCK_FILE)) {
            Ok(lock) => {
                lock_file(&lock, rustix::fs::FlockOperation::NonBlockingLockShared, &name)?;
                Some(lock)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(Error::io("open", root.join(LOCK_FILE).display().to_string(), source)),
        };
        Ok(ReadOnly::new(Arc::new(LocalDisk { root, durable_folders: Mutex::default(), _lock: lock })))
    }

    /// A folder that another process may be writing to, to be read only.
    pub fn open_to_follow(root: &Path) -> Result<ReadOnly> {
        raise_open_files();
        let name = root.display().to_string();
        let root = root.canonicalize().map_err(|source| Error::io("open the folder", &name, source))?;
        Ok(ReadOnly::new(Arc::new(LocalDisk { root, durable_folders: Mutex::default(), _lock: None })))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn entries(&self, folder: &str, wanted: fn(&std::fs::FileType) -> bool) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.path(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if wanted(&entry.file_type()?) {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }
}

impl Disk for LocalDisk {
    #[expect(clippy::disallowed_methods, reason = "this is the module that knows the file system")]
    fn create(&self, name: &str) -> io::Result<Box<dyn WriteFile>> {
        Ok(Box::new(LocalWriter(File::create(self.path(name))?)))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the module that knows the file system")]
    fn open(&self, name: &str) -> io::Result<Arc<dyn ReadFile>> {
        let file = File::open(self.path(name))?;
        let len = file.metadata()?.len();
        Ok(Arc::new(LocalReader { file, len }))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the module that knows the file system")]
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the module that knows the file system")]
    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        let file = File::options().write(true).open(self.path(name))?;
        file.set_len(len)?;
        file.sync_all()
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.entries(folder, std::fs::FileType::is_file)
    }

    fn list_folders(&self, folder: &str) -> io::Result<Vec<String>> {
        self.entries(folder, std::fs::FileType::is_dir)
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        let path = self.path(folder);
        // One that is there may have been made by a process that died before it could sync the parents.
        if self.durable_folders.lock().contains(folder) {
            return Ok(());
        }
        std::fs::create_dir_all(&path)?;
        // Each new entry is durable only once its parent is synced.
        let mut parent = Some(path.as_path());
        while let Some(current) = parent.filter(|current| current.starts_with(&self.root)) {
            File::options().read(true).open(current)?.sync_all()?;
            parent = current.parent();
        }
        self.durable_folders.lock().insert(folder.to_string());
        Ok(())
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        File::options().read(true).open(self.path(folder))?.sync_all()
    }

    fn describe(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn local_path(&self, name: &str) -> Option<PathBuf> {
        Some(self.path(name))
    }

    fn link(&self, from: &dyn Disk, from_name: &str, name: &str) -> io::Result<bool> {
        let Some(source) = from.local_path(from_name) else { return Ok(false) };
        match std::fs::hard_link(source, self.path(name)) {
            Ok(()) => Ok(true),
            // Another file system, or one without hard links; a copy says better than this what is wrong, if anything is.
            Err(_) => Ok(false),
        }
    }
}

fn lock_file(lock: &File, how: rustix::fs::FlockOperation, folder: &str) -> Result<()> {
    match rustix::fs::flock(lock, how) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::rejected(
            Kind::Conflict,
            "folder_in_use",
            format!(
                "the data folder {folder} is in use by another waterclock; stop that one or give --data-dir another folder"
            ),
        )),
        Err(errno) => Err(Error::io("lock", format!("{folder}/{LOCK_FILE}"), errno.into())),
    }
}

/// Each block that is read stays open, and the usual soft limit of 1,024 files is meant for programs that use select.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

struct LocalWriter(File);

impl Write for LocalWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl WriteFile for LocalWriter {
    fn sync(&mut self) -> io::Result<()> {
        // Data and length; the times of the inode may be lost.
        self.0.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        use std::io::Seek;
        self.0.set_len(len)?;
        self.0.seek(io::SeekFrom::Start(len))?;
        Ok(())
    }

    fn make_room(&mut self, bytes: usize) -> io::Result<()> {
        use std::io::Seek;
        let at = self.0.stream_position()?;
        self.0.write_all_at(&vec![0; bytes], at)
    }
}

struct LocalReader {
    file: File,
    len: u64,
}

impl ReadFile for LocalReader {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }
}
