//! A tree back to text, and the texts of values: what `format_query`, label sets and samples look like.
//!
//! Invariant: parsing what [`query_text`] prints gives the same tree.

use std::fmt::Write;

use storage_format::point::TagSet;

use crate::promql::ast::{
    Aggregate, At, Binary, Expr, Fill, Grouping, Matcher, Moved, Node, Selector, Side, Subquery,
};
use crate::promql::duration::Duration;
use crate::promql::parse::NAME;

/// The query in lines, as Prometheus' formatter breaks it.
pub fn query_text(expr: &Expr) -> String {
    pretty(expr, 0)
}

/// Characters of a line that is not broken.
const LINE_MAX: usize = 100;

fn indent(level: usize) -> String {
    "  ".repeat(level)
}

/// Without spaces before the first line where the level is 0, as Prometheus does it.
fn pretty(expr: &Expr, level: usize) -> String {
    let whole = line(expr);
    if whole.len() <= LINE_MAX {
        return indent(level) + &whole;
    }
    let here = indent(level);
    match &expr.node {
        Node::Aggregate(aggregate) => {
            let param =
                aggregate.param.as_ref().map(|param| pretty(param, level + 1) + ",\n").unwrap_or_default();
            let inner = pretty(&aggregate.inner, level + 1);
            format!("{here}{}(\n{param}{inner}\n{here})", aggregate_head(aggregate))
        }
        Node::Binary(binary) => {
            let (left, right) = (pretty(&binary.left, level + 1), pretty(&binary.right, level + 1));
            format!("{left}\n{}{}{}\n{right}", indent(level), binary.op.symbol(), binary_modifiers(binary))
        }
        Node::Call { function, args } if !args.is_empty() => {
            let args: Vec<String> = args.iter().map(|arg| pretty(arg, level + 1)).collect();
            format!("{here}{}(\n{}\n{here})", function.name, args.join(",\n"))
        }
        Node::Paren(inner) => format!("{here}(\n{}\n{here})", pretty(inner, level + 1)),
        Node::Subquery(subquery) => format!("{}{}", pretty(&subquery.inner, level), brackets(subquery)),
        Node::Unary { negative, operand } => {
            let inner = pretty(operand, level);
            format!("{here}{}{}", if *negative { "-" } else { "+" }, inner.trim_start())
        }
        _ => here + &whole,
    }
}

fn line(expr: &Expr) -> String {
    match &expr.node {
        Node::Number { value, is_duration: true } => {
            let text = duration_text((value.abs() * 1e3).round() as i64);
            if *value < 0.0 { format!("-{text}") } else { text }
        }
        Node::Number { value, .. } => number_text(*value),
        Node::Text(text) => quoted_bytes(text),
        Node::Selector(selector) => selector_text(selector, ""),
        Node::Range { selector, range } => {
            selector_text(selector, &format!("[{}]", written(*range, selector.computed_range.as_deref())))
        }
        Node::Subquery(subquery) => format!("{}{}", line(&subquery.inner), brackets(subquery)),
        Node::Call { function, args } => {
            let args: Vec<String> = args.iter().map(line).collect();
            format!("{}({})", function.name, args.join(", "))
        }
        Node::Aggregate(aggregate) => {
            let param = aggregate.param.as_ref().map(|param| line(param) + ", ").unwrap_or_default();
            format!("{}({param}{})", aggregate_head(aggregate), line(&aggregate.inner))
        }
        Node::Binary(binary) => {
            let (left, right) = (line(&binary.left), line(&binary.right));
            format!("{left} {}{} {right}", binary.op.symbol(), binary_modifiers(binary))
        }
        Node::Unary { negative, operand } => {
            format!("{}{}", if *negative { "-" } else { "+" }, line(operand))
        }
        Node::Paren(inner) => format!("({})", line(inner)),
    }
}

fn aggregate_head(aggregate: &Aggregate) -> String {
    let Grouping { without, labels } = &aggregate.grouping;
    let name = aggregate.op.name();
    match (without, labels.is_empty()) {
        (true, _) => format!("{name} without ({}) ", labels_text(labels)),
        (false, false) => format!("{name} by ({}) ", labels_text(labels)),
        (false, true) => name.to_string(),
    }
}

fn binary_modifiers(binary: &Binary) -> String {
    let mut text = String::new();
    if binary.returns_bool {
        text.push_str(" bool");
    }
    let matching = &binary.matching;
    if matching.on || !matching.labels.is_empty() || matching.group.is_some() {
        let word = if matching.on { "on" } else { "ignoring" };
        let _ = write!(text, " {word} ({})", labels_text(&matching.labels));
    }
    if let Some(group) = &matching.group {
        let word = if group.many == Side::Left { "group_left" } else { "group_right" };
        let _ = write!(text, " {word} ({})", labels_text(&group.include));
    }
    match matching.fill {
        Fill { left: Some(left), right: Some(right) } if left.to_bits() == right.to_bits() => {
            let _ = write!(text, " fill ({})", number_text(left));
        }
        Fill { left, right } => {
            for (word, value) in [("fill_left", left), ("fill_right", right)] {
                let _ = value.map(|value| write!(text, " {word} ({})", number_text(value)));
            }
        }
    }
    text
}

fn labels_text(labels: &[String]) -> String {
    labels.iter().map(|label| label_name(label)).collect::<Vec<_>>().join(", ")
}

fn brackets(subquery: &Subquery) -> String {
    let range = written(subquery.range, subquery.computed_range.as_deref());
    let step = subquery.step.map(|step| written(step, subquery.computed_step.as_deref()));
    format!("[{range}:{}]{}", step.unwrap_or_default(), moved_text(&subquery.moved))
}

/// A duration as it is computed, if it is.
fn written(milliseconds: i64, computed: Option<&Duration>) -> String {
    computed.map_or_else(|| duration_text(milliseconds), Duration::to_string)
}

fn moved_text(moved: &Moved) -> String {
    let mut text = match moved.at {
        None => String::new(),
        Some(At::Start) => " @ start()".to_string(),
        Some(At::End) => " @ end()".to_string(),
        Some(At::Time(milliseconds)) => {
            let sign = if milliseconds < 0 { "-" } else { "" };
            let milliseconds = milliseconds.unsigned_abs();
            format!(" @ {sign}{}.{:03}", milliseconds / 1000, milliseconds % 1000)
        }
    };
    match moved.offset {
        _ if let Some(computed) = &moved.computed_offset => drop(write!(text, " offset {computed}")),
        0 => {}
        past if past > 0 => drop(write!(text, " offset {}", duration_text(past))),
        future => drop(write!(text, " offset -{}", duration_text(-future))),
    }
    text
}

fn selector_text(selector: &Selector, range: &str) -> String {
    let shown = |matcher: &&Matcher| {
        // The matcher that stands for the name before the braces.
        selector.name.is_none() || matcher.label != NAME
    };
    let matchers: Vec<String> = selector.matchers.iter().filter(shown).map(matcher_text).collect();
    let braces = if matchers.is_empty() && selector.name.is_some() {
        String::new()
    } else {
        format!("{{{}}}", matchers.join(","))
    };
    let name = selector.name.as_deref().unwrap_or_default();
    let extension = selector.extension.map(|extension| format!(" {}", extension.name()));
    format!("{name}{braces}{range}{}{}", extension.unwrap_or_default(), moved_text(&selector.moved))
}

fn matcher_text(matcher: &Matcher) -> String {
    format!("{}{}{}", label_name(&matcher.label), matcher.test.symbol(), quoted(&matcher.value))
}

/// A label's name, in quotes where it needs them.
pub fn label_name(name: &str) -> String {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let plain = starts && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain { name.to_string() } else { quoted(name) }
}

/// `{__name__="a", b="c"}`: in errors Prometheus writes the name as one label among them.
pub fn labels(labels: &TagSet) -> String {
    let pairs = labels.iter().map(|(label, value)| format!("{}={}", label_name(label), quoted(value)));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}

/// As Go quotes: escapes for what cannot be seen.
pub fn quoted(text: &str) -> String {
    quoted_bytes(text.as_bytes())
}

pub fn quoted_bytes(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if (c as u32) < 0x20 || c as u32 == 0x7f => drop(write!(out, "\\x{:02x}", c as u32)),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

/// As Prometheus' `model.Duration` prints: the largest units that divide, in a row.
pub fn duration_text(milliseconds: i64) -> String {
    if milliseconds == 0 {
        return "0s".to_string();
    }
    let mut rest = milliseconds.unsigned_abs();
    let mut out = String::from(if milliseconds < 0 { "-" } else { "" });
    // Years and weeks only where nothing is left below them.
    let units: [(&str, u64, bool); 7] = [
        ("y", 31_536_000_000, true),
        ("w", 604_800_000, true),
        ("d", 86_400_000, false),
        ("h", 3_600_000, false),
        ("m", 60_000, false),
        ("s", 1_000, false),
        ("ms", 1, false),
    ];
    for (unit, size, exact) in units {
        if exact && !rest.is_multiple_of(size) {
            continue;
        }
        if rest / size > 0 {
            let _ = write!(out, "{}{unit}", rest / size);
            rest %= size;
        }
    }
    out
}

/// As Go's `FormatFloat(value, 'f', -1, 64)`: the shortest digits that read back the same, never an exponent.
pub fn number_text(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_string()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_string() } else { "-Inf".to_string() }
    } else {
        value.to_string()
    }
}

/// As Go's `%g`.
pub fn number_g(value: f64) -> String {
    let magnitude = value.abs();
    if !value.is_finite() || value == 0.0 || (1e-4..1e21).contains(&magnitude) {
        return number_text(value);
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').expect("an exponent was asked for");
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::parse;

    #[test]
    fn what_is_printed_is_read_back() {
        let queries = [
            "a",
            "a{b=\"c\",d!~\"e.*\"}",
            "{__name__=~\"a.*\"}",
            "{\"a metric\",\"a label\"=\"x\"}",
            "rate(a[5m])",
            "rate(a{b=\"c\"}[5m] @ 10.500 offset 1h)",
            "max_over_time(rate(a[5m])[1h:1m] @ end() offset -5m)",
            "sum by (a, \"b c\") (x) / on (a) group_left (d) y",
            "sum without () (x)",
            "topk(5, x) or vector(0)",
            "quantile(0.5, x)",
            "-a ^ 2",
            "(a + b) * 2 > bool 1",
            "a and on () b",
            "label_replace(a, \"b\", \"$1\", \"c\", \"(.*)\")",
            "time() - 5m",
            "count_values(\"v\", a)",
            "a + fill(0) b",
            "h </ 5 >/ on (x) b == c",
            "rate(a[5m] anchored offset 1m) + a smoothed @ 5",
            "a > bool on (c) group_left (d) fill_left(-1) fill_right(NaN) fill",
            "rate(a[5m * 2])",
            "a offset (1h / 2)",
            "a offset -(1m + 30s)",
            "a offset step() + 1",
            "max_over_time(rate(a[-5m + max_of(step() * 2 ^ 3, 600)])[range():10s * 2] offset -step())",
            "limit_ratio by (a) (-0.5, x) + limitk(2, y)",
        ];
        for query in queries {
            let parsed = parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
            let printed = query_text(&parsed);
            let again = parse(&printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
            assert_eq!(query_text(&again), printed, "{query}");
        }
    }

    #[test]
    fn numbers_look_as_in_go() {
        let cases = [
            (1.0, "1", "1"),
            (0.1, "0.1", "0.1"),
            (1e21, "1000000000000000000000", "1e+21"),
            (-1e-7, "-0.0000001", "-1e-07"),
        ];
        for (value, plain, general) in cases {
            assert_eq!((number_text(value).as_str(), number_g(value).as_str()), (plain, general));
        }
        assert_eq!(number_text(f64::INFINITY), "+Inf");
        assert_eq!(duration_text(5_400_000), "1h30m");
        assert_eq!(duration_text(90_061_001), "1d1h1m1s1ms");
    }

    #[test]
    fn long_queries_are_broken_into_lines() {
        let long = format!("sum by (job) (rate({}[5m]))", "x".repeat(100));
        let printed = query_text(&parse(&long).unwrap());
        assert_eq!(printed.lines().next(), Some("sum by (job) ("), "{printed}");
        assert!(printed.lines().count() >= 3, "{printed}");
    }
}
