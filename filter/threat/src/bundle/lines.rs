//! A set of keys, each with its row, in lines of 64 bytes: a lookup reads one of them, seldom more.

use super::format::u32_at;

/// Section: lines, each of 12 slots
///
/// The upper 32 bits of a key choose its line, the lower 32 bits are stored (its rest). Line: of six pairs of slots the
/// rests (slot `i`, then slot `i + 6`, u32 each), 12 rows (u8), and a mark (u32). Filled slots come first; row 0 is an
/// empty one. A key that finds its line full stands in the next line with an empty slot, behind the keys that are at
/// home there, and its own line bears the mark of it. So what is listed and what isn't are looked up alike: in one line
/// that a processor fetches at once, where the whole bundle is too large for its caches.
///
/// With 10.75 keys a line on average it is 5 bytes a key and one for its row, and a random key is found in a set that
/// it isn't in once in 2^28.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines<'a>(&'a [[u8; LINE]]);

/// A key, as far as it is stored
#[cfg(feature = "write")]
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct StoredKey {
    /// Its lower 32 bits
    pub rest: u32,
    /// What its upper 32 bits are at least
    pub least: u32,
    /// What its upper 32 bits are at most
    pub most: u32,
}

/// Keys in a line
pub(super) const SLOTS: usize = 12;
/// Most lines that a key stands behind its own. No set whose keys nobody chose comes near it: of ten million it is 33.
pub(super) const FARTHEST: usize = 255;

impl<'a> Lines<'a> {
    /// A view of a section; `None` when it has another length than it should, or no keys
    pub(super) fn new(bytes: &'a [u8], count: u32) -> Option<Self> {
        let (lines, []) = bytes.as_chunks::<LINE>() else {
            return None;
        };
        let most = lines.len().saturating_mul(SLOTS);
        let fits = count > 0 && usize::try_from(count).is_ok_and(|count| count <= most);
        fits.then_some(Self(lines))
    }

    /// The row of a key
    #[inline]
    pub(super) fn find(&self, key: u64) -> Option<u8> {
        let (home, rest) = split(key, self.0.len());
        let line = Line(self.0.get(home)?);
        match line.find(rest) {
            None if line.has_sent(rest) => self.find_behind(home, rest),
            found => found,
        }
    }

    /// The row of a key that found its own line full
    #[cold]
    fn find_behind(&self, home: usize, rest: u32) -> Option<u8> {
        for line in self.behind(home) {
            let found = line.find(rest);
            if found.is_some() || !line.is_full() {
                return found;
            }
        }
        None
    }

    /// The lines that a key may stand in that found its own full
    fn behind(&self, home: usize) -> impl Iterator<Item = Line<'a>> {
        let (before, from) = self.0.split_at_checked(home).unwrap_or_default();
        let after = from.iter().skip(1).chain(before);
        after.take(FARTHEST).map(Line)
    }

    /// All keys, as far as they are stored
    #[cfg(feature = "write")]
    pub(super) fn all(&self) -> impl Iterator<Item = StoredKey> {
        let lines = self.0.len();
        self.0.iter().enumerate().flat_map(move |(at, line)| {
            let line = Line(line);
            (0..line.filled()).filter_map(move |slot| {
                let rest = line.rest(slot)?;
                if slot < line.own() {
                    let (least, most) = uppers(at, lines);
                    return Some(StoredKey { rest, least, most });
                }
                let mut least = None;
                let mut most = None;
                for home in self.senders(at, rest) {
                    let (from, to) = uppers(home, lines);
                    // One that wrapped around: anything may be.
                    let (from, to) = if home > at { (0, u32::MAX) } else { (from, to) };
                    least = Some(least.unwrap_or(u32::MAX).min(from));
                    most = Some(most.unwrap_or(0).max(to));
                }
                let (least, most) = (least?, most?);
                Some(StoredKey { rest, least, most })
            })
        })
    }

    /// The lines before one from which a key with such a rest may have been sent there
    fn senders(&self, at: usize, rest: u32) -> impl Iterator<Item = usize> {
        let count = self.0.len();
        let before = (1..count.min(FARTHEST.saturating_add(1))).map(move |back| {
            let home = at.checked_sub(back);
            home.unwrap_or_else(|| at.saturating_add(count).saturating_sub(back))
        });
        let full = before.take_while(|home| self.0.get(*home).is_some_and(|at| Line(at).is_full()));
        full.filter(move |home| self.0.get(*home).is_some_and(|at| Line(at).has_sent(rest)))
    }

    /// Whether all lines are as the compiler writes them, with so many keys, and every row is one of so many
    pub(super) fn is_orderly(&self, keys: u32, rows: u32) -> bool {
        let filled: usize = self.0.iter().map(|line| Line(line).filled()).sum();
        usize::try_from(keys).is_ok_and(|keys| keys == filled)
            && self.0.iter().enumerate().all(|(at, line)| {
                let line = Line(line);
                let own = (0..line.own()).filter_map(|slot| line.rest(slot));
                let mut others = line.own()..line.filled();
                let mut empty = line.filled()..SLOTS;
                line.own() <= line.filled()
                    && line.rows().iter().all(|row| u32::from(*row) < rows)
                    && own.is_sorted_by(|one, next| one < next)
                    && (line.own() == SLOTS || line.mark() == 0)
                    && empty.all(|slot| line.rest(slot) == Some(0) && line.row(slot) == Some(0))
                    && others.all(|slot| {
                        let rest = line.rest(slot);
                        rest.is_some_and(|rest| self.senders(at, rest).next().is_some())
                    })
            })
    }
}

/// The line of a key among so many, and what is stored of it
pub(super) fn split(key: u64, lines: usize) -> (usize, u32) {
    let lines = u64::try_from(lines).unwrap_or(0);
    // A section has at most 2^32 bytes: a product of less than 64 bits, and a quotient below `lines`.
    let home = (key >> 32).wrapping_mul(lines) >> 32;
    let rest = key & u64::from(u32::MAX);
    (
        usize::try_from(home).unwrap_or(usize::MAX),
        u32::try_from(rest).unwrap_or(0),
    )
}

/// How many lines so many keys get
#[cfg(feature = "write")]
pub(super) fn lines_for(keys: usize) -> usize {
    keys.saturating_mul(4).div_ceil(43).max(1)
}

/// Writes a line: rests and rows of its slots, how many of them are at home in it, and rests that found it full
#[cfg(feature = "write")]
pub(super) fn write(
    slots: &[(u32, u8)],
    own: usize,
    sent: impl Iterator<Item = u32>,
    out: &mut alloc::vec::Vec<u8>,
) {
    for pair in 0..PAIRS {
        for slot in [pair, pair.saturating_add(PAIRS)] {
            let rest = slots.get(slot).map_or(0, |(rest, _)| *rest);
            out.extend_from_slice(&rest.to_le_bytes());
        }
    }
    out.extend((0..SLOTS).map(|slot| slots.get(slot).map_or(0, |(_, row)| *row)));
    let own = u32::try_from(own).unwrap_or(0);
    let mark = sent.fold(own, |mark, rest| mark | mark_of(rest));
    out.extend_from_slice(&mark.to_le_bytes());
}

#[derive(Clone, Copy, Debug)]
struct Line<'a>(&'a [u8; LINE]);

const LINE: usize = 64;
const PAIRS: usize = SLOTS / 2;
/// Where rows and the mark are
const ROWS: usize = 48;
const MARK: usize = 60;
/// Of the mark: how many slots have keys that are at home
const OWN: u32 = 0xf;
/// Bits of the mark behind that
const MARKS: u32 = 28;

impl<'a> Line<'a> {
    /// The row of the first slot with such a rest
    #[inline(always)]
    fn find(self, rest: u32) -> Option<u8> {
        let (pairs, _) = self.0.as_chunks::<8>();
        let [a, b, c, d, e, f] = pairs.first_chunk::<PAIRS>()?;
        let both = u64::from(rest) | (u64::from(rest) << 32);
        // One after another and not mapped: a compiler that is to save space would have a loop go through memory.
        let found = (zeros(a, both) >> 31)
            | (zeros(b, both) >> 30)
            | (zeros(c, both) >> 29)
            | (zeros(d, both) >> 28)
            | (zeros(e, both) >> 27)
            | (zeros(f, both) >> 26);
        if found == 0 {
            return None;
        }
        // Slots 0 to 5 are bits 0 to 5, slots 6 to 11 are bits 32 to 37.
        let bit = usize::try_from(found.trailing_zeros()).ok()?;
        self.row(if bit < 32 {
            bit
        } else {
            bit.wrapping_sub(32 - PAIRS)
        })
    }

    /// Whether a key with such a rest may have found the line full
    #[inline(always)]
    fn has_sent(self, rest: u32) -> bool {
        self.mark() & mark_of(rest) != 0
    }

    fn is_full(self) -> bool {
        self.row(SLOTS - 1) != Some(0)
    }

    /// Rests that found the line full
    fn mark(self) -> u32 {
        u32_at(self.0, MARK) & !OWN
    }

    /// How many keys are at home in it; they come first
    fn own(self) -> usize {
        let own = usize::try_from(u32_at(self.0, MARK) & OWN);
        own.unwrap_or(0).min(SLOTS)
    }

    fn filled(self) -> usize {
        self.rows().iter().take_while(|row| **row != 0).count()
    }

    fn rows(self) -> &'a [u8] {
        self.0.get(ROWS..MARK).unwrap_or_default()
    }

    fn row(self, slot: usize) -> Option<u8> {
        self.0.get(ROWS.wrapping_add(slot)).copied()
    }

    fn rest(self, slot: usize) -> Option<u32> {
        let (pair, half) = match slot.checked_sub(PAIRS) {
            None => (slot, 0),
            Some(pair) => (pair, 4),
        };
        (slot < SLOTS).then(|| u32_at(self.0, pair.saturating_mul(8).saturating_add(half)))
    }
}

/// Of both halves of two words' difference, in the highest bit, whether the half is zero
///
/// Of the upper one it may say so wrongly when the lower one is zero, which comes first.
#[inline(always)]
fn zeros(pair: &[u8; 8], both: u64) -> u64 {
    let difference = u64::from_le_bytes(*pair) ^ both;
    difference.wrapping_sub(0x0000_0001_0000_0001) & !difference & 0x8000_0000_8000_0000
}

/// The bit of the mark for a rest
fn mark_of(rest: u32) -> u32 {
    let bit = (rest & 0xffff).wrapping_mul(MARKS) >> 16;
    1_u32.checked_shl(bit.wrapping_add(4)).unwrap_or(0)
}

/// The least and the greatest upper 32 bits that a line's keys have
#[cfg(feature = "write")]
fn uppers(line: usize, lines: usize) -> (u32, u32) {
    let first = |line: usize| {
        let line = u128::try_from(line).unwrap_or(0) << 32;
        let lines = u128::try_from(lines).unwrap_or(1).max(1);
        u64::try_from(line.div_ceil(lines)).unwrap_or(u64::MAX)
    };
    let last = first(line.saturating_add(1)).saturating_sub(1);
    let cut = |upper: u64| u32::try_from(upper).unwrap_or(u32::MAX);
    (cut(first(line)), cut(last))
}
