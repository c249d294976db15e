//! Random operations against a model: after every step, raw = model and rollup = raw, bit for bit.
//!
//! A failure prints the seed and the operations; `SEED=n` runs one, `SEEDS=n` runs more of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use waterclock::config::Config;
use waterclock::db::{Db, FlushScope, Lines, QueryOptions, RefreshScope};
use waterclock::disk::LocalDisk;
use waterclock::ingest::line_protocol::Precision;

use crate::scripts::rows;
use crate::support::dice::Dice;
use crate::support::manual_clock::ManualClock;
use crate::support::model::{Fields, Model, Series};

const SECOND: i64 = 1_000_000_000;
/// 2026-01-01T12:00:00Z
const NOON: i64 = 1_767_268_800 * SECOND;
const STEPS: usize = 60;
const SEEDS: u64 = 24;

#[test]
fn random_operations_agree_with_the_model() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(SEEDS),
    };
    let (mut from_rollups, mut of_kinds) = (0, 0);
    for seed in seeds {
        let mut run = Run::new(seed);
        for _ in 0..STEPS {
            run.step();
        }
        from_rollups += run.from_rollups;
        of_kinds += run.of_kinds;
    }
    assert!(of_kinds > 20, "only {of_kinds} answers of conditions, zones and counters came from rollups");
    assert!(from_rollups > 20, "only {from_rollups} answers came from rollups: the test tests nothing");
}

struct Run {
    seed: u64,
    dice: Dice,
    model: Model,
    folder: tempfile::TempDir,
    clock: ManualClock,
    db: Option<Db>,
    rollups: Vec<String>,
    log: String,
    from_rollups: usize,
    /// Of those the answers of [`Run::check_kinds`].
    of_kinds: usize,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut run = Run {
            seed,
            dice: Dice::new(seed),
            model: Model::default(),
            folder: tempfile::tempdir().unwrap(),
            clock: ManualClock::at(NOON),
            db: None,
            rollups: Vec::new(),
            log: String::new(),
            from_rollups: 0,
            of_kinds: 0,
        };
        run.open();
        // Rollups and matchers need a table with its fields and tags.
        let series = ("a".to_string(), "x".to_string());
        run.put(&[(series, NOON, Fields { f: Some(1.0), n: Some(1) })]);
        run
    }

    fn open(&mut self) {
        self.db = None;
        let disk = Arc::new(LocalDisk::open(self.folder.path()).unwrap());
        let mut config = Config::default();
        // Small, so that steps of a refresh, coarsening of dirty groups and segments are met.
        config.limits.refresh_states_max = 50;
        config.limits.dirty_groups_max = 8;
        config.limits.wal_segment_bytes_max = 4_096;
        self.db = Some(Db::open(disk, Arc::new(self.clock.clone()), config).unwrap());
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn step(&mut self) {
        match self.dice.roll(24) {
            0..=8 => self.write(),
            9 => self.delete(),
            10 => self.create_rollup(),
            20 => self.alter(),
            21 => self.pause(),
            22 => self.refresh_range(),
            23 => self.create_rollup(),
            11 if self.dice.roll(4) == 0 => self.drop_rollup(),
            12 | 13 => self.flush(),
            14 => self.compact(),
            15 => self.restart(),
            16 | 17 => self.refresh(),
            18 => {
                self.clock.advance(Duration::from_secs(self.dice.roll(3_000)));
                self.note("time passes");
            }
            _ => self.refresh_step(),
        }
        self.check();
    }

    fn note(&mut self, what: &str) {
        let _ = writeln!(self.log, "  {what}");
    }

    fn series(&mut self) -> Series {
        let host = *self.dice.pick(&["a", "b", "c"]);
        let dc = *self.dice.pick(&["", "x", "y"]);
        (host.to_string(), dc.to_string())
    }

    /// Mostly near each other, so that points meet; some in other partitions and days.
    fn time(&mut self) -> i64 {
        let near = NOON - 7_200 * SECOND + self.dice.roll(60) as i64 * 10 * SECOND;
        match self.dice.roll(12) {
            0 => near - 86_400 * SECOND,
            1 => near - 3 * 3_600 * SECOND,
            2 => near + 3 * 3_600 * SECOND,
            3 => near + self.dice.roll(1_000) as i64,
            _ => near,
        }
    }

    fn write(&mut self) {
        let mut points = Vec::new();
        for _ in 0..1 + self.dice.roll(12) {
            let series = self.series();
            let time = self.time();
            let mut fields = Fields::default();
            if self.dice.roll(4) > 0 {
                fields.f = Some(self.dice.roll(400) as f64 / 4.0 - 50.0);
            }
            if fields.f.is_none() || self.dice.roll(2) == 0 {
                fields.n = Some(self.dice.roll(1_000) as i64 - 500);
            }
            points.push((series, time, fields));
        }
        self.put(&points);
    }

    fn put(&mut self, points: &[(Series, i64, Fields)]) {
        let mut body = String::new();
        for (series, time, fields) in points {
            let tags = [("host", &series.0), ("dc", &series.1)];
            let tags = tags.iter().filter(|(_, value)| !value.is_empty());
            let tags: String = tags.map(|(tag, value)| format!(",{tag}={value}")).collect();
            let f = fields.f.map(|f| format!("f={f}"));
            let n = fields.n.map(|n| format!("n={n}i"));
            let values: Vec<String> = f.into_iter().chain(n).collect();
            let _ = writeln!(body, "cpu{tags} {} {time}", values.join(","));
            self.model.write(series, *time, *fields);
        }
        self.note(&format!("write {}", body.replace('\n', " ; ")));
        let lines = Lines {
            database: "default",
            body: body.as_bytes(),
            precision: Precision::Nanos,
            accept_partial: true,
        };
        let written = self.db().write_lines_now(&lines).unwrap();
        assert_eq!(written.errors, [], "{}", self.story());
    }

    fn delete(&mut self) {
        let host = (self.dice.roll(3) > 0).then(|| *self.dice.pick(&["a", "b", "c"]));
        let from = self.time();
        let to = from + (1 + self.dice.roll(30) as i64) * 10 * SECOND;
        let matcher = host.map(|host| format!("{{host=\"{host}\"}}")).unwrap_or_default();
        let text = format!("delete from cpu{matcher} between {from}ns and {to}ns");
        self.note(&text);
        self.ask(&text, true).unwrap_or_else(|error| panic!("{error}\n{}", self.story()));
        self.model.delete(host, from, to);
    }

    fn create_rollup(&mut self) {
        let name = format!("r{}", self.dice.roll(6));
        if self.rollups.contains(&name) {
            return;
        }
        let step = *self.dice.pick(&["10s", "30s", "1m", "10m"]);
        let by = *self.dice.pick(&["", " by host", " by dc", " by host, dc", " by ()"]);
        let what = match self.dice.roll(10) {
            0 | 1 => format!("cpu | where n > 0 | every {step} count, sum(f), max(n){by}"),
            2 => format!("cpu | extend d = f * 2 + 1 | every {step} count, sum(d), max(d){by}"),
            3 | 4 => format!("cpu | every {step} increase(n), delta(f), twa(f), integral(n){by}"),
            5 => format!("cpu | every 1d count, sum(f), max(f), sum(n){by} in \"Europe/Berlin\""),
            6 => format!("cpu | every {step} over 20m stddev(f), p95(f), distinct(n), spread(n){by}"),
            _ => format!("cpu | every {step} count, sum(f), max(f), first(f), last(f), min(n), sum(n){by}"),
        };
        let text = format!("create rollup {name} as {what}");
        self.note(&text);
        self.ask(&text, true).unwrap_or_else(|error| panic!("{error}\n{}", self.story()));
        self.rollups.push(name);
    }

    fn drop_rollup(&mut self) {
        if let Some(name) = self.rollups.pop() {
            self.note(&format!("drop rollup {name}"));
            self.ask(&format!("drop rollup {name}"), true).unwrap();
        }
    }

    /// What cannot be done says so, and nothing has changed.
    fn try_to(&mut self, text: &str) {
        let outcome = self.ask(text, true);
        self.note(&format!("{text}: {}", outcome.map_or_else(|error| error, |_| "done".to_string())));
    }

    fn some_rollup(&mut self) -> Option<String> {
        (!self.rollups.is_empty()).then(|| self.dice.pick(&self.rollups.clone()).clone())
    }

    fn alter(&mut self) {
        let Some(name) = self.some_rollup() else { return };
        let change = *self.dice.pick(&[
            "add variance(n)",
            "add last(n)",
            "add increase(n)",
            "drop max(f)",
            "drop count",
        ]);
        self.try_to(&format!("alter rollup {name} {change}"));
    }

    fn pause(&mut self) {
        let Some(name) = self.some_rollup() else { return };
        let verb = *self.dice.pick(&["pause", "resume"]);
        self.try_to(&format!("{verb} rollup {name}"));
    }

    fn refresh_range(&mut self) {
        let Some(name) = self.some_rollup() else { return };
        let from = self.time();
        let to = from + (1 + self.dice.roll(60) as i64) * 60 * SECOND;
        self.try_to(&format!("refresh rollup {name} between {from}ns and {to}ns"));
    }

    fn flush(&mut self) {
        let blocks = self.db().flush(FlushScope::All).unwrap();
        self.note(&format!("flush: {blocks} blocks"));
    }

    fn compact(&mut self) {
        let merges = self.db().compact(true).unwrap();
        self.note(&format!("compact: {merges} merges"));
    }

    fn restart(&mut self) {
        self.note("restart");
        self.open();
    }

    fn refresh(&mut self) {
        let buckets = self.db().refresh(&RefreshScope::default()).unwrap();
        self.note(&format!("refresh: {buckets} buckets"));
    }

    fn refresh_step(&mut self) {
        let buckets = self.db().refresh_step(&RefreshScope::default()).unwrap();
        self.note(&format!("refresh step: {buckets} buckets"));
    }

    fn check(&mut self) {
        self.check_points();
        let step = *self.dice.pick(&[10, 30, 60, 600, 1_800]) * SECOND;
        let (from, to) = match self.dice.roll(3) {
            0 => (NOON - 90_000 * SECOND - self.dice.roll(100) as i64, NOON + 20_000 * SECOND),
            1 => (NOON - 7_200 * SECOND + self.dice.roll(600) as i64 * SECOND, NOON),
            _ => (NOON - 7_170 * SECOND, NOON - 6_800 * SECOND),
        };
        self.check_buckets(step, from, to, "host, dc", |series| vec![series.0.clone(), series.1.clone()]);
        self.check_buckets(step, from, to, "host", |series| vec![series.0.clone()]);
        self.check_buckets(step, from, to, "", |_| Vec::new());
        self.check_newest(step, from, to);
        self.check_kinds(step, from, to);
    }

    /// What is read only as far as it is needed, against reading all of it.
    fn check_newest(&mut self, step: i64, from: i64, to: i64) {
        let range = *self.dice.pick(&["", "between", "since"]);
        let range = match range {
            "between" => format!("| between {from}ns and {to}ns "),
            "since" => format!("| since {from}ns "),
            _ => String::new(),
        };
        let by = *self.dice.pick(&["host, dc", "host", "()"]);
        let fields = *self.dice.pick(&["last(f)", "last(n)", "last(f), last(n)"]);
        let rows = 1 + self.dice.roll(6) as usize;
        let ask =
            |text: &str| self.ask(text, true).unwrap_or_else(|error| panic!("{error}\n{}", self.story()));
        let short = ask(&format!("cpu {range}| {fields} by {by}"));
        // The count wants every row.
        let whole = ask(&format!("cpu {range}| {fields}, count by {by} | where {}", present(fields)));
        let cells = |text: &str, less: usize| {
            let cells = |line: &str| line.split_whitespace().map(str::to_string).collect::<Vec<String>>();
            let cut = |mut cells: Vec<String>| {
                cells.truncate(cells.len() - less);
                cells
            };
            text.lines().skip(1).map(cells).map(cut).collect::<Vec<Vec<String>>>()
        };
        assert_eq!(cells(&short, 0), cells(&whole, 1), "{fields} by {by} {range}\n{}", self.story());

        let buckets = format!("cpu {range}| every {step}ns count, sum(f), last(n) by {by} | sort time desc");
        let short = self.ask(&format!("{buckets} | limit {rows}"), true).unwrap();
        let mut whole = cells(&self.ask(&buckets, true).unwrap(), 0);
        whole.truncate(rows);
        assert_eq!(cells(&short, 0), whole, "{buckets} | limit {rows}\n{}", self.story());
    }

    /// One of the kinds that the model does not know bit by bit: through rollups it is what raw points give. What the
    /// model does know of them: points that meet a condition, days of a zone, what a counter rose by.
    fn check_kinds(&mut self, step: i64, from: i64, to: i64) {
        let by = *self.dice.pick(&["", " by host", " by dc, host", " by ()"]);
        let range =
            if self.dice.roll(3) == 0 { String::new() } else { format!("between {from}ns and {to}ns | ") };
        let over = if self.dice.roll(3) == 0 { " over 20m" } else { "" };
        let zone = *self.dice.pick(&["Europe/Berlin", "Asia/Kolkata", "America/New_York"]);
        let text = match self.dice.roll(7) {
            0 => format!("cpu | {range}where n > 0 | every {step}ns count, sum(f), max(n){by}"),
            1 => format!("cpu{{host=\"a\"}} | {range}where n > 0 | count, sum(f) by ()"),
            2 => {
                format!("cpu | {range}extend e = f * 2 + 1 | every {step}ns{over} count, sum(e), max(e){by}")
            }
            3 => format!("cpu | {range}every {step}ns{over} increase(n), delta(f), twa(f), integral(n){by}"),
            4 => format!("cpu | {range}increase(n), twa(f), integral(n){by}"),
            5 => format!("cpu | {range}every 1d count, sum(f), max(f), sum(n){by} in \"{zone}\""),
            _ => format!("cpu | {range}every {step}ns{over} stddev(f), p95(f), distinct(n), spread(n){by}"),
        };
        self.same_from_rollups(&text);
        let rows = self.same_from_rollups("cpu | where n > 0 | every 1d count by () in \"Europe/Berlin\"");
        // In winter Berlin is an hour ahead.
        let hour = 3_600 * SECOND;
        let mut days: BTreeMap<i64, i64> = BTreeMap::new();
        for (time, fields) in self.model.points.values().flatten() {
            if fields.n.is_some_and(|n| n > 0) {
                *days.entry((time + hour).div_euclid(24 * hour) * 24 * hour - hour).or_default() += 1;
            }
        }
        let counts: Vec<String> =
            rows.lines().skip(1).filter_map(|row| Some(row.split_whitespace().last()?.to_string())).collect();
        let expected: Vec<String> = days.values().map(i64::to_string).collect();
        assert_eq!(counts, expected, "days of Berlin\n{rows}\n{}", self.story());
        let rows = self.same_from_rollups("cpu | increase(n), delta(n) by ()");
        let found: Vec<&str> = rows.lines().nth(1).unwrap_or_default().split_whitespace().collect();
        assert_eq!(found, self.model.rises(), "what n rose by\n{rows}\n{}", self.story());
    }

    /// The answer, which is the same with and without rollups.
    fn same_from_rollups(&mut self, text: &str) -> String {
        let raw = self.ask(text, false).unwrap_or_else(|error| panic!("{error}\n{}", self.story()));
        let answer = self.db().query(text, &options(true), &self.db().guard());
        let answer = answer.unwrap_or_else(|error| panic!("{error}\n{}", self.story()));
        let used = &answer.stats.rollups;
        assert_eq!(rows(&answer), raw, "rollup and raw: {text}\nused {used:?}\n{}", self.story());
        self.from_rollups += usize::from(!used.is_empty());
        self.of_kinds += usize::from(!used.is_empty());
        raw
    }

    fn check_points(&mut self) {
        let answer = match self.ask("cpu", true) {
            Ok(answer) => answer,
            Err(error) => panic!("{error}\n{}", self.story()),
        };
        let expected = self.model.rows();
        let found = answer.lines().count().saturating_sub(1);
        assert_eq!(found, expected, "rows of cpu\n{answer}\n{:?}\n{}", self.model, self.story());
    }

    fn check_buckets(
        &mut self,
        step: i64,
        from: i64,
        to: i64,
        by: &str,
        group: impl Fn(&Series) -> Vec<String>,
    ) {
        let text = format!(
            "cpu | between {from}ns and {to}ns | every {step}ns count, sum(f), max(f), first(f), last(f), min(n), sum(n) by {}",
            if by.is_empty() { "()" } else { by }
        );
        let raw = self.ask(&text, false).unwrap_or_else(|error| panic!("{error}\n{}", self.story()));
        let expected = self.expected(step, from, to, group);
        let printed: Vec<Vec<String>> =
            raw.lines().skip(1).map(|line| line.split_whitespace().map(str::to_string).collect()).collect();
        assert_eq!(printed, expected, "raw and model: {text}\n{}", self.story());
        let options = options(true);
        let answer = self.db().query(&text, &options, &self.db().guard());
        let answer = answer.unwrap_or_else(|error| panic!("{error}\n{}", self.story()));
        assert_eq!(
            rows(&answer),
            raw,
            "rollup and raw: {text}\nused {:?}\n{}",
            answer.stats.rollups,
            self.story()
        );
        self.from_rollups += usize::from(!answer.stats.rollups.is_empty());
    }

    /// The rows as the answer prints them, cell by cell.
    fn expected(
        &self,
        step: i64,
        from: i64,
        to: i64,
        group: impl Fn(&Series) -> Vec<String>,
    ) -> Vec<Vec<String>> {
        let float = |value: Option<f64>| value.map_or("null".to_string(), |value| format!("{value:?}"));
        let int = |value: Option<i64>| value.map_or("null".to_string(), |value| value.to_string());
        let buckets = self.model.buckets(step, from, to, group);
        // Missing tags come first and print as null; the answer orders by dc before host.
        let mut sorted: Vec<_> = buckets.into_iter().collect();
        sorted.sort_by_key(|((group, start), _)| (group.iter().rev().cloned().collect::<Vec<_>>(), *start));
        let row = |((group, start), bucket): ((Vec<String>, i64), crate::support::model::Bucket)| {
            let time = query_lang::time::format_time(start).trim_start_matches("2026-01-01T").to_string();
            let tag = |tag: String| if tag.is_empty() { "null".to_string() } else { tag };
            let mut cells = vec![time];
            cells.extend(group.into_iter().map(tag));
            cells.extend([
                int(Some(bucket.count)),
                float(bucket.sum_f),
                float(bucket.max_f),
                float(bucket.first_f()),
                float(bucket.last_f()),
                int(bucket.min_n),
                int(bucket.sum_n),
            ]);
            cells
        };
        sorted.into_iter().map(row).collect()
    }

    fn ask(&self, text: &str, rollups: bool) -> Result<String, String> {
        let answer = self.db().query(text, &options(rollups), &self.db().guard());
        answer.map(|answer| rows(&answer)).map_err(|error| error.to_string())
    }

    fn story(&self) -> String {
        format!("seed {}\n{}", self.seed, self.log)
    }
}

/// The condition that a group has any of these fields: without the count it would not be there.
fn present(fields: &str) -> &'static str {
    match fields {
        "last(f)" => "exists(last_f)",
        "last(n)" => "exists(last_n)",
        _ => "count > 0",
    }
}

fn options(rollups: bool) -> QueryOptions {
    QueryOptions { rollups, ..QueryOptions::of("default") }
}
