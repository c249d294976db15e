//! Label sets, which are tag sets: what of them operators keep, drop and set.

use storage_format::point::TagSet;

use crate::promql::ast::Grouping;
use crate::promql::parse::NAME;

pub fn without_name(labels: &TagSet) -> TagSet {
    match labels.get(NAME) {
        None => labels.clone(),
        Some(_) => TagSet::from_sorted(labels.iter().filter(|(label, _)| *label != NAME)),
    }
}

/// Which labels count.
#[derive(Clone, Debug)]
pub struct Choice {
    only: bool,
    /// Sorted.
    labels: Vec<String>,
}

impl Choice {
    /// Only these.
    pub fn only(labels: &[String]) -> Choice {
        Choice { only: true, labels: sorted(labels) }
    }

    /// All but these, and not the name.
    pub fn without(labels: &[String]) -> Choice {
        let mut all = labels.to_vec();
        all.push(NAME.to_string());
        Choice { only: false, labels: sorted(&all) }
    }

    pub fn of(grouping: &Grouping) -> Choice {
        match grouping.without {
            true => Choice::without(&grouping.labels),
            false => Choice::only(&grouping.labels),
        }
    }

    pub fn of_labels(&self, labels: &TagSet) -> TagSet {
        match self.only {
            true => labels.project(&self.labels),
            false => TagSet::from_sorted(labels.iter().filter(|(label, _)| !self.names(label))),
        }
    }

    fn names(&self, label: &str) -> bool {
        self.labels.binary_search_by(|known| known.as_str().cmp(label)).is_ok()
    }
}

fn sorted(labels: &[String]) -> Vec<String> {
    let mut labels = labels.to_vec();
    labels.sort();
    labels.dedup();
    labels
}

/// The labels with one more, or another value of one; an empty value takes it away.
pub fn with(labels: &TagSet, label: &str, value: &str) -> TagSet {
    let others = labels.iter().filter(|(known, _)| *known != label);
    TagSet::new(others.chain(std::iter::once((label, value))))
}

pub fn without(labels: &TagSet, label: &str) -> TagSet {
    match labels.get(label) {
        None => labels.clone(),
        Some(_) => TagSet::from_sorted(labels.iter().filter(|(known, _)| *known != label)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_kept_dropped_and_set() {
        let labels = TagSet::new([(NAME, "m"), ("a", "1"), ("b", "2")]);
        let text = |labels: TagSet| crate::promql::print::labels(&labels);
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(text(without_name(&labels)), r#"{a="1", b="2"}"#);
        assert_eq!(text(Choice::only(&names(&["b", "c", "b"])).of_labels(&labels)), r#"{b="2"}"#);
        assert_eq!(text(Choice::only(&names(&[NAME])).of_labels(&labels)), r#"{__name__="m"}"#);
        assert_eq!(text(Choice::without(&names(&["b"])).of_labels(&labels)), r#"{a="1"}"#);
        assert_eq!(text(with(&labels, "A", "3")), r#"{A="3", __name__="m", a="1", b="2"}"#);
        assert_eq!(text(with(&labels, "a", "")), r#"{__name__="m", b="2"}"#);
        assert_eq!(text(without(&labels, "b")), r#"{__name__="m", a="1"}"#);
    }
}
