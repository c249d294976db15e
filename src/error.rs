//! The three kinds of wrong: the caller's, the disk's bytes, the system's. Our own bugs are assertions.
//!
//! Invariant: [`Display`](fmt::Display) is a sentence for a person, written once, here: what happened, to
//! which thing, what to do. Doors choose a status by [`Kind`] and print the sentence as it is.

use std::fmt;
use std::io;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug)]
pub enum Error {
    /// The caller can fix this; the text goes to them as it is.
    Rejected(Box<Rejection>),
    /// Bytes on disk are not what we wrote. `offset` is where reading stopped.
    Corrupt { file: String, offset: u64, what: String },
    /// The system refused.
    Io { doing: &'static str, file: String, source: io::Error },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub kind: Kind,
    /// A short stable word for programs: `unknown_table`, `body_too_large`.
    pub code: &'static str,
    pub why: String,
    /// 1-based place in the statement or body, where there is one.
    pub at: Option<(usize, usize)>,
    pub hint: Option<String>,
    /// The line of the statement with a caret under the place, for terminals.
    pub rendered: Option<String>,
}

/// Whose move it is, and so which status a door answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request itself is wrong.
    Invalid,
    /// It names a thing that does not exist.
    NotFound,
    /// This server never does that; another one may.
    Forbidden,
    /// It asks for a thing that exists already, or is in use.
    Conflict,
    /// The body is over its limit.
    TooLarge,
    /// The request is well-formed but over a limit of what one request may cost.
    OverLimit,
    /// Not now: the same request may pass later.
    Unavailable,
}

impl Error {
    pub fn rejected(kind: Kind, code: &'static str, why: impl Into<String>) -> Error {
        Error::Rejected(Box::new(Rejection {
            kind,
            code,
            why: why.into(),
            at: None,
            hint: None,
            rendered: None,
        }))
    }

    pub fn invalid(code: &'static str, why: impl Into<String>) -> Error {
        Error::rejected(Kind::Invalid, code, why)
    }

    pub fn io(doing: &'static str, file: impl Into<String>, source: io::Error) -> Error {
        Error::Io { doing, file: file.into(), source }
    }

    pub fn corrupt(file: impl Into<String>, damage: storage_format::corrupt::Corrupt) -> Error {
        Error::Corrupt { file: file.into(), offset: damage.offset, what: damage.what.into() }
    }

    /// The same error for several waiting writers: `io::Error` cannot be cloned, its sentence can.
    pub fn duplicate(&self) -> Error {
        match self {
            Error::Rejected(rejection) => Error::Rejected(rejection.clone()),
            Error::Corrupt { file, offset, what } => {
                Error::Corrupt { file: file.clone(), offset: *offset, what: what.clone() }
            }
            Error::Io { doing, file, source } => {
                let source = match source.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => io::Error::new(source.kind(), source.to_string()),
                };
                Error::Io { doing, file: file.clone(), source }
            }
        }
    }

    /// Less at once may pass.
    pub fn is_over_limit(&self) -> bool {
        matches!(self, Error::Rejected(rejection) if rejection.kind == Kind::OverLimit)
    }

    pub fn is_disk_full(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }

    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Rejected(rejection) => {
                f.write_str(&rejection.why)?;
                match &rejection.hint {
                    Some(hint) => write!(f, "{} {hint}", if rejection.why.ends_with('?') { "" } else { ";" }),
                    None => Ok(()),
                }
            }
            Error::Corrupt { file, offset, what } => {
                write!(f, "{file} is damaged at byte {offset}: {what}; restore the file from a backup")
            }
            Error::Io { doing, file, source } if source.kind() == io::ErrorKind::StorageFull => {
                write!(f, "cannot {doing} {file}: the disk is full; free some space and send it again")
            }
            Error::Io { doing, file, source } => write!(f, "cannot {doing} {file}: {source}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<query_lang::QueryError> for Error {
    fn from(error: query_lang::QueryError) -> Error {
        use query_lang::ErrorKind;
        let kind = match error.kind() {
            ErrorKind::UnknownTable | ErrorKind::UnknownRollup => Kind::NotFound,
            _ => Kind::Invalid,
        };
        Error::Rejected(Box::new(Rejection {
            kind,
            code: error.code(),
            why: error.message().to_string(),
            at: Some((error.line(), error.column())),
            hint: error.hint().map(str::to_string),
            rendered: Some(error.render()),
        }))
    }
}
