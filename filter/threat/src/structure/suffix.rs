//! Public suffixes: under which names strangers register names.
//!
//! A compact form of the list at publicsuffix.org, read in place. A rule is a 48-bit hash of its labels
//! (from the right) with flags; names between a rule and the root stand there too, so that a look-up ends
//! where the list ends.

#[cfg(feature = "write")]
use alloc::{collections::BTreeMap, vec::Vec};

use super::bytes::{Fnv, big_endian, partition, take, u16_at};

const NORMAL: u8 = 1;
const WILDCARD: u8 = 2;
const EXCEPTION: u8 = 4;
const NORMAL_PRIVATE: u8 = 8;
const WILDCARD_PRIVATE: u8 = 16;
const DEEPER: u8 = 32;

const BUCKETS: usize = 256;
const RECORD: usize = 6;
const MAGIC: &[u8; 4] = b"PSL1";

/// The list, borrowed
#[derive(Clone, Copy, Debug)]
pub struct Suffixes<'a> {
    index: &'a [u8],
    records: &'a [u8],
}

/// What the list says of a host; offsets are bytes from the start of the host
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Suffix {
    /// Where the public suffix starts, shared hosting included (`vercel.app`)
    pub start: usize,
    /// Where the suffix starts that a registry runs (`app`)
    pub registry: usize,
    /// Whether the list names it; if not, it is the last label
    pub listed: bool,
}

impl Suffix {
    /// Whether the suffix belongs to somebody who lets strangers have names under it: shared hosting
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.start < self.registry
    }
}

impl<'a> Suffixes<'a> {
    /// Adopts the section; `None` if it isn't one
    #[must_use]
    pub fn new(mut section: &'a [u8]) -> Option<Self> {
        let rest = &mut section;
        if take(rest, MAGIC.len())? != MAGIC {
            return None;
        }
        let index = take(rest, BUCKETS.saturating_add(1).saturating_mul(2))?;
        let records = *rest;
        let count = usize::from(u16_at(index, BUCKETS.saturating_mul(2))?);
        (records.len() == count.saturating_mul(RECORD)).then_some(Self { index, records })
    }

    /// The public suffix of a host in its ASCII form, in lower case, without a last dot. A host that is a
    /// suffix itself starts at 0.
    #[must_use]
    pub fn find(&self, host: &[u8]) -> Suffix {
        let mut suffix: Option<(usize, usize)> = None;
        let mut registry: Option<usize> = None;
        let mut listed = false;
        let mut hash = Fnv::new();
        let mut end = host.len();
        let mut previous = (0u8, 0usize);
        loop {
            let start = label_start(host, end);
            let last = suffix.is_none();
            if last {
                // The rule `*` of the list: an unlisted last label is a suffix.
                suffix = Some((start, start));
                registry = Some(start);
            }
            for byte in host.get(start..end).unwrap_or_default().iter().rev() {
                hash = hash.byte(*byte);
            }
            let flags = self.flags(hash);
            if flags & EXCEPTION != 0 {
                return Suffix {
                    start: previous.1,
                    registry: previous.1,
                    listed: true,
                };
            }
            let under = previous.0;
            if flags & NORMAL != 0 || under & WILDCARD != 0 {
                listed = true;
                suffix = Some((start, start));
                registry = Some(start);
            }
            if flags & NORMAL_PRIVATE != 0 || under & WILDCARD_PRIVATE != 0 {
                listed = true;
                suffix = Some((start, start));
            }
            if start == 0 || flags & DEEPER == 0 {
                break;
            }
            previous = (flags, start);
            hash = hash.byte(b'.');
            end = start.saturating_sub(1);
        }
        let start = suffix.map_or(0, |(start, _)| start);
        Suffix {
            start,
            registry: registry.unwrap_or(start),
            listed,
        }
    }

    /// Where the registrable domain of a host starts (its suffix and one label more); `None` if the host is
    /// a suffix itself
    #[must_use]
    pub fn registrable(&self, host: &[u8]) -> Option<usize> {
        let start = self.find(host).start;
        (start > 0).then(|| label_start(host, start.saturating_sub(1)))
    }

    fn flags(&self, hash: Fnv) -> u8 {
        let [bucket, key @ .., _, _] = hash.finish().to_be_bytes();
        self.probe(bucket, key).unwrap_or(0)
    }

    fn probe(&self, bucket: u8, key: [u8; 5]) -> Option<u8> {
        let at = usize::from(bucket).saturating_mul(2);
        let from = usize::from(u16_at(self.index, at)?);
        let to = usize::from(u16_at(self.index, at.saturating_add(2))?);
        let records = self
            .records
            .get(from.saturating_mul(RECORD)..to.saturating_mul(RECORD))?;
        let (records, _) = records.as_chunks::<RECORD>();
        let key = big_endian(&key);
        let found = partition(records.len(), |i| {
            let record = records.get(i);
            record.is_some_and(|[record @ .., _]| big_endian(record) < key)
        });
        let [record @ .., flags] = records.get(found)?;
        (big_endian(record) == key).then_some(*flags)
    }
}

/// Where the label starts that ends at `end`
pub(super) fn label_start(host: &[u8], end: usize) -> usize {
    host.get(..end)
        .unwrap_or_default()
        .iter()
        .rposition(|byte| *byte == b'.')
        .map_or(0, |dot| dot.saturating_add(1))
}

/// A rule of the list
#[cfg(feature = "write")]
#[derive(Clone, Debug)]
pub struct SuffixRule<'a> {
    /// Its name in ASCII form, without `*.` and `!`
    pub name: &'a str,
    /// `*.name`
    pub wildcard: bool,
    /// `!name`
    pub exception: bool,
    /// From the private part of the list
    pub private: bool,
}

#[cfg(feature = "write")]
impl Suffixes<'_> {
    /// The section for a list of rules; `None` if there are more than a section holds (65,535)
    #[must_use]
    pub fn write<'r>(rules: impl IntoIterator<Item = SuffixRule<'r>>) -> Option<Vec<u8>> {
        let mut records: BTreeMap<[u8; 6], u8> = BTreeMap::new();
        for rule in rules {
            let flag = match (rule.exception, rule.wildcard, rule.private) {
                (true, ..) => EXCEPTION,
                (_, true, false) => WILDCARD | DEEPER,
                (_, true, true) => WILDCARD_PRIVATE | DEEPER,
                (_, false, false) => NORMAL,
                (_, false, true) => NORMAL_PRIVATE,
            };
            let mut hash = Fnv::new();
            for (at, byte) in rule.name.bytes().rev().enumerate() {
                if at > 0 && byte == b'.' {
                    *records.entry(record_key(hash)).or_default() |= DEEPER;
                }
                hash = hash.byte(byte);
            }
            *records.entry(record_key(hash)).or_default() |= flag;
        }
        let mut section = MAGIC.to_vec();
        let mut keys = records.keys().peekable();
        let mut count = 0u16;
        for bucket in 0..=u8::MAX {
            section.extend(count.to_le_bytes());
            while keys.next_if(|[first, ..]| *first == bucket).is_some() {
                count = count.checked_add(1)?;
            }
        }
        section.extend(count.to_le_bytes());
        for ([_, key @ ..], flags) in &records {
            section.extend(key);
            section.push(*flags);
        }
        Some(section)
    }
}

#[cfg(feature = "write")]
fn record_key(hash: Fnv) -> [u8; 6] {
    let [key @ .., _, _] = hash.finish().to_be_bytes();
    key
}
