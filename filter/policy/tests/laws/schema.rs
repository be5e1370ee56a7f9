//! The fields and words of the document.

use std::collections::BTreeSet;

use portcullis_policy::Policy;
use serde_json::{Value, json};

use crate::configuration::everything;

/// The places of all maps in a document, as JSON pointers
fn maps(value: &Value, pointer: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.push(pointer.to_owned());
            for (key, value) in map {
                maps(value, &format!("{pointer}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                maps(item, &format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// The places of all strings
fn strings(value: &Value, pointer: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                strings(value, &format!("{pointer}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                strings(item, &format!("{pointer}/{index}"), found);
            }
        }
        Value::String(_) => found.push(pointer.to_owned()),
        _ => {}
    }
}

/// A pointer as the dotted path of an error
fn path(pointer: &str) -> String {
    let mut path = String::new();
    for step in pointer.split('/').skip(1) {
        if step.bytes().all(|byte| byte.is_ascii_digit()) {
            path += &format!("[{step}]");
        } else {
            path += if path.is_empty() { "" } else { "." };
            path += step;
        }
    }
    path
}

fn messages(document: &Value, path: &str) -> Vec<String> {
    let Err(errors) = Policy::parse(&serde_json::to_vec(document).unwrap(), "main") else {
        return Vec::new();
    };
    errors
        .into_iter()
        .filter(|error| error.path == path)
        .map(|error| error.message)
        .collect()
}

#[test]
fn an_unknown_field_is_refused_with_its_path_wherever_it_stands() {
    let document = everything();
    let mut places = Vec::new();
    maps(&document, "", &mut places);
    assert!(places.len() > 25);
    for place in places {
        let mut document = document.clone();
        document.pointer_mut(&place).unwrap()["zzz"] = Value::Null;
        let at = path(&format!("{place}/zzz"));
        assert!(!messages(&document, &at).is_empty(), "{at}");
    }
}

#[test]
fn what_is_not_built_yet_is_refused_with_its_path() {
    for (place, field, value) in [
        ("/record/sample", "observed", json!("100%")),
        ("/apis/shop/routes/items", "mode", json!("shadow")),
        (
            "/apis/shop/routes/analyze/fields/target",
            "default",
            json!("x"),
        ),
        (
            "/apis/shop/routes/analyze/fields/metadata",
            "fields",
            json!({}),
        ),
    ] {
        let mut document = everything();
        document.pointer_mut(place).unwrap()[field] = value;
        let at = path(&format!("{place}/{field}"));
        let messages = messages(&document, &at);
        assert!(
            messages
                .iter()
                .any(|message| message.starts_with("unknown field")),
            "{at}: {messages:?}"
        );
    }
    for (place, value) in [
        (
            "/apis/shop/keys",
            json!({ "bundle": { "path": "/b", "seed": "" } }),
        ),
        (
            "/apis/shop/routes/analyze/body/larger",
            json!({ "forward_as": "deep" }),
        ),
        (
            "/apis/shop/routes/analyze/fields/target/type",
            json!("number"),
        ),
    ] {
        let mut document = everything();
        *document.pointer_mut(place).unwrap() = value;
        let text = serde_json::to_vec(&document).unwrap();
        let errors = Policy::parse(&text, "main").unwrap_err();
        assert!(
            errors
                .iter()
                .any(|error| error.path.starts_with(&path(place))),
            "{place}: {errors:?}"
        );
    }
}

/// What a policy says of parameters is refused where it contradicts itself
#[test]
fn contradictions_of_a_schema_are_refused_with_their_path() {
    let routes = "/apis/shop/routes";
    for (place, value, at, message) in [
        (
            "scan/fields/urgent",
            json!({}),
            "scan.fields.urgent.type",
            "is required",
        ),
        (
            "scan/fields/urgent",
            json!({ "type": "float" }),
            "scan.fields.urgent.type",
            "must be one of",
        ),
        (
            "scan/fields/urgent",
            json!({ "type": "boolean", "max": 3 }),
            "scan.fields.urgent.max",
            "belongs to the type: integer",
        ),
        (
            "scan/fields/urgent",
            json!({ "type": "array" }),
            "scan.fields.urgent",
            "write each",
        ),
        (
            "scan/fields/urgent",
            json!({ "type": "string", "each": "cidr" }),
            "scan.fields.urgent.each",
            "belongs to the type: array",
        ),
        (
            "scan/fields/urgent",
            json!({ "type": "integer", "min": 3, "max": 2 }),
            "scan.fields.urgent",
            "least that is above",
        ),
        (
            "scan/fields/urgent",
            json!({ "type": "integer", "min": 0.5 }),
            "scan.fields.urgent.min",
            "a whole number",
        ),
        (
            "scan/fields/urgent",
            json!({ "each": [] }),
            "scan.fields.urgent.each",
            "at least one",
        ),
        (
            "scan/fields/urgent",
            json!({ "each": ["string", "cidr"] }),
            "scan.fields.urgent",
            "write it alone",
        ),
        (
            "scan/fields/urgent",
            json!({ "each": "cidr", "min_items": 300 }),
            "scan.fields.urgent",
            "least that is above",
        ),
        (
            "scan/fields/urgent",
            json!({ "each": "cidr", "max_items": 10_001 }),
            "scan.fields.urgent.max_items",
            "to 10000",
        ),
        (
            "scan/fields/urgent",
            json!({ "each": "arn", "private_ranges": "allow" }),
            "scan.fields.urgent",
            "for the formats",
        ),
        (
            "scan/fields/urgent",
            json!({ "each": "cidr", "private_ranges": "warn" }),
            "scan.fields.urgent.private_ranges",
            "must be one of",
        ),
        (
            "scan/fields/urgent",
            json!({ "each": "cidr", "max_addresses": 0 }),
            "scan.fields.urgent.max_addresses",
            "from 1",
        ),
        (
            "scan/fields/urgent",
            json!({ "one_of": ["a"], "format": "cidr" }),
            "scan.fields.urgent",
            "not both",
        ),
        (
            "scan/fields/urgent",
            json!({ "one_of": [] }),
            "scan.fields.urgent.one_of",
            "at least one",
        ),
        (
            "scan/fields/urgent",
            json!({ "one_of": ["a", "a"] }),
            "scan.fields.urgent.one_of[1]",
            "twice",
        ),
        (
            "scan/fields/profile/tiers",
            json!({ "soft": ["metered"] }),
            "scan.fields.profile.tiers.soft",
            "under one_of",
        ),
        (
            "scan/fields/profile/tiers",
            json!({ "hard": ["gold"] }),
            "scan.fields.profile.tiers.hard[0]",
            "no such tier",
        ),
        (
            "scan/fields/profile/tiers",
            json!({ "hard": [] }),
            "scan.fields.profile.tiers.hard",
            "at least one tier",
        ),
        (
            "scan/fields/token",
            json!({ "type": "opaque", "tiers": {} }),
            "scan.fields.token.tiers",
            "belongs to the type: string",
        ),
        (
            "list/query/since",
            json!({ "type": "object" }),
            "list.query.since",
            "no list and no object",
        ),
        (
            "list/query/since",
            json!({ "each": "cidr" }),
            "list.query.since",
            "no list and no object",
        ),
        (
            "list/query",
            json!({ "per_page": { "type": "integer" } }),
            "list.query.per_page",
            "another rule reads",
        ),
        (
            "list/query",
            json!({ "a b": { "type": "string" } }),
            "list.query.a b",
            "is not a name",
        ),
        (
            "list/page",
            json!({ "per_page": 50 }),
            "list.page",
            "write max",
        ),
        (
            "list/page",
            json!({ "per_page": 50, "max": 20 }),
            "list.page.per_page",
            "from 1 to 20",
        ),
        (
            "list/page",
            json!({ "max": 20, "max_length": 9 }),
            "list.page",
            "only a cursor",
        ),
        (
            "list/page",
            json!({ "max": 20, "sort_by": [] }),
            "list.page.sort_by",
            "at least one",
        ),
        (
            "log/page",
            json!({ "cursor": "cursor" }),
            "log.page.cursor",
            "such as query.cursor",
        ),
        (
            "log/page",
            json!({ "cursor": "query.sort_by", "sort_by": ["a"] }),
            "log.page",
            "another rule reads",
        ),
        (
            "hook",
            json!({ "match": "POST /hook", "auth": "none", "limits": [], "page": { "max": 5 } }),
            "hook",
            "a public route",
        ),
    ] {
        let mut document = everything();
        *document
            .pointer_mut(&format!("{routes}/{place}"))
            .expect(place) = value;
        let at = format!("apis.shop.routes.{at}");
        let found = messages(&document, &at);
        assert!(
            found.iter().any(|found| found.contains(message)),
            "{at}: {found:?}"
        );
    }
}

/// YAML 1.1 reads `on`, `no`, `y` and others as booleans, so nothing of ours may be called that
#[test]
fn no_field_and_no_word_is_a_boolean_of_yaml() {
    let document = everything();
    let mut vocabulary = BTreeSet::new();
    let mut learn = |message: &str, before: &str| {
        if let Some((_, list)) = message.split_once(before) {
            vocabulary.extend(list.split(", ").map(str::to_owned));
        }
    };
    let mut places = Vec::new();
    maps(&document, "", &mut places);
    for place in places {
        let mut document = document.clone();
        document.pointer_mut(&place).unwrap()["zzz"] = Value::Null;
        for message in messages(&document, &path(&format!("{place}/zzz"))) {
            learn(&message, "known here: ");
        }
    }
    let mut places = Vec::new();
    strings(&document, "", &mut places);
    for place in places {
        let mut document = document.clone();
        *document.pointer_mut(&place).unwrap() = "zzz".into();
        for message in messages(&document, &path(&place)) {
            learn(&message, "must be one of: ");
        }
    }
    for known in [
        "version",
        "on_unknown",
        "larger",
        "refuse",
        "none",
        "cyborux",
        "malware",
        "disabled",
    ] {
        assert!(vocabulary.contains(known), "{known} was not found");
    }
    assert!(vocabulary.len() > 70, "{vocabulary:?}");
    for word in vocabulary {
        let lower = word.to_lowercase();
        let booleans = [
            "y", "n", "yes", "no", "true", "false", "on", "off", "null", "~",
        ];
        assert!(!booleans.contains(&lower.as_str()), "{word}");
        assert!(word.parse::<f64>().is_err(), "{word} is a number");
    }
}

/// Lists of domains are refused where they can't be asked for, or read
#[test]
fn contradictions_of_lists_are_refused_with_their_path() {
    let access = "apis.shop.domain_access";
    let pointer = "must be a JSON pointer to the cursor of the next page";
    let parameter = "must name a parameter, such as query.cursor";
    for (more, error) in [
        (
            json!({ "next": "next" }),
            format!("{access}.list.next: {pointer}"),
        ),
        (
            json!({ "next": "" }),
            format!("{access}.list.next: {pointer}"),
        ),
        (
            json!({ "next": "/a~2b" }),
            format!("{access}.list.next: {pointer}"),
        ),
        (
            json!({ "next": 7 }),
            format!("{access}.list.next: must be a string"),
        ),
        (
            json!({ "cursor": "query.after" }),
            format!("{access}.list.cursor: names what is never asked for: write next"),
        ),
        (
            json!({ "next": "/next", "cursor": "after" }),
            format!("{access}.list.cursor: {parameter}"),
        ),
        (
            json!({ "next": "/next", "cursor": "query.a b" }),
            format!("{access}.list.cursor: {parameter}"),
        ),
        (
            json!({ "next": "/next", "cursor": "query.per_page" }),
            format!("{access}.list.cursor: {parameter}"),
        ),
        (
            json!({ "path": "/domains?all=1" }),
            format!("{access}.list.path: must be a plain absolute path without a query"),
        ),
        (
            json!({ "as": "gate" }),
            format!("{access}.list.as: must be one of: caller"),
        ),
    ] {
        let mut document = everything();
        let list = document.pointer_mut("/apis/shop/domain_access/list");
        let list = list.unwrap().as_object_mut().unwrap();
        for name in ["next", "cursor"] {
            list.remove(name);
        }
        list.extend(more.as_object().unwrap().clone());
        let text = serde_json::to_vec(&document).unwrap();
        let errors = Policy::parse(&text, "main").unwrap_err();
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(
            errors.iter().any(|found| found.starts_with(&error)),
            "{error}: {errors:?}"
        );
    }
    for (access, error) in [
        (
            json!({ "unknown": "ask" }),
            "apis.shop.domain_access: unknown: ask needs a list",
        ),
        (
            json!({ "list": { "cluster": "c", "path": "/d", "as": "caller" } }),
            "apis.shop.domain_access.list: is never asked for",
        ),
    ] {
        let mut document = everything();
        document["apis"]["shop"]["domain_access"] = access;
        let text = serde_json::to_vec(&document).unwrap();
        let errors = Policy::parse(&text, "main").unwrap_err();
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(
            errors.iter().any(|found| found.starts_with(error)),
            "{error}: {errors:?}"
        );
    }
}

/// Limits and how they are told are refused where they can't be kept
#[test]
fn contradictions_of_limits_are_refused_with_their_path() {
    let limits = "/apis/shop/limits";
    for (place, value, error) in [
        (
            limits,
            json!({ "a": {} }),
            "apis.shop.limits.a: must say one of",
        ),
        (
            limits,
            json!({ "a": { "rate": "1/min", "window": "5 in 60s" } }),
            "apis.shop.limits.a: must say one of",
        ),
        (
            limits,
            json!({ "a": { "window": "5 in 60s", "burst": 5 } }),
            "apis.shop.limits.a.burst: belongs to a rate",
        ),
        (
            limits,
            json!({ "a": { "rate": "1/min", "expires": "60s" } }),
            "apis.shop.limits.a.expires: belongs to concurrency",
        ),
        (
            limits,
            json!({ "a": { "concurrency": 5 } }),
            "apis.shop.limits.a: needs expires",
        ),
        (
            limits,
            json!({ "a": { "concurrency": 5, "expires": "500ms" } }),
            "apis.shop.limits.a.expires: `500ms` is not a time",
        ),
        (
            limits,
            json!({ "a": { "concurrency": 257, "expires": "60s" } }),
            "apis.shop.limits.a.concurrency: must be a whole number from 1 to 256",
        ),
        (
            limits,
            json!({ "a": { "rate": "unlimited" } }),
            "apis.shop.limits.a: limits nothing",
        ),
        (
            limits,
            json!({ "a": { "rate": "1/min", "per": "key" } }),
            "apis.shop.limits.a.per: must be one of: api, client, principal",
        ),
        (
            limits,
            json!({ "a": { "rate": "1/min", "action": "drop" } }),
            "apis.shop.limits.a.action: must be one of: refuse, tag",
        ),
        (
            limits,
            json!({ "tier": { "rate": "1/min" } }),
            "apis.shop.limits.tier: is the name of another limit",
        ),
        (
            "/apis/shop/routes/items/limits",
            json!(["tier", "checkout"]),
            "apis.shop.routes.items.limits[1]: must be one of",
        ),
        (
            "/apis/shop/routes/items/limits",
            json!(["tier", "tier"]),
            "apis.shop.routes.items.limits[1]: is named before",
        ),
        (
            "/apis/shop/rate_headers",
            json!({ "upstream": "add" }),
            "apis.shop.rate_headers.upstream: must be one of: merge, replace",
        ),
        (
            "/apis/shop/rate_headers",
            json!({ "add": ["x"] }),
            "apis.shop.rate_headers.add[0]: must be one of: ratelimit, wait",
        ),
        ("/share", json!({}), "share.replicas: is required"),
        (
            "/share",
            json!({ "replicas": 0 }),
            "share.replicas: must be a whole number from 1",
        ),
        (
            "/share",
            json!({ "ledger": { "cluster": "c" } }),
            "share.ledger: unknown field",
        ),
        (
            "/share",
            json!({ "replicas": 10_000 }),
            "apis.shop.tiers.metered.rate: can't be divided among 10000 replicas",
        ),
        (
            "/apis/shop/tiers/metered",
            json!({ "rate": "5/min", "mode": "observe" }),
            "apis.shop.tiers.metered.mode: must be one of: enforce, shadow",
        ),
        (
            "/apis/shop/tiers/metered",
            json!({ "rate": "5/min", "mode": "shadow", "rollout": "5%" }),
            "apis.shop.tiers.metered.rollout: belongs to mode: enforce",
        ),
        (
            "/apis/shop/routes/items/scope",
            json!({ "all": ["read"], "rollout": "5" }),
            "apis.shop.routes.items.scope.rollout: `5` is not a percentage",
        ),
        (
            "/apis/shop/routes/items/scope",
            json!({ "any": ["read"] }),
            "apis.shop.routes.items.scope.all: is required",
        ),
        (
            "/apis/shop/rollout",
            json!("5%"),
            "apis.shop.rollout: unknown field",
        ),
        (
            "/clients",
            json!({ "exempt": [], "mode": "shadow" }),
            "clients: mode and rollout belong to deny",
        ),
        ("/clients", json!({}), "clients: says nothing"),
        (
            "/clients",
            json!({ "exempt": ["10.0.0.1/8"] }),
            "clients.exempt[0]: must be a network",
        ),
    ] {
        let mut document = everything();
        let (parent, field) = place.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[field] = value;
        let text = serde_json::to_vec(&document).unwrap();
        let errors = Policy::parse(&text, "main").unwrap_err();
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(
            errors.iter().any(|found| found.starts_with(error)),
            "{error}: {errors:?}"
        );
    }
    for (route, error) in [
        (
            json!({ "match": "GET /p", "auth": "none", "limits": ["mine"] }),
            "apis.shop.routes.r.limits: a public route has no principal",
        ),
        (
            json!({ "match": "GET /p", "limits": ["mine"], "class": { "from": "body.m", "absent": "a", "costs": { "a": 9 } } }),
            "apis.shop.routes.r.class.costs.a: `a` costs more than the burst of the limit `mine`",
        ),
        (
            json!({ "match": "GET /p", "limits": ["hint"], "fields": { "a": { "type": "string" } } }),
            "apis.shop.routes.r: with `pause: body` the headers are gone before a limit can tag them",
        ),
    ] {
        let mut document = everything();
        document["pause"] = json!("body");
        document["apis"]["shop"]["limits"] = json!({
            "mine": { "rate": "5/min" },
            "hint": { "rate": "5/min", "action": "tag" },
        });
        document["apis"]["shop"]["routes"]["r"] = route;
        let text = serde_json::to_vec(&document).unwrap();
        let errors = Policy::parse(&text, "main").unwrap_err();
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(
            errors.iter().any(|found| found.starts_with(error)),
            "{error}: {errors:?}"
        );
    }
}
