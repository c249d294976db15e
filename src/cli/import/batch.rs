//! Lines or samples that are sent together, and where they stand in the file.

use arrow::array::Array;

use crate::cli::import::samples::Samples;
use crate::cli::line_text::LineText;
use crate::error::Result;

pub(super) struct Batch {
    pub lines: LineText,
    /// Rows of tables that line protocol cannot write to.
    pub samples: Samples,
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

/// What rows of columns become, one after another: first the tags, then the fields.
pub(super) trait RowText {
    fn begin(&mut self, table: &str);

    fn tag(&mut self, key: &str, value: &str);

    /// The value of a column in a row, if it has one. False if it cannot be said and is left out.
    fn cell(&mut self, name: &str, column: &dyn Array, row: usize) -> bool;

    /// Err takes the row back and says why: None if it had no values.
    fn end(&mut self, time_ns: i64) -> std::result::Result<(), Option<String>>;
}

impl RowText for LineText {
    fn begin(&mut self, table: &str) {
        LineText::begin(self, table);
    }

    fn tag(&mut self, key: &str, value: &str) {
        LineText::tag(self, key, value);
    }

    fn cell(&mut self, name: &str, column: &dyn Array, row: usize) -> bool {
        LineText::cell(self, name, column, row)
    }

    fn end(&mut self, time_ns: i64) -> std::result::Result<(), Option<String>> {
        LineText::end(self, time_ns)
    }
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
            samples: Samples::default(),
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
        self.samples = Samples::default();
        self.numbers.clear();
        self.refused.clear();
        (self.empty, self.not_finite) = (0, 0);
    }

    pub fn is_full(&self) -> bool {
        self.numbers.len() >= LINES_MAX || self.lines.text.len() >= BYTES_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.lines.text.is_empty() && self.samples.is_empty()
    }

    /// Where the rows of a table go.
    pub fn rows_of(&mut self, table: &str) -> &mut dyn RowText {
        if Samples::are_in(table) { &mut self.samples } else { &mut self.lines }
    }

    /// Ends a row of a table.
    pub fn end_row(&mut self, table: &str, number: u64, time_ns: i64) {
        if !Samples::are_in(table) {
            return self.end(number, time_ns);
        }
        match self.samples.end(time_ns) {
            Ok(()) => {}
            Err(None) => self.empty += 1,
            Err(Some(why)) => self.refused.push((number, why)),
        }
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
