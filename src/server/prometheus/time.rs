//! Times and durations of parameters, in milliseconds.

use jiff::Timestamp;

use crate::promql;
use crate::server::params::Params;
use crate::server::prometheus::bad_parameter;
use crate::server::reply::Failure;

/// The ends of time in Prometheus, which clients send as they are.
const MIN_TIME: &str = "-292273086-05-16T16:47:06Z";
const MAX_TIME: &str = "292277025-08-18T07:12:54.999999999Z";

/// Seconds with a fraction, or RFC 3339.
pub fn parse_time(text: &str) -> Option<i64> {
    match text {
        MIN_TIME => return Some(i64::MIN),
        MAX_TIME => return Some(i64::MAX),
        _ => {}
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return seconds.is_finite().then(|| (seconds * 1e3).round() as i64);
    }
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

pub fn time(params: &Params, name: &str) -> Result<Option<i64>, Failure> {
    let Some(text) = params.get(name) else { return Ok(None) };
    let wrong = || format!("invalid time value for '{name}': cannot parse {text:?} to a valid timestamp");
    parse_time(text).map(Some).ok_or_else(|| bad_parameter(name, wrong()))
}

pub fn required_time(params: &Params, name: &str) -> Result<i64, Failure> {
    let text = params.get(name).unwrap_or_default();
    parse_time(text).ok_or_else(|| bad_parameter(name, format!("cannot parse {text:?} to a valid timestamp")))
}

/// Seconds with a fraction, or `1h30m`.
pub fn duration(params: &Params, name: &str) -> Result<Option<i64>, Failure> {
    let Some(text) = params.get(name) else { return Ok(None) };
    if let Ok(seconds) = text.parse::<f64>() {
        let milliseconds = (seconds * 1e3).round();
        // Prometheus holds durations in nanoseconds.
        if milliseconds.is_nan() || milliseconds.abs() > (i64::MAX / 1_000_000) as f64 {
            let why = format!("cannot parse {text:?} to a valid duration. It overflows int64");
            return Err(bad_parameter(name, why));
        }
        return Ok(Some(milliseconds as i64));
    }
    let parsed = promql::parse_duration(text);
    parsed.map(Some).ok_or_else(|| bad_parameter(name, format!("cannot parse {text:?} to a valid duration")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_dates() {
        assert_eq!(parse_time("1.5"), Some(1500));
        assert_eq!(parse_time("-60"), Some(-60_000));
        assert_eq!(parse_time("1970-01-01T00:00:01.25Z"), Some(1250));
        assert_eq!(parse_time("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!((parse_time("NaN"), parse_time("yesterday")), (None, None));
        assert_eq!(parse_time(MAX_TIME), Some(i64::MAX));
    }
}
