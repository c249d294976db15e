//! PromQL over a database: each selector's tables captured from one view, then the query run without a lock.
//!
//! Not here: the language (`promql`), HTTP (`server`).

mod names; // of labels, their values, and series

use std::sync::Arc;

use arrow::array::AsArray;
use query_lang::plan::{TagFilter, TagTest};
use storage_format::point::TimeRange;

use crate::db::Db;
use crate::error::Result;
use crate::guard::Guard;
use crate::ingest::METADATA_TAG;
use crate::promql::Wanted;
use crate::promql::ast::Matcher;
use crate::promql::{Answer, Query, Selection, Source};
use crate::scan::Captured;
use crate::series::{CompiledFilter, METADATA_TABLE, METRICS_TABLE, Table};

/// What senders say of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricMetadata {
    pub metric: String,
    /// `counter`, `gauge`, ...
    pub kind: String,
    pub help: String,
    pub unit: String,
}

/// Of the table of metadata, in the order of [`MetricMetadata`].
const METADATA_FIELDS: [&str; 3] = ["type", "help", "unit"];

impl Db {
    /// `over_range` says which form the answer has.
    pub fn promql(&self, query: &Query, over_range: bool, database: &str, guard: &Guard) -> Result<Answer> {
        let tables = self.metric_tables(database);
        let wanted: Vec<(Selection, Vec<(Arc<Table>, Wanted)>)> = query
            .selections()
            .into_iter()
            .map(|selection| {
                let wanted = wanted(&tables, &selection.matchers)?;
                Ok((selection, wanted))
            })
            .collect::<Result<_>>()?;
        let sources: Vec<Vec<Source>> = {
            let live = self.core.live.read();
            let capture = |range: TimeRange, table: &Arc<Table>, wanted: Wanted| {
                let range = self.visible_part(&live, table, range);
                let captured = Captured::samples(&live.view(), table, &wanted.filter, range, &wanted.columns);
                wanted.source(captured)
            };
            let of_selection = |(selection, wanted): (Selection, Vec<(Arc<Table>, Wanted)>)| {
                wanted.into_iter().map(|(table, wanted)| capture(selection.range, &table, wanted)).collect()
            };
            wanted.into_iter().map(of_selection).collect()
        };
        query.run(over_range, sources, guard)
    }

    /// What senders have said of their metrics, by name; of one of them or of all.
    pub fn metric_metadata(
        &self,
        metric: Option<&str>,
        database: &str,
        guard: &Guard,
    ) -> Result<Vec<MetricMetadata>> {
        let Some(table) = self.core.registry.table(database, METADATA_TABLE) else { return Ok(Vec::new()) };
        let fields = METADATA_FIELDS.map(str::to_string);
        let columns = crate::rollup::columns_of(&table, &fields);
        let filter = CompiledFilter::new(&match metric {
            Some(metric) => {
                TagFilter::Match { tag: METADATA_TAG.to_string(), test: TagTest::Equal(metric.to_string()) }
            }
            None => TagFilter::All,
        })?;
        let captured = {
            let live = self.core.live.read();
            let range = self.visible_part(&live, &table, TimeRange::ALL);
            Captured::samples(&live.view(), &table, &filter, range, &columns)
        };
        let mut found = Vec::new();
        captured.open_within(guard)?.for_each(guard, |tags, pieces| {
            let Some(rows) = pieces.last() else { return Ok(()) };
            let text = |field: usize| {
                let array = rows.columns.get(field)?.as_ref()?;
                array.as_string_opt::<i32>()?.iter().next_back()?.map(str::to_string)
            };
            let [kind, help, unit] = [0, 1, 2].map(|field| text(field).unwrap_or_default());
            let metric = tags.get(METADATA_TAG).unwrap_or_default().to_string();
            guard.reserve(metric.len() + kind.len() + help.len() + unit.len())?;
            found.push(MetricMetadata { metric, kind, help, unit });
            Ok(())
        })?;
        Ok(found)
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
