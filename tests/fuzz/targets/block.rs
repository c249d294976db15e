//! Any bytes as a block and as a manifest: refused or opened, never a panic.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use storage_format::block::Block;
use storage_format::manifest::Manifest;

fuzz_target!(|bytes: &[u8]| {
    let _ = Manifest::decode(bytes);
    let file = Bytes::copy_from_slice(bytes);
    if let Ok(block) = Block::open(&file) {
        let _ = block.verify(&file);
    }
});
