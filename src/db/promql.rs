//! PromQL over a database: each selector's tables captured from one view, and what rollups have of them; then the query run without a
//! lock.
//!
//! Not here: the language (`promql`), HTTP (`server`).

mod names; // of labels, their values, and series
mod rollups; // which of them help

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use query_lang::catalog::{Catalog, RollupInfo};
use storage_format::point::{TagSet, TimeRange};

use crate::db::Db;
use crate::error::Result;
use crate::guard::Guard;
use crate::promql::Wanted;
use crate::promql::ast::Matcher;
use crate::promql::{Answer, Newest, Query, Sample, Selection, Source};
use crate::query::Stats;
use crate::scan::{Captured, Touched};
use crate::series::{METRICS_TABLE, Table};

use rollups::{Choice, Told, chosen};

/// A table that a selector looks into, and what rollups may have of it.
struct Look {
    table: Arc<Table>,
    wanted: Wanted,
    choice: Option<Choice>,
}

impl Db {
    /// The answer and what it took. `over_range` says which form it has.
    pub fn promql(
        &self,
        query: &Query,
        over_range: bool,
        database: &str,
        guard: &Guard,
    ) -> Result<(Answer, Stats)> {
        let rollups = if query.rollups() { self.catalog(database).rollups() } else { Vec::new() };
        let told = Arc::new(Mutex::new(Told::default()));
        let sources = self.sources(query.selections(), database, &rollups, &told, guard)?;
        let touched = Touched::default();
        let answer = query.run(over_range, sources, guard, &touched)?;
        let told = std::mem::take(&mut *told.lock()).settled();
        if !told.uses.is_empty() {
            metrics::counter!(crate::metrics::QUERIES_FROM_ROLLUPS).increment(1);
        }
        let mut stats = Stats {
            elapsed: answer.elapsed,
            rollups: told.uses,
            rejected: told.rejected,
            ..Stats::default()
        };
        stats.count_scan(&touched);
        Ok((answer, stats))
    }

    /// The newest sample of each series that is asked for.
    pub fn promql_newest(
        &self,
        asked: &Newest,
        database: &str,
        guard: &Guard,
    ) -> Result<BTreeMap<TagSet, Sample>> {
        asked.run(self.sources(asked.selections(), database, &[], &Arc::default(), guard)?, guard)
    }

    /// What each selection reads, all of it captured from one view. `rollups` may help.
    fn sources(
        &self,
        selections: Vec<Selection>,
        database: &str,
        rollups: &[RollupInfo],
        told: &Arc<Mutex<Told>>,
        guard: &Guard,
    ) -> Result<Vec<Vec<Source>>> {
        let tables = self.metric_tables(database);
        let mut looks = Vec::with_capacity(selections.len());
        for selection in selections {
            let mut of_selection = Vec::new();
            for (table, wanted) in wanted(&tables, &selection.matchers)? {
                let choice = chosen(&table, &wanted, &selection, rollups, &mut told.lock());
                of_selection.push(Look { table, wanted, choice });
            }
            looks.push((selection.range, of_selection));
        }
        let live = self.core.live.read();
        let mut sources = Vec::with_capacity(looks.len());
        for (range, of_selection) in looks {
            let mut captured = Vec::with_capacity(of_selection.len());
            for Look { table, wanted, choice } in of_selection {
                let range = self.visible_part(&live, &table, range);
                let view = live.view_for(guard);
                let points = Captured::samples(&view, &table, &wanted.filter, range, &wanted.columns)?;
                let stated = match choice {
                    Some(choice) => choice.capture(&self.core, &live, &table, &wanted, told, guard)?,
                    None => None,
                };
                captured.push(wanted.source(points, stated));
            }
            sources.push(captured);
        }
        Ok(sources)
    }

    /// Where samples are, as far as partitions and blocks tell. None if there are none.
    pub fn promql_times(&self, database: &str) -> Option<TimeRange> {
        let tables = self.metric_tables(database);
        let live = self.core.live.read();
        let ranges = tables.iter().filter_map(|table| live.data_ranges(table).hull());
        ranges.reduce(|all, one| TimeRange::new(all.start.min(one.start), all.end.max(one.end)))
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
