//! What there is: `show tables`, `show storage`, `show cardinality`.
//!
//! Not here: the other `show` statements, which answer with names alone (`statements`).

use std::sync::Arc;

use hashbrown::HashMap;
use query_lang::plan::Keep as Asked;
use query_lang::time::format_time;
use storage_format::block::BlockKind;
use storage_format::manifest::{BlockEntry, Keep};
use storage_format::point::{TagSet, Time, TimeRange};

use crate::blocks::TableKey;
use crate::compact::stands_against;
use crate::db::retention::keep_of;
use crate::db::{Core, Live};
use crate::error::Result;
use crate::guard::Guard;
use crate::query::{Answer, text_table};
use crate::series::Table;

/// As the manifest has it. None: as nobody had said anything.
pub(super) fn keep_asked(asked: Asked) -> Option<Keep> {
    match asked {
        Asked::For(nanos) => Some(Keep(nanos)),
        Asked::Forever => Some(Keep::FOREVER),
        Asked::Default => None,
    }
}

pub(super) fn keep_text(keep: Option<Keep>) -> String {
    let said =
        keep.filter(|keep| *keep != Keep::FOREVER).map_or(Asked::Forever, |Keep(nanos)| Asked::For(nanos));
    said.to_string()
}

/// What becomes of points whose time has expired, and what that means.
fn late_text(merges: bool) -> &'static str {
    match merges {
        true => "merge: a point that comes twice counts twice",
        false => "refuse",
    }
}

impl Core {
    /// `series` counts those of a table that have points, wherever they are.
    pub(super) fn show_tables(
        &self,
        database: &str,
        series: impl Fn(&Arc<Table>) -> Result<usize>,
    ) -> Result<Answer> {
        let mut rows = Vec::new();
        for name in self.tables(database) {
            let Some(table) = self.registry.table(database, &name) else { continue };
            let keep = keep_text(keep_of(&self.registry, &table));
            let late = late_text(table.merges_late());
            let [series, fields] = [series(&table)?, table.columns().len()].map(|count| count.to_string());
            rows.push(vec![name, series, fields, keep, late.to_string()]);
        }
        Ok(text_table(&["table", "series", "fields", "keep", "late"], &rows))
    }

    /// A row per table, then one per rollup.
    pub(super) fn show_storage(&self, database: &str) -> Answer {
        let live = self.live.read();
        let mut rows = Vec::new();
        for name in self.tables(database) {
            let Some(table) = self.registry.table(database, &name) else { continue };
            rows.push(live.storage_of_table(self, &table));
        }
        for rollup in live.rollups.shown().filter(|rollup| *rollup.database == *database) {
            let sealed = Some(rollup.sealed_until()).filter(|sealed| *sealed > Time::MIN);
            let mut row = live.storage_row(&rollup.key, |found| StorageRow {
                memory_rows: rollup.unstored_buckets() as u64,
                keep: keep_text(rollup.keep),
                deletes: 0,
                sealed_until: sealed.map(format_time).unwrap_or_default(),
                ..found
            });
            row[0].clone_from(&rollup.info.name);
            rows.push(row);
        }
        text_table(
            &[
                "name",
                "kind",
                "blocks",
                "bytes",
                "rows",
                "memory_rows",
                "late_rows",
                "from",
                "to",
                "keep",
                "deletes",
                "sealed_until",
            ],
            &rows,
        )
    }
}

/// What `show storage` says of one table or rollup.
#[derive(Default)]
struct StorageRow {
    memory_rows: u64,
    /// Of the points in memory, if there are any.
    memory_time: Option<TimeRange>,
    keep: String,
    /// Deletes that blocks have yet to be rewritten for.
    deletes: usize,
    sealed_until: String,
    /// Late points that rollups show and have yet to take into their states.
    late_rows: u64,
}

impl Live {
    fn storage_of_table(&self, core: &Core, table: &Arc<Table>) -> Vec<String> {
        let key = TableKey::points(table);
        let active = self.head.active().filter(|(key, _)| key.table == table.id);
        let active = active.map(|(_, partition)| (partition.rows, partition.range));
        let frozen = self.head.frozen().iter().filter(|layer| layer.table.id == table.id);
        let in_memory: Vec<(u64, TimeRange)> =
            active.chain(frozen.map(|layer| (layer.rows, layer.range))).collect();
        let stands = |tombstone: &&Arc<crate::scan::Tombstone>| {
            self.blocks.of(&key).iter().any(|file| stands_against(tombstone, &file.entry))
        };
        self.storage_row(&key, |found| StorageRow {
            memory_rows: in_memory.iter().map(|(rows, _)| rows).sum(),
            memory_time: in_memory.iter().map(|(_, range)| *range).reduce(TimeRange::hull),
            keep: keep_text(keep_of(&core.registry, table)),
            deletes: self.tombstones.iter().filter(stands).count(),
            late_rows: self.late.rows(table),
            ..found
        })
    }

    fn storage_row(&self, key: &TableKey, complete: impl FnOnce(StorageRow) -> StorageRow) -> Vec<String> {
        let row = complete(StorageRow::default());
        let files = self.blocks.of(key);
        let sum =
            |of: fn(&BlockEntry) -> u64| files.iter().map(|file| of(&file.entry)).sum::<u64>().to_string();
        let time = files.iter().map(|file| file.time()).chain(row.memory_time).reduce(TimeRange::hull);
        let kind = match key.kind {
            BlockKind::Points => "table",
            BlockKind::Rollup => "rollup",
        };
        vec![
            key.table.to_string(),
            kind.to_string(),
            files.len().to_string(),
            sum(|entry| entry.bytes),
            sum(|entry| entry.rows),
            row.memory_rows.to_string(),
            row.late_rows.to_string(),
            time.map(|time| format_time(time.start)).unwrap_or_default(),
            time.map(|time| format_time(time.end)).unwrap_or_default(),
            row.keep,
            row.deletes.to_string(),
            row.sealed_until,
        ]
    }
}

/// One row per tag, the tag with the most values first: that one multiplies the series.
pub(super) fn cardinality<'a>(series: impl Iterator<Item = &'a TagSet>, guard: &Guard) -> Result<Answer> {
    let mut tags: HashMap<&str, HashMap<&str, usize>> = HashMap::new();
    let mut count = 0;
    for set in series {
        count += 1;
        if count % SERIES_PER_CHECK == 0 {
            guard.check()?;
        }
        for (tag, value) in set.iter() {
            *tags.entry(tag).or_default().entry(value).or_default() += 1;
        }
    }
    let mut rows: Vec<_> = tags
        .into_iter()
        .map(|(tag, values)| {
            let series: usize = values.values().sum();
            // The share of the series that have the tag. Of two values equally common, the one that sorts first.
            let commonest = values.iter().max_by(|a, b| a.1.cmp(b.1).then_with(|| b.0.cmp(a.0)));
            let (value, most) = commonest.expect("a tag has a value");
            let share = format!("{:.1}%", *most as f64 * 100.0 / series as f64);
            (values.len(), tag, series, *value, share)
        })
        .collect();
    rows.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(values, tag, series, value, share)| {
            vec![tag.to_string(), values.to_string(), series.to_string(), value.to_string(), share]
        })
        .collect();
    Ok(text_table(&["tag", "values", "series", "commonest", "share"], &rows))
}

/// Series between two looks at the guard: some ms of work.
const SERIES_PER_CHECK: usize = 65_536;
