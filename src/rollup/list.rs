//! All rollups of a server: found by name, by what they are over, by what their blocks are called.
//!
//! Invariant: each is listed under the name in its `info`. Those that cannot be planned are known, so that nothing of them is
//! lost, and told of no write, so that nothing of them is believed.
//! Not here: what one of them does.

use std::collections::BTreeMap;
use std::sync::Arc;

use query_lang::catalog::RollupInfo;
use query_lang::rewrite::fit;
use storage_format::block::BlockKind;
use storage_format::manifest::RollupEntry;
use storage_format::point::TimeRange;

use crate::batch::BatchPart;
use crate::blocks::TableKey;
use crate::rollup::Rollup;
use crate::series::Table;

/// All rollups of the server.
#[derive(Default)]
pub struct Rollups {
    by_name: BTreeMap<(Arc<str>, String), Rollup>,
    /// Those nobody can read. What they hold stays on disk until they are dropped.
    pub set_aside: Vec<SetAside>,
}

/// A rollup that could not be planned at the start.
pub struct SetAside {
    pub entry: RollupEntry,
    pub error: String,
}

impl SetAside {
    /// Of its blocks.
    pub fn key(&self) -> TableKey {
        TableKey {
            kind: BlockKind::Rollup,
            database: self.entry.database.as_str().into(),
            table: self.entry.states.as_deref().unwrap_or(&self.entry.name).into(),
        }
    }
}

impl Rollups {
    pub fn aside(&self, database: &str, name: &str) -> Option<&SetAside> {
        self.set_aside.iter().find(|aside| aside.entry.database == database && aside.entry.name == name)
    }

    pub fn take_aside(&mut self, database: &str, name: &str) -> Option<SetAside> {
        let is_it = |aside: &SetAside| aside.entry.database == database && aside.entry.name == name;
        let at = self.set_aside.iter().position(is_it)?;
        Some(self.set_aside.remove(at))
    }

    pub fn get(&self, database: &str, name: &str) -> Option<&Rollup> {
        self.by_name.get(&(Arc::from(database), name.to_string()))
    }

    /// The rollup whose states a table of blocks holds.
    pub fn of_key(&self, key: &TableKey) -> Option<&Rollup> {
        self.by_name.values().find(|rollup| rollup.key == *key)
    }

    pub fn of_key_mut(&mut self, key: &TableKey) -> Option<&mut Rollup> {
        self.by_name.values_mut().find(|rollup| rollup.key == *key)
    }

    /// The one that is being built to replace a rollup.
    pub fn successor_of(&self, database: &str, name: &str) -> Option<&Rollup> {
        let replaces = |rollup: &&Rollup| rollup.replaces.as_deref() == Some(name);
        self.iter().filter(|rollup| *rollup.database == *database).find(replaces)
    }

    /// Why a rollup of this name cannot be defined so: its parent has to give what it needs, and it what those on it need, each
    /// as it is and as it is going to be. Statements are planned on what is read, and that may have changed since.
    pub fn misfit(&self, database: &str, name: &str, info: &RollupInfo) -> Option<String> {
        let of_database = || self.iter().filter(|other| *other.database == *database);
        let parent = info.parent.as_deref();
        let parents = of_database().filter(|other| parent == Some(other.shown_name()));
        let above = parents.filter_map(|other| {
            let reason = fit(&other.info, info.need()).err()?;
            let parent = other.shown_name();
            Some(match other.replaces {
                Some(_) => format!("the rollup {parent} is being altered, and {reason} then; define {name} on its table"),
                None => format!("the rollup {parent} was altered in the meantime, and {reason}; define {name} on its table"),
            })
        });
        let children = of_database().filter(|other| other.info.parent.as_deref() == Some(name));
        let below = children.filter_map(|other| {
            let reason = fit(info, other.info.need()).err()?;
            let child = other.shown_name();
            Some(format!("the rollup {child} is defined on {name}, and {reason} then; drop {child} first"))
        });
        above.chain(below).next()
    }

    /// Those that are read: not the ones that are still being built beside others.
    pub fn shown(&self) -> impl Iterator<Item = &Rollup> {
        self.iter().filter(|rollup| rollup.replaces.is_none())
    }

    pub fn get_mut(&mut self, database: &str, name: &str) -> Option<&mut Rollup> {
        self.by_name.get_mut(&(Arc::from(database), name.to_string()))
    }

    pub fn insert(&mut self, rollup: Rollup) {
        self.by_name.insert((Arc::clone(&rollup.database), rollup.info.name.clone()), rollup);
    }

    pub fn remove(&mut self, database: &str, name: &str) -> Option<Rollup> {
        self.by_name.remove(&(Arc::from(database), name.to_string()))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Rollup> {
        self.by_name.values()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Rollup> {
        self.by_name.values_mut()
    }

    /// Marks what a batch changes, in every rollup over its table.
    pub fn mark(&mut self, part: &BatchPart, seq: u64, groups_max: usize) {
        for rollup in self.by_name.values_mut().filter(|rollup| rollup.is_over(&part.table)) {
            rollup.mark(part, seq, groups_max);
        }
    }

    /// Marks every bucket that a delete touches.
    pub fn mark_range(&mut self, table: &Table, range: TimeRange, seq: u64) {
        for rollup in self.by_name.values_mut().filter(|rollup| rollup.is_over(table)) {
            rollup.mark_range(range, seq);
        }
    }
}
