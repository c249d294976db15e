//! A PromQL expression as a tree.
//!
//! Invariant: a tree that [`parse`](crate::promql::parse()) returned is well typed, and no deeper than its limit. Durations and times are
//! milliseconds, as in Prometheus.
//! Not here: text (`parse`, `print`), values (`eval`).

use crate::promql::duration::Duration;
use crate::promql::functions::Function;

/// Bytes `[start, end)` of the query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

#[derive(Clone, Debug)]
pub struct Expr {
    pub node: Node,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub enum Node {
    Number {
        value: f64,
        /// Written as `5m`.
        is_duration: bool,
    },
    /// Bytes, because an escape may write what is no UTF-8.
    Text(Vec<u8>),
    Selector(Selector),
    /// `selector[range]`
    Range {
        selector: Selector,
        range: i64,
    },
    Subquery(Box<Subquery>),
    Call {
        function: &'static Function,
        args: Vec<Expr>,
    },
    Aggregate(Box<Aggregate>),
    Binary(Box<Binary>),
    Unary {
        negative: bool,
        operand: Box<Expr>,
    },
    Paren(Box<Expr>),
}

/// What an expression gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Scalar,
    Text,
    Vector,
    Matrix,
}

#[derive(Clone, Debug)]
pub struct Selector {
    /// Its place among the selectors of the query, from the left.
    pub id: usize,
    /// As written before the braces. The matchers name it, too.
    pub name: Option<String>,
    pub matchers: Vec<Matcher>,
    pub moved: Moved,
    pub extension: Option<Extension>,
    /// How the range behind it is computed, if it is.
    pub computed_range: Option<Box<Duration>>,
    /// Whether only the counts and sums of native histograms are asked for ([`Expr::mark_totals`]).
    pub totals_only: bool,
}

/// What a selector does with samples beyond the edges of its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    Anchored,
    Smoothed,
}

/// `offset` and `@`.
#[derive(Clone, Debug, Default)]
pub struct Moved {
    /// Positive is into the past.
    pub offset: i64,
    pub computed_offset: Option<Box<Duration>>,
    pub at: Option<At>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Time(i64),
    Start,
    End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    pub label: String,
    pub test: MatchTest,
    pub value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchTest {
    Equal,
    NotEqual,
    Matches,
    NotMatches,
}

#[derive(Clone, Debug)]
pub struct Subquery {
    pub inner: Expr,
    pub range: i64,
    /// None: the default resolution.
    pub step: Option<i64>,
    pub moved: Moved,
    pub computed_range: Option<Box<Duration>>,
    pub computed_step: Option<Box<Duration>>,
}

#[derive(Clone, Debug)]
pub struct Aggregate {
    pub op: Aggregator,
    /// Of all of it.
    pub span: Span,
    pub inner: Expr,
    pub param: Option<Expr>,
    pub grouping: Grouping,
}

#[derive(Clone, Debug, Default)]
pub struct Grouping {
    pub without: bool,
    pub labels: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregator {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

#[derive(Clone, Debug)]
pub struct Binary {
    pub op: BinaryOp,
    /// Of the operator.
    pub op_span: Span,
    pub left: Expr,
    pub right: Expr,
    pub returns_bool: bool,
    pub matching: Matching,
}

#[derive(Clone, Debug, Default)]
pub struct Matching {
    /// Whether `labels` are those that count (`on`), or those that do not (`ignoring`).
    pub on: bool,
    pub labels: Vec<String>,
    pub group: Option<Group>,
    pub fill: Fill,
}

/// The values of a side that has no series for a match.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fill {
    pub left: Option<f64>,
    pub right: Option<f64>,
}

#[derive(Clone, Debug)]
pub struct Group {
    /// The side with many series per group: `group_left` or `group_right`.
    pub many: Side,
    /// Labels taken from the other side.
    pub include: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterEqual,
    LessEqual,
    /// `</`, which keeps the observations of a histogram below a value.
    TrimUpper,
    /// `>/`
    TrimLower,
    And,
    Or,
    Unless,
}

impl Expr {
    pub fn returns(&self) -> Type {
        match &self.node {
            Node::Number { .. } => Type::Scalar,
            Node::Text(_) => Type::Text,
            Node::Selector(_) | Node::Aggregate(_) => Type::Vector,
            Node::Range { .. } | Node::Subquery(_) => Type::Matrix,
            Node::Call { function, .. } => function.returns,
            Node::Binary(binary) => match (binary.left.returns(), binary.right.returns()) {
                (Type::Scalar, Type::Scalar) => Type::Scalar,
                _ => Type::Vector,
            },
            Node::Unary { operand, .. } => operand.returns(),
            Node::Paren(inner) => inner.returns(),
        }
    }

    /// Without the parentheses around it.
    pub fn unwrapped(&self) -> &Expr {
        match &self.node {
            Node::Paren(inner) => inner.unwrapped(),
            _ => self,
        }
    }

    /// All selectors in it, from the left.
    pub fn selectors(&self) -> Vec<&Selector> {
        match &self.node {
            Node::Selector(selector) | Node::Range { selector, .. } => vec![selector],
            _ => self.children().into_iter().flat_map(Expr::selectors).collect(),
        }
    }

    /// Marks the selectors of which only the totals of native histograms are asked for: those where `histogram_count`, `histogram_sum` or
    /// `histogram_avg` is the nearest function that looks into histograms. Prometheus does not look at the outermost function of a
    /// query. Buckets that do not go together are no hindrance then. An operator that looks at two histograms sees them whole.
    pub fn mark_totals(&mut self) {
        match &mut self.node {
            Node::Call { args, .. } => args.iter_mut().for_each(|arg| arg.mark_below(false)),
            _ => self.mark_below(false),
        }
    }

    fn mark_below(&mut self, totals_only: bool) {
        let below = match &mut self.node {
            Node::Selector(selector) | Node::Range { selector, .. } => {
                selector.totals_only = totals_only;
                return;
            }
            Node::Call { function, .. } => function.totals_only().unwrap_or(totals_only),
            Node::Binary(binary) => totals_only && binary.works_on_totals(),
            _ => totals_only,
        };
        self.children_mut().into_iter().for_each(|child| child.mark_below(below));
    }

    pub fn children_mut(&mut self) -> Vec<&mut Expr> {
        match &mut self.node {
            Node::Number { .. } | Node::Text(_) | Node::Selector(_) | Node::Range { .. } => Vec::new(),
            Node::Subquery(subquery) => vec![&mut subquery.inner],
            Node::Call { args, .. } => args.iter_mut().collect(),
            Node::Aggregate(aggregate) => {
                aggregate.param.iter_mut().chain(std::iter::once(&mut aggregate.inner)).collect()
            }
            Node::Binary(binary) => vec![&mut binary.left, &mut binary.right],
            Node::Unary { operand: inner, .. } | Node::Paren(inner) => vec![inner],
        }
    }

    pub fn children(&self) -> Vec<&Expr> {
        match &self.node {
            Node::Number { .. } | Node::Text(_) | Node::Selector(_) | Node::Range { .. } => Vec::new(),
            Node::Subquery(subquery) => vec![&subquery.inner],
            Node::Call { args, .. } => args.iter().collect(),
            Node::Aggregate(aggregate) => {
                aggregate.param.iter().chain(std::iter::once(&aggregate.inner)).collect()
            }
            Node::Binary(binary) => vec![&binary.left, &binary.right],
            Node::Unary { operand, .. } => vec![operand],
            Node::Paren(inner) => vec![inner],
        }
    }
}

impl Binary {
    /// Whether the totals of what it gives are what it makes of totals.
    fn works_on_totals(&self) -> bool {
        let by_number = [&self.left, &self.right].iter().any(|side| side.returns() == Type::Scalar);
        self.op.is_set() || by_number && !self.op.is_trim()
    }
}

impl Extension {
    pub fn name(self) -> &'static str {
        match self {
            Extension::Anchored => "anchored",
            Extension::Smoothed => "smoothed",
        }
    }
}

impl Moved {
    pub fn has_offset(&self) -> bool {
        self.offset != 0 || self.computed_offset.is_some()
    }
}

impl Type {
    /// As Prometheus' documentation says it.
    pub fn name(self) -> &'static str {
        match self {
            Type::Scalar => "scalar",
            Type::Text => "string",
            Type::Vector => "instant vector",
            Type::Matrix => "range vector",
        }
    }
}

impl MatchTest {
    pub fn symbol(self) -> &'static str {
        match self {
            MatchTest::Equal => "=",
            MatchTest::NotEqual => "!=",
            MatchTest::Matches => "=~",
            MatchTest::NotMatches => "!~",
        }
    }
}

impl Aggregator {
    pub const ALL: [Aggregator; 14] = [
        Aggregator::Sum,
        Aggregator::Avg,
        Aggregator::Count,
        Aggregator::Min,
        Aggregator::Max,
        Aggregator::Group,
        Aggregator::Stddev,
        Aggregator::Stdvar,
        Aggregator::Topk,
        Aggregator::Bottomk,
        Aggregator::CountValues,
        Aggregator::Quantile,
        Aggregator::Limitk,
        Aggregator::LimitRatio,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Aggregator::Sum => "sum",
            Aggregator::Avg => "avg",
            Aggregator::Count => "count",
            Aggregator::Min => "min",
            Aggregator::Max => "max",
            Aggregator::Group => "group",
            Aggregator::Stddev => "stddev",
            Aggregator::Stdvar => "stdvar",
            Aggregator::Topk => "topk",
            Aggregator::Bottomk => "bottomk",
            Aggregator::CountValues => "count_values",
            Aggregator::Quantile => "quantile",
            Aggregator::Limitk => "limitk",
            Aggregator::LimitRatio => "limit_ratio",
        }
    }

    /// What its parameter is, if it has one.
    pub fn param(self) -> Option<Type> {
        match self {
            Aggregator::Topk
            | Aggregator::Bottomk
            | Aggregator::Quantile
            | Aggregator::Limitk
            | Aggregator::LimitRatio => Some(Type::Scalar),
            Aggregator::CountValues => Some(Type::Text),
            _ => None,
        }
    }
}

impl BinaryOp {
    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Equal => "==",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Greater => ">",
            BinaryOp::Less => "<",
            BinaryOp::GreaterEqual => ">=",
            BinaryOp::LessEqual => "<=",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
        }
    }

    pub fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Equal | NotEqual | Greater | Less | GreaterEqual | LessEqual)
    }

    pub fn is_trim(self) -> bool {
        matches!(self, BinaryOp::TrimUpper | BinaryOp::TrimLower)
    }

    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }

    /// How strongly it binds; `^` alone groups to the right.
    pub fn precedence(self) -> u8 {
        match self {
            BinaryOp::Or => 1,
            BinaryOp::And | BinaryOp::Unless => 2,
            op if op.is_comparison() || op.is_trim() => 3,
            BinaryOp::Add | BinaryOp::Sub => 4,
            BinaryOp::Pow => 6,
            _ => 5,
        }
    }
}
