//! What a principal has spent, as one small record that workers share.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use sha2::{Digest, Sha256};

use crate::bucket::Bucket;
use crate::reason::Reason;

/// The core's one port to the world: a store of records that workers share
///
/// In Envoy it is shared data with compare-and-set, in tests a map.
pub trait AccountStore {
    /// Replaces one record atomically
    ///
    /// `change` is handed the record as it stands (`None` when there is none) and an empty
    /// buffer for the new one. It returns whether the buffer is to be stored; it may be called
    /// again when another worker was faster, and only its last answer counts.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the record could not be replaced; nothing is charged then.
    fn update(&mut self, key: &[u8], change: &mut Change<'_>) -> Result<(), StoreError>;
}

/// What replaces a record: see [`AccountStore::update`]
pub type Change<'a> = dyn FnMut(Option<&[u8]>, &mut Vec<u8>) -> bool + 'a;

/// Why a record could not be replaced
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreError {
    /// Other workers were faster too many times in a row
    Contended,
    /// The host refused
    Failed,
}

impl From<StoreError> for Reason {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Contended => Self::StoreContended,
            StoreError::Failed => Self::StoreFailed,
        }
    }
}

/// A store for tests and for one-worker hosts
#[derive(Clone, Debug, Default)]
pub struct MapStore {
    /// The records by key
    pub records: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl AccountStore for MapStore {
    fn update(&mut self, key: &[u8], change: &mut Change<'_>) -> Result<(), StoreError> {
        let mut fresh = Vec::new();
        if change(self.records.get(key).map(Vec::as_slice), &mut fresh) {
            self.records.insert(key.into(), fresh);
        }
        Ok(())
    }
}

/// Where an account lies in the store
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct AccountKey([u8; 16]);

impl AccountKey {
    /// The account of a principal in an API, for filters of one namespace
    pub(crate) fn of_principal(namespace: &str, api: &str, principal: &str) -> Self {
        Self::hash(&[
            b"principal",
            namespace.as_bytes(),
            api.as_bytes(),
            principal.as_bytes(),
        ])
    }

    /// The table of client addresses, for filters of one namespace
    pub(crate) fn of_clients(namespace: &str) -> Self {
        Self::hash(&[b"clients", namespace.as_bytes()])
    }

    /// Where a limit of an API begins that is not a principal's
    pub(crate) fn of_limit(namespace: &str, api: &str, limit: &str) -> Self {
        Self::hash(&[
            b"limit",
            namespace.as_bytes(),
            api.as_bytes(),
            limit.as_bytes(),
        ])
    }

    /// Where a rule that does not bind keeps what it would keep here
    pub(crate) fn shadow(self) -> Self {
        Self::hash(&[b"shadow", &self.0])
    }

    /// One record of a table
    pub(crate) fn part(self, number: u16) -> Self {
        let mut key = self.0;
        if let Some(start) = key.first_chunk_mut() {
            *start = number.to_le_bytes();
        }
        Self(key)
    }

    /// 128 bits of a SHA-256 over parts that no choice of parts can confuse
    pub(crate) fn hash(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(part);
        }
        let mut key = [0; 16];
        for (to, from) in key.iter_mut().zip(hash.finalize()) {
            *to = from;
        }
        Self(key)
    }

    pub(crate) fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// What a record holds of its key, so that it is not taken for another one's
    pub(crate) fn tag(self) -> [u8; 4] {
        let [.., a, b, c, d] = self.0;
        [a, b, c, d]
    }

    pub(crate) fn low_bits(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

/// An account: the TAT of its bucket, and the emission interval under which it was charged
///
/// Layout, version 1, little-endian: `"PA"`, version (u8), zero (u8), tag (u32), TAT (u64),
/// emission interval (u64), checksum (u32) over all of that: 28 bytes. A later version appends
/// its fields behind and keeps these, so that old and new code can serve side by side: this code
/// carries what stands behind over unchanged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Account {
    pub(crate) tat: u64,
    pub(crate) emission: u64,
}

/// What stood in the store in an account's place
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stored {
    Absent,
    Account(Account),
    /// Bytes that are not this account: another plugin wrote there
    Foreign,
}

const MAGIC: &[u8; 2] = b"PA";
const VERSION: u8 = 1;
const CHECKED: usize = 24;
const LENGTH: usize = 28;

impl Account {
    /// Reads a record
    pub(crate) fn decode(key: AccountKey, record: Option<&[u8]>) -> Stored {
        let Some(record) = record else {
            return Stored::Absent;
        };
        Self::decode_record(key, record).map_or(Stored::Foreign, Stored::Account)
    }

    /// Writes the record, behind which stands what a later version wrote there
    pub(crate) fn encode(self, key: AccountKey, before: Option<&[u8]>, record: &mut Vec<u8>) {
        let version = before.filter(|_| Self::decode(key, before) != Stored::Foreign);
        let version = version
            .and_then(|before| before.get(2).copied())
            .unwrap_or(VERSION);
        record.extend_from_slice(MAGIC);
        record.extend_from_slice(&[version, 0]);
        record.extend_from_slice(&key.tag());
        record.extend_from_slice(&self.tat.to_le_bytes());
        record.extend_from_slice(&self.emission.to_le_bytes());
        record.extend_from_slice(&checksum(record).to_le_bytes());
        if version > VERSION {
            record.extend_from_slice(
                before
                    .and_then(|before| before.get(LENGTH..))
                    .unwrap_or_default(),
            );
        }
    }

    /// Moves the TAT back by the cells of a charge, if it was the last one; says whether it was
    ///
    /// A charge that others came behind stays: without it theirs might have begun later than now.
    pub(crate) fn take_back(
        key: AccountKey,
        record: Option<&[u8]>,
        fresh: &mut Vec<u8>,
        end: u64,
        emission: u64,
        cells: u64,
    ) -> bool {
        let Stored::Account(account) = Self::decode(key, record) else {
            return false;
        };
        let is_last = account.tat == end && account.emission == emission;
        if is_last {
            let tat = end.saturating_sub(emission.saturating_mul(cells));
            Self { tat, emission }.encode(key, record, fresh);
        }
        is_last
    }

    fn decode_record(key: AccountKey, record: &[u8]) -> Option<Self> {
        let (checked, rest) = record.split_at_checked(CHECKED)?;
        let sum = u32::from_le_bytes(rest.first_chunk::<4>().copied()?);
        let (head, rest) = checked.split_first_chunk::<8>()?;
        let (tat, emission) = rest.split_first_chunk::<8>()?;
        let [m0, m1, version, zero, head_tag @ ..] = head;
        let ours = [*m0, *m1] == *MAGIC
            && *version >= VERSION
            && *zero == 0
            && *head_tag == key.tag()
            && sum == checksum(checked);
        ours.then_some(Self {
            tat: u64::from_le_bytes(*tat),
            emission: u64::from_le_bytes(emission.try_into().ok()?),
        })
    }
}

impl Stored {
    /// The TAT of a bucket, given what stands in the store
    ///
    /// `born` is when the store began. An account that was never used since then may have been
    /// used before, by an Envoy that was restarted: it counts as half spent at `born`. Foreign
    /// bytes count as spent.
    pub(crate) fn tat(self, bucket: &Bucket, born: u64, now: u64) -> u64 {
        match self {
            Self::Absent => {
                let half = bucket.burst().checked_div(2).unwrap_or_default();
                born.saturating_add(bucket.span(half))
                    .min(now.saturating_add(bucket.tolerance()))
            }
            Self::Account(account) => bucket.convert(account.tat, account.emission, now),
            Self::Foreign => now.saturating_add(bucket.tolerance()),
        }
    }
}

/// A checksum against foreign bytes and torn writes, not against forgery
///
/// FNV-1a over 32-bit words, with the length in front.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mix = |hash: u32, word: u32| (hash ^ word).wrapping_mul(0x0100_0193);
    let (words, rest) = bytes.as_chunks::<4>();
    let hash = words.iter().fold(mix(0x811c_9dc5, length), |hash, word| {
        mix(hash, u32::from_le_bytes(*word))
    });
    let hash = rest
        .iter()
        .fold(hash, |hash, byte| mix(hash, u32::from(*byte)));
    hash ^ hash.wrapping_shr(15)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: Account = Account {
        tat: 123_456_789_000,
        emission: 60_000_000,
    };

    fn key() -> AccountKey {
        AccountKey::of_principal("main", "shop", "acme")
    }

    fn encode(account: Account, before: Option<&[u8]>) -> Vec<u8> {
        let mut record = Vec::new();
        account.encode(key(), before, &mut record);
        record
    }

    #[test]
    fn round_trip() {
        let record = encode(ACCOUNT, None);
        assert_eq!(record.len(), LENGTH);
        assert_eq!(
            Account::decode(key(), Some(&record)),
            Stored::Account(ACCOUNT)
        );
        assert_eq!(Account::decode(key(), None), Stored::Absent);
    }

    #[test]
    fn any_other_bytes_are_foreign() {
        let record = encode(ACCOUNT, None);
        for length in 0..record.len() {
            assert_eq!(
                Account::decode(key(), Some(&record[..length])),
                Stored::Foreign
            );
        }
        for index in 0..record.len() {
            for bit in 0..8 {
                let mut bytes = record.clone();
                bytes[index] ^= 1 << bit;
                assert_eq!(
                    Account::decode(key(), Some(&bytes)),
                    Stored::Foreign,
                    "{index}.{bit}"
                );
            }
        }
        let other = AccountKey::of_principal("main", "shop", "globex");
        assert_eq!(Account::decode(other, Some(&record)), Stored::Foreign);
    }

    #[test]
    fn keys_tell_their_parts_apart() {
        let a = AccountKey::of_principal("a", "bc", "d");
        assert_ne!(a, AccountKey::of_principal("ab", "c", "d"));
        assert_ne!(a, AccountKey::of_principal("a", "b", "cd"));
    }

    #[test]
    fn what_a_later_version_appended_is_carried_over() {
        let mut later = encode(ACCOUNT, None);
        later[2] = 2;
        let sum = checksum(&later[..CHECKED]).to_le_bytes();
        later.truncate(CHECKED);
        later.extend(sum);
        later.extend(b"quota fields");
        assert_eq!(
            Account::decode(key(), Some(&later)),
            Stored::Account(ACCOUNT)
        );
        let account = Account { tat: 5, ..ACCOUNT };
        let record = encode(account, Some(&later));
        assert_eq!(
            Account::decode(key(), Some(&record)),
            Stored::Account(account)
        );
        assert_eq!(record[2], 2);
        assert!(record.ends_with(b"quota fields"));
    }

    #[test]
    fn a_new_account_is_half_spent_when_the_store_began() {
        let bucket = Bucket::new(60, 60_000_000_000, 5).unwrap();
        let born = 1_000_000_000_000;
        let left = |now| bucket.remaining(Stored::Absent.tat(&bucket, born, now), now);
        assert_eq!(left(born), 3);
        assert_eq!(left(born + 2_000_000_000), 5);
        assert_eq!(
            bucket.remaining(Stored::Foreign.tat(&bucket, born, born), born),
            0
        );
    }
}
