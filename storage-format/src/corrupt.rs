//! Bytes that are not what we wrote.
//!
//! Every decoder of this crate returns [`Corrupt`] instead of panicking; the caller adds the file name.

use std::fmt;

/// What is wrong, and at which byte of the input reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    pub what: &'static str,
    pub offset: u64,
}

pub type Result<T> = std::result::Result<T, Corrupt>;

impl Corrupt {
    pub fn new(what: &'static str) -> Corrupt {
        Corrupt { what, offset: 0 }
    }

    pub fn at(what: &'static str, offset: u64) -> Corrupt {
        Corrupt { what, offset }
    }

    /// The same damage, seen from a larger input that holds this one `base` bytes in.
    pub fn shifted(self, base: u64) -> Corrupt {
        Corrupt { what: self.what, offset: self.offset + base }
    }
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.offset)
    }
}

impl std::error::Error for Corrupt {}
