//! What a customer may spend in a billing period, and what a route spends of it.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use crate::account::AccountKey;
use crate::name::Name;
use crate::period::{Calendar, Period};
use crate::record::Rule;

/// A thing that is counted by period, such as `analyses`; known in the store by a number
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Quota {
    pub(crate) name: Name,
    /// The same under every policy
    pub(crate) number: u64,
}

/// What of a quota a period includes
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Allowance {
    pub(crate) quota: Quota,
    /// `None`: unlimited
    pub(crate) amount: Option<u64>,
}

/// What the keys of a tier may spend
#[derive(Debug)]
pub(crate) enum Allowances {
    /// The same for all of them, a month
    Tier(Vec<Allowance>),
    /// Each key's record says it
    FromKey,
}

/// What a key's principal may spend
#[derive(Debug)]
pub(crate) struct Entitlement {
    pub(crate) calendar: Calendar,
    /// For each period; those that are not named are nothing
    pub(crate) allowances: Vec<Allowance>,
    /// In the order in which they are spent
    pub(crate) packs: Vec<Pack>,
    pub(crate) rule: Rc<Rule>,
}

/// Credit that was bought once, spent after the allowance
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Pack {
    /// Its id, as the store knows it
    pub(crate) number: u64,
    /// [`Quota::number`]
    pub(crate) quota: u64,
    pub(crate) amount: u64,
    /// Seconds since the Unix epoch: gone from here
    pub(crate) expires: u64,
}

/// What a request of a route spends
#[derive(Debug)]
pub(crate) struct Spend {
    pub(crate) quota: Quota,
    pub(crate) idempotency: Option<Idempotency>,
}

/// When a request that is sent again is not charged again
#[derive(Debug)]
pub(crate) struct Idempotency {
    /// The header that holds the key, in lower case
    pub(crate) header: String,
    /// For how many seconds a key is known
    pub(crate) ttl: u32,
    pub(crate) rule: Rc<Rule>,
}

impl Quota {
    pub(crate) fn new(name: Name) -> Self {
        let number = AccountKey::hash(&[b"quota", name.as_str().as_bytes()]).low_bits();
        Self { name, number }
    }
}

impl Pack {
    /// The number of a pack, which no other pack of the principal has
    pub(crate) fn number(id: &Name, quota: u64) -> u64 {
        AccountKey::hash(&[b"pack", id.as_str().as_bytes(), &quota.to_le_bytes()]).low_bits()
    }
}

impl Entitlement {
    /// What a period includes of a quota; `None`: unlimited
    pub(crate) fn allowance(&self, quota: u64, period: Option<Period>) -> Option<u64> {
        let found = self
            .allowances
            .iter()
            .find(|allowance| allowance.quota.number == quota);
        match (found, period) {
            (Some(allowance), Some(_)) => allowance.amount,
            (Some(Allowance { amount: None, .. }), None) => None,
            (Some(_), None) | (None, _) => Some(0),
        }
    }

    /// The packs of a quota that are good at an instant, in the order in which they are spent
    pub(crate) fn packs(&self, quota: u64, now: u64) -> impl Iterator<Item = &Pack> {
        self.packs
            .iter()
            .filter(move |pack| pack.quota == quota && now < pack.expires)
    }

    /// Whether two keys say the same of their principal
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.calendar == other.calendar
            && self.allowances == other.allowances
            && self.packs == other.packs
    }
}
