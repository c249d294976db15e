//! Functions of one sample: a value to a value.

use crate::promql::functions::{DatePart, SampleFunction};

/// `params` are the other arguments at the same step. None: no sample.
pub fn apply(function: SampleFunction, value: f64, params: &[f64]) -> Option<f64> {
    use SampleFunction::*;
    Some(match function {
        Abs => value.abs(),
        Acos => value.acos(),
        Acosh => value.acosh(),
        Asin => value.asin(),
        Asinh => value.asinh(),
        Atan => value.atan(),
        Atanh => value.atanh(),
        Ceil => value.ceil(),
        Clamp => {
            if params[1] < params[0] {
                return None;
            }
            greater(params[0], less(params[1], value))
        }
        ClampMax => less(params[0], value),
        ClampMin => greater(params[0], value),
        Cos => value.cos(),
        Cosh => value.cosh(),
        Deg => value * 180.0 / std::f64::consts::PI,
        Exp => value.exp(),
        Floor => value.floor(),
        Ln => value.ln(),
        Log10 => value.log10(),
        Log2 => value.log2(),
        Rad => value * std::f64::consts::PI / 180.0,
        Round => {
            // Multiplied by the inverse, so that to 0.1 gives no long tails.
            let inverse = 1.0 / params.first().copied().unwrap_or(1.0);
            (value * inverse + 0.5).floor() / inverse
        }
        Sgn if value < 0.0 => -1.0,
        Sgn if value > 0.0 => 1.0,
        Sgn => value,
        Sin => value.sin(),
        Sinh => value.sinh(),
        Sqrt => value.sqrt(),
        Tan => value.tan(),
        Tanh => value.tanh(),
    })
}

/// NaN if either is, except that nothing is less than -Inf.
fn less(a: f64, b: f64) -> f64 {
    let is_lowest = a == f64::NEG_INFINITY || b == f64::NEG_INFINITY;
    if !is_lowest && (a.is_nan() || b.is_nan()) { f64::NAN } else { a.min(b) }
}

fn greater(a: f64, b: f64) -> f64 {
    let is_highest = a == f64::INFINITY || b == f64::INFINITY;
    if !is_highest && (a.is_nan() || b.is_nan()) { f64::NAN } else { a.max(b) }
}

/// A part of a time in seconds since 1970, in UTC.
pub fn date(part: DatePart, seconds: f64) -> f64 {
    let seconds = seconds as i64;
    let days = seconds.div_euclid(86_400);
    let of_day = seconds.rem_euclid(86_400);
    let (year, month, day) = civil(days);
    match part {
        DatePart::Minute => (of_day / 60 % 60) as f64,
        DatePart::Hour => (of_day / 3_600) as f64,
        // The first day of 1970 was a Thursday.
        DatePart::DayOfWeek => (days + 4).rem_euclid(7) as f64,
        DatePart::DayOfMonth => day as f64,
        DatePart::DayOfYear => {
            let before = (1..month).map(|month| days_of(year, month)).sum::<i64>();
            (before + day) as f64
        }
        DatePart::DaysInMonth => days_of(year, month) as f64,
        DatePart::Month => month as f64,
        DatePart::Year => year as f64,
    }
}

/// Year, month and day of a day since 1970. Years begin in March here, so that a leap day ends one.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_of(year: i64, month: i64) -> i64 {
    let leaps = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leaps => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let parts = |seconds: f64| {
            use DatePart::*;
            [Year, Month, DayOfMonth, Hour, Minute, DayOfWeek, DayOfYear, DaysInMonth]
                .map(|part| date(part, seconds) as i64)
        };
        assert_eq!(parts(0.0), [1970, 1, 1, 0, 0, 4, 1, 31]);
        assert_eq!(parts(1_709_210_096.7), [2024, 2, 29, 12, 34, 4, 60, 29]);
        assert_eq!(parts(-1.0), [1969, 12, 31, 23, 59, 3, 365, 31]);
        assert_eq!(parts(951_782_400.0), [2000, 2, 29, 0, 0, 2, 60, 29]);
    }

    #[test]
    fn clamps_and_rounds() {
        let of = |function, value, params: &[f64]| apply(function, value, params);
        assert_eq!(of(SampleFunction::Clamp, 5.0, &[0.0, 3.0]), Some(3.0));
        assert_eq!(of(SampleFunction::Clamp, 5.0, &[3.0, 0.0]), None);
        assert!(of(SampleFunction::ClampMax, f64::NAN, &[1.0]).is_some_and(f64::is_nan));
        assert_eq!(of(SampleFunction::ClampMin, f64::NAN, &[f64::INFINITY]), Some(f64::INFINITY));
        assert_eq!(of(SampleFunction::Round, 2.5, &[]), Some(3.0));
        assert_eq!(of(SampleFunction::Round, -2.5, &[]), Some(-2.0));
        assert_eq!(of(SampleFunction::Round, 1.26, &[0.1]), Some(1.3));
        assert_eq!(of(SampleFunction::Sgn, -3.0, &[]), Some(-1.0));
    }
}
