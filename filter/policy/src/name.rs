//! Names that go into headers, records and metrics as they are.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;

use core::fmt;

/// The name of a thing in the policy: an API, a route, a tier, a principal, a key, a scope
///
/// INVARIANT: 1 to 128 of `A-Z a-z 0-9 - . _ ~ @ : + /`, so that a name is safe in a header
/// value, a log line and a metric label without escaping.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Name(Rc<str>);

impl Name {
    /// # Errors
    ///
    /// The message, when the text is not a name.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~@:+/".contains(&byte);
        if text.is_empty() || text.len() > 128 || !text.bytes().all(good) {
            let text: String = text.chars().take(40).collect();
            return Err(format!(
                "`{}` is not a name: write 1 to 128 letters, digits or - . _ ~ @ : + /",
                text.escape_default()
            ));
        }
        Ok(Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
