//! What a statement answers: columns in Arrow, and what it took to make them. Whole; as it is sent it is a `Stream`.
//!
//! Invariant: there are as many columns in the batch as descriptions, in the same order; a column of role time is
//! nanoseconds in UTC.
//! Not here: JSON, CSV and tables in a terminal (`server`, `cli`).

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use query_lang::plan::RollupRejection;

use crate::query::Frame;
use crate::scan::Touched;

pub struct Answer {
    pub columns: Vec<AnswerColumn>,
    pub batch: RecordBatch,
    pub stats: Stats,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerColumn {
    pub name: String,
    pub role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Time,
    Tag,
    Value,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    pub series: u64,
    pub rows_read: u64,
    pub bytes_read: u64,
    pub files: u64,
    pub elapsed: Duration,
    pub rollups: Vec<RollupUse>,
    /// Those over the same table that could not, with the reason.
    pub rejected: Vec<RollupRejection>,
}

/// A rollup that gave a part of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollupUse {
    pub name: String,
    /// Buckets of the rollup that were read or recomputed, over all groups.
    pub buckets: u64,
    /// Those that were computed from raw points because a write had made them dirty.
    pub dirty_recomputed: u64,
}

impl Answer {
    pub fn new(columns: Vec<AnswerColumn>, arrays: Vec<ArrayRef>, warnings: Vec<String>) -> Answer {
        let schema = schema_of(&columns, &arrays);
        Answer { batch: batch_of(schema, arrays), columns, stats: Stats::default(), warnings }
    }

    pub fn of_frame(frame: Frame) -> Answer {
        Answer::new(frame.columns, frame.arrays, frame.warnings)
    }

    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }
}

impl Stats {
    pub fn count_scan(&mut self, touched: &Touched) {
        use std::sync::atomic::Ordering::Relaxed;
        self.series += touched.series.load(Relaxed);
        self.rows_read += touched.rows.load(Relaxed);
        self.bytes_read += touched.bytes.load(Relaxed);
        self.files += touched.files.load(Relaxed);
    }
}

pub fn schema_of(columns: &[AnswerColumn], arrays: &[ArrayRef]) -> SchemaRef {
    let field = |(column, array): (&AnswerColumn, &ArrayRef)| {
        Field::new(&column.name, array.data_type().clone(), true)
    };
    Arc::new(Schema::new(columns.iter().zip(arrays).map(field).collect::<Vec<_>>()))
}

pub fn batch_of(schema: SchemaRef, arrays: Vec<ArrayRef>) -> RecordBatch {
    let rows = arrays.first().map_or(0, |array| array.len());
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, arrays, &options)
        .expect("the columns of an answer have one length, and the types of its schema")
}

/// A small answer of texts: what `show` and the statements that change things say.
pub fn text_table(names: &[&str], rows: &[Vec<String>]) -> Answer {
    let column = |name: &&str| AnswerColumn { name: (*name).to_string(), role: Role::Value };
    let array = |at: usize| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row[at].as_str())))
    };
    Answer::new(names.iter().map(column).collect(), (0..names.len()).map(array).collect(), Vec::new())
}
