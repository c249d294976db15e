//! Syntax tree to canonical text, the partner of `parse`: `parse(x.to_string()) == x`.
//!
//! Invariant: one tree has one text. Names stand bare where they can, texts in double quotes, times in
//! UTC, durations in their largest units.
//! The `TagFilter` of plans is printed here too: it is the same language.

use std::fmt;
use std::fmt::Display;
use std::fmt::Formatter;

use crate::ast::*;
use crate::parse::is_bare_name;
use crate::plan::{Keep, TagFilter, TagTest};
use crate::time::{DAY, format_duration, format_time};

/// Words that mean something else where a name may stand: verbs at the start, `not` in a condition, `keep` after
/// `alter database`.
const QUOTED_WORDS: [&str; 9] =
    ["show", "create", "drop", "alter", "delete", "explain", "let", "not", "keep"];

impl Display for Script {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        joined(f, &self.statements, ";\n")
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl Display for StatementKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            StatementKind::Query(query) => query.fmt(f),
            StatementKind::Show(show) => show.fmt(f),
            StatementKind::CreateRollup(create) => create.fmt(f),
            StatementKind::DropRollup(name) => write!(f, "drop rollup {name}"),
            StatementKind::Alter(alter) => alter.fmt(f),
            StatementKind::Delete(delete) => delete.fmt(f),
            StatementKind::Explain(inner) => write!(f, "explain {inner}"),
        }
    }
}

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)?;
        self.stages.iter().try_for_each(|stage| write!(f, " | {stage}"))
    }
}

impl Display for Source {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)?;
        if self.matchers.is_empty() {
            return Ok(());
        }
        f.write_str("{")?;
        joined(f, &self.matchers, ", ")?;
        f.write_str("}")
    }
}

impl Display for Matcher {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // Tight around symbols, as everybody writes matchers.
        match &self.test {
            TagTest::In(_) | TagTest::NotIn(_) => write!(f, "{} {}", self.tag, self.test),
            _ => write!(f, "{}{}", self.tag, self.test.to_string().replacen(' ', "", 1)),
        }
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            StageKind::Range(range) => range.fmt(f),
            StageKind::Where(condition) => write!(f, "where {condition}"),
            StageKind::Aggregate(aggregate) => aggregate.fmt(f),
            StageKind::Limit(count) => write!(f, "limit {count}"),
        }
    }
}

impl Display for Range {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Range::Last(length) => write!(f, "last {}", format_duration(*length)),
            Range::Since(start) => write!(f, "since {start}"),
            Range::Between(start, end) => write!(f, "between {start} and {end}"),
        }
    }
}

impl Display for TimeLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            TimeLiteral::At(time) => f.write_str(format_time(*time).trim_end_matches("T00:00:00Z")),
            TimeLiteral::Now(0) => f.write_str("now"),
            TimeLiteral::Now(offset) if *offset < 0 => {
                write!(f, "now - {}", format_duration(*offset).trim_start_matches('-'))
            }
            TimeLiteral::Now(offset) => write!(f, "now + {}", format_duration(*offset)),
        }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Test { column, test } => write!(f, "{column} {test}"),
            Expr::And(members) => {
                members_of(f, members, " and ", |m| matches!(m, Expr::And(_) | Expr::Or(_)))
            }
            Expr::Or(members) => members_of(f, members, " or ", |m| matches!(m, Expr::Or(_))),
            Expr::Not(inner) if matches!(**inner, Expr::And(_) | Expr::Or(_)) => write!(f, "not ({inner})"),
            Expr::Not(inner) => write!(f, "not {inner}"),
        }
    }
}

impl Display for Column {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.kind {
            ColumnKind::Either => self.name.fmt(f),
            ColumnKind::Tag => write!(f, "tag({})", self.name),
            ColumnKind::Field => write!(f, "field({})", self.name),
        }
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(step) = self.every {
            write!(f, "every {} ", format_duration(step))?;
        }
        for (index, item) in self.items.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            f.write_str(item.function.name())?;
            match &item.field {
                Some(field) => write!(f, "({field})")?,
                // At the start of a stage a bare `last` is a range.
                None if index == 0 && self.every.is_none() && item.function.name() == "last" => {
                    f.write_str("()")?;
                }
                None => {}
            }
            if let Some(alias) = &item.alias {
                write!(f, " as {alias}")?;
            }
        }
        match self.by.as_deref() {
            None => Ok(()),
            Some([]) => f.write_str(" by ()"),
            Some(tags) => {
                f.write_str(" by ")?;
                joined(f, tags, ", ")
            }
        }
    }
}

impl Display for Show {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Show::Tables => f.write_str("show tables"),
            Show::Rollups => f.write_str("show rollups"),
            Show::Storage => f.write_str("show storage"),
            Show::Tags { table } => write!(f, "show tags from {table}"),
            Show::Fields { table } => write!(f, "show fields from {table}"),
            Show::Values { tag, table } => write!(f, "show values of {tag} from {table}"),
            Show::Series { source } => write!(f, "show series from {source}"),
            Show::Cardinality { source } => write!(f, "show cardinality from {source}"),
        }
    }
}

impl Display for CreateRollup {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "create rollup {} as {}", self.name, self.query)?;
        match self.keep {
            Keep::Default => Ok(()),
            keep => write!(f, " keep {keep}"),
        }
    }
}

impl Display for Alter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "alter {} keep {}", self.target, self.keep)
    }
}

impl Display for AlterTarget {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            AlterTarget::Table(name) => write!(f, "table {name}"),
            AlterTarget::Rollup(name) => write!(f, "rollup {name}"),
            AlterTarget::Database(None) => f.write_str("database"),
            AlterTarget::Database(Some(name)) => write!(f, "database {name}"),
        }
    }
}

/// What stands after `keep`. People count this in days: 30d, not 4w2d.
impl Display for Keep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Keep::For(length) if length % DAY == 0 => write!(f, "{}d", length / DAY),
            Keep::For(length) => f.write_str(&format_duration(*length)),
            Keep::Forever => f.write_str("forever"),
            Keep::Default => f.write_str("default"),
        }
    }
}

impl Display for Delete {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "delete from {}", self.source)?;
        if let Some(condition) = &self.condition {
            write!(f, " where {condition}")?;
        }
        self.range.iter().try_for_each(|range| write!(f, " {range}"))
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_name(f, &self.text)
    }
}

impl Display for TagTest {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            TagTest::Equal(value) => write!(f, "= {}", Quoted(value, '"')),
            TagTest::NotEqual(value) => write!(f, "!= {}", Quoted(value, '"')),
            TagTest::Matches(pattern) => write!(f, "=~ {}", Quoted(pattern, '"')),
            TagTest::NotMatches(pattern) => write!(f, "!~ {}", Quoted(pattern, '"')),
            TagTest::In(values) => values_of(f, "in (", values),
            TagTest::NotIn(values) => values_of(f, "not in (", values),
        }
    }
}

/// As a condition of `where`; [`TagFilter::All`] is the empty text.
impl Display for TagFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let nested = |m: &TagFilter| matches!(m, TagFilter::And(_) | TagFilter::Or(_));
        match self {
            TagFilter::All => Ok(()),
            TagFilter::Match { tag, test } => {
                write_name(f, tag)?;
                write!(f, " {test}")
            }
            TagFilter::And(members) => members_of(f, members, " and ", nested),
            TagFilter::Or(members) => members_of(f, members, " or ", |m| matches!(m, TagFilter::Or(_))),
            TagFilter::Not(inner) if nested(inner) => write!(f, "not ({inner})"),
            TagFilter::Not(inner) => write!(f, "not {inner}"),
        }
    }
}

/// A name as a statement has it: bare, or in backticks.
pub fn name(text: &str) -> String {
    Name::new(text).to_string()
}

fn write_name(f: &mut Formatter<'_>, name: &str) -> fmt::Result {
    if is_bare_name(name) && !QUOTED_WORDS.contains(&name) {
        f.write_str(name)
    } else {
        Quoted(name, '`').fmt(f)
    }
}

struct Quoted<'a>(&'a str, char);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Quoted(text, quote) = self;
        write!(f, "{quote}")?;
        for c in text.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if c == *quote => write!(f, "\\{c}")?,
                c if c.is_control() => write!(f, "\\u{{{:X}}}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        write!(f, "{quote}")
    }
}

fn values_of(f: &mut Formatter<'_>, open: &str, values: &[String]) -> fmt::Result {
    f.write_str(open)?;
    let quoted: Vec<Quoted<'_>> = values.iter().map(|value| Quoted(value, '"')).collect();
    joined(f, &quoted, ", ")?;
    f.write_str(")")
}

fn members_of<T: Display>(
    f: &mut Formatter<'_>,
    members: &[T],
    word: &str,
    needs_parentheses: impl Fn(&T) -> bool,
) -> fmt::Result {
    for (index, member) in members.iter().enumerate() {
        f.write_str(if index == 0 { "" } else { word })?;
        if needs_parentheses(member) { write!(f, "({member})")? } else { member.fmt(f)? }
    }
    Ok(())
}

fn joined<T: Display>(f: &mut Formatter<'_>, items: &[T], separator: &str) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        f.write_str(if index == 0 { "" } else { separator })?;
        item.fmt(f)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
