//! Immutable Parquet files: the list of the live ones, opened when they are read.
//!
//! Invariant: a [`BlockFile`] that a reader holds stays readable, also after compaction has replaced it: its file is
//! removed when the last of them lets go. A file is named
//! by the manifest only after it and its folder were synced.
//! Not here: what rows mean together (`scan`), when files are made (`flush`) or merged (`compact`).

mod store;

use std::collections::HashMap;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::ArrayRef;
use bytes::{Buf, Bytes};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use roaring::RoaringBitmap;
use storage_format::block::BlockKind;
use storage_format::block::{
    BlockError, BlockMeta, BlockSchema, BlockSummary, BlockWriter, Effort, SeriesIndex,
};
use storage_format::manifest::BlockEntry;
use storage_format::point::{SeriesOrder, TagSet, Time, TimeRange};

use crate::disk::{Disk, ReadFile, TEMPORARY, WriteFile};
use crate::error::{Error, Result};
use crate::rows::Rows;
use crate::series::METRICS_TABLE;
use crate::series::Table;
use crate::series::TagPostings;

pub use store::{BlockPiece, BlockStore, OpenBlock};

pub const FOLDER: &str = "blocks";

/// The live blocks, by what they hold. Replaced as a whole at every commit.
#[derive(Clone, Default)]
pub struct BlockList {
    by_table: HashMap<TableKey, Vec<Arc<BlockFile>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableKey {
    pub kind: BlockKind,
    pub database: Arc<str>,
    pub table: Arc<str>,
}

impl TableKey {
    /// Of a table's raw points.
    pub fn points(table: &Table) -> TableKey {
        TableKey {
            kind: BlockKind::Points,
            database: Arc::clone(&table.database),
            table: Arc::clone(&table.name),
        }
    }

    /// In which order its series stand, in blocks and so in scans. The only place that says which tables are of metrics:
    /// there a query asks for one metric nearly always, whose rows should be neighbours. A rollup of metrics is a table as
    /// any other.
    pub fn series_order(&self) -> SeriesOrder {
        match self.kind == BlockKind::Points && *self.table == *METRICS_TABLE {
            true => SeriesOrder::Name,
            false => SeriesOrder::Tags,
        }
    }
}

pub struct BlockFile {
    pub entry: BlockEntry,
    store: Arc<BlockStore>,
    /// Replaced or expired: the file goes when the last one lets go of it.
    retired: AtomicBool,
}

impl BlockList {
    pub fn new(store: &Arc<BlockStore>, entries: Vec<BlockEntry>) -> BlockList {
        let mut list = BlockList::default();
        entries.into_iter().for_each(|entry| list.insert(Arc::new(BlockFile::new(store, entry))));
        list
    }

    pub fn insert(&mut self, file: Arc<BlockFile>) {
        let key = TableKey {
            kind: file.entry.kind,
            database: file.entry.database.as_str().into(),
            table: file.entry.table.as_str().into(),
        };
        let files = self.by_table.entry(key).or_default();
        let place = files.partition_point(|other| other.rank() < file.rank());
        files.insert(place, file);
    }

    pub fn remove(&mut self, ids: &[u64]) {
        for files in self.by_table.values_mut() {
            files.retain(|file| !ids.contains(&file.entry.id));
        }
        self.by_table.retain(|_, files| !files.is_empty());
    }

    /// A table's blocks, in the order in which their rows win, the last one last.
    pub fn of(&self, key: &TableKey) -> &[Arc<BlockFile>] {
        self.by_table.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    pub fn tables(&self) -> impl Iterator<Item = (&TableKey, &[Arc<BlockFile>])> {
        self.by_table.iter().map(|(key, files)| (key, files.as_slice()))
    }

    pub fn files(&self) -> Vec<Arc<BlockFile>> {
        self.by_table.values().flatten().cloned().collect()
    }

    pub fn entries(&self) -> Vec<BlockEntry> {
        let mut entries: Vec<BlockEntry> =
            self.by_table.values().flatten().map(|file| file.entry.clone()).collect();
        entries.sort_by_key(|entry| entry.id);
        entries
    }
}

impl BlockFile {
    pub fn new(store: &Arc<BlockStore>, entry: BlockEntry) -> BlockFile {
        BlockFile { entry, store: Arc::clone(store), retired: AtomicBool::new(false) }
    }

    /// One that is read once: its index is kept for nobody.
    pub fn alone(disk: &Arc<dyn Disk>, entry: BlockEntry) -> BlockFile {
        BlockFile::new(&BlockStore::new(Arc::clone(disk), 0, 0), entry)
    }

    pub fn time(&self) -> TimeRange {
        self.entry.time.into()
    }

    /// Which of two blocks' rows win where they meet: the greater one's. The number decides between blocks of one commit.
    pub fn rank(&self) -> (u64, u64) {
        (self.entry.seq_max, self.entry.id)
    }

    fn name(&self) -> String {
        format!("{FOLDER}/{}", self.entry.file)
    }

    /// The block with footer and series index read, and its file open for as long as the caller holds it.
    pub fn block(&self) -> Result<Arc<OpenBlock>> {
        self.store.get(self.entry.id, || {
            let opened = OpenBlock::open(&self.store.disk, &self.name())?;
            self.check_identity(&opened)?;
            Ok(opened)
        })
    }

    /// A sound block may still be another one, put under this name by a hand or a bad disk.
    fn check_identity(&self, block: &OpenBlock) -> Result<()> {
        let (meta, entry) = (block.meta(), &self.entry);
        let found = (meta.kind, meta.database.as_str(), meta.table.as_str(), meta.seq_min, meta.seq_max);
        let named = (entry.kind, entry.database.as_str(), entry.table.as_str(), entry.seq_min, entry.seq_max);
        let same_place = meta.partition == entry.partition.into() && block.rows() == entry.rows;
        if found == named && same_place && block.time() == self.time() {
            return Ok(());
        }
        let what = "it is a sound block, but not the one that the manifest names so".to_string();
        Err(Error::Corrupt { file: block.name().to_string(), offset: 0, what })
    }

    /// Whether decoded pages of so many bytes are worth keeping for the next query.
    pub fn may_keep(&self, bytes: u64) -> bool {
        self.store.may_keep(bytes)
    }

    /// Whole pages that hold these rows (ascending, disjoint ranges), decoded now or for a query before.
    pub fn read_pages(
        &self,
        block: &OpenBlock,
        fields: &[&str],
        rows: &[Range<u64>],
    ) -> Result<Vec<BlockPiece>> {
        self.store.read_pages(self.entry.id, block, fields, rows)
    }

    /// The last row of each series, in their order; kept for the queries after. None where they are not known yet and
    /// not to be `read`, or take too much. `check` is asked now and then whether to go on.
    pub fn newest(
        &self,
        block: &OpenBlock,
        fields: &[&str],
        read: bool,
        check: &(dyn Fn() -> Result<()> + Sync),
    ) -> Result<Option<Rows>> {
        self.store.newest(self.entry.id, block, fields, read, check)
    }

    /// Counts what answering from its index has added to an open block.
    pub fn weigh(&self, block: &Arc<OpenBlock>) {
        self.store.weigh(self.entry.id, block);
    }

    /// Reads everything: each byte against its checksum, each row against the series index, the file against its entry.
    pub fn check(&self) -> Result<()> {
        self.block()?.check(&self.entry)
    }

    /// No manifest names it any more. Those who hold it may go on reading, also for the first time.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }
}

impl Drop for BlockFile {
    fn drop(&mut self) {
        if self.retired.load(Ordering::Relaxed) {
            self.store.forget(self.entry.id);
            remove(&*self.store.disk, &self.entry);
        }
    }
}

/// Removes the file of a block that no manifest names.
pub fn remove(disk: &dyn Disk, entry: &BlockEntry) {
    let name = format!("{FOLDER}/{}", entry.file);
    if let Err(error) = disk.remove(&name) {
        tracing::warn!(file = %disk.describe(&name), %error, "a block that is no longer needed could not be removed; the next start will");
    }
}

/// The entry of a block that no manifest names, as the file itself tells it.
pub fn entry_of(disk: &Arc<dyn Disk>, file: &str) -> Result<BlockEntry> {
    let name = format!("{FOLDER}/{file}");
    let block = OpenBlock::open(disk, &name)?;
    let id = block_number(file).ok_or_else(|| Error::Corrupt {
        file: disk.describe(&name),
        offset: 0,
        what: "its name does not end in the number of a block".to_string(),
    })?;
    let meta = block.meta();
    Ok(BlockEntry {
        id,
        file: file.to_string(),
        database: meta.database.clone(),
        table: meta.table.clone(),
        kind: meta.kind,
        partition: meta.partition.into(),
        time: block.time().into(),
        seq_min: meta.seq_min,
        seq_max: meta.seq_max,
        rows: block.rows(),
        series: block.series_count() as u64,
        bytes: block.bytes(),
    })
}

/// The number in the name that [`file_name`] made.
pub fn block_number(file: &str) -> Option<u64> {
    let (_, number) = file.strip_suffix(".parquet")?.rsplit_once('-')?;
    u64::from_str_radix(number, 16).ok()
}

/// The files below the folder of blocks, as the manifest names them.
pub fn files(disk: &dyn Disk) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for database in disk.list_folders(FOLDER)? {
        for table in disk.list_folders(&format!("{FOLDER}/{database}"))? {
            let files = disk.list(&format!("{FOLDER}/{database}/{table}"))?;
            found.extend(files.into_iter().map(|file| format!("{database}/{table}/{file}")));
        }
    }
    Ok(found)
}

/// Writes one block: `fill` pushes its series. The file has its name only once it is whole and durable; if anything fails,
/// nothing of it is left, because a full disk is when room matters. None, and no file, if there are no rows.
///
/// `entry` says everything but what only the rows tell: time, rows, series, bytes. Encoded rows wait in about `memory_max`
/// until their row group is written.
pub fn write_block(
    disk: &Arc<dyn Disk>,
    entry: BlockEntry,
    schema: BlockSchema,
    effort: Effort,
    memory_max: usize,
    fill: impl FnOnce(&mut NewBlock) -> Result<()>,
) -> Result<Option<BlockEntry>> {
    let temporary = temporary_name(&entry);
    let write = || {
        let mut block = NewBlock::create(disk, entry, schema, effort)?;
        block.writer.limit_group_bytes(memory_max);
        fill(&mut block)?;
        block.finish()
    };
    let written = write();
    if written.is_err() {
        // Whether it was ever made or is renamed by now, the next start looks again.
        drop(disk.remove(&temporary));
    }
    written
}

/// A block that is being written under a temporary name.
pub struct NewBlock {
    disk: Arc<dyn Disk>,
    entry: BlockEntry,
    writer: BlockWriter<Box<dyn WriteFile>>,
}

impl NewBlock {
    fn create(
        disk: &Arc<dyn Disk>,
        entry: BlockEntry,
        schema: BlockSchema,
        effort: Effort,
    ) -> Result<NewBlock> {
        let meta = BlockMeta {
            database: entry.database.clone(),
            table: entry.table.clone(),
            kind: entry.kind,
            seq_min: entry.seq_min,
            seq_max: entry.seq_max,
            partition: entry.partition.into(),
            created_by: env!("CARGO_PKG_VERSION").to_string(),
        };
        let name = temporary_name(&entry);
        let create = || {
            disk.create_folder(&folder_of(&entry))?;
            disk.create(&name)
        };
        let file = create().map_err(|source| Error::io("create", disk.describe(&name), source))?;
        let writer =
            BlockWriter::new(file, schema, &meta, effort).map_err(|error| write_error(disk, &name, error))?;
        Ok(NewBlock { disk: Arc::clone(disk), entry, writer })
    }

    pub fn push_series(&mut self, tags: &TagSet, times: &[Time], columns: &[Option<ArrayRef>]) -> Result<()> {
        let written = self.writer.push_series(tags, times, columns);
        written.map_err(|error| write_error(&self.disk, &temporary_name(&self.entry), error))
    }

    fn finish(self) -> Result<Option<BlockEntry>> {
        let NewBlock { disk, mut entry, writer } = self;
        let temporary = temporary_name(&entry);
        let (mut file, summary): (Box<dyn WriteFile>, BlockSummary) =
            writer.finish().map_err(|error| write_error(&disk, &temporary, error))?;
        let name = format!("{FOLDER}/{}", entry.file);
        let end = || -> io::Result<bool> {
            file.flush()?;
            if summary.rows == 0 {
                drop(file);
                disk.remove(&temporary)?;
                return Ok(false);
            }
            file.sync()?;
            disk.rename(&temporary, &name)?;
            disk.sync_folder(&folder_of(&entry))?;
            Ok(true)
        };
        let kept = end().map_err(|source| Error::io("write", disk.describe(&temporary), source))?;
        entry.time = summary.time.into();
        entry.rows = summary.rows;
        entry.series = summary.series;
        entry.bytes = summary.bytes;
        Ok(kept.then_some(entry))
    }
}

fn write_error(disk: &Arc<dyn Disk>, name: &str, error: BlockError) -> Error {
    let source = match error {
        BlockError::Io(source) => source,
        other => io::Error::other(other.to_string()),
    };
    Error::io("write", disk.describe(name), source)
}

fn folder_of(entry: &BlockEntry) -> String {
    let folder = entry.file.rsplit_once('/').map(|(folder, _)| folder).unwrap_or_default();
    format!("{FOLDER}/{folder}")
}

fn temporary_name(entry: &BlockEntry) -> String {
    format!("{FOLDER}/{}.{TEMPORARY}", entry.file)
}

/// `default/cpu/2026-11-23T20-000000000000002a.parquet`: a person finds the table and the day, and no two blocks
/// ever have the same name.
pub fn file_name(database: &str, table: &str, partition: TimeRange, id: u64) -> String {
    let start = match query_lang::time::format_time(partition.start).get(..13) {
        Some(hour) => hour.to_string(),
        None => partition.start.to_string(),
    };
    format!("{}/{}/{start}-{id:016x}.parquet", escape(database), escape(table))
}

/// Bytes of a folder's name; file systems take 255.
const FOLDER_BYTES_MAX: usize = 200;

/// A name as one path component: letters, digits, `_` and `-` stand for themselves. Long names are cut, so that two of
/// them may share a folder: files are told apart by their numbers, and the manifest says what each one holds.
fn escape(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes() {
        if escaped.len() >= FOLDER_BYTES_MAX {
            break;
        }
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// The Parquet crate's door to our files.
struct Reader(Arc<dyn ReadFile>);

impl Length for Reader {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for Reader {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        let len = self.0.len().saturating_sub(start) as usize;
        Ok(self.get_bytes(start, len)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        self.0.read_at(start, length).map_err(|error| ParquetError::External(Box::new(error)))
    }
}

impl TagPostings for SeriesIndex {
    fn all(&self) -> RoaringBitmap {
        SeriesIndex::all(self)
    }

    fn having(&self, tag: &str) -> RoaringBitmap {
        SeriesIndex::having(self, tag)
    }

    fn equal(&self, tag: &str, value: &str) -> RoaringBitmap {
        self.postings(tag, value)
    }

    fn passing(&self, tag: &str, test: &dyn Fn(&str) -> bool) -> RoaringBitmap {
        self.matching(tag, test)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use arrow::array::Int64Array;
    use arrow::datatypes::DataType;
    use storage_format::block::{BlockField, TagLayout};
    use storage_format::manifest::Range;

    use super::*;
    use crate::disk::LocalDisk;

    /// A block of one series with two rows.
    fn block(disk: &Arc<dyn Disk>, id: u64) -> BlockEntry {
        let partition = TimeRange::new(0, 10);
        let entry = BlockEntry {
            id,
            file: file_name("default", "cpu", partition, id),
            database: "default".to_string(),
            table: "cpu".to_string(),
            kind: BlockKind::Points,
            partition: partition.into(),
            time: Range(0, 0),
            seq_min: id,
            seq_max: id,
            rows: 0,
            series: 0,
            bytes: 0,
        };
        let fields = vec![BlockField { name: "n".to_string(), data_type: DataType::Int64 }];
        let schema = BlockSchema { tags: vec!["host".to_string()], layout: TagLayout::Columns, fields };
        let fill = |block: &mut NewBlock| {
            let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
            block.push_series(&TagSet::new([("host", "a")]), &[1, 2], &[Some(values)])
        };
        write_block(disk, entry, schema, Effort::Flush, usize::MAX, fill).unwrap().unwrap()
    }

    fn disk() -> (tempfile::TempDir, Arc<dyn Disk>) {
        let folder = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(LocalDisk::open(folder.path()).unwrap());
        (folder, disk)
    }

    #[test]
    fn a_replaced_block_can_be_opened_by_whoever_holds_it() {
        let (_folder, disk) = disk();
        let store = BlockStore::new(Arc::clone(&disk), 1 << 20, 0);
        let entry = block(&disk, 1);
        let folder = format!("{FOLDER}/default/cpu");
        let mut list = BlockList::new(&store, vec![entry]);
        let held = list.tables().next().unwrap().1[0].clone();
        list.remove(&[1]);
        held.retire();
        assert_eq!(held.block().unwrap().rows(), 2, "not opened before");
        assert_eq!(disk.list(&folder).unwrap().len(), 1);
        drop(held);
        assert_eq!(disk.list(&folder).unwrap(), Vec::<String>::new());
        assert_eq!(store.memory_bytes(), 0);
    }

    #[test]
    fn open_blocks_stay_within_their_limit_and_are_shared() {
        let (_folder, disk) = disk();
        let entries: Vec<BlockEntry> = (1..=40).map(|id| block(&disk, id)).collect();
        let limit = 256 << 10;
        let store = BlockStore::new(Arc::clone(&disk), limit, 0);
        let list = BlockList::new(&store, entries);
        let files = list.tables().next().unwrap().1.to_vec();
        let held = files[0].block().unwrap();
        assert!(Arc::ptr_eq(&held, &files[0].block().unwrap()), "opened once");
        let mut seen = BTreeSet::new();
        for file in files.iter().cycle().take(3 * files.len()) {
            seen.insert(file.block().unwrap().meta().seq_max);
            assert!(store.memory_bytes() <= limit);
        }
        assert_eq!(seen.len(), files.len());
        assert!(store.memory_bytes() > limit / 2, "the limit is used");
        let rows = held.read(&["n"], std::slice::from_ref(&(0..2))).unwrap();
        assert_eq!(&rows.times[..], [1, 2], "whoever holds a block reads on");
    }
}
