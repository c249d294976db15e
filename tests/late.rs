//! Points that come before, while and after their time is sealed, from several writers at once, while retention, refreshes,
//! flushes and merges go on and the power goes: every one that was acknowledged is in every rollup once.
//!
//! Points differ from each other, so that nothing but their number has to be known: a read shows each writer's points that
//! were acknowledged before it began, and no more than were sent before it ended; after a cut those without an answer are
//! there or not, and stay so.
//! `SEED=n` runs one seed (its operations are the same each time, their order is not), `SEEDS=n` that many.
//! Not here: points that come twice (`retention`), the words of it (`scripts`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use waterclock::clock::Clock;
use waterclock::config::Config;
use waterclock::db::{Db, FlushScope, Lines, RefreshScope};
use waterclock::error::Result;
use waterclock::ingest::line_protocol::Precision;

use crate::support::counts::Counts;
use crate::support::dice::Dice;
use crate::support::engine::{DATABASE, NOON, SECOND, ask, rows, run, small_config, write};
use crate::support::faulty_disk::{FaultyDisk, Loss};
use crate::support::manual_clock::ManualClock;

const HOSTS: [&str; 2] = ["a", "b"];
const LIVES: usize = 4;
/// Of the upkeep, in each life; the others go on until it is done.
const STEPS: u64 = 60;
const RETENTION_AFTER: Duration = Duration::from_secs(60);

#[test]
fn each_point_counts_once_whenever_it_comes() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = number("SEED").map_or(0..number("SEEDS").unwrap_or(6), |seed| seed..seed + 1);
    let counts = Counts::default();
    for seed in seeds {
        run_lives(seed, &counts);
    }
    if number("SEED").is_none() {
        for what in ["points", "late points", "times all were merged", "blocks expired", "reads", "cuts"] {
            assert!(counts.get(what) > 5, "only {} {what}: the test tests nothing", counts.get(what));
        }
    }
}

const HOUR: i64 = 3_600 * SECOND;
/// Points of several hosts, ten seconds apart.
const SCATTERED: i64 = 3_000;

/// All that was there has expired, and its rollup is sealed.
fn with_late_merge(mut config: Config, clock: &ManualClock) -> Db {
    config.server.retention_after = RETENTION_AFTER;
    let db = Db::open(Arc::new(FaultyDisk::new()), Arc::new(clock.clone()), config).unwrap();
    write(&db, &format!("cpu,host=a n=1i {}\ncpu,host=a n=1i {}", NOON - 90 * HOUR, NOON - 26 * HOUR))
        .unwrap();
    run(&db, "create rollup minutes as cpu | every 1m count, sum(n), median(n), distinct(n) by host")
        .unwrap();
    db.refresh(&RefreshScope::default()).unwrap();
    db.flush(FlushScope::All).unwrap();
    run(&db, "alter table cpu keep 1h late merge").unwrap();
    db.expire().unwrap();
    clock.advance(RETENTION_AFTER * 2);
    assert!(db.expire().unwrap() > 0);
    db
}

fn scattered(of: std::ops::Range<i64>) -> String {
    let line = |at: i64| format!("cpu,host=h{} n={at}i {}\n", at % 7, NOON - 80 * HOUR + at * 10 * SECOND);
    of.map(line).collect()
}

fn late_rows(db: &Db) -> u64 {
    let storage = rows(&run(db, "show storage").unwrap());
    let late = |row: &String| row.split(" late_rows=").nth(1)?.split(' ').next()?.parse::<u64>().ok();
    storage.iter().filter_map(late).sum()
}

#[test]
fn a_fold_takes_in_parts_what_does_not_fit_its_memory() {
    let mut config = small_config();
    config.limits.compaction_memory_bytes_max = 64 << 10;
    let clock = ManualClock::at(NOON);
    let db = with_late_merge(config, &clock);
    // The second time there are states to be merged with.
    for of in [0..SCATTERED, SCATTERED / 2..SCATTERED] {
        write(&db, &scattered(of)).unwrap();
        let before = rows(&run(&db, "minutes").unwrap());
        let blocks = db.fold(FlushScope::All).unwrap();
        assert!(blocks > 4, "only {blocks} blocks: all fitted at once");
        assert_eq!(late_rows(&db), 0);
        assert_eq!(rows(&run(&db, "minutes").unwrap()), before);
    }
}

#[test]
fn late_points_that_cannot_be_merged_leave_memory_to_others() {
    let mut config = small_config();
    config.limits.head_bytes_max = 256 << 10;
    let clock = ManualClock::at(NOON);
    let db = with_late_merge(config, &clock);
    let put = |body: &str| {
        let body = body.as_bytes();
        let lines = Lines { database: DATABASE, body, precision: Precision::Nanos, accept_partial: true };
        db.write_lines_now(&lines).unwrap()
    };
    let mut taken = 0;
    let refused = loop {
        let written = put(&scattered(taken..taken + 100));
        if let Some(error) = written.errors.first() {
            assert_eq!(written.points, 0);
            break error.to_string();
        }
        taken += 100;
    };
    assert!(refused.contains("the limit (1/4 of head_bytes_max)"), "{refused}");
    let now = clock.now();
    let written = put(&format!("cpu,host=a n=1i {now}\n{}", scattered(taken..taken + 1)));
    assert_eq!((written.points, written.errors.len()), (1, 1), "an ordinary one is taken");
    // Memory asks for it long before it has stood.
    db.fold(FlushScope::Due).unwrap();
    assert_eq!(late_rows(&db), 0);
    assert!(put(&scattered(taken..taken + 1)).errors.is_empty());
}

#[test]
fn late_points_stand_as_long_after_a_fold_as_before() {
    let clock = ManualClock::at(NOON);
    let config = small_config();
    let after = config.server.flush_small_after;
    let db = with_late_merge(config, &clock);
    write(&db, &scattered(0..1)).unwrap();
    db.fold(FlushScope::Due).unwrap();
    clock.advance(after);
    db.fold(FlushScope::Due).unwrap();
    assert_eq!(late_rows(&db), 0, "they stood long enough");
    write(&db, &scattered(1..2)).unwrap();
    for waiting in [1, 0] {
        db.fold(FlushScope::Due).unwrap();
        assert_eq!(late_rows(&db), waiting);
        clock.advance(after);
    }
}

/// What one writer has done.
#[derive(Default)]
struct Writer {
    sent: AtomicI64,
    acknowledged: AtomicI64,
}

struct World<'a> {
    seed: u64,
    disk: FaultyDisk,
    clock: ManualClock,
    db: Db,
    writers: &'a [Writer; 2],
    /// Makes times differ.
    next: &'a AtomicI64,
    /// Requests that the writers may send, so that there are not more of them than of everything else.
    budget: AtomicI64,
    over: AtomicBool,
    counts: &'a Counts,
}

fn open(disk: &FaultyDisk, clock: &ManualClock) -> Db {
    let mut config = small_config();
    config.server.retention_after = RETENTION_AFTER;
    config.limits.query_time_max = Duration::MAX;
    Db::open(Arc::new(disk.clone()), Arc::new(clock.clone()), config).unwrap()
}

fn run_lives(seed: u64, counts: &Counts) {
    let mut dice = Dice::new(seed);
    let (mut disk, clock) = (FaultyDisk::new(), ManualClock::at(NOON));
    let (writers, next) = (Default::default(), AtomicI64::new(1));
    for life in 0..LIVES {
        let world = World {
            seed,
            db: open(&disk, &clock),
            disk: disk.clone(),
            clock: clock.clone(),
            writers: &writers,
            next: &next,
            budget: AtomicI64::new(0),
            over: AtomicBool::new(false),
            counts,
        };
        match life {
            0 => world.begin(),
            _ => world.settle(),
        }
        let mut dice_of = || Dice::new(dice.next());
        std::thread::scope(|scope| {
            for at in 0..HOSTS.len() {
                let (world, dice) = (&world, dice_of());
                scope.spawn(move || world.write(at, dice));
            }
            scope.spawn(|| world.read());
            world.keep_up(dice_of());
        });
        drop(world);
        let loss = *dice.pick(&[Loss::Kept, Loss::Lost, Loss::Torn, Loss::Reordered]);
        disk = disk.after_power_loss(dice.next(), loss);
    }
}

impl World<'_> {
    fn begin(&self) {
        write(&self.db, &format!("cpu,host=a n=1i {NOON}\ncpu,host=b n=1i {NOON}")).unwrap();
        for writer in self.writers {
            writer.sent.store(1, Ordering::SeqCst);
            writer.acknowledged.store(1, Ordering::SeqCst);
        }
        for statement in [
            "create rollup minutes as cpu | every 1m count, sum(n) by host",
            "create rollup tens as minutes | every 10m count by ()",
            "alter table cpu keep 1h late merge",
        ] {
            run(&self.db, statement).unwrap();
        }
    }

    /// Up to two hours back, where half is expired.
    fn write(&self, at: usize, mut dice: Dice) {
        let writer = &self.writers[at];
        while !self.over.load(Ordering::SeqCst) {
            let spend = |left: i64| (left > 0).then_some(left - 1);
            if self.budget.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend).is_err() {
                std::thread::park_timeout(Duration::from_micros(100));
                continue;
            }
            let points = 1 + dice.roll(4) as i64;
            let line = |_| {
                let back = dice.roll(7_200) as i64 * SECOND;
                let time = self.clock.now() - back + self.next.fetch_add(1, Ordering::SeqCst);
                format!("cpu,host={} n=1i {time}\n", HOSTS[at])
            };
            let body: String = (0..points).map(line).collect();
            writer.sent.fetch_add(points, Ordering::SeqCst);
            if self.told(write(&self.db, &body)).is_none() {
                return;
            }
            writer.acknowledged.fetch_add(points, Ordering::SeqCst);
            self.counts.add("points", points as u64);
        }
    }

    /// None if the power is gone.
    fn told<T>(&self, outcome: Result<T>) -> Option<T> {
        match outcome {
            Ok(told) => Some(told),
            Err(error) => {
                assert!(self.disk.crashed(), "seed {}: {error}", self.seed);
                self.over.store(true, Ordering::SeqCst);
                None
            }
        }
    }

    fn read(&self) {
        while !self.over.load(Ordering::SeqCst) {
            let least = self.writers.each_ref().map(|writer| writer.acknowledged.load(Ordering::SeqCst));
            let Some(found) = self.found() else { return };
            let most = self.writers.each_ref().map(|writer| writer.sent.load(Ordering::SeqCst));
            self.check(found, least, most);
            self.counts.add("reads", 1);
        }
    }

    /// How many points of each host there are, by the one rollup, and of all, by the other, asked a little later.
    fn found(&self) -> Option<([i64; 2], i64)> {
        let ask = |statement: &str| Some(rows(&self.told(ask(&self.db, statement, true))?));
        let number = |row: &String, name: &str| {
            let found = row.split(' ').find_map(|cell| cell.strip_prefix(name)?.strip_prefix('='));
            found.and_then(|number| number.parse::<i64>().ok()).unwrap_or_else(|| panic!("{name} in {row}"))
        };
        let by_host = ask("minutes | count, sum(n) by host")?;
        let of_host = |host: &str| {
            let row = by_host.iter().find(|row| row.contains(&format!("host={host}")));
            let row = row.unwrap_or_else(|| panic!("{host} in {by_host:?}"));
            assert_eq!(number(row, "count"), number(row, "sum_n"), "seed {}: {row}", self.seed);
            number(row, "count")
        };
        let all = ask("tens | count by ()")?;
        Some((HOSTS.map(of_host), number(&all[0], "count")))
    }

    fn check(&self, (by_host, all): ([i64; 2], i64), least: [i64; 2], most: [i64; 2]) {
        for (at, found) in by_host.iter().enumerate() {
            assert!(
                (least[at]..=most[at]).contains(found),
                "seed {}: {found} points of host {}, of {} acknowledged and {} sent",
                self.seed,
                HOSTS[at],
                least[at],
                most[at]
            );
        }
        let (least, most) = (least.iter().sum::<i64>(), most.iter().sum::<i64>());
        assert!((least..=most).contains(&all), "seed {}: {all} points, not {least} to {most}", self.seed);
    }

    /// What became of the points without an answer: from now on that is how many there are.
    fn settle(&self) {
        let bounds = |of: fn(&Writer) -> &AtomicI64| {
            self.writers.each_ref().map(|writer| of(writer).load(Ordering::SeqCst))
        };
        let (least, most) = (bounds(|writer| &writer.acknowledged), bounds(|writer| &writer.sent));
        let found = self.found().unwrap();
        self.check(found, least, most);
        assert_eq!(found.0.iter().sum::<i64>(), found.1, "seed {}: one rollup and the other", self.seed);
        for (writer, found) in self.writers.iter().zip(found.0) {
            writer.sent.store(found, Ordering::SeqCst);
            writer.acknowledged.store(found, Ordering::SeqCst);
        }
    }

    fn keep_up(&self, mut dice: Dice) {
        let cut_at = dice.roll(2 * STEPS);
        let mut late = 0;
        for step in 0..STEPS {
            if step == cut_at {
                self.disk.crash_in(dice.roll(60));
                self.counts.add("cuts", 1);
            }
            self.budget.fetch_add(dice.roll(6) as i64, Ordering::SeqCst);
            if self.step(&mut dice).is_none() {
                break;
            }
            let now = self.late_rows();
            self.counts.add("late points", now.saturating_sub(late));
            self.counts.add("times all were merged", u64::from(late > 0 && now < late));
            late = now;
        }
        self.over.store(true, Ordering::SeqCst);
    }

    fn step(&self, dice: &mut Dice) -> Option<()> {
        match dice.roll(8) {
            0 | 1 => {
                let expire = || self.told(self.db.expire());
                self.counts.add("blocks expired", expire()? as u64);
                self.clock.advance(RETENTION_AFTER + Duration::from_secs(1 + dice.roll(3_000)));
                self.counts.add("blocks expired", expire()? as u64);
            }
            2 | 3 => drop(self.told(self.db.flush(FlushScope::All))?),
            4 => drop(self.told(self.db.compact(dice.roll(2) == 0))?),
            5 => {
                let found = self.told(self.db.check_rollup(DATABASE, "minutes", &mut |_, _| {}))?;
                assert_eq!(found.differences, [], "seed {}", self.seed);
            }
            _ => drop(self.told(self.db.refresh(&RefreshScope::default()))?),
        }
        Some(())
    }

    fn late_rows(&self) -> u64 {
        late_rows(&self.db)
    }
}
