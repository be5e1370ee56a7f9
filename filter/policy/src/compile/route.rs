//! Reading one of an API's `routes`.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::api::Shared;
use super::{comparison, domain, key_name, quantity, quota, schema, screen};
use crate::access::RouteDomains;
use crate::counter::Series;
use crate::enforcement::Enforcement;
use crate::entitlement::Spend;
use crate::key::{Scopes, Tiers};
use crate::limit::{Limit, Per};
use crate::node::Node;
use crate::policy::Pause;
use crate::reader::{At, Errors, Map};
use crate::record::{Rule, RuleKind};
use crate::route::{Access, BodyRule, Class, Classes, OnUnknown, Route, VerdictRule};
use crate::schema::{Field, Kind, Place};
use crate::screen::Screen;

pub(super) const DEFAULT_MAX_BODY: u64 = 64 * 1024;
pub(super) const LARGEST_MAX_BODY: u64 = 1024 * 1024;

/// Reads a route; returns it with its templates, unparsed
pub(super) fn read<'n>(
    key: &str,
    at: &At<'n>,
    shared: &Shared<'_>,
    limits: &[Rc<Limit>],
    scopes: &mut Scopes,
    pause: Pause,
    errors: &mut Errors,
) -> Option<(Route, Vec<At<'n>>)> {
    let route_name = key_name(key, at, errors);
    let mut map = at.map(errors)?;
    let templates = map
        .require("match", errors)
        .and_then(|at| at.strings(errors));
    let (bits, scope_names, scope_enforcement) = read_scopes(&mut map, scopes, errors);
    let (access, spends_tier, limits) = read_access(&mut map, limits, errors);
    let upgrades = map
        .take("upgrade")
        .and_then(|at| at.strings(errors))
        .unwrap_or_default();
    let upgrades: Vec<_> = upgrades
        .iter()
        .filter_map(|at| upgrade(at, errors))
        .collect();
    let query = schema::read_query(&mut map, shared.tiers, errors);
    let domains = domain::read_route(&mut map, shared.access, errors);
    let screens = screen::read_route(&mut map, &query, shared.has_threat, errors);
    let body = read_body(
        &mut map,
        shared.tiers,
        pause,
        domains.as_deref(),
        screens.body,
        errors,
    );
    let spend = quota::read_spend(&mut map, shared.tiers, errors);
    if let Some(spend) = &spend {
        check_spend(spend, access, body.is_some(), &at.path, errors);
    }
    let demands = bits != 0 || body.is_some() || !query.is_empty() || domains.is_some();
    if matches!(access, Access::Public { .. }) && demands {
        errors.push(
            &at.path,
            "a public route has no key: it takes no scope, domain, class, fields, verdict, query, page or screen of the body",
        );
    }
    if access == Access::Optional && bits != 0 {
        errors.push(
            &at.path,
            "callers without a key have no scope: write `auth: key`",
        );
    }
    // They have one name in common: what one of them is given, all would have.
    if access == Access::Optional && domains.is_some() {
        errors.push(
            &at.path,
            "callers without a key have no domains: write `auth: key`",
        );
    }
    if body.is_some() && !upgrades.is_empty() {
        errors.push(
            &at.path,
            "a route can't both read the body and allow an upgrade",
        );
    }
    if body.is_some() && pause == Pause::Body && limits.iter().any(|limit| limit.tags) {
        errors.push(
            &at.path,
            "with `pause: body` the headers are gone before a limit can tag them: write action: refuse",
        );
    }
    map.finish(errors);
    let route_name = route_name?;
    let route = Route {
        series: Series::of(shared.api, Some(&route_name)),
        name: route_name,
        rule: Rule::new(RuleKind::Route, &at.path),
        access,
        scopes: bits,
        scope_names,
        scope_enforcement,
        scope_rule: Rule::new(RuleKind::Scope, &format!("{}.scope", at.path)),
        spends_tier,
        limits,
        spend,
        upgrades,
        upgrade_rule: Rule::new(RuleKind::Upgrade, &format!("{}.upgrade", at.path)),
        query,
        screens: screens.head,
        body,
        domains,
    };
    Some((route, templates?))
}

/// Checks what a route spends against the rest of it
fn check_spend(spend: &Spend, access: Access, reads_body: bool, path: &str, errors: &mut Errors) {
    if matches!(access, Access::Public { .. }) {
        let message = "a public route has no principal that could spend a quota";
        errors.push(&format!("{path}.spend"), message);
    }
    if let (Some(idempotency), false) = (&spend.idempotency, reads_body) {
        let message =
            "binds a key to the body, and nothing reads the body: write fields, class or verdict";
        errors.push(&idempotency.rule.path, message);
    }
}

/// Reads `scope`: scopes, or `{all: scopes, mode: …}`
fn read_scopes(
    map: &mut Map<'_>,
    scopes: &mut Scopes,
    errors: &mut Errors,
) -> (u64, String, Enforcement) {
    let mut enforcement = Enforcement::ALWAYS;
    let list = map.take("scope").and_then(|scope| match scope.node {
        Node::Map(_) => {
            let mut map = scope.map(errors)?;
            let list = map.require("all", errors);
            enforcement = super::enforcement(&mut map, errors);
            map.finish(errors);
            list?.strings(errors)
        }
        _ => scope.strings(errors),
    });
    let list = list.unwrap_or_default();
    let mut bits = 0;
    let mut names = Vec::new();
    for at in &list {
        bits |= scopes.bit(at, errors);
        names.extend(at.string(errors));
    }
    (bits, names.join(" "), enforcement)
}

/// What a route spends
#[derive(Clone, Copy, Eq, PartialEq)]
enum Spends {
    Tier,
    Unauthenticated,
    /// One of the API's limits
    Limit(usize),
}

const AUTH: &[(&str, Access)] = &[
    ("key", Access::Key),
    ("none", Access::Public { charged: false }),
    ("optional", Access::Optional),
];

/// Reads `auth` and `limits`; a door is opened only by words that say so
fn read_access(
    map: &mut Map<'_>,
    limits: &[Rc<Limit>],
    errors: &mut Errors,
) -> (Access, bool, Vec<Rc<Limit>>) {
    let path = map.path.clone();
    let auth = map
        .take("auth")
        .and_then(|auth| auth.word(AUTH, errors))
        .unwrap_or(Access::Key);
    let list = map.take("limits").and_then(|at| {
        let mut words = alloc::vec![
            ("tier", Spends::Tier),
            ("unauthenticated", Spends::Unauthenticated),
        ];
        let numbered = limits.iter().enumerate();
        words.extend(numbered.map(|(n, limit)| (limit.name.as_str(), Spends::Limit(n))));
        let mut spent = Vec::new();
        for at in at.list(errors)? {
            let Some(spends) = at.word(&words, errors) else {
                continue;
            };
            if spent.contains(&spends) {
                errors.push(&at.path, "is named before: a request spends it once");
            }
            spent.push(spends);
        }
        Some((spent, at))
    });
    let is_keyed = matches!(auth, Access::Key | Access::Optional);
    let Some((spent, at)) = list else {
        if is_keyed {
            return (auth, true, Vec::new());
        }
        let message =
            "a public route must say what it spends: limits: [unauthenticated], or [] for nothing";
        errors.push(&path, message);
        return (Access::Public { charged: true }, false, Vec::new());
    };
    if auth == Access::Optional && spent != [Spends::Tier] {
        errors.push(
            &at.path,
            "a route that needs no key spends the tier and nothing else: write [tier]",
        );
    }
    if is_keyed && spent.contains(&Spends::Unauthenticated) {
        errors.push(
            &at.path,
            "a route that needs a key spends its tier: write [tier] or []",
        );
    }
    // Those that many principals share come first: what is spent before one refuses is taken back.
    let mut named: Vec<Rc<Limit>> = Vec::new();
    for spends in &spent {
        let Spends::Limit(n) = spends else { continue };
        let Some(limit) = limits.get(*n) else {
            continue;
        };
        match limit.per {
            Per::Principal => named.push(Rc::clone(limit)),
            Per::Api | Per::Client => named.insert(0, Rc::clone(limit)),
        }
    }
    let has_principal =
        spent.contains(&Spends::Tier) || named.iter().any(|limit| limit.per == Per::Principal);
    if !is_keyed && has_principal {
        errors.push(
            &at.path,
            "a public route has no principal: write [unauthenticated], limits per client or api, or []",
        );
    }
    let access = if is_keyed {
        auth
    } else {
        Access::Public {
            charged: spent.contains(&Spends::Unauthenticated),
        }
    };
    (access, spent.contains(&Spends::Tier), named)
}

fn upgrade(at: &At<'_>, errors: &mut Errors) -> Option<String> {
    let text = at.string(errors)?;
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if text.is_empty() || !text.bytes().all(good) {
        errors.push(&at.path, "must be a protocol such as websocket");
        return None;
    }
    Some(text.to_ascii_lowercase())
}

fn read_body(
    map: &mut Map<'_>,
    tiers: &Tiers,
    pause: Pause,
    domains: Option<&RouteDomains>,
    screens: Vec<Screen>,
    errors: &mut Errors,
) -> Option<BodyRule> {
    let path = map.path.clone();
    let size = map.take("body").map(|at| read_max(&at, errors));
    let fields = map
        .take("fields")
        .map(|at| schema::read_fields(&at, Place::Body, tiers, errors));
    let classes = map.take("class").map(|at| read_classes(&at, errors));
    let verdict = map.take("verdict").map(|at| {
        let classes = classes
            .iter()
            .flatten()
            .flat_map(|classes| &classes.classes);
        read_verdict(&at, &classes.collect::<Vec<_>>(), errors)
    });
    let annotate = map.take("annotate");
    let annotates = annotate
        .as_ref()
        .and_then(|at| at.word(&[("headers", true), ("none", false)], errors));
    let reads_domain = domains.is_some_and(RouteDomains::reads_body);
    let reads_other = reads_domain || !screens.is_empty();
    if fields.is_none() && classes.is_none() && verdict.is_none() && !reads_other {
        if size.is_some() {
            errors.push(
                &format!("{path}.body"),
                "nothing reads the body: write fields, class, verdict, or a domain or screen of the body",
            );
        }
        if let Some(annotate) = annotate {
            errors.push(
                &annotate.path,
                "there is nothing to annotate: write class, verdict or a screen of the body",
            );
        }
        return None;
    }
    let tags = screens.iter().any(|screen| !screen.tags.is_empty());
    let annotating = classes.is_some() || verdict.is_some() || tags;
    let annotates = annotates.unwrap_or(annotating);
    if annotates && pause == Pause::Body {
        let message =
            "with `pause: body` the headers are gone before the body is read: write annotate: none";
        errors.push(&path, message);
    }
    let mut fields = fields.unwrap_or_default();
    fields.extend(domain::body_fields(domains, &fields, errors));
    let verdict = verdict.flatten();
    if let Some(verdict) = &verdict {
        let is_target = |field: &Field| {
            field.name == verdict.field && matches!(field.kind, Kind::String(_)) && field.required
        };
        if !fields.iter().any(is_target) {
            let message = format!(
                "fields.{} must be declared as {{type: string, required: true}}",
                verdict.field
            );
            errors.push(&verdict.rule.path, message);
        }
    }
    Some(BodyRule {
        max: size
            .flatten()
            .and_then(|size| usize::try_from(size).ok())
            .unwrap_or(DEFAULT_MAX_BODY as usize),
        rule: Rule::new(RuleKind::Body, &format!("{path}.body")),
        fields,
        classes: classes.flatten(),
        verdict,
        screens,
        annotates,
    })
}

fn read_max(at: &At<'_>, errors: &mut Errors) -> Option<u64> {
    let mut map = at.map(errors)?;
    let max = map
        .require("max", errors)
        .and_then(|max| quantity::read_size(&max, LARGEST_MAX_BODY, errors));
    if let Some(larger) = map.take("larger") {
        larger.word(&[("refuse", ())], errors);
    }
    map.finish(errors);
    max
}

/// The name behind `body.`
fn body_field(at: &At<'_>, errors: &mut Errors) -> Option<String> {
    let name = at
        .string(errors)?
        .strip_prefix("body.")
        .filter(|name| !name.is_empty());
    if name.is_none() {
        errors.push(
            &at.path,
            "must name a field of the body, such as body.target",
        );
    }
    name.map(Into::into)
}

fn read_classes(at: &At<'_>, errors: &mut Errors) -> Option<Classes> {
    let mut map = at.map(errors)?;
    let field = map
        .require("from", errors)
        .and_then(|from| body_field(&from, errors));
    let mut classes = Vec::new();
    let costs = map
        .require("costs", errors)
        .and_then(|costs| costs.map(errors));
    for (key, at) in costs.into_iter().flat_map(Map::entries) {
        let name = key_name(key, &at, errors);
        let cost = at.integer(1..=1_000_000, errors);
        classes.extend(name.zip(cost).map(|(name, cost)| Class {
            name: name.as_str().into(),
            cost,
        }));
    }
    let absent = map.require("absent", errors).and_then(|at| {
        let text = at.string(errors)?;
        let class = classes.iter().find(|class| *class.name == *text).cloned();
        if class.is_none() {
            errors.push(&at.path, "must be one of the classes under costs");
        }
        class
    });
    map.finish(errors);
    let rule = Rule::new(RuleKind::Field, &format!("{}.from", at.path));
    Some(Classes {
        field: field?,
        absent: absent?,
        classes,
        rule,
    })
}

fn read_verdict(at: &At<'_>, classes: &[&Class], errors: &mut Errors) -> Option<VerdictRule> {
    let mut map = at.map(errors)?;
    let field = map
        .require("of", errors)
        .and_then(|of| body_field(&of, errors));
    let mut when = Vec::new();
    for at in map
        .take("when")
        .and_then(|when| when.strings(errors))
        .unwrap_or_default()
    {
        let class = classes
            .iter()
            .find(|class| matches!(at.node, Node::String(name) if **name == *class.name));
        match class {
            Some(class) => when.push(Rc::clone(&class.name)),
            None => {
                let known: Vec<_> = classes.iter().map(|class| class.name.to_string()).collect();
                errors.push(
                    &at.path,
                    format!("there is no such class; there are: {}", known.join(", ")),
                );
            }
        }
    }
    let words = &[
        ("answer", OnUnknown::Answer),
        ("forward", OnUnknown::Forward),
    ];
    let mut word = |name| map.take(name).and_then(|at| at.word(words, errors));
    let on_unknown = word("on_unknown").unwrap_or(OnUnknown::Answer);
    let stale = word("stale").unwrap_or(OnUnknown::Forward);
    let compare = comparison::read(map.take("compare").as_ref(), errors);
    let enforcement = super::enforcement(&mut map, errors);
    map.finish(errors);
    Some(VerdictRule {
        enforcement,
        field: field?,
        when,
        on_unknown,
        stale,
        compare,
        rule: Rule::new(RuleKind::Verdict, &at.path),
    })
}
