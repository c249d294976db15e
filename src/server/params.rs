//! Parameters: of the URL and, for forms, of the body.
//!
//! Invariant: of a parameter given twice the first counts, those of the URL before those of the body; an empty one counts
//! as not given. InfluxDB's doors overlook parameters they do not know, as InfluxDB does; ours name them.

use query_lang::error::nearest;
use storage_format::point::{Time, TimeRange};

use crate::server::reply::Failure;

pub struct Params(Vec<(String, String)>);

/// Where requests go that name no database.
const DEFAULT_DATABASE: &str = "default";

/// Bytes of a database's name.
const DATABASE_BYTES_MAX: usize = 256;

impl Params {
    pub fn of_query(query: Option<&str>) -> Params {
        Params::of_form(query.unwrap_or_default().as_bytes())
    }

    pub fn of_form(form: &[u8]) -> Params {
        Params(form_urlencoded::parse(form).into_owned().collect())
    }

    pub fn and(mut self, weaker: Params) -> Params {
        self.0.extend(weaker.0);
        self
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        value.filter(|value| !value.is_empty())
    }

    /// The database under the first of the names that is given.
    pub fn database(&self, names: &[&str]) -> Result<String, Failure> {
        let name = names.iter().find_map(|name| self.get(name)).unwrap_or(DEFAULT_DATABASE);
        check_database(name)?;
        Ok(name.to_string())
    }

    pub fn refuse_unknown(&self, known: &[&str]) -> Result<(), Failure> {
        let unknown = self.0.iter().map(|(name, _)| name).find(|name| !known.contains(&name.as_str()));
        let Some(unknown) = unknown else { return Ok(()) };
        let shown: String = unknown.chars().take(64).collect();
        let mut failure = Failure::parameter(format!(
            "there is no parameter `{shown}` here; there are {}",
            known.join(", ")
        ));
        failure.hint = nearest(unknown, known.iter().copied()).map(|name| format!("did you mean `{name}`?"));
        Err(failure)
    }

    pub fn switch(&self, name: &str, default: bool) -> Result<bool, Failure> {
        match self.get(name) {
            None => Ok(default),
            Some("on" | "true" | "1") => Ok(true),
            Some("off" | "false" | "0") => Ok(false),
            Some(other) => Err(Failure::parameter(format!("{name} is {other:?}; give on or off"))),
        }
    }

    /// `from` and `to`; one alone leaves the other end open.
    pub fn range(&self, now: Time) -> Result<Option<TimeRange>, Failure> {
        let time = |name: &str| -> Result<Option<Time>, Failure> {
            let Some(text) = self.get(name) else { return Ok(None) };
            let parsed = query_lang::parse_time(text, now);
            parsed.map(Some).map_err(|error| {
                let mut failure = Failure::parameter(format!("{name} is {text:?}: {}", error.message()));
                failure.hint = error.hint().map(str::to_string);
                failure
            })
        };
        let (from, to) = (time("from")?, time("to")?);
        if from.is_none() && to.is_none() {
            return Ok(None);
        }
        let range = TimeRange::new(from.unwrap_or(TimeRange::ALL.start), to.unwrap_or(TimeRange::ALL.end));
        if range.is_empty() {
            return Err(Failure::parameter("from must lie before to"));
        }
        Ok(Some(range))
    }
}

pub fn check_database(name: &str) -> Result<(), Failure> {
    if name.len() > DATABASE_BYTES_MAX {
        return Err(Failure::parameter(format!(
            "the name of the database has {} bytes, the limit is {DATABASE_BYTES_MAX}",
            name.len()
        )));
    }
    if name.contains('\0') {
        return Err(Failure::parameter("the name of a database may not contain NUL"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_given_value_counts() {
        let params = Params::of_query(Some("db=&q=a+b%7C&q=c")).and(Params::of_form(b"db=x"));
        assert_eq!(params.get("q"), Some("a b|"));
        assert_eq!(params.get("db"), None, "the URL's comes first, and empty is not given");
        assert_eq!(params.database(&["db"]).unwrap(), "default");
    }

    #[test]
    fn a_range_may_be_open() {
        let range = |query| Params::of_query(Some(query)).range(100).map_err(|failure| failure.sentence());
        assert_eq!(range("").unwrap(), None);
        assert_eq!(range("from=50ns").unwrap(), Some(TimeRange::new(50, i64::MAX)));
        assert_eq!(range("to=50").unwrap(), Some(TimeRange::new(i64::MIN, 50)));
        assert_eq!(range("from=2&to=2").unwrap_err(), "from must lie before to");
        assert!(range("from=yesterdy").unwrap_err().starts_with("from is \"yesterdy\": "));
    }

    #[test]
    fn unknown_parameters_are_named() {
        let refused = Params::of_query(Some("rollup=off")).refuse_unknown(&["db", "rollups"]).unwrap_err();
        assert_eq!(
            refused.sentence(),
            "there is no parameter `rollup` here; there are db, rollups; did you mean `rollups`?"
        );
    }
}
