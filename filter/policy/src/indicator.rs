//! Indicators: what is known of URLs, domains, networks and hashes.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use core::net::IpAddr;

use ipnet::IpNet;

use crate::target::{Host, Target, TargetKind};

/// The indicators that verdicts are made from
///
/// The only type that knows how indicators are kept.
#[derive(Debug, Default)]
pub(crate) struct Indicators {
    urls: BTreeMap<String, Category>,
    domains: BTreeMap<String, Category>,
    networks: BTreeMap<IpNet, Category>,
    hashes: BTreeMap<String, Category>,
}

/// What an indicator stands for
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Category {
    CommandAndControl,
    Malware,
    Other,
    Phishing,
    Scanner,
    Spam,
}

/// An indicator that a target matches
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Hit {
    pub(crate) kind: &'static str,
    pub(crate) value: String,
    /// `exact`, `parent` (a domain above the target's) or `network`
    pub(crate) how: &'static str,
    pub(crate) category: Category,
}

impl Category {
    pub(crate) const WORDS: &'static [(&'static str, Self)] = &[
        ("command_and_control", Self::CommandAndControl),
        ("malware", Self::Malware),
        ("other", Self::Other),
        ("phishing", Self::Phishing),
        ("scanner", Self::Scanner),
        ("spam", Self::Spam),
    ];

    pub(crate) fn word(self) -> &'static str {
        Self::WORDS
            .iter()
            .find(|(_, category)| *category == self)
            .map_or("other", |(word, _)| word)
    }
}

impl Indicators {
    /// Adds a URL, domain, address or hash
    ///
    /// # Errors
    ///
    /// The message, when the text is not of that kind.
    pub(crate) fn insert(
        &mut self,
        list: List,
        text: &str,
        category: Category,
    ) -> Result<(), &'static str> {
        let target = || Target::classify(text);
        match list {
            List::Urls => match target() {
                Target {
                    kind: TargetKind::Url,
                    host: Some(_),
                    canonical,
                    ..
                } => {
                    self.urls.insert(canonical, category);
                }
                _ => return Err("is not a URL with a host"),
            },
            List::Domains => match target() {
                Target {
                    kind: TargetKind::Domain,
                    canonical,
                    ..
                } => {
                    self.domains.insert(canonical, category);
                }
                _ => return Err("is not a domain"),
            },
            List::Networks => {
                let network = text
                    .parse::<IpNet>()
                    .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
                let network =
                    network.map_err(|_| "is not an address or a network such as 203.0.113.0/24")?;
                if network.trunc() != network {
                    return Err("has bits behind its prefix: write the network's first address");
                }
                self.networks.insert(network, category);
            }
            List::Hashes => match target() {
                Target {
                    kind: TargetKind::Md5 | TargetKind::Sha1 | TargetKind::Sha256,
                    canonical,
                    ..
                } => {
                    self.hashes.insert(canonical, category);
                }
                _ => return Err("is not an MD5, SHA-1 or SHA-256 hash"),
            },
        }
        Ok(())
    }

    /// The indicator that a target matches, the most specific one first
    pub(crate) fn look_up(&self, target: &Target) -> Option<Hit> {
        let exact = |kind, value: &str, category: &Category| Hit {
            kind,
            value: value.to_owned(),
            how: "exact",
            category: *category,
        };
        match target.kind {
            TargetKind::Url => {
                let url = self.urls.get(&target.canonical);
                url.map(|category| exact("url", &target.canonical, category))
                    .or_else(|| self.look_up_host(target.host.as_ref()?))
            }
            TargetKind::Domain | TargetKind::Ipv4 | TargetKind::Ipv6 => {
                self.look_up_host(target.host.as_ref()?)
            }
            TargetKind::Md5 | TargetKind::Sha1 | TargetKind::Sha256 => {
                let category = self.hashes.get(&target.canonical)?;
                Some(exact(target.kind.word(), &target.canonical, category))
            }
            TargetKind::Payload => {
                let category = self.hashes.get(&target.sha256)?;
                Some(exact("sha256", &target.sha256, category))
            }
        }
    }

    fn look_up_host(&self, host: &Host) -> Option<Hit> {
        match host {
            Host::Domain(name) => {
                let mut rest = Some(name.as_str());
                while let Some(domain) = rest {
                    if let Some(category) = self.domains.get(domain) {
                        let how = if domain == name { "exact" } else { "parent" };
                        return Some(Hit {
                            kind: "domain",
                            value: domain.to_owned(),
                            how,
                            category: *category,
                        });
                    }
                    rest = domain.split_once('.').map(|(_, parent)| parent);
                }
                None
            }
            Host::Address(address) => {
                let (kind, bits) = if address.is_ipv4() {
                    ("ipv4", 32)
                } else {
                    ("ipv6", 128)
                };
                (0..=bits).rev().find_map(|length| {
                    let network = IpNet::new(*address, length).ok()?.trunc();
                    let category = *self.networks.get(&network)?;
                    let (value, how) = if length == bits {
                        (address.to_string(), "exact")
                    } else {
                        (network.to_string(), "network")
                    };
                    Some(Hit {
                        kind,
                        value,
                        how,
                        category,
                    })
                })
            }
        }
    }
}

/// One of the lists of indicators
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum List {
    Domains,
    Hashes,
    Networks,
    Urls,
}
