//! Running plans over scans: raw points to rows, or to states of groups and then to numbers.
//!
//! Invariant: aggregation goes through mergeable states only (`storage_format::state`), so that it does not matter
//! whether a state was computed now or read from a rollup.
//! Not here: where rows come from (`scan`), which rollups help (`rollup`), statements that change things (`db`).

mod answer;
mod axis;
mod fill;
mod frame;
mod groups;
mod join;
mod points;
mod scalar;
mod stream;
mod window;

pub use answer::{Answer, AnswerColumn, Role, RollupUse, Stats, text_table};
pub use frame::Frame;
pub use groups::{Groups, finish};
pub use join::join;
pub use points::{Points, PointsAsked};
pub use scalar::Program;
pub use stream::{Stream, row_steps};
pub use window::{LOOK_BACK, StatePlan, aggregate, keys_of};
