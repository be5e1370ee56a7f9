//! The canonical form that Safe Browsing and most feeds hash.

use alloc::string::String;

/// A URL in its Safe Browsing form
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SafeBrowsing {
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) passes: u8,
}

impl SafeBrowsing {
    /// The host, escaped; an IPv4 address as four numbers
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path, from its first slash
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The query without its question mark
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// How often escapes had to be undone before none was left
    #[must_use]
    pub fn passes(&self) -> u8 {
        self.passes
    }
}
