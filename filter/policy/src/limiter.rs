//! Charging accounts that workers share, with as few trips to the store as exactness allows.

use core::num::NonZeroUsize;

use lru::LruCache;

use crate::account::{Account, AccountKey, AccountStore, StoreError, Stored};
use crate::bucket::{Bucket, Refused};
use crate::rate::Standing;

/// What one worker knows of accounts, and its slices of them
///
/// A trip to the shared store costs a worker more than all the rest of a decision, so a worker
/// that is asked often reserves a *slice*: several cells at once, which it then spends from its
/// own memory. A slice is `cells` slots of one emission interval each, side by side from `base`.
///
/// INVARIANT: the j-th slot (from 0) is spent at most once, and not after `base + j x emission`,
/// when it begins; and `base + cells x emission <= now + tolerance` when the slice is taken. So
/// every pass at `u` owns one slot that ends between `u + emission` and `u + tolerance`, slots of
/// all workers never overlap, and any interval `t` sees at most burst + floor(rate x t) passes.
///
/// Bounded: the least recently charged accounts are forgotten first. A forgotten slice is lost
/// to its bucket, which makes a limit stricter, never looser.
#[derive(Debug)]
pub struct Limiter {
    locals: LruCache<AccountKey, Local>,
    born: u64,
}

/// Accounts that one worker remembers
const MAX_LOCALS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(8191);
/// A slice is meant to last this long at the most: 250 ms
const HORIZON: u64 = 250_000_000;
/// ... and 1/64 of the time that the bucket takes to fill, so that small buckets stay exact
const HORIZON_SHARE: u64 = 64;
/// A slice takes 1/16 of the cells that are left, so that the last ones are shared out one by one
const SLICE_SHARE: u64 = 16;
/// After so many horizons without a charge a worker begins with single cells again
const IDLE_HORIZONS: u64 = 4;

#[derive(Clone, Copy, Debug)]
struct Local {
    /// The latest TAT seen in the store; the one there is never earlier
    tat: u64,
    emission: u64,
    base: u64,
    cells: u64,
    /// Slots up to here are spent or lost
    spent: u64,
    /// Cells that passed
    used: u64,
    taken_at: u64,
    overflow: bool,
}

/// The record that counts the accounts there are
const DIRECTORY: &[u8] = b"portcullis.accounts";
const OVERFLOW_SLOTS: u64 = 64;

impl Limiter {
    /// When the store began, in monotonic nanoseconds
    pub(crate) fn born(&self) -> u64 {
        self.born
    }

    /// A worker that knows nothing yet, on a store that began at `born` (monotonic nanoseconds)
    #[must_use]
    pub fn new(born: u64) -> Self {
        Self {
            locals: LruCache::new(MAX_LOCALS),
            born,
        }
    }

    /// Charges an account, and says how it stands afterwards
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store could not be asked; nothing is charged then.
    pub(crate) fn charge(
        &mut self,
        charge: &Charge<'_>,
        now: u64,
        store: &mut dyn AccountStore,
    ) -> Result<Charged, StoreError> {
        let Charge {
            account,
            bucket,
            cells,
            ..
        } = *charge;
        let mut known = self
            .locals
            .get_mut(&account)
            .filter(|local| local.emission == bucket.emission());
        if let Some(local) = &mut known {
            if local.spend(bucket, cells, now) {
                return Ok(local.standing(bucket, now).passed());
            }
            // What this worker has seen is enough to refuse, never enough to pass: the TAT in
            // the store only moves on.
            if let Err(refused) = bucket.reserve(local.tat, now, cells) {
                return Ok(local.standing(bucket, now).refused(refused));
            }
        }
        let before = known.map(|local| *local);
        let Taken {
            local,
            result,
            held,
            exists,
        } = self.take_slice(charge, before, now, store)?;
        if exists {
            self.locals.put(account, local);
        }
        let standing = local.standing(bucket, now);
        Ok(Charged {
            standing,
            result,
            held,
        })
    }

    /// Gives a reservation back that nobody waits for any more, if it was the last one
    ///
    /// Otherwise it melts: time takes it. Other workers may think the bucket emptier than it is
    /// until then.
    pub(crate) fn give_back(&mut self, reservation: &Reservation, store: &mut dyn AccountStore) {
        let Reservation {
            holder,
            cells,
            emission,
            end,
            ..
        } = *reservation;
        let mut given_back = false;
        // What can't be given back melts, too.
        let _: Result<(), StoreError> = store.update(&holder.bytes(), &mut |record, fresh| {
            given_back = Account::take_back(holder, record, fresh, end, emission, cells);
            given_back
        });
        if given_back {
            self.locals.pop(&reservation.account);
        }
    }

    /// How an account stands, as far as this worker can tell, without charging it
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store could not be asked.
    pub(crate) fn peek(
        &mut self,
        charge: &Charge<'_>,
        now: u64,
        store: &mut dyn AccountStore,
    ) -> Result<Charged, StoreError> {
        let Charge {
            account,
            bucket,
            cells,
            ..
        } = *charge;
        let known = self
            .locals
            .peek(&account)
            .filter(|local| local.emission == bucket.emission());
        let local = match known {
            Some(local) if local.fits(bucket, cells, now) => *local,
            known => {
                let overflow = known.is_some_and(|local| local.overflow);
                let mut tat = 0;
                store.update(&slot(account, overflow), &mut |record, _| {
                    tat = Account::decode(slot_account(account, overflow), record)
                        .tat(bucket, self.born, now);
                    false
                })?;
                Local {
                    tat,
                    overflow,
                    ..Local::unknown(bucket)
                }
            }
        };
        let standing = local.standing(bucket, now);
        if local.fits(bucket, cells, now) {
            return Ok(standing.passed());
        }
        Ok(match bucket.reserve(local.tat, now, cells) {
            Ok(_) => standing.passed(),
            Err(refused) => standing.refused(refused),
        })
    }

    fn take_slice(
        &self,
        charge: &Charge<'_>,
        before: Option<Local>,
        now: u64,
        store: &mut dyn AccountStore,
    ) -> Result<Taken, StoreError> {
        let Charge {
            account,
            bucket,
            cells,
            max_accounts,
        } = *charge;
        let wanted = before.map_or(cells, |local| local.wanted(cells, now));
        let mut overflow = before.is_some_and(|local| local.overflow);
        let mut create = before.is_some();
        loop {
            let holder = slot_account(account, overflow);
            let mut local = Local::unknown(bucket);
            let mut result = Ok(());
            let mut held = None;
            let mut absent = false;
            store.update(&slot(account, overflow), &mut |record, fresh| {
                let stored = Account::decode(holder, record);
                absent = stored == Stored::Absent;
                // Nothing of a slice that another worker was faster than.
                local = Local {
                    tat: stored.tat(bucket, self.born, now),
                    taken_at: now,
                    overflow,
                    ..Local::unknown(bucket)
                };
                let reserved = match bucket.reserve(local.tat, now, cells) {
                    Ok(reserved) => reserved,
                    Err(refused) => {
                        result = Err(refused);
                        return false;
                    }
                };
                (result, held) = (Ok(()), None);
                if absent && !create && !overflow {
                    return false;
                }
                if reserved.until > now {
                    local.tat = reserved.tat;
                    held = Some(Reservation {
                        account,
                        holder,
                        cells,
                        emission: bucket.emission(),
                        until: reserved.until,
                        end: reserved.tat,
                    });
                    Account {
                        tat: local.tat,
                        emission: bucket.emission(),
                    }
                    .encode(holder, record, fresh);
                    return true;
                }
                let slice = slice(bucket, local.tat, now, cells, wanted);
                (local.base, local.cells) = (slice.base, slice.cells);
                (local.spent, local.used) = (cells, cells);
                local.tat = slice.base.saturating_add(bucket.span(slice.cells));
                Account {
                    tat: local.tat,
                    emission: bucket.emission(),
                }
                .encode(holder, record, fresh);
                true
            })?;
            // INVARIANT: an account is created only after it was counted, so that shared data,
            // which is never freed, is bounded by `max_accounts`.
            if absent && !create && !overflow && result.is_ok() {
                overflow = !count_account(max_accounts, store)?;
                create = true;
                continue;
            }
            return Ok(Taken {
                local,
                result,
                held,
                exists: !absent || result.is_ok(),
            });
        }
    }
}

/// What a trip to the store brought
struct Taken {
    local: Local,
    result: Result<(), Refused>,
    held: Option<Reservation>,
    exists: bool,
}

/// Slots that are reserved for a request that waits
///
/// INVARIANT: it goes not before `until`, and not after `end - cells x emission`: then each of its
/// slots ends between one emission interval and the bucket's tolerance after it went, as those of
/// every pass do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Reservation {
    account: AccountKey,
    /// Where the account lies: another one, if it has none of its own
    holder: AccountKey,
    cells: u64,
    emission: u64,
    pub(crate) until: u64,
    end: u64,
}

impl Reservation {
    /// Whether the request that waited comes too late for its slot
    pub(crate) fn is_over(&self, now: u64) -> bool {
        now.saturating_add(self.emission.saturating_mul(self.cells)) > self.end
    }

    /// Whether another request may take this one's place
    pub(crate) fn suits(&self, other: &Self) -> bool {
        self.account == other.account
            && self.cells == other.cells
            && self.emission == other.emission
    }
}

/// One charge
#[derive(Clone, Copy, Debug)]
pub(crate) struct Charge<'a> {
    pub(crate) account: AccountKey,
    pub(crate) bucket: &'a Bucket,
    pub(crate) cells: u64,
    pub(crate) max_accounts: u64,
}

/// What became of a charge
#[derive(Clone, Copy, Debug)]
pub(crate) struct Charged {
    pub(crate) standing: Standing,
    pub(crate) result: Result<(), Refused>,
    /// What a request that may pass has to wait for
    pub(crate) held: Option<Reservation>,
}

impl Standing {
    fn passed(self) -> Charged {
        Charged {
            standing: self,
            result: Ok(()),
            held: None,
        }
    }

    fn refused(self, refused: Refused) -> Charged {
        Charged {
            standing: self,
            result: Err(refused),
            held: None,
        }
    }
}

impl Local {
    fn unknown(bucket: &Bucket) -> Self {
        Self {
            tat: 0,
            emission: bucket.emission(),
            base: 0,
            cells: 0,
            spent: 0,
            used: 0,
            taken_at: 0,
            overflow: false,
        }
    }

    /// Slots that are spent or have begun
    fn gone(&self, bucket: &Bucket, now: u64) -> u64 {
        let begun = now
            .saturating_sub(self.base)
            .div_ceil(bucket.emission().max(1));
        self.spent.max(begun).min(self.cells)
    }

    fn fits(&self, bucket: &Bucket, cells: u64, now: u64) -> bool {
        self.gone(bucket, now).saturating_add(cells) <= self.cells
    }

    fn spend(&mut self, bucket: &Bucket, cells: u64, now: u64) -> bool {
        if !self.fits(bucket, cells, now) {
            return false;
        }
        self.spent = self.gone(bucket, now).saturating_add(cells);
        self.used = self.used.saturating_add(cells);
        true
    }

    /// Cells to ask for next: twice as many as passed on the last slice
    fn wanted(&self, cells: u64, now: u64) -> u64 {
        if now.saturating_sub(self.taken_at) > HORIZON.saturating_mul(IDLE_HORIZONS) {
            return cells;
        }
        self.used.saturating_mul(2).max(cells)
    }

    fn standing(&self, bucket: &Bucket, now: u64) -> Standing {
        let unspent = self.cells.saturating_sub(self.gone(bucket, now));
        Standing {
            limit: bucket.count(),
            remaining: bucket
                .remaining(self.tat, now)
                .saturating_add(unspent)
                .min(bucket.burst()),
            window: bucket.window(),
            full_in: bucket.full_in(self.tat, now),
        }
    }
}

struct Slice {
    base: u64,
    cells: u64,
}

/// The slice to take of a bucket that can bear the charge
///
/// A slice of more than the charge begins a horizon ahead, so that its slots can be spent until
/// then; the bucket is that much emptier, once, however many slices follow.
fn slice(bucket: &Bucket, tat: u64, now: u64, cells: u64, wanted: u64) -> Slice {
    let exact = Slice {
        base: tat.max(now),
        cells,
    };
    let share = |of: u64, by: u64| of.checked_div(by).unwrap_or_default();
    let horizon = share(bucket.tolerance(), HORIZON_SHARE).min(HORIZON);
    let ahead = tat.max(now.saturating_add(horizon));
    let left = bucket.remaining(ahead, now);
    let most = share(horizon, bucket.emission()).min(share(left, SLICE_SHARE));
    let taken = wanted.min(most);
    if taken <= cells {
        return exact;
    }
    Slice {
        base: ahead,
        cells: taken,
    }
}

fn slot_account(account: AccountKey, overflow: bool) -> AccountKey {
    if overflow {
        overflow_account(account)
    } else {
        account
    }
}

/// The slot that an account shares that has none of its own
pub(crate) fn overflow_account(account: AccountKey) -> AccountKey {
    let slot = account
        .low_bits()
        .checked_rem(OVERFLOW_SLOTS)
        .unwrap_or_default();
    AccountKey::hash(&[b"overflow", &slot.to_le_bytes()])
}

fn slot(account: AccountKey, overflow: bool) -> [u8; 16] {
    slot_account(account, overflow).bytes()
}

/// Counts one more account; false when there are as many as there may be
pub(crate) fn count_account(
    max_accounts: u64,
    store: &mut dyn AccountStore,
) -> Result<bool, StoreError> {
    let mut counted = false;
    store.update(DIRECTORY, &mut |record, fresh| {
        let count = match record {
            None => 0,
            // Foreign bytes count as a full directory.
            Some(bytes) => bytes.try_into().map_or(u64::MAX, u64::from_le_bytes),
        };
        counted = count < max_accounts;
        if counted {
            fresh.extend_from_slice(&count.saturating_add(1).to_le_bytes());
        }
        counted
    })?;
    Ok(counted)
}

#[cfg(test)]
mod tests;
