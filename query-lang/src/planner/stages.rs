//! The stages of a query by what they do, and the orders in which they make sense.
//!
//! Today: ranges and conditions, then at most one aggregate stage, then `limit`.

use crate::ast::{Aggregate, Expr, Range, Span, Stage, StageKind};
use crate::error::ErrorKind;
use crate::error::Problem;

#[derive(Default)]
pub(super) struct Stages<'a> {
    pub range: Option<(Range, Span)>,
    pub conditions: Vec<&'a Expr>,
    pub aggregate: Option<(&'a Aggregate, Span)>,
    pub limit: Option<(u64, Span)>,
}

impl<'a> Stages<'a> {
    pub fn of(stages: &'a [Stage]) -> Result<Stages<'a>, Problem> {
        let mut sorted = Stages::default();
        for stage in stages {
            sorted.add(stage)?;
        }
        Ok(sorted)
    }

    fn add(&mut self, stage: &'a Stage) -> Result<(), Problem> {
        let wrong = |kind, message| Err(Problem::new(kind, stage.span, message));
        if self.limit.is_some() {
            let problem = Problem::new(ErrorKind::Unsupported, stage.span, "nothing can follow `limit`");
            return Err(problem.hint("put this stage before it"));
        }
        match &stage.kind {
            StageKind::Range(_) if self.range.is_some() => {
                return wrong(ErrorKind::Range, "there is a range already; keep one of them");
            }
            StageKind::Range(_) if self.aggregate.is_some() => {
                return wrong(ErrorKind::Range, "a range stands before the aggregates, not after them");
            }
            StageKind::Where(_) if self.aggregate.is_some() => {
                let message = "conditions on aggregates are not there yet; conditions on tags stand before the aggregates";
                return wrong(ErrorKind::Unsupported, message);
            }
            StageKind::Aggregate(_) if self.aggregate.is_some() => {
                return wrong(ErrorKind::Unsupported, "a second aggregate stage is not there yet");
            }
            StageKind::Range(range) => self.range = Some((*range, stage.span)),
            StageKind::Where(condition) => self.conditions.push(condition),
            StageKind::Aggregate(aggregate) => self.aggregate = Some((aggregate, stage.span)),
            StageKind::Limit(count) => self.limit = Some((*count, stage.span)),
        }
        Ok(())
    }
}
