//! What a principal has spent of its quotas, as one record that workers share.

use alloc::vec::Vec;

use crate::account::{AccountKey, checksum};
use crate::period::Period;

/// A principal's book: what it has spent in the period that is open, what of its packs, and the
/// idempotency keys that it has used
///
/// INVARIANT: bounded. [`MAX_SPENT`](Self::MAX_SPENT) quotas and packs each: what finds no place counts
/// as spent. [`MAX_KEYS`](Self::MAX_KEYS) idempotency keys: the oldest is forgotten, and who sends it
/// again is charged again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Book {
    /// The latest instant at which it was written, in seconds since the Unix epoch: a clock that
    /// steps back is not believed
    pub(crate) seen: u64,
    /// The period that is open; empty before the first one
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// By quota, in the open period
    spent: Vec<Spent>,
    /// By pack
    packs: Vec<Spent>,
    keys: Vec<Key>,
    /// What a later version appended
    rest: Vec<u8>,
    version: u8,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Spent {
    number: u64,
    amount: u64,
    /// When it may be forgotten, in seconds since the Unix epoch; a quota ends with its period
    until: u64,
}

/// An idempotency key that was used
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Key {
    /// Of the route and the key
    pub(crate) digest: [u8; 16],
    /// Of the body that it came with
    pub(crate) body: [u8; 16],
    /// When it was first used, in seconds since the Unix epoch
    pub(crate) begun: u64,
    /// For how many seconds it is known
    pub(crate) ttl: u32,
    /// Requests with it that are under way; [`SETTLED`](Self::SETTLED) when it is charged for good
    pub(crate) under_way: u32,
    /// Where its charge was taken from
    pub(crate) source: Source,
}

/// Where an amount was taken from
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Source {
    /// The allowance of the period that begins then
    Allowance {
        quota: u64,
        start: u64,
    },
    Pack(u64),
}

impl Key {
    /// Charged for good: whatever becomes of requests with it changes nothing
    pub(crate) const SETTLED: u32 = u32::MAX;
}

impl Book {
    /// Quotas, and packs, that a record knows
    pub(crate) const MAX_SPENT: usize = 64;
    /// Idempotency keys that a record knows
    pub(crate) const MAX_KEYS: usize = 32;

    /// Opens a period, and forgets what has ended
    ///
    /// Where the customer's calendar was changed, so that the new period overlaps the open one, what
    /// was spent stays spent.
    pub(crate) fn turn(&mut self, period: Option<Period>, now: u64) {
        self.seen = now;
        if let Some(Period { start, end }) = period {
            if start >= self.end {
                self.spent.clear();
            }
            (self.start, self.end) = (start, end);
        }
        self.packs.retain(|pack| now < pack.until);
        self.keys
            .retain(|key| now.saturating_sub(key.begun) < key.ttl.into());
    }

    /// What was spent of a quota in the open period; `None` where there is no place to note it
    pub(crate) fn spent(&self, quota: u64) -> Option<u64> {
        amount(&self.spent, quota)
    }

    /// What was spent of a pack; `None` where there is no place to note it
    pub(crate) fn spent_of_pack(&self, pack: u64) -> Option<u64> {
        amount(&self.packs, pack)
    }

    /// Spends one of the allowance
    pub(crate) fn spend(&mut self, quota: u64) -> Source {
        add(&mut self.spent, quota, self.end);
        Source::Allowance {
            quota,
            start: self.start,
        }
    }

    /// Spends one of a pack
    pub(crate) fn spend_pack(&mut self, pack: u64, expires: u64) -> Source {
        add(&mut self.packs, pack, expires);
        Source::Pack(pack)
    }

    /// Gives one back to where it came from; what has ended since then takes nothing
    pub(crate) fn give_back(&mut self, source: Source) {
        let (list, number) = match source {
            Source::Allowance { quota, start } if start == self.start => (&mut self.spent, quota),
            Source::Allowance { .. } => return,
            Source::Pack(pack) => (&mut self.packs, pack),
        };
        if let Some(spent) = list.iter_mut().find(|spent| spent.number == number) {
            spent.amount = spent.amount.saturating_sub(1);
        }
    }

    /// The use of an idempotency key
    pub(crate) fn key(&mut self, digest: &[u8; 16]) -> Option<&mut Key> {
        self.keys.iter_mut().find(|key| key.digest == *digest)
    }

    /// Notes the use of an idempotency key; the oldest makes room
    pub(crate) fn note(&mut self, key: Key) {
        if self.keys.len() >= Self::MAX_KEYS {
            let oldest = (0..).zip(&self.keys).min_by_key(|(_, key)| key.begun);
            if let Some((oldest, _)) = oldest {
                self.keys.remove(oldest);
            }
        }
        self.keys.push(key);
    }

    /// Forgets the use of an idempotency key
    pub(crate) fn forget(&mut self, digest: &[u8; 16]) {
        self.keys.retain(|key| key.digest != *digest);
    }

    /// Reads a record; `None` for bytes that are not this one
    ///
    /// Layout, version 1, little-endian: `"PQ"`, version (u8), zero (u8), tag (u32), seen (u64), start
    /// (u64), end (u64), the numbers of quotas, packs and keys (u8 each), zero (u8); a quota or pack:
    /// number, amount, until (u64 each); a key: digest and body (16 bytes each), begun (u64), ttl (u32),
    /// requests under way (u32), and where its charge was taken from: quota or pack (u64), and the
    /// period's start (u64; all ones for a pack); a checksum (u32) over all of that. A later version appends its
    /// fields behind and keeps these: this code carries what stands behind over unchanged.
    pub(crate) fn decode(key: AccountKey, record: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(record);
        let [m0, m1, version, zero] = bytes.take::<4>()?;
        let ours = [m0, m1] == *MAGIC && version >= VERSION && zero == 0;
        if !ours || bytes.take::<4>()? != key.tag() {
            return None;
        }
        let (seen, start, end) = (bytes.u64()?, bytes.u64()?, bytes.u64()?);
        let [quotas, packs, keys, 0] = bytes.take::<4>()? else {
            return None;
        };
        let mut book = Self {
            seen,
            start,
            end,
            version,
            ..Self::default()
        };
        for (list, count) in [(&mut book.spent, quotas), (&mut book.packs, packs)] {
            for _ in 0..count {
                list.push(Spent {
                    number: bytes.u64()?,
                    amount: bytes.u64()?,
                    until: bytes.u64()?,
                });
            }
        }
        for _ in 0..keys {
            book.keys.push(Key {
                digest: bytes.take()?,
                body: bytes.take()?,
                begun: bytes.u64()?,
                ttl: bytes.u32()?,
                under_way: bytes.u32()?,
                source: match (bytes.u64()?, bytes.u64()?) {
                    (pack, OF_PACK) => Source::Pack(pack),
                    (quota, start) => Source::Allowance { quota, start },
                },
            });
        }
        let checked = record.len().checked_sub(bytes.0.len())?;
        let sum = bytes.u32()?;
        book.rest.extend_from_slice(bytes.0);
        let whole = version > VERSION || book.rest.is_empty();
        (whole && sum == checksum(record.get(..checked)?)).then_some(book)
    }

    /// Writes the record
    pub(crate) fn encode(&self, key: AccountKey, record: &mut Vec<u8>) {
        let count = |length| u8::try_from(length).unwrap_or(u8::MAX);
        record.extend_from_slice(MAGIC);
        record.extend_from_slice(&[self.version.max(VERSION), 0]);
        record.extend_from_slice(&key.tag());
        for number in [self.seen, self.start, self.end] {
            record.extend_from_slice(&number.to_le_bytes());
        }
        let (quotas, packs) = (count(self.spent.len()), count(self.packs.len()));
        record.extend_from_slice(&[quotas, packs, count(self.keys.len()), 0]);
        for spent in self.spent.iter().chain(&self.packs) {
            for number in [spent.number, spent.amount, spent.until] {
                record.extend_from_slice(&number.to_le_bytes());
            }
        }
        for key in &self.keys {
            record.extend_from_slice(&key.digest);
            record.extend_from_slice(&key.body);
            record.extend_from_slice(&key.begun.to_le_bytes());
            record.extend_from_slice(&key.ttl.to_le_bytes());
            record.extend_from_slice(&key.under_way.to_le_bytes());
            let (number, start) = match key.source {
                Source::Allowance { quota, start } => (quota, start),
                Source::Pack(pack) => (pack, OF_PACK),
            };
            record.extend_from_slice(&number.to_le_bytes());
            record.extend_from_slice(&start.to_le_bytes());
        }
        record.extend_from_slice(&checksum(record).to_le_bytes());
        record.extend_from_slice(&self.rest);
    }
}

const MAGIC: &[u8; 2] = b"PQ";
const VERSION: u8 = 1;
const OF_PACK: u64 = u64::MAX;

/// Bytes that are being read
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

fn amount(list: &[Spent], number: u64) -> Option<u64> {
    match list.iter().find(|spent| spent.number == number) {
        Some(spent) => Some(spent.amount),
        None => (list.len() < Book::MAX_SPENT).then_some(0),
    }
}

fn add(list: &mut Vec<Spent>, number: u64, until: u64) {
    if let Some(spent) = list.iter_mut().find(|spent| spent.number == number) {
        spent.amount = spent.amount.saturating_add(1);
        spent.until = until;
    } else {
        list.push(Spent {
            number,
            amount: 1,
            until,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> AccountKey {
        AccountKey::of_principal("main", "shop", "acme")
    }

    fn encode(book: &Book) -> Vec<u8> {
        let mut record = Vec::new();
        book.encode(account(), &mut record);
        record
    }

    /// A book with something of everything
    fn full() -> Book {
        let mut book = Book::default();
        let period = Period {
            start: 1_000,
            end: 2_000,
        };
        book.turn(Some(period), 1_500);
        let source = book.spend(7);
        book.spend(7);
        let pack = book.spend_pack(9, 5_000);
        for (digest, source) in [([1; 16], source), ([2; 16], pack)] {
            book.note(Key {
                digest,
                body: [3; 16],
                begun: 1_500,
                ttl: 60,
                under_way: 1,
                source,
            });
        }
        book.version = VERSION;
        book
    }

    #[test]
    fn round_trip() {
        for book in [full(), Book::default()] {
            let record = encode(&book);
            let read = Book::decode(account(), &record).unwrap();
            assert_eq!(encode(&read), record);
        }
        assert_eq!(Book::decode(account(), &encode(&full())), Some(full()));
        assert_eq!(encode(&Book::default()).len(), 40);
        assert_eq!(encode(&full()).len(), 40 + 2 * 24 + 2 * 64);
    }

    #[test]
    fn any_other_bytes_are_foreign() {
        let record = encode(&full());
        for length in 0..record.len() {
            assert_eq!(Book::decode(account(), &record[..length]), None, "{length}");
        }
        for index in 0..record.len() {
            for bit in 0..8 {
                let mut bytes = record.clone();
                bytes[index] ^= 1 << bit;
                assert_eq!(Book::decode(account(), &bytes), None, "{index}.{bit}");
            }
        }
        let mut longer = record.clone();
        longer.push(0);
        assert_eq!(Book::decode(account(), &longer), None);
        let other = AccountKey::of_principal("main", "shop", "globex");
        assert_eq!(Book::decode(other, &record), None);
    }

    #[test]
    fn what_a_later_version_appended_is_carried_over() {
        let mut later = full();
        later.version = 2;
        let mut record = encode(&later);
        record.extend(b"more");
        let mut read = Book::decode(account(), &record).unwrap();
        read.spend(7);
        let written = encode(&read);
        assert_eq!(written[2], 2);
        assert!(written.ends_with(b"more"));
        assert_eq!(Book::decode(account(), &written).unwrap().spent(7), Some(3));
    }

    /// What finds no place counts as spent; the oldest key makes room
    #[test]
    fn a_book_is_bounded() {
        let mut book = Book::default();
        for number in 0..64 {
            assert_eq!(book.spent(number), Some(0));
            book.spend(number);
            book.spend_pack(number, 10);
        }
        assert_eq!((book.spent(64), book.spent_of_pack(64)), (None, None));
        assert_eq!((book.spent(3), book.spent_of_pack(3)), (Some(1), Some(1)));
        let number = |number: u8| [number; 16];
        for n in 0..33 {
            book.note(Key {
                digest: number(n),
                body: [0; 16],
                begun: 100 - u64::from(n),
                ttl: 60,
                under_way: 1,
                source: Source::Pack(1),
            });
        }
        assert_eq!(book.keys.len(), Book::MAX_KEYS);
        assert!(book.key(&number(31)).is_none() && book.key(&number(32)).is_some());
        assert!(encode(&book).len() < 6_000);
    }

    /// A calendar that is changed refills nothing; a period that has ended takes nothing back
    #[test]
    fn what_was_spent_stays_spent_in_a_period_that_overlaps() {
        let mut book = full();
        let turn = |book: &mut Book, start, end, now| {
            book.turn(Some(Period { start, end }), now);
            book.spent(7)
        };
        assert_eq!(turn(&mut book, 1_200, 2_200, 1_600), Some(2));
        assert_eq!(turn(&mut book, 0, 1_700, 1_650), Some(2));
        assert_eq!(turn(&mut book, 1_699, 9_000, 1_750), Some(2));
        assert_eq!(turn(&mut book, 9_000, 9_900, 9_000), Some(0));
        book.give_back(Source::Allowance {
            quota: 7,
            start: 1_699,
        });
        assert_eq!((book.spent(7), book.spent_of_pack(9)), (Some(0), Some(0)));
    }
}
