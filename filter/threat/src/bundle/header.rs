//! Header and section table: all that adoption reads besides rows and feeds.

use super::feed::Feed;
use super::format::{
    ALIGNMENT, CASELESS, ENTRY, HEADER, Kind, MAGIC, MOST_ROWS, MOST_SECTIONS, SEAL, SECTIONS,
    VERSION, u16_at, u32_at, u64_at,
};
use super::lines::Lines;
use super::ranges::Ranges6;
use super::refusal::Refusal;
use super::row::Row;
use super::starts::Starts;

/// What the first 64 bytes say
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) created: u64,
    pub(super) valid_until: u64,
    pub(super) secret: [u8; 16],
    pub(super) caseless: bool,
    sections: u16,
    length: u32,
}

/// Where a section is
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Section {
    offset: u32,
    length: u32,
    pub(super) count: u32,
    pub(super) bits: u8,
}

impl Header {
    /// Reads the header of what may still be incomplete
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        if !bytes.starts_with(MAGIC) {
            return Err(Refusal::Format);
        }
        let bytes = bytes.first_chunk::<HEADER>().ok_or(Refusal::Length)?;
        if u16_at(bytes, 8) != VERSION {
            return Err(Refusal::Version);
        }
        let mut secret = [0; 16];
        for (to, from) in secret.iter_mut().zip(bytes.iter().skip(32)) {
            *to = *from;
        }
        let sections = u16_at(bytes, 10);
        if sections > MOST_SECTIONS {
            return Err(Refusal::Section);
        }
        Ok(Self {
            created: u64_at(bytes, 16),
            valid_until: u64_at(bytes, 24),
            secret,
            caseless: u32_at(bytes, 48) & CASELESS != 0,
            sections,
            length: u32_at(bytes, 12),
        })
    }

    /// Whether a whole bundle with this header has so many bytes
    pub(super) fn fits(&self, whole: usize) -> bool {
        self.whole() == whole
    }

    /// How many bytes a whole bundle with this header has
    pub(super) fn whole(&self) -> usize {
        usize::try_from(self.length).map_or(usize::MAX, |length| length.saturating_add(SEAL))
    }

    /// Reads the section table of a whole bundle
    ///
    /// INVARIANT: what is returned lies within the content and is as long as its count says.
    pub(super) fn sections(&self, bytes: &[u8]) -> Result<[Section; SECTIONS], Refusal> {
        let content = usize::try_from(self.length)
            .ok()
            .and_then(|length| bytes.get(..length))
            .ok_or(Refusal::Length)?;
        let table = usize::from(self.sections)
            .checked_mul(ENTRY)
            .and_then(|length| content.get(HEADER..)?.get(..length))
            .ok_or(Refusal::Section)?;
        let mut free = HEADER.saturating_add(table.len());
        let mut sections = [Section::default(); SECTIONS];
        for entry in table.as_chunks::<ENTRY>().0 {
            let section = Section {
                offset: u32_at(entry, 4),
                length: u32_at(entry, 8),
                count: u32_at(entry, 12),
                bits: entry.get(2).copied().unwrap_or(0),
            };
            free = section.end_after(free, content.len())?;
            let Some((kind, list)) = Kind::of(u16_at(entry, 0)) else {
                continue;
            };
            let place = sections.get_mut(kind.place(list)).ok_or(Refusal::Section)?;
            if place.offset != 0 || !section.is_shaped(kind, content) {
                return Err(Refusal::Section);
            }
            *place = section;
        }
        if free != content.len() {
            return Err(Refusal::Length);
        }
        Ok(sections)
    }
}

impl Section {
    pub(super) fn bytes(self, bytes: &[u8]) -> &[u8] {
        self.range()
            .and_then(|range| bytes.get(range))
            .unwrap_or_default()
    }

    fn range(self) -> Option<core::ops::Range<usize>> {
        let from = usize::try_from(self.offset).ok()?;
        let to = from.checked_add(usize::try_from(self.length).ok()?)?;
        Some(from..to)
    }

    /// Where it ends: it begins at the first aligned place that is free
    fn end_after(self, free: usize, content: usize) -> Result<usize, Refusal> {
        let range = self.range().ok_or(Refusal::Section)?;
        let aligned = free.checked_next_multiple_of(ALIGNMENT);
        if aligned != Some(range.start) || range.end > content {
            return Err(Refusal::Section);
        }
        Ok(range.end)
    }

    /// Whether it is as long as what it holds, and what every lookup starts from is in it
    fn is_shaped(self, kind: Kind, content: &[u8]) -> bool {
        let bytes = self.bytes(content);
        let records = |length: usize| {
            usize::try_from(self.count)
                .ok()
                .and_then(|count| count.checked_mul(length))
        };
        let length = match kind {
            Kind::Feeds if self.count <= Feed::MOST => records(Feed::LENGTH),
            Kind::Rows if self.count <= MOST_ROWS => records(Row::LENGTH),
            Kind::Feeds | Kind::Rows => None,
            Kind::Networks6 => Ranges6::length(self.count),
            Kind::Confirmed => records(16),
            Kind::Suffixes | Kind::Brands | Kind::Confusables | Kind::Model => Some(bytes.len()),
            Kind::Urls | Kind::Domains | Kind::Addresses4 | Kind::Addresses6 | Kind::Hashes => {
                return Lines::new(bytes, self.count).is_some();
            }
            Kind::Networks4 => return Starts::is_framed(bytes, self.count, self.bits),
        };
        length == Some(bytes.len())
    }
}
