//! Round trips, skipping, damage and the worked example of FORMAT.md.
#![expect(clippy::single_range_in_vec_init, reason = "a read takes a list of ranges, often of one")]

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array,
    StringArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::DataType;
use bytes::Bytes;
use parquet::basic::Encoding;
use proptest::prelude::*;

use super::index::{IndexBuilder, SeriesIndex};
use super::*;
use crate::point::{SeriesOrder, TagSet, Time, TimeRange};

mod metrics; // of labels and their map

type Rows = (TagSet, Vec<Time>, Vec<Option<ArrayRef>>);

fn meta() -> BlockMeta {
    BlockMeta {
        database: "default".into(),
        table: "cpu".into(),
        kind: BlockKind::Points,
        seq_min: 3,
        seq_max: u64::MAX,
        partition: TimeRange::new(i64::MIN, i64::MAX),
        created_by: "0.1.0".into(),
    }
}

fn schema(tags: &[&str], fields: &[(&str, DataType)]) -> BlockSchema {
    let fields = fields
        .iter()
        .map(|(name, data_type)| BlockField { name: (*name).into(), data_type: data_type.clone() });
    BlockSchema {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        layout: TagLayout::Columns,
        fields: fields.collect(),
    }
}

/// Every type a field may have.
fn all_types() -> BlockSchema {
    let fields: Vec<(&str, DataType)> = schema::data_types().into_iter().collect();
    schema(&["dc", "host"], &fields)
}

fn write(schema: &BlockSchema, series: &[Rows]) -> (Bytes, BlockSummary) {
    let mut writer = BlockWriter::new(Vec::new(), schema.clone(), &meta(), Effort::Flush).unwrap();
    for (tags, times, columns) in series {
        writer.push_series(tags, times, columns).unwrap();
    }
    let (bytes, summary) = writer.finish().unwrap();
    assert_eq!(summary.bytes, bytes.len() as u64);
    (bytes.into(), summary)
}

/// `rows` values of each type; every third is missing, differently per column.
fn some_columns(schema: &BlockSchema, rows: usize, seed: usize) -> Vec<Option<ArrayRef>> {
    let column = |(place, field): (usize, &BlockField)| -> Option<ArrayRef> {
        if (seed + place).is_multiple_of(7) {
            return None;
        }
        let values = (0..rows).map(|row| ((row + place) % 3 != 0).then_some(row * 31 + seed));
        Some(match field.data_type {
            DataType::Float64 => {
                Arc::new(values.map(|v| v.map(|v| v as f64 / 8.0)).collect::<Float64Array>())
            }
            DataType::Int64 => Arc::new(values.map(|v| v.map(|v| v as i64 - 40)).collect::<Int64Array>()),
            DataType::UInt64 => {
                Arc::new(values.map(|v| v.map(|v| u64::MAX - v as u64)).collect::<UInt64Array>())
            }
            DataType::Boolean => Arc::new(values.map(|v| v.map(|v| v % 2 == 0)).collect::<BooleanArray>()),
            DataType::Utf8 => {
                Arc::new(values.map(|v| v.map(|v| format!("value {}", v % 50))).collect::<StringArray>())
            }
            DataType::Binary => Arc::new(values.map(|v| v.map(|v| v.to_le_bytes())).collect::<BinaryArray>()),
            DataType::Decimal128(..) => Arc::new(
                values
                    .map(|v| v.map(|v| (v as i128) << 60))
                    .collect::<Decimal128Array>()
                    .with_precision_and_scale(38, 0)
                    .unwrap(),
            ),
            _ => Arc::new(
                values
                    .map(|v| v.map(|v| v as i64))
                    .collect::<TimestampNanosecondArray>()
                    .with_timezone("UTC"),
            ),
        })
    };
    schema.fields.iter().enumerate().map(column).collect()
}

fn host(number: usize) -> TagSet {
    TagSet::new([("dc", format!("dc{}", number / 10)), ("host", format!("host_{number:04}"))])
}

/// What the series say that `rows` of field `field` are.
fn expected(
    series: &[Rows],
    schema: &BlockSchema,
    field: usize,
    rows: &[Range<u64>],
) -> (Vec<Time>, ArrayRef) {
    let data_type = &schema.fields[field].data_type;
    let column = |rows: &Rows| match &rows.2[field] {
        Some(column) => column.clone(),
        None => arrow::array::new_null_array(data_type, rows.1.len()),
    };
    let columns: Vec<ArrayRef> = series.iter().map(column).collect();
    let mut all: Vec<&dyn Array> = columns.iter().map(|column| column.as_ref()).collect();
    let empty = arrow::array::new_empty_array(data_type);
    all.push(&empty);
    let all = arrow::compute::concat(&all).unwrap();
    let times: Vec<Time> = series.iter().flat_map(|rows| rows.1.clone()).collect();
    let slice = |range: &Range<u64>| all.slice(range.start as usize, (range.end - range.start) as usize);
    let mut slices: Vec<ArrayRef> = rows.iter().map(slice).collect();
    slices.push(empty.clone());
    let slices: Vec<&dyn Array> = slices.iter().map(|slice| slice.as_ref()).collect();
    let times = rows.iter().flat_map(|range| times[range.start as usize..range.end as usize].to_vec());
    (times.collect(), arrow::compute::concat(&slices).unwrap())
}

fn check_read(block: &Block, bytes: &Bytes, series: &[Rows], fields: &[usize], rows: &[Range<u64>]) {
    let read = block.read(bytes.clone(), fields, rows).unwrap();
    assert_eq!(read.columns.len(), fields.len());
    for (field, column) in fields.iter().zip(&read.columns) {
        let (times, values) = expected(series, block.schema(), *field, rows);
        assert_eq!(&read.times[..], times);
        assert_eq!(column, &values, "field {field} rows {rows:?}");
    }
}

#[test]
fn every_type_survives_over_many_pages() {
    let schema = all_types();
    let series: Vec<Rows> = (0..40)
        .map(|number| {
            let rows = 1 + number * 37;
            let times = (0..rows).map(|row| row as i64 * 1_000_000_007).collect();
            (host(number), times, some_columns(&schema, rows, number))
        })
        .collect();
    let (bytes, summary) = write(&schema, &series);
    let block = Block::open(&bytes).unwrap();
    block.verify(&bytes).unwrap();
    assert_eq!((block.meta(), block.schema()), (&meta(), &schema));
    assert_eq!((summary.rows, summary.series), (block.rows(), 40));
    assert_eq!((summary.time, block.rows()), (block.time(), series.iter().map(|s| s.1.len() as u64).sum()));
    let all = 0..block.rows();
    check_read(&block, &bytes, &series, &[7, 0, 1, 2, 3, 4, 5, 6, 0], &[all]);
    check_read(&block, &bytes, &series, &[4, 1], &[0..1, 4_095..4_097, 9_000..12_300, 20_000..20_001]);
    check_read(&block, &bytes, &series, &[], &[5..6]);
    check_read(&block, &bytes, &series, &[2], &[]);
    for (ordinal, (tags, times, _)) in series.iter().enumerate() {
        let ordinal = ordinal as u32;
        assert_eq!(&block.index().key(ordinal), tags);
        assert_eq!(block.index().find(tags), Some(ordinal));
        assert_eq!(block.index().time(ordinal), TimeRange::new(times[0], times[times.len() - 1] + 1));
        assert_eq!(block.index().rows(ordinal).count(), times.len());
    }
    let before = block.memory_bytes();
    assert_eq!(block.index().postings("dc", "dc0").len(), 10);
    assert!(before > 1_000 && block.memory_bytes() > before);
}

/// How the last column of each row group is encoded, without its levels.
fn encodings(bytes: &Bytes) -> Vec<Vec<Encoding>> {
    let metadata = parquet::file::metadata::ParquetMetaDataReader::new().parse_and_finish(bytes).unwrap();
    let group = |group: &parquet::file::metadata::RowGroupMetaData| {
        let column = group.column(group.num_columns() - 1);
        assert_eq!(column.column_type(), parquet::basic::Type::DOUBLE, "the type is the table's");
        column.encodings().filter(|encoding| *encoding != Encoding::RLE).collect()
    };
    metadata.row_groups().iter().map(group).collect()
}

fn float_series(host_number: usize, rows: i64, value: impl Fn(i64) -> f64) -> Rows {
    let values: ArrayRef = Arc::new(Float64Array::from_iter_values((0..rows).map(value)));
    (host(host_number), (0..rows).collect(), vec![Some(values)])
}

/// Anything from 0 to 1, but the same each time.
fn noise(row: i64) -> f64 {
    let mixed = (row as u64 ^ 0x5bd1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ mixed >> 29) as f64 / u64::MAX as f64
}

#[test]
fn values_choose_the_encoding_of_their_page() {
    let schema = schema(&["dc", "host"], &[("v", DataType::Float64)]);
    let values: [(Encoding, &dyn Fn(i64) -> f64); 3] = [
        // Ten different ones in no order.
        (Encoding::RLE_DICTIONARY, &|row| (noise(row) * 10.0).floor() / 10.0),
        // Whole numbers that go up and down, too many for a dictionary.
        (Encoding::BYTE_STREAM_SPLIT, &|row| (1_000_000 + (noise(row) * 50_000.0) as i64) as f64),
        // A counter in hundredths.
        (Encoding::PLAIN, &|row| (row as f64 * 50.0 + (noise(row) * 50.0).floor()) / 100.0),
    ];
    let rows = ROW_GROUP_ROWS as i64;
    let series: Vec<Rows> =
        values.iter().enumerate().map(|(number, (_, value))| float_series(number, rows, value)).collect();
    let (bytes, _) = write(&schema, &series);
    let found = encodings(&bytes);
    assert_eq!(found.len(), 3);
    for ((expected, _), found) in values.iter().zip(&found) {
        // A dictionary is itself plain.
        assert!(
            found.contains(expected) && (found.len() == 1 || found.contains(&Encoding::RLE_DICTIONARY)),
            "{found:?}"
        );
    }
    let block = Block::open(&bytes).unwrap();
    check_read(&block, &bytes, &series, &[0], &[0..10, 1_048_570..1_048_580, 3_000_000..3_000_001]);

    // Series of different kinds in one row group have one each.
    let rows = 20 * PAGE_ROWS as i64;
    let series: Vec<Rows> =
        values.iter().enumerate().map(|(number, (_, value))| float_series(number, rows, value)).collect();
    let (bytes, _) = write(&schema, &series);
    let found = encodings(&bytes);
    assert_eq!(found.len(), 1);
    assert!(values.iter().all(|(expected, _)| found[0].contains(expected)), "{found:?}");
    let block = Block::open(&bytes).unwrap();
    check_read(&block, &bytes, &series, &[0], &[0..10, 81_900..82_000, 160_000..170_000]);
}

#[test]
fn pages_of_floats_without_values_or_with_one_value_come_back() {
    let schema = schema(&["dc", "host"], &[("v", DataType::Float64)]);
    let none = |number: usize, rows: i64| -> Rows { (host(number), (0..rows).collect(), vec![None]) };
    let series = [
        none(0, 9_000),
        float_series(1, 9_000, |_| 1.0),
        // More words than one byte tells, and a page of one of the later ones.
        float_series(2, 9_000, |row| (row % 300) as f64),
        float_series(3, 9_000, |_| 299.0),
        none(4, 3),
    ];
    let (bytes, _) = write(&schema, &series);
    let block = Block::open(&bytes).unwrap();
    check_read(&block, &bytes, &series, &[0], &[0..36_003]);
    assert_eq!(encodings(&bytes), [[Encoding::PLAIN, Encoding::RLE_DICTIONARY]]);
}

#[test]
fn every_encoding_gives_back_every_bit() {
    let schema = all_types();
    let bits = [0, 1 << 63, f64::NAN.to_bits(), f64::NAN.to_bits() | 1, f64::INFINITY.to_bits(), 1];
    // More different values than a dictionary may hold, and the odd ones among them.
    let value = |row: i64| match row % 3 {
        0 => f64::from_bits(bits[row as usize / 3 % bits.len()]),
        _ => noise(row),
    };
    let rows = 40_000;
    let mut columns = some_columns(&schema, rows, 5);
    let floats: Float64Array = (0..rows as i64).map(|row| (row % 7 != 2).then(|| value(row))).collect();
    let place = schema.fields.iter().position(|field| field.data_type == DataType::Float64).unwrap();
    columns[place] = Some(Arc::new(floats.clone()));
    let series: Vec<Rows> = vec![(host(1), (0..rows as i64).collect(), columns)];
    for encoding in ValueEncoding::ALL {
        let mut writer = BlockWriter::new(Vec::new(), schema.clone(), &meta(), Effort::Flush).unwrap();
        writer.force_encoding(encoding);
        writer.push_series(&series[0].0, &series[0].1, &series[0].2).unwrap();
        let bytes = Bytes::from(writer.finish().unwrap().0);
        let block = Block::open(&bytes).unwrap();
        block.verify(&bytes).unwrap();
        let others: Vec<usize> = (0..schema.fields.len()).filter(|field| *field != place).collect();
        check_read(&block, &bytes, &series, &others, &[0..5, 4_000..9_000, 39_999..40_000]);
        let read = block.read(bytes, &[place], &[0..rows as u64]).unwrap();
        let read = read.columns[0].as_primitive::<arrow::datatypes::Float64Type>();
        let bits = |array: &Float64Array| -> Vec<Option<u64>> {
            array.iter().map(|value| value.map(f64::to_bits)).collect()
        };
        assert_eq!(bits(&floats), bits(read), "{encoding:?}");
    }
}

#[test]
fn pages_and_row_groups_are_cut_where_they_should() {
    let schema = schema(&["host"], &[("v", DataType::Int64)]);
    let series: Vec<Rows> = [700_000, 600_000, 1_200_000, 10]
        .into_iter()
        .enumerate()
        .map(|(number, rows)| {
            let times = (0..rows as i64).collect();
            let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
            (TagSet::new([("host", number.to_string())]), times, vec![Some(values)])
        })
        .collect();
    let (bytes, _) = write(&schema, &series);
    let metadata = parquet::file::metadata::ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
    let groups: Vec<i64> = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
    // The second series would not fit behind the first; the third is longer than a group.
    assert_eq!(groups, [700_000, 600_000, 1 << 20, 1_200_010 - (1 << 20)]);
    let block = Block::open(&bytes).unwrap();
    check_read(
        &block,
        &bytes,
        &series,
        &[0],
        &[699_990..700_010, 1_299_999..1_300_001, 2_400_000..2_500_010],
    );

    // Only the pages that may hold such times remain, and within the series' own rows.
    assert_eq!(block.prune(700_000..1_300_000, TimeRange::new(20_000, 20_001)), 716_384..732_768);
    assert_eq!(block.prune(700_000..1_300_000, TimeRange::new(700_000, 800_000)), 700_000..700_000);
    assert_eq!(block.prune(700_000..1_300_000, TimeRange::ALL), 700_000..1_300_000);
    assert_eq!(block.prune(2_500_000..2_500_010, TimeRange::new(3, 4)), 2_500_000..2_500_010);
}

#[test]
fn one_series_in_many_pushes_is_one_series() {
    let schema = schema(&["host"], &[("v", DataType::Int64)]);
    let tags = TagSet::new([("host", "a")]);
    let push = |from: i64| -> Rows {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + 3));
        (tags.clone(), (from..from + 3).collect(), vec![Some(values)])
    };
    let series: Vec<Rows> = (0..5_000).map(|part| push(part * 3)).collect();
    let (bytes, summary) = write(&schema, &series);
    assert_eq!((summary.rows, summary.series), (15_000, 1));
    let block = Block::open(&bytes).unwrap();
    check_read(&block, &bytes, &series, &[0], &[0..15_000]);
    assert_eq!(block.index().rows(0), 0..15_000);
}

#[test]
fn colliding_names_come_back() {
    let schema = schema(&["Time", "host"], &[("host", DataType::Int64), ("HOST", DataType::Int64)]);
    let values: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let tags = TagSet::new([("Time", "x"), ("host", "y")]);
    let (bytes, _) = write(&schema, &[(tags.clone(), vec![1], vec![Some(values), None])]);
    let block = Block::open(&bytes).unwrap();
    assert_eq!((block.schema(), block.index().key(0)), (&schema, tags));
    let metadata = parquet::file::metadata::ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
    let columns = metadata.file_metadata().schema_descr().columns();
    let columns: Vec<&str> = columns.iter().map(|column| column.name()).collect();
    assert_eq!(columns, ["time", "Time.tag", "host.tag", "host.field", "HOST.field.2"]);
}

#[test]
fn an_empty_block_opens() {
    let (bytes, summary) = write(&all_types(), &[]);
    let block = Block::open(&bytes).unwrap();
    block.verify(&bytes).unwrap();
    assert_eq!((block.rows(), block.series_count(), summary.time.is_empty()), (0, 0, true));
    assert_eq!(block.read(bytes, &[0], &[]).unwrap().times.len(), 0);
    assert_eq!(block.prune(0..0, TimeRange::ALL), 0..0);
}

#[test]
fn what_must_not_be_written_is_refused() {
    let schema = schema(&["host"], &[("v", DataType::Int64)]);
    let a = TagSet::new([("host", "a")]);
    let b = TagSet::new([("host", "b")]);
    let other = TagSet::new([("rack", "a")]);
    let column = |rows: i64| -> Option<ArrayRef> { Some(Arc::new(Int64Array::from_iter_values(0..rows))) };
    let cases: [(&str, Vec<Rows>); 6] = [
        ("series", vec![(b.clone(), vec![1], vec![None]), (a.clone(), vec![1], vec![None])]),
        ("times", vec![(a.clone(), vec![2, 2], vec![None])]),
        ("goes on", vec![(a.clone(), vec![2], vec![None]), (a.clone(), vec![2], vec![None])]),
        ("rows", vec![(a.clone(), vec![2], vec![column(2)])]),
        ("columns", vec![(a, vec![2], vec![])]),
        ("tag", vec![(other, vec![2], vec![None])]),
    ];
    for (name, series) in cases {
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| write(&schema, &series)));
        assert!(result.is_err(), "{name}");
    }
}

#[test]
fn every_flipped_byte_and_every_cut_is_found() {
    let schema = all_types();
    let series: Vec<Rows> = (0..6)
        .map(|number| {
            (host(number * 7), (0..5).map(|row| row * 10).collect(), some_columns(&schema, 5, number))
        })
        .collect();
    let (bytes, _) = write(&schema, &series);
    let whole = Block::open(&bytes).unwrap();
    for place in 0..bytes.len() {
        for bit in [0x01, 0x80] {
            let mut damaged = bytes.to_vec();
            damaged[place] ^= bit;
            let damaged = Bytes::from(damaged);
            let error = match Block::open(&damaged) {
                Err(error) => error,
                Ok(block) => {
                    // The damage is in a page or in the magic: whoever reads it notices, also with a
                    // block opened before.
                    let read = whole.read(damaged.clone(), &[0, 1, 2, 3, 4, 5, 6, 7], &[0..30]);
                    if let Ok(read) = read {
                        let sound = whole.read(bytes.clone(), &[0, 1, 2, 3, 4, 5, 6, 7], &[0..30]).unwrap();
                        assert_eq!((&read.times, &read.columns), (&sound.times, &sound.columns));
                    }
                    block.verify(&damaged).unwrap_err()
                }
            };
            assert!(matches!(error, BlockError::Corrupt(_)), "byte {place}: {error}");
        }
    }
    for len in 0..bytes.len() {
        let error = Block::open(&bytes.slice(..len)).err().expect("a cut file is no block");
        assert!(matches!(error, BlockError::Corrupt(_)), "cut at {len}: {error}");
    }
}

#[test]
fn a_damaged_page_is_named_when_it_is_read_and_harms_no_other() {
    let schema = schema(&["host"], &[("v", DataType::Int64), ("w", DataType::Int64)]);
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values((0..20_000).map(|v| v * v % 1_009)));
    let series: Vec<Rows> =
        vec![(TagSet::new([("host", "a")]), (0..20_000).collect(), vec![Some(values.clone()), Some(values)])];
    let (bytes, _) = write(&schema, &series);
    let block = Block::open(&bytes).unwrap();
    // In the last page of the last column.
    let end = parquet::file::metadata::ParquetMetaDataReader::new()
        .parse_and_finish(&bytes)
        .map(|metadata| metadata.row_group(0).column(3).byte_range())
        .map(|(start, len)| start + len)
        .unwrap();
    let mut damaged = bytes.to_vec();
    damaged[end as usize - 1] ^= 1;
    let damaged = Bytes::from(damaged);
    let error = block.read(damaged.clone(), &[1], &[0..20_000]).err().unwrap();
    assert!(error.to_string().contains("a page does not match its checksum at byte"), "{error}");
    check_read(&block, &damaged, &series, &[0], &[0..20_000]);
    check_read(&block, &damaged, &series, &[1], &[0..16_384]);
}

#[test]
fn a_block_of_a_newer_version_is_refused() {
    let (text, newer) = (schema::encode(&all_types(), &meta()), format!("\"version\":{}", BLOCK_VERSION + 1));
    let text = text.replace("\"version\":1", &newer);
    let error = schema::decode(&text).unwrap_err();
    assert_eq!(error.what, "the block's version is newer than this program");
}

#[test]
fn postings_say_what_the_keys_say() {
    let mut builder = IndexBuilder::new(&["dc".into(), "host".into(), "unused".into()], SeriesOrder::Tags);
    let mut keys: Vec<TagSet> = (0..700).map(host).collect();
    keys.push(TagSet::default());
    keys.push(TagSet::new([("host", "alone")]));
    keys.sort();
    for key in &keys {
        builder.add_series(key);
        builder.add_rows(&[1, 5]);
    }
    let (index, _) = SeriesIndex::decode(&builder.encode(&[]).into(), SeriesOrder::Tags).unwrap();
    assert_eq!(index.tag_keys().collect::<Vec<_>>(), ["dc", "host"]);
    assert_eq!(index.values("dc").count(), 70);
    assert_eq!((index.values("unused").count(), index.all().len()), (0, 702));
    let ask = |wanted: &dyn Fn(&TagSet) -> bool| -> roaring::RoaringBitmap {
        (0..702).filter(|series| wanted(&keys[*series as usize])).collect()
    };
    assert_eq!(index.postings("dc", "dc3"), ask(&|key| key.get("dc") == Some("dc3")));
    assert_eq!(index.postings("host", "alone"), ask(&|key| key.get("host") == Some("alone")));
    assert_eq!(index.having("dc"), ask(&|key| key.get("dc").is_some()));
    let ends_in_7 = |value: &str| value.ends_with('7');
    assert_eq!(index.matching("host", ends_in_7), ask(&|key| key.get("host").is_some_and(ends_in_7)));
    assert!(index.postings("dc", "dc").is_empty() && index.postings("rack", "1").is_empty());
    assert_eq!((index.find(&TagSet::default()), index.find(&TagSet::new([("rack", "1")]))), (Some(0), None));
}

/// The example of FORMAT.md.
#[test]
fn the_index_is_what_format_md_shows() {
    let mut builder = IndexBuilder::new(&["dc".into(), "host".into()], SeriesOrder::Tags);
    for (key, times) in [
        (TagSet::new([("host", "web-2")]), vec![1_000, 2_000]),
        (TagSet::new([("dc", "eu"), ("host", "web-1")]), vec![1_000, 2_000, 4_000]),
        (TagSet::new([("dc", "eu"), ("host", "web-2")]), vec![2_000]),
    ] {
        builder.add_series(&key);
        builder.add_rows(&times);
    }
    let bytes = builder.encode(&[0xdead_beef]);
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let page = include_str!("../../FORMAT.md");
    let example = page.split("```hex block-index\n").nth(1).unwrap().split("```").next().unwrap();
    let shown = example.lines().flat_map(|line| line.split('#').next().unwrap().split_whitespace());
    assert_eq!(hex, shown.collect::<Vec<_>>());
    assert!(SeriesIndex::decode(&bytes.into(), SeriesOrder::Tags).is_ok());
}

fn any_series() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<i64>)>> {
    // Tag values by three small numbers, 0 for missing; steps between times.
    let key = prop::collection::vec(0u8..4, 3);
    let steps = prop::collection::vec(prop_oneof![1i64..3, 1i64..1_000_000_000_000], 1..300);
    prop::collection::vec((key, steps), 0..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_block_reads_back(raw in any_series(), cuts in prop::collection::vec(0.0..1.0f64, 0..8), start in -5i64..5) {
        let fields: Vec<(&str, DataType)> = schema::data_types().into_iter().collect();
        let schema = schema(&["a", "b", "c"], &fields);
        let mut series: Vec<Rows> = Vec::new();
        for (seed, (key, steps)) in raw.iter().enumerate() {
            let pairs = ["a", "b", "c"].into_iter().zip(key).filter(|(_, value)| **value > 0);
            let tags = TagSet::new(pairs.map(|(name, value)| (name, value.to_string())));
            let times: Vec<Time> = steps.iter().scan(start, |time, step| { *time += step; Some(*time) }).collect();
            let columns = some_columns(&schema, times.len(), seed);
            series.push((tags, times, columns));
        }
        series.sort_by(|a, b| a.0.cmp(&b.0));
        series.dedup_by(|a, b| a.0 == b.0);
        let (bytes, _) = write(&schema, &series);
        let block = Block::open(&bytes).unwrap();
        block.verify(&bytes).unwrap();
        for (ordinal, (tags, times, _)) in series.iter().enumerate() {
            prop_assert_eq!(&block.index().key(ordinal as u32), tags);
            prop_assert_eq!(block.index().find(tags), Some(ordinal as u32));
            let rows = block.index().rows(ordinal as u32);
            let middle = times[times.len() / 2];
            let asked = TimeRange::new(middle, middle + 1);
            let kept = block.prune(rows.clone(), asked);
            let read = block.read(bytes.clone(), &[], std::slice::from_ref(&kept)).unwrap();
            prop_assert!(kept.start >= rows.start && kept.end <= rows.end && read.times.contains(&middle));
        }
        let mut cuts: Vec<u64> = cuts.iter().map(|cut| (cut * block.rows() as f64) as u64).collect();
        cuts.sort_unstable();
        let ranges: Vec<Range<u64>> = cuts.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect();
        check_read(&block, &bytes, &series, &[0, 1, 2, 3, 4, 5, 6, 7], &ranges);
        check_read(&block, &bytes, &series, &[3, 1], &[0..block.rows()]);
    }

    #[test]
    fn any_index_bytes_are_survived(bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        for order in [SeriesOrder::Tags, SeriesOrder::Name] {
            let _ = SeriesIndex::decode(&bytes, order);
        }
    }

    #[test]
    fn any_file_is_survived(mut bytes: Vec<u8>, footer in 0u32..200) {
        bytes.extend(b"waterclock.index\x18\x3foffset=0000000000000000 length=0000000000000000 crc32c=00000000");
        bytes.extend(footer.to_le_bytes());
        bytes.extend(b"PAR1");
        prop_assert!(Block::open(&Bytes::from(bytes)).is_err());
    }
}
