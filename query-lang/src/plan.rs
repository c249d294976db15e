//! What to do, with every name resolved: the planner's output and the engine's input.
//!
//! Invariant: every table, field, tag and rollup named in a [`Plan`] existed in the catalog, every time
//! is absolute, every column name is distinct.
//! Not here: how to get at the points (the engine's `query`), nor which buckets of a rollup are clean.

use storage_format::point::{Time, TimeRange};
use storage_format::state::StateKind;

use crate::catalog::{FieldInfo, StateSpec};

#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    Select(Select),
    Show(Show),
    CreateRollup(CreateRollup),
    DropRollup { name: String },
    Alter(Alter),
    Delete(Delete),
    Explain(Box<Plan>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    /// The table whose raw points define the answer, also when rollups give it.
    pub table: String,
    /// The rollup that the statement named as its source, if it did.
    pub named_rollup: Option<String>,
    pub range: TimeRange,
    pub filter: TagFilter,
    pub shape: Shape,
    pub limit: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Points as written: time, tags, fields; ordered by time, then series.
    Points { fields: Vec<FieldInfo> },
    /// One row per group and bucket; ordered by group, then bucket.
    Aggregate(Aggregate),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    pub window: Window,
    pub by: Grouping,
    pub columns: Vec<OutputColumn>,
    /// What `columns` need: distinct, sorted, always with the count of points first.
    pub states: Vec<StateSpec>,
    /// Rollups that can give all of it, coarsest first. Empty with rollups off.
    pub rollups: Vec<RollupChoice>,
    /// Every other rollup over the same table, with the reason against it.
    pub rejected: Vec<RollupRejection>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// No `every`: one bucket, the whole range. Its rows carry no time.
    WholeRange,
    /// `every STEP`: buckets of `step` nanoseconds counted from `origin`.
    Every { step: i64, origin: Time },
}

/// How series become groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Grouping {
    /// No `by`: each series is its own group and all its tags are columns.
    Series,
    /// `by a, b`: these tags, in the order asked. `by ()` is the empty list: one group.
    Tags(Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct OutputColumn {
    pub name: String,
    pub function: Function,
    /// None for a bare `count`, which counts points.
    pub field: Option<FieldInfo>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    First,
    Last,
}

impl Function {
    pub const ALL: [Function; 7] = [
        Function::Count,
        Function::Sum,
        Function::Avg,
        Function::Min,
        Function::Max,
        Function::First,
        Function::Last,
    ];

    /// The word users write.
    pub fn name(self) -> &'static str {
        match self {
            Function::Count => "count",
            Function::Sum => "sum",
            Function::Avg => "avg",
            Function::Min => "min",
            Function::Max => "max",
            Function::First => "first",
            Function::Last => "last",
        }
    }

    pub fn from_name(name: &str) -> Option<Function> {
        Function::ALL.into_iter().find(|function| function.name() == name)
    }

    /// Whether it makes sense of numbers only.
    pub fn needs_number(self) -> bool {
        !matches!(self, Function::Count | Function::First | Function::Last)
    }

    /// The states of the field that give it.
    pub fn states(self) -> &'static [StateKind] {
        match self {
            Function::Count => &[StateKind::Count],
            Function::Sum => &[StateKind::Sum],
            Function::Avg => &[StateKind::Count, StateKind::Sum],
            Function::Min => &[StateKind::Min],
            Function::Max => &[StateKind::Max],
            Function::First => &[StateKind::First],
            Function::Last => &[StateKind::Last],
        }
    }
}

impl OutputColumn {
    /// The states that give it.
    pub fn states(&self) -> Vec<StateSpec> {
        let Some(field) = &self.field else {
            return vec![StateSpec { kind: StateKind::Points, field: None }];
        };
        let kinds = self.function.states().iter();
        kinds.map(|kind| StateSpec { kind: *kind, field: Some(field.clone()) }).collect()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct RollupChoice {
    pub name: String,
    pub step: i64,
    pub origin: Time,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollupRejection {
    pub name: String,
    /// A clause that follows "not used: ".
    pub reason: String,
}

/// Which series. A missing tag equals the empty string; patterns match the whole value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TagFilter {
    All,
    Match { tag: String, test: TagTest },
    And(Vec<TagFilter>),
    Or(Vec<TagFilter>),
    Not(Box<TagFilter>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TagTest {
    Equal(String),
    NotEqual(String),
    Matches(String),
    NotMatches(String),
    In(Vec<String>),
    NotIn(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Show {
    Tables,
    Tags { table: String },
    Fields { table: String },
    Values { tag: String, table: String },
    Series { table: String, filter: TagFilter },
    Rollups,
    Storage,
    Cardinality { table: String, filter: TagFilter },
}

#[derive(Clone, Debug, PartialEq)]
pub struct CreateRollup {
    pub rollup: crate::catalog::RollupInfo,
    /// Not in the definition, because it can be altered later.
    pub keep: Keep,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alter {
    pub target: AlterTarget,
    pub keep: Keep,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlterTarget {
    Table(String),
    Rollup(String),
    /// None is the database of the request. A named one is not looked up here: a catalog is of one database.
    Database(Option<String>),
}

/// How long data are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nanoseconds before now, more than zero.
    For(i64),
    Forever,
    /// No setting of its own: the database's counts. Never of a database.
    Default,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    pub table: String,
    pub filter: TagFilter,
    pub range: TimeRange,
}
