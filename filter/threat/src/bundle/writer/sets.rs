//! Sets of keys, as they are collected and written.

use alloc::vec::Vec;

use super::super::format::MOST_BITS;
use super::super::keys::split;
use super::facts::{Facts, Rows};

/// Keys with their facts
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<Key>);

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Key {
    high: u64,
    low: u64,
    fact: u32,
}

impl Keys {
    pub(super) fn push(&mut self, (high, low): (u64, u64), fact: u32) {
        self.0.push(Key { high, low, fact });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sorts; what is the same once cut to size gets one fact
    pub(super) fn settle(&mut self, facts: &mut Facts) {
        self.0.sort_unstable();
        let bits = bits(self.0.len());
        for group in self.0.chunk_by_mut(|one, next| same(one, next, bits)) {
            // Facts merge in order of their keys and then of their numbers; what they come to depends on neither.
            let merged = group
                .iter()
                .map(|key| key.fact)
                .reduce(|one, other| facts.merge(one, other));
            if let Some(merged) = merged {
                for key in group.iter_mut() {
                    key.fact = merged;
                }
            }
        }
        self.0.dedup();
    }

    pub(super) fn count(&self, rows: &mut Rows) {
        let bits = bits(self.0.len());
        for group in self.0.chunk_by(|one, next| same(one, next, bits)) {
            if let Some(key) = group.first() {
                rows.count(key.fact);
            }
        }
    }

    /// The section, how many keys it has, and the bits of its index
    pub(super) fn write(&self, rows: &Rows) -> (Vec<u8>, usize, u8) {
        let bits = bits(self.0.len());
        let keys = self
            .0
            .chunk_by(|one, next| same(one, next, bits))
            .filter_map(<[_]>::first)
            .map(|key| (key.high, rows.of(key.fact)));
        let (bytes, count) = section(keys, self.0.len(), bits);
        (bytes, count, bits)
    }

    /// Keys in full, of those that may be blocked on
    pub(super) fn confirm(&self, rows: &Rows, out: &mut Vec<[u8; 16]>) {
        out.extend(
            self.0
                .iter()
                .filter(|key| rows.is_block(key.fact))
                .map(|key| {
                    let whole = (u128::from(key.high) << 64) | u128::from(key.low);
                    whole.to_be_bytes()
                }),
        );
    }
}

/// The bits of an index over so many keys: 8 to 16 keys a place, and some for the smallest sets
pub(super) fn bits(keys: usize) -> u8 {
    let places = keys.checked_div(16).unwrap_or(0).max(1);
    let bits = places.next_power_of_two().trailing_zeros();
    u8::try_from(bits).unwrap_or(MOST_BITS).clamp(4, MOST_BITS)
}

/// Writes a section of keys in ascending order; how many there are is returned
pub(super) fn section(
    keys: impl Iterator<Item = (u64, u8)>,
    at_most: usize,
    bits: u8,
) -> (Vec<u8>, usize) {
    let places = 1_usize.checked_shl(bits.into()).unwrap_or(1);
    let mut index = Vec::with_capacity(places.saturating_add(1).saturating_mul(4));
    let mut rests = Vec::with_capacity(at_most.saturating_mul(4));
    let mut rows = Vec::with_capacity(at_most);
    let mut place = 0;
    for (key, row) in keys {
        let (bucket, rest) = split(key, bits);
        while place <= bucket {
            index.extend_from_slice(&u32::try_from(rows.len()).unwrap_or(u32::MAX).to_le_bytes());
            place = place.saturating_add(1);
        }
        rests.extend_from_slice(&rest.to_le_bytes());
        rows.push(row);
    }
    while place <= places {
        index.extend_from_slice(&u32::try_from(rows.len()).unwrap_or(u32::MAX).to_le_bytes());
        place = place.saturating_add(1);
    }
    let count = rows.len();
    index.append(&mut rests);
    index.append(&mut rows);
    (index, count)
}

fn same(one: &Key, next: &Key, bits: u8) -> bool {
    split(one.high, bits) == split(next.high, bits)
}
