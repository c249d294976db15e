//! Tokens to a tree: the grammar of PromQL.
//!
//! Our own and not the crate promql-parser, because annotations and errors of Prometheus name their place in the query, which that crate's
//! tree does not hold; because it takes what Prometheus refuses (`or` between matchers, `fill`); and because the errors here are
//! Prometheus' own.
//! Invariant: what comes back has been type-checked (`check`). Trees are no deeper than [`DEPTH_MAX`], so that no query overflows a stack.
//! Not here: what words mean when evaluated (`functions`, `eval`).

mod duration; // in brackets and after `offset`
mod operand; // what operators stand between

use std::fmt;

use crate::promql::ast::{
    Aggregator, At, Binary, BinaryOp, Expr, Extension, Fill, Group, Matcher, Matching, Moved, Node, Selector,
    Side, Span, Type,
};
use crate::promql::check::check;
use crate::promql::lex::{Kind, Token, tokens};

/// Nested parentheses, calls and operators in a row. Each takes some kilobytes of stack when evaluated; threads have 2 MiB.
pub const DEPTH_MAX: usize = 200;

/// What is wrong, and where: Prometheus' sentence without the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    pub span: Span,
    pub what: String,
}

impl SyntaxError {
    pub fn new(span: Span, what: impl Into<String>) -> SyntaxError {
        SyntaxError { span, what: what.into() }
    }

    /// As Prometheus prints it.
    pub fn in_query(&self, query: &str) -> String {
        format!("{}: parse error: {}", place(query, self.span), self.what)
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// `line:column` of where a span begins, columns being bytes.
pub fn place(query: &str, span: Span) -> String {
    if query.is_empty() {
        return "unknown position".to_string();
    }
    let before = &query.as_bytes()[..span.start.min(query.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    format!("{line}:{}", before.len() - line_start + 1)
}

pub fn parse(query: &str) -> Result<Expr, SyntaxError> {
    let mut parser = Parser { tokens: tokens(query)?, at: 0, selectors: 0, depth: 0 };
    if parser.peek() == &Kind::End {
        return Err(SyntaxError::new(Span::default(), "no expression found in input"));
    }
    let mut expr = parser.expr(0)?;
    if parser.peek() != &Kind::End {
        return Err(parser.unexpected("", ""));
    }
    check(&expr)?;
    expr.mark_totals();
    Ok(expr)
}

/// What `match[]` takes: one vector selector.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, SyntaxError> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, selectors: 0, depth: 0 };
    if parser.peek() == &Kind::End {
        return Err(SyntaxError::new(Span::default(), "no expression found in input"));
    }
    let expr = match parser.peek() {
        Kind::Word(_) | Kind::Sign("{") => parser.selector()?,
        _ => return Err(parser.unexpected("", "")),
    };
    if parser.peek() != &Kind::End {
        return Err(parser.unexpected("", ""));
    }
    check(&expr)?;
    match expr.node {
        Node::Selector(selector) => Ok(selector.matchers),
        _ => unreachable!("bug: `selector` gives a selector"),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    selectors: usize,
    depth: usize,
}

/// Words that are never the name of a metric.
const RESERVED: [&str; 6] = ["bool", "on", "ignoring", "group_left", "group_right", "atan2"];

impl Parser {
    fn token(&self) -> &Token {
        &self.tokens[self.at]
    }

    fn peek(&self) -> &Kind {
        &self.token().kind
    }

    fn peek_after(&self) -> &Kind {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].kind
    }

    fn advance(&mut self) -> Token {
        let token = self.token().clone();
        // The end stays.
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn end_of_last(&self) -> usize {
        self.tokens[self.at.saturating_sub(1)].span.end
    }

    /// The word here in lower case.
    fn word(&self) -> Option<String> {
        match self.peek() {
            Kind::Word(word) => Some(word.to_ascii_lowercase()),
            _ => None,
        }
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let found = self.word().is_some_and(|word| word == wanted);
        if found {
            self.advance();
        }
        found
    }

    fn take_sign(&mut self, wanted: &str) -> bool {
        let found = matches!(self.peek(), Kind::Sign(sign) if *sign == wanted);
        if found {
            self.advance();
        }
        found
    }

    fn expect_sign(&mut self, wanted: &str, context: &str, expected: &str) -> Result<(), SyntaxError> {
        if self.take_sign(wanted) { Ok(()) } else { Err(self.unexpected(context, expected)) }
    }

    fn unexpected(&self, context: &str, expected: &str) -> SyntaxError {
        let what = match self.peek() {
            Kind::End => "end of input".to_string(),
            Kind::Word(word) => {
                let lower = word.to_ascii_lowercase();
                if binary_word(&lower).is_some() {
                    format!("<op:{word}>")
                } else if Aggregator::ALL.iter().any(|op| op.name() == lower) {
                    format!("<aggr:{word}>")
                } else if RESERVED.contains(&lower.as_str())
                    || ["by", "without", "offset"].contains(&lower.as_str())
                {
                    format!("<{word}>")
                } else {
                    format!("identifier {word:?}")
                }
            }
            Kind::Number(number) => format!("number \"{number}\""),
            Kind::Duration(milliseconds) => {
                format!("duration {:?}", crate::promql::print::duration_text(*milliseconds))
            }
            Kind::Text(text) => format!("string {:?}", String::from_utf8_lossy(text)),
            Kind::Sign(sign) if binary_sign(sign).is_some() => format!("<op:{sign}>"),
            Kind::Sign(sign) => format!("{sign:?}"),
        };
        let context = if context.is_empty() { String::new() } else { format!(" in {context}") };
        let expected = if expected.is_empty() { String::new() } else { format!(", expected {expected}") };
        SyntaxError::new(self.token().span, format!("unexpected {what}{context}{expected}"))
    }

    /// One level deeper, if that may be.
    fn deeper(&mut self) -> Result<(), SyntaxError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let what =
                format!("the expression nests deeper than {DEPTH_MAX} levels; split it into several queries");
            return Err(SyntaxError::new(self.token().span, what));
        }
        Ok(())
    }

    /// An expression whose operators bind at least as strongly as `weakest`.
    fn expr(&mut self, weakest: u8) -> Result<Expr, SyntaxError> {
        let depth = self.depth;
        self.deeper()?;
        let mut left = self.unary()?;
        while let Some(op) = self.binary_op().filter(|op| op.precedence() >= weakest) {
            // A long row of operators is a deep tree.
            self.deeper()?;
            let op_span = self.advance().span;
            let (returns_bool, matching) = self.modifiers()?;
            let next = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
            let right = self.expr(next)?;
            let span = Span { start: left.span.start, end: right.span.end };
            let binary = Binary { op, op_span, left, right, returns_bool, matching };
            left = Expr { node: Node::Binary(Box::new(binary)), span };
        }
        self.depth = depth;
        Ok(left)
    }

    fn binary_op(&self) -> Option<BinaryOp> {
        match self.peek() {
            Kind::Sign(sign) => binary_sign(sign),
            Kind::Word(word) => binary_word(&word.to_ascii_lowercase()),
            _ => None,
        }
    }

    fn modifiers(&mut self) -> Result<(bool, Matching), SyntaxError> {
        let returns_bool = self.take_word("bool");
        let mut matching = Matching::default();
        matching.on = match self.word().as_deref() {
            Some("on") => true,
            Some("ignoring") => false,
            _ => {
                matching.fill = self.fill()?;
                return Ok((returns_bool, matching));
            }
        };
        self.advance();
        matching.labels = self.labels()?;
        let many = match self.word().as_deref() {
            Some("group_left") => Some(Side::Left),
            Some("group_right") => Some(Side::Right),
            _ => None,
        };
        if let Some(many) = many {
            self.advance();
            let include = if self.peek() == &Kind::Sign("(") { self.labels()? } else { Vec::new() };
            matching.group = Some(Group { many, include });
        }
        matching.fill = self.fill()?;
        Ok((returns_bool, matching))
    }

    /// `fill(1)`, or one or both of `fill_left(1)` and `fill_right(2)`. A metric may have such a name: no parenthesis follows it.
    fn fill(&mut self) -> Result<Fill, SyntaxError> {
        let mut fill = Fill::default();
        while self.peek_after() == &Kind::Sign("(") {
            let sides = match self.word().as_deref() {
                Some("fill") => [Some(&mut fill.left), Some(&mut fill.right)],
                Some("fill_left") => [Some(&mut fill.left), None],
                Some("fill_right") => [None, Some(&mut fill.right)],
                _ => break,
            };
            if sides.iter().flatten().any(|side| side.is_some()) {
                return Err(self.unexpected("fill modifier", "each side to be filled once"));
            }
            self.advance();
            self.advance();
            let sign = self.sign() as f64;
            let value = match self.peek() {
                Kind::Number(value) => *value,
                Kind::Duration(milliseconds) => *milliseconds as f64 / 1e3,
                _ => return Err(self.unexpected("fill modifier", "number")),
            };
            sides.into_iter().flatten().for_each(|side| *side = Some(sign * value));
            self.advance();
            self.expect_sign(")", "fill modifier", "\")\"")?;
        }
        Ok(fill)
    }

    /// `(a, b, "c d")`
    fn labels(&mut self) -> Result<Vec<String>, SyntaxError> {
        self.expect_sign("(", "grouping opts", "\"(\"")?;
        let mut labels = Vec::new();
        while !self.take_sign(")") {
            let token = self.token().clone();
            match token.kind {
                Kind::Word(word) if !word.contains(':') => labels.push(word),
                Kind::Text(text) => match String::from_utf8(text) {
                    Ok(label) if !label.is_empty() => labels.push(label),
                    _ => return Err(SyntaxError::new(token.span, "invalid label name in grouping opts")),
                },
                _ => return Err(self.unexpected("grouping opts", "label")),
            }
            self.advance();
            if !self.take_sign(",") && self.peek() != &Kind::Sign(")") {
                return Err(self.unexpected("grouping opts", "\",\" or \")\""));
            }
        }
        Ok(labels)
    }

    fn unary(&mut self) -> Result<Expr, SyntaxError> {
        let start = self.token().span.start;
        let negative = match self.peek() {
            Kind::Sign("+") => false,
            Kind::Sign("-") => true,
            _ => return self.postfix(),
        };
        self.advance();
        // Weaker than `^`, stronger than what follows `*` in strength.
        let operand = self.expr(BinaryOp::Pow.precedence())?;
        let span = Span { start, end: operand.span.end };
        if let Node::Number { value, is_duration } = operand.node {
            let value = if negative { -value } else { value };
            return Ok(Expr { node: Node::Number { value, is_duration }, span });
        }
        Ok(Expr { node: Node::Unary { negative, operand: Box::new(operand) }, span })
    }

    fn postfix(&mut self) -> Result<Expr, SyntaxError> {
        let mut expr = self.primary()?;
        loop {
            match self.peek() {
                Kind::Sign("[") => expr = self.brackets(expr)?,
                Kind::Sign("@") => self.at_modifier(&mut expr)?,
                Kind::Word(word) if word.eq_ignore_ascii_case("offset") => self.offset(&mut expr)?,
                Kind::Word(word) if word.eq_ignore_ascii_case("anchored") => {
                    self.extension(&mut expr, Extension::Anchored)?;
                }
                Kind::Word(word) if word.eq_ignore_ascii_case("smoothed") => {
                    self.extension(&mut expr, Extension::Smoothed)?;
                }
                _ => return Ok(expr),
            }
            expr.span.end = self.end_of_last();
        }
    }

    fn sign(&mut self) -> i64 {
        if self.take_sign("-") {
            return -1;
        }
        self.take_sign("+");
        1
    }

    fn extension(&mut self, expr: &mut Expr, extension: Extension) -> Result<(), SyntaxError> {
        self.advance();
        let refused = |what: String| Err(SyntaxError::new(expr.span, what));
        match &mut expr.node {
            Node::Selector(Selector { extension: Some(_), .. })
            | Node::Range { selector: Selector { extension: Some(_), .. }, .. } => {
                refused("anchored and smoothed modifiers cannot be used together".to_string())
            }
            Node::Selector(selector) | Node::Range { selector, .. } => {
                selector.extension = Some(extension);
                Ok(())
            }
            Node::Subquery(_) => {
                refused(format!("{} modifier is not supported for subqueries", extension.name()))
            }
            _ => refused(format!("{} modifier not implemented", extension.name())),
        }
    }

    fn at_modifier(&mut self, expr: &mut Expr) -> Result<(), SyntaxError> {
        self.advance();
        let at = match self.word().as_deref() {
            Some(word @ ("start" | "end")) => {
                let at = if word == "start" { At::Start } else { At::End };
                self.advance();
                self.expect_sign("(", "@", "timestamp")?;
                self.expect_sign(")", "@", "timestamp")?;
                at
            }
            _ => {
                let sign = self.sign();
                let token = self.token().clone();
                let seconds = match token.kind {
                    Kind::Number(seconds) => sign as f64 * seconds,
                    Kind::Duration(milliseconds) => sign as f64 * milliseconds as f64 / 1e3,
                    _ => return Err(self.unexpected("@", "timestamp")),
                };
                self.advance();
                let milliseconds = (seconds * 1e3).round();
                if milliseconds.is_nan() || milliseconds.abs() >= i64::MAX as f64 {
                    let what = format!("timestamp out of bounds for @ modifier: {seconds}");
                    return Err(SyntaxError::new(expr.span, what));
                }
                At::Time(milliseconds as i64)
            }
        };
        let Some(moved) = moved(expr) else {
            let what = "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery";
            return Err(SyntaxError::new(expr.span, what));
        };
        if moved.at.is_some() {
            return Err(SyntaxError::new(expr.span, "@ <timestamp> may not be set multiple times"));
        }
        moved.at = Some(at);
        Ok(())
    }
}

/// The label that holds a metric's name.
pub const NAME: &str = "__name__";

/// Where `offset` and `@` of an expression are kept, if it takes them.
fn moved(expr: &mut Expr) -> Option<&mut Moved> {
    match &mut expr.node {
        Node::Selector(selector) | Node::Range { selector, .. } => Some(&mut selector.moved),
        Node::Subquery(subquery) => Some(&mut subquery.moved),
        _ => None,
    }
}

fn binary_sign(sign: &str) -> Option<BinaryOp> {
    Some(match sign {
        "+" => BinaryOp::Add,
        "-" => BinaryOp::Sub,
        "*" => BinaryOp::Mul,
        "/" => BinaryOp::Div,
        "%" => BinaryOp::Mod,
        "^" => BinaryOp::Pow,
        "==" => BinaryOp::Equal,
        "!=" => BinaryOp::NotEqual,
        ">" => BinaryOp::Greater,
        "<" => BinaryOp::Less,
        ">=" => BinaryOp::GreaterEqual,
        "<=" => BinaryOp::LessEqual,
        "</" => BinaryOp::TrimUpper,
        ">/" => BinaryOp::TrimLower,
        _ => return None,
    })
}

fn binary_word(word: &str) -> Option<BinaryOp> {
    Some(match word {
        "and" => BinaryOp::And,
        "or" => BinaryOp::Or,
        "unless" => BinaryOp::Unless,
        "atan2" => BinaryOp::Atan2,
        _ => return None,
    })
}

/// The type that every expression of a query must have somewhere: for the checks.
pub(super) fn is_value(kind: Type) -> bool {
    matches!(kind, Type::Scalar | Type::Vector)
}
