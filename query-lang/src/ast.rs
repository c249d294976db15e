//! What a statement is: the syntax tree, as written, before any name is looked up.
//!
//! Invariant: two trees are equal when they say the same; where a word stood ([`Span`], [`SourceText`])
//! is carried for errors and never compared. Lists that the grammar wants non-empty are non-empty.
//! Not here: text (see `parse` and `print`) and meaning (see `planner`).

use std::sync::Arc;

use storage_format::point::Time;

use crate::plan::Function;
use crate::plan::Keep;
use crate::plan::TagTest;

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
            | StatementKind::Delete(_) => true,
            StatementKind::Query(_) | StatementKind::Show(_) | StatementKind::Explain(_) => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum StatementKind {
    Query(Query),
    Show(Show),
    CreateRollup(CreateRollup),
    DropRollup(Name),
    Alter(Alter),
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

#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    pub name: Name,
    pub matchers: Vec<Matcher>,
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
    Aggregate(Aggregate),
    Limit(u64),
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
    /// `now`, plus nanoseconds.
    Now(i64),
}

/// A condition. `And` and `Or` have at least two members.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Test { column: Column, test: TagTest },
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
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
    /// Nanoseconds, more than zero. None is one bucket, the whole range.
    pub every: Option<i64>,
    pub items: Vec<Item>,
    /// None is per series, empty is `by ()`.
    pub by: Option<Vec<Name>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub function: Function,
    pub field: Option<Name>,
    pub alias: Option<Name>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Show {
    Tables,
    Rollups,
    Storage,
    Tags { table: Name },
    Fields { table: Name },
    Values { tag: Name, table: Name },
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
    pub keep: Keep,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AlterTarget {
    Table(Name),
    Rollup(Name),
    /// None is the database of the request.
    Database(Option<Name>),
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
