//! Where segments start, in order, each with its row: an index over the first bits, then 32 bits a start.

use super::format::{MOST_BITS, u32_at};
#[cfg(feature = "write")]
use super::lines::StoredKey;

/// Section: `2^bits + 1` places (u32), `count` rests (u32), `count` rows (u8)
///
/// The first `bits` bits of a key choose two neighbouring places; between them stand, in order, the next 32 bits of all
/// keys that begin so. With 8 to 16 keys a place it is 4.25 to 4.5 bytes a key and one byte for the row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Starts<'a> {
    places: &'a [[u8; 4]],
    rests: &'a [[u8; 4]],
    rows: &'a [u8],
    bits: u8,
}

impl<'a> Starts<'a> {
    /// How long the section is; `None` when no section can be
    pub(super) fn length(count: u32, bits: u8) -> Option<usize> {
        if bits > MOST_BITS {
            return None;
        }
        let places = 1_usize.checked_shl(bits.into())?.checked_add(1)?;
        let count = usize::try_from(count).ok()?;
        places.checked_mul(4)?.checked_add(count.checked_mul(5)?)
    }

    /// A view of a section; `None` when it has another length than it should, or no keys
    pub(super) fn new(bytes: &'a [u8], count: u32, bits: u8) -> Option<Self> {
        if count == 0 || Self::length(count, bits) != Some(bytes.len()) {
            return None;
        }
        let count = usize::try_from(count).ok()?;
        let (words, rows) = bytes.split_at_checked(bytes.len().checked_sub(count)?)?;
        let (words, _) = words.as_chunks::<4>();
        let (places, rests) = words.split_at_checked(words.len().checked_sub(count)?)?;
        Some(Self {
            places,
            rests,
            rows,
            bits,
        })
    }

    /// The row of the last key that is not above this one
    pub(super) fn at_or_below(&self, key: u64) -> Option<u8> {
        let (from, among, rest) = self.bucket(key)?;
        let above = among.partition_point(|have| u32::from_le_bytes(*have) <= rest);
        // The last of an earlier bucket, when this one begins above the key.
        let at = from.checked_add(above)?.checked_sub(1)?;
        self.rows.get(at).copied()
    }

    /// All keys, as far as they are stored
    #[cfg(feature = "write")]
    pub(super) fn all(&self) -> alloc::vec::Vec<StoredKey> {
        let place = |bytes: &[u8; 4]| usize::try_from(u32::from_le_bytes(*bytes)).ok();
        let mut keys = alloc::vec::Vec::with_capacity(self.rests.len());
        for (bucket, pair) in (0_u64..).zip(self.places.windows(2)) {
            let [Some(from), Some(to)] =
                [pair.first(), pair.last()].map(|bytes| bytes.and_then(place))
            else {
                continue;
            };
            for rest in self.rests.get(from..to).unwrap_or_default() {
                let high = bucket.checked_shl(64_u32.saturating_sub(self.bits.into()));
                let rest = u64::from(u32::from_le_bytes(*rest)) << 32;
                let key = high.unwrap_or(0) | rest.checked_shr(self.bits.into()).unwrap_or(0);
                let upper = u32::try_from(key >> 32).unwrap_or(0);
                keys.push(StoredKey {
                    rest: 0,
                    least: upper,
                    most: upper,
                });
            }
        }
        keys
    }

    /// Whether places and keys are in order, and every row is one of so many
    pub(super) fn is_orderly(&self, rows: u32) -> bool {
        let place = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
        let count = u32::try_from(self.rests.len()).ok();
        let framed =
            self.places.first().map(place) == Some(0) && self.places.last().map(place) == count;
        let buckets = self
            .places
            .iter()
            .map(place)
            .zip(self.places.iter().skip(1).map(place));
        framed
            && self.rows.iter().all(|row| u32::from(*row) < rows)
            && buckets.into_iter().all(|(from, to)| {
                let range = usize::try_from(from).ok().zip(usize::try_from(to).ok());
                let keys = range.and_then(|(from, to)| self.rests.get(from..to));
                keys.is_some_and(|keys| keys.is_sorted_by(|one, next| place(one) < place(next)))
            })
    }

    /// Whether the first and the last place are what they must be
    pub(super) fn is_framed(bytes: &'a [u8], count: u32, bits: u8) -> bool {
        Self::new(bytes, count, bits).is_some_and(|keys| {
            let last = keys.places.len().saturating_sub(1).saturating_mul(4);
            u32_at(bytes, 0) == 0 && u32_at(bytes, last) == count
        })
    }

    fn bucket(&self, key: u64) -> Option<(usize, &'a [[u8; 4]], u32)> {
        let (bucket, rest) = split(key, self.bits);
        let place = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
        let from = usize::try_from(place(self.places.get(bucket)?)).ok()?;
        let to = usize::try_from(place(self.places.get(bucket.checked_add(1)?)?)).ok()?;
        Some((from, self.rests.get(from..to)?, rest))
    }
}

/// The bucket of a key, and the 32 bits that are stored of it
pub(super) fn split(key: u64, bits: u8) -> (usize, u32) {
    let bits = u32::from(bits);
    // A bucket has at most `MOST_BITS` bits, and 32 bits are left after the shift: neither conversion loses any.
    let bucket = key.checked_shr(64_u32.saturating_sub(bits)).unwrap_or(0);
    let rest = key.checked_shl(bits).unwrap_or(0) >> 32;
    (
        usize::try_from(bucket).unwrap_or(usize::MAX),
        u32::try_from(rest).unwrap_or(u32::MAX),
    )
}
