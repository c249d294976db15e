//! Text as written in a line, and what it means.
//!
//! Invariant: most names and strings have no backslash and are borrowed from the body; only the others
//! allocate, and only when asked for their meaning.

use std::borrow::Cow;

use memchr::memchr;

/// What a backslash escapes in a tag key, tag value or field name. Before anything else it stands for itself.
pub(super) const KEY_DELIMITERS: &[u8] = b",= ";

/// The same in a measurement, where `=` means nothing.
pub(super) const MEASUREMENT_DELIMITERS: &[u8] = b", ";

/// What a backslash escapes in a string value. Not `n`, `t` or `r`: those stay two characters.
const STRING_DELIMITERS: &[u8] = b"\"\\";

/// A field's name as written. Each name can be written in one way only, so equal raw names are equal
/// names and the reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawName<'a>(pub(super) &'a str);

impl<'a> RawName<'a> {
    pub fn raw(self) -> &'a str {
        self.0
    }

    pub fn unescape(self) -> Cow<'a, str> {
        unescape(self.0, KEY_DELIMITERS)
    }
}

/// The inside of a quoted string, as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawStr<'a>(pub(super) &'a str);

impl<'a> RawStr<'a> {
    pub fn raw(self) -> &'a str {
        self.0
    }

    pub fn unescape(self) -> Cow<'a, str> {
        unescape(self.0, STRING_DELIMITERS)
    }
}

/// Drops each backslash that stands before one of `delimiters`.
pub(super) fn unescape<'a>(raw: &'a str, delimiters: &[u8]) -> Cow<'a, str> {
    let Some(mut backslash) = memchr(b'\\', raw.as_bytes()) else { return Cow::Borrowed(raw) };
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    loop {
        let is_escape = rest.as_bytes().get(backslash + 1).is_some_and(|next| delimiters.contains(next));
        out.push_str(&rest[..backslash + usize::from(!is_escape)]);
        rest = &rest[backslash + 1..];
        // An escaped byte is no escape itself: it matters for the backslash, in strings.
        let from = usize::from(is_escape);
        match memchr(b'\\', &rest.as_bytes()[from..]) {
            Some(step) => backslash = from + step,
            None => {
                out.push_str(rest);
                return Cow::Owned(out);
            }
        }
    }
}
