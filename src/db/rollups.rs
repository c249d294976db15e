//! Rollups as users have them: create, drop, alter, pause, resume, refresh, and what is said of them.
//!
//! To alter is to build: a rollup with the new definition is computed beside the old one, which answers until then, and takes
//! its place when nothing is missing from it, in one commit of the manifest.
//! Invariant: whatever is durable by a statement is so when it returns.
//! Not here: computing states (`rollup`), when that is done in the background (`maintain`, `jobs`).

use std::time::Duration;

use query_lang::plan::{ChangeRollup, CreateRollup, Plan, RollupChange};
use query_lang::time::format_time;
use query_lang::{Context, ast, plan};
use storage_format::manifest::BlockEntry;
use storage_format::point::{Time, TimeRange};

use crate::db::catalog::DatabaseCatalog;
use crate::db::inventory::{keep_asked, keep_text};
use crate::db::manifest::Edit;
use crate::db::{Core, Db, Live, RefreshScope};
use crate::error::{Error, Kind, Result};
use crate::guard::Guard;
use crate::query::{Answer, text_table};
use crate::rollup::{Due, Rollup};

/// What `show rollups` and `/api/rollups` say.
#[derive(Clone, Debug)]
pub struct RollupStatus {
    pub name: String,
    pub on: String,
    pub definition: String,
    pub state: RollupState,
    /// End of the newest computed bucket.
    pub computed_until: Option<Time>,
    pub computed: Vec<TimeRange>,
    /// Buckets that are over, with states, dirty or not.
    pub computed_buckets: u64,
    pub dirty_buckets: u64,
    /// Buckets that are over and have no states yet.
    pub missing_buckets: u64,
    /// While it computes.
    pub buckets_per_second: Option<f64>,
    /// Of its blocks.
    pub bytes: u64,
    pub rows: u64,
    /// States in memory that no block has yet.
    pub memory_rows: u64,
    /// How long its states are kept: a duration or `forever`.
    pub keep: String,
    /// How far its successor is, while an alteration is computed: buckets done, and all.
    pub rebuilt: Option<(u64, u64)>,
    pub last_error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollupState {
    /// All that is over is computed.
    Fresh,
    /// Some of it is yet to be computed; reads compute it from points.
    Computing,
    /// Nothing is computed in the background until `resume`.
    Paused,
    /// Altered: what it is going to be is computed beside it.
    Rebuilding,
    /// It cannot be read, and the last error says why.
    SetAside,
}

impl RollupState {
    pub fn name(self) -> &'static str {
        match self {
            RollupState::Fresh => "fresh",
            RollupState::Computing => "computing",
            RollupState::Paused => "paused",
            RollupState::Rebuilding => "rebuilding",
            RollupState::SetAside => "set aside",
        }
    }
}

impl RollupStatus {
    /// How long the rest will take at the pace so far.
    pub fn left(&self) -> Option<Duration> {
        let rest = (self.missing_buckets + self.dirty_buckets) as f64;
        let pace = self.buckets_per_second.filter(|pace| *pace > 0.0)?;
        Duration::try_from_secs_f64(rest / pace).ok()
    }

    /// Buckets that are computed and clean, and all that are over.
    pub fn done(&self) -> (u64, u64) {
        (
            self.computed_buckets.saturating_sub(self.dirty_buckets),
            self.computed_buckets + self.missing_buckets,
        )
    }
}

fn unknown(name: &str) -> Error {
    Error::rejected(Kind::NotFound, "unknown_rollup", format!("there is no rollup {name}"))
}

impl Db {
    pub(super) fn create_rollup(&self, create: CreateRollup, database: &str) -> Result<Answer> {
        let name = create.rollup.name.clone();
        let mut rollup = Rollup::new(database, create.rollup)?;
        rollup.keep = keep_asked(create.keep);
        if let Some(table) = self.core.registry.table(database, &rollup.info.table) {
            // What waits is not for this one.
            self.fold_table(&table)?;
        }
        // Not in the middle of a fold, which knows the rollups that there are.
        let _flushing = self.core.flushing.lock();
        {
            let mut live = self.core.live.write();
            if live.rollups.get(database, &name).is_some() || live.rollups.aside(database, &name).is_some() {
                return Err(Error::rejected(
                    Kind::Conflict,
                    "name",
                    format!("there is a rollup {name} already; drop it first, or choose another name"),
                ));
            }
            // What it was planned on may have been dropped since.
            if let Some(parent) = &rollup.info.parent
                && live.rollups.get(database, parent).is_none()
            {
                return Err(Error::rejected(
                    Kind::NotFound,
                    "unknown_rollup",
                    format!("the rollup {parent} was dropped in the meantime; define {name} on its table"),
                ));
            }
            if let Some(misfit) = live.rollups.misfit(database, &name, &rollup.info) {
                return Err(Error::rejected(Kind::Conflict, "rollup", misfit));
            }
            // Points that have expired do not come back by a rollup that is made after it.
            if let Some(table) = self.core.registry.table(database, &rollup.info.table) {
                let parent = rollup.info.parent.clone();
                let parent = parent.and_then(|parent| live.rollups.get(database, &parent));
                rollup.begin(live.gone_before(&self.core, &table), parent);
            }
            live.rollups.insert(rollup);
        }
        if let Err(error) = self.core.commit(Edit::default()) {
            self.core.live.write().rollups.remove(database, &name);
            return Err(error);
        }
        Ok(text_table(&["created"], &[vec![name]]))
    }

    pub(super) fn change_rollup(
        &self,
        change: ChangeRollup,
        database: &str,
        guard: &Guard,
    ) -> Result<Answer> {
        let name = change.name;
        let (verb, what) = match change.change {
            RollupChange::Rebuild(info) => {
                if let Some(table) = self.core.registry.table(database, &info.table) {
                    self.fold_table(&table)?;
                }
                self.core.rebuild(database, &name, *info)?;
                ("altered", name)
            }
            RollupChange::Pause => {
                self.core.set_paused(database, &name, true)?;
                ("paused", name)
            }
            RollupChange::Resume => {
                self.core.set_paused(database, &name, false)?;
                ("resumed", name)
            }
            RollupChange::Refresh(within) => {
                let rollup = Some((database.to_string(), name));
                let scope = RefreshScope { rollup, within: Some(within) };
                let buckets = self.refresh_while(&scope, || guard.check().map(|()| true))?;
                return Ok(text_table(&["buckets"], &[vec![buckets.to_string()]]));
            }
        };
        Ok(text_table(&[verb], &[vec![what]]))
    }

    pub(super) fn drop_rollup(&self, name: &str, database: &str) -> Result<Answer> {
        // After a flush or a compaction of its blocks, not in the middle of one.
        let _compaction = self.core.compaction.lock();
        let _flushing = self.core.flushing.lock();
        let (mut gone, aside, removed) = {
            let mut live = self.core.live.write();
            // Made since the statement was planned, while this waited for the lock.
            let child = live.rollups.iter().find(|other| {
                *other.database == *database
                    && other.info.parent.as_deref() == Some(name)
                    && other.replaces.as_deref() != Some(name)
            });
            if let Some(child) = child {
                return Err(Error::rejected(
                    Kind::Conflict,
                    "rollup",
                    format!("the rollup {} is defined on {name}; drop that one first", child.info.name),
                ));
            }
            let mut gone: Vec<Rollup> = live.rollups.remove(database, name).into_iter().collect();
            if let Some(successor) = live.rollups.successor_of(database, name) {
                let successor = successor.info.name.clone();
                gone.extend(live.rollups.remove(database, &successor));
            }
            let aside = live.rollups.take_aside(database, name);
            let keys = gone.iter().map(|rollup| rollup.key.clone());
            let keys: Vec<_> = keys.chain(aside.iter().map(|aside| aside.key())).collect();
            let removed: Vec<_> = keys.iter().flat_map(|key| live.blocks.of(key).to_vec()).collect();
            (gone, aside, removed)
        };
        if gone.is_empty() && aside.is_none() {
            return Err(unknown(name));
        }
        let edit = Edit { removed: removed.iter().map(|file| file.entry.id).collect(), ..Edit::default() };
        if let Err(error) = self.core.commit(edit) {
            let mut live = self.core.live.write();
            let seq = live.seq;
            for mut rollup in gone.drain(..) {
                // It has not seen the writes since.
                rollup.mark_range(TimeRange::ALL, seq);
                if live.rollups.get(database, &rollup.info.name).is_none() {
                    live.rollups.insert(rollup);
                }
            }
            live.rollups.set_aside.extend(aside);
            return Err(error);
        }
        removed.iter().for_each(|file| file.retire());
        Ok(text_table(&["dropped"], &[vec![name.to_string()]]))
    }

    pub(super) fn show_rollups(&self, database: &str) -> Answer {
        let time = |time: Option<Time>| time.map(format_time).unwrap_or_default();
        let row = |status: RollupStatus| {
            let (done, all) = status.done();
            let state = match status.rebuilt {
                Some((done, all)) => format!("{} {done}/{all}", status.state.name()),
                None => status.state.name().to_string(),
            };
            vec![
                status.name,
                status.on,
                state,
                time(status.computed_until),
                format!("{done}/{all}"),
                status.dirty_buckets.to_string(),
                status.missing_buckets.to_string(),
                status.rows.to_string(),
                status.memory_rows.to_string(),
                status.bytes.to_string(),
                status.keep,
                status.last_error.unwrap_or_default(),
                status.definition,
            ]
        };
        let rows: Vec<Vec<String>> = self.rollups(database).into_iter().map(row).collect();
        text_table(
            &[
                "rollup",
                "on",
                "state",
                "computed_until",
                "buckets",
                "dirty",
                "missing",
                "rows",
                "memory_rows",
                "bytes",
                "keep",
                "last_error",
                "definition",
            ],
            &rows,
        )
    }

    /// The rollups of a database, by name; those that were set aside at the end.
    pub fn rollups(&self, database: &str) -> Vec<RollupStatus> {
        let live = self.core.live.read();
        let shown = live.rollups.shown().filter(|rollup| *rollup.database == *database);
        let mut all: Vec<RollupStatus> =
            shown.map(|rollup| live.rollup_status(&self.core, database, rollup)).collect();
        let aside = live.rollups.set_aside.iter().filter(|aside| aside.entry.database == database);
        all.extend(aside.map(|aside| {
            let files = live.blocks.of(&aside.key());
            let sum = |of: fn(&BlockEntry) -> u64| files.iter().map(|file| of(&file.entry)).sum();
            RollupStatus {
                name: aside.entry.name.clone(),
                on: String::new(),
                definition: aside.entry.definition.clone(),
                state: RollupState::SetAside,
                computed_until: None,
                computed: Vec::new(),
                computed_buckets: 0,
                dirty_buckets: 0,
                missing_buckets: 0,
                buckets_per_second: None,
                bytes: sum(|entry| entry.bytes),
                rows: sum(|entry| entry.rows),
                memory_rows: 0,
                keep: keep_text(aside.entry.keep),
                rebuilt: None,
                last_error: Some(aside.error.clone()),
            }
        }));
        all
    }
}

impl Live {
    fn rollup_status(&self, core: &Core, database: &str, rollup: &Rollup) -> RollupStatus {
        let missing = rollup.missing_buckets(&self.due(core, rollup));
        let dirty = rollup.dirty_count();
        let successor = self.rollups.successor_of(database, &rollup.info.name);
        let rebuilt = successor.map(|successor| {
            let missing = successor.missing_buckets(&self.due(core, successor));
            let computed = successor.computed_buckets();
            (computed.saturating_sub(successor.dirty_count()), computed + missing)
        });
        let files = self.blocks.of(&rollup.key);
        let sum = |of: fn(&BlockEntry) -> u64| files.iter().map(|file| of(&file.entry)).sum();
        RollupStatus {
            name: rollup.info.name.clone(),
            on: rollup.info.parent.clone().unwrap_or_else(|| rollup.info.table.clone()),
            definition: rollup.info.follows.clone().unwrap_or_else(|| rollup.info.definition.clone()),
            state: match () {
                () if rollup.paused => RollupState::Paused,
                () if rebuilt.is_some() => RollupState::Rebuilding,
                () if missing + dirty > 0 => RollupState::Computing,
                () => RollupState::Fresh,
            },
            computed_until: rollup.computed().ranges().last().map(|range| range.end),
            computed: rollup.computed().ranges().to_vec(),
            computed_buckets: rollup.computed_buckets(),
            dirty_buckets: dirty,
            missing_buckets: missing,
            buckets_per_second: rollup.pace.buckets_per_second(),
            bytes: sum(|entry| entry.bytes),
            rows: sum(|entry| entry.rows),
            memory_rows: rollup.unstored_buckets() as u64,
            keep: keep_text(rollup.keep),
            rebuilt,
            last_error: successor
                .and_then(|successor| successor.last_error.clone())
                .or_else(|| rollup.last_error.clone()),
        }
    }

    /// All that a rollup has to compute by now.
    fn due(&self, core: &Core, rollup: &Rollup) -> Due {
        let table = core.registry.table(&rollup.database, &rollup.info.table);
        let data = table.map(|table| self.data_of(&table, rollup)).unwrap_or_default();
        Due { now: core.clock.now(), data, within: TimeRange::ALL, states_max: 0 }
    }
}

impl Core {
    fn set_paused(&self, database: &str, name: &str, paused: bool) -> Result<()> {
        let exchange = |paused: bool| -> Result<bool> {
            let mut live = self.live.write();
            let rollup = live.rollups.get_mut(database, name).ok_or_else(|| unknown(name))?;
            Ok(std::mem::replace(&mut rollup.paused, paused))
        };
        let before = exchange(paused)?;
        // If it was dropped since, there is nothing to put back.
        self.commit(Edit::default()).inspect_err(|_| drop(exchange(before)))
    }

    /// One defined with `*` takes the fields that its table has got since. What keeps it from that is its last error.
    pub(super) fn grow(&self, database: &str, name: &str) -> Result<()> {
        let (catalog, known) = {
            let live = self.live.read();
            let Some(rollup) = live.rollups.get(database, name) else { return Ok(()) };
            let waits = live.rollups.successor_of(database, name).is_some() || rollup.replaces.is_some();
            if rollup.info.follows.is_none() || waits {
                return Ok(());
            }
            let catalog = DatabaseCatalog::new(&self.registry, &live.rollups, &live.blocks, database);
            (catalog, rollup.info.definition.clone())
        };
        // Nothing is added but what the definition says of today's table.
        let change =
            ast::ChangeRollup { name: ast::Name::new(name), change: ast::RollupChange::Add(Vec::new()) };
        let statement = ast::Statement {
            kind: ast::StatementKind::ChangeRollup(change),
            text: ast::SourceText::default(),
        };
        let context = Context { now: 0, range: None, rollups: false, lets: &[] };
        let outcome = match plan(&statement, &catalog, &context) {
            Ok(Plan::ChangeRollup(ChangeRollup { change: RollupChange::Rebuild(info), .. })) => {
                match info.definition == known {
                    true => return Ok(()),
                    false => self.rebuild(database, name, *info),
                }
            }
            Ok(other) => unreachable!("bug: an alteration is planned as {other:?}"),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = &outcome
            && let Some(rollup) = self.live.write().rollups.get_mut(database, name)
        {
            rollup.last_error = Some(format!("it cannot take new fields: {error}"));
        }
        match outcome {
            // Its other fields go on.
            Err(Error::Rejected(_)) => Ok(()),
            outcome => outcome,
        }
    }

    /// Begins to build what a rollup is going to be.
    fn rebuild(&self, database: &str, name: &str, info: query_lang::catalog::RollupInfo) -> Result<()> {
        let _flushing = self.flushing.lock();
        let building = {
            let mut live = self.live.write();
            let old = live.rollups.get(database, name).ok_or_else(|| unknown(name))?;
            if live.rollups.successor_of(database, name).is_some() {
                return Err(Error::rejected(
                    Kind::Conflict,
                    "rollup",
                    format!(
                        "the rollup {name} is being altered already; wait until `show rollups` says that it is no longer rebuilding"
                    ),
                ));
            }
            if let Some(misfit) = live.rollups.misfit(database, name, &info) {
                return Err(Error::rejected(Kind::Conflict, "rollup", misfit));
            }
            let sealed = TimeRange::new(Time::MIN, old.sealed_until());
            let table = self.registry.table(database, &old.info.table);
            let late = table.and_then(|table| live.late.times(table.id));
            let waits = late.is_some_and(|times| times.end > old.begins());
            if old.computed().overlaps(sealed) || waits {
                return Err(Error::rejected(
                    Kind::Conflict,
                    "sealed",
                    format!(
                        "the rollup {name} keeps buckets before {} whose points are no longer kept, so they cannot be computed \
                         again; create another rollup beside it",
                        format_time(late.map_or(Time::MIN, |times| times.end).max(old.sealed_until()))
                    ),
                ));
            }
            let taken = |name: &String| {
                live.rollups.get(database, name).is_some()
                    || live.rollups.iter().any(|rollup| *rollup.key.table == **name)
                    || self.registry.table(database, name).is_some()
            };
            let building = (2..).map(|number| format!("{name}~{number}")).find(|name| !taken(name));
            let building = building.expect("numbers do not end");
            let mut rollup = Rollup::beside(database, info, building.clone())?;
            rollup.keep = old.keep;
            let parent = rollup.info.parent.clone();
            let parent = parent.and_then(|parent| live.rollups.get(database, &parent));
            rollup.begin(old.sealed_until(), parent);
            live.rollups.insert(rollup);
            building
        };
        self.commit(Edit::default()).inspect_err(|_| {
            self.live.write().rollups.remove(database, &building);
        })
    }

    /// Puts a rollup that is computed as a whole in the place of the one that it was built for.
    pub(super) fn succeed(&self, database: &str, building: &str) -> Result<()> {
        let is_ready = |live: &Live| {
            let rollup = live.rollups.get(database, building).filter(|rollup| rollup.replaces.is_some());
            rollup.is_some_and(|rollup| rollup.is_done(&live.due(self, rollup)))
        };
        // Before waiting for a merge to end.
        if !is_ready(&self.live.read()) {
            return Ok(());
        }
        let _compaction = self.compaction.lock();
        let _flushing = self.flushing.lock();
        let (old, files, left_at) = {
            let mut live = self.live.write();
            if !is_ready(&live) {
                return Ok(());
            }
            let Some(rollup) = live.rollups.get(database, building) else { return Ok(()) };
            let Some(replaces) = rollup.replaces.clone() else { return Ok(()) };
            let Some(mut new) = live.rollups.remove(database, building) else { return Ok(()) };
            let Some(old) = live.rollups.remove(database, &replaces) else { return Ok(()) };
            new.succeed(&old);
            live.rollups.insert(new);
            let files = live.blocks.of(&old.key).to_vec();
            (old, files, live.seq)
        };
        let name = old.info.name.clone();
        let edit = Edit { removed: files.iter().map(|file| file.entry.id).collect(), ..Edit::default() };
        if let Err(error) = self.commit(edit) {
            let mut live = self.live.write();
            let (mut old, seq) = (old, live.seq);
            // It has not seen the writes since. Without any it is as it was, or a disk that fails again and again would have
            // all of it computed each time.
            if seq != left_at {
                old.mark_range(TimeRange::ALL, seq);
            }
            if let Some(mut new) = live.rollups.remove(database, &name) {
                new.step_back();
                live.rollups.insert(new);
            }
            live.rollups.insert(old);
            return Err(error);
        }
        files.iter().for_each(|file| file.retire());
        tracing::info!(rollup = name, database, "altered: what was built beside it has taken its place");
        Ok(())
    }
}
