//! A URL as browsers read it (WHATWG URL), beside its Safe Browsing form.

use alloc::borrow::{Cow, ToOwned};
use core::net::IpAddr;

use url::Url;

use crate::safe_browsing::SafeBrowsing;
use crate::target::Host;

/// Both readings of a URL; a domain is read as `http://DOMAIN/`
#[derive(Clone, Debug)]
pub struct Web<'a> {
    raw: Cow<'a, str>,
    url: Option<Url>,
    host: Option<Host>,
    safe_browsing: Option<SafeBrowsing>,
    has_userinfo: bool,
}

impl<'a> Web<'a> {
    pub(crate) fn parse(raw: Cow<'a, str>) -> Self {
        let mut url = Url::parse(&raw).ok();
        let mut has_userinfo = false;
        if let Some(url) = &mut url {
            if url.fragment().is_some() {
                url.set_fragment(None);
            }
            has_userinfo = !url.username().is_empty() || url.password().is_some();
            if has_userinfo {
                let _: Result<(), ()> = url.set_username("");
                let _: Result<(), ()> = url.set_password(None);
            }
        }
        let host = match url.as_ref().and_then(Url::host) {
            Some(url::Host::Domain(name)) => {
                // One dot ends a name; after two it is another to resolvers.
                let mut name = name.strip_suffix('.').unwrap_or(name).to_owned();
                // Only special schemes have theirs in lower case.
                name.make_ascii_lowercase();
                Some(Host::Domain(name))
            }
            Some(url::Host::Ipv4(address)) => Some(Host::Address(address.into())),
            Some(url::Host::Ipv6(address)) => {
                Some(Host::Address(IpAddr::from(address).to_canonical()))
            }
            None => None,
        };
        // Feeds know no URL without its two slashes, but browsers open `http:evil.example`.
        let safe_browsing = SafeBrowsing::parse(raw.as_bytes()).or_else(|| {
            let url = url.as_ref().filter(|_| host.is_some())?;
            SafeBrowsing::parse(url.as_str().as_bytes())
        });
        Self {
            raw,
            url,
            host,
            safe_browsing,
            has_userinfo,
        }
    }

    /// What was submitted, trimmed and refanged
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// The scheme in lower case, without its colon; empty where browsers see no URL
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.url.as_ref().map_or("", Url::scheme)
    }

    /// The host as browsers read it, a name in its ASCII form
    #[must_use]
    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// The port, if it is written and not the scheme's own
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.url.as_ref().and_then(Url::port)
    }

    /// Whether it carried a user's name or a password; [`canonical`](Self::canonical) doesn't
    #[must_use]
    pub fn has_userinfo(&self) -> bool {
        self.has_userinfo
    }

    /// The path as browsers send it, still escaped, from its first slash
    #[must_use]
    pub fn path(&self) -> &str {
        self.url.as_ref().map_or("/", Url::path)
    }

    /// The query as browsers send it, without its question mark
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.url.as_ref().and_then(Url::query)
    }

    /// The URL as browsers write it, without userinfo and fragment; what is no URL to them as it is
    #[must_use]
    pub fn canonical(&self) -> &str {
        self.url.as_ref().map_or(&self.raw, Url::as_str)
    }

    /// The URL as feeds write it; `None` where neither they nor browsers see a host
    #[must_use]
    pub fn safe_browsing(&self) -> Option<&SafeBrowsing> {
        self.safe_browsing.as_ref()
    }

    /// The Safe Browsing form of what browsers open, where the submitted text comes to another one: a backslash
    /// is a slash to browsers alone
    pub(crate) fn browsers_form(&self) -> Option<SafeBrowsing> {
        let url = self.url.as_ref().filter(|_| self.opens())?;
        let differs = self.raw.contains('\\') || self.disagrees();
        let form = differs.then(|| SafeBrowsing::parse(url.as_str().as_bytes()))?;
        form.filter(|form| {
            let other = self.safe_browsing.as_ref();
            other.is_none_or(|other| other.as_str() != form.as_str())
        })
    }

    /// Whether browsers open it: they see a host
    #[must_use]
    pub fn opens(&self) -> bool {
        self.host.is_some()
    }

    /// Whether the two readings disagree about the host
    ///
    /// Where browsers see none, the other reading has to be a plausible one: what nobody reads as a host
    /// misleads nobody.
    #[must_use]
    pub fn disagrees(&self) -> bool {
        let Some(other) = &self.safe_browsing else {
            return false;
        };
        match &self.host {
            Some(host) => !host.is_written(other.host()),
            None => {
                let is_plain =
                    |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
                other.is_address()
                    || (other.host().contains('.') && other.host().bytes().all(is_plain))
            }
        }
    }

    /// The host as it was submitted, without userinfo and port
    pub(crate) fn raw_host(&self) -> &str {
        let is_slash = |c: char| matches!(c, '/' | '\\');
        let rest = match self.raw.split_once(':') {
            Some((_, rest)) => rest.trim_start_matches(is_slash),
            None => &self.raw,
        };
        let end = rest.find(|c| is_slash(c) || matches!(c, '?' | '#'));
        let authority = rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest);
        let host = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        match host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => host,
        }
    }
}
