//! The one shape of everything that can go wrong here.

use std::fmt;

/// Why a task did not get done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Ctrl-C or TERM: there is nothing to say.
    Stopped,
    /// What went wrong, and what to do about it.
    Told {
        /// One sentence, lower case: where and what.
        what: String,
        /// One line that a person can act on.
        remedy: String,
    },
}

/// What every step of a task returns.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure with its remedy.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Told {
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    /// The same, of this file.
    #[must_use]
    pub fn at(self, path: &std::path::Path) -> Self {
        match self {
            Self::Stopped => Self::Stopped,
            Self::Told { what, remedy } => Self::new(format!("{}: {what}", path.display()), remedy),
        }
    }

    /// A file or directory that could not be used.
    pub fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::new(
            format!("{}: {error}", path.display()),
            "check that the path exists and is yours",
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::Told { what, remedy } => write!(f, "{what}\n  to mend it: {remedy}"),
        }
    }
}

impl std::error::Error for Failure {}
