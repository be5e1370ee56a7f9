//! A key bundle on its way in, page by page.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;

use sha2::{Digest as _, Sha256};

use super::Key;
use super::bundle::{BundleError, CHECKED, HEADER, Header, KeyBundle, MAX_RECORD};
use super::terms::KeyTerms;
use crate::account::AccountKey;
use crate::error::ConfigError;
use crate::policy::Policy;
use crate::reader::Errors;

/// A key bundle that is coming in
///
/// Each page costs what its own bytes cost: they are hashed, and the digests, offsets and records
/// that they complete are checked, so a shell that feeds a page a tick is never busy for longer. Nothing
/// of it is in force until all of it was found good.
pub struct Adoption {
    terms: Rc<KeyTerms>,
    max_bytes: usize,
    bytes: Vec<u8>,
    hash: Sha256,
    stage: Stage,
}

/// How far an adoption has come
enum Stage {
    /// The header is not in yet
    Header,
    /// The index and the records come in
    Body(Body),
    Refused(BundleError),
}

struct Body {
    header: Header,
    /// Digests, offsets and records that were checked so far
    digests: usize,
    offsets: usize,
    records: usize,
    tiers: PrincipalTiers,
    errors: Vec<ConfigError>,
}

/// Most errors in records that are told
const MAX_ERRORS: usize = 8;

impl Adoption {
    /// Begins to adopt a bundle for an API of a policy; `None` when the policy has no such API
    ///
    /// A bundle longer than `max_bytes` is refused by its header.
    #[must_use]
    pub fn new(policy: &Policy, api: &str, max_bytes: usize) -> Option<Self> {
        let api = policy
            .apis
            .iter()
            .find(|known| known.name.as_str() == api)?;
        Some(Self::against(Rc::clone(&api.terms), max_bytes))
    }

    pub(crate) fn against(terms: Rc<KeyTerms>, max_bytes: usize) -> Self {
        Self {
            terms,
            max_bytes,
            bytes: Vec::new(),
            hash: Sha256::new(),
            stage: Stage::Header,
        }
    }

    /// Takes the next bytes of the file in, however many
    ///
    /// # Errors
    ///
    /// Why the bundle is refused, again and again once it is. Errors in records are told by
    /// [`finish`](Self::finish), when the checksum has told whether they are its maker's.
    pub fn feed(&mut self, page: &[u8]) -> Result<(), BundleError> {
        if let Stage::Refused(error) = &self.stage {
            return Err(error.clone());
        }
        let taken = self.take(page);
        if let Err(error) = &taken {
            self.bytes = Vec::new();
            self.stage = Stage::Refused(error.clone());
        }
        taken
    }

    /// How many bytes are still to come; `None` until the header is in
    #[must_use]
    pub fn missing(&self) -> Option<usize> {
        match &self.stage {
            Stage::Body(body) => Some(body.header.length().saturating_sub(self.bytes.len())),
            Stage::Header | Stage::Refused(_) => None,
        }
    }

    /// The checksum that the header names, once it is in: the file need not be read on when it is
    /// the one in force
    #[must_use]
    pub fn checksum(&self) -> Option<[u8; 32]> {
        match &self.stage {
            Stage::Body(body) => Some(body.header.checksum),
            Stage::Header | Stage::Refused(_) => None,
        }
    }

    /// Ends the adoption
    ///
    /// # Errors
    ///
    /// Why the bundle is refused.
    pub fn finish(self) -> Result<KeyBundle, BundleError> {
        let Body { header, errors, .. } = match self.stage {
            Stage::Body(body) if self.bytes.len() == body.header.length() => body,
            Stage::Body(_) | Stage::Header => return Err(BundleError::Cut),
            Stage::Refused(error) => return Err(error),
        };
        let sum: [u8; 32] = self.hash.finalize().into();
        if sum != header.checksum {
            return Err(BundleError::Checksum);
        }
        if !errors.is_empty() {
            return Err(BundleError::Records(errors));
        }
        Ok(KeyBundle {
            home: self.terms.home(),
            bytes: Rc::new(self.bytes),
            header,
        })
    }

    fn take(&mut self, page: &[u8]) -> Result<(), BundleError> {
        let length = self.bytes.len().saturating_add(page.len());
        if length > self.max_bytes {
            return Err(BundleError::TooLong(self.max_bytes));
        }
        let before = self.bytes.len();
        if self.bytes.try_reserve(page.len()).is_err() {
            return Err(BundleError::TooLong(0));
        }
        self.bytes.extend_from_slice(page);
        if let Stage::Header = self.stage {
            let Some(header) = self.bytes.first_chunk() else {
                return Ok(());
            };
            let header = Header::read(header)?;
            self.begin(header)?;
        }
        let Stage::Body(body) = &mut self.stage else {
            return Ok(());
        };
        if length > body.header.length() {
            return Err(BundleError::Trailing);
        }
        self.hash
            .update(self.bytes.get(before.max(HEADER)..).unwrap_or_default());
        body.check(&self.bytes, &self.terms)
    }

    /// Takes a header over, and makes room for what it announces
    fn begin(&mut self, header: Header) -> Result<(), BundleError> {
        if header.length() > self.max_bytes {
            return Err(BundleError::TooLong(self.max_bytes));
        }
        if header.api != self.terms.api {
            return Err(BundleError::Api(header.api.to_string()));
        }
        if header.scheme != self.terms.hashing.scheme() {
            return Err(BundleError::Scheme(header.scheme));
        }
        let rest = header.length().saturating_sub(self.bytes.len());
        if self.bytes.try_reserve_exact(rest).is_err() {
            return Err(BundleError::TooLong(0));
        }
        let tiers = PrincipalTiers::with_room(header.keys()).ok_or(BundleError::TooLong(0))?;
        self.hash
            .update(self.bytes.get(..CHECKED).unwrap_or_default());
        self.stage = Stage::Body(Body {
            header,
            digests: 0,
            offsets: 0,
            records: 0,
            tiers,
            errors: Vec::new(),
        });
        Ok(())
    }
}

impl Body {
    /// Checks what has become whole
    fn check(&mut self, bytes: &[u8], terms: &KeyTerms) -> Result<(), BundleError> {
        self.check_digests(bytes)?;
        self.check_offsets(bytes)?;
        while self.records < self.header.keys() {
            let Some(record) = self.header.record(bytes, self.records) else {
                return Ok(());
            };
            self.check_record(record, terms);
            self.records = self.records.saturating_add(1);
        }
        Ok(())
    }

    fn check_digests(&mut self, bytes: &[u8]) -> Result<(), BundleError> {
        let from = self.digests.saturating_sub(1);
        let (digests, _) = self.header.digests(bytes).as_chunks::<32>();
        let fresh = digests.get(from..).unwrap_or_default();
        let descends = fresh
            .iter()
            .zip(fresh.iter().skip(1))
            .position(|(one, next)| one >= next);
        self.digests = digests.len();
        descends.map_or(Ok(()), |index| {
            Err(BundleError::Order(
                from.saturating_add(index).saturating_add(1),
            ))
        })
    }

    fn check_offsets(&mut self, bytes: &[u8]) -> Result<(), BundleError> {
        while self.offsets <= self.header.keys() {
            let Some(offset) = self.header.offset(bytes, self.offsets) else {
                return Ok(());
            };
            let before = self.offsets.checked_sub(1);
            let before = before.and_then(|index| self.header.offset(bytes, index));
            let good = match before {
                None => offset == 0,
                Some(before) => offset > before && offset.saturating_sub(before) <= MAX_RECORD,
            };
            let is_last = self.offsets == self.header.keys();
            if !good || (is_last && offset != self.header.records) {
                return Err(BundleError::Offset(self.offsets));
            }
            self.offsets = self.offsets.saturating_add(1);
        }
        Ok(())
    }

    fn check_record(&mut self, record: &[u8], terms: &KeyTerms) {
        let path = format!("records[{}]", self.records);
        let mut errors = Errors::default();
        if let Some(key) = terms.read_record(record, &path, &mut errors)
            && !self.tiers.agree(&key, terms)
        {
            let message = format!(
                "keys of one principal share its tier: `{}` has a key of another",
                key.principal
            );
            errors.push(&path, message);
        }
        let room = MAX_ERRORS.saturating_sub(self.errors.len());
        self.errors
            .extend(errors.into_sorted().into_iter().take(room));
    }
}

impl fmt::Debug for Adoption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adoption")
            .field("api", &self.terms.api)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// The tiers of principals, eight bytes each while a bundle comes in
///
/// An open table with room for twice as many: a place holds 56 bits of the principal's account, which
/// is a SHA-256, and the number of its tier. Zero is a free place.
struct PrincipalTiers(Vec<u64>);

impl PrincipalTiers {
    fn with_room(principals: usize) -> Option<Self> {
        let places = principals.checked_mul(2)?.checked_next_power_of_two()?;
        let mut table = Vec::new();
        table.try_reserve_exact(places).ok()?;
        table.resize(places, 0);
        Some(Self(table))
    }

    /// Notes the tier of a key's principal; whether it is the one that its other keys have
    fn agree(&mut self, key: &Key, terms: &KeyTerms) -> bool {
        let tier = terms.tiers.keys().position(|name| *name == key.tier.name);
        let tier = u64::try_from(tier.unwrap_or_default()).unwrap_or_default() & 0xff;
        let AccountHash(hash) = AccountHash::of(key.account);
        let mark = (hash & !0xff) | tier;
        let mask = self.0.len().wrapping_sub(1);
        let start = usize::try_from(hash.wrapping_shr(32)).unwrap_or_default();
        for step in 0..self.0.len() {
            let Some(place) = self.0.get_mut(start.wrapping_add(step) & mask) else {
                return false;
            };
            if *place == 0 {
                *place = mark;
                return true;
            }
            if *place & !0xff == mark & !0xff {
                return *place == mark;
            }
        }
        false
    }
}

/// 64 bits of an account's name
struct AccountHash(u64);

impl AccountHash {
    fn of(account: AccountKey) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = account.bytes();
        Self(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }
}

#[cfg(test)]
mod tests;
