//! Operators of which an operand is a histogram, and what is said where there is no result.
//!
//! Not here: which operands meet (`binary`), the arithmetic itself (`native`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::promql::annotations::Annotations;
use crate::promql::ast::{Binary, BinaryOp, Span};
use crate::promql::native::{Kept, Native};
use crate::promql::value::{Series, is_absent};

#[derive(Clone, Copy)]
pub enum Operand<'a> {
    Float(f64),
    Histogram(&'a Arc<Native>),
}

impl Operand<'_> {
    pub fn kind(self) -> &'static str {
        match self {
            Operand::Float(_) => "float",
            Operand::Histogram(_) => "histogram",
        }
    }

    pub fn of(series: &Series, step: usize) -> Option<Operand<'_>> {
        match series.values[step] {
            value if is_absent(value) => series.histogram(step).map(Operand::Histogram),
            value => Some(Operand::Float(value)),
        }
    }
}

/// What an operator gives if one of its operands is a histogram.
pub enum Outcome {
    Histogram(Arc<Native>),
    /// Of a comparison with `bool`.
    Holds(bool),
}

/// Why there is nothing.
#[derive(Clone, Copy)]
pub enum Trouble {
    /// The operator does not know operands of these kinds.
    Operands(&'static str, &'static str),
    /// Their buckets do not go together.
    Buckets,
}

/// The troubles of one operator. As in Prometheus, only the last at each step is said.
#[derive(Default)]
pub struct Troubles(BTreeMap<usize, (usize, Trouble)>);

impl Troubles {
    /// `at` is the place of the series among those that are gone through.
    pub fn add(&mut self, step: usize, at: usize, trouble: Trouble) {
        let last = self.0.entry(step).or_insert((at, trouble));
        if at >= last.0 {
            *last = (at, trouble);
        }
    }

    pub fn say(self, binary: &Binary, annotations: &Annotations<'_>) {
        let span = Span { start: binary.left.span.start, end: binary.right.span.end };
        let op = binary.op.symbol();
        for (_, trouble) in self.0.into_values() {
            match trouble {
                Trouble::Operands(left, right) => annotations.incompatible_operands(left, op, right, span),
                Trouble::Buckets => annotations.incompatible_buckets(op, span),
            }
        }
    }
}

/// None where a comparison does not hold.
pub fn mixed(binary: &Binary, left: Operand<'_>, right: Operand<'_>) -> Result<Option<Outcome>, Trouble> {
    use Operand::{Float, Histogram};
    let scaled = |histogram: &Arc<Native>, scale: &dyn Fn(&mut Native)| {
        let mut found = Native::clone(histogram);
        scale(&mut found);
        Ok(Some(Outcome::Histogram(Arc::new(found))))
    };
    match (left, binary.op, right) {
        (Histogram(histogram), BinaryOp::Mul, Float(factor))
        | (Float(factor), BinaryOp::Mul, Histogram(histogram)) => {
            scaled(histogram, &|found| found.multiply(factor))
        }
        (Histogram(histogram), BinaryOp::Div, Float(divisor)) => {
            scaled(histogram, &|found| found.divide(divisor))
        }
        (Histogram(histogram), BinaryOp::TrimUpper, Float(at)) => {
            scaled(histogram, &|found| found.trim(at, Kept::Below))
        }
        (Histogram(histogram), BinaryOp::TrimLower, Float(at)) => {
            scaled(histogram, &|found| found.trim(at, Kept::Above))
        }
        (Histogram(left), op @ (BinaryOp::Add | BinaryOp::Sub), Histogram(right)) => {
            let mut found = Native::clone(left);
            let done = if op == BinaryOp::Add { found.add(right) } else { found.subtract(right) };
            match done {
                Ok(()) => Ok(Some(Outcome::Histogram(Arc::new(found)))),
                Err(_) => Err(Trouble::Buckets),
            }
        }
        (Histogram(left), op @ (BinaryOp::Equal | BinaryOp::NotEqual), Histogram(right)) => {
            let holds = left.equals(right) == (op == BinaryOp::Equal);
            Ok(match binary.returns_bool {
                true => Some(Outcome::Holds(holds)),
                false => holds.then(|| Outcome::Histogram(Arc::clone(left))),
            })
        }
        (left, _, right) => Err(Trouble::Operands(left.kind(), right.kind())),
    }
}
