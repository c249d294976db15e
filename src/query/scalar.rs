//! Computing expressions over columns.
//!
//! Decisions are made once per node and batch of rows; inside, free functions run over slices.
//! Invariant: a value is null where the language says so (GRAMMAR.md, Where), and only there; no row makes it fail.
//! Not here: functions along the time axis (`axis`), and where columns come from.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringArray, UInt64Array,
    new_null_array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{and_kleene, not, or_kleene};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampNanosecondType, UInt64Type};
use hashbrown::HashMap;
use query_lang::ast::Operator;
use query_lang::pattern;
use query_lang::scalar::{ColumnRef, Constant, Scalar, ScalarFunction, ScalarKind, ValueType};
use regex::Regex;

use crate::error::{Error, Result};
use crate::query::axis;
use crate::query::axis::RowGroups;

/// An expression made ready to be computed many times.
pub struct Program {
    scalar: Scalar,
    patterns: HashMap<String, Regex>,
}

/// A batch of rows as expressions see it.
pub trait Columns {
    fn rows(&self) -> usize;

    /// Text, booleans, numbers, and times as integers or timestamps. None where no row has a value.
    fn column(&self, column: &ColumnRef) -> Option<Value>;

    /// The groups of the rows, for functions along the time axis.
    fn groups(&self) -> Option<&RowGroups> {
        None
    }
}

/// What an expression gives for the rows of a batch.
#[derive(Clone)]
pub enum Value {
    Column(ArrayRef),
    Constant(Constant),
}

impl Program {
    pub fn new(scalar: &Scalar) -> Result<Program> {
        let mut patterns = HashMap::new();
        compile(scalar, &mut patterns)?;
        Ok(Program { scalar: scalar.clone(), patterns })
    }

    pub fn columns(&self) -> Vec<&ColumnRef> {
        self.scalar.columns()
    }

    pub fn looks_around(&self) -> bool {
        self.scalar.looks_around()
    }

    pub fn value_type(&self) -> ValueType {
        self.scalar.value_type
    }

    /// One value per row. Times and durations are integers.
    pub fn compute(&self, input: &dyn Columns) -> ArrayRef {
        let value = self.eval(&self.scalar, input);
        array(&value, self.scalar.value_type, input.rows())
    }

    /// Which rows pass: where it is true, not where it is null.
    pub fn passes(&self, input: &dyn Columns) -> BooleanArray {
        let array = self.compute(input);
        let passes = array.as_boolean();
        match passes.nulls() {
            Some(nulls) => BooleanArray::new(passes.values() & nulls.inner(), None),
            None => passes.clone(),
        }
    }

    fn eval(&self, scalar: &Scalar, input: &dyn Columns) -> Value {
        match &scalar.kind {
            ScalarKind::Column(column) => match input.column(column) {
                Some(Value::Column(array)) => Value::Column(plain(array)),
                Some(constant) => constant,
                None => Value::Constant(Constant::Null),
            },
            ScalarKind::Constant(constant) => Value::Constant(constant.clone()),
            ScalarKind::Negate(inner) => self.negate(inner, scalar.value_type, input),
            ScalarKind::Not(inner) => {
                let array = self.booleans(inner, input);
                Value::Column(Arc::new(not(&array).expect("a negation keeps the length")))
            }
            ScalarKind::And(members) => self.joined(members, input, and_kleene),
            ScalarKind::Or(members) => self.joined(members, input, or_kleene),
            ScalarKind::Binary { operator, left, right } => {
                let (a, b) = (self.eval(left, input), self.eval(right, input));
                let types = (left.value_type, right.value_type);
                if operator.compares() {
                    Value::Column(Arc::new(compare(*operator, &a, &b, types, input.rows())))
                } else {
                    arithmetic(*operator, &a, &b, types, scalar.value_type, input.rows())
                }
            }
            ScalarKind::Match { value, pattern, negated } => {
                let texts = self.texts(value, input);
                let pattern = &self.patterns[pattern];
                Value::Column(Arc::new(each_text(&texts, |text| pattern.is_match(text) != *negated)))
            }
            ScalarKind::In { value, list, negated } => {
                let found = self.eval(value, input);
                let is_in = list.iter().map(|constant| {
                    let types = (value.value_type, constant.value_type());
                    compare(Operator::Equal, &found, &Value::Constant(constant.clone()), types, input.rows())
                });
                let none = BooleanArray::from(vec![false; input.rows()]);
                let any = is_in.fold(none, |any, one| or_kleene(&any, &one).expect("both have one length"));
                Value::Column(Arc::new(if *negated {
                    not(&any).expect("a negation keeps the length")
                } else {
                    any
                }))
            }
            ScalarKind::Call { function, arguments } => {
                self.call(*function, arguments, scalar.value_type, input)
            }
            ScalarKind::Axis { function, argument } => {
                let groups =
                    input.groups().expect("bug: the planner lets the time axis in only where there is one");
                let values = array(&self.eval(argument, input), argument.value_type, input.rows());
                Value::Column(axis::compute(
                    *function,
                    &values,
                    argument.value_type,
                    scalar.value_type,
                    groups,
                ))
            }
        }
    }

    fn joined(
        &self,
        members: &[Scalar],
        input: &dyn Columns,
        join: impl Fn(&BooleanArray, &BooleanArray) -> arrow::error::Result<BooleanArray>,
    ) -> Value {
        let mut members = members.iter().map(|member| self.booleans(member, input));
        let first = members.next().expect("there are at least two");
        Value::Column(Arc::new(members.fold(first, |a, b| join(&a, &b).expect("both have one length"))))
    }

    fn booleans(&self, scalar: &Scalar, input: &dyn Columns) -> BooleanArray {
        array(&self.eval(scalar, input), ValueType::Bool, input.rows()).as_boolean().clone()
    }

    fn texts(&self, scalar: &Scalar, input: &dyn Columns) -> StringArray {
        array(&self.eval(scalar, input), ValueType::Str, input.rows()).as_string::<i32>().clone()
    }

    fn floats(&self, scalar: &Scalar, input: &dyn Columns) -> Value {
        cast(self.eval(scalar, input), scalar.value_type, ValueType::Float)
    }

    fn negate(&self, inner: &Scalar, to: ValueType, input: &dyn Columns) -> Value {
        let zero = match to {
            ValueType::Float => {
                let value = cast(self.eval(inner, input), inner.value_type, to);
                return floats_of(&value, input.rows(), |x| -x);
            }
            _ => Value::Constant(Constant::Int(0)),
        };
        let value = self.eval(inner, input);
        arithmetic(Operator::Subtract, &zero, &value, (ValueType::Int, inner.value_type), to, input.rows())
    }

    fn call(
        &self,
        function: ScalarFunction,
        arguments: &[Scalar],
        to: ValueType,
        input: &dyn Columns,
    ) -> Value {
        use ScalarFunction as F;
        let rows = input.rows();
        let whole = to != ValueType::Float;
        match function {
            F::Abs if whole => {
                let value = self.eval(&arguments[0], input);
                match to {
                    ValueType::UInt => value,
                    _ => ints_of(&value, rows, i64::checked_abs),
                }
            }
            F::Ceil | F::Floor | F::Round if whole => self.eval(&arguments[0], input),
            F::Abs => floats_of(&self.floats(&arguments[0], input), rows, f64::abs),
            F::Ceil => floats_of(&self.floats(&arguments[0], input), rows, f64::ceil),
            F::Floor => floats_of(&self.floats(&arguments[0], input), rows, f64::floor),
            F::Round => {
                let digits = match arguments.get(1).map(|digits| &digits.kind) {
                    Some(ScalarKind::Constant(Constant::Int(digits))) => *digits as i32,
                    _ => 0,
                };
                let scale = 10f64.powi(digits);
                floats_of(&self.floats(&arguments[0], input), rows, |x| {
                    let scaled = (x * scale).round() / scale;
                    // Beyond what can be scaled there are no digits to round.
                    if scaled.is_finite() { scaled } else { x }
                })
            }
            F::Sqrt => floats_of(&self.floats(&arguments[0], input), rows, f64::sqrt),
            F::Ln => floats_of(&self.floats(&arguments[0], input), rows, f64::ln),
            F::Log2 => floats_of(&self.floats(&arguments[0], input), rows, f64::log2),
            F::Log10 => floats_of(&self.floats(&arguments[0], input), rows, f64::log10),
            F::Exp => floats_of(&self.floats(&arguments[0], input), rows, f64::exp),
            F::Pow => {
                let (a, b) = (self.floats(&arguments[0], input), self.floats(&arguments[1], input));
                Value::Column(Arc::new(zip_floats(&a, &b, rows, f64::powf)))
            }
            F::ClampMin | F::ClampMax => {
                let upper = function == F::ClampMax;
                let value = |at: usize| cast(self.eval(&arguments[at], input), arguments[at].value_type, to);
                let (a, b) = (value(0), value(1));
                let bounded =
                    |ordering: std::cmp::Ordering| (ordering == std::cmp::Ordering::Greater) == upper;
                match to {
                    ValueType::Float => {
                        // NaN stays: it is neither above nor below.
                        let clamp = |x: f64, bound: f64| match x.partial_cmp(&bound) {
                            Some(std::cmp::Ordering::Equal) | None => x,
                            Some(ordering) => {
                                if bounded(ordering) {
                                    bound
                                } else {
                                    x
                                }
                            }
                        };
                        Value::Column(Arc::new(zip_floats(&a, &b, rows, clamp)))
                    }
                    _ => {
                        let operator = if upper { Operator::Greater } else { Operator::Less };
                        let beyond = compare(operator, &a, &b, (to, to), rows);
                        // Null where either side is: nothing is known of a bound that is not there.
                        let known = BooleanArray::new(
                            BooleanBuffer::collect_bool(rows, |row| beyond.is_valid(row)),
                            None,
                        );
                        let bounded = pick(&beyond, &b, &a, to, rows);
                        pick(&known, &bounded, &Value::Constant(Constant::Null), to, rows)
                    }
                }
            }
            F::If => {
                let condition = self.booleans(&arguments[0], input);
                let value = |at: usize| cast(self.eval(&arguments[at], input), arguments[at].value_type, to);
                // A condition that is null does not hold.
                let holds = match condition.nulls() {
                    Some(nulls) => BooleanArray::new(condition.values() & nulls.inner(), None),
                    None => condition,
                };
                pick(&holds, &value(1), &value(2), to, rows)
            }
            F::Coalesce => {
                let mut values = arguments
                    .iter()
                    .map(|argument| cast(self.eval(argument, input), argument.value_type, to));
                let first = values.next().expect("coalesce has arguments");
                values.fold(first, |first, second| {
                    let found = array(&first, to, rows);
                    let exists = arrow::compute::is_not_null(&found).expect("every array knows its nulls");
                    pick(&exists, &Value::Column(found), &second, to, rows)
                })
            }
            F::Exists => {
                let found = array(&self.eval(&arguments[0], input), arguments[0].value_type, rows);
                Value::Column(Arc::new(
                    arrow::compute::is_not_null(&found).expect("every array knows its nulls"),
                ))
            }
            F::Lower => texts_of(&self.texts(&arguments[0], input), str::to_lowercase),
            F::Upper => texts_of(&self.texts(&arguments[0], input), str::to_uppercase),
            F::Trim => texts_of(&self.texts(&arguments[0], input), |text| text.trim().to_string()),
            F::Length => {
                let texts = self.texts(&arguments[0], input);
                let lengths = texts.iter().map(|text| text.map(|text| text.chars().count() as i64));
                Value::Column(Arc::new(lengths.collect::<Int64Array>()))
            }
            F::Concat => {
                let texts: Vec<StringArray> =
                    arguments.iter().map(|argument| self.texts(argument, input)).collect();
                let joined = (0..rows).map(|row| {
                    let all = texts.iter().map(|texts| texts.is_valid(row).then(|| texts.value(row)));
                    all.collect::<Option<String>>()
                });
                Value::Column(Arc::new(joined.collect::<StringArray>()))
            }
            F::Contains | F::StartsWith | F::EndsWith => {
                let (a, b) = (self.texts(&arguments[0], input), self.texts(&arguments[1], input));
                let holds = a.iter().zip(b.iter()).map(|pair| match pair {
                    (Some(text), Some(part)) => Some(match function {
                        F::Contains => text.contains(part),
                        F::StartsWith => text.starts_with(part),
                        _ => text.ends_with(part),
                    }),
                    _ => None,
                });
                Value::Column(Arc::new(holds.collect::<BooleanArray>()))
            }
            F::Replace => {
                let [texts, what, by] = [0, 1, 2].map(|at| self.texts(&arguments[at], input));
                let replaced = texts.iter().zip(what.iter()).zip(by.iter()).map(|parts| match parts {
                    // Nothing is found nowhere.
                    ((Some(text), Some("")), Some(_)) => Some(text.to_string()),
                    ((Some(text), Some(what)), Some(by)) => Some(text.replace(what, by)),
                    _ => None,
                });
                Value::Column(Arc::new(replaced.collect::<StringArray>()))
            }
            F::Substr => self.substr(arguments, input),
            F::Float => {
                let value = self.eval(&arguments[0], input);
                match arguments[0].value_type {
                    ValueType::Str => {
                        let texts = array(&value, ValueType::Str, rows);
                        let parsed =
                            texts.as_string::<i32>().iter().map(|text| text?.trim().parse::<f64>().ok());
                        Value::Column(Arc::new(parsed.collect::<Float64Array>()))
                    }
                    ValueType::Bool => cast(booleans_to_ints(&value, rows), ValueType::Int, ValueType::Float),
                    from => cast(value, from, ValueType::Float),
                }
            }
            F::Int => {
                let value = self.eval(&arguments[0], input);
                match arguments[0].value_type {
                    ValueType::Str => {
                        let texts = array(&value, ValueType::Str, rows);
                        let parsed =
                            texts.as_string::<i32>().iter().map(|text| text?.trim().parse::<i64>().ok());
                        Value::Column(Arc::new(parsed.collect::<Int64Array>()))
                    }
                    ValueType::Bool => booleans_to_ints(&value, rows),
                    ValueType::Float => {
                        let floats = array(&value, ValueType::Float, rows);
                        let whole = floats.as_primitive::<Float64Type>().iter().map(|x| truncated(x?));
                        Value::Column(Arc::new(whole.collect::<Int64Array>()))
                    }
                    from => cast(value, from, ValueType::Int),
                }
            }
            F::Text => self.as_texts(&arguments[0], input),
        }
    }

    fn substr(&self, arguments: &[Scalar], input: &dyn Columns) -> Value {
        let ints = |at: usize| {
            let value = array(&self.eval(&arguments[at], input), ValueType::Int, input.rows());
            value.as_primitive::<Int64Type>().clone()
        };
        let texts = self.texts(&arguments[0], input);
        let starts = ints(1);
        let lengths = (arguments.len() > 2).then(|| ints(2));
        let part = |row: usize| {
            let length = match &lengths {
                Some(lengths) => lengths.is_valid(row).then(|| lengths.value(row))?,
                None => i64::MAX,
            };
            let (text, start) = (
                texts.is_valid(row).then(|| texts.value(row))?,
                starts.is_valid(row).then(|| starts.value(row))?,
            );
            // A part that begins before the text loses what lies there.
            let end = start.saturating_add(length.max(0)).max(1);
            let skipped = start.max(1) - 1;
            let taken = (end - 1 - skipped).max(0);
            Some(text.chars().skip(skipped as usize).take(taken as usize).collect::<String>())
        };
        Value::Column(Arc::new((0..input.rows()).map(part).collect::<StringArray>()))
    }

    fn as_texts(&self, scalar: &Scalar, input: &dyn Columns) -> Value {
        let value = self.eval(scalar, input);
        let found = array(&value, scalar.value_type, input.rows());
        if scalar.value_type == ValueType::Str {
            return Value::Column(found);
        }
        let text = |row: usize| {
            found.is_valid(row).then(|| match scalar.value_type {
                ValueType::Time => {
                    query_lang::time::format_time(found.as_primitive::<Int64Type>().value(row))
                }
                ValueType::Duration => {
                    query_lang::time::format_duration(found.as_primitive::<Int64Type>().value(row))
                }
                ValueType::Float => found.as_primitive::<Float64Type>().value(row).to_string(),
                ValueType::UInt => found.as_primitive::<UInt64Type>().value(row).to_string(),
                ValueType::Bool => found.as_boolean().value(row).to_string(),
                _ => found.as_primitive::<Int64Type>().value(row).to_string(),
            })
        };
        Value::Column(Arc::new((0..input.rows()).map(text).collect::<StringArray>()))
    }
}

fn compile(scalar: &Scalar, patterns: &mut HashMap<String, Regex>) -> Result<()> {
    if let ScalarKind::Match { pattern, .. } = &scalar.kind
        && !patterns.contains_key(pattern)
    {
        let regex = pattern::whole_value(pattern).map_err(|why| Error::invalid("pattern", why))?;
        patterns.insert(pattern.clone(), regex);
    }
    scalar.children().into_iter().try_for_each(|child| compile(child, patterns))
}

/// The Arrow type that values of a type are computed in.
pub fn data_type(value_type: ValueType) -> DataType {
    match value_type {
        ValueType::Bool => DataType::Boolean,
        ValueType::Int | ValueType::Time | ValueType::Duration => DataType::Int64,
        ValueType::UInt => DataType::UInt64,
        ValueType::Float | ValueType::Null => DataType::Float64,
        ValueType::Str => DataType::Utf8,
    }
}

/// Times as the integers they are.
pub fn plain(array: ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Timestamp(..) => {
            let times = array.as_primitive::<TimestampNanosecondType>();
            Arc::new(Int64Array::new(times.values().clone(), times.nulls().cloned()))
        }
        _ => array,
    }
}

/// One value per row, in the type's own array.
fn array(value: &Value, value_type: ValueType, rows: usize) -> ArrayRef {
    match value {
        Value::Column(array) => Arc::clone(array),
        Value::Constant(constant) => match constant {
            Constant::Null => new_null_array(&data_type(value_type), rows),
            Constant::Bool(value) => Arc::new(BooleanArray::from(vec![*value; rows])),
            Constant::Int(value) | Constant::Time(value) | Constant::Duration(value) => {
                Arc::new(Int64Array::from(vec![*value; rows]))
            }
            Constant::UInt(value) => Arc::new(UInt64Array::from(vec![*value; rows])),
            Constant::Float(value) => Arc::new(Float64Array::from(vec![*value; rows])),
            Constant::Str(text) => {
                Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text.as_str(), rows)))
            }
        },
    }
}

/// The same values in another type of number.
fn cast(value: Value, from: ValueType, to: ValueType) -> Value {
    if from == to {
        return value;
    }
    match value {
        Value::Constant(constant) => Value::Constant(match (constant, to) {
            (Constant::Int(value) | Constant::Duration(value) | Constant::Time(value), ValueType::Float) => {
                Constant::Float(value as f64)
            }
            (Constant::UInt(value), ValueType::Float) => Constant::Float(value as f64),
            (Constant::UInt(value), ValueType::Int) => {
                i64::try_from(value).map_or(Constant::Null, Constant::Int)
            }
            (Constant::Int(value), ValueType::UInt) => {
                u64::try_from(value).map_or(Constant::Null, Constant::UInt)
            }
            (constant, _) => constant,
        }),
        Value::Column(array) => Value::Column(match (array.data_type(), to) {
            (DataType::Int64, ValueType::Float) => {
                Arc::new(array.as_primitive::<Int64Type>().unary::<_, Float64Type>(|value| value as f64))
            }
            (DataType::UInt64, ValueType::Float) => {
                Arc::new(array.as_primitive::<UInt64Type>().unary::<_, Float64Type>(|value| value as f64))
            }
            (DataType::UInt64, ValueType::Int) => Arc::new(
                array
                    .as_primitive::<UInt64Type>()
                    .unary_opt::<_, Int64Type>(|value| i64::try_from(value).ok()),
            ),
            (DataType::Int64, ValueType::UInt) => Arc::new(
                array
                    .as_primitive::<Int64Type>()
                    .unary_opt::<_, UInt64Type>(|value| u64::try_from(value).ok()),
            ),
            _ => array,
        }),
    }
}

/// A side of an operator over numbers of one type.
enum Side<'a, T> {
    Slice(&'a [T], Option<&'a NullBuffer>),
    Constant(T),
    Null,
}

impl<T> Side<'_, T> {
    fn nulls(&self) -> Option<&NullBuffer> {
        match self {
            Side::Slice(_, nulls) => *nulls,
            Side::Constant(_) | Side::Null => None,
        }
    }
}

fn float_side(value: &Value) -> Side<'_, f64> {
    match value {
        Value::Column(array) => {
            let array = array.as_primitive::<Float64Type>();
            Side::Slice(array.values(), array.nulls())
        }
        Value::Constant(Constant::Float(value)) => Side::Constant(*value),
        Value::Constant(_) => Side::Null,
    }
}

fn int_side(value: &Value) -> Side<'_, i64> {
    match value {
        Value::Column(array) => {
            let array = array.as_primitive::<Int64Type>();
            Side::Slice(array.values(), array.nulls())
        }
        Value::Constant(Constant::Int(value) | Constant::Time(value) | Constant::Duration(value)) => {
            Side::Constant(*value)
        }
        Value::Constant(_) => Side::Null,
    }
}

fn uint_side(value: &Value) -> Side<'_, u64> {
    match value {
        Value::Column(array) => {
            let array = array.as_primitive::<UInt64Type>();
            Side::Slice(array.values(), array.nulls())
        }
        Value::Constant(Constant::UInt(value)) => Side::Constant(*value),
        Value::Constant(_) => Side::Null,
    }
}

/// Where both sides have a value; `None` is everywhere.
fn both<T, U>(a: &Side<'_, T>, b: &Side<'_, U>) -> Option<NullBuffer> {
    NullBuffer::union(a.nulls(), b.nulls())
}

fn zip_floats(a: &Value, b: &Value, rows: usize, f: impl Fn(f64, f64) -> f64) -> Float64Array {
    let (a, b) = (float_side(a), float_side(b));
    let values: Vec<f64> = match (&a, &b) {
        (Side::Slice(a, _), Side::Slice(b, _)) => a.iter().zip(*b).map(|(a, b)| f(*a, *b)).collect(),
        (Side::Slice(a, _), Side::Constant(b)) => a.iter().map(|a| f(*a, *b)).collect(),
        (Side::Constant(a), Side::Slice(b, _)) => b.iter().map(|b| f(*a, *b)).collect(),
        (Side::Constant(a), Side::Constant(b)) => vec![f(*a, *b); rows],
        (Side::Null, _) | (_, Side::Null) => return Float64Array::new_null(rows),
    };
    Float64Array::new(values.into(), both(&a, &b))
}

/// Whole numbers, with null where `f` has no answer.
fn zip_whole<T: Copy, U: Copy, V>(
    a: &Side<'_, T>,
    b: &Side<'_, U>,
    rows: usize,
    f: impl Fn(T, U) -> Option<V>,
) -> Vec<Option<V>> {
    let nulls = both(a, b);
    let at = |row: usize| {
        if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        let a = match a {
            Side::Slice(values, _) => values[row],
            Side::Constant(value) => *value,
            Side::Null => return None,
        };
        let b = match b {
            Side::Slice(values, _) => values[row],
            Side::Constant(value) => *value,
            Side::Null => return None,
        };
        f(a, b)
    };
    (0..rows).map(at).collect()
}

fn arithmetic(
    operator: Operator,
    a: &Value,
    b: &Value,
    (left, right): (ValueType, ValueType),
    to: ValueType,
    rows: usize,
) -> Value {
    match to {
        ValueType::Float => {
            let (a, b) = (cast(a.clone(), left, to), cast(b.clone(), right, to));
            Value::Column(Arc::new(match operator {
                Operator::Add => zip_floats(&a, &b, rows, |a, b| a + b),
                Operator::Subtract => zip_floats(&a, &b, rows, |a, b| a - b),
                Operator::Multiply => zip_floats(&a, &b, rows, |a, b| a * b),
                Operator::Divide => zip_floats(&a, &b, rows, |a, b| a / b),
                _ => zip_floats(&a, &b, rows, |a, b| a % b),
            }))
        }
        // A duration stretched by a float.
        ValueType::Duration
            if left == ValueType::Float || right == ValueType::Float || operator == Operator::Divide =>
        {
            let (a, b) = (cast(a.clone(), left, ValueType::Float), cast(b.clone(), right, ValueType::Float));
            let scaled = match operator {
                Operator::Divide => zip_floats(&a, &b, rows, |a, b| a / b),
                _ => zip_floats(&a, &b, rows, |a, b| a * b),
            };
            Value::Column(Arc::new(scaled.iter().map(|x| truncated(x?)).collect::<Int64Array>()))
        }
        ValueType::UInt => {
            let whole = |a: u64, b: u64| match operator {
                Operator::Add => a.checked_add(b),
                Operator::Subtract => a.checked_sub(b),
                Operator::Multiply => a.checked_mul(b),
                _ => a.checked_rem(b),
            };
            Value::Column(Arc::new(UInt64Array::from(zip_whole(&uint_side(a), &uint_side(b), rows, whole))))
        }
        _ => {
            // In 128 bits no pair of 64-bit numbers overflows.
            let whole = |a: i128, b: i128| {
                let exact = match operator {
                    Operator::Add => a + b,
                    Operator::Subtract => a - b,
                    Operator::Multiply => a.checked_mul(b)?,
                    _ => a.checked_rem(b)?,
                };
                i64::try_from(exact).ok()
            };
            let ints = match (left == ValueType::UInt, right == ValueType::UInt) {
                (false, false) => {
                    zip_whole(&int_side(a), &int_side(b), rows, |a, b| whole(a.into(), b.into()))
                }
                (true, false) => {
                    zip_whole(&uint_side(a), &int_side(b), rows, |a, b| whole(a.into(), b.into()))
                }
                (false, true) => {
                    zip_whole(&int_side(a), &uint_side(b), rows, |a, b| whole(a.into(), b.into()))
                }
                (true, true) => {
                    zip_whole(&uint_side(a), &uint_side(b), rows, |a, b| whole(a.into(), b.into()))
                }
            };
            Value::Column(Arc::new(Int64Array::from(ints)))
        }
    }
}

fn compare(
    operator: Operator,
    a: &Value,
    b: &Value,
    types: (ValueType, ValueType),
    rows: usize,
) -> BooleanArray {
    let (left, right) = types;
    let is_null = |value: &Value| matches!(value, Value::Constant(Constant::Null));
    if is_null(a) || is_null(b) {
        return BooleanArray::new_null(rows);
    }
    match types {
        (ValueType::Str, _) => {
            let (a, b) = (array(a, left, rows), array(b, right, rows));
            let (a, b) = (a.as_string::<i32>(), b.as_string::<i32>());
            let holds = |row: usize| meets(operator, Some(a.value(row).cmp(b.value(row))));
            BooleanArray::new(
                BooleanBuffer::collect_bool(rows, holds),
                NullBuffer::union(a.nulls(), b.nulls()),
            )
        }
        (ValueType::Bool, _) => {
            let (a, b) = (array(a, left, rows), array(b, right, rows));
            let (a, b) = (a.as_boolean(), b.as_boolean());
            let holds = |row: usize| meets(operator, Some(a.value(row).cmp(&b.value(row))));
            BooleanArray::new(
                BooleanBuffer::collect_bool(rows, holds),
                NullBuffer::union(a.nulls(), b.nulls()),
            )
        }
        (ValueType::Float, _) | (_, ValueType::Float) => {
            let (a, b) = (cast(a.clone(), left, ValueType::Float), cast(b.clone(), right, ValueType::Float));
            let (a, b) = (float_side(&a), float_side(&b));
            match operator {
                Operator::Equal => zip_bools(&a, &b, rows, |a, b| a == b),
                Operator::NotEqual => zip_bools(&a, &b, rows, |a, b| a != b),
                Operator::Less => zip_bools(&a, &b, rows, |a, b| a < b),
                Operator::LessOrEqual => zip_bools(&a, &b, rows, |a, b| a <= b),
                Operator::Greater => zip_bools(&a, &b, rows, |a, b| a > b),
                _ => zip_bools(&a, &b, rows, |a, b| a >= b),
            }
        }
        (ValueType::UInt, ValueType::UInt) => {
            zip_bools(&uint_side(a), &uint_side(b), rows, |a, b| meets(operator, Some(a.cmp(&b))))
        }
        (ValueType::UInt, _) => zip_bools(&uint_side(a), &int_side(b), rows, |a, b| {
            meets(operator, Some(i128::from(a).cmp(&i128::from(b))))
        }),
        (_, ValueType::UInt) => zip_bools(&int_side(a), &uint_side(b), rows, |a, b| {
            meets(operator, Some(i128::from(a).cmp(&i128::from(b))))
        }),
        _ => zip_bools(&int_side(a), &int_side(b), rows, |a, b| meets(operator, Some(a.cmp(&b)))),
    }
}

fn zip_bools<T: Copy, U: Copy>(
    a: &Side<'_, T>,
    b: &Side<'_, U>,
    rows: usize,
    f: impl Fn(T, U) -> bool,
) -> BooleanArray {
    let values = match (a, b) {
        (Side::Slice(a, _), Side::Slice(b, _)) => BooleanBuffer::collect_bool(rows, |row| f(a[row], b[row])),
        (Side::Slice(a, _), Side::Constant(b)) => BooleanBuffer::collect_bool(rows, |row| f(a[row], *b)),
        (Side::Constant(a), Side::Slice(b, _)) => BooleanBuffer::collect_bool(rows, |row| f(*a, b[row])),
        (Side::Constant(a), Side::Constant(b)) => BooleanBuffer::collect_bool(rows, |_| f(*a, *b)),
        (Side::Null, _) | (_, Side::Null) => return BooleanArray::new_null(rows),
    };
    BooleanArray::new(values, both(a, b))
}

fn meets(operator: Operator, ordering: Option<std::cmp::Ordering>) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    match operator {
        Operator::Equal => ordering == Some(Equal),
        Operator::NotEqual => ordering != Some(Equal),
        Operator::Less => ordering == Some(Less),
        Operator::LessOrEqual => matches!(ordering, Some(Less | Equal)),
        Operator::Greater => ordering == Some(Greater),
        _ => matches!(ordering, Some(Greater | Equal)),
    }
}

/// `a` where it holds, else `b`; null where that side is.
fn pick(holds: &BooleanArray, a: &Value, b: &Value, to: ValueType, rows: usize) -> Value {
    let (a, b) = (array(a, to, rows), array(b, to, rows));
    Value::Column(
        arrow::compute::kernels::zip::zip(holds, &a, &b).expect("both sides have one type and length"),
    )
}

fn floats_of(value: &Value, rows: usize, f: impl Fn(f64) -> f64) -> Value {
    match value {
        Value::Column(array) => {
            Value::Column(Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(f)))
        }
        Value::Constant(Constant::Float(value)) => Value::Constant(Constant::Float(f(*value))),
        Value::Constant(_) => Value::Column(Arc::new(Float64Array::new_null(rows))),
    }
}

fn ints_of(value: &Value, rows: usize, f: impl Fn(i64) -> Option<i64>) -> Value {
    let ints = array(value, ValueType::Int, rows);
    Value::Column(Arc::new(ints.as_primitive::<Int64Type>().unary_opt::<_, Int64Type>(f)))
}

fn booleans_to_ints(value: &Value, rows: usize) -> Value {
    let found = array(value, ValueType::Bool, rows);
    let ints = found.as_boolean().iter().map(|value| value.map(i64::from));
    Value::Column(Arc::new(ints.collect::<Int64Array>()))
}

fn texts_of(texts: &StringArray, f: impl Fn(&str) -> String) -> Value {
    Value::Column(Arc::new(texts.iter().map(|text| text.map(&f)).collect::<StringArray>()))
}

fn each_text(texts: &StringArray, f: impl Fn(&str) -> bool) -> BooleanArray {
    let holds = |row: usize| texts.is_valid(row) && f(texts.value(row));
    BooleanArray::new(BooleanBuffer::collect_bool(texts.len(), holds), texts.nulls().cloned())
}

/// Towards zero; None for what no integer is.
fn truncated(x: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    (-LIMIT..LIMIT).contains(&x).then_some(x as i64)
}
