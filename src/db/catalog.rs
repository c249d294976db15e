//! What exists in one database, as the planner asks it.
//!
//! Invariant: a statement that was stored is planned against [`Remembered`], never against today's tables: since it was
//! checked a field may have got the name of its tag, a tag that of its column, or damage have taken away its table.
//! Not here: what the names mean (`query_lang`).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use query_lang::ast::{ColumnKind, Expr, ExprKind, Query, StageKind, StatementKind};
use query_lang::catalog::{Catalog, FieldInfo, RollupInfo, TableInfo};

use storage_format::point::FieldType;

use crate::blocks::{BlockFile, BlockList, TableKey};
use crate::rollup::Rollups;
use crate::series::{Database, METRIC_NAME, METRICS_TABLE, Registry, Table, TagPostings};

/// Rollups and blocks as of its making; tables as they are when asked.
pub(super) struct DatabaseCatalog {
    database: Option<Arc<Database>>,
    /// Whether native histograms are shown, with which no statement can compute.
    has_binary: bool,
    rollups: Vec<RollupInfo>,
    set_aside: Vec<String>,
    /// The table of metrics, and its blocks.
    metrics: Option<(Arc<Table>, Vec<Arc<BlockFile>>)>,
}

impl DatabaseCatalog {
    pub fn new(
        registry: &Registry,
        rollups: &Rollups,
        blocks: &BlockList,
        database: &str,
    ) -> DatabaseCatalog {
        let of_database = rollups.shown().filter(|rollup| *rollup.database == *database);
        let aside = rollups.set_aside.iter().map(|aside| &aside.entry);
        let aside = aside.filter(|entry| entry.database == database).map(|entry| entry.name.clone());
        let database = registry.database(database);
        let metrics = database.as_ref().and_then(|database| database.table(METRICS_TABLE));
        DatabaseCatalog {
            database,
            has_binary: false,
            rollups: of_database.map(|rollup| (*rollup.info).clone()).collect(),
            set_aside: aside.collect(),
            metrics: metrics.map(|table| {
                let files = blocks.of(&TableKey::points(&table)).to_vec();
                (table, files)
            }),
        }
    }
}

impl DatabaseCatalog {
    /// With native histograms as a field.
    pub fn with_binary(self) -> DatabaseCatalog {
        DatabaseCatalog { has_binary: true, ..self }
    }
}

impl Catalog for DatabaseCatalog {
    fn table(&self, name: &str) -> Option<TableInfo> {
        let table = self.database.as_ref()?.table(name)?;
        let mut fields: Vec<FieldInfo> = table
            .columns()
            .iter()
            // Native histograms are PromQL's.
            .filter(|column| self.has_binary || column.field_type != FieldType::Binary)
            .map(|column| FieldInfo { name: column.name.to_string(), field_type: column.field_type })
            .collect();
        fields.sort();
        (!fields.is_empty()).then(|| TableInfo { name: name.to_string(), fields, tags: table.tags() })
    }

    fn tables(&self) -> Vec<String> {
        let tables = self.database.iter().flat_map(|database| database.tables());
        tables.filter(|table| !table.columns().is_empty()).map(|table| table.name.to_string()).collect()
    }

    fn rollup(&self, name: &str) -> Option<RollupInfo> {
        self.rollups.iter().find(|rollup| rollup.name == name).cloned()
    }

    fn rollups(&self) -> Vec<RollupInfo> {
        self.rollups.clone()
    }

    fn set_aside(&self) -> Vec<String> {
        self.set_aside.clone()
    }

    fn is_metric(&self, name: &str) -> bool {
        let Some((table, files)) = &self.metrics else { return false };
        let has = |index: &dyn TagPostings| !index.equal(METRIC_NAME, name).is_empty();
        // A block that cannot be read is named by whoever reads its points.
        table.with_index(|index| has(index))
            || files.iter().any(|file| file.block().is_ok_and(|block| has(block.index())))
    }

    fn metrics(&self) -> Vec<String> {
        let Some((table, files)) = &self.metrics else { return Vec::new() };
        let mut names = BTreeSet::new();
        table.with_index(|index| add_values(index, METRIC_NAME, &mut names));
        for block in files.iter().filter_map(|file| file.block().ok()) {
            add_values(block.index(), METRIC_NAME, &mut names);
        }
        names.into_iter().collect()
    }
}

/// All values of a tag.
pub(super) fn add_values(index: &dyn TagPostings, tag: &str, values: &mut BTreeSet<String>) {
    let seen = RefCell::new(values);
    index.passing(tag, &|value| {
        let mut seen = seen.borrow_mut();
        if !seen.contains(value) {
            seen.insert(value.to_string());
        }
        false
    });
}

/// The tables as a stored statement saw them: with the tags that it names, and of the fields those that it names.
pub(super) struct Remembered<'a> {
    /// None for deletes, which need no fields and whose table may be gone.
    catalog: Option<&'a DatabaseCatalog>,
    /// The name that a rollup takes: free when it was made.
    own: Option<&'a str>,
    tags: Vec<String>,
    fields: Vec<String>,
}

impl<'a> Remembered<'a> {
    pub fn new(statement: &'a StatementKind, catalog: Option<&'a DatabaseCatalog>) -> Remembered<'a> {
        let mut seen = Remembered { catalog, own: None, tags: Vec::new(), fields: Vec::new() };
        match statement {
            StatementKind::Delete(delete) => {
                seen.tags.extend(delete.source.matchers.iter().map(|matcher| matcher.tag.text.clone()));
                delete.condition.iter().for_each(|condition| seen.see_condition(condition, &[]));
            }
            StatementKind::CreateRollup(create) => {
                seen.own = Some(&create.name.text);
                seen.see_query(&create.query);
            }
            _ => {}
        }
        seen
    }

    fn see_query(&mut self, query: &Query) {
        self.tags.extend(query.source.matchers.iter().map(|matcher| matcher.tag.text.clone()));
        let mut computed: Vec<&str> = Vec::new();
        for stage in &query.stages {
            match &stage.kind {
                StageKind::Where(condition) => self.see_condition(condition, &computed),
                StageKind::Extend(assignments) => {
                    for assignment in assignments {
                        self.see_condition(&assignment.value, &computed);
                        computed.push(&assignment.name.text);
                    }
                }
                StageKind::Aggregate(aggregate) => {
                    self.tags.extend(aggregate.by.iter().flatten().map(|tag| tag.text.clone()));
                    let fields = aggregate.items.iter().filter_map(|item| item.field.as_ref());
                    let stored = fields.filter(|field| !computed.contains(&field.text.as_str()));
                    self.fields.extend(stored.map(|field| field.text.clone()));
                }
                // No rollup has these.
                StageKind::Range(_)
                | StageKind::Fill(_)
                | StageKind::Sort(_)
                | StageKind::Rank(_)
                | StageKind::Limit(_)
                | StageKind::Join(_) => {}
            }
        }
    }

    /// What is stored says of fields that they are fields.
    fn see_condition(&mut self, condition: &Expr, computed: &[&str]) {
        if let ExprKind::Column(column) = &condition.kind {
            let name = column.name.text.clone();
            match column.kind {
                ColumnKind::Field => self.fields.push(name),
                ColumnKind::Either if computed.contains(&name.as_str()) || name == TIME => {}
                ColumnKind::Either | ColumnKind::Tag => self.tags.push(name),
            }
        }
        condition.children().into_iter().for_each(|child| self.see_condition(child, computed));
    }
}

/// The time of a point, which no tag and no field is called.
const TIME: &str = "time";

impl Catalog for Remembered<'_> {
    fn table(&self, name: &str) -> Option<TableInfo> {
        let mut tags = self.tags.clone();
        tags.sort();
        tags.dedup();
        let Some(catalog) = self.catalog else {
            return Some(TableInfo { name: name.to_string(), fields: Vec::new(), tags });
        };
        let today = catalog.table(name).filter(|_| self.own != Some(name))?;
        let fields = today.fields.into_iter().filter(|field| self.fields.contains(&field.name));
        Some(TableInfo { name: today.name, fields: fields.collect(), tags })
    }

    fn tables(&self) -> Vec<String> {
        self.catalog.map(Catalog::tables).unwrap_or_default()
    }

    fn rollup(&self, name: &str) -> Option<RollupInfo> {
        // What replaces it one day has its name, too.
        self.catalog?.rollup(name).filter(|_| self.own != Some(name))
    }

    fn rollups(&self) -> Vec<RollupInfo> {
        self.catalog.map(Catalog::rollups).unwrap_or_default()
    }

    // Stored statements name metrics as series of their table.
    fn is_metric(&self, _: &str) -> bool {
        false
    }

    fn metrics(&self) -> Vec<String> {
        Vec::new()
    }
}
