//! Blocks of metrics with a column for every label, and with the commonest as columns and the others in a map: bytes and
//! CPU time of writing.
//!
//! A node exporter's labels are few; beside it stand a cluster's, a few of hundreds on each series.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::DataType;
use bytes::Bytes;
use storage_format::block::{Block, BlockField, BlockKind, BlockMeta, BlockSchema, BlockWriter, Effort};
use storage_format::point::{METRIC_NAME, SeriesOrder, TagSet, Time, TimeRange};

use super::support::{Random, Report, Size, best_of};

const SEED: u64 = 7;
const START: Time = 1_767_225_600_000_000_000; // 2026-01-01
const STEP: i64 = 15_000_000_000;

/// Two hours, a partition.
const ROWS: i64 = 480;

/// Labels that pods have beside those that all of them have.
const OWN_LABELS: i64 = 400;

pub fn run(size: Size) -> Vec<Report> {
    let mut random = Random::new(SEED);
    let nodes = nodes(size.pick(2, 10));
    let mut both = nodes.clone();
    both.extend(pods(size.pick(30, 1_000), &mut random));
    let mut reports = Vec::new();
    for (name, mut series) in [("node exporter", nodes), ("node exporter and pods", both)] {
        for (layout, order) in [("columns", SeriesOrder::Tags), ("columns and a map", SeriesOrder::Name)] {
            series.sort_by(|a, b| order.cmp(a, b));
            reports.push(measured(&format!("labels, {name}: {layout}"), &series, order));
        }
    }
    reports
}

fn measured(name: &str, series: &[TagSet], order: SeriesOrder) -> Report {
    let mut random = Random::new(SEED);
    let mut values = 0.0;
    let columns: Vec<ArrayRef> = series
        .iter()
        .map(|tags| {
            // Six of ten never change.
            let changes = tags.as_bytes().iter().map(|byte| u64::from(*byte)).sum::<u64>() % 10 >= 6;
            let next = |_| {
                values = if changes { values + random.range(0, 100) as f64 } else { 1.0 };
                values
            };
            Arc::new(Float64Array::from_iter_values((0..ROWS).map(next))) as ArrayRef
        })
        .collect();
    let (cpu_nanos, file) = best_of(1, || write(series, &columns, order));
    let block = Block::open(&file).expect("we wrote it");
    block.verify(&file).expect("it is sound");
    assert_eq!(block.audit(file.clone()).expect("it can be read"), None);
    let metadata =
        parquet::file::metadata::ParquetMetaDataReader::new().parse_and_finish(&file).expect("we wrote it");
    let chunks = metadata.row_groups().iter().flat_map(|group| group.columns());
    let is_label = |path: &str| path != "time" && path != "value";
    let labels = chunks.filter(|chunk| is_label(&chunk.column_path().string()));
    let (mut columns, mut bytes) = (0, 0);
    labels.for_each(|chunk| (columns, bytes) = (columns + 1, bytes + chunk.compressed_size()));
    Report {
        name: name.to_string(),
        values: series.len() as u64 * ROWS as u64,
        cpu_nanos,
        bytes: file.len() as u64,
        note: format!(
            "{} bytes, of which {bytes} in {columns} chunks of labels; {} open",
            file.len(),
            block.memory_bytes()
        ),
    }
}

/// As a node exporter has them: a hundred metrics of each host, with a label or two beside the target's.
fn nodes(hosts: usize) -> Vec<TagSet> {
    let own =
        ["cpu", "mode", "device", "mountpoint", "fstype", "interface", "chip", "sensor", "type", "name"];
    let mut series = Vec::new();
    for host in 0..hosts {
        for metric in 0..100 {
            for value in 0..8 {
                let mut tags = vec![
                    (METRIC_NAME, format!("node_metric_{metric:03}_total")),
                    ("instance", format!("host-{host:03}:9100")),
                    ("job", "node".to_string()),
                    ("dc", format!("dc{}", host % 3)),
                    (own[metric % own.len()], format!("v{value}")),
                ];
                if metric % 4 == 0 {
                    tags.push((own[(metric + 1) % own.len()], format!("w{}", value % 3)));
                }
                series.push(TagSet::new(tags));
            }
        }
    }
    series
}

/// Three metrics of each pod; every pod has a few labels of its own application.
fn pods(count: usize, random: &mut Random) -> Vec<TagSet> {
    let mut series = Vec::new();
    for pod in 0..count {
        let own: Vec<(String, String)> = (0..4)
            .map(|_| {
                (format!("label_app_{:03}", random.range(0, OWN_LABELS)), format!("v{}", random.range(0, 5)))
            })
            .collect();
        for metric in ["kube_pod_labels", "kube_pod_info", "kube_pod_status_phase"] {
            let mut tags = std::collections::BTreeMap::from(
                [
                    (METRIC_NAME, metric.to_string()),
                    ("job", "kube-state-metrics".to_string()),
                    ("namespace", format!("ns{}", pod % 20)),
                    ("pod", format!("pod-{pod:05}")),
                ]
                .map(|(name, value)| (name.to_string(), value)),
            );
            tags.extend(own.iter().cloned());
            series.push(TagSet::new(tags));
        }
    }
    series
}

fn write(series: &[TagSet], columns: &[ArrayRef], order: SeriesOrder) -> Bytes {
    let fields = vec![BlockField { name: "value".to_string(), data_type: DataType::Float64 }];
    let schema = BlockSchema::of_series(order, series.iter(), fields);
    let meta = BlockMeta {
        database: "default".to_string(),
        table: "metrics".to_string(),
        kind: BlockKind::Points,
        seq_min: 1,
        seq_max: 1,
        partition: TimeRange::new(START, START + ROWS * STEP),
        created_by: "benchmark".to_string(),
    };
    let times: Vec<Time> = (0..ROWS).map(|row| START + row * STEP).collect();
    let mut writer = BlockWriter::new(Vec::new(), schema, &meta, Effort::Compaction).expect("a sound schema");
    for (tags, column) in series.iter().zip(columns) {
        writer.push_series(tags, &times, &[Some(Arc::clone(column))]).expect("memory has room");
    }
    writer.finish().expect("memory has room").0.into()
}
