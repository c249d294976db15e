//! Expressions with every name and type resolved: what is computed row by row.
//!
//! Invariant: the type of each node is what its value has wherever it is not null; operands have the types that
//! their operator takes.
//! Not here: how they are resolved (`planner`), and the computing (the engine's `query`).

use std::fmt;
use std::fmt::Display;
use std::fmt::Formatter;

use storage_format::point::{FieldType, Time};

use crate::ast::Operator;
use crate::print;
use crate::time::{format_duration, format_time};

#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    pub kind: ScalarKind,
    pub value_type: ValueType,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ScalarKind {
    Column(ColumnRef),
    Constant(Constant),
    Negate(Box<Scalar>),
    Not(Box<Scalar>),
    And(Vec<Scalar>),
    Or(Vec<Scalar>),
    Binary {
        operator: Operator,
        left: Box<Scalar>,
        right: Box<Scalar>,
    },
    Match {
        value: Box<Scalar>,
        pattern: String,
        negated: bool,
    },
    In {
        value: Box<Scalar>,
        list: Vec<Constant>,
        negated: bool,
    },
    Call {
        function: ScalarFunction,
        arguments: Vec<Scalar>,
    },
    /// Looks at other rows of the same group.
    Axis {
        function: AxisFunction,
        argument: Box<Scalar>,
    },
}

/// A column by its name and role: a point may have a tag and a field of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnRef {
    pub name: String,
    pub role: ColumnRole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnRole {
    Time,
    /// Text; empty where a series lacks the tag.
    Tag,
    Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// Of `null` alone.
    Null,
    Bool,
    Int,
    UInt,
    Float,
    Str,
    /// Nanoseconds since 1970.
    Time,
    /// Nanoseconds.
    Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    Str(String),
    Time(Time),
    Duration(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScalarFunction {
    Abs,
    Ceil,
    Floor,
    Round,
    Sqrt,
    Ln,
    Log2,
    Log10,
    Exp,
    Pow,
    ClampMin,
    ClampMax,
    If,
    Coalesce,
    Exists,
    Lower,
    Upper,
    Trim,
    Length,
    Concat,
    Contains,
    StartsWith,
    EndsWith,
    Replace,
    Substr,
    Float,
    Int,
    Text,
}

/// What it does along the time axis of a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AxisFunction {
    /// The value of so many rows before.
    ShiftRows(i64),
    /// The value of the row so many nanoseconds before, if there is one.
    ShiftTime(i64),
    /// The difference to the row before.
    Diff,
    /// The difference to the row before per so many nanoseconds.
    Derivative(i64),
    /// The average of the row and those before it, so many together.
    MovingAvg(u32),
    /// The exponentially weighted average: each row counts so much, all before it the rest.
    Ewma(f64),
    /// The sum of the row and all before it.
    Cumulative,
}

impl Scalar {
    pub fn new(kind: ScalarKind, value_type: ValueType) -> Scalar {
        Scalar { kind, value_type }
    }

    pub fn constant(value: Constant) -> Scalar {
        Scalar { value_type: value.value_type(), kind: ScalarKind::Constant(value) }
    }

    pub fn column(name: impl Into<String>, role: ColumnRole, value_type: ValueType) -> Scalar {
        Scalar { kind: ScalarKind::Column(ColumnRef { name: name.into(), role }), value_type }
    }

    /// The same with other columns in place of its own.
    #[must_use]
    pub fn with_columns(&self, replaced: &impl Fn(&ColumnRef) -> Option<Scalar>) -> Scalar {
        let of = |inner: &Scalar| Box::new(inner.with_columns(replaced));
        let all = |members: &[Scalar]| members.iter().map(|member| member.with_columns(replaced)).collect();
        let kind = match &self.kind {
            ScalarKind::Column(column) => {
                return replaced(column).unwrap_or_else(|| self.clone());
            }
            ScalarKind::Constant(constant) => ScalarKind::Constant(constant.clone()),
            ScalarKind::Negate(inner) => ScalarKind::Negate(of(inner)),
            ScalarKind::Not(inner) => ScalarKind::Not(of(inner)),
            ScalarKind::And(members) => ScalarKind::And(all(members)),
            ScalarKind::Or(members) => ScalarKind::Or(all(members)),
            ScalarKind::Binary { operator, left, right } => {
                ScalarKind::Binary { operator: *operator, left: of(left), right: of(right) }
            }
            ScalarKind::Match { value, pattern, negated } => {
                ScalarKind::Match { value: of(value), pattern: pattern.clone(), negated: *negated }
            }
            ScalarKind::In { value, list, negated } => {
                ScalarKind::In { value: of(value), list: list.clone(), negated: *negated }
            }
            ScalarKind::Call { function, arguments } => {
                ScalarKind::Call { function: *function, arguments: all(arguments) }
            }
            ScalarKind::Axis { function, argument } => {
                ScalarKind::Axis { function: *function, argument: of(argument) }
            }
        };
        Scalar { kind, value_type: self.value_type }
    }

    /// The members of an `and`, or itself.
    pub fn conjuncts(&self) -> Vec<&Scalar> {
        match &self.kind {
            ScalarKind::And(members) => members.iter().flat_map(Scalar::conjuncts).collect(),
            _ => vec![self],
        }
    }

    /// What it is directly made of.
    pub fn children(&self) -> Vec<&Scalar> {
        match &self.kind {
            ScalarKind::Column(_) | ScalarKind::Constant(_) => Vec::new(),
            ScalarKind::Negate(inner) | ScalarKind::Not(inner) => vec![inner],
            ScalarKind::And(members) | ScalarKind::Or(members) => members.iter().collect(),
            ScalarKind::Binary { left, right, .. } => vec![left, right],
            ScalarKind::Match { value, .. } | ScalarKind::In { value, .. } => vec![value],
            ScalarKind::Call { arguments, .. } => arguments.iter().collect(),
            ScalarKind::Axis { argument, .. } => vec![argument],
        }
    }

    /// Whether it looks at other rows.
    pub fn looks_around(&self) -> bool {
        matches!(self.kind, ScalarKind::Axis { .. }) || self.children().into_iter().any(Scalar::looks_around)
    }

    /// The columns it reads, with repetitions.
    pub fn columns(&self) -> Vec<&ColumnRef> {
        match &self.kind {
            ScalarKind::Column(column) => vec![column],
            _ => self.children().into_iter().flat_map(Scalar::columns).collect(),
        }
    }
}

impl Constant {
    pub fn value_type(&self) -> ValueType {
        match self {
            Constant::Null => ValueType::Null,
            Constant::Bool(_) => ValueType::Bool,
            Constant::Int(_) => ValueType::Int,
            Constant::UInt(_) => ValueType::UInt,
            Constant::Float(_) => ValueType::Float,
            Constant::Str(_) => ValueType::Str,
            Constant::Time(_) => ValueType::Time,
            Constant::Duration(_) => ValueType::Duration,
        }
    }
}

impl ValueType {
    pub fn is_number(self) -> bool {
        matches!(self, ValueType::Int | ValueType::UInt | ValueType::Float)
    }

    /// With its article, for errors.
    pub fn described(self) -> &'static str {
        match self {
            ValueType::Null => "null",
            ValueType::Bool => "a boolean",
            ValueType::Int => "an integer",
            ValueType::UInt => "an unsigned integer",
            ValueType::Float => "a float",
            ValueType::Str => "a text",
            ValueType::Time => "a time",
            ValueType::Duration => "a duration",
        }
    }

    /// The type of a field with such values; times and durations are nanoseconds.
    pub fn as_field(self) -> FieldType {
        match self {
            ValueType::Bool => FieldType::Bool,
            ValueType::Int | ValueType::Time | ValueType::Duration => FieldType::Int,
            ValueType::UInt => FieldType::UInt,
            ValueType::Float | ValueType::Null => FieldType::Float,
            ValueType::Str => FieldType::Str,
        }
    }
}

impl From<FieldType> for ValueType {
    fn from(field_type: FieldType) -> ValueType {
        match field_type {
            FieldType::Float => ValueType::Float,
            FieldType::Int => ValueType::Int,
            FieldType::UInt => ValueType::UInt,
            FieldType::Bool => ValueType::Bool,
            // The language has no binary values; catalogs leave such fields out.
            FieldType::Str | FieldType::Binary => ValueType::Str,
        }
    }
}

impl ScalarFunction {
    pub const ALL: [(&'static str, ScalarFunction); 28] = [
        ("abs", ScalarFunction::Abs),
        ("ceil", ScalarFunction::Ceil),
        ("floor", ScalarFunction::Floor),
        ("round", ScalarFunction::Round),
        ("sqrt", ScalarFunction::Sqrt),
        ("ln", ScalarFunction::Ln),
        ("log2", ScalarFunction::Log2),
        ("log10", ScalarFunction::Log10),
        ("exp", ScalarFunction::Exp),
        ("pow", ScalarFunction::Pow),
        ("clamp_min", ScalarFunction::ClampMin),
        ("clamp_max", ScalarFunction::ClampMax),
        ("if", ScalarFunction::If),
        ("coalesce", ScalarFunction::Coalesce),
        ("exists", ScalarFunction::Exists),
        ("lower", ScalarFunction::Lower),
        ("upper", ScalarFunction::Upper),
        ("trim", ScalarFunction::Trim),
        ("length", ScalarFunction::Length),
        ("concat", ScalarFunction::Concat),
        ("contains", ScalarFunction::Contains),
        ("starts_with", ScalarFunction::StartsWith),
        ("ends_with", ScalarFunction::EndsWith),
        ("replace", ScalarFunction::Replace),
        ("substr", ScalarFunction::Substr),
        ("float", ScalarFunction::Float),
        ("int", ScalarFunction::Int),
        ("text", ScalarFunction::Text),
    ];

    pub fn named(name: &str) -> Option<ScalarFunction> {
        ScalarFunction::ALL.into_iter().find(|(own, _)| *own == name).map(|(_, function)| function)
    }

    pub fn name(self) -> &'static str {
        let found = ScalarFunction::ALL.into_iter().find(|(_, function)| *function == self);
        found.map(|(name, _)| name).expect("every function is listed")
    }
}

/// For `explain`: all parentheses are written.
impl Display for Scalar {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let list = |f: &mut Formatter<'_>, members: &[Scalar], separator: &str| {
            members.iter().enumerate().try_for_each(|(at, member)| {
                f.write_str(if at == 0 { "" } else { separator })?;
                match &member.kind {
                    ScalarKind::And(_) | ScalarKind::Or(_) => write!(f, "({member})"),
                    _ => member.fmt(f),
                }
            })
        };
        let operand = |scalar: &Scalar| match &scalar.kind {
            ScalarKind::Binary { .. } | ScalarKind::And(_) | ScalarKind::Or(_) => format!("({scalar})"),
            _ => scalar.to_string(),
        };
        match &self.kind {
            ScalarKind::Column(column) => f.write_str(&print::name(&column.name)),
            ScalarKind::Constant(constant) => constant.fmt(f),
            ScalarKind::Negate(inner) => write!(f, "-{}", operand(inner)),
            ScalarKind::Not(inner) => write!(f, "not {}", operand(inner)),
            ScalarKind::And(members) => list(f, members, " and "),
            ScalarKind::Or(members) => list(f, members, " or "),
            ScalarKind::Binary { operator, left, right } => {
                write!(f, "{} {} {}", operand(left), operator.symbol(), operand(right))
            }
            ScalarKind::Match { value, pattern, negated } => {
                write!(f, "{} {} {pattern:?}", operand(value), if *negated { "!~" } else { "=~" })
            }
            ScalarKind::In { value, list, negated } => {
                let list: Vec<String> = list.iter().map(ToString::to_string).collect();
                write!(f, "{} {}in ({})", operand(value), if *negated { "not " } else { "" }, list.join(", "))
            }
            ScalarKind::Call { function, arguments } => {
                write!(f, "{}(", function.name())?;
                list(f, arguments, ", ")?;
                f.write_str(")")
            }
            ScalarKind::Axis { function, argument } => match function {
                AxisFunction::ShiftRows(rows) => write!(f, "shift({argument}, {rows})"),
                AxisFunction::ShiftTime(length) => {
                    write!(f, "shift({argument}, {})", format_duration(*length))
                }
                AxisFunction::Diff => write!(f, "diff({argument})"),
                AxisFunction::Derivative(unit) => {
                    write!(f, "derivative({argument}, {})", format_duration(*unit))
                }
                AxisFunction::MovingAvg(rows) => write!(f, "moving_avg({argument}, {rows})"),
                AxisFunction::Ewma(weight) => write!(f, "ewma({argument}, {weight})"),
                AxisFunction::Cumulative => write!(f, "cumulative({argument})"),
            },
        }
    }
}

impl Display for Constant {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Constant::Null => f.write_str("null"),
            Constant::Bool(value) => value.fmt(f),
            Constant::Int(value) => value.fmt(f),
            Constant::UInt(value) => value.fmt(f),
            Constant::Float(value) => f.write_str(&print::float(*value)),
            Constant::Str(text) => write!(f, "{text:?}"),
            Constant::Time(time) => f.write_str(&format_time(*time)),
            Constant::Duration(length) => f.write_str(&format_duration(*length)),
        }
    }
}

impl AxisFunction {
    pub const NAMES: [&'static str; 6] = ["shift", "diff", "derivative", "moving_avg", "ewma", "cumulative"];
}
