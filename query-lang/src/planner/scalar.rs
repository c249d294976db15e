//! Expressions: names to columns, operators and functions to types.
//!
//! Invariant: what comes out keeps the promises of [`Scalar`].

use crate::ast::{Column, ColumnKind, Expr, ExprKind, Literal, Name, Operator, Span};
use crate::calendar::Zone;
use crate::catalog::TableInfo;
use crate::error::ErrorKind;
use crate::error::Problem;
use crate::error::{did_you_mean, list_names};
use crate::plan::{Function, TagFilter, TagTest};
use crate::print;
use crate::rewrite;
use crate::scalar::{AxisFunction, ColumnRole, Constant, Scalar, ScalarFunction, ScalarKind, ValueType};
use crate::time;

use super::Planner;
use super::functions::Call;

/// The columns that an expression may name.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// For errors: "the table cpu", "the answer so far".
    pub of: String,
    pub columns: Vec<ScopeColumn>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct ScopeColumn {
    pub name: String,
    pub role: ColumnRole,
    pub value_type: ValueType,
}

/// Where functions along the time axis may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Allowed,
    /// Why not, as a sentence.
    Refused(&'static str),
}

pub(super) const TIME: &str = "time";

impl Scope {
    /// A table's time, tags and fields.
    pub fn of_table(table: &TableInfo) -> Scope {
        let mut scope = Scope { of: format!("the table {}", print::name(&table.name)), columns: Vec::new() };
        scope.push(TIME, ColumnRole::Time, ValueType::Time);
        table.tags.iter().for_each(|tag| scope.push(tag, ColumnRole::Tag, ValueType::Str));
        table
            .fields
            .iter()
            .for_each(|field| scope.push(&field.name, ColumnRole::Value, field.field_type.into()));
        scope
    }

    pub fn answer() -> Scope {
        Scope { of: "the rows before this stage".to_owned(), columns: Vec::new() }
    }

    pub fn push(&mut self, name: &str, role: ColumnRole, value_type: ValueType) {
        self.columns.push(ScopeColumn { name: name.to_owned(), role, value_type });
    }

    /// Adds a value, or gives the one of that name a new meaning.
    pub fn assign(&mut self, name: &str, value_type: ValueType) {
        match self.columns.iter_mut().find(|column| column.name == name && column.role == ColumnRole::Value) {
            Some(column) => column.value_type = value_type,
            None => self.push(name, ColumnRole::Value, value_type),
        }
    }

    pub fn get(&self, name: &str, role: ColumnRole) -> Option<&ScopeColumn> {
        self.columns.iter().find(|column| column.name == name && column.role == role)
    }

    pub fn has_time(&self) -> bool {
        self.get(TIME, ColumnRole::Time).is_some()
    }

    pub fn of_role(&self, role: ColumnRole) -> impl Iterator<Item = &ScopeColumn> {
        self.columns.iter().filter(move |column| column.role == role)
    }

    /// The one column that a name means.
    pub fn find(&self, name: &Name) -> Result<&ScopeColumn, Problem> {
        let mut found = self.columns.iter().filter(|column| column.name == name.text);
        match (found.next(), found.next()) {
            (Some(column), None) => Ok(column),
            (Some(_), Some(_)) => {
                let message = format!("{name} is both a tag and a field of {}", self.of);
                let hint = format!("write `tag({name})` or `field({name})`");
                Err(Problem::new(ErrorKind::Name, name.span, message).hint(hint))
            }
            (None, _) => Err(self.unknown(name, "column", |_| true)),
        }
    }

    fn column(&self, column: &Column) -> Result<&ScopeColumn, Problem> {
        let (role, what) = match column.kind {
            ColumnKind::Either => return self.find(&column.name),
            ColumnKind::Tag => (ColumnRole::Tag, "tag"),
            ColumnKind::Field => (ColumnRole::Value, "field"),
        };
        let found = self.get(&column.name.text, role);
        found.ok_or_else(|| self.unknown(&column.name, what, |known| known.role == role))
    }

    fn unknown(&self, name: &Name, what: &str, fits: impl Fn(&ScopeColumn) -> bool) -> Problem {
        let names: Vec<&str> =
            self.columns.iter().filter(|column| fits(column)).map(|column| column.name.as_str()).collect();
        let message = format!("{name} is not a {what} of {}", self.of);
        Problem::new(ErrorKind::UnknownColumn, name.span, message)
            .hint(format!("its {what}s are {}", list_names(names.iter().copied())))
            .hint_if(did_you_mean(&name.text, names))
    }
}

impl Planner<'_> {
    /// A condition: true, false or null.
    pub(super) fn condition(
        &self,
        expr: &Expr,
        scope: &Scope,
        zone: &Zone,
        axis: Axis,
    ) -> Result<Scalar, Problem> {
        let condition = self.scalar(expr, scope, zone, axis)?;
        match condition.value_type {
            ValueType::Bool | ValueType::Null => Ok(condition),
            other => {
                let message = format!("a condition is true or false, and this is {}", other.described());
                Err(Problem::new(ErrorKind::Type, expr.span, message)
                    .hint("compare it with something, as in `x > 0`"))
            }
        }
    }

    pub(super) fn scalar(
        &self,
        expr: &Expr,
        scope: &Scope,
        zone: &Zone,
        axis: Axis,
    ) -> Result<Scalar, Problem> {
        Binder { scope, zone, now: self.context.now, axis }.bind(expr)
    }
}

/// The conditions on tags alone become a filter; what is left is looked at row by row.
pub(super) fn split(condition: Scalar) -> (TagFilter, Vec<Scalar>) {
    let members = match condition.kind {
        ScalarKind::And(members) => members,
        _ => vec![condition],
    };
    let (mut filters, mut rest) = (Vec::new(), Vec::new());
    for member in members {
        match tag_filter(&member) {
            Some(filter) => filters.push(filter),
            None => rest.push(member),
        }
    }
    (rewrite::all_of(filters), rest)
}

fn tag_filter(scalar: &Scalar) -> Option<TagFilter> {
    let tag = |scalar: &Scalar| match &scalar.kind {
        ScalarKind::Column(column) if column.role == ColumnRole::Tag => Some(column.name.clone()),
        _ => None,
    };
    let text = |scalar: &Scalar| match &scalar.kind {
        ScalarKind::Constant(Constant::Str(text)) => Some(text.clone()),
        _ => None,
    };
    let members = |members: &[Scalar]| members.iter().map(tag_filter).collect::<Option<Vec<_>>>();
    Some(match &scalar.kind {
        ScalarKind::And(parts) => rewrite::all_of(members(parts)?),
        ScalarKind::Or(parts) => TagFilter::Or(members(parts)?),
        ScalarKind::Not(inner) => TagFilter::Not(Box::new(tag_filter(inner)?)),
        ScalarKind::Binary { operator, left, right } => {
            let (tag, text) = tag(left).zip(text(right)).or_else(|| tag(right).zip(text(left)))?;
            let test = match operator {
                Operator::Equal => TagTest::Equal(text),
                Operator::NotEqual => TagTest::NotEqual(text),
                _ => return None,
            };
            TagFilter::Match { tag, test }
        }
        ScalarKind::Match { value, pattern, negated } => {
            let test = if *negated { TagTest::NotMatches } else { TagTest::Matches };
            TagFilter::Match { tag: tag(value)?, test: test(pattern.clone()) }
        }
        ScalarKind::In { value, list, negated } => {
            let text = |constant: &Constant| match constant {
                Constant::Str(text) => Some(text.clone()),
                _ => None,
            };
            let texts = list.iter().map(text).collect::<Option<Vec<_>>>()?;
            let test = if *negated { TagTest::NotIn } else { TagTest::In };
            TagFilter::Match { tag: tag(value)?, test: test(texts) }
        }
        ScalarKind::Column(_) | ScalarKind::Constant(_) | ScalarKind::Negate(_) => return None,
        ScalarKind::Call { .. } | ScalarKind::Axis { .. } => return None,
    })
}

struct Binder<'a> {
    scope: &'a Scope,
    zone: &'a Zone,
    now: i64,
    axis: Axis,
}

pub(super) fn type_error(span: Span, message: String) -> Problem {
    Problem::new(ErrorKind::Type, span, message)
}

impl Binder<'_> {
    fn bind(&self, expr: &Expr) -> Result<Scalar, Problem> {
        match &expr.kind {
            ExprKind::Column(column) => {
                let found = self.scope.column(column)?;
                Ok(Scalar::column(found.name.as_str(), found.role, found.value_type))
            }
            ExprKind::Literal(literal) => Ok(Scalar::constant(self.literal(literal, expr.span)?)),
            ExprKind::Negate(inner) => self.negate(inner),
            ExprKind::Not(inner) => {
                let inner = self.boolean(inner, "not")?;
                Ok(Scalar::new(ScalarKind::Not(Box::new(inner)), ValueType::Bool))
            }
            ExprKind::And(members) => {
                let bound: Result<Vec<_>, _> =
                    members.iter().map(|member| self.boolean(member, "and")).collect();
                // Flat, so that each can be told apart as a condition on tags.
                let flat = |member: Scalar| match member.kind {
                    ScalarKind::And(members) => members,
                    _ => vec![member],
                };
                let members = bound?.into_iter().flat_map(flat).collect();
                Ok(Scalar::new(ScalarKind::And(members), ValueType::Bool))
            }
            ExprKind::Or(members) => {
                let members: Result<Vec<_>, _> =
                    members.iter().map(|member| self.boolean(member, "or")).collect();
                Ok(Scalar::new(ScalarKind::Or(members?), ValueType::Bool))
            }
            ExprKind::Binary { operator, left, right } => {
                let (bound_left, bound_right) = (self.bind(left)?, self.bind(right)?);
                if operator.compares() {
                    self.compare(expr.span, *operator, bound_left, bound_right)
                } else {
                    arithmetic(expr.span, *operator, bound_left, bound_right)
                }
            }
            ExprKind::Match { value, pattern, negated } => {
                let bound = self.text(value, if *negated { "!~" } else { "=~" })?;
                let kind =
                    ScalarKind::Match { value: Box::new(bound), pattern: pattern.clone(), negated: *negated };
                Ok(Scalar::new(kind, ValueType::Bool))
            }
            ExprKind::In { value, list, negated } => {
                let value = self.bind(value)?;
                let member = |member: &Expr| {
                    let bound = self.bind(member)?;
                    let bound = self.compare(member.span, Operator::Equal, value.clone(), bound)?;
                    match bound.kind {
                        ScalarKind::Binary { right, .. } => match right.kind {
                            ScalarKind::Constant(constant) => Ok(constant),
                            _ => unreachable!("bug: the parser lets only constants into lists"),
                        },
                        _ => unreachable!("bug: a comparison is binary"),
                    }
                };
                let list = list.iter().map(member).collect::<Result<Vec<_>, Problem>>()?;
                let kind = ScalarKind::In { value: Box::new(value), list, negated: *negated };
                Ok(Scalar::new(kind, ValueType::Bool))
            }
            ExprKind::Call { function, arguments } => self.call(expr.span, function, arguments),
        }
    }

    fn literal(&self, literal: &Literal, span: Span) -> Result<Constant, Problem> {
        Ok(match literal {
            Literal::Null => Constant::Null,
            Literal::Bool(value) => Constant::Bool(*value),
            Literal::Int(value) => match i64::try_from(*value) {
                Ok(value) => Constant::Int(value),
                Err(_) => Constant::UInt(*value),
            },
            Literal::Float(value) => Constant::Float(*value),
            Literal::Text(text) => Constant::Str(text.clone()),
            Literal::Duration(length) => Constant::Duration(*length),
            Literal::Time(literal) => {
                let time = time::resolve(*literal, self.now, self.zone);
                Constant::Time(time.ok_or_else(|| Problem::new(ErrorKind::Range, span, time::OUT_OF_RANGE))?)
            }
        })
    }

    fn negate(&self, inner: &Expr) -> Result<Scalar, Problem> {
        let bound = self.bind(inner)?;
        let folded = match &bound.kind {
            ScalarKind::Constant(Constant::Int(value)) => Some(Constant::Int(-value)),
            ScalarKind::Constant(Constant::UInt(value)) if *value == 1 << 63 => Some(Constant::Int(i64::MIN)),
            ScalarKind::Constant(Constant::UInt(value)) => Some(Constant::Float(-(*value as f64))),
            ScalarKind::Constant(Constant::Float(value)) => Some(Constant::Float(-value)),
            ScalarKind::Constant(Constant::Duration(value)) => Some(Constant::Duration(-value)),
            _ => None,
        };
        if let Some(constant) = folded {
            return Ok(Scalar::constant(constant));
        }
        let value_type = match bound.value_type {
            // What is below nothing has no unsigned value.
            ValueType::UInt | ValueType::Int => ValueType::Int,
            ValueType::Float | ValueType::Duration | ValueType::Null => bound.value_type,
            other => {
                return Err(type_error(
                    inner.span,
                    format!("`-` takes a number, and this is {}", other.described()),
                ));
            }
        };
        Ok(Scalar::new(ScalarKind::Negate(Box::new(bound)), value_type))
    }

    fn boolean(&self, expr: &Expr, operator: &str) -> Result<Scalar, Problem> {
        let bound = self.bind(expr)?;
        match bound.value_type {
            ValueType::Bool | ValueType::Null => Ok(bound),
            other => {
                let message = format!("`{operator}` takes conditions, and this is {}", other.described());
                Err(type_error(expr.span, message).hint("compare it with something, as in `x > 0`"))
            }
        }
    }

    fn text(&self, expr: &Expr, operator: &str) -> Result<Scalar, Problem> {
        let bound = self.bind(expr)?;
        match bound.value_type {
            ValueType::Str | ValueType::Null => Ok(bound),
            other => Err(type_error(
                expr.span,
                format!("`{operator}` takes a text, and this is {}", other.described()),
            )),
        }
    }

    fn compare(
        &self,
        span: Span,
        operator: Operator,
        left: Scalar,
        right: Scalar,
    ) -> Result<Scalar, Problem> {
        let (a, b) = (left.value_type, right.value_type);
        let alike = a == b || a.is_number() && b.is_number() || a == ValueType::Null || b == ValueType::Null;
        if !alike {
            let message = format!("{} cannot be compared with {}", a.described(), b.described());
            let is_tag =
                |scalar: &Scalar| matches!(&scalar.kind, ScalarKind::Column(c) if c.role == ColumnRole::Tag);
            let hint = match (a, b) {
                _ if is_tag(&left) || is_tag(&right) => Some("a tag is text: put the value in quotes"),
                (ValueType::Time, _) | (_, ValueType::Time) => {
                    Some("a time is written without quotes, as in 2026-01-31T10:30")
                }
                (ValueType::Duration, _) | (_, ValueType::Duration) => {
                    Some("a duration has a unit, as in 5m")
                }
                _ => None,
            };
            return Err(type_error(span, message).hint_if(hint.map(str::to_owned)));
        }
        let kind = ScalarKind::Binary { operator, left: Box::new(left), right: Box::new(right) };
        Ok(Scalar::new(kind, ValueType::Bool))
    }

    fn call(&self, span: Span, name: &Name, arguments: &[Expr]) -> Result<Scalar, Problem> {
        if AxisFunction::NAMES.contains(&name.text.as_str()) {
            return self.axis(span, name, arguments);
        }
        let Some(function) = ScalarFunction::named(&name.text) else {
            let names = ScalarFunction::ALL.iter().map(|(name, _)| *name).chain(AxisFunction::NAMES);
            let message = format!("there is no function {name}");
            let problem = Problem::new(ErrorKind::UnknownFunction, name.span, message);
            if Function::is_name(&name.text) {
                return Err(problem.hint(format!(
                    "{name} is an aggregate: it stands in a stage of its own, as in `| every 1m {name}(...)`"
                )));
            }
            return Err(problem.hint_if(did_you_mean(&name.text, names)));
        };
        let bound: Vec<Scalar> =
            arguments.iter().map(|argument| self.bind(argument)).collect::<Result<_, _>>()?;
        let call = Call { span, name: &name.text, arguments, bound: &bound };
        let value_type = call.value_type(function)?;
        Ok(Scalar::new(ScalarKind::Call { function, arguments: bound }, value_type))
    }

    fn axis(&self, span: Span, name: &Name, arguments: &[Expr]) -> Result<Scalar, Problem> {
        if let Axis::Refused(why) = self.axis {
            return Err(Problem::new(
                ErrorKind::Unsupported,
                span,
                format!("{name} cannot stand here: {why}"),
            ));
        }
        let bound: Vec<Scalar> =
            arguments.iter().map(|argument| self.bind(argument)).collect::<Result<_, _>>()?;
        let call = Call { span, name: &name.text, arguments, bound: &bound };
        let constant = |at: usize| match bound.get(at).map(|scalar| &scalar.kind) {
            Some(ScalarKind::Constant(constant)) => Some(constant),
            _ => None,
        };
        let number = |takes: &str, message: String| Err(call.wrong(1, takes, message));
        let (function, value_type) = match name.text.as_str() {
            "shift" => {
                call.count(2..=2, "a column, and rows or a duration, as in shift(x, 1) or shift(x, 1d)")?;
                let function = match constant(1) {
                    Some(Constant::Int(rows)) => AxisFunction::ShiftRows(*rows),
                    Some(Constant::Duration(length)) => AxisFunction::ShiftTime(*length),
                    _ => return number("rows or a duration", "as in shift(x, 1) or shift(x, 1d)".to_owned()),
                };
                (function, bound[0].value_type)
            }
            "diff" => {
                call.count(1..=1, "one column")?;
                let value_type = call.numeric(0)?;
                (AxisFunction::Diff, if value_type == ValueType::UInt { ValueType::Int } else { value_type })
            }
            "derivative" => {
                call.count(1..=2, "a column, and perhaps the unit of time, as in derivative(x, 1m)")?;
                call.numeric(0)?;
                let unit = match (bound.len(), constant(1)) {
                    (1, _) => time::SECOND,
                    (_, Some(Constant::Duration(unit))) if *unit > 0 => *unit,
                    _ => return number("a duration", "as in derivative(x, 1m)".to_owned()),
                };
                (AxisFunction::Derivative(unit), ValueType::Float)
            }
            "moving_avg" => {
                call.count(2..=2, "a column and a number of rows, as in moving_avg(x, 6)")?;
                call.numeric(0)?;
                let rows = match constant(1) {
                    Some(Constant::Int(rows @ 1..=MOVING_ROWS_MAX)) => *rows as u32,
                    _ => return number("a number of rows", format!("from 1 to {MOVING_ROWS_MAX}")),
                };
                (AxisFunction::MovingAvg(rows), ValueType::Float)
            }
            "ewma" => {
                call.count(2..=2, "a column and the weight of the newest row, as in ewma(x, 0.2)")?;
                call.numeric(0)?;
                let weight = match constant(1) {
                    Some(Constant::Float(weight)) if *weight > 0.0 && *weight <= 1.0 => *weight,
                    Some(Constant::Int(1)) => 1.0,
                    _ => return number("a weight", "above 0, at most 1".to_owned()),
                };
                (AxisFunction::Ewma(weight), ValueType::Float)
            }
            _ => {
                call.count(1..=1, "one column")?;
                (AxisFunction::Cumulative, call.numeric(0)?)
            }
        };
        let argument = Box::new(bound[0].clone());
        if argument.looks_around() {
            let problem = Problem::new(
                ErrorKind::Unsupported,
                span,
                format!("{name} of what looks at other rows itself"),
            );
            return Err(problem.hint("name the inner one by an `extend` of its own, and use it in the next"));
        }
        Ok(Scalar::new(ScalarKind::Axis { function, argument }, value_type))
    }
}

/// Rows that a moving average may hold.
const MOVING_ROWS_MAX: i64 = 1_000_000;

fn arithmetic(span: Span, operator: Operator, left: Scalar, right: Scalar) -> Result<Scalar, Problem> {
    use Operator::{Add, Divide, Multiply, Remainder, Subtract};
    use ValueType::{Duration, Float, Int, Null, Time, UInt};
    let (left, right) = like_the_other(left, right);
    let (a, b) = (left.value_type, right.value_type);
    let value_type = match (operator, a, b) {
        (_, Null, Null) => Float,
        (Divide, Duration, Duration) => Float,
        (Divide | Multiply, Duration, other) | (Multiply, other, Duration) if other.is_number() => Duration,
        (Subtract, Time, Time) => Duration,
        (Add | Subtract, Time, Duration) | (Add, Duration, Time) => Time,
        (Add | Subtract | Remainder, Duration, Duration) => Duration,
        (Divide, a, b) if is_number_or_null(a) && is_number_or_null(b) => Float,
        (_, Null, other) | (_, other, Null) if other.is_number() => other,
        (_, Float, b) if b.is_number() => Float,
        (_, a, Float) if a.is_number() => Float,
        (_, UInt, UInt) => UInt,
        (_, Int | UInt, Int | UInt) => Int,
        _ => {
            let message = format!(
                "`{}` takes numbers, and these are {} and {}",
                operator.symbol(),
                a.described(),
                b.described()
            );
            let hint = match (operator, a, b) {
                (Add, ValueType::Str, _) | (Add, _, ValueType::Str) => {
                    Some("texts are joined by concat(a, b)")
                }
                (_, Time, _) | (_, _, Time) => {
                    Some("a duration can be added to a time, and a time taken from a time")
                }
                _ => None,
            };
            return Err(type_error(span, message).hint_if(hint.map(str::to_owned)));
        }
    };
    Ok(Scalar::new(ScalarKind::Binary { operator, left: Box::new(left), right: Box::new(right) }, value_type))
}

fn is_number_or_null(value_type: ValueType) -> bool {
    value_type.is_number() || value_type == ValueType::Null
}

/// A whole constant beside unsigned numbers is unsigned, if it can be.
fn like_the_other(left: Scalar, right: Scalar) -> (Scalar, Scalar) {
    let unsigned = |constant: &Scalar, other: &Scalar| match (&constant.kind, other.value_type) {
        (ScalarKind::Constant(Constant::Int(value)), ValueType::UInt) => u64::try_from(*value).ok(),
        _ => None,
    };
    if let Some(value) = unsigned(&left, &right) {
        (Scalar::constant(Constant::UInt(value)), right)
    } else if let Some(value) = unsigned(&right, &left) {
        (left, Scalar::constant(Constant::UInt(value)))
    } else {
        (left, right)
    }
}
