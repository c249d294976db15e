//! The fields of a line: names and typed values.
//!
//! Two ways through: [`Fields::next_named`] when the caller remembers which names the series had last time
//! (one comparison a field, no search), and the iterator when it does not. Both may alternate.
//! Invariant: after an error there is nothing more, and the whole line is refused by it.
//! Not here: a field named twice in a line; both come out, and the caller lets the last win.

use super::error::{LineError, Result, Shown};
use super::names::{RawName, RawStr};
use super::{Line, NAME_BYTES_MAX, find_string_end, is_escaped};
use storage_format::point::FieldType;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FieldValue<'a> {
    /// Finite.
    Float(f64),
    Int(i64),
    UInt(u64),
    Bool(bool),
    Str(RawStr<'a>),
}

impl FieldValue<'_> {
    pub fn field_type(&self) -> FieldType {
        match self {
            FieldValue::Float(_) => FieldType::Float,
            FieldValue::Int(_) => FieldType::Int,
            FieldValue::UInt(_) => FieldType::UInt,
            FieldValue::Bool(_) => FieldType::Bool,
            FieldValue::Str(_) => FieldType::Str,
        }
    }
}

pub struct Fields<'l, 'a> {
    line: &'l Line<'a>,
    /// Where the next name starts in the line's field set; [`DONE`] after the last.
    at: usize,
}

/// Larger than any place, so that slicing from it gives nothing. (The set's length will not do: there
/// stands the missing field after a last comma.)
const DONE: usize = usize::MAX;

impl<'a> Line<'a> {
    pub fn fields(&self) -> Fields<'_, 'a> {
        Fields { line: self, at: 0 }
    }
}

impl<'a> Fields<'_, 'a> {
    /// The value of the next field if `raw_name` is its name as written; else `None`, and nothing is
    /// consumed. `raw_name` is one that the iterator has given for another line.
    #[inline]
    pub fn next_named(&mut self, raw_name: &str) -> Option<Result<FieldValue<'a>>> {
        let (name, rest) = self.rest()?.split_at_checked(raw_name.len())?;
        if rest.first() != Some(&b'=') || name != raw_name.as_bytes() {
            return None;
        }
        Some(self.take_value(raw_name.len()))
    }

    /// Whether all fields were read.
    pub fn is_done(&self) -> bool {
        self.at == DONE
    }

    fn rest(&self) -> Option<&'a [u8]> {
        self.line.field_set.as_bytes().get(self.at..)
    }

    /// Reads the value after the name of `name_len` bytes at `at`, and moves behind it.
    #[inline]
    fn take_value(&mut self, name_len: usize) -> Result<FieldValue<'a>> {
        let (name_at, value_at) = (self.at, self.at + name_len + 1);
        let set = self.line.field_set;
        if let Some((value, end)) = read_value(set, value_at) {
            match set.as_bytes().get(end) {
                None => {
                    self.at = DONE;
                    return Ok(value);
                }
                Some(b',') => {
                    self.at = end + 1;
                    return Ok(value);
                }
                Some(_) => {}
            }
        }
        self.at = DONE;
        Err(self.line.refuse_value(&set[name_at..value_at - 1], &set[value_at..]))
    }

    /// Checks the name at `at` and returns it.
    fn find_name(&self, rest: &'a [u8]) -> Result<RawName<'a>> {
        let mut len = 0;
        loop {
            let step = rest[len..].iter().position(|byte| matches!(byte, b'=' | b','));
            len += step.unwrap_or(rest.len() - len);
            if len == rest.len() || !is_escaped(rest, len) {
                break;
            }
            len += 1;
        }
        let line = self.line;
        let name = &line.field_set[self.at..self.at + len];
        let has_value = rest.get(len) == Some(&b'=');
        if !has_value || name.is_empty() || name == "time" || len > NAME_BYTES_MAX {
            return Err(line.refuse_name(name, has_value));
        }
        line.check_nul("field name", name)?;
        Ok(RawName(name))
    }
}

impl<'a> Iterator for Fields<'_, 'a> {
    type Item = Result<(RawName<'a>, FieldValue<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest()?;
        let field = self.find_name(rest).and_then(|name| Ok((name, self.take_value(name.0.len())?)));
        if field.is_err() {
            self.at = DONE;
        }
        Some(field)
    }
}

/// Reads the value at `at` as far as it goes; the caller looks at what stops it.
#[inline]
fn read_value(set: &str, at: usize) -> Option<(FieldValue<'_>, usize)> {
    let rest = &set.as_bytes()[at..];
    let (value, len) = match rest.first()? {
        b'0'..=b'9' | b'-' | b'.' => read_number(rest)?,
        b'"' => {
            let end = find_string_end(rest, 1)?;
            (FieldValue::Str(RawStr(&set[at + 1..at + end])), end + 1)
        }
        _ => read_bool(rest)?,
    };
    Some((value, at + len))
}

/// Any number of so many digits fits 64 bits, with a sign too.
const DIGITS_SAFE_MAX: usize = 18;

#[inline]
fn read_number(rest: &[u8]) -> Option<(FieldValue<'static>, usize)> {
    let is_negative = rest[0] == b'-';
    let start = usize::from(is_negative);
    let mut magnitude = 0u64;
    let mut end = start;
    while let Some(digit) = rest.get(end).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        magnitude = magnitude.wrapping_mul(10).wrapping_add(u64::from(digit));
        end += 1;
    }
    if end == start || end - start > DIGITS_SAFE_MAX {
        return read_unusual_number(rest, end);
    }
    let magnitude = magnitude as i64;
    match rest.get(end) {
        Some(b'i') => Some((FieldValue::Int(if is_negative { -magnitude } else { magnitude }), end + 1)),
        Some(b'u') if !is_negative => Some((FieldValue::UInt(magnitude as u64), end + 1)),
        Some(b'.' | b'e' | b'E') => read_float(rest),
        // Rounded once, as a float parser would.
        _ => Some((FieldValue::Float(if is_negative { -(magnitude as f64) } else { magnitude as f64 }), end)),
    }
}

/// A number that starts with a point, or has so many digits that it may not fit.
#[cold]
fn read_unusual_number(rest: &[u8], end: usize) -> Option<(FieldValue<'static>, usize)> {
    let digits = &rest[..end];
    match rest.get(end) {
        Some(b'i') => {
            let value = atoi_simd::parse::<i64, true, false>(digits).ok()?;
            Some((FieldValue::Int(value), end + 1))
        }
        Some(b'u') => {
            let value = atoi_simd::parse::<u64, true, false>(digits).ok()?;
            Some((FieldValue::UInt(value), end + 1))
        }
        // `-inf` and `-nan` stop here; without a sign they do not look like numbers.
        Some(byte) if digits.len() <= 1 && *byte != b'.' => None,
        _ => read_float(rest),
    }
}

fn read_float(rest: &[u8]) -> Option<(FieldValue<'static>, usize)> {
    let (value, len) = fast_float2::parse_partial::<f64, _>(rest).ok()?;
    value.is_finite().then_some((FieldValue::Float(value), len))
}

fn read_bool(rest: &[u8]) -> Option<(FieldValue<'static>, usize)> {
    let len = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
    let value = match &rest[..len] {
        b"t" | b"T" | b"true" | b"True" | b"TRUE" => true,
        b"f" | b"F" | b"false" | b"False" | b"FALSE" => false,
        _ => return None,
    };
    Some((FieldValue::Bool(value), len))
}

/// Why a name or a value was refused. Slow and thorough: it runs once per bad line.
impl Line<'_> {
    #[cold]
    fn refuse_name(&self, name: &str, has_value: bool) -> Box<LineError> {
        let shown = Shown(name);
        let what = if name.is_empty() && !has_value {
            "a comma is followed by no field; write name=value, or drop the comma".to_string()
        } else if name.is_empty() {
            "a field has no name before the =; write name=value".to_string()
        } else if !has_value {
            format!("{shown} stands where a field should be, but has no value; write name=value")
        } else if name.len() > NAME_BYTES_MAX {
            let len = name.len();
            format!("the field name {shown} has {len} bytes, the limit is {NAME_BYTES_MAX}; shorten it")
        } else {
            "a field is named time, the name of the timestamp; name it otherwise, or write the time \
             after the fields"
                .to_string()
        };
        self.refuse(name, what)
    }

    /// `rest` starts with the value.
    #[cold]
    fn refuse_value(&self, name: &str, rest: &str) -> Box<LineError> {
        let field = format!("field \"{}\"", Shown(name));
        if let Some(close) = rest.starts_with('"').then(|| find_string_end(rest.as_bytes(), 1)).flatten() {
            let after = &rest[close + 1..];
            let what = format!(
                "after the string of {field} comes {}, where a comma or a space should be; \
                 write a quote inside a string as \\\"",
                Shown(after)
            );
            return self.refuse(after, what);
        }
        let value = rest.split(',').next().unwrap_or_default();
        let shown = Shown(value);
        let what = match flaw_of(value) {
            Flaw::Empty => format!("{field} has no value; write name=value, or leave the field out"),
            Flaw::NotFinite => format!(
                "{field} has the value {shown}, which line protocol cannot store; leave the field out"
            ),
            Flaw::IntTooLarge => format!(
                "{field} has the value {shown}, which does not fit 64 bits ({} to {}); \
                 write it without i, as a float",
                i64::MIN,
                i64::MAX
            ),
            Flaw::UIntTooLarge => format!(
                "{field} has the value {shown}, which does not fit 64 bits (0 to {}); \
                 write it without u, as a float",
                u64::MAX
            ),
            Flaw::UIntNegative => format!(
                "{field} has the value {shown}, but unsigned numbers (u) are not negative; end it with i"
            ),
            Flaw::FloatTooLarge => {
                format!("{field} has the value {shown}, which is too large for a float of 64 bits (1.8e308)")
            }
            Flaw::SingleQuote => {
                format!("{field} has the value {shown}; strings need double quotes, not single ones")
            }
            Flaw::Other => format!(
                "{field} has the value {shown}, which is no number, boolean or \"string\"; \
                 strings need double quotes"
            ),
        };
        self.refuse(value, what)
    }
}

enum Flaw {
    Empty,
    NotFinite,
    IntTooLarge,
    UIntTooLarge,
    UIntNegative,
    FloatTooLarge,
    SingleQuote,
    Other,
}

fn flaw_of(value: &str) -> Flaw {
    let unsigned = value.strip_prefix('-').unwrap_or(value);
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if value.is_empty() {
        Flaw::Empty
    } else if value.starts_with('\'') {
        Flaw::SingleQuote
    } else if unsigned.strip_suffix('i').is_some_and(is_digits) {
        Flaw::IntTooLarge
    } else if value.strip_suffix('u').is_some_and(is_digits) {
        Flaw::UIntTooLarge
    } else if unsigned.strip_suffix('u').is_some_and(is_digits) {
        Flaw::UIntNegative
    } else {
        match value.parse::<f64>() {
            Ok(number) if number.is_infinite() && unsigned.starts_with(|c: char| c.is_ascii_digit()) => {
                Flaw::FloatTooLarge
            }
            Ok(number) if !number.is_finite() => Flaw::NotFinite,
            _ => Flaw::Other,
        }
    }
}
