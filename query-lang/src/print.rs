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
use crate::plan::{Function, Keep, Late, TagFilter, TagTest};
use crate::time::{DAY, format_duration, format_months, format_time};

/// Words that mean something else where a name may stand: verbs at the start, `not` and values in an expression, `keep`
/// after `alter database`.
const QUOTED_WORDS: [&str; 16] = [
    "show", "create", "drop", "alter", "delete", "explain", "let", "pause", "resume", "refresh", "not",
    "keep", "true", "false", "null", "now",
];

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
            StatementKind::Let(named) => write!(f, "let {} = {}", named.name, named.query),
            StatementKind::Show(show) => show.fmt(f),
            StatementKind::CreateRollup(create) => create.fmt(f),
            StatementKind::DropRollup(name) => write!(f, "drop rollup {name}"),
            StatementKind::Alter(alter) => alter.fmt(f),
            StatementKind::ChangeRollup(change) => change.fmt(f),
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
            StageKind::Extend(assignments) => {
                f.write_str("extend ")?;
                joined(f, assignments, ", ")
            }
            StageKind::Aggregate(aggregate) => aggregate.fmt(f),
            StageKind::Fill(fill) => fill.fmt(f),
            StageKind::Sort(keys) => {
                f.write_str("sort ")?;
                joined(f, keys, ", ")
            }
            StageKind::Rank(rank) => rank.fmt(f),
            StageKind::Limit(Limit { count, offset: 0 }) => write!(f, "limit {count}"),
            StageKind::Limit(Limit { count, offset }) => write!(f, "limit {count} offset {offset}"),
            StageKind::Join(join) => join.fmt(f),
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
            TimeLiteral::At(time) => f.write_str(&format_time(*time)),
            TimeLiteral::Civil(time) => {
                let text = format_time(*time);
                f.write_str(text.trim_end_matches("T00:00:00Z").trim_end_matches('Z'))
            }
            TimeLiteral::Now(0) => f.write_str("now"),
            TimeLiteral::Now(offset) if *offset < 0 => {
                write!(f, "now - {}", format_duration(*offset).trim_start_matches('-'))
            }
            TimeLiteral::Now(offset) => write!(f, "now + {}", format_duration(*offset)),
        }
    }
}

/// How tightly an expression holds together: what binds looser than its place asks stands in parentheses.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Binding {
    Or,
    And,
    Not,
    Comparison,
    Sum,
    Product,
    Sign,
    Primary,
}

fn binding(expr: &Expr) -> Binding {
    match &expr.kind {
        ExprKind::Or(_) => Binding::Or,
        ExprKind::And(_) => Binding::And,
        ExprKind::Not(_) => Binding::Not,
        ExprKind::Match { .. } | ExprKind::In { .. } => Binding::Comparison,
        ExprKind::Binary { operator, .. } => match operator {
            Operator::Add | Operator::Subtract => Binding::Sum,
            Operator::Multiply | Operator::Divide | Operator::Remainder => Binding::Product,
            _ => Binding::Comparison,
        },
        ExprKind::Negate(_) => Binding::Sign,
        ExprKind::Column(_) | ExprKind::Literal(_) | ExprKind::Call { .. } => Binding::Primary,
    }
}

/// An expression where only what binds as tightly as this can stand bare.
struct At<'a>(&'a Expr, Binding);

impl Display for At<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let At(expr, least) = self;
        if binding(expr) < *least { write!(f, "({expr})") } else { expr.fmt(f) }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let negation = |negated: bool| if negated { "not " } else { "" };
        match &self.kind {
            ExprKind::Column(column) => column.fmt(f),
            ExprKind::Literal(literal) => literal.fmt(f),
            ExprKind::Negate(inner) => write!(f, "-{}", At(inner, Binding::Sign)),
            ExprKind::Not(inner) => write!(f, "not {}", At(inner, Binding::Not)),
            ExprKind::And(members) => {
                joined(f, &members.iter().map(|member| At(member, Binding::Not)).collect::<Vec<_>>(), " and ")
            }
            ExprKind::Or(members) => {
                joined(f, &members.iter().map(|member| At(member, Binding::And)).collect::<Vec<_>>(), " or ")
            }
            ExprKind::Binary { operator, left, right } => {
                // Sums and products are read from the left; comparisons stand alone.
                let (on_left, on_right) = match binding(self) {
                    Binding::Sum => (Binding::Sum, Binding::Product),
                    Binding::Product => (Binding::Product, Binding::Sign),
                    _ => (Binding::Sum, Binding::Sum),
                };
                write!(f, "{} {} {}", At(left, on_left), operator.symbol(), At(right, on_right))
            }
            ExprKind::Match { value, pattern, negated } => {
                let symbol = if *negated { "!~" } else { "=~" };
                write!(f, "{} {symbol} {}", At(value, Binding::Sum), Quoted(pattern, '"'))
            }
            ExprKind::In { value, list, negated } => {
                write!(f, "{} {}in (", At(value, Binding::Sum), negation(*negated))?;
                joined(f, list, ", ")?;
                f.write_str(")")
            }
            ExprKind::Call { function, arguments } => {
                write!(f, "{function}(")?;
                joined(f, arguments, ", ")?;
                f.write_str(")")
            }
        }
    }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Null => f.write_str("null"),
            Literal::Bool(value) => value.fmt(f),
            Literal::Int(value) => value.fmt(f),
            Literal::Float(value) => f.write_str(&float(*value)),
            Literal::Text(text) => Quoted(text, '"').fmt(f),
            Literal::Duration(length) => f.write_str(&format_duration(*length)),
            Literal::Time(time) => time.fmt(f),
        }
    }
}

/// A float that is read as a float again: with a point or a power.
pub(crate) fn float(value: f64) -> String {
    let plain = value.to_string();
    match plain.contains(['.', 'e']) {
        true => plain,
        false if plain.len() <= 17 => format!("{plain}.0"),
        false => format!("{value:e}"),
    }
}

impl Display for Assignment {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.name, self.value)
    }
}

impl Display for Fill {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.how {
            FillHow::Null => f.write_str("fill null")?,
            FillHow::Previous => f.write_str("fill previous")?,
            FillHow::Linear => f.write_str("fill linear")?,
            FillHow::Value(value) => write!(f, "fill {value}")?,
        }
        self.max.iter().try_for_each(|max| write!(f, " max {}", format_duration(*max)))
    }
}

impl Display for SortKey {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.column, if self.descending { " desc" } else { "" })
    }
}

impl Display for Rank {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let word = if self.largest { "top" } else { "bottom" };
        write!(f, "{word} {} by {}", self.count, self.column)?;
        if !self.per.is_empty() {
            f.write_str(" per ")?;
            joined(f, &self.per, ", ")?;
        }
        Ok(())
    }
}

impl Display for Join {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let word = match self.kind {
            JoinKind::Inner => "",
            JoinKind::Left => "left ",
            JoinKind::Asof { .. } => "asof ",
        };
        write!(f, "{word}join {} on ", self.right)?;
        joined(f, &self.on, ", ")?;
        match self.kind {
            JoinKind::Asof { within: Some(within) } => write!(f, " within {}", format_duration(within)),
            _ => Ok(()),
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
        self.window.fmt(f)?;
        for (index, item) in self.items.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            // At the start of a stage a bare `last` is a range.
            if index == 0 && self.window == Window::Whole && item.is_bare(Function::Last) {
                f.write_str("last()")?;
                item.alias.iter().try_for_each(|alias| write!(f, " as {alias}"))?;
                continue;
            }
            item.fmt(f)?;
        }
        match self.by.as_deref() {
            None => {}
            Some([]) => f.write_str(" by ()")?,
            Some(tags) => {
                f.write_str(" by ")?;
                joined(f, tags, ", ")?;
            }
        }
        self.zone.iter().try_for_each(|zone| write!(f, " in {}", Quoted(&zone.text, '"')))
    }
}

/// With a blank after it, if there is anything.
impl Display for Window {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Window::Whole => Ok(()),
            Window::Session { gap } => write!(f, "session {} ", format_duration(*gap)),
            Window::Every { step, over, offset } => {
                match step {
                    Step::Length(length) => write!(f, "every {} ", format_duration(*length))?,
                    Step::Months(months) => write!(f, "every {} ", format_months(*months))?,
                }
                over.iter().try_for_each(|over| write!(f, "over {} ", format_duration(*over)))?;
                offset.iter().try_for_each(|offset| write!(f, "offset {} ", format_duration(*offset)))
            }
        }
    }
}

impl Item {
    /// Whether it is the function without a field.
    fn is_bare(&self, function: Function) -> bool {
        self.function == function && self.field.is_none() && !self.every_field
    }
}

impl Display for Item {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.every_field, self.function.number()) {
            (true, None) => write!(f, "{}(*)", self.function.name())?,
            (true, Some(number)) => write!(f, "{}(*, {number})", self.function.name())?,
            (false, _) => {
                f.write_str(&item(self.function, self.field.as_ref().map(|field| field.text.as_str())))?;
            }
        }
        self.alias.iter().try_for_each(|alias| write!(f, " as {alias}"))
    }
}

/// A function with its field, as a statement has it.
pub fn item(function: Function, field: Option<&str>) -> String {
    let function_name = function.name();
    match (field.map(name), function.number()) {
        (Some(field), None) => format!("{function_name}({field})"),
        (Some(field), Some(number)) => format!("{function_name}({field}, {number})"),
        (None, Some(number)) => format!("{function_name}({number})"),
        (None, None) => function_name.into_owned(),
    }
}

impl Display for Show {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Show::Tables => f.write_str("show tables"),
            Show::Rollups => f.write_str("show rollups"),
            Show::Metrics => f.write_str("show metrics"),
            Show::Storage => f.write_str("show storage"),
            Show::Tags { table } => write!(f, "show tags from {table}"),
            Show::Fields { table } => write!(f, "show fields from {table}"),
            Show::Values { tag, source } => write!(f, "show values of {tag} from {source}"),
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
        write!(f, "alter {}", self.target)?;
        self.keep.iter().try_for_each(|keep| write!(f, " keep {keep}"))?;
        self.late.iter().try_for_each(|late| write!(f, " late {late}"))
    }
}

impl Display for ChangeRollup {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.change {
            RollupChange::Add(items) => {
                write!(f, "alter rollup {name} add ")?;
                joined(f, items, ", ")
            }
            RollupChange::Drop(items) => {
                write!(f, "alter rollup {name} drop ")?;
                joined(f, items, ", ")
            }
            RollupChange::Pause => write!(f, "pause rollup {name}"),
            RollupChange::Resume => write!(f, "resume rollup {name}"),
            RollupChange::Refresh(range, _) => {
                write!(f, "refresh rollup {name}")?;
                range.iter().try_for_each(|range| write!(f, " {range}"))
            }
        }
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

/// What stands after `late`.
impl Display for Late {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Late::Merge => "merge",
            Late::Refuse => "refuse",
        })
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
