//! Tag -> value -> series, and the filters that are answered from it.
//!
//! Invariant: numbers count from 0 in the order of registration and are never given twice. A number that was forgotten
//! means nothing any more; whoever may still hold one keeps it from being forgotten (see `pins`). A missing tag equals
//! the empty string, so `host=""` finds the series without one; patterns match the whole value.
//! Not here: the index inside a block file, which answers the same questions ([`TagPostings`]).

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::HashTable;
use query_lang::plan::{TagFilter, TagTest};
use regex::Regex;
use roaring::RoaringBitmap;
use storage_format::point::TagSet;

use crate::error::{Error, Result};
use crate::series::Pin;
use crate::series::order::{Rank, SeriesOrder};

/// What a filter asks of an index.
pub trait TagPostings {
    fn all(&self) -> RoaringBitmap;
    /// The series that have the tag at all.
    fn having(&self, tag: &str) -> RoaringBitmap;
    fn equal(&self, tag: &str, value: &str) -> RoaringBitmap;
    /// The series whose value of the tag passes the test; series without the tag are not asked.
    fn passing(&self, tag: &str, test: &dyn Fn(&str) -> bool) -> RoaringBitmap;
}

#[derive(Default)]
pub struct TagIndex {
    /// By number. A page goes when all of its series are forgotten.
    pages: Vec<Option<Box<Page>>>,
    /// The numbers that mean a series.
    pub(super) known: RoaringBitmap,
    pub(super) next: u32,
    hasher: foldhash::fast::RandomState,
    by_key: HashTable<u32>,
    postings: BTreeMap<String, BTreeMap<Box<str>, Postings>>,
    pub(super) order: SeriesOrder,
}

/// Series per page.
const PAGE: usize = 256;

struct Page {
    slots: [Option<Slot>; PAGE],
    used: usize,
}

pub(super) struct Slot {
    tags: TagSet,
    /// The last pin that looked it up here.
    pinned: AtomicU32,
    pub(super) rank: Rank,
}

/// The series of one value. Most values of a tag with very many have a single series, and a bitmap for each would take
/// more than their text.
enum Postings {
    One(u32),
    Many(Box<RoaringBitmap>),
}

impl TagIndex {
    pub fn len(&self) -> usize {
        self.known.len() as usize
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub fn key(&self, series: u32) -> &TagSet {
        &self.slot(series).tags
    }

    pub(super) fn slot(&self, series: u32) -> &Slot {
        let page = self.pages.get(series as usize / PAGE).and_then(Option::as_ref);
        let slot = page.and_then(|page| page.slots[series as usize % PAGE].as_ref());
        slot.expect("bug: a series was forgotten while somebody held its number")
    }

    /// The number stays good until the pin is dropped.
    pub fn find(&self, tags: &TagSet, pin: &Pin) -> Option<u32> {
        let hash = self.hasher.hash_one(tags);
        let series = *self.by_key.find(hash, |series| self.key(*series) == tags)?;
        pin.keep(&self.slot(series).pinned);
        Some(series)
    }

    /// The tags must be new. None if the numbers are used up.
    pub fn insert(&mut self, tags: TagSet, pin: &Pin) -> Option<u32> {
        let series = self.next;
        self.next = self.next.checked_add(1)?;
        for (tag, value) in tags.iter() {
            if !self.postings.contains_key(tag) {
                self.postings.insert(tag.to_string(), BTreeMap::new());
            }
            let values = self.postings.get_mut(tag).expect("inserted above");
            match values.get_mut(value) {
                Some(postings) => postings.insert(series),
                None => drop(values.insert(value.into(), Postings::One(series))),
            }
        }
        let hash = self.hasher.hash_one(&tags);
        let slot = Slot { tags, pinned: AtomicU32::new(0), rank: Rank::default() };
        pin.keep(&slot.pinned);
        let at = series as usize / PAGE;
        if at >= self.pages.len() {
            self.pages.resize_with(at + 1, || None);
        }
        let page =
            self.pages[at].get_or_insert_with(|| Box::new(Page { slots: [const { None }; PAGE], used: 0 }));
        page.slots[series as usize % PAGE] = Some(slot);
        page.used += 1;
        self.known.insert(series);
        let mut by_key = std::mem::take(&mut self.by_key);
        by_key.insert_unique(hash, series, |known| self.hasher.hash_one(self.key(*known)));
        self.by_key = by_key;
        Some(series)
    }

    /// Forgets those of the series that nobody has looked up since the pins from `before` on were taken. Returns which
    /// these are. Tags stay known.
    pub fn forget(&mut self, series: &RoaringBitmap, before: u32) -> RoaringBitmap {
        let is_free = |series: &u32| self.slot(*series).pinned.load(Ordering::Relaxed) < before;
        let gone: RoaringBitmap = (series & &self.known).iter().filter(is_free).collect();
        for series in &gone {
            let hash = self.hasher.hash_one(self.key(series));
            if let Ok(entry) = self.by_key.find_entry(hash, |known| *known == series) {
                entry.remove();
            }
            let at = series as usize / PAGE;
            let page = self.pages[at].as_mut().expect("a known series has a page");
            let slot = page.slots[series as usize % PAGE].take().expect("a known series has a slot");
            page.used -= 1;
            if page.used == 0 {
                self.pages[at] = None;
            }
            for (tag, value) in slot.tags.iter() {
                let values = self.postings.get_mut(tag).expect("a known series has postings");
                if values.get_mut(value).expect("a known series has postings").remove(series) {
                    values.remove(value);
                }
            }
        }
        self.known -= &gone;
        let (pages, hasher) = (&self.pages, &self.hasher);
        let key =
            |series: u32| pages[series as usize / PAGE].as_ref()?.slots[series as usize % PAGE].as_ref();
        if self.by_key.len() < self.by_key.capacity() / 4 {
            self.by_key.shrink_to_fit(|known| hasher.hash_one(&key(*known).expect("it is known").tags));
        }
        gone
    }

    pub fn remember_tag(&mut self, tag: &str) {
        if !self.postings.contains_key(tag) {
            self.postings.insert(tag.to_string(), BTreeMap::new());
        }
    }

    pub fn tags(&self) -> Vec<String> {
        self.postings.keys().cloned().collect()
    }

    /// The tag with the most values: the one to name when there are too many series.
    pub fn widest_tag(&self) -> Option<(String, usize)> {
        let widest = self.postings.iter().max_by_key(|(_, values)| values.len())?;
        Some((widest.0.clone(), widest.1.len()))
    }
}

impl Postings {
    fn insert(&mut self, series: u32) {
        match self {
            Postings::One(known) => *self = Postings::Many(Box::new([*known, series].into_iter().collect())),
            Postings::Many(many) => drop(many.insert(series)),
        }
    }

    /// True if none is left.
    fn remove(&mut self, series: u32) -> bool {
        match self {
            Postings::One(_) => true,
            Postings::Many(many) => {
                many.remove(series);
                many.is_empty()
            }
        }
    }

    fn add_to(&self, all: &mut RoaringBitmap) {
        match self {
            Postings::One(series) => drop(all.insert(*series)),
            Postings::Many(many) => *all |= &**many,
        }
    }
}

impl TagPostings for TagIndex {
    fn all(&self) -> RoaringBitmap {
        self.known.clone()
    }

    fn having(&self, tag: &str) -> RoaringBitmap {
        self.passing(tag, &|_| true)
    }

    fn equal(&self, tag: &str, value: &str) -> RoaringBitmap {
        let mut series = RoaringBitmap::new();
        if let Some(postings) = self.postings.get(tag).and_then(|values| values.get(value)) {
            postings.add_to(&mut series);
        }
        series
    }

    fn passing(&self, tag: &str, test: &dyn Fn(&str) -> bool) -> RoaringBitmap {
        let mut series = RoaringBitmap::new();
        let values = self.postings.get(tag).into_iter().flatten();
        for (_, postings) in values.filter(|(value, _)| test(value)) {
            postings.add_to(&mut series);
        }
        series
    }
}

/// A [`TagFilter`] with its patterns compiled.
#[derive(Clone, Debug)]
pub enum CompiledFilter {
    All,
    Test { tag: String, test: CompiledTest, negated: bool },
    And(Vec<CompiledFilter>),
    Or(Vec<CompiledFilter>),
    Not(Box<CompiledFilter>),
}

#[derive(Clone, Debug)]
pub enum CompiledTest {
    Equal(String),
    Matches(Regex),
    In(Vec<String>),
}

impl CompiledFilter {
    pub fn new(filter: &TagFilter) -> Result<CompiledFilter> {
        let many = |parts: &[TagFilter]| parts.iter().map(CompiledFilter::new).collect::<Result<Vec<_>>>();
        Ok(match filter {
            TagFilter::All => CompiledFilter::All,
            TagFilter::And(parts) => CompiledFilter::And(many(parts)?),
            TagFilter::Or(parts) => CompiledFilter::Or(many(parts)?),
            TagFilter::Not(part) => CompiledFilter::Not(Box::new(CompiledFilter::new(part)?)),
            TagFilter::Match { tag, test } => {
                let (test, negated) = match test {
                    TagTest::Equal(value) => (CompiledTest::Equal(value.clone()), false),
                    TagTest::NotEqual(value) => (CompiledTest::Equal(value.clone()), true),
                    TagTest::Matches(pattern) => (CompiledTest::pattern(pattern)?, false),
                    TagTest::NotMatches(pattern) => (CompiledTest::pattern(pattern)?, true),
                    TagTest::In(values) => (CompiledTest::In(values.clone()), false),
                    TagTest::NotIn(values) => (CompiledTest::In(values.clone()), true),
                };
                CompiledFilter::Test { tag: tag.clone(), test, negated }
            }
        })
    }

    /// The series of an index that pass.
    pub fn series(&self, index: &impl TagPostings) -> RoaringBitmap {
        match self {
            CompiledFilter::All => index.all(),
            CompiledFilter::And(parts) => parts
                .iter()
                .map(|part| part.series(index))
                .reduce(|a, b| a & b)
                .unwrap_or_else(|| index.all()),
            CompiledFilter::Or(parts) => {
                parts.iter().map(|part| part.series(index)).reduce(|a, b| a | b).unwrap_or_default()
            }
            CompiledFilter::Not(part) => index.all() - part.series(index),
            CompiledFilter::Test { tag, test, negated } => {
                let mut series = match test {
                    CompiledTest::Equal(value) if !value.is_empty() => index.equal(tag, value),
                    _ => index.passing(tag, &|value| test.passes(value)),
                };
                if test.passes("") {
                    series |= index.all() - index.having(tag);
                }
                if *negated { index.all() - series } else { series }
            }
        }
    }

    /// Whether one tag set passes.
    pub fn passes(&self, tags: &TagSet) -> bool {
        match self {
            CompiledFilter::All => true,
            CompiledFilter::And(parts) => parts.iter().all(|part| part.passes(tags)),
            CompiledFilter::Or(parts) => parts.iter().any(|part| part.passes(tags)),
            CompiledFilter::Not(part) => !part.passes(tags),
            CompiledFilter::Test { tag, test, negated } => {
                test.passes(tags.get(tag).unwrap_or_default()) != *negated
            }
        }
    }
}

impl CompiledTest {
    fn pattern(pattern: &str) -> Result<CompiledTest> {
        let whole = query_lang::pattern::whole_value(pattern).map_err(|why| {
            Error::invalid("bad_pattern", format!("the pattern {pattern:?} is wrong: {why}"))
        })?;
        Ok(CompiledTest::Matches(whole))
    }

    fn passes(&self, value: &str) -> bool {
        match self {
            CompiledTest::Equal(wanted) => value == wanted,
            CompiledTest::Matches(pattern) => pattern.is_match(value),
            CompiledTest::In(values) => values.iter().any(|wanted| wanted == value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Pins;

    fn index() -> TagIndex {
        let mut index = TagIndex::default();
        let pin = Pins::default().take();
        for tags in [&[("host", "a"), ("dc", "x")][..], &[("host", "b")], &[("dc", "y")], &[]] {
            index.insert(TagSet::new(tags.iter().copied()), &pin).unwrap();
        }
        index
    }

    #[test]
    fn the_index_and_the_single_test_agree() {
        let is = |tag: &str, test| TagFilter::Match { tag: tag.into(), test };
        let cases = [
            (TagFilter::All, vec![0, 1, 2, 3]),
            (is("host", TagTest::Equal("a".into())), vec![0]),
            (is("host", TagTest::Equal(String::new())), vec![2, 3]),
            (is("host", TagTest::NotEqual("a".into())), vec![1, 2, 3]),
            (is("host", TagTest::Matches("a|b".into())), vec![0, 1]),
            (is("host", TagTest::Matches("a?".into())), vec![0, 2, 3]),
            (is("host", TagTest::NotMatches(".+".into())), vec![2, 3]),
            (is("dc", TagTest::In(vec!["y".into(), String::new()])), vec![1, 2, 3]),
            (is("none", TagTest::NotIn(vec!["y".into()])), vec![0, 1, 2, 3]),
            (
                TagFilter::Not(Box::new(TagFilter::Or(vec![
                    is("dc", TagTest::Equal("x".into())),
                    is("host", TagTest::Equal("b".into())),
                ]))),
                vec![2, 3],
            ),
        ];
        let index = index();
        for (filter, expected) in cases {
            let compiled = CompiledFilter::new(&filter).unwrap();
            assert_eq!(compiled.series(&index).iter().collect::<Vec<_>>(), expected, "{filter:?}");
            for series in 0..index.len() as u32 {
                assert_eq!(compiled.passes(index.key(series)), expected.contains(&series), "{filter:?}");
            }
        }
    }
}
