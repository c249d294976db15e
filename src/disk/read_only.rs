//! A disk that nobody may change: for looking at a folder as a start would, without starting.
//!
//! Invariant: no call changes a byte below. What a start cleans up (leftovers, a torn tail) is only hidden, so that what
//! is read is what the start would read.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::disk::{Disk, ReadFile, WriteFile};

#[derive(Clone)]
pub struct ReadOnly {
    disk: Arc<dyn Disk>,
    hidden: Arc<Mutex<Hidden>>,
}

#[derive(Default)]
struct Hidden {
    removed: HashSet<String>,
    /// Where files end that were cut.
    cut: HashMap<String, u64>,
}

impl ReadOnly {
    pub fn new(disk: Arc<dyn Disk>) -> ReadOnly {
        ReadOnly { disk, hidden: Arc::default() }
    }
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the folder is only looked at")
}

impl Disk for ReadOnly {
    fn create(&self, _name: &str) -> io::Result<Box<dyn WriteFile>> {
        Err(refused())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn ReadFile>> {
        if self.hidden.lock().removed.contains(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = self.disk.open(name)?;
        match self.hidden.lock().cut.get(name) {
            Some(len) => Ok(Arc::new(Cut { len: file.len().min(*len), file })),
            None => Ok(file),
        }
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(refused())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.hidden.lock().removed.insert(name.to_string());
        Ok(())
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        self.hidden.lock().cut.insert(name.to_string(), len);
        Ok(())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut names = self.disk.list(folder)?;
        let hidden = self.hidden.lock();
        let whole =
            |name: &str| if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") };
        names.retain(|name| !hidden.removed.contains(&whole(name)));
        Ok(names)
    }

    fn list_folders(&self, folder: &str) -> io::Result<Vec<String>> {
        self.disk.list_folders(folder)
    }

    fn create_folder(&self, _folder: &str) -> io::Result<()> {
        Err(refused())
    }

    fn sync_folder(&self, _folder: &str) -> io::Result<()> {
        Ok(())
    }

    fn describe(&self, name: &str) -> String {
        self.disk.describe(name)
    }

    fn local_path(&self, name: &str) -> Option<PathBuf> {
        self.disk.local_path(name)
    }
}

struct Cut {
    file: Arc<dyn ReadFile>,
    len: u64,
}

impl ReadFile for Cut {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        if offset.saturating_add(len as u64) > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_at(offset, len)
    }
}
