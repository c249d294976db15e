//! PromQL: text to a tree, a tree and samples to values, as Prometheus 3.5 gives them.
//!
//! Invariant: samples come from the same scan as everything else (`scan`); a query reads one view. What a sentence of an answer says
//! (an error, a warning) are Prometheus' own words, since dashboards and alerts look for them.
//! Not here: HTTP and JSON (`server`), which tables there are (`db`).

mod aggregate;
mod annotations;
mod answer; // a whole query
mod arithmetic;
pub mod ast;
mod binary;
mod buckets;
mod counts; // of samples, for `stats`
mod check; // types of expressions
pub mod duration; // computed ones
mod eval;
mod histograms; // quantiles and fractions of both kinds
pub mod functions; // which there are
mod labels;
mod lex;
mod limit; // `limitk` and `limit_ratio`
mod native; // histograms as samples
mod parse;
pub mod print;
mod range; // functions of windows
mod sample; // functions of one sample
mod select; // selectors to samples
pub mod states; // functions of windows from rollups
mod value;
mod vector_functions;
mod window; // samples to steps

pub use annotations::Said;
pub use answer::{Answer, Data, Query};
pub use check::matches_empty;
pub use eval::{Newest, Sample};
pub use lex::duration as parse_duration;
pub use native::{Bucket, Native};
pub use parse::{NAME, SyntaxError, parse, parse_selector};
pub use select::{Asked, Selection, Source, Wanted, filter_of};
pub use value::{Run, Series, Steps, is_absent};

use crate::error::{Error, Kind};

/// The code of errors that come up while a query runs.
pub const FAILED: &str = "promql_execution";

/// The code of texts that are no PromQL.
pub const MALFORMED: &str = "promql_syntax";

fn failure(what: impl Into<String>) -> Error {
    Error::rejected(Kind::OverLimit, FAILED, what)
}
