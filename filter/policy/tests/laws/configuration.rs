//! From a document to a policy.

use base64ct::{Base64, Encoding};
use portcullis_policy::{ConfigError, MapStore, Policy};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::gate::{Ask, FULL, Gate, digest, key};
use crate::wire;

/// A document with every field that there is
pub(crate) fn everything() -> Value {
    let mut dated = key("dated", "metered");
    dated["scopes"] = json!(["read", "write"]);
    dated["not_before"] = "2026-01-01T00:00:00Z".into();
    dated["expires"] = "2036-01-01T00:00:00Z".into();
    dated["state"] = "active".into();
    dated["networks"] = json!(["192.0.2.0/24"]);
    let mut quotas = key("quotas", "quotas");
    quotas["plan"] = "yearly".into();
    quotas["anchor"] = "2026-01-31T00:00:00Z".into();
    quotas["packs"] =
        json!([{ "id": "p1", "quota": "scans", "amount": 3, "expires": "2036-01-01T00:00:00Z" }]);
    let mut custom = key("custom", "custom");
    custom["quotas"] = json!({ "scans": 7, "reports": "unlimited" });
    custom["plan"] = "monthly".into();
    custom["period"] = json!({ "from": "2026-01-31T00:00:00Z", "to": "2026-02-28T00:00:00Z" });
    dated["domains"] = json!(["acme.example", "*.acme.example"]);
    json!({
        "version": 1,
        "revision": "r-7",
        "pause": "headers",
        "max_accounts": 1000,
        "quotas": { "store": "local" },
        "probes": { "ready": "/ready", "exempt": ["GET /healthz"] },
        "clients": {
            "deny": ["203.0.113.0/24", "2001:db8::/32"],
            "screen": { "block": ["malicious"], "tag": "suspicious", "stale": "forward", "unreadable": "refuse" },
        },
        "revoked": ["k-gone"],
        "exceptions": [{ "principal": "plain", "tier": "unlimited", "until": "2036-01-01T00:00:00Z", "reason": "INC-1" }],
        "unauthenticated": { "rate": "60/min", "burst": 30, "per": "client" },
        "apis": {
            "shop": {
                "hosts": ["shop.example", "www.shop.example:8443"],
                "dialect": "cybervault",
                "credential": "strip",
                "preflight": "forward",
                "unmatched": "refuse",
                "anonymous": "metered",
                "domain_access": {
                    "unknown": "ask", "subdomains": "include", "denied": 404, "keep": "7d",
                    "suffixes": ["paas.example"],
                    "list": {
                        "cluster": "shop", "path": "/api/domains", "as": "caller", "cache": "5min", "timeout": "1s",
                        "cache_misses": "5s", "authority": "shop.example", "unavailable": "forward",
                        "next": "/meta/next", "cursor": "query.after",
                    },
                },
                "tiers": {
                    "metered": { "rate": "1000/min", "burst": 50, "queue": { "max_wait": "2s" },
                        "quotas": { "scans": 5 } },
                    "unlimited": { "rate": "unlimited", "quotas": { "scans": "unlimited" } },
                    "quotas": { "rate": "unlimited", "quotas": { "scans": 0, "reports": 5 } },
                    "custom": { "rate": "unlimited", "quotas": "from_key" },
                },
                "keys": [dated, key("gone", "unlimited"), key("plain", "metered"), quotas, custom],
                "routes": {
                    "items": { "match": ["GET /items", "GET /items/{id}"], "scope": "read", "limits": ["tier"] },
                    "files": { "match": "ANY /files/{path:encoded}/**", "upgrade": ["websocket"], "auth": "key" },
                    "list": {
                        "match": "GET /list",
                        "page": { "per_page": 50, "max": 100, "sort_by": ["name", "size"] },
                        "query": {
                            "view": { "one_of": ["short", "full"], "tiers": { "full": ["unlimited"] } },
                            "since": { "type": "integer", "min": -5, "max": 100, "required": false },
                        },
                    },
                    "fetch": {
                        "match": "POST /fetch",
                        "screen": {
                            "source": { "of": "body.sources.url", "block": "malicious", "tag": ["unknown"] },
                            "next": { "of": "query.next", "block": ["internal"], "stale": "refuse", "unreadable": "forward" },
                            "referer": { "of": "header.referer", "tag": ["invalid", "benign"] },
                            "me": { "of": "client", "block": "suspicious" },
                        },
                    },
                    "log": { "match": "GET /log", "page": { "cursor": "query.cursor", "max_length": 64 } },
                    "scan": {
                        "match": "POST /scan",
                        "spend": "scans",
                        "idempotency": { "upstream": "deduplicates", "ttl": "24h", "header": "x-key" },
                        "fields": {
                            "targets": {
                                "type": "array", "required": true, "each": ["cidr", "address", "domain", "arn"],
                                "min_items": 1, "max_items": 20, "max_addresses": 4096, "private_ranges": "refuse",
                            },
                            "profile": { "one_of": ["light", "hard"], "tiers": { "hard": "unlimited" } },
                            "host": { "type": "string", "format": "domain", "private_ranges": "allow" },
                            "token": { "type": "opaque", "max_length": 20 },
                            "urgent": { "type": "boolean" },
                        },
                    },
                    "news": { "match": "GET /news", "auth": "optional", "limits": ["tier"] },
                    "site": { "match": "GET /sites/{domain}", "domain": "path.domain" },
                    "adopt": { "match": "POST /sites", "grants": "body.site" },
                    "drop": { "match": "DELETE /sites", "revokes": "query.site" },
                    "hook": { "match": "POST /hook", "auth": "none", "limits": ["unauthenticated"] },
                    "analyze": {
                        "match": "POST /analyze",
                        "body": { "max": "16KiB", "larger": "refuse" },
                        "class": { "from": "body.mode", "absent": "quick", "costs": { "quick": 1, "deep": 5 } },
                        "fields": {
                            "target": { "type": "string", "required": true, "max_length": 100 },
                            "metadata": { "type": "object", "required": false },
                        },
                        "verdict": { "of": "body.target", "when": ["quick"], "on_unknown": "answer" },
                        "annotate": "headers",
                    },
                },
            },
            "other": {
                "hosts": ["*"],
                "tiers": { "free": { "rate": "5/60s" } },
                "keys": {
                    "format": "portcullis",
                    "inline": [{ "id": "k1", "principal": "acme", "tier": "free", "sha256": digest("acme") }],
                    "bundle": { "seed": crate::keys::seed("other", "free") },
                },
                "routes": {},
            },
        },
        "record": {
            "access_log": "all",
            "metrics": "all",
            "target": "hash",
            "client": "prefix",
            "sample": { "allowed": "1%", "refused": "100%" },
        },
        "explain": { "header": "x-portcullis-explain", "keys": ["k-plain"] },
        "threat": {
            "model": "quick/2",
            "reveal": "source",
            "licences": ["CC0-1.0"],
            "bundle": { "cluster": "feeds", "path": "/threat.bundle", "authority": "feeds.example", "refresh": "30s",
                "max_age": "6h", "max_bytes": 100_000, "timeout": "2s",
                "seed": Base64::encode_string(&crate::feeds::bundle(1_793_491_200, 3_976_300_000)) },
            "indicators": {
            "urls": [{ "value": "http://evil.example/x", "category": "malware" }],
            "domains": ["evil.example"],
            "networks": ["198.51.100.0/24", { "value": "192.0.2.7" }],
            "hashes": ["275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f"],
        } },
    })
}

/// One change to a document
#[derive(Clone, Debug)]
enum Mutation {
    Replace(Value),
    Remove,
    Insert(String, Value),
}

fn words() -> impl Strategy<Value = String> {
    let known = vec![
        "version",
        "rate",
        "match",
        "GET /items",
        "GET /items/{id}",
        "POST /**",
        "unlimited",
        "metered",
        "free",
        "quick",
        "body.target",
        "none",
        "key",
        "tier",
        "unauthenticated",
        "*",
        "shop.example",
        "k-plain",
        "read",
        "1/min",
        "7/s",
        "10.0.0.0/8",
        "2026-01-01T00:00:00Z",
        "64KiB",
        "integer",
        "opaque",
        "cidr",
        "query.cursor",
        "forward",
        "strip",
        "",
        "/",
        "websocket",
    ];
    prop_oneof![
        4 => proptest::sample::select(known).prop_map(String::from),
        1 => "[a-zA-Z0-9_/ {}:*-]{0,10}",
    ]
}

/// Keys, which stand in an error's path
fn keys() -> impl Strategy<Value = String> {
    words()
        .prop_map(|word| word.replace(['.', '['], ""))
        .prop_filter("a name", |key| !key.is_empty())
}

/// Values of all kinds; numbers as a `Struct` can hold them
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => (0..100i64).prop_map(Value::from),
        1 => (-9_007_199_254_740_991..9_007_199_254_740_991i64).prop_map(Value::from),
        3 => words().prop_map(Value::from),
        1 => Just(Value::from(digest("another"))),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(keys(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn mutations() -> impl Strategy<Value = Vec<(usize, Mutation)>> {
    let mutation = prop_oneof![
        3 => values().prop_map(Mutation::Replace),
        1 => Just(Mutation::Remove),
        2 => (keys(), values()).prop_map(|(key, value)| Mutation::Insert(key, value)),
    ];
    proptest::collection::vec((0..300usize, mutation), 0..4)
}

/// How many values there are in a document
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// Changes the `at`-th value, counted from the root
fn mutate(value: &mut Value, at: &mut usize, mutation: &Mutation) {
    if *at == 0 {
        match (mutation, &mut *value) {
            (Mutation::Replace(new), _) => *value = new.clone(),
            (Mutation::Insert(key, new), Value::Object(map)) => {
                drop(map.insert(key.clone(), new.clone()))
            }
            (Mutation::Insert(_, new), Value::Array(items)) => items.push(new.clone()),
            _ => {}
        }
        *at = usize::MAX;
        return;
    }
    if *at == usize::MAX {
        return;
    }
    *at -= 1;
    let remove = matches!(mutation, Mutation::Remove) && *at == 0;
    match value {
        Value::Array(items) if remove && !items.is_empty() => drop(items.remove(0)),
        Value::Array(items) => items.iter_mut().for_each(|item| mutate(item, at, mutation)),
        Value::Object(map) if remove => {
            let first = map.keys().next().cloned();
            if let Some(first) = first {
                map.remove(&first);
            }
        }
        Value::Object(map) => map.values_mut().for_each(|item| mutate(item, at, mutation)),
        _ => return,
    }
    if remove {
        *at = usize::MAX;
    }
}

fn mutated(mutations: &[(usize, Mutation)]) -> Value {
    let mut document = everything();
    for (at, mutation) in mutations {
        let mut at = at % count(&document);
        mutate(&mut document, &mut at, mutation);
    }
    document
}

/// What a policy is and does, as lines in no order (a hash map's order is nobody's business)
fn likeness(policy: &Policy) -> Vec<String> {
    let shown = format!("{policy:#?}");
    let mut lines: Vec<String> = shown.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Whether a path leads somewhere in a document, or to a field that is missing there
fn leads_somewhere(document: &Value, path: &str) -> bool {
    let path = path.replace('[', ".[");
    let steps: Vec<_> = path.split('.').collect();
    let mut here = Some(document);
    for (index, step) in steps.iter().enumerate() {
        let Some(value) = here else {
            return false;
        };
        let next = match step
            .strip_prefix('[')
            .and_then(|step| step.strip_suffix(']'))
        {
            Some(item) => value.get(item.parse::<usize>().unwrap()),
            None => value.get(step),
        };
        if next.is_none() {
            return index + 1 == steps.len() && (value.is_object() || value.is_string());
        }
        here = next;
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: u32::MAX, ..ProptestConfig::with_cases(1_000) })]

    /// A document gives the same policy, or the same errors, as JSON text and as a `Struct`, its keys
    /// in any order
    #[test]
    fn json_and_struct_give_the_same_policy(mutations in mutations(), seeds: (u64, u64, u64)) {
        let document = mutated(&mutations);
        // No bytes at all are neither form.
        prop_assume!(document.as_object().is_some_and(|map| !map.is_empty()));
        let plain = Policy::parse(&serde_json::to_vec(&document).unwrap(), "main");
        let text = Policy::parse(wire::json(&document, seeds.0).as_bytes(), "main");
        let one = Policy::parse(&wire::structure(&document, seeds.1), "main");
        let other = Policy::parse(&wire::structure(&document, seeds.2), "main");
        for same in [text, one, other] {
            match (&plain, &same) {
                (Ok(plain), Ok(same)) => {
                    prop_assert_eq!(plain.summary(), same.summary());
                    prop_assert_eq!(likeness(plain), likeness(same));
                }
                // A key that comes twice, in whatever case: JSON says in which line, a Struct has none.
                (Err(plain), Err(same)) if plain[0].path.is_empty() => {
                    prop_assert!(same[0].path.is_empty(), "{:?}", same);
                }
                (Err(plain), Err(same)) => prop_assert_eq!(plain, same),
                _ => prop_assert!(false, "{:?} {:?}", plain.is_ok(), same.err()),
            }
        }
    }

    /// A document that was tampered with never panics; every error says where, in words for people
    #[test]
    fn every_error_has_a_place(mutations in mutations()) {
        let document = mutated(&mutations);
        let Err(errors) = Policy::parse(&serde_json::to_vec(&document).unwrap(), "main") else {
            return Ok(());
        };
        prop_assert!(!errors.is_empty() && errors.is_sorted());
        for error in errors {
            let ConfigError { path, message } = &error;
            prop_assert_eq!(document.is_object(), !path.is_empty(), "{}", error);
            prop_assert!(path.is_empty() || leads_somewhere(&document, path), "{}", error);
            prop_assert!(!message.is_empty() && !message.ends_with('.'), "{}", error);
            prop_assert!(!error.to_string().contains(char::is_control), "{:?}", error);
        }
    }

    /// No bytes whatever make the parser panic, be they text or not
    #[test]
    fn no_bytes_make_a_policy_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6),
        cut: usize,
        binary: bool,
    ) {
        prop_assert!(Policy::parse(&bytes, "main").is_err());
        let mut document = if binary {
            wire::structure(&everything(), 1)
        } else {
            wire::json(&everything(), 1).into_bytes()
        };
        for (at, flip) in flips {
            let at = at % document.len();
            document[at] ^= flip;
        }
        let _: Result<Policy, Vec<ConfigError>> = Policy::parse(&document, "main");
        let part = &document[..cut % document.len()];
        prop_assert!(Policy::parse(part, "main").is_err());
    }

    /// A key that comes twice in one map is refused, in whatever case it comes
    #[test]
    fn a_key_that_comes_twice_is_refused(at in 0..300usize, capitals: bool, first: bool) {
        let document = everything();
        let text = wire::json(&document, 1);
        // Every place where a key stands.
        let keys: Vec<_> = text.match_indices("\": ").map(|(end, _)| end).collect();
        let end = keys[at % keys.len()];
        let start = text[..end].rfind('"').unwrap();
        let name = &text[start + 1..end];
        let again = if capitals { name.to_uppercase() } else { name.to_owned() };
        let at = if first { start } else { text[..start].rfind('{').unwrap() + 1 };
        let depth_of = |at: usize| {
            text[..at].chars().fold(0i32, |depth, c| depth + i32::from("{[".contains(c)) - i32::from("}]".contains(c)))
        };
        prop_assume!(depth_of(at) == depth_of(start));
        let twice = format!("{}\"{again}\": null, {}", &text[..at], &text[at..]);
        let errors = Policy::parse(twice.as_bytes(), "main").unwrap_err();
        prop_assert!(errors[0].message.contains("appears twice"), "{}", errors[0]);
    }
}

/// The base of all that is above is valid, and behaves
#[test]
fn the_whole_document_is_a_policy() {
    let mut gate = Gate::new(&everything());
    for (method, path, word) in [
        ("GET", "/items/7", "allowed"),
        ("GET", "/nothing", "route_unknown"),
        ("PUT", "/items", "method_not_allowed"),
    ] {
        let mut ask = Ask::new(method, path).key("dated");
        ask.headers.retain(|(name, _)| name != b":authority");
        let outcome = gate.ask(
            &ask.with(":authority", "shop.example"),
            FULL,
            &mut MapStore::default(),
        );
        assert_eq!(outcome.record.reason.word(), word);
    }
}
