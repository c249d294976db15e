//! The rows of a slice put in order, as columns.
//!
//! Invariant: a tag is a number per row, and the texts once; a text keeps its number in all slices of an answer.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, DictionaryArray, Int32Array, StringArray, TimestampNanosecondArray, UInt32Array,
    new_empty_array, new_null_array,
};
use arrow::compute::{concat, take};
use arrow::datatypes::Int32Type;
use hashbrown::HashMap;
use rayon::prelude::*;
use storage_format::point::{TagSet, Time};
use storage_format::state::data_type;

use crate::error::Result;
use crate::guard::Guard;
use crate::query::answer::{AnswerColumn, Role};
use crate::query::frame::Frame;
use crate::query::points::Points;
use crate::query::points::find::Found;

/// The texts of a tag, in the order in which they came.
pub(super) struct Dictionary {
    tag: String,
    numbers: HashMap<Box<str>, i32>,
    texts: Arc<StringArray>,
}

/// What a text costs beside its bytes: in the table, and its offset.
const TEXT_BYTES: usize = 48;

impl Dictionary {
    pub fn new(tag: &str) -> Dictionary {
        let texts = Arc::new(StringArray::from_iter_values([""; 0]));
        Dictionary { tag: tag.to_string(), numbers: HashMap::new(), texts }
    }

    /// The number of the tag's text in each series; None where it has none. And the bytes that this added.
    fn number(&mut self, series: &[&TagSet]) -> (Vec<Option<i32>>, usize) {
        let mut new: Vec<&str> = Vec::new();
        let numbers = series.iter().map(|tags| {
            let text = tags.get(&self.tag)?;
            if let Some(number) = self.numbers.get(text) {
                return Some(*number);
            }
            let number = self.numbers.len() as i32;
            self.numbers.insert(text.into(), number);
            new.push(text);
            Some(number)
        });
        let numbers: Vec<Option<i32>> = numbers.collect();
        if !new.is_empty() {
            let known = self.texts.iter().flatten();
            self.texts = Arc::new(StringArray::from_iter_values(known.chain(new.iter().copied())));
        }
        (numbers, new.iter().map(|text| 2 * text.len() + TEXT_BYTES).sum())
    }
}

impl Points {
    /// At most so many rows. What was counted for the rows that were found is counted for the frame afterwards.
    pub(super) fn in_order(&mut self, found: Found, most: usize, guard: &Guard) -> Result<Frame> {
        let Found { mut pieces, bytes, .. } = found;
        pieces.sort_unstable_by_key(|(series, rows)| (*series, rows.times[0]));
        let newest_first = self.asked.newest_first;
        let keys = pieces.iter().flat_map(|(_, rows)| rows.times.iter());
        let keys = keys.map(|time| if newest_first { !*time } else { *time });
        // With the place among the pieces, so that rows of one time stay in the order of their series.
        let mut order: Vec<(Time, u32)> = keys.zip(0..).collect();
        order.par_sort_unstable();
        order.truncate(most);
        let rows = order.len();

        let key_of = |key: Time| if newest_first { !key } else { key };
        let times: Vec<Time> = order.iter().map(|(key, _)| key_of(*key)).collect();
        let stays = order.iter().zip(0..).all(|((_, row), place)| *row == place);
        let places = UInt32Array::from_iter_values(order.into_iter().map(|(_, row)| row));
        let in_place = |array: ArrayRef| match stays {
            true => array.slice(0, rows),
            false => take(&array, &places, None).expect("every row of the order exists"),
        };
        let column = |at: usize| {
            let data_type = data_type(self.asked.fields[at].field_type);
            if pieces.iter().all(|(_, rows)| rows.columns[at].is_none()) {
                return new_null_array(&data_type, rows);
            }
            let part = |rows: &crate::rows::Rows| {
                rows.columns[at].clone().unwrap_or_else(|| new_null_array(&data_type, rows.len()))
            };
            let parts: Vec<ArrayRef> = pieces.iter().map(|(_, rows)| part(rows)).collect();
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            in_place(match parts.as_slice() {
                [] => new_empty_array(&data_type),
                some => concat(some).expect("a field has one type"),
            })
        };
        // Each column of its own is there twice for a moment; then once beside what it was made of.
        let estimate = bytes + rows * (8 + 4 * self.tags.len());
        guard.reserve(estimate)?;
        let fields: Vec<ArrayRef> = (0..self.names.len()).into_par_iter().map(column).collect();

        let series: Vec<&TagSet> = pieces.iter().map(|(series, _)| self.scan.tags_of(*series)).collect();
        let piece_of: Vec<u32> = (0..)
            .zip(&pieces)
            .flat_map(|(piece, (_, rows))| std::iter::repeat_n(piece, rows.len()))
            .collect();
        let piece_of: Vec<u32> = places.values().iter().map(|row| piece_of[*row as usize]).collect();
        let tag = |dictionary: &mut Dictionary| {
            let (numbers, added) = dictionary.number(&series);
            let all = numbers.iter().all(Option::is_some);
            let of_row = |piece: &u32| numbers[*piece as usize];
            let keys: Int32Array = match all {
                true => {
                    piece_of.iter().map(|piece| of_row(piece).unwrap_or_default()).collect::<Vec<_>>().into()
                }
                false => piece_of.iter().map(of_row).collect(),
            };
            let texts: ArrayRef = Arc::<StringArray>::clone(&dictionary.texts);
            let array = DictionaryArray::<Int32Type>::try_new(keys, texts).expect("each number has its text");
            (Arc::new(array) as ArrayRef, added)
        };
        let tags: Vec<(ArrayRef, usize)> = self.tags.par_iter_mut().map(tag).collect();
        guard.reserve(tags.iter().map(|(_, added)| added).sum())?;

        let mut columns = vec![AnswerColumn { name: "time".to_string(), role: Role::Time }];
        columns.extend(self.asked.tags.iter().map(|tag| AnswerColumn { name: tag.clone(), role: Role::Tag }));
        columns.extend(self.names.iter().map(|name| AnswerColumn { name: name.clone(), role: Role::Value }));
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"));
        let mut arrays = vec![times];
        arrays.extend(tags.into_iter().map(|(array, _)| array));
        arrays.extend(fields);
        let frame = Frame::new(columns, arrays, Vec::new());
        guard.reserve(frame.heap_bytes())?;
        guard.release(bytes + estimate);
        Ok(frame)
    }
}
