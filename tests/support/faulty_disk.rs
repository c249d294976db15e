//! A disk in memory that a test owns: it counts operations, stops after any of them, and tells what a power cut leaves.
//!
//! Honest about durability: bytes that were written but not synced, and names that were made, renamed or removed without
//! [`Disk::sync_folder`] after it, are only pending. [`FaultyDisk::after_power_loss`] decides their fate by [`Loss`].
//! Removed files stay readable for those who have opened them.
//! Not modelled: damage of bytes that were synced (tests do that by [`FaultyDisk::edit`]), two names of one file.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use waterclock::disk::{Disk, ReadFile, WriteFile};

use crate::support::dice::Dice;

/// What becomes of everything that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of it stays: only the process died.
    Kept,
    /// All of it is gone.
    Lost,
    /// Per file and per folder a random first part stays; a write may be cut in the middle.
    Torn,
    /// Each file keeps or loses its data, or finds zeros in place of one write; each change of a name happened or not.
    Reordered,
}

/// A handle; clones are the same disk.
#[derive(Clone, Default)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    names: BTreeMap<String, Inode>,
    /// The names that a power cut cannot take.
    durable: BTreeMap<String, Inode>,
    /// Changes of names since their folders were synced, oldest first.
    pending: Vec<NameChange>,
    folders: BTreeSet<String>,
    operations: u64,
    syncs: u64,
    reads: u64,
    writes: u64,
    faults: Faults,
}

#[derive(Clone, Default)]
struct Faults {
    /// Operations from this number on fail.
    crash_after: Option<u64>,
    /// The sync of this number fails, that one only.
    failing_sync: Option<u64>,
    /// The read of this number fails, that one only.
    failing_read: Option<u64>,
    /// The write of this number fails, that one only, after half of it.
    failing_write: Option<u64>,
    /// Bytes that may still be written.
    space: Option<usize>,
    /// Reading a file whose name contains this fails.
    unreadable: Option<String>,
}

type Inode = Arc<Mutex<Content>>;

#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    /// What a power cut cannot take.
    durable: Vec<u8>,
    /// What happened since, oldest first.
    pending: Vec<DataChange>,
}

#[derive(Clone)]
enum DataChange {
    /// Where, and what.
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Clone)]
struct NameChange {
    folder: String,
    from: Option<String>,
    to: Option<(String, Inode)>,
}

impl FaultyDisk {
    pub fn new() -> FaultyDisk {
        FaultyDisk::default()
    }

    /// The operation of this number, counted from 0, and all later ones fail. What the failing one was about to do may
    /// have happened: it is pending like everything unsynced.
    pub fn crash_after(operations: u64) -> FaultyDisk {
        let disk = FaultyDisk::new();
        disk.state.lock().faults.crash_after = Some(operations);
        disk
    }

    /// The same for a disk that has been used: counted from now.
    pub fn crash_in(&self, operations: u64) {
        let mut state = self.state.lock();
        state.faults.crash_after = Some(state.operations + operations);
    }

    pub fn crashed(&self) -> bool {
        let state = self.state.lock();
        state.faults.crash_after.is_some_and(|last| state.operations > last)
    }

    /// Syncs of files and folders so far.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// The sync after the next `passing` ones fails, once.
    pub fn fail_sync_after(&self, passing: u64) {
        let mut state = self.state.lock();
        state.faults.failing_sync = Some(state.syncs + passing);
    }

    /// After this many bytes the disk is full.
    pub fn full_after(&self, bytes: usize) {
        self.state.lock().faults.space = Some(bytes);
    }

    /// Whether a write has met the end of the space.
    pub fn is_full(&self) -> bool {
        self.state.lock().faults.space == Some(0)
    }

    /// There is space again.
    pub fn free_space(&self) {
        self.state.lock().faults.space = None;
    }

    /// Reads of files so far.
    pub fn reads(&self) -> u64 {
        self.state.lock().reads
    }

    /// The read after the next `passing` ones fails, once.
    pub fn fail_read_after(&self, passing: u64) {
        let mut state = self.state.lock();
        state.faults.failing_read = Some(state.reads + passing);
    }

    /// Writes to files so far.
    pub fn writes(&self) -> u64 {
        self.state.lock().writes
    }

    /// The write after the next `passing` ones fails, once.
    pub fn fail_write_after(&self, passing: u64) {
        let mut state = self.state.lock();
        state.faults.failing_write = Some(state.writes + passing);
    }

    pub fn fail_reads_of(&self, part_of_name: &str) {
        self.state.lock().faults.unreadable = Some(part_of_name.to_string());
    }

    pub fn mend_reads(&self) {
        self.state.lock().faults.unreadable = None;
    }

    /// The disk that the next start finds, without faults. `seed` decides what [`Loss`] leaves to chance.
    pub fn after_power_loss(&self, seed: u64, loss: Loss) -> FaultyDisk {
        let state = self.state.lock();
        let mut dice = Dice::new(seed);
        let names = match loss {
            Loss::Kept => return state.after_death_of_process(),
            Loss::Lost => state.durable.clone(),
            Loss::Torn => state.torn_names(&mut dice),
            Loss::Reordered => {
                let mut names = state.durable.clone();
                let kept = state.pending.iter().filter(|_| dice.roll(2) == 0);
                kept.for_each(|change| change.apply(&mut names));
                names
            }
        };
        let mut survive = |inode: Inode| {
            let bytes = inode.lock().survivor(loss, &mut dice);
            Arc::new(Mutex::new(Content { durable: bytes.clone(), bytes, pending: Vec::new() }))
        };
        let names: BTreeMap<String, Inode> =
            names.into_iter().map(|(name, inode)| (name, survive(inode))).collect();
        let folders = state.folders.clone();
        let next = State { durable: names.clone(), names, folders, ..State::default() };
        FaultyDisk { state: Arc::new(Mutex::new(next)) }
    }

    pub fn files(&self) -> Vec<String> {
        self.state.lock().names.keys().cloned().collect()
    }

    /// The names that contain the text.
    pub fn files_with(&self, part_of_name: &str) -> Vec<String> {
        self.files().into_iter().filter(|name| name.contains(part_of_name)).collect()
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        let inode = self.state.lock().names.get(name).cloned();
        inode.unwrap_or_else(|| panic!("there is no {name}")).lock().bytes.clone()
    }

    /// Changes bytes behind everybody's back, as a bad disk does.
    pub fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let inode = self.state.lock().names.get(name).cloned();
        let inode = inode.unwrap_or_else(|| panic!("there is no {name}"));
        let mut content = inode.lock();
        change(&mut content.bytes);
        content.durable = content.bytes.clone();
        content.pending.clear();
    }

    /// Puts a file there, as somebody with a shell does.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state.lock();
        let mut folder = folder_of(name);
        while !folder.is_empty() {
            state.folders.insert(folder.clone());
            folder = folder_of(&folder);
        }
        let inode = Arc::new(Mutex::new(Content { durable: bytes.clone(), bytes, pending: Vec::new() }));
        state.durable.insert(name.to_string(), Arc::clone(&inode));
        state.names.insert(name.to_string(), inode);
    }

    /// Every file with its bytes.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state.lock();
        state.names.iter().map(|(name, inode)| (name.clone(), inode.lock().bytes.clone())).collect()
    }

    /// Takes a file away, as somebody with a shell does.
    pub fn take(&self, name: &str) {
        let mut state = self.state.lock();
        assert!(state.names.remove(name).is_some(), "there is no {name}");
        state.durable.remove(name);
    }
}

impl State {
    /// Counts an operation. Err once the power is gone.
    fn step(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        match self.faults.crash_after {
            Some(last) if number >= last => Err(power_is_gone()),
            _ => Ok(()),
        }
    }

    /// Whether the operation that failed by [`State::step`] was the one that the power cut met.
    fn was_cut(&self) -> bool {
        self.faults.crash_after.is_some_and(|last| self.operations == last + 1)
    }

    fn step_of_sync(&mut self) -> io::Result<()> {
        self.step()?;
        let number = self.syncs;
        self.syncs += 1;
        match self.faults.failing_sync {
            Some(failing) if failing == number => Err(io::Error::from_raw_os_error(EIO)),
            _ => Ok(()),
        }
    }

    fn rename(&mut self, change: NameChange) -> io::Result<()> {
        let outcome = self.step();
        if outcome.is_ok() || self.was_cut() {
            change.apply(&mut self.names);
            self.pending.push(change);
        }
        outcome
    }

    /// Per folder a first part of what is pending.
    fn torn_names(&self, dice: &mut Dice) -> BTreeMap<String, Inode> {
        let mut names = self.durable.clone();
        let mut left: BTreeMap<&str, u64> = BTreeMap::new();
        for change in &self.pending {
            let of_folder = || self.pending.iter().filter(|other| other.folder == change.folder).count();
            let left = left.entry(&change.folder).or_insert_with(|| dice.roll(of_folder() as u64 + 1));
            if *left > 0 {
                *left -= 1;
                change.apply(&mut names);
            }
        }
        names
    }

    /// Everything goes on as it is, and what was pending still is.
    fn after_death_of_process(&self) -> FaultyDisk {
        let mut copies: Vec<(Inode, Inode)> = Vec::new();
        let mut copy = |inode: &Inode| {
            if let Some((_, copy)) = copies.iter().find(|(known, _)| Arc::ptr_eq(known, inode)) {
                return Arc::clone(copy);
            }
            let copy = Arc::new(Mutex::new(inode.lock().clone()));
            copies.push((Arc::clone(inode), Arc::clone(&copy)));
            copy
        };
        let mut copy_all = |names: &BTreeMap<String, Inode>| -> BTreeMap<String, Inode> {
            names.iter().map(|(name, inode)| (name.clone(), copy(inode))).collect()
        };
        let (names, durable) = (copy_all(&self.names), copy_all(&self.durable));
        let mut pending = self.pending.clone();
        for (_, inode) in pending.iter_mut().filter_map(|change| change.to.as_mut()) {
            *inode = copy(inode);
        }
        let next = State { names, durable, pending, folders: self.folders.clone(), ..State::default() };
        FaultyDisk { state: Arc::new(Mutex::new(next)) }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, Inode>) {
        if let Some(from) = &self.from {
            names.remove(from);
        }
        if let Some((to, inode)) = &self.to {
            names.insert(to.clone(), Arc::clone(inode));
        }
    }
}

impl Content {
    fn change(&mut self, change: DataChange) {
        change.apply(&mut self.bytes);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        self.durable = self.bytes.clone();
        self.pending.clear();
    }

    fn survivor(&self, loss: Loss, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let changes = self.pending.len() as u64;
        match loss {
            Loss::Kept => bytes = self.bytes.clone(),
            Loss::Lost => {}
            Loss::Torn => {
                let whole = dice.roll(changes + 1) as usize;
                self.pending[..whole].iter().for_each(|change| change.apply(&mut bytes));
                if let Some(DataChange::Write(at, next)) = self.pending.get(whole) {
                    write(&mut bytes, *at, &next[..dice.roll(next.len() as u64 + 1) as usize]);
                }
            }
            Loss::Reordered => match dice.roll(3) {
                0 => {}
                1 => bytes = self.bytes.clone(),
                _ => {
                    let hole = dice.roll(changes.max(1)) as usize;
                    for (number, change) in self.pending.iter().enumerate() {
                        match change {
                            // What was there before stays.
                            DataChange::Write(at, lost) if number == hole => {
                                bytes.resize(bytes.len().max(at + lost.len()), 0)
                            }
                            change => change.apply(&mut bytes),
                        }
                    }
                }
            },
        }
        bytes
    }
}

impl DataChange {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            DataChange::Write(at, more) => write(bytes, *at, more),
            DataChange::Truncate(len) => bytes.truncate(*len),
        }
    }
}

fn write(bytes: &mut Vec<u8>, at: usize, more: &[u8]) {
    let end = at + more.len();
    bytes.resize(bytes.len().max(end), 0);
    bytes[at..end].copy_from_slice(more);
}

/// Linux's number for an input/output error: what a failing fsync or read of a real disk gives.
const EIO: i32 = 5;

fn power_is_gone() -> io::Error {
    io::Error::other("the power is gone")
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no {name}"))
}

fn folder_of(name: &str) -> String {
    name.rsplit_once('/').map(|(folder, _)| folder.to_string()).unwrap_or_default()
}

impl Disk for FaultyDisk {
    fn create(&self, name: &str) -> io::Result<Box<dyn WriteFile>> {
        let mut state = self.state.lock();
        let folder = folder_of(name);
        if !folder.is_empty() && !state.folders.contains(&folder) {
            return Err(not_found(&folder));
        }
        let inode = match state.names.get(name).cloned() {
            Some(inode) => {
                state.step()?;
                inode.lock().change(DataChange::Truncate(0));
                inode
            }
            None => {
                let inode = Inode::default();
                let to = Some((name.to_string(), Arc::clone(&inode)));
                state.rename(NameChange { folder, from: None, to })?;
                inode
            }
        };
        Ok(Box::new(Writer { disk: self.clone(), inode, at: 0 }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn ReadFile>> {
        let state = self.state.lock();
        let inode = state.names.get(name).cloned().ok_or_else(|| not_found(name))?;
        let len = inode.lock().bytes.len() as u64;
        drop(state);
        Ok(Arc::new(Reader { disk: self.clone(), name: name.to_string(), inode, len }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        assert_eq!(folder_of(from), folder_of(to), "a rename across folders is not modelled");
        let mut state = self.state.lock();
        let inode = state.names.get(from).cloned().ok_or_else(|| not_found(from))?;
        let to = Some((to.to_string(), inode));
        state.rename(NameChange { folder: folder_of(from), from: Some(from.to_string()), to })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.names.contains_key(name) {
            return Err(not_found(name));
        }
        state.rename(NameChange { folder: folder_of(name), from: Some(name.to_string()), to: None })
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let inode = state.names.get(name).cloned().ok_or_else(|| not_found(name))?;
        state.step()?;
        inode.lock().change(DataChange::Truncate(len as usize));
        state.step_of_sync()?;
        inode.lock().sync();
        Ok(())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut state = self.state.lock();
        state.step()?;
        let inside = state.names.keys().filter(|name| folder_of(name) == folder);
        Ok(inside.map(|name| name.rsplit('/').next().unwrap_or(name).to_string()).collect())
    }

    fn list_folders(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut state = self.state.lock();
        state.step()?;
        let inside = state.folders.iter().filter(|name| folder_of(name) == folder);
        Ok(inside.map(|name| name.rsplit('/').next().unwrap_or(name).to_string()).collect())
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.step()?;
        let mut folder = folder.to_string();
        while !folder.is_empty() {
            let parent = folder_of(&folder);
            state.folders.insert(folder);
            folder = parent;
        }
        Ok(())
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        if !folder.is_empty() && !state.folders.contains(folder) {
            return Err(not_found(folder));
        }
        state.step_of_sync()?;
        let (done, pending): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.pending).into_iter().partition(|change| change.folder == folder);
        state.pending = pending;
        done.iter().for_each(|change| change.apply(&mut state.durable));
        Ok(())
    }

    fn describe(&self, name: &str) -> String {
        format!("disk:/{name}")
    }
}

struct Writer {
    disk: FaultyDisk,
    inode: Inode,
    at: usize,
}

impl Writer {
    /// Writes as much as there is space for, and counts it.
    fn write_at(&self, at: usize, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.state.lock();
        let outcome = state.step();
        if outcome.is_err() && !state.was_cut() {
            return outcome.map(|()| 0);
        }
        let number = state.writes;
        state.writes += 1;
        let mut content = self.inode.lock();
        if state.faults.failing_write == Some(number) {
            content.change(DataChange::Write(at, bytes[..bytes.len() / 2].to_vec()));
            return Err(io::Error::from_raw_os_error(EIO));
        }
        // What goes over other bytes takes no space.
        let inside = (content.bytes.len() - at).min(bytes.len());
        let more = bytes.len() - inside;
        let fitting = state.faults.space.map_or(more, |space| space.min(more));
        if let Some(space) = &mut state.faults.space {
            *space -= fitting;
        }
        let fitting = inside + fitting;
        if fitting == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        content.change(DataChange::Write(at, bytes[..fitting].to_vec()));
        outcome.map(|()| fitting)
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.write_at(self.at, bytes)?;
        self.at += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WriteFile for Writer {
    fn sync(&mut self) -> io::Result<()> {
        self.disk.state.lock().step_of_sync()?;
        self.inode.lock().sync();
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.disk.state.lock().step()?;
        self.inode.lock().change(DataChange::Truncate(len as usize));
        self.at = len as usize;
        Ok(())
    }

    fn make_room(&mut self, bytes: usize) -> io::Result<()> {
        let mut at = self.at;
        while at < self.at + bytes {
            at += self.write_at(at, &vec![0; self.at + bytes - at])?;
        }
        Ok(())
    }
}

struct Reader {
    disk: FaultyDisk,
    name: String,
    inode: Inode,
    len: u64,
}

impl ReadFile for Reader {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        {
            let mut state = self.disk.state.lock();
            let number = state.reads;
            state.reads += 1;
            if state.faults.failing_read == Some(number) {
                return Err(io::Error::from_raw_os_error(EIO));
            }
            if state.faults.unreadable.as_ref().is_some_and(|part| self.name.contains(part)) {
                return Err(io::Error::from_raw_os_error(EIO));
            }
        }
        let content = self.inode.lock();
        let part = content.bytes.get(offset as usize..offset as usize + len);
        part.map(Bytes::copy_from_slice).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

#[test]
fn a_power_cut_takes_what_was_not_synced() {
    let disk = FaultyDisk::new();
    disk.create_folder("a").unwrap();
    let mut file = disk.create("a/one").unwrap();
    file.write_all(b"safe").unwrap();
    file.sync().unwrap();
    file.write_all(b" not").unwrap();
    assert_eq!(disk.after_power_loss(0, Loss::Lost).files(), [""; 0], "the name was never synced");
    disk.sync_folder("a").unwrap();
    assert_eq!(disk.after_power_loss(0, Loss::Lost).read("a/one"), b"safe");
    assert_eq!(disk.after_power_loss(0, Loss::Kept).read("a/one"), b"safe not");
    disk.rename("a/one", "a/two").unwrap();
    assert_eq!(disk.after_power_loss(0, Loss::Lost).files(), ["a/one"]);
    // The death of the process alone makes nothing durable.
    let restarted = disk.after_power_loss(0, Loss::Kept);
    assert_eq!(restarted.read("a/two"), b"safe not");
    assert_eq!(restarted.after_power_loss(0, Loss::Lost).read("a/one"), b"safe");
    restarted.sync_folder("a").unwrap();
    assert_eq!(restarted.after_power_loss(0, Loss::Lost).read("a/two"), b"safe");
}

#[test]
fn torn_and_reordered_power_cuts_meet_every_outcome() {
    let disk = FaultyDisk::new();
    let mut file = disk.create("log").unwrap();
    disk.sync_folder("").unwrap();
    file.write_all(b"abc").unwrap();
    file.write_all(b"de").unwrap();
    disk.create("other").unwrap();
    let outcomes = |loss| -> BTreeSet<(Vec<u8>, usize)> {
        let after = |seed| disk.after_power_loss(seed, loss);
        (0..200).map(|seed| (after(seed).read("log"), after(seed).files().len())).collect()
    };
    let bytes = |loss| -> BTreeSet<Vec<u8>> { outcomes(loss).into_iter().map(|(bytes, _)| bytes).collect() };
    let expected: [&[u8]; 6] = [b"", b"a", b"ab", b"abc", b"abcd", b"abcde"];
    assert!(bytes(Loss::Torn).iter().eq(expected));
    let expected: [&[u8]; 4] = [b"", b"\0\0\0de", b"abc\0\0", b"abcde"];
    assert!(bytes(Loss::Reordered).iter().eq(expected));
    for loss in [Loss::Torn, Loss::Reordered] {
        let names: BTreeSet<usize> = outcomes(loss).into_iter().map(|(_, names)| names).collect();
        assert!(names.iter().eq(&[1, 2]), "{loss:?}");
    }
}

#[test]
fn a_full_disk_takes_what_fits() {
    let disk = FaultyDisk::new();
    let mut file = disk.create("log").unwrap();
    disk.full_after(4);
    let error = file.write_all(b"abcdef").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(disk.is_full());
    assert_eq!(disk.read("log"), b"abcd");
    disk.free_space();
    file.write_all(b"ef").unwrap();
    assert_eq!(disk.read("log"), b"abcdef");
}

#[test]
fn a_removed_file_stays_readable_for_those_who_have_it() {
    let disk = FaultyDisk::new();
    disk.put("one", b"here".to_vec());
    let reader = disk.open("one").unwrap();
    disk.remove("one").unwrap();
    assert_eq!(&reader.read_at(0, 4).unwrap()[..], b"here");
    assert!(disk.open("one").is_err());
}
