//! What a statement is: the syntax tree, as written, before any name is looked up.
//!
//! Invariant: two trees are equal when they say the same; where a word stood ([`Span`], [`SourceText`])
//! is carried for errors and never compared. Lists that the grammar wants non-empty are non-empty.
//! Not here: text (see `parse` and `print`) and meaning (see `planner`).

use std::sync::Arc;

use storage_format::point::Time;

use crate::catalog::{METRIC_NAME, METRICS_TABLE};
use crate::plan::Function;
use crate::plan::TagTest;
use crate::plan::{Keep, Late};

/// Statements separated by `;`, at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    pub statements: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    pub kind: StatementKind,
    /// The whole script, to show the place of an error found while planning.
    pub text: SourceText,
}

impl Statement {
    /// Whether running it may change what is stored. `explain` never does.
    pub fn changes_data(&self) -> bool {
        match self.kind {
            StatementKind::CreateRollup(_)
            | StatementKind::DropRollup(_)
            | StatementKind::Alter(_)
            | StatementKind::ChangeRollup(_)
            | StatementKind::Delete(_) => true,
            StatementKind::Query(_)
            | StatementKind::Let(_)
            | StatementKind::Show(_)
            | StatementKind::Explain(_) => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum StatementKind {
    Query(Query),
    Let(Let),
    Show(Show),
    CreateRollup(CreateRollup),
    DropRollup(Name),
    Alter(Alter),
    ChangeRollup(ChangeRollup),
    Delete(Delete),
    /// Never of another `Explain`.
    Explain(Box<StatementKind>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub source: Source,
    /// In the order written; which orders make sense is the planner's business.
    pub stages: Vec<Stage>,
}

/// `let name = query`: the statements after it read it by its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Let {
    pub name: Name,
    pub query: Query,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    pub name: Name,
    pub matchers: Vec<Matcher>,
}

impl Source {
    /// A metric as what it is: series of the table of metrics. For statements that are stored, because a table may get the
    /// metric's name later.
    pub fn as_series(&self) -> Source {
        let name = Matcher { tag: Name::new(METRIC_NAME), test: TagTest::Equal(self.name.text.clone()) };
        let matchers = std::iter::once(name).chain(self.matchers.iter().cloned()).collect();
        Source { name: Name::new(METRICS_TABLE), matchers }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Matcher {
    pub tag: Name,
    pub test: TagTest,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    pub kind: StageKind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum StageKind {
    Range(Range),
    Where(Expr),
    Extend(Vec<Assignment>),
    Aggregate(Aggregate),
    Fill(Fill),
    Sort(Vec<SortKey>),
    Rank(Rank),
    Limit(Limit),
    Join(Join),
}

/// `name = expression` of `extend`.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    pub name: Name,
    pub value: Expr,
}

/// What buckets without points get.
#[derive(Clone, Debug, PartialEq)]
pub struct Fill {
    pub how: FillHow,
    /// Nanoseconds: longer gaps stay as they are.
    pub max: Option<i64>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum FillHow {
    Null,
    Previous,
    Linear,
    /// A constant, which may carry a sign.
    Value(Expr),
}

#[derive(Clone, Debug, PartialEq)]
pub struct SortKey {
    pub column: Name,
    pub descending: bool,
}

/// `top` and `bottom`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rank {
    pub largest: bool,
    pub count: u64,
    pub column: Name,
    /// The best of each of these; empty is of all.
    pub per: Vec<Name>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    pub count: u64,
    pub offset: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    pub kind: JoinKind,
    pub right: Source,
    pub on: Vec<Name>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum JoinKind {
    /// Rows that both sides have.
    Inner,
    /// All rows of the left side.
    Left,
    /// The right side's newest row at or before each row of the left, at most so many nanoseconds old.
    Asof { within: Option<i64> },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    /// Nanoseconds, more than zero.
    Last(i64),
    Since(TimeLiteral),
    Between(TimeLiteral, TimeLiteral),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TimeLiteral {
    At(Time),
    /// A date, perhaps with a clock, without a zone: the nanoseconds it has in UTC. It is meant in the statement's zone.
    Civil(Time),
    /// `now`, plus nanoseconds.
    Now(i64),
}

/// A value computed from the columns of a row. `And` and `Or` have at least two members.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    Column(Column),
    Literal(Literal),
    Negate(Box<Expr>),
    Not(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Binary {
        operator: Operator,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// `=~` and `!~`.
    Match {
        value: Box<Expr>,
        pattern: String,
        negated: bool,
    },
    /// The list holds constants, which may carry a sign.
    In {
        value: Box<Expr>,
        list: Vec<Expr>,
        negated: bool,
    },
    Call {
        function: Name,
        arguments: Vec<Expr>,
    },
}

impl Expr {
    /// The same, to be changed.
    pub fn children_mut(&mut self) -> Vec<&mut Expr> {
        match &mut self.kind {
            ExprKind::Column(_) | ExprKind::Literal(_) => Vec::new(),
            ExprKind::Negate(inner) | ExprKind::Not(inner) => vec![inner],
            ExprKind::And(members) | ExprKind::Or(members) => members.iter_mut().collect(),
            ExprKind::Binary { left, right, .. } => vec![left, right],
            ExprKind::Match { value, .. } => vec![value],
            ExprKind::In { value, list, .. } => std::iter::once(&mut **value).chain(list).collect(),
            ExprKind::Call { arguments, .. } => arguments.iter_mut().collect(),
        }
    }

    /// What it is directly made of.
    pub fn children(&self) -> Vec<&Expr> {
        match &self.kind {
            ExprKind::Column(_) | ExprKind::Literal(_) => Vec::new(),
            ExprKind::Negate(inner) | ExprKind::Not(inner) => vec![inner],
            ExprKind::And(members) | ExprKind::Or(members) => members.iter().collect(),
            ExprKind::Binary { left, right, .. } => vec![left, right],
            ExprKind::Match { value, .. } => vec![value],
            ExprKind::In { value, list, .. } => std::iter::once(&**value).chain(list).collect(),
            ExprKind::Call { arguments, .. } => arguments.iter().collect(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    pub const ALL: [Operator; 11] = [
        Operator::Add,
        Operator::Subtract,
        Operator::Multiply,
        Operator::Divide,
        Operator::Remainder,
        Operator::Equal,
        Operator::NotEqual,
        Operator::Less,
        Operator::LessOrEqual,
        Operator::Greater,
        Operator::GreaterOrEqual,
    ];

    pub fn symbol(self) -> &'static str {
        match self {
            Operator::Add => "+",
            Operator::Subtract => "-",
            Operator::Multiply => "*",
            Operator::Divide => "/",
            Operator::Remainder => "%",
            Operator::Equal => "=",
            Operator::NotEqual => "!=",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
        }
    }

    pub fn compares(self) -> bool {
        !matches!(
            self,
            Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Remainder
        )
    }
}

/// A value as written. Numbers have no sign: that is [`ExprKind::Negate`].
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(u64),
    /// Finite.
    Float(f64),
    Text(String),
    /// Nanoseconds, more than zero.
    Duration(i64),
    Time(TimeLiteral),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub kind: ColumnKind,
    pub name: Name,
}

/// Which of a tag and a field of the same name is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    Either,
    Tag,
    Field,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    pub window: Window,
    pub items: Vec<Item>,
    /// None is per series, empty is `by ()`.
    pub by: Option<Vec<Name>>,
    /// `in "Europe/Berlin"`.
    pub zone: Option<ZoneName>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Window {
    /// One bucket, the whole range.
    Whole,
    Every {
        step: Step,
        /// `over`: how far the bucket reaches back from its end. None is as long as the step.
        over: Option<i64>,
        offset: Option<i64>,
    },
    /// Buckets end where no point follows for longer than this.
    Session { gap: i64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nanoseconds, more than zero.
    Length(i64),
    /// At least one.
    Months(u32),
}

#[derive(Clone, Debug, PartialEq)]
pub struct ZoneName {
    pub text: String,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub function: Function,
    pub field: Option<Name>,
    /// `avg(*)`: of each field that is a number. Then there is no `field`.
    pub every_field: bool,
    pub alias: Option<Name>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Show {
    Tables,
    Rollups,
    Metrics,
    Storage,
    Tags { table: Name },
    Fields { table: Name },
    Values { tag: Name, source: Source },
    Series { source: Source },
    Cardinality { source: Source },
}

#[derive(Clone, Debug, PartialEq)]
pub struct CreateRollup {
    pub name: Name,
    pub query: Query,
    /// [`Keep::Default`] if nothing is written.
    pub keep: Keep,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Alter {
    pub target: AlterTarget,
    /// None if only `late` is written.
    pub keep: Option<Keep>,
    /// Of a table.
    pub late: Option<Late>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AlterTarget {
    Table(Name),
    Rollup(Name),
    /// None is the database of the request.
    Database(Option<Name>),
}

/// What is done to a rollup that there is.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeRollup {
    pub name: Name,
    pub change: RollupChange,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RollupChange {
    /// `alter rollup r add max(x)`.
    Add(Vec<Item>),
    /// `alter rollup r drop max(x)`.
    Drop(Vec<Item>),
    Pause,
    Resume,
    /// Now, instead of in the background. The place is that of the range, for errors.
    Refresh(Option<Range>, Span),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Delete {
    pub source: Source,
    pub condition: Option<Expr>,
    pub range: Option<Range>,
    /// Of the range, for errors.
    pub range_span: Span,
}

/// A table's, rollup's, tag's, field's or column's name, without its quotes.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    pub text: String,
    pub span: Span,
}

impl Name {
    /// A name that nobody wrote.
    pub fn new(text: impl Into<String>) -> Name {
        Name { text: text.into(), span: Span::default() }
    }
}

/// Bytes `[start, end)` of the script. All spans are equal: where a word stood is not what it says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// From the start of `self` to the end of `last`.
    pub fn to(self, last: Span) -> Span {
        Span { start: self.start, end: last.end.max(self.start) }
    }
}

impl PartialEq for Span {
    fn eq(&self, _: &Span) -> bool {
        true
    }
}

/// The text that spans point into. Compared like spans: not at all.
#[derive(Clone, Debug, Default)]
pub struct SourceText(pub Arc<str>);

impl PartialEq for SourceText {
    fn eq(&self, _: &SourceText) -> bool {
        true
    }
}
