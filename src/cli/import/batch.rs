//! Lines that are sent together, and where they stand in the file.

use crate::cli::line_text::LineText;
use crate::error::Result;

pub(super) struct Batch {
    pub lines: LineText,
    /// For each physical line of the text: its line or row in the file, from 1.
    pub numbers: Vec<u64>,
    /// Where the file goes on after this batch.
    pub position: u64,
    /// How much of the file has been read, for the progress.
    pub read_bytes: u64,
    /// Lines and rows that cannot be sent, with the reason.
    pub refused: Vec<(u64, String)>,
    /// Rows without any value.
    pub empty: u64,
    /// Values left out.
    pub not_finite: u64,
}

/// Lines of one request: large enough that the fsync does not matter, small enough that a refused batch is sent again
/// cheaply.
pub(super) const LINES_MAX: usize = 10_000;
pub(super) const BYTES_MAX: usize = 1 << 20;

pub(super) trait Reader {
    /// The next batch, in place of what is there. False at the end.
    fn next(&mut self, batch: &mut Batch) -> Result<bool>;
}

impl Batch {
    pub fn new() -> Batch {
        Batch {
            lines: LineText::new(),
            numbers: Vec::new(),
            position: 0,
            read_bytes: 0,
            refused: Vec::new(),
            empty: 0,
            not_finite: 0,
        }
    }

    pub fn clear(&mut self) {
        self.lines.text.clear();
        self.numbers.clear();
        self.refused.clear();
        (self.empty, self.not_finite) = (0, 0);
    }

    pub fn is_full(&self) -> bool {
        self.numbers.len() >= LINES_MAX || self.lines.text.len() >= BYTES_MAX
    }

    /// Ends the line of a row.
    pub fn end(&mut self, number: u64, time_ns: i64) {
        let before = self.lines.written();
        match self.lines.end(time_ns) {
            Ok(()) => {
                // A text may hold line ends, and answers count physical lines.
                let lines = memchr::memchr_iter(b'\n', &self.lines.text[before..]).count();
                self.numbers.extend(std::iter::repeat_n(number, lines));
            }
            Err(None) => self.empty += 1,
            Err(Some(why)) => self.refused.push((number, why)),
        }
    }
}
