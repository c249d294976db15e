//! A series as a client wrote it to the series, so that a known series costs one hash and one look.
//!
//! A spelling is known by 128 bits of a keyed hash, and its bytes are not kept: they would be most of what a series takes in
//! memory, and comparing them costs a sample of ten labels more than all the rest of its parsing, because a million series'
//! bytes are in no cache. Two of a hundred million spellings agree in those bits with a probability of 10^-23; the key is
//! another one in each process, so that nobody can look for such two.
//! Senders name their series in the same order again and again. So what is known stands in the order in which it came, and
//! each spelling knows which one was looked up after it: the next one is mostly found there, where the processor has read
//! ahead, and not by its hash.
//! Invariant: the same bytes always mean the same series. Several spellings (another order of tags, other
//! escapes) may lead to one series. Line protocol's text never begins with a newline, and the labels of a Prometheus
//! sample always do (the key of their first field), so the two do not meet; nor does either meet what symbols spell, which
//! begins with a NUL. Whoever holds the lock to write waits for no other one.
//! Not here: parsing a new spelling (`ingest`).

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::{HashMap, HashTable};
use parking_lot::{RwLock, RwLockReadGuard};
use roaring::RoaringBitmap;
use xxhash_rust::xxh3::xxh3_128_with_secret;

use crate::series::{LastLayout, Pin, Table};

/// Tables of places: one that grows holds up all writers, so that many small ones grow one after another.
const TABLES: usize = 64;

/// Spellings per page. Pages keep what stands in them where it is.
const PAGE: usize = 4096;

/// A client that writes its tags in every order has a thousand spellings of each series. Those above this number are not
/// remembered; their lines are looked up by name.
const SPELLINGS_MAX: u32 = 16 << 20;

/// Of the hash's key: what XXH3 calls its default size.
const SECRET_BYTES: usize = 192;

/// Look-ups under one lock: it is let go now and then, because new series wait for it.
const LOOK_UPS_PER_LOCK: u32 = 64;

pub struct Spellings {
    secret: [u8; SECRET_BYTES],
    known: RwLock<Known>,
}

struct Known {
    pages: Vec<Box<[Option<Entry>]>>,
    /// Places that were ever taken; those after it in the last page are new.
    len: u32,
    /// Places that were given back, descending.
    free: Vec<u32>,
    /// Hash -> place.
    places: [HashTable<u32>; TABLES],
}

struct Entry {
    key: Key,
    series: u32,
    /// The last pin that looked it up here.
    pinned: AtomicU32,
    /// The place of the spelling that was looked up after this one.
    next: AtomicU32,
    spelling: Arc<Spelling>,
}

/// What a spelling is known by: the halves of 128 bits, which would be aligned to twice as much.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key([u64; 2]);

pub struct Spelling {
    pub table: Arc<Table>,
    pub series: u32,
    pub last_layout: LastLayout,
}

/// Looks up the spellings of one request, one after another.
pub struct LookUps<'a> {
    spellings: &'a Spellings,
    known: Option<RwLockReadGuard<'a, Known>>,
    /// Look-ups until the lock is let go.
    left: u32,
    /// Where the next spelling probably is.
    next: u32,
    /// Where the last one is.
    last: Option<u32>,
}

impl Default for Spellings {
    fn default() -> Self {
        // The only dice at hand that differ between processes.
        let dice = std::hash::RandomState::new();
        let mut secret = [0; SECRET_BYTES];
        for (number, word) in secret.chunks_exact_mut(size_of::<u64>()).enumerate() {
            word.copy_from_slice(&dice.hash_one(number).to_le_bytes());
        }
        let places = std::array::from_fn(|_| HashTable::new());
        Spellings {
            secret,
            known: RwLock::new(Known { pages: Vec::new(), len: 0, free: Vec::new(), places }),
        }
    }
}

impl Spellings {
    pub fn look_ups(&self) -> LookUps<'_> {
        LookUps { spellings: self, known: None, left: 0, next: 0, last: None }
    }

    /// Forgets the spellings of these series, by table, and takes out of them those that somebody has looked up since the
    /// pins from `before` on were taken.
    pub fn forget(&self, series: &mut HashMap<u32, RoaringBitmap>, before: u32) {
        let mut known = self.known.write();
        let known = &mut *known;
        for place in 0..known.len {
            let Some(entry) = known.entry(place) else { continue };
            let Some(unused) = series.get_mut(&entry.spelling.table.id) else { continue };
            if !unused.contains(entry.series) {
                continue;
            }
            if entry.pinned.load(Ordering::Relaxed) >= before {
                unused.remove(entry.series);
                continue;
            }
            let key = entry.key;
            if let Ok(found) = known.places[key.table()].find_entry(key.in_table(), |at| *at == place) {
                found.remove();
            }
            known.pages[place as usize / PAGE][place as usize % PAGE] = None;
            known.free.push(place);
        }
        known.shrink();
    }

    fn insert(&self, key: Key, table: Arc<Table>, series: u32, pin: &Pin) -> (Arc<Spelling>, Option<u32>) {
        let mut known = self.known.write();
        if let Some(place) = known.find(key) {
            let entry = known.entry(place).expect("a place that was found is taken");
            pin.keep(&entry.pinned);
            return (Arc::clone(&entry.spelling), Some(place));
        }
        let spelling = Arc::new(Spelling { table, series, last_layout: LastLayout::default() });
        let [pinned, next] = [0; 2].map(AtomicU32::new);
        let entry = Entry { key, series, pinned, next, spelling: Arc::clone(&spelling) };
        pin.keep(&entry.pinned);
        (spelling, known.insert(entry))
    }

    fn key(&self, raw: &[u8]) -> Key {
        let hash = xxh3_128_with_secret(raw, &self.secret);
        Key([hash as u64, (hash >> 64) as u64])
    }
}

impl LookUps<'_> {
    #[inline]
    pub fn key(&self, raw: &[u8]) -> Key {
        self.spellings.key(raw)
    }

    /// The key of words in their order, each given by its own: a sender that writes words once and refers to them has them
    /// hashed once. `room` is for their bytes.
    #[inline]
    pub fn key_of_words(&self, words: impl Iterator<Item = Key>, room: &mut Vec<u8>) -> Key {
        room.clear();
        room.push(0);
        for Key([low, high]) in words {
            room.extend_from_slice(&low.to_le_bytes());
            room.extend_from_slice(&high.to_le_bytes());
        }
        self.spellings.key(room)
    }

    /// The series' number stays good until the pin is dropped.
    #[inline]
    pub fn find(&mut self, key: Key, pin: &Pin) -> Option<Arc<Spelling>> {
        self.look_up(key, pin, |entry| Arc::clone(&entry.spelling))
    }

    /// The same for whoever needs nothing else.
    #[inline]
    pub fn series(&mut self, key: Key, pin: &Pin) -> Option<u32> {
        self.look_up(key, pin, |entry| entry.series)
    }

    /// The number was looked up with the same pin.
    pub fn insert(&mut self, key: Key, table: Arc<Table>, series: u32, pin: &Pin) -> Arc<Spelling> {
        self.known = None;
        let (spelling, place) = self.spellings.insert(key, table, series, pin);
        self.last = place;
        self.next = place.map_or(self.next, |place| place + 1);
        spelling
    }

    #[inline]
    fn look_up<T>(&mut self, key: Key, pin: &Pin, take: impl FnOnce(&Entry) -> T) -> Option<T> {
        if self.left == 0 {
            self.known = None;
            self.left = LOOK_UPS_PER_LOCK;
        }
        self.left -= 1;
        let known = self.known.get_or_insert_with(|| self.spellings.known.read());
        let guess = known.entry(self.next).filter(|entry| entry.key == key);
        let (place, entry) = match guess {
            Some(entry) => (self.next, entry),
            None => {
                let Some(place) = known.find(key) else {
                    // What a new series needs takes long.
                    self.known = None;
                    return None;
                };
                if let Some(last) = self.last.and_then(|last| known.entry(last)) {
                    last.next.store(place, Ordering::Relaxed);
                }
                (place, known.entry(place).expect("a place that was found is taken"))
            }
        };
        self.last = Some(place);
        self.next = entry.next.load(Ordering::Relaxed);
        pin.keep(&entry.pinned);
        Some(take(entry))
    }
}

impl Known {
    fn entry(&self, place: u32) -> Option<&Entry> {
        self.pages.get(place as usize / PAGE)?[place as usize % PAGE].as_ref()
    }

    fn find(&self, key: Key) -> Option<u32> {
        let is_it = |place: &u32| self.entry(*place).is_some_and(|entry| entry.key == key);
        self.places[key.table()].find(key.in_table(), is_it).copied()
    }

    /// None if there are too many.
    fn insert(&mut self, mut entry: Entry) -> Option<u32> {
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.len == SPELLINGS_MAX => return None,
            None => {
                self.len += 1;
                self.len - 1
            }
        };
        if place as usize / PAGE == self.pages.len() {
            self.pages.push((0..PAGE).map(|_| None).collect());
        }
        let key = entry.key;
        *entry.next.get_mut() = place + 1;
        self.pages[place as usize / PAGE][place as usize % PAGE] = Some(entry);
        let mut places = std::mem::take(&mut self.places[key.table()]);
        places.insert_unique(key.in_table(), place, |place| self.hash_in_table(*place));
        self.places[key.table()] = places;
        Some(place)
    }

    fn hash_in_table(&self, place: u32) -> u64 {
        self.entry(place).expect("a place in a table is taken").key.in_table()
    }

    /// Gives back what is not needed after much was forgotten.
    fn shrink(&mut self) {
        while self.pages.last().is_some_and(|page| page.iter().all(Option::is_none)) {
            self.pages.pop();
        }
        self.len = self.len.min((self.pages.len() * PAGE) as u32);
        self.free.retain(|place| *place < self.len);
        // The lowest is taken first, so that what comes together stands together.
        self.free.sort_unstable_by(|a, b| b.cmp(a));
        for table in 0..TABLES {
            if self.places[table].len() < self.places[table].capacity() / 4 {
                let mut places = std::mem::take(&mut self.places[table]);
                places.shrink_to_fit(|place| self.hash_in_table(*place));
                self.places[table] = places;
            }
        }
    }
}

impl Key {
    fn in_table(self) -> u64 {
        self.0[0]
    }

    /// By bits that [`Key::in_table`] leaves out.
    fn table(self) -> usize {
        self.0[1] as usize % TABLES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{Pins, Registry};

    /// Senders that name series in turns, in order and not, while others are forgotten.
    #[test]
    fn a_spelling_means_its_series_whatever_came_before() {
        let registry = Registry::default();
        let database = registry.database_or_new("db");
        let tables = ["a", "b"].map(|name| registry.table_or_new(&database, name));
        let (spellings, pins) = (Spellings::default(), Pins::default());
        let key = |series: u32| spellings.key(format!("series {series}").as_bytes());
        let count = 3 * PAGE as u32 / 2;
        let look = |order: &mut dyn Iterator<Item = u32>| {
            let pin = pins.take();
            let mut look_ups = spellings.look_ups();
            for series in order {
                let table = &tables[series as usize % 2];
                match look_ups.find(key(series), &pin) {
                    Some(known) => assert_eq!((known.series, known.table.id), (series, table.id)),
                    None => {
                        look_ups.insert(key(series), Arc::clone(table), series, &pin);
                        assert_eq!(look_ups.series(key(series), &pin), Some(series));
                    }
                }
            }
        };
        look(&mut (0..count));
        look(&mut (0..count).rev());
        look(&mut (0..count).step_by(7).chain(0..count));
        // Of one table those above a number are in no use, but for one that a batch holds.
        let line = pins.line();
        let held = pins.take();
        assert_eq!(spellings.look_ups().series(key(101), &held), Some(101));
        let unused = |series: &u32| series % 2 == 1 && *series > 100;
        let unused: RoaringBitmap = (0..count).filter(unused).collect();
        let mut gone = HashMap::from_iter([(tables[1].id, unused.clone())]);
        spellings.forget(&mut gone, line);
        assert_eq!(&unused - &gone[&tables[1].id], RoaringBitmap::from_iter([101]));
        let mut look_ups = spellings.look_ups();
        for series in 0..count {
            let known = !gone[&tables[1].id].contains(series);
            assert_eq!(look_ups.series(key(series), &held), known.then_some(series));
        }
        drop(look_ups);
        // What comes again takes the places that were given back.
        look(&mut (0..count));
        assert_eq!((spellings.known.read().len, spellings.known.read().free.len()), (count, 0));
        look(&mut (0..count).rev());
    }
}
