//! Mergeable rollup states: the unit of all aggregation.
//!
//! Raw scans make them per series, rollups store them, queries merge and finalize them. Invariant: a state
//! is a function of the *set* of values it stands for. No order of adding and no grouping of merges changes
//! a bit of it, nor of the bytes it is stored as; so an answer from a rollup equals the answer from raw points.
//! Read in order: `sum` (and `wide` beneath it), `extreme`, `edge`, `squares` (and `dyadic` beneath it), the sketches
//! `quantile` and `distinct`, `trace` with `counter` and `weighted`, `values`, then `column` and `run` that hold them,
//! `stored` for their Parquet columns, `finalize` for what users see.
//! Not here: which points fall into which bucket and group, and which buckets are fresh.

mod column; // one state of one field over many buckets; where values come in
mod counter; // increase over resets
mod distinct; // how many different values
mod dyadic; // exact arithmetic, for what is rounded once
mod edge; // first and last
mod extreme; // min and max
mod finalize; // state -> number
mod quantile; // sketch of a distribution
mod run; // bucket starts + columns: merge, rebucket, slice
mod squares; // exact sums of squares, and variances
mod stored; // to and from the Parquet columns of a rollup block
mod sum; // exact sums
mod trace; // states of one series, closed before they go into groups
mod value; // the types a field can have: order and arrays
mod values; // all values, for exact answers from raw points
mod weighted; // integrals over time
mod wide; // every bit of any sum of floats

#[cfg(test)]
mod tests;

pub use column::{BucketRows, State, StateColumn};
pub use counter::{Counter, CounterSum};
pub use distinct::{DISTINCT_ERROR, Distinct};
pub use edge::{Edge, First, Last};
pub use extreme::{Extreme, Max, Min};
pub use finalize::{Finalized, Finalizer, finalize};
pub use quantile::{Fraction, QUANTILE_ERROR_MAX, Sketch};
pub use run::StateRun;
pub use squares::Squares;
pub use stored::{block_arrays, block_fields, states_from_arrow};
pub use sum::{FloatSum, IntSum};
pub use value::data_type;
pub use values::Values;
pub use weighted::{Weighted, WeightedSum};
pub use wide::Wide;

use crate::point::FieldType;

/// What is kept of a field (or, for `Points`, of the points themselves) in one bucket of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum StateKind {
    /// How many points, whatever fields they carry.
    Points = 1,
    /// How many values of the field.
    Count = 2,
    Sum = 3,
    Min = 4,
    Max = 5,
    First = 6,
    Last = 7,
    SumSquares = 8,
    Quantile = 9,
    Distinct = 10,
    /// Of one series; `CounterSum` when closed.
    Counter = 11,
    CounterSum = 12,
    /// Of one series; `WeightedSum` when closed.
    Weighted = 13,
    WeightedSum = 14,
    /// All of them, from raw points only.
    Values = 15,
}

impl StateKind {
    pub const ALL: [StateKind; 15] = [
        StateKind::Points,
        StateKind::Count,
        StateKind::Sum,
        StateKind::Min,
        StateKind::Max,
        StateKind::First,
        StateKind::Last,
        StateKind::SumSquares,
        StateKind::Quantile,
        StateKind::Distinct,
        StateKind::Counter,
        StateKind::CounterSum,
        StateKind::Weighted,
        StateKind::WeightedSum,
        StateKind::Values,
    ];

    /// The word for it, which most of its columns begin with.
    pub fn name(self) -> &'static str {
        match self {
            StateKind::Points | StateKind::Count => "count",
            StateKind::Sum => "sum",
            StateKind::Min => "min",
            StateKind::Max => "max",
            StateKind::First => "first",
            StateKind::Last => "last",
            StateKind::SumSquares => "sum_squares",
            StateKind::Quantile => "quantile",
            StateKind::Distinct => "distinct",
            StateKind::Counter => "counter",
            StateKind::CounterSum => "counter_sum",
            StateKind::Weighted => "weighted",
            StateKind::WeightedSum => "weighted_sum",
            StateKind::Values => "values",
        }
    }

    /// What it is after [`StateRun::close`].
    pub fn closed(self) -> StateKind {
        match self {
            StateKind::Counter => StateKind::CounterSum,
            StateKind::Weighted => StateKind::WeightedSum,
            other => other,
        }
    }

    /// Whether it is of one series, in the order of its times: to be closed before it goes into a group.
    pub fn is_of_one_series(self) -> bool {
        self.closed() != self
    }

    /// Whether a block can keep it.
    pub fn is_stored(self) -> bool {
        self != StateKind::Values
    }

    /// Whether this can be kept of a field of that type; `None` asks about the points themselves.
    pub fn applies_to(self, field_type: Option<FieldType>) -> bool {
        match self {
            StateKind::Points => field_type.is_none(),
            StateKind::Count => field_type.is_some(),
            StateKind::First | StateKind::Last | StateKind::Distinct | StateKind::Values => {
                field_type.is_some_and(|field_type| field_type != FieldType::Binary)
            }
            StateKind::Sum
            | StateKind::Min
            | StateKind::Max
            | StateKind::SumSquares
            | StateKind::Quantile
            | StateKind::Counter
            | StateKind::CounterSum
            | StateKind::Weighted
            | StateKind::WeightedSum => field_type.is_some_and(FieldType::is_number),
        }
    }
}

/// What one column of states holds. `field_type` is `None` for [`StateKind::Points`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateKey {
    pub kind: StateKind,
    pub field_type: Option<FieldType>,
}

impl StateKey {
    /// The key of the same column after [`StateRun::close`].
    pub fn closed(self) -> StateKey {
        StateKey { kind: self.kind.closed(), ..self }
    }

    pub const POINTS: StateKey = StateKey { kind: StateKind::Points, field_type: None };

    pub fn of(kind: StateKind, field_type: FieldType) -> StateKey {
        StateKey { kind, field_type: Some(field_type) }
    }
}
