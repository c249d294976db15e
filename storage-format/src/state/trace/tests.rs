//! Steps between samples: where they belong, what groups add up to, and that no grouping changes a bit.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, UInt64Array};
use arrow::datatypes::{Float64Type, Int64Type, UInt64Type};
use proptest::prelude::*;

use super::*;
use crate::point::{FieldType, NANOS_PER_SECOND, floor_time};
use crate::state::{BucketRows, Finalizer, StateKey, StateKind, StateRun, finalize};

const KINDS: [StateKind; 2] = [StateKind::Counter, StateKind::Weighted];

fn keys(field_type: FieldType) -> Vec<StateKey> {
    KINDS.iter().map(|kind| StateKey::of(*kind, field_type)).collect()
}

/// The states of one series in buckets of `width`.
fn run(field_type: FieldType, width: i64, times: &[Time], values: &ArrayRef) -> StateRun {
    let mut run = StateRun::new(&keys(field_type));
    for (row, time) in times.iter().enumerate() {
        let start = floor_time(*time, width, 0);
        let bucket = match run.starts.last() {
            Some(last) if *last == start => run.len() - 1,
            _ => run.push_bucket(start),
        };
        let windows = [BucketRows { bucket, rows: row..row + 1 }];
        run.columns.iter_mut().for_each(|column| column.absorb(&windows, times, values));
    }
    run
}

fn floats(samples: &[Sample<f64>]) -> (Vec<Time>, ArrayRef) {
    let (times, values): (Vec<Time>, Vec<f64>) = samples.iter().copied().unzip();
    (times, Arc::new(Float64Array::from(values)))
}

fn float_run(width: i64, samples: &[Sample<f64>]) -> StateRun {
    let (times, values) = floats(samples);
    run(FieldType::Float, width, &times, &values)
}

fn answers(run: &StateRun, finalizer: Finalizer) -> Vec<Option<f64>> {
    let closed = |kind: StateKind| kind.closed() == finalizer.needs()[0].closed();
    let column = run.columns.iter().find(|column| closed(column.kind())).expect("planned");
    let array = finalize(finalizer, &[column]).array;
    assert_eq!(array.data_type(), &finalizer.data_type(Some(FieldType::Float)));
    match array.as_primitive_opt::<Float64Type>() {
        Some(floats) => floats.iter().collect(),
        None => array.as_primitive::<Int64Type>().iter().map(|count| count.map(|n| n as f64)).collect(),
    }
}

const SECOND: i64 = NANOS_PER_SECOND;

fn rate(width: i64) -> Finalizer {
    Finalizer::Rate(NonZeroU64::new(width as u64).expect("a bucket has a width"))
}

#[test]
fn steps_lead_into_the_bucket_of_the_later_sample() {
    // Ten seconds to a bucket; a reset inside the first one and on the border to the last one.
    let at = |second: i64, value: f64| (second * SECOND, value);
    let samples = [at(1, 5.0), at(3, 9.0), at(7, 2.0), at(11, 6.0), at(24, f64::NAN), at(41, 1.0)];
    let run = float_run(10 * SECOND, &samples).close();
    let some = |values: &[f64]| values.iter().copied().map(Some).collect::<Vec<_>>();
    // The bucket at 20 holds a NaN only, so no sample.
    let with_none = |values: [f64; 3]| vec![Some(values[0]), Some(values[1]), None, Some(values[2])];
    assert_eq!(answers(&run, Finalizer::Increase), with_none([4.0 + 2.0, 4.0, 1.0]));
    assert_eq!(answers(&run, Finalizer::Delta), with_none([-3.0, 4.0, -5.0]));
    assert_eq!(answers(&run, Finalizer::Resets), some(&[1.0, 0.0, 0.0, 1.0]));
    assert_eq!(answers(&run, rate(10 * SECOND)), with_none([0.6, 0.4, 0.1]));
    let areas = [14.0 + 22.0, 16.0, 3.5 * 30.0];
    assert_eq!(answers(&run, Finalizer::Integral), with_none(areas));
    assert_eq!(answers(&run, Finalizer::Twa), with_none([6.0, 4.0, 3.5]));
    let whole = float_run(1000 * SECOND, &samples);
    assert_eq!(answers(&whole, Finalizer::Increase), some(&[11.0]));
    assert_eq!(answers(&whole, Finalizer::Integral), some(&[areas.iter().sum()]));
    // Unclosed states are closed on the way.
    let open = float_run(10 * SECOND, &samples);
    assert_eq!(answers(&open, Finalizer::Increase), answers(&run, Finalizer::Increase));
}

#[test]
fn one_sample_is_no_step_but_an_average() {
    let one = float_run(10, &[(3, 7.0)]);
    for finalizer in [Finalizer::Increase, Finalizer::Delta, rate(1), Finalizer::Integral] {
        assert_eq!(answers(&one, finalizer), [None], "{finalizer:?}");
    }
    assert_eq!(answers(&one, Finalizer::Twa), [Some(7.0)]);
    assert_eq!(answers(&float_run(10, &[(3, f64::NAN)]), Finalizer::Twa), [None]);
}

#[test]
fn groups_add_up() {
    let second = |second: i64, value: f64| (second * SECOND, value);
    let mut group = float_run(100 * SECOND, &[second(0, 1.0), second(10, 3.0)]).close();
    group.merge(&float_run(100 * SECOND, &[second(5, 10.0), second(35, 10.0)]).close());
    group.merge(&float_run(100 * SECOND, &[second(50, 1000.0)]).close());
    assert_eq!(answers(&group, Finalizer::Increase), [Some(2.0)]);
    assert_eq!(answers(&group, Finalizer::Integral), [Some(20.0 + 300.0)]);
    assert_eq!(answers(&group, Finalizer::Twa), [Some(8.0)], "the single sample has no weight");
    let mut singles = float_run(10, &[(3, 7.0)]).close();
    singles.merge(&float_run(10, &[(4, 8.0)]).close());
    assert_eq!(answers(&singles, Finalizer::Twa), [Some(7.5)]);
}

#[test]
fn whole_numbers_stay_whole() {
    let times = [0, SECOND, 2 * SECOND];
    let uints: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX - 1, u64::MAX, 5]));
    let run = run(FieldType::UInt, 100 * SECOND, &times, &uints);
    let of = |finalizer| finalize(finalizer, &[&run.columns[0]]);
    assert_eq!(of(Finalizer::Increase).array.as_primitive::<UInt64Type>().value(0), 6);
    assert_eq!((of(Finalizer::Delta).array.is_null(0), of(Finalizer::Delta).overflowed), (true, 1));
    let risen = of(rate(2 * SECOND)).array;
    assert_eq!(risen.as_primitive::<Float64Type>().value(0), 3.0);
    let ints: ArrayRef = Arc::new(Int64Array::from(vec![(1 << 53) + 1, (1 << 53) + 1, (1 << 53) + 3]));
    let run = super::tests::run(FieldType::Int, 100 * SECOND, &times, &ints);
    let of = |finalizer| finalize(finalizer, &[&run.columns[0]]).array;
    assert_eq!(of(Finalizer::Delta).as_primitive::<Int64Type>().value(0), 2);
    let twa = finalize(Finalizer::Twa, &[&run.columns[1]]).array;
    // 2^53 + 1 + 1/2 lies between two floats, nearer to the upper one.
    assert_eq!(twa.as_primitive::<Float64Type>().value(0), ((1u64 << 53) + 2) as f64);
}

#[test]
#[should_panic(expected = "bug: these samples are of several series")]
fn series_do_not_merge_before_they_are_closed() {
    let mut one = float_run(10, &[(1, 1.0), (5, 2.0)]);
    one.merge(&float_run(10, &[(3, 1.0)]));
}

#[test]
fn infinities_and_the_ends_of_time() {
    let inf = f64::INFINITY;
    let whole = float_run(i64::MAX, &[(0, 1.0), (1, inf), (2, 1.0)]);
    assert_eq!(answers(&whole, Finalizer::Twa), [Some(inf)]);
    assert!(answers(&whole, Finalizer::Increase)[0].is_some_and(|value| value == inf));
    let far = [(crate::point::TIME_MIN, f64::MAX), (crate::point::TIME_MAX, f64::MAX)];
    let mut run = StateRun::new(&keys(FieldType::Float));
    run.push_bucket(0);
    let (times, values) = floats(&far);
    let windows = [BucketRows { bucket: 0, rows: 0..2 }];
    run.columns.iter_mut().for_each(|column| column.absorb(&windows, &times, &values));
    assert_eq!(answers(&run, Finalizer::Twa), [Some(f64::MAX)]);
    let arrays = run.to_arrow();
    assert_eq!(StateRun::from_arrow(&keys(FieldType::Float), vec![0], &arrays), Ok(run));
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => (0i32..1000).prop_map(f64::from),
        4 => -1e3..1e3,
        1 => any::<f64>(),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NAN),
    ]
}

/// Bit for bit, NaN included.
fn assert_same(a: &StateRun, b: &StateRun) {
    assert_eq!(a.starts, b.starts);
    for (a, b) in a.to_arrow().iter().zip(&b.to_arrow()) {
        assert_eq!(a.to_data(), b.to_data());
    }
}

proptest! {
    #[test]
    fn no_grouping_in_the_order_of_time_changes_a_bit(
        samples in prop::collection::btree_map(-300i64..300, any_value(), 0..40),
        joins in prop::collection::vec(any::<prop::sample::Index>(), 40),
        width in prop_oneof![Just(1000i64), Just(50)],
    ) {
        let samples: Vec<Sample<f64>> = samples.into_iter().collect();
        let (times, values) = floats(&samples);
        // One slice per bucket, where `run` adds row by row.
        let whole = run(FieldType::Float, width, &times, &values);
        let mut sliced = StateRun::new(&keys(FieldType::Float));
        let mut row = 0;
        while row < times.len() {
            let start = floor_time(times[row], width, 0);
            let end = times.partition_point(|time| floor_time(*time, width, 0) <= start);
            let windows = [BucketRows { bucket: sliced.push_bucket(start), rows: row..end }];
            sliced.columns.iter_mut().for_each(|column| column.absorb(&windows, &times, &values));
            row = end;
        }
        assert_same(&sliced, &whole);
        // Neighbours in any order, from either side.
        let mut parts: Vec<StateRun> =
            samples.iter().map(|sample| float_run(width, std::slice::from_ref(sample))).collect();
        for join in joins {
            if parts.len() > 1 {
                let at = join.index(parts.len() - 1);
                let later = parts.remove(at + 1);
                if at % 2 == 0 {
                    parts[at].merge(&later);
                } else {
                    let earlier = std::mem::replace(&mut parts[at], later);
                    parts[at].merge(&earlier);
                }
            }
        }
        if let [merged] = parts.as_slice() {
            assert_same(merged, &whole);
        }
        let keys = keys(FieldType::Float);
        let back = StateRun::from_arrow(&keys, whole.starts.clone(), &whole.to_arrow()).unwrap();
        assert_same(&back, &whole);
        // Closed ones as well, and they have the answers that the open ones have.
        let closed = whole.clone().close();
        let closed_keys: Vec<StateKey> = keys.iter().map(|key| key.closed()).collect();
        let back = StateRun::from_arrow(&closed_keys, closed.starts.clone(), &closed.to_arrow()).unwrap();
        assert_same(&back, &closed);
    }

    #[test]
    fn closed_buckets_add_up_to_the_closed_whole(
        samples in prop::collection::btree_map(-300i64..300, any_value(), 0..40),
        other in prop::collection::btree_map(-300i64..300, any_value(), 0..20),
    ) {
        let all = |run: StateRun| run.rebucket(|_| 0);
        let samples: Vec<Sample<f64>> = samples.into_iter().collect();
        let other: Vec<Sample<f64>> = other.into_iter().collect();
        let fine = float_run(20, &samples).close();
        let whole = all(float_run(20, &samples)).close();
        for finalizer in [Finalizer::Increase, Finalizer::Delta, rate(7), Finalizer::Resets, Finalizer::Integral] {
            let bits = |run: &StateRun| -> Vec<Option<u64>> {
                answers(run, finalizer).into_iter().map(|value| value.map(f64::to_bits)).collect()
            };
            // Infinities are NaN by other ways: an infinity more or less decides nothing else.
            if samples.iter().all(|(_, value)| !value.is_infinite()) {
                prop_assert_eq!(bits(&all(fine.clone())), bits(&whole), "{:?}", finalizer);
            }
        }
        // Groups in either order.
        let mut one = fine.clone();
        one.merge(&float_run(20, &other).close());
        let mut two = float_run(20, &other).close();
        two.merge(&fine);
        assert_same(&one, &two);
    }

    #[test]
    fn whole_numbers_agree_with_adding_step_by_step(
        samples in prop::collection::btree_map(-1_000i64..1_000, 0i64..10_000, 2..60),
    ) {
        let samples: BTreeMap<Time, i64> = samples;
        let steps: Vec<((Time, i64), (Time, i64))> =
            samples.clone().into_iter().zip(samples.clone().into_iter().skip(1)).collect();
        let increase: i64 = steps.iter().map(|((_, a), (_, b))| if b < a { *b } else { b - a }).sum();
        let twice: i64 = steps.iter().map(|((t, a), (u, b))| (a + b) * (u - t)).sum();
        let span = samples.last_key_value().unwrap().0 - samples.first_key_value().unwrap().0;
        let samples: Vec<Sample<f64>> = samples.into_iter().map(|(time, value)| (time, value as f64)).collect();
        let run = float_run(10_000, &samples).rebucket(|_| 0);
        prop_assert_eq!(answers(&run, Finalizer::Increase), [Some(increase as f64)]);
        prop_assert_eq!(answers(&run, Finalizer::Twa), [Some(twice as f64 / (2 * span) as f64)]);
        prop_assert_eq!(answers(&run, Finalizer::Integral), [Some(twice as f64 / 2e9)]);
    }
}
