//! Keys that a service knows: asked for by their digest, remembered for a while.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroUsize;

use lru::LruCache;

use super::breaker::{Breaker, BreakerRule};
use super::{Key, KeyDigest, KeyDigests, KeyTerms};
use crate::account::AccountKey;
use crate::callout::{Answer, Query};
use crate::record::Rule;

/// Where an API asks for keys that it does not know
#[derive(Debug)]
pub(crate) struct Lookup {
    /// What the memory of the answers belongs to: it outlives policies
    pub(crate) id: AccountKey,
    pub(crate) cluster: Rc<str>,
    pub(crate) authority: Box<str>,
    /// The hexadecimal digest comes behind it
    pub(crate) path: Box<str>,
    /// Milliseconds
    pub(crate) timeout: u32,
    /// Nanoseconds for which a key is known without asking again
    pub(crate) ttl: u64,
    /// Nanoseconds for which a key is known to be none
    pub(crate) negative_ttl: u64,
    /// Nanoseconds beyond `ttl` for which a key is known while the service is away
    pub(crate) max_stale: u64,
    /// Keys that are remembered, and as many that are none
    pub(crate) max_entries: usize,
    /// Calls at the same time
    pub(crate) max_in_flight: usize,
    pub(crate) breaker: BreakerRule,
    pub(crate) terms: Rc<KeyTerms>,
    pub(crate) rule: Rc<Rule>,
}

/// Longest record of a key, in bytes
const MAX_RECORD: usize = 16 * 1024;

/// What an answer says of a key
#[derive(Clone, Debug)]
pub(crate) enum Resolution {
    /// There is one, good or not
    Key(Rc<Key>),
    /// There is none
    Unknown,
    /// The service is away, or what it says can't be read
    Away,
}

/// What is known of a key without asking
#[derive(Debug)]
pub(crate) enum Known {
    /// Enough
    Resolved(Resolution),
    /// Too little, or nothing
    Ask(Inquiry),
}

/// What a service is asked of a key: at most two questions, one a pepper
#[derive(Debug)]
pub(crate) struct Inquiry {
    pub(crate) digest: KeyDigest,
    /// What is asked for next, should there be no key with `digest`
    pub(crate) older: Option<KeyDigest>,
    /// It was a key when it was asked for last
    pub(crate) was_key: bool,
}

/// What a worker remembers of services' answers
#[derive(Debug)]
pub(crate) struct Lookups(LruCache<AccountKey, Memory>);

/// Services whose answers are remembered at the same time, those of former policies among them
const MAX_MEMORIES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

#[derive(Debug)]
struct Memory {
    keys: LruCache<KeyDigest, Entry>,
    /// Until when, in monotonic nanoseconds; apart from the keys, so that nobody can push those
    /// out by asking for what there is not
    unknown: LruCache<KeyDigest, u64>,
    breaker: Breaker,
    in_flight: usize,
}

#[derive(Debug)]
struct Entry {
    key: Rc<Key>,
    /// Whose words `key` is made of: another policy reads `record` anew
    lookup: Rc<Lookup>,
    record: Box<[u8]>,
    fresh_until: u64,
}

impl Lookup {
    /// The question for a digest
    pub(crate) fn query(&self, digest: &KeyDigest) -> Query {
        Query {
            cluster: Rc::clone(&self.cluster),
            headers: [
                (":method", "GET".into()),
                (":path", format!("{}{}", self.path, digest.to_hex())),
                (":authority", String::from(&*self.authority)),
                ("accept", "application/json".into()),
            ]
            .into(),
            body: Vec::new(),
            as_caller: false,
            timeout: self.timeout,
        }
    }

    /// Longest answer that is read, in bytes
    pub(crate) fn max_body(&self) -> usize {
        MAX_RECORD
    }

    fn read(&self, digest: &KeyDigest, record: &[u8]) -> Option<Rc<Key>> {
        let (of, key) = self.terms.read_answer(record, &self.rule)?;
        (of == *digest).then(|| Rc::new(key))
    }
}

impl Lookups {
    /// What is known of a key
    ///
    /// A key that is known by one of its digests is known; there is none if that is known of each.
    pub(crate) fn find(&mut self, lookup: &Rc<Lookup>, digests: &KeyDigests, now: u64) -> Known {
        let newest = self.find_one(lookup, &digests.first(), now);
        match (newest, digests.second()) {
            (Known::Ask(newest), Some(older)) => match self.find_one(lookup, &older, now) {
                Known::Resolved(Resolution::Key(key)) => Known::Resolved(Resolution::Key(key)),
                Known::Resolved(_) => Known::Ask(newest),
                Known::Ask(behind) => Known::Ask(Inquiry {
                    older: Some(older),
                    was_key: newest.was_key || behind.was_key,
                    ..newest
                }),
            },
            (Known::Resolved(Resolution::Unknown), Some(older)) => {
                self.find_one(lookup, &older, now)
            }
            (known, _) => known,
        }
    }

    /// What is known of a digest
    pub(crate) fn find_one(&mut self, lookup: &Rc<Lookup>, digest: &KeyDigest, now: u64) -> Known {
        let ask = |was_key| {
            Known::Ask(Inquiry {
                digest: *digest,
                older: None,
                was_key,
            })
        };
        let memory = self.memory(lookup);
        if memory.unknown.get(digest).is_some_and(|until| now < *until) {
            return Known::Resolved(Resolution::Unknown);
        }
        let may_ask = memory.breaker.admits(now) && memory.in_flight < lookup.max_in_flight;
        let Some(entry) = memory.keys.get_mut(digest) else {
            return ask(false);
        };
        let Some(key) = entry.read_by(lookup, digest) else {
            memory.keys.pop(digest);
            return ask(false);
        };
        // A shorter time to live holds for what is there too.
        let fresh_until = entry.fresh_until.min(now.saturating_add(lookup.ttl));
        if now < fresh_until || (!may_ask && now < lookup.stale_until(fresh_until)) {
            return Known::Resolved(Resolution::Key(key));
        }
        ask(now < lookup.stale_until(fresh_until))
    }

    /// The key with a digest, while the service is away
    pub(crate) fn stale(
        &mut self,
        lookup: &Rc<Lookup>,
        digest: &KeyDigest,
        now: u64,
    ) -> Option<Rc<Key>> {
        let entry = self.memory(lookup).keys.get_mut(digest)?;
        let is_good = now < lookup.stale_until(entry.fresh_until);
        entry.read_by(lookup, digest).filter(|_| is_good)
    }

    /// Whether a digest is one of a key, as far as is remembered
    pub(crate) fn has(&self, lookup: &Lookup, digest: &KeyDigest) -> bool {
        let memory = self.0.peek(&lookup.id);
        memory.is_some_and(|memory| memory.keys.contains(digest))
    }

    /// Whether one more call may be made
    pub(crate) fn admits(&mut self, lookup: &Rc<Lookup>, now: u64) -> bool {
        let memory = self.memory(lookup);
        memory.breaker.admits(now) && memory.in_flight < lookup.max_in_flight
    }

    /// Notes a call that is made
    pub(crate) fn begin(&mut self, lookup: &Rc<Lookup>) {
        let memory = self.memory(lookup);
        memory.breaker.begin();
        memory.in_flight = memory.in_flight.saturating_add(1);
    }

    /// Learns from an answer, and says what it means
    pub(crate) fn end(
        &mut self,
        lookup: &Rc<Lookup>,
        digest: &KeyDigest,
        answer: &Answer<'_>,
        now: u64,
    ) -> Resolution {
        let memory = self.memory(lookup);
        memory.in_flight = memory.in_flight.saturating_sub(1);
        let resolution = match answer {
            Answer::Response(response) => match response.status() {
                200 => lookup
                    .read(digest, response.body)
                    .map_or(Resolution::Away, Resolution::Key),
                404 => Resolution::Unknown,
                _ => Resolution::Away,
            },
            Answer::Failed(_) => Resolution::Away,
        };
        let good = !matches!(resolution, Resolution::Away);
        memory.breaker.end(lookup.breaker, good, now);
        match (&resolution, answer) {
            (Resolution::Key(key), Answer::Response(response)) => {
                memory.unknown.pop(digest);
                let entry = Entry {
                    key: Rc::clone(key),
                    lookup: Rc::clone(lookup),
                    record: response.body.into(),
                    fresh_until: now.saturating_add(lookup.ttl),
                };
                put(&mut memory.keys, *digest, entry, lookup.max_entries);
            }
            (Resolution::Unknown, _) => {
                memory.keys.pop(digest);
                let until = now.saturating_add(lookup.negative_ttl);
                put(&mut memory.unknown, *digest, until, lookup.max_entries);
            }
            _ => {
                if let Some(key) = self.stale(lookup, digest, now) {
                    return Resolution::Key(key);
                }
            }
        }
        resolution
    }

    fn memory(&mut self, lookup: &Lookup) -> &mut Memory {
        self.0.get_or_insert_mut(lookup.id, || Memory {
            keys: LruCache::unbounded(),
            unknown: LruCache::unbounded(),
            breaker: Breaker::Closed { failures: 0 },
            in_flight: 0,
        })
    }
}

impl Default for Lookups {
    fn default() -> Self {
        Self(LruCache::new(MAX_MEMORIES))
    }
}

impl Lookup {
    fn stale_until(&self, fresh_until: u64) -> u64 {
        fresh_until.saturating_add(self.max_stale)
    }
}

impl Entry {
    /// The key as a policy reads it; `None` where it can't, say because it no longer has the tier
    fn read_by(&mut self, lookup: &Rc<Lookup>, digest: &KeyDigest) -> Option<Rc<Key>> {
        if !Rc::ptr_eq(&self.lookup, lookup) {
            self.key = lookup.read(digest, &self.record)?;
            self.lookup = Rc::clone(lookup);
        }
        Some(Rc::clone(&self.key))
    }
}

/// Remembers one more, and forgets what was longest not asked for
fn put<T>(memory: &mut LruCache<KeyDigest, T>, digest: KeyDigest, value: T, max: usize) {
    memory.put(digest, value);
    while memory.len() > max {
        memory.pop_lru();
    }
}
