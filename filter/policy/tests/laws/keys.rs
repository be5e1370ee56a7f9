//! Where keys come from.

use std::rc::Rc;

use base64ct::{Base64, Encoding};
use portcullis_policy::{
    Adoption, BundleWriter, DigestScheme, KeyBundle, MapStore, Policy, Reason, Step,
};
use serde_json::{Value, json};

use crate::gate::{Ask, FULL, Gate, digest, edits, key, parse, upstream};

const MAX: usize = 1024 * 1024;

/// A bundle of the API `api`: each key with its record
pub(crate) fn bundle(revision: &str, generated_at: u64, keys: &[(&str, Value)]) -> Vec<u8> {
    let mut writer = BundleWriter::new("api", revision, generated_at, DigestScheme::Plain).unwrap();
    for (token, record) in keys {
        let record = serde_json::to_vec(record).unwrap();
        writer.add(&digest(token), record).unwrap();
    }
    writer.finish().unwrap()
}

/// A bundle of one key in the form that a policy brings along
pub(crate) fn seed(api: &str, tier: &str) -> String {
    let mut writer = BundleWriter::new(api, "r1", 1, DigestScheme::Plain).unwrap();
    let record = json!({ "id": "k2", "principal": "acme", "tier": tier });
    writer
        .add(&digest("seed"), serde_json::to_vec(&record).unwrap())
        .unwrap();
    Base64::encode_string(&writer.finish().unwrap())
}

fn record(id: &str, tier: &str) -> Value {
    json!({ "id": id, "principal": id, "tier": tier, "scopes": ["read"] })
}

fn policy(keys: Value) -> Value {
    json!({
        "version": 1,
        "revoked": ["k-gone"],
        "apis": { "api": {
            "hosts": ["api.example"],
            "tiers": { "basic": { "rate": "unlimited" }, "gold": { "rate": "unlimited" } },
            "keys": keys,
            "routes": { "items": { "match": "GET /items", "scope": "read" }, "open": { "match": "GET /open", "auth": "none", "limits": [] } },
        } }
    })
}

fn adopt(policy: &Policy, bytes: &[u8]) -> KeyBundle {
    let mut adoption = Adoption::new(policy, "api", MAX).unwrap();
    adoption.feed(bytes).unwrap();
    adoption.finish().unwrap()
}

/// Reason, key id and bundle of a request with a key
fn decided(gate: &mut Gate, token: &str) -> (Reason, Value, Value) {
    let ask = Ask::new("GET", "/items").key(token);
    let outcome = gate.ask(&ask, FULL, &mut MapStore::default());
    let mut record: Value = serde_json::from_str(&outcome.record.to_json()).unwrap();
    (
        outcome.record.reason,
        record["key"].take(),
        record["bundle"].take(),
    )
}

#[test]
fn a_key_of_the_policy_wins_and_revocation_beats_both() {
    let mut own = key("both", "basic");
    own["scopes"] = json!(["read"]);
    let seed = bundle(
        "r1",
        1,
        &[
            ("both", record("k-other", "gold")),
            ("seeded", record("k-seeded", "gold")),
            ("gone", record("k-gone", "gold")),
        ],
    );
    let mut gate = Gate::new(&policy(json!({
        "inline": [own],
        "bundle": { "seed": Base64::encode_string(&seed) },
    })));
    for _ in 0..2 {
        assert_eq!(
            decided(&mut gate, "both"),
            (Reason::Allowed, json!("k-both"), Value::Null)
        );
        assert_eq!(
            decided(&mut gate, "seeded"),
            (Reason::Allowed, json!("k-seeded"), json!("r1"))
        );
        assert_eq!(decided(&mut gate, "gone").0, Reason::KeyRevoked);
        assert_eq!(decided(&mut gate, "none").0, Reason::KeyUnknown);
    }
}

#[test]
fn a_bundle_replaces_the_one_before_and_an_older_seed() {
    let seed = |revision, at| {
        let bytes = bundle(revision, at, &[("seeded", record("k-seeded", "gold"))]);
        policy(json!({ "bundle": { "seed": Base64::encode_string(&bytes) } }))
    };
    let mut gate = Gate::new(&seed("r1", 10));
    for (revision, token) in [("r2", "first"), ("r3", "second")] {
        let bytes = bundle(revision, 20, &[(token, record(token, "gold"))]);
        gate.engine.adopt(adopt(&gate.policy, &bytes));
        assert_eq!(
            decided(&mut gate, token),
            (Reason::Allowed, json!(token), json!(revision))
        );
        assert_eq!(decided(&mut gate, "seeded").0, Reason::KeyUnknown);
        let in_force = gate.engine.bundle(&gate.policy, "api").unwrap();
        assert_eq!(in_force.revision(), revision);
    }
    assert_eq!(decided(&mut gate, "first").0, Reason::KeyUnknown);
    gate.policy = Rc::new(parse(&seed("r4", 30)));
    assert_eq!(decided(&mut gate, "second").0, Reason::KeyUnknown);
    assert_eq!(decided(&mut gate, "seeded").2, json!("r4"));
}

/// A key is never what it was by another policy
#[test]
fn the_policy_in_force_reads_the_records() {
    let bytes = bundle(
        "r1",
        1,
        &[("a", record("k-a", "gold")), ("b", record("k-b", "basic"))],
    );
    let mut gate = Gate::new(&policy(json!([])));
    gate.engine.adopt(adopt(&gate.policy, &bytes));
    assert_eq!(decided(&mut gate, "a").0, Reason::Allowed);
    let old = Rc::clone(&gate.policy);

    let mut next = policy(json!([]));
    next["revoked"] = json!(["k-b"]);
    next["apis"]["api"]["tiers"] = json!({ "basic": { "rate": "unlimited" } });
    gate.policy = Rc::new(parse(&next));
    assert_eq!(decided(&mut gate, "a").0, Reason::KeyUnknown);
    assert_eq!(decided(&mut gate, "b").0, Reason::KeyRevoked);
    // A request that began under the old policy ends under it.
    gate.policy = old;
    assert_eq!(decided(&mut gate, "a").0, Reason::Allowed);
    assert_eq!(decided(&mut gate, "b").0, Reason::Allowed);
}

#[test]
fn a_key_of_a_bundle_is_kept_from_the_upstream_of_an_open_route() {
    let mut gate = Gate::new(&policy(json!([])));
    let bytes = bundle("r1", 1, &[("ours", record("k-a", "gold"))]);
    gate.engine.adopt(adopt(&gate.policy, &bytes));
    for (token, is_stripped) in [("ours", true), ("theirs", false)] {
        let ask = Ask::new("GET", "/open").key(token);
        let outcome = gate.ask(&ask, FULL, &mut MapStore::default());
        let sent = upstream(&ask, edits(&outcome).unwrap());
        let reads = sent.iter().any(|(name, _)| name == b"authorization");
        assert_eq!(reads, !is_stripped, "{token}");
    }
}

#[test]
fn a_seed_that_is_none_refuses_the_policy() {
    let check = |seed: String, part: &str| {
        let document = policy(json!({ "bundle": { "seed": seed } }));
        let errors = Policy::parse(&serde_json::to_vec(&document).unwrap(), "main").unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(errors[0].path, "apis.api.keys.bundle.seed");
        assert!(errors[0].message.contains(part), "{}", errors[0]);
    };
    let good = bundle("r1", 1, &[("a", record("k-a", "gold"))]);
    check("no base64".into(), "base64");
    check(Base64::encode_string(&good[..400]), "cut short");
    check(
        Base64::encode_string(&good)
            .trim_end_matches('=')
            .to_owned()
            + "=====",
        "base64",
    );
    let bad = bundle("r1", 1, &[("a", record("k-a", "none"))]);
    check(
        Base64::encode_string(&bad),
        "records[0].tier: there is no such tier",
    );
}

/// The reason, and who spent
fn refused(document: &Value, ask: &Ask) -> Reason {
    Gate::new(document).reason(ask)
}

#[test]
fn a_key_is_good_in_its_networks_alone() {
    let mut near = key("near", "basic");
    near["scopes"] = json!("read");
    near["networks"] = json!(["198.51.100.0/24", "2001:db8::/32"]);
    let document = policy(json!([near]));
    let ask = |from: &str| {
        let client: std::net::IpAddr = from.parse().unwrap();
        Ask::new("GET", "/items").key("near").from(client)
    };
    for (from, reason) in [
        ("198.51.100.0", Reason::Allowed),
        ("198.51.100.255", Reason::Allowed),
        ("198.51.101.0", Reason::KeyNetworkDenied),
        ("2001:db8:ffff::1", Reason::Allowed),
        ("2001:db9::1", Reason::KeyNetworkDenied),
    ] {
        assert_eq!(refused(&document, &ask(from)), reason, "{from}");
    }
    let mut nowhere = ask("198.51.100.1");
    nowhere.client = None;
    assert_eq!(refused(&document, &nowhere), Reason::KeyNetworkDenied);
    // Whoever has found a key learns nothing of its routes.
    let mut lost = ask("192.0.2.1");
    lost.headers[1].1 = b"/nowhere".into();
    assert_eq!(refused(&document, &lost), Reason::KeyNetworkDenied);
}

/// Who uses a key from elsewhere spends nothing of its principal's
#[test]
fn a_key_from_elsewhere_spends_its_clients_bucket() {
    let mut near = key("near", "basic");
    near["scopes"] = json!("read");
    near["networks"] = json!("198.51.100.0/24");
    let mut document = policy(json!([near]));
    document["apis"]["api"]["tiers"]["basic"] = json!({ "rate": "3/min" });
    document["unauthenticated"] = json!({ "rate": "2/min" });
    let mut gate = Gate::new(&document);
    let mut store = MapStore::default();
    let mut reason = |from: [u8; 4]| {
        let ask = Ask::new("GET", "/items").key("near").from(from);
        gate.ask(&ask, FULL, &mut store).record.reason
    };
    let elsewhere = [203, 0, 113, 9];
    assert_eq!(
        [(); 4].map(|()| reason(elsewhere)),
        [
            Reason::KeyNetworkDenied,
            Reason::KeyNetworkDenied,
            Reason::UnauthenticatedLimited,
            Reason::UnauthenticatedLimited,
        ]
    );
    let here = [198, 51, 100, 7];
    assert_eq!(
        [(); 4].map(|()| reason(here)),
        [
            Reason::Allowed,
            Reason::Allowed,
            Reason::Allowed,
            Reason::RateLimited
        ]
    );
}

fn anonymous() -> Value {
    let mut document = policy(json!([]));
    let api = &mut document["apis"]["api"];
    api["tiers"]["free"] = json!({ "rate": "2/min" });
    api["anonymous"] = "free".into();
    api["routes"]["news"] = json!({ "match": "GET /news", "auth": "optional" });
    api["routes"]["search"] = json!({
        "match": "POST /search",
        "auth": "optional",
        "fields": { "q": { "type": "string", "required": true } },
    });
    document
}

#[test]
fn callers_without_a_key_have_an_account_by_address() {
    let mut gate = Gate::new(&anonymous());
    let mut store = MapStore::default();
    let mut reason = |ask: Ask, from: [u8; 4]| {
        let outcome = gate.ask(&ask.from(from), FULL, &mut store);
        let record: Value = serde_json::from_str(&outcome.record.to_json()).unwrap();
        (outcome.record.reason, record["tier"].clone())
    };
    let news = || Ask::new("GET", "/news");
    let search = || Ask::new("POST", "/search").json(&json!({ "q": "x" }));
    let (one, other) = ([192, 0, 2, 1], [192, 0, 2, 2]);
    let free = || json!("free");
    assert_eq!(reason(news(), one), (Reason::Allowed, free()));
    assert_eq!(reason(search(), one), (Reason::Allowed, free()));
    assert_eq!(reason(news(), one), (Reason::RateLimited, free()));
    assert_eq!(reason(search(), one), (Reason::RateLimited, free()));
    assert_eq!(reason(search(), other), (Reason::Allowed, free()));
    // What their addresses spend without a key elsewhere is another bucket.
    assert_eq!(
        reason(Ask::new("GET", "/items"), one).0,
        Reason::CredentialMissing
    );
    assert_eq!(reason(news().key("wrong"), other).0, Reason::KeyUnknown);
    assert_eq!(
        reason(news().with("authorization", "Basic YTpi"), other).0,
        Reason::CredentialMalformed
    );
    let in_query = Ask::new("GET", "/news?access_token=x");
    assert_eq!(reason(in_query, other).0, Reason::CredentialMissing);
    assert_eq!(reason(news(), other), (Reason::Allowed, free()));
}

/// Nobody reads a body for which its client can't pay
#[test]
fn callers_without_a_key_are_refused_before_their_body() {
    let mut gate = Gate::new(&anonymous());
    let mut store = MapStore::default();
    let search = Ask::new("POST", "/search")
        .json(&json!({ "q": "x" }))
        .from([192, 0, 2, 1]);
    for _ in 0..2 {
        let step = gate.at_headers(&search, FULL, &mut store);
        assert!(matches!(step, Step::AwaitBody(_)), "{step:?}");
        let outcome = gate.ask(&search, FULL, &mut store);
        assert_eq!(outcome.record.reason, Reason::Allowed);
    }
    match gate.at_headers(&search, FULL, &mut store) {
        Step::Decided(outcome) => assert_eq!(outcome.record.reason, Reason::RateLimited),
        step => panic!("{step:?}"),
    }
}

#[test]
fn a_door_for_the_anonymous_is_opened_by_words_that_fit() {
    let check = |change: &dyn Fn(&mut Value), path: &str, part: &str| {
        let mut document = anonymous();
        change(&mut document["apis"]["api"]);
        let errors = Policy::parse(&serde_json::to_vec(&document).unwrap(), "main").unwrap_err();
        let found = |error: &&portcullis_policy::ConfigError| {
            error.path == format!("apis.api.{path}") && error.message.contains(part)
        };
        assert!(errors.iter().any(|error| found(&error)), "{errors:?}");
    };
    check(
        &|api| api["anonymous"] = "gold".into(),
        "anonymous",
        "unlimited",
    );
    check(
        &|api| api["anonymous"] = "none".into(),
        "anonymous",
        "no such tier",
    );
    check(
        &|api| drop(api.as_object_mut().unwrap().remove("anonymous")),
        "routes.news.auth",
        "write `anonymous`",
    );
    check(
        &|api| api["routes"]["news"]["scope"] = "read".into(),
        "routes.news",
        "no scope",
    );
    for (field, value) in [
        ("domain", "query.site"),
        ("grants", "query.site"),
        ("revokes", "query.site"),
    ] {
        check(
            &|api| {
                api["domain_access"] = json!({ "unknown": "refuse" });
                api["routes"]["news"][field] = value.into();
            },
            "routes.news",
            "no domains",
        );
    }
    check(
        &|api| api["routes"]["news"]["limits"] = json!([]),
        "routes.news.limits",
        "write [tier]",
    );
    check(
        &|api| {
            api["keys"] = json!([{ "id": "k", "principal": "anonymous", "tier": "gold", "sha256": digest("k") }])
        },
        "keys[0].principal",
        "callers without a key",
    );
}

#[test]
fn an_exception_lasts_until_its_instant() {
    let mut acme = key("acme", "basic");
    acme["scopes"] = json!("read");
    let mut globex = key("globex", "basic");
    globex["scopes"] = json!("read");
    let mut document = policy(json!([acme, globex]));
    document["exceptions"] = json!([
        { "principal": "acme", "tier": "gold", "until": "2027-01-15T08:00:00Z", "reason": "INC-4711" },
    ]);
    let mut gate = Gate::new(&document);
    let mut at = |wall: u64, token: &str| {
        let moment = portcullis_policy::Moment {
            wall: wall * 1_000_000_000,
            ..FULL
        };
        let ask = Ask::new("GET", "/items").key(token);
        let outcome = gate.ask(&ask, moment, &mut MapStore::default());
        let record: Value = serde_json::from_str(&outcome.record.to_json()).unwrap();
        (record["tier"].clone(), record["exception"].clone())
    };
    // 2027-01-15T08:00:00Z
    let until = 1_800_000_000;
    assert_eq!(at(until - 1, "acme"), (json!("gold"), json!("INC-4711")));
    assert_eq!(at(until - 1, "globex"), (json!("basic"), Value::Null));
    assert_eq!(at(until, "acme"), (json!("basic"), Value::Null));
    // A clock that can't be right.
    assert_eq!(at(1_000_000_000, "acme"), (json!("basic"), Value::Null));
    document["exceptions"][0]["tier"] = "none".into();
    let errors = Policy::parse(&serde_json::to_vec(&document).unwrap(), "main").unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "exceptions[0]: no API has the tier `none`"
    );
}

#[test]
fn a_mistyped_key_of_our_form_is_refused_by_its_checksum() {
    let mut byte = 0u8;
    let mut random = || {
        byte = byte.wrapping_mul(5).wrapping_add(7);
        byte
    };
    let good = portcullis_policy::new_key("api", &mut random).unwrap();
    let mistyped = good.replace("pck_api", "pck_apl");
    let keys = ["legacy", &*good].map(|token| {
        json!({ "id": token, "principal": "p", "tier": "gold", "scopes": "read", "sha256": digest(token) })
    });
    for (format, reason) in [
        ("portcullis", Reason::KeyMalformed),
        ("any", Reason::KeyUnknown),
    ] {
        let mut gate = Gate::new(&policy(json!({ "format": format, "inline": keys })));
        assert_eq!(decided(&mut gate, &good).0, Reason::Allowed);
        assert_eq!(decided(&mut gate, "legacy").0, Reason::Allowed);
        assert_eq!(decided(&mut gate, "other").0, Reason::KeyUnknown);
        assert_eq!(decided(&mut gate, &mistyped).0, reason);
    }
}

#[test]
fn two_peppers_hold_while_one_takes_over() {
    const SECRETS: [&str; 2] = ["the pepper of this year", "the pepper of the last one"];
    let variable = |name: &str| match name {
        "NEW" => Some(SECRETS[0].to_owned()),
        "OLD" => Some(SECRETS[1].to_owned()),
        "SHORT" => Some("fifteen bytes!!".to_owned()),
        _ => None,
    };
    let keys = SECRETS.map(|secret| {
        let digest = portcullis_policy::key_digest(b"secret", Some(secret.as_bytes())).unwrap();
        json!({ "id": secret.replace(' ', "-"), "principal": "p", "tier": "gold", "scopes": "read", "hmac_sha256": digest })
    });
    let parse = |env: Value, keys: &[Value]| {
        let document = policy(json!({ "pepper": { "env": env }, "inline": keys }));
        Policy::parse_with(&serde_json::to_vec(&document).unwrap(), "main", &variable)
    };
    for (env, key, reason) in [
        (json!("NEW"), 0, Reason::Allowed),
        (json!("NEW"), 1, Reason::KeyUnknown),
        (json!(["NEW", "OLD"]), 0, Reason::Allowed),
        (json!(["NEW", "OLD"]), 1, Reason::Allowed),
        (json!("OLD"), 0, Reason::KeyUnknown),
    ] {
        let mut gate = Gate::new(&policy(json!([])));
        gate.policy = Rc::new(parse(env.clone(), &keys[key..=key]).unwrap());
        assert_eq!(decided(&mut gate, "secret").0, reason, "{env} {key}");
    }
    let check = |env: Value, keys: &[Value], line: &str| {
        let errors = parse(env, keys).unwrap_err();
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert!(lines.iter().any(|l| l.starts_with(line)), "{lines:?}");
        assert!(!lines.concat().contains("fifteen"), "{lines:?}");
    };
    let pepper = "apis.api.keys.pepper";
    check(
        json!("NONE"),
        &keys,
        &format!("{pepper}.env: the filter has no such variable"),
    );
    check(
        json!("SHORT"),
        &keys,
        &format!("{pepper}.env: the pepper has less than 16 bytes"),
    );
    check(
        json!(["NEW", "OLD", "NEW"]),
        &keys,
        &format!("{pepper}: names at most two"),
    );
    check(
        json!([]),
        &keys,
        &format!("{pepper}: must name at least one"),
    );
    check(
        json!("N W"),
        &keys,
        &format!("{pepper}.env: must be the name"),
    );
    let plain = json!({ "id": "k", "principal": "p", "tier": "gold", "sha256": digest("k") });
    check(
        json!("NEW"),
        &[plain],
        "apis.api.keys.inline[0].sha256: unknown field",
    );
}
