//! Binary operators: of two scalars, of a vector and a scalar, of two vectors whose series are matched by labels.
//!
//! Invariant: series are matched once per query. Which of them have samples is asked at each step, so that matches may change from step
//! to step, and too many of them are an error only at a step at which they are.

mod fill; // what is missing on one side
mod mixed; // histograms as operands

use hashbrown::HashMap;
use storage_format::point::TagSet;

use crate::error::Result;
use crate::promql::annotations::Annotations;
use crate::promql::ast::{Binary, BinaryOp, Fill, Matching, Side};
use crate::promql::binary::fill::Filled;
use crate::promql::binary::mixed::{Operand, Outcome, Trouble, Troubles, mixed};
use crate::promql::failure;
use crate::promql::labels::{Choice, with, without_name};
use crate::promql::print;
use crate::promql::value::{ABSENT, Column, Series, is_absent, joined};

/// What an operator gives of two values. A comparison gives the left one where it holds.
fn compute(op: BinaryOp, left: f64, right: f64) -> (f64, bool) {
    let value = match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        BinaryOp::Div => left / right,
        BinaryOp::Mod => left % right,
        BinaryOp::Pow => left.powf(right),
        BinaryOp::Atan2 => left.atan2(right),
        _ => left,
    };
    let holds = match op {
        BinaryOp::Equal => left == right,
        BinaryOp::NotEqual => left != right,
        BinaryOp::Greater => left > right,
        BinaryOp::Less => left < right,
        BinaryOp::GreaterEqual => left >= right,
        BinaryOp::LessEqual => left <= right,
        _ => true,
    };
    (value, holds)
}

pub fn scalars(op: BinaryOp, left: &Column, right: &Column) -> Column {
    let one = |(left, right): (&f64, &f64)| match compute(op, *left, *right) {
        (_, holds) if op.is_comparison() => f64::from(u8::from(holds)),
        (value, _) => value,
    };
    left.iter().zip(right).map(one).collect()
}

/// `scalar_side` says which operand the scalar is.
pub fn vector_scalar(
    binary: &Binary,
    vector: Vec<Series>,
    scalar: &Column,
    scalar_side: Side,
    annotations: &Annotations<'_>,
) -> Result<Vec<Series>> {
    let op = binary.op;
    let drops_name = drops_name(binary);
    let mut troubles = Troubles::default();
    let one = |(at, mut series): (usize, Series)| {
        for (step, (value, scalar)) in series.values.iter_mut().zip(scalar).enumerate() {
            if is_absent(*value) {
                continue;
            }
            if op.is_trim() {
                *value = ABSENT;
                troubles.add(step, at, Trouble::Operands("float", "float"));
                continue;
            }
            let (left, right) = match scalar_side {
                Side::Left => (*scalar, *value),
                Side::Right => (*value, *scalar),
            };
            let (computed, holds) = compute(op, left, right);
            *value = if binary.returns_bool {
                f64::from(u8::from(holds))
            } else if !op.is_comparison() {
                computed
            } else if holds {
                // The sample's own value, whichever side it stands on.
                *value
            } else {
                ABSENT
            };
        }
        series.histograms = std::mem::take(&mut series.histograms)
            .into_iter()
            .filter_map(|(step, histogram)| {
                let histogram = Operand::Histogram(&histogram);
                let number = Operand::Float(scalar[step]);
                let (left, right) = match scalar_side {
                    Side::Left => (number, histogram),
                    Side::Right => (histogram, number),
                };
                match mixed(binary, left, right) {
                    Ok(Some(Outcome::Histogram(found))) => Some((step, found)),
                    Ok(_) => None,
                    Err(trouble) => {
                        troubles.add(step, at, trouble);
                        None
                    }
                }
            })
            .collect();
        if drops_name {
            series.labels = without_name(&series.labels);
        }
        series
    };
    let series = vector.into_iter().enumerate().map(one).collect();
    troubles.say(binary, annotations);
    joined(series)
}

/// By which labels series belong together.
fn signature(matching: &Matching) -> Choice {
    if matching.on { Choice::only(&matching.labels) } else { Choice::without(&matching.labels) }
}

fn by_signature(series: &[Series], choice: &Choice) -> HashMap<TagSet, Vec<usize>> {
    let mut groups: HashMap<TagSet, Vec<usize>> = HashMap::with_capacity(series.len());
    for (at, one) in series.iter().enumerate() {
        groups.entry(choice.of_labels(&one.labels)).or_default().push(at);
    }
    groups
}

/// Steps at which any of the series has a sample.
fn presence<'a>(series: impl IntoIterator<Item = &'a Series>, steps: usize) -> Vec<bool> {
    let mut present = vec![false; steps];
    series.into_iter().for_each(|one| one.mark(&mut present));
    present
}

/// Arithmetic and comparisons.
pub fn vectors(
    binary: &Binary,
    left: Vec<Series>,
    right: Vec<Series>,
    steps: usize,
    annotations: &Annotations<'_>,
) -> Result<Vec<Series>> {
    let choice = signature(&binary.matching);
    let group = binary.matching.group.as_ref();
    let many_side = group.map_or(Side::Left, |group| group.many);
    let (mut left, mut right) = (left, right);
    let Fill { left: for_left, right: for_right } = binary.matching.fill;
    let left_side = Filled { series: &mut left, fill: for_left };
    fill::fill(left_side, Filled { series: &mut right, fill: for_right }, &choice, steps);
    let (many, one) = match many_side {
        Side::Left => (left, right),
        Side::Right => (right, left),
    };
    let ones = by_signature(&one, &choice);
    refuse_many(&ones, &one, &many, many_side, binary, steps)?;

    let mut out: Vec<Series> = Vec::new();
    let mut troubles = Troubles::default();
    for (signature, members) in ordered(by_signature(&many, &choice)) {
        let Some(partners) = ones.get(&signature) else { continue };
        // Steps at which this match has its result already, where a second one is an error.
        let mut taken = vec![false; if group.is_none() && members.len() > 1 { steps } else { 0 }];
        let mut of_group: HashMap<TagSet, usize> = HashMap::new();
        for member in members {
            for partner in partners {
                let (of_many, of_one) = (&many[member], &one[*partner]);
                let mut found = combine(binary, many_side, of_many, of_one, |step, trouble| {
                    troubles.add(step, member, trouble);
                });
                if found.is_empty() {
                    continue;
                }
                if !taken.is_empty() && take_steps(&mut taken, &found) {
                    let what = "multiple matches for labels: many-to-one matching must be explicit \
                                (group_left/group_right)";
                    return Err(failure(what));
                }
                found.labels = result_labels(binary, &of_many.labels, &of_one.labels);
                match of_group.get(&found.labels) {
                    None => {
                        of_group.insert(found.labels.clone(), out.len());
                        out.push(found);
                    }
                    Some(place) => {
                        if !out[*place].absorb(found) {
                            let what =
                                "multiple matches for labels: grouping labels must ensure unique matches";
                            return Err(failure(what));
                        }
                    }
                }
            }
        }
    }
    troubles.say(binary, annotations);
    joined(out)
}

/// Whether any of a series' samples stands where there was one before.
fn take_steps(taken: &mut [bool], series: &Series) -> bool {
    let mut twice = false;
    for (step, taken) in taken.iter_mut().enumerate() {
        let is_at = series.is_at(step);
        twice |= *taken && is_at;
        *taken |= is_at;
    }
    twice
}

/// In the order of the series, so that results do not depend on hashes.
fn ordered(groups: HashMap<TagSet, Vec<usize>>) -> Vec<(TagSet, Vec<usize>)> {
    let mut groups: Vec<(TagSet, Vec<usize>)> = groups.into_iter().collect();
    groups.sort_unstable_by_key(|(_, members)| members[0]);
    groups
}

/// Fails where two series of the "one" side stand in the same group at a step.
fn refuse_many(
    ones: &HashMap<TagSet, Vec<usize>>,
    one: &[Series],
    many: &[Series],
    many_side: Side,
    binary: &Binary,
    steps: usize,
) -> Result<()> {
    if ones.values().all(|members| members.len() == 1) {
        return Ok(());
    }
    let any = presence(many, steps);
    for (signature, members) in ones.iter().filter(|(_, members)| members.len() > 1) {
        let mut holder: Vec<Option<usize>> = vec![None; steps];
        for at in members {
            for step in 0..steps {
                if !any[step] || !one[*at].is_at(step) {
                    continue;
                }
                if let Some(first) = holder[step] {
                    let side = if many_side == Side::Left { "right" } else { "left" };
                    let matched = if binary.matching.on {
                        print::labels(signature)
                    } else {
                        print::labels(&without_name(signature))
                    };
                    return Err(failure(format!(
                        "found duplicate series for the match group {matched} on the {side} hand-side of the operation: [{}, {}]\
                         ;many-to-many matching not allowed: matching labels must be unique on one side",
                        print::labels(&one[*at].labels),
                        print::labels(&one[first].labels)
                    )));
                }
                holder[step] = Some(*at);
            }
        }
    }
    Ok(())
}

fn combine(
    binary: &Binary,
    many_side: Side,
    many: &Series,
    one: &Series,
    mut trouble: impl FnMut(usize, Trouble),
) -> Series {
    let at_step = |(many, one): (&f64, &f64)| {
        if is_absent(*many) || is_absent(*one) || binary.op.is_trim() {
            return ABSENT;
        }
        let (left, right) = match many_side {
            Side::Left => (*many, *one),
            Side::Right => (*one, *many),
        };
        match compute(binary.op, left, right) {
            (_, holds) if binary.returns_bool => f64::from(u8::from(holds)),
            (value, true) => value,
            (_, false) => ABSENT,
        }
    };
    let mut found =
        Series::floats(TagSet::default(), many.values.iter().zip(&one.values).map(at_step).collect());
    let mut steps: Vec<usize> =
        many.histograms.iter().chain(&one.histograms).map(|(step, _)| *step).collect();
    if binary.op.is_trim() {
        // Two floats are not known to it either.
        steps.extend(0..many.values.len());
    }
    steps.sort_unstable();
    steps.dedup();
    for step in steps {
        let (Some(many), Some(one)) = (Operand::of(many, step), Operand::of(one, step)) else { continue };
        let (left, right) = match many_side {
            Side::Left => (many, one),
            Side::Right => (one, many),
        };
        match mixed(binary, left, right) {
            Ok(Some(Outcome::Histogram(histogram))) => found.histograms.push((step, histogram)),
            Ok(Some(Outcome::Holds(holds))) => found.values[step] = f64::from(u8::from(holds)),
            Ok(None) => {}
            Err(why) => trouble(step, why),
        }
    }
    found
}

fn drops_name(binary: &Binary) -> bool {
    !(binary.op.is_comparison() || binary.op.is_trim()) || binary.returns_bool
}

fn result_labels(binary: &Binary, many: &TagSet, one: &TagSet) -> TagSet {
    let matching = &binary.matching;
    let mut labels = if drops_name(binary) { without_name(many) } else { many.clone() };
    match &matching.group {
        None if matching.on => labels = Choice::only(&matching.labels).of_labels(&labels),
        None => {
            for label in &matching.labels {
                labels = crate::promql::labels::without(&labels, label);
            }
        }
        Some(group) => {
            for label in &group.include {
                labels = with(&labels, label, one.get(label).unwrap_or_default());
            }
        }
    }
    labels
}

/// `and`, `or`, `unless`.
pub fn sets(
    binary: &Binary,
    mut left: Vec<Series>,
    mut right: Vec<Series>,
    steps: usize,
) -> Result<Vec<Series>> {
    let choice = signature(&binary.matching);
    // Of `or`, the right side is what is filtered.
    let (filtered, other) = match binary.op {
        BinaryOp::Or => (&mut right, &left),
        _ => (&mut left, &right),
    };
    let mut present: HashMap<TagSet, Vec<bool>> = HashMap::new();
    for series in other {
        let present = present.entry(choice.of_labels(&series.labels)).or_insert_with(|| vec![false; steps]);
        series.mark(present);
    }
    let wanted = binary.op == BinaryOp::And;
    for series in filtered {
        match present.get(&choice.of_labels(&series.labels)) {
            Some(present) => series.keep(|step| present[step] == wanted),
            None if wanted => series.keep(|_| false),
            None => {}
        }
    }
    if binary.op == BinaryOp::Or {
        left.append(&mut right);
    }
    joined(left)
}
