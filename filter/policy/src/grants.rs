//! Which domains a principal has access to, as far as it was learned: one record that workers share.

use alloc::vec::Vec;

use crate::account::{AccountKey, AccountStore, StoreError, checksum};
use crate::limiter::{count_account, overflow_account};

/// What was learned of a principal's access to a domain
///
/// The numbers are those of the record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mark {
    /// A granting route has succeeded
    Granted = 1,
    /// The upstream's own list names it
    Listed = 2,
    /// The upstream's own list does not name it; of the empty name: nothing but what is known here
    Denied = 3,
    /// A revoking route has succeeded
    Revoked = 4,
}

/// How long what was learned is believed, in nanoseconds
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Lives {
    pub(crate) granted: u64,
    pub(crate) listed: u64,
    /// Of [`Mark::Denied`], and of a revocation where the upstream can be asked again
    pub(crate) denied: u64,
    pub(crate) asks: bool,
}

/// The grants of one principal in one API
///
/// Domains are kept as hashes together with the account, so that principals can share a record.
///
/// INVARIANT: a grant gives access only if its request was decided after the last revocation was
/// answered, whatever order workers learn them in. A revocation that is forgotten moves `floor` on,
/// and nothing that is as old is taken; it is forgotten only when all grants that are older are.
///
/// Bounded: [`MAX_ENTRIES`](Self::MAX_ENTRIES) a record; the oldest is forgotten first.
#[derive(Debug)]
pub(crate) struct Grants {
    account: AccountKey,
    lives: Lives,
}

/// One domain
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Entry {
    mark: u8,
    id: [u8; 16],
    /// Monotonic nanoseconds: when the request was decided that was granted, or the list asked for; or
    /// when the revocation was answered
    at: u64,
}

#[derive(Debug, Default)]
struct Record {
    floor: u64,
    entries: Vec<Entry>,
}

impl Grants {
    /// Domains that a record holds at the most
    pub(crate) const MAX_ENTRIES: usize = 256;

    pub(crate) fn new(account: AccountKey, lives: Lives) -> Self {
        Self { account, lives }
    }

    /// Whether the principal has access to the first of some domains, of which the others are the ones
    /// that include it; `None` when nothing is known of it
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store could not be asked.
    pub(crate) fn look<'d>(
        &self,
        domains: impl Iterator<Item = &'d str>,
        now: u64,
        store: &mut dyn AccountStore,
    ) -> Result<Option<bool>, StoreError> {
        let ids: Vec<_> = domains.map(|domain| self.id(domain)).collect();
        let all = self.id("");
        let mut known = None;
        let mut look = |key: AccountKey| {
            let mut absent = false;
            store.update(&key.bytes(), &mut |record, _| {
                absent = record.is_none();
                known = self.judge(&Record::decode(key, record, now), &ids, all, now);
                false
            })?;
            Ok(absent)
        };
        if look(self.key())? {
            look(overflow_account(self.key()))?;
        }
        Ok(known)
    }

    /// Learns of domains what was true at a time
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store could not be asked; nothing is learned then.
    pub(crate) fn learn<'d>(
        &self,
        marks: impl Iterator<Item = (Mark, &'d str)>,
        at: u64,
        max_accounts: u64,
        now: u64,
        store: &mut dyn AccountStore,
    ) -> Result<(), StoreError> {
        let marks: Vec<_> = marks.map(|(mark, name)| (mark, self.id(name))).collect();
        let mut key = self.key();
        let mut counted = false;
        loop {
            let mut absent = false;
            store.update(&key.bytes(), &mut |stored, fresh| {
                absent = stored.is_none() && !counted;
                if absent {
                    return false;
                }
                let mut record = Record::decode(key, stored, now);
                self.forget(&mut record, now);
                for (mark, id) in &marks {
                    record.learn(*mark, *id, at);
                }
                record.encode(key, fresh);
                true
            })?;
            // What is created is counted first, so that shared data is bounded by `max_accounts`.
            if absent {
                if !count_account(max_accounts, store)? {
                    key = overflow_account(key);
                }
                counted = true;
                continue;
            }
            return Ok(());
        }
    }

    fn key(&self) -> AccountKey {
        AccountKey::hash(&[b"domains", &self.account.bytes()])
    }

    fn id(&self, domain: &str) -> [u8; 16] {
        AccountKey::hash(&[b"domain", &self.account.bytes(), domain.as_bytes()]).bytes()
    }

    fn judge(&self, record: &Record, ids: &[[u8; 16]], all: [u8; 16], now: u64) -> Option<bool> {
        let mut granted = None;
        let mut revoked = None;
        let mut denied = false;
        for entry in &record.entries {
            let is_first = ids.first() == Some(&entry.id);
            let is_one = is_first || ids.contains(&entry.id);
            if !is_one && entry.id != all {
                continue;
            }
            let age = now.saturating_sub(entry.at);
            let lives = age < self.life(entry.mark);
            match entry.mark {
                REVOKED if is_one => {
                    revoked = revoked.max(Some(entry.at));
                    denied |= lives && (!self.lives.asks || age < self.lives.denied);
                }
                DENIED => denied |= lives && (is_first || entry.id == all),
                _ if is_one && lives => granted = granted.max(Some(entry.at)),
                _ => {}
            }
        }
        if granted.is_some() && granted > revoked {
            return Some(true);
        }
        denied.then_some(false)
    }

    fn life(&self, mark: u8) -> u64 {
        match mark {
            GRANTED => self.lives.granted,
            LISTED => self.lives.listed,
            DENIED => self.lives.denied,
            // As long as any grant that it may have to outweigh.
            _ => self.lives.granted.max(self.lives.listed),
        }
    }

    /// Drops what is believed no longer
    fn forget(&self, record: &mut Record, now: u64) {
        let mut floor = record.floor;
        record.entries.retain(|entry| {
            let lives = now.saturating_sub(entry.at) < self.life(entry.mark);
            if !lives && entry.mark == REVOKED {
                floor = floor.max(entry.at);
            }
            lives
        });
        record.floor = floor;
    }
}

impl Record {
    /// Of each kind there is one entry a domain: the latest
    fn learn(&mut self, mark: Mark, id: [u8; 16], at: u64) {
        let gives = matches!(mark, Mark::Granted | Mark::Listed);
        if gives && at <= self.floor {
            return;
        }
        let mark = mark as u8;
        let same = |entry: &&mut Entry| entry.mark == mark && entry.id == id;
        if let Some(entry) = self.entries.iter_mut().find(same) {
            entry.at = entry.at.max(at);
            return;
        }
        self.entries.push(Entry { mark, id, at });
        if self.entries.len() > Grants::MAX_ENTRIES {
            self.evict();
        }
    }

    /// Forgets the oldest
    fn evict(&mut self) {
        let oldest = self.entries.iter().enumerate();
        let oldest = oldest.min_by_key(|(_, entry)| entry.at);
        if let Some((place, entry)) = oldest {
            if entry.mark == REVOKED {
                self.floor = self.floor.max(entry.at);
            }
            self.entries.swap_remove(place);
            // What a list did not name is known only as long as all is that it named.
            self.entries.retain(|entry| entry.mark != DENIED);
        }
    }

    /// Reads a record. Foreign bytes are an empty one, into which nothing old is taken: they may have
    /// been a revocation's.
    fn decode(key: AccountKey, record: Option<&[u8]>, now: u64) -> Self {
        match record {
            None => Self::default(),
            Some(record) => Self::decode_record(key, record).unwrap_or(Self {
                floor: now,
                entries: Vec::new(),
            }),
        }
    }

    /// Layout, version 1, little-endian: `"PD"`, version (u8), zero (u8), tag (u32), floor (u64), entries
    /// (mark u8, id 16 bytes, instant u64), checksum (u32) over all of that
    fn encode(&self, key: AccountKey, record: &mut Vec<u8>) {
        record.extend_from_slice(&HEAD);
        record.extend_from_slice(&key.tag());
        record.extend_from_slice(&self.floor.to_le_bytes());
        for Entry { mark, id, at } in &self.entries {
            record.push(*mark);
            record.extend_from_slice(id);
            record.extend_from_slice(&at.to_le_bytes());
        }
        record.extend_from_slice(&checksum(record).to_le_bytes());
    }

    fn decode_record(key: AccountKey, record: &[u8]) -> Option<Self> {
        let (checked, sum) = record.split_last_chunk::<4>()?;
        let (head, rest) = checked.split_first_chunk::<4>()?;
        let (tag, rest) = rest.split_first_chunk::<4>()?;
        let (floor, rest) = rest.split_first_chunk::<8>()?;
        let (entries, []) = rest.as_chunks::<25>() else {
            return None;
        };
        let ours = *head == HEAD
            && *tag == key.tag()
            && u32::from_le_bytes(*sum) == checksum(checked)
            && entries.len() <= Grants::MAX_ENTRIES;
        let entries = entries.iter().map(|entry| {
            let (mark, rest) = entry.split_first()?;
            let (id, at) = rest.split_first_chunk::<16>()?;
            let at = u64::from_le_bytes(at.try_into().ok()?);
            let (mark, id) = (*mark, *id);
            (GRANTED..=REVOKED)
                .contains(&mark)
                .then_some(Entry { mark, id, at })
        });
        let floor = u64::from_le_bytes(*floor);
        let entries = entries.collect::<Option<Vec<_>>>()?;
        ours.then_some(Self { floor, entries })
    }
}

const HEAD: [u8; 4] = [b'P', b'D', 1, 0];
const GRANTED: u8 = Mark::Granted as u8;
const LISTED: u8 = Mark::Listed as u8;
const DENIED: u8 = Mark::Denied as u8;
const REVOKED: u8 = Mark::Revoked as u8;

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "test code")]

    use proptest::prelude::*;

    use super::*;
    use crate::account::MapStore;

    const SECOND: u64 = 1_000_000_000;
    const LIVES: Lives = Lives {
        granted: 1_000 * SECOND,
        listed: 100 * SECOND,
        denied: 10 * SECOND,
        asks: false,
    };

    /// One principal's record, at instants in seconds
    struct Bench {
        store: MapStore,
        lives: Lives,
        max_accounts: u64,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                store: MapStore::default(),
                lives: LIVES,
                max_accounts: 1000,
            }
        }

        fn of(&self, principal: &str) -> Grants {
            Grants::new(
                AccountKey::of_principal("main", "shop", principal),
                self.lives,
            )
        }

        fn learn(&mut self, mark: Mark, domain: &str, at: u64) {
            self.learn_late(mark, domain, at, at);
        }

        fn learn_late(&mut self, mark: Mark, domain: &str, at: u64, now: u64) {
            let marks = core::iter::once((mark, domain));
            let (at, now) = (at * SECOND, now * SECOND);
            let grants = self.of("acme");
            let learned = grants.learn(marks, at, self.max_accounts, now, &mut self.store);
            learned.unwrap();
        }

        fn look(&mut self, domain: &str, now: u64) -> Option<bool> {
            self.look_as("acme", &[domain], now)
        }

        fn look_as(&mut self, principal: &str, domains: &[&str], now: u64) -> Option<bool> {
            let grants = self.of(principal);
            let domains = domains.iter().copied();
            grants.look(domains, now * SECOND, &mut self.store).unwrap()
        }
    }

    #[test]
    fn a_grant_is_for_one_principal_and_one_domain_and_ends() {
        let mut bench = Bench::new();
        assert_eq!(bench.look("a.example", 5), None);
        bench.learn(Mark::Granted, "a.example", 5);
        assert_eq!(bench.look("a.example", 5), Some(true));
        assert_eq!(bench.look("b.example", 5), None);
        assert_eq!(bench.look_as("globex", &["a.example"], 5), None);
        assert_eq!(bench.look("a.example", 1004), Some(true));
        assert_eq!(bench.look("a.example", 1005), None);
    }

    #[test]
    fn a_revocation_wins_over_what_was_asked_for_before_it() {
        let mut bench = Bench::new();
        bench.learn(Mark::Granted, "a.example", 5);
        bench.learn(Mark::Revoked, "a.example", 9);
        // Another worker's grant was decided before, and succeeds only now.
        bench.learn_late(Mark::Granted, "a.example", 8, 12);
        bench.learn_late(Mark::Listed, "a.example", 9, 12);
        assert_eq!(bench.look("a.example", 12), Some(false));
        bench.learn(Mark::Granted, "a.example", 13);
        assert_eq!(bench.look("a.example", 13), Some(true));
    }

    #[test]
    fn who_can_ask_again_does_not_deny_for_long() {
        let mut bench = Bench::new();
        bench.lives.asks = true;
        bench.learn(Mark::Revoked, "a.example", 5);
        bench.learn(Mark::Denied, "", 5);
        for domain in ["a.example", "b.example"] {
            assert_eq!(bench.look(domain, 14), Some(false));
            assert_eq!(bench.look(domain, 15), None);
        }
        bench.learn(Mark::Listed, "a.example", 16);
        assert_eq!(bench.look("a.example", 115), Some(true));
        assert_eq!(bench.look("a.example", 116), None);
    }

    #[test]
    fn what_includes_a_domain_gives_and_takes_it() {
        let mut bench = Bench::new();
        let below = ["www.a.example", "a.example"];
        bench.learn(Mark::Granted, "a.example", 5);
        assert_eq!(bench.look_as("acme", &below, 6), Some(true));
        bench.learn(Mark::Granted, "www.a.example", 7);
        bench.learn(Mark::Revoked, "a.example", 8);
        assert_eq!(bench.look_as("acme", &below, 9), Some(false));
        assert_eq!(bench.look("www.a.example", 9), Some(true));
    }

    #[test]
    fn the_oldest_is_forgotten_and_a_forgotten_revocation_still_wins() {
        let mut bench = Bench::new();
        bench.learn(Mark::Revoked, "a.example", 5);
        bench.learn(Mark::Denied, "", 6);
        for n in 0..300 {
            bench.learn(Mark::Granted, &std::format!("d{n}.example"), 7);
        }
        assert_eq!(bench.look("a.example", 8), None);
        assert_eq!(bench.look("z.example", 8), None);
        assert_eq!(bench.look("d299.example", 8), Some(true));
        bench.learn_late(Mark::Granted, "a.example", 5, 8);
        assert_eq!(bench.look("a.example", 8), None);
        bench.learn(Mark::Granted, "a.example", 8);
        assert_eq!(bench.look("a.example", 8), Some(true));
        let most = 16 + 25 * Grants::MAX_ENTRIES + 4;
        assert!(
            bench
                .store
                .records
                .values()
                .all(|record| record.len() <= most)
        );
    }

    #[test]
    fn foreign_bytes_are_no_grant_and_nothing_old_goes_in() {
        let mut bench = Bench::new();
        bench.learn(Mark::Granted, "a.example", 5);
        let grants = bench.of("acme");
        let key = grants.key().bytes().to_vec();
        let good = bench.store.records.get(&key).unwrap().clone();
        for index in 0..good.len() {
            let mut bytes = good.clone();
            bytes[index] ^= 1;
            bench.store.records.insert(key.clone(), bytes);
            assert_eq!(bench.look("a.example", 6), None, "{index}");
            bench
                .store
                .records
                .insert(key.clone(), good[..index].into());
            assert_eq!(bench.look("a.example", 6), None, "{index}");
        }
        bench.learn_late(Mark::Granted, "a.example", 5, 7);
        assert_eq!(bench.look("a.example", 7), None);
        bench.learn(Mark::Granted, "a.example", 8);
        assert_eq!(bench.look("a.example", 8), Some(true));
    }

    #[test]
    fn past_max_accounts_principals_share_records_and_no_grants() {
        let mut bench = Bench::new();
        bench.max_accounts = 10;
        for n in 0..200 {
            let principal = std::format!("p{n}");
            let marks = core::iter::once((Mark::Granted, "a.example"));
            let grants = bench.of(&principal);
            let learned = grants.learn(marks, SECOND, 10, SECOND, &mut bench.store);
            learned.unwrap();
            assert_eq!(bench.look_as(&principal, &["a.example"], 1), Some(true));
        }
        assert!(bench.store.records.len() <= 10 + 64 + 1);
        assert_eq!(bench.look_as("other", &["a.example"], 1), None);
    }

    proptest! {
        /// Whatever is learned in whatever order: access comes from a grant that was decided after
        /// every revocation of the domain, and lives; and a record stays in its bounds
        #[test]
        fn revocations_win_in_every_order(
            steps in proptest::collection::vec((0..4u8, 0..40u8, 0..50u64, 0..30u64), 1..400),
            asks in proptest::bool::ANY,
        ) {
            let mut bench = Bench::new();
            bench.lives.asks = asks;
            let mut history: Vec<(Mark, u8, u64)> = Vec::new();
            let mut now = 10_000;
            for (kind, domain, ago, pause) in steps {
                now += pause;
                let (mark, at) = match kind {
                    0 => (Mark::Granted, now - ago),
                    1 => (Mark::Listed, now - ago),
                    2 => (Mark::Denied, now - ago),
                    _ => (Mark::Revoked, now),
                };
                let name = std::format!("d{domain}.example");
                bench.learn_late(mark, &name, at, now);
                history.push((mark, domain, at));
                let of = |marks: &[Mark]| {
                    let of = history.iter().filter(|(mark, other, _)| *other == domain && marks.contains(mark));
                    of.map(|(_, _, at)| *at).max()
                };
                let revoked = of(&[Mark::Revoked]);
                let granted = of(&[Mark::Granted]).filter(|at| now - at < 1_000);
                let listed = of(&[Mark::Listed]).filter(|at| now - at < 100);
                let expected = granted.max(listed).is_some_and(|at| Some(at) > revoked);
                prop_assert_eq!(bench.look(&name, now) == Some(true), expected);
            }
        }
    }
}
