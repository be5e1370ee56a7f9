//! Reading one of `apis`.

use alloc::collections::BTreeMap;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use super::{key_name, name, quantity, route};
use crate::account::AccountKey;
use crate::civil;
use crate::counter::Series;
use crate::host;
use crate::key::{Key, KeyDigest, KeyRing, KeyState};
use crate::name::Name;
use crate::policy::{Api, Pause, Tier};
use crate::reader::{At, Errors, Map};
use crate::record::{Rule, RuleKind};
use crate::reply::Dialect;
use crate::template::{Router, Template};
use crate::window::Window;

/// What an API needs to know of the rest of the policy
pub(super) struct Context<'a> {
    pub(super) namespace: &'a str,
    pub(super) revoked: &'a BTreeSet<&'a str>,
    /// Keys whose callers may ask why
    pub(super) explained: &'a BTreeSet<&'a str>,
    pub(super) pause: Pause,
}

/// The tiers of an API by name
pub(super) type Tiers = BTreeMap<Name, Rc<Tier>>;

/// The scopes of an API, each a bit
#[derive(Default)]
pub(super) struct Scopes(Vec<Name>);

impl Scopes {
    /// The bit of a scope
    pub(super) fn bit(&mut self, at: &At<'_>, errors: &mut Errors) -> u64 {
        let Some(scope) = name(at, errors) else {
            return 0;
        };
        let known = self.0.iter().position(|other| *other == scope);
        let index = known.unwrap_or_else(|| {
            self.0.push(scope);
            self.0.len().saturating_sub(1)
        });
        let bit = u32::try_from(index)
            .ok()
            .and_then(|index| 1u64.checked_shl(index));
        if bit.is_none() {
            errors.push(&at.path, "an API has at most 64 scopes");
        }
        bit.unwrap_or_default()
    }
}

const DIALECTS: &[(&str, Dialect)] = &[
    ("cybervault", Dialect::Cybervault),
    ("cyborux", Dialect::Cyborux),
    ("problem", Dialect::Problem),
];

/// Reads an API; returns it with its hosts, each with its path
pub(super) fn read(
    key: &str,
    at: &At<'_>,
    context: &Context<'_>,
    errors: &mut Errors,
) -> Option<(Api, Vec<(String, String)>)> {
    let api_name = key_name(key, at, errors);
    let mut map = at.map(errors)?;
    let hosts = read_hosts(&mut map, errors);
    let dialect = map
        .take("dialect")
        .and_then(|dialect| dialect.word(DIALECTS, errors));
    let strips_credential = map
        .take("credential")
        .and_then(|at| at.word(&[("keep", false), ("strip", true)], errors));
    let identity = map.take("identity");
    let tells_identity =
        identity.and_then(|at| at.word(&[("headers", true), ("none", false)], errors));
    let preflight = map.take("preflight");
    let preflight =
        preflight.and_then(|at| at.word(&[("forward", true), ("refuse", false)], errors));
    let unmatched = map.take("unmatched");
    let unmatched =
        unmatched.and_then(|at| at.word(&[("forward", true), ("refuse", false)], errors));
    let tiers = read_tiers(&mut map, errors);
    let mut scopes = Scopes::default();
    let api_name = api_name?;
    let keys = read_keys(&mut map, &api_name, &tiers, &mut scopes, context, errors);
    let windows = read_limits(&mut map, errors);
    let router = read_routes(
        &mut map,
        (&api_name, &windows),
        &tiers,
        &mut scopes,
        context.pause,
        errors,
    );
    let rule = |kind, part: &str| Rule::new(kind, &format!("{}.{part}", at.path));
    map.finish(errors);
    let api = Api {
        dialect: dialect.unwrap_or(Dialect::Problem),
        keys,
        strips_credential: strips_credential.unwrap_or(true),
        tells_identity: tells_identity.unwrap_or(true),
        forwards_preflight: preflight.unwrap_or(false),
        forwards_unmatched: unmatched.unwrap_or(false),
        router,
        credential_rule: rule(RuleKind::Credential, "keys"),
        preflight_rule: rule(RuleKind::Preflight, "preflight"),
        unmatched_rule: rule(RuleKind::Unmatched, "unmatched"),
        series: Series::of(&api_name, None),
        name: api_name,
    };
    Some((api, hosts))
}

fn read_hosts(map: &mut Map<'_>, errors: &mut Errors) -> Vec<(String, String)> {
    let mut hosts = Vec::new();
    let Some(list) = map.require("hosts", errors) else {
        return hosts;
    };
    for at in list.strings(errors).unwrap_or_default() {
        let Some(text) = at.string(errors) else {
            continue;
        };
        let host = if text == "*" {
            Some(String::new())
        } else {
            host::normalise(text.as_bytes())
        };
        match host {
            Some(host) => hosts.push((host, at.path)),
            None => errors.push(&at.path, "must be a host name, or `*` for every other host"),
        }
    }
    if hosts.is_empty() && errors.is_empty() {
        errors.push(&list.path, "must name at least one host");
    }
    hosts
}

fn read_tiers(map: &mut Map<'_>, errors: &mut Errors) -> BTreeMap<Name, Rc<Tier>> {
    let mut tiers = BTreeMap::new();
    let entries = map
        .require("tiers", errors)
        .and_then(|tiers| tiers.map(errors));
    for (key, at) in entries.into_iter().flat_map(Map::entries) {
        let tier_name = key_name(key, &at, errors);
        let Some(mut map) = at.map(errors) else {
            continue;
        };
        let bucket = quantity::read_bucket(&mut map, errors)
            .map(|bucket| quantity::read_queue(&mut map, bucket, errors));
        map.finish(errors);
        if let (Some(name), Some(bucket)) = (tier_name, bucket) {
            let rule = Rule::new(RuleKind::Tier, &format!("{}.rate", at.path));
            tiers.insert(name.clone(), Rc::new(Tier { name, bucket, rule }));
        }
    }
    tiers
}

fn read_keys(
    map: &mut Map<'_>,
    api: &Name,
    tiers: &Tiers,
    scopes: &mut Scopes,
    context: &Context<'_>,
    errors: &mut Errors,
) -> KeyRing {
    let mut ring = KeyRing::default();
    let mut ids = BTreeSet::new();
    let mut principals: BTreeMap<Name, Name> = BTreeMap::new();
    let list = map
        .require("keys", errors)
        .and_then(|keys| keys.list(errors))
        .unwrap_or_default();
    for at in list {
        let Some((digest, key)) = read_key(&at, api, tiers, scopes, context, errors) else {
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
    api: &Name,
    tiers: &Tiers,
    scopes: &mut Scopes,
    context: &Context<'_>,
    errors: &mut Errors,
) -> Option<(KeyDigest, Key)> {
    let mut map = at.map(errors)?;
    let id = map.require("id", errors).and_then(|id| name(&id, errors));
    let digest = map.require("sha256", errors).and_then(|at| {
        let digest = at.string(errors).map(KeyDigest::parse)?;
        if digest.is_none() {
            errors.push(&at.path, "must be the SHA-256 digest of the key, 64 hexadecimal digits; never the key itself");
        }
        digest
    });
    let principal = map
        .require("principal", errors)
        .and_then(|principal| name(&principal, errors));
    let tier = map
        .require("tier", errors)
        .and_then(|at| find_tier(&at, tiers, errors));
    let mut bits = 0;
    for scope in map
        .take("scopes")
        .and_then(|scopes| scopes.strings(errors))
        .unwrap_or_default()
    {
        bits |= scopes.bit(&scope, errors);
    }
    let not_before = map.take("not_before").and_then(|at| instant(&at, errors));
    let expires = map.take("expires").and_then(|at| instant(&at, errors));
    if let (Some(not_before), Some(expires)) = (not_before, expires)
        && expires <= not_before
    {
        errors.push(&at.path, "expires before it is valid");
    }
    let states = &[
        ("active", KeyState::Active),
        ("disabled", KeyState::Disabled),
    ];
    let state = map
        .take("state")
        .and_then(|state| state.word(states, errors))
        .unwrap_or(KeyState::Active);
    map.finish(errors);
    let (id, principal) = (id?, principal?);
    let (state, rule) = if context.revoked.contains(id.as_str()) {
        (KeyState::Revoked, Rule::new(RuleKind::Key, "revoked"))
    } else {
        (state, Rule::new(RuleKind::Key, &at.path))
    };
    let may_ask_why = context.explained.contains(id.as_str());
    let account = AccountKey::of_principal(context.namespace, api.as_str(), principal.as_str());
    let key = Key {
        id,
        principal,
        tier: tier?,
        account,
        scopes: bits,
        not_before,
        expires,
        state,
        may_ask_why,
        rule,
    };
    Some((digest?, key))
}

/// The tier of that name, or an error
pub(super) fn find_tier(at: &At<'_>, tiers: &Tiers, errors: &mut Errors) -> Option<Rc<Tier>> {
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

fn instant(at: &At<'_>, errors: &mut Errors) -> Option<u64> {
    let instant = civil::parse_instant(at.string(errors)?);
    if instant.is_none() {
        errors.push(
            &at.path,
            "must be an instant in UTC such as 2026-11-22T06:00:00Z",
        );
    }
    instant
}

/// Reads `limits`: exact windows, which routes spend by their names
fn read_limits(map: &mut Map<'_>, errors: &mut Errors) -> Vec<Rc<Window>> {
    let entries = map.take("limits").and_then(|limits| limits.map(errors));
    let mut windows = Vec::new();
    for (key, at) in entries.into_iter().flat_map(Map::entries) {
        if ["tier", "unauthenticated"].contains(&key) {
            errors.push(
                &at.path,
                "is the name of another limit: choose one of your own",
            );
        }
        let limit_name = key_name(key, &at, errors);
        let Some(mut map) = at.map(errors) else {
            continue;
        };
        let window = map.require("window", errors);
        let window = window.and_then(|at| quantity::read_window(&at, errors));
        if let Some(per) = map.take("per") {
            per.word(&[("principal", ())], errors);
        }
        map.finish(errors);
        if let (Some(name), Some((count, span))) = (limit_name, window) {
            let rule = Rule::new(RuleKind::Window, &at.path);
            windows.push(Rc::new(Window {
                name,
                count,
                span,
                rule,
            }));
        }
    }
    windows
}

fn read_routes(
    map: &mut Map<'_>,
    api: (&Name, &[Rc<Window>]),
    tiers: &Tiers,
    scopes: &mut Scopes,
    pause: Pause,
    errors: &mut Errors,
) -> Router {
    let mut router = Router::default();
    let entries = map
        .require("routes", errors)
        .and_then(|routes| routes.map(errors));
    for (key, at) in entries.into_iter().flat_map(Map::entries) {
        let Some((route, templates)) = route::read(key, &at, api, tiers, scopes, pause, errors)
        else {
            continue;
        };
        let costliest = route
            .body
            .iter()
            .flat_map(|body| &body.classes)
            .flat_map(|classes| &classes.classes);
        for class in costliest {
            for tier in tiers.values() {
                if tier
                    .bucket
                    .is_some_and(|bucket| bucket.burst() < class.cost)
                {
                    let message = format!(
                        "`{}` costs more than the burst of the tier `{}`: it could never pass",
                        class.name, tier.name
                    );
                    errors.push(&format!("{}.class.costs.{}", at.path, class.name), message);
                }
            }
        }
        let route = Rc::new(route);
        for at in templates {
            let inserted = at.string(errors).map(|text| {
                Template::parse(text).and_then(|template| router.insert(&template, &route))
            });
            if let Some(Err(error)) = inserted {
                errors.push(&at.path, error);
            }
        }
    }
    router
}
