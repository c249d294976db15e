//! A table of columns in memory, and the steps that work on its rows.
//!
//! Invariant: all columns have one length, and names are distinct; what a step makes is counted before what it was made of
//! is given back.
//! Not here: reading points (`points`, `window`), which gives the first of them.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, TimestampNanosecondArray, UInt32Array};
use arrow::compute::{filter, take};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimestampNanosecondType, UInt64Type};
use arrow::row::{RowConverter, SortField};
use hashbrown::HashMap;
use query_lang::plan::{Aggregate, Computed, Rank, SortKey, Step};
use query_lang::scalar::{ColumnRef, ColumnRole, Constant, ValueType};
use storage_format::point::{TagSet, Time, TimeRange};

use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::query::answer::{AnswerColumn, Role};
use crate::query::axis::RowGroups;
use crate::query::fill::fill;
use crate::query::groups::{Groups, finish};
use crate::query::scalar::{Columns, Program, Value, plain};
use crate::query::window::StatePlan;
use crate::rows::{Rows, Span};

#[derive(Clone)]
pub struct Frame {
    pub columns: Vec<AnswerColumn>,
    pub arrays: Vec<ArrayRef>,
    pub rows: usize,
    pub warnings: Vec<String>,
}

impl Frame {
    pub fn new(columns: Vec<AnswerColumn>, arrays: Vec<ArrayRef>, warnings: Vec<String>) -> Frame {
        let rows = arrays.first().map_or(0, |array| array.len());
        Frame { columns, arrays, rows, warnings }
    }

    pub fn heap_bytes(&self) -> usize {
        self.arrays.iter().map(|array| array.get_array_memory_size()).sum()
    }

    /// All steps but joins, which need another query.
    pub fn step(self, step: &Step, guard: &Guard) -> Result<Frame> {
        guard.check()?;
        let before = self.heap_bytes();
        let frame = self.stepped(step, guard)?;
        guard.check_rows(frame.rows)?;
        let after = frame.heap_bytes();
        guard.reserve(after)?;
        guard.release(before);
        Ok(frame)
    }

    fn stepped(self, step: &Step, guard: &Guard) -> Result<Frame> {
        Ok(match step {
            Step::Where(condition) => self.passing(&Program::new(condition)?),
            Step::Extend(computed) => self.extend(computed)?,
            Step::Aggregate(aggregate) => self.aggregate(aggregate, guard)?,
            Step::Fill(asked) => fill(self, asked, guard)?,
            Step::Sort(keys) => {
                let order = self.sorted(keys);
                self.pick(&order)
            }
            Step::Rank(rank) => {
                let order = self.ranked(rank)?;
                self.pick(&order)
            }
            Step::Limit { count, offset } => {
                let start = usize::try_from(*offset).map_or(self.rows, |offset| offset.min(self.rows));
                let len = usize::try_from(*count)
                    .map_or(self.rows, |count| count.min(self.rows))
                    .min(self.rows - start);
                self.slice(start, len)
            }
            Step::Join(_) => unreachable!("bug: a join is done where both sides are"),
        })
    }

    /// Only the rows that meet a condition.
    pub fn passing(self, condition: &Program) -> Frame {
        let passes = condition.passes(&self.input(None));
        self.filter(&passes)
    }

    pub fn slice(self, start: usize, len: usize) -> Frame {
        self.map(|array| array.slice(start, len), len)
    }

    /// With all texts as they are, in place of numbers for them.
    pub fn unpacked(self) -> Frame {
        let rows = self.rows;
        self.map(unpacked, rows)
    }

    pub fn find(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// A tag that no row has may be missing.
    pub fn column(&self, name: &str) -> Option<&ArrayRef> {
        self.find(name).map(|at| &self.arrays[at])
    }

    pub fn times(&self) -> Option<Vec<Time>> {
        let at = self.columns.iter().position(|column| column.role == Role::Time)?;
        Some(self.arrays[at].as_primitive::<TimestampNanosecondType>().values().to_vec())
    }

    /// The places of the columns that are tags.
    pub fn tags(&self) -> Vec<usize> {
        (0..self.columns.len()).filter(|at| self.columns[*at].role == Role::Tag).collect()
    }

    pub fn pick(self, order: &[u32]) -> Frame {
        let indices = UInt32Array::from(order.to_vec());
        self.map(|array| take(array, &indices, None).expect("every index is a row"), order.len())
    }

    fn filter(self, passes: &BooleanArray) -> Frame {
        let rows = passes.true_count();
        self.map(|array| filter(array, passes).expect("the mask has one entry per row"), rows)
    }

    fn map(self, each: impl Fn(&ArrayRef) -> ArrayRef, rows: usize) -> Frame {
        Frame { arrays: self.arrays.iter().map(each).collect(), rows, ..self }
    }

    fn input<'a>(&'a self, groups: Option<&'a RowGroups>) -> FrameInput<'a> {
        FrameInput { frame: self, groups }
    }

    pub fn extend(mut self, computed: &[Computed]) -> Result<Frame> {
        for Computed { name, value } in computed {
            let program = Program::new(value)?;
            let groups = program.looks_around().then(|| self.groups()).transpose()?;
            let array = as_answer(program.compute(&self.input(groups.as_ref())), program.value_type());
            let column = AnswerColumn { name: name.clone(), role: Role::Value };
            match self.columns.iter().position(|column| column.name == *name) {
                Some(at) => self.arrays[at] = array,
                None => {
                    self.columns.push(column);
                    self.arrays.push(array);
                }
            }
        }
        Ok(self)
    }

    /// The rows of each combination of tags, by time.
    fn groups(&self) -> Result<RowGroups> {
        let tags = self.tags();
        let times = self.times().expect("bug: the planner wants a time for functions along it");
        let mut groups = self.rows_by(&tags)?;
        for group in &mut groups {
            group.sort_by_key(|row| times[*row as usize]);
        }
        Ok(RowGroups { groups, times })
    }

    /// The rows of each combination of values of some columns, in the order in which they first appear.
    pub fn rows_by(&self, columns: &[usize]) -> Result<Vec<Vec<u32>>> {
        if self.rows == 0 {
            return Ok(Vec::new());
        }
        if columns.is_empty() {
            return Ok(vec![(0..self.rows as u32).collect()]);
        }
        let arrays: Vec<ArrayRef> = columns.iter().map(|at| Arc::clone(&self.arrays[*at])).collect();
        let keys = row_keys(&arrays)?;
        let mut numbers: HashMap<arrow::row::Row<'_>, usize> = HashMap::new();
        let mut groups: Vec<Vec<u32>> = Vec::new();
        for (row, key) in keys.iter().enumerate() {
            let number = *numbers.entry(key).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups[number].push(row as u32);
        }
        Ok(groups)
    }

    fn aggregate(&self, aggregate: &Aggregate, guard: &Guard) -> Result<Frame> {
        let times = self.times().unwrap_or_else(|| vec![0; self.rows]);
        let whole_start = times.iter().copied().min().unwrap_or(0);
        let plan = StatePlan::of_rows(aggregate, whole_start)?;
        let closing = plan.closing();
        let by = Groups::sorted(&aggregate.by);
        let tags = self.tags();
        let fields: Vec<Option<ArrayRef>> =
            plan.fields.iter().map(|field| self.column(field).cloned().map(plain)).collect();
        let mut groups = Groups::default();
        for mut rows in self.rows_by(&tags)? {
            guard.check()?;
            rows.sort_by_key(|row| times[*row as usize]);
            let values = |at: &usize| {
                let array = self.arrays[*at].as_string::<i32>();
                let row = rows[0] as usize;
                (self.columns[*at].name.as_str(), if array.is_valid(row) { array.value(row) } else { "" })
            };
            let series = TagSet::new(tags.iter().map(values).filter(|(_, value)| !value.is_empty()));
            let pieces: Vec<Rows> = ascending(rows, &times)
                .into_iter()
                .map(|rows| {
                    let indices = UInt32Array::from(rows);
                    let of = |array: &Option<ArrayRef>| {
                        array.as_ref().map(|array| take(array, &indices, None).expect("every index is a row"))
                    };
                    Rows {
                        times: indices.values().iter().map(|row| times[*row as usize]).collect(),
                        columns: fields.iter().map(of).collect(),
                    }
                })
                .collect();
            // Rows of one time are of several series: steps lead from one to the next only within a piece.
            for piece in pieces {
                let run = plan.run(&series, &[Span::all(&piece)]);
                let run = match &closing {
                    Some(closing) => closing.closed(run),
                    None => run,
                };
                groups.add_of(&series, by.as_deref(), run, guard)?;
            }
        }
        let range = TimeRange::ALL;
        finish(groups.windowed(aggregate, range, guard)?, aggregate, range, None, guard).map(|mut frame| {
            frame.warnings.splice(0..0, self.warnings.iter().cloned());
            frame
        })
    }

    fn sorted(&self, keys: &[SortKey]) -> Vec<u32> {
        let orders: Vec<(Order<'_>, bool)> =
            keys.iter().filter_map(|key| Some((order(self.column(&key.column)?), key.descending))).collect();
        let mut rows: Vec<u32> = (0..self.rows as u32).collect();
        rows.sort_by(|a, b| {
            let differs = |(order, descending): &(Order<'_>, bool)| {
                let ordering = order.compare(*a as usize, *b as usize, *descending);
                (ordering != Ordering::Equal).then_some(ordering)
            };
            orders.iter().find_map(differs).unwrap_or(Ordering::Equal)
        });
        rows
    }

    fn ranked(&self, rank: &Rank) -> Result<Vec<u32>> {
        let per: Vec<usize> = rank.per.iter().filter_map(|name| self.find(name)).collect();
        let count = usize::try_from(rank.count).unwrap_or(usize::MAX);
        let Some(column) = self.column(&rank.column) else { return Ok(Vec::new()) };
        let order = order(column);
        let mut kept = Vec::new();
        for mut rows in self.rows_by(&per)? {
            rows.retain(|row| column.is_valid(*row as usize));
            rows.sort_by(|a, b| order.compare(*a as usize, *b as usize, rank.largest));
            rows.truncate(count);
            kept.extend(rows);
        }
        Ok(kept)
    }
}

struct FrameInput<'a> {
    frame: &'a Frame,
    groups: Option<&'a RowGroups>,
}

impl Columns for FrameInput<'_> {
    fn rows(&self) -> usize {
        self.frame.rows
    }

    fn column(&self, column: &ColumnRef) -> Option<Value> {
        match (column.role, self.frame.column(&column.name)) {
            // What a series lacks is the empty text.
            (ColumnRole::Tag, None) => Some(Value::Constant(Constant::Str(String::new()))),
            (ColumnRole::Tag, Some(array)) => Some(Value::Column(without_nulls(&unpacked(array)))),
            (_, array) => array.map(unpacked).map(Value::Column),
        }
    }

    fn groups(&self) -> Option<&RowGroups> {
        self.groups
    }
}

fn without_nulls(array: &ArrayRef) -> ArrayRef {
    if array.null_count() == 0 {
        return Arc::clone(array);
    }
    let texts = array.as_string::<i32>().iter().map(Option::unwrap_or_default);
    Arc::new(arrow::array::StringArray::from_iter_values(texts))
}

/// Texts as they are, in place of numbers for them.
fn unpacked(array: &ArrayRef) -> ArrayRef {
    match array.as_dictionary_opt::<Int32Type>() {
        None => Arc::clone(array),
        Some(numbered) => take(numbered.values(), numbered.keys(), None).expect("each number has its text"),
    }
}

/// Bytes that are equal where the values are.
pub fn row_keys(arrays: &[ArrayRef]) -> Result<arrow::row::Rows> {
    let fields = arrays.iter().map(|array| SortField::new(array.data_type().clone())).collect();
    let made = RowConverter::new(fields).and_then(|converter| converter.convert_columns(arrays));
    made.map_err(|why| Error::invalid("group", format!("these columns cannot be grouped by: {why}")))
}

/// Rows that ascend in time, and those of a time that is there already in a piece after.
fn ascending(rows: Vec<u32>, times: &[Time]) -> Vec<Vec<u32>> {
    let mut pieces: Vec<Vec<u32>> = Vec::new();
    let mut same = 0;
    let mut before = None;
    for row in rows {
        let time = times[row as usize];
        same = if before == Some(time) { same + 1 } else { 0 };
        before = Some(time);
        if same == pieces.len() {
            pieces.push(Vec::new());
        }
        pieces[same].push(row);
    }
    pieces
}

/// Times are shown as times.
pub fn as_answer(array: ArrayRef, value_type: ValueType) -> ArrayRef {
    if value_type != ValueType::Time {
        return array;
    }
    let nanoseconds = array.as_primitive::<Int64Type>();
    let times = TimestampNanosecondArray::new(nanoseconds.values().clone(), nanoseconds.nulls().cloned());
    Arc::new(times.with_timezone("UTC"))
}

/// How the values of a column compare: null after everything, NaN after all numbers.
enum Order<'a> {
    Floats(&'a arrow::array::Float64Array),
    Ints(&'a arrow::array::Int64Array),
    UInts(&'a arrow::array::UInt64Array),
    Times(&'a TimestampNanosecondArray),
    Texts(&'a arrow::array::StringArray),
    Booleans(&'a BooleanArray),
}

fn order(array: &ArrayRef) -> Order<'_> {
    match array.data_type() {
        DataType::Float64 => Order::Floats(array.as_primitive::<Float64Type>()),
        DataType::Int64 => Order::Ints(array.as_primitive::<Int64Type>()),
        DataType::UInt64 => Order::UInts(array.as_primitive::<UInt64Type>()),
        DataType::Timestamp(..) => Order::Times(array.as_primitive::<TimestampNanosecondType>()),
        DataType::Boolean => Order::Booleans(array.as_boolean()),
        _ => Order::Texts(array.as_string::<i32>()),
    }
}

impl Order<'_> {
    fn compare(&self, a: usize, b: usize, descending: bool) -> Ordering {
        let array: &dyn Array = match self {
            Order::Floats(array) => *array,
            Order::Ints(array) => *array,
            Order::UInts(array) => *array,
            Order::Times(array) => *array,
            Order::Texts(array) => *array,
            Order::Booleans(array) => *array,
        };
        match (array.is_null(a), array.is_null(b)) {
            (false, false) => self.compare_values(a, b, descending),
            // What lies under a null is no value.
            (a, b) => a.cmp(&b),
        }
    }

    fn compare_values(&self, a: usize, b: usize, descending: bool) -> Ordering {
        let directed = |ordering: Ordering| if descending { ordering.reverse() } else { ordering };
        match self {
            Order::Floats(array) => {
                let (a, b) = (array.value(a), array.value(b));
                // Equal zeros stay as they stand.
                let numbers = || directed(a.partial_cmp(&b).unwrap_or(Ordering::Equal));
                a.is_nan().cmp(&b.is_nan()).then_with(numbers)
            }
            Order::Ints(array) => directed(array.value(a).cmp(&array.value(b))),
            Order::UInts(array) => directed(array.value(a).cmp(&array.value(b))),
            Order::Times(array) => directed(array.value(a).cmp(&array.value(b))),
            Order::Texts(array) => directed(array.value(a).cmp(array.value(b))),
            Order::Booleans(array) => directed(array.value(a).cmp(&array.value(b))),
        }
    }
}
