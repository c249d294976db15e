//! PromQL over a database: each selector's tables captured from one view, then the query run without a lock.
//!
//! Not here: the language (`promql`), HTTP (`server`).

mod names; // of labels, their values, and series

use std::collections::BTreeMap;
use std::sync::Arc;

use storage_format::point::{TagSet, TimeRange};

use crate::db::Db;
use crate::error::Result;
use crate::guard::Guard;
use crate::promql::Wanted;
use crate::promql::ast::Matcher;
use crate::promql::{Answer, Newest, Query, Sample, Selection, Source};
use crate::scan::Captured;
use crate::series::{METRICS_TABLE, Table};

impl Db {
    /// `over_range` says which form the answer has.
    pub fn promql(&self, query: &Query, over_range: bool, database: &str, guard: &Guard) -> Result<Answer> {
        query.run(over_range, self.sources(query.selections(), database)?, guard)
    }

    /// The newest sample of each series that is asked for.
    pub fn promql_newest(
        &self,
        asked: &Newest,
        database: &str,
        guard: &Guard,
    ) -> Result<BTreeMap<TagSet, Sample>> {
        asked.run(self.sources(asked.selections(), database)?, guard)
    }

    /// What each selection reads, all of it captured from one view.
    fn sources(&self, selections: Vec<Selection>, database: &str) -> Result<Vec<Vec<Source>>> {
        let tables = self.metric_tables(database);
        let wanted: Vec<(Selection, Vec<(Arc<Table>, Wanted)>)> = selections
            .into_iter()
            .map(|selection| {
                let wanted = wanted(&tables, &selection.matchers)?;
                Ok((selection, wanted))
            })
            .collect::<Result<_>>()?;
        let live = self.core.live.read();
        let capture = |range: TimeRange, table: &Arc<Table>, wanted: Wanted| {
            let range = self.visible_part(&live, table, range);
            let captured = Captured::samples(&live.view(), table, &wanted.filter, range, &wanted.columns);
            wanted.source(captured)
        };
        let of_selection = |(selection, wanted): (Selection, Vec<(Arc<Table>, Wanted)>)| {
            wanted.into_iter().map(|(table, wanted)| capture(selection.range, &table, wanted)).collect()
        };
        Ok(wanted.into_iter().map(of_selection).collect())
    }

    /// The table of metrics last: where labels are the same, another table's series win.
    fn metric_tables(&self, database: &str) -> Vec<Arc<Table>> {
        let Some(database) = self.core.registry.database(database) else { return Vec::new() };
        let mut tables = database.tables();
        tables.sort_by_key(|table| *table.name == *METRICS_TABLE);
        tables
    }
}

fn wanted(tables: &[Arc<Table>], matchers: &[Matcher]) -> Result<Vec<(Arc<Table>, Wanted)>> {
    let mut found = Vec::new();
    for table in tables {
        if let Some(wanted) = Wanted::of(table, matchers)? {
            found.push((Arc::clone(table), wanted));
        }
    }
    Ok(found)
}
