//! Verdict rows: what is known of an indicator.

use super::format::{u16_at, u32_at, u64_at};
use crate::evidence::Category;

/// What is known of an indicator
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Row {
    /// Where it counts
    pub scope: Scope,
    /// What it is said to be
    pub category: Category,
    /// How sure the surest feed is, in per cent
    pub confidence: u8,
    /// The number of the feed that is surest
    pub feed: u8,
    /// Bit i: feed i lists it
    pub feeds: u64,
    /// Whether it may be blocked on; its key was compared in full
    pub block: bool,
    /// When it was first seen, in days since 1970
    pub first_seen: Option<u16>,
    /// When it was last seen, in days since 1970
    pub last_seen: Option<u16>,
    /// How many indicators the row is of
    pub indicators: u32,
}

/// Where an indicator counts
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Scope(u8);

impl Scope {
    /// Only for the host that it names, and for a URL only the path that it names
    pub const EXACT: Self = Self(0);
    /// For hosts below the one that it names, too
    pub const SUBDOMAINS: Self = Self(1);
    /// For paths below the one that it names, too
    pub const BELOW: Self = Self(2);
    /// In any case of its letters; its key is in lower case
    pub const CASELESS: Self = Self(4);
    /// Not for the host that it names: only for those below it
    pub const NOT_SELF: Self = Self(8);

    /// Both
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Without that
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether it says all of that
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Where either counts
    #[cfg(feature = "write")]
    pub(super) const fn widened(self, other: Self) -> Self {
        let both = self.0 & other.0;
        let either = self.0 | other.0;
        Self((either & !Self::NOT_SELF.0) | (both & Self::NOT_SELF.0))
    }

    #[cfg(feature = "write")]
    pub(super) const fn bits(self) -> u8 {
        self.0
    }

    pub(super) const fn of(bits: u8) -> Option<Self> {
        if bits < 16 { Some(Self(bits)) } else { None }
    }
}

impl Row {
    /// Length in the table
    pub(super) const LENGTH: usize = 24;

    /// Whether a row counts that was found under the target's own host (or under one above it), and under the target's own
    /// path, with or without its query (or under one above it). Of a name the path is always its own.
    #[must_use]
    pub fn counts(&self, own_host: bool, own_path: bool) -> bool {
        let host = if own_host {
            !self.scope.has(Scope::NOT_SELF)
        } else {
            self.scope.has(Scope::SUBDOMAINS)
        };
        host && (own_path || self.scope.has(Scope::BELOW))
    }

    /// Whether it counts in any case of its letters
    #[must_use]
    pub fn is_caseless(&self) -> bool {
        self.scope.has(Scope::CASELESS)
    }

    /// Reads a row; `None` for row 0, which says nothing, and where there is none
    pub(super) fn read(section: &[u8], number: u8) -> Option<Self> {
        if number == 0 {
            return None;
        }
        let at = usize::from(number).checked_mul(Self::LENGTH)?;
        let bytes = section.get(at..at.checked_add(Self::LENGTH)?)?;
        let [flags, category, confidence, feed, ..] = bytes else {
            return None;
        };
        let day = |at| Some(u16_at(bytes, at)).filter(|day| *day != 0);
        Some(Self {
            scope: Scope::of(flags & !BLOCK)?,
            category: Category::from_index(*category)?,
            confidence: *confidence,
            feed: *feed,
            feeds: u64_at(bytes, 8),
            block: flags & BLOCK != 0,
            first_seen: day(4),
            last_seen: day(6),
            indicators: u32_at(bytes, 16),
        })
    }

    /// Whether a row is one that the compiler writes, among so many feeds
    pub(super) fn is_sound(&self, feeds: u32) -> bool {
        let known = 1_u64
            .checked_shl(feeds)
            .map_or(u64::MAX, |bit| bit.wrapping_sub(1));
        self.confidence <= 100 && u32::from(self.feed) < feeds && self.feeds & !known == 0
    }

    #[cfg(feature = "write")]
    pub(super) fn write(&self, out: &mut alloc::vec::Vec<u8>) {
        let flags = self.scope.bits() | if self.block { BLOCK } else { 0 };
        out.extend_from_slice(&[flags, self.category.index(), self.confidence, self.feed]);
        out.extend_from_slice(&self.first_seen.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&self.last_seen.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&self.feeds.to_le_bytes());
        out.extend_from_slice(&self.indicators.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
    }
}

const BLOCK: u8 = 0x80;
