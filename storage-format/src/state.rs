//! Mergeable rollup states.

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
}
