//! The questions the planner may ask about what exists.
//!
//! The engine implements [`Catalog`] over one database; tests implement it over literals.
//! Not here: coverage and freshness of rollups. The plan says which rollups *may* answer; which of their
//! buckets are clean is known only to the snapshot that the query runs on.

use storage_format::point::FieldType;
pub use storage_format::point::METRIC_NAME;
use storage_format::state::StateKind;

use crate::plan::{Computed, Grouping, Hop, OutputColumn, TagFilter, Window};
use crate::rewrite::Need;
use crate::scalar::Scalar;

/// The table of all Prometheus metrics; its name is kept also while it does not exist.
pub const METRICS_TABLE: &str = "metrics";

/// The field of a metric that is meant where none is named.
pub const METRIC_VALUE: &str = "value";

pub trait Catalog {
    fn table(&self, name: &str) -> Option<TableInfo>;
    /// All tables, sorted: for `show tables` and for "did you mean".
    fn tables(&self) -> Vec<String>;
    fn rollup(&self, name: &str) -> Option<RollupInfo>;
    /// All rollups of the database, sorted by name.
    fn rollups(&self) -> Vec<RollupInfo>;
    /// Whether a series of [`METRICS_TABLE`] has this name.
    fn is_metric(&self, name: &str) -> bool;
    /// The names of all metrics, sorted.
    fn metrics(&self) -> Vec<String>;
    /// Names of rollups that there are and that nobody can read; they can be dropped.
    fn set_aside(&self) -> Vec<String> {
        Vec::new()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct TableInfo {
    pub name: String,
    /// Sorted by name.
    pub fields: Vec<FieldInfo>,
    /// Sorted.
    pub tags: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldInfo {
    pub name: String,
    pub field_type: FieldType,
}

/// A rollup, resolved to the raw points it summarises: a rollup on a rollup has the base table here and
/// the conditions of the whole chain in `filter`.
#[derive(Clone, Debug, PartialEq)]
pub struct RollupInfo {
    pub name: String,
    /// The table of raw points.
    pub table: String,
    /// The rollup it was defined on, if any.
    pub parent: Option<String>,
    pub filter: TagFilter,
    /// Columns computed of each point, each from those before it; states may be of them.
    pub computed: Vec<Computed>,
    /// Which points count, beside the filter.
    pub condition: Option<Scalar>,
    /// Its buckets, on the time axis. Those of a statement with `over` are the parts that its windows are made of.
    pub window: Window,
    /// What `over` makes of the parts.
    pub hop: Option<Hop>,
    pub by: Grouping,
    /// What the definition asked for, with its names; what a bare read of the rollup answers.
    pub columns: Vec<OutputColumn>,
    /// What is stored: distinct, sorted, always with [`StateKind::Points`] first.
    pub states: Vec<StateSpec>,
    /// The canonical `create rollup` statement.
    pub definition: String,
    /// The same with `*` for each numeric field, if it was defined so: then it takes fields that come later.
    pub follows: Option<String>,
}

impl RollupInfo {
    /// The groups that its rows are of: states of one series are kept series by series, so that they can be merged in the
    /// order of time, whatever stands between.
    pub fn groups(&self) -> &Grouping {
        let of_one_series = self.states.iter().any(|state| state.kind.is_of_one_series());
        if of_one_series { &Grouping::Series } else { &self.by }
    }

    /// What its definition asks of the points of its table.
    pub fn need(&self) -> Need<'_> {
        Need {
            table: &self.table,
            filter: &self.filter,
            computed: &self.computed,
            condition: self.condition.as_ref(),
            window: &self.window,
            by: self.groups(),
            columns: &self.columns,
            states: &self.states,
        }
    }
}

/// One stored state: of a field, or (for [`StateKind::Points`]) of the points themselves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateSpec {
    pub kind: StateKind,
    pub field: Option<FieldInfo>,
}
