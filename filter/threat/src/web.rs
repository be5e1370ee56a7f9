//! A URL as browsers read it (WHATWG), beside its Safe Browsing form.

use alloc::borrow::Cow;

use url::Url;

use crate::safe_browsing::SafeBrowsing;
use crate::target::Host;

/// Both readings of a URL; a domain is read as `http://DOMAIN/`
#[derive(Clone, Debug)]
pub struct Web<'a> {
    pub(crate) raw: Cow<'a, str>,
    pub(crate) url: Url,
    pub(crate) host: Option<Host>,
    pub(crate) safe_browsing: SafeBrowsing,
    pub(crate) has_userinfo: bool,
}

impl Web<'_> {
    /// What was submitted, trimmed and refanged
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// The scheme in lower case, without its colon
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.url.scheme()
    }

    /// The host as browsers read it, a name in its ASCII form
    #[must_use]
    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// The port, if it is written and not the scheme's own
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.url.port()
    }

    /// Whether it carried a user's name or a password; `canonical` doesn't
    #[must_use]
    pub fn has_userinfo(&self) -> bool {
        self.has_userinfo
    }

    /// The path as browsers send it, still escaped, from its first slash
    #[must_use]
    pub fn path(&self) -> &str {
        self.url.path()
    }

    /// The query as browsers send it, without its question mark
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.url.query()
    }

    /// The URL as browsers write it, without userinfo and fragment
    #[must_use]
    pub fn canonical(&self) -> &str {
        self.url.as_str()
    }

    /// The URL as feeds write it
    #[must_use]
    pub fn safe_browsing(&self) -> &SafeBrowsing {
        &self.safe_browsing
    }
}
