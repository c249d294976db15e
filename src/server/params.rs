//! Parameters: of the URL and, for forms and JSON objects, of the body.
//!
//! Invariant: of a parameter given twice the first counts, those of the URL before those of the body; an empty one counts
//! as not given. InfluxDB's doors overlook parameters they do not know, as InfluxDB does; ours name them.

use std::time::Duration;

use query_lang::ParamValue;
use query_lang::error::nearest;
use serde_json::Value;
use storage_format::point::{Time, TimeRange};

use crate::config::parse_duration;
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

    /// Of an object: texts, numbers and booleans as a form would have them, `params` as it is.
    pub fn of_json(text: &str) -> Result<Params, Failure> {
        let expected = r#"send an object such as {"q": "cpu | last 5m", "db": "default"}"#;
        let object: serde_json::Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            Failure::parameter(format!("the body is no JSON object ({error}); {expected}"))
        })?;
        let pair = |(name, value): (String, Value)| match value {
            Value::Null => Ok((name, String::new())),
            Value::String(text) => Ok((name, text)),
            Value::Number(_) | Value::Bool(_) => Ok((name, value.to_string())),
            Value::Object(_) if name == "params" => Ok((name, value.to_string())),
            Value::Object(_) | Value::Array(_) => {
                let name: String = name.chars().take(64).collect();
                Err(Failure::parameter(format!("{name} of the body is neither text nor number; {expected}")))
            }
        };
        Ok(Params(object.into_iter().map(pair).collect::<Result<_, _>>()?))
    }

    /// `params`: the values for `$name`, by name.
    pub fn bound(&self) -> Result<query_lang::Params, Failure> {
        let Some(text) = self.get("params") else { return Ok(query_lang::Params::new()) };
        let object: serde_json::Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            let example = r#"give one such as {"host": "h1", "n": 5, "hosts": ["a", "b"]}"#;
            Failure::parameter(format!("params is no JSON object ({error}); {example}"))
        })?;
        object.into_iter().map(|(name, value)| Ok((checked_name(&name)?, bound(&name, value)?))).collect()
    }

    pub fn and(mut self, weaker: Params) -> Params {
        self.0.extend(weaker.0);
        self
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        value.filter(|value| !value.is_empty())
    }

    /// All values of a name, in their order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
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
            if known.is_empty() { "none".to_string() } else { known.join(", ") }
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

    /// How long a query may take, if it may take less than others.
    pub fn timeout(&self, query_time_max: Duration) -> Result<Option<Duration>, Failure> {
        let Some(text) = self.get("timeout") else { return Ok(None) };
        let timeout = parse_duration(text)
            .map_err(|expected| Failure::parameter(format!("timeout is {text:?}; give {expected}")))?;
        if timeout > query_time_max {
            return Err(Failure::parameter(format!(
                "timeout is {text}, and no query may take longer than {query_time_max:?} (query_time_max); give less, or raise \
                 the limit"
            )));
        }
        Ok(Some(timeout))
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

fn checked_name(name: &str) -> Result<String, Failure> {
    let starts = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if starts && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(name.to_string());
    }
    let shown: String = name.chars().take(64).collect();
    Err(Failure::parameter(format!(
        "params names {shown:?}; a name is letters, digits and `_`, begins with no digit and stands here without the `$`"
    )))
}

fn bound(name: &str, value: Value) -> Result<ParamValue, Failure> {
    match value {
        Value::Array(values) => {
            let one = |value: Value| match value {
                Value::Array(_) => {
                    Err(Failure::parameter(format!("{name} of params is a list of lists; give a flat one")))
                }
                value => bound(name, value),
            };
            Ok(ParamValue::List(values.into_iter().map(one).collect::<Result<_, _>>()?))
        }
        Value::String(text) => Ok(ParamValue::Text(text)),
        Value::Bool(value) => Ok(ParamValue::Bool(value)),
        Value::Number(number) if number.is_u64() && !number.is_i64() => Err(Failure::parameter(format!(
            "{name} of params is {number}, more than an integer holds; write it as {number}.0 for a float"
        ))),
        Value::Number(number) => {
            let integer = number.as_i64().map(ParamValue::Int);
            integer.or_else(|| number.as_f64().map(ParamValue::Float)).ok_or_else(|| {
                Failure::parameter(format!("{name} of params is {number}, which is no number here"))
            })
        }
        Value::Null | Value::Object(_) => Err(Failure::parameter(format!(
            "{name} of params is {}; give a text, a number, a boolean or a list of these",
            if value.is_null() { "null" } else { "an object" }
        ))),
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
    fn bound_values_keep_their_types() {
        let bound = |text: &str| {
            let params = Params(vec![("params".to_string(), text.to_string())]);
            params.bound().map_err(|failure| failure.message)
        };
        let values =
            bound(r#"{"host": "h1' or 1", "n": 5, "x": 5.0, "on": true, "hosts": ["a", 2]}"#).unwrap();
        let text = |text: &str| ParamValue::Text(text.to_string());
        assert_eq!(values["host"], text("h1' or 1"));
        assert_eq!((&values["n"], &values["x"]), (&ParamValue::Int(5), &ParamValue::Float(5.0)));
        assert_eq!(values["on"], ParamValue::Bool(true));
        assert_eq!(values["hosts"], ParamValue::List(vec![text("a"), ParamValue::Int(2)]));
        for (wrong, says) in [
            ("[1]", "params is no JSON object"),
            (r#"{"$n": 1}"#, "without the `$`"),
            (r#"{"n": null}"#, "n of params is null"),
            (r#"{"n": [[1]]}"#, "list of lists"),
            (r#"{"n": 18446744073709551615}"#, "more than an integer holds"),
        ] {
            assert!(bound(wrong).unwrap_err().contains(says), "{wrong}");
        }
    }

    #[test]
    fn a_json_body_is_a_form() {
        let params =
            Params::of_json(r#"{"q": "cpu", "rollups": false, "params": {"n": 1}, "db": null}"#).unwrap();
        assert_eq!((params.get("q"), params.get("rollups")), (Some("cpu"), Some("false")));
        assert_eq!((params.get("params"), params.get("db")), (Some(r#"{"n":1}"#), None));
        let refused = Params::of_json(r#"{"q": ["cpu"]}"#).err().map(|failure| failure.message);
        assert!(refused.is_some_and(|why| why.starts_with("q of the body")));
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
