//! Reading the keys of an API.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::rc::Rc;

use base64ct::{Base64, Encoding};

use super::api::Context;
use crate::key::{DigestScheme, Key, KeyBundle, KeyDigest, KeyRing, KeyTerms, Scopes, Tiers};
use crate::name::Name;
use crate::node::Node;
use crate::reader::{At, Errors};
use crate::record::{Rule, RuleKind};

/// What the policy says of an API's keys
#[derive(Default)]
pub(super) struct Keys<'n> {
    pub(super) inline: KeyRing,
    /// A bundle in base 64, to be read when all scopes are known
    pub(super) seed: Option<At<'n>>,
    /// Who knows further keys, to be read when all scopes are known
    pub(super) lookup: Option<At<'n>>,
}

/// What the keys of an API are read against; its scopes are not known yet
pub(super) fn terms(api: &Name, path: &str, tiers: &Tiers, context: &Context<'_>) -> KeyTerms {
    KeyTerms {
        api: api.clone(),
        namespace: context.namespace.into(),
        tiers: tiers.clone(),
        scopes: Scopes::default(),
        revoked: Rc::clone(&context.revoked),
        explained: Rc::clone(&context.explained),
        revoked_rule: Rule::new(RuleKind::Key, "revoked"),
        bundle_rule: Rule::new(RuleKind::Key, &format!("{path}.keys.bundle")),
        scheme: DigestScheme::Plain,
    }
}

/// Reads `keys`: a list of keys, or a map of where keys come from
pub(super) fn read<'n>(
    at: Option<&At<'n>>,
    terms: &KeyTerms,
    scopes: &mut Scopes,
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
        keys.seed = bundle.require("seed", errors);
        bundle.finish(errors);
    }
    map.finish(errors);
    keys
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
    let mut principals: BTreeMap<Name, Name> = BTreeMap::new();
    for at in at.list(errors).unwrap_or_default() {
        let Some((digest, key)) = read_key(&at, terms, scopes, errors) else {
            continue;
        };
        if !ids.insert(key.id.clone()) {
            errors.push(&at.path, format!("another key has the id `{}`", key.id));
        }
        let tier = principals
            .entry(key.principal.clone())
            .or_insert_with(|| key.tier.name.clone());
        if *tier != key.tier.name {
            errors.push(
                &at.path,
                format!(
                    "keys of one principal share its tier: `{}` has a key of the tier `{tier}`",
                    key.principal
                ),
            );
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
    let digest = map.require("sha256", errors).and_then(|at| {
        let digest = at.string(errors).map(KeyDigest::parse)?;
        if digest.is_none() {
            errors.push(&at.path, "must be the SHA-256 digest of the key, 64 hexadecimal digits; never the key itself");
        }
        digest
    });
    let key = terms.read_own(&mut map, scopes, errors);
    map.finish(errors);
    Some((digest?, key?))
}
