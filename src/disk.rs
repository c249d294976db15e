//! Where files live, behind one blocking trait. The only module that touches the file system.
//!
//! Names are relative to the data folder and use `/`. A file is durable after [`WriteFile::sync`] *and*
//! [`Disk::sync_folder`] of the folder it was created in or renamed into; the fake disk of the tests
//! takes away everything else at a power cut.
//! Not here: what the files mean.

mod local; // a folder of this machine
mod object; // a bucket, with the log in a folder of this machine or with everything in it
mod place; // which of them a location is
mod read_only; // a disk that nobody may change

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use storage_format::manifest::WriterEntry;

pub use local::LocalDisk;
pub use object::ObjectDisk;
pub use place::{backup_to_read, backup_to_write, data_to_follow, data_to_read, data_to_write};
pub use read_only::ReadOnly;

/// The suffix of a file that is being written and will be renamed.
pub const TEMPORARY: &str = "new";

pub trait Disk: Send + Sync {
    /// A new, empty file for writing. An old one of that name is replaced.
    fn create(&self, name: &str) -> io::Result<Box<dyn WriteFile>>;
    /// An existing file for reading. It stays readable after [`Disk::remove`].
    fn open(&self, name: &str) -> io::Result<Arc<dyn ReadFile>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Cuts a file that nobody has open for writing, and syncs it.
    fn truncate(&self, name: &str, len: u64) -> io::Result<()>;
    /// Names of the files directly in a folder, without the folder; none if it does not exist.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    /// Names of the folders directly in a folder; none if it does not exist.
    fn list_folders(&self, folder: &str) -> io::Result<Vec<String>>;
    /// Creates the folder and its parents, durably.
    fn create_folder(&self, folder: &str) -> io::Result<()>;
    fn sync_folder(&self, folder: &str) -> io::Result<()>;
    /// A small file as a whole.
    fn read(&self, name: &str) -> io::Result<Bytes> {
        let file = self.open(name)?;
        file.read_at(0, file.len() as usize)
    }
    /// Replaces a small file as a whole, durably: a reader, and a start after a crash, finds the old one or the new one.
    /// Err of kind `AlreadyExists` if another machine has replaced it since this one first read it.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!("{name}.{TEMPORARY}");
        let mut file = self.create(&temporary)?;
        file.write_all(bytes)?;
        file.flush()?;
        file.sync()?;
        drop(file);
        self.rename(&temporary, name)?;
        let folder = name.rsplit_once('/').map(|(folder, _)| folder);
        self.sync_folder(folder.unwrap_or_default())
    }
    /// Makes a file of the first `len` bytes of one that another disk has, durably: it has its name only once it is whole.
    fn copy(&self, from: &dyn Disk, from_name: &str, len: u64, name: &str) -> io::Result<()> {
        let source = from.open(from_name)?;
        let temporary = format!("{name}.{TEMPORARY}");
        let write = || {
            let mut file = self.create(&temporary)?;
            let mut at = 0;
            while at < len {
                let piece = COPY_BYTES.min(len - at);
                file.write_all(&source.read_at(at, piece as usize)?)?;
                at += piece;
            }
            file.flush()?;
            file.sync()?;
            drop(file);
            self.rename(&temporary, name)
        };
        write().inspect_err(|_| drop(self.remove(&temporary)))
    }
    /// How long a file is, and at most so many of its last bytes.
    fn ending(&self, name: &str, bytes: u64) -> io::Result<(u64, Bytes)> {
        let file = self.open(name)?;
        let start = file.len().saturating_sub(bytes);
        Ok((file.len(), file.read_at(start, (file.len() - start) as usize)?))
    }
    /// Who this is among those that may write to the same files from other machines; None if no other machine can.
    fn writer(&self) -> Option<WriterEntry> {
        None
    }
    /// The name as a person would type it.
    fn describe(&self, name: &str) -> String;
    /// Where the file is among those of this machine, if it is: then it can have a second name instead of a copy.
    fn local_path(&self, _name: &str) -> Option<PathBuf> {
        None
    }
    /// Gives a file of another disk this name here, without copying its bytes. False if that cannot be; the folder is there.
    fn link(&self, _from: &dyn Disk, _from_name: &str, _name: &str) -> io::Result<bool> {
        Ok(false)
    }
}

/// Bytes that a copy holds in memory.
const COPY_BYTES: u64 = 4 << 20;

pub trait WriteFile: Write + Send {
    /// Everything written so far survives a power cut once this returns.
    fn sync(&mut self) -> io::Result<()>;
    /// Takes back what was written after `len`.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Puts so many zeros after what was written. The next writes go over them.
    fn make_room(&mut self, bytes: usize) -> io::Result<()>;
}

pub trait ReadFile: Send + Sync {
    fn len(&self) -> u64;
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes>;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
