//! Blocks of metrics: which labels have columns, the map of the others, the order of series.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;
use crate::point::METRIC_NAME;

/// A block of these series, a float for each time.
fn metrics(mut series: Vec<(TagSet, Vec<Time>)>) -> (Bytes, Vec<(TagSet, Vec<Time>)>) {
    series.sort_by(|a, b| SeriesOrder::Name.cmp(&a.0, &b.0));
    let fields = vec![BlockField { name: "value".into(), data_type: DataType::Float64 }];
    let schema = BlockSchema::of_series(SeriesOrder::Name, series.iter().map(|(tags, _)| tags), fields);
    let rows = |(tags, times): &(TagSet, Vec<Time>)| -> Rows {
        let values: ArrayRef =
            Arc::new(Float64Array::from_iter_values(times.iter().map(|time| *time as f64)));
        (tags.clone(), times.clone(), vec![Some(values)])
    };
    let (bytes, _) = write(&schema, &series.iter().map(rows).collect::<Vec<Rows>>());
    (bytes, series)
}

fn metric<'a>(name: &'a str, labels: &[(&'a str, &'a str)]) -> TagSet {
    TagSet::new([(METRIC_NAME, name)].into_iter().chain(labels.iter().copied()))
}

/// As a reader that knows nothing of us has it.
fn plain_read(bytes: &Bytes) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap().build().unwrap();
    reader.map(|batch| batch.unwrap()).collect()
}

/// The footer's words: the column of each tag that has one.
fn told_columns(bytes: &Bytes) -> BTreeMap<String, String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
    let mut pairs = builder.metadata().file_metadata().key_value_metadata().into_iter().flatten();
    let footer = pairs.find(|pair| pair.key == "waterclock.block").unwrap().value.clone().unwrap();
    let footer: serde_json::Value = serde_json::from_str(&footer).unwrap();
    assert_eq!((&footer["version"], &footer["labels"]), (&2.into(), &"labels".into()));
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let tags = footer["tags"].as_array().unwrap().iter();
    tags.filter_map(|tag| Some((text(&tag["name"])?, text(&tag["column"])?))).collect()
}

/// The tags of each row, from its columns and its map; and that the map is null where it says nothing.
fn tags_of_rows(bytes: &Bytes) -> Vec<TagSet> {
    let columns = told_columns(bytes);
    let mut found = Vec::new();
    for batch in plain_read(bytes) {
        let map = batch.column_by_name("labels").unwrap().as_map();
        for row in 0..batch.num_rows() {
            let of_columns = columns.iter().filter_map(|(tag, column)| {
                let column = batch.column_by_name(column).unwrap().as_string::<i32>();
                column.is_valid(row).then(|| (tag.clone(), column.value(row).to_owned()))
            });
            let entries = map.value(row);
            let texts = |place: usize| entries.column(place).as_string::<i32>().iter().flatten();
            let of_map: Vec<_> =
                texts(0).zip(texts(1)).map(|(key, value)| (key.into(), value.into())).collect();
            assert_eq!(map.is_null(row), of_map.is_empty());
            assert!(of_map.iter().all(|(key, _): &(String, String)| !columns.contains_key(key)));
            found.push(TagSet::new(of_columns.chain(of_map)));
        }
    }
    found
}

fn check(bytes: &Bytes, series: &[(TagSet, Vec<Time>)]) {
    let block = Block::open(bytes).unwrap();
    block.verify(bytes).unwrap();
    assert_eq!(block.audit(bytes.clone()).unwrap(), None);
    let every_tag: BTreeSet<&str> =
        series.iter().flat_map(|(tags, _)| tags.iter().map(|(tag, _)| tag)).collect();
    assert!(block.index().tag_keys().eq(every_tag.iter().copied()), "the index keeps all tags, sorted");
    assert!(block.schema().tags.iter().map(String::as_str).eq(every_tag.iter().copied()));
    for (ordinal, (tags, times)) in (0..).zip(series) {
        assert_eq!(&block.index().key(ordinal), tags);
        assert_eq!(block.index().find(tags), Some(ordinal));
        assert_eq!(block.index().rows(ordinal).count(), times.len());
        for (tag, value) in tags.iter() {
            assert!(block.index().postings(tag, value).contains(ordinal));
        }
    }
    let expected: Vec<TagSet> =
        series.iter().flat_map(|(tags, times)| std::iter::repeat_n(tags.clone(), times.len())).collect();
    assert_eq!(tags_of_rows(bytes), expected);
    let names: Vec<Option<&str>> = series.iter().map(|(tags, _)| tags.get(METRIC_NAME)).collect();
    assert!(names.is_sorted(), "the series of a metric follow one another");
}

#[test]
fn the_commonest_labels_have_columns_and_ties_go_by_name() {
    let names: Vec<String> = (0..120).map(|number| format!("l{number:03}")).collect();
    // l060 to l119 are in two series, all others in one; __name__ in few, as nothing else would have it so.
    let series = |number: usize| {
        let labels: Vec<(&str, &str)> =
            names[number * 60..].iter().map(|name| (name.as_str(), "x")).collect();
        (metric("up", &labels), vec![number as i64])
    };
    let (bytes, series) = metrics(vec![series(0), series(1)]);
    check(&bytes, &series);
    let columns = told_columns(&bytes);
    let expected: BTreeSet<&str> = [METRIC_NAME]
        .into_iter()
        .chain(names[60..].iter().map(String::as_str))
        .chain(["l000", "l001", "l002"])
        .collect();
    assert!(columns.keys().map(String::as_str).eq(expected));
    assert_eq!(columns.len(), LABEL_COLUMNS_MAX);
    // What is told of the order of rows ends before the first label that is in the map only.
    let metadata = parquet::file::metadata::ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
    let sorting = metadata.row_group(0).sorting_columns().unwrap();
    let told: Vec<String> = sorting
        .iter()
        .map(|column| metadata.row_group(0).column(column.column_idx as usize).column_path().string())
        .collect();
    assert_eq!(told, ["\"__name__\"", "l000", "l001", "l002"].map(|name| name.replace('"', "")));
}

#[test]
fn names_that_the_map_or_a_field_has_get_suffixes() {
    let labels = [("labels", "a"), ("Labels", "b"), ("value", "c"), ("time", "d"), ("key_value", "e")];
    let (bytes, series) = metrics(vec![(metric("up", &labels), vec![1, 2]), (metric("up", &[]), vec![3])]);
    check(&bytes, &series);
    let names = plain_read(&bytes)[0].schema();
    let names: Vec<&str> = names.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(
        names,
        [
            "time",
            "__name__",
            "Labels.tag",
            "key_value",
            "labels.tag.2",
            "time.tag",
            "value.tag",
            "labels",
            "value.field"
        ]
    );
}

/// Rows with many, with one and without labels in the map, over the ends of pages and row groups.
#[test]
fn the_map_goes_on_over_pages_and_row_groups() {
    let common: Vec<String> = (0..LABEL_COLUMNS_MAX).map(|number| format!("c{number:02}")).collect();
    let common: Vec<(&str, &str)> = common.iter().map(|name| (name.as_str(), "1")).collect();
    let rare = |name: &'static str, labels: &[(&'static str, &'static str)]| {
        metric(name, &[&common[..], labels].concat())
    };
    let three = [("x", "1"), ("y", "1"), ("z", "2")];
    let (bytes, series) = metrics(vec![
        (metric("a", &common), (0..70_000).collect()),
        (rare("b", &three), (0..50_000).collect()),
        (rare("c", &three[..1]), (0..400_000).collect()),
        (rare("d", &three[1..]), (0..3).collect()),
        (rare("e", &three), (0..700_000).collect()),
    ]);
    let columns = told_columns(&bytes);
    assert!(!columns.contains_key("c63"), "it is the last of equals");
    let block = Block::open(&bytes).unwrap();
    assert_eq!(block.audit(bytes.clone()).unwrap(), None);
    let metadata = parquet::file::metadata::ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
    assert!(metadata.num_row_groups() > 1);
    // The audit has compared every row; another reader's eyes on some of them.
    let batches = plain_read(&bytes);
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, series.iter().map(|(_, times)| times.len()).sum::<usize>());
    let entries: usize =
        batches.iter().map(|batch| batch.column_by_name("labels").unwrap().as_map().entries().len()).sum();
    // c63 is in all rows.
    assert_eq!(entries, rows + 3 * 50_000 + 400_000 + 2 * 3 + 3 * 700_000);
}

fn any_metrics() -> impl Strategy<Value = Vec<(TagSet, Vec<Time>)>> {
    // Some names come before __name__, and with two hundred most labels are in one series only.
    let name =
        |number: usize| if number.is_multiple_of(3) { format!("Up{number}") } else { format!("low{number}") };
    let labels = prop::collection::btree_map((0usize..200).prop_map(name), "[ab]{1,2}", 0..30);
    let series = ("[abc]", labels, 1usize..4);
    prop::collection::vec(series, 0..20).prop_map(|all| {
        let of = |(name, labels, rows): (String, BTreeMap<String, String>, usize)| {
            let pairs = labels.into_iter().chain([(METRIC_NAME.to_owned(), name)]);
            (TagSet::new(pairs), (0..rows as i64).collect())
        };
        all.into_iter().map(of).collect::<std::collections::HashMap<_, Vec<Time>>>().into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_metrics_read_back(series in any_metrics()) {
        let (bytes, series) = metrics(series);
        check(&bytes, &series);
        let counts = series.iter().flat_map(|(tags, _)| tags.iter().map(|(tag, _)| tag)).fold(
            BTreeMap::<&str, usize>::new(),
            |mut counts, tag| { *counts.entry(tag).or_default() += 1; counts },
        );
        let columns = told_columns(&bytes);
        prop_assert_eq!(columns.len(), counts.len().min(LABEL_COLUMNS_MAX));
        // No label in the map is commoner than one with a column.
        let of_map = counts.iter().filter(|(tag, _)| !columns.contains_key(**tag)).map(|(_, count)| count).max();
        let of_columns = counts
            .iter()
            .filter(|(tag, _)| columns.contains_key(**tag) && **tag != METRIC_NAME)
            .map(|(_, count)| count)
            .min();
        prop_assert!(of_map.is_none() || of_map <= of_columns);
    }
}
