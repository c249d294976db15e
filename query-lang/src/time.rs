//! Times and durations as text, and the constants of the calendar.
//!
//! Invariant: `instant(&format_time(t)) == Ok(At(t))` and `duration(&format_duration(d)) == Ok(d)` for every
//! time and every duration above zero. jiff is known only here
//! and in `calendar`.
//! Not here: where in a statement a time may stand (see `parse`).

use jiff::Timestamp;
use storage_format::point::Time;

use crate::ast::TimeLiteral;
use crate::calendar::Zone;

pub const SECOND: i64 = 1_000_000_000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;
pub const WEEK: i64 = 7 * DAY;

/// 1970-01-01 was a Thursday; buckets of whole weeks are counted from the Monday after it.
pub const MONDAY: Time = 4 * DAY;

/// Large to small, the order in which compounds are written.
const UNITS: [(&str, i64); 8] = [
    ("w", WEEK),
    ("d", DAY),
    ("h", HOUR),
    ("m", MINUTE),
    ("s", SECOND),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Where buckets of `step` are counted from.
pub fn origin_of(step: i64) -> Time {
    if step % WEEK == 0 { MONDAY } else { 0 }
}

/// RFC 3339 in UTC, with as many digits of the second as needed: `2026-01-01T10:00:00.5Z`.
pub fn format_time(time: Time) -> String {
    Timestamp::from_nanosecond(i128::from(time)).expect("i64 nanoseconds span 1677 to 2262").to_string()
}

/// `1h30m`; nothing but `0s` for zero.
pub fn format_duration(duration: i64) -> String {
    let mut text = if duration < 0 { "-".to_owned() } else { String::new() };
    let mut rest = duration.unsigned_abs();
    for (unit, nanos) in UNITS {
        let count = rest / nanos.unsigned_abs();
        rest %= nanos.unsigned_abs();
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    if duration == 0 { "0s".to_owned() } else { text }
}

pub const OUT_OF_RANGE: &str = "this time is out of range: times go from 1677-09-22 to 2262-04-11";

/// The time that is meant at `now` in a zone. None if it is out of range.
pub fn resolve(literal: TimeLiteral, now: Time, zone: &Zone) -> Option<Time> {
    match literal {
        TimeLiteral::At(time) => Some(time),
        TimeLiteral::Civil(time) => zone.instant(time),
        TimeLiteral::Now(offset) => now.checked_add(offset),
    }
}

/// A duration above zero, as written in a statement. The error is a sentence, here and below.
pub fn duration(text: &str) -> Result<i64, String> {
    if text.contains('.') {
        return Err(format!("`{text}` is not a duration; durations take whole numbers, as in 1h30m"));
    }
    let mut total: i64 = 0;
    let mut larger = usize::MAX;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        if number.is_empty() || unit.is_empty() {
            return Err(format!("`{text}` needs a unit, for example {}m", digits_or_five(number)));
        }
        // Small to large index, so that "smaller than the one before" is one comparison.
        let rank = unit_rank(unit).ok_or_else(|| unknown_unit(text, unit))?;
        if larger <= rank {
            return Err(format!("the units of `{text}` must go from large to small, each once, as in 1h30m"));
        }
        larger = rank;
        let nanos = UNITS[UNITS.len() - 1 - rank].1;
        total = number
            .parse::<i64>()
            .ok()
            .and_then(|count| count.checked_mul(nanos))
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| format!("`{text}` is longer than a duration can be, which is 292 years"))?;
        rest = after;
    }
    if total == 0 { Err("a duration must be longer than zero".to_owned()) } else { Ok(total) }
}

/// A date, a date and a clock with or without a zone, or digits and a unit since 1970.
pub fn instant(text: &str) -> Result<TimeLiteral, String> {
    if looks_like_date(text) { date(text) } else { since_epoch(text).map(TimeLiteral::At) }
}

/// The months of a window such as `1mo` or `2y`; None if the text has no such unit.
pub fn months(text: &str) -> Option<Result<u32, String>> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let months = match unit {
        "mo" => 1,
        "y" => 12,
        _ if unit.contains("mo") || unit.contains('y') => {
            return Some(Err(format!(
                "`{text}` mixes months or years with other units; write one of them, as in 3mo"
            )));
        }
        _ => return None,
    };
    let count = number.parse::<u32>().ok().and_then(|count| count.checked_mul(months));
    Some(match count {
        Some(1..=MONTHS_MAX) => Ok(count.unwrap_or_default()),
        _ => Err(format!("`{text}` is no length of a window: months go from 1 to {MONTHS_MAX}")),
    })
}

/// As [`months`] reads it.
pub fn format_months(months: u32) -> String {
    if months.is_multiple_of(12) { format!("{}y", months / 12) } else { format!("{months}mo") }
}

/// All the years that times span.
const MONTHS_MAX: u32 = 12 * 585;

/// Whether the text starts `YYYY-MM-DD`, digits only: what tells a date from a number.
pub fn looks_like_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 10
        && bytes[..10].iter().enumerate().all(|(index, byte)| match index {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

fn date(text: &str) -> Result<TimeLiteral, String> {
    let (_, clock) = text.split_at(10);
    let zoned = clock.contains(['Z', 'z', '+', '-']);
    let full = match (clock, zoned) {
        ("", _) => format!("{text}T00:00:00Z"),
        (_, true) => text.to_owned(),
        (_, false) => format!("{text}Z"),
    };
    let timestamp: Timestamp = full.parse().map_err(|_| {
        format!("`{text}` is not a time; times are written 2026-01-31, 2026-01-31T10:30 or 2026-01-31T10:30:00+02:00")
    })?;
    let time = Time::try_from(timestamp.as_nanosecond()).map_err(|_| OUT_OF_RANGE.to_owned())?;
    Ok(if zoned { TimeLiteral::At(time) } else { TimeLiteral::Civil(time) })
}

fn since_epoch(text: &str) -> Result<Time, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let nanos = match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        _ => return Err(format!("`{text}` is not a time; write a date such as 2026-01-31, or `now - 1h`")),
    };
    number
        .parse::<i64>()
        .ok()
        .and_then(|count| count.checked_mul(nanos))
        .ok_or_else(|| OUT_OF_RANGE.to_owned())
}

/// Zero is the smallest unit.
fn unit_rank(unit: &str) -> Option<usize> {
    let unit = if unit == "µs" || unit == "μs" { "us" } else { unit }; // micro sign, Greek mu
    UNITS.iter().rev().position(|(name, _)| *name == unit)
}

fn unknown_unit(text: &str, unit: &str) -> String {
    format!("`{text}` has the unknown unit `{unit}`; the units are ns us ms s m h d w, and mo y for windows")
}

fn digits_or_five(number: &str) -> &str {
    if number.is_empty() { "5" } else { number }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("5m"), Ok(5 * MINUTE));
        assert_eq!(duration("1h30m"), Ok(90 * MINUTE));
        assert_eq!(duration("1µs"), Ok(1_000));
        assert_eq!(duration("7d"), duration("1w"));
        assert_eq!(format_duration(90 * MINUTE), "1h30m");
        assert_eq!(format_duration(-90 * SECOND), "-1m30s");
        assert_eq!(months("18mo"), Some(Ok(18)));
        assert_eq!(months("2y"), Some(Ok(24)));
        assert_eq!((format_months(18), format_months(24)), ("18mo".to_owned(), "2y".to_owned()));
        assert!(months("1y2mo").is_some_and(|months| months.is_err()) && months("0mo").unwrap().is_err());
        assert_eq!(months("5m"), None);
        for bad in ["5", "m", "", "1h1h", "1m1h", "5x", "0s", "99999999999999999999s", "293000w", "1.5h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times() {
        let at = |text: &str| instant(text).map(|time| resolve(time, 0, &Zone::utc()).unwrap());
        let noon = at("2026-01-01T12:00:00Z").unwrap();
        for same in ["2026-01-01 12:00", "2026-01-01T13:00+01:00", "1767268800s", "1767268800000ms"] {
            assert_eq!(at(same), Ok(noon), "{same}");
        }
        assert_eq!(at("2026-01-01"), Ok(noon - 12 * HOUR));
        assert_eq!(instant("2026-01-01"), Ok(TimeLiteral::Civil(noon - 12 * HOUR)));
        assert_eq!(format_time(noon + 1), "2026-01-01T12:00:00.000000001Z");
        for bad in
            ["2026-02-30", "2026", "2026-01-01T25:00", "2300-01-01", "1h", "99999999999s", "2026-01-01Z"]
        {
            assert!(instant(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn weeks_start_on_monday() {
        assert_eq!(Ok(TimeLiteral::Civil(origin_of(2 * WEEK))), instant("1970-01-05"));
        assert_eq!(origin_of(DAY), 0);
    }

    proptest! {
        #[test]
        fn every_time_and_duration_survives_its_text(nanos: i64) {
            prop_assert_eq!(instant(&format_time(nanos)), Ok(TimeLiteral::At(nanos)));
            let length = nanos.checked_abs().unwrap_or(1).max(1);
            prop_assert_eq!(duration(&format_duration(length)), Ok(length));
        }
    }
}
