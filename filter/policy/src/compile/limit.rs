//! Reading `limits` of an API, and how clients are told of them.

use alloc::rc::Rc;
use alloc::vec::Vec;

use super::api::Context;
use super::{key_name, quantity};
use crate::account::AccountKey;
use crate::limit::{Kind, Limit, Per};
use crate::name::Name;
use crate::rate::Telling;
use crate::reader::{At, Errors, Map};
use crate::record::{Rule, RuleKind};
use crate::slots::Slots;
use crate::window::Window;

/// Reads `limits`, which routes spend by their names
pub(super) fn read(
    map: &mut Map<'_>,
    api: &Name,
    context: &Context<'_>,
    errors: &mut Errors,
) -> Vec<Rc<Limit>> {
    let entries = map.take("limits").and_then(|limits| limits.map(errors));
    let mut limits = Vec::new();
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
        let kind = read_kind(&mut map, context.replicas, errors);
        let per = map.take("per").and_then(|per| per.word(PERS, errors));
        let tags = map
            .take("action")
            .and_then(|at| at.word(&[("refuse", false), ("tag", true)], errors));
        let enforcement = super::enforcement(&mut map, errors);
        map.finish(errors);
        if let (Some(name), Some(kind)) = (limit_name, kind) {
            let table = AccountKey::of_limit(context.namespace, api.as_str(), name.as_str());
            limits.push(Rc::new(Limit {
                name,
                per: per.unwrap_or(Per::Principal),
                kind,
                tags: tags.unwrap_or(false),
                enforcement,
                table,
                rule: Rule::new(RuleKind::Limit, &at.path),
            }));
        }
    }
    limits
}

const PERS: &[(&str, Per)] = &[
    ("api", Per::Api),
    ("client", Per::Client),
    ("principal", Per::Principal),
];

/// Reads what is limited: exactly one of `rate`, `window` and `concurrency`
fn read_kind(map: &mut Map<'_>, replicas: u64, errors: &mut Errors) -> Option<Kind> {
    let path = map.path.clone();
    let window = map.take("window");
    let concurrency = map.take("concurrency");
    let expires = map.take("expires");
    let rate = map.take("rate");
    let burst = map.take("burst");
    let kinds = [&window, &concurrency, &rate];
    if kinds.into_iter().flatten().count() != 1 {
        errors.push(&path, "must say one of rate, window and concurrency");
        return None;
    }
    if let (Some(expires), None) = (&expires, &concurrency) {
        errors.push(&expires.path, "belongs to concurrency");
    }
    if let (Some(burst), None) = (&burst, &rate) {
        errors.push(&burst.path, "belongs to a rate");
    }
    if let Some(at) = window {
        let (count, span) = quantity::read_window(&at, errors)?;
        let count = quantity::divide(count, replicas, &at, errors)?;
        return Some(Kind::Window(Window { count, span }));
    }
    if let Some(at) = concurrency {
        let cap = at.integer(1..=Slots::MAX_CAP, errors);
        let cap = cap.and_then(|cap| quantity::divide(cap, replicas, &at, errors));
        let Some(expires) = expires else {
            errors.push(
                &path,
                "needs expires: after which time a slot is free whose request is not known to have ended",
            );
            return None;
        };
        let range = 1_000_000_000..=Slots::MAX_EXPIRES;
        let expires = quantity::read_span(&expires, range, errors)?;
        return Some(Kind::Slots(Slots { cap: cap?, expires }));
    }
    let bucket = quantity::read_bucket(map, replicas, errors)?;
    if bucket.is_none() {
        errors.push(&path, "limits nothing: write a rate");
    }
    bucket.map(Kind::Rate)
}

/// Reads `rate_headers`: how clients are told of limits
pub(super) fn read_telling(at: &At<'_>, errors: &mut Errors) -> Telling {
    let mut telling = Telling::default();
    let Some(mut map) = at.map(errors) else {
        return telling;
    };
    let upstream = map.take("upstream");
    let upstream = upstream.and_then(|at| at.word(&[("merge", true), ("replace", false)], errors));
    telling.merges = upstream.unwrap_or(false);
    let add = map.take("add").and_then(|add| add.strings(errors));
    for at in add.unwrap_or_default() {
        match at.word(&[("ratelimit", true), ("wait", false)], errors) {
            Some(true) => telling.ietf = true,
            Some(false) => telling.wait = true,
            None => {}
        }
    }
    map.finish(errors);
    telling
}
