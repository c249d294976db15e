//! How columns are encoded: of what DuckDB, pyarrow, Polars and Spark all read, the smallest for the
//! values at hand.
//!
//! Invariant: values choose the encoding, never the type: tools that read many files of one table as one
//! need the same types in all of them. FORMAT.md has the measurements, and what those tools do otherwise.
//! Not here: which rows make a row group, and which of them are the sample (`write`).

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, SchemaRef};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, TypePtr};

use super::names::TIME_COLUMN;
use super::schema::{BlockMeta, BlockSchema};
use super::{PAGE_ROWS, Result};

/// How the values of one field stand in one row group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueEncoding {
    /// DELTA_BINARY_PACKED for integers and times, PLAIN for all else.
    Direct,
    /// BYTE_STREAM_SPLIT, of floats: whole numbers, whose lower bytes are zeros, and noise.
    Split,
    /// Of floats, integers and times with few different values. Where they turn out to be more than fit
    /// [`DICTIONARY_BYTES_MAX`], the rest of the row group is `Direct`.
    Dictionary,
}

/// Each lookup decodes the dictionary first. Full, this one costs a lookup of one series 20 to 45 us more than
/// none at all; one of 64 KiB, 80 to 140 us. Small ones cost nothing.
const DICTIONARY_BYTES_MAX: usize = 16 << 10;

/// Different values of a sample up to which a dictionary is worth a try: half of what it may hold, as all
/// rows have more of them than a sample.
const SAMPLE_VALUES_MAX: usize = DICTIONARY_BYTES_MAX / size_of::<u64>() / 2;

impl ValueEncoding {
    pub const ALL: [ValueEncoding; 3] =
        [ValueEncoding::Direct, ValueEncoding::Split, ValueEncoding::Dictionary];

    fn suits(self, data_type: &DataType) -> bool {
        match data_type {
            DataType::Float64 => true,
            DataType::Int64 | DataType::UInt64 | DataType::Timestamp(..) => self != ValueEncoding::Split,
            _ => self == ValueEncoding::Direct,
        }
    }

    fn is_worth_a_try(self, sample: &ArrayRef) -> bool {
        let has_choice = ValueEncoding::Dictionary.suits(sample.data_type());
        has_choice
            && self.suits(sample.data_type())
            && (self != ValueEncoding::Dictionary || has_few_values(sample))
    }
}

/// Of floats, integers or times, by their bits.
fn has_few_values(sample: &ArrayRef) -> bool {
    let mut known = HashSet::new();
    let data = sample.to_data();
    data.buffer::<u64>(0).iter().take(sample.len()).all(|bits| {
        known.insert(*bits);
        known.len() <= SAMPLE_VALUES_MAX
    })
}

/// What the pages of a finished column take in the file: its dictionary, which is no data page and comes first,
/// or 0, then the data pages.
pub fn chunk_bytes(chunk: &ArrowColumnChunk) -> (u64, Vec<u64>) {
    let closed = chunk.close();
    let pages = closed.offset_index.as_ref().expect("offset indexes are never turned off");
    let pages: Vec<u64> =
        pages.page_locations().iter().map(|page| page.compressed_page_size as u64).collect();
    (closed.metadata.compressed_size() as u64 - pages.iter().sum::<u64>(), pages)
}

/// Makes the writers of a block's columns.
pub struct Encoder {
    schema: BlockSchema,
    created_by: String,
    compression: Compression,
    arrow: SchemaRef,
    root: TypePtr,
}

impl Encoder {
    pub fn new(schema: &BlockSchema, meta: &BlockMeta, zstd_level: i32) -> Result<Encoder> {
        let arrow = schema.arrow(DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)));
        let parquet = ArrowSchemaConverter::new().schema_root("block").convert(&arrow)?;
        Ok(Encoder {
            schema: schema.clone(),
            created_by: format!("waterclock version {}", meta.created_by),
            compression: Compression::ZSTD(ZstdLevel::try_new(zstd_level)?),
            arrow,
            root: parquet.root_schema_ptr(),
        })
    }

    /// What the writers take.
    pub fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }

    pub fn file<W: Write + Send>(&self, out: W) -> Result<SerializedFileWriter<W>> {
        self.file_with(out, &vec![ValueEncoding::Direct; self.schema.fields.len()])
    }

    /// Writers of a row group's columns, for fields encoded so.
    pub fn writers(&self, fields: &[ValueEncoding]) -> Result<Vec<ArrowColumnWriter>> {
        // The crate takes encodings from a file's properties: a file that nobody keeps brings other ones
        // for each row group. What a chunk is encoded in stands in the chunk's own metadata.
        let file = self.file_with(io::sink(), fields)?;
        Ok(ArrowRowGroupWriterFactory::new(&file, self.arrow.clone()).create_column_writers(0)?)
    }

    /// For each field the smallest of its encodings by a sample of its values, out of `rows`.
    pub fn choose(&self, samples: &[ArrayRef], rows: usize) -> Result<Vec<ValueEncoding>> {
        let mut best = vec![(ValueEncoding::Direct, u64::MAX); samples.len()];
        for encoding in ValueEncoding::ALL {
            let tried: Vec<bool> = samples.iter().map(|sample| encoding.is_worth_a_try(sample)).collect();
            if !tried.contains(&true) {
                continue;
            }
            let writers = self.writers(&vec![encoding; samples.len()])?;
            let first_field = 1 + self.schema.tags.len();
            let columns = self.arrow.fields().iter().zip(writers).skip(first_field);
            for (place, (field, mut writer)) in columns.enumerate() {
                if !tried[place] {
                    continue;
                }
                for leaf in compute_leaves(field, &samples[place])? {
                    writer.write(&leaf)?;
                }
                let (dictionary, pages) = chunk_bytes(&writer.close()?);
                // All rows share the dictionary, not the sample alone.
                let share = dictionary * samples[place].len() as u64 / rows.max(1) as u64;
                let size = pages.iter().sum::<u64>() + share;
                if size < best[place].1 {
                    best[place] = (encoding, size);
                }
            }
        }
        Ok(best.into_iter().map(|(encoding, _)| encoding).collect())
    }

    fn file_with<W: Write + Send>(
        &self,
        out: W,
        fields: &[ValueEncoding],
    ) -> Result<SerializedFileWriter<W>> {
        let properties = Arc::new(self.properties(fields));
        Ok(SerializedFileWriter::new(out, self.root.clone(), properties)?)
    }

    fn properties(&self, fields: &[ValueEncoding]) -> WriterProperties {
        let (tag_columns, field_columns) = self.schema.columns();
        // Tags ascend with missing ones first, then time: column 0 is time.
        let sorted =
            |column: usize| SortingColumn { column_idx: column as i32, descending: false, nulls_first: true };
        let sorting = (1..=tag_columns.len()).chain([0]).map(sorted).collect();

        let mut builder = WriterProperties::builder()
            .set_created_by(self.created_by.clone())
            .set_compression(self.compression)
            // The limit is looked at between write batches: equal to it, pages are never longer.
            .set_data_page_row_count_limit(PAGE_ROWS)
            .set_write_batch_size(PAGE_ROWS)
            // Row groups end where the writer of the block says.
            .set_max_row_group_row_count(None)
            .set_sorting_columns(Some(sorting))
            // Per row group for others; per page for time only, by which we skip pages.
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_column_statistics_enabled(path(TIME_COLUMN), EnabledStatistics::Page)
            .set_column_encoding(path(TIME_COLUMN), Encoding::DELTA_BINARY_PACKED)
            .set_column_dictionary_enabled(path(TIME_COLUMN), false);
        for column in tag_columns {
            builder = builder.set_column_dictionary_enabled(path(&column), true);
        }
        for ((field, column), encoding) in self.schema.fields.iter().zip(field_columns).zip(fields) {
            let column = path(&column);
            let suits = encoding.suits(&field.data_type);
            let numbers = suits && *encoding == ValueEncoding::Dictionary;
            let texts = field.data_type == DataType::Utf8;
            builder = builder.set_column_dictionary_enabled(column.clone(), numbers || texts);
            if numbers {
                builder = builder.set_column_dictionary_page_size_limit(column.clone(), DICTIONARY_BYTES_MAX);
            }
            builder = match field.data_type {
                DataType::Int64 | DataType::UInt64 | DataType::Timestamp(..) => {
                    builder.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED)
                }
                DataType::Float64 if *encoding == ValueEncoding::Split => {
                    builder.set_column_encoding(column, Encoding::BYTE_STREAM_SPLIT)
                }
                // No bounds of texts and sketches: they may be huge and prune nothing.
                DataType::Utf8 | DataType::Binary => {
                    builder.set_column_statistics_enabled(column, EnabledStatistics::None)
                }
                _ => builder,
            };
        }
        builder.build()
    }
}

/// One name, whatever dots it has.
fn path(column: &str) -> ColumnPath {
    ColumnPath::new(vec![column.to_owned()])
}
