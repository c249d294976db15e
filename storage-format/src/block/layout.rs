//! Which tags have columns: all of them, or of metrics the commonest.
//!
//! All metrics together have hundreds of labels, most of which few series have: a column of each would be headers and
//! nulls in every row group, and a table of that width in every tool.
//! Invariant: a tag has a column or stands in the map, never both; which one binds its block only.
//! Not here: what columns are called (`names`), how they are written (`tags`, `labels`).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::schema::{BlockField, BlockSchema};
use crate::point::{METRIC_NAME, SeriesOrder, TagSet};

/// Columns of labels in a block of metrics, `__name__` among them. A node exporter reports forty labels.
pub const LABEL_COLUMNS_MAX: usize = 64;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TagLayout {
    /// Every tag has a column.
    #[default]
    Columns,
    /// Of metrics: these have columns, sorted; all others stand in one map.
    Labels { columns: Vec<String> },
}

impl TagLayout {
    /// In which order the series of the block stand.
    pub fn order(&self) -> SeriesOrder {
        match self {
            TagLayout::Columns => SeriesOrder::Tags,
            TagLayout::Labels { .. } => SeriesOrder::Name,
        }
    }

    pub fn has_map(&self) -> bool {
        matches!(self, TagLayout::Labels { .. })
    }

    /// The lowest version whose readers know it.
    pub(super) fn version(&self) -> u32 {
        match self {
            TagLayout::Columns => 1,
            TagLayout::Labels { .. } => 2,
        }
    }

    /// Of the block's tags those that have columns, in the order of the file.
    pub(super) fn with_columns<'a>(&'a self, tags: &'a [String]) -> Vec<&'a str> {
        match self {
            TagLayout::Columns => tags.iter().map(String::as_str).collect(),
            TagLayout::Labels { columns } => in_order(self.order(), columns),
        }
    }

    /// Whether the tag stands in the map.
    pub(super) fn is_in_map(&self, tag: &str) -> bool {
        match self {
            TagLayout::Columns => false,
            TagLayout::Labels { columns } => {
                columns.binary_search_by(|known| known.as_str().cmp(tag)).is_err()
            }
        }
    }

    /// How many tags of the key, in its order, have columns before the first one that has not.
    pub(super) fn key_columns(&self, tags: &[String]) -> usize {
        in_order(self.order(), tags).iter().take_while(|tag| !self.is_in_map(tag)).count()
    }
}

/// Sorted tags in the order in which they decide between two series.
pub(super) fn in_order(order: SeriesOrder, sorted: &[String]) -> Vec<&str> {
    let mut tags: Vec<&str> = sorted.iter().map(String::as_str).collect();
    if let Some(place) = order.first().and_then(|first| tags.iter().position(|tag| *tag == first)) {
        tags[..=place].rotate_right(1);
    }
    tags
}

impl BlockSchema {
    /// Of a block with these series. In the order of names it is one of metrics.
    pub fn of_series<'a>(
        order: SeriesOrder,
        series: impl Iterator<Item = &'a TagSet>,
        fields: Vec<BlockField>,
    ) -> BlockSchema {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for tags in series {
            for (tag, _) in tags.iter() {
                match counts.get_mut(tag) {
                    Some(count) => *count += 1,
                    None => drop(counts.insert(tag.to_string(), 1)),
                }
            }
        }
        let layout = match order {
            SeriesOrder::Tags => TagLayout::Columns,
            SeriesOrder::Name => TagLayout::Labels { columns: commonest(&counts) },
        };
        BlockSchema { tags: counts.into_keys().collect(), layout, fields }
    }
}

/// The tags that most series have, sorted; of equals the first by name.
fn commonest(counts: &BTreeMap<String, u64>) -> Vec<String> {
    let mut tags: Vec<(&String, u64)> = counts.iter().map(|(tag, count)| (tag, *count)).collect();
    tags.sort_by_key(|(tag, count)| (*tag != METRIC_NAME, Reverse(*count), *tag));
    tags.truncate(LABEL_COLUMNS_MAX);
    let mut columns: Vec<String> = tags.into_iter().map(|(tag, _)| tag.clone()).collect();
    columns.sort();
    columns
}
