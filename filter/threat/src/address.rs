//! Addresses: every spelling, what is embedded in them, and which are no outsider's business.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whose reading of an IPv4 address
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spelling {
    /// Browsers': a part that is too large makes it no address (WHATWG URL, section 3.5)
    Browser,
    /// Old resolvers' and Safe Browsing's: a part that is too large wraps, and what follows a space is dropped
    Legacy,
}

/// An IPv4 address of one to four parts, each decimal, octal or hexadecimal; and whether it was spelled as
/// people do, in four decimal parts
#[must_use]
pub fn parse_ipv4(text: &str, spelling: Spelling) -> Option<(Ipv4Addr, bool)> {
    if !text.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    let text = match spelling {
        Spelling::Browser => text.strip_suffix('.').unwrap_or(text),
        Spelling::Legacy => before_space(text),
    };
    let mut bits = 0u32;
    let mut parts = text.split('.');
    let mut count = 0u32;
    let mut plain = true;
    while let Some(part) = parts.next() {
        count = count.checked_add(1).filter(|count| *count <= 4)?;
        let (number, is_plain) = number(part)?;
        plain &= is_plain;
        let is_last = parts.clone().next().is_none();
        // How many bytes the part fills.
        let width = if is_last { 5u32.checked_sub(count)? } else { 1 };
        let room = u32::MAX.checked_shr(32u32.saturating_sub(width.saturating_mul(8)))?;
        if spelling == Spelling::Browser && number > room {
            return None;
        }
        bits = bits.checked_shl(width.saturating_mul(8)).unwrap_or(0) | (number & room);
    }
    Some((Ipv4Addr::from_bits(bits), plain && count == 4))
}

/// Windows drops what follows a space behind an address, in names of up to 15 characters
fn before_space(text: &str) -> &str {
    const ESCAPED: &str = "%20";
    match text.split_once(' ').or_else(|| text.split_once(ESCAPED)) {
        Some((address, rest)) if address.len().saturating_add(rest.len()) < 15 => {
            let is_plain = |byte: u8| byte.is_ascii_digit() || byte == b'.';
            let is_address = address.bytes().all(is_plain)
                && address.bytes().filter(|b| *b == b'.').count() == 3;
            if is_address { address } else { text }
        }
        _ => text,
    }
}

/// A part, and whether it is decimal without leading zeros
fn number(part: &str) -> Option<(u32, bool)> {
    let bytes = part.as_bytes();
    let (digits, radix) = match bytes {
        [b'0', b'x' | b'X', digits @ ..] => (digits, 16),
        [b'0', digits @ ..] if !digits.is_empty() => (digits, 8),
        digits => (digits, 10),
    };
    if digits.is_empty() {
        // `0x` is zero to browsers.
        return (radix == 16).then_some((0, false));
    }
    let mut number = 0u32;
    for byte in digits {
        let digit = char::from(*byte).to_digit(radix)?;
        number = number.checked_mul(radix)?.checked_add(digit)?;
    }
    Some((number, radix == 10))
}

/// Where an address leads
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// Everywhere
    Public,
    /// Examples in documents; belongs to nobody
    Documentation,
    /// A network of somebody's own, the machine itself, or no place at all
    Internal,
    /// Where clouds hand out credentials
    Metadata,
}

impl Reach {
    /// Of an address; one that embeds another is what it embeds, if that is worse
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => {
                let outer = Self::of_v6(v6);
                match embedded(v6) {
                    // A wrapper is reserved by itself; what it wraps says more.
                    Some((
                        Wrapper::Mapped | Wrapper::Nat64 | Wrapper::SixToFour | Wrapper::Teredo,
                        v4,
                    )) => Self::of_v4(v4),
                    Some((Wrapper::Compatible, v4)) => Self::of_v4(v4).worse(Self::Internal),
                    Some((Wrapper::LocalNat64 | Wrapper::Isatap, v4)) => {
                        Self::of_v4(v4).worse(outer)
                    }
                    None => outer,
                }
            }
        }
    }

    fn worse(self, other: Self) -> Self {
        let rank = |reach| match reach {
            Self::Public => 0u8,
            Self::Documentation => 1,
            Self::Internal => 2,
            Self::Metadata => 3,
        };
        if rank(other) > rank(self) {
            other
        } else {
            self
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let bits = address.to_bits();
        let within = |list: &[(Ipv4Addr, u32)]| {
            list.iter().any(|(network, length)| {
                let mask = u32::MAX
                    .checked_shl(32u32.saturating_sub(*length))
                    .unwrap_or(0);
                (bits ^ network.to_bits()) & mask == 0
            })
        };
        if within(METADATA_V4) {
            Self::Metadata
        } else if within(INTERNAL_V4) {
            Self::Internal
        } else if within(DOCUMENTATION_V4) {
            Self::Documentation
        } else {
            Self::Public
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        if METADATA_V6.contains(&address) {
            return Self::Metadata;
        }
        let bits = address.to_bits();
        let within = |list: &[(u128, u32)]| {
            list.iter().any(|(network, length)| {
                let mask = u128::MAX
                    .checked_shl(128u32.saturating_sub(*length))
                    .unwrap_or(0);
                (bits ^ network) & mask == 0
            })
        };
        if within(DOCUMENTATION_V6) {
            Self::Documentation
        } else if within(RESERVED_V6) || !within(UNICAST_V6) {
            Self::Internal
        } else {
            Self::Public
        }
    }
}

/// How an IPv4 address lies in an IPv6 one
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wrapper {
    /// `::ffff:0:0/96` (RFC 4291, section 2.5.5.2), and as RFC 2765 had it, `::ffff:0:0:0/96`
    Mapped,
    /// `::/96` (RFC 4291, section 2.5.5.1), deprecated
    Compatible,
    /// `64:ff9b::/96` (RFC 6052)
    Nat64,
    /// `64:ff9b:1::/48`, somebody's own (RFC 8215)
    LocalNat64,
    /// `2002::/16` (RFC 3056)
    SixToFour,
    /// `2001::/32`; the client's address, behind its NAT (RFC 4380)
    Teredo,
    /// `...:0:5efe:a.b.c.d` (RFC 5214)
    Isatap,
}

/// The IPv4 address that an IPv6 address carries
#[must_use]
pub fn embedded(address: Ipv6Addr) -> Option<(Wrapper, Ipv4Addr)> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low));
    let last = join(g, h);
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0, 0, 0, 0, 0xffff, 0) => Some((Wrapper::Mapped, last)),
        // `::` and `::1` carry nothing.
        (0, 0, 0, 0, 0, 0) if g != 0 || h > 1 => Some((Wrapper::Compatible, last)),
        (0x64, 0xff9b, 0, 0, 0, 0) => Some((Wrapper::Nat64, last)),
        (0x64, 0xff9b, 1, _, _, _) => Some((Wrapper::LocalNat64, last)),
        (0x2002, ..) => Some((Wrapper::SixToFour, join(b, c))),
        (0x2001, 0, ..) => Some((Wrapper::Teredo, join(!g, !h))),
        (_, _, _, _, 0 | 0x200, 0x5efe) => Some((Wrapper::Isatap, last)),
        _ => None,
    }
}

/// Whether a name leads nowhere but inside: `localhost` (RFC 6761), `local` (RFC 6762), `home.arpa`
/// (RFC 8375), `internal`, or a single label
#[must_use]
pub fn is_internal_name(name: &str) -> bool {
    let Some((rest, last)) = name.rsplit_once('.') else {
        return !name.is_empty();
    };
    matches!(last, "internal" | "local" | "localhost" | "localdomain")
        || (last == "arpa" && (rest == "home" || rest.ends_with(".home")))
}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u32) -> (Ipv4Addr, u32) {
    (Ipv4Addr::new(a, b, c, d), length)
}

/// A network of IPv6 by its first three groups
const fn v6(first: u16, second: u16, third: u16, length: u32) -> (u128, u32) {
    let bits = ((first as u128) << 112) | ((second as u128) << 96) | ((third as u128) << 80);
    (bits, length)
}

const METADATA_V4: &[(Ipv4Addr, u32)] = &[
    v4(169, 254, 169, 254, 32),
    // Amazon's containers, time and name servers.
    v4(169, 254, 170, 2, 32),
    v4(169, 254, 170, 23, 32),
    v4(169, 254, 169, 253, 32),
    v4(169, 254, 169, 123, 32),
    // Alibaba's, Azure's, Oracle's.
    v4(100, 100, 100, 200, 32),
    v4(168, 63, 129, 16, 32),
    v4(192, 0, 0, 192, 32),
];

/// IANA's special-purpose registry as far as not globally reachable, multicast, 240.0.0.0/4
const INTERNAL_V4: &[(Ipv4Addr, u32)] = &[
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(224, 0, 0, 0, 3),
];

/// RFC 5737
const DOCUMENTATION_V4: &[(Ipv4Addr, u32)] = &[
    v4(192, 0, 2, 0, 24),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
];

const METADATA_V6: &[Ipv6Addr] = &[
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// All that is allocated to unicast (RFC 4291, section 2.4)
const UNICAST_V6: &[(u128, u32)] = &[v6(0x2000, 0, 0, 3)];

/// What is not for everybody within `2000::/3`
const RESERVED_V6: &[(u128, u32)] = &[
    // IETF protocol assignments: Teredo, benchmarking, ORCHID.
    v6(0x2001, 0, 0, 23),
    v6(0x2002, 0, 0, 16),
];

/// RFC 3849, RFC 9637
const DOCUMENTATION_V6: &[(u128, u32)] = &[v6(0x2001, 0xdb8, 0, 32), v6(0x3fff, 0, 0, 20)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reach() {
        use Reach::{Documentation, Internal, Metadata, Public};
        for (address, reach) in [
            ("8.8.8.8", Public),
            ("0.0.0.0", Internal),
            ("10.1.2.3", Internal),
            ("100.64.0.1", Internal),
            ("100.100.100.200", Metadata),
            ("127.255.0.1", Internal),
            ("168.63.129.16", Metadata),
            ("169.254.169.254", Metadata),
            ("169.254.1.1", Internal),
            ("172.31.255.255", Internal),
            ("172.32.0.0", Public),
            ("192.0.2.7", Documentation),
            ("198.19.0.1", Internal),
            ("224.0.0.1", Internal),
            ("255.255.255.255", Internal),
            ("::", Internal),
            ("::1", Internal),
            ("::ffff:127.0.0.1", Internal),
            ("::ffff:8.8.8.8", Public),
            ("::ffff:0:10.0.0.1", Internal),
            ("::127.0.0.1", Internal),
            ("::8.8.8.8", Internal),
            ("64:ff9b::169.254.169.254", Metadata),
            ("64:ff9b::8.8.8.8", Public),
            ("64:ff9b:1::8.8.8.8", Internal),
            ("2002:7f00:1::", Internal),
            ("2002:808:808::1", Public),
            // Teredo: the client's address is complemented.
            ("2001:0:102:304:0:ffff:5601:5601", Metadata),
            ("2001:0:102:304:0:ffff:f7f7:f7f7", Public),
            ("2606:4700::5efe:10.0.0.1", Internal),
            ("2606:4700::1111", Public),
            ("2001:db8::1", Documentation),
            ("fd00:ec2::254", Metadata),
            ("fd12::1", Internal),
            ("fe80::1", Internal),
            ("ff02::1", Internal),
            ("4000::1", Internal),
        ] {
            assert_eq!(Reach::of(address.parse().unwrap()), reach, "{address}");
        }
    }

    #[test]
    fn spellings() {
        for (text, browser, legacy) in [
            ("1.2.3.4", Some("1.2.3.4"), Some("1.2.3.4")),
            ("192.0x00A80001", Some("192.168.0.1"), Some("192.168.0.1")),
            (
                "0xffffffff",
                Some("255.255.255.255"),
                Some("255.255.255.255"),
            ),
            ("017700000001", Some("127.0.0.1"), Some("127.0.0.1")),
            ("127.1", Some("127.0.0.1"), Some("127.0.0.1")),
            ("0x7f.0x0", Some("127.0.0.0"), Some("127.0.0.0")),
            ("1.2.3.4.", Some("1.2.3.4"), None),
            ("256.1", None, Some("0.0.0.1")),
            ("1.2.3.256", None, Some("1.2.3.0")),
            ("4294967296", None, None),
            ("08.1.1.1", None, None),
            ("1..2", None, None),
            ("1.2.3.4.5", None, None),
            ("", None, None),
            ("0x", Some("0.0.0.0"), Some("0.0.0.0")),
            ("x.1", None, None),
        ] {
            let read =
                |spelling| parse_ipv4(text, spelling).map(|(address, _)| std::format!("{address}"));
            assert_eq!(read(Spelling::Browser).as_deref(), browser, "{text}");
            assert_eq!(read(Spelling::Legacy).as_deref(), legacy, "{text}");
        }
        assert_eq!(
            parse_ipv4("1.2.3.4", Spelling::Browser).map(|read| read.1),
            Some(true)
        );
        assert_eq!(
            parse_ipv4("1.2.3.04", Spelling::Browser).map(|read| read.1),
            Some(false)
        );
    }

    #[test]
    fn names() {
        for name in [
            "localhost",
            "a.localhost",
            "nas.local",
            "metadata.google.internal",
            "x.home.arpa",
            "intranet",
        ] {
            assert!(is_internal_name(name), "{name}");
        }
        for name in [
            "evil.example",
            "local.example",
            "in-addr.arpa",
            "nothome.arpa",
            "",
        ] {
            assert!(!is_internal_name(name), "{name}");
        }
    }
}
