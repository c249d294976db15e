//! Names and values of labels, and the series that have them.
//!
//! Invariant: without a selector they come from the label indexes alone, so that the time it takes goes with the values and not with the
//! series. Either way a range is looked at as partitions and blocks tell it, and not sample by sample.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashSet;
use storage_format::point::{TagSet, TimeRange};
use storage_format::ranges::RangeSet;

use crate::blocks::BlockFile;
use crate::blocks::TableKey;
use crate::db::Db;
use crate::db::catalog::add_values;
use crate::db::promql::wanted;
use crate::error::Result;
use crate::guard::Guard;
use crate::promql::ast::Matcher;
use crate::promql::{NAME, Wanted};
use crate::scan::Captured;
use crate::series::Table;

/// Series between two looks at the guard: some ms of work.
const SERIES_PER_CHECK: usize = 65_536;

impl Db {
    /// The label sets of the series that any of the selectors means and that may have samples in the range, sorted.
    /// Without a selector, all of them.
    pub fn promql_series(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        database: &str,
        guard: &Guard,
    ) -> Result<Vec<TagSet>> {
        let mut found = Vec::new();
        self.each_series(selectors, range, database, guard, &mut |wanted, tags| {
            for labels in wanted.labels(tags) {
                guard.reserve(size_of::<TagSet>() + labels.as_bytes().len())?;
                found.push(labels);
            }
            Ok(())
        })?;
        found.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        found.dedup();
        Ok(found)
    }

    /// The names of the labels of such series, sorted.
    pub fn promql_label_names(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        database: &str,
        guard: &Guard,
    ) -> Result<Vec<String>> {
        let mut names: HashSet<String> = HashSet::new();
        if selectors.is_empty() {
            for (table, wanted) in self.tables_in(range, database)? {
                let mut values = BTreeSet::new();
                for tag in table.tags() {
                    values.clear();
                    if !names.contains(&tag) {
                        self.add_label_values(&table, &tag, range, &mut values)?;
                        if !values.is_empty() {
                            names.insert(tag);
                        }
                    }
                }
                names.extend(wanted.names().next().map(|_| NAME.to_string()));
            }
        } else {
            self.each_series(selectors, range, database, guard, &mut |wanted, tags| {
                for (label, _) in tags.iter() {
                    if !names.contains(label) {
                        names.insert(label.to_string());
                    }
                }
                if wanted.names().next().is_some() && !names.contains(NAME) {
                    names.insert(NAME.to_string());
                }
                Ok(())
            })?;
        }
        Ok(sorted(names))
    }

    /// The values of a label of such series, sorted.
    pub fn promql_label_values(
        &self,
        label: &str,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        database: &str,
        guard: &Guard,
    ) -> Result<Vec<String>> {
        if selectors.is_empty() {
            let mut values = BTreeSet::new();
            for (table, wanted) in self.tables_in(range, database)? {
                match label == NAME {
                    true if wanted.names().next().is_some() => {
                        values.extend(wanted.names().map(str::to_string));
                    }
                    _ => self.add_label_values(&table, label, range, &mut values)?,
                }
                guard.check()?;
            }
            return Ok(values.into_iter().collect());
        }
        let mut values: HashSet<String> = HashSet::new();
        let mut add = |value: &str| {
            if !values.contains(value) {
                values.insert(value.to_string());
            }
        };
        self.each_series(selectors, range, database, guard, &mut |wanted, tags| {
            match label == NAME && wanted.names().next().is_some() {
                true => wanted.names().for_each(&mut add),
                false => tags.get(label).into_iter().for_each(&mut add),
            }
            Ok(())
        })?;
        Ok(sorted(values))
    }

    fn each_series(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        database: &str,
        guard: &Guard,
        each: &mut dyn FnMut(&Wanted, &TagSet) -> Result<()>,
    ) -> Result<()> {
        let tables = self.metric_tables(database);
        let everything = [Vec::new()];
        for matchers in if selectors.is_empty() { &everything[..] } else { selectors } {
            for (table, wanted) in wanted(&tables, matchers)? {
                let captured = {
                    let live = self.core.live.read();
                    let range = self.visible_part(&live, &table, range);
                    Captured::samples(&live.view_for(guard), &table, &wanted.filter, range, &[])?
                };
                let scan = captured.open_within(guard)?;
                for (count, tags) in scan.series_tags().enumerate() {
                    if count.is_multiple_of(SERIES_PER_CHECK) {
                        guard.check()?;
                    }
                    each(&wanted, tags)?;
                }
            }
        }
        Ok(())
    }

    /// Tables with metrics that may have samples in a range.
    fn tables_in(&self, range: TimeRange, database: &str) -> Result<Vec<(Arc<Table>, Wanted)>> {
        let mut tables = wanted(&self.metric_tables(database), &[])?;
        let live = self.core.live.read();
        tables.retain(|(table, _)| {
            let visible: RangeSet = self.visible_part(&live, table, range);
            let data = live.data_ranges(table);
            data.ranges().iter().any(|range| visible.overlaps(*range))
        });
        Ok(tables)
    }

    fn add_label_values(
        &self,
        table: &Arc<Table>,
        label: &str,
        range: TimeRange,
        values: &mut BTreeSet<String>,
    ) -> Result<()> {
        let (in_memory, files) = {
            let live = self.core.live.read();
            let range = self.visible_part(&live, table, range);
            let files = live.blocks.of(&TableKey::points(table)).iter();
            let files: Vec<Arc<BlockFile>> =
                files.filter(|file| range.overlaps(file.time())).cloned().collect();
            let active = live.head.active().filter(|(key, _)| key.table == table.id);
            let frozen = live.head.frozen().iter().filter(|layer| layer.table.id == table.id);
            let mut in_memory = active.map(|(_, part)| part.range).chain(frozen.map(|layer| layer.range));
            (in_memory.any(|part| range.overlaps(part)), files)
        };
        if in_memory {
            table.with_index(|index| add_values(index, label, values));
        }
        for file in files {
            add_values(file.block()?.index(), label, values);
        }
        Ok(())
    }
}

fn sorted(set: HashSet<String>) -> Vec<String> {
    let mut all: Vec<String> = set.into_iter().collect();
    all.sort_unstable();
    all
}
