//! Blocks to fewer, larger blocks.
//!
//! Windows nest: a partition, its day, then 30, 360 and 3,600 days. What is merged, and when:
//!
//! * a past day becomes one block, whatever its size; longer windows only as long as their block stays small;
//! * four blocks of like size become one, the newest first, so that late points and tiny tables leave few files and each
//!   row is rewritten a logarithmic number of times; a large old block is left alone until what came after it has
//!   half its size;
//! * a block that a delete stands against is rewritten when the delete has stood for a while.
//!
//! Invariant: blocks of one merge follow each other in rank among all blocks that share times with them, so that the
//! result stands in the place of all their sequences; deletes that stand against them are applied. The old files go
//! after the manifest has named the new one. A merge holds what a scan decodes ahead and the indexes of its blocks, and
//! streams the rest.
//! Not here: the commit (`db`), when to look for work (`jobs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashSet;
use storage_format::block::{BlockField, BlockKind, BlockSchema, Effort};
use storage_format::manifest::BlockEntry;
use storage_format::point::{Time, TimeRange, floor_time};

use crate::blocks::{BlockFile, BlockList, TableKey, write_block};
use crate::disk::Disk;
use crate::error::Result;
use crate::flush::{DAY, WIDTHS, block_memory, new_entry, push_scan, window_of};
use crate::guard::Guard;
use crate::scan::Captured;
use crate::scan::Tombstone;

/// So many blocks of like size wait for each other: each merge rewrites all of them.
const FILES_WAIT_MAX: usize = 4;

/// Blocks of a window longer than a partition that together stay below this are merged also before the window is over.
/// Above it a day would be written twice for little: its partitions are few.
const SMALL_BYTES_MAX: u64 = 16 << 20;

/// Blocks to be merged.
pub struct Merging {
    pub key: TableKey,
    /// What the new blocks cover: one window, or the days of one whose block would be too large.
    pub windows: Vec<TimeRange>,
    /// By rank.
    pub files: Vec<Arc<BlockFile>>,
}

/// What a search for merges goes by.
pub struct Policy<'a> {
    /// Windows that end before this are over.
    pub over_before: Time,
    /// Windows longer than a day become one block up to this size.
    pub block_bytes_max: u64,
    /// Everything that can be merged is due.
    pub force: bool,
    pub tombstones: &'a [Arc<Tombstone>],
    /// The deletes that have stood long enough.
    pub deletes_due: &'a HashSet<u64>,
    /// The widest window for a table: blocks go as a whole when retention ends, so they must not be too long.
    pub width_max: Box<dyn Fn(&TableKey) -> i64 + 'a>,
}

/// The merges that are due now; of two that share blocks the first should be done and the search repeated.
pub fn due(blocks: &BlockList, policy: &Policy<'_>) -> Vec<Merging> {
    let mut merges = Vec::new();
    for (key, files) in blocks.tables() {
        let mut of_table = Vec::new();
        let width_max = (policy.width_max)(key).max(DAY);
        for width in WIDTHS.into_iter().filter(|width| *width <= width_max) {
            let windows = files.iter().map(|file| (window_of(width, file.entry.partition.into()), file));
            for (window, files) in by_window(windows) {
                of_table.extend(of_long_window(key, files, window, width, policy));
            }
        }
        let partitions = files.iter().map(|file| (TimeRange::from(file.entry.partition), file));
        for (window, mut files) in by_window(partitions) {
            if let Some(first) = crowd(&files) {
                of_table.push(Merging {
                    key: key.clone(),
                    windows: vec![window],
                    files: files.split_off(first),
                });
            }
        }
        of_table.retain(|merging| is_gapless(&merging.files, files));
        merges.append(&mut of_table);
        merges.extend(with_deletes(key, files, policy));
    }
    merges
}

/// How many blocks wait in merges that are due.
pub fn files_behind(blocks: &BlockList, policy: &Policy<'_>) -> usize {
    let files = due(blocks, policy).into_iter().flat_map(|merging| merging.files);
    files.map(|file| file.entry.id).collect::<HashSet<_>>().len()
}

/// The blocks that lie in each window as a whole, where there are several.
fn by_window<'a>(
    windows: impl Iterator<Item = (TimeRange, &'a Arc<BlockFile>)>,
) -> impl Iterator<Item = (TimeRange, Vec<Arc<BlockFile>>)> {
    let mut found: BTreeMap<TimeRange, Vec<Arc<BlockFile>>> = BTreeMap::new();
    for (window, file) in windows.filter(|(window, file)| window.covers(file.entry.partition.into())) {
        found.entry(window).or_default().push(Arc::clone(file));
    }
    found.into_iter().filter(|(_, files)| files.len() > 1)
}

/// What is due among the blocks of a day or a longer window.
fn of_long_window(
    key: &TableKey,
    mut files: Vec<Arc<BlockFile>>,
    window: TimeRange,
    width: i64,
    policy: &Policy<'_>,
) -> Option<Merging> {
    let total = bytes_of(&files);
    let over = window.end <= policy.over_before;
    let fits = width <= DAY || total <= policy.block_bytes_max;
    let largest = files.iter().max_by_key(|file| file.entry.bytes)?;
    // Merged before, and what came later is little against it.
    let settled =
        TimeRange::from(largest.entry.partition) == window && is_share(largest.entry.bytes, 3, 4, total);
    let whole = over && fits && !settled;
    let forced = policy.force && (width <= DAY || over && fits);
    if whole || forced {
        return Some(Merging { key: key.clone(), windows: vec![window], files });
    }
    let small = if width <= DAY { SMALL_BYTES_MAX } else { SMALL_BYTES_MAX.min(policy.block_bytes_max / 4) };
    let mut give_back = false;
    if policy.force {
        // In a long window that is not over, the blocks of late and early points over the whole of it; its days stay, unless
        // they share times with those, because then the files together say more than the table has.
        let is_whole = |file: &&Arc<BlockFile>| TimeRange::from(file.entry.partition) == window;
        let (whole, within): (Vec<_>, Vec<_>) = files.iter().partition(is_whole);
        let overlaps = within.iter().any(|part| whole.iter().any(|file| file.time().overlaps(part.time())));
        if overlaps && total <= small {
            return Some(Merging { key: key.clone(), windows: vec![window], files });
        }
        if !overlaps && whole.len() > 1 {
            let files = whole.into_iter().cloned().collect();
            return Some(Merging { key: key.clone(), windows: vec![window], files });
        }
        give_back = overlaps;
    }
    // Far less than what is given back below, so that nothing goes to and fro.
    let gathered_max = if fits { small } else { small / 4 };
    if let Some(first) = crowd(&files)
        && (bytes_of(&files[first..]) <= gathered_max || over && fits)
    {
        return Some(Merging { key: key.clone(), windows: vec![window], files: files.split_off(first) });
    }
    // Late points that lie across days too large to be one block go back into their days.
    let (across, days): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| width_of(file) > DAY);
    if !give_back && (fits || bytes_of(&across) <= small) {
        return None;
    }
    let hull = hull_of(&across)?;
    let mut files: Vec<_> =
        across.into_iter().chain(days.into_iter().filter(|file| hull.overlaps(file.time()))).collect();
    files.sort_by_key(|file| file.rank());
    let hull = hull_of(&files)?;
    let first = floor_time(hull.start, DAY, 0);
    let days = (0..).map_while(|day| first.checked_add(DAY.checked_mul(day)?));
    let windows = days.take_while(|start| *start < hull.end).map(|start| TimeRange::new(start, start + DAY));
    Some(Merging { key: key.clone(), windows: windows.collect(), files })
}

fn bytes_of(files: &[Arc<BlockFile>]) -> u64 {
    files.iter().map(|file| file.entry.bytes).sum()
}

/// Whether `part` is at least `n / d` of `whole`.
fn is_share(part: u64, n: u128, d: u128, whole: u64) -> bool {
    u128::from(part) * d >= u128::from(whole) * n
}

fn width_of(file: &BlockFile) -> i64 {
    file.entry.partition.1.saturating_sub(file.entry.partition.0)
}

/// From the first time of any of these blocks to the last of any.
fn hull_of(files: &[Arc<BlockFile>]) -> Option<TimeRange> {
    let join = |a: TimeRange, b: TimeRange| TimeRange::new(a.start.min(b.start), a.end.max(b.end));
    files.iter().map(|file| file.time()).reduce(join)
}

/// Where the newest blocks of like size begin, if there are enough of them.
fn crowd(files: &[Arc<BlockFile>]) -> Option<usize> {
    let mut first = files.len();
    let mut bytes = 0u64;
    while let Some(older) = first.checked_sub(1) {
        let more = files[older].entry.bytes;
        if first < files.len() && more > bytes.saturating_mul(2) {
            break;
        }
        bytes += more;
        first = older;
    }
    (files.len() - first >= FILES_WAIT_MAX).then_some(first)
}

/// Whether no other block that shares times with these has a rank between theirs.
fn is_gapless(files: &[Arc<BlockFile>], all: &[Arc<BlockFile>]) -> bool {
    let (Some(oldest), Some(newest), Some(hull)) = (files.first(), files.last(), hull_of(files)) else {
        return true;
    };
    let between = |other: &&Arc<BlockFile>| oldest.rank() < other.rank() && other.rank() < newest.rank();
    let ours: HashSet<u64> = files.iter().map(|file| file.entry.id).collect();
    !all.iter().filter(between).any(|other| hull.overlaps(other.time()) && !ours.contains(&other.entry.id))
}

/// Single blocks that deletes have stood against for long enough.
fn with_deletes(key: &TableKey, files: &[Arc<BlockFile>], policy: &Policy<'_>) -> Vec<Merging> {
    let is_due = |tombstone: &&Arc<Tombstone>| policy.force || policy.deletes_due.contains(&tombstone.seq);
    let standing: Vec<&Arc<Tombstone>> = policy.tombstones.iter().filter(is_due).collect();
    let touched =
        files.iter().filter(|file| standing.iter().any(|tombstone| stands_against(tombstone, &file.entry)));
    let alone = |file: &Arc<BlockFile>| Merging {
        key: key.clone(),
        windows: vec![file.entry.partition.into()],
        files: vec![Arc::clone(file)],
    };
    touched.map(alone).collect()
}

/// Whether a delete came after the block and touches its times.
pub fn stands_against(tombstone: &Tombstone, entry: &BlockEntry) -> bool {
    entry.kind == BlockKind::Points
        && tombstone.seq > entry.seq_max
        && *tombstone.database == entry.database
        && *tombstone.table == entry.table
        && tombstone.range.overlaps(entry.time.into())
}

/// The deletes that a merge applies.
pub struct Deletes {
    applied: Vec<Arc<Tombstone>>,
    /// Whether the blocks may stand for the sequences of the deletes, too, so that these are done with them.
    done: bool,
}

impl Deletes {
    /// With `settled` no older points wait in memory. Else, or where a block has come between, what has yet to be merged
    /// would lose against a block that stood for the deletes.
    pub fn against(
        merging: &Merging,
        all: &[Arc<BlockFile>],
        tombstones: &[Arc<Tombstone>],
        settled: bool,
        first_id: u64,
    ) -> Deletes {
        let stands = |tombstone: &&Arc<Tombstone>| {
            merging.files.iter().any(|file| stands_against(tombstone, &file.entry))
        };
        let applied: Vec<Arc<Tombstone>> = tombstones.iter().filter(stands).cloned().collect();
        let newest = merging.files.iter().map(|file| file.rank()).max().unwrap_or_default();
        let seq_max = applied.iter().map(|tombstone| tombstone.seq).chain([newest.0]).max().unwrap_or(0);
        let hull = hull_of(&merging.files);
        let comes_between = |other: &Arc<BlockFile>| {
            newest < other.rank()
                && other.rank() < (seq_max, first_id)
                && hull.is_some_and(|hull| hull.overlaps(other.time()))
        };
        Deletes { done: settled && !all.iter().any(comes_between), applied }
    }

    pub fn sequences(&self) -> Vec<u64> {
        self.applied.iter().map(|tombstone| tombstone.seq).collect()
    }
}

/// Writes the merged blocks; `added` are those that are whole, also after a failure.
pub fn merge(
    disk: &Arc<dyn Disk>,
    merging: &Merging,
    deletes: &Deletes,
    first_id: u64,
    guard: &Guard,
    added: &mut Vec<BlockEntry>,
) -> Result<()> {
    let mut fields: Vec<BlockField> = Vec::new();
    for file in &merging.files {
        for field in &file.block()?.schema().fields {
            if !fields.iter().any(|known| known.name == field.name) {
                fields.push(field.clone());
            }
        }
    }
    let entries = || merging.files.iter().map(|file| &file.entry);
    let seq_min = entries().map(|entry| entry.seq_min).min().unwrap_or(0);
    let stood_for = deletes.applied.iter().filter(|_| deletes.done).map(|tombstone| tombstone.seq);
    let seq_max = entries().map(|entry| entry.seq_max).chain(stood_for).max().unwrap_or(0);
    let columns: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
    for (id, window) in (first_id..).zip(&merging.windows) {
        let applied = &deletes.applied;
        let key = &merging.key;
        let scan = Captured::blocks(key, &merging.files, applied, columns.clone(), *window).open()?;
        let schema = BlockSchema::of_series(key.series_order(), scan.series_tags(), fields.clone());
        let entry = new_entry(id, key, *window, (seq_min, seq_max));
        added.extend(write_block(disk, entry, schema, Effort::Compaction, block_memory(guard), |block| {
            push_scan(block, &scan, guard)
        })?);
    }
    Ok(())
}
