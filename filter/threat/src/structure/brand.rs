//! Brands that impostors imitate, and the domains that their owners really have.

#[cfg(feature = "write")]
use alloc::{collections::BTreeSet, string::String, vec, vec::Vec};

use super::bytes::{Fnv, big_endian, name, partition, take, u16_at};
use super::confusable::Skeleton;

/// The longest name that the table holds
pub const LONGEST: usize = 24;

const MAGIC: &[u8; 4] = b"BRD1";
const NAME: usize = 8;
const KEYED: usize = 6;
const BITMAP: usize = 512;
/// The shortest name that counts within a longer word
#[cfg(feature = "write")]
const FRAGMENT: usize = 5;
/// The shortest name that is known by its skeleton, be it weak or strong
#[cfg(feature = "write")]
const SKELETON: usize = 5;
const STRONG: u8 = 1;

/// The table, borrowed
#[derive(Clone, Copy, Debug)]
pub struct Brands<'a> {
    /// By length: the first name that is that long
    lengths: &'a [u8],
    /// Records of a letter mask (32 bits), an offset into `text`, a length, flags; by length, then by text
    names: &'a [u8],
    /// Hash of a skeleton and the name, by hash
    skeletons: &'a [u8],
    /// Which beginnings of strong names exist
    bitmap: &'a [u8],
    /// First four bytes of a strong name and the name, by these bytes
    fragments: &'a [u8],
    /// Hashes of domains that a brand owns
    owners: &'a [u8],
    /// Hashes of labels that a brand owns under every registry of a country, and under com, net and org
    labels: &'a [u8],
    text: &'a [u8],
}

/// A name in the table
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Name<'a> {
    /// How it is written, in lower case
    pub text: &'a str,
    /// Whether it is no word of a language and no part of other words, so that a near miss means it too
    pub strong: bool,
}

impl<'a> Brands<'a> {
    /// Adopts the section; `None` if it isn't one
    #[must_use]
    pub fn new(mut section: &'a [u8]) -> Option<Self> {
        let rest = &mut section;
        if take(rest, MAGIC.len())? != MAGIC {
            return None;
        }
        let counts = take(rest, 10)?;
        let count = |i: usize| u16_at(counts, i).map(usize::from);
        let brands = Self {
            lengths: take(rest, LONGEST.saturating_add(2).saturating_mul(2))?,
            names: take(rest, count(0)?.saturating_mul(NAME))?,
            skeletons: take(rest, count(2)?.saturating_mul(KEYED))?,
            bitmap: take(rest, BITMAP)?,
            fragments: take(rest, count(4)?.saturating_mul(KEYED))?,
            owners: take(rest, count(6)?.saturating_mul(KEYED))?,
            labels: take(rest, count(8)?.saturating_mul(4))?,
            text: rest,
        };
        Some(brands)
    }

    /// The name that a text is
    #[must_use]
    pub fn exact(&self, text: &[u8]) -> Option<Name<'a>> {
        let range = self.range(text.len(), text.len())?;
        let (first, count) = (range.start, range.len());
        let found = partition(count, |i| {
            let name = self.raw(first.saturating_add(i));
            name.is_some_and(|(name, _)| is_before(name, text))
        });
        let found = first.saturating_add(found);
        let (name, _) = self.raw(found)?;
        if name == text { self.name(found) } else { None }
    }

    /// The strong name that a text misses by one edit (two, if it has nine letters or more), and the distance.
    /// A text that is a name itself resembles none.
    #[must_use]
    pub fn alike(&self, text: &[u8]) -> Option<(Name<'a>, u8)> {
        let length = text.len();
        if !(4..=LONGEST).contains(&length) {
            return None;
        }
        let wanted = mask(text);
        let (names, _) = self.names.as_chunks::<NAME>();
        // Two edits are much to overlook in less than nine letters.
        let reach = if length < 9 { 1 } else { 2 };
        let mut best = None;
        for own_length in length.saturating_sub(reach).max(5)..=length.saturating_add(reach) {
            let most: u8 = if own_length >= 9 && length >= 9 { 2 } else { 1 };
            let longer = own_length.abs_diff(length);
            if longer > usize::from(most) {
                continue;
            }
            // A letter more or less is one of the bits; an edit that keeps the length changes one for another: two.
            let differ = usize::from(most).saturating_mul(2).saturating_sub(longer);
            let range = self.range(own_length, own_length)?;
            let own = names.get(range.clone())?;
            for (first, some) in (range.start..).step_by(SOME).zip(own.chunks(SOME)) {
                let may_be = |some: &[[u8; NAME]]| match differ {
                    1 => any_near::<1>(some, wanted),
                    2 => any_near::<2>(some, wanted),
                    3 => any_near::<3>(some, wanted),
                    _ => any_near::<4>(some, wanted),
                };
                if !may_be(some) {
                    continue;
                }
                for (i, one) in (first..).zip(some) {
                    if !may_be(core::slice::from_ref(one)) {
                        continue;
                    }
                    let named = self.raw(i).filter(|(_, flags)| flags & STRONG != 0);
                    let Some((found, _)) = named else {
                        continue;
                    };
                    let distance = distance(text, found, most);
                    if distance == 0 {
                        return None;
                    }
                    if distance <= most && best.is_none_or(|(_, least)| distance < least) {
                        best = Some((i, distance));
                    }
                }
            }
        }
        let (i, distance) = best?;
        Some((self.name(i)?, distance))
    }

    /// The first strong name of five letters or more within a text, and where it starts
    #[must_use]
    pub fn within(&self, text: &[u8]) -> Option<(Name<'a>, usize)> {
        text.windows(4).enumerate().find_map(|(at, window)| {
            let key = u32::from_be_bytes(*window.first_chunk()?);
            let (byte, bit) = bitmap_place(key);
            if self.bitmap.get(byte)? & bit == 0 {
                return None;
            }
            let tail = text.get(at..)?;
            self.keyed(self.fragments, key)
                .filter(|found| tail.starts_with(found.text.as_bytes()))
                .max_by_key(|found| found.text.len())
                .map(|found| (found, at))
        })
    }

    /// The name that a skeleton is the skeleton of
    pub(super) fn seen_as(&self, skeleton: &Skeleton) -> Option<Name<'a>> {
        self.keyed(self.skeletons, name(skeleton.as_bytes())).next()
    }

    /// Whether a brand owns a registrable domain, of which `label` is the first label
    #[must_use]
    pub fn owned(&self, domain: &[u8], label: &[u8], everywhere: bool) -> bool {
        let (owners, _) = self.owners.as_chunks::<KEYED>();
        let key = big_endian(&domain_key(domain));
        let at = |i| owners.get(i).map(big_endian);
        let found = partition(owners.len(), |i| at(i).is_some_and(|owner| owner < key));
        if at(found) == Some(key) {
            return true;
        }
        if !everywhere {
            return false;
        }
        let (labels, _) = self.labels.as_chunks::<4>();
        let key = name(label);
        let at = |i| labels.get(i).map(|own| u32::from_be_bytes(*own));
        let found = partition(labels.len(), |i| at(i).is_some_and(|own| own < key));
        at(found) == Some(key)
    }

    /// The names of a range of lengths
    fn range(&self, from: usize, to: usize) -> Option<core::ops::Range<usize>> {
        let at = |length: usize| {
            let at = length.min(LONGEST.saturating_add(1)).saturating_mul(2);
            u16_at(self.lengths, at).map(usize::from)
        };
        Some(at(from)?..at(to.saturating_add(1))?)
    }

    fn name(&self, i: usize) -> Option<Name<'a>> {
        let (text, flags) = self.raw(i)?;
        let text = core::str::from_utf8(text).ok()?;
        Some(Name {
            text,
            strong: flags & STRONG != 0,
        })
    }

    /// A name's text and flags
    fn raw(&self, i: usize) -> Option<(&'a [u8], u8)> {
        let at = i.saturating_mul(NAME);
        let [_, _, _, _, low, high, length, flags] = self.names.get(at..)?.first_chunk::<NAME>()?;
        let from = usize::from(u16::from_le_bytes([*low, *high]));
        Some((self.text.get(from..)?.get(..usize::from(*length))?, *flags))
    }

    fn keyed(&self, table: &'a [u8], key: u32) -> impl Iterator<Item = Name<'a>> {
        let (records, _) = table.as_chunks::<KEYED>();
        let is = |[a, b, c, d, ..]: &[u8; KEYED]| u32::from_be_bytes([*a, *b, *c, *d]);
        let first = partition(records.len(), |i| {
            records.get(i).is_some_and(|record| is(record) < key)
        });
        records
            .get(first..)
            .unwrap_or_default()
            .iter()
            .take_while(move |record| is(record) == key)
            .filter_map(|[.., low, high]| self.name(usize::from(u16::from_le_bytes([*low, *high]))))
    }
}

/// Whether a text is before another one that is as long; most differ in their first letters
fn is_before(text: &[u8], other: &[u8]) -> bool {
    match (text.first_chunk::<4>(), other.first_chunk::<4>()) {
        (Some(a), Some(b)) if a != b => u32::from_be_bytes(*a) < u32::from_be_bytes(*b),
        _ => text < other,
    }
}

/// How many records are looked at together, without a branch
const SOME: usize = 16;

/// The letter mask of a record
fn letters([a, b, c, d, ..]: &[u8; NAME]) -> u32 {
    u32::from_le_bytes([*a, *b, *c, *d])
}

/// Whether one of these records is of a name whose letters differ in at most so many bits. Most are of none,
/// and machines compare several at once.
fn any_near<const BITS: usize>(records: &[[u8; NAME]], wanted: u32) -> bool {
    records.iter().fold(false, |any, record| {
        let mut differ = letters(record) ^ wanted;
        for _ in 0..BITS {
            differ &= differ.wrapping_sub(1);
        }
        any | (differ == 0)
    })
}

/// Which letters a text has: 26 letters, digits, everything else
fn mask(text: &[u8]) -> u32 {
    text.iter().fold(0, |mask, byte| {
        let bit = match byte {
            b'a'..=b'z' => byte.wrapping_sub(b'a'),
            b'0'..=b'9' => 26,
            _ => 27,
        };
        mask | 1 << bit
    })
}

fn bitmap_place(key: u32) -> (usize, u8) {
    let spread = key.wrapping_mul(0x9e37_79b1) >> 20;
    ((spread >> 3) as usize, 1 << (spread & 7))
}

fn domain_key(domain: &[u8]) -> [u8; KEYED] {
    let [key @ .., _, _] = Fnv::new().bytes(domain).finish().to_be_bytes();
    key
}

/// How many edits make one text of another: a letter more, less or another, or two neighbours swapped, and no letter
/// is edited twice (optimal string alignment); what exceeds `most` is some number above it
///
/// What both begin and end with is no edit, so there are four ways to go on at each: at most 4^`most`.
fn distance(mut a: &[u8], mut b: &[u8], most: u8) -> u8 {
    while let ([x, a_rest @ ..], [y, b_rest @ ..]) = (a, b)
        && x == y
    {
        (a, b) = (a_rest, b_rest);
    }
    while let ([a_rest @ .., x], [b_rest @ .., y]) = (a, b)
        && x == y
    {
        (a, b) = (a_rest, b_rest);
    }
    if a.len().abs_diff(b.len()) > usize::from(most) {
        return u8::MAX;
    }
    let (Some((x, a_rest)), Some((y, b_rest))) = (a.split_first(), b.split_first()) else {
        // All of the rest is more or less.
        return u8::try_from(a.len().max(b.len())).unwrap_or(u8::MAX);
    };
    let Some(left) = most.checked_sub(1) else {
        return u8::MAX;
    };
    let mut least = distance(a_rest, b_rest, left)
        .min(distance(a_rest, b, left))
        .min(distance(a, b_rest, left));
    if let (Some((second, a_rest)), Some((other, b_rest))) =
        (a_rest.split_first(), b_rest.split_first())
        && (second, x) == (y, other)
    {
        least = least.min(distance(a_rest, b_rest, left));
    }
    least.saturating_add(1)
}

/// What goes into the table
#[cfg(feature = "write")]
#[derive(Clone, Debug, Default)]
pub struct BrandTable {
    /// Names in lower case (ASCII letters, digits, hyphens), and whether they are strong
    pub names: Vec<(String, bool)>,
    /// Registrable domains of owners
    pub owners: Vec<String>,
    /// Labels that belong to owners under every country's registry, and under com, net and org
    pub labels: Vec<String>,
}

#[cfg(feature = "write")]
impl BrandTable {
    /// The section; `None` if a name is longer than [`LONGEST`] or there are more than a section holds
    #[must_use]
    pub fn write(&self) -> Option<Vec<u8>> {
        let mut names = self.names.clone();
        names.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
        names.dedup_by(|(a, _), (b, _)| a == b);
        let mut lengths = Vec::new();
        for length in 0..=LONGEST.saturating_add(1) {
            let first = names.partition_point(|(text, _)| text.len() < length);
            lengths.extend(u16::try_from(first).ok()?.to_le_bytes());
        }
        let (mut records, mut text) = (Vec::new(), Vec::new());
        let (mut skeletons, mut fragments) = (BTreeSet::new(), BTreeSet::new());
        let mut bitmap = vec![0u8; BITMAP];
        for (i, (word, strong)) in names.iter().enumerate() {
            if word.is_empty() || word.len() > LONGEST {
                return None;
            }
            records.extend(mask(word.as_bytes()).to_le_bytes());
            records.extend(u16::try_from(text.len()).ok()?.to_le_bytes());
            records.extend([
                u8::try_from(word.len()).ok()?,
                if *strong { STRONG } else { 0 },
            ]);
            text.extend(word.bytes());
            let id = u16::try_from(i).ok()?.to_le_bytes();
            if word.len() >= SKELETON {
                let skeleton = Skeleton::ascii(word.as_bytes())?;
                skeletons.insert((name(skeleton.as_bytes()).to_be_bytes(), id));
            }
            if !strong || word.len() < FRAGMENT {
                continue;
            }
            let key = u32::from_be_bytes(*word.as_bytes().first_chunk()?);
            fragments.insert((key.to_be_bytes(), id));
            let (byte, bit) = bitmap_place(key);
            *bitmap.get_mut(byte)? |= bit;
        }
        let owners: BTreeSet<_> = self
            .owners
            .iter()
            .map(|d| domain_key(d.as_bytes()))
            .collect();
        let labels: BTreeSet<_> = self
            .labels
            .iter()
            .map(|l| name(l.as_bytes()).to_be_bytes())
            .collect();
        let mut section = MAGIC.to_vec();
        for count in [
            names.len(),
            skeletons.len(),
            fragments.len(),
            owners.len(),
            labels.len(),
        ] {
            section.extend(u16::try_from(count).ok()?.to_le_bytes());
        }
        let keyed = |table: &BTreeSet<([u8; 4], [u8; 2])>| -> Vec<u8> {
            table
                .iter()
                .flat_map(|(key, id)| key.iter().chain(id).copied())
                .collect()
        };
        section.extend(lengths);
        section.extend(records);
        section.extend(keyed(&skeletons));
        section.extend(bitmap);
        section.extend(keyed(&fragments));
        section.extend(owners.iter().flatten());
        section.extend(labels.iter().flatten());
        section.extend(text);
        Some(section)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the definition says it, from the ends of both
    fn optimal_string_alignment(a: &[u8], b: &[u8]) -> usize {
        let ([a_rest @ .., x], [b_rest @ .., y]) = (a, b) else {
            return a.len().max(b.len());
        };
        let edit = |least: usize| least.saturating_add(1);
        let mut least = match x == y {
            true => optimal_string_alignment(a_rest, b_rest),
            false => edit(optimal_string_alignment(a_rest, b_rest)),
        };
        least = least.min(edit(optimal_string_alignment(a_rest, b)));
        least = least.min(edit(optimal_string_alignment(a, b_rest)));
        if let ([a_rest @ .., before_x], [b_rest @ .., before_y]) = (a_rest, b_rest)
            && (before_x, x) == (y, before_y)
        {
            least = least.min(edit(optimal_string_alignment(a_rest, b_rest)));
        }
        least
    }

    /// The same for longer texts, from their beginnings on
    #[expect(clippy::arithmetic_side_effects, reason = "test code")]
    fn in_a_table(a: &[u8], b: &[u8]) -> usize {
        let mut table = vec![vec![0usize; b.len() + 1]; a.len() + 1];
        for i in 0..=a.len() {
            for j in 0..=b.len() {
                table[i][j] = if i == 0 || j == 0 {
                    i.max(j)
                } else {
                    let kept = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let edited = table[i - 1][j].min(table[i][j - 1]) + 1;
                    let swaps = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                    let swapped = if swaps {
                        table[i - 2][j - 2] + 1
                    } else {
                        usize::MAX
                    };
                    kept.min(edited).min(swapped)
                };
            }
        }
        table[a.len()][b.len()]
    }

    proptest! {
        #[test]
        fn a_distance_is_the_least_number_of_edits(a in "[abc]{0,6}", b in "[abc]{0,6}", most in 0u8..4) {
            let expected = optimal_string_alignment(a.as_bytes(), b.as_bytes());
            let found = distance(a.as_bytes(), b.as_bytes(), most);
            if expected <= usize::from(most) {
                prop_assert_eq!(usize::from(found), expected);
            } else {
                prop_assert!(found > most);
            }
        }

        /// No name is passed over because of its letters: what is found is what a look at each would find
        #[test]
        fn nearly_a_name_is_what_all_names_are_compared_for(
            names in proptest::collection::btree_set("[a-d]{5,12}", 1..40),
            text in "[a-d]{4,13}",
        ) {
            let mut table = BrandTable::default();
            table.names.extend(names.iter().map(|name| (name.clone(), true)));
            let section = table.write().unwrap();
            let found = Brands::new(&section).unwrap().alike(text.as_bytes());
            let mut sorted: Vec<&String> = names.iter().collect();
            sorted.sort_by_key(|name| (name.len(), (*name).clone()));
            let mut best: Option<(&str, usize)> = None;
            for name in sorted {
                let most = if name.len() >= 9 && text.len() >= 9 { 2 } else { 1 };
                // Further apart is further than that.
                if name.len().abs_diff(text.len()) > most {
                    continue;
                }
                let distance = in_a_table(text.as_bytes(), name.as_bytes());
                if distance <= most && best.is_none_or(|(_, least)| distance < least) {
                    best = Some((name, distance));
                }
            }
            let expected = best.filter(|(_, distance)| *distance > 0);
            let found = found.map(|(name, distance)| (name.text, usize::from(distance)));
            prop_assert_eq!(found, expected);
        }
    }
}
