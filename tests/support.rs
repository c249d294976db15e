//! What several subjects share.

pub mod dice;
pub mod engine;
pub mod faulty_disk;
pub mod ledger;
pub mod manual_clock;
pub mod model;
pub mod prometheus;
pub mod s3;
pub mod server;
