//! What is enough where only the last value of each column is wanted: the newest row of a series, if it has them all.
//!
//! Invariant: a source is left out only if each of its rows is older than one that has a value in every column, and that
//! no delete may have touched. Everything else is read as ever.
//! Not here: the newest rows in memory, which were taken under the lock (`head`).

use arrow::array::Array;
use storage_format::point::Time;

use crate::error::Result;
use crate::guard::Guard;
use crate::rows::{Rows, Span};
use crate::scan::Scan;
use crate::scan::SeriesSources;
use crate::scan::memory::Place;
use crate::scan::read::buffer_bytes;

/// The newest rows of a block's series are read together and kept; where less than one in so many of them is asked for,
/// reading these alone is less work.
const SHARE: usize = 4;

impl Scan {
    /// Leaves out what cannot matter.
    pub(super) fn keep_newest(&mut self, guard: &Guard) -> Result<()> {
        let mut series = std::mem::take(&mut self.series);
        let mut asked = vec![0; self.blocks.len()];
        for sources in series.iter_mut().filter(|sources| !self.is_deleted_from(sources)) {
            match self.newest_in_memory(sources) {
                Some(newest) => sources.blocks.retain(|(block, rows)| {
                    let block = &self.blocks[*block as usize].open;
                    block.index().time(block.index().series_at(rows.start)).end > newest
                }),
                None => {
                    sources.newest = self.newest_in_blocks(sources);
                    sources.newest.iter().for_each(|(block, _)| asked[*block as usize] += 1);
                }
            }
        }
        for (block, asked) in self.blocks.iter_mut().zip(asked) {
            let fields: Vec<&str> = self.columns.iter().map(String::as_str).collect();
            if asked > 0 {
                let is_worth_it = asked * SHARE >= block.open.series_count();
                block.newest = block.file.newest(&block.open, &fields, is_worth_it, &|| guard.check())?;
                guard.reserve(block.newest.as_ref().map_or(0, buffer_bytes))?;
            }
        }
        for sources in series.iter_mut() {
            let Some((block, row)) = sources.newest else { continue };
            let rows = self.blocks[block as usize].newest.as_ref();
            match rows.is_some_and(|rows| is_whole(rows, row as usize)) {
                true => sources.blocks.clear(),
                false => sources.newest = None,
            }
        }
        self.series = series;
        Ok(())
    }

    /// The time of the newest row in memory, if it is whole and nothing else is there.
    fn newest_in_memory(&self, sources: &SeriesSources) -> Option<Time> {
        let time = |place: &Place| Some(self.memory.newest(*place)?.times()[0]);
        let times: Option<Vec<Time>> = sources.memory.iter().map(time).collect();
        times?.into_iter().max()
    }

    /// The block whose last row of the series is newer than every other row, and the number of the series there.
    fn newest_in_blocks(&self, sources: &SeriesSources) -> Option<(u32, u32)> {
        if !sources.memory.is_empty() {
            return None;
        }
        let mut newest: Option<(Time, (u32, u32))> = None;
        let mut is_tie = false;
        for (block, rows) in &sources.blocks {
            let index = self.blocks[*block as usize].open.index();
            let series = index.series_at(rows.start);
            let last = index.time(series).end - 1;
            let place = (*block, series);
            match newest {
                // Of one block in pieces.
                Some((_, known)) if known == place => {}
                Some((time, _)) if last < time => {}
                Some((time, _)) if last == time => is_tie = true,
                _ => (newest, is_tie) = (Some((last, place)), false),
            }
        }
        let (time, place) = newest?;
        (!is_tie && self.ranges.contains(time)).then_some(place)
    }

    /// The rows that are known to be enough.
    pub(super) fn newest_rows<'a>(&'a self, sources: &'a SeriesSources) -> impl Iterator<Item = Span<'a>> {
        let of_block = sources.newest.map(|(block, row)| {
            let of = self.blocks[block as usize].newest.as_ref().expect("bug: newest rows were not read");
            Span { of, rows: row as usize..row as usize + 1 }
        });
        of_block.into_iter().chain(sources.memory.iter().filter_map(|place| self.memory.newest(*place)))
    }
}

fn is_whole(rows: &Rows, row: usize) -> bool {
    rows.columns.iter().all(|column| column.as_ref().is_some_and(|column| column.is_valid(row)))
}
