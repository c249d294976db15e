//! What a block holds: its tags and fields, where it belongs, and how both are told in the footer.
//!
//! Invariant: the footer's description is enough to name every column; the Parquet schema only has to
//! agree with it. Not here: how columns are encoded (`write`), how colliding names are told apart (`names`), which tags
//! of metrics have columns (`layout`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

use super::layout::TagLayout;
use super::names::{LABELS_COLUMN, TIME_COLUMN, column_names};
use super::{BLOCK_VERSION, NARROW_FIELDS_MAX, NARROW_PAGE_ROWS, PAGE_ROWS};
use crate::corrupt::{Corrupt, Result};
use crate::point::TimeRange;

/// The footer key of the JSON text that [`encode`] makes.
pub const FOOTER_KEY: &str = "waterclock.block";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSchema {
    /// Sorted, without duplicates.
    pub tags: Vec<String>,
    pub layout: TagLayout,
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
        if let TagLayout::Labels { columns } = &self.layout {
            assert!(columns.is_sorted_by(|a, b| a < b), "bug: columns must be sorted and distinct");
            assert!(columns.iter().all(|tag| self.tags.contains(tag)), "bug: a column of no tag");
        }
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

    /// The file's columns: time, tags, the map of those that have none, fields.
    pub fn arrow(&self) -> SchemaRef {
        let (tags, fields) = self.columns();
        let time = Field::new(TIME_COLUMN, time_type(), false);
        let tags = tags.into_iter().map(|name| Field::new(name, DataType::Utf8, true));
        let labels = self.layout.has_map().then(|| Field::new(LABELS_COLUMN, labels_type(), true));
        let fields = fields
            .into_iter()
            .zip(&self.fields)
            .map(|(name, field)| Field::new(name, field.data_type.clone(), true));
        Arc::new(Schema::new(
            std::iter::once(time).chain(tags).chain(labels).chain(fields).collect::<Vec<_>>(),
        ))
    }

    /// The names of the columns of those tags that have one, in the order of the file, and of the fields.
    pub fn columns(&self) -> (Vec<String>, Vec<String>) {
        let tags = self.layout.with_columns(&self.tags);
        let fields: Vec<&str> = self.fields.iter().map(|field| field.name.as_str()).collect();
        let reserved: &[&str] = match self.layout.has_map() {
            true => &[TIME_COLUMN, LABELS_COLUMN],
            false => &[TIME_COLUMN],
        };
        column_names(&tags, &fields, reserved)
    }

    /// The place of the first field among the file's columns: after time, tags and the map.
    pub fn first_field(&self) -> usize {
        let tags = match &self.layout {
            TagLayout::Columns => self.tags.len(),
            TagLayout::Labels { columns } => columns.len(),
        };
        1 + tags + usize::from(self.layout.has_map())
    }

    /// The same among the file's chunks, of which the map has two: keys and values.
    pub fn first_field_chunk(&self) -> usize {
        self.first_field() + usize::from(self.layout.has_map())
    }
}

/// A map of texts, as Parquet wants one to be called.
fn labels_type() -> DataType {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let entry = DataType::Struct(vec![text("key"), text("value")].into());
    DataType::Map(Arc::new(Field::new("key_value", entry, false)), false)
}

/// The footer's JSON.
pub fn encode(schema: &BlockSchema, meta: &BlockMeta) -> String {
    let (tag_columns, field_columns) = schema.columns();
    let with_columns = schema.layout.with_columns(&schema.tags);
    let mut columns: HashMap<&str, String> = with_columns.into_iter().zip(tag_columns).collect();
    let tags = schema.tags.iter();
    let tags = tags.map(|tag| TagColumn { name: tag.clone(), column: columns.remove(tag.as_str()) });
    let fields = schema.fields.iter().zip(field_columns);
    let footer = Footer {
        version: schema.layout.version(),
        database: meta.database.clone(),
        table: meta.table.clone(),
        kind: meta.kind,
        seq_min: meta.seq_min,
        seq_max: meta.seq_max,
        partition_start: meta.partition.start,
        partition_end: meta.partition.end,
        created_by: meta.created_by.clone(),
        tags: tags.collect(),
        labels: schema.layout.has_map().then(|| LABELS_COLUMN.to_owned()),
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
    let mut fields = Vec::new();
    for field in &footer.fields {
        let data_type =
            data_type(&field.data_type).ok_or(Corrupt::new("a field has a type that no block has"))?;
        fields.push(BlockField { name: field.name.clone(), data_type });
    }
    let with_columns = footer.tags.iter().filter(|tag| tag.column.is_some()).map(|tag| tag.name.clone());
    let layout = match &footer.labels {
        Some(_) => TagLayout::Labels { columns: with_columns.collect() },
        None if footer.tags.iter().all(|tag| tag.column.is_some()) => TagLayout::Columns,
        None => return Err(Corrupt::new("the footer says no column for a tag")),
    };
    let tags = footer.tags.iter().map(|tag| tag.name.clone()).collect();
    let schema = BlockSchema { tags, layout, fields };
    if !schema.tags.is_sorted_by(|a, b| a < b) {
        return Err(Corrupt::new("the footer's tags are not sorted"));
    }
    let columns = columns_in_order(&footer, &schema);
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

/// As the footer calls them, in the order in which the layout has them in the file.
fn columns_in_order(footer: &Footer, schema: &BlockSchema) -> Vec<String> {
    let column = |tag: &str| {
        let place = footer.tags.binary_search_by(|known| known.name.as_str().cmp(tag)).ok()?;
        footer.tags[place].column.clone()
    };
    let tags = schema.layout.with_columns(&schema.tags).into_iter().filter_map(column);
    let fields = footer.fields.iter().map(|field| field.column.clone());
    tags.chain(footer.labels.clone()).chain(fields).collect()
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    labels: Option<String>,
    fields: Vec<FieldColumn>,
}

#[derive(Serialize, Deserialize)]
struct TagColumn {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    column: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct FieldColumn {
    name: String,
    column: String,
    #[serde(rename = "type")]
    data_type: String,
}
