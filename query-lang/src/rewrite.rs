//! Which rollups can give an answer, and the reason against each other one.
//!
//! Invariant: a rollup is chosen only if every bucket edge of the query is an edge of its buckets (of days and months: of
//! most, and whoever reads leaves out the buckets that an edge parts), its groups tell apart whatever the query filters
//! or groups by, it holds exactly the points that the query asks for but for conditions on its own groups, and it keeps
//! every state that the columns need. Then merging its states gives the raw answer.
//! Not here: which of its buckets are clean, and the ends of the range that no bucket fills (the engine).

use std::cmp::Reverse;
use std::collections::HashSet;

use crate::catalog::{RollupInfo, StateSpec};
use crate::pattern;
use crate::plan::{
    Computed, Grouping, OutputColumn, RollupChoice, RollupRejection, TagFilter, TagTest, Window,
};
use crate::print;
use crate::scalar::{ColumnRole, Scalar};

/// What a query asks of the points of one table.
#[derive(Clone, Copy, Debug)]
pub struct Need<'a> {
    pub table: &'a str,
    pub filter: &'a TagFilter,
    /// Columns of points, each from those before it.
    pub computed: &'a [Computed],
    /// Which points count, beside the filter.
    pub condition: Option<&'a Scalar>,
    pub window: &'a Window,
    pub by: &'a Grouping,
    pub columns: &'a [OutputColumn],
    pub states: &'a [StateSpec],
}

/// Sorts the rollups over the table into those that fit, coarsest first, and the others.
pub fn choose(need: Need<'_>, rollups: &[RollupInfo]) -> (Vec<RollupChoice>, Vec<RollupRejection>) {
    let mut fitting = Vec::new();
    let mut rejected = Vec::new();
    for rollup in rollups.iter().filter(|rollup| rollup.table == need.table) {
        match fit(rollup, need) {
            Ok(places) => fitting.push((rollup, places)),
            Err(reason) => rejected.push(RollupRejection { name: rollup.name.clone(), reason }),
        }
    }
    // Fewer rows first: longer buckets, then fewer groups.
    fitting.sort_by_key(|(rollup, _)| {
        (Reverse(rollup.window.width()), tag_count(rollup.groups()), rollup.name.as_str())
    });
    let choice = |(rollup, places): (&RollupInfo, Vec<usize>)| RollupChoice {
        name: rollup.name.clone(),
        window: rollup.window.clone(),
        places,
        filter: remaining_filter(need.filter, &rollup.filter),
        definition: rollup.definition.clone(),
    };
    (fitting.into_iter().map(choice).collect(), rejected)
}

/// Where the wanted states stand among the rollup's, or why it cannot give the answer: a clause that follows "not used: ".
pub fn fit(rollup: &RollupInfo, need: Need<'_>) -> Result<Vec<usize>, String> {
    points(rollup, need)?;
    conditions(rollup, need)?;
    groups(rollup, need)?;
    rollup.window.divides(need.window)?;
    states(rollup, need)
}

/// What is left of a query's filter on the rows of a rollup that fits: the rollup's own conditions hold for
/// all its rows already, and their tags need not be columns of it.
pub fn remaining_filter(query: &TagFilter, rollup: &TagFilter) -> TagFilter {
    let held = conjuncts(rollup);
    all_of(conjuncts(query).into_iter().filter(|condition| !held.contains(condition)).cloned())
}

/// The conditions joined by `and`, each once, without `All` and without an `And` inside an `And`.
pub fn all_of(filters: impl IntoIterator<Item = TagFilter>) -> TagFilter {
    let filters: Vec<TagFilter> = filters.into_iter().collect();
    let mut seen = HashSet::new();
    let distinct = filters.iter().flat_map(conjuncts).filter(|condition| seen.insert(*condition));
    let mut flat: Vec<TagFilter> = distinct.cloned().collect();
    match flat.len() {
        0 => TagFilter::All,
        1 => flat.remove(0),
        _ => TagFilter::And(flat),
    }
}

/// The tags a filter looks at, in order of appearance, each once.
pub fn filter_tags(filter: &TagFilter) -> Vec<&str> {
    let mut tags = Vec::new();
    collect_tags(filter, &mut tags);
    tags
}

// The checks, in the order of how much they say: other points, other groups, other buckets.

/// Each of the rollup's conditions on tags has to be one of the query's, or follow from one.
fn points(rollup: &RollupInfo, need: Need<'_>) -> Result<(), String> {
    let asked = conjuncts(need.filter);
    let held = |own: &&TagFilter| asked.iter().any(|asked| implies(asked, own));
    match conjuncts(&rollup.filter).iter().all(held) {
        true => Ok(()),
        false => Err(format!("it only holds points where {}", rollup.filter)),
    }
}

/// Conditions on single points, and those have to be the same ones.
fn conditions(rollup: &RollupInfo, need: Need<'_>) -> Result<(), String> {
    let asked = inlined_conjuncts(need.condition, need.computed);
    let held = inlined_conjuncts(rollup.condition.as_ref(), &rollup.computed);
    if let Some(own) = held.iter().find(|own| !asked.contains(own)) {
        return Err(format!("it only holds points where {own}"));
    }
    match asked.iter().find(|asked| !held.contains(asked)) {
        Some(asked) => Err(format!("it also holds points for which {asked} is not true")),
        None => Ok(()),
    }
}

fn inlined_conjuncts(condition: Option<&Scalar>, computed: &[Computed]) -> Vec<Scalar> {
    let inlined = condition.map(|condition| inlined(condition, computed));
    inlined.iter().flat_map(Scalar::conjuncts).cloned().collect()
}

/// An expression without computed columns: of what is stored alone.
fn inlined(scalar: &Scalar, computed: &[Computed]) -> Scalar {
    scalar.with_columns(&|column| {
        let at = computed
            .iter()
            .position(|known| column.role == ColumnRole::Value && known.name == column.name)?;
        Some(inlined(&computed[at].value, &computed[..at]))
    })
}

/// What a state is of, without names that a statement has given.
fn meaning(state: &StateSpec, computed: &[Computed]) -> Option<Scalar> {
    let field = state.field.as_ref()?;
    let column = Scalar::column(field.name.as_str(), ColumnRole::Value, field.field_type.into());
    Some(inlined(&column, computed))
}

fn states(rollup: &RollupInfo, need: Need<'_>) -> Result<Vec<usize>, String> {
    let own: Vec<Option<Scalar>> =
        rollup.states.iter().map(|state| meaning(state, &rollup.computed)).collect();
    let place = |wanted: &StateSpec| {
        let of = meaning(wanted, need.computed);
        let mut states = rollup.states.iter().zip(&own);
        states.position(|(state, own)| state.kind == wanted.kind && *own == of)
    };
    let places: Option<Vec<usize>> = need.states.iter().map(place).collect();
    places.ok_or_else(|| {
        let lacks = |column: &&OutputColumn| column.states().iter().any(|state| place(state).is_none());
        match need.columns.iter().find(lacks).and_then(|column| column.field.as_ref().map(|f| (column, f))) {
            Some((column, field)) => {
                format!("it has no {} of {}", column.function.name(), print::name(&field.name))
            }
            None => "it has no count of points".to_owned(),
        }
    })
}

/// Whether what passes the first passes the second.
fn implies(asked: &TagFilter, own: &TagFilter) -> bool {
    if asked == own {
        return true;
    }
    let TagFilter::Match { tag, test } = asked else { return false };
    match test {
        TagTest::Equal(value) => passes(own, tag, value) == Some(true),
        TagTest::In(values) => values.iter().all(|value| passes(own, tag, value) == Some(true)),
        _ => false,
    }
}

/// Whether a series whose tag has this value passes. None if that depends on other tags.
fn passes(filter: &TagFilter, of: &str, value: &str) -> Option<bool> {
    let passes_all = |members: &[TagFilter], wanted: bool| {
        let verdicts: Vec<Option<bool>> = members.iter().map(|member| passes(member, of, value)).collect();
        if verdicts.contains(&Some(!wanted)) {
            return Some(!wanted);
        }
        verdicts.iter().all(Option::is_some).then_some(wanted)
    };
    match filter {
        TagFilter::All => Some(true),
        TagFilter::Match { tag, .. } if tag != of => None,
        TagFilter::Match { test, .. } => match test {
            TagTest::Equal(own) => Some(own == value),
            TagTest::NotEqual(own) => Some(own != value),
            TagTest::In(list) => Some(list.iter().any(|own| own == value)),
            TagTest::NotIn(list) => Some(!list.iter().any(|own| own == value)),
            TagTest::Matches(text) => Some(pattern::whole_value(text).ok()?.is_match(value)),
            TagTest::NotMatches(text) => Some(!pattern::whole_value(text).ok()?.is_match(value)),
        },
        TagFilter::And(members) => passes_all(members, true),
        TagFilter::Or(members) => passes_all(members, false),
        TagFilter::Not(inner) => passes(inner, of, value).map(|passes| !passes),
    }
}

fn groups(rollup: &RollupInfo, need: Need<'_>) -> Result<(), String> {
    let Grouping::Tags(kept) = rollup.groups() else { return Ok(()) };
    let Grouping::Tags(by) = need.by else {
        return Err(format!("it is grouped {}, not per series", by_words(kept)));
    };
    let remaining = remaining_filter(need.filter, &rollup.filter);
    let mut wanted = filter_tags(&remaining).into_iter().chain(by.iter().map(String::as_str));
    match wanted.find(|tag| !kept.iter().any(|kept| kept == tag)) {
        Some(missing) => Err(format!("it is grouped without tag {missing}")),
        None => Ok(()),
    }
}

fn by_words(tags: &[String]) -> String {
    if tags.is_empty() { "into one group".to_owned() } else { format!("by {}", tags.join(", ")) }
}

fn tag_count(by: &Grouping) -> usize {
    match by {
        Grouping::Series => usize::MAX,
        Grouping::Tags(tags) => tags.len(),
    }
}

fn conjuncts(filter: &TagFilter) -> Vec<&TagFilter> {
    match filter {
        TagFilter::All => Vec::new(),
        TagFilter::And(members) => members.iter().flat_map(conjuncts).collect(),
        condition => vec![condition],
    }
}

fn collect_tags<'a>(filter: &'a TagFilter, tags: &mut Vec<&'a str>) {
    match filter {
        TagFilter::All => {}
        TagFilter::Match { tag, .. } if tags.contains(&tag.as_str()) => {}
        TagFilter::Match { tag, .. } => tags.push(tag),
        TagFilter::And(members) | TagFilter::Or(members) => {
            members.iter().for_each(|member| collect_tags(member, tags));
        }
        TagFilter::Not(inner) => collect_tags(inner, tags),
    }
}

#[cfg(test)]
mod tests;
