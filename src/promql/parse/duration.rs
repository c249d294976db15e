//! Ranges, steps of subqueries and offsets: durations, and what is computed of them.
//!
//! Invariant: in brackets a duration goes on for as long as operators do; after `offset` it ends with its first operand, since the
//! operator behind it is one of the expression: `x offset 1m + 1` adds 1 to `x`.

use crate::promql::ast::{BinaryOp, Expr, Moved, Node, Span, Subquery};
use crate::promql::duration::{Duration, SECONDS_MAX};
use crate::promql::lex::Kind;
use crate::promql::parse::{Parser, SyntaxError, moved};

/// The milliseconds of a duration; of a computed one 0, and how they are computed.
type Written = (i64, Option<Box<Duration>>);

impl Parser {
    /// `[range]` and `[range:step]`.
    pub(super) fn brackets(&mut self, inner: Expr) -> Result<Expr, SyntaxError> {
        self.advance();
        let (range, computed_range) = self.positive_duration("subquery or range selector")?;
        if self.take_sign(":") {
            let (step, computed_step) = match self.peek() {
                Kind::Sign("]") => (None, None),
                _ => {
                    let (step, computed) = self.positive_duration("subquery selector")?;
                    (Some(step), computed)
                }
            };
            self.expect_sign("]", "subquery selector", "\"]\"")?;
            let span = Span { start: inner.span.start, end: self.end_of_last() };
            self.deeper()?;
            let moved = Moved::default();
            let subquery = Subquery { inner, range, step, moved, computed_range, computed_step };
            return Ok(Expr { node: Node::Subquery(Box::new(subquery)), span });
        }
        self.expect_sign("]", "subquery or range", "\":\" or \"]\"")?;
        let span = Span { start: inner.span.start, end: self.end_of_last() };
        let Node::Selector(mut selector) = inner.node else {
            return Err(SyntaxError::new(inner.span, "ranges only allowed for vector selectors"));
        };
        if selector.moved.has_offset() {
            return Err(SyntaxError::new(inner.span, "no offset modifiers allowed before range"));
        }
        if selector.moved.at.is_some() {
            return Err(SyntaxError::new(inner.span, "no @ modifiers allowed before range"));
        }
        selector.computed_range = computed_range;
        Ok(Expr { node: Node::Range { selector, range }, span })
    }

    pub(super) fn offset(&mut self, expr: &mut Expr) -> Result<(), SyntaxError> {
        self.advance();
        let is_negative = self.sign() < 0;
        let operand = self.duration_operand("offset")?;
        let (offset, computed_offset) = written(if is_negative { negated(operand) } else { operand });
        let Some(moved) = moved(expr) else {
            let what = "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery";
            return Err(SyntaxError::new(expr.span, what));
        };
        if moved.has_offset() {
            return Err(SyntaxError::new(expr.span, "offset may not be set multiple times"));
        }
        (moved.offset, moved.computed_offset) = (offset, computed_offset);
        Ok(())
    }

    fn positive_duration(&mut self, context: &str) -> Result<Written, SyntaxError> {
        let span = self.token().span;
        match written(self.duration(0, context)?) {
            (milliseconds, None) if milliseconds <= 0 => {
                Err(SyntaxError::new(span, "duration must be greater than 0"))
            }
            written => Ok(written),
        }
    }

    /// A duration whose operators bind at least as strongly as `weakest`.
    fn duration(&mut self, weakest: u8, context: &str) -> Result<Duration, SyntaxError> {
        let depth = self.depth;
        self.deeper()?;
        let mut left = match self.peek() {
            Kind::Sign("+" | "-") => {
                let is_negative = self.sign() < 0;
                let operand = self.duration(BinaryOp::Pow.precedence(), context)?;
                if is_negative { negated(operand) } else { operand }
            }
            _ => self.duration_operand(context)?,
        };
        while let Some(op) = self.duration_op().filter(|op| op.precedence() >= weakest) {
            self.deeper()?;
            let span = self.advance().span;
            let next = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
            let right = self.duration(next, context)?;
            match (op, &right) {
                (BinaryOp::Div, Duration::Seconds { value: 0.0, .. }) => {
                    return Err(SyntaxError::new(span, "division by zero"));
                }
                (BinaryOp::Mod, Duration::Seconds { value: 0.0, .. }) => {
                    return Err(SyntaxError::new(span, "modulo by zero"));
                }
                _ => left = Duration::Binary { op, sides: Box::new([left, right]) },
            }
        }
        self.depth = depth;
        Ok(left)
    }

    fn duration_op(&self) -> Option<BinaryOp> {
        use BinaryOp::{Add, Div, Mod, Mul, Pow, Sub};
        self.binary_op().filter(|op| matches!(op, Add | Sub | Mul | Div | Mod | Pow))
    }

    /// A literal, `step()`, `range()`, `min_of(a, b)`, `max_of(a, b)`, or a duration in parentheses.
    fn duration_operand(&mut self, context: &str) -> Result<Duration, SyntaxError> {
        let token = self.token().clone();
        let operand = match token.kind {
            Kind::Duration(milliseconds) => {
                Duration::Seconds { value: milliseconds as f64 / 1e3, is_duration: true }
            }
            Kind::Number(value) if value.is_nan() || value.abs() > SECONDS_MAX => {
                return Err(SyntaxError::new(token.span, "duration out of range"));
            }
            Kind::Number(value) => Duration::Seconds { value, is_duration: false },
            Kind::Sign("(") => {
                self.advance();
                let inner = self.duration(0, context)?;
                self.expect_sign(")", context, "\")\"")?;
                return Ok(match inner {
                    literal @ Duration::Seconds { .. } => literal,
                    computed => Duration::Paren(Box::new(computed)),
                });
            }
            Kind::Word(word) => return self.duration_call(&word, context),
            _ => return Err(self.unexpected(context, "number or duration")),
        };
        self.advance();
        Ok(operand)
    }

    fn duration_call(&mut self, word: &str, context: &str) -> Result<Duration, SyntaxError> {
        let name = word.to_ascii_lowercase();
        if !["step", "range", "min_of", "max_of"].contains(&name.as_str()) {
            return Err(self.unexpected(context, "number, duration, step(), range(), min_of() or max_of()"));
        }
        self.advance();
        self.expect_sign("(", context, "\"(\"")?;
        let called = match name.as_str() {
            "step" => Duration::Step,
            "range" => Duration::Range,
            name => {
                let left = self.duration(0, context)?;
                self.expect_sign(",", context, "\",\"")?;
                let of = Box::new([left, self.duration(0, context)?]);
                Duration::Pick { larger: name == "max_of", of }
            }
        };
        self.expect_sign(")", context, "\")\"")?;
        Ok(called)
    }
}

fn negated(operand: Duration) -> Duration {
    match operand {
        Duration::Seconds { value, is_duration } => Duration::Seconds { value: -value, is_duration },
        computed => Duration::Negated(Box::new(computed)),
    }
}

fn written(duration: Duration) -> Written {
    match duration {
        Duration::Seconds { value, .. } => ((value * 1e3).round() as i64, None),
        computed => (0, Some(Box::new(computed))),
    }
}
