//! What the record of a key is read against, wherever it comes from.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Exempted, Hashing, Key, KeyDigest, KeyState};
use crate::access::{DomainAccess, KeyDomain};
use crate::account::AccountKey;
use crate::civil;
use crate::compile::quota;
use crate::enforcement::Enforcement;
use crate::name::Name;
use crate::node::Node;
use crate::policy::Tier;
use crate::reader::{At, Errors, Map};
use crate::record::{Rule, RuleKind};

/// The tiers of an API by name
pub(crate) type Tiers = BTreeMap<Name, Rc<Tier>>;

/// What a policy says of all keys of an API
#[derive(Debug)]
pub(crate) struct KeyTerms {
    pub(crate) api: Name,
    pub(crate) namespace: Box<str>,
    pub(crate) tiers: Tiers,
    /// What domains of keys are read against
    pub(crate) access: Option<Rc<DomainAccess>>,
    pub(crate) scopes: Scopes,
    /// Ids of keys that are revoked, wherever they stand
    pub(crate) revoked: Rc<BTreeSet<Name>>,
    /// Ids of keys whose callers may be told rule and reason
    pub(crate) explained: Rc<BTreeSet<Name>>,
    /// `revoked`
    pub(crate) revoked_rule: Rc<Rule>,
    /// The rule of all keys that stand in no policy
    pub(crate) bundle_rule: Rc<Rule>,
    /// How digests are made of keys
    pub(crate) hashing: Hashing,
    /// Whether keys that claim our form and don't have it are refused by that
    pub(crate) is_checked: bool,
    /// Principals that have another tier for a while
    pub(crate) exceptions: Vec<Exempted>,
}

/// The scopes of an API, each a bit
#[derive(Debug, Default)]
pub(crate) struct Scopes(Vec<Name>);

/// Most scopes that an API may have: one bit each
const MAX_SCOPES: usize = 64;

impl Scopes {
    /// The bit of a scope that may be new
    pub(crate) fn bit(&mut self, at: &At<'_>, errors: &mut Errors) -> u64 {
        let Some(scope) = read_name(at, errors) else {
            return 0;
        };
        if let Some(bit) = self.find(scope.as_str()) {
            return bit;
        }
        if self.0.len() >= MAX_SCOPES {
            errors.push(&at.path, "an API has at most 64 scopes");
            return 0;
        }
        let bit = self.next();
        self.0.push(scope);
        bit
    }

    /// The bit of a scope that a route or a key of the policy has
    fn known(&self, at: &At<'_>, errors: &mut Errors) -> u64 {
        let bit = at.string(errors).map(|text| self.find(text));
        if bit == Some(None) {
            errors.push(&at.path, "no route or key of the policy has this scope");
        }
        bit.flatten().unwrap_or_default()
    }

    fn find(&self, scope: &str) -> Option<u64> {
        let index = self.0.iter().position(|known| known.as_str() == scope)?;
        1u64.checked_shl(u32::try_from(index).ok()?)
    }

    fn next(&self) -> u64 {
        let index = u32::try_from(self.0.len()).ok();
        index.and_then(|index| 1u64.checked_shl(index)).unwrap_or(0)
    }
}

impl KeyTerms {
    /// Which API of which namespace they are of
    pub(crate) fn home(&self) -> AccountKey {
        AccountKey::hash(&[
            b"keys",
            self.namespace.as_bytes(),
            self.api.as_str().as_bytes(),
        ])
    }

    /// Reads the fields of a key of the policy itself, whose scopes may be new
    pub(crate) fn read_own(
        &self,
        map: &mut Map<'_>,
        scopes: &mut Scopes,
        errors: &mut Errors,
    ) -> Option<Key> {
        let rule = Rule::new(RuleKind::Key, &map.path);
        self.read(map, rule, &mut |at, errors| scopes.bit(at, errors), errors)
    }

    /// Reads the record of a key that stands outside of the policy: strict JSON, nothing unknown
    ///
    /// `path` is where it stands, for errors.
    pub(crate) fn read_record(
        &self,
        record: &[u8],
        path: &str,
        errors: &mut Errors,
    ) -> Option<Key> {
        let node = Node::parse_json(record)
            .map_err(|error| errors.push(path, format!("is not valid JSON: {error}")))
            .ok()?;
        let at = At {
            node: &node,
            path: path.into(),
        };
        let mut map = at.map(errors)?;
        let rule = Rc::clone(&self.bundle_rule);
        let key = self.read(
            &mut map,
            rule,
            &mut |at, errors| self.scopes.known(at, errors),
            errors,
        );
        map.finish(errors);
        key
    }

    /// Reads a record that says itself which key it is of, by its digest: strict JSON, nothing unknown
    pub(crate) fn read_answer(&self, record: &[u8], rule: &Rc<Rule>) -> Option<(KeyDigest, Key)> {
        let node = Node::parse_json(record).ok()?;
        let at = At {
            node: &node,
            path: String::new(),
        };
        let mut errors = Errors::default();
        let mut map = at.map(&mut errors)?;
        let digest = map
            .take(self.hashing.field())
            .and_then(|at| at.string(&mut errors));
        let key = self.read(
            &mut map,
            Rc::clone(rule),
            &mut |at, errors| self.scopes.known(at, errors),
            &mut errors,
        );
        map.finish(&mut errors);
        let digest = KeyDigest::parse(digest?)?;
        key.filter(|_| errors.is_empty()).map(|key| (digest, key))
    }

    fn read(
        &self,
        map: &mut Map<'_>,
        rule: Rc<Rule>,
        bit: &mut dyn FnMut(&At<'_>, &mut Errors) -> u64,
        errors: &mut Errors,
    ) -> Option<Key> {
        let id = map
            .require("id", errors)
            .and_then(|id| read_name(&id, errors));
        let principal = map.require("principal", errors).and_then(|at| {
            let principal = read_name(&at, errors)?;
            if principal.as_str() == ANONYMOUS {
                errors.push(&at.path, "is what callers without a key are called");
            }
            Some(principal)
        });
        let tier = map
            .require("tier", errors)
            .and_then(|at| find_tier(&at, &self.tiers, errors));
        let mut scopes = 0;
        for scope in map
            .take("scopes")
            .and_then(|scopes| scopes.strings(errors))
            .unwrap_or_default()
        {
            scopes |= bit(&scope, errors);
        }
        let not_before = map
            .take("not_before")
            .and_then(|at| read_instant(&at, errors));
        let expires = map.take("expires").and_then(|at| read_instant(&at, errors));
        if let (Some(not_before), Some(expires)) = (not_before, expires)
            && expires <= not_before
        {
            errors.push(&map.path, "expires before it is valid");
        }
        let networks = map.take("networks").map(|at| at.networks(errors));
        let state = map
            .take("state")
            .and_then(|state| state.word(STATES, errors))
            .unwrap_or(KeyState::Active);
        let entitlement = quota::read_key(map, tier.as_deref(), errors);
        let domains = KeyDomain::read(map, self.access.as_deref(), errors);
        let (id, principal) = (id?, principal?);
        let (state, rule) = if self.revoked.contains(&id) {
            (KeyState::Revoked, Rc::clone(&self.revoked_rule))
        } else {
            (state, rule)
        };
        let may_ask_why = self.explained.contains(&id);
        let account =
            AccountKey::of_principal(&self.namespace, self.api.as_str(), principal.as_str());
        Some(Key {
            who: Enforcement::who(&self.api, &principal),
            id,
            principal,
            tier: tier?,
            account,
            entitlement,
            scopes,
            not_before,
            expires,
            state,
            domains,
            may_ask_why,
            rule,
            bundle: None,
            networks: networks.unwrap_or_default().into(),
            exception: None,
            anonymous: None,
        })
    }
}

/// The principal and the id of callers without a key
pub(crate) const ANONYMOUS: &str = "anonymous";

const STATES: &[(&str, KeyState)] = &[
    ("active", KeyState::Active),
    ("disabled", KeyState::Disabled),
];

/// The tier of that name, or an error
pub(crate) fn find_tier(at: &At<'_>, tiers: &Tiers, errors: &mut Errors) -> Option<Rc<Tier>> {
    let text = at.string(errors)?;
    let found = tiers.iter().find(|(name, _)| name.as_str() == text);
    if found.is_none() {
        let known: Vec<_> = tiers.keys().map(Name::as_str).collect();
        errors.push(
            &at.path,
            format!("there is no such tier; there are: {}", known.join(", ")),
        );
    }
    found.map(|(_, tier)| Rc::clone(tier))
}

/// A name, or an error
pub(crate) fn read_name(at: &At<'_>, errors: &mut Errors) -> Option<Name> {
    let text = at.string(errors)?;
    Name::parse(text)
        .map_err(|error: String| errors.push(&at.path, error))
        .ok()
}

/// Seconds since the Unix epoch, or an error
pub(crate) fn read_instant(at: &At<'_>, errors: &mut Errors) -> Option<u64> {
    let instant = civil::parse_instant(at.string(errors)?);
    if instant.is_none() {
        errors.push(
            &at.path,
            "must be an instant in UTC such as 2026-11-22T06:00:00Z",
        );
    }
    instant
}
