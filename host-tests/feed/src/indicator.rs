//! Indicators, as rows name them, and the one form under which they are looked up.

use std::net::{IpAddr, Ipv4Addr};

use portcullis_threat::bundle::Scope;
use portcullis_threat::{Category, Digest, SafeBrowsing};

use crate::Reason;

/// What a row names
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Indicator {
    /// A lookup expression
    Url(Url),
    /// A name in ASCII and lower case
    Domain(String, Scope),
    Address(IpAddr),
    /// First address and length of the prefix
    Network(IpAddr, u8),
    /// 16, 20 or 32 bytes
    Hash(Vec<u8>),
}

/// A lookup expression
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Url {
    /// `host/path?query`
    pub(crate) expression: String,
    /// The length of its host
    pub(crate) host: usize,
    pub(crate) scope: Scope,
}

/// What a row says
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Row {
    pub(crate) indicator: Indicator,
    pub(crate) category: Option<Category>,
    pub(crate) confidence: Option<u8>,
    /// Days since 1970
    pub(crate) first_seen: Option<u16>,
    /// Days since 1970
    pub(crate) last_seen: Option<u16>,
    /// The last day on which it counts, days since 1970
    pub(crate) valid_until: Option<u16>,
    /// The feed says that it still is so: it has no age
    pub(crate) is_current: bool,
}

impl Row {
    /// Only that it is listed
    pub(crate) fn of(indicator: Indicator) -> Self {
        Self {
            indicator,
            category: None,
            confidence: None,
            first_seen: None,
            last_seen: None,
            valid_until: None,
            is_current: false,
        }
    }
}

impl Url {
    pub(crate) fn host(&self) -> &str {
        self.expression.get(..self.host).unwrap_or_default()
    }

    /// Whether it is the front page of a host
    pub(crate) fn is_root(&self) -> bool {
        self.expression.get(self.host..) == Some("/")
    }
}

impl Indicator {
    /// As reports show it
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Url(url) => url.expression.clone(),
            Self::Domain(name, _) => name.clone(),
            Self::Address(address) => address.to_string(),
            Self::Network(first, prefix) => format!("{first}/{prefix}"),
            Self::Hash(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

/// What a text is: hash, network, address, URL, name
pub(crate) fn any(text: &[u8]) -> Result<Indicator, Reason> {
    let text = text.trim_ascii();
    if let Ok(word) = str::from_utf8(text) {
        if let found @ (Ok(_) | Err(Reason::Missing)) = hash(word) {
            return found;
        }
        let looks = |(first, prefix): (&str, &str)| {
            first.parse::<IpAddr>().is_ok() && prefix.bytes().all(|byte| byte.is_ascii_digit())
        };
        if word.split_once('/').is_some_and(looks) {
            return network(word);
        }
        if let Some(address) = address_and_port(word) {
            return Ok(Indicator::Address(address));
        }
    }
    let plain_name = !text
        .iter()
        .any(|byte| matches!(byte, b'/' | b'?' | b':' | b'@'));
    if plain_name {
        return domain(text, Scope::SUBDOMAINS);
    }
    url(text, Scope::EXACT)
}

/// An exact URL, with or without its scheme
pub(crate) fn url(text: &[u8], scope: Scope) -> Result<Indicator, Reason> {
    if text.len() > LONGEST_URL {
        return Err(Reason::Unreadable);
    }
    let form = SafeBrowsing::parse(text).ok_or(Reason::Unreadable)?;
    let host = form.host();
    // One label is a machine in somebody's own network.
    if host.is_empty() || !form.is_address() && !host.contains('.') {
        return Err(Reason::Unreadable);
    }
    let mut expression = form.exact().to_owned();
    if scope.has(Scope::CASELESS) {
        expression.make_ascii_lowercase();
    }
    Ok(Indicator::Url(Url {
        host: host.len(),
        expression,
        scope,
    }))
}

/// A name of two labels or more
pub(crate) fn domain(text: &[u8], scope: Scope) -> Result<Indicator, Reason> {
    let text = str::from_utf8(text).map_err(|_| Reason::Unreadable)?.trim();
    let (text, scope) = match text.strip_prefix("*.") {
        Some(below) => (below, scope.and(Scope::SUBDOMAINS).and(Scope::NOT_SELF)),
        None => (text, scope),
    };
    let text = text.strip_suffix('.').unwrap_or(text);
    let is_plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_')
    };
    let name = if text.bytes().all(is_plain) {
        text.to_owned()
    } else {
        idna::domain_to_ascii(text).map_err(|_| Reason::Unreadable)?
    };
    let fits = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(is_plain);
    let last = name.rsplit_once('.').ok_or(Reason::Unreadable)?.1;
    let named = last.bytes().any(|byte| byte.is_ascii_lowercase());
    if name.len() <= 253 && named && name.split('.').all(fits) {
        return Ok(Indicator::Domain(name, scope));
    }
    Err(Reason::Unreadable)
}

/// An address, alone
pub(crate) fn address(text: &str) -> Result<Indicator, Reason> {
    let address = text.trim().parse::<IpAddr>();
    let address = address.map_err(|_| Reason::Unreadable)?;
    Ok(Indicator::Address(address.to_canonical()))
}

/// An address, or one with a port, which doesn't count
pub(crate) fn address_with_port(text: &str) -> Result<Indicator, Reason> {
    address_and_port(text.trim())
        .map(Indicator::Address)
        .ok_or(Reason::Unreadable)
}

/// `ADDRESS/PREFIX`
pub(crate) fn network(text: &str) -> Result<Indicator, Reason> {
    let (first, prefix) = text.trim().split_once('/').ok_or(Reason::Unreadable)?;
    let first = first.parse::<IpAddr>().map_err(|_| Reason::Unreadable)?;
    let prefix = prefix.parse::<u8>().map_err(|_| Reason::Unreadable)?;
    match (first, prefix) {
        (IpAddr::V4(_), 32) | (IpAddr::V6(_), 128) => Ok(Indicator::Address(first.to_canonical())),
        (IpAddr::V4(_), 0..32) | (IpAddr::V6(_), 0..128) => {
            Ok(Indicator::Network(masked(first, prefix), prefix))
        }
        _ => Err(Reason::Unreadable),
    }
}

/// An address or a network
pub(crate) fn address_or_network(text: &str) -> Result<Indicator, Reason> {
    network(text).or_else(|_| address(text))
}

/// MD5, SHA-1 or SHA-256 in hexadecimal
pub(crate) fn hash(text: &str) -> Result<Indicator, Reason> {
    let digits = text.trim();
    if !matches!(digits.len(), 32 | 40 | 64) {
        return Err(Reason::Unreadable);
    }
    let digest = Digest::from_hex(digits).ok_or(Reason::Unreadable)?;
    // What no file hashes to: feeds fill columns with zeros.
    if digest.as_bytes().iter().all(|byte| *byte == 0) {
        return Err(Reason::Missing);
    }
    Ok(Indicator::Hash(digest.as_bytes().to_vec()))
}

fn address_and_port(text: &str) -> Option<IpAddr> {
    let plain = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = plain.unwrap_or(text).parse::<IpAddr>().ok();
    let with_port = || {
        text.parse::<std::net::SocketAddr>()
            .ok()
            .map(|socket| socket.ip())
    };
    // Ports that are no ports (`1.2.3.4:0`, `1.2.3.4:any`) come from rules of firewalls.
    let address = address.or_else(with_port);
    address.map(|address| address.to_canonical())
}

fn masked(first: IpAddr, prefix: u8) -> IpAddr {
    match first {
        IpAddr::V4(first) => {
            let mask = u32::MAX
                .checked_shl(32_u32.saturating_sub(prefix.into()))
                .unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() & mask))
        }
        IpAddr::V6(first) => {
            let mask = u128::MAX
                .checked_shl(128_u32.saturating_sub(prefix.into()))
                .unwrap_or(0);
            IpAddr::V6((first.to_bits() & mask).into())
        }
    }
}

const LONGEST_URL: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_text_is() {
        for (text, shown) in [
            (
                "44D88612FEA8A8F36DE82E1278ABB02F",
                "44d88612fea8a8f36de82e1278abb02f",
            ),
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7:8080", "192.0.2.7"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("192.0.2.77/24", "192.0.2.0/24"),
            ("2001:DB8:1::/48", "2001:db8:1::/48"),
            ("Evil.Example.", "evil.example"),
            ("*.evil.example", "evil.example"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("http://Evil.Example:8080/a/../b?c", "evil.example/b?c"),
            ("evil.example/x", "evil.example/x"),
            ("http://3221225991/x", "192.0.2.7/x"),
        ] {
            assert_eq!(any(text.as_bytes()).unwrap().text(), shown, "{text}");
        }
    }

    #[test]
    fn what_nothing_is() {
        for text in [
            "",
            "-",
            "localhost",
            "1.2.3",
            "a b.example",
            "192.0.2.0/33",
            "192.0.2.7.8",
            "None",
            "http://",
            "http://intranet/x",
        ] {
            assert!(any(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(any("0".repeat(64).as_bytes()), Err(Reason::Missing));
        assert!(any(b"\xff\xfe.example").is_err());
    }
}
