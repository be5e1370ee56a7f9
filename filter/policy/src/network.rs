//! Networks, and which of them no outsider should name.

use core::net::{IpAddr, Ipv4Addr};

/// A network of either family; one address is the smallest
///
/// An IPv4 network is kept as it lies in `::ffff:0:0/96` (RFC 4291, section 2.5.5.2), so that both
/// spellings of it are one.
///
/// INVARIANT: `length` is at most 128, and the bits behind it are zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Network {
    bits: u128,
    length: u32,
}

impl Network {
    /// Parses CIDR notation (RFC 4632, section 3.1; RFC 4291, section 2.3), with its prefix
    ///
    /// # Errors
    ///
    /// What is wrong. Bits behind the prefix are refused: `192.0.2.1/24` is one address to some
    /// readers and 256 to others.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const HELP: &str = "is not a network such as 198.51.100.0/24";
        let (address, length) = text.split_once('/').ok_or(HELP)?;
        let address: IpAddr = address.parse().map_err(|_| HELP)?;
        // Some readers take a leading zero for octal.
        let plain = !length.starts_with('0') || length == "0";
        let digits = length.len() <= 3 && length.bytes().all(|byte| byte.is_ascii_digit());
        let length: u32 = match length.parse() {
            Ok(length) if plain && digits => length,
            _ => return Err(HELP),
        };
        let one = Self::from(address);
        let (offset, longest) = if address.is_ipv4() {
            (96, 32)
        } else {
            (0, 128)
        };
        if length > longest {
            return Err("has a longer prefix than its addresses");
        }
        let length = length.saturating_add(offset);
        let host = u128::MAX.checked_shr(length).unwrap_or(0);
        if one.bits & host != 0 {
            return Err("has bits behind its prefix: write the network's first address");
        }
        Ok(Self {
            bits: one.bits,
            length,
        })
    }

    /// How many addresses it holds; all of IPv6 counts as one less than it has
    pub(crate) fn addresses(self) -> u128 {
        u128::MAX
            .checked_shr(self.length)
            .unwrap_or(0)
            .saturating_add(1)
    }

    /// Whether it holds an address that is not reachable from everywhere, or only means something
    /// from within: private, loopback, link-local (metadata services among them), shared,
    /// multicast, documentation, benchmarking, reserved
    ///
    /// The special-purpose registries of IANA (RFC 6890) as far as they say that a network is not
    /// globally reachable, and for IPv6 all that was never allocated (RFC 4291, section 2.4: unicast
    /// is `2000::/3`). An IPv6 network that embeds IPv4 ones is what it embeds: mapped, NAT64 (RFC
    /// 6052, section 2.1), 6to4 (RFC 3056).
    pub(crate) fn is_private(self) -> bool {
        let network = self.embedded();
        if network.is_within(MAPPED) {
            return overlaps(network, INTERNAL_V4) || overlaps(network, RESERVED_V4);
        }
        !network.is_within(UNICAST_V6) || overlaps(network, RESERVED_V6)
    }

    /// The IPv4 network that it embeds, where it does; or else itself
    fn embedded(self) -> Self {
        let low_half = |bits: u128| bits & u128::from(u32::MAX);
        if self.is_within(NAT64) {
            return Self {
                bits: MAPPED.bits | low_half(self.bits),
                length: self.length,
            };
        }
        if self.is_within(SIX_TO_FOUR) {
            let length = self.length.saturating_sub(16).min(32);
            return Self {
                bits: MAPPED.bits | low_half(self.bits >> 80),
                length: length.saturating_add(96),
            };
        }
        self
    }

    fn is_within(self, other: Self) -> bool {
        self.length >= other.length && self.overlaps(other)
    }

    /// Two networks have an address in common when the shorter prefix begins both.
    fn overlaps(self, other: Self) -> bool {
        let length = self.length.min(other.length);
        let differing = (self.bits ^ other.bits).leading_zeros();
        differing >= length
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        let bits = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        Self { bits, length: 128 }
    }
}

fn overlaps(network: Network, list: &[Network]) -> bool {
    list.iter().any(|other| network.overlaps(*other))
}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u32) -> Network {
    Network {
        bits: Ipv4Addr::new(a, b, c, d).to_ipv6_mapped().to_bits(),
        length: length.saturating_add(96),
    }
}

/// A network of IPv6 by its first three groups
const fn v6(first: u16, second: u16, third: u16, length: u32) -> Network {
    let bits = ((first as u128) << 112) | ((second as u128) << 96) | ((third as u128) << 80);
    Network { bits, length }
}

const MAPPED: Network = v4(0, 0, 0, 0, 0);
const NAT64: Network = v6(0x64, 0xff9b, 0, 96);
const SIX_TO_FOUR: Network = v6(0x2002, 0, 0, 16);
const UNICAST_V6: Network = v6(0x2000, 0, 0, 3);

const INTERNAL_V4: &[Network] = &[
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    // Multicast, and 240.0.0.0/4.
    v4(224, 0, 0, 0, 3),
];

const RESERVED_V4: &[Network] = &[
    // The metadata and health service of Azure, the one of these that is not link-local.
    v4(168, 63, 129, 16, 32),
    // Documentation (RFC 5737).
    v4(192, 0, 2, 0, 24),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    // 6to4 relays, deprecated (RFC 7526).
    v4(192, 88, 99, 0, 24),
];

/// What is not for everybody within `2000::/3`
const RESERVED_V6: &[Network] = &[
    // IETF protocol assignments: Teredo, benchmarking, ORCHID.
    v6(0x2001, 0, 0, 23),
    v6(0x2001, 0xdb8, 0, 32),
    SIX_TO_FOUR,
    v6(0x3fff, 0, 0, 20),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        match text.parse::<IpAddr>() {
            Ok(address) => address.into(),
            Err(_) => Network::parse(text).unwrap_or_else(|error| panic!("{text} {error}")),
        }
    }

    #[test]
    fn notation() {
        let check = |text: &str, addresses| {
            let parsed = Network::parse(text).map(Network::addresses);
            assert_eq!(parsed.ok(), addresses, "{text}");
        };
        check("8.8.8.0/24", Some(256));
        check("8.8.8.8/32", Some(1));
        check("0.0.0.0/0", Some(1 << 32));
        check("2600::/16", Some(1 << 112));
        check("2600:1::1/128", Some(1));
        check("::ffff:8.8.8.0/120", Some(256));
        check("::/0", Some(u128::MAX));
        for text in [
            "",
            "/",
            "8.8.8.8",
            "8.8.8.0/",
            "/24",
            "8.8.8.0/33",
            "8.8.8.0/-1",
            "8.8.8.0/+24",
            "8.8.8.0/024",
            "8.8.8.0/00",
            "8.8.8.0/24 ",
            " 8.8.8.0/24",
            "8.8.8.0 /24",
            "8.8.8.0/24/24",
            "8.8.8.0/255.255.255.0",
            "8.8.8/24",
            "8.8/16",
            "010.8.8.0/24",
            "0x8.8.8.0/24",
            "134744072/32",
            "8.8.8.1/24",
            "8.8.8.0/4294967320",
            "٨.8.8.0/24",
            "2600::/129",
            "2600::1/64",
            "2600::%eth0/64",
            "[2600::]/64",
            "2600::::/64",
            "example.com/24",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn both_spellings_of_a_network_are_one() {
        assert_eq!(network("10.0.0.0/8"), network("::ffff:10.0.0.0/104"));
        assert_eq!(network("10.0.0.1"), network("::ffff:a00:1"));
    }

    #[test]
    fn private_networks() {
        let check = |text: &str, private| assert_eq!(network(text).is_private(), private, "{text}");
        for text in [
            "10.0.0.0/8",
            "10.255.255.255",
            "172.16.0.0/12",
            "172.31.255.255",
            "192.168.1.0/24",
            "127.0.0.1",
            "0.0.0.0",
            "100.64.0.1",
            "100.100.100.200",
            "169.254.169.254",
            "169.254.170.2/32",
            "168.63.129.16",
            "192.0.0.192",
            "192.0.2.0/25",
            "198.18.0.0/15",
            "198.51.100.7",
            "203.0.113.0/24",
            "192.88.99.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:10.0.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::808:808",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:db8::1",
            "2002:a00:1::1",
            "2002:a9fe:a9fe::",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            // What holds more than such a network.
            "0.0.0.0/0",
            "8.0.0.0/6",
            "168.0.0.0/6",
            "::/0",
            "::ffff:0:0/96",
            "64:ff9b::/96",
            "64:ff9b::/32",
            "2000::/3",
            "2001::/16",
            "2002::/16",
            "2000::/14",
        ] {
            check(text, true);
        }
        for text in [
            "8.8.8.8",
            "8.0.0.0/7",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0/9",
            "126.0.0.0/8",
            "128.0.0.0/8",
            "169.253.0.0/16",
            "169.255.0.0/16",
            "168.63.129.17",
            "172.15.0.0/16",
            "172.32.0.0/16",
            "192.0.1.0/24",
            "192.0.3.0/24",
            "192.167.0.0/16",
            "198.17.0.0/16",
            "198.20.0.0/16",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "64:ff9b::808:800/120",
            "2002:808:808::/48",
            "2002:800::/24",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2606:4700::/32",
            "2a00::/12",
            "3ffe::1",
        ] {
            check(text, false);
        }
    }
}
