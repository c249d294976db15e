//! From a selector to samples: which tables and fields it means, and their rows as times and values.
//!
//! The metrics of a database are the series of its table `metrics`, whose tags are the labels; and each number or boolean of any other
//! table, named `<table>_<field>`, with the table's tags as labels. Where both have the same labels the table wins.
//! Invariant: samples ascend in time; stale markers are among them.
//! Not here: what is computed from samples (`window`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use query_lang::plan::{TagFilter, TagTest};
use storage_format::histogram::Histogram;
use storage_format::point::{FieldType, TagSet, Time, TimeRange};

use crate::error::{Error, Result};
use crate::promql::ast::{Expr, MatchTest, Matcher};
use crate::promql::functions::WindowFunction;
use crate::promql::labels::with;
use crate::promql::native::Native;
use crate::promql::parse::NAME;
use crate::promql::states::Stated;
use crate::promql::window::{Track, Windows};
use crate::rows::Rows;
use crate::scan::Captured;
use crate::series::{CompiledFilter, METRIC_HISTOGRAM, METRIC_VALUE, METRICS_TABLE, Table};

/// What one selector of a query needs.
#[derive(Clone, Debug)]
pub struct Selection {
    pub matchers: Vec<Matcher>,
    pub range: TimeRange,
    /// The function that looks at its windows, if one does and at nothing else.
    pub asked: Option<Asked>,
}

impl Selection {
    pub fn new(matchers: Vec<Matcher>, range: TimeRange) -> Selection {
        Selection { matchers, range, asked: None }
    }
}

/// A function of a range vector that a selector gives.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub function: WindowFunction,
    pub windows: Windows,
}

/// What of one table a selector means.
pub struct Wanted {
    /// What of the matchers is about tags.
    pub tags: TagFilter,
    pub filter: CompiledFilter,
    /// Fields by number and name.
    pub columns: Vec<(u32, String)>,
    /// Of the columns that are metrics of their own.
    names: Vec<Name>,
    /// The column with the native histograms of the first metric.
    histograms_at: Option<usize>,
}

/// What the series of a field are called.
#[derive(Clone, Debug)]
enum Name {
    /// As their tags say.
    InTags,
    Field(Arc<str>),
}

/// What one selector reads of one table.
pub struct Source {
    pub captured: Captured,
    pub names: Names,
    /// What may be read in place of the points.
    pub stated: Option<Stated>,
}

impl Wanted {
    /// None if nothing of the table can match.
    pub fn of(table: &Table, matchers: &[Matcher]) -> Result<Option<Wanted>> {
        if *table.name == *METRICS_TABLE {
            let column = |name: &str, wanted: FieldType| {
                let (id, kind) = table.column(name)?;
                (kind == wanted).then(|| (id, name.to_string()))
            };
            let value = column(METRIC_VALUE, FieldType::Float);
            let histogram = column(METRIC_HISTOGRAM, FieldType::Binary);
            if value.is_none() && histogram.is_none() {
                return Ok(None);
            }
            let histograms_at = histogram.is_some().then_some(1);
            // A column that there is not is read as one without values.
            let value = value.unwrap_or((u32::MAX, METRIC_VALUE.to_string()));
            let tags = tag_filter(matchers.iter());
            return Ok(Some(Wanted {
                filter: CompiledFilter::new(&tags)?,
                tags,
                columns: std::iter::once(value).chain(histogram).collect(),
                names: vec![Name::InTags],
                histograms_at,
            }));
        }
        let by_name: Vec<Matcher> =
            matchers.iter().filter(|matcher| matcher.label == NAME).cloned().collect();
        let by_name = CompiledFilter::new(&tag_filter(by_name.iter()))?;
        let tags = tag_filter(matchers.iter().filter(|matcher| matcher.label != NAME));
        let mut wanted = Wanted {
            filter: CompiledFilter::new(&tags)?,
            tags,
            columns: Vec::new(),
            names: Vec::new(),
            histograms_at: None,
        };
        for (id, column) in (0..).zip(table.columns()) {
            if matches!(column.field_type, FieldType::Str | FieldType::Binary) {
                continue;
            }
            let name = field_metric(&table.name, &column.name);
            if by_name.passes(&TagSet::new([(NAME, name.as_str())])) {
                wanted.columns.push((id, column.name.to_string()));
                wanted.names.push(Name::Field(name.into()));
            }
        }
        Ok((!wanted.columns.is_empty()).then_some(wanted))
    }

    /// The metrics that its fields are; none where the tags say which.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter_map(|name| match name {
            Name::InTags => None,
            Name::Field(name) => Some(&**name),
        })
    }

    pub fn source(self, captured: Captured, stated: Option<Stated>) -> Source {
        let names = Names { names: self.names, histograms_at: self.histograms_at };
        Source { captured, names, stated }
    }

    /// Where native histograms may be among what it means: the field's number and name.
    pub fn histograms(&self) -> Option<&(u32, String)> {
        self.histograms_at.map(|at| &self.columns[at])
    }

    /// The label sets that a series of the table stands for.
    pub fn labels<'a>(&'a self, tags: &'a TagSet) -> impl Iterator<Item = TagSet> + 'a {
        self.names.iter().map(|name| name.labels(tags))
    }
}

/// What the series of each column are called.
pub struct Names {
    names: Vec<Name>,
    histograms_at: Option<usize>,
}

impl Names {
    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn labels(&self, column: usize, tags: &TagSet) -> TagSet {
        self.names[column].labels(tags)
    }

    /// What the rows have of one column.
    pub fn fill(&self, track: &mut Track, column: usize, rows: &[Rows]) -> Result<()> {
        track.clear();
        append_samples(rows, column, track);
        match self.histograms_at {
            Some(at) => append_histograms(rows, at, &mut track.histograms),
            None => Ok(()),
        }
    }
}

impl Name {
    fn labels(&self, tags: &TagSet) -> TagSet {
        match self {
            Name::InTags => tags.clone(),
            Name::Field(name) => with(tags, NAME, name),
        }
    }
}

/// The metric that a field of a table is.
pub fn field_metric(table: &str, field: &str) -> String {
    format!("{table}_{field}")
}

pub fn filter<'a>(matchers: impl Iterator<Item = &'a Matcher>) -> Result<CompiledFilter> {
    CompiledFilter::new(&tag_filter(matchers))
}

/// The series that any of an expression's selectors means, as a filter of tags. None if it has no selector.
pub fn filter_of(expr: &Expr) -> Option<TagFilter> {
    let any: Vec<TagFilter> =
        expr.selectors().into_iter().map(|found| tag_filter(found.matchers.iter())).collect();
    (!any.is_empty()).then_some(TagFilter::Or(any))
}

fn tag_filter<'a>(matchers: impl Iterator<Item = &'a Matcher>) -> TagFilter {
    let test = |matcher: &Matcher| TagFilter::Match {
        tag: matcher.label.clone(),
        test: match matcher.test {
            MatchTest::Equal => TagTest::Equal(matcher.value.clone()),
            MatchTest::NotEqual => TagTest::NotEqual(matcher.value.clone()),
            MatchTest::Matches => TagTest::Matches(matcher.value.clone()),
            MatchTest::NotMatches => TagTest::NotMatches(matcher.value.clone()),
        },
    };
    TagFilter::And(matchers.map(test).collect())
}

fn append_histograms(
    rows: &[Rows],
    column: usize,
    histograms: &mut Vec<(Time, Option<Arc<Native>>)>,
) -> Result<()> {
    for piece in rows {
        let Some(Some(array)) = piece.columns.get(column) else { continue };
        let bytes = array.as_binary::<i32>();
        for (time, bytes) in piece.times.iter().zip(bytes).filter_map(|(time, bytes)| Some((time, bytes?))) {
            let histogram =
                Histogram::decode(bytes).map_err(|damage| Error::corrupt("a native histogram", damage))?;
            histograms.push((*time, Native::of(&histogram).map(Arc::new)));
        }
    }
    Ok(())
}

/// Appends the samples of one column.
fn append_samples(rows: &[Rows], column: usize, track: &mut Track) {
    for piece in rows {
        let Some(Some(array)) = piece.columns.get(column) else { continue };
        if array.null_count() == 0 {
            track.times.extend_from_slice(&piece.times);
            extend_values(array, track, None);
        } else {
            let valid = |row: &usize| array.is_valid(*row);
            track.times.extend((0..piece.len()).filter(valid).map(|row| piece.times[row]));
            extend_values(array, track, Some(&valid));
        }
    }
}

fn extend_values(array: &ArrayRef, track: &mut Track, valid: Option<&dyn Fn(&usize) -> bool>) {
    let rows = (0..array.len()).filter(|row| valid.is_none_or(|valid| valid(row)));
    match array.data_type() {
        DataType::Float64 => {
            let floats = array.as_primitive::<Float64Type>().values();
            match valid {
                None => track.values.extend_from_slice(floats),
                Some(_) => track.values.extend(rows.map(|row| floats[row])),
            }
        }
        DataType::Int64 => {
            let integers = array.as_primitive::<Int64Type>().values();
            rows.for_each(|row| track.push_whole(integers[row].into()));
        }
        DataType::UInt64 => {
            let integers = array.as_primitive::<UInt64Type>().values();
            rows.for_each(|row| track.push_whole(integers[row].into()));
        }
        DataType::Boolean => {
            let bools = array.as_boolean().values();
            track.values.extend(rows.map(|row| f64::from(u8::from(bools.value(row)))));
        }
        other => unreachable!("bug: a field of type {other} was taken for a metric"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BooleanArray, Int64Array};

    #[test]
    fn numbers_and_booleans_become_samples_where_they_are() {
        let rows = Rows {
            times: vec![1, 2, 3].into(),
            columns: vec![
                Some(Arc::new(Int64Array::from(vec![Some(7), None, Some(9)]))),
                Some(Arc::new(BooleanArray::from(vec![true, false, true]))),
                None,
            ],
        };
        let samples = |column: usize| {
            let mut track = Track::default();
            append_samples(std::slice::from_ref(&rows), column, &mut track);
            assert!(track.rests.is_empty(), "small numbers are floats");
            track.times.into_iter().zip(track.values).collect::<Vec<_>>()
        };
        assert_eq!(samples(0), [(1, 7.0), (3, 9.0)]);
        assert_eq!(samples(1), [(1, 1.0), (2, 0.0), (3, 1.0)]);
        assert_eq!(samples(2), []);
    }

    #[test]
    fn what_whole_numbers_lose_as_floats_is_kept() {
        let odd = (1i64 << 53) + 1;
        let mut track = Track::default();
        [1, odd, 2, -odd].iter().for_each(|whole| track.push_whole((*whole).into()));
        assert_eq!(track.rests, [0.0, 1.0, 0.0, -1.0]);
        assert_eq!((track.values[1], track.values[3]), ((odd - 1) as f64, -(odd - 1) as f64));
    }
}
