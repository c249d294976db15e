//! Timestamps: text in the unit a client chose -> nanoseconds.
//!
//! Invariant: what comes out lies in [`TIME_MIN`]`..=`[`TIME_MAX`].

use storage_format::point::{NANOS_PER_SECOND, TIME_MAX, TIME_MIN, Time};

use super::Line;
use super::error::{LineError, Result, Shown};

/// The unit of a request's timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Guessed for each timestamp by its magnitude.
    Auto,
    Nanos,
    Micros,
    Millis,
    Seconds,
    Minutes,
    Hours,
}

impl Precision {
    /// `precision` of `/write`.
    pub fn from_v1(name: &str) -> Option<Precision> {
        match name {
            "n" | "ns" => Some(Precision::Nanos),
            // The micro sign and the Greek letter look alike, and both are sent.
            "u" | "us" | "\u{b5}" | "\u{b5}s" | "\u{3bc}" | "\u{3bc}s" => Some(Precision::Micros),
            "ms" => Some(Precision::Millis),
            "s" => Some(Precision::Seconds),
            "m" => Some(Precision::Minutes),
            "h" => Some(Precision::Hours),
            _ => None,
        }
    }

    /// `precision` of `/api/v2/write`.
    pub fn from_v2(name: &str) -> Option<Precision> {
        match name {
            "ns" => Some(Precision::Nanos),
            "us" => Some(Precision::Micros),
            "ms" => Some(Precision::Millis),
            "s" => Some(Precision::Seconds),
            _ => None,
        }
    }

    /// `precision` of `/api/v3/write_lp`, with the short forms that InfluxDB 3 takes too.
    pub fn from_v3(name: &str) -> Option<Precision> {
        match name {
            "auto" => Some(Precision::Auto),
            "nanosecond" | "ns" | "n" => Some(Precision::Nanos),
            "microsecond" | "us" | "u" => Some(Precision::Micros),
            "millisecond" | "ms" => Some(Precision::Millis),
            "second" | "s" => Some(Precision::Seconds),
            _ => None,
        }
    }

    /// `None` if no point may have that time.
    pub fn to_nanos(self, time: i64) -> Option<Time> {
        let unit = match self {
            Precision::Auto => return Precision::guess(time).to_nanos(time),
            Precision::Nanos => 1,
            Precision::Micros => 1_000,
            Precision::Millis => 1_000_000,
            Precision::Seconds => NANOS_PER_SECOND,
            Precision::Minutes => 60 * NANOS_PER_SECOND,
            Precision::Hours => 3_600 * NANOS_PER_SECOND,
        };
        time.checked_mul(unit).filter(|nanos| (TIME_MIN..=TIME_MAX).contains(nanos))
    }

    /// InfluxDB 3's rule. 5e9 seconds end in the year 2128; 5e9 milliseconds, 5e12 microseconds and 5e15
    /// nanoseconds end in February 1970. So it errs only for times of those 58 days in a fine unit, and
    /// for seconds after 2128.
    fn guess(time: i64) -> Precision {
        match time.unsigned_abs() {
            0..5_000_000_000 => Precision::Seconds,
            5_000_000_000..5_000_000_000_000 => Precision::Millis,
            5_000_000_000_000..5_000_000_000_000_000 => Precision::Micros,
            _ => Precision::Nanos,
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Precision::Auto => "the unit it looks like",
            Precision::Nanos => "nanoseconds",
            Precision::Micros => "microseconds",
            Precision::Millis => "milliseconds",
            Precision::Seconds => "seconds",
            Precision::Minutes => "minutes",
            Precision::Hours => "hours",
        }
    }
}

impl Line<'_> {
    /// The line's time; `server_time` (in full resolution, whatever the precision) if it has none.
    pub fn time_or(&self, server_time: Time, precision: Precision) -> Result<Time> {
        let Some(text) = self.time else { return Ok(server_time) };
        atoi_simd::parse::<i64, true, false>(text.as_bytes())
            .ok()
            .and_then(|time| precision.to_nanos(time))
            .ok_or_else(|| self.refuse_time(text, precision))
    }

    #[cold]
    fn refuse_time(&self, text: &str, precision: Precision) -> Box<LineError> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let shown = Shown(text);
        let what = if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            let unit = precision.plural();
            format!(
                "the timestamp {shown} in {unit} lies outside the years 1677 to 2262; \
                 if it is in another unit, say so with the parameter precision"
            )
        } else if text.contains([' ', '\t']) {
            format!(
                "after the fields comes {shown}, which is more than a timestamp; \
                 spaces in names need a backslash, and strings need double quotes"
            )
        } else {
            format!("the timestamp {shown} is no whole number; count from 1970 UTC, in the unit of precision")
        };
        self.refuse(text, what)
    }
}
