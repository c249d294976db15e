//! A rollup's stored states against its raw points, all of them, in bounded steps.
//!
//! Not here: comparing one range (`rollup`).

use query_lang::plan::Window;
use storage_format::point::{Time, TimeRange};

use crate::db::Db;
use crate::error::{Error, Kind, Result};
use crate::rollup::{Difference, Verify};

/// What a check of one rollup has found.
#[derive(Debug, Default)]
pub struct RollupCheck {
    /// A bucket of one group counts as one.
    pub states: u64,
    /// The first differences; there may be more.
    pub differences: Vec<Difference>,
    pub differing: u64,
}

/// Differences that are told one by one.
const DIFFERENCES_MAX: usize = 10;

impl Db {
    /// The clean part of what a rollup has computed, recomputed from raw points. `progress` gets the nanoseconds done and
    /// all of them.
    pub fn check_rollup(
        &self,
        database: &str,
        name: &str,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<RollupCheck> {
        let core = &*self.core;
        let gone = || {
            Error::rejected(
                Kind::NotFound,
                "unknown_rollup",
                format!("there is no rollup {name} in {database}"),
            )
        };
        let (table, steps) = {
            let live = core.live.read();
            let rollup = live.rollups.get(database, name).ok_or_else(gone)?;
            let Some(table) = core.registry.table(database, &rollup.info.table) else {
                return Ok(RollupCheck::default());
            };
            let buckets = (core.config.limits.refresh_states_max / table.series_count().max(1)).max(1);
            let width = rollup.info.window.width().saturating_mul(i64::try_from(buckets).unwrap_or(i64::MAX));
            let window = &rollup.info.window;
            let clean = rollup.clean();
            let steps: Vec<TimeRange> =
                clean.ranges().iter().flat_map(|range| pieces(*range, width, window)).collect();
            (table, steps)
        };
        let width = |range: &TimeRange| range.end.abs_diff(range.start);
        let all = steps.iter().map(width).fold(0, u64::saturating_add);
        let (mut found, mut done) = (RollupCheck::default(), 0u64);
        for step in steps {
            let guard = self.guard();
            let verify = {
                let live = core.live.read();
                let rollup = live.rollups.get(database, name).ok_or_else(gone)?;
                Verify::capture(&live.view_for(&guard), &live.rollups, rollup, &table, step)?
            };
            let (states, differences) = verify.run(&guard)?;
            found.states += states;
            found.differing += differences.len() as u64;
            let room = DIFFERENCES_MAX.saturating_sub(found.differences.len());
            found.differences.extend(differences.into_iter().take(room));
            done = done.saturating_add(width(&step));
            progress(done, all);
        }
        Ok(found)
    }
}

/// Of whole buckets, each at least so wide.
fn pieces(range: TimeRange, width: i64, window: &Window) -> impl Iterator<Item = TimeRange> {
    let mut start: Time = range.start;
    std::iter::from_fn(move || {
        let end = window.ceil(start.saturating_add(width)).min(range.end);
        let piece = TimeRange::new(start, end);
        start = end;
        (!piece.is_empty()).then_some(piece)
    })
}
