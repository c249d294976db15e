//! Answers as a Parquet file: the columns as the engine has them, for DuckDB, pyarrow, Polars and whoever reads Parquet.
//!
//! Invariant: a row group ends at [`GROUP_ROWS`] rows or [`GROUP_BYTES`] bytes and goes out then, so that no more than one
//! stands here beside the answer. What it took to make the answer is in the footer's key-value metadata.
//! Not here: blocks (`storage_format::block`), which have an order and an index that answers have not.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::query::Answer;
use crate::server::ipc;

pub struct Parquet {
    /// None once the footer is out.
    writer: Option<ArrowWriter<Vec<u8>>>,
    batch: RecordBatch,
    at: usize,
}

const GROUP_ROWS: usize = 128 << 10;
const GROUP_BYTES: usize = 8 << 20;

/// Rows after which the size of the group is looked at.
const STEP_ROWS: usize = 8 << 10;

impl Parquet {
    pub fn new(answer: Answer) -> Parquet {
        let said = ipc::said_of(&answer).into_iter().map(|(key, value)| KeyValue::new(key, value)).collect();
        let batch = ipc::with_metadata(answer);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_key_value_metadata(Some(said))
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(batch.schema_ref()), Some(properties))
            .expect("Parquet has all types of answers");
        Parquet { writer: Some(writer), batch, at: 0 }
    }
}

impl Iterator for Parquet {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        const MEMORY: &str = "memory can be written to";
        let mut writer = self.writer.take()?;
        while self.at < self.batch.num_rows() {
            let rows = STEP_ROWS.min(self.batch.num_rows() - self.at);
            writer.write(&self.batch.slice(self.at, rows)).expect(MEMORY);
            self.at += rows;
            if writer.in_progress_rows() >= GROUP_ROWS || writer.in_progress_size() >= GROUP_BYTES {
                writer.flush().expect(MEMORY);
                let piece = std::mem::take(writer.inner_mut());
                self.writer = Some(writer);
                return Some(piece.into());
            }
        }
        Some(writer.into_inner().expect(MEMORY).into())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;
    use crate::query::{AnswerColumn, Role};

    #[test]
    fn a_reader_gets_types_and_values_back() {
        let answer = crate::server::json::tests::hard();
        let rows = answer.batch.clone();
        let file: Vec<u8> = Parquet::new(answer).flatten().collect();
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
        let file: Vec<u8> = Parquet::new(crate::query::text_table(&[], &[])).flatten().collect();
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file)).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
    }

    #[test]
    fn row_groups_go_out_one_by_one() {
        let rows = 3 * GROUP_ROWS + 1;
        let column = AnswerColumn { name: "n".to_string(), role: Role::Value };
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
        let pieces: Vec<Bytes> = Parquet::new(Answer::new(vec![column], vec![values], Vec::new())).collect();
        assert_eq!(pieces.len(), 4);
        let file = Bytes::from(pieces.concat());
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        assert_eq!(reader.metadata().num_row_groups(), 4);
        assert_eq!(reader.build().unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>(), rows);
    }
}
