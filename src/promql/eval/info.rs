//! `info`: the labels of info series added to the series that they are about.
//!
//! Invariant: an info series is about the series with the same `instance` and `job`. Of several versions of it the newest at a step counts,
//! so that a series whose info changes goes on under other labels.
//! The second argument is no vector but says which info series and which of their labels are meant. Info series are looked at at the time
//! of the step, whatever `offset` or `@` the series themselves have.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use hashbrown::HashMap;
use storage_format::point::TagSet;

use crate::error::Result;
use crate::promql::ast::{Expr, MatchTest, Matcher, Moved, Node, Selector};
use crate::promql::check::matches_empty;
use crate::promql::eval::{Evaluator, milliseconds};
use crate::promql::failure;
use crate::promql::functions::Work;
use crate::promql::labels::{Choice, with};
use crate::promql::parse::NAME;
use crate::promql::print;
use crate::promql::select::filter;
use crate::promql::value::{ABSENT, Series, Steps, is_absent, joined};
use crate::series::CompiledFilter;

/// The info metric if none is named.
const TARGET_INFO: &str = "target_info";

/// What an info metric is called, where only those are named that are not meant.
const ANY_INFO: &str = ".+_info";

/// What tells which series an info series is about.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// Names the info metric where a call has no second argument.
pub fn complete(expr: &mut Expr) {
    let mut next = expr.selectors().len();
    complete_below(expr, &mut next);
}

fn complete_below(expr: &mut Expr, next: &mut usize) {
    if let Node::Call { function, args } = &mut expr.node
        && function.work == Work::Info
        && args.len() == 1
    {
        let selector = Selector {
            id: *next,
            name: None,
            matchers: vec![named(MatchTest::Equal, TARGET_INFO)],
            moved: Moved::default(),
            extension: None,
            computed_range: None,
            totals_only: false,
        };
        *next += 1;
        args.push(Expr { node: Node::Selector(selector), span: expr.span });
    }
    expr.children_mut().into_iter().for_each(|child| complete_below(child, next));
}

fn named(test: MatchTest, value: &str) -> Matcher {
    Matcher { label: NAME.to_string(), test, value: value.to_string() }
}

/// The second argument of a completed call.
pub fn selector(args: &[Expr]) -> &Selector {
    match args {
        [_, Expr { node: Node::Selector(selector), .. }] => selector,
        _ => unreachable!("bug: the checks let `info` have a selector only, and it is completed"),
    }
}

/// The info series that a selector means.
pub fn matchers(selector: &Selector) -> Vec<Matcher> {
    let mut matchers = selector.matchers.clone();
    let names = || selector.matchers.iter().filter(|matcher| matcher.label == NAME);
    let excludes = |matcher: &Matcher| matches!(matcher.test, MatchTest::NotEqual | MatchTest::NotMatches);
    if names().next().is_none() {
        matchers.push(named(MatchTest::Equal, TARGET_INFO));
    } else if names().all(excludes) {
        matchers.push(named(MatchTest::Matches, ANY_INFO));
    }
    matchers
}

pub fn enrich(evaluator: &Evaluator<'_>, args: &[Expr], steps: Steps) -> Result<Vec<Series>> {
    let base = evaluator.vector(&args[0], steps)?;
    let selector = selector(args);
    let asked = Asked::of(selector)?;
    let infos = evaluator.newest(selector, steps, Some(milliseconds))?;
    let is_base: Vec<bool> = base.series.iter().map(|one| !asked.is_info(one)).collect();
    let bases = base.series.iter().zip(&is_base);
    let known: Vec<HashSet<&str>> = IDENTIFYING
        .iter()
        .map(|label| {
            bases
                .clone()
                .filter(|(_, is_base)| **is_base)
                .filter_map(|(one, _)| one.labels.get(label))
                .collect()
        })
        .collect();
    let mut there = vec![false; steps.count];
    base.series.iter().for_each(|one| one.mark(&mut there));
    let infos = Infos::of(&infos.series, &known, &there)?;
    let mut out = Vec::with_capacity(base.series.len());
    for (one, is_base) in bases {
        evaluator.guard.check()?;
        if *is_base { out.extend(asked.parts(one, &infos, steps)?) } else { out.push(one.clone()) }
    }
    joined(out)
}

/// Info series by name and identifying labels, by their place.
struct Infos<'i> {
    series: &'i [Series],
    names: BTreeSet<&'i str>,
    groups: HashMap<TagSet, Vec<usize>>,
}

impl<'i> Infos<'i> {
    /// Those that are about any series. Fails where two versions are equally new while there are series, at the steps `there`.
    fn of(series: &'i [Series], known: &[HashSet<&str>], there: &[bool]) -> Result<Infos<'i>> {
        let is_about_any = |one: &Series| {
            let mut labels = IDENTIFYING.iter().zip(known);
            known.iter().any(|values| !values.is_empty())
                && labels.all(|(label, values)| {
                    values.is_empty() || values.contains(one.labels.get(label).unwrap_or_default())
                })
        };
        let mut infos = Infos { series, names: BTreeSet::new(), groups: HashMap::new() };
        for (at, one) in series.iter().enumerate().filter(|(_, one)| is_about_any(one)) {
            let name = one.labels.get(NAME).unwrap_or_default();
            infos.names.insert(name);
            infos.groups.entry(signature(&one.labels, name)).or_default().push(at);
        }
        for group in infos.groups.values().filter(|group| group.len() > 1) {
            for step in (0..there.len()).filter(|step| there[*step]) {
                infos.refuse_equal(group, step)?;
            }
        }
        Ok(infos)
    }

    /// When each of a group was written that is there at a step, the newest last.
    fn written(&self, group: &[usize], step: usize) -> Vec<(i64, usize)> {
        let time = |at: &usize| Some(self.series[*at].values[step]).filter(|time| !is_absent(*time));
        let mut written: Vec<(i64, usize)> =
            group.iter().filter_map(|at| Some((time(at)? as i64, *at))).collect();
        written.sort_unstable();
        written
    }

    fn refuse_equal(&self, group: &[usize], step: usize) -> Result<()> {
        match self.written(group, step).as_slice() {
            [.., (before, one), (newest, other)] if before == newest => {
                let text = |at: &usize| print::labels(&self.series[*at].labels);
                Err(failure(format!(
                    "found duplicate series for info metric: existing {} @ {before}, new {} @ {newest}",
                    text(one),
                    text(other)
                )))
            }
            _ => Ok(()),
        }
    }

    /// The newest of each group that is there at a step.
    fn at(&self, groups: &[&Vec<usize>], step: usize) -> Vec<usize> {
        groups.iter().filter_map(|group| self.written(group, step).last().map(|(_, at)| *at)).collect()
    }
}

fn signature(labels: &TagSet, name: &str) -> TagSet {
    with(&Choice::only(&IDENTIFYING.map(str::to_string)).of_labels(labels), NAME, name)
}

/// What the second argument says.
struct Asked<'a> {
    /// Of names, if it says any.
    names: Option<CompiledFilter>,
    data: Vec<&'a Matcher>,
}

impl<'a> Asked<'a> {
    fn of(selector: &'a Selector) -> Result<Asked<'a>> {
        let (names, data): (Vec<_>, Vec<_>) =
            selector.matchers.iter().partition(|matcher| matcher.label == NAME);
        let meant = matchers(selector);
        let of_names = || filter(meant.iter().filter(|matcher| matcher.label == NAME));
        Ok(Asked { names: (!names.is_empty()).then(of_names).transpose()?, data })
    }

    /// Whether a series is an info series itself, which stays as it is.
    fn is_info(&self, series: &Series) -> bool {
        let name = series.labels.get(NAME).unwrap_or_default();
        self.names.as_ref().is_some_and(|names| names.passes(&TagSet::new([(NAME, name)])))
    }

    /// A series under the labels that it has at each step: as many as its info series have versions.
    fn parts(&self, base: &Series, infos: &Infos<'_>, steps: Steps) -> Result<Vec<Series>> {
        let of_name = |name: &&str| infos.groups.get(&signature(&base.labels, name));
        let groups: Vec<&Vec<usize>> = infos.names.iter().filter_map(of_name).collect();
        let mut parts: Vec<(Vec<usize>, Option<Series>)> = Vec::new();
        for step in (0..steps.count).filter(|step| base.is_at(*step)) {
            let version = infos.at(&groups, step);
            let place = match parts.iter().position(|(known, _)| *known == version) {
                Some(place) => place,
                None => {
                    let newest: Vec<&Series> = version.iter().map(|at| &infos.series[*at]).collect();
                    let labels = self.labels(&base.labels, &newest)?;
                    let part = labels.map(|labels| Series::floats(labels, vec![ABSENT; steps.count]));
                    parts.push((version, part));
                    parts.len() - 1
                }
            };
            if let Some(part) = &mut parts[place].1 {
                part.values[step] = base.values[step];
                part.histograms.extend(base.histogram(step).map(|histogram| (step, histogram.clone())));
            }
        }
        Ok(parts.into_iter().filter_map(|(_, part)| part).collect())
    }

    /// The labels of a series and of its info series. None if it needs one that it does not have.
    fn labels(&self, base: &TagSet, infos: &[&Series]) -> Result<Option<TagSet>> {
        if infos.is_empty() && !self.data.iter().all(|matcher| matches_empty(matcher)) {
            return Ok(None);
        }
        let is_asked = |label: &str| {
            label != NAME && (self.data.is_empty() || self.data.iter().any(|matcher| matcher.label == label))
        };
        let mut added: BTreeMap<&str, &str> = BTreeMap::new();
        for (label, value) in infos.iter().flat_map(|info| info.labels.iter()) {
            if !is_asked(label) || base.get(label).is_some() {
                continue;
            }
            if added.insert(label, value).is_some_and(|before| before != value) {
                return Err(failure(format!("conflicting label: {label}")));
            }
        }
        Ok(Some(TagSet::new(base.iter().chain(added))))
    }
}
