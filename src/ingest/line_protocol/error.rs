//! The refusal of one line, as a sentence for the person who sent it.
//!
//! Invariant: an error's size is bounded, however long the line was.

use std::fmt;

/// How much of a refused line the error repeats: enough to recognize it, and a body of nothing but bad
/// lines still gives an answer of about its own size.
pub const LINE_SHOWN_BYTES_MAX: usize = 256;

/// How much of a name or a value stands inside a sentence.
const PART_SHOWN_CHARS_MAX: usize = 64;

/// Boxed, since refusals are rare and results of every field pass through registers.
pub type Result<T> = std::result::Result<T, Box<LineError>>;

/// Why a line was not stored. The other lines of its body were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError {
    /// The physical line on which the refused one starts, from 1.
    pub number: usize,
    /// The character of the line at which the trouble starts, from 1.
    pub column: usize,
    /// What is wrong with which part, and the cure.
    pub what: String,
    /// The line, cut to [`LINE_SHOWN_BYTES_MAX`].
    pub text: String,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.number, self.what)
    }
}

impl std::error::Error for LineError {}

/// `place` is a part of `text`.
#[cold]
pub(super) fn refuse(number: usize, text: &str, place: &str, what: String) -> Box<LineError> {
    let offset = (place.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let before = text.get(..offset).unwrap_or_default();
    let shown = text.floor_char_boundary(LINE_SHOWN_BYTES_MAX);
    Box::new(LineError { number, column: before.chars().count() + 1, what, text: text[..shown].to_string() })
}

/// A name or value inside a sentence: cut, and without control characters that would break the line.
pub(super) struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, character) in self.0.chars().enumerate() {
            if index == PART_SHOWN_CHARS_MAX {
                return f.write_str("...");
            }
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}
