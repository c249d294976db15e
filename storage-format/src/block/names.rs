//! Column names that no reader confuses: DuckDB and Spark ignore case, and a tag and a field of one
//! table may be called alike.
//!
//! Invariant: the result depends on the names only, is distinct without regard to case, and never
//! `time`, nor `labels` where there is such a map. The footer keeps the original names, so this choice binds no reader of ours.

use std::collections::{HashMap, HashSet};

pub const TIME_COLUMN: &str = "time";

/// The map of the tags that have no columns.
pub const LABELS_COLUMN: &str = "labels";

/// The columns of tags, then those of fields, each in the order given. `reserved` are those that are neither.
pub fn column_names(tags: &[&str], fields: &[&str], reserved: &[&str]) -> (Vec<String>, Vec<String>) {
    let count = |names: &[&str]| {
        let mut counts: HashMap<String, usize> = HashMap::new();
        names.iter().for_each(|name| *counts.entry(folded(name)).or_default() += 1);
        counts
    };
    let (tag_counts, field_counts) = (count(tags), count(fields));
    let mut taken: HashSet<String> = reserved.iter().map(|name| folded(name)).collect();
    let mut name_all = |names: &[&str], suffix: &str, others: &HashMap<String, usize>| {
        names
            .iter()
            .map(|name| {
                let clashes = others.contains_key(&folded(name)) || reserved.contains(&folded(name).as_str());
                let base = if clashes { format!("{name}.{suffix}") } else { (*name).to_owned() };
                claim(&mut taken, base)
            })
            .collect()
    };
    let tag_columns = name_all(tags, "tag", &field_counts);
    let field_columns = name_all(fields, "field", &tag_counts);
    (tag_columns, field_columns)
}

/// `base`, or the first of `base.2`, `base.3`, ... that is free.
fn claim(taken: &mut HashSet<String>, base: String) -> String {
    let mut name = base.clone();
    let mut number = 2;
    while !taken.insert(folded(&name)) {
        name = format!("{base}.{number}");
        number += 1;
    }
    name
}

fn folded(name: &str) -> String {
    name.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alike_names_get_suffixes() {
        let cases: [(&[&str], &[&str], &[&str], &[&str]); 5] = [
            (&["host"], &["usage"], &["host"], &["usage"]),
            (&["host"], &["host"], &["host.tag"], &["host.field"]),
            (&["Host"], &["host"], &["Host.tag"], &["host.field"]),
            (&["Time"], &["v", "V", "TIME"], &["Time.tag"], &["v", "V.2", "TIME.field"]),
            (&["a", "a.tag"], &["a"], &["a.tag", "a.tag.2"], &["a.field"]),
        ];
        for (tags, fields, tag_columns, field_columns) in cases {
            let (got_tags, got_fields) = column_names(tags, fields, &[TIME_COLUMN]);
            assert_eq!(got_tags, tag_columns, "{tags:?} {fields:?}");
            assert_eq!(got_fields, field_columns, "{tags:?} {fields:?}");
        }
        let reserved = [TIME_COLUMN, LABELS_COLUMN];
        let (tags, fields) = column_names(&["Labels", "labels", "labels.tag"], &["value"], &reserved);
        assert_eq!(tags, ["Labels.tag", "labels.tag.2", "labels.tag.3"]);
        assert_eq!(fields, ["value"]);
    }
}
