//! A parsed query as JSON: what `parse_query` answers.

use serde_json::{Value, json};

use crate::promql::ast::{At, Expr, Extension, Grouping, Matcher, Moved, Node, Selector, Side, Type};
use crate::promql::duration::Duration;
use crate::promql::functions::Function;
use crate::promql::print::number_text;

pub fn tree(expr: &Expr) -> Value {
    match &expr.node {
        Node::Number { value, .. } => json!({ "type": "numberLiteral", "val": number_text(*value) }),
        Node::Text(text) => json!({ "type": "stringLiteral", "val": String::from_utf8_lossy(text) }),
        Node::Selector(selector) => {
            let mut node = json!({
                "type": "vectorSelector",
                "name": selector.name.as_deref().unwrap_or_default(),
                "matchers": matchers(&selector.matchers),
            });
            add_moved(&mut node, &selector.moved);
            add_extension(&mut node, selector);
            node
        }
        Node::Range { selector, range } => {
            let mut node = json!({
                "type": "matrixSelector",
                "name": selector.name.as_deref().unwrap_or_default(),
                "range": range,
                "matchers": matchers(&selector.matchers),
            });
            add_computed(&mut node, "rangeExpr", selector.computed_range.as_deref());
            add_moved(&mut node, &selector.moved);
            add_extension(&mut node, selector);
            node
        }
        Node::Subquery(subquery) => {
            let mut node = json!({
                "type": "subquery",
                "expr": tree(&subquery.inner),
                "range": subquery.range,
                "step": subquery.step.unwrap_or(0),
            });
            add_computed(&mut node, "rangeExpr", subquery.computed_range.as_deref());
            add_computed(&mut node, "stepExpr", subquery.computed_step.as_deref());
            add_moved(&mut node, &subquery.moved);
            node
        }
        Node::Call { function, args } => json!({
            "type": "call",
            "func": function_json(function),
            "args": args.iter().map(tree).collect::<Vec<_>>(),
        }),
        Node::Aggregate(aggregate) => {
            let Grouping { without, labels } = &aggregate.grouping;
            json!({
                "type": "aggregation",
                "op": aggregate.op.name(),
                "expr": tree(&aggregate.inner),
                "param": aggregate.param.as_ref().map(tree),
                "grouping": labels,
                "without": without,
            })
        }
        Node::Binary(binary) => {
            let both_vectors =
                binary.left.returns() == Type::Vector && binary.right.returns() == Type::Vector;
            let group = binary.matching.group.as_ref();
            let card = match group.map(|group| group.many) {
                _ if binary.op.is_set() => "many-to-many",
                None => "one-to-one",
                Some(Side::Left) => "many-to-one",
                Some(Side::Right) => "one-to-many",
            };
            let matching = both_vectors.then(|| {
                json!({
                    "card": card,
                    "labels": binary.matching.labels,
                    "on": binary.matching.on,
                    "include": group.map(|group| group.include.clone()).unwrap_or_default(),
                    "fillValues": { "lhs": binary.matching.fill.left, "rhs": binary.matching.fill.right },
                })
            });
            json!({
                "type": "binaryExpr",
                "op": binary.op.symbol(),
                "lhs": tree(&binary.left),
                "rhs": tree(&binary.right),
                "matching": matching,
                "bool": binary.returns_bool,
            })
        }
        Node::Unary { negative, operand } => {
            json!({ "type": "unaryExpr", "op": if *negative { "-" } else { "+" }, "expr": tree(operand) })
        }
        Node::Paren(inner) => json!({ "type": "parenExpr", "expr": tree(inner) }),
    }
}

/// The text of a duration that is computed; its milliseconds are 0 until the query runs.
fn add_computed(node: &mut Value, name: &str, computed: Option<&Duration>) {
    if let Some(computed) = computed {
        node[name] = json!(computed.to_string());
    }
}

fn add_extension(node: &mut Value, selector: &Selector) {
    node["anchored"] = json!(selector.extension == Some(Extension::Anchored));
    node["smoothed"] = json!(selector.extension == Some(Extension::Smoothed));
}

fn add_moved(node: &mut Value, moved: &Moved) {
    node["offset"] = json!(moved.offset);
    add_computed(node, "offsetExpr", moved.computed_offset.as_deref());
    node["timestamp"] = match moved.at {
        Some(At::Time(time)) => json!(time),
        _ => Value::Null,
    };
    node["startOrEnd"] = match moved.at {
        Some(At::Start) => json!("start"),
        Some(At::End) => json!("end"),
        _ => Value::Null,
    };
}

fn matchers(matchers: &[Matcher]) -> Vec<Value> {
    let one = |matcher: &Matcher| json!({ "name": matcher.label, "type": matcher.test.symbol(), "value": matcher.value });
    matchers.iter().map(one).collect()
}

fn function_json(function: &Function) -> Value {
    let type_name = |kind: &Type| match kind {
        Type::Scalar => "scalar",
        Type::Text => "string",
        Type::Vector => "vector",
        Type::Matrix => "matrix",
    };
    let variadic = if function.repeats { -1 } else { function.optional as i64 };
    json!({
        "name": function.name,
        "argTypes": function.args.iter().map(type_name).collect::<Vec<_>>(),
        "variadic": variadic,
        "returnType": type_name(&function.returns),
    })
}
