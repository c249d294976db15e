//! Every row of a block against its series index: what checksums cannot tell, because they were made over it.
//!
//! Invariant: memory is bounded by a batch of rows, whatever the block's size.
//! Not here: the bytes themselves ([`Block::verify`]).

use arrow::array::{Array, AsArray, MapArray, RecordBatch};
use arrow::datatypes::TimestampNanosecondType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;

use super::{Arc, Block, BlockError, CheckedReader, Mutex, PoisonError, Result};
use crate::block::PAGE_ROWS;
use crate::point::{TagSet, Time};

/// A row that is not where or what the index says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowFault {
    /// Counted from 0.
    pub row: u64,
    pub what: &'static str,
}

/// Rows decoded at once, with all their columns.
const BATCH_ROWS: usize = 4 * PAGE_ROWS;

/// Where the walk along the series stands.
struct Walk<'a> {
    block: &'a Block,
    /// In the order of their columns.
    with_columns: Vec<&'a str>,
    series: u32,
    key: TagSet,
    /// The row to come.
    row: u64,
    before: Option<Time>,
}

impl Block {
    /// Decodes all rows and compares them with the index and the partition. The first fault, if there is one.
    pub fn audit<R: ChunkReader + 'static>(&self, reader: R) -> Result<Option<RowFault>> {
        if self.rows == 0 {
            return Ok(None);
        }
        let fault = Arc::new(Mutex::new(None));
        let reader = CheckedReader { inner: reader, pages: self.pages.clone(), fault: fault.clone() };
        let explain = |error: BlockError| {
            let fault = fault.lock().unwrap_or_else(PoisonError::into_inner).take();
            fault.unwrap_or(error)
        };
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(reader, self.parquet.clone())
            .with_batch_size(BATCH_ROWS);
        let batches = builder.build().map_err(|error| explain(error.into()))?;
        let with_columns = self.schema.layout.with_columns(&self.schema.tags);
        let mut walk =
            Walk { block: self, with_columns, series: 0, key: self.index.key(0), row: 0, before: None };
        for batch in batches {
            let batch = batch.map_err(|error| explain(BlockError::Parquet { what: error.to_string() }))?;
            if let Err(fault) = walk.pass(&batch) {
                return Ok(Some(fault));
            }
        }
        let whole = walk.series as usize == self.index.len();
        Ok((!whole).then_some(RowFault { row: walk.row, what: "rows are missing at the end" }))
    }
}

impl Walk<'_> {
    fn pass(&mut self, batch: &RecordBatch) -> std::result::Result<(), RowFault> {
        let times = batch.column(0).as_primitive::<TimestampNanosecondType>().values();
        let mut at = 0;
        while at < batch.num_rows() {
            if self.series as usize >= self.block.index.len() {
                return Err(self.fault("there are more rows than the index has"));
            }
            let of_series = self.block.index.rows(self.series);
            let left = usize::try_from(of_series.end - self.row).unwrap_or(usize::MAX);
            let end = batch.num_rows().min(at.saturating_add(left));
            self.tags(batch, at..end)?;
            for time in times.get(at..end).unwrap_or_default() {
                self.time(*time)?;
            }
            at = end;
            if self.row == of_series.end {
                self.end_series()?;
            }
        }
        Ok(())
    }

    /// All rows of a stretch have the tags of their series.
    fn tags(&self, batch: &RecordBatch, rows: std::ops::Range<usize>) -> std::result::Result<(), RowFault> {
        let fault = |row: usize| {
            let row = self.row + (row - rows.start) as u64;
            RowFault { row, what: "its tags are not those of the series index" }
        };
        for (place, tag) in self.with_columns.iter().enumerate() {
            let column = batch.column(1 + place).as_string::<i32>();
            let expected = self.key.get(tag);
            for row in rows.clone() {
                let found = column.is_valid(row).then(|| column.value(row));
                if found != expected {
                    return Err(fault(row));
                }
            }
        }
        let layout = &self.block.schema.layout;
        if layout.has_map() {
            let expected: Vec<(&str, &str)> =
                self.key.iter().filter(|(tag, _)| layout.is_in_map(tag)).collect();
            let map = batch.column(1 + self.with_columns.len()).as_map();
            if let Some(row) = rows.clone().find(|row| !holds(map, *row, &expected)) {
                return Err(fault(row));
            }
        }
        Ok(())
    }

    fn time(&mut self, time: Time) -> std::result::Result<(), RowFault> {
        let bounds = self.block.index.time(self.series);
        if self.before.is_none() && time != bounds.start {
            return Err(self.fault("its series begins at another time than the index says"));
        }
        if self.before.is_some_and(|before| before >= time) {
            return Err(self.fault("its time does not come after the one before"));
        }
        let partition = self.block.meta.partition;
        // The last partition there is ends with the last time, which is in it.
        if time < partition.start || time >= partition.end && partition.end != Time::MAX {
            return Err(self.fault("its time lies outside of the block's partition"));
        }
        self.before = Some(time);
        self.row += 1;
        Ok(())
    }

    fn end_series(&mut self) -> std::result::Result<(), RowFault> {
        let bounds = self.block.index.time(self.series);
        // A range ends just after its last time, or at the end of time.
        if self.before.map(|last| last.saturating_add(1)) != Some(bounds.end) {
            self.row -= 1;
            return Err(self.fault("its series ends at another time than the index says"));
        }
        self.series += 1;
        self.before = None;
        if (self.series as usize) < self.block.index.len() {
            let next = self.block.index.key(self.series);
            if self.block.schema.layout.order().cmp(&next, &self.key).is_le() {
                return Err(self.fault("its series does not come after the one before"));
            }
            self.key = next;
        }
        Ok(())
    }

    fn fault(&self, what: &'static str) -> RowFault {
        RowFault { row: self.row, what }
    }
}

/// Whether these are the row's labels; null if there are none.
fn holds(map: &MapArray, row: usize, expected: &[(&str, &str)]) -> bool {
    if map.is_null(row) || expected.is_empty() {
        return map.is_null(row) && expected.is_empty();
    }
    let entries = map.value(row);
    let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
    keys.iter().zip(values).eq(expected.iter().map(|(key, value)| (Some(*key), Some(*value))))
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may fail loudly")]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::block::{BlockKind, BlockMeta, BlockSchema, BlockWriter, Effort, TagLayout};
    use crate::point::{SeriesOrder, TimeRange};

    fn meta(partition: TimeRange) -> BlockMeta {
        BlockMeta {
            database: "default".into(),
            table: "cpu".into(),
            kind: BlockKind::Points,
            seq_min: 1,
            seq_max: 2,
            partition,
            created_by: "0.1.0".into(),
        }
    }

    fn block(series: &[(&str, &[Time])], partition: TimeRange) -> (Block, Bytes) {
        let meta = meta(partition);
        let schema =
            BlockSchema { tags: vec!["host".into()], layout: TagLayout::Columns, fields: Vec::new() };
        let mut writer = BlockWriter::new(Vec::new(), schema, &meta, Effort::Flush).unwrap();
        for (host, times) in series {
            writer.push_series(&TagSet::new([("host", *host)]), times, &[]).unwrap();
        }
        let bytes = Bytes::from(writer.finish().unwrap().0);
        (Block::open(&bytes).unwrap(), bytes)
    }

    /// What an audit says of the rows `told` under the index of the rows `indexed`.
    fn fault(told: &[(&str, &[Time])], indexed: &[(&str, &[Time])]) -> Option<RowFault> {
        let (mut block, bytes) = block(told, TimeRange::new(0, 100));
        block.index = self::block(indexed, TimeRange::new(0, 100)).0.index;
        block.audit(bytes).unwrap()
    }

    #[test]
    fn each_row_is_held_against_the_index() {
        let right: &[(&str, &[Time])] = &[("a", &[1, 2, 3]), ("b", &[2, 7])];
        assert_eq!(fault(right, right), None);
        let cases: &[(&[(&str, &[Time])], u64, &str)] = &[
            (&[("a", &[1, 2, 3]), ("c", &[2, 7])], 3, "tags"),
            (&[("a", &[1, 2]), ("b", &[2, 3, 7])], 2, "tags"),
            (&[("a", &[0, 2, 3]), ("b", &[2, 7])], 0, "begins"),
            (&[("a", &[1, 2, 4]), ("b", &[2, 7])], 2, "ends"),
            (&[("a", &[1, 2, 3]), ("b", &[2, 7, 8])], 5, "more rows"),
        ];
        for (told, row, what) in cases {
            // The index is the right one: what the rows tell is wrong.
            let found = fault(told, right).unwrap();
            assert!(found.row == *row && found.what.contains(what), "{told:?}: {found:?}");
        }
        assert_eq!(fault(&right[..1], right).unwrap().what, "rows are missing at the end");
    }

    #[test]
    fn rows_outside_of_the_partition_are_found() {
        let (block, bytes) = block(&[("a", &[1, 2, 30])], TimeRange::new(0, 30));
        let found = block.audit(bytes).unwrap().unwrap();
        assert_eq!((found.row, found.what), (2, "its time lies outside of the block's partition"));
    }

    #[test]
    fn the_map_of_labels_is_held_against_the_index() {
        let block = |odd: &str| {
            // The last of equals, which has no column.
            let label = |number: u32| (format!("l{number:02}"), if number == 99 { odd } else { "x" });
            let tags = TagSet::new((0..100).map(label));
            let schema = BlockSchema::of_series(SeriesOrder::Name, [&tags].into_iter(), Vec::new());
            let meta = meta(TimeRange::new(0, 100));
            let mut writer = BlockWriter::new(Vec::new(), schema, &meta, Effort::Flush).unwrap();
            writer.push_series(&tags, &[1, 2], &[]).unwrap();
            let bytes = Bytes::from(writer.finish().unwrap().0);
            (Block::open(&bytes).unwrap(), bytes)
        };
        let (mut told, bytes) = block("a");
        assert_eq!(told.audit(bytes.clone()).unwrap(), None);
        told.index = block("b").0.index;
        let found = told.audit(bytes).unwrap().unwrap();
        assert_eq!((found.row, found.what), (0, "its tags are not those of the series index"));
    }
}
