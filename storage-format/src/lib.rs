//! Points to bytes and back: everything Waterclock writes to disk or keeps compressed in memory.
//!
//! Invariant: no file is opened here, no clock is read, no thread is started, nothing is logged.
//! Bytes come in, bytes go out; every decoder survives any input and says what is wrong and where.
//! The bytes themselves are described in FORMAT.md, whose worked examples are tests.

extern crate alloc; // named by what tsz-compress derives

pub mod corrupt; // what is wrong with the bytes, and at which offset
pub mod point; // time ranges, field types, values, tag sets: the words of every other module
pub mod ranges; // sets of times
pub mod varint; // the variable-length integers that records and indexes are made of
pub mod bits; // bit streams
pub mod gorilla; // open chunks: streams of times, integers and floats that can be read at any moment
pub mod text; // strings as a dictionary and numbers in it
pub mod presence; // one bit per row: which rows have a value; bools
pub mod chunk; // one series' columns: open, sealed, smallest codec
pub mod histogram; // native histograms as bytes
pub mod xor_chunk; // samples as Prometheus' chunks, for its readers
pub mod wal; // log segments, records and their bodies
pub mod block; // Parquet blocks with an embedded series index
pub mod state; // mergeable rollup states
pub mod manifest; // the list of what is live
