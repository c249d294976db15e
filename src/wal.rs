//! Batches made durable, in order: the write-ahead log.
//!
//! Invariant: [`Wal::sync`] returning means that everything appended before it survives a power cut. After a failed
//! fsync nobody knows what the disk holds, so every later append is refused until restart; after a failed write
//! (a full disk) the torn bytes are cut off and appending may go on.
//! The current segment ends in room for the next records: to write over zeros and sync takes half the processor's time of
//! growing a file and syncing, and half the wait.
//! Not here: the bytes (`storage_format::wal`), who waits for the fsync and what happens after it (`db`).

mod replay;

use std::collections::HashMap;
use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

use roaring::RoaringBitmap;
use storage_format::wal as format;

use crate::batch::Batch;
use crate::disk::{Disk, WriteFile};
use crate::error::{Error, Kind, Result};
use crate::series::Table;

pub use replay::{Damage, Entry, Replayed, replay};

pub struct Wal {
    disk: Arc<dyn Disk>,
    folder: String,
    segment_bytes_max: usize,
    next_seq: u64,
    /// Complete segments, oldest first.
    old: VecDeque<SegmentInfo>,
    current: Segment,
    /// Encoded records not yet written.
    pending: Vec<u8>,
    /// What `pending` has not counted: sequences that are refused are taken by the next writes, so that a gap is damage.
    before_pending: Counted,
    poisoned: Option<Error>,
    /// How many hold all segments as they are, for a copy.
    holders: usize,
}

#[derive(Clone, Copy)]
struct Counted {
    next_seq: u64,
    seq_min: u64,
    seq_max: u64,
}

/// The log's files up to what is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    pub folder: String,
    /// Number and length of each segment, oldest first.
    pub segments: Vec<(u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    pub number: u64,
    pub bytes: u64,
    /// The lowest and the highest sequence in it; none if the lowest is above the highest.
    pub seq_min: u64,
    pub seq_max: u64,
}

struct Segment {
    number: u64,
    /// None before the first append: an idle server makes no files.
    file: Option<Box<dyn WriteFile>>,
    written: u64,
    /// Zeros after what is written.
    room: usize,
    seq_min: u64,
    seq_max: u64,
    /// Tables, with the columns and series of each, that the segment has defined.
    defined: HashMap<u32, Defined>,
}

#[derive(Default)]
struct Defined {
    columns: usize,
    series: RoaringBitmap,
}

/// Room that is made at once: as much as the segment holds, within these bounds. So a server with little to write writes little more,
/// and no write waits for more than a fast disk writes in a millisecond.
const ROOM_MIN: u64 = 64 << 10;
const ROOM_MAX: u64 = 1 << 20;

/// The file of a segment.
pub fn segment_name(folder: &str, number: u64) -> String {
    format!("{folder}/{number:016x}.wal")
}

/// The opposite of [`segment_name`], of a name without the folder.
pub fn segment_number(file: &str) -> Option<u64> {
    u64::from_str_radix(file.strip_suffix(".wal")?, 16).ok()
}

/// The body of a points record, but for its sequence: done by each writer, before the log's single thread.
pub fn encode_points(batch: &Batch) -> Vec<u8> {
    let mut body = Vec::with_capacity(SEQ_BYTES + batch.rows() * 8 + batch.values() * 4);
    body.extend_from_slice(&[0; SEQ_BYTES]);
    let some_late = batch.has_late();
    for part in &batch.parts {
        if some_late {
            body.push(u8::from(part.late));
        }
        part.points.encode(&mut body, part.table.id, &part.table.column_types());
    }
    body
}

const SEQ_BYTES: usize = size_of::<u64>();

impl Wal {
    pub fn new(disk: Arc<dyn Disk>, folder: &str, segment_bytes_max: usize, replayed: &Replayed) -> Wal {
        let current = Segment::new(replayed.next_number);
        let next_seq = replayed.next_seq;
        Wal {
            disk,
            folder: folder.to_string(),
            segment_bytes_max,
            next_seq,
            old: replayed.segments.iter().cloned().collect(),
            before_pending: Counted { next_seq, seq_min: current.seq_min, seq_max: current.seq_max },
            current,
            pending: Vec::new(),
            poisoned: None,
            holders: 0,
        }
    }

    /// Keeps every segment where it is until [`Wal::release`], and says how far they are durable: nobody appends while
    /// the caller has the lock.
    pub fn hold(&mut self) -> Extent {
        self.holders += 1;
        let old = self.old.iter().map(|segment| (segment.number, segment.bytes));
        let current = self.current.file.iter().map(|_| (self.current.number, self.current.written));
        Extent { folder: self.folder.clone(), segments: old.chain(current).collect() }
    }

    pub fn release(&mut self) {
        self.holders -= 1;
    }

    /// Adds a batch whose points [`encode_points`] has encoded. Returns its sequence. Not durable before [`Wal::sync`].
    pub fn append_points(&mut self, batch: &Batch, mut body: Vec<u8>) -> u64 {
        let seq = self.take_seq();
        body[..SEQ_BYTES].copy_from_slice(&seq.to_le_bytes());
        let mut definitions = Vec::new();
        for part in &batch.parts {
            self.current.define(&mut definitions, &part.table, part.points.rows.iter().map(|row| row.series));
        }
        if !definitions.is_empty() {
            format::encode_record(&mut self.pending, format::Kind::Definitions, &definitions);
        }
        let kind = if batch.has_late() { format::Kind::PointsSomeLate } else { format::Kind::Points };
        format::encode_record(&mut self.pending, kind, &body);
        seq
    }

    pub fn append_delete(&mut self, database: &str, statement: &str) -> u64 {
        let seq = self.take_seq();
        let mut body = Vec::new();
        format::Delete { seq, database, statement }.encode(&mut body);
        format::encode_record(&mut self.pending, format::Kind::Delete, &body);
        seq
    }

    /// Why nothing can be written until a restart.
    pub fn poison_reason(&self) -> Option<String> {
        self.poisoned.as_ref().map(ToString::to_string)
    }

    /// Writes and fsyncs what was appended since the last call.
    pub fn sync(&mut self) -> Result<()> {
        if let Some(poison) = &self.poisoned {
            self.pending.clear();
            return Err(poison.duplicate());
        }
        let written = self.write_pending();
        self.pending.clear();
        written?;
        if self.current.written >= self.segment_bytes_max as u64 {
            self.rotate();
        }
        self.count();
        Ok(())
    }

    /// The next record begins another segment, so that this one can be removed once its points are in blocks. To be called
    /// when nothing waits for a sync.
    pub fn end_segment(&mut self) {
        self.rotate();
        self.count();
    }

    /// What was appended until now counts.
    fn count(&mut self) {
        let Segment { seq_min, seq_max, .. } = self.current;
        self.before_pending = Counted { next_seq: self.next_seq, seq_min, seq_max };
    }

    /// What was appended since the last sync is not in the log and never was.
    fn uncount(&mut self) {
        let Counted { next_seq, seq_min, seq_max } = self.before_pending;
        self.next_seq = next_seq;
        (self.current.seq_min, self.current.seq_max) = (seq_min, seq_max);
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.old.iter().map(|segment| segment.bytes).sum::<u64>() + self.current.written
    }

    /// The lowest sequence in the log.
    pub fn first_seq(&self) -> u64 {
        let old = self.old.iter().map(|segment| segment.seq_min);
        old.chain([self.current.seq_min]).min().unwrap_or(u64::MAX)
    }

    /// The highest sequence of the oldest complete segment: what must be flushed for it to go.
    pub fn oldest_seq_max(&self) -> Option<u64> {
        self.old.front().map(|segment| segment.seq_max)
    }

    /// Removes the segments all of whose points have a sequence below `seq`, oldest first; stops at the first that
    /// must stay. A segment counts as there until its removal is durable: what keeps its points from being replayed
    /// over newer ones may be forgotten only then.
    pub fn truncate_below(&mut self, seq: u64) -> Result<()> {
        if self.current.seq_max > 0
            && self.current.seq_max < seq
            && self.current.written > self.segment_bytes_max as u64 / 2
        {
            self.end_segment();
        }
        if self.holders > 0 {
            return Ok(());
        }
        let gone = self.old.iter().take_while(|segment| segment.seq_max < seq).count();
        if gone == 0 {
            return Ok(());
        }
        for segment in self.old.iter().take(gone) {
            let name = segment_name(&self.folder, segment.number);
            match self.disk.remove(&name) {
                // An earlier call removed it and then failed.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                outcome => outcome.map_err(|source| self.io("remove", &name, source))?,
            }
        }
        let synced = self.disk.sync_folder(&self.folder);
        synced.map_err(|source| self.io("sync", &self.folder, source))?;
        self.old.drain(..gone);
        Ok(())
    }

    fn take_seq(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.current.seq_max = seq;
        self.current.seq_min = self.current.seq_min.min(seq);
        seq
    }

    fn write_pending(&mut self) -> Result<()> {
        let name = segment_name(&self.folder, self.current.number);
        let created = match self.current.file {
            Some(_) => false,
            None => {
                self.current.file = Some(self.create_segment(&name)?);
                true
            }
        };
        let file = self.current.file.as_mut().expect("created above");
        if let Err(source) = file.write_all(&self.pending).and_then(|()| file.flush()) {
            let error = Error::io("write to", self.disk.describe(&name), source);
            return Err(self.take_back(error));
        }
        let written = self.current.written + self.pending.len() as u64;
        self.current.room = self.current.room.saturating_sub(self.pending.len());
        if self.current.room == 0 {
            let wanted = written.clamp(ROOM_MIN, ROOM_MAX);
            let wanted = wanted.min((self.segment_bytes_max as u64).saturating_sub(written)) as usize;
            // Without it, because the disk is full, a write costs more; what else is wrong with the disk the sync will say.
            if wanted > 0 && file.make_room(wanted).is_ok() {
                self.current.room = wanted;
            }
        }
        let synced =
            file.sync().and_then(|()| if created { self.disk.sync_folder(&self.folder) } else { Ok(()) });
        if let Err(source) = synced {
            return Err(self.poison(&name, source));
        }
        self.current.written = written;
        Ok(())
    }

    fn create_segment(&mut self, name: &str) -> Result<Box<dyn WriteFile>> {
        let mut header = Vec::new();
        format::encode_segment_header(&mut header, self.current.number);
        let create = || {
            self.disk.create_folder(&self.folder)?;
            let mut file = self.disk.create(name)?;
            file.write_all(&header)?;
            Ok(file)
        };
        let file = create().map_err(|source| self.io("create", name, source));
        match file {
            Ok(file) => {
                self.current.written = header.len() as u64;
                Ok(file)
            }
            Err(error) => {
                // Whatever is there of it is shorter than a header, or has no records: the next try replaces it.
                self.uncount();
                self.current.defined.clear();
                Err(error)
            }
        }
    }

    /// After a failed write: cuts the segment to its last good length, for good, because the sequences that were refused
    /// are taken again; and begins another, whose definitions start afresh, because
    /// those of the lost records never reached the disk.
    fn take_back(&mut self, error: Error) -> Error {
        let written = self.current.written;
        let file = self.current.file.as_mut().expect("only a file that exists can refuse a write");
        if let Err(source) = file.truncate(written).and_then(|()| file.sync()) {
            let name = segment_name(&self.folder, self.current.number);
            return self.poison(&name, source);
        }
        self.uncount();
        self.end_segment();
        error
    }

    /// The current segment is complete. It was synced when it was last written.
    fn rotate(&mut self) {
        let number = self.current.number;
        let done = std::mem::replace(&mut self.current, Segment::new(number + 1));
        if let Some(mut file) = done.file {
            // Zeros that stay harm nobody.
            if done.room > 0
                && let Err(error) = file.truncate(done.written)
            {
                tracing::debug!(%error, segment = number, "the end of a complete segment stays unused");
            }
            self.old.push_back(SegmentInfo {
                number,
                bytes: done.written,
                seq_min: done.seq_min,
                seq_max: done.seq_max,
            });
        }
    }

    fn poison(&mut self, name: &str, source: std::io::Error) -> Error {
        let file = self.disk.describe(name);
        tracing::error!(%file, error = %source, "fsync failed; writes are refused until restart");
        self.poisoned = Some(Error::rejected(
            Kind::Unavailable,
            "log_poisoned",
            format!(
                "writes are refused since the fsync of {file} failed ({source}), because what the disk holds is unknown; \
                 check the disk and restart waterclock, which reads back what is there"
            ),
        ));
        Error::io("sync", file, source)
    }

    fn io(&self, doing: &'static str, name: &str, source: std::io::Error) -> Error {
        Error::io(doing, self.disk.describe(name), source)
    }
}

impl Segment {
    fn new(number: u64) -> Segment {
        Segment {
            number,
            file: None,
            written: 0,
            room: 0,
            seq_min: u64::MAX,
            seq_max: 0,
            defined: HashMap::new(),
        }
    }

    /// Defines the table, its columns and the series, as far as this segment has not yet.
    fn define(&mut self, out: &mut Vec<u8>, table: &Table, series: impl Iterator<Item = u32>) {
        let defined = self.defined.entry(table.id).or_insert_with(|| {
            format::encode_table(out, table.id, &table.database, &table.name);
            Defined::default()
        });
        let columns = table.columns();
        for (id, column) in columns.iter().enumerate().skip(defined.columns) {
            format::encode_column(out, table.id, id as u32, column.field_type, &column.name);
        }
        defined.columns = columns.len();
        for series in series {
            if defined.series.insert(series) {
                table.with_index(|index| format::encode_series(out, table.id, series, index.key(series)));
            }
        }
    }
}
