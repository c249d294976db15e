//! Which databases, tables, fields and series exist: names to small numbers.
//!
//! Invariant: numbers are given once and never change meaning while the process lives; those of series that are in
//! memory no more are forgotten (see `pins`), and the same tags then get another number; a field's type is
//! decided by its first write, under the schema lock, and never changes. What is registered here but was
//! never made durable (a refused batch) is only a name.
//! Not here: points (`head`, `blocks`), durability of the names (`wal` logs them, the manifest keeps them).

mod index;
mod metadata;
mod order;
mod pins;
mod spellings;

use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use roaring::RoaringBitmap;
use storage_format::manifest::Keep;
use storage_format::point::{FieldType, TagSet};

use crate::config::Limits;
use crate::error::{Error, Kind, Result};

pub use query_lang::catalog::{METRIC_NAME, METRIC_VALUE, METRICS_TABLE};

/// The field of `metrics` that holds native histograms, in the bytes of `storage_format::histogram`.
pub const METRIC_HISTOGRAM: &str = "histogram";

pub use index::{CompiledFilter, TagIndex, TagPostings};
pub use metadata::{Metadata, MetricInfo, MetricKind};
pub use pins::{Pin, Pins};
pub use spellings::{Key, LookUps, Spelling, Spellings};

/// Everything by name. One per server.
#[derive(Default)]
pub struct Registry {
    databases: RwLock<BTreeMap<String, Arc<Database>>>,
    tables: RwLock<Vec<Arc<Table>>>,
    pins: Pins,
}

pub struct Database {
    pub name: Arc<str>,
    tables: RwLock<BTreeMap<String, Arc<Table>>>,
    keep: RwLock<Option<Keep>>,
    /// A series as a client wrote it -> series.
    pub spellings: Spellings,
    /// What is known of its metrics.
    pub metadata: Metadata,
}

pub struct Table {
    /// Unique in the process.
    pub id: u32,
    pub database: Arc<str>,
    pub name: Arc<str>,
    schema: RwLock<Schema>,
    index: RwLock<TagIndex>,
    keep: RwLock<Option<Keep>>,
    merges_late: AtomicBool,
}

/// How long a batch, which waits for the disk, is waited for.
const BATCH_WAIT_MAX: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Schema {
    columns: Vec<Column>,
    by_name: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    layouts: Vec<Arc<Layout>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: Arc<str>,
    pub field_type: FieldType,
}

/// The fields of a row in the order they were written: remembered per series, so that a repeated shape costs
/// no look-up by name.
pub struct Layout {
    /// Its place among the table's remembered layouts plus one; 0 if it is not remembered.
    pub id: u32,
    pub columns: Vec<u32>,
    pub types: Vec<FieldType>,
    /// Field names as written, escapes and all.
    pub raw_names: Vec<Box<str>>,
}

/// What is known of each metric: its kind, its help and its unit.
pub const METADATA_TABLE: &str = "metrics_metadata";

/// A table with wildly varying lines must not remember every combination. Above this a line pays for its
/// look-ups by name, about 30 ns a field.
const LAYOUTS_REMEMBERED_MAX: usize = 4_096;

impl Registry {
    pub fn database(&self, name: &str) -> Option<Arc<Database>> {
        self.databases.read().get(name).cloned()
    }

    pub fn databases(&self) -> Vec<String> {
        self.databases.read().keys().cloned().collect()
    }

    pub fn database_keeps(&self) -> BTreeMap<String, Keep> {
        let databases = self.databases.read();
        databases.iter().filter_map(|(name, database)| Some((name.clone(), database.keep()?))).collect()
    }

    /// Databases are made on first use.
    pub fn database_or_new(&self, name: &str) -> Arc<Database> {
        if let Some(database) = self.database(name) {
            return database;
        }
        let mut databases = self.databases.write();
        Arc::clone(databases.entry(name.to_string()).or_insert_with(|| {
            Arc::new(Database {
                name: name.into(),
                tables: RwLock::default(),
                keep: RwLock::default(),
                spellings: Spellings::default(),
                metadata: Metadata::default(),
            })
        }))
    }

    pub fn table(&self, database: &str, name: &str) -> Option<Arc<Table>> {
        self.database(database)?.table(name)
    }

    pub fn table_or_new(&self, database: &Database, name: &str) -> Arc<Table> {
        if let Some(table) = database.table(name) {
            return table;
        }
        let mut tables = database.tables.write();
        if let Some(table) = tables.get(name) {
            return Arc::clone(table);
        }
        let mut all = self.tables.write();
        let table = Arc::new(Table {
            id: all.len() as u32,
            database: Arc::clone(&database.name),
            name: name.into(),
            schema: RwLock::default(),
            index: RwLock::default(),
            keep: RwLock::default(),
            merges_late: AtomicBool::new(false),
        });
        all.push(Arc::clone(&table));
        tables.insert(name.to_string(), Arc::clone(&table));
        table
    }

    /// To be taken before the first look-up of a series, and held as long as its number is used without a lock.
    pub fn pin(&self) -> Pin {
        self.pins.take()
    }

    /// Waits until every batch that was parsed before this call is applied, or was refused. False if that takes too long.
    pub fn wait_for_batches(&self) -> bool {
        self.pins.wait_for_present(BATCH_WAIT_MAX)
    }

    /// Forgets series that are in none of the sets that `in_memory` names by table, and that no batch holds: what blocks
    /// have of them, their own index finds. Returns which went, by table.
    ///
    /// A series that `in_memory` leaves out may come back meanwhile, but only by a look-up, which the line tells from
    /// earlier ones. So the line comes first.
    pub fn forget(
        &self,
        in_memory: impl FnOnce() -> HashMap<u32, RoaringBitmap>,
    ) -> HashMap<u32, RoaringBitmap> {
        let line = self.pins.line();
        let kept = in_memory();
        let tables = self.tables();
        let of_table = |table: &Arc<Table>| {
            let mut series = table.with_index(TagIndex::all);
            if let Some(kept) = kept.get(&table.id) {
                series -= kept;
            }
            (!series.is_empty()).then_some((table.id, series))
        };
        let mut unused: HashMap<u32, RoaringBitmap> = tables.iter().filter_map(of_table).collect();
        if unused.is_empty() {
            return unused;
        }
        let databases: Vec<Arc<Database>> = self.databases.read().values().cloned().collect();
        for database in databases {
            database.spellings.forget(&mut unused, line);
        }
        for (table, series) in &mut unused {
            *series = tables[*table as usize].index.write().forget(series, line);
        }
        unused
    }

    /// Every table of every database, in the order of their numbers.
    pub fn tables(&self) -> Vec<Arc<Table>> {
        self.tables.read().clone()
    }
}

impl Database {
    pub fn table(&self, name: &str) -> Option<Arc<Table>> {
        self.tables.read().get(name).cloned()
    }

    /// Sorted by name.
    pub fn tables(&self) -> Vec<Arc<Table>> {
        self.tables.read().values().cloned().collect()
    }

    /// How long tables that say nothing themselves keep their points. None: for ever.
    pub fn keep(&self) -> Option<Keep> {
        *self.keep.read()
    }

    pub fn set_keep(&self, keep: Option<Keep>) {
        *self.keep.write() = keep;
    }
}

impl Table {
    /// How long its points are kept. None: as its database says.
    pub fn keep(&self) -> Option<Keep> {
        *self.keep.read()
    }

    pub fn set_keep(&self, keep: Option<Keep>) {
        *self.keep.write() = keep;
    }

    /// Whether rollups take points that come when their time has expired.
    pub fn merges_late(&self) -> bool {
        self.merges_late.load(Ordering::Relaxed)
    }

    /// Returns what it was.
    pub fn set_merges_late(&self, merges: bool) -> bool {
        self.merges_late.swap(merges, Ordering::Relaxed)
    }

    pub fn columns(&self) -> Vec<Column> {
        self.schema.read().columns.clone()
    }

    pub fn column_types(&self) -> Vec<FieldType> {
        self.schema.read().columns.iter().map(|column| column.field_type).collect()
    }

    pub fn column(&self, name: &str) -> Option<(u32, FieldType)> {
        let schema = self.schema.read();
        let id = *schema.by_name.get(name)?;
        Some((id, schema.columns[id as usize].field_type))
    }

    pub fn series_count(&self) -> usize {
        self.index.read().len()
    }

    /// Sorted names of all tags that a series of the table ever had.
    pub fn tags(&self) -> Vec<String> {
        self.index.read().tags()
    }

    pub fn with_index<T>(&self, look: impl FnOnce(&TagIndex) -> T) -> T {
        look(&self.index.read())
    }

    pub fn series_tags(&self, series: u32) -> TagSet {
        self.index.read().key(series).clone()
    }

    pub fn matching(&self, filter: &CompiledFilter) -> RoaringBitmap {
        filter.series(&*self.index.read())
    }

    /// The series' number; a new one if the limit allows. It stays good until the pin is dropped.
    pub fn series_or_new(&self, tags: &TagSet, series_max: usize, pin: &Pin) -> Result<u32> {
        if let Some(series) = self.index.read().find(tags, pin) {
            return Ok(series);
        }
        let mut index = self.index.write();
        if let Some(series) = index.find(tags, pin) {
            return Ok(series);
        }
        if index.len() >= series_max {
            return Err(too_many_series(&self.name, &index));
        }
        index.insert(tags.clone(), pin).ok_or_else(|| {
            Error::rejected(
                Kind::OverLimit,
                "series_numbers",
                format!(
                    "table {} has had {} series since the start, which is all that can be numbered; restart waterclock",
                    self.name,
                    u32::MAX
                ),
            )
        })
    }

    /// Makes sure a tag name is known although no series has it now: the manifest remembers it.
    pub fn remember_tags<'a>(&self, tags: impl IntoIterator<Item = &'a str>) {
        let mut index = self.index.write();
        tags.into_iter().for_each(|tag| index.remember_tag(tag));
    }

    /// The remembered layout with this number (see [`Layout::id`]).
    pub fn layout(&self, id: u32) -> Option<Arc<Layout>> {
        self.schema.read().layouts.get((id as usize).checked_sub(1)?).cloned()
    }

    /// The layout of fields written as `(raw name, name, type)`, reserving the types of new fields. Nothing is
    /// reserved if any field clashes or is over the limit.
    pub fn layout_or_new(&self, fields: &[(&str, &str, FieldType)], limits: &Limits) -> Result<Arc<Layout>> {
        let mut schema = self.schema.write();
        for (_, name, written) in fields {
            if let Some(id) = schema.by_name.get(*name) {
                let expected = schema.columns[*id as usize].field_type;
                if !is_accepted(expected, *written) {
                    return Err(self.type_clash(name, expected, *written));
                }
            }
        }
        let new = fields.iter().filter(|(_, name, _)| !schema.by_name.contains_key(*name)).count();
        if schema.columns.len() + new > limits.fields_per_table_max {
            return Err(Error::rejected(
                Kind::OverLimit,
                "too_many_fields",
                format!(
                    "table {} would have more than {} fields, its limit (fields_per_table_max); write the varying part of \
                     the name as a tag, or raise the limit",
                    self.name, limits.fields_per_table_max
                ),
            ));
        }
        let columns: Vec<u32> =
            fields.iter().map(|(_, name, kind)| schema.column_or_new(name, *kind)).collect();
        let raw_names: Vec<Box<str>> = fields.iter().map(|(raw, _, _)| (*raw).into()).collect();
        // Layouts are few, and this runs only when a series changes its shape.
        let known =
            schema.layouts.iter().find(|known| known.columns == columns && known.raw_names == raw_names);
        if let Some(known) = known {
            return Ok(Arc::clone(known));
        }
        let types = columns.iter().map(|id| schema.columns[*id as usize].field_type).collect();
        let remembered = schema.layouts.len() < LAYOUTS_REMEMBERED_MAX;
        let id = if remembered { schema.layouts.len() as u32 + 1 } else { 0 };
        let layout = Arc::new(Layout { id, columns, types, raw_names });
        if remembered {
            schema.layouts.push(Arc::clone(&layout));
        }
        Ok(layout)
    }

    /// A field read back from the log or the manifest.
    pub fn restore_column(&self, name: &str, field_type: FieldType) -> u32 {
        self.schema.write().column_or_new(name, field_type)
    }

    pub fn type_clash(&self, field: &str, expected: FieldType, written: FieldType) -> Error {
        Error::invalid(
            "field_type",
            format!(
                "field \"{field}\" of table {} is {expected}, but this line writes {written}; send the type of the first write, \
                 or use another field name",
                self.name
            ),
        )
    }
}

fn too_many_series(table: &str, index: &TagIndex) -> Error {
    // An estimate: values that only blocks know are not counted, those of refused batches are.
    let (tag, values) = index.widest_tag().unwrap_or_default();
    Error::rejected(
        Kind::OverLimit,
        "too_many_series",
        format!(
            "table {table} has {} series, its limit (series_per_table_max), and this line would begin another; the tag \
             {tag} has the most values, about {values}: leave it out or write it as a field, or raise the limit; \
             `show cardinality from {}` counts the values of every tag",
            index.len(),
            query_lang::print::name(table)
        ),
    )
}

/// An integer into a float field is widened; every other pair must be equal.
pub fn is_accepted(expected: FieldType, written: FieldType) -> bool {
    expected == written || (expected == FieldType::Float && written == FieldType::Int)
}

impl Schema {
    fn column_or_new(&mut self, name: &str, field_type: FieldType) -> u32 {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let id = self.columns.len() as u32;
        let name: Arc<str> = name.into();
        self.columns.push(Column { name: Arc::clone(&name), field_type });
        self.by_name.insert(name, id);
        id
    }
}

/// A series' last layout, shared by all writers of the series. Relaxed: a stale number costs a look-up.
#[derive(Default)]
pub struct LastLayout(AtomicU32);

impl LastLayout {
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn set(&self, layout: u32) {
        self.0.store(layout, Ordering::Relaxed);
    }
}
