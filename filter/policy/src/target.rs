//! What was submitted: its type, and the one spelling under which it is looked up.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Write as _;
use core::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use sha2::{Digest, Sha256};
use url::Url;

/// A classified target
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    pub(crate) kind: TargetKind,
    /// The spelling that is looked up; for a payload its SHA-256
    pub(crate) canonical: String,
    pub(crate) host: Option<Host>,
    /// Whether it was written so that nobody clicks on it by accident (`hxxp`, `[.]`)
    pub(crate) defanged: bool,
    /// SHA-256 of the canonical spelling, or of the payload; lower-case hexadecimal
    pub(crate) sha256: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TargetKind {
    Domain,
    Ipv4,
    Ipv6,
    Md5,
    Payload,
    Sha1,
    Sha256,
    Url,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Host {
    Domain(String),
    Address(IpAddr),
}

impl TargetKind {
    pub(crate) fn word(self) -> &'static str {
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

impl core::fmt::Display for Host {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Domain(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl Target {
    /// Says what a text is: hash, address, URL, domain, in that order, or else a payload
    pub(crate) fn classify(text: &str) -> Self {
        let trimmed = text.trim();
        let refanged = if trimmed.len() <= MAX_INDICATOR {
            refang(trimmed)
        } else {
            None
        };
        let plain = refanged.as_deref().unwrap_or(trimmed);
        let found = if plain.len() <= MAX_INDICATOR {
            Self::recognise(plain)
        } else {
            None
        };
        let Some((kind, canonical, host)) = found else {
            let sha256 = sha256(text.as_bytes());
            let kind = TargetKind::Payload;
            return Self {
                kind,
                canonical: sha256.clone(),
                host: None,
                defanged: false,
                sha256,
            };
        };
        let sha256 = sha256(canonical.as_bytes());
        Self {
            kind,
            canonical,
            host,
            defanged: refanged.is_some(),
            sha256,
        }
    }

    fn recognise(text: &str) -> Option<(TargetKind, String, Option<Host>)> {
        if let Some((kind, hash)) = hash(text) {
            return Some((kind, hash, None));
        }
        if let Some(address) = address(text) {
            let kind = if address.is_ipv4() {
                TargetKind::Ipv4
            } else {
                TargetKind::Ipv6
            };
            return Some((kind, address.to_string(), Some(Host::Address(address))));
        }
        if has_web_scheme(text) || text.contains("://") {
            let (canonical, host) = canonical_url(text).unwrap_or_else(|| (text.to_owned(), None));
            return Some((TargetKind::Url, canonical, host));
        }
        if text.parse::<IpNet>().is_ok() {
            return None;
        }
        let end = text.find(['/', '?', '#', ':']).unwrap_or(text.len());
        let (name, rest) = text.split_at_checked(end)?;
        let host = domain(name)
            .map(Host::Domain)
            .or_else(|| address(name).map(Host::Address))?;
        if rest.is_empty() {
            return Some((TargetKind::Domain, host.to_string(), Some(host)));
        }
        let (canonical, host) = canonical_url(&format!("http://{text}"))?;
        Some((TargetKind::Url, canonical, host))
    }
}

/// Longest text that can be anything but a payload, in bytes
const MAX_INDICATOR: usize = 8192;

fn sha256(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        let _: core::fmt::Result = write!(text, "{byte:02x}");
    }
    text
}

fn hash(text: &str) -> Option<(TargetKind, String)> {
    let (kind, digits) = match text.split_once(':') {
        Some((kind, digits)) => (Some(kind.to_ascii_lowercase()), digits),
        None => (None, text),
    };
    let (found, word) = match digits.len() {
        32 => (TargetKind::Md5, "md5"),
        40 => (TargetKind::Sha1, "sha1"),
        64 => (TargetKind::Sha256, "sha256"),
        _ => return None,
    };
    let fits =
        kind.is_none_or(|kind| kind == word) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then(|| (found, digits.to_ascii_lowercase()))
}

fn address(text: &str) -> Option<IpAddr> {
    let bracketed = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = bracketed.unwrap_or(text).parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

fn has_web_scheme(text: &str) -> bool {
    let scheme = text.split_once(':').map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| {
        ["http", "https", "ftp", "ws", "wss"]
            .iter()
            .any(|web| scheme.eq_ignore_ascii_case(web))
    })
}

/// The URL as WHATWG parsers write it, without credentials and fragment
fn canonical_url(text: &str) -> Option<(String, Option<Host>)> {
    let mut url = Url::parse(text).ok()?;
    url.set_fragment(None);
    if url.has_authority() {
        let _: Result<(), ()> = url.set_username("");
        let _: Result<(), ()> = url.set_password(None);
    }
    let host = match url.host() {
        Some(url::Host::Domain(name)) => Some(Host::Domain(
            name.trim_end_matches('.').to_ascii_lowercase(),
        )),
        Some(url::Host::Ipv4(address)) => Some(Host::Address(address.into())),
        Some(url::Host::Ipv6(address)) => Some(Host::Address(IpAddr::from(address).to_canonical())),
        None => None,
    };
    Some((url.into(), host))
}

/// A domain in its ASCII form: at least two labels, the last one not a number
fn domain(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let good = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let last = text.rsplit_once('.')?.1;
    if !text.chars().all(good) || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (_, host) = canonical_url(&format!("http://{text}/"))?;
    let Some(Host::Domain(name)) = host else {
        return None;
    };
    let fits = |label: &str| (1..=63).contains(&label.len());
    let valid = name.len() <= 253 && name.split('.').all(fits);
    valid.then_some(name)
}

/// Undoes the usual ways of making a link harmless, once; `None` when there is nothing to undo
///
/// The path of a URL stays as it is: a real one may hold `[.]`.
fn refang(text: &str) -> Option<String> {
    const LONGEST_SCHEME: usize = 5;
    // What a URL parser drops hides no scheme from us (WHATWG URL, section 4.4).
    let mut text = text.to_owned();
    if text
        .bytes()
        .take(LONGEST_SCHEME + 1)
        .any(|byte| byte < b' ')
    {
        text.retain(|c| !matches!(c, '\t' | '\n' | '\r'));
        text = text.trim_matches(|c: char| c <= ' ').to_owned();
    }
    let before = text.len();
    let mut changed = false;
    for (fanged, plain) in [
        ("hxxps", "https"),
        ("hxxp", "http"),
        ("meow", "http"),
        ("h**ps", "https"),
        ("h**p", "http"),
    ] {
        let start = text
            .get(..fanged.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(fanged));
        let scheme_ends = text
            .get(fanged.len()..)
            .is_some_and(|rest| rest.starts_with([':', '[']));
        if start && scheme_ends {
            text.replace_range(..fanged.len(), plain);
            changed = true;
            break;
        }
    }
    for (fanged, plain) in [("[://]", "://"), ("[:]//", "://"), ("[:]", ":")] {
        if let Some(at) = text.find(fanged)
            && text
                .get(..at)
                .is_some_and(|scheme| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        {
            text.replace_range(at..at.saturating_add(fanged.len()), plain);
            changed = true;
            break;
        }
    }
    let host_at = text.find("://").map_or(0, |at| at.saturating_add(3));
    let (scheme, rest) = text.split_at_checked(host_at)?;
    let host_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(host_end)?;
    let mut plain = host.to_owned();
    for (fanged, dot) in [
        ("[.]", "."),
        ("(.)", "."),
        ("{.}", "."),
        ("[dot]", "."),
        ("(dot)", "."),
        ("[@]", "@"),
    ] {
        if plain.contains(fanged) {
            plain = plain.replace(fanged, dot);
            changed = true;
        }
    }
    let refanged = format!("{scheme}{plain}{path}");
    (changed && refanged.len() <= before.saturating_add(2)).then_some(refanged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, kind: TargetKind, canonical: &str) {
        let target = Target::classify(text);
        assert_eq!(
            (target.kind, target.canonical.as_str()),
            (kind, canonical),
            "{text}"
        );
    }

    #[test]
    fn kinds() {
        use TargetKind::{Domain, Ipv4, Ipv6, Md5, Sha1, Sha256, Url};
        check(
            "44D88612FEA8A8F36DE82E1278ABB02F",
            Md5,
            "44d88612fea8a8f36de82e1278abb02f",
        );
        check(
            "md5:44d88612fea8a8f36de82e1278abb02f",
            Md5,
            "44d88612fea8a8f36de82e1278abb02f",
        );
        check(
            "3395856ce81f2b7382dee72602f798b642f14140",
            Sha1,
            "3395856ce81f2b7382dee72602f798b642f14140",
        );
        let eicar = "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f";
        check(eicar, Sha256, eicar);
        check("203.0.113.7", Ipv4, "203.0.113.7");
        check("203.0.113.7:8080", Ipv4, "203.0.113.7");
        check("::ffff:203.0.113.7", Ipv4, "203.0.113.7");
        check("2001:DB8::1", Ipv6, "2001:db8::1");
        check("[2001:db8::1]:443", Ipv6, "2001:db8::1");
        check(" Evil.Example. ", Domain, "evil.example");
        check("bücher.example", Domain, "xn--bcher-kva.example");
        check("http://Evil.Example", Url, "http://evil.example/");
        check("HTTP:\\\\evil.example\\x", Url, "http://evil.example/x");
        check("http:evil.example", Url, "http://evil.example/");
        check(
            "http://user:pw@evil.example/a#b",
            Url,
            "http://evil.example/a",
        );
        check("http://3279880203/blah", Url, "http://195.127.0.11/blah");
        check("evil.example/login?x", Url, "http://evil.example/login?x");
        check("evil.example:8080", Url, "http://evil.example:8080/");
        check("http://0x100.2.3.4/", Url, "http://0x100.2.3.4/");
    }

    #[test]
    fn payloads() {
        for text in [
            "",
            "hello",
            "1.2.3",
            "10.0.0.0/8",
            "a b.example",
            "md5:zz",
            "../etc/passwd",
            "fe80::1%eth0",
        ] {
            let target = Target::classify(text);
            assert_eq!(
                (target.kind, target.host),
                (TargetKind::Payload, None),
                "{text}"
            );
            assert_eq!(target.sha256.len(), 64);
        }
        assert_eq!(
            Target::classify(&"a.".repeat(9000)).kind,
            TargetKind::Payload
        );
    }

    #[test]
    fn defanged() {
        for text in [
            "hxxp://evil[.]example/x",
            "hXXp[:]//evil.example/x",
            "hxxp[://]evil(.)example/x",
            "http://evil[dot]example/x",
            "hxxp\t://evil.example/x",
            "\u{1}h\nxxp://evil.example/x",
        ] {
            let target = Target::classify(text);
            assert_eq!(target.canonical, "http://evil.example/x", "{text}");
            assert!(target.defanged);
        }
        assert_eq!(Target::classify("evil[.]example").canonical, "evil.example");
        assert_eq!(Target::classify("203[.]0[.]113[.]7").kind, TargetKind::Ipv4);
        let real = Target::classify("http://evil.example/a[.]b");
        assert!(!real.defanged);
        assert_eq!(real.canonical, "http://evil.example/a[.]b");
    }
}
