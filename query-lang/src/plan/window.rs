//! Buckets along the time axis.
//!
//! Invariant: of windows that lie on the time axis each time lies in exactly one bucket, and the edges ascend. Whether a
//! bucket is of fixed length or of days and months of a zone, rollups and queries ask the same questions of it.
//! Not here: the calendar of a zone (`calendar`).

use std::sync::Arc;

use storage_format::point::{Time, TimeRange, ceil_time, floor_time};
use storage_format::ranges::RangeSet;

use crate::calendar::Calendar;

/// A bucket at each step: the one at `t` covers `[t + step - over, t + step)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    pub step: i64,
    pub origin: Time,
    pub over: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Window {
    /// No `every`: one bucket, the whole range. Its rows carry no time.
    WholeRange,
    /// `every STEP`: buckets of `step` nanoseconds counted from `origin`.
    Every { step: i64, origin: Time },
    /// `every 1mo`, `every 1d ... in "Europe/Berlin"`.
    Calendar(Calendar),
    /// `session GAP`: buckets end where no point follows for longer than the gap.
    Session { gap: i64 },
    /// Between these times, which ascend; also before the first and after the last. No statement says so: PromQL cuts the
    /// time axis where its windows begin and end.
    Edges(Arc<[Time]>),
}

impl Window {
    /// The start of the bucket that holds a time. Of windows that lie on the time axis.
    pub fn start_of(&self, time: Time) -> Time {
        match self {
            Window::Every { step, origin } => floor_time(time, *step, *origin),
            Window::Calendar(calendar) => calendar.start_of(time),
            Window::Edges(edges) => match edges.partition_point(|edge| *edge <= time) {
                0 => Time::MIN,
                after => edges[after - 1],
            },
            Window::WholeRange | Window::Session { .. } => {
                unreachable!("bug: {self:?} has no place of its own")
            }
        }
    }

    /// The start of the bucket after the one that holds a time.
    pub fn end_of(&self, time: Time) -> Time {
        match self {
            Window::Every { step, origin } => match floor_time(time, *step, *origin) {
                // The first slot of all is cut short by the beginning of time.
                Time::MIN => ceil_time(time.saturating_add(1), *step, *origin),
                start => start.saturating_add(*step),
            },
            Window::Calendar(calendar) => calendar.end_of(time),
            Window::Edges(edges) => {
                edges.get(edges.partition_point(|edge| *edge <= time)).copied().unwrap_or(Time::MAX)
            }
            Window::WholeRange | Window::Session { .. } => {
                unreachable!("bug: {self:?} has no place of its own")
            }
        }
    }

    /// The first edge at or after a time.
    pub fn ceil(&self, time: Time) -> Time {
        match self {
            Window::Every { step, origin } => ceil_time(time, *step, *origin),
            _ if self.start_of(time) == time => time,
            _ => self.end_of(time),
        }
    }

    /// The bucket that holds a time.
    pub fn bucket(&self, time: Time) -> TimeRange {
        TimeRange::new(self.start_of(time), self.end_of(time))
    }

    /// The whole buckets that a range touches.
    pub fn outward(&self, range: TimeRange) -> TimeRange {
        TimeRange::new(self.start_of(range.start), self.end_of(range.end.saturating_sub(1)))
    }

    /// Only the whole buckets of these ranges.
    pub fn whole(&self, ranges: &RangeSet) -> RangeSet {
        let inner = |range: &TimeRange| TimeRange::new(self.ceil(range.start), self.start_of(range.end));
        ranges.ranges().iter().map(inner).filter(|range| !range.is_empty()).collect()
    }

    /// How many buckets these ranges of whole buckets have.
    pub fn count(&self, ranges: &RangeSet) -> u64 {
        let of = |range: &TimeRange| match self {
            Window::Calendar(calendar) => calendar.buckets_in(range.start, range.end),
            _ => ((i128::from(range.end) - i128::from(range.start)) / i128::from(self.width())) as u64,
        };
        ranges.ranges().iter().map(of).sum()
    }

    /// About as many nanoseconds as a bucket has; exact where all are alike.
    pub fn width(&self) -> i64 {
        match self {
            Window::Every { step, .. } => *step,
            Window::Calendar(calendar) => calendar.width(),
            Window::WholeRange | Window::Session { .. } | Window::Edges(_) => {
                unreachable!("bug: the buckets of {self:?} have no width in common")
            }
        }
    }

    /// Whether rows carry the time of their bucket.
    pub fn has_time(&self) -> bool {
        *self != Window::WholeRange
    }

    /// Whether buckets lie on the time axis, wherever the points are.
    pub fn is_on_axis(&self) -> bool {
        matches!(self, Window::Every { .. } | Window::Calendar(_))
    }

    /// Whether each bucket lies within one of `coarser`, or why not: a clause. Of days and months some may not; those
    /// are for whoever reads to leave out ([`Window::straddling`]).
    pub fn divides(&self, coarser: &Window) -> Result<(), String> {
        let (its, ours) = (self.text(), coarser.text());
        match (self, coarser) {
            // Which of them lie between two edges is for whoever reads to see.
            (_, Window::WholeRange | Window::Edges(_)) => Ok(()),
            (_, Window::Session { .. }) => Err("sessions depend on the time of each point".to_owned()),
            (Window::Every { step, origin }, Window::Every { step: wide, origin: from }) => {
                if wide % step != 0 {
                    return Err(format!("its buckets of {its} do not divide {ours}"));
                }
                let shift = i128::from(*from) - i128::from(*origin);
                match shift % i128::from(*step) {
                    0 => Ok(()),
                    _ => Err(format!("its buckets of {its} do not start where those of {ours} do")),
                }
            }
            (Window::Calendar(fine), Window::Calendar(wide)) => match fine.divides(wide) {
                true => Ok(()),
                false => Err(format!("its buckets of {its} do not divide {ours}")),
            },
            // Enough of them have to lie within one.
            (Window::Every { step, .. }, Window::Calendar(wide)) if *step <= wide.width() / 2 => Ok(()),
            _ => Err(format!("its buckets of {its} do not divide {ours}")),
        }
    }

    /// Whether buckets of `coarser` could not be made of these alone: an edge of theirs may part one.
    pub fn straddles(&self, coarser: &Window) -> bool {
        let parted = matches!(self, Window::Every { .. }) && matches!(coarser, Window::Calendar(_));
        self.divides(coarser).is_err() || parted && !self.divides_hours()
    }

    /// Whether the edges of all zones of today are edges of these.
    fn divides_hours(&self) -> bool {
        matches!(self, Window::Every { step, origin } if ZONE_UNIT % step == 0 && origin % step == 0)
    }

    /// Those buckets of `ranges`, which are of whole ones, that an edge of `coarser` parts. None if that would take too
    /// long to say.
    pub fn straddling(&self, coarser: &Window, ranges: &RangeSet) -> Option<RangeSet> {
        if let Window::Edges(edges) = coarser {
            let parts = |edge: &&Time| self.start_of(**edge) != **edge;
            return Some(edges.iter().filter(parts).map(|edge| self.bucket(*edge)).collect());
        }
        let (Window::Every { .. }, Window::Calendar(calendar)) = (self, coarser) else {
            return Some(RangeSet::default());
        };
        let mut parted = RangeSet::default();
        let mut looked = 0;
        for range in ranges.ranges() {
            let mut edge = calendar.end_of(range.start);
            while edge < range.end {
                looked += 1;
                if looked > EDGES_MAX {
                    return None;
                }
                if self.start_of(edge) != edge {
                    parted.insert(self.bucket(edge));
                }
                edge = calendar.end_of(edge);
            }
        }
        Some(parted)
    }

    /// As `every` says it.
    pub fn text(&self) -> String {
        match self {
            Window::WholeRange => "the whole range".to_owned(),
            Window::Every { step, .. } => crate::time::format_duration(*step),
            Window::Calendar(calendar) => format!("{} in {}", calendar.text(), calendar.zone.name()),
            Window::Session { gap } => format!("sessions of {}", crate::time::format_duration(*gap)),
            Window::Edges(_) => "the windows".to_owned(),
        }
    }
}

/// Zones differ from UTC by whole quarters of hours.
const ZONE_UNIT: i64 = 15 * crate::time::MINUTE;

/// Edges of days and months that are looked at one by one: 54 years of days, some ms.
const EDGES_MAX: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::{Unit, Zone};
    use crate::time::{DAY, HOUR, MINUTE};

    fn days(zone: &str) -> Window {
        let zone = Zone::named(zone).unwrap();
        Window::Calendar(Calendar { unit: Unit::Day, count: 1, zone, offset: 0 })
    }

    #[test]
    fn hours_straddle_the_days_of_a_zone_with_half_hours_only() {
        let hours = Window::Every { step: HOUR, origin: 0 };
        let year: RangeSet = TimeRange::new(20_089 * DAY, 20_454 * DAY).into();
        assert!(hours.straddling(&days("Europe/Berlin"), &year).unwrap().is_empty());
        let parted = hours.straddling(&days("Asia/Kolkata"), &year).unwrap();
        assert_eq!(hours.count(&parted), 365);
        let minutes = Window::Every { step: 30 * MINUTE, origin: 0 };
        assert!(minutes.straddling(&days("Asia/Kolkata"), &year).unwrap().is_empty());
    }

    #[test]
    fn edges_part_the_buckets_that_they_lie_in() {
        let edges = Window::Edges([HOUR, HOUR + 1, 3 * HOUR].into());
        assert_eq!(edges.bucket(0), TimeRange::new(Time::MIN, HOUR));
        assert_eq!(edges.bucket(HOUR), TimeRange::new(HOUR, HOUR + 1));
        assert_eq!(edges.bucket(2 * HOUR), TimeRange::new(HOUR + 1, 3 * HOUR));
        assert_eq!(edges.bucket(3 * HOUR), TimeRange::new(3 * HOUR, Time::MAX));
        let hours = Window::Every { step: HOUR, origin: 0 };
        assert!(hours.divides(&edges).is_ok());
        let parted = hours.straddling(&edges, &RangeSet::default());
        assert_eq!(parted.and_then(|parted| parted.hull()), Some(TimeRange::new(HOUR, 2 * HOUR)));
    }

    #[test]
    fn whole_days_and_how_many() {
        let days = days("Europe/Berlin");
        // 2026-03-28T00:00Z and three days; the clocks go forward on the second.
        let some = TimeRange::new(20_540 * DAY, 20_543 * DAY);
        let whole = days.whole(&some.into());
        assert_eq!(whole.hull(), Some(TimeRange::new(20_540 * DAY + 23 * HOUR, 20_542 * DAY + 22 * HOUR)));
        assert_eq!(days.count(&whole), 2);
        assert_eq!(days.count(&days.outward(some).into()), 4);
    }
}
