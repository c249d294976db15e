//! The newest buckets first: `| sort time desc | limit N` reads no further back than its rows need.
//!
//! Invariant: a bucket says the same however little is read beside it, so whatever the shorter read gives, the whole one
//! gives too; and it is taken only if it has enough rows, which are then the newest of all.
//! Not here: reading (`statements`), sorting and cutting off (`query`).

use query_lang::plan::{Aggregate, Read, Shape, Step, Window};
use storage_format::point::{Time, TimeRange, floor_time};

use crate::blocks::TableKey;
use crate::db::Live;
use crate::series::Table;

/// How much further back the next try looks. Tries that were in vain then cost a seventh of the last one together.
const FURTHER: i64 = 8;

/// Ranges that may do: each reaches further back than the one before, the last one is the whole range.
pub struct Tail {
    /// Rows that are enough.
    pub rows: usize,
    range: TimeRange,
    step: i64,
    origin: Time,
    /// About where the newest points are.
    newest: Time,
    width: i64,
}

impl Tail {
    /// None where the whole range has to be read.
    pub fn of(read: &Read, steps: &[Step], live: &Live, table: &Table) -> Option<Tail> {
        let Shape::Aggregate(aggregate) = &read.shape else { return None };
        let Window::Every { step, origin } = aggregate.window else { return None };
        let [Step::Sort(keys), Step::Limit { count, offset }, ..] = steps else { return None };
        let newest_first = keys.first().is_some_and(|key| key.column == "time" && key.descending);
        if !newest_first || read.limit.is_some() || !is_by_itself(aggregate) {
            return None;
        }
        let rows = count.checked_add(*offset)?;
        // The newest bucket may be cut short by the end of the range.
        let width = i64::try_from(rows).ok()?.checked_add(1)?.checked_mul(step)?;
        let newest = newest_time(live, table)?.min(read.range.end);
        Some(Tail { rows: usize::try_from(rows).ok()?, range: read.range, step, origin, newest, width })
    }
}

impl Iterator for Tail {
    type Item = TimeRange;

    fn next(&mut self) -> Option<TimeRange> {
        if self.range.is_empty() {
            return None;
        }
        let start = floor_time(self.newest.saturating_sub(self.width), self.step, self.origin);
        let further = self.width.checked_mul(FURTHER);
        self.width = further.unwrap_or(self.width);
        if start > self.range.start && further.is_some() {
            return Some(TimeRange::new(start, self.range.end));
        }
        let whole = self.range;
        self.range = TimeRange::new(whole.end, whole.end);
        Some(whole)
    }
}

/// Whether a bucket is made of its own points alone: nothing reaches in from those before.
fn is_by_itself(aggregate: &Aggregate) -> bool {
    aggregate.hop.is_none() && !aggregate.states.iter().any(|state| state.kind.is_of_one_series())
}

/// No point of the table is this late, as far as can be told without looking at series. None if there are no points.
fn newest_time(live: &Live, table: &Table) -> Option<Time> {
    let view = live.view();
    let blocks = view.blocks.of(&TableKey::points(table)).iter().map(|file| file.time().end);
    blocks.chain(view.head.end_of(table.id)).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_reach_further_back_until_all_is_read() {
        let tail =
            Tail { rows: 2, range: TimeRange::new(5, 1_000), step: 10, origin: 0, newest: 997, width: 30 };
        let starts: Vec<Time> = tail.map(|range| range.start).collect();
        assert_eq!(starts, [960, 750, 5]);
        let all = Tail { rows: 1, range: TimeRange::ALL, step: 10, origin: 3, newest: 0, width: 20 };
        let ranges: Vec<TimeRange> = all.collect();
        assert_eq!(ranges.last(), Some(&TimeRange::ALL));
        assert!(ranges.len() < 25 && ranges.iter().all(|range| range.end == TimeRange::ALL.end));
        let short =
            Tail { rows: 9, range: TimeRange::new(0, 10), step: 10, origin: 0, newest: 10, width: 100 };
        assert_eq!(short.collect::<Vec<_>>(), [TimeRange::new(0, 10)]);
    }
}
