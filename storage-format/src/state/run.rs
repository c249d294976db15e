//! The states of one group over consecutive buckets, struct of arrays.
//!
//! Invariant: starts ascend strictly, and every column has one state per start. A bucket may hold only
//! identities: that is a group that became empty.
//! Not here: the group's tags, and the width of buckets; a run does not know it.

use crate::point::{Time, TimeRange};

use super::StateKey;
use super::column::{State, StateColumn, with_states};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateRun {
    pub starts: Vec<Time>,
    /// In the order of the keys that the run was made with.
    pub columns: Vec<StateColumn>,
}

impl StateRun {
    pub fn new(keys: &[StateKey]) -> StateRun {
        StateRun { starts: Vec::new(), columns: keys.iter().map(|key| StateColumn::new(*key)).collect() }
    }

    pub fn len(&self) -> usize {
        self.starts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Appends a bucket without values, later than all others, and returns its position.
    pub fn push_bucket(&mut self, start: Time) -> usize {
        self.push_buckets(&[start]);
        self.starts.len() - 1
    }

    /// Appends buckets without values, later than all others.
    pub fn push_buckets(&mut self, starts: &[Time]) {
        let ascend = starts.is_sorted_by(|a, b| a < b) && self.starts.last() < starts.first();
        assert!(ascend || starts.is_empty(), "bug: bucket starts must ascend");
        self.starts.extend_from_slice(starts);
        self.columns.iter_mut().for_each(|column| column.push_identities(starts.len()));
    }

    /// Buckets with equal starts become one. Both runs were made with the same keys.
    pub fn merge(&mut self, other: &StateRun) {
        assert_eq!(self.columns.len(), other.columns.len(), "bug: runs of different states");
        if self.starts == other.starts {
            for (mine, theirs) in self.columns.iter_mut().zip(&other.columns) {
                with_states!(mine, theirs, (mine, theirs) => merge_equal(mine, theirs));
            }
            return;
        }
        let steps = join(&self.starts, &other.starts);
        let mut starts = Vec::with_capacity(steps.len());
        let mut mine = self.starts.iter();
        for step in &steps {
            starts.push(match *step {
                Step::Other(index) => other.starts[index],
                Step::Own | Step::Both(_) => *mine.next().expect("a step per start"),
            });
        }
        self.starts = starts;
        for (mine, theirs) in self.columns.iter_mut().zip(&other.columns) {
            with_states!(mine, theirs, (mine, theirs) => merge_joined(mine, theirs, &steps));
        }
    }

    /// Each bucket goes into the bucket that starts at `coarser(start)`, which must not descend:
    /// `|start| floor_time(start, step, origin)` for wider buckets, `|_| start` for one over everything.
    pub fn rebucket(&self, coarser: impl Fn(Time) -> Time) -> StateRun {
        let mut starts: Vec<Time> = Vec::new();
        let mut targets = Vec::with_capacity(self.len());
        for start in self.starts.iter().map(|start| coarser(*start)) {
            if starts.last() != Some(&start) {
                assert!(starts.last() < Some(&start), "bug: coarser starts must not descend");
                starts.push(start);
            }
            targets.push(starts.len() - 1);
        }
        let columns = self.columns.iter();
        let columns = columns.map(|column| with_states!(map column, states => fold(states, &targets)));
        StateRun { columns: columns.collect(), starts }
    }

    /// Turns the states of one series into states that merge with those of other series: counters and time-weighted
    /// states become sums, all others stay. To be done once the series' samples are all in, before its run goes into
    /// a group and before buckets are joined to wider or overlapping ones. A step from one bucket into a later one
    /// belongs to the later one, so that the increase of an hour is that of its minutes; what led into the first
    /// bucket is known only if the run has an earlier one, which the caller may take and drop.
    #[must_use]
    pub fn close(mut self) -> StateRun {
        for column in &mut self.columns {
            if let Some(closed) = column.close() {
                *column = closed;
            }
        }
        self
    }

    /// The buckets that start inside `range`.
    pub fn slice(&self, range: TimeRange) -> StateRun {
        let all: Vec<usize> = (0..self.columns.len()).collect();
        self.slice_of(range, &all)
    }

    /// The buckets that start inside `range`, with these columns, in this order.
    pub fn slice_of(&self, range: TimeRange, columns: &[usize]) -> StateRun {
        let from = self.starts.partition_point(|start| *start < range.start);
        let to = self.starts.partition_point(|start| *start < range.end).max(from);
        let columns = columns.iter().map(|place| &self.columns[*place]);
        let columns = columns.map(|column| with_states!(map column, states => states[from..to].to_vec()));
        StateRun { columns: columns.collect(), starts: self.starts[from..to].to_vec() }
    }

    /// Drops the buckets whose start `keep` refuses.
    pub fn retain(&mut self, keep: impl Fn(Time) -> bool) {
        fn filter<S>(states: &mut Vec<S>, kept: &[bool]) {
            let mut kept = kept.iter();
            states.retain(|_| *kept.next().expect("a verdict per bucket"));
        }
        let kept: Vec<bool> = self.starts.iter().map(|start| keep(*start)).collect();
        filter(&mut self.starts, &kept);
        for column in &mut self.columns {
            with_states!(column, states => filter(states, &kept));
        }
    }

    /// These columns, in this order; a column may be taken twice.
    #[must_use]
    pub fn project(self, columns: &[usize]) -> StateRun {
        if columns.iter().copied().eq(0..self.columns.len()) {
            return self;
        }
        let columns = columns.iter().map(|index| self.columns[*index].clone()).collect();
        StateRun { starts: self.starts, columns }
    }

    pub fn heap_bytes(&self) -> usize {
        let columns = self.columns.capacity() * size_of::<StateColumn>();
        let states = self.columns.iter().map(StateColumn::heap_bytes).sum::<usize>();
        self.starts.capacity() * size_of::<Time>() + columns + states
    }
}

/// Where the next bucket of a merged run comes from; numbers are positions in the other run.
enum Step {
    Own,
    Other(usize),
    Both(usize),
}

fn join(own: &[Time], other: &[Time]) -> Vec<Step> {
    let mut steps = Vec::with_capacity(own.len().max(other.len()));
    let mut own = own.iter().peekable();
    for (index, start) in other.iter().enumerate() {
        while own.next_if(|own| *own < start).is_some() {
            steps.push(Step::Own);
        }
        let both = own.next_if_eq(&start).is_some();
        steps.push(if both { Step::Both(index) } else { Step::Other(index) });
    }
    steps.extend(own.map(|_| Step::Own));
    steps
}

fn merge_equal<S: State>(mine: &mut [S], theirs: &[S]) {
    for (mine, theirs) in mine.iter_mut().zip(theirs) {
        mine.merge(theirs);
    }
}

fn merge_joined<S: State>(mine: &mut Vec<S>, theirs: &[S], steps: &[Step]) {
    let mut own = std::mem::take(mine).into_iter();
    mine.extend(steps.iter().map(|step| match *step {
        Step::Other(index) => theirs[index].clone(),
        Step::Own => own.next().expect("a step per state"),
        Step::Both(index) => {
            let mut state = own.next().expect("a step per state");
            state.merge(&theirs[index]);
            state
        }
    }));
}

/// `targets` ascend by at most one from 0.
fn fold<S: State>(states: &[S], targets: &[usize]) -> Vec<S> {
    let mut folded: Vec<S> = Vec::with_capacity(targets.last().map_or(0, |last| last + 1));
    for (state, target) in states.iter().zip(targets) {
        match folded.get_mut(*target) {
            Some(into) => into.merge(state),
            None => folded.push(state.clone()),
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::BucketRows;

    fn points(buckets: &[(Time, usize)]) -> StateRun {
        let mut run = StateRun::new(&[StateKey::POINTS]);
        for (start, count) in buckets {
            let bucket = run.push_bucket(*start);
            run.columns[0].absorb_points(&[BucketRows { bucket, rows: 0..*count }]);
        }
        run
    }

    #[test]
    fn merging_joins_by_start() {
        let cases: &[(&[(Time, usize)], &[(Time, usize)], &[(Time, usize)])] = &[
            (&[], &[], &[]),
            (&[(1, 1)], &[], &[(1, 1)]),
            (&[], &[(1, 1)], &[(1, 1)]),
            (&[(1, 1), (2, 2)], &[(1, 10), (2, 20)], &[(1, 11), (2, 22)]),
            (&[(1, 1), (2, 2)], &[(3, 3)], &[(1, 1), (2, 2), (3, 3)]),
            (&[(3, 3)], &[(-1, 1), (2, 2)], &[(-1, 1), (2, 2), (3, 3)]),
            (&[(1, 1), (3, 3), (5, 5)], &[(3, 30), (4, 4)], &[(1, 1), (3, 33), (4, 4), (5, 5)]),
        ];
        for (mine, theirs, merged) in cases {
            let mut run = points(mine);
            run.merge(&points(theirs));
            assert_eq!(run, points(merged));
        }
    }

    #[test]
    fn slices_take_buckets_by_their_start() {
        let run = points(&[(-10, 1), (0, 2), (10, 3), (20, 4)]);
        assert_eq!(run.slice(TimeRange::new(0, 20)), points(&[(0, 2), (10, 3)]));
        assert_eq!(run.slice(TimeRange::new(-9, 1)), points(&[(0, 2)]));
        assert_eq!(run.slice(TimeRange::ALL), run);
        assert!(run.slice(TimeRange::new(20, 0)).is_empty());
        let mut some = run.clone();
        some.retain(|start| start % 20 == 0);
        assert_eq!(some, points(&[(0, 2), (20, 4)]));
        assert!(run.heap_bytes() >= 4 * (8 + 8));
        assert_eq!(run.project(&[0, 0]).columns.len(), 2);
    }

    #[test]
    fn an_empty_bucket_stays() {
        let run = points(&[(0, 0), (10, 3), (20, 0)]);
        assert_eq!(run.rebucket(|start| start - start % 20), points(&[(0, 3), (20, 0)]));
        assert_eq!(run.rebucket(|_| 7), points(&[(7, 3)]));
    }

    #[test]
    #[should_panic(expected = "bug: bucket starts must ascend")]
    fn starts_ascend() {
        points(&[(1, 1), (1, 1)]);
    }
}
