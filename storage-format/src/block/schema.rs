//! What a block holds: its tags and fields, where it belongs, and how both are told in the footer.
//!
//! Invariant: the footer's description is enough to name every column; the Parquet schema only has to
//! agree with it. Not here: how columns are encoded (`write`), how colliding names are told apart (`names`).

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

use super::names::{TIME_COLUMN, column_names};
use super::{BLOCK_VERSION, NARROW_FIELDS_MAX, NARROW_PAGE_ROWS, PAGE_ROWS};
use crate::corrupt::{Corrupt, Result};
use crate::point::TimeRange;

/// The footer key of the JSON text that [`encode`] makes.
pub const FOOTER_KEY: &str = "waterclock.block";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSchema {
    /// Sorted, without duplicates.
    pub tags: Vec<String>,
    pub fields: Vec<BlockField>,
}

/// A field may be missing in any row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockField {
    pub name: String,
    /// One of [`data_types`].
    pub data_type: DataType,
}

/// Where a block belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockMeta {
    pub database: String,
    pub table: String,
    pub kind: BlockKind,
    /// The first and the last WAL sequence whose points are here.
    pub seq_min: u64,
    pub seq_max: u64,
    pub partition: TimeRange,
    /// The version of the program that wrote it, for people: `0.1.0`.
    pub created_by: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockKind {
    Points,
    Rollup,
}

/// What a field may be, by the name in the footer. The first five, and `binary` for native histograms, are for points;
/// rollup states also use the others.
pub fn data_types() -> [(&'static str, DataType); 8] {
    [
        ("float64", DataType::Float64),
        ("int64", DataType::Int64),
        ("uint64", DataType::UInt64),
        ("bool", DataType::Boolean),
        ("utf8", DataType::Utf8),
        ("decimal128(38,0)", DataType::Decimal128(38, 0)),
        ("timestamp", time_type()),
        ("binary", DataType::Binary),
    ]
}

/// Nanoseconds, adjusted to UTC: what every reader shows as an instant.
pub fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

impl BlockSchema {
    /// Panics on a schema that must not reach a disk: these are our bugs, not damage.
    pub fn check(&self) {
        assert!(self.tags.is_sorted_by(|a, b| a < b), "bug: tags must be sorted and distinct");
        let names: HashSet<&str> = self.fields.iter().map(|field| field.name.as_str()).collect();
        assert!(names.len() == self.fields.len(), "bug: fields must be distinct");
        for field in &self.fields {
            assert!(type_name(&field.data_type).is_some(), "bug: no block has {}", field.data_type);
        }
    }

    /// Rows of a page of times or of a field.
    pub fn page_rows(&self) -> usize {
        if self.fields.len() <= NARROW_FIELDS_MAX { NARROW_PAGE_ROWS } else { PAGE_ROWS }
    }

    /// The file's columns: time, tags, fields.
    pub fn arrow(&self) -> SchemaRef {
        let (tags, fields) = self.columns();
        let tags = tags.into_iter().map(|name| Field::new(name, DataType::Utf8, true));
        let fields = fields
            .into_iter()
            .zip(&self.fields)
            .map(|(name, field)| Field::new(name, field.data_type.clone(), true));
        let time = Field::new(TIME_COLUMN, time_type(), false);
        Arc::new(Schema::new(std::iter::once(time).chain(tags).chain(fields).collect::<Vec<_>>()))
    }

    /// The names of the tags' columns and of the fields' columns.
    pub fn columns(&self) -> (Vec<String>, Vec<String>) {
        let tags: Vec<&str> = self.tags.iter().map(String::as_str).collect();
        let fields: Vec<&str> = self.fields.iter().map(|field| field.name.as_str()).collect();
        column_names(&tags, &fields)
    }
}

/// The footer's JSON.
pub fn encode(schema: &BlockSchema, meta: &BlockMeta) -> String {
    let (tag_columns, field_columns) = schema.columns();
    let tags = schema.tags.iter().zip(tag_columns);
    let fields = schema.fields.iter().zip(field_columns);
    let footer = Footer {
        version: BLOCK_VERSION,
        database: meta.database.clone(),
        table: meta.table.clone(),
        kind: meta.kind,
        seq_min: meta.seq_min,
        seq_max: meta.seq_max,
        partition_start: meta.partition.start,
        partition_end: meta.partition.end,
        created_by: meta.created_by.clone(),
        tags: tags.map(|(name, column)| TagColumn { name: name.clone(), column }).collect(),
        fields: fields
            .map(|(field, column)| FieldColumn {
                name: field.name.clone(),
                column,
                data_type: type_name(&field.data_type).expect("the schema was checked").to_owned(),
            })
            .collect(),
    };
    serde_json::to_string(&footer).expect("a struct of strings and numbers is JSON")
}

/// The block's schema and meta, and the names of the columns after `time`, as the footer tells them.
pub fn decode(text: &str) -> Result<(BlockSchema, BlockMeta, Vec<String>)> {
    // The version first: what a newer one looks like is not known here.
    let Version { version } =
        serde_json::from_str(text).map_err(|_| Corrupt::new("the footer names no block version"))?;
    if version == 0 || version > BLOCK_VERSION {
        return Err(Corrupt::new("the block's version is newer than this program"));
    }
    let footer: Footer = serde_json::from_str(text)
        .map_err(|_| Corrupt::new("the footer's description is not what its version says"))?;
    let mut columns: Vec<String> = footer.tags.iter().map(|tag| tag.column.clone()).collect();
    columns.extend(footer.fields.iter().map(|field| field.column.clone()));
    let fields: Option<Vec<BlockField>> = footer
        .fields
        .into_iter()
        .map(|field| Some(BlockField { data_type: data_type(&field.data_type)?, name: field.name }))
        .collect();
    let schema = BlockSchema {
        tags: footer.tags.into_iter().map(|tag| tag.name).collect(),
        fields: fields.ok_or(Corrupt::new("a field has a type that no block has"))?,
    };
    if !schema.tags.is_sorted_by(|a, b| a < b) {
        return Err(Corrupt::new("the footer's tags are not sorted"));
    }
    let meta = BlockMeta {
        database: footer.database,
        table: footer.table,
        kind: footer.kind,
        seq_min: footer.seq_min,
        seq_max: footer.seq_max,
        partition: TimeRange::new(footer.partition_start, footer.partition_end),
        created_by: footer.created_by,
    };
    Ok((schema, meta, columns))
}

fn type_name(data_type: &DataType) -> Option<&'static str> {
    data_types().into_iter().find(|(_, known)| known == data_type).map(|(name, _)| name)
}

fn data_type(name: &str) -> Option<DataType> {
    data_types().into_iter().find(|(known, _)| *known == name).map(|(_, data_type)| data_type)
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Footer {
    version: u32,
    database: String,
    table: String,
    kind: BlockKind,
    seq_min: u64,
    seq_max: u64,
    partition_start: i64,
    partition_end: i64,
    created_by: String,
    tags: Vec<TagColumn>,
    fields: Vec<FieldColumn>,
}

#[derive(Serialize, Deserialize)]
struct TagColumn {
    name: String,
    column: String,
}

#[derive(Serialize, Deserialize)]
struct FieldColumn {
    name: String,
    column: String,
    #[serde(rename = "type")]
    data_type: String,
}
