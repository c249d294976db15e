//! A whole query: checked, its selections known, run over its sources.
//!
//! Invariant: an answer over a range is sorted by labels; at one time it stands in the order of evaluation, which `sort` and `topk` decide.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::promql::MALFORMED;
use crate::promql::annotations::{Annotations, Said};
use crate::promql::ast::{Expr, Node, Selector, Type};
use crate::promql::counts::Counts;
use crate::promql::eval::{Evaluator, Times, complete_infos, selections};
use crate::promql::parse::parse;
use crate::promql::select::{Selection, Source};
use crate::promql::value::{Column, Run, Series, Steps, Value, histograms_bytes, series_bytes};
use crate::scan::Touched;

/// What is asked, and when.
#[derive(Clone, Debug)]
pub struct Query {
    text: String,
    expr: Expr,
    times: Times,
    /// Whether samples are to be counted.
    counts: bool,
    /// Whether rollups may answer.
    rollups: bool,
}

pub struct Answer {
    pub steps: Steps,
    pub data: Data,
    pub said: Said,
    pub elapsed: Duration,
    /// Samples looked at, by step, if they were to be counted.
    pub samples: Option<Vec<u64>>,
}

/// Columns have one entry per step.
pub enum Data {
    Scalar(Column),
    Text(Vec<u8>),
    /// At one time.
    Vector(Vec<Series>),
    /// Over the steps of a range.
    Matrix(Vec<Series>),
    /// A range vector at one time.
    Runs(Vec<Run>),
}

impl Query {
    /// At one time. All times are milliseconds.
    pub fn instant(text: &str, time: i64, lookback: i64) -> Result<Query> {
        let times = Times { steps: Steps::instant(time), end: time, is_range: false, lookback };
        Query::over(text, parsed(text)?, times)
    }

    /// At each step of a range, which may end after the last of them.
    pub fn range(text: &str, steps: Steps, end: i64, lookback: i64) -> Result<Query> {
        let expr = parsed(text)?;
        if !matches!(expr.returns(), Type::Scalar | Type::Vector) {
            let what = format!(
                "invalid expression type {:?} for range query, must be Scalar or instant Vector",
                expr.returns().name()
            );
            return Err(Error::invalid(MALFORMED, what));
        }
        Query::over(text, expr, Times { steps, end, is_range: true, lookback })
    }

    /// A range as an answer has no edges to look beyond.
    fn refuse_extended(expr: &Expr) -> Result<()> {
        match &expr.unwrapped().node {
            Node::Range { selector: Selector { extension: Some(extension), .. }, .. } => {
                let what = format!(
                    "a range with `{}` stands only in functions such as rate and increase",
                    extension.name()
                );
                Err(Error::invalid(MALFORMED, what))
            }
            _ => Ok(()),
        }
    }

    fn over(text: &str, mut expr: Expr, times: Times) -> Result<Query> {
        Query::refuse_extended(&expr)?;
        complete_infos(&mut expr);
        expr.resolve(times.frame()).map_err(|why| Error::invalid(MALFORMED, why))?;
        Ok(Query { text: text.to_string(), expr, times, counts: false, rollups: true })
    }

    /// Counts the samples that are looked at.
    pub fn counted(self) -> Query {
        Query { counts: true, ..self }
    }

    /// Reads points only.
    pub fn without_rollups(self) -> Query {
        Query { rollups: false, ..self }
    }

    pub fn rollups(&self) -> bool {
        self.rollups
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn selections(&self) -> Vec<Selection> {
        selections(&self.expr, &self.times)
    }

    /// `sources` are those of the selections, in their order. `over_range` says which form the answer has.
    pub fn run(
        &self,
        over_range: bool,
        sources: Vec<Vec<Source>>,
        guard: &Guard,
        touched: &Touched,
    ) -> Result<Answer> {
        let annotations = Annotations::new(&self.text);
        let counts = Counts::new(self.times.steps.count, self.counts);
        let evaluator = Evaluator::new(self.times, sources, guard, touched, &annotations, &counts);
        let data = if self.expr.returns() == Type::Matrix {
            Data::Runs(evaluator.runs(&self.expr, self.times.steps)?)
        } else {
            match evaluator.eval(&self.expr, self.times.steps)? {
                Value::Text(text) => Data::Text(text),
                Value::Scalar(column) if over_range => {
                    Data::Matrix(vec![Series::floats(Default::default(), column)])
                }
                Value::Scalar(column) => Data::Scalar(column),
                Value::Vector(vector) if over_range => {
                    let mut series = vector.series;
                    series.sort_by(|a, b| a.labels.as_bytes().cmp(b.labels.as_bytes()));
                    Data::Matrix(series)
                }
                Value::Vector(vector) => Data::Vector(vector.series),
            }
        };
        drop(evaluator);
        Ok(Answer {
            steps: self.times.steps,
            data,
            said: annotations.into_said(),
            elapsed: guard.elapsed(),
            samples: counts.into_steps(),
        })
    }
}

impl Answer {
    /// What it takes in memory.
    pub fn heap_bytes(&self) -> usize {
        match &self.data {
            Data::Scalar(column) => column.len() * 8,
            Data::Text(text) => text.len(),
            Data::Vector(series) | Data::Matrix(series) => {
                let of_histograms: usize = series.iter().map(|one| histograms_bytes(&one.histograms)).sum();
                series.len() * series_bytes(self.steps.count) + of_histograms
            }
            Data::Runs(runs) => {
                let of_run =
                    |run: &Run| size_of::<Run>() + run.samples.len() * 16 + histograms_bytes(&run.histograms);
                runs.iter().map(of_run).sum()
            }
        }
    }
}

fn parsed(text: &str) -> Result<Expr> {
    parse(text).map_err(|error| Error::invalid(MALFORMED, error.in_query(text)))
}
