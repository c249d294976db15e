//! Any bytes as a log segment: every step is taken, and no decoder panics on what a record says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use storage_format::point::FieldType;
use storage_format::wal::{Delete, Kind, Points, Records, Step, decode_definition, decode_segment_header};

fuzz_target!(|bytes: &[u8]| {
    let _ = decode_segment_header(bytes);
    for step in Records::new(bytes) {
        let Step::Record(record) = step else { continue };
        let mut rest = record.body;
        match record.kind {
            Kind::Definitions => while !rest.is_empty() && decode_definition(&mut rest).is_ok() {},
            Kind::Delete => drop(Delete::decode(rest)),
            Kind::Points => drop(Points::decode(&mut rest, |_, column| FieldType::from_byte(column as u8 % 6))),
        }
    }
    // The bodies also without the checksum that a fuzzer cannot guess.
    for field_type in FieldType::ALL {
        let _ = Points::decode(&mut &*bytes, |_, _| Some(field_type));
    }
    let mut rest = bytes;
    while !rest.is_empty() && decode_definition(&mut rest).is_ok() {}
    let _ = Delete::decode(bytes);
});
