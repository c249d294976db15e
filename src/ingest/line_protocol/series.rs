//! Measurement and tags of a series that is not known yet.
//!
//! Invariant: tags come out sorted by key, without duplicates or empty keys or values, and no name has a
//! NUL, which [`TagSet`](storage_format::point::TagSet) needs between them.

use std::borrow::Cow;

use memchr::memchr;

use super::error::{LineError, Result, Shown};
use super::names::{KEY_DELIMITERS, MEASUREMENT_DELIMITERS, unescape};
use super::{Line, is_escaped};

/// A series has at most this many tags. Each one is a column of the table's blocks and a key of the
/// label index; real data have 5 to 50, and the most that clients' test suites send is 255.
pub const TAGS_PER_LINE_MAX: usize = 1_024;

/// What [`Line::series`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesParts<'a> {
    pub measurement: Cow<'a, str>,
    /// Sorted by key.
    pub tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Line<'a> {
    pub fn parse_series(&self) -> Result<SeriesParts<'a>> {
        let (measurement, mut rest) = split(self.series, b',');
        if measurement.is_empty() {
            return Err(self
                .refuse(self.series, "there is no measurement before the first comma; begin with its name"));
        }
        self.check_nul("measurement", measurement)?;
        let mut tags = Vec::new();
        while let Some(text) = rest {
            let (tag, after) = split(text, b',');
            if tags.len() == TAGS_PER_LINE_MAX {
                let what =
                    format!("the line has more than {TAGS_PER_LINE_MAX} tags; make some of them fields");
                return Err(self.refuse(tag, what));
            }
            let (key, value) = self.parse_tag(tag)?;
            tags.push((unescape(key, KEY_DELIMITERS), unescape(value, KEY_DELIMITERS)));
            rest = after;
        }
        tags.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some([(key, _), _]) = tags.array_windows().find(|[a, b]| a.0 == b.0) {
            return Err(self.refuse_duplicate(key));
        }
        Ok(SeriesParts { measurement: unescape(measurement, MEASUREMENT_DELIMITERS), tags })
    }

    /// Key and value as written. A further `=` belongs to the value, as in InfluxDB 3.
    fn parse_tag(&self, tag: &'a str) -> Result<(&'a str, &'a str)> {
        let (key, value) = split(tag, b'=');
        match (key, value) {
            ("", None) => {
                Err(self.refuse(tag, "a comma is followed by no tag; write key=value, or drop the comma"))
            }
            ("", Some(value)) => {
                let what = format!("the tag value {} has no key before the =; write key=value", Shown(value));
                Err(self.refuse(tag, what))
            }
            (key, None | Some("")) => {
                let what =
                    format!("tag \"{}\" has no value; write key=value, or leave the tag out", Shown(key));
                Err(self.refuse(tag, what))
            }
            ("time", Some(_)) => {
                let what = "a tag is named time, the name of the timestamp; name it otherwise";
                Err(self.refuse(tag, what))
            }
            (key, Some(value)) => {
                self.check_nul("tag key", key)?;
                self.check_nul("tag value", value)?;
                Ok((key, value))
            }
        }
    }

    pub(super) fn check_nul(&self, kind: &str, name: &str) -> Result<()> {
        if memchr(0, name.as_bytes()).is_none() {
            return Ok(());
        }
        Err(self.refuse(name, format!("the {kind} {} has a NUL character; leave it out", Shown(name))))
    }

    #[cold]
    fn refuse_duplicate(&self, key: &str) -> Box<LineError> {
        let what = format!("tag \"{}\" stands there twice; give it one value", Shown(key));
        self.refuse(self.series, what)
    }
}

/// What stands before and after the first `delimiter` that is not escaped.
fn split(text: &str, delimiter: u8) -> (&str, Option<&str>) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(step) = memchr(delimiter, &bytes[at..]) {
        at += step;
        if !is_escaped(bytes, at) {
            return (&text[..at], Some(&text[at + 1..]));
        }
        at += 1;
    }
    (text, None)
}
