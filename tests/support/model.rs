//! What a database should answer, the slow and obvious way: a map of maps.
//!
//! Values are multiples of a quarter, so that plain sums of floats are exact and can be compared bit for bit.

use std::collections::BTreeMap;

/// Tags `host` and `dc`, in that order.
pub type Series = (String, String);

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub points: BTreeMap<Series, BTreeMap<i64, Fields>>,
}

/// A float `f`, an integer `n`; a point has at least one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fields {
    pub f: Option<f64>,
    pub n: Option<i64>,
}

/// What a bucket of a group answers, printed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bucket {
    pub count: i64,
    pub sum_f: Option<f64>,
    pub max_f: Option<f64>,
    pub min_n: Option<i64>,
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

    fn add(&mut self, time: i64, fields: &Fields) {
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

    /// Buckets per group, which `group` makes of a series; those without points are not there.
    pub fn buckets(
        &self,
        step: i64,
        from: i64,
        to: i64,
        group: impl Fn(&Series) -> Vec<String>,
    ) -> BTreeMap<(Vec<String>, i64), Bucket> {
        let mut buckets: BTreeMap<(Vec<String>, i64), Bucket> = BTreeMap::new();
        for (series, points) in &self.points {
            for (time, fields) in points.range(from..to) {
                let start = time.div_euclid(step) * step;
                buckets.entry((group(series), start)).or_default().add(*time, fields);
            }
        }
        buckets
    }

    /// What `n` rose by, falling back to zero where it fell, and its last value less its first, over all series: as they
    /// are printed. Nothing if no series has two values.
    pub fn rises(&self) -> Vec<String> {
        let (mut increase, mut delta, mut steps) = (0, 0, 0);
        for points in self.points.values() {
            let values: Vec<i64> = points.values().filter_map(|fields| fields.n).collect();
            for pair in values.windows(2) {
                steps += 1;
                increase += if pair[1] < pair[0] { pair[1] } else { pair[1] - pair[0] };
                delta += pair[1] - pair[0];
            }
        }
        if steps == 0 { Vec::new() } else { vec![increase.to_string(), delta.to_string()] }
    }

    pub fn rows(&self) -> usize {
        self.points.values().map(BTreeMap::len).sum()
    }
}
