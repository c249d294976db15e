//! Questions whose answers the model knows, cell by cell.
//!
//! The answer comes in the order and the form of [`engine::cells`](crate::support::engine::cells): null is None, a time is
//! its nanoseconds, a float the shortest text that reads as the same bits.

use std::collections::BTreeMap;

use crate::support::engine::SECOND;
use crate::support::model::{Bucket, Fields, Model, Series};

pub type Cells = Vec<Vec<Option<String>>>;

#[derive(Clone, Debug)]
pub struct Question {
    /// The table `cpu`, or a rollup over it.
    pub source: String,
    /// From the first to before the second.
    pub range: Option<(i64, i64)>,
    pub what: What,
    pub buckets: Buckets,
    /// Of `host` and `dc`, in this order.
    pub by: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The points themselves, in no order.
    Points,
    Plain,
    /// Only points whose `n` is above zero.
    Positive,
    /// Of twice `f` and one.
    Computed,
    /// What rollups have that were defined with [`What::Plain`] and changed since.
    Sums,
    /// What `n` rose by, falling back to zero where it fell, and its last value less its first.
    Rises,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buckets {
    /// One, without a time.
    Whole,
    /// Nanoseconds.
    Step(i64),
    /// Days of a zone whose clocks do not change near the model's points, and its nanoseconds ahead of UTC.
    Days(&'static str, i64),
}

pub const DAY: i64 = 86_400 * SECOND;

impl Question {
    pub fn text(&self) -> String {
        let mut text = self.source.clone();
        if let Some((from, to)) = self.range {
            text += &format!(" | between {from}ns and {to}ns");
        }
        let aggregates = match self.what {
            What::Points => return text + " | limit 1000000",
            What::Plain => "count, sum(f), max(f), first(f), last(f), min(n), sum(n)",
            What::Positive => {
                text += " | where n > 0";
                "count, sum(f), max(n)"
            }
            What::Computed => {
                text += " | extend d = f * 2 + 1";
                "count, sum(d), max(d)"
            }
            What::Sums => "count, sum(f), sum(n)",
            What::Rises => "increase(n), delta(n)",
        };
        let by = if self.by.is_empty() { "()".to_string() } else { self.by.join(", ") };
        text + &match self.buckets {
            Buckets::Whole => format!(" | {aggregates} by {by}"),
            Buckets::Step(step) => format!(" | every {step}ns {aggregates} by {by}"),
            Buckets::Days(zone, _) => format!(" | every 1d {aggregates} by {by} in \"{zone}\""),
        }
    }

    /// What must come out when the points from a time on are shown.
    pub fn answer(&self, model: &Model, shown_from: i64) -> Cells {
        match self.what {
            What::Points => self.points(model, shown_from),
            What::Rises => self.rises(model, shown_from),
            _ => self.buckets_of(model, shown_from),
        }
    }

    /// Puts an answer into the order of [`Question::answer`].
    pub fn in_order(&self, mut found: Cells) -> Cells {
        if self.what == What::Points {
            found.sort();
        }
        found
    }

    /// Whether each row is of one host, and in which cell it says so.
    pub fn host_cell(&self) -> Option<usize> {
        let times = usize::from(self.buckets != Buckets::Whole);
        match self.what {
            What::Points => Some(2),
            _ => self.by.iter().position(|tag| *tag == "host").map(|at| times + at),
        }
    }

    fn of_range<'a>(
        &self,
        points: &'a BTreeMap<i64, Fields>,
        shown_from: i64,
    ) -> impl Iterator<Item = (i64, Fields)> + use<'a> {
        let (from, to) = self.range.unwrap_or((i64::MIN, i64::MAX));
        let from = from.max(shown_from).min(to);
        points.range(from..to).map(|(time, fields)| (*time, *fields))
    }

    fn points(&self, model: &Model, shown_from: i64) -> Cells {
        let mut rows = Cells::new();
        for ((host, dc), points) in &model.points {
            for (time, fields) in self.of_range(points, shown_from) {
                let tag = |tag: &String| (!tag.is_empty()).then(|| tag.clone());
                rows.push(vec![
                    Some(time.to_string()),
                    tag(dc),
                    tag(host),
                    float(fields.f),
                    fields.n.map(|n| n.to_string()),
                ]);
            }
        }
        rows.sort();
        rows
    }

    fn buckets_of(&self, model: &Model, shown_from: i64) -> Cells {
        // Groups without a tag come first; the answer orders by dc before host.
        let mut buckets: BTreeMap<(Vec<String>, i64), Bucket> = BTreeMap::new();
        for (series, points) in &model.points {
            let group: Vec<String> = self.by.iter().rev().map(|tag| tag_of(series, tag)).collect();
            for (time, fields) in self.of_range(points, shown_from) {
                let fields = match self.what {
                    What::Positive if fields.n.is_none_or(|n| n <= 0) => continue,
                    What::Computed => Fields { f: fields.f.map(|f| f * 2.0 + 1.0), ..fields },
                    _ => fields,
                };
                let start = match self.buckets {
                    Buckets::Whole => 0,
                    Buckets::Step(step) => time.div_euclid(step) * step,
                    Buckets::Days(_, ahead) => (time + ahead).div_euclid(DAY) * DAY - ahead,
                };
                buckets.entry((group.clone(), start)).or_default().add(time, &fields);
            }
        }
        let row = |((group, start), bucket): ((Vec<String>, i64), Bucket)| {
            let times = (self.buckets != Buckets::Whole).then(|| Some(start.to_string()));
            let tags = group.into_iter().rev().map(|tag| (!tag.is_empty()).then_some(tag));
            times.into_iter().chain(tags).chain(self.values(&bucket)).collect()
        };
        buckets.into_iter().map(row).collect()
    }

    /// Nothing if no series has two values.
    fn rises(&self, model: &Model, shown_from: i64) -> Cells {
        let (mut increase, mut delta, mut steps) = (0, 0, 0);
        for points in model.points.values() {
            let values: Vec<i64> =
                self.of_range(points, shown_from).filter_map(|(_, fields)| fields.n).collect();
            for pair in values.windows(2) {
                steps += 1;
                increase += if pair[1] < pair[0] { pair[1] } else { pair[1] - pair[0] };
                delta += pair[1] - pair[0];
            }
        }
        if steps == 0 {
            return Cells::new();
        }
        vec![vec![Some(increase.to_string()), Some(delta.to_string())]]
    }

    fn values(&self, bucket: &Bucket) -> Vec<Option<String>> {
        let int = |value: Option<i64>| value.map(|value| value.to_string());
        let count = int(Some(bucket.count));
        match self.what {
            What::Plain => vec![
                count,
                float(bucket.sum_f),
                float(bucket.max_f),
                float(bucket.first_f()),
                float(bucket.last_f()),
                int(bucket.min_n),
                int(bucket.sum_n),
            ],
            What::Positive => vec![count, float(bucket.sum_f), int(bucket.max_n)],
            What::Computed => vec![count, float(bucket.sum_f), float(bucket.max_f)],
            What::Sums => vec![count, float(bucket.sum_f), int(bucket.sum_n)],
            What::Points | What::Rises => unreachable!("they have no buckets"),
        }
    }
}

fn tag_of(series: &Series, tag: &str) -> String {
    if tag == "host" { series.0.clone() } else { series.1.clone() }
}

fn float(value: Option<f64>) -> Option<String> {
    value.map(|value| format!("{value:?}"))
}
