//! One limit for the memory of the whole server, and what the parts may have of it.
//!
//! Invariant: what the parts may take at once stays within `memory_limit`. What has no part of its own (names of series,
//! states of rollups that wait for their block, code, what the allocator keeps) lives in the rest, about an eighth, and where blocks are in a folder, a fifth.
//! Not here: keeping to the limits (each part does).

use crate::config::{Config, Limits, Origin, Parse};
use crate::error::{Error, Result};

/// A part of the memory: how many 64ths of the limit it gets if it is not set, at the most how much, and how often that
/// much may be held at once.
struct Part {
    name: &'static str,
    share: usize,
    most: usize,
    times: usize,
}

const fn part(name: &'static str, share: usize, times: usize) -> Part {
    Part { name, share, most: usize::MAX, times }
}

const PARTS: [Part; 11] = [
    // Writes are refused at twice the limit.
    part("head_bytes_max", 8, 2),
    // Bodies with what is parsed from them, and batches that wait for the disk.
    part("ingest_waiting_bytes_max", 4, 2),
    part("index_cache_bytes_max", 4, 1),
    part("page_cache_bytes_max", 4, 1),
    // Empty unless the blocks are in a bucket.
    part("object_cache_bytes_max", 4, 1),
    // A flush and a compaction.
    part("compaction_memory_bytes_max", 2, 2),
    part("refresh_memory_bytes_max", 4, 1),
    part("queries_memory_bytes_max", 12, 1),
    // Part of what all queries may have.
    part("query_memory_bytes_max", 8, 0),
    // A fourth of the bodies: one of the largest size always passes, compressed, decompressed and parsed.
    Part { most: 64 << 20, ..part("body_bytes_max", 1, 0) },
    // Read whole at start, when there is nothing else yet.
    Part { most: 128 << 20, ..part("wal_segment_bytes_max", 2, 0) },
];

const SHARES: usize = 64;

/// Below this a block's row group, a segment and a body do not fit their parts.
const MEMORY_LIMIT_MIN: usize = 64 << 20;

/// The share of the machine's memory, or of the container's, that is the limit if none is set: the other half is for the
/// page cache, from which blocks are read.
const MACHINE_SHARE: usize = 2;

impl Config {
    /// Gives the parts that are not set their share, and refuses parts that are too large together.
    pub(super) fn share_memory(&mut self, machine_bytes: usize) -> Result<()> {
        if self.origin("memory_limit") == Origin::Default {
            self.limits.memory_limit = whole_mebibytes(machine_bytes / MACHINE_SHARE).max(MEMORY_LIMIT_MIN);
        }
        let limit = self.limits.memory_limit;
        if limit < MEMORY_LIMIT_MIN {
            return Err(refuse(format!(
                "memory_limit is {}; give at least {}",
                limit.print(),
                MEMORY_LIMIT_MIN.print()
            )));
        }
        for Part { name, share, most, .. } in PARTS {
            if self.origin(name) == Origin::Default {
                let bytes = whole_kibibytes(limit / SHARES * share).min(most);
                *place(&mut self.limits, name) = bytes;
            }
        }
        self.check_memory()
    }

    fn check_memory(&mut self) -> Result<()> {
        let mut all = 0usize;
        let mut named = Vec::new();
        for Part { name, times, .. } in PARTS.iter().filter(|part| part.times > 0) {
            let bytes = *place(&mut self.limits, name);
            all = all.saturating_add(bytes.saturating_mul(*times));
            let twice = if *times == 2 { "twice " } else { "" };
            named.push(format!("{twice}{name} {}", bytes.print()));
        }
        let limits = &self.limits;
        if all > limits.memory_limit {
            return Err(refuse(format!(
                "{} are {} together, more than memory_limit, which is {}; lower one of them, or raise memory_limit",
                named.join(", "),
                whole_kibibytes(all).print(),
                limits.memory_limit.print()
            )));
        }
        if limits.query_memory_bytes_max > limits.queries_memory_bytes_max {
            return Err(refuse(format!(
                "query_memory_bytes_max is {}, more than all queries may have together (queries_memory_bytes_max {}); lower it, or \
                 raise the other",
                limits.query_memory_bytes_max.print(),
                limits.queries_memory_bytes_max.print()
            )));
        }
        if limits.body_bytes_max.saturating_mul(4) > limits.ingest_waiting_bytes_max {
            return Err(refuse(format!(
                "body_bytes_max is {}, and ingest_waiting_bytes_max is {}, which has to hold one body compressed, decompressed and \
                 parsed, four times as much; lower the first, or raise the second",
                limits.body_bytes_max.print(),
                limits.ingest_waiting_bytes_max.print()
            )));
        }
        Ok(())
    }
}

fn place<'a>(limits: &'a mut Limits, name: &str) -> &'a mut usize {
    match name {
        "head_bytes_max" => &mut limits.head_bytes_max,
        "ingest_waiting_bytes_max" => &mut limits.ingest_waiting_bytes_max,
        "page_cache_bytes_max" => &mut limits.page_cache_bytes_max,
        "index_cache_bytes_max" => &mut limits.index_cache_bytes_max,
        "object_cache_bytes_max" => &mut limits.object_cache_bytes_max,
        "compaction_memory_bytes_max" => &mut limits.compaction_memory_bytes_max,
        "refresh_memory_bytes_max" => &mut limits.refresh_memory_bytes_max,
        "queries_memory_bytes_max" => &mut limits.queries_memory_bytes_max,
        "query_memory_bytes_max" => &mut limits.query_memory_bytes_max,
        "body_bytes_max" => &mut limits.body_bytes_max,
        "wal_segment_bytes_max" => &mut limits.wal_segment_bytes_max,
        name => unreachable!("bug: {name} is no part of the memory"),
    }
}

fn whole_mebibytes(bytes: usize) -> usize {
    bytes >> 20 << 20
}

fn whole_kibibytes(bytes: usize) -> usize {
    bytes >> 10 << 10
}

fn refuse(why: String) -> Error {
    Error::invalid("memory_limit", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: usize = 1 << 30;

    fn load(machine: usize, set: &[(&str, &str)]) -> Result<Config> {
        let set = set.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Config::load(machine, None, [], set)
    }

    #[test]
    fn parts_follow_the_limit_unless_they_are_set() {
        let limits = load(24 * GIB, &[]).unwrap().limits;
        assert_eq!((limits.memory_limit, limits.head_bytes_max), (12 * GIB, 3 * GIB / 2));
        assert_eq!((limits.body_bytes_max, limits.wal_segment_bytes_max), (64 << 20, 128 << 20));
        let limits =
            load(24 * GIB, &[("memory_limit", "256MiB"), ("index_cache_bytes_max", "8MiB")]).unwrap().limits;
        assert_eq!((limits.head_bytes_max, limits.index_cache_bytes_max), (32 << 20, 8 << 20));
        assert_eq!((limits.queries_memory_bytes_max, limits.body_bytes_max), (48 << 20, 4 << 20));
        for mebibytes in [64, 100, 1_000, 1_000_000] {
            load(GIB, &[("memory_limit", &format!("{mebibytes}MiB"))]).unwrap();
        }
    }

    #[test]
    fn the_built_in_defaults_are_those_of_their_limit() {
        let print = |config: &Config| {
            config.settings().into_iter().map(|setting| (setting.name, setting.value)).collect::<Vec<_>>()
        };
        let config = Config::default();
        assert_eq!(print(&load(MACHINE_SHARE * config.limits.memory_limit, &[]).unwrap()), print(&config));
    }

    #[test]
    fn parts_that_are_too_large_are_named() {
        let why = |set: &[(&str, &str)]| load(8 * GIB, set).unwrap_err().to_string();
        let large = why(&[("head_bytes_max", "2GiB")]);
        assert!(
            large.starts_with("twice head_bytes_max 2GiB, twice ingest_waiting_bytes_max 256MiB, "),
            "{large}"
        );
        assert!(large.contains("more than memory_limit, which is 4GiB; lower one of them"), "{large}");
        assert!(why(&[("query_memory_bytes_max", "2GiB")]).contains("queries_memory_bytes_max 768MiB"));
        assert!(why(&[("body_bytes_max", "128MiB")]).contains("which has to hold one body"));
        assert!(why(&[("memory_limit", "1MiB")]).contains("at least 64MiB"));
    }
}
