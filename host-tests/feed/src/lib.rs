//! Compiles threat feeds into the bundle that the filter adopts, and tells what is in one.
//!
//! A feed is read by what it is (its format is found by its content), each row becomes an indicator or is counted
//! with the reason why it doesn't, and what would hurt the customer (private networks, public suffixes, what an allow
//! list names, a feed that has lost half of its rows) is kept out. This crate reads files and no clock.

mod compile;
mod day;
mod diff;
mod format;
mod guard;
mod indicator;
mod inspect;
mod manifest;
mod read;
mod reason;
mod report;
mod sign;
mod source;

pub use compile::{Options, Progress, compile};
pub use day::{seconds, write as time};
pub use diff::{Difference, diff};
pub use format::Format;
pub use inspect::inspect;
pub use manifest::read as read_manifest;
pub use reason::Reason;
pub use report::{Compiled, Conflict, FeedReport};
pub use sign::{Signature, sign, signature};
pub use source::{Role, Source};

use std::fmt;

/// What went wrong, in one line: where, what, and what to do
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Error(String);

impl Error {
    /// From a line
    pub fn new(line: impl Into<String>) -> Self {
        Self(line.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
