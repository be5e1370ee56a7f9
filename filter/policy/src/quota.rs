//! Quotas: so many requests of a kind in a billing period.
//!
//! A request reserves one on its way in; what the upstream answers commits or releases it. Reserved
//! counts as spent from the start, so committing changes nothing in the store: whatever is lost on the
//! way (a worker, a stream) stays charged.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::account::{AccountKey, AccountStore, StoreError};
use crate::book::{Book, Key, Source};
use crate::entitlement::{Entitlement, Spend};
use crate::key::EARLIEST_NOW;
use crate::limiter::count_account;
use crate::rate::Standing;
use crate::reason::Reason;

/// One of a quota that is reserved for a request until its response is known
///
/// INVARIANT: it is settled at most once, because [`settle`](crate::Engine::settle) takes it. One that
/// never is, is committed.
#[derive(Debug)]
#[must_use = "what is not settled is charged"]
pub struct QuotaReservation {
    account: AccountKey,
    source: Source,
    /// When it was made, in monotonic nanoseconds
    made: u64,
    /// The idempotency key that it came with, and when, as the book has it
    key: Option<([u8; 16], u64)>,
}

/// How a request ended that had reserved one of a quota
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// It never went to the upstream
    NotForwarded,
    /// The response came, with this status; also one that the host made when the upstream could not
    /// be reached, or broke off
    Response(u16),
    /// It went to the upstream, which took too long
    TimedOut,
    /// It went to the upstream, and the client did not wait for the response
    ClientLeft,
    /// It went to the upstream, and the host does not say what that answered
    Unknown,
}

/// What became of a reservation
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Settled {
    /// It is charged
    Committed,
    /// It is given back
    Released,
    /// It would have been given back, but too late, or its idempotency key was forgotten: it is
    /// charged
    Expired,
    /// It should have been given back, and the store did not take it: it is charged
    Kept,
}

impl Settled {
    /// Every outcome there is
    pub const ALL: &'static [Self] = &[Self::Committed, Self::Released, Self::Expired, Self::Kept];

    /// The word for it
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Kept => "kept",
        }
    }
}

impl Ending {
    /// Whether the upstream has done what the quota pays for, or may have
    fn commits(self) -> bool {
        match self {
            Self::Response(status) => status < 400,
            Self::TimedOut | Self::ClientLeft | Self::Unknown => true,
            Self::NotForwarded => false,
        }
    }
}

/// A request that wants one of a quota
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The principal's account
    pub(crate) account: AccountKey,
    pub(crate) entitlement: &'a Entitlement,
    pub(crate) spend: &'a Spend,
    /// Digests of the idempotency key with its route, and of the body
    pub(crate) replay: Option<([u8; 16], [u8; 16])>,
    pub(crate) max_accounts: u64,
    /// Nanoseconds since the Unix epoch
    pub(crate) wall: u64,
    /// Monotonic nanoseconds
    pub(crate) now: u64,
}

/// What became of a request that wants one of a quota
#[derive(Debug)]
pub(crate) enum Granted {
    /// Nothing limits it
    Unlimited,
    Reserved(Box<QuotaReservation>, Standing),
    /// It is charged already; what came first may still give that back
    Replayed(Option<Box<QuotaReservation>>, Option<Standing>),
    Refused {
        reason: Reason,
        standing: Option<Standing>,
        /// Nanoseconds until another try makes sense
        retry_after: Option<u64>,
    },
}

/// For so long a reservation can be released: an hour, longer than a host waits for a response
const LIFE: u64 = 3_600;
const SECOND: u64 = 1_000_000_000;

impl Asked<'_> {
    /// Reserves one, or says why not
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store could not be asked; nothing is reserved then.
    pub(crate) fn reserve(&self, store: &mut dyn AccountStore) -> Result<Granted, StoreError> {
        if self.is_unlimited() {
            return Ok(Granted::Unlimited);
        }
        let key = AccountKey::hash(&[b"quota", &self.account.bytes()]);
        let mut counted = false;
        loop {
            let mut granted = Granted::Unlimited;
            let mut absent = false;
            store.update(&key.bytes(), &mut |record, fresh| {
                absent = record.is_none() && !counted;
                let book = match record {
                    Some(record) => Book::decode(key, record),
                    None => Some(Book::default()),
                };
                let Some(mut book) = book else {
                    granted = Granted::UNAVAILABLE;
                    return false;
                };
                let (found, changed) = self.decide(key, &mut book);
                granted = found;
                // What is created is counted first, so that shared data is bounded by
                // `max_accounts`.
                absent &= changed;
                if absent || !changed {
                    return false;
                }
                book.encode(key, fresh);
                true
            })?;
            if absent {
                if !count_account(self.max_accounts, store)? {
                    return Ok(Granted::UNAVAILABLE);
                }
                counted = true;
                continue;
            }
            return Ok(granted);
        }
    }

    fn is_unlimited(&self) -> bool {
        let quota = self.spend.quota.number;
        self.entitlement.allowance(quota, None).is_none()
    }

    /// Decides by a book; returns whether the book was changed
    fn decide(&self, account: AccountKey, book: &mut Book) -> (Granted, bool) {
        let quota = self.spend.quota.number;
        let wall = self.wall / SECOND;
        // INVARIANT: the instants by which a book is read never go back, so that a clock that does
        // reopens no period and no pack.
        let now = wall.max(book.seen);
        // A clock that can't be right opens no period.
        let period = Some(now).filter(|now| *now >= EARLIEST_NOW);
        let period = period.and_then(|now| self.entitlement.calendar.period(now));
        book.turn(period, now);
        let allowance = self.entitlement.allowance(quota, period);
        let standing = |book: &Book| self.standing(allowance, now, book);
        if let Some((digest, body)) = &self.replay
            && let Some(known) = book.key(digest)
        {
            if known.body != *body {
                return (Granted::MISMATCH, false);
            }
            let (source, begun) = (known.source, known.begun);
            let is_settled = known.under_way == Key::SETTLED;
            if !is_settled {
                known.under_way = known.under_way.saturating_add(1).min(Key::SETTLED - 1);
            }
            let reservation = (!is_settled).then(|| self.reservation(account, source, begun));
            let standing = allowance.is_some().then(|| standing(book));
            return (Granted::Replayed(reservation, standing), !is_settled);
        }
        let Some(total) = allowance else {
            return (Granted::Unlimited, false);
        };
        let source = if book.spent(quota).is_some_and(|spent| spent < total) {
            Some(book.spend(quota))
        } else {
            let mut packs = self.entitlement.packs(quota, now);
            let left = |book: &Book, number, amount| {
                book.spent_of_pack(number)
                    .is_some_and(|spent| spent < amount)
            };
            packs
                .find(|pack| left(book, pack.number, pack.amount))
                .map(|pack| book.spend_pack(pack.number, pack.expires))
        };
        let Some(source) = source else {
            return (Self::spent(total, standing(book)), false);
        };
        self.note(book, source, now);
        let reservation = self.reservation(account, source, now);
        (Granted::Reserved(reservation, standing(book)), true)
    }

    fn reservation(
        &self,
        account: AccountKey,
        source: Source,
        begun: u64,
    ) -> Box<QuotaReservation> {
        let reservation = QuotaReservation {
            account,
            source,
            made: self.now,
            key: self.replay.map(|(digest, _)| (digest, begun)),
        };
        reservation.into()
    }

    /// Notes the idempotency key of a request that is charged
    fn note(&self, book: &mut Book, source: Source, begun: u64) {
        let idempotency = self.spend.idempotency.as_ref();
        if let (Some((digest, body)), Some(idempotency)) = (self.replay, idempotency) {
            book.note(Key {
                digest,
                body,
                begun,
                ttl: idempotency.ttl,
                under_way: 1,
                source,
            });
        }
    }

    /// What of allowance and packs is left
    fn standing(&self, allowance: Option<u64>, now: u64, book: &Book) -> Standing {
        let quota = self.spend.quota.number;
        let total = allowance.unwrap_or(u64::MAX);
        let left =
            |amount: u64, spent: Option<u64>| spent.map_or(0, |spent| amount.saturating_sub(spent));
        let mut standing = Standing {
            limit: total,
            remaining: left(total, book.spent(quota)),
            window: book.end.saturating_sub(book.start).saturating_mul(SECOND),
            full_in: book.end.saturating_mul(SECOND).saturating_sub(self.wall),
        };
        for pack in self.entitlement.packs(quota, now) {
            standing.limit = standing.limit.saturating_add(pack.amount);
            let left = left(pack.amount, book.spent_of_pack(pack.number));
            standing.remaining = standing.remaining.saturating_add(left);
        }
        standing
    }

    /// Nothing is left: what the next period does not bring either is not waited for
    fn spent(allowance: u64, standing: Standing) -> Granted {
        let waits = allowance > 0;
        Granted::Refused {
            reason: if waits {
                Reason::QuotaSpent
            } else {
                Reason::QuotaNone
            },
            standing: Some(standing),
            retry_after: waits.then_some(standing.full_in),
        }
    }
}

impl Granted {
    /// It can't be known what was spent, or noted
    const UNAVAILABLE: Self = Self::Refused {
        reason: Reason::QuotaUnavailable,
        standing: None,
        retry_after: Some(0),
    };

    const MISMATCH: Self = Self::Refused {
        reason: Reason::IdempotencyMismatch,
        standing: None,
        retry_after: None,
    };
}

impl QuotaReservation {
    /// Commits or releases it, at an instant in monotonic nanoseconds
    pub(crate) fn settle(self, ending: Ending, now: u64, store: &mut dyn AccountStore) -> Settled {
        let is_late = now.saturating_sub(self.made) >= LIFE.saturating_mul(SECOND);
        let settled = match (ending.commits(), is_late) {
            (true, _) => Settled::Committed,
            (false, true) => Settled::Expired,
            (false, false) => Settled::Released,
        };
        // Reserved is spent: nobody has to be told, unless there is an idempotency key.
        if settled != Settled::Released && self.key.is_none() {
            return settled;
        }
        let mut outcome = settled;
        let updated = store.update(&self.account.bytes(), &mut |record, fresh| {
            outcome = settled;
            let book = record.and_then(|record| Book::decode(self.account, record));
            // A store that began anew knows nothing that could be given back.
            let Some(mut book) = book else {
                return false;
            };
            let changed;
            (outcome, changed) = self.change(&mut book, settled);
            if !changed {
                return false;
            }
            book.encode(self.account, fresh);
            true
        });
        match (updated, settled) {
            (Err(_), Settled::Released) => Settled::Kept,
            _ => outcome,
        }
    }

    /// Settles it in a book; returns what became of it, and whether the book was changed
    ///
    /// INVARIANT: of the requests with one idempotency key one is charged, unless every one of them is
    /// released.
    fn change(&self, book: &mut Book, settled: Settled) -> (Settled, bool) {
        let releases = settled == Settled::Released;
        let Some((digest, begun)) = self.key else {
            if releases {
                book.give_back(self.source);
            }
            return (settled, releases);
        };
        match book.key(&digest).filter(|known| known.begun == begun) {
            // Whether another one was let through for it can't be told any more.
            None if releases => (Settled::Expired, false),
            None => (settled, false),
            Some(known) if known.under_way == Key::SETTLED => (Settled::Committed, false),
            Some(known) if !releases => {
                known.under_way = Key::SETTLED;
                (settled, true)
            }
            Some(known) if known.under_way > 1 => {
                known.under_way = known.under_way.saturating_sub(1);
                (settled, true)
            }
            Some(_) => {
                book.forget(&digest);
                book.give_back(self.source);
                (settled, true)
            }
        }
    }
}

/// The digest of an idempotency key and the route that it is for
pub(crate) fn digest_of_key(route: &[u8], key: &[u8]) -> [u8; 16] {
    AccountKey::hash(&[b"idempotency", route, key]).bytes()
}

/// The digest of a body
pub(crate) fn digest_of_body(body: &[u8]) -> [u8; 16] {
    AccountKey::hash(&[b"body", body]).bytes()
}

/// The value of an idempotency key's header: 1 to 255 visible characters, once
///
/// `Ok(None)` without the header.
///
/// # Errors
///
/// There are several, or what there is is no key.
pub(crate) fn find_key<'a>(
    headers: &[(&'a [u8], &'a [u8])],
    name: &str,
) -> Result<Option<&'a [u8]>, ()> {
    let found: Vec<_> = headers
        .iter()
        .filter(|(other, _)| *other == name.as_bytes())
        .map(|(_, value)| *value)
        .collect();
    match found.as_slice() {
        [] => Ok(None),
        [key] if (1..=255).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic) => {
            Ok(Some(key))
        }
        _ => Err(()),
    }
}
