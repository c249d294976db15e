//! Which rollups can give an answer, and the reason against each other one.
//!
//! Invariant: a rollup is chosen only if every bucket edge of the query is an edge of its buckets, its
//! groups tell apart whatever the query filters or groups by, it holds every point that the query asks for,
//! and it keeps every state that the columns need. Then merging its states gives the raw answer.
//! Not here: which of its buckets are clean, and the ends of the range that no bucket fills (the engine).

use std::cmp::Reverse;
use std::collections::HashSet;

use storage_format::point::{Time, TimeRange, floor_time};

use crate::catalog::RollupInfo;
use crate::plan::{Grouping, OutputColumn, RollupChoice, RollupRejection, TagFilter, Window};
use crate::time::{format_duration, format_time};

/// What a query asks of the points of one table.
#[derive(Clone, Copy, Debug)]
pub struct Need<'a> {
    pub table: &'a str,
    pub filter: &'a TagFilter,
    pub window: &'a Window,
    pub range: TimeRange,
    pub by: &'a Grouping,
    pub columns: &'a [OutputColumn],
    /// Whether single points are looked at: by conditions on fields, or for computed columns.
    pub rowwise: bool,
}

/// Sorts the rollups over the table into those that fit, coarsest first, and the others.
pub fn choose(need: Need<'_>, rollups: &[RollupInfo]) -> (Vec<RollupChoice>, Vec<RollupRejection>) {
    let mut fitting = Vec::new();
    let mut rejected = Vec::new();
    for rollup in rollups.iter().filter(|rollup| rollup.table == need.table) {
        match reason_against(rollup, need) {
            None => fitting.push(rollup),
            Some(reason) => rejected.push(RollupRejection { name: rollup.name.clone(), reason }),
        }
    }
    // Fewer rows first: longer buckets, then fewer groups.
    fitting.sort_by_key(|rollup| (Reverse(rollup.step), tag_count(&rollup.by), rollup.name.as_str()));
    let choice = |rollup: &RollupInfo| RollupChoice {
        name: rollup.name.clone(),
        step: rollup.step,
        origin: rollup.origin,
    };
    (fitting.into_iter().map(choice).collect(), rejected)
}

/// Why the rollup cannot give the answer: a clause that follows "not used: ". None if it can.
pub fn reason_against(rollup: &RollupInfo, need: Need<'_>) -> Option<String> {
    if need.rowwise {
        return Some("conditions on fields and computed columns need the points".to_owned());
    }
    points(rollup, need).or_else(|| groups(rollup, need)).or_else(|| buckets(rollup, need)).or_else(|| {
        let stored =
            |column: &OutputColumn| column.states().iter().all(|state| rollup.states.contains(state));
        let missing = need.columns.iter().find(|column| !stored(column))?;
        Some(match &missing.field {
            Some(field) => format!("it has no {} of {}", missing.function.name(), field.name),
            None => "it has no count of points".to_owned(),
        })
    })
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

/// The rollup holds every point the query asks for if each of its conditions is also one of the query's.
fn points(rollup: &RollupInfo, need: Need<'_>) -> Option<String> {
    let asked = conjuncts(need.filter);
    let implied = conjuncts(&rollup.filter).iter().all(|condition| asked.contains(condition));
    (!implied).then(|| format!("it only holds points where {}", rollup.filter))
}

fn groups(rollup: &RollupInfo, need: Need<'_>) -> Option<String> {
    let Grouping::Tags(kept) = &rollup.by else { return None };
    let Grouping::Tags(by) = need.by else {
        return Some(format!("it is grouped {}, not per series", by_words(kept)));
    };
    let remaining = remaining_filter(need.filter, &rollup.filter);
    let mut wanted = filter_tags(&remaining).into_iter().chain(by.iter().map(String::as_str));
    let missing = wanted.find(|tag| !kept.iter().any(|kept| kept == tag))?;
    Some(format!("it is grouped without tag {missing}"))
}

fn buckets(rollup: &RollupInfo, need: Need<'_>) -> Option<String> {
    let its = format_duration(rollup.step);
    match need.window {
        Window::WholeRange => None,
        Window::Every { step, origin } => {
            let ours = format_duration(*step);
            if step % rollup.step != 0 {
                return Some(format!("its buckets of {its} do not divide {ours}"));
            }
            let shift = i128::from(*origin) - i128::from(rollup.origin);
            let aligned = shift % i128::from(rollup.step) == 0;
            (!aligned).then(|| format!("its buckets of {its} do not start where those of {ours} do"))
        }
        Window::Session { .. } => Some("sessions depend on the time of each point".to_owned()),
        Window::Calendar(calendar) => {
            let start = need.range.start;
            if start == TimeRange::ALL.start || need.range.end == TimeRange::ALL.end {
                return Some(
                    "where days and months begin was not always the same; give the statement a range"
                        .to_owned(),
                );
            }
            let is_edge = |time: Time| floor_time(time, rollup.step, rollup.origin) == time;
            let mut edge = calendar.end_of(start);
            for _ in 0..EDGES_MAX {
                if edge >= need.range.end {
                    return None;
                }
                if !is_edge(edge) {
                    return Some(format!("its buckets of {its} do not begin at {}", format_time(edge)));
                }
                edge = calendar.end_of(edge);
            }
            Some(format!("the range has more than {EDGES_MAX} buckets"))
        }
    }
}

/// Edges of days and months that are looked at one by one.
const EDGES_MAX: usize = 20_000;

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
