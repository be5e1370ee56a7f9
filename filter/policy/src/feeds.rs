//! Threat feeds: where their bundle comes from, what it must be, and what a worker has of it.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use portcullis_threat::bundle::{Signer, Table};
use portcullis_threat::structure::Tables;
use portcullis_threat::{Bundle, Shelf, Terms};

use crate::account::AccountKey;
use crate::civil;
use crate::replica::Source;

/// What a policy says of its threat bundle
#[derive(Debug)]
pub(crate) struct Feeds {
    /// Where bundles come from
    pub(crate) source: Option<Rc<Source>>,
    /// The one that the policy brings along
    pub(crate) seed: Option<Bundle>,
    /// Those that feeds may have
    pub(crate) licences: Vec<String>,
    /// The digest of the one bundle that is wanted
    pub(crate) pin: Option<[u8; 32]>,
    /// Those of whom one must have signed a bundle; without any nobody need have
    pub(crate) signers: Vec<Signer>,
    /// Seconds from its making for which a bundle counts
    pub(crate) max_age: Option<u64>,
}

/// How far the clock of who makes bundles may be ahead of ours, in seconds
const AHEAD: u64 = 3600;

impl Feeds {
    /// What a bundle must be to be adopted now (seconds since 1970)
    pub(crate) fn terms(&self, now: u64) -> Terms<'_> {
        Terms {
            pin: self.pin.as_ref(),
            signers: &self.signers,
            licences: Some(&self.licences),
            not_before: self.seed.as_ref().map_or(0, Bundle::created),
            not_after: Some(now.saturating_add(AHEAD)),
        }
    }

    /// Until when a bundle counts, in seconds since 1970, as far as the policy says
    pub(crate) fn until(&self, bundle: &Bundle) -> u64 {
        let max_age = self.max_age.unwrap_or(u64::MAX);
        bundle.created().saturating_add(max_age)
    }
}

/// What a worker has adopted, by where it comes from
///
/// It outlives policies, as the engine does.
#[derive(Debug, Default)]
pub(crate) struct Shelves(Vec<(AccountKey, Shelf)>);

/// Sources of bundles at the same time; past them the one goes that was supplied the longest ago
///
/// INVARIANT: a VM holds two bundles for each at the most, the one that is live and the memory for the next.
const MAX_SHELVES: usize = 4;

impl Shelves {
    /// The bundle in force: the one that was fetched, unless the policy brings a later one
    pub(crate) fn live<'s>(&'s self, feeds: &'s Feeds) -> Option<&'s Bundle> {
        let fetched = feeds.source.as_ref().and_then(|source| {
            let mut shelves = self.0.iter();
            shelves.find(|(id, _)| *id == source.id)?.1.live()
        });
        match (fetched, &feeds.seed) {
            (Some(fetched), Some(seed)) if seed.created() > fetched.created() => Some(seed),
            (None, seed) => seed.as_ref(),
            (fetched, _) => fetched,
        }
    }

    /// Notes that a source is supplied; whether nothing was known of it before
    pub(crate) fn supplies(&mut self, id: AccountKey) -> bool {
        let place = self.0.iter().position(|(other, _)| *other == id);
        let shelf = match place {
            Some(place) => self.0.remove(place),
            None => {
                if self.0.len() >= MAX_SHELVES {
                    self.0.remove(0);
                }
                (id, Shelf::default())
            }
        };
        self.0.push(shelf);
        place.is_none()
    }

    /// The shelf of a source that was supplied last
    pub(crate) fn of(&mut self, id: AccountKey) -> Option<&mut Shelf> {
        let last = self.0.last_mut();
        last.filter(|(other, _)| *other == id)
            .map(|(_, shelf)| shelf)
    }
}

/// What structure is judged by, where a bundle has all of its tables
pub(crate) fn tables(bundle: &Bundle) -> Option<Tables<'_>> {
    Tables::new(
        bundle.table(Table::Suffixes),
        bundle.table(Table::Brands),
        bundle.table(Table::Confusables),
        bundle.table(Table::Model),
    )
}

/// What a bundle is called: when it was made, and the first digits of its digest
pub(crate) fn version(bundle: &Bundle) -> String {
    let made = civil::format_instant(bundle.created()).unwrap_or_default();
    let mut digest = bundle.digest().iter();
    let mut digit = || digest.next().copied().unwrap_or_default();
    format!(
        "{made}#{:02x}{:02x}{:02x}{:02x}",
        digit(),
        digit(),
        digit(),
        digit()
    )
}
