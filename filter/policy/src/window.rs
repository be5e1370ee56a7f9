//! The exact sliding window: so many requests in any span of a given length.
//!
//! A token bucket lets its burst and then its rate pass, nearly twice as much in some spans; a fixed
//! window lets twice as much pass around its edge. Where a contract says "5 in 60 seconds", the
//! instants of the last passes are kept instead.

use alloc::vec::Vec;

use crate::account::{AccountKey, AccountStore, StoreError, checksum};
use crate::bucket::Refused;
use crate::limiter::Charged;
use crate::place::Place;
use crate::rate::Standing;

/// Passes in any span of time
///
/// INVARIANT: of the passes recorded in the store, at most `count` lie in any half-open interval
/// as long as `span`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// 1 to [`MAX_COUNT`](Self::MAX_COUNT)
    pub(crate) count: u64,
    /// Nanoseconds
    pub(crate) span: u64,
}

/// A pass that was recorded, so that it can be taken back
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    key: AccountKey,
    at: u64,
}

impl Window {
    /// Instants that a record holds at the most
    pub(crate) const MAX_COUNT: u64 = 64;

    /// Records a pass, or says when the next one may be
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store could not be asked; nothing is recorded then.
    pub(crate) fn charge(
        &self,
        place: Place,
        now: u64,
        store: &mut dyn AccountStore,
    ) -> Result<(Charged, Passed), StoreError> {
        let mut charged = self.charged(&[], now, Ok(()));
        let key = place.update(store, &mut |_, record, fresh| {
            let mut passes = self.passes(record, now);
            let full = u64::try_from(passes.len()).unwrap_or(u64::MAX) >= self.count;
            let result = match passes.first() {
                Some(first) if full => Err(Refused {
                    retry_after: first.saturating_add(self.span).saturating_sub(now).max(1),
                }),
                _ => Ok(()),
            };
            if result.is_ok() {
                let place = passes.partition_point(|pass| *pass <= now);
                passes.insert(place, now);
            }
            charged = self.charged(&passes, now, result);
            self.encode(&passes, fresh);
            true
        })?;
        Ok((charged, Passed { key, at: now }))
    }

    /// Takes a pass back that was none
    pub(crate) fn take_back(&self, passed: &Passed, now: u64, store: &mut dyn AccountStore) {
        let taken = store.update(&passed.key.bytes(), &mut |record, fresh| {
            let mut passes = self.passes(record, now);
            let Some(place) = passes.iter().position(|pass| *pass == passed.at) else {
                return false;
            };
            passes.remove(place);
            self.encode(&passes, fresh);
            true
        });
        // Otherwise it counts: stricter, never looser.
        let _: Result<(), StoreError> = taken;
    }

    /// The passes that still count, oldest first
    fn passes(&self, record: Option<&[u8]>, now: u64) -> Vec<u64> {
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        let Some(record) = record else {
            return Vec::new();
        };
        let Some((span, mut passes)) = decode(record) else {
            // Foreign bytes count as a window that is full.
            return alloc::vec![now; count];
        };
        if span < self.span {
            // Under the shorter span passes were forgotten that count now: as many as there may have
            // been, at the last instant that they may have been.
            let forgotten = count.saturating_sub(passes.len());
            let at = now.saturating_sub(span);
            passes.splice(0..0, core::iter::repeat_n(at, forgotten));
        }
        passes.retain(|pass| pass.saturating_add(self.span) > now);
        passes
    }

    fn charged(&self, passes: &[u64], now: u64, result: Result<(), Refused>) -> Charged {
        let used = u64::try_from(passes.len()).unwrap_or(u64::MAX);
        let newest = passes.last().map(|last| last.saturating_add(self.span));
        let standing = Standing {
            limit: self.count,
            remaining: self.count.saturating_sub(used),
            window: self.span,
            full_in: newest.unwrap_or_default().saturating_sub(now),
        };
        Charged {
            standing,
            result,
            held: None,
        }
    }

    /// Layout, version 1, little-endian: `"PW"`, version (u8), zero (u8), span (u64), instants (u64
    /// each), checksum (u32) over all of that
    fn encode(&self, passes: &[u64], record: &mut Vec<u8>) {
        record.extend_from_slice(&HEAD);
        record.extend_from_slice(&self.span.to_le_bytes());
        for pass in passes.iter().rev().take(MAX_KEPT).rev() {
            record.extend_from_slice(&pass.to_le_bytes());
        }
        record.extend_from_slice(&checksum(record).to_le_bytes());
    }
}

const HEAD: [u8; 4] = [b'P', b'W', 1, 0];
const MAX_KEPT: usize = 64;

/// The span under which a record was written, and its instants
fn decode(record: &[u8]) -> Option<(u64, Vec<u64>)> {
    let (checked, sum) = record.split_last_chunk::<4>()?;
    let (head, rest) = checked.split_first_chunk::<4>()?;
    let (span, rest) = rest.split_first_chunk::<8>()?;
    let (passes, []) = rest.as_chunks::<8>() else {
        return None;
    };
    let ours =
        *head == HEAD && u32::from_le_bytes(*sum) == checksum(checked) && passes.len() <= MAX_KEPT;
    let passes = passes
        .iter()
        .map(|pass| u64::from_le_bytes(*pass))
        .collect();
    ours.then_some((u64::from_le_bytes(*span), passes))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "test code")]

    use proptest::prelude::*;

    use super::*;
    use crate::account::MapStore;

    const SECOND: u64 = 1_000_000_000;

    fn window(count: u64, span: u64) -> Window {
        Window { count, span }
    }

    fn account() -> AccountKey {
        AccountKey::of_principal("main", "shop", "acme")
    }

    fn charge(window: &Window, now: u64, store: &mut MapStore) -> (Charged, Passed) {
        let place = Place::counted(account(), 1000);
        window.charge(place, now, store).unwrap()
    }

    #[test]
    fn five_in_a_minute_are_five_in_every_minute() {
        let (window, mut store) = (window(5, 60 * SECOND), MapStore::default());
        let start = 1_000 * SECOND;
        for n in 0..5 {
            let (charged, _) = charge(&window, start + n * SECOND, &mut store);
            assert_eq!(
                (charged.standing.remaining, charged.result),
                (4 - n, Ok(()))
            );
        }
        let refused = |now, store: &mut MapStore| charge(&window, now, store).0.result;
        let retry_after = 55 * SECOND;
        assert_eq!(
            refused(start + 5 * SECOND, &mut store),
            Err(Refused { retry_after })
        );
        assert_eq!(
            refused(start + 60 * SECOND - 1, &mut store),
            Err(Refused { retry_after: 1 })
        );
        assert_eq!(refused(start + 60 * SECOND, &mut store), Ok(()));
        assert!(refused(start + 60 * SECOND, &mut store).is_err());
    }

    #[test]
    fn a_pass_that_was_none_is_taken_back() {
        let (window, mut store) = (window(1, SECOND), MapStore::default());
        let (_, passed) = charge(&window, 5 * SECOND, &mut store);
        window.take_back(&passed, 5 * SECOND, &mut store);
        assert_eq!(charge(&window, 5 * SECOND, &mut store).0.result, Ok(()));
        assert!(charge(&window, 5 * SECOND, &mut store).0.result.is_err());
    }

    #[test]
    fn foreign_bytes_are_a_full_window_that_empties() {
        let (window, mut store) = (window(2, SECOND), MapStore::default());
        charge(&window, SECOND, &mut store);
        for record in store.records.values_mut() {
            record.truncate(9);
        }
        // The directory is foreign, too, but this record has its place.
        assert!(charge(&window, SECOND, &mut store).0.result.is_err());
        assert_eq!(charge(&window, 2 * SECOND, &mut store).0.result, Ok(()));
    }

    #[test]
    fn a_longer_span_refills_nothing() {
        let (short, mut store) = (window(2, SECOND), MapStore::default());
        for now in [10, 10, 11, 11] {
            assert_eq!(charge(&short, now * SECOND, &mut store).0.result, Ok(()));
        }
        let long = window(4, 60 * SECOND);
        assert!(charge(&long, 12 * SECOND, &mut store).0.result.is_err());
        assert_eq!(charge(&long, 71 * SECOND, &mut store).0.result, Ok(()));
    }

    #[test]
    fn past_max_accounts_principals_share() {
        let (window, mut store) = (window(1, SECOND), MapStore::default());
        for n in 0..200 {
            let principal = std::format!("p{n}");
            let account = AccountKey::of_principal("main", "shop", &principal);
            let place = Place::counted(account, 10);
            let _: (Charged, Passed) = window.charge(place, SECOND, &mut store).unwrap();
        }
        assert!(
            store.records.len() <= 10 + 64 + 1,
            "{}",
            store.records.len()
        );
    }

    proptest! {
        /// In any half-open interval as long as the span, at most `count` passes; and whoever is
        /// refused would have been one too many
        #[test]
        fn no_interval_sees_more(
            count in 1..9u64,
            gaps in proptest::collection::vec(0..40u64, 1..200),
        ) {
            let (window, mut store) = (window(count, 100), MapStore::default());
            let mut passes: Vec<u64> = Vec::new();
            let mut now = 1_000_000;
            for gap in gaps {
                now += gap;
                let recent = passes.iter().filter(|pass| **pass + 100 > now).count();
                let (charged, _) = charge(&window, now, &mut store);
                prop_assert_eq!(charged.result.is_ok(), (recent as u64) < count);
                if charged.result.is_ok() {
                    passes.push(now);
                }
            }
        }
    }
}
