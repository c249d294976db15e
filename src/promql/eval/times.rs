//! When a query looks at what: its steps, those of its subqueries, and the ranges that its selectors read.
//!
//! Invariant: what is read covers every window of every step, so that a selector is captured once.

use std::collections::BTreeMap;

use crate::promql::ast::{Expr, Moved, Node, Subquery};
use crate::promql::duration::Frame;
use crate::promql::eval::{extended, info};
use crate::promql::functions::{AskedPart, WindowFunction, Work};
use crate::promql::select::{Asked, Selection};
use crate::promql::value::Steps;
use crate::promql::window::Windows;

/// Between the steps of a subquery that names none: Prometheus' `evaluation_interval`.
const SUBQUERY_STEP: i64 = 60_000;

/// When a query is evaluated, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub steps: Steps,
    /// Of a range what was asked, which may be after the last step.
    pub end: i64,
    /// Whether there are steps, however many.
    pub is_range: bool,
    /// How far back a sample still counts as the newest.
    pub lookback: i64,
}

/// What each selector of a query reads, by its id.
pub fn selections(expr: &Expr, times: &Times) -> Vec<Selection> {
    let mut found = BTreeMap::new();
    collect(expr, times.steps, times, &mut found);
    found.into_values().collect()
}

fn collect(expr: &Expr, steps: Steps, times: &Times, found: &mut BTreeMap<usize, Selection>) {
    match &expr.node {
        Node::Selector(selector) => {
            let windows = times.windows(steps, &selector.moved, times.lookback);
            let windows = extended::reach(selector, windows, times.lookback);
            found.insert(selector.id, Selection::new(selector.matchers.clone(), windows.hull()));
        }
        Node::Range { selector, range } => {
            let windows = times.windows(steps, &selector.moved, *range);
            let windows = extended::reach(selector, windows, times.lookback);
            found.insert(selector.id, Selection::new(selector.matchers.clone(), windows.hull()));
        }
        Node::Subquery(subquery) => {
            let windows = times.windows(steps, &subquery.moved, subquery.range);
            collect(&subquery.inner, subquery_steps(subquery, &windows), times, found);
        }
        Node::Call { function, args } if function.work == Work::Info => {
            collect(&args[0], steps, times, found);
            let selector = info::selector(args);
            let range = times.windows(steps, &selector.moved, times.lookback).hull();
            found.insert(selector.id, Selection::new(info::matchers(selector), range));
        }
        Node::Call { function, args } => {
            args.iter().for_each(|arg| collect(arg, steps, times, found));
            let function = match function.work {
                Work::Window(function) => function,
                Work::AbsentOverTime => WindowFunction::Present,
                _ => return,
            };
            for arg in args {
                if let Node::Range { selector, range } = &arg.unwrapped().node
                    && selector.extension.is_none()
                    && let Some(selection) = found.get_mut(&selector.id)
                {
                    let windows = times.windows(steps, &selector.moved, *range);
                    selection.asked = Some(Asked { function, windows });
                }
            }
        }
        _ => expr.children().into_iter().for_each(|child| collect(child, steps, times, found)),
    }
}

impl Times {
    pub(super) fn windows(&self, steps: Steps, moved: &Moved, length: i64) -> Windows {
        Windows::new(steps, moved, length, self.steps.start, self.end)
    }

    /// What `step()` and `range()` are.
    pub fn frame(&self) -> Frame {
        let seconds = |milliseconds: i64| milliseconds as f64 / 1e3;
        let step = if self.is_range { self.steps.step } else { 0 };
        Frame { step: seconds(step), range: seconds(self.end.saturating_sub(self.steps.start)) }
    }

    pub(super) fn part(&self, part: AskedPart) -> f64 {
        match part {
            AskedPart::Start => self.steps.start as f64 / 1e3,
            AskedPart::End => self.end as f64 / 1e3,
            AskedPart::Step => self.frame().step,
            AskedPart::Range => self.frame().range,
        }
    }
}

/// The steps at which the inside of a subquery is evaluated: multiples of its step within all of its windows.
pub(super) fn subquery_steps(subquery: &Subquery, windows: &Windows) -> Steps {
    let step = subquery.step.unwrap_or(SUBQUERY_STEP);
    let from = windows.end(windows.steps.start).saturating_sub(windows.length);
    let to = windows.end(windows.steps.end());
    let mut start = step * (from / step);
    if start <= from {
        start = start.saturating_add(step);
    }
    if start > to {
        // No step lies in any window. One outside gives no samples in them either.
        return Steps { start, step, count: 1 };
    }
    Steps::range(start, to, step)
}
