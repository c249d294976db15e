//! What operators stand between: literals, selectors, calls and aggregations.

use crate::promql::ast::{
    Aggregate, Aggregator, Expr, Grouping, MatchTest, Matcher, Moved, Node, Selector, Span,
};
use crate::promql::functions;
use crate::promql::lex::Kind;
use crate::promql::parse::{NAME, Parser, RESERVED, SyntaxError, binary_word};

impl Parser {
    pub(super) fn primary(&mut self) -> Result<Expr, SyntaxError> {
        let token = self.token().clone();
        let start = token.span.start;
        match token.kind {
            Kind::Number(value) => {
                self.advance();
                Ok(Expr { node: Node::Number { value, is_duration: false }, span: token.span })
            }
            Kind::Duration(milliseconds) => {
                self.advance();
                let value = milliseconds as f64 / 1e3;
                Ok(Expr { node: Node::Number { value, is_duration: true }, span: token.span })
            }
            Kind::Text(text) => {
                self.advance();
                Ok(Expr { node: Node::Text(text), span: token.span })
            }
            Kind::Sign("(") => {
                self.advance();
                let inner = self.expr(0)?;
                self.expect_sign(")", "", "")?;
                let span = Span { start, end: self.end_of_last() };
                Ok(Expr { node: Node::Paren(Box::new(inner)), span })
            }
            Kind::Sign("{") => self.selector(),
            Kind::Word(word) => {
                let lower = word.to_ascii_lowercase();
                let next = self.peek_after().clone();
                let followed =
                    |wanted: &str| matches!(&next, Kind::Word(next) if next.eq_ignore_ascii_case(wanted));
                let opens = next == Kind::Sign("(") || followed("by") || followed("without");
                if opens && let Some(op) = Aggregator::ALL.into_iter().find(|op| op.name() == lower) {
                    return self.aggregate(op);
                }
                if next == Kind::Sign("(")
                    && binary_word(&lower).is_none()
                    && !RESERVED.contains(&lower.as_str())
                {
                    return self.call(&word);
                }
                if RESERVED.contains(&lower.as_str()) {
                    return Err(self.unexpected("", ""));
                }
                self.selector()
            }
            _ => Err(self.unexpected("", "")),
        }
    }

    fn call(&mut self, name: &str) -> Result<Expr, SyntaxError> {
        let token = self.advance();
        let Some(function) = functions::find(name) else {
            return Err(SyntaxError::new(token.span, format!("unknown function with name {name:?}")));
        };
        let args = self.args()?;
        let span = Span { start: token.span.start, end: self.end_of_last() };
        Ok(Expr { node: Node::Call { function, args }, span })
    }

    fn args(&mut self) -> Result<Vec<Expr>, SyntaxError> {
        self.expect_sign("(", "", "")?;
        let mut args = Vec::new();
        if self.take_sign(")") {
            return Ok(args);
        }
        loop {
            args.push(self.expr(0)?);
            if self.take_sign(")") {
                return Ok(args);
            }
            if !self.take_sign(",") {
                return Err(self.unexpected("", ""));
            }
            if self.peek() == &Kind::Sign(")") {
                let what = "trailing commas not allowed in function call args";
                return Err(SyntaxError::new(self.token().span, what));
            }
        }
    }

    fn aggregate(&mut self, op: Aggregator) -> Result<Expr, SyntaxError> {
        let start = self.advance().span.start;
        let before = self.grouping()?;
        if self.peek() != &Kind::Sign("(") {
            return Err(self.unexpected("aggregation", ""));
        }
        let mut args = self.args()?;
        let grouping = match before {
            Some(grouping) => grouping,
            None => self.grouping()?.unwrap_or_default(),
        };
        let span = Span { start, end: self.end_of_last() };
        if args.is_empty() {
            return Err(SyntaxError::new(span, "no arguments for aggregate expression provided"));
        }
        let expected = if op.param().is_some() { 2 } else { 1 };
        if args.len() != expected {
            let what = format!(
                "wrong number of arguments for aggregate expression provided, expected {expected}, got {}",
                args.len()
            );
            return Err(SyntaxError::new(span, what));
        }
        let inner = args.pop().expect("there is at least one");
        let aggregate = Aggregate { op, span, inner, param: args.pop(), grouping };
        Ok(Expr { node: Node::Aggregate(Box::new(aggregate)), span })
    }

    fn grouping(&mut self) -> Result<Option<Grouping>, SyntaxError> {
        let without = match self.word().as_deref() {
            Some("by") => false,
            Some("without") => true,
            _ => return Ok(None),
        };
        self.advance();
        Ok(Some(Grouping { without, labels: self.labels()? }))
    }

    pub(super) fn selector(&mut self) -> Result<Expr, SyntaxError> {
        let start = self.token().span.start;
        let mut name = None;
        if let Kind::Word(word) = self.peek() {
            name = Some(word.clone());
            self.advance();
        }
        let mut matchers = Vec::new();
        if self.take_sign("{") {
            matchers = self.matchers()?;
        }
        if let Some(name) = &name {
            matchers.push(Matcher { label: NAME.to_string(), test: MatchTest::Equal, value: name.clone() });
        }
        let id = self.selectors;
        self.selectors += 1;
        let span = Span { start, end: self.end_of_last() };
        let moved = Moved::default();
        let selector =
            Selector { id, name, matchers, moved, extension: None, computed_range: None, totals_only: false };
        Ok(Expr { node: Node::Selector(selector), span })
    }

    fn matchers(&mut self) -> Result<Vec<Matcher>, SyntaxError> {
        let mut matchers = Vec::new();
        while !self.take_sign("}") {
            let token = self.token().clone();
            let (label, quoted) = match token.kind {
                Kind::Word(word) => (word, false),
                Kind::Text(text) => (utf8(text, token.span)?, true),
                _ => return Err(self.unexpected("label matching", "identifier or \"}\"")),
            };
            self.advance();
            let test = match self.peek() {
                Kind::Sign("=") => Some(MatchTest::Equal),
                Kind::Sign("!=") => Some(MatchTest::NotEqual),
                Kind::Sign("=~") => Some(MatchTest::Matches),
                Kind::Sign("!~") => Some(MatchTest::NotMatches),
                _ => None,
            };
            match test {
                // `{"a metric"}`
                None if quoted => {
                    matchers.push(Matcher { label: NAME.to_string(), test: MatchTest::Equal, value: label });
                }
                None => return Err(self.unexpected("label matching", "label matching operator")),
                Some(test) => {
                    self.advance();
                    let value = self.token().clone();
                    let Kind::Text(text) = value.kind else {
                        return Err(self.unexpected("label matching", "string"));
                    };
                    self.advance();
                    let value = utf8(text, value.span)?;
                    if matches!(test, MatchTest::Matches | MatchTest::NotMatches)
                        && let Err(why) = query_lang::pattern::whole_value(&value)
                    {
                        let span = Span { start: token.span.start, end: self.end_of_last() };
                        return Err(SyntaxError::new(
                            span,
                            format!("error parsing regexp: {why}: `{value}`"),
                        ));
                    }
                    matchers.push(Matcher { label, test, value });
                }
            }
            if !self.take_sign(",") && self.peek() != &Kind::Sign("}") {
                return Err(self.unexpected("label matching", "\",\" or \"}\""));
            }
        }
        Ok(matchers)
    }
}

fn utf8(bytes: Vec<u8>, span: Span) -> Result<String, SyntaxError> {
    String::from_utf8(bytes).map_err(|_| SyntaxError::new(span, "a label or its value is no valid UTF-8"))
}
