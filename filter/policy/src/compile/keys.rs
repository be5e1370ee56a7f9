//! Reading the keys of an API.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;

use base64ct::{Base64, Encoding};

use super::Variables;
use super::api::{Context, Shared};
use super::service::File;
use super::{quota, service};
use crate::account::AccountKey;
use crate::enforcement::Enforcement;
use crate::entitlement::Entitlement;
use crate::key::{
    ANONYMOUS, Exception, Exempted, Hashing, Key, KeyBundle, KeyDigest, KeyRing, KeyState,
    KeyTerms, Pepper, Scopes, find_tier,
};
use crate::name::Name;
use crate::node::Node;
use crate::reader::{At, Errors};
use crate::record::{Rule, RuleKind};
use crate::replica::Source;

/// What the policy says of an API's keys
#[derive(Default)]
pub(super) struct Keys<'n> {
    pub(super) inline: KeyRing,
    /// A bundle in base 64, to be read when all scopes are known
    pub(super) seed: Option<At<'n>>,
    /// Where a bundle comes from
    pub(super) source: Option<Rc<Source>>,
    /// Who knows further keys, to be read when all scopes are known
    pub(super) lookup: Option<At<'n>>,
}

/// What the keys of an API are read against; its scopes are not known yet
pub(super) fn terms(shared: &Shared<'_>, path: &str, context: &Context<'_>) -> KeyTerms {
    let exempted = |exception: &Rc<Exception>| {
        let (_, tier) = shared
            .tiers
            .iter()
            .find(|(name, _)| **name == exception.tier)?;
        Some(Exempted {
            exception: Rc::clone(exception),
            tier: Rc::clone(tier),
        })
    };
    KeyTerms {
        api: shared.api.clone(),
        namespace: context.namespace.into(),
        tiers: shared.tiers.clone(),
        access: shared.access.cloned(),
        scopes: Scopes::default(),
        revoked: Rc::clone(&context.revoked),
        explained: Rc::clone(&context.explained),
        revoked_rule: Rule::new(RuleKind::Key, "revoked"),
        bundle_rule: Rule::new(RuleKind::Key, &format!("{path}.keys.bundle")),
        hashing: Hashing::Plain,
        is_checked: false,
        exceptions: context.exceptions.iter().filter_map(exempted).collect(),
    }
}

/// Reads `keys`: a list of keys, or a map of where keys come from and how they look
pub(super) fn read<'n>(
    at: Option<&At<'n>>,
    terms: &mut KeyTerms,
    scopes: &mut Scopes,
    variable: &Variables<'_>,
    errors: &mut Errors,
) -> Keys<'n> {
    let mut keys = Keys::default();
    let Some(at) = at else {
        return keys;
    };
    let Node::Map(_) = at.node else {
        keys.inline = read_inline(at, terms, scopes, errors);
        return keys;
    };
    let Some(mut map) = at.map(errors) else {
        return keys;
    };
    if let Some(format) = map.take("format") {
        terms.is_checked = format.word(FORMATS, errors).unwrap_or_default();
    }
    if let Some(pepper) = map.take("pepper") {
        terms.hashing = read_pepper(&pepper, variable, errors);
    }
    let inline = map.take("inline");
    let bundle = map.take("bundle");
    keys.lookup = map.take("lookup");
    if inline.is_none() && bundle.is_none() && keys.lookup.is_none() {
        errors.push(
            &map.path,
            "must say where keys come from: inline, bundle, lookup",
        );
    }
    if let Some(inline) = inline {
        keys.inline = read_inline(&inline, terms, scopes, errors);
    }
    if let Some(mut bundle) = bundle.and_then(|bundle| bundle.map(errors)) {
        let file = File {
            home: &[b"bundle", &terms.home().bytes()],
            page: PAGE,
            bytes: 1024..=64 << 20,
            max_bytes: 16 << 20,
            may_be_stale: true,
            kind: RuleKind::Key,
        };
        keys.source = service::read_source(&mut bundle, &file, errors);
        keys.seed = bundle.take("seed");
        if keys.seed.is_none() && bundle.take("cluster").is_none() {
            errors.push(
                &bundle.path,
                "must say where it comes from: cluster and path, or seed",
            );
        }
        bundle.finish(errors);
    }
    map.finish(errors);
    keys
}

/// Bytes of a page of keys
///
/// What a worker copies, hashes and checks in one go: about a millisecond.
const PAGE: usize = 64 * 1024;

const FORMATS: &[(&str, bool)] = &[("any", false), ("portcullis", true)];

/// Reads `pepper`: the variables that hold the secrets
fn read_pepper(at: &At<'_>, variable: &Variables<'_>, errors: &mut Errors) -> Hashing {
    let mut peppers = Vec::new();
    let Some(mut map) = at.map(errors) else {
        return Hashing::Plain;
    };
    let names = map.require("env", errors);
    let names = names.and_then(|names| names.strings(errors));
    map.finish(errors);
    let names = names.unwrap_or_default();
    if names.len() > 2 {
        errors.push(
            &at.path,
            "names at most two variables: the pepper, and the one that it replaces",
        );
    }
    for at in names {
        let Some(name) = at.string(errors) else {
            continue;
        };
        let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(good) {
            errors.push(&at.path, "must be the name of an environment variable");
            continue;
        }
        match variable(name).map(|secret| Pepper::new(secret.as_bytes())) {
            Some(Some(pepper)) => peppers.push(pepper),
            Some(None) => errors.push(&at.path, "the pepper has less than 16 bytes"),
            None => errors.push(
                &at.path,
                "the filter has no such variable: name it in Envoy's environment_variables.host_env_keys, and set it where Envoy starts",
            ),
        }
    }
    if peppers.is_empty() && errors.is_empty() {
        errors.push(&at.path, "must name at least one variable");
    }
    Hashing::Peppered(peppers)
}

/// Reads `anonymous`: what callers without a key have, each address an account of its own
pub(super) fn read_anonymous(
    at: &At<'_>,
    terms: &KeyTerms,
    errors: &mut Errors,
) -> Option<Rc<Key>> {
    let tier = find_tier(at, &terms.tiers, errors)?;
    if tier.bucket.is_none() {
        errors.push(
            &at.path,
            "callers without a key can't be unlimited: name a tier with a rate",
        );
    }
    let name = Name::parse(ANONYMOUS).ok()?;
    let account = AccountKey::of_principal(&terms.namespace, terms.api.as_str(), ANONYMOUS);
    Some(Rc::new(Key {
        who: Enforcement::who(&terms.api, &name),
        entitlement: None,
        domains: Vec::new(),
        id: name.clone(),
        principal: name,
        tier,
        account,
        scopes: 0,
        not_before: None,
        expires: None,
        state: KeyState::Active,
        may_ask_why: false,
        rule: Rule::new(RuleKind::Credential, &at.path),
        bundle: None,
        networks: Box::default(),
        exception: None,
        anonymous: Some(account),
    }))
}

/// Longest bundle that a policy brings along, in bytes
const MAX_SEED: usize = 8 * 1024 * 1024;

/// Reads a bundle in base 64 (RFC 4648, section 4, with padding)
pub(super) fn read_seed(
    at: &At<'_>,
    terms: &Rc<KeyTerms>,
    errors: &mut Errors,
) -> Option<Rc<KeyBundle>> {
    let text = at.string(errors)?;
    let Ok(bytes) = Base64::decode_vec(text) else {
        errors.push(&at.path, "must be a key bundle in base64, in one line");
        return None;
    };
    KeyBundle::read(&bytes, terms, MAX_SEED)
        .map(Rc::new)
        .map_err(|error| errors.push(&at.path, format!("{error}")))
        .ok()
}

fn read_inline(at: &At<'_>, terms: &KeyTerms, scopes: &mut Scopes, errors: &mut Errors) -> KeyRing {
    let mut ring = KeyRing::default();
    let mut ids = BTreeSet::new();
    let mut principals: BTreeMap<Name, (Name, Option<Rc<Entitlement>>)> = BTreeMap::new();
    for at in at.list(errors).unwrap_or_default() {
        let Some((digest, key)) = read_key(&at, terms, scopes, errors) else {
            continue;
        };
        if !ids.insert(key.id.clone()) {
            errors.push(&at.path, format!("another key has the id `{}`", key.id));
        }
        let (tier, entitlement) = principals
            .entry(key.principal.clone())
            .or_insert_with(|| (key.tier.name.clone(), key.entitlement.clone()));
        if *tier != key.tier.name {
            errors.push(
                &at.path,
                format!(
                    "keys of one principal share its tier: `{}` has a key of the tier `{tier}`",
                    key.principal
                ),
            );
        } else if !quota::is_same(entitlement.as_deref(), key.entitlement.as_deref()) {
            let message = format!(
                "keys of one principal share its quotas: say the same of plan, anchor, period, quotas and packs for every key of `{}`",
                key.principal
            );
            errors.push(&at.path, message);
        }
        if let Err(other) = ring.insert(digest, key) {
            errors.push(&at.path, format!("the key `{other}` has the same digest"));
        }
    }
    ring
}

fn read_key(
    at: &At<'_>,
    terms: &KeyTerms,
    scopes: &mut Scopes,
    errors: &mut Errors,
) -> Option<(KeyDigest, Key)> {
    let mut map = at.map(errors)?;
    let message = match terms.hashing {
        Hashing::Plain => {
            "must be the SHA-256 digest of the key, 64 hexadecimal digits; never the key itself"
        }
        Hashing::Peppered(_) => {
            "must be the HMAC-SHA-256 of the key under the pepper, 64 hexadecimal digits; never the key itself"
        }
    };
    let digest = map.require(terms.hashing.field(), errors).and_then(|at| {
        let digest = at.string(errors).map(KeyDigest::parse)?;
        if digest.is_none() {
            errors.push(&at.path, message);
        }
        digest
    });
    let key = terms.read_own(&mut map, scopes, errors);
    map.finish(errors);
    Some((digest?, key?))
}
