//! What exists in one database, as the planner asks it.

use std::sync::Arc;

use query_lang::catalog::{Catalog, FieldInfo, RollupInfo, TableInfo};

use crate::rollup::Rollups;
use crate::series::{Database, Registry};

/// Rollups as of its making; tables as they are when asked.
pub(super) struct DatabaseCatalog {
    database: Option<Arc<Database>>,
    rollups: Vec<RollupInfo>,
}

impl DatabaseCatalog {
    pub fn new(registry: &Registry, rollups: &Rollups, database: &str) -> DatabaseCatalog {
        let of_database = rollups.iter().filter(|rollup| *rollup.database == *database);
        DatabaseCatalog {
            database: registry.database(database),
            rollups: of_database.map(|rollup| (*rollup.info).clone()).collect(),
        }
    }
}

impl Catalog for DatabaseCatalog {
    fn table(&self, name: &str) -> Option<TableInfo> {
        let table = self.database.as_ref()?.table(name)?;
        let mut fields: Vec<FieldInfo> = table
            .columns()
            .iter()
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
}
