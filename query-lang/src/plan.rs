//! What to do, with every name resolved: the planner's output and the engine's input.
//!
//! Invariant: every table, field, tag and rollup named in a [`Plan`] existed in the catalog, every time
//! is absolute, every column name is distinct.
//! Not here: how to get at the points (the engine's `query`), nor which buckets of a rollup are clean.

mod window; // buckets along the time axis

use std::borrow::Cow;
use std::num::NonZeroU64;

use storage_format::point::{FieldType, TimeRange};
use storage_format::state::{Finalizer, Fraction, StateKind};

use crate::catalog::{FieldInfo, StateSpec};
use crate::scalar::{Constant, Scalar, ValueType};

#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    Select(Select),
    /// A query with a name, found to be sound; those who name it plan it again.
    Let {
        name: String,
    },
    Show(Show),
    CreateRollup(CreateRollup),
    DropRollup {
        name: String,
    },
    Alter(Alter),
    ChangeRollup(ChangeRollup),
    Delete(Delete),
    Explain(Box<Plan>),
}

/// What is read, and what is done with its rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    pub read: Read,
    pub steps: Vec<Step>,
}

/// Points of one table, or aggregates of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// The table whose raw points define the answer, also when rollups give it.
    pub table: String,
    /// The rollup that the statement named as its source, if it did.
    pub named_rollup: Option<String>,
    pub range: TimeRange,
    pub filter: TagFilter,
    /// Columns computed per point, each from fields, tags and those before it.
    pub computed: Vec<Computed>,
    /// Which points count.
    pub condition: Option<Scalar>,
    pub shape: Shape,
    /// Points come ordered by time from the newest, then series, in place of from the oldest.
    pub newest_first: bool,
    /// No more rows than this are looked at by the steps.
    pub limit: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Points as written: time, tags, fields; ordered by time, then series. The fields may be computed ones.
    Points { fields: Vec<FieldInfo> },
    /// One row per group and bucket; ordered by group, then bucket.
    Aggregate(Aggregate),
}

/// A column and how it is computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Computed {
    pub name: String,
    pub value: Scalar,
}

/// What is done with the rows of a table of columns.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Where(Scalar),
    Extend(Vec<Computed>),
    /// Over columns in place of fields. [`Grouping::Series`] keeps all tags.
    Aggregate(Aggregate),
    Fill(Fill),
    Sort(Vec<SortKey>),
    Rank(Rank),
    Limit {
        count: u64,
        offset: u64,
    },
    Join(Box<Join>),
}

/// Rows for the buckets that have none, group by group.
#[derive(Clone, Debug, PartialEq)]
pub struct Fill {
    pub how: FillHow,
    /// Gaps of buckets longer than this stay.
    pub max: Option<i64>,
    pub window: Window,
    /// Where rows are missed: from its start to its end, where it has them, else from the first row to the last.
    pub range: TimeRange,
}

#[derive(Clone, Debug, PartialEq)]
pub enum FillHow {
    Null,
    Previous,
    Linear,
    Value(Constant),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortKey {
    pub column: String,
    pub descending: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rank {
    pub largest: bool,
    pub count: u64,
    pub column: String,
    pub per: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    pub kind: JoinKind,
    /// The name of the right side, for columns that both sides have.
    pub name: String,
    pub right: Select,
    pub on: Vec<String>,
    /// The columns that the right side brings: its name there, and here.
    pub brings: Vec<(String, String)>,
}

pub use crate::ast::JoinKind;
pub use window::{Hop, Window};

#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    pub window: Window,
    /// Buckets that overlap, made of those of `window`.
    pub hop: Option<Hop>,
    pub by: Grouping,
    pub columns: Vec<OutputColumn>,
    /// What `columns` need: distinct, sorted, always with the count of points first.
    pub states: Vec<StateSpec>,
    /// Rollups that can give all of it, coarsest first. Empty with rollups off.
    pub rollups: Vec<RollupChoice>,
    /// Every other rollup over the same table, with the reason against it.
    pub rejected: Vec<RollupRejection>,
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
    Spread,
    Stddev,
    Variance,
    Median,
    /// `p95`, or `quantile(field, 0.95)`.
    Quantile(Fraction),
    Distinct,
    Mode,
    Rate,
    Increase,
    Delta,
    Resets,
    Integral,
    Twa,
    ExactQuantile(Fraction),
    ExactDistinct,
}

impl Function {
    /// The words users write. Beside them there are `p50`, `p999` and all of their kind.
    pub const NAMES: [&'static str; 22] = [
        "count",
        "sum",
        "avg",
        "min",
        "max",
        "first",
        "last",
        "spread",
        "stddev",
        "variance",
        "median",
        "quantile",
        "distinct",
        "mode",
        "rate",
        "increase",
        "delta",
        "resets",
        "integral",
        "twa",
        "exact_quantile",
        "exact_distinct",
    ];

    fn plain(name: &str) -> Option<Function> {
        Some(match name {
            "count" => Function::Count,
            "sum" => Function::Sum,
            "avg" => Function::Avg,
            "min" => Function::Min,
            "max" => Function::Max,
            "first" => Function::First,
            "last" => Function::Last,
            "spread" => Function::Spread,
            "stddev" => Function::Stddev,
            "variance" => Function::Variance,
            "median" => Function::Median,
            "distinct" => Function::Distinct,
            "mode" => Function::Mode,
            "rate" => Function::Rate,
            "increase" => Function::Increase,
            "delta" => Function::Delta,
            "resets" => Function::Resets,
            "integral" => Function::Integral,
            "twa" => Function::Twa,
            "exact_distinct" => Function::ExactDistinct,
            _ => return None,
        })
    }

    /// Without the number that `quantile` may need.
    pub fn name(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Function::Count => "count",
            Function::Sum => "sum",
            Function::Avg => "avg",
            Function::Min => "min",
            Function::Max => "max",
            Function::First => "first",
            Function::Last => "last",
            Function::Spread => "spread",
            Function::Stddev => "stddev",
            Function::Variance => "variance",
            Function::Median => "median",
            Function::Distinct => "distinct",
            Function::Mode => "mode",
            Function::Rate => "rate",
            Function::Increase => "increase",
            Function::Delta => "delta",
            Function::Resets => "resets",
            Function::Integral => "integral",
            Function::Twa => "twa",
            Function::ExactQuantile(_) => "exact_quantile",
            Function::ExactDistinct => "exact_distinct",
            Function::Quantile(fraction) => match percentile_name(fraction) {
                Some(name) => return Cow::Owned(name),
                None => "quantile",
            },
        })
    }

    /// The number that stands beside the field.
    pub fn number(self) -> Option<f64> {
        match self {
            Function::Quantile(fraction) if percentile_name(fraction).is_some() => None,
            Function::Quantile(fraction) | Function::ExactQuantile(fraction) => {
                Some(f64::from(fraction.billionths()) / f64::from(BILLION))
            }
            _ => None,
        }
    }

    pub fn is_name(text: &str) -> bool {
        Function::NAMES.contains(&text) || percentile(text).is_some()
    }

    /// The function of a name and its number. The error is a sentence.
    pub fn named(name: &str, number: Option<f64>) -> Result<Function, String> {
        let fraction = |number: f64| {
            Fraction::new(number).ok_or_else(|| format!("a quantile goes from 0 to 1, as in {name}(x, 0.95)"))
        };
        match (name, number) {
            ("quantile", Some(number)) => fraction(number).map(Function::Quantile),
            ("exact_quantile", Some(number)) => fraction(number).map(Function::ExactQuantile),
            ("quantile" | "exact_quantile", None) => {
                Err(format!("which quantile? write for example {name}(x, 0.95)"))
            }
            (_, Some(_)) => Err(format!("{name} takes one field and no number")),
            (_, None) => Function::plain(name)
                .or_else(|| percentile(name).map(Function::Quantile))
                .ok_or_else(|| format!("there is no function {name}")),
        }
    }

    /// Whether it makes sense of numbers only.
    pub fn needs_number(self) -> bool {
        !matches!(
            self,
            Function::Count
                | Function::First
                | Function::Last
                | Function::Distinct
                | Function::ExactDistinct
                | Function::Mode
        )
    }

    /// How its states become what users see; `of_field` is false for the points themselves. A rate is per nanosecond
    /// until the width of its bucket is known.
    pub fn finalizer(self, of_field: bool) -> Finalizer {
        match self {
            Function::Count if of_field => Finalizer::Count,
            Function::Count => Finalizer::Points,
            Function::Sum => Finalizer::Sum,
            Function::Avg => Finalizer::Avg,
            Function::Min => Finalizer::Min,
            Function::Max => Finalizer::Max,
            Function::First => Finalizer::First,
            Function::Last => Finalizer::Last,
            Function::Spread => Finalizer::Spread,
            Function::Stddev => Finalizer::Stddev,
            Function::Variance => Finalizer::Variance,
            Function::Median => Finalizer::Quantile(Fraction::MEDIAN),
            Function::Quantile(fraction) => Finalizer::Quantile(fraction),
            Function::Distinct => Finalizer::Distinct,
            Function::Mode => Finalizer::Mode,
            Function::Rate => Finalizer::Rate(NonZeroU64::MIN),
            Function::Increase => Finalizer::Increase,
            Function::Delta => Finalizer::Delta,
            Function::Resets => Finalizer::Resets,
            Function::Integral => Finalizer::Integral,
            Function::Twa => Finalizer::Twa,
            Function::ExactQuantile(fraction) => Finalizer::ExactQuantile(fraction),
            Function::ExactDistinct => Finalizer::ExactDistinct,
        }
    }

    /// The type of its column.
    pub fn value_type(self, field: FieldType) -> FieldType {
        match self {
            Function::Count | Function::Distinct | Function::ExactDistinct | Function::Resets => {
                FieldType::Int
            }
            Function::Avg
            | Function::Stddev
            | Function::Variance
            | Function::Median
            | Function::Quantile(_)
            | Function::Rate
            | Function::Integral
            | Function::Twa => FieldType::Float,
            // What falls has no unsigned value.
            Function::Delta if field == FieldType::UInt => FieldType::Int,
            Function::Sum
            | Function::Min
            | Function::Max
            | Function::First
            | Function::Last
            | Function::Spread
            | Function::Mode
            | Function::Increase
            | Function::Delta
            | Function::ExactQuantile(_) => field,
        }
    }
}

const BILLION: u32 = 1_000_000_000;

/// `p95` is 0.95, `p999` is 0.999: two digits or more after the point.
fn percentile(name: &str) -> Option<Fraction> {
    let digits = name.strip_prefix('p')?;
    let sound = (2..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let billionths = sound.then(|| format!("{digits:0<9}").parse::<u32>().ok()).flatten()?;
    Fraction::new(f64::from(billionths) / f64::from(BILLION))
}

/// The shortest such name.
fn percentile_name(fraction: Fraction) -> Option<String> {
    let billionths = fraction.billionths();
    if billionths == BILLION || billionths == 0 {
        return None;
    }
    let digits = format!("{billionths:09}");
    Some(format!("p{:0<2}", digits.trim_end_matches('0')))
}

impl OutputColumn {
    pub fn value_type(&self) -> ValueType {
        use Function::{First, Last, Max, Min};
        match &self.field {
            None => ValueType::Int,
            // The time of points is no field of theirs, and no field is called so.
            Some(field) if field.name == "time" && matches!(self.function, First | Last | Max | Min) => {
                ValueType::Time
            }
            Some(field) => self.function.value_type(field.field_type).into(),
        }
    }

    /// The states that give it.
    pub fn states(&self) -> Vec<StateSpec> {
        let Some(field) = &self.field else {
            return vec![StateSpec { kind: StateKind::Points, field: None }];
        };
        let kinds = self.function.finalizer(true).needs().iter();
        kinds.map(|kind| StateSpec { kind: *kind, field: Some(field.clone()) }).collect()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct RollupChoice {
    pub name: String,
    pub window: Window,
    /// Where the aggregate's states stand among the rollup's, one for each.
    pub places: Vec<usize>,
    /// What of the filter its groups still have to pass.
    pub filter: TagFilter,
    /// Its definition when it was chosen: whoever reads makes sure that it has no other by then.
    pub definition: String,
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
    Tags { table: String, filter: TagFilter },
    Fields { table: String },
    Values { tag: String, table: String, filter: TagFilter },
    Series { table: String, filter: TagFilter },
    Rollups,
    Metrics,
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
    /// None: as it is.
    pub keep: Option<Keep>,
    /// Of a table. None: as it is.
    pub late: Option<Late>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlterTarget {
    Table(String),
    Rollup(String),
    /// None is the database of the request. A named one is not looked up here: a catalog is of one database.
    Database(Option<String>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct ChangeRollup {
    pub name: String,
    pub change: RollupChange,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RollupChange {
    /// It becomes this one, computed beside it.
    Rebuild(Box<crate::catalog::RollupInfo>),
    Pause,
    Resume,
    Refresh(TimeRange),
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

/// What becomes of a point that comes when its time has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// Rollups take it into the states that they have of its time.
    Merge,
    /// An error of its own.
    Refuse,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    pub table: String,
    pub filter: TagFilter,
    pub range: TimeRange,
}
