//! Networks, as they are collected, cut into segments and written.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::super::format::MOST_BITS;
use super::super::ranges::key4;
use super::super::starts::split;
use super::facts::{Facts, Rows};

/// Networks with their facts
#[derive(Debug, Default)]
pub(super) struct Networks {
    four: Vec<Network>,
    six: Vec<Network>,
    segments4: Vec<Segment>,
    segments6: Vec<Segment>,
}

/// First and last address
#[derive(Clone, Copy, Debug)]
struct Network {
    first: u128,
    last: u128,
    fact: u32,
}

/// From here on, until the next one; without a fact it is a gap
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Segment {
    first: u128,
    fact: Option<u32>,
}

impl Networks {
    pub(super) fn add4(&mut self, first: Ipv4Addr, prefix: u8, fact: u32) {
        let network = network(
            first.to_bits().into(),
            32_u32.saturating_sub(prefix.into()),
            fact,
        );
        self.four.push(network);
    }

    pub(super) fn add6(&mut self, first: Ipv6Addr, prefix: u8, fact: u32) {
        let network = network(first.to_bits(), 128_u32.saturating_sub(prefix.into()), fact);
        self.six.push(network);
    }

    pub(super) fn settle(&mut self, facts: &mut Facts) {
        self.segments4 = segments(&self.four, facts);
        self.segments6 = segments(&self.six, facts);
    }

    pub(super) fn count(&self, rows: &mut Rows) {
        let all = self.segments4.iter().chain(&self.segments6);
        for fact in all.filter_map(|segment| segment.fact) {
            rows.count(fact);
        }
    }

    pub(super) fn write4(&self, rows: &Rows) -> Option<(Vec<u8>, usize, u8)> {
        if self.segments4.is_empty() {
            return None;
        }
        let bits = bits(self.segments4.len());
        let keys = self.segments4.iter().map(|segment| {
            let first = Ipv4Addr::from_bits(u32::try_from(segment.first).unwrap_or(u32::MAX));
            (key4(first), row(rows, segment))
        });
        let (bytes, count) = section(keys, self.segments4.len(), bits);
        Some((bytes, count, bits))
    }

    pub(super) fn write6(&self, rows: &Rows) -> Option<(Vec<u8>, usize)> {
        if self.segments6.is_empty() {
            return None;
        }
        let mut bytes = Vec::new();
        for segment in &self.segments6 {
            bytes.extend_from_slice(&segment.first.to_be_bytes());
        }
        bytes.extend(self.segments6.iter().map(|segment| row(rows, segment)));
        Some((bytes, self.segments6.len()))
    }
}

fn row(rows: &Rows, segment: &Segment) -> u8 {
    segment.fact.map_or(0, |fact| rows.of(fact))
}

/// A network whose last so many bits are free
fn network(address: u128, free: u32, fact: u32) -> Network {
    let hosts = 1_u128
        .checked_shl(free)
        .map_or(u128::MAX, |size| size.wrapping_sub(1));
    Network {
        first: address & !hosts,
        last: address | hosts,
        fact,
    }
}

/// Cuts networks where others begin and end; what several say of a segment is merged
fn segments(networks: &[Network], facts: &mut Facts) -> Vec<Segment> {
    // By where it begins: networks that start to hold, and networks that no longer do.
    let mut edges: BTreeMap<u128, (Vec<u32>, Vec<u32>)> = BTreeMap::new();
    for network in networks {
        edges.entry(network.first).or_default().0.push(network.fact);
        if let Some(after) = network.last.checked_add(1) {
            edges.entry(after).or_default().1.push(network.fact);
        }
    }
    let mut holding: BTreeMap<u32, usize> = BTreeMap::new();
    let mut segments: Vec<Segment> = Vec::new();
    for (first, (begin, end)) in edges {
        for fact in begin {
            let count = holding.entry(fact).or_insert(0);
            *count = count.saturating_add(1);
        }
        for fact in end {
            if let Some(count) = holding.get_mut(&fact) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    holding.remove(&fact);
                }
            }
        }
        let fact = holding
            .keys()
            .copied()
            .reduce(|one, other| facts.merge(one, other));
        if segments.last().map(|segment| segment.fact) != Some(fact) {
            segments.push(Segment { first, fact });
        }
    }
    segments
}

/// The bits of an index over so many segments: 8 to 16 a place, and some for the smallest sets
fn bits(segments: usize) -> u8 {
    let places = segments.checked_div(16).unwrap_or(0).max(1);
    let bits = places.next_power_of_two().trailing_zeros();
    u8::try_from(bits).unwrap_or(MOST_BITS).clamp(4, MOST_BITS)
}

/// Writes a section of segments in ascending order; how many there are is returned
fn section(keys: impl Iterator<Item = (u64, u8)>, at_most: usize, bits: u8) -> (Vec<u8>, usize) {
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
