//! Min and max.
//!
//! NaN is skipped, so a bucket whose values are all NaN has none; -0 is below +0.

use super::column::{Answer, State};
use super::finalize::Finalized;
use super::value::Number;

/// The smallest or largest value. `None`: no value yet, or only NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extreme<T, const LARGEST: bool>(pub Option<T>);

pub type Min<T> = Extreme<T, false>;
pub type Max<T> = Extreme<T, true>;

impl<T: Number, const LARGEST: bool> Extreme<T, LARGEST> {
    pub fn add_slice(&mut self, values: &[T]) {
        self.merge(&Extreme(if LARGEST { T::largest(values) } else { T::smallest(values) }));
    }
}

impl<T: Number, const LARGEST: bool> State for Extreme<T, LARGEST> {
    const IDENTITY: Self = Extreme(None);

    fn merge(&mut self, other: &Self) {
        let replace = match (&self.0, &other.0) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(mine), Some(theirs)) if LARGEST => theirs.rank(mine).is_gt(),
            (Some(mine), Some(theirs)) => theirs.rank(mine).is_lt(),
        };
        if replace {
            *self = *other;
        }
    }
}

impl<T: Number, const LARGEST: bool> Answer for Extreme<T, LARGEST> {
    fn finalize(states: &[Self]) -> Finalized {
        Finalized::new(T::array(states.iter().map(|state| state.0.as_ref())))
    }
}
