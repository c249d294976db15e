//! PromQL through rollups: the same answer as from points, bit for bit, whatever was written, overwritten or deleted, and in blocks or not.
//!
//! Samples lie on the edges of buckets more often than not, which is where windows and buckets disagree. A failure prints the seed and what
//! was done; `SEED=n` runs one, `SEEDS=n` runs more of them.

use std::fmt::Write as _;
use std::sync::Arc;

use prost::Message;
use waterclock::config::Config;
use waterclock::db::{Db, FlushScope, RefreshScope, RemoteWrite};
use waterclock::disk::LocalDisk;
use waterclock::ingest::remote_write::Version;
use waterclock::promql::{Data, Query, Series, Steps, is_absent, print};
use waterclock::query::Stats;

use crate::http::remote_write::histogram;
use crate::support::counts::Counts;
use crate::support::dice::Dice;
use crate::support::engine::{DATABASE, NOON, SECOND, ask, write};
use crate::support::manual_clock::ManualClock;
use crate::support::prometheus::{WriteRequest, series};

const STEPS: usize = 30;
const QUERIES: usize = 8;
const SEEDS: u64 = 12;

const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const MILLISECOND: i64 = 1_000_000;

/// Points lie between here and [`NOON`].
const DAYS: i64 = 3 * 24 * HOUR;

const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

#[test]
fn rollups_and_points_give_the_same_answers() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(SEEDS),
    };
    let counts = Counts::default();
    for seed in seeds.clone() {
        Run::new(seed, &counts).go();
    }
    let lacks = counts.lacks(&FUNCTIONS);
    assert!(lacks.is_none() || seeds.end - seeds.start < SEEDS, "never from rollups: {lacks:?}");
    assert!(counts.get("beside histograms") > 0 || seeds.end - seeds.start < SEEDS);
    let all: u64 = FUNCTIONS.iter().map(|function| counts.get(function)).sum();
    assert!(all > 20 * (seeds.end - seeds.start), "only {all} answers came from rollups");
}

const FUNCTIONS: [&str; 11] = [
    "count_over_time",
    "present_over_time",
    "sum_over_time",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "first_over_time",
    "last_over_time",
    "delta",
    "increase",
    "rate",
];

const SELECTORS: [&str; 8] = [
    "cpu_f",
    "cpu_n",
    "cpu_n{host=\"a\"}",
    "cpu_u",
    "cpu_ok",
    "jobs_total",
    "jobs_total{job=\"x\"}",
    "{__name__=\"heat\"}",
];

const ROLLUPS: [&str; 15] = [
    "cpu | every 10m count, avg(f), min(f), max(f), first(f), last(f)",
    "cpu | every 10m count(f), sum(n), count(n), max(n), min(n), first(n)",
    "cpu{host=\"a\"} | every 1h avg(n), first(n), last(n), increase(n), min(n)",
    "cpu | every 10m rate(u), count(u), avg(u), first(u), last(u), min(u)",
    "cpu | every 1h max(f), avg(f), count(ok), last(ok), first(ok)",
    "cpu | every 1h avg(n), max(n), min(n), first(n), last(n), increase(n)",
    "cpu | every 1d max(f), min(f), avg(f)",
    "cpu | every 10m max(f), first(f), count(f), sum(f) by host",
    "cpu | every 10m max(n), first(n) by dc, host",
    "jobs_total | every 10m avg, min, max, first, last, increase",
    "jobs_total{job=\"x\"} | every 1h count, max, first",
    "metrics | every 1h rate, avg, first, last, max, min",
    "metrics | every 10m count, first",
    "heat | every 1h sum, min, max, last",
    "heat | every 10m avg, first, last, max",
];

struct Run<'a> {
    counts: &'a Counts,
    dice: Dice,
    _folder: tempfile::TempDir,
    clock: ManualClock,
    db: Db,
    /// In half of the runs.
    with_histograms: bool,
    log: String,
}

impl<'a> Run<'a> {
    fn new(seed: u64, counts: &'a Counts) -> Run<'a> {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(NOON);
        let mut config = Config::default();
        config.limits.refresh_states_max = 200;
        config.limits.dirty_groups_max = 8;
        let disk = Arc::new(LocalDisk::open(folder.path()).unwrap());
        let db = Db::open(disk, Arc::new(clock.clone()), config).unwrap();
        let log = format!("seed {seed}\n");
        let with_histograms = seed.is_multiple_of(2);
        Run { counts, dice: Dice::new(seed), _folder: folder, clock, db, with_histograms, log }
    }

    fn go(mut self) {
        // Rollups need tables with their fields.
        write(&self.db, &format!("cpu,host=a f=1,n=1i,u=1u,ok=true {}", NOON - DAYS)).unwrap();
        self.samples();
        for _ in 0..STEPS {
            self.step();
            for _ in 0..QUERIES {
                self.compare();
            }
        }
    }

    fn step(&mut self) {
        match self.dice.roll(12) {
            0..=2 => self.lines(),
            3..=5 => self.samples(),
            6 => self.delete(),
            7 => {
                self.db.flush(FlushScope::All).unwrap();
                self.note("flush");
            }
            8 => {
                self.clock.advance(std::time::Duration::from_secs(self.dice.roll(3_000)));
                let step = self.db.refresh_step(&RefreshScope::default()).unwrap();
                self.note(&format!("time passes, {step:?}"));
            }
            9 => {
                let buckets = self.db.refresh(&RefreshScope::default()).unwrap();
                self.note(&format!("refresh: {buckets} buckets"));
            }
            _ => {
                let number = self.dice.roll(ROLLUPS.len() as u64) as usize;
                let text = format!("create rollup r{number} as {}", ROLLUPS[number]);
                // It may be there already.
                drop(ask(&self.db, &text, true));
                self.note(&text);
                self.db.refresh(&RefreshScope::default()).unwrap();
            }
        }
    }

    fn note(&mut self, what: &str) {
        let _ = writeln!(self.log, "  {what}");
    }

    /// Often on an edge, or the least bit beside it.
    fn time(&mut self, instant: i64) -> i64 {
        let time = NOON - DAYS + self.dice.roll(DAYS as u64 / (10 * MINUTE) as u64 + 1) as i64 * 10 * MINUTE;
        match self.dice.roll(6) {
            0 => time + instant,
            1 => time - instant,
            2 | 3 => time + self.dice.roll(10 * 60_000) as i64 * MILLISECOND,
            _ => time,
        }
    }

    fn float(&mut self) -> f64 {
        match self.dice.roll(12) {
            0 => -0.0,
            1 => 0.0,
            2 => 1e15 + self.dice.roll(1_000) as f64 / 8.0,
            3 => self.dice.roll(1_000_000) as f64 * 1e-7,
            4 => -1e300,
            5 => 1e300,
            6 => 7.0,
            _ => self.dice.roll(400) as f64 / 3.0 - 60.0,
        }
    }

    fn lines(&mut self) {
        let mut body = String::new();
        for _ in 0..1 + self.dice.roll(60) {
            let host = *self.dice.pick(&["a", "b", "b,dc=x"]);
            let time = self.time(1);
            let whole = match self.dice.roll(3) {
                0 => (1 << 60) + self.dice.roll(4) as i64,
                _ => self.dice.roll(1_000) as i64,
            };
            let mut fields = vec![format!("n={}i", if self.dice.roll(3) == 0 { -whole } else { whole })];
            if self.dice.roll(3) > 0 {
                fields.push(format!("f={:?}", self.float()));
            }
            if self.dice.roll(2) == 0 {
                fields.push(format!("u={whole}u"));
            }
            if self.dice.roll(4) == 0 {
                fields.push(format!("ok={}", whole % 2 == 0));
            }
            let _ = writeln!(body, "cpu,host={host} {} {time}", fields.join(","));
        }
        self.note(&body.replace('\n', " ; "));
        write(&self.db, &body).unwrap();
    }

    /// Of a counter that falls now and then, and of a gauge that has everything.
    fn samples(&mut self) {
        let mut timeseries = Vec::new();
        for _ in 0..1 + self.dice.roll(4) {
            let gauge = self.dice.roll(2) == 0;
            let mut found: Vec<(i64, f64)> = Vec::new();
            let mut count = 0.0;
            for _ in 0..1 + self.dice.roll(30) {
                let time = self.time(MILLISECOND).div_euclid(MILLISECOND);
                let value = match (gauge, self.dice.roll(20)) {
                    (_, 0) => STALE,
                    (true, 1) => f64::NAN,
                    (true, 2) => f64::INFINITY,
                    (true, 3) if self.dice.roll(4) == 0 => f64::NEG_INFINITY,
                    (true, _) => self.float(),
                    (false, 1) if self.dice.roll(8) == 0 => f64::NAN,
                    (false, _) => {
                        count = if self.dice.roll(5) == 0 {
                            0.1
                        } else {
                            count + self.dice.roll(50) as f64 / 7.0
                        };
                        count
                    }
                };
                found.push((time, value));
            }
            found.sort_by_key(|(time, _)| *time);
            let job = *self.dice.pick(&["x", "y"]);
            let labels = match gauge {
                true => vec![("__name__", "heat"), ("room", job)],
                false => vec![("__name__", "jobs_total"), ("job", job)],
            };
            timeseries.push(series(&labels, &found));
        }
        if self.with_histograms && self.dice.roll(3) == 0 {
            // Of a metric of their own, and now and then among floats.
            let name = *self.dice.pick(&["nh", "nh", "nh", "heat"]);
            let times: Vec<i64> = (0..4).map(|_| self.time(MILLISECOND).div_euclid(MILLISECOND)).collect();
            let mut one = series(&[("__name__", name), ("room", "x")], &[]);
            one.histograms = times.into_iter().map(histogram).collect();
            one.histograms.sort_by_key(|histogram| histogram.timestamp);
            timeseries.push(one);
        }
        self.note(&format!("{timeseries:?}"));
        let message = WriteRequest { timeseries, metadata: Vec::new() }.encode_to_vec();
        let request = RemoteWrite { database: DATABASE, message: &message, version: Version::V1 };
        self.db.write_samples_now(&request).unwrap();
    }

    fn delete(&mut self) {
        let from = self.time(1);
        let to = from + self.dice.roll(40) as i64 * 5 * MINUTE + 1;
        let of = *self.dice.pick(&["cpu{host=\"a\"}", "cpu", "metrics{job=\"x\"}"]);
        let text = format!("delete from {of} between {from}ns and {to}ns");
        self.note(&text);
        ask(&self.db, &text, true).unwrap();
    }

    fn compare(&mut self) {
        let function = *self.dice.pick(&FUNCTIONS);
        let selector = *self.dice.pick(&SELECTORS);
        // In minutes.
        let range = *self.dice.pick(&[5, 30, 60, 180, 600, 1440, 1501, 4320]);
        let moved = *self.dice.pick(&["", "", "", " offset 1ms", " offset 10m", " offset -7s", " @ end()"]);
        let text = format!("{function}({selector}[{range}m]{moved})");
        let unit = *self.dice.pick(&[10 * MINUTE, HOUR, 1_001 * MILLISECOND]) / MILLISECOND;
        let end = NOON / MILLISECOND - self.dice.roll(30) as i64 * unit;
        let lookback = 300_000;
        let query = match self.dice.roll(2) {
            0 => Query::instant(&text, end, lookback),
            _ => {
                let step = *self.dice.pick(&[range * 60_000, range * 30_000, range * 90_000, 600_000]);
                Query::range(&text, Steps::range(end - 24 * HOUR / MILLISECOND, end, step), end, lookback)
            }
        };
        let query = query.unwrap();
        let (through, stats) = self.answer(query.clone());
        let (points, none) = self.answer(query.without_rollups());
        assert!(none.rollups.is_empty() && none.rejected.is_empty(), "rollups are off");
        assert_eq!(through, points, "{text} until {end} from {:?}\n{}", stats.rollups, self.log);
        self.counts.add("asked", 1);
        if !stats.rollups.is_empty() && !points.is_empty() {
            self.counts.add(function, 1);
            if self.with_histograms && selector.starts_with("jobs") {
                self.counts.add("beside histograms", 1);
            }
        }
    }

    /// One line per series, every bit of it. NaN is NaN.
    fn answer(&self, query: Query) -> (Vec<String>, Stats) {
        let (answer, stats) = self.db.promql(&query, false, DATABASE, &self.db.guard()).unwrap();
        let Data::Vector(series) = answer.data else { panic!("no vector") };
        let cell = |value: &f64| match value {
            value if is_absent(*value) => "-".to_string(),
            value if value.is_nan() => "NaN".to_string(),
            value => format!("{value:?}/{:x}", value.to_bits()),
        };
        let line = |one: &Series| {
            let cells: Vec<String> = one.values.iter().map(cell).collect();
            format!("{} {} {:?}", print::labels(&one.labels), cells.join(" "), one.histograms)
        };
        (series.iter().map(line).collect(), stats)
    }
}
