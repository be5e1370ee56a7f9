//! Slots: so many requests at the same time.

use alloc::vec::Vec;

use crate::account::{AccountKey, AccountStore, StoreError, checksum};
use crate::bucket::Refused;
use crate::place::Place;

/// How many requests may be under way at the same time
///
/// Each takes a slot when it is let through and gives it back when its stream ends. A slot whose VM died
/// is given back by nobody: it expires.
///
/// INVARIANT: at most `cap` slots are in a record when one is added, so no more requests are under way,
/// as long as none takes longer than `expires`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slots {
    /// 1 to [`MAX_CAP`](Self::MAX_CAP)
    pub(crate) cap: u64,
    /// Nanoseconds for which a slot is kept at the most
    pub(crate) expires: u64,
}

/// A slot that is taken
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    key: AccountKey,
    id: u64,
}

/// What became of a request that wanted a slot
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seated {
    pub(crate) result: Result<Slot, Refused>,
    /// Slots that are free now
    pub(crate) free: u64,
    /// Nanoseconds until the last of the others expires
    pub(crate) free_in: u64,
    /// Slots that were found expired: their requests are not known to have ended
    pub(crate) expired: u64,
}

#[derive(Clone, Copy, Debug)]
struct Taken {
    id: u64,
    until: u64,
}

impl Slots {
    /// Slots that a record holds at the most
    pub(crate) const MAX_CAP: u64 = 256;
    /// Longest time for which a slot is kept, in nanoseconds: a day
    pub(crate) const MAX_EXPIRES: u64 = 86_400_000_000_000;

    /// Takes a slot for the request with this id
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store could not be asked; nothing is taken then.
    pub(crate) fn take(
        &self,
        place: Place,
        id: u64,
        now: u64,
        store: &mut dyn AccountStore,
    ) -> Result<Seated, StoreError> {
        let until = now.saturating_add(self.expires);
        let (mut is_seated, mut taken, mut expired) = (false, Vec::new(), 0);
        let key = place.update(store, &mut |_, record, fresh| {
            // Foreign bytes are slots that are all taken, by nobody who could give them back.
            let nobody = Taken { id: 0, until };
            let cap = usize::try_from(self.cap).unwrap_or(usize::MAX);
            let foreign =
                |record: &[u8]| decode(record).unwrap_or_else(|| alloc::vec![nobody; cap]);
            taken = record.map(foreign).unwrap_or_default();
            let before = taken.len();
            taken.retain(|slot| slot.until > now);
            expired = before.saturating_sub(taken.len());
            is_seated = taken.len() < cap;
            if is_seated {
                taken.push(Taken { id, until });
            }
            encode(&taken, fresh);
            true
        })?;
        let ends = |slot: &Taken| slot.until.saturating_sub(now);
        let result = if is_seated {
            Ok(Slot { key, id })
        } else {
            let retry_after = taken.iter().map(ends).min().unwrap_or(self.expires);
            Err(Refused { retry_after })
        };
        Ok(Seated {
            result,
            free: self
                .cap
                .saturating_sub(u64::try_from(taken.len()).unwrap_or(u64::MAX)),
            free_in: taken.iter().map(ends).max().unwrap_or_default(),
            expired: u64::try_from(expired).unwrap_or(u64::MAX),
        })
    }
}

impl Slot {
    /// Gives the slot back
    ///
    /// What can't be given back expires.
    pub(crate) fn give_back(self, store: &mut dyn AccountStore) {
        let given = store.update(&self.key.bytes(), &mut |record, fresh| {
            let Some(mut taken) = record.and_then(decode) else {
                return false;
            };
            let Some(place) = taken.iter().position(|slot| slot.id == self.id) else {
                return false;
            };
            taken.remove(place);
            encode(&taken, fresh);
            true
        });
        let _: Result<(), StoreError> = given;
    }
}

const HEAD: [u8; 4] = [b'P', b'S', 1, 0];

/// Layout, version 1, little-endian: `"PS"`, version (u8), zero (u8), of each slot its request's id (u64)
/// and the instant when it expires (u64), checksum (u32) over all of that
fn encode(taken: &[Taken], record: &mut Vec<u8>) {
    record.extend_from_slice(&HEAD);
    for slot in taken {
        record.extend_from_slice(&slot.id.to_le_bytes());
        record.extend_from_slice(&slot.until.to_le_bytes());
    }
    record.extend_from_slice(&checksum(record).to_le_bytes());
}

fn decode(record: &[u8]) -> Option<Vec<Taken>> {
    let (checked, sum) = record.split_last_chunk::<4>()?;
    let (head, rest) = checked.split_first_chunk::<4>()?;
    let (words, []) = rest.as_chunks::<8>() else {
        return None;
    };
    let (pairs, []) = words.as_chunks::<2>() else {
        return None;
    };
    let ours = *head == HEAD && u32::from_le_bytes(*sum) == checksum(checked);
    let taken = pairs.iter().map(|[id, until]| Taken {
        id: u64::from_le_bytes(*id),
        until: u64::from_le_bytes(*until),
    });
    ours.then(|| taken.collect())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "test code")]

    use proptest::prelude::*;

    use super::*;
    use crate::account::MapStore;

    const SLOTS: Slots = Slots {
        cap: 2,
        expires: 100,
    };

    fn take(store: &mut MapStore, id: u64, now: u64) -> Seated {
        let key = AccountKey::hash(&[b"a limit"]);
        SLOTS.take(Place::fixed(key), id, now, store).unwrap()
    }

    #[test]
    fn as_many_as_there_are_slots() {
        let mut store = MapStore::default();
        let first = take(&mut store, 1, 1000);
        assert_eq!((first.free, first.free_in), (1, 100));
        assert_eq!(take(&mut store, 2, 1010).free, 0);
        let refused = take(&mut store, 3, 1020);
        assert_eq!(refused.result.unwrap_err().retry_after, 80);
        first.result.unwrap().give_back(&mut store);
        assert!(take(&mut store, 4, 1020).result.is_ok());
        // Who has given back twice has given back once.
        first.result.unwrap().give_back(&mut store);
        assert!(take(&mut store, 5, 1020).result.is_err());
    }

    #[test]
    fn what_nobody_gives_back_expires_once() {
        let mut store = MapStore::default();
        for id in [1, 2] {
            assert!(take(&mut store, id, 1000).result.is_ok());
        }
        assert_eq!(take(&mut store, 3, 1099).expired, 0);
        let seated = take(&mut store, 4, 1100);
        assert_eq!((seated.expired, seated.free), (2, 1));
        assert_eq!(take(&mut store, 5, 1100).expired, 0);
    }

    #[test]
    fn foreign_bytes_are_taken_slots() {
        let mut store = MapStore::default();
        let _: Seated = take(&mut store, 1, 1000);
        for record in store.records.values_mut() {
            record.pop();
        }
        assert!(take(&mut store, 2, 1000).result.is_err());
        assert!(take(&mut store, 3, 1100).result.is_ok());
    }

    proptest! {
        /// However workers race, no more requests are under way than there are slots, and who is refused
        /// would have been one too many
        #[test]
        fn no_more_than_the_cap_are_under_way(
            events in proptest::collection::vec((any::<bool>(), 0..6usize, 0..9u64), 1..200),
        ) {
            let mut store = MapStore::default();
            let mut under_way: Vec<(Slot, u64)> = Vec::new();
            let mut now = 1000;
            for (id, (comes, which, gap)) in events.into_iter().enumerate() {
                now += gap;
                if comes {
                    let live = under_way.iter().filter(|(_, until)| *until > now).count();
                    let seated = take(&mut store, id as u64 + 1, now);
                    prop_assert_eq!(seated.result.is_ok(), (live as u64) < SLOTS.cap);
                    under_way.extend(seated.result.map(|slot| (slot, now + SLOTS.expires)));
                } else if which < under_way.len() {
                    under_way.remove(which).0.give_back(&mut store);
                }
            }
        }
    }
}
