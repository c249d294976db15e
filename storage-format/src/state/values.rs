//! All values of a bucket: for answers that no smaller state can give exactly.
//!
//! They come from raw points only and are never stored. The state is a multiset: the order inside is that of coming and
//! merging, and no answer depends on it. Its memory is that of its values, and is counted.

use super::column::State;
use super::quantile::Fraction;
use super::value::{FieldValue, Number};

#[derive(Clone, Debug, PartialEq)]
pub struct Values<T>(Vec<T>);

impl<T: FieldValue> Values<T> {
    pub fn extend(&mut self, values: impl Iterator<Item = T>) {
        self.0.extend(values.map(T::canonical));
    }

    /// How many different values. Zeros of both signs are equal, and every NaN.
    pub fn distinct(&self) -> u64 {
        self.sorted().chunk_by(|a, b| a.rank(b).is_eq()).count() as u64
    }

    /// The most frequent value; of several the smallest in the order of `value`.
    pub fn mode(&self) -> Option<T> {
        let sorted = self.sorted();
        let mut mode: &[T] = &[];
        for equal in sorted.chunk_by(|a, b| a.rank(b).is_eq()) {
            if equal.len() > mode.len() {
                mode = equal;
            }
        }
        mode.first().cloned()
    }

    fn sorted(&self) -> Vec<T> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(T::rank);
        sorted
    }
}

impl<T: Number> Values<T> {
    /// The value of the nearest rank, NaN left out: what the quantile sketch is near to.
    pub fn quantile(&self, fraction: Fraction) -> Option<T> {
        let mut numbers: Vec<T> = self.0.iter().filter(|value| !value.is_nan()).copied().collect();
        let place = fraction.rank(numbers.len() as u64) as usize - 1;
        let found = (place < numbers.len()).then(|| numbers.select_nth_unstable_by(place, T::rank));
        found.map(|(_, value, _): (_, &mut T, _)| *value)
    }
}

impl<T: FieldValue> State for Values<T> {
    const IDENTITY: Self = Values(Vec::new());

    fn merge(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<T>() + self.0.iter().map(T::heap_bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::QUANTILE_ERROR_MAX;
    use crate::state::quantile::Sketch;
    use proptest::prelude::*;

    fn values<T: FieldValue>(values: &[T]) -> Values<T> {
        let mut all = Values::IDENTITY;
        all.extend(values.iter().cloned());
        all
    }

    #[test]
    fn equal_values_are_one() {
        let floats = values(&[-0.0, 0.0, f64::NAN, -f64::NAN, 1.0, f64::NAN]);
        assert_eq!(floats.distinct(), 3);
        assert!(floats.mode().is_some_and(f64::is_nan));
        assert_eq!(floats.quantile(Fraction::MEDIAN).map(f64::to_bits), Some(0));
        assert_eq!(values::<f64>(&[]).mode(), None);
        assert_eq!(values(&[f64::NAN]).quantile(Fraction::MEDIAN), None);
        let texts: [Box<str>; 5] = ["b".into(), "a".into(), "c".into(), "b".into(), "a".into()];
        assert_eq!((values(&texts).distinct(), values(&texts).mode()), (3, Some("a".into())));
        assert_eq!(values(&[true, false, true]).mode(), Some(true));
        assert_eq!(values(&[i64::MAX, -1, i64::MIN]).quantile(Fraction::MEDIAN), Some(-1));
        assert!(values(&texts).heap_bytes() >= 5 * (16 + 1));
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_the_sketch_is_near(
            (some, other) in prop::collection::vec(prop_oneof![(-9..9i32).prop_map(f64::from), any::<f64>()], 1..40)
                .prop_flat_map(|values| (Just(values.clone()), Just(values).prop_shuffle())),
            cut in 0usize..40,
            q in 0.0..=1.0,
        ) {
            let whole = values(&some);
            let (left, right) = other.split_at(cut.min(other.len()));
            let mut merged = values(right);
            merged.merge(&values(left));
            let fraction = Fraction::new(q).expect("from 0 to 1");
            let bits = |value: Option<f64>| value.map(f64::to_bits);
            prop_assert_eq!(merged.distinct(), whole.distinct());
            prop_assert_eq!(bits(merged.mode()), bits(whole.mode()));
            prop_assert_eq!(bits(merged.quantile(fraction)), bits(whole.quantile(fraction)));
            let mut sketch = Sketch::default();
            sketch.add_slice(&some);
            let (exact, near) = (whole.quantile(fraction), sketch.quantile(fraction));
            prop_assert_eq!(exact.is_some(), near.is_some());
            if let (Some(exact), Some(near)) = (exact, near) {
                prop_assert!(near == exact || (near - exact).abs() <= exact.abs() * QUANTILE_ERROR_MAX + 1e-310);
            }
        }
    }
}
