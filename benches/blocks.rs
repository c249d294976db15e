//! The columns of blocks: CPU time of writing, scanning and looking up one series, and size, per kind of
//! values and per encoding, the chosen one last.
//!
//! One series has 1,080 rows, 3 hours at 10 s, and a block one field, unless it says otherwise. Every value
//! read is compared with what was written.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use bytes::Bytes;
use storage_format::block::{
    Block, BlockField, BlockKind, BlockMeta, BlockSchema, BlockWriter, Effort, TagLayout, ValueEncoding,
};
use storage_format::point::{TagSet, Time, TimeRange};

use super::support::{Random, Report, Size, best_of};

const SEED: u64 = 7;
const START: Time = 1_767_225_600_000_000_000; // 2026-01-01
const STEP: i64 = 10_000_000_000;
const ROWS_PER_SERIES: usize = 1_080;
const LOOKUPS: usize = 100;

pub fn run(size: Size) -> Vec<Report> {
    let series = size.pick(5, 1_000);
    let runs = size.pick(1, 3);
    let mut reports = Vec::new();
    for (name, column) in columns(series) {
        for encoding in
            [Some(ValueEncoding::Direct), Some(ValueEncoding::Split), Some(ValueEncoding::Dictionary), None]
        {
            let integers = column.data_type() == &DataType::Int64;
            if !(integers && encoding == Some(ValueEncoding::Split)) {
                bench_column(name, &column, encoding, runs, &mut reports);
            }
        }
    }
    reports.push(narrow(size.pick(5, 2_000)));
    reports.extend(times(size.pick(5, 500)));
    reports
}

/// What a server's own collector reports, and TSBS' percentages.
fn columns(series: usize) -> Vec<(&'static str, ArrayRef)> {
    let mut random = Random::new(SEED);
    let percents = per_series(series, &mut random, |random| {
        let mut value = random.unit() * 100.0;
        move |random| {
            value = (value + normal(random)).clamp(0.0, 100.0);
            value.floor()
        }
    });
    let whole: Vec<i64> = percents.iter().map(|value| *value as i64).collect();
    let mut columns: Vec<(&'static str, ArrayRef)> = vec![
        ("percent, integers", Arc::new(Int64Array::from(whole))),
        ("percent, whole floats", Arc::new(Float64Array::from(percents))),
    ];
    for (name, make) in exporter() {
        let values = per_series(series, &mut random, make);
        columns.push((name, Arc::new(Float64Array::from(values))));
    }
    columns
}

type Next = Box<dyn FnMut(&mut Random) -> f64>;
type Make = fn(&mut Random) -> Next;

/// The shapes of node-exporter's metrics, all floats.
fn exporter() -> [(&'static str, Make); 13] {
    fn counter(start: i64, mut step: impl FnMut(&mut Random) -> i64 + 'static, scale: f64) -> Next {
        let mut value = start;
        Box::new(move |random| {
            value += step(random);
            value as f64 / scale
        })
    }
    fn gauge(start: f64, step: f64, digits: i32) -> Next {
        let mut value = start;
        let scale = 10f64.powi(digits);
        Box::new(move |random| {
            value = (value + normal(random) * step).abs();
            (value * scale).round() / scale
        })
    }
    [
        ("cpu seconds, busy, 2 decimals", |random| {
            let rate = [20, 100, 500, 950][random.bits() as usize % 4];
            counter(
                random.range(0, 100_000_000),
                move |random| random.range(rate / 2, rate + rate / 2),
                100.0,
            )
        }),
        ("cpu seconds, idle modes, 2 decimals", |random| {
            let chance = [3, 20, 200][random.bits() as usize % 3];
            counter(random.range(0, 1_000_000), move |random| (random.range(0, chance) == 0).into(), 100.0)
        }),
        ("bytes sent, in bursts", |random| {
            counter(
                random.range(0, 100_000_000_000),
                |random| {
                    if random.range(0, 3) == 0 { 0 } else { (random.bits() >> random.range(44, 58)) as i64 }
                },
                1.0,
            )
        }),
        ("requests, whole", |random| {
            let rate = [1, 2, 6, 100][random.bits() as usize % 4];
            counter(random.range(0, 1_000_000), move |random| random.range(0, rate), 1.0)
        }),
        ("memory, bytes in pages of 4 KiB", |random| {
            let mut pages = random.range(100_000, 1_000_000);
            Box::new(move |random| {
                pages += random.range(-200, 201);
                (pages * 4_096) as f64
            })
        }),
        ("load, 2 decimals", |random| gauge(random.unit() * 4.0, 0.05, 2)),
        ("temperature, 1 decimal", |random| gauge(20.0 + random.unit() * 40.0, 0.1, 1)),
        ("temperature, 3 decimals", |random| gauge(20.0 + random.unit() * 40.0, 0.3, 3)),
        ("walk +-100, 2 decimals", |_| counter(1_000_000, |random| random.range(-100, 101), 100.0)),
        ("up, 0 or 1", |random| {
            let mut up = random.range(0, 10) != 0;
            Box::new(move |random| {
                up ^= random.range(0, 500) == 0;
                up.into()
            })
        }),
        ("constant", |random| {
            let value = random.range(0, 1_000_000_000) as f64;
            Box::new(move |_| value)
        }),
        ("time, seconds with 3 decimals", |_| {
            let mut tick = 0;
            Box::new(move |random| {
                tick += 10_000;
                (1_767_225_600_000 + tick + random.range(0, 50)) as f64 / 1_000.0
            })
        }),
        ("noise, full mantissa", |_| Box::new(Random::unit)),
    ]
}

fn per_series<F: FnMut(&mut Random) -> f64>(
    series: usize,
    random: &mut Random,
    make: impl Fn(&mut Random) -> F,
) -> Vec<f64> {
    let mut values = Vec::with_capacity(series * ROWS_PER_SERIES);
    for _ in 0..series {
        let mut next = make(random);
        values.extend((0..ROWS_PER_SERIES).map(|_| next(random)));
    }
    values
}

/// The sum of twelve uniform numbers, shifted: mean 0, variance 1.
fn normal(random: &mut Random) -> f64 {
    (0..12).map(|_| random.unit()).sum::<f64>() - 6.0
}

fn regular() -> Vec<Time> {
    (0..ROWS_PER_SERIES as i64).map(|row| START + row * STEP).collect()
}

fn bench_column(
    name: &str,
    column: &ArrayRef,
    encoding: Option<ValueEncoding>,
    runs: usize,
    reports: &mut Vec<Report>,
) {
    let times = regular();
    let values = column.len() as u64;
    let series: Vec<(TagSet, &[Time], ArrayRef)> = (0..column.len() / ROWS_PER_SERIES)
        .map(|place| {
            let tags = TagSet::new([("host", format!("host_{place:06}"))]);
            (tags, times.as_slice(), column.slice(place * ROWS_PER_SERIES, ROWS_PER_SERIES))
        })
        .collect();
    let (write, file) = best_of(runs, || write(&series, encoding));
    let sizes = sizes(&file);
    let block = Block::open(&file).expect("we wrote it");
    let all = 0..block.rows();
    let (scan, read) =
        best_of(runs, || block.read(file.clone(), &[0], std::slice::from_ref(&all)).expect("sound"));
    check(column, &read.columns[0]);
    let (lookup, ()) = best_of(runs, || {
        for place in 0..LOOKUPS {
            let series = (place * 37 % series.len()) as u32;
            let rows = block.prune(block.index().rows(series), TimeRange::ALL);
            let read = block.read(file.clone(), &[0], &[rows]).expect("sound");
            assert_eq!(read.times.len(), ROWS_PER_SERIES);
        }
    });
    let how = encoding.map_or_else(
        || format!("chosen ({})", encodings(&file)),
        |encoding| format!("{encoding:?}").to_lowercase(),
    );
    let what = format!("block, {name}: {how}");
    reports.push(Report {
        name: format!("{what}: write"),
        values,
        cpu_nanos: write,
        bytes: sizes.field,
        note: "with its time; bytes are the field's".to_string(),
    });
    let note = format!("with its time; one series: {:.0} us CPU", lookup as f64 / LOOKUPS as f64 / 1_000.0);
    reports.push(Report { name: format!("{what}: scan"), values, cpu_nanos: scan, bytes: 0, note });
}

/// One value per row, as Prometheus has it: what of the file is not the values.
fn narrow(series: usize) -> Report {
    let mut random = Random::new(SEED);
    let times = regular();
    let shapes = exporter();
    let series: Vec<(TagSet, Vec<Time>, ArrayRef)> = (0..series)
        .map(|place| {
            let (metric, host) = (place / 40, place % 40);
            // Most of what an exporter tells is constant.
            let shape = if metric % 10 < 6 { 10 } else { metric % 12 };
            let tags = TagSet::new([
                ("__name__", format!("node_metric_{metric:04}")),
                ("instance", format!("host-{host:03}:9100")),
                ("job", "node".to_string()),
            ]);
            let values = per_series(1, &mut random, shapes[shape].1);
            let offset = host as i64 * 239_000_000;
            let times = times.iter().map(|time| time + offset).collect();
            (tags, times, Arc::new(Float64Array::from(values)) as ArrayRef)
        })
        .collect();
    let values = (series.len() * ROWS_PER_SERIES) as u64;
    let (cpu_nanos, file) = best_of(1, || write(&series, None));
    let sizes = sizes(&file);
    let per_value = |bytes: u64| bytes as f64 / values as f64;
    Report {
        name: "block, one value per row, node-exporter's mix, whole file: write".to_string(),
        values,
        cpu_nanos,
        bytes: file.len() as u64,
        note: format!(
            "values {:.3}, times {:.3}, tags {:.3}, series index {:.3}, footer {:.3} ({})",
            per_value(sizes.field),
            per_value(sizes.time),
            per_value(sizes.tags),
            per_value(sizes.index),
            per_value(file.len() as u64 - sizes.field - sizes.time - sizes.tags - sizes.index),
            encodings(&file),
        ),
    }
}

/// The time column of series that do not tick alike.
fn times(series: usize) -> Vec<Report> {
    let mut random = Random::new(SEED);
    let zeros: ArrayRef = Arc::new(Float64Array::from(vec![0.0; ROWS_PER_SERIES]));
    let mut bench = |name: &str, jitter: &dyn Fn(&mut Random) -> i64| {
        let series: Vec<(TagSet, Vec<Time>, ArrayRef)> = (0..series)
            .map(|place| {
                let tags = TagSet::new([("host", format!("host_{place:06}"))]);
                let times = regular().into_iter().map(|time| time + jitter(&mut random)).collect();
                (tags, times, zeros.clone())
            })
            .collect();
        let (cpu_nanos, file) = best_of(1, || write(&series, None));
        Report {
            name: format!("block, times 10 s, {name}: write"),
            values: (series.len() * ROWS_PER_SERIES) as u64,
            cpu_nanos,
            bytes: sizes(&file).time,
            note: "with a field of zeros; bytes are the times'".to_string(),
        }
    };
    vec![
        bench("regular", &|_| 0),
        bench("1 of 20 late by up to 20 ms", &|random| {
            if random.range(0, 20) == 0 { random.range(0, 20) * 1_000_000 } else { 0 }
        }),
        bench("jitter 20 ms", &|random| random.range(-20, 21) * 1_000_000),
        bench("jitter 1 ms in ns", &|random| random.range(-1_000_000, 1_000_001)),
    ]
}

fn write<T: AsRef<[Time]>>(series: &[(TagSet, T, ArrayRef)], encoding: Option<ValueEncoding>) -> Bytes {
    let data_type = series[0].2.data_type().clone();
    let schema = BlockSchema {
        tags: series[0].0.iter().map(|(tag, _)| tag.to_string()).collect(),
        layout: TagLayout::Columns,
        fields: vec![BlockField { name: "value".to_string(), data_type }],
    };
    let meta = BlockMeta {
        database: "default".to_string(),
        table: "t".to_string(),
        kind: BlockKind::Points,
        seq_min: 1,
        seq_max: 1,
        partition: TimeRange::new(START, START + 86_400_000_000_000),
        created_by: "benchmark".to_string(),
    };
    let mut writer = BlockWriter::new(Vec::new(), schema, &meta, Effort::Compaction).expect("a sound schema");
    if let Some(encoding) = encoding {
        writer.force_encoding(encoding);
    }
    for (tags, times, column) in series {
        writer.push_series(tags, times.as_ref(), &[Some(column.clone())]).expect("memory has room");
    }
    writer.finish().expect("memory has room").0.into()
}

struct Sizes {
    time: u64,
    tags: u64,
    field: u64,
    index: u64,
}

fn sizes(file: &Bytes) -> Sizes {
    let metadata =
        parquet::file::metadata::ParquetMetaDataReader::new().parse_and_finish(file).expect("we wrote it");
    let mut sizes = Sizes { time: 0, tags: 0, field: 0, index: 0 };
    for group in metadata.row_groups() {
        let columns = group.columns();
        for (place, column) in columns.iter().enumerate() {
            let bytes = column.compressed_size() as u64;
            match place {
                0 => sizes.time += bytes,
                _ if place + 1 == columns.len() => sizes.field += bytes,
                _ => sizes.tags += bytes,
            }
        }
    }
    let index = metadata.file_metadata().key_value_metadata().into_iter().flatten();
    let index =
        index.filter_map(|pair| pair.value.as_deref()).find_map(|value| value.split("length=").nth(1));
    let length = index.and_then(|text| text.get(..16)).expect("the seal says where the index is");
    sizes.index = u64::from_str_radix(length, 16).expect("sixteen digits");
    sizes
}

/// What the row groups' fields are encoded in, each named once.
fn encodings(file: &Bytes) -> String {
    let metadata =
        parquet::file::metadata::ParquetMetaDataReader::new().parse_and_finish(file).expect("we wrote it");
    let mut names: Vec<String> = Vec::new();
    for group in metadata.row_groups() {
        let column = group.columns().last().expect("there is a field");
        let named = column.encodings().map(|encoding| encoding.to_string()).collect::<Vec<_>>().join("+");
        if !names.contains(&named) {
            names.push(named);
        }
    }
    names.join(", ").to_lowercase()
}

fn check(written: &ArrayRef, read: &ArrayRef) {
    if written.data_type() == &DataType::Int64 {
        assert_eq!(written.as_primitive::<Int64Type>(), read.as_primitive::<Int64Type>());
        return;
    }
    let bits = |array: &ArrayRef| -> Vec<u64> {
        array.as_primitive::<Float64Type>().values().iter().map(|value| value.to_bits()).collect()
    };
    assert_eq!(bits(written), bits(read));
}
