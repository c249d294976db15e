//! An answer as it is sent: what its columns are, then its rows in batches.
//!
//! Invariant: of points no more than one slice of time is held, and the next one is read when the last batch of the one before
//! was taken; all batches have the schema that was told first.
//! Not here: texts and files made of it (`server`).

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use query_lang::plan::{Computed, Step};

use crate::error::Result;
use crate::guard::Guard;
use crate::query::answer::{Answer, AnswerColumn, Stats, batch_of, schema_of};
use crate::query::frame::Frame;
use crate::query::points::Points;
use crate::query::scalar::Program;

pub struct Stream {
    pub columns: Vec<AnswerColumn>,
    pub schema: SchemaRef,
    /// Whole when all rows have come.
    pub stats: Stats,
    pub warnings: Vec<String>,
    rows: Rows,
    /// Of the two batches that were given out last: the one before is being sent while the next is asked for.
    held: [usize; 2],
}

enum Rows {
    /// Taken by the first who asks.
    Whole(Option<RecordBatch>),
    Points {
        points: Box<Points>,
        steps: Vec<RowStep>,
    },
}

/// A step that needs no other rows than the one it works on, or only their number.
pub enum RowStep {
    Where(Program),
    Extend(Vec<Computed>),
    Limit { skip: usize, left: usize },
}

impl Stream {
    pub fn of_points(mut points: Points, mut steps: Vec<RowStep>, guard: &Guard) -> Result<Stream> {
        if let Some(rows) = steps.iter().find_map(RowStep::rows_wanted) {
            points.aim_at(rows);
        }
        let mut none = points.none(guard)?;
        for step in &mut steps {
            none = step.apply(none)?;
        }
        let (schema, columns) = (schema_of(&none.columns, &none.arrays), none.columns);
        let rows = Rows::Points { points: Box::new(points), steps };
        Ok(Stream { columns, schema, stats: Stats::default(), warnings: Vec::new(), rows, held: [0; 2] })
    }

    pub fn of_answer(answer: Answer) -> Stream {
        let Answer { columns, batch, stats, warnings } = answer;
        Stream {
            columns,
            schema: batch.schema(),
            stats,
            warnings,
            rows: Rows::Whole(Some(batch)),
            held: [0; 2],
        }
    }

    /// The next rows; None when there are no more. What was counted for the batch before the last is given back: it has been
    /// sent.
    pub fn next(&mut self, guard: &Guard) -> Result<Option<RecordBatch>> {
        let (points, steps) = match &mut self.rows {
            Rows::Whole(batch) => return Ok(batch.take().filter(|batch| batch.num_rows() > 0)),
            Rows::Points { points, steps } => (points, steps),
        };
        let [sent, sending] = self.held;
        guard.release(sent);
        self.held = [sending, 0];
        while !steps.iter().any(RowStep::is_done)
            && let Some(mut frame) = points.next(guard)?
        {
            let before = frame.heap_bytes();
            for step in &mut *steps {
                frame = step.apply(frame)?;
            }
            let after = frame.heap_bytes();
            guard.reserve(after)?;
            guard.release(before);
            if frame.rows > 0 {
                self.held[1] = after;
                return Ok(Some(batch_of(SchemaRef::clone(&self.schema), frame.arrays)));
            }
            guard.release(after);
        }
        self.end();
        Ok(None)
    }

    /// Whether it is known that no more rows come.
    pub fn has_ended(&self) -> bool {
        match &self.rows {
            Rows::Whole(batch) => batch.is_none(),
            Rows::Points { points, steps } => points.ended() || steps.iter().any(RowStep::is_done),
        }
    }

    /// Lets go of what it reads from.
    pub fn end(&mut self) {
        if let Rows::Points { points, .. } = std::mem::replace(&mut self.rows, Rows::Whole(None)) {
            points.count(&mut self.stats);
        }
    }

    /// All of it, with plain texts.
    pub fn whole(mut self, guard: &Guard) -> Result<Answer> {
        let frame = match &mut self.rows {
            Rows::Whole(batch) => {
                let batch =
                    batch.take().unwrap_or_else(|| RecordBatch::new_empty(SchemaRef::clone(&self.schema)));
                return Ok(Answer {
                    columns: self.columns,
                    batch,
                    stats: self.stats,
                    warnings: self.warnings,
                });
            }
            Rows::Points { points, steps } => {
                let mut frame = points.all(guard)?;
                for step in steps {
                    frame = step.apply(frame)?;
                }
                frame
            }
        };
        self.end();
        Ok(Answer { stats: self.stats, ..Answer::of_frame(frame) })
    }
}

/// The steps, if each of them works on row after row.
pub fn row_steps(steps: &[Step]) -> Result<Option<Vec<RowStep>>> {
    steps.iter().map(RowStep::new).collect::<Option<Result<Vec<RowStep>>>>().transpose()
}

impl RowStep {
    /// None for a step that works on many rows.
    fn new(step: &Step) -> Option<Result<RowStep>> {
        match step {
            Step::Where(condition) => Some(Program::new(condition).map(RowStep::Where)),
            Step::Extend(computed) if !computed.iter().any(|column| column.value.looks_around()) => {
                Some(Ok(RowStep::Extend(computed.clone())))
            }
            Step::Limit { count, offset } => {
                let rows = |count: &u64| usize::try_from(*count).unwrap_or(usize::MAX);
                Some(Ok(RowStep::Limit { skip: rows(offset), left: rows(count) }))
            }
            _ => None,
        }
    }

    fn rows_wanted(&self) -> Option<usize> {
        match self {
            RowStep::Limit { skip, left } => Some(skip.saturating_add(*left)),
            _ => None,
        }
    }

    fn is_done(&self) -> bool {
        matches!(self, RowStep::Limit { left: 0, .. })
    }

    fn apply(&mut self, frame: Frame) -> Result<Frame> {
        Ok(match self {
            RowStep::Where(condition) => frame.passing(condition),
            RowStep::Extend(computed) => frame.extend(computed)?,
            RowStep::Limit { skip, left } => {
                let start = frame.rows.min(*skip);
                let len = (frame.rows - start).min(*left);
                *skip -= start;
                *left -= len;
                frame.slice(start, len)
            }
        })
    }
}
