//! Line protocol as it stands in the file: cut where lines end, otherwise sent as it is.

use std::io::Read;

use crate::cli::import::batch::{BYTES_MAX, Batch, Reader};
use crate::cli::import::source::Input;
use crate::error::Result;
use crate::ingest::line_protocol::{LINE_BYTES_MAX, whole_lines};

pub(super) struct Lines {
    text: Box<dyn Read>,
    /// Read and not sent yet.
    buffer: Vec<u8>,
    position: u64,
    /// The number of the buffer's first line.
    number: u64,
    ended: bool,
    failed: Box<dyn Fn(std::io::Error) -> crate::error::Error>,
}

impl Lines {
    /// The numbers of lines are counted from the beginning, also when it is passed over.
    pub fn open(input: &Input, from: u64) -> Result<Lines> {
        let mut number = 1;
        let mut text = input.text()?;
        let mut left = from;
        let mut piece = vec![0; BYTES_MAX];
        while left > 0 {
            let room = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = text.read(&mut piece[..room]).map_err(input.error("read"))?;
            if read == 0 {
                break;
            }
            number += memchr::memchr_iter(b'\n', &piece[..read]).count() as u64;
            left -= read as u64;
        }
        let failed = Box::new(input.error("read"));
        Ok(Lines { text, buffer: Vec::new(), position: from, number, ended: false, failed })
    }

    fn fill(&mut self, bytes: usize) -> Result<()> {
        while !self.ended && self.buffer.len() < bytes {
            let room = (bytes - self.buffer.len()) as u64;
            let read = Read::by_ref(&mut self.text).take(room).read_to_end(&mut self.buffer);
            self.ended = read.map_err(&self.failed)? == 0;
        }
        Ok(())
    }
}

impl Reader for Lines {
    fn next(&mut self, batch: &mut Batch) -> Result<bool> {
        batch.clear();
        self.fill(BYTES_MAX)?;
        let mut whole = whole_lines(&self.buffer);
        if whole == 0 && !self.ended {
            // A long line.
            self.fill(2 * LINE_BYTES_MAX)?;
            whole = whole_lines(&self.buffer);
        }
        if self.ended {
            whole = self.buffer.len();
        } else if whole == 0 {
            // No line is that long: a quote that does not end. The server says so.
            whole = memchr::memchr(b'\n', &self.buffer).map_or(self.buffer.len(), |end| end + 1);
        }
        if whole == 0 {
            return Ok(false);
        }
        batch.lines.text.extend(self.buffer.drain(..whole));
        let lines = memchr::memchr_iter(b'\n', &batch.lines.text).count() as u64;
        let last = u64::from(batch.lines.text.last() != Some(&b'\n'));
        batch.numbers.extend(self.number..self.number + lines + last);
        self.number += lines;
        self.position += whole as u64;
        (batch.position, batch.read_bytes) = (self.position, self.position);
        Ok(true)
    }
}
