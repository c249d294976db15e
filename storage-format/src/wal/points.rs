//! The points of one table in one batch: in memory as the write path carries them, and as the log holds them.
//!
//! Invariant: `rows[i].values` is where row i's values begin in `values`; a row has one value per column of
//! its layout, in the layout's order. Strings stand in `text`, referred to by [`StrRef`].
//! Not here: names. Tables, columns and series are numbers.

use crate::corrupt::{Corrupt, Result};
use crate::point::{FieldType, Time};
use crate::varint;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Points {
    /// The distinct column lists of the rows.
    pub layouts: Vec<Vec<u32>>,
    pub rows: Vec<PointRow>,
    /// Raw bits: a float's, an integer's, 0 or 1, or a [`StrRef`].
    pub values: Vec<u64>,
    pub text: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointRow {
    pub time: Time,
    pub series: u32,
    /// Index into [`Points::layouts`].
    pub layout: u32,
    /// Index of the first value in [`Points::values`].
    pub values: u32,
}

/// A string, or bytes, in [`Points::text`], packed into the 64 bits of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrRef(pub u64);

impl StrRef {
    pub fn new(offset: usize, len: usize) -> StrRef {
        debug_assert!(offset <= u32::MAX as usize && len <= u32::MAX as usize, "bug: a batch is too large");
        StrRef((offset as u64) << 32 | len as u64)
    }

    pub fn in_text(self, text: &[u8]) -> &[u8] {
        let (start, len) = ((self.0 >> 32) as usize, self.0 as u32 as usize);
        text.get(start..start + len).expect("bug: a string reference points outside its batch")
    }
}

impl Points {
    /// Moves the rows that pass into points of their own, which share nothing with these. Their values stay here, too, named
    /// by no row. `types` is indexed by column.
    pub fn take(&mut self, types: &[FieldType], which: impl Fn(&PointRow) -> bool) -> Points {
        let mut taken = Points { layouts: self.layouts.clone(), ..Points::default() };
        let rows: Vec<PointRow> = self.rows.extract_if(.., |row| which(row)).collect();
        for row in rows {
            let (columns, values) = self.row(&row);
            taken.rows.push(PointRow { values: taken.values.len() as u32, ..row });
            for (column, bits) in columns.iter().zip(values) {
                let bits = match types.get(*column as usize).expect("bug: a column has no type") {
                    FieldType::Str | FieldType::Binary => {
                        let text = StrRef(*bits).in_text(&self.text);
                        let at = taken.text.len();
                        taken.text.extend_from_slice(text);
                        StrRef::new(at, text.len()).0
                    }
                    FieldType::Float | FieldType::Int | FieldType::UInt | FieldType::Bool => *bits,
                };
                taken.values.push(bits);
            }
        }
        taken
    }

    /// A row's columns and values.
    pub fn row(&self, row: &PointRow) -> (&[u32], &[u64]) {
        let columns = self.layouts.get(row.layout as usize).expect("bug: a row names no layout");
        let start = row.values as usize;
        let values = self.values.get(start..start + columns.len()).expect("bug: a row lacks values");
        (columns, values)
    }

    /// Appends this part to the body of a points record. `types` is indexed by column.
    pub fn encode(&self, out: &mut Vec<u8>, table: u32, types: &[FieldType]) {
        varint::put_u64(out, u64::from(table));
        varint::put_u64(out, self.layouts.len() as u64);
        for columns in &self.layouts {
            varint::put_u64(out, columns.len() as u64);
            columns.iter().for_each(|column| varint::put_u64(out, u64::from(*column)));
        }
        varint::put_u64(out, self.rows.len() as u64);
        let mut previous: Time = 0;
        for row in &self.rows {
            varint::put_u64(out, u64::from(row.series));
            varint::put_u64(out, u64::from(row.layout));
            varint::put_i64(out, row.time.wrapping_sub(previous));
            previous = row.time;
            let (columns, values) = self.row(row);
            for (column, bits) in columns.iter().zip(values) {
                match types.get(*column as usize).expect("bug: a column has no type") {
                    FieldType::Float => out.extend_from_slice(&bits.to_le_bytes()),
                    FieldType::Int => varint::put_i64(out, *bits as i64),
                    FieldType::UInt => varint::put_u64(out, *bits),
                    FieldType::Bool => out.push(*bits as u8),
                    FieldType::Str | FieldType::Binary => {
                        varint::put_bytes(out, StrRef(*bits).in_text(&self.text))
                    }
                }
            }
        }
    }

    /// Takes one part from the body of a points record: its table and the points. `types` tells a table's
    /// column types, or None if the segment has not defined the table or the column.
    pub fn decode(rest: &mut &[u8], types: impl Fn(u32, u32) -> Option<FieldType>) -> Result<(u32, Points)> {
        let table = varint::take_u32(rest)?;
        let mut points = Points::default();
        let mut layout_types = Vec::new();
        for _ in 0..varint::take_count(rest)? {
            let count = varint::take_count(rest)?;
            let columns = (0..count).map(|_| varint::take_u32(rest)).collect::<Result<Vec<u32>>>()?;
            let of_columns = columns
                .iter()
                .map(|column| types(table, *column).ok_or(Corrupt::new("a column is not defined")))
                .collect::<Result<Vec<FieldType>>>()?;
            layout_types.push(of_columns);
            points.layouts.push(columns);
        }
        let rows = varint::take_count(rest)?;
        points.rows.reserve(rows);
        let mut time: Time = 0;
        for _ in 0..rows {
            let series = varint::take_u32(rest)?;
            let layout = varint::take_u32(rest)?;
            time = time.wrapping_add(varint::take_i64(rest)?);
            let values =
                u32::try_from(points.values.len()).map_err(|_| Corrupt::new("a batch is too large"))?;
            points.rows.push(PointRow { time, series, layout, values });
            let of_columns =
                layout_types.get(layout as usize).ok_or(Corrupt::new("a row names no layout"))?;
            for field_type in of_columns {
                let bits = match field_type {
                    FieldType::Float => u64::from_le_bytes(varint::take_array(rest)?),
                    FieldType::Int => varint::take_i64(rest)? as u64,
                    FieldType::UInt => varint::take_u64(rest)?,
                    FieldType::Bool => u64::from(varint::take_u8(rest)? & 1),
                    FieldType::Str | FieldType::Binary => {
                        let text = match field_type {
                            FieldType::Str => varint::take_str(rest)?.as_bytes(),
                            _ => varint::take_bytes(rest)?,
                        };
                        let at = points.text.len();
                        points.text.extend_from_slice(text);
                        StrRef::new(at, text.len()).0
                    }
                };
                points.values.push(bits);
            }
        }
        Ok((table, points))
    }
}
