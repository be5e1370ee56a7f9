//! What can be wrong with a policy document.

use alloc::string::String;
use core::fmt;

/// One thing that is wrong in a policy document: where, and what to do about it
///
/// A document is refused with all of its errors at once, sorted by path.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ConfigError {
    /// Dotted path of the place, such as `apis.shop.routes.list.match`; empty for the document
    pub path: String,
    /// What is wrong and what to write instead, lower case, without a final period
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl core::error::Error for ConfigError {}
