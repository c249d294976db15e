//! Waterclock: a streaming time-series database whose rollups are always fresh and always equal to the
//! raw points.
//!
//! The modules in the order data flows. Imports point one way only (`tests/rules.rs` keeps it true).

pub mod error; // the three kinds of wrong

pub mod allocator; // when freed memory goes back
pub mod clock; // what time it is
pub mod config; // every setting and limit, by name
pub mod metrics; // what the server counts about itself

pub mod disk; // folders and buckets, behind one trait

pub mod guard; // what one piece of work may cost
pub mod rows; // one series' rows as columns, merged by last write wins
pub mod exemplars; // single observations with a trace, in a ring
pub mod series; // which databases, tables, fields and series exist: names to small numbers

pub mod batch; // the points of one request, after parsing

pub mod blocks; // immutable Parquet files: open, list, merge
pub mod head; // the newest points, in memory, compressed
pub mod ingest; // text from clients to checked batches
pub mod wal; // batches made durable, in order

pub mod scan; // one series after another, its rows merged from blocks and head

pub mod flush; // head partitions to blocks
pub mod promql; // Prometheus' language, over the same scan
pub mod query; // run a plan over head and blocks

pub mod compact; // blocks to fewer, larger blocks

pub mod rollup; // keep continuous aggregates equal to the raw points

pub mod db; // the whole flow: open, write, query, rollups, close

pub mod live; // statements that go on, window after window

pub mod check; // a folder looked at as a whole, and mended

pub mod backup; // a second folder with the same data, and back

pub mod jobs; // when background work runs
pub mod server; // the doors: HTTP and JSON

pub mod cli; // the commands of the one binary
