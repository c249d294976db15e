//! How columns are encoded: of what DuckDB, pyarrow, Polars and Spark all read, the smallest for the
//! values at hand.
//!
//! Invariant: values choose the encoding, never the type: tools that read many files of one table as one
//! need the same types in all of them. FORMAT.md has the measurements, and what those tools do otherwise.
//! Not here: which rows make a row group, and which of them are the sample (`write`); pages of floats (`floats`).

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, SchemaRef};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding, Type, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, SchemaDescriptor};

use super::Result;
use super::columns::{ColumnChunk, ColumnWriter};
use super::floats::FloatWriter;
use super::labels::LabelsWriter;
use super::names::TIME_COLUMN;
use super::schema::{BlockMeta, BlockSchema};
use super::tags::TagWriter;

/// How much work the smallest form is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Of a block that will be rewritten soon.
    Flush,
    /// Of one that stays.
    Compaction,
}

impl Effort {
    /// Of zstd, for all columns but floats. Measured: 3 is worth its CPU once per compaction, and 9 saves too little to be
    /// worth it ever.
    pub(super) fn zstd_level(self) -> i32 {
        match self {
            Effort::Flush => 1,
            Effort::Compaction => 3,
        }
    }

    /// The same of floats, which are most of what a table of metrics takes.
    pub(super) fn float_level(self, encoding: ValueEncoding) -> i32 {
        match (self, encoding) {
            (Effort::Flush, _) => 1,
            (Effort::Compaction, ValueEncoding::Direct) => 3,
            (Effort::Compaction, ValueEncoding::Split) => 9,
            // A byte or two for each value: a costly search is cheap. A page of single bytes is just above the 16 KiB up to
            // which 12 finds as much.
            (Effort::Compaction, ValueEncoding::Dictionary) => 15,
        }
    }
}

/// How the values of one field stand in one row group; of a field of floats, in one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ValueEncoding {
    /// DELTA_BINARY_PACKED for integers and times, PLAIN for all else.
    Direct,
    /// BYTE_STREAM_SPLIT, of floats: whole numbers, whose lower bytes are zeros, and noise.
    Split,
    /// Of floats, integers and times with few different values. Where integers and times turn out to be more than fit
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
}

/// Whether the values of a row group choose between `Direct` and `Dictionary`.
pub fn has_choice(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int64 | DataType::UInt64 | DataType::Timestamp(..))
}

/// Of integers or times.
fn has_few_values(sample: &ArrayRef) -> bool {
    let mut known = HashSet::new();
    let data = sample.to_data();
    data.buffer::<u64>(0).iter().take(sample.len()).all(|bits| {
        known.insert(*bits);
        known.len() <= SAMPLE_VALUES_MAX
    })
}

/// Of one row group, in the order of its columns.
pub struct GroupWriters {
    pub time: ColumnWriter,
    pub tags: Vec<TagWriter>,
    pub labels: Option<LabelsWriter>,
    pub fields: Vec<ColumnWriter>,
}

/// Makes the writers of a block's columns.
pub struct Encoder {
    schema: BlockSchema,
    created_by: String,
    compression: Compression,
    arrow: SchemaRef,
    parquet: SchemaDescriptor,
}

impl Encoder {
    pub fn new(schema: &BlockSchema, meta: &BlockMeta, effort: Effort) -> Result<Encoder> {
        let arrow = schema.arrow();
        let parquet = ArrowSchemaConverter::new().schema_root("block").convert(&arrow)?;
        Ok(Encoder {
            schema: schema.clone(),
            created_by: format!("waterclock version {}", meta.created_by),
            compression: Compression::ZSTD(ZstdLevel::try_new(effort.zstd_level())?),
            arrow,
            parquet,
        })
    }

    /// What the writers of times and fields take.
    pub fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }

    pub fn file<W: Write + Send>(&self, out: W) -> Result<SerializedFileWriter<W>> {
        self.file_with(out, &vec![ValueEncoding::Direct; self.schema.fields.len()])
    }

    /// Writers of a row group's columns, for fields encoded so. Those of floats choose for themselves, unless one encoding
    /// is `forced` on all fields.
    pub fn writers(&self, fields: &[ValueEncoding], forced: Option<ValueEncoding>) -> Result<GroupWriters> {
        let (has_map, page_rows) = (self.schema.layout.has_map(), self.schema.page_rows());
        let first_field = self.schema.first_field_chunk();
        let mut writers = self.crate_writers(fields)?.into_iter();
        let time = writers.next().expect("every block has a column of times");
        let (keys, fields) = self.parquet.columns().split_at(first_field);
        let fields =
            writers.skip(keys.len() - 1).zip(fields).map(|(writer, column)| match column.physical_type() {
                Type::DOUBLE => {
                    ColumnWriter::Floats(Box::new(FloatWriter::new(column.clone(), page_rows, forced)))
                }
                _ => ColumnWriter::Other(Box::new(writer)),
            });
        let fields = fields.collect();
        let (tags, labels) = match (has_map, keys) {
            (true, [_, tags @ .., keys, values]) => {
                (tags, Some(LabelsWriter::new(keys.clone(), values.clone())))
            }
            (_, keys) => (&keys[1..], None),
        };
        Ok(GroupWriters {
            time: ColumnWriter::Other(Box::new(time)),
            tags: tags.iter().map(|column| TagWriter::new(column.clone())).collect(),
            labels,
            fields,
        })
    }

    fn crate_writers(&self, fields: &[ValueEncoding]) -> Result<Vec<ArrowColumnWriter>> {
        // The crate takes encodings from a file's properties: a file that nobody keeps brings other ones
        // for each row group. What a chunk is encoded in stands in the chunk's own metadata.
        let file = self.file_with(io::sink(), fields)?;
        Ok(ArrowRowGroupWriterFactory::new(&file, self.arrow.clone()).create_column_writers(0)?)
    }

    /// For each field the smaller of its encodings by a sample of its values, out of `rows`. A field without a choice has no
    /// sample.
    pub fn choose(&self, samples: &[Option<ArrayRef>], rows: usize) -> Result<Vec<ValueEncoding>> {
        let mut best = vec![(ValueEncoding::Direct, u64::MAX); samples.len()];
        for encoding in [ValueEncoding::Direct, ValueEncoding::Dictionary] {
            let is_tried = |sample: &&ArrayRef| encoding == ValueEncoding::Direct || has_few_values(sample);
            let tried: Vec<Option<&ArrayRef>> =
                samples.iter().map(|sample| sample.as_ref().filter(is_tried)).collect();
            if tried.iter().all(Option::is_none) {
                continue;
            }
            let writers = self.crate_writers(&vec![encoding; samples.len()])?;
            let fields = &self.arrow.fields()[self.schema.first_field()..];
            let columns = fields.iter().zip(writers.into_iter().skip(self.schema.first_field_chunk()));
            for ((sample, best), (field, mut writer)) in tried.into_iter().zip(&mut best).zip(columns) {
                let Some(sample) = sample else { continue };
                for leaf in compute_leaves(field, sample)? {
                    writer.write(&leaf)?;
                }
                let (dictionary, pages) = ColumnChunk::Other(writer.close()?).page_bytes();
                // All rows share the dictionary, not the sample alone.
                let share = dictionary * sample.len() as u64 / rows.max(1) as u64;
                let size = pages.iter().sum::<u64>() + share;
                if size < best.1 {
                    *best = (encoding, size);
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
        Ok(SerializedFileWriter::new(out, self.parquet.root_schema_ptr(), properties)?)
    }

    fn properties(&self, fields: &[ValueEncoding]) -> WriterProperties {
        let (_, field_columns) = self.schema.columns();
        // Tags ascend with missing ones first, then time: column 0 is time. Behind a tag that only the map has, nothing can
        // be told.
        let sorted =
            |column: usize| SortingColumn { column_idx: column as i32, descending: false, nulls_first: true };
        let told = self.schema.layout.key_columns(&self.schema.tags);
        let time = (told == self.schema.tags.len()).then_some(0);
        let sorting = (1..=told).chain(time).map(sorted).collect();

        let mut builder = WriterProperties::builder()
            .set_created_by(self.created_by.clone())
            .set_compression(self.compression)
            // The limit is looked at between write batches: equal to it, pages are never longer.
            .set_data_page_row_count_limit(self.schema.page_rows())
            .set_write_batch_size(self.schema.page_rows())
            // Row groups end where the writer of the block says.
            .set_max_row_group_row_count(None)
            .set_sorting_columns(Some(sorting))
            // Per row group for others; per page for time only, by which we skip pages.
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_column_statistics_enabled(path(TIME_COLUMN), EnabledStatistics::Page)
            .set_column_encoding(path(TIME_COLUMN), Encoding::DELTA_BINARY_PACKED)
            .set_column_dictionary_enabled(path(TIME_COLUMN), false);
        for ((field, column), encoding) in self.schema.fields.iter().zip(field_columns).zip(fields) {
            let column = path(&column);
            let numbers = has_choice(&field.data_type) && *encoding == ValueEncoding::Dictionary;
            let texts = field.data_type == DataType::Utf8;
            builder = builder.set_column_dictionary_enabled(column.clone(), numbers || texts);
            if numbers {
                builder = builder.set_column_dictionary_page_size_limit(column.clone(), DICTIONARY_BYTES_MAX);
            }
            builder = match field.data_type {
                DataType::Int64 | DataType::UInt64 | DataType::Timestamp(..) => {
                    builder.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED)
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
