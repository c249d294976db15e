//! Values that a request binds to `$name`.
//!
//! Invariant: a value becomes whole tokens (a text one text, a number one number, a list a list of these), whatever
//! characters are in it. A text is never read as language.

use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq)]
pub enum ParamValue {
    Text(String),
    Int(i64),
    /// Finite.
    Float(f64),
    Bool(bool),
    /// Of the others, never of lists.
    List(Vec<ParamValue>),
}

pub type Params = BTreeMap<String, ParamValue>;

/// The values as they are written in a statement.
pub(crate) struct Bound(BTreeMap<String, Vec<BoundToken>>);

pub(crate) enum BoundToken {
    Text(String),
    Literal(String),
    Word(&'static str),
    Symbol(&'static str),
}

impl Bound {
    pub fn new(params: &Params) -> Bound {
        let written = |(name, value): (&String, &ParamValue)| {
            let mut tokens = Vec::new();
            write(value, &mut tokens);
            (name.clone(), tokens)
        };
        Bound(params.iter().map(written).collect())
    }

    pub fn get(&self, name: &str) -> Option<&[BoundToken]> {
        self.0.get(name).map(Vec::as_slice)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

fn write(value: &ParamValue, tokens: &mut Vec<BoundToken>) {
    match value {
        ParamValue::Text(text) => tokens.push(BoundToken::Text(text.clone())),
        ParamValue::Bool(value) => tokens.push(BoundToken::Word(if *value { "true" } else { "false" })),
        ParamValue::Int(value) => {
            tokens.extend((*value < 0).then_some(BoundToken::Symbol("-")));
            tokens.push(BoundToken::Literal(value.unsigned_abs().to_string()));
        }
        ParamValue::Float(value) => {
            tokens.extend(value.is_sign_negative().then_some(BoundToken::Symbol("-")));
            tokens.push(BoundToken::Literal(crate::print::float(value.abs())));
        }
        ParamValue::List(values) => {
            tokens.push(BoundToken::Symbol("("));
            for (at, value) in values.iter().enumerate() {
                tokens.extend((at > 0).then_some(BoundToken::Symbol(",")));
                write(value, tokens);
            }
            tokens.push(BoundToken::Symbol(")"));
        }
    }
}
