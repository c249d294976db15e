//! What clients send -> checked parts of points.
//!
//! Invariant: one bad line harms no other; each refused line is named by number and reason.
//! Not here: HTTP and compression (see `server`), durability (see `wal`).

pub mod line_protocol;

mod resolve;

pub use resolve::{Parsed, Target, parse_lines};
