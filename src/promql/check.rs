//! Types of a parsed expression, checked in the order and with the words of Prometheus.
//!
//! Not here: the grammar (`parse`).

use crate::promql::ast::{Binary, Expr, MatchTest, Matcher, Node, Selector, Type};
use crate::promql::functions::{Function, Work};
use crate::promql::parse::{NAME, SyntaxError, is_value};

type Checked = Result<(), SyntaxError>;

pub fn check(expr: &Expr) -> Checked {
    let wrong = |what: String| Err(SyntaxError::new(expr.span, what));
    match &expr.node {
        Node::Number { .. } | Node::Text(_) => Ok(()),
        Node::Paren(inner) => check(inner),
        Node::Selector(selector) | Node::Range { selector, .. } => check_selector(expr, selector),
        Node::Subquery(subquery) => {
            check(&subquery.inner)?;
            match subquery.inner.returns() {
                Type::Vector => Ok(()),
                other => {
                    let name = match other {
                        Type::Matrix => "matrix",
                        other => other.name(),
                    };
                    wrong(format!("subquery is only allowed on instant vector, got {name} instead"))
                }
            }
        }
        Node::Unary { operand, .. } => {
            check(operand)?;
            if is_value(operand.returns()) {
                return Ok(());
            }
            wrong(format!(
                "unary expression only allowed on expressions of type scalar or instant vector, got {:?}",
                operand.returns().name()
            ))
        }
        Node::Aggregate(aggregate) => {
            expect(&aggregate.inner, Type::Vector, "aggregation expression")?;
            match (&aggregate.param, aggregate.op.param()) {
                (Some(param), Some(wanted)) => expect(param, wanted, "aggregation parameter"),
                _ => Ok(()),
            }
        }
        Node::Binary(binary) => check_binary(expr, binary),
        Node::Call { function, args } => check_call(expr, function, args),
    }
}

fn expect(expr: &Expr, wanted: Type, place: &str) -> Checked {
    check(expr)?;
    if expr.returns() == wanted {
        return Ok(());
    }
    let what = format!("expected type {} in {place}, got {}", wanted.name(), expr.returns().name());
    Err(SyntaxError::new(expr.span, what))
}

fn check_selector(expr: &Expr, selector: &Selector) -> Checked {
    if let Some(name) = &selector.name {
        // The last matcher is that of the name before the braces.
        let inside = &selector.matchers[..selector.matchers.len() - 1];
        return match inside.iter().find(|matcher| matcher.label == NAME) {
            None => Ok(()),
            Some(second) => {
                let what = format!("metric name must not be set twice: {name:?} or {:?}", second.value);
                Err(SyntaxError::new(expr.span, what))
            }
        };
    }
    if selector.matchers.iter().any(|matcher| !matches_empty(matcher)) {
        return Ok(());
    }
    Err(SyntaxError::new(expr.span, "vector selector must contain at least one non-empty matcher"))
}

/// Whether a series without the label passes.
pub fn matches_empty(matcher: &Matcher) -> bool {
    let matches =
        |pattern: &str| query_lang::pattern::whole_value(pattern).is_ok_and(|whole| whole.is_match(""));
    match matcher.test {
        MatchTest::Equal => matcher.value.is_empty(),
        MatchTest::NotEqual => !matcher.value.is_empty(),
        MatchTest::Matches => matches(&matcher.value),
        MatchTest::NotMatches => !matches(&matcher.value),
    }
}

fn check_binary(expr: &Expr, binary: &Binary) -> Checked {
    check(&binary.left)?;
    check(&binary.right)?;
    let (left, right) = (binary.left.returns(), binary.right.returns());
    let op = binary.op;
    let at_op = |what: &str| Err(SyntaxError::new(binary.op_span, what));
    let wrong = |what: String| Err(SyntaxError::new(expr.span, what));
    if binary.returns_bool && !op.is_comparison() {
        return at_op("bool modifier can only be used on comparison operators");
    }
    if op.is_comparison() && !binary.returns_bool && (left, right) == (Type::Scalar, Type::Scalar) {
        return at_op("comparisons between scalars must use BOOL modifier");
    }
    let include = binary.matching.group.iter().flat_map(|group| &group.include);
    if binary.matching.on {
        for label in &binary.matching.labels {
            if include.clone().any(|included| included == label) {
                return at_op(&format!("label {label:?} must not occur in ON and GROUP clause at once"));
            }
        }
    }
    for side in [&binary.left, &binary.right] {
        if !is_value(side.returns()) {
            let what = "binary expression must contain only scalar and instant vector types";
            return Err(SyntaxError::new(side.span, what));
        }
    }
    if op.is_trim() && (left, right) == (Type::Scalar, Type::Scalar) {
        return at_op(&format!("operator {:?} not allowed for Scalar operations", op.symbol()));
    }
    let both_vectors = (left, right) == (Type::Vector, Type::Vector);
    if binary.matching.fill.left.or(binary.matching.fill.right).is_some() {
        if op.is_set() {
            return wrong("filling in missing series not allowed for set operators".to_string());
        }
        if !both_vectors {
            return wrong("filling in missing series only allowed between instant vectors".to_string());
        }
    }
    if !both_vectors && !binary.matching.labels.is_empty() {
        return wrong("vector matching only allowed between instant vectors".to_string());
    }
    if both_vectors && op.is_set() && binary.matching.group.is_some() {
        return wrong(format!("no grouping allowed for {:?} operation", op.symbol()));
    }
    if !both_vectors && op.is_set() {
        return wrong(format!("set operator {:?} not allowed in binary scalar expression", op.symbol()));
    }
    Ok(())
}

fn check_call(expr: &Expr, function: &Function, args: &[Expr]) -> Checked {
    let name = function.name;
    let most = function.args.len();
    let least = most - function.optional.max(usize::from(function.repeats));
    let wrong = |expected: String| {
        let what = format!("expected {expected} argument(s) in call to {name:?}, got {}", args.len());
        Err(SyntaxError::new(expr.span, what))
    };
    if least == most && args.len() != most {
        return wrong(most.to_string());
    }
    if args.len() < least {
        return wrong(format!("at least {least}"));
    }
    if args.len() > most && !function.repeats {
        return wrong(format!("at most {most}"));
    }
    for (at, arg) in args.iter().enumerate() {
        if function.work == Work::Info && at == 1 {
            check_info_selector(arg)?;
            continue;
        }
        check(arg)?;
        let wanted = function.args[at.min(most - 1)];
        if arg.returns() != wanted {
            let what = format!(
                "expected type {} in call to function {name:?}, got {}",
                wanted.name(),
                arg.returns().name()
            );
            return Err(SyntaxError::new(arg.span, what));
        }
    }
    Ok(())
}

/// The second argument of `info`: matchers alone, of which all may match the empty value.
fn check_info_selector(arg: &Expr) -> Checked {
    match &arg.node {
        Node::Selector(Selector { name: None, .. }) => Ok(()),
        Node::Selector(_) => {
            let what = "expected label selectors only, got vector selector instead";
            Err(SyntaxError::new(arg.span, what))
        }
        _ => {
            let what = format!(
                "expected label selectors as the second argument to info function, got {}",
                arg.returns().name()
            );
            Err(SyntaxError::new(arg.span, what))
        }
    }
}
