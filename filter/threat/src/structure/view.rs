//! A URL cut into the parts that the structure is judged by.

use core::net::IpAddr;

use super::suffix::{Suffixes, label_start};
use crate::target::Host;
use crate::web::Web;

/// A URL as the judge of structure sees it. The scheme is left out on purpose.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The host as browsers read it
    pub host: Site<'a>,
    /// The port, if it is written and not the scheme's own
    pub port: Option<u16>,
    /// Whether a user's name or a password stands before the host
    pub userinfo: bool,
    /// The path, still escaped
    pub path: &'a [u8],
    /// The query without its question mark
    pub query: &'a [u8],
}

/// The host of a URL
#[derive(Clone, Copy, Debug)]
pub enum Site<'a> {
    /// A name in its ASCII form, in lower case, without a last dot
    Name(&'a [u8]),
    /// An address
    Address(IpAddr),
}

impl<'a> View<'a> {
    /// Of a URL with a host; `None` without
    pub(super) fn of(web: &'a Web<'_>) -> Option<Self> {
        Some(Self {
            host: match web.host()? {
                Host::Domain(name) => Site::Name(name.as_bytes()),
                Host::Address(address) => Site::Address(*address),
            },
            port: web.port(),
            userinfo: web.has_userinfo(),
            path: web.path().as_bytes(),
            query: web.query().unwrap_or_default().as_bytes(),
        })
    }

    /// Whether there is more than a host to judge
    #[must_use]
    pub fn has_path(&self) -> bool {
        self.path.len() > 1 || !self.query.is_empty()
    }
}

/// A host's name in parts. `www.` at its start says nothing and is gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    /// What stands left of the registrable domain, without its last dot
    pub(super) sub: &'a [u8],
    /// The label that somebody registered, at a registry or at a shared host
    pub(super) core: &'a [u8],
    /// From `core` on
    pub(super) registrable: &'a [u8],
    /// The suffix of the shared host, else empty
    pub(super) platform: &'a [u8],
    /// The suffix of the registry
    pub(super) registry: &'a [u8],
    /// The last label
    pub(super) tld: &'a [u8],
}

impl<'a> Parts<'a> {
    pub(super) fn of(host: &'a [u8], suffixes: &Suffixes<'_>) -> Self {
        let host = match host.strip_prefix(b"www.") {
            Some(rest) if rest.contains(&b'.') => rest,
            _ => host,
        };
        let from = |at: usize| host.get(at..).unwrap_or_default();
        let suffix = suffixes.find(host);
        // A host that is a suffix itself: its first label is what there is to look at.
        let end = match suffix.start {
            0 => host
                .iter()
                .position(|byte| *byte == b'.')
                .unwrap_or(host.len()),
            start => start.saturating_sub(1),
        };
        let start = label_start(host, end);
        Self {
            sub: host.get(..start.saturating_sub(1)).unwrap_or_default(),
            core: host.get(start..end).unwrap_or_default(),
            registrable: from(start),
            platform: if suffix.is_private() {
                from(suffix.start)
            } else {
                &[]
            },
            registry: from(suffix.registry),
            tld: from(label_start(host, host.len())),
        }
    }
}
