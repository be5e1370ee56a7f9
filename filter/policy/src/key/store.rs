//! Where a worker looks keys up.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;

use super::bundle::KeyBundle;
use super::terms::KeyTerms;
use super::{Key, KeyDigest, KeyDigests};
use crate::policy::Api;

/// The keys that stand in no policy, and those of them that were used of late
///
/// It outlives policies, as the engine does.
#[derive(Default)]
pub(crate) struct KeyStore {
    bundles: Vec<Rc<KeyBundle>>,
    /// Parsed keys, each in the place that its digest names: one that wants the place of another takes it
    parsed: Vec<Option<Parsed>>,
}

struct Parsed {
    digest: KeyDigest,
    /// What it was read against: under another policy it is another key
    terms: Rc<KeyTerms>,
    key: Rc<Key>,
}

/// How many parsed keys are kept
const PLACES: usize = 1024;

impl KeyStore {
    /// Puts a bundle in force, in place of the one that its API has
    pub(crate) fn adopt(&mut self, bundle: KeyBundle) {
        self.bundles.retain(|other| other.home != bundle.home);
        self.bundles.push(Rc::new(bundle));
        self.parsed = Vec::new();
    }

    /// The bundle in force of an API: the adopted one, unless the policy brings a later one
    pub(crate) fn bundle<'s>(&'s self, api: &'s Api) -> Option<&'s Rc<KeyBundle>> {
        let seed = api.seed.as_ref();
        if self.bundles.is_empty() {
            return seed;
        }
        let home = api.terms.home();
        let adopted = self.bundles.iter().find(|bundle| bundle.home == home);
        match (adopted, seed) {
            (Some(adopted), Some(seed)) if seed.generated_at() > adopted.generated_at() => {
                Some(seed)
            }
            (None, seed) => seed,
            (adopted, _) => adopted,
        }
    }

    /// The key of an API with one of these digests: the policy's own, else its bundle's
    pub(crate) fn get(&mut self, api: &Api, digests: &KeyDigests) -> Option<Rc<Key>> {
        digests.iter().find_map(|digest| self.find(api, digest))
    }

    fn find(&mut self, api: &Api, digest: &KeyDigest) -> Option<Rc<Key>> {
        if let Some(key) = api.keys.get(digest) {
            return Some(Rc::clone(key));
        }
        let bundle = Rc::clone(self.bundle(api)?);
        let place = self.place(digest)?;
        if let Some(parsed) = place
            && parsed.digest.is(digest)
            && Rc::ptr_eq(&parsed.terms, &api.terms)
        {
            return Some(Rc::clone(&parsed.key));
        }
        let key = Rc::new(bundle.find(digest, &api.terms)?);
        *place = Some(Parsed {
            digest: *digest,
            terms: Rc::clone(&api.terms),
            key: Rc::clone(&key),
        });
        Some(key)
    }

    /// Whether a key of an API has this digest
    pub(crate) fn knows(&self, api: &Api, digest: &KeyDigest) -> bool {
        api.keys.get(digest).is_some()
            || self.bundle(api).is_some_and(|bundle| bundle.knows(digest))
    }

    fn place(&mut self, digest: &KeyDigest) -> Option<&mut Option<Parsed>> {
        if self.parsed.is_empty() {
            self.parsed.resize_with(PLACES, || None);
        }
        let hash = usize::try_from(digest.hash() & 0xffff).unwrap_or_default();
        self.parsed.get_mut(hash.checked_rem(PLACES)?)
    }
}

impl fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyStore").field(&self.bundles).finish()
    }
}
