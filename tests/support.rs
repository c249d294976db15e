//! What several subjects share.

pub mod counts;
pub mod dice;
pub mod engine;
pub mod faulty_disk;
pub mod history;
pub mod ledger;
pub mod manual_clock;
pub mod model;
pub mod prometheus;
pub mod question;
pub mod s3;
pub mod server;
pub mod subject;
pub mod workload;
