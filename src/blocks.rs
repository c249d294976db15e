//! Immutable Parquet files: the list of the live ones, opened when first read.
//!
//! Invariant: a [`BlockFile`] that a reader holds stays readable, also after compaction has removed it. A file is named
//! by the manifest only after it and its folder were synced.
//! Not here: what rows mean together (`scan`), when files are made (`flush`) or merged (`compact`).

use std::collections::HashMap;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::array::ArrayRef;
use bytes::{Buf, Bytes};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use roaring::RoaringBitmap;
use storage_format::block::BlockKind;
use storage_format::block::{
    Block, BlockError, BlockMeta, BlockSchema, BlockSummary, BlockWriter, RowFault, SeriesIndex,
};
use storage_format::manifest::BlockEntry;
use storage_format::point::{TagSet, Time, TimeRange};

use crate::disk::{Disk, ReadFile, TEMPORARY, WriteFile};
use crate::error::{Error, Result};
use crate::rows::Rows;
use crate::series::TagPostings;

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

pub struct BlockFile {
    pub entry: BlockEntry,
    disk: Arc<dyn Disk>,
    opened: OnceLock<Opened>,
}

struct Opened {
    block: Block,
    file: Arc<dyn ReadFile>,
}

impl BlockList {
    pub fn new(disk: &Arc<dyn Disk>, entries: Vec<BlockEntry>) -> BlockList {
        let mut list = BlockList::default();
        entries.into_iter().for_each(|entry| list.insert(Arc::new(BlockFile::new(disk, entry))));
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

    /// Takes over the files that the older list has too, with what has been read of them.
    pub fn keep_open(&mut self, older: &BlockList) {
        for (key, files) in &mut self.by_table {
            for file in files {
                let same = older.of(key).iter().find(|other| other.entry == file.entry);
                if let Some(same) = same {
                    *file = Arc::clone(same);
                }
            }
        }
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

    pub fn entries(&self) -> Vec<BlockEntry> {
        let mut entries: Vec<BlockEntry> =
            self.by_table.values().flatten().map(|file| file.entry.clone()).collect();
        entries.sort_by_key(|entry| entry.id);
        entries
    }
}

impl BlockFile {
    pub fn new(disk: &Arc<dyn Disk>, entry: BlockEntry) -> BlockFile {
        BlockFile { entry, disk: Arc::clone(disk), opened: OnceLock::new() }
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

    /// Footer and series index, read once.
    pub fn block(&self) -> Result<&Block> {
        Ok(&self.opened()?.block)
    }

    fn opened(&self) -> Result<&Opened> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let name = self.name();
        let file = self.disk.open(&name).map_err(|source| self.io("open", source))?;
        let block = Block::open(&Reader(Arc::clone(&file))).map_err(|error| self.error(error))?;
        self.check_identity(&block)?;
        Ok(self.opened.get_or_init(|| Opened { block, file }))
    }

    /// A sound block may still be another one, put under this name by a hand or a bad disk.
    fn check_identity(&self, block: &Block) -> Result<()> {
        let (meta, entry) = (block.meta(), &self.entry);
        let found = (meta.kind, meta.database.as_str(), meta.table.as_str(), meta.seq_min, meta.seq_max);
        let named = (entry.kind, entry.database.as_str(), entry.table.as_str(), entry.seq_min, entry.seq_max);
        let same_place = meta.partition == entry.partition.into() && block.rows() == entry.rows;
        if found == named && same_place && block.time() == self.time() {
            return Ok(());
        }
        let what = "it is a sound block, but not the one that the manifest names so".to_string();
        Err(Error::Corrupt { file: self.disk.describe(&self.name()), offset: 0, what })
    }

    /// The rows of the ranges (ascending, disjoint), joined, with the fields by name; a field that the block does not
    /// have is None.
    pub fn read(&self, fields: &[&str], rows: &[Range<u64>]) -> Result<Rows> {
        let opened = self.opened()?;
        let schema = opened.block.schema();
        let places: Vec<Option<usize>> =
            fields.iter().map(|name| schema.fields.iter().position(|field| field.name == *name)).collect();
        let present: Vec<usize> = places.iter().flatten().copied().collect();
        let read = opened
            .block
            .read(Reader(Arc::clone(&opened.file)), &present, rows)
            .map_err(|error| self.error(error))?;
        let mut arrays = read.columns.into_iter();
        let columns: Vec<Option<ArrayRef>> =
            places.iter().map(|place| place.and_then(|_| arrays.next())).collect();
        Ok(Rows { times: read.times, columns })
    }

    /// Reads everything: each byte against its checksum, each row against the series index, the file against its entry.
    pub fn check(&self) -> Result<()> {
        let opened = self.opened()?;
        let damaged = |offset: u64, what: String| {
            Err(Error::Corrupt { file: self.disk.describe(&self.name()), offset, what })
        };
        if opened.file.len() != self.entry.bytes {
            let (found, named) = (opened.file.len(), self.entry.bytes);
            return damaged(found.min(named), format!("it has {found} bytes, and the manifest says {named}"));
        }
        let reader = || Reader(Arc::clone(&opened.file));
        opened.block.verify(&reader()).map_err(|error| self.error(error))?;
        match opened.block.audit(reader()).map_err(|error| self.error(error))? {
            Some(RowFault { row, what }) => damaged(0, format!("row {row} is wrong: {what}")),
            None => Ok(()),
        }
    }

    fn error(&self, error: BlockError) -> Error {
        match error {
            BlockError::Corrupt(damage) => Error::corrupt(self.disk.describe(&self.name()), damage),
            BlockError::Io(source) => self.io("read", source),
            BlockError::Parquet { what } => {
                Error::Corrupt { file: self.disk.describe(&self.name()), offset: 0, what }
            }
        }
    }

    fn io(&self, doing: &'static str, source: io::Error) -> Error {
        Error::io(doing, self.disk.describe(&self.name()), source)
    }
}

/// The entry of a block that no manifest names, as the file itself tells it.
pub fn entry_of(disk: &Arc<dyn Disk>, file: &str) -> Result<BlockEntry> {
    let name = format!("{FOLDER}/{file}");
    let opened = disk.open(&name).map_err(|source| Error::io("open", disk.describe(&name), source))?;
    let block = Block::open(&Reader(Arc::clone(&opened))).map_err(|error| Error::Corrupt {
        file: disk.describe(&name),
        offset: 0,
        what: error.to_string(),
    })?;
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
        bytes: opened.len(),
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
/// `entry` says everything but what only the rows tell: time, rows, series, bytes.
pub fn write_block(
    disk: &Arc<dyn Disk>,
    entry: BlockEntry,
    schema: BlockSchema,
    level: i32,
    fill: impl FnOnce(&mut NewBlock) -> Result<()>,
) -> Result<Option<BlockEntry>> {
    let temporary = temporary_name(&entry);
    let write = || {
        let mut block = NewBlock::create(disk, entry, schema, level)?;
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
    fn create(disk: &Arc<dyn Disk>, entry: BlockEntry, schema: BlockSchema, level: i32) -> Result<NewBlock> {
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
            BlockWriter::new(file, schema, &meta, level).map_err(|error| write_error(disk, &name, error))?;
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

/// The number in a block's file name.
pub fn number_of(file: &str) -> Option<u64> {
    let (_, number) = file.strip_suffix(".parquet")?.rsplit_once('-')?;
    u64::from_str_radix(number, 16).ok()
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
