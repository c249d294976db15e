//! The list of what is live, replaced as a whole at every commit. FORMAT.md, "Manifest".
//!
//! Invariant: blocks, the log position they cover, tombstones and the rollups' dirty sets stand in one
//! file: one commit, one truth. The body is JSON, so that a person can read it in an emergency.
//! Not here: how the file is replaced (the engine), or what a definition's text means (query-lang).

#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::block::BlockKind;
use crate::corrupt::{Corrupt, Result};
use crate::point::{Time, TimeRange};

pub const VERSION: u32 = 1;
const PREFIX: &str = "waterclock manifest ";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub commit: u64,
    pub next_block: u64,
    pub seq: u64,
    pub databases: Vec<String>,
    /// How long a database keeps the points of tables that say nothing themselves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub database_keeps: BTreeMap<String, Keep>,
    pub tables: Vec<TableEntry>,
    pub blocks: Vec<BlockEntry>,
    pub flushed: Vec<FlushedEntry>,
    pub tombstones: Vec<TombstoneEntry>,
    pub rollups: Vec<RollupEntry>,
    /// The folder of the log where it is not [`LOG_FOLDER`]: a backup brings a log of its own with each manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Raised by each writer that takes over where other machines could write, too; 0 where none can.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: u64,
    /// Who raised it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<WriterEntry>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A process that writes, for those who cannot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterEntry {
    /// The number of its log, which outlives the process.
    pub log: String,
    pub host: String,
    pub process: u32,
}

pub const LOG_FOLDER: &str = "wal";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableEntry {
    pub database: String,
    pub name: String,
    /// Name and type ([`crate::point::FieldType::name`]), in column order.
    pub fields: Vec<(String, String)>,
    pub tags: Vec<String>,
    /// None: as its database says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
    /// Whether its rollups take points that come when their time has expired.
    #[serde(default, skip_serializing_if = "is_false")]
    pub merges_late: bool,
    /// The sequence up to which its late points are in the states of the rollups that take them; 0 if there were none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub folded: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockEntry {
    pub id: u64,
    /// Below `blocks/`.
    pub file: String,
    pub database: String,
    /// The table, or the rollup.
    pub table: String,
    pub kind: BlockKind,
    pub partition: Range,
    /// First row's time and one past the last's.
    pub time: Range,
    pub seq_min: u64,
    pub seq_max: u64,
    pub rows: u64,
    pub series: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlushedEntry {
    pub database: String,
    pub table: String,
    pub partition: Time,
    pub seq: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstoneEntry {
    pub database: String,
    pub statement: String,
    pub seq: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollupEntry {
    pub database: String,
    pub name: String,
    pub definition: String,
    pub computed: Vec<Range>,
    pub dirty: Vec<Range>,
    pub dirty_groups: Vec<DirtyGroups>,
    /// None: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
    /// Buckets that begin before this are never computed again: their raw points may be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_until: Option<Time>,
    /// What lies before this it does not know, and takes no late points of. None, with buckets that are sealed: a program that
    /// did not say so has written this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins: Option<Time>,
    /// Whether it waits for `resume` before it computes anything in the background.
    #[serde(default, skip_serializing_if = "is_false")]
    pub paused: bool,
    /// What its blocks call it where that is not its name: it was built beside one that it has replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub states: Option<String>,
    /// The rollup that it is going to replace once all of it is computed; nothing reads it before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// The definition with `*` for each numeric field, if it takes those that come later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<String>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// How long data are kept, in nanoseconds; 0 for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep(pub i64);

impl Keep {
    pub const FOREVER: Keep = Keep(0);

    /// The time before which data have expired at `now`. None if they never do.
    pub fn expired_before(self, now: Time) -> Option<Time> {
        (self.0 > 0).then(|| now.saturating_sub(self.0))
    }
}

/// Groups of one bucket, each a list of tag and value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirtyGroups {
    pub bucket: Time,
    pub groups: Vec<Vec<(String, String)>>,
}

/// `[start, end)` as two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range(pub Time, pub Time);

impl From<TimeRange> for Range {
    fn from(range: TimeRange) -> Range {
        Range(range.start, range.end)
    }
}

impl From<Range> for TimeRange {
    fn from(Range(start, end): Range) -> TimeRange {
        TimeRange { start, end }
    }
}

impl Manifest {
    pub fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_string(self).expect("a manifest has only strings, numbers and lists");
        let crc = crc32c::crc32c(json.as_bytes());
        format!("{PREFIX}{VERSION} {crc:08x} {}\n{json}", json.len()).into_bytes()
    }

    pub fn log_folder(&self) -> &str {
        self.log.as_deref().unwrap_or(LOG_FOLDER)
    }

    /// The version that a manifest says it is of, whether or not this program can read that one.
    pub fn version(bytes: &[u8]) -> Option<u32> {
        let rest = bytes.strip_prefix(PREFIX.as_bytes())?;
        let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
        std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
    }

    pub fn decode(bytes: &[u8]) -> Result<Manifest> {
        let end = bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or(Corrupt::new("the first line does not end"))?;
        let (line, json) = bytes.split_at(end);
        let json = json.get(1..).unwrap_or_default();
        let line = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix(PREFIX));
        let mut words = line.ok_or(Corrupt::new("this is not a manifest"))?.split(' ');
        if words.next().and_then(|word| word.parse().ok()) != Some(VERSION) {
            return Err(Corrupt::at("the manifest is of another version", PREFIX.len() as u64));
        }
        let crc = words.next().and_then(|word| u32::from_str_radix(word, 16).ok());
        let len = words.next().and_then(|word| word.parse().ok());
        if len != Some(json.len()) {
            return Err(Corrupt::at(
                "the manifest has not the length its first line says",
                bytes.len() as u64,
            ));
        }
        if crc != Some(crc32c::crc32c(json)) {
            return Err(Corrupt::at("the manifest fails its checksum", end as u64 + 1));
        }
        serde_json::from_slice(json).map_err(|error| {
            Corrupt::at("the manifest's JSON has another shape", (end + 1 + error.column()) as u64)
        })
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn the_format_page_shows_these_bytes() {
        let page = include_str!("../FORMAT.md");
        let section = page.split("## Manifest").nth(1).unwrap();
        let example = section.split("```text\n").nth(1).unwrap().split("\n```").next().unwrap();
        let ours = String::from_utf8(Manifest { next_block: 1, ..Manifest::default() }.encode()).unwrap();
        assert_eq!(example, ours);
    }

    #[test]
    fn a_manifest_reads_back_and_no_flipped_byte_is_believed() {
        let manifest = Manifest {
            commit: 7,
            databases: vec!["default".into()],
            blocks: vec![BlockEntry {
                id: 1,
                file: "default/cpu/x.parquet".into(),
                database: "default".into(),
                table: "cpu".into(),
                kind: BlockKind::Points,
                partition: Range(0, 10),
                time: Range(1, 9),
                seq_min: 1,
                seq_max: 2,
                rows: 3,
                series: 4,
                bytes: 5,
            }],
            ..Manifest::default()
        };
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes), Ok(manifest));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(Manifest::decode(&damaged).is_err(), "byte {at}");
            assert!(Manifest::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
