//! PromQL over a database: each selector's tables captured from one view, then the query run without a lock.
//!
//! Not here: the language (`promql`), HTTP (`server`).

use std::sync::Arc;

use storage_format::point::{TagSet, TimeRange};

use crate::db::Db;
use crate::error::Result;
use crate::guard::Guard;
use crate::promql::Wanted;
use crate::promql::ast::Matcher;
use crate::promql::{Answer, Query, Selection, Source};
use crate::scan::{Captured, Extent};
use crate::series::{METRICS_TABLE, Table};

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
                let captured = Captured::points(
                    &live.view(),
                    table,
                    &wanted.filter,
                    range,
                    &wanted.columns,
                    Extent::All,
                );
                wanted.source(captured)
            };
            let of_selection = |(selection, wanted): (Selection, Vec<(Arc<Table>, Wanted)>)| {
                wanted.into_iter().map(|(table, wanted)| capture(selection.range, &table, wanted)).collect()
            };
            wanted.into_iter().map(of_selection).collect()
        };
        query.run(over_range, sources, guard)
    }

    /// The label sets of the series that any of the selectors means and that may have samples in the range, sorted.
    /// Without a selector, all of them.
    pub fn promql_series(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        database: &str,
        guard: &Guard,
    ) -> Result<Vec<TagSet>> {
        let tables = self.metric_tables(database);
        let everything = [Vec::new()];
        let selectors = if selectors.is_empty() { &everything[..] } else { selectors };
        let mut found = Vec::new();
        for matchers in selectors {
            for (table, wanted) in wanted(&tables, matchers)? {
                let captured = {
                    let live = self.core.live.read();
                    let range = self.visible_part(&live, &table, range);
                    Captured::points(&live.view(), &table, &wanted.filter, range, &[], Extent::All)
                };
                let scan = captured.open_within(guard)?;
                for tags in scan.series_tags() {
                    found.extend(wanted.labels(tags));
                }
                guard.check()?;
            }
        }
        found.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        found.dedup();
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
