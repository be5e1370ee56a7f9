//! What strings may stand for: networks, addresses, domain names, ARNs.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::network::Network;
use crate::{arn, domain};

/// What strings of a field stand for
#[derive(Debug)]
pub(crate) struct Formats {
    /// At least one; [`Format::String`] stands alone
    pub(crate) formats: Vec<Format>,
    pub(crate) refuses_private: bool,
    /// Most addresses that all networks of one field hold together
    pub(crate) max_addresses: Option<u64>,
}

/// What a string stands for
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    /// One address, IPv4 or IPv6
    Address,
    /// An Amazon Resource Name
    Arn,
    /// A network in CIDR notation
    Cidr,
    /// A domain name
    Domain,
    /// Whatever it likes
    String,
}

impl Format {
    pub(crate) const WORDS: &'static [(&'static str, Self)] = &[
        ("address", Self::Address),
        ("arn", Self::Arn),
        ("cidr", Self::Cidr),
        ("domain", Self::Domain),
        ("string", Self::String),
    ];

    fn word(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(_, format)| *format == self);
        found.map_or("string", |(word, _)| word)
    }
}

impl Formats {
    /// Whether what is private can be told from what isn't
    pub(crate) fn name_hosts(&self) -> bool {
        let names = [Format::Address, Format::Cidr, Format::Domain];
        names.iter().any(|format| self.formats.contains(format))
    }

    /// Checks a string; returns how many addresses it names
    ///
    /// # Errors
    ///
    /// What is wrong with it. What a string means to be is told by its shape, which no two formats
    /// share: so it is read in one way, or refused.
    pub(crate) fn check(&self, text: &str) -> Result<u128, String> {
        if self.formats.contains(&Format::String) {
            return Ok(0);
        }
        let (format, found) = read(text);
        if !self.formats.contains(&format) {
            let words: Vec<_> = self.formats.iter().map(|format| format.word()).collect();
            return Err(format!(
                "must have one of the formats: {}",
                words.join(", ")
            ));
        }
        let found = found?;
        if self.refuses_private && found.is_private {
            return Err("is private, reserved or a metadata service".into());
        }
        Ok(found.addresses)
    }

    /// # Errors
    ///
    /// The message, when a field names more addresses than it may.
    pub(crate) fn check_sum(&self, addresses: u128) -> Result<(), String> {
        match self.max_addresses {
            Some(max) if addresses > u128::from(max) => {
                Err(format!("must hold at most {max} addresses in all"))
            }
            _ => Ok(()),
        }
    }
}

struct Found {
    is_private: bool,
    addresses: u128,
}

impl From<Network> for Found {
    fn from(network: Network) -> Self {
        Self {
            is_private: network.is_private(),
            addresses: network.addresses(),
        }
    }
}

fn read(text: &str) -> (Format, Result<Found, &'static str>) {
    let name = |is_private| Found {
        is_private,
        addresses: 0,
    };
    if text.starts_with("arn:") {
        let valid = arn::is_valid(text);
        let found = if valid {
            Ok(name(false))
        } else {
            Err("is not an ARN of one resource")
        };
        return (Format::Arn, found);
    }
    if text.contains('/') {
        return (Format::Cidr, Network::parse(text).map(Found::from));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return (Format::Address, Ok(Network::from(address).into()));
    }
    let found = domain::parse(text).map(|ascii| name(domain::is_private(&ascii)));
    (Format::Domain, found)
}
