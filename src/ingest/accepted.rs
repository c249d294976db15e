//! Which times of a table's points are taken, and why others are not.
//!
//! Invariant: whoever finds a time acceptable takes the point; those before `from` are late, and go to rollups only.
//! Not here: what retention and rollups say about it (`db`).

use std::borrow::Cow;

use query_lang::time::format_time;
use storage_format::point::{Time, TimeRange};

use crate::metrics::LATE_POINTS;

/// Of one table, at one moment.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Points from here on are taken into the table.
    pub from: Time,
    /// Those before that rollups take, although the points of their time are gone. Empty if none does.
    pub late: TimeRange,
    /// Up to where reads show no points.
    pub expired: Time,
    /// What keeps rollups from taking those between `late` and `from`.
    pub obstacle: Option<String>,
    /// What helps those that are too old for all.
    pub cure: Cow<'static, str>,
}

impl Accepted {
    pub const ALL: Accepted = Accepted {
        from: Time::MIN,
        late: TimeRange { start: Time::MIN, end: Time::MIN },
        expired: Time::MIN,
        obstacle: None,
        cure: Cow::Borrowed(""),
    };

    #[inline]
    pub fn takes(&self, time: Time) -> bool {
        time >= self.from || self.late.contains(time)
    }

    /// The same with an obstacle to all late points.
    pub fn without_late(self, obstacle: String) -> Accepted {
        let late = TimeRange::new(self.late.start, self.late.start);
        Accepted { late, obstacle: Some(obstacle), ..self }
    }

    /// What is said of a point that is not taken, after its time. Counts it.
    #[cold]
    pub fn refuse(&self, time: Time, table: &str) -> String {
        metrics::counter!(LATE_POINTS, "outcome" => "refused").increment(1);
        let reason = self.obstacle.as_deref().filter(|_| time >= self.late.end);
        let more = reason.map_or_else(|| format!("; {}", self.cure), |reason| format!(", and {reason}"));
        format!(
            "{} is before {}, up to which the points of table {table} have expired{more}",
            format_time(time),
            format_time(self.expired),
        )
    }
}
