//! Keys, known by their digests only.

mod adoption;
pub(crate) mod breaker;
mod bundle;
mod exception;
mod format;
pub(crate) mod lookup;
mod pepper;
mod store;
mod terms;
#[cfg(any(test, feature = "bundle-writer"))]
mod writer;

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use hashbrown::HashTable;
use ipnet::IpNet;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

pub use self::adoption::Adoption;
pub use self::bundle::{BundleError, DigestScheme, KeyBundle};
pub(crate) use self::exception::{Exception, Exempted};
pub(crate) use self::format::is_damaged;
#[cfg(any(test, feature = "bundle-writer"))]
pub use self::format::{KeyLabelError, new_key};
#[cfg(any(test, feature = "bundle-writer"))]
pub use self::pepper::key_digest;
pub(crate) use self::pepper::{Hashing, KeyDigests, Pepper};
pub(crate) use self::store::KeyStore;
pub(crate) use self::terms::{
    ANONYMOUS, KeyTerms, Scopes, Tiers, find_tier, read_instant, read_name,
};
#[cfg(any(test, feature = "bundle-writer"))]
pub use self::writer::{BundleContents, BundleWriter};
use crate::access::KeyDomain;
use crate::account::AccountKey;
use crate::entitlement::Entitlement;
use crate::name::Name;
use crate::path::hex;
use crate::policy::Tier;
use crate::reason::Reason;
use crate::record::Rule;

/// A key of an API
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) id: Name,
    pub(crate) principal: Name,
    pub(crate) tier: Rc<Tier>,
    pub(crate) account: AccountKey,
    /// What its principal may spend in a billing period, where the tier has quotas
    pub(crate) entitlement: Option<Rc<Entitlement>>,
    /// The principal as rules know it that bind a share: see [`Enforcement`](crate::enforcement::Enforcement)
    pub(crate) who: u64,
    /// One bit a scope of the API
    pub(crate) scopes: u64,
    /// Seconds since the Unix epoch: valid from here
    pub(crate) not_before: Option<u64>,
    /// Seconds since the Unix epoch: not valid from here
    pub(crate) expires: Option<u64>,
    pub(crate) state: KeyState,
    /// Domains to which the key gives access, whatever was learned
    pub(crate) domains: Vec<KeyDomain>,
    /// Whether its callers may be told rule and reason
    pub(crate) may_ask_why: bool,
    pub(crate) rule: Rc<Rule>,
    /// The revision of the bundle that it stands in
    pub(crate) bundle: Option<Name>,
    /// Where its callers have to be; empty for anywhere
    pub(crate) networks: Box<[IpNet]>,
    /// Why it has another tier for a while
    pub(crate) exception: Option<Rc<Exception>>,
    /// It stands for callers without a key: the table of their addresses, each with an account of its own
    pub(crate) anonymous: Option<AccountKey>,
}

/// What the policy says of a key, whatever the time
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum KeyState {
    Active,
    Disabled,
    Revoked,
}

/// 2026-01-01T00:00:00Z: a wall clock that shows less can't be right
pub(crate) const EARLIEST_NOW: u64 = 1_767_225_600;

impl Key {
    /// Whether its client's address has to be known
    pub(crate) fn wants_client(&self) -> bool {
        !self.networks.is_empty() || self.anonymous.is_some()
    }

    /// Whether it may be used from an address; in doubt it may not
    pub(crate) fn admits(&self, client: Option<IpAddr>) -> bool {
        let holds = |client: IpAddr| self.networks.iter().any(|net| net.contains(&client));
        self.networks.is_empty() || client.is_some_and(holds)
    }

    /// # Errors
    ///
    /// Why the key is not good at `wall` nanoseconds since the Unix epoch. A clock that can't be
    /// right makes no key valid that has an end.
    pub(crate) fn check(&self, wall: u64) -> Result<(), Reason> {
        match self.state {
            KeyState::Active => {}
            KeyState::Disabled => return Err(Reason::KeyDisabled),
            KeyState::Revoked => return Err(Reason::KeyRevoked),
        }
        let now = wall.checked_div(1_000_000_000).unwrap_or_default();
        if self
            .expires
            .is_some_and(|expires| now >= expires || now < EARLIEST_NOW)
        {
            return Err(Reason::KeyExpired);
        }
        if self.not_before.is_some_and(|not_before| now < not_before) {
            return Err(Reason::KeyNotYetValid);
        }
        Ok(())
    }
}

/// The SHA-256 digest of a key, the only form in which keys are kept
#[derive(Clone, Copy)]
pub(crate) struct KeyDigest([u8; 32]);

impl KeyDigest {
    pub(crate) fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Parses 64 hexadecimal digits
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
            return None;
        };
        let mut digest = [0; 32];
        if pairs.len() != digest.len() {
            return None;
        }
        for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
            *byte = hex(*high)?.checked_mul(16)?.checked_add(hex(*low)?)?;
        }
        Some(Self(digest))
    }

    /// 64 hexadecimal digits, as [`parse`](Self::parse) reads them
    pub(crate) fn to_hex(self) -> String {
        let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
        let digits = |byte: &u8| [digit(byte.wrapping_shr(4)), digit(byte & 15)];
        self.0.iter().flat_map(digits).collect()
    }

    /// Compares in constant time, by words: a byte at a time takes ten times as long
    fn is(&self, other: &Self) -> bool {
        let (words, _) = self.0.as_chunks::<8>();
        let (others, _) = other.0.as_chunks::<8>();
        let difference = words
            .iter()
            .zip(others)
            .fold(0, |difference, (word, other)| {
                difference | (u64::from_le_bytes(*word) ^ u64::from_le_bytes(*other))
            });
        difference.ct_eq(&0).into()
    }

    /// A digest is evenly distributed, and a caller can't choose it: its first bytes are a hash.
    fn hash(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl PartialEq for KeyDigest {
    fn eq(&self, other: &Self) -> bool {
        self.is(other)
    }
}

impl Eq for KeyDigest {}

impl core::hash::Hash for KeyDigest {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash());
    }
}

impl core::fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("KeyDigest")
    }
}

/// The keys of one API
#[derive(Default)]
pub(crate) struct KeyRing(HashTable<(KeyDigest, Rc<Key>)>);

impl KeyRing {
    /// # Errors
    ///
    /// The id of the key that has this digest already.
    pub(crate) fn insert(&mut self, digest: KeyDigest, key: Key) -> Result<(), Name> {
        if let Some(other) = self.get(&digest) {
            return Err(other.id.clone());
        }
        self.0
            .insert_unique(digest.hash(), (digest, Rc::new(key)), |(digest, _)| {
                digest.hash()
            });
        Ok(())
    }

    /// Looks a key up by digest, compared in constant time
    pub(crate) fn get(&self, digest: &KeyDigest) -> Option<&Rc<Key>> {
        let same = |other: &(KeyDigest, Rc<Key>)| other.0.is(digest);
        self.0.find(digest.hash(), same).map(|(_, key)| key)
    }
}

impl core::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let ids: Vec<String> = self
            .0
            .iter()
            .map(|(_, key)| key.id.as_str().into())
            .collect();
        f.debug_tuple("KeyRing").field(&ids).finish()
    }
}
