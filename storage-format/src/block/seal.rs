//! Checksums: of every page as it passes to the file, and of everything that follows the pages.
//!
//! The Parquet crate neither writes page checksums nor can it protect its own footer. So the writer
//! goes through [`SealedWriter`], which sums pages at boundaries told to it beforehand, holds back what
//! follows them, and patches the sum of that into the footer's [`Seal`], a text of fixed width.
//! Not here: what the index or the footer mean.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::io::{self, Write};
use std::ops::Range;

use crate::corrupt::{Corrupt, Result};

/// The footer key of the [`Seal`].
pub const SEAL_KEY: &str = "waterclock.index";

/// "PAR1", with which Parquet files begin and end.
pub const MAGIC: &[u8; 4] = b"PAR1";

/// Where the series index lies, and the sum of everything from its start to the end of the file, in
/// which the sum's own eight digits count as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    pub offset: u64,
    pub len: u64,
    pub crc: u32,
}

/// `offset=` and 16 digits, `length=` and 16 digits, `crc32c=` and 8 digits, with blanks between.
pub const SEAL_TEXT_BYTES: usize = (7 + 16) + 1 + (7 + 16) + 1 + (7 + 8);
const CRC_DIGITS: usize = 8;

impl Seal {
    pub fn text(self) -> String {
        format!("offset={:016x} length={:016x} crc32c={:08x}", self.offset, self.len, self.crc)
    }

    /// Finds the seal in the footer's raw bytes, which are not to be parsed before they are checked,
    /// and where the digits of its sum stand. Nothing that users name comes after our key, which the
    /// writer adds last, so the last occurrence is ours.
    pub fn find(footer: &[u8]) -> Result<(Seal, Range<usize>)> {
        let missing = Corrupt::new("the footer has no series index: damaged, or not a block of ours");
        let key = SEAL_KEY.as_bytes();
        let at = footer.windows(key.len()).rposition(|window| window == key).ok_or(missing)?;
        // Thrift puts a field header and the length, one byte each, before the value.
        let start = at + key.len() + 2;
        let end = start + SEAL_TEXT_BYTES;
        let seal = footer.get(start..end).and_then(Seal::parse).ok_or(missing)?;
        Ok((seal, end - CRC_DIGITS..end))
    }

    fn parse(text: &[u8]) -> Option<Seal> {
        let text = std::str::from_utf8(text).ok()?;
        let mut parts = text.split(' ');
        let mut number = |name: &str| u64::from_str_radix(parts.next()?.strip_prefix(name)?, 16).ok();
        let (offset, len) = (number("offset=")?, number("length=")?);
        Some(Seal { offset, len, crc: u32::try_from(number("crc32c=")?).ok()? })
    }
}

/// The sum of `bytes` with the digits at `digits` taken as zeros.
pub fn sealed_crc(bytes: &[u8], digits: Range<usize>) -> u32 {
    let before = bytes.get(..digits.start).unwrap_or_default();
    let after = bytes.get(digits.end..).unwrap_or_default();
    let crc = crc32c::crc32c_append(crc32c::crc32c(before), &[b'0'; CRC_DIGITS]);
    crc32c::crc32c_append(crc, after)
}

/// A writer that sums what passes. First pages, whose lengths it was told; then the rest, held back
/// until [`finish`](SealedWriter::finish).
pub struct SealedWriter<W> {
    out: W,
    written: u64,
    pages: PageSums,
    /// What follows the pages; none as long as pages come.
    tail: Option<Vec<u8>>,
}

impl<W: Write> SealedWriter<W> {
    pub fn new(out: W) -> SealedWriter<W> {
        let mut pages = PageSums::default();
        // The file's first bytes are nobody's page; summed like one they are protected like one.
        pages.expect(MAGIC.len() as u64);
        SealedWriter { out, written: 0, pages, tail: None }
    }

    /// The next page not yet told of has `len` bytes.
    pub fn expect_page(&mut self, len: u64) {
        self.pages.expect(len);
    }

    /// All pages have passed. Gives where the tail starts, and the sums.
    pub fn start_tail(&mut self) -> (u64, Vec<u32>) {
        assert!(self.pages.ahead.is_empty(), "bug: a page was told of but never written");
        self.tail = Some(Vec::new());
        (self.written, std::mem::take(&mut self.pages.done))
    }

    /// Patches the sum into the seal and writes the tail. Gives the bytes of the whole file.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        let mut tail = self.tail.take().unwrap_or_default();
        let (_, digits) = Seal::find(&tail).expect("bug: the footer was written without its seal");
        let crc = sealed_crc(&tail, digits.clone());
        if let Some(place) = tail.get_mut(digits) {
            place.copy_from_slice(format!("{crc:08x}").as_bytes());
        }
        self.out.write_all(&tail)?;
        self.out.flush()?;
        Ok((self.out, self.written + tail.len() as u64))
    }
}

impl<W: Write> Write for SealedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(tail) = &mut self.tail {
            tail.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        let len = self.out.write(bytes)?;
        self.pages.pass(bytes.get(..len).unwrap_or_default());
        self.written += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[derive(Default)]
struct PageSums {
    /// What is still to come of each page.
    ahead: VecDeque<u64>,
    crc: u32,
    done: Vec<u32>,
}

impl PageSums {
    fn expect(&mut self, len: u64) {
        assert!(len > 0, "bug: a page has a header at least");
        self.ahead.push_back(len);
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let left = self.ahead.front_mut().expect("bug: bytes that belong to no page");
            let (part, rest) = bytes.split_at(bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX)));
            self.crc = crc32c::crc32c_append(self.crc, part);
            *left -= part.len() as u64;
            if *left == 0 {
                self.ahead.pop_front();
                self.done.push(std::mem::take(&mut self.crc));
            }
            bytes = rest;
        }
    }
}
