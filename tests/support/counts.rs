//! What a run did and compared, by name, over all of its threads: so that no test can silently try nothing.

use std::collections::BTreeMap;
use std::sync::Mutex;

#[derive(Debug, Default)]
pub struct Counts(Mutex<BTreeMap<String, u64>>);

impl Counts {
    pub fn add(&self, what: &str, times: u64) {
        *self.0.lock().unwrap().entry(what.to_string()).or_default() += times;
    }

    pub fn get(&self, what: &str) -> u64 {
        self.0.lock().unwrap().get(what).copied().unwrap_or(0)
    }

    /// The first of these that has not happened.
    pub fn lacks<'a>(&self, all: &[&'a str]) -> Option<&'a str> {
        all.iter().find(|what| self.get(what) == 0).copied()
    }

    pub fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap().clone()
    }
}
