//! The codecs of the head: CPU time and size of pushing, reading and sealing chunks, per kind of data.
//!
//! Each data set gives four lines: push (a row, so the time is in it), open (reading the open chunk), seal
//! (reading the open chunk and writing the smallest form), sealed (reading that). Every decoded value is
//! compared with what was pushed. The last lines are whole heads: what a value takes with all that stands around it.

use storage_format::chunk::{CHUNK_ROWS_MAX, Cell, ColumnValues, OpenChunk, SealedChunk, Values, describe};
use storage_format::point::Time;
use storage_format::text::StrValues;

use super::support::{Random, Report, Size, best_of};
use waterclock::head::SeriesHead;

const SEED: u64 = 7;
const FIELD: u32 = 3;
const START: Time = 1_767_225_600_000_000_000; // 2026-01-01
const STEP: i64 = 10_000_000_000;

pub fn run(size: Size) -> Vec<Report> {
    let rows = size.pick(4, 2_000) * CHUNK_ROWS_MAX;
    let runs = size.pick(1, 5);
    let mut reports = Vec::new();
    let regular: Vec<Time> = (0..rows as i64).map(|row| START + row * STEP).collect();
    let mut random = Random::new(SEED);
    let mut jittered = |unit: i64, most: i64| -> Vec<Time> {
        regular.iter().map(|time| time + random.range(-most, most + 1) * unit).collect()
    };
    bench_times("times 10 s", &regular, runs, &mut reports);
    bench_times("times 10 s, jitter 20 ms", &jittered(1_000_000, 20), runs, &mut reports);
    bench_times("times 10 s, jitter 1 ms in ns", &jittered(1, 1_000_000), runs, &mut reports);
    for (name, values) in data_sets(rows) {
        bench_field(name, &regular, &values, runs, &mut reports);
    }
    let series = size.pick(4, 1_000);
    // Percentages as TSBS has them, ten to a host; and the commonest gauge alone, which has to bear its series.
    let percent = |random: &mut Random| Walk::new(random.unit() * 100.0, 100.0, 0);
    let gauge = |random: &mut Random| Walk::new(random.unit() * 10_000.0, 20_000.0, 2);
    reports.extend(whole_head("10 integer percents", series, 10, percent));
    reports.extend(whole_head("1 gauge, 2 decimals", series, 1, gauge));
    reports
}

/// Steps of about one, up or down, between 0 and `most`; cut to whole numbers or rounded to decimals.
struct Walk {
    value: f64,
    most: f64,
    digits: i32,
}

impl Walk {
    fn new(value: f64, most: f64, digits: i32) -> Walk {
        Walk { value, most, digits }
    }

    fn next(&mut self, random: &mut Random) -> Cell<'static> {
        self.value = (self.value + (random.unit() + random.unit() - 1.0) * 2.5).clamp(0.0, self.most);
        match self.digits {
            0 => Cell::Int(self.value as i64),
            digits => Cell::Float((self.value * 10f64.powi(digits)).round() / 10f64.powi(digits)),
        }
    }
}

/// Three hours of points of many series, as the head holds them: sealed chunks, and the open one of each series.
fn whole_head(name: &str, series: usize, fields: u32, start: impl Fn(&mut Random) -> Walk) -> [Report; 2] {
    const ROWS: usize = 1_080;
    // A chunk is shared with readers (two counts), and the series points to it.
    const PER_CHUNK: usize = size_of::<SealedChunk>() + 2 * size_of::<usize>() + size_of::<usize>();
    // The series' page of the partition points to it.
    const PER_SERIES: usize = size_of::<SeriesHead>() + size_of::<usize>();
    let mut random = Random::new(SEED);
    let (mut sealed_values, mut columns, mut around, mut open) = (0, 0, 0, 0);
    for _ in 0..series {
        let mut walks: Vec<Walk> = (0..fields).map(|_| start(&mut random)).collect();
        let mut chunk = OpenChunk::new();
        for row in 0..ROWS {
            if chunk.is_full() {
                let sealed = chunk.seal();
                sealed_values += sealed.rows() * fields as usize;
                columns += sealed.heap_bytes();
                around += PER_CHUNK;
                chunk = OpenChunk::new();
            }
            let cells = walks.iter_mut().enumerate();
            let cells: Vec<(u32, Cell<'_>)> =
                cells.map(|(field, walk)| (field as u32, walk.next(&mut random))).collect();
            chunk.push(START + row as i64 * STEP, cells);
        }
        open += chunk.heap_bytes();
    }
    let per_value = |bytes: usize, values: usize| bytes as f64 / values as f64;
    let report = |what: &str, values: usize, bytes: usize, note: String| Report {
        name: format!("head, {name}: {what}"),
        values: values as u64,
        cpu_nanos: 0,
        bytes: bytes as u64,
        note,
    };
    let values = series * ROWS * fields as usize;
    let note = format!("{:.2} without what stands around each chunk", per_value(columns, sealed_values));
    let sealed = report("sealed chunks", sealed_values, columns + around, note);
    let note = format!("{PER_SERIES} bytes per series, open chunks {:.0}", per_value(open, series));
    let whole = report("whole", values, columns + around + open + series * PER_SERIES, note);
    [sealed, whole]
}

fn data_sets(rows: usize) -> Vec<(&'static str, Values)> {
    let mut random = Random::new(SEED);
    let walk = |random: &mut Random, step: i64| -> Vec<i64> {
        let mut value = 1_000_000;
        std::iter::repeat_with(|| {
            value += random.range(-step, step + 1);
            value
        })
        .take(rows)
        .collect()
    };
    let percent = |random: &mut Random| -> Vec<i64> {
        let mut value = 50i64;
        std::iter::repeat_with(|| {
            value = (value + random.range(-1, 2)).clamp(0, 100);
            value
        })
        .take(rows)
        .collect()
    };
    let counter = |random: &mut Random, most: i64| -> Vec<i64> {
        let mut value = 0;
        std::iter::repeat_with(|| {
            value += random.range(0, most);
            value
        })
        .take(rows)
        .collect()
    };
    // Idle most of the time, then bursts of any size: bytes sent, requests served.
    let bursts = |random: &mut Random| -> Vec<i64> {
        let mut value = 0;
        std::iter::repeat_with(|| {
            value += if random.range(0, 12) == 0 {
                (random.bits() >> random.range(44, 60)) as i64
            } else {
                random.range(0, 4)
            };
            value
        })
        .take(rows)
        .collect()
    };
    let floats =
        |values: Vec<i64>, scale: f64| values.into_iter().map(|value| value as f64 / scale).collect();
    let states = ["running", "idle", "waiting", "stopped"];
    let mut state = 0;
    vec![
        ("int walk +-100", Values::Int(walk(&mut random, 100))),
        ("int counter +0..1e6", Values::Int(counter(&mut random, 1_000_000))),
        ("int counter in bursts", Values::Int(bursts(&mut random))),
        ("int percent walk", Values::Int(percent(&mut random))),
        ("int noise 0..100", Values::Int((0..rows).map(|_| random.range(0, 101)).collect())),
        ("uint constant", Values::UInt(vec![1 << 40; rows])),
        ("float walk, 2 decimals", Values::Float(floats(walk(&mut random, 100), 100.0))),
        ("float percent, whole", Values::Float(floats(percent(&mut random), 1.0))),
        ("float percent, full mantissa", Values::Float((0..rows).map(|_| random.unit() * 100.0).collect())),
        ("float walk, full mantissa", {
            let mut value = 50.0;
            Values::Float(
                std::iter::repeat_with(|| {
                    value += random.unit() - 0.5;
                    value
                })
                .take(rows)
                .collect(),
            )
        }),
        ("float constant", Values::Float(vec![23.75; rows])),
        ("bool, flips 1 in 20", {
            let mut on = false;
            Values::Bool(
                std::iter::repeat_with(|| {
                    on ^= random.range(0, 20) == 0;
                    on
                })
                .take(rows)
                .collect(),
            )
        }),
        (
            "string of 4, changes 1 in 20",
            Values::Str(
                std::iter::repeat_with(|| {
                    if random.range(0, 20) == 0 {
                        state = random.range(0, 4) as usize;
                    }
                    states[state]
                })
                .take(rows)
                .collect::<StrValues>(),
            ),
        ),
    ]
}

fn bench_times(name: &str, times: &[Time], runs: usize, reports: &mut Vec<Report>) {
    let values = times.len() as u64;
    let mut add = |what: &str, cpu_nanos: u64, bytes: usize, note: String| {
        let name = format!("{name}: {what}");
        reports.push(Report { name, values, cpu_nanos, bytes: bytes as u64, note });
    };
    let (cpu, chunks) = best_of(runs, || {
        let push = |chunk: &mut OpenChunk, time: &Time| chunk.push(*time, []);
        times.chunks(CHUNK_ROWS_MAX).map(|part| fill(part.iter(), push)).collect::<Vec<OpenChunk>>()
    });
    add("push", cpu, chunks.iter().map(OpenChunk::heap_bytes).sum(), String::new());
    let mut out = Vec::with_capacity(times.len());
    let (cpu, ()) = best_of(runs, || {
        out.clear();
        chunks.iter().for_each(|chunk| chunk.decode_times(&mut out));
    });
    assert_eq!(out, times);
    add("open", cpu, 0, String::new());
    let (cpu, sealed) = best_of(runs, || chunks.iter().map(OpenChunk::seal).collect::<Vec<SealedChunk>>());
    let bytes = sealed.iter().map(|chunk| chunk.times_bytes().len()).sum();
    add("seal", cpu, bytes, describe(sealed[0].times_bytes()).expect("we wrote it"));
    let (cpu, ()) = best_of(runs, || {
        out.clear();
        sealed.iter().for_each(|chunk| chunk.decode_times(&mut out).expect("we wrote it"));
    });
    assert_eq!(out, times);
    add("sealed", cpu, 0, String::new());
}

fn bench_field(name: &str, times: &[Time], values: &Values, runs: usize, reports: &mut Vec<Report>) {
    let mut add = |what: &str, cpu_nanos: u64, bytes: usize, note: String| {
        let name = format!("{name}: {what}");
        reports.push(Report { name, values: times.len() as u64, cpu_nanos, bytes: bytes as u64, note });
    };
    let starts = || (0..times.len()).step_by(CHUNK_ROWS_MAX);
    let (cpu, chunks) = best_of(runs, || {
        let chunk = |start: usize| {
            let rows = start..times.len().min(start + CHUNK_ROWS_MAX);
            fill(rows, |chunk, row| {
                chunk.push(times[row], [(FIELD, values.get(row).expect("there is a value per time"))]);
            })
        };
        starts().map(chunk).collect::<Vec<OpenChunk>>()
    });
    let times_only: usize = starts()
        .map(|start| {
            let rows = &times[start..times.len().min(start + CHUNK_ROWS_MAX)];
            fill(rows.iter(), |chunk, time: &Time| chunk.push(*time, [])).heap_bytes()
        })
        .sum();
    let bytes = chunks.iter().map(OpenChunk::heap_bytes).sum::<usize>() - times_only;
    add("push", cpu, bytes, "with its time; bytes with 64 of state per chunk".to_owned());
    let (cpu, columns) = best_of(runs, || {
        let decode = |chunk: &OpenChunk| chunk.decode_column(FIELD).expect("the column is there");
        chunks.iter().map(decode).collect::<Vec<ColumnValues>>()
    });
    check(values, &columns);
    add("open", cpu, 0, String::new());
    let (cpu, sealed) = best_of(runs, || chunks.iter().map(OpenChunk::seal).collect::<Vec<SealedChunk>>());
    let bytes_of = |chunk: &SealedChunk| chunk.column_bytes(FIELD).expect("the column is there").len();
    add("seal", cpu, sealed.iter().map(bytes_of).sum(), format!("with its time; {}", codecs(&sealed)));
    let (cpu, columns) = best_of(runs, || {
        let decode =
            |chunk: &SealedChunk| chunk.decode_column(FIELD).expect("we wrote it").expect("it is there");
        sealed.iter().map(decode).collect::<Vec<ColumnValues>>()
    });
    check(values, &columns);
    add("sealed", cpu, 0, String::new());
}

fn fill<T>(rows: impl Iterator<Item = T>, push: impl Fn(&mut OpenChunk, T)) -> OpenChunk {
    let mut chunk = OpenChunk::new();
    rows.for_each(|row| push(&mut chunk, row));
    chunk
}

/// The codecs that were chosen, the most frequent first.
fn codecs(chunks: &[SealedChunk]) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for chunk in chunks {
        let name = describe(chunk.column_bytes(FIELD).expect("the column is there")).expect("we wrote it");
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let share = |(name, count): &(String, usize)| format!("{name} {}%", count * 100 / chunks.len());
    counts.iter().take(3).map(share).collect::<Vec<_>>().join(", ")
}

fn check(values: &Values, columns: &[ColumnValues]) {
    let mut row = 0;
    for column in columns {
        for index in 0..column.len() {
            let same = match (column.get(index), values.get(row)) {
                (Some(Cell::Float(a)), Some(Cell::Float(b))) => a.to_bits() == b.to_bits(),
                (a, b) => a == b,
            };
            assert!(same, "row {row} came back as another value");
            row += 1;
        }
    }
    assert_eq!(row, values.len());
}
