//! The law of states: no order, grouping, bucket width or round trip changes a bit.
//!
//! Sums are checked against an oracle that shares nothing with them: plain big integers, and rounding judged
//! by the distance to the neighbouring floats instead of being computed.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array,
    StringArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Float64Type};
use proptest::prelude::*;

use super::*;
use crate::point::{Time, floor_time};

/// A whole number in units of 2^-1075, half of the smallest float's step: signed digits, lowest first.
#[derive(Clone)]
struct Big(Vec<i64>);

const DIGIT_BITS: i64 = 32;

impl Big {
    fn zero() -> Big {
        // 2099 bits of range and 2 digits of headroom.
        Big(vec![0; 2099 / DIGIT_BITS as usize + 3])
    }

    /// Adds `significand * 2^(shift - 1075)`.
    fn add_scaled(&mut self, significand: i64, shift: usize) {
        let spread = i128::from(significand.abs()) << (shift as i64 % DIGIT_BITS);
        for digit in 0..3 {
            let part = (spread >> (digit as i64 * DIGIT_BITS)) as i64 & 0xffff_ffff;
            self.0[shift / DIGIT_BITS as usize + digit] += part * significand.signum();
        }
        let mut carry = 0;
        let top = self.0.len() - 1;
        for digit in &mut self.0[..top] {
            let sum = *digit + carry;
            *digit = sum.rem_euclid(1 << DIGIT_BITS);
            carry = sum.div_euclid(1 << DIGIT_BITS);
        }
        self.0[top] += carry;
    }

    fn add_float(&mut self, value: f64, sign: i64) {
        let bits = value.abs().to_bits();
        let (exponent, fraction) = ((bits >> 52) as usize, (bits & ((1 << 52) - 1)) as i64);
        let (significand, shift) = if exponent == 0 { (fraction, 1) } else { (fraction | 1 << 52, exponent) };
        self.add_scaled(if value < 0.0 { -sign * significand } else { sign * significand }, shift);
    }

    fn of(values: &[f64]) -> Big {
        let mut big = Big::zero();
        values.iter().for_each(|value| big.add_float(*value, 1));
        big
    }

    /// Compares with the middle between two neighbouring floats, `a + b` halves.
    fn cmp_middle(&self, below: f64, above: f64) -> Ordering {
        let mut twice = self.clone();
        self.0.iter().zip(&mut twice.0).for_each(|(digit, twice)| *twice = 2 * digit);
        twice.add_scaled(0, 0);
        for value in [below, above] {
            if value.is_infinite() {
                // As if the floats went on: the next one after the largest is 2^1024.
                twice.add_scaled(-(value.signum() as i64), 1075 + 1024);
            } else {
                twice.add_float(value, -1);
            }
        }
        let top = *twice.0.last().unwrap();
        let rest = twice.0.iter().any(|digit| *digit != 0);
        if top < 0 {
            Ordering::Less
        } else if rest {
            Ordering::Greater
        } else {
            Ordering::Equal
        }
    }

    fn rounds_to(&self, value: f64) -> bool {
        let even = value.to_bits() & 1 == 0;
        let fits_above = value == f64::INFINITY || {
            let order = self.cmp_middle(value, value.next_up());
            order.is_lt() || (order.is_eq() && even)
        };
        let fits_below = value == f64::NEG_INFINITY || {
            let order = self.cmp_middle(value.next_down(), value);
            order.is_gt() || (order.is_eq() && even)
        };
        fits_above && fits_below
    }
}

fn any_float() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-1000i32..1000).prop_map(|cents| f64::from(cents) / 100.0),
        2 => (-1.0..1.0, -300i32..300).prop_map(|(value, exponent)| value * 10f64.powi(exponent)),
        2 => any::<f64>().prop_filter("finite", |value| value.is_finite()),
        1 => (0..1u64 << 53).prop_map(f64::from_bits), // subnormals
        1 => Just(f64::MAX),
        1 => Just(f64::MIN),
        1 => Just(2f64.powi(970)), // half the step of the largest float
        1 => Just(-0.0),
        1 => (-60i32..60).prop_map(|exponent| 2f64.powi(exponent)),
    ]
}

fn any_special() -> impl Strategy<Value = f64> {
    prop_oneof![
        30 => any_float(),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
    ]
}

fn sum_run(values: &[f64]) -> StateRun {
    float_run(&[(0, values.to_vec())])
}

/// All states of a float field; each value's time is the bucket's start plus its own bits, so that it does
/// not depend on the order of values.
fn float_run(buckets: &[(Time, Vec<f64>)]) -> StateRun {
    let mut run = StateRun::new(&float_keys());
    for (start, values) in buckets {
        let bucket = run.push_bucket(*start);
        let mut rows: Vec<(Time, f64)> =
            values.iter().map(|value| (start + (value.to_bits() % 7) as Time, *value)).collect();
        rows.sort_by_key(|row| row.0);
        // One row at a time: several series may have equal times, one has not.
        for (time, value) in rows {
            absorb(&mut run, bucket, &[time], &(Arc::new(Float64Array::from(vec![value])) as ArrayRef));
        }
    }
    run
}

/// Few enough values to repeat, and the ends of each type.
fn typed_values(field_type: FieldType, values: &[u8]) -> ArrayRef {
    match field_type {
        FieldType::Float => {
            let float = |value: &u8| match value {
                0 => f64::NAN,
                1 => f64::NEG_INFINITY,
                2 => -0.0,
                3 => f64::MAX,
                value => f64::from(*value) * 0.1,
            };
            Arc::new(Float64Array::from_iter_values(values.iter().map(float)))
        }
        FieldType::Int => {
            let int = |value: &u8| i64::MIN.wrapping_add_unsigned(u64::from(*value) * (u64::MAX / 255));
            Arc::new(Int64Array::from_iter_values(values.iter().map(int)))
        }
        FieldType::UInt => {
            let uint = |value: &u8| u64::from(*value) * (u64::MAX / 255);
            Arc::new(UInt64Array::from_iter_values(values.iter().map(uint)))
        }
        FieldType::Bool => {
            Arc::new(values.iter().map(|value| Some(value % 2 == 0)).collect::<BooleanArray>())
        }
        FieldType::Str => Arc::new(StringArray::from_iter_values(
            values.iter().map(|value| "é".repeat(usize::from(value % 9))),
        )),
        FieldType::Binary => Arc::new(BinaryArray::from_iter_values(values.chunks(1))),
    }
}

/// One bucket; each value is of a series of its own, and its time depends on the value alone.
fn typed_run(field_type: FieldType, values: &[u8]) -> StateRun {
    let mut run = StateRun::new(&keys_of(field_type));
    run.push_bucket(0);
    for value in values {
        absorb(&mut run, 0, &[Time::from(value / 16)], &typed_values(field_type, &[*value]));
    }
    run
}

fn absorb(run: &mut StateRun, bucket: usize, times: &[Time], values: &ArrayRef) {
    let windows = [BucketRows { bucket, rows: 0..times.len() }];
    for column in &mut run.columns {
        match column.kind() {
            StateKind::Points => column.absorb_points(&windows),
            _ => column.absorb(&windows, times, values),
        }
    }
}

/// Those that take values of many series in any order, and are stored.
fn keys_of(field_type: FieldType) -> Vec<StateKey> {
    let closed = [StateKind::CounterSum, StateKind::WeightedSum];
    let kinds = StateKind::ALL.into_iter().filter(|kind| kind.applies_to(Some(field_type)));
    let kinds = kinds.filter(|kind| kind.is_stored() && !kind.is_of_one_series() && !closed.contains(kind));
    [StateKey::POINTS].into_iter().chain(kinds.map(|kind| StateKey::of(kind, field_type))).collect()
}

fn float_keys() -> Vec<StateKey> {
    keys_of(FieldType::Float)
}

/// Bit for bit, NaN included.
fn assert_same(a: &StateRun, b: &StateRun) {
    assert_eq!(a.starts, b.starts);
    for (a, b) in a.to_arrow().iter().zip(&b.to_arrow()) {
        assert_eq!(a.to_data(), b.to_data());
    }
}

fn rounded_sum(run: &StateRun) -> f64 {
    let sums = run.columns.iter().find(|column| column.kind() == StateKind::Sum).unwrap();
    finalize(Finalizer::Sum, &[sums]).array.as_primitive::<Float64Type>().value(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn sums_are_exact_and_rounded_once(values in prop::collection::vec(any_float(), 1..60)) {
        let mut run = StateRun::new(&[StateKey::of(StateKind::Sum, FieldType::Float)]);
        run.push_bucket(0);
        let times: Vec<Time> = (0..values.len() as Time).collect();
        absorb(&mut run, 0, &times, &(Arc::new(Float64Array::from(values.clone())) as ArrayRef));
        let sum = rounded_sum(&run);
        prop_assert!(Big::of(&values).rounds_to(sum), "{values:?} -> {sum:e}");
    }

    #[test]
    fn averages_are_exact_and_rounded_once(values in prop::collection::vec(any_float(), 1..40)) {
        let mut sum = FloatSum::Empty;
        sum.add_slice(&values);
        let average = sum.average(values.len() as u64).unwrap();
        // The sum against the middles between `count` times the neighbours.
        let count = values.len();
        let middle = |below: f64, above: f64| {
            let mut big = Big(Big::of(&values).0.iter().map(|digit| digit * 2).collect());
            big.add_scaled(0, 0);
            (0..count).for_each(|_| [below, above].into_iter().for_each(|value| big.add_float(value, -1)));
            big.cmp_middle(0.0, 0.0)
        };
        let even = average.to_bits() & 1 == 0;
        if average != f64::MAX {
            let order = middle(average, average.next_up());
            prop_assert!(order.is_lt() || (even && order.is_eq()), "{values:?} -> {average:e}");
        }
        if average != f64::MIN {
            let order = middle(average.next_down(), average);
            prop_assert!(order.is_gt() || (even && order.is_eq()), "{values:?} -> {average:e}");
        }
    }

    #[test]
    fn no_order_and_no_grouping_changes_a_bit(
        (values, shuffled) in prop::collection::vec(any_special(), 0..40)
            .prop_flat_map(|values| (Just(values.clone()), Just(values).prop_shuffle())),
        cuts in prop::collection::vec(0usize..40, 0..6),
        backwards: bool,
    ) {
        let whole = sum_run(&values);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(shuffled.len())).collect();
        cuts.extend([0, shuffled.len()]);
        cuts.sort();
        let mut parts: Vec<StateRun> = cuts.windows(2).map(|cut| sum_run(&shuffled[cut[0]..cut[1]])).collect();
        // Left to right, or as a tree from the right.
        while parts.len() > 1 {
            let part = if backwards { parts.pop().unwrap() } else { parts.remove(0) };
            let at = if backwards { parts.len() - 1 } else { parts.len() / 2 };
            parts[at].merge(&part);
        }
        assert_same(&parts[0], &whole);
        // A column's kernel over the whole slice, where single values went in before.
        let mut sum = FloatSum::Empty;
        sum.add_slice(&shuffled);
        prop_assert_eq!(sum.round().map(f64::to_bits), (!values.is_empty()).then(|| rounded_sum(&whole).to_bits()));
    }

    #[test]
    fn no_order_and_no_grouping_changes_a_bit_of_any_type(
        (values, shuffled) in prop::collection::vec(any::<u8>(), 1..60)
            .prop_flat_map(|values| (Just(values.clone()), Just(values).prop_shuffle())),
        cut in any::<prop::sample::Index>(),
    ) {
        for field_type in FieldType::ALL {
            let whole = typed_run(field_type, &values);
            let (left, right) = shuffled.split_at(cut.index(shuffled.len()));
            let mut merged = typed_run(field_type, right);
            merged.merge(&typed_run(field_type, left));
            assert_same(&merged, &whole);
            check_stored(&merged, &keys_of(field_type));
            // All rows as one slice; equal times are of several series, and the edges see only one of them.
            let mut sliced = StateRun::new(&keys_of(field_type));
            sliced.push_bucket(0);
            absorb(&mut sliced, 0, &vec![0; shuffled.len()], &typed_values(field_type, &shuffled));
            let edge = |kind| kind == StateKind::First || kind == StateKind::Last;
            let kept: Vec<usize> =
                (0..whole.columns.len()).filter(|at| !edge(whole.columns[*at].kind())).collect();
            assert_same(&sliced.clone().project(&kept), &whole.clone().project(&kept));
        }
    }

    #[test]
    fn coarser_buckets_do_not_depend_on_the_way(
        points in prop::collection::btree_map(-500i64..500, prop::collection::vec(any_special(), 0..4), 0..30),
    ) {
        let points: Vec<(Time, Vec<f64>)> = points.into_iter().collect();
        let fine = float_run(&points);
        let to = |step: i64| move |start: Time| floor_time(start, step, 3);
        let ten = fine.rebucket(to(10));
        assert_same(&ten.rebucket(to(60)).rebucket(to(360)), &fine.rebucket(to(360)));
        assert_same(&ten.rebucket(to(360)), &fine.rebucket(to(60)).rebucket(to(360)));
        // Raw: the values pooled per coarse bucket; times inside are those of their own points.
        let mut raw = StateRun::default();
        for (index, point) in points.iter().enumerate() {
            let one = float_run(std::slice::from_ref(point)).rebucket(to(360));
            if index == 0 { raw = one } else { raw.merge(&one) }
        }
        if !points.is_empty() {
            assert_same(&raw, &fine.rebucket(to(360)));
        }
        // Merging fine runs and coarsening commute.
        let (even, odd): (Vec<_>, Vec<_>) = points.iter().cloned().partition(|point| point.0 % 2 == 0);
        let (mut even, odd) = (float_run(&even), float_run(&odd));
        let mut coarse = even.rebucket(to(60));
        coarse.merge(&odd.rebucket(to(60)));
        even.merge(&odd);
        assert_same(&even, &fine);
        assert_same(&coarse, &fine.rebucket(to(60)));
    }

    #[test]
    fn stored_floats_come_back(
        buckets in prop::collection::vec(prop::collection::vec(any_special(), 0..6), 0..8),
    ) {
        let buckets: Vec<(Time, Vec<f64>)> = buckets.into_iter().zip(0..).map(|(values, start)| (start, values)).collect();
        let run = float_run(&buckets);
        check_stored(&run, &float_keys());
    }
}

fn check_stored(run: &StateRun, keys: &[StateKey]) {
    let arrays = run.to_arrow();
    let fields: Vec<Field> = keys.iter().flat_map(|key| block_fields(*key, "f").unwrap()).collect();
    assert_eq!(arrays.len(), fields.len());
    for (array, field) in arrays.iter().zip(&fields) {
        assert_eq!(array.data_type(), field.data_type(), "{}", field.name());
        assert!(field.is_nullable() || array.null_count() == 0, "{}", field.name());
    }
    let back = StateRun::from_arrow(keys, run.starts.clone(), &arrays).unwrap();
    assert_same(&back, run);
}

#[test]
fn the_oracle_sees_half_steps() {
    let ulp = f64::EPSILON;
    let table: &[(&[f64], f64)] = &[
        (&[1.0, ulp / 2.0], 1.0),
        (&[1.0, ulp / 2.0, 5e-324], 1.0 + ulp),
        (&[1.0 + ulp, ulp / 2.0], 1.0 + 2.0 * ulp),
        (&[-5e-324, -5e-324], -1e-323),
        (&[f64::MAX, 2f64.powi(970)], f64::INFINITY),
        (&[f64::MAX, 2f64.powi(970), -5e-324], f64::MAX),
        (&[f64::MIN, f64::MIN], f64::NEG_INFINITY),
    ];
    for (values, rounded) in table {
        let sum = Big::of(values);
        assert!(sum.rounds_to(*rounded), "{values:?}");
        assert!(!sum.rounds_to(rounded.next_up()) || *rounded == f64::INFINITY, "{values:?}");
        assert!(!sum.rounds_to(rounded.next_down()) || *rounded == f64::NEG_INFINITY, "{values:?}");
    }
}

#[test]
fn every_type_comes_back_also_empty_buckets() {
    let arrays: [(FieldType, ArrayRef); 5] = [
        (FieldType::Float, Arc::new(Float64Array::from(vec![1e300, 1.0, f64::NAN, -0.0]))),
        (FieldType::Int, Arc::new(Int64Array::from(vec![i64::MIN, i64::MIN, 7, -1]))),
        (FieldType::UInt, Arc::new(UInt64Array::from(vec![u64::MAX, u64::MAX, 7, 0]))),
        (FieldType::Bool, Arc::new(BooleanArray::from(vec![true, false, true, false]))),
        (FieldType::Str, Arc::new(StringArray::from(vec!["b", "", "ä", "a"]))),
    ];
    for (field_type, values) in arrays {
        let keys = keys_of(field_type);
        let mut run = StateRun::new(&keys);
        run.push_bucket(-10);
        let bucket = run.push_bucket(0);
        absorb(&mut run, bucket, &[1, 2, 3, 4], &values);
        run.push_bucket(10);
        check_stored(&run, &keys);
        check_stored(&run.slice(crate::point::TimeRange::new(0, 10)), &keys);
        assert!(run.heap_bytes() > 0);
        let empty = StateRun::new(&keys);
        check_stored(&empty, &keys);
        // Two groups in one block, the second one read back by its rows.
        let rows: Vec<ArrayRef> =
            block_arrays(&keys, &[&run, &empty, &run]).iter().map(|array| array.slice(3, 3)).collect();
        assert_same(&StateRun::from_arrow(&keys, run.starts.clone(), &rows).unwrap(), &run);
    }
}

#[test]
fn the_columns_are_those_of_the_format_page() {
    let page = include_str!("../../FORMAT.md");
    let shown = |data_type: &DataType| match data_type {
        DataType::Timestamp(..) => "Timestamp(ns, UTC)".to_string(),
        other => other.to_string(),
    };
    let kinds = StateKind::ALL.into_iter().filter(|kind| kind.applies_to(Some(FieldType::Float)));
    let keys = kinds.map(|kind| StateKey::of(kind, FieldType::Float));
    assert!(keys.clone().all(|key| block_fields(key, "f").is_some() == key.kind.is_stored()));
    for field in keys
        .filter_map(|key| block_fields(key, "f"))
        .flatten()
        .chain(block_fields(StateKey::POINTS, "").unwrap())
    {
        let (name, shown) = (field.name().replace("f.", "F."), shown(field.data_type()));
        let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("no row for {name}"));
        assert!(row.contains(&shown) || row.contains("the field's"), "{row} is not {shown}");
    }
}

#[test]
fn damaged_columns_are_refused() {
    let float = |kind| StateKey::of(kind, FieldType::Float);
    let int = StateKey::of(StateKind::Sum, FieldType::Int);
    let uint = StateKey::of(StateKind::Sum, FieldType::UInt);
    let floats = |value: Option<f64>| Arc::new(Float64Array::from(vec![value])) as ArrayRef;
    let ints = |value: Option<i64>| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
    let times = |value: Option<i64>| Arc::new(TimestampNanosecondArray::from(vec![value])) as ArrayRef;
    let bytes = |value: Option<&[u8]>| Arc::new(BinaryArray::from(vec![value])) as ArrayRef;
    let decimal = |value: i128, scale| {
        Arc::new(Decimal128Array::from(vec![value]).with_data_type(DataType::Decimal128(38, scale)))
            as ArrayRef
    };
    let one_hash = [1, 0, 7, 0, 0, 0, 0, 0, 0, 0];
    let nan: &[u8] = &[1, 1, 0, 0, 0, 0];
    let one: &[u8] = &[1, 0, 0, 0, 0, 134, 1, 4]; // 2^(8 * 134 - 1074) * 4 = 1: two floats hold it
    let sum = |rounded, low, wide| (float(StateKind::Sum), vec![floats(rounded), floats(low), bytes(wide)]);
    let narrow = |sum: Option<f64>| vec![floats(sum), floats(sum.map(|_| 0.0)), bytes(None)];
    type End = (Option<f64>, Option<i64>);
    let ends = |first: End, last: End| vec![floats(first.0), times(first.1), floats(last.0), times(last.1)];
    let counter = |first, last, resets, lost| {
        (float(StateKind::Counter), [ends(first, last), vec![ints(resets)], narrow(lost)].concat())
    };
    let weighted =
        |first, last, area| (float(StateKind::Weighted), [ends(first, last), narrow(area)].concat());
    let counter_sum = |increase, delta, resets| {
        let arrays = [narrow(increase), narrow(delta), vec![ints(resets)]].concat();
        (float(StateKind::CounterSum), arrays)
    };
    let nanoseconds = |duration: Option<i128>| {
        let array = Decimal128Array::from(vec![duration]).with_data_type(DataType::Decimal128(38, 0));
        Arc::new(array) as ArrayRef
    };
    let weighted_sum = |area, duration, instants, instants_sum| {
        let middle = vec![nanoseconds(duration), ints(Some(instants))];
        (float(StateKind::WeightedSum), [narrow(area), middle, narrow(instants_sum)].concat())
    };
    let good = [
        sum(None, None, None),
        sum(Some(1.0), Some(1e-30), None),
        sum(Some(f64::NAN), None, Some(nan)),
        (int, vec![decimal(-(1 << 126), 0)]),
        (float(StateKind::SumSquares), vec![floats(Some(0.0)), bytes(Some(&[1, 0, 0, 0x97, 4, 1]))]),
        (float(StateKind::SumSquares), vec![floats(Some(f64::NAN)), bytes(Some(&[1, 3, 0, 0]))]),
        (float(StateKind::Distinct), vec![ints(Some(1)), bytes(Some(&one_hash))]),
        counter((Some(1.0), Some(1)), (Some(3.0), Some(2)), Some(0), None),
        counter((Some(1.0), Some(1)), (Some(3.0), Some(5)), Some(2), Some(9.0)),
        weighted((Some(1.0), Some(1)), (Some(1.0), Some(1)), None),
        weighted((None, None), (None, None), None),
        counter_sum(Some(1.0), Some(-1.0), Some(1)),
        weighted_sum(Some(1.0), Some(5), 0, None),
        weighted_sum(None, None, 1, Some(1.0)),
    ];
    let bad = [
        sum(Some(1.0), None, None),
        sum(None, Some(1.0), None),
        sum(None, None, Some(nan)),
        sum(Some(f64::NAN), Some(0.0), Some(nan)),
        sum(Some(1.0), Some(1.0), None),
        sum(Some(-0.0), Some(0.0), None),
        sum(Some(1.0), Some(-0.0), None),
        sum(Some(f64::INFINITY), Some(0.0), None),
        sum(Some(f64::NAN), Some(0.0), None),
        sum(Some(1.0), None, Some(nan)),
        sum(Some(1.0), None, Some(one)),
        sum(Some(1.0), None, Some(b"")),
        (StateKey::POINTS, vec![ints(Some(-1))]),
        (StateKey::POINTS, vec![ints(None)]),
        (StateKey::POINTS, vec![floats(Some(1.0))]),
        (StateKey::POINTS, vec![]),
        (StateKey::POINTS, vec![ints(Some(1)), ints(Some(1))]),
        (float(StateKind::Count), vec![Arc::new(Int64Array::from(vec![1, 2]))]),
        (int, vec![decimal((1 << 126) + 1, 0)]),
        (int, vec![decimal(1, 2)]),
        (uint, vec![decimal(-1, 0)]),
        (float(StateKind::Min), vec![floats(Some(f64::NAN))]),
        (float(StateKind::First), vec![floats(Some(1.0)), times(None)]),
        (float(StateKind::Last), vec![floats(None), times(Some(1))]),
        (float(StateKind::Last), vec![floats(Some(1.0)), ints(Some(1))]),
        (float(StateKind::SumSquares), vec![floats(None), bytes(None)]),
        (float(StateKind::SumSquares), vec![floats(Some(-1.0)), bytes(None)]),
        (float(StateKind::SumSquares), vec![floats(Some(-0.0)), bytes(None)]),
        (float(StateKind::SumSquares), vec![floats(Some(1.0)), bytes(Some(&[1, 0, 0, 0, 1]))]),
        (float(StateKind::SumSquares), vec![floats(Some(0.0)), bytes(Some(&[1, 0, 1, 0, 1]))]),
        (float(StateKind::SumSquares), vec![floats(Some(f64::INFINITY)), bytes(Some(&[1, 4, 0, 0]))]),
        (float(StateKind::SumSquares), vec![floats(Some(0.0)), bytes(Some(&[2, 0, 0, 0x97, 4, 1]))]),
        (float(StateKind::Quantile), vec![bytes(Some(&[1]))]),
        (float(StateKind::Distinct), vec![ints(Some(1)), bytes(None)]),
        (float(StateKind::Distinct), vec![ints(Some(2)), bytes(Some(&one_hash))]),
        (float(StateKind::Distinct), vec![ints(None), bytes(Some(&one_hash))]),
        counter((Some(1.0), Some(2)), (Some(3.0), Some(1)), Some(0), None),
        counter((Some(1.0), Some(1)), (Some(3.0), Some(1)), Some(0), None),
        counter((Some(1.0), Some(1)), (Some(1.0), Some(1)), Some(1), Some(5.0)),
        counter((Some(1.0), Some(1)), (None, None), Some(0), None),
        counter((Some(1.0), Some(1)), (Some(3.0), Some(2)), Some(1), None),
        counter((Some(1.0), Some(1)), (Some(3.0), Some(2)), Some(0), Some(1.0)),
        counter((Some(f64::NAN), Some(1)), (Some(3.0), Some(2)), Some(0), None),
        counter((None, None), (None, None), Some(1), Some(1.0)),
        weighted((Some(1.0), Some(1)), (Some(2.0), Some(2)), None),
        weighted((Some(1.0), Some(1)), (Some(1.0), Some(1)), Some(1.0)),
        weighted((None, None), (None, None), Some(1.0)),
        counter_sum(Some(1.0), None, Some(0)),
        counter_sum(None, None, Some(1)),
        counter_sum(None, None, None),
        weighted_sum(Some(1.0), None, 0, None),
        weighted_sum(Some(1.0), Some(0), 0, None),
        weighted_sum(None, None, 1, None),
        weighted_sum(None, None, 0, Some(1.0)),
    ];
    for (key, arrays) in &good {
        StateRun::from_arrow(&[*key], vec![0], arrays).unwrap();
    }
    for (key, arrays) in &bad {
        assert!(StateRun::from_arrow(&[*key], vec![0], arrays).is_err(), "{key:?} {arrays:?}");
    }
    assert!(StateRun::from_arrow(&[], vec![1, 1], &[]).is_err(), "starts ascend");
}

#[test]
fn merging_what_is_too_large_to_be_ours_does_not_panic() {
    let counts: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX]));
    let total: ArrayRef =
        Arc::new(Decimal128Array::from(vec![1i128 << 126]).with_data_type(DataType::Decimal128(38, 0)));
    let keys = [StateKey::POINTS, StateKey::of(StateKind::Sum, FieldType::Int)];
    let mut run = StateRun::from_arrow(&keys, vec![0], &[counts, total]).unwrap();
    let other = run.clone();
    (0..5).for_each(|_| run.merge(&other));
    assert_eq!(finalize(Finalizer::Sum, &[&run.columns[1]]).overflowed, 1);
}
