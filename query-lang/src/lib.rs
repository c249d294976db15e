//! WQL: text to syntax tree to logical plan.
//!
//! Invariant: no I/O and no storage; what exists is asked through [`catalog::Catalog`], what time it is
//! through [`planner::Context`]. nom stays inside `parse`, jiff inside `time` and `calendar`.
//! The language itself is described in GRAMMAR.md, whose examples are tests.

// Text and tree.
pub mod ast; // what a statement is
pub mod parse; // text -> AST
pub mod print; // AST -> canonical text

// Tree and plan.
pub mod catalog; // the questions the planner may ask about what exists
pub mod scalar; // expressions, with every name and type resolved
pub mod plan; // what to do, with every name resolved
pub mod planner; // AST -> plan
pub mod rewrite; // which rollups can give an answer, and why the others cannot

// Plan and people.
pub mod error; // what is wrong, where, and the cure
pub mod explain; // plan -> text
pub mod live; // statements that go on, window after window

// Words of all of them.
pub mod params; // values bound to `$name`
pub mod calendar; // time zones, and buckets of days and months
pub mod pattern; // what =~ means
pub mod time; // times and durations as text

pub use error::{ErrorKind, QueryError};
pub use explain::explain;
pub use params::{ParamValue, Params};
pub use parse::{parse, parse_time, parse_with};
pub use planner::{Context, plan};

#[cfg(test)]
mod testing;
