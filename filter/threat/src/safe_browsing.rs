//! The canonical form that Safe Browsing and most feeds hash.
//!
//! Source: Safe Browsing v4, "URLs and Hashing"
//! (<https://developers.google.com/safe-browsing/v4/urls-hashing>). Where that text leaves something
//! open, Chromium decides; `tests/canonical.rs` names where we differ.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt::Write as _;
use core::net::{IpAddr, Ipv6Addr};

use crate::address::{self, Spelling};
use crate::escape::{self, Unescaped};
use crate::expression::Expressions;

/// A URL in its Safe Browsing form
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SafeBrowsing {
    // INVARIANT: host_at <= path_at <= query_at <= text.len(), each on a character's border.
    text: String,
    host_at: usize,
    path_at: usize,
    query_at: usize,
    passes: u8,
    is_address: bool,
}

impl SafeBrowsing {
    /// The form of a URL, with or without a scheme; `None` where it has no host or no web scheme
    ///
    /// Takes bytes, because feeds hold some that are not UTF-8. Time is linear in their number, however deep
    /// escapes are nested.
    #[must_use]
    pub fn parse(url: &[u8]) -> Option<Self> {
        let url = url.trim_ascii();
        // Most have nothing to undo and nothing to escape: one look, in place of one a step.
        let is_plain = url
            .iter()
            .fold(true, |plain, byte| plain & escape::is_plain(*byte));
        let joined;
        let Unescaped { bytes, passes, .. } = if is_plain {
            Unescaped::plain(url)
        } else {
            let end = url.iter().position(|byte| *byte == b'#');
            joined = without_breaks(url.get(..end.unwrap_or(url.len()))?);
            escape::unescape(&joined)
        };
        let (scheme, rest) = split_scheme(&bytes)?;
        let authority_end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
        let (authority, rest) = rest.split_at_checked(authority_end.unwrap_or(rest.len()))?;
        let path_end = rest.iter().position(|byte| *byte == b'?');
        let (path, query) = rest.split_at_checked(path_end.unwrap_or(rest.len()))?;

        let mut text = String::with_capacity(url.len().saturating_add(16));
        for byte in scheme {
            text.push(char::from(byte.to_ascii_lowercase()));
        }
        text.push_str("://");
        let host_at = text.len();
        let is_address = write_host(&mut text, authority)?;
        let path_at = text.len();
        // ASCII only, so always UTF-8.
        let (plain_path, plain_query) = if is_plain && is_resolved(path) {
            (
                core::str::from_utf8(path).ok(),
                core::str::from_utf8(query).ok(),
            )
        } else {
            (None, None)
        };
        match plain_path {
            Some(path) => text.push_str(path),
            None => write_path(&mut text, path),
        }
        let query_at = text.len();
        match plain_query {
            Some(query) => text.push_str(query),
            None => escape::escape(&mut text, query),
        }
        Some(Self {
            text,
            host_at,
            path_at,
            query_at,
            passes,
            is_address,
        })
    }

    /// The whole URL; userinfo, port and fragment are not part of it
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host, escaped; an IPv4 address as four numbers, an IPv6 address in brackets
    #[must_use]
    pub fn host(&self) -> &str {
        self.text.get(self.host_at..self.path_at).unwrap_or("")
    }

    /// Whether the host is an address
    #[must_use]
    pub fn is_address(&self) -> bool {
        self.is_address
    }

    /// The path, from its first slash
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.get(self.path_at..self.query_at).unwrap_or("/")
    }

    /// The query without its question mark
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.text.get(self.query_at..)?.strip_prefix('?')
    }

    /// How many times all escapes had to be undone before none was left; 255 stands for more too
    #[must_use]
    pub fn passes(&self) -> u8 {
        self.passes
    }

    /// The exact lookup expression: host, path, and `?` and query unless that is empty
    #[must_use]
    pub fn exact(&self) -> &str {
        let text = self.text.get(self.host_at..).unwrap_or("");
        if self.query() == Some("") {
            text.strip_suffix('?').unwrap_or(text)
        } else {
            text
        }
    }

    /// What to look up, the most specific first; at most 30
    #[must_use]
    pub fn expressions(&self) -> Expressions<'_> {
        self.expressions_of(self.exact())
    }

    /// The expressions in a text that is like [`exact`](Self::exact) but for the case of its letters
    pub(crate) fn expressions_of<'t>(&self, text: &'t str) -> Expressions<'t> {
        let path_at = self.path_at.saturating_sub(self.host_at);
        let query_at = self.query_at.saturating_sub(self.host_at);
        Expressions::new(text, path_at, query_at, self.is_address)
    }
}

fn without_breaks(url: &[u8]) -> Cow<'_, [u8]> {
    let is_break = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r');
    if url.iter().any(is_break) {
        let kept = url.iter().filter(|byte| !is_break(byte));
        Cow::Owned(kept.copied().collect())
    } else {
        Cow::Borrowed(url)
    }
}

/// Schemes whose slashes browsers can do without (WHATWG URL, section 3.1, "special scheme")
pub(crate) const WEB_SCHEMES: &[&str] = &["http", "https", "ftp", "ws", "wss"];

/// Scheme, and what follows its `://`; `http` where there is none
fn split_scheme(url: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let colon = url.iter().position(|byte| !is_scheme(byte));
    let Some(colon) = colon.filter(|at| url.get(*at) == Some(&b':')) else {
        return Some((b"http", url));
    };
    let (scheme, rest) = url.split_at_checked(colon)?;
    let rest = rest.strip_prefix(b":")?;
    if let Some(rest) = rest.strip_prefix(b"//") {
        return scheme
            .first()
            .is_some_and(u8::is_ascii_alphabetic)
            .then_some((scheme, rest));
    }
    // `host:80/path` has no scheme, `mailto:name` no host; `http:80` is a scheme to browsers.
    let is_web = |web: &&str| scheme.eq_ignore_ascii_case(web.as_bytes());
    if WEB_SCHEMES.iter().any(is_web) {
        return None;
    }
    let port = rest
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(rest.len());
    let is_port = port > 0 && matches!(rest.get(port), None | Some(b'/' | b'?'));
    is_port.then_some((b"http", url))
}

/// Writes the host of an authority, and says whether it is an address; `None` where it is empty
fn write_host(text: &mut String, authority: &[u8]) -> Option<bool> {
    let host = match authority.iter().rposition(|byte| *byte == b'@') {
        Some(at) => authority.get(at.saturating_add(1)..)?,
        None => authority,
    };
    if let Some(rest) = host.strip_prefix(b"[") {
        return write_bracketed(text, rest);
    }
    let host = match host.iter().rposition(|byte| *byte == b':') {
        Some(at)
            if host
                .get(at.saturating_add(1)..)?
                .iter()
                .all(u8::is_ascii_digit) =>
        {
            host.get(..at)?
        }
        _ => host,
    };
    let start = text.len();
    if !push_plain(text, host) {
        let ascii = in_ascii(host);
        let mut labels = ascii
            .split(|byte| *byte == b'.')
            .filter(|label| !label.is_empty());
        push_lower(text, labels.next()?);
        for label in labels {
            text.push('.');
            push_lower(text, label);
        }
    }
    // Escapes stand for bytes that no address has, but for the space of `10.192.95.89 xy`.
    if let Some((address, _)) = address::parse_ipv4(text.get(start..)?, Spelling::Legacy) {
        text.truncate(start);
        let _: core::fmt::Result = write!(text, "{address}");
        return Some(true);
    }
    Some(false)
}

/// Writes a host that is its own form but for the case of its letters, as most are; says whether it is one
fn push_plain(text: &mut String, host: &[u8]) -> bool {
    let mut previous = b'.';
    for byte in host {
        let is_plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_')
            || (*byte == b'.' && previous != b'.');
        if !is_plain {
            return false;
        }
        previous = *byte;
    }
    let from = text.len();
    let Ok(host) = core::str::from_utf8(host) else {
        return false;
    };
    if previous == b'.' {
        return false;
    }
    text.push_str(host);
    if let Some(host) = text.get_mut(from..) {
        host.make_ascii_lowercase();
    }
    true
}

fn push_lower(text: &mut String, label: &[u8]) {
    let from = text.len();
    escape::escape(text, label);
    // Escapes stay as they are written: `%AB`.
    let is_plain = !text.as_bytes().get(from..).unwrap_or(b"").contains(&b'%');
    if is_plain {
        if let Some(label) = text.get_mut(from..) {
            label.make_ascii_lowercase();
        }
        return;
    }
    text.truncate(from);
    escape::escape(text, &label.to_ascii_lowercase());
}

/// The host in ASCII where it is a name in Unicode; a name that IDNA refuses stays as it is
fn in_ascii(host: &[u8]) -> Cow<'_, [u8]> {
    if host.is_ascii() {
        return Cow::Borrowed(host);
    }
    let ascii = core::str::from_utf8(host)
        .ok()
        .and_then(|name| idna::domain_to_ascii(name).ok());
    match ascii {
        Some(name) if !name.is_empty() => Cow::Owned(name.into_bytes()),
        _ => Cow::Borrowed(host),
    }
}

/// An IPv6 address in brackets, in the form of RFC 5952; `None` where it is none
fn write_bracketed(text: &mut String, rest: &[u8]) -> Option<bool> {
    let end = rest.iter().position(|byte| *byte == b']')?;
    let inner = core::str::from_utf8(rest.get(..end)?).ok()?;
    let address: Ipv6Addr = inner.parse().ok()?;
    let _: core::fmt::Result = match IpAddr::from(address).to_canonical() {
        IpAddr::V4(address) => write!(text, "{address}"),
        IpAddr::V6(address) => write!(text, "[{address}]"),
    };
    Some(true)
}

/// Whether a path has no dot segments and no runs of slashes, nor what might be one
fn is_resolved(path: &[u8]) -> bool {
    let mut previous = b'-';
    for byte in path {
        if previous == b'/' && matches!(byte, b'/' | b'.') {
            return false;
        }
        previous = *byte;
    }
    !path.is_empty()
}

/// Writes a path without dot segments and runs of slashes
fn write_path(text: &mut String, path: &[u8]) {
    text.push('/');
    let start = text.len();
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            b"" | b"." => {}
            b".." => {
                // What is looked through is taken off, so all of it is looked through once.
                let written = text.get(start..).unwrap_or("");
                let written = written.strip_suffix('/').unwrap_or(written);
                let parent = written.rfind('/').map_or(0, |at| at.saturating_add(1));
                text.truncate(start.saturating_add(parent));
            }
            _ => {
                escape::escape(text, segment);
                if segments.peek().is_some() {
                    text.push('/');
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let url =
            SafeBrowsing::parse(b"HTTPS://user@Www.Example.com.:8443//a/./b/../c%2541?x=%31#y")
                .unwrap();
        assert_eq!(url.as_str(), "https://www.example.com/a/cA?x=1");
        assert_eq!(
            (url.host(), url.path(), url.query(), url.passes()),
            ("www.example.com", "/a/cA", Some("x=1"), 2)
        );
        let empty = SafeBrowsing::parse(b"a.example/?").unwrap();
        assert_eq!((empty.query(), empty.exact()), (Some(""), "a.example/"));
    }

    #[test]
    fn addresses() {
        for (url, host) in [
            ("http://[2001:DB8:0:0::1]:80/", "[2001:db8::1]"),
            ("http://[::ffff:192.0.2.1]/", "192.0.2.1"),
            ("http://0xc0.0x2.01/", "192.2.0.1"),
        ] {
            let url = SafeBrowsing::parse(url.as_bytes()).unwrap();
            assert_eq!((url.host(), url.is_address()), (host, true));
        }
    }
}
