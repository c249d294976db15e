//! What several tests use.

pub mod server;
