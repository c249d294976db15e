//! The series index of one block: series key, rows, time range; tag and value -> series.
//!
//! Keys are kept column by column, as the numbers of their values in each tag's sorted dictionary, and
//! stay so in memory: a million series of ten tags are tens of MB, comparing keys compares numbers, and
//! the postings of a tag follow by one counting sort, when first asked for. That took less time than
//! decoding stored bitmaps (FORMAT.md has the numbers), so none are stored.
//! Invariant: series ascend strictly, tags stand in the order in which they decide between two series, the ids of a tag
//! ascend as its values do, 0 is "missing".
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use roaring::RoaringBitmap;

use super::layout::in_order;
use crate::corrupt::{Corrupt, Result};
use crate::point::{SeriesOrder, TagSet, Time, TimeRange};
use crate::varint;

/// The index as read. Series are known by their ordinal in the block.
pub struct SeriesIndex {
    /// The first one may stand before others that its name comes after.
    tags: Vec<Tag>,
    /// How many these are.
    passed: usize,
    /// The first row of each series; at the end the number of rows.
    starts: Vec<u64>,
    times: Vec<TimeRange>,
}

struct Tag {
    key: String,
    values: Values,
    ids: Ids,
    postings: OnceLock<Postings>,
}

impl SeriesIndex {
    pub fn len(&self) -> usize {
        self.times.len()
    }

    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// # Panics
    /// As the next two, when the block has no such series.
    pub fn key(&self, series: u32) -> TagSet {
        assert!((series as usize) < self.len(), "bug: no such series");
        TagSet::from_sorted(self.by_name().filter_map(|tag| {
            let id = tag.ids.get(series as usize).checked_sub(1)?;
            Some((tag.key.as_str(), tag.values.get(id as usize)))
        }))
    }

    /// The series' rows in the block.
    pub fn rows(&self, series: u32) -> Range<u64> {
        let series = series as usize;
        match self.starts.get(series..series + 2) {
            Some(&[start, end]) => start..end,
            _ => panic!("bug: no such series"),
        }
    }

    /// The series that has the row.
    pub fn series_at(&self, row: u64) -> u32 {
        let after = self.starts.partition_point(|start| *start <= row);
        assert!(after > 0 && after < self.starts.len(), "bug: no such row");
        after as u32 - 1
    }

    /// From the series' first time to just after its last.
    pub fn time(&self, series: u32) -> TimeRange {
        *self.times.get(series as usize).expect("bug: no such series")
    }

    pub fn find(&self, key: &TagSet) -> Option<u32> {
        let mut wanted = vec![0; self.tags.len()];
        for (name, value) in key.iter() {
            let place = self.tag_place(name)?;
            *wanted.get_mut(place)? = self.tags.get(place)?.values.find(value)? + 1;
        }
        let order = |series: usize| {
            let ids = self.tags.iter().map(|tag| tag.ids.get(series));
            ids.cmp(wanted.iter().copied())
        };
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match order(middle) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(middle as u32),
            }
        }
        None
    }

    /// The tags that at least one series has, sorted.
    pub fn tag_keys(&self) -> impl Iterator<Item = &str> {
        self.by_name().map(|tag| tag.key.as_str())
    }

    /// The values of a tag, sorted.
    pub fn values(&self, tag: &str) -> impl Iterator<Item = &str> {
        self.tag(tag).into_iter().flat_map(|tag| tag.values.iter())
    }

    pub fn all(&self) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.len() as u32);
        all
    }

    /// The series whose `tag` is `value`.
    pub fn postings(&self, tag: &str, value: &str) -> RoaringBitmap {
        let Some(tag) = self.tag(tag) else { return RoaringBitmap::new() };
        let Some(id) = tag.values.find(value) else { return RoaringBitmap::new() };
        bitmap(tag.postings().of(id + 1))
    }

    /// The series that have `tag`.
    pub fn having(&self, tag: &str) -> RoaringBitmap {
        self.matching(tag, |_| true)
    }

    /// The series whose `tag` has a value that `wanted` accepts. It is asked once per value.
    pub fn matching(&self, tag: &str, mut wanted: impl FnMut(&str) -> bool) -> RoaringBitmap {
        let Some(tag) = self.tag(tag) else { return RoaringBitmap::new() };
        let accepted: Vec<bool> = std::iter::once(false).chain(tag.values.iter().map(&mut wanted)).collect();
        let chosen = (0..self.len()).filter(|series| {
            let id = tag.ids.get(*series) as usize;
            accepted.get(id).copied().unwrap_or(false)
        });
        RoaringBitmap::from_sorted_iter(chosen.map(|series| series as u32)).unwrap_or_default()
    }

    /// For whoever keeps opened blocks: grows when postings are first asked for.
    pub fn memory_bytes(&self) -> usize {
        let tag = |tag: &Tag| {
            let postings = tag.postings.get().map_or(0, |built| built.starts.len() + built.series.len());
            let values = tag.values.text.len() + size_of_val(tag.values.ends.as_slice());
            values + tag.ids.bytes.len() + postings * size_of::<u32>()
        };
        let tags: usize = self.tags.iter().map(tag).sum();
        tags + size_of_val(self.starts.as_slice()) + size_of_val(self.times.as_slice())
    }

    fn tag(&self, key: &str) -> Option<&Tag> {
        self.tags.get(self.tag_place(key)?)
    }

    fn tag_place(&self, key: &str) -> Option<usize> {
        let (first, others) = self.tags.split_first()?;
        if first.key == key {
            return Some(0);
        }
        let place = others.binary_search_by(|tag| tag.key.as_str().cmp(key)).ok()?;
        Some(1 + place)
    }

    /// The tags in alphabetical order.
    fn by_name(&self) -> impl Iterator<Item = &Tag> {
        let (first, others) = self.tags.split_at(self.tags.len().min(1));
        let (before, after) = others.split_at(self.passed);
        before.iter().chain(first).chain(after)
    }

    /// Reads what [`IndexBuilder::encode`] wrote for series in this order, and the sums of the pages that stand after it.
    pub fn decode(bytes: &Bytes, order: SeriesOrder) -> Result<(SeriesIndex, Vec<u32>)> {
        let mut rest: &[u8] = bytes;
        let decoded = decode(bytes, order, &mut rest);
        decoded.map_err(|corrupt| corrupt.shifted((bytes.len() - rest.len()) as u64))
    }
}

fn decode(bytes: &Bytes, order: SeriesOrder, rest: &mut &[u8]) -> Result<(SeriesIndex, Vec<u32>)> {
    let series = varint::take_count(rest)?;
    u32::try_from(series).map_err(|_| Corrupt::new("more series than fit 32 bits"))?;
    let mut tags: Vec<Tag> = Vec::new();
    for _ in 0..varint::take_count(rest)? {
        let key = varint::take_str(rest)?.to_owned();
        let is_first = |key: &str| order.first() == Some(key);
        let sorted = tags.last().is_none_or(|last| last.key < key || tags.len() == 1 && is_first(&last.key));
        if key.is_empty() || !sorted || !tags.is_empty() && is_first(&key) {
            return Err(Corrupt::new("the tags of the index are not sorted"));
        }
        let values = Values::decode(rest)?;
        let ids = Ids::decode(bytes, rest, series, values.len())?;
        tags.push(Tag { key, values, ids, postings: OnceLock::new() });
    }
    for series in 1..series {
        let before = tags.iter().map(|tag| tag.ids.get(series - 1));
        if !before.lt(tags.iter().map(|tag| tag.ids.get(series))) {
            return Err(Corrupt::new("the series of the index are not sorted"));
        }
    }

    let mut starts = Vec::with_capacity(series + 1);
    let mut row = 0u64;
    starts.push(row);
    for _ in 0..series {
        let rows = varint::take_u64(rest)?;
        row = row.checked_add(rows).filter(|_| rows > 0).ok_or(Corrupt::new("rows of a series"))?;
        starts.push(row);
    }

    let base = varint::take_i64(rest)?;
    let unit = varint::take_u64(rest)?;
    let mut times = Vec::with_capacity(series);
    for _ in 0..series {
        let mut step = |from: Time| {
            let step = varint::take_u64(rest)?.checked_mul(unit);
            let to = step.and_then(|step| from.checked_add_unsigned(step));
            to.ok_or(Corrupt::new("a time does not fit 64 bits"))
        };
        let first = step(base)?;
        let last = step(first)?;
        let end = last.checked_add(1).ok_or(Corrupt::new("a time does not fit 64 bits"))?;
        times.push(TimeRange::new(first, end));
    }

    let sums = varint::take_count(rest)?;
    let sums = (0..sums).map(|_| varint::take_array(rest).map(u32::from_le_bytes));
    let sums = sums.collect::<Result<Vec<u32>>>()?;
    if !rest.is_empty() {
        return Err(Corrupt::new("the index does not end where it should"));
    }
    let passed = match tags.split_first() {
        Some((first, others)) => others.partition_point(|tag| tag.key < first.key),
        None => 0,
    };
    Ok((SeriesIndex { tags, passed, starts, times }, sums))
}

/// The sorted values of one tag, in one text.
#[derive(Default)]
struct Values {
    text: String,
    ends: Vec<u32>,
}

impl Values {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, place: usize) -> &str {
        let end = |place: usize| self.ends.get(place).map(|end| *end as usize);
        let start = place.checked_sub(1).and_then(end).unwrap_or(0);
        let range = start..end(place).expect("ids were checked against the values");
        self.text.get(range).expect("ends are where values were pushed")
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|place| self.get(place))
    }

    fn find(&self, value: &str) -> Option<u32> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle) < value { low = middle + 1 } else { high = middle }
        }
        (low < self.len() && self.get(low) == value).then_some(low as u32)
    }

    /// Each value: the number of bytes shared with the one before, then the rest of it.
    fn decode(rest: &mut &[u8]) -> Result<Values> {
        let count = varint::take_count(rest)?;
        let mut values = Values { text: String::new(), ends: Vec::with_capacity(count) };
        let (mut current, mut previous) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let shared = varint::take_u64(rest)?;
            let suffix = varint::take_bytes(rest)?;
            let prefix = usize::try_from(shared).ok().and_then(|shared| previous.get(..shared));
            current.clear();
            current.extend_from_slice(prefix.ok_or(Corrupt::new("a value shares more than there is"))?);
            current.extend_from_slice(suffix);
            if current <= previous || current.contains(&0) {
                return Err(Corrupt::new("the values of a tag are not sorted or not tag values"));
            }
            let text = std::str::from_utf8(&current).map_err(|_| Corrupt::new("a value is not UTF-8"))?;
            values.text.push_str(text);
            let end = u32::try_from(values.text.len());
            values.ends.push(end.map_err(|_| Corrupt::new("the values of a tag exceed 4 GiB"))?);
            std::mem::swap(&mut current, &mut previous);
        }
        Ok(values)
    }

    fn encode<'a>(values: impl ExactSizeIterator<Item = &'a str>, out: &mut Vec<u8>) {
        varint::put_u64(out, values.len() as u64);
        let mut previous: &[u8] = &[];
        for value in values {
            let value = value.as_bytes();
            let shared = previous.iter().zip(value).take_while(|(a, b)| a == b).count();
            varint::put_u64(out, shared as u64);
            varint::put_bytes(out, value.get(shared..).unwrap_or_default());
            previous = value;
        }
    }
}

/// One number per series, as it stands in the file: 1, 2 or 4 bytes each.
struct Ids {
    bytes: Bytes,
    width: usize,
}

impl Ids {
    fn len(&self) -> usize {
        self.bytes.len() / self.width
    }

    fn get(&self, series: usize) -> u32 {
        let start = series * self.width;
        match self.bytes.get(start..start + self.width) {
            Some(&[a]) => u32::from(a),
            Some(&[a, b]) => u32::from(u16::from_le_bytes([a, b])),
            Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
            _ => 0,
        }
    }

    /// The narrowest width that holds the ids of so many values and the 0 for "missing".
    fn width(values: usize) -> usize {
        match values {
            0..=0xff => 1,
            0x100..=0xffff => 2,
            _ => 4,
        }
    }

    fn decode(bytes: &Bytes, rest: &mut &[u8], series: usize, values: usize) -> Result<Ids> {
        let width = Ids::width(values);
        let part = varint::take_exact(rest, series * width)?;
        let ids = Ids { bytes: bytes.slice_ref(part), width };
        if (0..series).any(|series| ids.get(series) as usize > values) {
            return Err(Corrupt::new("a series has a value that its tag lacks"));
        }
        Ok(ids)
    }
}

/// Series by value: a counting sort of the tag's ids.
struct Postings {
    /// Where each id's series begin; one more at the end.
    starts: Vec<u32>,
    series: Vec<u32>,
}

impl Tag {
    fn postings(&self) -> &Postings {
        self.postings.get_or_init(|| Postings::new(&self.ids, self.values.len()))
    }
}

impl Postings {
    #[expect(clippy::indexing_slicing, reason = "ids are at most `values`: checked when decoded")]
    fn new(ids: &Ids, values: usize) -> Postings {
        let mut starts = vec![0u32; values + 2];
        for series in 0..ids.len() {
            starts[ids.get(series) as usize + 1] += 1;
        }
        let mut total = 0;
        for start in &mut starts {
            total += *start;
            *start = total;
        }
        let mut next = starts.clone();
        let mut series = vec![0u32; ids.len()];
        for ordinal in 0..ids.len() {
            let place = &mut next[ids.get(ordinal) as usize];
            series[*place as usize] = ordinal as u32;
            *place += 1;
        }
        Postings { starts, series }
    }

    fn of(&self, id: u32) -> &[u32] {
        let id = id as usize;
        match self.starts.get(id..id + 2) {
            Some(&[start, end]) => self.series.get(start as usize..end as usize).unwrap_or_default(),
            _ => &[],
        }
    }
}

fn bitmap(sorted: &[u32]) -> RoaringBitmap {
    RoaringBitmap::from_sorted_iter(sorted.iter().copied()).unwrap_or_default()
}

/// Gathers the index while the rows are written.
pub struct IndexBuilder {
    order: SeriesOrder,
    tags: Vec<TagBuilder>,
    rows: Vec<u64>,
    /// The first and the last time of each series.
    times: Vec<(Time, Time)>,
}

/// Ids count from 1 in order of appearance; they are sorted only when encoded.
struct TagBuilder {
    key: String,
    values: Vec<Arc<str>>,
    by_value: HashMap<Arc<str>, u32>,
    ids: Vec<u32>,
}

impl IndexBuilder {
    /// `tags` are sorted.
    pub fn new(tags: &[String], order: SeriesOrder) -> IndexBuilder {
        let builder = |key: &str| TagBuilder {
            key: key.to_owned(),
            values: Vec::new(),
            by_value: HashMap::new(),
            ids: Vec::new(),
        };
        let tags = in_order(order, tags).into_iter().map(builder).collect();
        IndexBuilder { order, tags, rows: Vec::new(), times: Vec::new() }
    }

    /// The place of a tag among those of the index.
    pub fn tag_place(&self, tag: &str) -> usize {
        self.tags.iter().position(|known| known.key == tag).expect("bug: no such tag")
    }

    /// The values of a series in some of the tags, by their places; tags that it lacks are left out.
    pub fn values<'a>(
        &'a self,
        series: u32,
        tags: &'a [usize],
    ) -> impl Iterator<Item = (&'a str, &'a Arc<str>)> {
        tags.iter().filter_map(move |place| {
            let tag = self.tags.get(*place)?;
            Some((tag.key.as_str(), tag.value(*tag.ids.get(series as usize)?)?))
        })
    }

    /// A new series, which comes after all others. Gives its ordinal.
    pub fn add_series(&mut self, key: &TagSet) -> u32 {
        let ordinal = u32::try_from(self.rows.len()).expect("bug: a block of more than 4 G series");
        let first = self.order.first();
        let mut pairs = key.iter().filter(|(name, _)| Some(*name) != first).peekable();
        let mut known = 0;
        for tag in &mut self.tags {
            let value = match first == Some(tag.key.as_str()) {
                true => key.get(&tag.key),
                false => pairs.next_if(|(name, _)| *name == tag.key).map(|(_, value)| value),
            };
            known += usize::from(value.is_some());
            let id = value.map_or(0, |value| tag.id(value));
            tag.ids.push(id);
        }
        assert!(known == key.iter().count(), "bug: a series has a tag that the schema lacks");
        self.rows.push(0);
        self.times.push((Time::MAX, Time::MAX));
        ordinal
    }

    /// More rows of the newest series, later than those it has.
    pub fn add_rows(&mut self, times: &[Time]) {
        let (Some(first), Some(last)) = (times.first(), times.last()) else { return };
        let rows = self.rows.last_mut().expect("bug: rows before any series");
        let range = self.times.last_mut().expect("bug: rows before any series");
        if *rows == 0 {
            range.0 = *first;
        }
        range.1 = *last;
        *rows += times.len() as u64;
    }

    /// The numbers of the values that a tag, by its place, has in these series, neighbours that are alike
    /// joined; with each the sum of their rows. 0 for none.
    pub fn tag_runs(&self, tag: usize, series: &[(u32, usize)]) -> Vec<(u32, usize)> {
        let tag = self.tags.get(tag).expect("bug: no such tag");
        let mut runs: Vec<(u32, usize)> = Vec::new();
        for (series, rows) in series {
            let id = *tag.ids.get(*series as usize).expect("bug: no such series");
            match runs.last_mut() {
                Some((last, sum)) if *last == id => *sum += rows,
                _ => runs.push((id, *rows)),
            }
        }
        runs
    }

    /// The value with a number that [`IndexBuilder::tag_runs`] gave.
    pub fn tag_value(&self, tag: usize, id: u32) -> Option<&Arc<str>> {
        self.tags.get(tag)?.value(id)
    }

    pub fn series(&self) -> usize {
        self.rows.len()
    }

    pub fn rows(&self) -> u64 {
        self.rows.iter().sum()
    }

    /// From the first time of all to just after the last; empty if there are no rows.
    pub fn time(&self) -> TimeRange {
        let first = self.times.iter().map(|(first, _)| *first).min();
        let last = self.times.iter().map(|(_, last)| *last).max();
        first.zip(last).map_or(TimeRange::new(0, 0), |(first, last)| TimeRange::new(first, last + 1))
    }

    /// The index's bytes, with the sums of the pages at their end. FORMAT.md says them.
    pub fn encode(&self, page_sums: &[u32]) -> Vec<u8> {
        let mut out = Vec::new();
        varint::put_u64(&mut out, self.series() as u64);
        let used: Vec<&TagBuilder> = self.tags.iter().filter(|tag| !tag.values.is_empty()).collect();
        varint::put_u64(&mut out, used.len() as u64);
        used.iter().for_each(|tag| tag.encode(&mut out));

        self.rows.iter().for_each(|rows| varint::put_u64(&mut out, *rows));

        let base = self.time().start;
        let steps =
            || self.times.iter().flat_map(|(first, last)| [first.abs_diff(base), last.abs_diff(*first)]);
        // Steps share a large divisor when points come at regular times. None but zeros: any unit does.
        let unit = steps().fold(0, gcd).max(1);
        varint::put_i64(&mut out, base);
        varint::put_u64(&mut out, unit);
        steps().for_each(|step| varint::put_u64(&mut out, step / unit));

        varint::put_u64(&mut out, page_sums.len() as u64);
        page_sums.iter().for_each(|sum| out.extend_from_slice(&sum.to_le_bytes()));
        out
    }
}

impl TagBuilder {
    fn id(&mut self, value: &str) -> u32 {
        // Series ascend, so most tags are as in the series before.
        if let Some(id) = self.ids.last()
            && self.value(*id).is_some_and(|known| **known == *value)
        {
            return *id;
        }
        if let Some(id) = self.by_value.get(value) {
            return *id;
        }
        let id = u32::try_from(self.values.len() + 1).expect("bug: a tag of more than 4 G values");
        let value: Arc<str> = value.into();
        self.values.push(value.clone());
        self.by_value.insert(value, id);
        id
    }

    fn value(&self, id: u32) -> Option<&Arc<str>> {
        self.values.get((id as usize).checked_sub(1)?)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut sorted: Vec<(&str, u32)> =
            (1..).zip(&self.values).map(|(id, value)| (value.as_ref(), id)).collect();
        sorted.sort_unstable();
        let mut ranks = vec![0u32; sorted.len() + 1];
        for (rank, (_, id)) in sorted.iter().enumerate() {
            if let Some(place) = ranks.get_mut(*id as usize) {
                *place = rank as u32 + 1;
            }
        }
        varint::put_bytes(out, self.key.as_bytes());
        Values::encode(sorted.iter().map(|(value, _)| *value), out);
        let width = Ids::width(sorted.len());
        for id in &self.ids {
            let rank = ranks.get(*id as usize).copied().unwrap_or(0);
            out.extend(rank.to_le_bytes().into_iter().take(width));
        }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
