//! What every benchmark shares: sizes, random numbers that are the same in every run, CPU time, and the table.
//!
//! CPU time, not wall time: these machines are shared.

use rustix::time::{ClockId, clock_gettime};

/// Small runs as a test in milliseconds; full gives the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "the tests run the small size, the benchmark the full one")]
pub enum Size {
    Small,
    Full,
}

impl Size {
    pub fn pick<T>(self, small: T, full: T) -> T {
        match self {
            Size::Small => small,
            Size::Full => full,
        }
    }
}

/// One row of the table.
pub struct Report {
    pub name: String,
    pub values: u64,
    pub cpu_nanos: u64,
    /// What the values take, where that is what was measured.
    pub bytes: u64,
    pub note: String,
}

/// Aligned, one line per report. CPU time is in milliseconds per million values, which are nanoseconds per value.
pub fn table(reports: &[Report]) -> String {
    let width = reports.iter().map(|report| report.name.len()).max().unwrap_or(0);
    let mut text =
        format!("{:width$}  {:>9}  {:>8}  {:>8}  {:>7}  note\n", "", "values", "CPU ms/M", "B/value", "bits");
    for report in reports {
        let values = report.values.max(1) as f64;
        let bytes = report.bytes as f64 / values;
        let size = match report.bytes {
            0 => format!("{:>8}  {:>7}", "", ""),
            _ => format!("{:>8.2}  {:>7.2}", bytes, bytes * 8.0),
        };
        let cpu = match report.cpu_nanos {
            0 => String::new(),
            nanos => format!("{:.2}", nanos as f64 / values),
        };
        text += format!("{:width$}  {:>9}  {cpu:>8}  {size}  {}", report.name, report.values, report.note)
            .trim_end();
        text.push('\n');
    }
    text
}

/// The same as lines of CSV, for benches/results.
pub fn csv(reports: &[Report]) -> String {
    let line = |report: &Report| {
        let per_value = |amount: u64| match amount {
            0 => String::new(),
            amount => format!("{:.2}", amount as f64 / report.values.max(1) as f64),
        };
        let note = report.note.replace('"', "'");
        let (cpu, bytes) = (per_value(report.cpu_nanos), per_value(report.bytes));
        format!("\"{}\",{},{cpu},{bytes},\"{note}\"\n", report.name, report.values)
    };
    reports.iter().map(line).collect()
}

/// The names of the columns of [`csv`].
pub const CSV_HEADER: &str = "name,values,cpu_ms_per_million_values,bytes_per_value,note\n";

/// This thread's CPU time for the best of a few runs, and what the last one returned.
pub fn best_of<T>(runs: usize, mut work: impl FnMut() -> T) -> (u64, T) {
    let mut best = u64::MAX;
    let mut result = None;
    for _ in 0..runs.max(1) {
        let start = thread_cpu_nanos();
        let out = std::hint::black_box(work());
        best = best.min(thread_cpu_nanos() - start);
        result = Some(out);
    }
    (best, result.expect("it ran at least once"))
}

/// CPU time of the calling thread.
pub fn thread_cpu_nanos() -> u64 {
    cpu_nanos(ClockId::ThreadCPUTime)
}

/// CPU time of all threads together: for work that is spread over them.
pub fn process_cpu_nanos() -> u64 {
    cpu_nanos(ClockId::ProcessCPUTime)
}

fn cpu_nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// For the wall time beside the CPU time, where a person waits.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures the machine's time")]
pub fn wall() -> std::time::Instant {
    std::time::Instant::now()
}

/// SplitMix64: small, and good enough for data.
pub struct Random {
    state: u64,
}

impl Random {
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `low..high`.
    pub fn range(&mut self, low: i64, high: i64) -> i64 {
        low + (self.bits() % (high - low) as u64) as i64
    }

    /// In `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}
