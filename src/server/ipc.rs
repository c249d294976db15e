//! Answers as an Arrow IPC stream: the columns as the engine has them.
//!
//! Invariant: each field carries its role (time, tag, value) in its metadata under `role`; times are nanoseconds in UTC. What is
//! known of an answer before its rows is in the schema under `waterclock.stats` and `waterclock.warnings`. A stream that ends early
//! lacks its end.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::ipc::writer::StreamEncoder;
use axum::body::Bytes;

use crate::query::AnswerColumn;
use crate::server::cells::role_name;
use crate::server::format::{Encoder, Out, Said};
use crate::server::json;

/// Rows of one message at most: some megabytes of usual columns, which a reader has in memory at once.
const MESSAGE_ROWS: usize = 32 << 10;

pub struct Ipc {
    schema: SchemaRef,
    encoder: StreamEncoder,
    batch: Option<RecordBatch>,
    at: usize,
}

/// A column's values as they are in memory.
struct Part(Buffer);

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

const FITS: &str = "the batch has the schema of the stream";

impl Ipc {
    pub fn new(columns: &[AnswerColumn], schema: &SchemaRef, said: Option<&Said>) -> Ipc {
        let schema = with_metadata(columns, schema, said);
        let encoder =
            StreamEncoder::try_new(&schema).expect("the types of answers are among those of streams");
        Ipc { schema, encoder, batch: None, at: 0 }
    }
}

/// What an answer says of itself, for the metadata of a schema or a file.
pub fn said_of(said: &Said) -> [(String, String); 2] {
    let stats = json::stats_text(&said.stats);
    let warnings = json::warnings_text(&said.warnings);
    [("waterclock.stats".to_string(), stats), ("waterclock.warnings".to_string(), warnings)]
}

/// The columns with their roles, and what the answer says of itself.
pub fn with_metadata(columns: &[AnswerColumn], schema: &SchemaRef, said: Option<&Said>) -> SchemaRef {
    let field = |(field, column): (&Arc<Field>, &AnswerColumn)| {
        let role = [("role".to_string(), role_name(column.role).to_string())];
        field.as_ref().clone().with_metadata(role.into())
    };
    let fields: Vec<Field> = schema.fields().iter().zip(columns).map(field).collect();
    let said = said.map(said_of).into_iter().flatten().collect();
    Arc::new(Schema::new_with_metadata(fields, said))
}

impl Encoder for Ipc {
    fn take(&mut self, batch: RecordBatch) {
        let batch = batch.with_schema(SchemaRef::clone(&self.schema)).expect("only metadata were added");
        (self.batch, self.at) = (Some(batch), 0);
    }

    fn rows(&mut self, out: &mut Out) -> bool {
        let Some(batch) = &self.batch else { return false };
        let rows = MESSAGE_ROWS.min(batch.num_rows() - self.at);
        let parts = self.encoder.encode(&batch.slice(self.at, rows)).expect(FITS);
        parts.into_iter().for_each(|part| out.push(Bytes::from_owner(Part(part))));
        self.at += rows;
        if self.at == batch.num_rows() {
            self.batch = None;
        }
        self.batch.is_some()
    }

    fn end(&mut self, _: &Said, out: &mut Vec<u8>) {
        let ended = StreamEncoder::try_new(&self.schema).expect(FITS);
        let encoder = std::mem::replace(&mut self.encoder, ended);
        encoder.finish().expect(FITS).iter().for_each(|part| out.extend_from_slice(part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::cells::TimeFormat;
    use crate::server::format::Format;
    use crate::server::format::tests::encoded;

    #[test]
    fn a_reader_gets_rows_and_roles_back() {
        let answer = crate::server::json::tests::hard();
        let rows = answer.batch.clone();
        let stream = encoded(Format::Arrow, answer, TimeFormat::Rfc3339);
        let reader = arrow::ipc::reader::StreamReader::try_new(stream.as_slice(), None).unwrap();
        assert_eq!(reader.schema().field(1).metadata()["role"], "tag");
        assert_eq!(reader.schema().metadata()["waterclock.warnings"], r#"["careful"]"#);
        let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].columns(), rows.columns());
    }
}
