//! Tag -> value -> series, and the filters that are answered from it.
//!
//! Invariant: ordinals count from 0 in the order of registration. A missing tag equals the empty string, so
//! `host=""` finds the series without one; patterns match the whole value.
//! Not here: the index inside a block file, which answers the same questions ([`TagPostings`]).

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use query_lang::plan::{TagFilter, TagTest};
use regex::Regex;
use roaring::RoaringBitmap;
use storage_format::point::TagSet;

use crate::error::{Error, Result};

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
    keys: Vec<TagSet>,
    hasher: foldhash::fast::RandomState,
    by_key: HashTable<u32>,
    postings: BTreeMap<String, BTreeMap<String, RoaringBitmap>>,
}

impl TagIndex {
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn key(&self, series: u32) -> &TagSet {
        &self.keys[series as usize]
    }

    pub fn find(&self, tags: &TagSet) -> Option<u32> {
        let hash = self.hasher.hash_one(tags);
        self.by_key.find(hash, |series| self.keys[*series as usize] == *tags).copied()
    }

    pub fn insert(&mut self, tags: TagSet) -> u32 {
        let series = self.keys.len() as u32;
        for (tag, value) in tags.iter() {
            if !self.postings.contains_key(tag) {
                self.postings.insert(tag.to_string(), BTreeMap::new());
            }
            let values = self.postings.get_mut(tag).expect("inserted above");
            if !values.contains_key(value) {
                values.insert(value.to_string(), RoaringBitmap::new());
            }
            values.get_mut(value).expect("inserted above").insert(series);
        }
        let hash = self.hasher.hash_one(&tags);
        self.keys.push(tags);
        let (keys, hasher) = (&self.keys, &self.hasher);
        self.by_key.insert_unique(hash, series, |known| hasher.hash_one(&keys[*known as usize]));
        series
    }

    pub fn remember_tag(&mut self, tag: &str) {
        if !self.postings.contains_key(tag) {
            self.postings.insert(tag.to_string(), BTreeMap::new());
        }
    }

    pub fn tags(&self) -> Vec<String> {
        self.postings.keys().cloned().collect()
    }

    /// The values of a tag with their series, sorted.
    pub fn values(&self, tag: &str) -> impl Iterator<Item = (&str, &RoaringBitmap)> {
        self.postings.get(tag).into_iter().flatten().map(|(value, series)| (value.as_str(), series))
    }

    /// The tag with the most values: the one to name when there are too many series.
    pub fn widest_tag(&self) -> Option<(String, usize)> {
        let widest = self.postings.iter().max_by_key(|(_, values)| values.len())?;
        Some((widest.0.clone(), widest.1.len()))
    }
}

impl TagPostings for TagIndex {
    fn all(&self) -> RoaringBitmap {
        (0..self.keys.len() as u32).collect()
    }

    fn having(&self, tag: &str) -> RoaringBitmap {
        self.passing(tag, &|_| true)
    }

    fn equal(&self, tag: &str, value: &str) -> RoaringBitmap {
        self.postings.get(tag).and_then(|values| values.get(value)).cloned().unwrap_or_default()
    }

    fn passing(&self, tag: &str, test: &dyn Fn(&str) -> bool) -> RoaringBitmap {
        let mut series = RoaringBitmap::new();
        for (_, of_value) in self.values(tag).filter(|(value, _)| test(value)) {
            series |= of_value;
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

    fn index() -> TagIndex {
        let mut index = TagIndex::default();
        for tags in [&[("host", "a"), ("dc", "x")][..], &[("host", "b")], &[("dc", "y")], &[]] {
            index.insert(TagSet::new(tags.iter().copied()));
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
