//! Any bytes as line protocol: each line is stored or refused by its number, and the stored ones survive the log.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waterclock::config::Config;
use waterclock::ingest::line_protocol::Precision;
use waterclock::ingest::{Target, parse_lines};
use waterclock::series::Registry;

fuzz_target!(|body: &[u8]| {
    let registry = Registry::default();
    let database = registry.database_or_new("db");
    let limits = Config::default().limits;
    let target = Target { registry: &registry, database: &database, limits: &limits, refusal: &|_| None, accepted_from: &|_| i64::MIN };
    let parsed = parse_lines(body, &target, Precision::Auto, 1);
    for part in &parsed.batch.parts {
        let types = part.table.column_types();
        let mut bytes = Vec::new();
        part.points.encode(&mut bytes, 0, &types);
        let decoded = storage_format::wal::Points::decode(&mut bytes.as_slice(), |_, column| {
            types.get(column as usize).copied()
        });
        let (_, decoded) = decoded.expect("what was encoded decodes");
        assert_eq!(decoded.rows.len(), part.points.rows.len());
    }
});
