//! A series as a client wrote it to the series, so that a known series costs one hash and one compare.
//!
//! Invariant: the same bytes always mean the same series. Several spellings (another order of tags, other
//! escapes) may lead to one series. Line protocol's text never begins with a newline, and the labels of a Prometheus
//! sample always do (the key of their first field), so the two do not meet.
//! Not here: parsing a new spelling (`ingest`).

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::{HashMap, HashTable};
use parking_lot::RwLock;
use roaring::RoaringBitmap;

use crate::series::{LastLayout, Pin, Table};

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
    raw: Box<[u8]>,
    pub table: Arc<Table>,
    pub series: u32,
    pub last_layout: LastLayout,
    /// The last pin that looked it up here.
    pinned: AtomicU32,
}

impl Default for Spellings {
    fn default() -> Self {
        Spellings { hasher: Default::default(), shards: std::array::from_fn(|_| RwLock::default()) }
    }
}

impl Spellings {
    /// The series' number stays good until the pin is dropped.
    pub fn find(&self, raw: &[u8], pin: &Pin) -> Option<Arc<Spelling>> {
        self.look_up(raw, pin, Arc::clone)
    }

    /// The same for whoever needs nothing else.
    pub fn series(&self, raw: &[u8], pin: &Pin) -> Option<u32> {
        self.look_up(raw, pin, |known| known.series)
    }

    fn look_up<T>(&self, raw: &[u8], pin: &Pin, take: impl FnOnce(&Arc<Spelling>) -> T) -> Option<T> {
        let hash = self.hasher.hash_one(raw);
        let shard = self.shard(hash).read();
        let known = shard.find(hash, |known| *known.raw == *raw)?;
        pin.keep(&known.pinned);
        Some(take(known))
    }

    /// The number was looked up with the same pin.
    pub fn insert(&self, raw: &[u8], table: Arc<Table>, series: u32, pin: &Pin) -> Arc<Spelling> {
        let hash = self.hasher.hash_one(raw);
        let mut shard = self.shard(hash).write();
        if let Some(known) = shard.find(hash, |known| *known.raw == *raw) {
            pin.keep(&known.pinned);
            return Arc::clone(known);
        }
        let room = shard.len() < SPELLINGS_PER_SHARD_MAX;
        let new = Arc::new(Spelling {
            raw: raw.into(),
            table,
            series,
            last_layout: LastLayout::default(),
            pinned: AtomicU32::new(0),
        });
        pin.keep(&new.pinned);
        if room {
            shard.insert_unique(hash, Arc::clone(&new), |known| self.hasher.hash_one(&*known.raw));
        }
        new
    }

    /// Forgets the spellings of these series, by table, and takes out of them those that somebody has looked up since the
    /// pins from `before` on were taken.
    pub fn forget(&self, series: &mut HashMap<u32, RoaringBitmap>, before: u32) {
        for shard in &self.shards {
            let mut shard = shard.write();
            shard.retain(|known| match series.get_mut(&known.table.id) {
                Some(series) if series.contains(known.series) => {
                    let held = known.pinned.load(Ordering::Relaxed) >= before;
                    if held {
                        series.remove(known.series);
                    }
                    held
                }
                _ => true,
            });
            if shard.len() < shard.capacity() / 4 {
                shard.shrink_to_fit(|known| self.hasher.hash_one(&*known.raw));
            }
        }
    }

    fn shard(&self, hash: u64) -> &RwLock<HashTable<Arc<Spelling>>> {
        // The table inside uses the low and the highest bits.
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}
