//! First and last.
//!
//! Of values with equal times, which several series may have, the larger one stays (see `value` for the
//! order): the only rule that does not depend on who came first.

use std::cmp::Ordering;

use crate::point::Time;

use super::column::{Answer, State};
use super::finalize::Finalized;
use super::value::FieldValue;

/// The earliest or latest value and its time. `None`: no value yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Edge<T, const LATEST: bool>(pub Option<(Time, T)>);

pub type First<T> = Edge<T, false>;
pub type Last<T> = Edge<T, true>;

impl<T: FieldValue, const LATEST: bool> Edge<T, LATEST> {
    /// `value` is asked for only if `time` may win, since making a string costs an allocation.
    pub fn add(&mut self, time: Time, value: impl FnOnce() -> T) {
        match &self.0 {
            Some((mine, _)) if Self::outward(time, *mine).is_lt() => {}
            _ => self.merge(&Edge(Some((time, value())))),
        }
    }

    /// Greater means further towards the edge.
    fn outward(time: Time, mine: Time) -> Ordering {
        if LATEST { time.cmp(&mine) } else { mine.cmp(&time) }
    }
}

impl<T: FieldValue, const LATEST: bool> State for Edge<T, LATEST> {
    const IDENTITY: Self = Edge(None);

    fn merge(&mut self, other: &Self) {
        let replace = match (&self.0, &other.0) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some((time, value)), Some((other_time, other_value))) => {
                Self::outward(*other_time, *time).then_with(|| other_value.rank(value)).is_gt()
            }
        };
        if replace {
            self.0.clone_from(&other.0);
        }
    }

    fn heap_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |(_, value)| value.heap_bytes())
    }
}

impl<T: FieldValue, const LATEST: bool> Answer for Edge<T, LATEST> {
    fn finalize(states: &[Self]) -> Finalized {
        Finalized::new(T::array(states.iter().map(|state| state.0.as_ref().map(|(_, value)| value))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_times_keep_the_larger_value() {
        for values in [[1.0, 2.0, f64::NAN], [f64::NAN, 2.0, 1.0], [2.0, f64::NAN, 1.0]] {
            let (mut first, mut last) = (First::IDENTITY, Last::IDENTITY);
            for value in values {
                first.add(5, || value);
                last.add(5, || value);
            }
            assert_eq!((first.0, last.0), (Some((5, 2.0)), Some((5, 2.0))));
        }
        let mut last: Last<Box<str>> = Edge(Some((5, "b".into())));
        last.add(5, || "a".into());
        last.add(4, || unreachable!("too early to be asked"));
        assert_eq!(last, Edge(Some((5, "b".into()))));
        let mut zero: First<f64> = Edge(Some((1, -0.0f64)));
        zero.add(1, || 0.0);
        assert_eq!(zero.0.map(|(_, value)| value.to_bits()), Some(0));
    }

    #[test]
    fn the_edge_is_where_time_says() {
        let (mut first, mut last) = (First::IDENTITY, Last::IDENTITY);
        for (time, value) in [(5, 50), (-3, -30), (9, 90), (7, 700)] {
            first.add(time, || value);
            last.add(time, || value);
        }
        assert_eq!((first.0, last.0), (Some((-3, -30i64)), Some((9, 90i64))));
    }
}
