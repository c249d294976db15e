//! The fuzz targets' bodies over the committed corpus, and over a fixed number of mutations of it, on any compiler.
//!
//! `tests/fuzz/corpus/<target>/` holds inputs: those named `sound-...` are what the program itself writes or what the
//! documents show, and must be accepted; all others, damaged or found by a fuzzer, must only be survived. The sound ones
//! and some of their mutations are made by `cargo test --test it write_the_corpus -- --ignored`; what a fuzzer found is
//! added by hand.
//! Not here: what the bodies check (`fuzz/bodies.rs`); searching for new inputs (`make fuzz`).
#![expect(clippy::disallowed_methods, reason = "the corpus is the test's own, not the engine's data")]

mod bodies;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use arrow::datatypes::DataType;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;
use storage_format::block::{BlockField, BlockKind, BlockMeta, BlockSchema, BlockWriter, Effort, TagLayout};
use storage_format::chunk::{Cell, OpenChunk};
use storage_format::histogram::{Buckets, Histogram, SCHEMA_CUSTOM, Span};
use storage_format::manifest::Manifest;
use storage_format::point::{SeriesOrder, TagSet, TimeRange};
use storage_format::state::{Distinct, Sketch, State, Wide};
use storage_format::wal::{Kind, encode_record, encode_segment_header};

use crate::http::remote_write::histogram;
use crate::support::dice::Dice;
use crate::support::prometheus::{
    Exemplar, Matcher, MetricMetadata, ReadQuery, ReadRequest, WriteRequest, labels_of, series, v2,
};

/// All of the corpus: it is read by people who clone, too.
const CORPUS_BYTES_MAX: u64 = 300 << 10;

/// Mutations of each input that a test tries.
const MUTATIONS: u64 = 400;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

/// Inputs by name.
fn inputs(target: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = corpus().join(target);
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap())
    };
    std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(read)
        .collect()
}

#[test]
fn every_target_survives_its_corpus_and_mutations_of_it() {
    let mut bytes = 0;
    for (target, body) in bodies::ALL {
        let inputs = inputs(target);
        let all: Vec<&Vec<u8>> = inputs.values().collect();
        let mut sound = 0;
        for (place, (name, input)) in inputs.iter().enumerate() {
            bytes += input.len() as u64;
            let accepted = survive(target, name, body, input);
            if name.starts_with("sound-") {
                assert!(accepted, "{target}/{name} is refused, and was sound once");
                sound += 1;
            }
            for seed in 0..MUTATIONS {
                let mutated = mutate(input, &all, &mut Dice::new(seed << 16 | place as u64));
                survive(target, &format!("{name} mutated by seed {seed}"), body, &mutated);
            }
        }
        assert!(sound > 0 && sound < inputs.len(), "{target} needs sound inputs and others");
    }
    assert!(bytes <= CORPUS_BYTES_MAX, "the corpus has {bytes} bytes");
}

/// What a panic of the body leaves is the input, as hex digits, to be added to the corpus.
fn survive(target: &str, name: &str, body: fn(&[u8]) -> bool, input: &[u8]) -> bool {
    std::panic::catch_unwind(|| body(input)).unwrap_or_else(|_| {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{target}/{name} panics: {hex}")
    })
}

/// One to four changes: what storage, networks and people do to bytes.
fn mutate(input: &[u8], others: &[&Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    const NUMBERS: [&[u8]; 6] =
        [&[0], &[0x7f], &[0xff; 4], &[0xff; 10], &[0, 0, 0, 0, 0, 0, 0, 0x80], b"99999999999999999999"];
    let mut bytes = input.to_vec();
    for _ in 0..1 + dice.roll(4) {
        let at = dice.roll(bytes.len() as u64 + 1) as usize;
        let len = (dice.roll(16) as usize).min(bytes.len() - at);
        match dice.roll(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..at + len)),
            2 => {
                let number: &&[u8] = dice.pick(&NUMBERS);
                bytes.splice(at..at + number.len().min(bytes.len() - at), number.iter().copied());
            }
            3 => {
                let repeated = bytes[at..at + len].to_vec();
                bytes.splice(at..at, repeated);
            }
            4 => {
                let other: &&Vec<u8> = dice.pick(others);
                let from = dice.roll(other.len() as u64 + 1) as usize;
                let part = other[from..].iter().copied().take(len).collect::<Vec<u8>>();
                bytes.splice(at..at + len, part);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << dice.roll(8);
                }
            }
        }
    }
    bytes
}

#[test]
#[ignore = "writes the corpus anew, for a new target or a new kind of sound input"]
fn write_the_corpus() {
    let mut seeds: BTreeMap<&str, Vec<Vec<u8>>> = BTreeMap::new();
    seeds.insert("log", logs());
    seeds.insert("chunk", chunks());
    seeds.insert("values", (0..3).map(|kind| [&[kind], &[0x40; 640][..]].concat()).collect());
    seeds.insert("block", blocks());
    seeds.insert("manifest", manifests());
    seeds.insert("state", states());
    seeds.insert("statement", statements());
    seeds.insert("lines", texts(&LINES));
    seeds.insert("times", texts(&TIMES));
    seeds.insert("config", texts(&CONFIGS));
    seeds.insert("request", requests());
    seeds.insert("samples", messages());
    seeds.insert("histogram", histograms());
    for (target, body) in bodies::ALL {
        let sound = &seeds[target];
        let folder = corpus().join(target);
        std::fs::create_dir_all(&folder).unwrap();
        let all: Vec<&Vec<u8>> = sound.iter().collect();
        for (place, input) in sound.iter().enumerate() {
            let kind = if body(input) { "sound" } else { "refused" };
            std::fs::write(folder.join(format!("{kind}-{place:02}")), input).unwrap();
        }
        for seed in 0..4 {
            let mut dice = Dice::new(seed);
            let chosen: &&Vec<u8> = dice.pick(&all);
            let mutated = mutate(chosen, &all, &mut dice);
            std::fs::write(folder.join(format!("mutated-{seed:02}")), mutated).unwrap();
        }
    }
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

const LINES: [&str; 7] = [
    "cpu,host=a,region=eu usage=0.5,n=-7i,u=18446744073709551615u,busy=true,note=\"é \\\"x\\\"\" 1767268800000000000\n",
    "# a comment\r\n\ncpu,host=a n=1i 1767268800\r\ncpu,host=b n=2i 1767268801\r\n",
    "weather\\,x,my\\ tag=a\\=b my\\ field=1e-7 1767268800000\n",
    "m,t=\\\\ f=\"a\nb\"\nm f=T\nm f=f",
    "a x=1\na x=2,y=3\na y=4,x=5 9223372036854775\n",
    "a,k=v,k2= x=1\nempty,=v x=1\n",
    "m x=1.7976931348623157e308,y=-0.0,z=5e-324 -1767268800\n",
];

const TIMES: [&str; 16] = [
    "1h30m",
    "1w2d3h4m5s6ms7us8ns",
    "2026-01-01",
    "2026-01-31T10:30",
    "2026-01-31T10:30:00.123456789+02:00",
    "1677-09-21T00:12:44Z",
    "2262-04-11T23:47:16Z",
    "1767268800s",
    "-5ms",
    "now",
    "now - 1h",
    "ns",
    "u",
    "nanosecond",
    "auto",
    "h",
];

const CONFIGS: [&str; 4] = [
    "",
    "listen = \"127.0.0.1:8086\"\nbody_bytes_max = \"64MiB\"\nquery_time_max = \"90s\"\n",
    "query_rows_max = 5000000 # a comment\nwal_bytes_max = '2GiB'\n",
    "query_memory_bytes_max = \"\"\"512MiB\"\"\"\n",
];

/// The grammar page's examples and the pages for users name the language better than we could here.
fn statements() -> Vec<Vec<u8>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("query-lang/GRAMMAR.md");
    let page = std::fs::read_to_string(page).unwrap();
    let lines = page.lines().map(str::trim);
    let sound = lines.filter(|line| !line.is_empty() && query_lang::parse(line).is_ok());
    sound.map(|line| line.as_bytes().to_vec()).take(60).collect()
}

fn logs() -> Vec<Vec<u8>> {
    // FORMAT.md's example: definitions of a table, a column and a series, then one point.
    let definitions: &[u8] = b"\x01\x00\x02db\x03cpu\x02\x00\x00\x02\x01u\x03\x00\x00\x04h\x00a\x00";
    let points: &[u8] = &[1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 1, 0, 0, 0xd0, 0x0f, 0x0a];
    let two = [&points[..8], &[0, 1, 2, 1, 2, 2, 0, 0, 2], &[0; 8], &[10, 0, 0, 2], &[0; 8], &[12]].concat();
    let delete = b"\x02\x00\x00\x00\x00\x00\x00\x00\x02db\x14delete from cpu{h=1}";
    let log = |records: &[(Kind, &[u8])]| {
        let mut log = Vec::new();
        encode_segment_header(&mut log, 7);
        records.iter().for_each(|(kind, body)| encode_record(&mut log, *kind, body));
        log
    };
    vec![
        log(&[]),
        log(&[(Kind::Definitions, definitions), (Kind::Points, points)]),
        log(&[(Kind::Points, &two), (Kind::Points, points)]),
        log(&[(Kind::Definitions, definitions), (Kind::Delete, delete)]),
    ]
}

fn chunks() -> Vec<Vec<u8>> {
    let mut dice = Dice::new(1);
    let mut kinds: Vec<Box<dyn FnMut(i64) -> Cell<'static>>> = vec![
        Box::new(|row| Cell::Int(row * 10)),
        Box::new(|row| Cell::Int(row * row % 251)),
        Box::new(|row| Cell::UInt(u64::MAX - row as u64 % 3)),
        Box::new(|row| Cell::Float((row * 7 % 100) as f64 / 100.0)),
        Box::new(|row| Cell::Float(f64::from_bits((row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)))),
        Box::new(|_| Cell::Float(23.75)),
        Box::new(|row| Cell::Bool(row % 7 == 0)),
        Box::new(|row| Cell::Str(["idle", "busy", "", "é"][row as usize % 4])),
        Box::new(move |_| Cell::Int((dice.next() >> dice.roll(60)) as i64)),
    ];
    let column = |kind: &mut Box<dyn FnMut(i64) -> Cell<'static>>| {
        let mut chunk = OpenChunk::new();
        (0..100).for_each(|row| {
            let cell = (row % 5 != 3).then(|| (0, kind(row)));
            chunk.push(row * 10_000_000_000, cell);
        });
        let sealed = chunk.seal();
        sealed.column_bytes(0).expect("the column is there").to_vec()
    };
    let mut chunks: Vec<Vec<u8>> = kinds.iter_mut().map(column).collect();
    for step in [1, 1_000, 10_000_000_000] {
        let mut chunk = OpenChunk::new();
        (0..50).for_each(|row| chunk.push(4 * row * step + row % 3, []));
        chunks.push(chunk.seal().times_bytes().to_vec());
    }
    chunks
}

fn blocks() -> Vec<Vec<u8>> {
    let fields = [("n", DataType::Int64), ("note", DataType::Utf8), ("usage", DataType::Float64)];
    let field = |(name, data_type): (&str, DataType)| BlockField { name: name.to_string(), data_type };
    let block = |series: i64, rows: i64| {
        let schema = BlockSchema {
            tags: vec!["host".to_string(), "region".to_string()],
            layout: TagLayout::Columns,
            fields: fields.clone().map(field).to_vec(),
        };
        let mut writer = BlockWriter::new(Vec::new(), schema, &meta_of("cpu"), Effort::Flush).unwrap();
        for place in 0..series {
            let tags = TagSet::new([("host", format!("h{place:03}")), ("region", format!("r{}", place % 3))]);
            let times: Vec<i64> = (0..rows).map(|row| row * 10_000_000_000).collect();
            let columns: [Option<ArrayRef>; 3] = [
                Some(Arc::new(Int64Array::from_iter(
                    (0..rows).map(|row| (row % 4 != 1).then_some(row * place)),
                ))),
                (place % 2 == 0).then(|| {
                    Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("é{row}")))) as _
                }),
                Some(Arc::new(Float64Array::from_iter_values((0..rows).map(|row| row as f64 / 8.0)))),
            ];
            writer.push_series(&tags, &times, &columns).unwrap();
        }
        writer.finish().unwrap().0
    };
    vec![block(0, 0), block(1, 1), block(3, 5), block(20, 300), block_of_metrics()]
}

fn meta_of(table: &str) -> BlockMeta {
    BlockMeta {
        database: "default".to_string(),
        table: table.to_string(),
        kind: BlockKind::Points,
        seq_min: 1,
        seq_max: 9,
        partition: TimeRange::new(0, 7_200_000_000_000),
        created_by: "0.1.0".to_string(),
    }
}

/// Two series, one of which has more labels than there are columns.
fn block_of_metrics() -> Vec<u8> {
    let few = TagSet::new([("Zone", "a"), ("__name__", "up")]);
    let many: Vec<String> = (0..66).map(|label| format!("l{label:02}")).collect();
    let many = many.iter().map(String::as_str).chain(["__name__"]);
    let series = [few, TagSet::new(many.map(|label| (label, "z")))];
    let fields = vec![BlockField { name: "value".to_string(), data_type: DataType::Float64 }];
    let schema = BlockSchema::of_series(SeriesOrder::Name, series.iter(), fields);
    let mut writer = BlockWriter::new(Vec::new(), schema, &meta_of("metrics"), Effort::Flush).unwrap();
    for tags in &series {
        let values: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN]));
        writer.push_series(tags, &[1, 2], &[Some(values)]).unwrap();
    }
    writer.finish().unwrap().0
}

fn manifests() -> Vec<Vec<u8>> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1/manifest");
    let fixture = std::fs::read(fixture).unwrap();
    vec![Manifest::default().encode(), fixture]
}

fn states() -> Vec<Vec<u8>> {
    let values: [&[f64]; 6] = [
        &[],
        &[1.5],
        &[1.0, 8.673617379884035e-19, 7.52316384526264e-37],
        &[f64::MAX, f64::MAX, f64::MIN_POSITIVE, -5e-324],
        &[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::INFINITY],
        &[-1e300, 1e-300, 0.1],
    ];
    let encode = |values: &&[f64]| {
        let mut wide = Wide::ZERO;
        values.iter().for_each(|value| wide.add(*value));
        let mut bytes = Vec::new();
        wide.encode(&mut bytes);
        bytes
    };
    let wide = values.iter().map(encode);
    let mut sketch = Sketch::default();
    sketch.add_slice(&[-0.1, 0.0, 1.0, 1.0, 1e300, f64::INFINITY]);
    let mut quantile = Vec::new();
    sketch.encode(&mut quantile);
    let mut distinct = Distinct::IDENTITY;
    distinct.add_hashes((1..9u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let mut hashes = Vec::new();
    distinct.encode(&mut hashes);
    // Six words of columns stand before a sketch that belongs to them.
    let beside = |sketch: &[u8], words: [u64; 6]| {
        let words: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        [&words, sketch].concat()
    };
    let (one, two) = (1f64.to_bits(), 2f64.to_bits());
    let columns = [
        beside(&hashes, [8, 0, 0, 0, 0, 0]),
        beside(&[1, 0, 0, 0, 7], [one, 1, two, 2, one, 0]),
        beside(&[], [one, 1, two, 2, one, 0]),
    ];
    wide.chain([quantile, hashes.clone()]).chain(columns).collect()
}

/// Each with the byte that says what it is before it.
fn messages() -> Vec<Vec<u8>> {
    let mut one = series(&[("__name__", "up"), ("job", "a")], &[(1_000, 1.5), (2_000, f64::NAN)]);
    one.exemplars = vec![Exemplar { labels: labels_of(&[("trace_id", "x")]), value: 1.0, timestamp: 1_000 }];
    let mut with_histogram = series(&[("__name__", "lat")], &[]);
    with_histogram.histograms = vec![histogram(3_000)];
    let metadata =
        vec![MetricMetadata {
            kind: 2, metric_family_name: "up".into(), help: "é".into(), unit: "s".into()
        }];
    let v1 = WriteRequest { timeseries: vec![one, with_histogram], metadata };
    let v2 = v2::Request {
        symbols: ["", "__name__", "up", "job", "b"].map(str::to_string).to_vec(),
        timeseries: vec![v2::TimeSeries {
            labels_refs: vec![1, 2, 3, 4],
            samples: series(&[], &[(1_000, 2.5)]).samples,
            metadata: Some(v2::Metadata { kind: 1, help_ref: 2, unit_ref: 4 }),
            ..Default::default()
        }],
    };
    let otlp = serde_json::json!({"resourceMetrics": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "s"}}]},
        "scopeMetrics": [{"metrics": [
            {"name": "m", "unit": "s", "gauge": {"dataPoints": [{"asDouble": 1.5, "timeUnixNano": "1000000000"}]}},
            {"name": "n", "sum": {"aggregationTemporality": 2, "isMonotonic": true,
                "dataPoints": [{"asInt": "7", "timeUnixNano": "2000000000"}]}},
            {"name": "e", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [{
                "timeUnixNano": "3000000000", "count": "3", "sum": 2.5, "scale": 1, "zeroCount": "1",
                "positive": {"offset": 0, "bucketCounts": ["1", "1"]}}]}},
        ]}],
    }]});
    let decoded: ExportMetricsServiceRequest = serde_json::from_value(otlp.clone()).unwrap();
    let matcher = Matcher { kind: 2, name: "__name__".into(), value: "u.*".into() };
    let query = ReadQuery { start_timestamp_ms: 0, end_timestamp_ms: 5_000, matchers: vec![matcher] };
    let read = ReadRequest { queries: vec![query], accepted_response_types: vec![1, 0] };
    let message = |kind: u8, bytes: Vec<u8>| [&[kind], &bytes[..]].concat();
    vec![
        message(0, v1.encode_to_vec()),
        message(1, v2.encode_to_vec()),
        message(2, decoded.encode_to_vec()),
        message(3, otlp.to_string().into_bytes()),
        message(4, read.encode_to_vec()),
    ]
}

fn histograms() -> Vec<Vec<u8>> {
    let buckets = |first: i32, counts: &[f64]| Buckets {
        spans: vec![Span { offset: first, length: 1 }, Span { offset: 2, length: counts.len() as u32 - 1 }],
        counts: counts.to_vec(),
    };
    let whole = Histogram {
        is_whole: true,
        schema: 2,
        zero_threshold: 0.001,
        zero_count: 2.0,
        count: 15.0,
        sum: 7.5,
        positive: buckets(-3, &[1.0, 4.0, 2.0]),
        negative: buckets(0, &[5.0, 1.0]),
        ..Histogram::default()
    };
    let fractional = Histogram { is_whole: false, count: 1e300, sum: f64::NAN, ..whole.clone() };
    let custom = Histogram {
        schema: SCHEMA_CUSTOM,
        count: 3.5,
        sum: -1.0,
        positive: Buckets { spans: vec![Span { offset: 0, length: 3 }], counts: vec![1.0, 0.5, 2.0] },
        custom_values: vec![-1.0, 5.0],
        ..Histogram::default()
    };
    let encode = |histogram: &Histogram| {
        let mut bytes = Vec::new();
        histogram.encode(&mut bytes);
        bytes
    };
    [whole, fractional, custom, Histogram::default()].iter().map(encode).collect()
}

fn requests() -> Vec<Vec<u8>> {
    let text = LINES.concat().repeat(20);
    let text = text.as_bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text).unwrap();
    zlib.write_all(text).unwrap();
    let bodies: [(&str, Vec<u8>); 5] = [
        ("", text.to_vec()),
        ("gzip", gzip.finish().unwrap()),
        ("deflate", zlib.finish().unwrap()),
        ("zstd", zstd::encode_all(text, 1).unwrap()),
        ("snappy", snap::raw::Encoder::new().compress_vec(text).unwrap()),
    ];
    let queries = [
        "",
        "db=d%C3%A9f&rollups=off",
        "q=cpu+%7C+last+1h&from=2026-01-01&to=now",
        "from=now+-+1h&db=a",
        "from=5&to=6&rollups=1",
    ];
    let request = |(query, (encoding, body)): (&str, (&str, Vec<u8>))| {
        [query.as_bytes(), b"\n", encoding.as_bytes(), b"\n", &body].concat()
    };
    queries.into_iter().zip(bodies).map(request).collect()
}
