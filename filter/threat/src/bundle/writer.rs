//! Makes bundles: for the command line and for tests. The filter only reads them.

mod facts;
mod networks;
mod sets;

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use sha2::{Digest, Sha256};

use super::feed::{self, Feed};
use super::format::{
    ALIGNMENT, ALLOW, CASELESS, ENTRY, HEADER, Kind, MAGIC, SEAL, TAG_ADDRESS, TAG_DOMAIN,
    TAG_HASH, TAG_URL, VERSION,
};
use super::hash::{Hasher, address4};
use super::{List, Scope, Set, Table};
use facts::{Facts, Rows};
use networks::Networks;
use sets::Keys;

pub use facts::Fact;

/// A feed, as the writer is told of it
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FeedEntry {
    /// Printable ASCII, 1 to 48 bytes
    pub name: String,
    /// Printable ASCII, 1 to 48 bytes
    pub licence: String,
    /// In seconds since 1970
    pub fetched_at: u64,
    /// In seconds since 1970
    pub valid_until: u64,
    /// Of the file that was read
    pub sha256: [u8; 32],
    /// Whether it says what is good
    pub allows: bool,
}

/// What a bundle is written from
#[derive(Debug)]
pub struct Writer {
    secret: [u8; 16],
    created: u64,
    feeds: Vec<(FeedEntry, u32)>,
    facts: Facts,
    deny: Lists,
    allow: Lists,
    tables: Vec<(Kind, Vec<u8>)>,
    caseless: bool,
}

/// What cannot be written
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WriteError {
    /// More than 64 feeds
    Feeds,
    /// A name or a licence of a feed that is empty, too long or not ASCII
    Text,
    /// Rows of more than 255 kinds, however coarse
    Rows,
    /// 4 GiB or more
    Size,
    /// Keys of which so many want one place that no room is enough
    Crowd,
}

/// What became of a writer's indicators
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Figures {
    /// Bytes in all
    pub bytes: usize,
    /// Keys of either list, without networks
    pub keys: usize,
    /// Bytes of their lines without the rows
    pub key_bytes: usize,
    /// Bytes of their rows: one each
    pub row_bytes: usize,
    /// Segments that networks came to
    pub segments: usize,
    /// Keys that are stored in full, 16 bytes each
    pub confirmed: usize,
    /// Verdict rows
    pub rows: usize,
    /// How often rows were made coarser until they fitted
    pub coarser: u8,
}

impl Writer {
    /// Begins a bundle with a secret for its keys, compiled at this time (seconds since 1970)
    #[must_use]
    pub fn new(secret: [u8; 16], created: u64) -> Self {
        Self {
            secret,
            created,
            feeds: Vec::new(),
            facts: Facts::default(),
            deny: Lists::default(),
            allow: Lists::default(),
            tables: Vec::new(),
            caseless: false,
        }
    }

    /// Adds a feed; its number is returned
    ///
    /// # Errors
    ///
    /// When there are 64, or its texts can't stand in the table.
    pub fn feed(&mut self, entry: FeedEntry) -> Result<u8, WriteError> {
        if !feed::fits(&entry.name) || !feed::fits(&entry.licence) {
            return Err(WriteError::Text);
        }
        let number = u8::try_from(self.feeds.len()).map_err(|_| WriteError::Feeds)?;
        if u32::from(number) >= Feed::MOST {
            return Err(WriteError::Feeds);
        }
        self.feeds.push((entry, 0));
        Ok(number)
    }

    /// Adds an indicator that is looked up by a key
    ///
    /// A caseless one is to be given in lower case.
    pub fn add(&mut self, list: List, set: Set, key: &[u8], fact: &Fact) {
        let tag = match set {
            Set::Url => TAG_URL,
            Set::Domain => TAG_DOMAIN,
            Set::Hash => TAG_HASH,
        };
        let key = Hasher::new(&self.secret, tag).hash(key);
        let fact = self.fact(fact);
        let lists = self.lists(list);
        let keys = match set {
            Set::Url => &mut lists.urls,
            Set::Domain => &mut lists.domains,
            Set::Hash => &mut lists.hashes,
        };
        keys.push(key.high(), key.low(), fact);
    }

    /// Adds an address
    pub fn address(&mut self, list: List, address: IpAddr, fact: &Fact) {
        let fact = self.fact(fact);
        let hasher = Hasher::new(&self.secret, TAG_ADDRESS);
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let key = address4(hasher, address);
                self.lists(list).addresses4.push(key, 0, fact);
            }
            IpAddr::V6(address) => {
                let key = hasher.hash(&address.octets());
                let keys = &mut self.lists(list).addresses6;
                keys.push(key.high(), key.low(), fact);
            }
        }
    }

    /// Adds a network by its first address and the length of its prefix; bits beyond the prefix don't count
    pub fn network(&mut self, list: List, first: IpAddr, prefix: u8, fact: &Fact) {
        let fact = self.fact(fact);
        let networks = &mut self.lists(list).networks;
        match first {
            IpAddr::V4(first) => networks.add4(first, prefix, fact),
            IpAddr::V6(first) => networks.add6(first, prefix, fact),
        }
    }

    /// Sets a table
    pub fn table(&mut self, table: Table, bytes: &[u8]) {
        let kind = match table {
            Table::Suffixes => Kind::Suffixes,
            Table::Brands => Kind::Brands,
            Table::Confusables => Kind::Confusables,
            Table::Model => Kind::Model,
        };
        self.tables.retain(|(have, _)| *have != kind);
        if !bytes.is_empty() {
            self.tables.push((kind, bytes.to_owned()));
        }
    }

    /// Writes the bundle, unsigned
    ///
    /// The same calls in any order give the same bytes, but for the feeds' numbers.
    ///
    /// # Errors
    ///
    /// When it would be too large, or say too many different things.
    pub fn finish(mut self) -> Result<(Vec<u8>, Figures), WriteError> {
        for lists in [&mut self.deny, &mut self.allow] {
            lists.settle(&mut self.facts)?;
        }
        let mut rows = Rows::new(&self.facts);
        for lists in [&self.deny, &self.allow] {
            lists.count(&mut rows);
        }
        let mut figures = Figures {
            coarser: rows.coarsen().ok_or(WriteError::Rows)?,
            rows: rows.len(),
            ..Figures::default()
        };
        let mut sections: Vec<Raw> = Vec::new();
        let mut feeds = Vec::new();
        for (entry, indicators) in &self.feeds {
            Feed {
                name: &entry.name,
                licence: &entry.licence,
                fetched_at: entry.fetched_at,
                valid_until: entry.valid_until,
                sha256: &entry.sha256,
                indicators: *indicators,
                allows: entry.allows,
            }
            .write(&mut feeds);
        }
        sections.push(Raw::new(Kind::Feeds.number(), feeds, self.feeds.len(), 0));
        sections.push(Raw::new(Kind::Rows.number(), rows.bytes(), rows.len(), 0));
        for (lists, bit) in [(&self.deny, 0), (&self.allow, ALLOW)] {
            lists.write(bit, &rows, &mut sections, &mut figures);
        }
        self.tables.sort_by_key(|(kind, _)| kind.number());
        for (kind, bytes) in self.tables.drain(..) {
            sections.push(Raw::new(kind.number(), bytes, 0, 0));
        }
        sections.sort_by_key(|section| section.number);
        let valid_until = self.feeds.iter().map(|(feed, _)| feed.valid_until).min();
        let bytes = self.assemble(&sections, valid_until.unwrap_or(u64::MAX))?;
        figures.bytes = bytes.len();
        Ok((bytes, figures))
    }

    fn assemble(&self, sections: &[Raw], valid_until: u64) -> Result<Vec<u8>, WriteError> {
        let table = HEADER.saturating_add(sections.len().saturating_mul(ENTRY));
        let mut entries = Vec::new();
        let mut body = Vec::new();
        for section in sections {
            let free = table.saturating_add(body.len());
            let offset = free.next_multiple_of(ALIGNMENT);
            body.resize(offset.saturating_sub(table), 0);
            let number = |value: usize| u32::try_from(value).map_err(|_| WriteError::Size);
            entries.extend_from_slice(&section.number.to_le_bytes());
            entries.extend_from_slice(&[section.bits, 0]);
            entries.extend_from_slice(&number(offset)?.to_le_bytes());
            entries.extend_from_slice(&number(section.bytes.len())?.to_le_bytes());
            entries.extend_from_slice(&number(section.count)?.to_le_bytes());
            body.extend_from_slice(&section.bytes);
        }
        let length =
            u32::try_from(table.saturating_add(body.len())).map_err(|_| WriteError::Size)?;
        let count = u16::try_from(sections.len()).map_err(|_| WriteError::Size)?;
        let mut out = Vec::with_capacity(table.saturating_add(body.len()).saturating_add(SEAL));
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.created.to_le_bytes());
        out.extend_from_slice(&valid_until.to_le_bytes());
        out.extend_from_slice(&self.secret);
        out.extend_from_slice(&(if self.caseless { CASELESS } else { 0 }).to_le_bytes());
        out.resize(HEADER, 0);
        out.extend_from_slice(&entries);
        out.extend_from_slice(&body);
        let digest: [u8; 32] = Sha256::digest(&out).into();
        out.extend_from_slice(&digest);
        let end = out.len().saturating_add(SEAL.saturating_sub(digest.len()));
        out.resize(end, 0);
        Ok(out)
    }

    fn fact(&mut self, fact: &Fact) -> u32 {
        self.caseless |= fact.scope.has(Scope::CASELESS);
        if let Some((_, indicators)) = self.feeds.get_mut(usize::from(fact.feed)) {
            *indicators = indicators.saturating_add(1);
        }
        self.facts.number(fact)
    }

    fn lists(&mut self, list: List) -> &mut Lists {
        match list {
            List::Deny => &mut self.deny,
            List::Allow => &mut self.allow,
        }
    }
}

/// Replaces the signature in a bundle's seal
///
/// What is signed is [`SIGNED`](super::SIGNED) and then the digest. Whether the bytes are a bundle is not looked at.
pub fn sign(bundle: &mut [u8], key: &[u8; 32], signature: &[u8; 64]) {
    let Some(seal) = bundle.last_chunk_mut::<SEAL>() else {
        return;
    };
    let new = key.iter().chain(signature);
    for (byte, new) in seal.iter_mut().skip(32).zip(new) {
        *byte = *new;
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Feeds => "more than 64 feeds: merge some",
            Self::Text => "a feed's name and licence are 1 to 48 printable ASCII characters each",
            Self::Rows => {
                "more than 255 kinds of verdict, however coarse: give feeds fewer categories"
            }
            Self::Size => "4 GiB or more",
            Self::Crowd => "keys crowd in one place: compile with another secret",
        })
    }
}

impl core::error::Error for WriteError {}

#[derive(Debug)]
struct Raw {
    number: u16,
    bits: u8,
    count: usize,
    bytes: Vec<u8>,
}

impl Raw {
    fn new(number: u16, bytes: Vec<u8>, count: usize, bits: u8) -> Self {
        Self {
            number,
            bits,
            count,
            bytes,
        }
    }
}

#[derive(Debug, Default)]
struct Lists {
    urls: Keys,
    domains: Keys,
    hashes: Keys,
    addresses4: Keys,
    addresses6: Keys,
    networks: Networks,
}

impl Lists {
    fn keys(&self) -> [(Kind, &Keys); 5] {
        [
            (Kind::Urls, &self.urls),
            (Kind::Domains, &self.domains),
            (Kind::Hashes, &self.hashes),
            (Kind::Addresses4, &self.addresses4),
            (Kind::Addresses6, &self.addresses6),
        ]
    }

    fn settle(&mut self, facts: &mut Facts) -> Result<(), WriteError> {
        for keys in [
            &mut self.urls,
            &mut self.domains,
            &mut self.hashes,
            &mut self.addresses4,
            &mut self.addresses6,
        ] {
            keys.settle(facts)?;
        }
        self.networks.settle(facts);
        Ok(())
    }

    fn count(&self, rows: &mut Rows) {
        for (_, keys) in self.keys() {
            keys.count(rows);
        }
        self.networks.count(rows);
    }

    fn write(&self, bit: u16, rows: &Rows, out: &mut Vec<Raw>, figures: &mut Figures) {
        let mut confirmed = Vec::new();
        for (kind, keys) in self.keys() {
            if keys.is_empty() {
                continue;
            }
            let (bytes, count) = keys.write(rows);
            figures.keys = figures.keys.saturating_add(count);
            figures.row_bytes = figures.row_bytes.saturating_add(count);
            figures.key_bytes = figures
                .key_bytes
                .saturating_add(bytes.len().saturating_sub(count));
            // An IPv4 address is its own key: there is nothing to confirm.
            if kind != Kind::Addresses4 {
                keys.confirm(rows, &mut confirmed);
            }
            out.push(Raw::new(kind.number() | bit, bytes, count, 0));
        }
        if let Some((bytes, count, bits)) = self.networks.write4(rows) {
            figures.segments = figures.segments.saturating_add(count);
            out.push(Raw::new(Kind::Networks4.number() | bit, bytes, count, bits));
        }
        if let Some((bytes, count)) = self.networks.write6(rows) {
            figures.segments = figures.segments.saturating_add(count);
            out.push(Raw::new(Kind::Networks6.number() | bit, bytes, count, 0));
        }
        confirmed.sort_unstable();
        confirmed.dedup();
        if !confirmed.is_empty() {
            figures.confirmed = figures.confirmed.saturating_add(confirmed.len());
            let count = confirmed.len();
            let number = Kind::Confirmed.number() | bit;
            out.push(Raw::new(number, confirmed.concat(), count, 0));
        }
    }
}
