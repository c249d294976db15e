//! A series as a client wrote it to the series, so that a known series costs one hash and one look.
//!
//! A spelling is known by 128 bits of a keyed hash, and its bytes are not kept: they would be most of what a series takes in
//! memory, and comparing them costs a sample of ten labels more than all the rest of its parsing, because a million series'
//! bytes are in no cache. Two of a hundred million spellings agree in those bits with a probability of 10^-23; the key is
//! another one in each process, so that nobody can look for such two.
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
use xxhash_rust::xxh3::xxh3_128_with_secret;

use crate::series::{LastLayout, Pin, Table};

/// Writers of different series seldom meet on one lock.
const SHARDS: usize = 64;

/// A client that writes its tags in every order has a thousand spellings of each series. Those above 16 million in all
/// are not remembered; their lines are looked up by name.
const SPELLINGS_PER_SHARD_MAX: usize = (16 << 20) / SHARDS;

/// Of the hash's key: what XXH3 calls its default size.
const SECRET_BYTES: usize = 192;

pub struct Spellings {
    secret: [u8; SECRET_BYTES],
    shards: [RwLock<HashTable<Known>>; SHARDS],
}

/// What stands in the table itself, so that a look is at one place in memory.
struct Known {
    hash: u128,
    series: u32,
    /// The last pin that looked it up here.
    pinned: AtomicU32,
    spelling: Arc<Spelling>,
}

pub struct Spelling {
    pub table: Arc<Table>,
    pub series: u32,
    pub last_layout: LastLayout,
}

impl Default for Spellings {
    fn default() -> Self {
        // The only dice at hand that differ between processes.
        let dice = std::hash::RandomState::new();
        let mut secret = [0; SECRET_BYTES];
        for (number, word) in secret.chunks_exact_mut(size_of::<u64>()).enumerate() {
            word.copy_from_slice(&dice.hash_one(number).to_le_bytes());
        }
        Spellings { secret, shards: std::array::from_fn(|_| RwLock::default()) }
    }
}

impl Spellings {
    /// The series' number stays good until the pin is dropped.
    pub fn find(&self, raw: &[u8], pin: &Pin) -> Option<Arc<Spelling>> {
        self.look_up(raw, pin, |known| Arc::clone(&known.spelling))
    }

    /// The same for whoever needs nothing else.
    pub fn series(&self, raw: &[u8], pin: &Pin) -> Option<u32> {
        self.look_up(raw, pin, |known| known.series)
    }

    #[inline]
    fn look_up<T>(&self, raw: &[u8], pin: &Pin, take: impl FnOnce(&Known) -> T) -> Option<T> {
        let hash = self.hash(raw);
        let shard = self.shard(hash).read();
        let known = shard.find(in_table(hash), |known| known.hash == hash)?;
        pin.keep(&known.pinned);
        Some(take(known))
    }

    /// The number was looked up with the same pin.
    pub fn insert(&self, raw: &[u8], table: Arc<Table>, series: u32, pin: &Pin) -> Arc<Spelling> {
        let hash = self.hash(raw);
        let mut shard = self.shard(hash).write();
        if let Some(known) = shard.find(in_table(hash), |known| known.hash == hash) {
            pin.keep(&known.pinned);
            return Arc::clone(&known.spelling);
        }
        let spelling = Arc::new(Spelling { table, series, last_layout: LastLayout::default() });
        if shard.len() < SPELLINGS_PER_SHARD_MAX {
            let known = Known { hash, series, pinned: AtomicU32::new(0), spelling: Arc::clone(&spelling) };
            pin.keep(&known.pinned);
            shard.insert_unique(in_table(hash), known, |known| in_table(known.hash));
        }
        spelling
    }

    /// Forgets the spellings of these series, by table, and takes out of them those that somebody has looked up since the
    /// pins from `before` on were taken.
    pub fn forget(&self, series: &mut HashMap<u32, RoaringBitmap>, before: u32) {
        for shard in &self.shards {
            let mut shard = shard.write();
            shard.retain(|known| match series.get_mut(&known.spelling.table.id) {
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
                shard.shrink_to_fit(|known| in_table(known.hash));
            }
        }
    }

    fn hash(&self, raw: &[u8]) -> u128 {
        xxh3_128_with_secret(raw, &self.secret)
    }

    /// By bits that [`in_table`] leaves out.
    fn shard(&self, hash: u128) -> &RwLock<HashTable<Known>> {
        &self.shards[(hash >> 64) as usize % SHARDS]
    }
}

fn in_table(hash: u128) -> u64 {
    hash as u64
}
