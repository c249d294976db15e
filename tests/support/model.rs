//! What a database should answer, the slow and obvious way: a map of maps.
//!
//! Values are multiples of a quarter, so that plain sums of floats are exact and can be compared bit for bit.
//! Not here: which questions there are (`question`), and which random changes (`workload`).

use std::collections::BTreeMap;

/// Tags `host` and `dc`, in that order.
pub type Series = (String, String);

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    pub points: BTreeMap<Series, BTreeMap<i64, Fields>>,
}

/// A float `f`, an integer `n`; a point has at least one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fields {
    pub f: Option<f64>,
    pub n: Option<i64>,
}

/// What a bucket of a group answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bucket {
    pub count: i64,
    pub sum_f: Option<f64>,
    pub max_f: Option<f64>,
    pub min_n: Option<i64>,
    pub max_n: Option<i64>,
    pub sum_n: Option<i64>,
    first: Option<(i64, f64)>,
    last: Option<(i64, f64)>,
}

impl Bucket {
    pub fn first_f(&self) -> Option<f64> {
        self.first.map(|(_, value)| value)
    }

    pub fn last_f(&self) -> Option<f64> {
        self.last.map(|(_, value)| value)
    }

    pub fn add(&mut self, time: i64, fields: &Fields) {
        self.count += 1;
        if let Some(f) = fields.f {
            self.sum_f = Some(self.sum_f.unwrap_or(0.0) + f);
            self.max_f = Some(self.max_f.map_or(f, |max| max.max(f)));
            // Of equal times over several series the larger value.
            let earlier = |(at, value): (i64, f64)| time < at || (time == at && f > value);
            if self.first.is_none_or(earlier) {
                self.first = Some((time, f));
            }
            let later = |(at, value): (i64, f64)| time > at || (time == at && f > value);
            if self.last.is_none_or(later) {
                self.last = Some((time, f));
            }
        }
        if let Some(n) = fields.n {
            self.sum_n = Some(self.sum_n.unwrap_or(0) + n);
            self.min_n = Some(self.min_n.map_or(n, |min| min.min(n)));
            self.max_n = Some(self.max_n.map_or(n, |max| max.max(n)));
        }
    }
}

impl Model {
    pub fn write(&mut self, series: &Series, time: i64, fields: Fields) {
        let point = self.points.entry(series.clone()).or_default().entry(time).or_default();
        point.f = fields.f.or(point.f);
        point.n = fields.n.or(point.n);
    }

    pub fn delete(&mut self, host: Option<&str>, from: i64, to: i64) {
        for ((of_host, _), points) in &mut self.points {
            if host.is_none_or(|host| host == of_host) {
                points.retain(|time, _| *time < from || *time >= to);
            }
        }
    }

    pub fn at(&self, series: &Series, time: i64) -> Option<Fields> {
        self.points.get(series)?.get(&time).copied()
    }

    /// The points of several models that have no series in common.
    pub fn union<'a>(parts: impl IntoIterator<Item = &'a Model>) -> Model {
        let points = parts.into_iter().flat_map(|part| part.points.clone()).collect();
        Model { points }
    }
}
