//! The doors over a real socket: what each answers to what is right and to what is wrong.
//!
//! Not here: which lines are good (`conformance`), what queries mean (`scripts`), real clients (`conformance.sh`).

mod answers;
mod doors;
mod prometheus;
mod otlp;
mod queries;
mod remote_read;
pub mod remote_write;
mod starts;
mod writes;
