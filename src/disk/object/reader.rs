//! An object's bytes: aligned pieces, kept in memory for all readers together within `object_cache_bytes_max`.
//!
//! A read fetches the pieces it lacks, neighbours in one request, separate runs at the same time. Opening an object takes
//! one request, which gives its length and its end, where the footer of a block is.
//! Invariant: an object never changes, so that a piece is right for as long as it is kept.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use object_store::{GetOptions, GetRange, ObjectStoreExt};
use quick_cache::Weighter;

use crate::disk::ReadFile;
use crate::disk::object::{Remote, answer_of, io_error};
use crate::metrics::OBJECT_BYTES_READ;

/// A request takes tens of milliseconds however little it fetches; this much comes in the same time.
pub(super) const PIECE_BYTES: u64 = 256 << 10;

/// Pieces that one request fetches at most.
const RUN_PIECES_MAX: u64 = 32;

pub(super) struct Cache {
    pieces: quick_cache::sync::Cache<(Arc<str>, u64), Bytes, ByLength>,
}

#[derive(Clone)]
struct ByLength;

impl Weighter<(Arc<str>, u64), Bytes> for ByLength {
    fn weight(&self, _: &(Arc<str>, u64), piece: &Bytes) -> u64 {
        piece.len() as u64
    }
}

impl Cache {
    pub fn new(bytes_max: usize) -> Cache {
        let pieces = (bytes_max as u64 / PIECE_BYTES).max(1) as usize;
        Cache { pieces: quick_cache::sync::Cache::with_weighter(pieces, bytes_max as u64, ByLength) }
    }
}

pub(super) struct Reader {
    remote: Arc<Remote>,
    name: Arc<str>,
    len: u64,
}

impl Reader {
    pub fn open(remote: &Arc<Remote>, name: &str) -> object_store::Result<Reader> {
        // As long as two pieces, so that it holds the last whole one and the rest after it.
        let end = GetOptions { range: Some(GetRange::Suffix(2 * PIECE_BYTES)), ..GetOptions::default() };
        let (_, len, bytes) = remote.get(name, end)?;
        let reader = Reader { remote: Arc::clone(remote), name: name.into(), len };
        let start = len - bytes.len() as u64;
        for piece in start.div_ceil(PIECE_BYTES)..len.div_ceil(PIECE_BYTES) {
            let range = reader.range_of(piece);
            reader.keep(piece, &bytes[(range.start - start) as usize..(range.end - start) as usize]);
        }
        Ok(reader)
    }

    /// By name, so that a block that was closed meanwhile finds its pieces again.
    fn key(&self, piece: u64) -> (Arc<str>, u64) {
        (Arc::clone(&self.name), piece)
    }

    fn range_of(&self, piece: u64) -> Range<u64> {
        piece * PIECE_BYTES..((piece + 1) * PIECE_BYTES).min(self.len)
    }

    /// A copy of its own, or the piece would hold all that came with it.
    fn keep(&self, piece: u64, bytes: &[u8]) -> Bytes {
        let bytes = Bytes::copy_from_slice(bytes);
        self.remote.cache.pieces.insert(self.key(piece), bytes.clone());
        bytes
    }

    /// The pieces of runs of neighbours.
    fn fetch(&self, runs: Vec<Range<u64>>) -> io::Result<Vec<(u64, Bytes)>> {
        let ranges: Vec<Range<u64>> =
            runs.iter().map(|run| self.range_of(run.start).start..self.range_of(run.end - 1).end).collect();
        let start = |range: Range<u64>| {
            let (store, path) = (Arc::clone(&self.remote.store), self.remote.path(&self.name));
            self.remote.start("GET", async move { store.get_range(&path, range).await })
        };
        let answers: Vec<_> = ranges.into_iter().map(start).collect();
        let mut pieces = Vec::new();
        for (run, answer) in runs.into_iter().zip(answers) {
            let bytes = answer_of(&answer).map_err(io_error)?;
            metrics::counter!(OBJECT_BYTES_READ).increment(bytes.len() as u64);
            let start = self.range_of(run.start).start;
            for piece in run {
                let range = self.range_of(piece);
                let part = bytes.get((range.start - start) as usize..(range.end - start) as usize);
                let part = part.ok_or(io::ErrorKind::UnexpectedEof)?;
                pieces.push((piece, self.keep(piece, part)));
            }
        }
        Ok(pieces)
    }
}

impl ReadFile for Reader {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        if len == 0 {
            return Ok(Bytes::new());
        }
        let wanted = offset / PIECE_BYTES..end.div_ceil(PIECE_BYTES);
        let mut pieces: BTreeMap<u64, Bytes> = BTreeMap::new();
        let mut runs: Vec<Range<u64>> = Vec::new();
        for piece in wanted {
            match self.remote.cache.pieces.get(&self.key(piece)) {
                Some(bytes) => drop(pieces.insert(piece, bytes)),
                None => match runs.last_mut() {
                    Some(run) if run.end == piece && piece - run.start < RUN_PIECES_MAX => run.end += 1,
                    _ => runs.push(piece..piece + 1),
                },
            }
        }
        if !runs.is_empty() {
            pieces.extend(self.fetch(runs)?);
        }
        let part = |piece: u64, bytes: &Bytes| {
            let range = self.range_of(piece);
            let from = offset.max(range.start) - range.start;
            bytes.slice(from as usize..(end.min(range.end) - range.start) as usize)
        };
        if let (1, Some((piece, bytes))) = (pieces.len(), pieces.first_key_value()) {
            return Ok(part(*piece, bytes));
        }
        let mut joined = BytesMut::with_capacity(len);
        pieces.iter().for_each(|(piece, bytes)| joined.extend_from_slice(&part(*piece, bytes)));
        Ok(joined.freeze())
    }
}
