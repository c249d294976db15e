//! What each fuzz target does with bytes that a stranger sends: every decoder and parser of the program.
//!
//! Invariant: whatever the bytes, nothing panics or loops, and what is accepted is what its own writer would write: it
//! goes out and in again without a change. Each says whether it accepted the bytes, so that a test can tell a sound
//! input from one that stopped being sound.
//! Where a checksum guards a decoder, which no fuzzer can guess, the body is also given to it with the checksum made right.
//! Not here: where bytes come from: `cargo fuzz` (targets/) or the committed corpus (`tests/fuzz.rs`).

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Float64Array, Int64Array, TimestampNanosecondArray};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;
use query_lang::ast::TimeLiteral;
use query_lang::calendar::Zone;
use query_lang::catalog::{Catalog, FieldInfo, RollupInfo, TableInfo};
use query_lang::{Context, time};
use storage_format::block::{Block, SeriesIndex};
use storage_format::chunk::{Cell, OpenChunk, describe};
use storage_format::histogram::Histogram;
use storage_format::manifest::Manifest;
use storage_format::point::{FieldType, SeriesOrder, Time, TimeRange};
use storage_format::state::{Distinct, Fraction, Sketch, StateKey, StateKind, StateRun, Wide};
use storage_format::wal::{Delete, Kind, Points, Records, Step, decode_definition, decode_segment_header};
use waterclock::config::Config;
use waterclock::ingest::line_protocol::Precision;
use waterclock::ingest::remote_write::{self, Version};
use waterclock::ingest::{Accepted, Target, histograms, otlp, parse_lines};
use waterclock::promql::Native;
use waterclock::series::Registry;
use waterclock::server::body::Body;
use waterclock::server::params::Params;
use waterclock::server::remote_read::Asked;

/// By the name of the target and of its folder in the corpus.
pub const ALL: [(&str, fn(&[u8]) -> bool); 13] = [
    ("log", log),
    ("chunk", chunk),
    ("values", values),
    ("block", block),
    ("manifest", manifest),
    ("state", state),
    ("statement", statement),
    ("lines", lines),
    ("times", times),
    ("config", config),
    ("request", request),
    ("samples", samples),
    ("histogram", histogram),
];

/// 2026-01-01T12:00:00Z.
const NOON: Time = 1_767_268_800_000_000_000;

/// Any bytes as a log segment: every step is taken, and no decoder fails on what a record says.
pub fn log(bytes: &[u8]) -> bool {
    let header = decode_segment_header(bytes).is_ok();
    let mut sound = header;
    for step in Records::new(bytes) {
        sound &= match step {
            Step::Record(record) => record_body(record.kind, record.body),
            Step::Room { .. } => true,
            Step::Damage { .. } | Step::Torn { .. } => false,
        };
    }
    for kind in [Kind::Definitions, Kind::Points, Kind::Delete, Kind::PointsSomeLate] {
        record_body(kind, bytes);
    }
    sound
}

fn record_body(kind: Kind, body: &[u8]) -> bool {
    let mut rest = body;
    match kind {
        Kind::Definitions => {
            while !rest.is_empty() {
                if decode_definition(&mut rest).is_err() {
                    return false;
                }
            }
            true
        }
        Kind::Delete => Delete::decode(rest).is_ok(),
        Kind::Points | Kind::PointsSomeLate => {
            let mut rest = body.get(8..).unwrap_or_default();
            let mut all = !rest.is_empty();
            while !rest.is_empty() && all {
                if kind == Kind::PointsSomeLate {
                    rest = &rest[1..];
                }
                all = Points::decode(&mut rest, |_, column| FieldType::from_byte(column as u8 % 6)).is_ok();
            }
            all
        }
    }
}

/// Any bytes as a sealed column.
pub fn chunk(bytes: &[u8]) -> bool {
    let sound = describe(bytes).is_ok();
    let body = bytes.len().saturating_sub(4);
    let mut signed = bytes[..body].to_vec();
    signed.extend_from_slice(&crc32c::crc32c(&signed).to_le_bytes());
    let _ = describe(&signed);
    sound
}

/// Values made from the bytes go through open and sealed chunks and come back bit for bit.
pub fn values(bytes: &[u8]) -> bool {
    let Some((kind, rest)) = bytes.split_first() else { return false };
    let mut chunk = OpenChunk::new();
    let mut time = 0i64;
    let mut pushed = Vec::new();
    for word in rest.chunks_exact(8) {
        if chunk.is_full() {
            break;
        }
        let bits = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        time += 1 + (bits % 1_000_003) as i64;
        let cell = match kind % 3 {
            0 => Cell::Float(f64::from_bits(bits)),
            1 => Cell::Int(bits as i64),
            _ => Cell::UInt(bits),
        };
        chunk.push(time, [(0, cell)]);
        pushed.push(bits);
    }
    if pushed.is_empty() {
        return false;
    }
    let bits = |cell: Option<Cell<'_>>| match cell {
        Some(Cell::Float(value)) => value.to_bits(),
        Some(Cell::Int(value)) => value as u64,
        Some(Cell::UInt(value)) => value,
        other => panic!("{other:?}"),
    };
    let open = chunk.decode_column(0).expect("the column is there");
    let sealed = chunk.seal().decode_column(0).expect("sound").expect("the column is there");
    for (row, expected) in pushed.iter().enumerate() {
        assert_eq!(bits(open.get(row)), *expected);
        assert_eq!(bits(sealed.get(row)), *expected);
    }
    true
}

/// Any bytes as a block, and as the series index inside of one.
pub fn block(bytes: &[u8]) -> bool {
    let file = Bytes::copy_from_slice(bytes);
    for (index, _) in
        [SeriesOrder::Tags, SeriesOrder::Name].iter().flat_map(|order| SeriesIndex::decode(&file, *order))
    {
        for series in 0..index.len().min(1_000) as u32 {
            let tags = index.key(series);
            let _ = (index.find(&tags), index.rows(series), index.time(series));
        }
        let _ = (index.having("host"), index.postings("host", "a"), index.memory_bytes());
    }
    let Ok(block) = Block::open(&file) else { return false };
    let fields: Vec<usize> = (0..block.schema().fields.len()).collect();
    let _ = block.prune(0..block.rows(), TimeRange::new(0, 1));
    // Only reading what was verified must succeed; the rest may say what is wrong.
    let read = block.read(file.clone(), &fields, std::slice::from_ref(&(0..block.rows())));
    let verified = block.verify(&file).is_ok();
    assert!(!verified || read.is_ok(), "every checksum holds, and it cannot be read");
    verified
}

/// Any bytes as a manifest, and as its JSON.
pub fn manifest(bytes: &[u8]) -> bool {
    let json = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes, |end| &bytes[end + 1..]);
    let mut signed =
        format!("waterclock manifest 1 {:08x} {}\n", crc32c::crc32c(json), json.len()).into_bytes();
    signed.extend_from_slice(json);
    for bytes in [bytes, &signed] {
        if let Ok(manifest) = Manifest::decode(bytes) {
            let again = Manifest::decode(&manifest.encode()).expect("what was read can be written and read");
            assert_eq!(manifest, again);
        }
        let _ = Manifest::version(bytes);
    }
    Manifest::decode(bytes).is_ok()
}

/// Any bytes as a wide sum, as a sketch, and as the columns of stored states: accepted ones go out as they came in.
pub fn state(bytes: &[u8]) -> bool {
    let wide = Wide::decode(bytes);
    if let Ok(wide) = &wide {
        let mut again = Vec::new();
        wide.encode(&mut again);
        assert_eq!(bytes, again, "two encodings of one sum");
        let _ = (wide.round(), wide.average(3), wide.narrow());
    }
    let word = |place: usize| {
        let word = bytes.get(place * 8..place * 8 + 8).and_then(|word| word.try_into().ok());
        word.map(u64::from_le_bytes)
    };
    let float = |place| word(place).map(f64::from_bits);
    let int = |place| word(place).map(|word| word as i64);
    let kind = |kind| StateKey::of(kind, FieldType::Float);
    let keys = [StateKey::POINTS, kind(StateKind::Sum), kind(StateKind::Min), kind(StateKind::Last)];
    let binary = word(6).map(|_| bytes.get(48..).unwrap_or_default());
    one_encoding(&[kind(StateKind::Quantile)], &[Arc::new(BinaryArray::from_iter([binary]))]);
    one_encoding(
        &[kind(StateKind::SumSquares)],
        &[Arc::new(Float64Array::from(vec![float(0)])), Arc::new(BinaryArray::from_iter([binary]))],
    );
    one_encoding(
        &[kind(StateKind::Distinct)],
        &[Arc::new(Int64Array::from(vec![int(0)])), Arc::new(BinaryArray::from_iter([binary]))],
    );
    let ends = || -> [ArrayRef; 4] {
        [
            Arc::new(Float64Array::from(vec![float(0)])),
            Arc::new(TimestampNanosecondArray::from(vec![int(1)]).with_timezone("UTC")),
            Arc::new(Float64Array::from(vec![float(2)])),
            Arc::new(TimestampNanosecondArray::from(vec![int(3)]).with_timezone("UTC")),
        ]
    };
    let sum = || -> [ArrayRef; 3] {
        [
            Arc::new(Float64Array::from(vec![float(4)])),
            Arc::new(Float64Array::from(vec![float(5).filter(|_| binary.is_none())])),
            Arc::new(BinaryArray::from_iter([binary])),
        ]
    };
    let count: ArrayRef = Arc::new(Int64Array::from(vec![int(6).or(Some(0))]));
    one_encoding(&[kind(StateKind::Counter)], &[&ends()[..], &[count], &sum()[..]].concat());
    one_encoding(&[kind(StateKind::Weighted)], &[&ends()[..], &sum()[..]].concat());
    let arrays: [ArrayRef; 7] = [
        Arc::new(Int64Array::from(vec![int(0)])),
        Arc::new(Float64Array::from(vec![float(1)])),
        Arc::new(Float64Array::from(vec![float(2)])),
        Arc::new(BinaryArray::from_iter([binary])),
        Arc::new(Float64Array::from(vec![float(3)])),
        Arc::new(Float64Array::from(vec![float(4)])),
        Arc::new(TimestampNanosecondArray::from(vec![int(5)]).with_timezone("UTC")),
    ];
    one_encoding(&keys, &arrays);
    let sketch = Sketch::decode(bytes);
    if let Ok(sketch) = &sketch {
        let mut again = Vec::new();
        sketch.encode(&mut again);
        assert_eq!(bytes, again, "two encodings of one sketch");
        let _ = sketch.quantile(Fraction::MEDIAN);
    }
    let distinct = Distinct::decode(bytes);
    if let Ok(distinct) = &distinct {
        let mut again = Vec::new();
        distinct.encode(&mut again);
        assert_eq!(bytes, again, "two encodings of one sketch");
        let _ = distinct.estimate();
    }
    wide.is_ok() || sketch.is_ok() || distinct.is_ok()
}

fn one_encoding(keys: &[StateKey], arrays: &[ArrayRef]) {
    if let Ok(run) = StateRun::from_arrow(keys, vec![0], arrays) {
        // Arrays are equal by their bits: NaN is a sum, too.
        assert_eq!(run.to_arrow()[..], *arrays, "two encodings of one state");
    }
}

/// Any text as WQL: what parses prints to text that parses to the same, and is planned or refused.
pub fn statement(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match query_lang::parse(text) {
        Ok(script) => {
            let printed = script.to_string();
            let again = query_lang::parse(&printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
            assert_eq!(script, again, "{printed}");
            let context = Context { now: NOON, range: None, rollups: true, lets: &[] };
            for statement in &script.statements {
                match query_lang::plan(statement, &OneTable, &context) {
                    Ok(plan) => drop(query_lang::explain(&plan)),
                    Err(error) => drop(error.render()),
                }
            }
            true
        }
        Err(error) => {
            drop(error.render());
            false
        }
    }
}

struct OneTable;

impl Catalog for OneTable {
    fn table(&self, name: &str) -> Option<TableInfo> {
        let field = |(name, field_type): (&str, FieldType)| FieldInfo { name: name.to_string(), field_type };
        let fields = [
            ("cores", FieldType::Int),
            ("note", FieldType::Str),
            ("up", FieldType::Bool),
            ("usage_user", FieldType::Float),
        ];
        (name == "cpu").then(|| TableInfo {
            name: name.to_string(),
            fields: fields.map(field).to_vec(),
            tags: vec!["host".to_string(), "region".to_string()],
        })
    }

    fn tables(&self) -> Vec<String> {
        vec!["cpu".to_string()]
    }

    fn rollup(&self, _: &str) -> Option<RollupInfo> {
        None
    }

    fn rollups(&self) -> Vec<RollupInfo> {
        Vec::new()
    }

    fn is_metric(&self, name: &str) -> bool {
        self.metrics().iter().any(|metric| metric == name)
    }

    fn metrics(&self) -> Vec<String> {
        vec!["up".to_owned()]
    }
}

/// Any bytes as line protocol: each line is stored or refused by its number, and the stored ones survive the log.
pub fn lines(body: &[u8]) -> bool {
    let registry = Registry::default();
    let database = registry.database_or_new("db");
    let limits = Config::default().limits;
    let target = Target {
        registry: &registry,
        database: &database,
        limits: &limits,
        refusal: &|_| None,
        accepted: &|_| Accepted::ALL,
    };
    let parsed = parse_lines(body, &target, Precision::Auto, 1);
    for part in &parsed.batch.parts {
        let types = part.table.column_types();
        let mut bytes = Vec::new();
        part.points.encode(&mut bytes, 0, &types);
        let decoded = Points::decode(&mut bytes.as_slice(), |_, column| types.get(column as usize).copied());
        let (_, decoded) = decoded.expect("what was encoded decodes");
        assert_eq!(decoded.rows.len(), part.points.rows.len());
    }
    parsed.errors.is_empty() && !parsed.batch.parts.is_empty()
}

/// Any bytes as a message that brings or asks for samples, the first byte saying which: remote write 1.0 and 2.0, OTLP in protobuf and in
/// JSON, remote read. What is stored survives the log.
pub fn samples(bytes: &[u8]) -> bool {
    let Some((kind, message)) = bytes.split_first() else { return false };
    let registry = Registry::default();
    let database = registry.database_or_new("db");
    let limits = Config::default().limits;
    let target = Target {
        registry: &registry,
        database: &database,
        limits: &limits,
        refusal: &|_| None,
        accepted: &|_| Accepted::ALL,
    };
    let received = match kind % 5 {
        0 => remote_write::parse(message, Version::V1, &target),
        1 => remote_write::parse(message, Version::V2, &target),
        2 => match ExportMetricsServiceRequest::decode(message) {
            Ok(request) => otlp::convert(&request, &target),
            Err(_) => return false,
        },
        3 => match serde_json::from_slice::<ExportMetricsServiceRequest>(message) {
            Ok(request) => otlp::convert(&request, &target),
            Err(_) => return false,
        },
        _ => return Asked::read(message).map(|asked| drop(asked.to_string())).is_ok(),
    };
    let Ok(received) = received else { return false };
    for part in &received.batch.parts {
        let types = part.table.column_types();
        let mut bytes = Vec::new();
        part.points.encode(&mut bytes, 0, &types);
        let decoded = Points::decode(&mut bytes.as_slice(), |_, column| types.get(column as usize).copied());
        let (_, decoded) = decoded.expect("what was encoded decodes");
        assert_eq!(decoded.rows.len(), part.points.rows.len());
    }
    received.refused.count == 0 && !received.batch.is_empty()
}

/// Any bytes as a stored native histogram and as the message of one: what is sound goes out and in again, and PromQL computes with it.
pub fn histogram(bytes: &[u8]) -> bool {
    let bits = |histogram: &Histogram| {
        let mut bytes = Vec::new();
        histogram.encode(&mut bytes);
        bytes
    };
    let from_message = histograms::read(bytes).ok().map(|(_, histogram)| histogram);
    let stored = Histogram::decode(bytes).ok();
    for histogram in from_message.into_iter().filter(|one| one.check().is_ok()).chain(stored.clone()) {
        let encoded = bits(&histogram);
        let again = Histogram::decode(&encoded).expect("what was encoded decodes");
        assert_eq!(bits(&again), encoded, "two encodings of one histogram");
        let mut message = Vec::new();
        histograms::put(&mut message, &histogram, 7);
        let (time, again) = histograms::read(&message).expect("what was put can be read");
        assert_eq!((time, bits(&again)), (7, encoded), "another histogram after remote read");
        let Some(native) = Native::of(&histogram) else { continue };
        for quantile in [0.0, 0.3, 0.9, 1.0] {
            let _ = native.quantile(quantile);
        }
        let _ = (native.fraction(-1.0, 2.0), native.variance(), native.to_string());
        let mut sum = native.clone();
        assert_eq!(sum.add(&native), Ok(()), "a histogram goes with itself");
        let _ = sum.is_reset(&native);
    }
    stored.is_some()
}

/// Any text as a time, a duration, a precision: what is read prints to text that reads as the same.
pub fn times(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut read = false;
    if let Ok(duration) = time::duration(text) {
        let printed = time::format_duration(duration);
        assert_eq!(time::duration(&printed), Ok(duration), "{printed}");
        read = true;
    }
    if let Some(instant) = time::instant(text).ok().and_then(|time| time::resolve(time, NOON, &Zone::utc())) {
        let printed = time::format_time(instant);
        assert_eq!(time::instant(&printed), Ok(TimeLiteral::At(instant)), "{printed}");
        read = true;
    }
    match query_lang::parse_time(text, NOON) {
        Ok(_) => read = true,
        Err(error) => drop(error.render()),
    }
    let number = text.trim().parse().unwrap_or(bytes.len() as i64);
    for precision in [Precision::from_v1(text), Precision::from_v2(text), Precision::from_v3(text)] {
        read |= precision.is_some();
        for precision in precision.into_iter().chain([Precision::Auto, Precision::Hours]) {
            let _ = precision.to_nanos(number);
        }
    }
    read
}

/// Any text as a configuration file: what is read prints to settings that read as the same.
pub fn config(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    const MACHINE_BYTES: usize = 8 << 30;
    let Ok(config) = Config::load(MACHINE_BYTES, Some(("fuzz.toml", text)), [], []) else { return false };
    let printed = |config: &Config| -> Vec<(String, String)> {
        config.settings().into_iter().map(|setting| (setting.name.to_string(), setting.value)).collect()
    };
    let again =
        Config::load(MACHINE_BYTES, None, [], printed(&config)).expect("what was printed can be read");
    assert_eq!(printed(&config), printed(&again));
    true
}

/// Any bytes as a request: the query string and the `Content-Encoding` to the first line ends, then the body.
pub fn request(bytes: &[u8]) -> bool {
    let mut parts = bytes.splitn(3, |byte| *byte == b'\n');
    let (query, encoding) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let params = Params::of_form(query);
    let known = ["db", "q", "from", "to", "rollups"];
    let sound = params.refuse_unknown(&known).is_ok()
        & params.database(&["db", "bucket"]).is_ok()
        & params.switch("rollups", true).is_ok()
        & params.range(NOON).is_ok();
    let mut limits = Config::default().limits;
    limits.body_bytes_max = 1 << 20;
    let body = Bytes::copy_from_slice(parts.next().unwrap_or_default());
    let Ok(body) = Body::new(body, &String::from_utf8_lossy(encoding), &limits) else { return false };
    match body.decode() {
        Ok(decoded) => {
            assert!(decoded.bytes.len() <= limits.body_bytes_max, "more than the limit was unpacked");
            sound & decoded.text().is_ok()
        }
        Err(_) => false,
    }
}
