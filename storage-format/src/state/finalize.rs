//! State -> number: what users see.
//!
//! | function | answer | nothing to answer from |
//! |---|---|---|
//! | points, count | Int64 | 0 |
//! | sum of floats | Float64: the exact sum, rounded once | null |
//! | sum of integers | the field's type; null and counted as overflowed if it does not fit | null |
//! | avg | Float64: the exact sum over the count, rounded once, of integers too | null |
//! | min, max, first, last | the field's type | null |
//!
//! A sum or average with NaN or with infinities of both signs is NaN; with infinities of one sign it is that
//! infinity. Rounding once makes the average of equal values that value.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use crate::point::FieldType;

use super::StateKind;
use super::column::{State, StateColumn, with_states};
use super::value::{FieldValue, data_type};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finalizer {
    Points,
    Count,
    Sum,
    Avg,
    Min,
    Max,
    First,
    Last,
}

impl Finalizer {
    /// What [`finalize`] needs, in this order. `Points` is of the points, all others of the field.
    pub fn needs(self) -> &'static [StateKind] {
        match self {
            Finalizer::Points => &[StateKind::Points],
            Finalizer::Count => &[StateKind::Count],
            Finalizer::Sum => &[StateKind::Sum],
            Finalizer::Avg => &[StateKind::Count, StateKind::Sum],
            Finalizer::Min => &[StateKind::Min],
            Finalizer::Max => &[StateKind::Max],
            Finalizer::First => &[StateKind::First],
            Finalizer::Last => &[StateKind::Last],
        }
    }

    /// The type of the answer. Sums and averages of what is no number do not exist.
    pub fn data_type(self, field_type: Option<FieldType>) -> DataType {
        match (self, field_type) {
            (Finalizer::Points | Finalizer::Count, _) => DataType::Int64,
            (Finalizer::Avg, _) => DataType::Float64,
            (_, Some(field_type)) => data_type(field_type),
            (_, None) => panic!("bug: {self:?} needs a field"),
        }
    }
}

/// One value per bucket.
#[derive(Clone, Debug)]
pub struct Finalized {
    pub array: ArrayRef,
    /// Nulls that stand for integer sums which do not fit the field's type: worth a warning.
    pub overflowed: usize,
}

impl Finalized {
    pub(super) fn new(array: ArrayRef) -> Finalized {
        Finalized { array, overflowed: 0 }
    }
}

/// `columns` are those that [`Finalizer::needs`] names, of one run.
pub fn finalize(finalizer: Finalizer, columns: &[&StateColumn]) -> Finalized {
    let kinds = columns.iter().map(|column| column.kind());
    assert!(kinds.eq(finalizer.needs().iter().copied()), "bug: {finalizer:?} from other states");
    match columns {
        [StateColumn::Count(counts), sums] => Finalized::new(average(counts, sums)),
        [column] => with_states!(column, states => State::finalize(states)),
        _ => unreachable!("checked by kind"),
    }
}

fn average(counts: &[u64], sums: &StateColumn) -> ArrayRef {
    fn each<S>(counts: &[u64], sums: &[S], average: impl Fn(&S, u64) -> Option<f64>) -> ArrayRef {
        let averages: Vec<_> = sums.iter().zip(counts).map(|(sum, count)| average(sum, *count)).collect();
        f64::array(averages.iter().map(Option::as_ref))
    }
    match sums {
        StateColumn::SumFloat(sums) => each(counts, sums, |sum, count| sum.average(count)),
        StateColumn::SumInt(sums) => each(counts, sums, |sum, count| sum.average(count)),
        StateColumn::SumUInt(sums) => each(counts, sums, |sum, count| sum.average(count)),
        _ => unreachable!("checked by kind"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, AsArray, Float64Array, Int64Array, StringArray, UInt64Array};
    use arrow::datatypes::{Float64Type, Int64Type, UInt64Type};

    use super::*;
    use crate::state::{BucketRows, StateKey, StateRun};

    /// One bucket with the values, one without.
    fn answer(finalizer: Finalizer, field_type: FieldType, values: ArrayRef) -> Finalized {
        let keys: Vec<StateKey> =
            finalizer.needs().iter().map(|kind| StateKey::of(*kind, field_type)).collect();
        let mut run = StateRun::new(&keys);
        let times: Vec<i64> = (0..values.len() as i64).collect();
        let windows = [BucketRows { bucket: run.push_bucket(0), rows: 0..values.len() }];
        run.push_bucket(1);
        run.columns.iter_mut().for_each(|column| column.absorb(&windows, &times, &values));
        let finalized = finalize(finalizer, &run.columns.iter().collect::<Vec<_>>());
        assert_eq!(finalized.array.data_type(), &finalizer.data_type(Some(field_type)));
        assert_eq!(finalized.array.len(), 2);
        assert_eq!(finalized.array.is_null(1), finalizer != Finalizer::Count, "{finalizer:?} of nothing");
        finalized
    }

    #[test]
    fn floats() {
        let values: ArrayRef = Arc::new(Float64Array::from(vec![0.1, 0.2, 0.3, 1e16, -1e16]));
        let of = |finalizer| {
            let finalized = answer(finalizer, FieldType::Float, values.clone());
            finalized.array.as_primitive::<Float64Type>().value(0)
        };
        assert_eq!(of(Finalizer::Sum), 0.6, "one rounding; adding one by one gives 0.6000000000000001 or 0");
        assert_eq!(of(Finalizer::Avg), 0.12);
        assert_eq!((of(Finalizer::Min), of(Finalizer::Max)), (-1e16, 1e16));
        assert_eq!((of(Finalizer::First), of(Finalizer::Last)), (0.1, -1e16));
        let count = answer(Finalizer::Count, FieldType::Float, values.clone()).array;
        assert_eq!(count.as_primitive::<Int64Type>().values(), &[5, 0]);
    }

    #[test]
    fn integer_sums_that_do_not_fit_are_null_and_counted() {
        let of =
            |values: Vec<i64>| answer(Finalizer::Sum, FieldType::Int, Arc::new(Int64Array::from(values)));
        let fits = of(vec![i64::MAX, 1, -1]);
        assert_eq!((fits.array.as_primitive::<Int64Type>().value(0), fits.overflowed), (i64::MAX, 0));
        let over = of(vec![i64::MAX, 1]);
        assert_eq!((over.array.is_null(0), over.overflowed), (true, 1));
        let uints: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX - 1, 1]));
        let fits = answer(Finalizer::Sum, FieldType::UInt, uints.clone());
        assert_eq!(fits.array.as_primitive::<UInt64Type>().value(0), u64::MAX);
        let average = answer(Finalizer::Avg, FieldType::UInt, uints);
        assert_eq!(average.array.as_primitive::<Float64Type>().value(0), 2f64.powi(63));
    }

    #[test]
    fn strings() {
        let values: ArrayRef = Arc::new(StringArray::from(vec!["b", "a", "c"]));
        let first = answer(Finalizer::First, FieldType::Str, values.clone());
        assert_eq!(first.array.as_string::<i32>().value(0), "b");
        let last = answer(Finalizer::Last, FieldType::Str, values);
        assert_eq!(last.array.as_string::<i32>().value(0), "c");
    }
}
