//! State -> number: what users see.
//!
//! | function | answer | nothing to answer from |
//! |---|---|---|
//! | points, count | Int64 | 0 |
//! | sum of floats | Float64: the exact sum, rounded once | null |
//! | sum of integers | the field's type; null and counted as overflowed if it does not fit | null |
//! | avg | Float64: the exact sum over the count, rounded once, of integers too | null |
//! | min, max, first, last | the field's type | null |
//! | spread (max - min) | the field's type; as for sums if it does not fit | null |
//! | variance, stddev (of a sample, over n - 1) | Float64: the exact variance, rounded once; its root | null, also of one value |
//! | quantile | Float64, within [`QUANTILE_ERROR_MAX`](super::QUANTILE_ERROR_MAX) of the value of the nearest rank | null |
//! | exact_quantile | the field's type: the value of the nearest rank, NaN left out | null |
//! | distinct, exact_distinct | Int64; of the sketch above 2048 with a standard error of [`DISTINCT_ERROR`](super::DISTINCT_ERROR) | 0 |
//! | mode | the field's type; of several the smallest, NaN being the smallest of all | null |
//! | increase | as a sum; over series their sum | null, also of one sample |
//! | delta | Float64, or Int64 of integers, as for sums if it does not fit; over series their sum | null, also of one sample |
//! | rate | Float64: the exact increase over the width in seconds, rounded once | null, also of one sample |
//! | resets | Int64 | 0 |
//! | integral | Float64: value times seconds, rounded once; over series their sum | null, also of one sample |
//! | twa | Float64: the exact area over its exact duration, rounded once; over series weighted by it. Of single samples their mean | null |
//!
//! A sum or average with NaN or with infinities of both signs is NaN; with infinities of one sign it is that
//! infinity. Rounding once makes the average of equal values that value. A variance with NaN or an infinity is NaN.

use std::num::NonZeroU64;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::DataType;

use crate::point::{FieldType, NANOS_PER_SECOND};

use super::StateKind;
use super::column::{Answer, StateColumn};
use super::counter::CounterSum;
use super::dyadic::Dyadic;
use super::extreme::{Max, Min};
use super::quantile::Fraction;
use super::squares::{Squares, Variance};
use super::sum::{ExactSum, IntSum};
use super::value::{FieldValue, Number, Whole, data_type};
use super::values::Values;
use super::weighted::WeightedSum;

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
    Spread,
    Variance,
    Stddev,
    Quantile(Fraction),
    Distinct,
    Increase,
    Delta,
    /// Per second, in buckets that are this many nanoseconds wide. Where widths differ, the run is finalized slice by
    /// slice.
    Rate(NonZeroU64),
    Resets,
    Integral,
    Twa,
    ExactQuantile(Fraction),
    ExactDistinct,
    Mode,
}

impl Finalizer {
    /// What [`finalize`] needs, in this order. `Points` is of the points, all others of the field. What is of one
    /// series may come closed as well.
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
            Finalizer::Spread => &[StateKind::Min, StateKind::Max],
            Finalizer::Variance | Finalizer::Stddev => {
                &[StateKind::Count, StateKind::Sum, StateKind::SumSquares]
            }
            Finalizer::Quantile(_) => &[StateKind::Quantile],
            Finalizer::Distinct => &[StateKind::Distinct],
            Finalizer::Increase | Finalizer::Delta | Finalizer::Rate(_) | Finalizer::Resets => {
                &[StateKind::Counter]
            }
            Finalizer::Integral | Finalizer::Twa => &[StateKind::Weighted],
            Finalizer::ExactQuantile(_) | Finalizer::ExactDistinct | Finalizer::Mode => &[StateKind::Values],
        }
    }

    /// Whether it makes sense of a field of that type; `None` asks about the points themselves.
    pub fn applies_to(self, field_type: Option<FieldType>) -> bool {
        let number = field_type.is_some_and(FieldType::is_number);
        let needs_number = matches!(self, Finalizer::ExactQuantile(_));
        self.needs().iter().all(|kind| kind.applies_to(field_type)) && (number || !needs_number)
    }

    /// The type of the answer of a field that it [applies to](Finalizer::applies_to).
    pub fn data_type(self, field_type: Option<FieldType>) -> DataType {
        match (self, field_type) {
            (
                Finalizer::Points
                | Finalizer::Count
                | Finalizer::Distinct
                | Finalizer::ExactDistinct
                | Finalizer::Resets,
                _,
            )
            | (Finalizer::Delta, Some(FieldType::Int | FieldType::UInt)) => DataType::Int64,
            (
                Finalizer::Avg
                | Finalizer::Variance
                | Finalizer::Stddev
                | Finalizer::Quantile(_)
                | Finalizer::Rate(_)
                | Finalizer::Integral
                | Finalizer::Twa,
                _,
            ) => DataType::Float64,
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
    if let [column] = columns
        && let Some(closed) = column.close()
    {
        return finalize(finalizer, &[&closed]);
    }
    let kinds = columns.iter().map(|column| column.kind());
    let needs = finalizer.needs().iter().map(|kind| kind.closed());
    assert!(kinds.eq(needs), "bug: {finalizer:?} from other states");
    match (finalizer, columns) {
        (Finalizer::Avg, [StateColumn::Count(counts), sums]) => average(counts, sums),
        (Finalizer::Spread, [mins, maxs]) => spread(mins, maxs),
        (Finalizer::Variance, [StateColumn::Count(counts), sums, StateColumn::SumSquares(squares)]) => {
            variance(counts, sums, squares, Variance::round)
        }
        (Finalizer::Stddev, [StateColumn::Count(counts), sums, StateColumn::SumSquares(squares)]) => {
            variance(counts, sums, squares, Variance::root)
        }
        (Finalizer::Quantile(fraction), [StateColumn::Quantile(sketches)]) => {
            floats(sketches.iter().map(|sketch| sketch.quantile(fraction)))
        }
        (Finalizer::ExactQuantile(fraction), [column]) => exact_quantile(fraction, column),
        (Finalizer::Integral | Finalizer::Twa, [StateColumn::WeightedSum(sums)]) => {
            let answer = if finalizer == Finalizer::Twa { time_weighted } else { integral };
            floats(sums.iter().map(answer))
        }
        (_, [StateColumn::CounterSumFloat(sums)]) => counted(finalizer, sums),
        (_, [StateColumn::CounterSumInt(sums)]) => counted(finalizer, sums),
        (_, [StateColumn::CounterSumUInt(sums)]) => counted(finalizer, sums),
        (_, [StateColumn::ValuesFloat(all)]) => of_all(finalizer, all),
        (_, [StateColumn::ValuesInt(all)]) => of_all(finalizer, all),
        (_, [StateColumn::ValuesUInt(all)]) => of_all(finalizer, all),
        (_, [StateColumn::ValuesBool(all)]) => of_all(finalizer, all),
        (_, [StateColumn::ValuesStr(all)]) => of_all(finalizer, all),
        (_, [column]) => alone(column),
        _ => unreachable!("checked by kind"),
    }
}

fn floats(values: impl Iterator<Item = Option<f64>>) -> Finalized {
    Finalized::new(Arc::new(values.collect::<Float64Array>()))
}

/// One column that needs no other.
fn alone(column: &StateColumn) -> Finalized {
    macro_rules! answer {
        ($($kind:ident)*) => {
            match column {
                $(StateColumn::$kind(states) => Answer::finalize(states),)*
                other => panic!("bug: {:?} alone is no answer", other.kind()),
            }
        };
    }
    answer! {
        Points Count SumFloat SumInt SumUInt
        MinFloat MinInt MinUInt MaxFloat MaxInt MaxUInt
        FirstFloat FirstInt FirstUInt FirstBool FirstStr
        LastFloat LastInt LastUInt LastBool LastStr
        Distinct
    }
}

fn counted<S: ExactSum, D: ExactSum>(finalizer: Finalizer, sums: &[CounterSum<S, D>]) -> Finalized {
    match finalizer {
        Finalizer::Increase => part(sums, |sum| sum.increase.clone()),
        Finalizer::Delta => part(sums, |sum| sum.delta.clone()),
        Finalizer::Resets => part(sums, |sum| sum.resets),
        Finalizer::Rate(width) => {
            let seconds = NANOS_PER_SECOND.into();
            floats(sums.iter().map(|sum| sum.increase.ratio(seconds, width.get().into())))
        }
        other => unreachable!("{other:?} is not of counters"),
    }
}

fn part<S, P: Answer>(states: &[S], part: impl Fn(&S) -> P) -> Finalized {
    P::finalize(&states.iter().map(part).collect::<Vec<P>>())
}

/// The area is kept twice, in nanoseconds.
fn integral(sum: &WeightedSum) -> Option<f64> {
    sum.twice.ratio(1, 2 * NANOS_PER_SECOND as u128)
}

fn time_weighted(sum: &WeightedSum) -> Option<f64> {
    match sum.duration.total() {
        Some(duration) => sum.twice.ratio(1, 2 * duration.unsigned_abs()),
        None => sum.instants_sum.ratio(1, sum.instants.into()),
    }
}

fn of_all<T: FieldValue>(finalizer: Finalizer, all: &[Values<T>]) -> Finalized {
    match finalizer {
        Finalizer::ExactDistinct => part(all, Values::distinct),
        Finalizer::Mode => {
            let modes: Vec<Option<T>> = all.iter().map(Values::mode).collect();
            Finalized::new(T::array(modes.iter().map(Option::as_ref)))
        }
        other => unreachable!("{other:?} is not of all values"),
    }
}

fn exact_quantile(fraction: Fraction, column: &StateColumn) -> Finalized {
    fn each<T: Number>(fraction: Fraction, all: &[Values<T>]) -> Finalized {
        let quantiles: Vec<Option<T>> = all.iter().map(|values| values.quantile(fraction)).collect();
        Finalized::new(T::array(quantiles.iter().map(Option::as_ref)))
    }
    match column {
        StateColumn::ValuesFloat(all) => each(fraction, all),
        StateColumn::ValuesInt(all) => each(fraction, all),
        StateColumn::ValuesUInt(all) => each(fraction, all),
        other => panic!("bug: {:?} has no quantiles, or is of no numbers", other.kind()),
    }
}

fn average(counts: &[u64], sums: &StateColumn) -> Finalized {
    fn each<S>(counts: &[u64], sums: &[S], average: impl Fn(&S, u64) -> Option<f64>) -> Finalized {
        floats(sums.iter().zip(counts).map(|(sum, count)| average(sum, *count)))
    }
    match sums {
        StateColumn::SumFloat(sums) => each(counts, sums, |sum, count| sum.average(count)),
        StateColumn::SumInt(sums) => each(counts, sums, |sum, count| sum.average(count)),
        StateColumn::SumUInt(sums) => each(counts, sums, |sum, count| sum.average(count)),
        _ => unreachable!("checked by kind"),
    }
}

fn spread(mins: &StateColumn, maxs: &StateColumn) -> Finalized {
    fn whole<T: Whole>(mins: &[Min<T>], maxs: &[Max<T>]) -> Finalized {
        let spreads = mins.iter().zip(maxs).map(|(min, max)| Some(max.0?.into() - min.0?.into()));
        let spreads: Vec<IntSum<T>> = spreads.map(IntSum::new).collect();
        Answer::finalize(&spreads)
    }
    match (mins, maxs) {
        (StateColumn::MinFloat(mins), StateColumn::MaxFloat(maxs)) => {
            floats(mins.iter().zip(maxs).map(|(min, max)| Some(max.0? - min.0?)))
        }
        (StateColumn::MinInt(mins), StateColumn::MaxInt(maxs)) => whole(mins, maxs),
        (StateColumn::MinUInt(mins), StateColumn::MaxUInt(maxs)) => whole(mins, maxs),
        _ => unreachable!("checked by kind"),
    }
}

fn variance(
    counts: &[u64],
    sums: &StateColumn,
    squares: &[Squares],
    answer: impl Fn(&Variance) -> f64,
) -> Finalized {
    fn each<S>(
        (counts, sums, squares): (&[u64], &[S], &[Squares]),
        exact: impl Fn(&S) -> Dyadic,
        answer: impl Fn(&Variance) -> f64,
    ) -> Finalized {
        let rows = counts.iter().zip(sums).zip(squares);
        floats(
            rows.map(|((count, sum), squares)| {
                Variance::new(*count, &exact(sum), squares).as_ref().map(&answer)
            }),
        )
    }
    match sums {
        // A sum that is no number goes with squares that are none.
        StateColumn::SumFloat(sums) => {
            each((counts, sums, squares), |sum| sum.exact().unwrap_or(Dyadic::ZERO), answer)
        }
        StateColumn::SumInt(sums) => each((counts, sums, squares), IntSum::exact, answer),
        StateColumn::SumUInt(sums) => each((counts, sums, squares), IntSum::exact, answer),
        _ => unreachable!("checked by kind"),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, BooleanArray, Int64Array, StringArray, UInt64Array};
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
        let counts = matches!(finalizer, Finalizer::Count | Finalizer::Distinct | Finalizer::ExactDistinct);
        assert_eq!(finalized.array.is_null(1), !counts, "{finalizer:?} of nothing");
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

    fn float(finalizer: Finalizer, field_type: FieldType, values: ArrayRef) -> Option<f64> {
        let array = answer(finalizer, field_type, values).array;
        array.is_valid(0).then(|| array.as_primitive::<Float64Type>().value(0))
    }

    #[test]
    fn spreads_do_not_overflow_silently() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![2.5, f64::NAN, -1.0]));
        assert_eq!(float(Finalizer::Spread, FieldType::Float, floats), Some(3.5));
        let of =
            |values: Vec<i64>| answer(Finalizer::Spread, FieldType::Int, Arc::new(Int64Array::from(values)));
        assert_eq!(of(vec![-7, 5]).array.as_primitive::<Int64Type>().value(0), 12);
        let over = of(vec![i64::MIN, 1]);
        assert_eq!((over.array.is_null(0), over.overflowed), (true, 1));
        let uints: ArrayRef = Arc::new(UInt64Array::from(vec![0, u64::MAX]));
        let spread = answer(Finalizer::Spread, FieldType::UInt, uints).array;
        assert_eq!(spread.as_primitive::<UInt64Type>().value(0), u64::MAX);
    }

    #[test]
    fn variances_are_of_a_sample() {
        let values: ArrayRef =
            Arc::new(Float64Array::from(vec![1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]));
        assert_eq!(float(Finalizer::Variance, FieldType::Float, values.clone()), Some(30.0));
        assert_eq!(float(Finalizer::Stddev, FieldType::Float, values), Some(30f64.sqrt()));
        let one: ArrayRef = Arc::new(Int64Array::from(vec![5]));
        assert_eq!(float(Finalizer::Variance, FieldType::Int, one.clone()), None);
        assert_eq!(float(Finalizer::Stddev, FieldType::Int, one), None);
        let ints: ArrayRef = Arc::new(Int64Array::from(vec![i64::MIN, i64::MAX]));
        assert_eq!(float(Finalizer::Stddev, FieldType::Int, ints), Some(2f64.powi(127).sqrt()));
        let uints: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, u64::MAX - 2]));
        assert_eq!(float(Finalizer::Variance, FieldType::UInt, uints), Some(2.0));
        let infinite: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::INFINITY]));
        assert!(float(Finalizer::Variance, FieldType::Float, infinite).is_some_and(f64::is_nan));
    }

    #[test]
    fn quantiles_and_distinct_counts() {
        let values: ArrayRef = Arc::new(Int64Array::from((1..=200).collect::<Vec<i64>>()));
        let quantile = |fraction| Finalizer::Quantile(Fraction::new(fraction).expect("from 0 to 1"));
        assert_eq!(float(quantile(0.5), FieldType::Int, values.clone()), Some(100.0));
        assert_eq!(float(quantile(0.99), FieldType::Int, values), Some(198.0));
        let distinct = |field_type, values: ArrayRef| {
            answer(Finalizer::Distinct, field_type, values)
                .array
                .as_primitive::<Int64Type>()
                .values()
                .to_vec()
        };
        let floats = vec![0.0, -0.0, f64::NAN, -f64::NAN, 1.0];
        assert_eq!(distinct(FieldType::Float, Arc::new(Float64Array::from(floats))), [3, 0]);
        assert_eq!(distinct(FieldType::Bool, Arc::new(BooleanArray::from(vec![true, true]))), [1, 0]);
        assert_eq!(distinct(FieldType::Str, Arc::new(StringArray::from(vec!["a", "", "a"]))), [2, 0]);
        assert_eq!(distinct(FieldType::UInt, Arc::new(UInt64Array::from(vec![1, u64::MAX]))), [2, 0]);
    }

    #[test]
    fn exact_answers_have_the_type_of_the_field() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![9, i64::MAX, 9, -4]));
        let int = |finalizer| {
            answer(finalizer, FieldType::Int, values.clone()).array.as_primitive::<Int64Type>().value(0)
        };
        assert_eq!(int(Finalizer::ExactQuantile(Fraction::MEDIAN)), 9);
        assert_eq!((int(Finalizer::ExactDistinct), int(Finalizer::Mode)), (3, 9));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["b", "a"]));
        let mode = answer(Finalizer::Mode, FieldType::Str, texts).array;
        assert_eq!(mode.as_string::<i32>().value(0), "a");
        let bools: ArrayRef = Arc::new(BooleanArray::from(vec![true, true, false]));
        assert!(answer(Finalizer::Mode, FieldType::Bool, bools).array.as_boolean().value(0));
        let quantile = Finalizer::ExactQuantile(Fraction::MEDIAN);
        assert!(quantile.applies_to(Some(FieldType::UInt)) && !quantile.applies_to(Some(FieldType::Str)));
        assert!(Finalizer::Mode.applies_to(Some(FieldType::Str)) && !Finalizer::Mode.applies_to(None));
    }
}
