//! Answers as CSV (RFC 4180, lines end with a newline): a head with the names, then the rows.
//!
//! Invariant: a null is nothing between two commas, an empty text is `""`; NaN and the infinities stand as such.

use bytes::Bytes;
use std::io::Write;

use crate::query::Answer;
use crate::server::cells::{Cell, Cells, TimeFormat};
use crate::server::json::PIECE_BYTES;

pub struct Csv {
    cells: Vec<Cells>,
    /// Taken by the first piece.
    head: Option<Vec<u8>>,
    times: TimeFormat,
    at: usize,
    end: usize,
}

impl Csv {
    pub fn new(answer: &Answer, times: TimeFormat) -> Csv {
        let mut head = Vec::new();
        for (at, column) in answer.columns.iter().enumerate() {
            separate(&mut head, at);
            text(&mut head, &column.name);
        }
        head.push(b'\n');
        Csv { cells: Cells::of(answer), head: Some(head), times, at: 0, end: answer.rows() }
    }

    fn row(&self, out: &mut Vec<u8>) {
        for (at, cells) in self.cells.iter().enumerate() {
            separate(out, at);
            let written = match cells.get(self.at) {
                Cell::Null => Ok(()),
                Cell::Time(time) => match self.times {
                    TimeFormat::Rfc3339 => write!(out, "{}", query_lang::time::format_time(time)),
                    TimeFormat::Unit(unit) => write!(out, "{}", time.div_euclid(unit)),
                },
                Cell::Float(value) if value.is_finite() => {
                    serde_json::to_writer(out.by_ref(), &value).map_err(Into::into)
                }
                Cell::Float(value) => write!(out, "{value}"),
                Cell::Integer(value) => write!(out, "{value}"),
                Cell::Unsigned(value) => write!(out, "{value}"),
                Cell::Boolean(value) => write!(out, "{value}"),
                Cell::Text(value) => {
                    text(out, value);
                    Ok(())
                }
            };
            written.expect("memory can be written to");
        }
        out.push(b'\n');
    }
}

impl Iterator for Csv {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut out = self.head.take().unwrap_or_default();
        while out.len() < PIECE_BYTES && self.at < self.end {
            self.row(&mut out);
            self.at += 1;
        }
        (!out.is_empty()).then(|| out.into())
    }
}

fn separate(out: &mut Vec<u8>, column: usize) {
    if column > 0 {
        out.push(b',');
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    let plain = !text.is_empty() && !text.contains([',', '"', '\n', '\r']);
    if plain {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hard_to_say() {
        let answer = crate::server::json::tests::hard();
        let csv: Vec<u8> = Csv::new(&answer, TimeFormat::Unit(1_000_000)).flatten().collect();
        let expected = "time,host,f,\"\"\"u\"\"\"\n0,\"a,\"\"b\"\"\n\",0.1,18446744073709551615\n1500,\"\",NaN,\n-1,,-inf,0\n";
        assert_eq!(String::from_utf8(csv).unwrap(), expected);
    }
}
