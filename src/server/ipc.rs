//! Answers as an Arrow IPC stream: the columns as the engine has them.
//!
//! Invariant: each field carries its role (time, tag, value) in its metadata under `role`, the schema `waterclock.stats` and `waterclock.warnings`; times are nanoseconds in UTC.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;

use crate::query::{Answer, AnswerColumn};
use crate::server::cells::role_name;
use crate::server::json;

/// Rows of one message: a few megabytes of usual columns.
const MESSAGE_ROWS: usize = 64 << 10;

pub struct Ipc {
    writer: StreamWriter<Vec<u8>>,
    batch: RecordBatch,
    at: usize,
    finished: bool,
}

impl Ipc {
    pub fn new(answer: Answer) -> Ipc {
        let batch = with_metadata(answer);
        let writer = StreamWriter::try_new(Vec::new(), batch.schema_ref()).expect("memory can be written to");
        Ipc { writer, batch, at: 0, finished: false }
    }
}

/// What an answer says of itself, for the metadata of a schema or a file.
pub fn said_of(answer: &Answer) -> [(String, String); 2] {
    let stats = json::stats_text(&answer.stats);
    let warnings = json::warnings_text(&answer.warnings);
    [("waterclock.stats".to_string(), stats), ("waterclock.warnings".to_string(), warnings)]
}

/// The columns with their roles, and what the answer says of itself.
pub fn with_metadata(answer: Answer) -> RecordBatch {
    let field = |(field, column): (&Arc<Field>, &AnswerColumn)| {
        let role = [("role".to_string(), role_name(column.role).to_string())];
        field.as_ref().clone().with_metadata(role.into())
    };
    let schema = answer.batch.schema();
    let fields: Vec<Field> = schema.fields().iter().zip(&answer.columns).map(field).collect();
    let schema = Schema::new_with_metadata(fields, said_of(&answer).into());
    answer.batch.with_schema(Arc::new(schema)).expect("only metadata were added")
}

impl Iterator for Ipc {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.finished {
            return None;
        }
        let rows = MESSAGE_ROWS.min(self.batch.num_rows() - self.at);
        if rows > 0 {
            self.writer.write(&self.batch.slice(self.at, rows)).expect("a part of the batch has its schema");
            self.at += rows;
        } else {
            self.writer.finish().expect("memory can be written to");
            self.finished = true;
        }
        Some(std::mem::take(self.writer.get_mut()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_rows_and_roles_back() {
        let answer = crate::server::json::tests::hard();
        let rows = answer.batch.clone();
        let stream: Vec<u8> = Ipc::new(answer).flatten().collect();
        let reader = arrow::ipc::reader::StreamReader::try_new(stream.as_slice(), None).unwrap();
        assert_eq!(reader.schema().field(1).metadata()["role"], "tag");
        assert_eq!(reader.schema().metadata()["waterclock.warnings"], r#"["careful"]"#);
        let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].columns(), rows.columns());
    }
}
