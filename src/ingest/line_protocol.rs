//! InfluxDB line protocol, v1 to v3: the body of a write request -> lines -> their raw parts.
//!
//! [`lines`] finds where each line and its three parts end; nothing is copied or unescaped there, so that
//! the bytes of a series known already can be hashed and looked up as they were written. [`Line`] then
//! reads a part on demand: [`Line::fields`], [`Line::time_or`], and for a new series [`Line::parse_series`].
//! Invariant: a delimiter is escaped exactly if the byte before it is a backslash, here and in every part.
//! Not here: what fields and series exist, and their types (see the resolver).

mod error;
mod fields;
mod names;
mod precision;
mod series;
#[cfg(test)]
mod tests;

use memchr::{memchr, memchr_iter, memchr2, memchr3};

pub use error::{LINE_SHOWN_BYTES_MAX, LineError, Result};
pub use fields::{FieldValue, Fields};
pub use names::{RawName, RawStr};
pub use precision::Precision;
pub use series::{SeriesParts, TAGS_PER_LINE_MAX};

use error::{Shown, refuse};

/// A line holds at most this many bytes. InfluxDB has no such limit but that of the body, 25 MB; 4 MiB is
/// a point with 200,000 numbers of 20 bytes each, or one string as large as anybody should put in a point.
pub const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The measurement with its tags, and each field name, hold at most this many bytes as written.
/// InfluxDB's limit (64 KiB - 1), so what it took, we take.
pub const NAME_BYTES_MAX: usize = u16::MAX as usize;

/// Splits a body into lines. Blank lines and comments are skipped; a newline inside a quoted string
/// belongs to the string. A body that is not UTF-8 costs only the lines that are not.
pub fn lines(body: &[u8]) -> Lines<'_> {
    Lines { body, checked: simdutf8::basic::from_utf8(body).ok(), at: 0, number: 1 }
}

/// How many bytes of a part of a body are whole lines, whatever follows it.
pub fn whole_lines(part: &[u8]) -> usize {
    let mut lines = Lines { body: part, checked: None, at: 0, number: 1 };
    while let Some(first) = lines.skip_to_content() {
        let cut = Cut::of(part, first);
        // A string that is open here may end in what follows.
        if cut.string_is_open || cut.next > part.len() {
            break;
        }
        lines.at = cut.next;
    }
    lines.at
}

pub struct Lines<'a> {
    body: &'a [u8],
    /// The same body, if all of it is UTF-8: then no line needs a check of its own.
    checked: Option<&'a str>,
    /// Where the next physical line starts, and its number.
    at: usize,
    number: usize,
}

/// One line, cut into its parts. Whether names, values and time make sense shows when they are read.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The physical line on which it starts, from 1.
    pub number: usize,
    /// All of it, from the start of the physical line, without the line end.
    pub text: &'a str,
    /// Measurement and tags as written. Equal text means equal series; the reverse does not hold, since
    /// tags come in any order.
    pub series: &'a str,
    /// The fields as written; never empty.
    pub field_set: &'a str,
    pub time: Option<&'a str>,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<Line<'a>>;

    fn next(&mut self) -> Option<Result<Line<'a>>> {
        let first = self.skip_to_content()?;
        let (start, number) = (self.at, self.number);
        let cut = Cut::of(self.body, first);
        self.at = cut.next;
        self.number += 1 + cut.newlines;
        Some(self.line(start, first, number, &cut))
    }
}

impl<'a> Lines<'a> {
    /// Moves over blank lines and comments, to the start of a physical line with content; returns the
    /// place of the first byte that is neither space nor tab.
    fn skip_to_content(&mut self) -> Option<usize> {
        loop {
            let rest = self.body.get(self.at..)?;
            let blanks = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t'))?;
            let skipped = match rest[blanks..] {
                [b'\n', ..] => blanks,
                [b'\r', b'\n', ..] => blanks + 1,
                [b'\r'] => return None,
                [b'#', ..] => memchr(b'\n', rest)?,
                _ => return Some(self.at + blanks),
            };
            self.at += skipped + 1;
            self.number += 1;
        }
    }

    fn line(&self, start: usize, first: usize, number: usize, cut: &Cut) -> Result<Line<'a>> {
        let text = match self.checked {
            Some(body) => &body[start..cut.end],
            None => {
                let bytes = &self.body[start..cut.end];
                simdutf8::compat::from_utf8(bytes)
                    .map_err(|bad| not_utf8(number, bytes, bad.valid_up_to()))?
            }
        };
        let field_set = &text[cut.fields_start - start..cut.fields_end - start];
        let tail = text[cut.fields_end - start..].trim_matches([' ', '\t']);
        let line = Line {
            number,
            text,
            series: &text[first - start..cut.series_end - start],
            field_set,
            time: (!tail.is_empty()).then_some(tail),
        };
        line.check(cut.string_is_open)
    }
}

impl<'a> Line<'a> {
    /// The refusal of this line because of `place`, a part of its text. `what` is a sentence that names
    /// the thing and the cure; the line number is added.
    #[cold]
    pub fn refuse(&self, place: &str, what: impl Into<String>) -> Box<LineError> {
        refuse(self.number, self.text, place, what.into())
    }

    /// The flaws that cutting alone shows.
    fn check(self, string_is_open: bool) -> Result<Line<'a>> {
        if self.field_set.is_empty() || string_is_open {
            return Err(self.refuse_incomplete());
        }
        if self.text.len() > LINE_BYTES_MAX || self.series.len() > NAME_BYTES_MAX {
            return Err(self.refuse_too_long());
        }
        Ok(self)
    }

    #[cold]
    fn refuse_incomplete(&self) -> Box<LineError> {
        let series = Shown(self.series);
        if self.field_set.is_empty() {
            let what = format!("{series} has no fields; after a space, write name=value");
            return self.refuse(self.series, what);
        }
        let what = "a string does not end; close it with \", and write a quote inside a string as \\\"";
        self.refuse(self.field_set, what)
    }

    #[cold]
    fn refuse_too_long(&self) -> Box<LineError> {
        if self.series.len() > NAME_BYTES_MAX {
            let len = self.series.len();
            let what = format!(
                "measurement and tags take {len} bytes, the limit is {NAME_BYTES_MAX}; shorten the tag \
                 values or make one of them a string field"
            );
            return self.refuse(self.series, what);
        }
        let len = self.text.len();
        let what =
            format!("the line has {len} bytes, the limit is {LINE_BYTES_MAX}; send fewer fields at once");
        self.refuse(self.text, what)
    }
}

#[cold]
fn not_utf8(number: usize, bytes: &[u8], offset: usize) -> Box<LineError> {
    let text = String::from_utf8_lossy(bytes);
    // Up to the bad byte nothing was replaced.
    let what = format!("byte {} is not UTF-8; send the text as UTF-8", offset + 1);
    refuse(number, &text, &text[offset..], what)
}

/// Where the parts of a line end, as offsets in the body.
struct Cut {
    series_end: usize,
    fields_start: usize,
    fields_end: usize,
    /// Without `\n` or `\r\n`.
    end: usize,
    /// The start of the next physical line.
    next: usize,
    /// Those inside strings.
    newlines: usize,
    string_is_open: bool,
}

impl Cut {
    /// Of the line whose first byte that is not blank stands at `first`.
    fn of(body: &[u8], first: usize) -> Cut {
        let series_end = find_series_end(body, first);
        let spaces = body[series_end..].iter().position(|byte| *byte != b' ');
        let fields_start = spaces.map_or(body.len(), |spaces| series_end + spaces);
        let mut fields_end = None;
        let mut newlines = 0;
        let mut at = fields_start;
        let (end, string_is_open) = loop {
            let Some(step) = memchr3(b' ', b'\n', b'"', &body[at..]) else { break (body.len(), false) };
            let found = at + step;
            at = found + 1;
            match body[found] {
                b'\n' => break (found, false),
                b' ' if fields_end.is_none() && !is_escaped(body, found) => fields_end = Some(found),
                // Quotes mean something only where a value starts.
                b'"' if body[found - 1] == b'=' && !is_escaped(body, found - 1) => {
                    let Some(close) = find_string_end(body, at) else {
                        // Most likely a quote was forgotten here, and the lines that follow are good.
                        let end = memchr(b'\n', &body[at..]).map_or(body.len(), |step| at + step);
                        break (end, true);
                    };
                    newlines += memchr_iter(b'\n', &body[at..close]).count();
                    at = close + 1;
                }
                _ => {}
            }
        };
        let next = end + 1;
        let end = if end > first && body[end - 1] == b'\r' { end - 1 } else { end };
        // A line that has no fields ends before `fields_start`, or with it.
        let fields_start = fields_start.min(end);
        let fields_end = fields_end.unwrap_or(end).clamp(fields_start, end);
        Cut { series_end: series_end.min(end), fields_start, fields_end, end, next, newlines, string_is_open }
    }
}

/// The first space that is not escaped, or the line's end.
fn find_series_end(body: &[u8], first: usize) -> usize {
    let mut at = first;
    while let Some(step) = memchr2(b' ', b'\n', &body[at..]) {
        at += step;
        if body[at] == b'\n' || !is_escaped(body, at) {
            return at;
        }
        at += 1;
    }
    body.len()
}

/// The closing quote of the string whose content starts at `from`.
fn find_string_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// Whether the delimiter at `at` is part of a name. Backslashes do not escape each other in names:
/// `a\\,b` is the name `a\,b`.
fn is_escaped(bytes: &[u8], at: usize) -> bool {
    at > 0 && bytes[at - 1] == b'\\'
}
