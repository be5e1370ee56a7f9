//! Sets of keys, as they are collected and written.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::super::lines::{self, FARTHEST, SLOTS, lines_for, split};
use super::WriteError;
use super::facts::{Facts, Rows};

/// Keys with their facts
#[derive(Debug, Default)]
pub(super) struct Keys {
    keys: Vec<Key>,
    /// Of each slot of each line the number of its key, from 1 on
    slots: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Key {
    high: u64,
    low: u64,
    fact: u32,
}

impl Keys {
    pub(super) fn push(&mut self, high: u64, low: u64, fact: u32) {
        self.keys.push(Key { high, low, fact });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Gives each key its place; what is the same once cut to size gets one fact
    ///
    /// # Errors
    ///
    /// When so many keys want one line that no number of lines parts them: nobody's secret does that.
    pub(super) fn settle(&mut self, facts: &mut Facts) -> Result<(), WriteError> {
        self.keys.sort_unstable();
        let mut lines = lines_for(
            self.keys
                .chunk_by(|one, next| one.high == next.high)
                .count(),
        );
        loop {
            self.order(lines, facts);
            match place(&self.keys, lines) {
                Some(slots) => {
                    self.slots = slots;
                    return Ok(());
                }
                None if lines > self.keys.len() => return Err(WriteError::Crowd),
                None => lines = lines.saturating_add(lines >> 3).saturating_add(1),
            }
        }
    }

    /// Brings keys into the order of their lines, and in a line of their rests
    fn order(&mut self, lines: usize, facts: &mut Facts) {
        self.keys.sort_unstable();
        let home = |key: &Key| split(key.high, lines).0;
        for line in self.keys.chunk_by_mut(|one, next| home(one) == home(next)) {
            line.sort_unstable_by_key(|key| (split(key.high, lines).1, *key));
            for group in line.chunk_by_mut(|one, next| same(one, next, lines)) {
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
        }
        self.keys.dedup();
    }

    fn lines(&self) -> usize {
        self.slots.len().checked_div(SLOTS).unwrap_or(0)
    }

    pub(super) fn count(&self, rows: &mut Rows) {
        for (_, key) in distinct(&self.keys, self.lines()) {
            rows.count(key.fact);
        }
    }

    /// The section, and how many keys it has
    pub(super) fn write(&self, rows: &Rows) -> (Vec<u8>, usize) {
        let lines = self.lines();
        let key = |number: &u32| {
            let at = usize::try_from(*number).ok()?.checked_sub(1)?;
            self.keys.get(at)
        };
        // Those that found their line full, in order of these lines.
        let mut sent: Vec<(usize, u32)> = Vec::new();
        for (line, slots) in self.slots.chunks(SLOTS).enumerate() {
            let keys = slots.iter().filter_map(key);
            let places = keys.map(|key| split(key.high, lines));
            sent.extend(places.filter(|(home, _)| *home != line));
        }
        sent.sort_unstable();
        let mut sent = sent.as_slice();
        let mut out = Vec::with_capacity(lines.saturating_mul(64));
        let mut count = 0_usize;
        for (line, slots) in self.slots.chunks(SLOTS).enumerate() {
            let mut own = 0_usize;
            let filled: Vec<(u32, u8)> = slots
                .iter()
                .filter_map(key)
                .map(|key| {
                    let (home, rest) = split(key.high, lines);
                    own = own.saturating_add(usize::from(home == line));
                    (rest, rows.of(key.fact))
                })
                .collect();
            count = count.saturating_add(filled.len());
            let (here, later) = sent.split_at(sent.partition_point(|(home, _)| *home <= line));
            lines::write(&filled, own, here.iter().map(|(_, rest)| *rest), &mut out);
            sent = later;
        }
        (out, count)
    }

    /// Keys in full, of those that may be blocked on
    pub(super) fn confirm(&self, rows: &Rows, out: &mut Vec<[u8; 16]>) {
        out.extend(
            self.keys
                .iter()
                .filter(|key| rows.is_block(key.fact))
                .map(|key| {
                    let whole = (u128::from(key.high) << 64) | u128::from(key.low);
                    whole.to_be_bytes()
                }),
        );
    }
}

/// Keys in the order of their lines, without those that are the same once cut to size, each with its number from 1 on
fn distinct(keys: &[Key], lines: usize) -> impl Iterator<Item = (u32, &Key)> {
    let mut before = None;
    (1..).zip(keys).filter(move |(_, key)| {
        let place = Some(split(key.high, lines));
        let is_new = place != before;
        before = place;
        is_new
    })
}

/// Gives each key a slot, in its own line or the next with an empty one; `None` when some are too far from home or
/// another key would be taken for one
fn place(keys: &[Key], lines: usize) -> Option<Vec<u32>> {
    let mut slots = alloc::vec![0; lines.checked_mul(SLOTS)?];
    let mut waiting: VecDeque<(usize, u32, u32)> = VecDeque::new();
    for (number, key) in distinct(keys, lines) {
        let (home, rest) = split(key.high, lines);
        match empty(&mut slots, home) {
            Some(slot) => *slot = number,
            None => waiting.push_back((home, rest, number)),
        }
    }
    // Once around is enough: there are more slots than keys.
    let mut at = 0_usize;
    while let Some((home, rest, number)) = waiting.front().copied() {
        at = at.max(home.saturating_add(1));
        if at.saturating_sub(home) > FARTHEST.min(lines.saturating_sub(1)) {
            return None;
        }
        let Some(slot) = empty(&mut slots, at.checked_rem(lines)?) else {
            at = at.saturating_add(1);
            continue;
        };
        *slot = number;
        waiting.pop_front();
        let passed =
            (home.saturating_add(1)..=at).filter_map(|at| line(&slots, at.checked_rem(lines)?));
        let mut others = passed.flatten().filter(|have| **have != number);
        let is_taken_for = |have: &u32| {
            let at = usize::try_from(*have).ok().and_then(|at| at.checked_sub(1));
            let key = at.and_then(|at| keys.get(at));
            key.is_some_and(|key| split(key.high, lines).1 == rest)
        };
        if others.any(is_taken_for) {
            return None;
        }
    }
    Some(slots)
}

fn line(slots: &[u32], line: usize) -> Option<&[u32]> {
    let at = line.checked_mul(SLOTS)?;
    slots.get(at..at.checked_add(SLOTS)?)
}

fn empty(slots: &mut [u32], line: usize) -> Option<&mut u32> {
    let at = line.checked_mul(SLOTS)?;
    let slots = slots.get_mut(at..at.checked_add(SLOTS)?)?;
    slots.iter_mut().find(|slot| **slot == 0)
}

fn same(one: &Key, next: &Key, lines: usize) -> bool {
    split(one.high, lines) == split(next.high, lines)
}

#[cfg(test)]
mod tests {
    use super::super::super::Scope;
    use super::super::super::lines::Lines;
    use super::super::Fact;
    use super::*;
    use crate::evidence::Category;

    /// Keys with these upper and lower halves, as a section, with the row of each
    fn written(halves: &[(u32, u32)]) -> Result<(Vec<u8>, usize, Vec<u8>), WriteError> {
        let (mut facts, mut keys) = (Facts::default(), Keys::default());
        let numbers: Vec<u32> = (0..100)
            .map(|confidence| {
                facts.number(&Fact {
                    feed: 0,
                    scope: Scope::EXACT,
                    category: Category::Malware,
                    confidence,
                    block: false,
                    first_seen: 0,
                    last_seen: 0,
                })
            })
            .collect();
        for ((upper, lower), fact) in halves.iter().zip(numbers.iter().cycle()) {
            keys.push(u64::from(*upper) << 32 | u64::from(*lower), 0, *fact);
        }
        keys.settle(&mut facts)?;
        let mut rows = Rows::new(&facts);
        keys.count(&mut rows);
        rows.coarsen().expect("few facts");
        let (bytes, count) = keys.write(&rows);
        let rows = numbers.iter().map(|fact| rows.of(*fact)).collect();
        Ok((bytes, count, rows))
    }

    #[test]
    fn keys_that_crowd_are_found_and_no_other_for_them() {
        let spread = |number: u32| number.wrapping_mul(0x9e37_79b9);
        let crowds: [(&str, Vec<(u32, u32)>); 4] = [
            ("one line", (0..12).map(|at| (7, spread(at))).collect()),
            (
                "one line, the last",
                (0..3_000).map(|at| (u32::MAX, spread(at))).collect(),
            ),
            (
                "few lines",
                (0..5_000).map(|at| ((at % 4) << 30, spread(at))).collect(),
            ),
            // Rests alike in lines that overflow: more lines part them.
            (
                "alike",
                (0..4_000)
                    .map(|at| (at / 20 * 0x0100_0000, at % 20))
                    .collect(),
            ),
        ];
        for (what, halves) in crowds {
            let (bytes, count, rows) = written(&halves).expect("room");
            let lines = Lines::new(&bytes, count as u32).expect("a section");
            let distinct: alloc::collections::BTreeSet<_> = halves.iter().collect();
            assert!(lines.is_orderly(distinct.len() as u32, 101), "{what}");
            let stored: Vec<_> = lines.all().collect();
            for ((upper, lower), row) in halves.iter().zip(rows.iter().cycle()) {
                let key = u64::from(*upper) << 32;
                if distinct.len() == halves.len() {
                    assert_eq!(lines.find(key | u64::from(*lower)), Some(*row), "{what}");
                }
                assert_eq!(
                    lines.find(key | u64::from(!*lower)).filter(|row| *row > 0),
                    None,
                    "{what}"
                );
                assert!(
                    stored
                        .iter()
                        .any(|key| key.rest == *lower && (key.least..=key.most).contains(upper)),
                    "{what}"
                );
            }
        }
    }

    #[test]
    fn keys_that_no_room_parts_are_refused() {
        let halves: Vec<(u32, u32)> = (0..5_000).map(|at| (7, at)).collect();
        assert_eq!(written(&halves).err(), Some(WriteError::Crowd));
    }

    #[test]
    fn lines_that_no_compiler_writes_are_told() {
        let halves: Vec<(u32, u32)> = (0..40_u32).map(|at| (at % 2, at << 20)).collect();
        let (bytes, count, _) = written(&halves).expect("room");
        let told = |at: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[at] ^= byte;
            let lines = Lines::new(&bytes, count as u32).expect("a section");
            !lines.is_orderly(count as u32, 101)
        };
        assert!(!told(0, 0));
        // A rest, a row, how many are at home, and the mark of a line whose keys went on.
        assert!(told(7, 0xff) && told(48, 0x7f) && told(60, 4) && told(60, 0x10));
    }
}
