//! Reading what a policy says of access to domains.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use super::{key_name, quantity, service};
use crate::access::{DomainAccess, DomainFrom, DomainPlace, NO_ACCESS, RouteDomains, Unknown};
use crate::account::AccountKey;
use crate::enforcement::Enforcement;
use crate::format::{Format, Formats};
use crate::grants::Lives;
use crate::listing::{List, Next};
use crate::name::Name;
use crate::pointer::Pointer;
use crate::reader::{At, Errors, Map, join};
use crate::record::{Rule, RuleKind};
use crate::route::Route;
use crate::schema::{Field, Kind, Place, Text};
use crate::template::Template;
use crate::{domain, path};

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;
const UNKNOWN: &[(&str, Unknown)] = &[
    ("ask", Unknown::Ask),
    ("forward", Unknown::Forward),
    ("refuse", Unknown::Refuse),
];
const MILLISECOND: u64 = 1_000_000;
const SUBDOMAINS: &[(&str, bool)] = &[("exclude", false), ("include", true)];

/// Reads `domain_access` of an API
pub(super) fn read_access(
    at: &At<'_>,
    namespace: &str,
    errors: &mut Errors,
) -> Option<Rc<DomainAccess>> {
    let mut map = at.map(errors)?;
    let unknown = map.take("unknown");
    let unknown = unknown.and_then(|at| at.word(UNKNOWN, errors));
    let subdomains = map.take("subdomains");
    let subdomains = subdomains.and_then(|at| at.word(SUBDOMAINS, errors));
    let denied = map.take("denied");
    let denied = denied.and_then(|at| at.integer(403..=404, errors));
    let keep = map.take("keep");
    let keep = keep.and_then(|at| quantity::read_span(&at, SECOND..=366 * DAY, errors));
    let list = map.take("suffixes").and_then(|at| at.strings(errors));
    let mut suffixes = Vec::new();
    for at in list.unwrap_or_default() {
        suffixes.extend(read_name(&at, errors));
    }
    let list_at = map.take("list");
    let list = list_at
        .as_ref()
        .and_then(|at| read_list(at, namespace, errors));
    map.finish(errors);
    match (unknown, &list_at) {
        (Some(Unknown::Ask), None) => {
            errors.push(&at.path, "unknown: ask needs a list to ask for: write list");
        }
        (None | Some(Unknown::Forward | Unknown::Refuse), Some(list)) => {
            errors.push(&list.path, "is never asked for: write unknown: ask");
        }
        _ => {}
    }
    let (list, listed, denied_for) = match list {
        Some((list, listed, denied_for)) => (Some(list), listed, denied_for),
        None => (None, 0, 0),
    };
    let granted = keep.unwrap_or(DAY);
    Some(Rc::new(DomainAccess {
        includes_subdomains: subdomains.unwrap_or(false),
        // Omission opens no door.
        unknown: unknown.unwrap_or(Unknown::Refuse),
        hides: denied == Some(404),
        lives: Lives {
            granted,
            listed,
            denied: denied_for,
            asks: unknown == Some(Unknown::Ask),
        },
        suffixes,
        unknown_rule: Rule::new(RuleKind::Domain, &join(&at.path, "unknown")),
        list,
    }))
}

/// Reads `list`: where the upstream lists the domains of a caller; how long it is believed, and how long
/// that it does not name a domain
fn read_list(at: &At<'_>, namespace: &str, errors: &mut Errors) -> Option<(List, u64, u64)> {
    let mut map = at.map(errors)?;
    let cluster = map.require("cluster", errors);
    let cluster = cluster.and_then(|at| service::cluster(&at, errors));
    let path = map.require("path", errors);
    let path = path.and_then(|at| {
        let text = at.string(errors)?;
        let checked = path::check(text.as_bytes());
        let good = checked.is_some_and(|path| path.encoded == 0 && path.query.is_none());
        if !good {
            errors.push(&at.path, "must be a plain absolute path without a query");
        }
        good.then_some(text)
    });
    let authority = map.take("authority");
    let authority = authority.and_then(|at| service::authority(&at, errors));
    if let Some(whose) = map.require("as", errors) {
        whose.word(&[("caller", ())], errors);
    }
    let next = read_next(&mut map, errors);
    let away = map.take("unavailable");
    let away = away.and_then(|at| at.word(&[("forward", true), ("refuse", false)], errors));
    let mut span = |name, range, default| {
        let read = map
            .take(name)
            .map(|at| quantity::read_span(&at, range, errors));
        read.map_or(Some(default), |read| read)
    };
    let timeout = span("timeout", 10 * MILLISECOND..=10 * SECOND, 500 * MILLISECOND);
    let listed = span("cache", SECOND..=DAY, 300 * SECOND);
    let denied = span("cache_misses", SECOND..=3600 * SECOND, 10 * SECOND);
    map.finish(errors);
    let (cluster, path) = (cluster?, path?);
    let list = List {
        id: AccountKey::hash(&[
            b"list",
            namespace.as_bytes(),
            cluster.as_bytes(),
            path.as_bytes(),
        ]),
        authority: authority.unwrap_or_else(|| cluster.into()),
        cluster: cluster.into(),
        path: path.into(),
        next,
        timeout: u32::try_from(timeout?.checked_div(MILLISECOND)?).ok()?,
        forwards_without: away.unwrap_or(false),
        unavailable_rule: Rule::new(RuleKind::Domain, &join(&at.path, "unavailable")),
    };
    Some((list, listed?, denied?))
}

/// Reads `next` and `cursor` of a list: where a page names the one behind it, and the parameter that takes that
fn read_next(map: &mut Map<'_>, errors: &mut Errors) -> Option<Next> {
    let (next, cursor) = (map.take("next"), map.take("cursor"));
    let Some(next) = next else {
        if let Some(cursor) = cursor {
            errors.push(&cursor.path, "names what is never asked for: write next");
        }
        return None;
    };
    let parameter = match &cursor {
        None => Name::parse("cursor").ok(),
        Some(at) => at.string(errors).and_then(|text| {
            let name = text.strip_prefix("query.");
            let name = name.and_then(|name| Name::parse(name).ok());
            let name = name.filter(|name| name.as_str() != "per_page");
            if name.is_none() {
                errors.push(&at.path, "must name a parameter, such as query.cursor");
            }
            name
        }),
    };
    let text = next.string(errors)?;
    let pointer = Pointer::parse(text).filter(|_| !text.is_empty());
    if pointer.is_none() {
        let message = "must be a JSON pointer to the cursor of the next page, such as /next_cursor";
        errors.push(&next.path, message);
    }
    Some(Next {
        pointer: pointer?,
        parameter: parameter?,
    })
}

/// Reads `domain`, `grants` and `revokes` of a route; what stands in the body becomes a field that is
/// inspected
pub(super) fn read_route(
    map: &mut Map<'_>,
    access: Option<&Rc<DomainAccess>>,
    errors: &mut Errors,
) -> Option<Box<RouteDomains>> {
    let mut read = |name, errors: &mut Errors| {
        let at = map.take(name)?;
        if access.is_none() {
            errors.push(&at.path, NO_ACCESS);
        }
        read_place(&at, errors)
    };
    let needed = read("domain", errors);
    let granted = read("grants", errors);
    let revoked = read("revokes", errors);
    let places = [&needed, &granted, &revoked];
    if places.iter().all(|place| place.is_none()) {
        return None;
    }
    if let (Some(granted), Some(revoked)) = (&granted, &revoked)
        && granted.name == revoked.name
    {
        errors.push(&revoked.rule.path, "is granted by the same success");
    }
    Some(Box::new(RouteDomains {
        access: Rc::clone(access?),
        needed,
        granted,
        revoked,
    }))
}

/// The fields of a body that hold domains and that the policy does not declare
pub(super) fn body_fields(
    domains: Option<&RouteDomains>,
    declared: &[Field],
    errors: &mut Errors,
) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for place in domains.into_iter().flat_map(RouteDomains::places) {
        let DomainFrom::Body(name) = &place.from else {
            continue;
        };
        let known = declared.iter();
        match known.chain(&fields).find(|field| field.name == *name) {
            None => fields.push(field(name, Place::Body, &place.rule)),
            // One that does not bind could be missing, and nothing would be judged.
            Some(field)
                if matches!(field.kind, Kind::String(_))
                    && field.required
                    && field.enforcement == Enforcement::ALWAYS => {}
            Some(_) => {
                let message = format!(
                    "fields.{name} must be declared as {{type: string, required: true}}, without a mode"
                );
                errors.push(&place.rule.path, message);
            }
        }
    }
    fields
}

/// Finds the segments of the path that hold domains
pub(super) fn resolve(route: &mut Route, templates: &[(&At<'_>, Template)], errors: &mut Errors) {
    if templates.is_empty() {
        return;
    }
    let places = route.domains.as_deref_mut().map(RouteDomains::places_mut);
    for place in places.into_iter().flatten() {
        let (DomainFrom::Path(index), Some(name)) =
            (&mut place.from, place.name.strip_prefix("path."))
        else {
            continue;
        };
        let mut found = templates
            .iter()
            .map(|(_, template)| template.segment_of(name));
        let first = found.next().flatten();
        match first {
            None => {
                let message = format!("the path of the route has no parameter `{{{name}}}`");
                errors.push(&place.rule.path, message);
            }
            Some(_) if found.any(|other| other != first) => {
                let message = "stands in different places of the route's paths: write two routes";
                errors.push(&place.rule.path, message);
            }
            Some(first) => *index = first,
        }
    }
}

fn read_name(at: &At<'_>, errors: &mut Errors) -> Option<String> {
    let parsed = domain::parse(at.string(errors)?);
    parsed
        .map_err(|problem| errors.push(&at.path, problem))
        .ok()
}

fn read_place(at: &At<'_>, errors: &mut Errors) -> Option<DomainPlace> {
    let text = at.string(errors)?;
    let rule = Rule::new(RuleKind::Domain, &at.path);
    let from = match text.split_once('.') {
        Some(("path", name)) if !name.is_empty() => DomainFrom::Path(0),
        Some(("query", name)) if !name.is_empty() => {
            key_name(name, at, errors);
            DomainFrom::Query(Box::new(field(name, Place::Query, &rule)))
        }
        Some(("body", name)) if !name.is_empty() => DomainFrom::Body(name.into()),
        _ => {
            let message = "must say where the domain stands, such as path.domain, query.domain or body.domain";
            errors.push(&at.path, message);
            return None;
        }
    };
    let name = text.into();
    Some(DomainPlace { from, name, rule })
}

/// A parameter that holds a domain
fn field(name: &str, place: Place, rule: &Rc<Rule>) -> Field {
    Field {
        place,
        name: name.into(),
        kind: Kind::String(Text {
            one_of: Vec::new(),
            formats: Some(Formats {
                formats: [Format::Domain].into(),
                refuses_private: false,
                max_addresses: None,
            }),
        }),
        required: true,
        max_length: None,
        enforcement: Enforcement::ALWAYS,
        gates: Vec::new(),
        gate_rule: Rc::clone(rule),
        rule: Rc::clone(rule),
    }
}

impl RouteDomains {
    fn places(&self) -> impl Iterator<Item = &DomainPlace> {
        let places = [&self.needed, &self.granted, &self.revoked];
        places.into_iter().flatten()
    }

    fn places_mut(&mut self) -> impl Iterator<Item = &mut DomainPlace> {
        let places = [&mut self.needed, &mut self.granted, &mut self.revoked];
        places.into_iter().flatten()
    }

    /// Whether a domain stands in the body
    pub(super) fn reads_body(&self) -> bool {
        self.places()
            .any(|place| matches!(place.from, DomainFrom::Body(_)))
    }
}
