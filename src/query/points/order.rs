//! The rows of a slice put in order, and made into columns batch by batch.
//!
//! Invariant: a tag is a number per row, and the texts once; a text keeps its number in all slices of an answer.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, DictionaryArray, Int32Array, StringArray, TimestampNanosecondArray, UInt32Array,
    new_null_array,
};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Int32Type};
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
use crate::rows::Rows;

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

/// The rows of a slice on their way out. They are counted against the guard until all are taken.
pub(super) struct Ordered {
    times: Vec<Time>,
    /// As they were found, piece by piece.
    columns: Vec<ArrayRef>,
    /// The places of the rows in `times` and `columns`, in the order of the answer.
    order: Vec<u32>,
    taken: usize,
    /// The piece that each row was found in.
    piece_of: Vec<u32>,
    /// For each tag the number of each piece's text.
    texts: Vec<Vec<Option<i32>>>,
    bytes: usize,
}

impl Ordered {
    pub fn left(&self) -> usize {
        self.order.len() - self.taken
    }

    /// The next so many rows. What was counted for the frame is the caller's to give back.
    pub fn take(&mut self, points: &Points, most: usize, guard: &Guard) -> Result<Frame> {
        let count = most.min(self.left());
        let order = &self.order[self.taken..][..count];
        // Where they follow one another as they were found, nothing needs to be moved.
        let run = order.first().filter(|first| order.iter().zip(**first..).all(|(row, at)| *row == at));
        let places = UInt32Array::from(order.to_vec());
        let column = |array: &ArrayRef| match run {
            Some(first) => array.slice(*first as usize, count),
            None => take(array, &places, None).expect("every place is a row"),
        };
        let fields: Vec<ArrayRef> = self.columns.par_iter().map(column).collect();
        let times: Vec<Time> = order.iter().map(|row| self.times[*row as usize]).collect();
        let pieces: Vec<u32> = order.iter().map(|row| self.piece_of[*row as usize]).collect();
        let tag = |(dictionary, texts): (&Dictionary, &Vec<Option<i32>>)| {
            let keys = pieces.iter().map(|piece| texts[*piece as usize]);
            let keys: Int32Array = match texts.iter().all(Option::is_some) {
                true => keys.map(Option::unwrap_or_default).collect::<Vec<_>>().into(),
                false => keys.collect(),
            };
            let texts: ArrayRef = Arc::<StringArray>::clone(&dictionary.texts);
            let array = DictionaryArray::<Int32Type>::try_new(keys, texts).expect("each number has its text");
            Arc::new(array) as ArrayRef
        };
        let tags: Vec<ArrayRef> = points.tags.par_iter().zip(&self.texts).map(tag).collect();
        self.taken += count;

        let mut columns = vec![AnswerColumn { name: "time".to_string(), role: Role::Time }];
        columns
            .extend(points.asked.tags.iter().map(|tag| AnswerColumn { name: tag.clone(), role: Role::Tag }));
        columns
            .extend(points.names.iter().map(|name| AnswerColumn { name: name.clone(), role: Role::Value }));
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"));
        let arrays = std::iter::once(times).chain(tags).chain(fields).collect();
        let frame = Frame::new(columns, arrays, Vec::new());
        guard.reserve(frame.heap_bytes())?;
        if self.left() == 0 {
            guard.release(std::mem::take(&mut self.bytes));
        }
        Ok(frame)
    }
}

impl Points {
    /// At most so many rows, in order. What was counted for the rows that were found is counted until they are taken.
    pub(super) fn in_order(&mut self, found: Found, most: usize, guard: &Guard) -> Result<Ordered> {
        let Found { mut pieces, bytes: of_pieces, .. } = found;
        pieces.sort_unstable_by_key(|(series, rows)| (*series, rows.times[0]));
        let series: Vec<&TagSet> = pieces.iter().map(|(series, _)| self.scan.tags_of(*series)).collect();
        let texts = self.tags.par_iter_mut().map(|dictionary| dictionary.number(&series));
        let (texts, added): (Vec<Vec<Option<i32>>>, Vec<usize>) = texts.unzip();
        guard.reserve(added.into_iter().sum())?;

        let rows: usize = pieces.iter().map(|(_, rows)| rows.len()).sum();
        // The columns are there twice for a moment; sorting takes two pairs of a time and a place for each row.
        let while_sorted = rows * 2 * size_of::<(u64, u32)>();
        let bytes = of_pieces + rows * 16 + texts.len() * pieces.len() * size_of::<Option<i32>>();
        guard.reserve(bytes + while_sorted)?;
        let times: Vec<Time> = pieces.iter().flat_map(|(_, rows)| rows.times.iter().copied()).collect();
        let column = |at: usize| joined(&pieces, at, data_type(self.asked.fields[at].field_type));
        let (columns, mut order) = rayon::join(
            || (0..self.names.len()).into_par_iter().map(column).collect(),
            || by_time(&times, self.asked.newest_first),
        );
        let piece_of =
            (0..).zip(&pieces).flat_map(|(at, (_, rows))| std::iter::repeat_n(at, rows.len())).collect();
        drop(pieces);
        order.truncate(most);
        guard.release(of_pieces + while_sorted);
        Ok(Ordered { times, columns, order, taken: 0, piece_of, texts, bytes })
    }
}

/// A column of all pieces.
fn joined(pieces: &[(usize, Rows)], at: usize, data_type: DataType) -> ArrayRef {
    let rows = pieces.iter().map(|(_, rows)| rows.len());
    if pieces.iter().all(|(_, rows)| rows.columns[at].is_none()) {
        return new_null_array(&data_type, rows.sum());
    }
    let part = |(_, rows): &(usize, Rows)| {
        rows.columns[at].clone().unwrap_or_else(|| new_null_array(&data_type, rows.len()))
    };
    let parts: Vec<ArrayRef> = pieces.iter().map(part).collect();
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    concat(&parts).expect("a field has one type")
}

/// Bits that one pass of sorting tells apart: its counts stay in the nearest cache.
const PASS_BITS: u32 = 11;

/// The places of times in ascending or descending order; those of equal times in the order of their places.
///
/// By counting, from the lowest bits on, because points of many series share most bits of their times.
fn by_time(times: &[Time], newest_first: bool) -> Vec<u32> {
    let places = 0..times.len() as u32;
    let (Some(low), Some(high)) = (times.iter().min(), times.iter().max()) else { return Vec::new() };
    if times.is_sorted() && (!newest_first || low == high) {
        return places.collect();
    }
    let key = |time: &Time| if newest_first { high.abs_diff(*time) } else { low.abs_diff(*time) };
    let differing = times.iter().fold(0, |bits, time| bits | key(time));
    let (mut pairs, mut sorted): (Vec<(u64, u32)>, Vec<(u64, u32)>) =
        (times.iter().map(key).zip(places).collect(), vec![(0, 0); times.len()]);
    let mut shift = differing.trailing_zeros();
    while differing.checked_shr(shift).is_some_and(|left| left > 0) {
        let digit = |(key, _): &(u64, u32)| (key >> shift) as usize & ((1 << PASS_BITS) - 1);
        let mut starts = [0usize; 1 << PASS_BITS];
        pairs.iter().for_each(|pair| starts[digit(pair)] += 1);
        let mut before = 0;
        for start in &mut starts {
            (*start, before) = (before, before + *start);
        }
        for pair in &pairs {
            let start = &mut starts[digit(pair)];
            sorted[*start] = *pair;
            *start += 1;
        }
        std::mem::swap(&mut pairs, &mut sorted);
        shift += PASS_BITS;
    }
    pairs.into_iter().map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests {
    use proptest::strategy::Strategy as _;

    use super::*;

    proptest::proptest! {
        #[test]
        fn times_are_put_in_order(
            times in proptest::prop_oneof![
                proptest::collection::vec(proptest::prelude::any::<i64>(), 0..50),
                proptest::collection::vec((0..40i64).prop_map(|at| 1_767_268_800_000_000_000 + at * 10_000_000_000), 0..200),
                proptest::collection::vec(proptest::sample::select(vec![i64::MIN, -1, 0, 1, i64::MAX]), 0..20),
            ],
            newest_first in proptest::bool::ANY,
        ) {
            let mut expected: Vec<u32> = (0..times.len() as u32).collect();
            expected.sort_by_key(|place| {
                let time = i128::from(times[*place as usize]);
                if newest_first { -time } else { time }
            });
            proptest::prop_assert_eq!(by_time(&times, newest_first), expected);
        }
    }
}
