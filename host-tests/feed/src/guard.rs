//! What keeps a feed from hurting the customer.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portcullis_threat::address::{Reach, is_internal_name};
use portcullis_threat::bundle::Scope;

use crate::Reason;
use crate::indicator::{Indicator, Url};

/// What must not be condemned as a whole, and by which feed
#[derive(Debug, Default)]
pub(crate) struct Protected {
    /// Names that are protected, and all names above them
    names: HashMap<String, Protection>,
    addresses: HashMap<IpAddr, usize>,
    networks: Vec<(IpAddr, u8, usize)>,
    urls: HashMap<String, usize>,
    hashes: HashSet<Vec<u8>>,
    of_hashes: usize,
}

#[derive(Debug)]
struct Protection {
    feed: usize,
    /// It is protected, not only something below it
    itself: bool,
}

impl Protected {
    /// Protects what a feed with this number names
    pub(crate) fn add(&mut self, indicator: &Indicator, feed: usize) {
        match indicator {
            Indicator::Domain(name, _) => {
                let mut rest = Some(name.as_str());
                while let Some(name) = rest {
                    let entry = self.names.entry(name.to_owned());
                    entry.or_insert(Protection {
                        feed,
                        itself: false,
                    });
                    let above = name.split_once('.').map(|(_, above)| above);
                    rest = above.filter(|above| above.contains('.'));
                }
                if let Some(protection) = self.names.get_mut(name) {
                    protection.itself = true;
                }
            }
            Indicator::Address(address) => {
                self.addresses.insert(*address, feed);
            }
            Indicator::Network(first, prefix) => self.networks.push((*first, *prefix, feed)),
            Indicator::Url(url) => {
                self.urls.insert(url.expression.clone(), feed);
            }
            Indicator::Hash(bytes) => {
                self.hashes.insert(bytes.clone());
                self.of_hashes = feed;
            }
        }
    }

    /// The feed that protects what this would condemn
    pub(crate) fn against(&self, indicator: &Indicator) -> Option<usize> {
        match indicator {
            Indicator::Domain(name, scope) => {
                let found = self.names.get(name)?;
                let condemned = if found.itself {
                    !scope.has(Scope::NOT_SELF)
                } else {
                    scope.has(Scope::SUBDOMAINS)
                };
                condemned.then_some(found.feed)
            }
            Indicator::Address(address) => {
                let held = self
                    .networks
                    .iter()
                    .find(|(first, prefix, _)| holds(*first, *prefix, *address));
                self.addresses
                    .get(address)
                    .copied()
                    .or_else(|| held.map(|(_, _, feed)| *feed))
            }
            Indicator::Network(first, prefix) => {
                let address = self
                    .addresses
                    .iter()
                    .find(|(address, _)| holds(*first, *prefix, **address));
                let network = self.networks.iter().find(|(other, length, _)| {
                    holds(*first, *prefix, *other) || holds(*other, *length, *first)
                });
                address
                    .map(|(_, feed)| *feed)
                    .or_else(|| network.map(|(_, _, feed)| *feed))
            }
            Indicator::Url(url) => self.against_url(url),
            Indicator::Hash(bytes) => self.hashes.contains(bytes).then_some(self.of_hashes),
        }
    }

    /// A page of a host that is protected may be listed; not its front page, nor all of it
    fn against_url(&self, url: &Url) -> Option<usize> {
        if let Some(feed) = self.urls.get(&url.expression) {
            return Some(*feed);
        }
        if !url.is_root() {
            return None;
        }
        let name = self.names.get(url.host()).filter(|name| name.itself);
        let address = || {
            self.addresses
                .get(&url.host().parse::<IpAddr>().ok()?)
                .copied()
        };
        name.map(|name| name.feed).or_else(address)
    }
}

/// Whether an indicator is about what belongs to nobody outside, or is about half the world
pub(crate) fn reach(indicator: &Indicator) -> Result<(), Reason> {
    match indicator {
        Indicator::Address(address) => public(*address),
        Indicator::Network(first, prefix) => {
            let narrowest = if first.is_ipv4() { 8 } else { 16 };
            if *prefix < narrowest {
                return Err(Reason::TooWide);
            }
            public(*first)?;
            if RESERVED
                .iter()
                .any(|reserved| holds(*first, *prefix, *reserved))
            {
                return Err(Reason::Bogon);
            }
            Ok(())
        }
        Indicator::Url(url) => {
            let host = url.host();
            let bare = host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'));
            match bare.unwrap_or(host).parse::<IpAddr>() {
                Ok(address) => public(address),
                Err(_) if is_internal_name(host) => Err(Reason::Bogon),
                Err(_) => Ok(()),
            }
        }
        Indicator::Domain(name, _) if is_internal_name(name) => Err(Reason::Bogon),
        Indicator::Domain(..) | Indicator::Hash(_) => Ok(()),
    }
}

fn public(address: IpAddr) -> Result<(), Reason> {
    match Reach::of(address) {
        Reach::Public | Reach::Documentation => Ok(()),
        Reach::Internal | Reach::Metadata => Err(Reason::Bogon),
    }
}

/// Where ranges begin that are nobody's: a network that holds one of these holds at least a part of such a range
const RESERVED: [IpAddr; 17] = [
    IpAddr::V4(Ipv4Addr::new(0, 0, 0, 0)),
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)),
    IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)),
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)),
    IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 0)),
    IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)),
    IpAddr::V4(Ipv4Addr::new(198, 18, 0, 0)),
    IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)),
    IpAddr::V4(Ipv4Addr::new(240, 0, 0, 0)),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0)),
    IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)),
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)),
    IpAddr::V6(Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0)),
    IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)),
];

/// Whether a network holds an address
fn holds(first: IpAddr, prefix: u8, address: IpAddr) -> bool {
    match (first, address) {
        (IpAddr::V4(first), IpAddr::V4(address)) => {
            let free = 32_u32.saturating_sub(prefix.into());
            first.to_bits().checked_shr(free) == address.to_bits().checked_shr(free)
        }
        (IpAddr::V6(first), IpAddr::V6(address)) => {
            let free = 128_u32.saturating_sub(prefix.into());
            first.to_bits().checked_shr(free) == address.to_bits().checked_shr(free)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::any;

    fn indicator(text: &str) -> Indicator {
        any(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_nobodys_is_not_listed() {
        for text in [
            "10.1.2.3",
            "169.254.169.254",
            "192.168.0.0/24",
            "8.0.0.0/7",
            "172.0.0.0/8",
            "fe80::/16",
            "http://127.0.0.1/x",
            "printer.local",
            "http://[::1]/x",
        ] {
            assert!(reach(&indicator(text)).is_err(), "{text}");
        }
        for text in [
            "8.8.8.8",
            "36.0.8.0/21",
            "2a00:1450::/32",
            "evil.example",
            "http://8.8.8.8/x",
            "198.51.100.7",
        ] {
            assert_eq!(reach(&indicator(text)), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_is_protected_is_not_condemned_and_its_pages_may_be() {
        let mut protected = Protected::default();
        for (feed, text) in ["shop.good.example", "192.0.2.7", "198.51.100.0/24"]
            .into_iter()
            .enumerate()
        {
            protected.add(&indicator(text), feed);
        }
        for (text, feed) in [
            ("shop.good.example", Some(0)),
            ("good.example", Some(0)),
            ("www.shop.good.example", None),
            ("other.good.example", None),
            ("*.shop.good.example", None),
            ("*.good.example", Some(0)),
            ("http://shop.good.example/", Some(0)),
            ("http://shop.good.example/evil.exe", None),
            ("192.0.2.7", Some(1)),
            ("192.0.2.0/24", Some(1)),
            ("198.51.100.9", Some(2)),
            ("198.51.100.128/25", Some(2)),
            ("198.51.0.0/16", Some(2)),
            ("203.0.113.1", None),
        ] {
            assert_eq!(protected.against(&indicator(text)), feed, "{text}");
        }
        let exact = Indicator::Domain("good.example".into(), Scope::EXACT);
        assert_eq!(protected.against(&exact), None);
    }
}
