//! Indicators that a policy lists itself.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::evidence::Category;
use crate::safe_browsing::SafeBrowsing;
use crate::target::{Target, TargetKind};

/// Indicators that a policy lists itself
///
/// A URL counts by itself, whatever its scheme and port, a domain with all below it.
#[derive(Debug, Default)]
pub struct Lists {
    entries: BTreeMap<Vec<u8>, Entry>,
    /// Bit n: some network has a prefix of n bits; of both families, as 128 - n leading bits
    lengths: Lengths,
}

/// One of the lists
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListKind {
    /// Domains, with all below them
    Domains,
    /// MD5, SHA-1 and SHA-256
    Hashes,
    /// Addresses and networks
    Networks,
    /// URLs
    Urls,
}

/// An indicator
#[derive(Debug)]
pub struct Entry {
    /// Its canonical spelling
    pub value: Box<str>,
    /// What it stands for
    pub category: Category,
}

impl Lists {
    /// Adds an indicator
    ///
    /// # Errors
    ///
    /// The message, when the text is not of that kind.
    pub fn insert(
        &mut self,
        list: ListKind,
        text: &str,
        category: Category,
    ) -> Result<(), &'static str> {
        let (key, value) = match list {
            ListKind::Networks => self.network(text)?,
            ListKind::Urls => {
                let target = Target::classify(text);
                let key = target
                    .web()
                    .filter(|web| target.kind() == TargetKind::Url && web.opens())
                    .and_then(|web| SafeBrowsing::parse(web.canonical().as_bytes()));
                let key = key.ok_or("is not a URL with a host")?;
                (url_key(&key), target.canonical().to_owned())
            }
            ListKind::Domains => {
                let target = Target::classify(text);
                if target.kind() != TargetKind::Domain {
                    return Err("is not a domain");
                }
                (
                    key(DOMAIN, target.canonical().as_bytes()),
                    target.canonical().to_owned(),
                )
            }
            ListKind::Hashes => {
                let target = Target::classify(text);
                let digest = target
                    .digest()
                    .filter(|_| target.kind() != TargetKind::Payload)
                    .ok_or("is not an MD5, SHA-1 or SHA-256 hash")?;
                (key(HASH, digest.as_bytes()), target.canonical().to_owned())
            }
        };
        let value = value.into_boxed_str();
        self.entries.insert(key, Entry { value, category });
        Ok(())
    }

    /// Whether nothing is listed
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The listed URL that this is
    #[must_use]
    pub fn url(&self, url: &SafeBrowsing) -> Option<&Entry> {
        if self.is_empty() {
            return None;
        }
        self.entries.get(&url_key(url))
    }

    /// The listed domain that a name is or lies below, the nearest one
    #[must_use]
    pub fn domain(&self, name: &str) -> Option<&Entry> {
        let mut rest = Some(name).filter(|_| !self.is_empty());
        while let Some(domain) = rest {
            if let Some(entry) = self.entries.get(&key(DOMAIN, domain.as_bytes())) {
                return Some(entry);
            }
            rest = domain.split_once('.').map(|(_, parent)| parent);
        }
        None
    }

    /// The smallest listed network that holds an address, and whether it is the address itself
    #[must_use]
    pub fn address(&self, address: IpAddr) -> Option<(&Entry, bool)> {
        let (bits, family) = match address {
            IpAddr::V4(address) => (address.to_ipv6_mapped().to_bits(), 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        (0..=family).find_map(|free| {
            if !self.lengths.has(free) {
                return None;
            }
            let entry = self.entries.get(&network_key(bits, free))?;
            Some((entry, free == 0))
        })
    }

    /// The listed hash
    #[must_use]
    pub fn hash(&self, digest: &[u8]) -> Option<&Entry> {
        self.entries.get(&key(HASH, digest))
    }

    fn network(&mut self, text: &str) -> Result<(Vec<u8>, alloc::string::String), &'static str> {
        const HELP: &str = "is not an address or a network such as 203.0.113.0/24";
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => {
                let digits = length.bytes().all(|byte| byte.is_ascii_digit());
                let length = length.parse::<u32>().ok().filter(|_| digits);
                (address, Some(length.ok_or(HELP)?))
            }
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| HELP)?;
        let (bits, longest) = match address {
            IpAddr::V4(address) => (address.to_ipv6_mapped().to_bits(), 32u32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let free = longest.checked_sub(length.unwrap_or(longest)).ok_or(HELP)?;
        if bits & !mask(free) != 0 {
            return Err("has bits behind its prefix: write the network's first address");
        }
        self.lengths.add(free);
        let mut value = address.to_string();
        if free > 0 {
            value.push('/');
            value.push_str(&longest.saturating_sub(free).to_string());
        }
        Ok((network_key(bits, free), value))
    }
}

/// Numbers of free bits that there are, 0 to 128
#[derive(Clone, Copy, Debug, Default)]
struct Lengths(u128, bool);

impl Lengths {
    fn add(&mut self, free: u32) {
        match 1u128.checked_shl(free) {
            Some(bit) => self.0 |= bit,
            None => self.1 = true,
        }
    }

    fn has(self, free: u32) -> bool {
        1u128
            .checked_shl(free)
            .map_or(self.1, |bit| self.0 & bit != 0)
    }
}

const DOMAIN: u8 = b'd';
const HASH: u8 = b'h';
const NETWORK: u8 = b'n';
const URL: u8 = b'u';

fn key(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(bytes.len().saturating_add(1));
    key.push(tag);
    key.extend_from_slice(bytes);
    key
}

fn url_key(url: &SafeBrowsing) -> Vec<u8> {
    key(URL, url.exact().as_bytes())
}

fn network_key(bits: u128, free: u32) -> Vec<u8> {
    let mut key = key(NETWORK, &(bits & mask(free)).to_be_bytes());
    key.push(u8::try_from(free).unwrap_or(u8::MAX));
    key
}

fn mask(free: u32) -> u128 {
    u128::MAX.checked_shl(free).unwrap_or(0)
}
