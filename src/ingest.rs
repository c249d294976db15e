//! What clients send -> checked parts of points.
//!
//! Invariant: one bad line harms no other; each refused line is named by number and reason, each refused series by its labels.
//! Not here: HTTP and compression (see `server`), durability (see `wal`).

pub mod histograms; // native histograms in messages
pub mod line_protocol;
pub mod otlp; // OpenTelemetry's metrics
pub mod protobuf; // messages, read in place
pub mod remote_write; // Prometheus' samples, two versions

mod accepted; // by its time
mod resolve;
mod samples; // any protocol's samples to rows of `metrics`

pub use accepted::Accepted;
pub use resolve::{Parsed, Target, parse_lines};
pub use samples::{METADATA_FIELDS, METADATA_TAG, Received, Refused, put_label};
