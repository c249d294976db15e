//! One series' points of some stretch of time: a column of times and a column per field.
//!
//! An [`OpenChunk`] grows row by row as compressed streams that can be read at any moment; full, it is
//! sealed: decoded once, and every column written again in the smallest codec for it ([`SealedChunk`]).
//! Invariant: times ascend strictly, and a row has a value in at least one column.
//! Not here: order and duplicates (the head keeps them), and what a column id means (the table knows).
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod decimal; // floats as integers divided by a power of ten
pub mod integers; // integers in the smallest of seven forms
mod joined; // a column of chunks that follow each other
mod packed; // bits above the smallest of each block
mod sealed; // columns as checksummed bytes
mod tsz; // the format of tsz-compress
mod values; // decoded columns

#[cfg(test)]
mod tests;

pub use joined::Joined;
pub use sealed::{SealedChunk, describe};
pub use values::{Cell, ColumnValues, Values};

use crate::gorilla::floats::FloatStream;
use crate::gorilla::integers::IntStream;
use crate::gorilla::times::TimeStream;
use crate::point::{FieldType, Time};
use crate::presence::Bitmap;
use crate::text::TextStream;

use sealed::SealedBuilder;

/// Rows per chunk. Sealed, 256 takes 3 % (walks) to 10 % (percentages) more bytes than 1,024 would. Open, a
/// column of decimals takes 6.9 bytes a value until it is sealed into 1.1, and a million series have half an
/// open chunk on average: 0.9 GB a field at 256, 3.5 GB at 1,024.
pub const CHUNK_ROWS_MAX: usize = 256;
const _: () = assert!(CHUNK_ROWS_MAX <= u16::MAX as usize, "rows are counted in 16 bits");

/// A chunk is full, too, once its strings take this much when decoded. 4 KiB a row leave every usual string
/// field its whole chunk, and a reader holds no more than this and one string.
pub const CHUNK_TEXT_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, Default)]
pub struct OpenChunk {
    times: TimeStream,
    columns: Vec<OpenColumn>,
    /// By position in `columns`; empty, as all of them are while no row lacks a field, means no gaps.
    presence: Vec<Bitmap>,
    text_bytes: u32,
}

#[derive(Clone, Debug)]
struct OpenColumn {
    stream: Stream,
    id: u32,
    /// Rows this column knows about. Later ones have no value.
    rows: u16,
}

const _: () = assert!(size_of::<OpenColumn>() <= 64, "a million series have a few of these each");

#[derive(Clone, Debug)]
enum Stream {
    Float(FloatStream),
    Int(IntStream),
    UInt(IntStream),
    Bool(Bitmap),
    Str(Box<TextStream>),
    Binary(Box<TextStream>),
}

impl OpenChunk {
    pub fn new() -> OpenChunk {
        OpenChunk::default()
    }

    pub fn rows(&self) -> usize {
        self.times.rows()
    }

    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    pub fn is_full(&self) -> bool {
        self.rows() >= CHUNK_ROWS_MAX || self.text_bytes as usize >= CHUNK_TEXT_BYTES_MAX
    }

    pub fn first_time(&self) -> Option<Time> {
        self.times.first()
    }

    pub fn last_time(&self) -> Option<Time> {
        self.times.last()
    }

    /// Appends a row. Cells come fastest in the order of the row before.
    ///
    /// Panics, as a bug of the caller: the chunk is full, the time is not later than the last one, a
    /// column comes twice, or its type changed.
    #[inline]
    pub fn push<'a>(&mut self, time: Time, cells: impl IntoIterator<Item = (u32, Cell<'a>)>) {
        let row = self.rows();
        assert!(row < CHUNK_ROWS_MAX, "bug: the chunk is full");
        assert!(self.last_time().is_none_or(|last| last < time), "bug: the times of a chunk must ascend");
        self.times.push(time);
        let mut expected = 0;
        for (id, cell) in cells {
            let position = match self.columns.get(expected) {
                Some(column) if column.id == id => expected,
                _ => self.find_or_add(id, cell.field_type()),
            };
            self.push_cell(position, row, cell);
            expected = position + 1;
        }
    }

    #[inline]
    fn push_cell(&mut self, position: usize, row: usize, cell: Cell<'_>) {
        let Some(column) = self.columns.get_mut(position) else { return };
        let known = usize::from(column.rows);
        column.rows = row as u16 + 1;
        match (&mut column.stream, cell) {
            (Stream::Float(stream), Cell::Float(value)) => stream.push(value),
            (Stream::Int(stream), Cell::Int(value)) => stream.push(value),
            (Stream::UInt(stream), Cell::UInt(value)) => stream.push(value as i64),
            (Stream::Bool(stream), Cell::Bool(value)) => stream.push(value),
            (Stream::Str(stream), Cell::Str(value)) => {
                stream.push(value.as_bytes());
                self.count_text(value.len());
            }
            (Stream::Binary(stream), Cell::Binary(value)) => {
                stream.push(value);
                self.count_text(value.len());
            }
            (_, cell) => panic!("bug: a {} in a column of another type", cell.field_type()),
        }
        if known != row || !self.presence.is_empty() {
            self.note_presence(position, known, row);
        }
    }

    fn count_text(&mut self, bytes: usize) {
        self.text_bytes = self.text_bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// The rare part of a push: some column of this chunk has gaps.
    fn note_presence(&mut self, position: usize, known: usize, row: usize) {
        assert!(known <= row, "bug: a column comes twice in a row");
        if known < row && self.presence.len() < self.columns.len() {
            self.presence.resize(self.columns.len(), Bitmap::default());
        }
        let Some(present) = self.presence.get_mut(position) else { return };
        if known < row {
            present.extend_to(known, true);
            present.extend_to(row, false);
        }
        if !present.is_empty() {
            present.push(true);
        }
    }

    #[cold]
    fn find_or_add(&mut self, id: u32, field_type: FieldType) -> usize {
        if let Some(position) = self.columns.iter().position(|column| column.id == id) {
            return position;
        }
        let stream = match field_type {
            FieldType::Float => Stream::Float(FloatStream::default()),
            FieldType::Int => Stream::Int(IntStream::default()),
            FieldType::UInt => Stream::UInt(IntStream::default()),
            FieldType::Bool => Stream::Bool(Bitmap::default()),
            FieldType::Str => Stream::Str(Box::default()),
            FieldType::Binary => Stream::Binary(Box::default()),
        };
        self.columns.reserve_exact(1);
        self.columns.push(OpenColumn { stream, id, rows: 0 });
        self.columns.len() - 1
    }

    /// Appends the times to `out`.
    pub fn decode_times(&self, out: &mut Vec<Time>) {
        self.times.decode(out);
    }

    /// `None` if no row has a value of this column.
    pub fn decode_column(&self, column: u32) -> Option<ColumnValues> {
        let mut joined = Joined::new(self.rows());
        self.join_column(column, &mut joined);
        joined.finish()
    }

    /// Appends the column's rows.
    pub fn join_column(&self, column: u32, joined: &mut Joined) {
        let Some(position) = self.columns.iter().position(|known| known.id == column) else {
            return joined.add_missing(self.rows());
        };
        let present = self.present(position);
        let added = match (&present, self.columns.get(position).map(|column| &column.stream)) {
            (None, Some(Stream::Int(stream))) => joined.ints(self.rows()).map(|slots| stream.decode(slots)),
            _ => match (self.dense(position, present.as_ref()), present) {
                (Some(dense), Some(present)) => joined.add_sparse(dense, present),
                (Some(dense), None) => joined.add(dense),
                (None, _) => Ok(()),
            },
        };
        added.expect("bug: a column changed its type");
    }

    /// The values of these columns in the last row, if it has all of them: known without reading the streams. Strings
    /// and bytes are not.
    pub fn last_row<'a>(&self, columns: &[u32]) -> Option<Vec<Cell<'a>>> {
        let rows = self.rows();
        let value = |id: &u32| {
            let column = self.columns.iter().find(|column| column.id == *id)?;
            // A column that knows of the last row has a value there.
            if usize::from(column.rows) != rows {
                return None;
            }
            match &column.stream {
                Stream::Float(stream) => Some(Cell::Float(stream.last())),
                Stream::Int(stream) => Some(Cell::Int(stream.last())),
                Stream::UInt(stream) => Some(Cell::UInt(stream.last() as u64)),
                Stream::Bool(values) => values.last().map(Cell::Bool),
                Stream::Str(_) | Stream::Binary(_) => None,
            }
        };
        columns.iter().map(value).collect()
    }

    pub fn columns(&self) -> impl Iterator<Item = u32> {
        self.columns.iter().map(|column| column.id)
    }

    /// Reads what pushing a row of one number will read and write, so that it is in the cache by then. What it returns means nothing.
    #[inline]
    pub fn touch(&self) -> u64 {
        let column = self.columns.first().map_or(0, |column| {
            let stream = match &column.stream {
                Stream::Float(stream) => stream.touch(),
                Stream::Int(stream) | Stream::UInt(stream) => stream.touch(),
                Stream::Bool(_) | Stream::Str(_) | Stream::Binary(_) => 0,
            };
            stream ^ u64::from(column.rows)
        });
        self.times.touch() ^ column ^ u64::from(self.text_bytes)
    }

    /// A copy for a reader, with the named columns or all. It shares nothing with this chunk, and it may
    /// even be appended to.
    pub fn snapshot(&self, columns: Option<&[u32]>) -> OpenChunk {
        let Some(wanted) = columns else { return self.clone() };
        let mut copy =
            OpenChunk { times: self.times.clone(), text_bytes: self.text_bytes, ..OpenChunk::new() };
        copy.columns.reserve_exact(wanted.len().min(self.columns.len()));
        for (position, column) in self.columns.iter().enumerate() {
            if wanted.contains(&column.id) {
                copy.columns.push(column.clone());
                if !self.presence.is_empty() {
                    copy.presence.push(self.presence.get(position).cloned().unwrap_or_default());
                }
            }
        }
        copy
    }

    /// Every column in the smallest codec. The chunk must have rows.
    pub fn seal(&self) -> SealedChunk {
        let mut times = Vec::with_capacity(self.rows());
        self.decode_times(&mut times);
        let mut builder = SealedBuilder::new(&times, self.columns.len());
        for (position, column) in self.columns.iter().enumerate() {
            let present = self.present(position);
            if let Some(dense) = self.dense(position, present.as_ref()) {
                builder.add(column.id, &dense, present.as_ref());
            }
        }
        builder.finish()
    }

    /// Which of all rows have a value of the column; `None` if all have.
    fn present(&self, position: usize) -> Option<Bitmap> {
        let known = self.columns.get(position).map_or(0, |column| usize::from(column.rows));
        let gaps = self.presence.get(position).filter(|present| !present.is_empty());
        if gaps.is_none() && known == self.rows() {
            return None;
        }
        let mut present = gaps.cloned().unwrap_or_default();
        present.extend_to(known, true);
        present.extend_to(self.rows(), false);
        Some(present)
    }

    /// The values of the rows that have one.
    fn dense(&self, position: usize, present: Option<&Bitmap>) -> Option<Values> {
        let count = present.map_or(self.rows(), Bitmap::count_ones);
        let integers = |stream: &IntStream| {
            let mut values = vec![0; count];
            stream.decode(&mut values);
            values
        };
        Some(match &self.columns.get(position)?.stream {
            Stream::Float(stream) => Values::Float(stream.decode(count)),
            Stream::Int(stream) => Values::Int(integers(stream)),
            Stream::UInt(stream) => {
                Values::UInt(integers(stream).into_iter().map(|value| value as u64).collect())
            }
            Stream::Bool(stream) => Values::Bool(stream.iter().collect()),
            Stream::Str(stream) => Values::Str(stream.decode()),
            Stream::Binary(stream) => Values::Binary(stream.decode()),
        })
    }

    /// What this chunk holds beyond its own size.
    pub fn heap_bytes(&self) -> usize {
        let streams = self.columns.iter().map(|column| match &column.stream {
            Stream::Float(stream) => stream.heap_bytes(),
            Stream::Int(stream) | Stream::UInt(stream) => stream.heap_bytes(),
            Stream::Bool(stream) => stream.heap_bytes(),
            Stream::Str(stream) | Stream::Binary(stream) => stream.heap_bytes(),
        });
        let presence = self.presence.iter().map(Bitmap::heap_bytes);
        self.times.heap_bytes()
            + self.columns.capacity() * size_of::<OpenColumn>()
            + self.presence.capacity() * size_of::<Bitmap>()
            + streams.chain(presence).sum::<usize>()
    }
}
