//! Raw series text of line protocol to series, so that a known series costs one hash and one compare.
//!
//! Invariant: the same bytes always mean the same series. Several spellings (another order of tags, other
//! escapes) may lead to one series.
//! Not here: parsing the text of a new spelling (`ingest`).

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::RwLock;

use crate::series::{LastLayout, Table};

/// Writers of different series seldom meet on one lock.
const SHARDS: usize = 64;

/// A client that writes its tags in every order has a thousand spellings of each series. Those above 16 million in all
/// are not remembered; their lines are looked up by name.
const SPELLINGS_PER_SHARD_MAX: usize = (16 << 20) / SHARDS;

pub struct Spellings {
    hasher: foldhash::fast::RandomState,
    shards: [RwLock<HashTable<Arc<Spelling>>>; SHARDS],
}

pub struct Spelling {
    raw: Box<str>,
    pub table: Arc<Table>,
    pub series: u32,
    pub last_layout: LastLayout,
}

impl Default for Spellings {
    fn default() -> Self {
        Spellings { hasher: Default::default(), shards: std::array::from_fn(|_| RwLock::default()) }
    }
}

impl Spellings {
    pub fn find(&self, raw: &str) -> Option<Arc<Spelling>> {
        let hash = self.hasher.hash_one(raw);
        self.shard(hash).read().find(hash, |known| *known.raw == *raw).cloned()
    }

    pub fn insert(&self, raw: &str, table: Arc<Table>, series: u32) -> Arc<Spelling> {
        let hash = self.hasher.hash_one(raw);
        let mut shard = self.shard(hash).write();
        if let Some(known) = shard.find(hash, |known| *known.raw == *raw) {
            return Arc::clone(known);
        }
        let room = shard.len() < SPELLINGS_PER_SHARD_MAX;
        let new = Arc::new(Spelling { raw: raw.into(), table, series, last_layout: LastLayout::default() });
        if room {
            shard.insert_unique(hash, Arc::clone(&new), |known| self.hasher.hash_one(&*known.raw));
        }
        new
    }

    fn shard(&self, hash: u64) -> &RwLock<HashTable<Arc<Spelling>>> {
        // The table inside uses the low and the highest bits.
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}
