//! Values made from the bytes go through open and sealed chunks and come back bit for bit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use storage_format::chunk::{Cell, OpenChunk};

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else { return };
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
        return;
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
});
