//! Answers as a Parquet file: the columns as the engine has them, for DuckDB, pyarrow, Polars and whoever reads Parquet.
//!
//! Invariant: a row group ends at [`GROUP_ROWS`] rows or [`GROUP_BYTES`] bytes and goes out then, so that no more than one
//! stands here beside the answer. What it took to make the answer is in the footer's key-value metadata.
//! Not here: blocks (`storage_format::block`), which have an order and an index that answers have not.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::query::AnswerColumn;
use crate::server::format::{Encoder, Out, Said};
use crate::server::ipc;

pub struct Parquet {
    schema: SchemaRef,
    /// None once the footer is out.
    writer: Option<ArrowWriter<Vec<u8>>>,
    batch: Option<RecordBatch>,
    at: usize,
}

const GROUP_ROWS: usize = 128 << 10;
const GROUP_BYTES: usize = 8 << 20;

/// Rows after which the size of the group is looked at.
const STEP_ROWS: usize = 8 << 10;

const MEMORY: &str = "memory can be written to";

impl Parquet {
    pub fn new(columns: &[AnswerColumn], schema: &SchemaRef) -> Parquet {
        let schema = ipc::with_metadata(columns, schema, None);
        let properties =
            WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let writer = ArrowWriter::try_new(Vec::new(), SchemaRef::clone(&schema), Some(properties))
            .expect("Parquet has all types of answers");
        Parquet { schema, writer: Some(writer), batch: None, at: 0 }
    }
}

impl Encoder for Parquet {
    fn take(&mut self, batch: RecordBatch) {
        let batch = batch.with_schema(SchemaRef::clone(&self.schema)).expect("only metadata were added");
        (self.batch, self.at) = (Some(batch), 0);
    }

    fn rows(&mut self, out: &mut Out) -> bool {
        let (Some(writer), Some(batch)) = (&mut self.writer, &self.batch) else { return false };
        while self.at < batch.num_rows() {
            let rows = STEP_ROWS.min(batch.num_rows() - self.at);
            writer.write(&batch.slice(self.at, rows)).expect(MEMORY);
            self.at += rows;
            if writer.in_progress_rows() >= GROUP_ROWS || writer.in_progress_size() >= GROUP_BYTES {
                writer.flush().expect(MEMORY);
                out.push(std::mem::take(writer.inner_mut()).into());
                return true;
            }
        }
        self.batch = None;
        false
    }

    fn end(&mut self, said: &Said, out: &mut Vec<u8>) {
        let Some(mut writer) = self.writer.take() else { return };
        for (key, value) in ipc::said_of(said) {
            writer.append_key_value_metadata(KeyValue::new(key, value));
        }
        out.append(&mut writer.into_inner().expect(MEMORY));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;
    use crate::query::{Answer, AnswerColumn, Role};
    use crate::server::cells::TimeFormat;
    use crate::server::format::Format;
    use crate::server::format::tests::{encoded, pieces};

    #[test]
    fn a_reader_gets_types_and_values_back() {
        let answer = crate::server::json::tests::hard();
        let rows = answer.batch.clone();
        let file = encoded(Format::Parquet, answer, TimeFormat::Rfc3339);
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file)).unwrap();
        assert_eq!(reader.schema().field(1).metadata()["role"], "tag");
        let footer = reader.metadata().file_metadata().key_value_metadata().unwrap().clone();
        let said = |key: &str| footer.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
        assert_eq!(said("waterclock.warnings").as_deref(), Some(r#"["careful"]"#));
        assert!(said("waterclock.stats").unwrap().contains(r#""rollups":[]"#));
        let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
        assert_eq!(batches[0].columns(), rows.columns());
    }

    #[test]
    fn an_answer_without_columns_is_a_file_too() {
        let file = encoded(Format::Parquet, crate::query::text_table(&[], &[]), TimeFormat::Rfc3339);
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file)).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
    }

    #[test]
    fn row_groups_go_out_one_by_one() {
        let rows = 3 * GROUP_ROWS + 1;
        let column = AnswerColumn { name: "n".to_string(), role: Role::Value };
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
        let answer = Answer::new(vec![column], vec![values], Vec::new());
        let pieces = pieces(Format::Parquet, answer, TimeFormat::Rfc3339);
        assert_eq!(pieces.len(), 4);
        let file = Bytes::from(pieces.concat());
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        assert_eq!(reader.metadata().num_row_groups(), 4);
        assert_eq!(reader.build().unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>(), rows);
    }
}
