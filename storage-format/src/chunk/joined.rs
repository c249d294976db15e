//! One column of chunks that follow each other, decoded into the same buffers.
//!
//! Invariant: a slot per row so far; a row without a value holds the default, as in [`ColumnValues`]. Until a chunk has the
//! column there are no values, only rows.
//! Not here: the chunks' times, and that they follow each other.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use arrow::array::BooleanBufferBuilder;
use arrow::buffer::NullBuffer;

use super::values::{ColumnValues, Values};
use crate::corrupt::{Corrupt, Result};
use crate::point::FieldType;
use crate::presence::Bitmap;

pub struct Joined {
    values: Option<Values>,
    rows: usize,
    /// Kept from the first row on that lacks a value.
    present: Option<BooleanBufferBuilder>,
    /// All chunks together, so that buffers need not grow.
    rows_max: usize,
}

impl Joined {
    pub fn new(rows_max: usize) -> Joined {
        Joined { values: None, rows: 0, present: None, rows_max }
    }

    /// `None` if no row has a value.
    pub fn finish(self) -> Option<ColumnValues> {
        let present = self.present.map(|mut present| NullBuffer::new(present.finish()));
        let none = present.as_ref().is_some_and(|present| present.null_count() == present.len());
        self.values.filter(|_| !none).map(|values| ColumnValues { values, present })
    }

    /// Rows without a value.
    pub(super) fn add_missing(&mut self, rows: usize) {
        self.bits().append_n(rows, false);
        self.rows += rows;
        if let Some(values) = &mut self.values {
            values.add_defaults(rows);
        }
    }

    /// Rows that all have a value.
    pub(super) fn add(&mut self, dense: Values) -> Result<()> {
        self.count_full(dense.len());
        self.append(dense)
    }

    /// Rows of which some have a value: `present` says which, `dense` are these values.
    pub(super) fn add_sparse(&mut self, dense: Values, present: Bitmap) -> Result<()> {
        if dense.len() == present.len() {
            return self.add(dense);
        }
        let bits = self.bits();
        present.iter().for_each(|bit| bits.append(bit));
        self.rows += present.len();
        self.append(dense.spread(&present))
    }

    /// Room for integers of as many rows, which all have one, to be written over zeros.
    pub(super) fn ints(&mut self, rows: usize) -> Result<&mut [i64]> {
        let before = self.rows;
        self.count_full(rows);
        let Values::Int(values) = self.values_after(before, FieldType::Int) else { return Err(changed()) };
        values.resize(before + rows, 0);
        Ok(values.split_at_mut(before).1)
    }

    fn append(&mut self, values: Values) -> Result<()> {
        if self.values.is_none() && values.len() == self.rows_max {
            self.values = Some(values);
            return Ok(());
        }
        let before = self.rows - values.len();
        self.values_after(before, values.field_type()).append(values).ok_or_else(changed)
    }

    fn values_after(&mut self, before: usize, field_type: FieldType) -> &mut Values {
        let rows_max = self.rows_max;
        self.values.get_or_insert_with(|| {
            let mut values = Values::with_capacity(field_type, rows_max);
            values.add_defaults(before);
            values
        })
    }

    fn count_full(&mut self, rows: usize) {
        if let Some(bits) = &mut self.present {
            bits.append_n(rows, true);
        }
        self.rows += rows;
    }

    fn bits(&mut self) -> &mut BooleanBufferBuilder {
        let (before, rows_max) = (self.rows, self.rows_max);
        self.present.get_or_insert_with(|| {
            let mut bits = BooleanBufferBuilder::new(rows_max);
            bits.append_n(before, true);
            bits
        })
    }
}

fn changed() -> Corrupt {
    Corrupt::new("a column changes its type from one chunk to the next")
}
