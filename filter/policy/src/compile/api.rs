//! Reading one of `apis`.

use alloc::collections::BTreeMap;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Variables, domain, key_name, keys, limit, quantity, quota, route, service};
use crate::access::DomainAccess;
use crate::counter::Series;
use crate::host;
use crate::key::{Exception, Scopes, Tiers};
use crate::limit::{Kind, Limit, Per};
use crate::name::Name;
use crate::policy::{Api, Pause, Tier};
use crate::reader::{At, Errors, Map, join};
use crate::record::{Rule, RuleKind};
use crate::reply::Dialect;
use crate::route::Access;
use crate::screen::Screened;
use crate::template::{Router, Template};

/// What an API needs to know of the rest of the policy
pub(super) struct Context<'a> {
    pub(super) namespace: &'a str,
    pub(super) revoked: Rc<BTreeSet<Name>>,
    /// Keys whose callers may ask why
    pub(super) explained: Rc<BTreeSet<Name>>,
    pub(super) exceptions: &'a [Rc<Exception>],
    pub(super) variable: &'a Variables<'a>,
    pub(super) pause: Pause,
    /// Among how many hosts rates are divided
    pub(super) replicas: u64,
    /// Whether there is something to judge targets by
    pub(super) has_threat: bool,
}

/// What the routes of an API refer to
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    pub(super) api: &'a Name,
    pub(super) tiers: &'a Tiers,
    pub(super) access: Option<&'a Rc<DomainAccess>>,
    pub(super) has_threat: bool,
}

/// The routes of an API, and what they need of it
#[derive(Default)]
struct Routes {
    router: Router,
    spends_quotas: bool,
    kept_headers: Vec<String>,
    counts_clients: bool,
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
    let tiers = read_tiers(&mut map, context.replicas, errors);
    let telling = map
        .take("rate_headers")
        .map(|at| limit::read_telling(&at, errors))
        .unwrap_or_default();
    let mut scopes = Scopes::default();
    let api_name = api_name?;
    let access = map.take("domain_access");
    let access = access.and_then(|at| domain::read_access(&at, context.namespace, errors));
    let shared = Shared {
        api: &api_name,
        tiers: &tiers,
        access: access.as_ref(),
        has_threat: context.has_threat,
    };
    let keys_at = map.require("keys", errors);
    let mut terms = keys::terms(&shared, &at.path, context);
    let own = keys::read(
        keys_at.as_ref(),
        &mut terms,
        &mut scopes,
        context.variable,
        errors,
    );
    let anonymous = map
        .take("anonymous")
        .and_then(|at| keys::read_anonymous(&at, &terms, errors));
    let limits = limit::read(&mut map, &api_name, context, errors);
    let routes = read_routes(
        &mut map,
        &shared,
        &limits,
        anonymous.is_some(),
        &mut scopes,
        context.pause,
        errors,
    );
    terms.scopes = scopes;
    let terms = Rc::new(terms);
    let seed = own
        .seed
        .and_then(|seed| keys::read_seed(&seed, &terms, errors));
    let lookup = own
        .lookup
        .and_then(|at| service::read_lookup(&at, &terms, errors));
    let rule = |kind, part: &str| Rule::new(kind, &format!("{}.{part}", at.path));
    map.finish(errors);
    let api = Api {
        anonymous,
        dialect: dialect.unwrap_or(Dialect::Problem),
        keys: own.inline,
        source: own.source,
        lookup,
        seed,
        terms,
        strips_credential: strips_credential.unwrap_or(true),
        tells_identity: tells_identity.unwrap_or(true),
        forwards_preflight: preflight.unwrap_or(false),
        forwards_unmatched: unmatched.unwrap_or(false),
        router: routes.router,
        spends_quotas: routes.spends_quotas,
        kept_headers: routes.kept_headers,
        credential_rule: rule(RuleKind::Credential, "keys"),
        preflight_rule: rule(RuleKind::Preflight, "preflight"),
        unmatched_rule: rule(RuleKind::Unmatched, "unmatched"),
        series: Series::of(&api_name, None),
        telling,
        counts_clients: routes.counts_clients
            || limits.iter().any(|limit| limit.per == Per::Client),
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

fn read_tiers(map: &mut Map<'_>, replicas: u64, errors: &mut Errors) -> BTreeMap<Name, Rc<Tier>> {
    let mut tiers = BTreeMap::new();
    let entries = map
        .require("tiers", errors)
        .and_then(|tiers| tiers.map(errors));
    for (key, at) in entries.into_iter().flat_map(Map::entries) {
        let tier_name = key_name(key, &at, errors);
        let Some(mut map) = at.map(errors) else {
            continue;
        };
        let bucket = quantity::read_bucket(&mut map, replicas, errors)
            .map(|bucket| quantity::read_queue(&mut map, bucket, errors));
        let enforcement = super::enforcement(&mut map, errors);
        let quotas = quota::read_tier(&mut map, errors);
        map.finish(errors);
        if let (Some(name), Some(bucket)) = (tier_name, bucket) {
            let rule = Rule::new(RuleKind::Tier, &format!("{}.rate", at.path));
            tiers.insert(
                name.clone(),
                Rc::new(Tier {
                    name,
                    bucket,
                    enforcement,
                    rule,
                    quotas,
                }),
            );
        }
    }
    tiers
}

fn read_routes(
    map: &mut Map<'_>,
    shared: &Shared<'_>,
    limits: &[Rc<Limit>],
    has_anonymous: bool,
    scopes: &mut Scopes,
    pause: Pause,
    errors: &mut Errors,
) -> Routes {
    let mut routes = Routes::default();
    let entries = map
        .require("routes", errors)
        .and_then(|routes| routes.map(errors));
    for (key, at) in entries.into_iter().flat_map(Map::entries) {
        let Some((mut route, templates)) =
            route::read(key, &at, shared, limits, scopes, pause, errors)
        else {
            continue;
        };
        if route.access == Access::Optional && !has_anonymous {
            errors.push(
                &join(&at.path, "auth"),
                "needs a tier for callers without a key: write `anonymous` in the API",
            );
        }
        let costliest = route
            .body
            .iter()
            .flat_map(|body| &body.classes)
            .flat_map(|classes| &classes.classes);
        for class in costliest {
            for tier in shared.tiers.values().filter(|_| route.spends_tier) {
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
            for limit in &route.limits {
                if let Kind::Rate(bucket) = limit.kind
                    && bucket.burst() < class.cost
                {
                    let message = format!(
                        "`{}` costs more than the burst of the limit `{}`: it could never pass",
                        class.name, limit.name
                    );
                    errors.push(&format!("{}.class.costs.{}", at.path, class.name), message);
                }
            }
        }
        if let Some(spend) = &route.spend {
            routes.spends_quotas = true;
            let idempotency = spend.idempotency.as_ref();
            let header = idempotency.map(|rule| rule.header.clone());
            routes.kept_headers.extend(header);
        }
        let is_public = matches!(route.access, Access::Public { .. });
        for screen in &route.screens {
            match &screen.of {
                Screened::Header(name) => routes.kept_headers.push(name.clone()),
                Screened::Client => routes.counts_clients = true,
                _ => {}
            }
            // Who asks is an address where there is no principal.
            routes.counts_clients |= is_public && screen.enforcement.is_partial();
        }
        let mut parsed = Vec::with_capacity(templates.len());
        for at in &templates {
            match at.string(errors).map(Template::parse) {
                Some(Ok(template)) => parsed.push((at, template)),
                Some(Err(error)) => errors.push(&at.path, error),
                None => {}
            }
        }
        domain::resolve(&mut route, &parsed, errors);
        let route = Rc::new(route);
        for (at, template) in &parsed {
            if let Err(error) = routes.router.insert(template, &route) {
                errors.push(&at.path, error);
            }
        }
    }
    routes
}
