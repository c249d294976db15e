//! WQL: text to syntax tree to logical plan.
//!
//! Invariant: no I/O and no storage; what exists is asked through [`catalog::Catalog`].
//! nom stays inside `parse`.

pub mod catalog; // the questions the planner may ask
pub mod plan; // what to do, with every name resolved
