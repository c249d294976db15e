//! Functions of expressions: what they take, and the type of what they give.

use crate::ast::{Expr, Span};
use crate::error::Problem;
use crate::scalar::{Constant, Scalar, ScalarFunction, ScalarKind, ValueType};

use super::scalar::type_error;

/// A call as written, and its arguments.
pub(super) struct Call<'a> {
    pub span: Span,
    pub name: &'a str,
    pub arguments: &'a [Expr],
    pub bound: &'a [Scalar],
}

impl Call<'_> {
    pub fn count(&self, wanted: std::ops::RangeInclusive<usize>, takes: &str) -> Result<(), Problem> {
        if wanted.contains(&self.bound.len()) {
            return Ok(());
        }
        Err(type_error(self.span, format!("{} takes {takes}", self.name)))
    }

    pub fn wrong(&self, at: usize, takes: &str, hint: String) -> Problem {
        let span = self.arguments.get(at).map_or(self.span, |argument| argument.span);
        type_error(span, format!("{} takes {takes} here", self.name)).hint(hint)
    }

    fn is(&self, at: usize, fits: impl Fn(ValueType) -> bool, what: &str) -> Result<ValueType, Problem> {
        let value_type = self.bound[at].value_type;
        if value_type == ValueType::Null || fits(value_type) {
            return Ok(value_type);
        }
        let message = format!("{} takes {what} here, and this is {}", self.name, value_type.described());
        Err(type_error(self.arguments[at].span, message))
    }

    pub fn numeric(&self, at: usize) -> Result<ValueType, Problem> {
        match self.is(at, ValueType::is_number, "a number")? {
            ValueType::Null => Ok(ValueType::Float),
            value_type => Ok(value_type),
        }
    }

    fn texts(&self) -> Result<(), Problem> {
        (0..self.bound.len()).try_for_each(|at| self.is(at, |t| t == ValueType::Str, "a text").map(|_| ()))
    }

    /// The type that all of these can have.
    fn common(&self, from: usize) -> Result<ValueType, Problem> {
        let mut common = ValueType::Null;
        for at in from..self.bound.len() {
            let next = self.bound[at].value_type;
            common = match (common, next) {
                (ValueType::Null, other) | (other, ValueType::Null) => other,
                (a, b) if a == b => a,
                (ValueType::Float, b) if b.is_number() => ValueType::Float,
                (a, ValueType::Float) if a.is_number() => ValueType::Float,
                (a, b) if a.is_number() && b.is_number() => ValueType::Int,
                (a, b) => {
                    let message = format!(
                        "{} cannot choose between {} and {}",
                        self.name,
                        a.described(),
                        b.described()
                    );
                    return Err(type_error(self.arguments[at].span, message)
                        .hint("float(x), int(x) and text(x) convert"));
                }
            };
        }
        Ok(if common == ValueType::Null { ValueType::Float } else { common })
    }

    pub fn value_type(&self, function: ScalarFunction) -> Result<ValueType, Problem> {
        use ScalarFunction as F;
        use ValueType::{Bool, Float, Int, Str};
        Ok(match function {
            F::Abs | F::Ceil | F::Floor => {
                self.count(1..=1, "one number")?;
                self.numeric(0)?
            }
            F::Round => {
                self.count(1..=2, "a number, and perhaps how many digits, as in round(x, 2)")?;
                let value_type = self.numeric(0)?;
                if self.bound.len() == 2
                    && !matches!(self.bound[1].kind, ScalarKind::Constant(Constant::Int(0..=15)))
                {
                    return Err(self.wrong(1, "a number of digits", "from 0 to 15".to_owned()));
                }
                value_type
            }
            F::Sqrt | F::Ln | F::Log2 | F::Log10 | F::Exp => {
                self.count(1..=1, "one number")?;
                self.numeric(0)?;
                Float
            }
            F::Pow => {
                self.count(2..=2, "two numbers")?;
                self.numeric(0)?;
                self.numeric(1)?;
                Float
            }
            F::ClampMin | F::ClampMax => {
                self.count(2..=2, "a number and its bound")?;
                self.numeric(0)?;
                self.numeric(1)?;
                self.common(0)?
            }
            F::If => {
                self.count(3..=3, "a condition and two values, as in if(x > 0, x, 0)")?;
                self.is(0, |t| t == Bool, "a condition")?;
                self.common(1)?
            }
            F::Coalesce => {
                self.count(1..=usize::MAX, "at least one value")?;
                self.common(0)?
            }
            F::Exists => {
                self.count(1..=1, "one value")?;
                Bool
            }
            F::Lower | F::Upper | F::Trim => {
                self.count(1..=1, "one text")?;
                self.texts()?;
                Str
            }
            F::Length => {
                self.count(1..=1, "one text")?;
                self.texts()?;
                Int
            }
            F::Concat => {
                self.count(1..=usize::MAX, "texts")?;
                self.texts()?;
                Str
            }
            F::Contains | F::StartsWith | F::EndsWith => {
                self.count(2..=2, "two texts")?;
                self.texts()?;
                Bool
            }
            F::Replace => {
                self.count(3..=3, "three texts: where, what, and what instead")?;
                self.texts()?;
                Str
            }
            F::Substr => {
                self.count(2..=3, "a text, where to start (1 is the first character), and perhaps how many")?;
                self.is(0, |t| t == Str, "a text")?;
                (1..self.bound.len())
                    .try_for_each(|at| self.is(at, |t| t == Int, "an integer").map(|_| ()))?;
                Str
            }
            F::Float | F::Int => {
                self.count(1..=1, "one value")?;
                if function == F::Float { Float } else { Int }
            }
            F::Text => {
                self.count(1..=1, "one value")?;
                Str
            }
        })
    }
}
