//! What was submitted: its type, and the one spelling under which it is looked up.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use core::fmt;
use core::net::{IpAddr, SocketAddr};

use crate::address::{self, Spelling};
use crate::hash::{self, Digest};
use crate::refang::refang;
use crate::safe_browsing::WEB_SCHEMES;
use crate::web::Web;

/// A classified target
#[derive(Clone, Debug)]
pub struct Target<'a> {
    kind: TargetKind,
    /// The one spelling, where it is not that of `web`
    spelling: Cow<'a, str>,
    address: Option<Host>,
    web: Option<Web<'a>>,
    digest: Option<Digest>,
    text: &'a str,
    defanged: bool,
    odd: bool,
}

/// What a target is
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TargetKind {
    /// A domain name
    Domain,
    /// An IPv4 address
    Ipv4,
    /// An IPv6 address
    Ipv6,
    /// An MD5 hash
    Md5,
    /// Whatever is nothing else
    Payload,
    /// A SHA-1 hash
    Sha1,
    /// A SHA-256 hash
    Sha256,
    /// A URL
    Url,
}

/// The host of a URL, or a target that is one
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Host {
    /// A name in its ASCII form, in lower case, without the last dot
    Domain(String),
    /// An address; a mapped IPv4 address as IPv4
    Address(IpAddr),
}

impl TargetKind {
    /// The word that answers use
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Domain => "domain",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Md5 => "md5",
            Self::Payload => "payload",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Url => "url",
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl Host {
    /// Whether a text is this host, an IPv6 address with or without its brackets
    pub(crate) fn is_written(&self, text: &str) -> bool {
        match self {
            Self::Domain(name) => name == text,
            Self::Address(address) => {
                let inner = text
                    .strip_prefix('[')
                    .and_then(|text| text.strip_suffix(']'));
                inner.unwrap_or(text).parse() == Ok(*address)
            }
        }
    }
}

impl<'a> Target<'a> {
    /// Says what a text is: hash, address, URL, domain, in that order, or else a payload
    #[must_use]
    pub fn classify(text: &'a str) -> Self {
        let trimmed = text.trim();
        if trimmed.len() > MAX_INDICATOR {
            return Self::payload(text);
        }
        let refanged = refang(trimmed);
        let defanged = refanged.is_some();
        let plain = refanged.map_or(Cow::Borrowed(trimmed), Cow::Owned);
        match Self::recognise(text, plain) {
            Some(target) => Self { defanged, ..target },
            None => Self::payload(text),
        }
    }

    /// What it is
    #[must_use]
    pub fn kind(&self) -> TargetKind {
        self.kind
    }

    /// The spelling that answers name; of a payload its SHA-256
    #[must_use]
    pub fn canonical(&self) -> &str {
        match &self.web {
            Some(web) if self.kind == TargetKind::Url => web.canonical(),
            _ => &self.spelling,
        }
    }

    /// Of a URL that browsers open, a domain or an address
    #[must_use]
    pub fn host(&self) -> Option<&Host> {
        self.address
            .as_ref()
            .or_else(|| self.web.as_ref().and_then(Web::host))
    }

    /// Both readings of a URL or a domain
    #[must_use]
    pub fn web(&self) -> Option<&Web<'a>> {
        self.web.as_ref()
    }

    /// Of a hash or a payload
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What was submitted
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Whether it was written so that nobody clicks on it by accident (`hxxp`, `[.]`)
    #[must_use]
    pub fn is_defanged(&self) -> bool {
        self.defanged
    }

    /// Whether its IPv4 address is spelled as people don't: octal, hexadecimal, in less than four parts,
    /// with escapes or in other scripts' digits
    #[must_use]
    pub fn is_oddly_spelled(&self) -> bool {
        match (&self.web, self.host()) {
            (Some(web), Some(Host::Address(IpAddr::V4(address)))) => {
                let raw = web.raw_host();
                // A mapped address is in brackets.
                !raw.starts_with('[') && raw.parse() != Ok(*address)
            }
            _ => self.odd,
        }
    }

    /// SHA-256 of the canonical spelling, or of the payload
    #[must_use]
    pub fn sha256(&self) -> Digest {
        match &self.digest {
            Some(digest) if self.kind == TargetKind::Payload => digest.clone(),
            _ => Digest::sha256(self.canonical().as_bytes()),
        }
    }

    fn payload(text: &'a str) -> Self {
        let digest = Digest::sha256(text.as_bytes());
        Self {
            digest: Some(digest.clone()),
            ..Self::plain(TargetKind::Payload, text, Cow::Owned(digest.to_hex()))
        }
    }

    fn plain(kind: TargetKind, text: &'a str, spelling: Cow<'a, str>) -> Self {
        Self {
            kind,
            spelling,
            address: None,
            web: None,
            digest: None,
            text,
            defanged: false,
            odd: false,
        }
    }

    fn of_web(kind: TargetKind, text: &'a str, url: Cow<'a, str>) -> Self {
        let web = Web::parse(url);
        let spelling = match (kind, web.host()) {
            (TargetKind::Domain, Some(Host::Domain(name))) => Cow::Owned(name.clone()),
            _ => Cow::Borrowed(""),
        };
        Self {
            web: Some(web),
            ..Self::plain(kind, text, spelling)
        }
    }

    fn recognise(text: &'a str, plain: Cow<'a, str>) -> Option<Self> {
        if is_url(&plain) {
            let target = Self::of_web(TargetKind::Url, text, plain);
            let web = target.web.as_ref()?;
            // A sentence that begins with a URL, or several URLs, is none to browsers or only by accident.
            let has_space = web.raw().bytes().any(|byte| byte.is_ascii_whitespace());
            let is_text = has_space && (!web.opens() || web.raw().matches("://").nth(1).is_some());
            return (!is_text).then_some(target);
        }
        if let Some((kind, digits)) = hash::parse(&plain) {
            let digest = Digest::from_hex(digits)?;
            return Some(Self {
                digest: Some(digest.clone()),
                ..Self::plain(kind, text, Cow::Owned(digest.to_hex()))
            });
        }
        if let Some((address, odd)) = address(&plain) {
            let kind = match address {
                IpAddr::V4(_) => TargetKind::Ipv4,
                IpAddr::V6(_) => TargetKind::Ipv6,
            };
            let spelling = Cow::Owned(address.to_string());
            return Some(Self {
                address: Some(Host::Address(address)),
                odd,
                ..Self::plain(kind, text, spelling)
            });
        }
        if is_network(&plain) {
            return None;
        }
        let end = plain.find(['/', '?', '#', ':']).unwrap_or(plain.len());
        let (name, rest) = plain.split_at_checked(end)?;
        let is_host = is_name(name)
            || (!rest.is_empty() && address::parse_ipv4(name, Spelling::Browser).is_some());
        if !is_host {
            return None;
        }
        let kind = if rest.is_empty() {
            TargetKind::Domain
        } else {
            TargetKind::Url
        };
        let mut url = String::with_capacity(plain.len().saturating_add(8));
        url.push_str("http://");
        url.push_str(if rest.is_empty() {
            name.strip_suffix('.').unwrap_or(name)
        } else {
            &plain
        });
        let target = Self::of_web(kind, text, Cow::Owned(url));
        match target.host()? {
            Host::Domain(name) => is_valid_name(name).then_some(target),
            Host::Address(_) if kind == TargetKind::Url => Some(target),
            // Digits of another script, say.
            Host::Address(address) => Some(Self {
                address: Some(Host::Address(*address)),
                odd: true,
                ..Self::plain(TargetKind::Ipv4, text, Cow::Owned(address.to_string()))
            }),
        }
    }
}

/// Longest text that can be anything but a payload, in bytes
const MAX_INDICATOR: usize = 8192;

fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let is_web = WEB_SCHEMES
        .iter()
        .any(|web| scheme.eq_ignore_ascii_case(web));
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    is_web
        || (rest.starts_with("//")
            && scheme
                .as_bytes()
                .first()
                .is_some_and(u8::is_ascii_alphabetic)
            && scheme.bytes().all(is_scheme))
}

/// An address in any spelling, with or without a port, and whether the spelling is odd
fn address(text: &str) -> Option<(IpAddr, bool)> {
    let bracketed = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let plain = bracketed.unwrap_or(text).parse().ok();
    let plain = plain.or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    if let Some(address) = plain {
        return Some((address.to_canonical(), false));
    }
    let (address, _) = address::parse_ipv4(text, Spelling::Browser)?;
    // A small number is a number: no address below 1.0.0.0 leads anywhere.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    (!is_number || address.to_bits() >= 1 << 24).then_some((address.into(), true))
}

/// Whether it is a network in CIDR notation
fn is_network(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, length)| {
        address.parse::<IpAddr>().is_ok() && length.parse::<u8>().is_ok_and(|length| length <= 128)
    })
}

/// Whether it looks like a domain: at least two labels, or `localhost`
fn is_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let good = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.chars().all(good) && (text.contains('.') || text.eq_ignore_ascii_case("localhost"))
}

/// Whether DNS could hold it (RFC 1035, section 2.3.4), and it is not just a word
fn is_valid_name(name: &str) -> bool {
    name.len() <= 253
        && (name.contains('.') || name == "localhost")
        && name.split('.').all(|label| (1..=63).contains(&label.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, kind: TargetKind, canonical: &str) {
        let target = Target::classify(text);
        assert_eq!(
            (target.kind(), target.canonical()),
            (kind, canonical),
            "{text}"
        );
    }

    #[test]
    fn kinds() {
        use TargetKind::{Domain, Ipv4, Ipv6, Md5, Sha1, Sha256, Url};
        let md5 = "44d88612fea8a8f36de82e1278abb02f";
        check("44D88612FEA8A8F36DE82E1278ABB02F", Md5, md5);
        check("md5:44d88612fea8a8f36de82e1278abb02f", Md5, md5);
        let sha1 = "3395856ce81f2b7382dee72602f798b642f14140";
        check(sha1, Sha1, sha1);
        let eicar = "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f";
        check(eicar, Sha256, eicar);
        for (text, canonical) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:8080", "203.0.113.7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("0x7f.1", "127.0.0.1"),
            ("0177.0.0.1", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("0x7f000001", "127.0.0.1"),
            ("１２７.0.0.1", "127.0.0.1"),
        ] {
            check(text, Ipv4, canonical);
        }
        check("2001:DB8::1", Ipv6, "2001:db8::1");
        check("[2001:db8::1]:443", Ipv6, "2001:db8::1");
        check(" Evil.Example. ", Domain, "evil.example");
        check("bücher.example", Domain, "xn--bcher-kva.example");
        check("LOCALHOST", Domain, "localhost");
        for (text, canonical) in [
            ("http://Evil.Example", "http://evil.example/"),
            ("HTTP:\\\\evil.example\\x", "http://evil.example/x"),
            ("http:evil.example", "http://evil.example/"),
            ("http://user:pw@evil.example/a#b", "http://evil.example/a"),
            ("http://3279880203/blah", "http://195.127.0.11/blah"),
            ("evil.example/login?x", "http://evil.example/login?x"),
            ("evil.example:8080", "http://evil.example:8080/"),
            ("0x7f.1/x", "http://127.0.0.1/x"),
            ("http://0x100.2.3.4/", "http://0x100.2.3.4/"),
            ("gopher://evil.example/x", "gopher://evil.example/x"),
        ] {
            check(text, Url, canonical);
        }
    }

    #[test]
    fn payloads() {
        for text in [
            "",
            "hello",
            "12345",
            "10.0.0.0/8",
            "a b.example",
            "md5:zz",
            "../etc/passwd",
            "fe80::1%eth0",
            "javascript:location='http://evil.example/'",
            "see http://evil.example/",
            "http://evil.example is down",
            "http://a.example/\nhttp://b.example/",
        ] {
            let target = Target::classify(text);
            assert_eq!(
                (target.kind(), target.host()),
                (TargetKind::Payload, None),
                "{text}"
            );
            assert_eq!(target.canonical(), Digest::sha256(text.as_bytes()).to_hex());
            assert_eq!(target.sha256().to_hex(), target.canonical());
        }
        assert_eq!(
            Target::classify(&"a.".repeat(9000)).kind(),
            TargetKind::Payload
        );
    }

    #[test]
    fn odd_spellings() {
        for (text, odd) in [
            ("http://3279880203/", true),
            ("http://0300.0250.1/", true),
            ("http://192.0.2.1:80/", false),
            ("http://user@192.0.2.1/", false),
            ("http://[::ffff:192.0.2.1]/", false),
            ("http://%31%39%32.0.2.1/", true),
            ("0x7f.1", true),
            ("127.0.0.1", false),
            ("evil.example", false),
        ] {
            assert_eq!(Target::classify(text).is_oddly_spelled(), odd, "{text}");
        }
    }

    #[test]
    fn readers_that_disagree() {
        for (url, disagrees) in [
            ("http://good.example\\@evil.example/", true),
            ("http://good.example%2f@evil.example/", true),
            ("http://good.example%40evil.example/", true),
            ("http://276.2.3/", true),
            ("http://evil.example/", false),
            ("http://evil.example./", false),
            ("http://evil。example/", false),
            ("http://bücher.example/", false),
            ("http://[2001:db8::1]/", false),
            ("http://[::ffff:1.2.3.4]/", false),
            ("http://0x7f.1/", false),
            ("http://%/", false),
            // What browsers read without slashes is compared in the form that has them.
            ("http:[.]hxxphttp", true),
            ("http://.hxxphttp/", true),
            ("http:http..", true),
            ("http:3279880203", false),
            ("http:evil.example", false),
        ] {
            let target = Target::classify(url);
            assert_eq!(target.web().unwrap().disagrees(), disagrees, "{url}");
        }
    }
}
