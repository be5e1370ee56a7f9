//! The compiled bundle: indicators, lists and tables as bytes that are adopted, not parsed.
//!
//! The layout is in `examples/THREAT-BUNDLE.md`, byte by byte. Adopting one checks its digest and its bounds, and reads
//! the two short tables (verdict rows, feeds); nothing is done per indicator. Whatever the bytes are, a lookup
//! ends: an index that lies finds nothing.

mod adoption;
mod buffer;
mod feed;
mod format;
mod hash;
mod header;
mod lines;
mod ranges;
mod refusal;
mod row;
mod signer;
mod starts;
#[cfg(feature = "write")]
mod writer;

use alloc::vec::Vec;
use core::net::IpAddr;

pub use adoption::{Adoption, Delivery, Shelf, Terms};
pub use feed::Feed;
#[cfg(feature = "write")]
pub use lines::StoredKey;
pub use refusal::Refusal;
pub use row::{Row, Scope};
pub use signer::{SIGNED, Signer};
#[cfg(feature = "write")]
pub use writer::{Fact, FeedEntry, Figures, WriteError, Writer, sign};

use buffer::Buffer;
use format::{Kind, SECTIONS};
use hash::{Hashed, Hasher};
use header::{Header, Section};
use lines::Lines;
use ranges::{Ranges4, Ranges6};
use starts::Starts;

/// What a key is looked up in
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Set {
    /// Safe Browsing lookup expressions: `host/path?query`
    Url,
    /// Names in their ASCII form, in lower case, without a last dot
    Domain,
    /// Digests of files, as bytes: MD5 (16), SHA-1 (20), SHA-256 (32)
    Hash,
}

/// A table whose readers are elsewhere
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Table {
    /// Public suffixes
    Suffixes,
    /// Brands and what they own
    Brands,
    /// Characters that look alike
    Confusables,
    /// Weights of the structural evidence
    Model,
}

/// Whether what is listed is a threat or is known to be good
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum List {
    /// Threats
    Deny,
    /// Known good
    Allow,
}

/// A bundle that was adopted
#[derive(Debug)]
pub struct Bundle {
    bytes: Buffer,
    header: Header,
    sections: [Section; SECTIONS],
    /// From row 1 on
    rows: Vec<Row>,
    digest: [u8; 32],
}

impl Bundle {
    /// Looks a threat up by its exact key
    ///
    /// A row that is found says where it counts: see [`Row::counts`].
    #[must_use]
    pub fn find(&self, set: Set, key: &[u8]) -> Option<Row> {
        self.look_up(List::Deny, set, key)
    }

    /// Looks up whether a key is known to be good
    #[must_use]
    pub fn allowed(&self, set: Set, key: &[u8]) -> Option<Row> {
        self.look_up(List::Allow, set, key)
    }

    /// Looks an address up that is listed by itself
    #[must_use]
    pub fn address(&self, address: IpAddr) -> Option<Row> {
        self.look_up_address(List::Deny, address)
    }

    /// Looks the listed networks up that hold an address; what several say of it is one row
    #[must_use]
    pub fn network(&self, address: IpAddr) -> Option<Row> {
        self.look_up_network(List::Deny, address)
    }

    /// Looks up whether an address, or a network that holds it, is known to be good
    #[must_use]
    pub fn allowed_address(&self, address: IpAddr) -> Option<Row> {
        self.look_up_address(List::Allow, address)
            .or_else(|| self.look_up_network(List::Allow, address))
    }

    /// Whether some rule for URLs counts in any case of its letters
    ///
    /// Those are stored in lower case ([`Row::is_caseless`]), so a lookup expression with capitals needs a second look
    /// in lower case; otherwise not.
    #[must_use]
    pub fn has_caseless(&self) -> bool {
        self.header.caseless
    }

    /// The bytes of a table; empty when the bundle has none
    #[must_use]
    pub fn table(&self, table: Table) -> &[u8] {
        self.bytes_of(match table {
            Table::Suffixes => Kind::Suffixes,
            Table::Brands => Kind::Brands,
            Table::Confusables => Kind::Confusables,
            Table::Model => Kind::Model,
        })
    }

    /// A feed by its number in a row
    #[must_use]
    pub fn feed(&self, number: u8) -> Option<Feed<'_>> {
        Feed::read(self.bytes_of(Kind::Feeds), number)
    }

    /// All feeds, in the order of their numbers
    pub fn feeds(&self) -> impl Iterator<Item = Feed<'_>> {
        (0..=u8::MAX).map_while(|number| self.feed(number))
    }

    /// When it was compiled, in seconds since 1970
    #[must_use]
    pub fn created(&self) -> u64 {
        self.header.created
    }

    /// When the first of its feeds is out of date, in seconds since 1970
    #[must_use]
    pub fn valid_until(&self) -> u64 {
        self.header.valid_until
    }

    /// When the last of its feeds is out of date: after that nothing in it counts, in seconds since 1970
    #[must_use]
    pub fn current_until(&self) -> u64 {
        let feeds = self.feeds().filter(|feed| !feed.allows);
        feeds.map(|feed| feed.valid_until).max().unwrap_or(0)
    }

    /// When the last feed is out of date that lists a row, in seconds since 1970
    #[must_use]
    pub fn row_until(&self, row: &Row) -> u64 {
        let mut until = 0;
        let mut left = row.feeds;
        while left != 0 {
            let feed = u8::try_from(left.trailing_zeros()).ok();
            let feed = feed.and_then(|number| self.feed(number));
            until = feed.map_or(until, |feed| until.max(feed.valid_until));
            left &= left.wrapping_sub(1);
        }
        until
    }

    /// SHA-256 of all that stands before the seal: what the bundle is known by
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// How many keys (or segments of networks) a list has
    #[must_use]
    pub fn count(&self, list: List, what: Count) -> u32 {
        self.section(what.kind(), list).count
    }

    /// Its size in bytes
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether it has no bytes, which none that was adopted has
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// The key and the signature beneath it, for who can check it; `None` when nobody signed
    #[must_use]
    pub fn signature(&self) -> Option<(&[u8; 32], &[u8; 64])> {
        format::signature(self.bytes())
    }

    /// The bytes, to keep or to write
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.bytes()
    }

    /// What a row of the table says; the filter has no need for it
    #[must_use]
    pub fn row(&self, number: u8) -> Option<Row> {
        let at = usize::from(number).checked_sub(1)?;
        self.rows.get(at).copied()
    }

    /// Looks for what adoption takes on trust: whether keys and segments are in order and name rows that there are
    ///
    /// Takes time for each indicator, so it is for who publishes a bundle. `false` is a bundle that finds less than
    /// it holds.
    #[must_use]
    pub fn is_orderly(&self) -> bool {
        let rows = self.section(Kind::Rows, List::Deny).count;
        [List::Deny, List::Allow].into_iter().all(|list| {
            let keyed = [
                Kind::Urls,
                Kind::Domains,
                Kind::Addresses4,
                Kind::Addresses6,
                Kind::Hashes,
            ];
            keyed.into_iter().all(|kind| {
                let count = self.section(kind, list).count;
                self.keys(kind, list)
                    .is_none_or(|keys| keys.is_orderly(count, rows))
            }) && self
                .ranges4(list)
                .is_none_or(|ranges| ranges.is_orderly(rows))
                && self
                    .ranges6(list)
                    .is_none_or(|ranges| ranges.is_orderly(rows))
        })
    }

    /// Whether keys of two bundles can be compared
    #[cfg(feature = "write")]
    #[must_use]
    pub fn has_secret_of(&self, other: &Self) -> bool {
        self.header.secret == other.header.secret
    }

    /// The keys of a set, as far as they are stored, ascending
    #[cfg(feature = "write")]
    #[must_use]
    pub fn keys_of(&self, list: List, what: Count) -> Vec<StoredKey> {
        let mut all: Vec<StoredKey> = match what.kind() {
            Kind::Networks4 => self
                .ranges4(list)
                .map_or_else(Vec::new, |ranges| ranges.all()),
            Kind::Networks6 | Kind::Confirmed => Vec::new(),
            kind => self
                .keys(kind, list)
                .map_or_else(Vec::new, |keys| keys.all().collect()),
        };
        all.sort_unstable();
        all
    }

    fn look_up(&self, list: List, set: Set, key: &[u8]) -> Option<Row> {
        let (kind, tag) = match set {
            Set::Url => (Kind::Urls, format::TAG_URL),
            Set::Domain => (Kind::Domains, format::TAG_DOMAIN),
            Set::Hash => (Kind::Hashes, format::TAG_HASH),
        };
        let keys = self.keys(kind, list)?;
        self.hashed(&keys, list, self.hasher(tag).hash(key))
    }

    fn look_up_address(&self, list: List, address: IpAddr) -> Option<Row> {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let keys = self.keys(Kind::Addresses4, list)?;
                let hasher = self.hasher(format::TAG_ADDRESS);
                self.row(keys.find(hash::address4(hasher, address))?)
            }
            IpAddr::V6(address) => {
                let keys = self.keys(Kind::Addresses6, list)?;
                let key = self.hasher(format::TAG_ADDRESS).hash(&address.octets());
                self.hashed(&keys, list, key)
            }
        }
    }

    fn look_up_network(&self, list: List, address: IpAddr) -> Option<Row> {
        let row = match address.to_canonical() {
            IpAddr::V4(address) => self.ranges4(list)?.find(address),
            IpAddr::V6(address) => self.ranges6(list)?.find(address),
        };
        self.row(row?)
    }

    /// The row of a key that was cut to fit; one that may be blocked on is compared in full
    fn hashed(&self, keys: &Lines<'_>, list: List, key: Hashed) -> Option<Row> {
        let high = key.high();
        let row = self.row(keys.find(high)?)?;
        let confirmed = || {
            let all = self.section_bytes(Kind::Confirmed, list);
            format::confirms(all, high, key.low())
        };
        let sure = !row.block || confirmed();
        sure.then_some(row)
    }

    fn hasher(&self, tag: u8) -> Hasher {
        Hasher::new(&self.header.secret, tag)
    }

    fn keys(&self, kind: Kind, list: List) -> Option<Lines<'_>> {
        let section = self.section(kind, list);
        Lines::new(section.bytes(self.bytes()), section.count)
    }

    fn ranges4(&self, list: List) -> Option<Ranges4<'_>> {
        let section = self.section(Kind::Networks4, list);
        let bytes = self.section_bytes(Kind::Networks4, list);
        Starts::new(bytes, section.count, section.bits).map(Ranges4::new)
    }

    fn ranges6(&self, list: List) -> Option<Ranges6<'_>> {
        Ranges6::new(
            self.section_bytes(Kind::Networks6, list),
            self.section(Kind::Networks6, list).count,
        )
    }

    fn bytes_of(&self, kind: Kind) -> &[u8] {
        self.section_bytes(kind, List::Deny)
    }

    fn section_bytes(&self, kind: Kind, list: List) -> &[u8] {
        self.section(kind, list).bytes(self.bytes())
    }

    fn section(&self, kind: Kind, list: List) -> Section {
        self.sections
            .get(kind.place(list))
            .copied()
            .unwrap_or_default()
    }
}

/// What a bundle can be asked the number of
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Count {
    /// Lookup expressions
    Urls,
    /// Names
    Domains,
    /// IPv4 addresses
    Addresses4,
    /// IPv6 addresses
    Addresses6,
    /// Digests
    Hashes,
    /// Segments that IPv4 networks come to
    Segments4,
    /// Segments that IPv6 networks come to
    Segments6,
    /// Keys that are stored in full
    Confirmed,
}

impl Count {
    fn kind(self) -> Kind {
        match self {
            Self::Urls => Kind::Urls,
            Self::Domains => Kind::Domains,
            Self::Addresses4 => Kind::Addresses4,
            Self::Addresses6 => Kind::Addresses6,
            Self::Hashes => Kind::Hashes,
            Self::Segments4 => Kind::Networks4,
            Self::Segments6 => Kind::Networks6,
            Self::Confirmed => Kind::Confirmed,
        }
    }
}
