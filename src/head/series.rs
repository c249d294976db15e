//! One series of one partition in memory: chunks in time order, and what came late beside them.
//!
//! Invariant: the main layer (`sealed`, then `open`) ascends in time. A row whose time is not after the main
//! layer's last goes to the late side, so at equal times late wins over main, and among the late chunks a later
//! one over an earlier one: the order of the layers is the order of sequence.
//! Not here: which series this is.

use std::sync::Arc;

use storage_format::chunk::{CHUNK_ROWS_MAX, Cell, Joined, OpenChunk, SealedChunk};
use storage_format::corrupt;
use storage_format::point::{FieldType, Time, TimeRange, Value};
use storage_format::ranges::RangeSet;
use storage_format::wal::StrRef;

use crate::head::FrozenPartition;
use crate::rows::{self, Merge, Rows, Span};

/// Late rows that wait uncompressed. Few enough that a read sorts them in about a microsecond, many enough that
/// compressing them pays.
const LATE_ROWS_MAX: usize = 64;

#[derive(Default)]
pub struct SeriesHead {
    open: OpenChunk,
    sealed: Vec<Arc<SealedChunk>>,
    late: Option<Box<Late>>,
}

#[derive(Default)]
struct Late {
    /// Each run ascends in time, chunk after chunk, and wins over the runs before it.
    runs: Vec<Vec<Arc<SealedChunk>>>,
    /// In order of arrival.
    rows: Vec<LateRow>,
}

#[derive(Clone)]
struct LateRow {
    time: Time,
    cells: Vec<(u32, Value)>,
}

/// A late row with the cells of a narrow table.
const LATE_ROW_BYTES: usize = size_of::<LateRow>() + 4 * size_of::<(u32, Value)>();

/// What one push sealed, for the books of the partition.
pub struct Sealed {
    pub bytes: usize,
    pub values: usize,
}

impl SeriesHead {
    pub fn push(
        &mut self,
        time: Time,
        columns: &[u32],
        values: &[u64],
        types: &[FieldType],
        text: &[u8],
    ) -> Option<Sealed> {
        let cells = columns
            .iter()
            .zip(values)
            .map(|(column, bits)| (*column, cell(types[*column as usize], *bits, text)));
        if self.last_time().is_some_and(|last| time <= last) {
            return self.push_late(time, cells);
        }
        let full = self.open.is_full().then(|| self.seal());
        self.open.push(time, cells);
        full
    }

    /// Reads what a push will read. What it returns means nothing.
    #[inline]
    pub fn touch(&self) -> u64 {
        self.open.touch()
    }

    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// Rows held; those with the same time twice count twice.
    pub fn rows(&self) -> usize {
        let main = self.open.rows() + self.sealed.iter().map(|chunk| chunk.rows()).sum::<usize>();
        let late = self
            .late
            .as_ref()
            .map_or(0, |late| late.rows.len() + late.chunks().map(|chunk| chunk.rows()).sum::<usize>());
        main + late
    }

    pub fn sealed_bytes(&self) -> usize {
        let late = self.late.iter().flat_map(|late| late.chunks());
        self.sealed.iter().chain(late).map(|chunk| chunk.heap_bytes()).sum()
    }

    /// Whether a chunk touches one of the ranges.
    pub fn touches(&self, ranges: &RangeSet) -> bool {
        let late = self.late.iter().flat_map(|late| late.chunks());
        self.sealed.iter().chain(late).any(|chunk| ranges.overlaps(range_of(chunk)))
            || open_range(&self.open).is_some_and(|range| ranges.overlaps(range))
            || self.late.iter().any(|late| late.rows.iter().any(|row| ranges.contains(row.time)))
    }

    /// Shares the chunks that touch one of the ranges, or None if none does.
    pub fn capture(&self, ranges: &RangeSet, columns: &[u32]) -> Option<SeriesView> {
        let touches = |chunk: &&Arc<SealedChunk>| ranges.overlaps(range_of(chunk));
        let mut view = Chunks {
            main: self.sealed.iter().filter(touches).cloned().collect(),
            open: None,
            late: Vec::new(),
            late_rows: Vec::new(),
        };
        if open_range(&self.open).is_some_and(|range| ranges.overlaps(range)) {
            view.open = Some(self.open.snapshot(Some(columns)));
        }
        if let Some(late) = &self.late {
            view.late = late.chunks().filter(touches).cloned().collect();
            view.late_rows = late.rows.iter().filter(|row| ranges.contains(row.time)).cloned().collect();
        }
        let empty =
            view.main.is_empty() && view.open.is_none() && view.late.is_empty() && view.late_rows.is_empty();
        (!empty).then(|| SeriesView::Copy(Box::new(view)))
    }

    /// The newest row, if it lies in the ranges, has all of the columns and needs no decoding. Every other row is older.
    pub fn newest(&self, ranges: &RangeSet, columns: &[u32]) -> Option<(Time, Vec<Cell<'static>>)> {
        // What came late is older than something that was there, but it may have been written for the same time.
        if self.late.is_some() {
            return None;
        }
        let time = self.open.last_time().filter(|time| ranges.contains(*time))?;
        Some((time, self.open.last_row(columns)?))
    }

    /// Rebuilds the series without the range.
    pub fn delete(&mut self, range: TimeRange, types: &[FieldType]) {
        // Most deletes are of a few series or of a short time: what they miss is left as it is.
        if self.capture(&range.into(), &[]).is_none() {
            return;
        }
        let columns: Vec<u32> = (0..types.len() as u32).collect();
        let Some(view) = self.capture(&TimeRange::ALL.into(), &columns) else { return };
        let sources = view.sources(&columns, TimeRange::ALL).expect("bug: a chunk in memory does not decode");
        let pieces = rows::in_time_order(sources, Merge::Field);
        let left = pieces.iter().map(|piece| piece.without(&[range])).collect();
        *self = SeriesHead { sealed: seal_pieces(&columns, left), ..SeriesHead::default() };
    }

    fn last_time(&self) -> Option<Time> {
        let sealed = || self.sealed.last().map(|chunk| chunk.last_time());
        self.open.last_time().or_else(sealed)
    }

    fn seal(&mut self) -> Sealed {
        let open = std::mem::take(&mut self.open);
        let chunk = open.seal();
        let sealed = Sealed { bytes: chunk.heap_bytes(), values: open.rows() * open.columns().count() };
        self.sealed.push(Arc::new(chunk));
        sealed
    }

    fn push_late<'a>(&mut self, time: Time, cells: impl Iterator<Item = (u32, Cell<'a>)>) -> Option<Sealed> {
        let late = self.late.get_or_insert_default();
        let cells = cells.map(|(column, cell)| (column, value(cell))).collect();
        late.rows.push(LateRow { time, cells });
        (late.rows.len() >= LATE_ROWS_MAX).then(|| late.seal())
    }
}

impl Late {
    fn chunks(&self) -> impl Iterator<Item = &Arc<SealedChunk>> {
        self.runs.iter().flatten()
    }

    /// Compresses the waiting rows. Runs of like size are merged, so that a series filled backwards costs
    /// n log n and leaves few runs.
    fn seal(&mut self) -> Sealed {
        let rows = std::mem::take(&mut self.rows);
        let values = rows.iter().map(|row| row.cells.len()).sum();
        let before: usize = self.chunks().map(|chunk| chunk.heap_bytes()).sum();
        let mut newest = vec![Arc::new(open_chunk(rows).seal())];
        while let Some(previous) = self.runs.pop_if(|run| rows_of(run) <= 2 * rows_of(&newest)) {
            newest = merge(&previous, &newest);
        }
        self.runs.push(newest);
        let after: usize = self.chunks().map(|chunk| chunk.heap_bytes()).sum();
        Sealed { bytes: after.saturating_sub(before), values }
    }
}

fn rows_of(run: &[Arc<SealedChunk>]) -> usize {
    run.iter().map(|chunk| chunk.rows()).sum()
}

fn merge(older: &[Arc<SealedChunk>], newer: &[Arc<SealedChunk>]) -> Vec<Arc<SealedChunk>> {
    let mut columns: Vec<u32> = older.iter().chain(newer).flat_map(|chunk| chunk.columns()).collect();
    columns.sort_unstable();
    columns.dedup();
    let decode = |run| joined_rows(run, None, &columns).expect("bug: a chunk in memory does not decode");
    let sources = [decode(older), decode(newer)].concat();
    seal_pieces(&columns, rows::in_time_order(sources, Merge::Field))
}

/// Chunks of at most the size that a chunk may have.
fn seal_pieces(columns: &[u32], pieces: Vec<Rows>) -> Vec<Arc<SealedChunk>> {
    let mut chunks = Vec::new();
    for piece in pieces {
        for start in (0..piece.len()).step_by(CHUNK_ROWS_MAX) {
            let len = (piece.len() - start).min(CHUNK_ROWS_MAX);
            chunks.push(Arc::new(seal(columns, &piece.slice(start, len))));
        }
    }
    chunks
}

/// A cheap, immutable share of a series, to be decoded without any lock.
pub enum SeriesView {
    /// Of a series that goes on to grow.
    Copy(Box<Chunks>),
    /// Of one that does not: shared as it is, because a flush looks at every series there is.
    Frozen(Arc<FrozenPartition>, u32),
    /// Nothing but its newest row, which is this one of those of several series.
    Newest(Arc<Rows>, usize),
}

pub struct Chunks {
    main: Vec<Arc<SealedChunk>>,
    open: Option<OpenChunk>,
    late: Vec<Arc<SealedChunk>>,
    late_rows: Vec<LateRow>,
}

/// The same, wherever it is.
struct Parts<'a> {
    main: &'a [Arc<SealedChunk>],
    open: Option<&'a OpenChunk>,
    late: Vec<&'a Arc<SealedChunk>>,
    late_rows: &'a [LateRow],
}

impl SeriesView {
    fn chunks(&self) -> Parts<'_> {
        match self {
            SeriesView::Copy(chunks) => Parts {
                main: &chunks.main,
                open: chunks.open.as_ref(),
                late: chunks.late.iter().collect(),
                late_rows: &chunks.late_rows,
            },
            SeriesView::Frozen(partition, series) => {
                let head = partition.head(*series).expect("bug: a frozen partition lacks a series it had");
                Parts {
                    main: &head.sealed,
                    open: Some(&head.open).filter(|open| !open.is_empty()),
                    late: head.late.iter().flat_map(|late| late.chunks()).collect(),
                    late_rows: head.late.as_ref().map_or(&[], |late| &late.rows),
                }
            }
            SeriesView::Newest(..) => Parts { main: &[], open: None, late: Vec::new(), late_rows: &[] },
        }
    }

    /// The newest row, if the view is nothing else.
    pub fn newest(&self) -> Option<Span<'_>> {
        match self {
            SeriesView::Newest(rows, row) => Some(Span { of: rows, rows: *row..row + 1 }),
            _ => None,
        }
    }

    /// The rows of all chunks that touch the times, with the wanted columns, in the order in which they win. A chunk
    /// comes whole; those that follow each other are joined. Not what [`SeriesView::newest`] gives.
    pub fn sources(&self, columns: &[u32], times: TimeRange) -> corrupt::Result<Vec<Rows>> {
        let touches = |chunk: &&Arc<SealedChunk>| times.overlaps(range_of(chunk));
        let Parts { main, open, late, late_rows } = self.chunks();
        let from = main.partition_point(|chunk| chunk.last_time() < times.start);
        let touched = main[from..].iter().take_while(touches).count();
        let (main, after) = main[from..].split_at(touched);
        let mut sources = joined_rows(main, open.filter(|_| after.is_empty()), columns)?;
        // Late ones are of several runs.
        for chunk in late.into_iter().filter(touches) {
            sources.extend(joined_rows(std::slice::from_ref(chunk), None, columns)?);
        }
        if !late_rows.is_empty() {
            sources.extend(joined_rows(&[], Some(&open_chunk(late_rows.to_vec())), columns)?);
        }
        Ok(sources)
    }

    /// At least as many rows as there are, without a look into the chunks.
    pub fn rows_max(&self) -> usize {
        let Parts { main, open, late, late_rows } = self.chunks();
        let chunks = main.len() + late.len() + usize::from(open.is_some());
        let newest = usize::from(self.newest().is_some());
        chunks * CHUNK_ROWS_MAX + late_rows.len() + newest
    }

    /// Of a copy.
    pub const HEAP_BYTES_MIN: usize = size_of::<Chunks>();

    /// What the view holds of its own: chunks that are sealed, and series that are frozen, are shared.
    pub fn heap_bytes(&self) -> usize {
        let chunks = match self {
            SeriesView::Copy(chunks) => chunks,
            SeriesView::Frozen(..) => return 0,
            SeriesView::Newest(rows, _) => return (1 + rows.columns.len()) * size_of::<u64>(),
        };
        let shared = (chunks.main.len() + chunks.late.len()) * size_of::<Arc<SealedChunk>>();
        let open = chunks.open.as_ref().map_or(0, OpenChunk::heap_bytes);
        size_of::<Chunks>() + shared + open + chunks.late_rows.len() * LATE_ROW_BYTES
    }

    /// The first time and the rows of each chunk.
    pub fn parts(&self, mut part: impl FnMut(Time, usize)) {
        let Parts { main, open, late, .. } = self.chunks();
        for chunk in main.iter().chain(late) {
            part(chunk.first_time(), chunk.rows());
        }
        if let Some((chunk, first)) = open.and_then(|chunk| Some((chunk, chunk.first_time()?))) {
            part(first, chunk.rows());
        }
    }
}

fn range_of(chunk: &SealedChunk) -> TimeRange {
    TimeRange::new(chunk.first_time(), chunk.last_time().saturating_add(1))
}

fn open_range(chunk: &OpenChunk) -> Option<TimeRange> {
    Some(TimeRange::new(chunk.first_time()?, chunk.last_time()?.saturating_add(1)))
}

/// Chunks that are decoded into the same buffers: 16 of them are as many rows as a page of a block has, and their texts are
/// far from what offsets of 32 bits can tell.
const JOINED_CHUNKS_MAX: usize = 16;

/// The rows of chunks that follow each other.
fn joined_rows(
    sealed: &[Arc<SealedChunk>],
    open: Option<&OpenChunk>,
    columns: &[u32],
) -> corrupt::Result<Vec<Rows>> {
    let mut pieces = Vec::with_capacity(1 + sealed.len() / JOINED_CHUNKS_MAX);
    let mut groups = sealed.chunks(JOINED_CHUNKS_MAX).peekable();
    let mut open = open;
    while groups.peek().is_some() || open.is_some() {
        let group = groups.next().unwrap_or_default();
        let last = if groups.peek().is_none() { open.take() } else { None };
        let rows = group.iter().map(|chunk| chunk.rows()).sum::<usize>() + last.map_or(0, OpenChunk::rows);
        let mut times = Vec::with_capacity(rows);
        group.iter().try_for_each(|chunk| chunk.decode_times(&mut times))?;
        last.iter().for_each(|chunk| chunk.decode_times(&mut times));
        let column = |column: &u32| {
            let mut joined = Joined::new(rows);
            group.iter().try_for_each(|chunk| chunk.join_column(*column, &mut joined))?;
            last.iter().for_each(|chunk| chunk.join_column(*column, &mut joined));
            Ok(joined.finish().map(rows::to_array))
        };
        let columns = columns.iter().map(column).collect::<corrupt::Result<_>>()?;
        pieces.push(Rows { times: times.into(), columns });
    }
    Ok(pieces)
}

fn seal(columns: &[u32], rows: &Rows) -> SealedChunk {
    let decoded: Vec<(u32, storage_format::chunk::ColumnValues)> = columns
        .iter()
        .zip(&rows.columns)
        .filter_map(|(column, array)| Some((*column, rows::from_array(array.as_ref()?))))
        .filter(|(_, values)| {
            values.present.as_ref().is_none_or(|present| present.null_count() < present.len())
        })
        .collect();
    let borrowed: Vec<_> = decoded.iter().map(|(column, values)| (*column, values)).collect();
    SealedChunk::from_columns(&rows.times, &borrowed)
}

/// Late rows sorted by time; of equal times the fields of the later arrival win.
fn open_chunk(mut rows: Vec<LateRow>) -> OpenChunk {
    rows.sort_by_key(|row| row.time);
    let mut chunk = OpenChunk::new();
    let mut rows = rows.into_iter().peekable();
    while let Some(mut row) = rows.next() {
        while let Some(later) = rows.next_if(|later| later.time == row.time) {
            for (column, value) in later.cells {
                match row.cells.iter_mut().find(|(known, _)| *known == column) {
                    Some(known) => known.1 = value,
                    None => row.cells.push((column, value)),
                }
            }
        }
        chunk.push(row.time, row.cells.iter().map(|(column, value)| (*column, as_cell(value))));
    }
    chunk
}

fn cell<'a>(field_type: FieldType, bits: u64, text: &'a [u8]) -> Cell<'a> {
    match field_type {
        FieldType::Float => Cell::Float(f64::from_bits(bits)),
        FieldType::Int => Cell::Int(bits as i64),
        FieldType::UInt => Cell::UInt(bits),
        FieldType::Bool => Cell::Bool(bits != 0),
        FieldType::Binary => Cell::Binary(StrRef(bits).in_text(text)),
        FieldType::Str => {
            let bytes = StrRef(bits).in_text(text);
            Cell::Str(std::str::from_utf8(bytes).expect("bug: a string in a batch is not UTF-8"))
        }
    }
}

fn value(cell: Cell<'_>) -> Value {
    match cell {
        Cell::Float(value) => Value::Float(value),
        Cell::Int(value) => Value::Int(value),
        Cell::UInt(value) => Value::UInt(value),
        Cell::Bool(value) => Value::Bool(value),
        Cell::Str(value) => Value::Str(value.to_string()),
        Cell::Binary(value) => Value::Binary(value.to_vec()),
    }
}

fn as_cell(value: &Value) -> Cell<'_> {
    match value {
        Value::Float(value) => Cell::Float(*value),
        Value::Int(value) => Cell::Int(*value),
        Value::UInt(value) => Cell::UInt(*value),
        Value::Bool(value) => Cell::Bool(*value),
        Value::Str(value) => Cell::Str(value),
        Value::Binary(value) => Cell::Binary(value),
    }
}
