//! How many different values: exact while they are few, then a HyperLogLog.
//!
//! Invariant: the state is a function of the *set* of values. Up to [`HASHES_MAX`] different hashes it is that set;
//! beyond, the largest rank seen in each of [`REGISTERS`] registers, which no order and no repetition can change.
//! The estimate is Ertl's improved one, computed from the registers alone and without tables of corrections.
//! The hash is XXH3-64 of the value's bytes (see `value`), fixed by the format. Not here: exact answers from raw
//! points (see `values`).

use std::sync::Arc;

use arrow::array::Int64Array;

use crate::corrupt::{Corrupt, Result};
use crate::varint;

use super::column::{Answer, State};
use super::finalize::Finalized;

const INDEX_BITS: u32 = 14;
const REGISTERS: usize = 1 << INDEX_BITS;
/// As many as take the room of the registers.
const HASHES_MAX: usize = REGISTERS / size_of::<u64>();
/// A register holds one more than the zeros that follow the index in a hash.
const RANK_MAX: u8 = (u64::BITS - INDEX_BITS) as u8 + 1;
/// The standard error of estimates, relative: 1.04 / sqrt(16384). Below 2048 different values there is none.
pub const DISTINCT_ERROR: f64 = 1.04 / 128.0;
const _: () = assert!(REGISTERS == 128 * 128);

/// Of the stored form. FORMAT.md, "Distinct sketches".
const VERSION: u8 = 1;
const HASHES: u8 = 0;
const RANKS: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Distinct {
    /// Ascending, at most [`HASHES_MAX`].
    Few(Vec<u64>),
    /// The ranks of more than [`HASHES_MAX`] hashes, one per register.
    Many(Box<[u8]>),
}

impl Distinct {
    pub fn add_hashes(&mut self, hashes: impl Iterator<Item = u64>) {
        /// Sorted together; repetitions are dropped before they take room.
        const CHUNK: usize = 1024;
        let mut hashes = hashes.peekable();
        let mut chunk = Vec::new();
        while hashes.peek().is_some() {
            if let Distinct::Many(ranks) = self {
                return hashes.for_each(|hash| raise(ranks, hash));
            }
            chunk.clear();
            chunk.extend(hashes.by_ref().take(CHUNK));
            chunk.sort_unstable();
            chunk.dedup();
            self.add_few(&chunk);
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Distinct::Few(hashes) if hashes.is_empty())
    }

    /// How many different values there are, or about how many.
    pub fn estimate(&self) -> u64 {
        match self {
            Distinct::Few(hashes) => hashes.len() as u64,
            Distinct::Many(ranks) => (estimate(ranks).round() as u64).max(HASHES_MAX as u64 + 1),
        }
    }

    /// `hashes` ascend.
    fn add_few(&mut self, hashes: &[u64]) {
        match self {
            Distinct::Many(ranks) => hashes.iter().for_each(|hash| raise(ranks, *hash)),
            Distinct::Few(mine) => {
                let new = |hash: &&u64| mine.binary_search(hash).is_err();
                let new: Vec<u64> = hashes.iter().filter(new).copied().collect();
                if mine.len() + new.len() > HASHES_MAX {
                    let mut ranks = vec![0; REGISTERS].into_boxed_slice();
                    mine.iter().chain(&new).for_each(|hash| raise(&mut ranks, *hash));
                    *self = Distinct::Many(ranks);
                } else if !new.is_empty() {
                    mine.extend(new);
                    mine.sort(); // two ascending runs, which a stable sort finds
                }
            }
        }
    }

    /// FORMAT.md, "Distinct sketches".
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        match self {
            Distinct::Few(hashes) => {
                out.push(HASHES);
                hashes.iter().for_each(|hash| out.extend(hash.to_le_bytes()));
            }
            Distinct::Many(ranks) => {
                out.push(RANKS);
                out.extend_from_slice(ranks);
            }
        }
    }

    /// Refuses every encoding but the one that [`encode`](Distinct::encode) gives.
    #[deny(clippy::unwrap_used, clippy::indexing_slicing)]
    pub fn decode(mut rest: &[u8]) -> Result<Distinct> {
        if varint::take_u8(&mut rest)? != VERSION {
            return Err(Corrupt::new("a distinct sketch has an unknown version"));
        }
        match varint::take_u8(&mut rest)? {
            HASHES => {
                let (hashes, []) = rest.as_chunks() else {
                    return Err(Corrupt::new("a distinct sketch is cut"));
                };
                let hashes: Vec<u64> = hashes.iter().map(|hash| u64::from_le_bytes(*hash)).collect();
                if hashes.is_empty() || hashes.len() > HASHES_MAX || !hashes.is_sorted_by(|a, b| a < b) {
                    return Err(Corrupt::new("a distinct sketch has hashes out of order, too many or none"));
                }
                Ok(Distinct::Few(hashes))
            }
            RANKS if rest.len() == REGISTERS => {
                if rest.iter().any(|rank| *rank > RANK_MAX) || rest.iter().all(|rank| *rank == 0) {
                    return Err(Corrupt::new("a distinct sketch has ranks that no hash has"));
                }
                Ok(Distinct::Many(rest.into()))
            }
            _ => Err(Corrupt::new("a distinct sketch has another form or length")),
        }
    }
}

impl State for Distinct {
    const IDENTITY: Distinct = Distinct::Few(Vec::new());

    fn merge(&mut self, other: &Distinct) {
        match (&mut *self, other) {
            (_, Distinct::Few(hashes)) => self.add_few(hashes),
            (Distinct::Many(mine), Distinct::Many(theirs)) => {
                mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine = (*mine).max(*theirs));
            }
            (Distinct::Few(_), Distinct::Many(_)) => {
                let few = std::mem::replace(self, other.clone());
                self.merge(&few);
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Distinct::Few(hashes) => hashes.capacity() * size_of::<u64>(),
            Distinct::Many(ranks) => ranks.len(),
        }
    }
}

impl Answer for Distinct {
    fn finalize(states: &[Distinct]) -> Finalized {
        let estimates = states.iter().map(|state| i64::try_from(state.estimate()).unwrap_or(i64::MAX));
        Finalized::new(Arc::new(Int64Array::from_iter_values(estimates)))
    }
}

fn raise(ranks: &mut [u8], hash: u64) {
    let index = (hash >> (u64::BITS - INDEX_BITS)) as usize;
    // The bit below the lowest one ends the zeros of a hash that has no other.
    let rest = hash << INDEX_BITS | 1 << (INDEX_BITS - 1);
    ranks[index] = ranks[index].max(rest.leading_zeros() as u8 + 1);
}

/// Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017), algorithm 6. Only additions,
/// multiplications, divisions and roots, which every machine rounds alike.
fn estimate(ranks: &[u8]) -> f64 {
    let mut counts = [0u32; RANK_MAX as usize + 1];
    ranks.iter().for_each(|rank| counts[usize::from(*rank)] += 1);
    let registers = REGISTERS as f64;
    let (middle, last) = counts[1..].split_at(counts.len() - 2);
    let mut sum = registers * tau(1.0 - f64::from(last[0]) / registers);
    for count in middle.iter().rev() {
        sum = (sum + f64::from(*count)) * 0.5;
    }
    sum += registers * sigma(f64::from(counts[0]) / registers);
    registers * registers / (2.0 * std::f64::consts::LN_2) / sum
}

/// x + sum over k of x^(2^k) * 2^(k-1): for registers that no hash has reached. At least one has been, so x < 1.
fn sigma(mut x: f64) -> f64 {
    let (mut sum, mut weight) = (x, 1.0);
    loop {
        x *= x;
        let before = sum;
        sum += x * weight;
        weight += weight;
        if sum == before {
            return sum;
        }
    }
}

/// (1 - x - sum over k of (1 - x^(2^-k))^2 * 2^-k) / 3: for registers that are full.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut sum, mut weight) = (1.0 - x, 1.0);
    loop {
        x = x.sqrt();
        let before = sum;
        weight *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * weight;
        if sum == before {
            return sum / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    fn hash(number: u64) -> u64 {
        xxh3_64(&number.to_le_bytes())
    }

    fn distinct(hashes: impl IntoIterator<Item = u64>) -> Distinct {
        let mut distinct = Distinct::IDENTITY;
        distinct.add_hashes(hashes.into_iter());
        distinct
    }

    fn encoded(distinct: &Distinct) -> Vec<u8> {
        let mut out = Vec::new();
        distinct.encode(&mut out);
        out
    }

    #[test]
    fn sketches_match_format_page() {
        let a = distinct([xxh3_64(b"a")]);
        let hex: Vec<String> = encoded(&a).iter().map(|byte| format!("{byte:02x}")).collect();
        let example = "01 00 1f 4e 96 1e b6 32 c6 e6";
        assert_eq!(hex.join(" "), example);
        assert!(include_str!("../../FORMAT.md").contains(example), "the page shows other bytes");
    }

    #[test]
    fn few_are_exact_and_many_are_near() {
        for count in [0, 1, 2, 100, 2048] {
            assert_eq!(distinct((0..count).map(hash)).estimate(), count);
        }
        // Fixed seeds; across many of them the errors must scatter as promised.
        for count in [2049u64, 3000, 10_000, 50_000, 200_000] {
            let runs = 20;
            let mut squares = 0.0;
            for run in 0..runs {
                let near = distinct((0..count).map(|number| hash(run << 32 | number))).estimate();
                let error = (near as f64 - count as f64) / count as f64;
                assert!(error.abs() < 4.0 * DISTINCT_ERROR, "{near} for {count}");
                squares += error * error;
            }
            let deviation = (squares / f64::from(runs as u32)).sqrt();
            assert!(deviation < 1.4 * DISTINCT_ERROR, "{deviation} of {count}");
        }
    }

    #[test]
    fn registers_know_their_range() {
        let mut ranks = vec![0; REGISTERS];
        raise(&mut ranks, 0);
        raise(&mut ranks, u64::MAX);
        raise(&mut ranks, 1 << 50);
        raise(&mut ranks, 2 << 50 | 1);
        assert_eq!(
            (ranks[0], ranks[REGISTERS - 1], ranks[1], ranks[2]),
            (RANK_MAX, 1, RANK_MAX, RANK_MAX - 1)
        );
        assert!(estimate(&[RANK_MAX; REGISTERS]).is_infinite() || estimate(&[RANK_MAX; REGISTERS]) > 1e18);
    }

    #[test]
    fn damage_is_refused() {
        let few = |hashes: &[u64]| encoded(&Distinct::Few(hashes.to_vec()));
        let many = |rank: u8| encoded(&Distinct::Many(vec![rank; REGISTERS].into()));
        assert!(Distinct::decode(&few(&[1, 2])).is_ok() && Distinct::decode(&many(RANK_MAX)).is_ok());
        let table: &[(&str, Vec<u8>)] = &[
            ("empty", vec![]),
            ("version", vec![2, 0, 1, 1, 1, 1, 1, 1, 1, 1]),
            ("form", vec![1, 2]),
            ("no hashes", few(&[])),
            ("cut", few(&[1, 2])[..9].to_vec()),
            ("twice", few(&[1, 1])),
            ("descending", few(&[2, 1])),
            ("too many", few(&(0..2049).collect::<Vec<u64>>())),
            ("nothing", many(0)),
            ("rank", many(RANK_MAX + 1)),
            ("short", many(1)[..9].to_vec()),
        ];
        for (name, bytes) in table {
            assert!(Distinct::decode(bytes).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_order_no_grouping_and_no_repetition_changes_it(
            sizes in prop::collection::vec(prop_oneof![0u64..50, 500u64..3000], 1..5),
            overlap in 0u64..400,
            repeat: bool,
        ) {
            let mut start = 0;
            let mut parts: Vec<Vec<u64>> = Vec::new();
            for size in sizes {
                parts.push((start..start + size).map(hash).collect());
                start += size.saturating_sub(overlap);
            }
            let all: Vec<u64> = parts.concat();
            let whole = distinct(all.iter().copied());
            let mut merged = Distinct::IDENTITY;
            for part in parts.iter().rev() {
                merged.merge(&distinct(part.iter().rev().copied()));
                if repeat { merged.merge(&distinct(part.iter().copied())); }
            }
            prop_assert_eq!(&merged, &whole);
            let mut other = distinct(all.iter().rev().copied());
            other.merge(&merged);
            prop_assert_eq!(&other, &whole);
            if !all.is_empty() {
                prop_assert_eq!(Distinct::decode(&encoded(&whole)), Ok(whole));
            }
        }

        #[test]
        fn any_bytes_are_survived(form in 0u8..2, bytes: Vec<u8>) {
            let bytes = [&[VERSION, form], bytes.as_slice()].concat();
            if let Ok(distinct) = Distinct::decode(&bytes) {
                prop_assert_eq!(encoded(&distinct), bytes);
            }
        }
    }
}
