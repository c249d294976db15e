//! Columns of floats: each page in the form that is smallest for it.
//!
//! Neighbours in a narrow table may be metrics of quite different kinds, so the choice is made page by page, where the
//! Parquet crate has one for a row group. And numbers of dictionary words are written in whole bytes, not in as few bits
//! as hold them: zstd sees bytes, and finds in them what it cannot find in shifted bits. A walk over a hundred different
//! values takes 0.83 bytes each in seven bits and 0.52 in eight.
//! Invariant: every bit comes back, of NaN and -0 too; a page is in an encoding that every reader has known for years.
//! Not here: other columns (the Parquet crate writes them), what stands in the footer.

use arrow::array::{Array, Float64Array};
use parquet::basic::Encoding;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;

use super::Result;
use super::encoding::ValueEncoding;
use super::pages::{PageZstd, Pages, WrittenChunk, put_levels, put_run};
use crate::varint::put_u64;

/// Each lookup decodes the dictionary first. Full, this one costs a lookup of one series 20 to 45 us more than
/// none at all; one of 64 KiB, 80 to 140 us. Small ones cost nothing.
const WORDS_MAX: usize = 2_048;

/// Words up to here are told by one byte, those after them by two.
const BYTE_WORDS: usize = 256;

/// A word is taken in if so many of the page's values pay for it.
const VALUES_PER_WORD: usize = 8;

/// So few words are taken in whatever pays for them: columns of states, or that never change.
const WORDS_FREE: usize = 16;

/// What was found smallest for a page holds for the next ones of its kind, up to this many.
const PAGES_PER_TRIAL: usize = 8;

pub struct FloatWriter {
    pages: Pages,
    page_rows: usize,
    forced: Option<ValueEncoding>,
    words: Words,
    /// The last one, for what kind of page it was made, and for how many more it holds.
    choice: (Kind, ValueEncoding, usize),
    seen: Seen,
}

/// What pages have in common that one choice fits.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    /// All values are words.
    words: bool,
    /// The lower bytes are zeros: whole numbers.
    short: bool,
}

impl FloatWriter {
    /// `forced` is for all pages, instead of by choice.
    pub fn new(column: ColumnDescPtr, page_rows: usize, forced: Option<ValueEncoding>) -> FloatWriter {
        FloatWriter {
            pages: Pages::new(column),
            page_rows,
            forced,
            words: Words::default(),
            choice: (Kind { words: false, short: false }, ValueEncoding::Direct, 0),
            seen: Seen::default(),
        }
    }

    /// More rows: whole pages, but for the last ones of a row group.
    pub fn write(&mut self, values: &Float64Array, zstd: &mut PageZstd) -> Result<()> {
        for start in (0..values.len()).step_by(self.page_rows) {
            self.write_page(&values.slice(start, self.page_rows.min(values.len() - start)), zstd)?;
        }
        Ok(())
    }

    /// What has been encoded so far.
    pub fn bytes(&self) -> usize {
        self.pages.bytes() + self.words.values.len() * size_of::<u64>()
    }

    pub fn close(self, zstd: &mut PageZstd) -> Result<WrittenChunk> {
        let words: Vec<u8> = self.words.values.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let dictionary = (!words.is_empty()).then_some((words.as_slice(), self.words.values.len()));
        self.pages.close(dictionary, self.seen.statistics(), zstd.floats(ValueEncoding::Direct))
    }

    fn write_page(&mut self, values: &Float64Array, zstd: &mut PageZstd) -> Result<()> {
        let mut raw = Vec::with_capacity(size_of::<u64>() * values.len() + 64);
        put_levels(&mut raw, values.len(), values.nulls());
        let present: Vec<u64> = match values.null_count() {
            0 => values.values().iter().map(|value| value.to_bits()).collect(),
            _ => values.iter().flatten().map(f64::to_bits).collect(),
        };
        self.seen.add(&present, values.null_count() as u64);
        let known = self.words.values.len();
        let numbers = match self.forced {
            None | Some(ValueEncoding::Dictionary) => self.words.numbers(&present),
            Some(_) => None,
        };
        let encoding = match self.forced {
            // Without values there is no width to say, and nothing to split.
            _ if present.is_empty() => ValueEncoding::Direct,
            Some(ValueEncoding::Dictionary) if numbers.is_none() => ValueEncoding::Direct,
            Some(forced) => forced,
            None => self.choose(&present, numbers.as_deref(), zstd)?,
        };
        if encoding != ValueEncoding::Dictionary {
            self.words.forget(known);
        }
        put_values(&mut raw, encoding, &present, numbers.as_deref().unwrap_or_default());
        let rows = values.len();
        self.pages.push(&raw, rows, rows, parquet_encoding(encoding), zstd.floats(encoding))
    }

    fn choose(
        &mut self,
        present: &[u64],
        numbers: Option<&[u16]>,
        zstd: &mut PageZstd,
    ) -> Result<ValueEncoding> {
        let bits = present.iter().fold(0, |all, bits| all | bits);
        let kind = Kind { words: numbers.is_some(), short: bits.trailing_zeros() >= 24 };
        if let (known, encoding, left @ 1..) = &mut self.choice
            && *known == kind
        {
            *left -= 1;
            return Ok(*encoding);
        }
        let mut best = (usize::MAX, ValueEncoding::Direct);
        for encoding in ValueEncoding::ALL {
            if encoding == ValueEncoding::Dictionary && numbers.is_none() {
                continue;
            }
            let mut raw = Vec::new();
            put_values(&mut raw, encoding, present, numbers.unwrap_or_default());
            best = best.min((zstd.floats(encoding).compress(&raw)?.len(), encoding));
        }
        self.choice = (kind, best.1, PAGES_PER_TRIAL - 1);
        Ok(best.1)
    }
}

fn parquet_encoding(encoding: ValueEncoding) -> Encoding {
    match encoding {
        ValueEncoding::Direct => Encoding::PLAIN,
        ValueEncoding::Split => Encoding::BYTE_STREAM_SPLIT,
        ValueEncoding::Dictionary => Encoding::RLE_DICTIONARY,
    }
}

/// `numbers` are those of the words, where these are asked for.
fn put_values(out: &mut Vec<u8>, encoding: ValueEncoding, present: &[u64], numbers: &[u16]) {
    match encoding {
        ValueEncoding::Direct => present.iter().for_each(|bits| out.extend_from_slice(&bits.to_le_bytes())),
        ValueEncoding::Split => {
            for byte in 0..size_of::<u64>() {
                out.extend(present.iter().map(|bits| (bits >> (8 * byte)) as u8));
            }
        }
        ValueEncoding::Dictionary => put_numbers(out, numbers),
    }
}

/// The width, then one run: of one number, or of whole bytes up to a multiple of eight numbers.
fn put_numbers(out: &mut Vec<u8>, numbers: &[u16]) {
    let largest = numbers.iter().copied().max().unwrap_or_default();
    let wide = usize::from(largest) >= BYTE_WORDS;
    out.push(if wide { 16 } else { 8 });
    let first = numbers.first().copied().unwrap_or_default();
    let width = 1 + usize::from(wide);
    if numbers.iter().all(|number| *number == first) {
        return put_run(out, numbers.len(), &first.to_le_bytes()[..width]);
    }
    let groups = numbers.len().div_ceil(8);
    put_u64(out, (groups as u64) << 1 | 1);
    let end = out.len() + groups * 8 * width;
    match wide {
        true => numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes())),
        false => out.extend(numbers.iter().map(|number| *number as u8)),
    }
    out.resize(end, 0);
}

/// The dictionary of a column: values by their bits.
struct Words {
    values: Vec<u64>,
    /// Where each stands in `table`.
    slots: Vec<usize>,
    /// Numbers of words, found by hash and then one after the other.
    table: Box<[u16; SLOTS]>,
}

/// Four times the words, so that nearly each is found at the first look.
const SLOTS: usize = 4 * WORDS_MAX;
const FREE: u16 = u16::MAX;

impl Default for Words {
    fn default() -> Words {
        Words { values: Vec::new(), slots: Vec::new(), table: Box::new([FREE; SLOTS]) }
    }
}

impl Words {
    /// The numbers of all values, if each is a word or worth being one.
    fn numbers(&mut self, present: &[u64]) -> Option<Vec<u16>> {
        let known = self.values.len();
        let changes = present.array_windows().filter(|[a, b]| a != b).count();
        let room = (changes / VALUES_PER_WORD).max(WORDS_FREE.saturating_sub(known));
        let words_max = (known + room).min(WORDS_MAX);
        let mut numbers = Vec::with_capacity(present.len());
        let mut last = None;
        for &bits in present {
            let number = match last {
                Some((known, number)) if known == bits => number,
                _ => match self.number(bits, words_max) {
                    Some(number) => number,
                    None => {
                        self.forget(known);
                        return None;
                    }
                },
            };
            last = Some((bits, number));
            numbers.push(number);
        }
        Some(numbers)
    }

    /// A word's number, taken in if there is room.
    fn number(&mut self, bits: u64, words_max: usize) -> Option<u16> {
        let mut slot = slot_of(bits);
        while self.table[slot] != FREE {
            if self.values[usize::from(self.table[slot])] == bits {
                return Some(self.table[slot]);
            }
            slot = (slot + 1) % SLOTS;
        }
        if self.values.len() >= words_max {
            return None;
        }
        let number = self.values.len() as u16;
        self.table[slot] = number;
        self.values.push(bits);
        self.slots.push(slot);
        Some(number)
    }

    /// All words after the first `len`. The last one first, so that each leaves what it found.
    fn forget(&mut self, len: usize) {
        for slot in self.slots.drain(len..).rev() {
            self.table[slot] = FREE;
        }
        self.values.truncate(len);
    }
}

/// The bits of floats differ mostly in the upper ones.
fn slot_of(bits: u64) -> usize {
    (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SLOTS.trailing_zeros())) as usize
}

/// Bounds of the column. A NaN is in none.
#[derive(Default)]
struct Seen {
    bounds: Option<(f64, f64)>,
    nulls: u64,
}

impl Seen {
    fn add(&mut self, present: &[u64], nulls: u64) {
        self.nulls += nulls;
        let values = present.iter().map(|bits| f64::from_bits(*bits)).filter(|value| !value.is_nan());
        self.bounds = values.fold(self.bounds, |bounds, value| {
            let (min, max) = bounds.unwrap_or((value, value));
            Some((min.min(value), max.max(value)))
        });
    }

    /// Zeros in the way of the standard: whichever sign they have, both lie within the bounds.
    fn statistics(&self) -> Statistics {
        let min = self.bounds.map(|(min, _)| if min == 0.0 { -0.0 } else { min });
        let max = self.bounds.map(|(_, max)| if max == 0.0 { 0.0 } else { max });
        Statistics::double(min, max, None, Some(self.nulls), false)
    }
}
