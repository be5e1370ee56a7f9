//! What was submitted: its type, and the one spelling under which it is looked up.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt;
use core::net::IpAddr;

use crate::web::Web;

/// A classified target
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// What it is
    pub kind: TargetKind,
    /// The spelling that answers name; for a payload its SHA-256
    pub canonical: Cow<'a, str>,
    /// Of a URL, a domain or an address
    pub host: Option<Host>,
    /// Whether it was written so that nobody clicks on it by accident (`hxxp`, `[.]`)
    pub defanged: bool,
    /// Both readings of a URL or a domain
    pub web: Option<Web<'a>>,
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

impl<'a> Target<'a> {
    /// Says what a text is: hash, address, URL, domain, in that order, or else a payload
    #[must_use]
    pub fn classify(text: &'a str) -> Self {
        let (kind, canonical) =
            crate::hash::kind(text).map_or((TargetKind::Payload, text), |found| found);
        Self {
            kind,
            canonical: Cow::Borrowed(canonical),
            host: None,
            defanged: false,
            web: None,
        }
    }
}
