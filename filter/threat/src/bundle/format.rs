//! Where things are in a bundle. `examples/THREAT-BUNDLE.md` says the same to people.

use super::List;

/// What a bundle begins with
pub(super) const MAGIC: &[u8; 8] = b"PCTHREAT";
/// The one version that is read and written
pub(super) const VERSION: u16 = 2;
/// Length of the header
pub(super) const HEADER: usize = 64;
/// Length of an entry of the section table
pub(super) const ENTRY: usize = 16;
/// Length of the seal: digest, key, signature
pub(super) const SEAL: usize = 128;
/// Sections begin at multiples of it, so that a line of keys is one of a processor's cache
pub(super) const ALIGNMENT: usize = 64;
/// Most entries that the section table may have; kinds that this version doesn't know count too
pub(super) const MOST_SECTIONS: u16 = 64;
/// Bit of a kind: the section belongs to the allow list
pub(super) const ALLOW: u16 = 0x20;
/// Bit of the header's flags: some rows are caseless
pub(super) const CASELESS: u32 = 1;
/// Most bits that an index is of
pub(super) const MOST_BITS: u8 = 24;
/// Most rows: a key's row is a byte
pub(super) const MOST_ROWS: u32 = 256;

pub(super) const TAG_URL: u8 = 1;
pub(super) const TAG_DOMAIN: u8 = 2;
pub(super) const TAG_HASH: u8 = 3;
pub(super) const TAG_ADDRESS: u8 = 4;

/// What a section holds
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Feeds,
    Rows,
    Urls,
    Domains,
    Addresses4,
    Addresses6,
    Hashes,
    Networks4,
    Networks6,
    Confirmed,
    Suffixes,
    Brands,
    Confusables,
    Model,
}

/// Places in a bundle's table of sections: what both lists have comes twice
pub(super) const SECTIONS: usize = 22;

const BOTH: [Kind; 8] = [
    Kind::Urls,
    Kind::Domains,
    Kind::Addresses4,
    Kind::Addresses6,
    Kind::Hashes,
    Kind::Networks4,
    Kind::Networks6,
    Kind::Confirmed,
];
const ONCE: [Kind; 6] = [
    Kind::Feeds,
    Kind::Rows,
    Kind::Suffixes,
    Kind::Brands,
    Kind::Confusables,
    Kind::Model,
];

impl Kind {
    /// The number in the section table, for the deny list
    pub(super) const fn number(self) -> u16 {
        match self {
            Self::Feeds => 1,
            Self::Rows => 2,
            Self::Urls => 3,
            Self::Domains => 4,
            Self::Addresses4 => 5,
            Self::Addresses6 => 6,
            Self::Hashes => 7,
            Self::Networks4 => 8,
            Self::Networks6 => 9,
            Self::Confirmed => 10,
            Self::Suffixes => 0x40,
            Self::Brands => 0x41,
            Self::Confusables => 0x42,
            Self::Model => 0x43,
        }
    }

    /// Where a bundle keeps the section
    pub(super) const fn place(self, list: List) -> usize {
        let deny = match self {
            Self::Feeds => return 0,
            Self::Rows => return 1,
            Self::Suffixes => return 2,
            Self::Brands => return 3,
            Self::Confusables => return 4,
            Self::Model => return 5,
            Self::Urls => 6,
            Self::Domains => 7,
            Self::Addresses4 => 8,
            Self::Addresses6 => 9,
            Self::Hashes => 10,
            Self::Networks4 => 11,
            Self::Networks6 => 12,
            Self::Confirmed => 13,
        };
        match list {
            List::Deny => deny,
            List::Allow => deny.saturating_add(BOTH.len()),
        }
    }

    /// The section that a number in the section table means; `None` for one of a later version
    pub(super) fn of(number: u16) -> Option<(Self, List)> {
        let once = ONCE.into_iter().find(|kind| kind.number() == number);
        once.map(|kind| (kind, List::Deny)).or_else(|| {
            let list = if number & ALLOW == 0 {
                List::Deny
            } else {
                List::Allow
            };
            BOTH.into_iter()
                .find(|kind| kind.number() == number & !ALLOW)
                .map(|kind| (kind, list))
        })
    }
}

/// Two bytes, little-endian; 0 where there are none
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

/// Four bytes, little-endian; 0 where there are none
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Eight bytes, little-endian; 0 where there are none
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Whether a sorted list of keys of 128 bits, big-endian, has one
pub(super) fn confirms(section: &[u8], high: u64, low: u64) -> bool {
    let mut key = [0; 16];
    let (first, last) = key.split_at_mut(8);
    first.copy_from_slice(&high.to_be_bytes());
    last.copy_from_slice(&low.to_be_bytes());
    section.as_chunks::<16>().0.binary_search(&key).is_ok()
}

/// What the seal holds beside the digest; `None` when it is blank
pub(super) fn signature(bytes: &[u8]) -> Option<(&[u8; 32], &[u8; 64])> {
    let seal = bytes.last_chunk::<SEAL>()?;
    let (key, signature) = seal.get(32..)?.split_first_chunk::<32>()?;
    let signature = signature.first_chunk::<64>()?;
    (key.iter().any(|byte| *byte != 0)).then_some((key, signature))
}
