//! The one test binary: a module per subject.

mod support;

mod cli;
mod http;
