//! Durations that are computed: `[5m * 2]`, `offset (step() - 10s)`.
//!
//! Invariant: beside a computed duration the tree of a query holds its milliseconds, 0 until [`Expr::resolve`] has set them: what is
//! evaluated looks at these alone.
//! Not here: durations that are written as they are (`lex`, `parse/duration.rs`).

use std::fmt;

use crate::promql::arithmetic::{larger, smaller};
use crate::promql::ast::{BinaryOp, Expr, Moved, Node};
use crate::promql::print::{duration_text, number_text};

/// Prometheus holds durations in nanoseconds.
pub const SECONDS_MAX: f64 = (i64::MAX / 1_000_000_000) as f64;

#[derive(Clone, Debug)]
pub enum Duration {
    Seconds {
        value: f64,
        /// Written as `5m`.
        is_duration: bool,
    },
    /// `step()`
    Step,
    /// `range()`
    Range,
    /// `min_of(a, b)` or `max_of(a, b)`.
    Pick {
        larger: bool,
        of: Box<[Duration; 2]>,
    },
    Negated(Box<Duration>),
    Binary {
        op: BinaryOp,
        sides: Box<[Duration; 2]>,
    },
    Paren(Box<Duration>),
}

/// The seconds that a query asks for: what `step()` and `range()` are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    /// 0 at one time, as is the range.
    pub step: f64,
    pub range: f64,
}

/// Why a duration is none, in Prometheus' words.
type Refusal = String;

impl Duration {
    fn seconds(&self, frame: Frame) -> Result<f64, Refusal> {
        Ok(match self {
            Duration::Seconds { value, .. } => *value,
            Duration::Step => frame.step,
            Duration::Range => frame.range,
            Duration::Negated(inner) => -inner.seconds(frame)?,
            Duration::Paren(inner) => inner.seconds(frame)?,
            Duration::Pick { larger, of } => {
                let (left, right) = (of[0].seconds(frame)?, of[1].seconds(frame)?);
                if *larger { self::larger(left, right) } else { smaller(left, right) }
            }
            Duration::Binary { op, sides } => {
                let (left, right) = (sides[0].seconds(frame)?, sides[1].seconds(frame)?);
                match op {
                    BinaryOp::Add => left + right,
                    BinaryOp::Sub => left - right,
                    BinaryOp::Mul => left * right,
                    BinaryOp::Pow => left.powf(right),
                    BinaryOp::Div if right == 0.0 => return Err("division by zero".to_string()),
                    BinaryOp::Div => left / right,
                    BinaryOp::Mod if right == 0.0 => return Err("modulo by zero".to_string()),
                    BinaryOp::Mod => left % right,
                    other => unreachable!("bug: {} was read between durations", other.symbol()),
                }
            }
        })
    }

    /// What is left below a millisecond is cut off.
    fn milliseconds(&self, frame: Frame) -> Result<i64, Refusal> {
        let seconds = self.seconds(frame)?;
        if seconds.is_nan() || seconds.abs() > SECONDS_MAX {
            return Err("duration is out of range".to_string());
        }
        Ok((seconds * 1e3) as i64)
    }

    fn positive(&self, frame: Frame) -> Result<i64, Refusal> {
        match self.milliseconds(frame)? {
            positive if positive > 0 => Ok(positive),
            _ => Err("duration must be greater than 0".to_string()),
        }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Duration::Seconds { value, is_duration: true } => {
                f.write_str(&duration_text((value * 1e3).round() as i64))
            }
            Duration::Seconds { value, .. } => f.write_str(&number_text(*value)),
            Duration::Step => f.write_str("step()"),
            Duration::Range => f.write_str("range()"),
            Duration::Pick { larger, of } => {
                let name = if *larger { "max_of" } else { "min_of" };
                write!(f, "{name}({}, {})", of[0], of[1])
            }
            Duration::Negated(inner) => write!(f, "-{inner}"),
            Duration::Binary { op, sides } => write!(f, "{} {} {}", sides[0], op.symbol(), sides[1]),
            Duration::Paren(inner) => write!(f, "({inner})"),
        }
    }
}

impl Expr {
    /// Sets what its computed durations come to.
    pub fn resolve(&mut self, frame: Frame) -> Result<(), Refusal> {
        match &mut self.node {
            Node::Selector(selector) => selector.moved.resolve(frame)?,
            Node::Range { selector, range } => {
                if let Some(computed) = &selector.computed_range {
                    *range = computed.positive(frame)?;
                }
                selector.moved.resolve(frame)?;
            }
            Node::Subquery(subquery) => {
                if let Some(computed) = &subquery.computed_range {
                    subquery.range = computed.positive(frame)?;
                }
                if let Some(computed) = &subquery.computed_step {
                    subquery.step = Some(computed.positive(frame)?);
                }
                subquery.moved.resolve(frame)?;
            }
            _ => {}
        }
        self.children_mut().into_iter().try_for_each(|child| child.resolve(frame))
    }
}

impl Moved {
    fn resolve(&mut self, frame: Frame) -> Result<(), Refusal> {
        if let Some(computed) = &self.computed_offset {
            self.offset = computed.milliseconds(frame)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::parse;

    const FRAME: Frame = Frame { step: 15.0, range: 3600.0 };

    fn range_of(text: &str, frame: Frame) -> Result<i64, String> {
        let mut expr = parse(&format!("rate(x[{text}])")).map_err(|error| error.to_string())?;
        expr.resolve(frame)?;
        match &expr.node {
            Node::Call { args, .. } => match &args[0].node {
                Node::Range { range, .. } => Ok(*range),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn durations_are_computed_as_numbers_are() {
        let cases = [
            ("5m * 2", 600_000),
            ("(5+2) * 1m", 420_000),
            ("1h / 2", 1_800_000),
            ("4h % 3h", 3_600_000),
            ("(2 ^ 3) * 1m", 480_000),
            ("-5m+35m", 1_800_000),
            ("2^3^2", 512_000),
            ("10-2-3", 5_000),
            ("step() + 1", 16_000),
            ("max_of(step(), 5s)", 15_000),
            ("min_of(2 * step() + 5s, 5m)", 35_000),
            ("range()", 3_600_000),
            ("1.0005", 1_001),
            ("0.5005 + 0.5", 1_000),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(range_of(text, FRAME), Ok(milliseconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        let at_once = Frame { step: 0.0, range: 0.0 };
        let cases = [
            ("step()", "duration must be greater than 0"),
            ("5m - 6m", "duration must be greater than 0"),
            ("5m / step()", "division by zero"),
            ("5m % 0", "modulo by zero"),
            ("10 ^ 30", "duration is out of range"),
            ("(-8) ^ 0.5", "duration is out of range"),
        ];
        for (text, why) in cases {
            assert_eq!(range_of(text, at_once), Err(why.to_string()), "{text}");
        }
    }
}
