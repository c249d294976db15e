//! Answers as CSV (RFC 4180, lines end with a newline): a head with the names, then the rows.
//!
//! Invariant: a null is nothing between two commas, an empty text is `""`; NaN and the infinities stand as such.

use std::io::Write;

use arrow::array::RecordBatch;

use crate::query::AnswerColumn;
use crate::server::cells::{Cell, Cells, TimeFormat};
use crate::server::format::{Encoder, Out, PIECE_BYTES};

pub struct Csv {
    names: Vec<String>,
    cells: Vec<Cells>,
    times: TimeFormat,
    /// The time that was written last: rows of one time follow one another.
    last_time: (Option<i64>, String),
    at: usize,
    end: usize,
}

impl Csv {
    pub fn new(columns: &[AnswerColumn], times: TimeFormat) -> Csv {
        let names = columns.iter().map(|column| column.name.clone()).collect();
        Csv { names, cells: Vec::new(), times, last_time: (None, String::new()), at: 0, end: 0 }
    }

    fn row(&mut self, out: &mut Vec<u8>) {
        for (at, cells) in self.cells.iter().enumerate() {
            separate(out, at);
            let written = match cells.get(self.at) {
                Cell::Null => Ok(()),
                Cell::Time(time) => match self.times {
                    TimeFormat::Rfc3339 => {
                        if self.last_time.0 != Some(time) {
                            self.last_time = (Some(time), query_lang::time::format_time(time));
                        }
                        out.extend_from_slice(self.last_time.1.as_bytes());
                        Ok(())
                    }
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
                Cell::Written(value) => {
                    out.extend_from_slice(value);
                    Ok(())
                }
            };
            written.expect("memory can be written to");
        }
        out.push(b'\n');
    }
}

impl Encoder for Csv {
    fn begin(&mut self, out: &mut Vec<u8>) {
        for (at, name) in self.names.iter().enumerate() {
            separate(out, at);
            text(out, name);
        }
        out.push(b'\n');
    }

    fn take(&mut self, batch: RecordBatch) {
        self.cells = Cells::of(&batch, &self.cells, text);
        (self.at, self.end) = (0, batch.num_rows());
    }

    fn rows(&mut self, out: &mut Out) -> bool {
        let out = &mut out.text;
        while out.len() < PIECE_BYTES && self.at < self.end {
            self.row(out);
            self.at += 1;
        }
        self.at < self.end
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
    use crate::server::format::Format;
    use crate::server::format::tests::encoded;

    #[test]
    fn what_is_hard_to_say() {
        let answer = crate::server::json::tests::hard();
        let csv = encoded(Format::Csv, answer, TimeFormat::Unit(1_000_000));
        let expected = "time,host,f,\"\"\"u\"\"\"\n0,\"a,\"\"b\"\"\n\",0.1,18446744073709551615\n1500,\"\",NaN,\n-1,,-inf,0\n";
        assert_eq!(String::from_utf8(csv).unwrap(), expected);
    }
}
