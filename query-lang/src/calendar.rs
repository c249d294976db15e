//! Time zones, and buckets of days, months and years as people in a zone have them.
//!
//! Invariant: the starts of a calendar's buckets ascend, each time lies in exactly one bucket, and a bucket is empty only
//! where a zone skipped a whole day. The zone data are part of the program, so that the same statement has the same
//! buckets on every machine.
//! Not here: buckets of a fixed length (see `plan::Window`).

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use storage_format::point::Time;

use crate::time::{DAY, format_duration, format_months};

/// An IANA time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// Buckets of some days or some months of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    pub unit: Unit,
    /// At least one.
    pub count: u32,
    pub zone: Zone,
    /// Nanoseconds from midnight to where buckets begin.
    pub offset: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Day,
    Month,
}

impl Zone {
    pub fn utc() -> Zone {
        Zone(TimeZone::UTC)
    }

    /// None if there is no such zone.
    pub fn named(name: &str) -> Option<Zone> {
        TimeZone::get(name).ok().map(Zone)
    }

    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// When the clocks of the zone show what UTC's show at `civil`. Where they skip it, as much later as they skip;
    /// where they show it twice, the first time. None if it is out of range.
    pub fn instant(&self, civil: Time) -> Option<Time> {
        let shown = TimeZone::UTC.to_datetime(timestamp(civil));
        self.at(shown)
    }

    /// What the clocks show, as UTC's clocks would show it then.
    pub fn civil(&self, time: Time) -> Option<Time> {
        nanoseconds(TimeZone::UTC.to_timestamp(self.0.to_datetime(timestamp(time))).ok()?)
    }

    fn at(&self, shown: DateTime) -> Option<Time> {
        nanoseconds(self.0.to_ambiguous_timestamp(shown).compatible().ok()?)
    }

    fn date(&self, time: Time) -> Date {
        self.0.to_datetime(timestamp(time)).date()
    }
}

impl Calendar {
    /// The start of the bucket that holds a time. The first bucket of all starts with time.
    pub fn start_of(&self, time: Time) -> Time {
        let Some(shifted) = time.checked_sub(self.offset) else { return Time::MIN };
        let number = self.number(self.zone.date(shifted));
        // A midnight that the zone skips lies behind times of the day before.
        [number, number - 1]
            .into_iter()
            .map(|number| self.start(number))
            .find(|start| *start <= time)
            .unwrap_or(Time::MIN)
    }

    /// The start of the bucket after the one that holds a time. The last bucket of all ends with time.
    pub fn end_of(&self, time: Time) -> Time {
        let Some(shifted) = time.checked_sub(self.offset) else {
            return self.start(self.number(self.zone.date(Time::MIN)) + 1);
        };
        let number = self.number(self.zone.date(shifted));
        [number, number + 1, number + 2]
            .into_iter()
            .map(|number| self.start(number))
            .find(|start| *start > time)
            .unwrap_or(Time::MAX)
    }

    /// How many buckets lie between two edges.
    pub fn buckets_in(&self, start: Time, end: Time) -> u64 {
        let number = |edge: Time| {
            let shifted = edge.saturating_sub(self.offset);
            self.number(self.zone.date(shifted))
        };
        number(end).abs_diff(number(start))
    }

    /// About as many nanoseconds as a bucket has.
    pub fn width(&self) -> i64 {
        let unit = match self.unit {
            Unit::Day => DAY,
            Unit::Month => 30 * DAY,
        };
        unit.saturating_mul(i64::from(self.count))
    }

    /// Whether each bucket of `coarser` is made of whole ones of these.
    pub fn divides(&self, coarser: &Calendar) -> bool {
        if self.zone != coarser.zone || self.offset != coarser.offset {
            return false;
        }
        match (self.unit, coarser.unit) {
            (Unit::Day, Unit::Day) => {
                let shift = coarser.first_day() - self.first_day();
                coarser.count.is_multiple_of(self.count) && shift % i64::from(self.count) == 0
            }
            (Unit::Month, Unit::Month) => coarser.count.is_multiple_of(self.count),
            (Unit::Day, Unit::Month) => self.count == 1,
            (Unit::Month, Unit::Day) => false,
        }
    }

    /// `7d`, `1mo`, `1y`: the step as it is written.
    pub fn text(&self) -> String {
        match self.unit {
            Unit::Day => format_duration(i64::from(self.count).saturating_mul(DAY)),
            Unit::Month => format_months(self.count),
        }
    }

    /// Counted from 1970, weeks from the Monday in its first days.
    fn number(&self, date: Date) -> i64 {
        let count = i64::from(self.count);
        match self.unit {
            Unit::Day => (days_since_1970(date) - self.first_day()).div_euclid(count),
            Unit::Month => {
                let months = (i64::from(date.year()) - 1970) * 12 + i64::from(date.month()) - 1;
                months.div_euclid(count)
            }
        }
    }

    /// Where a bucket starts; the ends of time stand for what lies beyond them.
    fn start(&self, number: i64) -> Time {
        let count = i64::from(self.count);
        let date = match self.unit {
            Unit::Day => date_of_day(number * count + self.first_day()),
            Unit::Month => {
                let months = number * count;
                let year = i16::try_from(1970 + months.div_euclid(12)).ok();
                year.and_then(|year| Date::new(year, months.rem_euclid(12) as i8 + 1, 1).ok())
            }
        };
        let beyond = if number < 0 { Time::MIN } else { Time::MAX };
        let midnight = date.and_then(|date| self.zone.at(date.to_datetime(jiff::civil::Time::midnight())));
        midnight.and_then(|midnight| midnight.checked_add(self.offset)).unwrap_or(beyond)
    }

    fn first_day(&self) -> i64 {
        const MONDAY: i64 = crate::time::MONDAY / DAY;
        if self.count.is_multiple_of(7) { MONDAY } else { 0 }
    }
}

fn days_since_1970(date: Date) -> i64 {
    let midnight = TimeZone::UTC.to_timestamp(date.to_datetime(jiff::civil::Time::midnight()));
    midnight.map_or(0, |midnight| midnight.as_second().div_euclid(DAY / 1_000_000_000))
}

fn date_of_day(day: i64) -> Option<Date> {
    let seconds = day.checked_mul(DAY / 1_000_000_000)?;
    Some(TimeZone::UTC.to_datetime(Timestamp::from_second(seconds).ok()?).date())
}

fn timestamp(time: Time) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(time)).expect("i64 nanoseconds span 1677 to 2262")
}

fn nanoseconds(timestamp: Timestamp) -> Option<Time> {
    Time::try_from(timestamp.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::{HOUR, instant, resolve};

    fn at(text: &str) -> Time {
        resolve(instant(text).unwrap(), 0, &Zone::utc()).unwrap()
    }

    fn calendar(unit: Unit, count: u32, zone: &str) -> Calendar {
        Calendar { unit, count, zone: Zone::named(zone).unwrap(), offset: 0 }
    }

    #[test]
    fn days_of_berlin_have_23_and_25_hours() {
        let days = calendar(Unit::Day, 1, "Europe/Berlin");
        let day = |noon: &str| (days.start_of(at(noon)), days.end_of(at(noon)));
        let (start, end) = day("2026-03-29T12:00Z");
        assert_eq!((start, end - start), (at("2026-03-28T23:00Z"), 23 * HOUR));
        let (start, end) = day("2026-10-25T12:00Z");
        assert_eq!((start, end - start), (at("2026-10-24T22:00Z"), 25 * HOUR));
        let weeks = calendar(Unit::Day, 7, "Europe/Berlin");
        assert_eq!(weeks.start_of(at("2026-11-24T12:00Z")), at("2026-11-22T23:00Z"));
    }

    #[test]
    fn months_and_years() {
        let months = calendar(Unit::Month, 1, "UTC");
        assert_eq!(months.start_of(at("2024-02-29")), at("2024-02-01"));
        assert_eq!(months.end_of(at("2024-02-29")), at("2024-03-01"));
        let quarters = calendar(Unit::Month, 3, "UTC");
        assert_eq!(quarters.start_of(at("1969-12-31")), at("1969-10-01"));
        let years = calendar(Unit::Month, 12, "America/New_York");
        assert_eq!(years.start_of(at("2026-07-01")), at("2026-01-01T05:00Z"));
    }

    #[test]
    fn a_skipped_midnight_and_a_skipped_day() {
        // Clocks went from 0:00 to 1:00.
        let days = calendar(Unit::Day, 1, "America/Sao_Paulo");
        assert_eq!(days.start_of(at("2018-11-04T12:00Z")), at("2018-11-04T03:00Z"));
        // There was no 30 December 2011.
        let days = calendar(Unit::Day, 1, "Pacific/Apia");
        assert_eq!(days.end_of(at("2011-12-30T09:00Z")), at("2011-12-30T10:00Z"));
    }

    #[test]
    fn civil_times_are_those_of_the_zone() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        assert_eq!(berlin.instant(at("2026-07-01")), Some(at("2026-06-30T22:00Z")));
        assert_eq!(berlin.civil(at("2026-06-30T22:00Z")), Some(at("2026-07-01")));
        assert_eq!(Zone::named("Europe/Bärlin"), None);
    }

    proptest! {
        #[test]
        fn each_time_lies_in_one_bucket(
            time: Time,
            zone in proptest::sample::select(vec!["UTC", "Europe/Berlin", "Pacific/Apia", "America/Sao_Paulo", "Asia/Kolkata"]),
            unit in proptest::sample::select(vec![Unit::Day, Unit::Month]),
            count in 1u32..40,
            offset in 0i64..6,
        ) {
            let calendar = Calendar { offset: offset * HOUR, ..calendar(unit, count, zone) };
            let (start, end) = (calendar.start_of(time), calendar.end_of(time));
            prop_assert!(start <= time && (time < end || end == Time::MAX), "{start} {time} {end}");
            if start > Time::MIN {
                prop_assert_eq!(calendar.start_of(start), start);
            }
            if end < Time::MAX {
                prop_assert_eq!(calendar.start_of(end), end);
                prop_assert_eq!(calendar.start_of(end - 1), start);
            }
        }
    }
}
